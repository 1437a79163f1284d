/* What to write instead, where a compiler's words do not say it. */
#ifndef INVAR_JIT_ADVICE_H
#define INVAR_JIT_ADVICE_H

#include <stdbool.h>

/* For an error message of gcc, clang or NVRTC about a kernel in that dialect; NULL where there is nothing to add. */
const char *invar_compile_advice(const char *message, bool cuda);

#endif
