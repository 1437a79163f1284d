/* The text for NVRTC: every part of the shim by itself, and kernels that use them all, compile for sm_80 and sm_90a where
 * libnvrtc is installed. No GPU is needed. */
#include "check.h"

#include "jit/generate.h"
#include "jit/shim.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

typedef struct nvrtc {
    int (*create)(void **program, const char *text, const char *name, int headers, const char *const *, const char *const *);
    int (*compile)(void *program, int count, const char *const *options);
    int (*log_size)(void *program, size_t *size);
    int (*log)(void *program, char *log);
    int (*destroy)(void **program);
} nvrtc;

/* dlsym gives an object pointer; POSIX lets it hold a function. */
static void find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
}
static bool nvrtc_open(nvrtc *api) {
    static const char *const names[] = { "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                         "/usr/local/cuda/lib64/libnvrtc.so", "/usr/local/cuda/lib/libnvrtc.so" };
    const char *given = getenv("INVAR_NVRTC");
    void *library = given ? dlopen(given, RTLD_NOW) : NULL;
    for (size_t i = 0; !library && i < sizeof names / sizeof names[0]; i++) library = dlopen(names[i], RTLD_NOW);
    if (!library) return false;
    find(library, "nvrtcCreateProgram", &api->create);
    find(library, "nvrtcCompileProgram", &api->compile);
    find(library, "nvrtcGetProgramLogSize", &api->log_size);
    find(library, "nvrtcGetProgramLog", &api->log);
    find(library, "nvrtcDestroyProgram", &api->destroy);
    return api->create && api->compile && api->log_size && api->log && api->destroy;
}

/* Says why a test cannot run. NVRTC is no program of ours: a sanitizer would report its leaks and locks. */
static bool is_missing(nvrtc *api) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)api;
    check_skip("built with a sanitizer, under which NVRTC's own leaks and locks are reported");
    return true;
#else
    if (nvrtc_open(api)) return false;
    check_skip("libnvrtc is not installed");
    return true;
#endif
}

static void compile(const nvrtc *api, const char *text, const char *what) {
    static const char *const architectures[] = { "--gpu-architecture=compute_80", "--gpu-architecture=compute_90a" };
    for (int i = 0; i < 2; i++) {
        const char *options[] = { architectures[i], "-std=c++17", "--device-as-default-execution-space", "--fmad=false" };
        void *program = NULL;
        size_t size = 0;
        if (!CHECK(!api->create(&program, text, "k.cu", 0, NULL, NULL), "%s", what)) return;
        int failed = api->compile(program, 4, options);
        api->log_size(program, &size);
        char *log = calloc(size + 1, 1);
        api->log(program, log);
        CHECK(!failed, "%s for %s:\n%.2000s", what, architectures[i], log);
        free(log);
        api->destroy(&program);
    }
}

static void test_parts(void) {
    nvrtc api;
    if (is_missing(&api)) return;
    for (uint32_t dialect = INVAR_SHIM_METAL; dialect <= INVAR_SHIM_CUDA; dialect++) {
        invar_text text = { 0 };
        for (int32_t k = 0; k < invar_shim_part_count; k++) {
            const invar_shim_part *part = &invar_shim_parts[k];
            if (!(part->dialects & dialect) || !(part->targets & INVAR_SHIM_NVRTC)) continue;
            invar_text_format(&text, "#line 1 \"%s\"\n%s\n", part->name, part->text);
        }
        invar_text_string(&text, "extern \"C\" __global__ void nothing() {}\n");
        compile(&api, text.data, dialect == INVAR_SHIM_METAL ? "all parts for Metal" : "all parts for CUDA");
        invar_text_free(&text);
    }
}

/* ---- kernels over a: float32 of rank 2, h: float16 of rank 1, out: float32 of rank 1 ---------------- */

typedef struct kernel {
    const char *what;
    int dialect;
    const char *header, *body;
} kernel;
enum { METAL = INVAR_DIALECT_METAL, CUDA = INVAR_DIALECT_CUDA };

static const kernel kernels[] = {
    { "Metal's mathematics", METAL, "constant float table[2] = { 0.5, 1.5 };\n",
      "uint i = thread_position_in_grid.x; float x = a[i]; half y = h[i]; float4 v(x, 1, 2, y);\n"
      "x = exp(x) + fast::log(x) + precise::sin(x) + pow(x, 2.0) + tanh(y) + rsqrt(x) + fma(x, x, x) + sinpi(x);\n"
      "v.xz = v.zx * 2; v = clamp(mix(v, v.wzyx, 0.5), 0.0, 1.0); y = max(y, half(v.x)) * 2.0h + fma(y, y, y);\n"
      "uint u = as_type<uint>(x); u = popcount(u) + clz(u) + rotate(u, 3u) + mulhi(u, u) + extract_bits(u, 1, 4);\n"
      "int e; x = frexp(x, e) + dot(v, v) + length(v.xyz) + float(isnan(x)) + select(1.0, 2.0, x > 0) + table[u & 1];\n"
      "out[i] = x + y + u + e + Limits<half>::max + numeric_limits<float>::epsilon() + modf(x, x);" },
    { "Metal's simd operations", METAL, "float total(float x) { return simd_sum(x); }\n",
      "uint i = thread_position_in_grid.x; float x = a[i]; threadgroup float s[32];\n"
      "x = total(x) + simd_max(x) + simd_prefix_inclusive_sum(x) + simd_prefix_exclusive_product(x) + quad_sum(x);\n"
      "x += simd_shuffle(x, 1) + simd_shuffle_down(x, 2) + simd_shuffle_and_fill_up(x, 0.0, 1) + simd_broadcast_first(x);\n"
      "x += simd_all(x > 0) + popcount((uint)(simd_vote::vote_t)simd_ballot(x > 0)) + simd_shuffle_xor(long(i), 1);\n"
      "x += quad_broadcast(half(x), 1) + simd_sum(float4(x)).y + simd_is_first();\n"
      "s[i % 32] = x; threadgroup_barrier(mem_flags::mem_threadgroup); simdgroup_barrier(mem_flags::mem_none);\n"
      "out[i] = s[(i + 1) % 32];" },
    { "Metal's matrices", METAL, "",
      "simdgroup_float8x8 x, y = make_filled_simdgroup_matrix<float, 8, 8>(0.0f); simdgroup_matrix<half, 8, 8> z(1.0h);\n"
      "simdgroup_load(x, a, a_shape[1]); simdgroup_multiply_accumulate(y, x, z, y); simdgroup_multiply(x, y, y);\n"
      "y.thread_elements()[0] *= 2; simdgroup_store(y, out, 8, ulong2(0, 0), true);" },
    { "Metal's atomics", METAL, "",
      "threadgroup atomic_uint n; if (thread_index_in_threadgroup == 0) atomic_store_explicit(&n, 0, memory_order_relaxed);\n"
      "uint k = atomic_fetch_add_explicit(&n, 1, memory_order_relaxed) + atomic_fetch_max_explicit(&n, 3, memory_order_relaxed);\n"
      "k += atomic_exchange_explicit(&n, 5, memory_order_relaxed) + atomic_fetch_xor_explicit(&n, 5, memory_order_relaxed);\n"
      "atomic_compare_exchange_weak_explicit(&n, &k, 4, memory_order_relaxed, memory_order_relaxed);\n"
      "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst);\n"
      "atomic_fetch_add_explicit((device atomic<half>*)&out[1], 1.0h, memory_order_relaxed);\n"
      "atomic_fetch_add_explicit((device atomic_float*)&out[k], 1.0, memory_order_relaxed);" },
    { "MLX's utilities in Metal", METAL, "",
      "uint i = thread_position_in_grid.x; auto p = elem_to_loc(i, a_shape, a_strides, a_ndim); complex64_t z(1, 2);\n"
      "LoopedElemToLoc<2> walk(a_ndim); walk.next(a_shape, a_strides); z = z * z / 2;\n"
      "out[i] = a[p] + walk.location() + ceildiv(i, 2u) + cast_to<bool>(a[0]) + z.real + is_same_v<float, half>;" },
    { "CUDA's groups and warps", CUDA, "__device__ float total(float x) { return __shfl_xor_sync(~0u, x, 1) + x; }\n",
      "auto block = cg::this_thread_block(); auto tile = cg::tiled_partition<8>(block); __shared__ float s[64];\n"
      "int i = cg::this_grid().thread_rank(); float x = total(a[i]); __half y = h[i];\n"
      "x += cg::reduce(tile, x, cg::plus<float>()) + cg::exclusive_scan(tile, x) + tile.shfl_down(x, 1) + tile.ballot(i & 1);\n"
      "y = __hadd(y, __shfl_down_sync(~0u, y, 2)); __half2 p = __hfma2(__half2half2(y), __half2half2(y), __half2half2(y));\n"
      "s[threadIdx.x % 64] = x; block.sync(); if (i < 3) { auto some = cg::coalesced_threads(); x += some.shfl(x, 0); }\n"
      "atomicAdd(&s[0], x); atomicAdd((__half *)out, y); __syncthreads(); out[i] = s[0] + __high2float(p) + hexp(y);" },
    { "MLX's utilities in CUDA", CUDA, "",
      "int64_t i = cg::this_grid().thread_rank(); auto [p, q] = elem_to_loc_nd<2>(i, a_shape.data(), a_strides.data(),\n"
      "a_strides.data()); auto v = load_vector<4>(a, i, (int)4, 0.0f); v[0] = Limits<float>::max(); store_vector<4>(out, i, v);\n"
      "cuda::std::array<float, 3> list = { 1, 2, 3 }; complex64_t z(1, 2); __nv_bfloat16 b = __float2bfloat16(list[1]);\n"
      "out[i] = p + q + z.imag + __bfloat162float(b) + cuda::std::numeric_limits<__half>::max() + WARP_SIZE;" },
};

static void test_kernels(void) {
    static const char *const inputs[] = { "a", "h" }, *const outputs[] = { "out" };
    const invar_array_key arrays[] = { { check_f32, 2 }, { check_f16, 1 }, { check_f32, 1 } };
    const invar_program_key key = { arrays, NULL, 0 };
    nvrtc api;
    if (is_missing(&api)) return;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
        invar_source *source;
        invar_text text = { 0 };
        description.dialect = kernels[i].dialect;
        description.name = "k";
        description.input_names = inputs, description.input_count = 2;
        description.output_names = outputs, description.output_count = 1;
        description.header = kernels[i].header, description.source = kernels[i].body;
        if (!CHECK_OK(invar_source_read(&source, &description))) continue;
        if (CHECK_OK(invar_generate_shim(source, &key, INVAR_TARGET_CUDA, false, &text)) &&
            CHECK_OK(invar_generate_kernel(source, &key, INVAR_TARGET_CUDA, false, &text)))
            compile(&api, text.data, kernels[i].what);
        invar_text_free(&text);
        invar_source_free(source);
    }
}

CHECK_MAIN(CHECK_TEST(test_parts), CHECK_TEST(test_kernels))
