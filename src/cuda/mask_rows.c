/* Masks whose rows begin at odd places, or whose keys lie apart, copied: that costs one pass over their bytes, where a program that
 * reads them an element at a time takes several times as long. */
#include "cuda/mask_rows.h"

#include <stdio.h>
#include <string.h>

enum { THREADS = 256, SIDE = 64 /* elements of a tile */, EIGHT = 8, MOST_BLOCKS = 0x7fffffff };

static int size_of(int kind) { return kind == INVAR_CUDA_BOOL ? 1 : 2; }

static void write_words(char defines[INVAR_CUDA_DEFINES], int kind) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DMASK_KIND=%d", kind);
}

bool invar_cuda_mask_rows_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const int kinds[] = { INVAR_CUDA_BOOL, INVAR_CUDA_F16, INVAR_CUDA_BF16 };
    (void)major, (void)minor;
    if (i >= (int)(sizeof kinds / sizeof *kinds)) return false;
    write_words(defines, kinds[i]);
    return true;
}

bool invar_cuda_mask_aligned(const invar_cuda_attention *of) {
    const invar_cuda_operand *x = &of->mask;
    const int64_t item = size_of(x->kind);
    int64_t steps = x->head_stride | x->row_stride | (int64_t)((uintptr_t)x->data & 15);
    for (int d = 0; d < of->batch_ndim; d++) steps |= x->batch_stride[d];
    return steps % (EIGHT * item) == 0 && x->column_stride == item && of->key_len % EIGHT == 0;
}

/* A dimension's stride in the copy, whose elements so far take *bytes; its size there. */
static long long lay(long long *stride, long long *bytes, long long from_stride, long long size, bool *too_many) {
    *stride = from_stride ? *bytes : 0;
    if (!from_stride) return 1;
    if (__builtin_mul_overflow(*bytes, size, bytes)) *too_many = true;
    return size;
}

invar_status invar_cuda_mask_rows_plan(invar_cuda_mask_rows_job *job, size_t *bytes, const invar_cuda_attention *of,
                                       const char *operation) {
    const invar_cuda_operand *from = &of->mask;
    const int item = size_of(from->kind);
    long long all = (long long)(of->key_len + EIGHT - 1) / EIGHT * EIGHT * item;
    bool too_many = false;
    memset(job, 0, sizeof *job);
    job->from = job->to = *from;
    job->batch_ndim = of->batch_ndim;
    job->columns = of->key_len;
    job->to.column_stride = item;
    job->rows = (int)lay(&job->to.row_stride, &all, from->row_stride, of->query_len, &too_many);
    job->heads = lay(&job->to.head_stride, &all, from->head_stride, of->query_heads, &too_many);
    long long units = job->heads;
    for (int d = of->batch_ndim - 1; d >= 0; d--) {
        job->batch_shape[d] = lay(&job->to.batch_stride[d], &all, from->batch_stride[d], of->batch_shape[d], &too_many);
        units *= job->batch_shape[d];
    }
    if (too_many)
        return invar_fail(INVAR_ERROR_MEMORY, "%s: mask: expected an array whose copy to aligned rows can be addressed, got %lld "
                          "heads of %d queries and %d keys", operation, (long long)of->query_heads, of->query_len, of->key_len);
    job->row_tiles = (job->rows + SIDE - 1) / SIDE;
    job->column_tiles = (job->columns + SIDE - 1) / SIDE;
    job->tiles = units * job->row_tiles * job->column_tiles;
    *bytes = (size_t)all;
    return INVAR_OK;
}

invar_status invar_cuda_mask_rows_copy(const invar_cuda_device *device, const invar_cuda_mask_rows_job *job, void *stream,
                                       const char *operation) {
    char defines[INVAR_CUDA_DEFINES];
    if (!job->tiles) return INVAR_OK;
    write_words(defines, job->from.kind);
    const unsigned blocks = (unsigned)(job->tiles < MOST_BLOCKS ? job->tiles : MOST_BLOCKS);
    const invar_cuda_launch launch = { &invar_cuda_mask_rows, defines, { blocks, 1, 1 }, THREADS, 0, job };
    return invar_cuda_enqueue(device, &launch, stream, operation);
}
