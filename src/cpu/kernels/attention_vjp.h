/* scaled_dot_product_attention's gradients: the call, and the contract of its kernels.
 *
 * Three independent passes, each a number of tasks that may run in any order on any threads:
 *
 *   main    dq, dk, dv      tasks of attention_vjp_layout; they share layout.shared_bytes, whose first zeroed_bytes are 0
 *   mask    dmask           invar_attention_vjp_mask_tasks
 *   sinks   dsinks          one task a query head
 *
 * A task takes scratch of layout.slot_bytes, 64-byte aligned, contents undefined. A gradient whose data is NULL is absent
 * or has no elements, and is not written. Keys beyond kv_lengths are never read; their dk and dv are 0. The arithmetic is
 * that of docs/invariance.md, "Attention, backward". */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_H

#include "cpu/kernels/attention.h"

typedef struct invar_attention_vjp_call {
    invar_attention_call forward; /* with out and lse, which are inputs here */
    invar_attention_operand dout, dlse;
    invar_attention_operand dq, dk, dv;
    invar_attention_operand dsinks; /* (query_heads) along head_stride */
    invar_attention_operand dmask;  /* as mask, with stride 0 along the axes that are summed over */

    /* dmask's sizes along (batch…, head, query, key): the call's, or 1 where it is broadcast. */
    int64_t mask_batch_shape[INVAR_ATTENTION_BATCH_DIMS];
    int64_t mask_batch, mask_heads, mask_queries, mask_keys;

    int threads;  /* that may run tasks at once; it moves how the main pass is divided, and no bit of its results */
    char *shared; /* the main pass's memory */
} invar_attention_vjp_call;

/* True of a row whose weights cannot be formed again from its lse: one that sees no key, or whose keys a finite number hides all, so
 * far below 0 that what lse and a logit are rounded by would be factors of their own in weights, up to infinity. bfloat16 masks may
 * come into the forward's logits by way of 1 / scale, which is rounded by some 2^-18. */
static inline bool invar_attention_vjp_is_blind(const invar_attention_call *forward, double lse) {
    return lse < (forward->type == INVAR_F64 ? -0x1p53 : forward->type == INVAR_BF16 ? -0x1p17 : -0x1p24);
}

typedef struct invar_attention_vjp_layout {
    int64_t tasks;         /* of the main pass */
    size_t zeroed_bytes;   /* at the start of the shared memory */
    size_t shared_bytes;
    size_t slot_bytes;     /* enough for a task of any pass */
    int32_t query_tile, key_block;
} invar_attention_vjp_layout;

/* How the main pass divides this call. A pure function of the call's sizes, types and threads. */
typedef void invar_attention_vjp_planner(const invar_attention_vjp_call *call, invar_attention_vjp_layout *layout);

/* One task of a pass. */
typedef void invar_attention_vjp_kernel(const invar_attention_vjp_call *call, int64_t task, void *scratch);

/* The rows of dmask that one task of the mask pass makes, and those it is summed over. */
typedef struct invar_attention_vjp_mask_part {
    int64_t batch_offset;             /* in bytes, of the batches that are summed */
    int64_t head_first, head_last;    /* query heads that are summed */
    int64_t query_first, query_last;  /* queries: summed over where mask_queries is 1, otherwise rows of dmask */
} invar_attention_vjp_mask_part;

enum { INVAR_ATTENTION_VJP_MASK_ROWS = 48 };

static inline int64_t invar_attention_vjp_mask_tasks(const invar_attention_vjp_call *call) {
    int64_t rows = (call->mask_queries + INVAR_ATTENTION_VJP_MASK_ROWS - 1) / INVAR_ATTENTION_VJP_MASK_ROWS;
    return call->dmask.data ? call->mask_batch * call->mask_heads * rows : 0;
}

static inline invar_attention_vjp_mask_part invar_attention_vjp_mask_part_of(const invar_attention_vjp_call *call,
                                                                             int64_t task) {
    const invar_attention_call *forward = &call->forward;
    int64_t rows = (call->mask_queries + INVAR_ATTENTION_VJP_MASK_ROWS - 1) / INVAR_ATTENTION_VJP_MASK_ROWS;
    int64_t first = task % rows * INVAR_ATTENTION_VJP_MASK_ROWS, last = first + INVAR_ATTENTION_VJP_MASK_ROWS;
    invar_attention_vjp_mask_part part = { 0, 0, forward->query_heads, 0, forward->query_len };
    if (call->mask_queries == forward->query_len) {
        part.query_first = first;
        part.query_last = last < forward->query_len ? last : forward->query_len;
    }
    task /= rows;
    if (call->mask_heads == forward->query_heads) {
        part.head_first = task % call->mask_heads;
        part.head_last = part.head_first + 1;
    }
    task /= call->mask_heads;
    for (int d = forward->batch_ndim - 1; d >= 0; d--) {
        part.batch_offset += task % call->mask_batch_shape[d] * call->dmask.batch_stride[d];
        task /= call->mask_batch_shape[d];
    }
    return part;
}

#endif
