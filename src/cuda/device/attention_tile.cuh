/* Rows of 16-bit elements on their way into shared memory. COPIES: rows are such that 16-byte copies may take them. */
#ifndef INVAR_ATTENTION_TILE_CUH
#define INVAR_ATTENTION_TILE_CUH
#include "attention.cuh"

typedef unsigned short bits16;

/* ROWS rows, one `stride` behind the other, PITCH elements apart in shared memory; zeros behind the `count` that there are and
 * behind the columns, up to PADDED. A copy of no bytes reads nothing, wherever it points. */
template <int THREADS, int ROWS, int PADDED, int PITCH>
__device__ __forceinline__ void load_tile(bits16 *to, const char *from, const invar_cuda_operand &x, int count, int columns) {
#if COPIES
    enum { CHUNKS = PADDED / 8, STEP = THREADS % CHUNKS == 0 ? THREADS / CHUNKS : 1,
           EVEN = THREADS % CHUNKS == 0 && ROWS % STEP == 0 };
    if (EVEN) {
        const int column = threadIdx.x % CHUNKS * 8;
        int row = threadIdx.x / CHUNKS;
        if (column >= columns) count = 0;
        from += row * x.row_stride + column * 2;
        to += row * PITCH + column;
#pragma unroll
        for (int i = 0; i < ROWS; i += STEP) {
            copy_16(to + i * PITCH, from, row + i < count ? 16 : 0);
            from += STEP * x.row_stride;
        }
    } else {
        for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, column = i % CHUNKS * 8;
            copy_16(to + row * PITCH + column, from + row * x.row_stride + column * 2, row < count && column < columns ? 16 : 0);
        }
    }
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
