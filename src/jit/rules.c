/* How each token is written: address spaces and qualifiers, literals, attributes, preprocessor lines. */
#include "jit/source.h"

#include <string.h>

typedef struct word_rule {
    const char *word;
    uint32_t dialect; /* INVAR_SHIM_... */
    uint8_t rule;
    bool arguments; /* a parenthesis behind it goes with it */
} word_rule;

static const word_rule RULES[] = {
    { "device", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "thread", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "threadgroup", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "constant", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "kernel", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "coherent", INVAR_SHIM_METAL, INVAR_RULE_DROP, true },
    { "METAL_FUNC", INVAR_SHIM_METAL, INVAR_RULE_INLINE, false },
    { "MLX_MTL_PRAGMA_UNROLL", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "MLX_MTL_LOOP_UNROLL", INVAR_SHIM_METAL, INVAR_RULE_DROP, false },
    { "__device__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, false },
    { "__host__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, false },
    { "__global__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, false },
    { "__noinline__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, false },
    { "__grid_constant__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, false },
    { "__forceinline__", INVAR_SHIM_CUDA, INVAR_RULE_INLINE, false },
    { "__launch_bounds__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, true },
    { "__maxnreg__", INVAR_SHIM_CUDA, INVAR_RULE_HOST_DROP, true },
    { "__align__", INVAR_SHIM_CUDA, INVAR_RULE_ALIGN, true },
    { "__builtin_align__", INVAR_SHIM_CUDA, INVAR_RULE_ALIGN, true },
    { "__constant__", INVAR_SHIM_CUDA, INVAR_RULE_STATIC, false },
    { "assert", INVAR_SHIM_CUDA, INVAR_RULE_VOID, false },
};

/* What the shim replaces, by the beginning of the name. Other headers are refused: they would be read inside the shim's
 * namespace. */
static const struct {
    const char *prefix;
    uint32_t dialect;
} INCLUDES[] = {
    { "metal_", INVAR_SHIM_METAL }, { "metal/", INVAR_SHIM_METAL }, { "simd/", INVAR_SHIM_METAL },
    { "mlx/", INVAR_SHIM_ANY }, { "cuda_", INVAR_SHIM_CUDA }, { "cuda/std/", INVAR_SHIM_CUDA },
    { "cooperative_groups", INVAR_SHIM_CUDA }, { "device_", INVAR_SHIM_CUDA }, { "vector_", INVAR_SHIM_CUDA },
    { "math_constants.h", INVAR_SHIM_CUDA }, { "assert.h", INVAR_SHIM_CUDA }, { "cassert", INVAR_SHIM_CUDA },
    { "sm_", INVAR_SHIM_CUDA }, { "math.h", INVAR_SHIM_ANY },
    { "cmath", INVAR_SHIM_ANY }, { "cfloat", INVAR_SHIM_ANY }, { "float.h", INVAR_SHIM_ANY },
    { "climits", INVAR_SHIM_ANY }, { "limits.h", INVAR_SHIM_ANY }, { "stdint.h", INVAR_SHIM_ANY },
    { "cstdint", INVAR_SHIM_ANY }, { "stddef.h", INVAR_SHIM_ANY }, { "cstddef", INVAR_SHIM_ANY },
};

static void drop(invar_file *file, int32_t begin, int32_t end, uint8_t rule) {
    for (int32_t i = begin; i < end; i++) file->tokens[i].rule = rule;
}

static int32_t directive_end(const invar_file *file, int32_t i) {
    int32_t directive = file->tokens[i].directive;
    while (i < file->count && file->tokens[i].directive == directive) i++;
    return i;
}

/* ---- preprocessor lines ---- */

static invar_status read_include(const invar_source *source, int32_t which, int32_t i, int32_t end) {
    const invar_file *file = &source->files[which];
    if (i + 2 >= end) return INVAR_OK; /* the compiler will say what is missing */
    const invar_token *first = &file->tokens[i + 2], *last = &file->tokens[end - 1];
    const char *name = file->text + first->start; /* its quote or `<` included */
    uint32_t length = last->start + last->length - first->start;
    for (size_t k = 0; k < sizeof INCLUDES / sizeof *INCLUDES; k++) {
        size_t prefix = strlen(INCLUDES[k].prefix);
        if (!(INCLUDES[k].dialect & invar_dialect_bit(source)) || length <= prefix) continue;
        if (!memcmp(name + 1, INCLUDES[k].prefix, prefix)) return INVAR_OK;
    }
    return invar_source_fail(source, which, first->line, "#include of %.*s cannot be translated: what a kernel may use is "
                             "there already", (int)(length < 200 ? length : 200), name);
}

/* Rules of a preprocessor line. *inside: its tokens are the user's code and get rules of their own. */
static invar_status read_directive(invar_source *source, int32_t which, int32_t i, int32_t end, bool *inside) {
    invar_file *file = &source->files[which];
    *inside = invar_token_is(file, i + 1, "define");
    bool include = invar_token_is(file, i + 1, "include") || invar_token_is(file, i + 1, "import");
    bool pragma = invar_token_is(file, i + 1, "pragma") &&
                  (invar_token_is(file, i + 2, "once") || invar_token_is(file, i + 2, "METAL"));
    bool line = invar_token_is(file, i + 1, "line") || (i + 1 < end && file->tokens[i + 1].kind == INVAR_TOKEN_NUMBER);
    if (include) INVAR_TRY(read_include(source, which, i, end));
    if (include || pragma || line) drop(file, i, end, INVAR_RULE_DROP);
    return INVAR_OK;
}

/* Each #if of a text must end in it: what follows is not the user's. */
static invar_status check_conditionals(const invar_source *source, int32_t which) {
    const invar_file *file = &source->files[which];
    int32_t depth = 0, line = 1;
    for (int32_t i = 0; i + 1 < file->count; i++) {
        if (file->tokens[i].directive != i) continue;
        bool opens = invar_token_is(file, i + 1, "if") || invar_token_is(file, i + 1, "ifdef") ||
                     invar_token_is(file, i + 1, "ifndef");
        bool inner = invar_token_is(file, i + 1, "else") || invar_token_is(file, i + 1, "elif");
        bool closes = invar_token_is(file, i + 1, "endif");
        if (opens && !depth++) line = file->tokens[i].line;
        if ((inner || closes) && !depth)
            return invar_source_fail(source, which, file->tokens[i].line, "this line has no #if before it");
        if (closes) depth--;
    }
    return depth ? invar_source_fail(source, which, line, "this #if has no #endif") : INVAR_OK;
}

/* ---- literals ---- */

static uint8_t literal_rule(const char *text, uint32_t length) {
    bool hex = length > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'), floating = false;
    for (uint32_t i = 0; i < length; i++)
        floating |= hex ? text[i] == 'p' || text[i] == 'P' : text[i] == '.' || text[i] == 'e' || text[i] == 'E';
    char last = text[length - 1];
    bool h = last == 'h' || last == 'H', f = last == 'f' || last == 'F';
    if (h && !hex) return INVAR_RULE_HALF; /* 1h is half as 1.0h is */
    if (!floating) return INVAR_RULE_KEEP;
    if (f && length > 1 && (text[length - 2] == 'b' || text[length - 2] == 'B')) return INVAR_RULE_BFLOAT;
    return f || h || last == 'l' || last == 'L' ? INVAR_RULE_KEEP : INVAR_RULE_FLOAT;
}

/* ---- declarations ---- */

static bool ends_statement(const invar_file *file, int32_t i) {
    if (i < 0 || (i < file->count && file->tokens[i].directive >= 0)) return true;
    return invar_token_is_any(file, i, ";{}");
}

/* `constant` outside code: a table, unless it qualifies what a pointer points to. */
static uint8_t constant_rule(invar_file *file, int32_t i) {
    enum { FARTHEST = 64 };
    invar_token *token = &file->tokens[i];
    if (token->directive >= 0 || (token->scope != INVAR_SCOPE_NAMESPACE && token->scope != INVAR_SCOPE_STRUCT))
        return INVAR_RULE_DROP;
    for (int32_t k = i + 1; k < file->count && k < i + FARTHEST; k++) {
        if (invar_token_is(file, k, "constexpr")) return INVAR_RULE_DROP;
        if (invar_token_is(file, k, "static")) token->value = 1;
        if (invar_token_is_any(file, k, "*&(")) return INVAR_RULE_DROP;
        if (ends_statement(file, k) || invar_token_is_any(file, k, "=[")) break;
    }
    int32_t before = invar_token_is(file, i - 1, "const") ? i - 2 : i - 1;
    bool behind = invar_token_is(file, before, ")") && file->tokens[before].directive < 0; /* float get() const constant */
    for (int32_t k = i - 1; k > i - FARTHEST && !ends_statement(file, k); k--) {
        if (invar_token_is(file, k, "constexpr") || behind) return INVAR_RULE_DROP;
        if (invar_token_is(file, k, "static")) token->value = 1;
    }
    return INVAR_RULE_CONSTANT;
}

/* CUDA's __constant__ with a value is a constant; without one the host would fill it, and here nobody does. */
static bool has_initialiser(const invar_file *file, int32_t i) {
    for (; i < file->count && !invar_token_is(file, i, ";"); i++)
        if (invar_token_is_any(file, i, "={")) return true;
    return false;
}

static invar_status read_word(invar_source *source, int32_t which, int32_t i) {
    invar_file *file = &source->files[which];
    const word_rule *found = NULL;
    for (size_t k = 0; k < sizeof RULES / sizeof *RULES && !found; k++)
        if ((RULES[k].dialect & invar_dialect_bit(source)) && invar_token_is(file, i, RULES[k].word)) found = &RULES[k];
    invar_token *token = &file->tokens[i];
    bool defined = token->directive >= 0 && i == token->directive + 2; /* #define METAL_FUNC ... */
    bool member = invar_token_is(file, i - 1, "::"); /* mem_flags::threadgroup, which the compiler is to name */
    if (!found || defined || member || token->rule == INVAR_RULE_STORAGE) return INVAR_OK;
    token->rule = found->rule;
    int32_t close = found->arguments && invar_token_is(file, i + 1, "(") ? file->tokens[i + 1].partner : -1;
    if (found->rule == INVAR_RULE_ALIGN && close < 0) token->rule = INVAR_RULE_KEEP;
    else if (found->rule == INVAR_RULE_ALIGN) file->tokens[close].rule = INVAR_RULE_ALIGN_END;
    else if (close > 0) drop(file, i, close + 1, found->rule);
    if (invar_is_metal(source) && invar_token_is(file, i, "constant")) token->rule = constant_rule(file, i);
    if (found->rule == INVAR_RULE_STATIC && !has_initialiser(file, i))
        return invar_source_fail(source, which, token->line, "__constant__ memory without a value cannot be translated: "
                                 "nothing fills it");
    return INVAR_OK;
}

/* A leading `::` means the file's own outermost scope, which here is a namespace. */
static bool is_global_scope(const invar_file *file, int32_t i) {
    if (!invar_token_is(file, i, "::") || !invar_token_names(file, i + 1)) return false;
    if (invar_token_is(file, i - 1, "return") || invar_token_is(file, i - 1, "case") || invar_token_is(file, i - 1, "else"))
        return true;
    return !invar_token_names(file, i - 1) && !invar_token_is(file, i - 1, ">") && !invar_token_is(file, i - 1, ")");
}

static int32_t attribute_end(const invar_file *file, int32_t i) {
    if (!invar_token_is(file, i, "[") || !invar_token_is(file, i + 1, "[")) return -1;
    int32_t outer = file->tokens[i].partner, inner = file->tokens[i + 1].partner;
    return outer > 0 && inner + 1 == outer ? outer + 1 : -1;
}

/* out.size() */
static bool is_array_size(const invar_file *file, int32_t i) {
    return !invar_token_is_member(file, i) && !invar_token_is(file, i - 1, "::") && invar_token_is(file, i + 1, ".") &&
           invar_token_is(file, i + 2, "size") && invar_token_is(file, i + 3, "(") && invar_token_is(file, i + 4, ")");
}

static void read_array_size(invar_source *source, invar_file *file, int32_t i) {
    if (!is_array_size(file, i)) return;
    for (int32_t k = 0; k < source->array_count; k++) {
        if (!invar_token_is(file, i, source->arrays[k])) continue;
        drop(file, i + 1, i + 5, INVAR_RULE_DROP);
        file->tokens[i].rule = INVAR_RULE_SIZE;
        file->tokens[i].value = k;
        source->uses[k] |= INVAR_USES_SIZE;
        return;
    }
}

/* ---- CUDA's position in the grid ---- */

/* The axis of `name.x` at token i; -1. */
static int axis_of(const invar_file *file, int32_t i, const char *name) {
    static const char *const axes[] = { "x", "y", "z" };
    if (!invar_token_is(file, i, name) || !invar_token_is(file, i + 1, ".")) return -1;
    for (int d = 0; d < 3; d++)
        if (invar_token_is(file, i + 2, axes[d])) return d;
    return -1;
}

/* Types that hold every position. */
static bool is_wide(const invar_file *file, int32_t i) {
    static const char *const wide[] = { "size_t", "int64_t", "uint64_t", "long", "unsigned", "uint", "uint32_t", NULL };
    return invar_token_is_one_of(file, i, wide);
}

/* Whether a sum that begins at `begin` and ends before `end` is an operand by itself: nothing beside it binds tighter, and
 * a cast before it is to a wide type. */
static bool stands_alone(const invar_file *file, int32_t begin, int32_t end) {
    int32_t before = begin - 1;
    if (invar_token_is_any(file, end, "*/%.[(") || invar_token_is(file, end, "->")) return false;
    if (invar_token_is(file, before, ")") && file->tokens[before].partner == before - 2) return is_wide(file, before - 1);
    return before < 0 || invar_token_is_any(file, before, "=([,{;+<?:") || invar_token_is(file, before, "return");
}

static void set_grid_rule(invar_source *source, invar_file *file, int32_t i, int axis) {
    drop(file, i + 1, i + 3, INVAR_RULE_HOST_DROP);
    file->tokens[i].rule = INVAR_RULE_GRID;
    file->tokens[i].value = axis;
    source->uses_grid = true;
}

/* The first token of the cast to a wide type whose operand's parenthesis is token i: static_cast<long>( or size_t(; -1. */
static int32_t cast_begin(const invar_file *file, int32_t i) {
    int32_t k = i - 1;
    if (is_wide(file, k)) return k;
    if (!invar_token_is(file, k--, ">")) return -1;
    while (is_wide(file, k)) k--;
    return invar_token_is(file, k, "<") && invar_token_is(file, k - 1, "static_cast") ? k - 1 : -1;
}

/* static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x */
static void read_cast_position(invar_source *source, invar_file *file, int32_t i) {
    enum { CLOSE = 3, END = 12 };
    int d = axis_of(file, i, "blockIdx");
    if (d < 0 || !invar_token_is(file, i + CLOSE, ")") || file->tokens[i + CLOSE].partner != i - 1 ||
        !invar_token_is(file, i + 4, "*") || axis_of(file, i + 5, "blockDim") != d || !invar_token_is(file, i + 8, "+") ||
        axis_of(file, i + 9, "threadIdx") != d)
        return;
    int32_t begin = cast_begin(file, i - 1);
    if (begin < 0 || !stands_alone(file, begin, i + END)) return;
    set_grid_rule(source, file, i, d);
    drop(file, i + CLOSE + 1, i + END, INVAR_RULE_HOST_DROP);
}

/* blockIdx.x * blockDim.x + threadIdx.x, in any order, is one number: said so, loops over threads are vectorised, and the
 * groups need not be told apart. All of it is unsigned arithmetic, so that the two agree to the bit. */
static void read_grid_position(invar_source *source, invar_file *file, int32_t i) {
    static const char *const orders[4][3] = { { "blockIdx", "blockDim", "threadIdx" },
                                              { "blockDim", "blockIdx", "threadIdx" },
                                              { "threadIdx", "blockIdx", "blockDim" },
                                              { "threadIdx", "blockDim", "blockIdx" } };
    enum { TOKENS = 11 };
    if (file->tokens[i].function >= 0 || file->tokens[i].scope != INVAR_SCOPE_CODE || i + TOKENS > file->count) return;
    for (int k = 0; k < 4; k++) {
        const char *first = k < 2 ? "*" : "+", *second = k < 2 ? "+" : "*";
        int d = axis_of(file, i, orders[k][0]);
        if (d < 0 || axis_of(file, i + 4, orders[k][1]) != d || axis_of(file, i + 8, orders[k][2]) != d) continue;
        if (!invar_token_is(file, i + 3, first) || !invar_token_is(file, i + 7, second)) continue;
        if (!stands_alone(file, i, i + TOKENS)) continue;
        set_grid_rule(source, file, i, d);
        drop(file, i + 3, i + TOKENS, INVAR_RULE_HOST_DROP);
        return;
    }
    read_cast_position(source, file, i);
}

/* ---- swizzles ---- */

/* True when the bytes behind token i are one operator that assigns: = += <<= ++ ... */
static bool is_assigned(const invar_file *file, int32_t i) {
    const char *at = file->text + file->tokens[i].start + file->tokens[i].length;
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
    if (at[0] == '=') return at[1] != '=';
    if ((at[0] == '<' || at[0] == '>') && at[0] == at[1]) return at[2] == '=';
    if ((at[0] == '+' || at[0] == '-') && at[0] == at[1]) {
        at += 2;
        while (*at == ' ') at++;
        return *at == ';' || *at == ')' || *at == ',';
    }
    return at[0] && strchr("+-*/%&|^", at[0]) && at[1] == '=';
}

static void read_swizzle(const invar_source *source, invar_file *file, int32_t i) {
    int places[4], count;
    if (!invar_token_is_member(file, i)) return;
    int32_t code = invar_swizzle_code(file, i, places, &count);
    if (code < 0 || source->members[code] || invar_token_is(file, i + 1, "(")) return;
    file->tokens[i].rule = is_assigned(file, i) ? INVAR_RULE_PUT : INVAR_RULE_TAKE;
}

static invar_status read_token(invar_source *source, int32_t which, int32_t i) {
    invar_file *file = &source->files[which];
    invar_token *token = &file->tokens[i];
    if (token->kind == INVAR_TOKEN_NUMBER && invar_is_metal(source))
        token->rule = literal_rule(file->text + token->start, token->length);
    if (is_global_scope(file, i)) token->rule = INVAR_RULE_DROP;
    if (token->kind != INVAR_TOKEN_NAME) return INVAR_OK;
    read_array_size(source, file, i);
    if (invar_is_metal(source)) read_swizzle(source, file, i);
    else if (which == INVAR_BODY) read_grid_position(source, file, i);
    return read_word(source, which, i);
}

invar_status invar_read_rules(invar_source *source, int32_t which) {
    invar_file *file = &source->files[which];
    INVAR_TRY(check_conditionals(source, which));
    for (int32_t i = 0; i < file->count; i++) {
        bool inside = true;
        int32_t attribute = invar_is_metal(source) ? attribute_end(file, i) : -1;
        if (file->tokens[i].directive == i) {
            int32_t end = directive_end(file, i);
            INVAR_TRY(read_directive(source, which, i, end, &inside));
            if (!inside) i = end - 1;
        } else if (attribute > 0) {
            drop(file, i, attribute, INVAR_RULE_DROP);
            i = attribute - 1;
        } else if (file->tokens[i].rule == INVAR_RULE_KEEP) {
            INVAR_TRY(read_token(source, which, i));
        }
    }
    return INVAR_OK;
}
