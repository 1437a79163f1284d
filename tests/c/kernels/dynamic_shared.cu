// in: x float32 1 / out: y float32 1
// body
extern __shared__ float tile[];
int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
tile[t] = i < size ? x[i] : 0.0f;
__syncthreads();
for (int s = blockDim.x / 2; s > 0; s >>= 1) {
    if (t < s) tile[t] += tile[t + s];
    __syncthreads();
}
if (t == 0) y[blockIdx.x] = tile[0];
