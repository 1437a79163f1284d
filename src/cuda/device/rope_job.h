/* What rope's program for CUDA devices is told: one struct by value. C and CUDA both read this header, so the sizes here are those
 * of both; all of it stays below the 4 KiB that a parameter may have everywhere. */
#ifndef INVAR_CUDA_ROPE_JOB_H
#define INVAR_CUDA_ROPE_JOB_H

#define INVAR_CUDA_ROPE_DIMS 6
#define INVAR_CUDA_ROPE_THREADS 256 /* a block, at most */
#define INVAR_CUDA_ROPE_PAIRS 128   /* a launch */
#define INVAR_CUDA_ROPE_OFFSETS 128 /* batches of a launch whose offsets came from the CPU */
#define INVAR_CUDA_ROPE_NEAR 8      /* positions whose angles have one part in common, as on the CPU */

/* DLPack's codes of element types. */
#define INVAR_CUDA_ROPE_INT 0
#define INVAR_CUDA_ROPE_UINT 1
#define INVAR_CUDA_ROPE_FLOAT 2
#define INVAR_CUDA_ROPE_BFLOAT 4

/* Strides in bytes: from one feature, position, batch to the next, and along the slice dimensions of a batch. */
typedef struct invar_cuda_rope_operand {
    char *data;
    long long step, row, batch;
    long long stride[INVAR_CUDA_ROPE_DIMS];
} invar_cuda_rope_operand;

/* Numbers on the device. data NULL: none there. */
typedef struct invar_cuda_rope_numbers {
    const char *data;
    long long stride; /* bytes */
    int code, bits;
} invar_cuda_rope_numbers;

/* A row is cut into lanes, two pieces of ELEMENTS features each: what a lane l < turning holds are whole pairs (lane_place in
 * rope.cu); the lanes behind copy, in pieces from feature dims on. A block takes `width` lanes of `positions` positions, of
 * `at_once` slices at a time, `group` in all; blocks count over chunks of lanes, tiles of positions, groups of slices and batches,
 * the first fastest. */
typedef struct invar_cuda_rope_job {
    invar_cuda_rope_operand x, y;
    long long shape[INVAR_CUDA_ROPE_DIMS]; /* of a batch's slices */
    long long slices;                      /* of a batch; batches that have one offset in common are one */
    long long length, half, dims;          /* positions; dims / 2 */
    long long first_lane, lanes, turning;  /* of this launch: lanes before it, of which all turn; all; those that turn */
    long long copied, copiers;             /* pieces that are copied; lanes that copy: lane c has pieces c and c + copiers */
    long long first_batch;
    unsigned chunks, tiles, groups;
    int width, positions, at_once, group, ndim;
    int inverse, reserved;
    /* Added to a position: offset, and the batch's element of offsets or, from first_batch on, of element. */
    long long offset, element[INVAR_CUDA_ROPE_OFFSETS];
    invar_cuda_rope_numbers offsets;
    int each_element, wide_elements; /* element has one for each batch, not one for all; they are unsigned numbers of 64 bits */
    /* Quarter turns a position of the launch's pairs, in the order of rope.cu's table; where freqs is on the device, they follow from
     * it and scale. */
    invar_cuda_rope_numbers freqs;
    double scale, high[INVAR_CUDA_ROPE_PAIRS], low[INVAR_CUDA_ROPE_PAIRS];
} invar_cuda_rope_job;

/* The pair that stands at `number` (0 … elements - 1) of a lane's. Neighbours fill one piece, then the other; with one feature a
 * piece, and where halves turn, number i is that of both pieces' elements i. */
#ifdef __CUDACC__
__device__
#endif
static inline long long invar_cuda_rope_pair(long long lane, int number, int elements, int neighbours, long long half) {
    if (!neighbours || elements == 1) return lane * elements + number;
    return number < elements / 2 ? lane * (elements / 2) + number : half / 2 + lane * (elements / 2) + number - elements / 2;
}

#endif
