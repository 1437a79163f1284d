/* Attention's gradients in float32 arithmetic, for every mix of element types, with multiply-adds: a block holds NEAR rows and walks
 * over tiles of FAR rows, all as float in shared memory. A thread computes a few scores of a tile and their gradients, leaves them
 * in shared memory, then adds their products with far rows to its 4 · 8 sums.
 *
 * BY_KEYS, SECOND: as attention_vjp_half.cu tells, dq or dk always. DIM: the wider of Dk and Dv, rounded up to 64, 128 or 256.
 * VECTOR: all rows are float32 that 16-byte copies may take. */
#include "attention_vjp.cuh"

enum { THREADS = 128, NEAR = DIM == 64 ? 64 : DIM == 128 ? 32 : 16, FAR = DIM == 256 ? 16 : 32, PITCH = DIM + 4,
       EACH_NEAR = NEAR / 16, EACH_FAR = FAR / 8, /* scores a thread; near rows lie 16 apart, far ones 8 */
       SCORE_PITCH = NEAR + 4, GROUPS = DIM / 8 };
#define UNSEEN 0x7fc0dead /* a masked pair, where its far row holds numbers that are not finite; no arithmetic gives this NaN */

struct tiles {
    float near_k[NEAR][PITCH], near_v[NEAR][PITCH], far_k[FAR][PITCH], far_v[FAR][PITCH];
    float weight[SECOND ? FAR : 1][SCORE_PITCH], score[FAR][SCORE_PITCH];
    float2 row[BY_KEYS ? FAR : NEAR]; /* lse and delta of the queries */
};

struct sums {
    float first[4][8], second[SECOND ? 4 : 1][8];
};

/* Rows of a head; zeros behind the `count` that there are and behind the columns. */
template <int ROWS>
__device__ __forceinline__ void load_rows(float (*to)[PITCH], const char *from, const invar_cuda_operand &x, int count, int columns) {
#if VECTOR
#pragma unroll 4
    for (int i = threadIdx.x; i < ROWS * (DIM / 4); i += THREADS) {
        const int row = i / (DIM / 4), column = i % (DIM / 4) * 4;
        copy_16(&to[row][column], from + row * x.row_stride + column * 4, row < count && column < columns ? 16 : 0);
    }
#else
    for (int i = threadIdx.x; i < ROWS * DIM; i += THREADS) {
        const int row = i / DIM, column = i % DIM;
        const bool there = row < count && column < columns;
        to[row][column] = there ? read_float(from + row * x.row_stride + column * x.column_stride, x.kind) : 0.0f;
    }
#endif
}

__device__ __forceinline__ void load_queries(float2 *to, int size, const float2 *rows, int count) {
    if ((int)threadIdx.x >= size) return;
    to[threadIdx.x] = (int)threadIdx.x < count ? rows[threadIdx.x] : float2{ SEES_NOTHING, 0.0f };
}

__device__ __forceinline__ void load_far(tiles &at, const invar_cuda_attention_vjp_job &job, long long batch, int head, int far,
                                         int last) {
    const invar_cuda_attention &of = job.of;
    load_rows<FAR>(at.far_k, head_of(of, FAR_K, batch, head) + far * FAR_K.row_stride, FAR_K, last - far, of.key_dim);
    load_rows<FAR>(at.far_v, head_of(of, FAR_V, batch, head) + far * FAR_V.row_stride, FAR_V, last - far, of.value_dim);
    if (BY_KEYS) load_queries(at.row, FAR, rows_of(job, batch, head) + far, last - far);
    copy_commit();
    copy_wait<0>();
}

/* This thread's share of near · farᵀ. */
__device__ __forceinline__ void multiply(float to[EACH_NEAR][EACH_FAR], const float (*near)[PITCH], const float (*far)[PITCH],
                                         int columns) {
#pragma unroll
    for (int i = 0; i < EACH_NEAR; i++)
#pragma unroll
        for (int j = 0; j < EACH_FAR; j++) to[i][j] = 0.0f;
    near += threadIdx.x / 8;
    far += threadIdx.x % 8;
#pragma unroll 4
    for (int d = 0; d < columns; d += 4) {
        float4 a[EACH_NEAR], b[EACH_FAR];
#pragma unroll
        for (int i = 0; i < EACH_NEAR; i++) a[i] = *(const float4 *)&near[16 * i][d];
#pragma unroll
        for (int j = 0; j < EACH_FAR; j++) b[j] = *(const float4 *)&far[8 * j][d];
#pragma unroll
        for (int i = 0; i < EACH_NEAR; i++)
#pragma unroll
            for (int j = 0; j < EACH_FAR; j++)
                to[i][j] = fmaf(a[i].w, b[j].w, fmaf(a[i].z, b[j].z, fmaf(a[i].y, b[j].y, fmaf(a[i].x, b[j].x, to[i][j]))));
    }
}

/* Scores and their gradients become what the products take, in shared memory; `unseen` stands for masked pairs. */
template <bool PARTLY>
__device__ __forceinline__ void weigh_tile(tiles &at, const float s[EACH_NEAR][EACH_FAR], const float d[EACH_NEAR][EACH_FAR],
                                           const invar_cuda_attention &of, const char *mask, int length, int near, int far,
                                           float unseen) {
    const int i0 = threadIdx.x / 8, j0 = threadIdx.x % 8;
#pragma unroll
    for (int j = 0; j < EACH_FAR; j++)
#pragma unroll
        for (int i = 0; i < EACH_NEAR; i++) {
            const int near_row = i0 + 16 * i, far_row = j0 + 8 * j;
            const int query = BY_KEYS ? far + far_row : near + near_row, key = BY_KEYS ? near + near_row : far + far_row;
            const float2 row = at.row[BY_KEYS ? far_row : near_row];
            float added = 0.0f;
            const bool seen = !PARTLY ||
                              (sees(of, mask, range_of(of, length, query), query, key, &added) && row.x != SEES_NOTHING);
            const float2 x = weigh_pair(of, s[i][j], d[i][j], row, added);
            if (SECOND) at.weight[far_row][near_row] = seen ? x.x : unseen;
            at.score[far_row][near_row] = seen ? x.y : unseen;
        }
}

/* to += s · far, this thread's 4 rows by 8 columns; SELECT: without masked pairs. */
template <bool SELECT>
__device__ __forceinline__ void accumulate(float to[4][8], const float (*s)[SCORE_PITCH], const float (*far)[PITCH]) {
    const int row = threadIdx.x / GROUPS * 4, column = threadIdx.x % GROUPS * 4;
#pragma unroll 4
    for (int j = 0; j < FAR; j++) {
        const float4 a = *(const float4 *)&s[j][row];
        const float4 low = *(const float4 *)&far[j][column], high = *(const float4 *)&far[j][column + DIM / 2];
        const float by[4] = { a.x, a.y, a.z, a.w };
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (SELECT && __float_as_uint(by[i]) == UNSEEN) continue;
            to[i][0] = fmaf(by[i], low.x, to[i][0]), to[i][1] = fmaf(by[i], low.y, to[i][1]);
            to[i][2] = fmaf(by[i], low.z, to[i][2]), to[i][3] = fmaf(by[i], low.w, to[i][3]);
            to[i][4] = fmaf(by[i], high.x, to[i][4]), to[i][5] = fmaf(by[i], high.y, to[i][5]);
            to[i][6] = fmaf(by[i], high.z, to[i][6]), to[i][7] = fmaf(by[i], high.w, to[i][7]);
        }
    }
}

/* Whether a number of a far tile is NaN or infinite. */
__device__ __forceinline__ bool not_finite(const tiles &at) {
    bool found = false;
    for (int i = threadIdx.x; i < FAR * DIM; i += THREADS) {
        const float k = at.far_k[i / DIM][i % DIM], v = at.far_v[i / DIM][i % DIM];
        found |= !(fabsf(k) < __int_as_float(0x7f800000)) || !(fabsf(v) < __int_as_float(0x7f800000));
    }
    return found;
}

template <bool SELECT> __device__ __forceinline__ void add_tile(sums &x, const tiles &at) {
    accumulate<SELECT>(x.first, at.score, at.far_k);
    if (SECOND) accumulate<SELECT>(x.second, at.weight, at.far_v);
}

/* This thread's sums; keys that the batch does not have get 0. */
__device__ __forceinline__ void store(const invar_cuda_attention &of, const invar_cuda_operand &x, const share_near &at,
                                      const float sums[4][8], int columns, float factor) {
    if (!x.data) return;
    char *head = head_of(of, x, at.batch, at.head);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const int row = at.first + threadIdx.x / GROUPS * 4 + i;
            const int column = threadIdx.x % GROUPS * 4 + c % 4 + c / 4 * (DIM / 2);
            const bool there = !BY_KEYS || row < at.length;
            if (row < at.last && column < columns)
                write_number(head + row * x.row_stride + column * x.column_stride, x.kind,
                             there ? fmaf(sums[i][c], factor, 0.0f) : 0.0f);
        }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
invar_attention_vjp_float(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) char shared[];
    tiles &tile = *(tiles *)shared;
    const invar_cuda_attention &of = job.of;
    const share_near at = share_of(job, NEAR);
    const span range = span_of(of, at);
    const int begins = range.first / FAR * FAR, far_last = BY_KEYS ? of.query_len : at.length;
    const int first_head = BY_KEYS ? at.head * of.group : at.head / of.group;
    const int heads = range.first >= range.last ? 0 : BY_KEYS ? of.group : 1;
    sums x;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int c = 0; c < 8; c++) {
            x.first[i][c] = 0.0f;
            if (SECOND) x.second[i][c] = 0.0f;
        }
    if (heads) {
        const int count = (BY_KEYS ? min(at.last, at.length) : at.last) - at.first;
        load_rows<NEAR>(tile.near_k, head_of(of, NEAR_K, at.batch, at.head) + at.first * NEAR_K.row_stride, NEAR_K, count,
                        of.key_dim);
        load_rows<NEAR>(tile.near_v, head_of(of, NEAR_V, at.batch, at.head) + at.first * NEAR_V.row_stride, NEAR_V, count,
                        of.value_dim);
        if (!BY_KEYS) load_queries(tile.row, NEAR, rows_of(job, at.batch, at.head) + at.first, count);
    }
    for (int head = first_head; head < first_head + heads; head++)
        for (int far = begins; far < range.last; far += FAR) {
            float s[EACH_NEAR][EACH_FAR], d[EACH_NEAR][EACH_FAR];
            const char *mask = mask_of(of, at.batch, BY_KEYS ? head : at.head);
            const bool partly = MASK_KIND >= 0 || far < range.all_first || far + FAR > range.all_last;
            __syncthreads();
            load_far(tile, job, at.batch, head, far, far_last);
            __syncthreads();
            multiply(s, tile.near_k, tile.far_k, of.key_dim);
            multiply(d, tile.near_v, tile.far_v, of.value_dim);
            const bool select = partly && __syncthreads_or(not_finite(tile));
            const float unseen = select ? __int_as_float(UNSEEN) : 0.0f;
            if (partly) weigh_tile<true>(tile, s, d, of, mask, at.length, at.first, far, unseen);
            else weigh_tile<false>(tile, s, d, of, mask, at.length, at.first, far, unseen);
            __syncthreads();
            if (select) add_tile<true>(x, tile);
            else add_tile<false>(x, tile);
        }
    store(of, BY_KEYS ? job.dk : job.dq, at, x.first, of.key_dim, of.scale);
    if (SECOND) store(of, job.dv, at, x.second, of.value_dim, 1.0f);
}
