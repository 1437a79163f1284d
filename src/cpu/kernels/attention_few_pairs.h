/* Scores and O of few query rows in bfloat16 on AMX tiles.
 *
 * S: Sᵀ = K Qᵀ. 16 rows of K are a left factor as they stand, Q is turned once for all keys: a pair's product is the same
 * whichever factor is which, and so is the order of their sum. For 32 keys × 32 features (2 KB) 3 tile loads and 2 products.
 * A tile of Sᵀ is turned through memory, one group of keys later than it is stored, four columns at a time.
 *
 * O = P V: two rows of V become a row of pairs by one shuffle a vector, in a buffer of 64 · Dv bytes, which its products read
 * one group of 32 keys later, since a tile load waits until the stores that it reads have left for the cache. 2 loads, 2
 * shuffles and 2 stores for 128 bytes of V; the shuffle's order of columns is put right once a block. The accumulators have as
 * many rows as there are queries, so that they go through memory between two groups at little cost.
 *
 * At D = 128 and four rows that is, for 256 keys (128 KB): 96 tile loads and 64 products of 16 to 20 cycles for S; 1024 loads,
 * shuffles and stores, 64 products and 64 tile loads of 16 rows for O. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_PAIRS_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_PAIRS_H

#include "cpu/kernels/attention_few_stage.h"

enum { GROUP_PAIRS = TILES_KEYS / 2 }; /* pairs of keys of a group */

/* The group of rows of x from `key` on: where it stands, or copied, filled up with zeros to `columns` numbers and 32 rows. */
static pack_source few_rows(const kernel_state *s, const pack_source *x, int64_t key, int64_t numbers, int64_t columns,
                            float *copy) {
    const int64_t rows = s->length - key < TILES_KEYS ? s->length - key : TILES_KEYS, stride = columns / 2;
    pack_source group = { .data = x->data + key * x->row_stride, .type = INVAR_BF16, .row_stride = x->row_stride };
    if (rows == TILES_KEYS && numbers == columns && element_in_place(x, numbers)) return group;
    memset(copy, 0, sizeof *copy * (size_t)(TILES_KEYS * stride));
    element_pack_rows(copy, stride, x, key, key + rows, numbers);
    group.data = (const char *)copy;
    group.row_stride = 4 * stride;
    return group;
}

/* A group's pairs of features from d on, where they are fewer than a tile's. */
static void few_rest(const kernel_state *s, const float *k, int64_t stride, int64_t d, float *rest) {
    for (int r = 0; r < TILES_KEYS; r++) vf_store(rest + r * TILE_SIDE, vf_load_n(k + r * stride + d, (int)(s->depth - d)));
}

/* Scores of a group of keys, a key's 16 after the other. */
static void few_group_scores(const kernel_state *s, const pack_source *k, float *turned, few_walk *walk) {
    const float *data = (const float *)(const void *)k->data;
    const int64_t pace = few_pace(tiles_depth(s) / TILE_SIDE), whole = s->depth / TILE_SIDE * TILE_SIDE;
    int64_t stride = k->row_stride / 4;
    float rest[TILES_KEYS * TILE_SIDE] __attribute__((aligned(64)));
    if (whole < s->depth) few_rest(s, data, stride, whole, rest);
    TILE_FENCE();
    TILE_ZERO(3);
    TILE_ZERO(4);
    for (int64_t d = 0; d < s->depth; d += TILE_SIDE, data += TILE_SIDE) {
        if (d == whole) data = rest, stride = TILE_SIDE;
        TILE_LOAD(7, s->queries + d * TILE_SIDE, TILE_SIDE);
        TILE_LOAD(5, data, stride);
        TILE_DOT(3, 5, 7);
        TILE_LOAD(6, data + TILE_SIDE * stride, stride);
        TILE_DOT(4, 6, 7);
        walk_on(walk, pace);
    }
    TILE_STORE(3, turned, TILE_SIDE);
    TILE_STORE(4, turned + TILE_SIDE * TILE_SIDE, TILE_SIDE);
    TILE_FENCE();
}

static void few_scores(const kernel_state *s, const tiles_stage *stage, few_walk *walk) {
    const int64_t start = stage->index * s->call->key_block;
    float turned[2][TILES_KEYS * TILE_SIDE] __attribute__((aligned(64)));
    for (int key = stage->from; key < stage->to; key += TILES_KEYS) {
        const pack_source k = few_rows(s, &s->k, start + key, s->call->key_dim, 2 * s->depth, s->query_rows);
        few_group_scores(s, &k, turned[key / TILES_KEYS % 2], walk);
        if (key > stage->from) few_turn(s, stage, key - TILES_KEYS, turned[(key / TILES_KEYS + 1) % 2]);
    }
    few_turn(s, stage, stage->to - TILES_KEYS, turned[(stage->to / TILES_KEYS + 1) % 2]);
}

/* ---- O ----------------------------------------------------------------------------------------------- */

/* A group of V's rows as pairs in panels of 32 columns, in the order of vf_pairs_load_mixed; the last panel perhaps of 16. */
static void few_pair(const kernel_state *s, const pack_source *v, float *pairs, few_walk *walk) {
    const int64_t whole = s->width / TILES_PANEL * TILES_PANEL, pace = few_pace(2 * GROUP_PAIRS);
    for (int64_t j = 0; j < GROUP_PAIRS; j++) {
        const uint16_t *low = (const uint16_t *)(const void *)(v->data + 2 * j * v->row_stride);
        const uint16_t *high = (const uint16_t *)(const void *)((const char *)low + v->row_stride);
        float *to = pairs + j * TILES_PANEL;
        for (int64_t c = 0; c < whole; c += TILES_PANEL) {
            vf first, second;
            vf_pairs_load_mixed(low + c, high + c, &first, &second);
            vf_store(to + c * GROUP_PAIRS, first);
            vf_store(to + c * GROUP_PAIRS + VW, second);
        }
        if (whole < s->width) vf_store(pairs + whole * GROUP_PAIRS + j * VW, vf_pairs_load(low + whole, high + whole));
        walk_on(walk, pace);
    }
}

/* The weights of the group at `key` times its pairs, onto the part of O. */
static void few_group_sums(const kernel_state *s, const tiles_stage *stage, int key, const float *pairs, few_walk *walk) {
    const int64_t pace = few_pace(2 * s->width / TILE_SIDE);
    TILE_FENCE();
    TILE_LOAD(2, stage->scores + key / 2, tiles_stride(s));
    for (int64_t c = 0; c < s->width; c += TILES_PANEL) {
        const int64_t panel = tiles_panel_width(c, s->width);
        const bool beside = panel == TILES_PANEL;
        const float *b = pairs + c * GROUP_PAIRS;
        float *o = s->fold.part + c;
        few_resume(s, stage, key, o, beside);
        TILE_LOAD(5, b, panel);
        TILE_DOT(0, 2, 5);
        TILE_STORE(0, o, s->width);
        walk_on(walk, pace);
        if (!beside) continue;
        TILE_LOAD(6, b + TILE_SIDE, panel);
        TILE_DOT(1, 2, 6);
        TILE_STORE(1, o + TILE_SIDE, s->width);
        walk_on(walk, pace);
    }
    TILE_FENCE();
}

/* Whole panels of O in order. */
static void few_order(const kernel_state *s, int rows) {
    for (int r = 0; r < rows; r++)
        for (int64_t c = 0; c + TILES_PANEL <= s->width; c += TILES_PANEL) {
            float *o = s->fold.part + r * s->width + c;
            vf first = vf_load(o), second = vf_load(o + VW);
            vf_pairs_order(&first, &second);
            vf_store(o, first);
            vf_store(o + VW, second);
        }
}

static void few_sums(const kernel_state *s, const tiles_stage *stage, few_walk *walk) {
    const int64_t start = stage->index * s->call->key_block, size = GROUP_PAIRS * s->width;
    float *const pairs[2] = { s->values, s->call->key_block > TILES_KEYS ? s->values + size : s->values };
    float *const copy = pairs[1] + size;
    for (int key = stage->from; key < stage->to; key += TILES_KEYS) {
        const pack_source v = few_rows(s, &s->v, start + key, s->call->value_dim, s->width, copy);
        few_pair(s, &v, pairs[key / TILES_KEYS % 2], walk);
        if (key > stage->from) few_group_sums(s, stage, key - TILES_KEYS, pairs[(key / TILES_KEYS + 1) % 2], walk);
    }
    few_group_sums(s, stage, stage->to - TILES_KEYS, pairs[(stage->to / TILES_KEYS + 1) % 2], walk);
    few_order(s, stage->tile.rows);
}

#endif
