/* One call of rope with its arrays, for test_rope.c and test_rope_bits.c. */
#ifndef ROPE_CASE_H
#define ROPE_CASE_H

#include "check.h"

static const int64_t contiguous[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

static invar_rope_options turn_options(int64_t dims, bool traditional, int64_t offset) {
    invar_rope_options options = INVAR_ROPE_OPTIONS_INIT;
    options.dims = dims;
    options.traditional = traditional;
    options.offset = offset;
    return options;
}

/* A turn, or the one back, in scratch memory full of NaNs. */
static invar_status turn_in_poison(bool back, invar_context *context, const invar_tensor *y, const invar_tensor *x,
                                   const invar_tensor *offset, const invar_tensor *freqs, const invar_rope_options *given) {
    invar_rope_options options = *given;
    invar_plan plan = INVAR_PLAN_INIT;
    options.execution.plan = &plan;
    invar_status (*const call)(invar_context *, const invar_tensor *, const invar_tensor *, const invar_tensor *,
                               const invar_tensor *, const invar_rope_options *) = back ? invar_rope_vjp : invar_rope;
    invar_status status = call(context, y, x, offset, freqs, &options);
    if (status != INVAR_OK) return status;
    check_poison(&options.execution, &plan);
    status = call(context, y, x, offset, freqs, &options);
    check_poison_free(&options.execution);
    return status;
}

typedef struct rope_case {
    check_array x, y;
    invar_rope_options options;
    int64_t length, features, batch_slices;
} rope_case;

static void rope_case_init(rope_case *c, invar_dtype type, bool traditional, int64_t dims, int ndim, const int64_t *shape,
                           const int64_t *steps) {
    check_random random = { 31 };
    c->options = turn_options(dims, traditional, 0);
    check_array_init_strided(&c->x, type, ndim, shape, steps);
    check_array_init_strided(&c->y, type, ndim, shape, steps);
    check_fill_normal(&c->x.tensor, &random, 0, 1);
    c->length = shape[ndim - 2];
    c->features = shape[ndim - 1];
    c->batch_slices = 1;
    for (int d = 1; d < ndim - 2; d++) c->batch_slices *= shape[d];
}

static void rope_case_free(rope_case *c) {
    check_array_free(&c->x);
    check_array_free(&c->y);
}

#endif
