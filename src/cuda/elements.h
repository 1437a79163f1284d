/* Arrays on a CUDA device, copied to row-major order and filled. */
#ifndef INVAR_CUDA_ELEMENTS_H
#define INVAR_CUDA_ELEMENTS_H

#include "core/tensor.h"
#include "cuda/module.h"

/* Copies every element of the view, in row-major order, to the device's memory at `to`. */
invar_status invar_cuda_elements_copy(const invar_cuda_device *device, void *to, const invar_view *view, void *stream,
                                      const char *operation);
/* Gives `count` elements of the type, at `to`, the value, whose bytes begin `bytes`. */
invar_status invar_cuda_elements_fill(const invar_cuda_device *device, void *to, int64_t count, invar_dtype dtype,
                                      const void *bytes, void *stream, const char *operation);

#endif
