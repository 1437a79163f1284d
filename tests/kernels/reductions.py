"""Sums and maxima over rows: simd operations, threadgroup memory, barriers."""

import numpy as np

from .case import Case, draw, normal

ROWS, D = 6, 500
X = draw(x=normal(ROWS, D))
ROW = {"grid": (256 * ROWS, 1, 1), "threadgroup": (256, 1, 1)}
WARP = {"grid": (32, ROWS, 1), "threadgroup": (32, 1, 1)}


def f64(x):
    return x.astype(np.float64)


def softmax(x):
    e = np.exp(f64(x) - f64(x).max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# A sum over 256 threads: each simdgroup by itself, then the first simdgroup over their results.
METAL_SUM = """
inline float group_sum(float v, threadgroup float* scratch, uint simd, uint lane) {
  v = simd_sum(v);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) scratch[simd] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return simd_sum(lane < 8 ? scratch[lane] : 0.0f);
}
"""
CUDA_SUM = """
__device__ float warp_sum(float v) {
  for (int mask = 1; mask < 32; mask *= 2) v += __shfl_xor_sync(0xffffffff, v, mask);
  return v;
}
__device__ float group_sum(float v, float* scratch, unsigned simd, unsigned lane) {
  v = warp_sum(v);
  __syncthreads();
  if (lane == 0) scratch[simd] = v;
  __syncthreads();
  return warp_sum(lane < 8 ? scratch[lane] : 0.0f);
}
"""
METAL_NAMES = """uint row = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
uint lane = thread_index_in_simdgroup, simd = simdgroup_index_in_threadgroup;
threadgroup float scratch[8];
"""
CUDA_NAMES = """unsigned row = blockIdx.x, t = threadIdx.x, lane = threadIdx.x % 32, simd = threadIdx.x / 32;
__shared__ float scratch[8];
"""

SOFTMAX = """float top = -INFINITY;
for (uint j = t; j < 500; j += 256) top = MAX(top, x[row * 500 + j]);
GROUP_MAX
float sum = 0.0f;
for (uint j = t; j < 500; j += 256) sum += EXP(x[row * 500 + j] - top);
sum = group_sum(sum, scratch, simd, lane);
for (uint j = t; j < 500; j += 256) out[row * 500 + j] = EXP(x[row * 500 + j] - top) / sum;
"""
METAL_MAX = """top = simd_max(top);
if (lane == 0) scratch[simd] = top;
threadgroup_barrier(mem_flags::mem_threadgroup);
top = simd_max(scratch[lane % 8]);"""
CUDA_MAX = """for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, mask));
if (lane == 0) scratch[simd] = top;
__syncthreads();
top = scratch[lane % 8];
for (int mask = 4; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffff, top, mask));"""

LAYER_NORM = """float sum = 0.0f;
for (uint j = t; j < 500; j += 256) sum += x[row * 500 + j];
float mean = group_sum(sum, scratch, simd, lane) / 500.0f;
float squares = 0.0f;
for (uint j = t; j < 500; j += 256) {
  float d = x[row * 500 + j] - mean;
  squares += d * d;
}
float scale = 1.0f / SQRT(group_sum(squares, scratch, simd, lane) / 500.0f + 1e-5f);
for (uint j = t; j < 500; j += 256) out[row * 500 + j] = (x[row * 500 + j] - mean) * scale * w[j] + b[j];
"""


def for_both(body, **words):
    """The body with its words in either dialect: words maps one to (Metal, CUDA)."""
    texts = [body, body]
    for word, pair in words.items():
        texts = [text.replace(word, new) for text, new in zip(texts, pair)]
    return {"metal": METAL_NAMES + texts[0], "cuda": CUDA_NAMES + texts[1].replace("uint ", "unsigned ")}


CASES = [
    Case("row_sum_simd", X, {"out": ((ROWS,), "float32")}, lambda x: f64(x).sum(1),
         metal="""uint row = thread_position_in_grid.y, lane = thread_position_in_grid.x;
float s = 0;
for (uint j = lane; j < x_shape[1]; j += 32) s += x[row * x_shape[1] + j];
s = simd_sum(s);
if (lane == 0) out[row] = s;""",
         cuda="""int row = blockIdx.y, lane = threadIdx.x;
float s = 0;
for (int j = lane; j < x_shape[1]; j += WARP_SIZE) s += x[row * x_shape[1] + j];
for (int mask = 1; mask < 32; mask <<= 1) s += __shfl_xor_sync(0xffffffffu, s, mask);
if (lane == 0) out[row] = s;""",
         atol=1e-4, **WARP),
    Case("row_max_first_return", X, {"out": ((ROWS,), "float32")}, lambda x: x.max(1),
         # A return before a collective: the threads above 200 are gone when the others meet. GPUs run it; Metal forbids it.
         metal="""uint row = threadgroup_position_in_grid.x, t = thread_position_in_threadgroup.x;
threadgroup float best[8];
if (t >= 200) return;
float m = -INFINITY;
for (uint j = t; j < 500; j += 200) m = max(m, x[row * 500 + j]);
m = simd_max(m);
if (t % 32 == 0) best[t / 32] = m;
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t == 0) {
  for (int s = 1; s < 7; s++) m = max(m, best[s]);
  out[row] = m;
}""",
         cuda="""int row = blockIdx.x, t = threadIdx.x;
__shared__ float best[200];
if (t >= 200) return;
float m = -INFINITY;
for (int j = t; j < 500; j += 200) m = fmaxf(m, x[row * 500 + j]);
best[t] = m;
__syncthreads();
if (t == 0) {
  for (int s = 1; s < 200; s++) m = fmaxf(m, best[s]);
  out[row] = m;
}""",
         rtol=0, atol=0, metal_defect="barrier not reached", **ROW),
    Case("argmax_shuffle", draw(x=normal(ROWS, D)), {"out": ((ROWS,), "uint32")}, lambda x: x.argmax(1).astype(np.uint32),
         metal="""uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
float best = -INFINITY;
uint at = 0;
for (uint j = lane; j < 500; j += 32) if (x[row * 500 + j] > best) { best = x[row * 500 + j]; at = j; }
for (ushort d = 16; d > 0; d /= 2) {
  float other = simd_shuffle_down(best, d);
  uint where = simd_shuffle_down(at, d);
  if (lane + d < 32 && (other > best || (other == best && where < at))) { best = other; at = where; }
}
if (lane == 0) out[row] = at;""",
         cuda="""unsigned row = blockIdx.y, lane = threadIdx.x;
float best = -INFINITY;
unsigned at = 0;
for (unsigned j = lane; j < 500; j += 32) if (x[row * 500 + j] > best) { best = x[row * 500 + j]; at = j; }
for (int d = 16; d > 0; d /= 2) {
  float other = __shfl_down_sync(0xffffffff, best, d);
  unsigned where = __shfl_down_sync(0xffffffff, at, d);
  if (lane + d < 32 && (other > best || (other == best && where < at))) { best = other; at = where; }
}
if (lane == 0) out[row] = at;""", rtol=0, atol=0, **WARP),
    Case("softmax_threadgroup", X, {"out": ((ROWS, D), "float32")}, softmax, header=METAL_SUM, cuda_header=CUDA_SUM,
         **for_both(SOFTMAX, GROUP_MAX=(METAL_MAX, CUDA_MAX), MAX=("max", "fmaxf"), EXP=("exp", "expf")), **ROW),
    Case("layer_norm_rows", draw(x=normal(ROWS, D), w=normal(D), b=normal(D)), {"out": ((ROWS, D), "float32")},
         lambda x, w, b: (f64(x) - f64(x).mean(1, keepdims=True)) / np.sqrt(f64(x).var(1, keepdims=True) + 1e-5) * w + b,
         header=METAL_SUM, cuda_header=CUDA_SUM, **for_both(LAYER_NORM, SQRT=("sqrt", "sqrtf")), **ROW),
    Case("tree_sum_barriers", draw(x=normal(4, 256)), {"out": ((4,), "float32")}, lambda x: f64(x).sum(1),
         metal="""threadgroup float s[256];
uint t = thread_position_in_threadgroup.x;
s[t] = x[thread_position_in_grid.x];
for (uint half_size = 128; half_size > 0; half_size >>= 1) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < half_size) s[t] += s[t + half_size];
}
if (t == 0) out[threadgroup_position_in_grid.x] = s[0];""",
         cuda="""extern __shared__ float s[];
int t = threadIdx.x;
s[t] = x[blockIdx.x * blockDim.x + t];
for (int half_size = blockDim.x / 2; half_size > 0; half_size >>= 1) {
  __syncthreads();
  if (t < half_size) s[t] += s[t + half_size];
}
if (t == 0) out[blockIdx.x] = s[0];""",
         shared_memory=1024, grid=(1024, 1, 1), threadgroup=(256, 1, 1), atol=1e-4),
    Case("rms_norm_half", draw(x=lambda r: normal(ROWS, 128)(r).astype(np.float16), w=normal(128)),
         {"out": ((ROWS, 128), "float16")},
         lambda x, w: f64(x) / np.sqrt((f64(x) ** 2).mean(1, keepdims=True) + 1e-6) * w,
         metal="""uint row = thread_position_in_grid.y, lane = thread_position_in_grid.x;
const device half* r = x + row * 128;
float acc = 0.0f;
#define PER_LANE 4
for (int k = 0; k < PER_LANE; ++k) {
  float v = r[lane * PER_LANE + k];
  acc += v * v;
}
float inv = rsqrt(simd_sum(acc) / 128.0f + 1e-6f);
for (int k = 0; k < PER_LANE; ++k)
  out[row * 128 + lane * PER_LANE + k] = half(r[lane * PER_LANE + k] * inv * w[lane * PER_LANE + k]);""",
         # One rounding to half: 2^-11 of the value.
         rtol=5e-4, atol=1e-6, **WARP),
    Case("welford_variance", draw(x=lambda r: (1000 + normal(ROWS, D)(r)).astype(np.float32)),
         {"mean": ((ROWS,), "float32"), "variance": ((ROWS,), "float32")}, lambda x: (f64(x).mean(1), f64(x).var(1)),
         metal="""uint row = thread_position_in_grid.x;
if (row >= 6) return;
float m = 0, s = 0;
for (int j = 0; j < 500; ++j) {
  float v = x[row * 500 + j], d = v - m;
  m += d / (j + 1);
  s += d * (v - m);
}
mean[row] = m;
variance[row] = s / 500;""",
         cuda="""int row = blockIdx.x * blockDim.x + threadIdx.x;
if (row >= 6) return;
float m = 0, s = 0;
for (int j = 0; j < 500; ++j) {
  float v = x[row * 500 + j], d = v - m;
  m += d / (j + 1);
  s += d * (v - m);
}
mean[row] = m;
variance[row] = s / 500;""",
         # Means of values near 1000: each of 500 updates rounds to 2^-24 · 1000.
         rtol=2e-3, atol=0, grid=(8, 1, 1), threadgroup=(8, 1, 1)),
    Case("dot_two_levels", draw(x=normal(2048), y=normal(2048)), {"out": ((1,), "float32")},
         lambda x, y: np.array([f64(x) @ f64(y)]),
         header=METAL_SUM, cuda_header=CUDA_SUM,
         **for_both("""float s = 0.0f;
for (uint j = t; j < 2048; j += 256) s += x[j] * y[j];
s = group_sum(s, scratch, simd, lane);
if (t == 0) out[0] = s;
"""),
         grid=(256, 1, 1), threadgroup=(256, 1, 1), atol=2e-4),
    Case("l2_normalise_cooperative", draw(x=normal(ROWS, 64)), {"out": ((ROWS, 64), "float32")},
         lambda x: f64(x) / np.sqrt((f64(x) ** 2).sum(1, keepdims=True)),
         cuda="""auto block = cg::this_thread_block();
auto warp = cg::tiled_partition<32>(block);
int row = blockIdx.x;
float a = x[row * 64 + warp.thread_rank()], b = x[row * 64 + 32 + warp.thread_rank()];
float sum = cg::reduce(warp, a * a + b * b, cg::plus<float>());
float inv = rsqrtf(sum);
out[row * 64 + warp.thread_rank()] = a * inv;
out[row * 64 + 32 + warp.thread_rank()] = b * inv;""",
         grid=(32 * ROWS, 1, 1), threadgroup=(32, 1, 1)),
    Case("log_sum_exp_columns", draw(x=normal(40, 33)), {"out": ((33,), "float32")},
         lambda x: np.log(np.exp(f64(x)).sum(0)),
         metal="""uint c = thread_position_in_grid.x;
float m = -INFINITY, s = 0.0f;
for (uint r = 0; r < x_shape[0]; r++) {
  float v = x[r * x_shape[1] + c];
  float n = max(m, v);
  s = s * exp(m - n) + exp(v - n);
  m = n;
}
out[c] = m + log(s);""",
         cuda="""int c = blockIdx.x * blockDim.x + threadIdx.x;
if (c >= x_shape[1]) return;
float m = -INFINITY, s = 0.0f;
for (int r = 0; r < x_shape[0]; r++) {
  float v = x[r * x_shape[1] + c];
  float n = fmaxf(m, v);
  s = s * expf(m - n) + expf(v - n);
  m = n;
}
out[c] = m + logf(s);""",
         grid=(33, 1, 1), threadgroup=(16, 1, 1)),
]
