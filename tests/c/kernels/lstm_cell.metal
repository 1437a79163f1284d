// in: gates float32 2, c float32 2 / out: h float32 2, cn float32 2
#define SIGMOID(x) (1.0 / (1.0 + metal::exp(-(x))))
static inline float act(float x) { return metal::precise::tanh(x); }
// body
uint2 p = thread_position_in_grid.xy;
uint n = threads_per_grid.x;
size_t g = size_t(p.y) * 4 * n + p.x;
float i = SIGMOID(gates[g]), f = SIGMOID(gates[g + n]), z = act(gates[g + 2 * n]), o = SIGMOID(gates[g + 3 * n]);
float next = f * c[p.y * n + p.x] + i * z;
cn[p.y * n + p.x] = next;
h[p.y * n + p.x] = o * act(next);
