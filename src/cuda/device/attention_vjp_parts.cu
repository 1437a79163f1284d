/* Attention's gradients of float32 on Hopper's asynchronous matrix units, each number as three of bfloat16, each product as six
 * (attention_parts.cuh). One warpgroup brings tiles of far rows, split, into a ring in shared memory; two others hold 64 near rows
 * each, there as float: parts of them would not fit, so they are split again for each tile, in registers, as scores' gradients and
 * weights are. The matrix units cut sums off: parts below the largest are summed first or apart, and what a tile gives to a gradient
 * is formed by itself and then added.
 *
 * What is not finite, or too large for parts, makes sums NaN or infinite: a row that ends so is told to be formed by multiply-adds, by
 * attention_vjp_float.cu. So no other row's bits depend on it.
 *
 * BY_KEYS 0: near are q and dout, far k and v, the sum is dq. BY_KEYS 1: near are k and v, far q and dout, the sums are dk and dv.
 * KDIM, VDIM: Dk and Dv rounded up to a multiple of 64. FAR: far rows a tile. SLOTS: matrices of a ring, of which a tile has two. */
#define TYPE bfloat16
#define MASK_KIND -1
#define SOFTCAP 0
#include "attention_vjp_parts.cuh"

enum { BREADTH = CROWDED ? 32 : 64 }; /* columns of a gradient that are formed at once, as registers suffice */

/* Elements 4n … are columns 8n … of this thread's: two of near row lane / 4, then two of the row 8 below. */
struct strip {
    float first[KDIM / 2], second[BY_KEYS ? VDIM / 2 : 1]; /* of dq or dk; of dv */
};
typedef unsigned factors[PARTS][4];

/* Of those that compute; read again, since registers are scarce. */
__device__ __forceinline__ int near_row() {
    const int thread = thread_reread() - GROUP;
    return thread / 32 * 16 + thread % 32 / 4;
}

/* c = near · farᵀ, the largest parts' products last, for which near rows are read again. near: this thread's first numbers; far: the
 * first plane. */
template <int DIM> __device__ __forceinline__ void multiply(float (&c)[FAR / 2], const float *near, descriptor far) {
    typedef warpgroup_unit<FAR> unit;
    enum { PLANE = 2 * FAR * DIM, AT_ONCE = 4 };
#pragma unroll
    for (int d = 0; d < DIM; d += 16) {
        factors a;
        const descriptor b = further(far, d / COLUMNS * FAR * PITCH + d % COLUMNS * 2);
        split_rows<DIM + 8>(a, near + d);
        products_begin();
        if (d == 0) unit::rows(c, a[0], further(b, 2 * PLANE));
        else unit::add_rows(c, a[0], further(b, 2 * PLANE));
        unit::add_rows(c, a[1], further(b, PLANE));
        unit::add_rows(c, a[2], b);
        unit::add_rows(c, a[0], further(b, PLANE));
        unit::add_rows(c, a[1], b);
        products_end();
        products_wait<1>(); /* the registers of the parts before these are free */
    }
#pragma unroll
    for (int d = 0; d < DIM; d += 16 * AT_ONCE) {
        unsigned a[AT_ONCE][4];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) round_rows<DIM + 8>(a[i], near + d + 16 * i);
        products_begin();
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) unit::add_rows(c, a[i], further(far, d / COLUMNS * FAR * PITCH + 32 * i));
        products_end();
        products_wait<1>();
    }
}

/* to += x · far, BREADTH columns at once. zero: 0, but compilers do not know; where registers are few they let the next sums begin
 * only when these are added, since what follows is made to depend on it. */
template <int DIM>
__device__ __forceinline__ void accumulate(float (&to)[DIM / 2], float (&x)[FAR / 2], descriptor far, unsigned zero) {
    typedef warpgroup_unit<BREADTH> unit;
    factors a[FAR / 16];
    hold(x); /* its parts take more registers, not earlier than needed */
#pragma unroll
    for (int j = 0; j < FAR / 16; j++) split_sums(a[j], x, j);
#pragma unroll
    for (int c = 0; c < DIM; c += BREADTH) {
        float sums[BREADTH / 2];
        products_begin();
#pragma unroll
        for (int sum = PARTS - 1; sum >= 0; sum--)
#pragma unroll
            for (int j = 0; j < FAR / 16; j++)
#pragma unroll
                for (int p = 0; p <= sum; p++) {
                    const unsigned at = c / COLUMNS * FAR * PITCH + c % COLUMNS * 2 + 16 * j * PITCH;
                    const descriptor b = further(far, (sum - p) * (2 * FAR * DIM) + at);
                    if (sum == PARTS - 1 && j == 0 && p == 0) unit::columns(sums, a[j][p], b);
                    else unit::add_columns(sums, a[j][p], b);
                }
        products_end();
        products_wait<0>();
        hold(sums);
#pragma unroll
        for (int i = 0; i < BREADTH / 2; i++) to[c / 2 + i] += sums[i];
        if (CROWDED) {
            unsigned bits = 0;
#pragma unroll
            for (int i = 0; i < BREADTH / 2; i++) bits ^= __float_as_uint(to[c / 2 + i]);
            far += bits & zero;
        }
    }
}

/* Scores become weights, and d, the gradients of weights, those of scores. row: of near rows, where they are queries; far: stats of
 * this thread's first far row, where those are. */
__device__ __forceinline__ void weigh(float (&s)[FAR / 2], float (&d)[FAR / 2], float scale, const float2 row[2], const float2 *far) {
#pragma unroll
    for (int n = 0; n < FAR / 8; n++) {
        float4 rows = { 0.0f, 0.0f, 0.0f, 0.0f };
        if (BY_KEYS) rows = *(const float4 *)(far + 8 * n);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int i = 4 * n + e;
            const float lse = !BY_KEYS ? row[e / 2].x : e % 2 ? rows.z : rows.x;
            const float delta = !BY_KEYS ? row[e / 2].y : e % 2 ? rows.w : rows.y;
            s[i] = exp2_fast(fmaf(s[i], scale, -lse));
            d[i] = s[i] * (d[i] - delta);
        }
    }
}

/* Pairs that are not seen have neither a weight nor a gradient, whatever they were formed from. first: this thread's first far row. */
__device__ __forceinline__ void hide(float (&s)[FAR / 2], float (&d)[FAR / 2], const invar_cuda_attention &of, const share_near &at,
                                     int first) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const far_range range = far_range_of(of, at.length, at.first + near_row() + 8 * half);
#pragma unroll
        for (int n = 0; n < FAR / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int row = first + 8 * n + e, i = 4 * n + 2 * half + e;
                if (row < range.first || row >= range.last) s[i] = d[i] = 0.0f;
            }
    }
}

/* This warp needs the matrix no more. */
__device__ __forceinline__ void leave(common &shared, int number) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(&shared.empty[number % SLOTS]);
}

__device__ __forceinline__ void step(strip &w, const invar_cuda_attention &of, common &shared, const float *near_k,
                                     const float *near_v, unsigned slots, const float2 row[2], int t, int far) {
    const unsigned k = slots + (2 * t + 1) % SLOTS * SLOT, v = slots + 2 * t % SLOTS * SLOT;
    const span &own = shared.own[threadIdx.x / GROUP - 1];
    float s[FAR / 2], d[FAR / 2];
    barrier_wait(&shared.full[2 * t % SLOTS], 2 * t / SLOTS % 2);
    if (far >= own.last || far + FAR <= own.first) { /* none of the warpgroup's rows meets one of these */
        leave(shared, 2 * t);
        barrier_wait(&shared.full[(2 * t + 1) % SLOTS], (2 * t + 1) / SLOTS % 2);
        leave(shared, 2 * t + 1);
        return;
    }
    multiply<VDIM>(d, near_v, describe(v, 16));
    barrier_wait(&shared.full[(2 * t + 1) % SLOTS], (2 * t + 1) / SLOTS % 2);
    multiply<KDIM>(s, near_k, describe(k, 16));
    products_wait<0>();
    hold(d), hold(s);
#if !BY_KEYS
    leave(shared, 2 * t);
#endif
    weigh(s, d, of.score_scale, row, shared.stats[t % 2] + thread_reread() % 4 * 2);
    if (far < own.all_first || far + FAR > own.all_last) hide(s, d, of, shared.at, far + thread_reread() % 4 * 2);
#if BY_KEYS
    accumulate<VDIM>(w.second, s, describe(v, FAR * PITCH), of.q.reserved);
    leave(shared, 2 * t);
#endif
    accumulate<KDIM>(w.first, d, describe(k, FAR * PITCH), of.q.reserved);
    leave(shared, 2 * t + 1);
}

__device__ __forceinline__ void compute(strip &w, const invar_cuda_attention_vjp_job &job, common &shared, float *near_k,
                                        float *near_v, unsigned slots) {
    const invar_cuda_attention &of = job.of;
    const share_near &at = shared.at;
    const int warp_row = (threadIdx.x - GROUP) / 32 * 16, lane = threadIdx.x % 32, end = shared.range.last;
    const int first = at.first + warp_row, count = (BY_KEYS ? min(at.last, at.length) : at.last) - first;
    float2 row[2] = { { SEES_NOTHING, 0.0f }, { SEES_NOTHING, 0.0f } };
    near_k += warp_row * K_PITCH, near_v += warp_row * V_PITCH;
    if (shared.turns) {
        bring_near<KDIM>(near_k, head_of(of, NEAR_K, at.batch, at.head) + first * NEAR_K.row_stride, NEAR_K, count, of.key_dim);
        bring_near<VDIM>(near_v, head_of(of, NEAR_V, at.batch, at.head) + first * NEAR_V.row_stride, NEAR_V, count, of.value_dim);
        __syncwarp();
    }
    for (int half = 0; !BY_KEYS && half < 2; half++)
        if (lane / 4 + 8 * half < count) row[half] = rows_of(job, at.batch, at.head)[first + lane / 4 + 8 * half];
    near_k += lane / 4 * K_PITCH + lane % 4 * 2, near_v += lane / 4 * V_PITCH + lane % 4 * 2;
    for (int turn = shared.turns, t = 0; turn > 0; turn--)
        for (int far = shared.begins; far < end; far += FAR, t++) step(w, of, shared, near_k, near_v, slots, row, t, far);
}

/* ---- results ----------------------------------------------------------------------------------------------- */

/* The warp's rows of a gradient, by way of shared memory, where its near rows were; `count`: those that there are, `there`: those that
 * are not zeros. */
template <int DIM>
__device__ __forceinline__ void store_rows(const invar_cuda_operand &x, char *to, int columns, const float (&sums)[DIM / 2],
                                           float factor, float *through, int count, int there) {
    enum { APART = DIM + 8 };
    const int lane = threadIdx.x % 32;
    float *own = through + lane / 4 * APART + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < DIM / 2; i += 2)
        *(float2 *)(own + i / 2 % 2 * 8 * APART + i / 4 * 8) = float2{ fmaf(sums[i], factor, 0.0f), fmaf(sums[i + 1], factor, 0.0f) };
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * (DIM / 4); i += 32) {
        const int row = i / (DIM / 4), column = i % (DIM / 4) * 4;
        const float4 none = { 0.0f, 0.0f, 0.0f, 0.0f };
        const float4 numbers = row < there ? *(const float4 *)(through + row * APART + column) : none;
        char *place = to + row * x.row_stride + column * x.column_stride;
        if (row >= count) break;
        if (x.kind == INVAR_CUDA_F32 && x.column_stride == 4 && column + 4 <= columns && (unsigned long long)place % 16 == 0) {
            *(float4 *)place = numbers;
            continue;
        }
        if (column < columns) write_number(place, x.kind, numbers.x);
        if (column + 1 < columns) write_number(place + x.column_stride, x.kind, numbers.y);
        if (column + 2 < columns) write_number(place + 2 * x.column_stride, x.kind, numbers.z);
        if (column + 3 < columns) write_number(place + 3 * x.column_stride, x.kind, numbers.w);
    }
}

/* 0, or NaN where a number is not finite. */
template <int COUNT> __device__ __forceinline__ float none_of(const float (&sums)[COUNT], int half) {
    float none = 0.0f;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        if (i / 2 % 2 == half) none = fmaf(sums[i], 0.0f, none);
    return none;
}

/* Keys that the batch does not have get 0. near_k, near_v: the block's. */
__device__ __forceinline__ void store(const strip &w, const invar_cuda_attention_vjp_job &job, const share_near &at, float *near_k,
                                      float *near_v) {
    const invar_cuda_attention &of = job.of;
    const invar_cuda_operand &to = BY_KEYS ? job.dk : job.dq;
    const int warp_row = (threadIdx.x - GROUP) / 32 * 16, first = at.first + warp_row, count = at.last - first;
    const int there = (BY_KEYS ? min(at.last, at.length) : at.last) - first;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = threadIdx.x % 32 / 4 + 8 * half;
        float none = none_of(w.first, half);
        if (BY_KEYS) none += none_of(w.second, half);
        none += __shfl_xor_sync(0xffffffffu, none, 1);
        none += __shfl_xor_sync(0xffffffffu, none, 2);
        if (row < count && threadIdx.x % 4 == 0) *again_of(job, at, first + row) = row < there && none != 0.0f;
    }
    if (to.data)
        store_rows<KDIM>(to, head_of(of, to, at.batch, at.head) + first * to.row_stride, of.key_dim, w.first, of.scale,
                         near_k + warp_row * K_PITCH, count, there);
#if BY_KEYS
    if (job.dv.data)
        store_rows<VDIM>(job.dv, head_of(of, job.dv, at.batch, at.head) + first * job.dv.row_stride, of.value_dim, w.second, 1.0f,
                         near_v + warp_row * V_PITCH, count, there);
#endif
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
invar_attention_vjp_parts(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ char dynamic[];
    __shared__ common shared;
    char *slots = dynamic + (-shared_address(dynamic) & 1023);
    float *near_k = (float *)(slots + SLOTS * SLOT), *near_v = near_k + ROWS * K_PITCH;
    prepare_block(job, shared);
    __syncthreads();
    if (threadIdx.x < GROUP) {
        registers_down_to<FEW_REGISTERS>();
        load(job, shared, slots);
    } else {
        registers_up_to<MANY_REGISTERS>();
        strip w;
#pragma unroll
        for (int i = 0; i < KDIM / 2; i++) w.first[i] = 0.0f;
#pragma unroll
        for (int i = 0; i < (BY_KEYS ? VDIM / 2 : 1); i++) w.second[i] = 0.0f;
        compute(w, job, shared, near_k, near_v, shared_address(slots));
        store(w, job, shared.at, near_k, near_v);
    }
}
