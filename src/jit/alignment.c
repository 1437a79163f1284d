/* The alignment of arrays that a kernel's text takes for granted. On a GPU every array begins on a wide boundary; here it may
 * begin at any element, and a compiler that is told of a float4 at such an address makes an instruction that faults there. */
#include "jit/source.h"

enum { VECTOR = 16, WIDEST = 64 }; /* bytes: a vector of 32-bit elements; anything that a user may ask for */

/* Token i, a * or a &, ends the name of a type: of a cast, of a template argument, or of an alias. */
static bool ends_pointer_type(const invar_file *file, int32_t i) {
    static const char *const qualifiers[] = { "const", "volatile", "restrict", "__restrict", "__restrict__", NULL };
    if (!invar_token_is_any(file, i, "*&")) return false;
    while (invar_token_is_one_of(file, ++i, qualifiers)) continue;
    return invar_token_is_any(file, i, ")>;");
}

/* What token i asks for: a pointer that is cast may become one to a vector; alignas(32) and Metal's long4 say more. */
static int32_t asked_by(const invar_file *file, int32_t i) {
    static const char *const attributes[] = { "alignas", "__align__", "__builtin_align__", "aligned", "__aligned__", NULL };
    static const char *const wide[] = { "long3", "long4", "ulong3", "ulong4", NULL };
    static const char *const narrow[] = { "1", "2", "4", "8", "16", NULL };
    static const char *const vectors[] = { "typedef", "unsafe_load_vector", "unsafe_store_vector", NULL };
    if (invar_token_is_one_of(file, i, wide)) return WIDEST;
    if (invar_token_is_one_of(file, i, attributes)) return invar_token_is_one_of(file, i + 2, narrow) ? VECTOR : WIDEST;
    return ends_pointer_type(file, i) || invar_token_is_one_of(file, i, vectors) ? VECTOR : 1;
}

int32_t invar_source_alignment(const invar_source *source) {
    int32_t alignment = 1;
    for (int32_t f = 0; f < INVAR_FILES; f++)
        for (int32_t i = 0; i < source->files[f].count; i++) {
            int32_t asked = asked_by(&source->files[f], i);
            if (asked > alignment) alignment = asked;
        }
    return alignment;
}
