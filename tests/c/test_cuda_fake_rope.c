/* rope's launches on a pretended GPU: what a block turns never depends on the batch, offsets and freqs come from either side, and
 * what CUDA devices do not take is refused by name. */
#define _GNU_SOURCE
#include "fake_case.h"

#include "cuda/device/rope_job.h"

#include <string.h>

enum { LENGTH = 300, FEATURES = 160, DIMS = 128, PAIRS = DIMS / 2 };
static const invar_device gpu = { INVAR_DEVICE_CUDA, 0 };

typedef struct call {
    check_array x, y, offset, freqs;
    bool has_offset, has_freqs;
    invar_rope_options options;
} call;

static void begin(call *c, invar_dtype dtype, int64_t batch, int64_t heads, int64_t length, int64_t features) {
    memset(c, 0, sizeof *c);
    check_array_init(&c->x, dtype, CHECK_SHAPE(batch, heads, length, features));
    check_array_init(&c->y, dtype, CHECK_SHAPE(batch, heads, length, features));
    c->x.tensor.device = c->y.tensor.device = gpu;
    c->options = (invar_rope_options)INVAR_ROPE_OPTIONS_INIT;
    c->options.dims = DIMS;
    c->options.execution.stream = STREAM;
    fake_cuda_reset();
    fake_cuda.job_bytes = sizeof(invar_cuda_rope_job);
}

static void with_offsets(call *c, invar_dtype dtype, int64_t n) {
    c->has_offset = true;
    check_array_init(&c->offset, dtype, CHECK_SHAPE(n));
    for (int64_t i = 0; i < n; i++) check_set(&c->offset.tensor, i, (double)(1000 * i - 7));
}

static void with_freqs(call *c, int64_t n) {
    c->has_freqs = true;
    c->options.base = 0;
    check_array_init(&c->freqs, check_f32, CHECK_SHAPE(n));
    for (int64_t i = 0; i < n; i++) check_set(&c->freqs.tensor, i, (double)(1 + i));
}

static invar_status run(call *c) {
    return invar_rope(NULL, &c->y.tensor, &c->x.tensor, c->has_offset ? &c->offset.tensor : NULL,
                      c->has_freqs ? &c->freqs.tensor : NULL, &c->options);
}

static void end(call *c) {
    check_array_free(&c->x), check_array_free(&c->y);
    if (c->has_offset) check_array_free(&c->offset);
    if (c->has_freqs) check_array_free(&c->freqs);
}

static invar_cuda_rope_job job_of(int launch) {
    invar_cuda_rope_job job;
    memcpy(&job, fake_cuda.launch[launch].job, sizeof job);
    return job;
}

/* Every cell of a row of every slice is in exactly one block's share, and a block has a thread for each cell it takes at once. */
static bool covers(const invar_cuda_rope_job *job, const fake_launch *launch, int64_t batches, int64_t slices) {
    const int cells = job->width * job->positions;
    return CHECK(job->slices == slices && launch->grid[0] == (uint64_t)job->chunks * job->tiles * job->groups * (uint64_t)batches,
                 "%lld slices, %u blocks", job->slices, launch->grid[0]) &&
           CHECK((int64_t)job->chunks * job->width >= job->lanes && (int64_t)job->tiles * job->positions >= job->length &&
                 (int64_t)job->groups * job->group >= slices, "a part of x is in no block") &&
           CHECK(cells * job->at_once <= (int)launch->block[0] && launch->block[0] <= INVAR_CUDA_ROPE_THREADS, "%d cells, %u threads",
                 cells * job->at_once, launch->block[0]) &&
           CHECK(launch->stream == STREAM && !strcmp(launch->function, "invar_rope"), "%s", launch->function);
}

static bool launches(void) {
    const invar_dtype dtypes[] = { check_f32, check_f16, check_bf16 };
    const struct {
        int64_t batch, heads, length, features;
    } shapes[] = { { 1, 32, 1, 128 }, { 4, 8, 300, 160 }, { 2, 3, 5, 131 }, { 300, 2, 7, 8192 }, { 1, 1, 1, 130 } };
    bool good = true;
    for (int t = 0; t < 3; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            call c;
            begin(&c, dtypes[t], shapes[i].batch, shapes[i].heads, shapes[i].length, shapes[i].features);
            good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 1, "%d launches", fake_cuda.launches) && good;
            const invar_cuda_rope_job job = job_of(0);
            good = covers(&job, &fake_cuda.launch[0], 1, shapes[i].batch * shapes[i].heads) &&
                   CHECK(job.turning * 2 <= DIMS && job.ndim <= 1, "%lld lanes turn", job.turning) && good;
            end(&c);
        }
    return good;
}

/* Slices are one dimension where they are in x and in y. */
static bool slices(void) {
    call c;
    begin(&c, check_f32, 4, 8, LENGTH, FEATURES);
    bool good = CHECK_OK(run(&c)) && CHECK(job_of(0).ndim == 1, "%d dimensions", job_of(0).ndim);
    fake_cuda.launches = 0;
    c.y.strides[0] = LENGTH * FEATURES;
    c.y.strides[1] = 4 * LENGTH * FEATURES;
    good = CHECK_OK(run(&c)) && CHECK(job_of(0).ndim == 2 && job_of(0).slices == 32, "%d dimensions", job_of(0).ndim) && good;
    end(&c);
    begin(&c, check_bf16, 2, 3, 5, DIMS); /* rows of y that begin at multiples of 8 bytes, in the room of twice as many */
    c.x.shape[0] = c.y.shape[0] = 1;
    c.y.strides[2] = DIMS + 4;
    c.y.strides[1] = 5 * (DIMS + 4) + 4;
    good = CHECK_OK(run(&c)) && CHECK(job_of(0).turning * 4 == PAIRS, "%lld lanes", job_of(0).turning) && good;
    end(&c);
    return good;
}

/* Accesses are as wide as every row allows. */
static bool widths(void) {
    const struct {
        int64_t features, dims;
        int byte_offset;
        const char *words;
    } cases[] = { { 128, 128, 0, "ELEMENTS=8" }, { 160, 128, 0, "ELEMENTS=8" }, { 136, 24, 0, "ELEMENTS=4" },
                  { 132, 128, 0, "ELEMENTS=4" }, { 130, 128, 0, "ELEMENTS=2" }, { 131, 128, 0, "ELEMENTS=1" },
                  { 128, 128, 8, "ELEMENTS=4" }, { 128, 126, 0, "ELEMENTS=1" } };
    bool good = true;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        call c;
        begin(&c, check_bf16, 2, 3, 5, cases[i].features);
        c.options.dims = cases[i].dims;
        c.y.tensor.byte_offset = (size_t)cases[i].byte_offset;
        c.y.shape[0] = 1;
        c.x.shape[0] = 1;
        fake_nvrtc.options[0] = 0;
        good = CHECK_OK(run(&c)) && good;
        const int64_t pieces = job_of(0).turning * (cases[i].words[9] - '0');
        good = CHECK(pieces == cases[i].dims / 2, "case %zu: %lld pairs for %s", i, (long long)pieces, cases[i].words) && good;
        if (fake_nvrtc.options[0]) good = CHECK(strstr(fake_nvrtc.options, cases[i].words), "%s", fake_nvrtc.options) && good;
        end(&c);
    }
    return good;
}

/* Offsets on the device are passed as they lie; those on the CPU travel in the launches, 128 batches each. */
static bool offsets(void) {
    call c;
    begin(&c, check_f32, 300, 2, 3, DIMS);
    with_offsets(&c, check_i32, 300);
    bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 3, "%d launches", fake_cuda.launches);
    for (int i = 0; i < 3 && good; i++) {
        const invar_cuda_rope_job job = job_of(i);
        const int64_t batches = i < 2 ? INVAR_CUDA_ROPE_OFFSETS : 300 - 2 * INVAR_CUDA_ROPE_OFFSETS;
        good = covers(&job, &fake_cuda.launch[i], batches, 2) &&
               CHECK(job.first_batch == i * INVAR_CUDA_ROPE_OFFSETS && !job.offsets.data && job.each_element, "%lld", job.first_batch);
        for (int64_t b = 0; b < batches && good; b++)
            good = CHECK(job.element[b] == 1000 * (job.first_batch + b) - 7, "%lld", job.element[b]);
    }
    fake_cuda.launches = 0;
    c.offset.tensor.device = gpu;
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 1, "%d launches", fake_cuda.launches) && good;
    const invar_cuda_rope_job job = job_of(0);
    good = covers(&job, &fake_cuda.launch[0], 300, 2) &&
           CHECK(job.offsets.data == c.offset.tensor.data && job.offsets.stride == 4 && job.offsets.bits == 32, "elsewhere") && good;
    end(&c);
    return good;
}

/* More than 128 pairs take several launches, the last of which copies the rest; all pairs are in one of them, once. */
static bool many_pairs(void) {
    call c;
    begin(&c, check_f32, 1, 2, 3, 900);
    c.options.dims = 600;
    with_freqs(&c, 300);
    bool good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launches == 3, "%d launches", fake_cuda.launches);
    for (int i = 0; i < 3 && good; i++) {
        const invar_cuda_rope_job job = job_of(i);
        good = covers(&job, &fake_cuda.launch[i], 1, 2) &&
               CHECK(job.first_lane == 32 * i && !job.freqs.data, "%lld", job.first_lane) &&
               CHECK(job.lanes - job.turning == (i == 2 ? job.copiers : 0), "%lld lanes", job.lanes);
        for (int64_t k = 0; k < job.turning && good; k++) /* scale / freqs · 2/π */
            good = CHECK_CLOSE(&((invar_tensor){ .data = (void *)&job.high[k], .dtype = check_f64, .ndim = 0 }),
                               &((double){ 0.63661977236758134308 / (double)(1 + 4 * (job.first_lane + k)) }), 0, 1e-15, "frequency");
    }
    fake_cuda.launches = 0;
    c.freqs.tensor.device = gpu;
    good = CHECK_OK(run(&c)) && CHECK(job_of(0).freqs.data == c.freqs.tensor.data && job_of(0).freqs.stride == 4, "freqs") && good;
    end(&c);
    return good;
}

/* In place, what would be copied is there already. */
static bool in_place(void) {
    call c;
    begin(&c, check_bf16, 2, 2, 3, FEATURES);
    bool good = CHECK_OK(invar_rope_vjp(NULL, &c.x.tensor, &c.x.tensor, NULL, NULL, &c.options)) &&
                CHECK(fake_cuda.launches == 1, "%d launches", fake_cuda.launches);
    good = CHECK(!job_of(0).copied && job_of(0).inverse, "%lld pieces are copied", job_of(0).copied) && good;
    end(&c);
    return good;
}

static bool plan_and_limits(void) {
    call c;
    invar_plan plan = INVAR_PLAN_INIT;
    begin(&c, check_bf16, 2, 4, LENGTH, FEATURES);
    c.options.execution.plan = &plan;
    c.options.execution.workspace = (void *)64; /* of the device: not to be read */
    bool good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches && !plan.workspace && plan.tasks > 0, "%s", plan.reason) &&
                CHECK(strstr(plan.kernel, "rope.cuda") && plan.bytes == 2.0 * 2 * 4 * LENGTH * FEATURES * 2, "%s", plan.kernel);
    const int64_t tasks = plan.tasks;
    c.options.execution.plan = NULL;
    good = CHECK_OK(run(&c)) && CHECK(fake_cuda.launch[0].grid[0] == tasks && !fake_cuda.allocated, "%lld", (long long)tasks) && good;
    with_offsets(&c, check_i64, 2);
    with_freqs(&c, PAIRS);
    c.offset.tensor.device.type = INVAR_DEVICE_CUDA, c.offset.tensor.device.id = 1;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "rope: offset: expected a tensor on CUDA device 0") &&
           good;
    c.offset.tensor.device = gpu;
    c.freqs.tensor.device.type = INVAR_DEVICE_CUDA, c.freqs.tensor.device.id = 1;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "rope: freqs") && good;
    c.freqs.tensor.device = gpu;
    good = CHECK_OK(run(&c)) && good;
    c.y.tensor.device.type = INVAR_DEVICE_CPU;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "rope: y") && good;
    c.x.tensor.device.type = INVAR_DEVICE_CPU;
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DEVICE_MIX, "rope: offset: expected a tensor on the CPU") && good;
    end(&c);
    begin(&c, check_f64, 1, 1, 2, DIMS);
    good = CHECK_FAILS(run(&c), INVAR_ERROR_DTYPE, "rope: x: expected float32, float16 or bfloat16 on a CUDA device") && good;
    good = CHECK_FAILS(invar_rope_vjp(NULL, &c.y.tensor, &c.x.tensor, NULL, NULL, &c.options), INVAR_ERROR_DTYPE, "rope_vjp: dy") &&
           good;
    end(&c);
    begin(&c, check_f32, 0, 2, 3, DIMS);
    with_offsets(&c, check_i64, 1);
    c.options.execution.plan = &plan;
    good = CHECK_OK(run(&c)) && good;
    c.options.execution.plan = NULL;
    good = CHECK_OK(run(&c)) && CHECK(!fake_cuda.launches, "%d launches of nothing", fake_cuda.launches) && good;
    end(&c);
    return good;
}

static bool each_failure(void) {
    static const char *const functions[] = { "cuLaunchKernel", "cuCtxPushCurrent_v2" };
    call c;
    begin(&c, check_f32, 300, 1, 2, DIMS);
    with_offsets(&c, check_i64, 300);
    bool good = CHECK_OK(run(&c));
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < 3; i++) {
            fake_cuda_fail(functions[f], i, FAKE_OUT_OF_MEMORY);
            good = CHECK_FAILS(run(&c), INVAR_ERROR_MEMORY, "rope") && CHECK(!fake_cuda.contexts, "a context is left") && good;
            fake_cuda.failing[0] = 0;
        }
    good = CHECK_OK(run(&c)) && good;
    end(&c);
    return good;
}

static void all(void) {
    IN_CHILD(launches);
    IN_CHILD(widths);
    IN_CHILD(slices);
    IN_CHILD(offsets);
    IN_CHILD(many_pairs);
    IN_CHILD(in_place);
    IN_CHILD(plan_and_limits);
    IN_CHILD(each_failure);
}
static void rope(void) { with_empty_cache(all); }

CHECK_MAIN(CHECK_TEST(rope))
