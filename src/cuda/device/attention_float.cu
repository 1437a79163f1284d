/* Attention in float32 arithmetic, for element types of any mix: keys in tiles of KEYS, softmax streamed over them (Milakov &
 * Gimelshein, 2018; Dao et al., 2022). Rows are a warp's own: its threads compute scores, leave weights in the warp's part of shared
 * memory and add their products with values. While scores are formed the tile's V is on its way, then the next tile's K.
 *
 * WARPS: of a block. ROWS, LANES: as attention_float.cuh tells. KDIM, VDIM: Dk rounded up to a multiple of 32, Dv to one of 64.
 * SLABS: Dk is greater than KDIM, and Q and K come in slabs of KDIM features, again for each tile of keys. RESIDENT: blocks a
 * multiprocessor is to hold. Q_KIND …, VECTOR: as attention_float_tile.cuh tells. */
#include "attention_float.cuh"
#include "attention_float_tile.cuh"

enum { THREADS = 32 * WARPS, BLOCK_ROWS = WARPS * WARP_ROWS, EACH = KEYS / LANES, COLUMNS = VDIM / LANES };
enum { PITCH = KDIM + 4, P_PITCH = KEYS + 8 };
#define MASKED 0x80000000u /* the bits of -0, which no p has: a key that the row masks out */

/* Whether a value of the tile is NaN or infinite, for all threads. */
__device__ __forceinline__ bool any_not_finite(const float *v, int keys) {
    bool found = false;
    for (int i = threadIdx.x; i < keys * (VDIM / 4); i += THREADS) {
        const float4 x = *(const float4 *)(v + i / (VDIM / 4) * VDIM + i % (VDIM / 4) * 4);
        found |= !(fabsf(x.x) + fabsf(x.y) + fabsf(x.z) + fabsf(x.w) < __int_as_float(0x7f800000));
    }
    return __syncthreads_or(found);
}

/* What a thread knows of one of its rows. */
struct row_state {
    float m, l; /* so far; l: this thread's keys alone */
};

/* Scores in base 2, -infinity where the row does not see the key. key: this thread's first. */
__device__ __forceinline__ void mask_row(float s[EACH], const invar_cuda_attention &of, int length, int row, char *mask, int key) {
    const key_range range = range_of(of, length, row / of.group);
#if MASK_KIND >= 0
    mask = row_of(of, of.mask, mask, row);
#endif
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const int at = key + LANES * j;
        bool seen = at >= range.first && at < range.last;
#if MASK_KIND >= 0
        if (seen) {
            const float value = read_number(mask + at * of.mask.column_stride, MASK_KIND);
            if (ADDITIVE) s[j] = fmaf(value, LOG2E, s[j]);
            seen = ADDITIVE ? value != MINUS_INFINITY : value != 0.0f;
        }
#endif
        if (!seen) s[j] = MINUS_INFINITY;
    }
}

__device__ __forceinline__ float most_of_lanes(float x) {
#pragma unroll
    for (int step = LANES; step > 1; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
    for (int step = LANES; step > 1; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* P of a row's tile into shared memory; O and l are scaled to the new m. */
__device__ __forceinline__ void weigh_row(const float s[EACH], row_state &state, float o[COLUMNS], float *p, bool partly) {
    float most = s[0];
#pragma unroll
    for (int j = 1; j < EACH; j++) most = fmaxf(most, s[j]);
    const float m = fmaxf(state.m, most_of_lanes(most)), base = m == MINUS_INFINITY ? 0.0f : m;
    const float factor = exp2_fast(state.m - base);
    float l = state.l * factor;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        const float weight = exp2_fast(s[j] - base);
        l += weight;
        p[LANES * j] = partly && s[j] == MINUS_INFINITY ? __uint_as_float(MASKED) : weight;
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) o[c] *= factor;
    state.m = m;
    state.l = l;
}

/* A row's result: its part of a split, or out and lse. */
__device__ __forceinline__ void store_row(const invar_cuda_attention_job &job, const share &at, int r, float m, float l,
                                          const float o[COLUMNS]) {
    const invar_cuda_attention &of = job.of;
    const int x = lane_x();
    const int head = at.kv_head * of.group + r % of.group, query = r / of.group;
    if (job.splits > 1) {
        const long long part = (at.unit * of.group * of.query_len + r) * job.splits + at.split;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int column = c / 4 * SPAN + x * 4 + c % 4;
            if (column < of.value_dim) job.parts[part * of.value_dim + column] = o[c];
        }
        if (x == 0) {
            job.stats[2 * part] = m;
            job.stats[2 * part + 1] = l;
        }
        return;
    }
    float lse;
    const float factor = finish_row(of, m, l, head, &lse);
    if (of.out.data) {
        char *out = batch_of(of, of.out, at.batch) + head * of.out.head_stride + query * of.out.row_stride;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int column = c / 4 * SPAN + x * 4 + c % 4;
            if (column < of.value_dim)
                write_number(out + column * of.out.column_stride, of.out.kind, l == 0.0f ? 0.0f : o[c] * factor);
        }
    }
    if (of.lse.data && x == 0)
        *(float *)(batch_of(of, of.lse, at.batch) + head * of.lse.head_stride + query * of.lse.row_stride) = lse;
}

/* A tile's scores become weights, in the warp's own part of shared memory. rows: of the unit. */
__device__ __forceinline__ void weigh_tile(float (&s)[ROWS][EACH], row_state (&state)[ROWS], float (&o)[ROWS][COLUMNS], float *p,
                                           const invar_cuda_attention &of, int length, int first, int rows, char *mask, int key,
                                           bool partly) {
    p += lane_y() * P_PITCH + lane_x();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = first + lane_y() + ABREAST * r;
#pragma unroll
        for (int j = 0; j < EACH; j++) s[r][j] = in_base_2(of, s[r][j]);
        if (partly) mask_row(s[r], of, length, row < rows ? row : rows - 1, mask, key + lane_x());
        weigh_row(s[r], state[r], o[r], p + r * ABREAST * P_PITCH, partly);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
invar_attention_float(const __grid_constant__ invar_cuda_attention_job job) {
    extern __shared__ __align__(16) float shared[];
    float *q = shared, *tile_k = q + BLOCK_ROWS * PITCH, *tile_v = tile_k + KEYS * PITCH, *p = tile_v + KEYS * VDIM;
    const invar_cuda_attention &of = job.of;
    const share at = share_of(job);
    const int rows = of.group * of.query_len, first = at.tile * BLOCK_ROWS, here = threadIdx.x / 32 * WARP_ROWS;
    const int last = first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows, length = length_of(of, at.batch);
    const tile_range range = tile_range_of(job, at, length, first, last);
    const int head = at.kv_head * of.group;
    const char *k = batch_of(of, of.k, at.batch) + at.kv_head * of.k.head_stride;
    const char *v = batch_of(of, of.v, at.batch) + at.kv_head * of.v.head_stride;
    char *mask = MASK_KIND < 0 ? nullptr : batch_of(of, of.mask, at.batch) + head * of.mask.head_stride; /* the unit's */
    char *unit = batch_of(of, of.q, at.batch) + head * of.q.head_stride;
    row_state state[ROWS];
    float o[ROWS][COLUMNS], s[ROWS][EACH];
    clear(o);
#pragma unroll
    for (int r = 0; r < ROWS; r++) state[r] = { MINUS_INFINITY, 0.0f };
    p += here * P_PITCH;
    const int begins = range.first / KEYS * KEYS;
    if (!SLABS) {
        load_tile<K_KIND, THREADS, KEYS, KDIM, PITCH>(tile_k, k + begins * of.k.row_stride, of.k, length - begins, of.key_dim);
        load_queries<THREADS, BLOCK_ROWS, KDIM, PITCH>(q, of, unit, first, last - first, of.key_dim);
    }
    for (int key = begins; key < range.last; key += KEYS) {
        const int count = length - key < KEYS ? length - key : KEYS;
        const bool partly = MASK_KIND >= 0 || key < range.all_first || key + KEYS > range.all_last;
        clear(s);
        for (int d = 0; d < (SLABS ? of.key_dim : 1); d += KDIM) {
            if (SLABS) {
                __syncthreads();
                load_queries<THREADS, BLOCK_ROWS, KDIM, PITCH>(q, of, unit + d * of.q.column_stride, first, last - first,
                                                               of.key_dim - d);
                load_tile<K_KIND, THREADS, KEYS, KDIM, PITCH>(tile_k, k + key * of.k.row_stride + d * of.k.column_stride, of.k, count,
                                                              of.key_dim - d);
            }
            copy_wait<0>();
            __syncthreads();
            if (d == 0) load_tile<V_KIND, THREADS, KEYS, VDIM, VDIM>(tile_v, v + key * of.v.row_stride, of.v, count, of.value_dim);
            multiply<PITCH>(s, q + here * PITCH, tile_k, KDIM);
        }
        weigh_tile(s, state, o, p, of, length, first + here, rows, mask, key, partly);
        copy_wait<0>();
        __syncthreads();
        if (!SLABS && key + KEYS < range.last)
            load_tile<K_KIND, THREADS, KEYS, KDIM, PITCH>(tile_k, k + (key + KEYS) * of.k.row_stride, of.k, length - key - KEYS,
                                                          of.key_dim);
        if (partly && any_not_finite(tile_v, count)) accumulate<true, MASKED, KEYS, P_PITCH, VDIM>(o, p, tile_v);
        else accumulate<false, MASKED, KEYS, P_PITCH, VDIM>(o, p, tile_v);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = first + here + lane_y() + ABREAST * r;
        const float l = sum_of_lanes(state[r].l);
        if (row < last) store_row(job, at, row, state[r].m, l, o[r]);
    }
}
