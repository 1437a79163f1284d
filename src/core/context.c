/* The context: its creation from options and environment, its description, and how a planned call runs. */
#include "core/context.h"
#include "core/allocate.h"
#include "core/machine.h"
#include "cpu/dispatch.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(invar_context *) default_context;

/* INVAR_NUM_THREADS, or the processors there are. */
static invar_status threads_from_environment(int32_t *threads) {
    const char *text = getenv("INVAR_NUM_THREADS");
    *threads = invar_processor_count();
    if (!text || !*text) return INVAR_OK;
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || value < 1 || value > INVAR_MAX_POOL_THREADS)
        return invar_fail(INVAR_ERROR_ENVIRONMENT, "context: INVAR_NUM_THREADS: expected a number from 1 to %d, got '%.100s'",
                          INVAR_MAX_POOL_THREADS, text);
    *threads = (int32_t)value;
    return INVAR_OK;
}

static invar_status check_threads(int32_t threads, const char *operation) {
    if (threads >= 1 && threads <= INVAR_MAX_POOL_THREADS) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: num_threads: expected 1 to %d, got %d", operation, INVAR_MAX_POOL_THREADS,
                      threads);
}

static invar_status create(invar_context **result, const invar_context_options *options) {
    int32_t threads = options->num_threads;
    if (!threads) INVAR_TRY(threads_from_environment(&threads));
    INVAR_TRY(check_threads(threads, "context_create"));
    invar_context *context = calloc(1, sizeof *context);
    if (!context) return invar_fail(INVAR_ERROR_MEMORY, "context_create: out of memory");
    context->description = (invar_context_description)INVAR_CONTEXT_DESCRIPTION_INIT;
    const char *name = options->cpu ? options->cpu : getenv("INVAR_CPU");
    invar_status status = invar_dispatch(&context->kernels, name, options->cpu ? "cpu" : "INVAR_CPU", &context->description);
    if (status == INVAR_OK && !(context->pool = invar_pool_create(threads)))
        status = invar_fail(INVAR_ERROR_MEMORY, "context_create: out of memory");
    if (status != INVAR_OK) {
        free(context);
        return status;
    }
    invar_machine_describe(&context->description);
    *result = context;
    return INVAR_OK;
}

invar_status invar_context_create(invar_context **context, const invar_context_options *options) {
    invar_context_options known = INVAR_CONTEXT_OPTIONS_INIT;
    if (!context) return invar_fail(INVAR_ERROR_NULL, "context_create: context: expected a pointer, got NULL");
    INVAR_TRY(invar_options_read(&known, sizeof known, options, "context_create"));
    return create(context, &known);
}

void invar_context_destroy(invar_context *context) {
    if (!context) return;
    invar_pool_destroy(context->pool);
    for (int i = 0; i < INVAR_KEPT_SCRATCH; i++) invar_scratch_free(context->scratch[i]);
    free(context);
}

invar_status invar_context_resolve(invar_context **context) {
    if (*context) return INVAR_OK;
    invar_context *made = atomic_load(&default_context), *none = NULL;
    if (!made) {
        invar_context_options options = INVAR_CONTEXT_OPTIONS_INIT;
        INVAR_TRY(create(&made, &options));
        if (!atomic_compare_exchange_strong(&default_context, &none, made)) { /* another thread was first */
            invar_context_destroy(made);
            made = none;
        }
    }
    *context = made;
    return INVAR_OK;
}

invar_status invar_context_set_num_threads(invar_context *context, int32_t num_threads) {
    INVAR_TRY(check_threads(num_threads, "context_set_num_threads"));
    INVAR_TRY(invar_context_resolve(&context));
    invar_pool_resize(context->pool, num_threads);
    return INVAR_OK;
}

invar_status invar_context_info(invar_context *context, invar_context_description *description) {
    if (!description) return invar_fail(INVAR_ERROR_NULL, "context_info: description: expected a pointer, got NULL");
    size_t size = description->size;
    if (size < sizeof size || size > sizeof *description)
        return invar_fail(INVAR_ERROR_VALUE, "context_info: description.size: expected %zu to %zu, got %zu", sizeof size,
                          sizeof *description, size);
    INVAR_TRY(invar_context_resolve(&context));
    invar_context_description full = context->description;
    full.size = size;
    full.num_threads = invar_pool_threads(context->pool);
    memcpy(description, &full, size);
    return INVAR_OK;
}

invar_status invar_options_read(void *destination, size_t destination_size, const void *options, const char *operation) {
    if (!options) return INVAR_OK;
    size_t size;
    memcpy(&size, options, sizeof size);
    if (size < sizeof size || size > destination_size)
        return invar_fail(INVAR_ERROR_VALUE, "%s: options.size: expected %zu to %zu, got %zu", operation, sizeof size,
                          destination_size, size);
    memcpy(destination, options, size);
    memcpy(destination, &destination_size, sizeof destination_size);
    return INVAR_OK;
}

/* ---- running a call ----------------------------------------------------------------------------- */

static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

static invar_status check_execution(const invar_execution *execution, const char *operation) {
    if (execution->parallel_for && (execution->pool_threads < 1 || execution->pool_threads > INVAR_MAX_POOL_THREADS))
        return invar_fail(INVAR_ERROR_VALUE, "%s: execution.pool_threads: expected 1 to %d, got %d", operation,
                          INVAR_MAX_POOL_THREADS, execution->pool_threads);
    if ((uintptr_t)execution->workspace % 64)
        return invar_fail(INVAR_ERROR_VALUE, "%s: execution.workspace: expected 64-byte alignment, got %p", operation,
                          execution->workspace);
    if (execution->plan && execution->plan->size != sizeof *execution->plan)
        return invar_fail(INVAR_ERROR_VALUE, "%s: execution.plan: expected size %zu, got %zu", operation,
                          sizeof *execution->plan, execution->plan->size);
    return INVAR_OK;
}

static invar_status take_scratch(invar_run *run, size_t bytes, const char *operation) {
    const invar_execution *execution = run->execution;
    run->shared = execution->workspace;
    if (execution->workspace && execution->workspace_size < bytes)
        return invar_fail(INVAR_ERROR_MEMORY, "%s: execution.workspace_size: expected at least %zu, got %zu", operation,
                          bytes, execution->workspace_size);
    if (execution->workspace || !bytes) return INVAR_OK;
    run->owned = invar_scratch_take(run->context->scratch, bytes);
    if (!run->owned) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory for %zu bytes of scratch", operation, bytes);
    run->shared = invar_scratch_data(run->owned);
    return INVAR_OK;
}

int invar_run_threads(const invar_context *context, const invar_execution *execution) {
    return execution->parallel_for ? execution->pool_threads : invar_pool_threads(context->pool);
}

invar_status invar_run_begin(invar_run *run, invar_context *context, const invar_execution *execution, int64_t tasks,
                             size_t shared_bytes, size_t slot_bytes, const char *operation, bool *planned) {
    INVAR_TRY(check_execution(execution, operation));
    int threads = invar_run_threads(context, execution);
    if (threads > tasks) threads = tasks > 0 ? (int)tasks : 1;
    *run = (invar_run){ .context = context, .execution = execution, .threads = threads, .slot_bytes = lines(slot_bytes) };
    size_t bytes;
    if (__builtin_mul_overflow(run->slot_bytes, (size_t)threads, &bytes) ||
        __builtin_add_overflow(bytes, lines(shared_bytes), &bytes))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory: scratch for %d threads takes more than there are addresses",
                          operation, threads);
    *planned = execution->plan != NULL;
    if (*planned) {
        *execution->plan = (invar_plan)INVAR_PLAN_INIT;
        execution->plan->workspace = bytes;
        execution->plan->tasks = tasks;
        execution->plan->threads = threads;
        return INVAR_OK;
    }
    INVAR_TRY(take_scratch(run, bytes, operation));
    run->slots = run->shared ? run->shared + lines(shared_bytes) : NULL;
    return INVAR_OK;
}

struct slotted_task {
    invar_run *run;
    invar_scratch_task task;
    void *argument;
};

/* A free slot, the one this thread had last if it can: its lines are in the thread's cache. */
static int take_slot(invar_run *run) {
    static _Thread_local int last;
    for (int i = last < run->threads ? last : 0, tried = 0;; i = i + 1 < run->threads ? i + 1 : 0, tried++) {
        uint64_t bit = (uint64_t)1 << i % 64;
        if (!(atomic_fetch_or_explicit(&run->taken[i / 64], bit, memory_order_acquire) & bit)) return last = i;
        if (tried > 2 * run->threads) sched_yield(); /* a parallel_for that runs more at once than it promised */
    }
}

static void run_slotted(void *argument, int64_t index) {
    struct slotted_task *job = argument;
    invar_run *run = job->run;
    bool foreign = run->execution->parallel_for != NULL;
    invar_float_environment saved = foreign ? invar_float_environment_set() : 0;
    int slot = run->threads > 1 ? take_slot(run) : 0;
    job->task(job->argument, index, run->slots ? run->slots + run->slot_bytes * (size_t)slot : NULL);
    if (run->threads > 1)
        atomic_fetch_and_explicit(&run->taken[slot / 64], ~((uint64_t)1 << slot % 64), memory_order_release);
    if (foreign) invar_float_environment_restore(saved);
}

static void run_slots(invar_run *run, int64_t tasks, bool apart, invar_scratch_task task, void *argument) {
    struct slotted_task job = { run, task, argument };
    const invar_execution *execution = run->execution;
    if (execution->parallel_for) {
        if (tasks > 0) execution->parallel_for(execution->pool, tasks, run_slotted, &job);
    } else {
        invar_pool_run(run->context->pool, run->threads, tasks, apart, run_slotted, &job);
    }
}

void invar_run_tasks(invar_run *run, int64_t tasks, invar_scratch_task task, void *argument) {
    run_slots(run, tasks, false, task, argument);
}

void invar_run_tasks_apart(invar_run *run, int64_t tasks, invar_scratch_task task, void *argument) {
    run_slots(run, tasks, true, task, argument);
}

void invar_run_end(invar_run *run) {
    if (run->owned) invar_scratch_give(run->context->scratch, run->owned);
    run->owned = NULL;
}
