/* The program around a lowered kernel: its header and its body as a function, between namespaces. */
#include "jit/program.h"

static void put_line(const invar_generator *g, const char *suffix) {
    PUT("\n#line 1 \"%s.%s\"\n", g->source->name, suffix);
}

/* What the user defines must not reach the entry points. */
static void put_undefinitions(const invar_generator *g) {
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

/* The numbers of what stands in macros: by the text and the lines on which the macro is used. */
static void put_macro_uses(const invar_generator *g) {
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

static void put_user_text(const invar_generator *g) {
    const invar_source *source = g->source;
    int32_t target = g->host ? INVAR_TARGET_CPU : INVAR_TARGET_CUDA;
    put(g, "namespace invar_shim {\nnamespace user {\n");
    /* Metal's int8_t is its char, which the one outside is not. */
    if (invar_is_metal(source)) put(g, "using namespace metal;\nusing metal::int8_t;\n");
    invar_put_overloads(g);
    put_macro_uses(g);
    if (source->files[INVAR_HEADER].length) {
        put_line(g, "header");
        invar_lower(source, INVAR_HEADER, target, g->check, g->text);
        put_line(g, "generated");
    }
    invar_put_template_head(g);
    put(g, !g->host ? "static __device__ __forceinline__ void invar_body" :
               g->loop ? "static inline __attribute__((always_inline)) void invar_body" : "static void invar_body");
    invar_put_parameters(g, true);
    put(g, " { ");
    invar_put_template_names(g);
    if (g->host) invar_lower_pointers(source, g->text);
    if (g->host && source->macro_count) put(g, "constexpr int invar_text = 1; ");
    put(g, "{"); /* a scope of its own: the body may declare what a parameter is called */
    put_line(g, invar_source_suffix(source, INVAR_BODY));
    invar_lower(source, INVAR_BODY, target, g->check, g->text);
    put(g, "\n\n"); /* the text may end in a backslash */
    put_line(g, "generated");
    put(g, "} }\n");
    put_undefinitions(g);
}

invar_status invar_generate_kernel(const invar_source *source, const invar_program_key *key, int32_t target, bool check,
                                   invar_text *text) {
    bool host = target == INVAR_TARGET_CPU;
    invar_generator g = { source, key, host, check && host, host && !check && source->mode <= INVAR_MODE_LOOP, text };
    INVAR_TRY(invar_check_key(source, key));
    put_user_text(&g);
    if (host) invar_put_host_entry(&g);
    else invar_put_device_entry(&g);
    return text->failed ? invar_source_memory(source) : INVAR_OK;
}
