/* Merges the parts that splits of a row's keys left, in ascending order; a block takes a row, a thread every 128th column. */
#define MASK_KIND -1
#define SOFTCAP 0
#include "attention.cuh"

enum { THREADS = 128, MOST_SPLITS = 512, AT_ONCE = 8 };

/* A row's m and l from its splits': weights[s] is the factor of part s. Each warp does the same sums. */
__device__ __forceinline__ void weigh(const float *stats, int splits, float *weights, float *m, float *l) {
    const int lane = threadIdx.x % 32;
    float most = MINUS_INFINITY, sum = 0.0f;
    for (int s = lane; s < splits; s += 32) most = fmaxf(most, stats[2 * s]);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, step));
    const float base = most == MINUS_INFINITY ? 0.0f : most;
    for (int s = lane; s < splits; s += 32) {
        const float weight = exp2f(stats[2 * s] - base);
        sum = fmaf(stats[2 * s + 1], weight, sum);
        if (threadIdx.x < 32) weights[s] = weight;
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    *m = most;
    *l = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) invar_attention_merge(const __grid_constant__ invar_cuda_attention_job job) {
    __shared__ float weights[MOST_SPLITS];
    const invar_cuda_attention &of = job.of;
    const long long row = blockIdx.x;
    const int rows = of.group * of.query_len, r = (int)(row % rows), splits = job.splits, columns = of.value_dim;
    const long long unit = row / rows, batch = job.batch_first + unit / of.kv_heads;
    const int head = (int)(unit % of.kv_heads) * of.group + r % of.group;
    float m, l, lse;
    weigh(job.stats + row * splits * 2, splits, weights, &m, &l);
    __syncthreads();
    const float factor = finish_row(of, m, l, head, &lse);
    if (of.out.data) {
        char *out = batch_of(of, of.out, batch) + head * of.out.head_stride + r / of.group * of.out.row_stride;
        for (int d = threadIdx.x; d < columns; d += THREADS) {
            const float *part = job.parts + row * splits * columns + d;
            float o = 0.0f;
            int s = 0;
            for (; s + AT_ONCE <= splits; s += AT_ONCE) {
                float x[AT_ONCE];
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) x[i] = part[(long long)(s + i) * columns];
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) o = fmaf(x[i], weights[s + i], o);
            }
            for (; s < splits; s++) o = fmaf(part[(long long)s * columns], weights[s], o);
            write_number(out + d * of.out.column_stride, of.out.kind, l == 0.0f ? 0.0f : o * factor);
        }
    }
    if (of.lse.data && threadIdx.x == 0)
        *(float *)(batch_of(of, of.lse, batch) + head * of.lse.head_stride + r / of.group * of.lse.row_stride) = lse;
}
