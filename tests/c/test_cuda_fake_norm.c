/* The norms' launches on a pretended GPU: what a row's threads do never depends on the batch or its layout, chunks follow the
 * features, every path gives its scratch back. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/device/norm_job.h"

#include <math.h>
#include <string.h>

typedef enum op { RMS, ADD_RMS, LAYER, RMS_VJP, LAYER_VJP, OPS } op;
static const char *const names[] = { "rms_norm", "add_rms_norm", "layer_norm", "rms_norm_vjp", "layer_norm_vjp" };

typedef struct call {
    op op;
    check_array x, other, y, sum, weight, bias, dweight, dbias; /* other: residual or dy; y: or dx */
    invar_norm_options options;
} call;

static void on_device(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape, const int64_t *steps) {
    check_array_init_strided(array, dtype, ndim, shape, steps);
    array->tensor.device = (invar_device){ INVAR_DEVICE_CUDA, 0 };
}

/* step: elements from one feature to the next. */
static void begin(call *c, op op, invar_dtype dtype, int64_t rows, int64_t features, int64_t step) {
    const int64_t shape[] = { rows, features }, steps[] = { 1, step }, plain[] = { 1, 1 };
    check_array *vectors[] = { &c->weight, &c->bias, &c->dweight, &c->dbias };
    c->op = op;
    on_device(&c->x, dtype, 2, shape, steps);
    on_device(&c->other, dtype, 2, shape, plain);
    on_device(&c->y, dtype, 2, shape, plain);
    on_device(&c->sum, dtype, 2, shape, plain);
    for (int i = 0; i < 4; i++) on_device(vectors[i], dtype, 1, shape + 1, plain);
    c->options = (invar_norm_options)INVAR_NORM_OPTIONS_INIT;
    c->options.execution.stream = STREAM;
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof(invar_cuda_norm_merge_job);
}

static void end(call *c) {
    check_array *all[] = { &c->x, &c->other, &c->y, &c->sum, &c->weight, &c->bias, &c->dweight, &c->dbias };
    for (int i = 0; i < 8; i++) check_array_free(all[i]);
}

static invar_status run(call *c) {
    const invar_tensor *x = &c->x.tensor, *other = &c->other.tensor, *y = &c->y.tensor, *weight = &c->weight.tensor;
    switch (c->op) {
    case RMS: return invar_rms_norm(NULL, y, x, weight, &c->options);
    case ADD_RMS: return invar_add_rms_norm(NULL, y, &c->sum.tensor, x, other, weight, &c->options);
    case LAYER: return invar_layer_norm(NULL, y, x, weight, &c->bias.tensor, &c->options);
    case RMS_VJP: return invar_rms_norm_vjp(NULL, y, &c->dweight.tensor, other, x, weight, &c->options);
    default:
        return invar_layer_norm_vjp(NULL, y, &c->dweight.tensor, &c->dbias.tensor, other, x, weight, &c->bias.tensor, &c->options);
    }
}

/* The number that a define of the program compiled last has. */
static int word(const char *name) {
    const char *at = strstr(fake_nvrtc.options, name);
    return at ? atoi(at + strlen(name)) : -1;
}

static int launches_of(op op) { return op >= RMS_VJP ? 2 : 1; }

/* What decides a row's bits: where sums are cut. pieces does not: 0 of them, a row that is read in each pass, sum alike. */
typedef struct cut {
    int vec, group, pieces, cluster;
} cut;

static bool cut_alike(const cut *a, const cut *b) {
    return a->vec == b->vec && a->group == b->group && a->cluster == b->cluster &&
           (a->pieces == b->pieces || !a->pieces || !b->pieces);
}

static bool cut_of(cut *found, op op, invar_dtype dtype, int64_t rows, int64_t features, int64_t step) {
    call c;
    begin(&c, op, dtype, rows, features, step);
    const int compiled = fake_nvrtc.compiled;
    bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == launches_of(op), "%s: %d launches", names[op], fake_cuda.launches);
    good = CHECK(!strcmp(fake_cuda.launch[0].function, op >= RMS_VJP ? "invar_norm_vjp" : "invar_norm"), "%s",
                 fake_cuda.launch[0].function) && good;
    for (int i = 0; i < fake_cuda.launches; i++) good = CHECK(fake_cuda.launch[i].stream == STREAM, "another stream") && good;
    good = CHECK(!fake_cuda.allocations && fake_cuda.allocated == (op >= RMS_VJP), "%d allocations", fake_cuda.allocated) && good;
    if (fake_nvrtc.compiled > compiled && op < RMS_VJP) 
        *found = (cut){ word("-DVEC="), word("-DGROUP="), word("-DPIECES="), word("-DCLUSTER=") };
    end(&c);
    return good;
}

/* Neither the number of rows nor strides change how a row is shared, and every feature has its thread. */
static bool rows_are_shared_alike(void) {
    static const int64_t features[] = { 1, 8, 100, 128, 768, 1024, 4096, 5000, 16384, 30000, 32768, 100000 };
    const invar_dtype dtypes[] = { check_f32, check_f16, check_bf16 };
    bool good = true;
    for (int t = 0; t < 3; t++)
        for (size_t f = 0; f < sizeof features / sizeof *features; f++)
            for (int op = RMS; op <= LAYER; op++) {
                cut one = { -1, -1, -1, -1 }, many = one, apart = one;
                good = cut_of(&one, op, dtypes[t], 1, features[f], 1) && cut_of(&many, op, dtypes[t], 5, features[f], 1) &&
                       cut_of(&apart, op, dtypes[t], 2, features[f], 3) && good;
                good = CHECK(many.vec < 0, "%s: five rows of %lld were compiled anew", names[op], (long long)features[f]) && good;
                if (apart.vec >= 0)
                    good = CHECK(cut_alike(&one, &apart), "%s: %lld features apart are shared in another way", names[op],
                                 (long long)features[f]) && good;
                if (one.pieces > 0)
                    good = CHECK((int64_t)one.vec * one.group * one.pieces * one.cluster >= features[f],
                                 "%s: %lld features, %d threads", names[op], (long long)features[f], one.group) && good;
            }
    return good;
}

/* Chunks of rows are as many as shapes say, each a block, or, of long rows, a cluster of blocks; of no rows there is a merge, which
 * writes zeros. */
static bool chunks(void) {
    static const struct {
        int64_t rows, features, chunks, cluster;
    } cases[] = { { 40000, 16, 313, 1 }, { 4097, 16, 129, 1 }, { 33, 4096, 33, 1 }, { 65, 768, 9, 1 }, { 3, 16384, 3, 1 },
                  { 3, 20000, 3, 2 },    { 65, 32768, 33, 2 }, { 4096, 32768, 60, 2 }, { 40000, 32776, 30 * 3, 4 },
                  { 100, 131072, 15, 8 }, { 9, 131080, 9, 1 }, { 0, 64, 0, 1 } };
    bool good = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        call c;
        invar_cuda_norm_merge_job merge;
        begin(&c, RMS_VJP, check_bf16, cases[i].rows != 0, cases[i].features, 1);
        c.x.shape[0] = c.other.shape[0] = c.y.shape[0] = cases[i].rows; /* nobody touches them, so one has memory */
        c.y.tensor.data = (void *)((uintptr_t)1 << 52), c.dweight.tensor.data = (void *)((uintptr_t)1 << 51);
        good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == (cases[i].rows ? 2 : 1), "%d launches", fake_cuda.launches) && good;
        const fake_launch *last = &fake_cuda.launch[fake_cuda.launches - 1];
        memcpy(&merge, last->job, sizeof merge);
        good = CHECK(!strcmp(last->function, "invar_norm_merge") && merge.chunks == cases[i].chunks, "%s of %lld chunks",
                     last->function, merge.chunks) && good;
        if (cases[i].rows)
            good = CHECK(fake_cuda.launch[0].grid[0] == cases[i].chunks * cases[i].cluster, "%u blocks",
                         fake_cuda.launch[0].grid[0]) && good;
        end(&c);
    }
    return good;
}

/* What no block's threads hold a cluster's do, where there are clusters and a row is not longer than eight blocks hold. */
static bool long_rows_are_held(void) {
    static const struct {
        const invar_dtype *dtype;
        int64_t features;
        int cluster, pieces[LAYER + 1]; /* of rms_norm; a thread's in each operation */
    } cases[] = {
        { &check_f32, 16384, 1, { 8, 8, 8 } },  { &check_f32, 16388, 2, { 5, 3, 5 } },   { &check_f32, 32768, 2, { 8, 4, 8 } },
        { &check_f32, 131072, 8, { 8, 8, 8 } }, { &check_f32, 131076, 1, { 0, 0, 0 } },  { &check_bf16, 32768, 1, { 8, 8, 8 } },
        { &check_bf16, 65536, 2, { 8, 4, 8 } }, { &check_bf16, 262144, 8, { 8, 8, 8 } },
    };
    bool good = true;
    setenv("FAKE_CUDA_CAPABILITY", "9.0", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int op = RMS; op <= LAYER; op++) {
            cut found = { -1, -1, -1, -1 };
            good = cut_of(&found, op, *cases[i].dtype, 3, cases[i].features, 1) && good;
            if (found.vec < 0) continue; /* not compiled anew */
            good = CHECK(fake_cuda.launch[0].grid[0] == 3u * found.cluster && found.pieces == cases[i].pieces[op] &&
                         (op > RMS || found.cluster == cases[i].cluster), "%s: %lld features, %d pieces, %d blocks", names[op],
                         (long long)cases[i].features, found.pieces, found.cluster) && good;
        }
    return good;
}

/* How long rows are shared in a VJP follows features, types and the architecture alone; without clusters they are read again. */
static bool long_rows(int major) {
    static const struct {
        const invar_dtype *dtype;
        int64_t features, step;
        int cluster, pieces;              /* of rms_norm_vjp; */
        int group, own_cluster, own_pieces; /* of layer_norm_vjp */
    } cases[] = {
        { &check_bf16, 16384, 1, 1, 4, 512, 1, 4 }, { &check_bf16, 16392, 1, 2, 3, 256, 4, 3 },
        { &check_bf16, 32768, 1, 2, 4, 256, 4, 4 }, { &check_bf16, 32776, 1, 4, 3, 256, 8, 3 },
        { &check_bf16, 65544, 1, 8, 3, 512, 8, 3 }, { &check_bf16, 131072, 1, 8, 4, 512, 8, 4 },
        { &check_bf16, 131080, 1, 1, 0, 512, 1, 0 }, { &check_bf16, 32768, 2, 2, 0, 256, 4, 0 },
        { &check_f32, 16384, 1, 1, 8, 512, 1, 8 },  { &check_f32, 16388, 1, 4, 3, 256, 8, 3 },
        { &check_f32, 32768, 3, 4, 4, 256, 8, 4 },  { &check_f32, 65536, 1, 8, 4, 512, 8, 4 },
        { &check_f32, 131072, 1, 8, 8, 512, 8, 8 },
    };
    bool good = true;
    setenv("FAKE_CUDA_CAPABILITY", major < 9 ? "8.0" : "9.0", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int op = RMS_VJP; op < OPS; op++) {
            const bool shared = major >= 9, own = shared && op == LAYER_VJP;
            const int compiled = fake_nvrtc.compiled, cluster = own ? cases[i].own_cluster : shared ? cases[i].cluster : 1;
            const int pieces = !shared && cases[i].features > 16384 ? 0 : own ? cases[i].own_pieces : cases[i].pieces;
            call c;
            begin(&c, (enum op)op, *cases[i].dtype, 2, cases[i].features, cases[i].step);
            good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launch[0].grid[0] == 2u * cluster, "%lld features, %u blocks",
                                              (long long)cases[i].features, fake_cuda.launch[0].grid[0]) && good;
            if (fake_nvrtc.compiled == compiled + 1) /* else not anew, or norm_merge.cu last */
                good = CHECK(word("-DCLUSTER=") == cluster && word("-DPIECES=") == pieces &&
                             word("-DGROUP=") == (own ? cases[i].group : 512), "%s", fake_nvrtc.options) && good;
            end(&c);
        }
    return good;
}
static bool long_rows_in_clusters(void) { return long_rows(9); }
static bool long_rows_without(void) { return long_rows(8); }

/* A plan says what a launch does, and its workspace is used as it is, or refused. */
static bool plans_and_workspaces(void) {
    bool good = true;
    for (int op = RMS; op < OPS; op++) {
        call c;
        invar_plan plan = { .size = sizeof plan };
        char kernel[64];
        begin(&c, (enum op)op, check_bf16, 100, 768, 1);
        c.options.execution.plan = &plan;
        snprintf(kernel, sizeof kernel, "%s.cuda.sm_90", names[op]);
        good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches && !fake_cuda.allocated, "a plan computes") && good;
        good = CHECK(!strcmp(plan.kernel, kernel) && *plan.reason && !strcmp(plan.arithmetic, "float32"), "%s, %s", plan.kernel,
                     plan.reason) && good;
        good = CHECK(plan.flops > 0 && plan.bytes >= 100 * 768 * 2 * 2 && (plan.workspace > 0) == (op >= RMS_VJP), "%g, %zu",
                     plan.bytes, plan.workspace) && good;
        c.options.execution.plan = NULL;
        if (op >= RMS_VJP) {
            void *memory = c.options.execution.workspace = aligned_alloc(64, plan.workspace);
            invar_cuda_norm_merge_job merge;
            c.options.execution.workspace_size = plan.workspace - 1;
            good = CHECK_FAILS(run(&c), INVAR_ERROR_MEMORY, "execution.workspace_size") && good;
            c.options.execution.workspace = (char *)memory + 4;
            good = CHECK_FAILS(run(&c), INVAR_ERROR_VALUE, "execution.workspace") && good;
            c.options.execution.workspace = memory;
            c.options.execution.workspace_size = plan.workspace;
            good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.allocated, "scratch beside the workspace") && good;
            memcpy(&merge, fake_cuda.launch[1].job, sizeof merge);
            good = CHECK(merge.partial == memory, "the scratch is elsewhere") && good;
            free(memory);
        }
        good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launch[0].grid[0] == plan.tasks, "%u blocks, %lld planned",
                                          fake_cuda.launch[0].grid[0], (long long)plan.tasks) && good;
        end(&c);
    }
    return good;
}

static invar_status run_again(void *c) { return run(c); }

static bool each_failure(void) {
    call c;
    begin(&c, LAYER_VJP, check_f32, 50, 300, 1);
    bool good = CHECK_OK(run(&c));
    good = good && fails_cleanly(run_again, &c, 3);
    end(&c);
    return good;
}

/* Nothing to compute, nothing launched; what CUDA devices do not take is refused by name. */
static bool limits(void) {
    bool good = true;
    call c;
    for (int op = RMS; op < OPS; op++) {
        begin(&c, (enum op)op, check_f32, op >= RMS_VJP ? 3 : 0, op >= RMS_VJP ? 0 : 8, 1);
        good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches, "%s: %d launches", names[op], fake_cuda.launches) && good;
        end(&c);
        begin(&c, (enum op)op, check_f64, 3, 8, 1);
        good = CHECK_FAILS(run(&c), INVAR_ERROR_DTYPE, ": x: expected float32, float16 or bfloat16 on a CUDA device, got float64") &&
               good;
        end(&c);
        begin(&c, (enum op)op, check_f32, 3, 8, 1);
        c.weight.tensor.device.id = 1;
        good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX,
                           ": weight: expected a tensor on CUDA device 0, got one on CUDA device 1") &&
               good;
        end(&c);
    }
    return good;
}

/* Rows may be many more than a row of the grid has blocks; in VJPs they may not. */
static bool many_rows(void) {
    const int64_t rows = (int64_t)1 << 40;
    call c;
    begin(&c, RMS, check_f32, 1, 8, 1);
    c.x.shape[0] = c.y.shape[0] = rows;
    c.x.strides[0] = 0;
    c.y.strides[0] = 8;
    void *data = c.y.tensor.data;
    c.y.tensor.data = (void *)((uintptr_t)1 << 52); /* apart from x, and never touched */
    bool good = CHECK_OK(run(&c));
    c.y.tensor.data = data;
    const unsigned *grid = fake_cuda.launch[0].grid, a_block = fake_cuda.launch[0].block[0] / 8; /* rows: 8 threads have one */
    good = CHECK((int64_t)grid[0] * grid[1] * a_block >= rows && grid[1] <= 65535, "%u x %u blocks", grid[0], grid[1]) && good;
    end(&c);
    for (int op = RMS_VJP; op < OPS; op++) {
        begin(&c, (enum op)op, check_f32, 1, 8, 1);
        c.x.shape[0] = c.other.shape[0] = rows;
        c.x.strides[0] = c.other.strides[0] = 0;
        c.options.execution.plan = &(invar_plan){ .size = sizeof(invar_plan) };
        const invar_tensor *dweight = &c.dweight.tensor, *dy = &c.other.tensor, *x = &c.x.tensor, *weight = &c.weight.tensor;
        good = CHECK_FAILS(op == RMS_VJP ? invar_rms_norm_vjp(NULL, NULL, dweight, dy, x, weight, &c.options)
                                         : invar_layer_norm_vjp(NULL, NULL, dweight, NULL, dy, x, weight, NULL, &c.options),
                           INVAR_ERROR_VALUE, ": x: expected at most 1099511627264 rows of 8 features on a CUDA device") && good;
        end(&c);
    }
    return good;
}

static bool no_device(void) {
    call c;
    invar_plan plan = { .size = sizeof plan };
    begin(&c, RMS, check_f32, 3, 8, 1);
    fake_cuda.devices = 0;
    bool good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE, "rms_norm: expected a CUDA device, got none");
    c.options.execution.plan = &plan;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE, "rms_norm: expected a CUDA device, got none") && good;
    end(&c);
    return good;
}

static void all(void) {
    IN_CHILD(rows_are_shared_alike);
    IN_CHILD(chunks);
    IN_CHILD(long_rows_are_held);
    IN_CHILD(long_rows_in_clusters);
    IN_CHILD(long_rows_without);
    IN_CHILD(plans_and_workspaces);
    IN_CHILD(each_failure);
    IN_CHILD(limits);
    IN_CHILD(many_rows);
    IN_CHILD(no_device);
}
static void norms(void) { with_empty_cache(all); }

CHECK_MAIN(CHECK_TEST(norms))
