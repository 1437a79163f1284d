/* AVX2 with FMA and F16C: 8 floats a vector, masks as vectors of all-ones lanes. */
#include <immintrin.h>

typedef __m256 vf;
typedef __m256 vm;
enum { VW = 8 };
#define VEC_REGISTERS 16

VEC_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
VEC_INLINE vf vf_set1(float s) { return _mm256_set1_ps(s); }
VEC_INLINE __m256i vm_first_(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VEC_INLINE vm vm_first(int n) { return _mm256_castsi256_ps(vm_first_(n)); }
VEC_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
VEC_INLINE vf vf_load_n(const float *p, int n) { return _mm256_maskload_ps(p, vm_first_(n)); }
VEC_INLINE void vf_store_n(float *p, vf v, int n) { _mm256_maskstore_ps(p, vm_first_(n), v); }

VEC_INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
VEC_INLINE vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
VEC_INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
VEC_INLINE vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
VEC_INLINE vf vf_sub_by_fma(vf a, vf b) { return _mm256_fmsub_ps(a, _mm256_set1_ps(1), b); }
VEC_INLINE float sf_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
VEC_INLINE float sf_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
VEC_INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
VEC_INLINE vf vf_neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
VEC_INLINE vf vf_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
VEC_INLINE vf vf_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_INLINE vf vf_scale2(vf a, vf n) {
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), exponent));
}

VEC_INLINE vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
VEC_INLINE vm vf_le(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
VEC_INLINE vm vf_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
VEC_INLINE vm vf_nlt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_NLT_UQ); }
VEC_INLINE vm vm_and(vm a, vm b) { return _mm256_and_ps(a, b); }
VEC_INLINE vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
VEC_INLINE vm vm_not(vm a) { return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))); }
VEC_INLINE vm vm_load_bytes(const void *p) {
    __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(wide, _mm256_setzero_si256()));
}
VEC_INLINE uint32_t bits_of_bytes(const void *p) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)p);
    return ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256()));
}
VEC_INLINE vm vm_load_bit(const uint32_t *p, uint32_t bit) {
    __m256i lane = _mm256_set1_epi32((int)bit), words = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(words, lane), lane));
}
VEC_INLINE bool vm_any(vm a) { return _mm256_movemask_ps(a) != 0; }
VEC_INLINE bool vm_all(vm a) { return _mm256_movemask_ps(a) == 0xff; }
VEC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }

VEC_INLINE float vf_hsum(vf v) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

VEC_INLINE float vf_hmax(vf v) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
VEC_INLINE void vf_transpose(vf r[VW]) {
    vf a0 = _mm256_unpacklo_ps(r[0], r[1]), a1 = _mm256_unpackhi_ps(r[0], r[1]);
    vf a2 = _mm256_unpacklo_ps(r[2], r[3]), a3 = _mm256_unpackhi_ps(r[2], r[3]);
    vf a4 = _mm256_unpacklo_ps(r[4], r[5]), a5 = _mm256_unpackhi_ps(r[4], r[5]);
    vf a6 = _mm256_unpacklo_ps(r[6], r[7]), a7 = _mm256_unpackhi_ps(r[6], r[7]);
    vf b0 = _mm256_shuffle_ps(a0, a2, 0x44), b1 = _mm256_shuffle_ps(a0, a2, 0xee);
    vf b2 = _mm256_shuffle_ps(a1, a3, 0x44), b3 = _mm256_shuffle_ps(a1, a3, 0xee);
    vf b4 = _mm256_shuffle_ps(a4, a6, 0x44), b5 = _mm256_shuffle_ps(a4, a6, 0xee);
    vf b6 = _mm256_shuffle_ps(a5, a7, 0x44), b7 = _mm256_shuffle_ps(a5, a7, 0xee);
    r[0] = _mm256_permute2f128_ps(b0, b4, 0x20);
    r[1] = _mm256_permute2f128_ps(b1, b5, 0x20);
    r[2] = _mm256_permute2f128_ps(b2, b6, 0x20);
    r[3] = _mm256_permute2f128_ps(b3, b7, 0x20);
    r[4] = _mm256_permute2f128_ps(b0, b4, 0x31);
    r[5] = _mm256_permute2f128_ps(b1, b5, 0x31);
    r[6] = _mm256_permute2f128_ps(b2, b6, 0x31);
    r[7] = _mm256_permute2f128_ps(b3, b7, 0x31);
}

/* Four columns of 8 rows: rows i and i + 4 share a vector as they are loaded, which leaves 8 shuffles. */
VEC_INLINE void vec_four_columns_(vf to[4], const char *p, int64_t stride) {
    vf x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const vf first = _mm256_castps128_ps256(_mm_loadu_ps((const float *)(p + i * stride)));
        x[i] = _mm256_insertf128_ps(first, _mm_loadu_ps((const float *)(p + (i + 4) * stride)), 1);
    }
    vf a0 = _mm256_unpacklo_ps(x[0], x[1]), a1 = _mm256_unpackhi_ps(x[0], x[1]);
    vf a2 = _mm256_unpacklo_ps(x[2], x[3]), a3 = _mm256_unpackhi_ps(x[2], x[3]);
    to[0] = _mm256_shuffle_ps(a0, a2, 0x44);
    to[1] = _mm256_shuffle_ps(a0, a2, 0xee);
    to[2] = _mm256_shuffle_ps(a1, a3, 0x44);
    to[3] = _mm256_shuffle_ps(a1, a3, 0xee);
}
#define VEC_LOAD_SQUARE 1
VEC_INLINE void vf_load_square(vf r[VW], const char *p, int64_t stride) {
    vec_four_columns_(r, p, stride);
    vec_four_columns_(r + 4, p + 16, stride);
}

VEC_INLINE vf vf_from_bf16_(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
VEC_INLINE __m128i vf_to_bf16_(vf v) {
    __m256i bits = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}
VEC_INLINE __m128i vf_to_f16_(vf v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

VEC_INLINE vf vf_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
VEC_INLINE vf vf_load_bf16(const uint16_t *p) { return vf_from_bf16_(_mm_loadu_si128((const __m128i *)p)); }
VEC_INLINE void vf_store_f16(uint16_t *p, vf v) { _mm_storeu_si128((__m128i *)p, vf_to_f16_(v)); }
VEC_INLINE void vf_store_bf16(uint16_t *p, vf v) { _mm_storeu_si128((__m128i *)p, vf_to_bf16_(v)); }
VEC_INLINE vf vf_load_f16_n(const uint16_t *p, int n) {
    uint16_t lane[VW] = { 0 };
    memcpy(lane, p, 2 * (size_t)n);
    return vf_load_f16(lane);
}
VEC_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) {
    uint16_t lane[VW] = { 0 };
    memcpy(lane, p, 2 * (size_t)n);
    return vf_load_bf16(lane);
}
VEC_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) {
    uint16_t lane[VW];
    vf_store_f16(lane, v);
    memcpy(p, lane, 2 * (size_t)n);
}
VEC_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) {
    uint16_t lane[VW];
    vf_store_bf16(lane, v);
    memcpy(p, lane, 2 * (size_t)n);
}
