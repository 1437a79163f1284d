/* The thread pool: one job at a time, tasks handed out by atomic counters, callers from many threads, fork-safe. */
#ifndef INVAR_CORE_THREADS_H
#define INVAR_CORE_THREADS_H

#include <invar/invar.h>

#include <stdbool.h>

typedef struct invar_pool invar_pool;
enum { INVAR_MAX_POOL_THREADS = 1024 };

/* Threads start at the first job that needs them. NULL when out of memory. */
invar_pool *invar_pool_create(int threads);
void invar_pool_destroy(invar_pool *pool);
void invar_pool_resize(invar_pool *pool, int threads);
int invar_pool_threads(const invar_pool *pool);

/* Runs task(argument, i) for i in 0 … count-1 on at most `threads` threads, the caller's among them, and returns when
 * all are done. Tasks are begun in order or, apart, each thread first takes those of its own equal part of them, the same
 * call after call, and then others': for tasks alike whose memory may still lie in the caches of the thread that wrote it.
 * When the pool serves another caller, or is entered from one of its own tasks, the caller runs the job
 * alone. Every task runs with round-to-nearest, denormals kept, exceptions masked; the caller's floating-point
 * environment is restored. */
void invar_pool_run(invar_pool *pool, int threads, int64_t count, bool apart, invar_task task, void *argument);

/* Sets the floating-point environment that every task runs in, and returns the caller's, to be restored. */
typedef unsigned long invar_float_environment;
invar_float_environment invar_float_environment_set(void);
void invar_float_environment_restore(invar_float_environment saved);

/* Processors this process may run on. */
int invar_processor_count(void);

#endif
