/* How the threads are run: jit/runtime.h lists the modes. */
#include "jit/position.h"
#include "jit/source.h"

static void raise(invar_source *source, uint32_t mode) {
    if (source->mode < mode) source->mode = mode;
}

/* `atomicAdd(...);`: nobody looks at what it returns. */
static bool is_discarded(const invar_file *file, const invar_item *item) {
    if (item->of >= 0) return false; /* in a macro, who knows */
    int32_t close = file->tokens[item->open].partner, i = item->token;
    while (invar_token_is(file, i - 1, "::")) i -= invar_token_names(file, i - 2) ? 2 : 1;
    bool starts = i == 0 || invar_token_is_any(file, i - 1, ";{})") || invar_token_is(file, i - 1, "else");
    return starts && close > 0 && invar_token_is(file, close + 1, ";");
}

static int most_loop(const invar_source *source) {
    int most = INVAR_LOOP_NONE;
    for (int32_t f = 0; f < INVAR_FILES; f++)
        for (int32_t i = 0; i < source->files[f].count; i++)
            if (source->files[f].tokens[i].loop > most) most = source->files[f].tokens[i].loop;
    return most;
}

/* An atomic in a loop may wait for another thread, unless the loop ends by itself and the result is not looked at. */
static void raise_for_atomic(invar_source *source, const invar_item *item, int most) {
    const invar_file *file = &source->files[item->file];
    int loop = item->loose ? most : file->tokens[item->token].loop;
    if (item->loose) raise(source, INVAR_MODE_SIMD);
    if (loop == INVAR_LOOP_WAITING || (loop == INVAR_LOOP_COUNTED && !is_discarded(file, item)))
        raise(source, INVAR_MODE_GROUP);
}

static void raise_for_item(invar_source *source, const invar_item *item, int most) {
    switch (item->kind) {
    case INVAR_CALL_BARRIER: raise(source, INVAR_MODE_GROUP); break;
    case INVAR_CALL_SIMD: raise(source, INVAR_MODE_SIMD); break;
    case INVAR_CALL_ATOMIC: raise_for_atomic(source, item, most); break;
    default: raise(source, item->loose ? INVAR_MODE_SIMD : INVAR_MODE_LOOP);
    }
}

/* True when the macro whose #define begins at token `directive` is named elsewhere in the text. */
static bool is_macro_used(const invar_file *file, int32_t directive) {
    int32_t name = directive + 2;
    if (!invar_token_names(file, name)) return true;
    for (int32_t i = 0; i < file->count; i++)
        if (i != name && invar_token_same(file, i, file, name)) return true;
    return false;
}

/* CUDA: threadIdx in a function of the header is found by the fibre; in a macro that only the body uses it is the body's. */
static bool header_asks_position(const invar_source *source) {
    const invar_file *file = &source->files[INVAR_HEADER];
    int32_t last = -2; /* the macro that was looked at */
    if (invar_is_metal(source)) return false;
    for (int32_t i = 0; i < file->count; i++) {
        int32_t directive = file->tokens[i].directive;
        for (int32_t k = 0; k < invar_position_count; k++) {
            if (!(invar_position_names[k].dialect & INVAR_SHIM_CUDA) ||
                !invar_token_is(file, i, invar_position_names[k].name) || directive == last)
                continue;
            if (directive < 0 || is_macro_used(file, directive)) return true;
            last = directive;
        }
    }
    return false;
}

void invar_read_mode(invar_source *source) {
    source->mode = INVAR_MODE_FLAT;
    for (int32_t k = 0; k < invar_position_count; k++)
        if ((source->positions & 1u << k) && invar_position_names[k].apart) raise(source, INVAR_MODE_LOOP);
    if (source->storage_count || header_asks_position(source)) raise(source, INVAR_MODE_SIMD);
    int most = most_loop(source);
    for (int32_t k = 0; k < source->item_count; k++)
        if (source->items[k].callee < 0 && !source->items[k].text) raise_for_item(source, &source->items[k], most);
}
