// in: x float16 1, f float32 1, n int32 1 / out: y float32 1, z float16 1
#define LARGER(p, q) ((p) > (q) ? (p) : (q))
template <int Width> struct Bound {
    static constexpr int value = Width > 4 ? Width : 4;
};
// body
uint i = thread_position_in_grid.x;
half h = i < 3 ? x[i] : n[i];
float g = h > 0 ? h : f[i];
g += i > 2 ? f[i] : i > 1 ? h : 0;
h = n[i] != 0 ? -x[i] : x[i];
threadgroup float t[Bound<8>::value > 4 ? 8 : 4];
t[i % 4] = LARGER(h, f[i]) + LARGER(g, 0.5);
const device float *p = i > 4 ? f : f + 1;
float4 v = i > 1 ? float4(g) : 0.0;
bool b = i > 1 ? true : g < 1;
y[i] = t[i % 4] + *p + v.x + (b ? 1 : g);
z[i] = b ? h : 0.5h;
