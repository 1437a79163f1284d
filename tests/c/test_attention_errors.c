/* Misuse of scaled_dot_product_attention: the status, the sentence's argument, and not a byte written. And its memory. */
#include "attention_case.h"

#include <stdio.h>

/* The arguments of one call, to be spoilt. */
typedef struct arguments {
    invar_tensor out, lse, q, k, v, mask, sinks, lengths;
    int64_t shape[8][8];
    invar_attention_options options;
    attention_data *data;
} arguments;

typedef struct misuse {
    const char *what;
    void (*spoil)(arguments *a);
    invar_status status;
    const char *word;
} misuse;

enum { OUT, LSE, Q, K, V, MASK, SINKS, LENGTHS };
static invar_tensor *tensor(arguments *a, int which) {
    invar_tensor *all[] = { &a->out, &a->lse, &a->q, &a->k, &a->v, &a->mask, &a->sinks, &a->lengths };
    return all[which];
}

#define SPOIL(name, statement) \
    static void name(arguments *a) { statement; }
SPOIL(q_integer, a->q.dtype = check_i32)
SPOIL(k_complex, a->k.dtype = ((invar_dtype){ INVAR_COMPLEX, 64, 1 }))
SPOIL(v_bool, a->v.dtype = check_bool)
SPOIL(q_rank_1, a->q.ndim = 1)
SPOIL(q_rank_9, a->q.ndim = 9)
SPOIL(q_rank_3, a->q.ndim = 3)
SPOIL(k_no_shape, a->k.shape = NULL)
SPOIL(k_no_data, a->k.data = NULL)
SPOIL(v_on_gpu, a->v.device.type = INVAR_DEVICE_CUDA)
SPOIL(out_on_gpu, a->out.device.type = INVAR_DEVICE_CUDA)
SPOIL(k_other_features, a->shape[K][3] = 7)
SPOIL(k_other_batch, a->shape[K][0] = 1)
SPOIL(v_other_batch, a->shape[V][0] = 1)
SPOIL(v_other_length, a->shape[V][2] = 5)
SPOIL(v_other_heads, a->shape[V][1] = 1)
SPOIL(heads_do_not_divide, a->shape[Q][1] = a->shape[OUT][1] = 3)
SPOIL(no_kv_heads, a->shape[K][1] = a->shape[V][1] = 0)
SPOIL(negative_size, a->shape[K][2] = -1)
SPOIL(size_overflows, a->shape[Q][2] = INT64_MAX / 8)
SPOIL(batch_overflows, a->shape[Q][0] = a->shape[K][0] = a->shape[V][0] = a->shape[Q][1] = INT64_MAX / 2;
      a->shape[Q][3] = a->shape[K][3] = a->shape[V][3] = 0; a->shape[K][1] = a->shape[V][1] = 1)
SPOIL(q_misaligned, a->q.byte_offset = 1)
SPOIL(out_shape, a->shape[OUT][3] = 8)
SPOIL(out_type, a->out.dtype = check_f64)
SPOIL(out_half, a->out.dtype = check_f16)
SPOIL(out_integer, a->out.dtype = check_i32)
SPOIL(lse_shape, a->shape[LSE][2] = 2)
SPOIL(lse_rank, a->lse.ndim = 2)
SPOIL(lse_half, a->lse.dtype = check_f16)
SPOIL(out_is_q, a->out = a->q)
SPOIL(out_is_v, a->out.data = a->v.data)
SPOIL(out_is_mask, a->out.data = a->mask.data)
SPOIL(lse_is_out, a->lse.data = a->out.data)
SPOIL(lse_is_sinks, a->lse.data = a->sinks.data)
static int64_t zero_strides[4];
SPOIL(out_stride_zero, a->out.strides = zero_strides)
SPOIL(mask_complex, a->mask.dtype = ((invar_dtype){ INVAR_COMPLEX, 64, 1 }))
SPOIL(mask_double, a->mask.dtype = check_f64)
SPOIL(mask_shape, a->shape[MASK][3] = 5)
SPOIL(mask_rank, a->mask.ndim = 5)
SPOIL(mask_kv_heads, a->shape[MASK][1] = 2)
SPOIL(sinks_shape, a->shape[SINKS][0] = 2)
SPOIL(sinks_rank, a->sinks.ndim = 2)
SPOIL(sinks_integer, a->sinks.dtype = check_i32)
SPOIL(sinks_double, a->sinks.dtype = check_f64)
SPOIL(lengths_float, a->lengths.dtype = check_f32)
SPOIL(lengths_bool, a->lengths.dtype = check_bool)
SPOIL(lengths_shape, a->shape[LENGTHS][0] = 1)
SPOIL(lengths_rank, a->lengths.ndim = 0)
SPOIL(lengths_negative, check_set(&a->data->lengths.tensor, 1, -1))
SPOIL(lengths_too_long, check_set(&a->data->lengths.tensor, 1, 7))
SPOIL(scale_infinite, a->options.scale = INFINITY)
SPOIL(softcap_negative, a->options.softcap = -1)
SPOIL(softcap_nan, a->options.softcap = NAN)
SPOIL(softcap_infinite, a->options.softcap = INFINITY)
SPOIL(window_left, a->options.window_left = -2)
SPOIL(window_right, a->options.window_right = INT64_MIN)
SPOIL(causal_2, a->options.causal = 2)
SPOIL(options_size, a->options.size = 3)
SPOIL(options_large, a->options.size += 8)
SPOIL(workspace_small, a->options.execution.workspace = (void *)(uintptr_t)64;
      a->options.execution.workspace_size = 64)
SPOIL(workspace_misaligned, a->options.execution.workspace = (void *)(uintptr_t)72)

static const misuse misuses[] = {
    { "q integer", q_integer, INVAR_ERROR_DTYPE, "q: " },
    { "k complex", k_complex, INVAR_ERROR_DTYPE, "k: " },
    { "v bool", v_bool, INVAR_ERROR_DTYPE, "v: " },
    { "q rank 1", q_rank_1, INVAR_ERROR_VALUE, "q: " },
    { "q rank 9", q_rank_9, INVAR_ERROR_VALUE, "q: " },
    { "q rank 3, k rank 4", q_rank_3, INVAR_ERROR_VALUE, "k: " },
    { "k no shape", k_no_shape, INVAR_ERROR_NULL, "k: " },
    { "k no data", k_no_data, INVAR_ERROR_NULL, "k: " },
    { "v on a GPU", v_on_gpu, INVAR_ERROR_DEVICE_MIX, "v: " },
    { "out on a GPU", out_on_gpu, INVAR_ERROR_DEVICE_MIX, "out: " },
    { "k other features", k_other_features, INVAR_ERROR_VALUE, "k: " },
    { "k other batch", k_other_batch, INVAR_ERROR_VALUE, "k: " },
    { "v other batch", v_other_batch, INVAR_ERROR_VALUE, "v: " },
    { "v other length", v_other_length, INVAR_ERROR_VALUE, "v: " },
    { "v other heads", v_other_heads, INVAR_ERROR_VALUE, "v: " },
    { "heads do not divide", heads_do_not_divide, INVAR_ERROR_VALUE, "q: " },
    { "no kv heads", no_kv_heads, INVAR_ERROR_VALUE, "heads" },
    { "negative size", negative_size, INVAR_ERROR_VALUE, "k: " },
    { "size overflows", size_overflows, INVAR_ERROR_VALUE, "q: " },
    { "batch overflows", batch_overflows, INVAR_ERROR_VALUE, "q: " },
    { "q misaligned", q_misaligned, INVAR_ERROR_VALUE, "q: " },
    { "out shape", out_shape, INVAR_ERROR_VALUE, "out: " },
    { "out type", out_type, INVAR_ERROR_DTYPE, "out: " },
    { "out half", out_half, INVAR_ERROR_DTYPE, "out: " },
    { "out integer", out_integer, INVAR_ERROR_DTYPE, "out: " },
    { "lse shape", lse_shape, INVAR_ERROR_VALUE, "lse: " },
    { "lse rank", lse_rank, INVAR_ERROR_VALUE, "lse: " },
    { "lse half", lse_half, INVAR_ERROR_DTYPE, "lse: " },
    { "out is q", out_is_q, INVAR_ERROR_VALUE, "out: expected memory apart from the other arguments, got" },
    { "out is v", out_is_v, INVAR_ERROR_VALUE, "out: " },
    { "out is mask", out_is_mask, INVAR_ERROR_VALUE, "out: " },
    { "lse is out", lse_is_out, INVAR_ERROR_VALUE, "out: " },
    { "lse is sinks", lse_is_sinks, INVAR_ERROR_VALUE, "lse: " },
    { "out of stride 0", out_stride_zero, INVAR_ERROR_VALUE, "out: " },
    { "mask complex", mask_complex, INVAR_ERROR_DTYPE, "mask: " },
    { "mask float64 on float32", mask_double, INVAR_ERROR_DTYPE, "mask: " },
    { "mask shape", mask_shape, INVAR_ERROR_VALUE, "mask: " },
    { "mask rank", mask_rank, INVAR_ERROR_VALUE, "mask: " },
    { "mask of kv heads", mask_kv_heads, INVAR_ERROR_VALUE, "mask: " },
    { "sinks shape", sinks_shape, INVAR_ERROR_VALUE, "sinks: " },
    { "sinks rank", sinks_rank, INVAR_ERROR_VALUE, "sinks: " },
    { "sinks integer", sinks_integer, INVAR_ERROR_DTYPE, "sinks: " },
    { "sinks float64 on float32", sinks_double, INVAR_ERROR_DTYPE, "sinks: " },
    { "lengths float", lengths_float, INVAR_ERROR_DTYPE, "kv_lengths: " },
    { "lengths bool", lengths_bool, INVAR_ERROR_DTYPE, "kv_lengths: " },
    { "lengths shape", lengths_shape, INVAR_ERROR_VALUE, "kv_lengths: " },
    { "lengths rank", lengths_rank, INVAR_ERROR_VALUE, "kv_lengths: " },
    { "a negative length", lengths_negative, INVAR_ERROR_VALUE, "kv_lengths: " },
    { "too long a length", lengths_too_long, INVAR_ERROR_VALUE, "kv_lengths: " },
    { "scale infinite", scale_infinite, INVAR_ERROR_VALUE, "scale: " },
    { "softcap negative", softcap_negative, INVAR_ERROR_VALUE, "softcap: " },
    { "softcap NaN", softcap_nan, INVAR_ERROR_VALUE, "softcap: " },
    { "softcap infinite", softcap_infinite, INVAR_ERROR_VALUE, "softcap: " },
    { "window left", window_left, INVAR_ERROR_VALUE, "window: " },
    { "window right", window_right, INVAR_ERROR_VALUE, "window: " },
    { "causal 2", causal_2, INVAR_ERROR_VALUE, "causal: " },
    { "options too small", options_size, INVAR_ERROR_VALUE, "options.size" },
    { "options too large", options_large, INVAR_ERROR_VALUE, "options.size" },
    { "workspace too small", workspace_small, INVAR_ERROR_MEMORY, "workspace" },
    { "workspace misaligned", workspace_misaligned, INVAR_ERROR_VALUE, "workspace" },
};

static void init_arguments(arguments *a, attention_data *d) {
    *a = (arguments){ .out = d->out.tensor, .lse = d->lse.tensor, .q = d->q.tensor, .k = d->k.tensor, .v = d->v.tensor,
                      .mask = d->mask.tensor, .sinks = d->sinks.tensor, .lengths = d->lengths.tensor,
                      .options = INVAR_ATTENTION_OPTIONS_INIT, .data = d };
    for (int i = 0; i < 8; i++) {
        invar_tensor *t = tensor(a, i);
        memcpy(a->shape[i], t->shape, sizeof *t->shape * (size_t)t->ndim);
        t->shape = a->shape[i];
        t->strides = NULL;
    }
}

static invar_status call(const arguments *a) {
    return invar_scaled_dot_product_attention(NULL, &a->out, &a->lse, &a->q, &a->k, &a->v, &a->mask, &a->sinks, &a->lengths,
                                              &a->options);
}

static uint64_t all_memory(const attention_data *d) {
    const check_array *all[] = { &d->q, &d->k, &d->v, &d->mask, &d->sinks, &d->out, &d->lse };
    uint64_t hash = 0;
    for (int i = 0; i < 7; i++) hash = hash * 31 + check_memory_hash(all[i]);
    return hash;
}

static void every_misuse(void) {
    attention_case c = attention_plain;
    c.batch = 2;
    c.heads = 4;
    c.kv_heads = 2;
    c.queries = 3;
    c.keys = 6;
    c.mask_type = check_f32;
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        attention_data d;
        arguments a;
        attention_init(&d, &c);
        init_arguments(&a, &d);
        const uint64_t before = all_memory(&d);
        misuses[i].spoil(&a);
        if (!CHECK_FAILS(call(&a), misuses[i].status, misuses[i].word)) printf("  misuse: %s\n", misuses[i].what);
        CHECK(all_memory(&d) == before, "%s: something was written", misuses[i].what);
        CHECK(!strncmp(invar_last_error(), "scaled_dot_product_attention: ", 30), "%s: %s", misuses[i].what, invar_last_error());
        attention_free(&d);
    }
    attention_data d;
    arguments a;
    attention_init(&d, &c);
    init_arguments(&a, &d);
    CHECK_OK(call(&a)); /* unspoilt, the call is good */
    CHECK_FAILS(invar_scaled_dot_product_attention(NULL, NULL, NULL, &a.q, &a.k, &a.v, NULL, NULL, NULL, NULL),
                INVAR_ERROR_NULL, "out: ");
    CHECK_FAILS(invar_scaled_dot_product_attention(NULL, &a.out, NULL, NULL, &a.k, &a.v, NULL, NULL, NULL, NULL),
                INVAR_ERROR_NULL, "q: ");
    attention_free(&d);
}

/* A plan computes nothing, and a workspace of the size it names suffices and is all that is used. */
static void a_planned_workspace_suffices(void) {
    for (int few = 0; few < 2; few++) {
        attention_case c = attention_plain;
        c.heads = few ? 2 : 8;
        c.queries = few ? 1 : 200;
        c.keys = few ? 40000 : 3000;
        attention_data d;
        attention_init(&d, &c);
        invar_context *context = check_context(check_cpu(2) ? check_cpu(2) : check_cpu(1), 3);
        CHECK_OK(attention_call(&d, context, &d.shape.options));
        const uint64_t expected = check_hash(&d.out.tensor);
        memset(d.out.tensor.data, 0x5a, d.out.bytes);
        invar_plan plan = INVAR_PLAN_INIT;
        d.shape.options.execution.plan = &plan;
        CHECK_OK(attention_call(&d, context, &d.shape.options));
        unsigned char first = *(unsigned char *)d.out.tensor.data;
        CHECK(first == 0x5a, "a plan wrote");
        CHECK(plan.workspace > 0 && plan.key_block > 0 && plan.flops > 0 && plan.bytes > 0 && plan.kernel[0] && plan.reason[0],
              "%zu bytes, block %d, kernel %s", plan.workspace, plan.key_block, plan.kernel);
        CHECK(few == (plan.key_splits > 1), "%lld key splits", (long long)plan.key_splits);
        d.shape.options.execution.plan = NULL;
        char *memory = aligned_alloc(64, plan.workspace + 128);
        memset(memory, 0x77, plan.workspace + 128);
        d.shape.options.execution.workspace = memory + 64;
        d.shape.options.execution.workspace_size = plan.workspace;
        CHECK_OK(attention_call(&d, context, &d.shape.options));
        CHECK(check_hash(&d.out.tensor) == expected, "another result with the caller's workspace");
        for (int i = 0; i < 64; i++)
            CHECK(memory[i] == 0x77 && memory[plan.workspace + 64 + (size_t)i] == 0x77, "byte %d outside the workspace", i);
        free(memory);
        invar_context_destroy(context);
        attention_free(&d);
    }
}

static void one_after_the_other(void *pool, int64_t count, invar_task task, void *argument) {
    (void)pool;
    for (int64_t i = 0; i < count; i++) task(argument, i);
}

/* The call with `threads` of the context's or, with a pool, of the caller's. */
static invar_status call_on(const arguments *a, invar_context *context, int threads, bool pool, invar_execution execution) {
    CHECK_OK(invar_context_set_num_threads(context, pool ? 1 : threads));
    execution.parallel_for = pool ? one_after_the_other : NULL;
    execution.pool_threads = pool ? threads : 0;
    arguments now = *a;
    now.options.execution = execution;
    return invar_scaled_dot_product_attention(context, &now.out, &now.lse, &now.q, &now.k, &now.v, NULL, NULL, NULL,
                                              &now.options);
}

/* A workspace planned for some threads and used by others: the same result where it holds what the call asks for, and
 * otherwise an error, nothing written outside it and nothing of the results. Counts both. */
static void other_threads(const arguments *a, invar_context *context, uint64_t expected, int outcomes[2]) {
    static const int threads[] = { 1, 2, 3, 8, 40 };
    enum { COUNT = sizeof threads / sizeof threads[0] };
    attention_data *d = a->data;
    size_t bytes[COUNT], most = 0;
    for (int i = 0; i < COUNT; i++) {
        invar_plan plan = INVAR_PLAN_INIT;
        CHECK_OK(call_on(a, context, threads[i], i % 2, (invar_execution){ .plan = &plan }));
        bytes[i] = plan.workspace;
        if (most < bytes[i]) most = bytes[i];
    }
    unsigned char *memory = aligned_alloc(64, most + 64);
    for (int n = 0; n < COUNT * COUNT * 2; n++) {
        const int planned = n / 2 / COUNT, run = n / 2 % COUNT;
        const bool fits = bytes[run] <= bytes[planned];
        memset(memory, 0x77, most + 64);
        memset(d->out.tensor.data, 0x5a, d->out.bytes);
        memset(d->lse.tensor.data, 0x5a, d->lse.bytes);
        const uint64_t before = all_memory(d);
        const invar_status status = call_on(a, context, threads[run], n % 2,
                                            (invar_execution){ .workspace = memory, .workspace_size = bytes[planned] });
        outcomes[fits]++;
        if (!fits) {
            CHECK_FAILS(status, INVAR_ERROR_MEMORY, "workspace_size");
            CHECK(all_memory(d) == before && memory[0] == 0x77, "a call that failed wrote");
        } else if (CHECK_OK(status)) {
            CHECK(check_hash(&d->out.tensor) * 31 + check_hash(&d->lse.tensor) == expected, "planned for %d threads, run by %d",
                  threads[planned], threads[run]);
        }
        for (size_t i = bytes[planned]; i < most + 64; i++)
            if (!CHECK(memory[i] == 0x77, "byte %zu of a workspace of %zu", i, bytes[planned])) break;
    }
    free(memory);
}

static void a_workspace_planned_for_other_threads(void) {
    int outcomes[2] = { 0, 0 };
    for (int i = 0; check_cpu(i); i++)
        for (int few = 0; few < 2; few++) {
            attention_case c = attention_plain;
            c.heads = 4;
            c.kv_heads = few ? 2 : 4;
            c.queries = few ? 1 : 200;
            c.keys = few ? 5000 : 400;
            attention_data d;
            arguments a;
            attention_init(&d, &c);
            init_arguments(&a, &d);
            invar_context *context = check_context(check_cpu(i), 3);
            CHECK_OK(call_on(&a, context, 3, false, (invar_execution){ .workspace = NULL }));
            const uint64_t expected = check_hash(&d.out.tensor) * 31 + check_hash(&d.lse.tensor);
            other_threads(&a, context, expected, outcomes);
            invar_context_destroy(context);
            attention_free(&d);
        }
    CHECK(outcomes[0] > 0 && outcomes[1] > 0, "%d calls that fail and %d that do not: both are meant", outcomes[0], outcomes[1]);
}

/* 32 heads × 32k × 128, and a cache of a million keys, stay within 64 MiB of scratch. */
static void memory_is_bounded(void) {
    static float nothing[16];
    const int64_t cases[][5] = { /* batch, heads, kv_heads, queries, keys */
        { 1, 32, 32, 32768, 32768 }, { 1, 32, 8, 32768, 32768 }, { 1, 32, 8, 1, 1 << 20 },
        { 64, 32, 8, 1, 1 << 17 }, { 65536, 32, 8, 1, 4096 } };
    const char *cpu;
    for (int i = 0; (cpu = check_cpu(i)); i++) {
        invar_context *context = check_context(cpu, 16);
        for (size_t n = 0; n < sizeof cases / sizeof cases[0]; n++) {
            const int64_t *p = cases[n];
            int64_t q_shape[4] = { p[0], p[1], p[3], 128 }, k_shape[4] = { p[0], p[2], p[4], 128 }, zero[4] = { 0 };
            const invar_tensor q = { nothing, { INVAR_DEVICE_CPU, 0 }, 4, check_f32, q_shape, zero, 0 };
            const invar_tensor k = { nothing, { INVAR_DEVICE_CPU, 0 }, 4, check_f32, k_shape, zero, 0 };
            const invar_tensor out = { nothing, { INVAR_DEVICE_CPU, 0 }, 4, check_f32, q_shape, NULL, (uint64_t)1 << 40 };
            invar_plan plan = INVAR_PLAN_INIT;
            invar_attention_options options = INVAR_ATTENTION_OPTIONS_INIT;
            options.execution.plan = &plan;
            CHECK_OK(invar_scaled_dot_product_attention(context, &out, NULL, &q, &k, &k, NULL, NULL, NULL, &options));
            CHECK(plan.workspace <= (size_t)64 << 20, "%s, case %d: %zu bytes", cpu, (int)n, plan.workspace);
        }
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(every_misuse), CHECK_TEST(a_planned_workspace_suffices),
           CHECK_TEST(a_workspace_planned_for_other_threads), CHECK_TEST(memory_is_bounded))
