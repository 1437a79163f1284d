/* Attention's gradients: the main pass, dq, dk and dv (FlashAttention-2's backward, Dao, 2023; the order and the arithmetic
 * are this project's: attention_vjp_plan.h and docs/invariance.md).
 *
 * For a tile of up to 96 queries and 64 keys, with B's rows along the lanes and A's elements broadcast (product.h):
 *
 *   score = q · kᵀ        dv += pᵀ · dout      dq += ds · k
 *   slope = dout · vᵀ     dk += dsᵀ · q
 *
 * K and V stand transposed for the first two, which is paid once a span; A is read transposed for dv and dk. */
#include "cpu/kernels/attention_vjp_plan.h"
#include "cpu/kernels/product.h"

enum { VJP_MOST_TILES = 512 / VJP_KEYS }; /* key tiles of a span */

/* One task's data; every pointer is into its scratch but dq's. */
typedef struct vjp_task {
    const invar_attention_vjp_call *call;
    const invar_attention_call *forward;
    vjp_plan plan;
    int64_t unit, span, batch, kv_head, length;
    int64_t key_first, keys; /* the span's keys that this batch has */

    float *k;                   /* [span][key_columns] */
    float *k_turned, *v_turned; /* a tile of keys after the other: [Dk or Dv][VJP_KEYS] */
    float *dk, *dv;             /* [span][columns] */
    float *q, *dout;            /* [VJP_QUERIES][columns] */
    float *score, *slope;       /* [VJP_QUERIES][VJP_KEYS] */
    float *additive;            /* [VJP_KEYS] */
    float *clean;               /* [VJP_QUERIES][columns] */
    vjp_row *rows;              /* [VJP_QUERIES] */
    bool k_finite[VJP_MOST_TILES];

    int64_t head, query_first, queries; /* the query tile */
    bool q_finite, dout_finite;
    _Atomic int32_t *turn; /* of the query tile; NULL without dq */
    int32_t my_turn;
    float *dq; /* [VJP_QUERIES][key_columns] */
} vjp_task;

/* Points the task's arrays into scratch, or only counts where scratch is NULL; returns the bytes. */
static size_t lay_out(vjp_task *x, char *scratch) {
    const int64_t span = x->plan.span, k = x->plan.key_columns, v = x->plan.value_columns;
    struct {
        float **at;
        int64_t floats; /* multiples of 16, so that every array begins a cache line */
    } const arrays[] = {
        { &x->k, span * k },          { &x->k_turned, span * k },
        { &x->v_turned, span * v },   { &x->dk, span * k },
        { &x->dv, span * v },         { &x->q, VJP_QUERIES * k },
        { &x->dout, VJP_QUERIES * v }, { &x->score, VJP_QUERIES * VJP_KEYS },
        { &x->slope, VJP_QUERIES * VJP_KEYS }, { &x->additive, VJP_KEYS },
        { &x->clean, VJP_QUERIES * (k > v ? k : v) },
    };
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        if (scratch) *arrays[i].at = (float *)(void *)(scratch + bytes);
        bytes += sizeof(float) * (size_t)arrays[i].floats;
    }
    if (scratch) x->rows = (vjp_row *)(void *)(scratch + bytes);
    return bytes + sizeof(vjp_row) * VJP_QUERIES;
}

void INVAR_KERNEL_NAME(attention_vjp_layout)(const invar_attention_vjp_call *call, invar_attention_vjp_layout *layout) {
    vjp_task x = { .plan = vjp_plan_of(call) };
    *layout = (invar_attention_vjp_layout){ .tasks = x.plan.units * x.plan.spans, .zeroed_bytes = x.plan.zeroed,
                                            .shared_bytes = x.plan.shared, .slot_bytes = lay_out(&x, NULL),
                                            .query_tile = VJP_QUERIES, .key_block = (int32_t)x.plan.span };
    const size_t mask_bytes = vjp_mask_bytes(call), sinks_bytes = sizeof(float) * 2 * (size_t)x.plan.value_columns;
    if (mask_bytes > layout->slot_bytes) layout->slot_bytes = mask_bytes;
    if (sinks_bytes > layout->slot_bytes) layout->slot_bytes = sinks_bytes;
}

static void load_keys(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t k_columns = x->plan.key_columns, v_columns = x->plan.value_columns;
    const char *k = invar_attention_row(forward, &forward->k, x->batch, x->kv_head, x->key_first);
    const char *v = invar_attention_row(forward, &forward->v, x->batch, x->kv_head, x->key_first);
    for (int64_t t = 0; t * VJP_KEYS < x->keys; t++) {
        const int64_t first = t * VJP_KEYS, count = x->keys - first < VJP_KEYS ? x->keys - first : VJP_KEYS;
        float *rows = x->k + first * k_columns, *values = x->dv; /* V passes through the memory of its gradient */
        for (int64_t j = 0; j < count; j++) {
            vjp_load_row(rows + j * k_columns, k + (first + j) * forward->k.row_stride, &forward->k, forward->key_dim);
            vjp_load_row(values + j * v_columns, v + (first + j) * forward->v.row_stride, &forward->v, forward->value_dim);
        }
        vjp_zero(rows + count * k_columns, (VJP_KEYS - count) * k_columns);
        vjp_zero(values + count * v_columns, (VJP_KEYS - count) * v_columns);
        x->k_finite[t] = vjp_finite(rows, VJP_KEYS * k_columns);
        vjp_transpose(x->k_turned + first * k_columns, VJP_KEYS, rows, k_columns, VJP_KEYS, k_columns);
        vjp_transpose(x->v_turned + first * v_columns, VJP_KEYS, values, v_columns, VJP_KEYS, v_columns);
    }
}

static void load_queries(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t k_columns = x->plan.key_columns, v_columns = x->plan.value_columns;
    for (int64_t r = 0; r < x->queries; r++) {
        const int64_t i = x->query_first + r;
        float *dout = x->dout + r * v_columns;
        vjp_load_row(x->q + r * k_columns, invar_attention_row(forward, &forward->q, x->batch, x->head, i), &forward->q,
                     forward->key_dim);
        vjp_load_row(dout, invar_attention_row(forward, &x->call->dout, x->batch, x->head, i), &x->call->dout,
                     forward->value_dim);
        x->rows[r] = vjp_row_of(x->call, x->batch, x->head, i, dout, x->clean);
    }
    x->q_finite = vjp_finite(x->q, x->queries * k_columns);
    x->dout_finite = vjp_finite(x->dout, x->queries * v_columns);
}

/* y as it is, one row of C at a time, where some pairs are masked and B is not finite: those elements of B count as +0 in
 * the rows of C that the mask hides them from. `pair` is the tile of weights, read as A is. */
static void product_selecting(const product *y, const float *pair, float *clean) {
    for (int64_t m = 0; m < y->rows; m++) {
        for (int64_t k = 0; k < y->depth; k++) {
            const bool masked = invar_bits_from_float(pair[m * y->a_row + k * y->a_step]) == 0x80000000u;
            for (int64_t n = 0; n < y->columns; n += VW) {
                const vf b = vf_load(y->b + k * y->b_row + n);
                const vm finite = vf_eq(vf_sub(b, b), vf_zero());
                vf_store(clean + k * y->columns + n, masked ? vf_select(finite, b, vf_zero()) : b);
            }
        }
        product row = *y;
        row.rows = 1;
        row.a += m * y->a_row;
        row.c += m * y->c_row;
        row.b = clean;
        row.b_row = y->columns;
        product_run(&row);
    }
}

static void add_product(vjp_task *x, const product *y, const float *pair, bool selecting) {
    if (selecting) product_selecting(y, pair, x->clean);
    else product_run(y);
}

/* One tile of keys against rows first … last-1 of the query tile. */
static void do_tile(vjp_task *x, int64_t tile, int64_t first, int64_t last) {
    const int64_t key = tile * VJP_KEYS, left = x->keys - key, keys = left < VJP_KEYS ? left : VJP_KEYS;
    const int64_t k_columns = x->plan.key_columns, v_columns = x->plan.value_columns, rows = last - first;
    float *q = x->q + first * k_columns, *dout = x->dout + first * v_columns;
    float *score = x->score + first * VJP_KEYS, *slope = x->slope + first * VJP_KEYS;
    const product of_score = { .rows = rows, .columns = VJP_PADDED(keys), .depth = x->forward->key_dim, .a = q,
                               .a_row = k_columns, .a_step = 1, .b = x->k_turned + key * k_columns, .b_row = VJP_KEYS,
                               .c = score, .c_row = VJP_KEYS };
    const product of_slope = { .rows = rows, .columns = VJP_PADDED(keys), .depth = x->forward->value_dim, .a = dout,
                               .a_row = v_columns, .a_step = 1, .b = x->v_turned + key * v_columns, .b_row = VJP_KEYS,
                               .c = slope, .c_row = VJP_KEYS };
    const product of_dv = { .rows = keys, .columns = v_columns, .depth = rows, .a = score, .a_row = 1, .a_step = VJP_KEYS,
                            .b = dout, .b_row = v_columns, .c = x->dv + key * v_columns, .c_row = v_columns, .resume = true };
    const product of_dk = { .rows = keys, .columns = k_columns, .depth = rows, .a = slope, .a_row = 1, .a_step = VJP_KEYS,
                            .b = q, .b_row = k_columns, .c = x->dk + key * k_columns, .c_row = k_columns, .resume = true };
    const product of_dq = { .rows = rows, .columns = k_columns, .depth = keys, .a = slope, .a_row = VJP_KEYS, .a_step = 1,
                            .b = x->k + key * k_columns, .b_row = k_columns, .c = x->dq + first * k_columns,
                            .c_row = k_columns, .resume = true };
    product_run(&of_score);
    product_run(&of_slope);
    const bool hidden = vjp_weights(x->forward, VJP_OF_SCORE, &(vjp_tile){
        .batch = x->batch, .head = x->head, .length = x->length, .key = x->key_first + key, .keys = keys,
        .query_first = x->query_first, .row_first = first, .row_last = last, .rows = x->rows, .score = x->score,
        .slope = x->slope, .additive = x->additive });
    if (x->call->dv.data) add_product(x, &of_dv, score, hidden && !x->dout_finite);
    if (x->call->dk.data) add_product(x, &of_dk, score, hidden && !x->q_finite);
    if (!x->turn) return;
    vjp_wait(x->turn, x->my_turn);
    add_product(x, &of_dq, score, hidden && !x->k_finite[tile]);
}

/* Opens this span's turn at the query tile's dq. */
static void begin_turn(vjp_task *x, int64_t tile, const vjp_turns *turns) {
    const vjp_plan *plan = &x->plan;
    const int64_t group = x->forward->group, place = (x->head - x->kv_head * group) * plan->tiles + tile;
    if (!x->call->dq.data) return;
    x->turn = (_Atomic int32_t *)(void *)(x->call->shared + plan->progress) + (x->unit * group * plan->tiles + place);
    x->my_turn = (int32_t)(x->span - turns->first);
    x->dq = (float *)(void *)(x->call->shared + plan->dq + (size_t)(x->unit % plan->in_flight) * plan->unit_bytes) +
            place * VJP_QUERIES * plan->key_columns;
    if (x->my_turn == 0) vjp_zero(x->dq, x->queries * plan->key_columns);
}

static void end_turn(vjp_task *x, const vjp_turns *turns) {
    if (!x->turn) return;
    vjp_wait(x->turn, x->my_turn);
    if (x->span == turns->last)
        for (int64_t r = 0; r < x->queries; r++)
            vjp_store_row(invar_attention_row(x->forward, &x->call->dq, x->batch, x->head, x->query_first + r), &x->call->dq,
                          x->dq + r * x->plan.key_columns, x->forward->key_dim);
    atomic_store_explicit(x->turn, x->my_turn + 1, memory_order_release);
}

static void clear_dq(vjp_task *x) {
    vjp_zero(x->clean, x->plan.key_columns);
    for (int64_t r = 0; r < x->queries; r++)
        vjp_store_row(invar_attention_row(x->forward, &x->call->dq, x->batch, x->head, x->query_first + r), &x->call->dq,
                      x->clean, x->forward->key_dim);
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
    for (int64_t t = 0; t * VJP_KEYS < x->keys; t++) {
        const int64_t key = x->key_first + t * VJP_KEYS, end = x->key_first + x->keys;
        const invar_key_range seen = invar_attention_queries(x->forward, x->length, key,
                                                             key + VJP_KEYS < end ? key + VJP_KEYS : end);
        const int64_t first = seen.first - x->query_first, last = seen.last - x->query_first;
        const int64_t from = first > 0 ? first : 0, to = last < x->queries ? last : x->queries;
        if (from < to) do_tile(x, t, from, to);
    }
    end_turn(x, &turns);
}

/* dk and dv of all the span's keys, those beyond the batch's length too: +0. */
static void store_keys(vjp_task *x) {
    const invar_attention_call *forward = x->forward;
    const int64_t end = (x->span + 1) * x->plan.span, last = end < forward->key_len ? end : forward->key_len;
    for (int64_t j = x->span * x->plan.span, i = 0; j < last; j++, i++) {
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
    vjp_task x = { .call = call, .forward = &call->forward, .plan = vjp_plan_of(call) };
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
    load_keys(&x);
    vjp_zero(x.dk, x.plan.span * x.plan.key_columns);
    vjp_zero(x.dv, x.plan.span * x.plan.value_columns);
    for (int64_t h = 0; h < x.forward->group; h++) {
        x.head = x.kv_head * x.forward->group + h;
        for (int64_t t = 0; t < x.plan.tiles; t++) do_queries(&x, t);
    }
    store_keys(&x);
    atomic_fetch_add_explicit(finished + x.unit, 1, memory_order_release);
}
