/* The executor: a compiled kernel over its grid, on the CPU. */
#ifndef INVAR_JIT_EXEC_H
#define INVAR_JIT_EXEC_H

#include "core/status.h"
#include "jit/runtime.h"

/* Bytes of the kernel's threadgroup arrays, dynamic ones not included. */
uint64_t invar_exec_shared_bytes(const invar_module *module);

/* Runs every thread of the launch. operation and kernel name the call in sentences: "metal_kernel", "softmax".
 * INVAR_ERROR_KERNEL: threads wait for each other for ever, or one spins on an atomic that nobody writes. */
invar_status invar_exec_run(const invar_module *module, const invar_launch *launch, invar_context *context,
                            const invar_execution *execution, const char *operation, const char *kernel);

/* When a group is given up; tests lower them.
 * quiet: turns in a row of spinning lanes, 32 atomic operations each, while nothing else happens: some two seconds.
 * turns: waits of a group's lanes, and atomic operations that change something, since one of its lanes has ended: some
 * minutes, since nothing tells a loop that never ends from a long one. */
typedef struct invar_exec_limits {
    uint64_t quiet, turns;
} invar_exec_limits;
extern invar_exec_limits invar_exec_limit;

/* The sentence of a group that did not come to its end: "softmax.metal:7: ...". Returns text. */
struct invar_group;
char *invar_exec_describe(const struct invar_group *group, char *text, size_t capacity);

#endif
