/* Attention in float32 arithmetic, for element types of any mix: keys in tiles of 64, softmax streamed over them (Milakov &
 * Gimelshein, 2018; Dao et al., 2022). A thread holds ROWS rows and, of S, every sixteenth key, of O four in 64 columns.
 *
 * ROWS: rows a thread, 8 · ROWS a block. KDIM, VDIM: Dk rounded up to a multiple of 32, Dv to one of 64.
 * SLABS: Dk is greater than KDIM, and Q and K come in slabs of KDIM features, again for each tile of keys.
 * Q_KIND, K_KIND, V_KIND: element types. VECTOR: q, k and v are float32 with rows that 16-byte copies may take. */
#include "attention.cuh"

enum { THREADS = 128, KEYS = 64, COLUMNS = VDIM / 16, BLOCK_ROWS = 8 * ROWS, WIDTH = KDIM > VDIM ? KDIM : VDIM };
enum { Q_PITCH = KDIM + 4, K_PITCH = KDIM + 4, V_PITCH = VDIM, P_PITCH = KEYS + 4 };
#define MASKED 0x80000000u /* the bits of -0, which no p has: a key that the row masks out */

/* KEYS rows of numbers into shared memory as float, zeros behind the `count` that there are and behind the columns. */
template <int KIND, int PADDED, int PITCH>
__device__ __forceinline__ void load_tile(float *to, const char *from, const invar_cuda_operand &x, int count, int columns) {
#if VECTOR
    for (int i = threadIdx.x; i < KEYS * (PADDED / 4); i += THREADS) {
        const int row = i / (PADDED / 4), column = i % (PADDED / 4) * 4;
        const bool there = row < count && column < columns;
        copy_16(to + row * PITCH + column, there ? from + row * x.row_stride + column * 4 : from, there ? 16 : 0);
    }
    copy_commit();
#else
    for (int i = threadIdx.x; i < KEYS * PADDED; i += THREADS) {
        const int row = i / PADDED, column = i % PADDED;
        const bool there = row < count && column < columns;
        to[row * PITCH + column] = there ? read_number(from + row * x.row_stride + column * x.column_stride, KIND) : 0.0f;
    }
#endif
}

/* The block's rows of q, which lie apart where a group shares them: features from `unit` on. */
__device__ __forceinline__ void load_queries(float *to, const invar_cuda_attention &of, char *unit, int first, int count,
                                             int columns) {
    for (int i = threadIdx.x; i < BLOCK_ROWS * KDIM; i += THREADS) {
        const int row = i / KDIM, column = i % KDIM;
        const bool there = row < count && column < columns;
        to[row * Q_PITCH + column] =
            there ? read_number(row_of(of, of.q, unit, first + row) + column * of.q.column_stride, Q_KIND) : 0.0f;
    }
}

__device__ __forceinline__ void clear_scores(float s[ROWS][4]) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[r][j] = 0.0f;
}

/* S of a tile, more of it: this thread's rows by keys x, x + 16, x + 32, x + 48. */
__device__ __forceinline__ void score(float s[ROWS][4], const float *q, const float *k, int x) {
#pragma unroll 4
    for (int d = 0; d < KDIM; d += 4) {
        float4 a[ROWS], b[4];
#pragma unroll
        for (int r = 0; r < ROWS; r++) a[r] = *(const float4 *)(q + r * Q_PITCH + d);
#pragma unroll
        for (int j = 0; j < 4; j++) b[j] = *(const float4 *)(k + (x + 16 * j) * K_PITCH + d);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                s[r][j] = fmaf(a[r].w, b[j].w, fmaf(a[r].z, b[j].z, fmaf(a[r].y, b[j].y, fmaf(a[r].x, b[j].x, s[r][j]))));
    }
}

/* O += P V. select: a masked key's value that is not finite stays out. */
template <bool SELECT>
__device__ __forceinline__ void add_values(float o[ROWS][COLUMNS], const float *p, const float *v, int x) {
#pragma unroll 2
    for (int j = 0; j < KEYS; j++) {
        float weight[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) weight[r] = p[r * P_PITCH + j];
#pragma unroll
        for (int c = 0; c < COLUMNS; c += 4) {
            const float4 value = *(const float4 *)(v + j * V_PITCH + c * 16 + x * 4);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (SELECT && __float_as_uint(weight[r]) == MASKED) continue;
                o[r][c] = fmaf(weight[r], value.x, o[r][c]);
                o[r][c + 1] = fmaf(weight[r], value.y, o[r][c + 1]);
                o[r][c + 2] = fmaf(weight[r], value.z, o[r][c + 2]);
                o[r][c + 3] = fmaf(weight[r], value.w, o[r][c + 3]);
            }
        }
    }
}

/* Whether a value of the tile is NaN or infinite, for all threads. */
__device__ __forceinline__ bool any_not_finite(const float *v, int keys) {
    bool found = false;
    for (int i = threadIdx.x; i < keys * (VDIM / 4); i += THREADS) {
        const float4 x = *(const float4 *)(v + i / (VDIM / 4) * V_PITCH + i % (VDIM / 4) * 4);
        found |= !(fabsf(x.x) + fabsf(x.y) + fabsf(x.z) + fabsf(x.w) < __int_as_float(0x7f800000));
    }
    return __syncthreads_or(found);
}

/* What a thread knows of one of its rows. */
struct row_state {
    float m, l; /* so far; l: this thread's keys alone */
};

/* Scores in base 2, -infinity where the row sees nothing. */
__device__ __forceinline__ void mask_row(float s[4], const invar_cuda_attention &of, int length, int row, char *mask, int key) {
    const key_range range = range_of(of, length, row / of.group);
#if MASK_KIND >= 0
    mask = row_of(of, of.mask, mask, row);
#endif
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int at = key + 16 * j;
        s[j] = in_base_2(of, s[j]);
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

__device__ __forceinline__ float most_of_16(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}
__device__ __forceinline__ float sum_of_16(float x) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* P of a row's tile into shared memory; O and l are scaled to the new m. */
__device__ __forceinline__ void weigh_row(const float s[4], row_state &state, float o[COLUMNS], float *p, int x) {
    const float most = most_of_16(fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3])));
    const float m = fmaxf(state.m, most), base = m == MINUS_INFINITY ? 0.0f : m;
    const float factor = exp2f(state.m - base);
    float l = state.l * factor;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float weight = exp2f(s[j] - base);
        l += weight;
        p[x + 16 * j] = s[j] == MINUS_INFINITY ? __uint_as_float(MASKED) : weight;
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) o[c] *= factor;
    state.m = m;
    state.l = l;
}

/* A row's result: its part of a split, or out and lse. */
__device__ __forceinline__ void store_row(const invar_cuda_attention_job &job, const share &at, int r, int x, float m, float l,
                                          const float o[COLUMNS]) {
    const invar_cuda_attention &of = job.of;
    const int head = at.kv_head * of.group + r % of.group, query = r / of.group;
    if (job.splits > 1) {
        const long long part = (at.unit * of.group * of.query_len + r) * job.splits + at.split;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int column = c / 4 * 64 + x * 4 + c % 4;
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
            const int column = c / 4 * 64 + x * 4 + c % 4;
            if (column < of.value_dim)
                write_number(out + column * of.out.column_stride, of.out.kind, l == 0.0f ? 0.0f : o[c] * factor);
        }
    }
    if (of.lse.data && x == 0)
        *(float *)(batch_of(of, of.lse, at.batch) + head * of.lse.head_stride + query * of.lse.row_stride) = lse;
}

extern "C" __global__ void __launch_bounds__(THREADS, ROWS > 2 || VDIM > 128 ? 2 : 3)
invar_attention_float(const __grid_constant__ invar_cuda_attention_job job) {
    extern __shared__ __align__(16) float shared[];
    float *q = shared, *kv = q + BLOCK_ROWS * Q_PITCH, *p = kv + KEYS * (WIDTH + 4);
    const invar_cuda_attention &of = job.of;
    const share at = share_of(job);
    const int x = threadIdx.x % 16, y = threadIdx.x / 16, rows = of.group * of.query_len, first = at.tile * BLOCK_ROWS;
    const int last = first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows, length = length_of(of, at.batch);
    const tile_range range = tile_range_of(job, at, length, first, last);
    const int head = at.kv_head * of.group;
    const char *k = batch_of(of, of.k, at.batch) + at.kv_head * of.k.head_stride;
    const char *v = batch_of(of, of.v, at.batch) + at.kv_head * of.v.head_stride;
    char *mask = MASK_KIND < 0 ? nullptr : batch_of(of, of.mask, at.batch) + head * of.mask.head_stride; /* the unit's */
    row_state state[ROWS];
    float o[ROWS][COLUMNS], s[ROWS][4];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        state[r].m = MINUS_INFINITY;
        state[r].l = 0.0f;
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) o[r][c] = 0.0f;
    }
    char *unit = batch_of(of, of.q, at.batch) + head * of.q.head_stride;
    if (!SLABS) load_queries(q, of, unit, first, last - first, of.key_dim);
    for (int key = range.first / KEYS * KEYS; key < range.last; key += KEYS) {
        const int count = length - key < KEYS ? length - key : KEYS;
        const bool partly = MASK_KIND >= 0 || key < range.all_first || key + KEYS > range.all_last;
        clear_scores(s);
        for (int d = 0; d < (SLABS ? of.key_dim : 1); d += KDIM) {
            __syncthreads();
            if (SLABS) load_queries(q, of, unit + d * of.q.column_stride, first, last - first, of.key_dim - d);
            load_tile<K_KIND, KDIM, K_PITCH>(kv, k + key * of.k.row_stride + d * of.k.column_stride, of.k, count, of.key_dim - d);
            copy_wait<0>();
            __syncthreads();
            score(s, q + y * ROWS * Q_PITCH, kv, x);
        }
        __syncthreads();
        load_tile<V_KIND, VDIM, V_PITCH>(kv, v + key * of.v.row_stride, of.v, count, of.value_dim);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int row = first + y * ROWS + r < rows ? first + y * ROWS + r : rows - 1;
            if (partly) mask_row(s[r], of, length, row, mask, key + x);
            else
#pragma unroll
                for (int j = 0; j < 4; j++) s[r][j] = in_base_2(of, s[r][j]);
            weigh_row(s[r], state[r], o[r], p + (y * ROWS + r) * P_PITCH, x);
        }
        copy_wait<0>();
        __syncthreads();
        if (partly && any_not_finite(kv, count)) add_values<true>(o, p + y * ROWS * P_PITCH, kv, x);
        else add_values<false>(o, p + y * ROWS * P_PITCH, kv, x);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const int row = first + y * ROWS + r;
        const float l = sum_of_16(state[r].l);
        if (row < last) store_row(job, at, row, x, state[r].m, l, o[r]);
    }
}
