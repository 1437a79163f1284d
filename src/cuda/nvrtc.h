/* CUDA's run-time compiler, opened at run time. It needs no GPU. */
#ifndef INVAR_CUDA_NVRTC_H
#define INVAR_CUDA_NVRTC_H

#include "core/status.h"

#include <stdbool.h>

typedef struct invar_nvrtc invar_nvrtc;

/* INVAR_NVRTC's library where it is set, else libnvrtc.so of the newest version that the loader finds, the process's own first
 * (PyTorch brings one), else the toolkit's in /usr/local/cuda. INVAR_ERROR_ENVIRONMENT where INVAR_NVRTC cannot be opened,
 * INVAR_ERROR_COMPILE where there is none. */
invar_status invar_nvrtc_get(const invar_nvrtc **nvrtc, const char *operation);

/* 13000 for CUDA 13.0. */
int invar_nvrtc_version(const invar_nvrtc *nvrtc);

/* The newest compute capability that it compiles for, as 121 for 12.1. */
int invar_nvrtc_newest(const invar_nvrtc *nvrtc);

typedef struct invar_nvrtc_header {
    const char *name, *text; /* as the source's #include calls it */
} invar_nvrtc_header;

enum { INVAR_NVRTC_TARGET = 32, INVAR_NVRTC_HEADERS = 32 /* at most, of a program */ };

/* "sm_90a" for compute capability 9.0: the device's own machine code; "compute_90", which the driver compiles further, where the
 * device is newer than this NVRTC. */
invar_status invar_nvrtc_target(const invar_nvrtc *nvrtc, int major, int minor, char target[INVAR_NVRTC_TARGET],
                                const char *operation);

/* The options that every program is compiled with. */
extern const char invar_nvrtc_options[];

/* Compiles text; defines are words as in "-DTYPE=float -DCENTRED=1". *image, to be freed, is what cuModuleLoadData takes; so is
 * *log, what the compiler says of the program, taken or refused (log: NULL where that is not asked for; *log is NULL where it said
 * nothing). INVAR_ERROR_COMPILE with the log in the sentence. */
invar_status invar_nvrtc_compile(const invar_nvrtc *nvrtc, const char *name, const char *text,
                                 const invar_nvrtc_header *headers, int header_count, const char *target,
                                 const char *defines, const char *operation, char **image, size_t *size, char **log);

#endif
