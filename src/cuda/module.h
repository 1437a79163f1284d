/* Device kernels: compiled for the GPU at hand when first used, kept on disk and in the process, launched. */
#ifndef INVAR_CUDA_MODULE_H
#define INVAR_CUDA_MODULE_H

#include "cuda/driver.h"
#include "cuda/nvrtc.h"

#include <stdint.h>

enum { INVAR_CUDA_DEFINES = 512 }; /* bytes of the words that specialise a program, a NUL included */

/* Fills in the words of specialisation i on a GPU of this compute capability, as a launch there would name them: those that differ
 * in more than a number that registers and shared memory do not depend on. False past the last, and from 0 on where the program
 * is not used on such a GPU. */
typedef bool invar_cuda_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]);

/* A program of device/, embedded as text, with one __global__ function, whose one parameter is a struct by value. */
typedef struct invar_cuda_source {
    const char *file, *text;
    const char *entry; /* the function's name */
    invar_cuda_variant *variant;
} invar_cuda_source;

/* invar_cuda_<name> of each row, and the function that lists its specialisations. */
#define INVAR_CUDA_HEADER(name, file)
#define INVAR_CUDA_PROGRAM(name, file, entry)            \
    extern const invar_cuda_source invar_cuda_##name;    \
    invar_cuda_variant invar_cuda_##name##_variant;
#include "cuda/programs.def"
#undef INVAR_CUDA_PROGRAM
#undef INVAR_CUDA_HEADER

/* Every program; NULL behind the last. */
extern const invar_cuda_source *const invar_cuda_sources[];
/* What they include. */
extern const invar_nvrtc_header invar_cuda_headers[];
extern const int invar_cuda_header_count;

typedef struct invar_cuda_launch {
    const invar_cuda_source *source;
    const char *defines; /* "-DNAME=VALUE …": what specialises the program; a few of them for each operation */
    uint32_t grid[3];    /* blocks */
    unsigned threads;    /* a block */
    unsigned shared;     /* bytes of dynamic shared memory a block */
    const void *job;     /* the function's parameter */
} invar_cuda_launch;

/* Enqueues it on the stream (NULL: the default one). INVAR_ERROR_COMPILE without NVRTC, INVAR_ERROR_DEVICE where the driver
 * refuses, INVAR_ERROR_ENVIRONMENT where INVAR_CACHE_DIR or INVAR_NVRTC cannot be honoured. */
invar_status invar_cuda_enqueue(const invar_cuda_device *device, const invar_cuda_launch *launch, void *stream,
                                const char *operation);

/* Compiles it for `target` ("sm_90a") without a GPU. *image is to be freed, and *log, what the compiler said, where it is asked for
 * (log: NULL otherwise). */
invar_status invar_cuda_build(const invar_cuda_source *source, const char *defines, const char *target, const char *operation,
                              char **image, size_t *size, char **log);

/* ---- functions that come when the process runs ------------------------------------------------------ */

/* A program as NVRTC takes it; words: options besides invar_nvrtc_options. */
typedef struct invar_cuda_text {
    const char *file, *text, *entry, *words;
    const invar_nvrtc_header *headers;
    int header_count;
} invar_cuda_text;

/* A function that is loaded on a device. It stays until the process ends: work that is enqueued may run it at any time. */
typedef struct invar_cuda_function {
    struct invar_cuda_function *next;
    const invar_cuda_device *device;
    const invar_cuda_source *source; /* of one of the library's own, whose name is its defines; NULL: its name tells it */
    CUfunction handle;
    int most_threads; /* a block, as many as its registers allow */
    int shared;       /* bytes of static shared memory */
    char name[];      /* its image's, or what the caller tells it by */
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

/* ---- scratch ---------------------------------------------------------------------------------------- */

/* Device memory that work on the stream may use from then on, NULL for 0 bytes; given back, work that is enqueued may still use
 * it. */
invar_status invar_cuda_scratch_take(const invar_cuda_device *device, void **memory, size_t bytes, void *stream,
                                     const char *operation);
void invar_cuda_scratch_give(const invar_cuda_device *device, void *memory, void *stream);

#endif
