/* Scores and O of few query rows in float16 on AMX tiles, each number in two parts (attention_split.h).
 *
 * K and V go by squares of 32 keys × 32 features: 2 KB become 4 tiles of 1 KB, which products read one square later, since a tile
 * load waits until the stores that it reads have left for the cache. A square takes some 14 operations for 32 numbers, 450 in
 * all, of which two a cycle are done; its products are chains of 4 (scores) or 3 (O) in each of two accumulators, 52 cycles a
 * link. So a quarter, or a third, of a square is parted after each two products, and both go on side by side.
 *
 * S: Sᵀ = K Qᵀ, as of bfloat16 (attention_few_pairs.h). */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_SPLIT_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_SPLIT_H

#include "cpu/kernels/attention_few_stage.h"

/* Floats of a tile, and of a square in parts, of which there are two: one is multiplied while the next is parted. */
enum { FEW_TILE = TILE_SIDE * TILE_SIDE, FEW_SQUARE = 4 * FEW_TILE };

/* A square of K or V: where it stands in memory, its rows and columns that exist, and its parts. */
typedef struct few_square {
    pack_source x; /* data: its row 0 */
    int rows;
    int64_t columns;
    bool whole; /* contiguous, 32 rows and columns */
    float *parts;
} few_square;

/* Square i of x from key `start` on, `across` of them side by side, its parts in one of two places. */
static few_square few_square_of(const kernel_state *s, const pack_source *x, int64_t start, int64_t i, int64_t across,
                                int64_t columns, float parts[2][FEW_SQUARE]) {
    const int64_t key = start + i / across * TILES_KEYS, c = i % across * TILES_PANEL;
    few_square f = { .x = *x, .columns = columns - c, .parts = parts[i % 2] };
    f.x.data += key * x->row_stride + c * x->column_stride;
    f.rows = s->length - key < TILES_KEYS ? (int)(s->length - key) : TILES_KEYS;
    f.whole = pack_contiguous(x) && f.rows == TILES_KEYS && f.columns >= TILES_PANEL;
    return f;
}

/* VW numbers of row `row` of a square, which is at `from`. */
VEC_INLINE vf few_numbers(const few_square *f, const bool whole, const char *from, int row, int64_t c) {
    if (whole) return vf_load_f16((const uint16_t *)(const void *)from + c);
    return split_load(pack_contiguous(&f->x), &f->x, row < f->rows ? from : NULL, c, f->columns);
}

/* Rows first … last-1 of a square of K: 32 of leading parts, then 32 of rests. */
VEC_INLINE void few_part_keys_of(const few_square *f, const bool whole, int first, int last) {
    const int64_t stride = f->x.row_stride;
    const char *from = f->x.data + first * stride;
    float *to = f->parts + first * TILE_SIDE;
    for (int j = first; j < last; j++, from += stride, to += TILE_SIDE)
        split_store(to, to + 2 * FEW_TILE, few_numbers(f, whole, from, j, 0), few_numbers(f, whole, from, j, VW), false);
}
static void few_part_keys(const few_square *f, int first, int last) {
    if (f->whole) few_part_keys_of(f, true, first, last);
    else few_part_keys_of(f, false, first, last);
}

/* Pairs first … last-1 of rows of a square of V: 16 pairs of leading parts, then 16 of rests. */
VEC_INLINE void few_part_values_of(const few_square *f, const bool whole, int first, int last) {
    const int64_t stride = f->x.row_stride;
    const char *from = f->x.data + first * stride;
    float *to = f->parts + first * TILES_PANEL;
    for (int j = first; j < last; j++, from += stride, to += TILES_PANEL)
        for (int64_t c = 0; c < TILES_PANEL; c += VW)
            split_store(to + c, to + c + 2 * FEW_TILE, few_numbers(f, whole, from, j, c),
                        few_numbers(f, whole, from + VW * stride, j + VW, c), true);
}
static void few_part_values(const few_square *f, int first, int last) {
    if (f->whole) few_part_values_of(f, true, first, last);
    else few_part_values_of(f, false, first, last);
}

/* ---- S ----------------------------------------------------------------------------------------------- */

/* Two tiles of keys at p; their products with queries, and a quarter of the next square. */
#define FEW_KEYS(p)                                     \
    do {                                                \
        TILE_LOAD(5, p, TILE_SIDE);                     \
        TILE_LOAD(6, (p) + FEW_TILE, TILE_SIDE);        \
    } while (0)
#define FEW_DOT_KEYS(quarter)                                                             \
    do {                                                                                  \
        TILE_DOT(3, 5, 7);                                                                \
        TILE_DOT(4, 6, 7);                                                                \
        if (next) few_part_keys(next, 8 * (quarter), 8 * (quarter) + 8);                  \
    } while (0)

/* Scores of a square onto those of the squares before it; q: the queries' tiles. next: NULL where there is none. */
static void few_square_scores(const float *parts, const float *q, const few_square *next) {
    const float *rests = parts + 2 * FEW_TILE;
    TILE_LOAD(7, q + FEW_TILE, TILE_SIDE);
    FEW_KEYS(rests);
    FEW_DOT_KEYS(0);
    FEW_KEYS(parts);
    FEW_DOT_KEYS(1);
    TILE_LOAD(7, q, TILE_SIDE);
    FEW_DOT_KEYS(2);
    FEW_KEYS(rests);
    FEW_DOT_KEYS(3);
}

static void few_scores(const kernel_state *s, const tiles_stage *stage, few_walk *walk) {
    const int64_t start = stage->index * s->call->key_block + stage->from, across = tiles_depth(s) / TILES_PANEL;
    const int64_t squares = (stage->to - stage->from) / TILES_KEYS * across, pace = few_pace(across);
    for (int r = 0; r < stage->tile.rows && across == 0; r++)
        memset(stage->scores + r * tiles_stride(s) + stage->from, 0, sizeof(float) * (size_t)(stage->to - stage->from));
    if (across == 0) return;
    float turned[2][TILES_KEYS * TILE_SIDE] __attribute__((aligned(64)));
    float parts[2][FEW_SQUARE] __attribute__((aligned(64)));
    few_square next = few_square_of(s, &s->k, start, 0, across, s->call->key_dim, parts);
    few_part_keys(&next, 0, TILES_KEYS);
    for (int64_t i = 0; i < squares; i++) {
        const int64_t group = i / across, at = i % across;
        const bool more = i + 1 < squares;
        if (more) next = few_square_of(s, &s->k, start, i + 1, across, s->call->key_dim, parts);
        TILE_FENCE();
        if (at == 0) TILE_ZERO(3);
        if (at == 0) TILE_ZERO(4);
        few_square_scores(parts[i % 2], s->queries + at * PARTS * FEW_TILE, more ? &next : NULL);
        walk_on(walk, pace);
        if (at + 1 < across) continue;
        TILE_STORE(3, turned[group % 2], TILE_SIDE);
        TILE_STORE(4, turned[group % 2] + FEW_TILE, TILE_SIDE);
        TILE_FENCE();
        if (group > 0) few_turn(s, stage, stage->from + (int)(group - 1) * TILES_KEYS, turned[(group + 1) % 2]);
    }
    few_turn(s, stage, stage->to - TILES_KEYS, turned[(squares / across + 1) % 2]);
}

/* ---- O ----------------------------------------------------------------------------------------------- */

#define FEW_VALUES(p)                                                   \
    do {                                                                \
        TILE_LOAD(5, p, TILES_PANEL);                                   \
        if (beside) TILE_LOAD(6, (p) + TILE_SIDE, TILES_PANEL);         \
    } while (0)
#define FEW_DOT_VALUES(first, last)                         \
    do {                                                    \
        TILE_DOT(0, 2, 5);                                  \
        if (beside) TILE_DOT(1, 2, 6);                      \
        if (next) few_part_values(next, first, last);       \
    } while (0)

/* The part of O from column c on: onto it, the weights of the group at `key` times a square of V. */
static void few_square_sums(const kernel_state *s, const tiles_stage *stage, int key, int64_t c, const float *parts,
                            const few_square *next) {
    const bool beside = s->width - c > TILE_SIDE;
    const float *weights = stage->scores + tiles_rows(key);
    const int64_t row = tiles_stride(s);
    float *o = s->fold.part + c;
    few_resume(s, stage, key, o, beside);
    FEW_VALUES(parts);
    TILE_LOAD(2, weights + TILE_SIDE, row);
    FEW_DOT_VALUES(0, 5);
    TILE_LOAD(2, weights, row);
    FEW_DOT_VALUES(5, 10);
    FEW_VALUES(parts + 2 * FEW_TILE);
    FEW_DOT_VALUES(10, VW);
    TILE_STORE(0, o, s->width);
    if (beside) TILE_STORE(1, o + TILE_SIDE, s->width);
}

static void few_sums(const kernel_state *s, const tiles_stage *stage, few_walk *walk) {
    const int64_t start = stage->index * s->call->key_block + stage->from, across = (s->width + TILES_PANEL - 1) / TILES_PANEL;
    const int64_t squares = (stage->to - stage->from) / TILES_KEYS * across, pace = few_pace(across);
    if (squares == 0) return;
    float parts[2][FEW_SQUARE] __attribute__((aligned(64)));
    few_square next = few_square_of(s, &s->v, start, 0, across, s->call->value_dim, parts);
    few_part_values(&next, 0, VW);
    for (int64_t i = 0; i < squares; i++) {
        const bool more = i + 1 < squares;
        if (more) next = few_square_of(s, &s->v, start, i + 1, across, s->call->value_dim, parts);
        TILE_FENCE();
        few_square_sums(s, stage, stage->from + (int)(i / across) * TILES_KEYS, i % across * TILES_PANEL, parts[i % 2],
                        more ? &next : NULL);
        walk_on(walk, pace);
    }
    TILE_FENCE();
}

#endif
