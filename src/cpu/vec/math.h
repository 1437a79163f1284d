/* exp2 and tanh in float32, from fma, multiplication, division and selection alone: the same bits on every instruction
 * set. Coefficients are minimax ones (Remez exchange), rounded to float. */
#ifndef INVAR_CPU_VEC_MATH_H
#define INVAR_CPU_VEC_MATH_H

#include "cpu/vec/vec.h"

/* 2^x for x <= 127, within 1 ulp: 2^round(x) times a polynomial of degree 6 on [-1/2, 1/2] (relative error 1.9e-9);
 * 0 below -126, -infinity included. NaN stays NaN. */
VEC_INLINE vf vf_exp2(vf x) {
    vf n = vf_round(x), f = vf_sub(x, n);
    vf p = vf_fma(vf_set1(0x1.41d334p-13f), f, vf_set1(0x1.5f456ap-10f));
    p = vf_fma(p, f, vf_set1(0x1.3b2dbcp-7f));
    p = vf_fma(p, f, vf_set1(0x1.c6aed4p-5f));
    p = vf_fma(p, f, vf_set1(0x1.ebfbdap-3f));
    p = vf_fma(p, f, vf_set1(0x1.62e430p-1f));
    p = vf_fma(p, f, vf_set1(1.0f));
    return vf_select(vf_nlt(x, vf_set1(-126.0f)), vf_scale2(p, n), vf_zero());
}

/* The same with a polynomial of degree 4 (relative error 2.8e-6), for weights that are rounded to bfloat16. */
VEC_INLINE vf vf_exp2_short(vf x) {
    vf n = vf_round(x), f = vf_sub(x, n);
    vf p = vf_fma(vf_set1(0x1.3a0518p-7f), f, vf_set1(0x1.c9fc68p-5f));
    p = vf_fma(p, f, vf_set1(0x1.ec036ep-3f));
    p = vf_fma(p, f, vf_set1(0x1.62e12cp-1f));
    p = vf_fma(p, f, vf_set1(1.0f));
    return vf_select(vf_nlt(x, vf_set1(-126.0f)), vf_scale2(p, n), vf_zero());
}

/* Below 0.625 an odd polynomial (relative error 4.4e-9), so that small arguments keep their relative accuracy; above,
 * (1 - e) / (1 + e) with e = exp(-2|x|). */
VEC_INLINE vf vf_tanh(vf x) {
    vf magnitude = vf_abs(x), square = vf_mul(x, x), one = vf_set1(1.0f);
    vf p = vf_fma(vf_set1(-0x1.75e1ccp-8f), square, vf_set1(0x1.52269cp-6f));
    p = vf_fma(p, square, vf_set1(-0x1.b83c5ap-5f));
    p = vf_fma(p, square, vf_set1(0x1.110726p-3f));
    p = vf_fma(p, square, vf_set1(-0x1.555532p-2f));
    vf near = vf_fma(vf_mul(p, square), x, x);
    vf e = vf_exp2(vf_mul(magnitude, vf_set1(-0x1.715476p+1f)));
    vf far = vf_div(vf_sub(one, e), vf_add(one, e));
    far = vf_select(vf_lt(x, vf_zero()), vf_neg(far), far);
    return vf_select(vf_lt(magnitude, vf_set1(0.625f)), near, far);
}

#endif
