/* Scratch memory: blocks with their size in front, on huge pages where they are large. */
#define _GNU_SOURCE
#include "core/allocate.h"

#include <stdlib.h>
#include <sys/mman.h>

struct invar_scratch {
    size_t bytes; /* behind the header */
};
enum { HEADER = 64, HUGE_PAGE = 2 << 20 };

char *invar_scratch_data(invar_scratch *block) { return (char *)block + HEADER; }
void invar_scratch_free(invar_scratch *block) { free(block); }

static invar_scratch *allocate(size_t bytes) {
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
    void *memory;
    if (bytes > SIZE_MAX - HEADER - HUGE_PAGE || posix_memalign(&memory, alignment, bytes + HEADER)) return NULL;
#ifdef MADV_HUGEPAGE
    if (bytes >= HUGE_PAGE) madvise(memory, bytes + HEADER, MADV_HUGEPAGE); /* advice only: a refusal changes nothing */
#endif
    invar_scratch *block = memory;
    block->bytes = bytes;
    return block;
}

invar_scratch *invar_scratch_take(_Atomic(invar_scratch *) kept[INVAR_KEPT_SCRATCH], size_t bytes) {
    for (int i = 0; i < INVAR_KEPT_SCRATCH; i++) {
        if (!atomic_load_explicit(&kept[i], memory_order_relaxed)) continue;
        invar_scratch *block = atomic_exchange(&kept[i], NULL);
        if (!block) continue;
        if (block->bytes >= bytes) return block;
        invar_scratch_give(kept, block);
    }
    return allocate(bytes);
}

void invar_scratch_give(_Atomic(invar_scratch *) kept[INVAR_KEPT_SCRATCH], invar_scratch *block) {
    for (int i = 0; i < INVAR_KEPT_SCRATCH; i++) {
        invar_scratch *none = NULL;
        if (atomic_compare_exchange_strong(&kept[i], &none, block)) return;
    }
    invar_scratch_free(atomic_exchange(&kept[0], block)); /* all taken: what was needed last is likelier needed next */
}
