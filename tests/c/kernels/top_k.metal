// in: x bfloat16 2 / out: values bfloat16 2, indices uint32 2 / template: K=4
// body
threadgroup float best[32];
threadgroup uint where[32];
uint row = threadgroup_position_in_grid.x, lane = thread_index_in_simdgroup;
uint n = x_shape[1];
bool taken[64] = {false};
for (int k = 0; k < K; ++k) {
    float v = -INFINITY; uint at = 0;
    for (uint i = lane, slot = 0; i < n && slot < 64; i += 32, ++slot)
        if (!taken[slot] && float(x[row * n + i]) > v) { v = x[row * n + i]; at = i; }
    float m = simd_max(v);
    uint owner = simd_min(v == m ? at : 0xffffffffu);
    if (owner == at && v == m) taken[at / 32] = true;
    if (lane == 0) { values[row * K + k] = bfloat16_t(m); indices[row * K + k] = owner; }
    simdgroup_barrier(mem_flags::mem_threadgroup);
}
best[lane] = 0; where[lane] = 0;
