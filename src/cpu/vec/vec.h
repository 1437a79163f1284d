/* The vector layer: one set of names over every instruction set, so that a kernel is written once.
 *
 * A kernel template includes this header and nothing else of the machine. vf is a vector of VW floats; vm a mask of
 * VW lanes. Every operation is IEEE-754 binary32 with round to nearest even, lane by lane, and gives the same bits on
 * every instruction set (docs/invariance.md), NaN payloads and what a comment here excepts aside:
 *
 *   vf_zero() vf_set1(s) vf_load(p) vf_store(p, v)         any alignment
 *   vf_broadcast(p) = vf_set1(*p)
 *   vf_load_n(p, n) vf_store_n(p, v, n)                    only lanes 0 … n-1 touch memory; the rest load as 0; 0 <= n <= VW
 *   vf_load_f16 vf_load_bf16 vf_store_f16 vf_store_bf16    16-bit floats; _n forms too
 *   vf_add vf_sub vf_mul vf_div vf_neg vf_abs              correctly rounded
 *   vf_fma(a, b, c) = a·b + c; vf_fnma(a, b, c) = c - a·b  rounded once, also where the machine has no such instruction
 *   vf_sub_by_fma(a, b) = a - b                            in the multiply-adders, where these are other units than the adders
 *   vf_max(a, b) = a > b ? a : b; vf_min(a, b) = a < b ? a : b    so b wins when either is NaN
 *   vf_round(a)                                            nearest even, |a| < 2^22; the sign of a zero is unspecified
 *   vf_scale2(a, n)                                        a · 2^n for integral n; a and the result must be normal
 *   vf_lt vf_le vf_eq                                      false on NaN; vf_nlt is "not less": true on NaN
 *   vm_first(n) vm_and vm_or vm_not vm_any vm_all          masks
 *   vm_load_bytes(p)                                       lanes whose byte, of VW, is not 0
 *   bits_of_bytes(p)                                       bit i of 32: byte i is not 0
 *   vm_load_bit(p, bit)                                    lanes whose word, of VW, has that bit
 *   vf_select(m, a, b) = m ? a : b
 *   vf_hsum(v)                                             lanes l and l + h added, h = VW/2 … 1
 *   vf_hmax(v)                                             the largest lane; no lane may be NaN
 *   vf_transpose(r)                                        r[0] … r[VW-1] as rows become columns
 *   vf_load_square(r, p, stride)                           rows of VW floats, stride bytes apart, as columns; _f16 and _bf16 too
 *   VEC_REGISTERS                                          vector registers: 16 or 32
 *   sf_fma(a, b, c) sf_sqrt(a)                             the scalar twins
 */
#ifndef INVAR_CPU_VEC_H
#define INVAR_CPU_VEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "core/dtype.h"

#define INVAR_PASTE_(isa, name) invar_##isa##_##name
#define INVAR_PASTE(isa, name) INVAR_PASTE_(isa, name)
/* The external name of a kernel in this instruction set's build of its template. */
#define INVAR_KERNEL_NAME(name) INVAR_PASTE(INVAR_ISA, name)

#define VEC_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__)
#include "cpu/vec/avx512.h"
#if defined(__AVX512BF16__)
#include "cpu/vec/pairs.h"
#endif
#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* the latter: clang 14 */
#include "cpu/vec/tiles.h"
#endif
#elif defined(__AVX2__)
#include "cpu/vec/avx2.h"
#elif defined(__aarch64__)
#include "cpu/vec/neon.h"
#else
#include "cpu/vec/baseline.h"
#endif

#define invar_amx_has_tiles 1
#if INVAR_PASTE(INVAR_ISA, has_tiles) && !defined(VEC_TILES)
#error "the compiler does not say that it makes AMX instructions"
#endif

#if !defined(VEC_BROADCAST)
VEC_INLINE vf vf_broadcast(const float *p) { return vf_set1(*p); }
#endif
#if !defined(VEC_LOAD_SQUARE_16)
VEC_INLINE void vf_load_square_f16(vf r[VW], const char *p, int64_t stride) {
    for (int i = 0; i < VW; i++) r[i] = vf_load_f16((const uint16_t *)(const void *)(p + i * stride));
    vf_transpose(r);
}
VEC_INLINE void vf_load_square_bf16(vf r[VW], const char *p, int64_t stride) {
    for (int i = 0; i < VW; i++) r[i] = vf_load_bf16((const uint16_t *)(const void *)(p + i * stride));
    vf_transpose(r);
}
#endif
#if !defined(VEC_LOAD_SQUARE)
VEC_INLINE void vf_load_square(vf r[VW], const char *p, int64_t stride) {
    for (int i = 0; i < VW; i++) r[i] = vf_load((const float *)(const void *)(p + i * stride));
    vf_transpose(r);
}
#endif

/* The 32 virtual lanes of a sum: VSUM vectors that hold them, whatever the vector's width. */
enum { VSUM_LANES = 32, VSUM = VSUM_LANES / VW };

/* Adds lanes l and l + 16, then 8, 4, 2, 1. Destroys the accumulators. */
VEC_INLINE float vsum_reduce(vf lane[VSUM]) {
    for (int half = VSUM / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = vf_add(lane[i], lane[i + half]);
    return vf_hsum(lane[0]);
}

#endif
