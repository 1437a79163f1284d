/* Custom kernels on CUDA devices. */
#ifndef INVAR_JIT_KERNEL_CUDA_H
#define INVAR_JIT_KERNEL_CUDA_H

#include "jit/kernel_arguments.h"

/* Enqueues a launch whose outputs are on a->device: copies and init_value, then the kernel. It waits for nothing but the compiler. */
invar_status invar_kernel_run_cuda(invar_kernel *kernel, invar_context *context, invar_arguments *a, invar_launch *launch,
                                   const invar_launch_options *options, int32_t check);

#endif
