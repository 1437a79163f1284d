/* rms_norm, add_rms_norm and layer_norm, forward, on one instruction set.
 *
 *   rms_norm:   r = 1 / sqrt(Σx² / D + eps), y = (x · r) · w                                (Zhang & Sennrich, 2019)
 *   layer_norm: u = x - m, δ = Σu / D, r = 1 / sqrt((Σu² - δ · Σu) / D + eps),              (Ba et al., 2016; Chan, Golub &
 *               y = fma(fma(u, r, -δ · r), w, b); m is near the mean                        LeVeque, 1983)
 *
 * A row is read from memory once: the passes after the first find it in a cache, and the next one is fetched meanwhile. Rows of
 * one half type throughout are widened in registers, in every pass; other mixes once, into a buffer. */
#include "cpu/kernels/norm_row.h"

/* The rows that a task is at. */
typedef struct norm_task {
    const invar_norm_job *job;
    invar_norm_walk walk;         /* at the first row after the coming ones */
    norm_place coming[NORM_ROWS]; /* the rows after them; where there are none, they */
    float *scratch;
    norm_stage y_stage, sum_stage;
    vec_stream y, sum;
    vec_seam seam;
    bool streams; /* y goes past the caches from the registers */
} norm_task;

typedef struct row_norm {
    vf mean, scale, level; /* m, r, -δ · r */
    const float *weight, *bias;
    int64_t weight_mask; /* as in norm_pass */
} row_norm;

/* ---- statistics ------------------------------------------------------------------------------------------ */

/* Over elements 0 … end-1. next NULL: nothing is fetched. */
VEC_INLINE void run_pass(const int kind, const int type, norm_pass *pass, norm_source *x, const invar_norm_job *job, int64_t end,
                         const norm_place *next) {
    norm_pass_begin(kind, pass);
    for (int64_t first = 0; first < end; first += INVAR_NORM_BLOCK) {
        const int64_t count = norm_block_count(type, job, first);
        pass->x = norm_block(x, first, count);
        if (next) pass->ahead = norm_ahead_of(x, next, INVAR_NORM_X, first, true);
        norm_accumulate(kind, type, next, pass, count < end - first ? count : end - first);
        if (type != INVAR_F32) break;
    }
}

VEC_INLINE void measure(const bool centred, const int type, int rows, row_norm *row, const norm_task *task, norm_source *x) {
    const invar_norm_job *job = task->job;
    const int64_t features = job->features;
    norm_pass pass[NORM_ROWS];
    float first[NORM_ROWS];
    if (!centred) {
        FOR_ROWS pass[r].origin = vf_zero();
        FOR_ROWS run_pass(NORM_SQUARES, type, &pass[r], &x[r], job, features, &task->coming[r]);
        FOR_ROWS row[r].scale = vf_set1(norm_scale_of(vsum_reduce(pass[r].lane[0]) / (float)features, job->eps));
        return;
    }
    FOR_ROWS pass[r].origin = vf_set1(first[r] = norm_first(type, job, &x[r]));
    FOR_ROWS run_pass(NORM_OFFSET, type, &pass[r], &x[r], job, norm_head(features), NULL);
    FOR_ROWS row[r].mean = pass[r].origin = vf_set1(norm_mean_from(first[r], pass[r].lane[0], features));
    FOR_ROWS run_pass(NORM_VARIANCE, type, &pass[r], &x[r], job, features, &task->coming[r]);
    FOR_ROWS {
        const norm_moments m = norm_moments_of(pass[r].lane[0], pass[r].lane[1], features, job->eps);
        row[r].scale = vf_set1(m.scale);
        row[r].level = vf_set1(m.level);
    }
}

/* ---- results --------------------------------------------------------------------------------------------- */

VEC_INLINE vf normalise(const bool centred, const bool biased, const row_norm *row, vf x, vf weight, vf bias) {
    const vf scaled = centred ? vf_fma(vf_sub(x, row->mean), row->scale, row->level) : vf_mul(x, row->scale);
    return biased ? vf_fma(scaled, weight, bias) : vf_mul(scaled, weight);
}

VEC_INLINE vf normalise_at(const bool centred, const bool biased, const row_norm *row, vf x, int64_t i) {
    return normalise(centred, biased, row, x, vf_load(row->weight + (i & row->weight_mask)),
                     biased ? vf_load(row->bias + i) : vf_zero());
}

/* Elements i … end-1, to `to`. */
VEC_INLINE void write_some(const int type, const bool centred, const bool biased, char *to, const row_norm *row, const char *x,
                           int64_t i, int64_t end) {
    const int item = type == INVAR_F32 ? 4 : 2;
    for (; i < end; i += VW, to += VW * item) {
        const int n = norm_left(end, i);
        vf weight = vf_load_n(row->weight + (i & row->weight_mask), n), bias = biased ? vf_load_n(row->bias + i, n) : vf_zero();
        vf_store_as_n(type, to, normalise(centred, biased, row, vf_load_as_n(type, x + i * item, n), weight, bias), n);
    }
}

/* y from x, both contiguous and of type `type`; with `past` past the caches. */
VEC_INLINE void write_run(const int type, const bool past, const bool centred, const bool biased, char *y, const row_norm *block,
                          const char *x, int64_t count, vec_seam *seam) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const row_norm row = *block;
    _Alignas(64) float tail[2 * VW];
    vec_flow flow = past ? vec_flow_begin(seam, y) : (vec_flow){ .apart = -1 };
    int64_t i = 0;
    for (; i < norm_whole(type, count); i += 2 * VW) {
        vf x0, x1;
        vf_load_two_as(type, x + i * item, &x0, &x1);
        const vf y0 = normalise_at(centred, biased, &row, x0, i), y1 = normalise_at(centred, biased, &row, x1, i + VW);
        past ? norm_push_two(type, &flow, i * item, y0, y1) : vf_store_two_as(type, y + i * item, y0, y1);
    }
    write_some(type, centred, biased, past ? (char *)tail : y + i * item, &row, x, i, count);
    const vec_flow written = flow;
    if (past) vec_flow_end(&written, seam, i * item, tail, (count - i) * item);
}

/* seam NULL: through the caches. */
VEC_INLINE void write_any(const int type, const bool centred, char *y, const row_norm *row, const char *x, int64_t count,
                          vec_seam *seam) {
    const bool biased = centred && row->bias;
    if (seam && biased) write_run(type, true, centred, centred, y, row, x, count, seam);
    else if (seam) write_run(type, true, centred, false, y, row, x, count, seam);
    else if (biased) write_run(type, false, centred, centred, y, row, x, count, seam);
    else write_run(type, false, centred, false, y, row, x, count, seam);
}

VEC_INLINE row_norm row_from(const row_norm *row, int64_t first) {
    row_norm part = *row;
    part.weight += first & row->weight_mask;
    if (part.bias) part.bias += first;
    return part;
}

/* One block of a row: y, and the sum of an add_rms_norm. What cannot be written in place goes through a stage in L1. */
VEC_INLINE void write_block(const bool centred, const int type, norm_task *task, char *y, char *sum, const row_norm *row,
                            const char *x, int64_t first, int64_t count) {
    const invar_norm_job *job = task->job;
    const invar_norm_operand *out = &job->operand[INVAR_NORM_Y], *sum_out = &job->operand[INVAR_NORM_SUM];
    const int item = type == INVAR_F32 ? 4 : 2;
    const bool staged = norm_needs_stage(type, out);
    const int64_t piece = staged || sum ? NORM_PIECE : count;
    for (int64_t i = 0; i < count; i += piece) {
        const int64_t n = count - i < piece ? count - i : piece, at = first + i;
        const row_norm part = row_from(row, at);
        char *to = staged ? task->y_stage.bytes : y + at * out->step;
        if (!centred && sum)
            norm_emit(type, job, &task->sum, &task->sum_stage, x + i * item, sum + at * sum_out->step, sum_out, n);
        write_any(type, centred, to, &part, x + i * item, n, task->streams && n * item >= 2 * VEC_LINE ? &task->seam : NULL);
        if (staged) norm_emit(type, job, &task->y, &task->y_stage, to, y + at * out->step, out, n);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------ */

VEC_INLINE void norm_together(const bool centred, const int type, int rows, norm_task *task, int64_t left) {
    const invar_norm_job *job = task->job;
    row_norm row[NORM_ROWS];
    norm_source x[NORM_ROWS];
    char *y[NORM_ROWS], *sum[NORM_ROWS];
    FOR_ROWS {
        row[r].weight = job->weight ? job->weight : norm_ones;
        row[r].weight_mask = job->weight ? -1 : 0;
        row[r].bias = job->bias;
        x[r] = norm_source_of(type, job, &task->coming[r], INVAR_NORM_X, centred ? -1 : INVAR_NORM_RESIDUAL, task->scratch);
        y[r] = task->coming[r].row[INVAR_NORM_Y];
        sum[r] = centred ? NULL : task->coming[r].row[INVAR_NORM_SUM];
    }
    norm_come(job, &task->walk, task->coming, rows, left - rows);
    measure(centred, type, rows, row, task, x);
    for (int r = 0; r < rows; r++)
        for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
            const int64_t count = norm_block_count(type, job, first);
            write_block(centred, type, task, y[r], sum[r], &row[r], norm_block(&x[r], first, count), first, count);
            if (type != INVAR_F32) break;
        }
}

VEC_INLINE void norm_rows_of(const bool centred, const int type, const invar_norm_job *job, int64_t first_row, int64_t rows,
                             float *scratch) {
    norm_task task; /* without an initialiser: it would clear the stages */
    task.job = job;
    task.scratch = scratch;
    task.seam.end = NULL;
    task.streams = norm_streams_rows(type, job);
    task.y = (vec_stream){ task.y_stage.bytes, NULL, 0 };
    task.sum = (vec_stream){ task.sum_stage.bytes, NULL, 0 };
    invar_norm_walk_to(&task.walk, job, first_row);
    const bool direct = norm_in_place(type, job, INVAR_NORM_X) && !job->operand[INVAR_NORM_RESIDUAL].data;
    const int most = norm_rows_together(job, type, direct);
    norm_come(job, &task.walk, task.coming, most, rows);
    for (int64_t left = rows, n; left > 0; left -= n) {
        n = left < most ? left : most;
        norm_together(centred, type, (int)n, &task, left);
    }
    vec_stream_flush(&task.y);
    vec_stream_flush(&task.sum);
    vec_seam_flush(&task.seam);
    if (norm_streams(job)) vec_stream_end();
}

invar_norm_kernel INVAR_KERNEL_NAME(rms_norm), INVAR_KERNEL_NAME(layer_norm);
invar_norm_widen_kernel INVAR_KERNEL_NAME(norm_widen);

NORM_KERNEL(rms_norm, norm_rows_of, false)
NORM_KERNEL(layer_norm, norm_rows_of, true)

const void *INVAR_KERNEL_NAME(norm_widen)(const invar_norm_job *job, void *scratch, const char *data, invar_float_type type,
                                          int64_t step) {
    const bool split = norm_format(job) == INVAR_BF16;
    if (type == INVAR_F32 && step == 4 && !split) return data;
    norm_widen(false, scratch, data, type, step, job->features);
    if (split) norm_reorder(false, scratch, job->features);
    return scratch;
}
