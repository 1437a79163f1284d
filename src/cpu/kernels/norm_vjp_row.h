/* What the VJPs of rms_norm and layer_norm do to a row: its sums, then dx and its part in dweight and dbias. Included by
 * norm_vjp.tmpl.c alone. With g = dy · w:
 *
 *   rms_norm:   k = ((Σ g·x · r) · r) / D,             dx = r · (g - x·k),                          dw += dy · (x·r)
 *   layer_norm: k = (((Σ g·u - δ · Σg) · r) · r) / D,  dx = (g - Σg / D) · r - h·k,   db += dy,     dw += dy · h
 *
 * r, u, δ and h = fma(u, r, -δ · r) as in the forward kernel, computed again: a row's sums cost less than reading them from
 * memory would. x and dy are read from memory once and dx is written once; dw and db grow in a chunk's partial sums, which stay
 * in a cache.
 *
 * Where x and dy are of one half type, a row whose deviations are neither tiny nor huge, nor its mean far from 0, takes `brief`
 * formulas. With m = 0, d = dy · r, and u = x - δ (for rms_norm x):
 *
 *   rms_norm:   dx = fma(d, w, -(k · r) · u),                                                       dw += d · u
 *   layer_norm: dx = fma(d, w, fma(u, -(k · r), -(Σg / D · r))),                      db += dy,     dw += d · u */
#ifndef INVAR_CPU_KERNELS_NORM_VJP_ROW_H
#define INVAR_CPU_KERNELS_NORM_VJP_ROW_H

#include "cpu/kernels/norm_row.h"

/* Rows that are taken together: a chunk's partial sums are then read and written once for all of them. What a row needs in the
 * last pass takes five registers. */
enum { VJP_ROWS = VW == 16 ? 2 : 1 };

/* A chunk's partial sums; dweight NULL: none. */
typedef struct chunk_sums {
    float *dweight, *dbias;
} chunk_sums;

/* The rows that a task is at. */
typedef struct vjp_task {
    const invar_norm_job *job;
    invar_norm_walk walk;        /* at the first row after the coming ones */
    norm_place coming[VJP_ROWS]; /* the rows after them; where there are none, they */
    chunk_sums sums;
    float *scratch;
    norm_stage stage[VJP_ROWS];
    vec_stream dx[VJP_ROWS];
    vec_seam seam;
    bool streams; /* dx goes past the caches from the registers */
    int64_t far;  /* rows one after the other, up to the last, that brief formulas did not suit */
} vjp_task;

typedef struct row_gradient {
    float mean, level; /* the row's m, and -δ · r; brief: δ */
    float scale;       /* r */
    float slope, rest; /* k and Σg / D; brief: -(k · r) and -(Σg / D · r) */
    bool brief;
} row_gradient;

typedef struct row_vectors {
    vf mean, level, scale, slope, rest; /* the same in every lane */
} row_vectors;

typedef struct row_weight {
    const float *data;
    int64_t mask; /* as in norm_pass */
} row_weight;

VEC_INLINE row_weight weight_of(const invar_norm_job *job, int64_t first) {
    return job->weight ? (row_weight){ (const float *)job->weight + first, -1 } : (row_weight){ norm_ones, 0 };
}

/* For the rows that they suit: float32 keeps the formulas that lose less. */
VEC_INLINE bool takes_brief(const int type, const invar_norm_job *job) {
    const invar_float_type x = job->operand[INVAR_NORM_X].type;
    return type != INVAR_F32 || ((x == INVAR_F16 || x == INVAR_BF16) && job->operand[INVAR_NORM_DY].type == x);
}

/* r at which products with it, or its square, neither overflow nor lose bits before the results do. */
VEC_INLINE bool suits_brief(float scale) { return scale >= 0x1p-16f && scale <= 0x1p16f; }

/* ---- statistics ------------------------------------------------------------------------------------------ */

/* Over elements 0 … end-1. next NULL: nothing is fetched. */
VEC_INLINE void run_pass(const int kind, const int type, norm_pass *pass, norm_source *x, norm_source *dy,
                         const invar_norm_job *job, int64_t end, const norm_place *next, bool far) {
    norm_pass_begin(kind, pass);
    for (int64_t first = 0; first < end; first += INVAR_NORM_BLOCK) {
        const int64_t count = norm_block_count(type, job, first);
        pass->x = norm_block(x, first, count);
        if (next) pass->ahead = norm_ahead_of(x, next, INVAR_NORM_X, first, far);
        if (kind >= NORM_RMS_GRADIENT) {
            pass->dy = norm_block(dy, first, count);
            const row_weight weight = weight_of(job, first);
            pass->weight = weight.data;
            pass->weight_mask = weight.mask;
        }
        norm_accumulate(kind, type, next, pass, count < end - first ? count : end - first);
        if (type != INVAR_F32) break;
    }
}

VEC_INLINE row_gradient rms_gradient(bool brief, norm_pass *pass, const invar_norm_job *job) {
    const float features = (float)job->features, scale = norm_scale_of(vsum_reduce(pass->lane[0]) / features, job->eps);
    const float slope = vsum_reduce(pass->lane[1]) * scale * scale / features;
    brief = brief && suits_brief(scale);
    return (row_gradient){ .scale = scale, .slope = brief ? -(slope * scale) : slope, .brief = brief };
}

/* Not brief after all: then the sums must be taken about the mean of the row's head. */
VEC_INLINE row_gradient layer_gradient(const bool brief, float mean, norm_pass *pass, const invar_norm_job *job) {
    const norm_moments m = norm_moments_of(pass->lane[0], pass->lane[1], job->features, job->eps);
    const float features = (float)job->features, g = vsum_reduce(pass->lane[3]), rest = g / features;
    const float slope = sf_fma(-m.shift, g, vsum_reduce(pass->lane[2])) * m.scale * m.scale / features;
    if (!brief) return (row_gradient){ mean, m.level, m.scale, slope, rest, false };
    return (row_gradient){ mean, m.shift, m.scale, -(slope * m.scale), -(rest * m.scale),
                           suits_brief(m.scale) && m.level >= -4 && m.level <= 4 };
}

VEC_INLINE float mean_of_head(const int type, const invar_norm_job *job, norm_source *x) {
    norm_pass pass;
    const float first = norm_first(type, job, x);
    pass.origin = vf_set1(first);
    run_pass(NORM_OFFSET, type, &pass, x, x, job, norm_head(job->features), NULL, false);
    return norm_mean_from(first, pass.lane[0], job->features);
}

/* next NULL: nothing is fetched. */
VEC_INLINE row_gradient measure_about_head(const int type, const invar_norm_job *job, norm_source *x, norm_source *dy,
                                           const norm_place *next, bool far) {
    norm_pass pass;
    const float mean = mean_of_head(type, job, x);
    pass.origin = vf_set1(mean);
    run_pass(NORM_LAYER_GRADIENT, type, &pass, x, dy, job, job->features, next, far);
    return layer_gradient(false, mean, &pass, job);
}

/* A row that brief formulas do not suit: one function for all types. next: as in run_pass, but never NULL. */
static __attribute__((noinline)) row_gradient measure_again(const int type, const invar_norm_job *job, norm_source *x,
                                                            norm_source *dy, const norm_place *next, bool far) {
    if (type == INVAR_F32) return measure_about_head(INVAR_F32, job, x, dy, next, far);
    if (type == INVAR_F16) return measure_about_head(INVAR_F16, job, x, dy, next, far);
    return measure_about_head(INVAR_BF16, job, x, dy, next, far);
}

/* Of a row measured about its head: sums about 0 would find it more than 4 deviations away as well. From 4 to 5 leaves them 2 %
 * of the squared mean for rounding errors, where 2^20 features make at most 0.6. */
VEC_INLINE bool surely_far(const row_gradient *row, int64_t features) {
    const float distance = sf_fma(row->mean, row->scale, -row->level); /* the mean, in deviations */
    return features <= 1 << 20 && (distance > 5 || distance < -5);
}

/* The next x is fetched while this one is summed, or while dx is written: rms_norm's sums over bfloat16 are so short that
 * fetching held them up on Zen 4, by 12 % at rows of 4096. */
VEC_INLINE bool fetches_late(const bool centred, const int type) { return !centred && type == INVAR_BF16; }

VEC_INLINE void measure(const bool centred, const int type, const int rows, row_gradient *row, vjp_task *task, norm_source *x,
                        norm_source *dy, bool far) {
    const invar_norm_job *job = task->job;
    const int64_t features = job->features;
    const bool brief = takes_brief(type, job);
    norm_pass pass[VJP_ROWS];
    if (centred && !brief) { /* several rows call one function, which would else be compiled for each of them */
        FOR_ROWS row[r] = (rows > 1 ? measure_again : measure_about_head)(type, job, &x[r], &dy[r], &task->coming[r], far);
        return;
    }
    FOR_ROWS pass[r].origin = vf_zero();
    if (!centred) {
        FOR_ROWS run_pass(NORM_RMS_GRADIENT, type, &pass[r], &x[r], &dy[r], job, features,
                          fetches_late(centred, type) ? NULL : &task->coming[r], far);
        FOR_ROWS row[r] = rms_gradient(brief, &pass[r], job);
        return;
    }
    if (task->far > 1) { /* then these may be like them */
        bool all = true;
        FOR_ROWS row[r] = measure_again(type, job, &x[r], &dy[r], &task->coming[r], far);
        FOR_ROWS all &= surely_far(&row[r], features);
        if (all) return;
    }
    FOR_ROWS run_pass(NORM_NEAR_GRADIENT, type, &pass[r], &x[r], &dy[r], job, features, &task->coming[r], far);
    FOR_ROWS row[r] = layer_gradient(true, 0, &pass[r], job);
    FOR_ROWS {
        task->far = row[r].brief ? 0 : task->far + 1;
        if (!row[r].brief) row[r] = measure_again(type, job, &x[r], &dy[r], &task->coming[r], far);
    }
}

/* ---- the last pass ------------------------------------------------------------------------------------------ */

/* One vector of one row: dx, and its part in the vectors dweight and dbias. */
VEC_INLINE vf finish_brief(const bool centred, const bool sum, const row_vectors *row, vf x, vf dy, vf weight, vf *dweight,
                           vf *dbias) {
    const vf u = centred ? vf_sub(x, row->level) : x, d = vf_mul(dy, row->scale);
    if (sum) *dweight = vf_fma(d, u, *dweight);
    if (sum && centred) *dbias = vf_add(dy, *dbias);
    return vf_fma(d, weight, centred ? vf_fma(u, row->slope, row->rest) : vf_mul(u, row->slope));
}

VEC_INLINE vf finish(const bool centred, const bool brief, const bool sum, const row_vectors *row, vf x, vf dy, vf weight,
                     vf *dweight, vf *dbias) {
    if (brief) return finish_brief(centred, sum, row, x, dy, weight, dweight, dbias);
    const vf g = vf_mul(dy, weight), h = centred ? vf_fma(vf_sub(x, row->mean), row->scale, row->level) : vf_mul(x, row->scale);
    if (sum) *dweight = vf_fma(dy, h, *dweight);
    if (!centred) return vf_mul(row->scale, vf_fnma(x, row->slope, g));
    if (sum) *dbias = vf_add(dy, *dbias);
    return vf_fnma(h, row->slope, vf_mul(vf_sub(g, row->rest), row->scale));
}

VEC_INLINE row_vectors vectors_of(const row_gradient *row) {
    row_vectors v = { vf_set1(row->mean), vf_set1(row->level), vf_set1(row->scale), vf_set1(row->slope), vf_set1(row->rest) };
    if (VW < 16) return v; /* too few registers; with 32 the compiler would rather read them from the stack for each vector */
    VEC_KEEP_(v.mean);
    VEC_KEEP_(v.level);
    VEC_KEEP_(v.scale);
    VEC_KEEP_(v.slope);
    VEC_KEEP_(v.rest);
    return v;
}

/* What rows side by side read and write, contiguous and of one type; with the vectors of all of them. */
typedef struct vjp_run {
    char *dx[VJP_ROWS];
    const char *x[VJP_ROWS], *dy[VJP_ROWS];
    norm_ahead x_ahead[VJP_ROWS], dy_ahead[VJP_ROWS];
    row_weight weight;
    chunk_sums sums;
} vjp_run;

/* Elements i … end-1; run->dx is where element i goes. */
VEC_INLINE void write_some(const int type, const bool centred, const bool brief, const bool sum, const int rows,
                           const vjp_run *run, const row_gradient *row, int64_t i, int64_t end) {
    const int item = type == INVAR_F32 ? 4 : 2;
    for (int64_t at = 0; i < end; i += VW, at += VW * item) {
        const int n = norm_left(end, i);
        const vf weight = vf_load_n(run->weight.data + (i & run->weight.mask), n);
        vf dw = sum ? vf_load_n(run->sums.dweight + i, n) : vf_zero();
        vf db = sum && centred ? vf_load_n(run->sums.dbias + i, n) : dw;
        for (int r = 0; r < rows; r++) {
            vf x = vf_load_as_n(type, run->x[r] + i * item, n), dy = vf_load_as_n(type, run->dy[r] + i * item, n);
            const row_vectors v = vectors_of(&row[r]);
            vf_store_as_n(type, run->dx[r] + at, finish(centred, brief, sum, &v, x, dy, weight, &dw, &db), n);
        }
        if (sum) vf_store_n(run->sums.dweight + i, dw, n);
        if (sum && centred) vf_store_n(run->sums.dbias + i, db, n);
    }
}

/* Two vectors of one row, from element i; with `past` past the caches. */
VEC_INLINE void write_two(const int type, const bool past, const bool centred, const bool brief, const bool sum,
                          const vjp_run *run, const int r, const row_vectors *row, int64_t i, const vf weight[2], vf dweight[2],
                          vf dbias[2], vec_flow *flow) {
    const int item = type == INVAR_F32 ? 4 : 2;
    vf x0, x1, dy0, dy1;
    vf_load_two_as(type, run->x[r] + i * item, &x0, &x1);
    vf_load_two_as(type, run->dy[r] + i * item, &dy0, &dy1);
    const vf a = finish(centred, brief, sum, row, x0, dy0, weight[0], &dweight[0], &dbias[0]);
    const vf b = finish(centred, brief, sum, row, x1, dy1, weight[1], &dweight[1], &dbias[1]);
    past ? norm_push_two(type, flow, i * item, a, b) : vf_store_two_as(type, run->dx[r] + i * item, a, b);
}

/* Past the caches one row at a time. The next rows are fetched meanwhile. */
VEC_INLINE void write_run(const int type, const bool past, const bool centred, const bool brief, const bool sum, const int rows,
                          const vjp_run *to, const row_gradient *block, int64_t count, vjp_task *task) {
    const int item = type == INVAR_F32 ? 4 : 2, bytes = 2 * VW * item;
    const vjp_run run = *to;
    const row_vectors first = vectors_of(&block[0]), last = rows > 1 ? vectors_of(&block[rows - 1]) : first;
    vec_flow flow = past ? vec_flow_begin(&task->seam, run.dx[0]) : (vec_flow){ .apart = -1 };
    vf dw[2] = { vf_zero(), vf_zero() }, db[2] = { vf_zero(), vf_zero() };
    int64_t i = 0;
    for (; i < norm_whole(type, count); i += 2 * VW) {
        norm_fetch(&run.dy_ahead[0], i * item, bytes);
        if (rows > 1) norm_fetch(&run.dy_ahead[rows - 1], i * item, bytes);
        if (fetches_late(centred, type)) norm_fetch(&run.x_ahead[0], i * item, bytes);
        if (fetches_late(centred, type) && rows > 1) norm_fetch(&run.x_ahead[rows - 1], i * item, bytes);
        const int64_t j = i + VW;
        const vf weight[2] = { vf_load(run.weight.data + (i & run.weight.mask)),
                               vf_load(run.weight.data + (j & run.weight.mask)) };
        if (sum) dw[0] = vf_load(run.sums.dweight + i), dw[1] = vf_load(run.sums.dweight + j);
        if (sum && centred) db[0] = vf_load(run.sums.dbias + i), db[1] = vf_load(run.sums.dbias + j);
        write_two(type, past, centred, brief, sum, &run, 0, &first, i, weight, dw, db, &flow);
        if (rows > 1) write_two(type, past, centred, brief, sum, &run, rows - 1, &last, i, weight, dw, db, NULL);
        if (sum) vf_store(run.sums.dweight + i, dw[0]), vf_store(run.sums.dweight + j, dw[1]);
        if (sum && centred) vf_store(run.sums.dbias + i, db[0]), vf_store(run.sums.dbias + j, db[1]);
    }
    _Alignas(64) float tail[2 * VW];
    vjp_run end = *to;
    FOR_ROWS end.dx[r] = past ? (char *)tail : end.dx[r] + i * item;
    write_some(type, centred, brief, sum, rows, &end, block, i, count);
    const vec_flow written = flow;
    if (past) vec_flow_end(&written, &task->seam, i * item, tail, (count - i) * item);
}

VEC_INLINE void write_any(const int type, const bool centred, const int rows, const vjp_run *run, const row_gradient *row,
                          int64_t count, bool past, vjp_task *task) {
    const bool sum = run->sums.dweight, usual = type != INVAR_F32;
    if (rows == 1 && row->brief != usual) { /* read as floats, or far from 0 */
        if (sum && past && centred && usual) write_run(type, true, centred, !usual, true, 1, run, row, count, task);
        else if (sum) write_run(type, false, centred, !usual, true, 1, run, row, count, task);
        else write_run(type, false, centred, !usual, false, 1, run, row, count, task);
    } else if (rows == 1 && past && sum) write_run(type, true, centred, usual, true, 1, run, row, count, task);
    else if (rows == 1 && past) write_run(type, true, centred, usual, false, 1, run, row, count, task);
    else if (sum) write_run(type, false, centred, usual, true, rows, run, row, count, task);
    else write_run(type, false, centred, usual, false, rows, run, row, count, task);
}

/* One block of the rows; dx[0] NULL: none. What cannot be written in place, or is not wanted, goes through a stage in L1. */
VEC_INLINE void write_block(const bool centred, const int type, const int rows, vjp_task *task, char *const *dx,
                            const row_gradient *row, norm_source *x, norm_source *dy, int64_t first, int64_t count, bool far) {
    const invar_norm_job *job = task->job;
    const invar_norm_operand *out = &job->operand[INVAR_NORM_DX];
    const int item = type == INVAR_F32 ? 4 : 2;
    const bool staged = !dx[0] || norm_needs_stage(type, out), streams = dx[0] && task->streams && count * item >= 2 * VEC_LINE;
    const int64_t piece = staged ? NORM_PIECE : count;
    for (int64_t i = 0; i < count; i += piece) {
        const int64_t n = count - i < piece ? count - i : piece, at = first + i;
        vjp_run run = { .weight = weight_of(job, at), .sums = { NULL, NULL } };
        FOR_ROWS {
            run.dx[r] = staged ? task->stage[r].bytes : dx[r] + at * out->step;
            run.x[r] = norm_block(&x[r], first, count) + i * item;
            run.dy[r] = norm_block(&dy[r], first, count) + i * item;
            run.x_ahead[r] = norm_ahead_of(&x[r], &task->coming[r], INVAR_NORM_X, at, far);
            run.dy_ahead[r] = norm_ahead_of(&dy[r], &task->coming[r], INVAR_NORM_DY, at, far);
        }
        if (task->sums.dweight) run.sums = (chunk_sums){ task->sums.dweight + at, centred ? task->sums.dbias + at : NULL };
        write_any(type, centred, rows, &run, row, n, streams, task);
        for (int r = 0; staged && dx[0] && r < rows; r++)
            norm_emit(type, job, &task->dx[r], &task->stage[r], run.dx[r], dx[r] + at * out->step, out, n);
    }
}

/* A function for each kernel and type, and how one is picked. */
#define FOR_KERNELS(define)              \
    define(rms_F32, false, INVAR_F32)    \
    define(rms_F16, false, INVAR_F16)    \
    define(rms_BF16, false, INVAR_BF16)  \
    define(layer_F32, true, INVAR_F32)   \
    define(layer_F16, true, INVAR_F16)   \
    define(layer_BF16, true, INVAR_BF16)
#define PICK(kind, type) (type == INVAR_F32 ? kind##_F32 : type == INVAR_F16 ? kind##_F16 : kind##_BF16)

/* One row's sums, and its block: with rows in a pipeline two or three places call them. */
#define ONE_ROW(name, centred, type)                                                                                         \
    static __attribute__((noinline, unused)) void measure_##name(row_gradient *row, vjp_task *task, norm_source *x,          \
                                                                 norm_source *dy, bool far) {                                \
        measure(centred, type, 1, row, task, x, dy, far);                                                                    \
    }                                                                                                                        \
    static __attribute__((noinline, unused)) void write_##name(vjp_task *task, char *dx, const row_gradient *row,            \
                                                               norm_source *x, norm_source *dy, int64_t first,               \
                                                               int64_t count, bool far) {                                    \
        write_block(centred, type, 1, task, &dx, row, x, dy, first, count, far);                                             \
    }
FOR_KERNELS(ONE_ROW)

VEC_INLINE void measure_one(const bool centred, const int type, row_gradient *row, vjp_task *task, norm_source *x,
                            norm_source *dy, bool far) {
    if (centred) PICK(measure_layer, type)(row, task, x, dy, far);
    else PICK(measure_rms, type)(row, task, x, dy, far);
}

VEC_INLINE void write_one(const bool centred, const int type, vjp_task *task, char *dx, const row_gradient *row, norm_source *x,
                          norm_source *dy, int64_t first, int64_t count, bool far) {
    if (centred) PICK(write_layer, type)(task, dx, row, x, dy, first, count, far);
    else PICK(write_rms, type)(task, dx, row, x, dy, first, count, far);
}

#endif
