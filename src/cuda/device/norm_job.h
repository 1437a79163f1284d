/* What the norms' programs for CUDA devices are told: one struct by value. C and CUDA both read this header, so the sizes here are
 * those of both. */
#ifndef INVAR_CUDA_NORM_JOB_H
#define INVAR_CUDA_NORM_JOB_H

#define INVAR_CUDA_NORM_DIMS 8

/* Element types, as the program that merges is told them. */
#define INVAR_CUDA_NORM_F32 0
#define INVAR_CUDA_NORM_F16 1
#define INVAR_CUDA_NORM_BF16 2

/* A tensor as rows; strides in bytes. data NULL: absent. */
typedef struct invar_cuda_norm_operand {
    char *data;
    long long step; /* from one feature to the next */
    long long stride[INVAR_CUDA_NORM_DIMS];
} invar_cuda_norm_operand;

/* weight or bias, one element a feature. */
typedef struct invar_cuda_norm_vector {
    const char *data;
    long long step;
} invar_cuda_norm_vector;

typedef struct invar_cuda_norm_job {
    invar_cuda_norm_operand x, other, y, sum; /* forward: residual, y, sum; backward: dy, dx */
    invar_cuda_norm_vector weight, bias;
    long long features, rows;
    long long shape[INVAR_CUDA_NORM_DIMS]; /* of the rows */
    int ndim;
    float eps;
    /* Backward, where dweight or dbias is wanted: chunk c, of chunk_rows rows, leaves its sums at partial + c · vectors · pitch:
     * dweight's, then, of layer_norm, dbias's, `pitch` floats behind. */
    long long chunk_rows, chunks, pitch;
    float *partial;
} invar_cuda_norm_job;

/* dweight or dbias; data NULL: not wanted. */
typedef struct invar_cuda_norm_sum {
    char *data;
    long long step;
    long long kind; /* element type */
} invar_cuda_norm_sum;

/* Adds up the chunks' sums: chunk c's of vector v are at partial + (c · vectors + v) · pitch. */
typedef struct invar_cuda_norm_merge_job {
    const float *partial;
    long long chunks, pitch, features, vectors;
    invar_cuda_norm_sum sum[2];
} invar_cuda_norm_merge_job;

#endif
