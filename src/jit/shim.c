/* The shim's parts, embedded as text, and the calls that the translator marks. */
#include "jit/shim.h"

#include <stddef.h>

/* The assembler reads the file, so no generated source is needed; it searches the folders given by -Wa,-I. */
#ifdef __APPLE__
#define EMBED_SECTION ".section __TEXT,__const\n"
#define EMBED_PREFIX "_"
#define EMBED_END ".text\n"
#else
#define EMBED_SECTION ".section .rodata\n"
#define EMBED_PREFIX ""
#define EMBED_END ".previous\n"
#endif
#define EMBED(symbol, file)                                                                                             \
    extern const char invar_shim_text_##symbol[];                                                                       \
    __asm__(EMBED_SECTION ".globl " EMBED_PREFIX "invar_shim_text_" #symbol "\n" EMBED_PREFIX "invar_shim_text_" #symbol \
            ":\n.incbin \"" file "\"\n.byte 0\n" EMBED_END)

EMBED(runtime, "runtime.h");
EMBED(base, "shim/base.h");
EMBED(check, "shim/check.h");

const invar_shim_part invar_shim_parts[] = {
    { "runtime.h", invar_shim_text_runtime, INVAR_SHIM_ANY, INVAR_SHIM_CPU, NULL },
    { "check.h", invar_shim_text_check, INVAR_SHIM_ANY, INVAR_SHIM_CPU, NULL },
    { "base.h", invar_shim_text_base, INVAR_SHIM_ANY, INVAR_SHIM_BOTH, NULL },
};
const int32_t invar_shim_part_count = sizeof invar_shim_parts / sizeof invar_shim_parts[0];

#define METAL_SIMD(name) { name, INVAR_SHIM_METAL, INVAR_CALL_SIMD }
/* A simd operation and its twin for a quad of lanes. */
#define METAL_LANES(name) METAL_SIMD("simd_" name), METAL_SIMD("quad_" name)
#define METAL_ATOMIC(name) { "atomic_" name "_explicit", INVAR_SHIM_METAL, INVAR_CALL_ATOMIC }
#define CUDA_SIMD(name) { name, INVAR_SHIM_CUDA, INVAR_CALL_SIMD }
#define CUDA_BARRIER(name) { name, INVAR_SHIM_CUDA, INVAR_CALL_BARRIER }
#define CUDA_ATOMIC(name) \
    { "atomic" name, INVAR_SHIM_CUDA, INVAR_CALL_ATOMIC }, { "atomic" name "_block", INVAR_SHIM_CUDA, INVAR_CALL_ATOMIC }, \
        { "atomic" name "_system", INVAR_SHIM_CUDA, INVAR_CALL_ATOMIC }

const invar_shim_call invar_shim_calls[] = {
    METAL_LANES("sum"), METAL_LANES("product"), METAL_LANES("min"), METAL_LANES("max"), METAL_LANES("and"),
    METAL_LANES("or"), METAL_LANES("xor"), METAL_LANES("prefix_inclusive_sum"), METAL_LANES("prefix_exclusive_sum"),
    METAL_LANES("prefix_inclusive_product"), METAL_LANES("prefix_exclusive_product"), METAL_LANES("broadcast"),
    METAL_LANES("broadcast_first"), METAL_LANES("shuffle"), METAL_LANES("shuffle_up"), METAL_LANES("shuffle_down"),
    METAL_LANES("shuffle_xor"), METAL_LANES("shuffle_rotate_up"), METAL_LANES("shuffle_rotate_down"),
    METAL_LANES("shuffle_and_fill_up"), METAL_LANES("shuffle_and_fill_down"), METAL_LANES("ballot"), METAL_LANES("all"),
    METAL_LANES("any"), METAL_LANES("is_first"), METAL_LANES("is_helper_thread"), METAL_LANES("active_threads_mask"),
    METAL_SIMD("simdgroup_barrier"), METAL_SIMD("simdgroup_load"), METAL_SIMD("simdgroup_store"),
    METAL_SIMD("simdgroup_multiply"), METAL_SIMD("simdgroup_multiply_accumulate"),
    { "threadgroup_barrier", INVAR_SHIM_METAL, INVAR_CALL_BARRIER },
    METAL_ATOMIC("load"), METAL_ATOMIC("store"), METAL_ATOMIC("exchange"), METAL_ATOMIC("compare_exchange_weak"),
    METAL_ATOMIC("fetch_add"), METAL_ATOMIC("fetch_sub"), METAL_ATOMIC("fetch_and"), METAL_ATOMIC("fetch_or"),
    METAL_ATOMIC("fetch_xor"), METAL_ATOMIC("fetch_min"), METAL_ATOMIC("fetch_max"), METAL_ATOMIC("min"),
    METAL_ATOMIC("max"),

    CUDA_SIMD("__shfl_sync"), CUDA_SIMD("__shfl_up_sync"), CUDA_SIMD("__shfl_down_sync"), CUDA_SIMD("__shfl_xor_sync"),
    CUDA_SIMD("__ballot_sync"), CUDA_SIMD("__any_sync"), CUDA_SIMD("__all_sync"), CUDA_SIMD("__activemask"),
    CUDA_SIMD("__syncwarp"), CUDA_SIMD("__match_any_sync"), CUDA_SIMD("__match_all_sync"),
    CUDA_SIMD("__reduce_add_sync"), CUDA_SIMD("__reduce_min_sync"), CUDA_SIMD("__reduce_max_sync"),
    CUDA_SIMD("__reduce_and_sync"), CUDA_SIMD("__reduce_or_sync"), CUDA_SIMD("__reduce_xor_sync"),
    CUDA_BARRIER("__syncthreads"), CUDA_BARRIER("__syncthreads_count"), CUDA_BARRIER("__syncthreads_and"),
    CUDA_BARRIER("__syncthreads_or"),
    CUDA_ATOMIC("Add"), CUDA_ATOMIC("Sub"), CUDA_ATOMIC("Exch"), CUDA_ATOMIC("Min"), CUDA_ATOMIC("Max"),
    CUDA_ATOMIC("Inc"), CUDA_ATOMIC("Dec"), CUDA_ATOMIC("CAS"), CUDA_ATOMIC("And"), CUDA_ATOMIC("Or"),
    CUDA_ATOMIC("Xor"), { "__nanosleep", INVAR_SHIM_CUDA, INVAR_CALL_ATOMIC },
    { "this_grid", INVAR_SHIM_CUDA, INVAR_CALL_POSITION }, { "this_thread_block", INVAR_SHIM_CUDA, INVAR_CALL_POSITION },
    { "this_thread", INVAR_SHIM_CUDA, INVAR_CALL_POSITION }, CUDA_SIMD("coalesced_threads"), CUDA_BARRIER("sync"),
    CUDA_BARRIER(".sync"), CUDA_SIMD("reduce"), CUDA_SIMD("inclusive_scan"), CUDA_SIMD("exclusive_scan"),
    CUDA_SIMD(".shfl"), CUDA_SIMD(".shfl_up"), CUDA_SIMD(".shfl_down"), CUDA_SIMD(".shfl_xor"), CUDA_SIMD(".any"),
    CUDA_SIMD(".all"), CUDA_SIMD(".ballot"), CUDA_SIMD(".match_any"), CUDA_SIMD(".match_all"),
};
const int32_t invar_shim_call_count = sizeof invar_shim_calls / sizeof invar_shim_calls[0];
