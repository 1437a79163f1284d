/* What the programs of attention's VJP for CUDA devices are told: one struct by value, read by C and by CUDA. */
#ifndef INVAR_CUDA_ATTENTION_VJP_JOB_H
#define INVAR_CUDA_ATTENTION_VJP_JOB_H
#include "attention_job.h"

typedef struct invar_cuda_attention_vjp_job {
    invar_cuda_attention of;             /* out and lse are inputs here */
    invar_cuda_operand dout, dlse, dq, dk, dv;
    invar_cuda_operand dsinks;           /* along head_stride */
    invar_cuda_operand dmask;            /* stride 0 along what is summed over */
    long long mask_batch_shape[INVAR_CUDA_BATCH_DIMS], mask_batch, mask_heads; /* dmask's sizes: the call's, or 1 */
    int mask_queries, mask_keys;
    long long batch_first, batches;      /* of this launch; for dmask: of dmask's batches */
    int query_tiles, key_tiles;          /* of what the launch's blocks are cut into */
    int section;                         /* heads whose tiles take turns in the grid, longest tiles first: their far rows lie in the L2
                                          * cache */
    float shift;                         /* weights are computed as 2^shift times what they are: float16 has few small numbers */
    float *rows;                         /* (batch, query head, query): lse in base 2 less shift; sum of dout · out, less dlse */
    char *again;                         /* of each row of what the blocks hold, in order: 1 where attention_vjp_parts.cu leaves it to
                                          * attention_vjp_float.cu; NULL: the latter forms all */
} invar_cuda_attention_vjp_job;

#endif
