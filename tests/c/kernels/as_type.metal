// in: x float32 1 / out: y uint32 1
// body
uint i = thread_position_in_grid.x;
uint bits = as_type<uint>(x[i]);
ushort2 halves = as_type<ushort2>(bits);
y[i] = (bits >> 31) ^ halves.x ^ popcount(bits) ^ clz(bits) ^ reverse_bits(bits) ^ as_type<uint>(half2(1.0h, 0.5h));
