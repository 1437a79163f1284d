"""Attention and what stands around it."""

import numpy as np

from .case import Case, draw, normal

T, D = 40, 32
QKV = draw(q=normal(T, D), k=normal(T, D), v=normal(T, D))


def f64(x):
    return x.astype(np.float64)


def attend(q, k, v, bias=0.0):
    s = f64(q) @ f64(k).T / np.sqrt(q.shape[-1]) + bias
    p = np.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ f64(v)


def causal(n, window=None):
    i, j = np.ogrid[:n, :n]
    seen = (j <= i) if window is None else (j <= i) & (j > i - window)
    return np.where(seen, 0.0, -np.inf)


def rope(x, offset):
    angles = (np.arange(T) + offset)[:, None] * 10000.0 ** (-np.arange(16) / 16)
    a, b = f64(x[:, :16]), f64(x[:, 16:])
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), a * np.sin(angles) + b * np.cos(angles)], 1)


def sinkhorn(x):
    p = np.exp(f64(x))
    for _ in range(6):
        p = p / p.sum(1, keepdims=True)
        p = p / p.sum(0, keepdims=True)
    return p


# Online softmax (Milakov & Gimelshein): one thread a query, its accumulator in registers.
FLASH = """if (i >= 40) return;
float acc[32], top = -INFINITY, sum = 0.0f;
for (int d = 0; d < 32; ++d) acc[d] = 0.0f;
for (int j = 0; j <= int(i); ++j) {
  float s = 0.0f;
  for (int d = 0; d < 32; ++d) s += q[i * 32 + d] * k[j * 32 + d];
  s *= 0.1767766953f;
  float n = MAX(top, s), keep = EXP(top - n), p = EXP(s - n);
  sum = sum * keep + p;
  for (int d = 0; d < 32; ++d) acc[d] = acc[d] * keep + p * v[j * 32 + d];
  top = n;
}
for (int d = 0; d < 32; ++d) out[i * 32 + d] = acc[d] / sum;
"""

TILED = """threadgroup float ks[8][32], vs[8][32];
uint query = thread_position_in_grid.y, lane = thread_index_in_simdgroup, row = thread_position_in_threadgroup.y;
float qd = q[query * 32 + lane] * 0.1767766953f, acc = 0.0f, top = -INFINITY, sum = 0.0f;
for (uint start = 0; start < 40; start += 8) {
  ks[row][lane] = k[(start + row) * 32 + lane];
  vs[row][lane] = v[(start + row) * 32 + lane];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint j = 0; j < 8; ++j) {
    float s = simd_sum(qd * ks[j][lane]);
    float n = max(top, s), keep = exp(top - n), p = exp(s - n);
    sum = sum * keep + p;
    acc = acc * keep + p * vs[j][lane];
    top = n;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[query * 32 + lane] = acc / sum;
"""
TILED_CUDA = """__shared__ float ks[8][32], vs[8][32];
int query = blockIdx.y * 8 + threadIdx.y, lane = threadIdx.x, row = threadIdx.y;
float qd = q[query * 32 + lane] * 0.1767766953f, acc = 0.0f, top = -INFINITY, sum = 0.0f;
for (int start = 0; start < 40; start += 8) {
  ks[row][lane] = k[(start + row) * 32 + lane];
  vs[row][lane] = v[(start + row) * 32 + lane];
  __syncthreads();
  for (int j = 0; j < 8; ++j) {
    float s = qd * ks[j][lane];
    for (int m = 1; m < 32; m *= 2) s += __shfl_xor_sync(0xffffffff, s, m);
    float n = fmaxf(top, s), keep = expf(top - n), p = expf(s - n);
    sum = sum * keep + p;
    acc = acc * keep + p * vs[j][lane];
    top = n;
  }
  __syncthreads();
}
out[query * 32 + lane] = acc / sum;
"""
WINDOWED = """uint query = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
int first = max(0, int(query) - WINDOW + 1);
float qd = q[query * 32 + lane], acc = 0.0f, top = -INFINITY, sum = 0.0f;
for (int j = first; j <= int(query); ++j) {
  float s = simd_sum(qd * k[j * 32 + lane]) * 0.1767766953f + SLOPE * float(j - int(query)) / 16;
  float n = max(top, s), keep = exp(top - n), p = exp(s - n);
  sum = sum * keep + p;
  acc = acc * keep + p * v[j * 32 + lane];
  top = n;
}
out[query * 32 + lane] = acc / sum;
"""

CASES = [
    Case("flash_attention_causal", QKV, {"out": ((T, D), "float32")}, lambda q, k, v: attend(q, k, v, causal(T)),
         metal="uint i = thread_position_in_grid.x;\n" + FLASH.replace("MAX", "max").replace("EXP", "exp"),
         cuda="unsigned i = blockIdx.x * blockDim.x + threadIdx.x;\n" + FLASH.replace("MAX", "fmaxf").replace("EXP", "expf"),
         grid=(40, 1, 1), threadgroup=(16, 1, 1)),
    Case("flash_attention_tiled", QKV, {"out": ((T, D), "float32")}, attend, metal=TILED, cuda=TILED_CUDA, grid=(32, 40, 1),
         threadgroup=(32, 8, 1)),
    Case("sliding_window_alibi", QKV, {"out": ((T, D), "float32")},
         lambda q, k, v: attend(q, k, v, causal(T, 7) + 3 * (np.arange(T)[None] - np.arange(T)[:, None]) / 16),
         metal=WINDOWED, template=(("WINDOW", 7), ("SLOPE", 3)), grid=(32, T, 1), threadgroup=(32, 4, 1)),
    Case("rope_half_split", draw(x=normal(T, D), offset=5), {"out": ((T, D), "float32")}, rope,
         metal="""uint2 p = thread_position_in_grid.xy;
float theta = float(p.y + uint(offset)) * metal::exp2(-float(p.x) / 16.0f * 13.287712379549449f);
float c = metal::precise::cos(theta), s = metal::precise::sin(theta);
float a = x[p.y * 32 + p.x], b = x[p.y * 32 + 16 + p.x];
out[p.y * 32 + p.x] = a * c - b * s;
out[p.y * 32 + 16 + p.x] = a * s + b * c;""",
         cuda="""int px = threadIdx.x, py = blockIdx.y * blockDim.y + threadIdx.y;
float theta = float(py + *offset) * exp2f(-float(px) / 16.0f * 13.287712379549449f);
float c = cosf(theta), s = sinf(theta);
float a = x[py * 32 + px], b = x[py * 32 + 16 + px];
out[py * 32 + px] = a * c - b * s;
out[py * 32 + 16 + px] = a * s + b * c;""",
         # The angle itself, up to 44, is float32: half an ulp of it is 2e-6,
         # and its factor has an error of 13.3 ulps in the exponent.
         grid=(16, T, 1), threadgroup=(16, 4, 1), atol=2e-4),
    Case("paged_decode", draw(q=normal(4, D), k=normal(5, 8, D), v=normal(5, 8, D),
                              table=lambda r: r.permutation(5)[:4].astype(np.int32), length=29),
         {"out": ((4, D), "float32")},
         lambda q, k, v, table, length: attend(q, k[table].reshape(-1, D)[:length], v[table].reshape(-1, D)[:length]),
         # Four simdgroups share a head's keys and merge their sums through threadgroup memory.
         metal="""uint head = threadgroup_position_in_grid.x, lane = thread_index_in_simdgroup, part = simdgroup_index_in_threadgroup;
threadgroup float tops[4], sums[4], parts[4][32];
float qd = q[head * 32 + lane] * 0.1767766953f;
float acc = 0, top = -INFINITY, sum = 0;
for (int j = part; j < length; j += 4) {
  int page = table[j / 8];
  const device float* row = k + (page * 8 + j % 8) * 32;
  float s = simd_sum(qd * row[lane]);
  float n = max(top, s), keep = exp(top - n), p = exp(s - n);
  sum = sum * keep + p;
  acc = acc * keep + p * v[(page * 8 + j % 8) * 32 + lane];
  top = n;
}
parts[part][lane] = acc;
if (lane == 0) { tops[part] = top; sums[part] = sum; }
threadgroup_barrier(mem_flags::mem_threadgroup);
if (part == 0) {
  float m = simd_max(tops[lane % 4]), total = 0, value = 0;
  for (int s = 0; s < 4; s++) {
    float w = exp(tops[s] - m);
    total += w * sums[s];
    value += w * parts[s][lane];
  }
  out[head * 32 + lane] = value / total;
}""",
         grid=(128 * 4, 1, 1), threadgroup=(128, 1, 1)),
    Case("sinkhorn_normalise", draw(x=normal(16, 16)), {"out": ((16, 16), "float32")}, sinkhorn,
         metal="""threadgroup float p[16][17];
uint2 t = thread_position_in_threadgroup.xy;
p[t.y][t.x] = exp(x[t.y * 16 + t.x]);
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int step = 0; step < 6; ++step) {
  float s = 0;
  for (int j = 0; j < 16; ++j) s += p[t.y][j];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  p[t.y][t.x] /= s;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  s = 0;
  for (int j = 0; j < 16; ++j) s += p[j][t.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  p[t.y][t.x] /= s;
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[t.y * 16 + t.x] = p[t.y][t.x];""",
         cuda="""__shared__ float p[16][17];
int tx = threadIdx.x, ty = threadIdx.y;
p[ty][tx] = expf(x[ty * 16 + tx]);
__syncthreads();
for (int step = 0; step < 6; ++step) {
  float s = 0;
  for (int j = 0; j < 16; ++j) s += p[ty][j];
  __syncthreads();
  p[ty][tx] /= s;
  __syncthreads();
  s = 0;
  for (int j = 0; j < 16; ++j) s += p[j][tx];
  __syncthreads();
  p[ty][tx] /= s;
  __syncthreads();
}
out[ty * 16 + tx] = p[ty][tx];""", grid=(16, 16, 1), threadgroup=(16, 16, 1)),
]
