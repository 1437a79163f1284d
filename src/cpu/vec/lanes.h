/* Moves between lanes, and bfloat16 two vectors at a time.
 *
 *   vf_swap_pairs(v)             lanes 2i and 2i + 1 exchanged
 *   vf_zip(a, b, &low, &high)    a0 b0 a1 b1 …
 *   vf_unzip(a, b, &even, &odd)  its inverse: the even elements of a and b, and the odd ones
 *
 *   vf_load_split(p, &even, &odd)    2·VW bfloat16 numbers from p, widened: they lie two in a 32-bit lane, so that a shift widens
 *                                    the even ones and a mask the odd ones, half the instructions of widening neighbours
 *   vf_join_split(even, odd)         what vf_load_split gave, in its order, rounded to nearest even, for vec_store_joined(p, v),
 *                                    or as the bits of VW floats vec_joined_bits(v); a NaN's lower half must be 0, as in every
 *                                    NaN that arithmetic on widened numbers gives
 *   vf_join_f16_bits(first, second)  the bits of VW floats: 2·VW numbers in float16, in their order
 *
 * VEC_SPLIT is 0 where this is not written; there even and odd are the first and the second VW. */
#ifndef INVAR_CPU_VEC_LANES_H
#define INVAR_CPU_VEC_LANES_H

#include "cpu/vec/vec.h"

/* A loaded value stays in its register: the compiler would rather load it for each of its uses, and a load across two cache
 * lines costs two. */
#if defined(__aarch64__)
#define VEC_KEEP_(v) __asm__ volatile("" : "+w"(v))
#else
#define VEC_KEEP_(v) __asm__ volatile("" : "+v"(v))
#endif

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
    __m512i both; /* a statement of its own, not "+v" on a value: gcc 12 would spill that */
    __asm__("vmovdqu64 %1, %0" : "=v"(both) : "m"(*(const struct { char bytes[64]; } *)(const void *)p));
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)));
}
/* Of the upper and lower words: up where low, its last bit set if high is odd, exceeds a half. */
VEC_INLINE vec_joined vec_round_words_(__m512i high, __m512i low) {
    const __m512i one = _mm512_set1_epi16(1), sticky = _mm512_ternarylogic_epi32(low, high, one, 0xf8); /* low | (high & 1) */
    return _mm512_mask_add_epi16(high, _mm512_cmpgt_epu16_mask(sticky, _mm512_set1_epi16(-0x8000)), high, one);
}
VEC_INLINE vec_joined vf_join_split(vf even, vf odd) {
    const __m512i a = _mm512_castps_si512(even), b = _mm512_castps_si512(odd);
    const __m512i up = _mm512_set4_epi32(0x0d0c0f0e, 0x09080b0a, 0x05040706, 0x01000302); /* a word's place and its neighbour's */
    return vec_round_words_(_mm512_mask_shuffle_epi8(b, 0x3333333333333333, a, up),
                            _mm512_mask_shuffle_epi8(a, 0xcccccccccccccccc, b, up));
}
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) { _mm512_storeu_si512((void *)p, v); }
VEC_INLINE vf vec_joined_bits(vec_joined v) { return _mm512_castsi512_ps(v); }
VEC_INLINE vf vf_join_f16_bits(vf first, vf second) {
    return _mm512_castsi512_ps(_mm512_inserti64x4(_mm512_castsi256_si512(vf_to_f16_(first)), vf_to_f16_(second), 1));
}
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
    VEC_KEEP_(both);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(-65536)));
}
VEC_INLINE vec_joined vec_round_words_(__m256i high, __m256i low) {
    const __m256i last = _mm256_and_si256(high, _mm256_set1_epi16(1));
    const __m256i above = _mm256_adds_epi16(_mm256_xor_si256(low, _mm256_set1_epi16(-0x8000)), last); /* low + last - 2^15 */
    return _mm256_sub_epi16(high, _mm256_cmpgt_epi16(above, _mm256_setzero_si256()));
}
VEC_INLINE vec_joined vf_join_split(vf even, vf odd) {
    const __m256i a = _mm256_castps_si256(even), b = _mm256_castps_si256(odd);
    return vec_round_words_(_mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa),
                            _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa));
}
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
VEC_INLINE vf vec_joined_bits(vec_joined v) { return _mm256_castsi256_ps(v); }
VEC_INLINE vf vf_join_f16_bits(vf first, vf second) {
    return _mm256_castsi256_ps(_mm256_set_m128i(vf_to_f16_(second), vf_to_f16_(first)));
}
#else
enum { VEC_SPLIT = 0 };
typedef struct vec_joined {
    vf first, second;
} vec_joined;
VEC_INLINE void vf_load_split(const uint16_t *p, vf *even, vf *odd) {
    *even = vf_load_bf16(p);
    *odd = vf_load_bf16(p + VW);
}
VEC_INLINE vec_joined vf_join_split(vf even, vf odd) { return (vec_joined){ even, odd }; }
VEC_INLINE void vec_store_joined(uint16_t *p, vec_joined v) {
    vf_store_bf16(p, v.first);
    vf_store_bf16(p + VW, v.second);
}
VEC_INLINE vf vec_joined_bits(vec_joined v) { return v.first; } /* these two never called: nothing is streamed here */
VEC_INLINE vf vf_join_f16_bits(vf first, vf second) { return (void)second, first; }
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
