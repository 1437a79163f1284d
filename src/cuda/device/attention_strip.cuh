/* A strip of 16 query rows that a warp holds in registers, and its softmax as tiles of KEYS keys come by: for programs whose
 * products leave fragments of m16n8k16 there. TYPE: half16 or bfloat16; OUT: out's type, where that is another; VDIM: columns of O;
 * POSITIVE: so is scale. */
#ifndef INVAR_ATTENTION_STRIP_CUH
#define INVAR_ATTENTION_STRIP_CUH
#include "attention_mma.cuh"

typedef matrix_unit<TYPE> unit_of;
typedef unsigned short bits16;
#ifndef OUT
#define OUT TYPE
#endif
/* Scores are brought to base 2 before m is taken, or their factor, which is positive then, is left to the exponential. */
#ifndef EARLY
#define EARLY (SOFTCAP || ADDITIVE || !POSITIVE)
#endif
__device__ __forceinline__ float scale_of(const invar_cuda_attention &of) {
    return EARLY ? 1.0f : SOFTCAP ? of.cap_height : of.score_scale;
}

/* Elements 4n … of S are keys 8n …, of O columns 8n …: this thread's two of row lane / 4, then two of the row 8 below. */
struct strip {
    float s[KEYS / 2], o[VDIM / 2];
    float m[2], l[2]; /* l: of this thread's keys */
};

__device__ __forceinline__ void begin(strip &w) {
    w.m[0] = w.m[1] = MINUS_INFINITY;
    w.l[0] = w.l[1] = 0.0f;
#pragma unroll
    for (int i = 0; i < VDIM / 2; i++) w.o[i] = 0.0f;
}

/* What a tile's scores are masked by. */
struct masking {
    const invar_cuda_attention *of;
    const char *mask; /* the unit's first row */
    int length, rows;
};

/* -infinity for keys that a row does not see; the mask's value is added. row, key: the first of this thread. */
__device__ __forceinline__ void mask(strip &w, const masking &by, int row, int key) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half < by.rows ? row + 8 * half : by.rows - 1;
        const key_range range = range_of(*by.of, by.length, r / by.of->group);
#if MASK_KIND >= 0
        const char *mask = row_of(*by.of, by.of->mask, (char *)by.mask, r);
#endif
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int at = key + 8 * n + e;
                bool seen = at >= range.first && at < range.last;
                float &x = w.s[4 * n + 2 * half + e];
#if MASK_KIND >= 0
                if (seen) {
                    const float value = read_number(mask + at * by.of->mask.column_stride, MASK_KIND);
                    if (ADDITIVE) x = fmaf(value, LOG2E, x);
                    seen = ADDITIVE ? value != MINUS_INFINITY : value != 0.0f;
                }
#endif
                x = seen ? x : MINUS_INFINITY;
            }
    }
}

/* tanh without branches: off by some 1e-7, where half types round weights by 2^-9. */
__device__ __forceinline__ float tangent(float x) { return fmaf(-2.0f, reciprocal(1.0f + exp2_fast(2.0f * LOG2E * x)), 1.0f); }

/* Scores in base 2 but for scale_of. */
__device__ __forceinline__ void convert(strip &w, const invar_cuda_attention &of) {
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        if (EARLY) w.s[i] = in_base_2(of, w.s[i]);
        else if (SOFTCAP) w.s[i] = tangent(w.s[i] * of.cap_scale);
    }
}

/* m and this thread's scores of a row. */
__device__ __forceinline__ float most_of(const strip &w, int half) {
    float most = w.m[half];
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++) most = fmaxf(most, fmaxf(w.s[4 * n + 2 * half], w.s[4 * n + 2 * half + 1]));
    return most;
}

/* The new m of a row, most_of its threads' largest, and l scaled to it; what O is to be scaled by. base: what exponents are taken
 * from. */
__device__ __forceinline__ float raise(strip &w, int half, float most, float &base, float scale) {
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
    const float seen = most == MINUS_INFINITY ? 0.0f : most;
    const float factor = exp2_fast((w.m[half] - seen) * scale); /* exactly 1 where m stays */
    base = seen * scale;
    w.m[half] = most;
    w.l[half] *= factor;
    return factor;
}

__device__ __forceinline__ void rescale(strip &w, int half, float factor) {
#pragma unroll
    for (int n = 0; n < VDIM / 8; n++) {
        w.o[4 * n + 2 * half] *= factor;
        w.o[4 * n + 2 * half + 1] *= factor;
    }
}

/* S becomes P, l its sum. */
__device__ __forceinline__ void weigh(strip &w, const float base[2], float scale) {
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        w.s[i] = exp2_fast(fmaf(w.s[i], scale, -base[i / 2 % 2]));
        w.l[i / 2 % 2] += w.s[i];
    }
}

/* P of keys 16j …, rounded, as a product takes it. */
__device__ __forceinline__ void pack_weights(unsigned to[4], const strip &w, int j) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float *pair = &w.s[4 * (2 * j + e / 2) + e % 2 * 2];
        to[e] = unit_of::pack(pair[0], pair[1]);
    }
}

/* A row's part of a split. */
__device__ __forceinline__ void store_part(const invar_cuda_attention_job &job, const share &at, int r, float m, float l,
                                           const float o[VDIM / 2], int half) {
    const int column = threadIdx.x % 4 * 2, columns = job.of.value_dim;
    const long long part = (at.unit * job.of.group * job.of.query_len + r) * job.splits + at.split;
    float *to = job.parts + part * columns;
#pragma unroll
    for (int n = 0; n < VDIM / 8; n++) {
        if (8 * n + column < columns) to[8 * n + column] = o[4 * n + 2 * half];
        if (8 * n + column + 1 < columns) to[8 * n + column + 1] = o[4 * n + 2 * half + 1];
    }
    if (threadIdx.x % 4) return;
    job.stats[2 * part] = m;
    job.stats[2 * part + 1] = l;
}

/* Neighbours as out has them. */
template <typename T> struct neighbours {
    typedef unsigned pair;
    static __device__ __forceinline__ pair of(float low, float high) { return unit_of::pack(low, high); }
};
template <> struct neighbours<float> {
    typedef float2 pair;
    static __device__ __forceinline__ pair of(float low, float high) { return float2{ low, high }; }
};

/* A row's out and lse. */
__device__ __forceinline__ void store_row(const invar_cuda_attention &of, const share &at, int r, float m, float l,
                                          const float o[VDIM / 2], int half) {
    typedef neighbours<OUT>::pair pair;
    const int column = thread_reread() % 4 * 2, head = at.kv_head * of.group + r % of.group, query = r / of.group;
    const long long step = of.out.column_stride;
    float lse;
    const float factor = finish_row(of, m, l, head, &lse);
    if (of.out.data) {
        char *out = batch_of(of, of.out, at.batch) + head * of.out.head_stride + query * of.out.row_stride;
        const bool pairs = step == sizeof(OUT) && (unsigned long long)out % sizeof(pair) == 0;
#pragma unroll
        for (int n = 0; n < VDIM / 8; n++) {
            const int c = 8 * n + column;
            const float low = l == 0.0f ? 0.0f : o[4 * n + 2 * half] * factor;
            const float high = l == 0.0f ? 0.0f : o[4 * n + 2 * half + 1] * factor;
            if (pairs && c + 1 < of.value_dim) {
                *(pair *)(out + c * sizeof(OUT)) = neighbours<OUT>::of(low, high);
                continue;
            }
            if (c < of.value_dim) *(OUT *)(out + c * step) = narrow<OUT>(low);
            if (c + 1 < of.value_dim) *(OUT *)(out + (c + 1) * step) = narrow<OUT>(high);
        }
    }
    if (of.lse.data && column == 0)
        *(float *)(batch_of(of, of.lse, at.batch) + head * of.lse.head_stride + query * of.lse.row_stride) = lse;
}

/* row: the strip's first of this thread; last: the block's, plus one. */
__device__ __forceinline__ void store(const invar_cuda_attention_job &job, const share &at, const strip &w, int row, int last,
                                      float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float l = w.l[half];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        const int r = row + 8 * half;
        if (r >= last) continue;
        if (job.splits > 1) store_part(job, at, r, w.m[half] * scale, l, w.o, half);
        else store_row(job.of, at, r, w.m[half] * scale, l, w.o, half);
    }
}

#endif
