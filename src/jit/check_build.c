/* How a check build is compiled. */
#include "jit/check.h"

/* No inlining and frame pointers: an access in a function of the shim is blamed on the user's line that called it, found
 * by walking the frames. -Og and not -O1 for g++, which would move stores out of loops, away from their lines. */
#define FOR_BOTH                                                                                                    \
    "-g1", "-gdwarf-4", "-fno-inline", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-fsanitize=thread", \
        "-fsanitize-coverage=trace-pc"

const char *const *invar_check_flags(bool clang) {
    static const char *const for_gcc[] = { "-Og", FOR_BOTH, NULL };
    /* Without the last two clang leaves out the read of a place that is then written. */
    static const char *const for_clang[] = { "-O1", FOR_BOTH, "-mllvm", "-tsan-instrument-read-before-write=1", NULL };
    return clang ? for_clang : for_gcc;
}
