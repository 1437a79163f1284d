/* Stores that go past the caches, and prefetch: for outputs larger than the caches, where an ordinary store would first
 * read the line that it fills and so cost half again of a copy's traffic. The address is aligned to the bytes stored. What
 * other threads shall see must be followed by vec_stream_end. Elsewhere than on AVX2 and AVX-512 these are plain stores. */
#ifndef INVAR_CPU_VEC_STREAM_H
#define INVAR_CPU_VEC_STREAM_H

#include "cpu/vec/vec.h"

#if defined(__AVX512F__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm512_stream_ps(p, v); }
VEC_INLINE void vf_stream_f16(uint16_t *p, vf v) { _mm256_stream_si256((__m256i *)(void *)p, vf_to_f16_(v)); }
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf v) { _mm256_stream_si256((__m256i *)(void *)p, vf_to_bf16_(v)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#elif defined(__AVX2__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm256_stream_ps(p, v); }
VEC_INLINE void vf_stream_f16(uint16_t *p, vf v) { _mm_stream_si128((__m128i *)(void *)p, vf_to_f16_(v)); }
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf v) { _mm_stream_si128((__m128i *)(void *)p, vf_to_bf16_(v)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#else
VEC_INLINE void vf_stream(float *p, vf v) { vf_store(p, v); }
VEC_INLINE void vf_stream_f16(uint16_t *p, vf v) { vf_store_f16(p, v); }
VEC_INLINE void vf_stream_bf16(uint16_t *p, vf v) { vf_store_bf16(p, v); }
VEC_INLINE void vec_stream_end(void) {}
#endif

VEC_INLINE void vec_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); }

#endif
