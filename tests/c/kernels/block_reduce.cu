// in: x float32 1 / out: y float32 1
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_down_sync(0xffffffffu, v, offset);
    return v;
}
__device__ float block_sum(float v, float *shared) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    v = warp_sum(v);
    if (lane == 0) shared[warp] = v;
    __syncthreads();
    v = threadIdx.x < blockDim.x / 32 ? shared[lane] : 0.0f;
    return warp == 0 ? warp_sum(v) : v;
}
// body
__shared__ float shared[32];
float acc = 0;
for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < x_shape[0]; i += gridDim.x * blockDim.x) acc += x[i];
acc = block_sum(acc, shared);
if (threadIdx.x == 0) atomicAdd(&y[0], acc);
