/* Attention of float16 or bfloat16 on matrix units: FlashAttention-2's way (Dao, 2023). A warp holds STRIPS strips of 16 rows; S
 * stays in registers, rounded to TYPE as P for its product with V; K and V come through shared memory, each loaded while the
 * other is multiplied.
 *
 * KDIM, VDIM: Dk and Dv rounded up to a multiple of 32. SLABS: Dk is greater than KDIM, and Q and K come in slabs of KDIM features,
 * again for each tile of keys. WARPS, STRIPS: 16 · WARPS · STRIPS rows a block. KEYS: a tile. COPIES: rows
 * of q, k and v are such that 16-byte copies may take them. POSITIVE: so is scale. RESIDENT: blocks a multiprocessor is to hold. */
#include "attention_mma.cuh"
#include "attention_tile.cuh"

typedef matrix_unit<TYPE> unit_of;
enum { THREADS = 32 * WARPS, BLOCK_ROWS = 16 * WARPS * STRIPS };
/* Rows lie 16 bytes further apart than they are long, so that eight of them are in different banks. */
enum { K_PITCH = KDIM + 8, V_PITCH = VDIM + 8 };
/* Scores are brought to base 2 before m is taken, or their factor is left to the exponential. */
#define EARLY (SOFTCAP || ADDITIVE || !POSITIVE)

/* The block's rows of q, which lie apart where a group shares them: features from `unit` on. */
__device__ __forceinline__ void load_queries(bits16 *to, const invar_cuda_attention &of, char *unit, int first, int count,
                                             int columns) {
#if COPIES
    for (int i = threadIdx.x; i < BLOCK_ROWS * (KDIM / 8); i += THREADS) {
        const int row = i / (KDIM / 8), column = i % (KDIM / 8) * 8;
        const bool there = row < count && column < columns;
        copy_16(to + row * K_PITCH + column, there ? row_of(of, of.q, unit, first + row) + column * 2 : unit, there ? 16 : 0);
    }
#else
    for (int i = threadIdx.x; i < BLOCK_ROWS * KDIM; i += THREADS) {
        const int row = i / KDIM, column = i % KDIM;
        const bool there = row < count && column < columns;
        const char *from = there ? row_of(of, of.q, unit, first + row) + column * of.q.column_stride : 0;
        to[row * K_PITCH + column] = there ? *(const bits16 *)from : 0;
    }
#endif
}

/* What a warp holds: fragment n of S is keys 8n …, of O columns 8n …; elements 0 and 1 are row lane / 4, 2 and 3 the row 8 below. */
struct warp_state {
    float s[STRIPS][KEYS / 8][4], o[STRIPS][VDIM / 8][4];
    float m[STRIPS][2], l[STRIPS][2]; /* l: of this thread's keys */
};

__device__ __forceinline__ void clear_scores(warp_state &w) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) w.s[i][n][e] = 0.0f;
}

/* S += Q Kᵀ. q, k: shared addresses of this thread's share of the first fragments. */
__device__ __forceinline__ void score(warp_state &w, unsigned q, unsigned k) {
#pragma unroll
    for (int d = 0; d < KDIM; d += 16) {
        unsigned a[STRIPS][4], b[4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++) load_matrices(a[i], q + 2 * (16 * i * K_PITCH + d));
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            load_matrices(b, k + 2 * (8 * n * K_PITCH + d));
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                unit_of::multiply(w.s[i][n], a[i], b[0], b[1]);
                unit_of::multiply(w.s[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* O += P V, P being S's numbers, rounded. */
__device__ __forceinline__ void add_values(warp_state &w, unsigned v) {
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
        unsigned a[STRIPS][4], b[4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float *pair = &w.s[i][2 * j + e / 2][e % 2 * 2];
                a[i][e] = unit_of::pack(pair[0], pair[1]);
            }
#pragma unroll
        for (int n = 0; n < VDIM / 8; n += 2) {
            load_transposed(b, v + 2 * (16 * j * V_PITCH + 8 * n));
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                unit_of::multiply(w.o[i][n], a[i], b[0], b[1]);
                unit_of::multiply(w.o[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* What a tile's scores are masked by. */
struct masking {
    const invar_cuda_attention *of;
    const char *mask; /* the unit's first row */
    int length, first_row, rows;
};

/* -infinity for keys that a row does not see; the mask's value is added. row: of the strip's upper rows; key: this thread's first. */
__device__ __forceinline__ void mask_strip(float s[KEYS / 8][4], const masking &by, int row, int key) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half < by.rows ? row + 8 * half : by.rows - 1;
        const key_range range = range_of(*by.of, by.length, r / by.of->group);
#if MASK_KIND >= 0
        const char *mask = row_of(*by.of, by.of->mask, (char *)by.mask, r);
#endif
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = key + 8 * n + e;
                bool seen = at >= range.first && at < range.last;
                float &x = s[n][2 * half + e];
#if MASK_KIND >= 0
                if (seen) {
                    const float value = read_number(mask + at * by.of->mask.column_stride, MASK_KIND);
                    if (ADDITIVE) x = fmaf(value, LOG2E, x);
                    seen = ADDITIVE ? value != MINUS_INFINITY : value != 0.0f;
                }
#endif
                x = seen ? x : MINUS_INFINITY;
            }
    }
}

/* The new m of each row; O and l are scaled to it. base: what exponents are taken from. */
__device__ __forceinline__ void raise(warp_state &w, float base[STRIPS][2], float scale) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = w.m[i][half];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) most = fmaxf(most, fmaxf(w.s[i][n][2 * half], w.s[i][n][2 * half + 1]));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            const float seen = most == MINUS_INFINITY ? 0.0f : most;
            const float factor = exp2_fast((w.m[i][half] - seen) * scale); /* exactly 1 where m stays */
            base[i][half] = seen * scale;
            w.m[i][half] = most;
            w.l[i][half] *= factor;
#pragma unroll
            for (int n = 0; n < VDIM / 8; n++) {
                w.o[i][n][2 * half] *= factor;
                w.o[i][n][2 * half + 1] *= factor;
            }
        }
}

/* S becomes P, l its sum. */
__device__ __forceinline__ void weigh(warp_state &w, const float base[STRIPS][2], float scale) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                w.s[i][n][e] = exp2_fast(fmaf(w.s[i][n][e], scale, -base[i][e / 2]));
                w.l[i][e / 2] += w.s[i][n][e];
            }
}

/* Whether a value of the tile is NaN or infinite, for all threads; clear: make it 0. */
template <bool CLEAR> __device__ __forceinline__ bool not_finite(bits16 *v) {
    bool found = false;
    for (int i = threadIdx.x; i < KEYS * (VDIM / 2); i += THREADS) {
        unsigned *pair = (unsigned *)(v + i / (VDIM / 2) * V_PITCH + i % (VDIM / 2) * 2);
        const bool bad = pair_not_finite<TYPE>(*pair);
        if (CLEAR && bad) {
            if ((*pair & unit_of::exponent) == unit_of::exponent) *pair &= 0xffff0000u;
            if ((*pair >> 16 & unit_of::exponent) == unit_of::exponent) *pair &= 0x0000ffffu;
        }
        found |= bad;
    }
    return __syncthreads_or(found);
}

/* A tile that not all rows see whole, and that holds values which are not finite: they are added to O where the row sees the key,
 * and cleared, so that they reach no other row of the product. */
__device__ __forceinline__ void add_not_finite(warp_state &w, bits16 *v) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned long long seen = 0;
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (w.s[i][n][2 * half + e] != MINUS_INFINITY) seen |= 1ull << (8 * n + e);
            seen <<= column;
            seen |= __shfl_xor_sync(0xffffffffu, seen, 1);
            seen |= __shfl_xor_sync(0xffffffffu, seen, 2);
            for (int key = 0; key < KEYS; key++) {
                if (!(seen >> key & 1)) continue;
#pragma unroll
                for (int n = 0; n < VDIM / 8; n++) {
                    const unsigned pair = *(const unsigned *)(v + key * V_PITCH + 8 * n + column);
                    TYPE low = { (bits16)pair }, high = { (bits16)(pair >> 16) };
                    if ((pair & unit_of::exponent) == unit_of::exponent) w.o[i][n][2 * half] += widen(low);
                    if ((pair >> 16 & unit_of::exponent) == unit_of::exponent) w.o[i][n][2 * half + 1] += widen(high);
                }
            }
        }
    __syncthreads();
    not_finite<true>(v);
}

/* A row's part of a split. */
__device__ __forceinline__ void store_part(const invar_cuda_attention_job &job, const share &at, int r, float m, float l,
                                           const float o[VDIM / 8][4], int half) {
    const int column = threadIdx.x % 4 * 2, columns = job.of.value_dim;
    const long long part = (at.unit * job.of.group * job.of.query_len + r) * job.splits + at.split;
    float *to = job.parts + part * columns;
#pragma unroll
    for (int n = 0; n < VDIM / 8; n++) {
        if (8 * n + column < columns) to[8 * n + column] = o[n][2 * half];
        if (8 * n + column + 1 < columns) to[8 * n + column + 1] = o[n][2 * half + 1];
    }
    if (threadIdx.x % 4) return;
    job.stats[2 * part] = m;
    job.stats[2 * part + 1] = l;
}

/* A row's out and lse. */
__device__ __forceinline__ void store_row(const invar_cuda_attention &of, const share &at, int r, float m, float l,
                                          const float o[VDIM / 8][4], int half) {
    const int column = threadIdx.x % 4 * 2, head = at.kv_head * of.group + r % of.group, query = r / of.group;
    const long long step = of.out.column_stride;
    float lse;
    const float factor = finish_row(of, m, l, head, &lse);
    if (of.out.data) {
        char *out = batch_of(of, of.out, at.batch) + head * of.out.head_stride + query * of.out.row_stride;
        const bool pairs = step == 2 && (unsigned long long)out % 4 == 0;
#pragma unroll
        for (int n = 0; n < VDIM / 8; n++) {
            const int c = 8 * n + column;
            const unsigned pair = l == 0.0f ? 0u : unit_of::pack(o[n][2 * half] * factor, o[n][2 * half + 1] * factor);
            if (pairs && c + 1 < of.value_dim) {
                *(unsigned *)(out + 2 * c) = pair;
                continue;
            }
            if (c < of.value_dim) *(bits16 *)(out + c * step) = (bits16)pair;
            if (c + 1 < of.value_dim) *(bits16 *)(out + (c + 1) * step) = (bits16)(pair >> 16);
        }
    }
    if (of.lse.data && threadIdx.x % 4 == 0)
        *(float *)(batch_of(of, of.lse, at.batch) + head * of.lse.head_stride + query * of.lse.row_stride) = lse;
}

__device__ __forceinline__ void store(const invar_cuda_attention_job &job, const share &at, const warp_state &w, int row, int last,
                                      float scale) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float l = w.l[i][half];
            l += __shfl_xor_sync(0xffffffffu, l, 1);
            l += __shfl_xor_sync(0xffffffffu, l, 2);
            const int r = row + 16 * i + 8 * half;
            if (r >= last) continue;
            if (job.splits > 1) store_part(job, at, r, w.m[i][half] * scale, l, w.o[i], half);
            else store_row(job.of, at, r, w.m[i][half] * scale, l, w.o[i], half);
        }
}

__device__ __forceinline__ void begin(warp_state &w) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++) {
        w.m[i][0] = w.m[i][1] = MINUS_INFINITY;
        w.l[i][0] = w.l[i][1] = 0.0f;
#pragma unroll
        for (int n = 0; n < VDIM / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) w.o[i][n][e] = 0.0f;
    }
}

/* Scores as raise() wants them: in base 2 where EARLY, masked where a row may not see all keys. */
__device__ __forceinline__ void prepare(warp_state &w, const masking &by, bool partly, int key) {
    const int row = by.first_row;
#if EARLY
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) w.s[i][n][e] = in_base_2(*by.of, w.s[i][n][e]);
#endif
    if (!partly) return;
#pragma unroll
    for (int i = 0; i < STRIPS; i++) mask_strip(w.s[i], by, row + 16 * i, key + threadIdx.x % 4 * 2);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
invar_attention_half(const __grid_constant__ invar_cuda_attention_job job) {
    extern __shared__ __align__(16) bits16 shared[];
    bits16 *q = shared, *k_tile = q + BLOCK_ROWS * K_PITCH, *v_tile = k_tile + KEYS * K_PITCH;
    const invar_cuda_attention &of = job.of;
    __shared__ share at; /* registers are scarce: these are read again */
    __shared__ tile_range range;
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16 * STRIPS, rows = of.group * of.query_len;
    if (threadIdx.x == 0) at = share_of(job);
    __syncthreads();
    const int first = at.tile * BLOCK_ROWS, last = first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows;
    const int length = length_of(of, at.batch), head = at.kv_head * of.group;
    if (threadIdx.x == 0) range = tile_range_of(job, at, length, first, last);
    __syncthreads();
    const char *k = batch_of(of, of.k, at.batch) + at.kv_head * of.k.head_stride;
    const char *v = batch_of(of, of.v, at.batch) + at.kv_head * of.v.head_stride;
    const unsigned q_at = shared_address(q + (warp_row + lane % 16) * K_PITCH + lane / 16 * 8);
    const unsigned k_at = shared_address(k_tile + (lane / 16 * 8 + lane % 8) * K_PITCH + lane / 8 % 2 * 8);
    const unsigned v_at = shared_address(v_tile + lane % 16 * V_PITCH + lane / 16 * 8);
    const masking by = { &of, MASK_KIND < 0 ? 0 : batch_of(of, of.mask, at.batch) + head * of.mask.head_stride, length,
                         first + warp_row + lane / 4, rows };
    const float scale = EARLY ? 1.0f : of.score_scale;
    warp_state w;
    begin(w);
    int key = range.first / KEYS * KEYS;
    char *unit = batch_of(of, of.q, at.batch) + head * of.q.head_stride;
    if (!SLABS && key < range.last) {
        load_queries(q, of, unit, first, last - first, of.key_dim);
        load_tile<THREADS, KEYS, KDIM, K_PITCH>(k_tile, k + key * of.k.row_stride, of.k, length - key, of.key_dim);
    }
    for (; key < range.last; key += KEYS) {
        const bool partly = MASK_KIND >= 0 || key < range.all_first || key + KEYS > range.all_last;
        float base[STRIPS][2];
        clear_scores(w);
        for (int d = 0; SLABS && d < of.key_dim; d += KDIM) {
            __syncthreads();
            load_queries(q, of, unit + d * of.q.column_stride, first, last - first, of.key_dim - d);
            load_tile<THREADS, KEYS, KDIM, K_PITCH>(k_tile, k + key * of.k.row_stride + d * of.k.column_stride, of.k, length - key,
                                                    of.key_dim - d);
            copy_wait<0>();
            __syncthreads();
            score(w, q_at, k_at);
        }
        copy_wait<0>();
        __syncthreads();
        load_tile<THREADS, KEYS, VDIM, V_PITCH>(v_tile, v + key * of.v.row_stride, of.v, length - key, of.value_dim);
        if (!SLABS) score(w, q_at, k_at);
        copy_wait<0>();
        __syncthreads();
        if (!SLABS && key + KEYS < range.last)
            load_tile<THREADS, KEYS, KDIM, K_PITCH>(k_tile, k + (key + KEYS) * of.k.row_stride, of.k, length - key - KEYS,
                                                    of.key_dim);
        prepare(w, by, partly, key);
        raise(w, base, scale);
        if (partly && not_finite<false>(v_tile)) add_not_finite(w, v_tile);
        weigh(w, base, scale);
        add_values(w, v_at);
    }
    store(job, at, w, by.first_row, last, scale);
}
