"""One thread an element."""

import math

import ml_dtypes
import numpy as np

from .case import F32, Case, draw, each, integers, normal

N = 1000
LINE = {"grid": (N, 1, 1), "threadgroup": (256, 1, 1)}
EXACT = {"rtol": 0.0, "atol": 0.0}


def erf(x):
    return np.vectorize(math.erf)(x.astype(np.float64))


def gelu_by_tanh(x):
    x = x.astype(np.float64)
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


CASES = [
    Case("saxpy", draw(x=normal(N), y=normal(N), alpha=1.5), {"out": ((N,), "float32")},
         lambda x, y, alpha: F32(alpha) * x + y,
         metal="uint i = thread_position_in_grid.x;\nout[i] = alpha * x[i] + y[i];",
         cuda="int i = blockIdx.x * blockDim.x + threadIdx.x;\nif (i < 1000) out[i] = alpha[0] * x[i] + y[i];",
         **LINE, **EXACT),
    Case("gelu_tanh", draw(x=normal(N, scale=3)), {"out": ((N,), "float32")}, gelu_by_tanh,
         header="""constant float ROOT = 0.7978845608f;
inline float inner(float v) { return ROOT * (v + 0.044715f * v * v * v); }
""",
         cuda_header="__device__ inline float inner(float v) { return 0.7978845608f * (v + 0.044715f * v * v * v); }\n",
         metal="""uint i = thread_position_in_grid.x;
if (i >= x_shape[0]) { return; }
float v = x[i];
out[i] = 0.5f * v * (1.0f + metal::precise::tanh(inner(v)));""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 1000) return;
float v = x[i];
out[i] = 0.5f * v * (1.0f + tanhf(inner(v)));""", **LINE),
    Case("swiglu", draw(x=normal(8, 128)), {"out": ((8, 64), "float32")},
         lambda x: (lambda g, u: g / (1 + np.exp(-g)) * u)(x[:, :64].astype(np.float64), x[:, 64:].astype(np.float64)),
         metal="""uint2 p = thread_position_in_grid.xy;
uint D = x_shape[1] / 2;
float gate = x[p.y * 2 * D + p.x];
float up = x[p.y * 2 * D + D + p.x];
out[p.y * D + p.x] = gate / (1.0f + exp(-gate)) * up;""",
         cuda="""dim3 p(blockIdx.x * blockDim.x + threadIdx.x, blockIdx.y * blockDim.y + threadIdx.y);
unsigned D = x_shape[1] / 2;
float gate = x[p.y * 2 * D + p.x];
float up = x[p.y * 2 * D + D + p.x];
out[p.y * D + p.x] = gate / (1.0f + expf(-gate)) * up;""",
         grid=(64, 8, 1), threadgroup=(32, 4, 1)),
    Case("leaky_relu_template", draw(x=normal(N)), {"out": ((N,), "float16")},
         lambda x: np.where(x > 0, x, x * F32(0.25)).astype(np.float16),
         template=(("T", "float16"), ("SHIFT", 2), ("LEAKY", True)),
         metal="""uint i = thread_position_in_grid.x;
float v = x[i];
if (LEAKY) {
  out[i] = T(v > 0 ? v : v / (1 << SHIFT));
} else {
  out[i] = T(max(v, 0.0f));
}""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 1000) return;
float v = x[i];
if constexpr (LEAKY) out[i] = T(v > 0 ? v : v / (1 << SHIFT));
else out[i] = T(fmaxf(v, 0.0f));""",
         **LINE, **EXACT),
    Case("half_multiply_add", draw(x=lambda r: normal(N)(r).astype(np.float16), y=lambda r: normal(N)(r).astype(np.float16)),
         {"out": ((N,), "float16")}, lambda x, y: (x * y + x).astype(np.float16),
         metal="""uint i = thread_position_in_grid.x;
half a = x[i], b = y[i];
half c = a * b;
out[i] = c + a;""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 1000) return;
__half a = x[i], b = y[i];
out[i] = __hadd(__hmul(a, b), a);""", **LINE, **EXACT),
    Case("bfloat_scale", draw(x=lambda r: normal(N)(r).astype(ml_dtypes.bfloat16), scale=0.3), {"out": ((N,), "bfloat16")},
         lambda x, scale: (x.astype(np.float32) * F32(scale)).astype(ml_dtypes.bfloat16),
         metal="uint i = thread_position_in_grid.x;\nout[i] = bfloat16_t(float(x[i]) * scale);",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 1000) return;
out[i] = __float2bfloat16(__bfloat162float(x[i]) * scale[0]);""", **LINE, **EXACT),
    Case("select_mask", draw(x=normal(N), mask=lambda r: r.random(N) < 0.5), {"out": ((N,), "float32")},
         lambda x, mask: np.where(mask, x, F32(-1e9)), **each("if (i < 1000) out[i] = mask[i] ? x[i] : -1e9f;"), **LINE, **EXACT),
    Case("bit_counts", draw(x=integers(0, 2**32, N, dtype=np.uint32)), {"ones": ((N,), "int32"), "zeros": ((N,), "int32")},
         lambda x: (np.array([int(v).bit_count() for v in x], np.int32), np.array([32 - int(v).bit_length() for v in x], np.int32)),
         metal="""uint i = thread_position_in_grid.x;
ones[i] = popcount(x[i]);
zeros[i] = clz(x[i]);""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i < 1000) {
  ones[i] = __popc(x[i]);
  zeros[i] = __clz(x[i]);
}""",
         **LINE, **EXACT),
    Case("strided_exp2", draw(x=lambda r: r.integers(-20, 20, (20, 50)).astype(np.float32).T), {"out": ((50, 20), "float32")},
         lambda x: np.exp2(x), ensure_row_contiguous=False,
         metal="""uint elem = thread_position_in_grid.x;
uint loc = elem_to_loc(elem, x_shape, x_strides, x_ndim);
out[elem] = exp2(x[loc]);""",
         cuda="""auto elem = cg::this_grid().thread_rank();
if (elem >= 1000) return;
auto loc = elem_to_loc(elem, x_shape.data(), x_strides.data(), x_ndim);
out[elem] = exp2f(x[loc]);""", **LINE, **EXACT),
    Case("complex_multiply", draw(x=lambda r: (normal(N)(r) + 1j * normal(N)(r)).astype(np.complex64)),
         {"out": ((N, 2), "float32")}, lambda x: np.stack([x.real * x.real - x.imag * x.imag, x.real * x.imag + x.imag * x.real], 1),
         metal="""uint i = thread_position_in_grid.x;
complex64_t z = x[i];
float2 w = float2(z.real * z.real - z.imag * z.imag,
                  z.real * z.imag + z.imag * z.real);
((device float2*)out)[i] = w;""", **LINE, **EXACT),
    Case("float4_distance", draw(x=normal(256, 4), centre=normal(4)), {"out": ((256,), "float32")},
         lambda x, centre: np.sqrt(((x.astype(np.float64) - centre) ** 2).sum(1)),
         metal="""uint i = thread_position_in_grid.x;
float4 v = *(device const float4*)(x + 4 * i);
float4 c = float4(centre[0], centre[1], centre[2], centre[3]);
float3 d = (v - c).xyz;
float w = v.w - c.w;
out[i] = sqrt(dot(d, d) + w * w);""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
float4 v = reinterpret_cast<const float4*>(x)[i];
float dx = v.x - centre[0], dy = v.y - centre[1], dz = v.z - centre[2], dw = v.w - centre[3];
out[i] = sqrtf(dx * dx + dy * dy + dz * dz + dw * dw);""", grid=(256, 1, 1), threadgroup=(64, 1, 1)),
    Case("erf_gelu", draw(x=normal(N, scale=2)), {"out": ((N,), "float32")},
         lambda x: 0.5 * x.astype(np.float64) * (1 + erf(x / np.sqrt(2.0))),
         # Abramowitz & Stegun 7.1.26: an absolute error of 1.5e-7 times |x|/2, and float32's rounding of 1 + erf.
         header="""inline float erf_approx(float x) {
  float t = 1.0f / (1.0f + 0.3275911f * fabs(x));
  float y = 1.0f - ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                   + 0.254829592f) * t * exp(-x * x);
  return x < 0 ? -y : y;
}
""",
         cuda_header="""__device__ float erf_approx(float x) {
  float t = 1.0f / (1.0f + 0.3275911f * fabsf(x));
  float y = 1.0f - ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                   + 0.254829592f) * t * expf(-x * x);
  return x < 0 ? -y : y;
}
""",
         **each("if (i >= 1000) return;\nout[i] = 0.5f * x[i] * (1.0f + erf_approx(x[i] * 0.70710678f));"), atol=2e-6, rtol=1e-5,
         **LINE),
]
