/* Attention in bfloat16 on AMX tiles, for many query rows and few: a vector holds keys.
 *
 * Work goes by tiles of up to 32 query rows against one block of keys: S = Q Kᵀ, weights in place of scores, O = P V. A tile's
 * scores, 32 KiB, stay in the first-level cache. Pairs of features of K are turned to rows and rows of V paired once a block,
 * for all tiles of the work; after that Q, P and masks are used as they stand, since a row of P is a row of a left factor.
 * Both right factors lie in panels of 32 columns, the last one perhaps of 16, so that a product reads ascending addresses.
 *
 * Registers: 2×2 accumulators (0–3), two tiles of the left factor (4, 5), two of the right (6, 7). A step is 4 loads of 16 rows
 * and 4 products of 16 cycles each. Two of the loads, 2 KiB in one piece, would come from the second-level cache at some 10
 * cycles a line and be the bound; a step calls what the next ones read into the first level. For 32 rows, 256 keys and D = 128
 * the products are 4096 cycles; the weights of 512 vectors take 7 cycles each at least. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_H

#include "cpu/kernels/attention_state.h"
#include "cpu/vec/stream.h"

/* Rows of a tile; keys that a product of S or a group of O takes; columns of a panel; steps that its lines are called ahead. */
enum { TILES_ROWS = 2 * TILE_SIDE, TILES_KEYS = 2 * TILE_SIDE, TILES_PANEL = 2 * TILE_SIDE, TILES_AHEAD = 1 };

static int tiles_up(int key) { return (key + TILES_KEYS - 1) / TILES_KEYS * TILES_KEYS; }
static int tiles_down(int key) { return key / TILES_KEYS * TILES_KEYS; }
/* Pairs of a row of Q or K, filled up to whole tiles: the stride of Q's copy, and the rows of K turned. */
static int64_t tiles_depth(const kernel_state *s) { return (s->depth + TILE_SIDE - 1) / TILE_SIDE * TILE_SIDE; }

/* Columns of the panel at column c of `columns`, and where it begins, in panels of so many rows. */
static int64_t tiles_panel_width(int64_t c, int64_t columns) { return columns - c < TILES_PANEL ? columns - c : TILES_PANEL; }
static float *tiles_panel(float *panels, int64_t rows, int64_t c) { return panels + c / TILES_PANEL * TILES_PANEL * rows; }

/* ---- packing ----------------------------------------------------------------------------------------- */

/* VW rows of VW elements as columns of a panel. */
VEC_INLINE void tiles_square(float *to, const char *from, int64_t stride) {
    vf r[VW];
    vf_load_square(r, from, stride);
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) vf_store(to + i * TILES_PANEL, r[i]);
}

/* Keys first … last-1 of the block at `start` as columns of K turned; the columns beside them, to whole panels, are 0. */
static void tiles_keys(const kernel_state *s, int64_t start, int first, int last) {
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
        float *to = tiles_panel(s->keys, tiles_depth(s), key) + key % TILES_PANEL;
        int64_t d = 0;
        for (; rows == VW && d + VW <= s->depth; d += VW) tiles_square(to + d * TILES_PANEL, from + 4 * d, k.row_stride);
        for (; d < s->depth; d += VW)
            pack_square(INVAR_F32, true, to + d * TILES_PANEL, TILES_PANEL, from + 4 * d, &k, rows,
                        s->depth - d < VW ? (int)(s->depth - d) : VW);
    }
}

/* The same keys of V as pairs of rows; those beside them, to whole groups, are 0. */
static void tiles_values(const kernel_state *s, int64_t start, int first, int last) {
    const int from = tiles_down(first) / 2, to = tiles_up(last) / 2, low = first / 2, high = (last + 1) / 2;
    const int64_t columns = s->call->value_dim;
    for (int64_t c = 0; c < s->width; c += TILES_PANEL) {
        const int64_t width = tiles_panel_width(c, s->width);
        float *panel = tiles_panel(s->values, s->call->key_block / 2, c);
        pack_source v = s->v;
        v.data += c * v.column_stride;
        memset(panel + from * width, 0, sizeof(float) * (size_t)((low - from) * width));
        element_pack_pairs(panel, width, &v, start, first, last, columns - c < width ? columns - c : width);
        memset(panel + high * width, 0, sizeof(float) * (size_t)((to - high) * width));
    }
}

/* The work's queries; rows and pairs that fill up tiles are 0, in K's copy too. */
static void tiles_queries(const kernel_state *s) {
    const int64_t depth = tiles_depth(s), rows = (s->rows + TILE_SIDE - 1) / TILE_SIDE * TILE_SIDE;
    if (depth != s->depth) memset(s->queries, 0, sizeof(float) * (size_t)(s->rows * depth));
    memset(s->queries + s->rows * depth, 0, sizeof(float) * (size_t)((rows - s->rows) * depth));
    pack_queries(s, 0, s->rows, s->queries, depth);
    for (int64_t key = 0; key < s->call->key_block; key += TILES_PANEL)
        memset(tiles_panel(s->keys, depth, key) + s->depth * TILES_PANEL, 0,
               sizeof(float) * (size_t)((depth - s->depth) * TILES_PANEL));
}

/* ---- products ---------------------------------------------------------------------------------------- */

/* A left factor's rows, a right factor's panels, and where their product goes: `steps` tiles of depth. */
typedef struct tiles_factors {
    const float *a, *b;
    float *c;
    int64_t a_row, c_row, steps;
    int64_t panel; /* floats from one panel of b to the next */
} tiles_factors;

/* Calls so many lines from p on into the first-level cache. */
VEC_INLINE void tiles_call(const float *p, const int lines) {
#pragma GCC unroll 16
    for (int i = 0; i < lines; i++) vec_prefetch(p + i * TILE_SIDE, false);
}

/* One panel's product. The flags are constants where this is inlined: whether there are 32 rows rather than 16, and 32 columns. */
VEC_INLINE void tiles_product(const tiles_factors *x, const bool below, const bool beside) {
    const int64_t b_row = beside ? 2 * TILE_SIDE : TILE_SIDE;
    const float *a = x->a, *b = x->b;
    TILE_ZERO(0);
    if (beside) TILE_ZERO(1);
    if (below) TILE_ZERO(2);
    if (below && beside) TILE_ZERO(3);
    for (int64_t i = 0; i < x->steps; i++, a += TILE_SIDE, b += TILE_SIDE * b_row) {
        TILE_LOAD(6, b, b_row);
        TILE_LOAD(4, a, x->a_row);
        TILE_DOT(0, 4, 6);
        tiles_call(b + TILES_AHEAD * TILE_SIDE * b_row, TILE_SIDE);
        if (below) TILE_LOAD(5, a + TILE_SIDE * x->a_row, x->a_row);
        if (below) TILE_DOT(2, 5, 6);
        if (beside) TILE_LOAD(7, b + TILE_SIDE, b_row);
        if (beside) TILE_DOT(1, 4, 7);
        if (beside) tiles_call(b + (TILES_AHEAD * TILE_SIDE + TILE_SIDE / 2) * b_row, TILE_SIDE);
        if (below && beside) TILE_DOT(3, 5, 7);
    }
    TILE_STORE(0, x->c, x->c_row);
    if (beside) TILE_STORE(1, x->c + TILE_SIDE, x->c_row);
    if (below) TILE_STORE(2, x->c + TILE_SIDE * x->c_row, x->c_row);
    if (below && beside) TILE_STORE(3, x->c + TILE_SIDE * x->c_row + TILE_SIDE, x->c_row);
}

/* `columns` columns of a product, a multiple of 16. */
static void tiles_columns(tiles_factors x, bool below, int64_t columns) {
    TILE_FENCE();
    for (int64_t n = 0; n < columns; n += TILES_PANEL, x.b += x.panel, x.c += TILES_PANEL) {
        if (n + TILE_SIDE == columns) {
            if (below) tiles_product(&x, true, false);
            else tiles_product(&x, false, false);
        } else if (below) tiles_product(&x, true, true);
        else tiles_product(&x, false, true);
    }
    TILE_FENCE();
}

/* Scores of the tile's rows and keys from … to-1, whole products. */
static void tiles_scores(const kernel_state *s, const row_tile *tile, int from, int to) {
    const int64_t depth = tiles_depth(s);
    tiles_columns((tiles_factors){ .a = s->queries + tile->row * depth, .a_row = depth, .b = tiles_panel(s->keys, depth, from),
                                   .panel = depth * TILES_PANEL, .c = s->scores + from, .c_row = s->call->key_block,
                                   .steps = depth / TILE_SIDE },
                  tile->rows > TILE_SIDE, to - from);
}

/* The block's part of O from the weights of keys from … to-1, whole groups. */
static void tiles_sums(const kernel_state *s, const row_tile *tile, int from, int to) {
    const int64_t whole = s->width / TILES_PANEL * TILES_PANEL, pairs = s->call->key_block / 2;
    tiles_factors x = { .a = s->scores + from / 2, .a_row = s->call->key_block, .b = s->values + from / 2 * TILES_PANEL,
                        .panel = pairs * TILES_PANEL, .c = s->fold.part, .c_row = s->width, .steps = (to - from) / TILES_KEYS };
    tiles_columns(x, tile->rows > TILE_SIDE, whole);
    x.b = tiles_panel(s->values, pairs, whole) + from / 2 * TILE_SIDE;
    x.c += whole;
    tiles_columns(x, tile->rows > TILE_SIDE, s->width - whole);
}

/* ---- weights ----------------------------------------------------------------------------------------- */

/* One row: its scores, which become weights; additive values beside them, or NULL; and the keys that it sees. */
typedef struct tiles_row {
    float *row;
    const float *added;
    int first, last;
} tiles_row;

/* Those of the keys key … key+15 that the row sees by position. */
VEC_INLINE vm tiles_seen(const tiles_row *x, int key) {
    const int first = x->first - key, last = x->last - key;
    return vm_and(vm_first(last < 0 ? 0 : last > VW ? VW : last), vm_not(vm_first(first < 0 ? 0 : first > VW ? VW : first)));
}

/* Weights of VW keys, -0 where they are masked. plain: scores stand in the row, whose scaling joins the subtraction. */
VEC_INLINE vf tiles_weight(const tiles_row *x, int key, vf scale, vf shift, const bool plain, const bool whole) {
    const vf t = vf_load(x->row + key);
    if (!plain) return softmax_marked(t, vf_exp2_short(vf_sub(t, shift)));
    const vf p = vf_exp2_short(vf_fma(t, scale, vf_neg(shift)));
    return whole ? p : vf_select(tiles_seen(x, key), p, vf_set1(-0.0f));
}

/* Weights in place of scores or logits, of keys from … to-1, whole groups; returns their sum. */
VEC_INLINE float tiles_exponentials(const tiles_row *x, int from, int to, float scale, float most, const bool plain,
                                    const bool whole) {
    const vf shift = softmax_shift(vf_set1(most)), factor = vf_set1(scale);
    vf sum = vf_zero();
    for (int key = from; key < to; key += 2 * VW) {
        const vf first = tiles_weight(x, key, factor, shift, plain, whole);
        const vf second = tiles_weight(x, key + VW, factor, shift, plain, whole);
        sum = vf_add(vf_add(sum, first), second);
        vf_store(x->row + key / 2, vf_pairs_row(first, second));
    }
    return vf_hsum(sum);
}

/* The largest score; a NaN does not enter. */
VEC_INLINE float tiles_most(const tiles_row *x, int from, int to, const bool whole) {
    const vf hidden = vf_set1(-INFINITY);
    vf most = hidden, other = hidden;
    for (int key = from; key < to; key += 2 * VW) {
        const vf s = vf_load(x->row + key), t = vf_load(x->row + key + VW);
        most = vf_max(whole ? s : vf_select(tiles_seen(x, key), s, hidden), most);
        other = vf_max(whole ? t : vf_select(tiles_seen(x, key + VW), t, hidden), other);
    }
    return vf_hmax(vf_max(most, other));
}

/* Logits in place of scores; returns the largest. */
static float tiles_logits(const kernel_state *s, const tiles_row *x, int from, int to) {
    const vf hidden = vf_set1(-INFINITY);
    vf most = hidden;
    for (int key = from; key < to; key += VW) {
        vf t = softmax_scaled(s->call, vf_load(x->row + key));
        if (x->added) t = softmax_added(t, x->added + key);
        t = vf_select(tiles_seen(x, key), t, hidden);
        vf_store(x->row + key, t);
        most = vf_max(t, most);
    }
    return vf_hmax(most);
}

/* Groups in which the row sees no key. */
static void tiles_hide(const tiles_row *x, int from, int to) {
    for (int key = from; key < to; key += 2 * VW) vf_store(x->row + key / 2, vf_pairs_row(vf_set1(-0.0f), vf_set1(-0.0f)));
}

/* Row r of the tile: weights in place of the scores of keys from … to-1. */
static void tiles_weights(const kernel_state *s, const row_tile *tile, int r, int from, int to) {
    const invar_attention_call *call = s->call;
    const float *added = call->mask.data ? s->mask + r * call->key_block : NULL;
    const tiles_row x = { s->scores + r * call->key_block, added, tile->first[r], tile->last[r] };
    const bool plain = !added && call->softcap == 0 && call->score_scale >= 0, blind = x.last <= x.first;
    const int low = blind ? to : tiles_down(x.first), high = blind ? to : tiles_up(x.last);
    float most = -INFINITY, sum = 0;
    if (blind) (void)0;
    else if (!plain) {
        most = tiles_logits(s, &x, low, high);
        sum = tiles_exponentials(&x, low, high, 1, most, false, false);
    } else if (x.first == low && x.last == high) {
        most = call->score_scale * tiles_most(&x, low, high, true);
        sum = tiles_exponentials(&x, low, high, call->score_scale, most, true, true);
    } else {
        most = call->score_scale * tiles_most(&x, low, high, false);
        sum = tiles_exponentials(&x, low, high, call->score_scale, most, true, false);
    }
    tiles_hide(&x, from, low);
    tiles_hide(&x, high, to);
    s->fold.part_m[r] = most;
    s->fold.part_l[r] = sum;
}

/* ---- tiles ------------------------------------------------------------------------------------------- */

/* Additive values of a row's keys at s->mask; the vectors at either end that they hide are no longer seen. */
VEC_INLINE void tiles_mask_row(const kernel_state *s, row_tile *tile, int r, const char *row, const invar_attention_mask_kind kind) {
    const vf hidden = vf_set1(-INFINITY);
    const int64_t step = s->call->mask.column_stride;
    float *to = s->mask + r * s->call->key_block;
    const int first = tile->first[r], last = tile->last[r];
    int low = last, high = first;
    for (int key = first / VW * VW; key < last; key += VW) {
        const vf a = mask_load(s, kind, row + key * step, last - key < VW ? last - key : VW);
        vf_store(to + key, a);
        if (vm_all(vf_eq(a, hidden))) continue;
        low = key < low ? key : low;
        high = key + VW;
    }
    tile->first[r] = low > first ? low : first;
    tile->last[r] = high < last ? high : last;
}

static void tiles_mask(const kernel_state *s, row_tile *tile, int64_t start) {
    const int64_t step = s->call->mask.column_stride;
    for (int r = 0; r < tile->rows; r++) {
        const char *row = mask_of_row(s, tile->row + r) + start * step;
        switch (mask_form(s->call)) {
        case INVAR_MASK_F32: tiles_mask_row(s, tile, r, row, INVAR_MASK_F32); break;
        case INVAR_MASK_F16: tiles_mask_row(s, tile, r, row, INVAR_MASK_F16); break;
        case INVAR_MASK_BF16: tiles_mask_row(s, tile, r, row, INVAR_MASK_BF16); break;
        case INVAR_MASK_BOOL: tiles_mask_row(s, tile, r, row, INVAR_MASK_BOOL); break;
        default: tiles_mask_row(s, tile, r, row, INVAR_MASK_NONE);
        }
    }
}

/* Rows whose sums came out NaN: again, without their masked keys. */
static void tiles_repair(const kernel_state *s, const row_tile *tile, int from, int to) {
    for (int r = 0; r < tile->rows; r++) {
        float *part = s->fold.part + r * s->width;
        if (s->fold.part_l[r] == 0 || !row_has_nan(part, s->width)) continue;
        for (int64_t c = 0; c < s->width; c += VW)
            element_selected(part + c, s->scores + r * s->call->key_block, 1,
                             tiles_panel(s->values, s->call->key_block / 2, c) + c % TILES_PANEL,
                             tiles_panel_width(c / TILES_PANEL * TILES_PANEL, s->width), from / 2, to / 2);
    }
}

static void tiles_attend(const kernel_state *s, int64_t index, int64_t row) {
    const int64_t start = index * s->call->key_block;
    row_tile tile;
    open_tile(s, &tile, start, row, s->rows - row < TILES_ROWS ? (int)(s->rows - row) : TILES_ROWS);
    if (s->call->mask.data) tiles_mask(s, &tile, start);
    if (!close_tile(s, &tile)) {
        fold_nothing(&s->fold, index, row, tile.rows);
        return;
    }
    const int from = tiles_down(tile.low), to = tiles_up(tile.high);
    tiles_scores(s, &tile, from, to);
    for (int r = 0; r < tile.rows; r++) tiles_weights(s, &tile, r, from, to);
    tiles_sums(s, &tile, from, to);
    if (tile.masked || from < tile.low || to > tile.high) tiles_repair(s, &tile, from, to);
    fold_tile(&s->fold, index, row, tile.rows);
}

static void attend_tiles(const kernel_state *s) {
    tiles_open();
    tiles_queries(s);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++) {
        const int64_t start = index * s->call->key_block;
        int first, last;
        if (!block_span(s, start, &first, &last)) {
            fold_nothing(&s->fold, index, 0, (int)s->rows);
            continue;
        }
        tiles_keys(s, start, first, last);
        tiles_values(s, start, first, last);
        for (int64_t row = 0; row < s->rows; row += TILES_ROWS) tiles_attend(s, index, row);
    }
    tiles_close();
}

#endif
