// in: image uint8 3 / out: out float32 3 / template: SCALE=2
constant float A = -0.75;
inline float weight(float t) {
    t = abs(t);
    if (t <= 1.0) return ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    if (t < 2.0) return (((t - 5.0) * t + 8.0) * t - 4.0) * A;
    return 0.0;
}
// body
uint3 p = thread_position_in_grid;
int H = image_shape[0], W = image_shape[1], C = image_shape[2];
if (p.x >= uint(W * SCALE) || p.y >= uint(H * SCALE)) return;
float fx = (p.x + 0.5) / SCALE - 0.5, fy = (p.y + 0.5) / SCALE - 0.5;
int x0 = int(floor(fx)), y0 = int(floor(fy));
float acc = 0;
for (int j = -1; j <= 2; ++j)
    for (int i = -1; i <= 2; ++i) {
        int xx = clamp(x0 + i, 0, W - 1), yy = clamp(y0 + j, 0, H - 1);
        acc += weight(fx - (x0 + i)) * weight(fy - (y0 + j)) * image[(yy * W + xx) * C + p.z];
    }
out[(p.y * W * SCALE + p.x) * C + p.z] = saturate(acc / 255.0);
