/* What a piece of attention's work keeps while it runs, and which keys its rows see. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_STATE_H
#define INVAR_CPU_KERNELS_ATTENTION_STATE_H

#include "cpu/kernels/attention_element.h"
#include "cpu/kernels/attention_fold.h"
#include "cpu/kernels/attention_softmax.h"

enum { TILE = INVAR_ATTENTION_TILE };

typedef struct kernel_state {
    const invar_attention_call *call;
    const invar_attention_work *work;
    int64_t rows, length, width; /* rows of the work; keys of this batch; value_dim rounded up to whole vectors */
    int64_t span;                /* blocks whose K and V are packed at once, by half types on AMX tiles */
    int64_t depth, link;         /* elements of a row of q or k, and of a link of their product */
    pack_source k, v;
    char *first_query, *first_mask; /* q's and the mask's row of the unit's row 0 */
    float *keys, *values, *queries, *query_rows, *scores, *mask, *kept;
    fold_state fold;
} kernel_state;

/* Rows of one tile within a block of keys, and the keys they may see, counted within the block. */
typedef struct row_tile {
    int64_t row; /* within the work */
    int rows;
    int first[TILE], last[TILE];
    int low, high; /* their union; low >= high: none */
    bool masked;   /* not all rows see all keys from low to high */
} row_tile;

/* scratch is shared by the work's heads, but for the part of each of them, of which `head` is one. */
static kernel_state open_state(const invar_attention_call *call, const invar_attention_work *work, int64_t head, float *scratch) {
    const int64_t rows = work->row_last - work->row_first;
    const invar_attention_layout at = invar_attention_layout_of(call, rows, work->heads);
    kernel_state s = {
        .call = call, .work = work, .rows = rows, .length = invar_attention_length(call, work->batch),
        .width = pack_width(call->value_dim), .span = at.span, .depth = element_count(call->key_dim),
        .keys = scratch + at.keys, .values = scratch + at.values,
        .queries = scratch + at.queries + head * at.head_queries, .query_rows = scratch + at.rows, .scores = scratch + at.scores,
        .mask = scratch + at.mask, .kept = scratch + at.kept,
    };
    s.link = feature_link(s.depth);
    s.first_query = invar_attention_row(call, &call->q, work->batch, work->kv_head * call->group, 0);
    if (call->mask.data)
        s.first_mask = invar_attention_row(call, &call->mask, work->batch, work->kv_head * call->group, 0);
    s.k = pack_source_of(call, &call->k, work->batch, work->kv_head);
    s.v = pack_source_of(call, &call->v, work->batch, work->kv_head);
    fold_open(&s.fold, call, work, scratch + at.out + head * at.head_out, scratch + at.stats + head * at.head_stats,
              scratch + at.part, s.width);
    return s;
}

static int clamp_key(int64_t key, int64_t block) { return key < 0 ? 0 : key > block ? (int)block : (int)key; }

/* The keys of the block that starts at key `start` which a row of the work may see. */
static void key_span(const kernel_state *s, int64_t row, int64_t start, int *first, int *last) {
    const invar_key_range range = invar_attention_range(s->call, s->length, (s->work->row_first + row) / s->call->group);
    *first = clamp_key(range.first - start, s->call->key_block);
    *last = clamp_key(range.last - start, s->call->key_block);
    if (*last < *first) *last = *first;
}

/* The keys of a block that some row of the work may see. */
static bool block_span(const kernel_state *s, int64_t start, int *first, int *last) {
    int unused;
    key_span(s, 0, start, first, &unused);
    key_span(s, s->rows - 1, start, &unused, last);
    return *last > *first;
}

/* `count` rows of q from `row` of the work on, as elements, `stride` apart. */
static void pack_queries(const kernel_state *s, int64_t row, int64_t count, float *to, int64_t stride) {
    const invar_attention_call *call = s->call;
    pack_source q = { .type = call->q.type, .row_stride = call->q.row_stride, .column_stride = call->q.column_stride };
    const int64_t together = call->group == 1 ? count : 1;
    for (int64_t r = s->work->row_first + row, last = r + count; r < last; r += together, to += stride) {
        q.data = invar_attention_unit_row(call, &call->q, s->first_query, r);
        element_pack_rows(to, stride, &q, 0, together, call->key_dim);
    }
}

/* A row of the work's mask: its element of key 0. */
static const char *mask_of_row(const kernel_state *s, int64_t row) {
    return invar_attention_unit_row(s->call, &s->call->mask, s->first_mask, s->work->row_first + row);
}

/* Additive mask of a row for its keys first … last-1, at to[first …]. False: it hides them all. */
static inline bool mask_row(const kernel_state *s, int64_t row, int64_t start, int first, int last, float *to) {
    return invar_attention_mask_row(s->call, mask_of_row(s, row), start + first, last - first, to + first);
}

/* The mask's kind where mask_load has a form of its own for it, NONE elsewhere. */
static invar_attention_mask_kind mask_form(const invar_attention_call *call) {
    const invar_attention_mask_kind kind = call->mask_kind;
    const int64_t step = call->mask.column_stride;
    const bool whole = kind == INVAR_MASK_F32 ? step == 4 : kind == INVAR_MASK_BOOL ? step == 1 : step == 2;
    return whole && (kind == INVAR_MASK_BOOL || kind == INVAR_MASK_F32 || kind == INVAR_MASK_F16 || kind == INVAR_MASK_BF16)
               ? kind : INVAR_MASK_NONE;
}

/* n <= VW mask elements at p as additive values. form, of mask_form, is a constant where this is inlined. */
VEC_INLINE vf mask_load(const kernel_state *s, const invar_attention_mask_kind form, const char *p, int n) {
    const void *address = p;
    float lane[VW] = { 0 };
    switch (form) {
    case INVAR_MASK_F32: return n == VW ? vf_load(address) : vf_load_n(address, n);
    case INVAR_MASK_F16: return n == VW ? vf_load_f16(address) : vf_load_f16_n(address, n);
    case INVAR_MASK_BF16: return n == VW ? vf_load_bf16(address) : vf_load_bf16_n(address, n);
    case INVAR_MASK_BOOL:
        if (n < VW) {
            memcpy(lane, p, (size_t)n);
            address = lane;
        }
        return vf_select(vm_load_bytes(address), vf_zero(), vf_set1(-INFINITY));
    default: invar_attention_mask_row(s->call, p, 0, n, lane); return vf_load(lane);
    }
}

/* Keys that rows first … first+count-1 of a tile see. False: none. */
static bool rows_span(const row_tile *tile, int first, int count, int *low, int *high) {
    int least = INT32_MAX, most = 0;
    for (int r = first; r < first + count; r++) {
        const bool some = tile->last[r] > tile->first[r];
        const int from = some ? tile->first[r] : INT32_MAX, to = some ? tile->last[r] : 0;
        least = from < least ? from : least;
        most = to > most ? to : most;
    }
    *low = least;
    *high = most;
    return most > least;
}

/* The tile's rows and their keys. */
static void open_tile(const kernel_state *s, row_tile *tile, int64_t start, int64_t row, int rows) {
    tile->row = row;
    tile->rows = rows;
    int first, last;
    key_span(s, row, start, &tile->first[0], &tile->last[0]);
    key_span(s, row + rows - 1, start, &first, &last);
    const bool uniform = first == tile->first[0] && last == tile->last[0]; /* both grow with the row */
    for (int r = 1; r < rows; r++) {
        tile->first[r] = first;
        tile->last[r] = last;
        if (!uniform) key_span(s, row + r, start, &tile->first[r], &tile->last[r]);
    }
}

/* The union of the rows' keys, once the mask has emptied the rows that it hides. */
static bool close_tile(const kernel_state *s, row_tile *tile) {
    tile->masked = s->call->mask.data != NULL;
    if (!rows_span(tile, 0, tile->rows, &tile->low, &tile->high)) return false;
    int part = 0;
    for (int r = 0; r < tile->rows; r++) part |= (tile->first[r] > tile->low) | (tile->last[r] < tile->high);
    tile->masked |= part != 0;
    return true;
}

static bool row_has_nan(const float *row, int64_t width) {
    vm nan = vm_not(vf_eq(vf_zero(), vf_zero()));
    for (int64_t d = 0; d < width; d += VW) {
        const vf x = vf_load(row + d);
        nan = vm_or(nan, vm_not(vf_eq(x, x)));
    }
    return vm_any(nan);
}

#endif
