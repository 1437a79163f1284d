/* Mask arrays of a program whose warps hold strips of 16 rows. A tile's keys stand in shared memory in such an order that a thread's
 * numbers of S are those of eight keys that follow each other, of each 32 (attention_ring.cuh, EIGHTS): a thread reads eight
 * elements of a row at once, and none of them passes between threads.
 *
 * MASK_KIND: bool, or TYPE's. MASK_PIECES: rows are such that eight elements may be read at once; else each is read by itself. */
#ifndef INVAR_ATTENTION_MASK_CUH
#define INVAR_ATTENTION_MASK_CUH
#include "attention_strip.cuh"

enum { MASK_BYTES = ADDITIVE ? 2 : 1, MASK_WORDS = 2 * MASK_BYTES }; /* of an element; of eight */

/* This thread's elements of a tile, of two rows. */
struct mask_tile {
    unsigned words[2][KEYS / 32][MASK_WORDS];
};

/* Fragment n of S has this thread's keys from here on, counted from its first. */
__device__ __forceinline__ int key_of(int n) { return n / 4 * 32 + n % 4 * 2; }

/* rows: this thread's two, from its first key on, of which `left` are there. */
__device__ __forceinline__ void read_mask(mask_tile &to, const char *const rows[2], long long step, int left) {
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < KEYS / 32; i++) {
            unsigned *const words = to.words[half][i];
            const int count = left - 32 * i;
#if MASK_PIECES
            (void)step;
            const char *from = rows[half] + i * 32 * MASK_BYTES;
#pragma unroll
            for (int j = 0; j < MASK_WORDS; j++) words[j] = 0;
            if (count <= 0) continue;
#if ADDITIVE
            asm volatile("ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                         : "l"(from)
                         : "memory");
#else
            asm volatile("ld.global.nc.v2.b32 {%0, %1}, [%2];" : "=r"(words[0]), "=r"(words[1]) : "l"(from) : "memory");
#endif
#else
            const char *from = rows[half] + i * 32 * step;
#pragma unroll
            for (int j = 0; j < MASK_WORDS; j++) {
                words[j] = 0;
#pragma unroll
                for (int e = 0; e < 4 / MASK_BYTES; e++) {
                    const int key = j * (4 / MASK_BYTES) + e;
                    if (key >= count) continue;
#if ADDITIVE
                    words[j] |= (unsigned)*(const bits16 *)(from + key * step) << 16 * e;
#else
                    words[j] |= (unsigned)*(const unsigned char *)(from + key * step) << 8 * e;
#endif
                }
            }
#endif
        }
}

/* The element of score i, as it lies: 16 bits, or 8. */
__device__ __forceinline__ unsigned element_of(const mask_tile &by, int i) {
    const int n = i / 4, half = i / 2 % 2, key = n % 4 * 2 + i % 2, each = 4 / MASK_BYTES;
    const unsigned word = by.words[half][n / 4][key / each] >> key % each * 8 * MASK_BYTES;
    return word & (1u << 8 * MASK_BYTES) - 1;
}

/* Whether the elements change nothing: all 0, or all true. Many masks are so nearly everywhere. */
__device__ __forceinline__ bool idle(const mask_tile &by) {
    unsigned words = ADDITIVE ? 0 : 0x01010101;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int i = 0; i < KEYS / 32; i++)
#pragma unroll
            for (int j = 0; j < MASK_WORDS; j++)
                words = ADDITIVE ? words | by.words[half][i][j] : words & by.words[half][i][j];
    return words == (ADDITIVE ? 0 : 0x01010101);
}

/* Brings scores to base 2, but for scale_of, and masks them. Under -infinity a score that is not finite becomes NaN. */
__device__ __forceinline__ void apply_mask(strip &w, const invar_cuda_attention &of, const mask_tile &by) {
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        if (SOFTCAP) w.s[i] = tangent(w.s[i] * of.cap_scale);
        if (ADDITIVE) w.s[i] *= SOFTCAP ? of.cap_height : of.score_scale;
    }
    if (idle(by)) return;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
#if ADDITIVE
        const TYPE element = { (bits16)element_of(by, i) };
        w.s[i] = fmaf(widen(element), LOG2E, w.s[i]);
#else
        if (!element_of(by, i)) w.s[i] = MINUS_INFINITY;
#endif
    }
}

#if ADDITIVE
__device__ __forceinline__ float most_or_nan(float a, float b) {
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
    return most;
}

/* most_of, where a key under -infinity is hidden whatever its score. They are looked at one by one where a score is NaN. row: as in
 * read_mask, of `left` elements. */
__device__ __forceinline__ float most_seen(strip &w, int half, const char *row, long long step, int left) {
    float most = w.m[half];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) most = most_or_nan(most, most_or_nan(w.s[4 * n + 2 * half], w.s[4 * n + 2 * half + 1]));
    if (most == most) return most;
    unsigned hidden = 0;
#pragma unroll 1
    for (int i = 0; i < KEYS / 4; i++) {
        const int key = i / 8 * 32 + i % 8;
        if (key < left && *(const bits16 *)(row + key * step) == unit_of::minus_infinity) hidden |= 1u << i;
    }
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (hidden >> 2 * n + e & 1) w.s[4 * n + 2 * half + e] = MINUS_INFINITY;
    return most_of(w, half);
}
#endif

/* Hides keys that position rules leave out. row, key: the first of this thread. */
__device__ __forceinline__ void limit(strip &w, const masking &by, int row, int key) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half < by.rows ? row + 8 * half : by.rows - 1;
        const key_range range = range_of(*by.of, by.length, r / by.of->group);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = key + key_of(n) + e;
                if (at < range.first || at >= range.last) w.s[4 * n + 2 * half + e] = MINUS_INFINITY;
            }
    }
}

#endif
