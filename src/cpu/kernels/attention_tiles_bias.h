/* Masks on AMX tiles: products add them to scores.
 *
 * t = scale · log₂e · (s + a / scale), so what a score takes is a / scale. 16 rows × 32 keys of a bfloat16 mask are a left factor
 * where they stand, and a right one is a part of 1 / scale on a diagonal: of each sum over 32 keys one product is not 0. 1 / scale
 * is the sum of one or two bfloat16 numbers, one for D = 16, 64 and 256. No vector instruction is spent, and nothing is stored: a
 * panel of 32 × 32 scores, of 4 products for each 32 features, has 4 or 8 more.
 *
 * -inf would make NaN of the keys beside it: -inf · 0. Where a row's weights come out NaN, the tile is formed again from copies of
 * a panel that have the least finite number instead, which makes t overflow to -inf, and so are the work's other tiles then.
 * Booleans are copied as such numbers, and what cannot be read in place: 2 KiB at a time, which stay in the first-level cache, while
 * copies of whole tiles had to be brought there again.
 *
 * Vectors do the same sums where rows are few, and for numbers of other types: a product of bfloat16 numbers is exact, and what is
 * denormal counts as 0, as it does in TDPBF16PS. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_BIAS_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_BIAS_H

#include "cpu/kernels/attention_tiles_pack.h"

enum { BIAS_PARTS = 2 }; /* of 1 / scale */

/* 1 / scale as a sum of bfloat16 numbers. parts = 0: scores do not take additive values, logits do. */
typedef struct tiles_inverse {
    int parts;
    float part[BIAS_PARTS];
} tiles_inverse;

static float tiles_nearest(double x) {
    const uint16_t bits = invar_bf16_from_float((float)x);
    return invar_float_from_bf16(bits);
}

static tiles_inverse tiles_inverse_of(const invar_attention_call *call) {
    tiles_inverse inverse = { 0 };
    const double x = 1 / call->scale;
    if (PARTS > 1 || call->softcap > 0 || !(x >= 0x1p-20 && x <= 0x1p20)) return inverse;
    inverse.part[0] = tiles_nearest(x);
    inverse.part[1] = tiles_nearest(x - inverse.part[0]);
    inverse.parts = inverse.part[1] == 0 ? 1 : BIAS_PARTS;
    return inverse;
}

/* Scores that have taken additive values, as products do it. */
VEC_INLINE vf tiles_normal(vf x) { return vf_select(vf_lt(vf_abs(x), vf_set1(0x1p-126f)), vf_zero(), x); }
VEC_INLINE vf tiles_biased(vf score, vf a, const tiles_inverse *inverse) {
    const vf hidden = vf_set1(-INFINITY), value = tiles_normal(a);
    for (int i = 0; i < inverse->parts; i++)
        score = tiles_normal(vf_add(score, tiles_normal(vf_mul(value, vf_set1(inverse->part[i])))));
    return vf_select(vf_eq(a, hidden), hidden, score);
}

/* A panel's part of a mask: 32 rows of 32 bfloat16 numbers. */
typedef struct tiles_panel_copy {
    float row[TILES_ROWS][TILE_SIDE];
} __attribute__((aligned(64))) tiles_panel_copy;

/* How products come by a mask: not at all; bfloat16 numbers; booleans. */
typedef enum tiles_way { WAY_NONE, WAY_NUMBERS, WAY_BYTES } tiles_way;

static tiles_way tiles_way_of(const invar_attention_call *call, const tiles_inverse *inverse) {
    const invar_attention_mask_kind form = call->mask.data ? mask_form(call) : INVAR_MASK_NONE;
    if (form == INVAR_MASK_BF16 && inverse->parts) return WAY_NUMBERS;
    return form == INVAR_MASK_BOOL && call->softcap == 0 && call->score_scale > 0 ? WAY_BYTES : WAY_NONE;
}

/* Right factors: a part of what the mask is multiplied by picks keys 0 … 15, and 16 … 31, of 32. For booleans that is a number
 * that makes the least one overflow. */
typedef struct tiles_picks {
    int parts;
    float tile[BIAS_PARTS][2][TILE_SIDE][TILE_SIDE] __attribute__((aligned(64)));
} tiles_picks;

static void tiles_picks_open(tiles_picks *picks, tiles_way way, const tiles_inverse *inverse) {
    picks->parts = way == WAY_NUMBERS ? inverse->parts : way == WAY_BYTES ? 1 : 0;
    for (int i = 0; i < picks->parts; i++) {
        const uint32_t bits = invar_bits_from_float(way == WAY_BYTES ? 0x1p20f : inverse->part[i]);
        memset(picks->tile[i], 0, sizeof picks->tile[i]);
        for (int key = 0; key < TILES_KEYS; key++)
            picks->tile[i][key / TILE_SIDE][key / 2][key % TILE_SIDE] = invar_float_from_bits(key % 2 ? bits : bits >> 16);
    }
}

#endif
