/* Metal's ?: operator. half and bfloat are classes of the shim that convert to and from float and int, so that in
 * `i < n ? x[i] : 0.5f` C++ would not know which arm to convert. So `c ? a : b` is written
 *
 *     invar_choice = c ? invar_arm = a : invar_arm = b
 *
 * where both are assignments, since what follows one is the whole of an arm or of a choice, wherever that ends. invar_arm
 * makes of a 16-bit number a thing that converts one way only (shim/metal.h), and invar_choice a number of it again; they
 * hand on everything else. Literals stay as they are: 0 may be a pointer. */
#include "jit/source.h"

/* Tokens from a `:` back to its `?`, and on to the condition, or a text of colons would take for ever. */
enum { FARTHEST = 1024 };

/* Whether token i stands directly behind the one before it, as the `=` of `<=` does. */
static bool adjoins(const invar_file *file, int32_t i) {
    return i > 0 && i < file->count && file->tokens[i - 1].start + file->tokens[i - 1].length == file->tokens[i].start;
}

/* The `?` of the `:` at token i; -1 where the `:` is that of a label, a case, a bit-field, ... */
static int32_t question_of(const invar_file *file, int32_t i) {
    int32_t inner = 0, end = i > FARTHEST ? i - FARTHEST : 0, directive = file->tokens[i].directive;
    for (i--; i >= end && file->tokens[i].directive == directive; i--) {
        if (file->tokens[i].partner >= 0 && file->tokens[i].partner < i) i = file->tokens[i].partner;
        else if (file->tokens[i].partner > i || invar_token_is(file, i, ";")) return -1;
        else if (invar_token_is(file, i, ":")) inner++;
        else if (invar_token_is(file, i, "?") && inner-- == 0) return i;
    }
    return -1;
}

/* Whether the `=` at token i assigns, and is not the end of == != <= >=. */
static bool assigns(const invar_file *file, int32_t i) {
    if (adjoins(file, i + 1) && invar_token_is(file, i + 1, "=")) return false;
    if (!adjoins(file, i)) return true;
    if (invar_token_is_any(file, i - 1, "=!")) return false;
    if (!invar_token_is_any(file, i - 1, "<>")) return true;
    return adjoins(file, i - 1) && invar_token_same(file, i - 2, file, i - 1); /* <<= and >>= */
}

/* The `<` of the template arguments that end at the `>` at token i; i where it ends none. */
static int32_t before_angles(const invar_file *file, int32_t i) {
    enum { LONGEST = 64 };
    for (int32_t k = i - 1; k > 0 && k > i - LONGEST; k--) {
        if (file->tokens[k].partner >= 0 && file->tokens[k].partner < k) k = file->tokens[k].partner;
        else if (invar_token_is(file, k, "<") && invar_token_names(file, k - 1) && invar_after_angles(file, k) == i + 1) return k;
    }
    return i;
}

/* The first token of the condition before the `?` at token i; -1 where the choice is a statement by itself, whose value
 * nobody uses and whose arms may be void. */
static int32_t condition_begin(const invar_file *file, int32_t i) {
    int32_t end = i > FARTHEST ? i - FARTHEST : 0, directive = file->tokens[i].directive;
    for (i--; i >= end && file->tokens[i].directive == directive; i--) {
        const invar_token *token = &file->tokens[i];
        if (invar_token_is(file, i, "}")) return -1;
        if (token->partner >= 0 && token->partner < i) i = token->partner;
        else if (invar_token_is_any(file, i, "([,?")) return i + 1;
        else if (invar_token_is(file, i, "{"))
            return token->scope == INVAR_SCOPE_LIST || invar_token_is(file, i - 1, "=") ? i + 1 : -1;
        else if (invar_token_is(file, i, "=") && assigns(file, i)) return i + 1;
        else if (invar_token_is(file, i, "=") && adjoins(file, i) && invar_token_is(file, i - 1, "=")) i--;
        else if (invar_token_is(file, i, ":")) return question_of(file, i) < 0 ? -1 : i + 1;
        else if (invar_token_is(file, i, ">")) i = before_angles(file, i);
        else if (invar_token_is(file, i, "return")) return i + 1;
        else if (invar_token_is(file, i, ";") || invar_token_is(file, i, "else") || invar_token_is(file, i, "do") ||
                 invar_token_is(file, i, "case"))
            return -1;
    }
    return -1;
}

/* i is 0 behind a bracket without its partner. */
static bool ends_arm(const invar_file *file, int32_t i) {
    return i <= 0 || i >= file->count || invar_token_is_any(file, i, ";,)]}:");
}

/* Whether the arm that begins at token i is a literal that C++ has, sign included. */
static bool is_literal(const invar_file *file, int32_t i) {
    if (invar_token_is_any(file, i, "-+")) i++;
    if (i >= file->count || !ends_arm(file, i + 1)) return false;
    const invar_token *token = &file->tokens[i];
    if (invar_token_is(file, i, "nullptr") || invar_token_is(file, i, "true") || invar_token_is(file, i, "false"))
        return true;
    return token->kind == INVAR_TOKEN_NUMBER && token->rule != INVAR_RULE_HALF && token->rule != INVAR_RULE_BFLOAT;
}

/* A macro's text begins behind its name and parameters: a condition that is not in a bracket of it is left alone. */
static bool is_in_macro_head(const invar_file *file, int32_t begin) {
    int32_t directive = file->tokens[begin].directive;
    return directive >= 0 && (begin <= directive + 2 || (invar_token_is(file, begin - 1, "(") && begin == directive + 4));
}

void invar_read_arms(invar_source *source, int32_t which) {
    invar_file *file = &source->files[which];
    for (int32_t i = 0; i + 1 < file->count; i++) {
        if (!invar_token_is(file, i, ":")) continue;
        if (file->tokens[i].directive >= 0 && !invar_token_is(file, file->tokens[i].directive + 1, "define")) continue;
        int32_t question = question_of(file, i), begin = question < 0 ? -1 : condition_begin(file, question);
        if (begin < 0 || begin >= question || is_in_macro_head(file, begin)) continue;
        bool left = is_literal(file, question + 1), right = is_literal(file, i + 1);
        if (left && right) continue;
        file->tokens[begin].before |= INVAR_BEFORE_CHOICE;
        if (!left) file->tokens[question + 1].before |= INVAR_BEFORE_ARM;
        if (!right) file->tokens[i + 1].before |= INVAR_BEFORE_ARM;
    }
}
