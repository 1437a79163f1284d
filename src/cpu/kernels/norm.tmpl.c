/* rms_norm, add_rms_norm and layer_norm, forward, on one instruction set.
 *
 *   rms_norm:   r = 1 / sqrt(Σx² / D + eps), y = (x · r) · w                                (Zhang & Sennrich, 2019)
 *   layer_norm: c = (x - m) - δ, r = 1 / sqrt(Σc² / D + eps), y = fma(c · r, w, b)          (Ba et al., 2016)
 *
 * A row is read from memory once: the passes after the first find it in a cache, and while it is written the next one is
 * fetched. Half types are widened into a buffer in the first pass. */
#include "cpu/kernels/norm_row.h"

typedef struct row_norm {
    vf mean, shift, scale;
    const float *weight, *bias;
    int64_t weight_mask; /* as in norm_pass */
} row_norm;

VEC_INLINE void run_pass(const int kind, norm_pass *pass, norm_source *x, int64_t features) {
    norm_pass_begin(pass);
    for (int64_t first = 0; first < features; first += INVAR_NORM_BLOCK) {
        int64_t count = norm_block_count(features, first);
        pass->x = norm_block(x, first, count);
        norm_accumulate(kind, pass, count);
    }
}

VEC_INLINE void measure(const bool centred, row_norm *row, const invar_norm_job *job, norm_source *x) {
    const int64_t features = job->features;
    norm_pass pass;
    if (centred) {
        run_pass(NORM_SUM, &pass, x, features);
        row->mean = pass.mean = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_DEVIATION, &pass, x, features);
        row->shift = pass.shift = norm_mean_of(pass.lane[0], features);
        run_pass(NORM_VARIANCE, &pass, x, features);
    } else {
        pass.mean = pass.shift = vf_zero();
        run_pass(NORM_SQUARES, &pass, x, features);
    }
    row->scale = norm_scale_of(norm_mean_of(pass.lane[0], features), job->eps);
}

VEC_INLINE vf normalise(const bool centred, const bool biased, const row_norm *row, vf x, vf weight, vf bias) {
    vf c = centred ? vf_sub(vf_sub(x, row->mean), row->shift) : x;
    vf scaled = vf_mul(c, row->scale);
    return biased ? vf_fma(scaled, weight, bias) : vf_mul(scaled, weight);
}

VEC_INLINE vf normalise_at(const bool centred, const bool biased, const row_norm *row, const float *x, int64_t i) {
    return normalise(centred, biased, row, vf_load(x + i), vf_load(row->weight + (i & row->weight_mask)),
                     biased ? vf_load(row->bias + i) : vf_zero());
}

VEC_INLINE vf normalise_n(const bool centred, const bool biased, const row_norm *row, const float *x, int64_t i, int n) {
    return normalise(centred, biased, row, vf_load_n(x + i, n), vf_load_n(row->weight + (i & row->weight_mask), n),
                     biased ? vf_load_n(row->bias + i, n) : vf_zero());
}

VEC_INLINE void write_run(const int type, const bool centred, const bool biased, const bool stream, char *y,
                          const row_norm *block, const float *x, int64_t count, norm_ahead ahead) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const row_norm row = *block;
    int64_t i = stream ? norm_head(type, y, count) : 0;
    if (i) norm_store_n(type, y, normalise_n(centred, biased, &row, x, 0, (int)i), (int)i);
    for (; i + VSUM_LANES <= count; i += VSUM_LANES) {
        norm_fetch_ahead(ahead, i);
        FOR_LANES norm_store(type, stream, y + (i + j * VW) * item, normalise_at(centred, biased, &row, x, i + j * VW));
    }
    for (; i < count; i += VW) {
        int n = norm_left(count, i);
        norm_store_n(type, y + i * item, normalise_n(centred, biased, &row, x, i, n), n);
    }
}

VEC_INLINE void write_biased(const int type, const bool centred, const bool stream, char *y, const row_norm *row,
                             const float *x, int64_t count, norm_ahead ahead) {
    if (centred && row->bias) write_run(type, centred, centred, stream, y, row, x, count, ahead);
    else write_run(type, centred, false, stream, y, row, x, count, ahead);
}

VEC_INLINE void write_typed(const int type, const bool centred, bool stream, char *y, const row_norm *row, const float *x,
                            int64_t count, norm_ahead ahead) {
    if (stream) write_biased(type, centred, true, y, row, x, count, ahead);
    else write_biased(type, centred, false, y, row, x, count, ahead);
}

/* Features that do not stand together are computed a piece at a time, then stored singly. */
VEC_INLINE void write_scattered(const bool centred, char *y, const invar_norm_operand *out, const row_norm *row,
                                const float *x, int64_t count) {
    enum { PIECE = 256 };
    float piece[PIECE];
    row_norm part = *row;
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t n = count - i < PIECE ? count - i : PIECE;
        part.weight = row->weight + (i & row->weight_mask);
        part.bias = row->bias ? row->bias + i : NULL;
        write_biased(INVAR_F32, centred, false, (char *)piece, &part, x + i, n, (norm_ahead){ NULL, 0 });
        norm_scatter(y + i * out->step, out->type, out->step, piece, n);
    }
}

/* One block of a row: y, and the sum of an add_rms_norm, from x as floats. */
VEC_INLINE void write_block(const bool centred, const invar_norm_job *job, const invar_norm_walk *walk, const row_norm *row,
                            const float *x, int64_t first, int64_t count, norm_ahead ahead) {
    const invar_norm_operand *out = &job->operand[INVAR_NORM_Y], *sum = &job->operand[INVAR_NORM_SUM];
    char *y = invar_norm_row(job, walk, INVAR_NORM_Y) + first * out->step;
    row_norm block = *row;
    block.weight += first & row->weight_mask;
    if (block.bias) block.bias += first;
    if (ahead.data) ahead.data += first * ahead.item;
    if (!centred && sum->data)
        norm_narrow(job->stream, invar_norm_row(job, walk, INVAR_NORM_SUM) + first * sum->step, sum->type, sum->step, x, count);
    if (out->step != (int64_t)invar_float_size(out->type)) write_scattered(centred, y, out, &block, x, count);
    else if (out->type == INVAR_F32) write_typed(INVAR_F32, centred, job->stream, y, &block, x, count, ahead);
    else if (out->type == INVAR_F16) write_typed(INVAR_F16, centred, job->stream, y, &block, x, count, ahead);
    else write_typed(INVAR_BF16, centred, job->stream, y, &block, x, count, ahead);
}

VEC_INLINE void norm_rows(const bool centred, const invar_norm_job *job, int64_t first_row, int64_t rows, float *scratch) {
    row_norm row = { .weight = job->weight ? job->weight : norm_ones, .bias = job->bias, .weight_mask = job->weight ? -1 : 0 };
    invar_norm_walk walk, next;
    invar_norm_walk_to(&next, job, first_row);
    for (int64_t r = 0; r < rows; r++) {
        walk = next;
        invar_norm_walk_next(&next, job);
        norm_source x = norm_source_of(job, &walk, INVAR_NORM_X, centred ? -1 : INVAR_NORM_RESIDUAL, scratch);
        measure(centred, &row, job, &x);
        norm_ahead ahead = norm_ahead_of(job, &next, INVAR_NORM_X, r + 1 == rows);
        for (int64_t first = 0; first < job->features; first += INVAR_NORM_BLOCK) {
            int64_t count = norm_block_count(job->features, first);
            write_block(centred, job, &walk, &row, norm_block(&x, first, count), first, count, ahead);
        }
    }
    if (job->stream) vec_stream_end();
}

invar_norm_kernel INVAR_KERNEL_NAME(rms_norm), INVAR_KERNEL_NAME(layer_norm);
invar_norm_widen_kernel INVAR_KERNEL_NAME(norm_widen);

void INVAR_KERNEL_NAME(rms_norm)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    norm_rows(false, job, first, count, scratch);
}

void INVAR_KERNEL_NAME(layer_norm)(const invar_norm_job *job, int64_t first, int64_t count, void *scratch) {
    norm_rows(true, job, first, count, scratch);
}

const void *INVAR_KERNEL_NAME(norm_widen)(void *scratch, const char *data, invar_float_type type, int64_t step, int64_t count) {
    if (type == INVAR_F32 && step == 4) return data;
    norm_widen(false, scratch, data, type, step, count);
    return scratch;
}
