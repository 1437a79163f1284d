// in: p float32 2 / out: q float32 2
// body
uint i = thread_position_in_grid.x;
const device float4 *in = reinterpret_cast<const device float4 *>(p);
device float4 *o = (device float4 *)q;
float4 v = in[i];
float3 u = v.xyz * 2.0 + float3(1.0, 0.5, v.w);
v.xz = u.zx;
v.yw += float2(0.25);
float d = dot(u, v.xyz) + length(v.xy) + distance(u, float3(0));
v = select(v, v.wzyx, v > float4(d));
bool4 m = isnan(v) || v < 0;
o[i] = any(m) ? clamp(v, -1.0f, 1.0f) : normalize(v);
