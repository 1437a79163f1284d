/* Rows of the norms in vectors: reading them as floats block by block, summing them in 32 virtual lanes, storing them.
 * Included by the norm templates alone. A parameter called const is a compile-time constant at every call, so that one text
 * serves every element type without a branch in its loops. */
#ifndef INVAR_CPU_KERNELS_NORM_ROW_H
#define INVAR_CPU_KERNELS_NORM_ROW_H

#include "cpu/kernels/norm.h"
#include "cpu/vec/stream.h"
#include "cpu/vec/typed.h"
#include "cpu/vec/vec.h"

#define FOR_LANES _Pragma("GCC unroll 8") for (int j = 0; j < VSUM; j++)

VEC_INLINE int norm_left(int64_t count, int64_t i) { return count - i < VW ? (int)(count - i) : VW; }

/* Two vectors of a row, as vf_store_two_as stores them, past the caches, at `at` bytes of it. */
VEC_INLINE void norm_push_two(const int type, vec_flow *flow, int64_t at, vf a, vf b) {
    if (type == INVAR_BF16) vec_flow_push(flow, at, vec_joined_bits(vf_join_split(a, b)));
    else if (type == INVAR_F16) vec_flow_push(flow, at, vf_join_f16_bits(a, b));
    else vec_flow_push(flow, at, a), vec_flow_push(flow, at + VEC_BYTES, b);
}
/* The elements of a row that are loaded two vectors at a time. */
VEC_INLINE int64_t norm_whole(const int type, int64_t count) {
    return count - count % (type == INVAR_BF16 ? VSUM_LANES : 2 * VW);
}

/* vf_join_split's NaNs: one of float32 weights may have all bits set, as CUDA's do, and would round to a zero. */
VEC_INLINE vf plain_nan(vf v) { return vf_select(vf_eq(v, v), v, vf_set1(__builtin_nanf(""))); }

/* Whole runs of floats, weights or partial sums, to the order in which two vectors of bfloat16 are loaded, or back. */
VEC_INLINE void norm_reorder(const bool back, float *to, int64_t count) {
    for (int64_t i = 0; i < norm_whole(INVAR_BF16, count); i += 2 * VW) {
        vf a = vf_load(to + i), b = vf_load(to + i + VW);
        if (back) vf_zip(a, b, &a, &b);
        else vf_unzip(plain_nan(a), plain_nan(b), &a, &b);
        vf_store(to + i, a);
        vf_store(to + i + VW, b);
    }
}

/* ---- reading --------------------------------------------------------------------------------------- */

VEC_INLINE void norm_widen_run(const int type, const bool add, float *to, const char *from, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VW <= count; i += VW) {
        vf v = vf_load_as(type, from + i * item);
        vf_store(to + i, add ? vf_add(vf_load(to + i), v) : v);
    }
    if (i == count) return;
    int n = norm_left(count, i);
    vf v = vf_load_as_n(type, from + i * item, n);
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

/* A kernel, from rows_of(centred, type, job, first, rows, scratch). Each type is a function of its own: where one holds
 * all of them the compiler keeps pointers and vectors of the inner loops on the stack, which took layer_norm's VJP 5 to 20 %
 * longer. */
#define NORM_KERNEL_OF_(name, rows_of, centred, type) \
    static __attribute__((noinline)) void name(const invar_norm_job *job, int64_t first, int64_t rows, void *scratch) { \
        rows_of(centred, type, job, first, rows, scratch); \
    }
#define NORM_KERNEL(name, rows_of, centred) \
    NORM_KERNEL_OF_(INVAR_KERNEL_NAME(name##_f32), rows_of, centred, INVAR_F32) \
    NORM_KERNEL_OF_(INVAR_KERNEL_NAME(name##_f16), rows_of, centred, INVAR_F16) \
    NORM_KERNEL_OF_(INVAR_KERNEL_NAME(name##_bf16), rows_of, centred, INVAR_BF16) \
    void INVAR_KERNEL_NAME(name)(const invar_norm_job *job, int64_t first, int64_t rows, void *scratch) { \
        const invar_float_type format = norm_format(job); \
        if (format == INVAR_F32) INVAR_KERNEL_NAME(name##_f32)(job, first, rows, scratch); \
        else if (format == INVAR_F16) INVAR_KERNEL_NAME(name##_f16)(job, first, rows, scratch); \
        else INVAR_KERNEL_NAME(name##_bf16)(job, first, rows, scratch); \
    }

/* Rows that are taken together where they are read in place: the reductions at the end of a pass, chains of some 50 cycles, then
 * overlap. They are read one after the other, and are few: what is read and written in turns of 2 to 4 KiB moves nearly
 * twice as fast as in turns of 16, or from four places at once (measured on Zen 4). */
enum { NORM_ROWS = 4, NORM_ROWS_BYTES = 4096 };
#define FOR_ROWS _Pragma("GCC unroll 1") for (int r = 0; r < rows; r++)

/* A row in that format: in place where it stands so in memory, else widened block by block in a buffer. */
typedef struct norm_source {
    const invar_norm_operand *operand, *residual; /* residual NULL: none */
    const char *data, *residual_data;
    float *buffer;
    int64_t held; /* the first element of the block in the buffer, -1: none */
    bool direct;
} norm_source;

VEC_INLINE int norm_rows_together(const invar_norm_job *job, const int type, bool direct) {
    const int64_t rows = NORM_ROWS_BYTES / (job->features * (type == INVAR_F32 ? 4 : 2));
    return !direct || rows < 1 ? 1 : rows > NORM_ROWS ? NORM_ROWS : (int)rows;
}

VEC_INLINE bool norm_in_place(const int type, const invar_norm_job *job, int operand) {
    const invar_norm_operand *o = &job->operand[operand];
    return type != INVAR_F32 || (o->type == INVAR_F32 && o->step == 4);
}

/* Where a row stands in every operand. */
typedef struct norm_place {
    char *row[INVAR_NORM_OPERANDS];
} norm_place;

/* The row at `walk`, which moves on. */
VEC_INLINE norm_place norm_place_of(const invar_norm_job *job, invar_norm_walk *walk) {
    norm_place place;
    _Pragma("GCC unroll 4") for (int o = 0; o < INVAR_NORM_OPERANDS; o++) place.row[o] = invar_norm_row(job, walk, o);
    invar_norm_walk_next(walk, job);
    return place;
}

/* The next rows to be taken, `left` at most; where there are none, coming stays as it is. */
VEC_INLINE void norm_come(const invar_norm_job *job, invar_norm_walk *walk, norm_place *coming, const int rows, int64_t left) {
    for (int r = 0; r < rows && r < left; r++) coming[r] = norm_place_of(job, walk);
}

/* residual < 0: none. */
VEC_INLINE norm_source norm_source_of(const int type, const invar_norm_job *job, const norm_place *place, const int operand,
                                      const int residual, float *buffer) {
    norm_source source = { .operand = &job->operand[operand], .data = place->row[operand], .buffer = buffer, .held = -1 };
    if (residual >= 0 && place->row[residual]) {
        source.residual = &job->operand[residual];
        source.residual_data = place->row[residual];
    }
    source.direct = norm_in_place(type, job, operand) && !source.residual;
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
VEC_INLINE int64_t norm_block_count(const int type, const invar_norm_job *job, int64_t first) {
    int64_t left = job->features - first;
    return type != INVAR_F32 || left < INVAR_NORM_BLOCK ? left : INVAR_NORM_BLOCK;
}

/* The row that comes after this one, fetched in step with the loops over this one, so that memory is never idle; where there is
 * none, this one. */
typedef struct norm_ahead {
    const char *row;
    bool far; /* no nearer than L2 */
} norm_ahead;

/* Of the block at `first`. */
VEC_INLINE norm_ahead norm_ahead_of(const norm_source *row, const norm_place *next, const int operand, int64_t first, bool far) {
    return (norm_ahead){ row->direct ? next->row[operand] + first * row->operand->step : (const char *)row->buffer, far };
}
VEC_INLINE void norm_fetch(const norm_ahead *ahead, int64_t at, const int bytes) {
    _Pragma("GCC unroll 4") for (int k = 0; k < bytes; k += VEC_LINE) vec_prefetch(ahead->row + at + k, ahead->far);
}

/* ---- summing --------------------------------------------------------------------------------------- */

/* What a pass over a row adds up, with u = x - origin and g = dy · w. */
enum {
    NORM_OFFSET,        /* Σ u */
    NORM_SQUARES,       /* Σ x² */
    NORM_VARIANCE,      /* Σ u², Σ u */
    NORM_RMS_GRADIENT,  /* Σ x², Σ g·x */
    NORM_NEAR_GRADIENT, /* Σ x², Σ x, Σ g·x, Σ g */
    NORM_LAYER_GRADIENT /* Σ u², Σ u, Σ g·u, Σ g */
};
VEC_INLINE bool norm_centred(const int kind) {
    return kind == NORM_OFFSET || kind == NORM_VARIANCE || kind == NORM_LAYER_GRADIENT;
}
VEC_INLINE int norm_sums(const int kind) {
    return kind >= NORM_NEAR_GRADIENT ? 4 : kind == NORM_VARIANCE || kind == NORM_RMS_GRADIENT ? 2 : 1;
}

typedef struct norm_pass {
    vf lane[4][VSUM];
    vf origin;
    const char *x, *dy;  /* this block's, in the job's format */
    const float *weight;
    int64_t weight_mask; /* 0: weight is VW ones, read again and again; -1: an element each */
    norm_ahead ahead;    /* fetched in this pass */
} norm_pass;

VEC_INLINE void norm_step(const int kind, vf lane[4][VSUM], int j, vf u, vf g) {
    if (kind == NORM_OFFSET) {
        lane[0][j] = vf_add(lane[0][j], u);
        return;
    }
    lane[0][j] = vf_fma(u, u, lane[0][j]);
    if (kind == NORM_VARIANCE || kind >= NORM_NEAR_GRADIENT) lane[1][j] = vf_add(lane[1][j], u);
    if (kind == NORM_RMS_GRADIENT) lane[1][j] = vf_fma(g, u, lane[1][j]);
    if (kind >= NORM_NEAR_GRADIENT) lane[2][j] = vf_fma(g, u, lane[2][j]), lane[3][j] = vf_add(lane[3][j], g);
}

/* The subtractions are shared out so that adders and multiply-adders are as busy. `odd`: of two neighbours, the second. */
VEC_INLINE vf norm_centre(const int kind, const bool odd, vf x, vf origin) {
    if (!norm_centred(kind)) return x;
    return kind == NORM_OFFSET || (kind == NORM_VARIANCE && odd) ? vf_sub_by_fma(x, origin) : vf_sub(x, origin);
}

/* The lanes of a split run, back in the order of the elements. */
VEC_INLINE void norm_unsplit(vf *lane, const int count) {
    if (VEC_SPLIT)
        _Pragma("GCC unroll 4") for (int j = 0; j < count; j += 2) vf_zip(lane[j], lane[j + 1], &lane[j], &lane[j + 1]);
}

/* What is left of a row behind its runs of 32. Lanes without an element add +0, which changes no sum that began at +0. */
VEC_INLINE void norm_sweep_tail(const int kind, const int type, vf lane[4][VSUM], const int first, const int width,
                                const norm_pass *p, int64_t i, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    _Pragma("GCC unroll 8") for (int j = first; j < first + width; j++) {
        if (i + j * VW >= count) break;
        const int64_t e = i + j * VW;
        const int n = norm_left(count, e);
        vf g = vf_zero(), x = norm_centre(kind, false, vf_load_as_n(type, p->x + e * item, n), p->origin);
        if (kind >= NORM_RMS_GRADIENT)
            g = vf_mul(vf_load_as_n(type, p->dy + e * item, n), vf_load_n(p->weight + (e & p->weight_mask), n));
        norm_step(kind, lane, j, vf_select(vm_first(n), x, vf_zero()), g);
    }
}

/* Vectors first … first+width-1 of the lanes, over one block; they live in registers. */
VEC_INLINE void norm_sweep(const int kind, const int type, const bool fetches, const int first, const int width, norm_pass *p,
                           int64_t count) {
    const bool gradient = kind >= NORM_RMS_GRADIENT;
    const int item = type == INVAR_F32 ? 4 : 2, sums = norm_sums(kind);
    const char *px = p->x, *pdy = p->dy;
    const float *weight = p->weight;
    vf origin = p->origin;
    VEC_KEEP_(origin);
    const int64_t mask = p->weight_mask, whole = count - count % VSUM_LANES;
    norm_ahead ahead = { NULL, false };
    if (fetches) ahead = (norm_ahead){ p->ahead.row + whole / VSUM * first * item, p->ahead.far }; /* this sweep's part */
    vf lane[4][VSUM], x0, x1, g0 = vf_zero(), g1 = g0;
    for (int k = 0; k < sums; k++)
        for (int j = first; j < first + width; j++) lane[k][j] = p->lane[k][j];
    for (int64_t i = 0; i < whole; i += VSUM_LANES) {
        if (fetches) norm_fetch(&ahead, i / VSUM * width * item, width * VW * item);
        _Pragma("GCC unroll 4") for (int j = first; j < first + width; j += 2) {
            const int64_t e = i + j * VW;
            vf_load_two_as(type, px + e * item, &x0, &x1);
            if (gradient) {
                vf_load_two_as(type, pdy + e * item, &g0, &g1);
                g0 = vf_mul(g0, vf_load(weight + (e & mask))), g1 = vf_mul(g1, vf_load(weight + ((e + VW) & mask)));
            }
            norm_step(kind, lane, j, norm_centre(kind, false, x0, origin), g0);
            norm_step(kind, lane, j + 1, norm_centre(kind, true, x1, origin), g1);
        }
    }
    if (type == INVAR_BF16)
        for (int k = 0; k < sums; k++) norm_unsplit(&lane[k][first], width);
    norm_sweep_tail(kind, type, lane, first, width, p, whole, count);
    for (int k = 0; k < sums; k++)
        for (int j = first; j < first + width; j++) p->lane[k][j] = lane[k][j];
}

/* One block of a pass, of elements of `type`; in several sweeps, of a part of the lanes each, where registers are too few
 * for all. */
VEC_INLINE void norm_accumulate(const int kind, const int type, const bool fetches, norm_pass *p, int64_t count) {
    const int all = norm_sums(kind) * VSUM;
    const int width = all < VEC_REGISTERS ? VSUM : all / 2 < VEC_REGISTERS ? VSUM / 2 : VSUM / 4;
    for (int first = 0; first < VSUM; first += width) norm_sweep(kind, type, fetches, first, width, p, count);
}

VEC_INLINE void norm_pass_begin(const int kind, norm_pass *p) {
    for (int k = 0; k < norm_sums(kind); k++)
        FOR_LANES p->lane[k][j] = vf_zero();
}

/* 1 / sqrt(mean + eps). Divisions and roots are those of scalars: a vector's take several times as long. */
VEC_INLINE float norm_scale_of(float mean, double eps) { return 1.0f / sf_sqrt(mean + (float)eps); }

/* A row's element 0. */
VEC_INLINE float norm_first(const int type, const invar_norm_job *job, norm_source *x) {
    return (float)invar_load_float(norm_block(x, 0, norm_block_count(type, job, 0)), (invar_float_type)type);
}

/* What layer_norm's passes leave of a row, whose mean is origin + δ. */
typedef struct norm_moments {
    float shift, scale, level; /* δ, r, -δ · r */
} norm_moments;

/* The elements whose mean the others are counted from: a sixteenth of the row, in whole runs. Their mean lies within four
 * deviations of the row's, so that the difference which gives the variance loses at most 4 bits. */
VEC_INLINE int64_t norm_head(int64_t features) {
    return features < VSUM_LANES ? features : (features / 16 + VSUM_LANES - 1) / VSUM_LANES * VSUM_LANES;
}
VEC_INLINE float norm_mean_from(float first, vf lane[VSUM], int64_t features) {
    return first + vsum_reduce(lane) / (float)norm_head(features);
}

/* Of Σ u² and Σ u. */
VEC_INLINE norm_moments norm_moments_of(vf squares[VSUM], vf sum[VSUM], int64_t features, double eps) {
    const float left = vsum_reduce(sum), shift = left / (float)features;
    const float variance = sf_fma(-shift, left, vsum_reduce(squares)) / (float)features;
    const float scale = norm_scale_of(variance, eps);
    return (norm_moments){ shift, scale, -(shift * scale) };
}

/* In place of a weight that is absent. */
static const float norm_ones[16] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };

/* ---- writing ---------------------------------------------------------------------------------------- */

/* Results go from the registers to a contiguous row of the job's format; past the caches, turned to its vectors (vec_flow). Other
 * outputs are computed a piece at a time in a stage in L1, and go from there to another type, to places apart, or past the
 * caches. */
enum { NORM_PIECE = 1024, NORM_STAGE = 4 * NORM_PIECE }; /* elements; bytes */
typedef struct norm_stage {
    _Alignas(64) char before[VEC_LINE], bytes[NORM_STAGE]; /* as vec_stream wants it */
} norm_stage;

VEC_INLINE bool norm_streams(const invar_norm_job *job) { return VEC_STREAMS && job->stream; }

VEC_INLINE bool norm_needs_stage(const int format, const invar_norm_operand *out) {
    return (int)out->type != format || out->step != (format == INVAR_F32 ? 4 : 2);
}

/* Past the caches from the registers: rows of two lines or more that begin at multiples of 4 bytes. */
VEC_INLINE bool norm_streams_rows(const int format, const invar_norm_job *job) {
    const invar_norm_operand *out = &job->operand[INVAR_NORM_Y];
    uintptr_t odd = (uintptr_t)out->data;
    for (int d = 0; d < job->ndim; d++) odd |= (uintptr_t)out->stride[d];
    return norm_streams(job) && !norm_needs_stage(format, out) && job->features * out->step >= 2 * VEC_LINE && odd % 4 == 0;
}

/* Floats as halves; `to` may be exactly `from`. */
VEC_INLINE void norm_narrow_run(const int type, char *to, const char *from, int64_t count) {
    const int item = type == INVAR_F32 ? 4 : 2;
    int64_t i = 0;
    for (; i + VW <= count; i += VW) vf_store_as(type, to + i * item, vf_load_as(INVAR_F32, from + i * 4));
    const int n = norm_left(count, i);
    if (n) vf_store_as_n(type, to + i * item, vf_load_as_n(INVAR_F32, from + i * 4, n), n);
}

/* Floats stored with any type and distance between elements. */
static void norm_narrow(char *to, invar_float_type type, int64_t step, const float *from, int64_t count) {
    const char *floats = (const char *)from;
    if (step != (int64_t)invar_float_size(type)) {
        for (int64_t i = 0; i < count; i++) invar_store_float(to + i * step, type, from[i]);
    } else if (type == INVAR_F32) norm_narrow_run(INVAR_F32, to, floats, count);
    else if (type == INVAR_F16) norm_narrow_run(INVAR_F16, to, floats, count);
    else norm_narrow_run(INVAR_BF16, to, floats, count);
}

/* `count` floats, or elements of a half format, to their place: from the stage of `stream`, or for floats from anywhere. What
 * follows will come through the stage `next`. */
VEC_INLINE void norm_emit(const int format, const invar_norm_job *job, vec_stream *stream, norm_stage *next, const char *from,
                          char *to, const invar_norm_operand *out, int64_t count) {
    const float *floats = (const float *)(const void *)from;
    const int64_t item = (int64_t)invar_float_size(out->type);
    if (!norm_streams(job) || out->step != item) {
        norm_narrow(to, out->type, out->step, floats, count);
        return;
    }
    if (format == INVAR_F32 && (out->type != INVAR_F32 || from != stream->stage))
        norm_narrow(stream->stage, out->type, item, floats, count);
    vec_stream_put(stream, to, (size_t)(count * item), next->bytes);
}

#endif
