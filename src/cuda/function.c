/* Functions that come as text: kept by their images' names, so that a text that comes again is neither compiled nor loaded again. */
#include "cuda/function.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0, ATTRIBUTE_SHARED_SIZE_BYTES = 1 };

/* Only ever grows, and has no lock that a fork could leave held. */
static _Atomic(invar_cuda_function *) all_functions;

static const invar_cuda_function *find_function(const invar_cuda_device *device, const char *name) {
    const invar_cuda_function *found = atomic_load_explicit(&all_functions, memory_order_acquire);
    while (found && (found->device != device || strcmp(found->name, name))) found = found->next;
    return found;
}

static CUresult load_function(invar_cuda_function *made, const char *image, const char *entry) {
    const invar_cuda_driver *driver = made->device->driver;
    CUcontext popped;
    CUresult error = driver->cuCtxPushCurrent(made->device->context);
    if (error) return error;
    error = invar_cuda_image_load(made->device, image, entry, &made->handle);
    if (!error) error = driver->cuFuncGetAttribute(&made->most_threads, ATTRIBUTE_MAX_THREADS_PER_BLOCK, made->handle);
    if (!error) error = driver->cuFuncGetAttribute(&made->shared, ATTRIBUTE_SHARED_SIZE_BYTES, made->handle);
    driver->cuCtxPopCurrent(&popped);
    return error;
}

invar_status invar_cuda_function_get(const invar_cuda_function **function, const invar_cuda_device *device,
                                     const invar_cuda_text *program, const char *operation, char **log) {
    invar_cuda_image wanted;
    char *image = NULL;
    if (log) *log = NULL;
    INVAR_TRY(invar_cuda_image_find(&wanted, device, program, operation));
    *function = find_function(device, wanted.name);
    if (*function) return INVAR_OK;
    INVAR_TRY(invar_cuda_image_get(&wanted, program, operation, &image, log));
    invar_cuda_function *made = calloc(1, sizeof *made);
    if (!made) {
        free(image);
        return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    }
    made->device = device;
    memcpy(made->name, wanted.name, sizeof made->name);
    const CUresult error = load_function(made, image, program->entry);
    free(image);
    if (error) {
        free(made);
        return invar_cuda_image_refused(device, error, operation);
    }
    made->next = atomic_load(&all_functions);
    while (!atomic_compare_exchange_weak(&all_functions, &made->next, made)) continue;
    *function = made;
    return INVAR_OK;
}

invar_status invar_cuda_function_enqueue(const invar_cuda_function *function, const uint32_t grid[3], const uint32_t block[3],
                                         uint32_t shared, const void *job, void *stream, const char *operation) {
    const invar_cuda_device *device = function->device;
    CUcontext popped;
    void *parameter;
    memcpy(&parameter, &job, sizeof parameter); /* the driver reads it, and its prototype has no const */
    INVAR_TRY(invar_cuda_check(device->driver, device->driver->cuCtxPushCurrent(device->context), "cuCtxPushCurrent", operation));
    CUresult error = device->driver->cuLaunchKernel(function->handle, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared,
                                                    stream, &parameter, NULL);
    device->driver->cuCtxPopCurrent(&popped);
    return invar_cuda_check(device->driver, error, "cuLaunchKernel", operation);
}
