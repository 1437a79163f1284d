/* Traps that attention implementations fell into, one test each, on every instruction set. */
#define _GNU_SOURCE
#include "attention_case.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static void on_every_cpu(void (*test)(const char *cpu, invar_context *context)) {
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 2);
        test(cpu, context);
        invar_context_destroy(context);
    }
}

static void agree(const attention_case *c, invar_context *context, const char *cpu, const char *what) {
    char text[128];
    snprintf(text, sizeof text, "%s: %s", cpu, what);
    attention_agrees(c, context, text);
}

/* PyTorch 103749, onnxruntime 28904: a row that sees no key is 0, not NaN or the mean of V. */
static void dead_rows_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.heads = 2;
    c.queries = 5;
    c.keys = 7;
    c.mask_type = check_bool;
    for (int sinks = 0; sinks < 2; sinks++)
        for (int additive = 0; additive < 2; additive++) {
            c.sinks = sinks;
            c.mask_type = additive ? check_f32 : check_bool;
            attention_data d;
            attention_init(&d, &c);
            for (int64_t i = 0; i < 70; i++)
                check_set(&d.mask.tensor, i, additive ? (i / 7 % 2 ? 0 : -INFINITY) : (double)(i / 7 % 2));
            attention_run(&d, context);
            for (int64_t row = 0; row < 10; row++) {
                if (row % 2) continue; /* head · 5 + query; even ones are hidden */
                for (int64_t e = 0; e < 16; e++) {
                    const double y = check_get(&d.out.tensor, row * 16 + e);
                    CHECK(y == 0 && !signbit(y), "%s: row %d is %g", cpu, (int)row, y);
                }
                const double expected = sinks ? check_get(&d.sinks.tensor, row / 5) : -INFINITY;
                CHECK(check_get(&d.lse.tensor, row) == expected, "%s: lse %g, expected %g", cpu,
                      check_get(&d.lse.tensor, row), expected);
            }
            attention_free(&d);
        }
}
static void dead_rows_are_zero(void) { on_every_cpu(dead_rows_on); }

/* PyTorch 101967: values at keys that a row masks out never reach it, though its neighbour in the tile sees them. */
static void masked_nan_on(const char *cpu, invar_context *context) {
    static const invar_dtype types[] = { { INVAR_FLOAT, 32, 1 }, { INVAR_BFLOAT, 16, 1 }, { INVAR_FLOAT, 64, 1 } };
    static const int64_t few_and_many[] = { 14, 20, 60 };
    for (int t = 0; t < 3; t++)
        for (int n = 0; n < 3; n++)
            for (int infinite = 0; infinite < 2; infinite++) {
                const int64_t queries = few_and_many[n];
                attention_case c = attention_plain;
                c.type = types[t];
                c.queries = c.keys = queries;
                c.key_dim = 24;
                c.value_dim = 40;
                c.options.causal = 1;
                attention_data clean, dirty;
                attention_init(&clean, &c);
                attention_init(&dirty, &c);
                const int64_t first = 12; /* keys from here on are not finite; queries before it do not see them */
                for (int64_t i = first * 24; i < queries * 24; i++) check_set(&dirty.k.tensor, i, infinite ? INFINITY : NAN);
                for (int64_t i = first * 40; i < queries * 40; i++) check_set(&dirty.v.tensor, i, infinite ? -INFINITY : NAN);
                attention_run(&clean, context);
                attention_run(&dirty, context);
                for (int64_t i = 0; i < queries; i++)
                    for (int64_t e = 0; e < 40; e++) {
                        const double x = check_get(&clean.out.tensor, i * 40 + e), y = check_get(&dirty.out.tensor, i * 40 + e);
                        if (i < first) CHECK(x == y, "%s: query %d has %g for %g", cpu, (int)i, y, x);
                        else CHECK(isnan(y), "%s: query %d sees a key that is not finite, and has %g", cpu, (int)i, y);
                    }
                attention_free(&clean);
                attention_free(&dirty);
            }
}
static void masked_nan_stays_out_and_unmasked_nan_propagates(void) { on_every_cpu(masked_nan_on); }

/* Holes in the middle of a mask, which tiles of many rows add as they stand: what is not finite there reaches no row. */
static void holes_on(const char *cpu, invar_context *context) {
    for (int kind = 0; kind < 4; kind++)
        for (int infinite = 0; infinite < 2; infinite++) {
            attention_case c = attention_plain;
            enum { QUERIES = 45, KEYS = 70, FIRST = 20, LAST = 37 };
            c.type = kind / 2 ? (invar_dtype){ INVAR_BFLOAT, 16, 1 } : check_f32;
            c.mask_type = kind % 2 ? check_bool : c.type;
            c.queries = QUERIES;
            c.keys = KEYS;
            attention_data clean, dirty;
            attention_init(&clean, &c);
            attention_init(&dirty, &c);
            for (int64_t i = 0; i < QUERIES * KEYS; i++) { /* from odd queries */
                const bool hidden = i / KEYS % 2 && i % KEYS >= FIRST && i % KEYS < LAST;
                const double value = kind % 2 ? !hidden : hidden ? -INFINITY : 0.5;
                check_set(&clean.mask.tensor, i, value);
                check_set(&dirty.mask.tensor, i, value);
            }
            for (int64_t i = FIRST * 16; i < LAST * 16; i++) {
                check_set(&dirty.k.tensor, i, infinite ? INFINITY : NAN);
                check_set(&dirty.v.tensor, i, infinite ? -INFINITY : NAN);
            }
            attention_run(&clean, context);
            attention_run(&dirty, context);
            for (int64_t i = 0; i < QUERIES * 16; i++) {
                const double x = check_get(&clean.out.tensor, i), y = check_get(&dirty.out.tensor, i);
                if (i / 16 % 2) CHECK(x == y, "%s, mask and type %d: query %d has %g for %g", cpu, kind, (int)(i / 16), y, x);
                else CHECK(isnan(y), "%s, mask and type %d: query %d has %g", cpu, kind, (int)(i / 16), y);
            }
            attention_free(&clean);
            attention_free(&dirty);
        }
}
static void what_a_hole_hides_stays_out(void) { on_every_cpu(holes_on); }

/* A NaN in one feature of a key: rows that see the key have it in that feature only, a row whose mask hides it nowhere. */
static void one_feature_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.queries = 3;
    c.keys = 40;
    c.mask_type = check_f32;
    attention_data d;
    attention_init(&d, &c);
    for (int64_t i = 0; i < 120; i++) check_set(&d.mask.tensor, i, i / 40 == 1 && i % 40 == 33 ? -INFINITY : 0.5);
    check_set(&d.v.tensor, 33 * 16 + 5, NAN);
    attention_run(&d, context);
    for (int64_t i = 0; i < 48; i++)
        CHECK(isnan(check_get(&d.out.tensor, i)) == (i / 16 != 1 && i % 16 == 5), "%s: element %d", cpu, (int)i);
    attention_free(&d);
}
static void a_nan_hits_its_feature_only(void) { on_every_cpu(one_feature_on); }

/* A score that is -inf of itself is no mask: its key's NaN reaches each row that sees the key, whatever else the call masks. */
static void minus_infinity_on(const char *cpu, invar_context *context) {
    enum { KEYS = 40, AT = 3 };
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64 };
    for (int n = 0; n < 4 * 4 * 2; n++) {
        const int kind = n / 4 % 4; /* no mask, causal, bool, additive */
        attention_case c = attention_plain;
        c.type = types[n % 4];
        c.queries = n < 16 ? 1 : 30;
        c.keys = KEYS;
        c.options.causal = kind == 1;
        if (kind > 1) c.mask_type = kind == 2 ? check_bool : c.type;
        attention_data d;
        attention_init(&d, &c);
        for (int64_t i = 0; i < c.queries; i++) check_set(&d.q.tensor, i * 16, 1);
        check_set(&d.k.tensor, AT * 16, -INFINITY);
        for (int64_t e = 0; e < 16; e++) check_set(&d.v.tensor, AT * 16 + e, NAN);
        for (int64_t i = 0; kind > 1 && i < c.queries * KEYS; i++) {
            const bool hidden = i % KEYS == AT && i / KEYS % 2 && i / KEYS < c.queries - 1;
            check_set(&d.mask.tensor, i, kind == 2 ? !hidden : hidden ? -INFINITY : 0);
        }
        attention_run(&d, context);
        for (int64_t i = 0; i < c.queries; i++) {
            const bool hidden = kind > 1 && i % 2 && i < c.queries - 1;
            CHECK(isnan(check_get(&d.out.tensor, i * 16)) == !hidden, "%s, case %d: query %d has %g", cpu, n, (int)i,
                  check_get(&d.out.tensor, i * 16));
        }
        attention_free(&d);
    }
}
static void a_score_of_minus_infinity_is_no_mask(void) { on_every_cpu(minus_infinity_on); }

/* MLX 2835, 2967; PyTorch 108108: causal is aligned to the lower right, also where there are more queries than keys. */
static void causal_on(const char *cpu, invar_context *context) {
    const int64_t lengths[][2] = { { 1, 50 }, { 7, 50 }, { 50, 50 }, { 50, 7 }, { 300, 90 }, { 90, 300 } };
    for (size_t n = 0; n < sizeof lengths / sizeof lengths[0]; n++) {
        attention_case c = attention_plain;
        c.queries = lengths[n][0];
        c.keys = lengths[n][1];
        c.options.causal = 1;
        agree(&c, context, cpu, "causal");
    }
}
static void causal_is_lower_right_when_lengths_differ(void) { on_every_cpu(causal_on); }

/* sglang 30050: a prompt longer than the window, window edges inside and at the ends of blocks. */
static void window_on(const char *cpu, invar_context *context) {
    const int64_t windows[][2] = { { 0, 0 },  { 3, 0 },    { 0, 3 },   { 255, 0 },
                                   { 256, 1 }, { 100, -1 }, { -1, 20 }, { INT64_MAX, 2 }, { 2, INT64_MAX } };
    for (size_t n = 0; n < sizeof windows / sizeof windows[0]; n++) {
        attention_case c = attention_plain;
        c.queries = 300;
        c.keys = 520;
        c.options.window_left = windows[n][0];
        c.options.window_right = windows[n][1];
        agree(&c, context, cpu, "window");
    }
}
static void a_window_is_inclusive_at_both_ends(void) { on_every_cpu(window_on); }

/* onnxruntime 28379: the cap comes before the mask, so that a masked key stays out. */
static void softcap_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.queries = 20;
    c.keys = 40;
    c.mask_type = check_bool;
    c.options.softcap = 2;
    c.options.scale = 3;
    agree(&c, context, cpu, "softcap and bool mask");
    c.mask_type = check_f32;
    agree(&c, context, cpu, "softcap and additive mask");
}
static void softcap_comes_before_the_mask(void) { on_every_cpu(softcap_on); }

/* mlx-lm 1467: the head axis of a mask is per query head. */
static void grouped_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.heads = 6;
    c.kv_heads = 2;
    c.queries = 9;
    c.keys = 30;
    c.mask_type = check_bool;
    agree(&c, context, cpu, "mask for each query head");
}
static void a_mask_pairs_with_query_heads(void) { on_every_cpu(grouped_on); }

/* A 0/1 mask that is not bool is added and hides nothing. */
static void integers_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.keys = 30;
    c.mask_type = check_i32;
    agree(&c, context, cpu, "integer mask");
}
static void an_integer_mask_is_added(void) { on_every_cpu(integers_on); }

/* PyTorch 146704, xformers 845: 65,536 batches × heads and more. */
static void many_batches_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.batch = 66000;
    c.keys = 2;
    c.key_dim = c.value_dim = 2;
    agree(&c, context, cpu, "66000 batches");
}
static void more_than_65535_batches(void) { on_every_cpu(many_batches_on); }

/* PyTorch 112577, 191937: k and v expanded over heads with stride 0. */
static void stride_zero_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.heads = c.kv_heads = 4;
    c.queries = 5;
    c.keys = 30;
    attention_data d;
    attention_init(&d, &c);
    for (int64_t i = 480; i < 4 * 480; i++) {
        check_set(&d.k.tensor, i, check_get(&d.k.tensor, i % 480));
        check_set(&d.v.tensor, i, check_get(&d.v.tensor, i % 480));
    }
    attention_run(&d, context);
    const uint64_t expected = check_hash(&d.out.tensor);
    d.k.strides[1] = d.v.strides[1] = 0;
    attention_run(&d, context);
    CHECK(check_hash(&d.out.tensor) == expected, "%s: heads of stride 0 differ", cpu);
    attention_free(&d);
}
static void heads_of_stride_zero(void) { on_every_cpu(stride_zero_on); }

/* pegainfer 21: splits in which a row sees nothing, at the start, in the middle and at the end. */
static void empty_splits_on(const char *cpu, invar_context *context) {
    attention_case c = attention_plain;
    c.heads = 4;
    c.kv_heads = 1;
    c.keys = 1500;
    c.mask_type = check_f32;
    attention_data d;
    attention_init(&d, &c);
    for (int64_t i = 0; i < 4 * 1500; i++) check_set(&d.mask.tensor, i, i % 1500 / 128 % 3 == i / 1500 ? 0 : -INFINITY);
    double out[64], lse[4];
    attention_expect(&d, out, lse);
    attention_run(&d, context);
    CHECK_CLOSE(&d.out.tensor, out, 1e-5, 1e-6, cpu);
    CHECK_CLOSE(&d.lse.tensor, lse, 1e-5, 1e-6, cpu);
    attention_free(&d);
}
static void empty_splits_of_keys(void) { on_every_cpu(empty_splits_on); }

/* Memory behind kv_lengths may not even be mapped. */
static void beyond_lengths_of(const char *cpu, invar_context *context, invar_dtype type, int64_t features) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!CHECK(memory != MAP_FAILED, "mmap")) return;
    attention_case c = attention_plain;
    c.type = type;
    c.queries = 3;
    c.keys = 100;
    c.key_dim = c.value_dim = features;
    c.lengths = true;
    for (int64_t length = 0; length <= 37; length += 37)
        for (int of_v = 0; of_v < 2; of_v++) {
            attention_data d;
            attention_init(&d, &c);
            check_set(&d.lengths.tensor, 0, (double)length);
            const size_t bytes = (size_t)(length * features * type.bits / 8);
            invar_tensor *moved = of_v ? &d.v.tensor : &d.k.tensor;
            char *end = memory + page - bytes, *mine = moved->data;
            memcpy(end, mine, bytes);
            mprotect(memory + page, page, PROT_NONE);
            attention_run(&d, context);
            const uint64_t expected = check_hash(&d.out.tensor);
            moved->data = end;
            attention_run(&d, context);
            CHECK(check_hash(&d.out.tensor) == expected, "%s: length %d", cpu, (int)length);
            moved->data = mine;
            mprotect(memory + page, page, PROT_READ | PROT_WRITE);
            attention_free(&d);
        }
    munmap(memory, 2 * page);
}
static void beyond_lengths_on(const char *cpu, invar_context *context) {
    beyond_lengths_of(cpu, context, check_f32, 11);
    beyond_lengths_of(cpu, context, (invar_dtype){ INVAR_BFLOAT, 16, 1 }, 32);
}
static void memory_beyond_a_length_is_not_read(void) { on_every_cpu(beyond_lengths_on); }

CHECK_MAIN(CHECK_TEST(dead_rows_are_zero), CHECK_TEST(masked_nan_stays_out_and_unmasked_nan_propagates),
           CHECK_TEST(what_a_hole_hides_stays_out), CHECK_TEST(a_nan_hits_its_feature_only),
           CHECK_TEST(a_score_of_minus_infinity_is_no_mask),
           CHECK_TEST(causal_is_lower_right_when_lengths_differ),
           CHECK_TEST(a_window_is_inclusive_at_both_ends), CHECK_TEST(softcap_comes_before_the_mask),
           CHECK_TEST(a_mask_pairs_with_query_heads), CHECK_TEST(an_integer_mask_is_added), CHECK_TEST(more_than_65535_batches),
           CHECK_TEST(heads_of_stride_zero), CHECK_TEST(empty_splits_of_keys), CHECK_TEST(memory_beyond_a_length_is_not_read))
