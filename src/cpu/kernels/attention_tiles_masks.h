/* Attention in half types on AMX tiles: the masks of a tile of rows, whose keys they narrow, and where products find them. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_MASKS_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_MASKS_H

#include "cpu/kernels/attention_tiles_rows.h"

/* ---- masks ------------------------------------------------------------------------------------------- */

/* True when additive values hide all keys key … key+15 that lie before `last`. */
VEC_INLINE bool tiles_hidden(const kernel_state *s, const invar_attention_mask_kind form, const char *row, int key, int last) {
    if (form == INVAR_MASK_BOOL && VW == 16 && last - key >= VW) {
        uint64_t halves[2];
        memcpy(halves, row + key, sizeof halves);
        return !(halves[0] | halves[1]);
    }
    return vm_all(vf_eq(tiles_added(s, form, row, key, last), vf_set1(-INFINITY)));
}

/* The row's keys without the vectors at either end that its additive values hide. */
VEC_INLINE void tiles_trim(const kernel_state *s, row_tile *tile, int r, const char *added, const invar_attention_mask_kind form) {
    const int last = tile->last[r];
    int low = tile->first[r], high = last;
    for (int key = low / VW * VW; low < high && tiles_hidden(s, form, added, key, last);) low = key += VW;
    for (int key = (high - 1) / VW * VW; low < high && tiles_hidden(s, form, added, key, last); key -= VW) high = key;
    tile->first[r] = low < high ? low : high;
    tile->last[r] = high;
}

/* True when the additive values change nothing between the keys that the row sees. Only booleans are looked through, and what
 * all rows share: elsewhere it costs what it saves. */
VEC_INLINE bool tiles_idle(const kernel_state *s, const row_tile *tile, int r, const char *added,
                           const invar_attention_mask_kind form) {
    const int first = tile->first[r], last = tile->last[r];
    if (first >= last) return true;
    if (form == INVAR_MASK_BOOL) return !memchr(added + first, 0, (size_t)(last - first));
    if (s->call->mask.row_stride) return false;
    for (int key = first / VW * VW; key < last; key += VW)
        if (!vm_all(vf_eq(tiles_added(s, form, added, key, last), vf_zero()))) return false;
    return true;
}

/* The rows' keys and additive values. A row of the same keys and values as the last one is not looked through again. */
VEC_INLINE void tiles_mask_rows(const kernel_state *s, tiles_stage *stage, int64_t start, const invar_attention_mask_kind form) {
    const bool in_place = mask_form(s->call) != INVAR_MASK_NONE;
    row_tile *tile = &stage->tile;
    const char *before = NULL;
    int first = 0, last = 0;
    for (int r = 0; r < tile->rows; r++) {
        const char *row = mask_of_row(s, tile->row + r) + start * s->call->mask.column_stride, *added = row;
        const bool same = row == before && tile->first[r] == first && tile->last[r] == last;
        before = row, first = tile->first[r], last = tile->last[r];
        if (same) {
            tile->first[r] = tile->first[r - 1];
            tile->last[r] = tile->last[r - 1];
            stage->added[r] = stage->added[r - 1];
            continue;
        }
        if (!in_place) {
            float *copy = stage->mask + r * tiles_stride(s);
            invar_attention_mask_row(s->call, row, 0, last, copy);
            added = (const char *)copy;
        }
        tiles_trim(s, tile, r, added, form);
        stage->added[r] = tiles_idle(s, tile, r, added, form) ? NULL : added;
    }
}

static void tiles_mask(const kernel_state *s, tiles_stage *stage, int64_t start) {
    switch (tiles_form(s->call)) {
    case INVAR_MASK_F16: tiles_mask_rows(s, stage, start, INVAR_MASK_F16); break;
    case INVAR_MASK_BF16: tiles_mask_rows(s, stage, start, INVAR_MASK_BF16); break;
    case INVAR_MASK_BOOL: tiles_mask_rows(s, stage, start, INVAR_MASK_BOOL); break;
    default: tiles_mask_rows(s, stage, start, INVAR_MASK_F32);
    }
}

/* ---- masks that products add ------------------------------------------------------------------------- */

/* Of keys key … key+31 those that are first … last-1, as bits. */
static uint32_t tiles_between(int key, int first, int last) {
    const int low = first > key ? first - key : 0, high = last < key + TILES_KEYS ? last - key : TILES_KEYS;
    if (low >= high) return 0;
    return (~(uint32_t)0 << low) & (~(uint32_t)0 >> (TILES_KEYS - high));
}

/* The mask of keys key … key+31, as products read it: the least finite number for keys that it hides, 0 for those that a row
 * does not see by position, and for booleans that are true. whole: all rows see these keys, and have a mask. Not 0: it hides
 * some. */
VEC_INLINE uint32_t tiles_copy_as(const tiles_stage *stage, int key, tiles_panel_copy *to, const tiles_way way, const bool whole) {
    const row_tile *tile = &stage->tile;
    uint32_t hides = 0;
    for (int r = 0; r < tile->rows; r++) {
        const char *row = stage->added[r];
        const uint32_t kept = whole ? ~(uint32_t)0 : row ? tiles_between(key, tile->first[r], tile->last[r]) : 0;
        vf x = vf_zero();
        if (kept) x = way == WAY_BYTES ? vf_pairs_of_bytes(row + key, kept, &hides) : vf_pairs_finite(row + 2 * key, kept, &hides);
        vf_store(to->row[r], x);
    }
    for (int r = tile->rows; r % TILE_SIDE; r++) vf_store(to->row[r], vf_zero());
    return hides;
}
static uint32_t tiles_copy_panel(const tiles_stage *stage, int key, tiles_panel_copy *to) {
    const bool whole = key >= stage->inner_low && key + TILES_KEYS <= stage->inner_high, bytes = stage->way == WAY_BYTES;
    if (bytes && whole) return tiles_copy_as(stage, key, to, WAY_BYTES, true);
    if (bytes) return tiles_copy_as(stage, key, to, WAY_BYTES, false);
    if (whole) return tiles_copy_as(stage, key, to, WAY_NUMBERS, true);
    return tiles_copy_as(stage, key, to, WAY_NUMBERS, false);
}

/* ---- what is found of a tile ------------------------------------------------------------------------- */

/* Some row has hidden keys at an end; no row's mask changes anything; the copies, once they are made, hide keys. */
typedef enum tiles_finding { FOUND_CLOSED = 1, FOUND_IDLE = 2, FOUND_HOLES = 4 } tiles_finding;

/* The mask of a work's rows that its heads share: the first head's copies and findings, tile by tile of each block. */
typedef struct tiles_shared {
    tiles_panel_copy *panels;
    unsigned char *found;
    int64_t tiles; /* of a block */
} tiles_shared;

static tiles_shared tiles_shared_of(const kernel_state *s) {
    const int64_t tiles = (s->rows + TILES_ROWS - 1) / TILES_ROWS, all = (s->work->block_last - s->work->block_first) * tiles;
    tiles_panel_copy *panels = (tiles_panel_copy *)(void *)s->kept;
    return (tiles_shared){ panels, (unsigned char *)(panels + all * (s->call->key_block / TILES_KEYS)), tiles };
}

/* Where the stage's copies and findings are to be. */
static void tiles_place(const kernel_state *s, const tiles_shared *shared, tiles_stage *stage) {
    const int64_t place = shared ? (stage->index - s->work->block_first) * shared->tiles + stage->tile.row / TILES_ROWS : 0;
    stage->panels = shared ? shared->panels + place * (s->call->key_block / TILES_KEYS) : NULL;
    stage->found = shared ? shared->found + place : &stage->own;
}

/* True where neither the first row nor the last has 16 hidden keys at an end: then few keys are hidden from the tile's rows, as a
 * rule, and nothing is gained by leaving some out. */
VEC_INLINE bool tiles_corners(const kernel_state *s, const tiles_stage *stage, const invar_attention_mask_kind form) {
    const row_tile *tile = &stage->tile;
    const int64_t start = stage->index * s->call->key_block * s->call->mask.column_stride;
    for (int i = 0; i < 2; i++) {
        const int r = i ? tile->rows - 1 : 0, first = tile->first[r], last = tile->last[r];
        const char *row = mask_of_row(s, tile->row + r) + start;
        if (first >= last || tiles_hidden(s, form, row, first, last) ||
            tiles_hidden(s, form, row, last - first < VW ? first : last - VW, last))
            return false;
    }
    return true;
}
static bool tiles_open_corners(const kernel_state *s, const tiles_stage *stage) {
    switch (mask_form(s->call)) {
    case INVAR_MASK_BOOL: return tiles_corners(s, stage, INVAR_MASK_BOOL);
    case INVAR_MASK_BF16: return tiles_corners(s, stage, INVAR_MASK_BF16);
    case INVAR_MASK_F16: return tiles_corners(s, stage, INVAR_MASK_F16);
    default: return false;
    }
}

/* True when the mask hides some key from the first row, and so from others, as a rule. */
static bool tiles_holes(const kernel_state *s, const tiles_stage *stage) {
    const row_tile *tile = &stage->tile;
    const char *row = mask_of_row(s, tile->row) + 2 * stage->index * s->call->key_block;
    vm holes = vm_first(0);
    for (int key = tile->first[0]; key < tile->last[0]; key += VW)
        holes = vm_or(holes, vf_eq(tiles_added(s, INVAR_MASK_BF16, row, key, tile->last[0]), vf_set1(-INFINITY)));
    return vm_any(holes);
}

/* True where numbers can be read where they stand: whole tiles of rows, all of whose keys are there, none hidden as far as one row
 * tells. */
static bool tiles_stands(const kernel_state *s, const tiles_stage *stage) {
    return stage->way == WAY_NUMBERS && s->call->group == 1 && stage->tile.rows % TILE_SIDE == 0 &&
           stage->index * s->call->key_block + stage->to <= s->call->key_len && !tiles_holes(s, stage);
}

/* True where no row's mask changes anything. */
static bool tiles_all_idle(const kernel_state *s, const tiles_stage *stage) {
    for (int r = 0; r < stage->tile.rows; r++) {
        bool idle = false;
        switch (mask_form(s->call)) {
        case INVAR_MASK_BOOL: idle = tiles_idle(s, &stage->tile, r, stage->added[r], INVAR_MASK_BOOL); break;
        case INVAR_MASK_BF16: idle = tiles_idle(s, &stage->tile, r, stage->added[r], INVAR_MASK_BF16); break;
        default: idle = tiles_idle(s, &stage->tile, r, stage->added[r], INVAR_MASK_F16);
        }
        if (!idle) return false;
    }
    return true;
}

/* All rows' masks, of which nothing is left out but all. The first head looks. */
static void tiles_open_rows(const kernel_state *s, tiles_stage *stage) {
    const int64_t start = stage->index * s->call->key_block * s->call->mask.column_stride;
    const char *row = mask_of_row(s, stage->tile.row) + start;
    for (int r = 0; r < stage->tile.rows; r++, row += s->call->mask.row_stride)
        stage->added[r] = s->call->group == 1 ? row : mask_of_row(s, stage->tile.row + r) + start;
    if (!stage->copied && tiles_all_idle(s, stage)) *stage->found |= FOUND_IDLE;
    if (!(*stage->found & FOUND_IDLE)) return;
    for (int r = 0; r < stage->tile.rows; r++) stage->added[r] = NULL;
}

/* True when some rows do not see all of the tile's keys, other than by copies. */
static bool tiles_partial(const row_tile *tile) {
    int part = 0;
    for (int r = 0; r < tile->rows; r++) part |= (tile->first[r] > tile->low) | (tile->last[r] < tile->high);
    return part != 0;
}

/* What products take of the mask, if anything, and where all rows see it. */
static void tiles_look(tiles_stage *stage) {
    const row_tile *tile = &stage->tile;
    bool all = true;
    stage->takes = false;
    stage->inner_low = 0;
    stage->inner_high = INT32_MAX;
    for (int r = 0; r < tile->rows; r++) {
        stage->takes |= stage->added[r] != NULL;
        all &= stage->added[r] != NULL;
        if (tile->first[r] > stage->inner_low) stage->inner_low = tile->first[r];
        if (tile->last[r] < stage->inner_high) stage->inner_high = tile->last[r];
    }
    if (!all) stage->inner_high = 0;
}

/* Scores of keys that the mask hides become -inf, whatever they were. */
static void tiles_hide_masked(const kernel_state *s, const tiles_stage *stage) {
    const vf hidden = vf_set1(-INFINITY);
    for (int r = 0; r < stage->tile.rows; r++) {
        const char *added = stage->added[r];
        float *row = stage->scores + r * tiles_stride(s);
        for (int key = tiles_down(stage->tile.first[r]); added && key < stage->tile.last[r]; key += VW) {
            const vf a = stage->way == WAY_BYTES ? tiles_added(s, INVAR_MASK_BOOL, added, key, stage->tile.last[r])
                                                 : tiles_added(s, INVAR_MASK_BF16, added, key, stage->tile.last[r]);
            vf_store(row + key, vf_select(vf_eq(a, hidden), hidden, vf_load(row + key)));
        }
    }
}

static bool tiles_has_nan(const tiles_stage *stage) {
    int nan = 0;
    for (int r = 0; r < stage->tile.rows; r++) nan |= stage->sum[r] != stage->sum[r];
    return nan != 0;
}

#endif
