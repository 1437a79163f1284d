/* Rows in and out of attention's gradients: any floating type and stride to padded float rows and back.
 *
 * A row of n elements is held as VJP_PADDED(n) floats, the rest zeros, so that every vector width divides it and its bits
 * are the same whatever the width. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_ROWS_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_ROWS_H

#include "cpu/kernels/attention_vjp.h"
#include "cpu/vec/typed.h"

#define VJP_PADDED(n) (((n) + 15) / 16 * 16)

VEC_INLINE vf vjp_load_typed(const char *p, const invar_float_type type, int n) {
    return n == VW ? vf_load_as(type, p) : vf_load_as_n(type, p, n);
}

VEC_INLINE void vjp_load_unit(float *to, const char *from, const invar_float_type type, int64_t n) {
    const int64_t size = (int64_t)invar_float_size(type);
    int64_t i = 0;
    for (; i + VW <= n; i += VW) vf_store(to + i, vjp_load_typed(from + i * size, type, VW));
    if (i < n) vf_store(to + i, vjp_load_typed(from + i * size, type, (int)(n - i)));
    for (i = (n + VW - 1) / VW * VW; i < VJP_PADDED(n); i += VW) vf_store(to + i, vf_zero());
}

/* One row to VJP_PADDED(n) floats. */
static void vjp_load_row(float *to, const char *from, const invar_attention_operand *x, int64_t n) {
    const bool unit = x->column_stride == (int64_t)invar_float_size(x->type);
    if (unit && x->type == INVAR_F32) vjp_load_unit(to, from, INVAR_F32, n);
    else if (unit && x->type == INVAR_F16) vjp_load_unit(to, from, INVAR_F16, n);
    else if (unit && x->type == INVAR_BF16) vjp_load_unit(to, from, INVAR_BF16, n);
    else {
        for (int64_t i = 0; i < n; i++) to[i] = (float)invar_load_float(from + i * x->column_stride, x->type);
        for (int64_t i = n; i < VJP_PADDED(n); i++) to[i] = 0;
    }
}

/* One row of n floats, rounded to x's type. +0 is added: the sign of a zero is no result. */
static void vjp_store_row(char *to, const invar_attention_operand *x, const float *from, int64_t n) {
    const bool unit = x->column_stride == (int64_t)invar_float_size(x->type);
    int64_t i = 0;
    for (; unit && i < n; i += VW) {
        const int count = n - i < VW ? (int)(n - i) : VW;
        const vf value = vf_add(vf_load(from + i), vf_zero());
        if (x->type == INVAR_F32) vf_store_n((float *)(void *)to + i, value, count);
        else if (x->type == INVAR_F16) vf_store_f16_n((uint16_t *)(void *)to + i, value, count);
        else if (x->type == INVAR_BF16) vf_store_bf16_n((uint16_t *)(void *)to + i, value, count);
    }
    for (; i < n; i++) invar_store_float(to + i * x->column_stride, x->type, (double)(from[i] + 0.0f));
}

static void vjp_zero(float *to, int64_t n) { memset(to, 0, sizeof *to * (size_t)n); }

/* True when all n floats, a multiple of VW, are finite: x · 0 is NaN for the others. */
static inline bool vjp_finite(const float *x, int64_t n) {
    vf sum = vf_zero();
    for (int64_t i = 0; i < n; i += VW) sum = vf_fma(vf_load(x + i), vf_zero(), sum);
    return vm_all(vf_eq(sum, vf_zero()));
}

/* The transpose of rows × columns floats, or units of four bytes; rows are a multiple of 16, columns of 8. */
static void vjp_transpose(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i += VW) {
        int64_t j = 0;
        for (; j + VW <= columns; j += VW) {
            vf square[VW];
#pragma GCC unroll 16
            for (int r = 0; r < VW; r++) square[r] = vf_load(from + (i + r) * from_row + j);
            vf_transpose(square);
#pragma GCC unroll 16
            for (int c = 0; c < VW; c++) vf_store(to + (j + c) * to_row + i, square[c]);
        }
        for (; j < columns; j++)
            for (int64_t r = i; r < i + VW; r++) memcpy(&to[j * to_row + r], &from[r * from_row + j], sizeof *to);
    }
}

/* Σ a·b of two rows of n elements in line, over 32 lanes and one tree. The lanes are named by constant subscripts. */
VEC_INLINE float vjp_dot_unit(const char *a, const char *b, const invar_float_type type, int64_t n) {
    const int64_t size = (int64_t)invar_float_size(type);
    vf lane[VSUM];
    for (int i = 0; i < VSUM; i++) lane[i] = vf_zero();
    for (int64_t d = 0; d < n; d += VSUM_LANES)
#pragma GCC unroll 8
        for (int i = 0; i < VSUM; i++) {
            const int64_t at = d + i * VW, left = n - at < 0 ? 0 : n - at;
            if (at >= VJP_PADDED(n)) break;
            if (left >= VW)
                lane[i] = vf_fma(vjp_load_typed(a + at * size, type, VW), vjp_load_typed(b + at * size, type, VW), lane[i]);
            else
                lane[i] = vf_fma(vjp_load_typed(a + at * size, type, (int)left), vjp_load_typed(b + at * size, type, (int)left),
                                 lane[i]);
        }
    return vsum_reduce(lane);
}

/* The same of rows of any type and stride; spare: room for two padded rows. */
static float vjp_dot_rows(float *spare, const char *a, const invar_attention_operand *x, const char *b,
                          const invar_attention_operand *y, int64_t n) {
    const int64_t size = (int64_t)invar_float_size(x->type);
    if (x->type == y->type && x->column_stride == size && y->column_stride == size) {
        if (x->type == INVAR_F32) return vjp_dot_unit(a, b, INVAR_F32, n);
        if (x->type == INVAR_F16) return vjp_dot_unit(a, b, INVAR_F16, n);
        if (x->type == INVAR_BF16) return vjp_dot_unit(a, b, INVAR_BF16, n);
    }
    vjp_load_row(spare, a, x, n);
    vjp_load_row(spare + VJP_PADDED(n), b, y, n);
    return vjp_dot_unit((const char *)spare, (const char *)(spare + VJP_PADDED(n)), INVAR_F32, VJP_PADDED(n));
}

static float vjp_load_scalar(const char *p, const invar_attention_operand *x) {
    return (float)invar_load_float(p, x->type);
}

#endif
