/* Products of 16-bit floats on the matrix units that compute capability 8.0 and newer have: fragments of m16n8k16, as the PTX
 * manual lays them out. TYPE: half16 or bfloat16. */
#ifndef INVAR_ATTENTION_MMA_CUH
#define INVAR_ATTENTION_MMA_CUH
#include "attention.cuh"

#define LDMATRIX(name, form)                                                                              \
    __device__ __forceinline__ void name(unsigned to[4], unsigned address) {                              \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" form ".shared.b16 {%0, %1, %2, %3}, [%4];"           \
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])                                 \
                     : "r"(address)                                                                       \
                     : "memory");                                                                         \
    }
LDMATRIX(load_matrices, "")
LDMATRIX(load_transposed, ".trans")

template <typename T> struct matrix_unit;
template <> struct matrix_unit<half16> {
    static __device__ __forceinline__ void multiply(float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static __device__ __forceinline__ unsigned pack(float low, float high) {
        unsigned pair;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    enum : unsigned { exponent = 0x7c00u, /* all of it set: infinite or NaN */
                      minus_infinity = 0xfc00u };
};
template <> struct matrix_unit<bfloat16> {
    static __device__ __forceinline__ void multiply(float c[4], const unsigned a[4], unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static __device__ __forceinline__ unsigned pack(float low, float high) {
        unsigned pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
    enum : unsigned { exponent = 0x7f80u, minus_infinity = 0xff80u };
};

/* Whether one of two neighbours is infinite or NaN. */
template <typename T> __device__ __forceinline__ bool pair_not_finite(unsigned pair) {
    const unsigned exponent = matrix_unit<T>::exponent;
    return (pair & exponent) == exponent || (pair >> 16 & exponent) == exponent;
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
