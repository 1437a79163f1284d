/* What can be asked of the cache and the compiler from outside. */
#include "core/cache.h"
#include "jit/kernel.h"

#include <stdio.h>
#include <string.h>

/* The command as a user would type it. */
static void describe_compiler(invar_kernel_cache_description *full) {
    invar_compiler compiler;
    size_t length = 0;
    if (invar_kernel_compiler(&compiler, false, "kernel_cache_info") != INVAR_OK) return;
    for (int i = 0; i < compiler.word_count && length < sizeof full->compiler; i++)
        length += (size_t)snprintf(full->compiler + length, sizeof full->compiler - length, "%s%s", i ? " " : "",
                                   compiler.words[i]);
    snprintf(full->version, sizeof full->version, "%s", compiler.version);
}

invar_status invar_kernel_cache_info(invar_kernel_cache_description *description) {
    const char *operation = "kernel_cache_info";
    invar_kernel_cache_description full = INVAR_KERNEL_CACHE_DESCRIPTION_INIT;
    invar_cache cache;
    if (!description) return invar_fail(INVAR_ERROR_NULL, "%s: description: expected a pointer, got NULL", operation);
    size_t size = description->size;
    if (size < sizeof size || size > sizeof full)
        return invar_fail(INVAR_ERROR_VALUE, "%s: description.size: expected at most %zu, got %zu", operation, sizeof full,
                          size);
    invar_cache_open(&cache);
    snprintf(full.folder, sizeof full.folder, "%s", cache.folder >= 0 ? cache.path : "");
    snprintf(full.reason, sizeof full.reason, "%s", cache.reason);
    invar_cache_count(&cache, &full.entries, &full.bytes);
    invar_cache_close(&cache);
    full.limit = INVAR_CACHE_LIMIT;
    describe_compiler(&full);
    full.size = size;
    memcpy(description, &full, size);
    return INVAR_OK;
}

invar_status invar_kernel_cache_clear(void) {
    invar_cache cache;
    invar_cache_open(&cache);
    invar_status status = invar_cache_require(&cache, true, "kernel_cache_clear");
    if (status == INVAR_OK) invar_cache_trim(&cache, -1); /* -1 and not 0, which an empty entry would pass */
    invar_cache_close(&cache);
    return status;
}
