/* Names in use: positions, shapes, strides and ranks of arrays; the words that parts of the shim are needed for. */
#include "jit/position.h"
#include "jit/source.h"

#include <string.h>

uint32_t invar_word_hash(const char *word, size_t length) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t k = 0; k < length; k++) hash = (hash ^ (unsigned char)word[k]) * 16777619u;
    return hash;
}

void invar_words_add(uint64_t words[INVAR_WORD_BITS / 64], const char *word, size_t length) {
    uint32_t bit = invar_word_hash(word, length) % INVAR_WORD_BITS;
    words[bit / 64] |= (uint64_t)1 << bit % 64;
}

bool invar_words_have(const uint64_t words[INVAR_WORD_BITS / 64], const char *word, size_t length) {
    uint32_t bit = invar_word_hash(word, length) % INVAR_WORD_BITS;
    return words[bit / 64] >> bit % 64 & 1;
}

int32_t invar_swizzle_code(const invar_file *file, int32_t i, int places[4], int *count) {
    static const char *const alphabets[] = { "xyzw", "rgba" };
    const invar_token *token = &file->tokens[i];
    if (token->kind != INVAR_TOKEN_NAME || token->length < 2 || token->length > 4) return -1;
    for (int a = 0; a < 2; a++) {
        int code = 0;
        for (*count = 0; *count < (int)token->length; ++*count) {
            const char *at = strchr(alphabets[a], file->text[token->start + (uint32_t)*count]);
            if (!at) break;
            places[*count] = (int)(at - alphabets[a]);
            code = code * 4 + places[*count];
        }
        if (*count == (int)token->length) return (a * 4 + *count - 1) * 256 + code;
    }
    return -1;
}

void invar_read_words(invar_source *source, int32_t which) {
    const invar_file *file = &source->files[which];
    for (int32_t i = 0; i < file->count; i++)
        if (file->tokens[i].kind == INVAR_TOKEN_NAME)
            invar_words_add(source->words, file->text + file->tokens[i].start, file->tokens[i].length);
}

/* A type of the user's own that has a member called xy: then .xy is that member everywhere. A variable of that name is none. */
void invar_read_members(invar_source *source, int32_t which) {
    const invar_file *file = &source->files[which];
    for (int32_t i = 0; i < file->count; i++) {
        int places[4], count;
        int32_t code = invar_swizzle_code(file, i, places, &count);
        if (code >= 0 && file->tokens[i].scope == INVAR_SCOPE_STRUCT && !invar_token_is_member(file, i))
            source->members[code] = true;
    }
}

static void note_array_word(invar_source *source, const char *word, size_t length) {
    static const struct {
        const char *suffix;
        uint8_t use;
    } SUFFIXES[] = { { "_shape", INVAR_USES_SHAPE }, { "_strides", INVAR_USES_STRIDES }, { "_ndim", INVAR_USES_NDIM } };
    for (size_t s = 0; s < sizeof SUFFIXES / sizeof *SUFFIXES; s++) {
        size_t tail = strlen(SUFFIXES[s].suffix);
        if (length <= tail || memcmp(word + length - tail, SUFFIXES[s].suffix, tail)) continue;
        for (int32_t k = 0; k < source->array_count; k++)
            if (strlen(source->arrays[k]) == length - tail && !memcmp(source->arrays[k], word, length - tail))
                source->uses[k] |= SUFFIXES[s].use;
    }
}

static bool is_array_name(const invar_source *source, const char *word) {
    for (int32_t k = 0; k < source->array_count; k++)
        if (!strcmp(source->arrays[k], word)) return true;
    return false;
}

/* Names are looked for in the tokens of both texts: in macros and the header they count, in comments they do not. */
void invar_read_names(invar_source *source, int32_t which) {
    const invar_file *file = &source->files[which];
    uint32_t dialect = invar_dialect_bit(source);
    for (int32_t i = 0; i < file->count; i++) {
        if (file->tokens[i].kind != INVAR_TOKEN_NAME) continue;
        if (file->tokens[i].rule == INVAR_RULE_GRID || file->tokens[i].rule == INVAR_RULE_HOST_DROP) continue;
        if (invar_token_is_member(file, i) || invar_token_is(file, i - 1, "::")) continue;
        note_array_word(source, file->text + file->tokens[i].start, file->tokens[i].length);
        if (which == INVAR_BODY && invar_token_is(file, i, "size") && !is_array_name(source, "size")) source->uses_size = true;
        for (int32_t k = 0; k < invar_position_count; k++) {
            const invar_position_name *position = &invar_position_names[k];
            if ((position->dialect & dialect) && invar_token_is(file, i, position->name) &&
                !is_array_name(source, position->name))
                source->positions |= 1u << k;
        }
    }
}
