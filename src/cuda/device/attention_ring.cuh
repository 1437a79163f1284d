/* Tiles on their way from device memory to the matrix units: one warpgroup, the block's first, brings them into rings of STAGES
 * stages in shared memory, others compute with them. COPIES: rows are such that 16-byte copies may take them; else they come an
 * element at a time, to the same bits. */
#ifndef INVAR_ATTENTION_RING_CUH
#define INVAR_ATTENTION_RING_CUH
#include "attention_warpgroup.cuh"

typedef unsigned short bits16;
enum { GROUP = 128 }; /* threads of a warpgroup */

/* Tile t lies in stage t mod STAGES, or, of a ring of fewer, t mod COUNT. It is full for the (t / STAGES)-th time, and must have been
 * emptied as often before. */
struct ring {
    barrier full[STAGES], empty[STAGES];
};

/* A stage is free again, as far as this warp is concerned. */
__device__ __forceinline__ void leave(barrier *empty) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty);
}

/* Eight elements, of which `left` are there; zeros behind them. */
__device__ __forceinline__ void bring_piece(char *to, const char *from, long long step, int left) {
#if COPIES
    (void)step;
    copy_16(to, from, left > 0 ? 16 : 0);
#else
    unsigned pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        pairs[i] = 2 * i < left ? *(const bits16 *)(from + 2 * i * step) : 0;
        if (2 * i + 1 < left) pairs[i] |= (unsigned)*(const bits16 *)(from + (2 * i + 1) * step) << 16;
    }
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to)), "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]),
                 "r"(pairs[3])
                 : "memory");
#endif
}

/* A matrix of ROWS rows, of which there are `count`; zeros behind them and behind the columns. This thread's pieces: of each 16th
 * row, from row thread / 8. EIGHTS: rows stand in such an order that 8n + 2q, n = 4m … 4m + 3, and those behind them, which are
 * columns of a thread's fragments of S, are rows 32m + 8q … of memory. */
template <int DIM, int ROWS, bool EIGHTS = false>
__device__ __forceinline__ void bring_tile(char *to, const char *from, const invar_cuda_operand &x, int count, int columns) {
    enum { AT_ONCE = COPIES ? ROWS / 16 : 1 }; /* pieces that a thread brings */
    const int row = threadIdx.x / 8, piece = threadIdx.x % 8;
    const int first = EIGHTS ? row % 8 / 2 * 8 + row / 8 * 2 + row % 2 : row; /* in memory */
    from += first * x.row_stride + piece * 8 * x.column_stride;
    to += piece_at(row, piece);
    for (int c = 0; c < DIM; c += COLUMNS) {
        const int left = columns - c - piece * 8;
        const char *next = from + c * x.column_stride;
#pragma unroll AT_ONCE
        for (int i = 0; i < ROWS; i += 16) {
            bring_piece(to + (c * ROWS * 2 + i * PITCH), next, x.column_stride,
                        first + (EIGHTS ? i / 32 * 32 + i % 32 / 4 : i) < count ? left : 0);
            next += (!EIGHTS ? 16 : i % 32 ? 28 : 4) * x.row_stride;
        }
    }
}

/* What was brought last is told to be there when it has arrived: once the next tile is on its way, or there is no room for that. A
 * program that defines WATCHED looks at it first. */
struct loader {
    barrier *pending;
#ifdef WATCHED
    char *watched; /* the tile, where it is to be looked at */
    int *found, number; /* what look() writes, and where */
#endif
};
#ifdef WATCHED
__device__ __forceinline__ void look(loader &it);
#else
__device__ __forceinline__ void look(loader &it) { (void)it; }
#endif

__device__ __forceinline__ void settle(loader &it) {
    copy_wait<0>();
    look(it);
    show_products();
    if (it.pending) barrier_arrive(it.pending);
    it.pending = 0;
}

template <int COUNT = STAGES> __device__ __forceinline__ void await_room(loader &it, ring &of, int tile) {
    const unsigned stage = tile % COUNT, parity = tile / COUNT % 2 ^ 1; /* the first time there is room */
    if (!barrier_ended(&of.empty[stage], parity)) settle(it);
    barrier_wait(&of.empty[stage], parity);
}

template <int COUNT = STAGES> __device__ __forceinline__ void brought(loader &it, ring &of, int tile) {
    copy_commit();
    if (it.pending) {
        copy_wait<1>();
        look(it);
        show_products();
        barrier_arrive(it.pending);
    }
    it.pending = &of.full[tile % COUNT];
}

#endif
