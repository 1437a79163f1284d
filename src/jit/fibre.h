/* Fibres: stacks that a thread of the machine switches between by hand, one for each lane that waits. */
#ifndef INVAR_JIT_FIBRE_H
#define INVAR_JIT_FIBRE_H

#include "jit/runtime.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INVAR_FIBRE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INVAR_FIBRE_SANITIZED 1
#endif
#endif

/* Behind a lane's own bytes, in the cache line of what a waiting lane reads; the stack proper begins below them all. */
typedef struct invar_stack_state {
    void *stack_pointer; /* while it is switched away from */
#ifdef INVAR_FIBRE_SANITIZED
    void *sanitizer;     /* what a thread sanitizer calls it */
#endif
} invar_stack_state;

/* The stacks that one thread of the machine keeps, so that a launch finds those of the launch before. */
typedef struct invar_stacks {
    invar_stack_state home;              /* the thread's own stack */
    int free_count;
    int count;                           /* free or not */
    int chunk_count;
    int in_use;
    invar_lane *free[INVAR_MAX_THREADS]; /* the last one given back is the warmest, and goes first */
    void *chunks[INVAR_MAX_THREADS];     /* what was mapped */
} invar_stacks;

/* The calling thread's stacks, all free; others when those are in use. NULL when out of memory. */
invar_stacks *invar_stacks_take(void);
void invar_stacks_give(invar_stacks *stacks);
/* Frees every stack and forgets the lanes that were left in the middle. */
void invar_stacks_reset(invar_stacks *stacks);

/* Makes more free stacks. False when there is no memory for one, or INVAR_MAX_THREADS exist. */
int invar_stacks_grow(invar_stacks *stacks);

static inline invar_stack_state *invar_stack_state_of(invar_lane *lane) {
    return (invar_stack_state *)(lane + 1);
}

/* Makes the next switch to the lane's stack call entry there, whose first act is invar_fibre_arrived. It never returns. */
void invar_fibre_prepare(invar_lane *lane, void (*entry)(void));

/* Leaves a state in *from and goes on from `to`, which such a call left, or a wait, or invar_fibre_prepare. What goes on
 * there gets `result` from its own call. The floating-point environment is not part of it: lanes share their thread's. */
uint32_t invar_fibre_swap(void **from, void *to, uint32_t result);

/* What a wait comes to: a stack to go on with, and what the call that left it gives there. */
typedef struct invar_next {
    void *stack_pointer;
    uint64_t result;
} invar_next;

#if defined(INVAR_FIBRE_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__)) || defined(_WIN32)
#define INVAR_FIBRE_BY_UCONTEXT 1
#endif

/* Where there is assembler, and no sanitizer wants to be told, the executor's services (exec_group.h) are entry points
 * written in it, which call a function of the same name with _step behind it: it says which stack comes next. */
#if !defined(INVAR_FIBRE_SANITIZED) && !defined(INVAR_FIBRE_BY_UCONTEXT)
#define INVAR_FIBRE_ENTRIES 1
#endif

/* Swap with the sanitizers told, where the build has one. from, to: NULL is the thread's own stack. */
#ifdef INVAR_FIBRE_SANITIZED
uint32_t invar_fibre_switch(invar_stacks *stacks, invar_lane *from, invar_lane *to, uint32_t result);
void invar_fibre_arrived(void);
#else
static inline uint32_t invar_fibre_switch(invar_stacks *stacks, invar_lane *from, invar_lane *to, uint32_t result) {
    return invar_fibre_swap(from ? &invar_stack_state_of(from)->stack_pointer : &stacks->home.stack_pointer,
                            to ? invar_stack_state_of(to)->stack_pointer : stacks->home.stack_pointer, result);
}
static inline void invar_fibre_arrived(void) {}
#endif

#endif
