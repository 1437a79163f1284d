/* What the program that writes arrays element by element is told. C and CUDA both read this header. */
#ifndef INVAR_CUDA_ELEMENTS_JOB_H
#define INVAR_CUDA_ELEMENTS_JOB_H

#define INVAR_CUDA_ELEMENT_DIMS 8

typedef struct invar_cuda_elements_job {
    void *to;         /* contiguous */
    const void *from; /* its element 0; NULL: every element of `to` becomes `value` */
    long long count;
    long long shape[INVAR_CUDA_ELEMENT_DIMS], stride[INVAR_CUDA_ELEMENT_DIMS]; /* of `from`, in elements */
    unsigned long long value;
    int ndim, reserved;
} invar_cuda_elements_job;

#endif
