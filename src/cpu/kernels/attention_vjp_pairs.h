/* The operands of attention's gradients as pairs of bfloat16 numbers (vec/pairs.h). A pair lies along the index that a product
 * sums over, so each operand exists in the forms its products need:
 *
 *   rows      pairs of neighbouring features, as bfloat16 rows lie in memory: A of the scores; turned, their B
 *   joined    pairs of neighbouring rows, feature by feature: B of dq, dk and dv
 *
 * and so do the tiles of weights. A pair takes the place of one float of the float32 form. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_PAIRS_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_PAIRS_H

#include "cpu/kernels/attention_vjp_rows.h"
#include "cpu/kernels/attention_vjp_tile.h"

#if defined(VEC_PAIRS)

/* One row of n bfloat16 elements of any stride, then zeros up to VJP_PADDED(n). */
static void vjp_load_narrow(float *to, const char *from, const invar_attention_operand *x, int64_t n) {
    uint16_t *row = (uint16_t *)(void *)to;
    if (x->column_stride == 2) memcpy(row, from, 2 * (size_t)n);
    else
        for (int64_t i = 0; i < n; i++) memcpy(row + i, from + i * x->column_stride, 2);
    for (int64_t i = n; i < VJP_PADDED(n); i++) row[i] = 0;
}

static bool vjp_finite_narrow(const float *from, int64_t n) {
    const uint16_t *x = (const uint16_t *)(const void *)from;
    uint16_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (x[i] & 0x7f80) == 0x7f80;
    return !bad;
}

/* Rows of `columns` bfloat16 elements, an even number of them, joined two by two. */
static void vjp_join(float *to, const float *from, int64_t rows, int64_t columns) {
    const uint16_t *row = (const uint16_t *)(const void *)from;
    for (int64_t r = 0; r < rows; r += 2, row += 2 * columns, to += columns)
        for (int64_t d = 0; d < columns; d += VW) vf_store(to + d, vf_pairs_load(row + d, row + columns + d));
}

/* Rows of p and ds, a tile each, as pairs: p and ds joined by query, and ds by key. An odd last row is joined with zeros;
 * keys beyond the last one are zeros in ds by key. */
static void vjp_narrow_tiles(const float *score, float *slope, float *p, float *ds, float *ds_rows, int64_t rows, int64_t keys) {
    const int64_t columns = VJP_PADDED(keys);
    for (int64_t r = 0; r < rows; r++) {
        float *row = slope + r * VJP_KEYS;
        for (int64_t j = keys; j < columns; j++) row[j] = 0;
        for (int64_t j = 0; j < columns; j += 2 * VW)
            vf_store(ds_rows + r * VJP_KEYS / 2 + j / 2,
                     vf_pairs_row(vf_load(row + j), j + VW < columns ? vf_load(row + j + VW) : vf_zero()));
    }
    for (int64_t r = 0; r < rows; r += 2, score += 2 * VJP_KEYS, slope += 2 * VJP_KEYS, p += VJP_KEYS, ds += VJP_KEYS)
        for (int64_t j = 0; j < columns; j += VW) {
            const bool both = r + 1 < rows;
            vf_store(p + j, vf_pairs(vf_load(score + j), both ? vf_load(score + VJP_KEYS + j) : vf_zero()));
            vf_store(ds + j, vf_pairs(vf_load(slope + j), both ? vf_load(slope + VJP_KEYS + j) : vf_zero()));
        }
}

#endif
#endif
