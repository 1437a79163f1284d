"""Recurrent layers: one thread a channel walks through time."""

import numpy as np

from .case import Case, draw, each, normal


def f64(*arrays):
    return [a.astype(np.float64) for a in arrays]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def wkv(k, v, w, u):
    k, v, w, u = f64(k, v, w, u)
    num, den, top = np.zeros(k.shape[1]), np.zeros(k.shape[1]), np.full(k.shape[1], -1e38)
    out = np.zeros_like(k)
    for t in range(len(k)):
        new = np.maximum(top, u + k[t])
        a, b = np.exp(top - new), np.exp(u + k[t] - new)
        out[t] = (a * num + b * v[t]) / (a * den + b)
        new = np.maximum(top - w, k[t])
        a, b = np.exp(top - w - new), np.exp(k[t] - new)
        num, den, top = a * num + b * v[t], a * den + b, new
    return out


WKV = """if (i >= 48) return;
float num = 0.0f, den = 0.0f, top = -1e38f;
for (int t = 0; t < 20; ++t) {
  float kt = k[t * 48 + i], vt = v[t * 48 + i];
  float n = MAX(top, u[i] + kt);
  float a = EXP(top - n), b = EXP(u[i] + kt - n);
  out[t * 48 + i] = (a * num + b * vt) / (a * den + b);
  n = MAX(top - w[i], kt);
  a = EXP(top - w[i] - n);
  b = EXP(kt - n);
  num = a * num + b * vt;
  den = a * den + b;
  top = n;
}
"""


def both(body):
    texts = each(body)
    return {"metal": texts["metal"].replace("EXP", "exp").replace("MAX", "max").replace("TANH", "tanh"),
            "cuda": texts["cuda"].replace("EXP", "expf").replace("MAX", "fmaxf").replace("TANH", "tanhf")}


def selective_scan(x, delta, a, b, c):
    x, delta, a, b, c = f64(x, delta, a, b, c)
    state = np.zeros_like(a)
    out = np.zeros_like(x)
    for t in range(len(x)):
        state = np.exp(delta[t][:, None] * a) * state + (delta[t] * x[t])[:, None] * b[t]
        out[t] = (state * c[t]).sum(1)
    return out


SCAN = """if (i >= 24) return;
float state[8] = {0};
for (int t = 0; t < 15; ++t) {
  float d = delta[t * 24 + i], xt = x[t * 24 + i], y = 0.0f;
  for (int n = 0; n < 8; ++n) {
    state[n] = EXP(d * a[i * 8 + n]) * state[n] + d * xt * b[t * 8 + n];
    y += state[n] * c[t * 8 + n];
  }
  out[t * 24 + i] = y;
}
"""


def lstm(gates, cell):
    gates, cell = f64(gates, cell)
    i, f, g, o = np.split(gates, 4, axis=1)
    c = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


LSTM = """if (i >= 3 * 40) return;
unsigned int row = i / 40, col = i % 40;
float in_gate = sigmoid(gates[row * 160 + col]), forget = sigmoid(gates[row * 160 + 40 + col]);
float candidate = TANH(gates[row * 160 + 80 + col]), out_gate = sigmoid(gates[row * 160 + 120 + col]);
float c = forget * cell[i] + in_gate * candidate;
new_cell[i] = c;
hidden[i] = out_gate * TANH(c);
"""


def gru(x, h):
    x, h = f64(x, h)
    r, z = sigmoid(x[:, :30] + h[:, :30]), sigmoid(x[:, 30:60] + h[:, 30:60])
    n = np.tanh(x[:, 60:90] + r * h[:, 60:90])
    return (1 - z) * n + z * h[:, 90:]


GRU = """if (i >= 60) return;
unsigned int row = i / 30, col = i % 30;
float reset = sigmoid(x[row * 90 + col] + h[row * 120 + col]);
float update = sigmoid(x[row * 90 + 30 + col] + h[row * 120 + 30 + col]);
float fresh = TANH(x[row * 90 + 60 + col] + reset * h[row * 120 + 60 + col]);
out[i] = (1.0f - update) * fresh + update * h[row * 120 + 90 + col];
"""


def delta_rule(q, k, v, beta, gate):
    q, k, v, beta, gate = f64(q, k, v, beta, gate)
    state, out = np.zeros((v.shape[1], k.shape[1])), np.zeros_like(v)
    for t in range(len(q)):
        state *= gate[t]
        state += np.outer((v[t] - state @ k[t]) * beta[t], k[t])
        out[t] = state @ q[t]
    return out


DELTA_METAL = """uint column = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
float state = 0.0f;
for (int t = 0; t < 12; ++t) {
  state *= gate[t];
  float predicted = simd_sum(state * k[t * 32 + lane]);
  float change = (v[t * 10 + column] - predicted) * beta[t];
  state += k[t * 32 + lane] * change;
  float y = simd_sum(state * q[t * 32 + lane]);
  if (lane == 0) { out[t * 10 + column] = y; }
}
"""
SIGMOID_METAL = "inline float sigmoid(float v) { return 1.0f / (1.0f + exp(-v)); }\n"
SIGMOID_CUDA = "__device__ __forceinline__ float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }\n"

CASES = [
    Case("wkv_forward", draw(k=normal(20, 48), v=normal(20, 48), w=lambda r: np.exp(normal(48)(r)), u=normal(48)),
         {"out": ((20, 48), "float32")}, wkv, **both(WKV), grid=(48, 1, 1), threadgroup=(32, 1, 1)),
    Case("selective_scan", draw(x=normal(15, 24), delta=lambda r: r.uniform(0.01, 0.5, (15, 24)).astype(np.float32),
                                a=lambda r: -r.uniform(0.5, 4, (24, 8)).astype(np.float32), b=normal(15, 8), c=normal(15, 8)),
         {"out": ((15, 24), "float32")}, selective_scan, **both(SCAN), grid=(24, 1, 1), threadgroup=(24, 1, 1), atol=2e-5),
    Case("lstm_cell", draw(gates=normal(3, 160), cell=normal(3, 40)),
         {"new_cell": ((3, 40), "float32"), "hidden": ((3, 40), "float32")},
         lstm, header=SIGMOID_METAL, cuda_header=SIGMOID_CUDA, **both(LSTM), grid=(120, 1, 1), threadgroup=(64, 1, 1)),
    Case("gru_cell", draw(x=normal(2, 90), h=normal(2, 120)), {"out": ((2, 30), "float32")}, gru, header=SIGMOID_METAL,
         cuda_header=SIGMOID_CUDA, **both(GRU), grid=(60, 1, 1), threadgroup=(32, 1, 1)),
    Case("gated_delta_rule", draw(q=normal(12, 32, scale=0.2), k=normal(12, 32, scale=0.2), v=normal(12, 10),
                                  beta=lambda r: r.uniform(0, 1, 12).astype(np.float32),
         gate=lambda r: r.uniform(0.8, 1, 12).astype(np.float32)),
         {"out": ((12, 10), "float32")}, delta_rule, metal=DELTA_METAL, grid=(32, 10, 1), threadgroup=(32, 2, 1)),
    Case("exponential_average", draw(x=normal(50, 10), decay=0.875), {"out": ((50, 10), "float32")},
         lambda x, decay: np.stack(_ema(x.astype(np.float64), decay)),
         metal="""uint c = thread_position_in_grid.x;
float s = x[c];
out[c] = s;
for (uint t = 1; t < x_shape[0]; ++t) {
  s = decay * s + (1.0f - decay) * x[t * 10 + c];
  out[t * 10 + c] = s;
}""",
         cuda="""int c = threadIdx.x;
float s = x[c];
out[c] = s;
for (int t = 1; t < x_shape[0]; ++t) {
  s = *decay * s + (1.0f - *decay) * x[t * 10 + c];
  out[t * 10 + c] = s;
}""", grid=(10, 1, 1), threadgroup=(10, 1, 1)),
]


def _ema(x, decay):
    rows = [x[0]]
    for row in x[1:]:
        rows.append(decay * rows[-1] + (1 - decay) * row)
    return rows
