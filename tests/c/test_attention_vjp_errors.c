/* Misuse of scaled_dot_product_attention_vjp: the status, the argument named in the sentence, and not a byte written. */
#include "attention_vjp_case.h"

enum { DQ, DK, DV, DSINKS, DMASK, DOUT, Q, K, V, OUT, LSE, MASK, SINKS, LENGTHS, DLSE, ARGUMENTS };

typedef struct arguments {
    invar_tensor tensor[ARGUMENTS];
    bool absent[ARGUMENTS];
    int64_t shape[ARGUMENTS][8];
    invar_attention_options options;
    _Alignas(64) char spare[64]; /* a workspace too small */
} arguments;

static int64_t zero_strides[4];
static void nothing(void *pool, int64_t count, invar_task task, void *argument) {
    (void)pool, (void)count, (void)task, (void)argument;
}

#define SPOIL(name, statement) \
    static void name(arguments *a) { statement; }
SPOIL(no_dout, a->absent[DOUT] = true)
SPOIL(no_q, a->absent[Q] = true)
SPOIL(no_k, a->absent[K] = true)
SPOIL(no_v, a->absent[V] = true)
SPOIL(no_out, a->absent[OUT] = true)
SPOIL(no_lse, a->absent[LSE] = true)
SPOIL(dq_no_data, a->tensor[DQ].data = NULL)
SPOIL(dq_no_shape, a->tensor[DQ].shape = NULL)
SPOIL(q_integer, a->tensor[Q].dtype = check_i32)
SPOIL(q_rank_1, a->tensor[Q].ndim = 1)
SPOIL(k_other_features, a->shape[K][3] = 7)
SPOIL(heads_do_not_divide, a->shape[Q][1] = 3)
SPOIL(no_kv_heads, a->shape[K][1] = a->shape[V][1] = 0)
SPOIL(negative_size, a->shape[V][2] = -1)
SPOIL(size_overflows, a->shape[Q][2] = INT64_MAX / 8)
SPOIL(dout_shape, a->shape[DOUT][3] = 8)
SPOIL(dout_rank, a->tensor[DOUT].ndim = 3)
SPOIL(dout_double, a->tensor[DOUT].dtype = check_f64)
SPOIL(dout_integer, a->tensor[DOUT].dtype = check_i64)
SPOIL(dout_on_gpu, a->tensor[DOUT].device.type = INVAR_DEVICE_CUDA)
SPOIL(out_shape, a->shape[OUT][2] = 1)
SPOIL(out_half, a->tensor[OUT].dtype = check_f16)
SPOIL(lse_shape, a->shape[LSE][2] = 2)
SPOIL(lse_double, a->tensor[LSE].dtype = check_f64)
SPOIL(dlse_shape, a->shape[DLSE][1] = 2)
SPOIL(dlse_half, a->tensor[DLSE].dtype = check_bf16)
SPOIL(dq_shape, a->shape[DQ][3] = 5)
SPOIL(dq_half, a->tensor[DQ].dtype = check_f16)
SPOIL(dq_rank, a->tensor[DQ].ndim = 3)
SPOIL(dk_query_heads, a->shape[DK][1] = 4)
SPOIL(dk_integer, a->tensor[DK].dtype = check_i32)
SPOIL(dv_key_features, a->shape[DV][3] = 6)
SPOIL(dv_on_gpu, a->tensor[DV].device.type = INVAR_DEVICE_CUDA)
SPOIL(dv_misaligned, a->tensor[DV].byte_offset = 2)
SPOIL(dq_is_q, a->tensor[DQ].data = a->tensor[Q].data)
SPOIL(dq_is_dout, a->tensor[DQ].data = a->tensor[DOUT].data)
SPOIL(dk_is_lse, a->tensor[DK].data = a->tensor[LSE].data)
SPOIL(dv_is_out, a->tensor[DV].data = a->tensor[OUT].data)
SPOIL(dk_is_dq, a->tensor[DK].data = a->tensor[DQ].data)
SPOIL(dv_is_dk, a->tensor[DV].data = (char *)a->tensor[DK].data + 8)
SPOIL(dmask_is_mask, a->tensor[DMASK].data = a->tensor[MASK].data)
SPOIL(dsinks_is_dlse, a->tensor[DSINKS].data = a->tensor[DLSE].data)
SPOIL(dq_stride_zero, a->tensor[DQ].strides = zero_strides)
SPOIL(dsinks_without_sinks, a->absent[SINKS] = true)
SPOIL(dsinks_shape, a->shape[DSINKS][0] = 2)
SPOIL(dsinks_half, a->tensor[DSINKS].dtype = check_f16)
SPOIL(dmask_without_mask, a->absent[MASK] = true)
SPOIL(dmask_of_bool, a->tensor[MASK].dtype = check_bool; a->tensor[MASK].strides = NULL)
SPOIL(dmask_of_integers, a->tensor[MASK].dtype = check_i32)
SPOIL(dmask_wide, a->shape[DMASK][0] = 2)
SPOIL(dmask_half, a->tensor[DMASK].dtype = check_bf16)
SPOIL(mask_double, a->tensor[MASK].dtype = check_f64)
SPOIL(mask_shape, a->shape[MASK][3] = 5)
SPOIL(sinks_shape, a->shape[SINKS][0] = 2)
SPOIL(lengths_float, a->tensor[LENGTHS].dtype = check_f32)
SPOIL(lengths_shape, a->shape[LENGTHS][0] = 3)
SPOIL(scale_infinite, a->options.scale = INFINITY)
SPOIL(softcap_negative, a->options.softcap = -1)
SPOIL(window_negative, a->options.window_left = -2)
SPOIL(causal_two, a->options.causal = 2)
SPOIL(options_size, a->options.size = 4)
SPOIL(small_workspace, a->options.execution.workspace = a->spare; a->options.execution.workspace_size = 64)
SPOIL(no_pool_threads, a->options.execution.parallel_for = nothing; a->options.execution.pool_threads = 0)

static const struct misuse {
    const char *name;
    void (*spoil)(arguments *a);
    invar_status status;
    const char *word;
} table[] = {
#define ROW(name, status, word) { #name, name, INVAR_ERROR_##status, word },
    ROW(no_dout, NULL, "dout") ROW(no_q, NULL, "q") ROW(no_k, NULL, "k") ROW(no_v, NULL, "v") ROW(no_out, NULL, "out")
    ROW(no_lse, NULL, "lse") ROW(dq_no_data, NULL, "dq") ROW(dq_no_shape, NULL, "dq")
    ROW(q_integer, DTYPE, "q") ROW(q_rank_1, VALUE, "q") ROW(k_other_features, VALUE, "k") ROW(heads_do_not_divide, VALUE, "q")
    ROW(no_kv_heads, VALUE, "heads") ROW(negative_size, VALUE, "v") ROW(size_overflows, VALUE, "q")
    ROW(dout_shape, VALUE, "dout") ROW(dout_rank, VALUE, "dout") ROW(dout_double, DTYPE, "dout") ROW(dout_integer, DTYPE, "dout")
    ROW(dout_on_gpu, DEVICE_MIX, "dout") ROW(out_shape, VALUE, "out") ROW(out_half, DTYPE, "out") ROW(lse_shape, VALUE, "lse")
    ROW(lse_double, DTYPE, "lse") ROW(dlse_shape, VALUE, "dlse") ROW(dlse_half, DTYPE, "dlse")
    ROW(dq_shape, VALUE, "dq") ROW(dq_half, DTYPE, "dq") ROW(dq_rank, VALUE, "dq") ROW(dk_query_heads, VALUE, "dk")
    ROW(dk_integer, DTYPE, "dk") ROW(dv_key_features, VALUE, "dv") ROW(dv_on_gpu, DEVICE_MIX, "dv")
    ROW(dv_misaligned, VALUE, "dv") ROW(dq_is_q, VALUE, "dq") ROW(dq_is_dout, VALUE, "dq") ROW(dk_is_lse, VALUE, "dk")
    ROW(dv_is_out, VALUE, "dv") ROW(dk_is_dq, VALUE, "dk") ROW(dv_is_dk, VALUE, "dv") ROW(dmask_is_mask, VALUE, "dmask")
    ROW(dsinks_is_dlse, VALUE, "dsinks") ROW(dq_stride_zero, VALUE, "dq") ROW(dsinks_without_sinks, VALUE, "dsinks")
    ROW(dsinks_shape, VALUE, "dsinks") ROW(dsinks_half, DTYPE, "dsinks") ROW(dmask_without_mask, VALUE, "dmask")
    ROW(dmask_of_bool, VALUE, "dmask") ROW(dmask_of_integers, VALUE, "dmask") ROW(dmask_wide, VALUE, "dmask")
    ROW(dmask_half, DTYPE, "dmask") ROW(mask_double, DTYPE, "mask") ROW(mask_shape, VALUE, "mask")
    ROW(sinks_shape, VALUE, "sinks")
    ROW(lengths_float, DTYPE, "kv_lengths") ROW(lengths_shape, VALUE, "kv_lengths") ROW(scale_infinite, VALUE, "scale")
    ROW(softcap_negative, VALUE, "softcap") ROW(window_negative, VALUE, "window") ROW(causal_two, VALUE, "causal")
    ROW(options_size, VALUE, "size") ROW(small_workspace, MEMORY, "workspace") ROW(no_pool_threads, VALUE, "pool_threads")
};

static void collect(arguments *a, vjp_data *x) {
    attention_data *d = &x->forward;
    const invar_tensor *all[ARGUMENTS] = {
        &x->gradient[VJP_DQ].tensor, &x->gradient[VJP_DK].tensor, &x->gradient[VJP_DV].tensor,
        &x->gradient[VJP_DSINKS].tensor, &x->gradient[VJP_DMASK].tensor, &x->dout.tensor, &d->q.tensor, &d->k.tensor,
        &d->v.tensor, &d->out.tensor, &d->lse.tensor, &d->mask.tensor, &d->sinks.tensor, &d->lengths.tensor, &x->dlse.tensor };
    *a = (arguments){ .options = d->shape.options };
    for (int i = 0; i < ARGUMENTS; i++) {
        a->tensor[i] = *all[i];
        memcpy(a->shape[i], all[i]->shape, sizeof(int64_t) * (size_t)all[i]->ndim);
        a->tensor[i].shape = a->shape[i];
    }
}

static invar_status call(const arguments *a, invar_context *context) {
    const invar_tensor *t[ARGUMENTS];
    for (int i = 0; i < ARGUMENTS; i++) t[i] = a->absent[i] ? NULL : &a->tensor[i];
    return invar_scaled_dot_product_attention_vjp(context, t[DQ], t[DK], t[DV], t[DSINKS], t[DMASK], t[DOUT], t[Q], t[K], t[V],
                                                  t[OUT], t[LSE], t[MASK], t[SINKS], t[LENGTHS], t[DLSE], &a->options);
}

static uint64_t everything(const vjp_data *x) {
    uint64_t sum = 0;
    const check_array *all[] = { &x->dout, &x->dlse, &x->forward.q, &x->forward.k, &x->forward.v, &x->forward.out,
                                 &x->forward.lse, &x->forward.mask, &x->forward.sinks, &x->forward.lengths };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) sum = sum * 31 + check_memory_hash(all[i]);
    for (int g = 0; g < VJP_GRADIENTS; g++) sum = sum * 31 + check_memory_hash(&x->gradient[g]);
    return sum;
}

static void every_misuse_is_refused(void) {
    attention_case c = attention_plain;
    c.batch = 2, c.heads = 4, c.kv_heads = 2, c.queries = 3, c.keys = 6, c.key_dim = 6, c.value_dim = 4;
    c.mask_type = check_f32, c.mask_broadcast = 1, c.sinks = c.lengths = true;
    vjp_data x;
    vjp_init(&x, &c);
    invar_context *context = check_context("", 2);
    attention_run(&x.forward, context);
    const uint64_t before = everything(&x);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        arguments a;
        collect(&a, &x);
        table[i].spoil(&a);
        const invar_status status = call(&a, context);
        CHECK(status == table[i].status, "%s: %s, %s", table[i].name, invar_status_name(status), invar_last_error());
        CHECK(strstr(invar_last_error(), table[i].word), "%s: '%s' does not name it", table[i].name, invar_last_error());
        CHECK(everything(&x) == before, "%s: something was written", table[i].name);
    }
    arguments a;
    collect(&a, &x);
    CHECK_OK(call(&a, context)); /* unspoilt */
    invar_context_destroy(context);
    vjp_free(&x);
}

static void a_plan_describes_and_writes_nothing(void) {
    attention_case c = attention_plain;
    c.batch = 2, c.heads = 4, c.kv_heads = 2, c.queries = 50, c.keys = 90, c.options.causal = 1;
    vjp_data x;
    vjp_init(&x, &c);
    invar_context *context = check_context("", 2);
    attention_run(&x.forward, context);
    const uint64_t before = everything(&x);
    invar_plan plan = INVAR_PLAN_INIT;
    x.forward.shape.options.execution.plan = &plan;
    CHECK_OK(vjp_call(&x, context));
    CHECK(everything(&x) == before, "a plan wrote");
    CHECK(!strncmp(plan.kernel, "attention_vjp.", 14) && plan.tasks > 0 && plan.workspace > 0, "%s", plan.kernel);
    double pairs = 0;
    for (int i = 0; i < 50; i++) pairs += i + 41;
    CHECK(plan.flops == 10 * 8 * pairs * 16, "%g flops", plan.flops);
    invar_context_destroy(context);
    vjp_free(&x);
}

CHECK_MAIN(CHECK_TEST(every_misuse_is_refused), CHECK_TEST(a_plan_describes_and_writes_nothing))
