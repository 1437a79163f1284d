/* Which kernels serve this machine: one table of functions an instruction set, chosen once a context. */
#ifndef INVAR_CPU_DISPATCH_H
#define INVAR_CPU_DISPATCH_H

#include "core/dtype.h"
#include "core/status.h"

/* The function types of kernels.def, each with its contract. */
#include "cpu/kernels/types.h"

#include <string.h>

typedef struct invar_kernels {
    const char *name; /* as in INVAR_CPU: "avx2" */
#define INVAR_KERNEL(name, type) type *name;
#define INVAR_KERNEL_DOT(name, type) type *name;
#include "cpu/kernels.def"
#undef INVAR_KERNEL
#undef INVAR_KERNEL_DOT
} invar_kernels;

/* Plain scalar C with accumulation in double: the readable specification of every kernel, for all four types. It serves
 * float64 on every instruction set. */
extern const invar_kernels invar_kernels_reference;

/* The kernels that serve elements of `type` under `chosen`. */
static inline const invar_kernels *invar_kernels_for(const invar_kernels *chosen, invar_float_type type) {
    return type == INVAR_F64 ? &invar_kernels_reference : chosen;
}

/* Cores that come with AMX: two multiply-adds of 512 bits a cycle, 48 KiB of first-level cache of 12 ways and 2 MiB behind it. */
static inline bool invar_kernels_strong_cores(const invar_kernels *kernels) { return strcmp(kernels->name, "amx") == 0; }

/* Chooses by name, NULL or "": the best there is. Fills cpu, cpu_available and cpu_reason of the description.
 * INVAR_ERROR_ENVIRONMENT when name is unknown or the machine lacks it; `source` names where the name came from. */
invar_status invar_dispatch(const invar_kernels **kernels, const char *name, const char *source,
                            invar_context_description *description);

#endif
