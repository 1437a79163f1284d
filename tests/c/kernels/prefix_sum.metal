// in: x float32 1 / out: y float32 1
// body
threadgroup float totals[32];
uint i = thread_position_in_grid.x, lane = thread_index_in_simdgroup, group = simdgroup_index_in_threadgroup;
float v = x[i];
float inclusive = simd_prefix_inclusive_sum(v);
if (lane == 31) totals[group] = inclusive;
threadgroup_barrier(mem_flags::mem_threadgroup);
if (group == 0) {
    float t = lane < simdgroups_per_threadgroup ? totals[lane] : 0;
    totals[lane] = simd_prefix_exclusive_sum(t);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
y[i] = inclusive + totals[group];
