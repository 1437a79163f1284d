/* The pretended driver: cuda.h says what it is. Its functions are those that src/cuda/driver.h names, as cuda.h declares them. */
#define _GNU_SOURCE
#include "cuda.h"
#include "cuda/device/mask_rows_job.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500,
       CAPTURE_UNSUPPORTED = 900 };
enum { MOST_THREADS = 1024, MOST_GRID_YZ = 65535, SHARED_WITHOUT_ASKING = 48 << 10 };

fake_cuda_state fake_cuda;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct CUctx_st {
    int device;
};
struct CUmod_st {
    int loaded;
};
struct CUfunc_st {
    char name[64];
    int most_shared;
    struct CUfunc_st *next; /* so that a search for leaks finds them: a function lives as long as its process */
};
struct CUmemPoolHandle_st {
    int made;
};
static struct CUctx_st primary;
static struct CUmemPoolHandle_st the_pool;
static struct CUfunc_st *all_functions;
enum { CAPTURE_RELAXED = 2 };
static _Thread_local int pushed, capture_mode;
static pid_t started_by;

__attribute__((constructor)) void fake_cuda_reset(void) {
    const char *capability = getenv("FAKE_CUDA_CAPABILITY");
    const int modules = fake_cuda.modules, retained = fake_cuda.retained;
    memset(&fake_cuda, 0, sizeof fake_cuda);
    fake_cuda.modules = modules, fake_cuda.retained = retained;
    fake_cuda.devices = 1;
    fake_cuda.most_threads = MOST_THREADS;
    if (!capability || sscanf(capability, "%d.%d", &fake_cuda.major, &fake_cuda.minor) != 2)
        fake_cuda.major = 9, fake_cuda.minor = 0;
}

void fake_cuda_fail(const char *function, int call, CUresult result) {
    snprintf(fake_cuda.failing, sizeof fake_cuda.failing, "%s", function);
    fake_cuda.fails_at = call, fake_cuda.result = result;
}

/* What the test has a call of this function give, or what a driver gives to a process that inherited it; 0: the call does what it
 * should. */
static CUresult failure(const char *function) {
    if (started_by && started_by != getpid()) return FAKE_NOT_INITIALIZED;
    if (strcmp(fake_cuda.failing, function) || fake_cuda.fails_at-- != 0) return 0;
    fake_cuda.failing[0] = 0;
    return fake_cuda.result;
}

/* A function of the driver: its body under the lock, unless the call is to fail. */
#define DRIVER(name, parameters, ...)                \
    FAKE CUresult name parameters;                   \
    CUresult name parameters {                       \
        pthread_mutex_lock(&lock);                   \
        CUresult result = failure(#name);            \
        if (!result) do __VA_ARGS__ while (0);       \
        pthread_mutex_unlock(&lock);                 \
        return result;                               \
    }

DRIVER(cuInit, (unsigned flags), {
    if (flags) result = INVALID_VALUE;
    else started_by = getpid();
})
DRIVER(cuDriverGetVersion, (int *version), { *version = 13000; })
DRIVER(cuDeviceGetCount, (int *count), { *count = fake_cuda.devices; })
DRIVER(cuDeviceGet, (CUdevice *device, int ordinal), {
    if (ordinal < 0 || ordinal >= fake_cuda.devices) result = INVALID_DEVICE;
    else *device = ordinal;
})
DRIVER(cuDeviceGetName, (char *name, int size, CUdevice device), { snprintf(name, (size_t)size, "Pretended GPU %d", device); })

static int shared_most(void) {
    const int of = 10 * fake_cuda.major + fake_cuda.minor;
    return (of == 80 || of == 87 ? 163 : of < 90 || of >= 120 ? 99 : 227) << 10;
}

DRIVER(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device), {
    if (device < 0 || device >= fake_cuda.devices) result = INVALID_DEVICE;
    else if (attribute == 16) *value = 132; /* multiprocessors */
    else if (attribute == 75) *value = fake_cuda.major;
    else if (attribute == 76) *value = fake_cuda.minor;
    else if (attribute == 97) *value = shared_most();
    else result = INVALID_VALUE;
})

/* ---- contexts, modules, functions ------------------------------------------------------------------- */

DRIVER(cuDevicePrimaryCtxRetain, (CUcontext *context, CUdevice device), {
    primary.device = device;
    fake_cuda.retained++;
    *context = &primary;
})
DRIVER(cuCtxPushCurrent_v2, (CUcontext context), {
    if (context != &primary) result = INVALID_CONTEXT;
    else pushed++, fake_cuda.contexts++;
})
DRIVER(cuCtxPopCurrent_v2, (CUcontext *context), {
    if (!pushed) result = INVALID_CONTEXT;
    else pushed--, fake_cuda.contexts--, *context = &primary;
})
DRIVER(cuThreadExchangeStreamCaptureMode, (int *mode), {
    const int before = capture_mode;
    capture_mode = *mode;
    *mode = before;
})
DRIVER(cuModuleLoadData, (CUmodule *module, const void *image), {
    *module = NULL;
    if (!pushed) result = INVALID_CONTEXT;
    else if (capture_mode != CAPTURE_RELAXED) result = CAPTURE_UNSUPPORTED; /* as if the thread captured a graph */
    else if (!image || !(*module = calloc(1, sizeof **module))) result = FAKE_OUT_OF_MEMORY;
    else fake_cuda.modules++;
})
DRIVER(cuModuleUnload, (CUmodule module), {
    free(module);
    fake_cuda.modules--;
})
DRIVER(cuModuleGetFunction, (CUfunction *function, CUmodule module, const char *name), {
    struct CUfunc_st *made = module ? calloc(1, sizeof *made) : NULL;
    if (!made) result = NOT_FOUND;
    else {
        snprintf(made->name, sizeof made->name, "%s", name);
        made->most_shared = SHARED_WITHOUT_ASKING;
        made->next = all_functions;
        all_functions = *function = made;
    }
})
DRIVER(cuFuncGetAttribute, (int *value, int attribute, CUfunction function), {
    if (!function || attribute < 0 || attribute > 1) result = INVALID_VALUE;
    else *value = attribute ? fake_cuda.static_shared : fake_cuda.most_threads;
})
DRIVER(cuFuncSetAttribute, (CUfunction function, int attribute, int value), {
    if (attribute != 8 || value < 0 || value > shared_most() - fake_cuda.static_shared)
        result = INVALID_VALUE; /* most bytes of dynamic shared memory */
    else function->most_shared = value;
})

static bool launchable(const fake_launch *made, const struct CUfunc_st *function) {
    for (int i = 0; i < 3; i++)
        if (!made->grid[i] || !made->block[i] || made->grid[i] > (i ? MOST_GRID_YZ : 0x7fffffffu)) return false;
    return made->block[0] * made->block[1] * made->block[2] <= MOST_THREADS && (int)made->shared <= function->most_shared;
}

/* Of a launch's parameter, which a driver is not told; a test's operation has one job, but for what copies its mask. */
static size_t job_bytes(const char *function) {
    return strcmp(function, "invar_mask_rows") ? fake_cuda.job_bytes : sizeof(invar_cuda_mask_rows_job);
}

DRIVER(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void **arguments,
                        void **extra), {
    fake_launch *made = &fake_cuda.launch[fake_cuda.launches % FAKE_LAUNCHES];
    *made = (fake_launch){ .grid = { grid_x, grid_y, grid_z }, .block = { block_x, block_y, block_z }, .shared = shared_bytes,
                           .stream = stream };
    memcpy(made->function, function->name, sizeof made->function);
    if (!pushed) result = INVALID_CONTEXT;
    else if (extra || !arguments || !launchable(made, function)) result = INVALID_VALUE;
    else {
        memcpy(made->job, arguments[0], job_bytes(made->function));
        fake_cuda.launches++;
    }
})

/* ---- memory, and words ------------------------------------------------------------------------------ */

DRIVER(cuMemPoolCreate, (CUmemoryPool *pool, const CUmemPoolProps *properties), {
    usleep(1000); /* threads that come together then all make one */
    if (capture_mode != CAPTURE_RELAXED) result = CAPTURE_UNSUPPORTED;
    else if (properties->allocType != 1 || properties->location.type != 1) result = INVALID_VALUE;
    else *pool = &the_pool, fake_cuda.pools++;
})
DRIVER(cuMemPoolDestroy, (CUmemoryPool pool), {
    if (pool != &the_pool) result = INVALID_VALUE;
    else fake_cuda.pools--;
})
DRIVER(cuMemPoolSetAttribute, (CUmemoryPool pool, int attribute, void *value), {
    if (pool != &the_pool || attribute != 4 || !*(const uint64_t *)value) result = INVALID_VALUE; /* bytes that it keeps */
})
DRIVER(cuMemAllocFromPoolAsync, (CUdeviceptr *memory, size_t bytes, CUmemoryPool pool, CUstream stream), {
    void *made = pushed && pool == &the_pool && bytes ? aligned_alloc(256, (bytes + 255) / 256 * 256) : NULL;
    if (!made) result = pushed ? bytes ? FAKE_OUT_OF_MEMORY : INVALID_VALUE : INVALID_CONTEXT;
    else fake_cuda.allocations++, fake_cuda.allocated++;
    if (bytes > fake_cuda.largest) fake_cuda.largest = bytes;
    fake_cuda.memory_stream = stream;
    *memory = (CUdeviceptr)(uintptr_t)made;
})
DRIVER(cuMemFreeAsync, (CUdeviceptr memory, CUstream stream), {
    if (!pushed) result = INVALID_CONTEXT;
    else free((void *)(uintptr_t)memory), fake_cuda.allocations--;
    fake_cuda.memory_stream = stream;
})

FAKE CUresult cuGetErrorName(CUresult error, const char **name);
CUresult cuGetErrorName(CUresult error, const char **name) {
    *name = error == FAKE_OUT_OF_MEMORY     ? "CUDA_ERROR_OUT_OF_MEMORY"
            : error == FAKE_NOT_INITIALIZED ? "CUDA_ERROR_NOT_INITIALIZED"
            : error == FAKE_LAUNCH_FAILED   ? "CUDA_ERROR_LAUNCH_FAILED"
                                            : NULL;
    return *name ? 0 : INVALID_VALUE;
}

FAKE CUresult cuGetErrorString(CUresult error, const char **text);
CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == FAKE_OUT_OF_MEMORY     ? "out of memory"
            : error == FAKE_NOT_INITIALIZED ? "initialization error"
            : error == FAKE_LAUNCH_FAILED   ? "unspecified launch failure"
                                            : NULL;
    return *text ? 0 : INVALID_VALUE;
}
