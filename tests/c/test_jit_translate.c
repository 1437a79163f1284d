/* The translator's text: what it writes for a construct, which mode a kernel gets, and what it refuses, by name and line. */
#include "check.h"

#include "jit/source.h"

#include <stdlib.h>
#include <string.h>

enum { METAL = INVAR_DIALECT_METAL, CUDA = INVAR_DIALECT_CUDA, CPU = INVAR_TARGET_CPU, DEVICE = INVAR_TARGET_CUDA };

static const char *const inputs[] = { "a", "b" }, *const outputs[] = { "out" };

static invar_kernel_description describe(int dialect, const char *header, const char *body) {
    invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
    description.dialect = dialect;
    description.name = "k";
    description.input_names = inputs, description.input_count = 2;
    description.output_names = outputs, description.output_count = 1;
    description.header = header;
    description.source = body;
    return description;
}

/* The generated kernel for a: float32 of rank 2, b: float32 of rank 0, out: float32 of rank 1; NULL where it is refused. */
static char *generate(const invar_kernel_description *description, int target) {
    const invar_array_key arrays[] = { { check_f32, 2 }, { check_f32, 0 }, { check_f32, 1 } };
    const invar_template_argument arguments[] = { { "N", INVAR_TEMPLATE_INT, check_f32, -3 },
                                                  { "T", INVAR_TEMPLATE_DTYPE, check_f16, 0 },
                                                  { "B", INVAR_TEMPLATE_BOOL, check_f32, 1 } };
    const invar_program_key key = { arrays, arguments, 3 };
    invar_source *source;
    invar_text text = { 0 };
    if (!CHECK_OK(invar_source_read(&source, description))) return NULL;
    CHECK_OK(invar_generate_kernel(source, &key, target, false, &text));
    invar_source_free(source);
    return text.data;
}

/* Runs of blanks become one, so that what was left out leaves no trace; newlines stay. */
static char *squeeze(const char *text) {
    char *squeezed = malloc(strlen(text) + 1), *to = squeezed;
    for (const char *from = text; *from; from++)
        if (*from != ' ' || to == squeezed || to[-1] != ' ') *to++ = *from;
    *to = 0;
    return squeezed;
}

/* Checks that the kernel's text holds each of the strings. */
static void expect_all(const invar_kernel_description *description, int target, const char *const *strings) {
    char *text = generate(description, target), *squeezed = text ? squeeze(text) : NULL;
    for (; text && *strings; strings++) {
        char *wanted = squeeze(*strings);
        CHECK(strstr(squeezed, wanted), "'%s' is not in:\n%s", wanted, squeezed);
        free(wanted);
    }
    free(squeezed);
    free(text);
}
#define EXPECT(dialect, header, body, ...)                                                        \
    do {                                                                                          \
        const invar_kernel_description expected_ = describe(dialect, header, body);               \
        expect_all(&expected_, CPU, (const char *const[]){ __VA_ARGS__, NULL });                  \
    } while (0)
#define EXPECT_DEVICE(dialect, header, body, ...)                                                 \
    do {                                                                                          \
        const invar_kernel_description expected_ = describe(dialect, header, body);               \
        expect_all(&expected_, DEVICE, (const char *const[]){ __VA_ARGS__, NULL });               \
    } while (0)

static void refuse(int dialect, const char *header, const char *body, const char *word) {
    const invar_kernel_description description = describe(dialect, header, body);
    invar_source *source = NULL;
    CHECK_FAILS(invar_source_read(&source, &description), INVAR_ERROR_VALUE, word);
}

static void expect_mode(int dialect, const char *header, const char *body, uint32_t mode) {
    const invar_kernel_description description = describe(dialect, header, body);
    invar_source *source;
    if (!CHECK_OK(invar_source_read(&source, &description))) return;
    CHECK(source->mode == mode, "expected mode %u, got %u for: %s", mode, source->mode, body);
    invar_source_free(source);
}

/* ---- Metal ---- */

static void test_metal_address_spaces(void) {
    EXPECT(METAL, "", "device const float *p = a; thread float &r = x; constant int &n = y;", "\n  const float *p = a;",
           "float &r = x;", "int &n = y;");
    EXPECT(METAL, "constant float table[2] = {1, 2};\nconstant constexpr int W = 4;\nstatic constant float C = 2.0;\n"
                  "struct S { static constexpr constant int k = 1; float get() const constant { return 1; } };",
           "", "static constexpr float table[2]", "\n  constexpr int W = 4", "static constexpr float C = 2.0f",
           "static constexpr   int k", "get() const   {");
    EXPECT(METAL, "#define METAL_FUNC inline\nMETAL_FUNC int f() { return 1; }\n", "",
           "#define METAL_FUNC inline\ninline int f()");
    EXPECT(METAL, "kernel void other(device float *x [[buffer(0)]]) {}", "", "void other(  float *x      ) {}");
    EXPECT(METAL, "", "threadgroup_barrier(mem_flags::threadgroup);", "mem_flags::threadgroup)"); /* for the compiler to name */
    EXPECT(METAL, "#define K(name) kernel void name(threadgroup float *x [[threadgroup(0)]]) {}\nK(other)\n", "",
           "void name( float *x ) {}");
}

/* Overloads by address space: those that read alike are one, and keep their lines; others are the compiler's to judge. */
static void test_metal_twins(void) {
    EXPECT(METAL, "float f(device float *p) { return p[0]; }\nfloat f(threadgroup float *p) {\nreturn p[0]; }\n"
                  "float f(device int *p) { return p[0]; }\nint g;", "",
           "#line 1 \"k.header\"\nfloat f( float *p) { return p[0]; }\n \n \nfloat f( int *p) { return p[0]; }\nint g;");
    EXPECT(METAL, "#if __clang__\nint f(device int *p) { return *p; }\n#else\nint f(threadgroup int *p) { return *p; }\n#endif\n",
           "", "#if __clang__\nint f( int *p) { return *p; }\n#else\nint f( int *p) { return *p; }\n#endif");
    EXPECT(METAL, "struct V { float x; V operator+(V o) const thread { return o; } "
           "V operator+(V o) const device { return o; } };", "",
           "V operator+(V o) const { return o; } };");
    EXPECT(METAL, "struct A { int f() const thread { return 1; } };\nstruct B { int f() const thread { return 1; } };", "",
           "struct B { int f() const { return 1; } };");
    EXPECT(METAL, "float s(device float *p) { return simd_sum(p[0]); }\nfloat s(threadgroup float *p) { return simd_sum(p[0]); }",
           "s(a); simd_max(b);", "s(1, a); simd_max(invar_here(2), b);");
    EXPECT(METAL, "template <int n, class U = int> struct S {\nvoid f(device float *p) { p[0] = n ? p[1] : p[2]; }\n"
                  "void f(threadgroup float *p) { p[0] = n ? p[1] : p[2]; }\nint g; };", "",
           "{ p[0] = invar_choice = n ? invar_arm = p[1] : invar_arm = p[2]; }\n \nint g;");
}

static void test_metal_literals(void) {
    EXPECT(METAL, "#define EPS 1e-5\n", "float x = 1.5 + .5 + 2. + 0x1p-3 + 1.5f; half h = 1.0h + 2h + 1'000h; int i = 0x1f + 10u;",
           "#define EPS 1e-5f", "1.5f + .5f + 2.f + 0x1p-3f + 1.5f",
           "invar_half_literal(1.0) + invar_half_literal(2) + invar_half_literal(1'000)",
           "0x1f + 10u");
    EXPECT(CUDA, "", "double x = 1.5;", "double x = 1.5;");
}

static void test_metal_attributes(void) {
    EXPECT(METAL, "", "uint i = thread_position_in_grid.x + thread_index_in_simdgroup; /* threads_per_grid */",
           "const uint thread_index_in_simdgroup, const uint3 thread_position_in_grid, const invar_here_at invar_here)");
    EXPECT(METAL, "#define GID thread_position_in_grid.x\n", "out[GID] = 1;", "const uint3 thread_position_in_grid");
}

static void test_metal_arrays(void) {
    EXPECT(METAL, "", "out[0] = a_shape[0] + a_strides[1] + a_ndim + b;",
           "const float *__restrict a, const int *__restrict a_shape, const int64_t *__restrict a_strides, const int a_ndim, "
           "const float b, "
           "float *__restrict out",
           "*(const float *)invar_l.arrays[1]");
    EXPECT(METAL, "", "if (i < out.size() && i < size) return;", "const int64_t invar_size_2, const int64_t size");
    invar_kernel_description atomic = describe(METAL, "", "out[0];");
    atomic.atomic_outputs = 1;
    expect_all(&atomic, CPU, (const char *const[]){ "atomic<float> *__restrict out", "(atomic<float> *)invar_l.arrays[2]",
                                                    NULL });
}

static void test_metal_threadgroup(void) {
    EXPECT(METAL, "", "threadgroup float x[N + 1][33], y;\nthreadgroup float *p = x[0];\nif (1) { threadgroup uint z[2]; }",
           "auto &x = invar_shared_array<0, float[(N + 1)][(33)]>();auto &y = invar_shared_array<1, float>();",
           "\n  float *p = x[0];", "auto &z = invar_shared_array<2, uint[(2)]>();",
           "{ \"x\", 0, 0 },\n    { \"y\", 0, 0 },\n    { \"z\", 0, 0 },");
    EXPECT(METAL, "", "threadgroup vec<float, 4> v[2]; threadgroup atomic_uint c;",
           "invar_shared_array<0, vec<float, 4>[(2)]>()", "invar_shared_array<1, atomic_uint>()");
    EXPECT_DEVICE(METAL, "", "threadgroup float x[4];", "__shared__  float x[4];");
}

/* Both arms and the choice are marked; literals, two literals, statements and labels are left alone. */
static void test_metal_arms(void) {
    EXPECT(METAL, "", "float x = b > 0 ? a[0] : 0; x += b != 1 ? 1.0 : a[1]; x = (b <= 2 ? a[2] : -INFINITY) + 2;",
           "x = invar_choice = b > 0 ? invar_arm = a[0] : 0;", "x += invar_choice = b != 1 ? 1.0f : invar_arm = a[1];",
           "(invar_choice = b <= 2 ? invar_arm = a[2] : invar_arm = -INFINITY) + 2;");
    EXPECT(METAL, "", "float x = b > 0 ? a[0] : b > 1 ? a[1] : 0.5f; x = b > 3 ? 0.0 : -1; f(b, a[4] ? a[4] : -1e30);",
           "? invar_arm = a[0] : invar_arm = invar_choice = b > 1 ? invar_arm = a[1] : 0.5f;", "x = b > 3 ? 0.0f : -1;",
           "f(b, invar_choice = a[4] ? invar_arm = a[4] : -1e30f);");
    EXPECT(METAL, "", "switch (int(b)) { case 0: out[0] = a[0] > 0 ? a[0] : 7; break; default: out[0] = 1.0; }",
           "case 0: out[0] = invar_choice = a[0] > 0 ? invar_arm = a[0] : 7;", "default: out[0] = 1.0f;");
    EXPECT(METAL, "", "float x = b > 2 ? b > 3 ? 0.5 : a[3] : a[2]; if (b) { b > 4 ? f() : g(); }",
           "x = invar_choice = b > 2 ? invar_arm = invar_choice = b > 3 ? 0.5f : invar_arm = a[3] : invar_arm = a[2];",
           "{ b > 4 ? f() : g(); }");
    EXPECT(METAL, "", "x = f<int, 3>(b) ? a[0] : 1h; x <<= p<b, q>(r) ? a[0] : a[1];",
           "x = invar_choice = f<int, 3>(b) ? invar_arm = a[0] : invar_arm = invar_half_literal(1);",
           "x <<= invar_choice = p<b, q>(r) ?");
    EXPECT(METAL, "#define LESS(p, q) ((p) < (q) ? (p) : (q))\n#define BARE(p) p ? p : q\n#if 2 ? 1 : X\n#endif\n", "",
           "(invar_choice = (p) < (q) ? invar_arm = (p) : invar_arm = (q))", "#define BARE(p) p ? p : q\n#if 2 ? 1 : X\n");
    EXPECT(CUDA, "", "float x = b[0] > 0 ? a[0] : 0.0f;", "x = b[0] > 0 ? a[0] : 0.0f;");
}

static void test_metal_swizzles(void) {
    EXPECT(METAL, "", "v.xz = u.zy; v.xy += 1; f(v->xyz == w.rgb); v.x = 1;", "v.template invar_put<0, 2>() = u.template "
           "invar_take<2, 1>();", "v.template invar_put<0, 1>() += 1", "v->template invar_take<0, 1, 2>() == "
           "w.template invar_take<0, 1, 2>()", "v.x = 1");
    EXPECT(METAL, "struct P { float xy; };", "P p; p.xy = 1;", "p.xy = 1");
    EXPECT(METAL, "", "struct P { float xy; }; P p; p.xy = 1; p.xz;", "p.xy = 1; p.template invar_take<0, 2>()");
    EXPECT(METAL, "", "uint2 xy = v.xy;", "uint2 xy = v.template invar_take<0, 1>();");
}

static void test_metal_templates(void) {
    EXPECT(METAL, "", "", "template <int N, typename T, bool B>", "invar_body<(-3), float16_t, true>(");
    EXPECT(CUDA, "", "", "constexpr int N = (-3); using T = __half; constexpr bool B = true; {");
}

/* ---- numbers ---- */

static void test_marks(void) {
    EXPECT(METAL, "", "float x = simd_sum(a[0]);\nthreadgroup_barrier(mem_flags::mem_none);\nx = metal::simd_max(x);",
           "simd_sum(invar_here(1), a[0])", "threadgroup_barrier(invar_here(2), ", "metal::simd_max(invar_here(3), x)",
           "{ \"k.metal\", \"simd_max\", 3 }");
    EXPECT(CUDA, "", "__syncthreads(); float v = __shfl_down_sync(~0u, x, 1); tile.sync(); cg::tiled_partition<32>(g);",
           "__syncthreads(invar_here(1))", "__shfl_down_sync(invar_here(2), ~0u", "tile.sync(invar_here(3))");
    EXPECT(METAL, "#define SUM simd_sum\n", "SUM(x);", "#define SUM simd_sum\n", "SUM(invar_here(1), x)");
    EXPECT_DEVICE(METAL, "", "simd_sum(a[0]);", "simd_sum(invar_here(1), a[0])");
}

/* A macro's collectives are numbered where it is used: file, lines and number of each use stand in a table. */
static void test_marks_in_macros(void) {
    EXPECT(METAL, "#define ONE(x) simd_max(x)\n#define TWO(x) (ONE(x) + simd_min(x))\nfloat f(float x) { return ONE(x); }\n",
           "simd_sum(x);\nTWO(x);\nONE(\nx); f(x); simd_sum(x);",
           "simd_max(invar_here(invar_at + invar_macro<0, invar_text, __LINE__>), x)", "simd_sum(invar_here(1), x);",
           "{ 0, 0, 3, 3, 0 },", "{ 0, 1, 2, 2, 2 },\n { 2, 1, 2, 2, 3 },\n { 0, 1, 3, 4, 4 },",
           "f(5, x); simd_sum(invar_here(6), x);",
           "{ \"k.metal\", \"simd_min\", 2 },");
    EXPECT(METAL, "float scan(float x) { return simd_sum(x); }\n#define SCAN(T) inline T scan(T x) { return x; }\nSCAN(int)\n",
           "scan(1.0f);", "float scan(float x) { return simd_sum(invar_here(1), x); }",
           "#define SCAN(T) inline T scan(T x) { return x; }", "scan(1.0f);");
    expect_mode(CUDA, "#define ADD(p, v) atomicAdd(p, v)\n", "ADD(out, 1);", INVAR_MODE_FLAT);
    expect_mode(CUDA, "#define ADD(p, v) atomicAdd(p, v)\n", "for (int i = 0; i < 3; i++) ADD(out, 1);", INVAR_MODE_GROUP);
    expect_mode(CUDA, "#define SYNC() __syncthreads()\n", "SYNC();", INVAR_MODE_GROUP);
}

/* A helper's collectives are numbered where it is called. */
static void test_marks_in_functions(void) {
    const char *header = "float inner(float x) { return simd_sum(x); }\n"
                         "template <typename U> U outer(U x) { x = inner(x); return simd_max(x) + inner(x); }\n";
    EXPECT(METAL, header, "simd_min(x); outer<float>(x); simd_xor(x); inner(x);", "float inner(const int invar_at, float x)",
           "simd_sum(invar_here(invar_at + 0), x)", "U outer(const int invar_at, U x)", "inner(invar_at + 0, x)",
           "simd_max(invar_here(invar_at + 1), x) + inner(invar_at + 2, x)", "simd_min(invar_here(1), x); outer<float>(2, x); "
           "simd_xor(invar_here(5), x); inner(6, x);", "invar_shared_table, 7 };");
    EXPECT(METAL, "struct R { float x; R(float v) { x = simd_sum(v); } void sum(void) { x = simd_sum(x); } };",
           "R r(1); r.sum();", "R(float v) { x = simd_sum(invar_here(1), v)", "void sum(const int invar_at)", "r.sum(2)");
    EXPECT(METAL, "template <class U, int n = (2 > 1), bool b = n << 1 >= 4> U f(U x) { return simd_sum(x); }", "f(1.0f);",
           "U f(const int invar_at, U x) { return simd_sum(invar_here(invar_at + 0), x); }", "f(1, 1.0f);");
    EXPECT(METAL, "template <typename U> U f(U x) { return simd_sum(x); }\n"
                  "template <> int f<int>(int x) { threadgroup int all[1]; return all[0] = simd_max(x); }\n"
                  "template [[host_name(\"f_uint\")]] uint f<uint>(uint);", "f<int>(2);",
           "int f<int>(const int invar_at, int x) {", "simd_max(invar_here(invar_at + 1), x); }",
           "uint f<uint>(const int invar_at, uint);", "f<int>(1, 2);");
    EXPECT(CUDA, "__device__ float f(float x, int n) { return n ? f(__shfl_sync(~0u, x, 0), n - 1) : x; }", "f(1, 2);",
           "float f(float x, int n)", "f(__shfl_sync(invar_here(1), ~0u, x, 0), n - 1)", "f(1, 2);");
    EXPECT(CUDA, "__device__ float atomicMax(float *p, float v) { return atomicCAS((int *)p, 0, 1); }", "atomicMax(out, 1.f);",
           "using invar_shim::atomicMax;", "atomicMax(invar_any_here, float *p, float v)", "atomicMax(invar_here(2), out, 1.f)");
    EXPECT(CUDA, "__device__ float reduce(float x) { return __shfl_sync(~0u, x, 0); }", "reduce(1); cg::reduce(t, x);",
           "float reduce(const int invar_at, float x)", "reduce(1, 1)", "cg::reduce(invar_here(2), t, x)");
}

/* Functions that each call the next one twice, down to one that has numbers of its own since it calls itself: 2^40 calls of it. */
static void test_calls_without_marks(void) {
    enum { DEPTH = 40, LONGEST = 80 };
    char header[DEPTH * LONGEST] = "float f0(float x) { return x > 0 ? f0(x - 1) : simd_sum(x); }\n";
    for (int i = 1; i <= DEPTH; i++)
        snprintf(header + strlen(header), LONGEST, "float f%d(float x) { return f%d(x) + f%d(x); }\n", i, i - 1, i - 1);
    EXPECT(METAL, header, "f40(1.0f); simd_max(2.0f);", "simd_sum(invar_here(1), x)", "f40(2, 1.0f); simd_max(invar_here(2), 2.0f);");
}

/* A header's function does not hide a built-in of the same name from calls that mean that one. */
static void test_overloads(void) {
    EXPECT(METAL, "inline half exp(half x) { return x; }\nfloat own(float x) { return x; }\n", "exp(1.0f);",
           "using metal::int8_t;\nusing metal::exp;\n\n#line 1 \"k.header\"");
    EXPECT(CUDA, "__device__ int fmaxf(int x) { return x; }", "fmaxf(1.f, 2.f);", "using invar_shim::fmaxf;");
    /* Names that stand in comments and directives of the shim, or are the C library's, are no built-ins'. */
    EXPECT(METAL, "float f(float x) { return x; }\nfloat vectorize(float x) { return x; }\nfloat acosf(float x) { return x; }\n",
           "atomic_fetch_add_explicit(out, 1, memory_order_relaxed); f(1);", "using metal::int8_t;\n\n#line 1 \"k.header\"");
    EXPECT_DEVICE(CUDA, "__device__ int fmaxf(int x) { return x; }", "fmaxf(1.f, 2.f);", "using ::fmaxf;");
}

/* ---- CUDA ---- */

static void test_cuda(void) {
    EXPECT(CUDA, "__device__ __forceinline__ float f(float x) { return ::g(x); }\nstruct __align__(16) V { float x; };\n"
                 "__constant__ float c[2] = {1, 2};\n__global__ void __launch_bounds__(256) other() {}",
           "", "inline float f(float x) { return  g(x); }", "struct __attribute__((aligned(16))) V",
           "static const float c[2]", "void           other() {}");
    EXPECT(CUDA, "", "extern __shared__ float s[];\n__shared__ alignas(16) float t[8][9]; static __shared__ int *q[2];",
           "auto *s = invar_dynamic_array<float>();", "auto &t = invar_shared_array<1, float[(8)][(9)]>();",
           "auto &q = invar_shared_array<2, int *[(2)]>();", "{ nullptr, 0, 0 },\n    { \"t\", 0, 0 },");
    EXPECT(CUDA, "extern __shared__ float s[];", "s[0] = 1;", "operator decltype(invar_dynamic_array<float>())() const");
    EXPECT(CUDA, "#include <cuda_fp16.h>\n", "out[threadIdx.x] = a_shape[0] + b[0];", "const invar_shim::uint3 threadIdx",
           "const float *__restrict a, const Shape &a_shape, const float *__restrict b");
    EXPECT(CUDA, "", "assert(i < 4);", "(void)(i < 4);");
    EXPECT_DEVICE(CUDA, "", "__shared__ float t[8];", "__shared__ float t[8];");
    EXPECT(CUDA, "", "__shared__ struct {\nfloat v[4]; int n; } s, t[N];\n__shared__ union U { int i; float f; } u;\nint i;",
           "struct invar_shared_type_0 { float v[4]; int n; }; auto &s = invar_shared_array<0, invar_shared_type_0>();"
           "auto &t = invar_shared_array<1, invar_shared_type_0[(N)]>();\n\n"
           "union U { int i; float f; }; auto &u = invar_shared_array<2, U>();\nint i;");
    refuse(CUDA, "", "extern __shared__ struct { float x; } s[];", "expected a type and names");
}

/* The position in the grid, however it is written, makes a kernel FLAT; what only looks like it is left alone. */
static void test_cuda_grid_position(void) {
    EXPECT(CUDA, "", "int i = blockIdx.x * blockDim.x + threadIdx.x;", "int i = invar_grid.x ;");
    EXPECT(CUDA, "", "f(threadIdx.y + blockDim.y * blockIdx.y, (size_t)blockDim.z * blockIdx.z + threadIdx.z);",
           "f(invar_grid.y , (size_t)invar_grid.z );");
    EXPECT(CUDA, "", "f(static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x); g(size_t(blockIdx.y) * blockDim.y + "
                     "threadIdx.y);", "f(static_cast<long long>(invar_grid.x ) );", "g(size_t(invar_grid.y ) );");
    EXPECT(CUDA, "", "i = (int)blockIdx.x * blockDim.x + threadIdx.x;", "(int)blockIdx.x * blockDim.x + threadIdx.x;");
    EXPECT(CUDA, "", "i = 2 * blockIdx.x * blockDim.x + threadIdx.x;", "i = 2 * blockIdx.x * blockDim.x + threadIdx.x;");
    EXPECT(CUDA, "", "i = blockIdx.x * blockDim.x + threadIdx.x * 4;", "i = blockIdx.x * blockDim.x + threadIdx.x * 4;");
    EXPECT(CUDA, "", "i = blockIdx.x * blockDim.y + threadIdx.x;", "i = blockIdx.x * blockDim.y + threadIdx.x;");
    EXPECT(CUDA, "", "i = n - blockIdx.x * blockDim.x + threadIdx.x;", "n - blockIdx.x * blockDim.x + threadIdx.x;");
    EXPECT_DEVICE(CUDA, "", "int i = blockIdx.x * blockDim.x + threadIdx.x;", "int i = blockIdx.x * blockDim.x + threadIdx.x;");
    expect_mode(CUDA, "", "int i = blockIdx.x * blockDim.x + threadIdx.x; out[i] = 1;", INVAR_MODE_FLAT);
    expect_mode(CUDA, "", "int i = blockIdx.x * blockDim.x + threadIdx.x; out[i] = threadIdx.x;", INVAR_MODE_LOOP);
}

/* ---- lines ---- */

static void test_lines(void) {
    EXPECT(METAL, "\n// one\n", "x;\n[[a\n]] y;\n#include <metal_stdlib>\nz;", "#line 1 \"k.header\"\n\n// one\n",
           "#line 1 \"k.metal\"\nx;\n  \n  y;\n      \nz;");
    EXPECT(METAL, "#define N 4\n",
           "#define f(x) \\\n x\ny; // \\", "y; // \\\n\n\n#line 1 \"k.generated\"", "#undef N\n#undef f\n");
}

/* ---- modes ---- */

static void test_modes(void) {
    expect_mode(METAL, "", "out[thread_position_in_grid.x] = threads_per_grid.x;", INVAR_MODE_FLAT);
    expect_mode(METAL, "", "out[thread_index_in_threadgroup] = 1;", INVAR_MODE_LOOP);
    expect_mode(CUDA, "", "out[threadIdx.x] = 1;", INVAR_MODE_LOOP);
    expect_mode(CUDA, "__device__ int id() { return threadIdx.x; }", "out[id()] = 1;", INVAR_MODE_SIMD);
    expect_mode(CUDA, "#define ID threadIdx.x\n", "out[ID] = 1;", INVAR_MODE_LOOP);
    expect_mode(METAL, "", "for (int i = 0; i < 4; i++) simd_sum(a[i]);", INVAR_MODE_SIMD);
    expect_mode(METAL, "", "threadgroup_barrier(mem_flags::mem_none);", INVAR_MODE_GROUP);
    expect_mode(METAL, "", "threadgroup float x[4];", INVAR_MODE_SIMD);
    expect_mode(CUDA, "", "atomicAdd(out, 1);", INVAR_MODE_FLAT);
    expect_mode(CUDA, "", "for (int i = 0; i < 4; i++) atomicAdd(out, 1);", INVAR_MODE_FLAT);
    expect_mode(CUDA, "", "for (int i = 0; i != 4; i++) atomicAdd(out, 1);", INVAR_MODE_FLAT);
    expect_mode(CUDA, "", "for (int i = 0; i < 4; i++) x = atomicAdd(out, 1);", INVAR_MODE_GROUP);
    expect_mode(CUDA, "", "while (atomicCAS(out, 0, 1)) ;", INVAR_MODE_GROUP);
    expect_mode(CUDA, "", "do { x = atomicCAS(out, 0, 1); } while (x);", INVAR_MODE_GROUP);
    expect_mode(CUDA, "", "if (x) y; else while (1) if (2) { atomicAdd(out, 1); }", INVAR_MODE_GROUP);
}

/* ---- #if ---- */

/* Branches that are not taken are gone before anything is refused, lines staying as they are. */
static void test_branches(void) {
    EXPECT(METAL, "#if __METAL_VERSION__ >= 400\ntexture2d<float> t;\n#elif defined(__HAVE_BFLOAT__) && !defined(OLD)\n"
                  "#define WIDE (2 + 1)\nint a;\n#else\ndouble b;\n#endif\n", "c;\n#ifdef WIDE\nd;\n#else\n  (\n#endif\ne;",
           "\n \n \n#define WIDE (2 + 1)\nint a;\n \n \n \n", "\nc;\n \nd;\n \n \n \ne;");
    EXPECT(METAL, "#define A 3\n#define B A\n#if B == 3 && (A != 4 || UNKNOWN) && -1 < 0\nint yes;\n#if A < B\ndouble x;\n"
                  "#endif\n#endif\n#undef A\n#ifndef A\nint no;\n#endif\n#if 0\n#if X\nthrow;\n#else\nnew;\n#endif\n"
                  "#define A \\\n double\n#endif\n", "",
           "int yes;\n", "int no;\n");
    EXPECT(METAL, "#if __clang__ && 1\nint a;\n#elif 1\nint b;\n#else\ndouble c;\n#endif\n", "", /* the compiler's to tell */
           "#if __clang__ && 1\nint a;\n#elif 1\nint b;\n#else\n \n#endif");
    EXPECT(METAL, "#if __clang__ || 1\nint a;\n#else\ndouble c;\n#endif\n#if __clang__\n#elif 0\ndouble d;\n#endif\n", "", "int a;",
           "#if __clang__\n#elif 0\n \n#endif");
    EXPECT(CUDA, "#if 0\nasm(\"\");\n#endif\n#ifdef CUDART_VERSION\nint a;\n#endif\n", "", "#ifdef CUDART_VERSION\nint a;\n#endif");
    refuse(METAL, "#define OLD\n#ifdef OLD\ndouble x;\n#endif\n", "", "k.header:3: double");
    refuse(METAL, "#if __clang__\n#define OLD 1\n#endif\n#if OLD\ndouble x;\n#endif\n", "", "k.header:5: double");
    static const char open[] = "#if ", shut[] = "1\n#endif\n";
    char deep[400000]; /* not the stack's to hold */
    memset(deep, '(', sizeof deep);
    memcpy(deep, open, sizeof open - 1);
    memcpy(deep + sizeof deep - sizeof shut, shut, sizeof shut);
    refuse(METAL, deep, "double x;", "double");
}

/* ---- refusals ---- */

static void test_refusals(void) {
    refuse(METAL, "", "x;\ntexture2d<float> t;", "k.metal:2: texture2d");
    refuse(METAL, "\n\nconstexpr sampler s(1);", "", "k.header:3: sampler");
    refuse(METAL, "", "double x;", "k.metal:1: double");
    refuse(METAL, "", "\nkernel void k(device float *a) { a[0] = 1; }", "k.metal:2: kernel cannot be translated: give what stands");
    refuse(METAL, "constant int n [[function_constant(0)]];", "", "function_constant");
    refuse(METAL, "", "simdgroup_async_copy(x);", "simdgroup_async_copy");
    refuse(METAL, "", "goto end; end:;", "goto");
    refuse(METAL, "#define T threadgroup\n", "", "threadgroup in a macro");
    refuse(METAL, "#include <vector>\n", "", "#include of <vector>");
    refuse(CUDA, "", "int x;\n asm volatile(\"mov;\");", "k.cu:2: asm");
    refuse(CUDA, "", "__global__ void k(float *a) { a[0] = 1; }", "k.cu:1: __global__ cannot be translated: give what stands");
    refuse(CUDA, "", "nvcuda::wmma::mma_sync(a, b, c, d);", "nvcuda");
    refuse(CUDA, "", "cg::this_grid().sync();", "grid-wide sync");
    refuse(CUDA, "", "cg::grid_group g = cg::this_grid();\ng.sync();", "k.cu:2: grid-wide sync");
    refuse(CUDA, "", "auto g = cg::this_grid(); cg::sync(g);", "grid-wide sync");
    refuse(CUDA, "", "cg::memcpy_async(b, s, p, 4);", "memcpy_async");
    refuse(CUDA, "", "__pipeline_memcpy_async(s, p, 4);", "__pipeline_memcpy_async");
    refuse(CUDA, "", "f<<<1, 2>>>();", "<<<");
    refuse(CUDA, "", "float *p = new float[4];", "new");
    refuse(CUDA, "", "printf(\"x\");", "printf");
    refuse(CUDA, "__shared__ float x[4];", "", "outside a function");
    refuse(CUDA, "__constant__ float x[4];", "", "__constant__");
    refuse(CUDA, "", "__shared__ float x[2] = {1};", "starts without a value");
    refuse(METAL, "", "threadgroup float x{0};", "k.metal:1: threadgroup memory starts without a value: expected ; behind x, which");
    refuse(METAL, "", "{ x;\n\n", "k.metal:1: '{' has no partner");
    refuse(METAL, "", "x; }", "'}' has no partner");
    refuse(METAL, "", "if (a) {\n x[i) = 1; }", "k.metal:2: ')' has no partner");
    refuse(METAL, "", "\n/* x", "k.metal:2: this comment");
    refuse(METAL, "", "x\n#if 1\n", "k.metal:2: this #if");
    refuse(METAL, "", "#endif\n", "no #if");
}

/* What only looks like something that is refused. */
static void test_no_refusals(void) {
    EXPECT(METAL, "", "float sampler = 1; sampler += 2; x.vertex = 1; // texture2d<float> t;\nint texture_size = 1;", "sampler");
    EXPECT(CUDA, "struct A { A() = delete; void free(int); };",
           "x.free(1); t.sync(); auto b = cg::this_thread_block(); b.sync();",
           "x.free(1)");
}

/* On how many bytes arrays must begin. */
static void test_alignment(void) {
    static const struct {
        const char *body;
        int32_t bytes;
    } cases[] = { { "out[0] = a[0];", 1 }, { "out[0] = ((device const float4 *)a)[0].x;", 16 }, { "alignas(16) float x[4];", 16 },
                  { "alignas(32) float x[8];", 64 }, { "out[0] = long4(1).x;", 64 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const invar_kernel_description description = describe(METAL, "", cases[i].body);
        invar_source *source;
        if (!CHECK_OK(invar_source_read(&source, &description))) return;
        CHECK(invar_source_alignment(source) == cases[i].bytes, "%s: %d bytes", cases[i].body, invar_source_alignment(source));
        invar_source_free(source);
    }
}

static void test_bad_keys(void) {
    const invar_kernel_description description = describe(METAL, "", "");
    invar_array_key arrays[] = { { check_f64, 1 }, { check_f32, 1 }, { check_f32, 1 } };
    invar_template_argument arguments[] = { { "N", INVAR_TEMPLATE_INT, check_f32, 1 },
                                            { "N", INVAR_TEMPLATE_INT, check_f32, 2 } };
    invar_program_key key = { arrays, arguments, 0 };
    invar_source *source;
    invar_text text = { 0 };
    if (!CHECK_OK(invar_source_read(&source, &description))) return;
    CHECK_FAILS(invar_generate_kernel(source, &key, CPU, false, &text), INVAR_ERROR_DTYPE,
                "a: expected an element type of Metal");
    arrays[0].dtype = check_f32;
    key.template_count = 2;
    CHECK_FAILS(invar_generate_kernel(source, &key, CPU, false, &text), INVAR_ERROR_VALUE, "N twice");
    arguments[1].name = "a";
    CHECK_FAILS(invar_generate_kernel(source, &key, CPU, false, &text), INVAR_ERROR_VALUE, "template");
    invar_source_free(source);
    invar_text_free(&text);
}

CHECK_MAIN(CHECK_TEST(test_metal_address_spaces), CHECK_TEST(test_metal_twins), CHECK_TEST(test_metal_literals),
           CHECK_TEST(test_metal_attributes), CHECK_TEST(test_metal_arrays), CHECK_TEST(test_metal_threadgroup),
           CHECK_TEST(test_metal_swizzles),
           CHECK_TEST(test_metal_arms), CHECK_TEST(test_metal_templates), CHECK_TEST(test_marks),
           CHECK_TEST(test_marks_in_macros), CHECK_TEST(test_marks_in_functions), CHECK_TEST(test_calls_without_marks),
           CHECK_TEST(test_overloads), CHECK_TEST(test_cuda), CHECK_TEST(test_cuda_grid_position), CHECK_TEST(test_lines),
           CHECK_TEST(test_modes), CHECK_TEST(test_alignment), CHECK_TEST(test_branches), CHECK_TEST(test_refusals),
           CHECK_TEST(test_no_refusals), CHECK_TEST(test_bad_keys))
