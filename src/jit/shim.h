/* The text that stands before a user's kernel in every generated program: which parts there are and when they are needed. */
#ifndef INVAR_JIT_SHIM_H
#define INVAR_JIT_SHIM_H

#include <stdint.h>

enum { INVAR_SHIM_METAL = 1, INVAR_SHIM_CUDA = 2, INVAR_SHIM_ANY = 3 };

/* A part is needed when its dialect is the kernel's and the kernel's text, header included, uses one of its words (words
 * are separated by spaces; NULL: always). Parts come in the order in which they must stand. */
typedef struct invar_shim_part {
    const char *name;  /* the file in src/jit/shim, or runtime.h */
    const char *text;  /* NUL-terminated */
    uint32_t dialects; /* INVAR_SHIM_... */
    const char *words;
} invar_shim_part;

extern const invar_shim_part invar_shim_parts[];
extern const int32_t invar_shim_part_count;

/* What a marked function does (jit/runtime.h says how it is marked), and with it the mode that its kernel runs in. */
enum {
    INVAR_CALL_SIMD = 1,   /* lanes meet: SIMD mode at least */
    INVAR_CALL_BARRIER,    /* threads meet: GROUP mode */
    INVAR_CALL_ATOMIC,     /* GROUP mode where a loop holds it, since the loop may wait for another thread */
    INVAR_CALL_POSITION    /* asks where it is, and meets nobody: any mode where it stands in the body, at least SIMD mode
                              in the header, whose functions find their thread by the fibre */
};

typedef struct invar_shim_call {
    const char *name;  /* the last part of it: simd_sum for metal::simd_sum; ".sync" for a method */
    uint32_t dialects; /* INVAR_SHIM_... */
    uint32_t kind;     /* INVAR_CALL_... */
} invar_shim_call;

extern const invar_shim_call invar_shim_calls[];
extern const int32_t invar_shim_call_count;

#endif
