/* The launches of attention's VJP on a pretended GPU: how they are cut never depends on the batch, only what is asked for is
 * launched, every path gives its scratch back. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/device/attention_vjp_job.h"

#include <math.h>
#include <string.h>

typedef struct sizes {
    int64_t query_heads, kv_heads, queries, keys, features;
} sizes;

enum { DQ, DK, DV, DSINKS, DMASK, GRADIENTS };

typedef struct call {
    check_array q, k, v, out, dout, lse, mask, sinks, gradient[GRADIENTS];
    bool wanted[GRADIENTS], masked;
    invar_attention_options options;
} call;

static void on_device(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape) {
    check_array_init(array, dtype, ndim, shape);
    array->tensor.device = (invar_device){ INVAR_DEVICE_CUDA, 0 };
}

static void begin(call *c, invar_dtype dtype, int64_t batch, const sizes *s) {
    const int64_t queries[] = { batch, s->query_heads, s->queries, s->features };
    const int64_t keys[] = { batch, s->kv_heads, s->keys, s->features };
    const int64_t mask[] = { s->queries, s->keys };
    on_device(&c->q, dtype, 4, queries), on_device(&c->out, dtype, 4, queries), on_device(&c->dout, dtype, 4, queries);
    on_device(&c->k, dtype, 4, keys), on_device(&c->v, dtype, 4, keys);
    on_device(&c->lse, check_f32, 3, queries);
    on_device(&c->mask, dtype, 2, mask);
    on_device(&c->sinks, dtype, 1, &s->query_heads);
    on_device(&c->gradient[DQ], dtype, 4, queries);
    on_device(&c->gradient[DK], dtype, 4, keys), on_device(&c->gradient[DV], dtype, 4, keys);
    on_device(&c->gradient[DSINKS], dtype, 1, &s->query_heads);
    on_device(&c->gradient[DMASK], dtype, 2, mask);
    memset(c->wanted, 0, sizeof c->wanted);
    c->wanted[DQ] = c->wanted[DK] = c->wanted[DV] = true;
    c->masked = false;
    c->options = (invar_attention_options)INVAR_ATTENTION_OPTIONS_INIT;
    c->options.execution.stream = STREAM;
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof(invar_cuda_attention_vjp_job);
}

static invar_status run(call *c) {
    const invar_tensor *g[GRADIENTS];
    for (int i = 0; i < GRADIENTS; i++) g[i] = c->wanted[i] ? &c->gradient[i].tensor : NULL;
    return invar_scaled_dot_product_attention_vjp(NULL, g[DQ], g[DK], g[DV], g[DSINKS], g[DMASK], &c->dout.tensor, &c->q.tensor,
                                                  &c->k.tensor, &c->v.tensor, &c->out.tensor, &c->lse.tensor,
                                                  c->masked || c->wanted[DMASK] ? &c->mask.tensor : NULL,
                                                  c->wanted[DSINKS] ? &c->sinks.tensor : NULL, NULL, NULL, &c->options);
}

static void end(call *c) {
    check_array_free(&c->q), check_array_free(&c->k), check_array_free(&c->v), check_array_free(&c->out);
    check_array_free(&c->dout), check_array_free(&c->lse), check_array_free(&c->mask), check_array_free(&c->sinks);
    for (int i = 0; i < GRADIENTS; i++) check_array_free(&c->gradient[i]);
}

static const sizes cases[] = { { 8, 2, 1, 4096, 128 }, { 8, 8, 300, 300, 64 },  { 4, 4, 3, 17, 80 },
                               { 2, 1, 16, 1000, 256 }, { 2, 1, 33, 70, 320 }, { 1, 1, 65, 65, 512 } };
enum { CASES = sizeof cases / sizeof *cases };

/* The launches of one batch and of five differ in how many blocks there are, and in nothing that a row could see. */
static bool same_cut(invar_dtype dtype, const sizes *s, bool causal) {
    call one, many;
    static fake_cuda_state alone;
    begin(&one, dtype, 1, s);
    one.options.causal = causal;
    bool good = CHECK_OK(run(&one));
    alone = fake_cuda;
    begin(&many, dtype, 5, s);
    many.options.causal = causal;
    good = CHECK_OK(run(&many)) && good;
    good = CHECK(alone.launches == fake_cuda.launches && alone.launches >= 3, "%d and %d launches", alone.launches,
                 fake_cuda.launches) && good;
    for (int i = 0; i < alone.launches && good; i++) {
        const fake_launch *a = &alone.launch[i], *b = &fake_cuda.launch[i];
        invar_cuda_attention_vjp_job x, y;
        memcpy(&x, a->job, sizeof x), memcpy(&y, b->job, sizeof y);
        good = CHECK(!strcmp(a->function, b->function) && a->block[0] == b->block[0] && a->shared == b->shared, "%s", b->function) &&
               CHECK(x.query_tiles == y.query_tiles && x.key_tiles == y.key_tiles && x.section == y.section,
                     "tiles %d and %d, %d and %d", x.query_tiles, y.query_tiles, x.key_tiles, y.key_tiles) &&
               CHECK(y.of.batch == 5 && y.batches == 5 && b->grid[0] == 5 * a->grid[0], "%lld batches, %u blocks", y.batches,
                     b->grid[0]) &&
               CHECK(a->stream == STREAM && b->stream == STREAM, "another stream");
    }
    good = CHECK(!fake_cuda.allocations && fake_cuda.allocated == 1 && fake_cuda.memory_stream == STREAM, "%d allocations",
                 fake_cuda.allocations) && good;
    end(&one), end(&many);
    return good;
}

static bool cuts(void) {
    const invar_dtype dtypes[] = { check_f32, check_f16, check_bf16 };
    bool good = true;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < CASES; i++)
            for (int causal = 0; causal < 2; causal++)
                if (!CHECK(same_cut(dtypes[t], &cases[i], causal), "type %d, case %d, causal %d", t, i, causal)) good = false;
    return good;
}

/* Each gradient has its program; none of them, none. */
static bool what_is_asked_for(void) {
    static const char *const programs[GRADIENTS] = { "half", "half", "half", "sinks", "mask" };
    bool good = true;
    for (int g = 0; g < GRADIENTS; g++) {
        call c;
        begin(&c, check_bf16, 2, &cases[3]);
        for (int i = 0; i < GRADIENTS; i++) c.wanted[i] = i == g;
        good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 2, "%d launches", fake_cuda.launches) &&
               CHECK(strstr(fake_cuda.launch[0].function, "delta") && strstr(fake_cuda.launch[1].function, programs[g]), "%s, %s",
                     fake_cuda.launch[0].function, fake_cuda.launch[1].function) && good;
        end(&c);
    }
    call c;
    begin(&c, check_bf16, 2, &cases[3]); /* 256 features: dk and dv apart */
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 4, "%d launches", fake_cuda.launches) && good;
    fake_cuda_reset();
    memset(c.wanted, 0, sizeof c.wanted);
    good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches && !fake_cuda.allocated, "%d launches", fake_cuda.launches) && good;
    end(&c);
    return good;
}

static invar_status run_again(void *c) { return run(c); }

static bool each_failure(void) {
    call c;
    begin(&c, check_f32, 2, &cases[0]);
    for (int i = 0; i < GRADIENTS; i++) c.wanted[i] = true;
    bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 5 && fake_cuda.allocated == 1, "%d launches", fake_cuda.launches);
    good = good && fails_cleanly(run_again, &c, 5);
    end(&c);
    return good;
}

/* The caller's workspace is used as it is, or refused; nothing is taken then. */
static bool workspace(void) {
    call c;
    invar_plan plan = { .size = sizeof plan };
    begin(&c, check_f16, 2, &cases[1]);
    c.options.execution.plan = &plan;
    bool good = CHECK_OK(run(&c)) && CHECK(plan.workspace == 2 * 8 * 300 * 8 && !fake_cuda.launches, "%zu bytes", plan.workspace) &&
                CHECK(!strcmp(plan.kernel, "attention_vjp_wgmma.cuda"), "%s", plan.kernel) &&
                CHECK(plan.flops == 2.5 * 2 * 2 * 128 * 8 * 300 * 300, "%g", plan.flops);
    c.options.execution.plan = NULL;
    void *memory = aligned_alloc(64, (plan.workspace + 63) / 64 * 64);
    c.options.execution.workspace = memory;
    c.options.execution.workspace_size = plan.workspace - 1;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_MEMORY, "execution.workspace") && good;
    c.options.execution.workspace_size = plan.workspace;
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 3 && !fake_cuda.allocated, "%d allocated", fake_cuda.allocated) && good;
    invar_cuda_attention_vjp_job job;
    memcpy(&job, fake_cuda.launch[0].job, sizeof job);
    good = CHECK(job.rows == memory, "the scratch is elsewhere") && good;
    free(memory);
    end(&c);
    return good;
}

/* A GPU whose blocks have 99 KiB of shared memory is given smaller blocks. */
static bool small_blocks(void) {
    call c;
    begin(&c, check_bf16, 1, &cases[3]);
    fake_cuda.major = 12;
    bool good = CHECK_OK(run(&c));
    for (int i = 0; i < fake_cuda.launches; i++)
        good = CHECK(fake_cuda.launch[i].shared <= 98 * 1024, "%s: %u bytes", fake_cuda.launch[i].function,
                     fake_cuda.launch[i].shared) && good;
    end(&c);
    return good;
}

/* Wide heads: of half types warps for the slabs of a gradient, or, where shared memory is small, blocks; of float32 blocks for 512
 * features each. */
static bool slabs(int major) {
    static const sizes wide[] = { { 1, 1, 10, 10, 256 }, { 1, 1, 10, 10, 264 }, { 1, 1, 10, 10, 512 }, { 1, 1, 10, 10, 576 } };
    static const unsigned slabs[] = { 1, 2, 2, 3 }, threads[] = { 128, 256, 256, 192 };
    bool good = true;
    for (size_t i = major > 9 ? 2 : 0; i < (major > 9 ? 3 : sizeof wide / sizeof *wide); i++)
        for (int half = 0; half < 2; half++) {
            call c;
            begin(&c, half ? check_f16 : check_f32, 1, &wide[i]);
            c.wanted[DMASK] = true;
            const int last = half || i > 0 ? 4 : 3; /* dmask's launch: dk and dv have one each, but of float32 of 256 features */
            good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == last + 1, "%d launches", fake_cuda.launches) && good;
            for (int l = 1; l < last; l++) {
                const fake_launch *launch = &fake_cuda.launch[l];
                const bool shared = half && major == 9;
                const unsigned blocks = shared ? 1 : half ? slabs[i] : i == 3 ? 2 : 1;
                const unsigned lanes = shared ? threads[i] : half ? 0 : i ? 256 : 128;
                good = CHECK(launch->grid[1] == blocks && (!lanes || launch->block[0] == lanes),
                             "launch %d of %lld features: %u slabs, %u threads", l, (long long)wide[i].features, launch->grid[1],
                             launch->block[0]) && good;
            }
            good = CHECK(fake_cuda.launch[0].grid[1] == 1 && fake_cuda.launch[last].grid[1] == 1, "delta and dmask have slabs") &&
                   good;
            end(&c);
        }
    return good;
}
static bool slabs_of_warps(void) { return slabs(9); }
static bool slabs_of_blocks(void) {
    setenv("FAKE_CUDA_CAPABILITY", "12.1", 1);
    return slabs(12);
}

/* Which program the launches behind delta's took. */
static bool launches(call *c, const char *function, unsigned threads) {
    bool good = CHECK_OK(run(c));
    for (int i = 1; i < fake_cuda.launches; i++)
        good = CHECK(!strcmp(fake_cuda.launch[i].function, function) && fake_cuda.launch[i].block[0] == threads, "%s of %u threads",
                     fake_cuda.launch[i].function, fake_cuda.launch[i].block[0]) && good;
    end(c);
    return good;
}

/* Hopper's asynchronous products: taken for heads of 33 to 256 features, whatever the strides and whatever is asked for, and on that
 * GPU alone. dk and dv of more than 128 features are formed apart. */
static bool warpgroups(void) {
    static const char *const matrix = "invar_attention_vjp_half", *const wgmma = "invar_attention_vjp_wgmma";
    static const sizes plain = { 4, 2, 65, 65, 128 }, wide[] = { { 4, 2, 65, 65, 136 }, { 4, 2, 65, 65, 192 }, { 4, 2, 65, 65, 256 } };
    static const sizes other[] = { { 4, 2, 64, 300, 128 }, { 4, 2, 300, 64, 128 }, { 4, 2, 300, 300, 32 }, { 4, 2, 300, 300, 264 } };
    static _Alignas(16) char apart_from_all[2 * 2 * 67 * 256 * 2 + 16];
    bool good = true;
    for (int wanted = 1; wanted < 32; wanted++) {
        call c;
        const bool apart = wanted > 7;
        begin(&c, wanted % 2 ? check_bf16 : check_f16, 2, apart ? &wide[wanted / 8 - 1] : &plain);
        for (int i = 0; i < 3; i++) c.wanted[i] = wanted >> i & 1;
        c.options.scale = wanted % 3 ? 0.1 : -0.1;
        c.options.softcap = wanted & 8 ? 30 : 0;
        int64_t steps[] = { 2 * 67 * 256, 67 * 256, 256, 1 };
        c.k.tensor.strides = steps;
        c.k.tensor.data = apart_from_all + 2 * (wanted & 2);
        const int keys = (wanted >> 1 & 1) + (wanted >> 2 & 1), passes = 1 + (wanted & 1) + (apart || keys < 2 ? keys : 1);
        good = launches(&c, wgmma, 384) && good;
        good = CHECK(fake_cuda.launches == (wanted % 8 ? passes : 0), "%d launches for %d", fake_cuda.launches, wanted) && good;
        for (int l = 1; l < fake_cuda.launches; l++)
            good = CHECK(fake_cuda.launch[l].shared <= 226 * 1024, "%u bytes", fake_cuda.launch[l].shared) && good;
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        call c;
        begin(&c, check_bf16, 2, &other[i]);
        good = launches(&c, matrix, other[i].features > 256 ? 256 : 128) && good;
    }
    call c;
    begin(&c, check_bf16, 2, &plain);
    c.options.softcap = 256;
    good = launches(&c, wgmma, 384) && good;
    begin(&c, check_bf16, 2, &plain);
    c.options.softcap = 257; /* beyond what its tanh is exact enough for */
    invar_plan plan = { .size = sizeof plan };
    c.options.execution.plan = &plan;
    good = CHECK_OK(run(&c)) && CHECK(strstr(plan.reason, "a softcap of at most 256"), "%s", plan.reason) && good;
    c.options.execution.plan = NULL;
    good = launches(&c, matrix, 128) && good;
    begin(&c, check_bf16, 2, &plain);
    c.wanted[DQ] = c.wanted[DV] = false, c.wanted[DMASK] = true;
    good = CHECK_OK(run(&c)) && CHECK(!strcmp(fake_cuda.launch[2].function, wgmma), "%s", fake_cuda.launch[2].function) && good;
    end(&c);
    return good;
}

/* Mask arrays of bools and of the call's own type go through them too, those of integers do not. Neither the array's strides nor where
 * it begins decide how the call is cut; where rows of eights are not aligned the mask is copied first, each element once, and tiles of
 * the mask fit the block's shared memory. */
static bool masked_warpgroups(void) {
    static const sizes with[] = { { 4, 2, 65, 72, 128 }, { 4, 2, 65, 72, 64 }, { 4, 2, 72, 65, 96 } };
    bool good = true;
    for (size_t i = 0; i < sizeof with / sizeof *with; i++)
        for (int kind = 0; kind < 6; kind++) {
            const invar_dtype own = kind % 2 ? check_f16 : check_bf16, dtypes[] = { own, check_bool, check_i32 };
            unsigned grid[2] = { 0 }, shared[2] = { 0 };
            for (int turned = 0; turned < 4; turned++) {
                call c;
                invar_plan plan = { .size = sizeof plan };
                begin(&c, own, 2, &with[i]);
                check_array_free(&c.mask);
                on_device(&c.mask, dtypes[kind / 2], CHECK_SHAPE(4, with[i].queries, with[i].keys + 1));
                int64_t shape[] = { 4, with[i].queries, with[i].keys }, strides[] = { 0, with[i].keys, 1 };
                if (turned == 1) strides[1] = 1, strides[2] = with[i].queries;
                if (turned == 3) strides[0] = with[i].queries * with[i].keys, strides[1] = strides[2] = 0;
                c.mask.tensor.shape = shape, c.mask.tensor.strides = strides;
                if (turned == 2) c.mask.tensor.data = (char *)c.mask.tensor.data + 4;
                c.masked = true;
                c.options.softcap = i == 1 ? 30 : 0;
                c.options.execution.plan = &plan;
                good = CHECK_OK(run(&c)) && good;
                c.options.execution.plan = NULL;
                const bool taken = kind < 4, copied = taken && (turned || with[i].keys % 8);
                const int first = copied ? 2 : 1;
                good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == first + 2, "%d launches", fake_cuda.launches) && good;
                const size_t rows = 2 * 4 * with[i].queries * 8, width = 72 * (kind < 2 ? 2 : 1);
                const size_t copy = width * (turned == 3 ? 4 : with[i].queries);
                good = CHECK(plan.workspace == (copied ? (rows + 63) / 64 * 64 + copy : rows), "%zu bytes", plan.workspace) && good;
                for (int l = first; l < fake_cuda.launches; l++) {
                    const fake_launch *one = &fake_cuda.launch[l];
                    invar_cuda_attention_vjp_job job;
                    memcpy(&job, one->job, sizeof job);
                    const invar_cuda_operand *mask = &job.of.mask;
                    good = CHECK(!strcmp(one->function, taken ? "invar_attention_vjp_wgmma" : "invar_attention_vjp_half"),
                                 "kind %d: %s", kind, one->function) && CHECK(one->shared <= 226 * 1024, "%u bytes", one->shared) &&
                           CHECK(!turned || (one->grid[0] == grid[l - first] && one->shared == shared[l - first]),
                                 "%u blocks, %u bytes", one->grid[0], one->shared) &&
                           CHECK(!copied || ((char *)job.rows + plan.workspace == mask->data + copy &&
                                             (uintptr_t)mask->data % 16 == 0 &&
                                             mask->row_stride == (turned == 3 ? 0 : (long long)width) &&
                                             mask->head_stride == (turned == 3 ? (long long)width : 0) &&
                                             mask->column_stride == (kind < 2 ? 2 : 1)), "the copy's rows lie %lld apart",
                                 mask->row_stride) && good;
                    if (!turned) grid[l - first] = one->grid[0], shared[l - first] = one->shared;
                }
                end(&c);
            }
        }
    return good;
}

/* float32 goes through them as parts, whatever is asked for; rows that those leave, of which flags in the scratch tell, go by
 * multiply-adds. Softcaps, mask arrays and other GPUs have multiply-adds alone. */
static bool parts_of_float32(void) {
    static const sizes plain = { 4, 2, 65, 70, 128 };
    static const char *const parts = "invar_attention_vjp_parts", *const whole = "invar_attention_vjp_float";
    enum { ROWS = 2 * 4 * 65 };
    invar_plan plan = { .size = sizeof plan };
    bool good = true;
    for (int wanted = 1; wanted < 8; wanted++) {
        call c;
        begin(&c, check_f32, 2, &plain);
        for (int i = 0; i < 3; i++) c.wanted[i] = wanted >> i & 1;
        c.options.execution.plan = &plan;
        good = CHECK_OK(run(&c)) && CHECK(!strcmp(plan.kernel, "attention_vjp_parts.cuda"), "%s", plan.kernel) &&
               CHECK(plan.workspace == ROWS * 9 + 2 * 2 * 70, "%zu bytes", plan.workspace) && good;
        c.options.execution.plan = NULL;
        good = CHECK_OK(run(&c)) && good;
        const int both = 2 * ((wanted & 1) + (wanted > 1));
        good = CHECK(fake_cuda.launches == 1 + both, "%d launches", fake_cuda.launches) && good;
        for (int l = 1; l < fake_cuda.launches; l++) {
            invar_cuda_attention_vjp_job job;
            memcpy(&job, fake_cuda.launch[l].job, sizeof job);
            const bool keys = l > 2 || !(wanted & 1);
            good = CHECK(!strcmp(fake_cuda.launch[l].function, l % 2 ? parts : whole), "%s", fake_cuda.launch[l].function) &&
                   CHECK(job.again == (char *)job.rows + ROWS * (keys ? 9 : 8), "launch %d: flags are elsewhere", l) && good;
        }
        end(&c);
    }
    for (int masked = 0; masked < 2; masked++) {
        call c;
        begin(&c, check_f32, 2, &plain);
        c.masked = masked;
        c.options.softcap = masked ? 0 : 30;
        good = launches(&c, whole, 128) && CHECK(fake_cuda.launches == 3, "%d launches", fake_cuda.launches) && good;
    }
    return good;
}

static bool no_warpgroups(void) {
    call c;
    begin(&c, check_bf16, 2, &cases[1]);
    fake_cuda.major = 8;
    const bool good = launches(&c, "invar_attention_vjp_half", 128);
    begin(&c, check_f32, 2, &cases[1]);
    return launches(&c, "invar_attention_vjp_float", 128) && good;
}

/* dmask of half types goes through matrix units but where it is summed over queries or keys. */
static bool programs_of_dmask(void) {
    static const char *const plain = "invar_attention_vjp_mask", *const matrix = "invar_attention_vjp_mask_half";
    bool good = true;
    for (int half = 0; half < 2; half++)
        for (int kept = 0; kept < 4; kept++) {
            call c;
            begin(&c, half ? check_bf16 : check_f32, 2, &cases[1]);
            for (int i = 0; i < GRADIENTS; i++) c.wanted[i] = i == DMASK;
            check_array *const masks[] = { &c.mask, &c.gradient[DMASK] };
            for (int m = 0; m < 2; m++) {
                check_array_free(masks[m]);
                on_device(masks[m], half ? check_bf16 : check_f32, CHECK_SHAPE(kept & 1 ? 300 : 1, kept & 2 ? 300 : 1));
            }
            good = CHECK_OK(run(&c)) && CHECK(!strcmp(fake_cuda.launch[1].function, half && kept == 3 ? matrix : plain), "%s",
                                              fake_cuda.launch[1].function) && good;
            end(&c);
        }
    return good;
}

/* Nothing to compute, nothing launched; gradients of what nobody sees are written; what CUDA devices do not take is refused by
 * name. */
static bool limits(void) {
    static const sizes no_keys = { 4, 2, 3, 0, 64 }, no_queries = { 4, 2, 0, 3, 64 }, wide = { 1, 1, 2, 2, 1032 };
    call c;
    begin(&c, check_f32, 0, &cases[0]);
    bool good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches, "%d launches", fake_cuda.launches);
    end(&c);
    begin(&c, check_bf16, 2, &no_keys);
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 2, "%d launches", fake_cuda.launches) && good; /* delta and dq */
    end(&c);
    begin(&c, check_bf16, 2, &no_queries);
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 1, "%d launches", fake_cuda.launches) && good; /* dk and dv */
    end(&c);
    begin(&c, check_f64, 1, &cases[0]);
    check_array_free(&c.lse);
    on_device(&c.lse, check_f64, CHECK_SHAPE(1, 8, 1));
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DTYPE, "float64") && good;
    end(&c);
    begin(&c, check_bf16, 1, &wide);
    good = CHECK_FAILS(run(&c), INVAR_ERROR_VALUE, "at most 1024 features") && good;
    end(&c);
    begin(&c, check_f32, 1, &cases[0]);
    c.gradient[DK].tensor.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "dk") && good;
    end(&c);
    return good;
}

/* Of half types a block holds rows whole: where shared memory is small that is a limit. */
static bool small_memory(void) {
    static const sizes wide = { 1, 1, 2, 2, 520 };
    call c;
    setenv("FAKE_CUDA_CAPABILITY", "12.1", 1);
    begin(&c, check_f16, 1, &cases[5]);
    bool good = CHECK_OK(run(&c));
    end(&c);
    begin(&c, check_f16, 1, &wide);
    good = CHECK_FAILS(run(&c), INVAR_ERROR_VALUE,
                       "q: expected heads of which this CUDA device's shared memory holds 48 rows, got 520 and 520 features") && good;
    end(&c);
    begin(&c, check_f32, 1, &wide);
    good = CHECK_OK(run(&c)) && good;
    end(&c);
    return good;
}

static void all(void) {
    IN_CHILD(cuts);
    IN_CHILD(slabs_of_warps);
    IN_CHILD(slabs_of_blocks);
    IN_CHILD(warpgroups);
    IN_CHILD(parts_of_float32);
    IN_CHILD(masked_warpgroups);
    IN_CHILD(no_warpgroups);
    IN_CHILD(programs_of_dmask);
    IN_CHILD(small_memory);
    IN_CHILD(what_is_asked_for);
    IN_CHILD(each_failure);
    IN_CHILD(workspace);
    IN_CHILD(small_blocks);
    IN_CHILD(limits);
}
static void attention_vjp(void) { with_empty_cache(all); }

CHECK_MAIN(CHECK_TEST(attention_vjp))
