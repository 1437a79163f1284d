// in: x float32 1 / out: y float32 1
__device__ static float atomicMax(float *address, float value) {
    int *as_int = (int *)address;
    int old = *as_int, assumed;
    do {
        assumed = old;
        old = atomicCAS(as_int, assumed, __float_as_int(fmaxf(value, __int_as_float(assumed))));
    } while (assumed != old);
    return __int_as_float(old);
}
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i < size) atomicMax(&y[i % 4], x[i]);
