// in: x float32 1 / out: y float32 1
extern __shared__ unsigned char raw[];
// body
float *values = (float *)raw;
int *counts = (int *)(values + blockDim.x);
values[threadIdx.x] = x[threadIdx.x];
counts[threadIdx.x] = __syncthreads_count(x[threadIdx.x] > 0);
__syncthreads();
y[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x] + counts[0];
