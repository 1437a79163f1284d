/* How scaled_dot_product_attention_vjp is cut on Hopper's asynchronous products. */
#ifndef INVAR_CUDA_ATTENTION_VJP_WGMMA_H
#define INVAR_CUDA_ATTENTION_VJP_WGMMA_H
#include "cpu/kernels/attention_vjp.h"
#include "cuda/module.h"

enum { INVAR_CUDA_VJP_WIDE = 128 }; /* features beyond which registers hold the sums of one gradient and one strip */

/* One program that holds `rows` queries or keys a block. */
typedef struct invar_cuda_vjp_pass {
    const invar_cuda_source *source;
    char defines[INVAR_CUDA_DEFINES];
    int rows, columns, slabs; /* columns: keys of a tile of dmask */
    unsigned threads, shared; /* bytes of a block */
} invar_cuda_vjp_pass;

/* Why the program does not take the call; NULL: it does, where the GPU has such products. mask: the mask array's kind, or -1. */
const char *invar_cuda_attention_vjp_against_wgmma(const invar_attention_call *call, int mask);

/* How queries and keys are cut; gives the number of passes over keys: dk and dv are formed together, whichever is asked for, but of
 * wide heads each by itself. mask: its kind, or -1; copied: 16-byte copies may take the rows of q, k, v and dout. */
int invar_cuda_attention_vjp_cut_wgmma(invar_cuda_vjp_pass *query, invar_cuda_vjp_pass keys[2], const invar_attention_vjp_call *call,
                                       int mask, bool copied);

#endif
