/* scaled_dot_product_attention's gradients in plain scalar C with accumulation in double: the readable specification of
 * the kernels, for all four types. The weights are recomputed from lse (Dao et al., 2022), one pair at a time, so that
 * nothing of size Tq × Tkv exists. */
#include "cpu/dispatch.h"

#include <math.h>

/* One query row of one head. */
typedef struct row {
    const char *q, *dout, *out, *mask; /* mask: NULL or its element of key 0 */
    const char *k, *v;                 /* rows of key 0 */
    double lse, delta;                 /* delta: Σ dout·out - dlse */
    invar_key_range range;
} row;

/* What one pair contributes. */
typedef struct pair {
    double weight; /* p */
    double logit;  /* the gradient of the logit, after scale, softcap and mask: p·(dout·v - delta) */
    double score;  /* the gradient of q·k */
} pair;

static double load(const invar_attention_operand *x, const char *first, int64_t i) {
    return invar_load_float(first + i * x->column_stride, x->type);
}

static double dot(const invar_attention_operand *x, const char *a, const invar_attention_operand *y, const char *b,
                  int64_t count) {
    double sum = 0;
    for (int64_t d = 0; d < count; d++) sum += load(x, a, d) * load(y, b, d);
    return sum;
}

static bool masked(const invar_attention_call *call, const row *x, int64_t key, double *added) {
    *added = x->mask ? invar_attention_mask_value(call->mask_kind, x->mask + key * call->mask.column_stride) : 0;
    return *added == -(double)INFINITY;
}

static bool sees_a_key(const invar_attention_call *call, const row *x) {
    double added;
    for (int64_t j = x->range.first; j < x->range.last; j++)
        if (!masked(call, x, j, &added)) return true;
    return false;
}

static row row_of(const invar_attention_vjp_call *call, int64_t batch, int64_t head, int64_t query) {
    const invar_attention_call *forward = &call->forward;
    row x = {
        .q = invar_attention_row(forward, &forward->q, batch, head, query),
        .dout = invar_attention_row(forward, &call->dout, batch, head, query),
        .out = invar_attention_row(forward, &forward->out, batch, head, query),
        .k = invar_attention_row(forward, &forward->k, batch, head / forward->group, 0),
        .v = invar_attention_row(forward, &forward->v, batch, head / forward->group, 0),
        .lse = load(&forward->lse, invar_attention_row(forward, &forward->lse, batch, head, query), 0),
        .range = invar_attention_range(forward, invar_attention_length(forward, batch), query),
    };
    if (forward->mask.data) x.mask = invar_attention_row(forward, &forward->mask, batch, head, query);
    if (sees_a_key(forward, &x)) x.delta = dot(&call->dout, x.dout, &forward->out, x.out, forward->value_dim);
    if (call->dlse.data) x.delta -= load(&call->dlse, invar_attention_row(forward, &call->dlse, batch, head, query), 0);
    return x;
}

/* False, with nothing to add, where the row does not see the key. */
static bool pair_of(const invar_attention_vjp_call *call, const row *x, int64_t key, pair *result) {
    const invar_attention_call *forward = &call->forward;
    double added;
    if (invar_attention_vjp_is_blind(forward, x->lse) || key < x->range.first || key >= x->range.last) return false;
    if (masked(forward, x, key, &added)) return false;
    double logit = forward->scale *
                   dot(&forward->q, x->q, &forward->k, x->k + key * forward->k.row_stride, forward->key_dim);
    double slope = forward->scale;
    if (forward->softcap > 0) {
        const double bend = tanh(logit / forward->softcap);
        logit = forward->softcap * bend;
        slope *= 1 - bend * bend;
    }
    const double dweight = dot(&call->dout, x->dout, &forward->v, x->v + key * forward->v.row_stride, forward->value_dim);
    result->weight = exp(logit + added - x->lse);
    result->logit = result->weight * (dweight - x->delta);
    result->score = result->logit * slope;
    return true;
}

/* One task: a kv head of a batch, with room for its dk and dv and for one row of dq. */
void invar_reference_attention_vjp_layout(const invar_attention_vjp_call *call, invar_attention_vjp_layout *layout) {
    const invar_attention_call *forward = &call->forward;
    const int64_t columns = forward->key_dim + forward->value_dim;
    *layout = (invar_attention_vjp_layout){ .tasks = invar_attention_units(forward), .query_tile = 1, .key_block = 1 };
    layout->slot_bytes = sizeof(double) * (size_t)(forward->key_len * columns + columns);
}

static void add_pair(const invar_attention_vjp_call *call, const row *x, int64_t key, const pair *add, double *dq,
                     double *dk, double *dv) {
    const invar_attention_call *forward = &call->forward;
    const char *k = x->k + key * forward->k.row_stride;
    for (int64_t d = 0; d < forward->key_dim; d++) {
        dq[d] += add->score * load(&forward->k, k, d);
        dk[d] += add->score * load(&forward->q, x->q, d);
    }
    for (int64_t d = 0; d < forward->value_dim; d++) dv[d] += add->weight * load(&call->dout, x->dout, d);
}

static void store(const invar_attention_call *call, const invar_attention_operand *x, int64_t batch, int64_t head,
                  int64_t index, const double *value, int64_t count) {
    if (!x->data) return;
    char *row = invar_attention_row(call, x, batch, head, index);
    for (int64_t d = 0; d < count; d++) /* + 0: the sign of a zero is no result */
        invar_store_float(row + d * x->column_stride, x->type, value[d] + 0.0);
}

void invar_reference_attention_vjp(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    const invar_attention_call *forward = &call->forward;
    const int64_t batch = task / forward->kv_heads, kv_head = task % forward->kv_heads;
    const int64_t keys = forward->key_len, key_dim = forward->key_dim, value_dim = forward->value_dim;
    double *dk = scratch, *dv = dk + keys * key_dim, *dq = dv + keys * value_dim;
    for (int64_t i = 0; i < keys * (key_dim + value_dim); i++) dk[i] = 0;
    for (int64_t head = kv_head * forward->group; head < (kv_head + 1) * forward->group; head++)
        for (int64_t query = 0; query < forward->query_len; query++) {
            const row x = row_of(call, batch, head, query);
            pair add;
            for (int64_t d = 0; d < key_dim; d++) dq[d] = 0;
            for (int64_t j = x.range.first; j < x.range.last; j++)
                if (pair_of(call, &x, j, &add)) add_pair(call, &x, j, &add, dq, dk + j * key_dim, dv + j * value_dim);
            store(forward, &call->dq, batch, head, query, dq, key_dim);
        }
    for (int64_t j = 0; j < keys; j++) {
        store(forward, &call->dk, batch, kv_head, j, dk + j * key_dim, key_dim);
        store(forward, &call->dv, batch, kv_head, j, dv + j * value_dim, value_dim);
    }
}

/* One element of dmask: the sum over the part's batches, its heads, one query or all, one key or all. */
static double mask_sum(const invar_attention_vjp_call *call, const invar_attention_vjp_mask_part *part, int64_t query,
                       int64_t key) {
    const invar_attention_call *forward = &call->forward;
    const bool all_queries = call->mask_queries != forward->query_len, all_keys = call->mask_keys != forward->key_len;
    double sum = 0;
    pair add;
    for (int64_t b = 0; b < forward->batch; b++) {
        if (invar_attention_batch_offset(forward, &call->dmask, b) != part->batch_offset) continue;
        for (int64_t h = part->head_first; h < part->head_last; h++)
            for (int64_t i = all_queries ? 0 : query; i < (all_queries ? forward->query_len : query + 1); i++) {
                const row x = row_of(call, b, h, i);
                for (int64_t j = all_keys ? 0 : key; j < (all_keys ? forward->key_len : key + 1); j++)
                    if (pair_of(call, &x, j, &add)) sum += add.logit;
            }
    }
    return sum;
}

void invar_reference_attention_vjp_mask(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    (void)scratch;
    const invar_attention_vjp_mask_part part = invar_attention_vjp_mask_part_of(call, task);
    const invar_attention_operand *dmask = &call->dmask;
    const bool rows = call->mask_queries == call->forward.query_len;
    char *head = dmask->data + (part.batch_offset + part.head_first * dmask->head_stride);
    for (int64_t i = rows ? part.query_first : 0; i < (rows ? part.query_last : 1); i++)
        for (int64_t j = 0; j < call->mask_keys; j++)
            invar_store_float(head + (i * dmask->row_stride + j * dmask->column_stride), dmask->type,
                              mask_sum(call, &part, i, j) + 0.0);
}

void invar_reference_attention_vjp_sinks(const invar_attention_vjp_call *call, int64_t task, void *scratch) {
    (void)scratch;
    const invar_attention_call *forward = &call->forward;
    const double sink = invar_load_float(forward->sinks.data + task * forward->sinks.head_stride, forward->sinks.type);
    double sum = 0;
    for (int64_t b = 0; b < forward->batch; b++)
        for (int64_t i = 0; i < forward->query_len; i++) {
            const row x = row_of(call, b, task, i);
            if (!invar_attention_vjp_is_blind(forward, x.lse)) sum -= exp(sink - x.lse) * x.delta;
        }
    invar_store_float(call->dsinks.data + task * call->dsinks.head_stride, call->dsinks.type, sum + 0.0);
}
