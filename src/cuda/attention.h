/* scaled_dot_product_attention on CUDA devices: what its programs take, and how a call is cut. */
#ifndef INVAR_CUDA_ATTENTION_H
#define INVAR_CUDA_ATTENTION_H

#include "cpu/kernels/attention.h"
#include "cuda/device/attention_job.h"
#include "cuda/module.h"

/* The checked call as programs read it. INVAR_ERROR_DTYPE for float64, INVAR_ERROR_VALUE for sizes that they do not take. */
invar_status invar_cuda_attention_fill(invar_cuda_attention *of, const invar_attention_call *call, const char *operation);

/* An operand of the call as programs read it. */
invar_cuda_operand invar_cuda_operand_of(const invar_attention_operand *x);

/* Whether 16-byte copies may take the operand's rows: contiguous, aligned, of whole copies. */
bool invar_cuda_copies(const invar_attention_call *call, const invar_attention_operand *x, int64_t columns);

/* Features in shared memory, of few programs: whole 32, beyond 128 whole 64. */
int invar_cuda_padded(int64_t features);

/* Whether this GPU and NVRTC have Hopper's asynchronous products. */
invar_status invar_cuda_find_wgmma(bool *has, int major, int minor, const char *operation);

/* Runs the call on `device`, or fills execution->plan but for its flops and bytes. */
invar_status invar_cuda_attention_run(const invar_attention_call *call, invar_device device, const invar_execution *execution,
                                      invar_context *context, const char *operation);

#endif
