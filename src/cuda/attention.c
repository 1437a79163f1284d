/* scaled_dot_product_attention on CUDA devices: the call as programs read it, its launches, and how keys are split.
 *
 * A block computes a tile of a unit's rows (a unit: one batch and one kv head) against the keys that they see. Where all tiles of a
 * batch are few, a row's keys are cut into splits, which are computed apart and merged in order. Tiles and splits follow the
 * sizes of one batch and the types alone, so a batch's bits depend on nothing that rides along. */
#include "cuda/attention_cut.h"

#include "core/context.h"
#include "core/number.h"

#include <stdio.h>

enum {
    ENOUGH_BLOCKS = 512,     /* that a batch is cut into by splits: four for each multiprocessor of the largest GPUs. A merge takes as
                              * many parts of a row */
    LEAST_SPLIT = 128,       /* keys */
    TILE_KEYS = INVAR_CUDA_ATTENTION_KEYS,
    SCRATCH_BUDGET = 64 << 20, /* floats of parts at once, as far as whole batches allow: 256 MiB */
    SECTION_BYTES = 16 << 20,  /* of K and V: of units whose tiles, of unlike lengths, take turns; part of the L2 cache */
    MOST_SIZE = 1 << 30,     /* rows of a unit, queries and keys together, features */
    SLAB = INVAR_CUDA_ATTENTION_SLAB,
    MOST_BLOCKS = 0x7fffffff /* of a grid */
};

/* ---- the call as programs read it -------------------------------------------------------------------- */

static int kind_of(invar_dtype dtype) {
    const int wide = dtype.bits == 64 ? 3 : dtype.bits == 32 ? 2 : dtype.bits == 16 ? 1 : 0;
    switch (dtype.code) {
    case INVAR_BOOL: return INVAR_CUDA_BOOL;
    case INVAR_INT: return INVAR_CUDA_I8 + wide;
    case INVAR_UINT: return INVAR_CUDA_U8 + wide;
    case INVAR_BFLOAT: return INVAR_CUDA_BF16;
    default: return dtype.bits == 16 ? INVAR_CUDA_F16 : INVAR_CUDA_F32;
    }
}

invar_cuda_operand invar_cuda_operand_of(const invar_attention_operand *x) {
    invar_cuda_operand operand = { .data = x->data, .head_stride = x->head_stride, .row_stride = x->row_stride,
                                   .column_stride = x->column_stride, .kind = kind_of(x->dtype) };
    for (int d = 0; d < INVAR_CUDA_BATCH_DIMS; d++) operand.batch_stride[d] = x->batch_stride[d];
    return operand;
}

static invar_status check_limits(const invar_attention_call *call, const char *operation) {
    if (call->type == INVAR_F64)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: q: expected float32, float16 or bfloat16 on a CUDA device, got float64 among q, k "
                          "and v", operation);
    if (call->key_dim > MOST_SIZE || call->value_dim > MOST_SIZE)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected at most %d features on a CUDA device, got %lld", operation,
                          call->key_dim > MOST_SIZE ? "q" : "v", MOST_SIZE,
                          (long long)(call->key_dim > MOST_SIZE ? call->key_dim : call->value_dim));
    if (call->query_len + call->key_len < MOST_SIZE && (!call->group || call->query_len < MOST_SIZE / call->group)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected fewer than %d rows a kv head, and queries and keys together, on a CUDA "
                      "device, got %lld queries of %lld heads and %lld keys", operation, MOST_SIZE, (long long)call->query_len,
                      (long long)call->group, (long long)call->key_len);
}

invar_status invar_cuda_attention_fill(invar_cuda_attention *of, const invar_attention_call *call, const char *operation) {
    INVAR_TRY(check_limits(call, operation));
    *of = (invar_cuda_attention){ .q = invar_cuda_operand_of(&call->q), .k = invar_cuda_operand_of(&call->k),
                                  .v = invar_cuda_operand_of(&call->v), .out = invar_cuda_operand_of(&call->out),
                                  .lse = invar_cuda_operand_of(&call->lse), .mask = invar_cuda_operand_of(&call->mask),
                                  .sinks = invar_cuda_operand_of(&call->sinks) };
    of->lengths.data = call->kv_lengths.data;
    if (call->kv_lengths.data) {
        of->lengths.row_stride = call->kv_lengths.stride[0] * (int64_t)invar_view_item_size(&call->kv_lengths);
        of->lengths.kind = kind_of(call->kv_lengths.dtype);
    }
    of->batch_ndim = call->batch_ndim;
    for (int d = 0; d < call->batch_ndim; d++) of->batch_shape[d] = call->batch_shape[d];
    of->batch = call->batch;
    of->query_heads = call->query_heads;
    of->kv_heads = call->kv_heads;
    of->group = (int)call->group;
    of->query_len = (int)call->query_len;
    of->key_len = (int)call->key_len;
    of->key_dim = (int)call->key_dim;
    of->value_dim = (int)call->value_dim;
    of->window_left = (int)call->window_left;
    of->window_right = call->causal ? 0 : (int)call->window_right;
    of->score_scale = call->score_scale;
    of->cap_scale = call->cap_scale;
    of->cap_height = call->cap_height;
    of->scale = (float)call->scale;
    return INVAR_OK;
}

/* ---- how it is cut ------------------------------------------------------------------------------------ */

typedef struct plan {
    invar_cuda_attention_cut cut;
    int64_t batches;      /* of a launch */
    int64_t batch_floats; /* of scratch, for one batch */
    size_t workspace;
} plan;

/* Splits of a row's keys, and the batches whose parts fit the budget. */
static void cut_keys(plan *p, invar_cuda_attention_job *job, const invar_attention_call *call) {
    const int64_t unit_rows = invar_attention_unit_rows(call), tiles = invar_pieces(unit_rows, p->cut.rows);
    const int64_t blocks = invar_cuda_attention_blocks(call);
    int64_t splits = blocks > 0 && blocks <= INVAR_CUDA_ATTENTION_FEW_BLOCKS ? ENOUGH_BLOCKS / blocks : 1;
    const int64_t keys = invar_larger(invar_round_up(invar_pieces(call->key_len, splits), TILE_KEYS), LEAST_SPLIT);
    splits = splits > 1 ? invar_larger(invar_pieces(call->key_len, keys), 1) : 1;
    job->tiles = (int)tiles;
    job->splits = (int)splits;
    job->split_keys = (int)keys;
    const double bytes = (double)call->key_len * (double)(call->key_dim + call->value_dim) * (double)invar_float_size(call->k.type);
    const bool turns = job->of.window_right >= 0 || call->mask.data;
    job->section = !turns || bytes >= SECTION_BYTES ? 1 : bytes < 1 ? SECTION_BYTES : (int)(SECTION_BYTES / bytes);
    p->batches = call->batch;
    if (job->splits > 1) p->batch_floats = call->kv_heads * unit_rows * splits * (invar_smaller(call->value_dim, SLAB) + 2);
    if (p->batch_floats && p->batches > SCRATCH_BUDGET / p->batch_floats) p->batches = SCRATCH_BUDGET / p->batch_floats;
    p->batches = invar_larger(p->batches, 1);
    p->workspace = sizeof(float) * (size_t)(p->batch_floats * invar_smaller(p->batches, call->batch));
}

static invar_status plan_call(plan *p, invar_cuda_attention_job *job, const invar_attention_call *call,
                              const invar_cuda_device *gpu, const char *operation) {
    memset(p, 0, sizeof *p);
    memset(job, 0, sizeof *job);
    INVAR_TRY(invar_cuda_attention_fill(&job->of, call, operation));
    INVAR_TRY(invar_cuda_attention_choose(&p->cut, call, &job->of, gpu, operation));
    cut_keys(p, job, call);
    int64_t blocks;
    if (__builtin_mul_overflow(call->kv_heads, (int64_t)job->tiles * job->splits, &blocks) || blocks > MOST_BLOCKS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected a batch's heads and queries within %d tiles on a CUDA device, got "
                          "%lld heads of %lld queries", operation, MOST_BLOCKS, (long long)call->query_heads,
                          (long long)call->query_len);
    if (blocks && p->batches > MOST_BLOCKS / blocks) p->batches = MOST_BLOCKS / blocks;
    return INVAR_OK;
}

static void describe(invar_plan *plan, const struct plan *p, const invar_cuda_attention_job *job, const invar_attention_call *call) {
    const invar_cuda_attention_cut *c = &p->cut;
    const char *name = c->source == &invar_cuda_attention_float ? "attention" :
                       c->source == &invar_cuda_attention_parts ? "attention_parts" :
                       c->source == &invar_cuda_attention_wgmma ? "attention_wgmma" : "attention_half";
    snprintf(plan->kernel, sizeof plan->kernel, "%s.cuda", name);
    snprintf(plan->reason, sizeof plan->reason, "%s%s%s",
             job->splits > 1 ? "keys split: a batch has few tiles of rows, so pieces of keys are computed apart and merged in order"
                             : "rows: a block takes a tile of one kv head's query rows against all the keys they see",
             c->source == &invar_cuda_attention_float && call->type == INVAR_F32 ? "; float32 by multiply-adds" :
             c->source == &invar_cuda_attention_parts ? "; float32 on matrix units, each number as three of bfloat16" : "",
             c->apart ? "; the mask is read an element at a time, since those of eight keys lie apart or unaligned" : "");
    plan->workspace = p->workspace;
    plan->tasks = call->batch * call->kv_heads * job->tiles * job->splits;
    plan->query_tile = c->rows;
    plan->key_block = c->keys;
    plan->key_splits = job->splits;
}

bool invar_cuda_attention_merge_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    *defines = 0;
    return i == 0;
}

/* ---- launches ----------------------------------------------------------------------------------------- */

static invar_status launch(const plan *p, invar_cuda_attention_job *job, const invar_cuda_device *device, void *stream,
                           const char *operation) {
    const int64_t units = job->batches * job->of.kv_heads, rows = units * job->of.group * job->of.query_len;
    const invar_cuda_launch whole = { p->cut.source, p->cut.defines, { (unsigned)(units * job->tiles * job->splits), 1, 1 },
                                      p->cut.threads, p->cut.shared, job };
    INVAR_TRY(invar_cuda_enqueue(device, &whole, stream, operation));
    if (job->splits == 1) return INVAR_OK;
    const invar_cuda_launch merge = { &invar_cuda_attention_merge, "", { (unsigned)rows, 1, 1 }, 128, 0, job };
    return invar_cuda_enqueue(device, &merge, stream, operation);
}

static invar_status launch_batches(const plan *p, invar_cuda_attention_job *job, const invar_cuda_device *device, float *scratch,
                               void *stream, const char *operation) {
    const int64_t batch = job->of.batch;
    for (job->batch_first = 0; job->batch_first < batch; job->batch_first += job->batches) {
        job->batches = invar_smaller(batch - job->batch_first, p->batches);
        job->parts = scratch;
        const int64_t rows = job->batches * job->of.kv_heads * job->of.group * job->of.query_len;
        if (scratch) job->stats = scratch + rows * job->splits * job->of.value_dim;
        INVAR_TRY(launch(p, job, device, stream, operation));
    }
    return INVAR_OK;
}

/* Where values have more features than a block holds, those of each slab apart, from the same weights, formed anew. */
static invar_status launch_all(const plan *p, invar_cuda_attention_job *job, const invar_cuda_device *device, float *scratch,
                               void *stream, const char *operation) {
    invar_cuda_attention *of = &job->of;
    const int columns = of->value_dim;
    int first = 0;
    do {
        of->value_dim = (int)invar_smaller(columns - first, SLAB);
        INVAR_TRY(launch_batches(p, job, device, scratch, stream, operation));
        first += of->value_dim;
        of->v.data += of->value_dim * of->v.column_stride;
        if (of->out.data) of->out.data += of->value_dim * of->out.column_stride;
        of->lse.data = NULL; /* it is written */
    } while (first < columns);
    return INVAR_OK;
}

invar_status invar_cuda_attention_run(const invar_attention_call *call, invar_device device, const invar_execution *execution,
                                      invar_context *context, const char *operation) {
    const invar_cuda_device *gpu;
    invar_cuda_attention_job job;
    invar_run checked; /* takes nothing: its scratch would be the CPU's */
    invar_execution bare = *execution;
    plan p;
    bool planned;
    void *scratch = execution->workspace;
    INVAR_TRY(invar_cuda_device_get(&gpu, device.id, operation));
    INVAR_TRY(plan_call(&p, &job, call, gpu, operation));
    bare.workspace = NULL;
    INVAR_TRY(invar_run_begin(&checked, context, &bare, 0, 0, 0, operation, &planned));
    if (planned) {
        describe(execution->plan, &p, &job, call);
        return INVAR_OK;
    }
    if (scratch && ((uintptr_t)scratch % 64 || execution->workspace_size < p.workspace))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: execution.workspace: expected %zu bytes of the device, 64-byte aligned, got %zu",
                          operation, p.workspace, execution->workspace_size);
    if (!call->batch || !call->kv_heads || !call->query_len) return INVAR_OK;
    const bool own = p.workspace && !scratch;
    if (own) INVAR_TRY(invar_cuda_scratch_take(gpu, &scratch, p.workspace, execution->stream, operation));
    const invar_status status = launch_all(&p, &job, gpu, p.workspace ? scratch : NULL, execution->stream, operation);
    if (own) invar_cuda_scratch_give(gpu, scratch, execution->stream);
    return status;
}
