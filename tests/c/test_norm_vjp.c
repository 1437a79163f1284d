/* The VJPs of rms_norm and layer_norm: against finite differences of the forward pass, against the analytic gradient, and
 * bit for bit across layouts, batches, threads and instruction sets. */
#include "norm_case.h"

#include "core/context.h"

#include <string.h>

/* A forward case with the gradients' tensors; dy lies in the case's residual. */
typedef struct vjp_case {
    norm_case c;
    check_array dx, dweight, dbias;
} vjp_case;

static void vjp_case_init(vjp_case *v, norm_op op, norm_types types, int ndim, const int64_t *shape, const int64_t *steps) {
    norm_case *c = &v->c;
    norm_case_init(c, op, types, ndim, shape, steps);
    check_array_free(&c->residual);
    check_random random = { 11 };
    check_array_init_strided(&c->residual, types.residual, ndim, shape, steps);
    check_fill_normal(&c->residual.tensor, &random, 0.25, 1);
    const int64_t vector[8] = { c->features };
    check_array_init_strided(&v->dx, types.x, ndim, shape, steps);
    check_array_init_strided(&v->dweight, types.weight.bits ? types.weight : types.x, 1, vector, steps + ndim - 1);
    check_array_init_strided(&v->dbias, types.bias.bits ? types.bias : types.x, 1, vector, steps + ndim - 1);
}

static void vjp_case_free(vjp_case *v) {
    norm_case_free(&v->c);
    check_array_free(&v->dx);
    check_array_free(&v->dweight);
    check_array_free(&v->dbias);
}

static invar_status vjp_call(vjp_case *v, invar_context *context, const invar_tensor *dx, const invar_tensor *dweight,
                             const invar_tensor *dbias, const invar_norm_options *options) {
    norm_case *c = &v->c;
    const invar_tensor *weight = given(&c->weight, c->types.weight), *bias = given(&c->bias, c->types.bias);
    if (c->op == RMS)
        return invar_rms_norm_vjp(context, dx, dweight, &c->residual.tensor, &c->x.tensor, weight, options);
    return invar_layer_norm_vjp(context, dx, dweight, dbias, &c->residual.tensor, &c->x.tensor, weight, bias, options);
}

static invar_status vjp_run_into(vjp_case *v, invar_context *context, const invar_tensor *dx, const invar_tensor *dweight,
                                 const invar_tensor *dbias) {
    invar_norm_options options = v->c.options;
    if (options.execution.plan || options.execution.workspace) return vjp_call(v, context, dx, dweight, dbias, &options);
    invar_plan plan = INVAR_PLAN_INIT;
    options.execution.plan = &plan;
    invar_status status = vjp_call(v, context, dx, dweight, dbias, &options);
    if (status != INVAR_OK) return status;
    check_poison(&options.execution, &plan);
    status = vjp_call(v, context, dx, dweight, dbias, &options);
    check_poison_free(&options.execution);
    return status;
}

static invar_status vjp_run(vjp_case *v, invar_context *context) {
    return vjp_run_into(v, context, &v->dx.tensor, given(&v->dweight, v->c.types.weight), given(&v->dbias, v->c.types.bias));
}

/* ---- the gradient ------------------------------------------------------------------------------------- */

/* Σ dy · y of the forward call, in float64. */
static double loss(norm_case *c, invar_context *context) {
    if (!CHECK_OK(norm_case_run(c, context))) return NAN;
    double sum = 0;
    for (int64_t i = 0, n = check_count(&c->y.tensor); i < n; i++)
        sum += check_get(&c->y.tensor, i) * check_get(&c->residual.tensor, i);
    return sum;
}

static void compare_with_differences(norm_case *c, invar_context *context, const invar_tensor *of, const invar_tensor *gradient,
                                     const char *what) {
    const double h = 1e-5;
    for (int64_t i = 0, n = check_count(of); i < n; i++) {
        double value = check_get(of, i), got = check_get(gradient, i);
        check_set(of, i, value + h);
        double up = loss(c, context);
        check_set(of, i, value - h);
        double down = loss(c, context);
        check_set(of, i, value);
        CHECK(fabs((up - down) / (2 * h) - got) < 1e-7, "%s %lld: differences give %.9g, the VJP %.9g", what, (long long)i,
              (up - down) / (2 * h), got);
    }
}

static void float64_agrees_with_finite_differences(void) {
    invar_context *context = check_context("reference", 1);
    norm_types doubles = { check_f64, check_f64, check_f64, check_f64 };
    for (int op = RMS; op <= LAYER; op += LAYER - RMS) {
        vjp_case v;
        vjp_case_init(&v, (norm_op)op, doubles, CHECK_SHAPE(3, 11), contiguous);
        v.c.types.bias = op == LAYER ? check_f64 : none;
        CHECK_OK(vjp_run(&v, context));
        compare_with_differences(&v.c, context, &v.c.x.tensor, &v.dx.tensor, "x");
        compare_with_differences(&v.c, context, &v.c.weight.tensor, &v.dweight.tensor, "weight");
        if (op == LAYER) compare_with_differences(&v.c, context, &v.c.bias.tensor, &v.dbias.tensor, "bias");
        vjp_case_free(&v);
    }
    invar_context_destroy(context);
}

typedef struct gradients {
    double *dx, *dweight, *dbias;       /* what the definition gives */
    double *dweight_size, *dbias_size;  /* Σ of magnitudes, which rounding errors of the sums scale with */
} gradients;

static void add_row(const norm_case *c, gradients *g, int64_t r, double *x) {
    long double mean, scale, level = 0, slope = 0, n = (long double)c->features;
    for (int64_t i = 0; i < c->features; i++) x[i] = check_get(&c->x.tensor, r * c->features + i);
    row_moments(c, x, &mean, &scale);
    for (int64_t i = 0; i < c->features; i++) {
        long double dy = check_get(&c->residual.tensor, r * c->features + i), normal = (x[i] - mean) * scale;
        level += dy * weight_at(c, i) / n;
        slope += dy * weight_at(c, i) * normal / n;
        g->dweight[i] += (double)(dy * normal);
        g->dweight_size[i] += (double)fabsl(dy * normal);
        g->dbias[i] += (double)dy;
        g->dbias_size[i] += (double)fabsl(dy);
    }
    if (c->op == RMS) level = 0;
    for (int64_t i = 0; i < c->features; i++) {
        long double dy = check_get(&c->residual.tensor, r * c->features + i), normal = (x[i] - mean) * scale;
        g->dx[r * c->features + i] = (double)(scale * (dy * weight_at(c, i) - level - normal * slope));
    }
}

static void compare_vector(const invar_tensor *got, const double *expected, const double *size, const char *what) {
    for (int64_t i = 0, n = check_count(got); i < n; i++) {
        double error = fabs(check_get(got, i) - expected[i]), ulp = unit_roundoff(got->dtype);
        CHECK(error <= ulp * fabs(expected[i]) + 40 * 0x1p-24 * size[i], "%s %lld: expected %.9g, got %.9g", what, (long long)i,
              expected[i], check_get(got, i));
    }
}

static void expect_definition(vjp_case *v, invar_context *context, const char *what) {
    norm_case *c = &v->c;
    if (!CHECK_OK(vjp_run(v, context))) return;
    size_t count = (size_t)(c->rows * c->features), features = (size_t)c->features;
    double *memory = calloc(count + 5 * features + 1, sizeof *memory), *rest = memory + count;
    gradients g = { memory, rest, rest + features, rest + 2 * features, rest + 3 * features };
    for (int64_t r = 0; r < c->rows; r++) add_row(c, &g, r, rest + 4 * features);
    double error = tolerance(v->dx.tensor.dtype);
    CHECK_CLOSE(&v->dx.tensor, g.dx, 2 * error, 2 * error, what);
    if (c->types.weight.bits) compare_vector(&v->dweight.tensor, g.dweight, g.dweight_size, what);
    if (c->types.bias.bits) compare_vector(&v->dbias.tensor, g.dbias, g.dbias_size, what);
    free(memory);
}

static void every_length_and_chunk_matches_the_definition(void) {
    const int64_t shapes[][2] = { { 3, 1 }, { 2, 2 }, { 5, 31 }, { 4, 33 }, { 3, 100 }, { 2, 4096 }, { 2, 16385 },
                                  { 1025, 9 }, { 2050, 64 }, { 33, 9000 }, { 0, 12 }, { 4, 0 } };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (int op = RMS; op <= LAYER; op += LAYER - RMS) {
                vjp_case v;
                vjp_case_init(&v, (norm_op)op, ALL_F32, 2, shapes[s], contiguous);
                if (shapes[s][1] == 2) v.c.options.eps = 0.1; /* two features may lie so close that x̂ is all rounding */
                expect_definition(&v, context, check_cpu(k));
                vjp_case_free(&v);
            }
        invar_context_destroy(context);
    }
}

static void every_mix_of_types_matches_the_definition(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64, none };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int mix = 0; mix < 4 * 4 * 5 * 5; mix++)
            for (int op = RMS; op <= LAYER; op += LAYER - RMS) {
                if (op == RMS && mix / 80) continue;
                norm_types t = { types[mix % 4], types[mix / 4 % 4], types[mix / 16 % 5], types[mix / 80] };
                vjp_case v;
                vjp_case_init(&v, (norm_op)op, t, CHECK_SHAPE(3, 77), contiguous);
                expect_definition(&v, context, check_cpu(k));
                vjp_case_free(&v);
            }
        invar_context_destroy(context);
    }
}

/* ---- bits ------------------------------------------------------------------------------------------- */

static uint64_t bits_of(const vjp_case *v) {
    uint64_t hash = check_hash(&v->dx.tensor);
    if (v->c.types.weight.bits) hash = hash * 31 + check_hash(&v->dweight.tensor);
    return v->c.types.bias.bits ? hash * 31 + check_hash(&v->dbias.tensor) : hash;
}

/* dx, dweight and dbias that every instruction set, on every kind of machine, must give. */
static const struct {
    norm_op op;
    int64_t rows, features;
    uint64_t hash;
} fixed_bits[] = {
    { RMS, 1100, 77, 0x3780107c470a68d9 }, { RMS, 70, 4096, 0xe92680c6f4277912 }, { RMS, 3, 20000, 0x20ac2252d271f488 },
    { LAYER, 1100, 77, 0x7ab2257e56edb47a }, { LAYER, 70, 4096, 0x32cf9e4861cb5e4d }, { LAYER, 3, 20000, 0xa95701d0522ad5b },
};

static void float32_bits_are_the_same_on_every_instruction_set(void) {
    for (int k = 1; check_cpu(k); k++) { /* 0 is the reference, which sums in double */
        invar_context *context = check_context(check_cpu(k), 2);
        for (size_t i = 0; i < sizeof fixed_bits / sizeof fixed_bits[0]; i++) {
            vjp_case v;
            vjp_case_init(&v, fixed_bits[i].op, ALL_F32, CHECK_SHAPE(fixed_bits[i].rows, fixed_bits[i].features), contiguous);
            if (CHECK_OK(vjp_run(&v, context)))
                CHECK(bits_of(&v) == fixed_bits[i].hash, "%s, case %d: 0x%016llx", check_cpu(k), (int)i,
                      (unsigned long long)bits_of(&v));
            vjp_case_free(&v);
        }
        invar_context_destroy(context);
    }
}

/* Rows of every kind: as they are, off by 3 and by 100 deviations, and of tiny deviation. */
static void vary_rows(vjp_case *v) {
    norm_case *c = &v->c;
    for (int64_t i = 0; i < c->rows * c->features; i++) {
        const int kind = (int)(i / c->features % 4);
        const double value = check_get(&c->x.tensor, i);
        check_set(&c->x.tensor, i, kind == 3 ? value * 0x1p-17 : value + (kind == 1 ? 3 : kind == 2 ? 100 : 0));
    }
    c->options.eps = 0;
}

static void half_types_in_rows_of_every_kind_match_the_definition(void) {
    const invar_dtype types[] = { check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        context->description.l3_bytes = 1; /* rows in a pipeline where there is one */
        for (int t = 0; t < 4; t++) {
            norm_types all = { types[t % 2], types[t % 2], check_f32, check_f32 };
            vjp_case v;
            vjp_case_init(&v, t < 2 ? RMS : LAYER, all, CHECK_SHAPE(13, 516), contiguous);
            if (t < 2) v.c.types.bias = none;
            vary_rows(&v);
            v.c.options.eps = 1e-5; /* else dx itself is some 2^17 where a row is tiny */
            expect_definition(&v, context, check_cpu(k));
            vjp_case_free(&v);
        }
        invar_context_destroy(context);
    }
}

static const struct {
    norm_op op;
    invar_dtype type;
    uint64_t hash;
} fixed_half_bits[] = {
    { RMS, { INVAR_FLOAT, 16, 1 }, 0xda6a56788473df4c },
    { RMS, { INVAR_BFLOAT, 16, 1 }, 0x7595171a6e6d4e3f },
    { LAYER, { INVAR_FLOAT, 16, 1 }, 0x9af742daf7888821 },
    { LAYER, { INVAR_BFLOAT, 16, 1 }, 0x1164fe9f7c14f51e },
};

/* Through the caches or past them, and with features apart. */
static void half_bits_are_the_same_on_every_instruction_set(void) {
    const int64_t apart[] = { 1, 2 };
    for (int k = 1; check_cpu(k); k++)
        for (size_t i = 0; i < 3 * sizeof fixed_half_bits / sizeof fixed_half_bits[0]; i++) {
            invar_context *context = check_context(check_cpu(k), 2);
            if (i % 3) context->description.l3_bytes = 1;
            const invar_dtype type = fixed_half_bits[i / 3].type;
            vjp_case v;
            vjp_case_init(&v, fixed_half_bits[i / 3].op, (norm_types){ type, type, type, type }, CHECK_SHAPE(71, 580),
                          i % 3 == 2 ? apart : contiguous);
            vary_rows(&v);
            if (CHECK_OK(vjp_run(&v, context)))
                CHECK(bits_of(&v) == fixed_half_bits[i / 3].hash, "%s, case %d: 0x%016llx", check_cpu(k), (int)i,
                      (unsigned long long)bits_of(&v));
            vjp_case_free(&v);
            invar_context_destroy(context);
        }
}

static void layouts_do_not_change_bits(void) {
    const int64_t steps[][4] = { { 1, 1, 1, 2 }, { 1, 1, 1, -1 }, { -1, 2, -3, 1 }, { 2, -1, 1, 3 } };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 6; t++) {
            norm_types all = { types[t % 3], types[t % 3], types[t % 3], types[t % 3] };
            vjp_case plain;
            vjp_case_init(&plain, t < 3 ? RMS : LAYER, all, CHECK_SHAPE(2, 3, 2, 301), contiguous);
            CHECK_OK(vjp_run(&plain, context));
            for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
                vjp_case v;
                vjp_case_init(&v, t < 3 ? RMS : LAYER, all, CHECK_SHAPE(2, 3, 2, 301), steps[s]);
                CHECK_OK(vjp_run(&v, context));
                CHECK(bits_of(&v) == bits_of(&plain), "%s, case %d, layout %d", check_cpu(k), t, (int)s);
                vjp_case_free(&v);
            }
            vjp_case_free(&plain);
        }
        invar_context_destroy(context);
    }
}

/* Two rows that take turns, where a vector of dx belongs to both or, with rows apart, to one; some rows need the longer
 * formulas. */
static void rows_in_pieces_have_the_same_bits(void) {
    const int64_t apart[] = { 2, 1 }, features[] = { 2082, 4096 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 1; check_cpu(k); k++)
        for (int t = 0; t < 6 * 4; t++) {
            const invar_dtype type = types[t % 3];
            uint64_t bits[2];
            for (int n = 0; n < 2; n++) {
                invar_context *context = check_context(check_cpu(k), 1);
                if (n) context->description.l3_bytes = 1, context->description.l2_bytes = 2 << 20;
                vjp_case v;
                vjp_case_init(&v, t / 3 % 2 ? LAYER : RMS, (norm_types){ type, type, type, type },
                              CHECK_SHAPE(11, features[t / 6 % 2]), t / 12 ? apart : contiguous);
                if (t % 2) vary_rows(&v);
                CHECK_OK(vjp_run(&v, context));
                bits[n] = bits_of(&v);
                vjp_case_free(&v);
                invar_context_destroy(context);
            }
            CHECK(bits[0] == bits[1], "%s, case %d", check_cpu(k), t);
        }
}

static void threads_and_streaming_do_not_change_bits(void) {
    const int threads[] = { 1, 2, 3, 7 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++)
        for (int t = 0; t < 2 * 6; t++) { /* rows of odd length, of whole cache lines, and that end between lines */
            norm_types all = { types[t % 3], types[t % 3], types[t % 3], types[t % 3] };
            const int64_t shape[][2] = { { 5000, 21 }, { 603, 160 }, { 603, 166 }, { 7, 16391 } }, apart[] = { 2, 1 };
            uint64_t first = 0;
            for (int n = 0; n < 2 * 4; n++) {
                invar_context *context = check_context(check_cpu(k), threads[n % 4]);
                if (n >= 4) context->description.l3_bytes = 1; /* any output is larger than the caches */
                vjp_case v;
                vjp_case_init(&v, t % 6 < 3 ? RMS : LAYER, all, 2, shape[(t + t / 3) % 4], n == 5 ? apart : contiguous);
                CHECK_OK(vjp_run(&v, context));
                if (!n) first = bits_of(&v);
                CHECK(bits_of(&v) == first, "%s, case %d, %d threads", check_cpu(k), t, threads[n % 4]);
                vjp_case_free(&v);
                invar_context_destroy(context);
            }
        }
}

/* One row's dx alone, and over dy, has the bits it has in a batch. */
static void dx_is_invariant_and_may_be_dy(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 6; t++) {
            const invar_dtype types[] = { check_f32, check_f16, check_bf16 }, type = types[t % 3];
            const int op = t < 3 ? RMS : LAYER;
            vjp_case batch, alone;
            vjp_case_init(&batch, (norm_op)op, (norm_types){ type, type, type, type }, CHECK_SHAPE(300, 820), contiguous);
            vjp_case_init(&alone, (norm_op)op, (norm_types){ type, type, type, type }, CHECK_SHAPE(1, 820), contiguous);
            if (t % 3 == 2) context->description.l3_bytes = 1;
            vary_rows(&batch);
            batch.c.options.eps = alone.c.options.eps;
            CHECK_OK(vjp_run(&batch, context));
            const int64_t n = batch.c.features, row = 277;
            for (int64_t i = 0; i < n; i++) {
                check_set(&alone.c.weight.tensor, i, check_get(&batch.c.weight.tensor, i));
                check_set(&alone.c.x.tensor, i, check_get(&batch.c.x.tensor, row * n + i));
                check_set(&alone.c.residual.tensor, i, check_get(&batch.c.residual.tensor, row * n + i));
            }
            CHECK_OK(vjp_run_into(&alone, context, &alone.dx.tensor, NULL, NULL));
            uint64_t weight = check_hash(&batch.dweight.tensor), dx = check_hash(&batch.dx.tensor);
            for (int64_t i = 0; i < n; i++)
                if (!CHECK(check_get(&alone.dx.tensor, i) == check_get(&batch.dx.tensor, row * n + i), "%s, op %d, feature %lld",
                           check_cpu(k), op, (long long)i))
                    break;
            CHECK_OK(vjp_run_into(&batch, context, &batch.c.residual.tensor, &batch.dweight.tensor, NULL));
            CHECK(check_hash(&batch.c.residual.tensor) == dx && check_hash(&batch.dweight.tensor) == weight, "%s, op %d",
                  check_cpu(k), op);
            vjp_case_free(&batch);
            vjp_case_free(&alone);
        }
        invar_context_destroy(context);
    }
}

/* Rows of half types whose mean is far from 0 are measured otherwise after others like them: their dx does not show it. */
static void rows_far_from_0_have_the_bits_they_have_alone(void) {
    const double mean[] = { 8, 8, 8, 8, 0, 8, 8, 3, 8, 8, 8, 3.9, 4, 4.1, 8, 8,
                            4.8, 5.2, -8, -8, -8, 300, 300, 0, 0, 8, 8, 8, 8, 1e3 };
    enum { ROWS = sizeof mean / sizeof mean[0], FEATURES = 516 };
    for (int k = 1; check_cpu(k); k++)
        for (int t = 0; t < 6; t++) {
            const invar_dtype type = t % 2 ? check_f16 : check_bf16;
            invar_context *context = check_context(check_cpu(k), 1);
            if (t / 2) context->description.l3_bytes = 1, context->description.l2_bytes = t / 2 << 20;
            vjp_case batch, alone;
            vjp_case_init(&batch, LAYER, (norm_types){ type, type, type, type }, CHECK_SHAPE(ROWS, FEATURES), contiguous);
            vjp_case_init(&alone, LAYER, (norm_types){ type, type, type, type }, CHECK_SHAPE(1, FEATURES), contiguous);
            for (int64_t i = 0; i < ROWS * FEATURES; i++)
                check_set(&batch.c.x.tensor, i, check_get(&batch.c.x.tensor, i) + mean[i / FEATURES]);
            for (int64_t i = 0; i < FEATURES; i++) check_set(&alone.c.weight.tensor, i, check_get(&batch.c.weight.tensor, i));
            CHECK_OK(vjp_run(&batch, context));
            for (int64_t row = 0, wrong; row < ROWS; row++) {
                for (int64_t i = 0; i < FEATURES; i++) {
                    check_set(&alone.c.x.tensor, i, check_get(&batch.c.x.tensor, row * FEATURES + i));
                    check_set(&alone.c.residual.tensor, i, check_get(&batch.c.residual.tensor, row * FEATURES + i));
                }
                CHECK_OK(vjp_run_into(&alone, context, &alone.dx.tensor, NULL, NULL));
                wrong = 0;
                for (int64_t i = 0; i < FEATURES; i++)
                    wrong += check_get(&alone.dx.tensor, i) != check_get(&batch.dx.tensor, row * FEATURES + i);
                CHECK(!wrong, "%s, case %d, row %lld: %lld features", check_cpu(k), t, (long long)row, (long long)wrong);
            }
            vjp_case_free(&batch);
            vjp_case_free(&alone);
            invar_context_destroy(context);
        }
}

/* Each gradient is the same whether or not the others are asked for. */
static void any_gradient_may_be_left_out(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        vjp_case v;
        vjp_case_init(&v, LAYER, ALL_F32, CHECK_SHAPE(70, 33), contiguous);
        CHECK_OK(vjp_run(&v, context));
        uint64_t dx = check_hash(&v.dx.tensor), dweight = check_hash(&v.dweight.tensor), dbias = check_hash(&v.dbias.tensor);
        for (int wanted = 0; wanted < 8; wanted++) {
            check_array *outputs[] = { &v.dx, &v.dweight, &v.dbias };
            for (int i = 0; i < 3; i++) memset(outputs[i]->tensor.data, 0, outputs[i]->bytes);
            CHECK_OK(vjp_run_into(&v, context, wanted & 1 ? &v.dx.tensor : NULL, wanted & 2 ? &v.dweight.tensor : NULL,
                                  wanted & 4 ? &v.dbias.tensor : NULL));
            CHECK(!(wanted & 1) || check_hash(&v.dx.tensor) == dx, "%s, %d: dx", check_cpu(k), wanted);
            CHECK(!(wanted & 2) || check_hash(&v.dweight.tensor) == dweight, "%s, %d: dweight", check_cpu(k), wanted);
            CHECK(!(wanted & 4) || check_hash(&v.dbias.tensor) == dbias, "%s, %d: dbias", check_cpu(k), wanted);
        }
        vjp_case_free(&v);
        invar_context_destroy(context);
    }
}

/* A weight with all bits set, as CUDA writes its NaNs, takes every row's dx with it. */
static void any_nan_of_a_weight_reaches_dx(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int op = RMS; op <= LAYER; op += LAYER - RMS) {
            vjp_case v;
            vjp_case_init(&v, (norm_op)op, (norm_types){ check_bf16, check_bf16, check_f32, none },
                          CHECK_SHAPE(3, 100), contiguous);
            memset((float *)v.c.weight.tensor.data + 5, 0xff, sizeof(float));
            ((unsigned char *)v.c.weight.tensor.data)[5 * sizeof(float) + 3] = 0x7f;
            CHECK_OK(vjp_run(&v, context));
            for (int64_t i = 0; i < 300; i++) CHECK(isnan(check_get(&v.dx.tensor, i)), "%s, op %d, %d", check_cpu(k), op, (int)i);
            vjp_case_free(&v);
        }
        invar_context_destroy(context);
    }
}

static void no_rows_give_zero_parameter_gradients(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        vjp_case v;
        norm_types halves = { check_f32, check_f32, check_bf16, check_f16 };
        vjp_case_init(&v, LAYER, halves, CHECK_SHAPE(2, 0, 37), contiguous);
        CHECK_OK(vjp_run(&v, context));
        for (int i = 0; i < 37; i++)
            CHECK(check_get(&v.dweight.tensor, i) == 0 && check_get(&v.dbias.tensor, i) == 0, "%s, %d", check_cpu(k), i);
        vjp_case_free(&v);
        invar_context_destroy(context);
    }
}

/* ---- misuse -------------------------------------------------------------------------------------------- */

static void every_misuse_is_one_sentence(void) {
    invar_context *context = check_context(NULL, 1);
    vjp_case v;
    vjp_case_init(&v, LAYER, ALL_F32, CHECK_SHAPE(3, 8), contiguous);
    const invar_tensor *dx = &v.dx.tensor, *dw = &v.dweight.tensor, *db = &v.dbias.tensor, *dy = &v.c.residual.tensor;
    const invar_tensor *x = &v.c.x.tensor, *w = &v.c.weight.tensor, *b = &v.c.bias.tensor;
    invar_tensor half = *x, integer = *x, halves = *w, strided = *dx, device = *dy;
    int64_t longer[2] = { 4, 8 }, zero[2] = { 0, 1 };
    half.dtype = halves.dtype = check_f16;
    integer.dtype = check_i32;
    strided.strides = zero;
    device.device.type = INVAR_DEVICE_CUDA;
    invar_tensor tall = *dy;
    tall.shape = longer;
    invar_norm_options bad = INVAR_NORM_OPTIONS_INIT;
    bad.eps = INFINITY;
    uint64_t before = check_memory_hash(&v.dx) ^ check_memory_hash(&v.dweight) ^ check_memory_hash(&v.dbias);
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, NULL, x, w, b, NULL), INVAR_ERROR_NULL, "layer_norm_vjp: dy");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, dy, NULL, w, b, NULL), INVAR_ERROR_NULL, "layer_norm_vjp: x");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, dy, x, w, b, &bad), INVAR_ERROR_VALUE, "layer_norm_vjp: eps");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, dy, &integer, w, b, NULL), INVAR_ERROR_DTYPE, "layer_norm_vjp: x");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, &integer, x, w, b, NULL), INVAR_ERROR_DTYPE, "layer_norm_vjp: dy");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, &tall, x, w, b, NULL), INVAR_ERROR_VALUE, "layer_norm_vjp: dy");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, &device, x, w, b, NULL), INVAR_ERROR_DEVICE_MIX, "layer_norm_vjp: dy");
    CHECK_FAILS(invar_layer_norm_vjp(context, &half, dw, db, dy, x, w, b, NULL), INVAR_ERROR_DTYPE, "layer_norm_vjp: dx");
    CHECK_FAILS(invar_layer_norm_vjp(context, &tall, dw, db, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "layer_norm_vjp: dx");
    CHECK_FAILS(invar_layer_norm_vjp(context, &strided, dw, db, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "layer_norm_vjp: dx");
    CHECK_FAILS(invar_layer_norm_vjp(context, x, dw, db, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "layer_norm_vjp: dx");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, NULL, dy, x, NULL, b, NULL), INVAR_ERROR_VALUE, "dweight: expected NULL");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, db, dy, x, w, NULL, NULL), INVAR_ERROR_VALUE, "dbias: expected NULL");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, &halves, db, dy, x, w, b, NULL), INVAR_ERROR_DTYPE, "dweight");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dx, db, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "dweight");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, w, db, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "dweight");
    CHECK_FAILS(invar_layer_norm_vjp(context, dx, dw, dw, dy, x, w, b, NULL), INVAR_ERROR_VALUE, "dbias");
    CHECK_FAILS(invar_rms_norm_vjp(context, dx, dw, dy, x, NULL, NULL), INVAR_ERROR_VALUE, "rms_norm_vjp: dweight");
    CHECK_FAILS(invar_rms_norm_vjp(context, dx, w, dy, x, w, NULL), INVAR_ERROR_VALUE, "rms_norm_vjp: dweight");
    CHECK((check_memory_hash(&v.dx) ^ check_memory_hash(&v.dweight) ^ check_memory_hash(&v.dbias)) == before,
          "a gradient was written");
    vjp_case_free(&v);
    invar_context_destroy(context);
}

/* Wherever the arrays lie; past the caches too. */
static void nothing_but_the_arrays_is_touched(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64, none };
    check_random random = { 29 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2), *small = check_context(check_cpu(k), 2);
        small->description.l3_bytes = 1;
        for (int n = 0, rounds = check_rounds(20); n < rounds; n++) {
            const int64_t longest = n % 8 ? 140 : 5000, most = n % 5 ? 9 : 300,
                          shape[] = { check_integer(&random, 1, most), check_integer(&random, 1, longest) },
                          steps[] = { check_integer(&random, 1, 2), n % 3 ? 1 : n % 2 ? 2 : -1 };
            norm_types mix = { types[check_integer(&random, 0, 3)], types[check_integer(&random, 0, 3)],
                               types[check_integer(&random, 0, 4)], types[check_integer(&random, 0, 4)] };
            if (n % 2) mix.residual = mix.weight = mix.bias = mix.x;
            uint64_t first = 0;
            for (int place = CHECK_FENCED; place <= CHECK_BEHIND_PAGE; place++) {
                vjp_case v;
                check_place_arrays((check_place)place);
                vjp_case_init(&v, n / 2 % 2 ? RMS : LAYER, mix, 2, shape, steps);
                CHECK_OK(vjp_run(&v, n % 4 < 2 ? context : small));
                if (place == CHECK_FENCED) first = bits_of(&v);
                CHECK(bits_of(&v) == first, "%s, case %d, place %d", check_cpu(k), n, place);
                vjp_case_free(&v);
            }
            check_place_arrays(CHECK_FENCED);
        }
        invar_context_destroy(context);
        invar_context_destroy(small);
    }
}

CHECK_MAIN(CHECK_TEST(nothing_but_the_arrays_is_touched),
           CHECK_TEST(float64_agrees_with_finite_differences), CHECK_TEST(every_length_and_chunk_matches_the_definition),
           CHECK_TEST(every_mix_of_types_matches_the_definition),
           CHECK_TEST(half_types_in_rows_of_every_kind_match_the_definition),
           CHECK_TEST(float32_bits_are_the_same_on_every_instruction_set),
           CHECK_TEST(half_bits_are_the_same_on_every_instruction_set), CHECK_TEST(layouts_do_not_change_bits),
           CHECK_TEST(rows_in_pieces_have_the_same_bits),
           CHECK_TEST(threads_and_streaming_do_not_change_bits), CHECK_TEST(dx_is_invariant_and_may_be_dy),
           CHECK_TEST(rows_far_from_0_have_the_bits_they_have_alone),
           CHECK_TEST(any_gradient_may_be_left_out), CHECK_TEST(any_nan_of_a_weight_reaches_dx),
           CHECK_TEST(no_rows_give_zero_parameter_gradients),
           CHECK_TEST(every_misuse_is_one_sentence))
