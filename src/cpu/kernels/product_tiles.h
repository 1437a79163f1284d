/* C = A · B on AMX tiles: product.h's contract for elements that are pairs of bfloat16 numbers, with another arithmetic.
 *
 * The depth is cut into groups of 16 elements, counted from element 0 of what A and B are parts of (product.start says where
 * they begin); a group's sum is formed and added to c by one TDPBF16PS. Elements of a group that lie outside the depth count
 * as 0, so a row's bits depend neither on the rows beside it nor on where its product begins.
 *
 * Registers: 2×2 accumulators (0–3), two tiles of A (4, 5), two of B (6, 7). One step is 4 loads of 16 rows and 4 products of
 * 16 cycles each: bound by the products, as long as A and B come from the first two levels of cache. A that stands transposed
 * is turned square by square, once for all columns of C. Edges go through squares in memory. */
#ifndef INVAR_CPU_KERNELS_PRODUCT_TILES_H
#define INVAR_CPU_KERNELS_PRODUCT_TILES_H

#include "cpu/kernels/product.h"

enum { TILES_GROUPS = 16 }; /* groups that are worked on before C is stored: 32 KiB of A at most */

typedef struct tile_square {
    float element[TILE_SIDE][TILE_SIDE];
} __attribute__((aligned(64))) tile_square;

/* Where a tile is read or written: in place, or in a square. */
typedef struct tile_place {
    float *data;
    int64_t stride;
} tile_place;

/* Elements first … last-1 of a group that exist; the group's element 0 is element `base` of the product, perhaps negative. */
typedef struct tile_group {
    int64_t base;
    int first, last;
} tile_group;

static tile_group tiles_group(const product *x, int64_t index) {
    tile_group g = { index * TILE_SIDE - x->start % TILE_SIDE, 0, TILE_SIDE };
    if (g.base < 0) g.first = (int)-g.base;
    if (g.base + g.last > x->depth) g.last = (int)(x->depth - g.base);
    return g;
}

static int tiles_whole(const tile_group *g) { return g->first == 0 && g->last == TILE_SIDE; }

/* Rows of contiguous elements into a square; the rest of it is 0. p: row 0, element first. */
static void tiles_copy(tile_square *to, const float *p, int64_t stride, int rows, int first, int last) {
    memset(to, 0, sizeof *to);
    for (int i = 0; i < rows; i++) memcpy(to->element[i] + first, p + i * stride, sizeof *p * (size_t)(last - first));
}

/* `rows` columns of p, elements first … last-1, become rows of a square; the rest of it is 0. */
static void tiles_turn(tile_square *to, const float *p, int64_t stride, int rows, int first, int last) {
    vf r[VW];
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) r[i] = i >= first && i < last ? vf_load_n(p + (i - first) * stride, rows) : vf_zero();
    vf_transpose(r);
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) vf_store(to->element[i], r[i]);
}

/* 16 rows of A from row m on, in group g: where they are, or a square of them. */
static tile_place tiles_left(const product *x, tile_square *square, int64_t m, const tile_group *g) {
    const int rows = x->rows - m < TILE_SIDE ? (int)(x->rows - m) : TILE_SIDE;
    const float *p = x->a + m * x->a_row + (g->base + g->first) * x->a_step;
    if (x->a_step == 1 && rows == TILE_SIDE && tiles_whole(g)) return (tile_place){ (float *)(uintptr_t)p, x->a_row };
    if (x->a_step == 1) tiles_copy(square, p, x->a_row, rows, g->first, g->last);
    else tiles_turn(square, p, x->a_step, rows, g->first, g->last);
    return (tile_place){ square->element[0], TILE_SIDE };
}

/* Group g of B's columns from n on. */
static tile_place tiles_right(const product *x, tile_square *square, int64_t n, const tile_group *g) {
    const float *p = x->b + (g->base + g->first) * x->b_row + n;
    if (tiles_whole(g)) return (tile_place){ (float *)(uintptr_t)p, x->b_row };
    memset(square, 0, sizeof *square);
    for (int i = g->first; i < g->last; i++) memcpy(square->element[i], p + (i - g->first) * x->b_row, sizeof square->element[i]);
    return (tile_place){ square->element[0], TILE_SIDE };
}

/* Up to 32 rows × 32 columns of C from (m, n) on, over `groups` groups of A, whose tiles are at left. */
static void tiles_block(const product *x, int64_t m, int64_t n, int64_t group, int groups,
                        tile_place left[TILES_GROUPS][2], bool resume) {
    tile_square corner[4], edge[2];
    const bool below = m + TILE_SIDE < x->rows, beside = n + TILE_SIDE < x->columns;
    tile_place c[4];
    for (int i = 0; i < 4; i++) {
        const int64_t row = m + i / 2 * TILE_SIDE, column = n + i % 2 * TILE_SIDE;
        const bool whole = row + TILE_SIDE <= x->rows;
        c[i] = (tile_place){ x->c + row * x->c_row + column, x->c_row };
        if (whole || (i / 2 && !below) || (i % 2 && !beside)) continue;
        if (resume) tiles_copy(&corner[i], c[i].data, x->c_row, (int)(x->rows - row), 0, TILE_SIDE);
        c[i] = (tile_place){ corner[i].element[0], TILE_SIDE };
    }
    TILE_FENCE();
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    if (resume) {
        TILE_LOAD(0, c[0].data, c[0].stride);
        if (beside) TILE_LOAD(1, c[1].data, c[1].stride);
        if (below) TILE_LOAD(2, c[2].data, c[2].stride);
        if (below && beside) TILE_LOAD(3, c[3].data, c[3].stride);
    }
    for (int i = 0; i < groups; i++) {
        const tile_group g = tiles_group(x, group + i);
        const tile_place b = tiles_right(x, &edge[0], n, &g);
        const tile_place d = beside ? tiles_right(x, &edge[1], n + TILE_SIDE, &g) : b;
        if (!tiles_whole(&g)) TILE_FENCE();
        TILE_LOAD(4, left[i][0].data, left[i][0].stride);
        TILE_LOAD(6, b.data, b.stride);
        TILE_DOT(0, 4, 6);
        if (beside) {
            TILE_LOAD(7, d.data, d.stride);
            TILE_DOT(1, 4, 7);
        }
        if (!below) continue;
        TILE_LOAD(5, left[i][1].data, left[i][1].stride);
        TILE_DOT(2, 5, 6);
        if (beside) TILE_DOT(3, 5, 7);
    }
    TILE_STORE(0, c[0].data, c[0].stride);
    if (beside) TILE_STORE(1, c[1].data, c[1].stride);
    if (below) TILE_STORE(2, c[2].data, c[2].stride);
    if (below && beside) TILE_STORE(3, c[3].data, c[3].stride);
    TILE_FENCE();
    for (int i = 0; i < 4; i++) {
        const int64_t row = m + i / 2 * TILE_SIDE, column = n + i % 2 * TILE_SIDE;
        if (c[i].data != corner[i].element[0]) continue;
        for (int64_t r = row; r < x->rows; r++)
            memcpy(x->c + r * x->c_row + column, corner[i].element[r - row], sizeof corner[i].element[0]);
    }
}

/* Between tiles_open and tiles_close. */
static void product_run_tiles(const product *x) {
    tile_square square[TILES_GROUPS][2];
    const int64_t groups = (x->start % TILE_SIDE + x->depth + TILE_SIDE - 1) / TILE_SIDE;
    for (int64_t m = 0; m < x->rows; m += 2 * TILE_SIDE)
        for (int64_t group = 0; group == 0 || group < groups; group += TILES_GROUPS) {
            tile_place left[TILES_GROUPS][2];
            const int count = groups - group < TILES_GROUPS ? (int)(groups - group) : TILES_GROUPS;
            for (int i = 0; i < count; i++) {
                const tile_group g = tiles_group(x, group + i);
                left[i][0] = tiles_left(x, &square[i][0], m, &g);
                if (m + TILE_SIDE < x->rows) left[i][1] = tiles_left(x, &square[i][1], m + TILE_SIDE, &g);
            }
            TILE_FENCE();
            for (int64_t n = 0; n < x->columns; n += 2 * TILE_SIDE)
                tiles_block(x, m, n, group, count, left, x->resume || group > 0);
        }
}

#endif
