/* Copies of mask arrays on CUDA devices, for programs that take eight elements of a row at once. */
#ifndef INVAR_CUDA_MASK_ROWS_H
#define INVAR_CUDA_MASK_ROWS_H
#include "cuda/attention.h"
#include "cuda/device/mask_rows_job.h"

/* Whether copies of eight elements may take the mask's rows as they are: whole eights, aligned. */
bool invar_cuda_mask_aligned(const invar_cuda_attention *of);

/* How the mask is to be copied, and the bytes that takes: each element once, along keys as many as there are. The address of job->to
 * is the caller's to fill in. */
invar_status invar_cuda_mask_rows_plan(invar_cuda_mask_rows_job *job, size_t *bytes, const invar_cuda_attention *of,
                                       const char *operation);
invar_status invar_cuda_mask_rows_copy(const invar_cuda_device *device, const invar_cuda_mask_rows_job *job, void *stream,
                                       const char *operation);

#endif
