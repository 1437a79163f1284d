/* Tiles of rows of any element types in shared memory as float. Q_KIND, K_KIND, V_KIND: element types. VECTOR: q, k and v are
 * float32 with rows that 16-byte copies may take. */
#ifndef INVAR_ATTENTION_FLOAT_TILE_CUH
#define INVAR_ATTENTION_FLOAT_TILE_CUH
#include "attention.cuh"

/* HEIGHT rows, APART from each other in shared memory, zeros behind the `count` that there are and behind the columns. */
template <int KIND, int THREADS, int HEIGHT, int PADDED, int APART>
__device__ __forceinline__ void load_tile(float *to, const char *from, const invar_cuda_operand &x, int count, int columns,
                                          unsigned thread = threadIdx.x) {
#if VECTOR
    copy_tile<THREADS, HEIGHT, PADDED, APART>(to, from, x, count, columns, thread);
    copy_commit();
#else
    for (int i = thread; i < HEIGHT * PADDED; i += THREADS) {
        const int row = i / PADDED, column = i % PADDED;
        const bool there = row < count && column < columns;
        to[row * APART + column] = there ? read_number(from + row * x.row_stride + column * x.column_stride, KIND) : 0.0f;
    }
#endif
}

/* HEIGHT of a unit's rows of q, which lie apart where a group shares them: features from `unit` on. */
template <int THREADS, int HEIGHT, int PADDED, int APART>
__device__ __forceinline__ void load_queries(float *to, const invar_cuda_attention &of, char *unit, int first, int count,
                                             int columns, unsigned thread = threadIdx.x) {
#if VECTOR
    for (int i = thread; i < HEIGHT * (PADDED / 4); i += THREADS) {
        const int row = i / (PADDED / 4), column = i % (PADDED / 4) * 4;
        const bool there = row < count && column < columns;
        copy_16(to + row * APART + column, there ? row_of(of, of.q, unit, first + row) + column * 4 : unit, there ? 16 : 0);
    }
    copy_commit();
#else
    for (int i = thread; i < HEIGHT * PADDED; i += THREADS) {
        const int row = i / PADDED, column = i % PADDED;
        const bool there = row < count && column < columns;
        to[row * APART + column] =
            there ? read_number(row_of(of, of.q, unit, first + row) + column * of.q.column_stride, Q_KIND) : 0.0f;
    }
#endif
}

#endif
