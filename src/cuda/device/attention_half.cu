/* Attention of float16 or bfloat16 on matrix units: FlashAttention-2's way (Dao, 2023). A warp holds STRIPS strips of 16 rows; S
 * stays in registers, rounded to TYPE as P for its product with V; K and V come through shared memory, each loaded while the
 * other is multiplied.
 *
 * KDIM, VDIM: Dk and Dv rounded up to a multiple of 32. SLABS: Dk is greater than KDIM, and Q and K come in slabs of KDIM features,
 * again for each tile of keys. WARPS, STRIPS: 16 · WARPS · STRIPS rows a block. KEYS: a tile. COPIES: rows
 * of q, k and v are such that 16-byte copies may take them. POSITIVE: so is scale. RESIDENT: blocks a multiprocessor is to hold. */
#include "attention_strip.cuh"
#include "attention_tile.cuh"

enum { THREADS = 32 * WARPS, BLOCK_ROWS = 16 * WARPS * STRIPS };
/* Rows lie 16 bytes further apart than they are long, so that eight of them are in different banks. */
enum { K_PITCH = KDIM + 8, V_PITCH = VDIM + 8 };
/* What a warp holds. */
struct warp_state {
    strip of[STRIPS];
};

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

__device__ __forceinline__ void begin(warp_state &w) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++) begin(w.of[i]);
}

__device__ __forceinline__ void clear_scores(warp_state &w) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int e = 0; e < KEYS / 2; e++) w.of[i].s[e] = 0.0f;
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
                unit_of::multiply(&w.of[i].s[4 * n], a[i], b[0], b[1]);
                unit_of::multiply(&w.of[i].s[4 * n + 4], a[i], b[2], b[3]);
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
        for (int i = 0; i < STRIPS; i++) pack_weights(a[i], w.of[i], j);
#pragma unroll
        for (int n = 0; n < VDIM / 8; n += 2) {
            load_transposed(b, v + 2 * (16 * j * V_PITCH + 8 * n));
#pragma unroll
            for (int i = 0; i < STRIPS; i++) {
                unit_of::multiply(&w.of[i].o[4 * n], a[i], b[0], b[1]);
                unit_of::multiply(&w.of[i].o[4 * n + 4], a[i], b[2], b[3]);
            }
        }
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
                    if (w.of[i].s[4 * n + 2 * half + e] != MINUS_INFINITY) seen |= 1ull << (8 * n + e);
            seen <<= column;
            seen |= __shfl_xor_sync(0xffffffffu, seen, 1);
            seen |= __shfl_xor_sync(0xffffffffu, seen, 2);
            for (int key = 0; key < KEYS; key++) {
                if (!(seen >> key & 1)) continue;
#pragma unroll
                for (int n = 0; n < VDIM / 8; n++) {
                    const unsigned pair = *(const unsigned *)(v + key * V_PITCH + 8 * n + column);
                    TYPE low = { (bits16)pair }, high = { (bits16)(pair >> 16) };
                    if ((pair & unit_of::exponent) == unit_of::exponent) w.of[i].o[4 * n + 2 * half] += widen(low);
                    if ((pair >> 16 & unit_of::exponent) == unit_of::exponent) w.of[i].o[4 * n + 2 * half + 1] += widen(high);
                }
            }
        }
    __syncthreads();
    not_finite<true>(v);
}

/* S as weigh() takes it. */
__device__ __forceinline__ void prepare(warp_state &w, const masking &by, bool partly, int row, int key, float base[STRIPS][2],
                                        float scale) {
#pragma unroll
    for (int i = 0; i < STRIPS; i++) convert(w.of[i], *by.of);
    if (partly)
#pragma unroll
        for (int i = 0; i < STRIPS; i++) mask(w.of[i], by, row + 16 * i, key);
#pragma unroll
    for (int i = 0; i < STRIPS; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            rescale(w.of[i], half, raise(w.of[i], half, most_of(w.of[i], half), base[i][half], scale));
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
    const masking by = { &of, MASK_KIND < 0 ? 0 : batch_of(of, of.mask, at.batch) + head * of.mask.head_stride, length, rows };
    const int row = first + warp_row + lane / 4; /* of this thread in the first strip */
    const float scale = scale_of(of);
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
        prepare(w, by, partly, row, key + lane % 4 * 2, base, scale);
        if (partly && not_finite<false>(v_tile)) add_not_finite(w, v_tile);
#pragma unroll
        for (int i = 0; i < STRIPS; i++) weigh(w.of[i], base[i], scale);
        add_values(w, v_at);
    }
#pragma unroll
    for (int i = 0; i < STRIPS; i++) store(job, at, w.of[i], row + 16 * i, last, scale);
}
