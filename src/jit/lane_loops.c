/* Loops that the lanes of a simdgroup may walk through side by side:
 *
 *     for (uint i = first; i < end; i += step) ...
 *
 * where lanes begin at successive i and take equal steps. Lane by lane such a walk strides over memory; side by side the
 * lanes read what lies side by side, and the compiler makes vectors of them (shim/lane_loops.h). What a loop may hold is
 * told by tokens, so it is little: declarations, assignments to locals and to elements of outputs, if; no call that might
 * do more than return a value; and i as a term of subscripts alone, so that lanes reach for neighbours. Any other loop is
 * left as it is. */
#include "jit/source.h"

enum {
    DEEPEST = 16,
    MOST_READ = 1024 /* loops that are looked at: each may take some passes over all text */
};

typedef struct reading {
    const invar_source *source;
    const invar_file *file;
    uint64_t special[INVAR_WORD_BITS / 64]; /* names of functions, macros, threadgroup arrays, references: others need no search */
    invar_lane_loop loop;
} reading;

static bool is(const reading *r, int32_t i, const char *word) { return invar_token_is(r->file, i, word); }
static bool is_any(const reading *r, int32_t i, const char *marks) { return invar_token_is_any(r->file, i, marks); }
static bool names(const reading *r, int32_t i) { return invar_token_names(r->file, i); }

/* No blank between the tokens i and i + 1. */
static bool touches(const reading *r, int32_t i) {
    const invar_token *tokens = r->file->tokens;
    return i + 1 < r->file->count && tokens[i].start + tokens[i].length == tokens[i + 1].start;
}

/* ---- names ------------------------------------------------------------------------------------------- */

/* Token i reads as one of the tokens in the list. */
static bool is_among(const reading *r, const int32_t *list, int32_t count, int32_t i) {
    for (int32_t k = 0; k < count; k++)
        if (invar_token_same(r->file, list[k], r->file, i)) return true;
    return false;
}

static void add_special(reading *r, const invar_file *file, int32_t i) {
    if (i >= 0 && i < file->count) invar_words_add(r->special, file->text + file->tokens[i].start, file->tokens[i].length);
}

static bool is_special(const reading *r, int32_t i) {
    return invar_words_have(r->special, r->file->text + r->file->tokens[i].start, r->file->tokens[i].length);
}

/* Token k is a macro's name where it is defined. */
static bool defines_macro(const invar_file *file, int32_t k) {
    return k >= 2 && file->tokens[k].directive == k - 2 && invar_token_is(file, k - 1, "define");
}

/* Token k is the name of a reference where it is declared. */
static bool declares_reference(const invar_file *file, int32_t k) {
    return k > 0 && invar_token_is(file, k - 1, "&") && invar_token_is(file, k + 1, "=");
}

static void read_special(reading *r) {
    const invar_source *source = r->source;
    for (int32_t k = 0; k < source->function_count; k++)
        add_special(r, &source->files[source->functions[k].file], source->functions[k].name);
    for (int32_t k = 0; k < source->storage_count; k++)
        add_special(r, &source->files[source->storage[k].file], source->storage[k].name);
    for (int32_t f = 0; f < INVAR_FILES; f++)
        for (int32_t k = 0; k < source->files[f].count; k++)
            if (defines_macro(&source->files[f], k) || declares_reference(&source->files[f], k))
                add_special(r, &source->files[f], k);
}

static int32_t array_of(const reading *r, int32_t i) {
    for (int32_t k = 0; k < r->source->array_count; k++)
        if (is(r, i, r->source->arrays[k])) return k;
    return -1;
}

static bool is_storage(const reading *r, int32_t i) {
    const invar_source *source = r->source;
    for (int32_t k = 0; is_special(r, i) && k < source->storage_count; k++)
        if (!source->storage[k].dynamic &&
            invar_token_same(&source->files[source->storage[k].file], source->storage[k].name, r->file, i))
            return true;
    return false;
}

/* Notes a threadgroup array. */
static bool add_shared(reading *r, int32_t i) {
    invar_lane_loop *loop = &r->loop;
    if (is_among(r, loop->shared, loop->shared_count, i)) return true;
    if (loop->shared_count == INVAR_MAX_VARIED) return false;
    loop->shared[loop->shared_count++] = i;
    return true;
}

/* The body declares this name as a reference: what it stands for may change with what the loop writes. */
static bool is_reference(const reading *r, int32_t i) {
    for (int32_t k = 1; k < r->loop.keyword; k++)
        if (declares_reference(r->file, k) && invar_token_same(r->file, k, r->file, i)) return true;
    return false;
}

/* A name that may stand for more than a value: a function or macro of the user's, a statement. */
static bool is_more_than_value(const reading *r, int32_t i) {
    const invar_source *source = r->source;
    static const char *const words[] = {
        "return", "break", "continue", "goto", "for", "while", "do", "switch", "case", "default", "asm", "new", "delete", "throw",
        "this", "sizeof", "static", "struct", "class", "union", "enum", "using", "typedef", "operator", "template", "constexpr",
        "volatile", "extern", "decltype", "modf", "frexp", "sincos", "sincosf", "__sincosf", "sincospif", "modff", "frexpf",
        "remquof", "atomic", "printf", "assert", NULL,
    };
    if (invar_token_is_one_of(r->file, i, words)) return true;
    if (!is_special(r, i)) return false;
    if (is_reference(r, i)) return true;
    for (int32_t k = 0; k < source->function_count; k++)
        if (source->functions[k].name >= 0 &&
            invar_token_same(&source->files[source->functions[k].file], source->functions[k].name, r->file, i))
            return true;
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        const invar_file *file = &source->files[f];
        for (int32_t k = 0; k < file->count; k++)
            if (defines_macro(file, k) && invar_token_same(file, k, r->file, i)) return true;
    }
    return false;
}

/* Token i stands in a statement, outside its parentheses, that begins as `T x` does. */
static bool is_in_declaration(const reading *r, int32_t i) {
    static const char *const no_types[] = { "return", "else", "case", "goto", "const", "static", "constexpr", NULL };
    for (i--; i >= 0 && !is_any(r, i, ";{}"); i--) {
        bool closes = is_any(r, i, ")]");
        if (is_any(r, i, "([") || (closes && r->file->tokens[i].partner < 0)) return false;
        if (closes) i = r->file->tokens[i].partner;
    }
    return names(r, i + 1) && names(r, i + 2) && !invar_token_is_one_of(r->file, i + 1, no_types);
}

/* The body declares this name as a local before the loop. */
static bool is_declared(const reading *r, int32_t i) {
    for (int32_t k = 1; k < r->loop.keyword; k++) {
        if (!invar_token_same(r->file, k, r->file, i) || !(names(r, k - 1) || is(r, k - 1, ","))) continue;
        if (is_any(r, k + 1, "=;,") && is_in_declaration(r, k)) return true;
    }
    return false;
}

/* Notes a local that the loop assigns to. */
static bool add_varied(reading *r, int32_t i) {
    invar_lane_loop *loop = &r->loop;
    if (is_among(r, loop->inner, loop->inner_count, i)) return true; /* declared in the loop */
    if (is_among(r, loop->varied, loop->varied_count, i)) return true;
    if (invar_token_same(r->file, loop->counter, r->file, i) || array_of(r, i) >= 0 || is_storage(r, i)) return false;
    if (!is_declared(r, i) || loop->varied_count == INVAR_MAX_VARIED) return false;
    loop->varied[loop->varied_count++] = i;
    return true;
}

/* ---- expressions ------------------------------------------------------------------------------------- */

/* The token behind the assignment operator at i; -1 where none is. */
static int32_t after_assignment(const reading *r, int32_t i) {
    if (is(r, i, "=")) return is(r, i + 1, "=") && touches(r, i) ? -1 : i + 1;
    if (is_any(r, i, "<>")) /* <<= and >>= */
        return touches(r, i) && touches(r, i + 1) && invar_token_same(r->file, i, r->file, i + 1) && is(r, i + 2, "=") ? i + 3 : -1;
    return is_any(r, i, "+-*/%&|^") && touches(r, i) && is(r, i + 1, "=") ? i + 2 : -1;
}

static bool ends_operand(const reading *r, int32_t i) {
    return i >= 0 && (names(r, i) || r->file->tokens[i].kind == INVAR_TOKEN_NUMBER || is_any(r, i, ")]"));
}

/* A mark that changes nothing where it stands. */
static bool is_plain_mark(const reading *r, int32_t i) {
    if (is(r, i, "=")) { /* only as the end of == != <= >= */
        return (is_any(r, i - 1, "=!<>") && touches(r, i - 1)) || (is(r, i + 1, "=") && touches(r, i));
    }
    bool twice = invar_token_same(r->file, i, r->file, i + 1) && touches(r, i);
    if (is_any(r, i, "+-")) return !twice && after_assignment(r, i) < 0;
    if (is(r, i, "&")) return (is(r, i + 1, "&") && touches(r, i)) || (is(r, i - 1, "&") && touches(r, i - 1));
    if (is(r, i, "[")) return ends_operand(r, i - 1);
    if (is_any(r, i, "*/%|^")) return after_assignment(r, i) < 0;
    return !is_any(r, i, "{};#") && !is(r, i, "->") && !is(r, i, "##");
}

/* True when the tokens begin … end - 1 do nothing but give a value. */
static bool is_value(reading *r, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++) {
        const invar_token *token = &r->file->tokens[i];
        if (token->directive >= 0 || token->kind == INVAR_TOKEN_STRING || token->rule == INVAR_RULE_STORAGE ||
            token->rule == INVAR_RULE_MARK || token->rule == INVAR_RULE_CALL)
            return false;
        bool member = is(r, i - 1, ".");
        if (token->kind == INVAR_TOKEN_NAME) {
            if (member && is(r, i + 1, "(") && token->rule != INVAR_RULE_SIZE) return false;
            if (!member && (is_more_than_value(r, i) || (is_storage(r, i) && !add_shared(r, i)))) return false;
        } else if (token->kind == INVAR_TOKEN_MARK && !is_plain_mark(r, i)) {
            return false;
        }
    }
    return begin < end;
}

/* The first `;` or `,` from i on, outside brackets; -1. */
static int32_t find_end(const reading *r, int32_t i, int32_t limit, bool comma) {
    for (; i < limit; i++) {
        if (is(r, i, ";") || (comma && is(r, i, ","))) return i;
        if (is_any(r, i, "([{") && r->file->tokens[i].partner > i) i = r->file->tokens[i].partner;
    }
    return -1;
}

/* ---- statements -------------------------------------------------------------------------------------- */

static int32_t statement(reading *r, int32_t i, int32_t limit, int depth);

/* [const] T name [= value] {, name [= value]}; */
static int32_t declaration(reading *r, int32_t i, int32_t limit) {
    invar_lane_loop *loop = &r->loop;
    i += is(r, i, "const");
    if (!names(r, i) || is_more_than_value(r, i)) return -1;
    for (i++;; i++) {
        if (!names(r, i) || loop->inner_count == INVAR_MAX_INNER || is_more_than_value(r, i)) return -1;
        loop->inner[loop->inner_count++] = i++;
        int32_t end = find_end(r, i, limit, true);
        if (end < 0) return -1;
        if (is(r, i, "=") ? !is_value(r, i + 1, end) : end != i) return -1;
        if (is(r, i = end, ";")) return end + 1;
    }
}

/* x = value; x.y += value; array[index] = value; x++; */
static int32_t assignment(reading *r, int32_t i, int32_t limit) {
    int32_t name = i, end = find_end(r, i, limit, false), at = i + 1;
    if (!names(r, i) || end < 0 || is_more_than_value(r, i)) return -1;
    bool element = array_of(r, name) >= r->source->input_count && is(r, at, "[");
    if (element) {
        int32_t close = r->file->tokens[at].partner;
        if (close < 0 || !is_value(r, at + 1, close)) return -1;
        at = close + 1;
    }
    for (; is(r, at, ".") && names(r, at + 1); at += 2) continue;
    bool counts = is_any(r, at, "+-") && invar_token_same(r->file, at, r->file, at + 1) && at + 2 == end;
    int32_t value = after_assignment(r, at);
    if (!counts && (value < 0 || !is_value(r, value, end))) return -1;
    return element || add_varied(r, name) ? end + 1 : -1;
}

static int32_t block(reading *r, int32_t i, int depth) {
    int32_t close = r->file->tokens[i].partner;
    for (i++; i >= 0 && i < close;) i = statement(r, i, close, depth + 1);
    return i == close ? close + 1 : -1;
}

static int32_t if_statement(reading *r, int32_t i, int32_t limit, int depth) {
    int32_t close = is(r, i + 1, "(") ? r->file->tokens[i + 1].partner : -1;
    if (close < 0 || !is_value(r, i + 2, close)) return -1;
    int32_t end = statement(r, close + 1, limit, depth + 1);
    return end >= 0 && is(r, end, "else") ? statement(r, end + 1, limit, depth + 1) : end;
}

/* The token behind the statement at i; -1 where the loop must be left as it is. */
static int32_t statement(reading *r, int32_t i, int32_t limit, int depth) {
    if (depth > DEEPEST || i >= limit || r->file->tokens[i].directive >= 0) return -1;
    if (is(r, i, "{")) return block(r, i, depth);
    if (is(r, i, ";")) return i + 1;
    if (is(r, i, "if")) return if_statement(r, i, limit, depth);
    bool declares = is(r, i, "const") || (names(r, i) && names(r, i + 1));
    return declares ? declaration(r, i, limit) : assignment(r, i, limit);
}

/* ---- where the counter stands -------------------------------------------------------------------------- */

static bool is_sum(const reading *r, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++) {
        bool operand = names(r, i) || r->file->tokens[i].kind == INVAR_TOKEN_NUMBER;
        if (!operand && !is_any(r, i, "+-*().")) return false;
        if (!names(r, i) || is(r, i - 1, ".")) continue;
        if (is_among(r, r->loop.inner, r->loop.inner_count, i)) return false;
        if (is_among(r, r->loop.varied, r->loop.varied_count, i)) return false;
    }
    return true;
}

/* The counter at token i is a term of a subscript: array[row * n + i]. Notes the subscript. */
static bool add_subscript(reading *r, int32_t i) {
    invar_lane_loop *loop = &r->loop;
    int32_t open = i - 1;
    for (; open > loop->body - 1 && !is_any(r, open, "[("); open--) {
        if (is_any(r, open, "])") && r->file->tokens[open].partner >= 0) open = r->file->tokens[open].partner;
    }
    int32_t close = is(r, open, "[") ? r->file->tokens[open].partner : -1;
    bool term = is_any(r, i - 1, "[+") && is_any(r, i + 1, "]+-");
    if (close < i || !term || !is_sum(r, open + 1, close)) return false;
    if (loop->subscript_count && loop->subscripts[loop->subscript_count - 1] == open) return false; /* there twice */
    if (loop->subscript_count == INVAR_MAX_SUBSCRIPTS) return false;
    loop->subscripts[loop->subscript_count++] = open;
    return true;
}

static bool read_subscripts(reading *r) {
    for (int32_t i = r->loop.body; i < r->loop.end; i++) {
        bool counter = !is(r, i - 1, ".") && invar_token_same(r->file, r->loop.counter, r->file, i);
        if (counter && !add_subscript(r, i)) return false;
    }
    return true;
}

/* ---- the loop ---------------------------------------------------------------------------------------- */

/* for (T i = value; i < value; i += value): T one name or two, and a step that is no small number. */
static bool read_head(reading *r) {
    invar_lane_loop *loop = &r->loop;
    int32_t open = loop->keyword + 1, close = is(r, open, "(") ? r->file->tokens[open].partner : -1, i = open + 1;
    if (close < 0) return false;
    i += is(r, i, "unsigned") ? 1 : 0;
    loop->counter = names(r, i) && names(r, i + 1) ? i + 1 : i;
    loop->first = loop->counter + 2;
    int32_t first_end = find_end(r, loop->first, close, false), bound_end = find_end(r, first_end + 1, close, false);
    if (loop->counter == open + 1 || !names(r, loop->counter) || !is(r, loop->counter + 1, "=")) return false;
    if (first_end < 0 || bound_end < 0) return false;
    loop->bound = first_end + 3;
    loop->closed = is(r, first_end + 3, "=");
    loop->bound += loop->closed;
    loop->step = bound_end + 4;
    bool counted = invar_token_same(r->file, loop->counter, r->file, first_end + 1) && is(r, first_end + 2, "<") &&
                   invar_token_same(r->file, loop->counter, r->file, bound_end + 1) && is(r, bound_end + 2, "+") &&
                   is(r, bound_end + 3, "=");
    bool small = close == loop->step + 1 && r->file->tokens[loop->step].kind == INVAR_TOKEN_NUMBER &&
                 r->file->tokens[loop->step].length < 2;
    loop->body = close + 1;
    const invar_token *tokens = r->file->tokens;
    if (first_end < 1 || tokens[loop->keyword].line != tokens[first_end].line) return false; /* it is written in one line */
    return counted && !small && is_value(r, loop->first, first_end) && is_value(r, loop->bound, bound_end) &&
           is_value(r, loop->step, close);
}

/* What the loop assigns to stands in neither bound nor step, which are read once. */
static bool is_steady(const reading *r) {
    const invar_lane_loop *loop = &r->loop;
    for (int32_t i = loop->bound; i < loop->body - 1; i++) {
        if (i >= loop->step - 4 && i < loop->step) continue;
        if (!names(r, i)) continue;
        if (invar_token_same(r->file, loop->counter, r->file, i) || array_of(r, i) >= r->source->input_count) return false;
        if (is_among(r, loop->varied, loop->varied_count, i)) return false;
    }
    return true;
}

static bool has_atomics(const invar_source *source) {
    for (int32_t k = 0; k < source->item_count; k++)
        if (source->items[k].kind == INVAR_CALL_ATOMIC) return true;
    return false;
}

/* True, with all of r->loop, where the `for` at token i is such a loop. */
static bool read_loop(reading *r, int32_t i) {
    r->loop = (invar_lane_loop){ .keyword = i };
    if (!read_head(r)) return false;
    r->loop.end = statement(r, r->loop.body, r->file->count, 0);
    return r->loop.end >= 0 && is_steady(r) && read_subscripts(r);
}

/* Not beside atomics: a lane that waits for the others must not keep one waiting that spins. */
void invar_read_lane_loops(invar_source *source) {
    invar_file *file = &source->files[INVAR_BODY];
    if (source->mode < INVAR_MODE_SIMD || file->conditional || source->atomic_outputs || has_atomics(source)) return;
    reading r = { .source = source, .file = file };
    read_special(&r);
    for (int32_t i = 0, left = MOST_READ; i < file->count && left && source->lane_loop_count < INVAR_MAX_LANE_LOOPS; i++) {
        if (!invar_token_is(file, i, "for") || file->tokens[i].directive >= 0 || file->tokens[i].function >= 0) continue;
        left--;
        if (!read_loop(&r, i)) continue;
        file->tokens[r.loop.first - 1].rule = INVAR_RULE_LANES;
        file->tokens[r.loop.first - 1].value = source->lane_loop_count;
        source->lane_loops[source->lane_loop_count++] = r.loop;
    }
}
