/* One instruction set's table of kernels; compiled once for each, with INVAR_ISA naming it. INVAR_ISA_PLAIN names the one
 * whose kernels serve the rows that gain nothing from bfloat16 dot products. */
#include "cpu/dispatch.h"

#define PASTE_(isa, name) invar_##isa##_##name
#define PASTE(isa, name) PASTE_(isa, name)
#define TABLE_(isa) invar_kernels_##isa
#define TABLE(isa) TABLE_(isa)
#define STRING_(x) #x
#define STRING(x) STRING_(x)

#define INVAR_KERNEL(name, type) type PASTE(INVAR_ISA_PLAIN, name);
#define INVAR_KERNEL_DOT(name, type) type PASTE(INVAR_ISA, name);
#include "cpu/kernels.def"
#undef INVAR_KERNEL
#undef INVAR_KERNEL_DOT

extern const invar_kernels TABLE(INVAR_ISA);
const invar_kernels TABLE(INVAR_ISA) = {
    .name = STRING(INVAR_ISA),
#define INVAR_KERNEL(name, type) .name = PASTE(INVAR_ISA_PLAIN, name),
#define INVAR_KERNEL_DOT(name, type) .name = PASTE(INVAR_ISA, name),
#include "cpu/kernels.def"
};
