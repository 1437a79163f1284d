/* From a program's text to a launch: the functions that this process has loaded, the cache on disk, NVRTC. */
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

/* Everything that the image depends on. */
static void name_image(invar_cuda_image *image, const invar_cuda_text *program, int nvrtc_version) {
    char version[16], key[INVAR_SHA256_HEX];
    uint8_t digest[INVAR_SHA256_BYTES];
    invar_sha256 hash;
    snprintf(version, sizeof version, "%d", nvrtc_version);
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
}

invar_status invar_cuda_image_find(invar_cuda_image *image, const invar_cuda_device *device, const invar_cuda_text *program,
                                   const char *operation) {
    const invar_nvrtc *nvrtc;
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    INVAR_TRY(invar_nvrtc_target(nvrtc, device->major, device->minor, image->target, operation));
    name_image(image, program, invar_nvrtc_version(nvrtc));
    return INVAR_OK;
}

invar_status invar_cuda_image_get(const invar_cuda_image *image, const invar_cuda_text *program, const char *operation, char **data,
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

/* A function on a device. It stays until the process ends: work that is enqueued may run it at any time. */
typedef struct loaded {
    struct loaded *next;
    const invar_cuda_device *device;
    const invar_cuda_source *source;
    CUfunction function;
    char defines[];
} loaded;

/* Only ever grows, and has no lock that a fork could leave held. */
static _Atomic(loaded *) all_loaded;

static const loaded *find_loaded(const invar_cuda_device *device, const invar_cuda_source *source, const char *defines) {
    const loaded *found = atomic_load_explicit(&all_loaded, memory_order_acquire);
    while (found && (found->device != device || found->source != source || strcmp(found->defines, defines))) found = found->next;
    return found;
}

/* The function of an image. A launch may ask for all the dynamic shared memory that a block can have, whatever the first asked. */
static CUresult load_function(const invar_cuda_device *device, const char *image, const char *entry, CUfunction *function) {
    const invar_cuda_driver *driver = device->driver;
    CUmodule module;
    int own = 0;
    CUresult error = driver->cuModuleLoadData(&module, image);
    if (error) return error;
    error = driver->cuModuleGetFunction(function, module, entry);
    if (!error) error = driver->cuFuncGetAttribute(&own, INVAR_CUDA_FUNCTION_STATIC_SHARED, *function);
    if (!error)
        error = driver->cuFuncSetAttribute(*function, INVAR_CUDA_FUNCTION_MOST_DYNAMIC_SHARED, device->shared_most - own);
    if (error) driver->cuModuleUnload(module);
    return error;
}

/* The same where this thread captures a graph, too: loading is no work on its stream. */
CUresult invar_cuda_image_load(const invar_cuda_device *device, const char *image, const char *entry, CUfunction *function) {
    int mode = INVAR_CUDA_CAPTURE_RELAXED;
    CUresult error = device->driver->cuThreadExchangeStreamCaptureMode(&mode);
    if (error) return error;
    error = load_function(device, image, entry, function);
    device->driver->cuThreadExchangeStreamCaptureMode(&mode);
    return error;
}

/* A driver that is older than the compiler is the usual reason. */
invar_status invar_cuda_image_refused(const invar_cuda_device *device, CUresult error, const char *operation) {
    const int driver = device->driver->version;
    const invar_nvrtc *nvrtc;
    char what[128];
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    const int compiler = invar_nvrtc_version(nvrtc);
    snprintf(what, sizeof what, "loading a kernel of NVRTC %d.%d into a driver for CUDA %d.%d", compiler / 1000,
             compiler % 1000 / 10, driver / 1000, driver % 1000 / 10);
    return invar_cuda_check(device->driver, error, what, operation);
}

static invar_status load(const invar_cuda_device *device, const invar_cuda_launch *launch, const char *operation,
                         const loaded **result) {
    const invar_cuda_text program = text_of(launch->source, launch->defines);
    invar_cuda_image wanted;
    char *image = NULL;
    INVAR_TRY(invar_cuda_image_find(&wanted, device, &program, operation));
    INVAR_TRY(invar_cuda_image_get(&wanted, &program, operation, &image, NULL));
    const size_t length = strlen(launch->defines) + 1;
    loaded *made = malloc(sizeof *made + length);
    if (!made) {
        free(image);
        return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    }
    CUresult error = invar_cuda_image_load(device, image, launch->source->entry, &made->function);
    free(image);
    if (error) {
        free(made);
        return invar_cuda_image_refused(device, error, operation);
    }
    made->device = device;
    made->source = launch->source;
    memcpy(made->defines, launch->defines, length);
    made->next = atomic_load(&all_loaded);
    while (!atomic_compare_exchange_weak(&all_loaded, &made->next, made)) continue;
    *result = made;
    return INVAR_OK;
}

/* ---- launching --------------------------------------------------------------------------------------- */

static invar_status enqueue(const invar_cuda_device *device, const invar_cuda_launch *launch, void *stream, const char *operation) {
    const loaded *found = find_loaded(device, launch->source, launch->defines);
    if (!found) INVAR_TRY(load(device, launch, operation, &found));
    void *job;
    memcpy(&job, &launch->job, sizeof job); /* the driver reads the parameter, and its prototype has no const */
    CUresult error = device->driver->cuLaunchKernel(found->function, launch->grid[0], launch->grid[1], launch->grid[2],
                                                    launch->threads, 1, 1, launch->shared, stream, &job, NULL);
    return invar_cuda_check(device->driver, error, "cuLaunchKernel", operation);
}

invar_status invar_cuda_enqueue(const invar_cuda_device *device, const invar_cuda_launch *launch, void *stream,
                                const char *operation) {
    INVAR_TRY(invar_cuda_enter(device, operation));
    invar_status status = enqueue(device, launch, stream, operation);
    invar_cuda_leave(device);
    return status;
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
