/* A block's weights: scores become logits in base 2, masked ones -inf, and these become exp2(t - max), with their maximum
 * and sum. docs/invariance.md fixes every operation. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_SOFTMAX_H
#define INVAR_CPU_KERNELS_ATTENTION_SOFTMAX_H

#include "cpu/kernels/attention.h"
#include "cpu/vec/math.h"

static const float softmax_lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

/* One row: scores of keys from … to-1 of the block (multiples of VW), of which the row may see first … last-1. mask: the
 * row's additive values, or NULL. */
typedef struct softmax_row {
    float *score;
    const float *mask;
    int from, to, first, last;
} softmax_row;

/* t of VW keys from key j on. */
VEC_INLINE vf softmax_logit(const invar_attention_call *call, const softmax_row *row, int j, const bool capped) {
    vf t = vf_load(row->score + j);
    if (capped) t = vf_mul(vf_set1(call->cap_height), vf_tanh(vf_mul(t, vf_set1(call->cap_scale))));
    else t = vf_mul(t, vf_set1(call->score_scale));
    if (row->mask) {
        const vf added = vf_load(row->mask + j), hidden = vf_set1(-INFINITY);
        t = vf_select(vf_eq(added, hidden), hidden, vf_fma(added, vf_set1((float)INVAR_LOG2E), t));
    }
    if (j < row->first || j + VW > row->last) {
        const vf lane = vf_load(softmax_lane);
        const vm seen = vm_and(vf_le(vf_set1((float)(row->first - j)), lane), vf_lt(lane, vf_set1((float)(row->last - j))));
        t = vf_select(seen, t, vf_set1(-INFINITY));
    }
    return t;
}

/* Logits in place of scores; returns their maximum. */
VEC_INLINE float softmax_logits(const invar_attention_call *call, const softmax_row *row, const bool capped) {
    vf most[2] = { vf_set1(-INFINITY), vf_set1(-INFINITY) };
    int j = row->from;
    for (; j + 2 * VW <= row->to; j += 2 * VW) {
        const vf t = softmax_logit(call, row, j, capped), u = softmax_logit(call, row, j + VW, capped);
        vf_store(row->score + j, t);
        vf_store(row->score + j + VW, u);
        most[0] = vf_max(t, most[0]); /* a NaN does not enter */
        most[1] = vf_max(u, most[1]);
    }
    if (j < row->to) {
        const vf t = softmax_logit(call, row, j, capped);
        vf_store(row->score + j, t);
        most[0] = vf_max(t, most[0]);
    }
    return vf_hmax(vf_max(most[0], most[1]));
}

/* Weights in place of logits, relative to `most`; returns their sum. With marked, a masked key's weight is -0, which tells
 * it from a weight that underflowed. */
VEC_INLINE float softmax_weights(const softmax_row *row, float most, const bool marked) {
    const vf shift = vf_set1(most == -INFINITY ? 0 : most);
    vf sum[VSUM];
    for (int i = 0; i < VSUM; i++) sum[i] = vf_zero();
    for (int j = row->from / VSUM_LANES * VSUM_LANES; j < row->to; j += VSUM_LANES)
#pragma GCC unroll 8
        for (int i = 0; i < VSUM; i++) {
            const int at = j + i * VW;
            if (VSUM > 1 && (at < row->from || at >= row->to)) continue;
            const vf t = vf_load(row->score + at);
            const vf p = vf_exp2(vf_sub(t, shift));
            vf_store(row->score + at, marked ? vf_select(vf_eq(t, vf_set1(-INFINITY)), vf_set1(-0.0f), p) : p);
            sum[i] = vf_add(sum[i], p);
        }
    return vsum_reduce(sum);
}

/* The whole row: weights in place of scores, m and l. */
static void softmax_block(const invar_attention_call *call, const softmax_row *row, bool marked, float *m, float *l) {
    *m = call->softcap > 0 ? softmax_logits(call, row, true) : softmax_logits(call, row, false);
    *l = marked ? softmax_weights(row, *m, true) : softmax_weights(row, *m, false);
}

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
