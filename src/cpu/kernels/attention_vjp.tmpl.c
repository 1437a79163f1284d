/* Attention's gradients: the passes for dmask and dsinks.
 *
 * dmask: a task makes up to 48 rows of it, one tile of keys after the other, and goes over all that the mask is broadcast
 * over: batches, heads, queries, keys. It computes the pairs' scores and dout·v once more, two products of the main pass's
 * five, which costs less than the memory to keep them would. dsinks: a task is a query head. */
#include "cpu/kernels/attention_vjp_plan.h"
#include "cpu/kernels/product.h"

enum { ROWS = INVAR_ATTENTION_VJP_MASK_ROWS };

typedef struct mask_task {
    const invar_attention_vjp_call *call;
    const invar_attention_call *forward;
    invar_attention_vjp_mask_part part;
    bool sum_queries, sum_keys;
    int64_t key_columns, value_columns;

    float *q, *dout, *loaded;   /* [ROWS][columns], [VJP_KEYS][widest] */
    float *k_turned, *v_turned; /* [columns][VJP_KEYS] */
    float *score, *slope;       /* [ROWS][VJP_KEYS] */
    float *sum;                 /* [ROWS][VJP_KEYS]: rows of dmask; with sum_keys one element a row */
    float *lanes;               /* [ROWS][32] */
    float *additive, *spare;    /* [VJP_KEYS], two rows of dout */
    vjp_row *rows;              /* [ROWS] */

    int64_t batch, head, length; /* the queries' tile */
    int64_t query_first, queries;
} mask_task;

static void lay_out(mask_task *x, float *scratch) {
    const int64_t k = x->key_columns, v = x->value_columns, widest = k > v ? k : v;
    struct {
        float **at;
        int64_t floats;
    } const arrays[] = {
        { &x->q, ROWS * k }, { &x->dout, ROWS * v }, { &x->loaded, VJP_KEYS * widest }, { &x->k_turned, VJP_KEYS * k },
        { &x->v_turned, VJP_KEYS * v }, { &x->score, ROWS * VJP_KEYS }, { &x->slope, ROWS * VJP_KEYS },
        { &x->sum, ROWS * VJP_KEYS }, { &x->lanes, ROWS * VSUM_LANES }, { &x->additive, VJP_KEYS }, { &x->spare, 2 * v },
    };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        *arrays[i].at = scratch;
        scratch += arrays[i].floats;
    }
    x->rows = (vjp_row *)(void *)scratch;
}

static void load_queries(mask_task *x) {
    const invar_attention_call *forward = x->forward;
    for (int64_t r = 0; r < x->queries; r++) {
        const int64_t i = x->query_first + r;
        vjp_load_row(x->q + r * x->key_columns, invar_attention_row(forward, &forward->q, x->batch, x->head, i), &forward->q,
                     forward->key_dim);
        vjp_load_row(x->dout + r * x->value_columns, invar_attention_row(forward, &x->call->dout, x->batch, x->head, i),
                     &x->call->dout, forward->value_dim);
    }
    vjp_load_terms(x->call, x->batch, x->head, x->query_first, x->queries, x->spare, x->rows);
}

static void load_turned(mask_task *x, float *turned, const invar_attention_operand *from, int64_t dim, int64_t columns,
                        int64_t key, int64_t keys) {
    const char *row = invar_attention_row(x->forward, from, x->batch, x->head / x->forward->group, key);
    for (int64_t j = 0; j < keys; j++) vjp_load_row(x->loaded + j * columns, row + j * from->row_stride, from, dim);
    vjp_zero(x->loaded + keys * columns, (VJP_KEYS - keys) * columns);
    vjp_transpose(turned, VJP_KEYS, x->loaded, columns, VJP_KEYS, columns);
}

/* The logits' gradients of the queries' tile and up to VJP_KEYS keys, in slope, the rest of its columns 0. False where
 * position hides all of them. */
static bool tile_gradients(mask_task *x, int64_t key) {
    const invar_attention_call *forward = x->forward;
    const int64_t keys = x->length - key < VJP_KEYS ? x->length - key : VJP_KEYS;
    if (keys <= 0) return false;
    const invar_key_range seen = invar_attention_queries(forward, x->length, key, key + keys);
    if (seen.last <= x->query_first || seen.first >= x->query_first + x->queries) return false;
    load_turned(x, x->k_turned, &forward->k, forward->key_dim, x->key_columns, key, keys);
    load_turned(x, x->v_turned, &forward->v, forward->value_dim, x->value_columns, key, keys);
    product_run(&(product){ .rows = x->queries, .columns = VJP_KEYS, .depth = forward->key_dim, .a = x->q,
                            .a_row = x->key_columns, .a_step = 1, .b = x->k_turned, .b_row = VJP_KEYS, .c = x->score,
                            .c_row = VJP_KEYS, .at_once = forward->strong_cores,
                            .link = invar_attention_feature_link(forward->key_dim) });
    product_run(&(product){ .rows = x->queries, .columns = VJP_KEYS, .depth = forward->value_dim, .a = x->dout,
                            .a_row = x->value_columns, .a_step = 1, .b = x->v_turned, .b_row = VJP_KEYS, .c = x->slope,
                            .c_row = VJP_KEYS, .at_once = forward->strong_cores,
                            .link = invar_attention_feature_link(forward->value_dim) });
    vjp_weights(forward, VJP_OF_LOGIT, &(vjp_tile){ .batch = x->batch, .head = x->head, .length = x->length, .key = key,
                .keys = keys, .query_first = x->query_first, .row_last = x->queries, .rows = x->rows, .score = x->score,
                .slope = x->slope, .additive = x->additive });
    for (int64_t r = 0; r < x->queries && keys < VJP_KEYS; r++)
        vjp_zero(x->slope + r * VJP_KEYS + keys, VJP_KEYS - keys);
    return true;
}

static void add_columns(float *sum, const float *more, int64_t count) {
    for (int64_t j = 0; j < count; j += VW) vf_store(sum + j, vf_add(vf_load(sum + j), vf_load(more + j)));
}

static float *row_of_sum(const mask_task *x, int64_t r) {
    return x->sum + (x->sum_queries ? 0 : r) * (x->sum_keys ? 1 : VJP_KEYS);
}

/* The queries' tile against one tile of keys, into the rows of dmask. */
static void add_tile(mask_task *x, int64_t key) {
    if (!tile_gradients(x, key)) return;
    for (int64_t r = 0; r < x->queries; r++) add_columns(row_of_sum(x, r), x->slope + r * VJP_KEYS, VJP_KEYS);
}

/* The queries' tile against all keys, summed over them. */
static void add_all_keys(mask_task *x) {
    vjp_zero(x->lanes, x->queries * VSUM_LANES);
    for (int64_t key = 0; key < x->length; key += VJP_KEYS) {
        if (!tile_gradients(x, key)) continue;
        for (int64_t r = 0; r < x->queries; r++)
            for (int64_t j = 0; j < VJP_KEYS; j += VSUM_LANES)
                add_columns(x->lanes + r * VSUM_LANES, x->slope + r * VJP_KEYS + j, VSUM_LANES);
    }
    for (int64_t r = 0; r < x->queries; r++) {
        vf lane[VSUM];
        for (int i = 0; i < VSUM; i++) lane[i] = vf_load(x->lanes + r * VSUM_LANES + i * VW);
        *row_of_sum(x, r) += vsum_reduce(lane);
    }
}

/* Everything that the mask is broadcast over, for one tile of keys, or for all with sum_keys. */
static void add_all(mask_task *x, int64_t key) {
    const invar_attention_call *forward = x->forward;
    vjp_zero(x->sum, ROWS * VJP_KEYS);
    for (x->batch = 0; x->batch < forward->batch; x->batch++) {
        if (invar_attention_batch_offset(forward, &x->call->dmask, x->batch) != x->part.batch_offset) continue;
        x->length = invar_attention_length(forward, x->batch);
        for (x->head = x->part.head_first; x->head < x->part.head_last; x->head++)
            for (int64_t i = x->part.query_first; i < x->part.query_last; i += ROWS) {
                x->query_first = i;
                x->queries = x->part.query_last - i < ROWS ? x->part.query_last - i : ROWS;
                load_queries(x);
                if (x->sum_keys) add_all_keys(x);
                else add_tile(x, key);
            }
    }
}

void INVAR_KERNEL_NAME(attention_vjp_mask)(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    const invar_attention_call *forward = &call->forward;
    const invar_attention_operand *dmask = &call->dmask;
    mask_task x = { .call = call, .forward = forward, .part = invar_attention_vjp_mask_part_of(call, task),
                    .sum_queries = call->mask_queries != forward->query_len, .sum_keys = call->mask_keys != forward->key_len,
                    .key_columns = VJP_PADDED(forward->key_dim), .value_columns = VJP_PADDED(forward->value_dim) };
    lay_out(&x, scratch);
    char *head = dmask->data + (x.part.batch_offset + x.part.head_first * dmask->head_stride);
    const int64_t first = x.sum_queries ? 0 : x.part.query_first, last = x.sum_queries ? 1 : x.part.query_last;
    for (int64_t key = 0; key < call->mask_keys; key += VJP_KEYS) {
        const int64_t keys = call->mask_keys - key < VJP_KEYS ? call->mask_keys - key : VJP_KEYS;
        add_all(&x, key);
        for (int64_t r = first; r < last; r++)
            vjp_store_row(head + (r * dmask->row_stride + key * dmask->column_stride), dmask, row_of_sum(&x, r - first), keys);
    }
}

static bool sees_a_key(const invar_attention_call *call, int64_t batch, int64_t head, int64_t query) {
    const invar_key_range range = invar_attention_range(call, invar_attention_length(call, batch), query);
    const char *mask = call->mask.data ? invar_attention_row(call, &call->mask, batch, head, query) : NULL;
    float additive[VJP_KEYS];
    if (!mask) return range.first < range.last;
    for (int64_t j = range.first; j < range.last; j += VJP_KEYS)
        if (invar_attention_mask_row(call, mask, j, range.last - j < VJP_KEYS ? range.last - j : VJP_KEYS, additive)) return true;
    return false;
}

/* One batch's rows, query i in lane i mod 32. */
static float sink_sum(const invar_attention_vjp_call *call, int64_t batch, int64_t head, float sink, float *spare) {
    const invar_attention_call *forward = &call->forward;
    vf lane[VSUM];
    vjp_row row[VSUM_LANES];
    float lambda[VSUM_LANES], delta[VSUM_LANES];
    for (int i = 0; i < VSUM; i++) lane[i] = vf_zero();
    for (int64_t i = 0; i < forward->query_len; i += VSUM_LANES) {
        const int64_t left = forward->query_len - i, count = left < VSUM_LANES ? left : VSUM_LANES;
        vjp_load_terms(call, batch, head, i, count, spare, row);
        for (int64_t l = 0; l < VSUM_LANES; l++) {
            lambda[l] = delta[l] = 0;
            if (l >= count || row[l].dead) continue;
            lambda[l] = row[l].lambda;
            delta[l] = row[l].delta;
            if (isfinite(delta[l]) || sees_a_key(forward, batch, head, i + l)) continue;
            delta[l] = 0; /* 0 · dout is 0 there */
            if (call->dlse.data)
                delta[l] -= vjp_load_scalar(invar_attention_row(forward, &call->dlse, batch, head, i + l), &call->dlse);
        }
        for (int v = 0; v < VSUM; v++) {
            const vf p = vf_exp2(vf_sub(vf_set1(sink), vf_load(lambda + v * VW)));
            lane[v] = vf_sub(lane[v], vf_mul(p, vf_load(delta + v * VW)));
        }
    }
    return vsum_reduce(lane);
}

void INVAR_KERNEL_NAME(attention_vjp_sinks)(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    const invar_attention_call *forward = &call->forward;
    float sum = 0;
    const float sink = (float)INVAR_LOG2E *
                       vjp_load_scalar(forward->sinks.data + task * forward->sinks.head_stride, &forward->sinks);
    for (int64_t b = 0; b < forward->batch; b++) sum += sink_sum(call, b, task, sink, scratch);
    invar_store_float(call->dsinks.data + task * call->dsinks.head_stride, call->dsinks.type, (double)(sum + 0.0f));
}
