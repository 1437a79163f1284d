/* The numbers of collectives and atomics.
 *
 * Lanes that diverge meet again at the lowest number, so numbers must follow the order in which one thread reaches the
 * calls. In the body that is the order of the text. A function that reaches a collective takes a base number as a first
 * parameter, `invar_at`, and each call of it hands over a base of its own: its calls are numbered as if it stood where it
 * is called. Functions that recurse, whose name is used as a value, constructors and operators cannot: they have numbers
 * of their own, in the order of the text. A macro's calls find their number by the line on which the macro is used. */
#include "jit/source.h"

#include <stdlib.h>

enum { MOST_GROUPS = 1024 };

typedef struct numbering {
    invar_source *source;
    int32_t *first, *next; /* each group's first item, and the one behind an item in its group; -1 */
} numbering;

bool invar_takes_base(const invar_source *source, int32_t group) {
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
static int32_t measure(numbering *n, int32_t group) {
    enum { UNSEEN = 0, OPEN, DONE };
    invar_group *g = &n->source->groups[group];
    if (g->state == OPEN) g->bare = true;
    if (g->state != UNSEEN) return g->span;
    g->state = OPEN;
    int64_t span = 0;
    for (int32_t k = n->first[group]; k >= 0; k = n->next[k]) {
        invar_item *item = &n->source->items[k];
        item->number = (int32_t)span;
        if (item->callee < 0) span++;
        else if (invar_takes_base(n->source, item->callee)) span += measure(n, item->callee);
        if (span > INVAR_MAX_SITES) span = INVAR_MAX_SITES;
    }
    g->state = DONE;
    return g->span = (int32_t)span;
}

static invar_status link_items(numbering *n) {
    const invar_source *source = n->source;
    size_t groups = (size_t)source->group_count, items = (size_t)source->item_count;
    n->first = malloc(sizeof *n->first * (groups + items + 1));
    if (!n->first) return invar_source_memory(source);
    n->next = n->first + groups;
    for (size_t g = 0; g < groups; g++) n->first[g] = -1;
    for (int32_t k = source->item_count - 1; k >= 0; k--) {
        int32_t within = source->items[k].within;
        n->next[k] = -1;
        if (within < 0) continue;
        n->next[k] = n->first[within];
        n->first[within] = k;
    }
    return INVAR_OK;
}

/* Twice: callers of one that was found to recurse were measured with it at first. */
static void measure_all(numbering *n) {
    for (int pass = 0; pass < 2; pass++) {
        for (int32_t g = 0; g < n->source->group_count; g++) n->source->groups[g].state = 0;
        for (int32_t g = 0; g < n->source->group_count; g++) measure(n, g);
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

/* Numbers what stands in a group, in order, as seen from one call of it. Calls that come to no number are not followed: functions
 * that each call the next one twice would take for ever. */
static invar_status place_group(const numbering *n, int32_t group) {
    for (int32_t k = n->source->groups[group].span ? n->first[group] : -1; k >= 0; k = n->next[k]) {
        const invar_item *item = &n->source->items[k];
        if (item->callee < 0) INVAR_TRY(add_place(n->source, k));
        else if (invar_takes_base(n->source, item->callee)) INVAR_TRY(place_group(n, item->callee));
    }
    return INVAR_OK;
}

static invar_status place_all(const numbering *n) {
    invar_source *source = n->source;
    INVAR_TRY(add_place(source, -1));
    for (int32_t k = 0; k < source->item_count; k++) {
        invar_item *item = &source->items[k];
        if (item->text || (item->within >= 0 && invar_takes_base(source, item->within))) continue;
        item->within = -1;
        item->number = source->place_count;
        if (item->callee < 0) INVAR_TRY(add_place(source, k));
        else if (invar_takes_base(source, item->callee)) INVAR_TRY(place_group(n, item->callee));
    }
    return INVAR_OK;
}

static void set_rules(invar_source *source) {
    for (int32_t k = 0; k < source->item_count; k++) {
        const invar_item *item = &source->items[k];
        invar_token *open = &source->files[item->file].tokens[item->open < 0 ? 0 : item->open];
        if (item->open < 0 || (item->callee >= 0 && !invar_takes_base(source, item->callee))) continue;
        open->rule = item->callee < 0 ? INVAR_RULE_MARK : INVAR_RULE_CALL;
        open->value = k;
    }
    for (int32_t f = 0; f < source->function_count; f++) {
        const invar_function *function = &source->functions[f];
        if (function->group < 0) continue;
        invar_token *open = &source->files[function->file].tokens[function->open];
        if (open->rule != INVAR_RULE_KEEP) continue; /* it was dropped with the function around it */
        if (source->groups[function->group].overload && function->scope == INVAR_SCOPE_NAMESPACE)
            open->rule = INVAR_RULE_OVERLOAD;
        else if (invar_takes_base(source, function->group)) open->rule = INVAR_RULE_DEFINE;
    }
}

static invar_status read_numbers(numbering *n) {
    INVAR_TRY(link_items(n));
    if (n->source->group_count <= MOST_GROUPS) {
        spread_meeting(n->source);
        measure_all(n);
    }
    INVAR_TRY(place_all(n));
    set_rules(n->source);
    return INVAR_OK;
}

invar_status invar_read_numbers(invar_source *source) {
    numbering n = { .source = source };
    invar_status status = read_numbers(&n);
    free(n.first);
    return status;
}
