/* A tile of many query rows: which keys they see, and their masks as columns, or as bits. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_WIDE_TILE_H
#define INVAR_CPU_KERNELS_ATTENTION_WIDE_TILE_H

#include "cpu/kernels/attention_state.h"

/* Vectors of rows that are worked on together, with a few registers for each. Floats of a line. Keys at a corner of a mask. */
enum { PANEL_VECTORS = PANEL / VW, WIDE_VECTORS = VEC_REGISTERS == 32 ? 4 : 1, CALL_LINE = 16, WIDE_CORNER = 16 };

/* do(…, N, first) for all vectors of a tile so wide, N from `first` on together; N is a constant. */
#define WIDE_TOGETHER(do_, width, ...)                                                                    \
    do {                                                                                                  \
        int vector_ = 0;                                                                                  \
        for (; vector_ + WIDE_VECTORS <= (width) / VW; vector_ += WIDE_VECTORS) do_(__VA_ARGS__, WIDE_VECTORS, vector_); \
        for (; vector_ < (width) / VW; vector_++) do_(__VA_ARGS__, 1, vector_);                           \
    } while (0)

/* A block of a mask that several heads share, of whose tiles the first head turns those that are open, or makes bits. */
typedef struct wide_turned {
    bool hides[INVAR_ATTENTION_TILES]; /* the mask hides some keys of the tile */
    int head, heads;                   /* that works on the block */
} wide_turned;

/* A tile, its panel and the block it works on. */
typedef struct wide_tile {
    row_tile rows;
    int64_t start;                             /* the block's first key */
    const char *mask[PANEL];                   /* each row's mask from there on; NULL where the tile has no row */
    bool open;                                 /* by wide_open */
    bool adds;                                 /* a mask that heads share is added to scores right behind their product */
    float *turned;                             /* the tile's mask as columns: [keys][width] */
    uint32_t *bits;                            /* or as bits: attention_wide_bits.h; NULL: it is not */
    int width;                                 /* rows rounded up to whole vectors: the stride of the panel's grids */
    const float *queries;                      /* [depth][width] */
    float first[PANEL], last[PANEL];           /* rows.first and last, for vectors; columns without a row see no key */
    int low[PANEL_VECTORS], high[PANEL_VECTORS]; /* keys that some row of each vector sees */
    bool apart[PANEL_VECTORS];                 /* not every column of a vector sees all of them, the mask apart */
    bool whole;                                /* every row sees every key, and logits are scores times a positive number */
    bool limits;                               /* not every column of the tile sees the same keys, the mask apart */
    bool finishes;                             /* no later block holds keys that the tile's rows see */
    int64_t next_row, next_start;              /* of the tile that comes next: its first row and key */
    int next_rows;                             /* whose masks are called ahead; 0: none follow, or all rows share one */
} wide_tile;

/* Keys low … high-1 of a vector of rows. */
typedef struct wide_range {
    int low, high;
} wide_range;

/* Keys until a mask's row, given by its element of the first one, reaches a whole vector of its elements. Most masks' rows begin
 * alike, so that after these no load crosses from one cache line into the next. */
static int wide_mask_lead(const char *row, int64_t step) {
    const uintptr_t vector = VW * (uintptr_t)(step == 1 || step == 2 || step == 4 ? step : 1), over = (uintptr_t)row % vector;
    return step > 0 && over > 0 ? (int)((vector - over + (uintptr_t)step - 1) / (uintptr_t)step) : VW;
}

/* Mask rows (each given by its element of the block's first key) as columns of a grid, the keys of *range, which shrinks to those
 * that some row sees. Returns the columns that have a key which is not hidden. */
VEC_INLINE vm wide_mask_columns(const kernel_state *s, const invar_attention_mask_kind kind, const char *const *rows,
                                float *grid, int64_t width, wide_range *range) {
    const vf hidden = vf_set1(-INFINITY);
    const int64_t step = s->call->mask.column_stride;
    wide_range kept = { range->high, range->low };
    vm seen = vm_not(vf_eq(hidden, hidden));
    int together = wide_mask_lead(rows[0] + range->low * step, step);
    for (int j = range->low, n; j < range->high; j += n, together = VW) {
        n = range->high - j < together ? range->high - j : together;
        float *to = grid + j * width;
        uint32_t some = 0; /* of the keys, those that a row sees */
        vf x[VW];
#pragma GCC unroll 16
        for (int i = 0; i < VW; i++) x[i] = rows[i] ? mask_load(s, kind, rows[i] + j * step, n) : hidden;
        vf_transpose(x);
#pragma GCC unroll 16
        for (int c = 0; c < VW; c++) {
            if (c >= n) break;
            const vm open = vm_not(vf_eq(x[c], hidden));
            vf_store(to + c * width, x[c]);
            seen = vm_or(seen, open);
            some |= (uint32_t)vm_any(open) << c;
        }
        if (some == 0) continue;
        if (kept.low > j) kept.low = j + __builtin_ctz(some);
        kept.high = j + 32 - __builtin_clz(some);
    }
    *range = kept;
    return seen;
}

static vm wide_mask_any(const kernel_state *s, const char *const *rows, float *grid, int64_t width, wide_range *range) {
    switch (mask_form(s->call)) {
    case INVAR_MASK_F32: return wide_mask_columns(s, INVAR_MASK_F32, rows, grid, width, range);
    case INVAR_MASK_F16: return wide_mask_columns(s, INVAR_MASK_F16, rows, grid, width, range);
    case INVAR_MASK_BF16: return wide_mask_columns(s, INVAR_MASK_BF16, rows, grid, width, range);
    default: return wide_mask_columns(s, INVAR_MASK_NONE, rows, grid, width, range);
    }
}

/* The masks of the tile's rows. */
static void wide_mask_rows(const kernel_state *s, wide_tile *tile) {
    for (int r = 0; r < tile->width; r++)
        tile->mask[r] = r < tile->rows.rows ? mask_of_row(s, tile->rows.row + r) + tile->start * s->call->mask.column_stride : NULL;
}

/* Of a vector of rows those that the mask hides wholly, whose lane is 0, see no key, nor do others see the keys outside of range,
 * which it hides from all of them. */
static void wide_narrow(wide_tile *tile, int vector, wide_range range, const float *lane) {
    const int left = tile->rows.rows - vector * VW;
    for (int i = 0; i < VW && i < left; i++) {
        int *first = &tile->rows.first[vector * VW + i], *last = &tile->rows.last[vector * VW + i];
        if (*first < range.low) *first = range.low;
        if (*last > range.high) *last = range.high;
        if (lane[i] == 0) *last = *first;
    }
}

/* The additive masks of a vector of rows. */
static void wide_mask(const kernel_state *s, wide_tile *tile, int vector) {
    const int left = tile->rows.rows - vector * VW, rows = left < VW ? left : VW;
    float lane[VW];
    wide_range range;
    if (!rows_span(&tile->rows, vector * VW, rows, &range.low, &range.high)) return;
    const vm seen = wide_mask_any(s, tile->mask + vector * VW, tile->turned + vector * VW, tile->width, &range);
    vf_store(lane, vf_select(seen, vf_set1(1), vf_zero()));
    wide_narrow(tile, vector, range, lane);
}

/* Logits are scores times a positive number. */
static bool wide_plain(const invar_attention_call *call) {
    return call->softcap == 0 && call->score_scale > 0 && call->score_scale < INFINITY;
}

/* True when the mask hides all of `count` keys, the first one's value at p, the next one's `step` bytes on. */
static bool wide_hidden(const kernel_state *s, const char *p, int64_t step, int count) {
    for (int i = 0; i < count; i++)
        if (invar_attention_mask_value(s->call->mask_kind, p + i * step) != -(double)INFINITY) return false;
    return true;
}

/* True when the tile's rows see the same keys and at none of the four corners of its mask a row's 16 keys are hidden: then few of
 * its keys are, as a rule, if not none, and nothing is gained by leaving some out. */
static bool wide_open(const kernel_state *s, const wide_tile *tile) {
    const int last = tile->rows.rows - 1, keys[2] = { tile->rows.first[0], tile->rows.last[0] - 1 };
    if (!s->call->mask.data || !wide_plain(s->call) || mask_form(s->call) == INVAR_MASK_NONE || keys[0] > keys[1]) return false;
    if (tile->rows.first[last] != keys[0] || tile->rows.last[last] - 1 != keys[1]) return false; /* both grow with the row */
    const int64_t step = s->call->mask.column_stride;
    const int count = keys[1] - keys[0] < WIDE_CORNER ? keys[1] - keys[0] + 1 : WIDE_CORNER;
    for (int i = 0; i < 4; i++) {
        const char *corner = tile->mask[i % 2 * last] + keys[i / 2] * step;
        if (wide_hidden(s, corner, i / 2 ? -step : step, count)) return false;
    }
    return true;
}

static void wide_limits(wide_tile *tile) {
    for (int r = 0; r < tile->width; r++) {
        tile->first[r] = r < tile->rows.rows ? (float)tile->rows.first[r] : 0;
        tile->last[r] = r < tile->rows.rows ? (float)tile->rows.last[r] : 0;
    }
    tile->limits = false;
    for (int r = 0; r < tile->width; r++)
        tile->limits |= tile->first[r] != (float)tile->rows.low || tile->last[r] != (float)tile->rows.high;
    for (int v = 0; v < tile->width / VW; v++) {
        const int left = tile->rows.rows - v * VW;
        if (!rows_span(&tile->rows, v * VW, left < VW ? left : VW, &tile->low[v], &tile->high[v]))
            tile->low[v] = tile->high[v] = tile->rows.low;
        tile->apart[v] = false;
        for (int r = v * VW; r < (v + 1) * VW; r++)
            tile->apart[v] |= tile->first[r] != (float)tile->low[v] || tile->last[r] != (float)tile->high[v];
    }
}

#endif
