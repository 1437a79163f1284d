/* The translator's face: the body of a kernel, in Metal Shading Language or CUDA C, becomes a program for the host's
 * compiler (C++17, laid out as jit/runtime.h says) or for NVRTC (CUDA).
 *
 *     create   invar_source_read     reads the text once; refuses what cannot be translated
 *     launch   invar_generate_shim   the text that stands before every such kernel, then
 *              invar_generate_kernel the kernel itself for these types, ranks and template arguments
 *
 * A program is the two texts, one behind the other; invar_kernel_generate shows the second.
 *
 * What the second text expects of the shim, all in namespace invar_shim:
 *     invar_here               the type of runtime.h: invar_here(7)
 *     invar_here_at            LOOP and FLAT: what the parameter `invar_here` is. Made from an `const invar_position &` and
 *                              a `const invar_launch &`; invar_here(7) gives what a marked call takes
 *     invar_any_here           converts from every marker: first parameter of the user's own overloads of marked names
 *     invar_shared_array<3, float[16][17]>()     reference to the group's threadgroup array number 3, of that type. Its
 *                              size is noted, when the program is loaded, in invar_shared_table[3], which the second text
 *                              defines: `extern invar_shared invar_shared_table[INVAR_MAX_SHARED]`. Found by the fibre
 *     invar_dynamic_array<T>() T *: CUDA's dynamic shared memory. Found by the fibre
 *     invar_lane_loop<T, closed>(-1, first, bound, step, order, body, ...), invar_lane_index<T>, invar_keeps_order(x)
 *                              a loop that lanes walk through side by side: shim/lane_loops.h
 *     invar_half_literal(x), invar_bfloat_literal(x)   Metal's 1.5h and 1.5bf; constexpr, x a double
 *     invar_choice = c ? invar_arm = a : invar_arm = b   Metal's ?: (jit/arms.c)
 *     Metal                    namespace metal: uint3(x, y, z), float16_t, bfloat16_t, complex64_t, ...
 *     CUDA                     uint3, dim3 and their members; Shape and Strides, arrays of MAX_NDIM (int32_t, int64_t) with
 *                              operator[] and data(); threadIdx, blockIdx, blockDim, gridDim found by the fibre, for functions
 *                              of the header (in the body, parameters of these names hide them); __half, __nv_bfloat16
 * For NVRTC the same names less invar_here_at, the arrays' and the loops'; of marked calls only those of Metal carry a marker
 * there. */
#ifndef INVAR_JIT_GENERATE_H
#define INVAR_JIT_GENERATE_H

#include "core/status.h"
#include "jit/runtime.h"
#include "jit/text.h"

#include <invar/kernel.h>

/* A kernel's text, read: tokens, names in use, marked calls, threadgroup arrays, mode. Never changes after it is made, so
 * any number of threads may generate from it. */
typedef struct invar_source invar_source;

/* The description's strings must outlive the source. INVAR_ERROR_VALUE names a construct that cannot be translated as
 * "metal_kernel: softmax.metal:7: texture2d cannot be translated: ...". Checks neither the name nor those of the arrays for being
 * identifiers. */
invar_status invar_source_read(invar_source **source, const invar_kernel_description *description);
void invar_source_free(invar_source *source);

/* Bytes on which arrays must begin for the text to run: 1 where it reads them by their own element types alone. */
int32_t invar_source_alignment(const invar_source *source);

/* What of a launch is compiled in. Address space (constant or device) is not: it goes in translation. */
typedef struct invar_array_key {
    invar_dtype dtype;
    int32_t ndim;
} invar_array_key;

typedef struct invar_program_key {
    const invar_array_key *arrays; /* inputs, then outputs, as the description counts them */
    const invar_template_argument *template_arguments;
    int32_t template_count;
} invar_program_key;

/* Appends the text before the kernel: switches, runtime.h, parts of the shim (which ones, the key's types decide too).
 * target: INVAR_TARGET_CPU or _CUDA. In #line, its files are called "invar/<part>". */
invar_status invar_generate_shim(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                 invar_text *text);

/* Appends the kernel and, for the CPU, its entry points and `invar_kernel_module`. For CUDA the entry point is
 * `extern "C" __global__ void invar_kernel(...)`. INVAR_ERROR_DTYPE: an element type that the dialect does not have;
 * INVAR_ERROR_VALUE: a template argument whose name is there twice, or is an array's. */
invar_status invar_generate_kernel(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                   invar_text *text);

/* The parameter of a kernel for CUDA, as bytes: what the kernel with arrays of these types and ranks uses of the launch. numbers: for
 * each input the bytes of its one element, used where its rank is 0 and launch->arrays has NULL for it; NULL: there are none. Returns
 * how many bytes; launch NULL: only that. */
enum { INVAR_MAX_PACKED_LAUNCH = 32 << 10 };
size_t invar_pack_launch(const invar_source *source, const invar_array_key *arrays, const invar_launch *launch,
                         const uint64_t *numbers, char *bytes);

#endif
