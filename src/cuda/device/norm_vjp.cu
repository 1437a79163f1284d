/* The VJPs of rms_norm and layer_norm on CUDA devices: a block, or, of long rows, a cluster of CLUSTER blocks, walks over a chunk of
 * rows. GROUP threads of each block share a row; each copies its own elements of x and dy into shared memory, those of the next row
 * while it works on this one, and keeps its own elements' sums for dweight and dbias in registers. Of such long rows that PIECES is 0
 * all of this is in device memory.
 *
 * CENTRED: layer_norm. SUMS: dweight or dbias is wanted. STAGES: rows of a group that shared memory holds, 0 to 2; with 0 they are
 * read again in each pass. THREADS: of a block, whole rows' of them. The rest: norm_row.cuh; "other" is dy, "y" dx. */
#include "norm_row.cuh"

enum {
    ROWS = THREADS / GROUP,
    SLOT = 16, /* bytes of a piece in shared memory */
    VECTORS = CENTRED ? 2 : 1,
    STAGED = STAGES * 2 * PIECES * THREADS * SLOT, /* bytes of rows in shared memory; then, or in their place, the groups' sums */
    GROUPED = ROWS > 1 && SUMS ? THREADS * PIECES * VEC * 4 : 0,
    WEIGHT_HELD = HAS_WEIGHT && (PIECES * VEC * ((SUMS ? VECTORS : 0) + sizeof(WEIGHT_TYPE) / 4.0) <= 40 ||
                                 (CLUSTER > 1 && WIDTH >= 4 && PIECES * VEC * (1 + sizeof(WEIGHT_TYPE) / 4.0) <= 48))
};
#define IN_REGISTERS (SUMS && PIECES)
#define IN_MEMORY (SUMS && !PIECES)
#define BIAS_IN_SHARED (IN_REGISTERS && CENTRED && PIECES * VEC > 16) /* dbias's sums: there are too few registers */
#define BIAS_IN_REGISTERS (IN_REGISTERS && CENTRED && !BIAS_IN_SHARED)
#define CHUNK (blockIdx.x / CLUSTER)

extern __shared__ __align__(16) char shared[];

/* ---- rows on their way -------------------------------------------------------------------------------- */

/* This thread's piece c of x (operand 0) or dy (1). */
__device__ __forceinline__ char *slot_of(int stage, int operand, int c) {
    return shared + (((stage * 2 + operand) * PIECES + c) * THREADS + (int)threadIdx.x) * SLOT;
}

template <typename T>
__device__ __forceinline__ void copy_piece(char *slot, const char *row, long long step, place i, place features) {
#if WIDTH > 1
    constexpr int bytes = WIDTH * sizeof(T) < SLOT ? WIDTH * sizeof(T) : SLOT;
#pragma unroll
    for (int at = 0; at < VEC * (int)sizeof(T); at += bytes) {
        const bool there = i + at / (int)sizeof(T) < features;
        copy_later<bytes>(slot + at, there ? row + i * (int)sizeof(T) + at : row, there);
    }
#else
    piece<T> p;
    read_piece<false>(p, row, step, i, features);
    *(piece<T> *)slot = p;
#endif
}

/* A row that a thread works on. */
struct row_places {
    const char *x, *dy;
    float first; /* the row's first element */
};

__device__ __forceinline__ void find_row(row_places &row, const invar_cuda_norm_job &job, long long at) {
    row.x = row_of(job, job.x, at);
    row.dy = row_of(job, job.other, at);
    row.first = CENTRED ? widen(*(const X_TYPE *)row.x) : 0.0f;
}

__device__ __forceinline__ void fetch_row(const invar_cuda_norm_job &job, const row_places &row, int stage, place features) {
#if STAGES
    FOR_PIECES {
        copy_piece<X_TYPE>(slot_of(stage, 0, c), row.x, job.x.step, place_of(c), features);
        copy_piece<OTHER_TYPE>(slot_of(stage, 1, c), row.dy, job.other.step, place_of(c), features);
    }
#endif
    group_copies();
}

/* A row's weight, where registers suffice for it; a piece of a row: x, dy and g = dy · weight, zeros behind the row's end. */
struct weights {
#if HAS_WEIGHT
    piece<WEIGHT_TYPE> held[WEIGHT_HELD && PIECES ? PIECES : 1];
#endif
};
struct pieces {
    piece<X_TYPE> x;
    piece<OTHER_TYPE> dy;
#if HAS_WEIGHT
    piece<WEIGHT_TYPE> weight;
#endif
};
__device__ __forceinline__ void read_pieces(pieces &p, const invar_cuda_norm_job &job, const row_places &row, int stage,
                                            const weights &w, place c, place features) {
    const bool scarce = GROUP >= 32 && PIECES * VEC > 16; /* many sums leave few registers: one piece after the other */
    if (scarce) __syncwarp();
#if STAGES
    p.x = *(const piece<X_TYPE> *)slot_of(stage, 0, c);
    p.dy = *(const piece<OTHER_TYPE> *)slot_of(stage, 1, c);
#else
    read_piece<false>(p.x, row.x, job.x.step, place_of(c), features);
    read_piece<false>(p.dy, row.dy, job.other.step, place_of(c), features);
#endif
#if HAS_WEIGHT
    if (scarce && WIDTH < 2) __syncwarp();
    if (WEIGHT_HELD && PIECES) p.weight = w.held[WEIGHT_HELD && PIECES ? c : 0];
    else read_piece<true>(p.weight, job.weight.data, job.weight.step, place_of(c), features);
#endif
}
__device__ __forceinline__ float x_of(const pieces &p, int j) { return element(p.x, j); }
__device__ __forceinline__ float dy_of(const pieces &p, int j) { return element(p.dy, j); }
__device__ __forceinline__ float g_of(const pieces &p, int j) {
#if HAS_WEIGHT
    return element(p.dy, j) * element(p.weight, j);
#else
    return element(p.dy, j);
#endif
}

/* ---- a row's sums ------------------------------------------------------------------------------------- */

/* h = (x - mean) · scale + level, dx = (g - rest) · scale - h · slope; rms_norm: h = x · scale, dx = (g - x · slope) · scale. */
struct gradient {
    float mean, level, scale, rest, slope;
};

#define FOR_NUMBERS(p)                                               \
    FOR_PIECES if (pieces p; true)                                   \
        if (read_pieces(p, job, row, stage, w, c, features); true)   \
            FOR_ELEMENTS

#if CENTRED
/* The mean and the moments as the forward pass forms them; then about the same mean those of g. */
__device__ __forceinline__ gradient measure(const invar_cuda_norm_job &job, const row_places &row, int stage, const weights &w,
                                            place features, int &turn) {
    const float count = (float)job.features;
    float offset[2] = { 0.0f, 0.0f }, sum[3] = { 0.0f, 0.0f, 0.0f };
    FOR_NUMBERS(p) {
        offset[1] += g_of(p, j);
        if (inside(place_of(c), j, features)) offset[0] += x_of(p, j) - row.first;
    }
    sum_over_row(offset, turn);
    const float mean = row.first + offset[0] / count, g = offset[1];
    FOR_NUMBERS(p) {
        const float u = x_of(p, j) - mean;
        if (!inside(place_of(c), j, features)) continue;
        sum[0] += u;
        sum[1] = fmaf(u, u, sum[1]);
        sum[2] = fmaf(g_of(p, j), u, sum[2]);
    }
    sum_over_row(sum, turn);
    const float shift = sum[0] / count, scale = scale_of(fmaf(-shift, sum[0], sum[1]) / count, job.eps);
    return { mean, -(shift * scale), scale, g / count, fmaf(-shift, g, sum[2]) * scale * scale / count };
}
#else
__device__ __forceinline__ gradient measure(const invar_cuda_norm_job &job, const row_places &row, int stage, const weights &w,
                                            place features, int &turn) {
    const float count = (float)job.features;
    float sum[2] = { 0.0f, 0.0f };
    FOR_NUMBERS(p) {
        const float x = x_of(p, j);
        sum[0] = fmaf(x, x, sum[0]);
        sum[1] = fmaf(g_of(p, j), x, sum[1]);
    }
    sum_over_row(sum, turn);
    const float scale = scale_of(sum[0] / count, job.eps);
    return { 0.0f, 0.0f, scale, 0.0f, sum[1] * scale * scale / count };
}
#endif

/* ---- dx, and what a row adds to dweight and dbias ------------------------------------------------------ */

/* A thread's own features. Of long rows they are in the chunk's place in device memory, where the chunk's first row starts them. */
struct sums {
#if IN_REGISTERS
    float dweight[PIECES][VEC];
#endif
#if BIAS_IN_REGISTERS
    float dbias[PIECES][VEC];
#endif
};
__device__ __forceinline__ float *chunk_sums(const invar_cuda_norm_job &job) {
    return job.partial + CHUNK * VECTORS * job.pitch;
}

/* Four of this thread's sums for dbias, from element j of piece c on. */
__device__ __forceinline__ float4 *bias_slot(int c, int j) {
    return (float4 *)(shared + (STAGED > GROUPED ? STAGED : GROUPED)) + (c * VEC + j) / 4 * THREADS + threadIdx.x;
}

__device__ __forceinline__ void clear_sums(sums &to) {
#if IN_REGISTERS
    FOR_PIECES FOR_ELEMENTS to.dweight[c][j] = 0.0f;
#endif
#if BIAS_IN_REGISTERS
    FOR_PIECES FOR_ELEMENTS to.dbias[c][j] = 0.0f;
#elif BIAS_IN_SHARED
    FOR_PIECES FOR_ELEMENTS if (j % 4 == 0) *bias_slot(c, j) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#endif
}

/* dy and h are element j's of piece c. */
__device__ __forceinline__ void add_sums(const invar_cuda_norm_job &job, sums &to, float dy, float h, place c, int j, bool begin,
                                         place features) {
#if IN_REGISTERS
    to.dweight[c][j] = fmaf(dy, h, to.dweight[c][j]);
#endif
#if BIAS_IN_REGISTERS
    to.dbias[c][j] += dy;
#elif IN_MEMORY
    float *at = chunk_sums(job) + place_of(c) + j;
    if (place_of(c) + j >= features) return;
    *at = fmaf(dy, h, begin ? 0.0f : *at);
    if (CENTRED) at[job.pitch] = (begin ? 0.0f : at[job.pitch]) + dy;
#endif
}

__device__ __forceinline__ void add_bias_sums(const pieces &p, int c) {
    FOR_ELEMENTS {
        if (j % 4) continue;
        float4 sum = *bias_slot(c, j);
        sum.x += dy_of(p, j), sum.y += dy_of(p, j + 1), sum.z += dy_of(p, j + 2), sum.w += dy_of(p, j + 3);
        *bias_slot(c, j) = sum;
    }
}

/* One element after the other: many sums leave few registers. */
__device__ __forceinline__ void finish_row(const invar_cuda_norm_job &job, const row_places &row, char *dx, int stage,
                                           const weights &w, const gradient &of, sums &to, bool begin, place features) {
    FOR_PIECES {
        pieces p;
        float v[VEC];
        read_pieces(p, job, row, stage, w, c, features);
        FOR_ELEMENTS {
            const float x = x_of(p, j), h = CENTRED ? fmaf(x - of.mean, of.scale, of.level) : x * of.scale;
            v[j] = CENTRED ? fmaf(-h, of.slope, (g_of(p, j) - of.rest) * of.scale) : of.scale * fmaf(-x, of.slope, g_of(p, j));
            add_sums(job, to, dy_of(p, j), h, c, j, begin, features);
        }
        if (BIAS_IN_SHARED) add_bias_sums(p, (int)c);
        if (dx) write_piece<X_TYPE>(dx, job.y.step, place_of(c), features, v);
    }
}

/* ---- a chunk ------------------------------------------------------------------------------------------- */

#if IN_REGISTERS
/* One vector's sums; several groups' through shared memory, the first group's first. */
__device__ __forceinline__ void store_vector(float *to, const float (&from)[PIECES][VEC], place features) {
    if (ROWS == 1) {
        FOR_PIECES FOR_ELEMENTS { /* the pitch is a multiple of 4 */
            if (j % 4 == 0 && place_of(c) + j < features)
                *(float4 *)(to + place_of(c) + j) = make_float4(from[c][j], from[c][j + 1], from[c][j + 2], from[c][j + 3]);
        }
        return;
    }
    constexpr int width = GROUP * PIECES * VEC;
    float *all = (float *)shared;
    __syncthreads();
    FOR_PIECES FOR_ELEMENTS all[threadIdx.x / GROUP * width + place_of(c) + j] = from[c][j];
    __syncthreads();
    for (int i = threadIdx.x; i < features; i += THREADS) {
        float sum = 0.0f;
#pragma unroll 2
        for (int r = 0; r < ROWS; r++) sum += all[r * width + i];
        to[i] = sum;
    }
}
#endif

__device__ __forceinline__ void store_sums(const invar_cuda_norm_job &job, sums &from, place features) {
#if IN_REGISTERS
    store_vector(chunk_sums(job), from.dweight, features);
#endif
#if BIAS_IN_REGISTERS
    store_vector(chunk_sums(job) + job.pitch, from.dbias, features);
#elif BIAS_IN_SHARED
    FOR_PIECES FOR_ELEMENTS {
        if (j % 4) continue;
        const float4 sum = *bias_slot(c, j);
        from.dweight[c][j] = sum.x, from.dweight[c][j + 1] = sum.y, from.dweight[c][j + 2] = sum.z, from.dweight[c][j + 3] = sum.w;
    }
    store_vector(chunk_sums(job) + job.pitch, from.dweight, features);
#endif
}

/* The number of the chunk's row r. */
__device__ __forceinline__ long long row_at(const invar_cuda_norm_job &job, int r) { return CHUNK * job.chunk_rows + r; }

/* Rows group, group + ROWS … below count are this group's; a group that has fewer than others does its work on the last row once
 * more, and keeps nothing. */
__device__ __forceinline__ void walk(const invar_cuda_norm_job &job, int count, const weights &w, sums &to) {
    const place features = (place)job.features;
    const int group = threadIdx.x / GROUP, rounds = (count + ROWS - 1) / ROWS;
    int turn = 0;
    row_places row, next;
    find_row(row, job, row_at(job, group < count ? group : count - 1));
    fetch_row(job, row, 0, features);
#if CLUSTER > 1
    cluster_barrier(); /* all blocks have begun: their shared memory may be written */
#endif
    for (int round = 0; round < rounds; round++) {
        const int r = round * ROWS + group, stage = STAGES == 2 ? round & 1 : 0;
        const bool more = round + 1 < rounds;
        if (STAGES == 2 && more) {
            find_row(next, job, row_at(job, r + ROWS < count ? r + ROWS : count - 1));
            fetch_row(job, next, stage ^ 1, features);
            wait_for_copies<1>();
        } else {
            wait_for_copies<0>();
        }
        const gradient of = measure(job, row, stage, w, features, turn);
        if (r < count) {
            char *dx = job.y.data ? row_of(job, job.y, row_at(job, r)) : nullptr;
            finish_row(job, row, dx, stage, w, of, to, round == 0, features);
        }
        if (STAGES < 2 && more) {
            find_row(next, job, row_at(job, r + ROWS < count ? r + ROWS : count - 1));
            fetch_row(job, next, 0, features);
        }
        row = next;
    }
}

/* A block, or a cluster of them, does the chunk of its number. */
extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, BLOCKS)
invar_norm_vjp(const __grid_constant__ invar_cuda_norm_job job) {
    const place features = (place)job.features;
    const long long left = job.rows - CHUNK * job.chunk_rows;
    weights w;
    sums to;
#if HAS_WEIGHT && PIECES
    if (WEIGHT_HELD)
        FOR_PIECES read_piece<true>(w.held[WEIGHT_HELD ? c : 0], job.weight.data, job.weight.step, place_of(c), features);
#endif
    clear_sums(to);
    walk(job, (int)(left < job.chunk_rows ? left : job.chunk_rows), w, to);
    store_sums(job, to, features);
}
