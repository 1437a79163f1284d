// in: position float32 2, box float32 0 / out: force float32 2, energy float32 1
struct Pair { float3 force; float energy; };
inline Pair interact(float3 d, float rc2) {
    Pair p;
    float r2 = dot(d, d);
    if (r2 >= rc2 || r2 == 0) { p.force = 0; p.energy = 0; return p; }
    float s2 = 1.0 / r2, s6 = s2 * s2 * s2;
    p.force = d * (24.0f * s2 * s6 * (2.0f * s6 - 1.0f));
    p.energy = 4 * s6 * (s6 - 1);
    return p;
}
// body
uint i = thread_position_in_grid.x;
int n = position_shape[0];
if (int(i) >= n) return;
packed_float3 mine = ((const device packed_float3 *)position)[i];
float3 xi = float3(mine), f = float3(0);
float e = 0;
for (int j = 0; j < n; ++j) {
    if (j == int(i)) continue;
    float3 d = xi - float3(position[3 * j], position[3 * j + 1], position[3 * j + 2]);
    d -= box * round(d / box);
    Pair p = interact(d, 6.25);
    f += p.force;
    e += 0.5 * p.energy;
}
force[3 * i] = f.x; force[3 * i + 1] = f.y; force[3 * i + 2] = f[2];
energy[i] = e;
