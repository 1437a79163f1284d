// in: x float16 2, w float16 1, eps float32 0 / out: y float16 2 / template: D=512
// body
uint gid = thread_position_in_grid.y;
uint lid = thread_index_in_simdgroup;
if (gid >= x_shape[0]) return;
float acc = 0.0;
for (int i = lid; i < D; i += 32) {
    float v = static_cast<float>(x[gid * D + i]);
    acc += v * v;
}
acc = simd_sum(acc);
float scale = metal::precise::rsqrt(acc / D + eps);
for (int i = lid; i < D; i += 32) y[gid * D + i] = half(float(x[gid * D + i]) * scale) * w[i];
