/* How a check build is compiled. */
#include "jit/check.h"

/* Unoptimised, so that every access stands where the user wrote it, and a loop that does nothing still makes turns. Frame
 * pointers: an access in a function of the shim is blamed on the user's line that called it, found by walking the frames. */
#define FOR_BOTH "-O0", "-g1", "-gdwarf-4", "-fno-omit-frame-pointer", "-fsanitize=thread,integer-divide-by-zero", \
                 "-fsanitize-coverage=trace-pc"

const char *const *invar_check_flags(bool clang) {
    static const char *const for_gcc[] = { FOR_BOTH, NULL };
    /* clang would leave out the read of a place that is then written, and hooks in blocks that others imply. */
    static const char *const for_clang[] = { FOR_BOTH, "-mllvm", "-tsan-instrument-read-before-write=1",
                                             "-mllvm", "-sanitizer-coverage-prune-blocks=0", NULL };
    return clang ? for_clang : for_gcc;
}
