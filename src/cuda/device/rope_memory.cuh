/* How rope's program moves a piece of a row, ELEMENTS of TYPE that stand together: in one access, held as words. */
#ifndef INVAR_ROPE_MEMORY_CUH
#define INVAR_ROPE_MEMORY_CUH
#include "base.cuh"

enum { PIECE_BYTES = ELEMENTS * (int)sizeof(TYPE), PIECE_WORDS = PIECE_BYTES > 4 ? PIECE_BYTES / 4 : 1 };

struct piece {
    unsigned word[PIECE_WORDS];
};

__device__ __forceinline__ void load_piece(piece &p, const char *from) {
    if constexpr (PIECE_BYTES == 16) {
        const uint4 all = *(const uint4 *)from;
        p.word[0] = all.x, p.word[1] = all.y, p.word[2] = all.z, p.word[3] = all.w;
    } else if constexpr (PIECE_BYTES == 8) {
        const uint2 all = *(const uint2 *)from;
        p.word[0] = all.x, p.word[1] = all.y;
    } else if constexpr (PIECE_BYTES == 4) {
        p.word[0] = *(const unsigned *)from;
    } else {
        p.word[0] = *(const unsigned short *)from;
    }
}

__device__ __forceinline__ void store_piece(char *to, const piece &p) {
    if constexpr (PIECE_BYTES == 16) *(uint4 *)to = make_uint4(p.word[0], p.word[1], p.word[2], p.word[3]);
    else if constexpr (PIECE_BYTES == 8) *(uint2 *)to = make_uint2(p.word[0], p.word[1]);
    else if constexpr (PIECE_BYTES == 4) *(unsigned *)to = p.word[0];
    else *(unsigned short *)to = (unsigned short)p.word[0];
}

/* Element i of a type's pieces, and two elements as one word of them: the lower place is the first's, each is rounded once. */
template <typename T> struct of_type;
template <> struct of_type<float> {
    static __device__ __forceinline__ float element(const piece &p, int i) { return __uint_as_float(p.word[i]); }
    static __device__ __forceinline__ unsigned word(const float *values, int i) { return __float_as_uint(values[i]); }
};
template <typename T> struct of_half_type {
    static __device__ __forceinline__ float element(const piece &p, int i) {
        return widen(T{ (unsigned short)(i % 2 ? p.word[i / 2] >> 16 : p.word[i / 2] & 0xffff) });
    }
};
template <> struct of_type<half16> : of_half_type<half16> {
    static __device__ __forceinline__ unsigned word(const float *values, int i) {
        unsigned two;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(ELEMENTS > 1 ? values[2 * i + 1] : 0.0f), "f"(values[2 * i]));
        return two;
    }
};
template <> struct of_type<bfloat16> : of_half_type<bfloat16> {
    static __device__ __forceinline__ unsigned word(const float *values, int i) {
        unsigned two;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(ELEMENTS > 1 ? values[2 * i + 1] : 0.0f), "f"(values[2 * i]));
        return two;
    }
};

__device__ __forceinline__ float element(const piece &p, int i) { return of_type<TYPE>::element(p, i); }

__device__ __forceinline__ void set_elements(piece &p, const float *values) {
#pragma unroll
    for (int i = 0; i < PIECE_WORDS; i++) p.word[i] = of_type<TYPE>::word(values, i);
}

#endif
