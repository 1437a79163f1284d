/* Products of float32 tiles in shared memory by multiply-adds, which attention's programs for float32 share.
 *
 * Rows of the left tile, and of results, are a warp's own: LANES of its threads, 8 or 16, share ROWS of them, 32 / LANES apart. A
 * thread takes of the right tile's rows every LANES'th, of its columns four of each 4 · LANES. With 8 rows by 8 numbers a thread
 * needs a sixteenth as many 16-byte reads as multiply-adds.
 *
 * Of a thread's neighbours in its warp the next has the same rows of the right tile, and the next but one the same rows of the left
 * one, so that any half warp reads eight different 16 bytes of either at most. Rows that are read at once lie 4 banks apart, weights
 * 8, since they are also written one by one: neither meets another in its bank. */
#ifndef INVAR_ATTENTION_FLOAT_CUH
#define INVAR_ATTENTION_FLOAT_CUH
#include "attention.cuh"

enum { ABREAST = 32 / LANES, WARP_ROWS = ROWS * ABREAST, SPAN = 4 * LANES /* columns from a thread's four to its next */ };

__device__ __forceinline__ int lane_x() { return threadIdx.x / 2 % LANES; }
__device__ __forceinline__ int lane_y() { return LANES == 8 ? threadIdx.x % 2 + threadIdx.x / 16 % 2 * 2 : threadIdx.x % 2; }

template <int COUNT> __device__ __forceinline__ void clear(float (&x)[ROWS][COUNT]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int j = 0; j < COUNT; j++) x[r][j] = 0.0f;
}

/* Every COUNT rows' four numbers at `from`, `apart` floats from each other. */
template <int COUNT, int APART> __device__ __forceinline__ void read_rows(float (&to)[COUNT][4], const float *from) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const float4 x = *(const float4 *)(from + i * APART);
        to[i][0] = x.x, to[i][1] = x.y, to[i][2] = x.z, to[i][3] = x.w;
    }
}

/* to += near · farᵀ, over `depth` features; rows of both are PITCH apart, with 4 more floats behind the features. The fewer of both
 * tiles' rows are held, and the next four features of them fetched meanwhile; the others' come one after the other. */
template <int PITCH, int EACH>
__device__ __forceinline__ void multiply(float (&to)[ROWS][EACH], const float *near, const float *far, int depth) {
    enum { HELD = ROWS <= EACH ? ROWS : EACH, PASSED = ROWS <= EACH ? EACH : ROWS };
    enum { HELD_APART = (ROWS <= EACH ? ABREAST : LANES) * PITCH, PASSED_APART = (ROWS <= EACH ? LANES : ABREAST) * PITCH };
    near += lane_y() * PITCH;
    far += lane_x() * PITCH;
    const float *held = ROWS <= EACH ? near : far, *passed = ROWS <= EACH ? far : near;
    float now[HELD][4], next[HELD][4];
    read_rows<HELD, HELD_APART>(now, held);
#pragma unroll 2
    for (int d = 0; d < depth; d += 4) {
        read_rows<HELD, HELD_APART>(next, held + d + 4);
#pragma unroll
        for (int p = 0; p < PASSED; p++) {
            float one[1][4];
            read_rows<1, 0>(one, passed + p * PASSED_APART + d);
#pragma unroll
            for (int e = 0; e < 4; e++)
#pragma unroll
                for (int h = 0; h < HELD; h++) {
                    float &sum = ROWS <= EACH ? to[h % ROWS][p % EACH] : to[p % ROWS][h % EACH];
                    sum = fmaf(now[h][e], one[0][e], sum);
                }
        }
#pragma unroll
        for (int h = 0; h < HELD; h++)
#pragma unroll
            for (int e = 0; e < 4; e++) now[h][e] = next[h][e];
    }
}

/* to += weights · far, over COUNT rows of far; SELECT: but for weights of the bits UNSEEN, whose far row may hold what is not finite.
 * There are 4 more floats behind a row's weights. */
template <bool SELECT, unsigned UNSEEN, int COUNT, int WEIGHT_PITCH, int PITCH, int COLUMNS>
__device__ __forceinline__ void accumulate(float (&to)[ROWS][COLUMNS], const float *weights, const float *far) {
    float now[ROWS][4], next[ROWS][4];
    weights += lane_y() * WEIGHT_PITCH;
    far += lane_x() * 4;
    read_rows<ROWS, ABREAST * WEIGHT_PITCH>(now, weights);
#pragma unroll 2
    for (int j = 0; j < COUNT; j += 4) {
        read_rows<ROWS, ABREAST * WEIGHT_PITCH>(next, weights + j + 4);
#pragma unroll
        for (int e = 0; e < 4; e++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c += 4) {
                float x[1][4];
                read_rows<1, 0>(x, far + (j + e) * PITCH + c / 4 * SPAN);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int r = 0; r < ROWS; r++)
                        if (!SELECT || __float_as_uint(now[r][e]) != UNSEEN) to[r][c + i] = fmaf(now[r][e], x[0][i], to[r][c + i]);
            }
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int e = 0; e < 4; e++) now[r][e] = next[r][e];
    }
}

#endif
