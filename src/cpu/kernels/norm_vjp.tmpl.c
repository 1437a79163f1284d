/* The VJPs of rms_norm and layer_norm on one instruction set. With g = dy · w:
 *
 *   rms_norm:   k = ((Σ g·x · r) · r) / D,  dx = r · (g - x·k),                            dw += dy · (x·r)
 *   layer_norm: k = ((Σ g·c · r) · r) / D,  dx = r · ((g - Σg / D) - c·k),   db += dy,     dw += dy · (c·r)
 *
 * r and c as in the forward kernel, computed again: a row's sums cost less than reading them from memory would. x and dy are
 * read from memory once and dx is written once; dw and db grow in a chunk's partial sums, which stay in a cache. */
#include "cpu/kernels/norm_row.h"

typedef struct row_gradient {
    vf mean, shift, scale; /* the row's m, δ, r */
    vf slope, level;       /* k and Σg / D */
    const float *weight;
    int64_t weight_mask;   /* as in norm_pass */
} row_gradient;

/* The next rows of x and dy. */
typedef struct rows_ahead {
    norm_ahead x, dy;
} rows_ahead;

VEC_INLINE void run_pass(const int kind, const int type, norm_pass *pass, norm_source *x, norm_source *dy,
                         const row_gradient *row, const invar_norm_job *job, norm_ahead ahead, int turn) {
    norm_pass_begin(pass);
    pass->ahead_turn = turn;
    for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
        int64_t count = norm_block_count(job, first);
        pass->x = norm_block(x, first, count);
        if (kind >= NORM_RMS_GRADIENT) {
            pass->dy = norm_block(dy, first, count);
            pass->weight = row->weight + (first & row->weight_mask);
        }
        pass->ahead = norm_ahead_from(ahead, first);
        norm_accumulate(kind, type, pass, count);
        if (type != INVAR_F32) return;
    }
}

VEC_INLINE void measure(const bool centred, const int type, row_gradient *row, const invar_norm_job *job, norm_source *x,
                        norm_source *dy, rows_ahead ahead) {
    const int64_t features = job->features;
    norm_pass pass;
    pass.mean = pass.shift = row->level = vf_zero();
    pass.weight_mask = row->weight_mask;
    if (centred) {
        run_pass(NORM_SUM, type, &pass, x, dy, row, job, ahead.x, 0);
        pass.mean = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_DEVIATION, type, &pass, x, dy, row, job, ahead.x, 1);
        pass.shift = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_LAYER_GRADIENT, type, &pass, x, dy, row, job, ahead.dy, 0);
        row->level = norm_mean_of(pass.lane[2], features);
    } else {
        run_pass(NORM_RMS_GRADIENT, type, &pass, x, dy, row, job, ahead.x, 0);
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

/* ---- one element ------------------------------------------------------------------------------------------- */

VEC_INLINE vf weight_step(const bool centred, const row_gradient *row, vf x, vf dy, vf sum) {
    return vf_fma(dy, vf_mul(centre(centred, row, x), row->scale), sum);
}

VEC_INLINE vf dx_step(const bool centred, const row_gradient *row, vf x, vf dy, vf weight) {
    vf g = vf_mul(dy, weight);
    if (centred) g = vf_sub(g, row->level);
    return vf_mul(row->scale, vf_fnma(centre(centred, row, x), row->slope, g));
}

VEC_INLINE vf weight_at(const row_gradient *row, int64_t i) { return vf_load(row->weight + (i & row->weight_mask)); }

/* ---- the last pass ------------------------------------------------------------------------------------------ */

/* A chunk's partial sums; dweight NULL: none. */
typedef struct chunk_sums {
    float *dweight, *dbias;
} chunk_sums;

VEC_INLINE void add_at(const bool centred, const row_gradient *row, chunk_sums sums, int64_t i, vf x, vf dy) {
    vf_store(sums.dweight + i, weight_step(centred, row, x, dy, vf_load(sums.dweight + i)));
    if (centred) vf_store(sums.dbias + i, vf_add(dy, vf_load(sums.dbias + i)));
}

VEC_INLINE void add_n(const bool centred, const row_gradient *row, chunk_sums sums, int64_t i, vf x, vf dy, int n) {
    vf_store_n(sums.dweight + i, weight_step(centred, row, x, dy, vf_load_n(sums.dweight + i, n)), n);
    if (centred) vf_store_n(sums.dbias + i, vf_add(dy, vf_load_n(sums.dbias + i, n)), n);
}

/* dx, and with `sum` the chunk's sums; x, dy and dx are contiguous and of type `type`. */
VEC_INLINE void write_run(const int type, const bool centred, const bool sum, char *dx, const row_gradient *block, const char *x,
                          const char *dy, int64_t count, chunk_sums sums, rows_ahead ahead) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t whole = count - count % VSUM_LANES;
    const row_gradient row = *block;
    vf x0, x1, dy0, dy1;
    int64_t i = 0;
    for (; i < whole; i += 2 * VW) {
        if (!centred) norm_fetch_ahead(ahead.x, i, 1), norm_fetch_ahead(ahead.dy, i, 0);
        norm_fetch_ahead(ahead.dy, i, 1);
        norm_load_two(type, x + i * item, &x0, &x1);
        norm_load_two(type, dy + i * item, &dy0, &dy1);
        if (sum) {
            add_at(centred, &row, sums, i, x0, dy0);
            add_at(centred, &row, sums, i + VW, x1, dy1);
        }
        norm_store_two(type, dx + i * item, dx_step(centred, &row, x0, dy0, weight_at(&row, i)),
                       dx_step(centred, &row, x1, dy1, weight_at(&row, i + VW)));
    }
    for (; i < count; i += VW) {
        int n = norm_left(count, i);
        vf xs = norm_load_n(type, x + i * item, n), dys = norm_load_n(type, dy + i * item, n);
        if (sum) add_n(centred, &row, sums, i, xs, dys, n);
        vf weight = vf_load_n(row.weight + (i & row.weight_mask), n);
        norm_store_n(type, dx + i * item, dx_step(centred, &row, xs, dys, weight), n);
    }
}

/* One block of a row. What cannot be written in place, or is not wanted, goes through a stage in L1. */
VEC_INLINE void write_block(const bool centred, const int type, const invar_norm_job *job, char *dx, const row_gradient *row,
                            const char *x, const char *dy, int64_t first, int64_t count, chunk_sums sums, rows_ahead ahead) {
    const invar_norm_operand *out = &job->operand[INVAR_NORM_DX];
    const int item = type == INVAR_F32 ? 4 : 2;
    const bool staged = !dx || norm_needs_stage(type, out, job->stream);
    const int64_t piece = staged ? NORM_STAGE / 4 : count;
    _Alignas(64) char stage[NORM_STAGE];
    if (dx) dx += first * out->step;
    for (int64_t i = 0; i < count; i += piece) {
        const int64_t n = count - i < piece ? count - i : piece, at = first + i;
        row_gradient part = *row;
        part.weight += at & row->weight_mask;
        const rows_ahead next = { norm_ahead_from(ahead.x, at), norm_ahead_from(ahead.dy, at) };
        char *to = staged ? stage : dx;
        if (sums.dweight) {
            const chunk_sums here = { sums.dweight + at, centred ? sums.dbias + at : NULL };
            write_run(type, centred, true, to, &part, x + i * item, dy + i * item, n, here, next);
        } else {
            write_run(type, centred, false, to, &part, x + i * item, dy + i * item, n, sums, next);
        }
        if (staged && dx) norm_unstage(type, job->stream, dx + i * out->step, out, stage, n);
    }
}

/* ---- rows --------------------------------------------------------------------------------------------- */

VEC_INLINE chunk_sums sums_of(const bool centred, const invar_norm_job *job, int64_t first_row) {
    if (!job->want_dweight && !job->want_dbias) return (chunk_sums){ NULL, NULL };
    float *partial = (float *)(void *)(job->partial + (size_t)(first_row / job->chunk_rows) * job->partial_bytes);
    memset(partial, 0, job->partial_bytes);
    return (chunk_sums){ partial, centred ? partial + job->features : NULL };
}

VEC_INLINE void vjp_rows_of(const bool centred, const int type, const invar_norm_job *job, int64_t first_row, int64_t rows,
                            float *scratch) {
    row_gradient row = { .weight = job->weight ? job->weight : norm_ones, .weight_mask = job->weight ? -1 : 0 };
    const chunk_sums sums = sums_of(centred, job, first_row);
    float *second = scratch + norm_block_count(job, 0);
    invar_norm_walk walk, next;
    invar_norm_walk_to(&next, job, first_row);
    for (int64_t r = 0; r < rows; r++) {
        walk = next;
        invar_norm_walk_next(&next, job);
        norm_source x = norm_source_of(job, &walk, INVAR_NORM_X, -1, scratch);
        norm_source dy = norm_source_of(job, &walk, INVAR_NORM_DY, -1, second);
        const bool last = r + 1 == rows;
        const rows_ahead ahead = { norm_ahead_of(job, &next, INVAR_NORM_X, last), norm_ahead_of(job, &next, INVAR_NORM_DY, last) };
        measure(centred, type, &row, job, &x, &dy, ahead);
        for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
            int64_t count = norm_block_count(job, first);
            write_block(centred, type, job, invar_norm_row(job, &walk, INVAR_NORM_DX), &row, norm_block(&x, first, count),
                        norm_block(&dy, first, count), first, count, sums, ahead);
            if (type != INVAR_F32) break;
        }
    }
    if (job->stream) vec_stream_end();
}

VEC_INLINE void vjp_rows(const bool centred, const invar_norm_job *job, int64_t first, int64_t rows, float *scratch) {
    if (norm_format(job) == INVAR_F32) vjp_rows_of(centred, INVAR_F32, job, first, rows, scratch);
    else if (norm_format(job) == INVAR_F16) vjp_rows_of(centred, INVAR_F16, job, first, rows, scratch);
    else if (norm_format(job) == INVAR_BF16) vjp_rows_of(centred, INVAR_BF16, job, first, rows, scratch);
}

invar_norm_vjp_kernel INVAR_KERNEL_NAME(rms_norm_vjp), INVAR_KERNEL_NAME(layer_norm_vjp);
invar_norm_merge_kernel INVAR_KERNEL_NAME(norm_merge);

void INVAR_KERNEL_NAME(rms_norm_vjp)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    vjp_rows(false, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(layer_norm_vjp)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    vjp_rows(true, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(norm_merge)(const invar_norm_job *job, char *out, invar_float_type type, int64_t step,
                                   const char *partial, int64_t chunks, int64_t first, int64_t count) {
    enum { PIECE = 256 };
    float sum[PIECE];
    for (int64_t i = first; i < first + count; i += PIECE) {
        int64_t n = first + count - i < PIECE ? first + count - i : PIECE;
        memset(sum, 0, sizeof sum);
        for (int64_t c = 0; c < chunks; c++)
            norm_widen_run(INVAR_F32, true, sum, partial + (size_t)c * job->partial_bytes + (size_t)i * sizeof(float), n);
        if (norm_format(job) == INVAR_BF16) norm_reorder(false, sum, sum, n);
        norm_narrow(false, out + i * step, type, step, sum, n);
    }
}
