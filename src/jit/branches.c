/* Preprocessor branches that the compiler will not read: blanked out before anything else looks at the text, so that what
 * they hold (texts for older GPUs, matrix units, other names for bfloat) is neither refused nor taken for a second definition.
 * An #if whose condition cannot be told is left as it is, with all its branches. */
#include "jit/source.h"

#include <stdlib.h>
#include <string.h>

enum { MACROS = 256, DEEPEST = 64, NESTED = 8 /* macros in one another */, LEVELS = 100 /* of signs and brackets */ };
enum { NO = 0, YES, UNSURE };

/* A name that a #define or #undef of the user's tells of. */
typedef struct macro {
    const invar_file *file;
    int32_t name; /* token */
    uint8_t defined;
} macro;

typedef struct chain {
    int32_t last;  /* the `#` of its latest line; value of that token: the one before */
    uint8_t outer; /* whether the #if is read at all */
    uint8_t taken; /* whether one of the branches so far is */
    uint8_t live;  /* whether this one is */
    bool sure;     /* so far each branch is YES or NO */
} chain;

typedef struct branches {
    invar_source *source;
    invar_file *file; /* that is read */
    macro macros[MACROS];
    int32_t macro_count;
    bool lost; /* more macros or levels than there is room for */
    chain stack[DEEPEST];
    int32_t depth;
} branches;

/* What shim/metal.h defines. */
static const struct {
    const char *name;
    long value;
} OWN[] = { { "__METAL__", 1 }, { "__METAL_VERSION__", 320 }, { "__HAVE_BFLOAT__", 1 } };

/* ---- conditions ---- */

typedef struct number {
    bool sure;
    long value;
} number;

typedef struct reader {
    const branches *b;
    const invar_file *file;
    int32_t at, end, depth, level;
    bool failed;
} reader;

static const number NOBODY_KNOWS = { false, 0 };

static const macro *find(const branches *b, const invar_file *file, int32_t i) {
    for (int32_t m = b->macro_count - 1; m >= 0; m--)
        if (invar_token_same(b->macros[m].file, b->macros[m].name, file, i)) return &b->macros[m];
    return NULL;
}

/* Names that nobody but the user can have defined: in Metal's dialect the shim has no other macros, and the compiler's begin
 * with an underscore, these apart. */
static uint8_t defined_by_others(const branches *b, const invar_file *file, int32_t i) {
    static const char *const compilers[] = { "linux", "unix", "i386", NULL };
    if (!invar_is_metal(b->source)) return UNSURE;
    for (size_t k = 0; k < sizeof OWN / sizeof *OWN; k++)
        if (invar_token_is(file, i, OWN[k].name)) return YES;
    return file->text[file->tokens[i].start] == '_' || invar_token_is_one_of(file, i, compilers) ? UNSURE : NO;
}

static uint8_t is_defined(const branches *b, const invar_file *file, int32_t i) {
    const macro *found = find(b, file, i);
    return found ? found->defined : defined_by_others(b, file, i);
}

static number read_or(reader *r);

static int32_t line_end(const invar_file *file, int32_t i) {
    int32_t directive = file->tokens[i].directive;
    while (i < file->count && file->tokens[i].directive == directive) i++;
    return i;
}

/* The value of the name at token i. */
static number value_of(const reader *r, int32_t i) {
    const macro *found = find(r->b, r->file, i);
    uint8_t defined = is_defined(r->b, r->file, i);
    if (defined == UNSURE) return NOBODY_KNOWS;
    if (defined == NO) return (number){ true, 0 };
    if (!found) {
        for (size_t k = 0; k < sizeof OWN / sizeof *OWN; k++)
            if (invar_token_is(r->file, i, OWN[k].name)) return (number){ true, OWN[k].value };
        return NOBODY_KNOWS;
    }
    const invar_token *name = &found->file->tokens[found->name];
    bool function = found->file->text[name->start + name->length] == '(';
    reader inner = { r->b, found->file, found->name + 1, line_end(found->file, found->name), r->depth + 1, 0, false };
    if (function || inner.depth == NESTED || inner.at == inner.end) return NOBODY_KNOWS;
    number value = read_or(&inner);
    return inner.failed || inner.at != inner.end ? NOBODY_KNOWS : value;
}

static number read_literal(reader *r) {
    const invar_token *token = &r->file->tokens[r->at++];
    char *end;
    long value = strtol(r->file->text + token->start, &end, 0);
    while (*end && strchr("uUlL", *end)) end++;
    bool whole = end == r->file->text + token->start + token->length;
    return (number){ whole, value };
}

static number read_primary(reader *r) {
    const invar_file *file = r->file;
    int32_t i = r->at;
    if (i < r->end && file->tokens[i].kind == INVAR_TOKEN_NUMBER) return read_literal(r);
    if (i < r->end && invar_token_is(file, i, "(")) {
        r->at++;
        number value = read_or(r);
        r->failed |= r->at >= r->end || !invar_token_is(file, r->at, ")");
        r->at++;
        return value;
    }
    if (i >= r->end || !invar_token_names(file, i)) {
        r->failed = true;
        return NOBODY_KNOWS;
    }
    if (invar_token_is(file, i, "defined")) {
        bool bracket = invar_token_is(file, i + 1, "(");
        int32_t name = i + 1 + bracket;
        r->at = name + 1 + bracket;
        r->failed |= r->at > r->end || !invar_token_names(file, name);
        uint8_t defined = r->failed ? UNSURE : is_defined(r->b, file, name);
        return (number){ defined != UNSURE, defined == YES };
    }
    r->at = i + 1;
    if (r->at < r->end && invar_token_is(file, r->at, "(")) { /* __has_include(...) */
        r->failed |= file->tokens[r->at].partner < r->at || file->tokens[r->at].partner >= r->end;
        if (!r->failed) r->at = file->tokens[r->at].partner + 1;
        return NOBODY_KNOWS;
    }
    return value_of(r, i);
}

static bool take(reader *r, char c) {
    const char mark[2] = { c, 0 };
    if (r->failed || r->at >= r->end || !invar_token_is(r->file, r->at, mark)) return false;
    r->at++;
    return true;
}

static bool take_two(reader *r, char first, char second) {
    const char marks[2][2] = { { first, 0 }, { second, 0 } };
    if (r->failed || r->at + 1 >= r->end || !invar_token_is(r->file, r->at, marks[0]) ||
        !invar_token_is(r->file, r->at + 1, marks[1]))
        return false;
    r->at += 2;
    return true;
}

static number read_unary(reader *r) {
    number value;
    r->failed |= r->level == LEVELS;
    if (r->failed) return NOBODY_KNOWS;
    r->level++;
    if (r->at + 1 < r->end && invar_token_is(r->file, r->at, "!") && !invar_token_is(r->file, r->at + 1, "=")) {
        r->at++;
        value = read_unary(r);
        value.value = !value.value;
    } else if (take(r, '-')) {
        value = read_unary(r);
        value.value = -value.value;
    } else {
        value = read_primary(r);
    }
    r->level--;
    return value;
}

static number read_comparison(reader *r) {
    number left = read_unary(r);
    while (!r->failed && r->at < r->end) {
        enum { AT_LEAST, AT_MOST, EQUAL, OTHER, MORE, LESS } how;
        if (take_two(r, '>', '=')) how = AT_LEAST;
        else if (take_two(r, '<', '=')) how = AT_MOST;
        else if (take_two(r, '=', '=')) how = EQUAL;
        else if (take_two(r, '!', '=')) how = OTHER;
        else if (take(r, '>')) how = MORE;
        else if (take(r, '<')) how = LESS;
        else break;
        number right = read_unary(r);
        long a = left.value, b = right.value;
        bool value = how == AT_LEAST ? a >= b : how == AT_MOST ? a <= b : how == EQUAL ? a == b
                   : how == OTHER ? a != b : how == MORE ? a > b : a < b;
        left = (number){ left.sure && right.sure, value };
    }
    return left;
}

static number read_and(reader *r) {
    number left = read_comparison(r);
    while (take_two(r, '&', '&')) {
        number right = read_comparison(r);
        bool no = (left.sure && !left.value) || (right.sure && !right.value);
        left = (number){ no || (left.sure && right.sure), !no };
    }
    return left;
}

static number read_or(reader *r) {
    number left = read_and(r);
    while (take_two(r, '|', '|')) {
        number right = read_and(r);
        bool yes = (left.sure && left.value) || (right.sure && right.value);
        left = (number){ yes || (left.sure && right.sure), yes };
    }
    return left;
}

/* The condition of the line whose `#` is token i. */
static uint8_t condition(const branches *b, int32_t i) {
    const invar_file *file = b->file;
    int32_t end = line_end(file, i);
    bool name = invar_token_is(file, i + 1, "ifdef") || invar_token_is(file, i + 1, "ifndef");
    if (b->lost) return UNSURE;
    if (name) {
        uint8_t defined = i + 2 < end && invar_token_names(file, i + 2) ? is_defined(b, file, i + 2) : UNSURE;
        return defined == UNSURE || invar_token_is(file, i + 1, "ifdef") ? defined : !defined;
    }
    reader r = { b, file, i + 2, end, 0, 0, false };
    number value = read_or(&r);
    if (r.failed || r.at != end || !value.sure) return UNSURE;
    return value.value != 0;
}

/* ---- lines ---- */

static uint8_t both(uint8_t a, uint8_t b) {
    if (a == NO || b == NO) return NO;
    return a == YES && b == YES ? YES : UNSURE;
}

/* How a chain goes on with a branch of this condition. */
static void enter(chain *c, uint8_t holds) {
    uint8_t free = c->taken == UNSURE ? UNSURE : !c->taken;
    c->live = both(c->outer, both(free, holds));
    if (holds == YES || c->taken == YES) c->taken = YES;
    else if (holds == UNSURE) c->taken = UNSURE;
    c->sure &= c->live != UNSURE;
}

static void blank(invar_file *file, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++) file->tokens[i].rule = INVAR_RULE_DROP;
}

static void note_macro(branches *b, int32_t i, uint8_t live) {
    bool define = invar_token_is(b->file, i + 1, "define");
    if (!invar_token_names(b->file, i + 2) || b->file->tokens[i + 2].directive != i || live == NO) return;
    b->lost |= b->macro_count == MACROS;
    if (!b->lost) b->macros[b->macro_count++] = (macro){ b->file, i + 2, live == UNSURE ? UNSURE : define };
}

/* Reads the preprocessor line whose `#` is token i. */
static void read_line(branches *b, int32_t i) {
    invar_file *file = b->file;
    if (line_end(file, i) < i + 2) return;
    chain *top = b->depth ? &b->stack[b->depth - 1] : NULL;
    uint8_t live = top ? top->live : YES;
    bool opens = invar_token_is(file, i + 1, "if") || invar_token_is(file, i + 1, "ifdef") ||
                 invar_token_is(file, i + 1, "ifndef");
    b->lost |= invar_token_is(file, i + 1, "elifdef") || invar_token_is(file, i + 1, "elifndef");
    bool elif = invar_token_is(file, i + 1, "elif"), closes = invar_token_is(file, i + 1, "endif");
    if (opens) {
        if (b->depth == DEEPEST) {
            b->lost = true;
            return;
        }
        top = &b->stack[b->depth++];
        *top = (chain){ .last = -1, .outer = live, .sure = true };
        enter(top, live == NO ? NO : condition(b, i));
    } else if (!top || !(elif || closes || invar_token_is(file, i + 1, "else"))) {
        if (invar_token_is(file, i + 1, "define") || invar_token_is(file, i + 1, "undef")) note_macro(b, i, live);
        if (live == NO) blank(file, i, line_end(file, i));
        return;
    } else if (!closes) {
        enter(top, !elif ? YES : top->taken == YES ? NO : condition(b, i));
    }
    file->tokens[i].value = top->last;
    top->last = i;
    if (!closes) return;
    for (int32_t k = i; k >= 0 && (top->sure || top->outer == NO); k = file->tokens[k].value)
        blank(file, k, line_end(file, k));
    b->depth--;
}

static void read_lines(branches *b) {
    for (int32_t which = 0; which < INVAR_FILES; which++) {
        b->file = &b->source->files[which];
        for (int32_t i = 0; i < b->file->count && !b->lost; i++) {
            if (b->file->tokens[i].directive == i) read_line(b, i);
            else if (b->file->tokens[i].directive < 0 && b->depth && b->stack[b->depth - 1].live == NO)
                blank(b->file, i, i + 1);
        }
        b->lost |= b->depth != 0;
    }
}

/* The file's text with blanks for the tokens that are to go, lines as they were; NULL where it stays, or without memory. */
static char *rewritten(const invar_file *file, bool *memory) {
    bool any = false;
    for (int32_t i = 0; i < file->count; i++) any |= file->tokens[i].rule == INVAR_RULE_DROP;
    char *text = any ? malloc(file->length + 1) : NULL;
    *memory = !any || text;
    if (!text) return NULL;
    memcpy(text, file->text, file->length + 1);
    for (int32_t i = 0; i < file->count; i++) {
        const invar_token *token = &file->tokens[i];
        for (uint32_t k = token->start; token->rule == INVAR_RULE_DROP && k < token->start + token->length; k++)
            if (text[k] != '\n' && text[k] != '\r') text[k] = ' ';
    }
    return text;
}

invar_status invar_read_branches(invar_source *source) {
    bool any = false, memory = true;
    for (int32_t which = 0; which < INVAR_FILES; which++) any |= source->files[which].conditional;
    if (!any) return INVAR_OK;
    branches *b = calloc(1, sizeof *b);
    if (!b) return invar_source_memory(source);
    b->source = source;
    read_lines(b);
    for (int32_t which = 0; which < INVAR_FILES && memory; which++) {
        invar_file *file = &source->files[which];
        source->texts[which] = b->lost ? NULL : rewritten(file, &memory);
        for (int32_t i = 0; i < file->count; i++) file->tokens[i].rule = INVAR_RULE_KEEP, file->tokens[i].value = 0;
    }
    free(b);
    return memory ? INVAR_OK : invar_source_memory(source);
}
