/* rope and its VJP: check, plan, run. */
#include "api/rope_frequency.h"
#include "core/context.h"
#include "core/machine.h"
#include "core/number.h"
#include "cpu/dispatch.h"
#include "cuda/rope.h"

#include <math.h>
#include <stdio.h>

enum {
    TABLE_BYTES = 16384,    /* of cosines and sines a block: half of L1 */
    BLOCK_MOST = 256,       /* positions a block */
    SLICES_LEAST = 64,      /* slices that share a table, where there are so many: forming it costs what turning two costs */
    TASK_ELEMENTS = 65536,  /* as for the norms */
    EVEN_TASKS = 8          /* tasks for each of several threads that keep them busy to the end */
};

typedef struct rope_call {
    const char *operation;
    invar_context *context;
    invar_rope_options options;
    invar_device device; /* x's and y's */
    const invar_kernels *kernels;
    invar_view x, y, offset, freqs;
    bool has_offset, has_freqs;
    invar_rope_job job;
    int64_t task_positions, task_slices, position_tasks, slice_tasks;
} rope_call;

/* ---- check ----------------------------------------------------------------------------------------------- */

static invar_status check_options(rope_call *call, const invar_rope_options *options) {
    const invar_rope_options defaults = INVAR_ROPE_OPTIONS_INIT;
    const char *operation = call->operation;
    call->options = defaults;
    INVAR_TRY(invar_options_read(&call->options, sizeof call->options, options, operation));
    const invar_rope_options *o = &call->options;
    if (o->traditional != 0 && o->traditional != 1)
        return invar_fail(INVAR_ERROR_VALUE, "%s: traditional: expected 0 or 1, got %d", operation, o->traditional);
    if (!isfinite(o->scale))
        return invar_fail(INVAR_ERROR_VALUE, "%s: scale: expected a finite number, got %g", operation, o->scale);
    if (!isfinite(o->base) || o->base < 0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: base: expected a finite number > 0, or 0 for none, got %g", operation, o->base);
    if (call->has_freqs && o->base != 0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: base: expected none (0) with freqs, got %g", operation, o->base);
    if (!call->has_freqs && o->base == 0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: base: expected a base where there are no freqs, got none", operation);
    return INVAR_OK;
}

static invar_status check_x(rope_call *call, const invar_tensor *x, const char *argument) {
    INVAR_TRY(invar_view_init_float_on(&call->device, &call->x, x, call->operation, argument));
    if (call->x.ndim < 2)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected rank 2 to %d, got %d", call->operation, argument, INVAR_MAX_DIMS,
                          call->x.ndim);
    int64_t dims = call->options.dims, features = call->x.shape[call->x.ndim - 1];
    if (dims <= 0 || dims % 2 || dims > features)
        return invar_fail(INVAR_ERROR_VALUE, "%s: dims: expected an even number from 2 to the %lld features of %s, got %lld",
                          call->operation, (long long)features, argument, (long long)dims);
    return INVAR_OK;
}

/* A CUDA device takes them from its own memory or from the CPU's. */
static invar_status init_numbers(const rope_call *call, invar_view *view, const invar_tensor *tensor, const char *argument) {
    invar_device device = call->device;
    if (tensor->device.type == INVAR_DEVICE_CPU) device = tensor->device;
    return invar_view_init_on(&device, view, tensor, call->operation, argument);
}

static invar_status check_offset(rope_call *call, const invar_tensor *offset) {
    if (!call->has_offset) return INVAR_OK;
    INVAR_TRY(init_numbers(call, &call->offset, offset, "offset"));
    if (call->offset.dtype.code > INVAR_UINT || call->offset.dtype.bits > 64)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: offset: expected integers, got %s", call->operation,
                          invar_dtype_name(call->offset.dtype));
    int64_t batches = call->x.ndim > 2 ? call->x.shape[0] : 1, n = call->offset.ndim == 1 ? call->offset.shape[0] : -1;
    if (call->offset.ndim == 0 || n == 1 || n == batches) return INVAR_OK;
    char each[32] = "", text[INVAR_SHAPE_TEXT];
    if (batches != 1) snprintf(each, sizeof each, " or (%lld,)", (long long)batches);
    return invar_fail(INVAR_ERROR_VALUE, "%s: offset: expected shape ()%s (1,)%s, got %s", call->operation,
                      batches == 1 ? " or" : ",", each, invar_shape_text(text, call->offset.ndim, call->offset.shape));
}

static invar_status check_freqs(rope_call *call, const invar_tensor *freqs) {
    if (!call->has_freqs) return INVAR_OK;
    INVAR_TRY(init_numbers(call, &call->freqs, freqs, "freqs"));
    const int64_t pairs = call->options.dims / 2;
    invar_float_type type;
    bool integers = call->freqs.dtype.code <= INVAR_UINT && call->freqs.dtype.bits <= 64;
    if (!integers && !invar_float_type_of(call->freqs.dtype, &type))
        return invar_fail(INVAR_ERROR_DTYPE, "%s: freqs: expected real numbers, got %s", call->operation,
                          invar_dtype_name(call->freqs.dtype));
    return invar_view_expect_shape(&call->freqs, 1, &pairs, call->operation, "freqs");
}

static invar_status check_y(rope_call *call, const invar_tensor *y, const char *argument, const char *alias) {
    INVAR_TRY(invar_view_init_float_on(&call->device, &call->y, y, call->operation, argument));
    INVAR_TRY(invar_view_expect_shape(&call->y, call->x.ndim, call->x.shape, call->operation, argument));
    INVAR_TRY(invar_view_expect_type(&call->y, call->x.type, call->operation, argument));
    const invar_view *inputs[] = { &call->x, call->has_offset ? &call->offset : NULL, call->has_freqs ? &call->freqs : NULL };
    return invar_check_output(&call->y, inputs, 3, &call->x, alias, call->operation, argument);
}

/* ---- plan ------------------------------------------------------------------------------------------------ */

static invar_rope_operand operand_of(const invar_view *view) {
    const int64_t item = (int64_t)invar_view_item_size(view);
    invar_rope_operand operand = { .data = view->data, .step = view->stride[view->ndim - 1] * item,
                                   .row = view->stride[view->ndim - 2] * item };
    for (int d = 0; d < view->ndim - 2; d++) operand.stride[d] = view->stride[d] * item;
    return operand;
}

static double traffic(const rope_call *call) { return 2.0 * (double)call->x.count * (double)invar_view_item_size(&call->x); }

static double flops(const rope_call *call) { return 3.0 * (double)call->x.count; }

static void fill_job(rope_call *call, bool inverse) {
    invar_rope_job *job = &call->job;
    const invar_view *x = &call->x;
    const int threads = invar_run_threads(call->context, &call->options.execution);
    const double cached = (double)invar_machine_cached(&call->context->description, threads);
    *job = (invar_rope_job){
        .x = operand_of(x), .y = operand_of(&call->y), .type = x->type,
        .length = x->shape[x->ndim - 2], .features = x->shape[x->ndim - 1], .dims = call->options.dims,
        .traditional = call->options.traditional, .inverse = inverse,
        .stream = traffic(call) > 0.75 * cached && x->data != call->y.data,
        .flows = invar_machine_roomy(&call->context->description),
        .ndim = x->ndim - 2, .slices = 1, .batch_slices = 1, .offset = call->options.offset,
        .base = call->options.base, .scale = call->options.scale,
    };
    for (int d = 0; d < job->ndim; d++) {
        job->shape[d] = x->shape[d];
        job->slices *= x->shape[d];
        if (d) job->batch_slices *= x->shape[d];
    }
    if (!job->ndim) job->batch_slices = 1;
    if (call->has_offset) job->offsets = call->offset;
    if (call->has_freqs) job->freqs = call->freqs;
}

/* Blocks, and tasks of whole blocks and a run of slices; where there are few, as many of one size for each thread. */
static void divide(rope_call *call) {
    invar_rope_job *job = &call->job;
    int64_t table = invar_rope_table_row(job) * (int64_t)sizeof(float);
    job->block = invar_smaller(invar_smaller(invar_larger(TABLE_BYTES / table, 1), BLOCK_MOST), invar_larger(job->length, 1));
    int64_t rows = job->block * job->features;
    const int64_t shared = invar_larger(TASK_ELEMENTS / rows, SLICES_LEAST);
    call->task_slices = invar_larger(invar_smaller(job->slices, shared), 1);
    call->task_positions = job->block * invar_larger(TASK_ELEMENTS / (rows * call->task_slices), 1);
    call->position_tasks = invar_pieces(job->length, call->task_positions);
    call->slice_tasks = invar_pieces(job->slices, call->task_slices);
    const int64_t threads = invar_run_threads(call->context, &call->options.execution);
    const int64_t tasks = call->position_tasks * call->slice_tasks;
    if (threads == 1 || tasks >= EVEN_TASKS * threads || call->x.count < 2 * TASK_ELEMENTS) return;
    const int64_t even = invar_pieces(call->position_tasks, threads) * threads;
    call->task_positions = job->block = invar_pieces(job->length, even);
    call->position_tasks = invar_pieces(job->length, job->block);
}

static void describe(const rope_call *call) {
    invar_plan *plan = call->options.execution.plan;
    snprintf(plan->kernel, sizeof plan->kernel, "%s.%s", call->operation, call->kernels->name);
    snprintf(plan->reason, sizeof plan->reason, "a table for %lld positions at a time, shared by up to %lld slices; %s",
             (long long)call->job.block, (long long)call->task_slices,
             call->kernels != call->context->kernels ? "float64 is served by the reference" :
             call->job.stream                        ? "too large for the last cache: stores go past it" :
                                                       "stores go through the caches");
    plan->query_tile = (int32_t)invar_smaller(call->task_positions, INT32_MAX);
    plan->key_splits = 1;
    plan->flops = flops(call);
    plan->bytes = traffic(call);
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "%s", call->kernels != call->context->kernels ? "float64" : "float32");
}

/* ---- run ------------------------------------------------------------------------------------------------- */

static void run_task(void *argument, int64_t index, void *scratch) {
    const rope_call *call = argument;
    int64_t position = index / call->slice_tasks * call->task_positions, slice = index % call->slice_tasks * call->task_slices;
    call->kernels->rope(&call->job, position, invar_smaller(call->job.length - position, call->task_positions), slice,
                        invar_smaller(call->job.slices - slice, call->task_slices), scratch);
}

static size_t frequency_bytes(int64_t padded) { return 2 * sizeof(double) * (size_t)padded; }

static void fill_frequencies(rope_call *call, const invar_run *run, int64_t padded) {
    double *high = (double *)(void *)run->shared, *low = high + padded;
    const invar_float_environment callers = invar_float_environment_set(); /* the same whatever rounding the caller has set */
    invar_rope_frequencies(high, low, call->job.dims, padded, call->job.base, call->job.scale, &call->job.freqs);
    invar_float_environment_restore(callers);
    call->job.high = high;
    call->job.low = low;
}

/* The caller's workspace would be the device's memory, and none of it is needed. */
static invar_status run_cuda(rope_call *call, const char *argument, int64_t padded) {
    const bool formed = call->x.count && !invar_cuda_rope_there(&call->job.freqs);
    invar_execution execution = call->options.execution;
    invar_run run;
    bool planned;
    execution.workspace = NULL;
    INVAR_TRY(invar_run_begin(&run, call->context, &execution, 0, formed ? frequency_bytes(padded) : 0, 0, call->operation,
                              &planned));
    if (formed && !planned) fill_frequencies(call, &run, padded);
    const invar_status status = invar_cuda_rope_run(&call->job, call->device, &execution, call->operation, argument);
    if (!planned) invar_run_end(&run);
    if (!planned || status != INVAR_OK) return status;
    execution.plan->flops = flops(call);
    execution.plan->bytes = traffic(call);
    return INVAR_OK;
}

static invar_status run(rope_call *call, const char *argument, bool inverse) {
    call->kernels = invar_kernels_for(call->context->kernels, call->x.type);
    const bool reference = call->kernels == &invar_kernels_reference;
    fill_job(call, inverse);
    const int64_t padded = invar_rope_padded_pairs(&call->job);
    if (call->device.type == INVAR_DEVICE_CUDA) return run_cuda(call, argument, padded);
    divide(call);
    const int64_t tasks = call->x.count ? call->position_tasks * call->slice_tasks : 0;
    invar_run run;
    bool planned;
    INVAR_TRY(invar_run_begin(&run, call->context, &call->options.execution, tasks,
                              tasks && !reference ? frequency_bytes(padded) : 0,
                              tasks ? invar_rope_scratch(&call->job, reference) : 0, call->operation, &planned));
    if (planned) {
        describe(call);
        return INVAR_OK;
    }
    if (tasks && !reference) fill_frequencies(call, &run, padded);
    invar_run_tasks_apart(&run, tasks, run_task, call);
    invar_run_end(&run);
    return INVAR_OK;
}

static invar_status rope(const char *operation, invar_context *context, const invar_tensor *y, const char *y_name,
                         const invar_tensor *x, const char *x_name, const invar_tensor *offset, const invar_tensor *freqs,
                         const invar_rope_options *options, bool inverse) {
    rope_call call = { .operation = operation, .context = context, .has_offset = offset != NULL, .has_freqs = freqs != NULL };
    INVAR_TRY(invar_context_resolve(&call.context));
    INVAR_TRY(check_options(&call, options));
    INVAR_TRY(check_x(&call, x, x_name));
    INVAR_TRY(check_offset(&call, offset));
    INVAR_TRY(check_freqs(&call, freqs));
    INVAR_TRY(check_y(&call, y, y_name, inverse ? "dy's" : "x's"));
    return run(&call, x_name, inverse);
}

invar_status invar_rope(invar_context *context, const invar_tensor *y, const invar_tensor *x, const invar_tensor *offset,
                        const invar_tensor *freqs, const invar_rope_options *options) {
    return rope("rope", context, y, "y", x, "x", offset, freqs, options, false);
}

invar_status invar_rope_vjp(invar_context *context, const invar_tensor *dx, const invar_tensor *dy, const invar_tensor *offset,
                            const invar_tensor *freqs, const invar_rope_options *options) {
    return rope("rope_vjp", context, dx, "dx", dy, "dy", offset, freqs, options, true);
}
