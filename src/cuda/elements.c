/* Copies and fills on a CUDA device: one program, specialised by the size of an element. */
#include "cuda/elements.h"

#include "core/number.h"
#include "cuda/device/elements_job.h"

#include <stdio.h>
#include <string.h>

_Static_assert(INVAR_CUDA_ELEMENT_DIMS == (int)INVAR_MAX_DIMS, "any view's dimensions fit");

enum { THREADS = 256, BLOCKS_EACH = 16 /* a multiprocessor, at most */ };

/* Elements as the program knows them: 1, 2, 4 and 8 bytes, then complex64, which is aligned to its halves only. */
static const struct {
    int unit, words;
} elements[] = { { 1, 1 }, { 2, 1 }, { 4, 1 }, { 8, 1 }, { 4, 2 } };
enum { ELEMENTS = (int)(sizeof elements / sizeof *elements) };

static void write_words(int i, char defines[INVAR_CUDA_DEFINES]) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DUNIT=%d -DWORDS=%d", elements[i].unit, elements[i].words);
}

bool invar_cuda_elements_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    if (i >= ELEMENTS) return false;
    write_words(i, defines);
    return true;
}

static invar_status enqueue(const invar_cuda_device *device, const invar_cuda_elements_job *job, invar_dtype dtype, void *stream,
                            const char *operation) {
    const int words = dtype.code == INVAR_COMPLEX ? 2 : 1;
    char defines[INVAR_CUDA_DEFINES];
    int i = 0;
    while (i < ELEMENTS && (elements[i].words != words || elements[i].unit * words * 8 != dtype.bits)) i++;
    if (i == ELEMENTS)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: expected elements of at most 8 bytes on a CUDA device, got %s", operation,
                          invar_dtype_name(dtype));
    if (!job->count) return INVAR_OK;
    write_words(i, defines);
    const int64_t blocks = invar_smaller(invar_pieces(job->count, THREADS), BLOCKS_EACH * device->multiprocessors);
    const invar_cuda_launch launch = { &invar_cuda_elements, defines, { (unsigned)blocks, 1, 1 }, THREADS, 0, job };
    return invar_cuda_enqueue(device, &launch, stream, operation);
}

invar_status invar_cuda_elements_copy(const invar_cuda_device *device, void *to, const invar_view *view, void *stream,
                                      const char *operation) {
    invar_cuda_elements_job job = { .to = to, .from = view->data, .count = view->count };
    for (int d = 0; d < view->ndim; d++) {
        if (view->shape[d] == 1) continue;
        const bool joined = job.ndim && job.stride[job.ndim - 1] == view->stride[d] * view->shape[d]; /* with the one before */
        if (joined) job.shape[job.ndim - 1] *= view->shape[d];
        else job.shape[job.ndim++] = view->shape[d];
        job.stride[job.ndim - 1] = view->stride[d];
    }
    return enqueue(device, &job, view->dtype, stream, operation);
}

invar_status invar_cuda_elements_fill(const invar_cuda_device *device, void *to, int64_t count, invar_dtype dtype,
                                      const void *bytes, void *stream, const char *operation) {
    invar_cuda_elements_job job = { .to = to, .count = count };
    const size_t size = dtype.bits / 8u;
    memcpy(&job.value, bytes, size < sizeof job.value ? size : sizeof job.value);
    return enqueue(device, &job, dtype, stream, operation);
}
