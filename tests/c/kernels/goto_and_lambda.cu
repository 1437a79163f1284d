// in: x float32 1 / out: y float32 1
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
int steps = 0;
auto half_of = [&](float v) { return v * 0.5f; };
float v = i < size ? x[i] : 0.0f;
again:
v = half_of(v);
if (++steps < 3) goto again;
if (i < size) y[i] = v;
