/* Attention's launches on a pretended GPU: how they are cut never depends on the batch, every path gives its scratch back. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/device/attention_job.h"

#include <math.h>
#include <string.h>

typedef struct sizes {
    int64_t query_heads, kv_heads, queries, keys, features;
} sizes;

typedef struct call {
    check_array q, k, v, out, mask;
    invar_attention_options options;
} call;

static void on_device(check_array *array, invar_dtype dtype, int64_t batch, int64_t heads, int64_t rows, int64_t features) {
    check_array_init(array, dtype, CHECK_SHAPE(batch, heads, rows, features));
    array->tensor.device = (invar_device){ INVAR_DEVICE_CUDA, 0 };
}

static void begin(call *c, invar_dtype dtype, int64_t batch, const sizes *s) {
    memset(&c->mask, 0, sizeof c->mask);
    on_device(&c->q, dtype, batch, s->query_heads, s->queries, s->features);
    on_device(&c->k, dtype, batch, s->kv_heads, s->keys, s->features);
    on_device(&c->v, dtype, batch, s->kv_heads, s->keys, s->features);
    on_device(&c->out, dtype, batch, s->query_heads, s->queries, s->features);
    c->options = (invar_attention_options)INVAR_ATTENTION_OPTIONS_INIT;
    c->options.execution.stream = STREAM;
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof(invar_cuda_attention_job);
}

static invar_status run(call *c) {
    return invar_scaled_dot_product_attention(NULL, &c->out.tensor, NULL, &c->q.tensor, &c->k.tensor, &c->v.tensor,
                                              c->mask.tensor.data ? &c->mask.tensor : NULL, NULL, NULL, &c->options);
}

static void end(call *c) {
    if (c->mask.tensor.data) check_array_free(&c->mask);
    check_array_free(&c->q), check_array_free(&c->k), check_array_free(&c->v), check_array_free(&c->out);
}

static const sizes cases[] = { { 8, 2, 1, 4096, 128 }, { 8, 8, 300, 300, 64 }, { 4, 4, 3, 17, 80 }, { 2, 1, 16, 1000, 256 },
                               { 2, 2, 3, 5000, 600 }, { 32, 16, 300, 300, 72 } };
enum { CASES = sizeof cases / sizeof *cases };

/* The launches of one batch and of five differ in how many blocks there are, and in nothing that a row could see. */
static bool same_cut(invar_dtype dtype, const sizes *s) {
    call one, many;
    static fake_cuda_state alone;
    begin(&one, dtype, 1, s);
    bool good = CHECK_OK(run(&one));
    alone = fake_cuda;
    begin(&many, dtype, 5, s);
    good = CHECK_OK(run(&many)) && good;
    good = CHECK(alone.launches == fake_cuda.launches && alone.launches, "%d and %d launches", alone.launches,
                 fake_cuda.launches) && good;
    for (int i = 0; i < alone.launches && good; i++) {
        const fake_launch *a = &alone.launch[i], *b = &fake_cuda.launch[i];
        invar_cuda_attention_job x, y;
        memcpy(&x, a->job, sizeof x), memcpy(&y, b->job, sizeof y);
        good = CHECK(!strcmp(a->function, b->function) && a->block[0] == b->block[0] && a->shared == b->shared, "%s", b->function) &&
               CHECK(x.tiles == y.tiles && x.splits == y.splits && x.split_keys == y.split_keys, "tiles %d and %d, splits %d and %d",
                     x.tiles, y.tiles, x.splits, y.splits) &&
               CHECK(y.of.batch == 5 && y.batches == 5, "%lld batches", y.batches) &&
               CHECK(i || b->grid[0] == 5 * a->grid[0], "%u and %u blocks", a->grid[0], b->grid[0]) &&
               CHECK(a->stream == STREAM && b->stream == STREAM, "another stream");
    }
    good = CHECK(!fake_cuda.allocations && (!fake_cuda.allocated || fake_cuda.memory_stream == STREAM), "%d allocations",
                 fake_cuda.allocations) && good;
    end(&one), end(&many);
    return good;
}

static bool cuts(void) {
    const invar_dtype dtypes[] = { check_f32, check_f16, check_bf16 };
    bool good = true;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < CASES; i++)
            if (!CHECK(same_cut(dtypes[t], &cases[i]), "type %d, case %d", t, i)) good = false;
    return good;
}

/* Which program the first launch of a call of two batches took. */
static bool launches(call *c, const char *function, unsigned threads) {
    const fake_launch *first = &fake_cuda.launch[0];
    const bool good = CHECK_OK(run(c)) && CHECK(!strcmp(first->function, function) && first->block[0] == threads,
                                                "%s of %u threads", first->function, first->block[0]);
    end(c);
    return good;
}

/* Hopper's asynchronous products: taken where there are many tiles, whatever the strides, and on that GPU alone. */
static bool warpgroups(void) {
    static const sizes many = { 16, 16, 300, 300, 128 }, few = { 2, 2, 300, 300, 128 }, wide = { 16, 16, 300, 300, 320 };
    static _Alignas(16) char apart_from_all[2 * 16 * 301 * 128 * 2 + 16];
    call c;
    begin(&c, check_bf16, 2, &many);
    bool good = launches(&c, "invar_attention_wgmma", 384);
    begin(&c, check_f16, 2, &many);
    int64_t steps[] = { 16 * 301 * 128, 301 * 128, 128, 1 };
    c.k.tensor.strides = steps;
    c.k.tensor.data = apart_from_all + 2;
    good = launches(&c, "invar_attention_wgmma", 384) && good;
    begin(&c, check_bf16, 2, &few);
    good = launches(&c, "invar_attention_half", 128) && good;
    begin(&c, check_bf16, 2, &wide);
    good = launches(&c, "invar_attention_half", 128) && good;
    begin(&c, check_bf16, 2, &many);
    c.options.scale = -0.1;
    good = launches(&c, "invar_attention_half", 128) && good;
    begin(&c, check_f32, 2, &many);
    good = launches(&c, "invar_attention_parts", 64) && good;
    return good;
}

/* float32 as sums of bfloat16: where a kv head has more than 32 rows, of any features, on Hopper. */
static bool parts_on(int major, bool suit) {
    static const struct {
        sizes of;
        unsigned threads; /* of the program that takes parts; 0: it does not */
    } calls[] = {
        { { 64, 64, 300, 300, 64 }, 128 }, { { 64, 64, 300, 300, 65 }, 256 },
        { { 8, 2, 9, 300, 64 }, 64 },      { { 8, 2, 8, 300, 64 }, 0 },
    };
    bool good = true;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const bool taken = suit && calls[i].threads;
        call c;
        begin(&c, check_f32, 2, &calls[i].of);
        fake_cuda.major = major;
        good = CHECK_OK(run(&c)) &&
               CHECK(!strcmp(fake_cuda.launch[0].function, taken ? "invar_attention_parts" : "invar_attention_float") &&
                         (!taken || fake_cuda.launch[0].block[0] == calls[i].threads),
                     "call %zu: %s of %u threads", i, fake_cuda.launch[0].function, fake_cuda.launch[0].block[0]) &&
               good;
        end(&c);
    }
    return good;
}
static bool parts_on_hopper(void) { return parts_on(9, true); }
static bool no_parts(void) { return parts_on(8, false); }

/* With a mask array of bool or of the call's type, whatever its strides; rows that are contiguous and aligned are read eight elements
 * at once, which the plan tells. */
static bool masked_warpgroups(void) {
    static const sizes many = { 16, 16, 300, 304, 64 };
    static _Alignas(16) char apart_from_all[300 * 2 * 304 * 2 + 16];
    const struct {
        invar_dtype call, mask;
        int64_t queries, step, offset; /* of the mask: step between keys; bytes before its first */
        bool warpgroups, apart;
    } masks[] = {
        { check_bf16, check_bool, 300, 1, 0, true, false }, { check_bf16, check_bf16, 300, 1, 0, true, false },
        { check_f16, check_f16, 1, 1, 16, true, false },    { check_f16, check_f16, 300, 1, 2, true, true },
        { check_bf16, check_bf16, 300, 2, 0, true, true },  { check_bf16, check_bool, 300, 1, 4, true, true },
        { check_bf16, check_i32, 300, 1, 0, false, false },
    };
    bool good = true;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        invar_plan plan = { .size = sizeof plan };
        call c;
        begin(&c, masks[i].call, 2, &many);
        on_device(&c.mask, masks[i].mask, 1, 1, masks[i].queries, many.keys);
        int64_t steps[] = { 0, 0, masks[i].step * many.keys, masks[i].step };
        c.mask.tensor.strides = steps;
        c.mask.tensor.data = apart_from_all + masks[i].offset;
        c.options.execution.plan = &plan;
        const bool wgmma = masks[i].warpgroups;
        bool fine = CHECK_OK(run(&c)) &&
                    CHECK(!strcmp(plan.kernel, wgmma ? "attention_wgmma.cuda" : "attention_half.cuda"), "%s", plan.kernel) &&
                    CHECK(!strstr(plan.reason, "an element at a time") == !masks[i].apart, "%s", plan.reason);
        c.options.execution.plan = NULL;
        fine = launches(&c, wgmma ? "invar_attention_wgmma" : "invar_attention_half", wgmma ? 384 : 128) && fine;
        good = CHECK(fine, "mask %zu", i) && good;
    }
    return good;
}

static bool no_warpgroups(void) {
    static const sizes many = { 16, 16, 300, 300, 128 };
    call c;
    begin(&c, check_bf16, 2, &many);
    fake_cuda.major = 8;
    return launches(&c, "invar_attention_half", 128);
}

/* Features beyond what a block holds: those of v and out in a launch for each slab, of which the first writes lse. */
static bool slabs(invar_dtype dtype) {
    static const sizes wide = { 2, 2, 70, 80, 600 };
    check_array lse;
    call c;
    begin(&c, dtype, 3, &wide);
    check_array_init(&lse, check_f32, CHECK_SHAPE(3, 2, 70));
    lse.tensor.device = c.q.tensor.device;
    bool good = CHECK_OK(invar_scaled_dot_product_attention(NULL, &c.out.tensor, &lse.tensor, &c.q.tensor, &c.k.tensor, &c.v.tensor,
                                                            NULL, NULL, NULL, &c.options)) &&
                CHECK(fake_cuda.launches == 3, "%d launches", fake_cuda.launches);
    const int64_t item = dtype.bits / 8;
    for (int i = 0; i < 3 && good; i++) {
        invar_cuda_attention_job job;
        memcpy(&job, fake_cuda.launch[i].job, sizeof job);
        good = CHECK(job.of.key_dim == 600 && job.of.value_dim == (i < 2 ? 256 : 88), "slab %d: %d features", i, job.of.value_dim) &&
               CHECK(job.of.v.data == (char *)c.v.tensor.data + 256 * i * item, "slab %d: v", i) &&
               CHECK(job.of.out.data == (char *)c.out.tensor.data + 256 * i * item, "slab %d: out", i) &&
               CHECK(!job.of.lse.data == (i > 0), "slab %d: lse", i);
    }
    check_array_free(&lse);
    end(&c);
    return good;
}

static bool wide_heads(void) { return slabs(check_f32) && slabs(check_bf16); }

/* Blocks of GPUs with less shared memory take fewer rows. */
static bool little_shared_memory(void) {
    static const sizes wide = { 2, 2, 70, 80, 256 };
    call c;
    begin(&c, check_f32, 1, &wide);
    fake_cuda.major = 8, fake_cuda.minor = 6;
    const bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launch[0].shared <= 99 << 10, "%u bytes", fake_cuda.launch[0].shared);
    end(&c);
    return good;
}

static invar_status run_again(void *c) { return run(c); }

static bool each_failure(void) {
    call c;
    begin(&c, check_f32, 2, &cases[0]);
    bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 2 && fake_cuda.allocated == 1, "%d launches", fake_cuda.launches);
    good = good && fails_cleanly(run_again, &c, 2);
    end(&c);
    return good;
}

/* The caller's workspace is used as it is, or refused; nothing is taken then. */
static bool workspace(void) {
    call c;
    invar_plan plan = { .size = sizeof plan };
    begin(&c, check_f32, 2, &cases[0]);
    c.options.execution.plan = &plan;
    bool good = CHECK_OK(run(&c)) && CHECK(plan.workspace > 0 && !fake_cuda.launches, "%zu bytes", plan.workspace);
    c.options.execution.plan = NULL;
    void *memory = aligned_alloc(64, (plan.workspace + 63) / 64 * 64);
    c.options.execution.workspace = memory;
    c.options.execution.workspace_size = plan.workspace - 1;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_MEMORY, "execution.workspace") && good;
    c.options.execution.workspace_size = plan.workspace;
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 2 && !fake_cuda.allocated, "%d allocated", fake_cuda.allocated) && good;
    invar_cuda_attention_job job;
    memcpy(&job, fake_cuda.launch[0].job, sizeof job);
    good = CHECK(job.parts == memory, "the scratch is elsewhere") && good;
    free(memory);
    end(&c);
    return good;
}

/* Nothing to compute, nothing launched; what CUDA devices do not take is refused by name. */
static bool limits(void) {
    call c;
    begin(&c, check_f32, 0, &cases[0]);
    bool good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches, "%d launches", fake_cuda.launches);
    end(&c);
    begin(&c, check_f64, 1, &cases[0]);
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DTYPE, "float64") && good;
    end(&c);
    begin(&c, check_f32, 1, &cases[0]);
    c.k.tensor.device.id = 1;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "k") && good;
    end(&c);
    return good;
}

static void all(void) {
    IN_CHILD(cuts);
    IN_CHILD(warpgroups);
    IN_CHILD(masked_warpgroups);
    IN_CHILD(no_warpgroups);
    IN_CHILD(parts_on_hopper);
    IN_CHILD(no_parts);
    IN_CHILD(wide_heads);
    IN_CHILD(little_shared_memory);
    IN_CHILD(each_failure);
    IN_CHILD(workspace);
    IN_CHILD(limits);
}
static void attention(void) { with_empty_cache(all); }

CHECK_MAIN(CHECK_TEST(attention))
