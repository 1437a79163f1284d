/* What the programs of dmask share: which batches are summed into which of its elements. */
#ifndef INVAR_ATTENTION_VJP_MASK_CUH
#define INVAR_ATTENTION_VJP_MASK_CUH
#include "attention_vjp.cuh"

/* Whether a query of the tile may see a key of the tile, by position. */
template <int QUERIES, int KEYS>
__device__ __forceinline__ bool tiles_meet(const invar_cuda_attention &of, int length, int query, int key) {
    const int end = query + QUERIES < of.query_len ? query + QUERIES : of.query_len;
    return range_of(of, length, query).first < key + KEYS && range_of(of, length, end - 1).last > key;
}

/* Whether the batch's pairs belong to this one of dmask's batches. */
__device__ __forceinline__ bool belongs(const invar_cuda_attention_vjp_job &job, unsigned batch, unsigned to) {
    for (int d = job.of.batch_ndim - 1; d >= 0; d--) {
        const unsigned size = (unsigned)job.mask_batch_shape[d], shape = (unsigned)job.of.batch_shape[d];
        if (size > 1 && batch % shape != to % size) return false;
        batch /= shape;
        to /= size;
    }
    return true;
}

__device__ __forceinline__ char *element_of(const invar_cuda_attention_vjp_job &job, unsigned batch, int head, int row, int column) {
    char *p = job.dmask.data + head * job.dmask.head_stride + row * job.dmask.row_stride + column * job.dmask.column_stride;
    for (int d = job.of.batch_ndim - 1; d >= 0; d--) {
        const unsigned size = (unsigned)job.mask_batch_shape[d];
        p += batch % size * job.dmask.batch_stride[d];
        batch /= size;
    }
    return p;
}

#endif
