/* Tests of what stands under the CUDA kernels: NVRTC, which needs no GPU, the driver, and launching, where there is one. */
#define _GNU_SOURCE
#include "check.h"
#include "cuda/module.h"
#include "cuda/nvrtc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const invar_nvrtc *nvrtc_or_skip(void) {
    const invar_nvrtc *nvrtc = NULL;
    const invar_status status = invar_nvrtc_get(&nvrtc, "test");
    if (status == INVAR_ERROR_COMPILE) check_skip("%s", invar_last_error());
    else CHECK_OK(status); /* INVAR_NVRTC names one that is none */
    return nvrtc;
}

static void targets(void) {
    const invar_nvrtc *nvrtc = nvrtc_or_skip();
    char target[INVAR_NVRTC_TARGET];
    if (!nvrtc) return;
    CHECK_OK(invar_nvrtc_target(nvrtc, 8, 0, target, "test"));
    CHECK(!strcmp(target, "sm_80"), "got %s", target);
    CHECK_OK(invar_nvrtc_target(nvrtc, 9, 0, target, "test"));
    CHECK(!strcmp(target, "sm_90a"), "got %s", target);
    CHECK_OK(invar_nvrtc_target(nvrtc, 99, 0, target, "test")); /* newer than any NVRTC: the driver compiles the rest */
    CHECK(!strncmp(target, "compute_", 8), "got %s", target);
    CHECK_FAILS(invar_nvrtc_target(nvrtc, 1, 0, target, "test"), INVAR_ERROR_COMPILE, "1.0");
}

static void errors_carry_the_log(void) {
    const invar_nvrtc *nvrtc = nvrtc_or_skip();
    char *image = NULL;
    size_t size = 0;
    if (!nvrtc) return;
    const char *text = "extern \"C\" __global__ void f(int *p) {\n    *p = unknown;\n}\n";
    CHECK_FAILS(invar_nvrtc_compile(nvrtc, "wrong.cu", text, NULL, 0, "sm_90a", "", "test", &image, &size, NULL), INVAR_ERROR_COMPILE,
                "wrong.cu(2): error: identifier \"unknown\" is undefined");
}

/* In a process of its own, and before the others, since a library that was opened stays. */
static void a_wrong_library_is_an_error(void) {
    pid_t child = fork();
    if (!child) {
        const invar_nvrtc *nvrtc;
        setenv("INVAR_NVRTC", "/no/such/library.so", 1);
        bool good = CHECK_FAILS(invar_nvrtc_get(&nvrtc, "test"), INVAR_ERROR_ENVIRONMENT, "INVAR_NVRTC");
        setenv("INVAR_NVRTC", "libm.so.6", 1);
        good = CHECK_FAILS(invar_nvrtc_get(&nvrtc, "test"), INVAR_ERROR_ENVIRONMENT, "libm.so.6") && good;
        _exit(!good);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "the child ended with %d", status);
}

static void devices_are_found_or_refused(void) {
    const invar_cuda_device *device;
    char reason[256];
    int count = invar_cuda_count(reason, sizeof reason);
    CHECK(!count == !!*reason, "%d devices, '%s'", count, reason);
    CHECK_FAILS(invar_cuda_device_get(&device, count, "test"), INVAR_ERROR_DEVICE, "CUDA device");
    CHECK_FAILS(invar_cuda_device_get(&device, -1, "test"), INVAR_ERROR_DEVICE, "CUDA device");
}

CHECK_MAIN(CHECK_TEST(a_wrong_library_is_an_error), CHECK_TEST(targets), CHECK_TEST(errors_carry_the_log),
           CHECK_TEST(devices_are_found_or_refused))
