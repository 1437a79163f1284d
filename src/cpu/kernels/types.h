/* The function types of every kernel in kernels.def: one header an operation. */
#ifndef INVAR_CPU_KERNELS_TYPES_H
#define INVAR_CPU_KERNELS_TYPES_H

#include "cpu/kernels/attention.h"
#include "cpu/kernels/attention_vjp.h"
#include "cpu/kernels/norm.h"
#include "cpu/kernels/peak.h"
#include "cpu/kernels/rope.h"

#endif
