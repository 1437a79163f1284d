/* Attention of float32 on matrix units, each number as three of bfloat16 (attention_parts.cuh): FlashAttention-2's way (Dao, 2023).
 * A warp holds STRIPS strips of 16 rows and splits its part of Q anew for each tile; S stays in registers, and so do the parts of P.
 * K and V take turns: the one comes into shared memory as it is while the other, split there, is multiplied.
 *
 * KDIM, VDIM: Dk and Dv rounded up to a multiple of 32. WARPS, STRIPS: 16 · WARPS · STRIPS rows a block. KEYS: a tile, 32 or 64.
 * RESIDENT: blocks a multiprocessor is to hold. Q_KIND …, VECTOR: as attention_float_tile.cuh tells. */
#define TYPE bfloat16
#define OUT float
#define POSITIVE 1
#define EARLY 1 /* scores are brought to base 2 before m is taken */
#include "attention_strip.cuh"
#include "attention_float_tile.cuh"
#include "attention_parts.cuh"

enum { THREADS = 32 * WARPS, WARP_ROWS = 16 * STRIPS, BLOCK_ROWS = WARPS * WARP_ROWS, WIDER = KDIM > VDIM ? KDIM : VDIM,
       WIDEST = WIDER > 64 ? WIDER : 64 };
/* Rows of float lie 8 banks apart, those of parts 4: what a warp reads at once is in different banks. */
enum { Q_PITCH = KDIM + 8, K_PITCH = KDIM + 8, V_PITCH = VDIM + 8, PLANE = KEYS * (WIDEST + 8), PIECE = 32 /* keys of add_plainly */ };
#define CROWDED (STRIPS * VDIM > 128)
#define MASKED 0x80000000u /* the bits of -0, which no weight has: a key that the row masks out */

static_assert(BLOCK_ROWS * PIECE * 4 <= PARTS * PLANE * 2, "no room for weights where parts were");

/* What a warp holds. */
struct warp_state {
    strip of[STRIPS];
};

/* This thread's first numbers of the left factor's fragment, of its warp's rows of q. */
__device__ __forceinline__ const float *own_rows(const float *q) {
    const int thread = threadIdx.x;
    return q + (thread / 32 * WARP_ROWS + thread % 32 / 4) * Q_PITCH + thread % 4 * 2;
}

__device__ __forceinline__ void clear_scores(warp_state &w) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int e = 0; e < KEYS / 2; e++) w.of[i].s[e] = 0.0f;
}

/* c += the products of parts whose numbers' sum is from LEAST to MOST, of STRIPS left factors and of two neighbours of the right one;
 * c: APART from strip to strip. */
template <int LEAST, int MOST, int APART>
__device__ __forceinline__ void multiply_parts(float *c, const unsigned a[STRIPS][PARTS][4], const unsigned b[PARTS][4]) {
#pragma unroll
    for (int sum = MOST; sum >= LEAST; sum--)
#pragma unroll
        for (int p = 0; p <= sum; p++)
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
#pragma unroll
                for (int n = 0; n < 2; n++)
                    matrix_unit<bfloat16>::multiply(c + i * APART + 4 * n, a[i][p], b[sum - p][2 * n], b[sum - p][2 * n + 1]);
}

/* S += Q Kᵀ. parts: K's. */
__device__ __forceinline__ void score(warp_state &w, const float *q, const bits16 *parts) {
    const int lane = threadIdx.x % 32;
    const unsigned k = shared_address(parts + (lane / 16 * 8 + lane % 8) * K_PITCH + lane / 8 % 2 * 8);
    float small[STRIPS][KEYS / 2];
    q = own_rows(q);
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int e = 0; e < KEYS / 2; e++) small[i][e] = 0.0f;
#pragma unroll 1
    for (int d = 0; d < KDIM; d += 16) {
        unsigned a[STRIPS][PARTS][4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++) split_rows<Q_PITCH>(a[i], q + 16 * i * Q_PITCH + d);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            unsigned b[PARTS][4];
            if (CROWDED) __syncwarp(); /* no load comes so early that registers spill */
#pragma unroll
            for (int p = 0; p < PARTS; p++) load_matrices(b[p], k + 2 * (p * PLANE + 8 * n * K_PITCH + d));
            multiply_parts<1, 2, KEYS / 2>(&small[0][4 * n], a, b);
            multiply_parts<0, 0, sizeof(strip) / 4>(&w.of[0].s[4 * n], a, b);
        }
    }
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int e = 0; e < KEYS / 2; e++) w.of[i].s[e] += small[i][e];
}

/* The same by multiply-adds, for numbers of q or k that have no parts: k as it came. */
__device__ __forceinline__ void score_plainly(warp_state &w, const float *q, const float *k) {
    k += thread_reread() % 4 * 2 * KDIM;
    q = own_rows(q) - thread_reread() % 4 * 2;
#pragma unroll 1
    for (int d = 0; d < KDIM; d++)
#pragma unroll
        for (int n = 0; n < KEYS / 2; n++) {
            const float x = k[(n / 4 * 8 + n % 2) * KDIM + d];
#pragma unroll
            for (int i = 0; i < STRIPS; i++) w.of[i].s[n] = fmaf(q[(16 * i + n / 2 % 2 * 8) * Q_PITCH + d], x, w.of[i].s[n]);
        }
}

/* m and l, from where they wait between tiles. */
__device__ __forceinline__ void read_state(warp_state &w, const float (*state)[STRIPS][4]) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++) {
        const float4 x = *(const float4 *)state[thread_reread()][i];
        w.of[i].m[0] = x.x, w.of[i].m[1] = x.y, w.of[i].l[0] = x.z, w.of[i].l[1] = x.w;
    }
}
__device__ __forceinline__ void write_state(const warp_state &w, float (*state)[STRIPS][4]) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
        *(float4 *)state[thread_reread()][i] = float4{ w.of[i].m[0], w.of[i].m[1], w.of[i].l[0], w.of[i].l[1] };
}

/* S becomes P, factor what O is to be scaled by. m, l: the threads' own; registers are scarce. row, key: the first of this thread. */
__device__ __forceinline__ void weigh_tile(warp_state &w, float (*state)[STRIPS][4], float factor[STRIPS][2], const masking &by,
                                           bool partly, int row, int key) {
    read_state(w, state);
#pragma unroll
    for (int i = 0; i < STRIPS; i++) {
        float base[2];
        convert(w.of[i], *by.of);
        if (partly) mask(w.of[i], by, row + 16 * i, key);
#pragma unroll
        for (int half = 0; half < 2; half++) factor[i][half] = raise(w.of[i], half, most_of(w.of[i], half), base[half], 1.0f);
#pragma unroll
        for (int e = 0; e < KEYS / 2; e++) {
            const float s = w.of[i].s[e], weight = exp2_fast(s - base[e / 2 % 2]);
            w.of[i].l[e / 2 % 2] += weight;
            w.of[i].s[e] = partly && s == MINUS_INFINITY ? __uint_as_float(MASKED) : weight;
        }
    }
    write_state(w, state);
}

/* O = O · factor + P V: the sums of 16 keys are formed by themselves and then added. parts: V's. */
__device__ __forceinline__ void add_values(warp_state &w, float (&factor)[STRIPS][2], const bits16 *parts) {
    const int lane = threadIdx.x % 32;
    unsigned v = shared_address(parts + lane % 16 * V_PITCH + lane / 16 * 8);
#pragma unroll 1
    for (int j = 0; j < KEYS / 16; j++) {
        unsigned a[STRIPS][PARTS][4];
#pragma unroll
        for (int i = 0; i < STRIPS; i++) {
            split_sums(a[i], w.of[i].s, 0);
#pragma unroll
            for (int e = 8; e < KEYS / 2; e++) w.of[i].s[e - 8] = w.of[i].s[e];
        }
#pragma unroll
        for (int n = 0; n < VDIM / 8; n += 2) {
            float sums[STRIPS][8];
            unsigned b[PARTS][4];
            if (CROWDED || n % 8 == 0) __syncwarp();
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
#pragma unroll
                for (int e = 0; e < 8; e++) sums[i][e] = 0.0f;
#pragma unroll
            for (int p = 0; p < PARTS; p++) load_transposed(b[p], v + 2 * (p * PLANE + 8 * n));
            multiply_parts<0, 2, 8>(sums[0], a, b);
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    float &o = w.of[i].o[4 * n + e];
                    o = fmaf(o, factor[i][e / 2 % 2], sums[i][e]);
                }
        }
#pragma unroll
        for (int i = 0; i < STRIPS; i++) factor[i][0] = factor[i][1] = 1.0f;
        v += 2 * 16 * V_PITCH;
    }
}

/* The same by multiply-adds, but for masked keys, for values that have no parts: v as it came. p: room for the warp's weights of
 * PIECE keys. */
__device__ __forceinline__ void add_plainly(warp_state &w, const float factor[STRIPS][2], float *p, const float *v) {
    const int row = thread_reread() % 32 / 4, column = thread_reread() % 4 * 2;
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int e = 0; e < VDIM / 2; e++) w.of[i].o[e] *= factor[i][e / 2 % 2];
#pragma unroll
    for (int piece = 0; piece < KEYS / PIECE; piece++) {
        __syncwarp();
#pragma unroll
        for (int i = 0; i < STRIPS; i++)
#pragma unroll
            for (int e = 0; e < PIECE / 2; e++)
                p[(16 * i + row + e / 2 % 2 * 8) * PIECE + e / 4 * 8 + column + e % 2] = w.of[i].s[piece * (PIECE / 2) + e];
        __syncwarp();
#pragma unroll 1
        for (int j = 0; j < PIECE; j++)
#pragma unroll
            for (int i = 0; i < STRIPS; i++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const float weight = p[(16 * i + row + 8 * half) * PIECE + j];
                    if (__float_as_uint(weight) == MASKED) continue;
#pragma unroll
                    for (int n = 0; n < VDIM / 8; n++) {
                        const float2 x = *(const float2 *)(v + (piece * PIECE + j) * VDIM + 8 * n + column);
                        float *o = &w.of[i].o[4 * n + 2 * half];
                        o[0] = fmaf(weight, x.x, o[0]);
                        o[1] = fmaf(weight, x.y, o[1]);
                    }
                }
    }
}

/* Whether a number of q has no parts, of this thread's. */
__device__ __forceinline__ bool too_large(const float *q) {
    bool found = false;
#pragma unroll 1
    for (int i = threadIdx.x; i < BLOCK_ROWS * KDIM; i += THREADS) found |= !(fabsf(q[i / KDIM * Q_PITCH + i % KDIM]) < TOO_LARGE);
    return found;
}

/* The block's share and the keys that its rows see; registers are scarce, so these are read again. */
struct block_share {
    share at;
    tile_range range, warps[WARPS]; /* of all rows; of each warp's, none where it has no rows */
    __align__(16) float state[THREADS][STRIPS][4]; /* m and l of each thread's rows; */
    int keys[THREADS];                             /* the first key of its tile */
    int length, first, last;
    bool plain; /* q has numbers without parts */
    char *q, *mask; /* of the unit's first row */
    const char *k, *v;
};

__device__ __forceinline__ void find_share(block_share &to, const invar_cuda_attention_job &job) {
    if (threadIdx.x < WARPS) {
        const share at = share_of(job);
        const int rows = job.of.group * job.of.query_len, length = length_of(job.of, at.batch);
        const int first = at.tile * BLOCK_ROWS, last = min(first + BLOCK_ROWS, rows), here = first + threadIdx.x * WARP_ROWS;
        if (here < last) to.warps[threadIdx.x] = tile_range_of(job, at, length, here, min(here + WARP_ROWS, last));
        else to.warps[threadIdx.x] = tile_range{ 0, 0, 0, 0 };
        if (threadIdx.x == 0) {
            to.at = at;
            to.range = tile_range_of(job, at, length, first, last);
            to.length = length, to.first = first, to.last = last;
            to.q = batch_of(job.of, job.of.q, at.batch) + at.kv_head * job.of.group * job.of.q.head_stride;
            to.k = batch_of(job.of, job.of.k, at.batch) + at.kv_head * job.of.k.head_stride;
            to.v = batch_of(job.of, job.of.v, at.batch) + at.kv_head * job.of.v.head_stride;
            to.mask = MASK_KIND < 0 ? nullptr
                                    : batch_of(job.of, job.of.mask, at.batch) + at.kv_head * job.of.group * job.of.mask.head_stride;
        }
    }
    __syncthreads();
}

/* Registers are scarce: it is read wherever it is used. */
__device__ __forceinline__ volatile int &own_key(block_share &block) { return block.keys[thread_reread()]; }

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
invar_attention_parts(const __grid_constant__ invar_cuda_attention_job job) {
    extern __shared__ __align__(16) float shared[];
    float *q = shared, *raw = q + BLOCK_ROWS * Q_PITCH;
    bits16 *parts = (bits16 *)(raw + KEYS * WIDEST);
    const invar_cuda_attention &of = job.of;
    __shared__ block_share block;
    find_share(block, job);
    const tile_range &range = block.range;
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * WARP_ROWS;
    const int begins = range.first / KEYS * KEYS;
    if (begins < range.last) {
        load_queries<THREADS, BLOCK_ROWS, KDIM, Q_PITCH>(q, of, block.q, block.first, block.last - block.first, of.key_dim,
                                                         thread_reread());
        copy_wait<0>();
        __syncthreads();
        block.plain = __syncthreads_or(too_large(q));
        load_tile<K_KIND, THREADS, KEYS, KDIM, KDIM>(raw, block.k + begins * of.k.row_stride, of.k, block.length - begins, of.key_dim,
                                                     thread_reread());
    }
    warp_state w;
#pragma unroll
    for (int i = 0; i < STRIPS; i++) begin(w.of[i]);
    write_state(w, block.state);
#define key own_key(block)
    for (key = begins; key < range.last; key = key + KEYS) {
        const bool partly = MASK_KIND >= 0 || key < range.all_first || key + KEYS > range.all_last;
        const tile_range &own = block.warps[thread_reread() / 32];
        const bool sees = key < own.last && key + KEYS > own.first; /* else this tile changes nothing of the warp's */
        float factor[STRIPS][2];
        clear_scores(w);
        copy_wait<0>();
        __syncthreads();
        const bool plain_k = __syncthreads_or(split_tile<THREADS, KEYS, KDIM, K_PITCH, PLANE>(parts, raw) || block.plain);
        if (plain_k) {
            if (sees) score_plainly(w, q, raw);
            __syncthreads();
        }
        load_tile<V_KIND, THREADS, KEYS, VDIM, VDIM>(raw, block.v + key * of.v.row_stride, of.v, block.length - key, of.value_dim,
                                                 thread_reread());
        if (sees && !plain_k) score(w, q, parts);
        if (sees)
            weigh_tile(w, block.state, factor, masking{ &of, block.mask, block.length, of.group * of.query_len }, partly,
                       block.first + warp_row + thread_reread() % 32 / 4, key + thread_reread() % 4 * 2);
        copy_wait<0>();
        __syncthreads();
        const bool plain_v = __syncthreads_or(split_tile<THREADS, KEYS, VDIM, V_PITCH, PLANE>(parts, raw));
        if (plain_v) {
            if (sees) add_plainly(w, factor, (float *)parts + warp_row * PIECE, raw);
            __syncthreads();
        }
        if (key + KEYS < range.last)
            load_tile<K_KIND, THREADS, KEYS, KDIM, KDIM>(raw, block.k + (key + KEYS) * of.k.row_stride, of.k,
                                                         block.length - key - KEYS, of.key_dim, thread_reread());
        if (!plain_v && sees) add_values(w, factor, parts);
    }
#undef key
    read_state(w, block.state);
#pragma unroll
    for (int i = 0; i < STRIPS; i++) store(job, block.at, w.of[i], block.first + warp_row + lane / 4 + 16 * i, block.last, 1.0f);
}
