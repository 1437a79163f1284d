/* rms_norm, add_rms_norm, layer_norm: check, plan, run. */
#include "api/norm_call.h"

static invar_status run(invar_norm_call *call, bool centred) {
    const double flops = centred ? 8 : 4; /* an element */
    if (call->device.type == INVAR_DEVICE_CUDA) return invar_norm_run_cuda(call, centred, false, NULL, NULL, flops);
    invar_norm_plan(call);
    invar_run run;
    bool planned;
    INVAR_TRY(invar_norm_run_begin(call, &run, flops, &planned));
    if (planned) return INVAR_OK;
    invar_norm_run_rows(call, &run, centred ? call->kernels->layer_norm : call->kernels->rms_norm);
    invar_run_end(&run);
    return INVAR_OK;
}

invar_status invar_rms_norm(invar_context *context, const invar_tensor *y, const invar_tensor *x, const invar_tensor *weight,
                            const invar_norm_options *options) {
    invar_norm_call call;
    INVAR_TRY(invar_norm_begin(&call, context, options, "rms_norm"));
    INVAR_TRY(invar_norm_inputs(&call, x, weight, NULL));
    INVAR_TRY(invar_norm_output(&call, INVAR_NORM_Y, y, invar_norm_type(&call), INVAR_NORM_X, "x's", "y"));
    return run(&call, false);
}

/* sum may be exactly x or exactly residual. */
static invar_status check_sum(invar_norm_call *call, const invar_tensor *sum) {
    const invar_view *x = &call->tensor[INVAR_NORM_X], *residual = &call->tensor[INVAR_NORM_RESIDUAL];
    invar_view view;
    INVAR_TRY(invar_view_init_float_on(&call->device, &view, sum, call->operation, "sum"));
    int alias = invar_view_identical(&view, residual) ? INVAR_NORM_RESIDUAL : INVAR_NORM_X;
    return invar_norm_output(call, INVAR_NORM_SUM, sum, invar_promote(x->type, residual->type), alias, "x's or residual's",
                             "sum");
}

invar_status invar_add_rms_norm(invar_context *context, const invar_tensor *y, const invar_tensor *sum, const invar_tensor *x,
                                const invar_tensor *residual, const invar_tensor *weight, const invar_norm_options *options) {
    invar_norm_call call;
    INVAR_TRY(invar_norm_begin(&call, context, options, "add_rms_norm"));
    INVAR_TRY(invar_norm_inputs(&call, x, weight, NULL));
    INVAR_TRY(invar_norm_like_x(&call, INVAR_NORM_RESIDUAL, residual, "residual"));
    INVAR_TRY(invar_norm_output(&call, INVAR_NORM_Y, y, invar_norm_type(&call), INVAR_NORM_X, "x's", "y"));
    INVAR_TRY(check_sum(&call, sum));
    if (invar_view_overlaps(&call.tensor[INVAR_NORM_Y], &call.tensor[INVAR_NORM_SUM]))
        return invar_fail(INVAR_ERROR_VALUE, "add_rms_norm: sum: expected memory apart from y's, got an overlap");
    return run(&call, false);
}

invar_status invar_layer_norm(invar_context *context, const invar_tensor *y, const invar_tensor *x, const invar_tensor *weight,
                              const invar_tensor *bias, const invar_norm_options *options) {
    invar_norm_call call;
    INVAR_TRY(invar_norm_begin(&call, context, options, "layer_norm"));
    INVAR_TRY(invar_norm_inputs(&call, x, weight, bias));
    invar_float_type type = call.has_weight ? invar_norm_type(&call) : call.tensor[INVAR_NORM_X].type;
    INVAR_TRY(invar_norm_output(&call, INVAR_NORM_Y, y, type, INVAR_NORM_X, "x's", "y"));
    return run(&call, true);
}
