/* Loops that lanes walk through side by side: which are taken for such, and that the results are those of the loops as they
 * stand, to the bit. */
#define _GNU_SOURCE
#include "kernel_case.h"

#include <time.h>

static invar_kernel *create_k(int32_t dialect, const char *header, const char *source) {
    invar_kernel_description d = describe(dialect, "k", source);
    d.header = header;
    return create(&d);
}

enum { ROWS = 5, COLUMNS = 3001, OUT = 4096 };
static float a[ROWS * COLUMNS], b[ROWS * COLUMNS];

static invar_tensor tensor_of(float *data, int64_t shape[2]) {
    return (invar_tensor){ .data = data, .device = { INVAR_DEVICE_CPU, 0 }, .ndim = 2, .dtype = check_f32, .shape = shape };
}

/* How many of the kernel's loops are walked side by side. */
static int count_loops(int32_t dialect, const char *header, const char *source, int32_t check) {
    enum { MOST = 1 << 16 };
    int64_t shape[2] = { ROWS, COLUMNS }, out_shape[2] = { ROWS, OUT };
    invar_tensor x = tensor_of(a, shape), y = tensor_of(b, shape), out = tensor_of(a, out_shape);
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    invar_kernel *kernel = create_k(dialect, header, source);
    char *text = malloc(MOST);
    size_t length;
    int count = 0;
    options.check = check;
    CHECK_OK(invar_kernel_generate(kernel, INVAR_TARGET_CPU, (const invar_tensor *[]){ &out }, 1,
                                   (const invar_tensor *[]){ &x, &y }, 2, &options, text, MOST, &length));
    for (const char *at = text; (at = strstr(at, "invar_lane_loop<")); at++) count++;
    free(text);
    invar_kernel_destroy(kernel);
    return count;
}

/* ---- which ---------------------------------------------------------------------------------------------- */

#define HEAD \
    "uint t = thread_position_in_threadgroup.x, n = a_shape[1], size = threads_per_threadgroup.x;\n" \
    "float s = 0, m = -INFINITY; float4 v; float w[4]; threadgroup float tile[64]; device float *p = out;\n"
#define TAIL "\nout[thread_position_in_grid.x] = simd_sum(s) + m + v.x + w[0] + tile[0] + p[0];"
#define LOOP "for (uint i = t; i < n; i += size) "

static void test_taken(void) {
    static const char *const taken[] = {
        LOOP "s += a[i];",
        LOOP "{ s += a[i] * b[i]; }",
        LOOP "{ float e = exp(a[i] - m), f = e; out[i] = e; s += f; }",
        LOOP "{ if (a[i] > m) m = a[i]; else { s++; } }",
        LOOP "{ const auto x = a[n * 3 + i + 1]; v.xy += x; s = max(s, x); }",
        LOOP "s = a[n + (i - t)] == 0 || a[i] >= 2 ? s : fma(a[i], w[1], s);",
        LOOP ";",
        "for (int i = int(t); i <= int(n) - 1; i += 32) out[i] *= 2;",
        "for (unsigned int i = t; i < n; i += size) s += a[t + i];",
        "for (unsigned i = t; i < n; i += 2 * size) s -= p[i];",
        LOOP "s += a[uint(b[i])] / tile[3] + tile[4];",
    };
    /* The sixth has i in parentheses. */
    static const int counts[] = { 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1 };
    for (size_t k = 0; k < sizeof taken / sizeof *taken; k++) {
        char source[1024];
        snprintf(source, sizeof source, HEAD "%s" TAIL, taken[k]);
        CHECK(count_loops(INVAR_DIALECT_METAL, NULL, source, 0) == counts[k], "%s", taken[k]);
        CHECK(count_loops(INVAR_DIALECT_METAL, NULL, source, 1) == 0, "check mode: %s", taken[k]);
    }
}

static void test_left(void) {
    static const char header[] = "#define SQUARE(x) ((x) * (x))\nfloat helper(float x) { return x; }";
    static const char *const left[] = {
        "for (uint i = t; i < n; i++) s += a[i];",
        "for (uint i = t; i < n; i += 1) s += a[i];",
        "for (uint i = t; i > n; i += size) s += a[i];",
        "for (uint i = t; i < n; i -= size) s += a[i];",
        "for (uint i = t, k = 0; i < n; i += size) s += a[i];",
        "uint i; for (i = t; i < n; i += size) s += a[i];",
        "for (uint i = t; i < out[0]; i += size) s += a[i];",
        "for (uint i = t; i < s; i += size) s += a[i];",
        "for (uint i = t; i < n; i += uint(s)) s += a[i];",
        LOOP "{ s += a[i]; break; }",
        LOOP "{ if (a[i] < 0) continue; s += a[i]; }",
        LOOP "{ if (a[i] < 0) return; s += a[i]; }",
        LOOP "s += simd_sum(a[i]);",
        LOOP "{ threadgroup_barrier(mem_flags::mem_none); s += a[i]; }",
        LOOP "s += tile[i - 0 & 63];",
        LOOP "tile[i % 64] = a[i];",
        LOOP "w[0] += a[i];",
        LOOP "p[i] = a[i];",
        LOOP "*p = a[i];",
        LOOP "s += i;",
        LOOP "s += a[2 * i];",
        LOOP "s += a[n - i];",
        LOOP "{ uint k = t; s += a[k + i]; }",
        LOOP "{ s += a[i]; i += 1; }",
        LOOP "s += a[i++];",
        LOOP "m = (s += a[i]);",
        LOOP "{ float x = s = a[i]; }",
        LOOP "s += helper(a[i]);",
        LOOP "s += SQUARE(a[i]);",
        LOOP "{ float whole; s += modf(a[i], whole); }",
        LOOP "for (uint k = 0; k < 2; k++) s += a[i + k];",
        LOOP "{ thread float &r = s; r += a[i]; }",
        LOOP "{ static float q = 1; s += q; }",
        LOOP "undeclared += a[i];",
        "device float &first = out[0]; " LOOP "out[i] = first + a[i];",
        "#if __CHAR_BIT__\n" LOOP "s += a[i];\n#endif",
    };
    for (size_t k = 0; k < sizeof left / sizeof *left; k++) {
        char source[1024];
        snprintf(source, sizeof source, HEAD "%s" TAIL, left[k]);
        CHECK(count_loops(INVAR_DIALECT_METAL, header, source, 0) == 0, "%s", left[k]);
    }
    CHECK(!count_loops(INVAR_DIALECT_METAL, NULL, "for (uint i = thread_position_in_grid.x; i < 9; i += 3) out[i] = 1;", 0),
          "no lanes meet");
    CHECK(!count_loops(INVAR_DIALECT_CUDA, NULL,
                       "for (int i = threadIdx.x; i < 900; i += blockDim.x) out[i] = 1;\n"
                       "__syncthreads(); atomicAdd(out, 1.0f);", 0),
          "atomics");
}

/* A text of thousands of loops that are all left, which once took a search through all of it for each name in each. */
static void test_many(void) {
    enum { LOOPS = 4000 };
    static const char loop[] = LOOP "undeclared += a[i];\n";
    char *source = malloc(sizeof HEAD + LOOPS * (sizeof loop - 1) + sizeof TAIL), *end = stpcpy(source, HEAD);
    for (int k = 0; k < LOOPS; k++) end = stpcpy(end, loop);
    strcpy(end, TAIL);
    const clock_t begin = clock();
    invar_kernel_destroy(create_k(INVAR_DIALECT_METAL, NULL, source));
    const double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    CHECK(seconds < 5, "%.1f s", seconds);
    free(source);
}

/* ---- what they give ---------------------------------------------------------------------------------------- */

/* Lanes that left early, ragged groups, rows whose length no group divides, values that differ between lanes, subscripts that
 * wrap around. %s is a statement that keeps the loop as it is, or nothing. */
static const char *const metal[] = {
    "uint t = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x;\n"
    "uint row = threadgroup_position_in_grid.x %% 5;\n"
    "uint n = a_shape[1]; threadgroup float part[32]; float s = 0, m = -INFINITY;\n"
    "for (uint i = t; i < n; i += size) { s += a[row * n + i]; m = max(m, b[row * n + i]); %s }\n"
    "s = simd_sum(s); m = simd_max(m);\n"
    "if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s + m;\n"
    "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    "uint to = 2048 * threadgroup_position_in_grid.x; /* at most ten groups, each with a place of its own */\n"
    "for (uint i = t; i < 2048; i += size) { out[to + i] = a[row * n + i] / part[0]; %s }",

    "int t = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x; float s = 0; float4 v = 1; int turns = 0;\n"
    "if (t %% 7 == 3) { out[thread_position_in_grid.x] = 5; return; }\n"
    "for (int i = t; i <= 1500; i += size) { float x = a[i]; v = v * 0.5f + x; if (x > 0) turns++; "
    "s += x > 1 ? exp(x) : 1; %s }\n"
    "out[thread_position_in_grid.x] = simd_sum(s) + dot(v, v) + turns;",

    "uint t = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x, base = 4294967290u;\n"
    "float s = 0, scale = t / 40;\n"
    "for (uint i = t + 6; i < 3000; i += size) { s += a[base + i] * scale; %s }\n"
    "out[thread_position_in_grid.x] = simd_prefix_inclusive_sum(s);",

    "uint t = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x;\n"
    "float s = 0; uint start = t < 40 ? t : 2 * t;\n"
    "if (t & 32) { for (uint i = start; i < 3000; i += size) { s += a[i]; %s } }\n"
    "else { for (uint i = start; i < 2000; i += 2 * size) { s -= b[i - 0]; %s } }\n"
    "out[thread_position_in_grid.x] = simd_sum(s);",
};
static const char *const cuda[] = {
    "__shared__ float part[32]; int t = threadIdx.x, n = a_shape[1], row = blockIdx.x %% 5; float s = 0;\n"
    "for (int i = threadIdx.x; i < n; i += blockDim.x) { s += a[row * n + i]; %s }\n"
    "for (int d = 16; d; d /= 2) s += __shfl_xor_sync(0xffffffff, s, d);\n"
    "if (t %% 32 == 0) part[t / 32] = s;\n__syncthreads();\n"
    "int to = 2048 * blockIdx.x;\n"
    "for (int i = t; i < 2048; i += blockDim.x) { out[to + i] = part[0] * a[i] + b[row * n + i]; %s }",
};

static void run(int32_t dialect, const char *source, float *to, int64_t threads, int64_t group) {
    int64_t shape[2] = { ROWS, COLUMNS }, out_shape[2] = { ROWS, OUT };
    invar_tensor x = tensor_of(a, shape), y = tensor_of(b, shape), out = tensor_of(to, out_shape);
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    invar_kernel *kernel = create_k(dialect, NULL, source);
    options.grid[0] = threads;
    options.threadgroup[0] = group;
    options.has_init_value = 1;
    CHECK_OK(invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out }, 1, (const invar_tensor *[]){ &x, &y }, 2,
                                 &options));
    invar_kernel_destroy(kernel);
}

static void same_as_alone(int32_t dialect, const char *format, int loops) {
    static const int64_t shapes[][2] = { { 5 * 64, 64 }, { 5 * 256, 256 }, { 1000, 160 }, { 70, 33 }, { 32, 32 } };
    static float together[ROWS * OUT], alone[ROWS * OUT];
    char source[2048], left[2048];
    snprintf(source, sizeof source, format, "", "");
    snprintf(left, sizeof left, format, "if (false) break;", "if (false) break;");
    CHECK(count_loops(dialect, NULL, source, 0) == loops, "the loops of:\n%s", source);
    CHECK(!count_loops(dialect, NULL, left, 0), "the loops of:\n%s", left);
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        run(dialect, source, together, shapes[k][0], shapes[k][1]);
        run(dialect, left, alone, shapes[k][0], shapes[k][1]);
        CHECK(!memcmp(together, alone, sizeof alone), "%lld threads in groups of %lld:\n%s", (long long)shapes[k][0],
              (long long)shapes[k][1], source);
    }
}

static void test_same(void) {
    begin();
    uint64_t state = 5;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        a[i] = (float)(int32_t)(state >> 32) * 1e-9f;
        b[i] = (float)(int32_t)(state >> 24) * 1e-9f;
    }
    same_as_alone(INVAR_DIALECT_METAL, metal[0], 2);
    same_as_alone(INVAR_DIALECT_METAL, metal[1], 1);
    same_as_alone(INVAR_DIALECT_METAL, metal[2], 1);
    same_as_alone(INVAR_DIALECT_METAL, metal[3], 2);
    same_as_alone(INVAR_DIALECT_CUDA, cuda[0], 2);
    end();
}

CHECK_MAIN(CHECK_TEST(test_taken), CHECK_TEST(test_left), CHECK_TEST(test_many), CHECK_TEST(test_same))
