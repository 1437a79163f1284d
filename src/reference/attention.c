/* scaled_dot_product_attention in plain scalar C with accumulation in double: the readable specification of the kernel,
 * for all four types. Keys stream past one query row at a time, with the running maximum of Milakov & Gimelshein (2018),
 * so that nothing of size Tq × Tkv exists. */
#include "cpu/dispatch.h"

#include <math.h>

/* What one query row has gathered from the keys so far: weights are relative to exp(maximum). */
typedef struct row_state {
    double maximum, total;
    double *sum; /* [value_dim] */
} row_state;

static double dot(const invar_attention_call *call, const char *q, const char *k) {
    double sum = 0;
    for (int64_t d = 0; d < call->key_dim; d++)
        sum += invar_load_float(q + d * call->q.column_stride, call->q.type) *
               invar_load_float(k + d * call->k.column_stride, call->k.type);
    return sum;
}

/* The natural logit of a pair that is seen, with what the mask adds. */
static double logit_of(const invar_attention_call *call, const char *q, const char *k, double added) {
    double logit = dot(call, q, k) * call->scale;
    if (call->softcap > 0) logit = call->softcap * tanh(logit / call->softcap);
    return logit + added;
}

/* One more key, or a sink where v is NULL. A logit of -inf has weight 0, by which a value that is not finite is NaN. */
static void gather(row_state *row, double logit, const invar_attention_call *call, const char *v) {
    if (logit > row->maximum) {
        const double shrink = exp(row->maximum - logit);
        row->total *= shrink;
        for (int64_t d = 0; d < call->value_dim; d++) row->sum[d] *= shrink;
        row->maximum = logit;
    }
    const double weight = logit == -(double)INFINITY ? 0 : exp(logit - row->maximum);
    row->total += weight;
    for (int64_t d = 0; v && d < call->value_dim; d++)
        row->sum[d] += weight * invar_load_float(v + d * call->v.column_stride, call->v.type);
}

static void store_row(const row_state *row, const invar_attention_call *call, int64_t batch, int64_t head, int64_t query) {
    char *out = invar_attention_row(call, &call->out, batch, head, query);
    for (int64_t d = 0; d < call->value_dim; d++) /* + 0: the sign of a zero is no result */
        invar_store_float(out + d * call->out.column_stride, call->type,
                          row->total != 0 ? row->sum[d] / row->total + 0.0 : 0);
    if (call->lse.data)
        invar_store_float(invar_attention_row(call, &call->lse, batch, head, query), call->lse.type,
                          row->total != 0 ? row->maximum + log(row->total) : -(double)INFINITY);
}

static void attend_row(const invar_attention_call *call, int64_t batch, int64_t head, int64_t query, double *sum) {
    row_state row = { -(double)INFINITY, 0, sum };
    for (int64_t d = 0; d < call->value_dim; d++) sum[d] = 0;
    const char *q = invar_attention_row(call, &call->q, batch, head, query);
    const char *k = invar_attention_row(call, &call->k, batch, head / call->group, 0);
    const char *v = invar_attention_row(call, &call->v, batch, head / call->group, 0);
    const char *mask = call->mask.data ? invar_attention_row(call, &call->mask, batch, head, query) : NULL;
    const invar_key_range range = invar_attention_range(call, invar_attention_length(call, batch), query);
    for (int64_t j = range.first; j < range.last; j++) {
        const double added = mask ? invar_attention_mask_value(call->mask_kind, mask + j * call->mask.column_stride) : 0;
        if (added == -(double)INFINITY) continue;
        gather(&row, logit_of(call, q, k + j * call->k.row_stride, added), call, v + j * call->v.row_stride);
    }
    if (call->sinks.data)
        gather(&row, invar_load_float(call->sinks.data + head * call->sinks.head_stride, call->sinks.type), call, NULL);
    store_row(&row, call, batch, head, query);
}

invar_attention_kernel invar_reference_attention, invar_reference_attention_bf16, invar_reference_attention_f16;

void invar_reference_attention(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    for (int64_t r = work->row_first; r < work->row_last; r++)
        attend_row(call, work->batch, work->kv_head * call->group + r % call->group, r / call->group, scratch);
}

void invar_reference_attention_bf16(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    invar_reference_attention(call, work, scratch);
}

void invar_reference_attention_f16(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    invar_reference_attention(call, work, scratch);
}
