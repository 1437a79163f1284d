/* rms_norm, add_rms_norm and layer_norm, forward, on one instruction set.
 *
 *   rms_norm:   r = 1 / sqrt(Σx² / D + eps), y = (x · r) · w                                (Zhang & Sennrich, 2019)
 *   layer_norm: c = (x - m) - δ, r = 1 / sqrt(Σc² / D + eps), y = fma(c · r, w, b)          (Ba et al., 2016)
 *
 * A row is read from memory once: the passes after the first find it in a cache, and the next one is fetched meanwhile. Rows of
 * one half type throughout are widened in registers, in every pass; other mixes once, into a buffer. */
#include "cpu/kernels/norm_row.h"

typedef struct row_norm {
    vf mean, shift, scale;
    const float *weight, *bias;
    int64_t weight_mask; /* as in norm_pass */
} row_norm;

/* ---- statistics ------------------------------------------------------------------------------------------ */

/* turn < 0: nothing is fetched. */
VEC_INLINE void run_pass(const int kind, const int type, norm_pass *pass, norm_source *x, const invar_norm_job *job,
                         norm_ahead ahead, int turn) {
    norm_pass_begin(pass);
    pass->ahead_turn = turn;
    if (turn < 0) ahead.data = NULL;
    for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
        int64_t count = norm_block_count(job, first);
        pass->x = norm_block(x, first, count);
        pass->ahead = norm_ahead_from(ahead, first);
        norm_accumulate(kind, type, pass, count);
        if (type != INVAR_F32) return;
    }
}

VEC_INLINE void measure(const bool centred, const int type, row_norm *row, const invar_norm_job *job, norm_source *x,
                        norm_ahead ahead) {
    norm_pass pass = { .weight = NULL };
    if (centred) {
        run_pass(NORM_SUM, type, &pass, x, job, ahead, -1);
        row->mean = pass.mean = norm_mean_of(pass.lane[0], job->features);
        run_pass(NORM_DEVIATION, type, &pass, x, job, ahead, 0);
        row->shift = pass.shift = norm_mean_of(pass.lane[0], job->features);
        run_pass(NORM_VARIANCE, type, &pass, x, job, ahead, 1);
    } else {
        pass.mean = pass.shift = vf_zero();
        run_pass(NORM_SQUARES, type, &pass, x, job, ahead, 0);
    }
    row->scale = norm_scale_of(norm_mean_of(pass.lane[0], job->features), job->eps);
}

/* ---- results --------------------------------------------------------------------------------------------- */

VEC_INLINE vf normalise(const bool centred, const bool biased, const row_norm *row, vf x, vf weight, vf bias) {
    vf c = centred ? vf_sub(vf_sub(x, row->mean), row->shift) : x;
    vf scaled = vf_mul(c, row->scale);
    return biased ? vf_fma(scaled, weight, bias) : vf_mul(scaled, weight);
}

VEC_INLINE vf normalise_at(const bool centred, const bool biased, const row_norm *row, vf x, int64_t i) {
    return normalise(centred, biased, row, x, vf_load(row->weight + (i & row->weight_mask)),
                     biased ? vf_load(row->bias + i) : vf_zero());
}

/* y from x, both contiguous and of type `type`. */
VEC_INLINE void write_run(const int type, const bool centred, const bool biased, char *y, const row_norm *block, const char *x,
                          int64_t count, norm_ahead ahead) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t whole = count - count % VSUM_LANES;
    const row_norm row = *block;
    vf x0, x1;
    int64_t i = 0;
    for (; i < whole; i += 2 * VW) {
        if (!centred) norm_fetch_ahead(ahead, i, 1);
        norm_load_two(type, x + i * item, &x0, &x1);
        norm_store_two(type, y + i * item, normalise_at(centred, biased, &row, x0, i),
                       normalise_at(centred, biased, &row, x1, i + VW));
    }
    for (; i < count; i += VW) {
        int n = norm_left(count, i);
        vf weight = vf_load_n(row.weight + (i & row.weight_mask), n), bias = biased ? vf_load_n(row.bias + i, n) : vf_zero();
        norm_store_n(type, y + i * item, normalise(centred, biased, &row, norm_load_n(type, x + i * item, n), weight, bias), n);
    }
}

VEC_INLINE row_norm row_from(const row_norm *row, int64_t first) {
    row_norm part = *row;
    part.weight += first & row->weight_mask;
    if (part.bias) part.bias += first;
    return part;
}

/* One block of a row: y, and the sum of an add_rms_norm. What cannot be written in place goes through a stage in L1. */
VEC_INLINE void write_block(const bool centred, const int type, const invar_norm_job *job, const invar_norm_walk *walk,
                            const row_norm *row, const char *x, int64_t first, int64_t count, norm_ahead ahead) {
    const invar_norm_operand *out = &job->operand[INVAR_NORM_Y], *sum = &job->operand[INVAR_NORM_SUM];
    const int item = type == INVAR_F32 ? 4 : 2;
    char *y = invar_norm_row(job, walk, INVAR_NORM_Y) + first * out->step;
    const bool staged = norm_needs_stage(type, out, job->stream);
    const int64_t piece = staged ? NORM_STAGE / 4 : count;
    _Alignas(64) char stage[NORM_STAGE];
    if (!centred && sum->data)
        norm_narrow(job->stream, invar_norm_row(job, walk, INVAR_NORM_SUM) + first * sum->step, sum->type, sum->step,
                    (const float *)(const void *)x, count);
    for (int64_t i = 0; i < count; i += piece) {
        const int64_t n = count - i < piece ? count - i : piece;
        const row_norm part = row_from(row, first + i);
        const norm_ahead next = norm_ahead_from(ahead, first + i);
        if (centred && part.bias) write_run(type, centred, centred, staged ? stage : y, &part, x + i * item, n, next);
        else write_run(type, centred, false, staged ? stage : y, &part, x + i * item, n, next);
        if (staged) norm_unstage(type, job->stream, y + i * out->step, out, stage, n);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

VEC_INLINE void norm_rows_of(const bool centred, const int type, const invar_norm_job *job, int64_t first_row, int64_t rows,
                             float *scratch) {
    row_norm row = { .weight = job->weight ? job->weight : norm_ones, .bias = job->bias, .weight_mask = job->weight ? -1 : 0 };
    invar_norm_walk walk, next;
    invar_norm_walk_to(&next, job, first_row);
    for (int64_t r = 0; r < rows; r++) {
        walk = next;
        invar_norm_walk_next(&next, job);
        norm_source x = norm_source_of(job, &walk, INVAR_NORM_X, centred ? -1 : INVAR_NORM_RESIDUAL, scratch);
        norm_ahead ahead = norm_ahead_of(job, &next, INVAR_NORM_X, r + 1 == rows);
        measure(centred, type, &row, job, &x, ahead);
        for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
            int64_t count = norm_block_count(job, first);
            write_block(centred, type, job, &walk, &row, norm_block(&x, first, count), first, count, ahead);
            if (type != INVAR_F32) break;
        }
    }
    if (job->stream) vec_stream_end();
}

VEC_INLINE void norm_rows(const bool centred, const invar_norm_job *job, int64_t first, int64_t rows, float *scratch) {
    if (norm_format(job) == INVAR_F32) norm_rows_of(centred, INVAR_F32, job, first, rows, scratch);
    else if (norm_format(job) == INVAR_F16) norm_rows_of(centred, INVAR_F16, job, first, rows, scratch);
    else if (norm_format(job) == INVAR_BF16) norm_rows_of(centred, INVAR_BF16, job, first, rows, scratch);
}

invar_norm_kernel INVAR_KERNEL_NAME(rms_norm), INVAR_KERNEL_NAME(layer_norm);
invar_norm_widen_kernel INVAR_KERNEL_NAME(norm_widen);

void INVAR_KERNEL_NAME(rms_norm)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    norm_rows(false, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(layer_norm)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    norm_rows(true, job, first, count, scratch);
}

const void *INVAR_KERNEL_NAME(norm_widen)(const invar_norm_job *job, void *scratch, const char *data, invar_float_type type,
                                          int64_t step) {
    const bool split = norm_format(job) == INVAR_BF16;
    if (type == INVAR_F32 && step == 4 && !split) return data;
    norm_widen(false, scratch, data, type, step, job->features);
    if (split) norm_reorder(true, scratch, scratch, job->features);
    return scratch;
}
