/* Collectives and atomics where they stand: in the body, in functions, in the text of macros and where those are used. */
#include "jit/source.h"

#include <string.h>

enum { BUCKETS = 1024, ALIASES = 64, DEEPEST = 16 /* macros in one another */ };

/* `#define SYNC __syncthreads`: SYNC(...) is a call of it. */
typedef struct alias {
    int32_t file, token, last; /* of the macro's name, and of the function's */
} alias;

typedef struct reading {
    invar_source *source;
    int32_t buckets[BUCKETS]; /* first group of a hash; -1 */
    int32_t macro_buckets[BUCKETS];
    alias aliases[ALIASES];
    int32_t alias_count;
} reading;

static uint32_t hash_token(const invar_file *file, int32_t i) {
    return invar_word_hash(file->text + file->tokens[i].start, file->tokens[i].length);
}

/* ---- which names are functions of the user's ---- */

static int32_t find_group(const reading *r, const invar_file *file, int32_t i) {
    const invar_source *source = r->source;
    for (int32_t g = r->buckets[hash_token(file, i) % BUCKETS]; g >= 0; g = source->groups[g].next) {
        const invar_function *function = &source->functions[source->groups[g].function];
        if (invar_token_same(&source->files[function->file], function->name, file, i)) return g;
    }
    return -1;
}

static const invar_shim_call *find_call(const invar_source *source, const invar_file *file, int32_t i, bool member) {
    uint32_t dialect = invar_dialect_bit(source);
    for (int32_t k = 0; k < invar_shim_call_count; k++) {
        const invar_shim_call *call = &invar_shim_calls[k];
        if ((call->name[0] == '.') != member || !(call->dialects & dialect)) continue;
        if (invar_token_is(file, i, call->name + member)) return call;
    }
    return NULL;
}

/* A user's function of such a name stands beside the built-in ones (`float atomicMax(float *, float)`); one called
 * `reduce` or `sync` is a function as any other. */
static bool is_builtin_name(const invar_file *file, int32_t i) {
    static const char *const beginnings[] = { "__", "atomic", "simd", "quad_", "threadgroup_" };
    const invar_token *token = &file->tokens[i];
    for (size_t k = 0; k < sizeof beginnings / sizeof *beginnings; k++) {
        size_t length = strlen(beginnings[k]);
        if (token->length > length && !memcmp(file->text + token->start, beginnings[k], length)) return true;
    }
    return false;
}

static invar_status read_groups(reading *r) {
    invar_source *source = r->source;
    for (int32_t b = 0; b < BUCKETS; b++) r->buckets[b] = r->macro_buckets[b] = -1;
    for (int32_t f = 0; f < source->function_count; f++) {
        invar_function *function = &source->functions[f];
        const invar_file *file = &source->files[function->file];
        if (function->name < 0) continue;
        int32_t group = find_group(r, file, function->name);
        if (group < 0) {
            if (!invar_grow(&source->groups, source->group_count, &source->group_capacity, sizeof *source->groups))
                return invar_source_memory(source);
            group = source->group_count++;
            int32_t *bucket = &r->buckets[hash_token(file, function->name) % BUCKETS];
            source->groups[group] = (invar_group){ .function = f, .next = *bucket };
            *bucket = group;
        }
        function->group = group;
        bool free_function = function->scope == INVAR_SCOPE_NAMESPACE;
        source->groups[group].bare |= function->constructor;
        source->groups[group].overload |= free_function && is_builtin_name(file, function->name) &&
                                          find_call(source, file, function->name, false);
    }
    return INVAR_OK;
}

/* ---- calls ---- */

/* The `(` of a call of the name at token i; -1. */
static int32_t call_open(const invar_file *file, int32_t i) {
    int32_t open = invar_token_is(file, i + 1, "<") ? invar_after_angles(file, i + 1) : i + 1;
    bool opens = invar_token_is(file, open, "(") && file->tokens[open].directive == file->tokens[i].directive;
    return opens ? open : -1;
}

static bool is_qualified(const invar_file *file, int32_t i) {
    return invar_token_is(file, i - 1, "::") &&
           (invar_token_is(file, i - 2, "cg") || invar_token_is(file, i - 2, "cooperative_groups") ||
            invar_token_is(file, i - 2, "metal"));
}

static invar_status add_item(reading *r, invar_item item) {
    invar_source *source = r->source;
    const invar_token *token = &source->files[item.file].tokens[item.token];
    if (!invar_grow(&source->items, source->item_count, &source->item_capacity, sizeof *source->items))
        return invar_source_memory(source);
    item.text = token->directive >= 0;
    item.loose = !item.text && token->function >= 0;
    item.within = item.loose ? source->functions[token->function].group : -1;
    source->items[source->item_count++] = item;
    return INVAR_OK;
}

static void read_aliases(reading *r, int32_t which) {
    const invar_file *file = &r->source->files[which];
    for (int32_t i = 0; i + 3 < file->count && r->alias_count < ALIASES; i++) {
        if (file->tokens[i].directive != i || !invar_token_is(file, i + 1, "define")) continue;
        int32_t last = i + 3;
        while (last + 1 < file->count && file->tokens[last + 1].directive == i) last++;
        bool whole = file->tokens[last].directive == i && invar_token_names(file, last) &&
                     (last == i + 3 || invar_token_is(file, last - 1, "::")) && find_call(r->source, file, last, false);
        if (whole) r->aliases[r->alias_count++] = (alias){ which, i + 2, last };
    }
}

/* The marked function that the name at token i calls; NULL. */
static const invar_shim_call *called(const reading *r, const invar_file *file, int32_t i) {
    const invar_shim_call *call = find_call(r->source, file, i, invar_token_is_member(file, i));
    for (int32_t k = 0; k < r->alias_count && !call; k++) {
        const invar_file *other = &r->source->files[r->aliases[k].file];
        if (invar_token_same(other, r->aliases[k].token, file, i))
            call = find_call(r->source, other, r->aliases[k].last, false);
    }
    return call;
}

/* ---- macros ---- */

static int32_t find_macro(const reading *r, const invar_file *file, int32_t i) {
    for (int32_t m = r->macro_buckets[hash_token(file, i) % BUCKETS]; m >= 0; m = r->source->macros[m].next) {
        const invar_macro *macro = &r->source->macros[m];
        if (invar_token_same(&r->source->files[macro->file], macro->name, file, i)) return m;
    }
    return -1;
}

/* Adds what one use of a macro stands for, item by item. */
static invar_status use_macro(reading *r, int32_t m, const invar_item *use, int depth) {
    const invar_macro macro = r->source->macros[m];
    if (depth == DEEPEST || r->source->item_count > 4 * INVAR_MAX_SITES) return INVAR_OK;
    for (int32_t k = macro.first; k < macro.first + macro.count; k++) {
        invar_item item = *use;
        const invar_item *text = &r->source->items[k];
        if (text->macro >= 0) {
            INVAR_TRY(use_macro(r, text->macro, use, depth + 1));
            continue;
        }
        item.of = k;
        item.callee = text->callee;
        item.kind = text->kind;
        INVAR_TRY(add_item(r, item));
    }
    return INVAR_OK;
}

/* In a macro's text, a name behind a type is a function that the macro defines: it cannot be told to take a number. */
static bool is_defined_by_macro(const invar_file *file, int32_t i) {
    static const char *const keywords[] = { "return", "else", "do", "case", "typename", "template", "and", "or", "not", NULL };
    int32_t directive = file->tokens[i].directive;
    return directive >= 0 && i - 1 > directive + 2 && invar_token_names(file, i - 1) &&
           !invar_token_is_one_of(file, i - 1, keywords);
}

/* The token is a name that is no declaration: adds the item that it is. */
static invar_status read_item(reading *r, int32_t which, int32_t i) {
    invar_source *source = r->source;
    const invar_file *file = &source->files[which];
    int32_t open = call_open(file, i), group = find_group(r, file, i), macro = find_macro(r, file, i);
    invar_item item = { .file = which, .token = i, .open = open, .callee = -1, .of = -1, .macro = -1 };
    if (macro >= 0 && i != source->macros[macro].name) {
        int32_t close = open >= 0 ? file->tokens[open].partner : -1;
        item.last = file->tokens[close > 0 ? close : i].line;
        item.open = -1;
        item.macro = macro;
        return file->tokens[i].directive >= 0 ? add_item(r, item) : use_macro(r, macro, &item, 0);
    }
    if (open < 0 || is_defined_by_macro(file, i)) {
        if (group >= 0 && !invar_token_is_member(file, i)) source->groups[group].bare = true;
        return INVAR_OK;
    }
    const invar_shim_call *call = called(r, file, i);
    bool own = group >= 0 && !source->groups[group].overload && !is_qualified(file, i);
    if (call && !own) item.kind = (uint8_t)call->kind;
    else item.callee = group;
    return call || group >= 0 ? add_item(r, item) : INVAR_OK;
}

static bool may_be_item(const invar_file *file, int32_t i) {
    const invar_token *token = &file->tokens[i];
    return token->kind == INVAR_TOKEN_NAME && token->rule == INVAR_RULE_KEEP && !token->declares;
}

/* The items of one #define, whose `#` is token i. A macro whose text uses a later one is not seen through. */
static invar_status read_macro(reading *r, int32_t which, int32_t i) {
    invar_source *source = r->source;
    const invar_file *file = &source->files[which];
    invar_macro macro = { .file = which, .name = i + 2, .first = source->item_count };
    if (!invar_token_names(file, i + 2) || file->tokens[i + 2].directive != i) return INVAR_OK;
    for (int32_t k = i + 3; k < file->count && file->tokens[k].directive == i; k++)
        if (may_be_item(file, k)) INVAR_TRY(read_item(r, which, k));
    macro.count = source->item_count - macro.first;
    if (!macro.count) return INVAR_OK;
    if (!invar_grow(&source->macros, source->macro_count, &source->macro_capacity, sizeof *source->macros))
        return invar_source_memory(source);
    int32_t *bucket = &r->macro_buckets[hash_token(file, macro.name) % BUCKETS];
    macro.next = *bucket;
    *bucket = source->macro_count;
    source->macros[source->macro_count++] = macro;
    return INVAR_OK;
}

/* ---- everything in order ---- */

static invar_status read_macros(reading *r, int32_t which) {
    const invar_file *file = &r->source->files[which];
    read_aliases(r, which);
    for (int32_t i = 0; i + 1 < file->count; i++)
        if (file->tokens[i].directive == i && invar_token_is(file, i + 1, "define")) INVAR_TRY(read_macro(r, which, i));
    return INVAR_OK;
}

static invar_status read_items(reading *r, int32_t which) {
    const invar_file *file = &r->source->files[which];
    for (int32_t i = 0; i < file->count; i++)
        if (file->tokens[i].directive < 0 && may_be_item(file, i)) INVAR_TRY(read_item(r, which, i));
    return INVAR_OK;
}

invar_status invar_read_marks(invar_source *source) {
    reading r = { .source = source };
    INVAR_TRY(read_groups(&r));
    for (int32_t f = 0; f < INVAR_FILES; f++) INVAR_TRY(read_macros(&r, f));
    for (int32_t f = 0; f < INVAR_FILES; f++) INVAR_TRY(read_items(&r, f));
    return INVAR_OK;
}
