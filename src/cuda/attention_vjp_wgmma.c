/* scaled_dot_product_attention_vjp on Hopper's asynchronous products: which calls, and the specialisations of
 * device/attention_vjp_wgmma.cu. */
#include "cuda/attention_vjp_wgmma.h"

#include "cuda/attention.h"

#include <stdio.h>

enum {
    THREADS = 128,       /* of a warpgroup */
    CONSUMERS = 2,       /* warpgroups of 64 rows in a block, beside the one that loads; */
    ALIGNMENT = 1024,    /* bytes that its tiles are aligned to */
    MOST_SOFTCAP = 256,
    MOST_DIM = 256       /* features */
};

typedef struct wgmma_words {
    int type, key_dim, value_dim, by_keys, first, second, copies, mask, softcap; /* as attention_vjp_wgmma.cu tells */
} wgmma_words;

/* Registers hold one such gradient. */
static bool is_wide(const wgmma_words *w) { return w->key_dim > INVAR_CUDA_VJP_WIDE || w->value_dim > INVAR_CUDA_VJP_WIDE; }

/* Far rows a tile: of features, and of there being a mask array or a softcap, since bits depend on it. Registers hold a strip of them
 * and the gradients, with a softcap weights too; shared memory the mask's tiles. */
static int columns_of(const wgmma_words *w) {
    const bool wide = w->key_dim > 64 || w->value_dim > 64;
    if (is_wide(w)) return w->softcap ? 48 : 64;
    if (!w->by_keys) return w->mask >= 0 && wide ? 64 : 128;
    return wide && w->softcap ? 48 : wide || w->softcap || w->mask >= 0 ? 64 : 128;
}

typedef struct wgmma_stages {
    int k, v;
} wgmma_stages;

/* Tiles of the rings that shared memory has room for. */
static wgmma_stages stages_of(const wgmma_words *w) {
    const int features = w->key_dim + w->value_dim;
    int stages = w->mask >= 0 && features > 192 ? 3 : 4;
    if (is_wide(w)) stages = features > 320 ? 2 : 3;
    else if (!w->by_keys && (w->mask >= 0 ? features == 128 : features > 128)) stages = 2;
    return (wgmma_stages){ stages, w->first && features > 448 && !w->softcap ? 1 : stages };
}

static unsigned shared_of(const wgmma_words *w) {
    const int near = 64 * CONSUMERS, far = columns_of(w);
    const wgmma_stages stages = stages_of(w);
    return ALIGNMENT + 2 * (unsigned)((near + stages.k * far) * w->key_dim + ((w->first ? near : 0) + stages.v * far) * w->value_dim +
                                      (w->mask >= 0 ? stages.k * far * near : 0));
}

static void write_words(char defines[INVAR_CUDA_DEFINES], const wgmma_words *w) {
    const wgmma_stages stages = stages_of(w);
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DTYPE=%s -DKDIM=%d -DVDIM=%d -DBY_KEYS=%d -DFIRST=%d -DSECOND=%d -DFAR=%d -DCONSUMERS=%d -DSTAGES=%d -DV_STAGES=%d "
             "-DCOPIES=%d -DMASK_KIND=%d -DSOFTCAP=%d", w->type == INVAR_F16 ? "half16" : "bfloat16", w->key_dim, w->value_dim,
             w->by_keys, w->first, w->second, columns_of(w), CONSUMERS, stages.k, stages.v, w->copies, w->mask, w->softcap);
}

bool invar_cuda_attention_vjp_wgmma_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1, BOOL = INVAR_CUDA_BOOL };
    static const wgmma_words words[] = {
        { BF16, 128, 128, 0, 1, 0, 1, NONE, 0 },            { F16, 128, 128, 1, 1, 1, 1, NONE, 0 },
        { BF16, 128, 128, 1, 1, 1, 0, NONE, 0 },            { F16, 64, 64, 1, 1, 1, 1, NONE, 0 },
        { F16, 128, 64, 0, 1, 0, 0, NONE, 0 },              { BF16, 64, 64, 1, 1, 1, 1, NONE, 0 },
        { F16, 128, 128, 0, 1, 0, 1, NONE, 0 },             { F16, 128, 128, 0, 1, 0, 1, NONE, 1 },
        { BF16, 128, 128, 1, 1, 1, 1, NONE, 1 },            { BF16, 128, 128, 1, 1, 1, 1, INVAR_CUDA_BF16, 0 },
        { F16, 128, 128, 1, 1, 1, 0, BOOL, 1 },             { F16, 128, 128, 1, 1, 1, 1, BOOL, 0 },
        { BF16, 128, 128, 0, 1, 0, 1, INVAR_CUDA_BF16, 1 }, { F16, 64, 64, 1, 1, 1, 1, INVAR_CUDA_F16, 1 },
        { F16, 64, 128, 1, 1, 1, 1, NONE, 1 },              { BF16, 256, 256, 0, 1, 0, 1, NONE, 0 },
        { F16, 256, 256, 1, 1, 0, 1, NONE, 0 },             { BF16, 256, 256, 1, 0, 1, 0, NONE, 0 },
        { F16, 256, 256, 1, 1, 0, 0, NONE, 1 },             { F16, 192, 128, 1, 1, 0, 1, NONE, 0 },
    };
    bool has;
    if (i >= (int)(sizeof words / sizeof *words) || invar_cuda_find_wgmma(&has, major, minor, "attention") != INVAR_OK || !has)
        return false;
    write_words(defines, &words[i]);
    return true;
}

/* No stride decides this: either program has bits of its own. A softcap's tanh is off by 2^-22 of 1 there, and so many times that are
 * added to a logit. A mask of integers is wider than what is added. */
const char *invar_cuda_attention_vjp_against_wgmma(const invar_attention_call *call, int mask) {
    const int64_t most = call->key_dim > call->value_dim ? call->key_dim : call->value_dim;
    if (mask >= 0 && mask != INVAR_CUDA_BOOL && mask != INVAR_CUDA_F16 && mask != INVAR_CUDA_BF16)
        return "the asynchronous products' program takes no mask of integers";
    if (call->softcap > MOST_SOFTCAP) return "the asynchronous products' program takes a softcap of at most 256";
    if (most <= 32 || most > MOST_DIM) return "the asynchronous products' program takes heads of 33 to 256 features";
    if (mask >= 0 && most > INVAR_CUDA_VJP_WIDE)
        return "the asynchronous products' program takes mask arrays with heads of at most 128 features";
    if (call->query_len <= 64 || call->key_len <= 64) return "the asynchronous products' program takes more than 64 queries and keys";
    return NULL;
}

static int padded(int64_t features) { return (int)(features <= 64 ? 64 : (features + 63) / 64 * 64); }

static void cut(invar_cuda_vjp_pass *p, const wgmma_words *w) {
    p->source = &invar_cuda_attention_vjp_wgmma;
    p->rows = 64 * CONSUMERS;
    p->slabs = 1;
    p->threads = THREADS * (1 + CONSUMERS);
    p->shared = shared_of(w);
    write_words(p->defines, w);
}

int invar_cuda_attention_vjp_cut_wgmma(invar_cuda_vjp_pass *query, invar_cuda_vjp_pass keys[2], const invar_attention_vjp_call *call,
                                       int mask, bool copied) {
    const invar_attention_call *forward = &call->forward;
    wgmma_words w = { (int)forward->type, padded(forward->key_dim), padded(forward->value_dim), 0, 1, 0, copied, mask,
                      forward->softcap > 0 };
    const bool dk = call->dk.data, dv = call->dv.data;
    int passes = 0;
    cut(query, &w);
    w.by_keys = w.second = 1;
    if (!is_wide(&w)) {
        cut(keys, &w);
        return dk || dv;
    }
    w.second = 0;
    if (dk) cut(&keys[passes++], &w);
    w.first = 0, w.second = 1;
    if (dv) cut(&keys[passes++], &w);
    return passes;
}
