/* scaled_dot_product_attention_vjp on CUDA devices: its programs and their launches.
 *
 * First lse and delta of each query row, then what is asked for: dq by tiles of queries, dk and dv by tiles of keys, dmask by tiles
 * of its elements, dsinks by heads. No block depends on another, and what a row is added up from, and in which order, follows head
 * sizes and types alone, so a batch's bits depend on nothing that rides along. */
#include "cuda/attention_vjp.h"

#include "core/context.h"
#include "cuda/attention.h"
#include "cuda/attention_vjp_parts.h"
#include "cuda/device/attention_vjp_job.h"
#include "cuda/mask_rows.h"

#include <stdio.h>

enum {
    THREADS = 128,
    DELTA_ROWS = 4,          /* query rows a block */
    MASK_KEYS = 32,          /* of a tile of dmask */
    MASK_ROWS = 64,          /* queries and keys of one on matrix units; */
    MASK_DEPTH = 64,         /* features of them in shared memory */
    SINK_THREADS = 256,
    LEAST_BLOCKS = 128,      /* of a batch, below which those in float32 have fewer warps */
    WIDE_ROWS = 64,          /* of a block of attention_vjp_float_wide.cu; its threads, */
    WIDE_THREADS = 256,
    WIDE_DEPTH = 64,         /* features at once, */
    WIDE_CHUNKS = 8,         /* times that of a gradient */
    WIDE = INVAR_CUDA_VJP_WIDE, /* features beyond which registers hold the sums of one gradient and one strip */
    STATIC_SHARED = 1024,    /* at most, of a half program's block, */
    SHARERS_STATIC = 8192,   /* and of one whose warps share rows */
    WARPS = 8,               /* of such a block */
    HALF_SHIFT = 12,         /* float16's weights are computed as 2^12 times what they are: below 2^-14 it has few digits */
    SECTION_BYTES = 16 << 20, /* of far rows: of heads whose tiles, of unlike lengths, take turns; part of the L2 cache */
    SLAB = 256,              /* features that a block forms of a gradient, at most */
    MOST_DIM = 1024,         /* features */
    MOST_BATCHES = 0x7fffffff,
    MOST_BLOCKS = 0x7fffffff /* of a grid */
};

typedef struct cut {
    char delta_defines[INVAR_CUDA_DEFINES];
    invar_cuda_vjp_pass query, keys[2], mask; /* keys[1]: dv, where it has a launch of its own */
    int key_passes;
    invar_cuda_vjp_pass again[2]; /* of queries, of keys: rows that those, through parts of float32, leave */
    const char *against; /* Hopper's asynchronous products, or NULL */
    bool aligns;         /* the mask is copied first, into scratch from mask_at on */
    invar_cuda_mask_rows_job mask_rows;
    size_t again_at, mask_at, workspace; /* bytes; again_at: where flags of rows are, of queries, then of keys */
} cut;

/* ---- specialisations --------------------------------------------------------------------------------- */

typedef struct half_words {
    int type; /* an invar_float_type */
    int key_dim, value_dim, by_keys, first, second, warps, strips, copies, mask, softcap, shares; /* as attention_vjp_half.cu tells */
} half_words;

/* Slabs of a gradient, alike in width: of so many padded features. */
static int slabs_of(int dim) { return (dim + SLAB - 1) / SLAB; }

/* Features in shared memory: whole slabs. */
static int padded_of(int64_t features) {
    const int dim = invar_cuda_padded(features), slabs = slabs_of(dim);
    return slabs == 1 ? dim : slabs * ((dim / slabs + 31) / 32 * 32);
}

static bool is_wide(const half_words *w) { return w->key_dim > WIDE || w->value_dim > WIDE; }

/* Far rows a tile: of features alone, since bits depend on it. */
static int columns_of(const half_words *w) { return is_wide(w) ? 16 : 32; }

static void write_half(char defines[INVAR_CUDA_DEFINES], const half_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DTYPE=%s -DKDIM=%d -DVDIM=%d -DKSLAB=%d -DVSLAB=%d -DBY_KEYS=%d -DFIRST=%d -DSECOND=%d -DWARPS=%d -DSTRIPS=%d "
             "-DCOLUMNS=%d -DCOPIES=%d -DSHARES=%d -DRESIDENT=%d -DMASK_KIND=%d -DSOFTCAP=%d",
             w->type == INVAR_F16 ? "half16" : "bfloat16", w->key_dim, w->value_dim, w->key_dim / slabs_of(w->key_dim),
             w->value_dim / slabs_of(w->value_dim), w->by_keys, w->first, w->second, w->warps, w->strips, columns_of(w), w->copies,
             w->shares, w->shares > 1 ? 1 : 2, w->mask, w->softcap);
}

/* Two strips of 16 rows a warp take each far row from shared memory half as often, where the registers suffice, which depends on the
 * compiler's target by a few. */
static int most_strips(const half_words *w, int major) {
    if (!w->copies || w->mask >= 0 || w->softcap || is_wide(w)) return 1;
    const int sums = w->by_keys ? w->key_dim + w->value_dim : w->key_dim;
    const bool many = w->by_keys ? major == 9 && w->type == INVAR_BF16 : major <= 9; /* float16's powers of two take some */
    return sums <= (many ? 128 : 64) ? 2 : 1;
}

static unsigned half_shared(const half_words *w) {
    const int k = w->key_dim + 8, v = w->value_dim + 8, far = columns_of(w) * (w->shares > 1 ? w->shares : 2);
    return 2 * (unsigned)(16 * w->warps * w->strips * (k + (w->first ? v : 0)) + far * (k + v));
}

typedef struct float_words {
    int dim, by_keys, vector, mask, softcap, warps, rows, lanes, far; /* as attention_vjp_float.cu tells */
} float_words;

static int float_rows(const float_words *w) { return w->warps * w->rows * 32 / w->lanes; }

static unsigned float_shared(const float_words *w) {
    const int rows = float_rows(w);
    return (unsigned)sizeof(float) * (unsigned)(2 * (rows + w->far) * (w->dim + 4) + rows * (w->far + 8) +
                                                2 * (w->by_keys ? w->far : rows));
}

/* Rows as registers and shared memory allow; a warp's are its own, and none of this moves a bit. Two blocks of narrow heads fit a
 * multiprocessor, which wait in turns. */
static void choose_float_tile(float_words *w, int major, int shared_most) {
    const bool plain = w->vector && w->mask < 0 && !w->softcap, narrow = w->dim == 64;
    w->warps = narrow ? 4 : 8;
    w->rows = w->dim == SLAB || (w->dim == 128 && w->by_keys && !plain) ? 4 : 8;
    w->lanes = narrow && !w->by_keys && plain && major < 10 ? 8 : 16;
    w->far = w->lanes == 8 ? 32 : narrow ? 64 : w->dim == 128 ? 48 : 32;
    while ((int)float_shared(w) > shared_most)
        if (w->warps > 2) w->warps /= 2;
        else w->far /= 2;
}

static void write_float(char defines[INVAR_CUDA_DEFINES], const float_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DDIM=%d -DBY_KEYS=%d -DSECOND=%d -DWARPS=%d -DROWS=%d -DLANES=%d -DFAR=%d -DRESIDENT=%d -DVECTOR=%d -DMASK_KIND=%d "
             "-DSOFTCAP=%d", w->dim, w->by_keys, w->by_keys, w->warps, w->rows, w->lanes, w->far, w->dim == 64 ? 2 : 1, w->vector,
             w->mask, w->softcap);
}

typedef struct wide_words {
    int by_keys, values, chunks, vector, mask, softcap; /* as attention_vjp_float_wide.cu tells */
} wide_words;

static void write_wide(char defines[INVAR_CUDA_DEFINES], const wide_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DBY_KEYS=%d -DVALUES=%d -DCHUNKS=%d -DVECTOR=%d -DMASK_KIND=%d -DSOFTCAP=%d", w->by_keys,
             w->values, w->chunks, w->vector, w->mask, w->softcap);
}

static void write_mask(char defines[INVAR_CUDA_DEFINES], int dim, int wide, int mask, int softcap) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DDIM=%d -DWIDE=%d -DMASK_KIND=%d -DSOFTCAP=%d", dim, wide, mask, softcap);
}

/* Every tile with the widest heads it serves, and each branch once. */
bool invar_cuda_attention_vjp_half_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1 };
    static const half_words words[] = {
        { BF16, 128, 128, 0, 1, 0, 4, 2, 1, NONE, 0, 1 },           { F16, 128, 128, 0, 1, 0, 4, 2, 1, NONE, 0, 1 },
        { F16, 128, 128, 1, 1, 1, 4, 1, 0, INVAR_CUDA_BF16, 1, 1 }, { BF16, 64, 64, 1, 1, 1, 4, 2, 1, NONE, 0, 1 },
        { F16, 256, 256, 0, 1, 0, 4, 1, 0, INVAR_CUDA_BOOL, 1, 1 }, { BF16, 128, 128, 1, 1, 1, 4, 1, 1, NONE, 0, 1 },
        { BF16, 256, 256, 1, 0, 1, 2, 1, 1, NONE, 0, 1 },           { F16, 32, 32, 1, 1, 1, 4, 2, 1, NONE, 0, 1 },
        { F16, 1024, 512, 1, 1, 0, 4, 1, 0, INVAR_CUDA_F16, 1, 1 }, { BF16, 512, 512, 0, 1, 0, 4, 1, 1, NONE, 0, 2 },
        { F16, 576, 512, 1, 1, 0, 2, 1, 0, INVAR_CUDA_F16, 1, 3 },
    };
    half_words chosen;
    (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    chosen = words[i];
    if (chosen.strips > most_strips(&chosen, major)) chosen.strips = 1;
    write_half(defines, &chosen);
    return true;
}

bool invar_cuda_attention_vjp_float_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const float_words words[] = {
        { .dim = 64, .by_keys = 1, .vector = 1, .mask = -1 },
        { .dim = 64, .vector = 1, .mask = -1 },
        { .dim = 128, .vector = 1, .mask = -1, .softcap = 1 },
        { .dim = 128, .by_keys = 1, .mask = INVAR_CUDA_BF16 },
        { .dim = 256, .by_keys = 1, .mask = INVAR_CUDA_I64 },
    };
    float_words chosen;
    (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    chosen = words[i];
    choose_float_tile(&chosen, major, major == 8 ? 163 * 1024 : major < 12 ? 227 * 1024 : 99 * 1024);
    write_float(defines, &chosen);
    return true;
}

bool invar_cuda_attention_vjp_float_wide_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const wide_words words[] = {
        { 0, 0, 8, 1, -1, 0 }, { 1, 0, 8, 0, INVAR_CUDA_BF16, 1 }, { 1, 1, 8, 1, -1, 0 }, { 0, 0, 6, 0, INVAR_CUDA_BOOL, 0 },
    };
    (void)major, (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    write_wide(defines, &words[i]);
    return true;
}

bool invar_cuda_attention_vjp_mask_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const int words[][4] = { { 128, 0, INVAR_CUDA_BF16, 0 }, { 256, 0, INVAR_CUDA_F16, 1 }, { 256, 1, INVAR_CUDA_F32, 0 } };
    (void)major, (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    write_mask(defines, words[i][0], words[i][1], words[i][2], words[i][3]);
    return true;
}

static void write_mask_half(char defines[INVAR_CUDA_DEFINES], int type, int copies, int mask, int softcap) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DTYPE=%s -DCOPIES=%d -DMASK_KIND=%d -DSOFTCAP=%d",
             type == INVAR_F16 ? "half16" : "bfloat16", copies, mask, softcap);
}

bool invar_cuda_attention_vjp_mask_half_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const int words[][4] = { { INVAR_BF16, 1, INVAR_CUDA_BF16, 0 }, { INVAR_F16, 0, INVAR_CUDA_F16, 1 } };
    (void)major, (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    write_mask_half(defines, words[i][0], words[i][1], words[i][2], words[i][3]);
    return true;
}

static void write_delta(char defines[INVAR_CUDA_DEFINES], int mask) {
    snprintf(defines, INVAR_CUDA_DEFINES, "-DMASK_KIND=%d -DSOFTCAP=0", mask);
}

bool invar_cuda_attention_vjp_delta_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const int masks[] = { -1, INVAR_CUDA_F32 };
    (void)major, (void)minor;
    if (i >= (int)(sizeof masks / sizeof *masks)) return false;
    write_delta(defines, masks[i]);
    return true;
}

bool invar_cuda_attention_vjp_sinks_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    *defines = 0;
    return i == 0;
}

/* ---- how it is cut ------------------------------------------------------------------------------------ */

static int64_t tiles_of(int64_t rows, int each) { return (rows + each - 1) / each; }

/* Warps that share rows, a slab each, compute a score once. Where that leaves a block few warps they do not. */
static bool cut_shared(half_words *w, int slabs, const invar_cuda_device *device) {
    w->shares = slabs;
    w->warps = WARPS / slabs;
    while ((int)half_shared(w) > device->shared_most - SHARERS_STATIC && w->warps > 1) w->warps /= 2;
    return slabs > 1 && w->warps * slabs > 2 && (int)half_shared(w) <= device->shared_most - SHARERS_STATIC;
}

static void cut_half(invar_cuda_vjp_pass *p, const half_words *like, const invar_cuda_device *device) {
    half_words w = *like;
    const int slabs = slabs_of(w.first ? w.key_dim : w.value_dim);
    const bool shared = cut_shared(&w, slabs, device);
    if (!shared) {
        w.shares = 1;
        w.warps = 4;
        w.strips = most_strips(&w, device->major);
        /* neither moves a bit: a warp's rows are its own */
        while ((int)half_shared(&w) > device->shared_most - STATIC_SHARED && w.strips * w.warps > 1)
            if (w.strips > 1) w.strips = 1;
            else w.warps /= 2;
    }
    p->source = &invar_cuda_attention_vjp_half;
    p->rows = 16 * w.warps * w.strips;
    p->slabs = shared ? 1 : slabs;
    p->threads = 32 * (unsigned)(w.warps * w.shares);
    p->shared = half_shared(&w);
    write_half(p->defines, &w);
}

static bool all_copied(const invar_attention_vjp_call *call) {
    const invar_attention_call *forward = &call->forward;
    return invar_cuda_copies(forward, &forward->q, forward->key_dim) && invar_cuda_copies(forward, &forward->k, forward->key_dim) &&
           invar_cuda_copies(forward, &forward->v, forward->value_dim) && invar_cuda_copies(forward, &call->dout, forward->value_dim);
}

static void cut_halves(cut *c, const invar_attention_vjp_call *call, const invar_cuda_device *device, int mask) {
    const invar_attention_call *forward = &call->forward;
    half_words w = { (int)forward->type, padded_of(forward->key_dim), padded_of(forward->value_dim), 0, 1, 0, 4, 1,
                     all_copied(call), mask, forward->softcap > 0, 1 };
    cut_half(&c->query, &w, device);
    const bool dk = call->dk.data, dv = call->dv.data, apart = w.key_dim + w.value_dim > 2 * WIDE;
    w.by_keys = 1;
    c->key_passes = 0;
    if (dk || dv) {
        w.first = dk;
        w.second = dv && !(dk && apart);
        cut_half(&c->keys[c->key_passes++], &w, device);
    }
    if (dk && dv && apart) {
        w.first = 0;
        w.second = 1;
        cut_half(&c->keys[c->key_passes++], &w, device);
    }
}

/* A mask comes by copies, if need be from one that is made first: an element at a time it would take three to six times as long. */
static void cut_wgmmas(cut *c, const invar_attention_vjp_call *call, const invar_cuda_attention *of, int mask) {
    c->aligns = (call->dq.data || call->dk.data || call->dv.data) && mask >= 0 && !invar_cuda_mask_aligned(of);
    c->key_passes = invar_cuda_attention_vjp_cut_wgmma(&c->query, c->keys, call, mask, all_copied(call));
}

/* rows, heads: of what a block holds, in a batch. */
static void cut_float(invar_cuda_vjp_pass *p, float_words w, int64_t rows, int64_t heads, const invar_cuda_device *device) {
    choose_float_tile(&w, device->major, device->shared_most);
    while (w.warps > 4 && heads * tiles_of(rows, float_rows(&w)) < LEAST_BLOCKS) w.warps /= 2;
    p->source = &invar_cuda_attention_vjp_float;
    p->rows = float_rows(&w);
    p->slabs = 1;
    p->threads = 32 * (unsigned)w.warps;
    p->shared = float_shared(&w);
    write_float(p->defines, &w);
}

/* features: of the gradient. */
static void cut_wide(invar_cuda_vjp_pass *p, const wide_words *like, int64_t features) {
    wide_words w = *like;
    const int chunks = features > 0 ? (int)tiles_of(features, WIDE_DEPTH) : 1;
    p->slabs = (chunks + WIDE_CHUNKS - 1) / WIDE_CHUNKS;
    w.chunks = (chunks + p->slabs - 1) / p->slabs;
    p->source = &invar_cuda_attention_vjp_float_wide;
    p->rows = WIDE_ROWS;
    p->threads = WIDE_THREADS;
    p->shared = (unsigned)sizeof(float) * WIDE_ROWS * (4 * (WIDE_DEPTH + 4) + WIDE_ROWS + 4);
    write_wide(p->defines, &w);
}

static void cut_floats(cut *c, const invar_attention_vjp_call *call, const invar_cuda_device *device, int dim, bool wide, int mask,
                       bool wgmma) {
    const invar_attention_call *forward = &call->forward;
    const bool plain = forward->q.type == INVAR_F32 && forward->k.type == INVAR_F32 && forward->v.type == INVAR_F32 &&
                       call->dout.type == INVAR_F32;
    if (wide) {
        wide_words w = { 0, 0, 0, plain && all_copied(call), mask, forward->softcap > 0 };
        cut_wide(&c->query, &w, forward->key_dim);
        w.by_keys = 1;
        if (call->dk.data) cut_wide(&c->keys[c->key_passes++], &w, forward->key_dim);
        w.values = 1;
        if (call->dv.data) cut_wide(&c->keys[c->key_passes++], &w, forward->value_dim);
        return;
    }
    float_words w = { .dim = dim, .vector = plain && all_copied(call), .mask = mask, .softcap = forward->softcap > 0 };
    cut_float(&c->query, w, forward->query_len, forward->query_heads, device);
    w.by_keys = 1;
    cut_float(&c->keys[0], w, forward->key_len, forward->kv_heads, device);
    c->key_passes = call->dk.data || call->dv.data;
    if (!wgmma) return;
    c->again[0] = c->query;
    c->again[1] = c->keys[0];
    invar_cuda_attention_vjp_cut_parts(&c->query, forward, w.vector, false);
    invar_cuda_attention_vjp_cut_parts(&c->keys[0], forward, w.vector, true);
}

/* dmask with an element a query and key goes through matrix units where types are half; what is summed along rows or columns of
 * scores does not. */
static void cut_mask(invar_cuda_vjp_pass *p, const invar_attention_vjp_call *call, int dim, bool wide, int mask) {
    const invar_attention_call *forward = &call->forward;
    const bool softcap = forward->softcap > 0;
    const bool whole = call->mask_queries == forward->query_len && call->mask_keys == forward->key_len;
    p->slabs = 1; /* a block goes through them */
    p->threads = THREADS;
    if (forward->type != INVAR_F32 && whole) {
        p->source = &invar_cuda_attention_vjp_mask_half;
        p->rows = p->columns = MASK_ROWS;
        p->shared = 2 * 4 * MASK_ROWS * (MASK_DEPTH + 8) * 2;
        write_mask_half(p->defines, (int)forward->type, all_copied(call), mask, softcap);
        return;
    }
    p->source = &invar_cuda_attention_vjp_mask;
    p->rows = dim > 128 ? 8 : 16;
    p->columns = MASK_KEYS;
    p->shared = (unsigned)(sizeof(float) * (size_t)(2 * (p->rows + MASK_KEYS) * (dim + 4) + 2 * p->rows));
    write_mask(p->defines, dim, wide, mask, softcap);
}

/* The call as programs read it. */
static void fill_gradients(invar_cuda_attention_vjp_job *job, const invar_attention_vjp_call *call) {
    job->dout = invar_cuda_operand_of(&call->dout);
    job->dlse = invar_cuda_operand_of(&call->dlse);
    job->dq = invar_cuda_operand_of(&call->dq);
    job->dk = invar_cuda_operand_of(&call->dk);
    job->dv = invar_cuda_operand_of(&call->dv);
    job->dsinks = invar_cuda_operand_of(&call->dsinks);
    job->dmask = invar_cuda_operand_of(&call->dmask);
    for (int d = 0; d < call->forward.batch_ndim; d++) job->mask_batch_shape[d] = call->mask_batch_shape[d];
    job->mask_batch = call->mask_batch;
    job->mask_heads = call->mask_heads;
    job->mask_queries = (int)call->mask_queries;
    job->mask_keys = (int)call->mask_keys;
    job->shift = call->forward.type == INVAR_F16 ? HALF_SHIFT : 0;
}

/* The finest grid of a batch is within a grid's blocks, and the scratch can be addressed. */
static invar_status check_size(cut *c, const invar_attention_vjp_call *call, const char *operation) {
    const invar_attention_call *forward = &call->forward;
    int64_t blocks, more, rows, keys_left, bytes;
    const int64_t queries = tiles_of(forward->query_len, DELTA_ROWS), keys = tiles_of(forward->key_len, 16);
    const int64_t tiles = call->dmask.data ? call->mask_heads * tiles_of(call->mask_queries, c->mask.rows) : 1;
    if (__builtin_mul_overflow(forward->query_heads, queries > keys ? queries : keys, &blocks) ||
        __builtin_mul_overflow(tiles, keys, &more) || blocks > MOST_BLOCKS || more > MOST_BLOCKS || forward->batch > MOST_BATCHES)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected at most %d batches, and a batch within %d tiles, on a CUDA device, got "
                          "%lld batches of %lld heads of %lld queries", operation, MOST_BATCHES, MOST_BLOCKS,
                          (long long)forward->batch, (long long)forward->query_heads, (long long)forward->query_len);
    if (__builtin_mul_overflow(forward->batch * forward->query_heads, forward->query_len, &rows) ||
        __builtin_mul_overflow(forward->batch * forward->kv_heads, forward->key_len, &keys_left) ||
        __builtin_mul_overflow(rows, (int64_t)(2 * sizeof(float) + 1), &bytes) || __builtin_add_overflow(bytes, keys_left, &bytes))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: q: expected rows whose scratch can be addressed, got %lld batches of %lld heads of "
                          "%lld queries", operation, (long long)forward->batch, (long long)forward->query_heads,
                          (long long)forward->query_len);
    c->again_at = (size_t)rows * 2 * sizeof(float);
    c->workspace = c->again[0].source ? (size_t)bytes : c->again_at;
    return INVAR_OK;
}

/* Scratch for a mask's copy, behind rows'. */
static invar_status add_mask(cut *c, const invar_cuda_attention *of, const char *operation) {
    size_t bytes;
    INVAR_TRY(invar_cuda_mask_rows_plan(&c->mask_rows, &bytes, of, operation));
    c->mask_at = (c->workspace + 63) / 64 * 64;
    if (__builtin_add_overflow(c->mask_at, bytes, &c->workspace))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: mask: expected an array whose copy can be addressed, got one of %zu bytes",
                          operation, bytes);
    return INVAR_OK;
}

static invar_status plan(cut *c, invar_cuda_attention_vjp_job *job, const invar_attention_vjp_call *call,
                         const invar_cuda_device *device, const char *operation) {
    const invar_attention_call *forward = &call->forward;
    memset(c, 0, sizeof *c);
    memset(job, 0, sizeof *job);
    const int64_t most = forward->key_dim > forward->value_dim ? forward->key_dim : forward->value_dim;
    if (most > MOST_DIM)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected at most %d features on a CUDA device, got %lld", operation,
                          forward->key_dim > MOST_DIM ? "q" : "v", MOST_DIM,
                          (long long)(forward->key_dim > MOST_DIM ? forward->key_dim : forward->value_dim));
    INVAR_TRY(invar_cuda_attention_fill(&job->of, forward, operation));
    fill_gradients(job, call);
    const int dim = most <= 64 ? 64 : most <= 128 ? 128 : SLAB, mask = forward->mask.data ? job->of.mask.kind : -1;
    const bool wide = most > SLAB;
    bool wgmma = false;
    c->against = forward->type == INVAR_F32 ? invar_cuda_attention_vjp_against_parts(forward)
                                            : invar_cuda_attention_vjp_against_wgmma(forward, mask);
    if (!c->against) INVAR_TRY(invar_cuda_find_wgmma(&wgmma, device->major, device->minor, operation));
    write_delta(c->delta_defines, mask);
    if (forward->type == INVAR_F32) cut_floats(c, call, device, dim, wide, mask, wgmma); /* promoted: types may be any */
    else if (wgmma) cut_wgmmas(c, call, &job->of, mask);
    else cut_halves(c, call, device, mask);
    cut_mask(&c->mask, call, dim, wide, mask);
    if (forward->type != INVAR_F32 && (int)c->query.shared > device->shared_most - STATIC_SHARED)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected heads of which this CUDA device's shared memory holds 48 rows, got %lld "
                          "and %lld features", operation, (long long)forward->key_dim, (long long)forward->value_dim);
    INVAR_TRY(check_size(c, call, operation));
    return c->aligns ? add_mask(c, &job->of, operation) : INVAR_OK;
}

static void describe(invar_plan *plan, const cut *c, const invar_attention_vjp_call *call, const invar_cuda_device *device) {
    const invar_attention_call *forward = &call->forward;
    const bool half = forward->type != INVAR_F32, wgmma = c->query.source == &invar_cuda_attention_vjp_wgmma;
    snprintf(plan->kernel, sizeof plan->kernel, "attention_vjp%s.cuda",
             wgmma ? "_wgmma" : half ? "_half" : c->again[0].source ? "_parts" : "");
    const bool told = c->against && device->major == 9;
    snprintf(plan->reason, sizeof plan->reason, "blocks take tiles of queries for dq and of keys for dk and dv, and wait for none%s%s",
             told ? "; " : "", told ? c->against : "");
    plan->workspace = c->workspace;
    plan->tasks = forward->batch * forward->query_heads * tiles_of(forward->query_len, c->query.rows) * c->query.slabs;
    for (int i = 0; i < c->key_passes; i++)
        plan->tasks += forward->batch * forward->kv_heads * tiles_of(forward->key_len, c->keys[i].rows) * c->keys[i].slabs;
    plan->query_tile = c->query.rows;
    plan->key_block = c->key_passes ? c->keys[0].rows : 0;
    plan->key_splits = 1;
}

/* ---- launches ----------------------------------------------------------------------------------------- */

typedef struct target {
    const invar_cuda_device *device;
    void *stream;
    const char *operation;
} target;

/* One program over all batches, a grid's worth of them at a time; `each`: blocks a batch. */
static invar_status launch(const target *to, invar_cuda_attention_vjp_job *job, const invar_cuda_vjp_pass *p, int64_t batches,
                           int64_t each) {
    if (!batches || !each) return INVAR_OK;
    for (job->batch_first = 0; job->batch_first < batches; job->batch_first += job->batches) {
        const int64_t left = batches - job->batch_first, most = MOST_BLOCKS / each;
        job->batches = left < most ? left : most;
        const invar_cuda_launch one = { p->source,  p->defines, { (unsigned)(job->batches * each), (unsigned)p->slabs, 1 },
                                        p->threads, p->shared,  job };
        INVAR_TRY(invar_cuda_enqueue(to->device, &one, to->stream, to->operation));
    }
    return INVAR_OK;
}

/* Heads whose far rows are to lie in the L2 cache together. Where all tiles are alike one head's lie next to each other. */
static int section_of(const invar_cuda_attention *of, double rows) {
    const double bytes = 2 * rows * (of->key_dim + of->value_dim);
    return of->window_right < 0 || bytes >= SECTION_BYTES ? 1 : bytes < 1 ? SECTION_BYTES : (int)(SECTION_BYTES / bytes);
}

static invar_status launch_delta(const target *to, invar_cuda_attention_vjp_job *job, const cut *c) {
    invar_cuda_vjp_pass p = { .source = &invar_cuda_attention_vjp_delta, .slabs = 1, .threads = THREADS };
    memcpy(p.defines, c->delta_defines, sizeof p.defines);
    job->query_tiles = (int)tiles_of(job->of.query_len, DELTA_ROWS);
    return launch(to, job, &p, job->of.batch, job->of.query_heads * job->query_tiles);
}

static invar_status launch_mask(const target *to, invar_cuda_attention_vjp_job *job, const cut *c) {
    job->query_tiles = (int)tiles_of(job->mask_queries, c->mask.rows);
    job->key_tiles = (int)tiles_of(job->mask_keys, c->mask.columns);
    return launch(to, job, &c->mask, job->mask_batch, job->mask_heads * job->query_tiles * job->key_tiles);
}

static invar_status launch_sinks(const target *to, invar_cuda_attention_vjp_job *job) {
    const invar_cuda_launch all = { &invar_cuda_attention_vjp_sinks, "", { (unsigned)job->of.query_heads, 1, 1 },
                                    SINK_THREADS, 0, job };
    return invar_cuda_enqueue(to->device, &all, to->stream, to->operation);
}

static invar_status launch_query(const target *to, invar_cuda_attention_vjp_job *job, const invar_cuda_vjp_pass *p) {
    job->query_tiles = (int)tiles_of(job->of.query_len, p->rows);
    return launch(to, job, p, job->of.batch, job->of.query_heads * job->query_tiles);
}

static invar_status launch_keys(const target *to, invar_cuda_attention_vjp_job *job, const invar_cuda_vjp_pass *p) {
    job->key_tiles = (int)tiles_of(job->of.key_len, p->rows);
    return launch(to, job, p, job->of.batch, job->of.kv_heads * job->key_tiles);
}

static invar_status launch_all(const target *to, invar_cuda_attention_vjp_job *job, const cut *c) {
    const invar_cuda_attention *of = &job->of;
    const bool again = c->again[0].source;
    if (c->aligns) {
        INVAR_TRY(invar_cuda_mask_rows_copy(to->device, &c->mask_rows, to->stream, to->operation));
        job->of.mask = c->mask_rows.to;
    }
    INVAR_TRY(launch_delta(to, job, c));
    job->section = section_of(of, of->key_len);
    if (again) job->again = (char *)job->rows + c->again_at;
    if (job->dq.data) INVAR_TRY(launch_query(to, job, &c->query));
    if (job->dq.data && again) INVAR_TRY(launch_query(to, job, &c->again[0]));
    job->section = section_of(of, (double)of->group * of->query_len);
    if (again) job->again += of->batch * of->query_heads * of->query_len;
    for (int i = 0; i < c->key_passes; i++) INVAR_TRY(launch_keys(to, job, &c->keys[i]));
    if (c->key_passes && again) INVAR_TRY(launch_keys(to, job, &c->again[1]));
    if (job->dmask.data) INVAR_TRY(launch_mask(to, job, c));
    if (job->dsinks.data) INVAR_TRY(launch_sinks(to, job));
    return INVAR_OK;
}

invar_status invar_cuda_attention_vjp_run(const invar_attention_vjp_call *call, invar_device device, const invar_execution *execution,
                                          invar_context *context, const char *operation) {
    target to = { .stream = execution->stream, .operation = operation };
    invar_cuda_attention_vjp_job job;
    invar_run checked; /* takes nothing: its scratch would be the CPU's */
    invar_execution bare = *execution;
    cut c;
    bool planned;
    void *scratch = execution->workspace;
    INVAR_TRY(invar_cuda_device_get(&to.device, device.id, operation));
    INVAR_TRY(plan(&c, &job, call, to.device, operation));
    bare.workspace = NULL;
    INVAR_TRY(invar_run_begin(&checked, context, &bare, 0, 0, 0, operation, &planned));
    if (planned) {
        describe(execution->plan, &c, call, to.device);
        return INVAR_OK;
    }
    if (scratch && ((uintptr_t)scratch % 64 || execution->workspace_size < c.workspace))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: execution.workspace: expected %zu bytes of the device, 64-byte aligned, got %zu",
                          operation, c.workspace, execution->workspace_size);
    if (!call->dq.data && !call->dk.data && !call->dv.data && !call->dsinks.data && !call->dmask.data) return INVAR_OK;
    const bool own = c.workspace && !scratch;
    if (own) INVAR_TRY(invar_cuda_scratch_take(to.device, &scratch, c.workspace, execution->stream, operation));
    job.rows = scratch;
    if (c.aligns) c.mask_rows.to.data = (char *)scratch + c.mask_at;
    const invar_status status = launch_all(&to, &job, &c);
    if (own) invar_cuda_scratch_give(to.device, scratch, execution->stream);
    return status;
}
