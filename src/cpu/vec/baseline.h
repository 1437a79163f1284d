/* x86-64 as it began, SSE2: 4 floats a vector. There is no FMA instruction, so vf_fma emulates one exactly: the product
 * is exact in double, the sum is rounded to odd, and rounding that to float is then right (Boldo & Melquiond,
 * "Emulation of FMA and correctly rounded sums", 2008: double has more than 2·24 + 2 bits). */
#include <emmintrin.h>

typedef __m128 vf;
typedef __m128 vm;
enum { VW = 4 };
#define VEC_REGISTERS 16

VEC_INLINE vf vf_zero(void) { return _mm_setzero_ps(); }
VEC_INLINE vf vf_set1(float s) { return _mm_set1_ps(s); }
VEC_INLINE vm vm_first(int n) {
    return _mm_castsi128_ps(_mm_cmpgt_epi32(_mm_set1_epi32(n), _mm_setr_epi32(0, 1, 2, 3)));
}
VEC_INLINE vf vf_load(const float *p) { return _mm_loadu_ps(p); }
VEC_INLINE void vf_store(float *p, vf v) { _mm_storeu_ps(p, v); }
VEC_INLINE vf vf_load_n(const float *p, int n) {
    float lane[VW] = { 0 };
    memcpy(lane, p, 4 * (size_t)n);
    return vf_load(lane);
}
VEC_INLINE void vf_store_n(float *p, vf v, int n) {
    float lane[VW];
    vf_store(lane, v);
    memcpy(p, lane, 4 * (size_t)n);
}

VEC_INLINE vf vf_add(vf a, vf b) { return _mm_add_ps(a, b); }
VEC_INLINE vf vf_sub(vf a, vf b) { return _mm_sub_ps(a, b); }
VEC_INLINE vf vf_mul(vf a, vf b) { return _mm_mul_ps(a, b); }
VEC_INLINE vf vf_div(vf a, vf b) { return _mm_div_ps(a, b); }

/* p + c rounded to odd. The error of the rounded sum (Knuth's TwoSum) says on which side of the exact sum it fell; an
 * inexact sum whose last bit is even moves to the odd neighbour on the exact side. Comparisons are false on NaN, so
 * infinities and NaNs pass unchanged. */
VEC_INLINE __m128d sum_to_odd_(__m128d p, __m128d c) {
    __m128d s = _mm_add_pd(p, c), cc = _mm_sub_pd(s, p);
    __m128d error = _mm_add_pd(_mm_sub_pd(p, _mm_sub_pd(s, cc)), _mm_sub_pd(c, cc));
    __m128d zero = _mm_setzero_pd();
    __m128i above = _mm_castpd_si128(_mm_cmpgt_pd(error, zero)), below = _mm_castpd_si128(_mm_cmplt_pd(error, zero));
    __m128i negative = _mm_castpd_si128(_mm_cmplt_pd(s, zero)), bits = _mm_castpd_si128(s);
    /* the exact magnitude is larger when error and s agree in sign: then +1, else -1 */
    __m128i grows = _mm_or_si128(_mm_and_si128(above, _mm_andnot_si128(negative, above)), _mm_and_si128(below, negative));
    __m128i inexact = _mm_or_si128(above, below), one = _mm_set_epi32(0, 1, 0, 1);
    __m128i even = _mm_sub_epi64(_mm_and_si128(bits, one), one); /* all ones when the last bit is 0 */
    __m128i step = _mm_or_si128(_mm_and_si128(grows, one), _mm_andnot_si128(grows, _mm_set1_epi32(-1)));
    step = _mm_and_si128(step, _mm_and_si128(inexact, even));
    return _mm_castsi128_pd(_mm_add_epi64(bits, step));
}
VEC_INLINE vf vf_fma(vf a, vf b, vf c) {
    vf ah = _mm_movehl_ps(a, a), bh = _mm_movehl_ps(b, b), ch = _mm_movehl_ps(c, c);
    __m128d low = sum_to_odd_(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
    __m128d high = sum_to_odd_(_mm_mul_pd(_mm_cvtps_pd(ah), _mm_cvtps_pd(bh)), _mm_cvtps_pd(ch));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
VEC_INLINE vf vf_neg(vf a) { return _mm_xor_ps(a, _mm_set1_ps(-0.0f)); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return vf_fma(vf_neg(a), b, c); }
VEC_INLINE vf vf_sub_by_fma(vf a, vf b) { return vf_sub(a, b); }
VEC_INLINE float sf_fma(float a, float b, float c) {
    return _mm_cvtss_f32(vf_fma(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
VEC_INLINE float sf_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
VEC_INLINE vf vf_max(vf a, vf b) { return _mm_max_ps(a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return _mm_min_ps(a, b); }
VEC_INLINE vf vf_abs(vf a) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), a); }
VEC_INLINE vf vf_round(vf a) {
    vf magic = _mm_set1_ps(0x1.8p23f); /* adding it leaves no fraction bits */
    return _mm_sub_ps(_mm_add_ps(a, magic), magic);
}
VEC_INLINE vf vf_scale2(vf a, vf n) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_slli_epi32(_mm_cvtps_epi32(n), 23)));
}

VEC_INLINE vm vf_lt(vf a, vf b) { return _mm_cmplt_ps(a, b); }
VEC_INLINE vm vf_le(vf a, vf b) { return _mm_cmple_ps(a, b); }
VEC_INLINE vm vf_eq(vf a, vf b) { return _mm_cmpeq_ps(a, b); }
VEC_INLINE vm vf_nlt(vf a, vf b) { return _mm_cmpnlt_ps(a, b); }
VEC_INLINE vm vm_and(vm a, vm b) { return _mm_and_ps(a, b); }
VEC_INLINE vm vm_or(vm a, vm b) { return _mm_or_ps(a, b); }
VEC_INLINE vm vm_not(vm a) { return _mm_xor_ps(a, _mm_castsi128_ps(_mm_set1_epi32(-1))); }
VEC_INLINE vm vm_load_bytes(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, 4);
    __m128i zero = _mm_setzero_si128(), wide = _mm_unpacklo_epi8(_mm_cvtsi32_si128(bytes), zero);
    return _mm_castsi128_ps(_mm_cmpgt_epi32(_mm_unpacklo_epi16(wide, zero), zero));
}
VEC_INLINE uint32_t bits_of_bytes(const void *p) {
    const __m128i *bytes = (const __m128i *)p, zero = _mm_setzero_si128();
    uint32_t low = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(bytes), zero));
    return ~(low | (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(bytes + 1), zero)) << 16);
}
VEC_INLINE vm vm_load_bit(const uint32_t *p, uint32_t bit) {
    __m128i lane = _mm_set1_epi32((int)bit), words = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm_castsi128_ps(_mm_cmpeq_epi32(_mm_and_si128(words, lane), lane));
}
VEC_INLINE bool vm_any(vm a) { return _mm_movemask_ps(a) != 0; }
VEC_INLINE bool vm_all(vm a) { return _mm_movemask_ps(a) == 0xf; }
VEC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm_or_ps(_mm_and_ps(m, a), _mm_andnot_ps(m, b)); }

VEC_INLINE float vf_hsum(vf v) {
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
}
VEC_INLINE float vf_hmax(vf v) {
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}
VEC_INLINE void vf_transpose(vf r[VW]) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }
#include "cpu/vec/halves.h"
