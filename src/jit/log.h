/* A compiler's log, cut down to what concerns the user: errors at the lines of the user's own text. */
#ifndef INVAR_JIT_LOG_H
#define INVAR_JIT_LOG_H

#include "jit/text.h"

/* A text that the user wrote, under the name that #line gives it. */
typedef struct invar_user_text {
    const char *file; /* "softmax.metal" */
    const char *text;
} invar_user_text;

/* Appends "softmax.metal:3: error: 'foo' was not declared in this scope", with the user's line, a mark of the place below it, and
 * "      = " and advice where there is some, for each error of a gcc, clang or NVRTC log. An error inside the library's own text is
 * told at the user's line that led there; context that names only that text is left out. A log in which nothing is recognised is
 * appended as it is. `program` is what was compiled: its columns are not the user's, since the translator writes some tokens
 * otherwise; NULL where it is unknown. */
void invar_compiler_log(invar_text *out, const char *log, const char *program, const invar_user_text *texts, int text_count);

#endif
