// in: a float32 2, b float32 2 / out: c float32 2
#include <metal_simdgroup_matrix>
// body
const int K = a_shape[1], N = b_shape[1];
uint2 tile = threadgroup_position_in_grid.xy;
simdgroup_float8x8 ma, mb, mc = simdgroup_float8x8(0.0f);
for (int k = 0; k < K; k += 8) {
    simdgroup_load(ma, a + tile.y * 8 * K + k, K);
    simdgroup_load(mb, b + k * N + tile.x * 8, N);
    simdgroup_multiply_accumulate(mc, ma, mb, mc);
}
simdgroup_store(mc, c + tile.y * 8 * N + tile.x * 8, N);
