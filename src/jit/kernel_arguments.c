/* Reading a launch's arrays, and finding other memory for those that the kernel cannot take where they are. */
#include "jit/kernel_arguments.h"

#include <string.h>

/* ---- reading ------------------------------------------------------------------------------------------ */

/* One element in the CPU's memory, as often as it is repeated, beside arrays on a GPU. */
static bool is_hosted(const invar_arguments *a, int32_t i, const invar_tensor *tensor) {
    if (i >= a->input_count || a->device.type != INVAR_DEVICE_CUDA || !tensor || tensor->device.type != INVAR_DEVICE_CPU) return false;
    for (int d = 0; d < tensor->ndim && tensor->shape && d < INVAR_MAX_DIMS; d++)
        if (tensor->shape[d] != 1 && (!tensor->strides || tensor->strides[d])) return false;
    return true;
}

/* Reads array i: its view (of type and shape alone where `launch` is false) and what the kernel is told of its layout. */
static invar_status read_array(const invar_kernel *kernel, invar_arguments *a, int32_t i, const invar_tensor *tensor, bool launch) {
    const char *name = invar_array_name(&kernel->description, i);
    invar_tensor layout;
    if (tensor && !launch) { /* any aligned address will do */
        layout = *tensor;
        layout.data = &layout;
        layout.byte_offset = 0;
        layout.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
        tensor = &layout;
    }
    invar_view *view = &a->views[i];
    invar_device cpu = { INVAR_DEVICE_CPU, 0 };
    a->hosted[i] = is_hosted(a, i, tensor);
    INVAR_TRY(invar_view_init_on(a->hosted[i] ? &cpu : &a->device, view, tensor, kernel->operation, name));
    a->keys[i] = (invar_array_key){ view->dtype, view->ndim };
    bool contiguous = true;
    int64_t expected = 1;
    for (int d = view->ndim - 1; d >= 0; d--) {
        if (view->shape[d] > INT32_MAX)
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected sizes below 2147483648, got %lld on axis %d",
                              kernel->operation, name, (long long)view->shape[d], d);
        contiguous = contiguous && (view->shape[d] == 1 || view->stride[d] == expected);
        a->shape[i][d] = (int32_t)view->shape[d];
        a->stride[i][d] = expected;
        expected *= view->shape[d];
    }
    contiguous = contiguous || !view->count;
    if (!contiguous && !kernel->description.ensure_row_contiguous)
        for (int d = 0; d < view->ndim; d++) a->stride[i][d] = tensor->strides[d];
    a->contiguous[i] = contiguous;
    a->data[i] = view->data;
    a->shapes[i] = a->shape[i];
    a->strides[i] = a->stride[i];
    a->ndims[i] = view->ndim;
    return INVAR_OK;
}

static invar_status check_output(const invar_kernel *kernel, const invar_arguments *a, int32_t i) {
    const char *name = invar_array_name(&kernel->description, i);
    if (!a->contiguous[i])
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected a row-contiguous output, got other strides",
                          kernel->operation, name);
    for (int32_t j = 0; j < i; j++)
        if (invar_view_overlaps(&a->views[i], &a->views[j]))
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected memory apart from the other arrays, got an overlap with %s",
                              kernel->operation, name, invar_array_name(&kernel->description, j));
    return INVAR_OK;
}

invar_status invar_arguments_read(invar_arguments *a, const invar_kernel *kernel, const invar_tensor *const *outputs,
                                  int32_t output_count, const invar_tensor *const *inputs, int32_t input_count, bool launch) {
    const invar_kernel_description *d = &kernel->description;
    if (input_count != d->input_count || output_count != d->output_count)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected %d arrays, got %d", kernel->operation,
                          input_count != d->input_count ? "inputs" : "outputs",
                          input_count != d->input_count ? d->input_count : d->output_count,
                          input_count != d->input_count ? input_count : output_count);
    if ((!inputs && input_count) || !outputs)
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected arrays, got NULL", kernel->operation,
                          outputs ? "inputs" : "outputs");
    a->input_count = input_count;
    a->count = input_count + output_count;
    a->device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    if (launch && outputs[0] && outputs[0]->device.type == INVAR_DEVICE_CUDA) a->device = outputs[0]->device;
    for (int32_t i = 0; i < input_count; i++) INVAR_TRY(read_array(kernel, a, i, inputs[i], launch));
    for (int32_t i = input_count; i < a->count; i++)
        INVAR_TRY(read_array(kernel, a, i, outputs[i - input_count], launch));
    for (int32_t i = input_count; launch && i < a->count; i++) INVAR_TRY(check_output(kernel, a, i));
    return INVAR_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------- */

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool invar_argument_gathered(const invar_arguments *a, const invar_kernel *kernel, int32_t i) {
    return i < a->input_count && !a->contiguous[i] && kernel->description.ensure_row_contiguous;
}

void invar_element_range(const invar_view *view, bool gathered, int64_t *begin, int64_t *end) {
    *begin = 0;
    *end = view->count;
    if (gathered || !view->count) return;
    *end = 1;
    for (int d = 0; d < view->ndim; d++) {
        int64_t reach = (view->shape[d] - 1) * view->stride[d];
        if (reach < 0) *begin += reach;
        else *end += reach;
    }
}

/* Whether the launch brings the input's value, which needs no place on the device then. A precompiled kernel wants an address. */
static bool hand_over(invar_arguments *a, const invar_kernel *kernel, int32_t i) {
    const size_t item = invar_view_item_size(&a->views[i]);
    if (!a->hosted[i] || a->views[i].ndim || !kernel->source || item > sizeof a->numbers[i]) return false;
    a->numbers[i] = 0;
    memcpy(&a->numbers[i], a->views[i].data, item);
    a->data[i] = NULL;
    return true;
}

size_t invar_arguments_place(invar_arguments *a, const invar_kernel *kernel, bool check, bool plan) {
    size_t scratch = 0;
    for (int32_t i = 0; i < a->count; i++) {
        size_t item = invar_view_item_size(&a->views[i]);
        int64_t begin, end;
        bool gathered = invar_argument_gathered(a, kernel, i);
        bool aligned = plan ? kernel->alignment == 1 : (uintptr_t)a->data[i] % (uint32_t)kernel->alignment == 0;
        a->misplaced[i] = !gathered && !check && (a->hosted[i] || !aligned) && !hand_over(a, kernel, i);
        if (!gathered && !a->misplaced[i]) continue;
        invar_element_range(&a->views[i], gathered, &begin, &end);
        scratch += lines((size_t)-begin * item) + lines((size_t)end * item);
    }
    return scratch;
}

invar_status invar_arguments_move(invar_arguments *a, const invar_kernel *kernel, const invar_kernel_memory *memory, char *scratch) {
    char *place = scratch;
    for (int32_t i = 0; i < a->count; i++) {
        invar_view span = a->views[i];
        size_t item = invar_view_item_size(&span);
        int64_t begin, end;
        bool gathered = invar_argument_gathered(a, kernel, i);
        if (!gathered && !a->misplaced[i]) continue;
        invar_element_range(&span, gathered, &begin, &end);
        a->data[i] = place + lines((size_t)-begin * item);
        if (!gathered) {
            span.data += begin * (int64_t)item;
            span.ndim = 1, span.stride[0] = 1, span.shape[0] = span.count = end - begin;
        }
        char *to = (char *)a->data[i] + begin * (int64_t)item;
        if (a->hosted[i]) INVAR_TRY(invar_kernel_send(memory, to, &span));
        else if (i < a->input_count) INVAR_TRY(invar_kernel_copy(memory, to, &span));
        place = (char *)a->data[i] + lines((size_t)end * item);
    }
    return INVAR_OK;
}

invar_status invar_arguments_fill(const invar_arguments *a, const invar_launch_options *options, const invar_kernel_memory *memory) {
    for (int32_t i = a->input_count; options->has_init_value && i < a->count; i++) {
        invar_view view = a->views[i];
        view.data = a->data[i];
        INVAR_TRY(invar_kernel_fill(memory, &view, options->init_value));
    }
    return INVAR_OK;
}

invar_status invar_arguments_return(const invar_arguments *a, const invar_kernel_memory *memory) {
    for (int32_t i = a->input_count; i < a->count; i++) {
        invar_view view = a->views[i];
        view.data = a->data[i];
        if (a->misplaced[i]) INVAR_TRY(invar_kernel_copy(memory, a->views[i].data, &view));
    }
    return INVAR_OK;
}
