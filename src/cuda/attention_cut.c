/* Which program computes a call of scaled_dot_product_attention on a CUDA device, and its tiles: for each program the words that
 * specialise it, the tile of a call, and the specialisations that tests compile. What moves bits (keys of a tile, LANES) follows a
 * unit's rows, the features and the types; the rest, which moves none, strides and the GPU too. */
#include "cuda/attention_cut.h"

#include "core/number.h"

#include <stdio.h>

enum {
    SLAB = INVAR_CUDA_ATTENTION_SLAB,
    LEAST_BLOCKS = 128,      /* of a batch, below which those in float32 have fewer warps */
    SPLIT_ROWS = 64,         /* of the tiles that invar_cuda_attention_blocks counts */
    TILE_KEYS = INVAR_CUDA_ATTENTION_KEYS,
    PARTS_MAJOR = 9,         /* of compute capability, where float32 goes through matrix units */
    LEAST_PARTS_ROWS = 32,   /* of a unit, up to which float32 does without matrix units */
    PARTS_STATIC = 10 << 10, /* bytes of shared memory that such a block has besides, at most */
    WGMMA_VERSION = 12000    /* of NVRTC, the first for sm_90a */
};

typedef invar_cuda_attention_cut cut;

/* Features as shared memory holds them: multiples of `of`, one at least. */
static int padded(int64_t features, int of) { return (int)invar_round_up(invar_larger(features, 1), of); }

int64_t invar_cuda_attention_blocks(const invar_attention_call *call) {
    return invar_pieces(invar_attention_unit_rows(call), SPLIT_ROWS) * call->kv_heads;
}

bool invar_cuda_copies(const invar_attention_call *call, const invar_attention_operand *x, int64_t columns) {
    const int64_t item = (int64_t)invar_float_size(x->type);
    int64_t steps = x->head_stride | x->row_stride | columns * item | (int64_t)((uintptr_t)x->data & 15);
    for (int d = 0; d < call->batch_ndim; d++) steps |= x->batch_stride[d];
    return steps % 16 == 0 && (x->column_stride == item || columns <= 1);
}

static bool copies_rows(const invar_attention_call *call) {
    return invar_cuda_copies(call, &call->q, call->key_dim) && invar_cuda_copies(call, &call->k, call->key_dim) &&
           invar_cuda_copies(call, &call->v, call->value_dim);
}

static bool copies_floats(const invar_attention_call *call) {
    return call->q.type == INVAR_F32 && call->k.type == INVAR_F32 && call->v.type == INVAR_F32 && copies_rows(call);
}

/* Of the mask as programs read it; -1: none. */
static int mask_of(const invar_cuda_attention *of) { return of->mask.data ? of->mask.kind : -1; }

/* ---- float32, and mixed types, by multiply-adds ------------------------------------------------------- */

typedef struct float_words {
    int warps, rows, lanes, keys, resident; /* as attention_float.cu tells */
    int key_dim, value_dim, slabs, q, k, v, vector, mask, softcap;
} float_words;

static void write_float_words(char defines[INVAR_CUDA_DEFINES], const float_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DWARPS=%d -DROWS=%d -DLANES=%d -DKEYS=%d -DRESIDENT=%d -DKDIM=%d -DVDIM=%d -DSLABS=%d -DQ_KIND=%d -DK_KIND=%d "
             "-DV_KIND=%d -DVECTOR=%d -DMASK_KIND=%d -DSOFTCAP=%d", w->warps, w->rows, w->lanes, w->keys, w->resident, w->key_dim,
             w->value_dim, w->slabs, w->q, w->k, w->v, w->vector, w->mask, w->softcap);
}

static int float_rows(const float_words *w) { return w->warps * w->rows * 32 / w->lanes; }

static unsigned float_shared(const float_words *w) {
    const int rows = float_rows(w);
    return (unsigned)sizeof(float) *
           (unsigned)((rows + w->keys) * (w->key_dim + 4) + w->keys * w->value_dim + rows * (w->keys + 8));
}

/* Of many rows a thread takes 8, so that it reads little for what it multiplies, of wide heads 4. LANES and KEYS, which move bits,
 * follow a unit's rows and the features; the rest, which moves none, the room in shared memory too. */
static void choose_float_tile(float_words *w, int64_t unit_rows, int major, int shared_most) {
    const bool wide = w->key_dim > 128 || w->value_dim > 128, many = unit_rows > 32;
    const bool narrow = many && w->key_dim <= 64 && w->value_dim <= 64 && major < 10; /* newer compilers' registers do not suffice */
    w->lanes = narrow ? 8 : 16;
    w->keys = wide ? 32 : TILE_KEYS;
    w->warps = many && !narrow && !wide ? 8 : 4;
    w->rows = many ? wide ? 4 : 8 : 1;
    while (!many && 8 * w->rows < unit_rows) w->rows *= 2;
    while ((int)float_shared(w) > shared_most && w->warps > 1) w->warps /= 2;
    w->resident = narrow ? 2 : many ? 1 : 3;
}

/* Every tile with the widest heads it serves, and each branch of the program once. */
bool invar_cuda_attention_float_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F32 = INVAR_CUDA_F32, F16 = INVAR_CUDA_F16, BF16 = INVAR_CUDA_BF16, NONE = -1 };
    static const struct {
        int unit_rows;
        float_words words;
    } samples[] = {
        { 64, { .key_dim = 128, .value_dim = 128, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE } },
        { 64, { .key_dim = 64, .value_dim = 64, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE } },
        { 64, { .key_dim = 64, .value_dim = 64, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = F32 } },
        { 64, { .key_dim = 128, .value_dim = 128, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = INVAR_CUDA_BOOL, .softcap = 1 } },
        { 64, { .key_dim = 128, .value_dim = 128, .q = F16, .k = F32, .v = F32, .mask = BF16, .softcap = 1 } },
        { 64, { .key_dim = 256, .value_dim = 256, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE } },
        { 64, { .key_dim = 256, .value_dim = 256, .slabs = 1, .q = BF16, .k = BF16, .v = BF16, .mask = F32, .softcap = 1 } },
        { 32, { .key_dim = 192, .value_dim = 128, .q = F16, .k = F16, .v = F16, .mask = NONE } },
        { 1, { .key_dim = 256, .value_dim = 256, .slabs = 1, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = F16 } },
        { 16, { .key_dim = 32, .value_dim = 64, .q = F32, .k = BF16, .v = F16, .mask = NONE, .softcap = 1 } },
    };
    float_words chosen;
    (void)minor;
    if (i >= (int)(sizeof samples / sizeof *samples)) return false;
    chosen = samples[i].words;
    choose_float_tile(&chosen, samples[i].unit_rows, major, major == 8 ? 163 * 1024 : major < 12 ? 227 * 1024 : 99 * 1024);
    write_float_words(defines, &chosen);
    return true;
}

static void cut_float(cut *c, const invar_attention_call *call, const invar_cuda_attention *of, const invar_cuda_device *gpu) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    float_words words = { .key_dim = padded(invar_smaller(call->key_dim, SLAB), 32),
                          .value_dim = padded(invar_smaller(call->value_dim, SLAB), 64), .slabs = call->key_dim > SLAB,
                          .q = of->q.kind, .k = of->k.kind, .v = of->v.kind, .vector = copies_floats(call), .mask = mask_of(of),
                          .softcap = call->softcap > 0 };
    choose_float_tile(&words, unit_rows, gpu->major, gpu->shared_most);
    while (words.warps > 4 && invar_pieces(unit_rows, float_rows(&words)) * call->kv_heads < LEAST_BLOCKS)
        words.warps /= 2;
    c->source = &invar_cuda_attention_float;
    c->keys = words.keys;
    c->rows = float_rows(&words);
    c->threads = 32 * (unsigned)words.warps;
    c->shared = float_shared(&words);
    write_float_words(c->defines, &words);
}

/* ---- float32 as parts of bfloat16, on matrix units ----------------------------------------------------- */

typedef struct parts_words {
    int warps, strips, keys, resident, key_dim, value_dim, q, k, v, vector, mask, softcap; /* as attention_parts.cu tells */
} parts_words;

static void write_parts_words(char defines[INVAR_CUDA_DEFINES], const parts_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DWARPS=%d -DSTRIPS=%d -DKEYS=%d -DRESIDENT=%d -DKDIM=%d -DVDIM=%d -DQ_KIND=%d -DK_KIND=%d -DV_KIND=%d -DVECTOR=%d "
             "-DMASK_KIND=%d -DSOFTCAP=%d", w->warps, w->strips, w->keys, w->resident, w->key_dim, w->value_dim, w->q, w->k, w->v,
             w->vector, w->mask, w->softcap);
}

static int parts_rows(const parts_words *w) { return 16 * w->warps * w->strips; }

static unsigned parts_shared(const parts_words *w) {
    const int wider = w->key_dim > w->value_dim ? w->key_dim : w->value_dim, widest = wider > 64 ? wider : 64;
    return (unsigned)(parts_rows(w) * (w->key_dim + 8) * 4 + w->keys * (widest * 4 + 3 * 2 * (widest + 8)));
}

/* KEYS, which moves bits, follows the features alone. Of narrow heads a warp holds two strips of 16 rows, which take each part of K
 * and V from shared memory half as often, and two blocks a multiprocessor wait in turns; wider ones' registers suffice for one
 * strip, and shared memory for one block. */
static void choose_parts_tile(parts_words *w, int64_t unit_rows, int shared_most) {
    const bool narrow = w->key_dim <= 64 && w->value_dim <= 64, wide = w->key_dim > 128 || w->value_dim > 128;
    w->keys = wide ? 32 : TILE_KEYS;
    w->strips = narrow && w->mask < 0 && !w->softcap ? 2 : 1;
    w->warps = narrow ? 4 : 8;
    w->resident = narrow ? 2 : 1;
    while (w->warps > 1 && parts_rows(w) / 2 >= unit_rows) w->warps /= 2;
    while ((int)parts_shared(w) > shared_most - PARTS_STATIC && w->warps > 1) w->warps /= 2;
}

/* Whether six products of bfloat16 are faster than one of float32, as on Hopper; few rows wait for memory. */
static bool suits_parts(const invar_attention_call *call, const invar_cuda_device *gpu) {
    return gpu->major == PARTS_MAJOR && call->key_dim <= SLAB && call->value_dim <= SLAB &&
           invar_attention_unit_rows(call) > LEAST_PARTS_ROWS;
}

/* Each tile with the widest heads it serves, and each branch once. */
bool invar_cuda_attention_parts_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F32 = INVAR_CUDA_F32, F16 = INVAR_CUDA_F16, BF16 = INVAR_CUDA_BF16, NONE = -1 };
    static const parts_words samples[] = {
        { .key_dim = 64, .value_dim = 64, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE },
        { .key_dim = 128, .value_dim = 128, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE },
        { .key_dim = 256, .value_dim = 256, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = NONE },
        { .key_dim = 64, .value_dim = 64, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = F32, .softcap = 1 },
        { .key_dim = 128, .value_dim = 128, .q = F16, .k = F32, .v = F32, .mask = INVAR_CUDA_BOOL },
        { .key_dim = 256, .value_dim = 256, .q = F32, .k = F32, .v = F32, .vector = 1, .mask = BF16, .softcap = 1 },
        { .key_dim = 64, .value_dim = 64, .q = F32, .k = BF16, .v = F32, .mask = NONE },
    };
    parts_words chosen;
    (void)minor;
    if (i >= (int)(sizeof samples / sizeof *samples) || major != PARTS_MAJOR) return false;
    chosen = samples[i];
    choose_parts_tile(&chosen, 4096, 227 * 1024);
    write_parts_words(defines, &chosen);
    return true;
}

static void cut_parts(cut *c, const invar_attention_call *call, const invar_cuda_attention *of, const invar_cuda_device *gpu) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    parts_words words = { .key_dim = padded(call->key_dim, 32), .value_dim = padded(call->value_dim, 32), .q = of->q.kind,
                          .k = of->k.kind, .v = of->v.kind, .vector = copies_floats(call), .mask = mask_of(of),
                          .softcap = call->softcap > 0 };
    choose_parts_tile(&words, unit_rows, gpu->shared_most);
    while (words.warps > 2 && invar_pieces(unit_rows, parts_rows(&words)) * call->kv_heads < LEAST_BLOCKS)
        words.warps /= 2;
    c->source = &invar_cuda_attention_parts;
    c->keys = words.keys;
    c->rows = parts_rows(&words);
    c->threads = 32 * (unsigned)words.warps;
    c->shared = parts_shared(&words);
    write_parts_words(c->defines, &words);
}

/* ---- half types on matrix units ----------------------------------------------------------------------- */

typedef struct half_words {
    int type; /* an invar_float_type */
    int key_dim, value_dim, slabs, warps, strips, keys, copies, mask, softcap, positive; /* as attention_half.cu tells */
} half_words;

static void write_half_words(char defines[INVAR_CUDA_DEFINES], const half_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DTYPE=%s -DKDIM=%d -DVDIM=%d -DSLABS=%d -DWARPS=%d -DSTRIPS=%d -DKEYS=%d -DCOPIES=%d -DRESIDENT=%d -DMASK_KIND=%d "
             "-DSOFTCAP=%d -DPOSITIVE=%d", w->type == INVAR_F16 ? "half16" : "bfloat16", w->key_dim, w->value_dim, w->slabs, w->warps,
             w->strips, w->keys, w->copies, w->warps > 1 ? 2 : 1, w->mask, w->softcap, w->positive);
}

/* Two strips of 16 rows a warp take each K and V from shared memory half as often, where the registers suffice: compilers for
 * compute capability 10 and newer need some more of them. */
static int most_strips(const half_words *w, int major) {
    const int most = w->key_dim > w->value_dim ? w->key_dim : w->value_dim;
    return w->copies && w->mask < 0 && most <= (major < 10 ? 128 : 64) ? 2 : 1;
}

/* As above: each tile with the widest heads it serves, and each branch once. */
bool invar_cuda_attention_half_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1 };
    static const half_words words[] = {
        { BF16, 128, 128, 0, 4, 2, 64, 1, NONE, 0, 1 },            { F16, 64, 64, 0, 4, 2, 64, 1, NONE, 0, 1 },
        { BF16, 96, 96, 0, 4, 2, 64, 1, NONE, 1, 1 },              { F16, 128, 128, 0, 4, 2, 64, 1, NONE, 0, 0 },
        { BF16, 128, 128, 0, 4, 1, 64, 1, INVAR_CUDA_BF16, 0, 1 }, { F16, 128, 128, 0, 4, 1, 64, 0, INVAR_CUDA_BOOL, 1, 1 },
        { BF16, 256, 256, 1, 4, 1, 32, 1, NONE, 0, 1 },            { F16, 256, 256, 0, 4, 1, 32, 0, INVAR_CUDA_F16, 1, 0 },
        { BF16, 128, 128, 0, 1, 1, 64, 1, NONE, 0, 1 },            { F16, 256, 256, 1, 1, 1, 32, 0, INVAR_CUDA_BOOL, 1, 1 },
    };
    half_words chosen;
    (void)minor;
    if (i >= (int)(sizeof words / sizeof *words)) return false;
    chosen = words[i];
    if (chosen.strips > most_strips(&chosen, major)) chosen.strips = 1;
    write_half_words(defines, &chosen);
    return true;
}

int invar_cuda_padded(int64_t features) { return padded(features, features > 128 ? 64 : 32); }

/* Keys a tile follow the features alone, so that a row's bits depend on nothing else. */
static void cut_half(cut *c, const invar_attention_call *call, const invar_cuda_attention *of, int major) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    const int key_dim = invar_cuda_padded(invar_smaller(call->key_dim, SLAB));
    const int value_dim = invar_cuda_padded(invar_smaller(call->value_dim, SLAB));
    const bool wide = key_dim > 128 || value_dim > 128;
    const int warps = unit_rows <= 16 ? 1 : 4, keys = wide ? 32 : TILE_KEYS;
    half_words words = { (int)call->type, key_dim, value_dim, call->key_dim > SLAB, warps, 1, keys, copies_rows(call),
                         mask_of(of), call->softcap > 0, call->score_scale > 0 };
    if (unit_rows > 64) words.strips = most_strips(&words, major);
    c->source = &invar_cuda_attention_half;
    c->keys = keys;
    c->rows = 16 * warps * words.strips;
    c->threads = 32 * (unsigned)warps;
    c->shared = 2 * (unsigned)((c->rows + keys) * (key_dim + 8) + keys * (value_dim + 8));
    write_half_words(c->defines, &words);
}

/* ---- half types by Hopper's asynchronous products ------------------------------------------------------- */

typedef struct wgmma_words {
    int type; /* an invar_float_type */
    int key_dim, value_dim, keys, consumers, copies, softcap, mask, mask_pieces; /* as attention_wgmma.cu tells */
} wgmma_words;

enum { STAGES = 2, SHARED_ALIGNMENT = 1024, WARPGROUP_ROWS = 64, WARPGROUP = 128 };

static void write_wgmma_words(char defines[INVAR_CUDA_DEFINES], const wgmma_words *w) {
    snprintf(defines, INVAR_CUDA_DEFINES,
             "-DTYPE=%s -DKDIM=%d -DVDIM=%d -DKEYS=%d -DCONSUMERS=%d -DSTAGES=%d -DCOPIES=%d -DSOFTCAP=%d -DMASK_KIND=%d "
             "-DMASK_PIECES=%d", w->type == INVAR_F16 ? "half16" : "bfloat16", w->key_dim, w->value_dim, w->keys, w->consumers, STAGES,
             w->copies, w->softcap, w->mask, w->mask_pieces);
}

invar_status invar_cuda_find_wgmma(bool *has, int major, int minor, const char *operation) {
    const invar_nvrtc *nvrtc;
    *has = false;
    if (major != 9 || minor) return INVAR_OK;
    INVAR_TRY(invar_nvrtc_get(&nvrtc, operation));
    *has = invar_nvrtc_version(nvrtc) >= WGMMA_VERSION;
    return INVAR_OK;
}

/* Each tile with the widest heads it serves, and each branch once. */
bool invar_cuda_attention_wgmma_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    enum { F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1, BOOL = INVAR_CUDA_BOOL };
    static const wgmma_words words[] = {
        { BF16, 128, 128, 128, 2, 1, 0, NONE, 0 },           { F16, 64, 64, 128, 3, 1, 0, NONE, 0 },
        { BF16, 256, 256, 64, 2, 1, 0, NONE, 0 },            { F16, 192, 128, 128, 2, 0, 1, NONE, 0 },
        { BF16, 64, 64, 128, 3, 0, 0, NONE, 0 },             { BF16, 256, 256, 64, 2, 0, 1, NONE, 0 },
        { BF16, 128, 128, 128, 2, 1, 0, INVAR_CUDA_BF16, 1 }, { F16, 192, 128, 128, 2, 0, 1, INVAR_CUDA_F16, 0 },
        { BF16, 256, 256, 64, 2, 1, 0, INVAR_CUDA_BF16, 1 }, { F16, 256, 256, 64, 2, 0, 1, INVAR_CUDA_F16, 0 },
        { BF16, 128, 128, 128, 2, 1, 0, BOOL, 1 },           { F16, 256, 256, 64, 2, 0, 1, BOOL, 0 },
        { F16, 64, 64, 128, 2, 1, 0, INVAR_CUDA_F16, 1 },
    };
    bool has;
    if (i >= (int)(sizeof words / sizeof *words) || invar_cuda_find_wgmma(&has, major, minor, "attention") != INVAR_OK || !has)
        return false;
    write_wgmma_words(defines, &words[i]);
    return true;
}

/* Whether eight elements of the mask, from each eighth key on, may be read at once. */
static bool reads_pieces(const invar_attention_call *call) {
    const int64_t item = call->mask_kind == INVAR_MASK_BOOL ? 1 : 2;
    int64_t steps = call->mask.head_stride | call->mask.row_stride | (int64_t)((uintptr_t)call->mask.data & 15);
    for (int d = 0; d < call->batch_ndim; d++) steps |= call->mask.batch_stride[d];
    return call->mask.column_stride == item && steps % (8 * item) == 0 && call->key_len % 8 == 0;
}

/* Whether a batch is to fill the GPU with them, without splits of keys. No stride decides this: either program has bits of its own. */
static bool suits_wgmma(const invar_attention_call *call) {
    const int64_t most = call->key_dim > call->value_dim ? call->key_dim : call->value_dim;
    const invar_attention_mask_kind own = call->type == INVAR_F16 ? INVAR_MASK_F16 : INVAR_MASK_BF16;
    const bool masked = call->mask.data && call->mask_kind != INVAR_MASK_BOOL && call->mask_kind != own; /* by integers */
    return call->type != INVAR_F32 && !masked && most > 32 && most <= SLAB &&
           (call->score_scale > 0 || call->softcap > 0) && invar_attention_unit_rows(call) > WARPGROUP_ROWS &&
           invar_cuda_attention_blocks(call) > INVAR_CUDA_ATTENTION_FEW_BLOCKS;
}

static void cut_wgmma(cut *c, const invar_attention_call *call, const invar_cuda_attention *of) {
    const int key_dim = padded(call->key_dim, 64);
    const int value_dim = padded(call->value_dim, 64);
    const int keys = key_dim <= 192 && value_dim <= 128 ? 128 : 64;
    const bool masked = call->mask.data;
    const bool narrow = key_dim == 64 && value_dim == 64 && call->softcap <= 0 && !masked;
    const int consumers = narrow ? 3 : 2; /* as registers allow; no bits change */
    const wgmma_words words = { (int)call->type, key_dim, value_dim, keys, consumers, copies_rows(call), call->softcap > 0,
                                mask_of(of), masked && reads_pieces(call) };
    c->apart = masked && !words.mask_pieces;
    c->source = &invar_cuda_attention_wgmma;
    c->rows = WARPGROUP_ROWS * words.consumers;
    c->keys = keys;
    c->threads = WARPGROUP * (1 + (unsigned)words.consumers);
    c->shared = SHARED_ALIGNMENT + 2 * (unsigned)(c->rows * key_dim + STAGES * keys * (key_dim + value_dim));
    write_wgmma_words(c->defines, &words);
}

/* ---- the choice --------------------------------------------------------------------------------------- */

invar_status invar_cuda_attention_choose(invar_cuda_attention_cut *c, const invar_attention_call *call, const invar_cuda_attention *of,
                                         const invar_cuda_device *gpu, const char *operation) {
    bool wgmma = false;
    memset(c, 0, sizeof *c);
    if (suits_wgmma(call)) INVAR_TRY(invar_cuda_find_wgmma(&wgmma, gpu->major, gpu->minor, operation));
    /* float32 is what is promoted to it, too: q, k and v may be of any types */
    if (call->type == INVAR_F32 && suits_parts(call, gpu)) cut_parts(c, call, of, gpu);
    else if (call->type == INVAR_F32) cut_float(c, call, of, gpu);
    else if (wgmma) cut_wgmma(c, call, of);
    else cut_half(c, call, of, gpu->major);
    return INVAR_OK;
}
