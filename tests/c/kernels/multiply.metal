// in: a float32 1, b float32 1 / out: out float32 1
// body
uint elem = thread_position_in_grid.x;
if (elem < out.size()) {
    out[elem] = a[elem] * b[elem];
}
