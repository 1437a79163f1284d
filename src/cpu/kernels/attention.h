/* scaled_dot_product_attention: what its API, reference, kernels and VJP share.
 *
 * An invar_attention_call is a checked call: every tensor seen as (batch, head, row, feature) through byte strides, the
 * leading dimensions flattened into `batch`. The VJP's call holds one of these and adds the gradients.
 *
 * Work is cut into units: one batch and one kv head. The rows of a unit are the group × query_len query rows that read
 * this kv head, query-major: row r is query r / group of head kv_head·group + r % group, so that rows that lie close see
 * nearly the same keys, and every K and V byte is read once for the whole group. Keys are cut into blocks of key_block,
 * counted from key 0: docs/invariance.md. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_H
#define INVAR_CPU_KERNELS_ATTENTION_H

#include "core/tensor.h"

#include <math.h>

enum { INVAR_ATTENTION_BATCH_DIMS = 6 }; /* rank 8 without its last two or three dimensions */

/* A tensor as (batch…, head, row, column). Strides are in bytes; 0 along dimensions that the tensor has not or broadcasts. */
typedef struct invar_attention_operand {
    char *data; /* NULL: absent, or without elements */
    invar_float_type type; /* of floating tensors */
    invar_dtype dtype;
    int64_t batch_stride[INVAR_ATTENTION_BATCH_DIMS];
    int64_t head_stride, row_stride, column_stride;
} invar_attention_operand;

/* How a mask's elements are read. */
typedef enum invar_attention_mask_kind {
    INVAR_MASK_NONE,
    INVAR_MASK_BOOL, /* true: attend */
    INVAR_MASK_F32,
    INVAR_MASK_F16,
    INVAR_MASK_BF16,
    INVAR_MASK_F64,
    INVAR_MASK_I8,
    INVAR_MASK_I16,
    INVAR_MASK_I32,
    INVAR_MASK_I64,
    INVAR_MASK_U8,
    INVAR_MASK_U16,
    INVAR_MASK_U32,
    INVAR_MASK_U64
} invar_attention_mask_kind;

typedef struct invar_attention_call {
    /* q, out: (batch, query_heads, query_len, ·); k, v: (batch, kv_heads, key_len, ·); mask: (batch, query_heads, query_len,
     * key_len); lse: (batch, query_heads, query_len), its rows along row_stride; sinks: (query_heads) along head_stride. */
    invar_attention_operand q, k, v, out, lse, mask, sinks;
    invar_attention_mask_kind mask_kind;
    invar_view kv_lengths; /* data NULL: every batch has key_len keys */

    int batch_ndim;
    int64_t batch_shape[INVAR_ATTENTION_BATCH_DIMS];
    int64_t batch;                                 /* their product */
    int64_t query_heads, kv_heads, group;          /* group = query_heads / kv_heads; 0 where there are no heads */
    int64_t query_len, key_len, key_dim, value_dim; /* Tq, Tkv, Dk, Dv */
    invar_float_type type;                         /* promote(q, k, v): the type of out */

    double scale, softcap;             /* softcap 0: none */
    bool causal, strong_cores;         /* strong_cores: as dispatch.h says */
    int64_t window_left, window_right; /* -1: unbounded; otherwise clamped to query_len + key_len */
    int64_t key_block;                 /* keys a block */

    /* Constants of the float32 arithmetic, each formed in double and rounded once. */
    float score_scale;   /* scale · log2(e); t = s · score_scale without softcap */
    float cap_scale;     /* scale / softcap; t = cap_height · tanh(s · cap_scale) with it */
    float cap_height;    /* softcap · log2(e) */
} invar_attention_call;

#define INVAR_LOG2E 1.4426950408889634074
#define INVAR_LN2 0.69314718055994530942

/* Keys first … last-1 that position rules (causal, window, length) leave to a query; first == last: none. */
typedef struct invar_key_range {
    int64_t first, last;
} invar_key_range;

/* Keys a block: as many as keep K and V of a block within 64 Ki floats, or 128 Ki bfloat16 numbers, a power of two from 32 to
 * 256. The same for every instruction set; float16 is widened, so counts as float. */
static inline int64_t invar_attention_key_block(invar_float_type type, int64_t key_dim, int64_t value_dim) {
    const int64_t most = type == INVAR_BF16 ? 131072 : 65536;
    int64_t block = 256;
    while (block > 32 && block * (key_dim + value_dim) > most) block /= 2;
    return block;
}

/* Features of a dot product that are one link of it (product.h): half of them, rounded up to whole vectors, at most 64. */
static inline int64_t invar_attention_feature_link(int64_t features) {
    const int64_t half = ((features + 1) / 2 + 15) / 16 * 16;
    return half < 64 ? half : 64;
}

enum {
    INVAR_ATTENTION_TILE = 64, /* query rows a tile, at most: four of the longest vectors */
    INVAR_ATTENTION_HELD = 128, /* query rows whose scores are held at once, at most: of half types on AMX tiles */
    INVAR_ATTENTION_FEW = 8,   /* rows up to which a vector holds keys rather than query rows */
    INVAR_ATTENTION_HEADS = 4, /* kv heads of a piece of work, at most: q and out of more leave the second-level cache */
    INVAR_ATTENTION_TILES = 10 /* tiles of a chunk, at most */
};

/* Most query rows that share one block of K and V while it is in cache: their q and out keep within 192 Ki floats. A block is
 * read from the caches that cores share once for these rows, which is why they are not fewer. */
static inline int64_t invar_attention_chunk_rows(const invar_attention_call *call) {
    const int64_t tiles = 3 * 65536 / (INVAR_ATTENTION_TILE * (call->key_dim + call->value_dim + 1));
    return INVAR_ATTENTION_TILE * (tiles < 1 ? 1 : tiles > INVAR_ATTENTION_TILES ? INVAR_ATTENTION_TILES : tiles);
}

/* Whole tiles that hold so many rows. */
static inline int64_t invar_attention_tile_rows(int64_t rows) {
    return (rows + INVAR_ATTENTION_TILE - 1) / INVAR_ATTENTION_TILE * INVAR_ATTENTION_TILE;
}

static inline int64_t invar_attention_units(const invar_attention_call *call) { return call->batch * call->kv_heads; }
static inline int64_t invar_attention_unit_rows(const invar_attention_call *call) { return call->group * call->query_len; }

/* Byte offset of a batch in an operand. */
static inline int64_t invar_attention_batch_offset(const invar_attention_call *call, const invar_attention_operand *x,
                                                   int64_t batch) {
    int64_t offset = 0;
    for (int d = call->batch_ndim - 1; d >= 0; d--) {
        offset += batch % call->batch_shape[d] * x->batch_stride[d];
        batch /= call->batch_shape[d];
    }
    return offset;
}

/* First element of a row of q, out, lse, mask (head: a query head), k or v (head: a kv head). */
static inline char *invar_attention_row(const invar_attention_call *call, const invar_attention_operand *x, int64_t batch,
                                        int64_t head, int64_t row) {
    return x->data + (invar_attention_batch_offset(call, x, batch) + head * x->head_stride + row * x->row_stride);
}

/* Row r of a unit of q, out, lse or mask, from its row 0. Without heads that share K and V no division is needed. */
static inline char *invar_attention_unit_row(const invar_attention_call *call, const invar_attention_operand *x, char *first,
                                             int64_t r) {
    if (call->group == 1) return first + r * x->row_stride;
    return first + (r % call->group * x->head_stride + r / call->group * x->row_stride);
}

/* Keys that this batch has. */
static inline int64_t invar_attention_length(const invar_attention_call *call, int64_t batch) {
    const invar_view *lengths = &call->kv_lengths;
    return lengths->data ? invar_load_integer(lengths, batch * lengths->stride[0]) : call->key_len;
}

/* The keys that causal, window and `length` (of invar_attention_length) leave to a query. Both ends grow with query. */
static inline invar_key_range invar_attention_range(const invar_attention_call *call, int64_t length, int64_t query) {
    int64_t position = query + length - call->query_len;
    invar_key_range range = { 0, length };
    if (call->causal && position + 1 < range.last) range.last = position + 1;
    if (call->window_right >= 0 && position + call->window_right + 1 < range.last)
        range.last = position + call->window_right + 1;
    if (call->window_left >= 0 && position - call->window_left > 0) range.first = position - call->window_left;
    if (range.last < range.first) range.last = range.first;
    return range;
}

/* The queries first … last-1 that see at least one of the keys key_first … key_last-1 by position, for a walk over query
 * tiles of one key block. A superset at most where a window is cut by the length. */
static inline invar_key_range invar_attention_queries(const invar_attention_call *call, int64_t length, int64_t key_first,
                                                      int64_t key_last) {
    int64_t shift = length - call->query_len, first = 0, last = call->query_len;
    int64_t right = call->causal ? 0 : call->window_right;
    if (right >= 0 && key_first - shift - right > first) first = key_first - shift - right;
    if (call->window_left >= 0 && key_last - shift + call->window_left < last) last = key_last - shift + call->window_left;
    if (first > call->query_len) first = call->query_len;
    return (invar_key_range){ first, last < first ? first : last };
}

/* One mask element as an additive value; -inf for a bool false. */
static inline double invar_attention_mask_value(invar_attention_mask_kind kind, const char *p) {
#define INVAR_MASK_READ(type)      \
    do {                           \
        type value;                \
        memcpy(&value, p, sizeof value); \
        return (double)value;      \
    } while (0)
    switch (kind) {
    case INVAR_MASK_NONE: return 0;
    case INVAR_MASK_BOOL: return *p ? 0 : -(double)INFINITY;
    case INVAR_MASK_F32: return invar_load_float(p, INVAR_F32);
    case INVAR_MASK_F16: return invar_load_float(p, INVAR_F16);
    case INVAR_MASK_BF16: return invar_load_float(p, INVAR_BF16);
    case INVAR_MASK_F64: return invar_load_float(p, INVAR_F64);
    case INVAR_MASK_I8: INVAR_MASK_READ(int8_t);
    case INVAR_MASK_I16: INVAR_MASK_READ(int16_t);
    case INVAR_MASK_I32: INVAR_MASK_READ(int32_t);
    case INVAR_MASK_I64: INVAR_MASK_READ(int64_t);
    case INVAR_MASK_U8: INVAR_MASK_READ(uint8_t);
    case INVAR_MASK_U16: INVAR_MASK_READ(uint16_t);
    case INVAR_MASK_U32: INVAR_MASK_READ(uint32_t);
    case INVAR_MASK_U64: INVAR_MASK_READ(uint64_t);
    }
    return 0;
#undef INVAR_MASK_READ
}

/* Converts mask elements of one row, keys first … first+count-1, to additive floats: `row` is the row's element of key 0.
 * True when at least one of them is not -inf. */
static inline bool invar_attention_mask_row(const invar_attention_call *call, const char *row, int64_t first, int64_t count,
                                            float *additive) {
    const int64_t step = call->mask.column_stride;
    const char *p = row + first * step;
    const float hidden = -(float)INFINITY;
    int seen = 0;
    if (call->mask_kind == INVAR_MASK_BOOL && step == 1) {
        for (int64_t j = 0; j < count; j++) additive[j] = p[j] ? 0.0f : hidden;
        for (int64_t j = 0; j < count; j++) seen |= p[j];
        return seen != 0;
    }
    switch (call->mask_kind) {
    case INVAR_MASK_F32:
        if (step == 4) memcpy(additive, p, 4 * (size_t)count);
        else
            for (int64_t j = 0; j < count; j++) memcpy(&additive[j], p + j * step, 4);
        break;
    case INVAR_MASK_BF16:
        for (int64_t j = 0; j < count; j++) {
            uint16_t bits;
            memcpy(&bits, p + j * step, 2);
            additive[j] = invar_float_from_bf16(bits);
        }
        break;
    default:
        for (int64_t j = 0; j < count; j++)
            additive[j] = (float)invar_attention_mask_value(call->mask_kind, p + j * step);
    }
    for (int64_t j = 0; j < count; j++) seen |= !(additive[j] == hidden);
    return seen != 0;
}

/* One piece of a forward call. */
typedef struct invar_attention_work {
    int64_t batch, kv_head;
    int64_t heads;                   /* units from kv_head on, all with the same rows of one mask where they are more than 1 */
    int64_t row_first, row_last;     /* of the unit's rows */
    int64_t block_first, block_last; /* key blocks, wholly unseen ones among them */
    /* NULL: compute, and write out and lse. Otherwise parts, one a block in ascending order, part_stride floats apart: for
     * each row its o (value_dim floats), then m, then l. */
    float *parts;
    int64_t part_stride;
    float *state; /* the rows' running o, m, l over earlier parts */
    enum { INVAR_ATTENTION_COMPUTE, INVAR_ATTENTION_MERGE, INVAR_ATTENTION_MERGE_LAST } stage;
    bool resume; /* merge: state holds earlier parts */
} invar_attention_work;

/* Floats of scratch, each part rounded up to a cache line's 16. */
typedef struct invar_attention_layout {
    int64_t keys, values, span; /* so many blocks of K and V, packed */
    int64_t queries, rows;     /* the chunk's q; a tile's rows, or a panel's of K */
    int64_t out, stats;        /* the chunk's running state; and what a tile needs of it */
    int64_t scores, mask, part; /* a tile's scores, its additive mask (of several heads: the chunk's), its part of out */
    int64_t kept; /* half types' mask of several heads: of all keys, as products read it, and a byte a tile of 32 rows */
    int64_t head_queries, head_out, head_stats; /* from one head's to the next one's */
    int64_t total;
} invar_attention_layout;

static inline int64_t invar_attention_lines(int64_t floats) { return (floats + 15) / 16 * 16; }

/* Blocks of K and V that half types on AMX tiles keep packed at once: as many as fit in 1 MiB, half of those cores' second-level
 * cache, where heads have masks of their own with a page or more a row. Then 32 rows of queries meet all these blocks before the next
 * 32 do, so that a row of the mask is read as it lies. */
static inline int64_t invar_attention_span(const invar_attention_call *call, int64_t rows, int64_t heads) {
    const int64_t blocks = (call->key_len + call->key_block - 1) / call->key_block, step = call->mask.column_stride;
    const int64_t block = (call->type == INVAR_F16 ? 4 : 2) * (call->key_dim + call->value_dim) * call->key_block;
    const bool own = call->mask.data && call->mask.row_stride && call->mask.head_stride && step == 2 && heads == 1;
    if (!own || call->type == INVAR_F32 || !call->strong_cores || rows <= 64 || step * call->key_len < 4096) return 1;
    const int64_t most = (1 << 20) / block;
    return most < 1 ? 1 : most < blocks ? most : blocks;
}

/* Where a kernel keeps what it works on: offsets; rows and heads: of the piece of work. */
static inline invar_attention_layout invar_attention_layout_of(const invar_attention_call *call, int64_t rows, int64_t heads) {
    const int64_t most = invar_attention_lines(rows);
    const int64_t tile = most < INVAR_ATTENTION_TILE ? most : INVAR_ATTENTION_TILE;
    const int64_t held = call->type == INVAR_F32 ? tile : most < INVAR_ATTENTION_HELD ? most : INVAR_ATTENTION_HELD;
    const int64_t key_width = (call->key_dim + 31) / 32 * 32, width = invar_attention_lines(call->value_dim);
    invar_attention_layout at = { .head_queries = most * key_width, .head_out = most * width,
                                  .head_stats = invar_attention_lines(2 * rows) + 8 * INVAR_ATTENTION_TILE };
    at.span = invar_attention_span(call, rows, heads);
    at.values = at.keys + at.span * key_width * call->key_block;
    const bool whole = call->type != INVAR_F32 && heads > 1; /* one head after the other */
    const int64_t states = whole ? 1 : heads;
    at.queries = at.values + at.span * (width + 16) * call->key_block; /* rows may lie a line further apart than they are wide */
    at.rows = at.queries + states * at.head_queries;
    at.out = at.rows + INVAR_ATTENTION_TILE * (key_width > width + 16 ? key_width : width + 16); /* or of O, a line apart */
    at.stats = at.out + states * at.head_out;
    at.scores = at.stats + states * at.head_stats;
    at.mask = at.scores + held * (call->key_block + 16); /* rows may lie a line further apart than a block is wide */
    at.part = at.mask + (call->mask.data ? (states > 1 ? most : held) * (call->key_block + 16) : 0);
    at.kept = at.part + tile * width;
    const int64_t blocks = (call->key_len + call->key_block - 1) / call->key_block, tiles = blocks * ((rows + 31) / 32);
    at.total = at.kept + (whole ? invar_attention_lines(tiles * (16 * call->key_block + 1)) : 0);
    return at;
}

static inline size_t invar_attention_scratch(const invar_attention_call *call, int64_t rows, int64_t heads) {
    return sizeof(double) * (size_t)(invar_attention_layout_of(call, rows, heads).total / 2 + 8);
}

/* Computes the rows of one piece of work. scratch: invar_attention_scratch(call, rows, heads) bytes, 64-byte aligned, contents
 * undefined. Memory of keys beyond kv_lengths is never read. */
typedef void invar_attention_kernel(const invar_attention_call *call, const invar_attention_work *work, void *scratch);

#endif
