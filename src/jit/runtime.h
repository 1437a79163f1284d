/* What the library and a compiled kernel agree on. The text of this file opens every generated program, so it is both
 * C11 and C++17, includes nothing heavy, and defines no function-like macro.
 *
 * A generated program for the CPU, in order:
 *
 *     #define INVAR_SHIM_...                      switches (jit/shim.h)
 *     runtime.h, then the parts of the shim that the kernel needs (jit/shim.h): all in `namespace invar_shim`
 *     namespace invar_shim { namespace user {     Metal: `using namespace metal;` follows
 *     the user's header and body, as one function that takes arrays and positions as parameters
 *     } }
 *     the entry points below, and `extern "C" invar_module invar_kernel_module`
 *
 * The translator marks each collective and each atomic operation, and each cooperative_groups query, by a first
 * argument `invar_here(7)`, where 7 is the call's number in source order: `simd_sum(x)` becomes
 * `simd_sum(invar_here(7), x)`. At namespace scope invar_here is a type that finds its thread by the fibre it runs on. In
 * the body of a LOOP or FLAT kernel, which has no fibre, a parameter `const invar_here_at invar_here` hides it. */
#ifndef INVAR_JIT_RUNTIME_H
#define INVAR_JIT_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

enum {
    INVAR_RUNTIME_VERSION = 1,
    INVAR_SIMD_WIDTH = 32,
    INVAR_MAX_THREADS = 1024, /* in a group */
    INVAR_VALUE_BYTES = 32,   /* the largest value that a lane hands to a collective: a vector of four 64-bit elements */
    INVAR_MAX_SHARED = 256,   /* threadgroup arrays in one kernel */
    INVAR_MAX_EXTENTS = 6
};

/* How the threads of a kernel are run. */
enum {
    INVAR_MODE_FLAT = 1, /* no collective, and no name that tells groups apart: any box of the grid is one call */
    INVAR_MODE_LOOP = 2, /* no collective: one call a group */
    INVAR_MODE_SIMD = 3, /* simd operations, but no barrier and no atomic in a loop: simdgroups one after another */
    INVAR_MODE_GROUP = 4 /* the rest: all threads of a group in turn */
};

/* One launch: what every thread sees alike. */
typedef struct invar_launch {
    void *const *arrays;             /* inputs, then outputs: where element 0 is */
    const int32_t *const *shapes;    /* inputs, then outputs: [ndim] each */
    const int64_t *const *strides;   /* in elements, as shapes */
    const int32_t *ndims;
    int64_t size;                    /* elements of the first output */
    uint32_t grid[3];                /* threads; in CUDA the padding threads too */
    uint32_t threadgroup[3];         /* threads a group, whole ones */
    uint32_t groups[3];
    uint32_t dynamic_shared;         /* CUDA: bytes behind `extern __shared__` */
} invar_launch;

/* Threads that one call of a FLAT or LOOP kernel runs: begin <= position < end. LOOP: exactly the group's threads. */
typedef struct invar_block {
    uint32_t group[3];
    uint32_t begin[3], end[3];
} invar_block;

/* One thread. The last group of an axis may be partial: size is what it really has, and index counts by that. */
typedef struct invar_position {
    uint32_t grid[3];  /* position in the grid */
    uint32_t local[3]; /* and in the group */
    uint32_t group[3];
    uint32_t size[3];  /* threads of this group */
    uint32_t index;    /* local, as one number: x + size.x·(y + size.y·z) */
} invar_position;

/* What the lanes of a simdgroup hand over. `in` is a lane's operand and `out` its result, INVAR_VALUE_BYTES each; `active`
 * are the lanes that take part. A resolver reads `in` of the active lanes only and writes `out` of those. */
typedef struct invar_exchange {
    uint32_t active;
    char *in, *out; /* [INVAR_SIMD_WIDTH][INVAR_VALUE_BYTES], 64-byte aligned */
} invar_exchange;

typedef void (*invar_resolve)(const invar_exchange *exchange);

typedef struct invar_lane invar_lane;

/* What a memory barrier orders, as Metal's mem_flags. */
enum { INVAR_MEMORY_NONE = 0, INVAR_MEMORY_DEVICE = 1, INVAR_MEMORY_THREADGROUP = 2, INVAR_MEMORY_ALL = 3 };

/* The atomic operation that invar_runtime.atomic announces. A fence (__threadfence, atomic_thread_fence) has no address. */
enum {
    INVAR_ATOMIC_LOAD = 0,
    INVAR_ATOMIC_STORE = 1,
    INVAR_ATOMIC_MODIFY = 2,
    INVAR_ATOMIC_FLOAT_ADD = 3,
    INVAR_ATOMIC_FENCE = 4
};

/* What invar_runtime.undefined is told. */
enum {
    INVAR_UNDEFINED_DIVISION = 0, /* an integer is divided by zero */
    INVAR_UNDEFINED_OVERFLOW = 1, /* the smallest integer is divided by -1 */
    INVAR_UNDEFINED_RETURN = 2,   /* a function ends without the value that it promises */
    INVAR_UNDEFINED_UNREACHABLE = 3,
    INVAR_UNDEFINED_TRAP = 4
};

/* The library's half of a collective. `site` is invar_here's number, or 0. */
typedef struct invar_runtime {
    /* Waits until the lanes of `mask` that still live are at this site, then runs resolve once for them (NULL: nothing to
     * do), and returns the lanes that took part. mask 0: whoever comes here once every lane of the simdgroup waits. */
    uint32_t (*collective)(invar_lane *lane, int32_t site, uint32_t mask, invar_resolve resolve);
    /* Waits for every live thread of the group. Returns how many of them gave a nonzero `vote`. */
    uint32_t (*barrier)(invar_lane *lane, int32_t site, uint32_t memory, uint32_t vote);
    /* Lets other threads run: called when a lane has done `patience` atomic operations in a row. */
    void (*yield)(invar_lane *lane, int32_t site);
    /* Check mode only, before the operation. */
    void (*atomic)(invar_lane *lane, void *address, uint32_t bytes, uint32_t operation);
    /* Check mode only: an access at `pc`, made from a function whose frame is `frame`. */
    void (*access)(invar_lane *lane, void *address, size_t bytes, uint32_t write, void *pc, void *frame);
    /* Check mode only: a basic block was entered. */
    void (*turn)(invar_lane *lane, void *pc, void *frame);
    /* Check mode only, before what would end the process; does not return. */
    void (*undefined)(invar_lane *lane, uint32_t what, void *pc, void *frame);
    /* Check mode only, before an element is reached that the array has not; `array` names its type. Returns only where that
     * may be a threadgroup array, whose accesses are told one by one. */
    void (*beyond)(invar_lane *lane, int64_t index, const char *array, void *pc, void *frame);
} invar_runtime;

/* A thread that runs on a fibre: SIMD and GROUP kernels, and all kernels in check mode. */
struct invar_lane {
    invar_position position;
    uint32_t number;                 /* in the simdgroup: position.index % INVAR_SIMD_WIDTH */
    uint32_t idle;                   /* atomic operations in a row that changed nothing */
    int32_t patience;                /* atomic operations left until yield */
    const invar_launch *launch;
    const invar_runtime *runtime;
    invar_exchange *exchange;        /* its simdgroup's */
    char *const *shared;             /* where each threadgroup array of invar_module.shared is */
    char *dynamic_shared;            /* CUDA: behind `extern __shared__`, 128-byte aligned */
};

/* A stack is 2^INVAR_STACK_BITS bytes, aligned to its size. The lane lies near its top, at a distance that differs from stack
 * to stack: at equal distances all lanes of a group would share one set of every cache, and at distances of less than a page
 * a few sets of the second TLB, which takes a page's place from the low bits of its number. */
enum { INVAR_STACK_BITS = 20, INVAR_STACK_LINES = 64, INVAR_STACK_PAGES = 64, INVAR_LANE_BYTES = 192 };
__attribute__((always_inline)) static inline invar_lane *invar_lane_of(const void *stack_pointer) {
    uintptr_t address = (uintptr_t)stack_pointer, top = (address | (((uintptr_t)1 << INVAR_STACK_BITS) - 1)) + 1;
    uintptr_t number = address >> INVAR_STACK_BITS, line = number % INVAR_STACK_LINES;
    uintptr_t page = (number + number / INVAR_STACK_LINES) % INVAR_STACK_PAGES;
    return (invar_lane *)(top - page * 4096 - line * 64 - INVAR_LANE_BYTES);
}

/* A threadgroup array, noted when the program is loaded. */
typedef struct invar_shared {
    const char *name; /* NULL: the kernel has no such number */
    uint32_t bytes, element_bytes;
    uint32_t extents[INVAR_MAX_EXTENTS]; /* outermost first, those of further axes left out; 0 behind the last */
} invar_shared;

/* Where a marked call stands in the user's text. */
typedef struct invar_site {
    const char *file, *name; /* "<name>.metal", "simd_sum" */
    int32_t line;
} invar_site;

typedef struct invar_module {
    uint32_t version;                                                  /* INVAR_RUNTIME_VERSION */
    uint32_t mode;                                                     /* INVAR_MODE_... */
    void (*block)(const invar_launch *launch, const invar_block *block); /* FLAT and LOOP, not in check mode */
    void (*thread)(const invar_lane *lane);                            /* the others: runs one thread to its end */
    const invar_site *sites;                                           /* [site_count]; 0 is no site */
    const invar_shared *shared;                                        /* [INVAR_MAX_SHARED], by number */
    int32_t site_count;
} invar_module;

#endif
