/* What every device program stands on: element types and their conversion, without a header of CUDA's (NVRTC alone brings
 * none). float16 and bfloat16 are 16-bit words; arithmetic is in float, each conversion rounds once, to nearest even. */
#ifndef INVAR_BASE_CUH
#define INVAR_BASE_CUH

struct half16 {
    unsigned short bits;
};
struct bfloat16 {
    unsigned short bits;
};

__device__ inline float widen(float value) { return value; }
__device__ inline float widen(half16 value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}
__device__ inline float widen(bfloat16 value) { return __uint_as_float((unsigned)value.bits << 16); }

template <typename T> __device__ inline T narrow(float value);
template <> __device__ inline float narrow<float>(float value) { return value; }
template <> __device__ inline half16 narrow<half16>(float value) {
    half16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
    return half;
}
template <> __device__ inline bfloat16 narrow<bfloat16>(float value) {
    bfloat16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
    return half;
}

#endif
