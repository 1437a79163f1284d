/* Checks and planning that the norms and their VJPs share. */
#include "api/norm_call.h"
#include "core/machine.h"
#include "core/number.h"
#include "cuda/norm.h"

#include <math.h>
#include <stdio.h>

enum {
    TASK_ELEMENTS = 65536, /* some 30 µs beyond the caches: a second thread pays from two tasks on, not before */
    EVEN_TASKS = 8         /* tasks for each thread that keep all busy to the end */
};

invar_status invar_norm_begin(invar_norm_call *call, invar_context *context, const invar_norm_options *options,
                              const char *operation) {
    const invar_norm_options defaults = INVAR_NORM_OPTIONS_INIT;
    memset(call, 0, sizeof *call);
    call->operation = operation;
    call->options = defaults;
    INVAR_TRY(invar_options_read(&call->options, sizeof call->options, options, operation));
    if (!isfinite(call->options.eps) || call->options.eps < 0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: eps: expected a finite number >= 0, got %g", operation, call->options.eps);
    call->context = context;
    return invar_context_resolve(&call->context);
}

static invar_status check_vector(invar_norm_call *call, invar_view *view, bool *has, const invar_tensor *tensor,
                                 const char *argument) {
    *has = tensor != NULL;
    if (!tensor) return INVAR_OK;
    INVAR_TRY(invar_view_init_float_on(&call->device, view, tensor, call->operation, argument));
    return invar_view_expect_shape(view, 1, &call->job.features, call->operation, argument);
}

invar_status invar_norm_inputs(invar_norm_call *call, const invar_tensor *x, const invar_tensor *weight,
                               const invar_tensor *bias) {
    invar_view *view = &call->tensor[INVAR_NORM_X];
    INVAR_TRY(invar_view_init_float_on(&call->device, view, x, call->operation, "x"));
    if (view->ndim < 1)
        return invar_fail(INVAR_ERROR_VALUE, "%s: x: expected rank 1 to %d, got a scalar", call->operation, INVAR_MAX_DIMS);
    call->has[INVAR_NORM_X] = true;
    call->job.features = view->shape[view->ndim - 1];
    INVAR_TRY(check_vector(call, &call->weight, &call->has_weight, weight, "weight"));
    return check_vector(call, &call->bias, &call->has_bias, bias, "bias");
}

invar_status invar_norm_like_x(invar_norm_call *call, int operand, const invar_tensor *tensor, const char *argument) {
    const invar_view *x = &call->tensor[INVAR_NORM_X];
    INVAR_TRY(invar_view_init_float_on(&call->device, &call->tensor[operand], tensor, call->operation, argument));
    call->has[operand] = true;
    return invar_view_expect_shape(&call->tensor[operand], x->ndim, x->shape, call->operation, argument);
}

invar_status invar_norm_output(invar_norm_call *call, int operand, const invar_tensor *tensor, invar_float_type type,
                               int may_alias, const char *alias, const char *argument) {
    INVAR_TRY(invar_norm_like_x(call, operand, tensor, argument));
    INVAR_TRY(invar_view_expect_type(&call->tensor[operand], type, call->operation, argument));
    const invar_view *inputs[] = {
        &call->tensor[INVAR_NORM_X],
        call->has[INVAR_NORM_RESIDUAL] ? &call->tensor[INVAR_NORM_RESIDUAL] : NULL,
        call->has_weight ? &call->weight : NULL,
        call->has_bias ? &call->bias : NULL,
    };
    return invar_check_output(&call->tensor[operand], inputs, 4, &call->tensor[may_alias], alias, call->operation, argument);
}

invar_float_type invar_norm_type(const invar_norm_call *call) {
    invar_float_type type = call->tensor[INVAR_NORM_X].type;
    if (call->has[INVAR_NORM_RESIDUAL]) type = invar_promote(type, call->tensor[INVAR_NORM_RESIDUAL].type);
    if (call->has_weight) type = invar_promote(type, call->weight.type);
    if (call->has_bias) type = invar_promote(type, call->bias.type);
    return type;
}

/* True when the rows of dimension d follow one another as those of d + 1 do, in every tensor. */
static bool merges(const invar_norm_call *call, int d, int next) {
    const int64_t size = call->tensor[INVAR_NORM_X].shape[next];
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++)
        if (call->has[o] && call->tensor[o].stride[d] != call->tensor[o].stride[next] * size) return false;
    return true;
}

/* The leading dimensions as the job's, without those of size 1, neighbours merged. */
static void set_rows(invar_norm_call *call) {
    invar_norm_job *job = &call->job;
    const invar_view *x = &call->tensor[INVAR_NORM_X];
    int kept = -1; /* the dimension of x behind the job's first */
    int64_t shape[INVAR_MAX_DIMS];
    int source[INVAR_MAX_DIMS], count = 0;
    job->rows = 1;
    for (int d = x->ndim - 2; d >= 0; d--) {
        job->rows *= x->shape[d];
        if (x->shape[d] == 1) continue;
        if (kept >= 0 && merges(call, d, kept)) {
            shape[count - 1] *= x->shape[d];
        } else {
            source[count] = d;
            shape[count++] = x->shape[d];
        }
        kept = d;
    }
    job->ndim = count;
    for (int d = 0; d < count; d++) job->shape[d] = shape[count - 1 - d];
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++) {
        if (!call->has[o]) continue;
        const invar_view *view = &call->tensor[o];
        int64_t item = (int64_t)invar_view_item_size(view);
        invar_norm_operand *operand = &job->operand[o];
        operand->data = view->data;
        operand->type = view->type;
        operand->step = job->features == 1 ? item : view->stride[view->ndim - 1] * item;
        for (int d = 0; d < count; d++) operand->stride[d] = view->stride[source[count - 1 - d]] * item;
    }
}

static bool aliased(const invar_norm_call *call) {
    for (int o = INVAR_NORM_Y; o <= INVAR_NORM_SUM; o++)
        for (int i = INVAR_NORM_X; i <= INVAR_NORM_RESIDUAL; i++)
            if (call->has[o] && call->has[i] && call->tensor[o].data == call->tensor[i].data) return true;
    return false;
}

static double traffic(const invar_norm_call *call) {
    double bytes = 0;
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++)
        if (call->has[o]) bytes += (double)call->tensor[o].count * (double)invar_view_item_size(&call->tensor[o]);
    return bytes;
}

/* A half type where every tensor of rows has it, with contiguous features; else float32. */
static invar_float_type format_of(const invar_norm_call *call) {
    const invar_float_type type = call->tensor[INVAR_NORM_X].type;
    if ((type != INVAR_F16 && type != INVAR_BF16) || call->has[INVAR_NORM_SUM]) return INVAR_F32;
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++)
        if (call->has[o] && (call->tensor[o].type != type || call->job.operand[o].step != 2)) return INVAR_F32;
    return type;
}

/* Room in scratch where invar_norm_widen_kernel may want it. */
static bool needs_widening(const invar_norm_call *call, const invar_view *vector) {
    invar_float_type accumulation = call->kernels == &invar_kernels_reference ? INVAR_F64 : INVAR_F32;
    return vector->type != accumulation || vector->stride[0] != 1 || call->job.format == INVAR_BF16;
}

static size_t vector_bytes(const invar_norm_call *call) {
    return ((size_t)call->job.features * sizeof(double) + 63) / 64 * 64;
}

void invar_norm_plan(invar_norm_call *call) {
    invar_norm_job *job = &call->job;
    call->kernels = invar_kernels_for(call->context->kernels, invar_norm_type(call));
    job->eps = call->options.eps;
    set_rows(call);
    job->format = format_of(call);
    const int threads = invar_run_threads(call->context, &call->options.execution);
    job->stream = traffic(call) > (double)invar_machine_cached(&call->context->description, threads) && !aliased(call);
    call->task_rows = job->features < TASK_ELEMENTS && job->features > 0 ? TASK_ELEMENTS / job->features : 1;
    call->tasks = job->features ? invar_pieces(job->rows, call->task_rows) : 0;
    if (call->tasks > 1 && call->tasks < EVEN_TASKS * threads) { /* few: as many of one size for each thread */
        const int64_t even = invar_round_up(call->tasks, threads);
        call->task_rows = invar_pieces(job->rows, even);
        call->tasks = invar_pieces(job->rows, call->task_rows);
    }
    if (call->has_weight && needs_widening(call, &call->weight)) call->shared_bytes += vector_bytes(call);
    if (call->has_bias && needs_widening(call, &call->bias)) call->shared_bytes += vector_bytes(call);
}

invar_status invar_norm_run_cuda(invar_norm_call *call, bool centred, bool backward, const invar_view *dweight,
                                 const invar_view *dbias, double flops_per_element) {
    const invar_execution *execution = &call->options.execution;
    const invar_cuda_norm_call of = { call->operation, &call->job, call->has_weight ? &call->weight : NULL,
                                      call->has_bias ? &call->bias : NULL, dweight, dbias, centred, backward };
    call->job.eps = call->options.eps;
    set_rows(call);
    const invar_float_environment callers = invar_float_environment_set(); /* for eps, which is rounded there */
    const invar_status status = invar_cuda_norm_run(&of, call->device, execution, call->context);
    invar_float_environment_restore(callers);
    if (status != INVAR_OK || !execution->plan) return status;
    execution->plan->flops = flops_per_element * (double)call->tensor[INVAR_NORM_X].count;
    execution->plan->bytes = traffic(call);
    return INVAR_OK;
}

static void describe(const invar_norm_call *call, double flops_per_element) {
    invar_plan *plan = call->options.execution.plan;
    snprintf(plan->kernel, sizeof plan->kernel, "%s.%s", call->operation, call->kernels->name);
    const char *why = call->kernels != call->context->kernels ? "float64 is served by the reference" :
                      call->job.stream                        ? "too large for the last cache: stores go past it" :
                                                                "stores go through the caches";
    snprintf(plan->reason, sizeof plan->reason, "%lld rows of %lld a task; %s", (long long)call->task_rows,
             (long long)call->job.features, why);
    plan->query_tile = (int32_t)call->task_rows;
    plan->key_splits = 1;
    plan->flops = flops_per_element * (double)call->tensor[INVAR_NORM_X].count;
    plan->bytes = traffic(call);
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "%s", call->kernels != call->context->kernels ? "float64" : "float32");
}

invar_status invar_norm_run_begin(const invar_norm_call *call, invar_run *run, double flops_per_element, bool *planned) {
    const int64_t held = call->job.features < INVAR_NORM_BLOCK ? call->job.features : INVAR_NORM_BLOCK;
    INVAR_TRY(invar_run_begin(run, call->context, &call->options.execution, call->tasks, call->shared_bytes,
                              INVAR_NORM_BUFFERS * sizeof(float) * (size_t)held, call->operation, planned));
    if (*planned) describe(call, flops_per_element);
    return INVAR_OK;
}

static void run_rows(void *argument, int64_t index, void *scratch) {
    const invar_norm_call *call = argument;
    int64_t first = index * call->task_rows, left = call->job.rows - first;
    call->kernel(&call->job, first, left < call->task_rows ? left : call->task_rows, scratch);
}

void invar_norm_run_rows(invar_norm_call *call, invar_run *run, invar_norm_kernel *kernel) {
    char *scratch = run->shared;
    const invar_view *vectors[] = { call->has_weight ? &call->weight : NULL, call->has_bias ? &call->bias : NULL };
    const void **widened[] = { &call->job.weight, &call->job.bias };
    if (!call->tasks) return;
    const invar_float_environment callers = invar_float_environment_set();
    for (int v = 0; v < 2; v++) {
        if (!vectors[v]) continue;
        int64_t step = vectors[v]->stride[0] * (int64_t)invar_view_item_size(vectors[v]);
        *widened[v] = call->kernels->norm_widen(&call->job, scratch, vectors[v]->data, vectors[v]->type, step);
        if (needs_widening(call, vectors[v])) scratch += vector_bytes(call);
    }
    invar_float_environment_restore(callers);
    call->job.partial = scratch;
    call->kernel = kernel;
    invar_run_tasks_apart(run, call->tasks, run_rows, call);
}
