/* A boolean mask of a tile of many query rows as bits: a word is 32 keys of a row, and a vector of rows' words stand beside each
 * other, so that one test of a vector of words tells which rows see a key. Nothing is turned.
 *
 * Words tell of position rules too: a bit is set where the row sees the key. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_WIDE_BITS_H
#define INVAR_CPU_KERNELS_ATTENTION_WIDE_BITS_H

#include "cpu/kernels/attention_wide_tile.h"

enum { BITS = 32 };

/* Bits of a word of keys key … key+31 that are low … high-1. */
static uint32_t bits_between(int key, int low, int high) {
    const int first = low > key ? low - key : 0, last = high < key + BITS ? high - key : BITS;
    if (first >= last) return 0;
    return (last < BITS ? (1u << last) - 1 : ~0u) & ~((1u << first) - 1);
}

/* The words of a vector of rows for key j. */
VEC_INLINE const uint32_t *bits_of_key(const wide_tile *tile, int vector, int j) {
    return tile->bits + j / BITS * tile->width + vector * VW;
}
VEC_INLINE uint32_t bits_mark(int j) { return 1u << j % BITS; }

/* The word of keys key … key+31 of a row of bytes, of those that lie in low … high-1. */
static uint32_t bits_word(const char *row, int key, int low, int high) {
    char part[BITS] = { 0 };
    if (low <= key && high >= key + BITS) return bits_of_bytes(row + key);
    const int first = low > key ? low : key, last = high < key + BITS ? high : key + BITS;
    if (first >= last) return 0;
    memcpy(part + (first - key), row + first, (size_t)(last - first));
    return bits_of_bytes(part);
}

/* The words of all rows; 0 beside them. True when the mask hides some keys that position leaves. */
static bool bits_of_tile(const kernel_state *s, const wide_tile *tile) {
    const int block = (int)s->call->key_block, width = tile->width;
    uint32_t hidden = 0;
    for (int r = 0; r < width; r++) {
        const int low = r < tile->rows.rows ? tile->rows.first[r] : 0, high = r < tile->rows.rows ? tile->rows.last[r] : 0;
        uint32_t *word = tile->bits + r;
        if (low == 0 && high == block) {
            for (const char *row = tile->mask[r], *end = row + block; row < end; row += BITS, word += width)
                hidden |= ~(*word = bits_of_bytes(row));
            continue;
        }
        for (int key = 0; key < block; key += BITS, word += width) {
            *word = bits_word(tile->mask[r], key, low, high);
            hidden |= bits_between(key, low, high) & ~*word;
        }
    }
    return hidden != 0;
}

/* Rows and keys at either end that the mask hides are left out. */
static void bits_narrow(const kernel_state *s, wide_tile *tile) {
    const int block = (int)s->call->key_block;
    for (int vector = 0; vector < tile->width / VW; vector++) {
        wide_range range = { block, 0 };
        uint32_t seen[VW] = { 0 };
        float lane[VW];
        for (int key = 0; key < block; key += BITS) {
            const uint32_t *words = bits_of_key(tile, vector, key);
            uint32_t any = 0;
            for (int i = 0; i < VW; i++) {
                any |= words[i];
                seen[i] |= words[i];
            }
            if (any == 0) continue;
            if (range.low > key) range.low = key + __builtin_ctz(any);
            range.high = key + BITS - __builtin_clz(any);
        }
        for (int i = 0; i < VW; i++) lane[i] = seen[i] != 0;
        wide_narrow(tile, vector, range, lane);
    }
}

/* True when the tile's rows see all keys that one of them sees. */
static bool bits_idle(const wide_tile *tile) {
    const int low = tile->rows.low, high = tile->rows.high;
    for (int key = low / BITS * BITS; key < high; key += BITS) {
        const uint32_t *words = bits_of_key(tile, 0, key);
        uint32_t all = ~0u;
        for (int r = 0; r < tile->rows.rows; r++) all &= words[r];
        if (~all & bits_between(key, low, high)) return false;
    }
    return true;
}

/* True when the first and the last row see some of the first 32 keys or so that a row sees, and of the last: then few keys are
 * hidden from the tile's rows, as a rule, and nothing is gained by leaving some out. */
static bool bits_open(const kernel_state *s, const wide_tile *tile) {
    const int last = tile->rows.rows - 1;
    if (!wide_plain(s->call)) return false;
    for (int i = 0; i < 2; i++) {
        const uint32_t *words = bits_of_key(tile, 0, i ? tile->rows.high - 1 : tile->rows.low);
        if (words[0] == 0 || words[last] == 0) return false;
    }
    return true;
}

/* -inf in place of the scores of keys from … to-1 that rows of N vectors do not see, and the largest of the others. */
VEC_INLINE void bits_hide_vectors(const kernel_state *s, const wide_tile *tile, int from, int to, const int N, int first) {
    const vf hidden = vf_set1(-INFINITY);
    const int64_t width = tile->width;
    float *grid = s->scores + first * VW, *m = s->fold.part_m + first * VW;
    vf most[WIDE_VECTORS];
    for (int i = 0; i < N; i++) most[i] = vf_load(m + i * VW);
    for (int j = from; j < to; j++) {
        const uint32_t *words = bits_of_key(tile, first, j), mark = bits_mark(j);
        for (int i = 0; i < N; i++) {
            const vf t = vf_select(vm_load_bit(words + i * VW, mark), vf_load(grid + j * width + i * VW), hidden);
            vf_store(grid + j * width + i * VW, t);
            most[i] = vf_max(t, most[i]); /* a NaN does not enter */
        }
    }
    for (int i = 0; i < N; i++) vf_store(m + i * VW, most[i]);
}

static __attribute__((noinline)) void bits_hide(const kernel_state *s, const wide_tile *tile, int from, int to) {
    WIDE_TOGETHER(bits_hide_vectors, tile->width, s, tile, from, to);
}

#endif
