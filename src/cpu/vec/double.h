/* Vectors of VW / 2 doubles. The same bits on every instruction set:
 *
 *   vd_set1(s) vd_load(p) vd_store(p, a) vd_abs          any alignment
 *   vd_add vd_sub vd_mul                                 correctly rounded
 *   vd_round(a)                                          nearest even integer, any a
 *   vd_product_error(a, b, p)                            a·b - p, exact for p = a·b, while nothing over- or underflows
 *   vf_from_vd(low, high)                                VW floats, each rounded once */
#ifndef INVAR_CPU_VEC_DOUBLE_H
#define INVAR_CPU_VEC_DOUBLE_H

#include "cpu/vec/vec.h"

enum { VDW = VW / 2 };

#if defined(__AVX512F__)
typedef __m512d vd;
VEC_INLINE vd vd_set1(double s) { return _mm512_set1_pd(s); }
VEC_INLINE vd vd_load(const double *p) { return _mm512_loadu_pd(p); }
VEC_INLINE void vd_store(double *p, vd a) { _mm512_storeu_pd(p, a); }
VEC_INLINE vd vd_abs(vd a) { return _mm512_abs_pd(a); }
VEC_INLINE vd vd_add(vd a, vd b) { return _mm512_add_pd(a, b); }
VEC_INLINE vd vd_sub(vd a, vd b) { return _mm512_sub_pd(a, b); }
VEC_INLINE vd vd_mul(vd a, vd b) { return _mm512_mul_pd(a, b); }
VEC_INLINE vd vd_round(vd a) { return _mm512_roundscale_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_INLINE vd vd_product_error(vd a, vd b, vd p) { return _mm512_fmsub_pd(a, b, p); }
VEC_INLINE vf vf_from_vd(vd low, vd high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
#elif defined(__AVX2__)
typedef __m256d vd;
VEC_INLINE vd vd_set1(double s) { return _mm256_set1_pd(s); }
VEC_INLINE vd vd_load(const double *p) { return _mm256_loadu_pd(p); }
VEC_INLINE void vd_store(double *p, vd a) { _mm256_storeu_pd(p, a); }
VEC_INLINE vd vd_abs(vd a) { return _mm256_andnot_pd(_mm256_set1_pd(-0.0), a); }
VEC_INLINE vd vd_add(vd a, vd b) { return _mm256_add_pd(a, b); }
VEC_INLINE vd vd_sub(vd a, vd b) { return _mm256_sub_pd(a, b); }
VEC_INLINE vd vd_mul(vd a, vd b) { return _mm256_mul_pd(a, b); }
VEC_INLINE vd vd_round(vd a) { return _mm256_round_pd(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_INLINE vd vd_product_error(vd a, vd b, vd p) { return _mm256_fmsub_pd(a, b, p); }
VEC_INLINE vf vf_from_vd(vd low, vd high) { return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)); }
#elif defined(__aarch64__)
typedef float64x2_t vd;
VEC_INLINE vd vd_set1(double s) { return vdupq_n_f64(s); }
VEC_INLINE vd vd_load(const double *p) { return vld1q_f64(p); }
VEC_INLINE void vd_store(double *p, vd a) { vst1q_f64(p, a); }
VEC_INLINE vd vd_abs(vd a) { return vabsq_f64(a); }
VEC_INLINE vd vd_add(vd a, vd b) { return vaddq_f64(a, b); }
VEC_INLINE vd vd_sub(vd a, vd b) { return vsubq_f64(a, b); }
VEC_INLINE vd vd_mul(vd a, vd b) { return vmulq_f64(a, b); }
VEC_INLINE vd vd_round(vd a) { return vrndnq_f64(a); }
VEC_INLINE vd vd_product_error(vd a, vd b, vd p) { return vfmaq_f64(vnegq_f64(p), a, b); }
VEC_INLINE vf vf_from_vd(vd low, vd high) { return vcvt_high_f32_f64(vcvt_f32_f64(low), high); }
#else
typedef __m128d vd;
VEC_INLINE vd vd_set1(double s) { return _mm_set1_pd(s); }
VEC_INLINE vd vd_load(const double *p) { return _mm_loadu_pd(p); }
VEC_INLINE void vd_store(double *p, vd a) { _mm_storeu_pd(p, a); }
VEC_INLINE vd vd_abs(vd a) { return _mm_andnot_pd(_mm_set1_pd(-0.0), a); }
VEC_INLINE vd vd_add(vd a, vd b) { return _mm_add_pd(a, b); }
VEC_INLINE vd vd_sub(vd a, vd b) { return _mm_sub_pd(a, b); }
VEC_INLINE vd vd_mul(vd a, vd b) { return _mm_mul_pd(a, b); }
VEC_INLINE vd vd_round(vd a) { /* below 2^52, adding that leaves no fraction bits; above, there are none */
    vd sign = _mm_and_pd(a, _mm_set1_pd(-0.0)), size = _mm_andnot_pd(_mm_set1_pd(-0.0), a), magic = _mm_set1_pd(0x1p52);
    vd rounded = _mm_or_pd(_mm_sub_pd(_mm_add_pd(size, magic), magic), sign), small = _mm_cmplt_pd(size, magic);
    return _mm_or_pd(_mm_and_pd(small, rounded), _mm_andnot_pd(small, a));
}
/* Two halves of 26 bits, whose products are exact (Dekker, "A floating-point technique for extending the available
 * precision", 1971). */
VEC_INLINE vd vd_high_half_(vd a) {
    vd t = _mm_mul_pd(a, _mm_set1_pd(0x1p27 + 1));
    return _mm_sub_pd(t, _mm_sub_pd(t, a));
}
VEC_INLINE vd vd_product_error(vd a, vd b, vd p) {
    vd ah = vd_high_half_(a), al = _mm_sub_pd(a, ah), bh = vd_high_half_(b), bl = _mm_sub_pd(b, bh);
    vd e = _mm_sub_pd(_mm_mul_pd(ah, bh), p);
    e = _mm_add_pd(_mm_add_pd(e, _mm_mul_pd(ah, bl)), _mm_mul_pd(al, bh));
    return _mm_add_pd(e, _mm_mul_pd(al, bl));
}
VEC_INLINE vf vf_from_vd(vd low, vd high) { return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)); }
#endif

#endif
