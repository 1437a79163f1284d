/* Attention's gradients of float16 or bfloat16 on Hopper's asynchronous matrix units. One warpgroup brings tiles of far rows into
 * two rings in shared memory; CONSUMERS others hold 64 near rows each: their rows of k and v, or of q and dout, stay in shared memory,
 * scores, weights and sums in registers. Exponentials run beside the products of weights' gradients and of other warpgroups.
 *
 * BY_KEYS 0: near are q and dout, far k and v, the sum is dq. BY_KEYS 1: near are k and v, far q and dout, the sums are dk and dv, or
 * one of them: FIRST, SECOND. KDIM, VDIM: Dk and Dv rounded up to a multiple of 64. FAR: far rows a tile. STAGES, V_STAGES: tiles of
 * the ring of k or q, of that of v or dout. COPIES: 16-byte copies may take the rows. MASK_KIND: bool's or TYPE's, -1 without a mask
 * array, whose rows copies of 8 elements may take, the last one whole. */
#include "attention_vjp_ring.cuh"

/* float16 reaches neither far up nor far down: each near row keeps a power of two that the gradients of its scores are multiplied by
 * on their way into the product. */
#define RANGED (matrix_unit<TYPE>::exponent == 0x7c00u)
#define EXTENDED (SOFTCAP || MASK_KIND >= 0) /* pairs take more than a product and their position */
enum { MOST_POWER = 100, TOP = 15, SPARE = 3 }; /* numbers stay below 2^TOP; a power that has to fall falls SPARE further */

/* ---- the warpgroups that compute ------------------------------------------------------------------------ */

/* Elements 4n … of s and d are far rows 8n …, of the sums columns 8n …: this thread's two of near row lane / 4, then two of the row
 * 8 below. */
struct strip {
    float s[FAR / 2], d[FIRST ? FAR / 2 : 1];                          /* scores, then weights; their gradients */
    float first[FIRST ? KDIM / 2 : 1], second[SECOND ? VDIM / 2 : 1]; /* of dq or dk; of dv */
};
typedef unsigned factors[FAR / 16][4]; /* left factors of products */

/* Where in shared memory near rows of this warpgroup and far ones of a step are, and this thread's first near row. All is read anew
 * each time: registers do not suffice for what compilers would keep of it. */
__device__ __forceinline__ unsigned read_again(const unsigned &from) {
    unsigned value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(shared_address(&from)) : "memory");
    return value;
}
__device__ __forceinline__ int thread_again() { /* of those that compute */
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return (int)thread - GROUP;
}
__device__ __forceinline__ unsigned near_rows(const common &shared) {
    return read_again(shared.tiles_at) + thread_again() / GROUP * 64 * PITCH;
}
__device__ __forceinline__ unsigned far_k(const common &shared, int t) {
    return read_again(shared.tiles_at) + (NEAR_K_BYTES + NEAR_V_BYTES) + t % STAGES * K_BYTES;
}
__device__ __forceinline__ unsigned far_v(const common &shared, int t) {
    return read_again(shared.tiles_at) + (NEAR_K_BYTES + NEAR_V_BYTES + STAGES * K_BYTES) + t % V_STAGES * V_BYTES;
}
#if MASK_KIND >= 0
__device__ __forceinline__ unsigned mask_tile(const common &shared, int t) {
    return read_again(shared.tiles_at) + MASKS_AT + t % STAGES * MASK_BYTES;
}
#endif
/* Of the block's rows. */
__device__ __forceinline__ int near_row() {
    const int thread = thread_again();
    return thread / 32 * 16 + thread % 32 / 4;
}
/* lse and delta of this thread's first near row, or of its first far one. */
__device__ __forceinline__ const float2 *near_stats(const common &shared) { return shared.stats + near_row(); }
__device__ __forceinline__ const float2 *far_stats(const common &shared, int t) {
    return shared.stats + t % STAGES * FAR + thread_again() % 4 * 2;
}

__device__ __forceinline__ void begin(strip &w, const invar_cuda_attention_vjp_job &job, common &shared) {
    const share_near &at = shared.at;
    const float2 *rows = rows_of(job, at.batch, at.head);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = near_row() + 8 * half;
        if (RANGED) shared.power[row] = MOST_POWER;
        if (!BY_KEYS && threadIdx.x % 4 == 0)
            shared.stats[row] = at.first + row < at.last ? rows[at.first + row] : float2{ SEES_NOTHING, 0.0f };
#if MASK_KIND >= 0
        if (!BY_KEYS && threadIdx.x % 4 == 0 && !is_finite(shared.stats[row])) shared.near_careful = 1; /* of this warp */
#endif
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < (FIRST ? KDIM / 2 : 1); i++) w.first[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < (SECOND ? VDIM / 2 : 1); i++) w.second[i] = 0.0f;
}

/* c = near · farᵀ. */
template <int DIM> __device__ __forceinline__ void multiply(float (&c)[FAR / 2], descriptor near, descriptor far) {
    products_begin();
    warpgroup_unit<FAR>::rows(c, near, far);
#pragma unroll
    for (int d = 16; d < DIM; d += 16)
        warpgroup_unit<FAR>::add_rows(c, further(near, d / COLUMNS * ROWS * PITCH + d % COLUMNS * 2),
                                      further(far, d / COLUMNS * FAR * PITCH + d % COLUMNS * 2));
    products_end();
}

/* to += a · far. */
template <int DIM> __device__ __forceinline__ void accumulate(float (&to)[DIM / 2], const factors &a, descriptor far) {
    products_begin();
#pragma unroll
    for (int j = 0; j < FAR / 16; j++) warpgroup_unit<DIM>::add_columns(to, a[j], further(far, 16 * j * PITCH));
    products_end();
}

__device__ __forceinline__ void pack(factors &to, const float (&from)[FAR / 2]) {
#pragma unroll
    for (int j = 0; j < FAR / 16; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float *pair = &from[4 * (2 * j + e / 2) + e % 2 * 2];
            to[j][e] = unit_of::pack(pair[0], pair[1]);
        }
}

#if !EXTENDED
/* Scores become weights. far: stats of this thread's first far row. */
__device__ __forceinline__ void weigh(strip &w, float scale, const float2 *near, const float2 *far) {
    float lse[2] = { 0.0f, 0.0f };
    if (!BY_KEYS) lse[0] = near[0].x, lse[1] = near[8].x;
#pragma unroll
    for (int n = 0; n < FAR / 8; n++) {
        float4 rows = { 0.0f, 0.0f, 0.0f, 0.0f };
        if (BY_KEYS) rows = *(const float4 *)(far + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            w.s[4 * n + i] = exp2_fast(fmaf(w.s[4 * n + i], scale, -(!BY_KEYS ? lse[i / 2] : i % 2 ? rows.z : rows.x)));
    }
}

#endif

#if FIRST
/* d, the gradients of weights, become those of scores. */
__device__ __forceinline__ void derive(strip &w, const float2 *near, const float2 *far) {
    float delta[2] = { 0.0f, 0.0f };
    if (!BY_KEYS) delta[0] = near[0].y, delta[1] = near[8].y;
#pragma unroll
    for (int n = 0; n < FAR / 8; n++) {
        float4 rows = { 0.0f, 0.0f, 0.0f, 0.0f };
        if (BY_KEYS) rows = *(const float4 *)(far + 8 * n);
#pragma unroll
        for (int i = 0; i < 4; i++)
            w.d[4 * n + i] = w.s[4 * n + i] * (w.d[4 * n + i] - (!BY_KEYS ? delta[i / 2] : i % 2 ? rows.w : rows.y));
    }
}
#endif

#if EXTENDED
/* Scores become weights, and with softcap weights by tanh's slope; of pairs that are not seen -0. p: weights
 * as left factors, where softcap loses them. partly, careful: not all positions are seen, as in struct common. tanh x is 1 - 2r,
 * r = 1 / (1 + e^2x), its slope 4r (1 - r). */
__device__ __forceinline__ void weigh_seen(strip &w, factors &p, const invar_cuda_attention &of, const common &shared, int t,
                                           bool partly, bool careful) {
    const float2 *near = near_stats(shared), *far = far_stats(shared, t);
    float lse[2] = { 0.0f, 0.0f };
    if (!BY_KEYS) lse[0] = near[0].x, lse[1] = near[8].x;
#if MASK_KIND >= 0
    unsigned added[4];
#endif
#pragma unroll
    for (int n = 0; n < FAR / 8; n++) {
#if SOFTCAP
        float slope[4];
#endif
#if MASK_KIND >= 0
        if (n % 2 == 0) added_to(added, mask_tile(shared, t), thread_again(), n / 2);
#endif
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float &s = w.s[4 * n + i];
            const float low = BY_KEYS ? far[8 * n + i % 2].x : lse[i / 2];
#if SOFTCAP
            const float r = reciprocal(1.0f + exp2_fast(s * (2.0f * LOG2E * of.cap_scale)));
            float exponent = fmaf(-2.0f * of.cap_height, r, of.cap_height - low);
            slope[i] = fmaf(-4.0f * r, r, 4.0f * r);
#else
            float exponent = fmaf(s, of.score_scale, -low);
#endif
#if MASK_KIND >= 0
            exponent = fmaf(added_in(added, n % 2 * 4 + i), LOG2E, exponent);
#endif
            s = exp2_fast(exponent);
        }
        if (partly || careful) {
            const int first = (int)read_again(*(const unsigned *)&shared.first[t % STAGES]) + thread_again() % 4 * 2 + 8 * n;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const far_range range = far_range_of(of, shared.at.length, shared.at.first + near_row() + 8 * half);
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    bool seen = first + e >= range.first && first + e < range.last;
#if MASK_KIND >= 0
                    seen &= !hides_in(added, n % 2 * 4 + 2 * half + e);
#endif
                    if (seen) continue;
                    w.s[4 * n + 2 * half + e] = -0.0f;
#if SOFTCAP
                    slope[2 * half + e] = 1.0f;
#endif
                }
            }
        }
#if SOFTCAP
#pragma unroll
        for (int half = 0; SECOND && half < 2; half++)
            p[n / 2][n % 2 * 2 + half] = unit_of::pack(w.s[4 * n + 2 * half], w.s[4 * n + 2 * half + 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) w.s[4 * n + i] *= slope[i];
#endif
    }
}
#else
/* Weights of pairs that are not seen become -0. first: this thread's first far row. */
__device__ __forceinline__ void hide(strip &w, const invar_cuda_attention &of, const share_near &at, int first) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        far_range range = far_range_of(of, at.length, at.first + near_row() + 8 * half);
        range.first -= first, range.last -= first;
#pragma unroll
        for (int n = 0; n < FAR / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int i = 8 * n + e;
                if (i < range.first || i >= range.last) w.s[4 * n + 2 * half + e] = -0.0f;
            }
    }
}

#endif

#if FIRST
/* Nor do those have a gradient, whatever it was formed from. */
__device__ __forceinline__ void hide_gradients(strip &w) {
#pragma unroll
    for (int i = 0; i < FAR / 2; i++)
        if (__float_as_uint(w.s[i]) == 0x80000000u) w.d[i] = 0.0f;
}

/* Brings the gradients of scores into float16's range, row by row; powers: those of this thread's first row and the next ones. */
__device__ __forceinline__ void fit(strip &w, int *powers) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = 0.0f;
#pragma unroll
        for (int n = 0; n < FAR / 8; n++)
            most = fmaxf(most, fmaxf(fabsf(w.d[4 * n + 2 * half]), fabsf(w.d[4 * n + 2 * half + 1])));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        int power = powers[8 * half];
        const int fits = TOP - 1 + 127 - (int)(__float_as_uint(most) >> 23);
        if (__any_sync(0xffffffffu, fits < power)) {
            const int lower = fits < power ? max(fits - SPARE, -MOST_POWER) : power, by = max(lower - power, -126);
            const float factor = __uint_as_float((unsigned)(127 + by) << 23);
            powers[8 * half] = power = lower;
#pragma unroll
            for (int n = 0; n < KDIM / 8; n++) {
                w.first[4 * n + 2 * half] *= factor;
                w.first[4 * n + 2 * half + 1] *= factor;
            }
        }
        const float factor = __uint_as_float((unsigned)(127 + power) << 23);
#pragma unroll
        for (int n = 0; n < FAR / 8; n++) {
            w.d[4 * n + 2 * half] *= factor;
            w.d[4 * n + 2 * half + 1] *= factor;
        }
    }
}
#endif

/* ---- numbers that are not finite -------------------------------------------------------------------------- */

/* Clears this thread's numbers of a tile that are not finite. */
template <int BYTES> __device__ __forceinline__ void clear(unsigned tile) {
#pragma unroll 1
    for (int i = (int)(threadIdx.x - GROUP) * 4; i < BYTES; i += GROUP * CONSUMERS * 4) {
        unsigned pair;
        asm volatile("ld.shared.b32 %0, [%1];" : "=r"(pair) : "r"(tile + i) : "memory");
        if (!pair_not_finite<TYPE>(pair)) continue;
        if ((pair & unit_of::exponent) == unit_of::exponent) pair &= 0xffff0000u;
        if ((pair >> 16 & unit_of::exponent) == unit_of::exponent) pair &= 0x0000ffffu;
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(tile + i), "r"(pair) : "memory");
    }
}

/* Numbers of a tile that not all near rows see whole, which are not finite, are cleared when all have their scores, so that they reach
 * no row that does not see them. */
__device__ __forceinline__ void clear_tile(const common &shared, int t) {
    named_wait(MEETING, GROUP * CONSUMERS);
    if (FIRST) clear<K_BYTES>(far_k(shared, t));
    if (SECOND) clear<V_BYTES>(far_v(shared, t));
    show_products();
    named_wait(MEETING, GROUP * CONSUMERS);
}

/* What is not finite in one far row, in device memory, is added to the sums of near rows that see it. */
template <int DIM, bool NAN_ONLY>
__device__ __forceinline__ void add_row(float (&to)[DIM / 2], const char *row, long long step, int columns, const bool seen[2]) {
    const int column = threadIdx.x % 4 * 2;
    if (DIM > 128) asm volatile("" : "+l"(step)); /* else its multiples would be kept in registers */
    row += column * step;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            TYPE value = { 0 };
            if (8 * n + column + e < columns)
                asm volatile("ld.global.u16 %0, [%1];" : "=h"(value.bits) : "l"(row + (8 * n + e) * step) : "memory");
            if ((value.bits & unit_of::exponent) != unit_of::exponent) continue;
            const float added = NAN_ONLY ? __int_as_float(0x7fffffff) : widen(value);
            if (seen[0]) to[4 * n + e] += added;
            if (seen[1]) to[4 * n + 2 + e] += added;
        }
}

/* What was cleared reaches the rows that see it. Where k or q is not finite, so is the score, and its gradient NaN. */
__device__ __forceinline__ void add_not_finite(strip &w, const invar_cuda_attention_vjp_job &job, const common &shared, int t) {
    const invar_cuda_attention &of = job.of;
    int row = shared.at.first + near_row();
    const int stage = t % STAGES, first = shared.first[stage];
    const int count = (BY_KEYS ? of.query_len : shared.at.length) - first;
#pragma unroll 1
    for (int i = 0; i < min(count, (int)FAR); i++) {
        bool seen[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
#if MASK_KIND >= 0
            asm volatile("ld.volatile.shared.u32 %0, [%1];" : "=r"(row) : "r"(shared_address(&shared.at.first)) : "memory");
            row += near_row(); /* else ranges would be kept in registers */
#endif
            const far_range range = far_range_of(of, shared.at.length, row + 8 * half);
            seen[half] = first + i >= range.first && first + i < range.last;
#if MASK_KIND >= 0
            if (seen[half]) seen[half] = !hides(mask_tile(shared, t), near_row() + 8 * half, i);
#endif
        }
#if MASK_KIND >= 0
        if (!__any_sync(0xffffffffu, seen[0] || seen[1])) continue;
#endif
#if FIRST
        add_row<KDIM, true>(w.first, shared.bad_k[stage] + i * FAR_K.row_stride, FAR_K.column_stride, of.key_dim, seen);
#endif
#if SECOND
        add_row<VDIM, false>(w.second, shared.bad_v[stage] + i * FAR_V.row_stride, FAR_V.column_stride, of.value_dim, seen);
#endif
    }
}

/* ---- a warpgroup's walk ------------------------------------------------------------------------------------ */

#if MASK_KIND >= 0
/* Whether a mask hides all of the tile, which then is not looked at. */
__device__ __forceinline__ bool left_hidden(common &shared, int t) {
    const int stage = t % STAGES;
    if (shared.hidden[stage] != t + 1) return false;
    barrier_wait(&shared.v.full[stage], t / STAGES % 2);
    leave(&shared.v.empty[stage]);
    leave(&shared.k.empty[stage]);
    return true;
}
#endif

/* Both products of the tile's rows with near ones. */
__device__ __forceinline__ void begin_scores(strip &w, common &shared, int t) {
    multiply<KDIM>(w.s, describe(near_rows(shared), 16), describe(far_k(shared, t), 16));
    barrier_wait(&shared.v.full[t % V_STAGES], t / V_STAGES % 2);
#if FIRST
    multiply<VDIM>(w.d, describe(near_rows(shared) + NEAR_K_BYTES, 16), describe(far_v(shared, t), 16));
#endif
}

/* Whether what a mask hides has to be selected away. */
__device__ __forceinline__ bool is_careful(const common &shared, int t) {
#if MASK_KIND >= 0
    return shared.near_careful || shared.careful[t % STAGES] == t + 1;
#else
    (void)shared, (void)t;
    return false;
#endif
}

#if FIRST
__device__ __forceinline__ void finish_gradients(strip &w, common &shared, const float2 *near, const float2 *far, bool some_hidden) {
    products_wait<0>();
    hold(w.d);
    derive(w, near, far);
    if (some_hidden) hide_gradients(w);
    if (RANGED) fit(w, shared.power + near_row());
}
#endif

__device__ __forceinline__ void step(strip &w, const invar_cuda_attention_vjp_job &job, common &shared, int t) {
    const int stage = t % STAGES, v_stage = t % V_STAGES;
    const float2 *near = near_stats(shared), *far = far_stats(shared, t);
    barrier_wait(&shared.k.full[stage], t / STAGES % 2);
#if MASK_KIND >= 0
    if (left_hidden(shared, t)) return;
#endif
    begin_scores(w, shared, t);
    const span &range = shared.own[thread_again() / GROUP];
    const int first = shared.first[stage];
    const bool partly = first < range.all_first || first + FAR > range.all_last, bad = shared.bad[stage] == t + 1;
    const bool careful = is_careful(shared, t);
    (void)careful;
    products_wait<FIRST>();
    hold(w.s);
#if FIRST
    factors a;
#endif
#if SECOND || EXTENDED
    factors p;
#endif
#if EXTENDED
    weigh_seen(w, p, job.of, shared, t, partly, careful);
#else
    weigh(w, job.of.score_scale, near, far);
    if (partly) hide(w, job.of, shared.at, shared.first[stage] + thread_again() % 4 * 2);
#endif
#if FIRST
    finish_gradients(w, shared, near, far, partly || careful);
#endif
    if (bad) clear_tile(shared, t);
#if !SECOND
    leave(&shared.v.empty[v_stage]);
#elif !SOFTCAP
    pack(p, w.s);
#endif
#if FIRST
    pack(a, w.d);
#endif
    if (bad) add_not_finite(w, job, shared, t);
#if SECOND
    accumulate<VDIM>(w.second, p, describe(far_v(shared, t), FAR * PITCH));
#endif
#if FIRST
    accumulate<KDIM>(w.first, a, describe(far_k(shared, t), FAR * PITCH));
#endif
#if SECOND
    products_wait<FIRST>();
    hold(w.second);
    leave(&shared.v.empty[v_stage]);
#endif
    products_wait<0>();
    if (FIRST) hold(w.first);
    leave(&shared.k.empty[stage]);
}

/* ---- results ----------------------------------------------------------------------------------------------- */

/* One near row's gradient. */
template <int DIM>
__device__ __forceinline__ void store_row(const invar_cuda_operand &x, char *head, int row, int columns, const float (&sums)[DIM / 2],
                                          int half, float factor, bool there) {
    char *to = head + row * x.row_stride;
    const int column = threadIdx.x % 4 * 2;
    const bool together = x.column_stride == 2 && (unsigned long long)to % 4 == 0;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        const int c = 8 * n + column;
        const float low = fmaf(sums[4 * n + 2 * half], factor, 0.0f), high = fmaf(sums[4 * n + 2 * half + 1], factor, 0.0f);
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
__device__ __forceinline__ void store(const invar_cuda_attention_vjp_job &job, const common &shared, const strip &w) {
    const share_near &at = shared.at;
    const invar_cuda_attention &of = job.of;
#if FIRST
    const invar_cuda_operand &to = BY_KEYS ? job.dk : job.dq;
    char *const first = head_of(of, to, at.batch, at.head);
#endif
#if SECOND
    char *const second = head_of(of, job.dv, at.batch, at.head);
#endif
    const float shift = exp2f(-job.shift);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = at.first + near_row() + 8 * half;
        const bool there = !BY_KEYS || row < at.length;
        if (row >= at.last) continue;
#if FIRST
        float factor = of.scale * shift;
        if (RANGED) factor *= __uint_as_float((unsigned)(127 - shared.power[near_row() + 8 * half]) << 23);
        if (to.data) store_row<KDIM>(to, first, row, of.key_dim, w.first, half, factor, there);
#endif
#if SECOND
        if (job.dv.data) store_row<VDIM>(job.dv, second, row, of.value_dim, w.second, half, shift, there);
#endif
    }
}

/* Some of it is a warp's each, at the same time. */
__device__ __forceinline__ void prepare_block(const invar_cuda_attention_vjp_job &job, common &shared, unsigned tiles) {
    const int warp = threadIdx.x / 32, group = warp / 4 - 1;
    if (threadIdx.x % 32 || warp % 4 > 1) return;
    if (warp == 1) {
        for (int i = 0; i < STAGES; i++) {
            barrier_begin(&shared.k.full[i], GROUP), barrier_begin(&shared.v.full[i], GROUP);
            barrier_begin(&shared.k.empty[i], 4 * CONSUMERS), barrier_begin(&shared.v.empty[i], 4 * CONSUMERS); /* warps */
            shared.bad[i] = 0;
#if MASK_KIND >= 0
            shared.hidden[i] = shared.careful[i] = 0;
#endif
        }
#if MASK_KIND >= 0
        shared.near_careful = 0;
#endif
        shared.tiles_at = tiles;
        return;
    }
    const invar_cuda_attention &of = job.of;
    share_near at = share_of(job, ROWS);
    if (group < 0) {
        const span range = span_of(of, at);
        shared.at = at;
        shared.range = range;
        shared.near_k = head_of(of, NEAR_K, at.batch, at.head) + at.first * NEAR_K.row_stride;
        shared.near_v = head_of(of, NEAR_V, at.batch, at.head) + at.first * NEAR_V.row_stride;
        shared.begins = range.first / FAR * FAR;
        shared.tiles = (range.last - shared.begins + FAR - 1) / FAR;
        shared.steps = shared.tiles * (BY_KEYS ? job.of.group : 1);
    } else if (warp % 4 == 0) {
        at.first += 64 * group;
        at.last = min(at.first + 64, at.last);
        shared.own[group] = span_of(of, at);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    invar_attention_vjp_wgmma(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ char dynamic[];
    __shared__ common shared;
    char *tiles = dynamic + (-shared_address(dynamic) & 1023);
    prepare_block(job, shared, shared_address(tiles));
    __syncthreads();
    if (threadIdx.x < GROUP) {
        registers_down_to<FEW_REGISTERS>();
        load(job, shared, tiles);
    } else {
        registers_up_to<MANY_REGISTERS>();
        strip w;
        begin(w, job, shared);
        for (int t = 0; t < shared.steps; t++) step(w, job, shared, t);
        store(job, shared, w);
    }
}
