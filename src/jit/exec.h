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

#endif
