// in: x float32 1 / out: y float32 1
// body
#define N 4
#define GID thread_position_in_grid.x
#define SUM(v) simd_sum(v)
float dot = 0, T = x[GID];
for (int i = 0; i < N; ++i) dot += T * 0.5;
y[GID] = SUM(dot);
