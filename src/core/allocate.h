/* Scratch memory, kept for the next call. The slots are exchanged atomically and never locked, so a fork leaves nothing
 * half done. */
#ifndef INVAR_CORE_ALLOCATE_H
#define INVAR_CORE_ALLOCATE_H

#include "core/context.h"

typedef struct invar_scratch invar_scratch;

/* A block of at least `bytes` from the kept ones, or a new one; NULL when out of memory. */
invar_scratch *invar_scratch_take(_Atomic(invar_scratch *) kept[INVAR_KEPT_SCRATCH], size_t bytes);
/* Keeps the block, in place of another where no slot is free. */
void invar_scratch_give(_Atomic(invar_scratch *) kept[INVAR_KEPT_SCRATCH], invar_scratch *block);
void invar_scratch_free(invar_scratch *block);
/* 64-byte aligned. */
char *invar_scratch_data(invar_scratch *block);

#endif
