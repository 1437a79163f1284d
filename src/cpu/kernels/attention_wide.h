/* Attention of many query rows, as in reading a prompt: a vector holds query rows.
 *
 * A tile of up to PANEL rows keeps its queries transposed, so that Sᵀ = K Qᵀ reads K as it stands, one element at a time,
 * and a column of Sᵀ is a query row: maxima, sums and masks run down the vectors. Oᵀ = Vᵀ Pᵀ reads V in the same way. Nothing is
 * packed for float32 in contiguous rows; the half types and other layouts are widened once a block for all tiles of the work. On a
 * diagonal only the vectors of rows and the keys that are seen are computed. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_WIDE_H
#define INVAR_CPU_KERNELS_ATTENTION_WIDE_H

#include <float.h>

#include "cpu/kernels/attention_wide_out.h"

/* Keys that are left out or computed together on a diagonal: two register tiles. Keys that are called ahead together. */
enum { TOGETHER = 12, CALLED = PRODUCT_ACCUMULATORS / PRODUCT_WIDEST };

/* Sᵀ for keys from … to-1 and the vectors of rows first … last-1. */
static void wide_product(const kernel_state *s, const wide_tile *tile, const element_rows *k, int from, int to, int first,
                         int last) {
    const product x = {
        .rows = to - from, .columns = (last - first) * VW, .depth = s->depth, .a = k->data + from * k->stride,
        .a_row = k->stride, .a_step = 1, .b = tile->queries + first * VW, .b_row = tile->width,
        .c = s->scores + from * tile->width + first * VW, .c_row = tile->width, .at_once = s->call->strong_cores,
        .link = s->link, .most = tile->whole ? s->fold.part_m + first * VW : NULL,
    };
    element_product(&x);
}

/* Calls rows first … last-1 of the next tile's mask into the second-level cache. Inlined, since gcc 12 takes a function that
 * does no more than call memory ahead for one without effect, and drops it. */
VEC_INLINE void wide_call_mask(const kernel_state *s, const wide_tile *tile, int first, int last) {
    const int64_t step = s->call->mask.column_stride, left = s->length - tile->next_start;
    const int64_t bytes = step * (left < s->call->key_block ? left : s->call->key_block);
    for (int r = first; r < last; r++) {
        const char *p = mask_of_row(s, tile->next_row + r) + tile->next_start * step;
        for (int64_t i = -(int64_t)((uintptr_t)p % 64); i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
    }
}

/* Calls rows first … last-1 of the tile's out, where it is about to be written; that of a single block may be near already. */
VEC_INLINE void wide_call_out(const kernel_state *s, const wide_tile *tile, int first, int last) {
    const int64_t bytes = s->call->value_dim * s->call->out.column_stride;
    if (!tile->finishes || s->fold.only || !s->call->out.data) return;
    for (int r = first; r < last; r++) {
        const int64_t row = s->work->row_first + tile->rows.row + r;
        const char *p = invar_attention_unit_row(s->call, &s->call->out, s->fold.first_out, row);
        for (int64_t i = -(int64_t)((uintptr_t)p % 64); i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
    }
}

/* Calls rows first … last-1 of K or V, of so many elements, into the second-level cache. */
VEC_INLINE void wide_call_rows(const element_rows *x, int64_t elements, int first, int last) {
    for (int r = first; r < last; r++)
        for (int64_t i = 0; i < elements; i += CALL_LINE) __builtin_prefetch(x->data + r * x->stride + i, 0, 2);
}

VEC_INLINE vf wide_biased_logit(vf score, vf scale, vf added) {
    return vf_fma(added, vf_set1((float)INVAR_LOG2E), vf_mul(score, scale));
}

/* Logits of keys from … to-1 in place of N vectors of scores, from the mask that was turned before, and their maxima. */
VEC_INLINE void wide_add_vectors(const kernel_state *s, const wide_tile *tile, int from, int to, const int N, int first) {
    const vf scale = vf_set1(s->call->score_scale);
    const int64_t width = tile->width;
    float *grid = s->scores + first * VW, *m = s->fold.part_m + first * VW;
    const float *added = tile->turned + first * VW;
    vf most[WIDE_VECTORS];
    for (int i = 0; i < N; i++) most[i] = vf_load(m + i * VW);
    for (int j = from; j < to; j++)
        for (int i = 0; i < N; i++) {
            const vf t = wide_biased_logit(vf_load(grid + j * width + i * VW), scale, vf_load(added + j * width + i * VW));
            vf_store(grid + j * width + i * VW, t);
            most[i] = vf_max(t, most[i]); /* a NaN does not enter */
        }
    for (int i = 0; i < N; i++) vf_store(m + i * VW, most[i]);
}

static __attribute__((noinline)) void wide_add(const kernel_state *s, const wide_tile *tile, int from, int to) {
    WIDE_TOGETHER(wide_add_vectors, tile->width, s, tile, from, to);
}

/* S where all rows see the same keys. Memory is idle meanwhile. The next tile's mask is called, some rows after some
 * keys; without one a block's first tile calls K a register tile ahead, and V. */
static void wide_scores_of_all(const kernel_state *s, const wide_tile *tile, const element_rows *k, const element_rows *v) {
    const int low = tile->rows.low, high = tile->rows.high;
    const bool hides = tile->bits && tile->open, first = tile->rows.row == 0 && (tile->adds || !tile->next_rows);
    const bool often = first || tile->adds || hides || (tile->finishes && !s->fold.only) || (tile->next_rows && s->call->strong_cores);
    const int step = often ? CALLED : tile->next_rows ? TOGETHER : high - low;
    for (int from = low; from < high; from += step) {
        const int to = from + step < high ? from + step : high;
        if (first) wide_call_rows(k, s->depth, to, to + step < high ? to + step : high);
        if (first) wide_call_rows(v, s->width, from / NUMBERS, to / NUMBERS);
        wide_product(s, tile, k, from, to, 0, tile->width / VW);
        if (tile->adds) wide_add(s, tile, from, to);
        if (hides) bits_hide(s, tile, from, to);
        wide_call_mask(s, tile, tile->next_rows * (from - low) / (high - low), tile->next_rows * (to - low) / (high - low));
        wide_call_out(s, tile, tile->rows.rows * (from - low) / (high - low), tile->rows.rows * (to - low) / (high - low));
    }
}

static void wide_scores(const kernel_state *s, const wide_tile *tile, const element_rows *k, const element_rows *v) {
    const int vectors = tile->width / VW, low = tile->rows.low, high = tile->rows.high, rows = tile->rows.rows;
    if (!tile->limits) {
        wide_scores_of_all(s, tile, k, v);
        return;
    }
    for (int from = low; from < high; from += TOGETHER) {
        const int to = from + TOGETHER < high ? from + TOGETHER : high;
        int first = 0, last = vectors;
        while (first < last && (tile->high[first] <= from || tile->low[first] >= to)) first++;
        while (last > first && (tile->high[last - 1] <= from || tile->low[last - 1] >= to)) last--;
        if (first < last) wide_product(s, tile, k, from, to, first, last);
        wide_call_out(s, tile, rows * (from - low) / (high - low), rows * (to - low) / (high - low));
    }
}

/* A vector of rows: what its weights are taken relative to, and the sum of this link's. */
typedef struct wide_sum {
    vf shift, link;
} wide_sum;

/* The weights of key j, which are summed; of a key that no row sees, masked. */
VEC_INLINE vf wide_weight(const kernel_state *s, const wide_tile *tile, int vector, int j, const bool mark, wide_sum *total) {
    if (NUMBERS > 1 && (j < tile->low[vector] || j >= tile->high[vector])) return vf_set1(-0.0f);
    const vf t = vf_load(s->scores + vector * VW + (int64_t)j * tile->width);
    const vf p = softmax_weight(t, total->shift);
    total->link = vf_add(total->link, p);
    return mark ? softmax_marked(t, p) : p;
}

/* Weights in place of logits, as elements: key j in element row j / NUMBERS. */
VEC_INLINE void wide_exponentials(const kernel_state *s, const wide_tile *tile, int vector, vf most, const bool mark) {
    float *grid = s->scores + vector * VW;
    const vf masked = vf_set1(-0.0f);
    wide_sum total = { softmax_shift(most), vf_zero() };
    vf sum = vf_zero();
    int64_t element = tile->rows.low / NUMBERS;
    for (; element < tile->low[vector] / NUMBERS; element++) vf_store(grid + element * tile->width, element_of(masked, masked));
    for (int j = tile->low[vector] / NUMBERS * NUMBERS, next; j < tile->high[vector];) {
        next = product_link_end(KEY_LINK, j) < tile->high[vector] ? (int)product_link_end(KEY_LINK, j) : tile->high[vector];
        for (; j < next; j += NUMBERS, element++) {
            vf first = wide_weight(s, tile, vector, j, mark, &total), second = first;
            if (NUMBERS > 1) second = wide_weight(s, tile, vector, j + 1, mark, &total);
            vf_store(grid + element * tile->width, element_of(first, second));
        }
        sum = vf_add(sum, total.link);
        total.link = vf_zero();
    }
    for (; element < element_count(tile->rows.high); element++)
        vf_store(grid + element * tile->width, element_of(masked, masked));
    vf_store(s->fold.part_m + vector * VW, most);
    vf_store(s->fold.part_l + vector * VW, sum);
}

/* The largest logits: the largest scores', as the scale is positive. */
static void wide_most(const kernel_state *s, const wide_tile *tile) {
    const vf scale = vf_set1(s->call->score_scale);
    for (int i = 0; i < tile->width; i += VW) {
        vf_store(s->fold.part_m + i, vf_mul(vf_load(s->fold.part_m + i), scale));
        vf_store(s->fold.part_l + i, vf_zero());
    }
}

/* The weights of a vector's key j from its scores, or logits, which are summed; of a key that no row sees, masked. */
VEC_INLINE vf wide_whole_weight(const wide_tile *tile, const float *score, int j, const bool logits, vf scale, wide_sum *total) {
    if (NUMBERS > 1 && (j < tile->rows.low || j >= tile->rows.high)) return vf_set1(-0.0f);
    const vf p = softmax_weight(logits ? vf_load(score) : vf_mul(vf_load(score), scale), total->shift);
    total->link = vf_add(total->link, p);
    return p;
}

/* The weights of one link's keys in place of scores, as elements. A row of the grid is read as it lies: one vector of it after
 * the other would put every fourth cache line, and so a quarter of the first-level cache, to use. */
VEC_INLINE void wide_whole(const kernel_state *s, const wide_tile *tile, const bool logits, int from, int to, const int N,
                           int first) {
    float *grid = s->scores + first * VW, *sum = s->fold.part_l + first * VW;
    const int64_t width = tile->width;
    const vf scale = vf_set1(s->call->score_scale);
    wide_sum total[WIDE_VECTORS];
    for (int i = 0; i < N; i++) total[i] = (wide_sum){ softmax_shift(vf_load(s->fold.part_m + (first + i) * VW)), vf_zero() };
    for (int j = from / NUMBERS * NUMBERS; j < to; j += NUMBERS)
        for (int i = 0; i < N; i++) {
            const float *score = grid + j * width + i * VW;
            vf one = wide_whole_weight(tile, score, j, logits, scale, &total[i]), two = one;
            if (NUMBERS > 1) two = wide_whole_weight(tile, score + width, j + 1, logits, scale, &total[i]);
            vf_store(grid + j / NUMBERS * width + i * VW, element_of(one, two));
        }
    for (int i = 0; i < N; i++) vf_store(sum + i * VW, vf_add(vf_load(sum + i * VW), total[i].link));
}

/* Which keys of its block a vector of rows sees, mask apart: from `first` on, before `last`. */
typedef struct wide_span {
    vf first, last;
} wide_span;

/* A vector's key j: t, with the mask's values, or -inf where it is hidden. */
VEC_INLINE vf wide_seen(const wide_tile *tile, int vector, int j, vf t, const wide_span *span, const bool limits, const bool add,
                        const bool bits) {
    const vf key = vf_set1((float)j), hidden = vf_set1(-INFINITY);
    if (add) t = softmax_added(t, vf_load(tile->turned + vector * VW + j * (int64_t)tile->width));
    if (limits) t = vf_select(vm_and(vf_le(span->first, key), vf_lt(key, span->last)), t, hidden);
    if (bits) t = vf_select(vm_load_bit(bits_of_key(tile, vector, j), bits_mark(j)), t, hidden);
    return t;
}

/* One vector's weights where some keys are masked or the logits capped. The flags are constants where this is inlined: whether
 * rows see different keys, whether values are added, whether bits tell of these keys, whether masked keys' weights are marked.
 * A logit that is -inf of itself, as infinite scores may be, is not masked: marked ones are told from it by the mask alone. */
VEC_INLINE void wide_masked(const kernel_state *s, const wide_tile *tile, int vector, const bool limits, const bool add,
                            const bool bits, const bool mark) {
    float *grid = s->scores + vector * VW;
    const int64_t step = tile->width;
    const wide_span span = { vf_load(tile->first + vector * VW), vf_load(tile->last + vector * VW) };
    const vf hidden = vf_set1(-INFINITY);
    vf most = hidden;
    for (int j = tile->low[vector]; j < tile->high[vector]; j++) {
        vf t = wide_seen(tile, vector, j, softmax_scaled(s->call, vf_load(grid + j * step)), &span, limits, add, bits);
        most = vf_max(t, most); /* a NaN does not enter */
        if (mark) {
            const vm seen = vm_not(vf_eq(wide_seen(tile, vector, j, vf_zero(), &span, limits, add, bits), hidden));
            t = vf_select(vm_and(seen, vf_eq(t, hidden)), vf_set1(-FLT_MAX), t); /* whose weight is +0, too */
        }
        vf_store(grid + j * step, t);
    }
    wide_exponentials(s, tile, vector, most, mark);
}

/* Logits in place of a vector's scores of n keys from key on: their part of the mask, VW rows of it, is turned in registers. most
 * and least take in the logits and the mask's values. Constants where this is inlined: whole, that n is VW and no row is missing;
 * add, which is false where the values are to be kept as columns instead. */
VEC_INLINE void wide_biased_square(const kernel_state *s, const invar_attention_mask_kind kind, const wide_tile *tile, int vector,
                                   int key, int n, const bool whole, const bool add, vf *most, vf *least) {
    const char *const *const rows = tile->mask + vector * VW;
    const int64_t column = key * s->call->mask.column_stride, width = tile->width;
    const vf scale = vf_set1(s->call->score_scale);
    float *grid = (add ? s->scores : tile->turned) + vector * VW + key * width;
    vf x[VW];
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) x[i] = whole || rows[i] ? mask_load(s, kind, rows[i] + column, whole ? VW : n) : vf_zero();
    vf_transpose(x);
#pragma GCC unroll 16
    for (int c = 0; c < VW; c++) {
        if (!whole && c >= n) break;
        const vf t = add ? wide_biased_logit(vf_load(grid + c * width), scale, x[c]) : x[c];
        vf_store(grid + c * width, t);
        if (add) *most = vf_max(t, *most); /* a NaN does not enter, nor in the next line */
        *least = vf_min(x[c], *least);
    }
}

/* Logits in place of a vector's scores, and their maximum; or its mask as columns. True when the mask hides some keys: their
 * scores, where they are not finite, then bring a NaN, and wide_repair mends the row. */
VEC_INLINE bool wide_biased(const kernel_state *s, const invar_attention_mask_kind kind, const wide_tile *tile, int vector,
                            const bool add) {
    const char *const *const rows = tile->mask + vector * VW;
    const int64_t step = s->call->mask.column_stride;
    const vf hidden = vf_set1(-INFINITY);
    vf most = hidden, least = vf_zero();
    int together = wide_mask_lead(rows[0] + tile->rows.low * step, step);
    for (int j = tile->rows.low, n; j < tile->rows.high; j += n, together = VW) {
        n = tile->rows.high - j < together ? tile->rows.high - j : together;
        if (n == VW && rows[VW - 1]) wide_biased_square(s, kind, tile, vector, j, VW, true, add, &most, &least);
        else wide_biased_square(s, kind, tile, vector, j, n, false, add, &most, &least);
    }
    if (add) vf_store(s->fold.part_m + vector * VW, most);
    return vm_any(vf_eq(least, hidden));
}

/* The same of all vectors. */
VEC_INLINE bool wide_biased_tile(const kernel_state *s, const wide_tile *tile, const bool add) {
    bool some = false;
    for (int vector = 0; vector < tile->width / VW; vector++) {
        switch (mask_form(s->call)) {
        case INVAR_MASK_F16: some |= wide_biased(s, INVAR_MASK_F16, tile, vector, add); break;
        case INVAR_MASK_BF16: some |= wide_biased(s, INVAR_MASK_BF16, tile, vector, add); break;
        default: some |= wide_biased(s, INVAR_MASK_F32, tile, vector, add);
        }
    }
    return some;
}

/* Not inlined, so that rows are reached from a pointer to the tile. */
static __attribute__((noinline)) bool wide_bias(const kernel_state *s, const wide_tile *tile) {
    return wide_biased_tile(s, tile, true);
}
static __attribute__((noinline)) bool wide_turn(const kernel_state *s, const wide_tile *tile) {
    return wide_biased_tile(s, tile, false);
}

static void wide_weights(const kernel_state *s, const wide_tile *tile) {
    const bool bits = tile->bits, add = s->call->mask.data && !bits;
    for (int vector = 0; vector < tile->width / VW; vector++) {
        if (bits) wide_masked(s, tile, vector, false, false, true, false);
        else if (!add) wide_masked(s, tile, vector, true, false, false, false);
        else if (tile->apart[vector]) wide_masked(s, tile, vector, true, true, false, false);
        else wide_masked(s, tile, vector, false, true, false, false);
    }
}

/* The same, with masked keys' weights marked. */
static __attribute__((noinline)) void wide_marked(const kernel_state *s, const wide_tile *tile) {
    const bool bits = tile->bits, add = s->call->mask.data && !bits;
    for (int vector = 0; vector < tile->width / VW; vector++) {
        if (bits) wide_masked(s, tile, vector, false, false, true, true);
        else if (add) wide_masked(s, tile, vector, true, true, false, true);
        else wide_masked(s, tile, vector, true, false, false, true);
    }
}

/* Weights and O where all rows see the same keys, link by link: a link's weights, 16 KiB, stay in the first-level cache for all
 * features. logits: they and their maxima stand already. */
VEC_INLINE void wide_links_of(const kernel_state *s, const wide_tile *tile, const element_rows *v, const bool logits) {
    if (!logits) wide_most(s, tile);
    for (int j = tile->rows.low, next; j < tile->rows.high; j = next) {
        next = wide_link_end(tile, j);
        WIDE_TOGETHER(wide_whole, tile->width, s, tile, logits, j, next);
        const product x = wide_sum_of(s, tile, v, j, next, j > tile->rows.low);
        element_product(&x);
    }
}

/* Functions of their own, so that the registers of one loop are not the other's concern. */
static __attribute__((noinline)) void wide_links(const kernel_state *s, const wide_tile *tile, const element_rows *v) {
    wide_links_of(s, tile, v, false);
}
static __attribute__((noinline)) void wide_biased_links(const kernel_state *s, const wide_tile *tile, const element_rows *v) {
    wide_links_of(s, tile, v, true);
}

/* The weights again, with the masked ones marked. */
static void wide_mark(const kernel_state *s, wide_tile *tile, const element_rows *k, const element_rows *v) {
    if (tile->open) { /* which did without these */
        tile->adds = tile->open = false;
        if (!tile->bits) wide_turn(s, tile);
        wide_limits(tile);
    }
    wide_scores(s, tile, k, v);
    wide_marked(s, tile);
}

/* Rows whose sums came out NaN, of a tile in which keys are masked: O again from marked weights. */
static void wide_repair(const kernel_state *s, wide_tile *tile, const element_rows *k, const element_rows *v) {
    bool marked = false;
    float nan[PANEL];
    wide_nan_rows(s, tile, nan);
    for (int r = 0; r < tile->rows.rows; r++) {
        if (nan[r] == 0) continue;
        if (!marked) wide_mark(s, tile, k, v);
        marked = true;
        wide_selected(s, tile, v, r);
    }
}

/* The tile's rows and the keys that they see. False: none. */
static bool wide_look(const kernel_state *s, wide_tile *tile, wide_turned *turned) {
    open_tile(s, &tile->rows, tile->start, tile->rows.row, tile->rows.rows);
    tile->open = tile->adds = tile->limits = false;
    if (s->call->mask.data) wide_mask_rows(s, tile);
    if (tile->bits) {
        bool own, *hides = turned ? &turned->hides[tile->rows.row / PANEL] : &own;
        if (!turned || turned->head == 0) *hides = bits_of_tile(s, tile);
        if (*hides) bits_narrow(s, tile);
        if (!close_tile(s, &tile->rows)) return false;
        tile->rows.masked = !bits_idle(tile);
        tile->open = tile->rows.masked && bits_open(s, tile);
    } else {
        tile->open = wide_open(s, tile);
        tile->adds = tile->open && turned;
        for (int vector = 0; s->call->mask.data && !tile->open && vector < tile->width / VW; vector++) wide_mask(s, tile, vector);
        if (!close_tile(s, &tile->rows)) return false;
    }
    tile->whole = !tile->rows.masked && wide_plain(s->call);
    if (!tile->whole && !tile->open) wide_limits(tile);
    return true;
}

static void attend_tile(const kernel_state *s, wide_tile *tile, int64_t index, const element_rows *k, const element_rows *v,
                        wide_turned *turned) {
    tile->start = index * s->call->key_block;
    if (!wide_look(s, tile, turned)) {
        fold_nothing(&s->fold, index, tile->rows.row, tile->rows.rows);
        return;
    }
    for (int r = 0; r < tile->width; r += VW) {
        vf_store(s->fold.part_m + r, vf_set1(-INFINITY));
        vf_store(s->fold.part_l + r, vf_zero());
    }
    if (tile->adds && turned->head == 0) turned->hides[tile->rows.row / PANEL] = wide_turn(s, tile);
    wide_scores(s, tile, k, v);
    if (tile->open && !tile->bits) {
        tile->rows.masked = tile->adds ? turned->hides[tile->rows.row / PANEL] : wide_bias(s, tile);
        wide_biased_links(s, tile, v);
    } else if (tile->whole || tile->open) {
        wide_links(s, tile, v);
    } else {
        wide_weights(s, tile);
        wide_sums(s, tile, v);
    }
    if (tile->rows.masked) wide_repair(s, tile, k, v);
    wide_fold(s, tile, index);
}

/* A tile's queries as columns, in its place among the work's. */
static void wide_queries(const kernel_state *s, int64_t row, int rows) {
    const int64_t stride = pack_width(s->depth);
    pack_queries(s, row, rows, s->query_rows, stride);
    const pack_source source = { .data = (const char *)s->query_rows, .type = INVAR_F32, .row_stride = stride * 4,
                                 .column_stride = 4 };
    pack_transposed(s->queries + row * s->depth, pack_width(rows), &source, 0, rows, s->depth);
}

static int64_t tile_rows(const kernel_state *s, int64_t row) { return s->rows - row < PANEL ? s->rows - row : PANEL; }

/* Where the walk goes on after a tile of block `index`. Of heads that share a mask the latter half calls the next block's. */
static void wide_next(const kernel_state *s, wide_tile *tile, int64_t index, const wide_turned *turned) {
    const bool down = tile->rows.row + PANEL < s->rows && !turned;
    tile->next_row = down ? tile->rows.row + PANEL : turned ? tile->rows.row : 0;
    tile->next_start = (down ? index : index + 1) * s->call->key_block;
    const bool any = tile->next_start < s->length && (down || index + 1 < s->work->block_last);
    const bool rows = s->call->mask.data && s->call->mask.row_stride && mask_form(s->call) != INVAR_MASK_NONE;
    tile->next_rows = any && rows ? (int)tile_rows(s, tile->next_row) : 0;
    if (!turned) return;
    const int half = turned->heads / 2, head = turned->head - half; /* lines that are called sooner do not stay */
    const int first = head < 0 ? 0 : tile->next_rows * head / half, last = head < 0 ? 0 : tile->next_rows * (head + 1) / half;
    tile->next_row += first;
    tile->next_rows = last - first;
}

/* The first key that no row up to `row` sees by position. */
static int64_t row_end(const kernel_state *s, int64_t row) {
    return invar_attention_range(s->call, s->length, (s->work->row_first + row) / s->call->group).last;
}

/* A block's keys' values as elements of neighbouring keys: read one at a time, they may begin anywhere. */
static element_rows wide_values(const kernel_state *s, int64_t start, int first, int last) {
    const int64_t columns = s->call->value_dim;
    if (NUMBERS == 1 && element_in_place(&s->v, columns) && columns >= VW)
        return element_block(s->values, &s->v, start, first, last, columns);
    return element_columns(s->values, &s->v, start, first, last, columns);
}

static void wide_key_block(const kernel_state *s, int64_t index, wide_turned *turned) {
    const int64_t start = index * s->call->key_block;
    int first, last;
    element_rows k = { 0 }, v = { 0 };
    const bool seen = block_span(s, start, &first, &last);
    if (seen) k = element_block(s->keys, &s->k, start, first, last, s->call->key_dim);
    if (seen) v = wide_values(s, start, first, last);
    for (int64_t row = 0; row < s->rows; row += PANEL) {
        wide_tile tile;
        tile.rows.row = row;
        tile.rows.rows = (int)tile_rows(s, row);
        tile.width = (int)pack_width(tile.rows.rows);
        tile.queries = s->queries + row * s->depth;
        tile.turned = s->mask + (turned ? row * s->call->key_block : 0);
        tile.bits = mask_form(s->call) == INVAR_MASK_BOOL ? (uint32_t *)(void *)tile.turned : NULL;
        const int64_t end = row_end(s, row + tile.rows.rows - 1);
        tile.finishes = !s->work->parts && (index + 1 == s->work->block_last || end <= start + s->call->key_block);
        if (!s->work->parts && index > s->work->block_first && end <= start) continue; /* it is finished */
        wide_next(s, &tile, index, turned);
        if (seen) attend_tile(s, &tile, index, &k, &v, turned);
        else fold_nothing(&s->fold, index, row, tile.rows.rows);
        if (tile.finishes) wide_finish(s, &tile);
    }
}

static void wide_all_queries(const kernel_state *s) {
    for (int64_t row = 0; row < s->rows; row += PANEL) wide_queries(s, row, (int)tile_rows(s, row));
}

/* Without a block there is none that finishes the rows: zeros. */
static void wide_without_keys(const kernel_state *s) {
    if (s->work->block_first == s->work->block_last && !s->work->parts) fold_finish(&s->fold, s->rows);
}

static void attend_wide(const kernel_state *s) {
    wide_all_queries(s);
    for (int64_t index = s->work->block_first; index < s->work->block_last; index++) wide_key_block(s, index, NULL);
    wide_without_keys(s);
}

#if !defined(ATTENTION_PAIRS)
/* All heads of the work, block by block: the block's part of their mask is turned once, and stays in cache. */
static void attend_together(const invar_attention_call *call, const invar_attention_work *work, float *scratch) {
    invar_attention_work works[INVAR_ATTENTION_HEADS];
    kernel_state s[INVAR_ATTENTION_HEADS];
    wide_turned turned = { .heads = (int)work->heads };
    for (int h = 0; h < turned.heads; h++) {
        works[h] = *work;
        works[h].kv_head += h;
        s[h] = open_state(call, &works[h], h, scratch);
        wide_all_queries(&s[h]);
    }
    for (int64_t index = work->block_first; index < work->block_last; index++)
        for (turned.head = 0; turned.head < turned.heads; turned.head++) wide_key_block(&s[turned.head], index, &turned);
    for (int h = 0; h < turned.heads; h++) wide_without_keys(&s[h]);
}
#endif

#endif
