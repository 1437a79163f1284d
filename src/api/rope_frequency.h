/* Rope's frequencies to more than double precision. */
#ifndef INVAR_API_ROPE_FREQUENCY_H
#define INVAR_API_ROPE_FREQUENCY_H

#include "cpu/kernels/rope.h"

/* scale · base^(-2i/dims) · 2/π, or scale / freqs[i] · 2/π where freqs has data, for i in 0 … dims/2 - 1, as high + low, with
 * a relative error below 2^-75. From additions, multiplications and divisions alone: the same bits on every machine. A
 * frequency below 2^-512 becomes 0, one that is not below 2^512 in size NaN. high and low hold `padded` doubles each; the rest
 * becomes 0. */
void invar_rope_frequencies(double *high, double *low, int64_t dims, int64_t padded, double base, double scale,
                            const invar_view *freqs);

#endif
