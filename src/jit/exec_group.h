/* One group of threads in turn on one thread of the machine: who waits for what, and who runs next. */
#ifndef INVAR_JIT_EXEC_GROUP_H
#define INVAR_JIT_EXEC_GROUP_H

#include "jit/fibre.h"

#include <stdbool.h>

/* A lane and what the executor adds to it: first what a wait touches, which ends with the lane's second cache line. */
typedef struct invar_fibre {
    invar_lane lane; /* first: invar_lane_of finds it */
    invar_stack_state stack;
    struct invar_group *group;
    struct invar_fibre *after; /* the lane that went on when this one last waited */
    struct invar_simdgroup *simd;
    uint32_t working; /* times that it gave way although it had changed something */
    uint32_t killed;  /* its stack stands in the middle of a lane that is no more */
} invar_fibre;
_Static_assert(sizeof(invar_fibre) <= INVAR_LANE_BYTES && offsetof(invar_fibre, stack) == sizeof(invar_lane),
               "a lane's bytes hold it, and invar_stack_state_of finds its stack");

/* Each lane of a simdgroup is in one of the sets ready, waiting, parked and yielded, is running, or has ended. */
typedef struct invar_simdgroup {
    uint32_t live;    /* not ended */
    uint32_t ready;   /* can run; those without a fibre have not begun */
    uint32_t waiting; /* at a collective */
    uint32_t parked;  /* at the barrier */
    uint32_t yielded; /* will be ready when their simdgroup has its turn */
    uint32_t common;  /* whether the waiting ones are alike in site and mask */
    uint32_t first;   /* index in the group of lane 0 */
    uint32_t number;
    invar_exchange exchange;
    invar_fibre *fibres[INVAR_SIMD_WIDTH];
    int32_t sites[INVAR_SIMD_WIDTH];    /* where each last waited; 0: nowhere yet */
    uint32_t masks[INVAR_SIMD_WIDTH];
    uint32_t results[INVAR_SIMD_WIDTH]; /* of the last wait: the lanes that took part, or the votes */
    invar_resolve resolves[INVAR_SIMD_WIDTH];
} invar_simdgroup;

/* How a group came to its end. */
typedef enum invar_group_end {
    INVAR_GROUP_DONE,
    INVAR_GROUP_DEADLOCK, /* lanes wait for lanes that do not come */
    INVAR_GROUP_SPIN,     /* lanes do atomic operations that change nothing, and nothing else happens */
    INVAR_GROUP_ENDLESS,  /* more turns than turn_limit */
    INVAR_GROUP_MEMORY,   /* no stack */
    INVAR_GROUP_STOPPED   /* by check mode, which has said why */
} invar_group_end;

/* In which order lanes run. Any is right; check mode compares them. */
typedef struct invar_schedule {
    bool descending; /* the highest lane and the last simdgroup first */
    bool straight;   /* a simdgroup goes on until all of it is at the barrier */
} invar_schedule;

/* Told of what happens, in check mode. */
typedef struct invar_observer {
    void (*begun)(struct invar_group *group, invar_fibre *fibre);
    void (*ended)(struct invar_group *group, invar_fibre *fibre);
    void (*resolved)(struct invar_group *group, invar_simdgroup *simd, uint32_t active);
    void (*opened)(struct invar_group *group);
} invar_observer;

/* Whether other groups, on other threads, may still help one whose lanes spin. */
typedef struct invar_stall {
    _Atomic int running, stalled;
    _Atomic uint64_t epoch;
} invar_stall;

typedef struct invar_group {
    /* for a launch */
    const invar_module *module;
    const invar_launch *launch;
    const invar_runtime *runtime;
    const invar_observer *observer; /* NULL: none */
    void *owner;                    /* the observer's */
    invar_schedule schedule;
    invar_stacks *stacks;
    invar_simdgroup *simds; /* [simdgroups of a whole group] */
    invar_stall *stall;     /* NULL: this group is alone */
    uint64_t quiet_limit, turn_limit;
    char *const *shared;
    char *dynamic_shared;

    /* for this group */
    uint32_t id[3], size[3];
    uint32_t simd_count; /* those that take part */
    uint32_t current;    /* the one whose lanes are running */
    uint32_t picked;     /* the lane of it to run next */
    uint32_t live, arrived, votes;
    uint32_t barrier_memory; /* what every lane that has arrived asked for */
    uint32_t next_index, next_local[3]; /* position of the lane that is likely to begin next */
    uint64_t quiet, turns;
    uint64_t stall_epoch;
    uint32_t stall_rounds;
    bool stalled;
    invar_group_end end;
    int32_t end_site;
    invar_position end_position; /* of a lane that waits or spins */
    uint32_t end_mask;           /* DEADLOCK: whom it waits for */
} invar_group;

/* Bytes of `simds` for groups of so many threads, exchanges included; 64-byte aligned. */
size_t invar_group_bytes(uint32_t threads);
void invar_group_lay_out(invar_group *group, void *memory, uint32_t threads);

/* Runs the group `id`. A module of SIMD mode has its simdgroups run one after another. */
invar_group_end invar_group_run(invar_group *group, const uint32_t id[3], bool simdgroups_apart);

/* The executor's services, and what their entry points in assembler call. */
uint32_t invar_group_collective(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolve);
uint32_t invar_group_barrier(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote);
void invar_group_yield(invar_lane *lane, int32_t site);
invar_next invar_group_collective_step(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolve);
invar_next invar_group_barrier_step(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote);
invar_next invar_group_yield_step(invar_lane *lane, int32_t site);

/* Ends the calling lane where it stands. Does not return. */
_Noreturn void invar_group_kill(invar_fibre *fibre);
/* Ends the group, and with it every lane, from a lane. Does not return. */
_Noreturn void invar_group_stop(invar_fibre *fibre, invar_group_end end, int32_t site);

#endif
