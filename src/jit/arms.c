/* Literals as arms of Metal's ?: operator. half and bfloat are classes of the shim that convert to and from float and int,
 * so that in `i < n ? x[i] : 0` C++ would not know which arm to convert. Beside a float literal, `invar_other = x[i]` makes
 * a float of the other arm, as Metal does; an assignment, since what follows it is the whole arm wherever that ends. An
 * integer literal that every type holds, 0 or 1, becomes invar_number(0), which takes the other arm's type. */
#include "jit/source.h"

static bool is_mark(const invar_file *file, int32_t i, char mark) {
    return i >= 0 && i < file->count && file->tokens[i].kind == INVAR_TOKEN_MARK && file->tokens[i].length == 1 &&
           file->text[file->tokens[i].start] == mark;
}

enum { NO_LITERAL, FLOATING, SMALL_INTEGER };
enum { FARTHEST = 1024 }; /* tokens from a `:` to its `?`, or a text of colons would take for ever */

/* What token i is. */
static int literal_kind(const invar_file *file, int32_t i) {
    if (i >= file->count) return NO_LITERAL;
    const invar_token *token = &file->tokens[i];
    const char *text = file->text + token->start;
    if (invar_token_is(file, i, "INFINITY") || invar_token_is(file, i, "NAN")) return FLOATING;
    if (token->kind != INVAR_TOKEN_NUMBER || token->rule == INVAR_RULE_HALF || token->rule == INVAR_RULE_BFLOAT)
        return NO_LITERAL;
    char last = text[token->length - 1];
    bool hex = token->length > 1 && (text[1] == 'x' || text[1] == 'X'); /* 0xf is no float */
    if (token->rule == INVAR_RULE_FLOAT || (!hex && (last == 'f' || last == 'F'))) return FLOATING;
    return token->length == 1 && (*text == '0' || *text == '1') ? SMALL_INTEGER : NO_LITERAL;
}

/* The `?` of the `:` at token i; -1 where the `:` is that of a label, a case, a bit-field, ... */
static int32_t question_of(const invar_file *file, int32_t i) {
    int32_t inner = 0, end = i > FARTHEST ? i - FARTHEST : 0;
    for (i--; i >= end; i--) {
        if (file->tokens[i].partner >= 0 && file->tokens[i].partner < i) i = file->tokens[i].partner;
        else if (file->tokens[i].partner > i || is_mark(file, i, ';')) return -1;
        else if (is_mark(file, i, ':')) inner++;
        else if (is_mark(file, i, '?') && inner-- == 0) return i;
    }
    return -1;
}

/* i is 0 behind a bracket without its partner. */
static bool ends_arm(const invar_file *file, int32_t i) {
    return i <= 0 || i >= file->count || is_mark(file, i, ';') || is_mark(file, i, ',') || is_mark(file, i, ')') ||
           is_mark(file, i, ']') || is_mark(file, i, '}') || is_mark(file, i, ':');
}

/* Whether the arm that begins at token i is itself a ?: of floats, in parentheses or not. */
static bool is_floating_choice(const invar_file *file, int32_t i) {
    while (is_mark(file, i, '(') && ends_arm(file, file->tokens[i].partner + 1)) i++;
    for (int32_t end = i + FARTHEST; i < end && !ends_arm(file, i); i++) {
        if (is_mark(file, i, '?')) return file->tokens[i].value == FLOATING;
        if (file->tokens[i].partner > i) i = file->tokens[i].partner;
    }
    return false;
}

/* What the arm which begins at token i is, if it is a literal or of literals; *literal is its token. A signed integer is
 * none: it would not fit in an unsigned arm. */
static int arm_kind(const invar_file *file, int32_t i, int32_t *literal) {
    bool is_signed = is_mark(file, i, '-') || is_mark(file, i, '+');
    *literal = i + is_signed;
    int kind = ends_arm(file, *literal + 1) ? literal_kind(file, *literal) : NO_LITERAL;
    if (kind == NO_LITERAL && is_floating_choice(file, i)) return FLOATING;
    return is_signed && kind == SMALL_INTEGER ? NO_LITERAL : kind;
}

/* An arm of that kind, and the `?` or `:` before the other arm. */
static void set_rules(invar_file *file, int kind, int32_t literal, int32_t other) {
    if (kind == FLOATING) file->tokens[other].rule = INVAR_RULE_OTHER;
    if (kind == SMALL_INTEGER) file->tokens[literal].rule = INVAR_RULE_ARM;
}

static void read_arms(invar_file *file) {
    for (int32_t i = 0; i < file->count; i++) {
        int32_t question = is_mark(file, i, ':') && file->tokens[i].directive < 0 ? question_of(file, i) : -1, left, right;
        if (question < 0) continue;
        int left_kind = arm_kind(file, question + 1, &left), right_kind = arm_kind(file, i + 1, &right);
        if (left_kind == FLOATING || right_kind == FLOATING) file->tokens[question].value = FLOATING;
        if (left_kind && right_kind) continue; /* C++ knows what to make of two literals */
        set_rules(file, left_kind, left, i);
        set_rules(file, right_kind, right, question);
    }
}

void invar_read_arms(invar_source *source, int32_t which) {
    enum { DEPTH = 3 }; /* choices within choices: each reading knows of one more */
    for (int depth = 0; depth < DEPTH && !source->files[which].conditional; depth++) read_arms(&source->files[which]);
}
