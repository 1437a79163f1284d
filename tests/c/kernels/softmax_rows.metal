// in: x float32 2 / out: y float32 2 / template: D=1000
constant float LARGE = 1e30;
inline float block_max(float v, threadgroup float *scratch, uint lane, uint group, uint groups) {
    v = simd_max(v);
    if (lane == 0) scratch[group] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    v = lane < groups ? scratch[lane] : -LARGE;
    return simd_max(v);
}
inline float block_sum(float v, threadgroup float *scratch, uint lane, uint group, uint groups) {
    v = simd_sum(v);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane == 0) scratch[group] = v;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    v = lane < groups ? scratch[lane] : 0.0;
    return simd_sum(v);
}
// body
threadgroup float scratch[32];
const uint row = threadgroup_position_in_grid.x;
const uint lid = thread_position_in_threadgroup.x, size = threads_per_threadgroup.x;
const device float *in = x + row * D;
device float *o = y + row * D;
float m = -INFINITY;
for (uint i = lid; i < uint(D); i += size) m = max(m, in[i]);
m = block_max(m, scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
float sum = 0;
for (uint i = lid; i < uint(D); i += size) sum += fast::exp(in[i] - m);
sum = block_sum(sum, scratch, thread_index_in_simdgroup, simdgroup_index_in_threadgroup, simdgroups_per_threadgroup);
for (uint i = lid; i < uint(D); i += size) o[i] = fast::exp(in[i] - m) / sum;
