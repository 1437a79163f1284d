/* invar_scaled_dot_product_attention_vjp: check, plan, run three passes. */
#include "api/attention_check.h"
#include "core/context.h"
#include "cpu/dispatch.h"
#include "cuda/attention_vjp.h"

#include <stdio.h>
#include <string.h>

static const char *const operation = "scaled_dot_product_attention_vjp";

/* Everything a call is made of before it runs. */
typedef struct prepared {
    invar_attention_vjp_call call;
    invar_attention_views views;
    invar_view dout, out, lse, dlse;
    invar_view dq, dk, dv, dsinks, dmask;
} prepared;

static invar_status check_required(const invar_tensor *dout, const invar_tensor *out, const invar_tensor *lse) {
    const char *missing = !dout ? "dout" : !out ? "out" : !lse ? "lse" : NULL;
    if (missing) return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a tensor, got NULL", operation, missing);
    return INVAR_OK;
}

/* out, lse, dout and dlse: what the forward call gave, and what reaches it. */
static invar_status check_results(prepared *x, const invar_tensor *dout, const invar_tensor *out, const invar_tensor *lse,
                                  const invar_tensor *dlse) {
    invar_attention_call *forward = &x->call.forward;
    const int64_t columns = forward->value_dim;
    INVAR_TRY(invar_attention_check_rows(&x->views, &x->call.dout, &x->dout, dout, columns, operation, "dout"));
    if (invar_promote(x->dout.type, forward->type) != forward->type)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: dout: expected a type that promotes to %s, got %s", operation,
                          invar_dtype_name(invar_dtype_of(forward->type)), invar_dtype_name(x->dout.dtype));
    INVAR_TRY(invar_attention_check_rows(&x->views, &forward->out, &x->out, out, columns, operation, "out"));
    INVAR_TRY(invar_view_expect_type(&x->out, forward->type, operation, "out"));
    INVAR_TRY(invar_attention_check_lse(forward, &x->views, &forward->lse, &x->lse, lse, operation, "lse"));
    if (dlse) INVAR_TRY(invar_attention_check_lse(forward, &x->views, &x->call.dlse, &x->dlse, dlse, operation, "dlse"));
    return INVAR_OK;
}

/* Refuses an output over an input or over a gradient checked before it. */
static invar_status check_apart(const prepared *x, const invar_view *gradient, const char *argument) {
    const invar_view *const all[] = { &x->views.q, &x->views.k, &x->views.v, &x->views.mask, &x->views.sinks,
                                      &x->views.kv_lengths, &x->dout, &x->out, &x->lse, &x->dlse,
                                      &x->dq, &x->dk, &x->dv, &x->dsinks, &x->dmask };
    return invar_check_output(gradient, all, sizeof all / sizeof all[0], NULL, NULL, operation, argument);
}

/* The gradient of one input: its shape and its type. */
static invar_status check_gradient(const prepared *x, invar_view *view, const invar_tensor *tensor, const invar_view *of,
                                   const char *argument) {
    invar_device device = x->views.device;
    INVAR_TRY(invar_view_init_float_on(&device, view, tensor, operation, argument));
    INVAR_TRY(invar_view_expect_shape(view, of->ndim, of->shape, operation, argument));
    INVAR_TRY(invar_view_expect_type(view, of->type, operation, argument));
    return check_apart(x, view, argument);
}

/* dmask along (batch…, head, query, key), with size 1 and stride 0 where the mask is broadcast. */
static void spread_mask(prepared *x) {
    invar_attention_vjp_call *call = &x->call;
    const invar_attention_call *forward = &call->forward;
    const int missing = x->views.q.ndim - x->dmask.ndim;
    invar_view wide = x->dmask;
    wide.ndim = x->views.q.ndim;
    for (int d = 0; d < wide.ndim; d++) {
        wide.shape[d] = d < missing ? 1 : x->dmask.shape[d - missing];
        wide.stride[d] = wide.shape[d] == 1 ? 0 : x->dmask.stride[d - missing];
    }
    call->dmask = invar_attention_operand_of(&wide);
    call->mask_keys = wide.shape[wide.ndim - 1];
    call->mask_queries = wide.shape[wide.ndim - 2];
    call->mask_heads = wide.ndim >= 3 ? wide.shape[wide.ndim - 3] : 1;
    call->mask_batch = 1;
    for (int d = 0; d < forward->batch_ndim; d++) {
        call->mask_batch_shape[d] = wide.shape[d];
        call->mask_batch *= wide.shape[d];
    }
}

static invar_status check_mask_gradient(prepared *x, const invar_tensor *dmask) {
    const invar_attention_mask_kind kind = x->call.forward.mask_kind;
    if (kind != INVAR_MASK_F32 && kind != INVAR_MASK_F16 && kind != INVAR_MASK_BF16 && kind != INVAR_MASK_F64)
        return invar_fail(INVAR_ERROR_VALUE, "%s: dmask: expected NULL without an additive floating mask, got a tensor",
                          operation);
    invar_view mask; /* as given, before it was broadcast */
    invar_device device = x->views.device;
    INVAR_TRY(invar_view_init_float_on(&device, &mask, x->views.mask_tensor, operation, "mask"));
    INVAR_TRY(check_gradient(x, &x->dmask, dmask, &mask, "dmask"));
    spread_mask(x);
    return INVAR_OK;
}

static invar_status check_sinks_gradient(prepared *x, const invar_tensor *dsinks) {
    if (!x->views.sinks_tensor)
        return invar_fail(INVAR_ERROR_VALUE, "%s: dsinks: expected NULL without sinks, got a tensor", operation);
    INVAR_TRY(check_gradient(x, &x->dsinks, dsinks, &x->views.sinks, "dsinks"));
    x->call.dsinks = (invar_attention_operand){ .data = x->dsinks.data, .type = x->dsinks.type, .dtype = x->dsinks.dtype,
                                                .head_stride = x->dsinks.stride[0] *
                                                               (int64_t)invar_view_item_size(&x->dsinks) };
    return INVAR_OK;
}

static invar_status check_gradients(prepared *x, const invar_tensor *dq, const invar_tensor *dk, const invar_tensor *dv,
                                    const invar_tensor *dsinks, const invar_tensor *dmask) {
    if (dq) {
        INVAR_TRY(check_gradient(x, &x->dq, dq, &x->views.q, "dq"));
        x->call.dq = invar_attention_operand_of(&x->dq);
    }
    if (dk) {
        INVAR_TRY(check_gradient(x, &x->dk, dk, &x->views.k, "dk"));
        x->call.dk = invar_attention_operand_of(&x->dk);
    }
    if (dv) {
        INVAR_TRY(check_gradient(x, &x->dv, dv, &x->views.v, "dv"));
        x->call.dv = invar_attention_operand_of(&x->dv);
    }
    if (dsinks) INVAR_TRY(check_sinks_gradient(x, dsinks));
    if (dmask) INVAR_TRY(check_mask_gradient(x, dmask));
    return INVAR_OK;
}

typedef struct pass {
    invar_attention_vjp_kernel *kernel;
    const invar_attention_vjp_call *call;
    int64_t tasks;
} pass;

static void run_task(void *argument, int64_t index, void *scratch) {
    const pass *x = argument;
    x->kernel(x->call, index, scratch);
}

static void describe_work(invar_plan *plan, const invar_attention_call *forward) {
    const double dims = (double)(forward->key_dim + forward->value_dim);
    /* five products of the forward's two: 3·Dk + 2·Dv against Dk + Dv */
    const double share = dims > 0 ? (3 * (double)forward->key_dim + 2 * (double)forward->value_dim) / dims : 0;
    plan->flops = share * invar_attention_flops(forward);
    plan->bytes = 2 * invar_attention_bytes(forward); /* the gradients besides */
}

static void describe(invar_plan *plan, const invar_attention_vjp_call *call, const invar_kernels *kernels,
                     const invar_attention_vjp_layout *layout, const pass passes[3]) {
    const invar_attention_call *forward = &call->forward;
    snprintf(plan->kernel, sizeof plan->kernel, "attention_vjp.%s", kernels->name);
    snprintf(plan->reason, sizeof plan->reason, "%s",
             forward->type == INVAR_F64 ? "float64 is served by the plain C reference"
                                        : "the only kernel of this operation on the instruction set in use");
    plan->tasks = passes[0].tasks + passes[1].tasks + passes[2].tasks;
    plan->query_tile = layout->query_tile;
    plan->key_block = layout->key_block;
    plan->key_splits = 1;
    describe_work(plan, forward);
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "%s", invar_attention_arithmetic(forward));
}

static invar_status run(invar_context *context, prepared *x, const invar_attention_options *options) {
    invar_attention_vjp_call *call = &x->call;
    const invar_kernels *kernels = invar_kernels_for(context->kernels, call->forward.type);
    invar_attention_vjp_layout layout;
    call->threads = invar_run_threads(context, &options->execution);
    kernels->attention_vjp_layout(call, &layout);
    const pass passes[3] = {
        { kernels->attention_vjp, call, call->dq.data || call->dk.data || call->dv.data ? layout.tasks : 0 },
        { kernels->attention_vjp_mask, call, invar_attention_vjp_mask_tasks(call) },
        { kernels->attention_vjp_sinks, call, call->dsinks.data ? call->forward.query_heads : 0 },
    };
    int64_t most = 0;
    for (int i = 0; i < 3; i++)
        if (passes[i].tasks > most) most = passes[i].tasks;
    invar_run run;
    bool planned;
    INVAR_TRY(invar_run_begin(&run, context, &options->execution, most, layout.shared_bytes, layout.slot_bytes, operation,
                              &planned));
    if (planned) {
        describe(options->execution.plan, call, kernels, &layout, passes);
        return INVAR_OK;
    }
    call->shared = run.shared;
    if (layout.zeroed_bytes) memset(run.shared, 0, layout.zeroed_bytes);
    for (int i = 0; i < 3; i++)
        if (passes[i].tasks > 0) invar_run_tasks(&run, passes[i].tasks, run_task, (void *)&passes[i]);
    invar_run_end(&run);
    return INVAR_OK;
}

static invar_status run_on_gpu(invar_context *context, const prepared *x, const invar_attention_options *options) {
    const invar_execution *execution = &options->execution;
    const invar_float_environment callers = invar_float_environment_set(); /* for the scale, which is rounded there */
    const invar_status status = invar_cuda_attention_vjp_run(&x->call, x->views.device, execution, context, operation);
    invar_float_environment_restore(callers);
    if (status != INVAR_OK || !execution->plan) return status;
    invar_attention_call unread = x->call.forward; /* as if every batch had all keys: its lengths are on the device */
    unread.kv_lengths.data = NULL;
    describe_work(execution->plan, &unread);
    snprintf(execution->plan->arithmetic, sizeof execution->plan->arithmetic, "%s", invar_attention_arithmetic(&x->call.forward));
    return INVAR_OK;
}

invar_status invar_scaled_dot_product_attention_vjp(
    invar_context *context, const invar_tensor *dq, const invar_tensor *dk, const invar_tensor *dv,
    const invar_tensor *dsinks, const invar_tensor *dmask, const invar_tensor *dout, const invar_tensor *q,
    const invar_tensor *k, const invar_tensor *v, const invar_tensor *out, const invar_tensor *lse,
    const invar_tensor *mask, const invar_tensor *sinks, const invar_tensor *kv_lengths, const invar_tensor *dlse,
    const invar_attention_options *options) {
    invar_attention_options filled = INVAR_ATTENTION_OPTIONS_INIT;
    prepared x;
    memset(&x, 0, sizeof x);
    INVAR_TRY(invar_options_read(&filled, sizeof filled, options, operation));
    INVAR_TRY(invar_context_resolve(&context));
    INVAR_TRY(check_required(dout, out, lse));
    INVAR_TRY(invar_attention_check(&x.call.forward, &x.views, operation, q, k, v, mask, sinks, kv_lengths, &filled));
    x.call.forward.strong_cores = invar_kernels_strong_cores(context->kernels);
    INVAR_TRY(check_results(&x, dout, out, lse, dlse));
    INVAR_TRY(check_gradients(&x, dq, dk, dv, dsinks, dmask));
    if (x.views.device.type == INVAR_DEVICE_CUDA) return run_on_gpu(context, &x, &filled);
    return run(context, &x, &filled);
}
