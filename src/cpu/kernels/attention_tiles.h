/* Attention in half types on AMX tiles, for more than 16 query rows: a vector holds keys.
 *
 * Work goes by tiles of up to 32 query rows against one block of keys: S = Q Kᵀ, weights in place of scores, O = P V. Pairs of
 * features of K are turned to rows and rows of V paired once a block, for all tiles of the work; after that Q, P and masks are
 * used as they stand, since a row of P is a row of a left factor. Both right factors lie in panels of 32 columns, the last one
 * perhaps of 16, so that a product reads ascending addresses.
 *
 * Registers: 2×2 accumulators (0–3), two tiles of the left factor (4, 5), two of the right (6, 7). A step is 4 loads of 16 rows,
 * 8 cycles each from the first-level cache and 20 from the second, and 4 products of 16 cycles each, some 20 on data that are
 * not zeros: the products are the bound. Storing a panel's 4 tiles takes another 64 cycles. For 32 rows, 256 keys and D = 128
 * that is 5100 + 800 cycles; the weights of 512 vectors take 8 each at least. Weights of one tile are therefore formed between
 * the products of its neighbours: two tiles are under way, each with scores of its own. Where there is one block of keys, and so
 * little to multiply that products hardly get going, the scores of 128 rows come first, then their weights, then O.
 *
 * float16 numbers have two parts (attention_split.h), so a step takes four tiles of each factor: of scores 10 loads of 32 rows or
 * columns and 16 products, of O 8 and 12. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_H

#include "cpu/kernels/attention_tiles_masks.h"

/* ---- work between products --------------------------------------------------------------------------- */

/* What vectors do between products, in units of some rows: their maxima, then their weights. The longer a tile's products take,
 * the fewer rows a unit has: 330 instructions a row, and the processor's window of 512 should reach the products behind them.
 * The maximum of the row after a unit is formed with it, since weights that wait for one lost 95 cycles a row. Measured: four rows
 * at D = 64, two at 80 and 256, one at 128; four at 80 are 1 to 2 % faster on two cores, and 8 % slower on 16. */
static int tiles_unit_rows(const kernel_state *s) {
    const int64_t features = tiles_depth(s) + s->width;
    return features < 112 ? 4 : features < 192 || features >= 256 ? 2 : 1;
}
static int tiles_units(const kernel_state *s, const tiles_stage *stage) {
    return (stage->tile.rows + tiles_unit_rows(s) - 1) / tiles_unit_rows(s);
}

static void tiles_fetch_row(const char *p, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) vec_prefetch(p + i, true);
}

static void tiles_fetch(const kernel_state *s, tiles_ahead *ahead) {
    for (int i = 0; i < ahead->share && ahead->next < ahead->last; i++, ahead->next++) {
        tiles_fetch_row(s->k.data + ahead->next * s->k.row_stride, 2 * s->call->key_dim);
        tiles_fetch_row(s->v.data + ahead->next * s->v.row_stride, 2 * s->call->value_dim);
    }
}

/* Where blocks are not kept, the mask of the rows that stand so many behind the stage's is called with these, a block's part, or the
 * copies of the tile that does: those of tiles follow each other, and behind the last one's lies nothing that matters. */
enum { TILES_MASK_AHEAD = 2 * TILES_ROWS };
static void tiles_plan_calls(const kernel_state *s, tiles_stage *stage) {
    const invar_attention_call *call = s->call;
    int64_t row = stage->tile.row + TILES_MASK_AHEAD, start = stage->index * call->key_block;
    stage->calls = 0;
    if (s->span > 1 || !call->mask.data || !call->mask.row_stride || mask_form(call) == INVAR_MASK_NONE) return;
    if (stage->copied) {
        stage->calls = stage->takes ? TILES_ROWS : 0;
        stage->call_row = 2 * call->key_block;
        stage->call = (const char *)stage->panels + TILES_MASK_AHEAD * stage->call_row;
        return;
    }
    if (row >= s->rows) row -= s->rows, start += call->key_block;
    if (row >= s->rows || start >= call->key_len) return;
    stage->calls = s->rows - row < TILES_ROWS ? (int)(s->rows - row) : TILES_ROWS;
    stage->call_row = call->mask.row_stride;
    stage->call = mask_of_row(s, row) + start * call->mask.column_stride;
}

/* The stage's units up to `last`. */
static void tiles_do(const kernel_state *s, tiles_stage *stage, int last) {
    const int rows = tiles_unit_rows(s);
    const bool calls = s->span > 1 || stage->calls;
    for (; stage->done < last; stage->done++) {
        const int first = stage->done * rows, end = first + rows < stage->tile.rows ? first + rows : stage->tile.rows;
        for (; stage->peaks < stage->tile.rows && stage->peaks <= end; stage->peaks++) tiles_peak(s, stage, stage->peaks);
        for (int r = first; r < end; r++) {
            if (calls) tiles_weights_and_calls(s, stage, r);
            else tiles_weights(s, stage, r);
            tiles_fetch(s, stage->ahead);
        }
    }
}

/* Units that are to be done between so many steps of products. */
typedef struct tiles_chores {
    const kernel_state *s;
    tiles_stage *stage;
    int64_t units, steps, credit;
} tiles_chores;

/* A stage's units up to `last`. stage: NULL where there is nothing to do. */
static tiles_chores tiles_share(const kernel_state *s, tiles_stage *stage, int last, int64_t steps) {
    return (tiles_chores){ .s = s, .stage = stage, .units = stage && steps ? last - stage->done : 0, .steps = steps };
}

/* What falls to one step. */
VEC_INLINE void tiles_work(tiles_chores *c) {
    c->credit += c->units;
    if (c->credit < c->steps) return;
    tiles_do(c->s, c->stage, c->stage->done + (int)(c->credit / c->steps));
    c->credit %= c->steps;
}

/* ---- products ---------------------------------------------------------------------------------------- */

/* Products of parts in a step of scores, and of O. */
enum { TILES_OF_SCORES = PARTS * PARTS, TILES_OF_O = PARTS == 2 ? 3 : 1 };

/* A left factor's rows, a right factor's panels, and where their product goes: `steps` tiles of depth. */
typedef struct tiles_factors {
    const float *a, *b;
    float *c;
    int64_t a_row, c_row, steps;
    int64_t panel; /* floats from one panel of b to the next */
    bool rests;    /* products of rests count */
    tiles_chores *chores;
    tiles_stage *stage; /* whose mask the product takes besides, or NULL; */
    int key;            /* the panel's first key, */
    const char *bias;   /* and where its mask stands, rows of bias_row bytes */
    int64_t bias_row;
    const tiles_picks *picks;
} tiles_factors;

/* Tiles of either factor, and their products; between these, a step's share of chores. */
#define TILES_LEFT(p)                                                           \
    do {                                                                        \
        TILE_LOAD(4, p, x->a_row);                                              \
        if (below) TILE_LOAD(5, (p) + TILE_SIDE * x->a_row, x->a_row);          \
    } while (0)
#define TILES_RIGHT(p)                                      \
    do {                                                    \
        TILE_LOAD(6, p, b_row);                             \
        if (beside) TILE_LOAD(7, (p) + TILE_SIDE, b_row);   \
    } while (0)
#define TILES_DOT()                                 \
    do {                                            \
        TILE_DOT(0, 4, 6);                          \
        if (below) TILE_DOT(2, 5, 6);               \
        if (beside) TILE_DOT(1, 4, 7);              \
        if (below && beside) TILE_DOT(3, 5, 7);     \
        tiles_work(x->chores);                      \
    } while (0)

/* Where the mask of a panel of keys stands. A copy is made well before it is read, which has to wait for its way to the cache. Not
 * inlined, and without the factors' address: those stay in registers. */
static __attribute__((noinline)) const char *tiles_bring(tiles_stage *stage, int key, tiles_panel_copy *own) {
    if (stage->stands) return stage->added[0] + 2 * key;
    tiles_panel_copy *copy = stage->panels ? stage->panels + key / TILES_KEYS : own;
    if (!stage->copied && tiles_copy_panel(stage, key, copy)) *stage->found |= FOUND_HOLES;
    TILE_FENCE();
    return (const char *)copy->row;
}

/* A panel of scores takes the mask. */
VEC_INLINE void tiles_take(const tiles_factors *x, const char *bias, int64_t row, const bool below) {
    TILE_LOAD_BYTES(4, bias, row);
    if (below) TILE_LOAD_BYTES(5, bias + TILE_SIDE * row, row);
    for (int i = 0; i < x->picks->parts; i++) {
        TILE_LOAD(6, x->picks->tile[i][0][0], TILE_SIDE);
        TILE_LOAD(7, x->picks->tile[i][1][0], TILE_SIDE);
        TILE_DOT(0, 4, 6);
        if (below) TILE_DOT(2, 5, 6);
        TILE_DOT(1, 4, 7);
        if (below) TILE_DOT(3, 5, 7);
    }
}

/* One panel's product. The flags are constants where this is inlined: whether there are 32 rows rather than 16, 32 columns, and
 * products of rests. */
VEC_INLINE void tiles_product(const tiles_factors *x, const bool below, const bool beside, const bool rests) {
    const int64_t b_row = beside ? 2 * TILE_SIDE : TILE_SIDE, rest = TILE_SIDE * b_row;
    const float *a = x->a, *b = x->b;
    TILE_ZERO(0);
    if (beside) TILE_ZERO(1);
    if (below) TILE_ZERO(2);
    if (below && beside) TILE_ZERO(3);
    for (int64_t i = 0; i < x->steps; i++, a += PARTS * TILE_SIDE, b += PARTS * rest) {
        if (PARTS == 2 && rests) {
            TILES_RIGHT(b + rest);
            TILES_LEFT(a + TILE_SIDE);
            TILES_DOT();
            TILES_RIGHT(b);
            TILES_DOT();
        } else if (PARTS == 2) {
            TILES_RIGHT(b);
            TILES_LEFT(a + TILE_SIDE);
            TILES_DOT();
        } else TILES_RIGHT(b);
        TILES_LEFT(a);
        TILES_DOT();
        if (PARTS == 1) continue;
        TILES_RIGHT(b + rest);
        TILES_DOT();
    }
    if (x->stage && beside) tiles_take(x, x->bias, x->bias_row, below);
    TILE_STORE(0, x->c, x->c_row);
    if (beside) TILE_STORE(1, x->c + TILE_SIDE, x->c_row);
    if (below) TILE_STORE(2, x->c + TILE_SIDE * x->c_row, x->c_row);
    if (below && beside) TILE_STORE(3, x->c + TILE_SIDE * x->c_row + TILE_SIDE, x->c_row);
}

/* `columns` columns of a product, a multiple of 16. */
VEC_INLINE void tiles_columns_of(tiles_factors x, bool below, int64_t columns, const bool rests) {
    tiles_panel_copy own;
    TILE_FENCE();
    for (int64_t n = 0; n < columns; n += TILES_PANEL, x.b += x.panel, x.c += TILES_PANEL, x.key += TILES_PANEL) {
        if (x.stage) x.bias = tiles_bring(x.stage, x.key, &own);
        if (n + TILE_SIDE == columns) {
            if (below) tiles_product(&x, true, false, rests);
            else tiles_product(&x, false, false, rests);
        } else if (below) tiles_product(&x, true, true, rests);
        else tiles_product(&x, false, true, rests);
    }
    TILE_FENCE();
}
static void tiles_columns(tiles_factors x, bool below, int64_t columns) {
    if (PARTS == 2 && x.rests) tiles_columns_of(x, below, columns, true);
    else tiles_columns_of(x, below, columns, false);
}

/* Scores of the stage; meanwhile the weights of the one before it. */
static void tiles_scores(const kernel_state *s, const tiles_picks *picks, tiles_stage *stage, tiles_stage *before) {
    const int64_t depth = tiles_depth(s), steps = depth / (PARTS * TILE_SIDE), columns = stage->to - stage->from;
    tiles_chores chores = tiles_share(s, before, before ? tiles_units(s, before) : 0,
                                      columns / TILES_PANEL * steps * TILES_OF_SCORES);
    tiles_columns((tiles_factors){ .a = s->queries + stage->tile.row * depth, .a_row = depth, .panel = depth * TILES_PANEL,
                                   .b = tiles_panel(stage->keys, depth, stage->from), .c = stage->scores + stage->from,
                                   .c_row = tiles_stride(s), .steps = steps, .rests = true, .chores = &chores,
                                   .stage = stage->takes ? stage : NULL, .key = stage->from,
                                   .bias_row = stage->stands ? s->call->mask.row_stride : 4 * TILE_SIDE, .picks = picks },
                  stage->tile.rows > TILE_SIDE, columns);
}

/* The stage's part of O from its weights; meanwhile units of the one after it, up to `last`. */
static void tiles_sums(const kernel_state *s, const tiles_stage *stage, tiles_stage *after, int last) {
    const int64_t whole = s->width / TILES_PANEL * TILES_PANEL, rows = tiles_rows(s->call->key_block);
    const int64_t from = tiles_rows(stage->from), steps = (stage->to - stage->from) / TILES_KEYS;
    tiles_chores chores = tiles_share(s, after, last, (s->width + TILES_PANEL - 1) / TILES_PANEL * steps * TILES_OF_O);
    tiles_factors x = { .a = stage->scores + from, .a_row = tiles_stride(s), .panel = rows * TILES_PANEL,
                        .b = stage->values + from * TILES_PANEL, .c = stage->part, .c_row = s->width, .steps = steps,
                        .chores = &chores };
    tiles_columns(x, stage->tile.rows > TILE_SIDE, whole);
    x.b = tiles_panel(stage->values, rows, whole) + from * TILE_SIDE;
    x.c += whole;
    tiles_columns(x, stage->tile.rows > TILE_SIDE, s->width - whole);
}

/* Rows whose sums came out NaN: again, without their masked keys. */
static void tiles_repair(const kernel_state *s, const tiles_stage *stage) {
    for (int r = 0; r < stage->tile.rows; r++) {
        float *part = stage->part + r * s->width;
        if (stage->sum[r] == 0 || !row_has_nan(part, s->width)) continue;
        tiles_mark(s, stage, r);
        for (int64_t c = 0; c < s->width; c += VW)
            element_selected(part + c, stage->scores + r * tiles_stride(s), 1,
                             tiles_panel(stage->values, tiles_rows(s->call->key_block), c) + c % TILES_PANEL,
                             tiles_panel_width(c / TILES_PANEL * TILES_PANEL, s->width), tiles_rows(stage->from),
                             tiles_rows(stage->to));
    }
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

/* Two stages take turns: while one's scores, then the other's part of O are multiplied, weights are formed between the
 * products of tiles, which the processor overlaps. Where there is one block of keys, up to four stages go together instead: all
 * their scores, all their weights, all their parts of O, which are O itself. */
enum { TILES_TOGETHER = INVAR_ATTENTION_HELD / TILES_ROWS };
typedef struct tiles_walk {
    const kernel_state *s;
    tiles_stage stages[TILES_TOGETHER];
    int turn;             /* the stage that is next */
    tiles_stage *pending; /* the other, once its scores are there; or NULL */
    int64_t first, last;    /* the blocks that are kept packed, s->span at most, */
    int64_t turned, packed; /* and the last ones whose keys are turned, and whose values are packed */
    tiles_ahead ahead;
    tiles_inverse inverse;
    tiles_picks picks;
    tiles_way way;        /* how products come by the mask */
    bool careful;         /* it is copied, since it hides some keys */
    const tiles_shared *shared; /* with the heads to come, or NULL; */
    bool again;           /* and with those before */
} tiles_walk;

static void tiles_walk_open(tiles_walk *walk, const kernel_state *s) {
    walk->s = s;
    walk->turn = 0;
    walk->pending = NULL;
    walk->turned = walk->packed = -1;
    walk->first = s->work->block_first;
    walk->last = walk->first + 1;
    walk->ahead = (tiles_ahead){ 0 }; /* nothing, until tiles_look_ahead and tiles_look_down say */
    walk->inverse = tiles_inverse_of(s->call);
    walk->way = WAY_NONE; /* until tiles_walk_masks says */
    walk->careful = walk->again = false;
    walk->shared = NULL;
    for (int i = 0; i < TILES_TOGETHER; i++) {
        const int64_t row = i * TILES_ROWS;
        walk->stages[i].scores = s->scores + row * tiles_stride(s);
        walk->stages[i].mask = s->mask + row * tiles_stride(s);
        walk->stages[i].most = s->fold.part_m + row % TILE;
        walk->stages[i].sum = s->fold.part_l + row % TILE;
        walk->stages[i].part = s->fold.part;
        walk->stages[i].ahead = &walk->ahead;
        walk->stages[i].inverse = &walk->inverse;
    }
}

/* Where rows are many, masks come by products. */
static void tiles_walk_masks(tiles_walk *walk) {
    walk->way = tiles_way_of(walk->s->call, &walk->inverse);
    tiles_picks_open(&walk->picks, walk->way, &walk->inverse);
}

/* Where a block is packed. */
static float *tiles_keys_of(const tiles_walk *walk, int64_t index) {
    const kernel_state *s = walk->s;
    return s->keys + (index - walk->first) % s->span * tiles_depth(s) * s->call->key_block;
}
static float *tiles_values_of(const tiles_walk *walk, int64_t index) {
    const kernel_state *s = walk->s;
    return s->values + (index - walk->first) % s->span * tiles_rows(s->call->key_block) * s->width;
}

/* The next stage's rows and keys. False: they see nothing. */
static bool tiles_begin(tiles_walk *walk, int64_t index, int64_t row) {
    const kernel_state *s = walk->s;
    tiles_stage *stage = &walk->stages[walk->turn];
    row_tile *tile = &stage->tile;
    const int64_t start = index * s->call->key_block;
    open_tile(s, tile, start, row, s->rows - row < TILES_ROWS ? (int)(s->rows - row) : TILES_ROWS);
    stage->index = index;
    stage->keys = tiles_keys_of(walk, index);
    stage->values = tiles_values_of(walk, index);
    stage->to = tiles_up(tile->last[tile->rows - 1]);
    stage->way = walk->way;
    stage->takes = false;
    stage->copied = walk->again;
    tiles_place(s, walk->shared, stage);
    if (!walk->again) *stage->found = s->call->mask.data && tiles_open_corners(s, stage) ? 0 : FOUND_CLOSED;
    const bool open = !(*stage->found & FOUND_CLOSED);
    stage->stands = open && !walk->careful && !walk->shared && tiles_stands(s, stage);
    if (open) tiles_open_rows(s, stage);
    else if (s->call->mask.data) tiles_mask(s, stage, start);
    if (!close_tile(s, tile)) return false;
    if (stage->way != WAY_NONE) tiles_look(stage);
    if (stage->takes) tile->masked = tiles_partial(tile);
    stage->from = tiles_down(tile->low);
    stage->to = tiles_up(tile->high);
    stage->done = 0;
    stage->peaks = 0;
    tiles_plan_calls(s, stage);
    return true;
}

/* A block's keys, if some rows see any; and where several blocks are kept, its values. */
static bool tiles_turn_keys(tiles_walk *walk, int64_t index) {
    const kernel_state *s = walk->s;
    const int64_t start = index * s->call->key_block;
    int first, last;
    if (!block_span(s, start, &first, &last)) return false;
    if (s->span > 1 ? walk->turned >= index : walk->turned == index) return true;
    tiles_keys(s, tiles_keys_of(walk, index), start, first, last);
    walk->turned = index;
    if (s->span == 1) return true; /* the block before may need its own yet */
    tiles_values(s, tiles_values_of(walk, index), start, first, last);
    walk->packed = index;
    return true;
}

/* Weights that are not numbers, since products added -inf, or a masked key's score is not finite: all again, with care. */
static __attribute__((noinline)) void tiles_again(tiles_walk *walk, tiles_stage *stage) {
    const kernel_state *s = walk->s;
    const int64_t turned = walk->turned;
    walk->careful = stage->tile.masked = true;
    stage->stands = false;
    tiles_look(stage);
    tiles_turn_keys(walk, stage->index); /* which may be the block before */
    tiles_scores(s, &walk->picks, stage, NULL);
    tiles_turn_keys(walk, turned);
    tiles_hide_masked(s, stage);
    stage->done = stage->peaks = 0;
    tiles_do(s, stage, tiles_units(s, stage));
}

/* The rest of a stage's weights. */
static void tiles_weigh(tiles_walk *walk, tiles_stage *stage) {
    tiles_do(walk->s, stage, tiles_units(walk->s, stage));
    if (stage->takes && tiles_has_nan(stage)) tiles_again(walk, stage);
}

/* True when some of the products' keys are hidden from a row. */
static bool tiles_hides(const tiles_stage *stage) {
    return stage->tile.masked || (*stage->found & FOUND_HOLES) || stage->from < stage->tile.low || stage->to > stage->tile.high;
}

/* From the pending stage's scores to the fold; meanwhile weights of the next, if there is one: half of them, or all where no
 * scores will be multiplied after it. */
static void tiles_finish(tiles_walk *walk, tiles_stage *next, bool last) {
    const kernel_state *s = walk->s;
    tiles_stage *stage = walk->pending;
    const row_tile *tile = &stage->tile;
    const int64_t start = stage->index * s->call->key_block;
    int low, high;
    tiles_weigh(walk, stage);
    if (walk->packed < stage->index && block_span(s, start, &low, &high)) tiles_values(s, stage->values, start, low, high);
    if (walk->packed < stage->index) walk->packed = stage->index;
    tiles_sums(s, stage, next, !next ? 0 : last ? tiles_units(s, next) : tiles_units(s, next) / 2);
    if (tiles_hides(stage)) tiles_repair(s, stage);
    fold_state fold = s->fold;
    fold.part_m = stage->most;
    fold.part_l = stage->sum;
    fold_tile(&fold, stage->index, tile->row, tile->rows);
    walk->pending = NULL;
}

static void tiles_attend(tiles_walk *walk, int64_t index, int64_t row) {
    const kernel_state *s = walk->s;
    tiles_stage *stage = &walk->stages[walk->turn];
    const bool last = index + 1 == s->work->block_last && row + TILES_ROWS >= s->rows;
    if (!tiles_begin(walk, index, row)) {
        fold_nothing(&s->fold, index, row, stage->tile.rows);
        return;
    }
    tiles_scores(s, &walk->picks, stage, walk->pending);
    if (walk->pending) tiles_finish(walk, stage, last);
    walk->pending = stage;
    if (s->rows > TILES_ROWS + TILE_SIDE) walk->turn = !walk->turn;
    else tiles_finish(walk, NULL, true); /* there is room for one */
}

/* The next block's keys are to be called while this one's tiles are worked on. */
static void tiles_look_ahead(tiles_walk *walk, int64_t index) {
    const kernel_state *s = walk->s;
    const int64_t start = (index + 1) * s->call->key_block, tiles = (s->rows + TILES_ROWS - 1) / TILES_ROWS;
    int first = 0, last = 0;
    const bool any = index + 1 < s->work->block_last && tiles > 1 && pack_contiguous(&s->k) && pack_contiguous(&s->v) &&
                     block_span(s, start, &first, &last);
    walk->ahead.next = start + first;
    walk->ahead.last = any ? start + last : 0;
    walk->ahead.share = (int)((s->call->key_block + TILES_ROWS * tiles - 1) / (TILES_ROWS * tiles));
}

/* The mask of the 32 rows behind `row`, of all blocks that are kept, is to be called while these are worked on. */
static void tiles_look_down(tiles_walk *walk, int64_t row) {
    const kernel_state *s = walk->s;
    tiles_ahead *ahead = &walk->ahead;
    const bool down = row + TILES_ROWS < s->rows;
    ahead->mask = NULL;
    ahead->mask_key = (down ? walk->first : walk->last) * s->call->key_block;
    ahead->mask_row = down ? row + TILES_ROWS : 0;
    ahead->mask_last = ahead->mask_row + TILES_ROWS < s->rows ? ahead->mask_row + TILES_ROWS : s->rows;
    ahead->part = 0;
    ahead->parts = walk->last - walk->first;
    if (ahead->mask_key >= s->call->key_len) return;
    ahead->mask = mask_of_row(s, ahead->mask_row) + ahead->mask_key * s->call->mask.column_stride;
}

/* The tiles of up to 128 rows from `row` on against the only block of keys. */
static void tiles_once(tiles_walk *walk, int64_t index, int64_t row) {
    const kernel_state *s = walk->s;
    tiles_stage *open[TILES_TOGETHER];
    int count = 0;
    for (int i = 0; i < TILES_TOGETHER && row + i * TILES_ROWS < s->rows; i++) {
        const int64_t first = row + i * TILES_ROWS;
        tiles_stage *stage = &walk->stages[walk->turn = i];
        stage->most = s->fold.m + first;
        stage->sum = s->fold.l + first;
        stage->part = s->fold.out + first * s->width;
        if (tiles_begin(walk, index, first)) open[count++] = stage;
    }
    for (int i = 0; i < count; i++) tiles_scores(s, &walk->picks, open[i], NULL);
    for (int i = 0; i < count; i++) tiles_weigh(walk, open[i]);
    for (int i = 0; i < count; i++) tiles_sums(s, open[i], NULL, 0);
    for (int i = 0; i < count; i++)
        if (tiles_hides(open[i])) tiles_repair(s, open[i]);
}

/* All rows against the only block. */
static void tiles_only(const kernel_state *s, tiles_walk *walk, int64_t index) {
    const int64_t start = index * s->call->key_block;
    int first, last;
    if (!tiles_turn_keys(walk, index) || !block_span(s, start, &first, &last)) return;
    tiles_values(s, s->values, start, first, last);
    for (int64_t row = 0; row < s->rows; row += INVAR_ATTENTION_HELD) tiles_once(walk, index, row);
}

/* The rows against the blocks that are kept packed: 32 rows after the others, against all of them. */
static void tiles_walk_span(tiles_walk *walk) {
    const kernel_state *s = walk->s;
    for (int64_t row = 0; row < s->rows; row += TILES_ROWS) {
        const int rows = s->rows - row < TILES_ROWS ? (int)(s->rows - row) : TILES_ROWS;
        if (s->span > 1) tiles_look_down(walk, row);
        for (int64_t index = walk->first; index < walk->last; index++) {
            if (!tiles_turn_keys(walk, index)) {
                fold_nothing(&s->fold, index, row, rows);
                continue;
            }
            if (row == 0) tiles_look_ahead(walk, index);
            tiles_attend(walk, index, row);
        }
    }
    if (s->span > 1 && walk->pending) tiles_finish(walk, NULL, true); /* before others take its block's place */
}

/* shared: by heads of which this is the first one, or has some before it; or NULL. */
static void tiles_walk_all(const kernel_state *s, const tiles_shared *shared, bool again) {
    tiles_walk walk;
    tiles_walk_open(&walk, s);
    tiles_walk_masks(&walk);
    if (shared && walk.way != WAY_NONE) {
        walk.shared = shared;
        walk.again = again;
    }
    tiles_open(TILE_SIDE);
    tiles_queries(s);
    if (s->fold.only) tiles_only(s, &walk, s->work->block_first);
    walk.last = s->fold.only ? s->work->block_last : walk.first;
    while (walk.last < s->work->block_last) {
        walk.first = walk.last;
        walk.last = walk.first + s->span < s->work->block_last ? walk.first + s->span : s->work->block_last;
        tiles_walk_span(&walk);
    }
    if (walk.pending) tiles_finish(&walk, NULL, true);
    tiles_close();
    if (!s->work->parts) fold_finish(&s->fold, s->rows);
}

static void attend_wide(const kernel_state *s) { tiles_walk_all(s, NULL, false); }

/* Heads that share their mask, one after the other: the first one copies it. */
static void attend_together(const invar_attention_call *call, const invar_attention_work *work, float *scratch) {
    invar_attention_work one = *work;
    for (int64_t h = 0; h < work->heads; h++, one.kv_head++) {
        const kernel_state s = open_state(call, &one, 0, scratch);
        const tiles_shared shared = tiles_shared_of(&s);
        tiles_walk_all(&s, &shared, h > 0);
    }
}

#endif
