/* How scaled_dot_product_attention_vjp of float32 is cut on Hopper's asynchronous products, a number as three of bfloat16. */
#ifndef INVAR_CUDA_ATTENTION_VJP_PARTS_H
#define INVAR_CUDA_ATTENTION_VJP_PARTS_H
#include "cuda/attention_vjp_wgmma.h"

/* Why the program does not take the call, one of float32; NULL: it does, where the GPU has such products. */
const char *invar_cuda_attention_vjp_against_parts(const invar_attention_call *call);

/* vector: all rows are float32 that 16-byte reads may take. */
void invar_cuda_attention_vjp_cut_parts(invar_cuda_vjp_pass *p, const invar_attention_call *call, bool vector, bool by_keys);

#endif
