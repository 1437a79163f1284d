/* dmask of float16 or bfloat16 on matrix units, where it has an element for each query and key; over batches and heads it may be
 * broadcast. A block takes a tile of 64 by 64 elements and goes over all that is summed into them, batches, then heads, in ascending
 * order: both products of a tile, DEPTH features of the rows at a time, the next ones on their way meanwhile. A warp has 16 queries.
 * COPIES: 16-byte copies may take the rows. */
#include "attention_mma.cuh"
#include "attention_tile.cuh"
#include "attention_vjp_mask.cuh"

typedef matrix_unit<TYPE> unit_of;
enum { WARPS = 4, THREADS = 32 * WARPS, ROWS = 64, DEPTH = 64, PITCH = DEPTH + 8, TILE = ROWS * PITCH, STAGE = 4 * TILE, KEYS = ROWS };
#define KIND (matrix_unit<TYPE>::exponent == 0x7c00u ? INVAR_CUDA_F16 : INVAR_CUDA_BF16)

/* A block's elements, and what is summed into them. */
struct target {
    int query, key, head; /* first of each */
    unsigned batch;       /* of dmask's */
    int heads, batches;   /* that are summed; the call's batches, behind the last that may be */
};

/* What a block works on: features d … of a head. */
struct step {
    int batch, head, d;
};

__device__ __forceinline__ bool takes(const invar_cuda_attention_vjp_job &job, const target &to, int batch) {
    return belongs(job, (unsigned)batch, to.batch) &&
           tiles_meet<ROWS, KEYS>(job.of, length_of(job.of, batch), to.query, to.key);
}

/* To the next batch that there is something of, this one or a later. */
__device__ __forceinline__ void find_batch(step &at, const invar_cuda_attention_vjp_job &job, const target &to) {
    while (at.batch < to.batches && !takes(job, to, at.batch)) at.batch++;
    at.head = to.head;
    at.d = 0;
}

__device__ __forceinline__ void advance(step &at, const invar_cuda_attention_vjp_job &job, const target &to) {
    at.d += DEPTH;
    if (at.d < max(job.of.key_dim, job.of.value_dim)) return;
    at.d = 0;
    if (++at.head < to.head + to.heads) return;
    at.batch++;
    find_batch(at, job, to);
}

/* Keys that the batch does not have are never read. */
__device__ __forceinline__ void load(bits16 *stage, const invar_cuda_attention_vjp_job &job, const target &to, const step &at) {
    const invar_cuda_attention &of = job.of;
    const int kv_head = at.head / of.group, queries = of.query_len - to.query, keys = length_of(of, at.batch) - to.key;
    const invar_cuda_operand *rows[4] = { &of.q, &of.k, &job.dout, &of.v };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const invar_cuda_operand &x = *rows[i];
        const char *from = head_of(of, x, at.batch, i % 2 ? kv_head : at.head) + (i % 2 ? to.key : to.query) * x.row_stride;
        load_tile<THREADS, ROWS, DEPTH, PITCH>(stage + i * TILE, from + at.d * x.column_stride, x, i % 2 ? keys : queries,
                                               (i < 2 ? of.key_dim : of.value_dim) - at.d);
    }
}

/* s += near · farᵀ; near, far: shared addresses of this thread's share of the first fragments. */
__device__ __forceinline__ void multiply(float s[KEYS / 8][4], unsigned near, unsigned far) {
#pragma unroll
    for (int d = 0; d < DEPTH; d += 16) {
        unsigned a[4], b[4];
        load_matrices(a, near + 2 * d);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n += 2) {
            load_matrices(b, far + 2 * (8 * n * PITCH + d));
            unit_of::multiply(s[n], a, b[0], b[1]);
            unit_of::multiply(s[n + 1], a, b[2], b[3]);
        }
    }
}

__device__ __forceinline__ void clear(float s[KEYS / 8][4]) {
#pragma unroll
    for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) s[n][e] = 0.0f;
}

/* The gradients of a head's logits; what a masked pair would give is selected away. query, key: this thread's first. */
__device__ __forceinline__ void add(float sum[KEYS / 8][4], const float s[KEYS / 8][4], const float d[KEYS / 8][4],
                                    const invar_cuda_attention_vjp_job &job, const step &at, int query, int key) {
    const invar_cuda_attention &of = job.of;
    const char *mask = mask_of(of, at.batch, at.head);
    const int length = length_of(of, at.batch);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int i = query + 8 * half;
        if (i >= of.query_len) continue;
        const float2 row = rows_of(job, at.batch, at.head)[i];
        const key_range range = range_of(of, length, i);
        if (row.x == SEES_NOTHING) continue;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float score = s[n][2 * half + e];
                float added;
                const bool seen = sees(of, mask, range, i, key + 8 * n + e, &added);
#if SOFTCAP
                float exponent = fmaf(of.cap_height, tanhf(score * of.cap_scale), -(row.x + job.shift));
#else
                float exponent = fmaf(score, of.score_scale, -(row.x + job.shift));
#endif
                if (ADDITIVE) exponent = fmaf(added, LOG2E, exponent);
                const float gradient = exp2_fast(exponent) * (d[n][2 * half + e] - row.y);
                sum[n][2 * half + e] += seen ? gradient : 0.0f;
            }
    }
}

__device__ __forceinline__ void store(const invar_cuda_attention_vjp_job &job, const target &to, const float sum[KEYS / 8][4],
                                      int query, int key) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (query + 8 * half >= job.mask_queries) continue;
        char *row = element_of(job, to.batch, to.head, query + 8 * half, key);
        const long long step = job.dmask.column_stride;
        const bool together = job.dmask.kind == KIND && step == 2 && (unsigned long long)row % 4 == 0;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            const int count = job.mask_keys - key - 8 * n;
            if (together && count > 1) *(unsigned *)(row + 16 * n) = unit_of::pack(sum[n][2 * half], sum[n][2 * half + 1]);
            else {
                if (count > 0) write_number(row + 8 * n * step, job.dmask.kind, sum[n][2 * half]);
                if (count > 1) write_number(row + (8 * n + 1) * step, job.dmask.kind, sum[n][2 * half + 1]);
            }
        }
    }
}

__device__ __forceinline__ target target_of(const invar_cuda_attention_vjp_job &job) {
    const bool all_heads = job.mask_heads != job.of.query_heads;
    unsigned rest = blockIdx.x;
    target to;
    to.key = (int)(rest % job.key_tiles) * KEYS;
    rest /= job.key_tiles;
    to.query = (int)(rest % job.query_tiles) * ROWS;
    rest /= job.query_tiles;
    to.head = (int)(rest % (unsigned)job.mask_heads);
    to.batch = (unsigned)job.batch_first + rest / (unsigned)job.mask_heads;
    to.heads = all_heads ? (int)job.of.query_heads : 1;
    to.batches = job.mask_batch == job.of.batch ? (int)to.batch + 1 : (int)job.of.batch;
    return to;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
invar_attention_vjp_mask_half(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) bits16 shared[];
    const target to = target_of(job);
    const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    const unsigned near = shared_address(shared + (warp_row + lane % 16) * PITCH + lane / 16 * 8);
    const unsigned far = shared_address(shared + TILE + (lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 8);
    const int query = to.query + warp_row + lane / 4, key = to.key + lane % 4 * 2;
    float sum[KEYS / 8][4], s[KEYS / 8][4], d[KEYS / 8][4];
    step at = { job.mask_batch == job.of.batch ? (int)to.batch : 0, 0, 0 };
    clear(sum), clear(s), clear(d);
    find_batch(at, job, to);
    if (at.batch < to.batches) load(shared, job, to, at);
    for (int stage = 0; at.batch < to.batches; stage ^= 1) {
        step next = at;
        advance(next, job, to);
        copy_wait<0>();
        __syncthreads();
        if (next.batch < to.batches) load(shared + (stage ^ 1) * STAGE, job, to, next);
        const unsigned from = 2 * stage * STAGE;
        if (at.d < job.of.key_dim) multiply(s, near + from, far + from);
        if (at.d < job.of.value_dim) multiply(d, near + from + 4 * TILE, far + from + 4 * TILE);
        if (next.d == 0) {
            add(sum, s, d, job, at, query, key);
            clear(s), clear(d);
        }
        at = next;
    }
    store(job, to, sum, query, key);
}
