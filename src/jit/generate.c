/* The program around a lowered kernel: the body as a function, and the entry points that call it for each thread. */
#include "jit/position.h"
#include "jit/source.h"
#include "core/dtype.h"

#include <string.h>

typedef struct generator {
    const invar_source *source;
    const invar_program_key *key;
    bool host, check;
    bool loop; /* FLAT or LOOP: one call runs a box of threads */
    invar_text *text;
} generator;

static void put(const generator *g, const char *string) { invar_text_string(g->text, string); }
#define PUT(...) invar_text_format(g->text, __VA_ARGS__)

/* ---- element types ---- */

/* The dialect's name of an element type; NULL where it has none. */
static const char *type_name(const invar_source *source, invar_dtype dtype) {
    static const char *const integers[2][4] = { { "int8_t", "int16_t", "int32_t", "int64_t" },
                                                { "uint8_t", "uint16_t", "uint32_t", "uint64_t" } };
    bool metal = invar_is_metal(source);
    int size = dtype.bits == 8 ? 0 : dtype.bits == 16 ? 1 : dtype.bits == 32 ? 2 : dtype.bits == 64 ? 3 : -1;
    if (dtype.lanes != 1) return NULL;
    switch (dtype.code) {
    case INVAR_INT:
    case INVAR_UINT: return size < 0 ? NULL : integers[dtype.code == INVAR_UINT][size];
    case INVAR_FLOAT:
        if (dtype.bits == 16) return metal ? "float16_t" : "__half";
        return dtype.bits == 32 ? "float" : dtype.bits == 64 && !metal ? "double" : NULL;
    case INVAR_BFLOAT: return dtype.bits != 16 ? NULL : metal ? "bfloat16_t" : "__nv_bfloat16";
    case INVAR_COMPLEX: return dtype.bits == 64 ? "complex64_t" : NULL;
    case INVAR_BOOL: return dtype.bits == 8 ? "bool" : NULL;
    default: return NULL;
    }
}

static const char *array_type(const generator *g, int32_t k) { return type_name(g->source, g->key->arrays[k].dtype); }

static invar_status check_types(const invar_source *source, const invar_program_key *key) {
    for (int32_t k = 0; k < source->array_count; k++)
        if (!type_name(source, key->arrays[k].dtype))
            return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected an element type of %s, got %s",
                              invar_source_operation(source), source->arrays[k], invar_is_metal(source) ? "Metal" : "CUDA",
                              invar_dtype_name(key->arrays[k].dtype));
    return INVAR_OK;
}

/* ---- template arguments ---- */

static bool is_identifier(const char *name) {
    if (!name || !((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') || *name == '_')) return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == strlen(name);
}

static invar_status check_arguments(const invar_source *source, const invar_program_key *key) {
    const char *operation = invar_source_operation(source);
    for (int32_t i = 0; i < key->template_count; i++) {
        const invar_template_argument *argument = &key->template_arguments[i];
        if (!is_identifier(argument->name))
            return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected identifiers, got \"%s\"", operation,
                              argument->name ? argument->name : "");
        for (int32_t k = 0; k < source->array_count; k++)
            if (!strcmp(source->arrays[k], argument->name))
                return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected names other than the arrays', got %s", operation,
                                  argument->name);
        for (int32_t k = 0; k < i; k++)
            if (!strcmp(key->template_arguments[k].name, argument->name))
                return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected every name once, got %s twice", operation,
                                  argument->name);
        if (argument->kind == INVAR_TEMPLATE_DTYPE && !type_name(source, argument->dtype))
            return invar_fail(INVAR_ERROR_DTYPE, "%s: template: %s: expected an element type of %s, got %s", operation,
                              argument->name, invar_is_metal(source) ? "Metal" : "CUDA", invar_dtype_name(argument->dtype));
        if (argument->kind == INVAR_TEMPLATE_INT && (argument->value < INT32_MIN || argument->value > INT32_MAX))
            return invar_fail(INVAR_ERROR_VALUE, "%s: template: %s: expected an integer of 32 bits, got %lld", operation,
                              argument->name, (long long)argument->value);
    }
    return INVAR_OK;
}

static void put_argument_value(const generator *g, const invar_template_argument *argument) {
    if (argument->kind == INVAR_TEMPLATE_DTYPE) put(g, type_name(g->source, argument->dtype));
    else if (argument->kind == INVAR_TEMPLATE_BOOL) put(g, argument->value ? "true" : "false");
    else if (argument->value == INT32_MIN) put(g, "(-2147483647 - 1)"); /* 2147483648 is no int */
    else PUT("(%lld)", (long long)argument->value);
}

static const char *argument_kind(const invar_template_argument *argument, const char *type) {
    return argument->kind == INVAR_TEMPLATE_DTYPE ? type : argument->kind == INVAR_TEMPLATE_BOOL ? "bool" : "int";
}

/* Metal: parameters of a template, so that what depends on them is looked up when they are known. */
static void put_template_head(const generator *g) {
    if (!g->key->template_count || !invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++)
        PUT("%s%s %s", i ? ", " : "template <", argument_kind(&g->key->template_arguments[i], "typename"),
            g->key->template_arguments[i].name);
    put(g, ">\n");
}

static void put_template_values(const generator *g) {
    if (!g->key->template_count || !invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++) {
        put(g, i ? ", " : "<");
        put_argument_value(g, &g->key->template_arguments[i]);
    }
    put(g, ">");
}

/* CUDA: names in the body. */
static void put_template_names(const generator *g) {
    if (invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++) {
        const invar_template_argument *argument = &g->key->template_arguments[i];
        if (argument->kind == INVAR_TEMPLATE_DTYPE) PUT("using %s = ", argument->name);
        else PUT("constexpr %s %s = ", argument_kind(argument, ""), argument->name);
        put_argument_value(g, argument);
        put(g, "; ");
    }
}

/* ---- the body's parameters, and what is handed over for them ---- */

static bool is_output(const generator *g, int32_t k) { return k >= g->source->input_count; }
/* Metal's inputs of rank 0 are scalars. */
static bool is_scalar(const generator *g, int32_t k) {
    return invar_is_metal(g->source) && !is_output(g, k) && g->key->arrays[k].ndim == 0;
}
static bool is_atomic(const generator *g, int32_t k) { return is_output(g, k) && g->source->atomic_outputs; }

static void put_array_type(const generator *g, int32_t k) {
    const char *type = array_type(g, k);
    if (is_atomic(g, k)) PUT("atomic<%s> *", type);
    else PUT("%s%s%s", is_output(g, k) ? "" : "const ", type, is_scalar(g, k) ? " " : " *");
    /* Outputs overlap nothing, and threads of a loop do not wait for each other's stores. */
    if (g->loop && !is_scalar(g, k)) put(g, "__restrict ");
}

/* Puts "name" as a parameter where `parameter`, else as the value that the entry point's locals have for it. */
static void put_array(const generator *g, int32_t k, bool parameter) {
    const invar_source *source = g->source;
    const char *name = source->arrays[k];
    if (parameter) put_array_type(g, k), PUT("%s", name);
    else PUT("invar_array_%d", (int)k);
    if (source->uses[k] & INVAR_USES_SHAPE) {
        if (!parameter) PUT(", invar_shape_%d", (int)k);
        else PUT(", const %s%s_shape", invar_is_metal(source) ? "int *__restrict " : "Shape &", name);
    }
    if (source->uses[k] & INVAR_USES_STRIDES) {
        if (!parameter) PUT(", invar_stride_%d", (int)k);
        else PUT(", const %s%s_strides", invar_is_metal(source) ? "int64_t *__restrict " : "Strides &", name);
    }
    if (source->uses[k] & INVAR_USES_NDIM) {
        if (parameter) PUT(", const int %s_ndim", name);
        else PUT(", %d", (int)g->key->arrays[k].ndim);
    }
    if (source->uses[k] & INVAR_USES_SIZE) PUT(", %sinvar_size_%d", parameter ? "const int64_t " : "", (int)k);
}

static void put_parameters(const generator *g, bool parameter) {
    const invar_source *source = g->source;
    put(g, "(");
    for (int32_t k = 0; k < source->array_count; k++) {
        if (k) put(g, ", ");
        put_array(g, k, parameter);
    }
    if (source->uses_size) put(g, parameter ? ", const int64_t size" : ", invar_l.size");
    if (source->uses_grid && g->host)
        put(g, parameter ? ", const uint3 invar_grid" : ", uint3{invar_p.grid[0], invar_p.grid[1], invar_p.grid[2]}");
    for (int32_t k = 0; k < invar_position_count; k++) {
        const invar_position_name *position = &invar_position_names[k];
        if (!(source->positions & 1u << k) || (!g->host && !invar_is_metal(source))) continue;
        if (parameter) PUT(", const %s %s", position->type, position->name);
        else PUT(", %s", position->value);
    }
    if (g->loop) put(g, parameter ? ", const invar_here_at invar_here" : ", invar_here_at(invar_p, invar_l)");
    put(g, ")");
}

/* ---- the user's text ---- */

static void put_line(const generator *g, const char *suffix) {
    PUT("\n#line 1 \"%s.%s\"\n", g->source->name, suffix);
}

/* What the user defines must not reach the entry points. */
static void put_undefinitions(const generator *g) {
    for (int32_t f = 0; f < INVAR_FILES; f++) {
        const invar_file *file = &g->source->files[f];
        for (int32_t i = 0; i + 2 < file->count; i++) {
            if (file->tokens[i].directive != i || !invar_token_is(file, i + 1, "define")) continue;
            if (!invar_token_names(file, i + 2) || file->tokens[i + 2].directive != i) continue;
            const invar_token *name = &file->tokens[i + 2];
            PUT("#undef %.*s\n", (int)name->length, file->text + name->start);
        }
    }
}

/* ---- parts of the shim ---- */

static void add_word(uint64_t *words, const char *word, size_t length) {
    uint32_t bit = invar_word_hash(word, length) % INVAR_WORD_BITS;
    words[bit / 64] |= (uint64_t)1 << bit % 64;
}

static bool has_word(const uint64_t *words, const char *list) {
    while (*list) {
        size_t length = strcspn(list, " ");
        uint32_t bit = invar_word_hash(list, length) % INVAR_WORD_BITS;
        if (length && words[bit / 64] >> bit % 64 & 1) return true;
        list += length + (list[length] == ' ');
    }
    return false;
}

/* Words of the text and those that the generated program writes itself. */
static void collect_words(const invar_source *source, const invar_program_key *key, uint64_t *words) {
    memcpy(words, source->words, sizeof source->words);
    for (int32_t k = 0; k < source->array_count; k++) {
        const char *type = type_name(source, key->arrays[k].dtype);
        if (type) add_word(words, type, strlen(type));
    }
    for (int32_t k = 0; k < key->template_count; k++) {
        const char *type = type_name(source, key->template_arguments[k].dtype);
        if (type) add_word(words, type, strlen(type));
    }
    for (int32_t k = 0; k < invar_position_count; k++)
        if (source->positions & 1u << k) add_word(words, invar_position_names[k].type, strlen(invar_position_names[k].type));
    if (source->atomic_outputs) add_word(words, "atomic", strlen("atomic"));
    for (int32_t k = 0; k < source->array_count; k++) {
        if (source->uses[k] & INVAR_USES_SHAPE) add_word(words, "Shape", strlen("Shape"));
        if (source->uses[k] & INVAR_USES_STRIDES) add_word(words, "Strides", strlen("Strides"));
    }
}

/* Whether the part is needed on some target. */
static bool is_needed(const invar_source *source, const invar_shim_part *part, const uint64_t *words) {
    uint32_t dialect = invar_is_metal(source) ? INVAR_SHIM_METAL : INVAR_SHIM_CUDA;
    return (part->dialects & dialect) && (!part->words || has_word(words, part->words));
}

/* Whether a part of the shim declares a function of this name: at the left margin, behind a type. */
static bool declares(const char *text, const char *name, size_t length) {
    for (const char *at = text; (at = strchr(at, name[0])); at++) {
        const char *line = at;
        if (strncmp(at, name, length) || at[length] != '(' || at == text || !strchr(" *&", at[-1])) continue;
        while (line > text && line[-1] != '\n') line--;
        if (*line != ' ' && strchr(line, '(') == at + length) return true;
    }
    return false;
}

/* Parts whose functions are in a namespace of their own, and cannot be hidden. */
static bool is_apart(const invar_shim_part *part) {
    return !strcmp(part->name, "cuda_groups.h") || !strcmp(part->name, "cuda_std.h");
}

/* The part of this program's shim that declares a function of this name; NULL. */
static const invar_shim_part *find_part(const generator *g, const uint64_t *words, const char *name, size_t length) {
    for (int32_t k = 0; k < invar_shim_part_count; k++) {
        const invar_shim_part *part = &invar_shim_parts[k];
        if (is_needed(g->source, part, words) && !is_apart(part) && declares(part->text, name, length)) return part;
    }
    return NULL;
}

/* The user's functions that have a built-in's name stand beside it, not before it: a header that defines half exp(half) must
 * not catch exp of a float. */
static void put_overloads(const generator *g) {
    enum { MOST = 512 }; /* functions that are looked for */
    const invar_source *source = g->source;
    uint64_t words[INVAR_WORD_BITS / 64];
    collect_words(source, g->key, words);
    for (int32_t k = 0; k < source->group_count && k < MOST; k++) {
        const invar_function *function = &source->functions[source->groups[k].function];
        const invar_file *file = &source->files[function->file];
        const invar_token *token = &file->tokens[function->name];
        const char *name = file->text + token->start;
        if (function->scope != INVAR_SCOPE_NAMESPACE) continue;
        const invar_shim_part *part = find_part(g, words, name, token->length);
        if (!part) continue;
        bool native = !g->host && !(part->targets & INVAR_SHIM_NVRTC); /* CUDA's own */
        if (native && invar_is_metal(source)) continue;
        PUT("using %s::%.*s;\n", invar_is_metal(source) ? "metal" : native ? "" : "invar_shim", (int)token->length, name);
    }
}

/* The numbers of what stands in macros: by the text and the lines on which the macro is used. */
static void put_macro_uses(const generator *g) {
    const invar_source *source = g->source;
    if (!g->host || !source->macro_count) return;
    put(g, "constexpr int invar_at = 0, invar_text = 0;\n"
           "struct invar_use {\n    int item, text, first, last, number;\n};\n"
           "constexpr invar_use invar_uses[] = {\n    { -1, 0, 0, 0, 0 },\n");
    for (int32_t k = 0; k < source->item_count; k++) {
        const invar_item *item = &source->items[k];
        if (item->of < 0) continue;
        int32_t line = source->files[item->file].tokens[item->token].line;
        PUT("    { %d, %d, %d, %d, %d },\n", (int)item->of, (int)item->file, (int)line, (int)item->last, (int)item->number);
    }
    put(g, "};\nconstexpr int invar_find_use(int item, int text, int line) {\n"
           "    for (const invar_use &use : invar_uses)\n"
           "        if (use.item == item && use.text == text && use.first <= line && line <= use.last) return use.number;\n"
           "    return 0;\n}\n"
           "template <int item, int text, int line> constexpr int invar_macro = invar_find_use(item, text, line);\n");
}

static void put_user_text(const generator *g) {
    const invar_source *source = g->source;
    int32_t target = g->host ? INVAR_TARGET_CPU : INVAR_TARGET_CUDA;
    put(g, "namespace invar_shim {\nnamespace user {\n");
    /* Metal's int8_t is its char, which the one outside is not. */
    if (invar_is_metal(source)) put(g, "using namespace metal;\nusing metal::int8_t;\n");
    put_overloads(g);
    put_macro_uses(g);
    if (source->files[INVAR_HEADER].length) {
        put_line(g, "header");
        invar_lower(source, INVAR_HEADER, target, g->text);
        put_line(g, "generated");
    }
    put_template_head(g);
    put(g, !g->host ? "static __device__ __forceinline__ void invar_body" :
               g->loop ? "static inline __attribute__((always_inline)) void invar_body" : "static void invar_body");
    put_parameters(g, true);
    put(g, " { ");
    put_template_names(g);
    if (g->host) invar_lower_pointers(source, g->text);
    if (g->host && source->macro_count) put(g, "constexpr int invar_text = 1; ");
    put(g, "{"); /* a scope of its own: the body may declare what a parameter is called */
    put_line(g, invar_source_suffix(source, INVAR_BODY));
    invar_lower(source, INVAR_BODY, target, g->text);
    put(g, "\n\n"); /* the text may end in a backslash */
    put_line(g, "generated");
    put(g, "} }\n");
    put_undefinitions(g);
}

/* ---- entry points on the host ---- */

/* Locals of an entry point: the arrays. */
static void put_arrays(const generator *g) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        const char *type = array_type(g, k), *constant = is_output(g, k) ? "" : "const ";
        if (is_scalar(g, k)) PUT("    const %s invar_array_%d = *(const %s *)invar_l.arrays[%d];\n", type, (int)k, type, (int)k);
        else if (is_atomic(g, k)) PUT("    auto *invar_array_%d = (atomic<%s> *)invar_l.arrays[%d];\n", (int)k, type, (int)k);
        else PUT("    auto *invar_array_%d = (%s%s *)invar_l.arrays[%d];\n", (int)k, constant, type, (int)k);
    }
}

/* Metal: pointers to what the launch holds; CUDA: arrays of their own. */
static void put_shape(const generator *g, int32_t k, const char *type, const char *element, const char *name) {
    if (invar_is_metal(g->source)) PUT("    const %s *invar_%s_%d = invar_l.%ss[%d];\n", element, name, (int)k, name, (int)k);
    else PUT("    %s invar_%s_%d{};\n    for (int i = 0; i < %d; i++) invar_%s_%d[i] = invar_l.%ss[%d][i];\n", type, name,
             (int)k, (int)g->key->arrays[k].ndim, name, (int)k, name, (int)k);
}

/* Locals of an entry point: what the text uses of shapes. */
static void put_shapes(const generator *g) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        uint8_t uses = g->source->uses[k];
        if (uses & INVAR_USES_SHAPE) put_shape(g, k, "Shape", "int", "shape");
        if (uses & INVAR_USES_STRIDES) put_shape(g, k, "Strides", "int64_t", "stride");
        if (!(uses & INVAR_USES_SIZE)) continue;
        PUT("    int64_t invar_size_%d = 1;\n", (int)k);
        for (int d = 0; d < g->key->arrays[k].ndim; d++) PUT("    invar_size_%d *= invar_l.shapes[%d][%d];\n", (int)k, (int)k, d);
    }
}

static void put_call(const generator *g) {
    put(g, "invar_body");
    put_template_values(g);
    put_parameters(g, false);
    put(g, ";\n");
}

/* Arrays as parameters and arguments of a row. */
static void put_row_arrays(const generator *g, bool parameter) {
    for (int32_t k = 0; k < g->source->array_count; k++) {
        put(g, k ? ", " : "");
        if (parameter && is_scalar(g, k)) PUT("const %s ", array_type(g, k));
        else if (parameter) put_array_type(g, k);
        PUT("invar_array_%d", (int)k);
    }
}

/* A row of threads along x is a function of its own: g++ keeps __restrict of parameters, and what is known of x1, only so.
 * Positions are below 2^31, so that an index that the kernel holds in an int does not wrap. */
static void put_row(const generator *g) {
    put(g, "static __attribute__((noinline)) void invar_run_row(");
    put_row_arrays(g, true);
    put(g, ", const invar_launch *invar_launch_at, const invar_block *invar_b, const uint32_t y, const uint32_t z) {\n"
           "    const invar_launch invar_l = *invar_launch_at;\n"
           "    const uint32_t x0 = invar_b->begin[0], y0 = invar_b->begin[1], z0 = invar_b->begin[2];\n"
           "    const uint32_t x1 = invar_b->end[0], y1 = invar_b->end[1], z1 = invar_b->end[2];\n"
           "    const uint32_t gx = invar_b->group[0], gy = invar_b->group[1], gz = invar_b->group[2];\n"
           "    const uint32_t sx = x1 - x0, sy = y1 - y0, sz = z1 - z0;\n");
    put_shapes(g);
    put(g, "    if (x1 > 0x80000000u) __builtin_unreachable();\n");
    bool atomics = false;
    for (int32_t k = 0; k < g->source->item_count; k++) atomics |= g->source->items[k].kind == INVAR_CALL_ATOMIC;
    /* Threads of a loop are independent; g++ does not always see it from __restrict. */
    if (!atomics) put(g, "#if !defined(__clang__)\n#pragma GCC ivdep\n#endif\n");
    put(g, "    for (uint32_t x = x0; x < x1; x++) {\n"
           "        const invar_position invar_p = { { x, y, z }, { x - x0, y - y0, z - z0 }, { gx, gy, gz },\n"
           "            { sx, sy, sz }, (x - x0) + sx * ((y - y0) + sy * (z - z0)) };\n"
           "        (void)invar_p;\n"
           "        ");
    put_call(g);
    put(g, "    }\n}\n");
}

static void put_block(const generator *g) {
    put_row(g);
    put(g, "static void invar_run_block(const invar_launch *invar_launch_at, const invar_block *invar_b) {\n"
           "    const invar_launch &invar_l = *invar_launch_at;\n");
    put_arrays(g);
    put(g, "    for (uint32_t z = invar_b->begin[2]; z < invar_b->end[2]; z++)\n"
           "        for (uint32_t y = invar_b->begin[1]; y < invar_b->end[1]; y++) invar_run_row(");
    put_row_arrays(g, false);
    put(g, ", invar_launch_at, invar_b, y, z);\n}\n");
}

static void put_thread(const generator *g) {
    put(g, "static void invar_run_thread(const invar_lane *invar_lane_at) {\n"
           "    const invar_launch &invar_l = *invar_lane_at->launch;\n"
           "    const invar_position &invar_p = invar_lane_at->position;\n"
           "    (void)invar_p;\n");
    put_arrays(g);
    put_shapes(g);
    put(g, "    ");
    put_call(g);
    put(g, "}\n");
}

static void put_sites(const generator *g) {
    const invar_source *source = g->source;
    put(g, "static const invar_site invar_sites[] = {\n    { nullptr, nullptr, 0 },\n");
    for (int32_t k = 1; k < source->place_count; k++) {
        const invar_item *item = &source->items[source->places[k]], *call = item->of >= 0 ? &source->items[item->of] : item;
        const invar_file *file = &source->files[call->file];
        const invar_token *name = &file->tokens[call->token];
        PUT("    { \"%s.%s\", \"%.*s\", %d },\n", source->name, invar_source_suffix(source, item->file), (int)name->length,
            file->text + name->start, (int)source->files[item->file].tokens[item->token].line);
    }
    put(g, "};\n");
}

static void put_storage_table(const generator *g) {
    const invar_source *source = g->source;
    put(g, "invar_shared invar_shared_table[INVAR_MAX_SHARED] = {\n");
    for (int32_t k = 0; k < source->storage_count; k++) {
        const invar_storage *storage = &source->storage[k];
        const invar_token *name = &source->files[storage->file].tokens[storage->name];
        if (storage->dynamic) put(g, "    { nullptr, 0, 0 },\n");
        else PUT("    { \"%.*s\", 0, 0 },\n", (int)name->length, source->files[storage->file].text + name->start);
    }
    put(g, "};\n");
}

static void put_host_entry(const generator *g) {
    if (g->loop) put_block(g);
    else put_thread(g);
    put_sites(g);
    put(g, "}\n"); /* namespace user */
    put_storage_table(g);
    uint32_t mode = g->source->mode;
    if (g->check && mode < INVAR_MODE_SIMD) mode = INVAR_MODE_SIMD;
    PUT("extern \"C\" {\n__attribute__((visibility(\"default\"))) extern invar_module invar_kernel_module;\n"
        "invar_module invar_kernel_module = { INVAR_RUNTIME_VERSION, %u, %s, %s, user::invar_sites, invar_shared_table, %d };\n}\n",
        (unsigned)mode, g->loop ? "user::invar_run_block" : "nullptr", g->loop ? "nullptr" : "user::invar_run_thread",
        (int)g->source->place_count);
    put(g, "}\n"); /* namespace invar_shim */
}

/* ---- the entry point on the device ---- */

/* The argument of the kernel, by value: what of a launch it uses. */
static void put_device_launch(const generator *g) {
    const invar_source *source = g->source;
    PUT("struct invar_launch {\n    void *arrays[%d];\n    int64_t size;\n    uint32_t grid[3], threadgroup[3], groups[3];\n",
        (int)source->array_count);
    for (int32_t k = 0; k < source->array_count; k++) {
        int ndim = g->key->arrays[k].ndim;
        bool metal = invar_is_metal(source);
        if (source->uses[k] & INVAR_USES_SHAPE) {
            if (metal) PUT("    int shape_%d[%d];\n", (int)k, ndim ? ndim : 1);
            else PUT("    Shape shape_%d;\n", (int)k);
        }
        if (source->uses[k] & INVAR_USES_STRIDES) {
            if (metal) PUT("    int64_t strides_%d[%d];\n", (int)k, ndim ? ndim : 1);
            else PUT("    Strides strides_%d;\n", (int)k);
        }
        if (source->uses[k] & INVAR_USES_SIZE) PUT("    int64_t size_%d;\n", (int)k);
    }
    put(g, "};\n");
}

static void put_device_locals(const generator *g) {
    const invar_source *source = g->source;
    for (int32_t k = 0; k < source->array_count; k++) {
        if (is_scalar(g, k)) PUT("    const %s invar_array_%d = *(const %s *)invar_l.arrays[%d];\n", array_type(g, k), (int)k,
                                 array_type(g, k), (int)k);
        else if (is_atomic(g, k)) PUT("    auto *invar_array_%d = (atomic<%s> *)invar_l.arrays[%d];\n", (int)k,
                                      array_type(g, k), (int)k);
        else PUT("    auto *invar_array_%d = (%s%s *)invar_l.arrays[%d];\n", (int)k, is_output(g, k) ? "" : "const ",
                 array_type(g, k), (int)k);
        if (source->uses[k] & INVAR_USES_SHAPE) PUT("    const auto &invar_shape_%d = invar_l.shape_%d;\n", (int)k, (int)k);
        if (source->uses[k] & INVAR_USES_STRIDES)
            PUT("    const auto &invar_stride_%d = invar_l.strides_%d;\n", (int)k, (int)k);
        if (source->uses[k] & INVAR_USES_SIZE) PUT("    const int64_t invar_size_%d = invar_l.size_%d;\n", (int)k, (int)k);
    }
}

/* Metal's edge groups have only the threads of the grid, counted by the group's own size: blocks are lines of threads. */
static const char DEVICE_POSITION[] =
    "    invar_position invar_p;\n"
    "    invar_p.group[0] = blockIdx.x, invar_p.group[1] = blockIdx.y, invar_p.group[2] = blockIdx.z;\n"
    "    invar_p.index = threadIdx.x;\n"
    "    for (int d = 0; d < 3; d++) {\n"
    "        const uint32_t left = invar_l.grid[d] - invar_p.group[d] * invar_l.threadgroup[d];\n"
    "        invar_p.size[d] = left < invar_l.threadgroup[d] ? left : invar_l.threadgroup[d];\n"
    "    }\n"
    "    if (invar_p.index >= invar_p.size[0] * invar_p.size[1] * invar_p.size[2]) return;\n"
    "    invar_p.local[0] = invar_p.index % invar_p.size[0];\n"
    "    invar_p.local[1] = invar_p.index / invar_p.size[0] % invar_p.size[1];\n"
    "    invar_p.local[2] = invar_p.index / (invar_p.size[0] * invar_p.size[1]);\n"
    "    for (int d = 0; d < 3; d++)\n"
    "        invar_p.grid[d] = invar_p.group[d] * invar_l.threadgroup[d] + invar_p.local[d];\n";

static void put_device_entry(const generator *g) {
    put(g, "struct invar_position {\n    uint32_t grid[3], local[3], group[3], size[3], index;\n};\n");
    put_device_launch(g);
    put(g, "extern \"C\" __global__ void invar_kernel(const __grid_constant__ invar_launch invar_l) {\n");
    put_device_locals(g);
    if (invar_is_metal(g->source)) put(g, DEVICE_POSITION);
    put(g, "    ");
    put_call(g);
    put(g, "}\n}\n}\n");
}

invar_status invar_generate_kernel(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                   invar_text *text) {
    bool host = target == INVAR_TARGET_CPU;
    generator g = { source, key, host, check && host, host && !check && source->mode <= INVAR_MODE_LOOP, text };
    INVAR_TRY(check_types(source, key));
    INVAR_TRY(check_arguments(source, key));
    put_user_text(&g);
    if (host) put_host_entry(&g);
    else put_device_entry(&g);
    return text->failed ? invar_source_memory(source) : INVAR_OK;
}

invar_status invar_generate_shim(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                 invar_text *text) {
    bool host = target == INVAR_TARGET_CPU;
    uint32_t place = host ? INVAR_SHIM_CPU : INVAR_SHIM_NVRTC;
    uint64_t words[INVAR_WORD_BITS / 64];
    INVAR_TRY(check_types(source, key));
    collect_words(source, key, words);
    if (host && (check || source->mode >= INVAR_MODE_SIMD)) invar_text_string(text, "#define INVAR_SHIM_FIBRES 1\n");
    if (host && check) invar_text_string(text, "#define INVAR_SHIM_CHECK 1\n");
    invar_text_format(text, "#ifndef __FAST_MATH__\n#define __FAST_MATH__ %d\n#endif\n",
                      source->math_mode == INVAR_MATH_FAST);
    for (int32_t k = 0; k < invar_shim_part_count; k++) {
        const invar_shim_part *part = &invar_shim_parts[k];
        if (!(part->targets & place) || !is_needed(source, part, words)) continue;
        invar_text_format(text, "#line 1 \"invar/%s\"\n", part->name);
        invar_text_string(text, part->text);
        invar_text_string(text, "\n");
    }
    invar_text_string(text, "#line 1 \"invar/generated\"\n");
    return text->failed ? invar_source_memory(source) : INVAR_OK;
}
