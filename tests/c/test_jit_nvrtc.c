/* Every kernel of tests/c/kernels is CUDA to NVRTC, where that is installed; it needs no GPU. */
#define _POSIX_C_SOURCE 200809L /* strtok_r */
#include "kernel_files.h"

#include <dlfcn.h>

typedef struct nvrtc_program nvrtc_program;
static struct {
    int (*create)(nvrtc_program **, const char *, const char *, int, const char *const *, const char *const *);
    int (*compile)(nvrtc_program *, int, const char *const *);
    int (*log_size)(nvrtc_program *, size_t *);
    int (*log)(nvrtc_program *, char *);
    int (*destroy)(nvrtc_program **);
} nvrtc;

static bool find_nvrtc(void) {
    const char *const names[] = { getenv("INVAR_NVRTC"), "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
                                  "/usr/local/cuda/lib64/libnvrtc.so", "/usr/local/cuda/lib/libnvrtc.so" };
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        if (names[i]) library = dlopen(names[i], RTLD_NOW);
    if (!library) return false;
    *(void **)&nvrtc.create = dlsym(library, "nvrtcCreateProgram");
    *(void **)&nvrtc.compile = dlsym(library, "nvrtcCompileProgram");
    *(void **)&nvrtc.log_size = dlsym(library, "nvrtcGetProgramLogSize");
    *(void **)&nvrtc.log = dlsym(library, "nvrtcGetProgramLog");
    *(void **)&nvrtc.destroy = dlsym(library, "nvrtcDestroyProgram");
    return nvrtc.create && nvrtc.compile && nvrtc.log_size && nvrtc.log && nvrtc.destroy;
}

static const char *architecture;

static void compile_for_gpu(const char *name, const invar_text *text) {
    const char *const options[] = { architecture, "--std=c++17", "--device-as-default-execution-space", "--fmad=false" };
    nvrtc_program *program;
    size_t size = 0;
    if (!CHECK(!nvrtc.create(&program, text->data, name, 0, NULL, NULL), "NVRTC takes no program")) return;
    bool good = !nvrtc.compile(program, sizeof options / sizeof *options, options);
    nvrtc.log_size(program, &size);
    char *log = calloc(1, size + 1);
    nvrtc.log(program, log);
    CHECK(good, "NVRTC %s refuses %s:\n%.2000s", architecture, name, log);
    free(log);
    nvrtc.destroy(&program);
}

static void test_nvrtc(const char *option) {
    if (!find_nvrtc()) {
        check_skip("NVRTC is not installed");
        return;
    }
    architecture = option;
    for_each_kernel(INVAR_TARGET_CUDA, false, compile_for_gpu);
}
static void test_nvrtc_sm80(void) { test_nvrtc("--gpu-architecture=sm_80"); }
static void test_nvrtc_sm90a(void) { test_nvrtc("--gpu-architecture=sm_90a"); }

CHECK_MAIN(CHECK_TEST(test_nvrtc_sm80), CHECK_TEST(test_nvrtc_sm90a))
