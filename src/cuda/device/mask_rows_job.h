/* What the program that copies a mask array to aligned rows is told. C and CUDA both read this header. */
#ifndef INVAR_CUDA_MASK_ROWS_JOB_H
#define INVAR_CUDA_MASK_ROWS_JOB_H
#include "attention_job.h"

typedef struct invar_cuda_mask_rows_job {
    invar_cuda_operand from, to; /* to: rows of whole eights, one behind the other; stride 0 where from has it, but for keys */
    long long batch_shape[INVAR_CUDA_BATCH_DIMS], heads; /* 1 where the stride is 0, */
    long long tiles;                                     /* of all heads */
    int batch_ndim, rows, columns, row_tiles, column_tiles; /* rows: likewise */
} invar_cuda_mask_rows_job;

#endif
