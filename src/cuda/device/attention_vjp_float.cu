/* Attention's gradients in float32 arithmetic, for every mix of element types, with multiply-adds: a block holds NEAR rows and walks
 * over tiles of FAR rows, all as float in shared memory. Near rows are a warp's own: its threads compute the scores of a tile and
 * their gradients, leave weights, then gradients, in the warp's part of shared memory, and add their products with far rows to sums
 * that they hold.
 *
 * BY_KEYS, SECOND: as attention_vjp_half.cu tells, dq or dk always. DIM: the wider of Dk and Dv, rounded up to 64, 128 or 256.
 * WARPS: of a block. ROWS, LANES: as attention_float.cuh tells. RESIDENT: blocks a multiprocessor is to hold. VECTOR: all rows are
 * float32 that 16-byte copies may take. */
#include "attention_vjp.cuh"
#include "attention_float.cuh"

enum { THREADS = 32 * WARPS, NEAR = WARPS * WARP_ROWS, PITCH = DIM + 4, EACH = FAR / LANES, COLUMNS = DIM / LANES,
       SCORE_PITCH = FAR + 8 };
#define UNSEEN 0x7fc0deadu /* a masked pair, where its far row holds numbers that are not finite; no arithmetic gives this NaN */

struct tiles {
    float near_k[NEAR][PITCH], near_v[NEAR][PITCH], far_k[FAR][PITCH], far_v[FAR][PITCH];
    float score[NEAR][SCORE_PITCH];
    float2 row[BY_KEYS ? FAR : NEAR]; /* lse and delta of the queries */
};

/* Rows of a head; zeros behind the `count` that there are and behind the columns. */
template <int COUNT>
__device__ __forceinline__ void load_rows(float (*to)[PITCH], const char *from, const invar_cuda_operand &x, int count, int columns) {
#if VECTOR
#pragma unroll 4
    for (int i = threadIdx.x; i < COUNT * (DIM / 4); i += THREADS) {
        const int row = i / (DIM / 4), column = i % (DIM / 4) * 4;
        copy_16(&to[row][column], from + row * x.row_stride + column * 4, row < count && column < columns ? 16 : 0);
    }
#else
    for (int i = threadIdx.x; i < COUNT * DIM; i += THREADS) {
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

/* Scores become weights, and d the scores' gradients; `unseen` stands for masked pairs. here: the warp's first row of the block. */
template <bool PARTLY>
__device__ __forceinline__ void weigh_tile(const tiles &at, float (&s)[ROWS][EACH], float (&d)[ROWS][EACH],
                                           const invar_cuda_attention &of, const char *mask, int length, int here, int near, int far,
                                           float unseen) {
#pragma unroll
    for (int j = 0; j < EACH; j++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int near_row = here + lane_y() + ABREAST * r, far_row = lane_x() + LANES * j;
            const int query = BY_KEYS ? far + far_row : near + near_row, key = BY_KEYS ? near + near_row : far + far_row;
            const float2 row = at.row[BY_KEYS ? far_row : near_row];
            float added = 0.0f;
            const bool seen = !PARTLY ||
                              (sees(of, mask, range_of(of, length, query), query, key, &added) && row.x != SEES_NOTHING);
            const float2 x = weigh_pair(of, s[r][j], d[r][j], row, added);
            s[r][j] = seen ? x.x : unseen;
            d[r][j] = seen ? x.y : unseen;
        }
}

/* x, a number for each pair, where the warp's threads find it. */
__device__ __forceinline__ void leave(tiles &at, const float (&x)[ROWS][EACH], int here) {
    __syncwarp();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int j = 0; j < EACH; j++) at.score[here + lane_y() + ABREAST * r][lane_x() + LANES * j] = x[r][j];
    __syncwarp();
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

template <bool SELECT>
__device__ __forceinline__ void add_tile(float (&to)[ROWS][COLUMNS], tiles &at, const float (&x)[ROWS][EACH],
                                         const float (*far)[PITCH], int here) {
    leave(at, x, here);
    accumulate<SELECT, UNSEEN, FAR, SCORE_PITCH, PITCH>(to, at.score[here], far[0]);
}

/* This thread's sums; keys that the batch does not have get 0. */
__device__ __forceinline__ void store(const invar_cuda_attention_vjp_job &job, const invar_cuda_operand &x, const share_near &at,
                                      const float (&sums)[ROWS][COLUMNS], int here, int columns, float factor) {
    const invar_cuda_attention &of = job.of;
    if (!x.data) return;
    char *head = head_of(of, x, at.batch, at.head);
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int row = at.first + here + lane_y() + ABREAST * r, column = lane_x() * 4 + c % 4 + c / 4 * SPAN;
            const bool there = !BY_KEYS || row < at.length;
            if (row < at.last && column < columns && (!job.again || *again_of(job, at, row)))
                write_number(head + row * x.row_stride + column * x.column_stride, x.kind,
                             there ? fmaf(sums[r][c], factor, 0.0f) : 0.0f);
        }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
invar_attention_vjp_float(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) char shared[];
    tiles &tile = *(tiles *)shared;
    const invar_cuda_attention &of = job.of;
    const share_near at = share_of(job, NEAR);
    static_assert(NEAR <= THREADS, "a thread asks for one row");
    if (job.again) {
        const int row = at.first + threadIdx.x;
        if (!__syncthreads_or(row < at.last && *again_of(job, at, row))) return;
    }
    const span range = span_of(of, at);
    const int begins = range.first / FAR * FAR, far_last = BY_KEYS ? of.query_len : at.length;
    const int first_head = BY_KEYS ? at.head * of.group : at.head / of.group;
    const int heads = range.first >= range.last ? 0 : BY_KEYS ? of.group : 1;
    const int here = threadIdx.x / 32 * WARP_ROWS;
    float first[ROWS][COLUMNS];
    clear(first);
#if SECOND
    float second[ROWS][COLUMNS];
    clear(second);
#endif
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
            float s[ROWS][EACH], d[ROWS][EACH];
            const char *mask = mask_of(of, at.batch, BY_KEYS ? head : at.head);
            const bool partly = MASK_KIND >= 0 || far < range.all_first || far + FAR > range.all_last;
            __syncthreads();
            load_far(tile, job, at.batch, head, far, far_last);
            __syncthreads();
            clear(s);
            clear(d);
            multiply<PITCH>(s, tile.near_k[here], tile.far_k[0], of.key_dim);
            multiply<PITCH>(d, tile.near_v[here], tile.far_v[0], of.value_dim);
            const bool select = partly && __syncthreads_or(not_finite(tile));
            const float unseen = select ? __uint_as_float(UNSEEN) : 0.0f;
            if (partly) weigh_tile<true>(tile, s, d, of, mask, at.length, here, at.first, far, unseen);
            else weigh_tile<false>(tile, s, d, of, mask, at.length, here, at.first, far, unseen);
#if SECOND
            if (select) add_tile<true>(second, tile, s, tile.far_v, here);
            else add_tile<false>(second, tile, s, tile.far_v, here);
#endif
            if (select) add_tile<true>(first, tile, d, tile.far_k, here);
            else add_tile<false>(first, tile, d, tile.far_k, here);
        }
    store(job, BY_KEYS ? job.dk : job.dq, at, first, here, of.key_dim, of.scale);
#if SECOND
    store(job, job.dv, at, second, here, of.value_dim, 1.0f);
#endif
}
