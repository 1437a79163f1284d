/* Where each token stands: namespace, struct, code; and the functions that the text defines. A reading by brackets and
 * keywords, not a parser: what it takes for a function wrongly costs no more than a number that could be better. */
#include "jit/source.h"

#include <stdlib.h>

enum { DEEPEST = 256 };

typedef struct level {
    uint8_t scope;
    int32_t function;
    int32_t name;  /* a struct's name token; -1 */
    int32_t brace; /* that opens it; -1 for the text itself */
} level;

/* The declaration that is being read, in a namespace or struct, or the statement in code. */
typedef struct declaration {
    int32_t begin;      /* its first token */
    int32_t candidate;  /* the last name before a parenthesis, or f in `f<...>(`: the function's name, if it is one */
    int32_t open;       /* that parenthesis */
    int32_t aggregate;  /* the keyword struct, class or union; -1 */
    int32_t operator_;  /* the keyword operator; -1 */
    bool enumerators, space, equals, colon;
} declaration;

typedef struct walk {
    invar_source *source;
    invar_file *file;
    int32_t which;
    level stack[DEEPEST];
    int32_t depth;
    declaration now;
} walk;

static const declaration FRESH = { .begin = -1, .candidate = -1, .open = -1, .aggregate = -1, .operator_ = -1 };

/* Names that a parenthesis may follow in a declaration without being its function. */
static bool is_specifier(const invar_file *file, int32_t i) {
    static const char *const words[] = { "alignas", "__align__", "__attribute__", "__launch_bounds__", "decltype",
                                         "noexcept", "explicit", "static_assert", "__declspec", "requires", "sizeof",
                                         "__cluster_dims__", "__maxnreg__", "typeof", "throw", NULL };
    return invar_token_is_one_of(file, i, words);
}

/* The name before the parenthesis at token i, or before the template arguments that end there, as a specialisation's
 * `f<int>(` has them; -1. */
static int32_t name_before(const invar_file *file, int32_t i) {
    enum { FARTHEST = 64 };
    if (invar_token_names(file, i - 1)) return is_specifier(file, i - 1) ? -1 : i - 1;
    if (!invar_token_is(file, i - 1, ">")) return -1;
    for (int32_t k = i - 2; k > 0 && k > i - FARTHEST; k--) {
        if (invar_token_is_any(file, k, ";{}")) return -1;
        if (invar_token_is(file, k, "<") && invar_after_angles(file, k) == i)
            return invar_token_names(file, k - 1) && !is_specifier(file, k - 1) ? k - 1 : -1;
    }
    return -1;
}

/* brace: the one of its body; -1 for a declaration only. */
static invar_status add_function(walk *w, int32_t brace, int32_t *index) {
    invar_source *source = w->source;
    if (!invar_grow(&source->functions, source->function_count, &source->function_capacity, sizeof *source->functions))
        return invar_source_memory(source);
    const level *top = &w->stack[w->depth];
    int32_t name = w->now.operator_ >= 0 ? -1 : w->now.candidate;
    bool constructor = name >= 0 && top->scope == INVAR_SCOPE_STRUCT && top->name >= 0 &&
                       invar_token_same(w->file, name, w->file, top->name);
    if (name >= 0) w->file->tokens[name].declares = true;
    *index = source->function_count++;
    source->functions[*index] = (invar_function){ .file = w->which, .name = name, .open = w->now.open,
                                                  .scope = top->scope, .group = -1, .begin = w->now.begin,
                                                  .brace = brace, .owner = top->brace,
                                                  .constructor = constructor };
    return INVAR_OK;
}

/* The name of the struct whose brace opens at i. */
static int32_t struct_name(const walk *w, int32_t i) {
    for (int32_t k = w->now.aggregate + 1; k < i; k++) {
        if (invar_token_is(w->file, k, ":")) break;
        bool last = k + 1 == i || invar_token_is(w->file, k + 1, ":") || invar_token_is(w->file, k + 1, "final");
        if (invar_token_names(w->file, k) && last) return k;
    }
    return -1;
}

/* In `: a(1), b{2} {` a brace behind a name, with a comma or another brace behind it, initialises a member. */
static bool is_member_initialiser(const walk *w, int32_t i) {
    int32_t close = w->file->tokens[i].partner;
    return w->now.colon && invar_token_names(w->file, i - 1) && close >= 0 &&
           invar_token_is_any(w->file, close + 1, ",{");
}

static invar_status push(walk *w, int32_t i) {
    const level *top = &w->stack[w->depth];
    level next = { .scope = INVAR_SCOPE_LIST, .function = top->function, .name = -1, .brace = i };
    const declaration *now = &w->now;
    bool code = top->scope == INVAR_SCOPE_CODE;
    if (w->depth + 1 == DEEPEST)
        return invar_source_fail(w->source, w->which, w->file->tokens[i].line, "expected at most %d brackets in one another",
                                 DEEPEST);
    if (top->scope == INVAR_SCOPE_LIST || (!code && is_member_initialiser(w, i))) {
        next.scope = INVAR_SCOPE_LIST;
    } else if (now->aggregate >= 0 && !now->equals && (now->candidate < 0 || code)) {
        next.scope = INVAR_SCOPE_STRUCT;
        next.name = struct_name(w, i);
    } else if (code) {
        next.scope = now->enumerators ? INVAR_SCOPE_LIST : INVAR_SCOPE_CODE;
    } else if (now->space) {
        next.scope = INVAR_SCOPE_NAMESPACE;
    } else if (!now->equals && (now->candidate >= 0 || now->operator_ >= 0)) {
        next.scope = INVAR_SCOPE_CODE;
        INVAR_TRY(add_function(w, i, &next.function));
    }
    w->stack[++w->depth] = next;
    if (next.scope != INVAR_SCOPE_LIST) w->now = FRESH;
    return INVAR_OK;
}

static void pop(walk *w) {
    if (!w->depth) return;
    uint8_t scope = w->stack[w->depth--].scope;
    if (scope != INVAR_SCOPE_LIST) w->now = FRESH;
}

static void set_scope(walk *w, int32_t begin, int32_t end, uint8_t scope) {
    for (int32_t i = begin; i < end; i++) {
        w->file->tokens[i].scope = scope;
        w->file->tokens[i].function = w->stack[w->depth].function;
    }
}

/* A name in a declaration. */
static void note_name(walk *w, int32_t i) {
    static const char *const aggregates[] = { "struct", "class", "union", NULL };
    if (invar_token_is_one_of(w->file, i, aggregates) && !invar_token_is(w->file, i - 1, "enum")) w->now.aggregate = i;
    else if (invar_token_is(w->file, i, "enum")) w->now.enumerators = true;
    else if (invar_token_is(w->file, i, "namespace")) w->now.space = true;
    else if (invar_token_is(w->file, i, "extern") && w->file->tokens[i + 1 < w->file->count ? i + 1 : i].kind ==
             INVAR_TOKEN_STRING && invar_token_is(w->file, i + 2, "{")) w->now.space = true;
    else if (invar_token_is(w->file, i, "operator")) w->now.operator_ = i;
}

/* Reads what begins at token *at, outside code; *at becomes the last token that was read. */
static invar_status read_declaration(walk *w, int32_t *at) {
    int32_t i = *at, close = w->file->tokens[i].partner;
    if (invar_token_is(w->file, i, "template") && invar_token_is(w->file, i + 1, "<")) {
        int32_t after = invar_after_parameters(w->file, i + 1);
        if (after > 0) set_scope(w, i, after, INVAR_SCOPE_CODE), *at = after - 1;
    } else if (invar_token_is(w->file, i, "(") && close > i) {
        bool of_operator = w->now.operator_ >= 0 && i > w->now.operator_ + 1;
        int32_t name = of_operator ? i - 1 : name_before(w->file, i);
        if (name >= 0 && !w->now.equals && !w->now.colon) w->now.candidate = name, w->now.open = i;
        set_scope(w, i, close + 1, INVAR_SCOPE_CODE);
        *at = close;
    } else if (invar_token_is(w->file, i, "=") && w->now.operator_ < 0) {
        w->now.equals = true;
    } else if (invar_token_is(w->file, i, ":")) {
        if (w->now.candidate >= 0) w->now.colon = true;
        else if (w->now.aggregate < 0) w->now = FRESH; /* public: */
    } else if (invar_token_is(w->file, i, ";")) {
        int32_t unused;
        if (w->now.candidate >= 0 && !w->now.equals && w->now.operator_ < 0) INVAR_TRY(add_function(w, -1, &unused));
        w->now = FRESH;
    }
    return INVAR_OK;
}

invar_status invar_read_scopes(invar_source *source, int32_t which) {
    walk w = { .source = source, .file = &source->files[which], .which = which, .now = FRESH };
    w.stack[0] = (level){ which == INVAR_BODY ? INVAR_SCOPE_CODE : INVAR_SCOPE_NAMESPACE, -1, -1, -1 };
    for (int32_t i = 0; i < w.file->count; i++) {
        invar_token *token = &w.file->tokens[i];
        const level *top = &w.stack[w.depth];
        token->scope = top->scope;
        token->function = top->function;
        if (token->directive >= 0) continue;
        if (w.now.begin < 0) w.now.begin = i;
        if (token->kind == INVAR_TOKEN_NAME) note_name(&w, i);
        if (invar_token_is(w.file, i, "{")) {
            INVAR_TRY(push(&w, i));
        } else if (invar_token_is(w.file, i, "}")) {
            pop(&w);
        } else if (top->scope == INVAR_SCOPE_CODE) {
            if (invar_token_is_any(w.file, i, "=(")) w.now.equals = true;
            if (invar_token_is(w.file, i, ";")) w.now = FRESH;
        } else if (top->scope != INVAR_SCOPE_LIST) {
            INVAR_TRY(read_declaration(&w, &i));
        }
    }
    return INVAR_OK;
}
