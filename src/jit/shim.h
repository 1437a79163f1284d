/* The text that stands before a user's kernel in every generated program: which parts there are and when they are needed. */
#ifndef INVAR_JIT_SHIM_H
#define INVAR_JIT_SHIM_H

#include <stdint.h>

enum { INVAR_SHIM_METAL = 1, INVAR_SHIM_CUDA = 2, INVAR_SHIM_ANY = 3 };

enum { INVAR_SHIM_CPU = 1, INVAR_SHIM_NVRTC = 2, INVAR_SHIM_BOTH = 3 };

/* A part is needed when its dialect is the kernel's, its target the program's, and the kernel's text, header included, or
 * the types and names that the translator itself writes, use one of its words (words are separated by spaces; NULL:
 * always). Parts come in the order in which they must stand. */
typedef struct invar_shim_part {
    const char *name;  /* the file in src/jit/shim, or runtime.h */
    const char *text;  /* NUL-terminated */
    uint32_t dialects; /* INVAR_SHIM_METAL, ... */
    uint32_t targets;  /* INVAR_SHIM_CPU, ... */
    const char *words;
} invar_shim_part;

/* Switches that a program sets before its first part:
 *     #define INVAR_SHIM_FIBRES 1   for the CPU, where threads run on fibres: modes SIMD and GROUP, and check mode. Without
 *                                   it a marked atomic of the header touches no lane
 *     #define INVAR_SHIM_CHECK 1    check mode
 *     #define __FAST_MATH__ 1       math mode "fast"
 * NVRTC takes --device-as-default-execution-space: nothing in the shim carries __device__.
 *
 * Swizzles. Vectors have members x y z w and r g b a; a longer swizzle is a method, so that its value is a true vector:
 *     v.xzy          ->  v.template invar_take<0, 2, 1>()      where it is read
 *     v.xz = u       ->  v.template invar_put<0, 2>() = u      before = += -= *= /= %= &= |= ^= <<= >>= ++ --
 * for two to four letters of xyzw or of rgba after a `.` or `->`, except where a struct of the kernel's own has a member of
 * that name. */

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
