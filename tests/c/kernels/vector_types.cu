// in: x float32 1 / out: y float32 1
__device__ inline float4 operator*(float4 a, float s) { return make_float4(a.x * s, a.y * s, a.z * s, a.w * s); }
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
const float4 *in = reinterpret_cast<const float4 *>(x);
float4 v = in[i] * 2.0f;
float2 w = make_float2(v.x + v.y, v.z);
int3 k{1, 2, 3};
uchar4 bytes = make_uchar4(1, 2, 3, 4);
reinterpret_cast<float4 *>(y)[i] = make_float4(w.x, w.y, k.z, bytes.w);
