/* What cannot be translated, each by its name and line. A name counts as the construct only where it can be nothing else,
 * since kernels name variables `sampler` and `ray`. */
#include "jit/source.h"

#include <string.h>

/* When a word is the construct. */
enum {
    ALWAYS = 0,
    TYPE,     /* a name or `<` follows, or `::` stands before */
    CALL,     /* `(` or `<` follows, and it is not declared here */
    SCOPE,    /* `::` follows */
    STATEMENT /* not behind `.`, `->` */
};

enum {
    BODY = 1 << 6,  /* in the body only */
    PREFIX = 1 << 7 /* the word is the beginning of names */
};

typedef struct refusal {
    const char *word;
    uint32_t dialect;
    uint8_t when;
    const char *reason;
} refusal;

static const char TEXTURES[] = "kernels read and write arrays only";
static const char TENSORS[] = "multiply with simdgroup_matrix or by hand";
static const char MATRICES[] = "multiply by hand";
static const char COPIES[] = "copy with loads and stores, and __syncthreads";
static const char GRIDS[] = "groups of a launch run in any order, so that none can wait for another: use two kernels";
static const char HEAP[] = "kernels do not allocate";
static const char EXCEPTIONS[] = "kernels have no exceptions";
static const char SHADERS[] = "only compute kernels are run";
static const char CLUSTERS[] = "blocks do not see each other's shared memory";
static const char LIBRARY[] = "it is not part of the CUDA that kernels are given";
static const char PRINTING[] = "store the value into an output";
static const char LAUNCHES[] = "a kernel cannot launch another";
static const char WHOLE[] = "give what stands between the kernel's braces, and its helper functions as the header";
static const char PTX[] = "inline PTX has no meaning on other machines";

static const refusal REFUSALS[] = {
    { "texture", INVAR_SHIM_METAL, TYPE | PREFIX, TEXTURES },
    { "depth2d", INVAR_SHIM_METAL, TYPE | PREFIX, TEXTURES },
    { "depthcube", INVAR_SHIM_METAL, TYPE | PREFIX, TEXTURES },
    { "sampler", INVAR_SHIM_METAL, TYPE, TEXTURES },
    { "imageblock", INVAR_SHIM_METAL, TYPE | PREFIX, TEXTURES },
    { "threadgroup_imageblock", INVAR_SHIM_METAL, ALWAYS, TEXTURES },
    { "visible_function_table", INVAR_SHIM_METAL, TYPE, "call functions by name" },
    { "intersection_function_table", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "intersector", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "raytracing", INVAR_SHIM_METAL, SCOPE, SHADERS },
    { "ray_data", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "object_data", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "vertex", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "fragment", INVAR_SHIM_METAL, TYPE, SHADERS },
    { "stage_in", INVAR_SHIM_METAL, ALWAYS, SHADERS },
    { "kernel", INVAR_SHIM_METAL, TYPE | BODY, WHOLE },
    { "function_constant", INVAR_SHIM_METAL, CALL, "pass the value as a template argument" },
    { "simdgroup_async_copy", INVAR_SHIM_METAL, CALL, "copy with loads and stores, and a barrier" },
    { "simdgroup_event", INVAR_SHIM_METAL, TYPE, "copy with loads and stores, and a barrier" },
    { "mpp", INVAR_SHIM_METAL, SCOPE, TENSORS },
    { "tensor_ops", INVAR_SHIM_METAL, SCOPE, TENSORS },
    { "tensor_inline", INVAR_SHIM_METAL, TYPE, TENSORS },
    { "cooperative_tensor", INVAR_SHIM_METAL, TYPE, TENSORS },
    { "os_log", INVAR_SHIM_METAL, TYPE | PREFIX, PRINTING },
    { "double", INVAR_SHIM_METAL, ALWAYS, "Metal has no 64-bit floating point" },
    { "goto", INVAR_SHIM_METAL, STATEMENT, "Metal has no goto" },
    { "virtual", INVAR_SHIM_METAL, STATEMENT, "Metal has no virtual functions" },
    { "asm", INVAR_SHIM_METAL, STATEMENT, PTX },
    { "__asm__", INVAR_SHIM_METAL, STATEMENT, PTX },

    { "__global__", INVAR_SHIM_CUDA, ALWAYS | BODY, WHOLE },
    { "asm", INVAR_SHIM_CUDA, STATEMENT, PTX },
    { "__asm", INVAR_SHIM_CUDA, STATEMENT, PTX },
    { "__asm__", INVAR_SHIM_CUDA, STATEMENT, PTX },
    { "wmma", INVAR_SHIM_CUDA, SCOPE, MATRICES },
    { "nvcuda", INVAR_SHIM_CUDA, STATEMENT, MATRICES },
    { "mma_sync", INVAR_SHIM_CUDA, CALL, MATRICES },
    { "load_matrix_sync", INVAR_SHIM_CUDA, CALL, MATRICES },
    { "store_matrix_sync", INVAR_SHIM_CUDA, CALL, MATRICES },
    { "fill_fragment", INVAR_SHIM_CUDA, CALL, MATRICES },
    { "memcpy_async", INVAR_SHIM_CUDA, CALL, COPIES },
    { "__pipeline_", INVAR_SHIM_CUDA, CALL | PREFIX, COPIES },
    { "cp_async", INVAR_SHIM_CUDA, CALL | PREFIX, COPIES },
    { "pipeline", INVAR_SHIM_CUDA, TYPE, COPIES },
    { "make_pipeline", INVAR_SHIM_CUDA, CALL, COPIES },
    { "__cvta_generic_to_shared", INVAR_SHIM_CUDA, CALL, PTX },
    { "this_multi_grid", INVAR_SHIM_CUDA, CALL, GRIDS },
    { "multi_grid_group", INVAR_SHIM_CUDA, TYPE, GRIDS },
    { "this_cluster", INVAR_SHIM_CUDA, CALL, CLUSTERS },
    { "cluster_group", INVAR_SHIM_CUDA, TYPE, CLUSTERS },
    { "__cluster_dims__", INVAR_SHIM_CUDA, ALWAYS, CLUSTERS },
    { "__cluster_", INVAR_SHIM_CUDA, CALL | PREFIX, CLUSTERS },
    { "tex1D", INVAR_SHIM_CUDA, CALL | PREFIX, TEXTURES },
    { "tex2D", INVAR_SHIM_CUDA, CALL | PREFIX, TEXTURES },
    { "tex3D", INVAR_SHIM_CUDA, CALL | PREFIX, TEXTURES },
    { "surf2D", INVAR_SHIM_CUDA, CALL | PREFIX, TEXTURES },
    { "cudaTextureObject_t", INVAR_SHIM_CUDA, TYPE, TEXTURES },
    { "cudaSurfaceObject_t", INVAR_SHIM_CUDA, TYPE, TEXTURES },
    { "cub", INVAR_SHIM_CUDA, SCOPE, LIBRARY },
    { "thrust", INVAR_SHIM_CUDA, SCOPE, LIBRARY },
    { "cutlass", INVAR_SHIM_CUDA, SCOPE, LIBRARY },
    { "cute", INVAR_SHIM_CUDA, SCOPE, LIBRARY },
    { "curand_init", INVAR_SHIM_CUDA, CALL, LIBRARY },
    { "__managed__", INVAR_SHIM_CUDA, ALWAYS, HEAP },
    { "malloc", INVAR_SHIM_CUDA, CALL, HEAP },
    { "free", INVAR_SHIM_CUDA, CALL, HEAP },
    { "cudaDeviceSynchronize", INVAR_SHIM_CUDA, CALL, LAUNCHES },
    { "cudaMalloc", INVAR_SHIM_CUDA, CALL, HEAP },
    { "cudaMemcpy", INVAR_SHIM_CUDA, CALL | PREFIX, COPIES },

    { "printf", INVAR_SHIM_ANY, CALL, PRINTING },
    { "new", INVAR_SHIM_ANY, STATEMENT, HEAP },
    { "delete", INVAR_SHIM_ANY, STATEMENT, HEAP },
    { "throw", INVAR_SHIM_ANY, STATEMENT, EXCEPTIONS },
    { "try", INVAR_SHIM_ANY, STATEMENT, EXCEPTIONS },
    { "catch", INVAR_SHIM_ANY, STATEMENT, EXCEPTIONS },
    { "dynamic_cast", INVAR_SHIM_ANY, STATEMENT, "kernels have no run-time type information" },
    { "typeid", INVAR_SHIM_ANY, STATEMENT, "kernels have no run-time type information" },
    { "thread_local", INVAR_SHIM_ANY, STATEMENT, "a variable in the kernel is each thread's own already" },
    { "co_await", INVAR_SHIM_ANY, STATEMENT, "kernels have no coroutines" },
    { "co_yield", INVAR_SHIM_ANY, STATEMENT, "kernels have no coroutines" },
};

static bool stands_as(const invar_file *file, int32_t i, int when) {
    static const char *const before_calls[] = { "return", "else", "do", "case", NULL };
    bool name_follows = invar_token_names(file, i + 1), angle = invar_token_is(file, i + 1, "<");
    switch (when) {
    case ALWAYS: return true;
    case TYPE:
        if (invar_token_is_member(file, i)) return false;
        return (name_follows && file->tokens[i + 1].directive == file->tokens[i].directive) ||
               (angle && invar_after_angles(file, i + 1) > 0) ||
               (invar_token_is(file, i - 1, "::") && !invar_token_is(file, i + 1, "("));
    case CALL:
        if (invar_token_is_member(file, i)) return false;
        if (invar_token_names(file, i - 1) && !invar_token_is_one_of(file, i - 1, before_calls)) return false;
        return invar_token_is(file, i + 1, "(") || (angle && invar_after_angles(file, i + 1) > 0);
    case SCOPE: return invar_token_is(file, i + 1, "::") && !invar_token_is_member(file, i);
    default:
        if (invar_token_is_member(file, i)) return false;
        return !(invar_token_is(file, i - 1, "=") && invar_token_is(file, i, "delete")); /* a deleted function */
    }
}

static bool matches(const invar_file *file, int32_t i, const refusal *entry) {
    if (!(entry->when & PREFIX)) return invar_token_is(file, i, entry->word);
    size_t length = strlen(entry->word);
    return file->tokens[i].length >= length && !memcmp(file->text + file->tokens[i].start, entry->word, length);
}

/* Grid-wide sync: this_grid().sync(), and sync of a variable that was made from this_grid(). */
static bool is_grid_variable(const invar_file *file, int32_t i) {
    enum { FARTHEST = 4096 };
    for (int32_t k = i - 1; k > 0 && k > i - FARTHEST; k--) {
        if (!invar_token_same(file, k, file, i) || invar_token_is_member(file, k)) continue;
        if (invar_token_is(file, k - 1, "grid_group")) return true;
        if (!invar_token_is(file, k + 1, "=")) continue;
        for (int32_t n = k + 2; n < k + 6; n++)
            if (invar_token_is(file, n, "this_grid")) return true;
        return false;
    }
    return false;
}

static bool is_grid_sync(const invar_file *file, int32_t i) {
    enum { QUALIFIED = 3 };
    if (!invar_token_is(file, i, "sync") || !invar_token_is(file, i + 1, "(")) return false;
    if (!invar_token_is_member(file, i)) { /* sync(grid), sync(cg::this_grid()) */
        for (int32_t k = i + 2; k < i + 2 + QUALIFIED; k++)
            if (invar_token_is(file, k, "this_grid")) return true;
        return invar_token_names(file, i + 2) && invar_token_is(file, i + 3, ")") && is_grid_variable(file, i + 2);
    }
    if (invar_token_is(file, i - 2, ")") && invar_token_is(file, i - 3, "(")) return invar_token_is(file, i - 4, "this_grid");
    return invar_token_names(file, i - 2) && is_grid_variable(file, i - 2);
}

invar_status invar_read_refusals(const invar_source *source, int32_t which) {
    const invar_file *file = &source->files[which];
    static const char *const no_code[] = { "include", "pragma", "error", NULL };
    uint32_t dialect = invar_dialect_bit(source);
    for (int32_t i = 0; i < file->count; i++) {
        const invar_token *token = &file->tokens[i];
        if (invar_token_is(file, i, "<") && invar_token_is(file, i + 1, "<") && invar_token_is(file, i + 2, "<"))
            return invar_source_fail(source, which, token->line, "<<< cannot be translated: %s", LAUNCHES);
        if (token->kind != INVAR_TOKEN_NAME) continue;
        if (token->directive >= 0 && invar_token_is_one_of(file, token->directive + 1, no_code)) continue;
        if (dialect == INVAR_SHIM_CUDA && is_grid_sync(file, i))
            return invar_source_fail(source, which, token->line, "grid-wide sync cannot be translated: %s", GRIDS);
        for (size_t k = 0; k < sizeof REFUSALS / sizeof *REFUSALS; k++) {
            const refusal *entry = &REFUSALS[k];
            if (!(entry->dialect & dialect) || ((entry->when & BODY) && which != INVAR_BODY)) continue;
            if (!matches(file, i, entry) || !stands_as(file, i, entry->when & ~(PREFIX | BODY))) continue;
            return invar_source_fail(source, which, token->line, "%.*s cannot be translated: %s", (int)token->length,
                                     file->text + token->start, entry->reason);
        }
    }
    return INVAR_OK;
}
