/* rope and its VJP in plain scalar C, angles in long double: the specification of the kernels, for all four types, and what
 * serves float64. Contract: cpu/kernels/rope.h. */
#include "cpu/dispatch.h"

#include <math.h>

/* Radians a position, scale apart. */
static void fill_frequencies(const invar_rope_job *job, long double *frequency) {
    for (int64_t i = 0; i < job->dims / 2; i++) {
        if (job->freqs.data) frequency[i] = 1 / (long double)(float)invar_load_real(&job->freqs, i * job->freqs.stride[0]);
        else frequency[i] = powl((long double)job->base, -2 * (long double)i / (long double)job->dims);
    }
}

static void fill_row(const invar_rope_job *job, const long double *frequency, double *cosine, double *sine,
                     long double position) {
    for (int64_t i = 0; i < job->dims / 2; i++) {
        long double angle = position * (long double)job->scale * frequency[i];
        cosine[i] = (double)cosl(angle);
        sine[i] = (double)sinl(job->inverse ? -angle : angle);
    }
}

static void turn(const invar_rope_job *job, char *y, const char *x, const double *cosine, const double *sine) {
    const int64_t pairs = job->dims / 2;
    for (int64_t i = 0; i < pairs; i++) {
        int64_t first = job->traditional ? 2 * i : i, second = job->traditional ? 2 * i + 1 : i + pairs;
        double a = invar_load_float(x + first * job->x.step, job->type);
        double b = invar_load_float(x + second * job->x.step, job->type);
        invar_store_float(y + first * job->y.step, job->type, a * cosine[i] - b * sine[i]);
        invar_store_float(y + second * job->y.step, job->type, a * sine[i] + b * cosine[i]);
    }
    if (x == y) return;
    for (int64_t i = job->dims; i < job->features; i++)
        memcpy(y + i * job->y.step, x + i * job->x.step, invar_float_size(job->type));
}

static long double offset_of(const invar_rope_job *job, int64_t batch) {
    double parts[4];
    invar_rope_offset(job, batch, parts);
    return (long double)parts[0] + parts[1] + parts[2] + parts[3];
}

/* On x86-64 long double has a rounding of its own, which tasks are not given: returns the caller's. */
static uint16_t swap_control(uint16_t control) {
#if defined(__x86_64__)
    uint16_t callers;
    __asm__ volatile("fnstcw %0" : "=m"(callers));
    __asm__ volatile("fldcw %0" : : "m"(control));
    return callers;
#else
    return control;
#endif
}
enum { NEAREST_EXTENDED = 0x37f }; /* with exceptions masked */

invar_rope_kernel invar_reference_rope;

void invar_reference_rope(const invar_rope_job *job, int64_t first_position, int64_t positions, int64_t first_slice,
                          int64_t slices, void *scratch) {
    long double *frequency = scratch;
    double *cosine = (double *)(frequency + job->dims / 2), *sine = cosine + job->dims / 2;
    const uint16_t callers = swap_control(NEAREST_EXTENDED);
    fill_frequencies(job, frequency);
    for (int64_t p = first_position; p < first_position + positions; p++) {
        int64_t filled = -1; /* the batch that the row is for */
        for (int64_t s = first_slice; s < first_slice + slices; s++) {
            int64_t batch = s / job->batch_slices, x, y;
            if (filled < 0 || (job->offsets.data && batch != filled)) {
                fill_row(job, frequency, cosine, sine, offset_of(job, batch) + (long double)p);
                filled = batch;
            }
            invar_rope_slice(job, s, &x, &y);
            turn(job, job->y.data + y + p * job->y.row, job->x.data + x + p * job->x.row, cosine, sine);
        }
    }
    swap_control(callers);
}
