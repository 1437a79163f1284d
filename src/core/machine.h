/* What the system tells of the machine. */
#ifndef INVAR_CORE_MACHINE_H
#define INVAR_CORE_MACHINE_H

#include <invar/invar.h>

#include <stdbool.h>

/* Fills processor, compiler and cache sizes; what is not known stays empty or 0. */
void invar_machine_describe(invar_context_description *description);

/* Bytes that a call on so many threads may leave in the caches and find there again; what moves more goes past them. */
int64_t invar_machine_cached(const invar_context_description *description, int threads);

/* Cores with 2 MiB of second-level cache or more, as Xeons have since Sapphire Rapids, where Zen 4 has 1: for orders of work that
 * were measured to suit those. */
bool invar_machine_roomy(const invar_context_description *description);

#endif
