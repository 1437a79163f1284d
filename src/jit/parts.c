/* The shim: which of its parts a program needs, and its functions that a header's own must not hide. */
#include "jit/program.h"

#include <string.h>

static void add_word(uint64_t *words, const char *word) {
    if (word) invar_words_add(words, word, strlen(word));
}

static bool has_word(const uint64_t *words, const char *list) {
    for (size_t length; *(list += strspn(list, " ")); list += length)
        if (invar_words_have(words, list, length = strcspn(list, " "))) return true;
    return false;
}

/* Words of the text and those that the generated program writes itself. */
static void collect_words(const invar_source *source, const invar_program_key *key, uint64_t *words) {
    memcpy(words, source->words, sizeof source->words);
    for (int32_t k = 0; k < source->array_count; k++) add_word(words, invar_type_name(source, key->arrays[k].dtype));
    for (int32_t k = 0; k < key->template_count; k++)
        add_word(words, invar_type_name(source, key->template_arguments[k].dtype));
    if (source->lane_loop_count) add_word(words, "invar_lane_loop");
}

/* Whether the part is needed on some target. */
static bool is_needed(const invar_source *source, const invar_shim_part *part, const uint64_t *words) {
    return (part->dialects & invar_dialect_bit(source)) && (!part->words || has_word(words, part->words));
}

/* Whether a part of the shim declares a function of this name: at the left margin, behind a type. */
static bool declares(const char *text, const char *name, size_t length) {
    for (const char *at = text; (at = strchr(at, name[0])); at++) {
        const char *line = at;
        if (strncmp(at, name, length) || at[length] != '(' || at == text || !strchr(" *&", at[-1])) continue;
        while (line > text && line[-1] != '\n') line--;
        if (!strchr(" /#", *line) && strchr(line, '(') == at + length) return true; /* no comment, no directive */
    }
    return false;
}

/* Parts whose functions are in a namespace of their own, and cannot be hidden, or are the C library's. */
static bool is_apart(const invar_shim_part *part) {
    return strstr(part->text, "\nnamespace cooperative_groups") || strstr(part->text, "\nnamespace std") ||
           strstr(part->text, "\nextern \"C\"");
}

/* The part of this program's shim for one of these targets that declares a function of this name; NULL. */
static const invar_shim_part *find_part(const invar_source *source, uint32_t targets, const uint64_t *words, const char *name,
                                        size_t length) {
    for (int32_t k = 0; k < invar_shim_part_count; k++) {
        const invar_shim_part *part = &invar_shim_parts[k];
        if (!(part->targets & targets) || !is_needed(source, part, words) || is_apart(part)) continue;
        if (declares(part->text, name, length)) return part;
    }
    return NULL;
}

/* The user's functions that have a built-in's name stand beside it, not before it: a header that defines half exp(half) must
 * not catch exp of a float. */
void invar_put_overloads(const invar_generator *g) {
    enum { MOST = 512 }; /* functions that are looked for */
    const invar_source *source = g->source;
    uint64_t words[INVAR_WORD_BITS / 64];
    collect_words(source, g->key, words);
    for (int32_t k = 0; k < source->group_count && k < MOST; k++) {
        const invar_function *function = &source->functions[source->groups[k].function];
        const invar_file *file = &source->files[function->file];
        const invar_token *token = &file->tokens[function->name];
        const char *name = file->text + token->start;
        if (function->scope != INVAR_SCOPE_NAMESPACE) continue;
        uint32_t target = g->host ? INVAR_SHIM_CPU : INVAR_SHIM_NVRTC;
        bool own = find_part(source, target, words, name, token->length);
        /* On a GPU, what CUDA's shim has for the CPU only is NVRTC's own. */
        bool native = !own && !g->host && !invar_is_metal(source) &&
                      find_part(source, INVAR_SHIM_CPU, words, name, token->length);
        if (!own && !native) continue;
        const char *space = invar_is_metal(source) ? "metal" : native ? "" : "invar_shim";
        invar_text_format(g->text, "using %s::%.*s;\n", space, (int)token->length, name);
    }
}

invar_status invar_generate_shim(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                 invar_text *text) {
    bool host = target == INVAR_TARGET_CPU;
    uint32_t place = host ? INVAR_SHIM_CPU : INVAR_SHIM_NVRTC;
    uint64_t words[INVAR_WORD_BITS / 64];
    INVAR_TRY(invar_check_types(source, key));
    collect_words(source, key, words);
    if (host && (check || source->mode >= INVAR_MODE_SIMD)) invar_text_string(text, "#define INVAR_SHIM_FIBRES 1\n");
    if (host && check) invar_text_string(text, "#define INVAR_SHIM_CHECK 1\n");
    invar_text_format(text, "#ifndef __FAST_MATH__\n#define __FAST_MATH__ %d\n#endif\n",
                      source->math_mode == INVAR_MATH_FAST);
    for (int32_t k = 0; k < invar_shim_part_count; k++) {
        const invar_shim_part *part = &invar_shim_parts[k];
        if (!(part->targets & place) || !is_needed(source, part, words)) continue;
        invar_text_format(text, "#line 1 \"invar/%s\"\n", part->name);
        invar_text_string(text, part->text);
        invar_text_string(text, "\n");
    }
    invar_text_string(text, "#line 1 \"invar/generated\"\n");
    return text->failed ? invar_source_memory(source) : INVAR_OK;
}
