"""Prefix sums and what is built on them."""

import numpy as np

from .case import Case, draw, integers, normal

EXACT = {"rtol": 0.0, "atol": 0.0}


def segmented(x, flags):
    out, sum_ = np.zeros(len(x), np.int32), 0
    for i in range(len(x)):
        sum_ = x[i] if flags[i] else sum_ + x[i]
        out[i] = sum_
    return out


def compact(x):
    kept = x[x > 0]
    return np.concatenate([kept, np.full(len(x) - len(kept), -1, x.dtype)]), np.array([len(kept)], np.int32)


CASES = [
    Case("simd_prefix_sum", draw(x=integers(0, 100, 8, 32)), {"inclusive": ((8, 32), "int32"), "exclusive": ((8, 32), "int32")},
         lambda x: (np.cumsum(x, 1, dtype=np.int32), np.cumsum(x, 1, dtype=np.int32) - x),
         metal="""uint i = thread_position_in_grid.x;
inclusive[i] = simd_prefix_inclusive_sum(x[i]);
exclusive[i] = simd_prefix_exclusive_sum(x[i]);""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
int v = x[i], s = v;
for (int d = 1; d < 32; d *= 2) {
  int other = __shfl_up_sync(0xffffffff, s, d);
  if (lane >= d) s += other;
}
inclusive[i] = s;
exclusive[i] = s - v;""", grid=(256, 1, 1), threadgroup=(64, 1, 1), **EXACT),
    Case("block_scan_double_buffer", draw(x=integers(-50, 50, 3, 200)), {"out": ((3, 200), "int32")},
         lambda x: np.cumsum(x, 1, dtype=np.int32),
         # Hillis & Steele's scan: two buffers, so that one barrier a step is enough.
         metal="""threadgroup int buffer[2][200];
uint t = thread_position_in_threadgroup.x, row = threadgroup_position_in_grid.x;
uint from = 0;
buffer[0][t] = x[row * 200 + t];
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint d = 1; d < 200; d *= 2) {
  uint to = 1 - from;
  buffer[to][t] = t >= d ? buffer[from][t] + buffer[from][t - d] : buffer[from][t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  from = to;
}
out[row * 200 + t] = buffer[from][t];""",
         cuda="""__shared__ int buffer[2][200];
int t = threadIdx.x, row = blockIdx.x, from = 0;
buffer[0][t] = x[row * 200 + t];
__syncthreads();
for (int d = 1; d < 200; d *= 2) {
  int to = 1 - from;
  buffer[to][t] = t >= d ? buffer[from][t] + buffer[from][t - d] : buffer[from][t];
  __syncthreads();
  from = to;
}
out[row * 200 + t] = buffer[from][t];""", grid=(600, 1, 1), threadgroup=(200, 1, 1), **EXACT),
    Case("cumsum_carried", draw(x=normal(5, 300)), {"out": ((5, 300), "float32")}, lambda x: np.cumsum(x.astype(np.float64), 1),
         # One simdgroup a row; the last lane's sum is carried to the next 32 elements.
         metal="""uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
float carry = 0.0f;
for (uint j = 0; j < 300; j += 32) {
  float v = j + lane < 300 ? x[row * 300 + j + lane] : 0.0f;
  float s = simd_prefix_inclusive_sum(v) + carry;
  if (j + lane < 300) out[row * 300 + j + lane] = s;
  carry = simd_broadcast(s, 31);
}""", grid=(32, 5, 1), threadgroup=(32, 1, 1), atol=2e-4),
    Case("segmented_sum", draw(x=integers(0, 10, 64), flags=integers(0, 2, 64, dtype=np.uint8)), {"out": ((64,), "int32")},
         segmented,
         metal="""uint i = thread_position_in_grid.x;
int s = 0;
for (int j = int(i); j >= 0; --j) {
  s += x[j];
  if (flags[j]) break;
}
out[i] = s;""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 64) return;
int s = 0;
for (int j = i; j >= 0; --j) {
  s += x[j];
  if (flags[j]) break;
}
out[i] = s;""",
         grid=(64, 1, 1), threadgroup=(64, 1, 1), **EXACT),
    Case("stream_compaction", draw(x=integers(-5, 6, 256)), {"out": ((256,), "int32"), "count": ((1,), "int32")}, compact,
         init_value=-1,
         metal="""threadgroup int totals[8];
uint t = thread_position_in_threadgroup.x;
int keep = x[t] > 0;
int before = simd_prefix_exclusive_sum(keep);
if (thread_index_in_simdgroup == 31) totals[simdgroup_index_in_threadgroup] = before + keep;
threadgroup_barrier(mem_flags::mem_threadgroup);
int base = 0;
for (uint s = 0; s < simdgroup_index_in_threadgroup; s++) base += totals[s];
if (keep) out[base + before] = x[t];
if (t == 255) count[0] = base + before + keep;""",
         cuda="""__shared__ int totals[8];
int t = threadIdx.x, lane = t % 32, warp = t / 32;
bool keep = x[t] > 0;
unsigned votes = __ballot_sync(0xffffffff, keep);
int before = __popc(votes & ((1u << lane) - 1));
if (lane == 0) totals[warp] = __popc(votes);
__syncthreads();
int base = 0;
for (int s = 0; s < warp; s++) base += totals[s];
if (keep) out[base + before] = x[t];
if (t == 255) count[0] = base + before + keep;""",
         grid=(256, 1, 1), threadgroup=(256, 1, 1), **EXACT),
    Case("running_maximum", draw(x=normal(4, 32)), {"out": ((4, 32), "float32")}, lambda x: np.maximum.accumulate(x, 1),
         metal="""uint i = thread_position_in_grid.x;
float m = x[i];
for (ushort d = 1; d < 32; d *= 2) {
  float other = simd_shuffle_up(m, d);
  if (thread_index_in_simdgroup >= d) m = max(m, other);
}
out[i] = m;""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
float m = x[i];
for (int d = 1; d < 32; d *= 2) {
  float other = __shfl_up_sync(0xffffffff, m, d);
  if (threadIdx.x % 32 >= d) m = fmaxf(m, other);
}
out[i] = m;""",
         grid=(128, 1, 1), threadgroup=(32, 1, 1), **EXACT),
]
