/* Rows of the norms in vectors: reading them as floats block by block, summing them in 32 virtual lanes, storing them.
 * Included by the norm templates alone. A parameter called const is a compile-time constant at every call, so that one text
 * serves every element type without a branch in its loops. */
#ifndef INVAR_CPU_KERNELS_NORM_ROW_H
#define INVAR_CPU_KERNELS_NORM_ROW_H

#include "cpu/kernels/norm.h"
#include "cpu/vec/lanes.h"
#include "cpu/vec/stream.h"
#include "cpu/vec/vec.h"

#define FOR_LANES _Pragma("GCC unroll 8") for (int j = 0; j < VSUM; j++)
#define FOR_LANE_PAIRS _Pragma("GCC unroll 4") for (int j = 0; j < VSUM; j += 2)

VEC_INLINE int norm_left(int64_t count, int64_t i) { return count - i < VW ? (int)(count - i) : VW; }

VEC_INLINE vf norm_load(const int type, const void *p) {
    return type == INVAR_F32 ? vf_load(p) : type == INVAR_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}
VEC_INLINE vf norm_load_n(const int type, const void *p, int n) {
    return type == INVAR_F32 ? vf_load_n(p, n) : type == INVAR_F16 ? vf_load_f16_n(p, n) : vf_load_bf16_n(p, n);
}
VEC_INLINE void norm_store(const int type, void *p, vf v) {
    if (type == INVAR_F32) vf_store(p, v);
    else if (type == INVAR_F16) vf_store_f16(p, v);
    else vf_store_bf16(p, v);
}

/* Two vectors of a row. bfloat16 is read and written split, as in vec/lanes.h: even elements in a, odd ones in b. */
VEC_INLINE void norm_load_two(const int type, const void *p, vf *a, vf *b) {
    if (type == INVAR_BF16) {
        vf_load_split(p, a, b);
        return;
    }
    *a = norm_load(type, p);
    *b = norm_load(type, (const char *)p + VW * (type == INVAR_F32 ? 4 : 2));
}
VEC_INLINE void norm_store_two(const int type, void *p, vf a, vf b) {
    if (type == INVAR_BF16) {
        vec_store_joined(p, vf_join(a, b));
        return;
    }
    norm_store(type, p, a);
    norm_store(type, (char *)p + VW * (type == INVAR_F32 ? 4 : 2), b);
}
VEC_INLINE void norm_store_n(const int type, void *p, vf v, int n) {
    if (type == INVAR_F32) vf_store_n(p, v, n);
    else if (type == INVAR_F16) vf_store_f16_n(p, v, n);
    else vf_store_bf16_n(p, v, n);
}

/* ---- reading --------------------------------------------------------------------------------------- */

VEC_INLINE void norm_widen_run(const int type, const bool add, float *to, const char *from, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VW <= count; i += VW) {
        vf v = norm_load(type, from + i * item);
        vf_store(to + i, add ? vf_add(vf_load(to + i), v) : v);
    }
    if (i == count) return;
    int n = norm_left(count, i);
    vf v = norm_load_n(type, from + i * item, n);
    vf_store_n(to + i, add ? vf_add(vf_load_n(to + i, n), v) : v, n);
}

/* to = from, or to += from, as floats. */
VEC_INLINE void norm_widen(const bool add, float *to, const char *from, invar_float_type type, int64_t step, int64_t count) {
    if (step != (int64_t)invar_float_size(type)) {
        for (int64_t i = 0; i < count; i++) {
            float v = (float)invar_load_float(from + i * step, type);
            to[i] = add ? to[i] + v : v;
        }
    } else if (type == INVAR_F32) norm_widen_run(INVAR_F32, add, to, from, count);
    else if (type == INVAR_F16) norm_widen_run(INVAR_F16, add, to, from, count);
    else norm_widen_run(INVAR_BF16, add, to, from, count);
}

/* How this instruction set reads the job's rows: half types in place where widening them in registers costs next to nothing. */
VEC_INLINE invar_float_type norm_format(const invar_norm_job *job) { return VEC_SPLIT ? job->format : INVAR_F32; }

/* A row in that format: in place where it stands so in memory, else widened block by block in a buffer. */
typedef struct norm_source {
    const invar_norm_operand *operand, *residual; /* residual NULL: none */
    const char *data, *residual_data;
    float *buffer;
    int64_t held; /* the first element of the block in the buffer, -1: none */
    bool direct;
} norm_source;

VEC_INLINE norm_source norm_source_of(const invar_norm_job *job, const invar_norm_walk *walk, int operand, int residual,
                                      float *buffer) {
    norm_source source = { .operand = &job->operand[operand], .data = invar_norm_row(job, walk, operand), .buffer = buffer,
                           .held = -1 };
    if (residual >= 0 && job->operand[residual].data) {
        source.residual = &job->operand[residual];
        source.residual_data = invar_norm_row(job, walk, residual);
    }
    source.direct = norm_format(job) != INVAR_F32 || (!source.residual && source.operand->type == INVAR_F32 && source.operand->step == 4);
    return source;
}

/* Elements first … first+count-1; first is a multiple of INVAR_NORM_BLOCK, count at most that where there is a buffer. */
VEC_INLINE const char *norm_block(norm_source *s, int64_t first, int64_t count) {
    if (s->direct) return s->data + first * s->operand->step;
    if (s->held != first) {
        norm_widen(false, s->buffer, s->data + first * s->operand->step, s->operand->type, s->operand->step, count);
        if (s->residual)
            norm_widen(true, s->buffer, s->residual_data + first * s->residual->step, s->residual->type, s->residual->step,
                       count);
        s->held = first;
    }
    return (const char *)s->buffer;
}

/* The block at `first`. Half types in place are one block: their split runs of 32 must not be cut. */
VEC_INLINE int64_t norm_block_count(const invar_norm_job *job, int64_t first) {
    int64_t left = job->features - first;
    return norm_format(job) != INVAR_F32 || left < INVAR_NORM_BLOCK ? left : INVAR_NORM_BLOCK;
}

/* The next row, to be fetched 32 elements at a time in step with the loops over this one: memory is then never idle. Its
 * cache lines are shared out between two loops, which take the `turn` 0 and 1. */
typedef struct norm_ahead {
    const char *data; /* NULL: nothing */
    int item;
    bool far; /* too long a row to wait in L1 */
} norm_ahead;

VEC_INLINE norm_ahead norm_ahead_of(const invar_norm_job *job, const invar_norm_walk *next, int operand, bool last) {
    enum { NEAR_BYTES = 4096 };
    const invar_norm_operand *o = &job->operand[operand];
    bool contiguous = o->data && o->step == (int64_t)invar_float_size(o->type);
    return (norm_ahead){ last || !contiguous ? NULL : o->data + next->offset[operand], (int)o->step,
                         job->features * o->step > NEAR_BYTES };
}
VEC_INLINE norm_ahead norm_ahead_from(norm_ahead ahead, int64_t first) {
    if (ahead.data) ahead.data += first * ahead.item;
    return ahead;
}
VEC_INLINE void norm_fetch_ahead(norm_ahead ahead, int64_t i, int turn) {
    if (!ahead.data) return;
    if (ahead.item == 4) vec_prefetch(ahead.data + i * 4 + 64 * turn, ahead.far);
    else if ((i / VSUM_LANES & 1) == turn) vec_prefetch(ahead.data + i * ahead.item, ahead.far);
}

/* ---- summing --------------------------------------------------------------------------------------- */

/* What a pass over a row adds up, with c = (x - mean) - shift and g = dy · w. */
enum {
    NORM_SUM,         /* Σ x */
    NORM_DEVIATION,   /* Σ (x - mean) */
    NORM_SQUARES,     /* Σ x² */
    NORM_VARIANCE,    /* Σ c² */
    NORM_RMS_GRADIENT,  /* Σ x², Σ g·x */
    NORM_LAYER_GRADIENT /* Σ c², Σ g·c, Σ g */
};

typedef struct norm_pass {
    vf lane[3][VSUM];
    vf mean, shift;
    const char *x, *dy;   /* this block's, in the job's format */
    const float *weight;
    int64_t weight_mask;  /* 0: weight is VW ones, read again and again; -1: an element each */
    norm_ahead ahead;     /* fetched in this pass */
    int ahead_turn;
} norm_pass;

VEC_INLINE void norm_step(const int kind, vf a[VSUM], vf b[VSUM], vf c[VSUM], int j, vf x, vf g) {
    switch (kind) {
    case NORM_SUM:
    case NORM_DEVIATION: a[j] = vf_add(a[j], x); break;
    case NORM_SQUARES:
    case NORM_VARIANCE: a[j] = vf_fma(x, x, a[j]); break;
    case NORM_RMS_GRADIENT:
        a[j] = vf_fma(x, x, a[j]);
        b[j] = vf_fma(g, x, b[j]);
        break;
    default:
        a[j] = vf_fma(x, x, a[j]);
        b[j] = vf_fma(g, x, b[j]);
        c[j] = vf_add(c[j], g);
    }
}

VEC_INLINE vf norm_centre(const int kind, vf x, vf mean, vf shift) {
    if (kind == NORM_DEVIATION) return vf_sub(x, mean);
    if (kind == NORM_VARIANCE || kind == NORM_LAYER_GRADIENT) return vf_sub(vf_sub(x, mean), shift);
    return x;
}

/* The lanes of a split run, back in the order of the elements. */
VEC_INLINE void norm_unsplit(vf lane[VSUM]) {
    if (VEC_SPLIT)
        FOR_LANE_PAIRS vf_zip(lane[j], lane[j + 1], &lane[j], &lane[j + 1]);
}

/* One block of a pass, of elements of `type`. The lanes live in registers during it. */
VEC_INLINE void norm_accumulate(const int kind, const int type, norm_pass *p, int64_t count) {
    const bool gradient = kind >= NORM_RMS_GRADIENT;
    const int item = type == INVAR_F32 ? 4 : 2;
    vf a[VSUM], b[VSUM], c[VSUM];
    FOR_LANES a[j] = p->lane[0][j], b[j] = p->lane[1][j], c[j] = p->lane[2][j];
    const char *x = p->x, *dy = p->dy;
    const float *weight = p->weight;
    const int64_t mask = p->weight_mask;
    const vf mean = p->mean, shift = p->shift;
    const norm_ahead ahead = p->ahead;
    vf x0, x1, g0 = vf_zero(), g1 = vf_zero();
    int64_t i = 0;
    for (; i + VSUM_LANES <= count; i += VSUM_LANES) {
        norm_fetch_ahead(ahead, i, p->ahead_turn);
        FOR_LANE_PAIRS {
            const int64_t e = i + j * VW;
            norm_load_two(type, x + e * item, &x0, &x1);
            if (gradient) {
                norm_load_two(type, dy + e * item, &g0, &g1);
                g0 = vf_mul(g0, vf_load(weight + (e & mask)));
                g1 = vf_mul(g1, vf_load(weight + ((e + VW) & mask)));
            }
            norm_step(kind, a, b, c, j, norm_centre(kind, x0, mean, shift), g0);
            norm_step(kind, a, b, c, j + 1, norm_centre(kind, x1, mean, shift), g1);
        }
    }
    if (type == INVAR_BF16) norm_unsplit(a), norm_unsplit(b), norm_unsplit(c);
    FOR_LANES { /* lanes without an element add +0, which changes no sum that began at +0 */
        const int64_t e = i + j * VW;
        int n = (int)(count - e);
        n = n < 0 ? 0 : n > VW ? VW : n;
        if (!n) continue;
        if (gradient) g0 = vf_mul(norm_load_n(type, dy + e * item, n), vf_load_n(weight + (e & mask), n));
        vf value = norm_centre(kind, norm_load_n(type, x + e * item, n), mean, shift);
        norm_step(kind, a, b, c, j, vf_select(vm_first(n), value, vf_zero()), g0);
    }
    FOR_LANES p->lane[0][j] = a[j], p->lane[1][j] = b[j], p->lane[2][j] = c[j];
}

VEC_INLINE void norm_pass_begin(norm_pass *p) {
    for (int k = 0; k < 3; k++)
        FOR_LANES p->lane[k][j] = vf_zero();
}

/* Σ / features in every lane. */
VEC_INLINE vf norm_mean_of(vf lane[VSUM], int64_t features) {
    return vf_div(vf_set1(vsum_reduce(lane)), vf_set1((float)features));
}

/* 1 / sqrt(mean of squares + eps) in every lane. */
VEC_INLINE vf norm_scale_of(vf mean_square, double eps) {
    return vf_div(vf_set1(1.0f), vf_sqrt(vf_add(mean_square, vf_set1((float)eps))));
}

/* ---- vectors of a whole call -------------------------------------------------------------------------- */

/* Whole runs of 32 elements in the order that split rows have in their vectors, and back. */
VEC_INLINE void norm_reorder(const bool split, float *to, const float *from, int64_t count) {
    vf a, b;
    for (int64_t i = 0; i + VSUM_LANES <= count; i += VSUM_LANES)
        FOR_LANE_PAIRS {
            split ? vf_unzip(vf_load(from + i + j * VW), vf_load(from + i + (j + 1) * VW), &a, &b) :
                    vf_zip(vf_load(from + i + j * VW), vf_load(from + i + (j + 1) * VW), &a, &b);
            vf_store(to + i + j * VW, a);
            vf_store(to + i + (j + 1) * VW, b);
        }
}

static const float norm_ones[VW] = {
    1, 1, 1, 1,
#if defined(__AVX2__)
    1, 1, 1, 1,
#endif
#if defined(__AVX512F__)
    1, 1, 1, 1, 1, 1, 1, 1,
#endif
};

/* ---- writing ---------------------------------------------------------------------------------------- */

/* Results are computed in place where that is a contiguous row of the job's format and stores go through the caches. Else a
 * piece at a time in L1, and go from there past the caches, to another type, or to places apart. The way through L1 costs
 * less than a twentieth of the memory traffic, and a row need not be aligned. */
enum { NORM_STAGE = 4096 }; /* bytes: 1024 floats, or as many half floats */

VEC_INLINE bool norm_needs_stage(const int format, const invar_norm_operand *out, bool stream) {
    return stream || (int)out->type != format || out->step != (format == INVAR_F32 ? 4 : 2);
}

VEC_INLINE void norm_narrow_run(const int type, char *to, const float *from, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VW <= count; i += VW) norm_store(type, to + i * item, vf_load(from + i));
    if (i < count) norm_store_n(type, to + i * item, vf_load_n(from + i, norm_left(count, i)), norm_left(count, i));
}

/* Floats stored with any type and distance between elements. */
static void norm_narrow(bool stream, char *to, invar_float_type type, int64_t step, const float *from, int64_t count) {
    if (step != (int64_t)invar_float_size(type)) {
        for (int64_t i = 0; i < count; i++) invar_store_float(to + i * step, type, from[i]);
    } else if (type == INVAR_F32 && stream) vec_stream_copy(to, (const char *)from, sizeof(float) * (size_t)count);
    else if (type == INVAR_F32) norm_narrow_run(INVAR_F32, to, from, count);
    else if (type == INVAR_F16) norm_narrow_run(INVAR_F16, to, from, count);
    else norm_narrow_run(INVAR_BF16, to, from, count);
}

/* A piece from the stage to its place. */
VEC_INLINE void norm_unstage(const int format, bool stream, char *to, const invar_norm_operand *out, const char *stage,
                             int64_t count) {
    if (format == INVAR_F32) norm_narrow(stream, to, out->type, out->step, (const float *)(const void *)stage, count);
    else vec_stream_copy(to, stage, 2 * (size_t)count);
}

#endif
