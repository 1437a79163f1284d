"""Sorting and searching within a threadgroup."""

import numpy as np

from .case import Case, draw, each, integers, normal

EXACT = {"rtol": 0.0, "atol": 0.0}

BITONIC_METAL = """threadgroup int s[128];
uint t = thread_position_in_threadgroup.x, base = threadgroup_position_in_grid.x * 128;
s[t] = x[base + t];
for (uint k = 2; k <= 128; k *= 2) {
  for (uint j = k / 2; j > 0; j /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint other = t ^ j;
    if (other > t) {
      int a = s[t], b = s[other];
      bool up = (t & k) == 0;
      if ((a > b) == up) { s[t] = b; s[other] = a; }
    }
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
out[base + t] = s[t];
"""
BITONIC_CUDA = (BITONIC_METAL.replace("threadgroup int s[128]", "__shared__ int s[128]")
                .replace("threadgroup_barrier(mem_flags::mem_threadgroup)", "__syncthreads()")
                .replace("uint t = thread_position_in_threadgroup.x, base = threadgroup_position_in_grid.x * 128",
                         "unsigned t = threadIdx.x, base = blockIdx.x * 128").replace("uint", "unsigned"))


def assign(points, centres):
    return ((points.astype(np.float64)[:, None] - centres) ** 2).sum(-1).argmin(1).astype(np.int32)


def distance(a, b):
    d = np.zeros((len(a) + 1, len(b) + 1), np.int32)
    d[:, 0], d[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
    return np.array([d[-1, -1]], np.int32)


# Levenshtein's distance along anti-diagonals: three of them in threadgroup memory, one barrier a step.
WAVEFRONT = """SHARED int row[3][21];
THREAD
for (int step = 0; step <= 40; ++step) {
  int j = step - t;
  if (t <= 20 && j >= 0 && j <= 20) {
    int now = step % 3, before = (step + 2) % 3, two = (step + 1) % 3, best;
    if (t == 0) best = j;
    else if (j == 0) best = t;
    else {
      best = MIN(row[before][t - 1], row[before][t]) + 1;
      int match = row[two][t - 1] + (a[t - 1] != b[j - 1] ? 1 : 0);
      best = MIN(best, match);
    }
    row[now][t] = best;
    if (t == 20 && j == 20) out[0] = best;
  }
  BARRIER;
}
"""


def wavefront(shared, thread, barrier):
    return WAVEFRONT.replace("SHARED", shared).replace("THREAD", thread).replace("BARRIER", barrier).replace("MIN", "min")


CASES = [
    Case("bitonic_sort", draw(x=integers(-1000, 1000, 2, 128)), {"out": ((2, 128), "int32")}, lambda x: np.sort(x, 1),
         metal=BITONIC_METAL, cuda=BITONIC_CUDA,
         grid=(256, 1, 1), threadgroup=(128, 1, 1), **EXACT),
    Case("rank_sort", draw(x=normal(100)), {"out": ((100,), "float32")}, lambda x: np.sort(x),
         **each("""if (i >= 100) return;
unsigned int rank = 0;
for (unsigned int j = 0; j < 100; ++j) rank += (x[j] < x[i] || (x[j] == x[i] && j < i)) ? 1 : 0;
out[rank] = x[i];"""),
         grid=(100, 1, 1), threadgroup=(32, 1, 1), **EXACT),
    Case("nearest_centre", draw(points=normal(70, 4), centres=normal(5, 4)), {"out": ((70,), "int32")}, assign,
         **each("""if (i >= 70) return;
float best = 1e30f;
int at = 0;
for (int c = 0; c < 5; ++c) {
  float d = 0.0f;
  for (int k = 0; k < 4; ++k) {
    float e = points[i * 4 + k] - centres[c * 4 + k];
    d += e * e;
  }
  if (d < best) {
    best = d;
    at = c;
  }
}
out[i] = at;"""),
         grid=(70, 1, 1), threadgroup=(32, 1, 1), **EXACT),
    Case("binary_search", draw(x=lambda r: np.sort(normal(64)(r)), query=normal(30)), {"out": ((30,), "int32")},
         lambda x, query: np.searchsorted(x, query).astype(np.int32),
         **each("""if (i >= 30) return;
int low = 0, high = 64;
while (low < high) {
  int middle = (low + high) / 2;
  if (x[middle] < query[i]) low = middle + 1;
  else high = middle;
}
out[i] = low;"""), grid=(30, 1, 1), threadgroup=(30, 1, 1), **EXACT),
    Case("edit_distance_wavefront", draw(a=integers(0, 4, 20, dtype=np.uint8), b=integers(0, 4, 20, dtype=np.uint8)),
         {"out": ((1,), "int32")}, distance,
         metal=wavefront("threadgroup", "int t = thread_position_in_threadgroup.x;",
                         "threadgroup_barrier(mem_flags::mem_threadgroup)"),
         cuda=wavefront("__shared__", "int t = threadIdx.x;", "__syncthreads()"), grid=(32, 1, 1), threadgroup=(32, 1, 1), **EXACT),
]
