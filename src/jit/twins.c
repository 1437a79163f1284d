/* Metal's functions for each address space, f(device T *) beside f(threadgroup T *), are one where address spaces are none:
 * of those that read alike only the first is kept. Ones whose texts differ are left to the compiler; so is a text with an #if,
 * whose branches may each hold the one function. */
#include "jit/source.h"

#include <stdlib.h>

typedef struct twin {
    uint32_t hash;
    int32_t function;
} twin;

static int32_t end_of(const invar_source *source, const invar_function *function) {
    return source->files[function->file].tokens[function->brace].partner;
}

static uint32_t hash_function(const invar_source *source, const invar_function *function) {
    const invar_file *file = &source->files[function->file];
    uint32_t hash = (uint32_t)function->owner;
    for (int32_t i = function->begin; i <= end_of(source, function); i++) {
        const invar_token *token = &file->tokens[i];
        if (token->rule != INVAR_RULE_DROP) hash = hash * 31 + invar_word_hash(file->text + token->start, token->length);
    }
    return hash;
}

static bool read_alike(const invar_source *source, const invar_function *a, const invar_function *b) {
    const invar_file *file = &source->files[a->file];
    int32_t i = a->begin, k = b->begin, i_end = end_of(source, a), k_end = end_of(source, b);
    if (a->file != b->file || a->owner != b->owner) return false;
    for (;; i++, k++) {
        while (i <= i_end && file->tokens[i].rule == INVAR_RULE_DROP) i++;
        while (k <= k_end && file->tokens[k].rule == INVAR_RULE_DROP) k++;
        if (i > i_end || k > k_end) return i > i_end && k > k_end;
        if (!invar_token_same(file, i, file, k)) return false;
    }
}

static void drop_function(invar_source *source, invar_function *function) {
    invar_file *file = &source->files[function->file];
    for (int32_t i = function->begin; i <= end_of(source, function); i++) {
        if (file->tokens[i].directive >= 0) continue;
        file->tokens[i].rule = INVAR_RULE_DROP;
        file->tokens[i].before = 0;
    }
    file->tokens[function->name >= 0 ? function->name : function->open].declares = false;
    function->name = -1;
}

static int by_hash(const void *left, const void *right) {
    const twin *a = left, *b = right;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    return a->function < b->function ? -1 : 1;
}

invar_status invar_read_twins(invar_source *source) {
    int32_t count = 0;
    if (!invar_is_metal(source) || !source->function_count) return INVAR_OK;
    twin *twins = malloc(sizeof *twins * (size_t)source->function_count);
    if (!twins) return invar_source_memory(source);
    for (int32_t f = 0; f < source->function_count; f++) {
        const invar_function *function = &source->functions[f];
        bool whole = function->brace >= 0 && function->begin >= 0 && end_of(source, function) > function->brace &&
                     function->scope != INVAR_SCOPE_CODE && !source->files[function->file].conditional;
        if (whole) twins[count++] = (twin){ hash_function(source, function), f };
    }
    qsort(twins, (size_t)count, sizeof *twins, by_hash);
    for (int32_t k = 1; k < count; k++) {
        invar_function *function = &source->functions[twins[k].function];
        if (twins[k].hash == twins[k - 1].hash &&
            read_alike(source, &source->functions[twins[k - 1].function], function)) {
            drop_function(source, function);
            twins[k].function = twins[k - 1].function; /* a third one is compared with the first */
        }
    }
    free(twins);
    return INVAR_OK;
}
