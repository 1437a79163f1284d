/* Memory work around a launch: inputs made row-contiguous, outputs given their init_value. */
#include "cuda/elements.h"
#include "jit/kernel.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 1 << 16 }; /* elements a task */

typedef struct copy_job {
    char *to;
    const invar_view *view;
} copy_job;

/* `count` elements of `size` bytes, `stride` bytes apart, to contiguous memory. */
static void copy_row(char *to, const char *from, int64_t stride, int64_t count, size_t size) {
    if (stride == (int64_t)size) {
        memcpy(to, from, (size_t)count * size);
        return;
    }
#define COPY(bytes) \
    case bytes: \
        for (int64_t i = 0; i < count; i++) memcpy(to + i * bytes, from + i * stride, bytes); \
        break;
    switch (size) { COPY(1) COPY(2) COPY(4) COPY(8) COPY(16) }
#undef COPY
}

static void copy_chunk(void *argument, int64_t index, void *scratch) {
    (void)scratch;
    const copy_job *job = argument;
    const invar_view *view = job->view;
    int64_t last = view->ndim - 1, inner = view->ndim ? view->shape[last] : 1, step = view->ndim ? view->stride[last] : 0;
    int64_t at = index * CHUNK, end = at + CHUNK < view->count ? at + CHUNK : view->count;
    int64_t size = (int64_t)invar_view_item_size(view);
    while (at < end) {
        int64_t row = at / inner, column = at % inner, count = inner - column < end - at ? inner - column : end - at;
        int64_t from = invar_view_row_offset(view, (int)last, row) + column * step;
        copy_row(job->to + at * size, view->data + from * size, step * size, count, (size_t)size);
        at += count;
    }
}

invar_status invar_kernel_copy(const invar_kernel_memory *memory, char *to, const invar_view *view) {
    copy_job job = { to, view };
    int64_t chunks = (view->count + CHUNK - 1) / CHUNK;
    if (memory->gpu) return invar_cuda_elements_copy(memory->gpu, to, view, memory->stream, memory->operation);
    if (chunks > 1) invar_run_tasks(memory->run, chunks, copy_chunk, &job);
    else if (chunks) copy_chunk(&job, 0, NULL);
    return INVAR_OK;
}

invar_status invar_kernel_send(const invar_kernel_memory *memory, char *to, const invar_view *view) {
    return invar_cuda_elements_fill(memory->gpu, to, view->count, view->dtype, view->data, memory->stream, memory->operation);
}

/* ---- init_value --------------------------------------------------------------------------------------- */

/* The element as bytes. Integers are cut towards zero. */
static void encode(char bytes[16], invar_dtype dtype, double value) {
    invar_float_type type;
    memset(bytes, 0, 16);
    if (invar_float_type_of(dtype, &type)) {
        invar_store_float(bytes, type, value);
    } else if (dtype.code == INVAR_COMPLEX) {
        invar_store_float(bytes, dtype.bits == 128 ? INVAR_F64 : INVAR_F32, value);
    } else if (dtype.code == INVAR_BOOL) {
        bytes[0] = value != 0;
    } else { /* little-endian, as both targets are */
        uint64_t integer = dtype.code == INVAR_UINT ? (uint64_t)value : (uint64_t)(int64_t)value;
        memcpy(bytes, &integer, dtype.bits / 8u);
    }
}

invar_status invar_kernel_check_fill(const invar_view *view, double value, const char *operation, const char *argument) {
    invar_dtype dtype = view->dtype;
    if (dtype.code != INVAR_INT && dtype.code != INVAR_UINT) return INVAR_OK;
    bool is_signed = dtype.code == INVAR_INT;
    double high = ldexp(1, dtype.bits - is_signed), low = is_signed ? -high : 0; /* exact: low <= trunc(value) < high */
    if (trunc(value) >= low && trunc(value) < high) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: init_value: expected a value that %s, an array of %s, can hold, got %g",
                      operation, argument, invar_dtype_name(dtype), value);
}

typedef struct fill_job {
    const invar_view *view;
    char element[16];
} fill_job;

static void fill_chunk(void *argument, int64_t index, void *scratch) {
    (void)scratch;
    const fill_job *job = argument;
    int64_t begin = index * CHUNK, count = job->view->count - begin < CHUNK ? job->view->count - begin : CHUNK;
    size_t size = invar_view_item_size(job->view), bytes = (size_t)count * size, done = size;
    char *to = job->view->data + (size_t)begin * size;
    memcpy(to, job->element, size);
    for (; done < bytes; done *= 2) memcpy(to + done, to, done < bytes - done ? done : bytes - done);
}

invar_status invar_kernel_fill(const invar_kernel_memory *memory, const invar_view *view, double value) {
    fill_job job = { .view = view };
    int64_t chunks = (view->count + CHUNK - 1) / CHUNK;
    encode(job.element, view->dtype, value);
    if (memory->gpu)
        return invar_cuda_elements_fill(memory->gpu, view->data, view->count, view->dtype, job.element, memory->stream,
                                        memory->operation);
    if (chunks > 1) invar_run_tasks(memory->run, chunks, fill_chunk, &job);
    else if (chunks) fill_chunk(&job, 0, NULL);
    return INVAR_OK;
}
