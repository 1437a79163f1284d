/* Threadgroup arrays: `threadgroup T x[n], y;` of Metal, `__shared__ T x[n];` and `extern __shared__ T x[];` of CUDA. */
#include "jit/source.h"

enum { LONGEST = 128 }; /* tokens of a type */

static bool is_storage_word(const invar_source *source, const invar_file *file, int32_t i) {
    return invar_token_is(file, i, invar_is_metal(source) ? "threadgroup" : "__shared__");
}

/* Words and alignments that may stand before or behind the storage word. */
static bool is_qualifier(const invar_file *file, int32_t i) {
    static const char *const words[] = { "static", "extern", "const", "volatile", "alignas", "__align__", "__builtin_align__",
                                         "__attribute__", NULL };
    return invar_token_is_one_of(file, i, words);
}

/* The first token of the declaration whose storage word is token i, or -1 where no declaration begins there. */
static int32_t declaration_begin(const invar_file *file, int32_t i) {
    int32_t begin = i;
    for (;;) {
        int32_t before = begin - 1;
        if (invar_token_is(file, before, ")") && file->tokens[before].partner > 0 &&
            is_qualifier(file, file->tokens[before].partner - 1))
            begin = file->tokens[before].partner - 1;
        else if (is_qualifier(file, before)) begin = before;
        else break;
    }
    if (begin == 0 || invar_token_is_any(file, begin - 1, ";{}:")) return begin;
    return file->tokens[begin - 1].directive >= 0 && file->tokens[begin].directive < 0 ? begin : -1;
}

/* The `{` of `struct S {` or `union {` at token i; -1. */
static int32_t struct_brace(const invar_file *file, int32_t i) {
    static const char *const aggregates[] = { "struct", "union", "class", NULL };
    if (!invar_token_is_one_of(file, i, aggregates)) return -1;
    int32_t brace = invar_token_names(file, i + 1) ? i + 2 : i + 1;
    return invar_token_is(file, brace, "{") && file->tokens[brace].partner > brace ? brace : -1;
}

/* Reads the type that begins at token i; *name is the first declarator's name. False: it is not a declaration of arrays
 * or values. */
static bool read_type(const invar_source *source, const invar_file *file, int32_t i, invar_storage *storage) {
    storage->type = i;
    storage->brace = struct_brace(file, i);
    if (storage->brace > 0) i = file->tokens[storage->brace].partner + 1;
    for (int32_t end = i + LONGEST; i < file->count && i < end;) {
        if (invar_token_is(file, i, "*")) {
            if (invar_is_metal(source)) return false;
            i++;
        } else if (is_qualifier(file, i) && invar_token_is(file, i + 1, "(")) {
            if (file->tokens[i + 1].partner < 0) return false;
            if (storage->type == i) storage->type = file->tokens[i + 1].partner + 1;
            i = file->tokens[i + 1].partner + 1;
        } else if (invar_token_is(file, i, "::")) {
            i++;
        } else if (!invar_token_names(file, i)) {
            return false;
        } else if (invar_token_is_any(file, i + 1, ";,=[{") && i > storage->type) {
            storage->type_end = i;
            storage->name = i;
            return true;
        } else if (invar_token_is(file, i + 1, "<")) {
            i = invar_after_angles(file, i + 1);
            if (i < 0) return false;
        } else {
            i++;
        }
    }
    return false;
}

/* Reads [..][..] behind the name. */
static bool read_dims(const invar_file *file, invar_storage *storage) {
    int32_t i = storage->name + 1;
    storage->dims = i;
    while (invar_token_is(file, i, "[")) {
        if (file->tokens[i].partner < 0) return false;
        i = file->tokens[i].partner + 1;
    }
    storage->dims_end = i;
    return true;
}

static invar_status add_storage(invar_source *source, const invar_storage *storage) {
    if (!invar_grow(&source->storage, source->storage_count, &source->storage_capacity, sizeof *source->storage))
        return invar_source_memory(source);
    source->storage[source->storage_count++] = *storage;
    return INVAR_OK;
}

/* Reads one declaration; its first token is `begin` and its type stands behind token i. */
static invar_status read_declaration(invar_source *source, int32_t which, int32_t begin, int32_t i, int32_t *end) {
    invar_file *file = &source->files[which];
    invar_storage storage = { .file = which };
    const char *word = invar_is_metal(source) ? "threadgroup" : "__shared__";
    int32_t line = file->tokens[i].line, first = source->storage_count;
    bool is_extern = invar_token_is(file, i + 1, "extern");
    while (invar_token_is(file, i + 1, "extern") || invar_token_is(file, i + 1, "static")) i++;
    for (int32_t k = begin; k < i; k++) is_extern |= invar_token_is(file, k, "extern");
    *end = -1;
    if (!read_type(source, file, i + 1, &storage) || (is_extern && storage.brace > 0)) {
        if (invar_is_metal(source)) return INVAR_OK; /* a pointer or reference */
        return invar_source_fail(source, which, line, "this use of %s cannot be translated: expected a type and names", word);
    }
    if (file->tokens[i].scope == INVAR_SCOPE_NAMESPACE && !is_extern)
        return invar_source_fail(source, which, line, "%s memory outside a function cannot be translated: declare it in "
                                 "the kernel", word);
    for (;;) {
        if (!read_dims(file, &storage))
            return invar_source_fail(source, which, line, "expected ] in this declaration");
        storage.more = invar_token_is(file, storage.dims_end, ",");
        storage.dynamic = is_extern;
        INVAR_TRY(add_storage(source, &storage));
        if (!storage.more) break;
        storage.name = storage.dims_end + 1;
        if (!invar_token_names(file, storage.name))
            return invar_source_fail(source, which, line, "expected a name behind the comma of this %s declaration", word);
    }
    if (!invar_token_is(file, storage.dims_end, ";"))
        return invar_source_fail(source, which, line, "%s memory starts without a value: expected ; behind %.*s, which a thread "
                                 "assigns before a barrier", word, (int)file->tokens[storage.name].length,
                                 file->text + file->tokens[storage.name].start);
    for (int32_t k = first; k < source->storage_count; k++) source->storage[k].end = storage.dims_end;
    *end = storage.dims_end;
    file->tokens[begin].rule = INVAR_RULE_STORAGE;
    file->tokens[begin].value = first;
    return INVAR_OK;
}

invar_status invar_read_storage(invar_source *source, int32_t which) {
    invar_file *file = &source->files[which];
    for (int32_t i = 0; i < file->count; i++) {
        if (!is_storage_word(source, file, i)) continue;
        bool pointer = invar_token_is_any(file, i + 2, "*&");
        bool attribute = invar_token_is(file, i - 1, "[") && invar_token_is(file, i + 1, "("); /* [[threadgroup(0)]] */
        if (file->tokens[i].directive >= 0 && !pointer && !attribute)
            return invar_source_fail(source, which, file->tokens[i].line, "%.*s in a macro cannot be translated: declare the "
                                     "array where it is used", (int)file->tokens[i].length,
                                     file->text + file->tokens[i].start);
        int32_t begin = file->tokens[i].directive >= 0 ? -1 : declaration_begin(file, i), end = -1;
        if (begin < 0 && !invar_is_metal(source))
            return invar_source_fail(source, which, file->tokens[i].line, "this use of __shared__ cannot be translated: "
                                     "expected it at the start of a declaration");
        if (begin >= 0) INVAR_TRY(read_declaration(source, which, begin, i, &end));
        if (end >= 0) i = end;
    }
    if (source->storage_count > INVAR_MAX_SHARED)
        return invar_source_fail(source, which, 1, "expected at most %d threadgroup arrays, got %d", INVAR_MAX_SHARED,
                                 source->storage_count);
    return INVAR_OK;
}
