/* Check mode: what one access may do, and what its cell remembers of it. */
#include "jit/check_state.h"

#include <string.h>

/* ---- cells ---------------------------------------------------------------------------------------------- */

static invar_cell *cell_at(invar_checker *checker, invar_region *region, size_t i) {
    invar_cell *cell = &region->cells[i];
    int space = invar_region_space(region);
    if (cell->stamp != checker->stamp[space]) {
        memset(cell, 0, sizeof *cell);
        cell->stamp = checker->stamp[space];
        if (region->array && region->array->initialised) cell->written = 0xff;
    }
    return cell;
}

/* Both there, of two threads, of a byte in common, and in no order. */
static bool conflicts(invar_checker *checker, const invar_region *region, const invar_access *prior, const invar_access *now) {
    if (!prior->valid || !(prior->mask & now->mask)) return false;
    if (prior->group == now->group && prior->index == now->index) return false;
    return !invar_order_known(checker, prior, invar_region_space(region), now->index);
}

static void remember_read(invar_checker *checker, const invar_region *region, invar_cell *cell, const invar_access *now) {
    int space = invar_region_space(region);
    for (int i = 0; i < 2; i++) {
        invar_access *slot = &cell->reads[i];
        bool own = slot->group == now->group && slot->index == now->index;
        if (slot->valid && !own && !invar_order_known(checker, slot, space, now->index)) continue;
        if (slot->valid && own && slot->mask != now->mask && !i) continue; /* another half of the cell: the other slot */
        *slot = *now;
        return;
    }
    cell->reads[1] = *now; /* the first stays: of three readers without order any two will do */
}

/* A write by `now` that meets `prior`. Where it may be the value that is there already, that is seen after the store. */
static void meet_write(invar_checker *checker, const invar_region *region, char *address, uint32_t bytes,
                       const invar_access *prior, const invar_access *now, bool prior_reads, bool may_be_same) {
    if (!may_be_same || checker->check->strict || bytes > sizeof checker->pending[0].before) {
        invar_check_race(checker, region, address, bytes, prior, now, prior_reads, false);
        return;
    }
    if (checker->pending_count == INVAR_MAX_PENDING) return;
    invar_pending *pending = &checker->pending[checker->pending_count++];
    *pending = (invar_pending){ .region = region, .address = address, .bytes = bytes, .prior = *prior, .now = *now };
    pending->prior.valid = prior_reads; /* which of the two it is, until it is settled */
    memcpy(pending->before, address, bytes);
}

void invar_check_settle(invar_checker *checker) {
    for (int i = 0; i < checker->pending_count; i++) {
        const invar_pending *pending = &checker->pending[i];
        bool same = true;
        uint32_t width = 1u << pending->region->cell_bits;
        uint32_t shift = (uint32_t)((size_t)(pending->address - pending->region->low) & (width - 1));
        for (uint32_t k = 0; k < pending->bytes; k++)
            same &= !(pending->now.mask & pending->prior.mask & 1u << (k + shift)) || pending->address[k] == pending->before[k];
        if (!same)
            invar_check_race(checker, pending->region, pending->address, pending->bytes, &pending->prior, &pending->now,
                             pending->prior.valid, false);
    }
    checker->pending_count = 0;
}

static void write_cell(invar_checker *checker, const invar_region *region, invar_cell *cell, char *address, uint32_t bytes,
                       const invar_access *now) {
    bool over = conflicts(checker, region, &cell->write, now), same = over && !cell->write.atomic && !now->atomic;
    if (over && !(cell->write.atomic && now->atomic))
        meet_write(checker, region, address, bytes, &cell->write, now, false, same);
    for (int i = 0; i < 2; i++)
        if (conflicts(checker, region, &cell->reads[i], now) && !(cell->reads[i].atomic && now->atomic))
            meet_write(checker, region, address, bytes, &cell->reads[i], now, true, same);
    cell->write = *now;
    cell->reads[0].valid = cell->reads[1].valid = 0;
    cell->written |= (uint8_t)now->mask;
}

/* How many of the bytes hold nothing yet. Those that no hook has seen written may have been written all the same. */
static uint32_t unknown_bytes(const invar_region *region, invar_cell *cell, const invar_access *now, size_t number) {
    uint32_t missing = now->mask & ~(uint32_t)cell->written;
    const char *bytes = region->low + (number << region->cell_bits);
    for (int i = 0; i < 8 && missing; i++)
        if (missing >> i & 1 && !invar_check_filled(bytes + i, 1)) cell->written |= (uint8_t)missing;
    return (uint32_t)__builtin_popcount(now->mask & ~(uint32_t)cell->written);
}

static void read_cell(invar_checker *checker, const invar_region *region, invar_cell *cell, char *address, uint32_t bytes,
                      const invar_access *now) {
    if (conflicts(checker, region, &cell->write, now) && !(cell->write.atomic && now->atomic))
        invar_check_race(checker, region, address, bytes, &cell->write, now, false, true);
    remember_read(checker, region, cell, now);
}

/* ---- findings about one access --------------------------------------------------------------------------- */

static void find_access(invar_checker *checker, invar_kind kind, const invar_region *region, int64_t index,
                        const invar_access *now) {
    invar_finding finding = { .kind = kind, .region = region, .index = index, .place = checker->wheres[now->where].place };
    invar_check_set_thread(checker, now->group, now->index, finding.thread, finding.group);
    invar_check_find(checker, &finding);
}

/* Outside its array. Near it the access goes on, into a page that is there for that; farther away its thread ends. */
static void outside(invar_checker *checker, invar_region *region, invar_lane *lane, char *address, size_t bytes, bool write,
                    const invar_access *now) {
    char *first = address;
    if (address >= region->low && address < region->low + region->bytes) { /* it begins inside */
        size_t element = region->element_bytes ? region->element_bytes : 1;
        first = region->low + (region->bytes + element - 1) / element * element;
    }
    find_access(checker, write ? INVAR_KIND_WRITE_OUTSIDE : INVAR_KIND_READ_OUTSIDE, region,
                invar_check_index(region, first, bytes), now);
    if (address >= region->open && bytes <= (size_t)(region->shut - region->open) && address + bytes <= region->shut) return;
    checker->tainted = checker->incomplete = true;
    invar_group_kill((invar_fibre *)lane);
}

static invar_access access_of(const invar_checker *checker, const invar_region *region, const invar_lane *lane, bool atomic,
                              uint32_t where) {
    const invar_thread_state *thread = &checker->threads[lane->position.index];
    invar_access now = { .group = checker->linear, .valid = 1 };
    now.index = lane->position.index & 0x3ff;
    now.atomic = atomic;
    now.where = where & 0xfffff;
    now.epoch = checker->epoch[invar_region_space(region)] & 0xffffff;
    now.clock = thread->clock[lane->number];
    return now;
}

/* A null pointer, or an element near it. Other memory that is no array of the kernel's is a thread's own. */
static bool is_null(const char *address) { return (uintptr_t)address < 1 << 16; }

/* ---- hooks ------------------------------------------------------------------------------------------------ */

enum { READS = 1, WRITES = 2 };

/* Goes through the cells of an access that is inside its region. */
static void touch(invar_checker *checker, invar_region *region, char *address, size_t bytes, int does, invar_access *now) {
    size_t begin = (size_t)(address - region->low), end = begin + bytes, width = (size_t)1 << region->cell_bits;
    size_t unknown = 0;
    char *first = NULL;
    for (size_t i = begin >> region->cell_bits; i << region->cell_bits < end; i++) {
        size_t low = i << region->cell_bits, from = begin > low ? begin - low : 0, to = end - low < width ? end - low : width;
        invar_cell *cell = cell_at(checker, region, i);
        char *place = region->low + low + from;
        uint32_t part = (uint32_t)(to - from);
        now->mask = ((1u << to) - (1u << from)) & 0xff;
        if (does & READS) {
            uint32_t here = unknown_bytes(region, cell, now, i);
            if (here && !unknown) first = place;
            unknown += here;
            read_cell(checker, region, cell, place, part, now);
        }
        if (does & WRITES) write_cell(checker, region, cell, place, part, now);
    }
    /* Less than half may be the padding of a struct that was written member by member. */
    if (unknown && unknown * 2 >= bytes)
        find_access(checker, INVAR_KIND_UNINITIALISED, region, invar_check_index(region, first, bytes), now);
}

/* Looks at an access. False where it touched no cell. */
static bool look_at(invar_checker *checker, invar_lane *lane, char *address, size_t bytes, int does, bool atomic, void *pc,
                    void *frame) {
    const bool writes = does & WRITES;
    invar_region *region = invar_check_region(checker, address);
    if (!bytes || (!region && !is_null(address))) return false;
    uint32_t where = invar_check_where(checker, pc, frame);
    if (is_null(address))
        invar_check_stop(lane, writes ? INVAR_KIND_WRITE_OUTSIDE : INVAR_KIND_READ_OUTSIDE, -1, "through a null pointer", where);
    invar_access now = access_of(checker, region, lane, atomic, where);
    if (address < region->low || bytes > region->bytes || address > region->low + (region->bytes - bytes))
        outside(checker, region, lane, address, bytes, writes, &now);
    else if (region->cells)
        return touch(checker, region, address, bytes, does, &now), true;
    else if (writes)
        find_access(checker, INVAR_KIND_INPUT_WRITTEN, region, invar_check_index(region, address, bytes), &now);
    return false;
}

void invar_check_access(invar_lane *lane, void *address, size_t bytes, uint32_t write, void *pc, void *frame) {
    invar_checker *checker = invar_checker_of(lane);
    if (checker->pending_count) invar_check_settle(checker);
    look_at(checker, lane, address, bytes, write ? WRITES : READS, false, pc, frame);
}

void invar_check_atomic(invar_lane *lane, void *address, uint32_t bytes, uint32_t operation) {
    invar_checker *checker = invar_checker_of(lane);
    const int does = (operation != INVAR_ATOMIC_STORE ? READS : 0) | (operation != INVAR_ATOMIC_LOAD ? WRITES : 0);
    uint32_t index = lane->position.index;
    if (checker->pending_count) invar_check_settle(checker);
    if (operation == INVAR_ATOMIC_FENCE) {
        invar_order_fence(checker, index);
        return;
    }
    if (!look_at(checker, lane, address, bytes, does, true, __builtin_return_address(0), __builtin_frame_address(0))) return;
    checker->float_adds |= operation == INVAR_ATOMIC_FLOAT_ADD;
    invar_order_atomic(checker, index, address, does & READS, does & WRITES);
}
