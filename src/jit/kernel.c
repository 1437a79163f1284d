/* Creating a custom kernel: every field of the description checked, then its text read. */
#define _GNU_SOURCE
#include "jit/kernel.h"

#include "jit/position.h"
#include "jit/source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char IN_WORDS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

bool invar_is_identifier(const char *name) {
    size_t length = strspn(name, IN_WORDS);
    return length && !name[length] && length < INVAR_KERNEL_MAX_NAME && !isdigit((unsigned char)*name);
}

static bool is_keyword(const char *name, int32_t dialect) {
    static const char *const words[] = {
        "alignas", "alignof", "and", "asm", "auto", "bool", "break", "case", "catch", "char", "class", "const", "constexpr",
        "continue", "decltype", "default", "delete", "do", "double", "else", "enum", "explicit", "export", "extern", "false",
        "float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not",
        "nullptr", "operator", "or", "private", "protected", "public", "register", "return", "short", "signed", "sizeof",
        "static", "struct", "switch", "template", "this", "throw", "true", "try", "typedef", "typename", "union", "unsigned",
        "using", "virtual", "void", "volatile", "while", "xor",
    };
    static const char *const metal[] = { "constant", "device", "kernel", "thread", "threadgroup" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(name, words[i])) return true;
    for (size_t i = 0; i < sizeof metal / sizeof *metal && dialect == INVAR_DIALECT_METAL; i++)
        if (!strcmp(name, metal[i])) return true;
    return false;
}

bool invar_is_taken(const char *name, int32_t dialect) {
    const uint32_t own = dialect == INVAR_DIALECT_METAL ? INVAR_SHIM_METAL : INVAR_SHIM_CUDA;
    for (int32_t k = 0; k < invar_position_count; k++)
        if (invar_position_names[k].dialect & own && !strcmp(name, invar_position_names[k].name)) return true;
    return is_keyword(name, dialect);
}

static invar_status check_name(const char *name, const char *operation, const char *argument) {
    if (!name) return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected a name, got NULL", operation, argument);
    if (invar_is_identifier(name) && strncmp(name, "invar_", 6)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected an identifier of at most %d characters that does not begin with "
                      "invar_, got '%.200s'", operation, argument, INVAR_KERNEL_MAX_NAME - 1, name);
}

/* Of a kernel, which may begin with a digit: MLX sets words of its own before it. */
static invar_status check_kernel_name(const char *name, const char *operation) {
    if (!name) return invar_fail(INVAR_ERROR_NULL, "%s: name: expected a name, got NULL", operation);
    const size_t length = strspn(name, IN_WORDS);
    if (length && !name[length] && length < INVAR_KERNEL_MAX_TITLE && strncmp(name, "invar_", 6)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: name: expected at most %d letters, digits and underscores that do not begin with "
                      "invar_, got '%.200s'", operation, INVAR_KERNEL_MAX_TITLE - 1, name);
}

static invar_status check_array_name(const char *name, int32_t dialect, const char *operation, const char *argument) {
    INVAR_TRY(check_name(name, operation, argument));
    if (!invar_is_taken(name, dialect)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected names that are neither keywords nor built-in variables, got '%s'",
                      operation, argument, name);
}

const char *invar_array_name(const invar_kernel_description *d, int32_t i) {
    return i < d->input_count ? d->input_names[i] : d->output_names[i - d->input_count];
}

static invar_status check_names(const invar_kernel_description *d, const char *operation) {
    if (d->input_count < 0 || d->input_count > INVAR_KERNEL_MAX_ARRAYS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: input_names: expected 0 to %d names, got %d", operation,
                          INVAR_KERNEL_MAX_ARRAYS, d->input_count);
    if (d->output_count < 1 || d->output_count > INVAR_KERNEL_MAX_ARRAYS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: output_names: expected 1 to %d names, got %d", operation,
                          INVAR_KERNEL_MAX_ARRAYS, d->output_count);
    if ((d->input_count && !d->input_names) || !d->output_names)
        return invar_fail(INVAR_ERROR_NULL, "%s: %s: expected names, got NULL", operation,
                          d->output_names ? "input_names" : "output_names");
    for (int32_t i = 0; i < d->input_count + d->output_count; i++) {
        const char *argument = i < d->input_count ? "input_names" : "output_names";
        INVAR_TRY(check_array_name(invar_array_name(d, i), d->dialect, operation, argument));
        for (int32_t j = 0; j < i; j++)
            if (!strcmp(invar_array_name(d, i), invar_array_name(d, j)))
                return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected each name once, got '%s' twice", operation, argument,
                                  invar_array_name(d, i));
    }
    return INVAR_OK;
}

static invar_status check_flag(int32_t value, const char *operation, const char *argument) {
    if (value == 0 || value == 1) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected 0 or 1, got %d", operation, argument, value);
}

static invar_status check_description(const invar_kernel_description *d, const char *operation) {
    const bool precompiled = d->dialect == INVAR_DIALECT_PRECOMPILED;
    if (precompiled) INVAR_TRY(invar_kernel_check_image(d, operation));
    else INVAR_TRY(check_kernel_name(d->name, operation));
    INVAR_TRY(check_names(d, operation));
    if (!d->source && !precompiled) return invar_fail(INVAR_ERROR_NULL, "%s: source: expected text, got NULL", operation);
    INVAR_TRY(check_flag(d->ensure_row_contiguous, operation, "ensure_row_contiguous"));
    INVAR_TRY(check_flag(d->atomic_outputs, operation, "atomic_outputs"));
    bool cuda = d->dialect != INVAR_DIALECT_METAL;
    int32_t modes = cuda ? INVAR_MATH_SAFE : INVAR_MATH_FAST;
    if (d->math_mode < INVAR_MATH_SAFE || d->math_mode > modes)
        return invar_fail(INVAR_ERROR_VALUE, "%s: math_mode: expected %s, got %d", operation,
                          cuda ? "safe (0), the only one of CUDA" : "safe (0), relaxed (1) or fast (2)", d->math_mode);
    int64_t shared = cuda ? INVAR_CUDA_SHARED : 0;
    if (d->shared_memory < 0 || d->shared_memory > shared)
        return invar_fail(INVAR_ERROR_VALUE, "%s: shared_memory: expected 0 to %lld bytes%s, got %lld", operation,
                          (long long)shared, cuda ? "" : " (Metal has none)", (long long)d->shared_memory);
    return INVAR_OK;
}

_Static_assert(2 * (int)INVAR_KERNEL_MAX_ARRAYS == (int)INVAR_MAX_ARRAYS, "a source holds as many names as are let through");

static void free_strings(char **strings, int32_t count) {
    for (int32_t i = 0; strings && i < count; i++) free(strings[i]);
    free(strings);
}

static bool copy_strings(const char *const **copy, const char *const *strings, int32_t count) {
    char **made = calloc((size_t)count + 1, sizeof *made);
    *copy = (const char *const *)made;
    for (int32_t i = 0; made && i < count; i++)
        if (!(made[i] = strdup(strings[i]))) return false;
    return made != NULL;
}

/* The name as messages and #line have it: one that is put together of a program's parameters may be longer than they can hold,
 * and is cut. Nothing is found by it. */
static char *copy_title(const char *name) {
    char title[INVAR_KERNEL_MAX_NAME];
    if (snprintf(title, sizeof title, "%s", name) >= (int)sizeof title) strcpy(title + sizeof title - 4, "...");
    return strdup(title);
}

/* Takes blanks between a backslash and the end of its line away: the line goes on all the same, as g++ and clang++ have it. */
static char *copy_text(const char *text) {
    char *copy = strdup(text ? text : ""), *to = copy;
    for (const char *from = copy; from && *from; *to++ = *from++) {
        if (*from != '\\') continue;
        const char *end = from + 1 + strspn(from + 1, " \t\r\f\v");
        if (end == from + 1 || *end != '\n') continue;
        *to++ = '\\';
        from = end;
    }
    if (copy) *to = '\0';
    return copy;
}

/* The kernel owns what it can by the time it fails, so that invar_kernel_destroy frees it. */
static bool copy_description(invar_kernel *kernel, const invar_kernel_description *d) {
    invar_kernel_description *copy = &kernel->description;
    bool metal = d->dialect == INVAR_DIALECT_METAL;
    *copy = *d;
    const bool precompiled = d->dialect == INVAR_DIALECT_PRECOMPILED;
    copy->name = precompiled ? strdup(d->name) : copy_title(d->name);
    copy->source = copy_text(d->source);
    copy->header = copy_text(d->header);
    copy->output_names = NULL;
    copy->image = NULL;
    bool good = copy_strings(&copy->input_names, d->input_names, d->input_count) &&
                copy_strings(&copy->output_names, d->output_names, d->output_count);
    if (precompiled) return invar_kernel_copy_image(kernel, d) && good && copy->name;
    if (!good || !copy->name || !copy->source || !copy->header) return false;
    snprintf(kernel->file, sizeof kernel->file, "%s.%s", copy->name, metal ? "metal" : "cu");
    snprintf(kernel->header_file, sizeof kernel->header_file, "%s.header", copy->name);
    return true;
}

invar_status invar_kernel_create(invar_kernel **kernel, const invar_kernel_description *description) {
    static const char *const operations[] = { [INVAR_DIALECT_METAL] = "metal_kernel", [INVAR_DIALECT_CUDA] = "cuda_kernel",
                                              [INVAR_DIALECT_PRECOMPILED] = "precompiled_cuda_kernel" };
    const char *operation = "kernel_create";
    invar_kernel_description known = INVAR_KERNEL_DESCRIPTION_INIT;
    if (!kernel) return invar_fail(INVAR_ERROR_NULL, "%s: kernel: expected a pointer, got NULL", operation);
    *kernel = NULL;
    if (!description) return invar_fail(INVAR_ERROR_NULL, "%s: description: expected a pointer, got NULL", operation);
    INVAR_TRY(invar_options_read(&known, sizeof known, description, operation));
    if (known.dialect < INVAR_DIALECT_METAL || known.dialect > INVAR_DIALECT_PRECOMPILED)
        return invar_fail(INVAR_ERROR_VALUE, "%s: dialect: expected INVAR_DIALECT_METAL (1), _CUDA (2) or _PRECOMPILED (3), got %d",
                          operation, known.dialect);
    operation = operations[known.dialect];
    INVAR_TRY(check_description(&known, operation));
    invar_kernel *made = calloc(1, sizeof *made);
    if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    made->operation = operation;
    invar_status status = INVAR_OK;
    if (!copy_description(made, &known)) status = invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    made->alignment = 1;
    const bool text = known.dialect != INVAR_DIALECT_PRECOMPILED;
    if (status == INVAR_OK && text) status = invar_source_read(&made->source, &made->description);
    if (status == INVAR_OK && text) made->alignment = invar_source_alignment(made->source);
    if (status == INVAR_OK) *kernel = made;
    else invar_kernel_destroy(made);
    return status;
}

void invar_kernel_destroy(invar_kernel *kernel) {
    if (!kernel) return;
    invar_kernel_description *d = &kernel->description;
    for (invar_program *program = atomic_load(&kernel->programs), *next; program; program = next) {
        next = program->next;
        free(program);
    }
    invar_source_free(kernel->source);
    free((char *)d->name);
    free((char *)d->source);
    free((char *)d->header);
    free((void *)d->image);
    free_strings((char **)d->input_names, d->input_count);
    free_strings((char **)d->output_names, d->output_count);
    free(kernel);
}
