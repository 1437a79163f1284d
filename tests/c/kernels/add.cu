// in: a float32 1, b float32 1 / out: out float32 1
// body
int idx = blockIdx.x * blockDim.x + threadIdx.x;
if (idx < size) {
    out[idx] = a[idx] + b[idx];
}
