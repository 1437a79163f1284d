/* scaled_dot_product_attention_vjp on CUDA devices. */
#ifndef INVAR_CUDA_ATTENTION_VJP_H
#define INVAR_CUDA_ATTENTION_VJP_H

#include "cpu/kernels/attention_vjp.h"
#include "cuda/module.h"

/* Runs the call on `device`, or fills execution->plan but for its flops, bytes and arithmetic. */
invar_status invar_cuda_attention_vjp_run(const invar_attention_vjp_call *call, invar_device device, const invar_execution *execution,
                                          invar_context *context, const char *operation);

#endif
