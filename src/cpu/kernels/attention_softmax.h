/* A block's weights: scores become logits in base 2, masked ones -inf, and these become exp2(t - max), with their maximum
 * and sum. docs/invariance.md fixes every operation.
 *
 * In a grid of scores a vector holds VW neighbouring columns. Where columns are query rows, maxima and sums run down the
 * grid; where they are keys, along it, and the sum's chain is scalar. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_SOFTMAX_H
#define INVAR_CPU_KERNELS_ATTENTION_SOFTMAX_H

#include "cpu/kernels/attention.h"
#include "cpu/vec/math.h"

/* Logits without mask. */
VEC_INLINE vf softmax_scaled(const invar_attention_call *call, vf score) {
    if (call->softcap > 0) return vf_mul(vf_set1(call->cap_height), vf_tanh(vf_mul(score, vf_set1(call->cap_scale))));
    return vf_mul(score, vf_set1(call->score_scale));
}

/* With additive values. */
VEC_INLINE vf softmax_added(vf t, vf a) {
    const vf hidden = vf_set1(-INFINITY);
    return vf_select(vf_eq(a, hidden), hidden, vf_fma(a, vf_set1((float)INVAR_LOG2E), t));
}

/* The weight of a logit that is not masked, and of one that may be: -0 then, which tells it from one that underflowed. */
#if defined(ATTENTION_PAIRS)
VEC_INLINE vf softmax_weight(vf t, vf shift) { return vf_exp2_short(vf_sub(t, shift)); }
#else
VEC_INLINE vf softmax_weight(vf t, vf shift) { return vf_exp2(vf_sub(t, shift)); }
#endif
VEC_INLINE vf softmax_marked(vf t, vf weight) { return vf_select(vf_eq(t, vf_set1(-INFINITY)), vf_set1(-0.0f), weight); }

/* What logits of a maximum are taken relative to. */
VEC_INLINE vf softmax_shift(vf most) { return vf_select(vf_eq(most, vf_set1(-INFINITY)), vf_zero(), most); }

/* log2 of a normal number >= 1: exponent, and 2·atanh((f - 1) / (f + 1)) / ln 2 of the fraction in [sqrt(1/2), sqrt(2)),
 * its series to the 23rd power (relative error below 1e-17 of it). */
static inline double softmax_log2(float x) {
    uint32_t bits = invar_bits_from_float(x);
    int exponent = (int)(bits >> 23) - 127;
    double f = invar_float_from_bits((bits & 0x7fffff) | 0x3f800000u);
    if (f > 1.4142135623730951) {
        f *= 0.5;
        exponent++;
    }
    const double z = (f - 1) / (f + 1), square = z * z;
    double series = 0;
    for (int n = 23; n >= 1; n -= 2) series = series * square + 1.0 / n;
    return exponent + 2 * INVAR_LOG2E * z * series;
}

/* Natural logarithm of the softmax's denominator; -inf where nothing was seen. */
static inline float softmax_lse(float m, float l) {
    if (l == 0) return -INFINITY;
    if (!(l < INFINITY)) return l;
    return (float)((m + softmax_log2(l)) * INVAR_LN2);
}

#endif
