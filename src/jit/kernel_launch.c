/* Launching a custom kernel: every argument checked, then the program found and run. */
#include "jit/check.h"
#include "jit/exec.h"
#include "jit/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A launch's arrays: the caller's views, and what the kernel sees of them. Inputs come first. */
typedef struct arguments {
    int32_t input_count, count;
    invar_view views[2 * INVAR_KERNEL_MAX_ARRAYS];
    invar_array_key keys[2 * INVAR_KERNEL_MAX_ARRAYS];
    bool contiguous[2 * INVAR_KERNEL_MAX_ARRAYS];
    bool misplaced[2 * INVAR_KERNEL_MAX_ARRAYS]; /* begins where the kernel's text cannot read it */
    void *data[2 * INVAR_KERNEL_MAX_ARRAYS];
    const int32_t *shapes[2 * INVAR_KERNEL_MAX_ARRAYS];
    const int64_t *strides[2 * INVAR_KERNEL_MAX_ARRAYS];
    int32_t ndims[2 * INVAR_KERNEL_MAX_ARRAYS];
    int32_t shape[2 * INVAR_KERNEL_MAX_ARRAYS][INVAR_MAX_DIMS];
    int64_t stride[2 * INVAR_KERNEL_MAX_ARRAYS][INVAR_MAX_DIMS];
} arguments;

static const char *argument_name(const invar_kernel *kernel, int32_t i) {
    const invar_kernel_description *d = &kernel->description;
    return i < d->input_count ? d->input_names[i] : d->output_names[i - d->input_count];
}

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
    if (invar_is_keyword(argument->name, kernel->description.dialect))
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected names that are no keywords, got '%s'", operation,
                          argument->name);
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
    if (options->template_count < 0 || options->template_count > INVAR_KERNEL_MAX_TEMPLATES)
        return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected 0 to %d arguments, got %d", kernel->operation,
                          INVAR_KERNEL_MAX_TEMPLATES, options->template_count);
    if (options->template_count && !options->template_arguments)
        return invar_fail(INVAR_ERROR_NULL, "%s: template: expected arguments, got NULL", kernel->operation);
    for (int32_t i = 0; i < options->template_count; i++)
        INVAR_TRY(check_template(kernel, &options->template_arguments[i]));
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

/* ---- arrays ------------------------------------------------------------------------------------------- */

/* Reads array i: its view (of type and shape alone where `launch` is false) and what the kernel is told of its layout. */
static invar_status read_array(const invar_kernel *kernel, arguments *a, int32_t i, const invar_tensor *tensor, bool launch) {
    const char *name = argument_name(kernel, i);
    invar_tensor layout;
    if (tensor && !launch) { /* any aligned address will do */
        layout = *tensor;
        layout.data = &layout;
        layout.byte_offset = 0;
        layout.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
        tensor = &layout;
    }
    invar_view *view = &a->views[i];
    INVAR_TRY(invar_view_init(view, tensor, kernel->operation, name));
    a->keys[i] = (invar_array_key){ view->dtype, view->ndim };
    bool contiguous = true;
    int64_t expected = 1;
    for (int d = view->ndim - 1; d >= 0; d--) {
        if (view->shape[d] > INT32_MAX)
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected sizes below 2147483648, got %lld on axis %d",
                              kernel->operation, name, (long long)view->shape[d], d);
        contiguous = contiguous && (view->shape[d] == 1 || view->stride[d] == expected);
        a->shape[i][d] = (int32_t)view->shape[d];
        a->stride[i][d] = expected;
        expected *= view->shape[d];
    }
    contiguous = contiguous || !view->count;
    if (!contiguous && !kernel->description.ensure_row_contiguous)
        for (int d = 0; d < view->ndim; d++) a->stride[i][d] = tensor->strides ? tensor->strides[d] : a->stride[i][d];
    a->contiguous[i] = contiguous;
    a->data[i] = view->data;
    a->shapes[i] = a->shape[i];
    a->strides[i] = a->stride[i];
    a->ndims[i] = view->ndim;
    return INVAR_OK;
}

static invar_status check_output(const invar_kernel *kernel, const arguments *a, int32_t i) {
    const char *name = argument_name(kernel, i);
    if (!a->contiguous[i])
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected a row-contiguous output, got other strides",
                          kernel->operation, name);
    for (int32_t j = 0; j < i; j++)
        if (invar_view_overlaps(&a->views[i], &a->views[j]))
            return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected memory apart from the other arrays, got an overlap with %s",
                              kernel->operation, name, argument_name(kernel, j));
    return INVAR_OK;
}

static invar_status read_arrays(const invar_kernel *kernel, arguments *a, const invar_tensor *const *outputs,
                                int32_t output_count, const invar_tensor *const *inputs, int32_t input_count, bool launch) {
    const invar_kernel_description *d = &kernel->description;
    if (input_count != d->input_count || output_count != d->output_count)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected %d arrays, got %d", kernel->operation,
                          input_count != d->input_count ? "inputs" : "outputs",
                          input_count != d->input_count ? d->input_count : d->output_count,
                          input_count != d->input_count ? input_count : output_count);
    if ((!inputs && input_count) || !outputs)
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected arrays, got NULL", kernel->operation,
                          outputs ? "inputs" : "outputs");
    a->input_count = input_count;
    a->count = input_count + output_count;
    for (int32_t i = 0; i < input_count; i++) INVAR_TRY(read_array(kernel, a, i, inputs[i], launch));
    for (int32_t i = input_count; i < a->count; i++)
        INVAR_TRY(read_array(kernel, a, i, outputs[i - input_count], launch));
    for (int32_t i = input_count; launch && i < a->count; i++) INVAR_TRY(check_output(kernel, a, i));
    return INVAR_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------- */

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

static bool is_gathered(const invar_kernel *kernel, const arguments *a, int32_t i) {
    return i < a->input_count && !a->contiguous[i] && kernel->description.ensure_row_contiguous;
}

/* The elements of an array that exist, counted from element 0 of the view. */
static void element_range(const invar_view *view, bool gathered, int64_t *begin, int64_t *end) {
    *begin = 0;
    *end = view->count;
    if (gathered || !view->count) return;
    *end = 1;
    for (int d = 0; d < view->ndim; d++) {
        int64_t reach = (view->shape[d] - 1) * view->stride[d];
        if (reach < 0) *begin += reach;
        else *end += reach;
    }
}

/* Notes the arrays that must be elsewhere, and returns the scratch memory that this takes. Check mode has places of its own;
 * a plan counts every array, since the call that follows may bring other addresses. */
static size_t place_arrays(const invar_kernel *kernel, arguments *a, bool check, bool plan) {
    size_t scratch = 0;
    for (int32_t i = 0; i < a->count; i++) {
        size_t item = invar_view_item_size(&a->views[i]);
        int64_t begin, end;
        bool gathered = is_gathered(kernel, a, i);
        bool aligned = plan ? kernel->alignment == 1 : (uintptr_t)a->data[i] % (uint32_t)kernel->alignment == 0;
        a->misplaced[i] = !gathered && !check && !aligned;
        if (!gathered && !a->misplaced[i]) continue;
        element_range(&a->views[i], gathered, &begin, &end);
        scratch += lines((size_t)-begin * item) + lines((size_t)end * item);
    }
    return scratch;
}

/* Gives such arrays their place in the run's scratch memory: inputs are copied, row-contiguous or with the strides they have. */
static void move_arrays(const invar_kernel *kernel, arguments *a, invar_run *run) {
    char *place = run->shared;
    for (int32_t i = 0; i < a->count; i++) {
        invar_view span = a->views[i];
        size_t item = invar_view_item_size(&span);
        int64_t begin, end;
        bool gathered = is_gathered(kernel, a, i);
        if (!gathered && !a->misplaced[i]) continue;
        element_range(&span, gathered, &begin, &end);
        a->data[i] = place + lines((size_t)-begin * item);
        if (!gathered) {
            span.data += begin * (int64_t)item;
            span.ndim = 1, span.stride[0] = 1, span.shape[0] = span.count = end - begin;
        }
        if (i < a->input_count) invar_kernel_copy(run, (char *)a->data[i] + begin * (int64_t)item, &span);
        place = (char *)a->data[i] + lines((size_t)end * item);
    }
}

static void fill_outputs(const arguments *a, const invar_launch_options *options, invar_run *run) {
    for (int32_t i = a->input_count; options->has_init_value && i < a->count; i++) {
        invar_view view = a->views[i];
        view.data = a->data[i];
        invar_kernel_fill(run, &view, options->init_value);
    }
}

static void return_outputs(const arguments *a, invar_run *run) {
    for (int32_t i = a->input_count; i < a->count; i++) {
        invar_view view = a->views[i];
        view.data = a->data[i];
        if (a->misplaced[i]) invar_kernel_copy(run, a->views[i].data, &view);
    }
}

/* ---- running ------------------------------------------------------------------------------------------ */

static void describe_launch(const invar_kernel *kernel, const arguments *a, const invar_launch_options *options,
                            invar_launch *launch) {
    bool cuda = kernel->description.dialect == INVAR_DIALECT_CUDA;
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

static invar_status run_checked(const invar_kernel *kernel, const arguments *a, const invar_loaded *loaded,
                                const invar_launch *launch, const invar_launch_options *options, bool strict) {
    invar_check_array arrays[2 * INVAR_KERNEL_MAX_ARRAYS];
    char object[64] = "";
    if (loaded->file >= 0) snprintf(object, sizeof object, "/proc/self/fd/%d", loaded->file);
    for (int32_t i = 0; i < a->count; i++) {
        bool output = i >= a->input_count;
        arrays[i] = (invar_check_array){ .name = argument_name(kernel, i), .dtype = a->views[i].dtype, .output = output,
                                         .initialised = output && options->has_init_value };
        element_range(&a->views[i], is_gathered(kernel, a, i), &arrays[i].begin, &arrays[i].end);
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

/* Scratch, copies and init_value, then the kernel. */
static invar_status run(invar_kernel *kernel, invar_context *context, arguments *a, const invar_launch_options *options,
                        int32_t check) {
    invar_run memory = { .context = context, .execution = &options->execution };
    invar_launch launch;
    const invar_loaded *loaded;
    size_t scratch = place_arrays(kernel, a, check, options->execution.plan);
    bool planned = false, worker = options->has_init_value || options->execution.plan;
    describe_launch(kernel, a, options, &launch);
    if (!options->execution.plan) INVAR_TRY(invar_kernel_program(kernel, context, a->keys, options, check, &loaded));
    if (scratch || worker) {
        int64_t groups = (int64_t)launch.groups[0] * launch.groups[1] * launch.groups[2];
        INVAR_TRY(invar_run_begin(&memory, context, &options->execution, groups > 1024 ? groups : 1024, scratch, 0,
                                  kernel->operation, &planned));
        if (planned) {
            describe_plan(kernel, context, options->execution.plan);
            return INVAR_OK;
        }
        move_arrays(kernel, a, &memory);
        fill_outputs(a, options, &memory);
    }
    invar_execution execution = options->execution;
    if (scratch) execution.workspace = NULL, execution.workspace_size = 0; /* the copies are in it */
    invar_status status =
        check ? run_checked(kernel, a, loaded, &launch, options, check == INVAR_CHECK_STRICT)
              : invar_exec_run(loaded->module, &launch, context, &execution, kernel->operation, kernel->description.name);
    if (scratch && status == INVAR_OK) return_outputs(a, &memory);
    invar_run_end(&memory);
    return status;
}

invar_status invar_kernel_launch(invar_kernel *kernel, invar_context *context, const invar_tensor *const *outputs,
                                 int32_t output_count, const invar_tensor *const *inputs, int32_t input_count,
                                 const invar_launch_options *options) {
    invar_launch_options known = INVAR_LAUNCH_OPTIONS_INIT;
    arguments a;
    int32_t check;
    if (!kernel) return invar_fail(INVAR_ERROR_NULL, "kernel_launch: kernel: expected a kernel, got NULL");
    INVAR_TRY(invar_options_read(&known, sizeof known, options, kernel->operation));
    INVAR_TRY(check_options(kernel, &known));
    INVAR_TRY(read_check(kernel, &known, &check));
    INVAR_TRY(read_arrays(kernel, &a, outputs, output_count, inputs, input_count, true));
    for (int32_t i = a.input_count; known.has_init_value && i < a.count; i++)
        INVAR_TRY(invar_kernel_check_fill(&a.views[i], known.init_value, kernel->operation, argument_name(kernel, i)));
    INVAR_TRY(invar_context_resolve(&context));
    return run(kernel, context, &a, &known, check);
}

invar_status invar_kernel_generate(invar_kernel *kernel, int32_t target, const invar_tensor *const *outputs,
                                   int32_t output_count, const invar_tensor *const *inputs, int32_t input_count,
                                   const invar_launch_options *options, char *text, size_t capacity, size_t *length) {
    invar_launch_options known = INVAR_LAUNCH_OPTIONS_INIT;
    arguments a;
    int32_t check;
    if (!kernel) return invar_fail(INVAR_ERROR_NULL, "kernel_generate: kernel: expected a kernel, got NULL");
    if (!length || (capacity && !text))
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a pointer, got NULL", kernel->operation,
                          length ? "text" : "length");
    if (target != INVAR_TARGET_CPU && target != INVAR_TARGET_CUDA)
        return invar_fail(INVAR_ERROR_VALUE, "%s: target: expected INVAR_TARGET_CPU (1) or INVAR_TARGET_CUDA (2), got %d",
                          kernel->operation, target);
    INVAR_TRY(invar_options_read(&known, sizeof known, options, kernel->operation));
    INVAR_TRY(check_options(kernel, &known));
    INVAR_TRY(read_check(kernel, &known, &check));
    INVAR_TRY(read_arrays(kernel, &a, outputs, output_count, inputs, input_count, false));
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
