/* The VJPs of rms_norm and layer_norm on one instruction set. With g = dy · w:
 *
 *   rms_norm:   k = ((Σ g·x · r) · r) / D,             dx = r · (g - x·k),                          dw += dy · (x·r)
 *   layer_norm: k = (((Σ g·u - δ · Σg) · r) · r) / D,  dx = (g - Σg / D) · r - h·k,   db += dy,     dw += dy · h
 *
 * r, u, δ and h = fma(u, r, -δ · r) as in the forward kernel, computed again: a row's sums cost less than reading them from memory
 * would. x and dy are read from memory once and dx is written once; dw and db grow in a chunk's partial sums, which stay in a cache.
 *
 * Where x and dy are of one half type, a row whose deviations are neither tiny nor huge, nor its mean far from 0, takes `brief`
 * formulas. With m = 0, d = dy · r, and u = x - δ (for rms_norm x):
 *
 *   rms_norm:   dx = fma(d, w, -(k · r) · u),                                                       dw += d · u
 *   layer_norm: dx = fma(d, w, fma(u, -(k · r), -(Σg / D · r))),                      db += dy,     dw += d · u */
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

/* A row that brief formulas do not suit. Seldom called: one function for all types. */
static __attribute__((noinline)) row_gradient measure_again(const int type, const invar_norm_job *job, norm_source *x,
                                                            norm_source *dy) {
    if (type == INVAR_F32) return measure_about_head(INVAR_F32, job, x, dy, NULL, false);
    if (type == INVAR_F16) return measure_about_head(INVAR_F16, job, x, dy, NULL, false);
    return measure_about_head(INVAR_BF16, job, x, dy, NULL, false);
}

/* The next x is fetched while this one is summed, or while dx is written: rms_norm's sums over bfloat16 are so short that fetching
 * held them up on Zen 4, by 12 % at rows of 4096. */
VEC_INLINE bool fetches_late(const bool centred, const int type) { return !centred && type == INVAR_BF16; }

VEC_INLINE void measure(const bool centred, const int type, const int rows, row_gradient *row, const vjp_task *task, norm_source *x,
                        norm_source *dy, bool far) {
    const invar_norm_job *job = task->job;
    const int64_t features = job->features;
    const bool brief = takes_brief(type, job);
    norm_pass pass[VJP_ROWS];
    if (centred && !brief) {
        FOR_ROWS row[r] = measure_about_head(type, job, &x[r], &dy[r], &task->coming[r], far);
        return;
    }
    FOR_ROWS pass[r].origin = vf_zero();
    if (!centred) {
        FOR_ROWS run_pass(NORM_RMS_GRADIENT, type, &pass[r], &x[r], &dy[r], job, features,
                          fetches_late(centred, type) ? NULL : &task->coming[r], far);
        FOR_ROWS row[r] = rms_gradient(brief, &pass[r], job);
        return;
    }
    FOR_ROWS run_pass(NORM_NEAR_GRADIENT, type, &pass[r], &x[r], &dy[r], job, features, &task->coming[r], far);
    FOR_ROWS row[r] = layer_gradient(true, 0, &pass[r], job);
    FOR_ROWS if (!row[r].brief) row[r] = measure_again(type, job, &x[r], &dy[r]);
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
        vf dw = sum ? vf_load_n(run->sums.dweight + i, n) : vf_zero(), db = sum && centred ? vf_load_n(run->sums.dbias + i, n) : dw;
        for (int r = 0; r < rows; r++) {
            vf x = norm_load_n(type, run->x[r] + i * item, n), dy = norm_load_n(type, run->dy[r] + i * item, n);
            const row_vectors v = vectors_of(&row[r]);
            norm_store_n(type, run->dx[r] + at, finish(centred, brief, sum, &v, x, dy, weight, &dw, &db), n);
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
    norm_load_two(type, run->x[r] + i * item, &x0, &x1);
    norm_load_two(type, run->dy[r] + i * item, &dy0, &dy1);
    const vf a = finish(centred, brief, sum, row, x0, dy0, weight[0], &dweight[0], &dbias[0]);
    const vf b = finish(centred, brief, sum, row, x1, dy1, weight[1], &dweight[1], &dbias[1]);
    past ? norm_push_two(type, flow, i * item, a, b) : norm_store_two(type, run->dx[r] + i * item, a, b);
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
        const vf weight[2] = { vf_load(run.weight.data + (i & run.weight.mask)), vf_load(run.weight.data + (j & run.weight.mask)) };
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
    if (rows == 1 && row->brief != usual) { /* read as floats, or seldom met */
        if (sum) write_run(type, false, centred, !usual, true, 1, run, row, count, task);
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

/* One row's block: a function for each kernel, since with rows in a pipeline there are three places that call it. */
#define WRITE_ONE_(name, centred, type)                                                                                      \
    static __attribute__((noinline, unused)) void name(vjp_task *task, char *dx, const row_gradient *row, norm_source *x,    \
                                                       norm_source *dy, int64_t first, int64_t count, bool far) {            \
        write_block(centred, type, 1, task, &dx, row, x, dy, first, count, far);                                             \
    }
#define WRITE_ONE(type)                              \
    WRITE_ONE_(write_rms_##type, false, INVAR_##type) \
    WRITE_ONE_(write_layer_##type, true, INVAR_##type)
WRITE_ONE(F32)
WRITE_ONE(F16)
WRITE_ONE(BF16)
#define PICK(kind, type) (type == INVAR_F32 ? kind##_F32 : type == INVAR_F16 ? kind##_F16 : kind##_BF16)

VEC_INLINE void write_one(const bool centred, const int type, vjp_task *task, char *dx, const row_gradient *row, norm_source *x,
                          norm_source *dy, int64_t first, int64_t count, bool far) {
    if (centred) PICK(write_layer, type)(task, dx, row, x, dy, first, count, far);
    else PICK(write_rms, type)(task, dx, row, x, dy, first, count, far);
}

/* ---- rows --------------------------------------------------------------------------------------------- */

VEC_INLINE chunk_sums sums_of(const bool centred, const invar_norm_job *job, int64_t first_row) {
    if (!job->want_dweight && !job->want_dbias) return (chunk_sums){ NULL, NULL };
    float *partial = (float *)(void *)(job->partial + (size_t)(first_row / job->chunk_rows) * job->partial_bytes);
    memset(partial, 0, job->partial_bytes);
    return (chunk_sums){ partial, centred ? partial + job->partial_bytes / 2 / sizeof(float) : NULL };
}

VEC_INLINE void vjp_together(const bool centred, const int type, const int rows, vjp_task *task, int64_t left) {
    const invar_norm_job *job = task->job;
    norm_source x[VJP_ROWS], dy[VJP_ROWS];
    row_gradient row[VJP_ROWS];
    char *dx[VJP_ROWS];
    FOR_ROWS {
        x[r] = norm_source_of(type, job, &task->coming[r], INVAR_NORM_X, -1, task->scratch);
        dy[r] = norm_source_of(type, job, &task->coming[r], INVAR_NORM_DY, -1, task->scratch + norm_block_count(type, job, 0));
        dx[r] = task->coming[r].row[INVAR_NORM_DX];
    }
    norm_come(job, &task->walk, task->coming, rows, left - rows);
    const bool far = rows * job->features * (type == INVAR_F32 ? 4 : 2) > NORM_ROWS_BYTES;
    measure(centred, type, rows, row, task, x, dy, far);
    bool apart = false;
    for (int r = 0; r < rows && rows > 1 && type != INVAR_F32; r++) apart |= !row[r].brief;
    for (int r = 0; r < rows && apart; r++)
        write_one(centred, type, task, dx[r], &row[r], &x[r], &dy[r], 0, job->features, far);
    for (int64_t first = 0; first < job->features && !apart; first += INVAR_NORM_BLOCK) {
        const int64_t count = norm_block_count(type, job, first);
        if (rows == 1 && VJP_ROWS > 1) write_one(centred, type, task, dx[0], row, x, dy, first, count, far);
        else write_block(centred, type, rows, task, dx, row, x, dy, first, count, far);
        if (type != INVAR_F32) break;
    }
}

/* ---- rows in a pipeline --------------------------------------------------------------------------------- */

/* Past the caches dx of one row is written in the same loop that sums up the row after the next: loads, stores and arithmetic
 * come evenly, and the reductions of a row's sums have the time of a whole row. Meanwhile the row two further on is fetched.
 * With job->pieces two rows take turns piece by piece where weight and partial sums are more than L1 holds beside the rows: for the
 * second they then come from there. */
enum { PIPE_LEAD = 2, PIPE_AHEAD = 4, PIPE_BYTES = 16384, PIPE_NEAR_BYTES = 1024, PIPE_PIECE = 512 /* elements */ };

typedef struct piped_row {
    norm_place at;
    row_gradient gradient; /* before the sums, the mean of the head alone */
} piped_row;

typedef struct pipe_ring {
    piped_row row[8]; /* row r at r % 8, up to one after PIPE_AHEAD */
} pipe_ring;
VEC_INLINE piped_row *ring_row(pipe_ring *ring, int64_t r) { return &ring->row[r & 7]; }

/* What a step carries along the rows: the sums of the later one, and where the other is written. */
typedef struct pipe_state {
    norm_pass pass;
    vec_flow flow;
} pipe_state;

VEC_INLINE int pipe_kind(const bool centred, const int type) {
    return !centred ? NORM_RMS_GRADIENT : type != INVAR_F32 ? NORM_NEAR_GRADIENT : NORM_LAYER_GRADIENT;
}

VEC_INLINE vjp_run pipe_run(const vjp_task *task, const piped_row *row) {
    return (vjp_run){ .dx = { row->at.row[INVAR_NORM_DX] }, .x = { row->at.row[INVAR_NORM_X] },
                      .dy = { row->at.row[INVAR_NORM_DY] }, .weight = weight_of(task->job, 0), .sums = task->sums };
}

VEC_INLINE void pipe_begin(const bool centred, const int type, vec_seam *seam, pipe_ring *ring, int64_t r, pipe_state *state) {
    const piped_row *later = ring_row(ring, r + PIPE_LEAD);
    state->pass.origin = vf_set1(centred && type == INVAR_F32 ? later->gradient.mean : 0);
    norm_pass_begin(pipe_kind(centred, type), &state->pass);
    state->flow = vec_flow_begin(seam, ring_row(ring, r)->at.row[INVAR_NORM_DX]);
}

/* Elements i … end-1, whole runs of two vectors. */
VEC_INLINE void pipe_some(const bool centred, const int type, const bool far, const vjp_task *task, pipe_ring *ring, int64_t r,
                          pipe_state *state, int64_t i, int64_t end) {
    const bool brief = type != INVAR_F32;
    const int kind = pipe_kind(centred, type), item = type == INVAR_F32 ? 4 : 2, bytes = 2 * VW * item;
    const norm_place *later = &ring_row(ring, r + PIPE_LEAD)->at, *next = &ring_row(ring, r + PIPE_AHEAD)->at;
    const norm_ahead x_ahead = { next->row[INVAR_NORM_X], far }, dy_ahead = { next->row[INVAR_NORM_DY], far };
    const vjp_run run = pipe_run(task, ring_row(ring, r));
    const row_vectors vectors = vectors_of(&ring_row(ring, r)->gradient);
    const char *later_x = later->row[INVAR_NORM_X], *later_dy = later->row[INVAR_NORM_DY];
    norm_pass pass = state->pass;
    vec_flow flow = state->flow;
    vf x[2], dy[2], dw[2], db[2] = { vf_zero(), vf_zero() };
    for (; i < end; i += 2 * VW) {
        norm_fetch(&x_ahead, i * item, bytes);
        norm_fetch(&dy_ahead, i * item, bytes);
        const vf weight[2] = { vf_load(run.weight.data + i), vf_load(run.weight.data + i + VW) };
        norm_load_two(type, later_x + i * item, &x[0], &x[1]);
        norm_load_two(type, later_dy + i * item, &dy[0], &dy[1]);
        norm_step(kind, pass.lane, 0, norm_centre(kind, false, x[0], pass.origin), vf_mul(dy[0], weight[0]));
        norm_step(kind, pass.lane, VSUM - 1, norm_centre(kind, true, x[1], pass.origin), vf_mul(dy[1], weight[1]));
        dw[0] = vf_load(run.sums.dweight + i), dw[1] = vf_load(run.sums.dweight + i + VW);
        if (centred) db[0] = vf_load(run.sums.dbias + i), db[1] = vf_load(run.sums.dbias + i + VW);
        write_two(type, true, centred, brief, true, &run, 0, &vectors, i, weight, dw, db, &flow);
        vf_store(run.sums.dweight + i, dw[0]), vf_store(run.sums.dweight + i + VW, dw[1]);
        if (centred) vf_store(run.sums.dbias + i, db[0]), vf_store(run.sums.dbias + i + VW, db[1]);
    }
    state->pass = pass;
    state->flow = flow;
}

/* What is left behind element i, and the later row's gradient. */
VEC_INLINE void pipe_end(const bool centred, const int type, vjp_task *task, pipe_ring *ring, int64_t r, pipe_state *state,
                         int64_t i) {
    const invar_norm_job *job = task->job;
    const bool brief = type != INVAR_F32;
    const int kind = pipe_kind(centred, type), item = type == INVAR_F32 ? 4 : 2;
    const int64_t count = job->features;
    piped_row *later = ring_row(ring, r + PIPE_LEAD);
    norm_pass *pass = &state->pass;
    pass->x = later->at.row[INVAR_NORM_X];
    pass->dy = later->at.row[INVAR_NORM_DY];
    pass->weight = job->weight;
    pass->weight_mask = -1;
    _Pragma("GCC unroll 4") for (int k = 0; k < norm_sums(kind); k++)
        if (type == INVAR_BF16) norm_unsplit(pass->lane[k], VSUM);
    norm_sweep_tail(kind, type, pass->lane, 0, VSUM, pass, i, count);
    later->gradient = centred ? layer_gradient(brief, later->gradient.mean, pass, job) : rms_gradient(brief, pass, job);
    _Alignas(64) float tail[2 * VW];
    vjp_run end = pipe_run(task, ring_row(ring, r));
    end.dx[0] = (char *)tail;
    write_some(type, centred, brief, true, 1, &end, &ring_row(ring, r)->gradient, i, count);
    vec_flow_end(&state->flow, &task->seam, i * item, tail, (count - i) * item);
}

VEC_INLINE void step_pipe(const bool centred, const int type, const bool far, vjp_task *task, pipe_ring *ring, int64_t r) {
    const int64_t whole = norm_whole(type, task->job->features);
    pipe_state state;
    pipe_begin(centred, type, &task->seam, ring, r, &state);
    pipe_some(centred, type, far, task, ring, r, &state, 0, whole);
    pipe_end(centred, type, task, ring, r, &state, whole);
}

/* Functions of their own: within another, the compiler keeps half of the loop's pointers elsewhere. */
#define STEP_PIPE_(name, centred, type, far)                                                                            \
    static __attribute__((noinline, unused)) void step_##name(vjp_task *task, pipe_ring *ring, int64_t r) {             \
        step_pipe(centred, type, far, task, ring, r);                                                                   \
    }
#define STEP_PIPE(type)                                   \
    STEP_PIPE_(rms_##type, false, INVAR_##type, false)    \
    STEP_PIPE_(rms_far_##type, false, INVAR_##type, true) \
    STEP_PIPE_(layer_##type, true, INVAR_##type, false)   \
    STEP_PIPE_(layer_far_##type, true, INVAR_##type, true) \
    PIECE_(rms_##type, false, INVAR_##type)               \
    PIECE_(layer_##type, true, INVAR_##type)
#define PIECE_(name, centred, type)                                                                                        \
    static __attribute__((noinline, unused)) void piece_##name(const vjp_task *task, pipe_ring *ring, int64_t r,           \
                                                               pipe_state *state, int64_t i, int64_t end) {                \
        pipe_some(centred, type, true, task, ring, r, state, i, end);                                                      \
    }
STEP_PIPE(F32)
STEP_PIPE(F16)
STEP_PIPE(BF16)

VEC_INLINE void step_any(const bool centred, const int type, bool far, vjp_task *task, pipe_ring *ring, int64_t r) {
    if (centred && far) PICK(step_layer_far, type)(task, ring, r);
    else if (centred) PICK(step_layer, type)(task, ring, r);
    else if (far) PICK(step_rms_far, type)(task, ring, r);
    else PICK(step_rms, type)(task, ring, r);
}

/* Rows r and r + 1. */
VEC_INLINE void step_pair(const bool centred, const int type, vjp_task *task, pipe_ring *ring, int64_t r) {
    const int64_t whole = norm_whole(type, task->job->features);
    pipe_state state[2];
    vec_seam second;
    second.end = NULL;
    pipe_begin(centred, type, &task->seam, ring, r, &state[0]);
    pipe_begin(centred, type, &second, ring, r + 1, &state[1]);
    for (int64_t i = 0, end; i < whole; i = end) {
        end = whole - i < PIPE_PIECE ? whole : i + PIPE_PIECE;
        for (int k = 0; k < 2; k++)
            if (centred) PICK(piece_layer, type)(task, ring, r + k, &state[k], i, end);
            else PICK(piece_rms, type)(task, ring, r + k, &state[k], i, end);
    }
    pipe_end(centred, type, task, ring, r, &state[0], whole);
    vec_seam_join(&task->seam, &state[1].flow);
    pipe_end(centred, type, task, ring, r + 1, &state[1], whole);
}

/* Before row r is written: where the last row to be fetched stands; for float32, the mean of a row's head before it is summed. */
VEC_INLINE void pipe_arrive(const bool centred, const int type, vjp_task *task, pipe_ring *ring, int64_t r, int64_t rows) {
    const int64_t last = r + PIPE_AHEAD + 1, summed = r + PIPE_LEAD + 1;
    ring_row(ring, last)->at = last < rows ? task->coming[0] : ring_row(ring, last - 1)->at;
    if (last < rows) norm_come(task->job, &task->walk, task->coming, 1, rows - last - 1);
    if (!centred || type != INVAR_F32 || summed < 0 || summed >= rows) return;
    norm_source x = norm_source_of(type, task->job, &ring_row(ring, summed)->at, INVAR_NORM_X, -1, NULL);
    ring_row(ring, summed)->gradient.mean = mean_of_head(type, task->job, &x);
}

VEC_INLINE void vjp_piped(const bool centred, const int type, vjp_task *task, int64_t rows) {
    const invar_norm_job *job = task->job;
    const bool far = job->features * (type == INVAR_F32 ? 4 : 2) > PIPE_NEAR_BYTES, brief = type != INVAR_F32;
    const bool pairs = job->pieces && job->features > 4 * PIPE_PIECE;
    pipe_ring ring;
    norm_source x, dy;
    for (int64_t r = -PIPE_AHEAD - 1; r < rows; r++) {
        pipe_arrive(centred, type, task, &ring, r, rows);
        piped_row *row = ring_row(&ring, r), *later = ring_row(&ring, r + PIPE_LEAD);
        const bool sums = r >= -PIPE_LEAD && r + PIPE_LEAD < rows, fused = sums && r >= 0 && row->gradient.brief == brief;
        const bool pair = fused && pairs && r + PIPE_LEAD + 1 < rows && ring_row(&ring, r + 1)->gradient.brief == brief;
        if (pair) step_pair(centred, type, task, &ring, r);
        else if (fused) step_any(centred, type, far, task, &ring, r);
        if (r >= 0 && !fused) {
            x = norm_source_of(type, job, &row->at, INVAR_NORM_X, -1, NULL);
            dy = norm_source_of(type, job, &row->at, INVAR_NORM_DY, -1, NULL);
            write_one(centred, type, task, row->at.row[INVAR_NORM_DX], &row->gradient, &x, &dy, 0, job->features, far);
        }
        if (sums && !fused) {
            x = norm_source_of(type, job, &later->at, INVAR_NORM_X, -1, NULL);
            dy = norm_source_of(type, job, &later->at, INVAR_NORM_DY, -1, NULL);
            measure(centred, type, 1, &later->gradient, task, &x, &dy, far);
        }
        for (int k = 0; fused && centred && k <= pair; k++) {
            later = ring_row(&ring, r + PIPE_LEAD + k);
            if (later->gradient.brief == brief) continue;
            x = norm_source_of(type, job, &later->at, INVAR_NORM_X, -1, NULL);
            dy = norm_source_of(type, job, &later->at, INVAR_NORM_DY, -1, NULL);
            later->gradient = measure_again(type, job, &x, &dy);
        }
        if (pair) pipe_arrive(centred, type, task, &ring, ++r, rows);
    }
}

VEC_INLINE bool takes_pipe(const int type, const vjp_task *task) {
    const invar_norm_job *job = task->job;
    return VW == 16 && task->streams && task->sums.dweight && job->weight && norm_in_place(type, job, INVAR_NORM_X) &&
           norm_in_place(type, job, INVAR_NORM_DY) && job->features * (type == INVAR_F32 ? 4 : 2) <= PIPE_BYTES;
}

/* Where rows stand in place, and dx goes through the caches: past them two rows side by side are slower than one after the other. */
VEC_INLINE bool take_together(const int type, const invar_norm_job *job) {
    return VJP_ROWS > 1 && !norm_streams(job) && norm_in_place(type, job, INVAR_NORM_X) && norm_in_place(type, job, INVAR_NORM_DY);
}

VEC_INLINE void vjp_rows_of(const bool centred, const int type, const invar_norm_job *job, int64_t first_row, int64_t rows,
                            float *scratch) {
    vjp_task task; /* without an initialiser: it would clear the stages */
    task.job = job;
    task.scratch = scratch;
    task.sums = sums_of(centred, job, first_row);
    for (int r = 0; r < VJP_ROWS; r++) task.dx[r] = (vec_stream){ task.stage[r].bytes, NULL, 0 };
    task.seam.end = NULL;
    task.streams = norm_streams_rows(type, job);
    invar_norm_walk_to(&task.walk, job, first_row);
    const bool together = take_together(type, job);
    int64_t left = rows;
    norm_come(job, &task.walk, task.coming, together ? VJP_ROWS : 1, left);
    if (takes_pipe(type, &task)) vjp_piped(centred, type, &task, rows), left = 0;
    if (together)
        for (; left >= VJP_ROWS; left -= VJP_ROWS) vjp_together(centred, type, VJP_ROWS, &task, left);
    for (; left > 0; left--) vjp_together(centred, type, 1, &task, left);
    for (int r = 0; r < VJP_ROWS; r++) vec_stream_flush(&task.dx[r]);
    vec_seam_flush(&task.seam);
    if (norm_streams(job)) vec_stream_end();
    if (type == INVAR_BF16 && task.sums.dweight) norm_reorder(true, task.sums.dweight, job->features);
    if (type == INVAR_BF16 && task.sums.dbias) norm_reorder(true, task.sums.dbias, job->features);
}

invar_norm_vjp_kernel INVAR_KERNEL_NAME(rms_norm_vjp), INVAR_KERNEL_NAME(layer_norm_vjp);
invar_norm_merge_kernel INVAR_KERNEL_NAME(norm_merge);

NORM_KERNEL(rms_norm_vjp, vjp_rows_of, false)
NORM_KERNEL(layer_norm_vjp, vjp_rows_of, true)

void INVAR_KERNEL_NAME(norm_merge)(const invar_norm_job *job, char *out, invar_float_type type, int64_t step,
                                   const char *partial, int64_t chunks, int64_t first, int64_t count) {
    enum { PIECE = 256 };
    float sum[PIECE];
    for (int64_t i = first; i < first + count; i += PIECE) {
        int64_t n = first + count - i < PIECE ? first + count - i : PIECE;
        memset(sum, 0, sizeof sum);
        for (int64_t c = 0; c < chunks; c++)
            norm_widen_run(INVAR_F32, true, sum, partial + (size_t)c * job->partial_bytes + (size_t)i * sizeof(float), n);
        norm_narrow(out + i * step, type, step, sum, n);
    }
}
