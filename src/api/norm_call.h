/* What the norms and their VJPs share: checked options and tensors, the job made of them, its scratch and its plan. */
#ifndef INVAR_API_NORM_CALL_H
#define INVAR_API_NORM_CALL_H

#include "core/context.h"
#include "cpu/dispatch.h"

typedef struct invar_norm_call {
    const char *operation;
    invar_context *context;
    invar_norm_options options;
    invar_device device; /* x's, where every tensor must be */
    const invar_kernels *kernels;
    invar_view tensor[INVAR_NORM_OPERANDS], weight, bias;
    bool has[INVAR_NORM_OPERANDS], has_weight, has_bias;
    invar_norm_job job;
    invar_norm_kernel *kernel; /* that runs */
    int64_t task_rows, tasks;
    size_t shared_bytes;
} invar_norm_call;

/* Options read and checked, the context found. */
invar_status invar_norm_begin(invar_norm_call *call, invar_context *context, const invar_norm_options *options,
                              const char *operation);

/* x: floating, rank >= 1. weight and bias: NULL, or floating and (D,). Sets call->job.features. */
invar_status invar_norm_inputs(invar_norm_call *call, const invar_tensor *x, const invar_tensor *weight,
                               const invar_tensor *bias);

/* A tensor that must have x's shape. */
invar_status invar_norm_like_x(invar_norm_call *call, int operand, const invar_tensor *tensor, const char *argument);

/* Its type must be `type`, and its memory its own, or exactly that of the operand may_alias; alias: as invar_check_output's. */
invar_status invar_norm_output(invar_norm_call *call, int operand, const invar_tensor *tensor, invar_float_type type,
                               int may_alias, const char *alias, const char *argument);

/* The type of a call's arithmetic: promote(x, and those of residual or dy, weight, bias that are there). */
invar_float_type invar_norm_type(const invar_norm_call *call);

/* Kernels, rows and scratch of a call whose tensors are checked: task_rows, and what the widened vectors take. */
void invar_norm_plan(invar_norm_call *call);

/* Runs a call whose tensors are checked on its CUDA device, or plans it. dweight, dbias: NULL where there is none. */
invar_status invar_norm_run_cuda(invar_norm_call *call, bool centred, bool backward, const invar_view *dweight,
                                 const invar_view *dbias, double flops_per_element);

/* invar_run_begin for a planned call, with scratch for rows that the kernel cannot read in place; fills in the whole plan where one
 * is asked for. */
invar_status invar_norm_run_begin(const invar_norm_call *call, invar_run *run, double flops_per_element, bool *planned);

/* Runs the call's tasks, if it has any, by a kernel for rows. The job's weight and bias are in run->shared where they must be
 * widened, and its partial sums behind them. */
void invar_norm_run_rows(invar_norm_call *call, invar_run *run, invar_norm_kernel *kernel);

#endif
