/* The tokenizer: one pass over the text, no table, and every byte is part of a token or of the gap before one. */
#include "jit/lexer.h"

#include "jit/text.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    invar_file *file;
    size_t at;
    int32_t line, gap_line; /* where it is; where the comment it skips began */
    int32_t directive; /* open preprocessor line, or -1 */
    bool line_start;   /* nothing but blanks and comments since the line began */
} lexer;

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static char peek(const lexer *l, size_t ahead) {
    return l->at + ahead < l->file->length ? l->file->text[l->at + ahead] : 0;
}

/* Length of a line splice at distance `ahead`: backslash, newline; 0 where there is none. */
static size_t splice(const lexer *l, size_t ahead) {
    if (peek(l, ahead) != '\\') return 0;
    if (peek(l, ahead + 1) == '\n') return 2;
    return peek(l, ahead + 1) == '\r' && peek(l, ahead + 2) == '\n' ? 3 : 0;
}

static bool skip_comment(lexer *l) {
    bool block = peek(l, 1) == '*';
    l->at += 2;
    while (l->at < l->file->length) {
        size_t spliced = splice(l, 0);
        if (spliced) {
            l->line++;
            l->at += spliced;
        } else if (!block && peek(l, 0) == '\n') {
            return true;
        } else if (block && peek(l, 0) == '*' && peek(l, 1) == '/') {
            l->at += 2;
            return true;
        } else {
            if (peek(l, 0) == '\n') l->line++;
            l->at++;
        }
    }
    return !block;
}

/* Skips blanks and comments. False: a comment does not end. */
static bool skip_gap(lexer *l) {
    while (l->at < l->file->length) {
        char c = peek(l, 0);
        size_t spliced = splice(l, 0);
        if (spliced) {
            l->line++;
            l->at += spliced;
        } else if (c == '\n') {
            l->line++;
            l->at++;
            l->line_start = true;
            l->directive = -1;
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v') {
            l->at++;
        } else if (c == '/' && (peek(l, 1) == '/' || peek(l, 1) == '*')) {
            l->gap_line = l->line;
            if (!skip_comment(l)) return false;
        } else {
            return true;
        }
    }
    return true;
}

static size_t number_length(const lexer *l) {
    size_t n = 1;
    for (;;) {
        char c = peek(l, n);
        if ((c == '+' || c == '-') && strchr("eEpP", peek(l, n - 1))) n++;
        else if (c == '\'' && (is_letter(peek(l, n + 1)) || is_digit(peek(l, n + 1)))) n += 2;
        else if (is_letter(c) || is_digit(c) || c == '.') n++;
        else return n;
    }
}

/* Length of a quoted token whose quote is at distance `ahead`; 0 where it does not end on its line. */
static size_t quoted_length(const lexer *l, size_t ahead) {
    char quote = peek(l, ahead);
    for (size_t n = ahead + 1;;) {
        char c = peek(l, n);
        if (c == quote) return n + 1;
        if (!c || c == '\n') return 0;
        if (c == '\\' && splice(l, n)) n += splice(l, n);
        else n += c == '\\' && peek(l, n + 1) && peek(l, n + 1) != '\n' ? 2 : 1;
    }
}

/* Length of R"delimiter( ... )delimiter" whose quote is at distance `ahead`; 0 where it does not end. */
static size_t raw_length(const lexer *l, size_t ahead) {
    enum { LONGEST = 16 };
    size_t name = ahead + 1, size = 0;
    while (size <= LONGEST && peek(l, name + size) && !strchr("()\\ \n", peek(l, name + size))) size++;
    if (peek(l, name + size) != '(') return 0;
    const char *text = l->file->text + l->at;
    for (size_t n = name + size + 1; peek(l, n); n++) {
        if (text[n] != ')' || peek(l, n + 1 + size) != '"') continue;
        if (!memcmp(text + n + 1, text + name, size)) return n + size + 2;
    }
    return 0;
}

static size_t name_length(const lexer *l) {
    size_t n = 1;
    while (is_letter(peek(l, n)) || is_digit(peek(l, n))) n++;
    return n;
}

static bool is_prefix(const char *name, size_t length, bool *raw) {
    static const char *const prefixes[] = { "u8", "u", "U", "L" };
    *raw = name[length - 1] == 'R';
    if (*raw) length--;
    if (length == 0) return true;
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strlen(prefixes[i]) == length && !memcmp(prefixes[i], name, length)) return true;
    return false;
}

/* A name, or the literal it is the prefix of. */
static uint8_t lex_name(const lexer *l, size_t *length, bool *ends) {
    size_t n = name_length(l), quoted = 0;
    bool raw = false;
    *length = n;
    if ((peek(l, n) != '"' && peek(l, n) != '\'') || !is_prefix(l->file->text + l->at, n, &raw)) return INVAR_TOKEN_NAME;
    if (raw && peek(l, n) == '"') {
        quoted = raw_length(l, n);
        *ends = quoted != 0;
    } else if (!raw) {
        quoted = quoted_length(l, n);
    }
    if (!quoted) return INVAR_TOKEN_NAME;
    *length = quoted;
    return peek(l, n) == '"' ? INVAR_TOKEN_STRING : INVAR_TOKEN_CHARACTER;
}

static uint8_t lex_token(const lexer *l, size_t *length, bool *ends) {
    char c = peek(l, 0), d = peek(l, 1);
    *ends = true;
    if (is_letter(c)) return lex_name(l, length, ends);
    if (is_digit(c) || (c == '.' && is_digit(d))) return *length = number_length(l), INVAR_TOKEN_NUMBER;
    *length = 1;
    if (c == '"' || c == '\'') {
        size_t quoted = quoted_length(l, 0);
        if (!quoted) return INVAR_TOKEN_MARK;
        *length = quoted;
        return c == '"' ? INVAR_TOKEN_STRING : INVAR_TOKEN_CHARACTER;
    }
    if ((c == ':' && d == ':') || (c == '-' && d == '>') || (c == '#' && d == '#')) *length = 2;
    return INVAR_TOKEN_MARK;
}

static bool opens_conditional(const invar_file *file, int32_t i) {
    return invar_token_is(file, i, "if") || invar_token_is(file, i, "ifdef") || invar_token_is(file, i, "ifndef");
}

static int without_partner(const invar_file *file, int32_t i, invar_lex_failure *failure) {
    *failure = (invar_lex_failure){ .line = file->tokens[i].line, .bracket = file->text[file->tokens[i].start] };
    return INVAR_LEX_BRACKET;
}

/* Pairs brackets outside preprocessor lines and, by themselves, within each. */
static int pair_brackets(invar_file *file, invar_lex_failure *failure) {
    int32_t top = -1; /* open brackets, chained through partner */
    int32_t outer = -1, directive = -1;
    for (int32_t i = 0; i < file->count; i++) {
        invar_token *token = &file->tokens[i];
        if (token->directive != directive) {
            if (directive >= 0) /* what a macro leaves open stays without a partner */
                while (top >= 0 && top != outer) {
                    int32_t below = file->tokens[top].partner;
                    file->tokens[top].partner = -1;
                    top = below;
                }
            directive = token->directive;
            if (directive >= 0) outer = top;
        }
        char c = token->kind == INVAR_TOKEN_MARK && token->length == 1 ? file->text[token->start] : 0;
        if (c == '(' || c == '[' || c == '{') {
            token->partner = top;
            top = i;
        } else if (c == ')' || c == ']' || c == '}') {
            char open = c == ')' ? '(' : c == ']' ? '[' : '{';
            bool fits = top >= 0 && (directive < 0 || top != outer) && file->text[file->tokens[top].start] == open;
            if (!fits && directive < 0 && !file->conditional) return without_partner(file, i, failure);
            if (!fits) continue;
            int32_t opening = top;
            top = file->tokens[opening].partner;
            file->tokens[opening].partner = i;
            token->partner = opening;
        }
    }
    int32_t unclosed = -1;
    while (top >= 0) {
        int32_t below = file->tokens[top].partner;
        file->tokens[top].partner = -1;
        if (file->tokens[top].directive < 0) unclosed = top;
        top = below;
    }
    if (unclosed < 0 || file->conditional) return INVAR_LEX_OK;
    return without_partner(file, unclosed, failure);
}

int invar_lex(invar_file *file, invar_lex_failure *failure) {
    failure->line = 1;
    if (file->length > INVAR_LEX_LIMIT) return INVAR_LEX_LENGTH;
    lexer l = { .file = file, .line = 1, .directive = -1, .line_start = true };
    for (;;) {
        if (!skip_gap(&l)) return failure->line = l.gap_line, INVAR_LEX_COMMENT;
        if (l.at >= file->length) break;
        failure->line = l.line;
        size_t length;
        bool ends;
        uint8_t kind = lex_token(&l, &length, &ends);
        if (!ends) return INVAR_LEX_COMMENT;
        if (!invar_grow(&file->tokens, file->count, &file->capacity, sizeof *file->tokens)) return INVAR_LEX_MEMORY;
        int32_t index = file->count++;
        if (l.line_start && kind == INVAR_TOKEN_MARK && length == 1 && peek(&l, 0) == '#') l.directive = index;
        file->tokens[index] = (invar_token){ .start = (uint32_t)l.at, .length = (uint32_t)length, .line = l.line, .partner = -1,
                                            .directive = l.directive, .function = -1, .kind = kind };
        if (l.directive == index - 1 && l.directive >= 0 && opens_conditional(file, index)) file->conditional = true;
        for (size_t i = 0; i < length; i++) l.line += file->text[l.at + i] == '\n';
        l.at += length;
        l.line_start = false;
    }
    return pair_brackets(file, failure);
}

void invar_file_free(invar_file *file) {
    free(file->tokens);
    file->tokens = NULL;
    file->count = file->capacity = 0;
}

bool invar_token_is(const invar_file *file, int32_t i, const char *word) {
    if (i < 0 || i >= file->count) return false;
    const invar_token *token = &file->tokens[i];
    return strlen(word) == token->length && !memcmp(file->text + token->start, word, token->length);
}

bool invar_token_is_one_of(const invar_file *file, int32_t i, const char *const *words) {
    for (; *words; words++)
        if (invar_token_is(file, i, *words)) return true;
    return false;
}

bool invar_token_is_any(const invar_file *file, int32_t i, const char *marks) {
    return i >= 0 && i < file->count && file->tokens[i].kind == INVAR_TOKEN_MARK && file->tokens[i].length == 1 &&
           strchr(marks, file->text[file->tokens[i].start]);
}

bool invar_token_is_member(const invar_file *file, int32_t i) {
    return invar_token_is(file, i - 1, ".") || invar_token_is(file, i - 1, "->");
}

bool invar_token_same(const invar_file *file, int32_t i, const invar_file *other, int32_t k) {
    const invar_token *a = &file->tokens[i], *b = &other->tokens[k];
    return a->length == b->length && !memcmp(file->text + a->start, other->text + b->start, a->length);
}

int32_t invar_after_angles(const invar_file *file, int32_t i) {
    int32_t depth = 0;
    for (; i >= 0 && i < file->count; i++) {
        const invar_token *token = &file->tokens[i];
        if (token->kind != INVAR_TOKEN_MARK || token->length != 1) continue;
        char c = file->text[token->start];
        if (c == '<') depth++;
        if (c == '>' && --depth == 0) return i + 1;
        if (strchr(";{})]&|=?!", c)) return -1; /* a comparison, not a template */
        if (c == '(' || c == '[') {
            if (token->partner < 0) return -1;
            i = token->partner;
        }
    }
    return -1;
}

int32_t invar_after_parameters(const invar_file *file, int32_t i) {
    int32_t depth = 0;
    for (; i >= 0 && i < file->count; i++) {
        const invar_token *token = &file->tokens[i];
        if (token->kind != INVAR_TOKEN_MARK || token->length != 1) continue;
        char c = file->text[token->start];
        char next = token->start + 1 < file->length ? file->text[token->start + 1] : 0;
        if (c == ';' || c == '}') return -1;
        if (token->partner > i) i = token->partner;
        else if (c == '<' && (next == '<' || next == '=')) i++; /* a shift, a comparison */
        else if (c == '<') depth++;
        else if (c == '>' && next != '=' && --depth == 0) return i + 1;
    }
    return -1;
}
