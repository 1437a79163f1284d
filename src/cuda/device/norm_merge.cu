/* Adds up the partial sums that chunks of rows left for dweight, in blocks with y = 0, and dbias. A block takes 32 features: chunk c
 * goes to warp c % 32, which adds up its chunks in ascending order; then the warps' sums are added in theirs. So how a result is
 * summed depends on the number of chunks alone. */
#include "base.cuh"
#include "norm_job.h"

enum { FEATURES = 32, WARPS = 32 };

extern "C" __global__ void __launch_bounds__(FEATURES * WARPS)
invar_norm_merge(const __grid_constant__ invar_cuda_norm_merge_job job) {
    __shared__ float sums[WARPS][FEATURES];
    const invar_cuda_norm_sum to = blockIdx.y ? job.sum[1] : job.sum[0];
    const float *partial = job.partial + blockIdx.y * job.pitch;
    const long long pitch = job.vectors * job.pitch;
    const int lane = threadIdx.x % FEATURES, warp = threadIdx.x / FEATURES;
    if (!to.data) return;
    for (long long first = (long long)blockIdx.x * FEATURES; first < job.features; first += (long long)gridDim.x * FEATURES) {
        const long long feature = first + lane;
        float sum = 0.0f;
        if (feature < job.features)
#pragma unroll 8
            for (long long chunk = warp; chunk < job.chunks; chunk += WARPS) sum += partial[chunk * pitch + feature];
        __syncthreads();
        sums[warp][lane] = sum;
        __syncthreads();
        if (warp > 0 || feature >= job.features) continue;
        sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += sums[w][lane];
        char *out = to.data + feature * to.step;
        if (to.kind == INVAR_CUDA_NORM_F32) *(float *)out = sum;
        else if (to.kind == INVAR_CUDA_NORM_F16) *(half16 *)out = narrow<half16>(sum);
        else *(bfloat16 *)out = narrow<bfloat16>(sum);
    }
}
