// in: x int64 1 / out: y int64 1
#define CHUNK 8
#define INDEX (blockIdx.x * blockDim.x + threadIdx.x)
__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__global__ void __launch_bounds__(256) unused(const float *__restrict__ p) {}
// body
for (long long i = (long long)INDEX * CHUNK; i < ceil_div(size, 1) && i < (INDEX + 1) * CHUNK; i++)
    y[i] = x[i] / 2 + __ffsll(x[i]) + __popcll(x[i]) + min(x[i], (int64_t)3);
