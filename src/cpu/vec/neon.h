/* AArch64 Advanced SIMD: 4 floats a vector. vmaxq and vminq differ from x86 on NaN, so both are compare and select. */
#include <arm_neon.h>

typedef float32x4_t vf;
typedef uint32x4_t vm;
enum { VW = 4 };
#define VEC_REGISTERS 32

VEC_INLINE vf vf_zero(void) { return vdupq_n_f32(0); }
VEC_INLINE vf vf_set1(float s) { return vdupq_n_f32(s); }
VEC_INLINE vm vm_first(int n) {
    static const uint32_t lane[VW] = { 0, 1, 2, 3 };
    return vcltq_u32(vld1q_u32(lane), vdupq_n_u32((uint32_t)n));
}
VEC_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
VEC_INLINE void vf_store(float *p, vf v) { vst1q_f32(p, v); }
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

VEC_INLINE vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
VEC_INLINE vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
VEC_INLINE vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
VEC_INLINE vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
VEC_INLINE vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
VEC_INLINE vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
VEC_INLINE vf vf_sub_by_fma(vf a, vf b) { return vf_sub(a, b); }
VEC_INLINE float sf_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
VEC_INLINE float sf_sqrt(float a) { return vgetq_lane_f32(vsqrtq_f32(vdupq_n_f32(a)), 0); }
VEC_INLINE vf vf_max(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
VEC_INLINE vf vf_min(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
VEC_INLINE vf vf_neg(vf a) { return vnegq_f32(a); }
VEC_INLINE vf vf_abs(vf a) { return vabsq_f32(a); }
VEC_INLINE vf vf_round(vf a) { return vrndnq_f32(a); }
VEC_INLINE vf vf_scale2(vf a, vf n) {
    int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(n), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a), exponent));
}

VEC_INLINE vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
VEC_INLINE vm vf_le(vf a, vf b) { return vcleq_f32(a, b); }
VEC_INLINE vm vf_eq(vf a, vf b) { return vceqq_f32(a, b); }
VEC_INLINE vm vf_nlt(vf a, vf b) { return vmvnq_u32(vcltq_f32(a, b)); }
VEC_INLINE vm vm_and(vm a, vm b) { return vandq_u32(a, b); }
VEC_INLINE vm vm_or(vm a, vm b) { return vorrq_u32(a, b); }
VEC_INLINE vm vm_not(vm a) { return vmvnq_u32(a); }
VEC_INLINE vm vm_load_bytes(const void *p) {
    uint32_t bytes;
    memcpy(&bytes, p, 4);
    uint32x4_t wide = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
    return vtstq_u32(wide, wide);
}
VEC_INLINE uint32_t bits_of_bytes(const void *p) {
    const uint8x8_t bit = vcreate_u8(0x8040201008040201u);
    uint32_t bits = 0;
    for (int i = 0; i < 4; i++) {
        uint8x8_t bytes = vld1_u8((const uint8_t *)p + 8 * i);
        bits |= (uint32_t)vaddv_u8(vand_u8(vtst_u8(bytes, bytes), bit)) << 8 * i;
    }
    return bits;
}
VEC_INLINE vm vm_load_bit(const uint32_t *p, uint32_t bit) { return vtstq_u32(vld1q_u32(p), vdupq_n_u32(bit)); }
VEC_INLINE bool vm_any(vm a) { return vmaxvq_u32(a) != 0; }
VEC_INLINE bool vm_all(vm a) { return vminvq_u32(a) != 0; }
VEC_INLINE vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }

VEC_INLINE float vf_hsum(vf v) {
    float32x2_t w = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(w, 0) + vget_lane_f32(w, 1);
}
VEC_INLINE float vf_hmax(vf v) { return vmaxvq_f32(v); }
VEC_INLINE void vf_transpose(vf r[VW]) {
    float32x4x2_t a = vtrnq_f32(r[0], r[1]), b = vtrnq_f32(r[2], r[3]);
    r[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    r[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    r[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    r[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
#include "cpu/vec/halves.h"
