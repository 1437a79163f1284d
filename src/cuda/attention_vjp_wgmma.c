/* scaled_dot_product_attention_vjp on Hopper's asynchronous products: which calls, and the specialisations of
 * device/attention_vjp_wgmma.cu. */
#include "cuda/attention_vjp_wgmma.h"

#include <stdio.h>

enum {
    THREADS = 128,       /* of a warpgroup */
    CONSUMERS = 2,       /* warpgroups of 64 rows in a block, beside the one that loads; */
    ALIGNMENT = 1024,    /* bytes that its tiles are aligned to */
    MOST_SOFTCAP = 256
};

typedef struct wgmma_words {
    int type, key_dim, value_dim, by_keys, copies, mask, softcap; /* as attention_vjp_wgmma.cu tells */
} wgmma_words;

/* Far rows a tile: of features, and of there being a mask array or a softcap, since bits depend on it. Registers hold a strip of them
 * and of both gradients, with a softcap weights too; shared memory the mask's tiles. */
static int columns_of(const wgmma_words *w) {
    const bool wide = w->key_dim > 64 || w->value_dim > 64;
    if (!w->by_keys) return w->mask >= 0 && wide ? 64 : 128;
    return wide && w->softcap ? 48 : wide || w->softcap || w->mask >= 0 ? 64 : 128;
}

static unsigned shared_of(const wgmma_words *w, int stages) {
    const int near = 64 * CONSUMERS, far = stages * columns_of(w);
    return ALIGNMENT + 2 * (unsigned)((near + far) * (w->key_dim + w->value_dim) + (w->mask >= 0 ? far * near : 0));
}

static int stages_of(const wgmma_words *w) {
    const int features = w->key_dim + w->value_dim;
    if (!w->by_keys && (w->mask >= 0 ? features == 128 : features > 128)) return 2;
    return w->mask >= 0 && features > 192 ? 3 : 4;
}

static void write_words(char defines[INVAR_CUDA_DEFINES], const wgmma_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DTYPE=%s -DKDIM=%d -DVDIM=%d -DBY_KEYS=%d -DFAR=%d -DCONSUMERS=%d -DSTAGES=%d -DCOPIES=%d -DMASK_KIND=%d "
             "-DSOFTCAP=%d", w->type == INVAR_F16 ? "half16" : "bfloat16", w->key_dim, w->value_dim, w->by_keys,
             columns_of(w), CONSUMERS, stages_of(w), w->copies, w->mask, w->softcap);
}

bool invar_cuda_attention_vjp_wgmma_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1, BOOL = INVAR_CUDA_BOOL };
    static const wgmma_words words[] = {
        { BF16, 128, 128, 0, 1, NONE, 0 },          { F16, 128, 128, 1, 1, NONE, 0 },
        { BF16, 128, 128, 1, 0, NONE, 0 },          { F16, 64, 64, 1, 1, NONE, 0 },
        { F16, 128, 64, 0, 0, NONE, 0 },            { BF16, 64, 64, 1, 1, NONE, 0 },
        { F16, 128, 128, 0, 1, NONE, 0 },           { F16, 128, 128, 0, 1, NONE, 1 },
        { BF16, 128, 128, 1, 1, NONE, 1 },          { BF16, 128, 128, 1, 1, INVAR_CUDA_BF16, 0 },
        { F16, 128, 128, 1, 0, BOOL, 1 },           { F16, 128, 128, 1, 1, BOOL, 0 },
        { BF16, 128, 128, 0, 1, INVAR_CUDA_BF16, 1 }, { F16, 64, 64, 1, 1, INVAR_CUDA_F16, 1 },
        { F16, 64, 128, 1, 1, NONE, 1 },
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
    if (call->type == INVAR_F32) return "float32 has no matrix units";
    if (mask >= 0 && mask != INVAR_CUDA_BOOL && mask != INVAR_CUDA_F16 && mask != INVAR_CUDA_BF16)
        return "the asynchronous products' program takes no mask of integers";
    if (call->softcap > MOST_SOFTCAP) return "the asynchronous products' program takes a softcap of at most 256";
    if (most <= 32 || most > INVAR_CUDA_VJP_WIDE) return "the asynchronous products' program takes heads of 33 to 128 features";
    if (call->query_len <= 64 || call->key_len <= 64) return "the asynchronous products' program takes more than 64 queries and keys";
    return NULL;
}

void invar_cuda_attention_vjp_cut_wgmma(invar_cuda_vjp_pass *p, const invar_attention_call *call, const invar_cuda_attention *of,
                                        bool copied, bool by_keys) {
    const int mask = call->mask.data ? of->mask.kind : -1;
    const wgmma_words w = { (int)call->type, call->key_dim > 64 ? 128 : 64, call->value_dim > 64 ? 128 : 64, by_keys, copied, mask,
                            call->softcap > 0 };
    p->source = &invar_cuda_attention_vjp_wgmma;
    p->rows = 64 * CONSUMERS;
    p->slabs = 1;
    p->threads = THREADS * (1 + CONSUMERS);
    p->shared = shared_of(&w, stages_of(&w));
    write_words(p->defines, &w);
}
