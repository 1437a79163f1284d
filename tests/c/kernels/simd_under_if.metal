// in: x float32 1 / out: y float32 1
// body
uint i = thread_position_in_grid.x;
float v = x[i];
if (v > 0.0) {
    v = simd_sum(v);
} else {
    v = simd_min(v);
}
y[i] = simd_broadcast_first(v);
