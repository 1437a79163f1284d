/* The folder of compiled kernels. Its entries are executed, so each proves itself before it is loaded. */
#ifndef INVAR_CORE_CACHE_H
#define INVAR_CORE_CACHE_H

#include "core/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { INVAR_PATH_BYTES = 1024 }; /* of a folder's path */

/* Bytes above which the oldest entries are removed. */
#define INVAR_CACHE_LIMIT ((int64_t)256 << 20)

typedef struct invar_cache {
    int folder;                  /* descriptor; -1 when kernels are kept in memory only */
    char path[INVAR_PATH_BYTES]; /* INVAR_CACHE_DIR, else ~/.cache/invar; "" where there is neither */
    char reason[256];            /* why the folder is not used; "" when it is */
    bool chosen;                 /* path is INVAR_CACHE_DIR */
} invar_cache;

/* Opens the folder, making it (0700) where it is missing. Never fails: a folder that others can write to, or that cannot be
 * made, is not used and `reason` says why. */
void invar_cache_open(invar_cache *cache);
void invar_cache_close(invar_cache *cache);

/* INVAR_ERROR_ENVIRONMENT where INVAR_CACHE_DIR names a folder that is not used or, with `write`, that takes no new entry. The
 * usual folder may be missing: kernels are kept in memory then. A disk that is full is no error either. */
invar_status invar_cache_require(const invar_cache *cache, bool write, const char *operation);

/* An entry that was found whole. */
typedef struct invar_cache_entry {
    int file;   /* its descriptor */
    char *data; /* its bytes */
    size_t size;
} invar_cache_entry;

/* False when there is no such entry, or none that this user wrote, that nobody else can write, and whose bytes and name have
 * the SHA-256 stored with them. */
bool invar_cache_get(const invar_cache *cache, const char *name, invar_cache_entry *entry);
void invar_cache_entry_close(invar_cache_entry *entry);

/* Writes an entry under a temporary name, syncs it, and renames it: a reader sees the old entry, the new one or none. False
 * when it could not be written (a full disk, a folder that turned read-only). */
bool invar_cache_put(const invar_cache *cache, const char *name, const char *data, size_t size);

/* Writes all the bytes, whatever interrupts it. */
bool invar_write_all(int file, const void *data, size_t size);

/* Removes the oldest entries until the rest take at most limit bytes, and what writers that died left behind. */
void invar_cache_trim(const invar_cache *cache, int64_t limit);
/* What the folder holds. */
void invar_cache_count(const invar_cache *cache, int64_t *entries, int64_t *bytes);

#endif
