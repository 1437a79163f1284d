// in: x float32 1, w uint32 1 / out: y float32 1, z float16 1
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
unsigned parts = __vadd4(w[i], __vsubss2(w[i + 1], 0x00010001u)) ^ __vcmpeq4(w[i], 0u);
int products = __dp2a_lo(int(w[i]), int(w[i + 1]), 3);
float sum = __fadd_rz(x[i], __fmul_ru(x[i + 1], 3.0f)) + __fdiv_rd(x[i], 3.0f) + __fsqrt_rz(x[i]) + __fmaf_rd(x[i], x[i], x[i]);
y[i] = sum + erfinvf(x[i]) + normcdfinvf(0.25f) + rnorm3df(x[i], 1, 2) + scalbnf(x[i], 2) + float(parts) + products;
__half2 both = __floats2half2_rn(x[i], x[i + 1]);
__half2 order = __hgt2(both, __half2half2(CUDART_ZERO_FP16));
z[i] = __hfma_relu(order.x, both.y, CUDART_ONE_FP16);
