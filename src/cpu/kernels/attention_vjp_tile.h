/* One tile of scores and of dout·v to weights and score gradients: the element-wise middle of attention's gradients, shared
 * by the pass for dq, dk and dv and the pass for dmask.
 *
 * A masked pair leaves -0 in both tiles. A weight is never -0 otherwise (exp2 gives +0 when it underflows), so the sign
 * tells later products which pairs are masked; as a factor -0 is as good as +0, since chains add +0 at their end. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_TILE_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_TILE_H

#include "cpu/kernels/attention_vjp_rows.h"
#include "cpu/vec/math.h"

enum { VJP_KEYS = 64 }; /* keys a tile, and floats a row of one */

/* What one query row brings. */
typedef struct vjp_row {
    float lambda; /* lse · log2(e) */
    float delta;  /* Σ dout·out - dlse */
    bool dead;    /* lse is -inf */
} vjp_row;

/* Rows of queries query … query+count-1. spare: room for two padded rows of value_dim. */
static void vjp_load_terms(const invar_attention_vjp_call *call, int64_t batch, int64_t head, int64_t query, int64_t count,
                           float *spare, vjp_row *rows) {
    const invar_attention_call *forward = &call->forward;
    const int64_t dim = forward->value_dim;
    const char *lse = invar_attention_row(forward, &forward->lse, batch, head, query);
    const char *dlse = call->dlse.data ? invar_attention_row(forward, &call->dlse, batch, head, query) : NULL;
    const char *dout = invar_attention_row(forward, &call->dout, batch, head, query);
    const char *out = invar_attention_row(forward, &forward->out, batch, head, query);
    for (int64_t r = 0; r < count; r++) {
        const float l = vjp_load_scalar(lse + r * forward->lse.row_stride, &forward->lse);
        const float *a = vjp_row_floats(spare, dout + r * call->dout.row_stride, &call->dout, dim);
        const float *b = vjp_row_floats(spare + VJP_PADDED(dim), out + r * forward->out.row_stride, &forward->out, dim);
        rows[r] = (vjp_row){ .lambda = l * (float)INVAR_LOG2E, .delta = vjp_dot_lanes(a, b, VJP_PADDED(dim)),
                             .dead = l == -INFINITY };
        if (dlse) rows[r].delta -= vjp_load_scalar(dlse + r * call->dlse.row_stride, &call->dlse);
    }
}

typedef enum vjp_gradient { VJP_OF_SCORE, VJP_OF_LOGIT } vjp_gradient;

/* score[j] becomes p; slope[j], which holds dout·v, becomes ds or e. additive NULL: every pair is seen. */
VEC_INLINE void vjp_row_form(const invar_attention_call *call, const bool capped, const bool hidden,
                             const vjp_gradient gradient, const vjp_row *row, const float *additive, float *score,
                             float *slope, int64_t columns) {
    const vf lambda = vf_set1(row->lambda), delta = vf_set1(row->delta), scale = vf_set1((float)call->scale);
    for (int64_t j = 0; j < columns; j += VW) {
        vf s = vf_load(score + j), bend = vf_zero(), t, none = vf_zero();
        if (capped) {
            bend = vf_tanh(vf_mul(s, vf_set1(call->cap_scale)));
            t = vf_mul(vf_set1(call->cap_height), bend);
        } else t = vf_mul(s, vf_set1(call->score_scale));
        if (hidden) {
            none = vf_load(additive + j);
            t = vf_fma(none, vf_set1((float)INVAR_LOG2E), t);
        }
        vf p = vf_exp2(vf_sub(t, lambda));
        vf e = vf_mul(p, vf_sub(vf_load(slope + j), delta));
        if (gradient == VJP_OF_SCORE) {
            if (capped) e = vf_mul(e, vf_fnma(bend, bend, vf_set1(1.0f)));
            e = vf_mul(e, scale);
        }
        if (hidden) {
            const vm mask = vf_eq(none, vf_set1(-INFINITY));
            p = vf_select(mask, vf_set1(-0.0f), p);
            e = vf_select(mask, vf_set1(-0.0f), e);
        }
        vf_store(score + j, p);
        vf_store(slope + j, e);
    }
}

VEC_INLINE void vjp_row_any(const invar_attention_call *call, const vjp_gradient gradient, const vjp_row *row,
                            const float *additive, float *score, float *slope, int64_t columns) {
    if (call->softcap > 0) {
        if (additive) vjp_row_form(call, true, true, gradient, row, additive, score, slope, columns);
        else vjp_row_form(call, true, false, gradient, row, additive, score, slope, columns);
    } else if (additive) vjp_row_form(call, false, true, gradient, row, additive, score, slope, columns);
    else vjp_row_form(call, false, false, gradient, row, additive, score, slope, columns);
}

static void vjp_fill(float *to, float value, int64_t n) {
    for (int64_t j = 0; j < n; j++) to[j] = value;
}

/* Additive values of a row against keys key … key+count-1, -inf where it sees none of them, in `additive`. Returns it, NULL
 * when every key is seen as it is; sets *blind when none is. */
static const float *vjp_additive(const invar_attention_call *call, int64_t length, int64_t query, const char *mask,
                                 int64_t key, int64_t count, float *additive, bool *blind) {
    const invar_key_range range = invar_attention_range(call, length, query);
    const int64_t first = range.first > key ? range.first - key : 0;
    const int64_t last = range.last - key < count ? range.last - key : count;
    *blind = first >= last;
    if (*blind || (!mask && first == 0 && last == count)) return NULL;
    vjp_fill(additive, -INFINITY, first);
    if (mask) *blind = !invar_attention_mask_row(call, mask, key + first, last - first, additive + first);
    else vjp_fill(additive + first, 0, last - first);
    vjp_fill(additive + last, -INFINITY, VJP_PADDED(count) - last);
    return additive;
}

/* A tile's keys, and the rows it is applied to. */
typedef struct vjp_tile {
    int64_t batch, head, length;
    int64_t key, keys;             /* first key, and how many */
    int64_t query_first;           /* query of row 0 of the tiles and of `rows` */
    int64_t row_first, row_last;   /* rows to do */
    const vjp_row *rows;
    float *score, *slope;          /* [rows][VJP_KEYS] */
    float *additive;               /* [VJP_KEYS], scratch */
} vjp_tile;

/* Turns rows row_first … row_last-1 of both tiles. True when one of their pairs is masked. */
static bool vjp_weights(const invar_attention_call *call, const vjp_gradient gradient, const vjp_tile *x) {
    const char *mask = call->mask.data ? invar_attention_row(call, &call->mask, x->batch, x->head, x->query_first) : NULL;
    const int64_t columns = VJP_PADDED(x->keys);
    bool any = false;
    for (int64_t r = x->row_first; r < x->row_last; r++) {
        float *score = x->score + r * VJP_KEYS, *slope = x->slope + r * VJP_KEYS;
        bool blind;
        const float *additive = vjp_additive(call, x->length, x->query_first + r, mask ? mask + r * call->mask.row_stride : NULL,
                                             x->key, x->keys, x->additive, &blind);
        if (blind || x->rows[r].dead) {
            vjp_fill(score, -0.0f, columns);
            vjp_fill(slope, -0.0f, columns);
            any = true;
            continue;
        }
        any |= additive != NULL;
        if (gradient == VJP_OF_SCORE) vjp_row_any(call, VJP_OF_SCORE, x->rows + r, additive, score, slope, columns);
        else vjp_row_any(call, VJP_OF_LOGIT, x->rows + r, additive, score, slope, columns);
    }
    return any;
}

#endif
