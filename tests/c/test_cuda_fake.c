/* Tests of the way to a GPU without one: a driver and a compiler that only pretend (fake/) note what they are asked for. Each test is
 * a process of its own, because what a process has opened and loaded stays, and what it compiles goes to a folder of its own. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/module.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- launches ---------------------------------------------------------------------------------------- */

typedef struct probe_job {
    unsigned *words;
    unsigned count;
} probe_job;

static const invar_cuda_device *device(int id) {
    const invar_cuda_device *found = NULL;
    return CHECK_OK(invar_cuda_device_get(&found, id, "test")) ? found : NULL;
}

static invar_status launch_on(int id, const char *defines, unsigned shared) {
    static unsigned words[8];
    const probe_job job = { words, 8 };
    const invar_cuda_launch wanted = { &invar_cuda_probe, defines, { 3, 2, 1 }, 64, shared, &job };
    const invar_cuda_device *gpu = device(id);
    if (!fake_cuda.job_bytes) fake_cuda.job_bytes = sizeof job;
    return gpu ? invar_cuda_enqueue(gpu, &wanted, STREAM, "test") : INVAR_ERROR_DEVICE;
}

static invar_status launch(const char *defines, unsigned shared) { return launch_on(0, defines, shared); }

static bool a_launch(void) {
    bool good = CHECK_OK(launch("-DX=1", 0)) && CHECK(fake_cuda.launches == 1, "%d launches", fake_cuda.launches);
    const fake_launch *seen = &fake_cuda.launch[0];
    probe_job job;
    memcpy(&job, seen->job, sizeof job);
    good = CHECK(!strcmp(seen->function, "invar_probe"), "%s", seen->function) && good;
    good = CHECK(seen->grid[0] == 3 && seen->grid[1] == 2 && seen->grid[2] == 1 && seen->block[0] == 64 && seen->block[1] == 1 &&
                     seen->block[2] == 1 && seen->shared == 0 && seen->stream == STREAM && job.count == 8,
                 "another launch than was asked for") && good;
    good = CHECK(!strcmp(fake_nvrtc.options, "--gpu-architecture=sm_90a --std=c++17 --fmad=false -DX=1 "), "%s", fake_nvrtc.options)
           && good;
    good = CHECK_OK(launch("-DX=1", 0)) && CHECK_OK(launch("-DX=2", 0)) && good;
    good = CHECK(fake_cuda.launches == 3 && fake_cuda.modules == 2 && fake_nvrtc.compiled == 2, "%d launches, %d modules, %d compiled",
                 fake_cuda.launches, fake_cuda.modules, fake_nvrtc.compiled) && good;
    return good;
}

/* A later launch may ask for more shared memory than the one that loaded the function. */
static bool shared_memory(void) {
    const invar_cuda_device *gpu = device(0);
    bool good = gpu && CHECK_OK(launch("", 0)) && CHECK_OK(launch("", 100 << 10)) && CHECK_OK(launch("", (unsigned)gpu->shared_most));
    return CHECK_FAILS(launch("", 228 << 10), INVAR_ERROR_DEVICE, "cuLaunchKernel") && good;
}

/* A function is one device's. */
static bool two_devices(void) {
    fake_cuda.devices = 2;
    bool good = CHECK_OK(launch_on(0, "", 0)) && CHECK_OK(launch_on(1, "", 0)) && CHECK_OK(launch_on(1, "", 0));
    return CHECK(fake_cuda.modules == 2 && fake_nvrtc.compiled == 1, "%d modules, %d compiled", fake_cuda.modules,
                 fake_nvrtc.compiled) && good;
}

static void check_launches(void) {
    IN_CHILD(two_devices); /* while nothing is in the cache */
    IN_CHILD(a_launch);
    IN_CHILD(shared_memory);
}
static void launches(void) { with_empty_cache(check_launches); }

static void *launch_often(void *failed) {
    for (int i = 0; i < 50; i++) {
        char defines[32];
        snprintf(defines, sizeof defines, "-DX=%d", i % 5);
        if (launch(defines, 0) != INVAR_OK) *(bool *)failed = true;
    }
    return NULL;
}

static bool from_threads(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    bool failed[THREADS] = { false };
    fake_cuda.job_bytes = sizeof(probe_job);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, launch_often, &failed[i]);
    bool good = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        good = CHECK(!failed[i], "thread %d: a launch failed", i) && good;
    }
    return CHECK(fake_cuda.launches == 50 * THREADS && fake_cuda.modules >= 5, "%d launches of %d modules", fake_cuda.launches,
                 fake_cuda.modules) && CHECK(fake_cuda.pools == 1, "%d scratch pools", fake_cuda.pools) && good;
}

static void check_threads(void) { IN_CHILD(from_threads); }
static void launches_from_threads(void) { with_empty_cache(check_threads); }

/* ---- the cache --------------------------------------------------------------------------------------- */

static bool compiles_once(void) {
    return CHECK_OK(launch("", 0)) && CHECK(fake_nvrtc.compiled == 1, "%d compiled", fake_nvrtc.compiled);
}
static bool compiles_nothing(void) {
    return CHECK_OK(launch("", 0)) && CHECK(fake_nvrtc.compiled == 0, "%d compiled", fake_nvrtc.compiled);
}
/* Of another architecture there is another image. */
static bool compiles_for_another(void) {
    fake_cuda.major = 8, fake_cuda.minor = 6;
    return compiles_once() && CHECK(!strncmp(fake_nvrtc.options, "--gpu-architecture=sm_86 ", 25), "%s", fake_nvrtc.options);
}
/* For a GPU that is newer than the compiler, the newest that it knows, as text which the driver compiles. */
static bool compiles_for_a_newer(void) {
    fake_cuda.major = 13;
    return compiles_once() && CHECK(!strncmp(fake_nvrtc.options, "--gpu-architecture=compute_120 ", 31), "%s", fake_nvrtc.options);
}

/* Changes a byte of every entry. */
static int damage_entries(void) {
    int entries = 0;
    DIR *opened = opendir(folder);
    for (struct dirent *entry; opened && (entry = readdir(opened));) {
        char path[INVAR_PATH_BYTES + sizeof entry->d_name + 1];
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "r+");
        if (!file) continue;
        fputc('!', file);
        fclose(file);
        entries++;
    }
    if (opened) closedir(opened);
    return entries;
}

static void check_cache(void) {
    IN_CHILD(compiles_once);
    IN_CHILD(compiles_nothing);
    IN_CHILD(compiles_for_another);
    IN_CHILD(compiles_nothing);
    CHECK(damage_entries() == 2, "expected an entry for each architecture");
    IN_CHILD(compiles_once);
    IN_CHILD(compiles_nothing);
    IN_CHILD(compiles_for_a_newer);
}
static void images_are_kept(void) { with_empty_cache(check_cache); }

static bool refuses_the_cache(void) { return CHECK_FAILS(launch("", 0), INVAR_ERROR_ENVIRONMENT, "INVAR_CACHE_DIR"); }

static void an_unusable_cache_is_an_error(void) {
    setenv("INVAR_CACHE_DIR", "/proc/none/here", 1);
    IN_CHILD(refuses_the_cache);
    unsetenv("INVAR_CACHE_DIR");
}

static void check_that_nothing_is_kept(void) {
    chmod(folder, 0777);
    IN_CHILD(refuses_the_cache);
    chmod(folder, 0700);
}
static void a_cache_that_others_write_is_an_error(void) { with_empty_cache(check_that_nothing_is_kept); }

/* ---- errors ------------------------------------------------------------------------------------------ */

static bool fails(const char *function, CUresult result, invar_status expected, const char *words) {
    fake_cuda_fail(function, 0, result);
    return CHECK_FAILS(launch("", 0), expected, words) && CHECK(!fake_cuda.contexts, "%s: a context is still pushed", function);
}

static bool driver_errors(void) {
    bool good = device(0) != NULL;
    good = fails("cuCtxPushCurrent_v2", 709, INVAR_ERROR_DEVICE, "test: cuCtxPushCurrent failed: an error without a name") && good;
    good = fails("cuModuleLoadData", FAKE_OUT_OF_MEMORY, INVAR_ERROR_MEMORY, "out of memory (CUDA_ERROR_OUT_OF_MEMORY)") && good;
    good = fails("cuModuleLoadData", 222, INVAR_ERROR_DEVICE, "a kernel of NVRTC 90.1 into a driver for CUDA 13.0") && good;
    good = CHECK(!fake_cuda.modules, "%d modules", fake_cuda.modules) && good;
    good = fails("cuModuleGetFunction", 500, INVAR_ERROR_DEVICE, "loading a kernel") && good;
    good = fails("cuFuncSetAttribute", 1, INVAR_ERROR_DEVICE, "loading a kernel") && good;
    good = CHECK(!fake_cuda.modules, "%d modules were not unloaded", fake_cuda.modules) && good;
    good = fails("cuLaunchKernel", FAKE_LAUNCH_FAILED, INVAR_ERROR_DEVICE,
                 "test: cuLaunchKernel failed: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED)") && good;
    return CHECK_OK(launch("", 0)) && good;
}

static bool compiler_errors(void) {
    fake_nvrtc.result = 6;
    bool good = CHECK_FAILS(launch("-DX=1", 0), INVAR_ERROR_COMPILE,
                            "probe.cu did not compile: NVRTC_ERROR_COMPILATION\nk.cu(1)");
    fake_nvrtc.result = 1;
    good = CHECK_FAILS(launch("-DX=1", 0), INVAR_ERROR_MEMORY, "probe.cu") && good;
    char many[2000];
    memset(many, 'x', sizeof many);
    many[sizeof many - 1] = 0;
    good = CHECK_FAILS(launch(many, 0), INVAR_ERROR_COMPILE, "at most") && good;
    return CHECK_OK(launch("-DX=1", 0)) && good;
}

static bool scratch(void) {
    const invar_cuda_device *gpu = device(0);
    void *memory = &gpu;
    if (!gpu || !CHECK_OK(invar_cuda_scratch_take(gpu, &memory, 0, STREAM, "test"))) return false;
    bool good = CHECK(!memory && !fake_cuda.allocated, "memory for no bytes");
    invar_cuda_scratch_give(gpu, memory, STREAM);
    good = CHECK_OK(invar_cuda_scratch_take(gpu, &memory, 1000, STREAM, "test")) && good;
    good = CHECK(fake_cuda.allocations == 1 && fake_cuda.memory_stream == STREAM, "%d", fake_cuda.allocations) && good;
    fake_cuda.memory_stream = NULL;
    invar_cuda_scratch_give(gpu, memory, STREAM);
    good = CHECK(!fake_cuda.allocations && fake_cuda.memory_stream == STREAM, "%d", fake_cuda.allocations) && good;
    fake_cuda_fail("cuMemAllocFromPoolAsync", 0, FAKE_OUT_OF_MEMORY);
    return CHECK_FAILS(invar_cuda_scratch_take(gpu, &memory, 1000, STREAM, "test"), INVAR_ERROR_MEMORY, "cuMemAllocFromPoolAsync") &&
           good;
}

static void errors_are_told(void) {
    IN_CHILD(driver_errors);
    IN_CHILD(compiler_errors);
    IN_CHILD(scratch);
}
static void errors(void) { with_empty_cache(errors_are_told); }

/* ---- devices ------------------------------------------------------------------------------------------ */

static bool none(const char *words) {
    const invar_cuda_device *found;
    return CHECK_FAILS(invar_cuda_device_get(&found, 0, "test"), INVAR_ERROR_DEVICE, words);
}

static bool no_device(void) {
    fake_cuda.devices = 0;
    return none("shows no GPU");
}
static bool no_start(void) {
    fake_cuda_fail("cuInit", 0, 803);
    return none("does not start");
}
static bool too_old(void) {
    fake_cuda.major = 7, fake_cuda.minor = 5;
    return none("expected a GPU of compute capability 8.0 or newer, got Pretended GPU 0, which has 7.5");
}
static bool no_context(void) {
    fake_cuda_fail("cuDevicePrimaryCtxRetain", 0, FAKE_OUT_OF_MEMORY);
    const invar_cuda_device *found;
    return CHECK_FAILS(invar_cuda_device_get(&found, 0, "test"), INVAR_ERROR_MEMORY, "cuDevicePrimaryCtxRetain") &&
           CHECK_OK(invar_cuda_device_get(&found, 0, "test"));
}
static bool properties(void) {
    const invar_cuda_device *gpu = device(0), *again = device(0), *other;
    fake_cuda.devices = 1;
    return gpu && CHECK(gpu == again && fake_cuda.retained == 1, "%d contexts", fake_cuda.retained) &&
           CHECK(gpu->major == 9 && gpu->minor == 0 && gpu->multiprocessors == 132 && gpu->shared_most == 227 << 10, "%s",
                 gpu->name) &&
           CHECK_FAILS(invar_cuda_device_get(&other, 1, "test"), INVAR_ERROR_DEVICE, "expected a CUDA device from 0 to 0, got 1");
}

static bool in_its_child(void) { return none("forked"); }
static bool after_a_start(void) { return device(0) && in_child(in_its_child); }
/* As PyTorch does: the driver was started, but not by this library. */
static bool after_anothers_start(void) {
    CUresult cuInit(unsigned);
    return CHECK(!cuInit(0), "cuInit") && in_child(in_its_child);
}

static void devices(void) {
    IN_CHILD(properties);
    IN_CHILD(no_device);
    IN_CHILD(no_start);
    IN_CHILD(too_old);
    IN_CHILD(no_context);
    IN_CHILD(after_a_start);
    IN_CHILD(after_anothers_start);
}

CHECK_MAIN(CHECK_TEST(devices), CHECK_TEST(launches), CHECK_TEST(launches_from_threads), CHECK_TEST(images_are_kept),
           CHECK_TEST(an_unusable_cache_is_an_error), CHECK_TEST(a_cache_that_others_write_is_an_error), CHECK_TEST(errors))
