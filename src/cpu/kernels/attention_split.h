/* Factors of float16 numbers on AMX tiles, which multiply bfloat16: a number is the sum of two, its leading part and its rest
 * (vec/pairs.h). Among 32 numbers that a product sums over, whether features or keys, number i and number i + 16 are a pair, so
 * that no shuffle is needed: 16 elements of leading parts, then 16 of the rests. Of the products of parts, that of two rests
 * counts for scores; for O it is left out: less than 2⁻¹⁵ of what is added, and none on average, since V's leading part is the
 * nearest. Elsewhere it is cut off, so that neither part of a number has the other sign. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_SPLIT_H
#define INVAR_CPU_KERNELS_ATTENTION_SPLIT_H

#include "cpu/kernels/attention_pack.h"

enum { SPLIT_GROUP = 2 * VW };

/* VW numbers of a row from column c on, those from `columns` on 0; row: NULL for zeros. */
VEC_INLINE vf split_load(const bool contiguous, const pack_source *x, const char *row, int64_t c, int64_t columns) {
    const int64_t left = row ? columns - c : 0;
    if (left <= 0) return vf_zero();
    return pack_load(INVAR_F16, contiguous, row + c * x->column_stride, x->column_stride, left < VW ? (int)left : VW);
}

VEC_INLINE void split_store(float *high, float *low, vf first, vf second, const bool nearest) {
    vf h, l;
    vf_pairs_split(first, second, nearest, &h, &l);
    vf_store(high, h);
    vf_store(low, l);
}

/* A row as a factor that is summed over columns; filled up with zeros to whole groups. */
VEC_INLINE void split_row_as(const bool contiguous, float *to, const pack_source *x, const char *row, int64_t columns) {
    for (int64_t c = 0; c < columns; c += SPLIT_GROUP)
        split_store(to + c, to + c + VW, split_load(contiguous, x, row, c, columns),
                    split_load(contiguous, x, row, c + VW, columns), false);
}
static void split_row(float *to, const pack_source *x, const char *row, int64_t columns) {
    if (pack_contiguous(x)) split_row_as(true, to, x, row, columns);
    else split_row_as(false, to, x, row, columns);
}

/* 32 rows, row 0 at `data`, as a factor that is summed over rows, elements of a row `stride` apart; the rows before `first`
 * and from `last` on, and columns up to a whole vector, are 0. */
VEC_INLINE void split_group_as(const bool contiguous, float *to, int64_t stride, const pack_source *x, const char *data, int first,
                               int last, int64_t columns) {
    for (int j = 0; j < VW; j++) {
        const char *low = j >= first && j < last ? data + j * x->row_stride : NULL;
        const char *high = j + VW >= first && j + VW < last ? data + (j + VW) * x->row_stride : NULL;
        for (int64_t c = 0; c < columns; c += VW)
            split_store(to + j * stride + c, to + (j + VW) * stride + c, split_load(contiguous, x, low, c, columns),
                        split_load(contiguous, x, high, c, columns), true);
    }
}
static void split_group(float *to, int64_t stride, const pack_source *x, const char *data, int first, int last, int64_t columns) {
    if (pack_contiguous(x)) split_group_as(true, to, stride, x, data, first, last, columns);
    else split_group_as(false, to, stride, x, data, first, last, columns);
}

#endif
