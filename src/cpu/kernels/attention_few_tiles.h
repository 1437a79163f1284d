/* Attention of few query rows in half types on AMX tiles, as in decoding: up to 16 rows, the right factor of one product and the
 * left one of the other. Every byte of K and V is read once, for all of them, from where it stands; memory is kept busy by
 * attention_few_walk.h. The bits are those of attention_tiles.h. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_TILES_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_TILES_H

#if defined(ATTENTION_SPLIT)
#include "cpu/kernels/attention_few_split.h"
#else
#include "cpu/kernels/attention_few_pairs.h"
#endif

/* Weights in place of the scores. */
static void few_softmax(const kernel_state *s, tiles_stage *stage, few_walk *walk) {
    const int units = tiles_units(s, stage);
    const int64_t pace = WALK_PARTS * 2 * s->call->key_block / WALK_IDLE / units;
    while (stage->done < units) {
        tiles_do(s, stage, stage->done + 1);
        walk_on(walk, pace);
    }
}

/* O again where masked keys have brought a NaN into a row. */
static void few_repair(const kernel_state *s, const tiles_stage *stage) {
    bool any = false;
    for (int r = 0; r < stage->tile.rows; r++) any |= row_has_nan(s->fold.part + r * s->width, s->width);
    if (!any) return;
    tiles_open(TILE_SIDE);
    tiles_values(s, stage->values, stage->index * s->call->key_block, stage->tile.low, stage->tile.high);
    tiles_repair(s, stage);
    tiles_open((int)s->rows);
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

static void few_block(tiles_walk *stages, int64_t index, few_walk *walk) {
    const kernel_state *s = stages->s;
    tiles_stage *stage = &stages->stages[0];
    const row_tile *tile = &stage->tile;
    walk_block(walk, s, index);
    if (!tiles_begin(stages, index, 0)) {
        fold_nothing(&s->fold, index, 0, (int)s->rows);
        return;
    }
    few_scores(s, stage, walk);
    few_softmax(s, stage, walk);
    few_sums(s, stage, walk);
    if (tile->masked || stage->from < tile->low || stage->to > tile->high) few_repair(s, stage);
    fold_tile(&s->fold, index, 0, tile->rows);
}

/* All rows of the work, at most FEW. */
static void attend_few(const kernel_state *s) {
    tiles_walk stages; /* calls nothing ahead: few_walk does */
    few_walk walk = walk_open(s);
    tiles_walk_open(&stages, s);
    tiles_open((int)s->rows);
    few_queries(s);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++) few_block(&stages, index, &walk);
    tiles_close();
    if (!s->work->parts) fold_finish(&s->fold, s->rows);
}

#endif
