// in: a float16 1, b bfloat16 1 / out: y float16 1, z bfloat16 1
#include <cuda_fp16.h>
#include <cuda_bf16.h>
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= size) return;
float f = __half2float(a[i]) + __bfloat162float(b[i]);
__half h = __hadd(a[i], __float2half(0.5f));
half2 pair = __halves2half2(h, __hmul(h, h));
pair = __hfma2(pair, pair, __float2half2_rn(1.0f));
y[i] = __low2half(pair);
z[i] = __float2bfloat16(f);
