/* Merges the parts that splits of a row's keys left, in ascending order; a warp takes a row. */
#define MASK_KIND -1
#define SOFTCAP 0
#include "attention.cuh"

/* Most of the splits' m first, so that each part is scaled once. */
extern "C" __global__ void __launch_bounds__(128) invar_attention_merge(const __grid_constant__ invar_cuda_attention_job job) {
    const invar_cuda_attention &of = job.of;
    const int lane = threadIdx.x % 32, rows = of.group * of.query_len;
    const long long units = job.batches * of.kv_heads, row = (long long)blockIdx.x * 4 + threadIdx.x / 32;
    if (row >= units * rows) return;
    const long long unit = row / rows, batch = job.batch_first + unit / of.kv_heads;
    const int r = (int)(row % rows), head = (int)(unit % of.kv_heads) * of.group + r % of.group;
    const float *stats = job.stats + row * job.splits * 2, *parts = job.parts + row * job.splits * of.value_dim;
    float most = MINUS_INFINITY, l = 0.0f, lse;
    for (int s = 0; s < job.splits; s++) most = fmaxf(most, stats[2 * s]);
    const float base = most == MINUS_INFINITY ? 0.0f : most;
    for (int s = 0; s < job.splits; s++) l = fmaf(stats[2 * s + 1], exp2f(stats[2 * s] - base), l);
    const float factor = finish_row(of, most, l, head, &lse);
    if (of.out.data) {
        char *out = batch_of(of, of.out, batch) + head * of.out.head_stride + r / of.group * of.out.row_stride;
        for (int d = lane; d < of.value_dim; d += 32) {
            float o = 0.0f;
#pragma unroll 8
            for (int s = 0; s < job.splits; s++) {
                const float weight = exp2f(stats[2 * s] - base);
                if (weight != 0.0f) o = fmaf(parts[(long long)s * of.value_dim + d], weight, o);
            }
            write_number(out + d * of.out.column_stride, of.out.kind, l == 0.0f ? 0.0f : o * factor);
        }
    }
    if (of.lse.data && lane == 0)
        *(float *)(batch_of(of, of.lse, batch) + head * of.lse.head_stride + r / of.group * of.lse.row_stride) = lse;
}
