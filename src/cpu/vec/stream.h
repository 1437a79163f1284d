/* Stores that go past the caches, and prefetch: for outputs larger than the caches, where an ordinary store would first
 * read the line that it fills and so cost half again of a copy's traffic. The address is a multiple of 4·VW bytes; half types
 * go two vectors at a time, since stores of half a vector past the caches take nearly as long as whole ones. What other threads
 * shall see must be followed by vec_stream_end. Elsewhere than on AVX2 and AVX-512 these are plain stores. */
#ifndef INVAR_CPU_VEC_STREAM_H
#define INVAR_CPU_VEC_STREAM_H

#include "cpu/vec/vec.h"

#if defined(__AVX512F__) || defined(__AVX2__)
enum { VEC_STREAMS = 1 };
#else
enum { VEC_STREAMS = 0 };
#endif

#if defined(__AVX512F__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm512_stream_ps(p, v); }
VEC_INLINE void vec_stream_two_(uint16_t *p, __m256i a, __m256i b) {
    _mm512_stream_si512((__m512i *)(void *)p, _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
}
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_f16_(a), vf_to_f16_(b)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#elif defined(__AVX2__)
VEC_INLINE void vf_stream(float *p, vf v) { _mm256_stream_ps(p, v); }
VEC_INLINE void vec_stream_two_(uint16_t *p, __m128i a, __m128i b) {
    _mm256_stream_si256((__m256i *)(void *)p, _mm256_set_m128i(b, a));
}
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) { vec_stream_two_(p, vf_to_f16_(a), vf_to_f16_(b)); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
#else
VEC_INLINE void vf_stream(float *p, vf v) { vf_store(p, v); }
VEC_INLINE void vf_stream_f16(uint16_t *p, vf a, vf b) {
    vf_store_f16(p, a);
    vf_store_f16(p + VW, b);
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

/* Bytes on their way past the caches to consecutive addresses, in whole cache lines. What is left of a line waits for the
 * bytes that follow it: a line stored in parts is first read, and every store behind it waits for that. */
enum { VEC_LINE = 64 };
typedef struct vec_stream {
    char *stage; /* the bytes to come, 64-byte aligned; the VEC_LINE bytes before it are the stream's own */
    char *end;   /* where the next byte goes */
    size_t held; /* bytes that wait, right before the stage; at end - held a line begins */
} vec_stream;

VEC_INLINE void vec_stream_copy_line_(char *to, const char *from, const bool past) {
    _Pragma("GCC unroll 4") for (int i = 0; i < VEC_LINE / 4; i += VW) {
        float *p = (float *)(void *)to + i;
        vf v = vf_load((const float *)(const void *)from + i);
        past ? vf_stream(p, v) : vf_store(p, v);
    }
}

/* The bytes that wait, to their place. */
VEC_INLINE void vec_stream_flush(vec_stream *s) {
    if (s->held) memcpy(s->end - s->held, s->stage - s->held, s->held);
    s->held = 0;
}

/* The first `bytes` of the stage go to `to`; the bytes after them will come through the stage `next`. */
static inline void vec_stream_put(vec_stream *s, char *to, size_t bytes, char *next) {
    if (to != s->end) vec_stream_flush(s);
    size_t head = (VEC_LINE - ((uintptr_t)to - s->held) % VEC_LINE) % VEC_LINE; /* of a line that began before the stream did */
    if (head) memcpy(to, s->stage, head = head < bytes ? head : bytes);
    const size_t ready = s->held + bytes - head, whole = ready - ready % VEC_LINE;
    const char *from = s->stage + head - s->held;
    char *line = to + head - s->held;
    for (size_t i = 0; i < whole; i += VEC_LINE) vec_stream_copy_line_(line + i, from + i, true);
    s->held = ready - whole;
    s->end = to + bytes;
    if (bytes >= VEC_LINE) vec_stream_copy_line_(next - VEC_LINE, s->stage + bytes - VEC_LINE, false);
    else memmove(next - s->held, from + whole, s->held);
    s->stage = next;
}

/* The same for rows that go from registers to their lines: what is left of a row's last line is kept here until the next row brings
 * the rest of it, and the line is stored a row later, when nothing has to wait for it to leave the store queue. */
typedef struct vec_edge {
    _Alignas(64) char bytes[2][VEC_LINE];
    char *line, *ready; /* where bytes[turn], which has `held` bytes, and bytes[!turn], which is complete, belong; NULL: nothing */
    size_t held;
    int turn;
} vec_edge;

VEC_INLINE void vec_edge_begin(vec_edge *e) {
    e->line = e->ready = NULL;
    e->held = 0;
    e->turn = 0;
}
VEC_INLINE void vec_edge_store(vec_edge *e) {
    if (e->ready) vec_stream_copy_line_(e->ready, e->bytes[!e->turn], true);
    e->ready = NULL;
}
/* Everything to its place. */
static inline void vec_edge_end(vec_edge *e) {
    vec_edge_store(e);
    if (e->line) memcpy(e->line, e->bytes[e->turn], e->held);
    e->line = NULL;
}
/* Where the bytes that belong at `to`, up to the end of its line, are to be written. */
VEC_INLINE char *vec_edge_head(vec_edge *e, char *to) {
    const size_t before = (uintptr_t)to % VEC_LINE;
    if (e->line != to - before || e->held != before) {
        vec_edge_end(e);
        return to;
    }
    vec_edge_store(e);
    e->ready = e->line;
    e->line = NULL;
    e->turn = !e->turn;
    return e->bytes[!e->turn] + before;
}
/* Where the last `bytes` of a row are to be written, which belong at the line `to`. */
VEC_INLINE char *vec_edge_tail(vec_edge *e, char *to, size_t bytes) {
    if (e->line) vec_edge_end(e);
    e->line = to;
    e->held = bytes;
    return e->bytes[e->turn];
}

#endif
