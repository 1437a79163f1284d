/* Rows of the norms on CUDA devices: which thread holds which elements, how they are read and written, sums over a row.
 *
 * Element i of a row belongs to piece i / VEC, and piece p to thread p % n of the n that share the row: GROUP of a block, or, of long
 * rows, those of CLUSTER blocks in their order, which run at once and reach each other's shared memory. A sum is a chain over a
 * thread's elements in ascending order, then a tree over threads. So a row's sums depend on VEC, GROUP, CLUSTER and the features
 * alone, which the types, the features and the architecture choose; alignment and strides only choose how bytes travel.
 *
 * X_TYPE, OTHER_TYPE, Y_TYPE, SUM_TYPE, WEIGHT_TYPE, BIAS_TYPE: element types; HAS_WEIGHT, HAS_BIAS: whether there is one.
 * VEC: elements of a piece. GROUP: a power of two from 8 to 512.
 * PIECES: a thread's share of a row. 0: what the row makes it, which no thread holds: the row is read anew in each pass.
 * WIDTH: elements that an access moves, where features are contiguous and every row allows it; 0: one by one, wherever they lie. */
#ifndef INVAR_NORM_ROW_CUH
#define INVAR_NORM_ROW_CUH
#include "norm_job.h"
#include "norm_memory.cuh"

#define WARPS (GROUP / 32 * CLUSTER) /* of a row; 0 where several rows share a warp */
#define RANK ((int)(blockIdx.x % CLUSTER)) /* of this block among those that share its rows */
#if CLUSTER > 1
#define CLUSTERED __cluster_dims__(CLUSTER, 1, 1)
#else
#define CLUSTERED
#endif

#if PIECES
typedef int place; /* of an element in a row */
#define FOR_PIECES _Pragma("unroll") for (int c = 0; c < PIECES; c++)
#else
typedef long long place;
#define FOR_PIECES _Pragma("unroll 2") for (place c = 0; c * (GROUP * CLUSTER * VEC) < features; c++)
#endif
#define STEP(type, step) (WIDTH ? (long long)sizeof(type) : (step)) /* bytes from one feature to the next */
#define FOR_ELEMENTS _Pragma("unroll") for (int j = 0; j < VEC; j++)

__device__ __forceinline__ place place_of(place c) {
    return (c * (GROUP * CLUSTER) + RANK * GROUP + (int)(threadIdx.x % GROUP)) * VEC;
}

/* Whether element j of the piece at i is one of the row's. */
__device__ __forceinline__ bool inside(place i, int j, place features) { return WIDTH == VEC ? i < features : i + j < features; }

/* ---- pieces ------------------------------------------------------------------------------------------- */

template <typename T> struct __align__(8) piece {
    unsigned word[VEC * sizeof(T) / 4];
};

/* j is a constant wherever loops are unrolled. */
__device__ __forceinline__ float element(const piece<float> &p, int j) { return __uint_as_float(p.word[j]); }
__device__ __forceinline__ float element(const piece<bfloat16> &p, int j) {
    return __uint_as_float(j % 2 ? p.word[j / 2] & 0xffff0000u : p.word[j / 2] << 16);
}
__device__ __forceinline__ float element(const piece<half16> &p, int j) {
    half16 half;
    half.bits = (unsigned short)(p.word[j / 2] >> 16 * (j % 2));
    return widen(half);
}

__device__ __forceinline__ void pack(piece<float> &p, const float *v) { FOR_ELEMENTS p.word[j] = __float_as_uint(v[j]); }
template <typename T> __device__ __forceinline__ void pack(piece<T> &p, const float *v) {
#pragma unroll
    for (int j = 0; j < VEC; j += 2) p.word[j / 2] = narrow_two<T>(v[j], v[j + 1]);
}

__device__ __forceinline__ unsigned bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ unsigned bits_of(half16 value) { return value.bits; }
__device__ __forceinline__ unsigned bits_of(bfloat16 value) { return value.bits; }

/* The piece at element i of a row, with zeros behind its end. OFTEN: a vector that every row reads and nothing writes. */
template <bool OFTEN, typename T>
__device__ __forceinline__ void read_piece(piece<T> &p, const char *row, long long step, place i, place features) {
    constexpr int each = 4 / sizeof(T); /* elements of a word */
#if WIDTH > 1
    constexpr int words = WIDTH / each;
#pragma unroll
    for (int j = 0; j < VEC; j += WIDTH) {
        unsigned *to = p.word + j / each;
#pragma unroll
        for (int w = 0; w < words; w++) to[w] = 0;
        if (i + j >= features) continue;
        if (OFTEN) load_often<4 * words>(to, row + (i + j) * (long long)sizeof(T));
        else load_once<4 * words>(to, row + (i + j) * (long long)sizeof(T));
    }
#else
#pragma unroll
    for (int w = 0; w < VEC / each; w++) {
        p.word[w] = 0;
#pragma unroll
        for (int j = 0; j < each; j++)
            if (i + w * each + j < features) p.word[w] |= bits_of(*(const T *)(row + (i + w * each + j) * STEP(T, step))) << 16 * j;
    }
#endif
}

template <typename T>
__device__ __forceinline__ void write_piece(char *row, long long step, place i, place features, const float *v) {
#if WIDTH > 1
    constexpr int words = WIDTH * sizeof(T) / 4;
    piece<T> p;
    pack(p, v);
#pragma unroll
    for (int j = 0; j < VEC; j += WIDTH)
        if (i + j < features) store<4 * words>(row + (i + j) * (long long)sizeof(T), p.word + j * sizeof(T) / 4);
#else
    FOR_ELEMENTS if (i + j < features) *(T *)(row + (i + j) * STEP(T, step)) = narrow<T>(v[j]);
#endif
}

/* ---- rows --------------------------------------------------------------------------------------------- */

/* Where a row lies in an operand, whose data may be NULL. */
__device__ __forceinline__ char *row_of(const invar_cuda_norm_job &job, const invar_cuda_norm_operand &x, long long row) {
    if (job.ndim <= 1) return x.data + row * x.stride[0];
    char *at = x.data;
    if (job.rows < 1ll << 31) { /* 32-bit divisions take a fraction of the time */
        unsigned rest = (unsigned)row;
#pragma unroll 1
        for (int d = job.ndim - 1; d >= 0; d--) {
            const unsigned size = (unsigned)job.shape[d], next = rest / size;
            at += (long long)(rest - next * size) * x.stride[d];
            rest = next;
        }
        return at;
    }
#pragma unroll 1
    for (int d = job.ndim - 1; d >= 0; d--) {
        at += row % job.shape[d] * x.stride[d];
        row /= job.shape[d];
    }
    return at;
}

/* COUNT sums over the threads of each row, all at once; every thread gets them. A tree by halves within a warp, then one over the
 * row's warps, of which 32 apart are added first. turn: counts the calls, from 0: the slots of two turns are apart, so that one
 * barrier a call is enough. */
template <int COUNT> __device__ __forceinline__ void sum_over_row(float (&sum)[COUNT], int &turn) {
    constexpr int lanes = GROUP < 32 ? GROUP : 32;
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2)
#pragma unroll
        for (int s = 0; s < COUNT; s++) sum[s] += __shfl_xor_sync(0xffffffffu, sum[s], step);
#if GROUP > 32
    constexpr int tree = WARPS < 32 ? WARPS : 32;
    __shared__ float slots[2][3][WARPS];
    float(&mine)[3][WARPS] = slots[turn & 1];
#if CLUSTER > 1
    if (threadIdx.x % 32 < CLUSTER) /* a lane to each block */
#pragma unroll
        for (int s = 0; s < COUNT; s++)
            store_in_block(&mine[s][RANK * (GROUP / 32) + threadIdx.x / 32], threadIdx.x % 32, sum[s]);
    cluster_barrier();
#else
    if (threadIdx.x % 32 == 0)
#pragma unroll
        for (int s = 0; s < COUNT; s++) mine[s][threadIdx.x / 32] = sum[s];
    __syncthreads();
#endif
#pragma unroll
    for (int s = 0; s < COUNT; s++) {
        sum[s] = mine[s][threadIdx.x % tree];
#pragma unroll
        for (int w = tree; w < WARPS; w += tree) sum[s] += mine[s][threadIdx.x % tree + w];
    }
#pragma unroll
    for (int step = tree / 2; step > 0; step /= 2)
#pragma unroll
        for (int s = 0; s < COUNT; s++) sum[s] += __shfl_xor_sync(0xffffffffu, sum[s], step);
#endif
    turn++;
}

/* 1 / sqrt, of two correctly rounded operations. */
__device__ __forceinline__ float scale_of(float mean_square, float eps) { return 1.0f / sqrtf(mean_square + eps); }

#endif
