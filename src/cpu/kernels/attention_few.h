/* Attention of few query rows, as in decoding: a vector holds keys.
 *
 * Every byte of K and V is read once, for all rows of the kv head's group. K is transposed a panel of keys at a time, small
 * enough to stay in the first-level cache until the rows have used it; V serves the product as it stands where it can.
 * Memory is kept busy throughout: while a block's K is transposed its V is called into cache, and while V is summed the next
 * block's K is. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_H

#include "cpu/kernels/attention_state.h"

enum { FEW = INVAR_ATTENTION_FEW, SUM_KEYS = 32 };

static const float few_lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* K's rows as a source of elements to transpose, of keys first … last-1; cold: no block before has called them into cache. */
static pack_source few_keys(const kernel_state *s, int64_t first, int64_t last, bool cold) {
    if (NUMBERS == 1) {
        pack_source k = s->k;
        if (!pack_contiguous(&s->k) || !pack_contiguous(&s->v) || s->k.type != s->v.type) return k;
        k.ahead = cold ? PANEL * k.row_stride : 0; /* the next panel's keys */
        k.beside = s->v.data;                      /* and this one's values */
        k.beside_row_stride = s->v.row_stride;
        return k;
    }
    if (element_in_place(&s->k, s->call->key_dim)) {
        const bool beside = pack_contiguous(&s->v);
        return (pack_source){ .data = s->k.data, .type = INVAR_F32, .row_stride = s->k.row_stride, .column_stride = 4,
                              .ahead = cold ? PANEL * s->k.row_stride : 0, .beside = beside ? s->v.data : NULL,
                              .beside_row_stride = s->v.row_stride };
    }
    const int64_t stride = pack_width(s->depth);
    element_pack_rows(s->query_rows, stride, &s->k, first, last, s->call->key_dim);
    return (pack_source){ .data = (const char *)(s->query_rows - first * stride), .type = INVAR_F32,
                          .row_stride = stride * 4, .column_stride = 4 };
}

/* S: a row of scores a query row, a column a key. */
static void few_scores(const kernel_state *s, const row_tile *tile, int64_t start, bool cold) {
    const int64_t end = pack_width(tile->high);
    for (int64_t c = tile->low / VW * VW, width; c < end; c += width) {
        width = pack_panel_width(c, end);
        const int64_t first = start + c, last = start + (c + width < tile->high ? c + width : tile->high);
        const pack_source k = few_keys(s, first, last, cold);
        pack_transposed(s->keys, width, &k, first, last, s->depth);
        const product x = {
            .rows = tile->rows, .columns = width, .depth = s->depth, .a = s->queries, .a_row = s->depth, .a_step = 1,
            .b = s->keys, .b_row = width, .c = s->scores + c, .c_row = s->call->key_block,
        };
        element_product(&x);
    }
}

/* VW keys from j on: their logits, -inf where the row does not see them. */
VEC_INLINE vf few_logits(const kernel_state *s, const row_tile *tile, int r, int j) {
    const int64_t at = r * s->call->key_block + j;
    vf t = softmax_scaled(s->call, vf_load(s->scores + at));
    if (s->call->mask.data) t = softmax_added(t, s->mask + at);
    if (j >= tile->first[r] && j + VW <= tile->last[r]) return t;
    const vf lane = vf_load(few_lane), first = vf_set1((float)(tile->first[r] - j)), last = vf_set1((float)(tile->last[r] - j));
    return vf_select(vm_and(vf_le(first, lane), vf_lt(lane, last)), t, vf_set1(-INFINITY));
}

static void few_weights(const kernel_state *s, const row_tile *tile, int r) {
    float *row = s->scores + r * s->call->key_block, sum = 0;
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
        vf_store(row + j, softmax_marked(t, softmax_weight(t, shift)));
    }
    for (int j = tile->low; j < tile->high; j++) sum += row[j];
    s->fold.part_l[r] = sum;
    element_row(row, pack_width(tile->high));
}

/* Calls a share of the next block's keys into cache: step `step` of `steps`. */
static void few_ahead(const kernel_state *s, int64_t index, int64_t step, int64_t steps) {
    const int64_t start = (index + 1) * s->call->key_block, left = s->length - start;
    const int64_t keys = left < s->call->key_block ? left : s->call->key_block;
    if (index + 1 < s->work->block_last && keys > 0)
        pack_prefetch(&s->k, start + keys * step / steps, start + keys * (step + 1) / steps, s->call->key_dim);
}

/* O, SUM_KEYS keys at a time: between the steps the next block's keys are called into cache. */
static void few_sums(const kernel_state *s, const row_tile *tile, const element_rows *v, int64_t index) {
    const int64_t first = tile->low / NUMBERS, last = element_count(tile->high);
    const int64_t steps = (s->width + PANEL - 1) / PANEL * ((last + SUM_KEYS - 1) / SUM_KEYS - first / SUM_KEYS);
    for (int64_t c = 0, width, step = 0; c < s->width; c += width) {
        width = pack_panel_width(c, s->width);
        for (int64_t j = first, next; j < last; j = next, step++) {
            next = (j / SUM_KEYS + 1) * SUM_KEYS < last ? (j / SUM_KEYS + 1) * SUM_KEYS : last;
            const product x = {
                .rows = tile->rows, .columns = width, .depth = next - j, .a = s->scores + j, .a_row = s->call->key_block,
                .a_step = 1, .b = v->data + j * v->stride + c, .b_row = v->stride, .c = s->fold.part + c,
                .c_row = s->width, .resume = j > first, .start = j,
            };
            few_ahead(s, index, step, steps);
            element_product(&x);
        }
    }
}

/* O of one row again, without its masked keys. */
static void few_selected(const kernel_state *s, const row_tile *tile, const element_rows *v, int r) {
    for (int64_t c = 0; c < s->width; c += VW)
        element_selected(s->fold.part + r * s->width + c, s->scores + r * s->call->key_block, 1, v->data + c, v->stride,
                         tile->low / NUMBERS, element_count(tile->high));
}

static void few_block(const kernel_state *s, int64_t index, int rows) {
    const int64_t start = index * s->call->key_block;
    row_tile tile;
    open_tile(s, &tile, start, 0, rows);
    for (int r = 0; s->call->mask.data && r < rows; r++)
        if (tile.last[r] > tile.first[r] &&
            !mask_row(s, r, start, tile.first[r], tile.last[r], s->mask + r * s->call->key_block))
            tile.last[r] = tile.first[r];
    if (!close_tile(s, &tile)) {
        fold_nothing(&s->fold, index, 0, rows);
        return;
    }
    few_scores(s, &tile, start, index == s->work->block_first);
    for (int r = 0; r < rows; r++) few_weights(s, &tile, r);
    const element_rows v = element_columns(s->values, &s->v, start, tile.low, tile.high, s->call->value_dim);
    few_sums(s, &tile, &v, index);
    for (int r = 0; tile.masked && r < rows; r++)
        if (s->fold.part_l[r] != 0 && row_has_nan(s->fold.part + r * s->width, s->width)) few_selected(s, &tile, &v, r);
    fold_tile(&s->fold, index, 0, rows);
}

/* All rows of the work, at most FEW. */
static void attend_few(const kernel_state *s) {
    pack_queries(s, 0, s->rows, s->queries, s->depth);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++)
        few_block(s, index, (int)s->rows);
}

#endif
