/* What the programs of attention's VJP share: heads of operands, and which queries meet which keys.
 *
 * The gradients are formed by two programs' blocks: one holds queries and walks over keys for dq, one holds keys and walks over
 * queries for dk and dv (BY_KEYS: 0 or 1). What a block holds is called near, what it walks over far. Weights are recomputed from
 * lse (Dao et al., 2022). With each score computed twice that is seven products where five would do, but no block waits for
 * another or adds to what another wrote. */
#ifndef INVAR_ATTENTION_VJP_CUH
#define INVAR_ATTENTION_VJP_CUH
#include "attention.cuh"
#include "attention_vjp_job.h"

/* lse of a row that sees nothing, as rows hold it: its weights are 0. So it is below LEAST_LSE, where finite numbers hide all keys:
 * there what lse and logits are rounded by would be factors of their own in weights, up to infinity. */
#define SEES_NOTHING 3.402823466e38f
#define LEAST_LSE -16777216.0f

__device__ __forceinline__ float read_float(const char *p, int kind) {
    if (kind == INVAR_CUDA_F32) return *(const float *)p;
    return kind == INVAR_CUDA_F16 ? widen(*(const half16 *)p) : widen(*(const bfloat16 *)p);
}

/* First element of a head. Batches are fewer than 2^31 here: a division of 64 bits is a function, and its call would spill. */
__device__ __forceinline__ char *head_of(const invar_cuda_attention &of, const invar_cuda_operand &x, long long batch, int head) {
    char *p = x.data + head * x.head_stride;
    unsigned rest = (unsigned)batch;
    if (of.batch_ndim <= 1) return p + batch * x.batch_stride[0];
    for (int d = of.batch_ndim - 1; d >= 0; d--) {
        const unsigned size = (unsigned)of.batch_shape[d];
        p += rest % size * x.batch_stride[d];
        rest /= size;
    }
    return p;
}

/* A query's lse and delta. */
__device__ __forceinline__ const float2 *rows_of(const invar_cuda_attention_vjp_job &job, long long batch, int head) {
    return (const float2 *)job.rows + (batch * job.of.query_heads + head) * job.of.query_len;
}

/* Whether the query sees the key; *added: what an additive mask adds to its logit. mask: of the query's head. */
__device__ __forceinline__ bool sees(const invar_cuda_attention &of, const char *mask, key_range range, int query, int key,
                                     float *added) {
    *added = 0.0f;
    if (query >= of.query_len || key < range.first || key >= range.last) return false;
#if MASK_KIND >= 0
    const float value = read_number(mask + query * of.mask.row_stride + key * of.mask.column_stride, MASK_KIND);
    if (!ADDITIVE) return value != 0.0f;
    *added = value;
    return value != MINUS_INFINITY;
#else
    return true;
#endif
}

__device__ __forceinline__ const char *mask_of(const invar_cuda_attention &of, long long batch, int head) {
    return MASK_KIND < 0 ? 0 : head_of(of, of.mask, batch, head);
}

/* One pair: its weight, and the gradient of q · k less its scale; row: lse and delta. */
__device__ __forceinline__ float2 weigh_pair(const invar_cuda_attention &of, float s, float d, float2 row, float added) {
#if SOFTCAP
    const float bend = tanhf(s * of.cap_scale), slope = fmaf(-bend, bend, 1.0f);
    float exponent = fmaf(of.cap_height, bend, -row.x);
#else
    const float slope = 1.0f;
    float exponent = fmaf(s, of.score_scale, -row.x);
#endif
    if (ADDITIVE) exponent = fmaf(added, LOG2E, exponent);
    const float weight = exp2f(exponent);
    return float2{ weight, weight * (d - row.y) * slope };
}

#ifdef BY_KEYS
/* Of the near rows and of the far ones: what scores are products of (K), and what their weights' gradients are (V). */
#if BY_KEYS
#define NEAR_K of.k
#define NEAR_V of.v
#define FAR_K of.q
#define FAR_V job.dout
#else
#define NEAR_K of.q
#define NEAR_V job.dout
#define FAR_K of.k
#define FAR_V of.v
#endif

/* A block's share: near rows first … last-1 of a head, which is a kv head where they are keys. */
struct share_near {
    long long batch;
    int head, first, last, length;
};
__device__ __forceinline__ share_near share_of(const invar_cuda_attention_vjp_job &job, int rows) {
    const invar_cuda_attention &of = job.of;
    const unsigned heads = (unsigned)(BY_KEYS ? of.kv_heads : of.query_heads);
    const unsigned tiles = (unsigned)(BY_KEYS ? job.key_tiles : job.query_tiles), units = (unsigned)job.batches * heads;
    const unsigned section = (unsigned)job.section < units ? job.section : units, first = blockIdx.x / (section * tiles) * section;
    const unsigned here = units - first < section ? units - first : section, rest = blockIdx.x - first * tiles;
    const unsigned unit = first + rest % here;
    unsigned tile = rest / here;
    if (!BY_KEYS) tile = tiles - 1 - tile;
    share_near at;
    at.batch = job.batch_first + unit / heads;
    at.head = (int)(unit % heads);
    at.first = (int)tile * rows;
    at.last = at.first + rows < (BY_KEYS ? of.key_len : of.query_len) ? at.first + rows : BY_KEYS ? of.key_len : of.query_len;
    at.length = length_of(of, at.batch);
    return at;
}

/* Whether a near row is left to the other program of float32. */
__device__ __forceinline__ char *again_of(const invar_cuda_attention_vjp_job &job, const share_near &at, int row) {
    const long long heads = BY_KEYS ? job.of.kv_heads : job.of.query_heads, rows = BY_KEYS ? job.of.key_len : job.of.query_len;
    return job.again + (at.batch * heads + at.head) * rows + row;
}

/* The far rows that the near ones meet, as far as positions tell: any of them, and all of them. */
struct span {
    int first, last, all_first, all_last;
};
__device__ __forceinline__ span span_of(const invar_cuda_attention &of, const share_near &at) {
#if BY_KEYS
    const int end = at.last < at.length ? at.last : at.length, shift = at.length - of.query_len, all = of.query_len;
    span x = { 0, all, 0, all };
    if (of.window_right >= 0) {
        x.first = max(at.first - of.window_right - shift, 0);
        x.all_first = max(end - 1 - of.window_right - shift, 0);
    }
    if (of.window_left >= 0) {
        x.last = min(end + of.window_left - shift, all);
        x.all_last = min(at.first + 1 + of.window_left - shift, all);
    }
    if (at.first >= end) x.last = x.first;
#else
    const key_range low = range_of(of, at.length, at.first), high = range_of(of, at.length, at.last - 1);
    span x = { low.first, high.last, high.first, low.last };
#endif
    if (x.first >= x.last) x.first = x.last = 0;
    return x;
}

/* The far rows that a near one meets. */
struct far_range {
    int first, last;
};
__device__ __forceinline__ far_range far_range_of(const invar_cuda_attention &of, int length, int near) {
    const int shift = BY_KEYS ? of.query_len - length : length - of.query_len;
    const int before = BY_KEYS ? of.window_right : of.window_left, behind = BY_KEYS ? of.window_left : of.window_right;
    far_range range = { 0, BY_KEYS ? of.query_len : length };
    if (before >= 0) range.first = max(near + shift - before, 0);
    if (behind >= 0) range.last = min(near + shift + behind + 1, range.last);
    if (near >= (BY_KEYS ? length : of.query_len)) range.last = range.first;
    return range;
}
#endif

#endif
