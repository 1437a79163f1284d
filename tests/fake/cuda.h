/* A CUDA driver that is none, for tests on any machine: one pretended GPU whose memory is the host's, and whose kernels do nothing
 * but are noted. A program that links to it finds it wherever libcuda.so.1 is opened. It refuses what a GPU would refuse of a
 * launch: sizes out of range, more shared memory than was asked for, no context. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include "cuda/driver.h"

#define FAKE __attribute__((visibility("default")))

enum { FAKE_LAUNCHES = 64, FAKE_JOB = 4096, FAKE_FAILING = 64 };
enum { FAKE_OUT_OF_MEMORY = 2, FAKE_NOT_INITIALIZED = 3, FAKE_LAUNCH_FAILED = 719 }; /* results, as cuda.h numbers them */

typedef struct fake_launch {
    char function[64];
    unsigned grid[3], block[3], shared;
    CUstream stream;
    char job[FAKE_JOB]; /* the parameter */
} fake_launch;

typedef struct fake_cuda_state {
    /* Set by the test; capability from FAKE_CUDA_CAPABILITY, as in 8.6, where that is set, else 9.0. */
    int devices, major, minor;
    char failing[FAKE_FAILING]; /* the function whose call number `fails_at`, from 0 on, gives `result` instead; "" for none */
    int fails_at;
    CUresult result;
    size_t job_bytes;           /* of a launch's parameter, whose size a driver is not told */
    /* What happened. */
    int launches;               /* launch[i % FAKE_LAUNCHES] */
    fake_launch launch[FAKE_LAUNCHES];
    int modules;                /* loaded, and not unloaded */
    int contexts;               /* pushed by this process, and not popped */
    int retained;               /* primary contexts */
    int allocations;            /* not freed yet */
    int allocated;              /* ever */
    size_t largest;             /* bytes of the largest allocation */
    CUstream memory_stream;     /* of the last allocation or free */
    /* Set by the test, behind what pretended_gpu.py knows: */
    int most_threads;           /* a block, as a function's registers allow */
    int static_shared;          /* bytes of a function */
    /* What happened. */
    int pools;                  /* not destroyed */
} fake_cuda_state;

FAKE extern fake_cuda_state fake_cuda;

/* As after the start; what is loaded stays. */
FAKE void fake_cuda_reset(void);
FAKE void fake_cuda_fail(const char *function, int call, CUresult result);

#endif
