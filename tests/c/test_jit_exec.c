/* The executor: every thread runs once, waits end when they should, and waits that cannot end become errors. */
#define _GNU_SOURCE
#include "check.h"
#include "jit_module.h"

#include "core/context.h"
#include "jit/exec.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const invar_site sites[] = {
    { "", "", 0 },
    { "k.metal", "threadgroup_barrier", 7 },
    { "k.metal", "simd_sum", 9 },
    { "k.metal", "simd_sum", 11 },
    { "k.metal", "atomic_load_explicit", 13 },
};
static invar_shared shared_table[INVAR_MAX_SHARED] = { [3] = { "tile", 4096, 4, { 1024 } }, [5] = { "other", 4, 4, { 1 } } };

static invar_module module_of(uint32_t mode, void (*thread)(const invar_lane *)) {
    return (invar_module){ INVAR_RUNTIME_VERSION, mode, NULL, thread, sites, shared_table, 5 };
}

static invar_status run_with(const invar_module *module, const uint32_t grid[3], const uint32_t threadgroup[3], void *a,
                             void *b, invar_context *context, const invar_execution *execution) {
    jit_launch launch;
    invar_execution none = INVAR_EXECUTION_INIT;
    return invar_exec_run(module, jit_launch_init(&launch, grid, threadgroup, a, b), context,
                          execution ? execution : &none, "metal_kernel", "k");
}
static invar_status run(const invar_module *module, const uint32_t grid[3], const uint32_t threadgroup[3], void *a, void *b) {
    return run_with(module, grid, threadgroup, a, b, NULL, NULL);
}
#define DIM(x, y, z) ((const uint32_t[3]){ x, y, z })

/* ---- every thread once ---------------------------------------------------------------------------------- */

static void count_block(const invar_launch *launch, const invar_block *block) {
    _Atomic int *seen = launch->arrays[0];
    for (uint32_t z = block->begin[2]; z < block->end[2]; z++)
        for (uint32_t y = block->begin[1]; y < block->end[1]; y++)
            for (uint32_t x = block->begin[0]; x < block->end[0]; x++)
                seen[x + launch->grid[0] * ((size_t)y + launch->grid[1] * (size_t)z)]++;
}

static void count_group(const invar_launch *launch, const invar_block *block) {
    _Atomic int *wrong = launch->arrays[1];
    for (int i = 0; i < 3; i++) {
        uint32_t begin = block->group[i] * launch->threadgroup[i], end = begin + launch->threadgroup[i];
        if (end > launch->grid[i]) end = launch->grid[i];
        *wrong += block->begin[i] != begin || block->end[i] != end;
    }
    count_block(launch, block);
}

static void count_thread(const invar_lane *lane) {
    const invar_launch *launch = lane->launch;
    const invar_position *p = &lane->position;
    _Atomic int *seen = launch->arrays[0], *wrong = launch->arrays[1];
    for (int i = 0; i < 3; i++) {
        uint32_t begin = p->group[i] * launch->threadgroup[i], left = launch->grid[i] - begin;
        *wrong += p->grid[i] != begin + p->local[i] || p->local[i] >= p->size[i];
        *wrong += p->size[i] != (left < launch->threadgroup[i] ? left : launch->threadgroup[i]);
    }
    *wrong += p->index != p->local[0] + p->size[0] * (p->local[1] + p->size[1] * p->local[2]);
    *wrong += lane->number != p->index % INVAR_SIMD_WIDTH;
    uint32_t threads = p->size[0] * p->size[1] * p->size[2], first = p->index / 32 * 32;
    *wrong += (uint32_t)lane_sum(lane, 2, 1) != (threads - first < 32 ? threads - first : 32);
    seen[p->grid[0] + launch->grid[0] * ((size_t)p->grid[1] + launch->grid[1] * (size_t)p->grid[2])]++;
}

static const uint32_t shapes[][2][3] = {
    { { 1, 1, 1 }, { 1, 1, 1 } },     { { 5, 1, 1 }, { 256, 1, 1 } }, { { 4097, 1, 1 }, { 256, 1, 1 } },
    { { 70000, 1, 1 }, { 64, 1, 1 } }, { { 33, 7, 5 }, { 8, 4, 2 } },  { { 3, 1000, 4 }, { 2, 16, 3 } },
    { { 1, 1, 700 }, { 1, 1, 64 } },   { { 129, 65, 3 }, { 32, 32, 1 } },
};

static void each_once(const invar_module *module) {
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int threads = 1; threads <= 3; threads += 2) {
            const uint32_t *grid = shapes[s][0];
            size_t count = (size_t)grid[0] * grid[1] * grid[2], bad = 0;
            if (check_few() && count > 5000) continue;
            _Atomic int *seen = calloc(count, sizeof *seen), wrong = 0;
            invar_context *context = check_context(NULL, threads);
            CHECK_OK(run_with(module, grid, shapes[s][1], seen, &wrong, context, NULL));
            for (size_t i = 0; i < count; i++) bad += seen[i] != 1;
            CHECK(!bad, "shape %zu, %d threads: %zu of %zu positions not seen once", s, threads, bad, count);
            CHECK(!wrong, "shape %zu, %d threads: %d positions are wrong", s, threads, (int)wrong);
            invar_context_destroy(context);
            free(seen);
        }
}

static void test_flat(void) { each_once(&(invar_module){ 1, INVAR_MODE_FLAT, count_block, NULL, sites, NULL, 5 }); }
static void test_loop(void) { each_once(&(invar_module){ 1, INVAR_MODE_LOOP, count_group, NULL, sites, NULL, 5 }); }
static void test_simd(void) {
    invar_module module = module_of(INVAR_MODE_SIMD, count_thread);
    each_once(&module);
}
static void test_group(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, count_thread);
    each_once(&module);
}

/* ---- barriers ------------------------------------------------------------------------------------------- */

/* Each thread gives its number to its mirror image, in 9 rounds that a double buffer would need two arrays for. */
static void mirror(const invar_lane *lane) {
    int *tile = (int *)lane->shared[3], *out = lane->launch->arrays[0];
    const invar_position *p = &lane->position;
    uint32_t threads = p->size[0] * p->size[1] * p->size[2];
    int value = (int)p->index;
    for (int round = 0; round < 9; round++) {
        tile[p->index] = value + 1;
        lane_barrier(lane, 1);
        value = tile[threads - 1 - p->index];
        lane_barrier(lane, 1);
    }
    out[p->grid[0]] = value;
}

static void test_barrier(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, mirror);
    static int out[3000];
    const uint32_t count = check_few() ? 300 : 3000;
    for (uint32_t width = 1; width <= 1024; width = width * 2 + 1) {
        CHECK_OK(run(&module, DIM(count, 1, 1), DIM(width, 1, 1), out, NULL));
        for (uint32_t i = 0; i < count; i++) {
            uint32_t begin = i / width * width, size = count - begin < width ? count - begin : width;
            int expected = (int)(size - 1 - (i - begin)) + 9;
            if (!CHECK(out[i] == expected, "width %u, thread %u: %d, expected %d", width, i, out[i], expected)) return;
        }
    }
}

/* A third of the threads leave before the first barrier, a third between two; votes are counted among those that live. */
static void leavers(const invar_lane *lane) {
    int *out = lane->launch->arrays[0];
    uint32_t i = lane->position.index;
    out[i] = -1;
    if (i % 3 == 0) return;
    uint32_t first = lane->runtime->barrier((invar_lane *)lane, 1, INVAR_MEMORY_ALL, i % 2);
    if (i % 3 == 1) {
        out[i] = (int)first;
        return;
    }
    uint32_t second = lane->runtime->barrier((invar_lane *)lane, 1, INVAR_MEMORY_ALL, i > 50);
    out[i] = (int)(first * 1000 + second);
}

static void test_leavers(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, leavers);
    int out[96], first = 0, second = 0;
    CHECK_OK(run(&module, DIM(96, 1, 1), DIM(96, 1, 1), out, NULL));
    for (int i = 0; i < 96; i++) first += i % 3 != 0 && i % 2, second += i % 3 == 2 && i > 50;
    for (int i = 0; i < 96; i++) {
        int expected = i % 3 == 0 ? -1 : i % 3 == 1 ? first : first * 1000 + second;
        CHECK(out[i] == expected, "thread %d: %d, expected %d", i, out[i], expected);
    }
}

/* Deep recursion on every lane of a large group: 200 KiB of each stack, held across a barrier. */
static int deep(const invar_lane *lane, int depth) {
    volatile char frame[1000];
    frame[0] = (char)depth;
    if (depth) return deep(lane, depth - 1) + frame[0] - (char)depth + 1;
    lane_barrier(lane, 1);
    return 0;
}
static void deep_thread(const invar_lane *lane) {
    int *out = lane->launch->arrays[0];
    out[lane->position.index] = deep(lane, 200);
}
static void test_deep_stacks(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, deep_thread);
    int out[1024];
    CHECK_OK(run(&module, DIM(1024, 1, 1), DIM(1024, 1, 1), out, NULL));
    for (int i = 0; i < 1024; i++) CHECK(out[i] == 200, "thread %d: %d", i, out[i]);
}

/* ---- simdgroups ----------------------------------------------------------------------------------------- */

/* The lower half of the lanes meets at site 2, which comes first, then all at 3 but for the lane that has left. */
static void diverge(const invar_lane *lane) {
    int *out = lane->launch->arrays[0], sum = 0;
    if (lane->number == 31) {
        out[31] = -1;
        return;
    }
    if (lane->number < 16) sum = lane_sum(lane, 2, 1);
    out[lane->position.index] = sum * 100 + lane_sum(lane, 3, 1);
}
static void test_divergence(void) {
    for (uint32_t mode = INVAR_MODE_SIMD; mode <= INVAR_MODE_GROUP; mode++) {
        invar_module module = module_of(mode, diverge);
        int out[32];
        CHECK_OK(run(&module, DIM(32, 1, 1), DIM(32, 1, 1), out, NULL));
        for (int i = 0; i < 32; i++) {
            int expected = i == 31 ? -1 : i < 16 ? 1631 : 31;
            CHECK(out[i] == expected, "lane %d: %d, expected %d", i, out[i], expected);
        }
    }
}

/* A simd operation that some lanes reach while the others are at the barrier already. */
static void beside_barrier(const invar_lane *lane) {
    int *out = lane->launch->arrays[0], sum = 0;
    if (lane->number < 5) sum = lane_sum(lane, 3, 1);
    lane_barrier(lane, 1);
    out[lane->position.index] = sum;
}
static void test_beside_barrier(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, beside_barrier);
    int out[64];
    CHECK_OK(run(&module, DIM(64, 1, 1), DIM(64, 1, 1), out, NULL));
    for (int i = 0; i < 64; i++) CHECK(out[i] == (i % 32 < 5 ? 5 : 0), "lane %d: %d", i, out[i]);
}

/* CUDA: two halves with masks of their own loop a different number of times; lane 3 has left, though a mask names it. */
static void masks(const invar_lane *lane) {
    int *out = lane->launch->arrays[0], sum = 0;
    if (lane->number == 3) return;
    bool low = lane->number < 16;
    for (int i = 0; i < (low ? 2 : 5); i++) sum += lane_sum_of(lane, low ? 2 : 3, low ? 0xffff : 0xffff0000, 1);
    lane_sync(lane, 0, 0xffffffff);
    out[lane->number] = sum;
}
static void test_masks(void) {
    invar_module module = module_of(INVAR_MODE_SIMD, masks);
    int out[32] = { 0 };
    CHECK_OK(run(&module, DIM(32, 1, 1), DIM(32, 1, 1), out, NULL));
    for (int i = 0; i < 32; i++) CHECK(out[i] == (i == 3 ? 0 : i < 16 ? 30 : 80), "lane %d: %d", i, out[i]);
}

/* __syncwarp in both branches of an if: two sites, one mask. */
static void two_sites(const invar_lane *lane) {
    int *out = lane->launch->arrays[0];
    if (lane->number)
        lane_sync(lane, 2, 0xffffffff);
    else
        lane_sync(lane, 3, 0xffffffff);
    out[lane->number] = 1;
}
static void test_two_sites(void) {
    invar_module module = module_of(INVAR_MODE_SIMD, two_sites);
    int out[32] = { 0 }, sum = 0;
    CHECK_OK(run(&module, DIM(32, 1, 1), DIM(32, 1, 1), out, NULL));
    for (int i = 0; i < 32; i++) sum += out[i];
    CHECK(sum == 32, "%d lanes went on", sum);
}

/* Round about: no simdgroup is two collectives ahead of another. */
static void in_step(const invar_lane *lane) {
    int *rounds = lane->launch->arrays[0], *ahead = lane->launch->arrays[1];
    uint32_t simd = lane->position.index / 32;
    for (int i = 0; i < 10; i++) {
        lane_sum(lane, 2, 1);
        if (lane->number == 0) rounds[simd]++;
        for (int other = 0; other < 4; other++)
            if (rounds[simd] - rounds[other] > *ahead) *ahead = rounds[simd] - rounds[other];
    }
}
static void test_round_robin(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, in_step);
    int rounds[4] = { 0 }, ahead = 0;
    CHECK_OK(run(&module, DIM(128, 1, 1), DIM(128, 1, 1), rounds, &ahead));
    CHECK(ahead == 1, "a simdgroup was %d collectives ahead", ahead);
}

/* A lane that never waits needs no stack of its own; ones that wait are spread over the sets of a cache. */
static void note_lane(const invar_lane *lane) {
    const invar_lane **lanes = lane->launch->arrays[0];
    lanes[lane->position.index] = lane;
    if (lane->launch->arrays[1]) lane_barrier(lane, 1);
}
static void test_stacks(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, note_lane);
    static const invar_lane *lanes[1024];
    int used[64] = { 0 }, most = 0;
    CHECK_OK(run(&module, DIM(1024, 1, 1), DIM(1024, 1, 1), lanes, NULL));
    for (int i = 1; i < 1024; i++) CHECK(lanes[i] == lanes[0], "thread %d has another stack", i);
    CHECK_OK(run(&module, DIM(1024, 1, 1), DIM(1024, 1, 1), lanes, lanes));
    for (int i = 0; i < 1024; i++) {
        CHECK(invar_lane_of(lanes[i]) == lanes[i], "lane %d is not found from its own address", i);
        int set = (int)((uintptr_t)lanes[i] / 64 % 64);
        if (++used[set] > most) most = used[set];
    }
    CHECK(most <= 32, "%d of 1024 lanes share one of 64 sets", most); /* 16, were all chunks of stacks neighbours */
}

/* ---- waiting for ever ------------------------------------------------------------------------------------ */

/* Lane 0 goes to the barrier while the others wait for it. */
static void deadlock(const invar_lane *lane) {
    if (lane->number == 0) lane_barrier(lane, 1);
    lane_sum_of(lane, 2, 0xffffffff, 1);
}
static void wait_for_zero(const invar_lane *lane) {
    _Atomic int *flag = lane->launch->arrays[0];
    while (lane_load(lane, 4, flag) == 0) {}
}
static void add_for_ever(const invar_lane *lane) {
    _Atomic int *flag = lane->launch->arrays[0];
    while (flag[1] == 0) lane_add(lane, 4, flag, 1);
}
static void barrier_for_ever(const invar_lane *lane) {
    volatile int *stop = lane->launch->arrays[0];
    while (!*stop) lane_barrier(lane, 1);
}
static void sum_for_ever(const invar_lane *lane) {
    _Atomic int *flag = lane->launch->arrays[0];
    while (lane_sum(lane, 3, lane_load(lane, 4, flag)) == 0) {}
}

static void fails_in_groups(uint32_t size, void (*thread)(const invar_lane *), const char *word) {
    invar_exec_limits limits = invar_exec_limit;
    invar_exec_limit = (invar_exec_limits){ 1 << 17, 1 << 21 };
    invar_module module = module_of(INVAR_MODE_GROUP, thread);
    _Atomic int flag[2] = { 0 };
    invar_context *context = check_context(NULL, 2);
    CHECK_FAILS(run_with(&module, DIM(4 * size, 1, 1), DIM(size, 1, 1), flag, NULL, context, NULL), INVAR_ERROR_KERNEL, word);
    CHECK(strstr(invar_last_error(), "metal_kernel: k: k.metal:"), "'%s' names no line", invar_last_error());
    invar_context_destroy(context);
    invar_exec_limit = limits;
}
static void fails(void (*thread)(const invar_lane *), const char *word) { fails_in_groups(50, thread, word); }
/* In a group of one simdgroup, whole or not, its lanes always have one of them that may go on. */
static void fails_in_any_group(void (*thread)(const invar_lane *), const char *word) {
    fails_in_groups(50, thread, word);
    fails_in_groups(32, thread, word);
    fails_in_groups(1, thread, word);
}
static void test_deadlock(void) {
    fails(deadlock, "k.metal:9: simd_sum: thread (1, 0, 0) of group (0, 0, 0) waits for ever: lanes 0x00000001");
}
static void test_spin(void) { fails(wait_for_zero, "k.metal:13: atomic_load_explicit"); }
static void test_work_for_ever(void) { fails_in_any_group(add_for_ever, "for ever"); }
static void test_barrier_for_ever(void) { fails_in_any_group(barrier_for_ever, "k.metal:7: threadgroup_barrier"); }
static void test_sum_for_ever(void) { fails_in_any_group(sum_for_ever, "k.metal"); }

/* The last thread of the group frees those that spin. */
static void freed_group(const invar_lane *lane) {
    _Atomic int *flags = lane->launch->arrays[0];
    uint32_t last = lane->position.size[0] - 1, group = lane->position.group[0];
    if (lane->position.index == last) lane_exchange(lane, 4, &flags[group], 1);
    while (lane_load(lane, 4, &flags[group]) == 0) {}
}
static void test_spin_is_freed(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, freed_group);
    static _Atomic int flags[100];
    memset((void *)flags, 0, sizeof flags);
    CHECK_OK(run(&module, DIM(6400, 1, 1), DIM(64, 1, 1), (void *)flags, NULL));
}

/* A mutex: compare-and-swap in a loop, with work inside. */
static void locked(const invar_lane *lane) {
    _Atomic int *lock = lane->launch->arrays[0];
    int *count = lane->launch->arrays[1], free_lock;
    for (;;) {
        free_lock = 0;
        bool won = atomic_compare_exchange_strong(lock, &free_lock, 1);
        lane_gave(lane, 4, won);
        if (won) break;
    }
    int before = *count;
    for (int i = 0; i < 70; i++) lane_add(lane, 4, lock + 1, 1); /* it gives way while it holds the lock */
    *count = before + 1;
    lane_exchange(lane, 4, lock, 0);
}
static void test_lock(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, locked);
    _Atomic int lock[2] = { 0 };
    int count = 0;
    invar_context *context = check_context(NULL, 3);
    CHECK_OK(run_with(&module, DIM(1000, 1, 1), DIM(100, 1, 1), lock, &count, context, NULL));
    CHECK(count == 1000, "%d of 1000 increments", count);
    invar_context_destroy(context);
}

/* Each group waits for the one before it: right, since groups begin in order. Then for the one behind it: refused. */
static void chain(const invar_lane *lane) {
    _Atomic int *flags = lane->launch->arrays[0];
    uint32_t group = lane->position.group[0];
    if (lane->position.index == 0) {
        while (group && lane_load(lane, 4, &flags[group - 1]) == 0) {}
        lane_exchange(lane, 4, &flags[group], 1);
    }
    lane_barrier(lane, 1);
}
static void grid_barrier(const invar_lane *lane) {
    _Atomic int *count = lane->launch->arrays[0];
    lane_add(lane, 4, count, 1);
    while (lane_load(lane, 4, count) < (int)lane->launch->grid[0]) {}
}
static void test_chain(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, chain);
    static _Atomic int flags[500];
    for (int threads = 1; threads <= 4; threads++) {
        memset((void *)flags, 0, sizeof flags);
        invar_context *context = check_context(NULL, threads);
        CHECK_OK(run_with(&module, DIM(20000, 1, 1), DIM(40, 1, 1), (void *)flags, NULL, context, NULL));
        invar_context_destroy(context);
    }
}
static void test_grid_barrier(void) { fails(grid_barrier, "spins on an atomic that nobody writes"); }

/* After a failure the same thread's stacks serve again. */
static void test_after_failure(void) {
    fails(deadlock, "waits for ever");
    test_barrier();
    test_stacks();
}

/* ---- callers -------------------------------------------------------------------------------------------- */

static void run_mirror(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, mirror);
    int *out = malloc(3000 * sizeof *out), bad = 0;
    for (int repeat = 0; repeat < 5; repeat++) {
        CHECK_OK(run(&module, DIM(3000, 1, 1), DIM(100, 1, 1), out, NULL));
        for (int i = 0; i < 3000; i++) bad += out[i] != 99 - i % 100 + 9;
    }
    CHECK(!bad, "%d results are wrong", bad);
    free(out);
}
static void *caller(void *argument) {
    run_mirror();
    return argument;
}
static void test_many_callers(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, caller, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

static void test_fork(void) {
#ifdef __SANITIZE_THREAD__
    check_skip("ThreadSanitizer does not start threads in a forked child");
    return;
#endif
    if (getenv("CHECK_EMULATED")) {
        check_skip("qemu-user cannot start threads in a forked child");
        return;
    }
    run_mirror();
    pid_t child = fork();
    if (child == 0) {
        invar_module module = module_of(INVAR_MODE_GROUP, mirror);
        int out[300], bad = 0;
        bad += run(&module, DIM(300, 1, 1), DIM(100, 1, 1), out, NULL) != INVAR_OK;
        for (int i = 0; i < 300; i++) bad += out[i] != 99 - i % 100 + 9;
        _exit(bad != 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child ended with %d", status);
}

/* A caller's pool that runs every task on a thread of its own, two at a time. */
struct foreign_task {
    invar_task task;
    void *argument;
    int64_t index;
};
static void *foreign_thread(void *argument) {
    struct foreign_task *task = argument;
    task->task(task->argument, task->index);
    return NULL;
}
static void foreign_for(void *pool, int64_t count, invar_task task, void *argument) {
    *(int64_t *)pool += count;
    for (int64_t i = 0; i < count; i += 2) {
        struct foreign_task tasks[2] = { { task, argument, i }, { task, argument, i + 1 } };
        pthread_t threads[2];
        int here = i + 1 < count ? 2 : 1;
        for (int k = 0; k < here; k++) pthread_create(&threads[k], NULL, foreign_thread, &tasks[k]);
        for (int k = 0; k < here; k++) pthread_join(threads[k], NULL);
    }
}
static void test_parallel_for(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, mirror);
    int64_t tasks = 0;
    invar_execution execution = INVAR_EXECUTION_INIT;
    execution.parallel_for = foreign_for;
    execution.pool = &tasks;
    execution.pool_threads = 2;
    static int out[3000];
    CHECK_OK(run_with(&module, DIM(3000, 1, 1), DIM(100, 1, 1), out, NULL, NULL, &execution));
    for (int i = 0; i < 3000; i++) CHECK(out[i] == 99 - i % 100 + 9, "thread %d: %d", i, out[i]);
    CHECK(tasks >= 2, "the caller's pool was given %d tasks", (int)tasks);
}

/* The plan of a launch says what workspace it needs, and with that workspace it runs. */
static void test_plan(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, mirror);
    invar_plan plan = INVAR_PLAN_INIT;
    invar_execution execution = INVAR_EXECUTION_INIT;
    static int out[300];
    execution.plan = &plan;
    CHECK_OK(run_with(&module, DIM(300, 1, 1), DIM(100, 1, 1), out, NULL, NULL, &execution));
    CHECK(plan.workspace > 0 && out[0] == 0, "the plan asks for %zu bytes and wrote %d", (size_t)plan.workspace, out[0]);
    execution.plan = NULL;
    execution.workspace_size = plan.workspace;
    execution.workspace = aligned_alloc(64, (plan.workspace + 63) / 64 * 64);
    CHECK_OK(run_with(&module, DIM(300, 1, 1), DIM(100, 1, 1), out, NULL, NULL, &execution));
    CHECK(out[0] == 108, "thread 0: %d", out[0]);
    free(execution.workspace);
}

static void dynamic(const invar_lane *lane) {
    int *out = lane->launch->arrays[0];
    bool good = (uintptr_t)lane->dynamic_shared % 128 == 0;
    memset(lane->dynamic_shared, 1, lane->launch->dynamic_shared);
    memset(lane->shared[3], 2, 4096);
    memset(lane->shared[5], 3, 4);
    for (uint32_t i = 0; i < lane->launch->dynamic_shared; i++) good &= lane->dynamic_shared[i] == 1;
    out[0] = good && lane->shared[3][4095] == 2;
}
static void test_shared_arrays(void) {
    invar_module module = module_of(INVAR_MODE_GROUP, dynamic);
    jit_launch launch;
    int out[1] = { 0 };
    invar_execution execution = INVAR_EXECUTION_INIT;
    jit_launch_init(&launch, DIM(1, 1, 1), DIM(1, 1, 1), out, NULL)->dynamic_shared = 1001;
    CHECK_OK(invar_exec_run(&module, &launch.launch, NULL, &execution, "cuda_kernel", "k"));
    CHECK(out[0], "threadgroup arrays overlap or are misaligned");
    CHECK(invar_exec_shared_bytes(&module) == 4100, "%d bytes of threadgroup arrays", (int)invar_exec_shared_bytes(&module));
}

CHECK_MAIN(CHECK_TEST(test_flat), CHECK_TEST(test_loop), CHECK_TEST(test_simd), CHECK_TEST(test_group),
           CHECK_TEST(test_barrier), CHECK_TEST(test_leavers), CHECK_TEST(test_deep_stacks), CHECK_TEST(test_divergence),
           CHECK_TEST(test_beside_barrier), CHECK_TEST(test_masks), CHECK_TEST(test_two_sites),
           CHECK_TEST(test_round_robin), CHECK_TEST(test_stacks), CHECK_TEST(test_deadlock), CHECK_TEST(test_spin),
           CHECK_TEST(test_work_for_ever), CHECK_TEST(test_barrier_for_ever), CHECK_TEST(test_sum_for_ever),
           CHECK_TEST(test_spin_is_freed), CHECK_TEST(test_lock), CHECK_TEST(test_chain), CHECK_TEST(test_grid_barrier),
           CHECK_TEST(test_after_failure), CHECK_TEST(test_many_callers), CHECK_TEST(test_fork),
           CHECK_TEST(test_parallel_for), CHECK_TEST(test_plan), CHECK_TEST(test_shared_arrays))
