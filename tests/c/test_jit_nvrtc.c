/* Every kernel of tests/c/kernels is CUDA to NVRTC, where that is installed, and a wrong one is refused at the user's own line; it
 * needs no GPU. */
#define _POSIX_C_SOURCE 200809L /* strtok_r */
#include "jit/kernel.h"
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

/* What compiling the kernel for a GPU, which is none, is refused for. */
static void refused_with(int32_t dialect, const char *header, const char *source, const char *expected) {
    static const char *const names[] = { "o" };
    const invar_cuda_device gpu = { .name = "none", .major = 9, .minor = 0 };
    const invar_place place = { .gpu = &gpu };
    const invar_array_key array = { { INVAR_FLOAT, 32, 1 }, 1 };
    const invar_program_key key = { &array, NULL, 0 };
    const invar_cuda_function *function = NULL;
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    d.dialect = dialect, d.name = "k", d.header = header, d.source = source, d.output_names = names, d.output_count = 1;
    if (!CHECK_OK(invar_kernel_create(&kernel, &d))) return;
    CHECK_FAILS(invar_kernel_function(kernel, &place, &key, &function), INVAR_ERROR_COMPILE, expected);
    CHECK(!strstr(invar_last_error(), "invar_"), "names of ours: %s", invar_last_error());
    invar_kernel_destroy(kernel);
}

static void errors_are_told_at_the_users_lines(void) {
    const invar_nvrtc *nvrtc;
    if (invar_nvrtc_get(&nvrtc, "test") != INVAR_OK) {
        check_skip("%s", invar_last_error());
        return;
    }
    refused_with(INVAR_DIALECT_CUDA, "", "int i = threadIdx.x;\no[i] = undeclared;\n",
                 "cuda_kernel: k.cu:2: error: identifier \"undeclared\" is undefined\n    2 | o[i] = undeclared;");
    refused_with(INVAR_DIALECT_METAL, "\nfloat helper(float x) { return x + no; }\n", "o[0] = helper(2);", "k.header:2: error: ");
    refused_with(INVAR_DIALECT_METAL, "", "float4 v = float4(1);\n\no[0] = v.x + simd_sum(v.xyz, 3);", "k.metal:3: error: ");
    refused_with(INVAR_DIALECT_METAL, "struct S { int x; };\n", "S s;\no[0] = metal::exp(s);", "k.metal:2: error: ");
}

CHECK_MAIN(CHECK_TEST(test_nvrtc_sm80), CHECK_TEST(test_nvrtc_sm90a), CHECK_TEST(errors_are_told_at_the_users_lines))
