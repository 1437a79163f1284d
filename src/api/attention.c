/* scaled_dot_product_attention: checks the call, runs its pieces as attention_plan.c cuts them.
 *
 * Where keys are split, blocks are computed apart and the parts of a row are merged afterwards in order; parts that would not fit in
 * memory at once are computed and merged in waves. */
#include "api/attention_check.h"
#include "api/attention_plan.h"
#include "core/context.h"
#include "cuda/attention.h"

#include <stdio.h>

static const char operation[] = "scaled_dot_product_attention";

typedef invar_attention_schedule schedule;

/* ---- tasks -------------------------------------------------------------------------------------------- */

static invar_attention_work piece_work(const schedule *s, int64_t piece) {
    const int64_t units = s->units / s->heads, unit = (s->units_first ? piece % units : piece / s->chunks) * s->heads;
    const int64_t turn = s->units_first ? piece / units : piece % s->chunks;
    const int64_t chunk = s->call->causal ? s->chunks - 1 - turn : turn; /* what takes longest first: the last may be short */
    invar_attention_work work = { .batch = unit / s->call->kv_heads, .kv_head = unit % s->call->kv_heads, .heads = s->heads };
    work.row_first = chunk * s->chunk_rows;
    work.row_last = invar_smaller(work.row_first + s->chunk_rows, s->unit_rows);
    work.block_last = s->blocks;
    work.part_stride = s->part_floats;
    return work;
}

static void run_piece(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    const invar_attention_work work = piece_work(s, index);
    s->kernel(s->call, &work, scratch);
}

static void run_alone(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    (void)index;
    for (int64_t piece = 0; piece < s->units / s->heads * s->chunks; piece++) run_piece(argument, piece, scratch);
}

/* Pieces and blocks of keys whose parts are there at once. */
typedef struct wave {
    const schedule *schedule;
    float *parts, *state; /* state: of the pieces' rows over earlier waves */
    int64_t piece, pieces, block, blocks;
} wave;

static void run_part(void *argument, int64_t index, void *scratch) {
    const wave *w = argument;
    const schedule *s = w->schedule;
    const int64_t runs = invar_attention_runs(s, w->blocks), piece = index / runs, first = index % runs * s->run_blocks;
    const int64_t last = invar_smaller(first + s->run_blocks, w->blocks);
    invar_attention_work work = piece_work(s, w->piece + piece);
    work.block_first = w->block + first;
    work.block_last = w->block + last;
    work.parts = w->parts + (piece * w->blocks + first) * s->part_floats;
    s->kernel(s->call, &work, scratch);
}

static void run_merge(void *argument, int64_t index, void *scratch) {
    const wave *w = argument;
    const schedule *s = w->schedule;
    invar_attention_work work = piece_work(s, w->piece + index);
    work.block_first = w->block;
    work.block_last = w->block + w->blocks;
    work.parts = w->parts + index * w->blocks * s->part_floats;
    work.state = w->state + index * s->part_floats;
    work.resume = w->block > 0;
    work.stage = work.block_last == s->blocks ? INVAR_ATTENTION_MERGE_LAST : INVAR_ATTENTION_MERGE;
    s->kernel(s->call, &work, scratch);
}

static void run_waves(const schedule *s, invar_run *run) {
    const int64_t pieces = s->units * s->chunks;
    float *parts = (float *)(void *)run->shared;
    wave w = { .schedule = s, .parts = parts, .state = parts + s->part_floats * s->pieces_at_once * s->blocks_at_once };
    for (; w.piece < pieces; w.piece += w.pieces) {
        w.pieces = invar_smaller(pieces - w.piece, s->pieces_at_once);
        for (w.block = 0; w.block < s->blocks; w.block += w.blocks) {
            w.blocks = invar_smaller(s->blocks - w.block, s->blocks_at_once);
            invar_run_tasks(run, w.pieces * invar_attention_runs(s, w.blocks), run_part, &w);
            invar_run_tasks(run, w.pieces, run_merge, &w);
        }
    }
}

/* Of parts and states. */
static size_t shared_bytes(const schedule *s) {
    if (!s->split) return 0;
    return sizeof(float) * (size_t)(s->part_floats * s->pieces_at_once * (s->blocks_at_once + 1));
}

/* ---- the call ------------------------------------------------------------------------------------------- */

static void describe(invar_plan *plan, const schedule *s, const invar_kernels *kernels) {
    const invar_attention_call *call = s->call;
    const bool parts = invar_attention_in_parts(call);
    const char *shape = s->split ? "keys split" : s->alone ? "one thread" : "rows";
    snprintf(plan->kernel, sizeof plan->kernel, "attention%s.%s",
             s->kernel == kernels->attention_bf16 ? "_bf16" : parts ? "_f16" : "", kernels->name);
    snprintf(plan->reason, sizeof plan->reason, "%s: %s", shape,
             s->split ? "few chunks of rows, so each block of keys is a task of its own and parts are merged in order"
             : s->alone ? "too little work to wake threads for"
             : s->heads > 1 ? "a task is a chunk of query rows of kv heads that share their mask, against all their keys"
                            : "a task is a chunk of one kv head's query rows against all its keys");
    plan->query_tile = (int32_t)s->chunk_rows;
    plan->key_block = (int32_t)call->key_block;
    plan->key_splits = s->split ? s->blocks_at_once : 1;
    plan->flops = invar_attention_flops(call);
    if (parts && plan->flops > 0) /* four products for one of scores, three for one of O */
        plan->flops *= (double)(4 * call->key_dim + 3 * call->value_dim) / (double)(call->key_dim + call->value_dim);
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "%s", parts ? "bfloat16" : invar_attention_arithmetic(call));
    plan->bytes = invar_attention_bytes(call);
}

static invar_status run(invar_context *context, const invar_attention_call *call, const invar_execution *execution) {
    const invar_kernels *kernels = invar_kernels_for(context->kernels, call->type);
    schedule s = invar_attention_plan(call, kernels, invar_run_threads(context, execution));
    invar_run run;
    bool planned;
    INVAR_TRY(invar_run_begin(&run, context, execution, s.tasks, shared_bytes(&s),
                              invar_attention_scratch(call, s.chunk_rows, s.heads), operation, &planned));
    if (planned) {
        describe(execution->plan, &s, kernels);
        return INVAR_OK;
    }
    if (s.split) run_waves(&s, &run);
    else invar_run_tasks(&run, s.tasks, s.alone ? run_alone : run_piece, &s);
    invar_run_end(&run);
    return INVAR_OK;
}

static invar_status run_on_gpu(invar_context *context, const invar_attention_call *call, invar_device device,
                               const invar_execution *execution) {
    const invar_float_environment callers = invar_float_environment_set(); /* for the scale, which is rounded there */
    const invar_status status = invar_cuda_attention_run(call, device, execution, context, operation);
    invar_float_environment_restore(callers);
    if (status != INVAR_OK || !execution->plan) return status;
    invar_attention_call unread = *call; /* as if every batch had all keys: its lengths are on the device */
    unread.kv_lengths.data = NULL;
    execution->plan->flops = invar_attention_flops(&unread);
    execution->plan->bytes = invar_attention_bytes(&unread);
    snprintf(execution->plan->arithmetic, sizeof execution->plan->arithmetic, "%s", invar_attention_arithmetic(call));
    return INVAR_OK;
}

invar_status invar_scaled_dot_product_attention(
    invar_context *context, const invar_tensor *out, const invar_tensor *lse, const invar_tensor *q,
    const invar_tensor *k, const invar_tensor *v, const invar_tensor *mask, const invar_tensor *sinks,
    const invar_tensor *kv_lengths, const invar_attention_options *options) {
    invar_attention_options known = INVAR_ATTENTION_OPTIONS_INIT;
    invar_attention_call call;
    invar_attention_views views;
    invar_view out_view = { 0 }, lse_view = { 0 };
    INVAR_TRY(invar_options_read(&known, sizeof known, options, operation));
    INVAR_TRY(invar_context_resolve(&context));
    INVAR_TRY(invar_attention_check(&call, &views, operation, q, k, v, mask, sinks, kv_lengths, &known));
    call.strong_cores = invar_kernels_strong_cores(context->kernels);
    INVAR_TRY(invar_attention_check_rows(&views, &call.out, &out_view, out, call.value_dim, operation, "out"));
    INVAR_TRY(invar_view_expect_type(&out_view, call.type, operation, "out"));
    if (lse) INVAR_TRY(invar_attention_check_lse(&call, &views, &call.lse, &lse_view, lse, operation, "lse"));
    const invar_view *const all[] = { &views.q,     &views.k,          &views.v,  &views.mask,
                                      &views.sinks, &views.kv_lengths, &lse_view, &out_view };
    INVAR_TRY(invar_check_output(&out_view, all, 8, NULL, NULL, operation, "out"));
    if (lse) INVAR_TRY(invar_check_output(&lse_view, all, 8, NULL, NULL, operation, "lse"));
    if (!out_view.count && !lse_view.count) call.query_len = 0; /* nothing to compute */
    if (views.device.type == INVAR_DEVICE_CUDA) return run_on_gpu(context, &call, views.device, &known.execution);
    return run(context, &call, &known.execution);
}
