/* The bits of attention: one row's result whatever rides with it, however many threads run, and on every instruction set. */
#include "attention_case.h"

#include <stdio.h>

/* Columns first … first+count-1 of axis `axis`, of the same memory. */
static invar_tensor slice(const check_array *x, int axis, int64_t first, int64_t count, int64_t *shape) {
    invar_tensor y = x->tensor;
    memcpy(shape, x->shape, sizeof *shape * (size_t)y.ndim);
    shape[axis] = count;
    y.shape = shape;
    y.byte_offset += (uint64_t)(first * x->strides[axis]) * (y.dtype.bits / 8u);
    return y;
}

/* A call on some batches and queries of `d`; the output's hash. The mask is cut with them. */
static uint64_t run_part(const attention_data *d, invar_context *context, int64_t batch_first, int64_t batches,
                         int64_t query_first, int64_t queries, int64_t keys) {
    const attention_case *c = &d->shape;
    int64_t sq[4], sk[4], sv[4], sm[4], sq2[4], sm2[4], sm3[4], sk2[4], sv2[4];
    invar_tensor q = slice(&d->q, 0, batch_first, batches, sq2), k = slice(&d->k, 0, batch_first, batches, sk2);
    invar_tensor v = slice(&d->v, 0, batch_first, batches, sv2), mask = slice(&d->mask, 0, batch_first, batches, sm3);
    check_array array = { .tensor = q };
    memcpy(array.shape, sq2, sizeof sq2), memcpy(array.strides, d->q.strides, sizeof array.strides);
    q = slice(&array, 2, query_first, queries, sq);
    array.tensor = mask;
    memcpy(array.shape, sm3, sizeof sm3), memcpy(array.strides, d->mask.strides, sizeof array.strides);
    mask = slice(&array, 2, query_first, queries, sm2);
    array.tensor = mask;
    memcpy(array.shape, sm2, sizeof sm2);
    mask = slice(&array, 3, 0, keys, sm);
    array.tensor = k;
    memcpy(array.shape, sk2, sizeof sk2), memcpy(array.strides, d->k.strides, sizeof array.strides);
    k = slice(&array, 2, 0, keys, sk);
    array.tensor = v;
    memcpy(array.shape, sv2, sizeof sv2), memcpy(array.strides, d->v.strides, sizeof array.strides);
    v = slice(&array, 2, 0, keys, sv);
    check_array out, lse;
    check_array_init(&out, c->type, CHECK_SHAPE(batches, c->heads, queries, c->value_dim));
    check_array_init(&lse, check_f32, CHECK_SHAPE(batches, c->heads, queries));
    CHECK_OK(invar_scaled_dot_product_attention(context, &out.tensor, &lse.tensor, &q, &k, &v,
                                                c->mask_type.bits ? &mask : NULL, c->sinks ? &d->sinks.tensor : NULL, NULL,
                                                &c->options));
    const uint64_t hash = check_hash(&out.tensor) ^ check_hash(&lse.tensor) * 3;
    check_array_free(&out);
    check_array_free(&lse);
    return hash;
}

/* The hash of the same rows, taken from a call on everything. */
static uint64_t part_of_whole(const attention_data *d, int64_t batch_first, int64_t batches, int64_t query_first,
                              int64_t queries) {
    const attention_case *c = &d->shape;
    check_array out, lse;
    check_array_init(&out, c->type, CHECK_SHAPE(batches, c->heads, queries, c->value_dim));
    check_array_init(&lse, check_f32, CHECK_SHAPE(batches, c->heads, queries));
    for (int64_t row = 0; row < batches * c->heads * queries; row++) {
        const int64_t i = row % queries, h = row / queries % c->heads, b = row / queries / c->heads;
        const int64_t from = ((batch_first + b) * c->heads + h) * c->queries + query_first + i;
        for (int64_t e = 0; e < c->value_dim; e++)
            check_set(&out.tensor, row * c->value_dim + e, check_get(&d->out.tensor, from * c->value_dim + e));
        check_set(&lse.tensor, row, check_get(&d->lse.tensor, from));
    }
    const uint64_t hash = check_hash(&out.tensor) ^ check_hash(&lse.tensor) * 3;
    check_array_free(&out);
    check_array_free(&lse);
    return hash;
}

static attention_case wide_case(invar_dtype type, bool masked) {
    attention_case c = attention_plain;
    c.type = type;
    c.batch = 3;
    c.heads = 4;
    c.kv_heads = 2;
    c.queries = 131;
    c.keys = 531;
    c.key_dim = 40;
    c.value_dim = 72;
    c.seed = 7;
    if (masked) c.mask_type = type;
    c.sinks = masked;
    return c;
}

static const invar_dtype types[] = { { INVAR_FLOAT, 32, 1 }, { INVAR_FLOAT, 16, 1 }, { INVAR_BFLOAT, 16, 1 } };

/* Every vectorised instruction set that is not the slow baseline; baseline is compared with them below. */
static void on_fast_cpus(void (*test)(const char *cpu, invar_dtype type, bool masked)) {
    const char *cpu;
    for (int i = 1; (cpu = check_cpu(i)); i++)
        for (int t = 0; strcmp(cpu, "baseline") && t < 3; t++)
            for (int masked = 0; masked < 2; masked++) test(cpu, types[t], masked);
}

static void rows_on(const char *cpu, invar_dtype type, bool masked) {
    const attention_case c = wide_case(type, masked);
    attention_data d;
    attention_init(&d, &c);
    invar_context *context = check_context(cpu, 2);
    attention_run(&d, context);
    const int64_t chunks[][4] = { { 0, 3, 0, 1 },   { 0, 1, 130, 1 }, { 1, 1, 47, 2 },
                                  { 2, 1, 40, 60 }, { 0, 2, 0, 100 }, { 1, 2, 3, 128 } };
    for (size_t n = 0; n < sizeof chunks / sizeof chunks[0]; n++) {
        const int64_t *p = chunks[n];
        CHECK(run_part(&d, context, p[0], p[1], p[2], p[3], c.keys) == part_of_whole(&d, p[0], p[1], p[2], p[3]),
              "%s, %d bits, masked %d: batch %d to %d, queries %d to %d", cpu, type.bits, masked, (int)p[0],
              (int)(p[0] + p[1]), (int)p[2], (int)(p[2] + p[3]));
    }
    invar_context_destroy(context);
    attention_free(&d);
}
static void a_row_does_not_depend_on_what_rides_with_it(void) { on_fast_cpus(rows_on); }

/* Masks of each head whose rows take a page or more, which hide other blocks of keys from each 32 rows: blocks are kept packed. */
static void rows_with_long_masks(void) {
    const int64_t parts[][2] = { { 0, 1 }, { 40, 2 }, { 3, 128 }, { 96, 35 } };
    for (int n = 0; n < 4; n++) {
        attention_case c = wide_case(types[1 + n % 2], true);
        attention_data d;
        c.batch = 1;
        c.heads = c.kv_heads = 2;
        c.keys = 2300;
        c.options.causal = n > 1;
        attention_init(&d, &c);
        for (int64_t i = 0; i < check_count(&d.mask.tensor); i++)
            if ((i / c.keys % c.queries / 32 + i % c.keys / 256) % 3 == 0) check_set(&d.mask.tensor, i, -INFINITY);
        invar_context *context = check_context(NULL, 1 + n % 2);
        attention_run(&d, context);
        for (int p = 0; p < 4; p++) {
            const int64_t end = parts[p][0] + parts[p][1], keys = n > 1 ? c.keys - c.queries + end : c.keys;
            CHECK(run_part(&d, context, 0, 1, parts[p][0], parts[p][1], keys) == part_of_whole(&d, 0, 1, parts[p][0], parts[p][1]),
                  "%d bits, causal %d, queries %d to %d", c.type.bits, n > 1, (int)parts[p][0], (int)end);
        }
        invar_context_destroy(context);
        attention_free(&d);
    }
}

static void threads_on(const char *cpu, invar_dtype type, bool masked) {
    attention_case c = wide_case(type, masked);
    for (int few = 0; few < 2; few++) {
        if (few) {
            c.batch = c.kv_heads = 1;
            c.queries = 2;
            c.keys = 2500;
        }
        attention_data d;
        attention_init(&d, &c);
        uint64_t expected = 0;
        const int counts[] = { 1, 2, 3, 7, 16, 2 };
        for (int n = 0; n < 6; n++) {
            invar_context *context = check_context(cpu, counts[n]);
            attention_run(&d, context);
            const uint64_t hash = check_hash(&d.out.tensor) ^ check_hash(&d.lse.tensor) * 3;
            if (!n) expected = hash;
            CHECK(hash == expected, "%s, %d bits, masked %d: %d threads", cpu, type.bits, masked, counts[n]);
            invar_context_destroy(context);
        }
        attention_free(&d);
    }
}
static void threads_change_nothing(void) { on_fast_cpus(threads_on); }

/* Parts of split keys that would not fit in 16 MiB are computed and merged in waves: of 15 batches, and of one batch's 66 blocks. */
static void waves_change_nothing(void) {
    for (int one = 0; one < 2; one++) {
        attention_case c = attention_plain;
        c.batch = one ? 1 : 15;
        c.queries = 64;
        c.keys = one ? 66 * 64 : 5 * 64;
        c.key_dim = 2;
        c.value_dim = 1022;
        attention_data d;
        attention_init(&d, &c);
        uint64_t hash[2];
        for (int n = 0; n < 2; n++) {
            invar_context *context = check_context(check_cpu(1), n ? 8 : 1);
            attention_run(&d, context);
            hash[n] = check_hash(&d.out.tensor) ^ check_hash(&d.lse.tensor) * 3;
            invar_context_destroy(context);
        }
        CHECK(hash[0] == hash[1], "%d batches", (int)c.batch);
        attention_free(&d);
    }
}

/* Keys that causal or a mask hides, at the end: with and without them, rows keep their bits. */
static void trailing_on(const char *cpu, invar_dtype type, bool masked) {
    attention_case c = wide_case(type, true);
    const int64_t seen[] = { 530, 300, 257, 256, 100, 1 };
    invar_context *context = check_context(cpu, 2);
    attention_data d;
    attention_init(&d, &c);
    for (size_t n = 0; n < sizeof seen / sizeof seen[0]; n++) {
        for (int64_t i = 0; i < check_count(&d.mask.tensor); i++)
            if (i % c.keys >= seen[n]) check_set(&d.mask.tensor, i, -INFINITY);
        for (int64_t i = 0; masked && i < check_count(&d.v.tensor); i++)
            if (i / c.value_dim % c.keys >= seen[n]) check_set(&d.v.tensor, i, i % 2 ? NAN : -INFINITY);
        attention_run(&d, context);
        CHECK(run_part(&d, context, 0, 3, 0, 131, seen[n]) == part_of_whole(&d, 0, 3, 0, 131), "%s, %d bits: %d keys of %d",
              cpu, type.bits, (int)seen[n], (int)c.keys);
    }
    attention_free(&d);
    invar_context_destroy(context);
}
static void trailing_keys_change_nothing(void) { on_fast_cpus(trailing_on); }

/* A prompt, and the same prompt fed in chunks to a growing cache, causal and with a window. */
static void chunked_on(const char *cpu, invar_dtype type, bool masked) {
    attention_case c = wide_case(type, false);
    c.options.causal = 1;
    c.queries = c.keys = 300;
    if (masked) c.options.window_left = 70;
    attention_data d;
    attention_init(&d, &c);
    invar_context *context = check_context(cpu, 2);
    attention_run(&d, context);
    for (int64_t first = 0, count; first < 300; first += count) {
        count = first < 128 ? 128 : first < 290 ? 81 : 1;
        CHECK(run_part(&d, context, 0, 3, first, count, first + count) == part_of_whole(&d, 0, 3, first, count),
              "%s, %d bits, window %d: queries %d to %d", cpu, type.bits, masked, (int)first, (int)(first + count));
    }
    invar_context_destroy(context);
    attention_free(&d);
}
static void a_prompt_in_chunks_has_the_same_bits(void) { on_fast_cpus(chunked_on); }

/* float32, and float16 where it is widened to it. */
static void instruction_sets_agree(void) {
    for (int n = 0; n < 6; n++) {
        attention_case c = wide_case(n % 2 ? check_f16 : check_f32, n >= 2);
        c.batch = 1;
        c.queries = n == 5 ? 1 : 37;
        c.options.softcap = n >= 4 ? 3 : 0;
        c.options.causal = n >= 4;
        attention_data d;
        attention_init(&d, &c);
        uint64_t expected = 0;
        const char *cpu;
        for (int i = 1; (cpu = check_cpu(i)); i++) {
            if (n % 2 && !strcmp(cpu, "amx")) continue; /* in parts: docs/invariance.md */
            invar_context *context = check_context(cpu, 1);
            attention_run(&d, context);
            const uint64_t hash = check_hash(&d.out.tensor) ^ check_hash(&d.lse.tensor) * 3;
            if (i == 1) expected = hash;
            CHECK(hash == expected, "case %d: %s differs from %s", n, cpu, check_cpu(1));
            invar_context_destroy(context);
        }
        attention_free(&d);
    }
}

/* A mask that heads share, and the same with a copy for each head; holes hide keys that are NaN. */
static void shared_on(const char *cpu, attention_case c, int holes, int threads) {
    attention_data one, each;
    c.own_mask = true;
    c.mask_broadcast = 2;
    attention_init(&one, &c);
    c.mask_broadcast = 0;
    attention_init(&each, &c);
    const int64_t values = c.queries * c.keys;
    check_random random = { 11 };
    for (int64_t i = 0; i < values; i++) {
        const int64_t query = i / c.keys, key = i % c.keys;
        const bool hidden = holes == 2 ? check_uniform(&random, 0, 1) < 0.3 : holes && query % 3 == 0 && key % 256 == 100;
        check_set(&one.mask.tensor, i, hidden ? -INFINITY : check_normal(&random));
    }
    for (int64_t i = 0; i < c.heads * values; i++) check_set(&each.mask.tensor, i, check_get(&one.mask.tensor, i % values));
    for (int64_t h = 0; holes == 1 && h < c.kv_heads; h++)
        for (int64_t e = 0; e < c.value_dim; e++) {
            check_set(&one.v.tensor, (h * c.keys + 100) * c.value_dim + e, NAN);
            check_set(&each.v.tensor, (h * c.keys + 100) * c.value_dim + e, NAN);
        }
    invar_context *context = check_context(cpu, threads);
    attention_run(&one, context);
    attention_run(&each, context);
    CHECK(check_hash(&one.out.tensor) == check_hash(&each.out.tensor) &&
          check_hash(&one.lse.tensor) == check_hash(&each.lse.tensor),
          "%s: %d threads, holes %d, %d heads, %d keys", cpu, threads, holes, (int)c.kv_heads, (int)c.keys);
    invar_context_destroy(context);
    attention_free(&one);
    attention_free(&each);
}

static void heads_may_share_a_mask(void) {
    const char *cpu;
    for (int i = 1; (cpu = check_cpu(i)); i++)
        for (int n = 0; strcmp(cpu, "baseline") && n < (strcmp(cpu, "amx") ? 12 : 36); n++) { /* elsewhere half types share nothing */
            attention_case c = attention_plain;
            c.type = n < 12 ? check_f32 : n < 24 ? check_bf16 : check_f16;
            c.heads = c.kv_heads = n % 2 ? 8 : 6;
            if (n % 4 == 3) c.kv_heads = 4;
            c.mask_type = n % 4 == 2 ? check_bool : c.type;
            c.queries = 263;
            c.keys = 531;
            c.options.causal = n % 12 / 3 == 2;
            shared_on(cpu, c, n % 3, 1 + n % 12 / 6);
        }
}

/* Whether a pattern of holes lets query i see key j. */
static bool pattern_sees(int pattern, int64_t h, int64_t i, int64_t j, int64_t keys, check_random *random) {
    switch (pattern) {
    case 0: return true;
    case 1: return j < keys - 150 || h > 1;                          /* padding behind */
    case 2: return j >= 290 - 3 * h;                                 /* and before */
    case 3: return j <= i + keys - 131;                              /* causal */
    case 4: return j != 300 || i != 70;                              /* one pair hidden */
    case 5: return check_uniform(random, 0, 1) < 0.8;
    case 6: return check_uniform(random, 0, 1) < 0.02;
    case 7: return i % 5 != 0 && i < 120;                            /* whole rows hidden */
    default: return (i / 32 + j / 32 + h) % 3 == 0;                  /* blocks */
    }
}

/* A boolean mask and the additive one of 0 and -inf say the same. */
static void booleans_on(const char *cpu, attention_case c, int pattern, int threads) {
    attention_data boolean, additive;
    check_random random = { 3 + (uint64_t)pattern };
    c.own_mask = true;
    c.mask_type = check_bool;
    attention_init(&boolean, &c);
    c.mask_type = c.type;
    attention_init(&additive, &c);
    const int64_t *shape = boolean.mask.tensor.shape;
    for (int64_t n = 0, count = check_count(&boolean.mask.tensor); n < count; n++) {
        const bool sees = pattern_sees(pattern, n / (shape[3] * shape[2]) % shape[1], n / shape[3] % shape[2], n % shape[3],
                                       c.keys, &random);
        check_set(&boolean.mask.tensor, n, sees);
        check_set(&additive.mask.tensor, n, sees ? 0 : -INFINITY);
    }
    for (int64_t e = 0; e < c.value_dim; e++) { /* of a key that some rows do not see */
        check_set(&boolean.v.tensor, 300 * c.value_dim + e, pattern == 4 ? INFINITY : 1);
        check_set(&additive.v.tensor, 300 * c.value_dim + e, pattern == 4 ? INFINITY : 1);
    }
    invar_context *context = check_context(cpu, threads);
    attention_run(&boolean, context);
    attention_run(&additive, context);
    CHECK(check_hash(&boolean.out.tensor) == check_hash(&additive.out.tensor) &&
          check_hash(&boolean.lse.tensor) == check_hash(&additive.lse.tensor),
          "%s: %d bits, pattern %d, %d heads' masks, %d queries", cpu, c.type.bits, pattern, (int)shape[1], (int)c.queries);
    invar_context_destroy(context);
    attention_free(&boolean);
    attention_free(&additive);
}

static void booleans_are_additive(void) {
    const char *cpu;
    for (int i = 1; (cpu = check_cpu(i)); i++)
        for (int n = 0; strcmp(cpu, "baseline") && n < 54; n++) {
            attention_case c = wide_case(types[n % 3], false);
            c.batch = 1;
            c.heads = c.kv_heads = 4;
            c.mask_broadcast = n / 3 % 2 << 1;
            c.options.causal = n % 7 == 3;
            c.options.softcap = n % 7 == 5 ? 4 : 0;
            booleans_on(cpu, c, n / 6, 1 + n % 2);
        }
}

static uint64_t both(const attention_data *d) { return check_hash(&d->out.tensor) ^ check_hash(&d->lse.tensor) * 3; }

/* Keys hidden from all rows, here and there, hold whatever they like; numbers are added the same as integers. */
static void contents_on(const char *cpu, attention_case c, int threads) {
    attention_data numbers, integers;
    invar_context *context = check_context(cpu, threads);
    c.mask_type = c.type;
    attention_init(&numbers, &c);
    c.mask_type = (invar_dtype){ INVAR_INT, 8, 1 };
    attention_init(&integers, &c);
    const int64_t count = check_count(&numbers.mask.tensor);
    for (int64_t n = 0; n < count; n++) check_set(&numbers.mask.tensor, n, check_get(&integers.mask.tensor, n));
    attention_run(&numbers, context);
    attention_run(&integers, context);
    CHECK(both(&numbers) == both(&integers), "%s: %d bits, %d threads: integers", cpu, c.type.bits, threads);
    for (int64_t n = 0; n < count; n++)
        if (n % c.keys % 97 == 40) check_set(&numbers.mask.tensor, n, -INFINITY);
    attention_run(&numbers, context);
    const uint64_t expected = both(&numbers);
    for (int64_t n = 0; n < check_count(&numbers.k.tensor); n++)
        if (n / c.key_dim % c.keys % 97 == 40) check_set(&numbers.k.tensor, n, n / c.key_dim % 3 ? INFINITY : NAN);
    for (int64_t n = 0; n < check_count(&numbers.v.tensor); n++)
        if (n / c.value_dim % c.keys % 97 == 40) check_set(&numbers.v.tensor, n, NAN);
    attention_run(&numbers, context);
    CHECK(both(&numbers) == expected, "%s: %d bits, %d threads: keys that are hidden", cpu, c.type.bits, threads);
    invar_context_destroy(context);
    attention_free(&numbers);
    attention_free(&integers);
}

static void hidden_keys_hold_anything(void) {
    const char *cpu;
    for (int i = 1; (cpu = check_cpu(i)); i++)
        for (int n = 0; strcmp(cpu, "baseline") && n < 12; n++) {
            attention_case c = wide_case(types[n % 3], false);
            c.batch = 1;
            c.heads = n / 3 % 2 ? 4 : 2;
            c.queries = n < 6 ? 128 : 150;
            c.key_dim = n < 6 ? 64 : 40;
            contents_on(cpu, c, 1 + n / 3 % 2);
        }
}

/* One example whose bits are known, so that instruction sets of different machines can be compared. */
static void known_bits(void) {
    attention_case c = wide_case(check_f32, true);
    c.batch = 1;
    c.queries = 19;
    c.options.softcap = 4;
    attention_data d;
    attention_init(&d, &c);
    const char *cpu = check_cpu(1);
    invar_context *context = check_context(cpu, 1);
    attention_run(&d, context);
    const uint64_t hash = check_hash(&d.out.tensor) ^ check_hash(&d.lse.tensor) * 3;
    CHECK(hash == UINT64_C(0x20dfc2baefe0b678), "%s: hash %llx", cpu, (unsigned long long)hash);
    invar_context_destroy(context);
    attention_free(&d);
}

CHECK_MAIN(CHECK_TEST(a_row_does_not_depend_on_what_rides_with_it), CHECK_TEST(rows_with_long_masks),
           CHECK_TEST(threads_change_nothing),
           CHECK_TEST(waves_change_nothing), CHECK_TEST(trailing_keys_change_nothing),
           CHECK_TEST(a_prompt_in_chunks_has_the_same_bits), CHECK_TEST(instruction_sets_agree),
           CHECK_TEST(heads_may_share_a_mask), CHECK_TEST(booleans_are_additive),
           CHECK_TEST(hidden_keys_hold_anything), CHECK_TEST(known_bits))
