/* Check mode: the launch under several schedules, its groups one after another on the calling thread. */
#define _GNU_SOURCE
#include "jit/check_state.h"

#include "core/threads.h"
#include "jit/exec.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUIET_TURNS = 1 << 16, STACK_LEFT = 1 << 16 /* bytes, for the hooks */ };
static const uint64_t most_turns = (uint64_t)1 << 24, most_blocks = (uint64_t)1 << 26; /* a second or two of either */

static const invar_schedule schedules[] = {
    { .descending = false, .straight = false },
    { .descending = true, .straight = false },
    { .descending = false, .straight = true },
};

/* ---- services ----------------------------------------------------------------------------------------------- */

static uint32_t check_collective(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolve) {
    invar_check_settle(invar_checker_of(lane));
    return invar_group_collective(lane, site, mask, resolve);
}

static void find_at_site(invar_checker *checker, invar_kind kind, int32_t site, const char *detail, uint32_t index,
                         int32_t other_site, uint32_t other_index) {
    invar_finding finding = { .kind = kind, .index = -1, .place = invar_check_site(checker, site) };
    finding.other_place = other_site ? invar_check_site(checker, other_site) : (invar_place){ 0 };
    snprintf(finding.detail, sizeof finding.detail, "%s", detail);
    invar_check_set_thread(checker, checker->linear, index, finding.thread, finding.group);
    invar_check_set_thread(checker, checker->linear, other_index, finding.other_thread, finding.other_group);
    invar_check_find(checker, &finding);
}

static uint32_t check_barrier(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote) {
    invar_checker *checker = invar_checker_of(lane);
    uint32_t index = lane->position.index;
    char detail[256];
    invar_check_settle(checker);
    if (!checker->group.arrived) {
        checker->barrier_site = site;
        checker->barrier_index = index;
    } else if (checker->barrier_site != site && !checker->tainted) {
        const uint32_t *grid = lane->position.grid;
        snprintf(detail, sizeof detail,
                 "thread (%u, %u, %u) waits here, while thread %u of its group waits at the barrier of line %u", grid[0],
                 grid[1], grid[2], checker->barrier_index, invar_check_site(checker, checker->barrier_site).line);
        find_at_site(checker, INVAR_KIND_BARRIER, site, detail, index, checker->barrier_site, checker->barrier_index);
    }
    return invar_group_barrier(lane, site, memory, vote);
}

static void check_yield(invar_lane *lane, int32_t site) {
    invar_check_settle(invar_checker_of(lane));
    invar_group_yield(lane, site);
}

static void check_turn(invar_lane *lane, void *pc, void *frame) {
    invar_checker *checker = invar_checker_of(lane);
    uint32_t index = lane->position.index;
    if (checker->pending_count) invar_check_settle(checker);
    if ((uintptr_t)frame % ((uintptr_t)1 << INVAR_STACK_BITS) < STACK_LEFT)
        invar_check_stop(lane, INVAR_KIND_STACK, -1, "functions that call one another fill the stack",
                         invar_check_where(checker, pc, frame));
    if (++checker->threads[index].turns < most_blocks) return;
    invar_finding finding = { .kind = INVAR_KIND_ENDLESS, .index = -1 };
    finding.place = checker->wheres[invar_check_where(checker, pc, frame)].place;
    invar_check_set_thread(checker, checker->linear, index, finding.thread, finding.group);
    snprintf(finding.detail, sizeof finding.detail,
             "thread (%u, %u, %u) of group (%u, %u, %u) has made %llu turns without meeting another thread",
             lane->position.grid[0], lane->position.grid[1], lane->position.grid[2], lane->position.group[0],
             lane->position.group[1], lane->position.group[2], (unsigned long long)most_blocks);
    invar_check_find(checker, &finding);
    invar_group_stop((invar_fibre *)lane, INVAR_GROUP_STOPPED, 0); /* its neighbours would take as long */
}

void invar_check_stop(invar_lane *lane, invar_kind kind, int64_t index, const char *what, uint32_t where) {
    invar_checker *checker = invar_checker_of(lane);
    const uint32_t *grid = lane->position.grid, *group = lane->position.group;
    if (checker->pending_count) invar_check_settle(checker);
    invar_finding finding = { .kind = kind, .index = index, .place = checker->wheres[where].place };
    invar_check_set_thread(checker, checker->linear, lane->position.index, finding.thread, finding.group);
    snprintf(finding.detail, sizeof finding.detail, "%s by thread (%u, %u, %u) of group (%u, %u, %u)", what, grid[0], grid[1],
             grid[2], group[0], group[1], group[2]);
    invar_check_find(checker, &finding);
    checker->tainted = checker->incomplete = true;
    invar_group_kill((invar_fibre *)lane);
}

static void check_undefined(invar_lane *lane, uint32_t what, void *pc, void *frame) {
    static const struct {
        invar_kind kind;
        const char *what;
    } known[] = {
        [INVAR_UNDEFINED_DIVISION] = { INVAR_KIND_DIVISION, "an integer is divided by zero" },
        [INVAR_UNDEFINED_OVERFLOW] = { INVAR_KIND_OVERFLOW, "the smallest integer is divided by -1" },
        [INVAR_UNDEFINED_RETURN] = { INVAR_KIND_RETURN, "a function ends without the value that it promises" },
        [INVAR_UNDEFINED_UNREACHABLE] = { INVAR_KIND_TRAP, "what is said to be unreachable is reached" },
        [INVAR_UNDEFINED_TRAP] = { INVAR_KIND_TRAP, "__trap() is called" },
    };
    invar_check_stop(lane, known[what].kind, -1, known[what].what, invar_check_where(invar_checker_of(lane), pc, frame));
}

/* Reads the axes of "float [3][5]", of "'float[3][5]'", or of "'tile' (aka 'float[3][5]')". Returns how many. */
static int read_extents(const char *type, uint32_t extents[INVAR_MAX_EXTENTS]) {
    const char *quote = strrchr(type, '\''), *end = quote ? quote : type + strlen(type), *begin = end;
    int count = 0;
    while (begin > type && (begin[-1] == ']' || begin[-1] == '[' || (begin[-1] >= '0' && begin[-1] <= '9'))) begin--;
    while ((begin = memchr(begin, '[', (size_t)(end - begin))) && count < INVAR_MAX_EXTENTS)
        extents[count++] = (uint32_t)strtoul(++begin, NULL, 10);
    return count;
}

/* Whether the array, or what it is an axis of, may be the threadgroup array: whether it ends in these axes. */
static bool ends_alike(const invar_shared *shared, const uint32_t *extents, int count) {
    int rank = 0;
    while (rank < INVAR_MAX_EXTENTS && shared->extents[rank]) rank++;
    return shared->bytes && (!count || (rank >= count && !memcmp(shared->extents + rank - count, extents,
                                                                 (size_t)count * sizeof *extents)));
}

/* A thread's own array, or one in a structure: a store beyond it would go to the thread's own stack. A threadgroup array's
 * accesses are looked at by their addresses, so that one which only leaves a row is no finding. */
static void check_beyond(invar_lane *lane, int64_t index, const char *array, void *pc, void *frame) {
    const invar_shared *shared = invar_checker_of(lane)->check->module->shared;
    uint32_t extents[INVAR_MAX_EXTENTS];
    char what[128];
    int count = read_extents(array, extents);
    for (int i = 0; shared && i < INVAR_MAX_SHARED; i++)
        if (ends_alike(&shared[i], extents, count)) return;
    snprintf(what, sizeof what, "element %lld of an array of %u", (long long)index, count ? extents[0] : 0);
    invar_check_stop(lane, INVAR_KIND_INDEX, index, what, invar_check_where(invar_checker_of(lane), pc, frame));
}

static const invar_runtime services = { check_collective,   check_barrier, check_yield,    invar_check_atomic,
                                        invar_check_access, check_turn,    check_undefined, check_beyond };

/* ---- what the group tells -------------------------------------------------------------------------------------- */

static void begun(invar_group *group, invar_fibre *fibre) {
    invar_order_thread(group->owner, fibre->lane.position.index);
}

static void ended(invar_group *group, invar_fibre *fibre) {
    invar_checker *checker = group->owner;
    invar_check_settle(checker);
    if (!checker->first_missing) checker->first_missing = fibre->lane.position.index + 1;
}

static void resolved(invar_group *group, invar_simdgroup *simd, uint32_t active) {
    invar_order_meet(group->owner, simd->first, active);
}

/* In Metal every thread of the group must come to the barrier; in CUDA those that have ended do not count. */
static void opened(invar_group *group) {
    invar_checker *checker = group->owner;
    char detail[256];
    if (checker->first_missing && !checker->tainted && checker->check->dialect == INVAR_DIALECT_METAL) {
        uint32_t missing = checker->first_missing - 1;
        int64_t thread[3], position[3];
        invar_check_set_thread(checker, checker->linear, missing, thread, position);
        snprintf(detail, sizeof detail, "thread (%lld, %lld, %lld) of group (%lld, %lld, %lld) has ended before it",
                 (long long)thread[0], (long long)thread[1], (long long)thread[2], (long long)position[0],
                 (long long)position[1], (long long)position[2]);
        find_at_site(checker, INVAR_KIND_BARRIER, checker->barrier_site, detail, missing, 0, checker->barrier_index);
    }
    invar_order_barrier(checker, group->barrier_memory);
}

static const invar_observer observer = { begun, ended, resolved, opened };

/* ---- one schedule ------------------------------------------------------------------------------------------------ */

static void find_end(invar_checker *checker) {
    const invar_group *group = &checker->group;
    invar_finding finding = { .kind = group->end == INVAR_GROUP_DEADLOCK ? INVAR_KIND_DEADLOCK : INVAR_KIND_ENDLESS };
    char text[sizeof finding.detail];
    finding.index = -1;
    finding.place = invar_check_site(checker, group->end_site);
    invar_check_set_thread(checker, checker->linear, group->end_position.index, finding.thread, finding.group);
    invar_exec_describe(group, text, sizeof text);
    const char *colon = strstr(text, ": "); /* behind "<file>:<line>" */
    snprintf(finding.detail, sizeof finding.detail, "%s", colon ? colon + 2 : text);
    invar_check_find(checker, &finding);
}

static void run_group(invar_checker *checker, const uint32_t id[3]) {
    const invar_launch *launch = &checker->launch;
    invar_group *group = &checker->group;
    checker->linear = id[0] + launch->groups[0] * (id[1] + launch->groups[1] * id[2]);
    checker->stamp[INVAR_SPACE_GROUP]++;
    checker->first_missing = 0;
    checker->tainted = false;
    invar_order_group(checker);
    for (int i = 0; i < checker->region_count; i++) {
        const invar_region *region = &checker->regions[i];
        if (!region->array) memset(region->low, INVAR_CHECK_FILL, region->bytes);
    }
    invar_group_end end = invar_group_run(group, id, false);
    invar_check_settle(checker);
    if (end == INVAR_GROUP_DONE) return;
    checker->incomplete = true;
    if (end == INVAR_GROUP_MEMORY)
        checker->out_of_memory = true;
    else if (end != INVAR_GROUP_STOPPED)
        find_end(checker);
}

/* Groups always in order: a kernel may rely on those before its own having begun. */
static void run_schedule(invar_checker *checker, invar_schedule schedule) {
    const uint32_t *groups = checker->launch.groups;
    checker->run++;
    invar_check_reset(checker);
    invar_order_run(checker);
    checker->group.schedule = schedule;
    checker->incomplete = false;
    uint32_t id[3];
    for (id[2] = 0; id[2] < groups[2]; id[2]++)
        for (id[1] = 0; id[1] < groups[1]; id[1]++)
            for (id[0] = 0; id[0] < groups[0]; id[0]++) {
                run_group(checker, id);
                if (checker->group.end) return;
            }
}

/* ---- results ------------------------------------------------------------------------------------------------------- */

/* Whether a hook has seen every byte of the cell written, or its bytes are not what memory was filled with. */
static bool is_written(const invar_checker *checker, const invar_region *region, size_t i) {
    const invar_cell *cell = &region->cells[i];
    size_t begin = i << region->cell_bits, left = region->bytes - begin, width = (size_t)1 << region->cell_bits;
    uint32_t whole = (1u << (left < width ? left : width)) - 1;
    if (cell->stamp == checker->stamp[INVAR_SPACE_DEVICE] && (cell->written & whole) == whole) return true;
    return !invar_check_filled(region->low + begin, left < width ? left : width);
}

static void find_unwritten(invar_checker *checker, const invar_region *region) {
    int64_t count = 0, first = 0, last = -1;
    for (size_t i = 0; i < region->cell_count; i++) {
        if (is_written(checker, region, i)) continue;
        int64_t index = (int64_t)((i << region->cell_bits) / region->element_bytes);
        if (index == last) continue;
        last = index;
        if (!count++) first = index;
    }
    if (!count) return;
    invar_finding finding = { .kind = INVAR_KIND_UNWRITTEN, .region = region, .index = first, .place.text = INVAR_TEXT_BODY };
    for (int i = 0; i < 3; i++) finding.thread[i] = finding.group[i] = -1;
    snprintf(finding.detail, sizeof finding.detail, "no thread writes %s[%lld]%s, %lld of %lld elements", region->name,
             (long long)first, count > 1 ? " and others" : "", (long long)count,
             (long long)(region->bytes / region->element_bytes));
    invar_check_find(checker, &finding);
}

static double float_at(const invar_region *region, const char *p) {
    double wide;
    float single;
    if (region->element_bytes == 8) {
        memcpy(&wide, p, 8);
        return wide;
    }
    memcpy(&single, p, 4);
    return (double)single;
}

/* Where floating-point atomics add in another order, sums differ in their last bits, and what is made of them more. */
static bool close_enough(const invar_checker *checker, const invar_region *region, const char *a, const char *b) {
    if (!checker->float_adds || (region->array->dtype.code != INVAR_FLOAT && region->array->dtype.code != INVAR_BFLOAT))
        return false;
    if (region->element_bytes < 4) return true;
    double x = float_at(region, a), y = float_at(region, b);
    return fabs(x - y) <= 1e-3 * (1 + fabs(x) + fabs(y)) || (x != x && y != y);
}

static bool has_race(const invar_checker *checker, const invar_region *region) {
    for (int i = 0; i < checker->finding_count; i++)
        if (checker->findings[i].kind == INVAR_KIND_RACE && checker->findings[i].region == region) return true;
    return false;
}

/* An output that differs from the first schedule's. */
static void compare(invar_checker *checker, const invar_region *region) {
    for (size_t at = 0; at + region->element_bytes <= region->bytes; at += region->element_bytes) {
        const char *a = region->kept + at, *b = region->low + at;
        if (memcmp(a, b, region->element_bytes) == 0 || close_enough(checker, region, a, b)) continue;
        const invar_cell *cell = &region->cells[at >> region->cell_bits];
        invar_finding finding = { .kind = INVAR_KIND_SCHEDULE, .region = region };
        finding.index = (int64_t)(at / region->element_bytes);
        finding.place = checker->wheres[cell->write.where].place;
        invar_check_set_thread(checker, cell->write.group, cell->write.index, finding.thread, finding.group);
        snprintf(finding.detail, sizeof finding.detail,
                 "%s[%lld] depends on the order in which threads run; last written by thread (%lld, %lld, %lld)", region->name,
                 (long long)finding.index, (long long)finding.thread[0], (long long)finding.thread[1],
                 (long long)finding.thread[2]);
        invar_check_find(checker, &finding);
        return;
    }
}

static bool keep_outputs(const invar_checker *checker) {
    for (int i = 0; i < checker->check->array_count; i++) {
        invar_region *region = &checker->regions[i];
        if (!region->cells) continue;
        region->kept = malloc(region->bytes + 1);
        if (!region->kept) return false;
        memcpy(region->kept, region->low, region->bytes);
    }
    return true;
}

/* The first schedule's results become the launch's: not before the last run, which begins from what they replace. */
static void give_outputs(const invar_checker *checker) {
    for (int i = 0; i < checker->check->array_count; i++) {
        const invar_region *region = &checker->regions[i];
        if (region->cells && region->bytes) memcpy(invar_check_original(checker, region), region->kept, region->bytes);
    }
}

static void run_all(invar_checker *checker) {
    const invar_module *module = checker->check->module;
    run_schedule(checker, schedules[0]);
    for (int i = 0; i < checker->region_count && !checker->incomplete; i++) {
        const invar_region *region = &checker->regions[i];
        if (region->array && region->cells && !region->array->initialised) find_unwritten(checker, region);
    }
    const bool whole = !checker->incomplete, kept = keep_outputs(checker);
    int count = module->mode < INVAR_MODE_SIMD ? 2 : 3; /* without collectives the third is the first */
    for (int s = 1; s < count && whole && kept && !checker->out_of_memory; s++) {
        run_schedule(checker, schedules[s]);
        for (int i = 0; i < checker->check->array_count && !checker->incomplete; i++) {
            const invar_region *region = &checker->regions[i];
            if (region->cells && !has_race(checker, region)) compare(checker, region);
        }
    }
    if (kept) give_outputs(checker);
    checker->out_of_memory |= !kept;
}

/* ---- setting up ------------------------------------------------------------------------------------------------------ */

static bool set_up(invar_checker *checker) {
    const invar_check *check = checker->check;
    invar_group *group = &checker->group;
    uint32_t threads = checker->launch.threadgroup[0] * checker->launch.threadgroup[1] * checker->launch.threadgroup[2];
    checker->tables = aligned_alloc(64, (invar_group_bytes(threads) + 63) / 64 * 64);
    checker->wheres = calloc((size_t)1 << INVAR_WHERE_BITS, sizeof *checker->wheres);
    checker->findings = calloc(INVAR_MAX_FINDINGS, sizeof *checker->findings);
    group->stacks = invar_stacks_take();
    if (!checker->tables || !checker->wheres || !checker->findings || !group->stacks || !invar_order_begin(checker)) return false;
    if (invar_lines_read(&checker->lines, check->object, check->body, check->header) != 0) return false;
    Dl_info about;
    if (dladdr((const void *)check->module, &about)) checker->base = about.dli_fbase;
    const invar_runtime **hooks = check->handle ? dlsym(check->handle, "invar_check_runtime") : NULL;
    if (hooks) __atomic_store_n(hooks, &services, __ATOMIC_RELEASE);
    invar_group_lay_out(group, checker->tables, threads);
    group->module = check->module;
    group->launch = &checker->launch;
    group->runtime = &services;
    group->observer = &observer;
    group->owner = checker;
    group->quiet_limit = QUIET_TURNS;
    group->turn_limit = most_turns;
    group->shared = checker->shared;
    group->dynamic_shared = checker->regions[checker->region_count - 1].zero;
    return true;
}

static void tear_down(invar_checker *checker) {
    if (checker->group.stacks) invar_stacks_give(checker->group.stacks);
    invar_order_end(checker);
    invar_lines_free(&checker->lines);
    invar_check_unmap(checker);
    free(checker->tables);
    free(checker->wheres);
    free(checker->findings);
    free(checker);
}

invar_status invar_check_run(const invar_check *check) {
    const uint32_t *groups = check->launch->groups;
    if ((double)groups[0] * groups[1] * groups[2] >= 4294967296.0)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: grid: expected fewer than 2^32 groups in check mode, got %u × %u × %u",
                          check->operation, check->kernel, groups[0], groups[1], groups[2]);
    invar_checker *checker = calloc(1, sizeof *checker);
    if (!checker) return invar_fail(INVAR_ERROR_MEMORY, "%s: %s: out of memory for check mode", check->operation, check->kernel);
    checker->check = check;
    invar_status status = invar_check_map(checker);
    if (status == INVAR_OK && !set_up(checker)) checker->out_of_memory = true;
    if (status == INVAR_OK && !checker->out_of_memory) {
        invar_float_environment saved = invar_float_environment_set();
        run_all(checker);
        invar_float_environment_restore(saved);
    }
    if (status == INVAR_OK) status = invar_check_conclude(checker);
    if (status == INVAR_OK && checker->out_of_memory)
        status = invar_fail(INVAR_ERROR_MEMORY, "%s: %s: out of memory for check mode", check->operation, check->kernel);
    tear_down(checker);
    return status;
}
