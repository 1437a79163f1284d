/* rms_norm, add_rms_norm, layer_norm and their VJPs in plain scalar C with accumulation in double: the specification of the
 * kernels, for all four types, and what serves float64. Contracts: cpu/kernels/norm.h. */
#include "cpu/dispatch.h"

#include <math.h>

static double element(const invar_norm_job *job, const invar_norm_walk *walk, int operand, int64_t i) {
    const invar_norm_operand *o = &job->operand[operand];
    return o->data ? invar_load_float(o->data + walk->offset[operand] + i * o->step, o->type) : 0;
}

static void store(const invar_norm_job *job, const invar_norm_walk *walk, int operand, int64_t i, double value) {
    const invar_norm_operand *o = &job->operand[operand];
    if (o->data) invar_store_float(o->data + walk->offset[operand] + i * o->step, o->type, value);
}

/* x, or x + residual. */
static double input(const invar_norm_job *job, const invar_norm_walk *walk, bool add, int64_t i) {
    double x = element(job, walk, INVAR_NORM_X, i);
    return add ? x + element(job, walk, INVAR_NORM_RESIDUAL, i) : x;
}

static double weight_of(const invar_norm_job *job, int64_t i) { return job->weight ? ((const double *)job->weight)[i] : 1; }

/* A row's mean (0 for rms_norm) and 1 / sqrt(mean square about it + eps). */
typedef struct row_statistics {
    double mean, scale;
} row_statistics;

static row_statistics measure(const invar_norm_job *job, const invar_norm_walk *walk, bool centred, bool add) {
    const double features = (double)job->features;
    row_statistics row = { 0, 0 };
    if (centred) {
        double deviation = 0;
        for (int64_t i = 0; i < job->features; i++) row.mean += input(job, walk, add, i);
        row.mean /= features;
        for (int64_t i = 0; i < job->features; i++) deviation += input(job, walk, add, i) - row.mean;
        row.mean += deviation / features; /* removes the rounding of the first mean */
    }
    double squares = 0;
    for (int64_t i = 0; i < job->features; i++) {
        double c = input(job, walk, add, i) - row.mean;
        squares += c * c;
    }
    row.scale = 1 / sqrt(squares / features + job->eps);
    return row;
}

static void norm_rows(const invar_norm_job *job, bool centred, int64_t first, int64_t count) {
    const bool add = !centred && job->operand[INVAR_NORM_RESIDUAL].data;
    const double *bias = job->bias;
    invar_norm_walk walk;
    invar_norm_walk_to(&walk, job, first);
    for (int64_t row = 0; row < count; row++, invar_norm_walk_next(&walk, job)) {
        row_statistics s = measure(job, &walk, centred, add);
        for (int64_t i = 0; i < job->features; i++) {
            double x = input(job, &walk, add, i); /* read before y or sum may overwrite it */
            store(job, &walk, INVAR_NORM_SUM, i, x);
            store(job, &walk, INVAR_NORM_Y, i, (x - s.mean) * s.scale * weight_of(job, i) + (bias ? bias[i] : 0));
        }
    }
}

/* dx = r · (g - mean(g) - x̂ · mean(g · x̂)), with g = dy · w, x̂ = (x - mean) · r, and mean(g) for layer_norm only. */
static void vjp_row(const invar_norm_job *job, const invar_norm_walk *walk, bool centred, double *dweight, double *dbias) {
    const double features = (double)job->features;
    row_statistics s = measure(job, walk, centred, false);
    double mean_g = 0, mean_gx = 0;
    for (int64_t i = 0; i < job->features; i++) {
        double g = element(job, walk, INVAR_NORM_DY, i) * weight_of(job, i);
        mean_g += g / features;
        mean_gx += g * (element(job, walk, INVAR_NORM_X, i) - s.mean) * s.scale / features;
    }
    for (int64_t i = 0; i < job->features; i++) {
        double dy = element(job, walk, INVAR_NORM_DY, i), g = dy * weight_of(job, i);
        double normal = (element(job, walk, INVAR_NORM_X, i) - s.mean) * s.scale;
        if (dweight) dweight[i] += dy * normal;
        if (dbias) dbias[i] += dy;
        store(job, walk, INVAR_NORM_DX, i, s.scale * (g - (centred ? mean_g : 0) - normal * mean_gx));
    }
}

static void vjp_rows(const invar_norm_job *job, bool centred, int64_t first, int64_t count) {
    double *dweight = NULL, *dbias = NULL;
    if (job->want_dweight || job->want_dbias) {
        double *partial = (double *)(void *)(job->partial + (size_t)(first / job->chunk_rows) * job->partial_bytes);
        memset(partial, 0, job->partial_bytes);
        dweight = partial;
        if (centred) dbias = partial + job->partial_bytes / 2 / sizeof(double);
    }
    invar_norm_walk walk;
    invar_norm_walk_to(&walk, job, first);
    for (int64_t row = 0; row < count; row++, invar_norm_walk_next(&walk, job)) vjp_row(job, &walk, centred, dweight, dbias);
}

invar_norm_kernel invar_reference_rms_norm, invar_reference_layer_norm;
invar_norm_vjp_kernel invar_reference_rms_norm_vjp, invar_reference_layer_norm_vjp;
invar_norm_merge_kernel invar_reference_norm_merge;
invar_norm_widen_kernel invar_reference_norm_widen;

void invar_reference_rms_norm(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    (void)scratch;
    norm_rows(job, false, first, count);
}

void invar_reference_layer_norm(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    (void)scratch;
    norm_rows(job, true, first, count);
}

void invar_reference_rms_norm_vjp(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    (void)scratch;
    vjp_rows(job, false, first, count);
}

void invar_reference_layer_norm_vjp(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    (void)scratch;
    vjp_rows(job, true, first, count);
}

void invar_reference_norm_merge(const invar_norm_job *job, char *out, invar_float_type type, int64_t step, const char *partial,
                                int64_t chunks, int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; i++) {
        double sum = 0;
        for (int64_t c = 0; c < chunks; c++) sum += ((const double *)(const void *)(partial + (size_t)c * job->partial_bytes))[i];
        invar_store_float(out + i * step, type, sum);
    }
}

const void *invar_reference_norm_widen(const invar_norm_job *job, void *scratch, const char *data, invar_float_type type,
                                       int64_t step) {
    if (type == INVAR_F64 && step == sizeof(double)) return data;
    double *wide = scratch;
    for (int64_t i = 0; i < job->features; i++) wide[i] = invar_load_float(data + i * step, type);
    return wide;
}
