/* Attention of few query rows, as in decoding: a vector holds keys.
 *
 * Every byte of K and V is read once, for all rows of the kv head's group, from where it stands (attention_few_products.h);
 * memory is kept busy throughout (attention_few_walk.h). A block of 256 keys at D = 128 is 256 KB of float32. A core of Zen 4
 * does it from its second-level cache at 42 GB/s, of bfloat16 pairs at 33 and of float16 at 21. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_H

#include "cpu/kernels/attention_few_products.h"

enum { FEW = INVAR_ATTENTION_FEW };

static const float few_lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* K's rows of keys first … last-1 as elements, where they stand or packed. */
static pack_source few_keys(const kernel_state *s, int64_t first, int64_t last) {
    if (NUMBERS == 1 && pack_contiguous(&s->k)) return s->k;
    if (element_in_place(&s->k, s->call->key_dim))
        return (pack_source){ .data = s->k.data, .type = INVAR_F32, .row_stride = s->k.row_stride, .column_stride = 4 };
    const int64_t stride = pack_width(s->depth);
    element_pack_rows(s->keys, stride, &s->k, first, last, s->call->key_dim);
    return (pack_source){ .data = (const char *)(s->keys - first * stride), .type = INVAR_F32, .row_stride = stride * 4,
                          .column_stride = 4 };
}

/* VW keys from j on: their logits, -inf where the row does not see them. */
VEC_INLINE vf few_logits(const kernel_state *s, const row_tile *tile, int r, int j) {
    const int64_t at = r * s->call->key_block + j;
    vf t = softmax_scaled(s->call, vf_load(s->scores + at));
    if (s->call->mask.data) t = softmax_added(t, vf_load(s->mask + at));
    if (j >= tile->first[r] && j + VW <= tile->last[r]) return t;
    const vf lane = vf_load(few_lane), first = vf_set1((float)(tile->first[r] - j)), last = vf_set1((float)(tile->last[r] - j));
    return vf_select(vm_and(vf_le(first, lane), vf_lt(lane, last)), t, vf_set1(-INFINITY));
}

/* The sums of the weights of four rows at p, each link of them one chain over ascending keys. */
static void few_totals(const float *const p[4], int low, int high, float sum[4]) {
    for (int i = 0; i < 4; i++) sum[i] = 0;
    for (int j = low, next; j < high; j = next) {
        float a = 0, b = 0, c = 0, d = 0;
        for (next = product_link_end(KEY_LINK, j) < high ? (int)product_link_end(KEY_LINK, j) : high; j < next; j++) {
            a += p[0][j];
            b += p[1][j];
            c += p[2][j];
            d += p[3][j];
        }
        sum[0] += a, sum[1] += b, sum[2] += c, sum[3] += d;
    }
}

/* The same where the links of all rows, whole ones that follow each other, fill vectors: a lane is a link. */
static bool few_totals_in_lanes(const kernel_state *s, const row_tile *tile) {
    const int links = (int)s->call->key_block / KEY_LINK, chains = links * tile->rows;
    float link[FEW * 256 / 64];
    if (NUMBERS > 1 || tile->low > 0 || tile->high < s->call->key_block || links == 0 || chains % VW != 0) return false;
    for (int c = 0; c < chains; c += VW) {
        vf sum = vf_zero();
        for (int j = 0; j < KEY_LINK; j += VW) {
            vf r[VW];
            vf_load_square(r, (const char *)(s->scores + c * KEY_LINK + j), 4 * KEY_LINK);
#pragma GCC unroll 16
            for (int i = 0; i < VW; i++) sum = vf_add(sum, r[i]);
        }
        vf_store(link + c, sum);
    }
    for (int r = 0; r < tile->rows; r++) {
        s->fold.part_l[r] = 0;
        for (int l = 0; l < links; l++) s->fold.part_l[r] += link[r * links + l];
    }
    return true;
}

static void few_weights(const kernel_state *s, const row_tile *tile, int r, few_walk *walk, int64_t pace) {
    float *row = s->scores + r * s->call->key_block;
    const int from = tile->low / VW * VW;
    vf most = vf_set1(-INFINITY);
    for (int j = from; j < tile->high; j += VW) {
        const vf t = few_logits(s, tile, r, j);
        vf_store(row + j, t);
        most = vf_max(t, most); /* a NaN does not enter */
    }
    s->fold.part_m[r] = vf_hmax(most);
    const vf shift = softmax_shift(vf_set1(s->fold.part_m[r]));
    for (int j = from; j < tile->high; j += VW) {
        const vf t = vf_load(row + j);
        walk_on(walk, pace);
        vf_store(row + j, softmax_marked(t, softmax_weight(t, shift)));
    }
}

/* The weights of all rows: their sums in the same order as their keys, four rows at a time. */
static void few_softmax(const kernel_state *s, const row_tile *tile, few_walk *walk) {
    const int64_t width = s->call->key_block, pace = 2 * WALK_PARTS * VW / WALK_IDLE / tile->rows;
    for (int r = 0; r < tile->rows; r++) few_weights(s, tile, r, walk, pace);
    const bool summed = few_totals_in_lanes(s, tile);
    for (int r = 0; r < tile->rows && !summed; r += 4) {
        const float *row[4];
        float sum[4];
        for (int i = 0; i < 4; i++) row[i] = s->scores + (r + i < tile->rows ? r + i : r) * width;
        few_totals(row, tile->low, tile->high, sum);
        for (int i = 0; i < 4 && r + i < tile->rows; i++) s->fold.part_l[r + i] = sum[i];
    }
    for (int r = 0; r < tile->rows; r++) element_row(s->scores + r * width, pack_width(tile->high));
}

/* V's rows: as they stand where whole vectors of them do, and a pair of keys has both. */
static few_values few_value_rows(const kernel_state *s, const row_tile *tile, int64_t start) {
    const int64_t columns = s->call->value_dim;
    const char *data = s->v.data + start * s->v.row_stride;
    const bool whole = pack_contiguous(&s->v) && columns % VW == 0;
    const invar_float_type type = s->v.type;
    if (NUMBERS == 2 && whole && (tile->low | tile->high) % 2 == 0)
        return (few_values){ FEW_PAIRS, data, 2 * s->v.row_stride, s->v.row_stride };
    if (NUMBERS == 1 && whole && type != INVAR_F32)
        return (few_values){ type == INVAR_F16 ? FEW_F16 : FEW_BF16, data, s->v.row_stride, 0 };
    const element_rows v = element_columns(s->values, &s->v, start, tile->low, tile->high, columns);
    return (few_values){ FEW_ELEMENTS, (const char *)v.data, 4 * v.stride, 0 };
}

/* Takes the mark from weights of keys that row r sees: their logits are -inf of themselves, as infinite scores may be. */
static void few_unmark(const kernel_state *s, const row_tile *tile, int r) {
    float *weights = s->scores + r * s->call->key_block;
    const float *mask = s->call->mask.data ? s->mask + r * s->call->key_block : NULL;
    for (int j = tile->first[r]; j < tile->last[r]; j++) {
        float *element = weights + j / NUMBERS;
        if (element_masked(*element, j % NUMBERS) && !(mask && mask[j] == -INFINITY)) element_clear(element, j % NUMBERS);
    }
}

/* O again, without their masked keys, of rows into which those have brought a NaN. */
static void few_correct(const kernel_state *s, const row_tile *tile, int64_t start) {
    for (int r = 0; tile->masked && r < tile->rows; r++) {
        if (s->fold.part_l[r] == 0 || !row_has_nan(s->fold.part + r * s->width, s->width)) continue;
        few_unmark(s, tile, r);
        const element_rows v = element_columns(s->values, &s->v, start, tile->low, tile->high, s->call->value_dim);
        for (int64_t c = 0; c < s->width; c += VW)
            element_selected(s->fold.part + r * s->width + c, s->scores + r * s->call->key_block, 1, v.data + c, v.stride,
                             tile->low / NUMBERS, element_count(tile->high));
    }
}

static void few_block(const kernel_state *s, int64_t index, int rows, few_walk *walk) {
    const int64_t start = index * s->call->key_block;
    row_tile tile;
    walk_block(walk, s, index);
    open_tile(s, &tile, start, 0, rows);
    for (int r = 0; s->call->mask.data && r < rows; r++)
        if (tile.last[r] > tile.first[r] &&
            !mask_row(s, r, start, tile.first[r], tile.last[r], s->mask + r * s->call->key_block))
            tile.last[r] = tile.first[r];
    if (!close_tile(s, &tile)) {
        fold_nothing(&s->fold, index, 0, rows);
        return;
    }
    const int first = tile.low / VW * VW;
    const pack_source k = few_keys(s, start + first, start + tile.high);
    few_score(s, &k, start, first, tile.high, rows, walk);
    few_softmax(s, &tile, walk);
    const few_values v = few_value_rows(s, &tile, start);
    few_sum(s, &v, tile.low / NUMBERS, element_count(tile.high), rows, walk);
    few_correct(s, &tile, start);
    fold_tile(&s->fold, index, 0, rows);
}

/* The queries: rows that go together beside each other, an element of all of them after the other. */
static void few_queries(const kernel_state *s) {
    float *rows = s->rows == 1 ? s->queries : s->query_rows;
    pack_queries(s, 0, s->rows, rows, s->depth);
    if (s->rows == 1) return;
    if (s->rows % 4 == 3) memset(rows + s->rows * s->depth, 0, sizeof(float) * (size_t)s->depth);
    for (int64_t r = 0; r < s->rows; r += 4) {
        const int count = few_group((int)(s->rows - r));
        float *to = s->queries + r * s->depth;
        for (int64_t d = 0; d < s->depth; d++)
            for (int m = 0; m < count; m++) *to++ = rows[(r + m) * s->depth + d];
    }
}

/* All rows of the work, at most FEW. */
static void attend_few(const kernel_state *s) {
    few_walk walk = walk_open(s);
    few_queries(s);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++)
        few_block(s, index, (int)s->rows, &walk);
    if (!s->work->parts) fold_finish(&s->fold, s->rows);
}

#endif
