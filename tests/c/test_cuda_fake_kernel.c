/* Custom kernels on a pretended GPU: how launches are cut, what is copied and filled before them, what is refused, and that every
 * path gives its scratch back. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/device/elements_job.h"

#include <invar/kernel.h>

#include <string.h>

/* A kernel of inputs a and b and the output out. */
static const char *const inputs[] = { "a", "b" }, *const output[] = { "out" };

static invar_kernel *kernel_of(int32_t dialect, const char *source, int64_t shared) {
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    d.dialect = dialect, d.name = "k", d.source = source;
    d.input_names = inputs, d.input_count = 2, d.output_names = output, d.output_count = 1;
    d.shared_memory = shared;
    CHECK_OK(invar_kernel_create(&kernel, &d));
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof(invar_cuda_elements_job);
    return kernel;
}

static const char cuda_add[] = "int i = blockIdx.x * blockDim.x + threadIdx.x;\nout[i] = a[i] + b[i];\n";
static const char metal_add[] = "uint i = thread_position_in_grid.x;\nout[i] = a[i] + b[i];\n";

typedef struct arrays {
    check_array a, b, out;
} arrays;

static void on_device(check_array *array, int64_t rows, int64_t columns) {
    check_array_init(array, check_f32, CHECK_SHAPE(rows, columns));
    array->tensor.device = (invar_device){ INVAR_DEVICE_CUDA, 0 };
}

static void begin(arrays *x, int64_t rows, int64_t columns) {
    on_device(&x->a, rows, columns), on_device(&x->b, rows, columns), on_device(&x->out, rows, columns);
}

static void free_arrays(arrays *x) { check_array_free(&x->a), check_array_free(&x->b), check_array_free(&x->out); }

static invar_launch_options sizes(int64_t x, int64_t y, int64_t z, int64_t tx, int64_t ty, int64_t tz) {
    invar_launch_options o = INVAR_LAUNCH_OPTIONS_INIT;
    const int64_t grid[3] = { x, y, z }, group[3] = { tx, ty, tz };
    memcpy(o.grid, grid, sizeof grid), memcpy(o.threadgroup, group, sizeof group);
    o.execution.stream = STREAM;
    return o;
}

static invar_status launch(invar_kernel *kernel, const arrays *x, const invar_launch_options *options) {
    return invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &x->out.tensor }, 1,
                               (const invar_tensor *[]){ &x->a.tensor, &x->b.tensor }, 2, options);
}

static bool is_cut(int number, const char *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz) {
    const fake_launch *seen = &fake_cuda.launch[number];
    return CHECK(!strcmp(seen->function, function), "%s", seen->function) &&
           CHECK(seen->grid[0] == gx && seen->grid[1] == gy && seen->grid[2] == gz, "grid %u %u %u", seen->grid[0], seen->grid[1],
                 seen->grid[2]) &&
           CHECK(seen->block[0] == bx && seen->block[1] == by && seen->block[2] == bz, "block %u %u %u", seen->block[0],
                 seen->block[1], seen->block[2]) && CHECK(seen->stream == STREAM, "another stream");
}

/* ---- launches ---------------------------------------------------------------------------------------- */

/* The head of a kernel's parameter, with three arrays. */
#define HEAD void *arrays[3]; int64_t size; uint32_t grid[3], threadgroup[3], groups[3];
typedef struct head {
    HEAD
} head;

static bool cuda_launches(void) {
    arrays x;
    begin(&x, 3, 1000);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 512);
    invar_launch_options o = sizes(1000, 3, 1, 256, 2, 2);
    head seen;
    bool good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, "invar_kernel", 4, 2, 1, 256, 2, 1);
    memcpy(&seen, fake_cuda.launch[0].job, sizeof seen);
    good = CHECK(seen.arrays[0] == x.a.tensor.data && seen.arrays[1] == x.b.tensor.data && seen.arrays[2] == x.out.tensor.data &&
                     seen.size == 3000 && seen.grid[0] == 1024 && seen.grid[1] == 4 && seen.threadgroup[1] == 2 && seen.groups[0] == 4,
                 "another parameter") && CHECK(fake_cuda.launch[0].shared == 512, "%u", fake_cuda.launch[0].shared) && good;
    good = CHECK(!strcmp(fake_nvrtc.options,
                         "--gpu-architecture=sm_90a --std=c++17 --fmad=false --device-as-default-execution-space "),
                 "%s", fake_nvrtc.options) && good;
    o = sizes(10, 1, 1, 256, 1, 1); /* a block is not larger than the grid */
    good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(1, "invar_kernel", 1, 1, 1, 10, 1, 1) && good;
    good = CHECK(fake_cuda.launches == 2 && fake_nvrtc.compiled == 1 && !fake_cuda.allocated, "%d launches, %d compiled, %d allocated",
                 fake_cuda.launches, fake_nvrtc.compiled, fake_cuda.allocated) && good;
    invar_kernel *again = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 512); /* the same text is the same function */
    good = CHECK_OK(launch(again, &x, &o)) && CHECK(fake_nvrtc.compiled == 1, "%d compiled", fake_nvrtc.compiled) && good;
    invar_kernel_destroy(kernel), invar_kernel_destroy(again);
    free_arrays(&x);
    return good;
}

/* A function is one device's. */
static bool two_devices(void) {
    arrays x;
    begin(&x, 3, 1000);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 0);
    invar_launch_options o = sizes(1000, 3, 1, 256, 1, 1);
    fake_cuda.devices = 2;
    bool good = CHECK_OK(launch(kernel, &x, &o));
    x.a.tensor.device.id = x.b.tensor.device.id = x.out.tensor.device.id = 1;
    good = CHECK_OK(launch(kernel, &x, &o)) && CHECK_OK(launch(kernel, &x, &o)) &&
           CHECK(fake_cuda.modules == 2, "%d modules", fake_cuda.modules) && good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

/* Metal's blocks are lines of threads, and its groups a line of blocks where CUDA has not as many along y. */
static bool metal_launches(void) {
    arrays x;
    begin(&x, 1, 600);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_METAL, metal_add, 0);
    invar_launch_options o = sizes(100, 3, 2, 64, 2, 1);
    head seen;
    bool good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, "invar_kernel", 2, 2, 2, 128, 1, 1);
    memcpy(&seen, fake_cuda.launch[0].job, sizeof seen);
    good = CHECK(seen.grid[0] == 100 && seen.grid[1] == 3 && seen.threadgroup[0] == 64 && seen.groups[1] == 2, "another parameter") &&
           good;
    o = sizes(6, 70000, 2, 3, 1, 1);
    good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(1, "invar_kernel", 280000, 1, 1, 3, 1, 1) && good;
    o = sizes(70000, 70000, 1, 1, 1, 1);
    good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(2, "invar_kernel", 0x7fffffff, 3, 1, 1, 1, 1) && good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

/* What the text uses of shapes stands behind the head: in Metal as many as there are dimensions, in CUDA ten. */
static bool shapes(void) {
    arrays x;
    begin(&x, 3, 5);
    invar_launch_options o = sizes(15, 1, 1, 5, 1, 1);
    struct {
        HEAD
        int32_t shape[2];
        int64_t strides[2];
    } metal;
    struct {
        HEAD
        int32_t shape[10];
        int64_t strides[10];
    } cuda;
    fake_cuda.job_bytes = 0;
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_METAL, "out[0] = a_shape[1] + b_strides[0];", 0);
    fake_cuda.job_bytes = sizeof cuda;
    bool good = CHECK_OK(launch(kernel, &x, &o));
    memcpy(&metal, fake_cuda.launch[0].job, sizeof metal);
    good = CHECK(metal.shape[0] == 3 && metal.shape[1] == 5 && metal.strides[0] == 5 && metal.strides[1] == 1, "another layout") &&
           good;
    invar_kernel_destroy(kernel);
    kernel = kernel_of(INVAR_DIALECT_CUDA, "out[0] = a_shape[1] + b_strides[0];", 0);
    fake_cuda.job_bytes = sizeof cuda;
    good = CHECK_OK(launch(kernel, &x, &o)) && good;
    memcpy(&cuda, fake_cuda.launch[0].job, sizeof cuda);
    good = CHECK(cuda.shape[0] == 3 && cuda.shape[1] == 5 && !cuda.shape[2] && cuda.strides[0] == 5 && cuda.strides[1] == 1 &&
                     !cuda.strides[9], "another layout") && good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

/* Machine code in place of a text: its parameters are the arrays' places, then the scalars. */
static bool precompiled(void) {
    arrays x;
    begin(&x, 3, 5);
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    d.dialect = INVAR_DIALECT_PRECOMPILED, d.name = "_Z5scalePKfS0_Pf", d.image = "cubin", d.image_size = 5, d.shared_memory = 32;
    d.input_names = inputs, d.input_count = 2, d.output_names = output, d.output_count = 1;
    invar_launch_options o = sizes(15, 1, 1, 8, 1, 1);
    const invar_scalar_argument scalars[] = { { INVAR_SCALAR_INT, 15 }, { INVAR_SCALAR_FLOAT, 0.5 }, { INVAR_SCALAR_BOOL, 2 } };
    void *first;
    o.scalars = scalars, o.scalar_count = 2;
    bool good = CHECK_OK(invar_kernel_create(&kernel, &d));
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof first; /* of the first parameter */
    good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, d.name, 2, 1, 1, 8, 1, 1) && CHECK_OK(launch(kernel, &x, &o)) && good;
    memcpy(&first, fake_cuda.launch[0].job, sizeof first);
    good = CHECK(first == x.a.tensor.data && fake_cuda.launch[0].shared == 32 && fake_cuda.modules == 1 && !fake_nvrtc.compiled,
                 "another launch") && good;
    o.scalar_count = 3;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_VALUE, "scalars: expected 0 or 1 for bool 2") && good;
    o.scalar_count = 65;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_VALUE, "scalars: expected 0 to 64") && good;
    o.scalar_count = 0;
    x.a.tensor.device.type = x.b.tensor.device.type = x.out.tensor.device.type = INVAR_DEVICE_CPU;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_DEVICE, "expected arrays on an NVIDIA GPU") && good;
    invar_kernel_destroy(kernel);
    kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 0);
    o.scalar_count = 1;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_VALUE, "a precompiled kernel has them") && good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

static void check_launches(void) {
    IN_CHILD(precompiled);
    IN_CHILD(cuda_launches);
    IN_CHILD(two_devices);
    IN_CHILD(metal_launches);
    IN_CHILD(shapes);
}
static void launches(void) { with_empty_cache(check_launches); }

/* ---- memory ------------------------------------------------------------------------------------------ */

static bool copies(void) {
    arrays x;
    begin(&x, 4, 6);
    int64_t turned[] = { 1, 4 };
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 0);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    invar_plan plan = INVAR_PLAN_INIT;
    invar_cuda_elements_job copy;
    head seen;
    x.a.tensor.strides = turned;
    bool good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, "invar_elements", 1, 1, 1, 256, 1, 1) &&
                is_cut(1, "invar_kernel", 3, 1, 1, 8, 1, 1);
    memcpy(&copy, fake_cuda.launch[0].job, sizeof copy), memcpy(&seen, fake_cuda.launch[1].job, sizeof seen);
    good = CHECK(copy.from == x.a.tensor.data && copy.count == 24 && copy.ndim == 2 && copy.shape[0] == 4 && copy.shape[1] == 6 &&
                     copy.stride[0] == 1 && copy.stride[1] == 4, "another copy") && good;
    good = CHECK(seen.arrays[0] == copy.to && seen.arrays[0] != x.a.tensor.data && seen.arrays[1] == x.b.tensor.data,
                 "the kernel does not read the copy") && good;
    good = CHECK(fake_cuda.allocated == 1 && fake_cuda.largest == 128, "%d of %zu bytes", fake_cuda.allocated, fake_cuda.largest) &&
           good;
    o.execution.plan = &plan;
    good = CHECK_OK(launch(kernel, &x, &o)) &&
           CHECK(plan.workspace == 128 && !strcmp(plan.kernel, "k.cuda") && plan.tasks == 3, "%s, %zu bytes, %lld tasks", plan.kernel,
                 plan.workspace, (long long)plan.tasks) && good;
    o.execution.plan = NULL;
    _Alignas(64) char workspace[128];
    o.execution.workspace = workspace, o.execution.workspace_size = sizeof workspace;
    good = CHECK_OK(launch(kernel, &x, &o)) && CHECK(fake_cuda.allocated == 1, "it allocates all the same") && good;
    o.execution.workspace_size = 64;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_MEMORY, "workspace") && good;
    o.execution.workspace = workspace + 32, o.execution.workspace_size = sizeof workspace;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_MEMORY, "workspace: expected 128 bytes of the device, 64-byte aligned") &&
           good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

static bool fills(void) {
    arrays x;
    begin(&x, 100, 100);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_METAL, metal_add, 0);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    const float value = 1.5f;
    uint32_t bits;
    invar_cuda_elements_job fill;
    memcpy(&bits, &value, sizeof bits);
    o.has_init_value = 1, o.init_value = 1.5;
    bool good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, "invar_elements", 40, 1, 1, 256, 1, 1) &&
                is_cut(1, "invar_kernel", 3, 1, 1, 8, 1, 1) && CHECK(!fake_cuda.allocated, "it allocates");
    memcpy(&fill, fake_cuda.launch[0].job, sizeof fill);
    good = CHECK(fill.to == x.out.tensor.data && !fill.from && fill.count == 10000 && fill.value == bits, "another fill") && good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

/* A number in the CPU's memory beside arrays on the device, as it is at the call. */
static bool numbers(void) {
    arrays x;
    begin(&x, 4, 6);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_METAL, "uint i = thread_position_in_grid.x;\nout[i] = a[i] + b;\n", 0);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    int32_t number = 77;
    const invar_tensor b = x.b.tensor;
    invar_cuda_elements_job fill;
    struct {
        HEAD
        uint64_t number;
    } seen;
    x.b.tensor = (invar_tensor){ .data = &number, .device = { INVAR_DEVICE_CPU, 0 }, .dtype = { INVAR_INT, 32, 1 } };
    bool good = CHECK_OK(launch(kernel, &x, &o)) && is_cut(0, "invar_kernel", 3, 1, 1, 8, 1, 1);
    memcpy(&seen, fake_cuda.launch[0].job, sizeof seen);
    good = CHECK(!seen.arrays[1] && seen.number == 77 && !fake_cuda.allocated, "the number does not arrive") && good;
    int64_t shape[] = { 4, 6 }, none[] = { 0, 0 }; /* and the same number repeated, as a kernel that counts on whole arrays needs it */
    x.b.tensor.ndim = 2, x.b.tensor.shape = shape, x.b.tensor.strides = none;
    good = CHECK_OK(launch(kernel, &x, &o)) && good;
    memcpy(&fill, fake_cuda.launch[1].job, sizeof fill);
    good = CHECK(fill.count == 24 && fill.value == 77, "%lld times", fill.count) && good;
    x.b.tensor = b;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

static void check_memory(void) {
    IN_CHILD(copies);
    IN_CHILD(fills);
    IN_CHILD(numbers);
}
static void memory(void) { with_empty_cache(check_memory); }

/* ---- refusals ---------------------------------------------------------------------------------------- */

static bool refusals(void) {
    arrays x;
    begin(&x, 4, 6);
    invar_kernel *cuda = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 100 << 10), *metal = kernel_of(INVAR_DIALECT_METAL, metal_add, 0);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    o.check = INVAR_CHECK_ON;
    bool good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_VALUE, "check: expected arrays in CPU memory");
    o = sizes(1, 70000, 1, 1, 1, 1);
    good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_VALUE, "grid: expected at most 65535 blocks") && good;
    o = sizes(1, 1, 128, 1, 1, 128);
    good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_VALUE, "threadgroup: expected at most 64 threads along z") && good;
    o = sizes(0x7fffffff, 0x7fffffff, 1, 1, 1, 1);
    good = CHECK_FAILS(launch(metal, &x, &o), INVAR_ERROR_VALUE, "grid: expected at most 2^47 groups") && good;
    good = CHECK(!fake_nvrtc.compiled, "compiled for nothing") && good;
    fake_cuda.most_threads = 512; /* more is compiled for once again, with fewer registers */
    o = sizes(1024, 1, 1, 1024, 1, 1);
    good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_VALUE, "threadgroup: expected at most 512 threads for k") && good;
    good = CHECK(fake_nvrtc.compiled == 2 && strstr(fake_nvrtc.options, "--maxrregcount=64"), "%s", fake_nvrtc.options) && good;
    o = sizes(24, 1, 1, 8, 1, 1);
    fake_cuda.static_shared = 40 << 10; /* more than Metal has */
    good = CHECK_FAILS(launch(metal, &x, &o), INVAR_ERROR_VALUE, "at most 32768 bytes of threadgroup memory") && good;
    x.b.tensor.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_DEVICE_MIX, "b: expected a tensor on CUDA device 0") && good;
    x.b.tensor.device.type = INVAR_DEVICE_CUDA, x.out.tensor.device.type = INVAR_DEVICE_CPU;
    good = CHECK_FAILS(launch(cuda, &x, &o), INVAR_ERROR_DEVICE_MIX, "a: expected a tensor on the CPU") && good;
    good = CHECK(!fake_cuda.launches && !fake_cuda.allocated, "launched all the same") && good;
    invar_kernel_destroy(cuda), invar_kernel_destroy(metal);
    free_arrays(&x);
    return good;
}

/* An older GPU's blocks have less shared memory than a kernel may ask for. */
static bool too_much_shared_memory(void) {
    arrays x;
    begin(&x, 4, 6);
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 100 << 10);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    fake_cuda.major = 8, fake_cuda.minor = 6;
    bool good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_VALUE, "expected at most 101376 bytes of shared memory");
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

/* Whatever fails, what was taken is given back (fake_case.h looks). */
static bool failures(void) {
    static const char *const functions[] = { "cuModuleLoadData", "cuMemAllocFromPoolAsync", "cuLaunchKernel", "cuLaunchKernel" };
    static const int calls[] = { 0, 0, 0, 1 };
    arrays x;
    begin(&x, 4, 6);
    int64_t turned[] = { 1, 4 };
    invar_kernel *kernel = kernel_of(INVAR_DIALECT_CUDA, cuda_add, 0);
    invar_launch_options o = sizes(24, 1, 1, 8, 1, 1);
    bool good = true;
    x.a.tensor.strides = turned;
    for (int i = 0; i < 4; i++) {
        fake_cuda_fail(functions[i], calls[i], i == 1 ? FAKE_OUT_OF_MEMORY : FAKE_LAUNCH_FAILED);
        good = CHECK_FAILS(launch(kernel, &x, &o), i == 1 ? INVAR_ERROR_MEMORY : INVAR_ERROR_DEVICE, "cuda_kernel") && good;
    }
    good = CHECK_OK(launch(kernel, &x, &o)) && good;
    invar_kernel_destroy(kernel);
    kernel = kernel_of(INVAR_DIALECT_CUDA, "out[0] = 1;", 0);
    fake_nvrtc.result = 6;
    good = CHECK_FAILS(launch(kernel, &x, &o), INVAR_ERROR_COMPILE, "cuda_kernel: k.cu:1: error: the test wants one\n    1 | out") &&
           good;
    invar_kernel_destroy(kernel);
    free_arrays(&x);
    return good;
}

static void check_refusals(void) {
    IN_CHILD(refusals);
    IN_CHILD(too_much_shared_memory);
    IN_CHILD(failures);
}
static void refused(void) { with_empty_cache(check_refusals); }

CHECK_MAIN(CHECK_TEST(launches), CHECK_TEST(memory), CHECK_TEST(refused))
