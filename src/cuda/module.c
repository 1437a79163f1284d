/* From a program's text to a launch: NVRTC, the cache on disk, the functions that this process has loaded, whether they are the
 * library's own or came when it runs. */
#include "cuda/module.h"

#include "core/cache.h"
#include "core/sha256.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- images ----------------------------------------------------------------------------------------- */

static invar_cuda_text text_of(const invar_cuda_source *source, const char *defines) {
    return (invar_cuda_text){ source->file, source->text, source->entry, defines, invar_cuda_headers, invar_cuda_header_count };
}

static invar_status build(const invar_cuda_text *program, const char *target, const char *operation, char **image, size_t *size,
                          char **log) {
    const invar_nvrtc *nvrtc;
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    return invar_nvrtc_compile(nvrtc, program->file, program->text, program->headers, program->header_count, target,
                               program->words, operation, image, size, log);
}

invar_status invar_cuda_build(const invar_cuda_source *source, const char *defines, const char *target, const char *operation,
                              char **image, size_t *size, char **log) {
    const invar_cuda_text program = text_of(source, defines);
    return build(&program, target, operation, image, size, log);
}

/* The image that a device needs, and its name in the cache, which says everything that it depends on. */
typedef struct wanted_image {
    char target[INVAR_NVRTC_TARGET], name[INVAR_SHA256_HEX + 8];
} wanted_image;

static invar_status name_image(wanted_image *image, const invar_cuda_device *device, const invar_cuda_text *program,
                               const char *operation) {
    char version[16], key[INVAR_SHA256_HEX];
    uint8_t digest[INVAR_SHA256_BYTES];
    const invar_nvrtc *nvrtc;
    invar_sha256 hash;
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    INVAR_TRY(invar_nvrtc_target(nvrtc, device->major, device->minor, image->target, operation));
    snprintf(version, sizeof version, "%d", invar_nvrtc_version(nvrtc));
    invar_sha256_begin(&hash);
    invar_sha256_add_string(&hash, invar_version());
    invar_sha256_add_string(&hash, version);
    invar_sha256_add_string(&hash, image->target);
    invar_sha256_add_string(&hash, invar_nvrtc_options);
    invar_sha256_add_string(&hash, program->words);
    invar_sha256_add_string(&hash, program->text);
    for (int i = 0; i < program->header_count; i++) invar_sha256_add_string(&hash, program->headers[i].text);
    invar_sha256_end(&hash, digest);
    invar_sha256_hex(digest, key);
    snprintf(image->name, sizeof image->name, "%s.cubin", key);
    return INVAR_OK;
}

/* From the cache, else compiled and published. *data is to be freed; log: as in invar_nvrtc_compile. */
static invar_status get_image(const wanted_image *image, const invar_cuda_text *program, const char *operation, char **data,
                              char **log) {
    invar_cache cache;
    invar_cache_entry entry;
    size_t size = 0;
    invar_cache_open(&cache);
    bool found = invar_cache_get(&cache, image->name, &entry);
    invar_status status = invar_cache_require(&cache, !found, operation);
    if (found && status == INVAR_OK) {
        *data = entry.data;
        entry.data = NULL;
    } else if (status == INVAR_OK) {
        status = build(program, image->target, operation, data, &size, log);
        if (status == INVAR_OK && invar_cache_put(&cache, image->name, *data, size)) invar_cache_trim(&cache, INVAR_CACHE_LIMIT);
    }
    invar_cache_entry_close(&entry);
    invar_cache_close(&cache);
    return status;
}

/* ---- what is loaded ---------------------------------------------------------------------------------- */

/* Only ever grows, and has no lock that a fork could leave held. */
static _Atomic(invar_cuda_function *) all_functions;

static const invar_cuda_function *find_function(const invar_cuda_device *device, const invar_cuda_source *source, const char *name) {
    const invar_cuda_function *found = atomic_load_explicit(&all_functions, memory_order_acquire);
    while (found && (found->device != device || found->source != source || strcmp(found->name, name))) found = found->next;
    return found;
}

/* A launch may ask for all the dynamic shared memory that a block can have, whatever the first asked. */
static CUresult load_function(invar_cuda_function *made, const char *image, const char *entry) {
    const invar_cuda_driver *driver = made->device->driver;
    CUmodule module;
    CUresult error = driver->cuModuleLoadData(&module, image);
    if (error) return error;
    error = driver->cuModuleGetFunction(&made->handle, module, entry);
    if (!error) error = driver->cuFuncGetAttribute(&made->most_threads, INVAR_CUDA_FUNCTION_MOST_THREADS, made->handle);
    if (!error) error = driver->cuFuncGetAttribute(&made->shared, INVAR_CUDA_FUNCTION_STATIC_SHARED, made->handle);
    if (!error)
        error = driver->cuFuncSetAttribute(made->handle, INVAR_CUDA_FUNCTION_MOST_DYNAMIC_SHARED,
                                           made->device->shared_most - made->shared);
    if (error) driver->cuModuleUnload(module);
    return error;
}

/* The same where this thread captures a graph, too: loading is no work on its stream. */
static CUresult load_beside_capture(invar_cuda_function *made, const char *image, const char *entry) {
    const invar_cuda_driver *driver = made->device->driver;
    int mode = INVAR_CUDA_CAPTURE_RELAXED;
    CUresult error = driver->cuThreadExchangeStreamCaptureMode(&mode);
    if (error) return error;
    error = load_function(made, image, entry);
    driver->cuThreadExchangeStreamCaptureMode(&mode);
    return error;
}

/* Makes what find_function will find from now on. *error: the driver's, where it refuses. */
static invar_status add_function(const invar_cuda_function **function, const invar_cuda_device *device, const char *image,
                                 const char *entry, const invar_cuda_source *source, const char *name, const char *operation,
                                 CUresult *error) {
    const size_t length = strlen(name) + 1;
    invar_cuda_function *made = malloc(sizeof *made + length);
    *error = 0;
    if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    *made = (invar_cuda_function){ .device = device, .source = source };
    memcpy(made->name, name, length);
    invar_status status = invar_cuda_enter(device, operation);
    if (status == INVAR_OK) {
        *error = load_beside_capture(made, image, entry);
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

/* A driver that is older than the compiler is the usual reason. */
static invar_status refused(const invar_cuda_device *device, CUresult error, const char *operation) {
    const int driver = device->driver->version;
    const invar_nvrtc *nvrtc;
    char what[128];
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    const int compiler = invar_nvrtc_version(nvrtc);
    snprintf(what, sizeof what, "loading a kernel of NVRTC %d.%d into a driver for CUDA %d.%d", compiler / 1000,
             compiler % 1000 / 10, driver / 1000, driver % 1000 / 10);
    return invar_cuda_check(device->driver, error, what, operation);
}

/* source and name: what find_function is to find it by; NULL: its image's name. */
static invar_status get_function(const invar_cuda_function **function, const invar_cuda_device *device,
                                 const invar_cuda_text *program, const invar_cuda_source *source, const char *name,
                                 const char *operation, char **log) {
    wanted_image wanted;
    char *image = NULL;
    CUresult error;
    INVAR_TRY(name_image(&wanted, device, program, operation));
    if (!name) name = wanted.name;
    *function = find_function(device, source, name);
    if (*function) return INVAR_OK;
    INVAR_TRY(get_image(&wanted, program, operation, &image, log));
    invar_status status = add_function(function, device, image, program->entry, source, name, operation, &error);
    free(image);
    return error ? refused(device, error, operation) : status;
}

invar_status invar_cuda_function_get(const invar_cuda_function **function, const invar_cuda_device *device,
                                     const invar_cuda_text *program, const char *operation, char **log) {
    if (log) *log = NULL;
    return get_function(function, device, program, NULL, NULL, operation, log);
}

invar_status invar_cuda_function_load(const invar_cuda_function **function, const invar_cuda_device *device, const char *image,
                                      const char *entry, const char *name, const char *operation) {
    CUresult error;
    char what[256];
    *function = find_function(device, NULL, name);
    if (*function) return INVAR_OK;
    INVAR_TRY(add_function(function, device, image, entry, NULL, name, operation, &error));
    snprintf(what, sizeof what, "loading %.200s", entry);
    return invar_cuda_check(device->driver, error, what, operation);
}

/* ---- launching --------------------------------------------------------------------------------------- */

invar_status invar_cuda_function_enqueue(const invar_cuda_function *function, const uint32_t grid[3], const uint32_t block[3],
                                         uint32_t shared, void **parameters, void *stream, const char *operation) {
    const invar_cuda_device *device = function->device;
    INVAR_TRY(invar_cuda_enter(device, operation));
    CUresult error = device->driver->cuLaunchKernel(function->handle, grid[0], grid[1], grid[2], block[0], block[1], block[2], shared,
                                                    stream, parameters, NULL);
    invar_cuda_leave(device);
    return invar_cuda_check(device->driver, error, "cuLaunchKernel", operation);
}

invar_status invar_cuda_enqueue(const invar_cuda_device *device, const invar_cuda_launch *launch, void *stream,
                                const char *operation) {
    const invar_cuda_function *function = find_function(device, launch->source, launch->defines);
    if (!function) {
        const invar_cuda_text program = text_of(launch->source, launch->defines);
        INVAR_TRY(get_function(&function, device, &program, launch->source, launch->defines, operation, NULL));
    }
    const uint32_t block[3] = { launch->threads, 1, 1 };
    void *job;
    memcpy(&job, &launch->job, sizeof job); /* the driver reads the parameter, and its prototype has no const */
    return invar_cuda_function_enqueue(function, launch->grid, block, launch->shared, &job, stream, operation);
}

invar_status invar_cuda_scratch_take(const invar_cuda_device *device, void **memory, size_t bytes, void *stream,
                                     const char *operation) {
    CUdeviceptr address = 0;
    *memory = NULL;
    if (!bytes) return INVAR_OK;
    INVAR_TRY(invar_cuda_enter(device, operation));
    CUresult error = device->driver->cuMemAllocFromPoolAsync(&address, bytes, device->scratch, stream);
    invar_cuda_leave(device);
    *memory = (void *)(uintptr_t)address;
    return invar_cuda_check(device->driver, error, "cuMemAllocFromPoolAsync", operation);
}

void invar_cuda_scratch_give(const invar_cuda_device *device, void *memory, void *stream) {
    if (!memory || device->driver->cuCtxPushCurrent(device->context)) return;
    device->driver->cuMemFreeAsync((CUdeviceptr)(uintptr_t)memory, stream);
    invar_cuda_leave(device);
}
