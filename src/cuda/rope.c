/* rope and its VJP on CUDA devices: how rows are cut into pieces, what a block takes, and the launches. Nothing of that touches a
 * result's bits, which follow the position and the pair alone. */
#include "cuda/rope.h"

#include "core/number.h"
#include "cuda/device/rope_job.h"
#include "cuda/device/rope_wide.h"
#include "cuda/module.h"

#include <stdio.h>

enum {
    PIECE_BYTES = 16,         /* of the widest access */
    FAST_BLOCKS = 8,          /* a multiprocessor, as far as slices allow, where doubles are fast; … */
    SLOW_BLOCKS = 2,          /* … and where they are not: fewer blocks form fewer tables */
    SLICES_MOST = 64,         /* of a block, if it takes no more than that at once */
    MOST_BLOCKS = 0x7fffffff, /* of a grid */
    THREADS = INVAR_CUDA_ROPE_THREADS,
    PAIRS = INVAR_CUDA_ROPE_PAIRS,
    OFFSETS = INVAR_CUDA_ROPE_OFFSETS,
    NEAR = INVAR_CUDA_ROPE_NEAR
};
_Static_assert(sizeof(invar_cuda_rope_job) <= 4096, "more than a launch's parameter may have everywhere");
_Static_assert((int)NEAR == (int)INVAR_ROPE_NEAR, "the CPU's angles are cut elsewhere");

typedef struct rope_work {
    const invar_rope_job *of;
    invar_cuda_rope_job job;
    char defines[INVAR_CUDA_DEFINES];
    int elements;        /* of a piece */
    int64_t turning;     /* lanes of a row that turn, in all launches */
    int64_t batches;     /* with an offset each; 1: one for all */
    int64_t blocks_wanted;
    int64_t launch_batches;
    unsigned threads, shared;
} rope_work;

/* ---- specialisations ---------------------------------------------------------------------------------- */

static void write_words(char defines[INVAR_CUDA_DEFINES], invar_float_type type, int elements, bool neighbours) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DTYPE=%s -DELEMENTS=%d -DNEIGHBOURS=%d",
             type == INVAR_F32 ? "float" : type == INVAR_F16 ? "half16" : "bfloat16", elements, neighbours);
}

/* All of them: pieces of 16 bytes down to an element. */
bool invar_cuda_rope_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    for (int type = INVAR_F32; type <= INVAR_BF16; type++)
        for (int elements = PIECE_BYTES / (int)invar_float_size((invar_float_type)type); elements; elements /= 2)
            for (int neighbours = 0; neighbours <= 1; neighbours++)
                if (!i--) {
                    write_words(defines, (invar_float_type)type, elements, neighbours);
                    return true;
                }
    return false;
}

/* ---- how a row is cut --------------------------------------------------------------------------------- */

/* Elements of the widest access that every piece of every row of x and y allows. */
static int elements_of(const invar_rope_job *of) {
    const int64_t item = (int64_t)invar_float_size(of->type);
    if (of->x.step != item || of->y.step != item) return 1;
    uint64_t odd = PIECE_BYTES | (uint64_t)(uintptr_t)of->x.data | (uint64_t)(uintptr_t)of->y.data |
                   (uint64_t)of->x.row | (uint64_t)of->y.row | (uint64_t)(of->dims / 2 * item) |
                   (uint64_t)((of->features - of->dims) * item);
    for (int d = 0; d < of->ndim; d++) odd |= (uint64_t)of->x.stride[d] | (uint64_t)of->y.stride[d];
    return (int)((odd & (0 - odd)) / (uint64_t)item);
}

static void cut_row(rope_work *work) {
    const invar_rope_job *of = work->of;
    const int64_t rest = of->x.data == of->y.data ? 0 : of->features - of->dims; /* where y is x, it is there already */
    work->elements = elements_of(of);
    work->turning = of->dims / 2 / work->elements;
    work->job.length = of->length;
    work->job.half = of->dims / 2;
    work->job.dims = of->dims;
    work->job.inverse = of->inverse;
    work->job.copied = rest / work->elements;
    work->job.copiers = invar_pieces(work->job.copied, 2);
    write_words(work->defines, of->type, work->elements, of->traditional);
}

/* ---- slices ------------------------------------------------------------------------------------------- */

static invar_cuda_rope_operand operand_of(const invar_rope_operand *x) {
    return (invar_cuda_rope_operand){ .data = x->data, .step = x->step, .row = x->row };
}

/* Slice dimensions, but the batches' where each has an offset of its own; those that are one in x and y are joined. */
static void fill_slices(rope_work *work) {
    const invar_rope_job *of = work->of;
    invar_cuda_rope_job *job = &work->job;
    const bool each = of->offsets.data && of->offsets.ndim && of->offsets.shape[0] > 1;
    job->x = operand_of(&of->x);
    job->y = operand_of(&of->y);
    work->batches = each ? of->shape[0] : 1;
    if (each) job->x.batch = of->x.stride[0], job->y.batch = of->y.stride[0];
    job->slices = 1;
    for (int d = each ? 1 : 0; d < of->ndim; d++) {
        const int last = job->ndim - 1;
        const int64_t n = of->shape[d], x = of->x.stride[d], y = of->y.stride[d];
        job->slices *= n;
        if (n == 1) continue;
        if (last >= 0 && job->x.stride[last] == x * n && job->y.stride[last] == y * n) {
            job->shape[last] *= n;
            job->x.stride[last] = x;
            job->y.stride[last] = y;
            continue;
        }
        job->shape[job->ndim] = n;
        job->x.stride[job->ndim] = x;
        job->y.stride[job->ndim++] = y;
    }
}

/* ---- positions and frequencies ------------------------------------------------------------------------ */

static invar_cuda_rope_numbers numbers_of(const invar_view *view, bool one) {
    return (invar_cuda_rope_numbers){ .data = view->data,
                                      .stride = one ? 0 : view->stride[0] * (int64_t)invar_view_item_size(view),
                                      .code = view->dtype.code == INVAR_BFLOAT  ? INVAR_CUDA_ROPE_BFLOAT :
                                              view->dtype.code == INVAR_FLOAT ? INVAR_CUDA_ROPE_FLOAT :
                                              view->dtype.code == INVAR_UINT  ? INVAR_CUDA_ROPE_UINT : INVAR_CUDA_ROPE_INT,
                                      .bits = view->dtype.bits };
}

/* Offsets that the CPU holds travel with the launch: those of its batches. */
static void fill_offsets(rope_work *work) {
    const invar_view *offsets = &work->of->offsets;
    invar_cuda_rope_job *job = &work->job;
    job->offset = work->of->offset;
    work->launch_batches = work->batches;
    if (!offsets->data) return;
    if (invar_cuda_rope_there(offsets)) {
        job->offsets = numbers_of(offsets, work->batches == 1);
        return;
    }
    job->wide_elements = offsets->dtype.code == INVAR_UINT && offsets->dtype.bits == 64;
    job->each_element = work->batches > 1;
    work->launch_batches = invar_smaller(work->batches, OFFSETS);
    if (work->batches == 1) job->element[0] = invar_load_integer(offsets, 0);
}

static void fill_elements(rope_work *work, int64_t batches) {
    const invar_view *offsets = &work->of->offsets;
    if (!work->job.each_element) return;
    for (int64_t b = 0; b < batches; b++)
        work->job.element[b] = invar_load_integer(offsets, (work->job.first_batch + b) * offsets->stride[0]);
}

static void fill_frequencies(rope_work *work) {
    const invar_rope_job *of = work->of;
    invar_cuda_rope_job *job = &work->job;
    job->scale = of->scale;
    if (invar_cuda_rope_there(&of->freqs)) {
        job->freqs = numbers_of(&of->freqs, false);
        return;
    }
    for (int64_t lane = 0; lane < job->turning; lane++)
        for (int i = 0; i < work->elements; i++) {
            const int64_t pair = invar_cuda_rope_pair(job->first_lane + lane, i, work->elements, of->traditional, job->half);
            job->high[i * job->turning + lane] = of->high[pair];
            job->low[i * job->turning + lane] = of->low[pair];
        }
}

/* ---- blocks ------------------------------------------------------------------------------------------- */

/* Bytes of shared memory, as rope.cu divides it. */
static unsigned shared_bytes(const rope_work *work) {
    const invar_cuda_rope_job *job = &work->job;
    const int near = job->positions < NEAR ? job->positions : NEAR, rows = near + (job->positions + NEAR - 2) / NEAR + 1;
    return 16u * (unsigned)(job->group + (1 + rows) * (int)job->turning * work->elements);
}

/* The launch whose first lane is job->first_lane: as many as it holds frequencies of, and behind the last ones those that copy.
 * Few positions leave threads for more slices at once. */
static void cut_launch(rope_work *work) {
    invar_cuda_rope_job *job = &work->job;
    job->turning = invar_smaller(work->turning - job->first_lane, PAIRS / work->elements);
    job->lanes = job->turning + (job->first_lane + job->turning == work->turning ? job->copiers : 0);
    job->chunks = (unsigned)invar_pieces(job->lanes, THREADS);
    job->width = (int)invar_pieces(job->lanes, job->chunks);
    job->tiles = (unsigned)invar_pieces(job->length, THREADS / job->width);
    job->positions = (int)invar_pieces(job->length, job->tiles);
    job->at_once = (int)invar_smaller(THREADS / (job->width * job->positions), job->slices);
    const int64_t turns = invar_pieces(job->slices, job->at_once), tiles = (int64_t)job->chunks * job->tiles * work->batches;
    int64_t each = (turns * tiles + work->blocks_wanted / 2) / work->blocks_wanted;
    each = invar_larger(invar_smaller(each, SLICES_MOST / job->at_once), 1);
    job->groups = (unsigned)invar_pieces(turns, each);
    job->group = (int)(invar_pieces(turns, job->groups) * job->at_once);
    work->threads = (unsigned)invar_pieces(job->width * job->positions * job->at_once, 32) * 32;
    work->shared = shared_bytes(work);
}

static invar_status check_blocks(const rope_work *work, const char *operation, const char *argument) {
    const invar_cuda_rope_job *job = &work->job;
    if ((int64_t)job->chunks * job->tiles <= MOST_BLOCKS / (int64_t)job->groups) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected fewer than 2^31 blocks a batch on a CUDA device, got %u tiles of "
                      "positions, %u groups of slices", operation, argument, job->tiles, job->groups);
}

static int64_t blocks_of(const invar_cuda_rope_job *job) { return (int64_t)job->chunks * job->tiles * job->groups; }

/* ---- the call ----------------------------------------------------------------------------------------- */

static void plan_work(rope_work *work, const invar_rope_job *of, const invar_cuda_device *gpu) {
    const bool fast = gpu->minor == 0 && gpu->major >= 8 && gpu->major <= 10; /* the GPUs for computing centres */
    memset(work, 0, sizeof *work);
    work->of = of;
    work->blocks_wanted = invar_larger((int64_t)gpu->multiprocessors * (fast ? FAST_BLOCKS : SLOW_BLOCKS), 1);
    cut_row(work);
    fill_slices(work);
    fill_offsets(work);
    if (of->slices && of->length) cut_launch(work);
}

static void describe(invar_plan *plan, const rope_work *work, const invar_cuda_device *gpu, const char *operation) {
    const invar_cuda_rope_job *job = &work->job;
    const int bytes = work->elements * (int)invar_float_size(work->of->type);
    *plan = (invar_plan)INVAR_PLAN_INIT;
    snprintf(plan->kernel, sizeof plan->kernel, "%s.cuda.sm_%d%d", operation, gpu->major, gpu->minor);
    snprintf(plan->reason, sizeof plan->reason, "a block turns %d positions of %d slices by one table; accesses of %d bytes",
             job->positions, job->group, bytes);
    plan->tasks = blocks_of(job) * work->batches;
    plan->threads = 1;
    plan->query_tile = job->positions;
    plan->key_splits = 1;
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "float32");
}

static invar_status launch_batches(rope_work *work, const invar_cuda_device *gpu, void *stream, const char *operation) {
    invar_cuda_rope_job *job = &work->job;
    const int64_t most = invar_smaller(work->launch_batches, MOST_BLOCKS / blocks_of(job));
    for (job->first_batch = 0; job->first_batch < work->batches; job->first_batch += most) {
        const int64_t batches = invar_smaller(work->batches - job->first_batch, most);
        fill_elements(work, batches);
        const invar_cuda_launch launch = { &invar_cuda_rope, work->defines, { (unsigned)(blocks_of(job) * batches), 1, 1 },
                                           work->threads, work->shared, job };
        INVAR_TRY(invar_cuda_enqueue(gpu, &launch, stream, operation));
    }
    return INVAR_OK;
}

static invar_status launch_all(rope_work *work, const invar_cuda_device *gpu, void *stream, const char *operation,
                               const char *argument) {
    invar_cuda_rope_job *job = &work->job;
    for (job->first_lane = 0; job->first_lane < work->turning; job->first_lane += job->turning) {
        cut_launch(work);
        INVAR_TRY(check_blocks(work, operation, argument));
        fill_frequencies(work);
        INVAR_TRY(launch_batches(work, gpu, stream, operation));
    }
    return INVAR_OK;
}

invar_status invar_cuda_rope_run(const invar_rope_job *job, invar_device device, const invar_execution *execution,
                                 const char *operation, const char *argument) {
    const invar_cuda_device *gpu;
    rope_work work;
    if (job->type == INVAR_F64)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected float32, float16 or bfloat16 on a CUDA device, got float64", operation,
                          argument);
    INVAR_TRY(invar_cuda_device_get(&gpu, device.id, operation));
    plan_work(&work, job, gpu);
    if (execution->plan) {
        describe(execution->plan, &work, gpu, operation);
        return INVAR_OK;
    }
    if (!job->slices || !job->length) return INVAR_OK;
    return launch_all(&work, gpu, execution->stream, operation, argument);
}
