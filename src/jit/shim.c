/* The shim's parts, embedded as text, and the calls that the translator marks. */
#include "jit/shim.h"

#include "core/embed.h"

#include <stddef.h>

#define EMBED(symbol, file) INVAR_EMBED(invar_shim_text_##symbol, file)

EMBED(runtime, "runtime.h");
EMBED(base, "shim/base.h");
EMBED(check, "shim/check.h");
EMBED(narrow, "shim/narrow.h");
EMBED(vector, "shim/vector.h");
EMBED(metal, "shim/metal.h");
EMBED(libm, "shim/libm.h");
EMBED(lift, "shim/lift.h");
EMBED(traits, "shim/traits.h");
EMBED(limits, "shim/limits.h");
EMBED(metal_common, "shim/metal_common.h");
EMBED(metal_math, "shim/metal_math.h");
EMBED(metal_geometric, "shim/metal_geometric.h");
EMBED(metal_pack, "shim/metal_pack.h");
EMBED(metal_columns, "shim/metal_columns.h");
EMBED(complex, "shim/complex.h");
EMBED(indexing, "shim/indexing.h");
EMBED(metal_utils, "shim/metal_utils.h");
EMBED(reduce, "shim/reduce.h");
EMBED(lanes, "shim/lanes.h");
EMBED(lanes_gpu, "shim/lanes_gpu.h");
EMBED(lane_loops, "shim/lane_loops.h");
EMBED(metal_simd, "shim/metal_simd.h");
EMBED(metal_matrix, "shim/metal_matrix.h");
EMBED(atomic, "shim/atomic.h");
EMBED(atomic_gpu, "shim/atomic_gpu.h");
EMBED(metal_atomic, "shim/metal_atomic.h");
EMBED(cuda, "shim/cuda.h");
EMBED(cuda_math, "shim/cuda_math.h");
EMBED(cuda_bits, "shim/cuda_bits.h");
EMBED(cuda_parts, "shim/cuda_parts.h");
EMBED(cuda_directed, "shim/cuda_directed.h");
EMBED(cuda_half, "shim/cuda_half.h");
EMBED(cuda_warp, "shim/cuda_warp.h");
EMBED(cuda_atomic, "shim/cuda_atomic.h");
EMBED(cuda_groups, "shim/cuda_groups.h");
EMBED(cuda_gpu, "shim/cuda_gpu.h");
EMBED(cuda_groups_gpu, "shim/cuda_groups_gpu.h");
EMBED(cuda_std, "shim/cuda_std.h");
EMBED(cuda_utils, "shim/cuda_utils.h");

#define TRAIT_WORDS                                                                                                    \
    "integral_constant bool_constant true_type false_type remove_const remove_volatile remove_cv remove_reference "    \
    "remove_pointer remove_cvref decay remove_const_t remove_cv_t remove_reference_t remove_pointer_t remove_cvref_t " \
    "decay_t make_unsigned make_signed make_unsigned_t make_signed_t conditional conditional_t enable_if enable_if_t "  \
    "void_t is_same_v is_integral_v is_floating_point_v is_arithmetic_v is_scalar_v is_signed_v is_unsigned_v "         \
    "is_pointer_v is_const_v is_convertible_v is_same is_integral is_floating_point is_arithmetic is_scalar is_signed " \
    "is_unsigned is_pointer is_const declval array"
#define METAL_MATH_WORDS                                                                                               \
    "acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh cospi divide exp exp10 exp2 fabs fdim floor fma "   \
    "fmod frexp hypot ilogb ldexp log log10 log1p log2 modf nextafter pow powr rint round rsqrt sin sincos sinh "      \
    "sinpi sqrt tan tanh tanpi trunc"
#define METAL_GEOMETRIC_WORDS \
    "dot cross length length_squared distance distance_squared normalize faceforward reflect refract"
/* A packed form, to and from float and half. */
#define METAL_PACKED(to, from) \
    "unpack_" to "_to_float unpack_" to "_to_half pack_float_to_" from " pack_half_to_" from " "
#define METAL_PACK_WORDS                                                                                               \
    METAL_PACKED("unorm4x8", "unorm4x8") METAL_PACKED("snorm4x8", "snorm4x8")                                          \
    METAL_PACKED("unorm4x8_srgb", "srgb_unorm4x8") METAL_PACKED("unorm2x16", "unorm2x16")                              \
    METAL_PACKED("snorm2x16", "snorm2x16") METAL_PACKED("unorm10a2", "unorm10a2")
#define MATRIX_WORDS(type)                                                                                             \
    type "2x2 " type "2x3 " type "2x4 " type "3x2 " type "3x3 " type "3x4 " type "4x2 " type "4x3 " type "4x4 "
#define METAL_COLUMNS_WORDS MATRIX_WORDS("float") MATRIX_WORDS("half") "matrix"
#define METAL_UTILS_WORDS                                                                                              \
    "elem_to_loc elem_to_loc_1 elem_to_loc_2 elem_to_loc_3 elem_to_loc_2_nd elem_to_loc_3_nd LoopedElemToLoc ceildiv " \
    "cast_to Limits"
/* Every simd_ and quad_ name of the table of calls; simd_vote and quad_vote are types. */
#define LANES_WORDS(group)                                                                                             \
    group "_sum " group "_product " group "_min " group "_max " group "_and " group "_or " group "_xor "                \
    group "_prefix_inclusive_sum " group "_prefix_exclusive_sum " group "_prefix_inclusive_product "                    \
    group "_prefix_exclusive_product " group "_broadcast " group "_broadcast_first " group "_shuffle "                  \
    group "_shuffle_up " group "_shuffle_down " group "_shuffle_xor " group "_shuffle_rotate_up "                       \
    group "_shuffle_rotate_down " group "_shuffle_and_fill_up " group "_shuffle_and_fill_down " group "_ballot "        \
    group "_all " group "_any " group "_is_first " group "_is_helper_thread " group "_active_threads_mask "             \
    group "_vote "
#define METAL_MATRIX_WORDS                                                                                             \
    "simdgroup_load simdgroup_store simdgroup_multiply simdgroup_multiply_accumulate simdgroup_matrix "                \
    "make_filled_simdgroup_matrix simdgroup_float8x8 simdgroup_half8x8 simdgroup_bfloat8x8"
#define METAL_LANES_WORDS \
    LANES_WORDS("simd") LANES_WORDS("quad") "threadgroup_barrier simdgroup_barrier " METAL_MATRIX_WORDS
#define METAL_ATOMIC_WORDS                                                                                             \
    "atomic_load_explicit atomic_store_explicit atomic_exchange_explicit atomic_compare_exchange_weak_explicit "       \
    "atomic_fetch_add_explicit atomic_fetch_sub_explicit atomic_fetch_and_explicit atomic_fetch_or_explicit "          \
    "atomic_fetch_xor_explicit atomic_fetch_min_explicit atomic_fetch_max_explicit atomic_min_explicit "               \
    "atomic_max_explicit atomic_thread_fence"

/* A kernel that uses an intrinsic of theirs without a type of theirs converts to or from one. */
#define CUDA_HALF_WORDS                                                                                                \
    "CUDART_INF_FP16 CUDART_NAN_FP16 CUDART_ONE_FP16 CUDART_ZERO_FP16 CUDART_MAX_NORMAL_FP16 CUDART_INF_BF16 "          \
    "CUDART_NAN_BF16 CUDART_ONE_BF16 CUDART_ZERO_BF16 "                                                                 \
    "half __half half2 __half2 bfloat16 __nv_bfloat16 nv_bfloat16 __nv_bfloat162 nv_bfloat162 __float2half "           \
    "__float2half_rn __half2float __float2bfloat16 __float2bfloat16_rn __bfloat162float __ushort_as_half "             \
    "__ushort_as_bfloat16 __floats2half2_rn __floats2bfloat162_rn __float2half2_rn __float2bfloat162_rn "              \
    "__float22half2_rn __float22bfloat162_rn __int2half_rn __int2bfloat16_rn"
/* Of the two halves and of the four bytes of a word. */
#define CUDA_PARTS(name) "__v" name "2 __v" name "4 "
#define CUDA_PARTS_WORDS \
    CUDA_PARTS("add") CUDA_PARTS("sub") CUDA_PARTS("addss") CUDA_PARTS("addus") CUDA_PARTS("subss") \
    CUDA_PARTS("subus") CUDA_PARTS("maxs") CUDA_PARTS("maxu") CUDA_PARTS("mins") CUDA_PARTS("minu") \
    CUDA_PARTS("absdiffs") CUDA_PARTS("absdiffu") CUDA_PARTS("avgu") CUDA_PARTS("cmpeq") CUDA_PARTS("cmpne") \
    CUDA_PARTS("cmpgts") CUDA_PARTS("cmpgtu") CUDA_PARTS("cmplts") CUDA_PARTS("cmpltu") CUDA_PARTS("cmpges") \
    CUDA_PARTS("cmpgeu") "__vsadu4 __dp2a_lo __dp2a_hi"
#define CUDA_ROUNDED(way)                                                                                              \
    "__fadd_" way " __fsub_" way " __fmul_" way " __fdiv_" way " __frcp_" way " __fsqrt_" way " __fmaf_" way           \
    " __double2float_" way " "
#define CUDA_DIRECTED_WORDS CUDA_ROUNDED("rz") CUDA_ROUNDED("ru") CUDA_ROUNDED("rd") "erfinvf erfcinvf normcdfinvf"
#define CUDA_LANES_WORDS                                                                                               \
    "__shfl_sync __shfl_up_sync __shfl_down_sync __shfl_xor_sync __ballot_sync __any_sync __all_sync __activemask "     \
    "__syncwarp __match_any_sync __match_all_sync __reduce_add_sync __reduce_min_sync __reduce_max_sync "              \
    "__reduce_and_sync __reduce_or_sync __reduce_xor_sync " CUDA_GROUPS_WORDS
#define CUDA_GROUPS_WORDS "cooperative_groups cg"
#define CUDA_ATOMIC_WORD(name) "atomic" name " atomic" name "_block atomic" name "_system "
#define CUDA_ATOMIC_WORDS                                                                                              \
    CUDA_ATOMIC_WORD("Add") CUDA_ATOMIC_WORD("Sub") CUDA_ATOMIC_WORD("Exch") CUDA_ATOMIC_WORD("Min")                    \
    CUDA_ATOMIC_WORD("Max") CUDA_ATOMIC_WORD("Inc") CUDA_ATOMIC_WORD("Dec") CUDA_ATOMIC_WORD("CAS")                     \
    CUDA_ATOMIC_WORD("And") CUDA_ATOMIC_WORD("Or") CUDA_ATOMIC_WORD("Xor")
#define CUDA_UTILS_WORDS                                                                                               \
    "AlignedVector load_vector store_vector unsafe_load_vector unsafe_store_vector is_aligned Limits elem_to_loc "     \
    "elem_to_loc_nd LoopedElemToLoc"
#define CUDA_STD_WORDS "std tuple pair make_tuple make_pair get tie " CUDA_UTILS_WORDS
#define COMPLEX_WORDS "complex_t complex64_t is_complex_v"

#define PART(part, dialect, target, words) \
    { #part ".h", invar_shim_text_##part, INVAR_SHIM_##dialect, INVAR_SHIM_##target, words }

const invar_shim_part invar_shim_parts[] = {
    PART(runtime, ANY, CPU, NULL),
    PART(check, ANY, CPU, NULL),
    PART(base, ANY, BOTH, NULL),
    PART(libm, ANY, BOTH, NULL),
    PART(narrow, METAL, BOTH, NULL),
    PART(vector, METAL, BOTH, NULL),
    PART(metal, METAL, BOTH, NULL),
    PART(lift, METAL, BOTH, NULL),
    PART(metal_common, METAL, BOTH, NULL),
    PART(metal_math, METAL, BOTH, METAL_MATH_WORDS),
    PART(metal_geometric, METAL, BOTH, METAL_GEOMETRIC_WORDS),
    PART(metal_pack, METAL, BOTH, METAL_PACK_WORDS),
    PART(metal_columns, METAL, BOTH, METAL_COLUMNS_WORDS),
    PART(narrow, CUDA, BOTH, CUDA_HALF_WORDS " numeric_limits " CUDA_STD_WORDS),
    PART(traits, METAL, BOTH, TRAIT_WORDS),
    PART(traits, CUDA, BOTH, TRAIT_WORDS " " CUDA_STD_WORDS),
    PART(limits, METAL, BOTH, "numeric_limits Limits " METAL_UTILS_WORDS),
    PART(limits, CUDA, BOTH, "numeric_limits " CUDA_STD_WORDS),
    PART(complex, ANY, BOTH, COMPLEX_WORDS),
    PART(indexing, METAL, BOTH, METAL_UTILS_WORDS),
    PART(indexing, CUDA, BOTH, CUDA_STD_WORDS),
    PART(metal_utils, METAL, BOTH, METAL_UTILS_WORDS),
    PART(reduce, METAL, BOTH, METAL_LANES_WORDS),
    PART(lanes, METAL, CPU, METAL_LANES_WORDS),
    PART(lanes_gpu, METAL, NVRTC, METAL_LANES_WORDS),
    PART(lane_loops, ANY, CPU, "invar_lane_loop"),
    PART(metal_simd, METAL, BOTH, METAL_LANES_WORDS),
    PART(metal_matrix, METAL, BOTH, METAL_MATRIX_WORDS),
    PART(atomic, METAL, CPU, METAL_ATOMIC_WORDS),
    PART(atomic_gpu, METAL, NVRTC, METAL_ATOMIC_WORDS),
    PART(metal_atomic, METAL, BOTH, METAL_ATOMIC_WORDS),
    PART(cuda, CUDA, BOTH, NULL),
    PART(cuda_math, CUDA, CPU, NULL),
    PART(cuda_bits, CUDA, CPU, NULL),
    PART(cuda_parts, CUDA, CPU, CUDA_PARTS_WORDS),
    PART(cuda_directed, CUDA, CPU, CUDA_DIRECTED_WORDS),
    PART(cuda_half, CUDA, BOTH, CUDA_HALF_WORDS),
    PART(reduce, CUDA, CPU, CUDA_LANES_WORDS),
    PART(lanes, CUDA, CPU, CUDA_LANES_WORDS),
    PART(cuda_warp, CUDA, CPU, CUDA_LANES_WORDS),
    PART(atomic, CUDA, CPU, CUDA_ATOMIC_WORDS),
    PART(cuda_atomic, CUDA, CPU, CUDA_ATOMIC_WORDS),
    PART(cuda_groups, CUDA, CPU, CUDA_GROUPS_WORDS),
    PART(cuda_gpu, CUDA, NVRTC, CUDA_HALF_WORDS),
    PART(cuda_groups_gpu, CUDA, NVRTC, CUDA_GROUPS_WORDS),
    PART(cuda_std, CUDA, BOTH, CUDA_STD_WORDS),
    PART(cuda_utils, CUDA, BOTH, CUDA_UTILS_WORDS),
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
    METAL_ATOMIC("max"), { "atomic_thread_fence", INVAR_SHIM_METAL, INVAR_CALL_POSITION },

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
    { "this_thread", INVAR_SHIM_CUDA, INVAR_CALL_POSITION }, { "__threadfence", INVAR_SHIM_CUDA, INVAR_CALL_POSITION },
    { "__threadfence_block", INVAR_SHIM_CUDA, INVAR_CALL_POSITION },
    { "__threadfence_system", INVAR_SHIM_CUDA, INVAR_CALL_POSITION }, CUDA_SIMD("coalesced_threads"), CUDA_BARRIER("sync"),
    CUDA_BARRIER(".sync"), CUDA_SIMD("reduce"), CUDA_SIMD("inclusive_scan"), CUDA_SIMD("exclusive_scan"),
    CUDA_SIMD(".shfl"), CUDA_SIMD(".shfl_up"), CUDA_SIMD(".shfl_down"), CUDA_SIMD(".shfl_xor"), CUDA_SIMD(".any"),
    CUDA_SIMD(".all"), CUDA_SIMD(".ballot"), CUDA_SIMD(".match_any"), CUDA_SIMD(".match_all"),
};
const int32_t invar_shim_call_count = sizeof invar_shim_calls / sizeof invar_shim_calls[0];
