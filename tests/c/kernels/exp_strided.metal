// in: inp float32 3 / out: out float32 3 / template: T=float16
// body
uint elem = thread_position_in_grid.x;
auto loc = elem_to_loc(elem, inp_shape, inp_strides, inp_ndim);
T tmp = T(inp[loc]);
out[elem] = metal::exp(float(tmp)) + inp_ndim;
