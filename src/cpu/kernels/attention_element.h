/* What the products of attention multiply: float32 numbers or, in a build that defines ATTENTION_PAIRS, pairs of bfloat16
 * numbers of neighbouring features or keys (vec/pairs.h); with ATTENTION_SPLIT float16 numbers in two parts (attention_split.h).
 * Either way a factor is a matrix of 32-bit elements. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_ELEMENT_H
#define INVAR_CPU_KERNELS_ATTENTION_ELEMENT_H

#include "cpu/kernels/attention_pack.h"
#if defined(VEC_TILES) && defined(ATTENTION_PAIRS)
#include "cpu/kernels/product_tiles.h"
#endif
#if defined(ATTENTION_SPLIT)
#include "cpu/kernels/attention_split.h"
enum { PARTS = 2 }; /* of a number */
#else
enum { PARTS = 1 };
#endif

#if defined(ATTENTION_PAIRS)
enum { NUMBERS = 2 }; /* in an element */
#if defined(VEC_TILES)
#define ATTENTION_TILES
static void element_product(const product *x) { product_run_tiles(x); }
#else
static void element_product(const product *x) { product_run_pairs(x); }
static inline void element_stairs(const product *x, const product_stair *stairs, int count) {
    product_run_pair_stairs(x, stairs, count);
}
VEC_INLINE vf element_step(vf a, vf b, vf c) { return vf_dot_pairs(a, b, c); }
#endif
VEC_INLINE vf element_of(vf first, vf second) { return vf_pairs(first, second); }
/* Elements of which only the numbers said are kept; the other is 0. */
VEC_INLINE vf element_keep(vf x, bool first, bool second) { return vf_pairs_keep(x, first, second); }
static bool element_masked(float element, int number) {
    return (invar_bits_from_float(element) >> 16 * number & 0xffff) == 0x8000;
}
static inline void element_clear(float *element, int number) { ((uint16_t *)(void *)element)[number] = 0; }
/* A row of count (a multiple of VW) weights becomes elements, in place. */
static inline void element_row(float *row, int64_t count) {
    for (int64_t j = 0; j < count; j += VW) vf_store_bf16((uint16_t *)(void *)row + j, vf_load(row + j));
}
#else
enum { NUMBERS = 1 };
static void element_product(const product *x) { product_run(x); }
static inline void element_stairs(const product *x, const product_stair *stairs, int count) {
    product_run_stairs(x, stairs, count);
}
VEC_INLINE vf element_step(vf a, vf b, vf c) { return vf_fma(a, b, c); }
VEC_INLINE vf element_of(vf first, vf second) { return (void)second, first; }
VEC_INLINE vf element_keep(vf x, bool first, bool second) { return (void)first, (void)second, x; }
static bool element_masked(float element, int number) {
    return (void)number, invar_bits_from_float(element) == 0x80000000u;
}
static inline void element_clear(float *element, int number) { (void)number, *element = 0; }
static inline void element_row(float *row, int64_t count) { (void)row, (void)count; }
#endif

/* Elements that are one link of a sum (product.h), over a block's keys and over features. A sum of pairs is one link. */
enum { KEY_LINK = NUMBERS == 1 ? 64 : 256 };
static int64_t feature_link(int64_t depth) { return NUMBERS == 1 ? invar_attention_feature_link(depth) : depth + 1; }

/* Elements of so many numbers; of numbers in parts, in whole groups. */
static inline int64_t element_count(int64_t numbers) {
    if (PARTS == 2) return (numbers + 2 * VW - 1) / (2 * VW) * (2 * VW);
    return (numbers + NUMBERS - 1) / NUMBERS;
}

/* A matrix of elements: a row every `stride`. */
typedef struct element_rows {
    const float *data;
    int64_t stride;
} element_rows;

/* True when the rows of x, of `columns` numbers, stand in memory as elements. */
static bool element_in_place(const pack_source *x, int64_t columns) {
    const invar_float_type type = NUMBERS == 2 ? INVAR_BF16 : INVAR_F32;
    return x->type == type && pack_contiguous(x) && columns % NUMBERS == 0 && x->row_stride % 4 == 0 &&
           (uintptr_t)x->data % 4 == 0;
}

#if defined(ATTENTION_SPLIT)
static void element_pair_row(float *to, const pack_source *x, const char *from, int64_t columns) {
    split_row(to, x, from, columns);
}
#else
/* One row of bfloat16 numbers as pairs of neighbours, the last one's partner 0. */
static void element_pair_row(float *to, const pack_source *x, const char *from, int64_t columns) {
    uint16_t *numbers = (uint16_t *)(void *)to;
    if (columns % 2) numbers[columns] = 0;
    if (pack_contiguous(x) && columns % (2 * VW) == 0)
        for (int64_t c = 0; c < columns / 2; c += VW) vf_store(to + c, vf_load((const float *)(const void *)from + c));
    else if (pack_contiguous(x)) memcpy(to, from, 2 * (size_t)columns);
    else
        for (int64_t c = 0; c < columns; c++) memcpy(numbers + c, from + c * x->column_stride, 2);
}
#endif

/* Rows first … last-1, elements of neighbouring columns, `stride` apart: the factor that is summed over columns. */
static void element_pack_rows(float *to, int64_t stride, const pack_source *x, int64_t first, int64_t last, int64_t columns) {
    if (NUMBERS == 1) pack_rows(to, stride, x, first, last, columns);
    else
        for (int64_t r = first; r < last; r++, to += stride) element_pair_row(to, x, x->data + r * x->row_stride, columns);
}

#if defined(ATTENTION_PAIRS) && !defined(ATTENTION_SPLIT)
/* VW columns of two rows, NULL for zeros. */
static vf element_pair(const pack_source *x, const char *low, const char *high, int64_t column, int count) {
    uint16_t a[VW] = { 0 }, b[VW] = { 0 };
    const bool contiguous = pack_contiguous(x);
    const uint16_t *p = a, *q = b;
    if (contiguous && low) p = (const uint16_t *)(const void *)low + column;
    if (contiguous && high) q = (const uint16_t *)(const void *)high + column;
    for (int i = 0; !contiguous && i < count; i++) {
        if (low) memcpy(a + i, low + (column + i) * x->column_stride, 2);
        if (high) memcpy(b + i, high + (column + i) * x->column_stride, 2);
    }
    return count == VW ? vf_pairs_load(p, q) : vf_pairs_load_n(p, q, count);
}

/* Rows start + first … start + last-1 as pairs of neighbouring rows, counted from row `start`; a partner outside is 0. */
static void element_pack_pairs(float *to, int64_t stride, const pack_source *x, int64_t start, int first, int last,
                               int64_t columns) {
    const int64_t whole = pack_contiguous(x) ? columns / VW * VW : 0;
    for (int j = first / 2 * 2; j < last; j += 2) {
        const char *low = x->data + (start + j) * x->row_stride, *high = low + x->row_stride;
        const uint16_t *a = (const uint16_t *)(const void *)low, *b = (const uint16_t *)(const void *)high;
        int64_t c = 0;
        if (j >= first && j + 1 < last)
            for (; c < whole; c += VW) vf_store(to + j / 2 * stride + c, vf_pairs_load(a + c, b + c));
        for (; c < columns; c += VW)
            vf_store(to + j / 2 * stride + c, element_pair(x, j >= first ? low : NULL, j + 1 < last ? high : NULL, c,
                                                           columns - c < VW ? (int)(columns - c) : VW));
    }
}
#endif

#if !defined(ATTENTION_SPLIT)
/* Rows start + first … start + last-1 as elements of neighbouring rows, row j (from start) in element row j / NUMBERS: the
 * factor that is summed over rows. Columns are filled up with zeros to whole vectors; rows of a multiple of 512 bytes are packed a
 * line further apart, since 64 of them would ask for more than the ways of a first-level cache of 64 sets. */
static inline element_rows element_columns(float *packed, const pack_source *x, int64_t start, int first, int last,
                                           int64_t columns) {
#if defined(ATTENTION_PAIRS)
    const int64_t stride = pack_width(columns);
    element_pack_pairs(packed, stride, x, start, first, last, columns);
#else
    const int64_t stride = pack_width(columns) + (pack_width(columns) % 128 == 0 ? 16 : 0);
    if (element_in_place(x, columns) && columns % VW == 0)
        return (element_rows){ (const float *)(const void *)(x->data + start * x->row_stride), x->row_stride / 4 };
    pack_rows(packed + first * stride, stride, x, start + first, start + last, columns);
#endif
    return (element_rows){ packed, stride };
}
#endif

/* Rows start + first … as elements of neighbouring columns; row 0 is `start`. */
static inline element_rows element_block(float *packed, const pack_source *x, int64_t start, int first, int last,
                                         int64_t columns) {
    if (element_in_place(x, columns))
        return (element_rows){ (const float *)(const void *)(x->data + start * x->row_stride), x->row_stride / 4 };
    const int64_t stride = pack_width(element_count(columns));
    element_pack_rows(packed + first * stride, stride, x, start + first, start + last, columns);
    return (element_rows){ packed, stride };
}

/* VW columns of one row of O, without the keys whose weights are marked as masked: a masked value that is not finite adds
 * nothing, and the others add up as they do elsewhere. weight: element j at weight[j * step], from … to-1. */
static void element_selected(float *out, const float *weight, int64_t step, const float *b, int64_t b_row, int64_t from,
                             int64_t to) {
#if defined(ATTENTION_SPLIT)
    float kept[PARTS * TILE_SIDE][VW];
    for (int64_t j = from; j < to; j += PARTS * TILE_SIDE) {
        for (int64_t i = 0; i < PARTS * TILE_SIDE; i++) {
            const float p = weight[(j + i % TILE_SIDE) * step];
            vf_store(kept[i], element_keep(vf_load(b + (j + i) * b_row), !element_masked(p, 0), !element_masked(p, 1)));
        }
        product x = { .rows = 1, .columns = VW, .depth = TILE_SIDE, .a = weight + (j + TILE_SIDE) * step, .a_row = 1,
                      .a_step = step, .b = kept[0], .b_row = VW, .c = out, .c_row = VW, .resume = j > from };
        element_product(&x);
        x.a = weight + j * step;
        x.resume = true;
        element_product(&x);
        x.b = kept[TILE_SIDE];
        element_product(&x);
    }
#elif defined(ATTENTION_TILES)
    float kept[TILE_SIDE][VW];
    for (int64_t j = from, next; j < to; j = next) {
        next = (j / TILE_SIDE + 1) * TILE_SIDE < to ? (j / TILE_SIDE + 1) * TILE_SIDE : to;
        for (int64_t i = j; i < next; i++) {
            const float p = weight[i * step];
            vf_store(kept[i - j], element_keep(vf_load(b + i * b_row), !element_masked(p, 0), !element_masked(p, 1)));
        }
        const product x = { .rows = 1, .columns = VW, .depth = next - j, .a = weight + j * step, .a_row = 1, .a_step = step,
                            .b = kept[0], .b_row = VW, .c = out, .c_row = VW, .resume = j > from, .start = j };
        element_product(&x);
    }
#else
    vf sum = vf_zero();
    for (int64_t j = from, next; j < to; j = next) {
        vf link = vf_zero();
        for (next = product_link_end(KEY_LINK, j) < to ? product_link_end(KEY_LINK, j) : to; j < next; j++) {
            const float p = weight[j * step];
            const bool first = !element_masked(p, 0), second = NUMBERS > 1 && !element_masked(p, NUMBERS - 1);
            if (first || second) link = element_step(vf_set1(p), element_keep(vf_load(b + j * b_row), first, second), link);
        }
        sum = vf_add(sum, link);
    }
    vf_store(out, sum);
#endif
}

#if defined(ATTENTION_TILES)
/* A group of 32 rows, row 0 at row `start`, as a factor that is summed over rows; those before `first` and from `last` on
 * are 0. */
static void element_pack_group(float *to, int64_t stride, const pack_source *x, int64_t start, int first, int last,
                               int64_t columns) {
#if defined(ATTENTION_SPLIT)
    split_group(to, stride, x, x->data + start * x->row_stride, first, last, columns);
#else
    const int low = first / 2, high = (last + 1) / 2;
    memset(to, 0, sizeof(float) * (size_t)(low * stride));
    element_pack_pairs(to, stride, x, start, first, last, columns);
    memset(to + high * stride, 0, sizeof(float) * (size_t)((TILE_SIDE - high) * stride));
#endif
}

/* The weights of a group of 32 keys as elements. */
VEC_INLINE void element_weights(float *to, vf first, vf second) {
#if defined(ATTENTION_SPLIT)
    vf high, low;
    vf_pairs_split_weights(first, second, &high, &low);
    vf_store(to, high);
    vf_store(to + VW, low);
#else
    vf_store(to, vf_pairs_row(first, second));
#endif
}
#endif

#endif
