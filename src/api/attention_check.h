/* Checks that the forward and the backward call of scaled_dot_product_attention share. */
#ifndef INVAR_API_ATTENTION_CHECK_H
#define INVAR_API_ATTENTION_CHECK_H

#include "cpu/kernels/attention.h"

/* The views a call was made from, kept for the checks that follow: overlaps, shapes of gradients. */
typedef struct invar_attention_views {
    invar_device device; /* of every tensor of the call */
    invar_view q, k, v, mask, sinks, kv_lengths; /* mask broadcast to (…, Hq, Tq, Tkv); absent ones have data NULL, ndim 0 */
    const invar_tensor *mask_tensor, *sinks_tensor, *kv_lengths_tensor; /* NULL: absent */
} invar_attention_views;

/* Checks every input and option and fills all of call but out and lse. mask, sinks and kv_lengths may be NULL. On a CUDA device
 * nothing is read: what kv_lengths holds is for the kernels to clamp. */
invar_status invar_attention_check(invar_attention_call *call, invar_attention_views *views, const char *operation,
                                   const invar_tensor *q, const invar_tensor *k, const invar_tensor *v,
                                   const invar_tensor *mask, const invar_tensor *sinks, const invar_tensor *kv_lengths,
                                   const invar_attention_options *options);

/* Checks a tensor laid out like q with `columns` features (out, dout, dq): shape (…, Hq, Tq, columns), any floating type,
 * and fills view and operand. */
invar_status invar_attention_check_rows(const invar_attention_views *views, invar_attention_operand *operand,
                                        invar_view *view, const invar_tensor *tensor, int64_t columns, const char *operation,
                                        const char *argument);

/* The same for lse and its gradient: shape (…, Hq, Tq), float32, or float64 where the call's type is. */
invar_status invar_attention_check_lse(const invar_attention_call *call, const invar_attention_views *views,
                                       invar_attention_operand *operand, invar_view *view, const invar_tensor *tensor,
                                       const char *operation, const char *argument);

/* A view of (…, head, row, column), rank 2 to 8, as an operand; rank 2 has no head, rank 3 no batch. */
invar_attention_operand invar_attention_operand_of(const invar_view *view);

/* The work of the call as docs/performance.md counts it: 2·(Dk + Dv) FLOPs for each query and each key that position rules
 * leave it. */
double invar_attention_flops(const invar_attention_call *call);
/* q, k, v and out once each. */
double invar_attention_bytes(const invar_attention_call *call);
/* invar_plan's arithmetic. */
const char *invar_attention_arithmetic(const invar_attention_call *call);

#endif
