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
    bool dead;    /* as invar_attention_vjp_is_blind says */
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
        rows[r] = (vjp_row){ .lambda = l * (float)INVAR_LOG2E, .dead = invar_attention_vjp_is_blind(forward, l) };
        rows[r].delta = vjp_dot_rows(spare, dout + r * call->dout.row_stride, &call->dout, out + r * forward->out.row_stride,
                                     &forward->out, dim);
        if (dlse) rows[r].delta -= vjp_load_scalar(dlse + r * call->dlse.row_stride, &call->dlse);
    }
}

/* The gradient of the score, of the score where pairs of bfloat16 numbers are multiplied, of the logit. */
typedef enum vjp_gradient { VJP_OF_SCORE, VJP_OF_PAIR, VJP_OF_LOGIT } vjp_gradient;

/* Weights that are rounded to bfloat16 take the shorter exp2, as the forward's do. */
VEC_INLINE vf vjp_exp2(const vjp_gradient gradient, vf x) { return gradient == VJP_OF_PAIR ? vf_exp2_short(x) : vf_exp2(x); }

typedef struct vjp_formed {
    vf weight, gradient;
} vjp_formed;

/* What a row's pairs share. */
typedef struct vjp_shared {
    vf lambda, delta, scale;
} vjp_shared;

VEC_INLINE vjp_shared vjp_shared_of(const invar_attention_call *call, const vjp_row *row) {
    return (vjp_shared){ vf_set1(row->lambda), vf_set1(row->delta), vf_set1((float)call->scale) };
}

/* p, and ds or e, from scores and dout·v. none: additive values, where some are -inf or not 0 (hidden). */
VEC_INLINE vjp_formed vjp_form(const invar_attention_call *call, const bool capped, const bool hidden,
                               const vjp_gradient gradient, const vjp_shared *row, vf score, vf slope, vf none) {
    vf bend = vf_zero(), t;
    if (capped) {
        bend = vf_tanh(vf_mul(score, vf_set1(call->cap_scale)));
        t = vf_mul(vf_set1(call->cap_height), bend);
    } else t = vf_mul(score, vf_set1(call->score_scale));
    if (hidden) t = vf_fma(none, vf_set1((float)INVAR_LOG2E), t);
    vf p = vjp_exp2(gradient, vf_sub(t, row->lambda));
    vf e = vf_mul(p, vf_sub(slope, row->delta));
    if (gradient != VJP_OF_LOGIT) {
        if (capped) e = vf_mul(e, vf_fnma(bend, bend, vf_set1(1.0f)));
        e = vf_mul(e, row->scale);
    }
    if (hidden) {
        const vm mask = vf_eq(none, vf_set1(-INFINITY));
        p = vf_select(mask, vf_set1(-0.0f), p);
        e = vf_select(mask, vf_set1(-0.0f), e);
    }
    return (vjp_formed){ p, e };
}

/* score[j] becomes p; slope[j], which holds dout·v, becomes ds or e. additive NULL: every pair is seen. */
VEC_INLINE void vjp_row_form(const invar_attention_call *call, const bool capped, const bool hidden,
                             const vjp_gradient gradient, const vjp_row *row, const float *additive, float *score,
                             float *slope, int64_t columns) {
    const vjp_shared shared = vjp_shared_of(call, row);
    for (int64_t j = 0; j < columns; j += VW) {
        const vjp_formed x = vjp_form(call, capped, hidden, gradient, &shared, vf_load(score + j), vf_load(slope + j),
                                      hidden ? vf_load(additive + j) : vf_zero());
        vf_store(score + j, x.weight);
        vf_store(slope + j, x.gradient);
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

/* invar_attention_mask_row, by vectors where elements of half types stand together. Not inlined: it took registers from loops. */
static __attribute__((noinline)) bool vjp_mask_row(const invar_attention_call *call, const char *row, int64_t first, int64_t count,
                                                   float *additive) {
    const bool brain = call->mask_kind == INVAR_MASK_BF16;
    if (call->mask.column_stride != 2 || (!brain && call->mask_kind != INVAR_MASK_F16))
        return invar_attention_mask_row(call, row, first, count, additive);
    const char *p = row + 2 * first;
    bool seen = false;
    for (int64_t j = 0; j < count; j += VW) {
        const int n = count - j < VW ? (int)(count - j) : VW;
        const void *at = p + 2 * j;
        const vf a = brain ? vf_load_bf16_n(at, n) : vf_load_f16_n(at, n);
        seen |= !vm_all(vm_or(vf_eq(a, vf_set1(-INFINITY)), vm_not(vm_first(n))));
        vf_store_n(additive + j, a, n);
    }
    return seen;
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
    if (mask) *blind = !vjp_mask_row(call, mask, key + first, last - first, additive + first);
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

/* True when row r lives and neither position nor length hides a key of the tile from it. */
static inline bool vjp_sees_all(const invar_attention_call *call, const vjp_tile *x, int64_t r) {
    const invar_key_range range = invar_attention_range(call, x->length, x->query_first + r);
    return !x->rows[r].dead && range.first <= x->key && range.last >= x->key + x->keys;
}

/* Turns row r of both tiles. True when one of its pairs is masked. */
VEC_INLINE bool vjp_weights_of_row(const invar_attention_call *call, const vjp_gradient gradient, const vjp_tile *x, int64_t r) {
    const int64_t query = x->query_first + r, columns = VJP_PADDED(x->keys);
    const char *mask = call->mask.data ? invar_attention_row(call, &call->mask, x->batch, x->head, query) : NULL;
    float *score = x->score + r * VJP_KEYS, *slope = x->slope + r * VJP_KEYS;
    bool blind;
    const float *additive = vjp_additive(call, x->length, query, mask, x->key, x->keys, x->additive, &blind);
    if (blind || x->rows[r].dead) {
        vjp_fill(score, -0.0f, columns);
        vjp_fill(slope, -0.0f, columns);
        return true;
    }
    vjp_row_any(call, gradient, x->rows + r, additive, score, slope, columns);
    return additive != NULL;
}

/* Turns rows row_first … row_last-1 of both tiles. True when one of their pairs is masked. */
VEC_INLINE bool vjp_weights(const invar_attention_call *call, const vjp_gradient gradient, const vjp_tile *x) {
    bool any = false;
    for (int64_t r = x->row_first; r < x->row_last; r++) any |= vjp_weights_of_row(call, gradient, x, r);
    return any;
}

#endif
