/* A mask array on its way through attention_vjp_wgmma.cu: its tiles in shared memory are what is added to logits, elements of TYPE
 * (of a bool, 0 or -infinity), a query's along a row as the array has them, whichever side the queries are on.
 *
 * Where all numbers of a pair's rows are far from TYPE's end, -infinity alone makes its weight 0 and its gradient 0. Where they are
 * not, hidden pairs have to be selected away: such tiles, and such near rows, are noticed on their way in. */
#ifndef INVAR_ATTENTION_VJP_RING_MASK_CUH
#define INVAR_ATTENTION_VJP_RING_MASK_CUH
#include "attention_ring.cuh"
#include "attention_vjp.cuh"

#define HIDES (matrix_unit<TYPE>::exponent | 0x8000u) /* -infinity, an element's bits */
/* Exponents from which on sums of products may leave float's range: 2^56, or, of float16, what is not finite. */
#define LOUD (matrix_unit<TYPE>::exponent == 0x7c00u ? 0x7c00u : (127u + 56u) << 7)
#define LOUD_SCALE 256.0f
enum { MASK_HEIGHT = BY_KEYS ? FAR : 64 * CONSUMERS, MASK_WIDTH = BY_KEYS ? 64 * CONSUMERS : FAR };
enum { MASK_BYTES = 2 * MASK_HEIGHT * MASK_WIDTH };
/* Where an element lies. */
__device__ __forceinline__ unsigned element_at(unsigned tile, int query, int key) {
    return tile + key / COLUMNS * MASK_HEIGHT * PITCH + piece_at(query, key % COLUMNS / 8) + key % 8 * 2;
}
enum { MASK_SIZE = MASK_KIND == INVAR_CUDA_BOOL ? 1 : 2 }; /* bytes of an element */

/* ---- the warpgroup that loads ------------------------------------------------------------------------------ */

/* Read anew each time: what depends on it would be kept in registers that there are not. */
__device__ __forceinline__ int loading_thread() {
    unsigned thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return (int)thread;
}

/* A tile from the element at `from` on, of which `height` queries and `width` keys are there, the last keys' eight whole, by copies of
 * eight elements; bools wait at the beginning of their piece to be spread. */
__device__ __forceinline__ void bring_mask(char *to, const char *from, const invar_cuda_operand &x, int height, int width) {
    const int row = loading_thread() / 8, piece = loading_thread() % 8;
    from += row * x.row_stride + piece * 8 * MASK_SIZE;
    to += piece_at(row, piece);
    for (int c = 0; c < MASK_WIDTH; c += COLUMNS) {
        const bool there = c + piece * 8 < width;
        const char *next = from + c * MASK_SIZE;
#pragma unroll 4
        for (int i = 0; i < MASK_HEIGHT; i += 16) {
            char *const slot = to + (c * MASK_HEIGHT * 2 + i * PITCH);
            if (MASK_SIZE == 2) copy_16(slot, next, there && row + i < height ? 16 : 0);
            else copy_8(slot, next, there && row + i < height ? 8 : 0);
            next += 16 * x.row_stride;
        }
    }
}

/* Two of four bools: -infinity where a byte is 0. */
template <unsigned WHICH> __device__ __forceinline__ unsigned added_for(unsigned bools) {
    const unsigned zeros = ~((bools & 0x7f7f7f7fu) + 0x7f7f7f7fu | bools); /* a byte's highest bit */
    unsigned pair;
    asm("prmt.b32 %0, %1, %1, %2;" : "=r"(pair) : "r"(zeros), "n"(WHICH)); /* its copies */
    return pair & HIDES * 0x10001u;
}

/* What this thread copied of a tile: bools become what is added. Whether all of it is hidden. */
__device__ __forceinline__ bool finish_copies(const char *tile) {
    const unsigned from = shared_address(tile) + piece_at(loading_thread() / 8, loading_thread() % 8);
    bool hidden = true;
#pragma unroll 2
    for (int i = 0; (MASK_SIZE == 1 || hidden) && i < MASK_BYTES; i += 16 * PITCH) {
        unsigned pairs[4];
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(from + i)
                     : "memory");
        if (MASK_SIZE == 1) {
            const unsigned low = pairs[0], high = pairs[1];
            pairs[0] = added_for<0x9988>(low), pairs[1] = added_for<0xbbaa>(low);
            pairs[2] = added_for<0x9988>(high), pairs[3] = added_for<0xbbaa>(high);
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(from + i), "r"(pairs[0]), "r"(pairs[1]), "r"(pairs[2]),
                         "r"(pairs[3])
                         : "memory");
        }
#pragma unroll
        for (int e = 0; e < 4; e++) hidden &= pairs[e] == HIDES * 0x10001u;
    }
    return hidden;
}

/* Whether it is so for all threads of the warpgroup. */
__device__ __forceinline__ bool for_all(int barrier_id, bool so) {
    unsigned all;
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; bar.red.and.pred p, %2, %3, p; selp.u32 %0, 1, 0, p; }"
                 : "=r"(all)
                 : "r"((unsigned)so), "r"(barrier_id), "r"((int)GROUP)
                 : "memory");
    return all;
}

/* The largest of what this thread brought of a tile, of each half, or NaN, beside `most`; signs tell nothing. */
template <int BYTES> __device__ __forceinline__ unsigned loudest(unsigned most, const char *tile) {
    const unsigned from = shared_address(tile) + piece_at(loading_thread() / 8, loading_thread() % 8);
#pragma unroll 2
    for (int i = 0; i < BYTES; i += 16 * PITCH) {
        unsigned pairs[4];
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(pairs[0]), "=r"(pairs[1]), "=r"(pairs[2]), "=r"(pairs[3])
                     : "r"(from + i)
                     : "memory");
#pragma unroll
        for (int e = 0; e < 4; e++)
            asm("max.NaN.xorsign.abs." NAME_OF(TYPE) "x2 %0, %0, %1;" : "+r"(most) : "r"(pairs[e]));
    }
    return most;
}
__device__ __forceinline__ bool reaches(unsigned most, unsigned bits) {
    return (most & 0x7fffu) >= bits || (most >> 16 & 0x7fffu) >= bits;
}
__device__ __forceinline__ bool is_finite(float2 x) { return fabsf(x.x) < -MINUS_INFINITY && fabsf(x.y) < -MINUS_INFINITY; }

/* ---- the warpgroups that compute --------------------------------------------------------------------------- */

/* What is added for far rows 16j …, as fragments of scores are; thread: of those that compute. */
__device__ __forceinline__ void added_to(unsigned (&added)[4], unsigned tile, int thread, int j) {
    const int lane = thread % 32, warp = thread / 32;
    if (BY_KEYS)
        load_transposed(added, tile + warp / 4 * MASK_HEIGHT * PITCH + 16 * j * PITCH +
                                   piece_at(lane / 16 * 8 + lane % 8, warp % 4 * 2 + lane / 8 % 2));
    else
        load_matrices(added, tile + j / 4 * MASK_HEIGHT * PITCH + piece_at(16 * warp + lane % 16, j % 4 * 2 + lane / 16));
}
__device__ __forceinline__ float added_in(const unsigned (&added)[4], int element) { /* of 16 far rows: 4n + i */
    const unsigned pair = added[element / 2];
    const TYPE value = { (bits16)(element % 2 ? pair >> 16 : pair) };
    return widen(value);
}
__device__ __forceinline__ bool hides_in(const unsigned (&added)[4], int element) {
    const unsigned pair = added[element / 2];
    return (element % 2 ? pair >> 16 : pair & 0xffffu) == HIDES;
}
/* One pair of a tile; rows of the block and of the tile. */
__device__ __forceinline__ bool hides(unsigned tile, int near, int far) {
    bits16 bits;
    asm volatile("ld.shared.u16 %0, [%1];"
                 : "=h"(bits)
                 : "r"(BY_KEYS ? element_at(tile, far, near) : element_at(tile, near, far))
                 : "memory");
    return bits == HIDES;
}

#endif
