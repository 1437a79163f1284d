/* Which loops hold each token: an atomic operation in a loop may be a wait for another thread. */
#include "jit/source.h"

enum { DEEPEST = 64 }; /* statements in one another without braces; beyond that the loop is taken to go on to the end */

static int32_t statement_end(const invar_file *file, int32_t i, int depth);

/* The token behind a parenthesis that opens at i; -1 where none does. */
static int32_t after_parenthesis(const invar_file *file, int32_t i) {
    if (!invar_token_is(file, i, "(") || file->tokens[i].partner < 0) return -1;
    return file->tokens[i].partner + 1;
}

static int32_t simple_end(const invar_file *file, int32_t i) {
    for (; i < file->count; i++) {
        if (file->tokens[i].directive >= 0) continue;
        if (invar_token_is(file, i, ";")) return i + 1;
        if (invar_token_is(file, i, "}")) return i;
        if (invar_token_is_any(file, i, "([{") && file->tokens[i].partner > i) i = file->tokens[i].partner;
    }
    return file->count;
}

static int32_t if_end(const invar_file *file, int32_t i, int depth) {
    for (;;) {
        int32_t next = i + 1 + (invar_token_is(file, i + 1, "constexpr") ? 1 : 0);
        next = after_parenthesis(file, next);
        if (next < 0) return file->count;
        int32_t end = statement_end(file, next, depth + 1);
        if (!invar_token_is(file, end, "else")) return end;
        if (!invar_token_is(file, end + 1, "if")) return statement_end(file, end + 1, depth + 1);
        i = end + 1;
    }
}

/* The token behind the statement that begins at i. */
static int32_t statement_end(const invar_file *file, int32_t i, int depth) {
    if (depth > DEEPEST) return file->count;
    while (i < file->count && file->tokens[i].directive >= 0) i++; /* #pragma unroll */
    if (invar_token_is(file, i, "{")) return file->tokens[i].partner > i ? file->tokens[i].partner + 1 : file->count;
    if (invar_token_is(file, i, "if")) return if_end(file, i, depth);
    if (invar_token_is(file, i, "for") || invar_token_is(file, i, "while") || invar_token_is(file, i, "switch")) {
        int32_t next = after_parenthesis(file, i + 1);
        return next < 0 ? file->count : statement_end(file, next, depth + 1);
    }
    if (invar_token_is(file, i, "do")) return simple_end(file, statement_end(file, i + 1, depth + 1));
    return simple_end(file, i);
}

/* for (T i = ...; i < ...; ...) whose condition compares i with something that is not read anew from memory. */
static bool is_counted(const invar_file *file, int32_t i) {
    int32_t open = i + 1, close = after_parenthesis(file, open) - 1, first = simple_end(file, open + 1);
    if (close < 0 || first >= close) return false;
    int32_t counter = -1;
    for (int32_t k = open + 1; k < first && counter < 0; k++)
        if (invar_token_is(file, k, "=")) counter = k - 1;
    int32_t compare = first + 1;
    if (counter < 0 || first >= file->count || !invar_token_names(file, counter) ||
        !invar_token_same(file, counter, file, first))
        return false;
    if (!invar_token_is_any(file, compare, "<>!")) return false;
    for (int32_t k = compare; k < close && !invar_token_is(file, k, ";"); k++)
        if (invar_token_is_any(file, k, "*&[")) return false;
    return true;
}

/* A constexpr function may hold no assembler, and cannot turn for ever where it is one. */
static bool is_constexpr(const invar_source *source, const invar_token *token) {
    if (token->function < 0) return false;
    const invar_function *function = &source->functions[token->function];
    for (int32_t i = function->begin; i >= 0 && i < function->open; i++)
        if (invar_token_is(&source->files[function->file], i, "constexpr")) return true;
    return false;
}

/* The loop or goto at token i: marks what it repeats. */
static void mark_turn(const invar_source *source, invar_file *file, int32_t i) {
    int32_t at = invar_token_is(file, i, "goto") ? i : invar_token_is(file, i, "do") ? i + 1 : after_parenthesis(file, i + 1);
    if (at < 0 || at >= file->count || is_constexpr(source, &file->tokens[i])) return;
    bool marked = at == i || invar_token_is_any(file, at, "{;") || invar_token_is(file, at, "continue");
    if (marked && file->tokens[at].rule == INVAR_RULE_KEEP) file->tokens[at].rule = INVAR_RULE_TURN;
}

/* The token `while` of a do, which repeats nothing; -1 where token i is no do. */
static int32_t do_end(const invar_file *file, int32_t i) {
    return invar_token_is(file, i, "do") ? statement_end(file, i + 1, 0) : -1;
}

void invar_read_loops(invar_source *source, int32_t which) {
    invar_file *file = &source->files[which];
    int32_t ends[3] = { 0, 0, 0 }; /* by kind: loops of it are open up to here */
    for (int32_t i = 0; i < file->count; i++) {
        int32_t last = do_end(file, i);
        if (invar_token_is(file, last, "while")) file->tokens[last].value = last;
        bool loop = invar_token_is(file, i, "for") || invar_token_is(file, i, "while") || invar_token_is(file, i, "do");
        if (loop && file->tokens[i].directive < 0) {
            int kind = invar_token_is(file, i, "for") && is_counted(file, i) ? INVAR_LOOP_COUNTED : INVAR_LOOP_WAITING;
            int32_t end = statement_end(file, i, 0);
            if (end > ends[kind]) ends[kind] = end;
        } else if (loop || invar_token_is(file, i, "goto")) {
            ends[INVAR_LOOP_WAITING] = file->count; /* a loop in a macro may be anywhere */
        }
        bool repeats = loop && !(invar_token_is(file, i, "while") && file->tokens[i].value == i);
        if (repeats || invar_token_is(file, i, "goto")) mark_turn(source, file, i);
        if (i < ends[INVAR_LOOP_WAITING]) file->tokens[i].loop = INVAR_LOOP_WAITING;
        else if (i < ends[INVAR_LOOP_COUNTED]) file->tokens[i].loop = INVAR_LOOP_COUNTED;
    }
}
