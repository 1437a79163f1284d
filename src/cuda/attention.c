/* scaled_dot_product_attention on CUDA devices: which program, cut how, and its launches.
 *
 * A block computes a tile of a unit's rows (a unit: one batch and one kv head) against the keys that they see. Where all tiles of a
 * batch are few, a row's keys are cut into splits, which are computed apart and merged in order. Tiles and splits follow the
 * sizes of one batch and the types alone, so a batch's bits depend on nothing that rides along. */
#include "cuda/attention.h"

#include "core/context.h"

#include <stdio.h>

enum {
    ENOUGH_BLOCKS = 512,     /* that a batch is cut into by splits: four for each multiprocessor of the largest GPUs. A merge takes as
                              * many parts of a row */
    FEW_BLOCKS = 64,         /* tiles of a batch up to which keys are split */
    LEAST_BLOCKS = 128,      /* of a batch, below which those in float32 have fewer warps */
    LEAST_SPLIT = 128,       /* keys */
    SPLIT_ROWS = 64,         /* of the tiles that are counted for that */
    TILE_KEYS = 64,
    PARTS_MAJOR = 9,         /* of compute capability, where float32 goes through matrix units */
    LEAST_PARTS_ROWS = 32,   /* of a unit, up to which float32 does without matrix units */
    PARTS_STATIC = 10 << 10, /* bytes of shared memory that such a block has besides, at most */
    SCRATCH_BUDGET = 64 << 20, /* floats of parts at once, as far as whole batches allow: 256 MiB */
    SECTION_BYTES = 16 << 20,  /* of K and V: of units whose tiles, of unlike lengths, take turns; part of the L2 cache */
    MOST_SIZE = 1 << 30,     /* rows of a unit, queries and keys together, features */
    SLAB = 256,              /* features at once: of q and k in turn, and of v and out in a launch each */
    WGMMA_VERSION = 12000,   /* of NVRTC, the first for sm_90a */
    MOST_BLOCKS = 0x7fffffff /* of a grid */
};

/* ---- the call as programs read it -------------------------------------------------------------------- */

static int kind_of(invar_dtype dtype) {
    const int wide = dtype.bits == 64 ? 3 : dtype.bits == 32 ? 2 : dtype.bits == 16 ? 1 : 0;
    switch (dtype.code) {
    case INVAR_BOOL: return INVAR_CUDA_BOOL;
    case INVAR_INT: return INVAR_CUDA_I8 + wide;
    case INVAR_UINT: return INVAR_CUDA_U8 + wide;
    case INVAR_BFLOAT: return INVAR_CUDA_BF16;
    default: return dtype.bits == 16 ? INVAR_CUDA_F16 : INVAR_CUDA_F32;
    }
}

invar_cuda_operand invar_cuda_operand_of(const invar_attention_operand *x) {
    invar_cuda_operand operand = { .data = x->data, .head_stride = x->head_stride, .row_stride = x->row_stride,
                                   .column_stride = x->column_stride, .kind = kind_of(x->dtype) };
    for (int d = 0; d < INVAR_CUDA_BATCH_DIMS; d++) operand.batch_stride[d] = x->batch_stride[d];
    return operand;
}

static invar_status check_limits(const invar_attention_call *call, const char *operation) {
    if (call->type == INVAR_F64)
        return invar_fail(INVAR_ERROR_DTYPE, "%s: q: expected float32, float16 or bfloat16 on a CUDA device, got float64 among q, k "
                          "and v", operation);
    if (call->key_dim > MOST_SIZE || call->value_dim > MOST_SIZE)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected at most %d features on a CUDA device, got %lld", operation,
                          call->key_dim > MOST_SIZE ? "q" : "v", MOST_SIZE,
                          (long long)(call->key_dim > MOST_SIZE ? call->key_dim : call->value_dim));
    if (call->query_len + call->key_len < MOST_SIZE && (!call->group || call->query_len < MOST_SIZE / call->group)) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected fewer than %d rows a kv head, and queries and keys together, on a CUDA "
                      "device, got %lld queries of %lld heads and %lld keys", operation, MOST_SIZE, (long long)call->query_len,
                      (long long)call->group, (long long)call->key_len);
}

invar_status invar_cuda_attention_fill(invar_cuda_attention *of, const invar_attention_call *call, const char *operation) {
    INVAR_TRY(check_limits(call, operation));
    *of = (invar_cuda_attention){ .q = invar_cuda_operand_of(&call->q), .k = invar_cuda_operand_of(&call->k),
                                  .v = invar_cuda_operand_of(&call->v), .out = invar_cuda_operand_of(&call->out),
                                  .lse = invar_cuda_operand_of(&call->lse), .mask = invar_cuda_operand_of(&call->mask),
                                  .sinks = invar_cuda_operand_of(&call->sinks) };
    of->lengths.data = call->kv_lengths.data;
    if (call->kv_lengths.data) {
        of->lengths.row_stride = call->kv_lengths.stride[0] * (int64_t)invar_view_item_size(&call->kv_lengths);
        of->lengths.kind = kind_of(call->kv_lengths.dtype);
    }
    of->batch_ndim = call->batch_ndim;
    for (int d = 0; d < call->batch_ndim; d++) of->batch_shape[d] = call->batch_shape[d];
    of->batch = call->batch;
    of->query_heads = call->query_heads;
    of->kv_heads = call->kv_heads;
    of->group = (int)call->group;
    of->query_len = (int)call->query_len;
    of->key_len = (int)call->key_len;
    of->key_dim = (int)call->key_dim;
    of->value_dim = (int)call->value_dim;
    of->window_left = (int)call->window_left;
    of->window_right = call->causal ? 0 : (int)call->window_right;
    of->score_scale = call->score_scale;
    of->cap_scale = call->cap_scale;
    of->cap_height = call->cap_height;
    of->scale = (float)call->scale;
    return INVAR_OK;
}

/* ---- how it is cut ------------------------------------------------------------------------------------ */

typedef struct cut {
    const invar_cuda_source *source;
    char defines[INVAR_CUDA_DEFINES];
    int rows, keys;           /* of a block; of a tile */
    unsigned threads, shared; /* of a block; bytes */
    bool apart;               /* the mask's elements are read one by one */
    int64_t batches;          /* of a launch */
    int64_t batch_floats;     /* of scratch, for one batch */
    size_t workspace;
} cut;

static int round_up(int64_t x, int to) { return (int)((x + to - 1) / to * to); }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

bool invar_cuda_copies(const invar_attention_call *call, const invar_attention_operand *x, int64_t columns) {
    const int64_t item = (int64_t)invar_float_size(x->type);
    int64_t steps = x->head_stride | x->row_stride | columns * item | (int64_t)((uintptr_t)x->data & 15);
    for (int d = 0; d < call->batch_ndim; d++) steps |= x->batch_stride[d];
    return steps % 16 == 0 && (x->column_stride == item || columns <= 1);
}

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

bool invar_cuda_attention_merge_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    *defines = 0;
    return i == 0;
}

static void cut_float(cut *c, const invar_attention_call *call, const invar_cuda_device *gpu) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    const bool vector = call->q.type == INVAR_F32 && call->k.type == INVAR_F32 && call->v.type == INVAR_F32 &&
                        invar_cuda_copies(call, &call->q, call->key_dim) &&
                        invar_cuda_copies(call, &call->k, call->key_dim) &&
                        invar_cuda_copies(call, &call->v, call->value_dim);
    float_words words = { .key_dim = call->key_dim > 32 ? round_up(smaller(call->key_dim, SLAB), 32) : 32,
                          .value_dim = call->value_dim > 64 ? round_up(smaller(call->value_dim, SLAB), 64) : 64,
                          .slabs = call->key_dim > SLAB, .q = kind_of(call->q.dtype), .k = kind_of(call->k.dtype),
                          .v = kind_of(call->v.dtype), .vector = vector, .mask = call->mask.data ? kind_of(call->mask.dtype) : -1,
                          .softcap = call->softcap > 0 };
    choose_float_tile(&words, unit_rows, gpu->major, gpu->shared_most);
    while (words.warps > 4 && (unit_rows + float_rows(&words) - 1) / float_rows(&words) * call->kv_heads < LEAST_BLOCKS)
        words.warps /= 2;
    c->source = &invar_cuda_attention_float;
    c->keys = words.keys;
    c->rows = float_rows(&words);
    c->threads = 32 * (unsigned)words.warps;
    c->shared = float_shared(&words);
    write_float_words(c->defines, &words);
}

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

static void cut_parts(cut *c, const invar_attention_call *call, const invar_cuda_device *gpu) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    const bool vector = call->q.type == INVAR_F32 && call->k.type == INVAR_F32 && call->v.type == INVAR_F32 &&
                        invar_cuda_copies(call, &call->q, call->key_dim) &&
                        invar_cuda_copies(call, &call->k, call->key_dim) &&
                        invar_cuda_copies(call, &call->v, call->value_dim);
    parts_words words = { .key_dim = call->key_dim > 32 ? round_up(call->key_dim, 32) : 32,
                          .value_dim = call->value_dim > 32 ? round_up(call->value_dim, 32) : 32, .q = kind_of(call->q.dtype),
                          .k = kind_of(call->k.dtype), .v = kind_of(call->v.dtype), .vector = vector,
                          .mask = call->mask.data ? kind_of(call->mask.dtype) : -1, .softcap = call->softcap > 0 };
    choose_parts_tile(&words, unit_rows, gpu->shared_most);
    while (words.warps > 2 && (unit_rows + parts_rows(&words) - 1) / parts_rows(&words) * call->kv_heads < LEAST_BLOCKS)
        words.warps /= 2;
    c->source = &invar_cuda_attention_parts;
    c->keys = words.keys;
    c->rows = parts_rows(&words);
    c->threads = 32 * (unsigned)words.warps;
    c->shared = parts_shared(&words);
    write_parts_words(c->defines, &words);
}

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

int invar_cuda_padded(int64_t features) {
    return features <= 32 ? 32 : round_up(features, features > 128 ? 64 : 32);
}

/* Keys a tile follow the features alone, so that a row's bits depend on nothing else. */
static void cut_half(cut *c, const invar_attention_call *call, int major) {
    const int64_t unit_rows = invar_attention_unit_rows(call);
    const int key_dim = invar_cuda_padded(smaller(call->key_dim, SLAB));
    const int value_dim = invar_cuda_padded(smaller(call->value_dim, SLAB));
    const bool wide = key_dim > 128 || value_dim > 128;
    const bool copied = invar_cuda_copies(call, &call->q, call->key_dim) &&
                        invar_cuda_copies(call, &call->k, call->key_dim) &&
                        invar_cuda_copies(call, &call->v, call->value_dim);
    const int warps = unit_rows <= 16 ? 1 : 4, keys = wide ? 32 : TILE_KEYS;
    half_words words = { (int)call->type, key_dim, value_dim, call->key_dim > SLAB, warps, 1, keys, copied,
                         call->mask.data ? kind_of(call->mask.dtype) : -1, call->softcap > 0, call->score_scale > 0 };
    if (unit_rows > 64) words.strips = most_strips(&words, major);
    c->source = &invar_cuda_attention_half;
    c->keys = keys;
    c->rows = 16 * warps * words.strips;
    c->threads = 32 * (unsigned)warps;
    c->shared = 2 * (unsigned)((c->rows + keys) * (key_dim + 8) + keys * (value_dim + 8));
    write_half_words(c->defines, &words);
}

typedef struct wgmma_words {
    int type; /* an invar_float_type */
    int key_dim, value_dim, keys, consumers, copies, softcap, mask, mask_pieces; /* as attention_wgmma.cu tells */
} wgmma_words;

/* Hopper's asynchronous products. */
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

/* Whether tiles of a batch are so few that its keys are split. Rows of a block may follow strides, so that 64 are counted. */
static int64_t blocks_of(const invar_attention_call *call) {
    return (invar_attention_unit_rows(call) + SPLIT_ROWS - 1) / SPLIT_ROWS * call->kv_heads;
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
           blocks_of(call) > FEW_BLOCKS;
}

static void cut_wgmma(cut *c, const invar_attention_call *call) {
    const int key_dim = call->key_dim > 64 ? round_up(call->key_dim, 64) : 64;
    const int value_dim = call->value_dim > 64 ? round_up(call->value_dim, 64) : 64;
    const int keys = key_dim <= 192 && value_dim <= 128 ? 128 : 64;
    const bool copied = invar_cuda_copies(call, &call->q, call->key_dim) &&
                        invar_cuda_copies(call, &call->k, call->key_dim) &&
                        invar_cuda_copies(call, &call->v, call->value_dim);
    const bool masked = call->mask.data;
    const int consumers = key_dim == 64 && value_dim == 64 && call->softcap <= 0 && !masked ? 3 : 2; /* as registers allow; no bits
                                                                                                      * change */
    const wgmma_words words = { (int)call->type, key_dim, value_dim, keys, consumers, copied, call->softcap > 0,
                                masked ? kind_of(call->mask.dtype) : -1, masked && reads_pieces(call) };
    c->apart = masked && !words.mask_pieces;
    c->source = &invar_cuda_attention_wgmma;
    c->rows = WARPGROUP_ROWS * words.consumers;
    c->keys = keys;
    c->threads = WARPGROUP * (1 + (unsigned)words.consumers);
    c->shared = SHARED_ALIGNMENT + 2 * (unsigned)(c->rows * key_dim + STAGES * keys * (key_dim + value_dim));
    write_wgmma_words(c->defines, &words);
}

/* Splits of a row's keys, and the batches whose parts fit the budget. */
static void cut_keys(cut *c, invar_cuda_attention_job *job, const invar_attention_call *call) {
    const int64_t unit_rows = invar_attention_unit_rows(call), tiles = (unit_rows + c->rows - 1) / c->rows;
    const int64_t blocks = blocks_of(call);
    int64_t splits = blocks > 0 && blocks <= FEW_BLOCKS ? ENOUGH_BLOCKS / blocks : 1;
    int64_t keys = call->key_len > 0 ? (call->key_len + splits - 1) / splits : 1;
    keys = (keys + TILE_KEYS - 1) / TILE_KEYS * TILE_KEYS;
    if (keys < LEAST_SPLIT) keys = LEAST_SPLIT;
    splits = splits > 1 ? (call->key_len + keys - 1) / keys : 1;
    job->tiles = (int)tiles;
    job->splits = splits > 1 ? (int)splits : 1;
    job->split_keys = (int)keys;
    const double bytes = (double)call->key_len * (double)(call->key_dim + call->value_dim) * (double)invar_float_size(call->k.type);
    const bool turns = job->of.window_right >= 0 || call->mask.data;
    job->section = !turns || bytes >= SECTION_BYTES ? 1 : bytes < 1 ? SECTION_BYTES : (int)(SECTION_BYTES / bytes);
    c->batches = call->batch;
    if (job->splits > 1) c->batch_floats = call->kv_heads * unit_rows * splits * (smaller(call->value_dim, SLAB) + 2);
    if (c->batch_floats && c->batches > SCRATCH_BUDGET / c->batch_floats) c->batches = SCRATCH_BUDGET / c->batch_floats;
    if (c->batches < 1) c->batches = 1;
    c->workspace = sizeof(float) * (size_t)(c->batch_floats * (c->batches < call->batch ? c->batches : call->batch));
}

static invar_status plan(cut *c, invar_cuda_attention_job *job, const invar_attention_call *call,
                         const invar_cuda_device *gpu, const char *operation) {
    memset(c, 0, sizeof *c);
    memset(job, 0, sizeof *job);
    INVAR_TRY(invar_cuda_attention_fill(&job->of, call, operation));
    bool wgmma = false;
    if (suits_wgmma(call)) INVAR_TRY(invar_cuda_find_wgmma(&wgmma, gpu->major, gpu->minor, operation));
    /* float32 is what is promoted to it, too: q, k and v may be of any types */
    if (call->type == INVAR_F32 && suits_parts(call, gpu)) cut_parts(c, call, gpu);
    else if (call->type == INVAR_F32) cut_float(c, call, gpu);
    else if (wgmma) cut_wgmma(c, call);
    else cut_half(c, call, gpu->major);
    cut_keys(c, job, call);
    int64_t blocks;
    if (__builtin_mul_overflow(call->kv_heads, (int64_t)job->tiles * job->splits, &blocks) || blocks > MOST_BLOCKS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: q: expected a batch's heads and queries within %d tiles on a CUDA device, got "
                          "%lld heads of %lld queries", operation, MOST_BLOCKS, (long long)call->query_heads,
                          (long long)call->query_len);
    if (blocks && c->batches > MOST_BLOCKS / blocks) c->batches = MOST_BLOCKS / blocks;
    return INVAR_OK;
}

static void describe(invar_plan *plan, const cut *c, const invar_cuda_attention_job *job, const invar_attention_call *call) {
    const char *name = c->source == &invar_cuda_attention_float ? "attention" :
                       c->source == &invar_cuda_attention_parts ? "attention_parts" :
                       c->source == &invar_cuda_attention_wgmma ? "attention_wgmma" : "attention_half";
    snprintf(plan->kernel, sizeof plan->kernel, "%s.cuda", name);
    snprintf(plan->reason, sizeof plan->reason, "%s%s%s",
             job->splits > 1 ? "keys split: a batch has few tiles of rows, so pieces of keys are computed apart and merged in order"
                             : "rows: a block takes a tile of one kv head's query rows against all the keys they see",
             c->source == &invar_cuda_attention_float && call->type == INVAR_F32 ? "; float32 by multiply-adds" :
             c->source == &invar_cuda_attention_parts ? "; float32 on matrix units, each number as three of bfloat16" : "",
             c->apart ? "; the mask is read an element at a time, since those of eight keys lie apart or unaligned" : "");
    plan->workspace = c->workspace;
    plan->tasks = call->batch * call->kv_heads * job->tiles * job->splits;
    plan->query_tile = c->rows;
    plan->key_block = c->keys;
    plan->key_splits = job->splits;
}

/* ---- launches ----------------------------------------------------------------------------------------- */

static invar_status launch(const cut *c, invar_cuda_attention_job *job, const invar_cuda_device *device, void *stream,
                           const char *operation) {
    const int64_t units = job->batches * job->of.kv_heads, rows = units * job->of.group * job->of.query_len;
    const invar_cuda_launch whole = { c->source, c->defines, { (unsigned)(units * job->tiles * job->splits), 1, 1 }, c->threads,
                                      c->shared, job };
    INVAR_TRY(invar_cuda_enqueue(device, &whole, stream, operation));
    if (job->splits == 1) return INVAR_OK;
    const invar_cuda_launch merge = { &invar_cuda_attention_merge, "", { (unsigned)rows, 1, 1 }, 128, 0, job };
    return invar_cuda_enqueue(device, &merge, stream, operation);
}

static invar_status launch_batches(const cut *c, invar_cuda_attention_job *job, const invar_cuda_device *device, float *scratch,
                               void *stream, const char *operation) {
    const int64_t batch = job->of.batch;
    for (job->batch_first = 0; job->batch_first < batch; job->batch_first += job->batches) {
        const int64_t left = batch - job->batch_first;
        job->batches = left < c->batches ? left : c->batches;
        job->parts = scratch;
        const int64_t rows = job->batches * job->of.kv_heads * job->of.group * job->of.query_len;
        if (scratch) job->stats = scratch + rows * job->splits * job->of.value_dim;
        INVAR_TRY(launch(c, job, device, stream, operation));
    }
    return INVAR_OK;
}

/* Where values have more features than a block holds, those of each slab apart, from the same weights, formed anew. */
static invar_status launch_all(const cut *c, invar_cuda_attention_job *job, const invar_cuda_device *device, float *scratch,
                               void *stream, const char *operation) {
    invar_cuda_attention *of = &job->of;
    const int columns = of->value_dim;
    int first = 0;
    do {
        of->value_dim = (int)smaller(columns - first, SLAB);
        INVAR_TRY(launch_batches(c, job, device, scratch, stream, operation));
        first += of->value_dim;
        of->v.data += of->value_dim * of->v.column_stride;
        if (of->out.data) of->out.data += of->value_dim * of->out.column_stride;
        of->lse.data = NULL; /* it is written */
    } while (first < columns);
    return INVAR_OK;
}

invar_status invar_cuda_attention_run(const invar_attention_call *call, invar_device device, const invar_execution *execution,
                                      invar_context *context, const char *operation) {
    const invar_cuda_device *gpu;
    invar_cuda_attention_job job;
    invar_run checked; /* takes nothing: its scratch would be the CPU's */
    invar_execution bare = *execution;
    cut c;
    bool planned;
    void *scratch = execution->workspace;
    INVAR_TRY(invar_cuda_device_get(&gpu, device.id, operation));
    INVAR_TRY(plan(&c, &job, call, gpu, operation));
    bare.workspace = NULL;
    INVAR_TRY(invar_run_begin(&checked, context, &bare, 0, 0, 0, operation, &planned));
    if (planned) {
        describe(execution->plan, &c, &job, call);
        return INVAR_OK;
    }
    if (scratch && ((uintptr_t)scratch % 64 || execution->workspace_size < c.workspace))
        return invar_fail(INVAR_ERROR_MEMORY, "%s: execution.workspace: expected %zu bytes of the device, 64-byte aligned, got %zu",
                          operation, c.workspace, execution->workspace_size);
    if (!call->batch || !call->kv_heads || !call->query_len) return INVAR_OK;
    const bool own = c.workspace && !scratch;
    if (own) INVAR_TRY(invar_cuda_scratch_take(gpu, &scratch, c.workspace, execution->stream, operation));
    const invar_status status = launch_all(&c, &job, gpu, c.workspace ? scratch : NULL, execution->stream, operation);
    if (own) invar_cuda_scratch_give(gpu, scratch, execution->stream);
    return status;
}
