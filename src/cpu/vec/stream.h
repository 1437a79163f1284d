/* Stores that go past the caches, and prefetch: for outputs larger than the caches, where an ordinary store would first
 * read the line that it fills and so cost half again of a copy's traffic. The address is a multiple of 4·VW bytes. What other
 * threads shall see must be followed by vec_stream_end. Elsewhere than on AVX2 and AVX-512 these are plain stores. */
#ifndef INVAR_CPU_VEC_STREAM_H
#define INVAR_CPU_VEC_STREAM_H

#include "cpu/vec/vec.h"

#if defined(__AVX512F__) || defined(__AVX2__)
enum { VEC_STREAMS = 1 };
#else
enum { VEC_STREAMS = 0 };
#endif

/* vf_turn(rest, v, vec_turn_by(n)): the last n lanes of rest, then the first VW - n of v. */
#if defined(__AVX512F__)
typedef __m512i vec_turn;
VEC_INLINE void vf_stream(float *p, vf v) { _mm512_stream_ps(p, v); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
VEC_INLINE vec_turn vec_turn_by(int n) {
    return _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(VW - n));
}
VEC_INLINE vf vf_turn(vf rest, vf v, vec_turn by) { return _mm512_permutex2var_ps(rest, by, v); }
#elif defined(__AVX2__)
typedef struct vec_turn {
    __m256i order;
    vm last; /* the last n lanes */
} vec_turn;
VEC_INLINE void vf_stream(float *p, vf v) { _mm256_stream_ps(p, v); }
VEC_INLINE void vec_stream_end(void) { _mm_sfence(); }
VEC_INLINE vec_turn vec_turn_by(int n) {
    return (vec_turn){ _mm256_sub_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(n)),
                       vm_not(vm_first(VW - n)) };
}
VEC_INLINE vf vf_turn(vf rest, vf v, vec_turn by) { return _mm256_permutevar8x32_ps(vf_select(by.last, rest, v), by.order); }
#else
typedef int vec_turn; /* never needed: the address of a plain store is any */
VEC_INLINE void vf_stream(float *p, vf v) { vf_store(p, v); }
VEC_INLINE void vec_stream_end(void) {}
VEC_INLINE vec_turn vec_turn_by(int n) { return n; }
VEC_INLINE vf vf_turn(vf rest, vf v, vec_turn by) { return (void)rest, (void)by, v; }
#endif

/* Fetched for reading: into L1, or with far no nearer than L2. */
VEC_INLINE void vec_prefetch(const void *p, bool far) {
    if (far) __builtin_prefetch(p, 0, 2);
    else __builtin_prefetch(p, 0, 3);
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

/* Rows that go past the caches from registers to any multiple of 4 bytes, one vector after the other: each is turned until the
 * vector that one store takes (a cache line on AVX-512) fills up behind what was left of the vector before. What is left of a row
 * waits in the seam for the row that follows it in memory. */
enum { VEC_BYTES = 4 * VW };
typedef struct vec_seam {
    _Alignas(64) float rest[VW], first[VW];
    char *end; /* where the last row ended; its last end % VEC_BYTES bytes wait in rest; NULL: there was none */
} vec_seam;

typedef struct vec_flow {
    vf rest; /* its last lanes wait to be stored */
    vec_turn turn;
    char *to;      /* the row, */
    char *aligned; /* where the vector begins that holds its first byte, */
    float *first;  /* and where that vector goes if the row follows on none, */
    int64_t apart; /* then 0; else -1 */
} vec_flow;

/* The bytes that wait, to their place. */
static inline void vec_seam_flush(vec_seam *s) {
    const size_t held = (uintptr_t)s->end % VEC_BYTES;
    if (s->end) memcpy(s->end - held, s->rest, held);
    s->end = NULL;
}

/* A row to `to`, which ends before the next one begins. */
VEC_INLINE vec_flow vec_flow_begin(vec_seam *s, char *to) {
    const int held = (int)((uintptr_t)to % VEC_BYTES / 4);
    const bool follows = s->end == to;
    if (!follows) vec_seam_flush(s);
    const vf rest = follows ? vf_load(s->rest) : vf_zero();
    return (vec_flow){ vf_turn(rest, rest, vec_turn_by(VW - held)), vec_turn_by(held), to, to - 4 * held, s->first,
                       follows || !held ? -1 : 0 };
}

/* The vector at `at` bytes of the row. It is turned even where the row begins with a vector: asking costs a register too many. */
VEC_INLINE void vec_flow_push(vec_flow *f, int64_t at, vf v) {
    const vf whole = vf_turn(f->rest, v, f->turn);
    if (at == f->apart) vf_store(f->first, whole);
    else vf_stream((float *)(void *)(f->aligned + at), whole);
    f->rest = v;
}

/* The row's last `left` bytes, at `at` > 0 of it; `tail`, which holds them, is aligned and of whole vectors. */
static inline void vec_flow_end(const vec_flow *flow, vec_seam *s, int64_t at, const float *tail, int64_t left) {
    vec_flow f = *flow;
    const size_t held = (size_t)(f.to - f.aligned);
    if (f.apart == 0) memcpy(f.to, (const char *)f.first + held, VEC_BYTES - held);
    s->end = f.to + at + left;
    for (; left > 0 && held + (size_t)left >= VEC_BYTES; at += VEC_BYTES, left -= VEC_BYTES, tail += VW)
        vec_flow_push(&f, at, vf_load(tail));
    vf_store(s->rest, vf_turn(f.rest, left > 0 ? vf_load(tail) : f.rest, f.turn));
}

/* Where `flow` began apart and the row of `s`, which has ended meanwhile, stands right before it: the vector that they share
 * goes. */
static inline void vec_seam_join(vec_seam *s, vec_flow *flow) {
    if (flow->apart == 0 && s->end == flow->to) {
        memcpy(flow->first, s->rest, (size_t)(flow->to - flow->aligned));
        vf_stream((float *)(void *)flow->aligned, vf_load(flow->first));
        flow->apart = -1;
        s->end = NULL;
    }
    vec_seam_flush(s);
}

#endif
