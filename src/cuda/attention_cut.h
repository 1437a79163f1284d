/* Which program computes a call of scaled_dot_product_attention on a CUDA device, and its tiles. */
#ifndef INVAR_CUDA_ATTENTION_CUT_H
#define INVAR_CUDA_ATTENTION_CUT_H

#include "cuda/attention.h"

enum {
    INVAR_CUDA_ATTENTION_KEYS = 64,       /* of a tile, at least one of which a split takes */
    INVAR_CUDA_ATTENTION_SLAB = 256,      /* features at once: of q and k in turn, and of v and out in a launch each */
    INVAR_CUDA_ATTENTION_FEW_BLOCKS = 64  /* invar_cuda_attention_blocks up to which keys are split */
};

typedef struct invar_cuda_attention_cut {
    const invar_cuda_source *source;
    char defines[INVAR_CUDA_DEFINES];
    int rows, keys;           /* of a block; of a tile */
    unsigned threads, shared; /* of a block; bytes */
    bool apart;               /* the mask's elements are read one by one */
} invar_cuda_attention_cut;

/* of: the call as programs read it. */
invar_status invar_cuda_attention_choose(invar_cuda_attention_cut *c, const invar_attention_call *call, const invar_cuda_attention *of,
                                         const invar_cuda_device *gpu, const char *operation);

/* Tiles of a batch as its shapes have them: of 64 rows, since the rows of a program's blocks may follow strides. */
int64_t invar_cuda_attention_blocks(const invar_attention_call *call);

#endif
