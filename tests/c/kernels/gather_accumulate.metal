// in: x float32 2, index int32 1 / out: out float32 2 / atomic
// body
uint2 gid = thread_position_in_grid.xy;
int row = index[gid.y];
if (row < 0 || row >= out_shape[0]) return;
atomic_fetch_add_explicit(&out[row * x_shape[1] + gid.x], x[gid.y * x_shape[1] + gid.x], memory_order_relaxed);
