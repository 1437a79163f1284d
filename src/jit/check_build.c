/* How a check build is compiled. */
#include "jit/check.h"

/* Unoptimised, so that every access stands where the user wrote it, and a loop that does nothing still makes turns. Frame
 * pointers: an access in a function of the shim is blamed on the user's line that called it, found by walking the frames.
 * A division that overflows is seen where signed-integer-overflow stands beside it.
 * zig adds -fsanitize=undefined to what is not optimised, and drops all of an option that names `thread` or `undefined`
 * beside others: each has one of its own. No stack protector: it would end the process. */
#define FOR_BOTH "-O0", "-g1", "-gdwarf-4", "-fno-omit-frame-pointer", "-fno-stack-protector", "-fno-sanitize=undefined", \
                 "-fsanitize=thread", "-fsanitize=integer-divide-by-zero,signed-integer-overflow,return,unreachable", \
                 "-fsanitize-coverage=trace-pc"

const char *const *invar_check_flags(bool clang) {
    static const char *const for_gcc[] = { FOR_BOTH, "-fsanitize=bounds-strict", NULL };
    /* clang would leave out the read of a place that is then written, and hooks in blocks that others imply. Its `bounds` holds
     * local-bounds too, which raises a signal. */
    static const char *const for_clang[] = { FOR_BOTH, "-fsanitize=array-bounds",
                                             "-mllvm", "-tsan-instrument-read-before-write=1",
                                             "-mllvm", "-sanitizer-coverage-prune-blocks=0", NULL };
    return clang ? for_clang : for_gcc;
}
