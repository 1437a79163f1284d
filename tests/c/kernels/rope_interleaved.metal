// in: x float16 3, offset int32 0 / out: y float16 3
// body
uint3 pos = thread_position_in_grid;
uint half_x = threads_per_grid.x, T = x_shape[1];
float inv = metal::exp2(-float(pos.x) * (log2(10000.0) / half_x));
float theta = (float(pos.y) + offset) * inv;
float c, s = sincos(theta, c);
size_t at = (size_t(pos.z) * T + pos.y) * (2 * half_x) + 2 * pos.x;
float a = x[at], b = x[at + 1];
y[at] = a * c - b * s;
y[at + 1] = a * s + b * c;
