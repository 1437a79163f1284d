"""Weights of few bits: unpacked, multiplied, packed."""

import numpy as np

from .case import F32, Case, draw, each, integers, normal

ROWS, COLUMNS, GROUP = 20, 256, 64
EXACT = {"rtol": 0.0, "atol": 0.0}


def unpack4(packed):
    return np.stack([packed >> (4 * i) & 15 for i in range(8)], -1).reshape(packed.shape[0], -1)


def dequantise4(packed, scales, biases):
    return unpack4(packed).astype(np.float64) * np.repeat(scales, GROUP, 1) + np.repeat(biases, GROUP, 1)


def pack4(x):
    q = np.clip(np.rint(x.reshape(-1, 8) * F32(4)) + 8, 0, 15).astype(np.uint32)
    return (q << (4 * np.arange(8, dtype=np.uint32))).sum(1, dtype=np.uint32)


NF4 = [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302, 0.2461123,
       0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]
TABLE = ", ".join(f"{v!r}f" for v in NF4)

MATVEC = """float sum = 0.0f;
for (int word = lane; word < 32; word += 32) {
  UINT w = packed[row * 32 + word];
  int group = word * 8 / 64;
  float scale = scales[row * 4 + group], bias = biases[row * 4 + group], dot_part = 0.0f, total = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float v = x[word * 8 + i];
    dot_part += v * float((w >> (4 * i)) & 0xf);
    total += v;
  }
  sum += scale * dot_part + bias * total;
}
"""
PACKED = draw(packed=integers(0, 2**32, ROWS, COLUMNS // 8, dtype=np.uint32), scales=normal(ROWS, COLUMNS // GROUP, scale=0.1),
              biases=normal(ROWS, COLUMNS // GROUP, scale=0.1), x=normal(COLUMNS))

CASES = [
    Case("int4_matvec", PACKED, {"out": ((ROWS,), "float32")},
         lambda packed, scales, biases, x: dequantise4(packed, scales, biases) @ x,
         metal="uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;\n" + MATVEC.replace("UINT", "uint") +
               "sum = simd_sum(sum);\nif (lane == 0) out[row] = sum;",
         cuda="unsigned row = blockIdx.y, lane = threadIdx.x;\n" + MATVEC.replace("UINT", "unsigned") +
              """for (int m = 1; m < 32; m *= 2) sum += __shfl_xor_sync(0xffffffff, sum, m);
if (lane == 0) out[row] = sum;""",
         grid=(32, ROWS, 1), threadgroup=(32, 1, 1), atol=2e-4),
    Case("int8_matvec", draw(w=integers(-127, 128, ROWS, COLUMNS, dtype=np.int8), scale=normal(ROWS, scale=0.05), x=normal(COLUMNS)),
         {"out": ((ROWS,), "float32")}, lambda w, scale, x: (w.astype(np.float64) @ x) * scale,
         metal="""uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
const device int8_t* r = w + row * 256;
float s = 0.0f;
for (uint j = lane * 4; j < 256; j += 128)
  for (uint k = 0; k < 4; k++) s += float(r[j + k]) * x[j + k];
s = simd_sum(s);
if (simd_is_first()) out[row] = s * scale[row];""",
         cuda="""int row = blockIdx.y, lane = threadIdx.x;
float s = 0.0f;
for (int j = lane * 4; j < 256; j += 128) {
  char4 q = *reinterpret_cast<const char4*>(w + row * 256 + j);
  s += float(q.x) * x[j];
  s += float(q.y) * x[j + 1];
  s += float(q.z) * x[j + 2];
  s += float(q.w) * x[j + 3];
}
for (int m = 1; m < 32; m *= 2) s += __shfl_xor_sync(0xffffffff, s, m);
if (lane == 0) out[row] = s * scale[row];""",
         # Terms of size 127 · 0.05: sums of 256 of them.
         grid=(32, ROWS, 1), threadgroup=(32, 1, 1), atol=2e-3),
    Case("dequantise_4_bits", draw(packed=integers(0, 2**32, ROWS, COLUMNS // 8, dtype=np.uint32), scales=normal(ROWS, 4),
                                   biases=normal(ROWS, 4)),
         {"out": ((ROWS, COLUMNS), "float16")}, lambda packed, scales, biases: dequantise4(packed, scales, biases),
         metal="""uint2 p = thread_position_in_grid.xy;
uint w = packed[p.y * 32 + p.x];
float s = scales[p.y * 4 + p.x / 8], b = biases[p.y * 4 + p.x / 8];
device half4* o = (device half4*)(out + p.y * 256 + p.x * 8);
o[0] = half4(float4(w & 15, w >> 4 & 15, w >> 8 & 15, w >> 12 & 15) * s + b);
o[1] = half4(float4(w >> 16 & 15, w >> 20 & 15, w >> 24 & 15, w >> 28) * s + b);""",
         grid=(32, ROWS, 1), threadgroup=(8, 4, 1), rtol=1e-3, atol=1e-3),
    Case("ternary_matvec", draw(w=integers(0, 256, ROWS, 64, dtype=np.uint8), x=integers(-9, 10, 256, dtype=np.int8)),
         {"out": ((ROWS,), "int32")},
         lambda w, x: (np.stack([(w >> (2 * i) & 3).astype(np.int32) - 1 for i in range(4)], -1).reshape(ROWS, -1)
                       @ x.astype(np.int32)).astype(np.int32),
         **each("""if (i >= 20) return;
int s = 0;
for (int j = 0; j < 64; ++j) {
  int byte = w[i * 64 + j];
  for (int k = 0; k < 4; ++k) s += (((byte >> (2 * k)) & 3) - 1) * int(x[j * 4 + k]);
}
out[i] = s;"""),
         grid=(20, 1, 1), threadgroup=(20, 1, 1), **EXACT),
    Case("pack_4_bits", draw(x=normal(800)), {"out": ((100,), "uint32")}, pack4,
         metal="""uint i = thread_position_in_grid.x;
uint word = 0;
for (uint k = 0; k < 8; ++k) {
  uint q = uint(clamp(rint(x[8 * i + k] * 4.0) + 8.0, 0.0, 15.0));
  word |= q << (4 * k);
}
out[i] = word;""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (i >= 100) return;
unsigned word = 0;
for (int k = 0; k < 8; ++k) {
  unsigned q = unsigned(fminf(fmaxf(rintf(x[8 * i + k] * 4.0f) + 8.0f, 0.0f), 15.0f));
  word |= q << (4 * k);
}
out[i] = word;""",
         grid=(100, 1, 1), threadgroup=(32, 1, 1), **EXACT),
    Case("nf4_lookup", draw(codes=integers(0, 256, 128, dtype=np.uint8), absmax=lambda r: r.uniform(0.5, 2, 4).astype(np.float32)),
         {"out": ((256,), "float32")},
         lambda codes, absmax: np.array(NF4, np.float32)[np.stack([codes >> 4, codes & 15], 1).ravel()] * np.repeat(absmax, 64),
         header=f"constant float NF4[16] = {{{TABLE}}};\n", cuda_header=f"__constant__ float NF4[16] = {{{TABLE}}};\n",
         **each("""if (i >= 128) return;
float scale = absmax[i / 32];
out[2 * i] = NF4[codes[i] >> 4] * scale;
out[2 * i + 1] = NF4[codes[i] & 0xf] * scale;"""),
         grid=(128, 1, 1), threadgroup=(64, 1, 1), **EXACT),
    Case("absmax_quantise", draw(x=normal(ROWS, 64)), {"q": ((ROWS, 64), "int8"), "scale": ((ROWS,), "float32")},
         lambda x: (np.rint(x / (np.abs(x).max(1, keepdims=True) / F32(127))).astype(np.int8), np.abs(x).max(1) / F32(127)),
         metal="""uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
float a = x[row * 64 + lane], b = x[row * 64 + 32 + lane];
float s = simd_max(max(abs(a), abs(b))) / 127.0f;
q[row * 64 + lane] = int8_t(rint(a / s));
q[row * 64 + 32 + lane] = int8_t(rint(b / s));
scale[row] = s;""",
         cuda="""int row = blockIdx.y, lane = threadIdx.x;
float a = x[row * 64 + lane], b = x[row * 64 + 32 + lane];
float s = fmaxf(fabsf(a), fabsf(b));
for (int m = 1; m < 32; m *= 2) s = fmaxf(s, __shfl_xor_sync(0xffffffff, s, m));
s /= 127.0f;
q[row * 64 + lane] = (signed char)rintf(a / s);
q[row * 64 + 32 + lane] = (signed char)rintf(b / s);
scale[row] = s;""", grid=(32, ROWS, 1), threadgroup=(32, 1, 1), **EXACT),
]
