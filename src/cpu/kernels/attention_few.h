/* Attention of few query rows, as in decoding: a vector holds keys.
 *
 * Every byte of K and V is read once, for all rows of the kv head's group. K is transposed a panel of keys at a time, small
 * enough to stay in the first-level cache until the rows have used it; V serves the product as it stands where it can. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_H

#include "cpu/kernels/attention_state.h"

enum { FEW = INVAR_ATTENTION_FEW };

static const float few_lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* S: a row of scores a query row, a column a key. */
static void few_scores(const kernel_state *s, const row_tile *tile, int64_t start) {
    const int64_t end = pack_width(tile->high);
    for (int64_t c = tile->low / VW * VW, width; c < end; c += width) {
        width = pack_panel_width(c, end);
        pack_transposed(s->keys, width, &s->k, start + c, start + (c + width < tile->high ? c + width : tile->high),
                        s->call->key_dim);
        const product x = {
            .rows = tile->rows, .columns = width, .depth = s->call->key_dim,
            .a = s->queries + tile->row * s->call->key_dim, .a_row = s->call->key_dim, .a_step = 1, .b = s->keys,
            .b_row = width, .c = s->scores + c, .c_row = s->call->key_block,
        };
        product_run(&x);
    }
}

/* VW keys from j on: their logits, -inf where the row does not see them. */
VEC_INLINE vf few_logits(const kernel_state *s, const row_tile *tile, int r, int j) {
    const int64_t at = r * s->call->key_block + j;
    const vf t = softmax_added(softmax_scaled(s->call, vf_load(s->scores + at)), s->call->mask.data ? s->mask + at : NULL);
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
}

/* The block's values as rows or panels that a product can read: row j of the panel at column c, from column c on, is at
 * data + c·panel_step + j·stride, or j·(the panel's width) where stride is 0. */
typedef struct few_values {
    const float *data;
    int64_t panel_step, stride;
} few_values;

static few_values open_values(const kernel_state *s, const row_tile *tile, int64_t start) {
    const pack_source *v = &s->v;
    if (v->type == INVAR_F32 && pack_contiguous(v) && v->row_stride != 0 && s->call->value_dim % VW == 0)
        return (few_values){ (const float *)(const void *)(v->data + start * v->row_stride), 1, v->row_stride / 4 };
    pack_panels(s->values, s->call->key_block, v, start, start + tile->low, start + tile->high, s->call->value_dim);
    return (few_values){ s->values, s->call->key_block, 0 };
}

static void few_sums(const kernel_state *s, const row_tile *tile, const few_values *values) {
    for (int64_t c = 0, width; c < s->call->value_dim; c += width) {
        width = pack_panel_width(c, s->call->value_dim);
        const int64_t stride = values->stride ? values->stride : width;
        const product x = {
            .rows = tile->rows, .columns = width, .depth = tile->high - tile->low, .a = s->scores + tile->low,
            .a_row = s->call->key_block, .a_step = 1, .b = values->data + c * values->panel_step + tile->low * stride,
            .b_row = stride, .c = s->fold.part + c, .c_row = s->width,
        };
        product_run(&x);
    }
}

/* O of one row again, leaving out the keys whose weight is marked as masked: a chain over the same keys in the same order,
 * to which a masked value that is not finite adds nothing. */
static void few_selected(const kernel_state *s, const row_tile *tile, const few_values *values, int r) {
    const float *weight = s->scores + r * s->call->key_block;
    for (int64_t c = 0, width; c < s->call->value_dim; c += width) {
        width = pack_panel_width(c, s->call->value_dim);
        const int64_t stride = values->stride ? values->stride : width;
        for (int64_t v = 0; v < width; v += VW) {
            vf sum = vf_zero();
            for (int j = tile->low; j < tile->high; j++)
                if (invar_bits_from_float(weight[j]) != 0x80000000u)
                    sum = vf_fma(vf_set1(weight[j]), vf_load(values->data + c * values->panel_step + j * stride + v), sum);
            vf_store(s->fold.part + r * s->width + c + v, sum);
        }
    }
}

static void few_block(const kernel_state *s, int64_t start, int64_t row, int rows) {
    row_tile tile;
    open_tile(s, &tile, start, row, rows);
    for (int r = 0; s->call->mask.data && r < rows; r++)
        if (tile.last[r] > tile.first[r] &&
            !mask_row(s, row + r, start, tile.first[r], tile.last[r], s->mask + r * s->call->key_block))
            tile.last[r] = tile.first[r];
    if (!close_tile(s, &tile)) {
        fold_nothing(&s->fold, row, rows);
        return;
    }
    few_scores(s, &tile, start);
    for (int r = 0; r < rows; r++) few_weights(s, &tile, r);
    const few_values values = open_values(s, &tile, start);
    few_sums(s, &tile, &values);
    for (int r = 0; tile.masked && r < rows; r++)
        if (s->fold.part_l[r] != 0 && row_has_nan(s->fold.part + r * s->width, s->width)) few_selected(s, &tile, &values, r);
    fold_tile(&s->fold, row, rows);
}

/* All rows of the work, at most FEW. */
static void attend_few(const kernel_state *s) {
    pack_queries(s, 0, s->rows, s->queries, s->call->key_dim);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++)
        few_block(s, index * s->call->key_block, 0, (int)s->rows);
}

#endif
