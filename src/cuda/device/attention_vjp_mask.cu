/* dmask, of every mix of types and wherever it is broadcast: a block takes a tile of its elements, or what of it there is, and all
 * that is summed into them: batches, heads, then tiles of queries and of keys, in ascending order. A thread sums the pairs at its
 * places of the tiles; along what is broadcast those sums are added in order at the end. Arithmetic is float32 for every mix of
 * types.
 * DIM: the wider of Dk and Dv, rounded up to 64, 128 or 256. WIDE: it is more, and rows come by slabs of 256 features. */
#include "attention_vjp_mask.cuh"

enum { THREADS = 128, QUERIES = DIM > 128 ? 8 : 16, KEYS = 32, PITCH = DIM + 4, PAIRS = QUERIES * KEYS / THREADS,
       WEIGHT_PITCH = KEYS + 1 };

struct tiles {
    float q[QUERIES][PITCH], dout[QUERIES][PITCH], k[KEYS][PITCH], v[KEYS][PITCH];
    float2 row[QUERIES]; /* lse and delta */
};

/* `rows` rows of a head into shared memory; zeros behind the `count` that there are and behind the columns. */
__device__ __forceinline__ void load_rows(float (*to)[PITCH], const char *from, const invar_cuda_operand &x, int rows, int count,
                                          int columns) {
    for (int i = threadIdx.x; i < rows * DIM; i += THREADS) {
        const int row = i / DIM, column = i % DIM;
        const bool there = row < count && column < columns;
        to[row][column] = there ? read_float(from + row * x.row_stride + column * x.column_stride, x.kind) : 0.0f;
    }
}

/* Features from d on, as below. */
__device__ __forceinline__ void load_queries(tiles &at, const invar_cuda_attention_vjp_job &job, long long batch, int head, int query,
                                             int d) {
    const invar_cuda_attention &of = job.of;
    const int count = of.query_len - query < QUERIES ? of.query_len - query : QUERIES;
    load_rows(at.q, head_of(of, of.q, batch, head) + query * of.q.row_stride + d * of.q.column_stride, of.q, QUERIES, count,
              of.key_dim - d);
    load_rows(at.dout, head_of(of, job.dout, batch, head) + query * job.dout.row_stride + d * job.dout.column_stride, job.dout,
              QUERIES, count, of.value_dim - d);
    if (threadIdx.x < QUERIES)
        at.row[threadIdx.x] = (int)threadIdx.x < count ? rows_of(job, batch, head)[query + threadIdx.x]
                                                       : float2{ SEES_NOTHING, 0.0f };
}

/* Keys that the batch does not have are never read. */
__device__ __forceinline__ void load_keys(tiles &at, const invar_cuda_attention &of, long long batch, int kv_head, int key,
                                          int length, int d) {
    load_rows(at.k, head_of(of, of.k, batch, kv_head) + key * of.k.row_stride + d * of.k.column_stride, of.k, KEYS, length - key,
              of.key_dim - d);
    load_rows(at.v, head_of(of, of.v, batch, kv_head) + key * of.v.row_stride + d * of.v.column_stride, of.v, KEYS, length - key,
              of.value_dim - d);
}

__device__ __forceinline__ float dot_row(float sum, const float *a, const float *b, int columns) {
    if (WIDE) columns = min(columns, DIM);
#pragma unroll 4
    for (int d = 0; d < columns; d += 4) {
        const float4 x = *(const float4 *)(a + d), y = *(const float4 *)(b + d);
        sum = fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
    }
    return sum;
}

/* The gradient of one pair's logit: row i of the tile, whose first query is `query`, and its key j; of their products, or, where
 * rows are held whole, of their rows. What a masked pair would give is selected away. */
__device__ __forceinline__ float logit_of(const tiles &at, const invar_cuda_attention_vjp_job &job, const char *mask, int query,
                                          int key, int length, int i, int j, float s, float dweight) {
    const invar_cuda_attention &of = job.of;
    const float2 row = at.row[i];
    float added;
    if (row.x == SEES_NOTHING || !sees(of, mask, range_of(of, length, query + i), query + i, key + j, &added)) return 0.0f;
    if (!WIDE) {
        s = dot_row(0.0f, at.q[i], at.k[j], of.key_dim);
        dweight = dot_row(0.0f, at.dout[i], at.v[j], of.value_dim);
    }
#if SOFTCAP
    float t = of.cap_height * tanhf(s * of.cap_scale);
#else
    float t = s * of.score_scale;
#endif
    if (ADDITIVE) t = fmaf(added, LOG2E, t);
    return exp2f(t - (row.x + job.shift)) * (dweight - row.y);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
invar_attention_vjp_mask(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) char shared[];
    tiles &at = *(tiles *)shared;
    __shared__ float sums[QUERIES][WEIGHT_PITCH];
    const invar_cuda_attention &of = job.of;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool all_queries = job.mask_queries != of.query_len, all_keys = job.mask_keys != of.key_len;
    unsigned rest = blockIdx.x;
    const int key_tile = (int)(rest % job.key_tiles) * KEYS;
    rest /= job.key_tiles;
    const int query_tile = (int)(rest % job.query_tiles) * QUERIES;
    rest /= job.query_tiles;
    const int mask_head = (int)(rest % (unsigned)job.mask_heads), heads = (int)of.query_heads;
    const unsigned to = (unsigned)job.batch_first + rest / (unsigned)job.mask_heads;
    const bool all_heads = job.mask_heads != of.query_heads;
#pragma unroll
    for (int r = 0; r < PAIRS; r++) sums[warp + 4 * r][lane] = 0.0f; /* a thread's own places until the end */
    for (unsigned batch = 0; batch < (unsigned)of.batch; batch++) {
        if (!belongs(job, batch, to)) continue;
        const int length = length_of(of, batch), query_end = all_queries ? of.query_len : query_tile + 1;
        const int key_end = all_keys || length < key_tile + 1 ? length : key_tile + 1;
        for (int head = all_heads ? 0 : mask_head; head < (all_heads ? heads : mask_head + 1); head++) {
            const char *mask = mask_of(of, batch, head);
            for (int query = all_queries ? 0 : query_tile; query < query_end; query += QUERIES)
                for (int key = all_keys ? 0 : key_tile; key < key_end; key += KEYS) {
                    if (!tiles_meet<QUERIES, KEYS>(of, length, query, key)) continue;
                    float s[PAIRS], dweight[PAIRS];
#pragma unroll
                    for (int r = 0; r < PAIRS; r++) s[r] = dweight[r] = 0.0f;
                    for (int d = 0; d < (WIDE ? max(of.key_dim, of.value_dim) : 1); d += DIM) {
                        __syncthreads();
                        load_queries(at, job, batch, head, query, d);
                        load_keys(at, of, batch, head / of.group, key, length, d);
                        __syncthreads();
#pragma unroll
                        for (int r = 0; r < (WIDE ? PAIRS : 0); r++) {
                            s[r] = dot_row(s[r], at.q[warp + 4 * r], at.k[lane], of.key_dim - d);
                            dweight[r] = dot_row(dweight[r], at.dout[warp + 4 * r], at.v[lane], of.value_dim - d);
                        }
                    }
#pragma unroll
                    for (int r = 0; r < PAIRS; r++)
                        sums[warp + 4 * r][lane] += logit_of(at, job, mask, query, key, length, warp + 4 * r, lane, s[r], dweight[r]);
                }
        }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < QUERIES * KEYS; e += THREADS) {
        const int i = e / KEYS, j = e % KEYS, row = query_tile + i, column = key_tile + j;
        if (row >= job.mask_queries || column >= job.mask_keys) continue;
        float whole = 0.0f;
        for (int a = i; a < (all_queries ? QUERIES : i + 1); a++)
            for (int b = j; b < (all_keys ? KEYS : j + 1); b++) whole += sums[a][b];
        write_number(element_of(job, to, mask_head, row, column), job.dmask.kind, whole);
    }
}
