/* scaled_dot_product_attention forward: every instruction set against an oracle that forms the whole matrix in double. */
#include "attention_case.h"

#include <stdio.h>

static const invar_dtype types[] = { { INVAR_FLOAT, 32, 1 }, { INVAR_FLOAT, 16, 1 }, { INVAR_BFLOAT, 16, 1 },
                                     { INVAR_FLOAT, 64, 1 } };

static int64_t pick(check_random *random, const int64_t *from, int count) { return from[check_integer(random, 0, count - 1)]; }
#define PICK(random, ...) \
    pick(random, (const int64_t[]){ __VA_ARGS__ }, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)))

static invar_dtype pick_mask(check_random *random, invar_dtype type) {
    static const invar_dtype integers[] = { { INVAR_INT, 8, 1 }, { INVAR_UINT, 16, 1 }, { INVAR_INT, 32, 1 },
                                            { INVAR_INT, 64, 1 } };
    switch (check_integer(random, 0, 4)) {
    case 0: return check_bool;
    case 1: return type;
    case 2: return integers[check_integer(random, 0, 3)];
    default: return (invar_dtype){ 0 };
    }
}

static attention_case random_case(uint64_t seed, int64_t largest_work) {
    check_random random = { seed };
    attention_case c = attention_plain;
    c.seed = seed;
    c.type = types[check_integer(&random, 0, 3)];
    do {
        c.batch = PICK(&random, 1, 1, 2, 3);
        c.kv_heads = PICK(&random, 1, 1, 2, 3);
        c.heads = c.kv_heads * PICK(&random, 1, 1, 2, 4, 5);
        c.queries = PICK(&random, 1, 1, 2, 7, 13, 49, 64, 100, 257);
        c.keys = PICK(&random, 0, 1, 2, 15, 33, 64, 100, 256, 257, 700);
        c.key_dim = PICK(&random, 0, 1, 3, 16, 40, 64, 80, 96, 128, 200, 512);
        c.value_dim = check_integer(&random, 0, 1) ? c.key_dim : PICK(&random, 1, 5, 16, 33, 64, 100, 128, 256, 512);
    } while (c.batch * c.heads * c.queries * c.keys * (c.key_dim + c.value_dim) > largest_work);
    c.mask_type = pick_mask(&random, c.type);
    c.mask_broadcast = (int)check_integer(&random, 0, 15);
    c.sinks = check_integer(&random, 0, 3) == 0;
    c.lengths = check_integer(&random, 0, 3) == 0;
    c.strided = check_integer(&random, 0, 3) == 0;
    c.options.causal = check_integer(&random, 0, 2) == 0;
    if (check_integer(&random, 0, 3) == 0) c.options.window_left = PICK(&random, 0, 1, 5, 40, 300);
    if (check_integer(&random, 0, 3) == 0) c.options.window_right = PICK(&random, 0, 1, 5, 40);
    if (check_integer(&random, 0, 3) == 0) c.options.softcap = check_uniform(&random, 0.5, 30);
    if (check_integer(&random, 0, 3) == 0) c.options.scale = check_uniform(&random, -0.5, 0.5);
    return c;
}

static void random_calls(const char *cpu, int count, int64_t largest_work) {
    invar_context *context = check_context(cpu, 2);
    for (int i = 0; i < count; i++) {
        const attention_case c = random_case((uint64_t)i, largest_work);
        char what[256];
        snprintf(what, sizeof what, "%s, call %d: %d bits, %lld×%lld/%lld heads, %lld×%lld, D %lld and %lld, mask %d:%d", cpu, i,
                 c.type.bits, (long long)c.batch, (long long)c.heads, (long long)c.kv_heads, (long long)c.queries,
                 (long long)c.keys, (long long)c.key_dim, (long long)c.value_dim, c.mask_type.code, c.mask_type.bits);
        if (!attention_agrees(&c, context, what)) break;
    }
    invar_context_destroy(context);
}

static void reference_agrees_with_the_oracle(void) { random_calls("reference", 120, 400000); }

static void every_instruction_set_agrees_with_the_oracle(void) {
    const char *cpu;
    for (int i = 1; (cpu = check_cpu(i)); i++) random_calls(cpu, 300, strcmp(cpu, "baseline") ? 2000000 : 400000);
}

/* Head sizes around every vector and panel width, as K's and as V's. */
static void every_head_size(void) {
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 1);
        for (int64_t size = 1; size <= 512; size += size < 140 ? 1 : 31) {
            attention_case c = attention_plain;
            c.queries = 3;
            c.keys = 5;
            c.key_dim = size;
            c.value_dim = 1 + (size * 7) % 130;
            char what[64];
            snprintf(what, sizeof what, "%s, head size %lld", cpu, (long long)size);
            if (!attention_agrees(&c, context, what)) break;
        }
        invar_context_destroy(context);
    }
}

/* The same call with ranks 2 to 8 gives the same bits. */
static void every_rank(void) {
    attention_case c = attention_plain;
    c.queries = 9;
    c.keys = 20;
    attention_data d;
    attention_init(&d, &c);
    if (attention_run(&d, NULL)) {
        const uint64_t expected = check_hash(&d.out.tensor);
        for (int rank = 2; rank <= 8; rank++) {
            int64_t q[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, k[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
            q[rank - 2] = 9, k[rank - 2] = 20, q[rank - 1] = k[rank - 1] = 16;
            invar_tensor tq = d.q.tensor, tk = d.k.tensor, tv = d.v.tensor, out = d.out.tensor;
            invar_tensor *all[] = { &tq, &tk, &tv, &out };
            for (int t = 0; t < 4; t++) {
                all[t]->ndim = rank;
                all[t]->shape = t == 0 || t == 3 ? q : k;
                all[t]->strides = NULL;
            }
            CHECK_OK(invar_scaled_dot_product_attention(NULL, &out, NULL, &tq, &tk, &tv, NULL, NULL, NULL, NULL));
            CHECK(check_hash(&out) == expected, "rank %d", rank);
        }
    }
    attention_free(&d);
}

/* A leading size of two dimensions indexes q, k, v and a mask that broadcasts over one of them. */
static void two_batch_dimensions(void) {
    attention_case c = attention_plain;
    c.batch = 6;
    c.queries = 4;
    c.keys = 5;
    c.mask_type = check_f32;
    attention_data flat;
    attention_init(&flat, &c);
    check_array mask;
    check_array_init(&mask, check_f32, CHECK_SHAPE(3, 1, 4, 5));
    for (int64_t i = 0; i < 60; i++) check_set(&mask.tensor, i, (double)(i % 11) / 4);
    for (int64_t i = 0; i < 120; i++) check_set(&flat.mask.tensor, i, check_get(&mask.tensor, i % 60));
    attention_run(&flat, NULL);
    const uint64_t expected = check_hash(&flat.out.tensor);
    int64_t q[5] = { 2, 3, 1, 4, 16 }, k[5] = { 2, 3, 1, 5, 16 };
    invar_tensor tq = flat.q.tensor, tk = flat.k.tensor, tv = flat.v.tensor, out = flat.out.tensor;
    invar_tensor *all[] = { &tq, &tk, &tv, &out };
    for (int t = 0; t < 4; t++) {
        all[t]->ndim = 5;
        all[t]->shape = t == 0 || t == 3 ? q : k;
        all[t]->strides = NULL;
    }
    CHECK_OK(invar_scaled_dot_product_attention(NULL, &out, NULL, &tq, &tk, &tv, &mask.tensor, NULL, NULL, NULL));
    CHECK(check_hash(&out) == expected, "a batch of 2×3 differs from one of 6");
    check_array_free(&mask);
    attention_free(&flat);
}

/* float16 queries on bfloat16 keys and values give float32. */
static void types_promote(void) {
    attention_case c = attention_plain;
    c.queries = 6;
    c.keys = 30;
    attention_data d;
    attention_init(&d, &c);
    check_array q, k;
    check_array_init(&q, check_f16, CHECK_SHAPE(1, 1, 6, 16));
    check_array_init(&k, check_bf16, CHECK_SHAPE(1, 1, 30, 16));
    for (int64_t i = 0; i < 96; i++) check_set(&q.tensor, i, check_get(&d.q.tensor, i));
    for (int64_t i = 0; i < 480; i++) check_set(&k.tensor, i, check_get(&d.k.tensor, i));
    for (int64_t i = 0; i < 96; i++) check_set(&d.q.tensor, i, check_get(&q.tensor, i));
    for (int64_t i = 0; i < 480; i++) check_set(&d.k.tensor, i, check_get(&k.tensor, i));
    attention_run(&d, NULL);
    const uint64_t expected = check_hash(&d.out.tensor);
    CHECK_OK(invar_scaled_dot_product_attention(NULL, &d.out.tensor, NULL, &q.tensor, &k.tensor, &d.v.tensor, NULL, NULL, NULL,
                                                NULL));
    CHECK(check_hash(&d.out.tensor) == expected, "widened inputs give other bits");
    check_array_free(&q);
    check_array_free(&k);
    attention_free(&d);
}

/* Scores of 0 give every key the weight 1. Values of feature d are the bfloat16 numbers 1 + d/128 and 1 + (d + 1)/128 by turns,
 * so that sums are exact and every quotient lies half way between the two: the even one is right. */
static void quotients_are_rounded_once(void) {
    enum { QUERIES = 20, FEATURES = 64 };
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 1);
        for (int keys = 2; keys < 300; keys += 6) {
            check_array q, k, v, out;
            check_array_init(&q, check_bf16, CHECK_SHAPE(1, 1, QUERIES, FEATURES));
            check_array_init(&k, check_bf16, CHECK_SHAPE(1, 1, keys, FEATURES));
            check_array_init(&v, check_bf16, CHECK_SHAPE(1, 1, keys, FEATURES));
            check_array_init(&out, check_bf16, CHECK_SHAPE(1, 1, QUERIES, FEATURES));
            for (int64_t n = 0; n < QUERIES * FEATURES; n++) check_set(&q.tensor, n, 0);
            for (int64_t n = 0; n < keys * FEATURES; n++) {
                check_set(&k.tensor, n, 1);
                check_set(&v.tensor, n, 1 + (double)(n % FEATURES + n / FEATURES % 2) / 128);
            }
            CHECK_OK(invar_scaled_dot_product_attention(context, &out.tensor, NULL, &q.tensor, &k.tensor, &v.tensor, NULL, NULL,
                                                        NULL, NULL));
            int wrong = 0;
            for (int64_t n = 0; n < QUERIES * FEATURES; n++)
                wrong += check_get(&out.tensor, n) != 1 + (double)((n % FEATURES + 1) / 2 * 2) / 128;
            CHECK(wrong == 0, "%s, %d keys: %d quotients are not the nearest even ones", cpu, keys, wrong);
            check_array *all[] = { &q, &k, &v, &out };
            for (int n = 0; n < 4; n++) check_array_free(all[n]);
        }
        invar_context_destroy(context);
    }
}

/* The constants of the logits are formed before the tasks begin. */
static void callers_environment_does_not_change_bits(void) {
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 1);
        for (int t = 0; t < 8; t++) {
            attention_case c = attention_plain;
            c.type = types[t % 4];
            c.queries = c.keys = 20;
            c.key_dim = t / 4 ? 56 : 104; /* whose constants another rounding changes */
            c.options.softcap = t / 4 ? 7 : 0;
            attention_data d;
            attention_init(&d, &c);
            attention_run(&d, context);
            const uint64_t out = check_hash(&d.out.tensor), lse = check_hash(&d.lse.tensor);
            check_odd_environment(true);
            attention_run(&d, context);
            check_odd_environment(false);
            CHECK(check_hash(&d.out.tensor) == out && check_hash(&d.lse.tensor) == lse, "%s, case %d", cpu, t);
            attention_free(&d);
        }
        invar_context_destroy(context);
    }
}

static void empty_dimensions(void) {
    const int64_t sizes[][5] = { { 0, 2, 3, 4, 8 }, { 1, 0, 3, 4, 8 }, { 1, 2, 0, 4, 8 }, { 1, 2, 3, 0, 8 }, { 1, 2, 3, 4, 0 } };
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 1);
        for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
            attention_case c = attention_plain;
            c.batch = sizes[n][0];
            c.heads = c.kv_heads = sizes[n][1];
            c.queries = sizes[n][2];
            c.keys = sizes[n][3];
            c.key_dim = sizes[n][4];
            char what[64];
            snprintf(what, sizeof what, "%s, empty case %d", cpu, (int)n);
            attention_agrees(&c, context, what);
        }
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(reference_agrees_with_the_oracle), CHECK_TEST(every_instruction_set_agrees_with_the_oracle),
           CHECK_TEST(every_head_size), CHECK_TEST(every_rank), CHECK_TEST(two_batch_dimensions), CHECK_TEST(types_promote),
           CHECK_TEST(quotients_are_rounded_once), CHECK_TEST(callers_environment_does_not_change_bits),
           CHECK_TEST(empty_dimensions))
