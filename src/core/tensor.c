/* Checked views: every way in which a caller's tensor can be wrong, found before anything is read through it. */
#include "core/tensor.h"

#include <stdio.h>
#include <stdlib.h>

static invar_status check_pointers(const invar_tensor *tensor, const char *operation, const char *argument) {
    if (!tensor) return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a tensor, got NULL", operation, argument);
    if (tensor->ndim < 0 || tensor->ndim > INVAR_MAX_DIMS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected rank 0 to %d, got %d", operation, argument, INVAR_MAX_DIMS,
                          tensor->ndim);
    if (tensor->ndim && !tensor->shape)
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a shape, got NULL", operation, argument);
    return INVAR_OK;
}

/* "the CPU", "CUDA device 0", "a device of DLPack type 10". Returns text. */
static const char *device_text(char text[48], invar_device device) {
    if (device.type == INVAR_DEVICE_CPU) return "the CPU";
    snprintf(text, 48, device.type == INVAR_DEVICE_CUDA ? "CUDA device %d" : "a device of DLPack type %d",
             device.type == INVAR_DEVICE_CUDA ? device.id : device.type);
    return text;
}

static invar_status check_device(invar_device *device, invar_device given, const char *operation, const char *argument) {
    char expected[48], got[48];
    const bool known = given.type == INVAR_DEVICE_CPU || given.type == INVAR_DEVICE_CUDA;
    if (given.type == INVAR_DEVICE_CPU) given.id = 0;
    if (!device->type && known) *device = given;
    if (device->type == given.type && device->id == given.id) return INVAR_OK;
    return invar_fail(INVAR_ERROR_DEVICE_MIX, "%s: %s: expected a tensor on %s, got one on %s", operation, argument,
                      device->type ? device_text(expected, *device) : "the CPU or a CUDA device", device_text(got, given));
}

static invar_status check_dtype(invar_dtype dtype, const char *operation, const char *argument) {
    const bool complex = dtype.code == INVAR_COMPLEX; /* of two parts */
    bool bytes = (dtype.bits == 8 && !complex) || dtype.bits == 16 || dtype.bits == 32 || dtype.bits == 64 || dtype.bits == 128;
    if (dtype.lanes == 1 && bytes) return INVAR_OK;
    return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected elements of %d to 16 whole bytes and one lane, got %d bits, %d lanes",
                      operation, argument, complex ? 2 : 1, dtype.bits, dtype.lanes);
}

/* Elements that a tensor may have, those of zero strides counted and sizes of 0 taken for 1: then no product of sizes that a plan
 * forms overflows, scratch for padded rows and counts of doubles among them, nor do sums of a few. */
#define MOST_ELEMENTS ((int64_t)1 << 50)

/* Fills shape, strides and count. False where there are too many elements, or one lies beyond 63 bits of bytes. */
static bool fill_layout(invar_view *view, const invar_tensor *tensor) {
    int64_t item = tensor->dtype.bits / 8, contiguous = 1, reach = 1;
    bool overflow = false, empty = false;
    for (int d = 0; d < tensor->ndim; d++) empty |= !tensor->shape[d];
    for (int d = tensor->ndim - 1; d >= 0; d--) {
        int64_t n = tensor->shape[d], stride = n == 1 ? 0 : tensor->strides ? tensor->strides[d] : contiguous, span;
        view->shape[d] = n;
        view->stride[d] = empty ? 0 : stride;
        overflow |= __builtin_mul_overflow(contiguous, n ? n : 1, &contiguous);
        if (empty) continue;
        overflow |= stride == INT64_MIN || __builtin_mul_overflow(n - 1, stride < 0 ? -stride : stride, &span) ||
                    __builtin_add_overflow(reach, span, &reach);
    }
    overflow |= __builtin_mul_overflow(reach, item, &reach) || contiguous > MOST_ELEMENTS;
    view->count = empty ? 0 : contiguous;
    return !overflow;
}

invar_status invar_view_init_on(invar_device *device, invar_view *view, const invar_tensor *tensor, const char *operation,
                                const char *argument) {
    INVAR_TRY(check_pointers(tensor, operation, argument));
    INVAR_TRY(check_device(device, tensor->device, operation, argument));
    INVAR_TRY(check_dtype(tensor->dtype, operation, argument));
    for (int d = 0; d < tensor->ndim; d++)
        if (tensor->shape[d] < 0)
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected sizes >= 0, got %lld on axis %d", operation, argument,
                              (long long)tensor->shape[d], d);
    *view = (invar_view){ .device = tensor->device, .dtype = tensor->dtype, .ndim = tensor->ndim };
    invar_float_type_of(tensor->dtype, &view->type);
    char text[INVAR_SHAPE_TEXT];
    if (!fill_layout(view, tensor))
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected at most 2^50 elements, within 63 bits of bytes, got shape %s",
                          operation, argument, invar_shape_text(text, tensor->ndim, tensor->shape));
    if (!view->count) return INVAR_OK;
    if (!tensor->data) return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected data, got NULL", operation, argument);
    if (tensor->byte_offset > UINTPTR_MAX - (uintptr_t)tensor->data)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected byte_offset within the addresses there are, got %llu", operation,
                          argument, (unsigned long long)tensor->byte_offset);
    view->data = (char *)tensor->data + tensor->byte_offset;
    size_t alignment = tensor->dtype.code == INVAR_COMPLEX ? tensor->dtype.bits / 16u : tensor->dtype.bits / 8u;
    if ((uintptr_t)view->data % (alignment > 8 ? 8 : alignment))
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected data aligned to its %zu-byte elements, got address %p",
                          operation, argument, alignment, (void *)view->data);
    return INVAR_OK;
}

invar_status invar_view_init_float_on(invar_device *device, invar_view *view, const invar_tensor *tensor,
                                      const char *operation, const char *argument) {
    INVAR_TRY(invar_view_init_on(device, view, tensor, operation, argument));
    invar_float_type type;
    if (invar_float_type_of(tensor->dtype, &type)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected float32, float16, bfloat16 or float64, got %s", operation, argument,
                      invar_dtype_name(tensor->dtype));
}

char *invar_shape_text(char *text, int ndim, const int64_t *shape) {
    int length = snprintf(text, INVAR_SHAPE_TEXT, "(");
    for (int d = 0; d < ndim; d++)
        length += snprintf(text + length, (size_t)(INVAR_SHAPE_TEXT - length), "%s%lld", d ? ", " : "", (long long)shape[d]);
    snprintf(text + length, (size_t)(INVAR_SHAPE_TEXT - length), ndim == 1 ? ",)" : ")");
    return text;
}

invar_status invar_view_expect_shape(const invar_view *view, int ndim, const int64_t *shape, const char *operation,
                                     const char *argument) {
    if (view->ndim == ndim && !memcmp(view->shape, shape, sizeof shape[0] * (size_t)ndim)) return INVAR_OK;
    char expected[INVAR_SHAPE_TEXT], got[INVAR_SHAPE_TEXT];
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected shape %s, got %s", operation, argument,
                      invar_shape_text(expected, ndim, shape), invar_shape_text(got, view->ndim, view->shape));
}

invar_status invar_view_expect_type(const invar_view *view, invar_float_type type, const char *operation,
                                    const char *argument) {
    if (invar_dtype_equal(view->dtype, invar_dtype_of(type))) return INVAR_OK;
    return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected %s, got %s", operation, argument,
                      invar_dtype_name(invar_dtype_of(type)), invar_dtype_name(view->dtype));
}

bool invar_view_identical(const invar_view *a, const invar_view *b) {
    const size_t bytes = sizeof a->shape[0] * (size_t)a->ndim;
    return a->data == b->data && invar_dtype_equal(a->dtype, b->dtype) && a->ndim == b->ndim &&
           !memcmp(a->shape, b->shape, bytes) && !memcmp(a->stride, b->stride, bytes);
}

/* The bytes from *low up to *high, which no element passes. */
static void span(const invar_view *view, uintptr_t *low, uintptr_t *high) {
    int64_t below = 0, above = 1;
    for (int d = 0; d < view->ndim; d++) {
        int64_t reach = (view->shape[d] - 1) * view->stride[d];
        if (reach < 0) below += reach;
        else above += reach;
    }
    int64_t item = (int64_t)invar_view_item_size(view);
    *low = (uintptr_t)view->data + (uintptr_t)(below * item);
    *high = (uintptr_t)view->data + (uintptr_t)(above * item);
}

bool invar_view_overlaps(const invar_view *a, const invar_view *b) {
    if (!a->count || !b->count) return false;
    uintptr_t a_low, a_high, b_low, b_high;
    span(a, &a_low, &a_high);
    span(b, &b_low, &b_high);
    return a_low < b_high && b_low < a_high;
}

/* Axes in ascending order of stride; each must step over all that the smaller ones reach. */
bool invar_view_self_overlaps(const invar_view *view) {
    if (!view->count) return false;
    bool done[INVAR_MAX_DIMS] = { false };
    for (int64_t reach = 0;;) {
        int next = -1;
        for (int d = 0; d < view->ndim; d++)
            if (!done[d] && view->shape[d] > 1 && (next < 0 || llabs(view->stride[d]) < llabs(view->stride[next]))) next = d;
        if (next < 0) return false;
        int64_t stride = llabs(view->stride[next]);
        if (stride <= reach) return true;
        reach += stride * (view->shape[next] - 1);
        done[next] = true;
    }
}

invar_status invar_check_output(const invar_view *output, const invar_view *const *inputs, int input_count,
                                const invar_view *may_alias, const char *alias, const char *operation, const char *argument) {
    if (invar_view_self_overlaps(output))
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected every element in a place of its own, got strides that overlap",
                          operation, argument);
    for (int i = 0; i < input_count; i++) {
        if (!inputs[i] || inputs[i] == output || !invar_view_overlaps(output, inputs[i])) continue;
        if (inputs[i] == may_alias && invar_view_identical(output, inputs[i])) continue;
        if (!may_alias)
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected memory apart from the other arguments, got an overlap",
                              operation, argument);
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected memory apart from the other arguments (exactly %s is allowed), "
                          "got an overlap", operation, argument, alias);
    }
    return INVAR_OK;
}

int64_t invar_load_integer(const invar_view *view, int64_t element_offset) {
    uint64_t bits = 0;
    int width = view->dtype.bits;
    memcpy(&bits, view->data + element_offset * (width / 8), (size_t)width / 8); /* little-endian, as both targets are */
    if (view->dtype.code != INVAR_INT) return (int64_t)bits;
    return (int64_t)(bits << (64 - width)) >> (64 - width);
}
