/* Folding blocks into a row's running state, in ascending order of keys, and finishing the row: sink, division, store.
 *
 * A state is (o, m, l): o and l relative to 2^m. l = 0 says that nothing was seen; a NaN among the weights makes l NaN. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FOLD_H
#define INVAR_CPU_KERNELS_ATTENTION_FOLD_H

#include "cpu/kernels/attention.h"
#include "cpu/kernels/attention_softmax.h"

typedef struct fold_state {
    const invar_attention_call *call;
    const invar_attention_work *work;
    int64_t width;         /* floats a row of out and part */
    char *first_out, *first_lse; /* out's and lse's row of the unit's row 0 */
    float *out, *m, *l;    /* the chunk's rows */
    float *part, *part_m, *part_l; /* a block's part of a tile's rows */
    float *shrink, *weight;        /* [TILE]: exp2(m - m'), exp2(m_block - m') */
    bool only;                     /* there is one block: its part is the state */
} fold_state;

static void fold_open(fold_state *f, const invar_attention_call *call, const invar_attention_work *work, float *out,
                      float *stats, float *part, int64_t width) {
    const int64_t rows = work->row_last - work->row_first;
    *f = (fold_state){ .call = call, .work = work, .width = width, .out = out, .part = part };
    if (call->out.data) f->first_out = invar_attention_row(call, &call->out, work->batch, work->kv_head * call->group, 0);
    if (call->lse.data) f->first_lse = invar_attention_row(call, &call->lse, work->batch, work->kv_head * call->group, 0);
    f->part_m = stats;
    f->part_l = stats + INVAR_ATTENTION_TILE;
    f->shrink = stats + 2 * INVAR_ATTENTION_TILE;
    f->weight = stats + 3 * INVAR_ATTENTION_TILE;
    f->m = stats + 8 * INVAR_ATTENTION_TILE;
    f->l = f->m + rows;
    for (int64_t r = 0; r < rows; r++) {
        f->m[r] = -INFINITY;
        f->l[r] = 0;
    }
    f->only = !work->parts && work->block_last - work->block_first == 1;
    if (!work->parts && !f->only) memset(out, 0, sizeof *out * (size_t)(rows * width));
}

/* A row's part of key block `block`: value_dim floats of o, then m and l. */
static float *fold_part(const fold_state *f, int64_t block, int64_t row) {
    return f->work->parts + (block - f->work->block_first) * f->work->part_stride + row * (f->call->value_dim + 2);
}

static void fold_nothing(const fold_state *f, int64_t block, int64_t row, int rows) {
    const int64_t n = f->call->value_dim;
    if (!f->work->parts) return;
    for (int r = 0; r < rows; r++) {
        float *part = fold_part(f, block, row + r);
        part[n] = -INFINITY;
        part[n + 1] = 0;
    }
}

/* o ← fma(part, weight, o · shrink) for n floats, which both have room for up to a multiple of VW when whole. */
VEC_INLINE void fold_row(float *o, const float *part, float shrink, float weight, int64_t n) {
    const vf a = vf_set1(shrink), b = vf_set1(weight);
    int64_t d = 0;
    for (; d + VW <= n; d += VW) vf_store(o + d, vf_fma(vf_load(part + d), b, vf_mul(vf_load(o + d), a)));
    if (d < n)
        vf_store_n(o + d, vf_fma(vf_load_n(part + d, (int)(n - d)), b, vf_mul(vf_load_n(o + d, (int)(n - d)), a)),
                   (int)(n - d));
}

/* The factors and the new m and l of VW rows. */
VEC_INLINE void fold_factors(vf *m, vf *l, vf part_m, vf part_l, vf *shrink, vf *weight) {
    const vf most = vf_max(part_m, *m);
    *shrink = vf_exp2(vf_sub(*m, most));
    *weight = vf_exp2(vf_sub(part_m, most));
    const vf total = vf_fma(part_l, *weight, vf_mul(*l, *shrink));
    const vm seen = vm_not(vf_eq(part_l, vf_zero()));
    *m = vf_select(seen, most, *m);
    *l = vf_select(seen, total, *l);
}

/* The tile's part into the chunk's state, or out as a part of its own. */
static void fold_tile(const fold_state *f, int64_t block, int64_t row, int rows) {
    const int64_t n = f->call->value_dim;
    if (f->work->parts) {
        for (int r = 0; r < rows; r++) {
            float *part = fold_part(f, block, row + r);
            memcpy(part, f->part + r * f->width, sizeof *part * (size_t)n);
            part[n] = f->part_m[r];
            part[n + 1] = f->part_l[r];
        }
        return;
    }
    if (f->only) {
        memcpy(f->m + row, f->part_m, sizeof *f->m * (size_t)rows);
        memcpy(f->l + row, f->part_l, sizeof *f->l * (size_t)rows);
        memcpy(f->out + row * f->width, f->part, sizeof *f->out * (size_t)(rows * f->width));
        return;
    }
    for (int r = 0; r < rows; r += VW) {
        const int count = rows - r < VW ? rows - r : VW;
        vf m = vf_load_n(f->m + row + r, count), l = vf_load_n(f->l + row + r, count), shrink, weight;
        fold_factors(&m, &l, vf_load_n(f->part_m + r, count), vf_load_n(f->part_l + r, count), &shrink, &weight);
        vf_store_n(f->m + row + r, m, count);
        vf_store_n(f->l + row + r, l, count);
        vf_store_n(f->shrink + r, shrink, count);
        vf_store_n(f->weight + r, weight, count);
    }
    for (int r = 0; r < rows; r++)
        if (f->part_l[r] != 0)
            fold_row(f->out + (row + r) * f->width, f->part + r * f->width, f->shrink[r], f->weight[r], f->width);
}

static void fold_one(const fold_state *f, float *o, float *m, float *l, const float *part) {
    const int64_t n = f->call->value_dim;
    if (part[n + 1] == 0) return;
    vf most = vf_set1(*m), total = vf_set1(*l), shrink, weight;
    fold_factors(&most, &total, vf_set1(part[n]), vf_set1(part[n + 1]), &shrink, &weight);
    vf_store_n(m, most, 1);
    vf_store_n(l, total, 1);
    float a, b;
    vf_store_n(&a, shrink, 1);
    vf_store_n(&b, weight, 1);
    fold_row(o, part, a, b, n);
}

#if defined(VEC_DIVIDES_SLOWLY) && defined(VEC_PAIRS)
/* o / l, given r = 1 / l, where neither remainder underflows: after the first correction the quotient is one of the two numbers
 * beside o / l, after the second the nearer one (Markstein, 1990). A division of 16 numbers takes 10 to 16 cycles. */
VEC_INLINE vf fold_quotient(vf o, vf l, vf r) {
    const vf q = vf_mul(o, r), nearer = vf_fma(vf_fnma(q, l, o), r, q);
    return vf_fma(vf_fnma(nearer, l, o), r, nearer);
}

/* Columns of bfloat16 rows, two vectors at a time, as long as every number is such that quotients by l are normal: 2⁻⁹⁰ to 2⁹⁰,
 * and l to 2³⁰. Returns how many. */
static int64_t store_pairs(const invar_attention_call *call, char *p, const float *o, float l) {
    const vf least = vf_set1(0x1p-90f), most = vf_set1(0x1p90f), divisor = vf_set1(l), r = vf_div(vf_set1(1), divisor);
    int64_t d = 0;
    if (call->type != INVAR_BF16 || call->out.column_stride != 2 || !(l >= 0.5f && l <= 0x1p30f)) return 0;
    for (; d + 2 * VW <= call->value_dim; d += 2 * VW) {
        const vf a = vf_load(o + d), b = vf_load(o + d + VW);
        const vf low = vf_min(vf_abs(a), vf_abs(b)), high = vf_max(vf_abs(a), vf_abs(b));
        if (!vm_all(vm_and(vf_le(least, low), vf_le(high, most)))) break;
        vf_store((float *)(void *)(p + 2 * d), vf_pairs_row(fold_quotient(a, divisor, r), fold_quotient(b, divisor, r)));
    }
    return d;
}
#else
static int64_t store_pairs(const invar_attention_call *call, char *p, const float *o, float l) {
    return (void)call, (void)p, (void)o, (void)l, 0;
}
#endif

/* One row of out: VW floats at a time where its elements are contiguous. */
static void store_row(const invar_attention_call *call, char *p, const float *o, float l) {
    const vf divisor = vf_set1(l);
    const int64_t step = call->out.column_stride, item = (int64_t)invar_float_size(call->type);
    for (int64_t d = store_pairs(call, p, o, l); d < call->value_dim; d += VW) {
        const int count = call->value_dim - d < VW ? (int)(call->value_dim - d) : VW;
        const vf y = l == 0 ? vf_zero() : vf_add(vf_div(vf_load_n(o + d, count), divisor), vf_zero());
        void *to = p + d * step;
        if (step == item && call->type == INVAR_F32) vf_store_n(to, y, count);
        else if (step == item && call->type == INVAR_F16) count == VW ? vf_store_f16(to, y) : vf_store_f16_n(to, y, count);
        else if (step == item) count == VW ? vf_store_bf16(to, y) : vf_store_bf16_n(to, y, count);
        else {
            float lane[VW];
            vf_store(lane, y);
            for (int i = 0; i < count; i++) invar_store_float(p + (d + i) * step, call->type, lane[i]);
        }
    }
}

/* A sink's logit joins as a block of one key without a value. */
static void join_sink(float sink, float *o, float *m, float *l, int64_t n) {
    vf most = vf_set1(*m), total = vf_set1(*l), shrink, weight;
    const vf logit = vf_mul(vf_set1(sink), vf_set1((float)INVAR_LOG2E));
    fold_factors(&most, &total, logit, vf_set1(1), &shrink, &weight);
    vf_store_n(m, most, 1);
    vf_store_n(l, total, 1);
    float a;
    vf_store_n(&a, shrink, 1);
    for (int64_t d = 0; d < n; d++) o[d] *= a;
}

static void finish_row(const fold_state *f, int64_t row) {
    const invar_attention_call *call = f->call;
    const int64_t r = f->work->row_first + row;
    float *o = f->out + row * f->width, sink = -INFINITY;
    if (call->sinks.data) {
        const int64_t head = f->work->kv_head * call->group + r % call->group;
        sink = (float)invar_load_float(call->sinks.data + head * call->sinks.head_stride, call->sinks.type);
    }
    const bool seen = f->l[row] != 0;
    if (seen && sink != -INFINITY) join_sink(sink, o, &f->m[row], &f->l[row], call->value_dim);
    if (call->out.data) store_row(call, invar_attention_unit_row(call, &call->out, f->first_out, r), o, f->l[row]);
    if (!call->lse.data) return; /* a logarithm in double takes as long as storing the row */
    const float lse = seen ? softmax_lse(f->m[row], f->l[row]) : sink;
    memcpy(invar_attention_unit_row(call, &call->lse, f->first_lse, r), &lse, sizeof lse);
}

static void fold_finish(const fold_state *f, int64_t rows) {
    for (int64_t r = 0; r < rows; r++) finish_row(f, r);
}

/* Folds the parts of every row in order, after earlier ones where the work resumes, and finishes or keeps the state. */
static void fold_merge(const fold_state *f, int64_t rows) {
    const invar_attention_work *work = f->work;
    const int64_t n = f->call->value_dim;
    for (int64_t r = 0; r < rows; r++) {
        float *o = f->out + r * f->width, *state = work->state + r * (n + 2);
        memset(o, 0, sizeof *o * (size_t)f->width);
        if (work->resume) {
            memcpy(o, state, sizeof *o * (size_t)n);
            f->m[r] = state[n];
            f->l[r] = state[n + 1];
        }
        for (int64_t block = work->block_first; block < work->block_last; block++)
            fold_one(f, o, &f->m[r], &f->l[r], fold_part(f, block, r));
        if (work->stage == INVAR_ATTENTION_MERGE_LAST) {
            finish_row(f, r);
            continue;
        }
        memcpy(state, o, sizeof *o * (size_t)n);
        state[n] = f->m[r];
        state[n + 1] = f->l[r];
    }
}

#endif
