/* Which accesses are ordered before which: by barriers, by what lanes of a simdgroup do together, and by atomics.
 *
 * Barriers: an epoch for each kind of memory, which a barrier that orders that memory begins anew; accesses of one group in
 * different epochs are ordered. Within a simdgroup: a vector clock a lane (Mattern 1989), joined whenever lanes meet. With
 * both, no state grows with the number of threads (cf. GPUVerify and HiRace for the idea of levels).
 *
 * Atomics: what a thread did before a fence or barrier is published by its later atomic writes, and known to every group
 * that reads the same place atomically afterwards, and to whom that publishes in turn. It is counted as known to the whole
 * group at once, which may miss a race and never invents one. */
#include "jit/check_state.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_LINKS = 4096, MOST_STEPS = 1 << 20 };

/* What one atomic write published. */
typedef struct release {
    uint32_t group, index;
    uint32_t epoch[2];
    uint32_t own; /* the thread's clock at its last fence; 0: only what its barriers order */
    uint32_t clock[INVAR_SIMD_WIDTH];
    size_t links_begin, links_end; /* what its group knew by then */
} release;

/* A place that atomic operations touch. */
typedef struct location {
    void *address;
    release *releases;
    size_t count, capacity;
    size_t scanned; /* by the search numbered `search` */
    uint64_t search;
} location;

/* "The first `count` releases of a location are known." */
typedef struct link {
    size_t location, count;
} link;

struct invar_order {
    location *locations; /* by hash of the address; a power of two */
    size_t location_capacity, location_count;
    link *links;
    size_t link_count, link_capacity;
    size_t group_links; /* where the running group's begin */
    bool knows_all;     /* the running group has read too many places to be followed */
    uint64_t search;
};

bool invar_order_begin(invar_checker *checker) {
    const uint32_t *size = checker->launch.threadgroup;
    checker->threads = calloc((size_t)size[0] * size[1] * size[2], sizeof *checker->threads);
    checker->order = calloc(1, sizeof *checker->order);
    return checker->threads && checker->order;
}

static void forget(struct invar_order *order) {
    for (size_t i = 0; i < order->location_capacity; i++) free(order->locations[i].releases);
    free(order->locations);
    free(order->links);
    *order = (struct invar_order){ .search = order->search };
}

void invar_order_end(invar_checker *checker) {
    if (checker->order) forget(checker->order);
    free(checker->order);
    free(checker->threads);
}

void invar_order_run(invar_checker *checker) { forget(checker->order); }

void invar_order_group(invar_checker *checker) {
    checker->epoch[0] = checker->epoch[1] = 1;
    checker->order->group_links = checker->order->link_count;
    checker->order->knows_all = false;
}

/* ---- threads that meet -------------------------------------------------------------------------------------- */

void invar_order_thread(invar_checker *checker, uint32_t index) {
    invar_thread_state *thread = &checker->threads[index];
    memset(thread, 0, sizeof *thread);
    thread->clock[index % INVAR_SIMD_WIDTH] = 1;
}

void invar_order_meet(invar_checker *checker, uint32_t first, uint32_t active) {
    uint32_t joined[INVAR_SIMD_WIDTH] = { 0 };
    for (uint32_t rest = active; rest; rest &= rest - 1) {
        const uint32_t *clock = checker->threads[first + (uint32_t)__builtin_ctz(rest)].clock;
        for (int i = 0; i < INVAR_SIMD_WIDTH; i++) joined[i] = clock[i] > joined[i] ? clock[i] : joined[i];
    }
    for (uint32_t rest = active; rest; rest &= rest - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(rest);
        invar_thread_state *thread = &checker->threads[first + lane];
        memcpy(thread->clock, joined, sizeof joined);
        thread->clock[lane]++;
        thread->turns = 0;
    }
}

void invar_order_barrier(invar_checker *checker, uint32_t memory) {
    if (memory & INVAR_MEMORY_DEVICE) checker->epoch[INVAR_SPACE_DEVICE]++;
    if (memory & INVAR_MEMORY_THREADGROUP) checker->epoch[INVAR_SPACE_GROUP]++;
    for (uint32_t i = 0; i < checker->group.simd_count; i++)
        invar_order_meet(checker, checker->group.simds[i].first, checker->group.simds[i].live);
}

void invar_order_fence(invar_checker *checker, uint32_t index) {
    invar_thread_state *thread = &checker->threads[index];
    thread->fence = thread->clock[index % INVAR_SIMD_WIDTH]++;
}

/* ---- atomics ---------------------------------------------------------------------------------------------- */

static size_t slot_of(const struct invar_order *order, const void *address) {
    size_t mask = order->location_capacity - 1, i = (size_t)((uintptr_t)address * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (order->locations[i].address && order->locations[i].address != address) i = (i + 1) & mask;
    return i;
}

/* The location's number, which changes when the table grows: links are renumbered then. SIZE_MAX: out of memory, or absent
 * and not to be made. */
static size_t find_location(struct invar_order *order, void *address, bool make) {
    if (make && order->location_count * 2 >= order->location_capacity) {
        struct invar_order old = *order;
        size_t capacity = old.location_capacity ? old.location_capacity * 2 : 64;
        location *grown = calloc(capacity, sizeof *grown);
        if (!grown) return SIZE_MAX;
        order->locations = grown;
        order->location_capacity = capacity;
        for (size_t i = 0; i < old.location_capacity; i++)
            if (old.locations[i].address) grown[slot_of(order, old.locations[i].address)] = old.locations[i];
        for (size_t i = 0; i < order->link_count; i++)
            order->links[i].location = slot_of(order, old.locations[order->links[i].location].address);
        free(old.locations);
    }
    if (!order->location_capacity) return SIZE_MAX;
    size_t i = slot_of(order, address);
    if (!order->locations[i].address) {
        if (!make) return SIZE_MAX;
        order->locations[i].address = address;
        order->location_count++;
    }
    return i;
}

static bool grow(void **array, size_t count, size_t *capacity, size_t item) {
    if (count < *capacity) return true;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = realloc(*array, wanted * item);
    if (!grown) return false;
    *array = grown;
    *capacity = wanted;
    return true;
}

static void acquire(struct invar_order *order, size_t number, uint32_t group) {
    const location *place = &order->locations[number];
    size_t count = place->count, known = 0;
    if (order->knows_all) return;
    for (size_t i = order->link_count; i-- > order->group_links && !known;)
        if (order->links[i].location == number) known = order->links[i].count;
    while (known < count && place->releases[known].group == group && !place->releases[known].own) known++;
    if (known == count) return;
    if (order->link_count - order->group_links >= MOST_LINKS ||
        !grow((void **)&order->links, order->link_count, &order->link_capacity, sizeof *order->links)) {
        order->knows_all = true;
        return;
    }
    order->links[order->link_count++] = (link){ number, count };
}

static void publish(invar_checker *checker, uint32_t index, size_t number) {
    struct invar_order *order = checker->order;
    location *place = &order->locations[number];
    const invar_thread_state *thread = &checker->threads[index];
    if (place->count) { /* what barriers order is the same for all threads of the group */
        release *last = &place->releases[place->count - 1];
        if (!thread->fence && last->group == checker->linear && last->epoch[0] == checker->epoch[0] &&
            last->epoch[1] == checker->epoch[1]) {
            last->links_end = order->link_count;
            return;
        }
    }
    if (!grow((void **)&place->releases, place->count, &place->capacity, sizeof *place->releases)) {
        order->knows_all = true;
        return;
    }
    release *made = &place->releases[place->count++];
    *made = (release){ .group = checker->linear, .index = index, .own = thread->fence };
    memcpy(made->epoch, checker->epoch, sizeof made->epoch);
    memcpy(made->clock, thread->clock, sizeof made->clock);
    made->links_begin = order->group_links;
    made->links_end = order->link_count;
}

void invar_order_atomic(invar_checker *checker, uint32_t index, void *address, bool reads, bool writes) {
    struct invar_order *order = checker->order;
    bool has_barrier = checker->epoch[0] > 1 || checker->epoch[1] > 1, publishes = has_barrier || checker->threads[index].fence;
    size_t number = find_location(order, address, writes && publishes);
    if (number == SIZE_MAX) return;
    if (reads) acquire(order, number, checker->linear);
    if (writes && publishes) publish(checker, index, number);
}

static bool covers(const release *by, const invar_access *access, int space) {
    if (by->group != access->group) return false;
    if (access->epoch < by->epoch[space]) return true;
    if (by->index == access->index) return access->clock <= by->own;
    return by->own && by->index / INVAR_SIMD_WIDTH == access->index / INVAR_SIMD_WIDTH &&
           access->clock <= by->clock[access->index % INVAR_SIMD_WIDTH];
}

/* Follows what the running group knows, and what those knew from whom it knows it. A search that takes too long finds the
 * access ordered. */
static bool published(struct invar_order *order, const invar_access *access, int space) {
    if (order->knows_all) return true;
    size_t stack[256][2], depth = 0, steps = 0;
    if (order->link_count == order->group_links) return false;
    order->search++;
    stack[depth][0] = order->group_links;
    stack[depth++][1] = order->link_count;
    while (depth) {
        depth--;
        for (size_t i = stack[depth][0], end = stack[depth][1]; i < end; i++) {
            location *place = &order->locations[order->links[i].location];
            size_t from = place->search == order->search ? place->scanned : 0;
            for (size_t k = from; k < order->links[i].count; k++) {
                const release *by = &place->releases[k];
                if (covers(by, access, space) || ++steps > MOST_STEPS) return true;
                if (by->links_begin == by->links_end) continue;
                if (depth == 256) return true;
                stack[depth][0] = by->links_begin;
                stack[depth++][1] = by->links_end;
            }
            if (order->links[i].count > from) place->scanned = order->links[i].count;
            place->search = order->search;
        }
    }
    return false;
}

bool invar_order_known(invar_checker *checker, const invar_access *access, int space, uint32_t index) {
    if (access->group == checker->linear) {
        if (access->index == index || access->epoch < checker->epoch[space]) return true;
        if (access->index / INVAR_SIMD_WIDTH == index / INVAR_SIMD_WIDTH &&
            checker->threads[index].clock[access->index % INVAR_SIMD_WIDTH] >= access->clock)
            return true;
    }
    return published(checker->order, access, space);
}
