/* Rows of 16-bit elements on their way into shared memory. COPIES: rows are such that 16-byte copies may take them. */
#ifndef INVAR_ATTENTION_TILE_CUH
#define INVAR_ATTENTION_TILE_CUH
#include "attention.cuh"

typedef unsigned short bits16;

/* ROWS rows, one `stride` behind the other, PITCH elements apart in shared memory; zeros behind the `count` that there are and
 * behind the columns, up to PADDED. */
template <int THREADS, int ROWS, int PADDED, int PITCH>
__device__ __forceinline__ void load_tile(bits16 *to, const char *from, const invar_cuda_operand &x, int count, int columns) {
#if COPIES
    copy_tile<THREADS, ROWS, PADDED, PITCH>(to, from, x, count, columns);
#else
    for (int i = threadIdx.x; i < ROWS * PADDED; i += THREADS) {
        const int row = i / PADDED, column = i % PADDED;
        const bool there = row < count && column < columns;
        to[row * PITCH + column] = there ? *(const bits16 *)(from + row * x.row_stride + column * x.column_stride) : 0;
    }
#endif
    copy_commit();
}

#endif
