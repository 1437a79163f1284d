/* scaled_dot_product_attention_vjp of float32 on Hopper's asynchronous products: which calls, and the specialisations of
 * device/attention_vjp_parts.cu. */
#include "cuda/attention_vjp_parts.h"

#include "cuda/attention.h"

#include <stdio.h>

enum {
    THREADS = 128,    /* of a warpgroup */
    CONSUMERS = 2,    /* warpgroups of 64 rows in a block, beside the one that loads; */
    ALIGNMENT = 1024, /* bytes that its matrices are aligned to */
    SLOTS = 3,        /* matrices */
    PART_BYTES = 6    /* of a number */
};

typedef struct parts_words {
    int key_dim, value_dim, by_keys, vector; /* as attention_vjp_parts.cu tells */
} parts_words;

/* Far rows a tile: of features, since bits depend on it. */
static int columns_of(const parts_words *w) { return w->key_dim > 64 || w->value_dim > 64 ? 32 : 64; }

static unsigned shared_of(const parts_words *w) {
    const int wider = w->key_dim > w->value_dim ? w->key_dim : w->value_dim;
    return ALIGNMENT + (unsigned)(SLOTS * columns_of(w) * wider * PART_BYTES +
                                  64 * CONSUMERS * (w->key_dim + 8 + w->value_dim + 8) * (int)sizeof(float));
}

static void write_words(char defines[INVAR_CUDA_DEFINES], const parts_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DKDIM=%d -DVDIM=%d -DBY_KEYS=%d -DFAR=%d -DSLOTS=%d -DVECTOR=%d", w->key_dim, w->value_dim,
             w->by_keys, columns_of(w), SLOTS, w->vector);
}

bool invar_cuda_attention_vjp_parts_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const parts_words words[] = {
        { 128, 128, 0, 1 }, { 128, 128, 1, 1 }, { 64, 64, 1, 1 }, { 64, 64, 0, 0 }, { 128, 128, 1, 0 },
    };
    bool has;
    if (i >= (int)(sizeof words / sizeof *words) || invar_cuda_find_wgmma(&has, major, minor, "attention") != INVAR_OK || !has)
        return false;
    write_words(defines, &words[i]);
    return true;
}

const char *invar_cuda_attention_vjp_against_parts(const invar_attention_call *call) {
    const int64_t most = call->key_dim > call->value_dim ? call->key_dim : call->value_dim;
    if (call->mask.data) return "in float32 the asynchronous products' program takes no mask array";
    if (call->softcap > 0) return "in float32 the asynchronous products' program takes no softcap";
    if (most <= 32 || most > INVAR_CUDA_VJP_WIDE) return "the asynchronous products' program takes heads of 33 to 128 features";
    if (call->query_len <= 64 || call->key_len <= 64) return "the asynchronous products' program takes more than 64 queries and keys";
    return NULL;
}

void invar_cuda_attention_vjp_cut_parts(invar_cuda_vjp_pass *p, const invar_attention_call *call, bool vector, bool by_keys) {
    const parts_words w = { call->key_dim > 64 ? 128 : 64, call->value_dim > 64 ? 128 : 64, by_keys, vector };
    p->source = &invar_cuda_attention_vjp_parts;
    p->rows = 64 * CONSUMERS;
    p->slabs = 1;
    p->threads = THREADS * (1 + CONSUMERS);
    p->shared = shared_of(&w);
    write_words(p->defines, &w);
}
