/* Attention of float16 or bfloat16 on Hopper's asynchronous matrix units: FlashAttention-3's way (Shah et al., 2024). One warpgroup
 * brings tiles of K and V into two rings in shared memory; CONSUMERS others hold 64 rows each, S, P and O in registers. Each issues
 * the next tile's S and this one's O together, and forms the next P while they run; the warpgroups take turns at that, so that one's
 * exponentials run beside another's products.
 *
 * KDIM, VDIM: Dk and Dv rounded up to a multiple of 64. KEYS: a tile, 128, or 64 where heads are so wide that registers (S and P
 * take 3/4 KEYS, O VDIM / 2) or shared memory ask for it. STAGES: tiles of a ring. COPIES: rows of q, k and v are such that 16-byte
 * copies may take them; else they come an element at a time, to the same bits. */
#define EARLY ADDITIVE
#define MASKED (MASK_KIND >= 0)
#include "attention_strip.cuh"
#if MASKED
#define WATCHED
#include "attention_mask.cuh"
#else
struct mask_tile {};
#endif
#include "attention_ring.cuh"

enum { THREADS = GROUP * (1 + CONSUMERS), BLOCK_ROWS = 64 * CONSUMERS };
enum { Q_BYTES = 2 * BLOCK_ROWS * KDIM, K_BYTES = 2 * KEYS * KDIM, V_BYTES = 2 * KEYS * VDIM };
/* Registers of a thread: of 65536, at 1 + CONSUMERS warpgroups. */
enum { FEW_REGISTERS = CONSUMERS == 2 ? 40 : 32, MANY_REGISTERS = CONSUMERS == 2 ? 232 : 160 };

/* What the block's threads share besides tiles. */
struct common {
    ring k, v;
    share at;
    tile_range range;
    int length;      /* keys that the batch has */
    int bad[STAGES]; /* t + 1: values of tile t that are not finite are cleared in it */
#if MASKED /* what threads that compute have no registers for */
    const char *mask[2][GROUP * CONSUMERS]; /* a thread's two rows */
    struct {
        int first, last; /* keys that position rules leave to all rows of a warpgroup */
    } all[CONSUMERS];
#endif
};

/* ---- the warpgroup that loads --------------------------------------------------------------------------- */

/* The block's rows of q, which lie apart where a group shares them. */
__device__ __forceinline__ void bring_queries(char *to, const invar_cuda_attention &of, char *unit, int first, int last) {
    const int piece = threadIdx.x % 8;
    for (int row = threadIdx.x / 8; row < BLOCK_ROWS; row += 16) {
        const bool there = first + row < last;
        const char *from = there ? row_of(of, of.q, unit, first + row) + piece * 8 * of.q.column_stride : unit;
#pragma unroll
        for (int c = 0; c < KDIM; c += COLUMNS)
            bring_piece(to + (c * BLOCK_ROWS * 2) + piece_at(row, piece), there ? from + c * of.q.column_stride : from,
                        of.q.column_stride, there ? of.key_dim - c - piece * 8 : 0);
    }
}

#if MASKED
/* Whether all of this thread's values of a tile are finite: times 0 others are NaN. */
__device__ __forceinline__ bool all_finite(const char *v) {
    v += piece_at(threadIdx.x / 8, threadIdx.x % 8);
    unsigned zero[4] = { 0, 0, 0, 0 }; /* chains side by side: the tile is told to be there after this */
#pragma unroll 4
    for (int i = 0; i < V_BYTES; i += 16 * PITCH) {
        unsigned pairs[4];
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(shared_address(v + i))
                     : "memory");
#pragma unroll
        for (int e = 0; e < 4; e++)
            asm("fma.rn." NAME_OF(TYPE) "x2 %0, %1, %2, %0;" : "+r"(zero[e]) : "r"(pairs[e]), "r"(0));
    }
    return !((zero[0] | zero[1] | zero[2] | zero[3]) & 0x7fff7fff);
}
#endif

/* Clears this thread's values of a tile that are not finite, so that they reach no row that does not see them; whether there were
 * any. */
__device__ __forceinline__ bool clear_not_finite(char *v) {
    v += piece_at(threadIdx.x / 8, threadIdx.x % 8);
    bool found = false;
#pragma unroll 2
    for (int i = 0; i < V_BYTES; i += 16 * PITCH) {
        unsigned pairs[4];
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(shared_address(v + i))
                     : "memory");
        bool bad = false;
#pragma unroll
        for (int e = 0; e < 4; e++) bad |= pair_not_finite<TYPE>(pairs[e]);
        if (!bad) continue;
        found = true;
        for (int e = 0; e < 16; e += 2) {
            bits16 *value = (bits16 *)(v + i + e);
            if ((*value & unit_of::exponent) == unit_of::exponent) *value = 0;
        }
    }
    return found;
}

#if MASKED
/* A mask may hide any key of any tile from a row, so that all values are looked at as they arrive. */
__device__ __forceinline__ void look(loader &it) {
    if (it.watched && !all_finite(it.watched) && clear_not_finite(it.watched)) *it.found = it.number;
    it.watched = 0;
}
#endif

__device__ __forceinline__ void load(const invar_cuda_attention &of, common &shared, char *q, char *k_tiles, char *v_tiles) {
    const share at = shared.at;
    const int rows = of.group * of.query_len, first = at.tile * BLOCK_ROWS;
    const int last = first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows;
    const int start = shared.range.first / KEYS * KEYS, tiles = (shared.range.last - start + KEYS - 1) / KEYS;
    const char *k = batch_of(of, of.k, at.batch) + at.kv_head * of.k.head_stride + start * of.k.row_stride;
    const char *v = batch_of(of, of.v, at.batch) + at.kv_head * of.v.head_stride + start * of.v.row_stride;
    loader it = { 0 };
    if (tiles) bring_queries(q, of, batch_of(of, of.q, at.batch) + at.kv_head * of.group * of.q.head_stride, first, last);
    for (int t = 0; t <= tiles; t++) {
        const int key = start + t * KEYS, before = t - 1;
        if (t < tiles) {
            await_room(it, shared.k, t);
            bring_tile<KDIM, KEYS, MASKED>(k_tiles + t % STAGES * K_BYTES, k, of.k, shared.length - key, of.key_dim);
            brought(it, shared.k, t);
            k += KEYS * of.k.row_stride;
        }
        if (t > 0) {
            char *tile = v_tiles + before % STAGES * V_BYTES;
            await_room(it, shared.v, before);
            bring_tile<VDIM, KEYS, MASKED>(tile, v, of.v, shared.length - key + KEYS, of.value_dim);
            brought(it, shared.v, before);
            v += KEYS * of.v.row_stride;
#if MASKED
            it.watched = tile, it.found = &shared.bad[before % STAGES], it.number = t;
#else
            if (key - KEYS < shared.range.all_first || key > shared.range.all_last) {
                copy_wait<0>();
                if (clear_not_finite(tile)) shared.bad[before % STAGES] = t;
            }
#endif
        }
    }
    settle(it);
}

/* ---- the warpgroups that compute ------------------------------------------------------------------------ */

/* S = Q Kᵀ. */
__device__ __forceinline__ void score(strip &w, descriptor q, descriptor k) {
    products_begin();
    warpgroup_unit<KEYS>::rows(w.s, q, k);
#pragma unroll
    for (int d = 16; d < KDIM; d += 16)
        warpgroup_unit<KEYS>::add_rows(w.s, further(q, d / COLUMNS * BLOCK_ROWS * PITCH + d % COLUMNS * 2),
                                       further(k, d / COLUMNS * KEYS * PITCH + d % COLUMNS * 2));
    products_end();
}

/* O += P V. */
__device__ __forceinline__ void add_values(strip &w, const unsigned p[KEYS / 16][4], descriptor v) {
    products_begin();
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) warpgroup_unit<VDIM>::add_columns(w.o, p[j], further(v, 16 * j * PITCH));
    products_end();
}

/* Values that were cleared are added to O where a row sees them. */
__device__ __forceinline__ void add_not_finite(strip &w, const masking &by, const common &shared, int row, int key) {
    const invar_cuda_attention &of = *by.of;
    const share &at = shared.at;
    const char *v = batch_of(of, of.v, at.batch) + at.kv_head * of.v.head_stride;
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half < by.rows ? row + 8 * half : by.rows - 1;
        const key_range seen = range_of(of, by.length, r / of.group);
        const int from = key > seen.first ? key : seen.first, to = key + KEYS < seen.last ? key + KEYS : seen.last;
        for (int i = from; i < to; i++) {
#if MASKED
            const float element = read_number(shared.mask[half][threadIdx.x - GROUP] + i * of.mask.column_stride, MASK_KIND);
            if (ADDITIVE ? element == MINUS_INFINITY : element == 0.0f) continue;
#endif
#pragma unroll
            for (int n = 0; n < VDIM / 8; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    const int c = 8 * n + column + e;
                    if (c >= of.value_dim) continue;
                    const TYPE value = { *(const bits16 *)(v + i * of.v.row_stride + c * of.v.column_stride) };
                    if ((value.bits & unit_of::exponent) == unit_of::exponent) w.o[4 * n + 2 * half + e] += widen(value);
                }
        }
    }
}

/* Where a warpgroup's rows are, and what it computes with. */
struct place {
    int row, last, start, tiles; /* row: this thread's first; start: the first tile's key */
    int turn, next_turn;
    tile_range range;
    descriptor q, k, v;
};

__device__ __forceinline__ place place_of(const invar_cuda_attention_job &job, const common &shared, const char *q, const char *k,
                                          const char *v) {
    const invar_cuda_attention &of = job.of;
    const int group = threadIdx.x / GROUP - 1, rows = of.group * of.query_len, first = shared.at.tile * BLOCK_ROWS + 64 * group;
    place at;
    at.row = first + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    at.last = first + 64 < rows ? first + 64 : rows;
    at.start = shared.range.first / KEYS * KEYS;
    at.tiles = (shared.range.last - at.start + KEYS - 1) / KEYS;
    at.turn = 1 + group;
    at.next_turn = 1 + (group + 1) % CONSUMERS;
    at.range = tile_range_of(job, shared.at, shared.length, first < rows ? first : rows - 1, at.last);
    at.q = describe(shared_address(q) + 64 * PITCH * group, 16);
    at.k = describe(shared_address(k), 16);
    at.v = describe(shared_address(v), KEYS * PITCH);
    return at;
}

#if MASKED
__device__ __forceinline__ int row_of_thread(const common &shared) {
    return shared.at.tile * BLOCK_ROWS + (threadIdx.x - GROUP) / 32 * 16 + threadIdx.x % 32 / 4;
}

/* Leaves in shared memory what masking takes from there. */
__device__ __forceinline__ void begin_mask(const invar_cuda_attention &of, common &shared, const place &at) {
    const int i = threadIdx.x - GROUP, row = row_of_thread(shared), rows = of.group * of.query_len;
    char *mask = batch_of(of, of.mask, shared.at.batch) + shared.at.kv_head * of.group * of.mask.head_stride;
#pragma unroll
    for (int half = 0; half < 2; half++)
        shared.mask[half][i] = row_of(of, of.mask, mask, row + 8 * half < rows ? row + 8 * half : rows - 1);
    shared.all[i / GROUP].first = at.range.all_first, shared.all[i / GROUP].last = at.range.all_last; /* by each, for itself */
}

__device__ __forceinline__ void bring_mask(mask_tile &to, const invar_cuda_attention &of, const common &shared, int key) {
    const long long step = of.mask.column_stride;
    const int i = threadIdx.x - GROUP;
    key += threadIdx.x % 4 * 8;
    const char *const rows[2] = { shared.mask[0][i] + key * step, shared.mask[1][i] + key * step };
    read_mask(to, rows, step, of.key_len - key);
}

__device__ __forceinline__ void mask_scores(strip &w, const invar_cuda_attention &of, const mask_tile &with, const common &shared,
                                            int key) {
    const int group = threadIdx.x / GROUP - 1;
    apply_mask(w, of, with);
    if (key >= shared.all[group].first && key + KEYS <= shared.all[group].last) return;
    const masking by = { &of, 0, shared.length, of.group * of.query_len };
    limit(w, by, row_of_thread(shared), key + threadIdx.x % 4 * 8);
}
__device__ __forceinline__ float most_seen_of(strip &w, int half, const invar_cuda_attention &of, const common &shared, int key) {
#if ADDITIVE
    const long long step = of.mask.column_stride;
    key += threadIdx.x % 4 * 8;
    return most_seen(w, half, shared.mask[half][threadIdx.x - GROUP] + key * step, step, of.key_len - key);
#else
    return most_of(w, half);
#endif
}
#endif

/* The tile's S becomes P; factor: what O is to be scaled by before P's values are added. */
__device__ __forceinline__ void weigh_tile(strip &w, const masking &by, const mask_tile &with, const common &shared,
                                           const place &at, int t, float factor[2]) {
    const int key = at.start + t * KEYS;
    const float scale = scale_of(*by.of);
    float base[2];
#if MASKED
    mask_scores(w, *by.of, with, shared, key);
#else
    convert(w, *by.of);
    if (key < at.range.all_first || key + KEYS > at.range.all_last) mask(w, by, at.row, key + threadIdx.x % 4 * 2);
#endif
#pragma unroll
    for (int half = 0; half < 2; half++) {
#if MASKED
        const float most = most_seen_of(w, half, *by.of, shared, key);
#else
        const float most = most_of(w, half);
#endif
        factor[half] = raise(w, half, most, base[half], scale);
    }
    weigh(w, base, scale);
}

__device__ __forceinline__ void pack(unsigned p[KEYS / 16][4], const strip &w) {
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) pack_weights(p[j], w, j);
}

__device__ __forceinline__ void await_score(strip &w, const place &at, common &shared, int t) {
    barrier_wait(&shared.k.full[t % STAGES], t / STAGES % 2);
    score(w, at.q, further(at.k, t % STAGES * K_BYTES));
}

/* Whether values were cleared. */
__device__ __forceinline__ bool await_values(strip &w, const unsigned p[KEYS / 16][4], const place &at, common &shared, int t) {
    barrier_wait(&shared.v.full[t % STAGES], t / STAGES % 2);
    const bool bad = shared.bad[t % STAGES] == t + 1;
    add_values(w, p, further(at.v, t % STAGES * V_BYTES));
    return bad;
}

#if MASKED
#define MASKING masking{ &job.of, 0, shared.length, job.of.group * job.of.query_len }
#define ROW row_of_thread(shared)
#define LAST (job.of.group * job.of.query_len)
#else
#define MASKING by
#define ROW at.row
#define LAST at.last
#endif
__device__ __forceinline__ void attend(const invar_cuda_attention_job &job, common &shared, const place &at) {
#if !MASKED
    const masking by = { &job.of, 0, shared.length, job.of.group * job.of.query_len };
#endif
    strip w;
    unsigned p[KEYS / 16][4];
    float factor[2];
    mask_tile with;
    begin(w);
    if (at.turn == CONSUMERS) named_arrive(at.next_turn, 2 * GROUP);
    if (at.tiles) {
#if MASKED
        begin_mask(job.of, shared, at);
        bring_mask(with, job.of, shared, at.start);
#endif
        await_score(w, at, shared, 0);
        products_wait<0>();
        hold(w.s);
        leave(&shared.k.empty[0]);
        weigh_tile(w, MASKING, with, shared, at, 0, factor);
        pack(p, w);
        for (int t = 1; t < at.tiles; t++) {
#if MASKED
            bring_mask(with, job.of, shared, at.start + t * KEYS);
#endif
            named_wait(at.turn, 2 * GROUP);
            await_score(w, at, shared, t);
            const bool bad = await_values(w, p, at, shared, t - 1);
            named_arrive(at.next_turn, 2 * GROUP);
            products_wait<1>();
            hold(w.s);
            leave(&shared.k.empty[t % STAGES]);
            weigh_tile(w, MASKING, with, shared, at, t, factor);
            stay_before(w.l[0] + w.l[1]);
            products_wait<0>();
            hold(w.o);
            leave(&shared.v.empty[(t - 1) % STAGES]);
            if (bad) add_not_finite(w, MASKING, shared, ROW, at.start + (t - 1) * KEYS);
#pragma unroll
            for (int half = 0; half < 2; half++) rescale(w, half, factor[half]);
            pack(p, w);
        }
        const bool bad = await_values(w, p, at, shared, at.tiles - 1);
        products_wait<0>();
        hold(w.o);
        if (bad) add_not_finite(w, MASKING, shared, ROW, at.start + (at.tiles - 1) * KEYS);
    }
    store(job, shared.at, w, ROW, LAST, scale_of(job.of));
}

/* ---- the program ---------------------------------------------------------------------------------------- */

__device__ __forceinline__ void prepare_block(const invar_cuda_attention_job &job, common &shared) {
    shared.at = share_of(job);
    const int rows = job.of.group * job.of.query_len, first = shared.at.tile * BLOCK_ROWS;
    shared.length = length_of(job.of, shared.at.batch);
    shared.range = tile_range_of(job, shared.at, shared.length, first, first + BLOCK_ROWS < rows ? first + BLOCK_ROWS : rows);
    for (int i = 0; i < STAGES; i++) {
        barrier_begin(&shared.k.full[i], GROUP), barrier_begin(&shared.v.full[i], GROUP);
        barrier_begin(&shared.k.empty[i], 4 * CONSUMERS), barrier_begin(&shared.v.empty[i], 4 * CONSUMERS); /* warps */
        shared.bad[i] = 0;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    invar_attention_wgmma(const __grid_constant__ invar_cuda_attention_job job) {
    extern __shared__ char dynamic[];
    __shared__ common shared;
    char *q = dynamic + (-shared_address(dynamic) & 1023), *k = q + Q_BYTES, *v = k + STAGES * K_BYTES;
    if (threadIdx.x == 0) prepare_block(job, shared);
    __syncthreads();
    if (threadIdx.x < GROUP) {
        registers_down_to<FEW_REGISTERS>();
        load(job.of, shared, q, k, v);
    } else {
        registers_up_to<MANY_REGISTERS>();
        attend(job, shared, place_of(job, shared, q, k, v));
    }
}
