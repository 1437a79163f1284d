// in: x float32 1 / out: y float32 1
struct Pair { float xy; float zz; };
// body
Pair p = {1.0, 2.0};
float4 v(x[0], x[1], 2, 3);
uint i = thread_position_in_grid.x;
p.xy += v.x + v.zwx.y;
y[i] = p.xy + p.zz + v.rgb.g;
