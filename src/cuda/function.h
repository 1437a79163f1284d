/* Functions for CUDA devices that come when the process runs, as text or compiled, and are launched with whatever blocks a launch
 * asks for. */
#ifndef INVAR_CUDA_FUNCTION_H
#define INVAR_CUDA_FUNCTION_H

#include "cuda/module.h"

/* A function that is loaded on a device. It stays until the process ends: work that is enqueued may run it at any time. */
typedef struct invar_cuda_function {
    struct invar_cuda_function *next;
    const invar_cuda_device *device;
    CUfunction handle;
    int most_threads; /* a block, as many as its registers allow */
    int shared;       /* bytes of static shared memory */
    char name[INVAR_SHA256_HEX + 8]; /* its image's, or what the caller tells it by */
} invar_cuda_function;

/* The function program->entry, loaded already, or from the cache, or compiled. log: as in invar_nvrtc_compile, and NULL where
 * nothing was compiled. */
invar_status invar_cuda_function_get(const invar_cuda_function **function, const invar_cuda_device *device,
                                     const invar_cuda_text *program, const char *operation, char **log);

/* The function `entry` of an image that came whole: NUL-terminated PTX, or a cubin. name: tells it from every other. */
invar_status invar_cuda_function_load(const invar_cuda_function **function, const invar_cuda_device *device, const char *image,
                                      const char *entry, const char *name, const char *operation);

/* Enqueues it; parameters: where each of them is. */
invar_status invar_cuda_function_enqueue(const invar_cuda_function *function, const uint32_t grid[3], const uint32_t block[3],
                                         uint32_t shared, void **parameters, void *stream, const char *operation);

#endif
