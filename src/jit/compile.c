/* Finding the compiler and running it on a program in a temporary folder. */
#define _GNU_SOURCE
#include "jit/compile.h"

#include "jit/check.h"
#include "jit/process.h"

#include <invar/kernel.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LOG = 1 << 20 }; /* of which the first errors are told */

/* ---- which compiler ------------------------------------------------------------------------------ */

/* Words that were given, the last ones first. Never freed, since another thread may be reading them, and without a lock that a fork
 * could leave held. */
typedef struct fallback {
    const struct fallback *before;
    int count;
    char text[INVAR_COMPILER_TEXT]; /* words, each with its NUL */
} fallback;
static _Atomic(const fallback *) the_fallback;

/* Appends a word to the compiler's. False when it does not fit. */
static bool add_word(invar_compiler *compiler, const char *word, size_t length) {
    const char *last = compiler->word_count ? compiler->words[compiler->word_count - 1] : NULL;
    size_t used = last ? (size_t)(last - compiler->text) + strlen(last) + 1 : 0;
    if (compiler->word_count == INVAR_COMPILER_WORDS || used + length + 1 > sizeof compiler->text) return false;
    char *place = compiler->text + used;
    memcpy(place, word, length);
    place[length] = 0;
    compiler->words[compiler->word_count++] = place;
    compiler->words[compiler->word_count] = NULL;
    return true;
}

/* A program's name alone, or with words behind it, separated by blanks. */
static bool from_command(invar_compiler *compiler, const char *command) {
    char path[INVAR_PATH_BYTES], name[INVAR_PATH_BYTES];
    compiler->word_count = 0;
    if (invar_process_find(command, path)) return add_word(compiler, path, strlen(path)); /* a path may hold blanks */
    command += strspn(command, " \t");
    size_t length = strcspn(command, " \t");
    if (length >= sizeof name) return false;
    memcpy(name, command, length);
    name[length] = 0;
    if (!invar_process_find(name, path) || !add_word(compiler, path, strlen(path))) return false;
    for (command += length; *(command += strspn(command, " \t")); command += length) {
        length = strcspn(command, " \t");
        if (!add_word(compiler, command, length)) return false;
    }
    return true;
}

static bool from_fallback(invar_compiler *compiler) {
    char path[INVAR_PATH_BYTES];
    const fallback *given = atomic_load(&the_fallback);
    compiler->word_count = 0;
    if (!given || !given->count) return false;
    const char *word = given->text;
    bool good = invar_process_find(word, path) && add_word(compiler, path, strlen(path));
    for (int i = 1; good && i < given->count; i++) {
        word += strlen(word) + 1;
        good = add_word(compiler, word, strlen(word));
    }
    return good;
}

invar_status invar_kernel_fallback_compiler(const char *const *argv, int32_t count) {
    const char *operation = "kernel_fallback_compiler";
    if (count < 0 || count > INVAR_COMPILER_WORDS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: count: expected 0 to %d words, got %d", operation,
                          INVAR_COMPILER_WORDS, count);
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        if (!argv || !argv[i]) return invar_fail(INVAR_ERROR_NULL, "%s: argv: expected words, got NULL", operation);
        total += strlen(argv[i]) + 1;
    }
    if (total > INVAR_COMPILER_TEXT)
        return invar_fail(INVAR_ERROR_VALUE, "%s: argv: expected at most %d characters, got %zu", operation,
                          INVAR_COMPILER_TEXT, total);
    fallback *made = malloc(sizeof *made);
    if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    made->count = count;
    char *place = made->text;
    for (int i = 0; i < count; i++) {
        size_t length = strlen(argv[i]) + 1;
        memcpy(place, argv[i], length);
        place += length;
    }
    made->before = atomic_load(&the_fallback);
    while (!atomic_compare_exchange_weak(&the_fallback, &made->before, made)) continue;
    return INVAR_OK;
}

/* An upgraded compiler has another size or time, and with that another identity; asking it for its version would cost
 * milliseconds at every start. */
static void identify(invar_compiler *compiler) {
    invar_sha256 hash;
    uint8_t digest[INVAR_SHA256_BYTES];
    invar_sha256_begin(&hash);
    for (int i = 0; i < compiler->word_count; i++) {
        char path[INVAR_PATH_BYTES];
        struct stat status;
        invar_sha256_add_string(&hash, compiler->words[i]);
        if (!invar_process_find(compiler->words[i], path) || stat(path, &status)) continue;
        int64_t facts[4] = { status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec, (int64_t)status.st_ino };
        invar_sha256_add_string(&hash, path);
        invar_sha256_add(&hash, facts, sizeof facts);
    }
    invar_sha256_end(&hash, digest);
    invar_sha256_hex(digest, compiler->identity);
}

invar_status invar_compiler_find(invar_compiler *compiler, bool check, const char *operation) {
    static const char *const usual[] = { "clang++", "c++", "clang++", "g++" };
    const char *chosen = getenv("INVAR_CXX");
    bool found = false;
    compiler->version[0] = 0;
    compiler->word_count = 0;
    if (chosen && *chosen) {
        if (!from_command(compiler, chosen))
            return invar_fail(INVAR_ERROR_COMPILE, "%s: INVAR_CXX: expected a C++ compiler and at most %d words in all, got "
                              "'%.200s', which is no program here or longer", operation, INVAR_COMPILER_WORDS, chosen);
        found = true;
    }
    for (size_t i = check ? 0 : 1; !found && i < sizeof usual / sizeof usual[0]; i++) found = from_command(compiler, usual[i]);
    if (!found && !from_fallback(compiler))
        return invar_fail(INVAR_ERROR_COMPILE, "%s: no C++ compiler: expected c++, clang++ or g++ in PATH, a compiler named "
                          "by INVAR_CXX, or the Python package ziglang", operation);
    identify(compiler);
    return INVAR_OK;
}

/* ---- running it ---------------------------------------------------------------------------------- */

static invar_status no_folder(const char *operation) {
    return invar_fail(INVAR_ERROR_SYSTEM, "%s: no temporary folder can be made in TMPDIR, /tmp or /var/tmp: %s", operation,
                      strerror(errno));
}

invar_status invar_compiler_version(invar_compiler *compiler, const char *operation) {
    char folder[INVAR_PATH_BYTES], output[INVAR_FILE_BYTES];
    const char *argv[INVAR_COMPILER_WORDS + 2];
    size_t size;
    if (!invar_temporary_folder(folder)) return no_folder(operation);
    snprintf(output, sizeof output, "%s/version", folder);
    memcpy(argv, compiler->words, sizeof argv[0] * (size_t)compiler->word_count);
    argv[compiler->word_count] = "--version";
    argv[compiler->word_count + 1] = NULL;
    int code = invar_process_run(argv, folder, output), error = errno;
    char *text = invar_file_read(output, MAX_LOG, &size);
    invar_temporary_folder_remove(folder);
    if (text) snprintf(compiler->version, sizeof compiler->version, "%.*s", (int)strcspn(text, "\r\n"), text);
    free(text);
    const char *chosen = getenv("INVAR_CXX"), *blame = chosen && *chosen ? "INVAR_CXX: " : "";
    if (code < 0)
        return invar_fail(INVAR_ERROR_COMPILE, "%s: %sthe compiler %s did not start: %s", operation, blame, compiler->words[0],
                          strerror(error));
    if (code || !compiler->version[0])
        return invar_fail(INVAR_ERROR_COMPILE, "%s: %s%s --version: expected a C++ compiler's version, got %s and exit status %d",
                          operation, blame, compiler->words[0], compiler->version[0] ? "some text" : "no text", code);
    return INVAR_OK;
}

/* Appends flags, which NULL ends, to the count there are. */
static int append(const char **flags, int count, const char *const *more) {
    while (*more) flags[count++] = *more++;
    return count;
}

/* The instruction sets, named one by one: -march=native would tie an entry of the cache to a processor that its key does
 * not name. */
static int cpu_flags(const char **flags, int count, const char *cpu) {
    static const char *const avx2[] = { "-mavx2", "-mfma", "-mf16c", NULL };
    static const char *const avx512[] = { "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", NULL };
    bool wide = !strncmp(cpu, "avx512", 6) || !strcmp(cpu, "amx");
    if (wide || !strcmp(cpu, "avx2")) count = append(flags, count, avx2);
    return wide ? append(flags, count, avx512) : count;
}

/* Not -ffast-math: with -shared, gcc 12 then links code that makes the loading thread flush denormals. */
static int math_flags(const char **flags, int count, int32_t math_mode) {
    static const char *const safe[] = { "-ffp-contract=off", NULL };
    static const char *const relaxed[] = { "-ffp-contract=fast", "-fassociative-math", "-fno-signed-zeros", NULL };
    static const char *const fast[] = { "-ffinite-math-only", "-freciprocal-math", "-U__FAST_MATH__", "-D__FAST_MATH__=1", NULL };
    count = append(flags, count, math_mode == INVAR_MATH_SAFE ? safe : relaxed);
    return math_mode == INVAR_MATH_FAST ? append(flags, count, fast) : count;
}

int invar_compile_flags(const char *flags[INVAR_MAX_FLAGS], const invar_compiler *compiler,
                        const invar_compile_options *options) {
    static const char *const always[] = {
        "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-fwrapv",
        "-fno-strict-aliasing", "-fno-math-errno",
        "-fno-trapping-math", /* exceptions are masked; without it g++ leaves loops over half scalar */
        "-fsigned-char",      /* Metal's char, on every processor */
        NULL,
    };
    static const char *const fast[] = { "-O3", NULL };
    const bool clang = strstr(compiler->version, "clang") != NULL;
    int count = append(flags, 0, always);
    /* Other warnings stay in the log, of which errors alone are told: -w would silence this error too. */
    flags[count++] = clang ? "-Wframe-larger-than=" INVAR_FRAME_LIMIT : "-Werror=frame-larger-than=" INVAR_FRAME_LIMIT;
    if (clang) flags[count++] = "-Werror=frame-larger-than=";
    if (clang) flags[count++] = "-fno-strict-return"; /* no value where one is promised: some number, as on a GPU */
    count = math_flags(flags, count, options->math_mode);
    count = cpu_flags(flags, count, options->cpu);
    count = append(flags, count, options->check ? invar_check_flags(clang) : fast);
    flags[count] = NULL;
    return count;
}

static bool is_zig(const invar_compiler *compiler) {
    for (int i = 0; i < compiler->word_count; i++) {
        const char *slash = strrchr(compiler->words[i], '/'), *name = slash ? slash + 1 : compiler->words[i];
        if (!strcmp(name, "zig") || !strcmp(name, "ziglang")) return true;
    }
    return false;
}

/* With -Wl,-z,defs an undefined name is an error here and not when the object is loaded; with --as-needed libstdc++ is not
 * loaded in vain. zig would build a C++ library of its own first, which takes minutes; kernels need none. */
static int link_flags(const char **flags, const invar_compiler *compiler) {
    int count = 0;
    flags[count++] = "-shared";
#if defined(__linux__)
    flags[count++] = "-Wl,-z,defs";
    flags[count++] = "-Wl,--as-needed";
#endif
    if (is_zig(compiler)) flags[count++] = "-nostdlib++";
    return count;
}

/* Runs the compiler on a file of the folder; inputs and outputs are named there. */
static int run_step(const invar_compiler *compiler, const char *const *flags, int flag_count, const char *folder,
                    const char *input_name, const char *output_name) {
    const char *argv[INVAR_COMPILER_WORDS + INVAR_MAX_FLAGS + 8];
    char input[INVAR_FILE_BYTES], output[INVAR_FILE_BYTES], log[INVAR_FILE_BYTES];
    int count = compiler->word_count;
    snprintf(input, sizeof input, "%s/%s", folder, input_name);
    snprintf(output, sizeof output, "%s/%s", folder, output_name);
    snprintf(log, sizeof log, "%s/log", folder);
    memcpy(argv, compiler->words, sizeof argv[0] * (size_t)count);
    memcpy(argv + count, flags, sizeof argv[0] * (size_t)flag_count);
    count += flag_count;
    argv[count++] = "-o";
    argv[count++] = output;
    argv[count++] = input;
    argv[count] = NULL;
    return invar_process_run(argv, folder, log);
}

/* From <folder>/kernel.cpp to <folder>/kernel.so, with <folder>/log. A check build is linked by a command of its own: with the
 * flags that make its hooks, the compiler would link its sanitizer. */
static int run_compiler(const invar_compiler *compiler, const invar_compile_options *options, const char *folder) {
    const char *flags[INVAR_MAX_FLAGS + 8];
    int count = invar_compile_flags(flags, compiler, options);
    if (options->check) {
        flags[count++] = "-c";
        int code = run_step(compiler, flags, count, folder, "kernel.cpp", "kernel.o");
        return code ? code : run_step(compiler, flags, link_flags(flags, compiler), folder, "kernel.o", "kernel.so");
    }
    count += link_flags(flags + count, compiler);
    return run_step(compiler, flags, count, folder, "kernel.cpp", "kernel.so");
}

static invar_status compile_failure(const invar_compiler *compiler, int code, int error, const char *folder, const char *program,
                                    const invar_user_text *texts, int text_count, const char *operation) {
    char path[INVAR_FILE_BYTES];
    size_t size;
    invar_text message = { 0 };
    if (code < 0)
        return invar_fail(INVAR_ERROR_COMPILE, "%s: the compiler %s did not start: %s", operation, compiler->words[0],
                          strerror(error));
    snprintf(path, sizeof path, "%s/log", folder);
    char *log = invar_file_read(path, MAX_LOG, &size);
    if (log) invar_compiler_log(&message, log, program, texts, text_count);
    free(log);
    invar_status status;
    if (message.length && !message.failed)
        status = invar_fail(INVAR_ERROR_COMPILE, "%s: %s", operation, message.data);
    else
        status = invar_fail(INVAR_ERROR_COMPILE, "%s: %s ended with status %d and said nothing", operation,
                            compiler->words[0], code);
    invar_text_free(&message);
    return status;
}

invar_status invar_compile(const invar_compiler *compiler, const invar_compile_options *options, const char *program,
                           size_t size, const invar_user_text *texts, int text_count, const char *operation,
                           char **object, size_t *object_size) {
    char folder[INVAR_PATH_BYTES], path[INVAR_FILE_BYTES];
    *object = NULL;
    if (!invar_temporary_folder(folder)) return no_folder(operation);
    snprintf(path, sizeof path, "%s/kernel.cpp", folder);
    invar_status status = INVAR_OK;
    if (!invar_file_write(path, program, size)) {
        status = invar_fail(INVAR_ERROR_SYSTEM, "%s: the program could not be written in %s: %s", operation, folder,
                            strerror(errno));
    } else {
        int code = run_compiler(compiler, options, folder), error = errno;
        snprintf(path, sizeof path, "%s/kernel.so", folder);
        if (!code) *object = invar_file_read(path, PTRDIFF_MAX, object_size);
        if (!*object || !*object_size) {
            status = compile_failure(compiler, code, error, folder, program, texts, text_count, operation);
            free(*object);
            *object = NULL;
        }
    }
    invar_temporary_folder_remove(folder);
    return status;
}
