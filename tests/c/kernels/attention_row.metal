// in: q float16 2, k float16 2, v float16 2 / out: o float16 2 / template: D=64
// body
constexpr int PER = D / 32;
uint row = thread_position_in_grid.y, lane = thread_index_in_simdgroup;
float qv[PER], acc[PER];
for (int i = 0; i < PER; ++i) { qv[i] = float(q[row * D + lane * PER + i]) * rsqrt(float(D)); acc[i] = 0; }
float m = -INFINITY, l = 0;
for (int t = 0; t < k_shape[0]; ++t) {
    float s = 0;
    for (int i = 0; i < PER; ++i) s += qv[i] * float(k[t * D + lane * PER + i]);
    s = simd_sum(s);
    if (s == -INFINITY) continue;
    float m2 = max(m, s), scale = exp(m - m2), p = exp(s - m2);
    l = l * scale + p;
    for (int i = 0; i < PER; ++i) acc[i] = acc[i] * scale + p * float(v[t * D + lane * PER + i]);
    m = m2;
}
for (int i = 0; i < PER; ++i) o[row * D + lane * PER + i] = half(l > 0 ? acc[i] / l : 0);
