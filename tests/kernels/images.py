"""Images and grids: sampling, convolution, pooling."""

import numpy as np

from .case import F32, Case, draw, each, integers, normal

EXACT = {"rtol": 0.0, "atol": 0.0}


def f64(x):
    return x.astype(np.float64)


def keys_weights(t, a=-0.75):
    """Keys's cubic convolution (1981)."""
    d = np.array([1 + t, t, 1 - t, 2 - t])
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def bicubic(x, size):
    h, w = x.shape
    out = np.zeros((size, size))
    for oy in range(size):
        for ox in range(size):
            fy, fx = (oy + 0.5) * h / size - 0.5, (ox + 0.5) * w / size - 0.5
            iy, ix = int(np.floor(fy)), int(np.floor(fx))
            wy, wx = keys_weights(fy - iy), keys_weights(fx - ix)
            ys, xs = np.clip(np.arange(iy - 1, iy + 3), 0, h - 1), np.clip(np.arange(ix - 1, ix + 3), 0, w - 1)
            out[oy, ox] = wy @ f64(x)[np.ix_(ys, xs)] @ wx
    return out


def grid_sample(x, points):
    h, w = x.shape
    padded = np.zeros((h + 2, w + 2))
    padded[1:-1, 1:-1] = x
    out = []
    for px, py in f64(points):
        fx, fy = (px + 1) * w / 2 - 0.5, (py + 1) * h / 2 - 0.5
        ix, iy = int(np.floor(fx)), int(np.floor(fy))
        tx, ty = fx - ix, fy - iy
        value = 0.0
        for dy, wy in ((0, 1 - ty), (1, ty)):
            for dx, wx in ((0, 1 - tx), (1, tx)):
                if 0 <= iy + dy < h and 0 <= ix + dx < w:
                    value += wy * wx * padded[iy + dy + 1, ix + dx + 1]
        out.append(value)
    return np.array(out)


def convolve3(x, w):
    padded = np.pad(f64(x), 1)
    return sum(f64(w)[i, j] * padded[i:i + x.shape[0], j:j + x.shape[1]] for i in range(3) for j in range(3))


def im2col(x):
    return np.stack([x[i:i + 6, j:j + 8] for i in range(3) for j in range(3)], -1).reshape(48, 9)


BICUBIC = """
FUNCTION float cubic(float d) {
  d = ABS(d);
  const float a = -0.75f;
  if (d <= 1.0f) return ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f;
  if (d < 2.0f) return ((a * d - 5.0f * a) * d + 8.0f * a) * d - 4.0f * a;
  return 0.0f;
}
"""
BICUBIC_BODY = """POSITION
float fy = (oy + 0.5f) * 0.7f - 0.5f, fx = (ox + 0.5f) * 0.7f - 0.5f;
int iy = int(FLOOR(fy)), ix = int(FLOOR(fx));
float s = 0.0f;
for (int dy = -1; dy <= 2; ++dy) {
  for (int dx = -1; dx <= 2; ++dx) {
    int y = MIN(MAX(iy + dy, 0), 6), z = MIN(MAX(ix + dx, 0), 6);
    s += cubic(fy - (iy + dy)) * cubic(fx - (ix + dx)) * x[y * 7 + z];
  }
}
out[oy * 10 + ox] = s;
"""


def words(text, **pairs):
    """One text for (Metal, CUDA)."""
    texts = [text, text]
    for word, pair in pairs.items():
        texts = [t.replace(word, new) for t, new in zip(texts, pair)]
    return texts


BICUBIC_HEADERS = words(BICUBIC, FUNCTION=("inline", "__device__ inline"), ABS=("abs", "fabsf"))
BICUBIC_BODIES = words(BICUBIC_BODY, FLOOR=("floor", "floorf"), MIN=("min", "min"), MAX=("max", "max"), POSITION=(
    "uint ox = thread_position_in_grid.x, oy = thread_position_in_grid.y;",
    """int ox = blockIdx.x * blockDim.x + threadIdx.x, oy = blockIdx.y * blockDim.y + threadIdx.y;
if (ox >= 10 || oy >= 10) return;"""))

CASES = [
    Case("bicubic_upsample", draw(x=normal(7, 7)), {"out": ((10, 10), "float32")}, lambda x: bicubic(x, 10),
         metal=BICUBIC_BODIES[0],
         cuda=BICUBIC_BODIES[1], header=BICUBIC_HEADERS[0], cuda_header=BICUBIC_HEADERS[1], grid=(10, 10, 1),
         threadgroup=(4, 4, 1)),
    Case("grid_sample_bilinear", draw(x=normal(9, 11), points=lambda r: r.uniform(-1.3, 1.3, (50, 2)).astype(np.float32)),
         {"out": ((50,), "float32")}, grid_sample,
         metal="""uint i = thread_position_in_grid.x;
float2 p = ((const device float2*)points)[i];
int2 size = int2(x_shape[1], x_shape[0]);
float2 f = (p + 1.0) * float2(size) * 0.5 - 0.5;
int2 c = int2(floor(f));
float2 t = f - float2(c);
float s = 0;
for (int dy = 0; dy < 2; dy++)
  for (int dx = 0; dx < 2; dx++) {
    int2 q = c + int2(dx, dy);
    if (any(q < 0) || any(q >= size)) continue;
    s += (dx ? t.x : 1 - t.x) * (dy ? t.y : 1 - t.y) * x[q.y * size.x + q.x];
  }
out[i] = s;""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 50) return;
float2 p = ((const float2*)points)[i];
int w = x_shape[1], h = x_shape[0];
float fx = (p.x + 1.0f) * w * 0.5f - 0.5f, fy = (p.y + 1.0f) * h * 0.5f - 0.5f;
int cx = (int)floorf(fx), cy = (int)floorf(fy);
float tx = fx - cx, ty = fy - cy, s = 0;
for (int dy = 0; dy < 2; dy++)
  for (int dx = 0; dx < 2; dx++) {
    int qx = cx + dx, qy = cy + dy;
    if (qx < 0 || qy < 0 || qx >= w || qy >= h) continue;
    s += (dx ? tx : 1 - tx) * (dy ? ty : 1 - ty) * x[qy * w + qx];
  }
out[i] = s;""",
         grid=(50, 1, 1), threadgroup=(32, 1, 1)),
    Case("convolution_tile", draw(x=normal(13, 18), w=normal(3, 3)), {"out": ((13, 18), "float32")}, convolve3,
         # A tile with its halo in threadgroup memory; the last tiles are partial in Metal and padded in CUDA.
         metal="""threadgroup float tile[10][10];
uint2 g = thread_position_in_grid.xy, t = thread_position_in_threadgroup.xy, size = threads_per_threadgroup.xy;
int2 corner = int2(threadgroup_position_in_grid.xy) * 8 - 1;
for (uint y = t.y; y < 10; y += size.y)
  for (uint z = t.x; z < 10; z += size.x) {
    int2 q = corner + int2(z, y);
    bool inside = q.x >= 0 && q.y >= 0 && q.x < 18 && q.y < 13;
    tile[y][z] = inside ? x[q.y * 18 + q.x] : 0.0f;
  }
threadgroup_barrier(mem_flags::mem_threadgroup);
float s = 0;
for (int i = 0; i < 3; i++)
  for (int j = 0; j < 3; j++) s += w[i * 3 + j] * tile[t.y + i][t.x + j];
out[g.y * 18 + g.x] = s;""",
         cuda="""__shared__ float tile[10][10];
int gx = blockIdx.x * 8 + threadIdx.x, gy = blockIdx.y * 8 + threadIdx.y;
int cx = blockIdx.x * 8 - 1, cy = blockIdx.y * 8 - 1;
for (int y = threadIdx.y; y < 10; y += 8)
  for (int z = threadIdx.x; z < 10; z += 8) {
    int qx = cx + z, qy = cy + y;
    bool inside = qx >= 0 && qy >= 0 && qx < 18 && qy < 13;
    tile[y][z] = inside ? x[qy * 18 + qx] : 0.0f;
  }
__syncthreads();
if (gx >= 18 || gy >= 13) return;
float s = 0;
for (int i = 0; i < 3; i++)
  for (int j = 0; j < 3; j++) s += w[i * 3 + j] * tile[threadIdx.y + i][threadIdx.x + j];
out[gy * 18 + gx] = s;""", grid=(18, 13, 1), threadgroup=(8, 8, 1)),
    Case("max_pool_with_index", draw(x=normal(10, 12)), {"out": ((5, 6), "float32"), "index": ((5, 6), "int32")},
         lambda x: (lambda b: (b.max(-1), (np.arange(5)[:, None] * 2 + b.argmax(-1) // 2) * 12 + np.arange(6) * 2 + b.argmax(-1) % 2))(
             x.reshape(5, 2, 6, 2).transpose(0, 2, 1, 3).reshape(5, 6, 4)),
         metal="""uint2 p = thread_position_in_grid.xy;
float best = -INFINITY;
int at = 0;
for (uint d = 0; d < 4; ++d) {
  int q = (2 * p.y + d / 2) * 12 + 2 * p.x + d % 2;
  if (x[q] > best) { best = x[q]; at = q; }
}
out[p.y * 6 + p.x] = best;
index[p.y * 6 + p.x] = at;""",
         cuda="""int px = threadIdx.x, py = threadIdx.y;
float best = -INFINITY;
int at = 0;
for (int d = 0; d < 4; ++d) {
  int q = (2 * py + d / 2) * 12 + 2 * px + d % 2;
  if (x[q] > best) { best = x[q]; at = q; }
}
out[py * 6 + px] = best;
index[py * 6 + px] = at;""",
         grid=(6, 5, 1), threadgroup=(6, 5, 1), **EXACT),
    Case("im2col_patches", draw(x=normal(8, 10)), {"out": ((48, 9), "float32")}, im2col,
         **each("""if (i >= 432) return;
int k = i % 9, p = i / 9;
out[i] = x[(p / 8 + k / 3) * 10 + p % 8 + k % 3];"""), grid=(432, 1, 1), threadgroup=(64, 1, 1), **EXACT),
    Case("pixel_shuffle", draw(x=integers(0, 100, 4, 3, 5)), {"out": ((6, 10), "int32")},
         lambda x: x.reshape(2, 2, 3, 5).transpose(2, 0, 3, 1).reshape(6, 10),
         metal="""uint3 p = thread_position_in_grid;
out[(p.y * 2 + p.z / 2) * 10 + p.x * 2 + p.z % 2] = x[(p.z * 3 + p.y) * 5 + p.x];""",
         cuda="""dim3 b = blockIdx, d = blockDim, t = threadIdx, p(b.x * d.x + t.x, b.y * d.y + t.y, b.z * d.z + t.z);
if (p.x < 5 && p.y < 3 && p.z < 4) out[(p.y * 2 + p.z / 2) * 10 + p.x * 2 + p.z % 2] = x[(p.z * 3 + p.y) * 5 + p.x];""",
         grid=(5, 3, 4), threadgroup=(2, 2, 3), **EXACT),
    Case("ragged_3d_positions", draw(), {"out": ((5, 7, 9), "uint32")},
         # x, y, z of a thread and of its group, where no size divides the grid.
         lambda: (lambda z, y, x: (x // 4 * 1000 + x % 4 * 100 + y // 3 * 10 + y % 3 + z // 2 * 10000 + z % 2 * 5).astype(np.uint32))(
             *np.indices((5, 7, 9))),
         metal="""uint3 g = thread_position_in_grid, t = thread_position_in_threadgroup, b = threadgroup_position_in_grid;
out[(g.z * 7 + g.y) * 9 + g.x] = b.x * 1000 + t.x * 100 + b.y * 10 + t.y + b.z * 10000 + t.z * 5;""",
         cuda="""dim3 b = blockIdx, d = blockDim, t = threadIdx;
unsigned x = b.x * d.x + t.x, y = b.y * d.y + t.y, z = b.z * d.z + t.z;
if (x >= 9 || y >= 7 || z >= 5) return;
out[(z * 7 + y) * 9 + x] = b.x * 1000 + t.x * 100 + b.y * 10 + t.y + b.z * 10000 + t.z * 5;""",
         grid=(9, 7, 5), threadgroup=(4, 3, 2), **EXACT),
    Case("rgb_to_grey", draw(x=integers(0, 256, 40, 3, dtype=np.uint8)), {"out": ((40,), "uint8")},
         lambda x: ((x.astype(np.int32) * [77, 150, 29]).sum(1) >> 8).astype(np.uint8),
         metal="""uint i = thread_position_in_grid.x;
uchar3 c = uchar3(x[3 * i], x[3 * i + 1], x[3 * i + 2]);
uint3 w = uint3(c) * uint3(77, 150, 29);
out[i] = (w.r + w.g + w.b) >> 8;""",
         cuda="""int i = threadIdx.x;
if (i >= 40) return;
out[i] = (x[3 * i] * 77 + x[3 * i + 1] * 150 + x[3 * i + 2] * 29) >> 8;""",
         grid=(40, 1, 1), threadgroup=(40, 1, 1), **EXACT),
]
