/* Q, K and V as factors of products on AMX tiles: Q and rows of P as left ones, K and V as panels of 32 columns. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_PACK_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_PACK_H

#include "cpu/kernels/attention_state.h"

/* Rows of a tile; keys that a product of S or a group of O takes; columns of a panel. */
enum { TILES_ROWS = 2 * TILE_SIDE, TILES_KEYS = 2 * TILE_SIDE, TILES_PANEL = 2 * TILE_SIDE };

static int tiles_up(int key) { return (key + TILES_KEYS - 1) / TILES_KEYS * TILES_KEYS; }
static int tiles_down(int key) { return key / TILES_KEYS * TILES_KEYS; }
/* Elements of a row of Q or K, filled up to whole tiles: the stride of Q's copy, and the rows of K turned. */
static int64_t tiles_depth(const kernel_state *s) { return (s->depth + TILE_SIDE - 1) / TILE_SIDE * TILE_SIDE; }

/* Elements of a row of weights, and of a column of V, for so many keys, whole groups. */
static int64_t tiles_rows(int64_t keys) { return keys / NUMBERS * PARTS; }

/* Floats from one row of scores or of a mask to the next: one line more than a block, since rows that lie 4096 bytes apart would
 * make loads of one wait for stores of the other. */
static int64_t tiles_stride(const kernel_state *s) { return s->call->key_block + TILE_SIDE; }

/* Columns of the panel at column c of `columns`, and where it begins, in panels of so many rows. */
static int64_t tiles_panel_width(int64_t c, int64_t columns) { return columns - c < TILES_PANEL ? columns - c : TILES_PANEL; }
static float *tiles_panel(float *panels, int64_t rows, int64_t c) { return panels + c / TILES_PANEL * TILES_PANEL * rows; }

/* VW rows of VW elements as columns of a panel. */
VEC_INLINE void tiles_square(float *to, const char *from, int64_t stride) {
    vf r[VW];
    vf_load_square(r, from, stride);
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) vf_store(to + i * TILES_PANEL, r[i]);
}

/* Keys first … last-1 of the block at `start` as columns of K turned; the columns beside them, to whole panels, are 0. */
static void tiles_keys(const kernel_state *s, float *keys, int64_t start, int first, int last) {
    const int64_t stride = pack_width(s->depth);
    const bool in_place = element_in_place(&s->k, s->call->key_dim);
    for (int key = tiles_down(first); key < tiles_up(last); key += VW) {
        const int rows = last - key > VW ? VW : last > key ? last - key : 0;
        pack_source k = s->k;
        const char *from = k.data + (start + key) * k.row_stride;
        if (!in_place) {
            element_pack_rows(s->query_rows, stride, &k, start + key, start + key + rows, s->call->key_dim);
            k.row_stride = 4 * stride;
            from = (const char *)s->query_rows;
        }
        k.column_stride = 4;
        float *to = tiles_panel(keys, tiles_depth(s), key) + key % TILES_PANEL;
        int64_t d = 0;
        for (; rows == VW && d + VW <= s->depth; d += VW) tiles_square(to + d * TILES_PANEL, from + 4 * d, k.row_stride);
        for (; d < s->depth; d += VW)
            pack_square(INVAR_F32, true, to + d * TILES_PANEL, TILES_PANEL, from + 4 * d, &k, rows,
                        s->depth - d < VW ? (int)(s->depth - d) : VW);
    }
}

/* The same keys of V as groups of rows; those beside them, to whole groups, are 0. */
static void tiles_values(const kernel_state *s, float *values, int64_t start, int first, int last) {
    const int64_t columns = s->call->value_dim;
    for (int64_t c = 0; c < s->width; c += TILES_PANEL) {
        const int64_t width = tiles_panel_width(c, s->width);
        float *panel = tiles_panel(values, tiles_rows(s->call->key_block), c);
        pack_source v = s->v;
        v.data += c * v.column_stride;
        for (int key = tiles_down(first); key < last; key += TILES_KEYS)
            element_pack_group(panel + tiles_rows(key) * width, width, &v, start + key, first > key ? first - key : 0,
                               last - key < TILES_KEYS ? last - key : TILES_KEYS, columns - c < width ? columns - c : width);
    }
}

/* The work's queries; rows and pairs that fill up tiles are 0, in K's copies too. */
static void tiles_queries(const kernel_state *s) {
    const int64_t depth = tiles_depth(s), rows = (s->rows + TILE_SIDE - 1) / TILE_SIDE * TILE_SIDE;
    if (depth != s->depth) memset(s->queries, 0, sizeof(float) * (size_t)(s->rows * depth));
    memset(s->queries + s->rows * depth, 0, sizeof(float) * (size_t)((rows - s->rows) * depth));
    pack_queries(s, 0, s->rows, s->queries, depth);
    for (int64_t key = 0; key < s->span * s->call->key_block; key += TILES_PANEL)
        memset(tiles_panel(s->keys, depth, key) + s->depth * TILES_PANEL, 0,
               sizeof(float) * (size_t)((depth - s->depth) * TILES_PANEL));
}

#endif
