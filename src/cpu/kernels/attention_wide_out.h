/* O of many query rows, which stands as columns, a vector of query rows for each feature, from its products until it is divided:
 * Oᵀ = Vᵀ Pᵀ reads V as it stands, one element at a time, so that V's rows may begin anywhere and have any length.
 *
 * fold.part is [value_dim][width] of a tile, and so is each tile's part of fold.out. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_WIDE_OUT_H
#define INVAR_CPU_KERNELS_ATTENTION_WIDE_OUT_H

#include "cpu/kernels/attention_wide_bits.h"

/* Oᵀ = Vᵀ Pᵀ for keys from … to-1, all of one link. */
static product wide_sum_of(const kernel_state *s, const wide_tile *tile, const element_rows *v, int from, int to, bool join) {
    const int64_t element = from / NUMBERS;
    return (product){
        .rows = s->call->value_dim, .columns = tile->width, .depth = element_count(to) - element,
        .a = v->data + element * v->stride, .a_row = 1, .a_step = v->stride, .b = s->scores + element * tile->width,
        .b_row = tile->width, .c = s->fold.part, .c_row = tile->width, .join = join, .at_once = s->call->strong_cores,
    };
}

/* The first key behind the tile's part of the link that holds key j. */
static int wide_link_end(const wide_tile *tile, int j) {
    const int next = (int)product_link_end(KEY_LINK, j);
    return next < tile->rows.high ? next : tile->rows.high;
}

/* A link's elements from … to-1, cut where a vector of rows begins or ceases to see keys. Returns the number of pieces. */
static int wide_stairs(const wide_tile *tile, int64_t from, int64_t to, product_stair *stairs) {
    int count = 0;
    for (int64_t begin = from, end; begin < to; begin = end) {
        int first = PANEL_VECTORS, last = 0;
        end = to;
        for (int i = 0; i < PANEL_VECTORS; i++) {
            const int64_t low = tile->low[i] / NUMBERS, high = element_count(tile->high[i]);
            if (low > begin && low < end) end = low;
            if (high > begin && high < end) end = high;
            if (low > begin || high <= begin) continue;
            if (first > i) first = i;
            last = i + 1;
        }
        if (first >= last || last < PANEL_VECTORS) first = 0; /* weights of 0 for those */
        if (last == 0) last = 1;
        stairs[count++] = (product_stair){ end - begin, first, last };
    }
    return count;
}

/* O where rows see different keys. */
static void wide_sums(const kernel_state *s, const wide_tile *tile, const element_rows *v) {
    for (int j = tile->rows.low, next; j < tile->rows.high; j = next) {
        next = wide_link_end(tile, j);
        const product x = wide_sum_of(s, tile, v, j, next, j > tile->rows.low);
        product_stair stairs[2 * PANEL_VECTORS + 1];
        const int count = tile->width == PANEL ? wide_stairs(tile, j / NUMBERS, element_count(next), stairs) : 1;
        if (count > 1) element_stairs(&x, stairs, count);
        else element_product(&x);
    }
}

/* Rows of N vectors from `first` on that saw a key and whose sums came out NaN, as numbers that are not 0. */
VEC_INLINE void wide_nan_vectors(const kernel_state *s, const wide_tile *tile, float *nan, const int N, int first) {
    const float *part = s->fold.part + first * VW, *l = s->fold.part_l + first * VW;
    vf sum[WIDE_VECTORS];
    for (int i = 0; i < N; i++) sum[i] = vf_load(l + i * VW);
    for (int64_t d = 0; d < s->call->value_dim; d++)
        for (int i = 0; i < N; i++) sum[i] = vf_fma(vf_load(part + d * tile->width + i * VW), vf_zero(), sum[i]);
    for (int i = 0; i < N; i++) {
        const vm seen = vm_not(vf_eq(vf_load(l + i * VW), vf_zero()));
        vf_store(nan + (first + i) * VW, vf_select(vm_and(seen, vm_not(vf_eq(sum[i], sum[i]))), vf_set1(1), vf_zero()));
    }
}

static void wide_nan_rows(const kernel_state *s, const wide_tile *tile, float *nan) {
    WIDE_TOGETHER(wide_nan_vectors, tile->width, s, tile, nan);
}

/* O of one row again, without its masked keys. V's rows may end with value_dim. */
static void wide_selected(const kernel_state *s, const wide_tile *tile, const element_rows *v, int r) {
    const int64_t columns = s->call->value_dim, last = columns < VW ? 0 : columns - VW;
    for (int64_t c = 0; c < columns; c += VW) {
        const int64_t first = c < last ? c : last;
        float o[VW];
        element_selected(o, s->scores + r, tile->width, v->data + first, v->stride, tile->rows.low / NUMBERS,
                         element_count(tile->rows.high));
        for (int64_t i = first; i < first + VW && i < columns; i++) s->fold.part[i * tile->width + r] = o[i - first];
    }
}

/* Floats from one row of O to the next where it stands as rows: a line more, since rows of 1024 bytes would push each other out
 * of the first-level cache while they are turned. */
static int64_t wide_stride(const kernel_state *s) { return s->width + CALL_LINE; }

/* A tile's sums as rows. */
static void wide_rows(const kernel_state *s, const wide_tile *tile, const float *columns, float *to) {
    const pack_source source = { .data = (const char *)columns, .type = INVAR_F32, .row_stride = 4 * tile->width, .column_stride = 4 };
    pack_transposed(to, wide_stride(s), &source, 0, s->call->value_dim, tile->rows.rows);
}

/* o ← fma(part, weight, o · shrink) for N vectors of rows from `first` on, where these saw a key. */
VEC_INLINE void wide_fold_vectors(const kernel_state *s, const wide_tile *tile, float *o, const int N, int first) {
    const fold_state *f = &s->fold;
    vf shrink[WIDE_VECTORS], weight[WIDE_VECTORS];
    vm unseen[WIDE_VECTORS];
    for (int i = 0; i < N; i++) {
        const int r = (first + i) * VW, left = tile->rows.rows - r, count = left < VW ? left : VW;
        float *m = f->m + tile->rows.row + r, *l = f->l + tile->rows.row + r;
        vf most = vf_load_n(m, count), total = vf_load_n(l, count);
        const vf part_l = vf_load(f->part_l + r);
        fold_factors(&most, &total, vf_load(f->part_m + r), part_l, &shrink[i], &weight[i]);
        vf_store_n(m, most, count);
        vf_store_n(l, total, count);
        unseen[i] = vf_eq(part_l, vf_zero());
    }
    for (int64_t d = 0; d < s->call->value_dim; d++)
        for (int i = 0; i < N; i++) {
            const int64_t at = d * tile->width + (first + i) * VW;
            const vf old = vf_load(o + at), sum = vf_fma(vf_load(f->part + at), weight[i], vf_mul(old, shrink[i]));
            vf_store(o + at, vf_select(unseen[i], old, sum));
        }
}

/* The tile's part of O, as columns, into the chunk's state, or out as rows. */
static void wide_fold(const kernel_state *s, const wide_tile *tile, int64_t index) {
    const int64_t row = tile->rows.row;
    fold_state rows = s->fold;
    if (rows.work->parts) {
        rows.part = s->query_rows;
        rows.width = wide_stride(s);
        wide_rows(s, tile, s->fold.part, rows.part);
        fold_tile(&rows, index, row, tile->rows.rows);
    } else if (rows.only) {
        memcpy(rows.m + row, rows.part_m, sizeof *rows.m * (size_t)tile->rows.rows);
        memcpy(rows.l + row, rows.part_l, sizeof *rows.l * (size_t)tile->rows.rows);
    } else {
        WIDE_TOGETHER(wide_fold_vectors, tile->width, s, tile, rows.out + row * s->width);
    }
}

/* What the sums of a tile's rows are still to be multiplied by, and then divided: l, 0 of a row that saw no key. */
typedef struct wide_divisor {
    float shrink[PANEL], l[PANEL];
} wide_divisor;

/* o · shrink / l in place, in N vectors of rows from `first` on; 0 for a row that saw no key. */
VEC_INLINE void wide_divide_vectors(const kernel_state *s, float *o, int64_t width, const wide_divisor *by, const int N,
                                    int first) {
    vf l[WIDE_VECTORS], shrink[WIDE_VECTORS];
    const int64_t count = s->call->value_dim;
    for (int i = 0; i < N; i++) {
        l[i] = vf_load(by->l + (first + i) * VW);
        shrink[i] = vf_load(by->shrink + (first + i) * VW);
    }
    o += first * VW;
#if defined(VEC_DIVIDES_SLOWLY)
    vf r[WIDE_VECTORS], least[WIDE_VECTORS], most[WIDE_VECTORS];
    bool fast = true;
    for (int i = 0; i < N; i++) {
        least[i] = vf_set1(INFINITY);
        most[i] = vf_zero();
        r[i] = vf_div(vf_set1(1), l[i]);
    }
    for (int64_t d = 0; d < count; d++)
        for (int i = 0; i < N; i++) {
            const vf x = vf_abs(vf_load(o + d * width + i * VW));
            least[i] = vf_min(x, least[i]);
            most[i] = vf_max(x, most[i]);
        }
    for (int i = 0; i < N; i++) {
        fast &= fold_is_plain(vf_mul(least[i], shrink[i]), vf_mul(most[i], shrink[i]));
        fast &= vm_all(vm_and(vf_le(vf_set1(0.5f), l[i]), vf_le(l[i], vf_set1(0x1p30f))));
    }
    for (int64_t d = 0; fast && d < count; d++)
        for (int i = 0; i < N; i++) {
            const vf x = vf_mul(vf_load(o + d * width + i * VW), shrink[i]);
            vf_store(o + d * width + i * VW, fold_quotient(x, l[i], r[i]));
        }
    if (fast) return;
#endif
    for (int64_t d = 0; d < count; d++)
        for (int i = 0; i < N; i++) {
            const vf x = vf_mul(vf_load(o + d * width + i * VW), shrink[i]);
            const vf y = vf_add(vf_div(x, l[i]), vf_zero());
            vf_store(o + d * width + i * VW, vf_select(vf_eq(l[i], vf_zero()), vf_zero(), y));
        }
}

/* What a tile's state comes to. */
static void wide_finish(const kernel_state *s, const wide_tile *tile) {
    const fold_state *f = &s->fold;
    const int64_t row = tile->rows.row;
    const int rows = tile->rows.rows;
    float *o = f->only ? f->part : f->out + row * s->width;
    wide_divisor by;
    for (int r = 0; r < tile->width; r++) {
        by.shrink[r] = r < rows ? finish_state(f, row + r) : 1;
        by.l[r] = r < rows ? f->l[row + r] : 1;
    }
    if (!s->call->out.data) return;
    WIDE_TOGETHER(wide_divide_vectors, tile->width, s, o, tile->width, &by);
    wide_rows(s, tile, o, s->query_rows);
    for (int r = 0; r < rows; r++) {
        char *to = invar_attention_unit_row(s->call, &s->call->out, f->first_out, s->work->row_first + row + r);
        store_row(s->call, to, s->query_rows + r * wide_stride(s), 0);
    }
}

#endif
