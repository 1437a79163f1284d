/* One call of a norm or its VJP with all its tensors, for test_norm.c and test_norm_vjp.c. */
#ifndef NORM_CASE_H
#define NORM_CASE_H

#include "check.h"

#include <math.h>
#include <stdlib.h>

typedef enum norm_op { RMS, ADD_RMS, LAYER } norm_op;

/* The element types of a case; `none` where the tensor is absent. */
typedef struct norm_types {
    invar_dtype x, residual, weight, bias;
} norm_types;
static const invar_dtype none = { 0, 0, 0 };
#define ALL_F32 (norm_types){ check_f32, check_f32, check_f32, check_f32 }

static bool is(invar_dtype a, invar_dtype b) { return a.code == b.code && a.bits == b.bits; }

static invar_dtype promote(invar_dtype a, invar_dtype b) {
    if (!b.bits || is(a, b)) return a;
    return is(a, check_f64) || is(b, check_f64) ? check_f64 : check_f32;
}

static const int64_t contiguous[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

typedef struct norm_case {
    norm_op op;
    norm_types types;
    int64_t features, rows;
    check_array x, residual, weight, bias, y, sum;
    invar_norm_options options;
} norm_case;

static const invar_tensor *given(const check_array *array, invar_dtype type) { return type.bits ? &array->tensor : NULL; }

static void norm_case_init(norm_case *c, norm_op op, norm_types types, int ndim, const int64_t *shape, const int64_t *steps) {
    check_random random = { 7 };
    *c = (norm_case){ .op = op, .types = types, .features = shape[ndim - 1], .options = INVAR_NORM_OPTIONS_INIT };
    if (op != ADD_RMS) c->types.residual = none;
    if (op != LAYER) c->types.bias = none;
    invar_dtype sum = promote(types.x, c->types.residual), y = promote(promote(sum, types.weight), c->types.bias);
    if (op == LAYER && !types.weight.bits) y = types.x;
    const int64_t vector[8] = { c->features };
    check_array_init_strided(&c->x, types.x, ndim, shape, steps);
    check_array_init_strided(&c->residual, op == ADD_RMS ? types.residual : types.x, ndim, shape, steps);
    check_array_init_strided(&c->weight, types.weight.bits ? types.weight : types.x, 1, vector, steps + ndim - 1);
    check_array_init_strided(&c->bias, c->types.bias.bits ? types.bias : types.x, 1, vector, steps + ndim - 1);
    check_array_init_strided(&c->y, y, ndim, shape, steps);
    check_array_init_strided(&c->sum, sum, ndim, shape, steps);
    check_fill_normal(&c->x.tensor, &random, 0.5, 1);
    check_fill_normal(&c->residual.tensor, &random, 0, 1);
    check_fill_normal(&c->weight.tensor, &random, 1, 0.5);
    check_fill_normal(&c->bias.tensor, &random, 0, 1);
    c->rows = c->features ? check_count(&c->x.tensor) / c->features : 0;
}

static void norm_case_free(norm_case *c) {
    check_array *all[] = { &c->x, &c->residual, &c->weight, &c->bias, &c->y, &c->sum };
    for (int i = 0; i < 6; i++) check_array_free(all[i]);
}

static invar_status norm_case_call(norm_case *c, invar_context *context, const invar_norm_options *options) {
    const invar_tensor *weight = given(&c->weight, c->types.weight), *bias = given(&c->bias, c->types.bias);
    switch (c->op) {
    case RMS: return invar_rms_norm(context, &c->y.tensor, &c->x.tensor, weight, options);
    case ADD_RMS:
        return invar_add_rms_norm(context, &c->y.tensor, &c->sum.tensor, &c->x.tensor, &c->residual.tensor, weight, options);
    default: return invar_layer_norm(context, &c->y.tensor, &c->x.tensor, weight, bias, options);
    }
}

/* In scratch memory full of NaNs, unless the case says which. */
static invar_status norm_case_run(norm_case *c, invar_context *context) {
    invar_norm_options options = c->options;
    if (options.execution.plan || options.execution.workspace) return norm_case_call(c, context, &options);
    invar_plan plan = INVAR_PLAN_INIT;
    options.execution.plan = &plan;
    invar_status status = norm_case_call(c, context, &options);
    if (status != INVAR_OK) return status;
    check_poison(&options.execution, &plan);
    status = norm_case_call(c, context, &options);
    check_poison_free(&options.execution);
    return status;
}

/* A row's mean (0 for rms) and 1 / sqrt(variance + eps), straight from the definition. */
static void row_moments(const norm_case *c, const double *x, long double *mean, long double *scale) {
    long double total = 0, squares = 0;
    for (int64_t i = 0; i < c->features; i++) total += x[i];
    *mean = c->op == LAYER ? total / (long double)c->features : 0;
    for (int64_t i = 0; i < c->features; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *scale = 1 / sqrtl(squares / (long double)c->features + (long double)c->options.eps);
}

static double weight_at(const norm_case *c, int64_t i) { return c->types.weight.bits ? check_get(&c->weight.tensor, i) : 1; }

/* One rounding to `type`. */
static double unit_roundoff(invar_dtype type) {
    return is(type, check_f64) ? 0x1p-53 : is(type, check_f32) ? 0x1p-24 : is(type, check_f16) ? 0x1p-11 : 0x1p-8;
}

/* Allowed error of a result of `type`, relative and absolute to 1: its last rounding, and some 16 roundings of the arithmetic. */
static double tolerance(invar_dtype type) {
    double arithmetic = is(type, check_f64) ? 0x1p-53 : 0x1p-24;
    return unit_roundoff(type) + 16 * arithmetic;
}

#endif
