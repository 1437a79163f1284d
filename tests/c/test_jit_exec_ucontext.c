/* The executor's tests over ucontext, which stands in where there is no assembler of ours. */
#define _GNU_SOURCE
#define INVAR_FIBRE_UCONTEXT 1
#include "jit/fibre.c" /* before the library's: the linker then takes none of these files */
#include "jit/exec_group.c"
#include "test_jit_exec.c"
