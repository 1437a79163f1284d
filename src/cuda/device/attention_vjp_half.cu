/* Attention's gradients of float16 or bfloat16 on matrix units, in FlashAttention-2's manner (Dao, 2023), but without adding across
 * blocks. A warp holds STRIPS strips of 16 near rows, S = near · farᵀ and its gradient in registers, where they become the left
 * factors of the products with far rows; those come through shared memory, a tile loaded while another is multiplied.
 *
 * BY_KEYS 0: near are q and dout, far k and v, FIRST is dq. BY_KEYS 1: near are k and v, far q and dout, FIRST is dk and SECOND dv;
 * wide heads form them in two launches, since registers hold one. KDIM, VDIM: Dk and Dv rounded up to a multiple of 32. KSLAB,
 * VSLAB: features that a warp forms of dq or dk, and of dv: all, or, of heads of more than 256, a slab. SHARES warps have the same
 * near rows, each a slab and COLUMNS far rows of the tile, whose scores it computes for the others; where shared memory is too small
 * for that SHARES is 1, and the slab, for which all scores are then computed, the block's number along y. WARPS, STRIPS: 16 · WARPS ·
 * STRIPS rows a block. COLUMNS: far rows a warp. COPIES: 16-byte copies may take the rows. RESIDENT: blocks a multiprocessor is to
 * hold. */
#include "attention_mma.cuh"
#include "attention_tile.cuh"
#include "attention_vjp.cuh"

typedef matrix_unit<TYPE> unit_of;
enum { THREADS = 32 * WARPS * SHARES, ROWS = 16 * WARPS * STRIPS, FAR = COLUMNS * SHARES };
/* Rows lie 16 bytes further apart than they are long, so that eight of them are in different banks. */
enum { K_PITCH = KDIM + 8, V_PITCH = VDIM + 8, STAGE = FAR * (K_PITCH + V_PITCH) };
#define SHARE (SHARES > 1 ? (int)(threadIdx.x / 32 % SHARES) : 0)
#define ROW_WARP (threadIdx.x / 32 / SHARES)
/* First feature of the warp's slab. */
#define SLAB_AT(width) (SHARES > 1 ? SHARE * (width) : KSLAB < KDIM || VSLAB < VDIM ? (int)blockIdx.y * (width) : 0)
/* float16 reaches neither far up nor far down: each near row keeps a power of two that the gradients of its scores are multiplied by
 * on their way into the product. */
#define RANGED (FIRST && sizeof(unit_of) && matrix_unit<TYPE>::exponent == 0x7c00u)
enum { MOST_POWER = 100, TOP = 15, SPARE = 3 }; /* numbers stay below 2^TOP; a power that has to fall falls SPARE further */

/* What a warp holds of its near rows; fragments as in attention_half.cu. */
struct warp_state {
    float first[FIRST ? STRIPS : 1][KSLAB / 8][4], second[SECOND ? STRIPS : 1][VSLAB / 8][4];
    int power[STRIPS][2];
    float2 row[STRIPS][2]; /* lse and delta, where near rows are queries */
};

/* Scores and their gradients of a tile: [..][n] is far rows 8n …; then both as left factors. */
struct pairs {
    float s[STRIPS][COLUMNS / 8][4], d[STRIPS][COLUMNS / 8][4];
    unsigned seen[STRIPS][2]; /* bit 8n + e: this thread's far row 8n + e; of a tile that not all rows see whole */
};

/* What warps of the same near rows tell each other of a tile. */
struct exchange {
    uint4 factor[WARPS][SHARES][32]; /* left factors, as each lane has them */
    float most[WARPS][SHARES][16];   /* of each near row */
    unsigned seen[WARPS][SHARES][16];
};
__device__ __forceinline__ void meet_sharers() {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + ROW_WARP), "n"(32 * SHARES) : "memory");
}

/* What decides which pairs are masked. */
struct masking {
    const char *mask; /* of the head */
    int length, near, far; /* near, far: this thread's first rows */
};

template <int DIM, int PITCH>
__device__ __forceinline__ void multiply(float s[STRIPS][COLUMNS / 8][4], unsigned near, unsigned far) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[i][n][e] = 0.0f;
#pragma unroll(DIM > 256 ? 8 : DIM / 16)
    for (int d = 0; d < DIM; d += 16) {
        unsigned a[STRIPS][4], b[4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++) load_matrices(a[i], near + 2 * (16 * i * PITCH + d));
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n += 2) {
            load_matrices(b, far + 2 * (8 * n * PITCH + d));
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                unit_of::multiply(s[i][n], a[i], b[0], b[1]);
                unit_of::multiply(s[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* to += s · far, s rounded. */
template <int DIM, int PITCH>
__device__ __forceinline__ void accumulate(float to[STRIPS][DIM / 8][4], const float s[STRIPS][COLUMNS / 8][4], unsigned far) {
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; j++) {
        unsigned a[STRIPS][4], b[4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float *pair = &s[i][2 * j + e / 2][e % 2 * 2];
                a[i][e] = unit_of::pack(pair[0], pair[1]);
            }
#pragma unroll
        for (int n = 0; n < DIM / 8; n += 2) {
            load_transposed(b, far + 2 * (16 * j * PITCH + 8 * n));
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                unit_of::multiply(to[i][n], a[i], b[0], b[1]);
                unit_of::multiply(to[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* One pair: its score becomes its weight, the gradient of that the gradient of q · k less its scale. row: lse and delta. */
__device__ __forceinline__ void weigh(const invar_cuda_attention &of, float &s, float &d, float2 row, bool seen, float added) {
#if SOFTCAP
    const float bend = tanhf(s * of.cap_scale), slope = fmaf(-bend, bend, 1.0f);
    float exponent = fmaf(of.cap_height, bend, -row.x);
#else
    float exponent = fmaf(s, of.score_scale, -row.x);
#endif
    if (ADDITIVE) exponent = fmaf(added, LOG2E, exponent);
    const float weight = exp2_fast(exponent);
    float gradient = weight * (d - row.y);
#if SOFTCAP
    gradient *= slope;
#endif
    s = seen ? weight : 0.0f;
    d = seen ? gradient : 0.0f;
}

/* All pairs of a tile. far_rows: lse and delta of this thread's first far row, where far rows are queries. */
template <bool PARTLY>
__device__ __forceinline__ void weigh_tile(pairs &x, const warp_state &w, const invar_cuda_attention &of, const masking &by,
                                           const float2 *far_rows) {
    if (PARTLY) {
#pragma unroll
        for (int i = 0; i < STRIPS; i++) x.seen[i][0] = x.seen[i][1] = 0;
    }
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            key_range range = { 0, 0 };
            float2 row = { 0.0f, 0.0f };
            const int far = by.far + 8 * n + e;
            if (BY_KEYS) row = far_rows[8 * n + e];
            if (BY_KEYS && PARTLY) range = range_of(of, by.length, far);
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int near = by.near + 16 * i + 8 * half;
                    bool seen = true;
                    float added = 0.0f;
                    if (!BY_KEYS) row = w.row[i][half];
                    if (PARTLY) {
                        if (!BY_KEYS) range = range_of(of, by.length, near);
                        seen = sees(of, by.mask, range, BY_KEYS ? far : near, BY_KEYS ? near : far, &added) && row.x != SEES_NOTHING;
                        if (seen) x.seen[i][half] |= 1u << (8 * n + e);
                    }
                    weigh(of, x.s[i][n][2 * half + e], x.d[i][n][2 * half + e], row, seen, added);
                }
        }
}

/* A near row's largest number, of all that have the row. */
__device__ __forceinline__ float most_of_all(exchange &all, float most, int half) {
    const int row = threadIdx.x % 32 / 4 + 8 * half;
    if (threadIdx.x % 4 == 0) all.most[ROW_WARP][SHARE][row] = most;
    meet_sharers();
#pragma unroll
    for (int share = 0; share < SHARES; share++) most = fmaxf(most, all.most[ROW_WARP][share][row]);
    return most;
}

/* Brings the gradients of scores into float16's range, row by row. */
__device__ __forceinline__ void fit(pairs &x, warp_state &w, exchange &all) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = 0.0f;
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
                most = fmaxf(most, fmaxf(fabsf(x.d[i][n][2 * half]), fabsf(x.d[i][n][2 * half + 1])));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            if (SHARES > 1) most = most_of_all(all, most, half);
            const int power = w.power[i][half], fits = TOP - 1 + 127 - (int)(__float_as_uint(most) >> 23);
            if (__any_sync(0xffffffffu, fits < power)) {
                const int lower = fits < power ? max(fits - SPARE, -MOST_POWER) : power, by = max(lower - power, -126);
                const float factor = __uint_as_float((unsigned)(127 + by) << 23);
                w.power[i][half] = lower;
#pragma unroll
                for (int n = 0; n < KSLAB / 8; n++) {
                    w.first[i][n][2 * half] *= factor;
                    w.first[i][n][2 * half + 1] *= factor;
                }
            }
            const float factor = __uint_as_float((unsigned)(127 + w.power[i][half]) << 23);
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
                x.d[i][n][2 * half] *= factor;
                x.d[i][n][2 * half + 1] *= factor;
            }
        }
}

/* Whether a number of a far tile is NaN or infinite, for all threads; clear: make it 0. */
template <bool CLEAR, int DIM, int PITCH> __device__ __forceinline__ bool not_finite(bits16 *far) {
    bool found = false;
    for (int i = threadIdx.x; i < FAR * (DIM / 2); i += THREADS) {
        unsigned *pair = (unsigned *)(far + i / (DIM / 2) * PITCH + i % (DIM / 2) * 2);
        if (!pair_not_finite<TYPE>(*pair)) continue;
        found = true;
        if (!CLEAR) continue;
        if ((*pair & unit_of::exponent) == unit_of::exponent) *pair &= 0xffff0000u;
        if ((*pair >> 16 & unit_of::exponent) == unit_of::exponent) *pair &= 0x0000ffffu;
    }
    return found;
}

/* What is not finite in far row `far`, added to one near row's sums. */
template <int DIM, bool NAN_ONLY>
__device__ __forceinline__ void add_row(float to[DIM / 8][4], const bits16 *far, int half) {
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        const unsigned pair = *(const unsigned *)(far + 8 * n);
        const TYPE low = { (bits16)pair }, high = { (bits16)(pair >> 16) };
        if ((pair & unit_of::exponent) == unit_of::exponent) to[n][2 * half] += NAN_ONLY ? __int_as_float(0x7fffffff) : widen(low);
        if ((pair >> 16 & unit_of::exponent) == unit_of::exponent)
            to[n][2 * half + 1] += NAN_ONLY ? __int_as_float(0x7fffffff) : widen(high);
    }
}

/* A tile that not all rows see whole, and that holds numbers which are not finite: those reach the rows that see them, and are
 * cleared, so that they reach no other row of the products. Where k or q is not finite, so is the score, and its gradient NaN. */
__device__ __forceinline__ void add_not_finite(warp_state &w, const pairs &x, bits16 *far_k, bits16 *far_v, exchange &all) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            unsigned seen = x.seen[i][half] << column;
            seen |= __shfl_xor_sync(0xffffffffu, seen, 1);
            seen |= __shfl_xor_sync(0xffffffffu, seen, 2);
            if (SHARES > 1) {
                all.seen[ROW_WARP][SHARE][threadIdx.x % 32 / 4 + 8 * half] = seen;
                meet_sharers();
            }
            for (int far = 0; far < FAR; far++) {
                if (SHARES > 1) seen = all.seen[ROW_WARP][far / COLUMNS][threadIdx.x % 32 / 4 + 8 * half];
                if (!(seen >> far % COLUMNS & 1)) continue;
                if (FIRST) add_row<KSLAB, true>(w.first[i], far_k + far * K_PITCH + SLAB_AT(KSLAB) + column, half);
                if (SECOND) add_row<VSLAB, false>(w.second[i], far_v + far * V_PITCH + SLAB_AT(VSLAB) + column, half);
            }
        }
    __syncthreads();
    not_finite<true, KDIM, K_PITCH>(far_k);
    not_finite<true, VDIM, V_PITCH>(far_v);
    __syncthreads();
}

/* Far rows from `far` on: of k or, BY_KEYS, q; of v or dout; lse and delta, where they are queries. */
__device__ __forceinline__ void load_far_k(bits16 *to, const invar_cuda_attention_vjp_job &job, long long batch, int head, int far,
                                           int last) {
    const invar_cuda_attention &of = job.of;
    load_tile<THREADS, FAR, KDIM, K_PITCH>(to, head_of(of, FAR_K, batch, head) + far * FAR_K.row_stride, FAR_K, last - far,
                                           of.key_dim);
}
__device__ __forceinline__ void load_far_v(bits16 *to, const invar_cuda_attention_vjp_job &job, long long batch, int head, int far,
                                           int last) {
    const invar_cuda_attention &of = job.of;
    load_tile<THREADS, FAR, VDIM, V_PITCH>(to, head_of(of, FAR_V, batch, head) + far * FAR_V.row_stride, FAR_V, last - far,
                                           of.value_dim);
}
__device__ __forceinline__ void load_stats(float2 *stats, const invar_cuda_attention_vjp_job &job, long long batch, int head, int far,
                                           int last) {
    if (!BY_KEYS || threadIdx.x >= FAR) return;
    const int row = far + threadIdx.x;
    copy_8(stats + threadIdx.x, rows_of(job, batch, head) + row, row < last ? 8 : 0);
}

/* The block's rows; of keys, those that the batch has. */
__device__ __forceinline__ void load_near(bits16 *near_k, bits16 *near_v, const invar_cuda_attention_vjp_job &job,
                                          const share_near &at) {
    const invar_cuda_attention &of = job.of;
    const int count = (BY_KEYS ? min(at.last, at.length) : at.last) - at.first;
    load_tile<THREADS, ROWS, KDIM, K_PITCH>(near_k, head_of(of, NEAR_K, at.batch, at.head) + at.first * NEAR_K.row_stride, NEAR_K,
                                            count, of.key_dim);
    if (FIRST)
        load_tile<THREADS, ROWS, VDIM, V_PITCH>(near_v, head_of(of, NEAR_V, at.batch, at.head) + at.first * NEAR_V.row_stride, NEAR_V,
                                                count, of.value_dim);
}

/* All of them into a stage. */
__device__ __forceinline__ void load_far(bits16 *stage, float2 *stats, const invar_cuda_attention_vjp_job &job, long long batch,
                                         int head, int far, int last) {
    load_far_k(stage, job, batch, head, far, last);
    load_stats(stats, job, batch, head, far, last);
    load_far_v(stage + FAR * K_PITCH, job, batch, head, far, last);
}

__device__ __forceinline__ void begin(warp_state &w, const invar_cuda_attention_vjp_job &job, const share_near &at, int near) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = near + 16 * i + 8 * half;
            w.power[i][half] = MOST_POWER;
            w.row[i][half] = float2{ SEES_NOTHING, 0.0f };
            if (!BY_KEYS && row < at.last) w.row[i][half] = rows_of(job, at.batch, at.head)[row];
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
#pragma unroll
            for (int n = 0; n < KSLAB / 8; n++)
                if (FIRST) w.first[i][n][e] = 0.0f;
#pragma unroll
            for (int n = 0; n < VSLAB / 8; n++)
                if (SECOND) w.second[i][n][e] = 0.0f;
        }
    }
}

/* One near row's gradient. */
template <int DIM>
__device__ __forceinline__ void store_row(const invar_cuda_operand &x, char *head, int row, int columns, const float sums[DIM / 8][4],
                                          int half, float factor, bool there) {
    char *to = head + row * x.row_stride + SLAB_AT(DIM) * x.column_stride;
    columns -= SLAB_AT(DIM);
    const int column = threadIdx.x % 4 * 2;
    const bool together = x.column_stride == 2 && (unsigned long long)to % 4 == 0;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        const int c = 8 * n + column;
        const float low = fmaf(sums[n][2 * half], factor, 0.0f), high = fmaf(sums[n][2 * half + 1], factor, 0.0f);
        const unsigned pair = there ? unit_of::pack(low, high) : 0u;
        if (together && c + 1 < columns) {
            *(unsigned *)(to + 2 * c) = pair;
            continue;
        }
        if (c < columns) *(bits16 *)(to + c * x.column_stride) = (bits16)pair;
        if (c + 1 < columns) *(bits16 *)(to + (c + 1) * x.column_stride) = (bits16)(pair >> 16);
    }
}

/* Keys that the batch does not have get 0. */
__device__ __forceinline__ void store(const invar_cuda_attention_vjp_job &job, const share_near &at, const warp_state &w, int near) {
    const invar_cuda_attention &of = job.of;
    const invar_cuda_operand &to = BY_KEYS ? job.dk : job.dq;
    const float shift = exp2f(-job.shift);
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = near + 16 * i + 8 * half;
            const bool there = !BY_KEYS || row < at.length;
            float factor = of.scale * shift;
            if (RANGED) factor *= __uint_as_float((unsigned)(127 - w.power[i][half]) << 23);
            if (row >= at.last) continue;
            if (FIRST) store_row<KSLAB>(to, head_of(of, to, at.batch, at.head), row, of.key_dim, w.first[i], half, factor, there);
            if (SECOND)
                store_row<VSLAB>(job.dv, head_of(of, job.dv, at.batch, at.head), row, of.value_dim, w.second[i], half, shift, there);
        }
}

#if SHARES > 1
/* The left factors of this warp's far rows become everyone's; then, behind a barrier, to += their products with all far rows. */
__device__ __forceinline__ void give(exchange &all, const float s[COLUMNS / 8][4]) {
    unsigned a[4];
#pragma unroll
    for (int e = 0; e < 4; e++) a[e] = unit_of::pack(s[e / 2][e % 2 * 2], s[e / 2][e % 2 * 2 + 1]);
    all.factor[ROW_WARP][SHARE][threadIdx.x % 32] = make_uint4(a[0], a[1], a[2], a[3]);
}
template <int DIM, int PITCH>
__device__ __forceinline__ void accumulate_all(float to[DIM / 8][4], const exchange &all, unsigned far) {
#pragma unroll
    for (int j = 0; j < SHARES; j++) {
        const uint4 factor = all.factor[ROW_WARP][j][threadIdx.x % 32];
        const unsigned a[4] = { factor.x, factor.y, factor.z, factor.w };
        unsigned b[4];
#pragma unroll
        for (int n = 0; n < DIM / 8; n += 2) {
            load_transposed(b, far + 2 * (16 * j * PITCH + 8 * n));
            unit_of::multiply(to[n], a, b[0], b[1]);
            unit_of::multiply(to[n + 1], a, b[2], b[3]);
        }
    }
}

/* Over the far tiles, of which one is held: what the gradient's product needs stays until that is done, k or q, or of dv dout; the
 * other part of the next tile is loaded meanwhile, and that of the gradient while the next one's first product is formed. */
__device__ __forceinline__ void walk(warp_state &w, const invar_cuda_attention_vjp_job &job, const share_near &at, const span &range,
                                     bits16 *far_k, float2 (&stats)[2][FAR], exchange &all, unsigned near_k, unsigned near_v,
                                     int near) {
    const invar_cuda_attention &of = job.of;
    const int lane = threadIdx.x % 32, begins = range.first / FAR * FAR, far_last = BY_KEYS ? of.query_len : at.length;
    bits16 *far_v = far_k + FAR * K_PITCH;
    const unsigned k_at = shared_address(far_k + (SHARE * COLUMNS + lane / 16 * 8 + lane % 8) * K_PITCH + lane / 8 % 2 * 8);
    const unsigned v_at = shared_address(far_v + (SHARE * COLUMNS + lane / 16 * 8 + lane % 8) * V_PITCH + lane / 8 % 2 * 8);
    const unsigned k_rows = shared_address(far_k + lane % 16 * K_PITCH + lane / 16 * 8 + SLAB_AT(KSLAB));
    const unsigned v_rows = shared_address(far_v + lane % 16 * V_PITCH + lane / 16 * 8 + SLAB_AT(VSLAB));
    int head = BY_KEYS ? at.head * of.group : at.head / of.group, turns = BY_KEYS ? of.group : 1, stage = 0;
    load_stats(stats[0], job, at.batch, head, begins, far_last);
    if (FIRST) load_far_v(far_v, job, at.batch, head, begins, far_last);
    load_far_k(far_k, job, at.batch, head, begins, far_last);
    if (!FIRST) load_far_v(far_v, job, at.batch, head, begins, far_last);
    for (int far = begins; turns > 0; stage ^= 1) {
        pairs x;
        const int next = far + FAR < range.last ? far + FAR : begins;
        const bool turn = next <= far, more = !turn || turns > 1; /* turn: one head's far rows are done */
        copy_wait<1>();
        __syncthreads();
        if (FIRST) {
            multiply<VDIM, V_PITCH>(x.d, near_v, v_at);
            copy_wait<0>();
            __syncthreads();
        }
        multiply<KDIM, K_PITCH>(x.s, near_k, k_at);
        const int column = SHARE * COLUMNS + lane % 4 * 2;
        const masking by = { mask_of(of, at.batch, BY_KEYS ? head : at.head), at.length, near, far + column };
        if (MASK_KIND >= 0 || far < range.all_first || far + FAR > range.all_last) {
            weigh_tile<true>(x, w, of, by, stats[stage] + column);
            if (!FIRST) copy_wait<0>();
            __syncthreads();
            if (__syncthreads_or(not_finite<false, KDIM, K_PITCH>(far_k) || not_finite<false, VDIM, V_PITCH>(far_v)))
                add_not_finite(w, x, far_k, far_v, all);
        } else {
            weigh_tile<false>(x, w, of, by, stats[stage] + column);
        }
        if (RANGED) fit(x, w, all);
        give(all, FIRST ? x.d[0] : x.s[0]);
        copy_wait<0>();
        __syncthreads();
        if (more) {
            load_stats(stats[stage ^ 1], job, at.batch, head + turn, next, far_last);
            if (FIRST) load_far_v(far_v, job, at.batch, head + turn, next, far_last);
            else load_far_k(far_k, job, at.batch, head + turn, next, far_last);
        }
        if (SECOND) accumulate_all<VSLAB, V_PITCH>(w.second[0], all, v_rows);
        else accumulate_all<KSLAB, K_PITCH>(w.first[0], all, k_rows);
        __syncthreads();
        if (more && FIRST) load_far_k(far_k, job, at.batch, head + turn, next, far_last);
        else if (more) load_far_v(far_v, job, at.batch, head + turn, next, far_last);
        if (turn) head++, turns--;
        far = next;
    }
}
#endif

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
invar_attention_vjp_half(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) bits16 shared[];
    __shared__ __align__(16) float2 stats[2][FAR];
    __shared__ exchange all;
    __shared__ share_near at; /* registers are scarce: these are read again */
    __shared__ span range;
    const invar_cuda_attention &of = job.of;
    bits16 *near_k = shared, *near_v = near_k + ROWS * K_PITCH, *stages = FIRST ? near_v + ROWS * V_PITCH : near_v;
    const int lane = threadIdx.x % 32, warp_row = ROW_WARP * 16 * STRIPS;
    if (threadIdx.x == 0) {
        at = share_of(job, ROWS);
        range = span_of(of, at);
    }
    __syncthreads();
    const int near = at.first + warp_row + lane / 4, begins = range.first / FAR * FAR;
    const int far_last = BY_KEYS ? of.query_len : at.length;
    int head = BY_KEYS ? at.head * of.group : at.head / of.group, turns = BY_KEYS ? of.group : 1;
    warp_state w;
    begin(w, job, at, near);
    if (range.first < range.last) {
        load_near(near_k, near_v, job, at);
        if (SHARES == 1) load_far(stages, stats[0], job, at.batch, head, begins, far_last);
    } else turns = 0;
    const unsigned near_at = shared_address(near_k + (warp_row + lane % 16) * K_PITCH + lane / 16 * 8);
    const unsigned near_v_at = shared_address(near_v + (warp_row + lane % 16) * V_PITCH + lane / 16 * 8);
#if SHARES > 1
    if (turns) walk(w, job, at, range, stages, stats, all, near_at, near_v_at, near);
#else
    for (int far = begins, stage = 0; turns > 0; stage ^= 1) {
        pairs x;
        const int next = far + COLUMNS < range.last ? far + COLUMNS : begins;
        const bool turn = next <= far; /* one head's far rows are done */
        copy_wait<0>();
        __syncthreads();
        if (!turn || turns > 1)
            load_far(stages + (stage ^ 1) * STAGE, stats[stage ^ 1], job, at.batch, head + turn, next, far_last);
        bits16 *far_k = stages + stage * STAGE, *far_v = far_k + COLUMNS * K_PITCH;
        multiply<KDIM, K_PITCH>(x.s, near_at, shared_address(far_k + (lane / 16 * 8 + lane % 8) * K_PITCH + lane / 8 % 2 * 8));
        if (FIRST)
            multiply<VDIM, V_PITCH>(x.d, near_v_at, shared_address(far_v + (lane / 16 * 8 + lane % 8) * V_PITCH + lane / 8 % 2 * 8));
        const int column = lane % 4 * 2;
        const masking by = { mask_of(of, at.batch, BY_KEYS ? head : at.head), at.length, near, far + column };
        if (MASK_KIND >= 0 || far < range.all_first || far + COLUMNS > range.all_last) {
            weigh_tile<true>(x, w, of, by, stats[stage] + column);
            if (__syncthreads_or(not_finite<false, KDIM, K_PITCH>(far_k) || not_finite<false, VDIM, V_PITCH>(far_v)))
                add_not_finite(w, x, far_k, far_v, all);
        } else {
            weigh_tile<false>(x, w, of, by, stats[stage] + column);
        }
        if (SECOND)
            accumulate<VSLAB, V_PITCH>(w.second, x.s, shared_address(far_v + lane % 16 * V_PITCH + lane / 16 * 8 + SLAB_AT(VSLAB)));
        if (RANGED) fit(x, w, all);
        if (FIRST)
            accumulate<KSLAB, K_PITCH>(w.first, x.d, shared_address(far_k + lane % 16 * K_PITCH + lane / 16 * 8 + SLAB_AT(KSLAB)));
        if (turn) head++, turns--;
        far = next;
    }
#endif
    store(job, at, w, near);
}
