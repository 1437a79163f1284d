/* The context: chosen kernels, threads, scratch; and how a planned call runs its tasks. */
#ifndef INVAR_CORE_CONTEXT_H
#define INVAR_CORE_CONTEXT_H

#include "core/status.h"
#include "core/threads.h"

#include <stdatomic.h>
#include <stdbool.h>

struct invar_kernels; /* cpu/dispatch.h */
enum { INVAR_KEPT_SCRATCH = 8 };

struct invar_context {
    invar_pool *pool;
    const struct invar_kernels *kernels;
    _Atomic(struct invar_scratch *) scratch[INVAR_KEPT_SCRATCH]; /* freed workspaces kept for the next call */
    invar_context_description description;
};

/* context itself, or the process's default one, created at its first use. */
invar_status invar_context_resolve(invar_context **context);

/* Copies the caller's options over defaults, as many bytes as the caller's size says: an older caller's shorter struct
 * keeps the defaults of the fields it does not know. options may be NULL. */
invar_status invar_options_read(void *destination, size_t destination_size, const void *options, const char *operation);

/* One call's way to run: where its tasks go and its scratch memory. */
typedef struct invar_run {
    invar_context *context;
    const invar_execution *execution;
    int threads;        /* tasks at once, at most */
    char *shared;       /* scratch of the whole call, 64-byte aligned */
    char *slots;        /* `threads` pieces of slot_bytes, one a running task */
    size_t slot_bytes;
    struct invar_scratch *owned; /* what invar_run_end gives back */
    _Atomic uint64_t taken[INVAR_MAX_POOL_THREADS / 64]; /* a bit a slot */
} invar_run;

/* A task of a call: index, and scratch of slot_bytes that is this task's alone while it runs (contents undefined). */
typedef void (*invar_scratch_task)(void *argument, int64_t index, void *scratch);

/* Tasks that a call may run at once. */
int invar_run_threads(const invar_context *context, const invar_execution *execution);

/* Takes shared_bytes, and slot_bytes for each thread that `tasks` can keep busy, from the caller's workspace or the
 * context's; both are rounded up to whole cache lines. When execution->plan is set, fills plan->workspace, tasks and
 * threads and sets *planned: the caller then fills in the rest and returns. */
invar_status invar_run_begin(invar_run *run, invar_context *context, const invar_execution *execution, int64_t tasks,
                             size_t shared_bytes, size_t slot_bytes, const char *operation, bool *planned);
/* Tasks are begun in order: the longest first, where they differ. */
void invar_run_tasks(invar_run *run, int64_t tasks, invar_scratch_task task, void *argument);
/* Each thread begins with tasks of its own, the same ones call after call (core/threads.h): for tasks that are alike. */
void invar_run_tasks_apart(invar_run *run, int64_t tasks, invar_scratch_task task, void *argument);
void invar_run_end(invar_run *run);

#endif
