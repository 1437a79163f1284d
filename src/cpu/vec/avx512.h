/* AVX-512 F, BW, DQ, VL: 16 floats a vector, masks in k registers. */
#include <immintrin.h>

typedef __m512 vf;
typedef __mmask16 vm;
enum { VW = 16 };
#define VEC_REGISTERS 32
/* A division of a vector takes longer than five multiply-adds and a test. */
#define VEC_DIVIDES_SLOWLY 1

VEC_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
VEC_INLINE vf vf_set1(float s) { return _mm512_set1_ps(s); }
/* VPBROADCASTD: on Zen 4 a load alone, where VBROADCASTSS of a whole vector takes a shuffle's pipe too. */
#define VEC_BROADCAST 1
VEC_INLINE vf vf_broadcast(const float *p) {
    int bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_castsi512_ps(_mm512_set1_epi32(bits));
}
VEC_INLINE vm vm_first(int n) { return (vm)((1u << n) - 1); }
VEC_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
VEC_INLINE vf vf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
VEC_INLINE void vf_store_n(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, vm_first(n), v); }

VEC_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC_INLINE vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
VEC_INLINE vf vf_sub_by_fma(vf a, vf b) { return _mm512_fmsub_ps(a, _mm512_set1_ps(1), b); }
VEC_INLINE float sf_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
VEC_INLINE float sf_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
VEC_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_INLINE vf vf_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
VEC_INLINE vf vf_abs(vf a) { return _mm512_abs_ps(a); }
VEC_INLINE vf vf_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
VEC_INLINE vf vf_scale2(vf a, vf n) { return _mm512_scalef_ps(a, n); }

VEC_INLINE vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
VEC_INLINE vm vf_le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
VEC_INLINE vm vf_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
VEC_INLINE vm vf_nlt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ); }
VEC_INLINE vm vm_and(vm a, vm b) { return (vm)(a & b); }
VEC_INLINE vm vm_or(vm a, vm b) { return (vm)(a | b); }
VEC_INLINE vm vm_not(vm a) { return (vm)~a; }
VEC_INLINE vm vm_load_bytes(const void *p) {
    const __m128i bytes = _mm_loadu_si128((const __m128i *)p);
    return _mm_test_epi8_mask(bytes, bytes);
}
VEC_INLINE uint32_t bits_of_bytes(const void *p) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)p);
    return _mm256_test_epi8_mask(bytes, bytes);
}
VEC_INLINE vm vm_load_bit(const uint32_t *p, uint32_t bit) {
    return _mm512_test_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32((int)bit));
}
VEC_INLINE bool vm_any(vm a) { return a != 0; }
VEC_INLINE bool vm_all(vm a) { return a == 0xffff; }
VEC_INLINE vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }

VEC_INLINE float vf_hsum(vf v) {
    __m256 w = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

VEC_INLINE float vf_hmax(vf v) {
    __m256 w = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
/* Elements within 128 bits first, then pairs, then the 128-bit quarters: 64 shuffles. */
#define VEC_PAIRS_(i)                                                                         \
    __m512 low##i = _mm512_unpacklo_ps(r[2 * (i)], r[2 * (i) + 1]),                           \
           high##i = _mm512_unpackhi_ps(r[2 * (i)], r[2 * (i) + 1]);
#define VEC_PD_(half, a, b)                                                                   \
    _mm512_castpd_ps(_mm512_unpack##half##_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define VEC_QUARTERS_(k, half, part)                                                          \
    {                                                                                         \
        __m512 a = VEC_PD_(half, part##0, part##1), b = VEC_PD_(half, part##2, part##3);      \
        __m512 c = VEC_PD_(half, part##4, part##5), d = VEC_PD_(half, part##6, part##7);      \
        __m512 even = _mm512_shuffle_f32x4(a, b, 0x88), odd = _mm512_shuffle_f32x4(a, b, 0xdd); \
        __m512 even2 = _mm512_shuffle_f32x4(c, d, 0x88), odd2 = _mm512_shuffle_f32x4(c, d, 0xdd); \
        r[k] = _mm512_shuffle_f32x4(even, even2, 0x88);                                       \
        r[4 + (k)] = _mm512_shuffle_f32x4(odd, odd2, 0x88);                                   \
        r[8 + (k)] = _mm512_shuffle_f32x4(even, even2, 0xdd);                                 \
        r[12 + (k)] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);                                  \
    }
VEC_INLINE void vf_transpose(vf r[VW]) {
    VEC_PAIRS_(0) VEC_PAIRS_(1) VEC_PAIRS_(2) VEC_PAIRS_(3) VEC_PAIRS_(4) VEC_PAIRS_(5) VEC_PAIRS_(6) VEC_PAIRS_(7)
    VEC_QUARTERS_(0, lo, low)
    VEC_QUARTERS_(1, hi, low)
    VEC_QUARTERS_(2, lo, high)
    VEC_QUARTERS_(3, hi, high)
}
/* A pointer to rows that the compiler may not see through: it would keep one to each of 16 rows, on the stack, where four rows
 * are reached from one by 0, 1, 2 and 3 strides. */
VEC_INLINE const char *vec_rows_(const char *p) {
    __asm__("" : "+r"(p));
    return p;
}
/* Eight columns of 16 rows: rows i and i + 4 share a vector as they are loaded, which leaves 24 shuffles. Two-source permutations
 * (VPERMT2PS) would take fewer registers, but on Zen 4 they run where multiply-adds do. */
VEC_INLINE void vec_eight_columns_(vf to[8], const char *p, int64_t stride) {
    vf y[8];
    p = vec_rows_(p);
#pragma GCC unroll 2
    for (int half = 0; half < 8; half += 4) {
        const char *const other = vec_rows_(p + 4 * stride);
        vf x[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            x[i] = _mm512_castps256_ps512(_mm256_loadu_ps((const float *)(p + i * stride)));
            x[i] = _mm512_insertf32x8(x[i], _mm256_loadu_ps((const float *)(other + i * stride)), 1);
        }
        const vf low = _mm512_unpacklo_ps(x[0], x[1]), high = _mm512_unpackhi_ps(x[0], x[1]);
        const vf low2 = _mm512_unpacklo_ps(x[2], x[3]), high2 = _mm512_unpackhi_ps(x[2], x[3]);
        y[half] = VEC_PD_(lo, low, low2);
        y[half + 1] = VEC_PD_(hi, low, low2);
        y[half + 2] = VEC_PD_(lo, high, high2);
        y[half + 3] = VEC_PD_(hi, high, high2);
        p = vec_rows_(other + 4 * stride);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        to[i] = _mm512_shuffle_f32x4(y[i], y[4 + i], 0x88);
        to[4 + i] = _mm512_shuffle_f32x4(y[i], y[4 + i], 0xdd);
    }
}
/* The same of 16-bit numbers, as they are: within 128 bits 24 shuffles of half vectors do, rows i and i + 8 side by side. */
VEC_INLINE void vec_eight_columns_16_(__m256i to[8], const char *p, int64_t stride) {
    __m256i x[8], y[8];
    const char *group[4] = { vec_rows_(p) };
    for (int i = 1; i < 4; i++) group[i] = vec_rows_(group[i - 1] + 4 * stride);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const char *const row = group[i / 4] + i % 4 * stride, *const other = group[i / 4 + 2] + i % 4 * stride;
        x[i] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)row));
        x[i] = _mm256_inserti128_si256(x[i], _mm_loadu_si128((const __m128i *)other), 1);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        y[i] = _mm256_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
        y[4 + i] = _mm256_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        const __m256i low = _mm256_unpacklo_epi32(y[i], y[i + 1]), high = _mm256_unpackhi_epi32(y[i], y[i + 1]);
        const __m256i low2 = _mm256_unpacklo_epi32(y[i + 2], y[i + 3]), high2 = _mm256_unpackhi_epi32(y[i + 2], y[i + 3]);
        to[i] = _mm256_unpacklo_epi64(low, low2);
        to[i + 1] = _mm256_unpackhi_epi64(low, low2);
        to[i + 2] = _mm256_unpacklo_epi64(high, high2);
        to[i + 3] = _mm256_unpackhi_epi64(high, high2);
    }
}
#define VEC_LOAD_SQUARE 1
VEC_INLINE void vf_load_square(vf r[VW], const char *p, int64_t stride) {
    vec_eight_columns_(r, p, stride);
    vec_eight_columns_(r + 8, p + 32, stride);
}

VEC_INLINE vf vf_from_bf16_(__m256i h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
/* Nearest even by integer arithmetic: VCVTNEPS2BF16 would flush denormals. */
VEC_INLINE __m256i vf_to_bf16_(vf v) {
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    vm nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}
VEC_INLINE __m256i vf_to_f16_(vf v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

VEC_INLINE vf vf_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
VEC_INLINE vf vf_load_bf16(const uint16_t *p) { return vf_from_bf16_(_mm256_loadu_si256((const __m256i *)p)); }
#define VEC_LOAD_SQUARE_16 1
VEC_INLINE void vf_load_square_f16(vf r[VW], const char *p, int64_t stride) {
    __m256i x[VW];
    vec_eight_columns_16_(x, p, stride);
    vec_eight_columns_16_(x + 8, p + 16, stride);
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) r[i] = _mm512_cvtph_ps(x[i]);
}
VEC_INLINE void vf_load_square_bf16(vf r[VW], const char *p, int64_t stride) {
    __m256i x[VW];
    vec_eight_columns_16_(x, p, stride);
    vec_eight_columns_16_(x + 8, p + 16, stride);
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) r[i] = vf_from_bf16_(x[i]);
}
VEC_INLINE void vf_store_f16(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)p, vf_to_f16_(v)); }
VEC_INLINE void vf_store_bf16(uint16_t *p, vf v) { _mm256_storeu_si256((__m256i *)p, vf_to_bf16_(v)); }
VEC_INLINE vf vf_load_f16_n(const uint16_t *p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
VEC_INLINE vf vf_load_bf16_n(const uint16_t *p, int n) {
    return vf_from_bf16_(_mm256_maskz_loadu_epi16(vm_first(n), p));
}
VEC_INLINE void vf_store_f16_n(uint16_t *p, vf v, int n) { _mm256_mask_storeu_epi16(p, vm_first(n), vf_to_f16_(v)); }
VEC_INLINE void vf_store_bf16_n(uint16_t *p, vf v, int n) { _mm256_mask_storeu_epi16(p, vm_first(n), vf_to_bf16_(v)); }
