/* rms_norm, add_rms_norm, layer_norm: against their definitions, bit for bit across layouts, batches, threads and
 * instruction sets, and every misuse. */
#include "norm_case.h"

#include "core/context.h"

#include <fenv.h>
#include <string.h>

static const int64_t lengths[] = { 1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 65, 100, 257, 1000, 4096, 16384, 16385, 40003 };
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

/* What the definition gives for y, in row-major order. The caller frees it. */
static double *norm_expected(const norm_case *c) {
    double *y = malloc(sizeof(double) * (size_t)(c->rows * c->features + 1)),
            *x = malloc(sizeof(double) * (size_t)(c->features + 1));
    for (int64_t r = 0; r < c->rows; r++) {
        long double mean, scale;
        for (int64_t i = 0; i < c->features; i++) {
            x[i] = check_get(&c->x.tensor, r * c->features + i);
            if (c->op == ADD_RMS) x[i] += check_get(&c->residual.tensor, r * c->features + i);
        }
        row_moments(c, x, &mean, &scale);
        for (int64_t i = 0; i < c->features; i++) {
            double bias = c->types.bias.bits ? check_get(&c->bias.tensor, i) : 0;
            y[r * c->features + i] = (double)((x[i] - mean) * scale * weight_at(c, i) + bias);
        }
    }
    free(x);
    return y;
}

static void expect_definition(norm_case *c, invar_context *context, const char *what) {
    if (!CHECK_OK(norm_case_run(c, context))) return;
    double *expected = norm_expected(c), error = tolerance(c->y.tensor.dtype);
    CHECK_CLOSE(&c->y.tensor, expected, error, error, what);
    free(expected);
}

static void every_length_matches_the_definition(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int i = 0; i < LENGTHS; i++)
            for (int op = RMS; op <= LAYER; op++) {
                norm_case c;
                norm_case_init(&c, (norm_op)op, ALL_F32, CHECK_SHAPE(3, lengths[i]), contiguous);
                expect_definition(&c, context, check_cpu(k));
                norm_case_free(&c);
            }
        invar_context_destroy(context);
    }
}

static void every_mix_of_types_matches_the_definition(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64, none };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int mix = 0; mix < 4 * 4 * 5 * 5; mix++) {
            norm_types t = { types[mix % 4], types[mix / 4 % 4], types[mix / 16 % 5], types[mix / 80] };
            for (int op = RMS; op <= LAYER; op++) {
                if ((op != ADD_RMS && mix / 4 % 4) || (op != LAYER && mix / 80)) continue;
                norm_case c;
                norm_case_init(&c, (norm_op)op, t, CHECK_SHAPE(2, 77), contiguous);
                expect_definition(&c, context, check_cpu(k));
                norm_case_free(&c);
            }
        }
        invar_context_destroy(context);
    }
}

static void sum_is_stored_and_y_comes_from_the_unrounded_one(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        norm_case c;
        norm_types halves = { check_bf16, check_bf16, check_f32, none };
        norm_case_init(&c, ADD_RMS, halves, CHECK_SHAPE(1, 64), contiguous);
        for (int i = 0; i < 64; i++) { /* 1 + 2^-8 rounds to 1 in bfloat16 */
            check_set(&c.x.tensor, i, 1);
            check_set(&c.residual.tensor, i, i < 32 ? 0x1p-8 : 0);
            check_set(&c.weight.tensor, i, 1);
        }
        c.options.eps = 0;
        if (CHECK_OK(norm_case_run(&c, context))) {
            double large = check_get(&c.y.tensor, 0), small = check_get(&c.y.tensor, 63);
            CHECK(check_get(&c.sum.tensor, 0) == 1, "%g", check_get(&c.sum.tensor, 0));
            CHECK(fabs(large / small - (1 + 0x1p-8)) < 1e-6, "%.9g, %.9g: a rounded sum gives 1 and 1", large, small);
        }
        norm_case_free(&c);
        invar_context_destroy(context);
    }
}

/* ---- bits ------------------------------------------------------------------------------------------- */

/* FNV-1a of results that every instruction set, on every kind of machine, must give. */
static const struct {
    norm_op op;
    int64_t features;
    uint64_t hash;
} fixed_bits[] = {
    { RMS, 77, 0x577e0c4bde0ddd06 }, { RMS, 4096, 0xf29bfc75eb00a21d },
    { RMS, 20000, 0xde701be0442ed705 }, { ADD_RMS, 77, 0x3168f139f3353325 },
    { ADD_RMS, 4096, 0x80a8166c5936b94e }, { LAYER, 77, 0xe6adb5cf415fad10 },
    { LAYER, 4096, 0x32ccaea826a3d5c1 }, { LAYER, 20000, 0x2eb07288f74caa5f },
};

static void float32_bits_are_the_same_on_every_instruction_set(void) {
    for (int k = 1; check_cpu(k); k++) { /* 0 is the reference, which sums in double */
        invar_context *context = check_context(check_cpu(k), 2);
        for (size_t i = 0; i < sizeof fixed_bits / sizeof fixed_bits[0]; i++) {
            norm_case c;
            norm_case_init(&c, fixed_bits[i].op, ALL_F32, CHECK_SHAPE(5, fixed_bits[i].features), contiguous);
            if (CHECK_OK(norm_case_run(&c, context)))
                CHECK(check_hash(&c.y.tensor) == fixed_bits[i].hash, "%s, case %d: 0x%016llx", check_cpu(k), (int)i,
                      (unsigned long long)check_hash(&c.y.tensor));
            norm_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

static void layouts_do_not_change_bits(void) {
    const int64_t steps[][4] = { { 1, 1, 1, 2 }, { 1, 1, 1, -1 }, { -1, 2, -3, 1 }, { 2, -1, 1, 3 }, { 1, 1, 2, 1 } };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 3; t++)
            for (int op = RMS; op <= LAYER; op++) {
                norm_types all = { types[t], types[t], types[t], types[t] };
                norm_case plain;
                norm_case_init(&plain, (norm_op)op, all, CHECK_SHAPE(2, 3, 2, 301), contiguous);
                CHECK_OK(norm_case_run(&plain, context));
                for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
                    norm_case c;
                    norm_case_init(&c, (norm_op)op, all, CHECK_SHAPE(2, 3, 2, 301), steps[s]);
                    CHECK_OK(norm_case_run(&c, context));
                    CHECK(check_hash(&c.y.tensor) == check_hash(&plain.y.tensor),
                          "%s, op %d, layout %d", check_cpu(k), op, (int)s);
                    if (op == ADD_RMS) CHECK(check_hash(&c.sum.tensor) == check_hash(&plain.sum.tensor), "layout %d", (int)s);
                    norm_case mixed = c; /* x lies otherwise than the rest */
                    mixed.x = plain.x;
                    CHECK_OK(norm_case_run(&mixed, context));
                    CHECK(check_hash(&c.y.tensor) == check_hash(&plain.y.tensor), "%s, op %d, layout %d of y alone", check_cpu(k),
                          op, (int)s);
                    norm_case_free(&c);
                }
                norm_case_free(&plain);
            }
        invar_context_destroy(context);
    }
}

/* Row r of c alone, as a call of its own, into `alone`. */
static void run_row_alone(const norm_case *c, int64_t r, check_array *alone, check_array *sum, invar_context *context) {
    invar_tensor x = c->x.tensor, residual = c->residual.tensor;
    int64_t shape[1] = { c->features }, strides[1] = { 1 };
    x.ndim = residual.ndim = 1;
    x.shape = residual.shape = shape;
    x.strides = residual.strides = strides;
    x.byte_offset = (uint64_t)(r * c->features * (x.dtype.bits / 8));
    residual.byte_offset = (uint64_t)(r * c->features * (residual.dtype.bits / 8));
    const invar_tensor *weight = given(&c->weight, c->types.weight), *bias = given(&c->bias, c->types.bias);
    if (c->op == RMS) CHECK_OK(invar_rms_norm(context, &alone->tensor, &x, weight, &c->options));
    else if (c->op == LAYER) CHECK_OK(invar_layer_norm(context, &alone->tensor, &x, weight, bias, &c->options));
    else CHECK_OK(invar_add_rms_norm(context, &alone->tensor, &sum->tensor, &x, &residual, weight, &c->options));
}

static void check_rows_alone(norm_case *c, invar_context *context, const char *cpu) {
    check_array alone, sum;
    check_array_init(&alone, c->y.tensor.dtype, CHECK_SHAPE(c->features));
    check_array_init(&sum, c->sum.tensor.dtype, CHECK_SHAPE(c->features));
    for (int64_t r = 0; r < c->rows; r += 1 + c->rows / 5) {
        run_row_alone(c, r, &alone, &sum, context);
        for (int64_t i = 0; i < c->features; i++)
            if (!CHECK(check_get(&alone.tensor, i) == check_get(&c->y.tensor, r * c->features + i),
                       "%s, op %d, row %lld, feature %lld", cpu, c->op, (long long)r, (long long)i))
                break;
    }
    check_array_free(&alone);
    check_array_free(&sum);
}

/* Stores past the caches must change no bit either, wherever the rows begin, whether or not they follow on one another: rows of
 * halves that begin between four bytes, rows that end between cache lines, and one that leaves a few elements to its last
 * piece. */
static void threads_batches_and_streaming_do_not_change_bits(void) {
    const int threads[] = { 1, 2, 3, 7 };
    const int64_t shapes[][2] = { { 530, 261 }, { 270, 262 }, { 130, 1030 } }, apart[] = { 2, 1 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++)
        for (int t = 0; t < 3 * 3; t++) {
            norm_types all = { types[t % 3], types[t % 3], types[t % 3], types[t % 3] };
            const norm_op op = (norm_op)(t / 3);
            const int64_t *shape = shapes[(t + t / 3) % 3]; /* each type and operation with each */
            uint64_t first = 0;
            for (int n = 0; n < 2 * 4; n++) {
                invar_context *context = check_context(check_cpu(k), threads[n % 4]);
                if (n >= 4) context->description.l3_bytes = 1; /* any output is larger than the caches */
                norm_case c;
                norm_case_init(&c, op, all, 2, shape, n == 5 ? apart : contiguous);
                CHECK_OK(norm_case_run(&c, context));
                if (!n) first = check_hash(&c.y.tensor);
                CHECK(check_hash(&c.y.tensor) == first, "%s, op %d, %lld features, %d threads", check_cpu(k), op,
                      (long long)shape[1], threads[n % 4]);
                if (n % 4 == 2) check_rows_alone(&c, context, check_cpu(k));
                norm_case_free(&c);
                invar_context_destroy(context);
            }
        }
}

/* Wherever the arrays lie; past the caches too. */
static void nothing_but_the_arrays_is_touched(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64, none };
    check_random random = { 23 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2), *small = check_context(check_cpu(k), 2);
        small->description.l3_bytes = 1;
        for (int n = 0, rounds = check_rounds(60); n < rounds; n++) {
            const int64_t longest = n % 8 ? 140 : 5000, shape[] = { check_integer(&random, 1, 9), check_integer(&random, 1, longest) },
                          steps[] = { check_integer(&random, 1, 2), n % 3 ? 1 : n % 2 ? 2 : -1 };
            norm_types mix = { types[check_integer(&random, 0, 3)], types[check_integer(&random, 0, 3)],
                               types[check_integer(&random, 0, 4)], types[check_integer(&random, 0, 4)] };
            if (n % 2) mix.residual = mix.weight = mix.bias = mix.x;
            const norm_op op = (norm_op)(n % 3);
            uint64_t first = 0;
            for (int place = CHECK_FENCED; place <= CHECK_BEHIND_PAGE; place++) {
                norm_case c;
                check_place_arrays((check_place)place);
                norm_case_init(&c, op, mix, 2, shape, steps);
                CHECK_OK(norm_case_run(&c, n % 4 < 2 ? context : small));
                if (place == CHECK_FENCED) first = check_hash(&c.y.tensor);
                CHECK(check_hash(&c.y.tensor) == first, "%s, op %d, case %d, place %d", check_cpu(k), op, n, place);
                norm_case_free(&c);
            }
            check_place_arrays(CHECK_FENCED);
        }
        invar_context_destroy(context);
        invar_context_destroy(small);
    }
}

static void y_may_be_x(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 3; t++)
            for (int op = RMS; op <= LAYER; op++) {
                norm_types all = { types[t], types[t], types[t], types[t] };
                norm_case c;
                norm_case_init(&c, (norm_op)op, all, CHECK_SHAPE(2, 16400), contiguous);
                CHECK_OK(norm_case_run(&c, context));
                uint64_t apart = check_hash(&c.y.tensor), sum = check_hash(&c.sum.tensor);
                const invar_tensor *x = &c.x.tensor, *residual = &c.residual.tensor, *weight = &c.weight.tensor;
                if (op == RMS) CHECK_OK(invar_rms_norm(context, x, x, weight, NULL));
                else if (op == LAYER) CHECK_OK(invar_layer_norm(context, x, x, weight, &c.bias.tensor, NULL));
                else CHECK_OK(invar_add_rms_norm(context, x, residual, x, residual, weight, NULL));
                CHECK(check_hash(x) == apart, "%s, op %d, type %d", check_cpu(k), op, t);
                if (op == ADD_RMS) CHECK(check_hash(residual) == sum, "%s, type %d", check_cpu(k), t);
                norm_case_free(&c);
            }
        invar_context_destroy(context);
    }
}

/* ---- traps ------------------------------------------------------------------------------------------- */

static void half_precision_sum_of_squares_does_not_overflow(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        norm_types half = { check_f16, check_f16, none, none };
        norm_case c;
        norm_case_init(&c, RMS, half, CHECK_SHAPE(1, 4096), contiguous);
        for (int i = 0; i < 4096; i++) check_set(&c.x.tensor, i, i % 2 ? 60000 : -60000);
        CHECK_OK(norm_case_run(&c, context));
        CHECK(check_get(&c.y.tensor, 0) == -1 && check_get(&c.y.tensor, 4095) == 1, "%g", check_get(&c.y.tensor, 0));
        norm_case_free(&c);
        invar_context_destroy(context);
    }
}

static void variance_about_a_large_mean_does_not_cancel(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        norm_types plain = { check_f32, none, none, none };
        norm_case c;
        norm_case_init(&c, LAYER, plain, CHECK_SHAPE(4, 1024), contiguous);
        check_random random = { 3 };
        check_fill_normal(&c.x.tensor, &random, 1e6, 1);
        CHECK_OK(norm_case_run(&c, context));
        double *expected = norm_expected(&c);
        CHECK_CLOSE(&c.y.tensor, expected, 1e-3, 0, check_cpu(k));
        free(expected);
        norm_case_free(&c);
        invar_context_destroy(context);
    }
}

/* A row's first elements, which its sums are formed about, as far from the others as they can be. */
static void variance_about_an_odd_beginning_does_not_cancel(void) {
    const int64_t heads[] = { 1, 32, 256 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        norm_types plain = { check_f32, none, none, none };
        norm_case c;
        norm_case_init(&c, LAYER, plain, CHECK_SHAPE(3, 4096), contiguous);
        check_random random = { 5 };
        check_fill_normal(&c.x.tensor, &random, 3, 1);
        for (int64_t r = 0; r < 3; r++)
            for (int64_t i = 0; i < heads[r]; i++) check_set(&c.x.tensor, r * 4096 + i, 1e4);
        CHECK_OK(norm_case_run(&c, context));
        double *expected = norm_expected(&c);
        CHECK_CLOSE(&c.y.tensor, expected, 0x1p-18, 0x1p-18, check_cpu(k)); /* the 4 bits that the origin may cost */
        free(expected);
        norm_case_free(&c);
        invar_context_destroy(context);
    }
}

static void nan_stays_in_its_row(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int op = RMS; op <= LAYER; op++) {
            norm_case c;
            norm_case_init(&c, (norm_op)op, ALL_F32, CHECK_SHAPE(3, 45), contiguous);
            check_set(&c.x.tensor, 45 + 7, NAN);
            CHECK_OK(norm_case_run(&c, context));
            for (int i = 0; i < 3 * 45; i++)
                CHECK(isnan(check_get(&c.y.tensor, i)) == (i / 45 == 1), "%s, op %d, element %d", check_cpu(k), op, i);
            norm_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

static void more_than_65535_rows(void) {
    invar_context *context = check_context(NULL, 2);
    norm_case c;
    norm_case_init(&c, LAYER, ALL_F32, CHECK_SHAPE(65537, 1, 3), contiguous);
    expect_definition(&c, context, "65537 rows");
    norm_case_free(&c);
    invar_context_destroy(context);
}

static void zero_strides_are_read(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        norm_case c;
        norm_case_init(&c, LAYER, ALL_F32, CHECK_SHAPE(4, 70), contiguous);
        c.x.strides[0] = c.weight.strides[0] = c.bias.strides[0] = 0; /* one row four times; one weight and bias */
        expect_definition(&c, context, check_cpu(k));
        c.x.strides[0] = 1;
        c.x.strides[1] = 0;
        c.options.eps = 0.25;
        expect_definition(&c, context, check_cpu(k));
        norm_case_free(&c);
        invar_context_destroy(context);
    }
}

static void empty_and_extreme_ranks(void) {
    invar_context *context = check_context(NULL, 2);
    const int64_t shapes[][8] = { { 0, 1, 1, 1, 1, 1, 1, 5 }, { 2, 1, 1, 3, 1, 1, 1, 0 }, { 2, 1, 3, 1, 2, 1, 2, 9 } };
    for (int s = 0; s < 3; s++)
        for (int op = RMS; op <= LAYER; op++) {
            norm_case c;
            norm_case_init(&c, (norm_op)op, ALL_F32, 8, shapes[s], contiguous);
            expect_definition(&c, context, "rank 8");
            norm_case_free(&c);
        }
    norm_case c;
    norm_case_init(&c, RMS, ALL_F32, CHECK_SHAPE(9), contiguous);
    expect_definition(&c, context, "rank 1");
    norm_case_free(&c);
    invar_context_destroy(context);
}

/* ---- the call ----------------------------------------------------------------------------------------- */

static void backwards(void *pool, int64_t count, invar_task task, void *argument) {
    for (int64_t i = count - 1; i >= 0; i--) task(argument, i);
    *(int64_t *)pool += count;
}

static void plans_workspaces_and_callers_threads(void) {
    invar_context *context = check_context(NULL, 2);
    norm_case c;
    norm_types mixed = { check_bf16, none, check_f16, check_f32 };
    norm_case_init(&c, LAYER, mixed, CHECK_SHAPE(700, 257), contiguous);
    CHECK_OK(norm_case_run(&c, context));
    uint64_t bits = check_hash(&c.y.tensor);
    memset(c.y.tensor.data, 0, c.y.bytes);
    uint64_t zeros = check_hash(&c.y.tensor);
    invar_plan plan = INVAR_PLAN_INIT;
    c.options.execution.plan = &plan;
    CHECK_OK(norm_case_run(&c, context));
    CHECK(check_hash(&c.y.tensor) == zeros, "planning wrote y");
    CHECK(plan.tasks == 4 && plan.threads == 2 && plan.workspace >= 257 * 4 && !strncmp(plan.kernel, "layer_norm.", 11),
          "%lld tasks, %d threads, %zu bytes, %s", (long long)plan.tasks, plan.threads, plan.workspace, plan.kernel);
    CHECK(plan.bytes == 700 * 257 * (2 + 4) && plan.query_tile == 175, "%g bytes, %d rows", plan.bytes, plan.query_tile);
    c.options.execution.plan = NULL;
    int64_t ran = 0;
    c.options.execution.parallel_for = backwards;
    c.options.execution.pool = &ran;
    c.options.execution.pool_threads = 1;
    c.options.execution.workspace = aligned_alloc(64, plan.workspace);
    c.options.execution.workspace_size = plan.workspace;
    fesetround(FE_DOWNWARD); /* on the caller's own threads, whose rounding is not ours */
    CHECK_OK(norm_case_run(&c, context));
    volatile float third = 3;
    third = 1 / third; /* here, and not after the next line */
    fesetround(FE_TONEAREST);
    CHECK(ran == 3 && check_hash(&c.y.tensor) == bits, "%lld tasks ran on one thread", (long long)ran);
    CHECK(third < 0x1.555556p-2f, "the caller's rounding was not given back");
    c.options.execution.workspace_size = 64;
    CHECK_FAILS(norm_case_run(&c, context), INVAR_ERROR_MEMORY, "workspace_size");
    free(c.options.execution.workspace);
    norm_case_free(&c);
    invar_context_destroy(context);
}

/* Weights are widened before the tasks begin: in floats apart, and in double by the reference. */
static void callers_environment_does_not_change_bits(void) {
    const norm_types mixes[] = { ALL_F32, { check_bf16, check_bf16, check_f32, check_f32 },
                                 { check_f64, check_f32, check_f32, check_f16 } };
    const int64_t apart[8] = { 1, 2 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int n = 0; n < 9; n++) {
            norm_case c;
            norm_case_init(&c, (norm_op)(n % 3), mixes[n / 3], CHECK_SHAPE(3, 70), apart);
            for (int i = 0; i < 70; i += 2) check_set(&c.weight.tensor, i, i * 0x1p-140);
            CHECK_OK(norm_case_run(&c, context));
            const uint64_t bits = check_hash(&c.y.tensor);
            check_odd_environment(true);
            CHECK_OK(norm_case_run(&c, context));
            check_odd_environment(false);
            CHECK(check_hash(&c.y.tensor) == bits, "%s, case %d", check_cpu(k), n);
            norm_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

/* ---- misuse -------------------------------------------------------------------------------------------- */

typedef struct misuse {
    const char *word;
    invar_status status;
    void (*spoil)(norm_case *c);
} misuse;

static void spoil_eps(norm_case *c) { c->options.eps = -1; }
static void spoil_eps_nan(norm_case *c) { c->options.eps = NAN; }
static void spoil_size(norm_case *c) { c->options.size = 3; }
static void spoil_x_data(norm_case *c) { c->x.tensor.data = NULL; }
static void spoil_x_rank(norm_case *c) { c->x.tensor.ndim = 0; }
static void spoil_x_ninth(norm_case *c) { c->x.tensor.ndim = 9; }
static void spoil_x_type(norm_case *c) { c->x.tensor.dtype = check_i32; }
static void spoil_x_count(norm_case *c) { c->x.shape[0] = -2; }
static void spoil_x_overflow(norm_case *c) { c->x.strides[0] = INT64_MAX / 2; }
static void spoil_x_device(norm_case *c) { c->x.tensor.device.type = INVAR_DEVICE_CUDA; }
static void spoil_x_metal(norm_case *c) { c->x.tensor.device.type = 8; }
static void spoil_y_device(norm_case *c) { c->y.tensor.device.type = INVAR_DEVICE_CUDA; }
static void spoil_x_alignment(norm_case *c) { c->x.tensor.byte_offset = 2; }
static void spoil_weight_length(norm_case *c) { c->weight.shape[0]--; }
static void spoil_weight_rank(norm_case *c) { c->weight.tensor.ndim = 2; c->weight.shape[1] = c->weight.strides[1] = 1; }
static void spoil_weight_type(norm_case *c) { c->weight.tensor.dtype = (invar_dtype){ INVAR_COMPLEX, 64, 1 }; }
static void spoil_weight_promotion(norm_case *c) { c->weight.tensor.dtype = check_f64; c->weight.shape[0] = 8; }
static void spoil_y_shape(norm_case *c) { c->y.shape[0]++; }
static void spoil_y_type(norm_case *c) { c->y.tensor.dtype = check_f16; }
static void spoil_y_strides(norm_case *c) { c->y.strides[0] = 0; }
static void spoil_y_overlap(norm_case *c) { c->y.tensor.data = (char *)c->x.tensor.data + 4; }
static void spoil_y_weight(norm_case *c) { c->y.tensor.data = c->weight.tensor.data; }
static void spoil_y_null(norm_case *c) { c->y.tensor.data = NULL; }
static void spoil_threads(norm_case *c) { c->options.execution.parallel_for = backwards; }

static const misuse misuses[] = {
    { "eps", INVAR_ERROR_VALUE, spoil_eps },
    { "eps", INVAR_ERROR_VALUE, spoil_eps_nan },
    { "options.size", INVAR_ERROR_VALUE, spoil_size },
    { ": x:", INVAR_ERROR_NULL, spoil_x_data },
    { ": x:", INVAR_ERROR_VALUE, spoil_x_rank },
    { ": x:", INVAR_ERROR_VALUE, spoil_x_ninth },
    { ": x:", INVAR_ERROR_DTYPE, spoil_x_type },
    { ": x:", INVAR_ERROR_VALUE, spoil_x_count },
    { ": x:", INVAR_ERROR_VALUE, spoil_x_overflow },
    { ": weight: expected a tensor on CUDA device 0, got one on the CPU", INVAR_ERROR_DEVICE_MIX, spoil_x_device },
    { ": y: expected a tensor on the CPU, got one on CUDA device 0", INVAR_ERROR_DEVICE_MIX, spoil_y_device },
    { ": x: expected a tensor on the CPU or a CUDA device, got one on a device of DLPack type 8", INVAR_ERROR_DEVICE_MIX,
      spoil_x_metal },
    { ": x:", INVAR_ERROR_VALUE, spoil_x_alignment },
    { ": weight:", INVAR_ERROR_VALUE, spoil_weight_length },
    { ": weight:", INVAR_ERROR_VALUE, spoil_weight_rank },
    { ": weight:", INVAR_ERROR_DTYPE, spoil_weight_type },
    { ": y:", INVAR_ERROR_DTYPE, spoil_weight_promotion },
    { ": y:", INVAR_ERROR_VALUE, spoil_y_shape },
    { ": y:", INVAR_ERROR_DTYPE, spoil_y_type },
    { ": y:", INVAR_ERROR_VALUE, spoil_y_strides },
    { ": y: expected memory apart from the other arguments (exactly x's is allowed), got", INVAR_ERROR_VALUE, spoil_y_overlap },
    { ": y:", INVAR_ERROR_VALUE, spoil_y_weight },
    { ": y:", INVAR_ERROR_NULL, spoil_y_null },
    { "pool_threads", INVAR_ERROR_VALUE, spoil_threads },
};

static void every_misuse_is_one_sentence(void) {
    static const char *const operations[] = { "rms_norm: ", "add_rms_norm: ", "layer_norm: " };
    invar_context *context = check_context(NULL, 1);
    for (int op = RMS; op <= LAYER; op++)
        for (size_t m = 0; m < sizeof misuses / sizeof misuses[0]; m++) {
            norm_case c;
            norm_case_init(&c, (norm_op)op, ALL_F32, CHECK_SHAPE(3, 8), contiguous);
            uint64_t y = check_memory_hash(&c.y), sum = check_memory_hash(&c.sum), x = check_memory_hash(&c.x);
            misuses[m].spoil(&c);
            CHECK_FAILS(norm_case_run(&c, context), misuses[m].status, misuses[m].word);
            CHECK(strstr(invar_last_error(), operations[op]) == invar_last_error(), "%s", invar_last_error());
            CHECK(check_memory_hash(&c.y) == y && check_memory_hash(&c.sum) == sum && check_memory_hash(&c.x) == x,
                  "misuse %d of %s wrote", (int)m, operations[op]);
            norm_case_free(&c);
        }
    invar_context_destroy(context);
}

static void misuse_of_single_arguments(void) {
    invar_context *context = check_context(NULL, 1);
    norm_case c;
    norm_case_init(&c, ADD_RMS, ALL_F32, CHECK_SHAPE(3, 8), contiguous);
    const invar_tensor *x = &c.x.tensor, *y = &c.y.tensor, *sum = &c.sum.tensor, *residual = &c.residual.tensor;
    uint64_t before = check_memory_hash(&c.y) ^ check_memory_hash(&c.sum);
    CHECK_FAILS(invar_rms_norm(context, NULL, x, NULL, NULL), INVAR_ERROR_NULL, "y");
    CHECK_FAILS(invar_rms_norm(context, y, NULL, NULL, NULL), INVAR_ERROR_NULL, "x");
    CHECK_FAILS(invar_add_rms_norm(context, y, NULL, x, residual, NULL, NULL), INVAR_ERROR_NULL, "sum");
    CHECK_FAILS(invar_add_rms_norm(context, y, sum, x, NULL, NULL, NULL), INVAR_ERROR_NULL, "residual");
    CHECK_FAILS(invar_add_rms_norm(context, y, y, x, residual, NULL, NULL), INVAR_ERROR_VALUE, "sum");
    CHECK_FAILS(invar_add_rms_norm(context, residual, sum, x, residual, NULL, NULL), INVAR_ERROR_VALUE, "y");
    invar_tensor bias = c.weight.tensor;
    bias.dtype = check_bool;
    CHECK_FAILS(invar_layer_norm(context, y, x, NULL, &bias, NULL), INVAR_ERROR_DTYPE, "bias");
    c.residual.shape[0] = 2;
    CHECK_FAILS(invar_add_rms_norm(context, y, sum, x, residual, NULL, NULL), INVAR_ERROR_VALUE, "residual");
    CHECK((check_memory_hash(&c.y) ^ check_memory_hash(&c.sum)) == before, "an output was written");
    norm_case_free(&c);
    invar_context_destroy(context);
}

CHECK_MAIN(CHECK_TEST(every_length_matches_the_definition), CHECK_TEST(every_mix_of_types_matches_the_definition),
           CHECK_TEST(sum_is_stored_and_y_comes_from_the_unrounded_one),
           CHECK_TEST(float32_bits_are_the_same_on_every_instruction_set), CHECK_TEST(layouts_do_not_change_bits),
           CHECK_TEST(threads_batches_and_streaming_do_not_change_bits), CHECK_TEST(nothing_but_the_arrays_is_touched),
           CHECK_TEST(y_may_be_x),
           CHECK_TEST(half_precision_sum_of_squares_does_not_overflow), CHECK_TEST(variance_about_a_large_mean_does_not_cancel),
           CHECK_TEST(variance_about_an_odd_beginning_does_not_cancel),
           CHECK_TEST(nan_stays_in_its_row), CHECK_TEST(more_than_65535_rows), CHECK_TEST(zero_strides_are_read),
           CHECK_TEST(empty_and_extreme_ranks), CHECK_TEST(plans_workspaces_and_callers_threads),
           CHECK_TEST(callers_environment_does_not_change_bits),
           CHECK_TEST(every_misuse_is_one_sentence), CHECK_TEST(misuse_of_single_arguments))
