// in: x int32 1 / out: y int32 1
// body
__shared__ int sums[32];
int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
int i = blockIdx.x * blockDim.x + threadIdx.x;
int v = i < size ? x[i] : 0;
for (int d = 1; d < 32; d <<= 1) {
    int n = __shfl_up_sync(0xffffffff, v, d);
    if (lane >= d) v += n;
}
if (lane == 31) sums[warp] = v;
__syncthreads();
if (warp == 0) {
    int s = lane < (blockDim.x + 31) / 32 ? sums[lane] : 0;
    for (int d = 1; d < 32; d <<= 1) { int n = __shfl_up_sync(0xffffffff, s, d); if (lane >= d) s += n; }
    sums[lane] = s;
}
__syncthreads();
if (i < size) y[i] = v + (warp ? sums[warp - 1] : 0);
