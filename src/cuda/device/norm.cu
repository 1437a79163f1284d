/* rms_norm, add_rms_norm and layer_norm on CUDA devices: GROUP threads a row, or, of long rows, those of CLUSTER blocks, hold it in
 * registers between its sums and its results, or read it again where it is too long for that.
 *
 * CENTRED: layer_norm. ADD: of x + residual, which is stored as well. THREADS: of a block, whole rows' of them; BLOCKS: a
 * multiprocessor's, at least. The rest: norm_row.cuh. */
#include "norm_row.cuh"

enum {
    ROWS = THREADS / GROUP,
    WEIGHT_HELD = HAS_WEIGHT && PIECES > 0 && PIECES * VEC * sizeof(WEIGHT_TYPE) <= 64,
    SCARCE = GROUP >= 32 && PIECES * VEC > 16 /* registers: results go one piece after the other */
};

/* ---- a row's numbers ---------------------------------------------------------------------------------- */

struct source {
    const char *x, *other;
    place features;
};

/* What a thread holds of a row; of a sum the sum, since it is rounded only for its own output. */
struct held {
#if PIECES && ADD
    float sum[PIECES][VEC];
#elif PIECES
    piece<X_TYPE> x[PIECES];
#endif
};

#if ADD
__device__ __forceinline__ void add(const piece<X_TYPE> &x, const piece<OTHER_TYPE> &other, float *v) {
    FOR_ELEMENTS v[j] = element(x, j) + element(other, j);
}
#endif

__device__ __forceinline__ void hold(held &row, const invar_cuda_norm_job &job, const source &from) {
#if PIECES
    const place features = from.features;
#if ADD
    piece<X_TYPE> x[PIECES];
    piece<OTHER_TYPE> other[PIECES];
    FOR_PIECES {
        read_piece<false>(x[c], from.x, job.x.step, place_of(c), features);
        read_piece<false>(other[c], from.other, job.other.step, place_of(c), features);
    }
    FOR_PIECES add(x[c], other[c], row.sum[c]);
#else
    FOR_PIECES read_piece<false>(row.x[c], from.x, job.x.step, place_of(c), features);
#endif
#endif
}

/* Makes the compiler widen the row's elements anew in the next pass: kept since the last one they would take twice the registers. */
__device__ __forceinline__ void forget(held &row) {
#if PIECES && !ADD
    FOR_PIECES {
#pragma unroll
        for (unsigned &word : row.x[c].word) asm volatile("" : "+r"(word));
    }
#endif
}

/* The piece c of the row as numbers, 0 behind its end. */
__device__ __forceinline__ void numbers(float *v, const held &row, const invar_cuda_norm_job &job, const source &from, place c) {
#if PIECES && ADD
    FOR_ELEMENTS v[j] = row.sum[c][j];
#elif PIECES
    FOR_ELEMENTS v[j] = element(row.x[c], j);
#else
    piece<X_TYPE> x;
    read_piece<false>(x, from.x, job.x.step, place_of(c), from.features);
#if ADD
    piece<OTHER_TYPE> other;
    read_piece<false>(other, from.other, job.other.step, place_of(c), from.features);
    add(x, other, v);
#else
    FOR_ELEMENTS v[j] = element(x, j);
#endif
#endif
}

/* ---- moments ------------------------------------------------------------------------------------------ */

struct moments {
    float mean, level, scale; /* y = (x - mean) · scale + level, without weight and bias; rms_norm: y = x · scale */
};

#if CENTRED
/* The mean about the row's first element, then the moments about that mean: what the mean lacks is one of them, and leaves the
 * variance (Chan, Golub & LeVeque, 1983). docs/invariance.md has the formulas. */
__device__ __forceinline__ moments measure(held &row, const invar_cuda_norm_job &job, const source &from, int &turn) {
    const place features = from.features;
    const float count = (float)job.features, first = widen(*(const X_TYPE *)from.x);
    float offset[1] = { 0.0f }, sum[2] = { 0.0f, 0.0f };
    FOR_PIECES {
        float v[VEC];
        numbers(v, row, job, from, c);
        FOR_ELEMENTS if (inside(place_of(c), j, features)) offset[0] += v[j] - first;
    }
    sum_over_row(offset, turn);
    forget(row);
    const float mean = first + offset[0] / count;
    FOR_PIECES {
        float v[VEC];
        numbers(v, row, job, from, c);
        FOR_ELEMENTS {
            const float u = v[j] - mean;
            if (!inside(place_of(c), j, features)) continue;
            sum[0] += u;
            sum[1] = fmaf(u, u, sum[1]);
        }
    }
    sum_over_row(sum, turn);
    forget(row);
    const float shift = sum[0] / count, scale = scale_of(fmaf(-shift, sum[0], sum[1]) / count, job.eps);
    return { mean, -(shift * scale), scale };
}
#else
__device__ __forceinline__ moments measure(held &row, const invar_cuda_norm_job &job, const source &from, int &turn) {
    const place features = from.features;
    float squares[1] = { 0.0f };
    FOR_PIECES {
        float v[VEC];
        numbers(v, row, job, from, c);
        FOR_ELEMENTS squares[0] = fmaf(v[j], v[j], squares[0]);
    }
    (void)features;
    sum_over_row(squares, turn);
    return { 0.0f, 0.0f, scale_of(squares[0] / (float)job.features, job.eps) };
}
#endif

/* ---- weight and bias ---------------------------------------------------------------------------------- */

struct vectors {
#if HAS_WEIGHT
    piece<WEIGHT_TYPE> weight[WEIGHT_HELD ? PIECES : 1];
#endif
};

/* Before the sums, which their way from L1 or L2 then overlaps. */
__device__ __forceinline__ void hold_weight(vectors &held, const invar_cuda_norm_job &job, place features) {
#if HAS_WEIGHT && PIECES
    if (WEIGHT_HELD)
        FOR_PIECES read_piece<true>(held.weight[WEIGHT_HELD ? c : 0], job.weight.data, job.weight.step, place_of(c), features);
#endif
}

__device__ __forceinline__ void finish(float *v, const moments &m, const vectors &held, const invar_cuda_norm_job &job, place c,
                                       place features) {
#if HAS_WEIGHT
    piece<WEIGHT_TYPE> weight;
    if (WEIGHT_HELD) weight = held.weight[WEIGHT_HELD ? c : 0];
    else read_piece<true>(weight, job.weight.data, job.weight.step, place_of(c), features);
#endif
#if HAS_BIAS
    piece<BIAS_TYPE> bias;
    read_piece<true>(bias, job.bias.data, job.bias.step, place_of(c), features);
#endif
    FOR_ELEMENTS {
        v[j] = CENTRED ? fmaf(v[j] - m.mean, m.scale, m.level) : v[j] * m.scale;
#if HAS_WEIGHT && HAS_BIAS
        v[j] = fmaf(v[j], element(weight, j), element(bias, j));
#elif HAS_WEIGHT
        v[j] *= element(weight, j);
#elif HAS_BIAS
        v[j] += element(bias, j);
#endif
    }
}

/* ---- the program -------------------------------------------------------------------------------------- */

/* active: the row is one, and this thread writes. */
__device__ __forceinline__ void do_row(const invar_cuda_norm_job &job, long long at, bool active) {
    int turn = 0;
    const place features = (place)job.features;
    const source from = { row_of(job, job.x, at), row_of(job, job.other, at), features };
    held row;
    vectors vectors;
    hold(row, job, from);
    hold_weight(vectors, job, features);
#if CLUSTER > 1
    cluster_barrier(); /* all blocks have begun: their shared memory may be written */
#endif
    const moments m = measure(row, job, from, turn);
    if (!active) return;
    char *y = row_of(job, job.y, at);
#if ADD
    char *sum = row_of(job, job.sum, at);
#endif
    FOR_PIECES {
        float v[VEC];
        if (SCARCE) __syncwarp();
        numbers(v, row, job, from, c);
#if ADD
        write_piece<SUM_TYPE>(sum, job.sum.step, place_of(c), features, v);
#endif
        finish(v, m, vectors, job, c, features);
        write_piece<Y_TYPE>(y, job.y.step, place_of(c), features, v);
    }
}

/* A block does ROWS rows, a cluster one; blocks are numbered along the grid's x, then y. */
extern "C" __global__ void CLUSTERED __launch_bounds__(THREADS, BLOCKS) invar_norm(const __grid_constant__ invar_cuda_norm_job job) {
    const long long row = ((long long)blockIdx.y * gridDim.x + blockIdx.x) / CLUSTER * ROWS + threadIdx.x / GROUP;
    do_row(job, row < job.rows ? row : job.rows - 1, row < job.rows);
}
