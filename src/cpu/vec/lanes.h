/* Moves between lanes, and bfloat16 two vectors at a time.
 *
 *   vf_swap_pairs(v)             lanes 2i and 2i + 1 exchanged
 *   vf_zip(a, b, &low, &high)    a0 b0 a1 b1 …
 *   vf_unzip(a, b, &even, &odd)  its inverse: the even elements of a and b, and the odd ones
 *
 * Sixteen-bit numbers lie two in a 32-bit lane, so that a shift widens the even ones to float and a mask the odd ones, and
 * both are rounded back into their places: half the instructions of widening neighbours. That leaves the even elements in one
 * vector and the odd ones in the other:
 *
 *   vf_load_split(p, &even, &odd)    2·VW numbers from p
 *   vf_join(even, odd)               back, as 4·VW bytes, for vec_store_joined(p, v)
 *
 * VEC_SPLIT is 0 where this is not written; there even and odd are the first and the second VW, as elsewhere. */
#ifndef INVAR_CPU_VEC_LANES_H
#define INVAR_CPU_VEC_LANES_H

#include "cpu/vec/vec.h"

#if defined(__AVX512F__)
enum { VEC_SPLIT = 1 };
typedef __m512i vec_joined;
VEC_INLINE vf vf_swap_pairs(vf v) { return _mm512_permute_ps(v, 0xb1); }
VEC_INLINE void vf_zip(vf a, vf b, vf *low, vf *high) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    *low = _mm512_permutex2var_ps(a, first, b);
    *high = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), b);
}
VEC_INLINE void vf_unzip(vf a, vf b, vf *even, vf *odd) {
    const __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    *even = _mm512_permutex2var_ps(a, first, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(1)), b);
}
VEC_INLINE void vf_load_split(const uint16_t *p, vf *even, vf *odd) {
    __m512i both = _mm512_loadu_si512((const void *)p);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)));
}
/* The upper half of each lane is the number rounded to nearest even, a NaN made quiet. */
VEC_INLINE __m512i vf_round_bf16_(vf v) {
    __m512i bits = _mm512_castps_si512(v);
    __mmask16 up = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000)), nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    rounded = _mm512_mask_add_epi32(rounded, up, bits, _mm512_set1_epi32(0x8000));
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}
VEC_INLINE vec_joined vf_join(vf even, vf odd) {
    __m512i low = _mm512_srli_epi32(vf_round_bf16_(even), 16), high = vf_round_bf16_(odd);
    return _mm512_mask_mov_epi16(high, 0x55555555, low);
}
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) { _mm512_storeu_si512((void *)p, v); }
#elif defined(__AVX2__)
enum { VEC_SPLIT = 1 };
typedef __m256i vec_joined;
VEC_INLINE vf vf_swap_pairs(vf v) { return _mm256_permute_ps(v, 0xb1); }
VEC_INLINE void vf_zip(vf a, vf b, vf *low, vf *high) {
    vf even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b); /* within 128-bit halves */
    *low = _mm256_permute2f128_ps(even, odd, 0x20);
    *high = _mm256_permute2f128_ps(even, odd, 0x31);
}
VEC_INLINE void vf_unzip(vf a, vf b, vf *even, vf *odd) {
    vf low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    *even = _mm256_shuffle_ps(low, high, 0x88);
    *odd = _mm256_shuffle_ps(low, high, 0xdd);
}
VEC_INLINE void vf_load_split(const uint16_t *p, vf *even, vf *odd) {
    __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)p);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)));
}
VEC_INLINE __m256i vf_round_bf16_(vf v) {
    __m256i bits = _mm256_castps_si256(v), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
}
VEC_INLINE vec_joined vf_join(vf even, vf odd) {
    __m256i low = _mm256_srli_epi32(vf_round_bf16_(even), 16), high = vf_round_bf16_(odd);
    return _mm256_blend_epi16(high, low, 0x55);
}
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
#else
enum { VEC_SPLIT = 0 };
typedef struct vec_joined {
    vf even, odd;
} vec_joined;
VEC_INLINE void vf_load_split(const uint16_t *p, vf *even, vf *odd) {
    *even = vf_load_bf16(p);
    *odd = vf_load_bf16(p + VW);
}
VEC_INLINE vec_joined vf_join(vf even, vf odd) { return (vec_joined){ even, odd }; }
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) {
    vf_store_bf16(p, v.even);
    vf_store_bf16(p + VW, v.odd);
}
#if defined(__aarch64__)
VEC_INLINE vf vf_swap_pairs(vf v) { return vrev64q_f32(v); }
VEC_INLINE void vf_zip(vf a, vf b, vf *low, vf *high) {
    *low = vzip1q_f32(a, b);
    *high = vzip2q_f32(a, b);
}
VEC_INLINE void vf_unzip(vf a, vf b, vf *even, vf *odd) {
    *even = vuzp1q_f32(a, b);
    *odd = vuzp2q_f32(a, b);
}
#else
VEC_INLINE vf vf_swap_pairs(vf v) { return _mm_shuffle_ps(v, v, 0xb1); }
VEC_INLINE void vf_zip(vf a, vf b, vf *low, vf *high) {
    *low = _mm_unpacklo_ps(a, b);
    *high = _mm_unpackhi_ps(a, b);
}
VEC_INLINE void vf_unzip(vf a, vf b, vf *even, vf *odd) {
    *even = _mm_shuffle_ps(a, b, 0x88);
    *odd = _mm_shuffle_ps(a, b, 0xdd);
}
#endif
#endif

#endif
