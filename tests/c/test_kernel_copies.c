/* Two copies of the library in one process, as where a program that links it loads the Python package: each must load its own
 * kernels, although the loader knows objects by their names. */
#define _GNU_SOURCE
#include "check.h"
#include "jit/process.h"

#include <invar/kernel.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static __typeof__(invar_kernel_create) *other_create;
static __typeof__(invar_kernel_launch) *other_launch;

static invar_kernel *volatile kept[4]; /* so that what they have loaded stays, and nothing counts as leaked */
static int kept_count;

static float run(__typeof__(invar_kernel_create) *create, __typeof__(invar_kernel_launch) *launch, const char *source) {
    static const char *const names[] = { "out" };
    float result = 0;
    int64_t shape[] = { 1 };
    invar_tensor out = { .data = &result, .device = { INVAR_DEVICE_CPU, 0 }, .ndim = 1, .dtype = check_f32, .shape = shape };
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    invar_kernel *kernel = NULL;
    d.dialect = INVAR_DIALECT_METAL;
    d.name = "k", d.source = source;
    d.output_names = names, d.output_count = 1;
    CHECK_OK(create(&kernel, &d));
    CHECK_OK(launch(kernel, NULL, (const invar_tensor *[]){ &out }, 1, NULL, 0, &options));
    kept[kept_count++] = kernel;
    return result;
}

static void test_copies(void) {
    char cache[INVAR_PATH_BYTES];
    if (getenv("CHECK_EMULATED")) setenv("INVAR_CXX", "aarch64-linux-gnu-g++", 1);
    CHECK(invar_temporary_folder(cache), "%s", strerror(errno));
    setenv("INVAR_CACHE_DIR", cache, 1);
    void *other = dlopen(INVAR_SHARED, RTLD_NOW | RTLD_LOCAL);
    if (!CHECK(other, "%s", dlerror())) return;
    *(void **)&other_create = dlsym(other, "invar_kernel_create");
    *(void **)&other_launch = dlsym(other, "invar_kernel_launch");
    CHECK(other_create && other_create != invar_kernel_create, "the library that was loaded is no second copy");
    CHECK(run(invar_kernel_create, invar_kernel_launch, "out[0] = 1;") == 1, "the first copy's kernel");
    CHECK(run(other_create, other_launch, "out[0] = 2;") == 2, "the second copy's kernel");
    CHECK(run(invar_kernel_create, invar_kernel_launch, "out[0] = 3;") == 3, "the first copy's second kernel");
    CHECK(run(other_create, other_launch, "out[0] = 4;") == 4, "the second copy's second kernel");
    invar_temporary_folder_remove(cache);
}

CHECK_MAIN(CHECK_TEST(test_copies))
