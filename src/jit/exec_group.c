/* One group of threads in turn: the schedule, barriers, collectives, and the watch against waiting for ever.
 *
 * A lane that has to wait looks for the next one and switches to it straight away; there is no scheduler in between. A
 * lane that ends without having waited hands its stack on to the next lane that begins. Simdgroups have their turn round
 * about, each for one collective: were they run to their barrier one by one, a missing barrier would mostly go unseen. */
#define _GNU_SOURCE
#include "jit/exec_group.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

enum {
    SPIN_PATIENCE = 32,      /* atomic operations in a row, of a lane whose last one changed nothing */
    WORK_PATIENCE = 4096,    /* the same, of a lane whose last one changed something */
    IDLE_LANE = 4096,        /* idle operations from which on a lane's collectives are no progress either */
    SPINNERS_LEFT = 1 << 16, /* quiet turns from which on a collective no longer waits for a lane that spins */
    STALL_TURNS = 1024,      /* turns of a stalled group between two looks at the others */
    STALL_LOOKS = 64         /* looks that find every group stalled before one gives up */
};

static inline uint32_t bit_of(const invar_lane *lane) { return (uint32_t)1 << lane->number; }
static inline uint32_t lowest(uint32_t set) { return (uint32_t)__builtin_ctz(set); }
static inline uint32_t highest(uint32_t set) { return 31 - (uint32_t)__builtin_clz(set); }

/* ---- collectives ----------------------------------------------------------------------------------- */

/* The waiting lanes that are at one site with one mask and may go on, or 0: the lowest site first. `loose`: the site does
 * not matter, only mask and resolver do. */
static uint32_t choose(const invar_simdgroup *simd, bool spinners_count, bool loose) {
    for (uint32_t left = simd->waiting, set; left; left &= ~set) {
        uint32_t leader = lowest(left);
        for (uint32_t rest = left; rest && !simd->common; rest &= rest - 1)
            if (simd->sites[lowest(rest)] < simd->sites[leader]) leader = lowest(rest);
        uint32_t mask = simd->masks[leader];
        set = 0;
        for (uint32_t rest = left; rest; rest &= rest - 1) {
            uint32_t i = lowest(rest);
            bool same = loose ? simd->resolves[i] == simd->resolves[leader] : simd->sites[i] == simd->sites[leader];
            if (simd->common || (same && simd->masks[i] == mask)) set |= (uint32_t)1 << i;
        }
        if (!mask ? !simd->yielded || !spinners_count : !(simd->live & mask & ~set)) return set;
    }
    return 0;
}

static bool resolve(invar_group *group, invar_simdgroup *simd, bool loose) {
    if (!simd->waiting) return false;
    uint32_t active = choose(simd, group->quiet < SPINNERS_LEFT, loose);
    if (!active) return false;
    uint32_t leader = lowest(active);
    if (simd->resolves[leader]) {
        simd->exchange.active = active;
        simd->resolves[leader](&simd->exchange);
    }
    for (uint32_t i = 0; i < INVAR_SIMD_WIDTH; i++) simd->results[i] = active >> i & 1 ? active : simd->results[i];
    simd->waiting &= ~active;
    simd->ready |= active;
    group->turns += INVAR_SIMD_WIDTH;
    if (simd->fibres[leader]->lane.idle < IDLE_LANE) group->quiet = 0;
    if (group->observer) group->observer->resolved(group, simd, active);
    return true;
}

/* ---- who runs next --------------------------------------------------------------------------------- */

static bool stuck(invar_group *group) {
    for (uint32_t i = 0; i < group->simd_count; i++)
        if (resolve(group, &group->simds[i], true)) {
            group->current = i;
            return false;
        }
    for (uint32_t i = 0; group->live && i < group->simd_count && !group->end; i++) {
        invar_simdgroup *simd = &group->simds[i];
        if (!simd->waiting) continue;
        uint32_t lane = lowest(simd->waiting);
        group->end = INVAR_GROUP_DEADLOCK;
        group->end_site = simd->sites[lane];
        group->end_position = simd->fibres[lane]->lane.position;
        group->end_mask = simd->masks[lane] & simd->live & ~simd->waiting;
    }
    return true;
}

static void give_up(invar_group *group) {
    group->end = INVAR_GROUP_ENDLESS;
    for (uint32_t i = 0; i < group->simd_count * INVAR_SIMD_WIDTH; i++) {
        const invar_simdgroup *simd = &group->simds[i / INVAR_SIMD_WIDTH];
        const invar_fibre *fibre = simd->fibres[i % INVAR_SIMD_WIDTH];
        if (!fibre || !simd->sites[i % INVAR_SIMD_WIDTH]) continue;
        group->end_site = simd->sites[i % INVAR_SIMD_WIDTH];
        group->end_position = fibre->lane.position;
        return;
    }
}

/* The current simdgroup has nothing ready: finds one that has. False when the group is at its end. */
static bool advance(invar_group *group) {
    if (group->turns > group->turn_limit && !group->end) give_up(group);
    if (group->end) return false;
    if (group->schedule.straight && resolve(group, &group->simds[group->current], false)) return true;
    uint32_t count = group->simd_count, i = group->current;
    for (uint32_t tried = 0; tried < count; tried++) {
        if (group->schedule.descending)
            i = i ? i - 1 : count - 1;
        else
            i = i + 1 < count ? i + 1 : 0;
        invar_simdgroup *simd = &group->simds[i];
        resolve(group, simd, false);
        simd->ready |= simd->yielded;
        simd->yielded = 0;
        if (simd->ready) {
            group->current = i;
            return true;
        }
    }
    return !stuck(group);
}

__attribute__((noinline)) static bool advance_to_ready(invar_group *group) {
    do {
        if (!advance(group)) return false;
    } while (!group->simds[group->current].ready);
    return true;
}

static inline bool pick(invar_group *group) {
    if (!group->simds[group->current].ready && !advance_to_ready(group)) return false;
    invar_simdgroup *simd = &group->simds[group->current];
    group->picked = group->schedule.descending ? highest(simd->ready) : lowest(simd->ready);
    simd->ready &= ~((uint32_t)1 << group->picked);
    return true;
}

/* What a waiting lane reads of its own bytes, and the end of its stack below them, mostly lie outside the first cache; they
 * are asked for some switches ahead. */
static inline void fetch_ahead(const invar_lane *lane) {
    const char *line = (const char *)lane;
    __builtin_prefetch(line + 64, 1);
    for (int i = -4; i < 0; i++) __builtin_prefetch(line + i * 64, 1);
}

/* ---- lanes ----------------------------------------------------------------------------------------- */

/* Positions mostly come in order, so the next one is kept rather than divided out. */
static void find_position(invar_group *group, invar_position *position, uint32_t index) {
    uint32_t *next = group->next_local;
    const uint32_t *size = group->size;
    if (index != group->next_index) {
        next[0] = index % size[0];
        next[1] = index / size[0] % size[1];
        next[2] = index / size[0] / size[1];
    }
    for (int i = 0; i < 3; i++) {
        position->local[i] = next[i];
        position->group[i] = group->id[i];
        position->size[i] = size[i];
        position->grid[i] = group->id[i] * group->launch->threadgroup[i] + next[i];
    }
    position->index = index;
    group->next_index = index + 1;
    if (++next[0] < size[0]) return;
    next[0] = 0;
    if (++next[1] < size[1]) return;
    next[1] = 0;
    next[2]++;
}

/* Makes the picked lane the one of this stack. */
static void begin_lane(invar_group *group, invar_fibre *fibre) {
    invar_simdgroup *simd = &group->simds[group->current];
    invar_lane *lane = &fibre->lane;
    find_position(group, &lane->position, simd->first + group->picked);
    lane->number = group->picked;
    lane->idle = 0;
    lane->patience = SPIN_PATIENCE;
    lane->launch = group->launch;
    lane->runtime = group->runtime;
    lane->exchange = &simd->exchange;
    lane->shared = group->shared;
    lane->dynamic_shared = group->dynamic_shared;
    fibre->group = group;
    fibre->simd = simd;
    simd->sites[group->picked] = 0;
    fibre->working = 0;
    simd->fibres[group->picked] = fibre;
    if (group->observer) group->observer->begun(group, fibre);
}

static void run_lanes(void);

/* A stack for the picked lane, which begins. NULL when there is none, and the group is at its end. */
static invar_fibre *begin_on_free_stack(invar_group *group) {
    invar_stacks *stacks = group->stacks;
    if (!stacks->free_count && !invar_stacks_grow(stacks)) {
        group->end = INVAR_GROUP_MEMORY;
        return NULL;
    }
    invar_lane *lane = stacks->free[--stacks->free_count];
    if (!invar_stack_state_of(lane)->stack_pointer || ((invar_fibre *)lane)->killed) invar_fibre_prepare(lane, run_lanes);
    ((invar_fibre *)lane)->killed = 0;
    if (stacks->free_count) fetch_ahead(stacks->free[stacks->free_count - 1]);
    begin_lane(group, (invar_fibre *)lane);
    return (invar_fibre *)lane;
}

/* The picked lane; NULL when it has not begun. Asks for the memory of the third behind it. */
static inline invar_fibre *picked_lane(invar_group *group) {
    invar_simdgroup *simd = &group->simds[group->current];
    uint32_t behind = simd->ready & (simd->ready - 1);
    behind &= behind - 1;
    if (behind) {
        const invar_fibre *after = simd->fibres[lowest(behind)];
        if (after) fetch_ahead(&after->lane);
    }
    return simd->fibres[group->picked];
}

/* The lane to go on with; NULL: none, so that run_set does. */
static inline invar_fibre *next_lane(invar_group *group) {
    if (!pick(group)) return NULL;
    invar_fibre *next = picked_lane(group);
    return next ? next : begin_on_free_stack(group);
}

/* What the wait of the picked lane gives it. */
static inline uint32_t picked_result(const invar_group *group) {
    return group->simds[group->current].results[group->picked];
}

static void open_barrier(invar_group *group) {
    group->turns += group->arrived;
    if (group->turns > group->turn_limit) give_up(group); /* here, since a lone simdgroup is ready again and never advances */
    if (group->end) return;
    for (uint32_t i = 0; i < group->simd_count; i++) {
        invar_simdgroup *simd = &group->simds[i];
        for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++)
            simd->results[lane] = simd->parked >> lane & 1 ? group->votes : simd->results[lane];
        simd->ready |= simd->parked;
        simd->parked = 0;
    }
    group->arrived = group->votes = 0;
    if (group->observer) group->observer->opened(group);
    group->barrier_memory = INVAR_MEMORY_ALL;
}

static void end_lane(invar_group *group, invar_fibre *self) {
    invar_simdgroup *simd = self->simd;
    simd->live &= ~bit_of(&self->lane);
    simd->fibres[self->lane.number] = NULL;
    group->live--;
    group->quiet = group->turns = 0;
    if (group->observer) group->observer->ended(group, self);
    if (group->arrived && group->arrived == group->live) open_barrier(group);
}

/* What a stack runs: one lane after another. */
static void run_lanes(void) {
    invar_fibre_arrived();
    invar_fibre *self = (invar_fibre *)invar_lane_of(__builtin_frame_address(0));
    for (;;) {
        invar_group *group = self->group;
        group->module->thread(&self->lane);
        end_lane(group, self);
        bool more = pick(group);
        invar_fibre *next = more ? picked_lane(group) : NULL;
        if (more && !next) {
            begin_lane(group, self);
            continue;
        }
        group->stacks->free[group->stacks->free_count++] = &self->lane;
        invar_fibre_switch(group->stacks, &self->lane, (invar_lane *)next, more ? picked_result(group) : 0);
        /* back when it has become another lane's */
    }
}

_Noreturn void invar_group_kill(invar_fibre *self) {
    invar_group *group = self->group;
    end_lane(group, self);
    self->killed = 1;
    invar_fibre *next = next_lane(group);
    group->stacks->free[group->stacks->free_count++] = &self->lane; /* after: nobody may begin on it while it runs */
    for (;;) invar_fibre_switch(group->stacks, &self->lane, (invar_lane *)next, next ? picked_result(group) : 0);
}

_Noreturn void invar_group_stop(invar_fibre *self, invar_group_end end, int32_t site) {
    invar_group *group = self->group;
    group->end = end;
    group->end_site = site;
    group->end_position = self->lane.position;
    for (;;) invar_fibre_switch(group->stacks, &self->lane, NULL, 0);
}

/* ---- services -------------------------------------------------------------------------------------- */

static inline void wait_for_lanes(invar_group *group, int32_t site, uint32_t mask, invar_resolve resolver) {
    invar_simdgroup *simd = &group->simds[group->current];
    uint32_t number = group->picked, bit = (uint32_t)1 << number;
    if (mask) mask |= bit;
    simd->sites[number] = site;
    simd->masks[number] = mask;
    simd->resolves[number] = resolver;
    if (!simd->waiting)
        simd->common = 1;
    else if (simd->common)
        simd->common = simd->sites[lowest(simd->waiting)] == site && simd->masks[lowest(simd->waiting)] == mask;
    simd->waiting |= bit;
}

static inline void wait_for_group(invar_group *group, invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote) {
    invar_simdgroup *simd = &group->simds[group->current];
    simd->sites[group->picked] = site;
    simd->parked |= (uint32_t)1 << group->picked;
    if (group->observer) group->barrier_memory &= memory;
    if (vote) group->votes++;
    if (++group->arrived == group->live) {
        if (lane->idle < IDLE_LANE) group->quiet = 0;
        open_barrier(group);
    }
}

/* A spinning group may be waiting for one that another thread runs. It is given up when every group that runs has been
 * found stalled, and nothing has happened in any of them, for STALL_LOOKS looks. */
static void look_around(invar_group *group) {
    invar_stall *stall = group->stall;
    if (!stall) {
        group->end = INVAR_GROUP_SPIN;
        return;
    }
    uint64_t epoch = atomic_load(&stall->epoch);
    if (!group->stalled) {
        group->stalled = true;
        atomic_fetch_add(&stall->stalled, 1);
        group->stall_rounds = 0;
    } else if (epoch != group->stall_epoch || atomic_load(&stall->stalled) < atomic_load(&stall->running)) {
        group->stall_rounds = 0;
        sched_yield();
    } else if (++group->stall_rounds > STALL_LOOKS) {
        group->end = INVAR_GROUP_SPIN;
    } else {
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    }
    group->stall_epoch = epoch;
}

static void no_longer_stalled(invar_group *group) {
    if (!group->stalled) return;
    group->stalled = false;
    atomic_fetch_sub(&group->stall->stalled, 1);
    atomic_fetch_add(&group->stall->epoch, 1);
}

/* False when the lane may go on. */
static bool wait_for_turn(invar_group *group, invar_lane *lane, int32_t site) {
    invar_fibre *self = (invar_fibre *)lane;
    lane->patience = SPIN_PATIENCE;
    if (!lane->idle) {
        lane->patience = WORK_PATIENCE;
        group->turns += WORK_PATIENCE;
        if (!self->working++) return false; /* a lane that works through a few atomic operations needs no stack of its own */
        group->quiet = 0;
    } else if (++group->quiet > group->quiet_limit && group->quiet % STALL_TURNS == 0) {
        group->end_site = site;
        group->end_position = lane->position;
        look_around(group);
    }
    if (group->stalled && group->quiet < group->quiet_limit) no_longer_stalled(group);
    self->simd->sites[lane->number] = site;
    self->simd->yielded |= bit_of(lane);
    return true;
}

#ifdef INVAR_FIBRE_ENTRIES

/* The lane that comes next is mostly the one that came next last time, whom the lane that waits has noted: the processor can
 * then foretell it, and need not go by the group and its sets, ten loads one behind the other, before it reads the stack. The
 * empty statement hides from the compiler that the guess, once compared, is the same. */
static inline invar_next next_stack(invar_group *group, invar_lane *lane) {
    invar_fibre *self = (invar_fibre *)lane, *next = next_lane(group), *guess = self->after, *same = guess;
    if (!next) return (invar_next){ group->stacks->home.stack_pointer, 0 };
    __asm__("" : "+r"(same));
    if (same != next) self->after = guess = next;
    return (invar_next){ guess->stack.stack_pointer, picked_result(group) };
}

invar_next invar_group_collective_step(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolver) {
    invar_group *group = ((invar_fibre *)lane)->group;
    wait_for_lanes(group, site, mask, resolver);
    return next_stack(group, lane);
}

invar_next invar_group_barrier_step(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote) {
    invar_group *group = ((invar_fibre *)lane)->group;
    wait_for_group(group, lane, site, memory, vote);
    return next_stack(group, lane);
}

invar_next invar_group_yield_step(invar_lane *lane, int32_t site) {
    invar_group *group = ((invar_fibre *)lane)->group;
    if (!wait_for_turn(group, lane, site)) return (invar_next){ invar_stack_state_of(lane)->stack_pointer, 0 };
    return next_stack(group, lane);
}

#else

static uint32_t leave(invar_group *group, invar_lane *lane) {
    invar_fibre *next = next_lane(group);
    uint32_t result = next ? picked_result(group) : 0;
    if ((invar_lane *)next == lane) return result;
    return invar_fibre_switch(group->stacks, lane, (invar_lane *)next, result);
}

uint32_t invar_group_collective(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolver) {
    invar_group *group = ((invar_fibre *)lane)->group;
    wait_for_lanes(group, site, mask, resolver);
    return leave(group, lane);
}

uint32_t invar_group_barrier(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote) {
    invar_group *group = ((invar_fibre *)lane)->group;
    wait_for_group(group, lane, site, memory, vote);
    return leave(group, lane);
}

void invar_group_yield(invar_lane *lane, int32_t site) {
    invar_group *group = ((invar_fibre *)lane)->group;
    if (wait_for_turn(group, lane, site)) leave(group, lane);
}

#endif

/* ---- a whole group --------------------------------------------------------------------------------- */

static size_t exchange_bytes(void) { return (size_t)2 * INVAR_SIMD_WIDTH * INVAR_VALUE_BYTES; }
static uint32_t simdgroups_of(uint32_t threads) { return (threads + INVAR_SIMD_WIDTH - 1) / INVAR_SIMD_WIDTH; }
static size_t table_bytes(uint32_t threads) { return (sizeof(invar_simdgroup) * simdgroups_of(threads) + 63) / 64 * 64; }

size_t invar_group_bytes(uint32_t threads) { return table_bytes(threads) + exchange_bytes() * simdgroups_of(threads); }

void invar_group_lay_out(invar_group *group, void *memory, uint32_t threads) {
    char *values = (char *)memory + table_bytes(threads);
    group->simds = memory;
    memset(memory, 0, table_bytes(threads));
    for (uint32_t i = 0; i < simdgroups_of(threads); i++) {
        group->simds[i].exchange.in = values + exchange_bytes() * i;
        group->simds[i].exchange.out = values + exchange_bytes() * i + exchange_bytes() / 2;
    }
}

/* Runs the lanes from index `first` on, `threads` of them. */
static void run_set(invar_group *group, uint32_t first, uint32_t threads) {
    group->simd_count = simdgroups_of(threads);
    group->live = threads;
    group->arrived = group->votes = 0;
    group->barrier_memory = INVAR_MEMORY_ALL;
    for (uint32_t i = 0; i < group->simd_count; i++) {
        invar_simdgroup *simd = &group->simds[i];
        uint32_t lanes = threads - i * INVAR_SIMD_WIDTH;
        simd->live = simd->ready = lanes < INVAR_SIMD_WIDTH ? ((uint32_t)1 << lanes) - 1 : 0xffffffffu;
        simd->waiting = simd->parked = simd->yielded = 0;
        simd->first = first + i * INVAR_SIMD_WIDTH;
        simd->number = simd->first / INVAR_SIMD_WIDTH;
    }
    group->current = group->schedule.descending ? group->simd_count - 1 : 0;
    pick(group);
    invar_fibre *fibre = begin_on_free_stack(group);
    if (fibre) invar_fibre_switch(group->stacks, NULL, &fibre->lane, 0);
}

static void abandon(invar_group *group) {
    invar_stacks_reset(group->stacks);
    for (uint32_t i = 0; i < group->simd_count; i++) memset(group->simds[i].fibres, 0, sizeof group->simds[i].fibres);
}

invar_group_end invar_group_run(invar_group *group, const uint32_t id[3], bool simdgroups_apart) {
    const invar_launch *launch = group->launch;
    for (int i = 0; i < 3; i++) {
        uint32_t left = launch->grid[i] - id[i] * launch->threadgroup[i];
        group->id[i] = id[i];
        group->size[i] = left < launch->threadgroup[i] ? left : launch->threadgroup[i];
    }
    uint32_t threads = group->size[0] * group->size[1] * group->size[2], part = simdgroups_apart ? INVAR_SIMD_WIDTH : threads;
    group->end = INVAR_GROUP_DONE;
    group->quiet = group->turns = 0;
    group->next_index = UINT32_MAX;
    for (uint32_t first = 0; first < threads && !group->end; first += part)
        run_set(group, first, threads - first < part ? threads - first : part);
    if (group->stalled) no_longer_stalled(group);
    if (group->end) abandon(group);
    return group->end;
}
