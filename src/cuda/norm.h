/* rms_norm, add_rms_norm, layer_norm and the VJPs of rms_norm and layer_norm on CUDA devices. */
#ifndef INVAR_CUDA_NORM_H
#define INVAR_CUDA_NORM_H

#include "core/context.h"
#include "cpu/kernels/norm.h"

/* A call whose tensors are checked; the CPU's job without what only its kernels need: weight, bias, format, chunks and partial. */
typedef struct invar_cuda_norm_call {
    const char *operation;
    const invar_norm_job *job;
    const invar_view *weight, *bias;   /* NULL: absent */
    const invar_view *dweight, *dbias; /* NULL: absent, or not wanted */
    bool centred, backward;            /* layer_norm; the VJP */
} invar_cuda_norm_call;

/* Runs the call on `device`, or fills execution->plan but for its flops and bytes. INVAR_ERROR_DTYPE where a tensor is float64. */
invar_status invar_cuda_norm_run(const invar_cuda_norm_call *call, invar_device device, const invar_execution *execution,
                                 invar_context *context);

#endif
