/* Attention of many query rows, as in reading a prompt: a vector holds query rows.
 *
 * A tile of up to PANEL rows keeps its queries transposed, so that Sᵀ = K Qᵀ reads K as it stands, one element at a time,
 * and a column of Sᵀ is a query row: maxima, sums and masks run down the vectors. P is then the transposed left factor of
 * O = P V, whose right factor is V as it stands. Nothing is packed for float32 in contiguous rows; the half types and other
 * layouts are widened once a block for all tiles of the work. On a diagonal only the vectors of rows and the keys that are
 * seen are computed. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_WIDE_H
#define INVAR_CPU_KERNELS_ATTENTION_WIDE_H

#include "cpu/kernels/attention_state.h"

/* Keys that are left out or computed together on a diagonal: two register tiles. */
enum { KEYS_TOGETHER = 12, PANEL_VECTORS = PANEL / VW };

/* A tile, its panel and the block it works on. */
typedef struct wide_tile {
    row_tile rows;
    int width;                                 /* rows rounded up to whole vectors: the stride of the panel's grids */
    const float *queries;                      /* [key_dim][width] */
    float first[PANEL], last[PANEL];           /* rows.first and last, for vectors; columns without a row see no key */
    int low[PANEL_VECTORS], high[PANEL_VECTORS]; /* keys that some row of each vector sees */
} wide_tile;

/* A block of K or V as float32 rows; row 0 is the block's first key. */
static float_rows wide_block(const kernel_state *s, const pack_source *x, float *packed, int64_t start, int first, int last,
                             int64_t columns, bool whole_vectors) {
    if (x->type == INVAR_F32 && pack_contiguous(x) && (!whole_vectors || columns % VW == 0))
        return (float_rows){ (const float *)(const void *)(x->data + start * x->row_stride), x->row_stride / 4 };
    const int64_t stride = pack_width(columns);
    (void)s;
    pack_rows(packed + first * stride, stride, x, start + first, start + last, 0, columns);
    return (float_rows){ packed, stride };
}

/* The additive masks of VW rows, then as columns of the grid at s->mask. */
static void wide_mask(const kernel_state *s, wide_tile *tile, int64_t start, int vector) {
    const int64_t block = s->call->key_block;
    float *rows = s->mask + block * tile->width;
    int low = (int)block, high = 0;
    for (int r = vector * VW; r < (vector + 1) * VW && r < tile->rows.rows; r++) {
        int *first = &tile->rows.first[r], *last = &tile->rows.last[r];
        if (*last <= *first) continue;
        if (!mask_row(s, tile->rows.row + r, start, *first, *last, rows + (r - vector * VW) * block)) *last = *first;
        if (*last > *first && *first < low) low = *first;
        if (*last > *first && *last > high) high = *last;
    }
    const pack_source source = { (const char *)rows, INVAR_F32, block * 4, 4 };
    for (int j = low; j < high; j += VW)
        pack_square(INVAR_F32, true, s->mask + (int64_t)j * tile->width + vector * VW, tile->width, source.data + j * 4, &source,
                    VW, high - j < VW ? high - j : VW);
}

static void wide_limits(wide_tile *tile) {
    for (int r = 0; r < tile->width; r++) {
        tile->first[r] = r < tile->rows.rows ? (float)tile->rows.first[r] : 0;
        tile->last[r] = r < tile->rows.rows ? (float)tile->rows.last[r] : 0;
    }
    for (int v = 0; v < tile->width / VW; v++) {
        const int left = tile->rows.rows - v * VW;
        if (!rows_span(&tile->rows, v * VW, left < VW ? left : VW, &tile->low[v], &tile->high[v])) tile->high[v] = 0;
    }
}

/* Sᵀ for keys from … to-1 and the vectors of rows first … last-1. */
static void wide_product(const kernel_state *s, const wide_tile *tile, const float_rows *k, int from, int to, int first,
                         int last) {
    const product x = {
        .rows = to - from, .columns = (last - first) * VW, .depth = s->call->key_dim, .a = k->data + from * k->stride,
        .a_row = k->stride, .a_step = 1, .b = tile->queries + first * VW, .b_row = tile->width,
        .c = s->scores + from * tile->width + first * VW, .c_row = tile->width,
    };
    product_run(&x);
}

static void wide_scores(const kernel_state *s, const wide_tile *tile, const float_rows *k) {
    const int vectors = tile->width / VW;
    if (!tile->rows.masked) {
        wide_product(s, tile, k, tile->rows.low, tile->rows.high, 0, vectors);
        return;
    }
    for (int from = tile->rows.low; from < tile->rows.high; from += KEYS_TOGETHER) {
        const int to = from + KEYS_TOGETHER < tile->rows.high ? from + KEYS_TOGETHER : tile->rows.high;
        int first = 0, last = vectors;
        while (first < last && (tile->high[first] <= from || tile->low[first] >= to)) first++;
        while (last > first && (tile->high[last - 1] <= from || tile->low[last - 1] >= to)) last--;
        if (first < last) wide_product(s, tile, k, from, to, first, last);
    }
}

/* One vector of rows that see every key from low to high: its weights in place of scores. */
static void wide_whole(const kernel_state *s, const wide_tile *tile, int vector) {
    float *grid = s->scores + vector * VW;
    const int64_t step = tile->width;
    const int low = tile->rows.low, high = tile->rows.high;
    const vf scale = vf_set1(s->call->score_scale);
    vf most = vf_set1(-INFINITY), other = most, sum = vf_zero();
    int j = low;
    for (; j + 2 <= high; j += 2) {
        most = vf_max(vf_mul(vf_load(grid + j * step), scale), most);
        other = vf_max(vf_mul(vf_load(grid + (j + 1) * step), scale), other);
    }
    if (j < high) most = vf_max(vf_mul(vf_load(grid + j * step), scale), most);
    most = vf_max(other, most);
    const vf shift = softmax_shift(most);
    for (j = low; j < high; j++) {
        const vf p = softmax_weight(vf_mul(vf_load(grid + j * step), scale), shift);
        vf_store(grid + j * step, p);
        sum = vf_add(sum, p);
    }
    vf_store(s->fold.part_m + vector * VW, most);
    vf_store(s->fold.part_l + vector * VW, sum);
}

/* The same where some keys are masked or the logits capped. */
static void wide_masked(const kernel_state *s, const wide_tile *tile, int vector) {
    float *grid = s->scores + vector * VW;
    const float *added = s->call->mask.data ? s->mask + vector * VW : NULL;
    const int64_t step = tile->width;
    const vf first = vf_load(tile->first + vector * VW), last = vf_load(tile->last + vector * VW);
    vf most = vf_set1(-INFINITY), sum = vf_zero();
    for (int j = tile->rows.low; j < tile->rows.high; j++) {
        const vf key = vf_set1((float)j);
        vf t = softmax_added(softmax_scaled(s->call, vf_load(grid + j * step)), added ? added + j * step : NULL);
        t = vf_select(vm_and(vf_le(first, key), vf_lt(key, last)), t, vf_set1(-INFINITY));
        vf_store(grid + j * step, t);
        most = vf_max(t, most); /* a NaN does not enter */
    }
    const vf shift = softmax_shift(most);
    for (int j = tile->rows.low; j < tile->rows.high; j++) {
        const vf t = vf_load(grid + j * step), p = softmax_weight(t, shift);
        vf_store(grid + j * step, softmax_marked(t, p));
        sum = vf_add(sum, p);
    }
    vf_store(s->fold.part_m + vector * VW, most);
    vf_store(s->fold.part_l + vector * VW, sum);
}

static void wide_sums(const kernel_state *s, const wide_tile *tile, const float_rows *v) {
    const int together = tile->rows.masked ? ROWS_TOGETHER : tile->rows.rows;
    for (int r = 0; r < tile->rows.rows; r += together) {
        const int count = tile->rows.rows - r < together ? tile->rows.rows - r : together;
        int low, high;
        if (!rows_span(&tile->rows, r, count, &low, &high)) continue;
        const product x = {
            .rows = count, .columns = s->width, .depth = high - low, .a = s->scores + low * tile->width + r, .a_row = 1,
            .a_step = tile->width, .b = v->data + low * v->stride, .b_row = v->stride, .c = s->fold.part + r * s->width,
            .c_row = s->width,
        };
        product_run(&x);
    }
}

/* O of one row again, leaving out the keys whose weight is marked as masked: a chain over the same keys in the same order,
 * to which a masked value that is not finite adds nothing. */
static void wide_selected(const kernel_state *s, const wide_tile *tile, const float_rows *v, int r) {
    const float *weight = s->scores + r;
    for (int64_t c = 0; c < s->width; c += VW) {
        vf sum = vf_zero();
        for (int j = tile->rows.low; j < tile->rows.high; j++) {
            const float p = weight[(int64_t)j * tile->width];
            if (invar_bits_from_float(p) != 0x80000000u) sum = vf_fma(vf_set1(p), vf_load(v->data + j * v->stride + c), sum);
        }
        vf_store(s->fold.part + r * s->width + c, sum);
    }
}

static void attend_tile(const kernel_state *s, wide_tile *tile, int64_t start, const float_rows *k, const float_rows *v) {
    const int rows = tile->rows.rows;
    open_tile(s, &tile->rows, start, tile->rows.row, rows);
    for (int vector = 0; s->call->mask.data && vector < tile->width / VW; vector++) wide_mask(s, tile, start, vector);
    if (!close_tile(s, &tile->rows)) {
        fold_nothing(&s->fold, tile->rows.row, rows);
        return;
    }
    wide_limits(tile);
    wide_scores(s, tile, k);
    for (int vector = 0; vector < tile->width / VW; vector++)
        if (tile->rows.masked || s->call->softcap > 0) wide_masked(s, tile, vector);
        else wide_whole(s, tile, vector);
    wide_sums(s, tile, v);
    for (int r = 0; tile->rows.masked && r < rows; r++)
        if (s->fold.part_l[r] != 0 && row_has_nan(s->fold.part + r * s->width, s->width)) wide_selected(s, tile, v, r);
    fold_tile(&s->fold, tile->rows.row, rows);
}

/* A tile's queries as columns, in its place among the work's. */
static void wide_queries(const kernel_state *s, int64_t row, int rows) {
    const int64_t stride = pack_width(s->call->key_dim);
    pack_queries(s, row, rows, s->query_rows, stride);
    const pack_source source = { (const char *)s->query_rows, INVAR_F32, stride * 4, 4 };
    pack_transposed(s->queries + row * s->call->key_dim, pack_width(rows), &source, 0, rows, s->call->key_dim);
}

static int64_t tile_rows(const kernel_state *s, int64_t row) { return s->rows - row < PANEL ? s->rows - row : PANEL; }

static void wide_key_block(const kernel_state *s, int64_t start) {
    int first, last;
    float_rows k = { 0 }, v = { 0 };
    const bool seen = block_span(s, start, &first, &last);
    if (seen) k = wide_block(s, &s->k, s->keys, start, first, last, s->call->key_dim, false);
    if (seen) v = wide_block(s, &s->v, s->values, start, first, last, s->call->value_dim, true);
    for (int64_t row = 0; row < s->rows; row += PANEL) {
        wide_tile tile;
        tile.rows.row = row;
        tile.rows.rows = (int)tile_rows(s, row);
        tile.width = (int)pack_width(tile.rows.rows);
        tile.queries = s->queries + row * s->call->key_dim;
        if (seen) attend_tile(s, &tile, start, &k, &v);
        else fold_nothing(&s->fold, row, tile.rows.rows);
    }
}

static void attend_wide(const kernel_state *s) {
    for (int64_t row = 0; row < s->rows; row += PANEL) wide_queries(s, row, (int)tile_rows(s, row));
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++)
        wide_key_block(s, index * s->call->key_block);
}

#endif
