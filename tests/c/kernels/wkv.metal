// in: r float32 3, k float32 3, v float32 3, w float32 1 / out: y float32 3 / template: H=64
// body
uint b = thread_position_in_grid.y, c = thread_position_in_grid.x;
int T = r_shape[1];
float state[H];
for (int j = 0; j < H; ++j) state[j] = 0.0f;
float decay = exp(-exp(w[c]));
for (int t = 0; t < T; ++t) {
    size_t at = (size_t(b) * T + t) * H + c;
    float kv = k[at] * v[at], acc = 0;
#pragma unroll
    for (int j = 0; j < H; ++j) {
        acc += state[j] * r[at];
        state[j] = state[j] * decay + kv;
    }
    y[at] = acc;
}
