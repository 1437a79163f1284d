/* Custom kernels on CUDA devices: the same text, compiled by NVRTC for the GPU at hand, and the launch of it. */
#include "jit/kernel_cuda.h"

#include "jit/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS_X = 0x7fffffff, MOST_BLOCKS_YZ = 65535, MOST_THREADS_Z = 64 }; /* of CUDA's grids and blocks */

/* ---- the program -------------------------------------------------------------------------------------- */

/* The compiler's log with the user's lines, where there is one. */
static invar_status refused(const invar_kernel *kernel, invar_status status, const char *log, const char *program) {
    const invar_user_text texts[] = { { kernel->file, kernel->description.source },
                                      { kernel->header_file, kernel->description.header } };
    invar_text message = { 0 };
    if (status != INVAR_ERROR_COMPILE || !log) return status;
    invar_compiler_log(&message, log, program, texts, 2);
    if (message.length && !message.failed) invar_fail(status, "%s: %s", kernel->operation, message.data);
    invar_text_free(&message);
    return status;
}

/* "relaxed" and "fast" allow what they do here; NVRTC takes the last of two options, behind invar_nvrtc_options. */
static void write_words(char words[128], int32_t math_mode, bool crowded) {
    static const char *const modes[] = { [INVAR_MATH_SAFE] = "", [INVAR_MATH_RELAXED] = " --fmad=true",
                                         [INVAR_MATH_FAST] = " --use_fast_math --fmad=true" };
    snprintf(words, 128, "--device-as-default-execution-space%s%s", modes[math_mode],
             crowded ? " --maxrregcount=64" : ""); /* of 65536 for 1024 threads */
}

invar_status invar_kernel_function(const invar_kernel *kernel, const invar_place *place, const invar_program_key *key,
                                   const invar_cuda_function **function) {
    if (!kernel->source)
        return invar_cuda_function_load(function, place->gpu, kernel->description.image, kernel->description.name, kernel->image,
                                        kernel->operation);
    invar_text text = { 0 };
    char *log = NULL;
    invar_status status = invar_generate_shim(kernel->source, key, INVAR_TARGET_CUDA, false, &text);
    if (status == INVAR_OK) status = invar_generate_kernel(kernel->source, key, INVAR_TARGET_CUDA, false, &text);
    if (status == INVAR_OK && (text.failed || !text.data))
        status = invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", kernel->operation);
    if (status == INVAR_OK) {
        char words[128];
        write_words(words, kernel->description.math_mode, place->crowded);
        const invar_cuda_text program = { kernel->file, text.data, "invar_kernel", words, NULL, 0 };
        status = invar_cuda_function_get(function, place->gpu, &program, kernel->operation, &log);
        if (status != INVAR_OK) refused(kernel, status, log, text.data);
    }
    free(log);
    invar_text_free(&text);
    return status;
}

/* ---- the launch --------------------------------------------------------------------------------------- */

/* Blocks of a CUDA kernel are as its text knows them. Those of Metal are lines of threads, and the groups are a line of blocks
 * where CUDA does not have as many along y or z (jit/device_entry.c). */
static invar_status cut(const invar_kernel *kernel, const invar_launch *launch, uint32_t grid[3], uint32_t block[3]) {
    const uint32_t *groups = launch->groups, *threads = launch->threadgroup;
    const bool metal = kernel->description.dialect == INVAR_DIALECT_METAL;
    for (int d = 0; d < 3; d++) grid[d] = groups[d], block[d] = threads[d];
    if (metal) block[0] = threads[0] * threads[1] * threads[2], block[1] = block[2] = 1;
    if (block[2] > MOST_THREADS_Z)
        return invar_fail(INVAR_ERROR_VALUE, "%s: threadgroup: expected at most %d threads along z on a CUDA device, got %u",
                          kernel->operation, MOST_THREADS_Z, (unsigned)block[2]);
    if (groups[1] <= MOST_BLOCKS_YZ && groups[2] <= MOST_BLOCKS_YZ) return INVAR_OK;
    if (!metal)
        return invar_fail(INVAR_ERROR_VALUE, "%s: grid: expected at most %d blocks along y and along z on a CUDA device, got %u and "
                          "%u", kernel->operation, MOST_BLOCKS_YZ, (unsigned)groups[1], (unsigned)groups[2]);
    uint64_t blocks = (uint64_t)groups[0] * groups[1];
    if (__builtin_mul_overflow(blocks, groups[2], &blocks) || blocks > (uint64_t)MOST_BLOCKS_X * MOST_BLOCKS_YZ)
        return invar_fail(INVAR_ERROR_VALUE, "%s: grid: expected at most 2^47 groups on a CUDA device, got %u x %u x %u",
                          kernel->operation, (unsigned)groups[0], (unsigned)groups[1], (unsigned)groups[2]);
    grid[0] = blocks < MOST_BLOCKS_X ? (uint32_t)blocks : MOST_BLOCKS_X;
    grid[1] = (uint32_t)((blocks + grid[0] - 1) / grid[0]);
    grid[2] = 1;
    return INVAR_OK;
}

/* The function for blocks of so many threads, and whether the device has what they need. */
static invar_status find_function(invar_kernel *kernel, const invar_arguments *a, const invar_launch *launch, unsigned threads,
                                  const invar_launch_options *options, const invar_cuda_device *gpu,
                                  const invar_cuda_function **function) {
    const char *operation = kernel->operation, *name = kernel->description.name;
    invar_place place = { .gpu = gpu };
    const invar_program *program;
    INVAR_TRY(invar_kernel_program(kernel, &place, a->keys, options, &program));
    place.crowded = kernel->source && threads > (unsigned)program->function->most_threads;
    if (place.crowded) INVAR_TRY(invar_kernel_program(kernel, &place, a->keys, options, &program));
    *function = program->function;
    if (threads > (unsigned)(*function)->most_threads)
        return invar_fail(INVAR_ERROR_VALUE, "%s: threadgroup: expected at most %d threads for %.200s on %s, got %u", operation,
                          (*function)->most_threads, name, gpu->name, threads);
    const uint64_t shared = (uint64_t)(*function)->shared + launch->dynamic_shared;
    const bool metal = kernel->description.dialect == INVAR_DIALECT_METAL;
    const int most = metal ? INVAR_METAL_SHARED : gpu->shared_most;
    if (shared > (uint64_t)most)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %.200s: expected at most %d bytes of %s memory on %s, got %llu", operation, name,
                          most, metal ? "threadgroup" : "shared", gpu->name, (unsigned long long)shared);
    return INVAR_OK;
}

static void describe(const invar_kernel *kernel, size_t scratch, const invar_launch *launch, invar_plan *plan) {
    snprintf(plan->kernel, sizeof plan->kernel, "%.32s.cuda", kernel->description.name);
    snprintf(plan->reason, sizeof plan->reason, "the kernel's own text, compiled for this GPU");
    plan->workspace = scratch;
    plan->tasks = (int64_t)launch->groups[0] * launch->groups[1] * launch->groups[2];
    plan->query_tile = plan->key_block = 0;
    plan->key_splits = 1;
}

static invar_status enqueue(const invar_kernel *kernel, invar_arguments *a, invar_launch *launch,
                            const invar_launch_options *options, const invar_cuda_function *function, const uint32_t grid[3],
                            const uint32_t block[3], char *scratch) {
    _Alignas(16) char job[INVAR_MAX_PACKED_LAUNCH];
    invar_kernel_parameters parameters = { .places = { job } };
    void *stream = options->execution.stream;
    const invar_kernel_memory memory = { .gpu = function->device, .stream = stream, .operation = kernel->operation };
    INVAR_TRY(invar_arguments_move(a, kernel, &memory, scratch));
    INVAR_TRY(invar_arguments_fill(a, options, &memory));
    if (kernel->source) invar_pack_launch(kernel->source, a->keys, launch, a->numbers, job);
    else invar_kernel_fill_parameters(&parameters, a->data, a->count, options);
    INVAR_TRY(invar_cuda_function_enqueue(function, grid, block, launch->dynamic_shared, parameters.places, stream,
                                          kernel->operation));
    return invar_arguments_return(a, &memory);
}

static invar_status check_execution(const invar_kernel *kernel, const invar_execution *execution, size_t scratch, int32_t check) {
    if (check)
        return invar_fail(INVAR_ERROR_VALUE, "%s: check: expected arrays in CPU memory, where check mode runs, got arrays on a CUDA "
                          "device", kernel->operation);
    if (scratch && execution->workspace && ((uintptr_t)execution->workspace % 64 || execution->workspace_size < scratch))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: execution.workspace: expected %zu bytes of the device, 64-byte aligned, got %zu",
                          kernel->operation, scratch, execution->workspace_size);
    return INVAR_OK;
}

invar_status invar_kernel_run_cuda(invar_kernel *kernel, invar_context *context, invar_arguments *a, invar_launch *launch,
                                   const invar_launch_options *options, int32_t check) {
    const invar_execution *execution = &options->execution;
    const char *operation = kernel->operation;
    const invar_cuda_device *gpu;
    const invar_cuda_function *function;
    uint32_t grid[3], block[3];
    invar_run checked; /* takes nothing: its scratch would be the CPU's */
    invar_execution bare = *execution;
    bool planned;
    bare.workspace = NULL;
    INVAR_TRY(invar_cuda_device_get(&gpu, a->device.id, operation));
    const size_t bytes = invar_arguments_place(a, kernel, false, execution->plan);
    INVAR_TRY(check_execution(kernel, execution, bytes, check));
    INVAR_TRY(cut(kernel, launch, grid, block));
    INVAR_TRY(invar_run_begin(&checked, context, &bare, 0, 0, 0, operation, &planned));
    if (planned) {
        describe(kernel, bytes, launch, execution->plan);
        return INVAR_OK;
    }
    INVAR_TRY(find_function(kernel, a, launch, block[0] * block[1] * block[2], options, gpu, &function));
    void *scratch = execution->workspace;
    const bool own = bytes && !scratch;
    if (own) INVAR_TRY(invar_cuda_scratch_take(gpu, &scratch, bytes, execution->stream, operation));
    const invar_status status = enqueue(kernel, a, launch, options, function, grid, block, bytes ? scratch : NULL);
    if (own) invar_cuda_scratch_give(gpu, scratch, execution->stream);
    return status;
}
