/* One backward call for the tests: its tensors, and an oracle that forms every pair in double from the same out and lse. */
#ifndef ATTENTION_VJP_CASE_H
#define ATTENTION_VJP_CASE_H

#include "attention_case.h"

enum { VJP_DQ, VJP_DK, VJP_DV, VJP_DSINKS, VJP_DMASK, VJP_GRADIENTS };
static UNUSED const char *const vjp_names[VJP_GRADIENTS] = { "dq", "dk", "dv", "dsinks", "dmask" };

typedef struct vjp_data {
    attention_data forward;
    check_array dout, dlse;
    check_array gradient[VJP_GRADIENTS];
    bool with_dlse, wanted[VJP_GRADIENTS];
} vjp_data;

static UNUSED bool vjp_float_mask(const attention_case *c) {
    return c->mask_type.bits && (c->mask_type.code == INVAR_FLOAT || c->mask_type.code == INVAR_BFLOAT);
}

/* Everything but out and lse, which attention_run fills. */
static UNUSED void vjp_init(vjp_data *x, const attention_case *c) {
    attention_data *d = &x->forward;
    attention_init(d, c);
    check_random random = { c->seed ^ 0x5bd1e995u };
    attention_array(&x->dout, c, c->type, c->heads, c->queries, c->value_dim);
    check_array_init(&x->dlse, d->lse.tensor.dtype, 3, d->lse.shape);
    check_fill_normal(&x->dout.tensor, &random, 0, 1);
    check_fill_normal(&x->dlse.tensor, &random, 0, 1);
    attention_array(&x->gradient[VJP_DQ], c, c->type, c->heads, c->queries, c->key_dim);
    attention_array(&x->gradient[VJP_DK], c, c->type, c->kv_heads, c->keys, c->key_dim);
    attention_array(&x->gradient[VJP_DV], c, c->type, c->kv_heads, c->keys, c->value_dim);
    check_array_init(&x->gradient[VJP_DSINKS], c->type, 1, &c->heads);
    check_array_init(&x->gradient[VJP_DMASK], d->mask.tensor.dtype, 4, d->mask.shape);
    for (int g = 0; g < VJP_GRADIENTS; g++) x->wanted[g] = true;
    x->wanted[VJP_DSINKS] = c->sinks;
    x->wanted[VJP_DMASK] = vjp_float_mask(c);
    x->with_dlse = c->seed % 2;
}

static UNUSED void vjp_free(vjp_data *x) {
    attention_free(&x->forward);
    check_array_free(&x->dout);
    check_array_free(&x->dlse);
    for (int g = 0; g < VJP_GRADIENTS; g++) check_array_free(&x->gradient[g]);
}

static UNUSED invar_status vjp_call_with(vjp_data *x, invar_context *context, const invar_attention_options *options) {
    attention_data *d = &x->forward;
    const attention_case *c = &d->shape;
    const invar_tensor *g[VJP_GRADIENTS];
    for (int i = 0; i < VJP_GRADIENTS; i++) g[i] = x->wanted[i] ? &x->gradient[i].tensor : NULL;
    return invar_scaled_dot_product_attention_vjp(
        context, g[VJP_DQ], g[VJP_DK], g[VJP_DV], g[VJP_DSINKS], g[VJP_DMASK], &x->dout.tensor, &d->q.tensor, &d->k.tensor,
        &d->v.tensor, &d->out.tensor, &d->lse.tensor, c->mask_type.bits ? &d->mask.tensor : NULL,
        c->sinks ? &d->sinks.tensor : NULL, c->lengths ? &d->lengths.tensor : NULL, x->with_dlse ? &x->dlse.tensor : NULL,
        options);
}

static UNUSED invar_status vjp_call(vjp_data *x, invar_context *context) {
    return vjp_call_with(x, context, &x->forward.shape.options);
}

static UNUSED bool vjp_run(vjp_data *x, invar_context *context) {
    invar_attention_options options = x->forward.shape.options;
    invar_plan plan = INVAR_PLAN_INIT;
    options.execution.plan = &plan;
    if (!attention_run(&x->forward, context) || !CHECK_OK(vjp_call_with(x, context, &options))) return false;
    check_poison(&options.execution, &plan);
    const bool good = CHECK_OK(vjp_call_with(x, context, &options));
    check_poison_free(&options.execution);
    return good;
}

/* ---- the oracle ------------------------------------------------------------------------------------ */

/* Each gradient in double, and beside it the sum of its terms' magnitudes, which is what rounding errors are shares of. */
typedef struct vjp_oracle {
    double *value[VJP_GRADIENTS], *magnitude[VJP_GRADIENTS];
} vjp_oracle;

static UNUSED void vjp_oracle_free(vjp_oracle *o) {
    for (int g = 0; g < VJP_GRADIENTS; g++) {
        free(o->value[g]);
        free(o->magnitude[g]);
    }
}

/* Adds to element (b, h, i, j) of a gradient; axes of size 1 are summed over. */
static UNUSED void vjp_add(vjp_oracle *o, const vjp_data *x, int g, int64_t b, int64_t h, int64_t i, int64_t j, double value,
                           double magnitude) {
    const int64_t index[4] = { b, h, i, j };
    const invar_tensor *t = &x->gradient[g].tensor;
    int64_t flat = 0;
    for (int axis = 0; axis < t->ndim; axis++) flat = flat * t->shape[axis] + (t->shape[axis] == 1 ? 0 : index[axis]);
    o->value[g][flat] += value;
    o->magnitude[g][flat] += magnitude;
}

/* One pair's score: q·k, the sum of its terms' magnitudes, and the derivative of the logit by q·k, without softcap and with it. */
typedef struct vjp_score {
    double magnitude, scale, slope;
} vjp_score;

static UNUSED vjp_score vjp_score_of(const attention_data *d, int64_t b, int64_t h, int64_t i, int64_t j) {
    const attention_case *c = &d->shape;
    const double scale = isnan(c->options.scale) ? (c->key_dim ? 1 / sqrt((double)c->key_dim) : 1) : c->options.scale;
    double score = 0, magnitude = 0;
    for (int64_t e = 0; e < c->key_dim; e++) {
        const double term = attention_at(&d->q.tensor, b, h, i, e) *
                            attention_at(&d->k.tensor, b, h / (c->heads / c->kv_heads), j, e);
        score += term;
        magnitude += fabs(term);
    }
    const double bend = c->options.softcap > 0 ? tanh(score * scale / c->options.softcap) : 0;
    return (vjp_score){ magnitude * fabs(scale), scale, scale * (1 - bend * bend) };
}

static UNUSED void vjp_pair(vjp_oracle *o, const vjp_data *x, int64_t b, int64_t h, int64_t i, int64_t j, double lse,
                            double delta, double delta_magnitude) {
    const attention_data *d = &x->forward;
    const attention_case *c = &d->shape;
    const int64_t kv = h / (c->heads / c->kv_heads);
    const double exponent = attention_logit(d, b, h, i, j);
    if (exponent == -INFINITY) return;
    /* A weight's relative error is its exponent's absolute one: so many roundings of numbers of that size. */
    const vjp_score score = vjp_score_of(d, b, h, i, j);
    const double p = exp(exponent - lse), spread = 8 + fabs(lse) + score.magnitude;
    double dp = 0, dp_magnitude = 0;
    for (int64_t e = 0; e < c->value_dim; e++) {
        const double dout = attention_at(&x->dout.tensor, b, h, i, e), term = dout * attention_at(&d->v.tensor, b, kv, j, e);
        dp += term;
        dp_magnitude += fabs(term);
        vjp_add(o, x, VJP_DV, b, kv, j, e, p * dout, spread * fabs(p * dout));
    }
    const double logit = p * (dp - delta), magnitude = spread * p * (dp_magnitude + delta_magnitude), slope = score.slope;
    /* With softcap the slope is a difference of numbers of size 1, which may be far smaller than their roundings' 8. */
    const double all = magnitude * fabs(slope) + (c->options.softcap > 0 ? 8 * fabs(logit * score.scale) : 0);
    for (int64_t e = 0; e < c->key_dim; e++) {
        const double q = attention_at(&d->q.tensor, b, h, i, e), k = attention_at(&d->k.tensor, b, kv, j, e);
        vjp_add(o, x, VJP_DQ, b, h, i, e, logit * slope * k, all * fabs(k));
        vjp_add(o, x, VJP_DK, b, kv, j, e, logit * slope * q, all * fabs(q));
    }
    if (vjp_float_mask(c)) vjp_add(o, x, VJP_DMASK, b, h, i, j, logit, magnitude);
}

static UNUSED void vjp_row(vjp_oracle *o, const vjp_data *x, int64_t b, int64_t h, int64_t i) {
    const attention_data *d = &x->forward;
    const attention_case *c = &d->shape;
    const double lse = check_get(&d->lse.tensor, (b * c->heads + h) * c->queries + i);
    double delta = 0, magnitude = 0;
    if (lse == -INFINITY) return;
    for (int64_t e = 0; e < c->value_dim; e++) {
        const double term = attention_at(&x->dout.tensor, b, h, i, e) * attention_at(&d->out.tensor, b, h, i, e);
        delta += term;
        magnitude += fabs(term);
    }
    if (x->with_dlse) {
        const double dlse = check_get(&x->dlse.tensor, (b * c->heads + h) * c->queries + i);
        delta -= dlse;
        magnitude += fabs(dlse);
    }
    for (int64_t j = 0; j < c->keys; j++) vjp_pair(o, x, b, h, i, j, lse, delta, magnitude);
    if (!c->sinks) return;
    const double p = exp(check_get(&d->sinks.tensor, h) - lse);
    o->value[VJP_DSINKS][h] -= p * delta;
    o->magnitude[VJP_DSINKS][h] += (8 + fabs(lse)) * p * magnitude;
}

static UNUSED vjp_oracle vjp_expect(const vjp_data *x) {
    const attention_case *c = &x->forward.shape;
    vjp_oracle o;
    for (int g = 0; g < VJP_GRADIENTS; g++) {
        const size_t count = (size_t)check_count(&x->gradient[g].tensor) + 1;
        o.value[g] = calloc(count, sizeof(double));
        o.magnitude[g] = calloc(count, sizeof(double));
    }
    for (int64_t b = 0; b < c->batch; b++)
        for (int64_t h = 0; h < c->heads; h++)
            for (int64_t i = 0; i < c->queries; i++) vjp_row(&o, x, b, h, i);
    return o;
}

/* Rounding errors allowed, as a share of the terms' magnitude: a few ulps, or two of bfloat16's where p and ds are rounded
 * to it for dot products (an eighth, since magnitudes count for 8 ulps and more). */
static UNUSED double vjp_share(invar_dtype type, const char *cpu) {
    const bool dot = type.code == INVAR_BFLOAT && (!strcmp(cpu, "avx512bf16") || !strcmp(cpu, "amx"));
    return type.bits == 64 || !strcmp(cpu, "reference") ? 0x1p-52 : dot ? 0x1p-10 : 0x1p-23;
}

/* The result's own rounding. */
static UNUSED double vjp_rounding(invar_dtype type) {
    return type.bits == 64 ? 0x1p-53 : type.bits == 32 ? 0x1p-24 : type.code == INVAR_BFLOAT ? 0x1p-8 : 0x1p-11;
}
static UNUSED double vjp_smallest(invar_dtype type) {
    return type.bits == 64 ? 0 : type.bits == 32 ? 0x1p-126 : type.code == INVAR_BFLOAT ? 0x1p-126 : 0x1p-25;
}

/* Compares with the oracle every gradient that was wanted. Returns the largest error as a share of what is allowed. */
static UNUSED double vjp_compare(const vjp_data *x, const char *cpu, const char *what) {
    vjp_oracle o = vjp_expect(x);
    double worst = 0;
    for (int g = 0; g < VJP_GRADIENTS; g++) {
        const invar_tensor *t = &x->gradient[g].tensor;
        const double share = vjp_share(
                g >= VJP_DSINKS ? t->dtype.bits == 64 ? check_f64 : check_f32 : x->forward.shape.type, cpu);
        for (int64_t i = 0, n = x->wanted[g] ? check_count(t) : 0; i < n; i++) {
            const double got = check_get(t, i), expected = o.value[g][i];
            const double allowed = share * o.magnitude[g][i] + vjp_rounding(t->dtype) * 1.01 * fabs(expected) +
                                   vjp_smallest(t->dtype);
            const bool same = got == expected || (isnan(got) && isnan(expected)) || fabs(got - expected) <= allowed;
            CHECK(same, "%s, %s, %s[%lld]: expected %.9g, got %.9g, allowed %.2g", what, cpu, vjp_names[g], (long long)i,
                  expected, got, allowed);
            if (allowed > 0) worst = fmax(worst, fabs(got - expected) / allowed);
        }
    }
    vjp_oracle_free(&o);
    return worst;
}

#endif
