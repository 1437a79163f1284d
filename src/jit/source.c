/* The reading of a kernel's text, from description to invar_source. */
#include "jit/source.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *invar_source_operation(const invar_source *source) {
    return invar_is_metal(source) ? "metal_kernel" : "cuda_kernel";
}

const char *invar_source_suffix(const invar_source *source, int32_t file) {
    return file == INVAR_HEADER ? "header" : invar_is_metal(source) ? "metal" : "cu";
}

invar_status invar_source_fail(const invar_source *source, int32_t file, int32_t line, const char *format, ...) {
    char sentence[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s.%s:%d: %s", invar_source_operation(source), source->name,
                      invar_source_suffix(source, file), (int)line, sentence);
}

invar_status invar_source_memory(const invar_source *source) {
    return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory reading %s", invar_source_operation(source), source->name);
}

static void read_description(invar_source *source, const invar_kernel_description *description) {
    const char *texts[INVAR_FILES] = { description->header ? description->header : "", description->source };
    source->dialect = description->dialect;
    source->math_mode = description->math_mode;
    source->atomic_outputs = description->atomic_outputs && invar_is_metal(source);
    source->name = description->name;
    source->input_count = description->input_count;
    source->array_count = description->input_count + description->output_count;
    for (int32_t k = 0; k < source->array_count; k++)
        source->arrays[k] = k < source->input_count ? description->input_names[k] : description->output_names[k - source->input_count];
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        source->files[f].text = texts[f];
        source->files[f].length = strlen(texts[f]);
    }
}

static invar_status lex_file(invar_source *source, int32_t which) {
    invar_lex_failure at;
    switch (invar_lex(&source->files[which], &at)) {
    case INVAR_LEX_OK: return INVAR_OK;
    case INVAR_LEX_MEMORY: return invar_source_memory(source);
    case INVAR_LEX_COMMENT: return invar_source_fail(source, which, at.line, "this comment or string does not end");
    case INVAR_LEX_BRACKET: return invar_source_fail(source, which, at.line, "'%c' has no partner", at.bracket);
    default:
        return invar_source_fail(source, which, at.line, "expected at most %d bytes of text, got %zu", INVAR_LEX_LIMIT,
                                 source->files[which].length);
    }
}

static invar_status read_tokens(invar_source *source) {
    for (int32_t f = 0; f < INVAR_FILES; f++) INVAR_TRY(lex_file(source, f));
    INVAR_TRY(invar_read_branches(source));
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        invar_file *file = &source->files[f];
        if (!source->texts[f]) continue;
        invar_file_free(file);
        *file = (invar_file){ .text = source->texts[f], .length = file->length };
        INVAR_TRY(lex_file(source, f));
    }
    return INVAR_OK;
}

static invar_status read_text(invar_source *source) {
    INVAR_TRY(read_tokens(source));
    for (int32_t f = 0; f < INVAR_FILES; f++) invar_read_words(source, f);
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        INVAR_TRY(invar_read_refusals(source, f));
        INVAR_TRY(invar_read_scopes(source, f));
        invar_read_members(source, f);
    }
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        INVAR_TRY(invar_read_storage(source, f));
        INVAR_TRY(invar_read_rules(source, f));
        if (invar_is_metal(source)) invar_read_arms(source, f);
        invar_read_loops(source, f);
        invar_read_names(source, f);
    }
    INVAR_TRY(invar_read_twins(source));
    INVAR_TRY(invar_read_marks(source));
    INVAR_TRY(invar_read_numbers(source));
    invar_read_mode(source);
    invar_read_lane_loops(source);
    return INVAR_OK;
}

invar_status invar_source_read(invar_source **out, const invar_kernel_description *description) {
    invar_source *source = calloc(1, sizeof *source);
    if (!source)
        return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory reading %s",
                          description->dialect == INVAR_DIALECT_METAL ? "metal_kernel" : "cuda_kernel", description->name);
    read_description(source, description);
    invar_status status = read_text(source);
    if (status != INVAR_OK) {
        invar_source_free(source);
        return status;
    }
    *out = source;
    return INVAR_OK;
}

void invar_source_free(invar_source *source) {
    if (!source) return;
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        invar_file_free(&source->files[f]);
        free(source->texts[f]);
    }
    free(source->functions);
    free(source->storage);
    free(source->items);
    free(source->macros);
    free(source->groups);
    free(source->places);
    free(source);
}
