/* The CUDA driver, opened at run time: nothing here is built with or linked to CUDA. Names and types are those of cuda.h. */
#ifndef INVAR_CUDA_DRIVER_H
#define INVAR_CUDA_DRIVER_H

#include "core/status.h"

#include <stdbool.h>

typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUmemPoolHandle_st *CUmemoryPool;

enum { /* CUfunction_attribute */
    INVAR_CUDA_FUNCTION_MOST_THREADS = 0,  /* a block */
    INVAR_CUDA_FUNCTION_STATIC_SHARED = 1, /* bytes */
    INVAR_CUDA_FUNCTION_MOST_DYNAMIC_SHARED = 8
};
enum { INVAR_CUDA_CAPTURE_RELAXED = 2 }; /* a mode in which what is no work of a stream may be done while this thread captures one */

typedef struct CUmemPoolProps {
    int allocType, handleTypes;
    struct {
        int type, id;
    } location;
    char others[72]; /* zeros; as many as the newest cuda.h has */
} CUmemPoolProps;

typedef struct invar_cuda_driver {
    CUresult (*cuInit)(unsigned flags);
    CUresult (*cuDriverGetVersion)(int *version);
    CUresult (*cuGetErrorName)(CUresult error, const char **name);
    CUresult (*cuGetErrorString)(CUresult error, const char **text);
    CUresult (*cuDeviceGetCount)(int *count);
    CUresult (*cuDeviceGet)(CUdevice *device, int ordinal);
    CUresult (*cuDeviceGetName)(char *name, int size, CUdevice device);
    CUresult (*cuDeviceGetAttribute)(int *value, int attribute, CUdevice device);
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *context, CUdevice device);
    CUresult (*cuCtxPushCurrent)(CUcontext context);
    CUresult (*cuCtxPopCurrent)(CUcontext *context);
    CUresult (*cuModuleLoadData)(CUmodule *module, const void *image);
    CUresult (*cuModuleUnload)(CUmodule module);
    CUresult (*cuModuleGetFunction)(CUfunction *function, CUmodule module, const char *name);
    CUresult (*cuFuncGetAttribute)(int *value, int attribute, CUfunction function);
    CUresult (*cuFuncSetAttribute)(CUfunction function, int attribute, int value);
    CUresult (*cuLaunchKernel)(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                               unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **arguments,
                               void **extra);
    CUresult (*cuThreadExchangeStreamCaptureMode)(int *mode);
    CUresult (*cuMemPoolCreate)(CUmemoryPool *pool, const CUmemPoolProps *properties);
    CUresult (*cuMemPoolDestroy)(CUmemoryPool pool);
    CUresult (*cuMemPoolSetAttribute)(CUmemoryPool pool, int attribute, void *value);
    CUresult (*cuMemAllocFromPoolAsync)(CUdeviceptr *memory, size_t bytes, CUmemoryPool pool, CUstream stream);
    CUresult (*cuMemFreeAsync)(CUdeviceptr memory, CUstream stream);
    int version; /* as in 13000 for CUDA 13.0 */
} invar_cuda_driver;

/* A GPU whose primary context, the one that the runtime and PyTorch use, is held until the process ends. */
typedef struct invar_cuda_device {
    const invar_cuda_driver *driver;
    int id;
    CUcontext context;
    CUmemoryPool scratch;
    char name[128];
    int major, minor;      /* compute capability */
    int multiprocessors;
    int shared_most;       /* bytes of shared memory that a block may ask for */
} invar_cuda_device;

/* GPUs that the driver shows; 0, with the reason, where there is no driver, or it does not start, or this process was forked from
 * one that had started it: CUDA does not live through that. */
int invar_cuda_count(char *reason, size_t reason_size);

/* Device `id`, prepared at its first use. INVAR_ERROR_DEVICE without a driver or such a device, or where the device is older
 * than compute capability 8.0. */
invar_status invar_cuda_device_get(const invar_cuda_device **device, int id, const char *operation);

/* INVAR_ERROR_DEVICE with the driver's words, INVAR_ERROR_MEMORY where it ran out of it; OK for 0. what: as in "cuLaunchKernel". */
invar_status invar_cuda_check(const invar_cuda_driver *driver, CUresult result, const char *what, const char *operation);

/* Makes the device's context this thread's current one; invar_cuda_leave gives back the one before. */
invar_status invar_cuda_enter(const invar_cuda_device *device, const char *operation);
void invar_cuda_leave(const invar_cuda_device *device);

#endif
