/* Collectives and atomics, and their numbers.
 *
 * Lanes that diverge meet again at the lowest number, so numbers must follow the order in which one thread reaches the
 * calls. In the body that is the order of the text. A function that reaches a collective takes a base number as a first
 * parameter, `invar_at`, and each call of it hands over a base of its own: its calls are numbered as if it stood where it
 * is called. Functions that recurse, whose name is used as a value, constructors and operators cannot: they have numbers
 * of their own, in the order of the text, and so have macros. */
#include "jit/source.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024, MOST_GROUPS = 1024, ALIASES = 64 };

/* `#define SYNC __syncthreads`: SYNC(...) is a call of it. */
typedef struct alias {
    int32_t file, token, last; /* of the macro's name, and of the function's */
} alias;

typedef struct reading {
    invar_source *source;
    int32_t buckets[BUCKETS]; /* first group of a hash; -1 */
    alias aliases[ALIASES];
    int32_t alias_count;
    int32_t *first, *next;    /* each group's first item, and the one behind an item in its group; -1 */
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

static bool is_member(const invar_file *file, int32_t i) {
    return invar_token_is(file, i - 1, ".") || invar_token_is(file, i - 1, "->");
}

static const invar_shim_call *find_call(const invar_source *source, const invar_file *file, int32_t i, bool member) {
    uint32_t dialect = invar_is_metal(source) ? INVAR_SHIM_METAL : INVAR_SHIM_CUDA;
    const invar_token *token = &file->tokens[i];
    for (int32_t k = 0; k < invar_shim_call_count; k++) {
        const invar_shim_call *call = &invar_shim_calls[k];
        const char *name = call->name + (call->name[0] == '.');
        if ((call->name[0] == '.') != member || !(call->dialects & dialect)) continue;
        if (strlen(name) == token->length && !memcmp(name, file->text + token->start, token->length)) return call;
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
    for (int32_t b = 0; b < BUCKETS; b++) r->buckets[b] = -1;
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

static invar_status add_item(reading *r, int32_t which, int32_t i, int32_t open, int32_t callee, uint8_t kind) {
    invar_source *source = r->source;
    const invar_token *token = &source->files[which].tokens[i];
    if (!invar_grow(&source->items, source->item_count, &source->item_capacity, sizeof *source->items))
        return invar_source_memory(source);
    int32_t within = token->directive < 0 && token->function >= 0 ? source->functions[token->function].group : -1;
    source->items[source->item_count++] = (invar_item){
        .file = which, .token = i, .open = open, .within = within, .callee = callee, .kind = kind,
        .loose = token->function >= 0 || token->directive >= 0 };
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
    const invar_shim_call *call = find_call(r->source, file, i, is_member(file, i));
    for (int32_t k = 0; k < r->alias_count && !call; k++) {
        const invar_file *other = &r->source->files[r->aliases[k].file];
        if (invar_token_same(other, r->aliases[k].token, file, i))
            call = find_call(r->source, other, r->aliases[k].last, false);
    }
    return call;
}

static invar_status read_items(reading *r, int32_t which) {
    invar_source *source = r->source;
    const invar_file *file = &source->files[which];
    read_aliases(r, which);
    for (int32_t i = 0; i < file->count; i++) {
        if (file->tokens[i].kind != INVAR_TOKEN_NAME || file->tokens[i].rule != INVAR_RULE_KEEP) continue;
        if (file->tokens[i].declares) continue;
        int32_t open = call_open(file, i), group = find_group(r, file, i);
        if (open < 0) {
            if (group >= 0 && !is_member(file, i)) source->groups[group].bare = true;
            continue;
        }
        const invar_shim_call *call = called(r, file, i);
        bool own = group >= 0 && !source->groups[group].overload && !is_qualified(file, i);
        if (call && !own) INVAR_TRY(add_item(r, which, i, open, -1, (uint8_t)call->kind));
        else if (group >= 0) INVAR_TRY(add_item(r, which, i, open, group, 0));
    }
    return INVAR_OK;
}

/* ---- which functions take a base number ---- */

static bool takes_base(const invar_source *source, int32_t group) {
    const invar_group *g = &source->groups[group];
    return g->meets && !g->bare && !g->overload;
}

static bool meets(const invar_source *source, const invar_item *item) {
    if (item->callee < 0) return item->kind == INVAR_CALL_SIMD || item->kind == INVAR_CALL_BARRIER;
    return source->groups[item->callee].meets;
}

/* Groups from which a collective can be reached. */
static void spread_meeting(invar_source *source) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t k = 0; k < source->item_count; k++) {
            const invar_item *item = &source->items[k];
            if (item->within < 0 || source->groups[item->within].meets || !meets(source, item)) continue;
            source->groups[item->within].meets = changed = true;
        }
    }
}

/* Adds up what each group's calls take; a group that reaches itself is bare. */
static int32_t measure(reading *r, int32_t group) {
    enum { UNSEEN = 0, OPEN, DONE };
    invar_group *g = &r->source->groups[group];
    if (g->state == OPEN) g->bare = true;
    if (g->state != UNSEEN) return g->span;
    g->state = OPEN;
    int64_t span = 0;
    for (int32_t k = r->first[group]; k >= 0; k = r->next[k]) {
        invar_item *item = &r->source->items[k];
        item->number = (int32_t)span;
        if (item->callee < 0) span++;
        else if (takes_base(r->source, item->callee)) span += measure(r, item->callee);
        if (span > INVAR_MAX_SITES) span = INVAR_MAX_SITES;
    }
    g->state = DONE;
    return g->span = (int32_t)span;
}

static invar_status link_items(reading *r) {
    const invar_source *source = r->source;
    size_t groups = (size_t)source->group_count, items = (size_t)source->item_count;
    r->first = malloc(sizeof *r->first * (groups + items + 1));
    if (!r->first) return invar_source_memory(source);
    r->next = r->first + groups;
    for (size_t g = 0; g < groups; g++) r->first[g] = -1;
    for (int32_t k = source->item_count - 1; k >= 0; k--) {
        int32_t within = source->items[k].within;
        r->next[k] = -1;
        if (within < 0) continue;
        r->next[k] = r->first[within];
        r->first[within] = k;
    }
    return INVAR_OK;
}

/* Twice: callers of one that was found to recurse were measured with it at first. */
static void measure_all(reading *r) {
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t g = 0; g < r->source->group_count; g++) r->source->groups[g].state = 0;
        for (int32_t g = 0; g < r->source->group_count; g++) measure(r, g);
    }
}

/* ---- numbers ---- */

static invar_status add_place(invar_source *source, int32_t item) {
    if (source->place_count > INVAR_MAX_SITES) {
        const invar_item *at = &source->items[item];
        return invar_source_fail(source, at->file, source->files[at->file].tokens[at->token].line,
                                 "expected at most %d collectives and atomics, those of functions counted at each call",
                                 INVAR_MAX_SITES);
    }
    if (!invar_grow(&source->places, source->place_count, &source->place_capacity, sizeof *source->places))
        return invar_source_memory(source);
    source->places[source->place_count++] = item;
    return INVAR_OK;
}

/* Numbers what stands in a group, in order, as seen from one call of it. */
static invar_status place_group(const reading *r, int32_t group) {
    for (int32_t k = r->first[group]; k >= 0; k = r->next[k]) {
        const invar_item *item = &r->source->items[k];
        if (item->callee < 0) INVAR_TRY(add_place(r->source, k));
        else if (takes_base(r->source, item->callee)) INVAR_TRY(place_group(r, item->callee));
    }
    return INVAR_OK;
}

static invar_status place_all(const reading *r) {
    invar_source *source = r->source;
    INVAR_TRY(add_place(source, -1));
    for (int32_t k = 0; k < source->item_count; k++) {
        invar_item *item = &source->items[k];
        if (item->within >= 0 && takes_base(source, item->within)) continue;
        item->within = -1;
        item->number = source->place_count;
        if (item->callee < 0) INVAR_TRY(add_place(source, k));
        else if (takes_base(source, item->callee)) INVAR_TRY(place_group(r, item->callee));
    }
    return INVAR_OK;
}

static void set_rules(invar_source *source) {
    for (int32_t k = 0; k < source->item_count; k++) {
        const invar_item *item = &source->items[k];
        invar_token *open = &source->files[item->file].tokens[item->open];
        if (item->callee >= 0 && !takes_base(source, item->callee)) continue;
        open->rule = item->callee < 0 ? INVAR_RULE_MARK : INVAR_RULE_CALL;
        open->value = k;
    }
    for (int32_t f = 0; f < source->function_count; f++) {
        const invar_function *function = &source->functions[f];
        if (function->group < 0) continue;
        invar_token *open = &source->files[function->file].tokens[function->open];
        if (source->groups[function->group].overload && function->scope == INVAR_SCOPE_NAMESPACE)
            open->rule = INVAR_RULE_OVERLOAD;
        else if (takes_base(source, function->group)) open->rule = INVAR_RULE_DEFINE;
    }
}

static invar_status read_marks(reading *r) {
    INVAR_TRY(read_groups(r));
    for (int32_t f = 0; f < INVAR_FILES; f++) INVAR_TRY(read_items(r, f));
    INVAR_TRY(link_items(r));
    if (r->source->group_count <= MOST_GROUPS) {
        spread_meeting(r->source);
        measure_all(r);
    }
    INVAR_TRY(place_all(r));
    set_rules(r->source);
    return INVAR_OK;
}

invar_status invar_read_marks(invar_source *source) {
    reading r = { .source = source };
    invar_status status = read_marks(&r);
    free(r.first);
    return status;
}
