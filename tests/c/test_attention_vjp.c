/* Attention's gradients against an oracle and finite differences in double, on every instruction set. */
#include "attention_vjp_case.h"

/* A call of random sizes, types and options. */
static attention_case random_case(check_random *random, invar_dtype type) {
    static const int64_t dims[] = { 1, 3, 16, 20, 64, 80 };
    attention_case c = attention_plain;
    c.type = type;
    c.seed = check_bits(random);
    c.batch = check_integer(random, 1, 2);
    c.kv_heads = check_integer(random, 1, 2);
    c.heads = c.kv_heads * check_integer(random, 1, 3);
    c.queries = check_integer(random, 1, check_integer(random, 0, 3) ? 40 : 230);
    c.keys = check_integer(random, 1, check_integer(random, 0, 3) ? 40 : 300);
    c.key_dim = dims[check_integer(random, 0, 5)];
    c.value_dim = dims[check_integer(random, 0, 5)];
    const invar_dtype masks[] = { { 0, 0, 1 }, check_bool, type, type, check_i32 };
    c.mask_type = masks[check_integer(random, 0, 4)];
    c.mask_broadcast = (int)check_integer(random, 0, 15);
    c.sinks = check_integer(random, 0, 1);
    c.lengths = check_integer(random, 0, 2) == 0;
    c.strided = check_integer(random, 0, 1);
    c.options.causal = check_integer(random, 0, 2) == 0;
    if (check_integer(random, 0, 2) == 0) c.options.window_left = check_integer(random, 0, c.keys);
    if (check_integer(random, 0, 2) == 0) c.options.window_right = check_integer(random, 0, c.keys);
    if (check_integer(random, 0, 2) == 0) c.options.softcap = check_uniform(random, 0.5, 5);
    if (check_integer(random, 0, 2) == 0) c.options.scale = check_uniform(random, -0.5, 0.5);
    return c;
}

static void every_kernel_agrees_with_the_oracle(void) {
    const invar_dtype types[] = { check_f32, check_bf16, check_f16, check_f64 };
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 2);
        check_random random = { 1 };
        double worst = 0;
        for (int n = 0; n < 60; n++) {
            const attention_case c = random_case(&random, types[n % 4]);
            char what[32];
            snprintf(what, sizeof what, "case %d", n);
            vjp_data x;
            vjp_init(&x, &c);
            if (vjp_run(&x, context)) worst = fmax(worst, vjp_compare(&x, check_cpu(i), what));
            vjp_free(&x);
        }
        printf("%s: largest error %.2f of what is allowed\n", check_cpu(i), worst);
        invar_context_destroy(context);
    }
}

/* Σ out·dout + Σ lse·dlse, the sum that the VJP is the gradient of. */
static double objective(vjp_data *x, invar_context *context) {
    attention_data *d = &x->forward;
    double sum = 0;
    attention_run(d, context);
    for (int64_t i = 0, n = check_count(&d->out.tensor); i < n; i++)
        sum += check_get(&d->out.tensor, i) * check_get(&x->dout.tensor, i);
    for (int64_t i = 0, n = check_count(&d->lse.tensor); x->with_dlse && i < n; i++) {
        const double lse = check_get(&d->lse.tensor, i);
        if (isfinite(lse)) sum += lse * check_get(&x->dlse.tensor, i);
    }
    return sum;
}

static void gradients_are_finite_differences(void) {
    invar_context *context = check_context("reference", 2);
    check_random random = { 7 };
    for (int n = 0; n < 12; n++) {
        attention_case c = random_case(&random, check_f64);
        c.queries = 5, c.keys = 7, c.key_dim = c.key_dim > 3 ? 4 : c.key_dim, c.value_dim = 3;
        vjp_data x;
        vjp_init(&x, &c);
        vjp_run(&x, context);
        invar_tensor *inputs[VJP_GRADIENTS] = { &x.forward.q.tensor, &x.forward.k.tensor, &x.forward.v.tensor,
                                                &x.forward.sinks.tensor, &x.forward.mask.tensor };
        for (int g = 0; g < VJP_GRADIENTS; g++)
            for (int64_t i = 0, count = x.wanted[g] ? check_count(inputs[g]) : 0; i < count; i++) {
                const double at = check_get(inputs[g], i), step = 1e-4, got = check_get(&x.gradient[g].tensor, i);
                if (!isfinite(at)) continue;
                check_set(inputs[g], i, at + step);
                const double above = objective(&x, context);
                check_set(inputs[g], i, at - step);
                const double slope = (above - objective(&x, context)) / (2 * step);
                check_set(inputs[g], i, at);
                /* the third derivative times step² / 6, and the sum's rounding over the step */
                CHECK(fabs(got - slope) <= 1e-6 * (1 + fabs(slope)), "case %d, %s[%lld]: slope %.9g, got %.9g", n,
                      vjp_names[g], (long long)i, slope, got);
            }
        vjp_free(&x);
    }
    invar_context_destroy(context);
}

/* Types of q, k and v may differ, and every gradient has its own argument's. */
static void mixed_types(void) {
    const invar_dtype types[] = { check_f32, check_bf16, check_f16 };
    for (int i = 0; check_cpu(i); i++) {
        invar_context *context = check_context(check_cpu(i), 1);
        for (int n = 0; n < 6; n++) {
            attention_case c = attention_plain;
            c.heads = c.kv_heads = 2, c.queries = 9, c.keys = 21, c.seed = (uint64_t)n, c.sinks = true;
            vjp_data x;
            vjp_init(&x, &c);
            check_array *arrays[3][2] = { { &x.forward.q, &x.gradient[VJP_DQ] }, { &x.forward.k, &x.gradient[VJP_DK] },
                                          { &x.forward.v, &x.gradient[VJP_DV] } };
            for (int a = 0; a < 3; a++)
                for (int k = 0; k < 2; k++) {
                    check_array narrow;
                    check_array_init(&narrow, types[(n + a * (1 + n / 3)) % 3], 4, arrays[a][k]->shape);
                    for (int64_t e = 0; k == 0 && e < check_count(&narrow.tensor); e++)
                        check_set(&narrow.tensor, e, check_get(&arrays[a][k]->tensor, e));
                    check_array_free(arrays[a][k]);
                    *arrays[a][k] = narrow;
                    arrays[a][k]->tensor.shape = arrays[a][k]->shape;
                    arrays[a][k]->tensor.strides = arrays[a][k]->strides;
                }
            if (vjp_run(&x, context)) vjp_compare(&x, check_cpu(i), "mixed types");
            vjp_free(&x);
        }
        invar_context_destroy(context);
    }
}

/* Wherever the arrays lie, forward and backward, in shapes that all kernels are for. */
static void nothing_but_the_arrays_is_touched(void) {
    const invar_dtype types[] = { check_f32, check_f16, check_bf16, check_f64 };
    check_random random = { 41 };
    for (int k = 0; check_cpu(k); k++) {
        invar_context *context = check_context(check_cpu(k), 2);
        for (int n = 0, rounds = check_rounds(25); n < rounds; n++) {
            attention_case c = attention_plain;
            c.type = types[n % 4];
            c.batch = check_integer(&random, 1, 2);
            c.kv_heads = check_integer(&random, 1, 2), c.heads = c.kv_heads * check_integer(&random, 1, n % 5 ? 2 : 9);
            c.queries = n / 4 % 3 ? check_integer(&random, 1, n % 7 ? 20 : 90) : 1;
            c.keys = check_integer(&random, 1, n / 4 % 3 && n % 7 ? 50 : 400);
            c.key_dim = n % 3 ? 8 * check_integer(&random, 1, 12) : check_integer(&random, 1, 100);
            c.value_dim = n / 2 % 2 ? c.key_dim : check_integer(&random, 1, 100);
            if (n % 5 < 3) c.mask_type = n % 5 == 0 ? check_bool : n % 5 == 1 ? c.type : check_i32;
            c.mask_broadcast = (int)check_integer(&random, 0, 15);
            c.sinks = n / 8 % 2, c.lengths = n / 16 % 2, c.strided = n % 11 == 0;
            c.options.causal = n / 3 % 2;
            c.seed = (uint64_t)n;
            uint64_t first[6] = { 0 };
            for (int place = CHECK_FENCED; place <= CHECK_BEHIND_PAGE; place++) {
                vjp_data x;
                check_place_arrays((check_place)place);
                vjp_init(&x, &c);
                vjp_run(&x, context);
                for (int g = 0; g <= VJP_GRADIENTS; g++) {
                    if (g < VJP_GRADIENTS && !x.wanted[g]) continue;
                    const uint64_t bits = check_hash(g < VJP_GRADIENTS ? &x.gradient[g].tensor : &x.forward.out.tensor);
                    if (place == CHECK_FENCED) first[g] = bits;
                    CHECK(bits == first[g], "%s, case %d, place %d: %s", check_cpu(k), n, place,
                          g < VJP_GRADIENTS ? vjp_names[g] : "out");
                }
                vjp_free(&x);
            }
            check_place_arrays(CHECK_FENCED);
        }
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(nothing_but_the_arrays_is_touched), CHECK_TEST(every_kernel_agrees_with_the_oracle),
           CHECK_TEST(gradients_are_finite_differences),
           CHECK_TEST(mixed_types))
