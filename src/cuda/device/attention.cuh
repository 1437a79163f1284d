/* What attention's programs share: where rows lie, which keys a query sees, how elements of any type are read, the scores' way
 * to base 2. MASK_KIND: the mask's element type, -1 without one; SOFTCAP: 0 or 1. */
#ifndef INVAR_ATTENTION_CUH
#define INVAR_ATTENTION_CUH
#include "base.cuh"
#include "attention_job.h"

#define LOG2E 1.44269504f
#define LN2 0.693147181f
#define MINUS_INFINITY __int_as_float(0xff800000)
#define ADDITIVE (MASK_KIND >= 0 && MASK_KIND != INVAR_CUDA_BOOL)

/* One element as float: of a bool, 1 or 0. */
__device__ inline float read_number(const char *p, int kind) {
    switch (kind) {
    case INVAR_CUDA_F32: return *(const float *)p;
    case INVAR_CUDA_F16: return widen(*(const half16 *)p);
    case INVAR_CUDA_BF16: return widen(*(const bfloat16 *)p);
    case INVAR_CUDA_BOOL: return *p ? 1.0f : 0.0f;
    case INVAR_CUDA_I8: return (float)*(const signed char *)p;
    case INVAR_CUDA_I16: return (float)*(const short *)p;
    case INVAR_CUDA_I32: return (float)*(const int *)p;
    case INVAR_CUDA_I64: return (float)*(const long long *)p;
    case INVAR_CUDA_U8: return (float)*(const unsigned char *)p;
    case INVAR_CUDA_U16: return (float)*(const unsigned short *)p;
    case INVAR_CUDA_U32: return (float)*(const unsigned *)p;
    default: return (float)*(const unsigned long long *)p;
    }
}

__device__ inline void write_number(char *p, int kind, float value) {
    if (kind == INVAR_CUDA_F32) *(float *)p = value;
    else if (kind == INVAR_CUDA_F16) *(half16 *)p = narrow<half16>(value);
    else *(bfloat16 *)p = narrow<bfloat16>(value);
}

__device__ inline long long read_integer(const char *p, int kind) {
    switch (kind) {
    case INVAR_CUDA_I8: return *(const signed char *)p;
    case INVAR_CUDA_I16: return *(const short *)p;
    case INVAR_CUDA_I32: return *(const int *)p;
    case INVAR_CUDA_U8: return *(const unsigned char *)p;
    case INVAR_CUDA_U16: return *(const unsigned short *)p;
    case INVAR_CUDA_U32: return *(const unsigned *)p;
    default: return *(const long long *)p;
    }
}

/* First element of a batch's operand. */
__device__ inline char *batch_of(const invar_cuda_attention &of, const invar_cuda_operand &x, long long batch) {
    char *p = x.data;
    if (of.batch_ndim <= 1) return p + batch * x.batch_stride[0];
    for (int d = of.batch_ndim - 1; d >= 0; d--) {
        p += batch % of.batch_shape[d] * x.batch_stride[d];
        batch /= of.batch_shape[d];
    }
    return p;
}

/* Row r of a unit, whose first row is at `unit`. */
__device__ inline char *row_of(const invar_cuda_attention &of, const invar_cuda_operand &x, char *unit, int r) {
    if (of.group == 1) return unit + r * x.row_stride;
    return unit + (r % of.group * x.head_stride + r / of.group * x.row_stride);
}

/* Keys that this batch has. A length out of range counts as the nearest in it. */
__device__ inline int length_of(const invar_cuda_attention &of, long long batch) {
    if (!of.lengths.data) return of.key_len;
    const long long length = read_integer(of.lengths.data + batch * of.lengths.row_stride, of.lengths.kind);
    if (length < 0) return of.lengths.kind == INVAR_CUDA_U64 ? of.key_len : 0;
    return length < of.key_len ? (int)length : of.key_len;
}

/* Keys first … last-1 that position rules leave to a query; both grow with the query. */
struct key_range {
    int first, last;
};
__device__ inline key_range range_of(const invar_cuda_attention &of, int length, int query) {
    const int position = query + length - of.query_len;
    key_range range = { 0, length };
    if (of.window_right >= 0 && position + of.window_right + 1 < length) range.last = position + of.window_right + 1;
    if (of.window_left >= 0 && position - of.window_left > 0) range.first = position - of.window_left;
    if (range.last < range.first) range.last = range.first;
    return range;
}

/* A block's share of a launch. */
struct share {
    long long unit, batch; /* unit: of the launch; batch: of the call */
    int kv_head, tile, split;
};
__device__ inline share share_of(const invar_cuda_attention_job &job) {
    const unsigned kv_heads = (unsigned)job.of.kv_heads, units = (unsigned)job.batches * kv_heads; /* no more than blocks */
    const unsigned tiles = job.tiles, splits = job.splits, section = job.section < units ? job.section : units;
    const unsigned place = splits > 1 ? blockIdx.x / splits : blockIdx.x;
    const unsigned first = place / (section * tiles) * section, here = units - first < section ? units - first : section;
    const unsigned rest = place - first * tiles, unit = first + rest % here;
    share at;
    at.split = (int)(blockIdx.x - place * splits);
    at.unit = unit;
    at.tile = (int)(tiles - 1 - rest / here);
    at.batch = job.batch_first + unit / kv_heads;
    at.kv_head = (int)(unit % kv_heads);
    return at;
}

/* The keys that rows first … last-1 of a unit see: any of them, and all of them; of a launch's split. */
struct tile_range {
    int first, last, all_first, all_last;
};
__device__ inline tile_range tile_range_of(const invar_cuda_attention_job &job, const share &at, int length, int first, int last) {
    const key_range low = range_of(job.of, length, first / job.of.group);
    const key_range high = range_of(job.of, length, (last - 1) / job.of.group);
    tile_range range = { low.first, high.last, high.first, low.last };
    if (job.splits > 1) {
        const long long begin = (long long)at.split * job.split_keys, end = begin + job.split_keys;
        if (range.first < begin) range.first = (int)(begin < range.last ? begin : range.last);
        if (range.last > end) range.last = (int)(end > range.first ? end : range.first);
    }
    if (range.first == range.last) range.first = range.last = 0; /* no tile, not even the one that `first` lies in */
    return range;
}

/* The matrix units' programs and float32's agree in this: off by 2^-22 of itself, 0 below 2^-126. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* A score, q · k, in base 2; without softcap the factor may be left to the exponential. */
__device__ inline float in_base_2(const invar_cuda_attention &of, float s) {
#if SOFTCAP
    return of.cap_height * tanhf(s * of.cap_scale);
#else
    return s * of.score_scale;
#endif
}

/* With a sink: one more term of m = sink · log2(e), l = 1, o = 0. Gives o's factor and the lse; m is in base 2. */
__device__ inline float finish_row(const invar_cuda_attention &of, float m, float l, int head, float *lse) {
    float scale = 1.0f, sink = MINUS_INFINITY;
    if (of.sinks.data) sink = read_number(of.sinks.data + head * of.sinks.head_stride, of.sinks.kind);
    if (sink != MINUS_INFINITY) {
        const float t = sink * LOG2E, most = fmaxf(m, t);
        if (l == 0.0f) {
            *lse = sink;
            return 0.0f;
        }
        scale = exp2f(m - most);
        l = fmaf(l, scale, exp2f(t - most));
        m = most;
    }
    *lse = l == 0.0f ? MINUS_INFINITY : (m + log2f(l)) * LN2;
    return l == 0.0f ? 0.0f : scale / l;
}

__device__ inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

/* 16 bytes into shared memory, of which `bytes` come from device memory and the rest are zeros. */
__device__ inline void copy_16(void *to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}
__device__ inline void copy_8(void *to, const void *from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
}
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;"); }
template <int LEFT> __device__ inline void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

/* This thread's number, which the compiler takes for another one each time: what follows from it is computed again, not held in
 * registers. */
__device__ __forceinline__ int thread_reread() {
    int x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
}

/* HEIGHT rows by 16-byte copies, one `stride` behind the other, into shared memory, PITCH elements apart; zeros behind the `count`
 * that there are and behind the columns, up to PADDED. A copy of no bytes reads nothing, wherever it points. */
template <int THREADS, int HEIGHT, int PADDED, int PITCH, typename element>
__device__ __forceinline__ void copy_tile(element *to, const char *from, const invar_cuda_operand &x, int count, int columns,
                                          unsigned thread = threadIdx.x) {
    enum { SIZE = sizeof(element), EACH = 16 / SIZE, CHUNKS = PADDED / EACH, STEP = THREADS % CHUNKS == 0 ? THREADS / CHUNKS : 1,
           EVEN = THREADS % CHUNKS == 0 && HEIGHT % STEP == 0 };
    if (EVEN) {
        const int column = thread % CHUNKS * EACH;
        int row = thread / CHUNKS;
        if (column >= columns) count = 0;
        from += row * x.row_stride + column * SIZE;
        to += row * PITCH + column;
#pragma unroll
        for (int i = 0; i < HEIGHT; i += STEP) {
            copy_16(to + i * PITCH, from, row + i < count ? 16 : 0);
            from += STEP * x.row_stride;
        }
    } else {
        for (int i = thread; i < HEIGHT * CHUNKS; i += THREADS) {
            const int row = i / CHUNKS, column = i % CHUNKS * EACH;
            copy_16(to + row * PITCH + column, from + row * x.row_stride + column * SIZE, row < count && column < columns ? 16 : 0);
        }
    }
}

#endif
