/* What the system tells of the machine. */
#ifndef INVAR_CORE_MACHINE_H
#define INVAR_CORE_MACHINE_H

#include <invar/invar.h>

/* Fills processor, compiler and cache sizes; what is not known stays empty or 0. */
void invar_machine_describe(invar_context_description *description);

#endif
