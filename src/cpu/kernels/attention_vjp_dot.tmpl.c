/* Attention's gradients: the main pass, dq, dk and dv (FlashAttention-2's backward, Dao, 2023; the order and the arithmetic
 * are this project's: attention_vjp_plan.h and docs/invariance.md).
 *
 * For a tile of up to 96 queries and 64 keys, with B's rows along the lanes and A's elements broadcast (product.h):
 *
 *   score = q · kᵀ        dv += pᵀ · dout      dq += ds · k
 *   slope = dout · vᵀ     dk += dsᵀ · q
 *
 * K and V stand transposed for the first two, which is paid once a span; A is read transposed for dv and dk. bfloat16 is
 * multiplied in pairs where the processor can, on AMX tiles where it has them (product_tiles.h). */
#include "cpu/kernels/attention_vjp_pairs.h"
#include "cpu/kernels/attention_vjp_plan.h"
#include "cpu/kernels/product.h"
#if defined(VEC_TILES)
#include "cpu/kernels/product_tiles.h"
#endif

enum { VJP_MOST_TILES = 512 / VJP_KEYS }; /* key tiles of a span */
enum { VJP_UNKNOWN, VJP_FINITE, VJP_NOT_FINITE };

/* One task's data; every pointer is into its scratch but dq's. A unit is a float, or a pair of bfloat16 numbers along the
 * index that the operand's product sums over (attention_vjp_pairs.h); `pair` numbers a unit. */
typedef struct vjp_task {
    const invar_attention_vjp_call *call;
    const invar_attention_call *forward;
    vjp_plan plan;
    int64_t unit, span, batch, kv_head, length;
    int64_t key_first, keys; /* the span's keys that this batch has */
    int pair;
    int64_t key_units, value_units; /* of a row: columns / pair */

    float *k;                       /* [span / pair][key_columns] */
    float *k_turned, *v_turned;     /* a tile of keys after the other: [units][VJP_KEYS] */
    float *dk, *dv;                 /* [span][columns] */
    float *q_copy, *dout_copy;      /* [VJP_QUERIES][units] */
    float *q_pairs, *dout_pairs;    /* [VJP_QUERIES / 2][columns]; without memory where units are floats */
    float *score, *slope;           /* [VJP_QUERIES][VJP_KEYS] */
    float *p, *ds;                  /* [VJP_QUERIES / pair][VJP_KEYS]; score and slope where units are floats */
    float *ds_rows;                 /* [VJP_QUERIES][VJP_KEYS / pair]; likewise */
    float *additive;                /* [VJP_KEYS] */
    float *clean;                   /* [VJP_QUERIES][columns] */
    vjp_row *rows;                  /* [VJP_QUERIES] */
    bool k_finite[VJP_MOST_TILES];

    int64_t head, query_first, queries; /* the query tile */
    const float *q, *dout;              /* [VJP_QUERIES][units]: copies, or where the caller has them */
    const float *q_joined, *dout_joined; /* [VJP_QUERIES / pair][columns]; q and dout where units are floats */
    int q_state, dout_state;            /* whether they are finite */
    int64_t ahead_head, ahead, ahead_last, ahead_step; /* rows of the next query tile that are still to be called */
    _Atomic int32_t *turn; /* of the query tile; NULL without dq */
    int32_t my_turn;
    float *dq; /* [VJP_QUERIES][key_columns], dq_row floats from row to row */
    int64_t dq_row;
} vjp_task;

/* Points the task's arrays into scratch, or only counts where scratch is NULL; returns the bytes. */
static size_t lay_out(vjp_task *x, char *scratch) {
    const int64_t span = x->plan.span, k = x->plan.key_columns, v = x->plan.value_columns, pair = x->pair;
    const int64_t pairs = pair == 2; /* the arrays that only pairs need */
    struct {
        float **at;
        int64_t floats; /* multiples of 16, so that every array begins a cache line */
    } const arrays[] = {
        { &x->k, span / pair * k },
        { &x->k_turned, span * k / pair },
        { &x->v_turned, span * v / pair },
        { &x->dk, span * k },
        { &x->dv, span * v },
        { &x->q_copy, VJP_QUERIES * k / pair },
        { &x->dout_copy, VJP_QUERIES * v / pair },
        { &x->score, VJP_QUERIES * VJP_KEYS },
        { &x->slope, VJP_QUERIES * VJP_KEYS },
        { &x->additive, VJP_KEYS },
        { &x->clean, VJP_QUERIES * (k > v ? k : v) },
        { &x->q_pairs, pairs * VJP_QUERIES / 2 * k },
        { &x->dout_pairs, pairs * VJP_QUERIES / 2 * v },
        { &x->p, pairs * VJP_QUERIES / 2 * VJP_KEYS },
        { &x->ds, pairs * VJP_QUERIES / 2 * VJP_KEYS },
        { &x->ds_rows, pairs * VJP_QUERIES / 2 * VJP_KEYS },
    };
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        if (scratch) *arrays[i].at = (float *)(void *)(scratch + bytes);
        bytes += sizeof(float) * (size_t)arrays[i].floats;
    }
    if (scratch) x->rows = (vjp_row *)(void *)(scratch + bytes);
    if (!pairs) x->p = x->score, x->ds = x->ds_rows = x->slope;
    return bytes + sizeof(vjp_row) * VJP_QUERIES;
}

static vjp_task task_of(const invar_attention_vjp_call *call) {
    vjp_task x = { .call = call, .forward = &call->forward, .pair = 1 };
#if defined(VEC_PAIRS)
    if (call->forward.type == INVAR_BF16) x.pair = 2;
#endif
    x.plan = vjp_plan_of(call, x.pair);
    x.key_units = x.plan.key_columns / x.pair;
    x.value_units = x.plan.value_columns / x.pair;
    return x;
}

void INVAR_KERNEL_NAME(attention_vjp_layout)(const invar_attention_vjp_call *call, invar_attention_vjp_layout *layout) {
    vjp_task x = task_of(call);
    *layout = (invar_attention_vjp_layout){ .tasks = x.plan.units * x.plan.spans, .zeroed_bytes = x.plan.zeroed,
                                            .shared_bytes = x.plan.shared, .slot_bytes = lay_out(&x, NULL),
                                            .query_tile = VJP_QUERIES, .key_block = (int32_t)x.plan.span };
    const size_t mask_bytes = vjp_mask_bytes(call), sinks_bytes = sizeof(float) * 2 * (size_t)x.plan.value_columns;
    if (mask_bytes > layout->slot_bytes) layout->slot_bytes = mask_bytes;
    if (sinks_bytes > layout->slot_bytes) layout->slot_bytes = sinks_bytes;
}

/* ---- operands ---------------------------------------------------------------------------------------- */

/* Rows 0 … count-1 at `from` as units, then zeros up to `padded` rows. */
static void load_rows(const vjp_task *x, float *to, const char *from, const invar_attention_operand *operand, int64_t dim,
                      int64_t count, int64_t padded) {
    const int64_t units = VJP_PADDED(dim) / x->pair;
    for (int64_t r = 0; r < count; r++) {
#if defined(VEC_PAIRS)
        if (x->pair == 2) {
            vjp_load_narrow(to + r * units, from + r * operand->row_stride, operand, dim);
            continue;
        }
#endif
        vjp_load_row(to + r * units, from + r * operand->row_stride, operand, dim);
    }
    vjp_zero(to + count * units, (padded - count) * units);
}

/* True when all numbers of so many units, whole rows, are finite. */
static bool finite(const vjp_task *x, const float *units, int64_t count) {
#if defined(VEC_PAIRS)
    if (x->pair == 2) return vjp_finite_narrow(units, 2 * count);
#endif
    (void)x;
    return vjp_finite(units, count);
}

/* Looks once a query tile, and only where a mask makes it matter. */
static bool all_finite(const vjp_task *x, int *state, const float *units, int64_t count) {
    if (*state == VJP_UNKNOWN) *state = finite(x, units, count) ? VJP_FINITE : VJP_NOT_FINITE;
    return *state == VJP_FINITE;
}

/* Rows as units to pairs along the rows, where units are pairs. */
static void join_rows(const vjp_task *x, float *to, const float *from, int64_t rows, int64_t columns) {
#if defined(VEC_PAIRS)
    if (x->pair == 2) vjp_join(to, from, rows, columns);
#else
    (void)x, (void)to, (void)from, (void)rows, (void)columns;
#endif
}

/* K and V pass through the memory of their gradients. */
static void load_keys(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const char *k = invar_attention_row(forward, &forward->k, x->batch, x->kv_head, x->key_first);
    const char *v = invar_attention_row(forward, &forward->v, x->batch, x->kv_head, x->key_first);
    for (int64_t t = 0, first = 0; first < x->keys; t++, first += VJP_KEYS) {
        const int64_t count = x->keys - first < VJP_KEYS ? x->keys - first : VJP_KEYS, padded = VJP_PADDED(count);
        float *joined = x->k + first / x->pair * x->plan.key_columns, *rows = x->pair == 1 ? joined : x->dk;
        load_rows(x, rows, k + first * forward->k.row_stride, &forward->k, forward->key_dim, count, padded);
        x->k_finite[t] = finite(x, rows, padded * x->key_units);
        vjp_transpose(x->k_turned + first * x->key_units, VJP_KEYS, rows, x->key_units, padded, x->key_units);
        join_rows(x, joined, rows, padded, x->plan.key_columns);
        load_rows(x, x->dv, v + first * forward->v.row_stride, &forward->v, forward->value_dim, count, padded);
        vjp_transpose(x->v_turned + first * x->value_units, VJP_KEYS, x->dv, x->value_units, padded, x->value_units);
    }
}

/* The query tile's rows of q or dout: where they are if they are units without gaps, otherwise a copy; on strong cores also
 * where vectors of them would cross lines, since a load from two takes 3.4 cycles there. */
static const float *query_rows(const vjp_task *x, float *copy, const invar_attention_operand *from, int64_t dim) {
    const char *row = invar_attention_row(x->forward, from, x->batch, x->head, x->query_first);
    const int64_t size = 4 / x->pair;
    const bool units = (int64_t)invar_float_size(from->type) == size && (uintptr_t)row % 4 == 0 && x->queries % x->pair == 0;
    const bool lines = x->pair == 2 || !x->forward->strong_cores || (uintptr_t)row % 64 == 0;
    if (units && lines && from->column_stride == size && from->row_stride == size * dim && dim % 16 == 0)
        return (const float *)(const void *)row;
    load_rows(x, copy, row, from, dim, x->queries, (x->queries + x->pair - 1) / x->pair * x->pair);
    return copy;
}

static void load_queries(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t padded = (x->queries + x->pair - 1) / x->pair * x->pair;
    x->q = query_rows(x, x->q_copy, &forward->q, forward->key_dim);
    x->dout = query_rows(x, x->dout_copy, &x->call->dout, forward->value_dim);
    x->q_joined = x->pair == 2 ? x->q_pairs : x->q;
    x->dout_joined = x->pair == 2 ? x->dout_pairs : x->dout;
    join_rows(x, x->q_pairs, x->q, padded, x->plan.key_columns);
    join_rows(x, x->dout_pairs, x->dout, padded, x->plan.value_columns);
    x->q_state = x->dout_state = VJP_UNKNOWN;
    vjp_load_terms(x->call, x->batch, x->head, x->query_first, x->queries, x->clean, x->rows);
}

/* Calls rows first … last-1 of an operand into the second-level cache. */
VEC_INLINE void call_rows(const char *head, const invar_attention_operand *operand, int64_t dim, int64_t first, int64_t last) {
    const int64_t bytes = dim * (int64_t)invar_float_size(operand->type);
    for (int64_t r = first; r < last && operand->column_stride * dim == bytes; r++) {
        const char *p = head + r * operand->row_stride;
        for (int64_t i = -(int64_t)((uintptr_t)p % 64); i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
    }
}

/* Where the walk goes on after a query tile. Its rows are called in equal parts before each product of this one. */
static void look_ahead(vjp_task *x, int64_t tile) {
    const bool down = tile + 1 < x->plan.tiles;
    const int64_t left = x->forward->query_len - (down ? x->query_first + VJP_QUERIES : 0);
    x->ahead_head = down ? x->head : x->head + 1;
    x->ahead = x->forward->query_len - left;
    x->ahead_last = x->ahead + (left < VJP_QUERIES ? left : VJP_QUERIES);
    if (x->ahead_head == (x->kv_head + 1) * x->forward->group) x->ahead_last = 0;
    x->ahead_step = VJP_QUERIES / (5 * ((x->keys + VJP_KEYS - 1) / VJP_KEYS)) + 1;
}

/* Calls some rows of the next query tile; memory is idle between products. Inlined, since gcc 12 takes a function that does
 * no more than call memory ahead for one without effect, and drops it. */
VEC_INLINE void call_ahead(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t first = x->ahead, last = first + x->ahead_step < x->ahead_last ? first + x->ahead_step : x->ahead_last;
    if (first >= last) return;
    x->ahead = last;
    call_rows(invar_attention_row(forward, &forward->q, x->batch, x->ahead_head, 0), &forward->q, forward->key_dim, first, last);
    call_rows(invar_attention_row(forward, &x->call->dout, x->batch, x->ahead_head, 0), &x->call->dout, forward->value_dim, first,
              last);
    call_rows(invar_attention_row(forward, &forward->out, x->batch, x->ahead_head, 0), &forward->out, forward->value_dim, first,
              last);
}

/* ---- products ---------------------------------------------------------------------------------------- */

static void run_product(const vjp_task *x, const product *y) {
#if defined(VEC_TILES)
    if (x->pair == 2) {
        product_run_tiles(y);
        return;
    }
#elif defined(VEC_PAIRS)
    if (x->pair == 2) {
        product_run_pairs(y);
        return;
    }
#endif
    (void)x;
    product_run(y);
}

/* A product over masked pairs: its C's rows and A's steps are queries from `first` of the tile on, and keys. */
typedef struct vjp_product {
    product of;
    int64_t first;
    bool by_query; /* C's rows are queries */
} vjp_product;

/* The numbers of a step, which are neighbours: the sign of a weight tells. */
static bool masked(const vjp_task *x, const vjp_product *y, int64_t row, int64_t step) {
    const int64_t query = y->first + (y->by_query ? row : step), key = y->by_query ? step : row;
    const uint32_t weights = invar_bits_from_float(x->p[query / x->pair * VJP_KEYS + key]);
    if (x->pair == 1) return weights == 0x80000000u;
    return (query % 2 ? weights >> 16 : weights & 0xffff) == 0x8000;
}

/* A unit of B where some of its numbers are masked: those that are not finite count as +0. */
static float clean_unit(float unit, int pair, bool low, bool high) {
    uint32_t bits = invar_bits_from_float(unit);
    if (pair == 1) return low && (bits & 0x7f800000u) == 0x7f800000u ? 0 : unit;
    if (low && (bits & 0x7f80u) == 0x7f80u) bits &= 0xffff0000u;
    if (high && (bits & 0x7f800000u) == 0x7f800000u) bits &= 0xffffu;
    return invar_float_from_bits(bits);
}

/* The product where some pairs are masked and B is not finite: one row of C at a time, with a B of its own. */
static void run_selecting(const vjp_task *x, const vjp_product *y) {
    product row = y->of;
    row.rows = 1;
    row.b = x->clean;
    row.b_row = row.columns;
    for (int64_t m = 0; m < y->of.rows; m++, row.a += row.a_row, row.c += row.c_row) {
        for (int64_t k = 0; k < row.depth; k++) {
            const bool low = masked(x, y, m, k * x->pair), high = x->pair == 2 && masked(x, y, m, k * x->pair + 1);
            for (int64_t n = 0; n < row.columns; n++)
                x->clean[k * row.columns + n] = clean_unit(y->of.b[k * y->of.b_row + n], x->pair, low, high);
        }
        run_product(x, &row);
    }
}

static void add_product(const vjp_task *x, const vjp_product *y, bool selecting) {
    if (selecting) run_selecting(x, y);
    else run_product(x, &y->of);
}

/* Both tiles of rows first … last-1: weights and score gradients of keys of one tile. True when a pair is masked. */
static bool do_scores(vjp_task *x, int64_t key, int64_t keys, int64_t first, int64_t last) {
    product y = { .rows = last - first, .columns = VJP_PADDED(keys), .depth = (x->forward->key_dim + x->pair - 1) / x->pair,
                  .a = x->q + first * x->key_units, .a_row = x->key_units, .a_step = 1,
                  .b = x->k_turned + key / VJP_KEYS * VJP_KEYS * x->key_units + key % VJP_KEYS, .b_row = VJP_KEYS,
                  .c = x->score + first * VJP_KEYS, .c_row = VJP_KEYS,
                  .link = x->pair == 1 ? invar_attention_feature_link(x->forward->key_dim) : 0 };
    call_ahead(x);
    run_product(x, &y);
    y.depth = (x->forward->value_dim + x->pair - 1) / x->pair;
    y.a = x->dout + first * x->value_units;
    y.a_row = x->value_units;
    y.b = x->v_turned + key / VJP_KEYS * VJP_KEYS * x->value_units + key % VJP_KEYS;
    y.c = x->slope + first * VJP_KEYS;
    if (x->pair == 1) y.link = invar_attention_feature_link(x->forward->value_dim);
    call_ahead(x);
    run_product(x, &y);
    const vjp_tile tile = {
        .batch = x->batch, .head = x->head, .length = x->length, .key = x->key_first + key, .keys = keys,
        .query_first = x->query_first, .row_first = first, .row_last = last, .rows = x->rows, .score = x->score,
        .slope = x->slope, .additive = x->additive };
#if defined(VEC_PAIRS)
    if (x->pair == 2) return vjp_weights_as_pairs(x->forward, &tile, &(vjp_narrow){ x->p, x->ds, x->ds_rows });
#endif
    return vjp_weights(x->forward, VJP_OF_SCORE, &tile);
}

/* Keys of one tile against rows first … last-1 of the query tile; key, of the span, is a multiple of 16, first of pair. */
static void do_tile(vjp_task *x, int64_t key, int64_t keys, int64_t first, int64_t last) {
    const int64_t k_columns = x->plan.key_columns, v_columns = x->plan.value_columns;
    const int64_t query_steps = (last - first + x->pair - 1) / x->pair, skipped = first / x->pair;
    const bool hidden = do_scores(x, key, keys, first, last);
    vjp_product y = { .of = { .rows = keys, .columns = v_columns, .depth = query_steps, .a = x->p + skipped * VJP_KEYS,
                              .a_row = 1, .a_step = VJP_KEYS, .b = x->dout_joined + skipped * v_columns, .b_row = v_columns,
                              .c = x->dv + key * v_columns, .c_row = v_columns, .resume = true,
                              .start = (x->query_first + first) / x->pair },
                      .first = first };
    call_ahead(x);
    if (x->call->dv.data) add_product(x, &y, hidden && !all_finite(x, &x->dout_state, x->dout, x->queries * x->value_units));
    y.of.columns = y.of.b_row = y.of.c_row = k_columns;
    y.of.a = x->ds + skipped * VJP_KEYS;
    y.of.b = x->q_joined + skipped * k_columns;
    y.of.c = x->dk + key * k_columns;
    call_ahead(x);
    if (x->call->dk.data) add_product(x, &y, hidden && !all_finite(x, &x->q_state, x->q, x->queries * x->key_units));
    if (!x->turn) return;
    call_ahead(x);
    vjp_wait(x->turn, x->my_turn);
    y.of.rows = last - first;
    y.of.depth = (keys + x->pair - 1) / x->pair;
    y.of.a = x->ds_rows + first * VJP_KEYS / x->pair;
    y.of.a_row = VJP_KEYS / x->pair;
    y.of.a_step = 1;
    y.of.b = x->k + key / x->pair * k_columns;
    y.of.c = x->dq + first * x->dq_row;
    y.of.c_row = x->dq_row;
    y.of.start = (x->key_first + key) / x->pair;
    y.by_query = true;
    add_product(x, &y, hidden && !x->k_finite[key / VJP_KEYS]);
}

/* ---- the walk ----------------------------------------------------------------------------------------- */

/* Opens this span's turn at the query tile's dq. */
static void begin_turn(vjp_task *x, int64_t tile, const vjp_turns *turns) {
    const vjp_plan *plan = &x->plan;
    const int64_t group = x->forward->group, place = (x->head - x->kv_head * group) * plan->tiles + tile;
    if (!x->call->dq.data) return;
    x->turn = (_Atomic int32_t *)(void *)(x->call->shared + plan->progress) + (x->unit * group * plan->tiles + place);
    x->my_turn = (int32_t)(x->span - turns->first);
    if (plan->dq_in_place) {
        x->dq = (float *)(void *)invar_attention_row(x->forward, &x->call->dq, x->batch, x->head, x->query_first);
        x->dq_row = x->call->dq.row_stride / 4;
    } else {
        char *unit = x->call->shared + plan->dq + (size_t)(x->unit % plan->in_flight) * plan->unit_bytes;
        x->dq = (float *)(void *)unit + place * VJP_QUERIES * plan->key_columns;
        x->dq_row = plan->key_columns;
    }
    for (int64_t r = 0; r < x->queries && x->my_turn == 0; r++) vjp_zero(x->dq + r * x->dq_row, plan->key_columns);
}

static void end_turn(vjp_task *x, const vjp_turns *turns) {
    if (!x->turn) return;
    vjp_wait(x->turn, x->my_turn);
    if (x->span == turns->last)
        for (int64_t r = 0; r < x->queries; r++)
            vjp_store_row(invar_attention_row(x->forward, &x->call->dq, x->batch, x->head, x->query_first + r), &x->call->dq,
                          x->dq + r * x->dq_row, x->forward->key_dim);
    atomic_store_explicit(x->turn, x->my_turn + 1, memory_order_release);
}

static void clear_dq(vjp_task *x) {
    vjp_zero(x->clean, x->plan.key_columns);
    for (int64_t r = 0; r < x->queries; r++)
        vjp_store_row(invar_attention_row(x->forward, &x->call->dq, x->batch, x->head, x->query_first + r), &x->call->dq,
                      x->clean, x->forward->key_dim);
}

/* The rows of the query tile that may see some of `keys` keys, whole pairs of them. */
static invar_key_range rows_of_keys(const vjp_task *x, int64_t key, int64_t keys) {
    const invar_key_range seen = invar_attention_queries(x->forward, x->length, x->key_first + key, x->key_first + key + keys);
    const int64_t first = seen.first > x->query_first ? (seen.first - x->query_first) / x->pair * x->pair : 0;
    const int64_t last = (seen.last - x->query_first + x->pair - 1) / x->pair * x->pair;
    if (seen.first >= seen.last || first >= x->queries || last <= first) return (invar_key_range){ 0, 0 };
    return (invar_key_range){ first, last < x->queries ? last : x->queries };
}

/* True when the mask hides all these keys from all these rows: the first that sees one ends the search. */
static bool all_hidden(const vjp_task *x, int64_t key, int64_t keys, int64_t first, int64_t last) {
    const invar_attention_call *forward = x->forward;
    for (int64_t r = first; forward->mask.data && r < last; r++) {
        const char *row = invar_attention_row(forward, &forward->mask, x->batch, x->head, x->query_first + r);
        if (vjp_mask_row(forward, row, x->key_first + key, keys, x->additive)) return false;
    }
    return forward->mask.data != NULL;
}

static void do_rows(vjp_task *x, int64_t key, int64_t keys, invar_key_range rows) {
    if (rows.first < rows.last && !all_hidden(x, key, keys, rows.first, rows.last)) do_tile(x, key, keys, rows.first, rows.last);
}

/* A tile of keys: in one, or where position lets its halves be seen by other rows, in two with fewer hidden pairs. */
static void do_keys(vjp_task *x, int64_t key, int64_t keys) {
    const int64_t half = VJP_KEYS / 2;
    const invar_key_range low = rows_of_keys(x, key, keys < half ? keys : half);
    const invar_key_range high = keys > half ? rows_of_keys(x, key + half, keys - half) : low;
    if (low.first == high.first && low.last == high.last) {
        do_rows(x, key, keys, low);
        return;
    }
    do_rows(x, key, half, low);
    do_rows(x, key + half, keys - half, high);
}

static void do_queries(vjp_task *x, int64_t tile) {
    const int64_t left = x->forward->query_len - tile * VJP_QUERIES;
    x->query_first = tile * VJP_QUERIES;
    x->queries = left < VJP_QUERIES ? left : VJP_QUERIES;
    const vjp_turns turns = vjp_turns_of(x->forward, &x->plan, x->length, x->query_first, x->query_first + x->queries);
    if (turns.first > turns.last && x->span == 0 && x->call->dq.data) clear_dq(x);
    if (x->span < turns.first || x->span > turns.last) return;
    begin_turn(x, tile, &turns);
    load_queries(x);
    look_ahead(x, tile);
    for (int64_t key = 0; key < x->keys; key += VJP_KEYS)
        do_keys(x, key, x->keys - key < VJP_KEYS ? x->keys - key : VJP_KEYS);
    end_turn(x, &turns);
}

/* Keys of the span, those beyond the batch's length too, whose dk and dv are +0. */
static int64_t span_keys(const vjp_task *x) {
    const int64_t left = x->forward->key_len - x->key_first;
    return left < x->plan.span ? left : x->plan.span;
}

static void store_keys(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t count = span_keys(x);
    for (int64_t i = 0, j = x->key_first; i < count; i++, j++) {
        if (x->call->dk.data)
            vjp_store_row(invar_attention_row(forward, &x->call->dk, x->batch, x->kv_head, j), &x->call->dk,
                          x->dk + i * x->plan.key_columns, forward->key_dim);
        if (x->call->dv.data)
            vjp_store_row(invar_attention_row(forward, &x->call->dv, x->batch, x->kv_head, j), &x->call->dv,
                          x->dv + i * x->plan.value_columns, forward->value_dim);
    }
}

void INVAR_KERNEL_NAME(attention_vjp)(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    (void)task; /* a ticket instead: attention_vjp_plan.h */
    vjp_task x = task_of(call);
    const int64_t ticket = atomic_fetch_add_explicit((_Atomic int64_t *)(void *)call->shared, 1, memory_order_relaxed);
    _Atomic int32_t *finished = (_Atomic int32_t *)(void *)(call->shared + x.plan.finished);
    lay_out(&x, scratch);
    vjp_ticket(&x.plan, ticket, &x.unit, &x.span);
    x.batch = x.unit / x.forward->kv_heads;
    x.kv_head = x.unit % x.forward->kv_heads;
    x.length = invar_attention_length(x.forward, x.batch);
    x.key_first = x.span * x.plan.span;
    x.keys = x.length - x.key_first < x.plan.span ? x.length - x.key_first : x.plan.span;
    if (x.keys < 0) x.keys = 0;
    if (x.unit >= x.plan.in_flight) vjp_wait(finished + x.unit - x.plan.in_flight, (int32_t)x.plan.spans);
#if defined(VEC_TILES)
    if (x.pair == 2) tiles_open(TILE_SIDE);
#endif
    load_keys(&x);
    vjp_zero(x.dk, span_keys(&x) * x.plan.key_columns);
    vjp_zero(x.dv, span_keys(&x) * x.plan.value_columns);
    for (int64_t h = 0; h < x.forward->group; h++) {
        x.head = x.kv_head * x.forward->group + h;
        for (int64_t t = 0; t < x.plan.tiles; t++) do_queries(&x, t);
    }
    store_keys(&x);
#if defined(VEC_TILES)
    if (x.pair == 2) tiles_close();
#endif
    atomic_fetch_add_explicit(finished + x.unit, 1, memory_order_release);
}
