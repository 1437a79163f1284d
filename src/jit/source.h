/* What is known of a kernel's text after it has been read: the passes of the translator and what they share.
 *
 *     lexer.c    tokens
 *     branches.c what an #if leaves out
 *     scope.c    where each token stands, and the functions that the user defines
 *     words.c    names in use
 *     refuse.c   what cannot be translated
 *     rules.c    how each token is written: address spaces, literals, attributes, directives
 *     arms.c     Metal's ?:
 *     storage.c  threadgroup arrays
 *     twins.c    functions that differ in nothing but address spaces
 *     loops.c    which loops hold a token
 *     marks.c    collectives and atomics, in functions and macros
 *     numbers.c  their numbers
 *     mode.c     how the threads are run
 *     lane_loops.c loops that lanes walk through side by side
 *     alignment.c what it takes for granted of arrays' addresses
 *     lower.c    writes one text by its rules
 *     generate.c, signature.c, parts.c, entry.c   the program around it (jit/program.h)
 */
#ifndef INVAR_JIT_SOURCE_H
#define INVAR_JIT_SOURCE_H

#include "core/status.h"
#include "jit/generate.h"
#include "jit/lexer.h"
#include "jit/runtime.h"
#include "jit/shim.h"

enum { INVAR_HEADER = 0, INVAR_BODY = 1, INVAR_FILES = 2 };

/* How a token is written. Where host and device differ, the host's way is named. */
enum {
    INVAR_RULE_KEEP = 0,
    INVAR_RULE_DROP,     /* not at all, on host and device */
    INVAR_RULE_HOST_DROP,/* kept for the device */
    INVAR_RULE_FLOAT,    /* with an f behind it */
    INVAR_RULE_HALF,     /* invar_half_literal(...) less its suffix */
    INVAR_RULE_BFLOAT,
    INVAR_RULE_CONSTANT, /* static constexpr */
    INVAR_RULE_STATIC,   /* static const, for CUDA's __constant__ */
    INVAR_RULE_INLINE,   /* inline, for METAL_FUNC */
    INVAR_RULE_VOID,     /* (void), for assert */
    INVAR_RULE_ALIGN,    /* __align__(n) becomes an attribute, whose end is the token `)` */
    INVAR_RULE_ALIGN_END,
    INVAR_RULE_TAKE,     /* Metal: a swizzle that is read */
    INVAR_RULE_PUT,      /* a swizzle that is assigned to */
    INVAR_RULE_GRID,     /* CUDA: blockIdx.x * blockDim.x + threadIdx.x, the position in the grid; value: the axis */
    INVAR_RULE_SIZE,     /* <array>.size(): the elements of array `value` */
    INVAR_RULE_STORAGE,  /* opens the declaration of threadgroup arrays; value: the first of them */
    INVAR_RULE_MARK,     /* a `(`: followed by invar_here of item `value` */
    INVAR_RULE_CALL,     /* a `(`: followed by the base number of item `value` */
    INVAR_RULE_DEFINE,   /* a `(`: followed by the parameter that takes such a base */
    INVAR_RULE_OVERLOAD, /* a `(`: followed by a parameter that takes any mark */
    INVAR_RULE_TURN,     /* check mode: what a loop repeats, or a goto, after a statement that does nothing (loops.c) */
    INVAR_RULE_LANES     /* the `=` of lane loop `value`: followed by its walk (lane_loops.c) */
};

/* What is written before a token, in this order. */
enum { INVAR_BEFORE_ARM = 1 /* invar_arm = */, INVAR_BEFORE_CHOICE = 2 /* invar_choice = */ };

/* A function that the header or the body defines or declares. */
typedef struct invar_function {
    int32_t file;
    int32_t name;  /* token; -1: an operator */
    int32_t open;  /* token `(` of its parameters */
    int32_t scope; /* INVAR_SCOPE_..., where it is declared */
    int32_t group; /* functions of one name are one group (marks.c); -1 */
    int32_t begin; /* first token of the declaration */
    int32_t brace; /* `{` of its body; -1 where it is only declared */
    int32_t owner; /* `{` of the struct or namespace around it; -1 */
    bool constructor;
} invar_function;

/* One declarator of `threadgroup T x[...]` or `__shared__ T x[...]`. */
typedef struct invar_storage {
    int32_t file;
    int32_t type, type_end; /* tokens of the type: [type, type_end) */
    int32_t brace;          /* `{` of a struct that the type defines; -1 */
    int32_t name;           /* token */
    int32_t dims, dims_end; /* tokens of [..][..]; equal where it is no array */
    int32_t end;            /* token `;` of the declaration */
    bool dynamic;           /* extern: CUDA's dynamic shared memory */
    bool more;              /* another declarator follows */
} invar_storage;

/* A marked call, or a call of one of the user's functions that reach a collective, in the order of the text. */
typedef struct invar_item {
    int32_t file;
    int32_t token;  /* the name */
    int32_t open;   /* its `(` */
    int32_t within; /* group that it stands in and counts from; -1: it has a number of its own */
    int32_t callee; /* group; -1: a marked call */
    int32_t number; /* first of its numbers, counted within `within` */
    int32_t of;     /* this is a use of a macro: the item in the macro's text that it stands for; -1 */
    int32_t macro;  /* in a macro's text: the macro that is used here; -1 */
    int32_t last;   /* last line of the use */
    uint8_t kind;   /* INVAR_CALL_... */
    bool text;      /* it stands in the text of a macro, whose uses are numbered instead of it */
    bool loose;     /* it stands in a function: its thread is found by the fibre, and any loop may call it */
} invar_item;

/* A #define whose text holds items. */
typedef struct invar_macro {
    int32_t file, name; /* token */
    int32_t next;       /* in its hash chain */
    int32_t first, count; /* items */
} invar_macro;

typedef struct invar_group {
    int32_t function; /* the first function of the name */
    int32_t next;     /* in its hash chain */
    int32_t span;     /* numbers that one call takes */
    uint8_t state;    /* of the walk over calls */
    bool meets;       /* reaches a collective: takes a base number */
    bool bare;        /* its name is used as a value, or it is a constructor: numbers of its own */
    bool overload;    /* its name is a marked one */
} invar_group;

enum { INVAR_MAX_VARIED = 3, INVAR_MAX_INNER = 16, INVAR_MAX_SUBSCRIPTS = 16, INVAR_MAX_LANE_LOOPS = 16 };

/* for (T counter = first...; counter < bound...; counter += step...) body: tokens of the body's text. */
typedef struct invar_lane_loop {
    int32_t keyword, counter, first, bound, step, body, end;
    bool closed; /* <= */
    int32_t varied[INVAR_MAX_VARIED], varied_count; /* locals from outside that it assigns to */
    int32_t inner[INVAR_MAX_INNER], inner_count;    /* its own */
    int32_t shared[INVAR_MAX_VARIED], shared_count; /* threadgroup arrays that it reads */
    int32_t subscripts[INVAR_MAX_SUBSCRIPTS], subscript_count; /* the `[` of each that the counter stands in */
} invar_lane_loop;

enum { INVAR_USES_SHAPE = 1, INVAR_USES_STRIDES = 2, INVAR_USES_NDIM = 4, INVAR_USES_SIZE = 8 };
enum { INVAR_MAX_ARRAYS = 128, INVAR_MAX_SITES = 1 << 16, INVAR_WORD_BITS = 1 << 15, INVAR_SWIZZLE_CODES = 2048 };

struct invar_source {
    int32_t dialect, math_mode;
    bool atomic_outputs;
    int32_t input_count, array_count;
    const char *name;
    const char *arrays[INVAR_MAX_ARRAYS]; /* inputs, then outputs */
    uint8_t uses[INVAR_MAX_ARRAYS];       /* INVAR_USES_... */
    bool uses_size, uses_grid;
    uint32_t positions; /* attributes in use, a bit each (jit/position.h) */
    uint32_t mode;
    uint64_t words[INVAR_WORD_BITS / 64];           /* the names in the text */
    bool members[INVAR_SWIZZLE_CODES];              /* by invar_swizzle_code: a struct of the user's has a member like xy */
    invar_file files[INVAR_FILES];
    char *texts[INVAR_FILES]; /* their texts less what an #if leaves out; NULL where they are the user's own */
    invar_function *functions;
    int32_t function_count, function_capacity;
    invar_storage *storage; /* by the number of the threadgroup array, less dynamic ones */
    int32_t storage_count, storage_capacity;
    invar_item *items;
    int32_t item_count, item_capacity;
    invar_macro *macros;
    int32_t macro_count, macro_capacity;
    invar_group *groups;
    int32_t group_count, group_capacity;
    invar_lane_loop lane_loops[INVAR_MAX_LANE_LOOPS];
    int32_t lane_loop_count;
    int32_t *places; /* item, by number; 0 is none */
    int32_t place_count, place_capacity;
};

/* Whether functions of the group take a base number. */
bool invar_takes_base(const invar_source *source, int32_t group);

/* The sentence "metal_kernel: softmax.metal:7: ...". */
__attribute__((format(printf, 4, 5))) invar_status invar_source_fail(const invar_source *source, int32_t file,
                                                                     int32_t line, const char *format, ...);
invar_status invar_source_memory(const invar_source *source);
const char *invar_source_operation(const invar_source *source);
const char *invar_source_suffix(const invar_source *source, int32_t file); /* "metal", "cu", "header" */

/* Fills source->texts, from the tokens of all files. */
invar_status invar_read_branches(invar_source *source);
/* The passes, in order. Each may refuse the text. */
invar_status invar_read_scopes(invar_source *source, int32_t file);
invar_status invar_read_refusals(const invar_source *source, int32_t file);
invar_status invar_read_rules(invar_source *source, int32_t file);
/* Metal, after the rules: the arms of ?:. */
void invar_read_arms(invar_source *source, int32_t file);
invar_status invar_read_storage(invar_source *source, int32_t file);
invar_status invar_read_twins(invar_source *source);
void invar_read_loops(invar_source *source, int32_t file);
invar_status invar_read_marks(invar_source *source);
invar_status invar_read_numbers(invar_source *source);
void invar_read_names(invar_source *source, int32_t file);
void invar_read_mode(invar_source *source);
void invar_read_lane_loops(invar_source *source); /* after the mode */

static inline bool invar_is_metal(const invar_source *source) { return source->dialect == INVAR_DIALECT_METAL; }
/* The dialect as the shim's tables have it. */
static inline uint32_t invar_dialect_bit(const invar_source *source) {
    return invar_is_metal(source) ? INVAR_SHIM_METAL : INVAR_SHIM_CUDA;
}

uint32_t invar_word_hash(const char *word, size_t length);
/* Sets of words, a bit for the hash of each: one that is not in it may seem to be. */
void invar_words_add(uint64_t words[INVAR_WORD_BITS / 64], const char *word, size_t length);
bool invar_words_have(const uint64_t words[INVAR_WORD_BITS / 64], const char *word, size_t length);

/* "xzy" and "rbg" read as places of a vector: a code below INVAR_SWIZZLE_CODES, places[0..*count); -1 where the token is no
 * swizzle of two letters or more. */
int32_t invar_swizzle_code(const invar_file *file, int32_t i, int places[4], int *count);
void invar_read_words(invar_source *source, int32_t file);
void invar_read_members(invar_source *source, int32_t file);

/* Appends a text, written by its tokens' rules for the target. Its lines stay. check: for check mode. */
void invar_lower(const invar_source *source, int32_t file, int32_t target, bool check, invar_text *text);
/* For the host, at the head of the body: pointers to the dynamic shared memory that the header declares. */
void invar_lower_pointers(const invar_source *source, invar_text *text);

#endif
