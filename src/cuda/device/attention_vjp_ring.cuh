/* What the threads of a block of attention_vjp_wgmma.cu share, and the warpgroup that brings its tiles. */
#ifndef INVAR_ATTENTION_VJP_RING_CUH
#define INVAR_ATTENTION_VJP_RING_CUH
#include "attention_ring.cuh"
#include "attention_vjp.cuh"
#if MASK_KIND >= 0
#include "attention_vjp_ring_mask.cuh"
#endif

typedef matrix_unit<TYPE> unit_of;
enum { THREADS = GROUP * (1 + CONSUMERS), ROWS = 64 * CONSUMERS };
enum { NEAR_K_BYTES = 2 * ROWS * KDIM, NEAR_V_BYTES = FIRST ? 2 * ROWS * VDIM : 0 };
enum { K_BYTES = 2 * FAR * KDIM, V_BYTES = 2 * FAR * VDIM };
/* Registers of a thread: of 65536, at 1 + CONSUMERS warpgroups. */
enum { FEW_REGISTERS = CONSUMERS == 2 ? 40 : 32, MANY_REGISTERS = CONSUMERS == 2 ? 232 : 160 };
static_assert(MASK_KIND < 0 || STAGES == V_STAGES, "a mask's tiles come with both");
enum { MASKS_AT = NEAR_K_BYTES + NEAR_V_BYTES + STAGES * K_BYTES + V_STAGES * V_BYTES }; /* a mask array's tiles, one a stage */
enum { MEETING = 1 }; /* the barrier of those that compute */

/* What the block's threads share besides tiles. */
struct common {
    ring k, v;
    share_near at;
    span range, own[CONSUMERS]; /* of the block, of each warpgroup that computes */
    const char *near_k, *near_v; /* rows in device memory */
    unsigned tiles_at; /* near rows, then rings of far ones */
    int begins, tiles, steps; /* the first tile's far row; tiles of a head; of all heads that far rows come from */
    int first[STAGES];        /* a tile's first far row */
    int bad[STAGES];          /* step + 1: not all near rows see the tile whole, and it has numbers that are not finite; */
    const char *bad_k[STAGES], *bad_v[STAGES]; /* its rows in device memory */
#if MASK_KIND >= 0
    int hidden[STAGES];                /* step + 1: the mask hides all of the tile */
    int careful[STAGES], near_careful; /* step + 1, or 1: what a mask hides has to be selected away */
#endif
    __align__(16) float2 stats[BY_KEYS ? STAGES * FAR : ROWS]; /* lse and delta of queries: of far ones, a stage each, or near ones */
    int power[ROWS];
};

/* ---- the warpgroup that loads --------------------------------------------------------------------------- */

/* Whether pieces that this thread brought have numbers that are not finite. */
template <int BYTES> __device__ __forceinline__ bool not_finite(const char *tile) {
    bool found = false;
    tile += threadIdx.x % GROUP * 16;
#pragma unroll 1
    for (int i = 0; i < BYTES; i += 16 * GROUP) {
        const uint4 pairs = *(const uint4 *)(tile + i);
        found |= pair_not_finite<TYPE>(pairs.x) || pair_not_finite<TYPE>(pairs.y) || pair_not_finite<TYPE>(pairs.z) ||
                 pair_not_finite<TYPE>(pairs.w);
    }
    return found;
}

/* Where the loading warpgroup is: the step's first far row, of the head whose rows begin at k and v. */
struct source {
    const char *k, *v;
    int head, far;
};

__device__ __forceinline__ void enter_head(source &from, const invar_cuda_attention_vjp_job &job, const common &shared) {
    const invar_cuda_attention &of = job.of;
    from.k = head_of(of, FAR_K, shared.at.batch, from.head) + shared.begins * FAR_K.row_stride;
    from.v = head_of(of, FAR_V, shared.at.batch, from.head) + shared.begins * FAR_V.row_stride;
    from.far = shared.begins;
}

template <int DIM>
__device__ __forceinline__ void bring_near(char *to, const char *from, const share_near &at, const invar_cuda_operand &x,
                                           int columns) {
    bring_tile<DIM, ROWS>(to, from, x, (BY_KEYS ? min(at.last, at.length) : at.last) - at.first, columns);
}

__device__ __forceinline__ void bring_stats(float2 *to, const invar_cuda_attention_vjp_job &job, const common &shared,
                                            const source &from) {
    const int row = from.far + (int)threadIdx.x;
    if (!BY_KEYS || threadIdx.x >= FAR) return;
    copy_8(to + threadIdx.x, rows_of(job, shared.at.batch, from.head) + row, row < job.of.query_len ? 8 : 0);
}

#if MASK_KIND >= 0
/* Tile t is looked at, and told to be there; it was the last that came, or the last but LEFT. */
__device__ __forceinline__ void look(const invar_cuda_attention_vjp_job &job, common &shared, const char *tiles, int t) {
    const int stage = t % STAGES;
    const char *const k_tiles = tiles + NEAR_K_BYTES + NEAR_V_BYTES, *const v_tiles = k_tiles + STAGES * K_BYTES;
    const unsigned far = loudest<V_BYTES>(loudest<K_BYTES>(0, k_tiles + stage * K_BYTES), v_tiles + stage * V_BYTES);
    bool careful = reaches(far, LOUD);
    if (BY_KEYS && threadIdx.x < FAR) careful |= !is_finite(shared.stats[stage * FAR + threadIdx.x]);
    if (careful) shared.careful[stage] = t + 1;
    if (reaches(far, unit_of::exponent)) shared.bad[stage] = t + 1;
    if (t == 0 && (!(fabsf(job.of.score_scale) < LOUD_SCALE) || reaches(loudest<NEAR_K_BYTES + NEAR_V_BYTES>(0, tiles), LOUD)))
        shared.near_careful = 1;
}
template <int LEFT> __device__ __forceinline__ void tell_k(common &shared, const char *tiles, int t) {
    copy_wait<LEFT>();
    const bool hidden = for_all(MEETING + 1, finish_copies(tiles + MASKS_AT + t % STAGES * MASK_BYTES));
    if (hidden && threadIdx.x == 0) shared.hidden[t % STAGES] = t + 1;
    show_products();
    barrier_arrive(&shared.k.full[t % STAGES]);
}
template <int LEFT>
__device__ __forceinline__ void tell_v(const invar_cuda_attention_vjp_job &job, common &shared, const char *tiles, int t) {
    copy_wait<LEFT>();
    look(job, shared, tiles, t);
    show_products();
    barrier_arrive(&shared.v.full[t % STAGES]);
}

/* Heads of far rows and of the mask: addresses are formed for each tile, since steps would take more registers than there are. */
struct heads {
    const char *k, *v, *mask;
    int head;
};
__device__ __forceinline__ void enter_head(heads &from, const invar_cuda_attention_vjp_job &job, const common &shared) {
    const invar_cuda_attention &of = job.of;
    from.k = head_of(of, FAR_K, shared.at.batch, from.head);
    from.v = head_of(of, FAR_V, shared.at.batch, from.head);
    from.mask = head_of(of, of.mask, shared.at.batch, BY_KEYS ? from.head : shared.at.head) +
                shared.at.first * (BY_KEYS ? of.mask.column_stride : of.mask.row_stride);
}

/* Tile t of k or q, from far row `far` on, and what else weights take. */
__device__ __forceinline__ void bring_k(const invar_cuda_attention_vjp_job &job, common &shared, const heads &from, char *tiles, int t,
                                        int far, int left) {
    const invar_cuda_attention &of = job.of;
    const share_near &at = shared.at;
    const int stage = t % STAGES, keys = of.key_len - (BY_KEYS ? at.first : far);
    const char *k = from.k + far * FAR_K.row_stride;
    if (threadIdx.x == 0) shared.first[stage] = far, shared.bad_k[stage] = k, shared.bad_v[stage] = from.v + far * FAR_V.row_stride;
    if (BY_KEYS && threadIdx.x < FAR)
        copy_8(shared.stats + stage * FAR + threadIdx.x, rows_of(job, at.batch, from.head) + far + threadIdx.x,
               threadIdx.x < left ? 8 : 0);
    bring_tile<KDIM, FAR>(tiles + NEAR_K_BYTES + NEAR_V_BYTES + stage * K_BYTES, k, FAR_K, left, of.key_dim);
    const char *const mask = from.mask + far * (BY_KEYS ? of.mask.row_stride : of.mask.column_stride);
    bring_mask(tiles + MASKS_AT + stage * MASK_BYTES, mask, of.mask, BY_KEYS ? left : at.last - at.first, keys);
    copy_commit();
}

__device__ __forceinline__ void load(const invar_cuda_attention_vjp_job &job, common &shared, char *tiles) {
    const invar_cuda_attention &of = job.of;
    const int last = BY_KEYS ? of.query_len : shared.at.length;
    char *const near_v = tiles + NEAR_K_BYTES, *const v_tiles = near_v + NEAR_V_BYTES + STAGES * K_BYTES;
    heads from;
    bool untold = false; /* the last tile of v or dout */
    from.head = BY_KEYS ? shared.at.head * of.group : shared.at.head / of.group;
    enter_head(from, job, shared);
    if (shared.steps) bring_near<KDIM>(tiles, shared.near_k, shared.at, NEAR_K, of.key_dim);
    for (int t = 0, far = shared.begins; t < shared.steps; t++) {
        const int stage = t % STAGES, parity = t / STAGES % 2 ^ 1;
        if (untold && !barrier_ended(&shared.k.empty[stage], parity)) tell_v<0>(job, shared, tiles, t - 1), untold = false;
        barrier_wait(&shared.k.empty[stage], parity);
        bring_k(job, shared, from, tiles, t, far, last - far);
        if (untold) tell_v<1>(job, shared, tiles, t - 1);
        if (t == 0) bring_near<VDIM>(near_v, shared.near_v, shared.at, NEAR_V, of.value_dim);
        untold = barrier_ended(&shared.v.empty[stage], parity);
        if (!untold) tell_k<0>(shared, tiles, t);
        barrier_wait(&shared.v.empty[stage], parity);
        bring_tile<VDIM, FAR>(v_tiles + stage * V_BYTES, from.v + far * FAR_V.row_stride, FAR_V, last - far, of.value_dim);
        copy_commit();
        if (untold) tell_k<1>(shared, tiles, t);
        untold = true;
        far += FAR;
        if (far < shared.range.last || t + 1 == shared.steps) continue;
        far = shared.begins;
        from.head++;
        enter_head(from, job, shared);
    }
    if (untold) tell_v<0>(job, shared, tiles, shared.steps - 1);
}
#else
__device__ __forceinline__ void load(const invar_cuda_attention_vjp_job &job, common &shared, char *tiles) {
    const invar_cuda_attention &of = job.of;
    const int last = BY_KEYS ? of.query_len : shared.at.length;
    char *const near_v = tiles + NEAR_K_BYTES, *const k_tiles = near_v + NEAR_V_BYTES, *const v_tiles = k_tiles + STAGES * K_BYTES;
    loader it = { 0 };
    source from;
    from.head = BY_KEYS ? shared.at.head * of.group : shared.at.head / of.group;
    enter_head(from, job, shared);
    if (shared.steps) bring_near<KDIM>(tiles, shared.near_k, shared.at, NEAR_K, of.key_dim);
    for (int t = 0, tile = 1; t < shared.steps; t++, tile++) {
        const int stage = t % STAGES;
        await_room(it, shared.k, t);
        if (threadIdx.x == 0) shared.first[stage] = from.far;
        bring_stats(shared.stats + stage * FAR, job, shared, from);
        bring_tile<KDIM, FAR>(k_tiles + stage * K_BYTES, from.k, FAR_K, last - from.far, of.key_dim);
        brought(it, shared.k, t);
        if (FIRST && t == 0) bring_near<VDIM>(near_v, shared.near_v, shared.at, NEAR_V, of.value_dim);
        await_room<V_STAGES>(it, shared.v, t);
        char *const v_tile = v_tiles + t % V_STAGES * V_BYTES;
        bring_tile<VDIM, FAR>(v_tile, from.v, FAR_V, last - from.far, of.value_dim);
        brought<V_STAGES>(it, shared.v, t);
        if (from.far < shared.range.all_first || from.far + FAR > shared.range.all_last) {
            copy_wait<0>();
            named_wait(MEETING + 1, GROUP);
            if (not_finite<K_BYTES>(k_tiles + stage * K_BYTES) || not_finite<V_BYTES>(v_tile))
                shared.bad[stage] = t + 1, shared.bad_k[stage] = from.k, shared.bad_v[stage] = from.v;
        }
        from.k += FAR * FAR_K.row_stride;
        from.v += FAR * FAR_V.row_stride;
        from.far += FAR;
        if (tile < shared.tiles) continue;
        tile = 0;
        from.head++;
        if (t + 1 < shared.steps) enter_head(from, job, shared);
    }
    settle(it);
}
#endif

#endif
