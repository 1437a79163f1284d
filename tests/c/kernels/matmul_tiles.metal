// in: a float32 2, b float32 2 / out: c float32 2 / template: TILE=16
// body
threadgroup float at[TILE][TILE + 1];
threadgroup float bt[TILE][TILE + 1];
uint2 lid = thread_position_in_threadgroup.xy, gid = thread_position_in_grid.xy;
const int M = a_shape[0], K = a_shape[1], N = b_shape[1];
float acc = 0;
for (int k0 = 0; k0 < K; k0 += TILE) {
    int ka = k0 + lid.x, kb = k0 + lid.y;
    at[lid.y][lid.x] = (int(gid.y) < M && ka < K) ? a[gid.y * K + ka] : 0.0f;
    bt[lid.y][lid.x] = (kb < K && int(gid.x) < N) ? b[kb * N + gid.x] : 0.0f;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (int k = 0; k < TILE; ++k) acc = fma(at[lid.y][k], bt[k][lid.x], acc);
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
if (int(gid.y) < M && int(gid.x) < N) c[gid.y * N + gid.x] = acc;
