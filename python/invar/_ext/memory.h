/* Memory of outputs: 64-byte aligned, and large blocks recycled, so that a result does not pay for fresh pages each time. */
#ifndef INVAR_EXT_MEMORY_H
#define INVAR_EXT_MEMORY_H

#include "python.h"

#include <stddef.h>

/* At least `bytes` bytes with undefined contents, or NULL when there is no memory; *size is what to hand back with them. */
void *memory_take(size_t bytes, size_t *size);
/* May be called from any thread, with or without the GIL. */
void memory_give(void *data, size_t size);

/* Bytes that are kept for the next outputs. */
size_t memory_kept(void);

/* A Python object that owns such memory and gives it back: the base of a NumPy array. Takes data over, also on failure. */
PyObject *memory_owner(void *data, size_t size);

bool memory_init(void);

#endif
