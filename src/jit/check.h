/* Check mode: a kernel run on one thread of the machine over guarded copies of its arrays, every access looked at.
 *
 * A check build is compiled with invar_check_flags: the compiler's own hooks (those of its thread
 * sanitizer, which is not linked, and of its coverage) call the functions that shim/check.h defines, and these call
 * invar_runtime.access and .turn. Every access is seen, whatever pointer or reference it is made through; a program
 * counter becomes the user's line by the shared object's own line table. */
#ifndef INVAR_JIT_CHECK_H
#define INVAR_JIT_CHECK_H

#include "core/status.h"
#include "jit/runtime.h"

#include <invar/kernel.h>

#include <stdbool.h>

/* Flags for making the object file, in place of -O3; NULL behind the last. They hold the optimisation level, debug
 * information and the hooks. The object is then linked by a second command, without them: the compiler would link its
 * sanitizer. clang: whether the compiler is clang or zig, which know some of them by other names. */
const char *const *invar_check_flags(bool clang);

/* An array of the launch, in the order of invar_launch.arrays. */
typedef struct invar_check_array {
    const char *name;
    invar_dtype dtype;
    int64_t begin, end; /* the elements that exist, counted from element 0; begin < 0: a view with negative strides */
    bool output;
    bool initialised;   /* an output that holds init_value */
} invar_check_array;

typedef struct invar_check {
    const invar_module *module;    /* of a program generated for check mode */
    void *handle;                  /* of dlopen, whose symbol invar_check_runtime the hooks read; NULL: no hooks */
    const char *object;            /* the file it was loaded from, still readable; NULL: no lines */
    const invar_launch *launch;
    const invar_check_array *arrays; /* inputs, then outputs */
    int32_t array_count;
    int32_t dialect;               /* INVAR_DIALECT_...: which threads a barrier waits for */
    const char *operation, *kernel; /* "metal_kernel", "softmax" */
    const char *body, *header;     /* the names of the user's texts in #line: "softmax.metal", "softmax.header" */
    bool strict;
    invar_kernel_report_callback report; /* NULL: none */
    void *report_argument;
} invar_check;

/* Runs the launch under several schedules; outputs get the first one's results. Reports each defect once.
 * INVAR_ERROR_KERNEL_CHECK: there were defects; the sentence holds all of theirs, a line each. */
invar_status invar_check_run(const invar_check *check);

#endif
