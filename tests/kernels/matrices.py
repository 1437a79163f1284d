"""Products, transposes, triangular systems."""

import numpy as np

from .case import Case, draw, each, normal

EXACT = {"rtol": 0.0, "atol": 0.0}


def product(a, b):
    return a.astype(np.float64) @ b.astype(np.float64)


def solve(l, b):
    return np.linalg.solve(np.tril(l.astype(np.float64)), b.astype(np.float64))


def lower(random):
    return (0.2 * random.standard_normal((12, 12)) + 2 * np.eye(12)).astype(np.float32)


TILED_METAL = """threadgroup float ta[8][8], tb[8][8];
uint2 g = thread_position_in_grid.xy, t = thread_position_in_threadgroup.xy;
float sum = 0.0f;
for (uint k = 0; k < 24; k += 8) {
  ta[t.y][t.x] = a[g.y * 24 + k + t.x];
  tb[t.y][t.x] = b[(k + t.y) * 32 + g.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint j = 0; j < 8; ++j) sum += ta[t.y][j] * tb[j][t.x];
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[g.y * 32 + g.x] = sum;
"""
TILED_CUDA = """__shared__ float ta[8][8], tb[8][8];
int gx = blockIdx.x * 8 + threadIdx.x, gy = blockIdx.y * 8 + threadIdx.y, tx = threadIdx.x, ty = threadIdx.y;
float sum = 0.0f;
for (int k = 0; k < 24; k += 8) {
  ta[ty][tx] = a[gy * 24 + k + tx];
  tb[ty][tx] = b[(k + ty) * 32 + gx];
  __syncthreads();
#pragma unroll
  for (int j = 0; j < 8; ++j) sum += ta[ty][j] * tb[j][tx];
  __syncthreads();
}
out[gy * 32 + gx] = sum;
"""
SIMDGROUP = """simdgroup_matrix<float, 8, 8> left, right;
simdgroup_matrix<float, 8, 8> sum = simdgroup_matrix<float, 8, 8>(0.0f);
uint2 tile = threadgroup_position_in_grid.xy;
for (uint k = 0; k < 24; k += 8) {
  simdgroup_load(left, a + tile.y * 8 * 24 + k, 24);
  simdgroup_load(right, b + k * 32 + tile.x * 8, 32);
  simdgroup_multiply_accumulate(sum, left, right, sum);
}
simdgroup_store(sum, out + tile.y * 8 * 32 + tile.x * 8, 32);
"""
AB = draw(a=normal(16, 24), b=normal(24, 32))

CASES = [
    Case("matmul_naive", AB, {"out": ((16, 32), "float32")}, product,
         metal="""uint2 p = thread_position_in_grid.xy;
float s = 0.0;
for (int k = 0; k < a_shape[1]; ++k) s += a[p.y * a_shape[1] + k] * b[k * b_shape[1] + p.x];
out[p.y * b_shape[1] + p.x] = s;""",
         cuda="""int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
if (x >= b_shape[1] || y >= a_shape[0]) return;
float s = 0.0f;
for (int k = 0; k < a_shape[1]; ++k) s += a[y * a_shape[1] + k] * b[k * b_shape[1] + x];
out[y * b_shape[1] + x] = s;""",
         grid=(32, 16, 1), threadgroup=(16, 16, 1)),
    Case("matmul_tiled", AB, {"out": ((16, 32), "float32")}, product, metal=TILED_METAL, cuda=TILED_CUDA, grid=(32, 16, 1),
         threadgroup=(8, 8, 1)),
    Case("matmul_simdgroup_matrix", AB, {"out": ((16, 32), "float32")}, product, metal=SIMDGROUP,
         header="#include <metal_simdgroup_matrix>\n",
         grid=(32 * 4, 2, 1), threadgroup=(32, 1, 1)),
    Case("transpose_padded_tile", draw(x=normal(20, 33)), {"out": ((33, 20), "float32")}, lambda x: x.T,
         metal="""threadgroup float tile[16][17];
uint2 g = threadgroup_position_in_grid.xy * 16, t = thread_position_in_threadgroup.xy;
if (g.x + t.x < 33 && g.y + t.y < 20) tile[t.y][t.x] = x[(g.y + t.y) * 33 + g.x + t.x];
threadgroup_barrier(mem_flags::mem_threadgroup);
if (g.y + t.x < 20 && g.x + t.y < 33) out[(g.x + t.y) * 20 + g.y + t.x] = tile[t.x][t.y];""",
         cuda="""__shared__ float tile[16][17];
int gx = blockIdx.x * 16, gy = blockIdx.y * 16, tx = threadIdx.x, ty = threadIdx.y;
if (gx + tx < 33 && gy + ty < 20) tile[ty][tx] = x[(gy + ty) * 33 + gx + tx];
__syncthreads();
if (gy + tx < 20 && gx + ty < 33) out[(gx + ty) * 20 + gy + tx] = tile[tx][ty];""",
         grid=(48, 32, 1), threadgroup=(16, 16, 1), **EXACT),
    Case("batched_matvec_half", draw(w=lambda r: normal(3, 10, 64, scale=0.3)(r).astype(np.float16),
                                     x=lambda r: normal(3, 64)(r).astype(np.float16)),
         {"out": ((3, 10), "float32")}, lambda w, x: np.einsum("bij,bj->bi", w.astype(np.float64), x.astype(np.float64)),
         metal="""uint3 p = thread_position_in_grid;
const device half4* row = (const device half4*)(w + (p.z * 10 + p.y) * 64);
const device half4* v = (const device half4*)(x + p.z * 64);
float s = 0;
for (uint j = p.x; j < 16; j += 32) s += dot(float4(row[j]), float4(v[j]));
s = simd_sum(s);
if (p.x == 0) out[p.z * 10 + p.y] = s;""",
         cuda="""int lane = threadIdx.x, row = blockIdx.y, batch = blockIdx.z;
float s = 0;
if (lane < 16)
  for (int k = 0; k < 4; ++k)
    s += __half2float(w[(batch * 10 + row) * 64 + lane * 4 + k]) * __half2float(x[batch * 64 + lane * 4 + k]);
for (int m = 1; m < 32; m *= 2) s += __shfl_xor_sync(0xffffffff, s, m);
if (lane == 0) out[batch * 10 + row] = s;""",
         # The order within a vector's dot product is the library's.
         grid=(32, 10, 3), threadgroup=(32, 1, 1), same_bits=False),
    Case("triangular_solve", draw(l=lower, b=normal(12, 20)), {"out": ((12, 20), "float32")}, solve,
         **each("""if (i >= 20) return;
float y[12];
for (int r = 0; r < 12; ++r) {
  float s = b[r * 20 + i];
  for (int c = 0; c < r; ++c) s -= l[r * 12 + c] * y[c];
  y[r] = s / l[r * 12 + r];
  out[r * 20 + i] = y[r];
}"""), grid=(20, 1, 1), threadgroup=(20, 1, 1)),
    Case("outer_sum_of_rows", draw(a=normal(6), b=normal(9)), {"out": ((6, 9), "float32")}, lambda a, b: a[:, None] + b[None],
         metal="uint2 p = thread_position_in_grid.xy;\nout[p.y * 9 + p.x] = a[p.y] + b[p.x];",
         cuda="int x = threadIdx.x, y = blockIdx.y;\nout[y * 9 + x] = a[y] + b[x];", grid=(9, 6, 1), threadgroup=(9, 1, 1),
         **EXACT),
]
