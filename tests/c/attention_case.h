/* One attention call for the tests: its tensors from a seed, and an oracle that forms the whole matrix of logits in double. */
#ifndef ATTENTION_CASE_H
#define ATTENTION_CASE_H

#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UNUSED __attribute__((unused))

typedef struct attention_case {
    invar_dtype type; /* of q, k and v */
    int64_t batch, heads, kv_heads, queries, keys, key_dim, value_dim;
    invar_dtype mask_type;       /* bits 0: none */
    bool own_mask;               /* the test fills it */
    int mask_broadcast;          /* bit d: axis d of the mask has size 1 */
    bool sinks, lengths;
    bool strided;                /* gaps and reversed axes everywhere */
    invar_attention_options options;
    uint64_t seed;
} attention_case;

typedef struct attention_data {
    attention_case shape;
    check_array q, k, v, mask, sinks, lengths, out, lse;
} attention_data;

static const attention_case attention_plain = {
    .type = { INVAR_FLOAT, 32, 1 }, .batch = 1, .heads = 1, .kv_heads = 1, .queries = 1, .keys = 1, .key_dim = 16,
    .value_dim = 16, .options = INVAR_ATTENTION_OPTIONS_INIT, .seed = 1,
};

static UNUSED void attention_fill_mask(const invar_tensor *mask, check_random *random) {
    const bool is_float = mask->dtype.code == INVAR_FLOAT || mask->dtype.code == INVAR_BFLOAT;
    for (int64_t i = 0, n = check_count(mask); i < n; i++) {
        const bool hidden = check_uniform(random, 0, 1) < 0.3;
        double value = mask->dtype.code == INVAR_BOOL ? !hidden : (double)check_integer(random, 0, 3);
        if (is_float) value = hidden ? -INFINITY : check_normal(random);
        check_set(mask, i, value);
    }
}

static UNUSED void attention_array(check_array *array, const attention_case *c, invar_dtype type, int64_t heads,
                                   int64_t rows, int64_t columns) {
    const int64_t shape[4] = { c->batch, heads, rows, columns }, plain[4] = { 1, 1, 1, 1 };
    const int64_t steps[4] = { 1, -1, 2, c->seed % 2 ? 1 : 2 };
    check_array_init_strided(array, type, 4, shape, c->strided ? steps : plain);
}

static UNUSED void attention_init(attention_data *d, const attention_case *c) {
    check_random random = { c->seed };
    d->shape = *c;
    attention_array(&d->q, c, c->type, c->heads, c->queries, c->key_dim);
    attention_array(&d->k, c, c->type, c->kv_heads, c->keys, c->key_dim);
    attention_array(&d->v, c, c->type, c->kv_heads, c->keys, c->value_dim);
    attention_array(&d->out, c, c->type, c->heads, c->queries, c->value_dim);
    const int64_t lse_shape[3] = { c->batch, c->heads, c->queries };
    check_array_init(&d->lse, c->type.bits == 64 ? check_f64 : check_f32, 3, lse_shape);
    check_fill_normal(&d->q.tensor, &random, 0, 1);
    check_fill_normal(&d->k.tensor, &random, 0, 1);
    check_fill_normal(&d->v.tensor, &random, 0, 1);
    int64_t mask_shape[4] = { c->batch, c->heads, c->queries, c->keys };
    for (int axis = 0; axis < 4; axis++)
        if (c->mask_broadcast >> axis & 1) mask_shape[axis] = 1;
    check_array_init(&d->mask, c->mask_type.bits ? c->mask_type : check_bool, 4, mask_shape);
    if (c->mask_type.bits && !c->own_mask) attention_fill_mask(&d->mask.tensor, &random);
    check_array_init(&d->sinks, c->type, 1, &c->heads);
    check_fill_normal(&d->sinks.tensor, &random, 0, 1);
    check_array_init(&d->lengths, check_i32, 1, &c->batch);
    for (int64_t b = 0; b < c->batch; b++) check_set(&d->lengths.tensor, b, (double)check_integer(&random, 0, c->keys));
}

static UNUSED void attention_free(attention_data *d) {
    check_array *all[] = { &d->q, &d->k, &d->v, &d->mask, &d->sinks, &d->lengths, &d->out, &d->lse };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) check_array_free(all[i]);
}

static UNUSED invar_status attention_call(attention_data *d, invar_context *context, const invar_attention_options *options) {
    const attention_case *c = &d->shape;
    return invar_scaled_dot_product_attention(
        context, &d->out.tensor, &d->lse.tensor, &d->q.tensor, &d->k.tensor, &d->v.tensor,
        c->mask_type.bits ? &d->mask.tensor : NULL, c->sinks ? &d->sinks.tensor : NULL,
        c->lengths ? &d->lengths.tensor : NULL, options);
}

static UNUSED bool attention_run(attention_data *d, invar_context *context) {
    invar_attention_options options = d->shape.options;
    invar_plan plan = INVAR_PLAN_INIT;
    options.execution.plan = &plan;
    if (!CHECK_OK(attention_call(d, context, &options))) return false;
    check_poison(&options.execution, &plan);
    const bool good = CHECK_OK(attention_call(d, context, &options));
    check_poison_free(&options.execution);
    return good;
}

/* Element (b, h, i, j) of a rank-4 tensor, axes of size 1 broadcast. */
static UNUSED double attention_at(const invar_tensor *x, int64_t b, int64_t h, int64_t i, int64_t j) {
    const int64_t index[4] = { b, h, i, j };
    int64_t flat = 0;
    for (int axis = 0; axis < 4; axis++)
        flat = flat * x->shape[axis] + (x->shape[axis] == 1 ? 0 : index[axis]);
    return check_get(x, flat);
}

/* The logit of a pair as invar.h says it; -inf where it is masked out. */
static UNUSED double attention_logit(const attention_data *d, int64_t b, int64_t h, int64_t i, int64_t j) {
    const attention_case *c = &d->shape;
    const invar_attention_options *o = &c->options;
    const int64_t length = c->lengths ? (int64_t)check_get(&d->lengths.tensor, b) : c->keys;
    const int64_t position = i + length - c->queries;
    double added = c->mask_type.bits ? attention_at(&d->mask.tensor, b, h, i, j) : 0, logit = 0;
    if (c->mask_type.code == INVAR_BOOL && c->mask_type.bits) added = added != 0 ? 0 : -INFINITY;
    if (j >= length || (o->causal && j > position) || (o->window_left >= 0 && position - j > o->window_left) ||
        (o->window_right >= 0 && j - position > o->window_right) || added == -INFINITY)
        return -INFINITY;
    for (int64_t e = 0; e < c->key_dim; e++)
        logit += attention_at(&d->q.tensor, b, h, i, e) * attention_at(&d->k.tensor, b, h / (c->heads / c->kv_heads), j, e);
    logit *= isnan(o->scale) ? (c->key_dim ? 1 / sqrt((double)c->key_dim) : 1) : o->scale;
    if (o->softcap > 0) logit = o->softcap * tanh(logit / o->softcap);
    return logit + added;
}

/* One row of the oracle from its logits, which it overwrites with weights. */
static UNUSED void attention_row(const attention_data *d, int64_t b, int64_t h, double *logit, double *out, double *lse) {
    const attention_case *c = &d->shape;
    double most = -INFINITY, total = 0;
    const double sink = c->sinks ? check_get(&d->sinks.tensor, h) : -INFINITY;
    for (int64_t j = 0; j < c->keys; j++) most = fmax(most, logit[j]);
    const bool dead = most == -INFINITY;
    most = fmax(most, sink);
    for (int64_t j = 0; j < c->keys; j++) total += logit[j] = logit[j] == -INFINITY ? 0 : exp(logit[j] - most);
    if (sink != -INFINITY) total += exp(sink - most);
    *lse = total != 0 ? most + log(total) : -INFINITY;
    for (int64_t e = 0; e < c->value_dim; e++) {
        double sum = 0;
        for (int64_t j = 0; j < c->keys; j++)
            if (logit[j] != 0) sum += logit[j] * attention_at(&d->v.tensor, b, h / (c->heads / c->kv_heads), j, e);
        out[e] = dead ? 0 : sum / total;
    }
}

static UNUSED void attention_expect(const attention_data *d, double *out, double *lse) {
    const attention_case *c = &d->shape;
    double *logit = malloc(sizeof *logit * (size_t)(c->keys + 1));
    for (int64_t row = 0; row < c->batch * c->heads * c->queries; row++) {
        const int64_t i = row % c->queries, h = row / c->queries % c->heads, b = row / c->queries / c->heads;
        for (int64_t j = 0; j < c->keys; j++) logit[j] = attention_logit(d, b, h, i, j);
        attention_row(d, b, h, logit, out + row * c->value_dim, lse + row);
    }
    free(logit);
}

/* Largest difference that the arithmetic of a type explains: relative rounding of the result and, for float32's
 * accumulation, some ulps of the logits that the weights carry over to values of size 1. */
static UNUSED double attention_relative(invar_dtype type) {
    return type.bits == 64 ? 1e-13 : type.bits == 32 ? 1e-6 : type.code == INVAR_BFLOAT ? 0x1p-8 : 0x1p-11;
}
/* Where bfloat16 pairs are multiplied, weights are rounded to 8 bits: at most half an ulp, 2^-9, of values whose weighted mean
 * magnitude is below 3; float16's on AMX are cut to 16 bits, and a product of rests is left out, each below 2^-15. */
static UNUSED double attention_absolute(invar_dtype type, invar_context *context) {
    invar_context_description description = INVAR_CONTEXT_DESCRIPTION_INIT;
    CHECK_OK(invar_context_info(context, &description));
    const bool tiles = !strcmp(description.cpu, "amx"), pairs = tiles || !strcmp(description.cpu, "avx512bf16");
    if (type.code == INVAR_BFLOAT && pairs) return 3 * 0x1p-9;
    if (type.code == INVAR_FLOAT && type.bits == 16 && tiles) return 3 * 0x1p-14;
    return type.bits == 64 ? 1e-13 : 6e-6;
}

/* Runs the case and compares it with the oracle. */
static UNUSED bool attention_agrees(const attention_case *c, invar_context *context, const char *what) {
    attention_data d;
    attention_init(&d, c);
    const int64_t rows = c->batch * c->heads * c->queries;
    double *out = calloc((size_t)(rows * c->value_dim + 1), sizeof *out), *lse = calloc((size_t)rows + 1, sizeof *lse);
    attention_expect(&d, out, lse);
    bool good = attention_run(&d, context);
    double absolute = attention_absolute(c->type, context), relative = attention_relative(c->type);
    if (good) {
        good &= CHECK_CLOSE(&d.out.tensor, out, absolute, relative, what);
        good &= CHECK_CLOSE(&d.lse.tensor, lse, c->type.bits == 64 ? 1e-12 : 4e-6, c->type.bits == 64 ? 1e-13 : 1e-6, what);
    }
    free(out);
    free(lse);
    attention_free(&d);
    return good;
}

#endif
