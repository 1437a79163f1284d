/* What attention's gradients promise beside their values: dead rows, masked NaN, invariance, absent gradients. */
#include "attention_vjp_case.h"

static bool bits_equal(double a, double b) { return !memcmp(&a, &b, sizeof a) || (isnan(a) && isnan(b)); }

/* `count` rows of `columns` elements of two rank-4 tensors, from rows (b, h, i) on. */
static bool same_rows(const invar_tensor *x, int64_t xb, int64_t xh, int64_t xi, const invar_tensor *y, int64_t yb, int64_t yh,
                      int64_t yi, int64_t count, const char *what) {
    for (int64_t r = 0; r < count; r++)
        for (int64_t e = 0; e < x->shape[3]; e++) {
            const double a = attention_at(x, xb, xh, xi + r, e), b = attention_at(y, yb, yh, yi + r, e);
            if (!CHECK(bits_equal(a, b), "%s: row %lld, element %lld: %.9g and %.9g", what, (long long)r, (long long)e, a, b))
                return false;
        }
    return true;
}

static void copy_rows(const invar_tensor *to, int64_t tb, int64_t ti, const invar_tensor *from, int64_t fb, int64_t fi,
                      int64_t rows) {
    for (int64_t h = 0; h < to->shape[1]; h++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t e = 0; e < to->shape[3]; e++)
                check_set(to, ((tb * to->shape[1] + h) * to->shape[2] + ti + r) * to->shape[3] + e,
                          attention_at(from, fb, h, fi + r, e));
}

static void set_row(const invar_tensor *x, int64_t b, int64_t h, int64_t i, double value) {
    for (int64_t e = 0; e < x->shape[3]; e++)
        check_set(x, ((b * x->shape[1] + h) * x->shape[2] + i) * x->shape[3] + e, value);
}

static void all_hashes(const vjp_data *x, uint64_t hash[VJP_GRADIENTS]) {
    for (int g = 0; g < VJP_GRADIENTS; g++) hash[g] = x->wanted[g] ? check_hash(&x->gradient[g].tensor) : 0;
}

static void same_hashes(const uint64_t *a, const uint64_t *b, const char *cpu, const char *what) {
    for (int g = 0; g < VJP_GRADIENTS; g++) CHECK(a[g] == b[g], "%s, %s: %s has other bits", what, cpu, vjp_names[g]);
}

static const invar_dtype types[] = { { INVAR_FLOAT, 32, 1 }, { INVAR_BFLOAT, 16, 1 }, { INVAR_FLOAT, 16, 1 },
                                     { INVAR_FLOAT, 64, 1 } };
/* Types that instruction set i has kernels for: float64 is the reference's on each. */
static int types_of(int i) { return i == 0 ? 4 : 3; }

static attention_case sized(invar_dtype type, int64_t batch, int64_t heads, int64_t kv_heads, int64_t queries, int64_t keys) {
    attention_case c = attention_plain;
    c.type = type, c.batch = batch, c.heads = heads, c.kv_heads = kv_heads, c.queries = queries, c.keys = keys;
    c.key_dim = 20, c.value_dim = 36;
    return c;
}

/* ---- rows that see nothing -------------------------------------------------------------------------- */

/* Queries before the first key, a batch without keys, a row masked out: q and dout are NaN there, and no gradient is. */
static void dead_rows(invar_context *context, invar_dtype type, int how, const char *cpu) {
    attention_case c = sized(type, 2, 2, 1, 70, how == 0 ? 40 : 100);
    c.sinks = how != 1;
    c.seed = 2 + (uint64_t)how; /* odd: with dlse */
    if (how == 0) c.options.causal = 1;
    if (how == 1) c.lengths = true;
    if (how >= 2) c.mask_type = how == 2 ? check_bool : type, c.mask_broadcast = 1;
    vjp_data x;
    vjp_init(&x, &c);
    for (int64_t b = 0; b < 2; b++) check_set(&x.forward.lengths.tensor, b, b == 0 ? 0 : 77);
    if (how >= 2)
        for (int64_t h = 0; h < 2; h++) set_row(&x.forward.mask.tensor, 0, h, 7, how == 2 ? 0 : -INFINITY);
    for (int64_t b = 0; b < 2; b++)
        for (int64_t h = 0; h < 2; h++)
            for (int64_t i = 0; i < c.queries; i++) {
                const bool dead = how == 0 ? i < 30 : how == 1 ? b == 0 : i == 7;
                if (!dead) continue;
                set_row(&x.forward.q.tensor, b, h, i, NAN);
                set_row(&x.dout.tensor, b, h, i, i % 2 ? NAN : INFINITY);
            }
    if (vjp_run(&x, context)) {
        for (int g = 0; g < VJP_GRADIENTS; g++)
            for (int64_t i = 0; x.wanted[g] && i < check_count(&x.gradient[g].tensor); i++) {
                const double value = check_get(&x.gradient[g].tensor, i);
                if (!CHECK(isfinite(value), "%s, case %d, %s[%lld] is %g", cpu, how, vjp_names[g], (long long)i, value)) break;
            }
        const int64_t dead = how == 0 ? 29 : how == 1 ? 69 : 7;
        for (int64_t e = 0; e < c.key_dim; e++) {
            const double value = attention_at(&x.gradient[VJP_DQ].tensor, 0, 1, dead, e);
            CHECK(bits_equal(value, 0), "%s, case %d: dq of a dead row is %g", cpu, how, value);
        }
    }
    vjp_free(&x);
}

static void fully_masked_row_gives_zero_gradients(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (int t = 0; t < types_of(i); t++)
            for (int how = 0; how < 4; how++) dead_rows(context, types[t], how, check_cpu(i));
        invar_context_destroy(context);
    }
}

/* Nothing is masked, but every logit is -inf: the row sees no key all the same. */
static void logits_of_minus_infinity(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 1);
        for (int t = 0; t < types_of(i); t++) {
            const attention_case c = sized(types[t], 1, 1, 1, 5, 70);
            vjp_data x;
            vjp_init(&x, &c);
            for (int64_t e = 0; e < check_count(&x.forward.q.tensor); e++) check_set(&x.forward.q.tensor, e, 1);
            for (int64_t e = 0; e < check_count(&x.forward.k.tensor); e++) check_set(&x.forward.k.tensor, e, -INFINITY);
            if (vjp_run(&x, context))
                for (int g = VJP_DQ; g <= VJP_DV; g++)
                    for (int64_t e = 0; e < check_count(&x.gradient[g].tensor); e++) {
                        const double value = check_get(&x.gradient[g].tensor, e);
                        if (!CHECK(bits_equal(value, 0), "%s: %s is %g", check_cpu(i), vjp_names[g], value)) break;
                    }
            vjp_free(&x);
        }
        invar_context_destroy(context);
    }
}

/* ---- NaN behind a mask -------------------------------------------------------------------------------- */

enum { LEFT = 10, BAD = 60 };
struct span {
    int64_t first, last;
};

/* Queries see the key at their own position and LEFT before it. Something is not finite at position BAD: what sees it may be
 * NaN, and must be where a NaN is seen; all else has the bits it has without. */
static void poison(invar_context *context, invar_dtype type, int what, double value, const char *cpu) {
    attention_case c = sized(type, 1, 2, 1, 150, 150);
    c.options.causal = 1;
    c.options.window_left = LEFT;
    vjp_data clean, bad;
    vjp_init(&clean, &c);
    vjp_init(&bad, &c);
    const invar_tensor *tensor = what == 0 ? &bad.forward.k.tensor : what == 1 ? &bad.forward.v.tensor
                               : what == 2 ? &bad.forward.q.tensor : &bad.dout.tensor;
    set_row(tensor, 0, 0, BAD, value);
    if (vjp_run(&clean, context) && vjp_run(&bad, context)) {
        const bool by_key = what < 2;
        const struct span query = { BAD, by_key ? BAD + LEFT + 1 : BAD + 1 };
        const struct span key = { BAD - LEFT, by_key ? BAD + LEFT + 1 : BAD + 1 };
        for (int g = VJP_DQ; g <= VJP_DV; g++) {
            const invar_tensor *a = &clean.gradient[g].tensor, *b = &bad.gradient[g].tensor;
            const struct span seen = g == VJP_DQ ? query : key;
            char text[64];
            snprintf(text, sizeof text, "%s, poison %d, %s", cpu, what, vjp_names[g]);
            same_rows(a, 0, 0, 0, b, 0, 0, 0, seen.first, text);
            same_rows(a, 0, 0, seen.last, b, 0, 0, seen.last, 150 - seen.last, text);
            if (g == VJP_DQ && !by_key) same_rows(a, 0, 1, 0, b, 0, 1, 0, 150, text);
            if (isnan(value) && !(what == 1 && g == VJP_DV)) /* dv does not read v */
                CHECK(isnan(attention_at(b, 0, 0, BAD, 0)), "%s: an unmasked NaN is lost", text);
        }
    }
    vjp_free(&clean);
    vjp_free(&bad);
}

static void nan_behind_a_mask_reaches_nothing(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (int t = 0; t < types_of(i); t++)
            for (int what = 0; what < 4; what++) {
                poison(context, types[t], what, NAN, check_cpu(i));
                poison(context, types[t], what, INFINITY, check_cpu(i));
            }
        invar_context_destroy(context);
    }
}

static void keys_beyond_the_length_are_not_read(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (int t = 0; t < types_of(i); t++) {
            attention_case c = sized(types[t], 2, 2, 2, 30, 140);
            c.lengths = true;
            vjp_data x;
            vjp_init(&x, &c);
            for (int64_t b = 0; b < 2; b++) {
                check_set(&x.forward.lengths.tensor, b, b ? 101 : 33);
                for (int64_t h = 0; h < 2; h++)
                    for (int64_t j = b ? 101 : 33; j < 140; j++) {
                        set_row(&x.forward.k.tensor, b, h, j, NAN);
                        set_row(&x.forward.v.tensor, b, h, j, NAN);
                    }
            }
            if (vjp_run(&x, context)) {
                vjp_compare(&x, check_cpu(i), "lengths");
                CHECK(bits_equal(attention_at(&x.gradient[VJP_DK].tensor, 0, 1, 33, 0), 0), "dk beyond the length");
                CHECK(bits_equal(attention_at(&x.gradient[VJP_DV].tensor, 1, 0, 139, 0), 0), "dv beyond the length");
            }
            vjp_free(&x);
        }
        invar_context_destroy(context);
    }
}

/* ---- invariance --------------------------------------------------------------------------------------- */

/* Every feature at once, more keys than a span and more queries than a tile. */
static attention_case rich(invar_dtype type, uint64_t seed) {
    attention_case c = sized(type, 1, 4, 2, 203, 330);
    c.mask_type = type, c.mask_broadcast = 2;
    c.sinks = true, c.seed = seed;
    c.options.causal = 1, c.options.window_left = 150, c.options.softcap = 3;
    return c;
}

static void bits_do_not_depend_on_threads_or_runs(void) {
    for (int i = 0; check_cpu(i); i++)
        for (int t = 0; t < types_of(i); t++) {
            const attention_case c = rich(types[t], 11);
            uint64_t first[VJP_GRADIENTS], again[VJP_GRADIENTS];
            vjp_data x;
            vjp_init(&x, &c);
            const int threads[] = { 1, 3, 1, 2, 7, 7 };
            for (int n = 0; n < (check_few() ? 2 : 6); n++) {
                invar_context *context = check_context(check_cpu(i), threads[n]);
                if (vjp_run(&x, context)) {
                    all_hashes(&x, n ? again : first);
                    if (n) same_hashes(first, again, check_cpu(i), "threads");
                }
                invar_context_destroy(context);
            }
            vjp_free(&x);
        }
}

static bool has_dot(const char *cpu) { return !strcmp(cpu, "avx512bf16") || !strcmp(cpu, "amx"); }

static void bits_do_not_depend_on_the_instruction_set(void) {
    for (int t = 0; t < 3; t++) {
        const attention_case c = rich(types[t], 12);
        uint64_t first[VJP_GRADIENTS], other[VJP_GRADIENTS];
        vjp_data x;
        vjp_init(&x, &c);
        for (int i = 1; check_cpu(i); i++) {
            if (types[t].code == INVAR_BFLOAT && has_dot(check_cpu(i))) continue; /* pairs: docs/invariance.md */
            invar_context *context = check_context(check_cpu(i), 2);
            if (i == 1 ? vjp_run(&x, context) : CHECK_OK(vjp_call(&x, context))) { /* out and lse are one set's for all */
                all_hashes(&x, i > 1 ? other : first);
                if (i > 1) same_hashes(first, other, check_cpu(i), "instruction set");
            }
            invar_context_destroy(context);
        }
        vjp_free(&x);
    }
}

/* The bits of docs/invariance.md's arithmetic, here and on other machines; out and lse are not the forward's. */
static void float32_bits_are_these_everywhere(void) {
    static const uint64_t expected[VJP_GRADIENTS] = { 0xa3162d387ddaf4ae, 0x1302f7bc03b48db9, 0x6c571434d69316c6,
                                                      0x4c2c60af02cf53a7, 0xca0bfa344e490a94 };
    const attention_case c = rich(check_f32, 13);
    for (int i = 1; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        check_random random = { 14 };
        uint64_t got[VJP_GRADIENTS];
        vjp_data x;
        vjp_init(&x, &c);
        check_fill_normal(&x.forward.out.tensor, &random, 0, 1);
        check_fill_normal(&x.forward.lse.tensor, &random, 6, 1);
        CHECK_OK(vjp_call(&x, context));
        all_hashes(&x, got);
        for (int g = 0; g < VJP_GRADIENTS; g++)
            CHECK(got[g] == expected[g], "%s: %s has hash 0x%llx", check_cpu(i), vjp_names[g], (unsigned long long)got[g]);
        vjp_free(&x);
        invar_context_destroy(context);
    }
}

/* One example alone, and first, second and last of three. */
static void place_in_batch(invar_context *context, invar_dtype type, const char *cpu) {
    attention_case c = rich(type, 21), three = c;
    c.mask_type.bits = three.mask_type.bits = 0;
    three.batch = 3, three.seed = 23;
    vjp_data alone, batch;
    vjp_init(&alone, &c);
    vjp_run(&alone, context);
    for (int64_t b = 0; b < 3; b++) {
        vjp_init(&batch, &three);
        copy_rows(&batch.forward.q.tensor, b, 0, &alone.forward.q.tensor, 0, 0, c.queries);
        copy_rows(&batch.forward.k.tensor, b, 0, &alone.forward.k.tensor, 0, 0, c.keys);
        copy_rows(&batch.forward.v.tensor, b, 0, &alone.forward.v.tensor, 0, 0, c.keys);
        copy_rows(&batch.dout.tensor, b, 0, &alone.dout.tensor, 0, 0, c.queries);
        for (int64_t h = 0; h < c.heads; h++) {
            check_set(&batch.forward.sinks.tensor, h, check_get(&alone.forward.sinks.tensor, h));
            for (int64_t i = 0; i < c.queries; i++)
                check_set(&batch.dlse.tensor, (b * c.heads + h) * c.queries + i,
                          check_get(&alone.dlse.tensor, h * c.queries + i));
        }
        if (vjp_run(&batch, context))
            for (int g = VJP_DQ; g <= VJP_DV; g++)
                for (int64_t h = 0; h < alone.gradient[g].shape[1]; h++)
                    same_rows(&alone.gradient[g].tensor, 0, h, 0, &batch.gradient[g].tensor, b, h, 0,
                              alone.gradient[g].shape[2], cpu);
        vjp_free(&batch);
    }
    vjp_free(&alone);
}

static void bits_do_not_depend_on_the_batch(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (int t = 0; t < types_of(i); t++) place_in_batch(context, types[t], check_cpu(i));
        invar_context_destroy(context);
    }
}

/* dq of queries first … first+count-1 in a causal prompt, and of them alone with the keys that they see. */
static void chunk_of_queries(invar_context *context, invar_dtype type, int64_t first, int64_t count, const char *cpu) {
    attention_case c = sized(type, 1, 2, 1, 240, 240), part = c;
    c.options.causal = part.options.causal = 1;
    part.queries = count, part.keys = first + count;
    vjp_data whole, some;
    vjp_init(&whole, &c);
    vjp_init(&some, &part);
    copy_rows(&some.forward.q.tensor, 0, 0, &whole.forward.q.tensor, 0, first, count);
    copy_rows(&some.dout.tensor, 0, 0, &whole.dout.tensor, 0, first, count);
    copy_rows(&some.forward.k.tensor, 0, 0, &whole.forward.k.tensor, 0, 0, part.keys);
    copy_rows(&some.forward.v.tensor, 0, 0, &whole.forward.v.tensor, 0, 0, part.keys);
    for (int64_t h = 0; h < 2; h++)
        for (int64_t i = 0; i < count; i++)
            check_set(&some.dlse.tensor, h * count + i, check_get(&whole.dlse.tensor, h * 240 + first + i));
    if (vjp_run(&whole, context) && vjp_run(&some, context))
        for (int64_t h = 0; h < 2; h++)
            same_rows(&whole.gradient[VJP_DQ].tensor, 0, h, first, &some.gradient[VJP_DQ].tensor, 0, h, 0, count, cpu);
    vjp_free(&whole);
    vjp_free(&some);
}

static void dq_does_not_depend_on_other_queries_or_unseen_keys(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (int t = 0; t < types_of(i); t++) {
            chunk_of_queries(context, types[t], 0, 1, check_cpu(i));
            chunk_of_queries(context, types[t], 99, 1, check_cpu(i));
            chunk_of_queries(context, types[t], 95, 60, check_cpu(i));
            chunk_of_queries(context, types[t], 200, 40, check_cpu(i));
        }
        invar_context_destroy(context);
    }
}

/* ---- running ------------------------------------------------------------------------------------------ */

static void backwards(void *pool, int64_t count, invar_task task, void *argument) {
    ++*(int *)pool;
    while (count-- > 0) task(argument, count);
}

/* Tasks that wait for each other must not care in which order the caller runs them. */
static void callers_threads_in_any_order(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 1);
        attention_case c = rich(check_f32, 31);
        uint64_t first[VJP_GRADIENTS], again[VJP_GRADIENTS];
        int runs = 0;
        vjp_data x;
        vjp_init(&x, &c);
        vjp_run(&x, context);
        all_hashes(&x, first);
        x.forward.shape.options.execution.parallel_for = backwards;
        x.forward.shape.options.execution.pool = &runs;
        x.forward.shape.options.execution.pool_threads = 1;
        CHECK_OK(vjp_call(&x, context));
        all_hashes(&x, again);
        same_hashes(first, again, check_cpu(i), "backwards");
        CHECK(runs > 0, "the caller's parallel_for was not used");
        vjp_free(&x);
        invar_context_destroy(context);
    }
}

/* Each gradient alone, and all but one, have the bits they have together; what is not asked for is not written. */
static void absent_gradients(void) {
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        const attention_case c = rich(check_f32, 41);
        uint64_t all[VJP_GRADIENTS];
        vjp_data x;
        vjp_init(&x, &c);
        vjp_run(&x, context);
        all_hashes(&x, all);
        for (int g = 0; g < 2 * VJP_GRADIENTS; g++) {
            for (int k = 0; k < VJP_GRADIENTS; k++) {
                x.wanted[k] = (k == g % VJP_GRADIENTS) == (g < VJP_GRADIENTS);
                for (int64_t e = 0; e < check_count(&x.gradient[k].tensor); e++) check_set(&x.gradient[k].tensor, e, 7);
            }
            CHECK_OK(vjp_call(&x, context));
            for (int k = 0; k < VJP_GRADIENTS; k++)
                if (x.wanted[k])
                    CHECK(check_hash(&x.gradient[k].tensor) == all[k], "%s, subset %d: %s", check_cpu(i), g, vjp_names[k]);
                else CHECK(check_get(&x.gradient[k].tensor, 5 % check_count(&x.gradient[k].tensor)) == 7,
                           "%s was written", vjp_names[k]);
        }
        vjp_free(&x);
        invar_context_destroy(context);
    }
}

/* More heads than have room for their dq at once, so that later ones wait for earlier ones. */
static void many_heads_in_bounded_memory(void) {
    const char *cpu = NULL;
    for (int i = 0; check_cpu(i); i++) cpu = check_cpu(i);
    attention_case c = sized(check_f16, 1, 40, 40, 4096, 70), one = c; /* not float32: that is summed in place */
    c.key_dim = one.key_dim = 64, c.value_dim = one.value_dim = 8;
    one.heads = one.kv_heads = 1;
    vjp_data x, y;
    vjp_init(&x, &c);
    vjp_init(&y, &one);
    invar_context *context = check_context(cpu, 7);
    invar_plan plan = INVAR_PLAN_INIT;
    x.forward.shape.options.execution.plan = &plan;
    CHECK_OK(vjp_call(&x, context));
    CHECK(plan.workspace < ((size_t)40 << 20), "workspace of %zu bytes", plan.workspace);
    CHECK(plan.tasks == 80, "%lld tasks", (long long)plan.tasks);
    x.forward.shape.options.execution.plan = NULL;
    if (vjp_run(&x, context)) {
        for (int64_t h = 0; h < 40; h += 13) {
            const invar_tensor *to[] = { &y.forward.q.tensor, &y.forward.k.tensor, &y.forward.v.tensor, &y.dout.tensor };
            const invar_tensor *from[] = { &x.forward.q.tensor, &x.forward.k.tensor, &x.forward.v.tensor, &x.dout.tensor };
            for (int a = 0; a < 4; a++) {
                const int64_t count = check_count(to[a]);
                for (int64_t e = 0; e < count; e++) check_set(to[a], e, check_get(from[a], h * count + e));
            }
            for (int64_t e = 0; e < 4096; e++) check_set(&y.dlse.tensor, e, check_get(&x.dlse.tensor, h * 4096 + e));
            if (!vjp_run(&y, context)) continue;
            for (int g = VJP_DQ; g <= VJP_DV; g++)
                same_rows(&x.gradient[g].tensor, 0, h, 0, &y.gradient[g].tensor, 0, 0, 0, y.gradient[g].shape[2], "many heads");
        }
    }
    invar_context_destroy(context);
    vjp_free(&x);
    vjp_free(&y);
}

static void empty_dimensions(void) {
    static const int64_t sizes[][7] = { /* batch, heads, kv_heads, queries, keys, key_dim, value_dim */
        { 0, 2, 1, 3, 4, 5, 6 }, { 1, 0, 0, 3, 4, 5, 6 }, { 1, 0, 2, 3, 4, 5, 6 }, { 1, 2, 1, 0, 4, 5, 6 },
        { 1, 2, 1, 3, 0, 5, 6 }, { 1, 2, 1, 3, 4, 0, 6 }, { 1, 2, 1, 3, 4, 5, 0 }, { 1, 2, 1, 0, 0, 0, 0 } };
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++)
            for (int t = 0; t < types_of(i); t++) {
                attention_case c = sized(types[t], sizes[n][0], sizes[n][1], sizes[n][2], sizes[n][3], sizes[n][4]);
                c.key_dim = sizes[n][5], c.value_dim = sizes[n][6];
                c.mask_type = types[t], c.mask_broadcast = 7, c.sinks = true;
                vjp_data x;
                vjp_init(&x, &c);
                if (vjp_run(&x, context)) vjp_compare(&x, check_cpu(i), "empty");
                vjp_free(&x);
            }
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(fully_masked_row_gives_zero_gradients), CHECK_TEST(logits_of_minus_infinity),
           CHECK_TEST(nan_behind_a_mask_reaches_nothing),
           CHECK_TEST(keys_beyond_the_length_are_not_read), CHECK_TEST(bits_do_not_depend_on_threads_or_runs),
           CHECK_TEST(bits_do_not_depend_on_the_instruction_set),
           CHECK_TEST(float32_bits_are_these_everywhere), CHECK_TEST(bits_do_not_depend_on_the_batch),
           CHECK_TEST(dq_does_not_depend_on_other_queries_or_unseen_keys), CHECK_TEST(callers_threads_in_any_order),
           CHECK_TEST(absent_gradients), CHECK_TEST(many_heads_in_bounded_memory), CHECK_TEST(empty_dimensions))
