// in: x float32 2 / out: y float32 2 / template: TILE=32
// body
__shared__ float tile[TILE][TILE + 1];
int rows = x_shape[0], cols = x_shape[1];
int cx = blockIdx.x * TILE + threadIdx.x, cy = blockIdx.y * TILE + threadIdx.y;
for (int j = 0; j < TILE; j += blockDim.y)
    if (cx < cols && cy + j < rows) tile[threadIdx.y + j][threadIdx.x] = x[(cy + j) * cols + cx];
__syncthreads();
cx = blockIdx.y * TILE + threadIdx.x, cy = blockIdx.x * TILE + threadIdx.y;
for (int j = 0; j < TILE; j += blockDim.y)
    if (cx < rows && cy + j < cols) y[(cy + j) * rows + cx] = tile[threadIdx.x][threadIdx.y + j];
