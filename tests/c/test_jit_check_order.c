/* Check mode: races, barriers, waits and results that depend on the schedule. */
#define _GNU_SOURCE
#include "check_case.h"

#define TILE "mem_flags::mem_threadgroup"
#define BARRIER "threadgroup_barrier(" TILE ");"

static const check_case cases[] = {
    { .name = "missing_barrier", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float tile[64];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i];\n"
                "@|" BARRIER "@\n"
                "out[i] = tile[63 - i];\n" },
    { .name = "half_sum", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 64 }, .threadgroup = { 64 },
      .returned = 1,
      .source = "threadgroup half tile[64];\n"
                "uint i = thread_position_in_threadgroup.x; half h = half(i);\n"
                "tile[i] = h + h;\n"
                "@|" BARRIER "@\n"
                "out[i] = float(tile[63 - i]);\n" },
    { .name = "vector_sum", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 64 }, .threadgroup = { 64 },
      .returned = 1,
      .source = "threadgroup float4 tile[64];\n"
                "uint i = thread_position_in_threadgroup.x; float4 v = float4(a[i]);\n"
                "tile[i] = v * v;\n"
                "@|" BARRIER "@\n"
                "out[i] = tile[63 - i].y;\n" },
    { .name = "missing_second_barrier", .kind = "race", .line = 4, .other_line = 6, .array = "tile", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float tile[64];\n"
                "uint i = thread_position_in_threadgroup.x; float s = 0.0;\n"
                "for (int k = 0; k < 3; k++) {\n"
                "    tile[i] = a[i] + k;\n"
                "    " BARRIER "\n"
                "    s += tile[63 - i];\n"
                "    @|" BARRIER "@\n"
                "}\n"
                "out[i] = s;\n" },
    { .name = "tree", .kind = "race", .line = 5, .other_line = 5, .array = "tile", .grid = { 256 }, .threadgroup = { 256 },
      .size = 1,
      .source = "threadgroup float tile[256];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i]; " BARRIER "\n"
                "for (uint step = 128; step > 0; step /= 2) {\n"
                "    if (i < step) tile[i] += tile[i + step];\n"
                "    @|" BARRIER "@\n"
                "}\n"
                "if (i == 0) out[0] = tile[0];\n" },
    { .name = "tree_wrong_bound", .kind = "race", .line = 5, .other_line = 5, .array = "tile", .grid = { 64 },
      .threadgroup = { 64 }, .size = 1,
      .source = "threadgroup float tile[128];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i]; tile[i + 64] = b[i]; " BARRIER "\n"
                "for (uint step = 64; step > 0; step /= 2) {\n"
                "    if (i @<=|<@ step) tile[i] += tile[i + step@ - (i == step)|@];\n"
                "    " BARRIER "\n"
                "}\n"
                "if (i == 0) out[0] = tile[0];\n" },
    { .name = "double_buffer", .kind = "race", .line = 5, .other_line = 6, .array = "tile", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float tile[2][64];\n"
                "uint i = thread_position_in_threadgroup.x; float s = 0.0;\n"
                "for (int k = 0; k < 5; k++) {\n"
                "    int now = @0|k % 2@;\n"
                "    tile[now][i] = a[i] * k; " BARRIER "\n"
                "    s += tile[now][63 - i];\n"
                "}\n"
                "out[i] = s;\n" },
    { .name = "shared_total", .kind = "race", .line = 4, .other_line = 5, .array = "total", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float total[1];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "float s = simd_sum(a[i]); (void)s;\n"
                "if (i == 0) total[0] = a[0];\n"
                "@|" BARRIER "@ out[i] = total[0];\n" },
    { .name = "simdgroup_memory", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 64 },
      .threadgroup = { 32 },
      .source = "threadgroup float tile[32];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[thread_position_in_grid.x];\n"
                "@|simdgroup_barrier(" TILE ");@\n"
                "out[thread_position_in_grid.x] = tile[i ^ 1];\n" },
    { .name = "simd_operation_orders", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 32 },
      .threadgroup = { 32 },
      .source = "threadgroup float tile[32];\n"
                "uint i = thread_position_in_threadgroup.x; float s = 0.0;\n"
                "tile[i] = a[i];\n"
                "@|s = simd_sum(a[i]) * 0.0;@\n"
                "out[i] = tile[31 - i] + s;\n" },
    { .name = "simd_barrier_for_group", .kind = "race", .line = 3, .other_line = 5, .array = "tile", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float tile[64];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i];\n"
                "@simdgroup|threadgroup@_barrier(" TILE ");\n"
                "out[i] = tile[63 - i];\n" },
    { .name = "two_level_sum", .kind = "race", .line = 4, .other_line = 6, .array = "part", .grid = { 256 },
      .threadgroup = { 256 }, .size = 1,
      .source = "threadgroup float part[8];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "float s = simd_sum(a[i]);\n"
                "if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;\n"
                "@|" BARRIER "@\n"
                "if (i < 32) { float t = simd_sum(i < 8 ? part[i] : 0.0); if (i == 0) out[0] = t; }\n" },
    { .name = "all_lanes_store", .grid = { 64 }, .threadgroup = { 64 }, .size = 2,
      .source = "float s = simd_sum(a[thread_position_in_grid.x]);\n"
                "out[simdgroup_index_in_threadgroup] = s;\n" },
    { .name = "same_value_strict", .kind = "race", .line = 2, .other_line = 2, .array = "out", .grid = { 64 },
      .threadgroup = { 64 }, .size = 2, .strict = 1,
      .source = "float s = simd_sum(a[thread_position_in_grid.x]);\n"
                "@|if (thread_index_in_simdgroup == 0)@ out[simdgroup_index_in_threadgroup] = s;\n" },
    { .name = "different_values", .kind = "race", .line = 2, .other_line = 2, .array = "out", .grid = { 64 },
      .threadgroup = { 64 }, .size = 2,
      .source = "uint i = thread_position_in_grid.x;\n"
                "@|if (i % 32 == 0)@ out[i / 32] = a[i];\n" },
    { .name = "between_groups", .kind = "race", .line = 2, .other_line = 2, .array = "out", .grid = { 128 },
      .threadgroup = { 32 }, .size = 128,
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[@i % 100|i@] = a[i];\n@if (i >= 100) out[i] = 0.0;|@\n" },
    { .name = "plain_histogram", .kind = "race", .line = 2, .other_line = 2, .array = "out", .grid = { 128 },
      .threadgroup = { 32 }, .size = 4, .init = 1, .integers = 1, .atomic_outputs = 1,
      .source = "uint i = thread_position_in_grid.x; int bin = a[i] & 3;\n"
                "@((device int *)out)[bin] += 1;|atomic_fetch_add_explicit(&out[bin], 1, memory_order_relaxed);@\n" },
    { .name = "atomic_and_plain", .kind = "race", .line = 2, .other_line = 3, .array = "out", .grid = { 64 },
      .threadgroup = { 64 }, .size = 2, .init = 1, .integers = 1, .atomic_outputs = 1,
      .source = "uint i = thread_position_in_grid.x; device int *plain = (device int *)out;\n"
                "atomic_fetch_add_explicit(&out[0], 1, memory_order_relaxed);\n"
                "@if (i == 5 && plain[0] < 0) plain[1] = 1;|@\n" },
    { .name = "atomic_then_barrier", .kind = "race", .line = 3, .other_line = 5, .array = "count", .grid = { 64 },
      .threadgroup = { 64 }, .integers = 1,
      .source = "threadgroup atomic_int count[1]; uint i = thread_position_in_threadgroup.x;\n"
                "if (i == 0) atomic_store_explicit(&count[0], 0, memory_order_relaxed); " BARRIER "\n"
                "atomic_fetch_add_explicit(&count[0], a[i], memory_order_relaxed);\n"
                "@|" BARRIER "@\n"
                "out[i] = ((threadgroup int *)count)[0];\n" },
    { .name = "float_atomics", .grid = { 500 }, .threadgroup = { 50 }, .size = 3, .init = 1, .atomic_outputs = 1,
      .source = "uint i = thread_position_in_grid.x;\n"
                "atomic_fetch_add_explicit(&out[i % 3], a[i] * 0.1f, memory_order_relaxed);\n" },
    { .name = "wrong_flags", .kind = "race", .line = 2, .other_line = 4, .array = "out", .grid = { 64 },
      .threadgroup = { 64 },
      .source = "uint i = thread_position_in_grid.x;\n"
                "out[i] = a[i];\n"
                "threadgroup_barrier(mem_flags::@mem_threadgroup|mem_device@);\n"
                "float x = out[i ^ 32]; threadgroup_barrier(mem_flags::mem_device); out[i] = x;\n" },
    { .name = "own_writes", .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64];\n"
                "uint i = thread_position_in_threadgroup.x;\n"
                "for (int k = 0; k < 4; k++) { tile[i] = a[i] + k; out[i] = tile[i]; out[i] += tile[i]; }\n" },
    { .name = "early_return", .kind = "barrier not reached", .line = 4, .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x;\n"
                "if (i >= 60) @{ out[i] = 0.0; return; }|out[i] = 0.0;@\n"
                "tile[i] = a[i];\n"
                BARRIER "\n"
                "out[i] = tile[59 - i % 60];\n" },
    { .name = "barrier_in_branch", .kind = "barrier not reached", .line = 4, .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i];\n"
                "if (i < @32|64@) {\n"
                "    " BARRIER "\n"
                "}\n"
                "out[i] = i < 32 ? tile[i] : a[i];\n" },
    { .name = "two_barriers", .kind = "barrier not reached", .line = 4, .other_line = 3, .grid = { 64 },
      .threadgroup = { 64 },
      .source = "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x;\n"
                "tile[i] = a[i];\n"
                "@if (i < 32) " BARRIER "|" BARRIER "@\n"
                "@else " BARRIER "|@\n"
                "out[i] = tile[63 - i];\n" },
    { .name = "loop_barrier", .kind = "barrier not reached", .line = 4, .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x; float s = 0.0;\n"
                "for (uint k = 0; k < @1 + i / 32|2@; k++) {\n"
                "    tile[i] = a[i] + k;\n"
                "    " BARRIER "\n"
                "    s += tile[i];\n"
                "}\n"
                "out[i] = s;\n" },
    { .name = "ticket_order", .kind = "schedule-dependent result", .line = 3, .array = "out", .grid = { 64 },
      .threadgroup = { 64 }, .integers = 1,
      .source = "threadgroup atomic_int next[1]; uint i = thread_position_in_threadgroup.x;\n"
                "if (i == 0) atomic_store_explicit(&next[0], 0, memory_order_relaxed); " BARRIER "\n"
                "out[@atomic_fetch_add_explicit(&next[0], 1, memory_order_relaxed)|i@] = a[i];\n" },
    { .name = "spin", .kind = "endless loop", .line = 3, .grid = { 64 }, .threadgroup = { 64 }, .integers = 1,
      .source = "threadgroup atomic_int flag[1]; uint i = thread_position_in_threadgroup.x;\n"
                "if (i == 0) atomic_store_explicit(&flag[0], @0|1@, memory_order_relaxed); " BARRIER "\n"
                "while (atomic_load_explicit(&flag[0], memory_order_relaxed) == 0) {}\n"
                "out[i] = a[i];\n" },
    { .name = "endless_barriers", .kind = "endless loop", .line = 3, .grid = { 64 }, .threadgroup = { 64 },
      .source = "threadgroup float tile[64]; uint i = thread_position_in_threadgroup.x; tile[i] = a[i];\n"
                "for (uint k = 0; k < 4; k += @0|1@) {\n"
                "    " BARRIER "\n"
                "}\n"
                "out[i] = tile[i];\n" },

    /* ---- CUDA ---- */
    { .name = "cuda_missing_sync", .kind = "race", .line = 2, .other_line = 4, .array = "s", .grid = { 128 },
      .threadgroup = { 64 }, .cuda = 1,
      .source = "__shared__ float s[64]; int t = threadIdx.x, i = blockIdx.x * 64 + t;\n"
                "s[t] = a[i];\n"
                "@|__syncthreads();@\n"
                "out[i] = s[63 - t];\n" },
    { .name = "cuda_warp_memory", .kind = "race", .line = 2, .other_line = 4, .array = "s", .grid = { 32 },
      .threadgroup = { 32 }, .cuda = 1,
      .source = "__shared__ float s[32]; int t = threadIdx.x;\n"
                "s[t] = a[t];\n"
                "@|__syncwarp();@\n"
                "out[t] = s[31 - t];\n" },
    { .name = "cuda_warp_reduction", .kind = "race", .line = 4, .other_line = 4, .array = "s", .grid = { 32 },
      .threadgroup = { 32 }, .cuda = 1, .size = 1,
      .source = "__shared__ volatile float s[64]; int t = threadIdx.x;\n"
                "s[t] = a[t]; s[t + 32] = 0.0f; __syncthreads();\n"
                "for (int d = 16; d > 0; d /= 2) {\n"
                "    float v = s[t + d]; @|__syncwarp();@ s[t] += v; @|__syncwarp();@\n"
                "}\n"
                "if (t == 0) out[0] = s[0];\n" },
    { .name = "cuda_early_return", .grid = { 100 }, .threadgroup = { 64 }, .cuda = 1,
      .source = "__shared__ float s[64]; int t = threadIdx.x, i = blockIdx.x * 64 + t;\n"
                "if (i >= 100) return;\n"
                "s[t] = a[i]; __syncthreads();\n"
                "out[i] = s[t] * 2.0f;\n" },
    { .name = "cuda_mask", .kind = "deadlock", .line = 3, .grid = { 32 }, .threadgroup = { 32 }, .cuda = 1,
      .source = "int t = threadIdx.x; float v = a[t];\n"
                "if (t @== 0|< 0@) __syncthreads();\n"
                "v += __shfl_down_sync(0xffffffff, v, 1);\n"
                "out[t] = v;\n" },
    { .name = "cuda_last_block", .kind = "race", .line = 5, .other_line = 3, .array = "out",
      .grid = { 256 }, .threadgroup = { 32 },
      .cuda = 1, .size = 10, .init = 1, .integers = 1,
      .source = "__shared__ int last; int t = threadIdx.x;\n"
                "int v = __reduce_add_sync(0xffffffff, a[blockIdx.x * 32 + t] & 7);\n"
                "if (t == 0) { out[blockIdx.x] = v; @|__threadfence();@ last = atomicAdd(&out[9], 1) == 7; }\n"
                "__syncthreads();\n"
                "if (last && t == 0) { int s = 0; for (int k = 0; k < 8; k++) s += out[k]; out[8] = s; }\n" },
    { .name = "cuda_lock", .kind = "race", .line = 3, .other_line = 3, .array = "out", .grid = { 128 },
      .threadgroup = { 64 }, .cuda = 1, .size = 2, .init = 1, .integers = 1,
      .source = "if (threadIdx.x % 32 == 0) {\n"
                "    @|while (atomicCAS(&out[1], 0, 1) != 0) {} __threadfence();@\n"
                "    out[0] = out[0] + 1;\n"
                "    @|__threadfence(); atomicExch(&out[1], 0);@\n"
                "}\n" },
    { .name = "cuda_plain_counter", .kind = "race", .line = 1, .other_line = 1, .array = "out", .grid = { 128 },
      .threadgroup = { 64 }, .cuda = 1, .size = 1, .init = 1, .integers = 1,
      .source = "@out[0] += 1;|atomicAdd(&out[0], 1);@\n" },
    { .name = "cuda_shared_counter", .kind = "race", .line = 2, .other_line = 3, .array = "n", .grid = { 64 },
      .threadgroup = { 64 }, .cuda = 1, .integers = 1,
      .source = "__shared__ int n; int t = threadIdx.x;\n"
                "if (t == 0) n = 0; @|__syncthreads();@\n"
                "atomicAdd(&n, 1);\n"
                "__syncthreads(); out[t] = n;\n" },
};

static void test_order(void) { check_cases_run(cases, sizeof cases / sizeof cases[0]); }

CHECK_MAIN(CHECK_TEST(test_order))
