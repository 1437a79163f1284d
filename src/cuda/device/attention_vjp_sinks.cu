/* dsinks: a block takes a query head; query i goes to thread i mod 256, threads are added up in a tree, batches in ascending order. */
#define MASK_KIND -1
#define SOFTCAP 0
#include "attention_vjp.cuh"

enum { LANES = 256 };

extern "C" __global__ void __launch_bounds__(LANES)
invar_attention_vjp_sinks(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    __shared__ float lanes[LANES];
    const invar_cuda_attention &of = job.of;
    const long long head = blockIdx.x;
    const float sink = read_number(of.sinks.data + head * of.sinks.head_stride, of.sinks.kind) * LOG2E;
    float whole = 0.0f;
    for (long long batch = 0; batch < of.batch; batch++) {
        const float2 *rows = rows_of(job, batch, (int)head);
        float sum = 0.0f;
        for (int i = threadIdx.x; i < of.query_len; i += LANES) {
            const float2 row = rows[i];
            if (row.x != SEES_NOTHING) sum -= exp2f(sink - (row.x + job.shift)) * row.y;
        }
        lanes[threadIdx.x] = sum;
        for (int step = LANES / 2; step > 0; step /= 2) {
            __syncthreads();
            if (threadIdx.x < step) lanes[threadIdx.x] += lanes[threadIdx.x + step];
        }
        __syncthreads();
        whole += lanes[0];
        __syncthreads();
    }
    if (threadIdx.x == 0) write_number(job.dsinks.data + head * job.dsinks.head_stride, job.dsinks.kind, whole + 0.0f);
}
