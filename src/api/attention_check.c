/* Checks that the forward and the backward call of scaled_dot_product_attention share: shapes, types, options, and what
 * the kernels need of them. */
#include "api/attention_check.h"
#include "core/threads.h"

static int64_t dim_from_end(const invar_view *view, int from_end) {
    return view->ndim >= from_end ? view->shape[view->ndim - from_end] : 1;
}

invar_attention_operand invar_attention_operand_of(const invar_view *view) {
    invar_attention_operand operand = { .data = view->data, .type = view->type, .dtype = view->dtype };
    const int64_t item = (int64_t)invar_view_item_size(view);
    const int n = view->ndim;
    operand.column_stride = view->stride[n - 1] * item;
    operand.row_stride = view->stride[n - 2] * item;
    if (n >= 3) operand.head_stride = view->stride[n - 3] * item;
    for (int d = 0; d < n - 3; d++) operand.batch_stride[d] = view->stride[d] * item;
    return operand;
}

/* k and v against q: ranks, leading sizes, heads, lengths. */
static invar_status check_shapes(const invar_attention_views *views, const char *operation) {
    const invar_view *q = &views->q, *k = &views->k, *v = &views->v;
    char text[INVAR_SHAPE_TEXT], other[INVAR_SHAPE_TEXT];
    if (q->ndim < 2)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected rank 2 to 8, got rank %d", operation, q->ndim);
    for (int i = 0; i < 2; i++) {
        const invar_view *x = i ? v : k;
        const char *name = i ? "v" : "k";
        if (x->ndim != q->ndim)
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected rank %d, as q has, got rank %d", operation, name,
                              q->ndim, x->ndim);
        if (q->ndim > 3 && memcmp(x->shape, q->shape, sizeof x->shape[0] * (size_t)(q->ndim - 3)))
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected q's leading sizes %s, got shape %s", operation, name,
                              invar_shape_text(text, q->ndim - 3, q->shape), invar_shape_text(other, x->ndim, x->shape));
    }
    if (dim_from_end(k, 1) != dim_from_end(q, 1))
        return invar_fail(INVAR_ERROR_VALUE, "%s: k: expected %lld features, as q has, got shape %s", operation,
                          (long long)dim_from_end(q, 1), invar_shape_text(text, k->ndim, k->shape));
    if (dim_from_end(v, 2) != dim_from_end(k, 2) || dim_from_end(v, 3) != dim_from_end(k, 3))
        return invar_fail(INVAR_ERROR_VALUE, "%s: v: expected k's heads and length %s, got shape %s", operation,
                          invar_shape_text(text, k->ndim < 3 ? 1 : 2, k->shape + (k->ndim < 3 ? 0 : k->ndim - 3)),
                          invar_shape_text(other, v->ndim, v->shape));
    const int64_t query_heads = dim_from_end(q, 3), kv_heads = dim_from_end(k, 3);
    if (kv_heads == 0 ? query_heads > 0 : query_heads % kv_heads != 0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected a number of heads that k's %lld heads divide, got %lld",
                          operation, (long long)kv_heads, (long long)query_heads);
    return INVAR_OK;
}

static void fill_sizes(invar_attention_call *call, const invar_attention_views *views) {
    const invar_view *q = &views->q, *k = &views->k, *v = &views->v;
    call->batch_ndim = q->ndim > 3 ? q->ndim - 3 : 0;
    call->batch = 1;
    for (int d = 0; d < call->batch_ndim; d++) call->batch *= call->batch_shape[d] = q->shape[d];
    call->query_heads = dim_from_end(q, 3);
    call->kv_heads = dim_from_end(k, 3);
    call->group = call->kv_heads ? call->query_heads / call->kv_heads : 0;
    call->query_len = dim_from_end(q, 2);
    call->key_len = dim_from_end(k, 2);
    call->key_dim = dim_from_end(q, 1);
    call->value_dim = dim_from_end(v, 1);
    call->type = invar_promote(invar_promote(q->type, k->type), v->type);
    call->key_block = invar_attention_key_block(call->type, call->key_dim, call->value_dim);
    call->q = invar_attention_operand_of(q);
    call->k = invar_attention_operand_of(k);
    call->v = invar_attention_operand_of(v);
}

static int64_t clamp_window(const invar_attention_call *call, int64_t window) {
    const int64_t whole = call->query_len + call->key_len;
    return window < whole ? window : whole;
}

static invar_status check_options(invar_attention_call *call, const invar_attention_options *options,
                                  const char *operation) {
    if (isinf(options->scale))
        return invar_fail(INVAR_ERROR_VALUE, "%s: scale: expected a finite number, got %g", operation, options->scale);
    if (!(options->softcap >= 0) || isinf(options->softcap))
        return invar_fail(INVAR_ERROR_VALUE, "%s: softcap: expected a finite number above 0, or 0 for none, got %g",
                          operation, options->softcap);
    if (options->window_left < -1 || options->window_right < -1)
        return invar_fail(INVAR_ERROR_VALUE, "%s: window: expected numbers of keys, or -1 for all, got (%lld, %lld)",
                          operation, (long long)options->window_left, (long long)options->window_right);
    if (options->causal != 0 && options->causal != 1)
        return invar_fail(INVAR_ERROR_VALUE, "%s: causal: expected 0 or 1, got %d", operation, (int)options->causal);
    call->softcap = options->softcap;
    call->causal = options->causal != 0;
    call->window_left = clamp_window(call, options->window_left);
    call->window_right = clamp_window(call, options->window_right);
    return INVAR_OK;
}

/* The same numbers whatever rounding the caller has set. */
static void fill_constants(invar_attention_call *call, double scale) {
    const invar_float_environment callers = invar_float_environment_set();
    call->scale = !isnan(scale) ? scale : call->key_dim ? 1 / sqrt((double)call->key_dim) : 1;
    call->score_scale = (float)(call->scale * INVAR_LOG2E);
    if (call->softcap > 0) {
        call->cap_scale = (float)(call->scale / call->softcap);
        call->cap_height = (float)(call->softcap * INVAR_LOG2E);
    }
    invar_float_environment_restore(callers);
}

/* INVAR_MASK_NONE for types that no mask can have. */
static invar_attention_mask_kind mask_kind_of(invar_dtype dtype) {
    invar_float_type type;
    if (invar_float_type_of(dtype, &type))
        return type == INVAR_F32 ? INVAR_MASK_F32 : type == INVAR_F16 ? INVAR_MASK_F16
             : type == INVAR_BF16 ? INVAR_MASK_BF16 : INVAR_MASK_F64;
    if (dtype.lanes != 1) return INVAR_MASK_NONE;
    if (dtype.code == INVAR_BOOL) return dtype.bits == 8 ? INVAR_MASK_BOOL : INVAR_MASK_NONE;
    if (dtype.code != INVAR_INT && dtype.code != INVAR_UINT) return INVAR_MASK_NONE;
    const bool is_signed = dtype.code == INVAR_INT;
    switch (dtype.bits) {
    case 8: return is_signed ? INVAR_MASK_I8 : INVAR_MASK_U8;
    case 16: return is_signed ? INVAR_MASK_I16 : INVAR_MASK_U16;
    case 32: return is_signed ? INVAR_MASK_I32 : INVAR_MASK_U32;
    case 64: return is_signed ? INVAR_MASK_I64 : INVAR_MASK_U64;
    default: return INVAR_MASK_NONE;
    }
}

/* Gives the mask the shape (…, Hq, Tq, Tkv), with stride 0 where it broadcasts. */
static invar_status broadcast_mask(invar_view *mask, const invar_attention_call *call, const invar_view *q,
                                   const char *operation) {
    invar_view wide = *mask;
    wide.ndim = q->ndim;
    memcpy(wide.shape, q->shape, sizeof wide.shape);
    wide.shape[q->ndim - 1] = call->key_len;
    const int missing = q->ndim - mask->ndim;
    bool fits = missing >= 0;
    for (int d = 0; fits && d < wide.ndim; d++) {
        const int64_t size = d < missing ? 1 : mask->shape[d - missing];
        wide.stride[d] = d < missing || size == 1 ? 0 : mask->stride[d - missing];
        fits = size == 1 || size == wide.shape[d];
    }
    char text[INVAR_SHAPE_TEXT], other[INVAR_SHAPE_TEXT];
    if (!fits)
        return invar_fail(INVAR_ERROR_VALUE, "%s: mask: expected a shape that broadcasts to %s, got %s", operation,
                          invar_shape_text(text, wide.ndim, wide.shape), invar_shape_text(other, mask->ndim, mask->shape));
    *mask = wide;
    return INVAR_OK;
}

static invar_status check_mask(invar_attention_call *call, invar_attention_views *views, const char *operation) {
    invar_view *mask = &views->mask;
    INVAR_TRY(invar_view_init_on(&views->device, mask, views->mask_tensor, operation, "mask"));
    call->mask_kind = mask_kind_of(mask->dtype);
    if (call->mask_kind == INVAR_MASK_NONE)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: mask: expected bool, or real numbers to add, got %s", operation,
                          invar_dtype_name(mask->dtype));
    invar_float_type type;
    if (invar_float_type_of(mask->dtype, &type) && invar_promote(type, call->type) != call->type)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: mask: expected a type that promotes to %s, got %s", operation,
                          invar_dtype_name(invar_dtype_of(call->type)), invar_dtype_name(mask->dtype));
    INVAR_TRY(broadcast_mask(mask, call, &views->q, operation));
    call->mask = invar_attention_operand_of(mask);
    return INVAR_OK;
}

static invar_status check_sinks(invar_attention_call *call, invar_attention_views *views, const char *operation) {
    invar_view *sinks = &views->sinks;
    INVAR_TRY(invar_view_init_float_on(&views->device, sinks, views->sinks_tensor, operation, "sinks"));
    INVAR_TRY(invar_view_expect_shape(sinks, 1, &call->query_heads, operation, "sinks"));
    if (invar_promote(sinks->type, call->type) != call->type)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: sinks: expected a type that promotes to %s, got %s", operation,
                          invar_dtype_name(invar_dtype_of(call->type)), invar_dtype_name(sinks->dtype));
    call->sinks = (invar_attention_operand){ .data = sinks->data, .type = sinks->type, .dtype = sinks->dtype,
                                             .head_stride = sinks->stride[0] * (int64_t)invar_view_item_size(sinks) };
    return INVAR_OK;
}

static invar_status check_lengths(invar_attention_call *call, invar_attention_views *views, const char *operation) {
    invar_view *lengths = &views->kv_lengths;
    INVAR_TRY(invar_view_init_on(&views->device, lengths, views->kv_lengths_tensor, operation, "kv_lengths"));
    const invar_dtype dtype = lengths->dtype;
    if ((dtype.code != INVAR_INT && dtype.code != INVAR_UINT) || mask_kind_of(dtype) == INVAR_MASK_NONE)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: kv_lengths: expected integers, got %s", operation,
                          invar_dtype_name(dtype));
    INVAR_TRY(invar_view_expect_shape(lengths, 1, &call->batch, operation, "kv_lengths"));
    call->kv_lengths = *lengths;
    if (!lengths->data || views->device.type != INVAR_DEVICE_CPU) return INVAR_OK;
    for (int64_t b = 0; b < call->batch; b++) {
        const int64_t length = invar_attention_length(call, b);
        if (length < 0 && dtype.code == INVAR_UINT) /* above INT64_MAX */
            return invar_fail(INVAR_ERROR_VALUE, "%s: kv_lengths: expected 0 to %lld, got %llu for batch %lld", operation,
                              (long long)call->key_len, (unsigned long long)length, (long long)b);
        if (length < 0 || length > call->key_len)
            return invar_fail(INVAR_ERROR_VALUE, "%s: kv_lengths: expected 0 to %lld, got %lld for batch %lld", operation,
                              (long long)call->key_len, (long long)length, (long long)b);
    }
    return INVAR_OK;
}

invar_status invar_attention_check(invar_attention_call *call, invar_attention_views *views, const char *operation,
                                   const invar_tensor *q, const invar_tensor *k, const invar_tensor *v,
                                   const invar_tensor *mask, const invar_tensor *sinks, const invar_tensor *kv_lengths,
                                   const invar_attention_options *options) {
    memset(call, 0, sizeof *call);
    memset(views, 0, sizeof *views);
    views->mask_tensor = mask;
    views->sinks_tensor = sinks;
    views->kv_lengths_tensor = kv_lengths;
    INVAR_TRY(invar_view_init_float_on(&views->device, &views->q, q, operation, "q"));
    INVAR_TRY(invar_view_init_float_on(&views->device, &views->k, k, operation, "k"));
    INVAR_TRY(invar_view_init_float_on(&views->device, &views->v, v, operation, "v"));
    INVAR_TRY(check_shapes(views, operation));
    fill_sizes(call, views);
    INVAR_TRY(check_options(call, options, operation));
    fill_constants(call, options->scale);
    if (mask) INVAR_TRY(check_mask(call, views, operation));
    if (sinks) INVAR_TRY(check_sinks(call, views, operation));
    if (kv_lengths) INVAR_TRY(check_lengths(call, views, operation));
    return INVAR_OK;
}

invar_status invar_attention_check_rows(const invar_attention_views *views, invar_attention_operand *operand,
                                        invar_view *view, const invar_tensor *tensor, int64_t columns, const char *operation,
                                        const char *argument) {
    int64_t shape[INVAR_MAX_DIMS];
    memcpy(shape, views->q.shape, sizeof shape);
    shape[views->q.ndim - 1] = columns;
    invar_device device = views->device;
    INVAR_TRY(invar_view_init_float_on(&device, view, tensor, operation, argument));
    INVAR_TRY(invar_view_expect_shape(view, views->q.ndim, shape, operation, argument));
    *operand = invar_attention_operand_of(view);
    return INVAR_OK;
}

invar_status invar_attention_check_lse(const invar_attention_call *call, const invar_attention_views *views,
                                       invar_attention_operand *operand, invar_view *view, const invar_tensor *tensor,
                                       const char *operation, const char *argument) {
    invar_device device = views->device;
    INVAR_TRY(invar_view_init_float_on(&device, view, tensor, operation, argument));
    INVAR_TRY(invar_view_expect_shape(view, views->q.ndim - 1, views->q.shape, operation, argument));
    INVAR_TRY(invar_view_expect_type(view, call->type == INVAR_F64 ? INVAR_F64 : INVAR_F32, operation, argument));
    invar_view column = *view;
    column.shape[column.ndim] = 1;
    column.stride[column.ndim++] = 0;
    *operand = invar_attention_operand_of(&column);
    return INVAR_OK;
}

/* Query-key pairs of one head. */
static double pairs_of(const invar_attention_call *call, int64_t length) {
    double pairs = 0;
    for (int64_t i = 0; i < call->query_len; i++) {
        const invar_key_range range = invar_attention_range(call, length, i);
        pairs += (double)(range.last - range.first);
    }
    return pairs;
}

double invar_attention_flops(const invar_attention_call *call) {
    double pairs = 0;
    if (!call->kv_lengths.data) pairs = (double)call->batch * pairs_of(call, call->key_len);
    else
        for (int64_t b = 0; b < call->batch; b++) pairs += pairs_of(call, invar_attention_length(call, b));
    return 2 * pairs * (double)call->query_heads * (double)(call->key_dim + call->value_dim);
}

double invar_attention_bytes(const invar_attention_call *call) {
    const double queries = (double)call->query_heads * (double)call->query_len;
    const double keys = (double)call->kv_heads * (double)call->key_len;
    return (double)call->batch * (double)(call->key_dim + call->value_dim) *
           (queries * (double)invar_float_size(call->type) + keys * (double)invar_float_size(call->k.type));
}

const char *invar_attention_arithmetic(const invar_attention_call *call) {
    return call->type == INVAR_F64 ? "float64" : call->type == INVAR_BF16 ? "bfloat16" : "float32";
}
