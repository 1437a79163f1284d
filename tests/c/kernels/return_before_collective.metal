// in: x float32 1, n int32 0 / out: y float32 1
// body
uint i = thread_position_in_grid.x;
if (i >= uint(n)) return;
float total = simd_sum(x[i]);
if (simd_is_first()) y[i / 32] = total;
