/* The two products of few query rows, on K and V as they stand in memory.
 *
 * S: a square of VW keys × VW elements of K is loaded by rows, transposed in registers, and every one of its columns is a
 * multiply-add for each row: a square of 16 × 16 (1 KB) is 32 loads, 48 shuffles and 16 M multiply-adds with a broadcast from
 * memory. Four rows have four chains of 16, 64 cycles at a latency of 4; the next square is loaded and transposed meanwhile.
 * Numbers of 16 bits are transposed before they are widened.
 *
 * O: a key's row of V, N vectors of it, times M broadcast weights: N loads, M broadcasts, M N multiply-adds. The half types
 * are widened, and pairs of keys formed, as they are loaded: every element once, for all rows.
 *
 * M is 1, 2 or 4, and more rows come in groups of 4; three rows are four with one of zeros. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_PRODUCTS_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_PRODUCTS_H

#include "cpu/kernels/attention_few_walk.h"

/* Vectors of V's columns that go together; and calls a square, one for every 256 bytes of float32. */
#if VEC_REGISTERS == 32
enum { FEW_VECTORS = 4 };
#else
enum { FEW_VECTORS = 2 };
#endif
enum { FEW_CALLS = VW == 16 ? 4 : 1 };
enum { FEW_KEYS = 32, FEW_BEAT = 2 }; /* elements of keys that V is summed over at a time, and from one call to the next */

/* Rows that go together, of those that are left. */
static inline int few_group(int left) { return left > 2 ? 4 : left; }

#define FEW_IN_ROWS(DO, g)              \
    do {                                \
        DO(0, g);                       \
        if (M > 1) DO(1, g);            \
        if (M > 2) {                    \
            DO(2, g);                   \
            DO(3, g);                   \
        }                               \
    } while (0)
#define FEW_ZERO(m, g) sum[m][g] = vf_zero()
#define FEW_SCORE(m, g) (scores + (m) * s->call->key_block + (g) * VW)
#define FEW_STORE(m, g) vf_store(FEW_SCORE(m, g), sum[m][g])
#define FEW_JOIN(m, g) vf_store(FEW_SCORE(m, g), vf_add(vf_load(FEW_SCORE(m, g)), sum[m][g]))
#define FEW_REST(m, g) sum[m][g] = element_step(vf_set1(q[(d + i) * M + (m)]), column, sum[m][g])
#define FEW_STEP(m, g) sum[m][g] = element_step(vf_broadcast(q + (d + i) * M + (m)), r[i], sum[m][g])
/* A share of a square's columns, and of the calls. */
#define FEW_SHARE(n)                                                                            \
    do {                                                                                        \
        if ((n) >= FEW_CALLS) break;                                                            \
        if ((n) % 2 == 0) walk_on(walk, pace);                                                  \
        else walk_in_row(walk, pace);                                                           \
        _Pragma("GCC unroll 16") for (int i = (n) * VW / FEW_CALLS; i < ((n) + 1) * VW / FEW_CALLS; i++) \
            FEW_IN_ROWS(FEW_STEP, 0);                                                           \
    } while (0)

/* VW rows of `columns` elements from `from` on, transposed. */
VEC_INLINE void few_square(const invar_float_type type, vf r[VW], const pack_source *k, const char *from, int columns) {
    if (columns == VW) {
        if (type == INVAR_F16) vf_load_square_f16(r, from, k->row_stride);
        else if (type == INVAR_BF16) vf_load_square_bf16(r, from, k->row_stride);
        else vf_load_square(r, from, k->row_stride);
        return;
    }
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) r[i] = pack_load(type, true, from + i * k->row_stride, k->column_stride, columns);
    vf_transpose(r);
}

/* Scores of M rows for VW keys. */
VEC_INLINE void few_score_tile(const invar_float_type type, const int M, const kernel_state *s, const pack_source *k,
                               int64_t key, const float *q, float *scores, few_walk *walk, int64_t pace) {
    vf sum[4][1], r[VW];
    const char *from = k->data + key * k->row_stride;
    int64_t d = 0, next;
    do {
        const bool first = d == 0;
        next = d + s->link < s->depth ? d + s->link : s->depth;
        FEW_IN_ROWS(FEW_ZERO, 0);
        for (; d + VW <= next; d += VW) {
            few_square(type, r, k, from + d * k->column_stride, VW);
            FEW_SHARE(0);
            FEW_SHARE(1);
            FEW_SHARE(2);
            FEW_SHARE(3);
        }
        if (d < next) {
            vf rest[VW];
            few_square(type, r, k, from + d * k->column_stride, (int)(next - d));
            memcpy(rest, r, sizeof rest);
            for (int i = 0; i < next - d; i++) {
                const vf column = rest[i];
                FEW_IN_ROWS(FEW_REST, 0);
            }
        }
        if (first) FEW_IN_ROWS(FEW_STORE, 0);
        else FEW_IN_ROWS(FEW_JOIN, 0);
        d = next;
    } while (d < s->depth);
}

/* Scores of M rows for keys first … last-1, whole groups of VW, of the block that starts at `start`. */
VEC_INLINE void few_score_rows(const invar_float_type type, const int M, const kernel_state *s, const pack_source *k,
                               int64_t start, int first, int last, int row, few_walk *walk, int64_t pace) {
    const float *q = s->queries + row * s->depth;
    float *scores = s->scores + row * s->call->key_block;
    for (int j = first; j < last; j += VW) few_score_tile(type, M, s, k, start + j, q, scores + j, walk, pace);
}

/* The same for any type and `rows` rows. */
static void few_score_groups(const kernel_state *s, const pack_source *k, int64_t start, int first, int last, int rows,
                             few_walk *walk, int64_t pace) {
    for (int r = 0; r < rows; r += 4, pace = 0) {
#define FEW_CASE(type, M)                                                                            \
    case 8 * (type) + (M): few_score_rows(type, M, s, k, start, first, last, r, walk, pace); break
#define FEW_TYPE(type) FEW_CASE(type, 1); FEW_CASE(type, 2); FEW_CASE(type, 4)
        switch (8 * (int)k->type + few_group(rows - r)) {
            FEW_TYPE(INVAR_F32);
#if !defined(ATTENTION_PAIRS)
            FEW_TYPE(INVAR_F16);
            FEW_TYPE(INVAR_BF16);
#endif
        }
#undef FEW_TYPE
#undef FEW_CASE
    }
}

/* Scores of all rows for keys first … last-1 of the block; the keys that fill no vector are packed beside zeros. */
static void few_score(const kernel_state *s, const pack_source *k, int64_t start, int first, int last, int rows,
                      few_walk *walk) {
    const int64_t stride = pack_width(s->depth), squares = stride > VW ? stride / VW : 1;
    const int whole = last / VW * VW;
    const int64_t pace = WALK_PARTS * VW / (FEW_CALLS * squares) * (WALK_IDLE - 1) / WALK_IDLE;
    few_score_groups(s, k, start, first, whole, rows, walk, pace);
    if (whole == last) return;
    float *rest = s->query_rows;
    memset(rest, 0, sizeof *rest * (size_t)(VW * stride));
    element_pack_rows(rest, stride, &s->k, start + whole, start + last, s->call->key_dim);
    const pack_source packed = { .data = (const char *)(rest - (start + whole) * stride), .type = INVAR_F32,
                                 .row_stride = stride * 4, .column_stride = 4 };
    few_score_groups(s, &packed, start, whole, whole + VW, rows, walk, 0);
}

/* How V's rows are read: as elements that stand in memory, widened, or two rows as one of pairs. */
typedef enum few_form { FEW_ELEMENTS, FEW_F16, FEW_BF16, FEW_PAIRS } few_form;

typedef struct few_values {
    few_form form;
    const char *data; /* row 0: the block's first element of keys */
    int64_t stride;   /* from one element of keys to the next, in bytes */
    int64_t half;     /* pairs: from the lower key to the higher one */
} few_values;

/* N vectors of a row, 1 or FEW_VECTORS; several of pairs in the order of vf_pairs_load_mixed. */
VEC_INLINE void few_load(const few_form form, const int N, vf row[4], const char *p, int64_t half) {
    const uint16_t *h = (const uint16_t *)(const void *)p;
#if defined(ATTENTION_PAIRS)
    if (form == FEW_PAIRS && N > 1) {
#pragma GCC unroll 2
        for (int n = 0; n < N; n += 2) vf_pairs_load_mixed(h + n * VW, h + half / 2 + n * VW, &row[n], &row[n + 1]);
        return;
    }
#endif
#pragma GCC unroll 4
    for (int n = 0; n < N; n++) {
        if (form == FEW_ELEMENTS) row[n] = vf_load((const float *)(const void *)p + n * VW);
        if (form == FEW_F16) row[n] = vf_load_f16(h + n * VW);
        if (form == FEW_BF16) row[n] = vf_load_bf16(h + n * VW);
#if defined(ATTENTION_PAIRS)
        if (form == FEW_PAIRS) row[n] = vf_pairs_load(h + n * VW, h + half / 2 + n * VW);
#endif
    }
    (void)half;
}

#define FEW_IN_TILE(DO)                                           \
    do {                                                          \
        FEW_IN_ROWS(DO, 0);                                       \
        if (N > 1) FEW_IN_ROWS(DO, 1);                            \
        if (N > 2) FEW_IN_ROWS(DO, 2);                            \
        if (N > 3) FEW_IN_ROWS(DO, 3);                            \
    } while (0)
#define FEW_OUT(m, n) (o + (m) * s->width + (n) * VW)
#define FEW_LINK(m, n) (FEW_OUT(m, n) + INVAR_ATTENTION_FEW * s->width) /* the part holds as many rows again */
#define FEW_RESUME(m, n) sum[m][n] = vf_load(FEW_LINK(m, n))
#define FEW_KEEP(m, n) vf_store(FEW_LINK(m, n), sum[m][n])
#define FEW_OUT_STORE(m, n) vf_store(FEW_OUT(m, n), sum[m][n])
#define FEW_OUT_JOIN(m, n) vf_store(FEW_OUT(m, n), vf_add(vf_load(FEW_OUT(m, n)), sum[m][n]))
#if defined(ATTENTION_PAIRS)
#define FEW_ORDER(m, n)                                                             \
    do {                                                                            \
        if ((n) % 2 == 0) vf_pairs_order(&sum[m][n], &sum[m][(n) | 1]);             \
    } while (0)
#else
#define FEW_ORDER(m, n) (void)0
#endif
#define FEW_ADD(m, n) sum[m][n] = element_step(weight[m], row[n], sum[m][n])
#define FEW_WEIGHT(m, n) weight[m] = vf_broadcast(p + (m) * s->call->key_block + j)

/* Elements of keys that are summed over at a time, of one link: do they begin it, end it, is it the first? */
typedef struct few_piece {
    int64_t first, last;
    bool begins, ends, alone;
} few_piece;

/* O of M rows and N vectors of columns over some keys. */
VEC_INLINE void few_sum_tile(const few_form form, const int M, const int N, const kernel_state *s, const few_values *v,
                             int64_t column, const few_piece *keys, const float *p, float *o,
                             few_walk *walk, int64_t pace) {
    vf sum[4][4], row[4], weight[4];
    const int64_t number = form == FEW_ELEMENTS ? 4 : 2;
    const char *at = v->data + keys->first * v->stride + column * number;
    if (keys->begins) FEW_IN_TILE(FEW_ZERO);
    else FEW_IN_TILE(FEW_RESUME);
    for (int64_t j = keys->first; j < keys->last; j++, at += v->stride) {
        if (j % FEW_BEAT == 0) walk_on(walk, pace);
        few_load(form, N, row, at, v->half);
        FEW_IN_ROWS(FEW_WEIGHT, 0);
        FEW_IN_TILE(FEW_ADD);
    }
    if (form == FEW_PAIRS && N > 1 && keys->ends) FEW_IN_TILE(FEW_ORDER);
    if (!keys->ends) FEW_IN_TILE(FEW_KEEP);
    else if (keys->alone) FEW_IN_TILE(FEW_OUT_STORE);
    else FEW_IN_TILE(FEW_OUT_JOIN);
}

VEC_INLINE void few_sum_rows(const few_form form, const int M, const kernel_state *s, const few_values *v, int64_t first,
                             int64_t last, const float *p, float *o, few_walk *walk, int64_t pace) {
    for (int64_t j = first, next; j < last; j = next) {
        next = (j / FEW_KEYS + 1) * FEW_KEYS < last ? (j / FEW_KEYS + 1) * FEW_KEYS : last;
        const few_piece keys = { j, next, j == first || j % KEY_LINK == 0, next == last || next % KEY_LINK == 0,
                                j / KEY_LINK == first / KEY_LINK };
        int64_t c = 0;
        for (; c + FEW_VECTORS * VW <= s->width; c += FEW_VECTORS * VW)
            few_sum_tile(form, M, FEW_VECTORS, s, v, c, &keys, p, o + c, walk, pace);
        for (; c < s->width; c += VW) few_sum_tile(form, M, 1, s, v, c, &keys, p, o + c, walk, pace);
    }
}

/* O of all rows. */
static void few_sum(const kernel_state *s, const few_values *v, int64_t first, int64_t last, int rows, few_walk *walk) {
    const int64_t vectors = s->width / VW, tiles = vectors > 1 ? vectors / FEW_VECTORS + vectors % FEW_VECTORS : 1;
    int64_t pace = WALK_PARTS * FEW_BEAT * NUMBERS / tiles * (WALK_IDLE - 1) / WALK_IDLE;
    for (int r = 0; r < rows; r += 4, pace = 0) {
        const float *p = s->scores + r * s->call->key_block;
        float *o = s->fold.part + r * s->width;
#define FEW_CASE(form, M) case 8 * (form) + (M): few_sum_rows(form, M, s, v, first, last, p, o, walk, pace); break
#define FEW_FORM(form) FEW_CASE(form, 1); FEW_CASE(form, 2); FEW_CASE(form, 4)
        switch (8 * (int)v->form + few_group(rows - r)) {
            FEW_FORM(FEW_ELEMENTS);
#if defined(ATTENTION_PAIRS)
            FEW_FORM(FEW_PAIRS);
#else
            FEW_FORM(FEW_F16);
            FEW_FORM(FEW_BF16);
#endif
        }
#undef FEW_FORM
#undef FEW_CASE
    }
}

#endif
