// in: x float64 1 / out: y float64 1
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= size) return;
double v = 0.5 * x[i];
y[i] = sqrt(v * v + 1.0) + rsqrt(2.0) + fma(v, v, 1e-3) + __dmul_rn(v, 2.0);
