/* rope and its VJP: what API, reference and kernels share, and the kernels' contract.
 *
 * A job is a checked call. x is seen as slices (everything but the last two axes: batch, heads, …) of `length` positions of
 * `features`. The VJP is the same job with the inverse turn. */
#ifndef INVAR_CPU_KERNELS_ROPE_H
#define INVAR_CPU_KERNELS_ROPE_H

#include "core/tensor.h"

enum {
    INVAR_ROPE_SLICE_DIMS = INVAR_MAX_DIMS - 2,
    INVAR_ROPE_PAD = 16, /* pairs: the widest vector */
    INVAR_ROPE_NEAR = 8  /* positions whose angles have one part in common: those that a multiple of 8 begins */
};

typedef struct invar_rope_operand {
    char *data;
    int64_t step, row;                       /* bytes from one feature, one position, to the next */
    int64_t stride[INVAR_ROPE_SLICE_DIMS];   /* bytes along each slice dimension */
} invar_rope_operand;

typedef struct invar_rope_job {
    invar_rope_operand x, y;
    invar_float_type type;
    int64_t length, features, dims;
    bool traditional, inverse;
    bool stream;                    /* y is too large for the caches: stores may go past them */
    bool flows;                     /* from the registers where rows are whole vectors */
    int ndim;                       /* slice dimensions, 0 to 6 */
    int64_t shape[INVAR_ROPE_SLICE_DIMS];
    int64_t slices, batch_slices;   /* slices in all; slices that share an offset */
    int64_t block;                  /* positions whose cosines and sines a kernel holds at once */
    int64_t offset;                 /* added to that of the tensor */
    invar_view offsets;             /* data NULL: none; else one element, or one a batch */
    double base, scale;
    invar_view freqs;               /* data NULL: base^(2i/dims) */
    /* Quarter turns a position of each pair, high + low, scale included; dims/2 of each, padded with zeros to a multiple of
     * INVAR_ROPE_PAD. NULL for the reference, which forms its own. */
    const double *high, *low;
} invar_rope_job;

/* Positions first_position …, slices first_slice …; both counts >= 1. Angles are those of invar.h; the same job gives the same
 * bits however it is divided. y may be exactly x. Features from dims on are copied bit for bit. scratch: 64-byte aligned,
 * invar_rope_scratch(job) bytes, contents undefined. NaN and infinity go where the formulas carry them; an angle that is not
 * finite is NaN. Elements are float32, float16 or bfloat16; float64 too in the reference. */
typedef void invar_rope_kernel(const invar_rope_job *job, int64_t first_position, int64_t positions, int64_t first_slice,
                               int64_t slices, void *scratch);

static inline int64_t invar_rope_padded_pairs(const invar_rope_job *job) {
    return (job->dims / 2 + INVAR_ROPE_PAD - 1) / INVAR_ROPE_PAD * INVAR_ROPE_PAD;
}

/* A position's row of the table: cos and sin for each pair, for each feature of a pair when they are neighbours. */
static inline int64_t invar_rope_table_row(const invar_rope_job *job) {
    return 2 * invar_rope_padded_pairs(job) * (job->traditional ? 2 : 1);
}

/* Floats for a block of positions, behind cosines and sines in double of what their angles are added up from; the reference
 * holds doubles, and long doubles for the frequencies, of one position. */
static inline size_t invar_rope_scratch(const invar_rope_job *job, bool reference) {
    if (reference) return (size_t)(job->dims / 2) * (2 * sizeof(double) + sizeof(long double));
    return sizeof(double) * (size_t)(2 * invar_rope_padded_pairs(job) * (INVAR_ROPE_NEAR + 1)) +
           sizeof(float) * (size_t)(invar_rope_table_row(job) * job->block);
}

/* The byte offsets of a slice. */
static inline void invar_rope_slice(const invar_rope_job *job, int64_t slice, int64_t *x, int64_t *y) {
    *x = *y = 0;
    for (int d = job->ndim - 1; d >= 0; d--) {
        int64_t index = slice % job->shape[d];
        slice /= job->shape[d];
        *x += index * job->x.stride[d];
        *y += index * job->y.stride[d];
    }
}

/* A place in the walk over slices: an index in every slice dimension, the first of which is the batch, and byte offsets. */
typedef struct invar_rope_walk {
    int64_t index[INVAR_ROPE_SLICE_DIMS];
    int64_t x, y;
} invar_rope_walk;

static inline void invar_rope_walk_to(invar_rope_walk *walk, const invar_rope_job *job, int64_t slice) {
    invar_rope_slice(job, slice, &walk->x, &walk->y);
    walk->index[0] = 0;
    for (int d = job->ndim - 1; d >= 0; d--) walk->index[d] = slice % job->shape[d], slice /= job->shape[d];
}

static inline void invar_rope_walk_next(invar_rope_walk *walk, const invar_rope_job *job) {
    for (int d = job->ndim - 1; d >= 0; d--) {
        const bool wraps = ++walk->index[d] == job->shape[d];
        walk->x += job->x.stride[d] * (wraps ? 1 - job->shape[d] : 1);
        walk->y += job->y.stride[d] * (wraps ? 1 - job->shape[d] : 1);
        if (!wraps) return;
        walk->index[d] = 0;
    }
}

/* What is added to the positions of a batch, as two integers whose sum may pass 64 bits; an unsigned tensor element is not
 * taken for a negative one. */
static inline void invar_rope_offset(const invar_rope_job *job, int64_t batch, double parts[4]) {
    int64_t element = 0;
    bool wide = false;
    if (job->offsets.data) {
        int64_t place = job->offsets.ndim && job->offsets.shape[0] > 1 ? batch * job->offsets.stride[0] : 0;
        element = invar_load_integer(&job->offsets, place);
        wide = job->offsets.dtype.code == INVAR_UINT && element < 0;
    }
    /* Each half of 32 bits is exact in double. */
    parts[0] = (double)(job->offset >> 32) * 0x1p32;
    parts[1] = (double)(job->offset & 0xffffffff);
    parts[2] = (double)(element >> 32) * 0x1p32 + (wide ? 0x1p64 : 0);
    parts[3] = (double)(element & 0xffffffff);
}

/* Element i of a view of any real type. */
static inline double invar_load_real(const invar_view *view, int64_t element_offset) {
    invar_float_type type;
    if (invar_float_type_of(view->dtype, &type))
        return invar_load_float(view->data + element_offset * (int64_t)invar_float_size(type), type);
    int64_t integer = invar_load_integer(view, element_offset);
    return view->dtype.code == INVAR_UINT ? (double)(uint64_t)integer : (double)integer;
}

#endif
