/* rope's bits: over layouts, batches, positions, threads, the caller's environment and instruction sets; and what memory a call
 * may touch. */
#include "rope_case.h"

#include "core/context.h"
#include "core/dtype.h"

#include <math.h>
#include <string.h>

/* FNV-1a of results that every instruction set, on every kind of machine, must give. */
static const struct {
    bool traditional;
    int64_t dims, features, offset;
    uint64_t hash;
} fixed_bits[] = {
    { false, 128, 128, 0, 0x8ba8d0326bc026c2 },
    { true, 128, 128, 100000, 0x916b52c0ba57c057 },
    { false, 74, 80, INT64_C(1) << 40, 0x2b29d131e57ca550 },
    { true, 74, 80, -77, 0x74c4d8068a0988e7 },
};

static void float32_bits_are_the_same_on_every_instruction_set(void) {
    for (int k = 1; check_cpu(k); k++) { /* 0 is the reference */
        invar_context *context = check_context(check_cpu(k), 2);
        for (size_t i = 0; i < sizeof fixed_bits / sizeof fixed_bits[0]; i++) {
            rope_case c;
            rope_case_init(&c, check_f32, fixed_bits[i].traditional, fixed_bits[i].dims, 4,
                           (const int64_t[]){ 2, 2, 37, fixed_bits[i].features }, contiguous);
            c.options.offset = fixed_bits[i].offset;
            if (CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options)))
                CHECK(check_hash(&c.y.tensor) == fixed_bits[i].hash, "%s, case %d: 0x%016llx", check_cpu(k), (int)i,
                      (unsigned long long)check_hash(&c.y.tensor));
            rope_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

static void layouts_threads_and_streaming_do_not_change_bits(void) {
    const int64_t steps[][4] = { { 1, 1, 1, 1 }, { 1, 1, 1, 2 }, { 1, 1, 1, -1 }, { -1, 2, -3, 1 }, { 1, 1, 2, 1 } };
    const int threads[] = { 1, 2, 3, 7 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 0; check_cpu(k); k++)
        for (int t = 0; t < 6; t++) {
            uint64_t first = 0;
            for (int n = 0; n < 5 * 8; n++) {
                invar_context *context = check_context(check_cpu(k), threads[n % 4]);
                if (n / 4 % 2) context->description.l3_bytes = 1; /* any output is larger than the caches */
                rope_case c;
                rope_case_init(&c, types[t % 3], t / 3, 64, 4, (const int64_t[]){ 2, 34, 9, 67 + t % 2 }, steps[n / 8]);
                c.options.offset = 3;
                CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
                if (!n) first = check_hash(&c.y.tensor);
                CHECK(check_hash(&c.y.tensor) == first,
                      "%s, case %d, layout %d, %d threads", check_cpu(k), t, n / 8, threads[n % 4]);
                rope_case_free(&c);
                invar_context_destroy(context);
            }
        }
}

/* Frequencies are formed before the tasks begin, the reference's angles in long double. */
static void callers_environment_does_not_change_bits(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        for (int t = 0; t < 2; t++) {
            rope_case c;
            rope_case_init(&c, t ? check_f64 : check_f32, t, 64, 3, (const int64_t[]){ 2, 300, 64 }, contiguous);
            CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
            const uint64_t bits = check_hash(&c.y.tensor);
            check_odd_environment(true);
            CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
            check_odd_environment(false);
            CHECK(check_hash(&c.y.tensor) == bits, "%s, %d bits", check_cpu(k), c.x.tensor.dtype.bits);
            rope_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

/* A hash of all memory around rows that begin `begin` bytes into it and leave `gap` elements between them. */
static uint64_t memory_after(invar_context *context, invar_dtype type, bool traditional, int64_t features, int begin, int gap) {
    check_array x, y;
    check_random random = { 5 };
    check_array_init(&x, type, CHECK_SHAPE(3, 9, features));
    check_array_init(&y, type, CHECK_SHAPE(3 * 9 * (features + gap) + 32));
    check_fill_normal(&x.tensor, &random, 0, 1);
    int64_t strides[] = { 9 * (features + gap), features + gap, 1 };
    const invar_tensor rows = { y.tensor.data, y.tensor.device, 3, type, x.shape, strides, (uint64_t)begin };
    const invar_rope_options options = turn_options(features, traditional, 3);
    CHECK_OK(turn_in_poison(false, context, &rows, &x.tensor, NULL, NULL, &options));
    const uint64_t hash = check_memory_hash(&y);
    check_array_free(&x);
    check_array_free(&y);
    return hash;
}

/* Past the caches from the registers too, on cores with much second-level cache. */
static void rows_go_past_the_caches_wherever_they_begin(void) {
    const int64_t features[] = { 64, 192 };
    const int begin[] = { 0, 2, 4, 36, 60 }, gap[] = { 0, 1, 32 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16 };
    for (int k = 1; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1), *small = check_context(check_cpu(k), 1);
        small->description.l3_bytes = 1, small->description.l2_bytes = 2 << 20;
        for (int n = 0; n < 6 * 2 * 3 * 5; n++) {
            const invar_dtype type = types[n % 3];
            const int64_t d = features[n / 6 % 2];
            const int from = begin[n / 12 % 5] / (type.bits / 8) * (type.bits / 8), between = gap[n / 60];
            CHECK(memory_after(context, type, n / 3 % 2, d, from, between) ==
                      memory_after(small, type, n / 3 % 2, d, from, between),
                  "%s, %s, %d features from byte %d, %d between", check_cpu(k), invar_dtype_name(type), (int)d, from, between);
        }
        invar_context_destroy(context);
        invar_context_destroy(small);
    }
}

/* A position alone, at its offset, has the bits it has in the prompt; so do both layouts of pairs. */
static void one_position_has_the_bits_of_the_prompt(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        rope_case c;
        rope_case_init(&c, check_f32, false, 24, 3, (const int64_t[]){ 1, 90, 24 }, contiguous);
        CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
        check_array row;
        check_array_init(&row, check_f32, CHECK_SHAPE(1, 24));
        for (int p = 0; p < 90; p += 7)
            for (int traditional = 0; traditional < 2; traditional++) {
                invar_rope_options options = turn_options(24, traditional, p);
                for (int i = 0; i < 24; i++) {
                    int from = traditional ? i / 2 + i % 2 * 12 : i;
                    check_set(&row.tensor, i, check_get(&c.x.tensor, p * 24 + from));
                }
                CHECK_OK(turn_in_poison(false, context, &row.tensor, &row.tensor, NULL, NULL, &options));
                for (int i = 0; i < 24; i++) {
                    int from = traditional ? i / 2 + i % 2 * 12 : i;
                    CHECK(check_get(&row.tensor, i) == check_get(&c.y.tensor, p * 24 + from), "%s, position %d, feature %d",
                          check_cpu(k), p, i);
                }
            }
        check_array_free(&row);
        rope_case_free(&c);
        invar_context_destroy(context);
    }
}

/* Wherever the arrays lie; past the caches too. */
static void nothing_but_the_arrays_is_touched(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64 };
    check_random random = { 37 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2), *small = check_context(check_cpu(k), 2);
        small->description.l3_bytes = 1;
        for (int n = 0, rounds = check_rounds(60); n < rounds; n++) {
            const int64_t half = check_integer(&random, 1, n % 4 ? 40 : 200), extra = n % 3 ? 0 : check_integer(&random, 0, 40),
                          shape[] = { check_integer(&random, 1, 3), check_integer(&random, 1, 3),
                                      check_integer(&random, 1, n % 6 ? 5 : 40), 2 * half + extra },
                          steps[] = { 1, n % 4 ? 1 : -1, check_integer(&random, 1, 2), n % 5 ? 1 : n % 2 ? 2 : -1 };
            uint64_t first = 0;
            for (int place = CHECK_FENCED; place <= CHECK_BEHIND_PAGE; place++) {
                rope_case c;
                check_place_arrays((check_place)place);
                rope_case_init(&c, types[n % 4], n / 4 % 2, 2 * half, 4, shape, steps);
                check_array freqs;
                check_array_init(&freqs, check_f32, CHECK_SHAPE(half));
                for (int64_t i = 0; i < half; i++) check_set(&freqs.tensor, i, (double)(1 + i));
                if (n % 7 == 0) c.options.base = 0;
                CHECK_OK(turn_in_poison(n / 8 % 2, n / 16 % 2 ? context : small, &c.y.tensor, &c.x.tensor, NULL,
                                        n % 7 ? NULL : &freqs.tensor, &c.options));
                if (place == CHECK_FENCED) first = check_hash(&c.y.tensor);
                CHECK(check_hash(&c.y.tensor) == first, "%s, case %d, place %d", check_cpu(k), n, place);
                check_array_free(&freqs);
                rope_case_free(&c);
            }
            check_place_arrays(CHECK_FENCED);
        }
        invar_context_destroy(context);
        invar_context_destroy(small);
    }
}

static void y_may_be_x(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int t = 0; t < 4; t++) {
            rope_case c;
            rope_case_init(&c, t / 2 ? check_bf16 : check_f32, t % 2, 26, 3, (const int64_t[]){ 3, 40, 31 }, contiguous);
            CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
            CHECK_OK(turn_in_poison(false, context, &c.x.tensor, &c.x.tensor, NULL, NULL, &c.options));
            CHECK(check_hash(&c.x.tensor) == check_hash(&c.y.tensor), "%s, case %d", check_cpu(k), t);
            rope_case_free(&c);
        }
        invar_context_destroy(context);
    }
}

static void nan_stays_in_its_pair_and_the_rest_is_copied_bit_for_bit(void) {
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 1);
        rope_case c;
        rope_case_init(&c, check_f32, false, 6, 2, (const int64_t[]){ 2, 8 }, contiguous);
        const uint32_t payload = 0x7fc12345;
        check_set(&c.x.tensor, 1, NAN);
        memcpy((char *)c.x.tensor.data + 4 * 7, &payload, 4);
        CHECK_OK(turn_in_poison(false, context, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options));
        for (int i = 0; i < 16; i++)
            CHECK(isnan(check_get(&c.y.tensor, i)) == (i == 1 || i == 4 || i == 7), "%s, element %d", check_cpu(k), i);
        CHECK(!memcmp((char *)c.y.tensor.data + 4 * 7, &payload, 4), "%s: the payload changed", check_cpu(k));
        rope_case_free(&c);
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(float32_bits_are_the_same_on_every_instruction_set), CHECK_TEST(callers_environment_does_not_change_bits),
           CHECK_TEST(layouts_threads_and_streaming_do_not_change_bits),
           CHECK_TEST(rows_go_past_the_caches_wherever_they_begin), CHECK_TEST(one_position_has_the_bits_of_the_prompt),
           CHECK_TEST(nothing_but_the_arrays_is_touched), CHECK_TEST(y_may_be_x),
           CHECK_TEST(nan_stays_in_its_pair_and_the_rest_is_copied_bit_for_bit))
