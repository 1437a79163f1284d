/* What attention of few query rows on AMX tiles shares between bfloat16 and float16: queries and scores turned, O's accumulators. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_STAGE_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_STAGE_H

#include "cpu/kernels/attention_few_walk.h"
#include "cpu/kernels/attention_tiles.h"

enum { FEW = TILE_SIDE, QUAD = 4 }; /* rows; columns of Sᵀ turned at a time */

/* Parts of a row of K or V that are called ahead for each of `count` pieces of a group of keys. */
static int64_t few_pace(int64_t count) {
    return count ? WALK_PARTS * TILES_KEYS / count * (WALK_IDLE - 1) / WALK_IDLE : 0;
}

/* The work's queries as columns of tiles, 16 pairs of features each. */
static void few_queries(const kernel_state *s) {
    const int64_t depth = tiles_depth(s);
    memset(s->query_rows, 0, sizeof(float) * (size_t)(TILE_SIDE * depth));
    pack_queries(s, 0, s->rows, s->query_rows, depth);
    for (int64_t d = 0; d < depth; d += TILE_SIDE) {
        vf r[VW];
        vf_load_square(r, (const char *)(s->query_rows + d), 4 * depth);
#pragma GCC unroll 16
        for (int i = 0; i < VW; i++) vf_store(s->queries + (d + i) * TILE_SIDE, r[i]);
    }
}

/* The scores of the group at `key` become rows of the stage's. */
static void few_turn(const kernel_state *s, const tiles_stage *stage, int key, const float *turned) {
    for (int r = 0; r < stage->tile.rows; r += QUAD)
        for (int j = 0; j < TILES_KEYS; j += VW) {
            vf column[QUAD];
            vf_load_columns(column, turned + j * TILE_SIDE + r, TILE_SIDE);
#pragma GCC unroll 4
            for (int i = 0; i < QUAD; i++) vf_store(stage->scores + (r + i) * tiles_stride(s) + key + j, column[i]);
        }
}

/* Registers 0 and, with a panel's 16 columns beside, 1: O's part at o, or +0 before the stage's first group. */
VEC_INLINE void few_resume(const kernel_state *s, const tiles_stage *stage, int key, const float *o, bool beside) {
    if (key == stage->from) {
        TILE_ZERO(0);
        TILE_ZERO(1);
    } else {
        TILE_LOAD(0, o, s->width);
        if (beside) TILE_LOAD(1, o + TILE_SIDE, s->width);
    }
}

#endif
