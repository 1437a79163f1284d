/* The VJPs of rms_norm and layer_norm on one instruction set. With g = dy · w:
 *
 *   rms_norm:   k = ((Σ g·x · r) · r) / D,  dx = r · (g - x·k),                            dw += dy · (x·r)
 *   layer_norm: k = ((Σ g·c · r) · r) / D,  dx = r · ((g - Σg / D) - c·k),   db += dy,     dw += dy · (c·r)
 *
 * r and c as in the forward kernel, computed again: a row's sums cost less than reading them from memory would. x and dy
 * are read once and dx is written once; dw and db grow in a chunk's partial sums, which stay in a cache. */
#include "cpu/kernels/norm_row.h"

typedef struct row_gradient {
    vf mean, shift, scale; /* the row's m, δ, r */
    vf slope, level;       /* k and Σg / D */
    const float *weight;
    int64_t weight_mask;   /* as in norm_pass */
} row_gradient;

VEC_INLINE void run_pass(const int kind, norm_pass *pass, norm_source *x, norm_source *dy, const row_gradient *row,
                         int64_t features) {
    norm_pass_begin(pass);
    for (int64_t first = 0; first < features; first += INVAR_NORM_BLOCK) {
        int64_t count = norm_block_count(features, first);
        pass->x = norm_block(x, first, count);
        if (kind >= NORM_RMS_GRADIENT) {
            pass->dy = norm_block(dy, first, count);
            pass->weight = row->weight + (first & row->weight_mask);
        }
        norm_accumulate(kind, pass, count);
    }
}

VEC_INLINE void measure(const bool centred, row_gradient *row, const invar_norm_job *job, norm_source *x, norm_source *dy) {
    const int64_t features = job->features;
    norm_pass pass;
    pass.mean = pass.shift = row->level = vf_zero();
    pass.weight_mask = row->weight_mask;
    if (centred) {
        run_pass(NORM_SUM, &pass, x, dy, row, features);
        pass.mean = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_DEVIATION, &pass, x, dy, row, features);
        pass.shift = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_LAYER_GRADIENT, &pass, x, dy, row, features);
        row->level = norm_mean_of(pass.lane[2], features);
    } else {
        run_pass(NORM_RMS_GRADIENT, &pass, x, dy, row, features);
    }
    row->mean = pass.mean;
    row->shift = pass.shift;
    row->scale = norm_scale_of(norm_mean_of(pass.lane[0], features), job->eps);
    vf sum = vf_mul(vf_mul(vf_set1(vsum_reduce(pass.lane[1])), row->scale), row->scale);
    row->slope = vf_div(sum, vf_set1((float)features));
}

VEC_INLINE vf centre(const bool centred, const row_gradient *row, vf x) {
    return centred ? vf_sub(vf_sub(x, row->mean), row->shift) : x;
}

/* ---- dweight and dbias -------------------------------------------------------------------------------- */

VEC_INLINE vf weight_step(const bool centred, const row_gradient *row, vf x, vf dy, vf sum) {
    return vf_fma(dy, vf_mul(centre(centred, row, x), row->scale), sum);
}

VEC_INLINE void add_dweight(const bool centred, float *sum, const row_gradient *gradient, const float *x, const float *dy,
                            int64_t count) {
    const row_gradient row = *gradient;
    int64_t i = 0;
    for (; i + VW <= count; i += VW)
        vf_store(sum + i, weight_step(centred, &row, vf_load(x + i), vf_load(dy + i), vf_load(sum + i)));
    if (i == count) return;
    int n = norm_left(count, i);
    vf_store_n(sum + i, weight_step(centred, &row, vf_load_n(x + i, n), vf_load_n(dy + i, n), vf_load_n(sum + i, n)), n);
}

/* ---- dx ----------------------------------------------------------------------------------------------- */

VEC_INLINE vf dx_step(const bool centred, const row_gradient *row, vf x, vf dy, vf weight) {
    vf g = vf_mul(dy, weight);
    if (centred) g = vf_sub(g, row->level);
    return vf_mul(row->scale, vf_fnma(centre(centred, row, x), row->slope, g));
}

VEC_INLINE vf dx_at(const bool centred, const row_gradient *row, const float *x, const float *dy, int64_t i) {
    return dx_step(centred, row, vf_load(x + i), vf_load(dy + i), vf_load(row->weight + (i & row->weight_mask)));
}

VEC_INLINE vf dx_n(const bool centred, const row_gradient *row, const float *x, const float *dy, int64_t i, int n) {
    return dx_step(centred, row, vf_load_n(x + i, n), vf_load_n(dy + i, n), vf_load_n(row->weight + (i & row->weight_mask), n));
}

VEC_INLINE void write_run(const int type, const bool centred, const bool stream, char *dx, const row_gradient *block,
                          const float *x, const float *dy, int64_t count, norm_ahead ahead, norm_ahead dy_ahead) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const row_gradient row = *block;
    int64_t i = stream ? norm_head(type, dx, count) : 0;
    if (i) norm_store_n(type, dx, dx_n(centred, &row, x, dy, 0, (int)i), (int)i);
    for (; i + VSUM_LANES <= count; i += VSUM_LANES) {
        norm_fetch_ahead(ahead, i);
        norm_fetch_ahead(dy_ahead, i);
        FOR_LANES norm_store(type, stream, dx + (i + j * VW) * item, dx_at(centred, &row, x, dy, i + j * VW));
    }
    for (; i < count; i += VW) {
        int n = norm_left(count, i);
        norm_store_n(type, dx + i * item, dx_n(centred, &row, x, dy, i, n), n);
    }
}

VEC_INLINE void write_typed(const int type, const bool centred, bool stream, char *dx, const row_gradient *row, const float *x,
                            const float *dy, int64_t count, norm_ahead ahead, norm_ahead dy_ahead) {
    if (stream) write_run(type, centred, true, dx, row, x, dy, count, ahead, dy_ahead);
    else write_run(type, centred, false, dx, row, x, dy, count, ahead, dy_ahead);
}

VEC_INLINE void write_scattered(const bool centred, char *dx, const invar_norm_operand *out, const row_gradient *row,
                                const float *x, const float *dy, int64_t count) {
    enum { PIECE = 256 };
    float piece[PIECE];
    row_gradient part = *row;
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t n = count - i < PIECE ? count - i : PIECE;
        part.weight = row->weight + (i & row->weight_mask);
        write_run(INVAR_F32, centred, false, (char *)piece, &part, x + i, dy + i, n, (norm_ahead){ NULL, 0 },
                  (norm_ahead){ NULL, 0 });
        norm_scatter(dx + i * out->step, out->type, out->step, piece, n);
    }
}

VEC_INLINE void write_block(const bool centred, const invar_norm_job *job, char *dx, const row_gradient *row, const float *x,
                            const float *dy, int64_t count, norm_ahead ahead, norm_ahead dy_ahead) {
    const invar_norm_operand *out = &job->operand[INVAR_NORM_DX];
    const bool stream = job->stream;
    if (out->step != (int64_t)invar_float_size(out->type)) write_scattered(centred, dx, out, row, x, dy, count);
    else if (out->type == INVAR_F32) write_typed(INVAR_F32, centred, stream, dx, row, x, dy, count, ahead, dy_ahead);
    else if (out->type == INVAR_F16) write_typed(INVAR_F16, centred, stream, dx, row, x, dy, count, ahead, dy_ahead);
    else write_typed(INVAR_BF16, centred, stream, dx, row, x, dy, count, ahead, dy_ahead);
}

/* ---- rows --------------------------------------------------------------------------------------------- */

/* A chunk's partial sums; NULL: not wanted. */
typedef struct chunk_sums {
    float *dweight, *dbias;
} chunk_sums;

VEC_INLINE chunk_sums sums_of(const invar_norm_job *job, int64_t first_row) {
    chunk_sums sums = { NULL, NULL };
    if (!job->want_dweight && !job->want_dbias) return sums;
    float *partial = (float *)(void *)(job->partial + (size_t)(first_row / job->chunk_rows) * job->partial_bytes);
    if (job->want_dweight) sums.dweight = partial, partial += job->features;
    if (job->want_dbias) sums.dbias = partial;
    if (sums.dweight) memset(sums.dweight, 0, sizeof(float) * (size_t)job->features);
    if (sums.dbias) memset(sums.dbias, 0, sizeof(float) * (size_t)job->features);
    return sums;
}

/* The last pass over a row: the parameters' gradients first, since dx may be written over dy. */
VEC_INLINE void finish_row(const bool centred, const invar_norm_job *job, const invar_norm_walk *walk, const row_gradient *row,
                           norm_source *x, norm_source *dy, chunk_sums sums, norm_ahead ahead, norm_ahead dy_ahead) {
    char *dx = invar_norm_row(job, walk, INVAR_NORM_DX);
    for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
        int64_t count = norm_block_count(job->features, first);
        const float *xs = norm_block(x, first, count), *dys = norm_block(dy, first, count);
        if (sums.dweight) add_dweight(centred, sums.dweight + first, row, xs, dys, count);
        if (sums.dbias) norm_widen_run(INVAR_F32, true, sums.dbias + first, (const char *)dys, count);
        if (!dx) continue;
        row_gradient block = *row;
        block.weight += first & row->weight_mask;
        norm_ahead x_block = { ahead.data ? ahead.data + first * ahead.item : NULL, ahead.item };
        norm_ahead dy_block = { dy_ahead.data ? dy_ahead.data + first * dy_ahead.item : NULL, dy_ahead.item };
        write_block(centred, job, dx + first * job->operand[INVAR_NORM_DX].step, &block, xs, dys, count, x_block, dy_block);
    }
}

VEC_INLINE void vjp_rows(const bool centred, const invar_norm_job *job, int64_t first_row, int64_t rows, float *scratch) {
    row_gradient row = { .weight = job->weight ? job->weight : norm_ones, .weight_mask = job->weight ? -1 : 0 };
    chunk_sums sums = sums_of(job, first_row);
    float *second = scratch + norm_block_count(job->features, 0);
    invar_norm_walk walk, next;
    invar_norm_walk_to(&next, job, first_row);
    for (int64_t r = 0; r < rows; r++) {
        walk = next;
        invar_norm_walk_next(&next, job);
        norm_source x = norm_source_of(job, &walk, INVAR_NORM_X, -1, scratch);
        norm_source dy = norm_source_of(job, &walk, INVAR_NORM_DY, -1, second);
        measure(centred, &row, job, &x, &dy);
        bool last = r + 1 == rows;
        finish_row(centred, job, &walk, &row, &x, &dy, sums, norm_ahead_of(job, &next, INVAR_NORM_X, last),
                   norm_ahead_of(job, &next, INVAR_NORM_DY, last));
    }
    if (job->stream) vec_stream_end();
}

invar_norm_vjp_kernel INVAR_KERNEL_NAME(rms_norm_vjp), INVAR_KERNEL_NAME(layer_norm_vjp);
invar_norm_merge_kernel INVAR_KERNEL_NAME(norm_merge);

void INVAR_KERNEL_NAME(rms_norm_vjp)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    vjp_rows(false, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(layer_norm_vjp)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    vjp_rows(true, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(norm_merge)(char *out, invar_float_type type, int64_t step, const char *partial, size_t partial_bytes,
                                   int64_t chunks, int64_t first, int64_t count) {
    enum { PIECE = 256 };
    float sum[PIECE];
    for (int64_t i = first; i < first + count; i += PIECE) {
        int64_t n = first + count - i < PIECE ? first + count - i : PIECE;
        memset(sum, 0, sizeof sum);
        for (int64_t c = 0; c < chunks; c++)
            norm_widen_run(INVAR_F32, true, sum, partial + (size_t)c * partial_bytes + (size_t)i * sizeof(float), n);
        norm_narrow(false, out + i * step, type, step, sum, n);
    }
}
