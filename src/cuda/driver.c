/* Opening the CUDA driver, and the devices that it shows. Nothing is locked, so nothing stays locked across a fork: two threads that
 * come first both open the driver, or prepare a device, and one of the results is kept. A forked child is told that it cannot use
 * what it inherits. */
#include "cuda/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEVICES = 64, LEAST_MAJOR = 8, KEPT_SCRATCH = 64 << 20 /* bytes */ };
enum { /* CUdevice_attribute */
    ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97
};
enum { RESULT_OUT_OF_MEMORY = 2, RESULT_NOT_INITIALIZED = 3 };

/* ---- the driver ------------------------------------------------------------------------------------ */

typedef struct opened {
    invar_cuda_driver driver;
    int devices;
    char reason[256]; /* why there are none; "" where there are */
} opened;

static _Atomic(opened *) the_driver;

static const char in_a_child[] = "this process was forked from one that had started CUDA, and cannot use it: start the other process "
                                 "anew (in Python, multiprocessing's 'spawn')";
static atomic_bool inherited; /* the_driver was started by a parent of this process */
static void note_fork(void) { atomic_store(&inherited, atomic_load(&the_driver) != NULL); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, note_fork); }

/* The object pointer that dlsym gives, as a function of whatever type `function` has. */
static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* cuda.h renames some functions: what a program calls cuCtxPushCurrent is exported as cuCtxPushCurrent_v2. */
static bool find_all(void *library, invar_cuda_driver *d) {
#define FIND(name) find(library, #name, &d->name)
#define FIND_V2(name) find(library, #name "_v2", &d->name)
    return FIND(cuInit) && FIND(cuDriverGetVersion) && FIND(cuGetErrorName) && FIND(cuGetErrorString) &&
           FIND(cuDeviceGetCount) && FIND(cuDeviceGet) && FIND(cuDeviceGetName) && FIND(cuDeviceGetAttribute) &&
           FIND(cuDevicePrimaryCtxRetain) && FIND_V2(cuCtxPushCurrent) && FIND_V2(cuCtxPopCurrent) &&
           FIND(cuModuleLoadData) && FIND(cuModuleUnload) && FIND(cuModuleGetFunction) && FIND(cuFuncGetAttribute) &&
           FIND(cuFuncSetAttribute) && FIND(cuLaunchKernel) && FIND(cuThreadExchangeStreamCaptureMode) &&
           FIND(cuMemPoolCreate) && FIND(cuMemPoolDestroy) && FIND(cuMemPoolSetAttribute) && FIND(cuMemAllocFromPoolAsync) &&
           FIND(cuMemFreeAsync);
#undef FIND
#undef FIND_V2
}

static const char *words_of(const invar_cuda_driver *driver, CUresult result) {
    const char *words = NULL;
    if (driver->cuGetErrorString(result, &words) || !words) words = "an error without a name";
    return words;
}

static void open_driver(opened *made) {
    invar_cuda_driver *driver = &made->driver;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(made->reason, sizeof made->reason, "there is no NVIDIA driver: %.200s", dlerror());
        return;
    }
    if (!find_all(library, driver)) {
        snprintf(made->reason, sizeof made->reason, "the NVIDIA driver is older than CUDA 11.2");
        return;
    }
    CUresult result = driver->cuInit(0);
    if (!result) result = driver->cuDriverGetVersion(&driver->version);
    if (!result) result = driver->cuDeviceGetCount(&made->devices);
    if (result == RESULT_NOT_INITIALIZED) /* what it tells a child whose parent started it by other means, as PyTorch */
        snprintf(made->reason, sizeof made->reason, "%s", in_a_child);
    else if (result)
        snprintf(made->reason, sizeof made->reason, "the NVIDIA driver does not start: %.200s", words_of(driver, result));
    else if (!made->devices)
        snprintf(made->reason, sizeof made->reason, "the NVIDIA driver shows no GPU");
}

/* NULL when out of memory. */
static const opened *get_driver(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    opened *known = atomic_load(&the_driver);
    if (known) return known;
    pthread_once(&once, watch_forks);
    opened *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    open_driver(made);
    if (atomic_compare_exchange_strong(&the_driver, &known, made)) return made;
    free(made);
    return known;
}

int invar_cuda_count(char *reason, size_t reason_size) {
    const opened *found = get_driver();
    const char *why = !found ? "out of memory" : !*found->reason && atomic_load(&inherited) ? in_a_child : found->reason;
    snprintf(reason, reason_size, "%s", why);
    return *why ? 0 : found->devices;
}

invar_status invar_cuda_check(const invar_cuda_driver *driver, CUresult result, const char *what, const char *operation) {
    const char *name = NULL;
    if (!result) return INVAR_OK;
    if (driver->cuGetErrorName(result, &name) || !name) name = "unknown";
    return invar_fail(result == RESULT_OUT_OF_MEMORY ? INVAR_ERROR_MEMORY : INVAR_ERROR_DEVICE, "%s: %s failed: %s (%s)",
                      operation, what, words_of(driver, result), name);
}

/* ---- devices ---------------------------------------------------------------------------------------- */

static _Atomic(invar_cuda_device *) devices[MAX_DEVICES];

enum { ALLOCATION_PINNED = 1, LOCATION_DEVICE = 1, POOL_RELEASE_THRESHOLD = 4 };

/* Scratch memory has a pool of its own, which keeps what is given back: the device's hands all of it to the system whenever a stream
 * is waited for, and the next call's then takes longer than the call. Where there are no pools, taking from it fails. */
static void make_scratch(invar_cuda_device *made) {
    const CUmemPoolProps properties = { .allocType = ALLOCATION_PINNED, .location = { LOCATION_DEVICE, made->id } };
    uint64_t kept = KEPT_SCRATCH;
    int mode = INVAR_CUDA_CAPTURE_RELAXED;
    made->driver->cuThreadExchangeStreamCaptureMode(&mode);
    if (made->driver->cuMemPoolCreate(&made->scratch, &properties)) made->scratch = NULL;
    else made->driver->cuMemPoolSetAttribute(made->scratch, POOL_RELEASE_THRESHOLD, &kept);
    made->driver->cuThreadExchangeStreamCaptureMode(&mode);
}

static invar_status prepare(invar_cuda_device *made, const char *operation) {
    const invar_cuda_driver *driver = made->driver;
    CUdevice device = 0;
    CUresult result = driver->cuDeviceGet(&device, made->id);
    const struct {
        int *value, attribute;
    } attributes[] = { { &made->major, ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR },
                       { &made->minor, ATTRIBUTE_COMPUTE_CAPABILITY_MINOR },
                       { &made->multiprocessors, ATTRIBUTE_MULTIPROCESSOR_COUNT },
                       { &made->shared_most, ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN } };
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes && !result; i++)
        result = driver->cuDeviceGetAttribute(attributes[i].value, attributes[i].attribute, device);
    if (!result) result = driver->cuDeviceGetName(made->name, (int)sizeof made->name, device);
    INVAR_TRY(invar_cuda_check(driver, result, "reading a CUDA device's properties", operation));
    if (made->major < LEAST_MAJOR)
        return invar_fail(INVAR_ERROR_DEVICE, "%s: expected a GPU of compute capability %d.0 or newer, got %s, which has %d.%d",
                          operation, LEAST_MAJOR, made->name, made->major, made->minor);
    INVAR_TRY(invar_cuda_check(driver, driver->cuDevicePrimaryCtxRetain(&made->context, device), "cuDevicePrimaryCtxRetain",
                               operation));
    make_scratch(made);
    return INVAR_OK;
}

invar_status invar_cuda_device_get(const invar_cuda_device **device, int id, const char *operation) {
    char reason[256];
    const int count = invar_cuda_count(reason, sizeof reason);
    if (!count) return invar_fail(INVAR_ERROR_DEVICE, "%s: expected a CUDA device, got none: %s", operation, reason);
    if (id < 0 || id >= count || id >= MAX_DEVICES)
        return invar_fail(INVAR_ERROR_DEVICE, "%s: expected a CUDA device from 0 to %d, got %d", operation, count - 1, id);
    invar_cuda_device *known = atomic_load_explicit(&devices[id], memory_order_acquire);
    if (!known) {
        invar_cuda_device *made = calloc(1, sizeof *made);
        if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
        made->driver = &get_driver()->driver;
        made->id = id;
        invar_status status = prepare(made, operation);
        if (status == INVAR_OK && atomic_compare_exchange_strong(&devices[id], &known, made)) {
            known = made;
        } else {
            if (made->scratch) made->driver->cuMemPoolDestroy(made->scratch);
            free(made);
        }
        if (status != INVAR_OK) return status;
    }
    *device = known;
    return INVAR_OK;
}

invar_status invar_cuda_enter(const invar_cuda_device *device, const char *operation) {
    return invar_cuda_check(device->driver, device->driver->cuCtxPushCurrent(device->context), "cuCtxPushCurrent", operation);
}

void invar_cuda_leave(const invar_cuda_device *device) {
    CUcontext popped;
    device->driver->cuCtxPopCurrent(&popped);
}
