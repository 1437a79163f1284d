/* Inside check mode: the copies of the arrays with their shadow, who is ordered before whom, and what was found. */
#ifndef INVAR_JIT_CHECK_STATE_H
#define INVAR_JIT_CHECK_STATE_H

#include "jit/check.h"
#include "jit/check_lines.h"
#include "jit/exec_group.h"

/* ---- accesses ----------------------------------------------------------------------------------------- */

/* One access to a cell: who, when, where in the text. */
typedef struct invar_access {
    uint32_t group;                                      /* counted x first */
    uint32_t index : 10, atomic : 1, valid : 1, where : 20; /* index: of the thread in its group */
    uint32_t epoch : 24, mask : 8;                       /* barriers before it; which bytes of the cell */
    uint32_t clock;                                      /* of its thread, see check_order.c */
} invar_access;

/* The shadow of an element, or of an aligned piece of at most 8 bytes of one. */
typedef struct invar_cell {
    invar_access write;    /* the last one, atomic operations that write included */
    invar_access reads[2]; /* since then, of different threads */
    uint32_t stamp;        /* what the rest is of: a run (outputs) or a group (threadgroup arrays); other cells are blank */
    uint8_t written;       /* bytes that hold a value */
} invar_cell;

/* A copy of an array, alone in a range of addresses so wide that any 32-bit index from it leads into its own range. */
typedef struct invar_region {
    const char *name;
    const invar_check_array *array; /* NULL: of a group's memory */
    char *zero;                     /* element 0 */
    char *low;                      /* the first byte that exists */
    size_t bytes;                   /* that exist */
    char *open, *shut;              /* what is mapped: a page more on either side, so that a near miss goes on harmlessly */
    uint32_t element_bytes;         /* 0: not known, dynamic shared memory */
    uint32_t cell_bits;             /* a cell is 1 << cell_bits bytes */
    invar_cell *cells;              /* NULL: an input, which nobody may write */
    char *kept;                     /* of an output: the first schedule's results */
    size_t cell_count;
} invar_region;

enum { INVAR_SPACE_DEVICE = 0, INVAR_SPACE_GROUP = 1 };

/* What memory holds that nobody has written. */
enum { INVAR_CHECK_FILL = 0xa5 };

/* g++ has no hook where a function's result, a structure, is stored as it returns: bytes that are not the fill any more were
 * written all the same. */
static inline bool invar_check_filled(const char *address, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)address[i] != INVAR_CHECK_FILL) return false;
    return true;
}
static inline int invar_region_space(const invar_region *region) {
    return region->array ? INVAR_SPACE_DEVICE : INVAR_SPACE_GROUP;
}

/* ---- order ---------------------------------------------------------------------------------------------- */

typedef struct invar_thread_state {
    uint32_t clock[INVAR_SIMD_WIDTH]; /* how far it knows the lanes of its simdgroup; its own entry is its clock */
    uint32_t fence;                   /* its clock at its last fence; 0: none */
    uint64_t turns;                   /* basic blocks since it last met others */
} invar_thread_state;

struct invar_order; /* what atomic operations order: check_order.c */

/* ---- findings ------------------------------------------------------------------------------------------- */

typedef enum invar_kind {
    INVAR_KIND_READ_OUTSIDE,
    INVAR_KIND_WRITE_OUTSIDE,
    INVAR_KIND_INPUT_WRITTEN,
    INVAR_KIND_UNINITIALISED,
    INVAR_KIND_UNWRITTEN,
    INVAR_KIND_RACE,
    INVAR_KIND_BARRIER,
    INVAR_KIND_SCHEDULE,
    INVAR_KIND_ENDLESS,
    INVAR_KIND_DEADLOCK,
    INVAR_KIND_DIVISION,
    INVAR_KIND_OVERFLOW,
    INVAR_KIND_INDEX,
    INVAR_KIND_RETURN,
    INVAR_KIND_TRAP,
    INVAR_KIND_STACK
} invar_kind;

/* A place in the user's text. */
typedef struct invar_place {
    uint32_t text, line;
} invar_place;

typedef struct invar_finding {
    invar_kind kind;
    invar_place place, other_place;
    const invar_region *region; /* NULL: none, and `detail` says it all */
    int64_t index;
    int64_t thread[3], group[3], other_thread[3], other_group[3];
    const char *did, *other_did; /* RACE: "read", "write", "atomic operation" */
    char detail[256];
    int64_t count; /* alike, in the first schedule that shows them */
    uint32_t run;  /* that schedule */
    bool dropped;
} invar_finding;

enum { INVAR_MAX_FINDINGS = 128, INVAR_WHERE_BITS = 16, INVAR_MAX_PENDING = 64 };

/* A program counter that was seen. */
typedef struct invar_where {
    void *pc;
    invar_place place;
} invar_where;

/* A write that is a race unless it stores what is there already. */
typedef struct invar_pending {
    const invar_region *region;
    char *address;
    uint32_t bytes;
    char before[8];
    invar_access prior, now;
} invar_pending;

/* ---- one check ------------------------------------------------------------------------------------------- */

typedef struct invar_checker {
    const invar_check *check;
    invar_launch launch;
    invar_group group;
    uint32_t linear;          /* the group that runs, counted x first */
    uint32_t run;             /* schedules begun */
    uint32_t stamp[2];        /* by space */
    uint32_t epoch[2];
    uint32_t first_missing;   /* index of the first thread that has ended, plus 1 */
    int32_t barrier_site;     /* where the first thread waits that has arrived */
    uint32_t barrier_index;   /* and which it is */
    bool tainted;             /* a thread was stopped, so that what is missing may be missing for that */
    bool incomplete;          /* the same, in any group of the run */
    bool float_adds;
    bool out_of_memory;

    invar_region *regions;
    int region_count;
    char *arena;
    size_t arena_bytes;
    int region_bits;          /* a region's range is 1 << region_bits bytes */
    void **arrays;
    char **shared;
    void *tables;

    invar_thread_state *threads; /* [threads of a group] */
    struct invar_order *order;

    invar_lines lines;
    char *base;               /* where the object is loaded */
    invar_where *wheres;      /* [1 << INVAR_WHERE_BITS], by hash */
    invar_pending pending[INVAR_MAX_PENDING];
    int pending_count;
    invar_finding *findings;  /* [INVAR_MAX_FINDINGS] */
    int finding_count;
} invar_checker;

static inline invar_checker *invar_checker_of(invar_lane *lane) { return ((invar_fibre *)lane)->group->owner; }

/* check.c: reports `what`, which goes on with "by thread (...)", and ends the thread before it does it. */
void invar_check_stop(invar_lane *lane, invar_kind kind, int64_t index, const char *what, uint32_t where);

/* check_memory.c */
invar_status invar_check_map(invar_checker *checker);
void invar_check_unmap(invar_checker *checker);
/* Outputs as they are before the kernel, and every cell blank. */
void invar_check_reset(invar_checker *checker);
/* Where the launch's own array of a region begins. */
char *invar_check_original(const invar_checker *checker, const invar_region *region);
/* The array near whose memory the address is; NULL: none. */
invar_region *invar_check_region(const invar_checker *checker, const void *address);
int64_t invar_check_index(const invar_region *region, const char *address, size_t bytes);

/* check_access.c */
void invar_check_access(invar_lane *lane, void *address, size_t bytes, uint32_t write, void *pc, void *frame);
void invar_check_atomic(invar_lane *lane, void *address, uint32_t bytes, uint32_t operation);
/* Decides the writes that wait for their value. Called before anything else can happen. */
void invar_check_settle(invar_checker *checker);

/* check_order.c */
bool invar_order_begin(invar_checker *checker);
void invar_order_end(invar_checker *checker);
void invar_order_run(invar_checker *checker);   /* a run of the launch begins */
void invar_order_group(invar_checker *checker); /* a group begins */
void invar_order_thread(invar_checker *checker, uint32_t index);
void invar_order_meet(invar_checker *checker, uint32_t first, uint32_t active); /* lanes of the simdgroup at index `first` */
void invar_order_barrier(invar_checker *checker, uint32_t memory);
void invar_order_fence(invar_checker *checker, uint32_t index);
void invar_order_atomic(invar_checker *checker, uint32_t index, void *address, bool reads, bool writes);
/* Whether the access is ordered before whatever the thread `index` of the running group does now. */
bool invar_order_known(invar_checker *checker, const invar_access *access, int space, uint32_t index);

/* check_report.c */
uint32_t invar_check_where(invar_checker *checker, void *pc, void *frame);
invar_place invar_check_site(const invar_checker *checker, int32_t site);
/* Adds the finding unless one of its kind and place is known: then that one's count grows. */
void invar_check_find(invar_checker *checker, const invar_finding *finding);
void invar_check_set_thread(const invar_checker *checker, uint32_t group, uint32_t index, int64_t thread[3],
                            int64_t group_position[3]);
void invar_check_race(invar_checker *checker, const invar_region *region, const char *address, uint32_t bytes,
                      const invar_access *prior, const invar_access *now, bool prior_reads, bool now_reads);
invar_status invar_check_conclude(invar_checker *checker);

#endif
