/* Packing for attention's products: rows of any floating type and stride become float32 matrices.
 *
 * product.h wants its right factor as rows of contiguous floats, the columns a multiple of VW; those beyond the matrix are
 * zero. Rows that are summed over become matrix rows as they are, others stand transposed, in panels of at most PANEL
 * columns, a register tile's; a panel's rows follow each other, so that a product reads ascending addresses. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_PACK_H
#define INVAR_CPU_KERNELS_ATTENTION_PACK_H

#include "cpu/kernels/attention.h"
#include "cpu/kernels/product.h"
#include "cpu/vec/typed.h"

enum { PANEL = PRODUCT_WIDEST * VW };

/* A matrix in memory: element (row, column) at data + row·row_stride + column·column_stride bytes. */
typedef struct pack_source {
    const char *data;
    invar_float_type type; /* not float64 */
    int64_t row_stride, column_stride;
} pack_source;

static inline pack_source pack_source_of(const invar_attention_call *call, const invar_attention_operand *x, int64_t batch,
                                         int64_t head) {
    return (pack_source){ .data = invar_attention_row(call, x, batch, head, 0), .type = x->type,
                          .row_stride = x->row_stride, .column_stride = x->column_stride };
}

static inline bool pack_contiguous(const pack_source *x) {
    return x->column_stride == (int64_t)invar_float_size(x->type);
}

/* n <= VW elements of a row as floats, the rest 0. type and contiguous are constants where this is inlined. */
VEC_INLINE vf pack_load(const invar_float_type type, const bool contiguous, const char *p, int64_t step, int n) {
    if (!contiguous) {
        float lane[VW] = { 0 };
        for (int i = 0; i < n; i++) lane[i] = (float)invar_load_float(p + i * step, type);
        return vf_load(lane);
    }
    return n == VW ? vf_load_as(type, p) : vf_load_as_n(type, p, n);
}

/* VW rows × VW columns, transposed: to[c·width + r]. Rows from `rows` and columns from `columns` on count as 0. */
VEC_INLINE void pack_square(const invar_float_type type, const bool contiguous, float *to, int64_t width, const char *from,
                            const pack_source *x, int rows, int columns) {
    vf r[VW];
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++)
        r[i] = i < rows ? pack_load(type, contiguous, from + i * x->row_stride, x->column_stride, columns) : vf_zero();
    vf_transpose(r);
    if (columns == VW) {
#pragma GCC unroll 16
        for (int i = 0; i < VW; i++) vf_store(to + i * width, r[i]);
    } else {
        vf lane[VW];
        memcpy(lane, r, sizeof lane);
        for (int i = 0; i < columns; i++) vf_store(to + i * width, lane[i]);
    }
}

/* Rows first … last-1 and all `depth` columns, transposed, into one panel of `width` columns. */
VEC_INLINE void pack_panel(const invar_float_type type, const bool contiguous, float *to, int64_t width,
                           const pack_source *x, int64_t first, int64_t last, int64_t depth) {
    for (int64_t r = 0; r < width; r += VW) {
        const int rows = last - first - r >= VW ? VW : last - first - r > 0 ? (int)(last - first - r) : 0;
        const char *from = x->data + (first + r) * x->row_stride;
        int64_t d = 0;
        if (rows == VW)
            for (; d + VW <= depth; d += VW)
                pack_square(type, contiguous, to + d * width + r, width, from + d * x->column_stride, x, VW, VW);
        for (; d < depth; d += VW)
            pack_square(type, contiguous, to + d * width + r, width, from + d * x->column_stride, x, rows,
                        depth - d < VW ? (int)(depth - d) : VW);
    }
}

/* The same for any type and stride. */
static inline void pack_transposed(float *to, int64_t width, const pack_source *x, int64_t first, int64_t last, int64_t depth) {
    if (!pack_contiguous(x)) {
        pack_panel(x->type, false, to, width, x, first, last, depth);
        return;
    }
    switch (x->type) {
    case INVAR_F16: pack_panel(INVAR_F16, true, to, width, x, first, last, depth); break;
    case INVAR_BF16: pack_panel(INVAR_BF16, true, to, width, x, first, last, depth); break;
    default: pack_panel(INVAR_F32, true, to, width, x, first, last, depth);
    }
}

/* `columns` elements of each row from first to last-1 as floats, then zeros up to a multiple of VW; rows of `to` are width
 * floats apart. */
VEC_INLINE void pack_rows_as(const invar_float_type type, const bool contiguous, float *to, int64_t width,
                             const pack_source *x, int64_t first, int64_t last, int64_t columns) {
    const int64_t step = x->column_stride, whole = columns / VW * VW;
    const char *p = x->data + first * x->row_stride;
    for (int64_t r = first; r < last; r++, p += x->row_stride, to += width) {
        for (int64_t c = 0; c < whole; c += VW) vf_store(to + c, pack_load(type, contiguous, p + c * step, step, VW));
        if (whole < columns)
            vf_store(to + whole, pack_load(type, contiguous, p + whole * step, step, (int)(columns - whole)));
    }
}

/* The same for any type and stride. */
static void pack_rows(float *to, int64_t width, const pack_source *x, int64_t first, int64_t last, int64_t columns) {
    if (!pack_contiguous(x)) {
        pack_rows_as(x->type, false, to, width, x, first, last, columns);
        return;
    }
    switch (x->type) {
    case INVAR_F16: pack_rows_as(INVAR_F16, true, to, width, x, first, last, columns); break;
    case INVAR_BF16: pack_rows_as(INVAR_BF16, true, to, width, x, first, last, columns); break;
    default: pack_rows_as(INVAR_F32, true, to, width, x, first, last, columns);
    }
}

static inline int64_t pack_width(int64_t columns) { return (columns + VW - 1) / VW * VW; }

#endif
