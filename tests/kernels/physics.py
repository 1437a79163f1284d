"""Particles, fields, automata, random numbers."""

import numpy as np

from .case import F32, Case, draw, each, integers, normal

EXACT = {"rtol": 0.0, "atol": 0.0}


def lennard_jones(position):
    p = position.astype(np.float64)
    d = p[:, None] - p[None]
    r2 = (d**2).sum(-1)
    np.fill_diagonal(r2, np.inf)
    s6 = 1 / r2**3
    near = r2 < 6.25
    return ((24 * (2 * s6 * s6 - s6) / r2)[..., None] * d * near[..., None]).sum(1)


def gravity(body):
    p, m = body[:, :3].astype(np.float64), body[:, 3].astype(np.float64)
    d = p[None] - p[:, None]
    r2 = (d**2).sum(-1) + 0.01
    return (m[None, :, None] * d / (r2 * np.sqrt(r2))[..., None]).sum(1)


def heat(x):
    u = x.copy()
    u[1:-1, 1:-1] = x[1:-1, 1:-1] + F32(0.1) * (((x[:-2, 1:-1] + x[2:, 1:-1]) + (x[1:-1, :-2] + x[1:-1, 2:])) - F32(4) * x[1:-1, 1:-1])
    return u


def life(x):
    n = sum(np.roll(x, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) - x
    return ((n == 3) | ((x == 1) & (n == 2))).astype(np.uint8)


def mandelbrot():
    c = (np.arange(24) * F32(0.125) - F32(2))[None] + 1j * (np.arange(16) * F32(0.125) - F32(1))[:, None]
    counts = np.zeros(c.shape, np.int32)
    for y in range(16):
        for x in range(24):
            re, im, k = F32(0), F32(0), 0
            cr, ci = F32(c[y, x].real), F32(c[y, x].imag)
            while k < 50 and re * re + im * im <= F32(4):
                re, im = F32(F32(re * re - im * im) + cr), F32(F32(F32(2) * re) * im + ci)
                k += 1
            counts[y, x] = k
    return counts


def philox(counter, key):
    """Philox-4x32-10 (Salmon et al., 2011)."""
    c = [np.asarray(counter, np.uint64), *(np.zeros(len(counter), np.uint64) for _ in range(3))]
    k0, k1 = int(key[0]), int(key[1])
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).astype(np.uint32)


FORCE = """if (i >= 40) return;
float fx = 0.0f, fy = 0.0f, fz = 0.0f;
float px = position[i * 3], py = position[i * 3 + 1], pz = position[i * 3 + 2];
for (unsigned int j = 0; j < 40; ++j) {
  if (j == i) continue;
  float dx = px - position[j * 3], dy = py - position[j * 3 + 1], dz = pz - position[j * 3 + 2];
  float r2 = dx * dx + dy * dy + dz * dz;
  if (r2 >= 6.25f) continue;
  float inv = 1.0f / r2, s6 = inv * inv * inv;
  float f = 24.0f * (2.0f * s6 * s6 - s6) * inv;
  fx += f * dx;
  fy += f * dy;
  fz += f * dz;
}
force[i * 3] = fx;
force[i * 3 + 1] = fy;
force[i * 3 + 2] = fz;
"""
PHILOX = """if (i >= 64) return;
unsigned int c0 = i, c1 = 0, c2 = 0, c3 = 0, k0 = key[0], k1 = key[1];
for (int round = 0; round < 10; ++round) {
  unsigned int h0 = HIGH(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
  unsigned int h1 = HIGH(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
  c0 = h1 ^ c1 ^ k0;
  c2 = h0 ^ c3 ^ k1;
  c1 = l1;
  c3 = l0;
  k0 += 0x9E3779B9u;
  k1 += 0xBB67AE85u;
}
out[4 * i] = c0;
out[4 * i + 1] = c1;
out[4 * i + 2] = c2;
out[4 * i + 3] = c3;
"""


def near_a_lattice(random):
    lattice = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)[:40]
    return (lattice * 1.1 + random.uniform(-0.05, 0.05, (40, 3))).astype(np.float32)


CASES = [
    Case("lennard_jones_force", draw(position=near_a_lattice),
         {"force": ((40, 3), "float32")}, lennard_jones, **each(FORCE),
         # Forces of size 300 that nearly cancel.
         grid=(40, 1, 1), threadgroup=(32, 1, 1), rtol=1e-4, atol=2e-2),
    Case("n_body_tiles", draw(body=lambda r: np.concatenate([normal(64, 3)(r), r.uniform(0.5, 1, (64, 1)).astype(np.float32)], 1)),
         {"out": ((64, 3), "float32")}, gravity,
         metal="""threadgroup float4 tile[32];
uint i = thread_position_in_grid.x, t = thread_position_in_threadgroup.x;
const device float4* bodies = (const device float4*)body;
float3 p = bodies[i].xyz, a = 0.0f;
for (uint start = 0; start < 64; start += 32) {
  tile[t] = bodies[start + t];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint j = 0; j < 32; ++j) {
    float3 d = tile[j].xyz - p;
    float r2 = dot(d, d) + 0.01f;
    a += d * (tile[j].w / (r2 * sqrt(r2)));
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[3 * i] = a.x;
out[3 * i + 1] = a.y;
out[3 * i + 2] = a.z;""",
         cuda="""__shared__ float4 tile[32];
int i = blockIdx.x * blockDim.x + threadIdx.x, t = threadIdx.x;
const float4* bodies = (const float4*)body;
float4 p = bodies[i];
float ax = 0, ay = 0, az = 0;
for (int start = 0; start < 64; start += 32) {
  tile[t] = bodies[start + t];
  __syncthreads();
  for (int j = 0; j < 32; ++j) {
    float dx = tile[j].x - p.x, dy = tile[j].y - p.y, dz = tile[j].z - p.z;
    float r2 = dx * dx + dy * dy + dz * dz + 0.01f;
    float s = tile[j].w / (r2 * sqrtf(r2));
    ax += dx * s;
    ay += dy * s;
    az += dz * s;
  }
  __syncthreads();
}
out[3 * i] = ax;
out[3 * i + 1] = ay;
out[3 * i + 2] = az;""",
         grid=(64, 1, 1), threadgroup=(32, 1, 1), atol=2e-4),
    Case("heat_step", draw(x=normal(12, 17)), {"out": ((12, 17), "float32")}, heat,
         metal="""uint2 p = thread_position_in_grid.xy;
uint i = p.y * 17 + p.x;
if (p.x == 0 || p.y == 0 || p.x == 16 || p.y == 11) {
  out[i] = x[i];
  return;
}
out[i] = x[i] + 0.1f * (((x[i - 17] + x[i + 17]) + (x[i - 1] + x[i + 1])) - 4.0f * x[i]);""",
         cuda="""int px = blockIdx.x * blockDim.x + threadIdx.x, py = blockIdx.y * blockDim.y + threadIdx.y;
if (px >= 17 || py >= 12) return;
int i = py * 17 + px;
if (px == 0 || py == 0 || px == 16 || py == 11) {
  out[i] = x[i];
  return;
}
out[i] = x[i] + 0.1f * (((x[i - 17] + x[i + 17]) + (x[i - 1] + x[i + 1])) - 4.0f * x[i]);""",
         grid=(17, 12, 1), threadgroup=(8, 8, 1), **EXACT),
    Case("game_of_life", draw(x=integers(0, 2, 12, 16, dtype=np.uint8)), {"out": ((12, 16), "uint8")}, life,
         **each("""if (i >= 192) return;
int y = i / 16, z = i % 16, n = 0;
for (int dy = 11; dy <= 13; ++dy)
  for (int dz = 15; dz <= 17; ++dz)
    if (dy != 12 || dz != 16) n += x[(y + dy) % 12 * 16 + (z + dz) % 16];
out[i] = (n == 3 || (x[i] && n == 2)) ? 1 : 0;"""),
         grid=(192, 1, 1), threadgroup=(64, 1, 1), **EXACT),
    Case("mandelbrot_counts", draw(), {"out": ((16, 24), "int32")}, mandelbrot,
         **each("""if (i >= 384) return;
float cr = float(i % 24) * 0.125f - 2.0f, ci = float(i / 24) * 0.125f - 1.0f, re = 0.0f, im = 0.0f;
int k = 0;
while (k < 50 && re * re + im * im <= 4.0f) {
  float t = re * re - im * im + cr;
  im = 2.0f * re * im + ci;
  re = t;
  ++k;
}
out[i] = k;"""),
         grid=(384, 1, 1), threadgroup=(128, 1, 1), **EXACT),
    Case("philox_bits", draw(key=np.array([0xDEADBEEF, 42], np.uint32)), {"out": ((64, 4), "uint32")},
         lambda key: philox(np.arange(64), key),
         metal=each(PHILOX.replace("HIGH", "mulhi"))["metal"], cuda=each(PHILOX.replace("HIGH", "__umulhi"))["cuda"],
         grid=(64, 1, 1), threadgroup=(32, 1, 1), **EXACT),
    Case("random_walk_xorshift", draw(seed=integers(1, 2**31, 50, dtype=np.uint32)), {"out": ((50,), "int32")},
         lambda seed: np.array([_walk(int(s)) for s in seed], np.int32),
         **each("""if (i >= 50) return;
unsigned int s = seed[i];
int at = 0;
for (int step = 0; step < 100; ++step) {
  s ^= s << 13;
  s ^= s >> 17;
  s ^= s << 5;
  at += (s & 1) ? 1 : -1;
}
out[i] = at;"""), grid=(50, 1, 1), threadgroup=(50, 1, 1), **EXACT),
]


def _walk(s):
    at = 0
    for _ in range(100):
        s ^= s << 13 & 0xFFFFFFFF
        s ^= s >> 17
        s ^= s << 5 & 0xFFFFFFFF
        at += 1 if s & 1 else -1
    return at
