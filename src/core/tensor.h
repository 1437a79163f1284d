/* Checked views: what the API makes of the caller's tensors before anything is planned. */
#ifndef INVAR_CORE_TENSOR_H
#define INVAR_CORE_TENSOR_H

#include "core/dtype.h"
#include "core/status.h"

enum { INVAR_MAX_DIMS = 8 };

/* A tensor with strides filled in and byte_offset applied. A dimension of size 1 has stride 0, so that equal layouts
 * compare equal. data is NULL where the tensor is absent or has no elements. */
typedef struct invar_view {
    char *data;
    invar_device device;
    invar_dtype dtype;
    invar_float_type type; /* meaningful when dtype is a floating type */
    int ndim;
    int64_t shape[INVAR_MAX_DIMS];
    int64_t stride[INVAR_MAX_DIMS]; /* in elements */
    int64_t count;                  /* elements */
} invar_view;

/* Checks pointer, rank, sizes (no negative one, at most 2^50 elements within 63 bits of bytes), alignment and device, and fills
 * view. *device: where the call's other tensors are; {0}: it is the first, the CPU or a CUDA device, and decides. operation and
 * argument name the culprit in the sentence. */
invar_status invar_view_init_on(invar_device *device, invar_view *view, const invar_tensor *tensor, const char *operation,
                                const char *argument);
/* The same for a tensor that must be one of the floating types. */
invar_status invar_view_init_float_on(invar_device *device, invar_view *view, const invar_tensor *tensor,
                                      const char *operation, const char *argument);

/* Same shape, or a sentence. */
invar_status invar_view_expect_shape(const invar_view *view, int ndim, const int64_t *shape, const char *operation,
                                     const char *argument);

/* Exactly this dtype, or a sentence. */
invar_status invar_view_expect_type(const invar_view *view, invar_float_type type, const char *operation,
                                    const char *argument);

/* True when a and b are the same bytes in the same order: the aliasing that norms and rope allow. */
bool invar_view_identical(const invar_view *a, const invar_view *b);

/* True when the byte ranges the two views span meet. Two interleaved views that share no byte count as overlapping
 * only if their ranges do: a caller who interleaves an output with an input is refused, not served wrongly. */
bool invar_view_overlaps(const invar_view *a, const invar_view *b);

/* True when two indices of the view address one element (a zero stride, say): no output may. */
bool invar_view_self_overlaps(const invar_view *view);

/* Refuses an output that overlaps itself or any of the inputs; NULL, the output itself and views without elements among them are
 * skipped. The input may_alias (NULL: none) is allowed when identical; alias tells the caller whose memory may be given, as in
 * "x's". */
invar_status invar_check_output(const invar_view *output, const invar_view *const *inputs, int input_count,
                                const invar_view *may_alias, const char *alias, const char *operation, const char *argument);

/* "(2, 8, 512)" into text, which holds at least 200 bytes. Returns text. */
char *invar_shape_text(char *text, int ndim, const int64_t *shape);
enum { INVAR_SHAPE_TEXT = 200 };

/* Element i of an integer view of any width, sign-extended; unsigned 64-bit values above INT64_MAX wrap. */
int64_t invar_load_integer(const invar_view *view, int64_t element_offset);

/* The offset in elements of row `row`, counting over the first `ndim` dimensions in row-major order. */
static inline int64_t invar_view_row_offset(const invar_view *view, int ndim, int64_t row) {
    int64_t offset = 0;
    for (int d = ndim - 1; d >= 0; d--) {
        offset += row % view->shape[d] * view->stride[d];
        row /= view->shape[d];
    }
    return offset;
}

static inline size_t invar_view_item_size(const invar_view *view) { return view->dtype.bits / 8u; }

#endif
