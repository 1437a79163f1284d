/* Rows of the norms in vectors: reading them as floats block by block, summing them in 32 virtual lanes, storing them.
 * Included by the norm templates alone. A parameter called const is a compile-time constant at every call, so that one text
 * serves every element type without a branch in its loops. */
#ifndef INVAR_CPU_KERNELS_NORM_ROW_H
#define INVAR_CPU_KERNELS_NORM_ROW_H

#include "cpu/kernels/norm.h"
#include "cpu/vec/stream.h"
#include "cpu/vec/vec.h"

#define FOR_LANES _Pragma("GCC unroll 8") for (int j = 0; j < VSUM; j++)

VEC_INLINE int norm_left(int64_t count, int64_t i) { return count - i < VW ? (int)(count - i) : VW; }

VEC_INLINE vf norm_load(const int type, const void *p) {
    return type == INVAR_F32 ? vf_load(p) : type == INVAR_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}
VEC_INLINE vf norm_load_n(const int type, const void *p, int n) {
    return type == INVAR_F32 ? vf_load_n(p, n) : type == INVAR_F16 ? vf_load_f16_n(p, n) : vf_load_bf16_n(p, n);
}
VEC_INLINE void norm_store(const int type, const bool stream, void *p, vf v) {
    if (type == INVAR_F32) stream ? vf_stream(p, v) : vf_store(p, v);
    else if (type == INVAR_F16) stream ? vf_stream_f16(p, v) : vf_store_f16(p, v);
    else stream ? vf_stream_bf16(p, v) : vf_store_bf16(p, v);
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

/* A row as floats: in place where it is contiguous float32 alone, else block by block in a buffer. */
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
    source.direct = !source.residual && source.operand->type == INVAR_F32 && source.operand->step == 4;
    return source;
}

/* Elements first … first+count-1; first is a multiple of INVAR_NORM_BLOCK, count at most that. */
VEC_INLINE const float *norm_block(norm_source *s, int64_t first, int64_t count) {
    if (s->direct) return (const float *)(const void *)s->data + first;
    if (s->held != first) {
        norm_widen(false, s->buffer, s->data + first * s->operand->step, s->operand->type, s->operand->step, count);
        if (s->residual)
            norm_widen(true, s->buffer, s->residual_data + first * s->residual->step, s->residual->type, s->residual->step,
                       count);
        s->held = first;
    }
    return s->buffer;
}

VEC_INLINE int64_t norm_block_count(int64_t features, int64_t first) {
    return features - first < INVAR_NORM_BLOCK ? features - first : INVAR_NORM_BLOCK;
}

/* The next row, to be fetched while this one is written: 32 elements at a time, in step with the loop that writes. */
typedef struct norm_ahead {
    const char *data; /* NULL: nothing */
    int item;
} norm_ahead;

VEC_INLINE norm_ahead norm_ahead_of(const invar_norm_job *job, const invar_norm_walk *next, int operand, bool last) {
    const invar_norm_operand *o = &job->operand[operand];
    bool contiguous = o->data && o->step == (int64_t)invar_float_size(o->type);
    return (norm_ahead){ last || !contiguous ? NULL : o->data + next->offset[operand], (int)o->step };
}
VEC_INLINE void norm_fetch_ahead(norm_ahead ahead, int64_t i) {
    if (!ahead.data) return;
    vec_prefetch(ahead.data + i * ahead.item);
    if (ahead.item == 4) vec_prefetch(ahead.data + i * 4 + 64);
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
    const float *x, *dy, *weight; /* this block's */
    int64_t weight_mask;          /* 0: weight is VW ones, read again and again; -1: an element each */
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

/* One block of a pass. The lanes live in registers during it. */
VEC_INLINE void norm_accumulate(const int kind, norm_pass *p, int64_t count) {
    const bool gradient = kind >= NORM_RMS_GRADIENT;
    vf a[VSUM], b[VSUM], c[VSUM];
    FOR_LANES a[j] = p->lane[0][j], b[j] = p->lane[1][j], c[j] = p->lane[2][j];
    const float *x = p->x, *dy = p->dy, *weight = p->weight;
    const int64_t mask = p->weight_mask;
    const vf mean = p->mean, shift = p->shift;
    vf g = vf_zero();
    int64_t i = 0;
    for (; i + VSUM_LANES <= count; i += VSUM_LANES)
        FOR_LANES {
            if (gradient) g = vf_mul(vf_load(dy + i + j * VW), vf_load(weight + ((i + j * VW) & mask)));
            norm_step(kind, a, b, c, j, norm_centre(kind, vf_load(x + i + j * VW), mean, shift), g);
        }
    FOR_LANES { /* lanes without an element add +0, which changes no sum that began at +0 */
        int n = (int)(count - i) - j * VW;
        n = n < 0 ? 0 : n > VW ? VW : n;
        if (!n) continue;
        if (gradient) g = vf_mul(vf_load_n(dy + i + j * VW, n), vf_load_n(weight + ((i + j * VW) & mask), n));
        vf value = norm_centre(kind, vf_load_n(x + i + j * VW, n), mean, shift);
        norm_step(kind, a, b, c, j, vf_select(vm_first(n), value, vf_zero()), g);
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

/* ---- weights ---------------------------------------------------------------------------------------- */

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

/* Elements to store singly until the address is a multiple of a vector's bytes. */
VEC_INLINE int norm_head(const int type, const char *to, int64_t count) {
    const unsigned item = type == INVAR_F32 ? 4 : 2, bytes = VW * item;
    int64_t head = (int64_t)((bytes - (unsigned)((uintptr_t)to % bytes)) % bytes / item);
    return (int)(head < count ? head : count);
}

/* A run of floats stored with another element type or stride. */
VEC_INLINE void norm_narrow_run(const int type, const bool stream, char *to, const float *from, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    int64_t i = stream ? norm_head(type, to, count) : 0;
    if (i) norm_store_n(type, to, vf_load_n(from, (int)i), (int)i);
    for (; i + VW <= count; i += VW) norm_store(type, stream, to + i * item, vf_load(from + i));
    if (i < count) norm_store_n(type, to + i * item, vf_load_n(from + i, norm_left(count, i)), norm_left(count, i));
}

static void norm_scatter(char *to, invar_float_type type, int64_t step, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i++) invar_store_float(to + i * step, type, from[i]);
}

VEC_INLINE void norm_narrow(const bool stream, char *to, invar_float_type type, int64_t step, const float *from, int64_t count) {
    if (step != (int64_t)invar_float_size(type)) norm_scatter(to, type, step, from, count);
    else if (type == INVAR_F32) norm_narrow_run(INVAR_F32, stream, to, from, count);
    else if (type == INVAR_F16) norm_narrow_run(INVAR_F16, stream, to, from, count);
    else norm_narrow_run(INVAR_BF16, stream, to, from, count);
}

#endif
