/* rope and its VJP on CUDA devices. */
#ifndef INVAR_CUDA_ROPE_H
#define INVAR_CUDA_ROPE_H

#include "core/context.h"
#include "cpu/kernels/rope.h"

/* Enqueues the checked job on x's device, or fills execution->plan but for its flops and bytes. The job is the CPU's, without what
 * only its kernels need: stream, flows and block. offsets and freqs may be in the device's memory or in the CPU's; high and low are
 * needed but where freqs is in the device's. INVAR_ERROR_DTYPE where x is float64. */
invar_status invar_cuda_rope_run(const invar_rope_job *job, invar_device device, const invar_execution *execution,
                                 const char *operation, const char *argument);

/* Whether the device reads a tensor itself. */
static inline bool invar_cuda_rope_there(const invar_view *view) { return view->data && view->device.type == INVAR_DEVICE_CUDA; }

#endif
