/* Attention in half types on AMX tiles: what vectors do to the rows of a tile, masks and weights.
 *
 * A row of scores becomes weights in place: its maximum is taken from the scores, whose scaling is a part of the weights. Masks have
 * been added by products (attention_tiles_bias.h) or are added first; with softcap, and in float16 where numbers are added, rows
 * become logits instead. A boolean mask that hides no key between the first and the last that a row sees is forgotten, as is one of
 * zeros that all rows share. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_TILES_ROWS_H
#define INVAR_CPU_KERNELS_ATTENTION_TILES_ROWS_H

#include "cpu/kernels/attention_tiles_bias.h"
#include "cpu/vec/stream.h"

/* What is called into the second-level cache while rows are weighed: keys of the next block, so many a row; and, where blocks are
 * kept packed, the mask of the next 32 rows, row after row, the part that is one block's with every row that is weighed. A mask's
 * lines are called one at a time, between weights, which takes next to no time. */
typedef struct tiles_ahead {
    int64_t next, last;
    int share; /* keys a row */
    const char *mask; /* the next part, or NULL */
    int64_t mask_row, mask_last, mask_key; /* its row of the work, the last one behind, their first key, */
    int64_t part, parts;                   /* and which part of the row it is */
} tiles_ahead;

/* The next part of the mask. */
static const char *tiles_next_mask(const kernel_state *s, tiles_ahead *ahead) {
    const char *p = ahead->mask;
    const int64_t step = s->call->mask.column_stride;
    if (!p) return NULL;
    ahead->mask += s->call->key_block * step;
    if (++ahead->part < ahead->parts) return p;
    ahead->part = 0;
    ahead->mask = ++ahead->mask_row < ahead->mask_last ? mask_of_row(s, ahead->mask_row) + ahead->mask_key * step : NULL;
    return p;
}

/* A tile of rows and a block of keys, from its scores to its part of O. */
typedef struct tiles_stage {
    row_tile tile;
    int64_t index;       /* of the block */
    int from, to;        /* keys of the products, whole groups */
    int done, peaks;     /* units of tiles_units, of its work with vectors; rows whose maxima are there */
    float *keys, *values; /* of the block, packed */
    float *scores, *mask; /* rows of tiles_stride; the second where additive values are not read in place */
    const char *added[TILES_ROWS]; /* each row's additive values, of the block's key 0 on; NULL: it needs none */
    float *most, *sum;   /* a row's largest logit and sum of weights */
    float *part;         /* of O */
    tiles_way way;       /* how products come by the mask, */
    bool takes, stands;  /* if they do; from where it stands, or from a copy of each panel, */
    int inner_low, inner_high; /* of which these keys are seen by all rows; */
    tiles_panel_copy *panels;  /* the copies, of which other heads read too, or NULL */
    bool copied;               /* by the head before */
    unsigned char *found, own; /* tiles_finding of it, the tile's or the heads' */
    const char *call;          /* the mask to be called with row 0, the rows behind it, and with so many rows */
    int64_t call_row;
    int calls;
    const tiles_inverse *inverse;
    tiles_ahead *ahead;
} tiles_stage;

/* ---- weights ----------------------------------------------------------------------------------------- */

/* One row: its scores, which become weights; its additive values, or NULL; and the keys that it sees. */
typedef struct tiles_row {
    float *row;
    const char *added;
    int first, last;
} tiles_row;

/* How additive values are read: as they stand, or as floats that were made of them. */
static invar_attention_mask_kind tiles_form(const invar_attention_call *call) {
    const invar_attention_mask_kind form = mask_form(call);
    return form == INVAR_MASK_NONE ? INVAR_MASK_F32 : form;
}

/* Additive values of the keys key … key+15 that lie before `last`; 0 beside them. */
VEC_INLINE vf tiles_added(const kernel_state *s, const invar_attention_mask_kind form, const char *row, int key, int last) {
    const int64_t step = form == INVAR_MASK_F32 ? 4 : form == INVAR_MASK_BOOL ? 1 : 2;
    const int left = last - key;
    return mask_load(s, form, row + key * step, left >= VW ? VW : left > 0 ? left : 0);
}

/* Those of the keys key … key+15 that the row sees by position. */
VEC_INLINE vm tiles_seen(const tiles_row *x, int key) {
    const int first = x->first - key, last = x->last - key;
    return vm_and(vm_first(last < 0 ? 0 : last > VW ? VW : last), vm_not(vm_first(first < 0 ? 0 : first > VW ? VW : first)));
}

/* What weights are formed from. A score's scaling joins the subtraction in bfloat16; elsewhere it is rounded first, as it is in
 * logits. */
typedef enum tiles_source { TILES_LOGITS, TILES_SCORES, TILES_JOINED } tiles_source;

/* Weights of VW keys, from scores -0 where they are masked, from logits +0, until tiles_mark. */
VEC_INLINE vf tiles_weight(const tiles_row *x, int key, vf scale, vf shift, const tiles_source source, const bool whole) {
    const vf t = vf_load(x->row + key);
    if (source == TILES_LOGITS) return vf_exp2_short(vf_sub(t, shift));
    const vf p = vf_exp2_short(source == TILES_JOINED ? vf_fma(t, scale, vf_neg(shift)) : vf_sub(vf_mul(t, scale), shift));
    return whole ? p : vf_select(tiles_seen(x, key), p, vf_set1(-0.0f));
}

/* Weights in place of scores or logits, of keys from … to-1, whole groups; returns their sum. call: a mask of half types, a block's
 * part of a row, that is called meanwhile; or NULL. */
VEC_INLINE float tiles_exponentials(const tiles_row *x, int from, int to, float scale, float most, const tiles_source source,
                                    const bool whole, const char *call) {
    const vf shift = softmax_shift(vf_set1(most)), factor = vf_set1(scale);
    vf sum = vf_zero();
    for (int key = from; key < to; key += 2 * VW) {
        if (call) vec_prefetch(call + 2 * key, true);
        const vf first = tiles_weight(x, key, factor, shift, source, whole);
        const vf second = tiles_weight(x, key + VW, factor, shift, source, whole);
        sum = vf_add(vf_add(sum, first), second);
        element_weights(x->row + tiles_rows(key), first, second);
    }
    return vf_hsum(sum);
}

/* The largest score; a NaN does not enter. */
VEC_INLINE float tiles_most(const tiles_row *x, int from, int to, const bool whole) {
    const vf hidden = vf_set1(-INFINITY);
    vf most = hidden, other = hidden;
    for (int key = from; key < to; key += 2 * VW) {
        const vf s = vf_load(x->row + key), t = vf_load(x->row + key + VW);
        most = vf_max(whole ? s : vf_select(tiles_seen(x, key), s, hidden), most);
        other = vf_max(whole ? t : vf_select(tiles_seen(x, key + VW), t, hidden), other);
    }
    return vf_hmax(vf_max(most, other));
}

/* Logits of VW keys. form: how additive values are read, NONE without. whole: the row sees all these keys by position. */
VEC_INLINE vf tiles_logit(const kernel_state *s, const tiles_row *x, int key, vf scale, const invar_attention_mask_kind form,
                          const bool whole) {
    const vf hidden = vf_set1(-INFINITY);
    vf t = vf_mul(vf_load(x->row + key), scale);
    if (whole && form == INVAR_MASK_BOOL) return vf_select(vm_load_bytes(x->added + key), t, hidden);
    if (form != INVAR_MASK_NONE) t = softmax_added(t, tiles_added(s, form, x->added, key, whole ? key + VW : x->last));
    return whole ? t : vf_select(tiles_seen(x, key), t, hidden);
}

/* Logits in place of scores; returns the largest. */
VEC_INLINE float tiles_logits_of(const kernel_state *s, const tiles_row *x, int from, int to, float factor,
                                 const invar_attention_mask_kind form) {
    const vf scale = vf_set1(factor);
    vf most = vf_set1(-INFINITY), other = most;
    for (int key = from; key < to;) {
        const bool two = key >= x->first && key + 2 * VW <= x->last;
        const vf t = two ? tiles_logit(s, x, key, scale, form, true) : tiles_logit(s, x, key, scale, form, false);
        vf_store(x->row + key, t);
        most = vf_max(t, most);
        key += VW;
        if (!two) continue;
        const vf u = tiles_logit(s, x, key, scale, form, true);
        vf_store(x->row + key, u);
        other = vf_max(u, other);
        key += VW;
    }
    return vf_hmax(vf_max(most, other));
}

static float tiles_logits(const kernel_state *s, const tiles_row *x, int from, int to) {
    const bool capped = s->call->softcap > 0;
    const float scale = capped ? 1 : s->call->score_scale;
    for (int key = from; capped && key < to; key += VW) vf_store(x->row + key, softmax_scaled(s->call, vf_load(x->row + key)));
    switch (x->added ? tiles_form(s->call) : INVAR_MASK_NONE) {
    case INVAR_MASK_NONE: return tiles_logits_of(s, x, from, to, scale, INVAR_MASK_NONE);
    case INVAR_MASK_F16: return tiles_logits_of(s, x, from, to, scale, INVAR_MASK_F16);
    case INVAR_MASK_BF16: return tiles_logits_of(s, x, from, to, scale, INVAR_MASK_BF16);
    case INVAR_MASK_BOOL: return tiles_logits_of(s, x, from, to, scale, INVAR_MASK_BOOL);
    default: return tiles_logits_of(s, x, from, to, scale, INVAR_MASK_F32);
    }
}

/* Scores take additive values. */
VEC_INLINE void tiles_add_as(const kernel_state *s, const tiles_row *x, int from, int to, const tiles_inverse *inverse,
                             const invar_attention_mask_kind form) {
    for (int key = from; key < to; key += VW)
        vf_store(x->row + key, tiles_biased(vf_load(x->row + key), tiles_added(s, form, x->added, key, x->last), inverse));
}
static void tiles_add(const kernel_state *s, const tiles_row *x, int from, int to, const tiles_inverse *inverse) {
    switch (tiles_form(s->call)) {
    case INVAR_MASK_F16: tiles_add_as(s, x, from, to, inverse, INVAR_MASK_F16); break;
    case INVAR_MASK_BF16: tiles_add_as(s, x, from, to, inverse, INVAR_MASK_BF16); break;
    case INVAR_MASK_BOOL: tiles_add_as(s, x, from, to, inverse, INVAR_MASK_BOOL); break;
    default: tiles_add_as(s, x, from, to, inverse, INVAR_MASK_F32);
    }
}

/* Groups in which the row sees no key. */
static void tiles_hide(const tiles_row *x, int from, int to) {
    for (int key = from; key < to; key += 2 * VW) element_weights(x->row + tiles_rows(key), vf_set1(-0.0f), vf_set1(-0.0f));
}

/* A row of the stage, and its keys low … high-1 in whole groups; low == high: it sees none. */
static tiles_row tiles_row_of(const kernel_state *s, const tiles_stage *stage, int r, int *low, int *high) {
    const row_tile *tile = &stage->tile;
    const char *added = s->call->mask.data ? stage->added[r] : NULL;
    const bool blind = tile->last[r] <= tile->first[r];
    *low = blind ? stage->to : tiles_down(tile->first[r]);
    *high = blind ? stage->to : tiles_up(tile->last[r]);
    return (tiles_row){ stage->scores + r * tiles_stride(s), added, tile->first[r], tile->last[r] };
}

/* True where vectors are to add the row's mask. */
static bool tiles_adds(const tiles_stage *stage, const tiles_row *x) { return x->added && !stage->takes; }

/* True where scores become weights in one go, perhaps once they have taken additive values, without logits in between. */
static bool tiles_plain(const kernel_state *s, const tiles_stage *stage, const tiles_row *x) {
    return s->call->softcap == 0 && s->call->score_scale > 0 && (stage->inverse->parts || !tiles_adds(stage, x));
}

/* The largest logit of row r. Logits take the place of scores where these do not become weights in one go. */
static void tiles_peak(const kernel_state *s, const tiles_stage *stage, int r) {
    const float scale = s->call->score_scale;
    int low, high;
    const tiles_row x = tiles_row_of(s, stage, r, &low, &high);
    if (low == high) {
        stage->most[r] = -INFINITY;
        return;
    }
    if (!tiles_plain(s, stage, &x)) {
        stage->most[r] = tiles_logits(s, &x, low, high);
        return;
    }
    if (tiles_adds(stage, &x)) tiles_add(s, &x, low, high, stage->inverse);
    if (x.first == low && x.last == high) stage->most[r] = scale * tiles_most(&x, low, high, true);
    else stage->most[r] = scale * tiles_most(&x, low, high, false);
}

/* Weights of a row that is plain. */
VEC_INLINE float tiles_plain_weights(const kernel_state *s, const tiles_row *x, int low, int high, float most,
                                     const tiles_source source, const char *call) {
    const float scale = s->call->score_scale;
    if (x->first == low && x->last == high) return tiles_exponentials(x, low, high, scale, most, source, true, call);
    return tiles_exponentials(x, low, high, scale, most, source, false, call);
}

/* Row r of the stage: weights in place of scores or logits. Where a finite number hides all keys and scaling joins the subtraction,
 * weights are powers of 2 of what the rounding of the largest logit left out, which from 2^31 on is more than floats hold. */
VEC_INLINE void tiles_weights_of(const kernel_state *s, const tiles_stage *stage, int r, const char *call) {
    const bool moderate = stage->most[r] > -0x1p24f && stage->most[r] < 0x1p24f;
    const bool joined = PARTS == 1 && (!s->call->mask.data || stage->inverse->parts) && moderate;
    int low, high;
    const tiles_row x = tiles_row_of(s, stage, r, &low, &high);
    float sum = 0;
    if (low == high) (void)0;
    else if (!tiles_plain(s, stage, &x)) sum = tiles_exponentials(&x, low, high, 1, stage->most[r], TILES_LOGITS, false, call);
    else if (joined) sum = tiles_plain_weights(s, &x, low, high, stage->most[r], TILES_JOINED, call);
    else sum = tiles_plain_weights(s, &x, low, high, stage->most[r], TILES_SCORES, call);
    tiles_hide(&x, stage->from, low);
    tiles_hide(&x, high, stage->to);
    stage->sum[r] = sum;
}
static void tiles_weights(const kernel_state *s, const tiles_stage *stage, int r) { tiles_weights_of(s, stage, r, NULL); }

/* The part of the mask that is to be called with row r's weights, or NULL. */
static const char *tiles_called(const kernel_state *s, const tiles_stage *stage, int r) {
    if (s->span > 1) return tiles_next_mask(s, stage->ahead);
    return r < stage->calls ? stage->call + (stage->copied || s->call->group == 1 ? r : r / s->call->group) * stage->call_row : NULL;
}

/* The same while part of a mask is called. A function of its own, so that rows without calls do not look for them. */
static __attribute__((noinline)) void tiles_weights_and_calls(const kernel_state *s, const tiles_stage *stage, int r) {
    tiles_weights_of(s, stage, r, tiles_called(s, stage, r));
}

/* -0 for keys that are masked, +0 for others. */
static vf tiles_marks(const kernel_state *s, const tiles_row *x, int key) {
    vf a = vf_zero();
    switch (x->added ? tiles_form(s->call) : INVAR_MASK_NONE) {
    case INVAR_MASK_NONE: break;
    case INVAR_MASK_F16: a = tiles_added(s, INVAR_MASK_F16, x->added, key, x->last); break;
    case INVAR_MASK_BF16: a = tiles_added(s, INVAR_MASK_BF16, x->added, key, x->last); break;
    case INVAR_MASK_BOOL: a = tiles_added(s, INVAR_MASK_BOOL, x->added, key, x->last); break;
    default: a = tiles_added(s, INVAR_MASK_F32, x->added, key, x->last);
    }
    const vm seen = vm_and(tiles_seen(x, key), vm_not(vf_eq(a, vf_set1(-INFINITY))));
    return vf_select(seen, vf_zero(), vf_set1(-0.0f));
}

/* Marks the masked keys of row r, whose weights may be +0, by -0: for the rare row that needs to know. */
static void tiles_mark(const kernel_state *s, const tiles_stage *stage, int r) {
    int low, high;
    const tiles_row x = tiles_row_of(s, stage, r, &low, &high);
    float marks[PARTS * VW];
    for (int key = low; key < high; key += 2 * VW) {
        element_weights(marks, tiles_marks(s, &x, key), tiles_marks(s, &x, key + VW));
        for (int i = 0; i < PARTS * VW; i++) {
            float *word = x.row + tiles_rows(key) + i;
            *word = invar_float_from_bits(invar_bits_from_float(*word) | invar_bits_from_float(marks[i]));
        }
    }
}

#endif
