/* scaled_dot_product_attention forward: one piece of work, a chunk of one unit's query rows against a run of key blocks
 * (Milakov & Gimelshein, 2018; Dao et al., 2022; block partials and their merge: Dao, Flash-Decoding, 2023).
 *
 * The chunk's queries are packed once. For each block of keys, K is packed transposed and V in panels, and tiles of TILE
 * rows go through: S = Q Kᵀ (product.h), weights in place (attention_softmax.h), O = P V (product.h), fold into the running
 * state. Tiles that see nothing are skipped, and on a diagonal only the keys that a register tile's rows see are computed:
 * no bit depends on that. */
#include "cpu/kernels/attention_fold.h"
#include "cpu/kernels/attention_pack.h"
#include "cpu/kernels/attention_softmax.h"

enum { TILE = INVAR_ATTENTION_TILE, PRODUCT_ROWS = 12 };

/* A block of keys as the tiles of a chunk see it. Keys are counted within the block. */
typedef struct key_block {
    int64_t start;        /* key of the block's first */
    int first, last;      /* keys that some row of the chunk sees */
    int packed, columns;  /* K columns packed … columns-1 stand in panels, from the panel's start */
    const float *values;  /* row 0 of V's first panel */
    int64_t panel_step;   /* from a panel of V to the next, for each column */
    int64_t value_row;    /* 0: the panel's width */
} key_block;

/* A tile of rows within a block. */
typedef struct row_tile {
    int64_t row; /* within the chunk */
    int rows;
    int first[TILE], last[TILE]; /* keys each row may see */
    int low, high;               /* their union */
    bool masked;                 /* some key in low … high-1 is hidden from some row */
} row_tile;

typedef struct kernel_state {
    const invar_attention_call *call;
    const invar_attention_work *work;
    int64_t length, width; /* keys of this batch; value_dim rounded up */
    pack_source k, v;
    const char *mask_row[2]; /* unused where there is no mask */
    float *keys, *values, *queries, *scores, *mask;
    fold_state fold;
} kernel_state;

static void key_span(const kernel_state *s, int64_t row, int64_t start, int *first, int *last) {
    const invar_key_range range = invar_attention_range(s->call, s->length, (s->work->row_first + row) / s->call->group);
    const int64_t block = s->call->key_block;
    const int64_t low = range.first - start, high = range.last - start;
    *first = low < 0 ? 0 : low > block ? (int)block : (int)low;
    *last = high < 0 ? 0 : high > block ? (int)block : (int)high;
    if (*last < *first) *last = *first;
}

/* V as it stands serves the product when it is float32 in rows of whole vectors; copying it first pays for many rows. */
static bool values_in_place(const kernel_state *s) {
    return s->v.type == INVAR_F32 && pack_contiguous(&s->v) && s->call->value_dim % VW == 0 && s->v.row_stride % 4 == 0 &&
           s->work->row_last - s->work->row_first <= PRODUCT_ROWS;
}

static key_block open_block(const kernel_state *s, int64_t index) {
    const int64_t rows = s->work->row_last - s->work->row_first;
    key_block b = { .start = index * s->call->key_block };
    int unused;
    key_span(s, 0, b.start, &b.first, &unused);
    key_span(s, rows - 1, b.start, &unused, &b.last);
    if (b.last <= b.first) return b;
    b.packed = b.first / VW * VW;
    b.columns = (int)pack_width(b.last);
    for (int64_t c = b.packed, width; c < b.columns; c += width) {
        width = pack_panel_width(c, b.columns);
        pack_transposed(s->keys + c * s->call->key_dim, width, &s->k, b.start + c,
                        b.start + (c + width < b.last ? c + width : b.last), s->call->key_dim);
    }
    if (values_in_place(s)) {
        b.values = (const float *)(const void *)(s->v.data + b.start * s->v.row_stride);
        b.panel_step = 1;
        b.value_row = s->v.row_stride / 4;
    } else {
        pack_panels(s->values, s->call->key_block, &s->v, b.start, b.start + b.first, b.start + b.last, s->call->value_dim);
        b.values = s->values;
        b.panel_step = s->call->key_block;
    }
    return b;
}

/* Reads the tile's mask, and empties the rows that it hides wholly. */
static void read_mask(const kernel_state *s, const key_block *b, row_tile *tile) {
    const invar_attention_call *call = s->call;
    for (int r = 0; r < tile->rows; r++) {
        if (tile->last[r] <= tile->first[r]) continue;
        const int64_t unit_row = s->work->row_first + tile->row + r;
        const int64_t head = s->work->kv_head * call->group + unit_row % call->group;
        const char *row = invar_attention_row(call, &call->mask, s->work->batch, head, unit_row / call->group);
        float *additive = s->mask + r * call->key_block;
        if (!invar_attention_mask_row(call, row, b->start + tile->first[r], tile->last[r] - tile->first[r],
                                      additive + tile->first[r]))
            tile->last[r] = tile->first[r];
    }
    tile->masked = true;
}

static row_tile open_tile(const kernel_state *s, const key_block *b, int64_t row, int rows) {
    row_tile tile = { .row = row, .rows = rows, .low = (int)s->call->key_block };
    for (int r = 0; r < rows; r++) key_span(s, row + r, b->start, &tile.first[r], &tile.last[r]);
    if (s->call->mask.data) read_mask(s, b, &tile);
    for (int r = 0; r < rows; r++) {
        if (tile.last[r] <= tile.first[r]) continue;
        if (tile.first[r] < tile.low) tile.low = tile.first[r];
        if (tile.last[r] > tile.high) tile.high = tile.last[r];
    }
    for (int r = 0; r < rows; r++) tile.masked |= tile.first[r] > tile.low || tile.last[r] < tile.high;
    return tile;
}

/* Keys that rows first … first+count-1 see. False: none. */
static bool rows_span(const row_tile *tile, int first, int count, int *low, int *high) {
    *low = INT32_MAX;
    *high = 0;
    for (int r = first; r < first + count; r++) {
        if (tile->last[r] <= tile->first[r]) continue;
        if (tile->first[r] < *low) *low = tile->first[r];
        if (tile->last[r] > *high) *high = tile->last[r];
    }
    return *high > *low;
}

/* Rows that go through a product together: all of an unmasked tile, else as few as a register tile holds well. */
static int rows_together(const row_tile *tile) { return tile->masked ? PRODUCT_ROWS : tile->rows; }

static void score_rows(const kernel_state *s, const key_block *b, const row_tile *tile, int first, int count) {
    int low, high;
    if (!rows_span(tile, first, count, &low, &high)) return;
    for (int64_t c = b->packed, width; c < high; c += width) {
        width = pack_panel_width(c, b->columns);
        if (c + width <= low) continue;
        const product x = {
            .rows = count, .columns = c + width <= high ? width : pack_width(high - c), .depth = s->call->key_dim,
            .a = s->queries + (tile->row + first) * s->call->key_dim, .a_row = s->call->key_dim, .a_step = 1,
            .b = s->keys + c * s->call->key_dim, .b_row = width,
            .c = s->scores + first * s->call->key_block + c, .c_row = s->call->key_block,
        };
        product_run(&x);
    }
}

static void weigh_rows(const kernel_state *s, const row_tile *tile, int first, int count) {
    int low, high;
    const bool any = rows_span(tile, first, count, &low, &high);
    for (int r = first; r < first + count; r++) {
        s->fold.part_m[r] = -INFINITY;
        s->fold.part_l[r] = 0;
        if (!any) continue;
        const softmax_row row = {
            .score = s->scores + r * s->call->key_block, .mask = s->call->mask.data ? s->mask + r * s->call->key_block : NULL,
            .from = low / VW * VW, .to = (int)pack_width(high), .first = tile->first[r], .last = tile->last[r],
        };
        softmax_block(s->call, &row, tile->masked, &s->fold.part_m[r], &s->fold.part_l[r]);
    }
}

static void sum_rows(const kernel_state *s, const key_block *b, const row_tile *tile, int first, int count) {
    int low, high;
    if (!rows_span(tile, first, count, &low, &high)) return;
    for (int64_t c = 0, width; c < s->call->value_dim; c += width) {
        width = pack_panel_width(c, s->call->value_dim);
        const int64_t b_row = b->value_row ? b->value_row : width;
        const product x = {
            .rows = count, .columns = width, .depth = high - low,
            .a = s->scores + first * s->call->key_block + low, .a_row = s->call->key_block, .a_step = 1,
            .b = b->values + c * b->panel_step + low * b_row, .b_row = b_row,
            .c = s->fold.part + first * s->width + c, .c_row = s->width,
        };
        product_run(&x);
    }
}

/* O of one row again, leaving out the keys whose weight is marked as masked: a chain over the same keys in the same order,
 * to which a masked value that is not finite adds nothing. */
static void sum_selected(const kernel_state *s, const key_block *b, const row_tile *tile, int r) {
    const float *weight = s->scores + r * s->call->key_block;
    for (int64_t c = 0, width; c < s->call->value_dim; c += width) {
        width = pack_panel_width(c, s->call->value_dim);
        const int64_t b_row = b->value_row ? b->value_row : width;
        for (int64_t v = 0; v < width; v += VW) {
            vf sum = vf_zero();
            for (int j = tile->first[r]; j < tile->last[r]; j++)
                if (invar_bits_from_float(weight[j]) != 0x80000000u)
                    sum = vf_fma(vf_set1(weight[j]), vf_load(b->values + c * b->panel_step + j * b_row + v), sum);
            vf_store(s->fold.part + r * s->width + c + v, sum);
        }
    }
}

static bool row_has_nan(const float *row, int64_t width) {
    vm nan = vm_not(vf_eq(vf_zero(), vf_zero()));
    for (int64_t d = 0; d < width; d += VW) {
        const vf x = vf_load(row + d);
        nan = vm_or(nan, vm_not(vf_eq(x, x)));
    }
    return vm_any(nan);
}

static void attend_tile(kernel_state *s, const key_block *b, int64_t row, int rows) {
    const row_tile tile = open_tile(s, b, row, rows);
    if (tile.high <= tile.low) {
        fold_nothing(&s->fold, row, rows);
        return;
    }
    const int together = rows_together(&tile);
    for (int r = 0; r < rows; r += together) score_rows(s, b, &tile, r, rows - r < together ? rows - r : together);
    for (int r = 0; r < rows; r += together) weigh_rows(s, &tile, r, rows - r < together ? rows - r : together);
    for (int r = 0; r < rows; r += together) sum_rows(s, b, &tile, r, rows - r < together ? rows - r : together);
    for (int r = 0; tile.masked && r < rows; r++)
        if (s->fold.part_l[r] != 0 && row_has_nan(s->fold.part + r * s->width, s->width)) sum_selected(s, b, &tile, r);
    fold_tile(&s->fold, row, rows);
}

static kernel_state open_state(const invar_attention_call *call, const invar_attention_work *work, float *scratch) {
    const int64_t rows = work->row_last - work->row_first;
    const invar_attention_layout at = invar_attention_layout_of(call, rows);
    kernel_state s = {
        .call = call, .work = work, .length = invar_attention_length(call, work->batch), .width = pack_width(call->value_dim),
        .keys = scratch + at.keys, .values = scratch + at.values, .queries = scratch + at.queries,
        .scores = scratch + at.scores, .mask = scratch + at.mask,
    };
    s.k = pack_source_of(call, &call->k, work->batch, work->kv_head);
    s.v = pack_source_of(call, &call->v, work->batch, work->kv_head);
    fold_open(&s.fold, call, work, scratch + at.out, scratch + at.stats, scratch + at.part, s.width);
    return s;
}

static void pack_queries(const kernel_state *s) {
    const invar_attention_call *call = s->call;
    for (int64_t r = s->work->row_first; r < s->work->row_last; r++) {
        const pack_source q =
            pack_source_of(call, &call->q, s->work->batch, s->work->kv_head * call->group + r % call->group);
        pack_any_row(s->queries + (r - s->work->row_first) * call->key_dim, &q, q.data + r / call->group * q.row_stride,
                     call->key_dim);
    }
}

void INVAR_KERNEL_NAME(attention)(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    kernel_state s = open_state(call, work, scratch);
    const int64_t rows = work->row_last - work->row_first;
    if (work->stage != INVAR_ATTENTION_COMPUTE) {
        fold_merge(&s.fold, rows);
        return;
    }
    pack_queries(&s);
    for (int64_t index = work->block_first; index < work->block_last; index++) {
        const key_block b = open_block(&s, index);
        for (int64_t row = 0; row < rows; row += TILE) {
            const int count = rows - row < TILE ? (int)(rows - row) : TILE;
            if (b.last > b.first) attend_tile(&s, &b, row, count);
            else fold_nothing(&s.fold, row, count);
        }
    }
    if (!work->parts) fold_finish(&s.fold, rows);
}
