/* Literals as arms of Metal's ?: operator. half and bfloat are classes of the shim that convert to and from float, so that
 * in `i < n ? x[i] : 0.0` C++ would not know which arm to convert. invar_number(0.0f) has no type of its own: it becomes
 * what the other arm is. Only literals that every floating-point type holds are written so: 0, 1, 0.5, INFINITY, ... Beside
 * one that is no integer, `invar_other = n` makes an integer arm float, as C++ would have done: an assignment, since what
 * follows it is the whole arm wherever that ends. */
#include "jit/source.h"

#include <stdlib.h>
#include <string.h>

static bool is_mark(const invar_file *file, int32_t i, char mark) {
    return i >= 0 && i < file->count && file->tokens[i].kind == INVAR_TOKEN_MARK && file->tokens[i].length == 1 &&
           file->text[file->tokens[i].start] == mark;
}
static bool is_sign(const invar_file *file, int32_t i) { return is_mark(file, i, '-') || is_mark(file, i, '+'); }

/* Exact in bfloat's 8 bits, and as an integer 0 or 1: these fit in every type. */
static bool is_exact(const char *text, uint32_t length, bool floating) {
    char digits[32], *end;
    if (length >= sizeof digits || memchr(text, '\'', length)) return false;
    memcpy(digits, text, length);
    digits[length] = 0;
    if (!floating) return !strcmp(digits, "0") || !strcmp(digits, "1");
    float value = strtof(digits, &end);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return !(bits & 0xffff) && (!*end || !strcmp(end, "f") || !strcmp(end, "F"));
}

/* *is_floating: whether it is no integer. */
static bool is_literal(const invar_file *file, int32_t i, bool *is_floating) {
    if (i < 0 || i >= file->count) return false;
    const invar_token *token = &file->tokens[i];
    const char *text = file->text + token->start;
    *is_floating = true;
    if (invar_token_is(file, i, "INFINITY") || invar_token_is(file, i, "HUGE_VALF")) return true;
    if (token->kind != INVAR_TOKEN_NUMBER) return false;
    if (token->rule == INVAR_RULE_HALF || token->rule == INVAR_RULE_BFLOAT) return false;
    bool hex = token->length > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'), floating = false;
    for (uint32_t k = 0; k < token->length; k++) floating |= strchr(hex ? "pP" : ".eEfF", text[k]) != NULL;
    *is_floating = floating;
    return is_exact(text, token->length, floating);
}

/* The `?` of the `:` at token i; -1 where the `:` is that of a label, a case, a bit-field, ... */
static int32_t question_of(const invar_file *file, int32_t i) {
    enum { FARTHEST = 4096 }; /* tokens, or a text of colons would take for ever */
    int32_t inner = 0, end = i > FARTHEST ? i - FARTHEST : 0;
    for (i--; i >= end; i--) {
        if (file->tokens[i].partner >= 0 && file->tokens[i].partner < i) i = file->tokens[i].partner;
        else if (file->tokens[i].partner > i || is_mark(file, i, ';')) return -1;
        else if (is_mark(file, i, ':')) inner++;
        else if (is_mark(file, i, '?') && inner-- == 0) return i;
    }
    return -1;
}

static bool ends_arm(const invar_file *file, int32_t i) {
    return i >= file->count || is_mark(file, i, ';') || is_mark(file, i, ',') || is_mark(file, i, ')') ||
           is_mark(file, i, ']') || is_mark(file, i, '}') || is_mark(file, i, ':');
}

/* The literal that is the whole arm which begins at token i; -1. */
static int32_t literal_arm(const invar_file *file, int32_t i, bool *is_floating) {
    if (is_sign(file, i)) i++;
    return is_literal(file, i, is_floating) && ends_arm(file, i + 1) ? i : -1;
}

/* `literal` is an arm, and the other one stands behind `mark`. */
static void set_rules(invar_file *file, int32_t literal, int32_t mark, bool is_floating) {
    file->tokens[literal].value = file->tokens[literal].rule == INVAR_RULE_FLOAT;
    file->tokens[literal].rule = INVAR_RULE_ARM;
    if (is_floating) file->tokens[mark].rule = INVAR_RULE_OTHER;
}

void invar_read_arms(invar_source *source, int32_t which) {
    invar_file *file = &source->files[which];
    for (int32_t i = 0; i < file->count && !file->conditional; i++) {
        int32_t question = is_mark(file, i, ':') && file->tokens[i].directive < 0 ? question_of(file, i) : -1;
        if (question < 0) continue;
        bool is_floating = false, is_floating_too = false;
        int32_t left = literal_arm(file, question + 1, &is_floating), right = literal_arm(file, i + 1, &is_floating_too);
        if (left >= 0 && right < 0) set_rules(file, left, i, is_floating);
        if (right >= 0 && left < 0) set_rules(file, right, question, is_floating_too);
    }
}
