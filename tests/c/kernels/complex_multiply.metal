// in: a complex64 1, b complex64 1 / out: c complex64 1
// body
uint i = thread_position_in_grid.x;
complex64_t z = a[i] * b[i];
c[i] = complex64_t(z.real + 1.0f, z.imag);
