/* Compiled kernels as shared objects of this process. */
#ifndef INVAR_JIT_LOAD_H
#define INVAR_JIT_LOAD_H

#include <stddef.h>

/* Loads a shared object, from `file` where that is not -1 and its folder allows execution, else from memory. NULL with the
 * loader's words in why. */
void *invar_cache_load(int file, const char *data, size_t size, char *why, size_t why_size);

/* A file in memory with these bytes, executable where the system allows it; -1 where there is no such thing. */
int invar_memory_file(const char *data, size_t size);

#endif
