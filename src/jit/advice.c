/* Advice on the mistakes that a kernel's author makes first: names of the other dialect, names that a call should have declared,
 * arrays taken for values. The words are looked for in compilers' messages, which name the user's own in quotes. */
#include "jit/advice.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

typedef struct advice {
    const char *word; /* a name, or a part of a message */
    const char *text;
} advice;

static const char ATTRIBUTES[] = "the attributes of a thread are the body's: pass them to the header's functions as arguments";
static const char SYNC[] = "threadgroup_barrier(mem_flags::mem_threadgroup) is Metal's __syncthreads()";
static const char THREADGROUP[] = "threadgroup T x[n]; is Metal's __shared__ T x[n];";
static const char ATOMICS[] = "Metal has atomic_fetch_add_explicit(&x[i], value, memory_order_relaxed), on atomic<T>: "
                              "atomic_outputs=True makes outputs so";
static const char SHARED[] = "__shared__ T x[n]; is CUDA's threadgroup T x[n];";
static const char BARRIER[] = "__syncthreads() is CUDA's threadgroup_barrier";
static const char REDUCE[] = "CUDA sums over a warp by __shfl_xor_sync(0xffffffff, x, lanes) or cg::reduce";
static const char TEMPLATE[] = "names of types and constants are given at the call: template=[(\"T\", dtype), (\"N\", 32)]";
static const char FUNCTIONS[] = "functions stand in the header";
static const char RANK_0[] = "an input of rank 0 is a value in Metal: x, not x[0]";
static const char UNNAMED[] = "g++ takes no half in an unnamed struct: give the struct a name, or have clang++ compile (INVAR_CXX)";
static const char CONSTANT[] = "inputs and constants are not assigned to: write to an output";
static const char AXIS[] = "this position has three numbers: take one, as .x";
static const char NUMBER[] = "this is a number by itself, without .x";
static const char SHUFFLE[] = "warp intrinsics take the lanes that are in them: __shfl_xor_sync(0xffffffff, x, lanes)";
static const char SIZE[] = "a threadgroup array has a constant size: a constexpr, or a number of the call's template=[(\"N\", 32)]";
static const char SHARED_SIZE[] = "__shared__ memory has a constant size; extern __shared__ T x[]; has the bytes of shared_memory=";
static const char INDEX[] = "an index is an integer";

/* Names that are not declared in a Metal kernel. */
static const advice METAL_NAMES[] = {
    { "threadIdx", "thread_position_in_threadgroup is Metal's threadIdx" },
    { "blockIdx", "threadgroup_position_in_grid is Metal's blockIdx, and thread_position_in_grid the index in the whole grid" },
    { "blockDim", "threads_per_threadgroup is Metal's blockDim" },
    { "gridDim", "threadgroups_per_grid is Metal's gridDim" },
    { "warpSize", "threads_per_simdgroup is Metal's warpSize" },
    { "__syncthreads", SYNC },
    { "__syncwarp", "simdgroup_barrier(mem_flags::mem_none) is Metal's __syncwarp()" },
    { "__shared__", THREADGROUP },
    { "atomicAdd", ATOMICS },
    { "__shfl_sync", "simd_shuffle is Metal's __shfl_sync" },
    { "__shfl_down_sync", "simd_shuffle_down is Metal's __shfl_down_sync" },
    { "__shfl_up_sync", "simd_shuffle_up is Metal's __shfl_up_sync" },
    { "__shfl_xor_sync", "simd_shuffle_xor is Metal's __shfl_xor_sync" },
    { "__ldg", "Metal reads x[i] as it stands" },
    { "thread_position_in_grid", ATTRIBUTES },
    { "thread_position_in_threadgroup", ATTRIBUTES },
    { "threadgroup_position_in_grid", ATTRIBUTES },
    { "thread_index_in_threadgroup", ATTRIBUTES },
    { "thread_index_in_simdgroup", ATTRIBUTES },
    { "threads_per_threadgroup", ATTRIBUTES },
    { NULL, NULL },
};

/* Names that are not declared in a CUDA kernel. */
static const advice CUDA_NAMES[] = {
    { "thread_position_in_grid", "blockIdx.x * blockDim.x + threadIdx.x is CUDA's thread_position_in_grid.x" },
    { "thread_position_in_threadgroup", "threadIdx is CUDA's thread_position_in_threadgroup" },
    { "threadgroup_position_in_grid", "blockIdx is CUDA's threadgroup_position_in_grid" },
    { "threads_per_threadgroup", "blockDim is CUDA's threads_per_threadgroup" },
    { "threadgroups_per_grid", "gridDim is CUDA's threadgroups_per_grid" },
    { "thread_index_in_threadgroup", "threadIdx.x is CUDA's thread_index_in_threadgroup, where threads lie in x alone" },
    { "thread_index_in_simdgroup", "threadIdx.x % 32 is CUDA's thread_index_in_simdgroup, where threads lie in x alone" },
    { "simdgroup_index_in_threadgroup", "threadIdx.x / 32 is CUDA's simdgroup_index_in_threadgroup, where threads lie in x alone" },
    { "threadgroup_barrier", BARRIER },
    { "mem_flags", BARRIER },
    { "threadgroup", SHARED },
    { "simd_sum", REDUCE },
    { "simd_max", REDUCE },
    { "simd_min", REDUCE },
    { "metal", "CUDA has its functions without metal::" },
    { "__shfl", SHUFFLE },
    { "__shfl_up", SHUFFLE },
    { "__shfl_down", SHUFFLE },
    { "__shfl_xor", SHUFFLE },
    { NULL, NULL },
};

/* Parts of messages. */
static const advice METAL_WORDS[] = {
    { "function-definition is not allowed here", FUNCTIONS },
    { "function definition is not allowed here", FUNCTIONS },
    { "*[float]' for array subscript", INDEX },
    { "array subscript is not an integer", INDEX },
    { "int]' for array subscript", RANK_0 },
    { "subscripted value is not an array, pointer, or vector", RANK_0 },
    { "cannot convert 'const uint3' to 'u", AXIS },
    { "cannot convert 'const uint3' to 'int'", AXIS },
    { "request for member 'x' in 'thread_index_in_", NUMBER },
    { "request for member 'x' in 'simdgroup_index_in_threadgroup'", NUMBER },
    { "of read-only location", CONSTANT },
    { "with constructor not allowed in anonymous aggregate", UNNAMED },
    { "'atomic_fetch_", ATOMICS },
    { "the size of this array is not known", SIZE },
    { "variably modified type", SIZE },
    { NULL, NULL },
};

static const advice CUDA_WORDS[] = {
    { "function-definition is not allowed here", FUNCTIONS },
    { "function definition is not allowed here", FUNCTIONS },
    { "*[float]' for array subscript", INDEX },
    { "array subscript is not an integer", INDEX },
    { "*' to binary", "an input is a pointer in CUDA, one of rank 0 too: *x" },
    { "of read-only location", CONSTANT },
    { "with constructor not allowed in anonymous aggregate", UNNAMED },
    { "the size of this array is not known", SHARED_SIZE },
    { "variably modified type", SHARED_SIZE },
    { "operator\"\"h", "a half is written __float2half(1.0f) in CUDA" },
    { NULL, NULL },
};

/* The words in which the compilers say that a name is not known. */
static bool is_of_a_name(const char *message) {
    static const char *const ways[] = { "was not declared", "has not been declared", "does not name a type",
                                        "undeclared identifier", "unknown type name", "\" is undefined" };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strstr(message, ways[i])) return true;
    return false;
}

/* A name of a type or constant by convention: T, N, HEAD_DIM. */
static bool is_capital(const char *name, size_t length) {
    bool letter = false;
    for (size_t i = 0; i < length; i++) {
        if (!isupper((unsigned char)name[i]) && !isdigit((unsigned char)name[i]) && name[i] != '_') return false;
        letter |= isupper((unsigned char)name[i]) != 0;
    }
    return letter;
}

const char *invar_compile_advice(const char *message, bool cuda) {
    const char *name = is_of_a_name(message) ? strpbrk(message, "'\"") : NULL;
    size_t length = name ? strcspn(++name, "'\"") : 0;
    for (const advice *a = cuda ? CUDA_NAMES : METAL_NAMES; name && a->word; a++)
        if (strlen(a->word) == length && !memcmp(a->word, name, length)) return a->text;
    if (name && is_capital(name, length)) return TEMPLATE;
    for (const advice *a = cuda ? CUDA_WORDS : METAL_WORDS; a->word; a++)
        if (strstr(message, a->word)) return a->text;
    return NULL;
}
