// in: x uint32 1 / out: h uint32 1 / template: BINS=256
// body
threadgroup atomic_uint bins[BINS];
uint lid = thread_index_in_threadgroup, size = threads_per_threadgroup.x;
for (uint b = lid; b < BINS; b += size) atomic_store_explicit(&bins[b], 0, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint i = thread_position_in_grid.x; i < uint(x_shape[0]); i += threads_per_grid.x)
    atomic_fetch_add_explicit(&bins[x[i] % BINS], 1u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint b = lid; b < BINS; b += size) {
    uint count = atomic_load_explicit(&bins[b], memory_order_relaxed);
    if (count) atomic_fetch_add_explicit((device atomic_uint *)&h[b], count, memory_order_relaxed);
}
