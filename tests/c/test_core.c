/* Tests of the core: status, contexts, views, threads, the vector layer's conversions. */
#define _GNU_SOURCE
#include "check.h"
#include "core/context.h"
#include "core/machine.h"
#include "core/tensor.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void status_names(void) {
    CHECK(!strcmp(invar_status_name(INVAR_ERROR_VALUE), "INVAR_ERROR_VALUE"), "%s", invar_status_name(INVAR_ERROR_VALUE));
    CHECK(!strcmp(invar_status_name((invar_status)999), "unknown status"), "%s", invar_status_name((invar_status)999));
    CHECK(!strcmp(invar_version(), "0.1.0"), "%s", invar_version());
}

static void context_options(void) {
    invar_context *context = NULL;
    invar_context_options options = INVAR_CONTEXT_OPTIONS_INIT;
    CHECK_FAILS(invar_context_create(NULL, NULL), INVAR_ERROR_NULL, "context");
    options.size = 4;
    CHECK_FAILS(invar_context_create(&context, &options), INVAR_ERROR_VALUE, "options.size: expected 8 to");
    options.size = sizeof options;
    options.num_threads = -1;
    CHECK_FAILS(invar_context_create(&context, &options), INVAR_ERROR_VALUE, "num_threads");
    options.num_threads = 2;
    options.cpu = "z80";
    CHECK_FAILS(invar_context_create(&context, &options), INVAR_ERROR_ENVIRONMENT, "z80");
    options.cpu = "reference";
    if (!CHECK_OK(invar_context_create(&context, &options))) return;
    invar_context_description description = INVAR_CONTEXT_DESCRIPTION_INIT;
    CHECK_OK(invar_context_info(context, &description));
    CHECK(!strcmp(description.cpu, "reference") && description.num_threads == 2, "%s", description.cpu);
    CHECK_FAILS(invar_context_set_num_threads(context, 0), INVAR_ERROR_VALUE, "num_threads");
    CHECK_OK(invar_context_set_num_threads(context, 7));
    CHECK_OK(invar_context_info(context, &description));
    CHECK(description.num_threads == 7, "%d", description.num_threads);
    for (size_t wrong = 4; wrong; wrong = wrong == 4 ? sizeof description + 8 : 0) {
        description.size = wrong;
        CHECK_FAILS(invar_context_info(context, &description), INVAR_ERROR_VALUE, "description.size: expected 8 to");
    }
    CHECK_FAILS(invar_context_info(context, NULL), INVAR_ERROR_NULL, "description");
    invar_context_destroy(context);
    invar_context_destroy(NULL);
}

/* So many bytes for each of four threads are 2^64 in all. */
static void scratch_beyond_all_addresses_is_refused(void) {
    invar_context *context = check_context(NULL, 4);
    const invar_execution execution = INVAR_EXECUTION_INIT;
    invar_run run;
    bool planned;
    CHECK_FAILS(invar_run_begin(&run, context, &execution, 4, 0, (size_t)1 << 62, "op", &planned), INVAR_ERROR_MEMORY, "op: out of");
    CHECK_FAILS(invar_run_begin(&run, context, &execution, 2, (size_t)1 << 63, (size_t)1 << 62, "op", &planned),
                INVAR_ERROR_MEMORY, "op: out of");
    invar_context_destroy(context);
}

static void environment_is_honoured_or_an_error(void) {
    invar_context *context = NULL;
    setenv("INVAR_CPU", "pdp11", 1);
    CHECK_FAILS(invar_context_create(&context, NULL), INVAR_ERROR_ENVIRONMENT, "INVAR_CPU");
    setenv("INVAR_CPU", "reference", 1);
    const char *const wrong[] = { "3x", "0", "-1", "1025" };
    for (int i = 0; i < 4; i++) {
        setenv("INVAR_NUM_THREADS", wrong[i], 1);
        CHECK_FAILS(invar_context_create(&context, NULL), INVAR_ERROR_ENVIRONMENT, "INVAR_NUM_THREADS");
    }
    setenv("INVAR_NUM_THREADS", "1024", 1);
    if (CHECK_OK(invar_context_create(&context, NULL))) invar_context_destroy(context);
    setenv("INVAR_NUM_THREADS", "3", 1);
    if (CHECK_OK(invar_context_create(&context, NULL))) {
        invar_context_description description = INVAR_CONTEXT_DESCRIPTION_INIT;
        CHECK_OK(invar_context_info(context, &description));
        CHECK(!strcmp(description.cpu, "reference") && description.num_threads == 3, "%s, %d", description.cpu,
              description.num_threads);
        invar_context_destroy(context);
    }
    unsetenv("INVAR_CPU");
    unsetenv("INVAR_NUM_THREADS");
}

struct counted {
    _Atomic int64_t done[1000];
    invar_pool *pool;
};

static void count(void *argument, int64_t i) { ((struct counted *)argument)->done[i]++; }

static void nest(void *argument, int64_t i) {
    (void)i;
    invar_pool_run(((struct counted *)argument)->pool, 4, 1000, false, count, argument);
}

static void *run_many(void *argument) {
    for (int i = 0; i < 50; i++) invar_pool_run(((struct counted *)argument)->pool, 4, 1000, i % 2, count, argument);
    return NULL;
}

static bool all_done(const struct counted *counted, int64_t times) {
    for (int i = 0; i < 1000; i++)
        if (!CHECK(counted->done[i] == times, "task %d ran %lld times, not %lld", i, (long long)counted->done[i],
                   (long long)times))
            return false;
    return true;
}

static void pool_runs_every_task_once(void) {
    struct counted counted = { .pool = invar_pool_create(4) };
    for (int i = 0; i < 200; i++) invar_pool_run(counted.pool, 4, 1000, i % 2, count, &counted);
    all_done(&counted, 200);
    invar_pool_resize(counted.pool, 2);
    invar_pool_run(counted.pool, 4, 1000, true, count, &counted);
    invar_pool_run(counted.pool, 4, 8, true, nest, &counted); /* from its own tasks: alone, and no deadlock */
    all_done(&counted, 209);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, run_many, &counted);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    all_done(&counted, 359);
    invar_pool_resize(counted.pool, 5);
    for (int tasks = 0; tasks < 40; tasks++) { /* parts that are not all of one length, or empty */
        invar_pool_run(counted.pool, 5, tasks, true, count, &counted);
        for (int i = 0; i < 40; i++)
            CHECK(counted.done[i] == 359 + (i < tasks ? tasks - i : 0), "task %d of %d", i, tasks);
    }
    invar_pool_destroy(counted.pool);
}

static void note_processors(void *argument, int64_t i) {
    cpu_set_t own;
    int *least = argument;
    usleep(100); /* long enough for the workers to be awake */
    (void)i;
    if (!sched_getaffinity(0, sizeof own, &own) && CPU_COUNT(&own) < __atomic_load_n(least, __ATOMIC_RELAXED))
        __atomic_store_n(least, CPU_COUNT(&own), __ATOMIC_RELAXED);
}

/* A sleeping worker is kept off the caller's processor only until it wakes. */
static void pool_restores_affinity(void) {
    cpu_set_t own;
    CHECK(!sched_getaffinity(0, sizeof own, &own), "sched_getaffinity: %s", strerror(errno));
    invar_pool *pool = invar_pool_create(4);
    int least = CPU_COUNT(&own);
    for (int i = 0; i < 100; i++) {
        invar_pool_run(pool, 4, 8, i % 2, note_processors, &least);
        usleep(200); /* long enough for the workers to sleep */
    }
    CHECK(least == CPU_COUNT(&own), "a task ran on a thread that may use %d of %d processors", least, CPU_COUNT(&own));
    invar_pool_destroy(pool);
}

static void pool_survives_fork(void) {
#ifdef __SANITIZE_THREAD__
    check_skip("ThreadSanitizer does not start threads in a forked child");
    return;
#endif
    if (getenv("CHECK_EMULATED")) {
        check_skip("qemu-user cannot start threads in a forked child");
        return;
    }
    struct counted counted = { .pool = invar_pool_create(3) };
    invar_pool_run(counted.pool, 3, 1000, true, count, &counted);
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* a hang is a failure, not a wait */
        invar_pool_run(counted.pool, 3, 1000, true, count, &counted);
        invar_pool_destroy(counted.pool);
        _exit(counted.done[999] == 2 ? 0 : 1);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %#x", (unsigned)status);
    invar_pool_run(counted.pool, 3, 1000, true, count, &counted);
    all_done(&counted, 2);
    invar_pool_destroy(counted.pool);
}

static void float_environment_is_set_and_restored(void) {
    invar_float_environment mine = invar_float_environment_set();
#if defined(__SSE2__)
    const invar_float_environment odd = 0x1f80 | 0x8040 | 0x6000; /* flush, denormals as zero, towards zero */
#else
    const invar_float_environment odd = 0x1c00000; /* the same in FPCR */
#endif
    invar_float_environment_restore(odd);
    CHECK(invar_float_environment_set() == odd, "the caller's environment was not the one returned");
    volatile float tiny = 0x1p-140f;
    CHECK(tiny * 1.0f > 0, "denormals are flushed in a task's environment");
    invar_float_environment_restore(mine);
}

static invar_status view_status(const invar_tensor *tensor) {
    invar_view view;
    invar_device cpu = { INVAR_DEVICE_CPU, 0 };
    return invar_view_init_float_on(&cpu, &view, tensor, "op", "x");
}

static void bad_tensors_are_refused(void) {
    check_array a;
    check_array_init(&a, check_f32, CHECK_SHAPE(4, 8));
    invar_tensor *t = &a.tensor, good = *t;
    CHECK_OK(view_status(t));
    CHECK_FAILS(view_status(NULL), INVAR_ERROR_NULL, "op: x");
#define BAD(change, status, word)                  \
    do {                                           \
        *t = good;                                 \
        change;                                    \
        CHECK_FAILS(view_status(t), status, word); \
    } while (0)
    BAD(t->ndim = 9, INVAR_ERROR_VALUE, "rank");
    BAD(t->ndim = -1, INVAR_ERROR_VALUE, "rank");
    BAD(t->shape = NULL, INVAR_ERROR_NULL, "shape");
    BAD(t->data = NULL, INVAR_ERROR_NULL, "data");
    BAD(t->byte_offset = 2, INVAR_ERROR_VALUE, "aligned");
    BAD(t->byte_offset = UINT64_MAX - 3, INVAR_ERROR_VALUE, "byte_offset within");
    BAD(t->device.type = INVAR_DEVICE_CUDA, INVAR_ERROR_DEVICE_MIX, "CPU");
    BAD(t->dtype = check_i32, INVAR_ERROR_DTYPE, "int32");
    BAD(t->dtype.lanes = 2, INVAR_ERROR_DTYPE, "lane");
    BAD(t->dtype.bits = 4, INVAR_ERROR_DTYPE, "4 bits");
    BAD((t->dtype.code = INVAR_COMPLEX, t->dtype.bits = 8), INVAR_ERROR_DTYPE, "8 bits"); /* parts of half a byte */
    int64_t negative[] = { 4, -8 }, huge[] = { INT64_MAX / 2, 16 }, far[] = { INT64_MAX / 2, 1 }, least[] = { INT64_MIN, 1 };
    BAD(t->shape = negative, INVAR_ERROR_VALUE, "-8");
    BAD((t->shape = huge, t->strides = NULL), INVAR_ERROR_VALUE, "63 bits");
    BAD(t->strides = far, INVAR_ERROR_VALUE, "63 bits");
    BAD(t->strides = least, INVAR_ERROR_VALUE, "63 bits");
    int64_t two[] = { 2, 1 }, edge[] = { INT64_MAX / 4, 1 };
    BAD((t->shape = two, t->strides = edge), INVAR_ERROR_VALUE, "63 bits"); /* the last element ends at 2^63 bytes */
    edge[0]--;
    *t = good;
    t->shape = two, t->strides = edge;
    CHECK_OK(view_status(t));
    int64_t empty[] = { 0, (int64_t)1 << 50 };
    *t = good;
    t->shape = empty, t->strides = NULL, t->data = NULL;
    CHECK_OK(view_status(t));
    empty[1]++;
    CHECK_FAILS(view_status(t), INVAR_ERROR_VALUE, "2^50 elements"); /* other code multiplies the sizes of empty tensors too */
    *t = good;
    check_array_free(&a);
}

static void overlaps(void) {
    float memory[64];
    int64_t shape[] = { 4, 4 }, overlapping[] = { 3, 1 }, broadcast[] = { 0, 1 },
            transposed[] = { 1, 4 }, backwards[] = { -4, 1 };
    invar_tensor t = { memory + 16, { INVAR_DEVICE_CPU, 0 }, 2, check_f32, shape, NULL, 0 };
    invar_view a, b;
    invar_device cpu = { INVAR_DEVICE_CPU, 0 };
    const struct {
        int64_t *strides;
        bool self;
    } layouts[] = { { NULL, false }, { overlapping, true }, { broadcast, true }, { transposed, false }, { backwards, false } };
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        t.strides = layouts[i].strides;
        CHECK_OK(invar_view_init_on(&cpu, &a, &t, "op", "a"));
        CHECK(invar_view_self_overlaps(&a) == layouts[i].self, "layout %zu", i);
    }
    t.strides = NULL;
    invar_view_init_on(&cpu, &a, &t, "op", "a");
    t.data = memory + 32;
    invar_view_init_on(&cpu, &b, &t, "op", "b");
    CHECK(!invar_view_overlaps(&a, &b) && !invar_view_overlaps(&b, &a), "neighbours share nothing");
    t.data = memory + 31;
    invar_view_init_on(&cpu, &b, &t, "op", "b");
    CHECK(invar_view_overlaps(&a, &b) && !invar_view_identical(&a, &b), "one element is shared");
    t.strides = backwards; /* from 12 elements before data to 4 behind it */
    for (int shared = 0; shared < 2; shared++) {
        t.data = memory + 44 - shared;
        invar_view_init_on(&cpu, &b, &t, "op", "b");
        CHECK(invar_view_overlaps(&a, &b) == shared, "backwards, %d elements are shared", shared);
    }
}

static void halves_convert_exactly(void) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float f16 = invar_float_from_f16((uint16_t)bits), bf16 = invar_float_from_bf16((uint16_t)bits);
        if (f16 == f16) CHECK(invar_f16_from_float(f16) == bits, "f16 %#x", bits);
        if (bf16 == bf16) CHECK(invar_bf16_from_float(bf16) == bits, "bf16 %#x", bits);
    }
    uint16_t half;
    invar_store_float(&half, INVAR_F16, 1.0 + 0x1p-11 + 0x1p-40); /* a float would round to the tie, and that to even */
    CHECK(half == 0x3c01, "rounded twice: %#x", half);
    invar_store_float(&half, INVAR_BF16, 1.0 + 0x1p-8 + 0x1p-40);
    CHECK(half == 0x3f81, "rounded twice: %#x", half);
}

/* All of a small last cache, 4 MiB a thread of a large one, 32 at least; 32 where the system tells nothing. */
static void threads_count_on_a_part_of_the_last_cache(void) {
    const int64_t mib = 1 << 20, l3[] = { 1, 8 * mib, 32 * mib, 260 * mib, 480 * mib, 0 };
    const int64_t of_1[] = { 1, 8 * mib, 32 * mib, 32 * mib, 32 * mib, 32 * mib };
    const int64_t of_16[] = { 1, 8 * mib, 32 * mib, 64 * mib, 64 * mib, 32 * mib };
    for (int i = 0; i < 6; i++) {
        const invar_context_description machine = { .l3_bytes = l3[i] };
        CHECK(invar_machine_cached(&machine, 1) == of_1[i], "%d", i);
        CHECK(invar_machine_cached(&machine, 2) == of_1[i], "%d", i);
        CHECK(invar_machine_cached(&machine, 16) == of_16[i], "%d", i);
    }
}

static void roofs_are_measured(void) {
    invar_roofs roofs = INVAR_ROOFS_INIT;
    CHECK_OK(invar_context_measure(NULL, &roofs));
    CHECK(roofs.read > 1e6 && roofs.copy > 1e6 && roofs.float32 > 1e6 && roofs.bfloat16 > 1e6 && roofs.float64 > 1e6,
          "%g %g %g %g %g", roofs.read, roofs.copy, roofs.float32, roofs.bfloat16, roofs.float64);
    roofs.size = 8;
    CHECK(invar_context_measure(NULL, &roofs) == INVAR_ERROR_VALUE && roofs.size == 8, "%zu", roofs.size);
    CHECK(invar_context_measure(NULL, NULL) == INVAR_ERROR_NULL, "NULL was taken");
}

CHECK_MAIN(CHECK_TEST(status_names), CHECK_TEST(context_options), CHECK_TEST(scratch_beyond_all_addresses_is_refused),
           CHECK_TEST(environment_is_honoured_or_an_error),
           CHECK_TEST(pool_runs_every_task_once), CHECK_TEST(pool_restores_affinity), CHECK_TEST(pool_survives_fork),
           CHECK_TEST(float_environment_is_set_and_restored), CHECK_TEST(bad_tensors_are_refused), CHECK_TEST(overlaps),
           CHECK_TEST(halves_convert_exactly), CHECK_TEST(threads_count_on_a_part_of_the_last_cache),
           CHECK_TEST(roofs_are_measured))
