/* Writes a text by the rules of its tokens. */
#include "jit/source.h"

#include <stdio.h>

typedef struct writer {
    const invar_source *source;
    const invar_file *file;
    int32_t which;
    bool host;
    bool check;
    bool flat; /* one line: gaps become blanks */
    invar_text *text;
} writer;

static int32_t write_token(const writer *w, int32_t i);

static void write_raw(const writer *w, int32_t i, uint32_t less) {
    const invar_token *token = &w->file->tokens[i];
    invar_text_append(w->text, w->file->text + token->start, token->length - less);
}

static void write_gap(const writer *w, int32_t i) {
    const invar_token *tokens = w->file->tokens;
    size_t begin = i ? tokens[i - 1].start + tokens[i - 1].length : 0;
    size_t end = i < w->file->count ? tokens[i].start : w->file->length;
    if (!w->flat) invar_text_append(w->text, w->file->text + begin, end - begin);
    else if (end > begin) invar_text_string(w->text, " ");
}

static void write_flat(const writer *w, int32_t begin, int32_t end) {
    writer flat = *w;
    flat.flat = true;
    for (int32_t i = begin; i < end; i++) {
        if (i > begin) write_gap(&flat, i);
        i = write_token(&flat, i);
    }
}

/* ---- threadgroup arrays ---- */

/* [..][..], each in parentheses, or a `>` in it would end the template arguments that it stands in. */
static void write_dims(const writer *w, int32_t begin, int32_t end) {
    while (begin < end) {
        int32_t close = w->file->tokens[begin].partner;
        bool empty = close == begin + 1;
        invar_text_string(w->text, empty ? "[" : "[(");
        write_flat(w, begin + 1, close);
        invar_text_string(w->text, empty ? "]" : ")]");
        begin = close + 1;
    }
}

/* `struct S {...}`'s name, which is one of ours where it has none. first: the first array of the type. */
static void write_struct_name(const writer *w, const invar_storage *storage, int32_t first) {
    if (storage->type + 1 < storage->brace) write_raw(w, storage->type + 1, 0);
    else invar_text_format(w->text, "invar_shared_type_%d", (int)first);
}

/* A struct that the declaration defines stands before it, since no type is defined in template arguments. */
static void write_struct(const writer *w, const invar_storage *storage, int32_t first) {
    if (storage->brace < 0) return;
    write_raw(w, storage->type, 0);
    invar_text_string(w->text, " ");
    write_struct_name(w, storage, first);
    invar_text_string(w->text, " ");
    write_flat(w, storage->brace, storage->type_end);
    invar_text_string(w->text, "; ");
}

/* The declarator's type, written as a type: float[(32)][(33)], or float *[(4)]. */
static void write_storage_type(const writer *w, const invar_storage *storage, int32_t first) {
    if (storage->brace > 0) write_struct_name(w, storage, first);
    else write_flat(w, storage->type, storage->type_end);
    write_dims(w, storage->dims, storage->dims_end);
}

/* invar_dynamic_array<T[(4)]>() for `extern __shared__ T x[][4]` */
static void write_dynamic_call(const writer *w, const invar_storage *storage) {
    int32_t inner = storage->dims; /* behind the first [] */
    if (inner < storage->dims_end) inner = w->file->tokens[inner].partner + 1;
    invar_text_string(w->text, "invar_dynamic_array<");
    write_flat(w, storage->type, storage->type_end);
    write_dims(w, inner, storage->dims_end);
    invar_text_string(w->text, ">()");
}

static bool is_outside(const invar_source *source, const invar_storage *storage) {
    return storage->dynamic && source->files[storage->file].tokens[storage->name].scope == INVAR_SCOPE_NAMESPACE;
}

static void write_dynamic_pointer(const writer *w, const invar_storage *storage) {
    invar_text_string(w->text, "auto *");
    write_raw(w, storage->name, 0);
    invar_text_string(w->text, " = ");
    write_dynamic_call(w, storage);
    invar_text_string(w->text, ";");
}

/* Outside functions, an object that becomes the running block's pointer where a function uses it, by a cast too. */
static void write_dynamic(const writer *w, const invar_storage *storage) {
    if (!is_outside(w->source, storage)) {
        write_dynamic_pointer(w, storage);
        return;
    }
    invar_text_string(w->text, "static const struct { operator decltype(");
    write_dynamic_call(w, storage);
    invar_text_string(w->text, ")() const { return ");
    write_dynamic_call(w, storage);
    invar_text_string(w->text, "; } template <class invar_t> explicit operator invar_t *() const { return (invar_t *)");
    write_dynamic_call(w, storage);
    invar_text_string(w->text, "; } } ");
    write_raw(w, storage->name, 0);
    invar_text_string(w->text, "{};");
}

static int32_t write_storage_host(const writer *w, int32_t i) {
    const invar_source *source = w->source;
    int32_t first = w->file->tokens[i].value, number = first, end = source->storage[first].end;
    write_struct(w, &source->storage[first], first);
    for (;; number++) {
        const invar_storage *storage = &source->storage[number];
        if (storage->dynamic) {
            write_dynamic(w, storage);
        } else {
            invar_text_string(w->text, "auto &");
            write_raw(w, storage->name, 0);
            invar_text_format(w->text, " = invar_shared_array<%d, ", (int)number);
            write_storage_type(w, storage, first);
            invar_text_string(w->text, ">();");
        }
        if (!storage->more) break;
    }
    for (int32_t line = w->file->tokens[i].line; line < w->file->tokens[end].line && !w->flat; line++)
        invar_text_string(w->text, "\n");
    return end;
}

static int32_t write_storage(const writer *w, int32_t i) {
    if (w->host) return write_storage_host(w, i);
    if (invar_is_metal(w->source)) invar_text_string(w->text, "__shared__ ");
    else write_raw(w, i, 0);
    return i;
}

/* ---- marked calls ---- */

/* A `(` and what comes first in it. */
static int32_t write_open(const writer *w, int32_t i, const char *first) {
    invar_text_format(w->text, "(%s", first);
    if (invar_token_is(w->file, i + 1, "void") && invar_token_is(w->file, i + 2, ")")) return i + 1;
    if (!invar_token_is(w->file, i + 1, ")")) invar_text_string(w->text, ", ");
    return i;
}

static int32_t write_mark(const writer *w, int32_t i) {
    enum { LONGEST = 96 };
    int32_t number = w->file->tokens[i].value;
    const invar_item *item = &w->source->items[number];
    const char *open = item->callee < 0 ? "invar_here(" : "", *close = item->callee < 0 ? ")" : "";
    char first[LONGEST];
    if (item->text && !w->host) /* a GPU needs no numbers */
        snprintf(first, sizeof first, "%s0%s", open, close);
    else if (item->text)
        snprintf(first, sizeof first, "%sinvar_at + invar_macro<%d, invar_text, __LINE__>%s", open, (int)number, close);
    else
        snprintf(first, sizeof first, "%s%s%d%s", open, item->within >= 0 ? "invar_at + " : "", (int)item->number, close);
    return write_open(w, i, first);
}

/* g++ tells check mode of no block without a statement: one that does nothing makes an empty loop's turns seen. Before what
 * is no block it is the operand of a switch, which takes a continue or an else behind it for what they are. */
static void write_turn(const writer *w, int32_t i) {
    bool block = invar_token_is(w->file, i, "{"), told = w->host && w->check;
    if (told && !block) invar_text_string(w->text, "switch (({ __asm__ volatile(\"\"); 0; })) default: ");
    write_raw(w, i, 0);
    if (told && block) invar_text_string(w->text, " __asm__ volatile(\"\"); ");
}

/* ---- lane loops ---- */

static void write_lane_index(const writer *w, const invar_lane_loop *loop) {
    invar_text_string(w->text, "const invar_lane_index<");
    write_flat(w, loop->keyword + 2, loop->counter);
    invar_text_string(w->text, "> ");
    write_raw(w, loop->counter, 0);
}

/* The counter's `=` and first value, by way of a call that does the turns that lanes do side by side. Returns the last token
 * of the value. */
static int32_t write_lane_loop(const writer *w, int32_t i) {
    const invar_lane_loop *loop = &w->source->lane_loops[w->file->tokens[i].value];
    int32_t first_end = loop->bound - (loop->closed ? 4 : 3);
    if (!w->host || w->check) {
        write_raw(w, i, 0);
        return i;
    }
    invar_text_string(w->text, "= invar_lane_loop<");
    write_flat(w, loop->keyword + 2, loop->counter);
    invar_text_format(w->text, ", %s>(%d, ", loop->closed ? "true" : "false", -1 - (int)w->file->tokens[i].value);
    write_flat(w, loop->first, first_end);
    invar_text_string(w->text, ", ");
    write_flat(w, loop->bound, loop->step - 4);
    invar_text_string(w->text, ", ");
    write_flat(w, loop->step, loop->body - 1);
    invar_text_string(w->text, ", [=](");
    write_lane_index(w, loop);
    invar_text_string(w->text, ") { return true");
    for (int32_t k = 0; k < loop->subscript_count; k++) {
        invar_text_string(w->text, " && invar_keeps_order(");
        write_flat(w, loop->subscripts[k] + 1, w->file->tokens[loop->subscripts[k]].partner);
        invar_text_string(w->text, ")");
    }
    invar_text_string(w->text, "; }, [=");
    for (int32_t k = 0; k < loop->shared_count; k++) { /* they would be copied */
        invar_text_string(w->text, ", &");
        write_raw(w, loop->shared[k], 0);
    }
    invar_text_string(w->text, "](");
    write_lane_index(w, loop);
    for (int32_t k = 0; k < loop->varied_count; k++) {
        invar_text_string(w->text, ", decltype(");
        write_raw(w, loop->varied[k], 0);
        invar_text_string(w->text, ") &");
        write_raw(w, loop->varied[k], 0);
    }
    invar_text_string(w->text, ") { ");
    write_flat(w, loop->body, loop->end);
    invar_text_string(w->text, " }");
    for (int32_t k = 0; k < loop->varied_count; k++) {
        invar_text_string(w->text, ", ");
        write_raw(w, loop->varied[k], 0);
    }
    invar_text_string(w->text, ")");
    return first_end - 1;
}

/* ---- tokens ---- */

static void write_swizzle(const writer *w, int32_t i) {
    int places[4], count;
    invar_swizzle_code(w->file, i, places, &count);
    invar_text_string(w->text, w->file->tokens[i].rule == INVAR_RULE_PUT ? "template invar_put<" : "template invar_take<");
    for (int k = 0; k < count; k++) invar_text_format(w->text, k ? ", %d" : "%d", places[k]);
    invar_text_string(w->text, ">()");
}

static void write_literal(const writer *w, int32_t i, const char *function, uint32_t suffix) {
    invar_text_format(w->text, "%s(", function);
    write_raw(w, i, suffix);
    invar_text_string(w->text, ")");
}

/* Rules whose host text is a word. */
static void write_word(const writer *w, int32_t i, const char *host) {
    if (w->host) invar_text_string(w->text, host);
    else write_raw(w, i, 0);
}

/* On a GPU, CUDA's calls are NVRTC's own; Metal's are the shim's there too. */
static bool is_marked(const writer *w) { return w->host || invar_is_metal(w->source); }

/* Writes token i, and what its rule takes along; returns the last token that was written. */
static int32_t write_token(const writer *w, int32_t i) {
    const invar_token *token = &w->file->tokens[i];
    if (token->before & INVAR_BEFORE_ARM) invar_text_string(w->text, "invar_arm = ");
    if (token->before & INVAR_BEFORE_CHOICE) invar_text_string(w->text, "invar_choice = ");
    switch (token->rule) {
    case INVAR_RULE_DROP: invar_text_string(w->text, " "); return i;
    case INVAR_RULE_HOST_DROP: write_word(w, i, " "); return i;
    case INVAR_RULE_FLOAT: write_raw(w, i, 0), invar_text_string(w->text, "f"); return i;
    case INVAR_RULE_HALF: write_literal(w, i, "invar_half_literal", 1); return i;
    case INVAR_RULE_BFLOAT: write_literal(w, i, "invar_bfloat_literal", 2); return i;
    case INVAR_RULE_CONSTANT: invar_text_string(w->text, token->value ? "constexpr" : "static constexpr"); return i;
    case INVAR_RULE_STATIC: write_word(w, i, "static const"); return i;
    case INVAR_RULE_INLINE:
        if (invar_is_metal(w->source)) invar_text_string(w->text, "inline");
        else write_word(w, i, "inline");
        return i;
    case INVAR_RULE_VOID: invar_text_string(w->text, "(void)"); return i;
    case INVAR_RULE_ALIGN: write_word(w, i, "__attribute__((aligned"); return i;
    case INVAR_RULE_ALIGN_END: invar_text_string(w->text, w->host ? ")))" : ")"); return i;
    case INVAR_RULE_TAKE:
    case INVAR_RULE_PUT: write_swizzle(w, i); return i;
    case INVAR_RULE_GRID:
        if (w->host) invar_text_format(w->text, "invar_grid.%c", "xyz"[token->value]);
        else write_raw(w, i, 0);
        return i;
    case INVAR_RULE_SIZE: invar_text_format(w->text, "invar_size_%d", (int)token->value); return i;
    case INVAR_RULE_STORAGE: return write_storage(w, i);
    case INVAR_RULE_MARK:
    case INVAR_RULE_CALL: if (is_marked(w)) return write_mark(w, i); break;
    case INVAR_RULE_DEFINE: if (is_marked(w)) return write_open(w, i, "const int invar_at"); break;
    case INVAR_RULE_TURN: write_turn(w, i); return i;
    case INVAR_RULE_LANES: return write_lane_loop(w, i);
    case INVAR_RULE_OVERLOAD: if (is_marked(w)) return write_open(w, i, "invar_any_here"); break;
    default: break;
    }
    write_raw(w, i, 0);
    return i;
}

void invar_lower(const invar_source *source, int32_t file, int32_t target, bool check, invar_text *text) {
    writer w = { source, &source->files[file], file, target == INVAR_TARGET_CPU, check, false, text };
    for (int32_t i = 0; i < w.file->count; i++) {
        write_gap(&w, i);
        i = write_token(&w, i);
    }
    write_gap(&w, w.file->count);
}

void invar_lower_pointers(const invar_source *source, invar_text *text) {
    for (int32_t k = 0; k < source->storage_count; k++) {
        const invar_storage *storage = &source->storage[k];
        writer w = { source, &source->files[storage->file], storage->file, true, false, true, text };
        if (!is_outside(source, storage)) continue;
        write_dynamic_pointer(&w, storage);
        invar_text_string(text, " ");
    }
}
