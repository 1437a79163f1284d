/* The C++ compiler of the machine: which one, what it is, and a generated program made into a shared object by it. */
#ifndef INVAR_JIT_COMPILE_H
#define INVAR_JIT_COMPILE_H

#include "core/status.h"
#include "jit/log.h"
#include "core/sha256.h"

#include <stdbool.h>

enum { INVAR_COMPILER_WORDS = 16, INVAR_COMPILER_TEXT = 2048, INVAR_VERSION_TEXT = 256 };

typedef struct invar_compiler {
    const char *words[INVAR_COMPILER_WORDS + 1]; /* how it is started; words[0] is a path; NULL behind the last */
    int word_count;
    char text[INVAR_COMPILER_TEXT];      /* holds the words */
    char identity[INVAR_SHA256_HEX];     /* of the words, and of path, size, inode and time of every file among them */
    char version[INVAR_VERSION_TEXT];    /* the first line of its --version; "" until invar_compiler_version */
} invar_compiler;

/* INVAR_CXX, which may hold words after the program's name; else c++, clang++ or g++ from PATH; else the words given to
 * invar_kernel_fallback_compiler. For check mode clang++ comes first: g++ has no hook for a structure that a function returns
 * into memory. Starts nothing. INVAR_ERROR_COMPILE when there is none. */
invar_status invar_compiler_find(invar_compiler *compiler, bool check, const char *operation);

/* Fills in version by starting the compiler. */
invar_status invar_compiler_version(invar_compiler *compiler, const char *operation);

/* What decides the flags. */
typedef struct invar_compile_options {
    const char *cpu;   /* as invar_context_description.cpu */
    int32_t math_mode; /* INVAR_MATH_... */
    bool check;
} invar_compile_options;

/* The largest frame of a kernel's function: 512 KiB is what CUDA gives a thread, and of a lane's stack 768 KiB are the
 * kernel's, with other lanes' stacks behind it. */
#define INVAR_FRAME_LIMIT "524288"

enum { INVAR_MAX_FLAGS = 48 };
/* The flags that make an object file, NULL behind the last. Returns how many. The compiler's version must be known. */
int invar_compile_flags(const char *flags[INVAR_MAX_FLAGS], const invar_compiler *compiler,
                        const invar_compile_options *options);

/* Compiles C++17 text to a shared object, which *object gets as bytes to be freed. INVAR_ERROR_COMPILE carries what the
 * compiler said of the user's texts. */
invar_status invar_compile(const invar_compiler *compiler, const invar_compile_options *options, const char *program,
                           size_t size, const invar_user_text *texts, int text_count, const char *operation,
                           char **object, size_t *object_size);

#endif
