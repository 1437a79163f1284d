/* The VJPs of rms_norm and layer_norm on one instruction set: a task's rows, side by side or in a pipeline, and the sum of the
 * chunks' dweight and dbias. What is done to a row is in norm_vjp_row.h. */
#include "cpu/kernels/norm_vjp_row.h"

/* ---- rows side by side ---------------------------------------------------------------------------------- */

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
    if (rows == 1 && VJP_ROWS > 1) measure_one(centred, type, row, task, x, dy, far);
    else measure(centred, type, rows, row, task, x, dy, far);
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
 * With job->pieces two rows take turns piece by piece where weight and partial sums are more than L1 holds beside the rows: for
 * the second they then come from there. */
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
        vf_load_two_as(type, later_x + i * item, &x[0], &x[1]);
        vf_load_two_as(type, later_dy + i * item, &dy[0], &dy[1]);
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
VEC_INLINE void end_pipe(const bool centred, const int type, vjp_task *task, pipe_ring *ring, int64_t r, pipe_state *state,
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

/* Functions of their own: little of a row's time, but much of the compiler's wherever they stand. */
#define END_PIPE(name, centred, type)                                                                                        \
    static __attribute__((noinline, unused)) void end_##name(vjp_task *task, pipe_ring *ring, int64_t r, pipe_state *state,  \
                                                             int64_t i) {                                                    \
        end_pipe(centred, type, task, ring, r, state, i);                                                                    \
    }
FOR_KERNELS(END_PIPE)

VEC_INLINE void end_any(const bool centred, const int type, vjp_task *task, pipe_ring *ring, int64_t r, pipe_state *state,
                        int64_t i) {
    if (centred) PICK(end_layer, type)(task, ring, r, state, i);
    else PICK(end_rms, type)(task, ring, r, state, i);
}

VEC_INLINE void step_pipe(const bool centred, const int type, const bool far, vjp_task *task, pipe_ring *ring, int64_t r) {
    const int64_t whole = norm_whole(type, task->job->features);
    pipe_state state;
    pipe_begin(centred, type, &task->seam, ring, r, &state);
    pipe_some(centred, type, far, task, ring, r, &state, 0, whole);
    end_any(centred, type, task, ring, r, &state, whole);
}

/* Functions of their own: within another, the compiler keeps half of the loop's pointers elsewhere. */
#define STEP_PIPE(name, centred, type)                                                                                      \
    static __attribute__((noinline, unused)) void step_##name(vjp_task *task, pipe_ring *ring, int64_t r) {                 \
        step_pipe(centred, type, false, task, ring, r);                                                                     \
    }                                                                                                                       \
    static __attribute__((noinline, unused)) void step_far_##name(vjp_task *task, pipe_ring *ring, int64_t r) {             \
        step_pipe(centred, type, true, task, ring, r);                                                                      \
    }                                                                                                                       \
    static __attribute__((noinline, unused)) void piece_##name(const vjp_task *task, pipe_ring *ring, int64_t r,            \
                                                               pipe_state *state, int64_t i, int64_t end) {                 \
        pipe_some(centred, type, true, task, ring, r, state, i, end);                                                       \
    }
FOR_KERNELS(STEP_PIPE)

VEC_INLINE void step_any(const bool centred, const int type, bool far, vjp_task *task, pipe_ring *ring, int64_t r) {
    if (centred && far) PICK(step_far_layer, type)(task, ring, r);
    else if (centred) PICK(step_layer, type)(task, ring, r);
    else if (far) PICK(step_far_rms, type)(task, ring, r);
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
    end_any(centred, type, task, ring, r, &state[0], whole);
    vec_seam_join(&task->seam, &state[1].flow);
    end_any(centred, type, task, ring, r + 1, &state[1], whole);
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
            measure_one(centred, type, &later->gradient, task, &x, &dy, far);
        }
        for (int k = 0; fused && centred && k <= pair; k++) {
            later = ring_row(&ring, r + PIPE_LEAD + k);
            task->far = later->gradient.brief ? 0 : task->far + 1;
            if (later->gradient.brief == brief) continue;
            x = norm_source_of(type, job, &later->at, INVAR_NORM_X, -1, NULL);
            dy = norm_source_of(type, job, &later->at, INVAR_NORM_DY, -1, NULL);
            later->gradient = measure_again(type, job, &x, &dy, &later->at, far);
        }
        if (pair) pipe_arrive(centred, type, task, &ring, ++r, rows);
    }
}

VEC_INLINE bool takes_pipe(const int type, const vjp_task *task) {
    const invar_norm_job *job = task->job;
    return VW == 16 && task->streams && task->sums.dweight && job->weight && norm_in_place(type, job, INVAR_NORM_X) &&
           norm_in_place(type, job, INVAR_NORM_DY) && job->features * (type == INVAR_F32 ? 4 : 2) <= PIPE_BYTES;
}

/* Where rows stand in place, and dx goes through the caches: past them two rows side by side are slower than one after the
 * other. */
VEC_INLINE bool take_together(const int type, const invar_norm_job *job) {
    return VJP_ROWS > 1 && !norm_streams(job) && norm_in_place(type, job, INVAR_NORM_X) &&
           norm_in_place(type, job, INVAR_NORM_DY);
}

VEC_INLINE void vjp_rows_of(const bool centred, const int type, const invar_norm_job *job, int64_t first_row, int64_t rows,
                            float *scratch) {
    vjp_task task; /* without an initialiser: it would clear the stages */
    task.job = job;
    task.scratch = scratch;
    task.sums = sums_of(centred, job, first_row);
    for (int r = 0; r < VJP_ROWS; r++) task.dx[r] = (vec_stream){ task.stage[r].bytes, NULL, 0 };
    task.seam.end = NULL;
    task.far = 0;
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
