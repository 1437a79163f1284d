// in: c float32 2 / out: u float32 1, v float32 1
// body
threadgroup float fu[64], fv[64];
uint i = thread_position_in_threadgroup.x;
uint n = c_shape[0];
if (i < n) { fu[i] = 0; fv[i] = 0; }
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int it = 0; it < 20; ++it) {
    float sum = 0.0;
    if (i < n) for (uint j = 0; j < n; ++j) sum += exp(-c[i * n + j] + fv[j]);
    if (i < n) fu[i] = -log(sum * n);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sum = 0;
    if (i < n) for (uint j = 0; j < n; ++j) sum += exp(-c[j * n + i] + fu[j]);
    if (i < n) fv[i] = -log(sum * n);
    threadgroup_barrier(mem_flags::mem_threadgroup);
}
if (i < n) { u[i] = fu[i]; v[i] = fv[i]; }
