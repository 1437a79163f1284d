/* peak: as many multiply-adds as the instruction set can do, for the roofs of invar_context_measure. */
#ifndef INVAR_CPU_KERNELS_PEAK_H
#define INVAR_CPU_KERNELS_PEAK_H

#include <stdbool.h>

/* A millisecond or more of multiply-adds that wait for neither memory nor each other, in float32 (float64 in the
 * reference) or as bfloat16 attention multiplies. Returns how many FLOPs that was, two for each product and its addition.
 * `sink` receives a number that depends on all of them. */
typedef double invar_peak_kernel(bool bf16, float *sink);

#endif
