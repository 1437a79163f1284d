/* What the programs that follow need of each query row: lse in base 2, and delta, the sum of dout · out less dlse. A warp takes a
 * row. */
#include "attention_vjp.cuh"

enum { THREADS = 128 };

/* Without a key the row's out is 0 and counts as nothing, whatever dout is. Only asked where the sum is not finite. */
__device__ bool sees_a_key(const invar_cuda_attention &of, long long batch, int head, int query) {
    const key_range range = range_of(of, length_of(of, batch), query);
    const char *mask = mask_of(of, batch, head);
    bool found = false;
    float added;
    for (int key = range.first + threadIdx.x % 32; key < range.last; key += 32)
        found |= sees(of, mask, range, query, key, &added);
    return __any_sync(0xffffffffu, found);
}

extern "C" __global__ void __launch_bounds__(THREADS)
invar_attention_vjp_delta(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    const invar_cuda_attention &of = job.of;
    const int lane = threadIdx.x % 32;
    const unsigned unit = blockIdx.x / job.query_tiles, heads = (unsigned)of.query_heads;
    const int query = (int)(blockIdx.x % job.query_tiles) * (THREADS / 32) + threadIdx.x / 32, head = (int)(unit % heads);
    const long long batch = job.batch_first + unit / heads;
    if (query >= of.query_len) return;
    const char *out = head_of(of, of.out, batch, head) + query * of.out.row_stride;
    const char *dout = head_of(of, job.dout, batch, head) + query * job.dout.row_stride;
    float sum = 0.0f;
#pragma unroll 2
    for (int d = lane; d < of.value_dim; d += 32)
        sum = fmaf(read_float(dout + d * job.dout.column_stride, job.dout.kind),
                   read_float(out + d * of.out.column_stride, of.out.kind), sum);
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    const bool finite = fabsf(sum) < __int_as_float(0x7f800000);
    if (!finite && !sees_a_key(of, batch, head, query)) sum = 0.0f;
    if (job.dlse.data) sum -= *(const float *)(head_of(of, job.dlse, batch, head) + query * job.dlse.row_stride);
    const float lse = *(const float *)(head_of(of, of.lse, batch, head) + query * of.lse.row_stride);
    const float2 row = { lse < LEAST_LSE ? SEES_NOTHING : fmaf(lse, LOG2E, -job.shift), sum };
    if (lane == 0) ((float2 *)job.rows)[(batch * of.query_heads + head) * of.query_len + query] = row;
}
