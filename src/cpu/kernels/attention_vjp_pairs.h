/* The operands of attention's gradients as pairs of bfloat16 numbers (vec/pairs.h). A pair lies along the index that a product
 * sums over, so each operand exists in the forms its products need:
 *
 *   rows      pairs of neighbouring features, as bfloat16 rows lie in memory: A of the scores; turned, their B
 *   joined    pairs of neighbouring rows, feature by feature: B of dq, dk and dv
 *
 * and so do the tiles of weights. A pair takes the place of one float of the float32 form. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_PAIRS_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_PAIRS_H

#include "cpu/kernels/attention_vjp_rows.h"
#include "cpu/kernels/attention_vjp_tile.h"
#include "cpu/vec/stream.h"

#if defined(VEC_PAIRS)

/* One row of n bfloat16 elements of any stride, then zeros up to VJP_PADDED(n). */
static void vjp_load_narrow(float *to, const char *from, const invar_attention_operand *x, int64_t n) {
    uint16_t *row = (uint16_t *)(void *)to;
    if (x->column_stride == 2) memcpy(row, from, 2 * (size_t)n);
    else
        for (int64_t i = 0; i < n; i++) memcpy(row + i, from + i * x->column_stride, 2);
    for (int64_t i = n; i < VJP_PADDED(n); i++) row[i] = 0;
}

static bool vjp_finite_narrow(const float *from, int64_t n) {
    const uint16_t *x = (const uint16_t *)(const void *)from;
    uint16_t bad = 0;
    for (int64_t i = 0; i < n; i++) bad |= (x[i] & 0x7f80) == 0x7f80;
    return !bad;
}

/* Rows of `columns` bfloat16 elements, a multiple of 16, joined two by two. */
static void vjp_join(float *to, const float *from, int64_t rows, int64_t columns) {
    const uint16_t *row = (const uint16_t *)(const void *)from;
    for (int64_t r = 0; r < rows; r += 2, row += 2 * columns, to += columns) {
        int64_t d = 0;
        for (; d + 2 * VW <= columns; d += 2 * VW) {
            vf low, high;
            vf_pairs_load_mixed(row + d, row + columns + d, &low, &high);
            vf_pairs_order(&low, &high);
            vf_store(to + d, low);
            vf_store(to + d + VW, high);
        }
        if (d < columns) vf_store(to + d, vf_pairs_load(row + d, row + columns + d));
    }
}

/* Tiles of p and ds as pairs: both joined by query, and ds by key too. */
typedef struct vjp_narrow {
    float *p, *ds; /* [rows / 2][VJP_KEYS] */
    float *ds_rows; /* [rows][VJP_KEYS / 2] */
} vjp_narrow;

/* One or two rows of p and ds, from row r on, an even one, as pairs. A row alone is joined with zeros; keys beyond the last
 * one are zeros in ds by key. */
static void vjp_narrow_rows(const vjp_tile *x, const vjp_narrow *to, int64_t r, int64_t count) {
    const int64_t columns = VJP_PADDED(x->keys);
    const float *score = x->score + r * VJP_KEYS;
    float *slope = x->slope + r * VJP_KEYS, *p = to->p + r / 2 * VJP_KEYS, *ds = to->ds + r / 2 * VJP_KEYS;
    for (int64_t i = 0; i < count; i++) {
        float *row = slope + i * VJP_KEYS, *pairs = to->ds_rows + (r + i) * VJP_KEYS / 2;
        for (int64_t j = x->keys; j < columns; j++) row[j] = 0;
        for (int64_t j = 0; j < columns; j += 2 * VW)
            vf_store(pairs + j / 2, vf_pairs_row(vf_load(row + j), j + VW < columns ? vf_load(row + j + VW) : vf_zero()));
    }
    for (int64_t j = 0; j < columns; j += VW) {
        vf_store(p + j, vf_pairs(vf_load(score + j), count == 2 ? vf_load(score + VJP_KEYS + j) : vf_zero()));
        vf_store(ds + j, vf_pairs(vf_load(slope + j), count == 2 ? vf_load(slope + VJP_KEYS + j) : vf_zero()));
    }
}

/* How a mask is read where it stands: NONE, not at all. */
static invar_attention_mask_kind vjp_mask_form(const invar_attention_call *call) {
    const invar_attention_mask_kind kind = call->mask.data ? call->mask_kind : INVAR_MASK_NONE;
    const bool half = kind == INVAR_MASK_BF16 || kind == INVAR_MASK_F16;
    const bool whole = call->mask.column_stride == (half ? 2 : 1) && (half || kind == INVAR_MASK_BOOL);
    return whole ? kind : INVAR_MASK_NONE;
}

/* VW additive values from element j on. */
VEC_INLINE vf vjp_added(const invar_attention_mask_kind form, const char *row, int64_t j) {
    const void *at = row + (form == INVAR_MASK_BOOL ? j : 2 * j);
    if (form == INVAR_MASK_BOOL) return vf_select(vm_load_bytes(at), vf_zero(), vf_set1(-INFINITY));
    return form == INVAR_MASK_BF16 ? vf_load_bf16(at) : vf_load_f16(at);
}

/* A vector of pairs that position lets a row see. mask: the row's, at the tile's first key; hides takes in which are hidden. */
VEC_INLINE vjp_formed vjp_form_seen(const invar_attention_call *call, const invar_attention_mask_kind form, const vjp_shared *row,
                                    const float *score, const float *slope, const char *mask, int64_t j, vm *hides) {
    vf added = vf_zero();
    if (form != INVAR_MASK_NONE) {
        added = vjp_added(form, mask, j);
        *hides = vm_or(*hides, vf_eq(added, vf_set1(-INFINITY)));
    }
    return vjp_form(call, false, form != INVAR_MASK_NONE, VJP_OF_PAIR, row, vf_load(score + j), vf_load(slope + j), added);
}

/* Calls the part of a row of a mask that the next tile of keys reads, as many bytes as this one's. */
VEC_INLINE void vjp_call_mask(const char *row, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 64) vec_prefetch(row + bytes + i, false);
}

/* Rows r and r + 1, which see all keys by position, formed and narrowed in registers. mask: of row r. True when it hides a pair. */
VEC_INLINE bool vjp_form_rows_as(const invar_attention_call *call, const invar_attention_mask_kind form, const vjp_tile *x,
                                 const vjp_narrow *to, int64_t r, const char *mask) {
    const float *score = x->score + r * VJP_KEYS, *slope = x->slope + r * VJP_KEYS;
    const float *under = score + VJP_KEYS, *lower = slope + VJP_KEYS;
    float *p = to->p + r / 2 * VJP_KEYS, *ds = to->ds + r / 2 * VJP_KEYS, *ds_rows = to->ds_rows + r * VJP_KEYS / 2;
    const vjp_shared low = vjp_shared_of(call, x->rows + r), high = vjp_shared_of(call, x->rows + r + 1);
    const char *next = mask + call->mask.row_stride;
    vm hides = vm_not(vf_eq(vf_zero(), vf_zero()));
    if (form != INVAR_MASK_NONE) {
        vjp_call_mask(mask, x->keys * (form == INVAR_MASK_BOOL ? 1 : 2));
        vjp_call_mask(next, x->keys * (form == INVAR_MASK_BOOL ? 1 : 2));
    }
    for (int64_t j = 0, k = VW; j < x->keys; j += 2 * VW, k += 2 * VW) {
        const vjp_formed a = vjp_form_seen(call, form, &low, score, slope, mask, j, &hides);
        const vjp_formed c = vjp_form_seen(call, form, &high, under, lower, next, j, &hides);
        vf_store(p + j, vf_pairs(a.weight, c.weight));
        vf_store(ds + j, vf_pairs(a.gradient, c.gradient));
        const vjp_formed b = vjp_form_seen(call, form, &low, score, slope, mask, k, &hides);
        const vjp_formed d = vjp_form_seen(call, form, &high, under, lower, next, k, &hides);
        vf_store(p + k, vf_pairs(b.weight, d.weight));
        vf_store(ds + k, vf_pairs(b.gradient, d.gradient));
        vf_store(ds_rows + j / 2, vf_pairs_row(a.gradient, b.gradient));
        vf_store(ds_rows + VJP_KEYS / 2 + j / 2, vf_pairs_row(c.gradient, d.gradient));
    }
    return vm_any(hides);
}
static bool vjp_form_rows(const invar_attention_call *call, const invar_attention_mask_kind form, const vjp_tile *x,
                          const vjp_narrow *to, int64_t r, const char *mask) {
    switch (form) {
    case INVAR_MASK_BOOL: return vjp_form_rows_as(call, INVAR_MASK_BOOL, x, to, r, mask);
    case INVAR_MASK_BF16: return vjp_form_rows_as(call, INVAR_MASK_BF16, x, to, r, mask);
    case INVAR_MASK_F16: return vjp_form_rows_as(call, INVAR_MASK_F16, x, to, r, mask);
    default: return vjp_form_rows_as(call, INVAR_MASK_NONE, x, to, r, mask);
    }
}

/* vjp_weights, whose result is narrowed: the tiles of floats hold it only where position hides some pairs, masks cannot be read in
 * place, or logits are capped. */
static bool vjp_weights_as_pairs(const invar_attention_call *call, const vjp_tile *x, const vjp_narrow *to) {
    const invar_attention_mask_kind form = vjp_mask_form(call);
    const bool plain = call->softcap == 0 && (!call->mask.data || form != INVAR_MASK_NONE) && x->keys % (2 * VW) == 0;
    const char *mask = call->mask.data ? invar_attention_row(call, &call->mask, x->batch, x->head, x->query_first) : NULL;
    bool any = false;
    mask += x->key * call->mask.column_stride;
    for (int64_t r = x->row_first, count; r < x->row_last; r += count) {
        count = x->row_last - r < 2 ? 1 : 2;
        if (plain && count == 2 && vjp_sees_all(call, x, r) && vjp_sees_all(call, x, r + 1)) {
            any |= vjp_form_rows(call, form, x, to, r, mask + r * call->mask.row_stride);
            continue;
        }
        for (int64_t i = r; i < r + count; i++) any |= vjp_weights_of_row(call, VJP_OF_PAIR, x, i);
        vjp_narrow_rows(x, to, r, count);
    }
    return any;
}

#endif
#endif
