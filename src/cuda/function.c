/* Functions that come when the process runs: kept by their images' names, so that one that comes again is neither compiled nor
 * loaded again. */
#include "cuda/function.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Only ever grows, and has no lock that a fork could leave held. */
static _Atomic(invar_cuda_function *) all_functions;

static const invar_cuda_function *find_function(const invar_cuda_device *device, const char *name) {
    const invar_cuda_function *found = atomic_load_explicit(&all_functions, memory_order_acquire);
    while (found && (found->device != device || strcmp(found->name, name))) found = found->next;
    return found;
}

static CUresult load_function(invar_cuda_function *made, const char *image, const char *entry) {
    const invar_cuda_driver *driver = made->device->driver;
    CUresult error = invar_cuda_image_load(made->device, image, entry, &made->handle);
    if (!error) error = driver->cuFuncGetAttribute(&made->most_threads, INVAR_CUDA_FUNCTION_MOST_THREADS, made->handle);
    if (!error) error = driver->cuFuncGetAttribute(&made->shared, INVAR_CUDA_FUNCTION_STATIC_SHARED, made->handle);
    return error;
}

/* Takes over what find_function will find from now on. *error: the driver's, where it refuses. */
static invar_status add_function(const invar_cuda_function **function, const invar_cuda_device *device, const char *image,
                                 const char *entry, const char *name, const char *operation, CUresult *error) {
    invar_cuda_function *made = calloc(1, sizeof *made);
    if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    made->device = device;
    snprintf(made->name, sizeof made->name, "%s", name);
    invar_status status = invar_cuda_enter(device, operation);
    if (status == INVAR_OK) {
        *error = load_function(made, image, entry);
        invar_cuda_leave(device);
    }
    if (status != INVAR_OK || *error) {
        free(made);
        return status;
    }
    made->next = atomic_load(&all_functions);
    while (!atomic_compare_exchange_weak(&all_functions, &made->next, made)) continue;
    *function = made;
    return INVAR_OK;
}

invar_status invar_cuda_function_get(const invar_cuda_function **function, const invar_cuda_device *device,
                                     const invar_cuda_text *program, const char *operation, char **log) {
    invar_cuda_image wanted;
    char *image = NULL;
    CUresult error = 0;
    if (log) *log = NULL;
    INVAR_TRY(invar_cuda_image_find(&wanted, device, program, operation));
    *function = find_function(device, wanted.name);
    if (*function) return INVAR_OK;
    INVAR_TRY(invar_cuda_image_get(&wanted, program, operation, &image, log));
    invar_status status = add_function(function, device, image, program->entry, wanted.name, operation, &error);
    free(image);
    return error ? invar_cuda_image_refused(device, error, operation) : status;
}

invar_status invar_cuda_function_load(const invar_cuda_function **function, const invar_cuda_device *device, const char *image,
                                      const char *entry, const char *name, const char *operation) {
    CUresult error = 0;
    char what[256];
    *function = find_function(device, name);
    if (*function) return INVAR_OK;
    INVAR_TRY(add_function(function, device, image, entry, name, operation, &error));
    snprintf(what, sizeof what, "loading %.200s", entry);
    return invar_cuda_check(device->driver, error, what, operation);
}

invar_status invar_cuda_function_enqueue(const invar_cuda_function *function, const uint32_t grid[3], const uint32_t block[3],
                                         uint32_t shared, void **parameters, void *stream, const char *operation) {
    const invar_cuda_device *device = function->device;
    INVAR_TRY(invar_cuda_enter(device, operation));
    CUresult error = device->driver->cuLaunchKernel(function->handle, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared,
                                                    stream, parameters, NULL);
    invar_cuda_leave(device);
    return invar_cuda_check(device->driver, error, "cuLaunchKernel", operation);
}
