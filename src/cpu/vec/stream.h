/* Stores that go past the caches, and prefetch: for outputs larger than the caches, where an ordinary store would first
 * read the line that it fills and so cost half again of a copy's traffic. The address is a multiple of 4·VW bytes; half types
 * go two vectors at a time, since stores of half a vector past the caches take nearly as long as whole ones. What other threads
 * shall see must be followed by vec_stream_end. Elsewhere than on AVX2 and AVX-512 these are plain stores. */
#ifndef INVAR_CPU_VEC_STREAM_H
#define INVAR_CPU_VEC_STREAM_H

#include "cpu/vec/vec.h"

#if defined(__AVX512F__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm512_stream_ps(p, v); }
VEC_INLINE void vec_stream_two_(uint16_t *p, __m256i a, __m256i b) {
    _mm512_stream_si512((__m512i *)(void *)p, _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
}
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_f16_(a), vf_to_f16_(b)); }
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_bf16_(a), vf_to_bf16_(b)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#elif defined(__AVX2__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm256_stream_ps(p, v); }
VEC_INLINE void vec_stream_two_(uint16_t *p, __m128i a, __m128i b) {
    _mm256_stream_si256((__m256i *)(void *)p, _mm256_set_m128i(b, a));
}
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_f16_(a), vf_to_f16_(b)); }
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_bf16_(a), vf_to_bf16_(b)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#else
VEC_INLINE void vf_stream(float *p, vf v) { vf_store(p, v); }
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) {
    vf_store_f16(p, a);
    vf_store_f16(p + VW, b);
}
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf a, vf b) {
    vf_store_bf16(p, a);
    vf_store_bf16(p + VW, b);
}
VEC_INLINE void vec_stream_end(void) {}
#endif

/* Fetched for reading: into L1, or with far no nearer than L2. */
VEC_INLINE void vec_prefetch(const void *p, bool far) {
    if (far) __builtin_prefetch(p, 0, 2);
    else __builtin_prefetch(p, 0, 3);
}

/* A copy past the caches to any address. */
VEC_INLINE void vec_stream_copy(char *to, const char *from, size_t bytes) {
    const size_t vector = 4 * VW, head = (vector - (uintptr_t)to % vector) % vector;
    size_t i = head < bytes ? head : bytes;
    memcpy(to, from, i);
    for (; i + vector <= bytes; i += vector) vf_stream((float *)(void *)(to + i), vf_load((const float *)(const void *)(from + i)));
    memcpy(to + i, from + i, bytes - i);
}

#endif
