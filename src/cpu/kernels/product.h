/* C = A · B on register tiles: the product under attention.
 *
 *   c[m][n] starts at +0 or, with resume, where it stands; then one chain c[m][n] ← fma(a[m][k], b[k][n], c[m][n])
 *   over ascending k. With `join` that chain, from +0, is added to what stands there. With `link` the chain is cut into links
 *   of so many elements, counted from element 0 of what A and B are parts of: each link is a chain from +0, and links are added
 *   up in ascending order
 *
 * n runs along the lanes of a vector, so that a chain never leaves its lane and the bits are the same for every tile
 * and vector width. a[m][k] is read at a + m·a_row + k·a_step, one element at a time, and broadcast: A may stand
 * transposed. Rows of B and C are contiguous; `columns` is a multiple of VW.
 *
 * A tile is M rows × N vectors of accumulators: 24 of them where there are 32 registers (6×4, 8×3, 12×2), 12 where
 * there are 16 (4×3, 6×2), which leaves room for N vectors of B and a broadcast without a spill. One step of k in a 6×4
 * tile is 4 loads, 6 broadcasts and 24 FMAs: bound by the FMAs, in 24 cycles at one 512-bit FMA a cycle, 12 at two. The
 * latency of an FMA, 4 cycles, wants 4 to 8 chains in flight; there are 24.
 *
 * Links make a sum more accurate: a step rounds at the size of what its chain has summed so far, so that n links have about
 * the chain's error divided by sqrt(n). They are added up in C: 24 additions, which Zen 4 has other units for, and 24
 * stores of two cycles each.
 *
 * Stores are hidden while they come a few at a time. Zen 4 does a dozen of 64 bytes beside FMAs; each one more, right behind
 * those, keeps the next tile's FMAs waiting for 2½ cycles, 30 cycles for 24 of them (95 where another thread shares the core).
 * So the last steps of a link are done by two rows of a tile after the other, and each two are stored while the next ones' FMAs
 * go on: 4 cycles are lost. The price is a load of B for each two rows in those steps, which there is room for. Cores of two
 * FMAs a cycle have none: eight chains of latency 4 leave no cycle to wait in, and a link's end took 20 to 30 cycles more. So
 * they store `at_once`, as do all products of a build for AMX, where cores have two.
 *
 * With pairs, an element of A and of B is two bfloat16 numbers and a step adds both products: half the steps for the same
 * depth (vec/pairs.h).
 *
 * The accumulators are named by constant subscripts only, spelt out by macros: gcc 12 and clang 14 keep an array in
 * registers when that holds, and not when a loop has to be unrolled first. */
#ifndef INVAR_CPU_KERNELS_PRODUCT_H
#define INVAR_CPU_KERNELS_PRODUCT_H

#include "cpu/vec/vec.h"

/* Accumulators of a tile, the widest tile in vectors, and steps at the end of a link that rows do apart. */
#if VEC_REGISTERS == 32
enum { PRODUCT_ACCUMULATORS = 24, PRODUCT_WIDEST = 4 };
#else
enum { PRODUCT_ACCUMULATORS = 12, PRODUCT_WIDEST = 3 };
#endif
#if VEC_REGISTERS == 32 && !defined(VEC_TILES)
enum { PRODUCT_LATE = 4 };
#else
enum { PRODUCT_LATE = 0 };
#endif

typedef struct product {
    int64_t rows, columns, depth;
    const float *a;
    int64_t a_row, a_step;
    const float *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool resume, join; /* join: not on tiles */
    bool at_once;  /* a tile is stored at its end: its last rows do not hide the stores of others; changes no bit */
    float *most;   /* NULL, as it must be on tiles, or each column's largest C so far, which takes in these; a NaN does not enter */
    int64_t link;  /* 0, as it must be with resume or join: one chain */
    int64_t start; /* the number of k = 0 among the elements that A and B are parts of, where links and tiles' groups begin */
} product;

/* Steps in which vectors first … last-1 of B's columns take part, where the others are 0: first is 0, or last the number of all. */
typedef struct product_stair {
    int64_t steps;
    int first, last;
} product_stair;

#define PRODUCT_IN_ROW(DO, m)   \
    do {                        \
        DO(m, 0);               \
        if (N > 1) DO(m, 1);    \
        if (N > 2) DO(m, 2);    \
        if (N > 3) DO(m, 3);    \
    } while (0)
#define PRODUCT_IN_TILE(DO)                 \
    do {                                    \
        PRODUCT_IN_ROW(DO, 0);              \
        if (M > 1) PRODUCT_IN_ROW(DO, 1);   \
        if (M > 2) PRODUCT_IN_ROW(DO, 2);   \
        if (M > 3) PRODUCT_IN_ROW(DO, 3);   \
        if (M > 4) PRODUCT_IN_ROW(DO, 4);   \
        if (M > 5) PRODUCT_IN_ROW(DO, 5);   \
        if (M > 6) PRODUCT_IN_ROW(DO, 6);   \
        if (M > 7) PRODUCT_IN_ROW(DO, 7);   \
        if (M > 8) PRODUCT_IN_ROW(DO, 8);   \
        if (M > 9) PRODUCT_IN_ROW(DO, 9);   \
        if (M > 10) PRODUCT_IN_ROW(DO, 10); \
        if (M > 11) PRODUCT_IN_ROW(DO, 11); \
    } while (0)
#define PRODUCT_ZERO(m, n) sum[m][n] = vf_zero()
/* A running pointer: as far as the compiler knows, a store may change what x says. */
#define PRODUCT_ROW_OF_C(m, n) row_of_c = (n) > 0 ? row_of_c : (m) % G ? row_of_c + x->c_row : c + (m) * x->c_row
#define PRODUCT_LOAD(m, n) PRODUCT_ROW_OF_C(m, n), sum[m][n] = vf_load(row_of_c + (n) * VW)
#define PRODUCT_STORE(m, n) PRODUCT_ROW_OF_C(m, n), vf_store(row_of_c + (n) * VW, sum[m][n])
#define PRODUCT_TOTAL(m, n) PRODUCT_ROW_OF_C(m, n), sum[m][n] = vf_add(vf_load(row_of_c + (n) * VW), sum[m][n])
#define PRODUCT_LOAD_MOST(m, n) most[n] = vf_load(x->most + n0 + (n) * VW)
#define PRODUCT_MOST(m, n) most[n] = vf_max(sum[m][n], most[n])
#define PRODUCT_STORE_MOST(m, n) vf_store(x->most + n0 + (n) * VW, most[n])
#if defined(VEC_PAIRS)
#define PRODUCT_ADD(a, b, c) (pairs ? vf_dot_pairs(a, b, c) : vf_fma(a, b, c))
#else
#define PRODUCT_ADD(a, b, c) ((void)pairs, vf_fma(a, b, c))
#endif
#define PRODUCT_READ(p, n) row[n] = vf_load((p) + (n) * VW)
#define PRODUCT_STEP(m, n)                                       \
    do {                                                         \
        if ((n) == 0) element = vf_set1(a[(m) * a_row]);         \
        sum[m][n] = PRODUCT_ADD(element, row[n], sum[m][n]);     \
    } while (0)

/* The first element behind the link that holds this one. */
static inline int64_t product_link_end(int64_t link, int64_t element) { return (element / link + 1) * link; }

/* The last steps of a link, where it has as many, and what becomes of it, for rows m … m+G-1. */
#define PRODUCT_IN_GROUP(DO, m)                                \
    do {                                                       \
        PRODUCT_IN_ROW(DO, m);                                 \
        if ((m) + 1 < M) PRODUCT_IN_ROW(DO, (m) + 1);          \
        if (G > 2 && (m) + 2 < M) PRODUCT_IN_ROW(DO, (m) + 2); \
        if (G > 3 && (m) + 3 < M) PRODUCT_IN_ROW(DO, (m) + 3); \
    } while (0)
#define PRODUCT_LATE_STEP(m)                    \
    do {                                        \
        PRODUCT_IN_ROW(PRODUCT_READ, b);        \
        PRODUCT_IN_GROUP(PRODUCT_STEP, m);      \
        a += a_step;                            \
        b += b_row;                             \
    } while (0)
_Static_assert(PRODUCT_LATE == 0 || PRODUCT_LATE == 4, "as many late steps as are written out here");
#define PRODUCT_LATE_END(m)                                              \
    do {                                                                 \
        PRODUCT_LATE_STEP(m);                                            \
        PRODUCT_LATE_STEP(m);                                            \
        PRODUCT_LATE_STEP(m);                                            \
        PRODUCT_LATE_STEP(m);                                            \
        if ((m) + G < M) a -= late * a_step, b -= late * b_row;          \
        if (!first) PRODUCT_IN_GROUP(PRODUCT_TOTAL, m);                  \
        PRODUCT_IN_GROUP(PRODUCT_STORE, m);                              \
        if (most_too && (m) == 0) PRODUCT_IN_ROW(PRODUCT_LOAD_MOST, m);  \
        if (most_too) PRODUCT_IN_GROUP(PRODUCT_MOST, m);                 \
    } while (0)

/* The tile at row m0 and column n0; link: elements of the first link. M <= 12 and N <= 4 are compile-time constants. */
VEC_INLINE void product_tile(const int M, const bool pairs, const bool hide, const int N, const product *x, int64_t link,
                             int64_t m0, int64_t n0) {
    /* Rows that go together: 8 chains, as two units with a latency of 4 want, or 12; 4 where N = 1. All where none is hidden. */
    const int G = !hide ? 12 : N > 3 ? 2 : 4;
    vf sum[12][4], row[4], most[4], element;
    const float *a = x->a + m0 * x->a_row, *b = x->b + n0;
    float *const c = x->c + m0 * x->c_row + n0, *row_of_c = c;
    const int64_t a_row = x->a_row, a_step = x->a_step, b_row = x->b_row;
    if (x->resume) PRODUCT_IN_TILE(PRODUCT_LOAD);
    else PRODUCT_IN_TILE(PRODUCT_ZERO);
    for (int64_t left = x->depth;; link = x->link) {
        const bool first = left == x->depth && !x->join;
        left -= link;
        const int64_t steps = left < 0 ? link + left : link, late = hide && steps >= PRODUCT_LATE ? PRODUCT_LATE : 0;
        for (int64_t k = steps - late; k > 0; k--, a += a_step, b += b_row) {
            PRODUCT_IN_ROW(PRODUCT_READ, b);
            PRODUCT_IN_TILE(PRODUCT_STEP);
        }
        const bool most_too = left <= 0 && x->most;
        if (late) {
            PRODUCT_LATE_END(0);
            if (M > G) PRODUCT_LATE_END(G);
            if (M > 2 * G) PRODUCT_LATE_END(2 * G);
            if (M > 3 * G) PRODUCT_LATE_END(3 * G);
        } else {
            if (!first) PRODUCT_IN_TILE(PRODUCT_TOTAL);
            PRODUCT_IN_TILE(PRODUCT_STORE);
            if (most_too) PRODUCT_IN_ROW(PRODUCT_LOAD_MOST, 0);
            if (most_too) PRODUCT_IN_TILE(PRODUCT_MOST);
        }
        if (most_too) PRODUCT_IN_ROW(PRODUCT_STORE_MOST, 0);
        if (left <= 0) return;
        PRODUCT_IN_TILE(PRODUCT_ZERO);
    }
}

/* tile(left, …) for up to six rows that are left and fewer than M; 0: nothing. */
#define PRODUCT_CASE(rows, tile, ...) case rows: if (M > rows) tile(rows, __VA_ARGS__); break
#define PRODUCT_REST(left, tile, ...)           \
    do {                                        \
        switch (left) {                         \
            PRODUCT_CASE(1, tile, __VA_ARGS__); \
            PRODUCT_CASE(2, tile, __VA_ARGS__); \
            PRODUCT_CASE(3, tile, __VA_ARGS__); \
            PRODUCT_CASE(4, tile, __VA_ARGS__); \
            PRODUCT_CASE(5, tile, __VA_ARGS__); \
            PRODUCT_CASE(6, tile, __VA_ARGS__); \
        }                                       \
    } while (0)

/* The fewer than M rows that whole tiles leave, at most six in one tile. */
VEC_INLINE void product_rest(const bool pairs, const bool hide, const int M, const int N, const product *x, int64_t link,
                             int64_t m, int64_t n0) {
    if (M > 6)
        for (; x->rows - m > 6; m += 6) product_tile(6, pairs, hide, N, x, link, m, n0);
    PRODUCT_REST(x->rows - m, product_tile, pairs, hide, N, x, link, m, n0);
}

/* All rows of the N vectors of columns from n0 on. */
VEC_INLINE void product_panel(const bool pairs, const bool hide, const int N, const product *x, int64_t link, int64_t n0) {
    const int M = PRODUCT_ACCUMULATORS / N < 12 ? PRODUCT_ACCUMULATORS / N : 12;
    int64_t m = 0;
    for (; m + M <= x->rows; m += M) product_tile(M, pairs, hide, N, x, link, m, n0);
    if (m < x->rows) product_rest(pairs, hide, M, N, x, link, m, n0);
}

/* Panels as wide as there are registers for; one vector alone is the least efficient, so it is left only when the whole
 * is one vector. */
VEC_INLINE void product_all(const bool pairs, const bool hide, const product *x) {
    const int64_t link = x->link ? product_link_end(x->link, x->start) - x->start : x->depth;
    for (int64_t n = 0, left = x->columns / VW; left > 0;) {
        int width = left < PRODUCT_WIDEST ? (int)left : PRODUCT_WIDEST;
        if (left - width == 1 && width > 2) width--;
        switch (width) {
        case 1: product_panel(pairs, hide, 1, x, link, n); break;
        case 2: product_panel(pairs, hide, 2, x, link, n); break;
        case 3: product_panel(pairs, hide, 3, x, link, n); break;
#if VEC_REGISTERS == 32
        case 4: product_panel(pairs, hide, 4, x, link, n); break;
#endif
        }
        n += width * VW;
        left -= width;
    }
}

#define PRODUCT_STAIR_READ(p, n) if ((n) >= from && (n) < to) PRODUCT_READ(p, n)
#define PRODUCT_STAIR_STEP(m, n)                                                    \
    do {                                                                            \
        if ((n) == from) element = vf_set1(a[(m) * a_row]);                         \
        if ((n) >= from && (n) < to) sum[m][n] = PRODUCT_ADD(element, row[n], sum[m][n]); \
    } while (0)
#define PRODUCT_STAIR(first, last)                                                  \
    case (first) * PRODUCT_WIDEST + (last): {                                       \
        const int from = (first), to = (last);                                      \
        for (int64_t k = stairs[i].steps; k > 0; k--, a += a_step, b += b_row) {    \
            PRODUCT_IN_ROW(PRODUCT_STAIR_READ, b);                                  \
            PRODUCT_IN_TILE(PRODUCT_STAIR_STEP);                                    \
        }                                                                           \
        break;                                                                      \
    }

/* M rows from m0 on of a panel as wide as can be, one link. */
VEC_INLINE void product_stairs_tile(const int M, const bool pairs, const product *x, const product_stair *stairs, int count,
                                    int64_t m0) {
    const int N = PRODUCT_WIDEST, G = 12;
    vf sum[12][4], row[4], element;
    const float *a = x->a + m0 * x->a_row, *b = x->b;
    float *const c = x->c + m0 * x->c_row, *row_of_c = c;
    const int64_t a_row = x->a_row, a_step = x->a_step, b_row = x->b_row;
    PRODUCT_IN_TILE(PRODUCT_ZERO);
    for (int i = 0; i < count; i++) {
        switch (stairs[i].first * PRODUCT_WIDEST + stairs[i].last) {
        PRODUCT_STAIR(0, PRODUCT_WIDEST)
        PRODUCT_STAIR(1, PRODUCT_WIDEST)
        PRODUCT_STAIR(2, PRODUCT_WIDEST)
        PRODUCT_STAIR(0, 1)
        PRODUCT_STAIR(0, 2)
#if VEC_REGISTERS == 32
        PRODUCT_STAIR(3, PRODUCT_WIDEST)
        PRODUCT_STAIR(0, 3)
#endif
        }
    }
    if (x->join) PRODUCT_IN_TILE(PRODUCT_TOTAL);
    PRODUCT_IN_TILE(PRODUCT_STORE);
}

/* C of PRODUCT_WIDEST vectors, one link, where B has zeros that are left out. */
VEC_INLINE void product_stairs(const bool pairs, const product *x, const product_stair *stairs, int count) {
    const int M = PRODUCT_ACCUMULATORS / PRODUCT_WIDEST;
    int64_t m = 0;
    for (; m + M <= x->rows; m += M) product_stairs_tile(M, pairs, x, stairs, count, m);
    PRODUCT_REST(x->rows - m, product_stairs_tile, pairs, x, stairs, count, m);
}

/* Functions of their own, so that neither's registers are the other's concern. */
static __attribute__((noinline, unused)) void product_run_stairs(const product *x, const product_stair *stairs, int count) {
    product_stairs(false, x, stairs, count);
}
static __attribute__((noinline, unused)) void product_run_late(const product *x) { product_all(false, PRODUCT_LATE > 0, x); }
static __attribute__((noinline, unused)) void product_run_plain(const product *x) { product_all(false, false, x); }
static inline void product_run(const product *x) {
    if (PRODUCT_LATE > 0 && !x->at_once) product_run_late(x);
    else product_run_plain(x);
}
#if defined(VEC_PAIRS)
static inline void product_run_pairs(const product *x) { product_all(true, PRODUCT_LATE > 0, x); }
static __attribute__((noinline, unused)) void product_run_pair_stairs(const product *x, const product_stair *stairs, int count) {
    product_stairs(true, x, stairs, count);
}
#endif

#endif
