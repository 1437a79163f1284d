/* Folding blocks into a row's running state, in ascending order of keys, and finishing the row: sink, division, store.
 *
 * A state is (o, m, l): o and l relative to 2^m. l = 0 says that nothing was seen; a NaN among the weights makes l NaN. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FOLD_H
#define INVAR_CPU_KERNELS_ATTENTION_FOLD_H

#include "cpu/kernels/attention.h"
#include "cpu/kernels/attention_softmax.h"
#include "cpu/vec/typed.h"

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
    /* whole vectors of rows, where a vector holds rows */
    const int64_t kept = work->heads == 1 && rows <= INVAR_ATTENTION_FEW ? rows : invar_attention_lines(rows);
    if (!work->parts && !f->only) memset(out, 0, sizeof *out * (size_t)(kept * width));
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

/* o ← fma(part, weight, o · shrink) for n floats. */
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

#if defined(VEC_DIVIDES_SLOWLY)
/* o / l, given r = 1 / l, where neither remainder underflows: after the first correction the quotient is one of the two numbers
 * beside o / l, after the second the nearer one (Markstein, 1990). A division of 16 numbers takes 10 to 16 cycles. */
VEC_INLINE vf fold_quotient(vf o, vf l, vf r) {
    const vf q = vf_mul(o, r), nearer = vf_fma(vf_fnma(q, l, o), r, q);
    return vf_fma(vf_fnma(nearer, l, o), r, nearer);
}

/* That holds, and quotients are normal, for |o| from 2⁻⁹⁰ to 2⁹⁰ and l from ½ to 2³⁰. */
VEC_INLINE bool fold_is_plain(vf least, vf most) {
    return vm_all(vm_and(vf_le(vf_set1(0x1p-90f), least), vf_le(most, vf_set1(0x1p90f))));
}
#endif

#if defined(VEC_DIVIDES_SLOWLY) && defined(VEC_PAIRS)
/* Columns of bfloat16 rows, two vectors at a time, as long as no quotient by l needs a division. Returns how many. Not inlined,
 * so that the loop has its registers. */
static __attribute__((noinline)) int64_t store_pairs(const invar_attention_call *call, char *p, const float *o, float l) {
    const vf divisor = vf_set1(l), r = vf_div(vf_set1(1), divisor);
    int64_t d = 0;
    if (call->type != INVAR_BF16 || call->out.column_stride != 2 || !(l >= 0.5f && l <= 0x1p30f)) return 0;
    for (; d + 2 * VW <= call->value_dim; d += 2 * VW) {
        const vf a = vf_load(o + d), b = vf_load(o + d + VW);
        if (!fold_is_plain(vf_min(vf_abs(a), vf_abs(b)), vf_max(vf_abs(a), vf_abs(b)))) break;
        vf_store((float *)(void *)(p + 2 * d), vf_pairs_row(fold_quotient(a, divisor, r), fold_quotient(b, divisor, r)));
    }
    return d;
}
#else
static int64_t store_pairs(const invar_attention_call *call, char *p, const float *o, float l) {
    return (void)call, (void)p, (void)o, (void)l, 0;
}
#endif

VEC_INLINE void store_contiguous(const invar_float_type type, char *to, const float *y, int64_t n) {
    const int64_t size = type == INVAR_F32 ? 4 : 2;
    int64_t d = 0;
    for (; d + VW <= n; d += VW) vf_store_as(type, to + d * size, vf_load(y + d));
    if (d < n) vf_store_as_n(type, to + d * size, vf_load_n(y + d, (int)(n - d)), (int)(n - d));
}

/* Elements first … of a row of out, from y[first …]. */
static void store_row(const invar_attention_call *call, char *row, const float *y, int64_t first) {
    const int64_t step = call->out.column_stride, n = call->value_dim - first;
    char *to = row + first * step;
    y += first;
    if (step != (int64_t)invar_float_size(call->type))
        for (int64_t d = 0; d < n; d++) invar_store_float(to + d * step, call->type, y[d]);
    else if (call->type == INVAR_F32) memcpy(to, y, sizeof *y * (size_t)n);
    else if (call->type == INVAR_F16) store_contiguous(INVAR_F16, to, y, n);
    else store_contiguous(INVAR_BF16, to, y, n);
}

/* A sink's logit joins as a block of one key without a value. Returns what the row's sums are to be multiplied by. */
static float join_sink(float sink, float *m, float *l) {
    vf most = vf_set1(*m), total = vf_set1(*l), shrink, weight;
    const vf logit = vf_mul(vf_set1(sink), vf_set1((float)INVAR_LOG2E));
    fold_factors(&most, &total, logit, vf_set1(1), &shrink, &weight);
    vf_store_n(m, most, 1);
    vf_store_n(l, total, 1);
    float a;
    vf_store_n(&a, shrink, 1);
    return a;
}

/* A row's m and l at last, and its lse. Returns what its sums are still to be multiplied by. */
static float finish_state(const fold_state *f, int64_t row) {
    const invar_attention_call *call = f->call;
    const int64_t r = f->work->row_first + row;
    float sink = -INFINITY, shrink = 1;
    if (call->sinks.data) {
        const int64_t head = f->work->kv_head * call->group + r % call->group;
        sink = (float)invar_load_float(call->sinks.data + head * call->sinks.head_stride, call->sinks.type);
    }
    const bool seen = f->l[row] != 0;
    if (seen && sink != -INFINITY) shrink = join_sink(sink, &f->m[row], &f->l[row]);
    if (!call->lse.data) return shrink; /* a logarithm in double takes as long as storing the row */
    const float lse = seen ? softmax_lse(f->m[row], f->l[row]) : sink;
    memcpy(invar_attention_unit_row(call, &call->lse, f->first_lse, r), &lse, sizeof lse);
    return shrink;
}

/* Row `row` of the chunk; its sums become quotients. */
static void finish_row(const fold_state *f, int64_t row) {
    const invar_attention_call *call = f->call;
    float *o = f->out + row * f->width;
    const float shrink = finish_state(f, row), l = f->l[row];
    for (int64_t d = 0; shrink != 1 && d < call->value_dim; d++) o[d] *= shrink;
    if (!call->out.data) return;
    char *to = invar_attention_unit_row(call, &call->out, f->first_out, f->work->row_first + row);
    const int64_t stored = store_pairs(call, to, o, l);
    for (int64_t d = stored; d < call->value_dim; d += VW)
        vf_store(o + d, l == 0 ? vf_zero() : vf_add(vf_div(vf_load(o + d), vf_set1(l)), vf_zero()));
    store_row(call, to, o, stored);
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
