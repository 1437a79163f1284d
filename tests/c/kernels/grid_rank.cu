// in: inp float32 2 / out: out float32 2 / template: T=float32
// body
auto elem = cg::this_grid().thread_rank();
if (elem >= size) return;
T tmp = inp[elem_to_loc(elem, inp_shape.data(), inp_strides.data(), inp_ndim)];
out[elem] = exp(tmp);
