/* rms_norm, add_rms_norm, layer_norm and their VJPs: what API, reference and kernels share, and the kernels' contracts.
 *
 * A job is a checked call. Its tensors are seen as rows of `features` elements through byte strides, the leading
 * dimensions merged where every tensor allows it. Rows are independent; a kernel takes a run of consecutive ones. */
#ifndef INVAR_CPU_KERNELS_NORM_H
#define INVAR_CPU_KERNELS_NORM_H

#include "core/tensor.h"

enum {
    /* Elements of a row that a kernel holds widened at once; a multiple of the 32 lanes. Longer rows of half types, or
     * of strided features, are widened again in every pass. 64 KiB of float: half of the smallest L2 around. */
    INVAR_NORM_BLOCK = 16384,
    INVAR_NORM_BUFFERS = 2 /* such blocks that a running task owns */
};

/* The tensors of a job that have rows. Forward: y = norm(x), or sum = x + residual and y = norm(sum). Backward: dx from
 * dy and x. */
enum {
    INVAR_NORM_X,
    INVAR_NORM_RESIDUAL,
    INVAR_NORM_Y,
    INVAR_NORM_SUM,
    INVAR_NORM_OPERANDS,
    INVAR_NORM_DY = INVAR_NORM_RESIDUAL,
    INVAR_NORM_DX = INVAR_NORM_Y
};

typedef struct invar_norm_operand {
    char *data; /* NULL: absent */
    invar_float_type type;
    int64_t step;                     /* bytes from one feature to the next */
    int64_t stride[INVAR_MAX_DIMS];   /* bytes along each row dimension of the job */
} invar_norm_operand;

typedef struct invar_norm_job {
    invar_norm_operand operand[INVAR_NORM_OPERANDS];
    int64_t features, rows;
    int ndim; /* row dimensions, 0 to 7 */
    int64_t shape[INVAR_MAX_DIMS];
    /* [features] of the accumulation type: float, or double in the reference. NULL: absent. */
    const void *weight, *bias;
    double eps;
    /* float16 or bfloat16: every tensor of rows has this type and contiguous features, and may be read in place; float32: any
     * mix, read as floats. */
    invar_float_type format;
    bool stream; /* the output is too large for the caches: stores may go past them */
    bool pieces; /* rows of such VJPs may take turns piece by piece: L2 holds some more of them */
    /* Backward. When either is wanted, chunk c, of chunk_rows rows, leaves its sums at partial + c · partial_bytes: [features] of
     * the accumulation type for dweight; for layer_norm, as many for dbias half of partial_bytes behind. */
    bool want_dweight, want_dbias;
    int64_t chunk_rows;
    char *partial;
    size_t partial_bytes;
} invar_norm_job;

/* Rows first … first+count-1, count >= 1 and features >= 1. scratch: 64-byte aligned, INVAR_NORM_BUFFERS ·
 * min(features, INVAR_NORM_BLOCK) floats, contents undefined; the reference uses none. Inputs and outputs have any strides and
 * element alignment; an output may be exactly an input. Nothing outside the rows' features is written. Arithmetic and
 * its order: docs/invariance.md. NaN and infinity go where the formulas carry them. Elements are float32, float16 or
 * bfloat16, in any mix; float64 too in the reference. */
typedef void invar_norm_kernel(const invar_norm_job *job, int64_t first, int64_t count, void *scratch);

/* The same for the VJPs. Where dweight or dbias is wanted, the rows are one whole chunk (the last may be shorter), and its
 * partial sums are overwritten. */
typedef void invar_norm_vjp_kernel(const invar_norm_job *job, int64_t first, int64_t count, void *scratch);

/* Adds up what the chunks 0 … chunks-1 left for one vector, in that order, and stores features first … first+count-1 of it to
 * out, with `step` bytes between elements: zeros when there are no chunks. partial: chunk 0's sums for that vector. first
 * is a multiple of 1024. */
typedef void invar_norm_merge_kernel(const invar_norm_job *job, char *out, invar_float_type type, int64_t step,
                                     const char *partial, int64_t chunks, int64_t first, int64_t count);

/* weight or bias as the kernels want it for a job of this format, `features` of the accumulation type, in an order of their own
 * for bfloat16: the vector itself where it is that already, else converted into scratch, which holds as many doubles. */
typedef const void *invar_norm_widen_kernel(const invar_norm_job *job, void *scratch, const char *data, invar_float_type type,
                                            int64_t step);

/* A place in the walk over rows: the byte offset of the current row in every operand. */
typedef struct invar_norm_walk {
    int64_t index[INVAR_MAX_DIMS];
    int64_t offset[INVAR_NORM_OPERANDS];
} invar_norm_walk;

static inline void invar_norm_walk_to(invar_norm_walk *walk, const invar_norm_job *job, int64_t row) {
    memset(walk, 0, sizeof *walk);
    for (int d = job->ndim - 1; d >= 0; d--) {
        walk->index[d] = row % job->shape[d];
        row /= job->shape[d];
        for (int o = 0; o < INVAR_NORM_OPERANDS; o++) walk->offset[o] += walk->index[d] * job->operand[o].stride[d];
    }
}

static inline void invar_norm_walk_next(invar_norm_walk *walk, const invar_norm_job *job) {
    for (int d = job->ndim - 1; d >= 0; d--) {
        bool wraps = ++walk->index[d] == job->shape[d];
        for (int o = 0; o < INVAR_NORM_OPERANDS; o++)
            walk->offset[o] += job->operand[o].stride[d] * (wraps ? 1 - job->shape[d] : 1);
        if (!wraps) return;
        walk->index[d] = 0;
    }
}

/* Row data of an operand, NULL where it is absent. */
static inline char *invar_norm_row(const invar_norm_job *job, const invar_norm_walk *walk, int operand) {
    return job->operand[operand].data ? job->operand[operand].data + walk->offset[operand] : NULL;
}

#endif
