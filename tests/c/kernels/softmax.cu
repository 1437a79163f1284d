// in: x float32 2 / out: y float32 2 / template: T=float32,N=1024
template <typename F>
__device__ float reduce(float v, float *shared, F f) {
    for (int o = WARP_SIZE / 2; o; o /= 2) v = f(v, __shfl_xor_sync(0xffffffff, v, o));
    if (threadIdx.x % WARP_SIZE == 0) shared[threadIdx.x / WARP_SIZE] = v;
    __syncthreads();
    v = shared[threadIdx.x % (blockDim.x / WARP_SIZE)];
    for (int o = WARP_SIZE / 2; o; o /= 2) v = f(v, __shfl_xor_sync(0xffffffff, v, o));
    __syncthreads();
    return v;
}
// body
__shared__ float shared[32];
const T *row = x + blockIdx.x * N;
float m = -CUDART_INF_F;
for (int i = threadIdx.x; i < N; i += blockDim.x) m = fmaxf(m, row[i]);
m = reduce(m, shared, [](float a, float b) { return fmaxf(a, b); });
float sum = 0;
for (int i = threadIdx.x; i < N; i += blockDim.x) sum += __expf(row[i] - m);
sum = reduce(sum, shared, [](float a, float b) { return a + b; }) / (blockDim.x / WARP_SIZE);
for (int i = threadIdx.x; i < N; i += blockDim.x) y[blockIdx.x * N + i] = expf(row[i] - m) / sum;
