/* Check mode: memory that is not there, or holds nothing, and outputs that nobody writes. */
#define _GNU_SOURCE
#include "check_case.h"

#define MEMORY "mem_flags::mem_threadgroup"

static const check_case cases[] = {
    { .name = "read_past_end", .kind = "out-of-bounds read", .line = 2, .array = "a", .grid = { 100 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[i] = a[i@ + 1|@];\n" },
    { .name = "read_before_start", .kind = "out-of-bounds read", .line = 2, .array = "a", .grid = { 64 }, .threadgroup = { 64 },
      .source = "int i = thread_position_in_grid.x;\n"
                "out[i] = a[i] + (@|i == 0 ? 0 : @a[i - 1]);\n" },
    { .name = "unsigned_wraps", .kind = "out-of-bounds read", .line = 3, .array = "a", .grid = { 64 }, .threadgroup = { 64 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "float left = 0.0;\n"
                "@|if (i > 0)@ left = a[i - 1];\n"
                "out[i] = left;\n" },
    { .name = "write_past_end", .kind = "out-of-bounds write", .line = 3, .array = "out", .grid = { 96 }, .threadgroup = { 32 },
      .size = 90,
      .source = "uint i = thread_position_in_grid.x;\n"
                "@|if (i >= 90) return;@\n"
                "out[i] = a[i];\n" },
    { .name = "write_far_away", .kind = "out-of-bounds write", .line = 2, .array = "out", .grid = { 10 }, .threadgroup = { 10 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[@i * 10000000|i@] = 1.0;\n" },
    { .name = "far_and_barrier", .kind = "out-of-bounds write", .line = 4, .array = "out", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "threadgroup float tile[64];\n"
                "tile[i] = a[i];\n"
                "@if (i == 5) out[i * 10000000] = 1.0;|@\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "out[i] = tile[63 - i];\n" },
    { .name = "row_stride", .kind = "out-of-bounds read", .line = 2, .array = "b", .grid = { 8, 8 }, .threadgroup = { 8, 8 },
      .source = "uint3 p = thread_position_in_grid;\n"
                "out[p.y * 8 + p.x] = b[p.y * @9|8@ + p.x];\n" },
    { .name = "vector_read", .kind = "out-of-bounds read", .line = 3, .array = "a", .grid = { 64 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "float4 v = 0.0;\n"
                "if (i < @17|16@) v = ((const device float4 *)a)[i];\n"
                "out[i] = v.x + v.w;\n" },
    { .name = "vector_write", .kind = "out-of-bounds write", .line = 2, .array = "out", .grid = { 64 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "if (i < @17|16@) ((device float4 *)out)[i] = float4(1.0);\n" },
    { .name = "shared_overflow", .kind = "out-of-bounds write", .line = 3, .array = "tile", .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[@63|64@];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i];\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "out[i] = i < 63 ? tile[62 - i] : 0.0;\n" },
    { .name = "shared_matrix", .kind = "out-of-bounds read", .line = 4, .array = "tile", .grid = { 8, 8 },
      .threadgroup = { 8, 8 },
      .source = "threadgroup float tile[8][8];\n"
                "uint2 p = thread_position_in_threadgroup.xy;\n"
                "tile[p.y][p.x] = 1.0; threadgroup_barrier(" MEMORY ");\n"
                "out[p.y * 8 + p.x] = tile[p.x@ + 1|@][p.y];\n" },
    { .name = "in_helper", .kind = "out-of-bounds read", .line = 2, .array = "a", .file = "in_helper.header", .grid = { 32 },
      .threadgroup = { 32 },
      .header = "inline float pick(const device float *p, uint i) {\n"
                "    return p[@i * 2|i@];\n"
                "}\n",
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[i] = pick(a, i);\n" },
    { .name = "gather", .kind = "out-of-bounds read", .line = 3, .array = "a", .grid = { 50 }, .threadgroup = { 32 },
      .integers = 1,
      .source = "uint i = thread_position_in_grid.x;\n"
                "int j = b[i] @+ 1|@;\n"
                "out[i] = a[j];\n" },
    { .name = "input_written", .kind = "write to an input", .line = 3, .array = "a", .grid = { 32 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "device float *p = @(device float *)a|out@;\n"
                "p[i] = 2.0;\n"
                "out[i] = a[i];\n" },
    { .name = "shared_unwritten", .kind = "uninitialised read", .line = 5, .array = "tile", .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "@if (i != 7)|@ tile[i] = a[i];\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "out[i] = tile[i ^ 1];\n" },
    { .name = "accumulates", .kind = "uninitialised read", .line = 3, .array = "out", .grid = { 64 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "@|out[i] = 0.0;@\n"
                "for (int k = 0; k < 3; k++) out[i] += a[i];\n" },
    { .name = "accumulates_onto_init", .grid = { 64 }, .threadgroup = { 32 }, .init = 1,
      .source = "uint i = thread_position_in_grid.x;\n"
                "for (int k = 0; k < 3; k++) out[i] += a[i];\n" },
    { .name = "atomic_onto_nothing", .kind = "uninitialised read", .line = 1, .array = "out", .grid = { 64 },
      .threadgroup = { 32 }, .size = 1, .atomic_outputs = 1,
      .source = "@|if (thread_position_in_grid.x == 0) atomic_store_explicit(&out[0], 0.0f, memory_order_relaxed); "
                "else if (false)@ "
                "atomic_fetch_add_explicit(&out[0], a[0], memory_order_relaxed);\n" },
    { .name = "tail_unwritten", .kind = "unwritten output", .line = 0, .array = "out", .grid = { 100 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "if (i < @99|100@) out[i] = a[i];\n" },
    { .name = "even_unwritten", .kind = "unwritten output", .line = 0, .array = "out", .grid = { 64 }, .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[@i / 2 * 2|i@] = @1.0|a[i]@;\n" },
    { .name = "cuda_past_end", .kind = "out-of-bounds write", .line = 3, .array = "out", .grid = { 100 }, .threadgroup = { 64 },
      .cuda = 1,
      .source = "unsigned i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                "@|if (i >= 100) return;@\n"
                "out[i] = @1.0f|a[i]@;\n" },
    { .name = "dynamic_overflow", .kind = "out-of-bounds write", .line = 2, .grid = { 64 }, .threadgroup = { 64 }, .cuda = 1,
      .shared_memory = 256,
      .source = "extern __shared__ float s[];\n"
                "s[threadIdx.x@ + 1|@] = a[threadIdx.x];\n"
                "__syncthreads();\n"
                "out[threadIdx.x] = s[63 - threadIdx.x@ + 1|@];\n" },
    { .name = "dynamic_unwritten", .kind = "uninitialised read", .line = 4, .grid = { 64 }, .threadgroup = { 64 }, .cuda = 1,
      .shared_memory = 256,
      .source = "extern __shared__ float s[];\n"
                "@if (threadIdx.x < 60)|@ s[threadIdx.x] = a[threadIdx.x];\n"
                "__syncthreads();\n"
                "out[threadIdx.x] = s[63 - threadIdx.x];\n" },
    { .name = "struct_returned", .grid = { 64 }, .threadgroup = { 64 },
      .header = "struct both { float x; char c; };\n"
                "inline both make(float x) { both b; b.x = x; b.c = 1; return b; }\n",
      .source = "threadgroup both tile[64]; threadgroup float3 three[64];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = make(a[i]); three[i].x = 1.0; three[i].y = 2.0; three[i].z = 3.0;\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "both b = tile[63 - i]; float3 t = three[63 - i];\n"
                "out[i] = b.x + b.c + t.z;\n" },
    { .name = "half_vectors", .kind = "uninitialised read", .line = 5, .array = "tile", .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup half4 tile[64];\n"
                "uint i = thread_position_in_threadgroup.x; half4 v = half4(half(i));\n"
                "@if (i & 1)|@ tile[i] = v + v;\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "half4 w = tile[i ^ 1]; out[i] = float(w.x);\n" },
    { .name = "endless", .kind = "endless loop", .line = 3, .grid = { 4 }, .threadgroup = { 4 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "float x = a[i];\n"
                "for (uint k = 0; k < 16; k @+= 0|++@) x = x * 0.5 + 1.0;\n"
                "out[i] = x;\n" },
    { .name = "divided", .kind = "division by zero", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .says = "by thread (0, 0, 0) of group (0, 0, 0)",
      .source = "int i = int(thread_position_in_grid.x);\n"
                "out[i] = a[i] + float(7 / @i|(i + 1)@);\n" },
    { .name = "vectors_divided", .kind = "division by zero", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .says = "by thread (2, 0, 0) of group (0, 0, 0)",
      .source = "uint i = thread_position_in_grid.x;\n"
                "uint2 v = uint2(9, 8) % uint2(3, @i ^ 2|5@);\n"
                "out[i] = a[i] + float(v.y);\n" },
    { .name = "divided_by_minus_one", .kind = "division overflow", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .says = "by thread (0, 0, 0) of group (0, 0, 0); 1 more like it",
      .source = "int i = int(thread_position_in_grid.x);\n"
                "int x = (INT_MIN + i - 1) / (@i - 2|i + 1@); long y = (LONG_MIN + long(i)) % (long(i) - @1|5@);\n"
                "out[i] = a[i] + float(x) + float(y);\n" },
    { .name = "overflows_otherwise", .grid = { 4 }, .threadgroup = { 4 },
      .source = "int i = int(thread_position_in_grid.x), x = INT_MAX + i, y = INT_MIN - i, z = x * y, w = -(INT_MIN + i / 8);\n"
                "out[i] = a[i] + float(x) + float(y) + float(z) + float(w);\n" },
    { .name = "own_array", .kind = "out-of-bounds index", .line = 3, .grid = { 8 }, .threadgroup = { 8 },
      .says = "element 4 of an array of 4 by thread (4, 0, 0) of group (0, 0, 0); 3 more like it",
      .source = "uint i = thread_position_in_grid.x; float own[4];\n"
                "for (int k = 0; k < 4; k++) own[k] = a[i];\n"
                "own[i@|%4@] = 1.0;\n"
                "out[i] = own[i % 4];\n" },
    { .name = "own_rows", .kind = "out-of-bounds index", .line = 2, .grid = { 4 }, .threadgroup = { 4 }, .cuda = 1,
      .says = "element -1 of an array of 3",
      .source = "int i = threadIdx.x; float own[5][3] = {};\n"
                "own[4][@i - 1|i % 3@] = 1.0;\n"
                "out[i] = a[i] + own[4][2] + *(&own[0][0] + 5 * 3 - 1);\n" },
    { .name = "member", .kind = "out-of-bounds index", .line = 2, .file = "member.header", .grid = { 32 }, .threadgroup = { 32 },
      .says = "element 4 of an array of 4",
      .header = "struct block { float w[4]; float d; };\n"
                "inline float pick(const threadgroup block *b, uint i) { return b->w[i / 8@ + 1|@] + b->d; }\n",
      .source = "uint i = thread_position_in_grid.x; threadgroup block tile[7]; if (i < 7) {\n"
                "for (int k = 0; k < 4; k++) tile[i].w[k] = a[i]; tile[i].d = 1.0; }\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "out[i] = pick(&tile[i % 7], i);\n" },
    { .name = "leaves_a_row", .kind = "out-of-bounds write", .line = 3, .array = "tile", .grid = { 32 }, .threadgroup = { 32 },
      .source = "threadgroup float tile[4][8];\n"
                "uint i = thread_position_in_grid.x;\n"
                "tile[0][i@ + 1|@] = a[i];\n"
                "threadgroup_barrier(" MEMORY ");\n"
                "out[i] = tile[i / 8][i % 8];\n" },
    { .name = "counted", .kind = "out-of-bounds read", .line = 2, .array = "a", .grid = { 32 }, .threadgroup = { 32 },
      .says = "; 2 more like it",
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[i] = a[i@ + 3|@];\n" },
    { .name = "races_counted", .kind = "race", .line = 2, .array = "out", .grid = { 4 }, .threadgroup = { 4 }, .size = 4,
      .says = "; 2 more like it",
      .source = "uint i = thread_position_in_grid.x; out[i] = 0; threadgroup_barrier(mem_flags::mem_device);\n"
                "out[@0|i@] = i;\n" },
    { .name = "nothing_for_ever", .kind = "endless loop", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .source = "uint i = thread_position_in_grid.x; out[i] = a[i];\n"
                "while (@true|false@) {}\n" },
    { .name = "nothing_ends", .kind = "endless loop", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .source = "uint i = thread_position_in_grid.x; out[i] = a[i];\n"
                "@for (;;);|if (i) do ; while (false); else do {} while (false);@\n" },
    { .name = "goes_on", .kind = "endless loop", .line = 2, .grid = { 4 }, .threadgroup = { 4 },
      .header = "constexpr int bits(int n) { int k = 0; for (int i = 1; i < n; i *= 2) { k++; } return k; }\n",
      .source = "uint i = thread_position_in_grid.x; threadgroup float tile[bits(64)]; tile[0] = 1;\n"
                "if (i == 3) for (;@|false@;) continue; else out[i] = 0;\n"
                "out[i] = a[i] + tile[0] * 0;\n" },
    { .name = "goes_back", .kind = "endless loop", .line = 2, .grid = { 4 }, .threadgroup = { 4 }, .cuda = 1,
      .source = "int i = threadIdx.x; out[i] = a[i];\n"
                "again: if (@true|false@) goto again; else if (i == 5) goto end;\n"
                "end: ;\n" },
    { .name = "no_shared_memory", .kind = "out-of-bounds write", .line = 3, .array = "extern __shared__", .grid = { 8 },
      .threadgroup = { 8 }, .cuda = 1, .says = "extern __shared__[0], where shared_memory=0 gives no bytes, by thread (0, 0, 0)",
      .source = "extern __shared__ float s[];\n"
                "int i = threadIdx.x;\n"
                "@s[i] = a[i];|if (i > 8) s[i] = a[i];@\n"
                "out[i] = a[i];\n" },
    { .name = "follows_null", .kind = "out-of-bounds read", .line = 3, .array = "", .grid = { 4 }, .threadgroup = { 4 },
      .says = "out-of-bounds read: through a null pointer by thread (2, 0, 0) of group (0, 0, 0); 1 more like it",
      .source = "uint i = thread_position_in_grid.x;\n"
                "const device float *p = @i > 1 ? nullptr : a|a@;\n"
                "out[i] = p[i];\n" },
    { .name = "adds_to_null", .kind = "out-of-bounds write", .line = 3, .array = "", .grid = { 4 }, .threadgroup = { 4 }, .cuda = 1,
      .integers = 1, .init = 1, .says = "through a null pointer by thread (0, 0, 0)",
      .source = "int i = threadIdx.x;\n"
                "int *p = @nullptr|out@;\n"
                "atomicAdd(&p[i], a[i]);\n" },
    { .name = "no_value", .kind = "missing return", .line = 1, .file = "no_value.header", .grid = { 4 }, .threadgroup = { 4 },
      .says = "a function ends without the value that it promises by thread (3, 0, 0) of group (0, 0, 0)",
      .header = "inline float sign(int i) { if (i < 1) return -1; if (i @<|<=@ 3) return 1; @|return 0;@ }\n",
      .source = "int i = int(thread_position_in_grid.x);\n"
                "out[i] = a[i] * sign(i);\n" },
    { .name = "recursion", .kind = "stack overflow", .line = 1, .file = "recursion.header", .grid = { 2 }, .threadgroup = { 2 },
      .says = "functions that call one another fill the stack by thread (1, 0, 0) of group (0, 0, 0)",
      .header = "inline float sum(int i) { return i @!=|>@ 0 ? float(i) + sum(i - @2|1@) : 0.0f; }\n",
      .source = "int i = int(thread_position_in_grid.x);\n"
                "out[i] = a[i] + sum(i * 101);\n" },
    { .name = "traps", .kind = "trap", .line = 2, .grid = { 4 }, .threadgroup = { 4 }, .cuda = 1,
      .says = "__trap() is called by thread (3, 0, 0) of group (0, 0, 0)",
      .source = "int i = threadIdx.x;\n"
                "if (i > @2|3@) __trap();\n"
                "out[i] = a[i];\n" },
    { .name = "reaches", .kind = "trap", .line = 2, .grid = { 4 }, .threadgroup = { 4 }, .cuda = 1,
      .says = "what is said to be unreachable is reached by thread (3, 0, 0) of group (0, 0, 0)",
      .source = "int i = threadIdx.x;\n"
                "if (i > @2|3@) __builtin_unreachable();\n"
                "out[i] = a[i];\n" },
    { .name = "other_group", .kind = "race", .line = 3, .other_line = 4, .array = "out", .grid = { 64 },
      .threadgroup = { 32 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "float x = 0.0;\n"
                "@if (i == 3) x = out[63];|@\n"
                "out[i] = x;\n" },
};

static void test_memory(void) { check_cases_run(cases, sizeof cases / sizeof cases[0]); }

CHECK_MAIN(CHECK_TEST(test_memory))
