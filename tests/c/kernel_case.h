/* What the tests of custom kernels' C API share: a cache folder of their own, descriptions and launches of small kernels. */
#ifndef TESTS_KERNEL_CASE_H
#define TESTS_KERNEL_CASE_H

#include "check.h"
#include "jit/process.h"

#include <invar/kernel.h>

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char cache[INVAR_PATH_BYTES];

/* Every program of this file is compiled into one folder of its own. Under an emulator the host's compiler will not do. */
static inline void begin(void) {
    CHECK(invar_temporary_folder(cache), "%s", strerror(errno));
    setenv("INVAR_CACHE_DIR", cache, 1);
    unsetenv("INVAR_KERNEL_CHECK");
    if (getenv("CHECK_EMULATED")) setenv("INVAR_CXX", "aarch64-linux-gnu-g++", 1);
}

static inline void end(void) {
    invar_temporary_folder_remove(cache);
    unsetenv("INVAR_CACHE_DIR");
}

static const char *const ab[] = { "a", "b" }, *const out_name[] = { "out" };

static inline invar_kernel_description describe(int32_t dialect, const char *name, const char *source) {
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    d.dialect = dialect;
    d.name = name;
    d.input_names = ab;
    d.input_count = 2;
    d.output_names = out_name;
    d.output_count = 1;
    d.source = source;
    return d;
}

static inline invar_kernel *create(const invar_kernel_description *d) {
    invar_kernel *kernel = NULL;
    CHECK_OK(invar_kernel_create(&kernel, d));
    return kernel;
}

static const char multiply[] = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * b[i];\n";

static inline invar_status launch(invar_kernel *kernel, const invar_tensor *out, const invar_tensor *a, const invar_tensor *b,
                           const invar_launch_options *options) {
    return invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ out }, 1, (const invar_tensor *[]){ a, b }, 2, options);
}

static inline invar_launch_options grid_of(int64_t threads, int64_t group) {
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    options.grid[0] = threads;
    options.threadgroup[0] = group;
    return options;
}

/* Files of the cache with that ending. */
static inline int count_files(const char *ending) {
    int count = 0;
    DIR *folder = opendir(cache);
    for (struct dirent *entry; folder && (entry = readdir(folder));) count += strstr(entry->d_name, ending) != NULL;
    if (folder) closedir(folder);
    return count;
}

#endif
