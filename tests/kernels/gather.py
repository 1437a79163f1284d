"""Reading and writing where the data says: gather, scatter with atomics, histograms, sparse rows."""

import numpy as np

from .case import Case, draw, each, integers, normal

EXACT = {"rtol": 0.0, "atol": 0.0}


def scatter_add(x, index):
    out = np.zeros((10, 8))
    np.add.at(out, index, x.astype(np.float64))
    return out


def top3(x):
    order = np.argsort(-x, axis=1, kind="stable")[:, :3]
    return np.take_along_axis(x, order, 1), order.astype(np.uint32)


def segment_max(x, segment):
    out = np.full(7, -1000, np.int32)
    np.maximum.at(out, segment, x)
    return out


def csr(pointers, columns, values, x):
    products = values.astype(np.float64) * x[columns]
    return np.add.reduceat(np.append(products, 0.0), pointers[:-1]) * (np.diff(pointers) > 0)


def make_csr(random):
    counts = random.integers(0, 9, 30)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    n = int(pointers[-1])
    return {"pointers": pointers, "columns": random.integers(0, 50, n).astype(np.int32), "values": normal(n)(random),
            "x": normal(50)(random)}


def embedding_bag(table, tokens, offsets):
    ends = np.append(offsets[1:], len(tokens))
    return np.stack([table[tokens[a:b]].astype(np.float64).mean(0) for a, b in zip(offsets, ends)])


def hash_insert(keys):
    """Every key is in the table once; where it stands depends on who was first."""
    return np.sort(np.concatenate([np.unique(keys), np.full(64 - len(np.unique(keys)), 2**32 - 1, np.uint64)])).astype(np.uint32)


CASES = [
    Case("gather_rows", draw(table=normal(50, 12), index=integers(0, 50, 20)), {"out": ((20, 12), "float32")},
         lambda table, index: table[index],
         metal="""uint2 p = thread_position_in_grid.xy;
out[p.y * table_shape[1] + p.x] = table[index[p.y] * table_shape[1] + p.x];""",
         cuda="""int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
if (x < table_shape[1]) out[y * table_shape[1] + x] = table[index[y] * table_shape[1] + x];""",
         grid=(12, 20, 1), threadgroup=(8, 1, 1), **EXACT),
    Case("scatter_add_atomic", draw(x=normal(60, 8), index=integers(0, 10, 60)), {"out": ((10, 8), "float32")}, scatter_add,
         init_value=0, atomic_outputs=True,
         metal="""uint2 p = thread_position_in_grid.xy;
atomic_fetch_add_explicit(&out[index[p.y] * 8 + p.x], x[p.y * 8 + p.x], memory_order_relaxed);""",
         cuda="""int px = threadIdx.x, py = blockIdx.y * blockDim.y + threadIdx.y;
if (py < 60) atomicAdd(&out[index[py] * 8 + px], x[py * 8 + px]);""",
         grid=(8, 60, 1), threadgroup=(8, 8, 1), same_bits=False),
    Case("scatter_add_by_cast", draw(x=normal(200), index=integers(0, 10, 200)), {"out": ((10,), "float32")},
         lambda x, index: np.bincount(index, x.astype(np.float64), 10), init_value=0,
         metal="""uint i = thread_position_in_grid.x;
device atomic_float* slot = (device atomic_float*)&out[index[i]];
atomic_fetch_add_explicit(slot, x[i], memory_order_relaxed);""", grid=(200, 1, 1), threadgroup=(64, 1, 1), same_bits=False),
    Case("histogram_shared", draw(x=integers(0, 256, 3000, dtype=np.uint8)), {"out": ((16,), "uint32")},
         lambda x: np.bincount(x >> 4, minlength=16).astype(np.uint32), init_value=0, atomic_outputs=True,
         metal="""threadgroup atomic_uint bins[16];
uint t = thread_position_in_threadgroup.x;
if (t < 16) atomic_store_explicit(&bins[t], 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
atomic_fetch_add_explicit(&bins[x[thread_position_in_grid.x] >> 4], 1u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t < 16) atomic_fetch_add_explicit(&out[t], atomic_load_explicit(&bins[t], memory_order_relaxed), memory_order_relaxed);""",
         cuda="""__shared__ unsigned bins[16];
int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
if (t < 16) bins[t] = 0;
__syncthreads();
if (i < 3000) atomicAdd(&bins[x[i] >> 4], 1u);
__syncthreads();
if (t < 16) atomicAdd(&out[t], bins[t]);""",
         grid=(3000, 1, 1), threadgroup=(128, 1, 1), **EXACT),
    Case("top_k_rows", draw(x=normal(9, 70)), {"value": ((9, 3), "float32"), "index": ((9, 3), "uint32")}, top3,
         **each("""if (i >= 9) return;
float best[3] = {-1e30f, -1e30f, -1e30f};
unsigned int where[3] = {0, 0, 0};
for (unsigned int j = 0; j < 70; ++j) {
  float v = x[i * 70 + j];
  if (v <= best[2]) continue;
  int k = 2;
  while (k > 0 && v > best[k - 1]) {
    best[k] = best[k - 1];
    where[k] = where[k - 1];
    --k;
  }
  best[k] = v;
  where[k] = j;
}
for (int k = 0; k < 3; ++k) {
  value[i * 3 + k] = best[k];
  index[i * 3 + k] = where[k];
}"""),
         grid=(9, 1, 1), threadgroup=(9, 1, 1), **EXACT),
    Case("segment_max_atomic", draw(x=integers(-500, 500, 150), segment=integers(0, 7, 150)), {"out": ((7,), "int32")},
         segment_max, init_value=-1000,
         atomic_outputs=True, metal="""uint i = thread_position_in_grid.x;
atomic_fetch_max_explicit(&out[segment[i]], x[i], memory_order_relaxed);""",
         cuda="int i = blockIdx.x * blockDim.x + threadIdx.x;\nif (i < 150) atomicMax(&out[segment[i]], x[i]);",
         grid=(150, 1, 1), threadgroup=(50, 1, 1), **EXACT),
    Case("sparse_rows_times_vector", make_csr, {"out": ((30,), "float32")}, csr,
         **each("""if (i >= 30) return;
float s = 0.0f;
for (int j = pointers[i]; j < pointers[i + 1]; ++j) s += values[j] * x[columns[j]];
out[i] = s;"""),
         grid=(30, 1, 1), threadgroup=(16, 1, 1)),
    Case("embedding_bag_mean", draw(table=normal(40, 16), tokens=integers(0, 40, 33), offsets=np.array([0, 4, 5, 20], np.int32)),
         {"out": ((4, 16), "float32")}, embedding_bag,
         metal="""uint2 p = thread_position_in_grid.xy;
int end = p.y + 1 < offsets_shape[0] ? offsets[p.y + 1] : tokens_shape[0];
float s = 0;
for (int j = offsets[p.y]; j < end; ++j) s += table[tokens[j] * 16 + p.x];
out[p.y * 16 + p.x] = s / (end - offsets[p.y]);""",
         cuda="""int x = threadIdx.x, y = blockIdx.y;
int end = y + 1 < offsets_shape[0] ? offsets[y + 1] : tokens_shape[0];
float s = 0;
for (int j = offsets[y]; j < end; ++j) s += table[tokens[j] * 16 + x];
out[y * 16 + x] = s / (end - offsets[y]);""",
         grid=(16, 4, 1), threadgroup=(16, 1, 1)),
    Case("append_with_counter", draw(x=integers(0, 100, 128)), {"count": ((1,), "int32"), "seen": ((128,), "int32")},
         lambda x: (np.array([(x > 60).sum()], np.int32), (x > 60).astype(np.int32)), init_value=0,
         # Places are given out in any order, but each once.
         metal="""uint i = thread_position_in_grid.x;
if (x[i] > 60) {
  atomic_fetch_add_explicit((device atomic_int*)count, 1, memory_order_relaxed);
  seen[i] = 1;
}""",
         cuda="""int i = blockIdx.x * blockDim.x + threadIdx.x;
if (x[i] > 60) {
  atomicAdd(count, 1);
  seen[i] = 1;
}""",
         grid=(128, 1, 1), threadgroup=(32, 1, 1), **EXACT),
    Case("linear_probing_insert", draw(keys=integers(0, 30, 48, dtype=np.uint32)), {"slots": ((64,), "uint32")}, hash_insert,
         init_value=2**32 - 1,
         atomic_outputs=True,
         metal="""uint key = keys[thread_position_in_grid.x], at = (key * 2654435761u) >> 26;
for (uint tries = 0; tries < 64; ++tries) {
  uint expected = 0xffffffffu;
  bool won = atomic_compare_exchange_weak_explicit(&slots[at], &expected, key, memory_order_relaxed, memory_order_relaxed);
  if (won || expected == key) return;
  at = (at + 1) & 63;
}""",
         cuda="""if (threadIdx.x >= 48) return;
unsigned key = keys[threadIdx.x], at = (key * 2654435761u) >> 26;
for (int tries = 0; tries < 64; ++tries) {
  unsigned old = atomicCAS(&slots[at], 0xffffffffu, key);
  if (old == 0xffffffffu || old == key) return;
  at = (at + 1) & 63;
}""",
         grid=(48, 1, 1), threadgroup=(48, 1, 1), arrange=np.sort, same_bits=False, **EXACT),
]
