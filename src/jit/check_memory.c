/* Check mode's memory: copies of the arrays, far apart, each with its shadow. */
#define _GNU_SOURCE
#include "jit/check_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_REGION_BITS = 37 }; /* half of it is below the array: a 32-bit index times 8 bytes is 2^35 away, either way */

static void *zeroed(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* ---- layout --------------------------------------------------------------------------------------------- */

static uint32_t cell_bits_of(uint32_t element_bytes) {
    uint32_t bits = 0;
    while (bits < 3 && element_bytes % (2u << bits) == 0) bits++;
    return bits;
}

static void describe_array(invar_region *region, const invar_check_array *array) {
    region->name = array->name;
    region->array = array;
    region->element_bytes = array->dtype.bits / 8u;
    region->bytes = (size_t)(array->end - array->begin) * region->element_bytes;
    region->cell_bits = cell_bits_of(region->element_bytes);
}

static void describe_shared(invar_region *region, const char *name, uint32_t bytes, uint32_t element_bytes) {
    region->name = name ? name : "a threadgroup array";
    region->bytes = bytes;
    region->element_bytes = element_bytes;
    region->cell_bits = element_bytes ? cell_bits_of(element_bytes) : 2;
}

/* Fills in regions but for their addresses. */
static bool describe(invar_checker *checker) {
    const invar_check *check = checker->check;
    const invar_shared *shared = check->module->shared;
    checker->regions = calloc((size_t)check->array_count + INVAR_MAX_SHARED + 1, sizeof *checker->regions);
    checker->arrays = calloc((size_t)check->array_count + 1, sizeof *checker->arrays);
    checker->shared = calloc(INVAR_MAX_SHARED, sizeof *checker->shared);
    if (!checker->regions || !checker->arrays || !checker->shared) return false;
    for (int i = 0; i < check->array_count; i++) describe_array(&checker->regions[checker->region_count++], &check->arrays[i]);
    for (int i = 0; shared && i < INVAR_MAX_SHARED; i++)
        if (shared[i].bytes)
            describe_shared(&checker->regions[checker->region_count++], shared[i].name, shared[i].bytes,
                            shared[i].element_bytes ? shared[i].element_bytes : 1);
    describe_shared(&checker->regions[checker->region_count++], "extern __shared__", check->launch->dynamic_shared, 0);
    return true;
}

/* Reserves the arena, with smaller ranges where the machine has not the addresses. */
static bool reserve(invar_checker *checker) {
    size_t most = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < checker->region_count; i++)
        if (checker->regions[i].bytes > most) most = checker->regions[i].bytes;
    for (int bits = MOST_REGION_BITS; bits > 12 && (size_t)1 << bits >= 2 * (most + 3 * page); bits--) {
        size_t bytes = (size_t)checker->region_count << bits;
        void *arena = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED) continue;
        checker->arena = arena;
        checker->arena_bytes = bytes;
        checker->region_bits = bits;
        return true;
    }
    return false;
}

static bool place(invar_checker *checker, invar_region *region, int number) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (region->bytes + page - 1) / page * page;
    char *middle = checker->arena + ((size_t)number << checker->region_bits) + ((size_t)1 << (checker->region_bits - 1));
    region->low = middle - room / 2 / page * page; /* whole pages: 128 bytes' alignment is what CUDA's memory needs */
    region->zero = region->low;
    if (region->array) region->zero -= region->array->begin * (int64_t)region->element_bytes;
    region->open = region->low - page;
    region->shut = region->low + room + page;
    if (mprotect(region->open, (size_t)(region->shut - region->open), PROT_READ | PROT_WRITE) != 0) return false;
    memset(region->open, INVAR_CHECK_FILL, page);
    memset(region->low + region->bytes, INVAR_CHECK_FILL, (size_t)(region->shut - region->low) - region->bytes);
    if (region->array && !region->array->output) return true;
    region->cell_count = (region->bytes + ((size_t)1 << region->cell_bits) - 1) >> region->cell_bits;
    if (!region->cell_count) region->cell_count = 1;
    region->cells = zeroed(region->cell_count * sizeof *region->cells);
    return region->cells != NULL;
}

char *invar_check_original(const invar_checker *checker, const invar_region *region) {
    int number = (int)(region - checker->regions);
    return (char *)checker->check->launch->arrays[number] + region->array->begin * (int64_t)region->element_bytes;
}

invar_status invar_check_map(invar_checker *checker) {
    const invar_check *check = checker->check;
    bool good = describe(checker) && reserve(checker);
    for (int i = 0; good && i < checker->region_count; i++) good = place(checker, &checker->regions[i], i);
    if (!good) return invar_fail(INVAR_ERROR_MEMORY, "%s: %s: out of memory for check mode", check->operation, check->kernel);
    checker->launch = *check->launch;
    checker->launch.arrays = checker->arrays;
    int next = check->array_count;
    for (int i = 0; i < check->array_count; i++) {
        invar_region *region = &checker->regions[i];
        checker->arrays[i] = region->zero;
        if (!region->cells && region->bytes) memcpy(region->low, invar_check_original(checker, region), region->bytes);
    }
    for (int i = 0; check->module->shared && i < INVAR_MAX_SHARED; i++)
        if (check->module->shared[i].bytes) checker->shared[i] = checker->regions[next++].zero;
    return INVAR_OK;
}

void invar_check_unmap(invar_checker *checker) {
    for (int i = 0; i < checker->region_count; i++) {
        if (checker->regions[i].cells) munmap(checker->regions[i].cells, checker->regions[i].cell_count * sizeof(invar_cell));
        free(checker->regions[i].kept);
    }
    if (checker->arena) munmap(checker->arena, checker->arena_bytes);
    free(checker->regions);
    free(checker->arrays);
    free(checker->shared);
}

void invar_check_reset(invar_checker *checker) {
    for (int i = 0; i < checker->region_count; i++) {
        invar_region *region = &checker->regions[i];
        if (!region->cells || !region->bytes) continue;
        if (region->array && region->array->initialised)
            memcpy(region->low, invar_check_original(checker, region), region->bytes);
        else
            memset(region->low, INVAR_CHECK_FILL, region->bytes);
    }
    checker->stamp[INVAR_SPACE_DEVICE]++;
}

/* ---- lookup ---------------------------------------------------------------------------------------------- */

invar_region *invar_check_region(const invar_checker *checker, const void *address) {
    size_t offset = (size_t)((const char *)address - checker->arena); /* wraps for addresses below */
    return offset < checker->arena_bytes ? &checker->regions[offset >> checker->region_bits] : NULL;
}

int64_t invar_check_index(const invar_region *region, const char *address, size_t bytes) {
    int64_t size = region->element_bytes ? (int64_t)region->element_bytes : (int64_t)bytes, distance = address - region->zero;
    return distance < 0 ? -((size - 1 - distance) / size) : distance / size;
}
