/* float32 on the matrix units that multiply bfloat16: a number is the sum of three of these, exactly (24 bits are three times eight),
 * and a product the sum of the six products of parts that are not below 2^-24 of it (as Henry, Tang & Heinecke, "Leveraging the
 * bfloat16 artificial intelligence datatype for higher-precision computations", 2019, do). The matrix units cut sums off where
 * multiply-adds round, so what is small is summed apart, and long sums are added up outside. */
#ifndef INVAR_ATTENTION_PARTS_CUH
#define INVAR_ATTENTION_PARTS_CUH
#include "attention_mma.cuh"

enum { PARTS = 3 };
#define TOO_LARGE __int_as_float(0x7f7f8000) /* rounds to an infinite bfloat16 */

/* Parts of two neighbours, the larger ones first. */
__device__ __forceinline__ void split_pair(unsigned to[PARTS], float x, float y) {
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        to[i] = matrix_unit<bfloat16>::pack(x, y);
        x -= __uint_as_float(to[i] << 16);
        y -= __uint_as_float(to[i] & 0xffff0000u);
    }
}

/* ROWS rows of float, DIM of them each, as three planes, APART from each other, of rows that lie PITCH apart. True where a number of
 * this thread's has no parts. */
template <int THREADS, int ROWS, int DIM, int PITCH, int APART>
__device__ __forceinline__ bool split_tile(unsigned short *to, const float *from) {
    enum { EACH = ROWS * (DIM / 4) / THREADS };
    static_assert(EACH * THREADS == ROWS * (DIM / 4), "threads without a share");
    const int thread = thread_reread();
    bool found = false;
#pragma unroll 2
    for (int n = 0; n < EACH; n++) {
        const int i = thread + n * THREADS;
        const float4 x = *(const float4 *)(from + 4 * i);
        unsigned low[PARTS], high[PARTS];
        split_pair(low, x.x, x.y);
        split_pair(high, x.z, x.w);
        found |= !(fabsf(x.x) + fabsf(x.y) + fabsf(x.z) + fabsf(x.w) < TOO_LARGE);
        unsigned short *row = to + i / (DIM / 4) * PITCH + i % (DIM / 4) * 4;
#pragma unroll
        for (int p = 0; p < PARTS; p++) *(uint2 *)(row + p * APART) = uint2{ low[p], high[p] };
    }
    return found;
}

/* The left factor's fragment of 16 rows by 16, from rows of float that lie PITCH apart; from: this thread's first. */
template <int PITCH> __device__ __forceinline__ void split_rows(unsigned to[PARTS][4], const float *from) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float2 x = *(const float2 *)(from + e % 2 * 8 * PITCH + e / 2 * 8);
        unsigned parts[PARTS];
        split_pair(parts, x.x, x.y);
#pragma unroll
        for (int p = 0; p < PARTS; p++) to[p][e] = parts[p];
    }
}

/* The first of those parts alone. */
template <int PITCH> __device__ __forceinline__ void round_rows(unsigned to[4], const float *from) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float2 x = *(const float2 *)(from + e % 2 * 8 * PITCH + e / 2 * 8);
        to[e] = matrix_unit<bfloat16>::pack(x.x, x.y);
    }
}

/* As split_rows, of numbers 16j … that a product has left in registers. */
__device__ __forceinline__ void split_sums(unsigned to[PARTS][4], const float *sums, int j) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float *pair = &sums[4 * (2 * j + e / 2) + e % 2 * 2];
        unsigned parts[PARTS];
        split_pair(parts, pair[0], pair[1]);
#pragma unroll
        for (int p = 0; p < PARTS; p++) to[p][e] = parts[p];
    }
}

#endif
