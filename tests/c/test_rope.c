/* rope and its VJP: turns against their definition, offsets, freqs, plans, and every misuse. Bits: test_rope_bits.c; angles:
 * test_rope_angle.c. */
#include "rope_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- turns ----------------------------------------------------------------------------------------------- */

/* y as defined, with one offset a batch (NULL: options.offset for all), turning by `direction` times the angle. */
static double *rope_expected(const rope_case *c, const int64_t *offsets, const double *freqs, int direction) {
    int64_t count = check_count(&c->x.tensor), dims = c->options.dims;
    double *y = malloc(sizeof(double) * (size_t)(count + 1));
    for (int64_t e = 0; e < count; e++) y[e] = check_get(&c->x.tensor, e);
    for (int64_t n = 0; n < count / c->features * (dims / 2); n++) {
        const int64_t pair = n % (dims / 2), row = n / (dims / 2), position = row % c->length, slice = row / c->length;
        const int64_t first = row * c->features + (c->options.traditional ? 2 * pair : pair);
        const int64_t second = first + (c->options.traditional ? 1 : dims / 2);
        const int64_t offset = offsets ? offsets[slice / c->batch_slices] : 0;
        long double turn = ((long double)position + offset + c->options.offset) * c->options.scale;
        turn = freqs ? turn / freqs[pair] : turn * powl(c->options.base, -2.0L * pair / dims);
        const long double cosine = cosl(turn), sine = direction * sinl(turn), a = y[first], b = y[second];
        y[first] = (double)(a * cosine - b * sine);
        y[second] = (double)(b * cosine + a * sine);
    }
    return y;
}

static double rounding(invar_dtype type) { /* of values up to 8 */
    return type.bits == 64 ? 1e-12 : type.bits == 32 ? 1e-6 : type.code == INVAR_BFLOAT ? 0x1p-6 : 0x1p-9;
}

static void expect_definition(rope_case *c, invar_context *context, const char *what) {
    for (int direction = 1; direction >= -1; direction -= 2) {
        if (direction > 0) CHECK_OK(turn_in_poison(false, context, &c->y.tensor, &c->x.tensor, NULL, NULL, &c->options));
        else CHECK_OK(turn_in_poison(true, context, &c->y.tensor, &c->x.tensor, NULL, NULL, &c->options));
        double *expected = rope_expected(c, NULL, NULL, direction);
        CHECK_CLOSE(&c->y.tensor, expected, rounding(c->x.tensor.dtype), 0, what);
        free(expected);
    }
}

static void every_shape_and_type_matches_the_definition(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64 };
    const int64_t shapes[][5] = { { 1, 1, 3, 2, 2 }, { 2, 1, 5, 6, 6 }, { 1, 3, 4, 40, 34 },
                                  { 2, 2, 70, 64, 64 }, { 1, 2, 2, 70, 66 },
                                  { 3, 1, 1, 128, 128 }, { 2, 2, 2, 16, 8 }, { 1, 2, 300, 8, 4 }, { 1, 1, 2, 9000, 8998 } };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            for (int t = 0; t < 8; t++) {
                rope_case c;
                rope_case_init(&c, types[t % 4], t / 4, shapes[s][4], 4, shapes[s], contiguous);
                c.options.offset = 1000 - (int64_t)s * 300;
                c.options.scale = s % 2 ? 1 : -0.5;
                expect_definition(&c, context, check_cpu(k));
                rope_case_free(&c);
            }
        invar_context_destroy(context);
    }
}

static void ranks_and_empty_dimensions(void) {
    const int64_t shapes[][8] = { { 5, 6 }, { 4, 5, 6 }, { 2, 1, 2, 1, 1, 2, 3, 4 },
                                  { 0, 3, 5, 4 }, { 2, 0, 5, 4 }, { 2, 3, 0, 4 } };
    const int ranks[] = { 2, 3, 8, 4, 4, 4 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int s = 0; s < 6; s++) {
            rope_case c;
            rope_case_init(&c, check_f32, s % 2, 4, ranks[s], shapes[s], contiguous);
            expect_definition(&c, context, check_cpu(k));
            rope_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

/* Of a batch that has none of them; beyond 2^50 elements, as of the rest, no size is taken. */
static void features_that_no_memory_holds(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int bits = 40; bits < 63; bits++) {
            int64_t shape[] = { 0, (int64_t)1 << bits };
            const invar_tensor x = { NULL, { INVAR_DEVICE_CPU, 0 }, 2, check_f16, shape, NULL, 0 };
            const invar_rope_options options = turn_options(shape[1], bits % 2, 0);
            const invar_status status = invar_rope(context, &x, &x, NULL, NULL, &options);
            if (bits <= 50) CHECK_OK(status);
            else CHECK_FAILS(status, INVAR_ERROR_VALUE, "rope: x: expected at most 2^50 elements");
        }
        invar_context_destroy(context);
    }
}

/* ---- offsets and freqs -------------------------------------------------------------------------------------- */

static void offsets_of_every_type_and_shape(void) {
    const invar_dtype types[] = { { INVAR_INT, 8, 1 }, { INVAR_INT, 16, 1 }, check_i32, check_i64, { INVAR_UINT, 8, 1 },
                                  { INVAR_UINT, 16, 1 }, { INVAR_UINT, 32, 1 }, { INVAR_UINT, 64, 1 } };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 8 * 4; t++) {
            int ndim = t / 8 ? 1 : 0;
            int64_t n = t / 8 < 2 ? 1 : 3, values[3], step[1] = { t / 8 == 3 ? -2 : 1 };
            rope_case c;
            rope_case_init(&c, check_f32, t % 2, 10, 4, (const int64_t[]){ 3, 2, 4, 12 }, contiguous);
            c.options.offset = 5;
            check_array offset;
            check_array_init_strided(&offset, types[t % 8], ndim, &n, step);
            for (int b = 0; b < 3; b++) {
                values[b] = n == 1 ? 41 : types[t % 8].code == INVAR_INT ? 30 - 50 * b : 7 + 50 * b;
                if (b < n) check_set(&offset.tensor, b, (double)values[b]);
            }
            CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, &offset.tensor, NULL, &c.options));
            double *expected = rope_expected(&c, values, NULL, 1);
            CHECK_CLOSE(&c.y.tensor, expected, 1e-6, 0, check_cpu(k));
            free(expected);
            check_array_free(&offset);
            rope_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

/* Offsets beyond 32 and 53 bits keep every bit, and their sum may pass 64. */
static void large_offsets_are_not_cut(void) {
    for (int k = 1; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        check_array offset, x, y;
        check_array_init(&offset, check_i64, CHECK_SHAPE(2));
        check_array_init(&x, check_f32, CHECK_SHAPE(2, 3, 8));
        check_array_init(&y, check_f32, CHECK_SHAPE(1, 8));
        for (int i = 0; i < 48; i++) check_set(&x.tensor, i, 1 + i % 8);
        int64_t values[2] = { INT64_MAX - 1, INT64_MIN };
        memcpy(offset.tensor.data, values, sizeof values);
        invar_rope_options options = turn_options(8, false, -3), alone = options;
        CHECK_OK(turn_in_poison(false, context, &x.tensor, &x.tensor, &offset.tensor, NULL, &options));
        for (int p = 0; p < 3; p++) { /* INT64_MAX - 4 + p needs no wider sum */
            for (int i = 0; i < 8; i++) check_set(&y.tensor, i, 1 + i);
            alone.offset = INT64_MAX - 4 + p;
            CHECK_OK(turn_in_poison(false, context, &y.tensor, &y.tensor, NULL, NULL, &alone));
            for (int i = 0; i < 8; i++)
                CHECK(check_get(&y.tensor, i) == check_get(&x.tensor, p * 8 + i),
                      "%s, position %d, feature %d", check_cpu(k), p, i);
        }
        for (int i = 0; i < 8; i++) check_set(&y.tensor, i, 1 + i);
        alone.offset = INT64_MIN; /* the second batch's position 3 - 3; its position 0 lies below 64 bits */
        CHECK_OK(turn_in_poison(false, context, &y.tensor, &y.tensor, NULL, NULL, &alone));
        CHECK(check_get(&y.tensor, 0) != check_get(&x.tensor, 24), "%s: the sum of the offsets saturated", check_cpu(k));
        check_array *all[] = { &offset, &x, &y };
        for (int i = 0; i < 3; i++) check_array_free(all[i]);
        invar_context_destroy(context);
    }
}

static void one_position_turns_in_every_batch(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        rope_case c;
        rope_case_init(&c, check_f32, true, 8, 4, (const int64_t[]){ 5, 2, 1, 8 }, contiguous);
        c.options.offset = 9;
        expect_definition(&c, context, check_cpu(k));
        rope_case_free(&c);
        invar_context_destroy(context);
    }
}

static void more_than_65535_batches(void) {
    invar_context *context = check_context(NULL, 2);
    rope_case c;
    rope_case_init(&c, check_f32, false, 2, 4, (const int64_t[]){ 65537, 1, 1, 2 }, contiguous);
    c.options.offset = 2;
    expect_definition(&c, context, "65537 batches");
    rope_case_free(&c);
    invar_context_destroy(context);
}

static void freqs_of_every_type(void) {
    const invar_dtype types[] = { check_f32, check_f64, check_f16, check_bf16, check_i32, { INVAR_UINT, 8, 1 } };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int t = 0; t < 6 * 2; t++) {
            const double values[4] = { 1, 3, 40, 100 };
            const int64_t four = 4, step = t < 6 ? 1 : -3;
            check_array freqs;
            check_array_init_strided(&freqs, types[t % 6], 1, &four, &step);
            for (int i = 0; i < 4; i++) check_set(&freqs.tensor, i, values[i]);
            rope_case c;
            rope_case_init(&c, check_f32, t % 2, 8, 3, (const int64_t[]){ 2, 50, 8 }, contiguous);
            c.options.base = 0;
            CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, &freqs.tensor, &c.options));
            double *expected = rope_expected(&c, NULL, values, 1);
            CHECK_CLOSE(&c.y.tensor, expected, 1e-6, 0, check_cpu(k));
            free(expected);
            rope_case_free(&c);
            check_array_free(&freqs);
        }
        invar_context_destroy(context);
    }
}

/* An infinite frequency does not turn its pair; a zero one gives NaN there and nowhere else. */
static void freqs_may_be_infinite_or_zero(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        check_array freqs;
        check_array_init(&freqs, check_f32, CHECK_SHAPE(3));
        check_set(&freqs.tensor, 0, INFINITY);
        check_set(&freqs.tensor, 1, 0);
        check_set(&freqs.tensor, 2, 1);
        rope_case c;
        rope_case_init(&c, check_f32, false, 6, 2, (const int64_t[]){ 1, 6 }, contiguous);
        c.options.base = 0;
        c.options.offset = 12;
        CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, &freqs.tensor, &c.options));
        for (int i = 0; i < 6; i++) {
            double y = check_get(&c.y.tensor, i), x = check_get(&c.x.tensor, i);
            CHECK(i % 3 == 0 ? y == x : i % 3 == 1 ? isnan(y) : !isnan(y) && y != x, "%s, feature %d: %g", check_cpu(k), i, y);
        }
        rope_case_free(&c);
        check_array_free(&freqs);
        invar_context_destroy(context);
    }
}

/* ---- the VJP -------------------------------------------------------------------------------------------------- */

/* rope is linear: its VJP is right when <rope(x), dy> = <x, vjp(dy)> for any x and dy. */
static void vjp_is_the_adjoint(void) {
    invar_context *context = check_context(NULL, 1);
    for (int traditional = 0; traditional < 2; traditional++) {
        rope_case c;
        rope_case_init(&c, check_f64, traditional, 10, 3, (const int64_t[]){ 2, 7, 13 }, contiguous);
        check_array dy, dx;
        check_array_init(&dy, check_f64, CHECK_SHAPE(2, 7, 13));
        check_array_init(&dx, check_f64, CHECK_SHAPE(2, 7, 13));
        check_random random = { 77 };
        check_fill_normal(&dy.tensor, &random, 0, 1);
        c.options.offset = 123;
        CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
        CHECK_OK(turn_in_poison(true, context, &dx.tensor, &dy.tensor, NULL, NULL, &c.options));
        double left = 0, right = 0;
        for (int64_t i = 0; i < 2 * 7 * 13; i++) {
            left += check_get(&c.y.tensor, i) * check_get(&dy.tensor, i);
            right += check_get(&c.x.tensor, i) * check_get(&dx.tensor, i);
        }
        CHECK(fabs(left - right) < 1e-12, "%.17g, %.17g", left, right);
        check_array_free(&dy);
        check_array_free(&dx);
        rope_case_free(&c);
    }
    invar_context_destroy(context);
}

/* ---- the call --------------------------------------------------------------------------------------------------- */

static void plan_says_what_would_run(void) {
    invar_context *context = check_context(NULL, 2);
    rope_case c;
    rope_case_init(&c, check_f32, false, 128, 4, (const int64_t[]){ 1, 32, 64, 128 }, contiguous);
    uint64_t before = check_memory_hash(&c.y);
    invar_plan plan = INVAR_PLAN_INIT;
    c.options.execution.plan = &plan;
    CHECK_OK(invar_rope(context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
    CHECK(check_memory_hash(&c.y) == before, "planning wrote y");
    CHECK(plan.tasks == 2 && plan.query_tile == 32 && plan.bytes == 2.0 * 32 * 64 * 128 * 4 && !strncmp(plan.kernel, "rope.", 5),
          "%lld tasks of %d positions, %g bytes, %s", (long long)plan.tasks, plan.query_tile, plan.bytes, plan.kernel);
    rope_case_free(&c);
    invar_context_destroy(context);
}

static void misused_options_offsets_and_freqs_are_one_sentence(void) {
    invar_context *context = check_context(NULL, 1);
    rope_case c;
    rope_case_init(&c, check_f32, false, 8, 3, (const int64_t[]){ 2, 3, 8 }, contiguous);
    check_array offset, freqs;
    check_array_init(&offset, check_i64, CHECK_SHAPE(2));
    check_array_init(&freqs, check_f32, CHECK_SHAPE(4));
    memset(offset.tensor.data, 0, offset.bytes);
    const invar_tensor *y = &c.y.tensor, *x = &c.x.tensor, *o = &offset.tensor, *f = &freqs.tensor;
    const uint64_t before = check_memory_hash(&c.y);
    invar_rope_options good = c.options, bad;
#define MISUSE(change, status, word, offset, freqs)                                                       \
    bad = good;                                                                                           \
    change;                                                                                               \
    CHECK_FAILS(invar_rope(context, y, x, offset, freqs, &bad), status, "rope: " word);                   \
    CHECK_FAILS(invar_rope_vjp(context, y, x, offset, freqs, &bad), status, "rope_vjp: " word);
    MISUSE(bad.dims = 7, INVAR_ERROR_VALUE, "dims", NULL, NULL)
    MISUSE(bad.dims = 0, INVAR_ERROR_VALUE, "dims", NULL, NULL)
    MISUSE(bad.dims = -2, INVAR_ERROR_VALUE, "dims", NULL, NULL)
    MISUSE(bad.dims = 10, INVAR_ERROR_VALUE, "dims", NULL, NULL)
    MISUSE(bad.size = 5, INVAR_ERROR_VALUE, "options.size", NULL, NULL)
    MISUSE(bad.traditional = 2, INVAR_ERROR_VALUE, "traditional", NULL, NULL)
    MISUSE(bad.base = -1, INVAR_ERROR_VALUE, "base", NULL, NULL)
    MISUSE(bad.base = NAN, INVAR_ERROR_VALUE, "base", NULL, NULL)
    MISUSE(bad.base = 0, INVAR_ERROR_VALUE, "base", NULL, NULL)
    MISUSE(bad.base = 10000, INVAR_ERROR_VALUE, "base", NULL, f)
    MISUSE(bad.scale = INFINITY, INVAR_ERROR_VALUE, "scale", NULL, NULL)
    MISUSE(offset.shape[0] = 3, INVAR_ERROR_VALUE, "offset", o, NULL)
    MISUSE(offset.tensor.dtype = check_f32; offset.shape[0] = 2, INVAR_ERROR_DTYPE, "offset", o, NULL)
    MISUSE(offset.tensor.dtype = check_bool, INVAR_ERROR_DTYPE, "offset", o, NULL)
    offset.tensor.dtype = check_i64;
    offset.tensor.ndim = 2;
    offset.shape[1] = offset.strides[1] = 1;
    MISUSE((void)0, INVAR_ERROR_VALUE, "offset", o, NULL)
    MISUSE(bad.base = 0; freqs.shape[0] = 3, INVAR_ERROR_VALUE, "freqs", NULL, f)
    MISUSE(bad.base = 0; freqs.shape[0] = 4; freqs.tensor.dtype = check_bool, INVAR_ERROR_DTYPE, "freqs", NULL, f)
#undef MISUSE
    CHECK_FAILS(invar_rope(context, y, x, NULL, NULL, NULL), INVAR_ERROR_VALUE, "rope: dims");
    CHECK(check_memory_hash(&c.y) == before, "y was written");
    check_array_free(&offset);
    check_array_free(&freqs);
    rope_case_free(&c);
    invar_context_destroy(context);
}

static void misused_tensors_are_one_sentence(void) {
    invar_context *context = check_context(NULL, 1);
    rope_case c;
    rope_case_init(&c, check_f32, false, 8, 3, (const int64_t[]){ 2, 3, 8 }, contiguous);
    const invar_rope_options good = c.options;
    const invar_tensor *y = &c.y.tensor, *x = &c.x.tensor;
    const uint64_t before = check_memory_hash(&c.y);
    invar_tensor half = *y, short_y = *y, scalar = *x, integers = *x, shifted = *x, device = *x;
    int64_t less[3] = { 2, 2, 8 };
    half.dtype = check_f16;
    short_y.shape = less;
    scalar.ndim = 1;
    integers.dtype = check_i32;
    shifted.byte_offset = 4;
    device.device.type = INVAR_DEVICE_CUDA;
    CHECK_FAILS(invar_rope(context, NULL, x, NULL, NULL, &good), INVAR_ERROR_NULL, "rope: y");
    CHECK_FAILS(invar_rope(context, y, NULL, NULL, NULL, &good), INVAR_ERROR_NULL, "rope: x");
    CHECK_FAILS(invar_rope_vjp(context, NULL, x, NULL, NULL, &good), INVAR_ERROR_NULL, "rope_vjp: dx");
    CHECK_FAILS(invar_rope_vjp(context, y, NULL, NULL, NULL, &good), INVAR_ERROR_NULL, "rope_vjp: dy");
    CHECK_FAILS(invar_rope(context, &half, x, NULL, NULL, &good), INVAR_ERROR_DTYPE, "rope: y");
    CHECK_FAILS(invar_rope(context, &short_y, x, NULL, NULL, &good), INVAR_ERROR_VALUE, "rope: y");
    CHECK_FAILS(invar_rope(context, &shifted, x, NULL, NULL, &good), INVAR_ERROR_VALUE, "rope: y");
    CHECK_FAILS(invar_rope(context, y, &scalar, NULL, NULL, &good), INVAR_ERROR_VALUE, "rope: x");
    CHECK_FAILS(invar_rope(context, y, &integers, NULL, NULL, &good), INVAR_ERROR_DTYPE, "rope: x");
    CHECK_FAILS(invar_rope(context, y, &device, NULL, NULL, &good), INVAR_ERROR_DEVICE_MIX, "rope: y");
    c.y.strides[1] = 0;
    CHECK_FAILS(invar_rope(context, y, x, NULL, NULL, &good), INVAR_ERROR_VALUE, "rope: y");
    CHECK(check_memory_hash(&c.y) == before, "y was written");
    rope_case_free(&c);
    invar_context_destroy(context);
}

CHECK_MAIN(CHECK_TEST(every_shape_and_type_matches_the_definition), CHECK_TEST(ranks_and_empty_dimensions),
           CHECK_TEST(features_that_no_memory_holds), CHECK_TEST(offsets_of_every_type_and_shape),
           CHECK_TEST(large_offsets_are_not_cut), CHECK_TEST(one_position_turns_in_every_batch),
           CHECK_TEST(more_than_65535_batches), CHECK_TEST(freqs_of_every_type), CHECK_TEST(freqs_may_be_infinite_or_zero),
           CHECK_TEST(vjp_is_the_adjoint), CHECK_TEST(plan_says_what_would_run),
           CHECK_TEST(misused_options_offsets_and_freqs_are_one_sentence), CHECK_TEST(misused_tensors_are_one_sentence))
