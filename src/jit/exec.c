/* A launch on the CPU: its boxes or groups over the threads of the machine. */
#define _GNU_SOURCE
#include "jit/exec.h"

#include "core/context.h"
#include "jit/exec_group.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

invar_exec_limits invar_exec_limit = { (uint64_t)1 << 25, (uint64_t)1 << 34 };

enum {
    TASK_NANOSECONDS = 30000, /* of work, at least, for a task of its own: waking a thread costs some five thousand */
    TASKS_A_THREAD = 8,
    BOX_THREADS = 1024,       /* of a FLAT kernel, in the smallest piece of work */
    SMALLEST_BOX = 64
};

typedef struct launch_state {
    const invar_module *module;
    const invar_launch *launch;
    invar_stall stall;
    uint32_t units[3];    /* groups, or boxes of a FLAT kernel, along each axis */
    uint32_t box[3];      /* threads of a whole box */
    int64_t unit_count;
    int64_t first, per_task; /* units of the tasks under way */
    _Atomic int failed;
    invar_group failure;  /* of the first group that failed */
} launch_state;

static const invar_runtime services = { invar_group_collective, invar_group_barrier, invar_group_yield,
                                        NULL, NULL, NULL, NULL, NULL };

/* ---- a piece of work ------------------------------------------------------------------------------- */

static void unit_position(const launch_state *state, int64_t unit, uint32_t position[3]) {
    position[0] = (uint32_t)(unit % state->units[0]);
    position[1] = (uint32_t)(unit / state->units[0] % state->units[1]);
    position[2] = (uint32_t)(unit / state->units[0] / state->units[1]);
}

/* The threads of units position[0] … position[0] + run - 1 of one row. */
static invar_block block_of(const launch_state *state, const uint32_t position[3], int64_t run) {
    invar_block block;
    for (int i = 0; i < 3; i++) {
        uint64_t begin = (uint64_t)position[i] * state->box[i], end = begin + (uint64_t)state->box[i] * (i ? 1 : run);
        block.group[i] = position[i];
        block.begin[i] = (uint32_t)begin;
        block.end[i] = end < state->launch->grid[i] ? (uint32_t)end : state->launch->grid[i];
    }
    return block;
}

static void run_blocks(launch_state *state, int64_t begin, int64_t end) {
    bool flat = state->module->mode == INVAR_MODE_FLAT;
    uint32_t position[3];
    for (int64_t unit = begin, run; unit < end; unit += run) {
        unit_position(state, unit, position);
        run = state->units[0] - position[0];
        if (!flat || run > end - unit) run = flat ? end - unit : 1;
        invar_block block = block_of(state, position, run);
        state->module->block(state->launch, &block);
    }
}

/* A slot: the group, where each threadgroup array is, tables of simdgroups, the arrays. */
static uint32_t group_threads(const invar_launch *launch) {
    return launch->threadgroup[0] * launch->threadgroup[1] * launch->threadgroup[2];
}
static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }
static size_t tables_offset(void) { return lines(sizeof(invar_group)) + lines(sizeof(char *) * INVAR_MAX_SHARED); }

static size_t slot_bytes(const launch_state *state) {
    if (state->module->mode < INVAR_MODE_SIMD) return 0;
    size_t bytes = tables_offset() + invar_group_bytes(group_threads(state->launch)) + 128 + state->launch->dynamic_shared;
    for (int i = 0; i < INVAR_MAX_SHARED && state->module->shared; i++) bytes += lines(state->module->shared[i].bytes);
    return bytes;
}

static invar_group *prepare_group(const launch_state *state, char *slot) {
    invar_group *group = (invar_group *)slot;
    char **shared = (char **)(slot + lines(sizeof(invar_group)));
    *group = (invar_group){ .module = state->module, .launch = state->launch, .runtime = &services, .shared = shared };
    group->quiet_limit = invar_exec_limit.quiet;
    group->turn_limit = invar_exec_limit.turns;
    invar_group_lay_out(group, slot + tables_offset(), group_threads(state->launch));
    char *place = slot + tables_offset() + invar_group_bytes(group_threads(state->launch));
    group->dynamic_shared = place += (128 - (uintptr_t)place % 128) % 128;
    place += lines(state->launch->dynamic_shared);
    for (int i = 0; i < INVAR_MAX_SHARED && state->module->shared; i++) {
        shared[i] = place;
        place += lines(state->module->shared[i].bytes);
    }
    return group;
}

static void note_failure(launch_state *state, const invar_group *group) {
    int none = 0;
    if (atomic_compare_exchange_strong(&state->failed, &none, 1)) state->failure = *group;
}

static void run_groups(launch_state *state, int64_t begin, int64_t end, char *slot) {
    invar_group *group = prepare_group(state, slot);
    group->stall = &state->stall;
    group->stacks = invar_stacks_take();
    if (!group->stacks) {
        group->end = INVAR_GROUP_MEMORY;
        note_failure(state, group);
        return;
    }
    atomic_fetch_add(&state->stall.running, 1);
    for (int64_t unit = begin; unit < end && !atomic_load_explicit(&state->failed, memory_order_relaxed); unit++) {
        uint32_t id[3];
        unit_position(state, unit, id);
        if (invar_group_run(group, id, state->module->mode == INVAR_MODE_SIMD)) note_failure(state, group);
        atomic_fetch_add_explicit(&state->stall.epoch, 1, memory_order_relaxed);
    }
    atomic_fetch_sub(&state->stall.running, 1);
    invar_stacks_give(group->stacks);
}

static void run_task(void *argument, int64_t index, void *slot) {
    launch_state *state = argument;
    int64_t begin = state->first + index * state->per_task, end = begin + state->per_task;
    if (end > state->unit_count) end = state->unit_count;
    if (state->module->mode < INVAR_MODE_SIMD)
        run_blocks(state, begin, end);
    else
        run_groups(state, begin, end, slot);
}

/* ---- how it is divided ------------------------------------------------------------------------------ */

/* A group is a unit; so is a box of a FLAT kernel, some 64th of a small grid. */
static bool divide(launch_state *state) {
    const invar_launch *launch = state->launch;
    double threads = 1.0;
    for (int i = 0; i < 3; i++) threads *= launch->grid[i];
    double wanted = threads / 64 < BOX_THREADS ? threads / 64 : BOX_THREADS;
    uint32_t left = wanted < SMALLEST_BOX ? SMALLEST_BOX : (uint32_t)wanted / 16 * 16;
    double units = 1.0;
    for (int i = 0; i < 3; i++) {
        state->box[i] = launch->threadgroup[i];
        if (state->module->mode == INVAR_MODE_FLAT) state->box[i] = left < launch->grid[i] ? left : launch->grid[i];
        left = left / state->box[i] ? left / state->box[i] : 1;
        state->units[i] = (uint32_t)(((uint64_t)launch->grid[i] + state->box[i] - 1) / state->box[i]);
        units *= state->units[i];
    }
    if (units > 9e18) return false;
    state->unit_count = (int64_t)state->units[0] * state->units[1] * state->units[2];
    return true;
}

static double nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void run_units(launch_state *state, invar_run *run, int64_t first, int64_t count, int64_t per_task) {
    state->first = first;
    state->per_task = per_task;
    if (count > 0) invar_run_tasks(run, (count + per_task - 1) / per_task, run_task, state);
}

/* The first unit is run alone and timed; what it took says how many make a task, or that the rest is not worth a second
 * thread. No result depends on it. */
static void run_all(launch_state *state, invar_run *run) {
    if (run->threads == 1) {
        run_units(state, run, 0, state->unit_count, state->unit_count);
        return;
    }
    double before = nanoseconds();
    run_units(state, run, 0, 1, 1);
    double unit = nanoseconds() - before;
    int64_t left = state->unit_count - 1, most = left / ((int64_t)run->threads * TASKS_A_THREAD);
    double wanted = TASK_NANOSECONDS / (unit > 1 ? unit : 1);
    int64_t per_task = wanted > (double)left ? left : (int64_t)wanted;
    if (wanted <= (double)left && per_task < most) per_task = most;
    if (!atomic_load(&state->failed)) run_units(state, run, 1, left, per_task > 1 ? per_task : 1);
}

/* ---- failures ---------------------------------------------------------------------------------------- */

char *invar_exec_describe(const invar_group *group, char *text, size_t capacity) {
    const invar_module *module = group->module;
    invar_site none = { "the kernel", "a wait", 0 };
    const bool known = group->end_site > 0 && group->end_site < module->site_count;
    const invar_site *site = known ? &module->sites[group->end_site] : &none;
    const uint32_t *thread = group->end_position.grid, *id = group->id;
    int length = snprintf(text, capacity, "%s:%d: %s: thread (%u, %u, %u) of group (%u, %u, %u) ", site->file, site->line,
                          site->name, thread[0], thread[1], thread[2], id[0], id[1], id[2]);
    size_t used = length < 0 ? 0 : (size_t)length < capacity ? (size_t)length : capacity;
    if (group->end == INVAR_GROUP_DEADLOCK)
        snprintf(text + used, capacity - used, "waits for ever: lanes 0x%08" PRIx32 " of its mask do not come", group->end_mask);
    else if (group->end == INVAR_GROUP_SPIN)
        snprintf(text + used, capacity - used, "spins on an atomic that nobody writes");
    else
        snprintf(text + used, capacity - used, "goes on for ever: its group has made %" PRIu64 " turns since a thread ended",
                 group->turns);
    return text;
}

static invar_status failure(const launch_state *state, const char *operation, const char *kernel) {
    char text[1024];
    if (state->failure.end == INVAR_GROUP_MEMORY)
        return invar_fail(INVAR_ERROR_MEMORY, "%s: %s: out of memory for the threads' stacks", operation, kernel);
    return invar_fail(INVAR_ERROR_KERNEL, "%s: %s: %s", operation, kernel,
                      invar_exec_describe(&state->failure, text, sizeof text));
}

uint64_t invar_exec_shared_bytes(const invar_module *module) {
    uint64_t bytes = 0;
    for (int i = 0; i < INVAR_MAX_SHARED && module->shared; i++) bytes += module->shared[i].bytes;
    return bytes;
}

invar_status invar_exec_run(const invar_module *module, const invar_launch *launch, invar_context *context,
                            const invar_execution *execution, const char *operation, const char *kernel) {
    launch_state state;
    memset(&state, 0, sizeof state);
    state.module = module;
    state.launch = launch;
    if (!divide(&state))
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: grid: expected fewer than 2^63 groups, got (%u, %u, %u) threads",
                          operation, kernel, launch->grid[0], launch->grid[1], launch->grid[2]);
    invar_run run;
    bool planned;
    INVAR_TRY(invar_context_resolve(&context));
    INVAR_TRY(invar_run_begin(&run, context, execution, state.unit_count, 0, slot_bytes(&state), operation, &planned));
    if (planned) return INVAR_OK;
    run_all(&state, &run);
    invar_run_end(&run);
    return atomic_load(&state.failed) ? failure(&state, operation, kernel) : INVAR_OK;
}
