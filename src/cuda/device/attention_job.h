/* What attention's programs for CUDA devices are told: one struct by value. C and CUDA both read this header, so the sizes here
 * are those of both. */
#ifndef INVAR_CUDA_ATTENTION_JOB_H
#define INVAR_CUDA_ATTENTION_JOB_H

/* Element types. Programs take those of q, k and v as constants and read the others' at run time. */
#define INVAR_CUDA_F32 0
#define INVAR_CUDA_F16 1
#define INVAR_CUDA_BF16 2
#define INVAR_CUDA_BOOL 3
#define INVAR_CUDA_I8 4
#define INVAR_CUDA_I16 5
#define INVAR_CUDA_I32 6
#define INVAR_CUDA_I64 7
#define INVAR_CUDA_U8 8
#define INVAR_CUDA_U16 9
#define INVAR_CUDA_U32 10
#define INVAR_CUDA_U64 11

#define INVAR_CUDA_BATCH_DIMS 6

/* A tensor as (batch…, head, row, column); strides in bytes. data NULL: absent. reserved: 0. */
typedef struct invar_cuda_operand {
    char *data;
    long long batch_stride[INVAR_CUDA_BATCH_DIMS];
    long long head_stride, row_stride, column_stride;
    int kind, reserved;
} invar_cuda_operand;

/* The checked call, as forward and backward programs need it. */
typedef struct invar_cuda_attention {
    invar_cuda_operand q, k, v, out, lse, mask;
    invar_cuda_operand sinks;   /* along head_stride */
    invar_cuda_operand lengths; /* kv_lengths, along row_stride, a batch each; not checked: clamped to 0 … key_len when read */
    long long batch_shape[INVAR_CUDA_BATCH_DIMS];
    long long batch, query_heads, kv_heads;
    int batch_ndim, group;              /* group: query heads that read one kv head */
    int query_len, key_len;             /* group · query_len and query_len + key_len stay below 2^30 */
    int key_dim, value_dim;
    int window_left, window_right;      /* -1: unbounded; causal is window_right = 0 */
    float score_scale;                  /* scale · log2(e) */
    float cap_scale, cap_height;        /* scale / softcap, softcap · log2(e) */
    float scale;
} invar_cuda_attention;

/* A forward launch. A unit is one batch and one kv head; its rows are the group · query_len query rows that read that head:
 * row r is query r / group of head kv_head · group + r % group. */
typedef struct invar_cuda_attention_job {
    invar_cuda_attention of;
    long long batch_first, batches; /* batches of this launch: its units are batches · kv_heads */
    int tiles;                      /* of a unit's rows */
    int splits, split_keys;         /* pieces of a row's keys, split_keys each, that are computed apart and merged; 1: whole */
    int section;                    /* units whose tiles take turns in the grid, last tiles first: those of a section's K and V lie in
                                     * the L2 cache, and tiles that share a mask run together */
    float *parts;                   /* splits > 1: for each row of the launch and each split value_dim numbers of o, … */
    float *stats;                   /* … and m, l */
} invar_cuda_attention_job;

#endif
