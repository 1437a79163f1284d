/* Launching a custom kernel: every argument checked, then the program found and run. */
#include "jit/check.h"
#include "jit/exec.h"
#include "jit/kernel_arguments.h"
#include "jit/kernel_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ------------------------------------------------------------------------------------------ */

static invar_status check_sizes(const invar_kernel *kernel, const invar_launch_options *options) {
    int64_t threads = 1;
    for (int d = 0; d < 3; d++) {
        if (options->grid[d] < 1 || options->grid[d] > INT32_MAX)
            return invar_fail(INVAR_ERROR_VALUE, "%s: grid: expected sizes from 1 to 2147483647, got (%lld, %lld, %lld)",
                              kernel->operation, (long long)options->grid[0], (long long)options->grid[1],
                              (long long)options->grid[2]);
        bool good = options->threadgroup[d] >= 1 && options->threadgroup[d] <= INVAR_MAX_THREADS;
        if (good) threads *= options->threadgroup[d];
        if (!good || threads > INVAR_MAX_THREADS)
            return invar_fail(INVAR_ERROR_VALUE, "%s: threadgroup: expected sizes of at least 1 and at most %d threads in all, "
                              "got (%lld, %lld, %lld)", kernel->operation, INVAR_MAX_THREADS,
                              (long long)options->threadgroup[0], (long long)options->threadgroup[1],
                              (long long)options->threadgroup[2]);
    }
    return INVAR_OK;
}

static invar_status check_template(const invar_kernel *kernel, const invar_template_argument *argument) {
    const char *operation = kernel->operation;
    if (!argument->name || !invar_is_identifier(argument->name))
        return invar_fail(argument->name ? INVAR_ERROR_VALUE : INVAR_ERROR_NULL, "%s: template: expected a name that is an "
                          "identifier of at most %d characters, got '%.200s'", operation, INVAR_KERNEL_MAX_NAME - 1,
                          argument->name ? argument->name : "NULL");
    if (invar_is_taken(argument->name, kernel->description.dialect))
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected names that are neither keywords nor built-in variables, got "
                          "'%s'", operation, argument->name);
    switch (argument->kind) {
    case INVAR_TEMPLATE_INT:
        if (argument->value >= INT32_MIN && argument->value <= INT32_MAX) return INVAR_OK;
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: %s: expected an int within 32 bits, got %lld", operation,
                          argument->name, (long long)argument->value);
    case INVAR_TEMPLATE_BOOL:
        if (argument->value == 0 || argument->value == 1) return INVAR_OK;
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: %s: expected a bool, got %lld", operation, argument->name,
                          (long long)argument->value);
    case INVAR_TEMPLATE_DTYPE: return INVAR_OK;
    default:
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: %s: expected an int, a bool or a dtype, got kind %d", operation,
                          argument->name, argument->kind);
    }
}

static invar_status check_options(const invar_kernel *kernel, const invar_launch_options *options) {
    INVAR_TRY(check_sizes(kernel, options));
    const int32_t most = kernel->source ? INVAR_KERNEL_MAX_TEMPLATES : 0;
    if (options->template_count < 0 || options->template_count > most)
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected 0 to %d arguments, got %d", kernel->operation, most,
                          options->template_count);
    if (options->template_count && !options->template_arguments)
        return invar_fail(INVAR_ERROR_NULL, "%s: template: expected arguments, got NULL", kernel->operation);
    for (int32_t i = 0; i < options->template_count; i++)
        INVAR_TRY(check_template(kernel, &options->template_arguments[i]));
    INVAR_TRY(invar_kernel_check_scalars(kernel, options));
    if (options->has_init_value != 0 && options->has_init_value != 1)
        return invar_fail(INVAR_ERROR_VALUE, "%s: has_init_value: expected 0 or 1, got %d", kernel->operation,
                          options->has_init_value);
    return INVAR_OK;
}

static invar_status read_check(const invar_kernel *kernel, const invar_launch_options *options, int32_t *check) {
    *check = options->check;
    if (*check >= INVAR_CHECK_OFF && *check <= INVAR_CHECK_STRICT) return INVAR_OK;
    if (*check != INVAR_CHECK_ENVIRONMENT)
        return invar_fail(INVAR_ERROR_VALUE, "%s: check: expected -1 to 2, got %d", kernel->operation, *check);
    const char *text = getenv("INVAR_KERNEL_CHECK");
    *check = INVAR_CHECK_OFF;
    if (!text || !*text || !strcmp(text, "0")) return INVAR_OK;
    *check = !strcmp(text, "strict") ? INVAR_CHECK_STRICT : INVAR_CHECK_ON;
    if (*check == INVAR_CHECK_STRICT || !strcmp(text, "1")) return INVAR_OK;
    return invar_fail(INVAR_ERROR_ENVIRONMENT, "%s: INVAR_KERNEL_CHECK: expected 0, 1 or strict, got '%.100s'",
                      kernel->operation, text);
}

/* ---- running ------------------------------------------------------------------------------------------ */

static void describe_launch(const invar_kernel *kernel, const invar_arguments *a, const invar_launch_options *options,
                            invar_launch *launch) {
    bool cuda = kernel->description.dialect != INVAR_DIALECT_METAL;
    *launch = (invar_launch){ .arrays = a->data, .shapes = a->shapes, .strides = a->strides, .ndims = a->ndims,
                              .size = a->views[a->input_count].count,
                              .dynamic_shared = (uint32_t)kernel->description.shared_memory };
    for (int d = 0; d < 3; d++) {
        int64_t grid = options->grid[d], group = options->threadgroup[d] < grid ? options->threadgroup[d] : grid;
        int64_t groups = (grid + group - 1) / group;
        launch->threadgroup[d] = (uint32_t)group;
        launch->groups[d] = (uint32_t)groups;
        launch->grid[d] = (uint32_t)(cuda ? groups * group : grid);
    }
}

static invar_status run_checked(const invar_kernel *kernel, const invar_arguments *a, const invar_loaded *loaded,
                                const invar_launch *launch, const invar_launch_options *options, bool strict) {
    invar_check_array arrays[2 * INVAR_KERNEL_MAX_ARRAYS];
    char object[64] = "";
    if (loaded->file >= 0) snprintf(object, sizeof object, "/proc/self/fd/%d", loaded->file);
    for (int32_t i = 0; i < a->count; i++) {
        bool output = i >= a->input_count;
        arrays[i] = (invar_check_array){ .name = invar_array_name(&kernel->description, i), .dtype = a->views[i].dtype,
                                         .output = output, .initialised = output && options->has_init_value };
        invar_element_range(&a->views[i], invar_argument_gathered(a, kernel, i), &arrays[i].begin, &arrays[i].end);
    }
    invar_check check = {
        .module = loaded->module, .handle = loaded->handle, .object = *object ? object : NULL, .launch = launch,
        .arrays = arrays, .array_count = a->count, .dialect = kernel->description.dialect,
        .operation = kernel->operation, .kernel = kernel->description.name, .body = kernel->file,
        .header = kernel->header_file, .strict = strict, .report = options->report,
        .report_argument = options->report_argument,
    };
    return invar_check_run(&check);
}

static void describe_plan(const invar_kernel *kernel, const invar_context *context, invar_plan *plan) {
    snprintf(plan->kernel, sizeof plan->kernel, "%.32s.%s", kernel->description.name, context->description.cpu);
    snprintf(plan->reason, sizeof plan->reason, "the kernel's own text, compiled for this instruction set");
    plan->query_tile = plan->key_block = 0;
    plan->key_splits = 1;
}

/* As many as a plan may say, where there are more. */
static int64_t groups_of(const invar_launch *launch) {
    int64_t groups = (int64_t)launch->groups[0] * launch->groups[1];
    return __builtin_mul_overflow(groups, launch->groups[2], &groups) ? INT64_MAX : groups;
}

/* On the CPU: scratch, copies and init_value, then the kernel. */
static invar_status run(invar_kernel *kernel, invar_context *context, invar_arguments *a, const invar_launch *launch,
                        const invar_launch_options *options, int32_t check) {
    invar_run run = { .context = context, .execution = &options->execution };
    const invar_kernel_memory memory = { .run = &run, .operation = kernel->operation };
    const invar_place place = { .context = context, .check = check };
    const invar_program *program = NULL;
    size_t scratch = invar_arguments_place(a, kernel, check, options->execution.plan);
    bool planned = false, worker = options->has_init_value || options->execution.plan;
    if (!options->execution.plan) INVAR_TRY(invar_kernel_program(kernel, &place, a->keys, options, &program));
    if (scratch || worker) {
        const int64_t tasks = options->execution.plan ? groups_of(launch) : INVAR_MAX_POOL_THREADS; /* all threads may copy */
        INVAR_TRY(invar_run_begin(&run, context, &options->execution, tasks, scratch, 0, kernel->operation, &planned));
        if (planned) {
            describe_plan(kernel, context, options->execution.plan);
            return INVAR_OK;
        }
        invar_arguments_move(a, kernel, &memory, run.shared); /* on the CPU none of these can fail */
        invar_arguments_fill(a, options, &memory);
    }
    invar_execution execution = options->execution;
    if (scratch) execution.workspace = NULL, execution.workspace_size = 0; /* the copies are in it */
    invar_status status =
        check ? run_checked(kernel, a, program->loaded, launch, options, check == INVAR_CHECK_STRICT)
              : invar_exec_run(program->loaded->module, launch, context, &execution, kernel->operation, kernel->description.name);
    if (scratch && status == INVAR_OK) invar_arguments_return(a, &memory);
    invar_run_end(&run);
    return status;
}

invar_status invar_kernel_launch(invar_kernel *kernel, invar_context *context, const invar_tensor *const *outputs,
                                 int32_t output_count, const invar_tensor *const *inputs, int32_t input_count,
                                 const invar_launch_options *options) {
    invar_launch_options known = INVAR_LAUNCH_OPTIONS_INIT;
    invar_arguments a;
    invar_launch launch;
    int32_t check;
    if (!kernel) return invar_fail(INVAR_ERROR_NULL, "kernel_launch: kernel: expected a kernel, got NULL");
    INVAR_TRY(invar_options_read(&known, sizeof known, options, kernel->operation));
    INVAR_TRY(check_options(kernel, &known));
    INVAR_TRY(read_check(kernel, &known, &check));
    INVAR_TRY(invar_arguments_read(&a, kernel, outputs, output_count, inputs, input_count, true));
    for (int32_t i = a.input_count; known.has_init_value && i < a.count; i++)
        INVAR_TRY(invar_kernel_check_fill(&a.views[i], known.init_value, kernel->operation,
                                          invar_array_name(&kernel->description, i)));
    if (!kernel->source && a.device.type != INVAR_DEVICE_CUDA)
        return invar_fail(INVAR_ERROR_DEVICE, "%s: %s: expected arrays on an NVIDIA GPU, where alone machine code for one runs, got "
                          "none there", kernel->operation, kernel->description.name);
    INVAR_TRY(invar_context_resolve(&context));
    describe_launch(kernel, &a, &known, &launch);
    if (a.device.type == INVAR_DEVICE_CUDA) return invar_kernel_run_cuda(kernel, context, &a, &launch, &known, check);
    return run(kernel, context, &a, &launch, &known, check);
}

invar_status invar_kernel_generate(invar_kernel *kernel, int32_t target, const invar_tensor *const *outputs,
                                   int32_t output_count, const invar_tensor *const *inputs, int32_t input_count,
                                   const invar_launch_options *options, char *text, size_t capacity, size_t *length) {
    invar_launch_options known = INVAR_LAUNCH_OPTIONS_INIT;
    invar_arguments a;
    int32_t check;
    if (!kernel) return invar_fail(INVAR_ERROR_NULL, "kernel_generate: kernel: expected a kernel, got NULL");
    if (!kernel->source)
        return invar_fail(INVAR_ERROR_VALUE, "%s: expected a kernel with a text, got machine code", kernel->operation);
    if (!length || (capacity && !text))
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a pointer, got NULL", kernel->operation,
                          length ? "text" : "length");
    if (target != INVAR_TARGET_CPU && target != INVAR_TARGET_CUDA)
        return invar_fail(INVAR_ERROR_VALUE, "%s: target: expected INVAR_TARGET_CPU (1) or INVAR_TARGET_CUDA (2), got %d",
                          kernel->operation, target);
    INVAR_TRY(invar_options_read(&known, sizeof known, options, kernel->operation));
    INVAR_TRY(check_options(kernel, &known));
    INVAR_TRY(read_check(kernel, &known, &check));
    INVAR_TRY(invar_arguments_read(&a, kernel, outputs, output_count, inputs, input_count, false));
    invar_program_key key = { a.keys, known.template_arguments, known.template_count };
    invar_text program = { 0 };
    invar_status status = invar_generate_kernel(kernel->source, &key, target, check && target == INVAR_TARGET_CPU, &program);
    if (status == INVAR_OK && program.failed) status = invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", kernel->operation);
    if (status == INVAR_OK) {
        *length = program.length;
        if (capacity) snprintf(text, capacity, "%s", program.data ? program.data : "");
    }
    invar_text_free(&program);
    return status;
}
