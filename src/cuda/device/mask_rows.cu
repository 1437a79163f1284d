/* Copies a mask array, whatever its strides, to rows that copies of eight elements may take. A block takes a tile, whose neighbours
 * in memory neighbouring threads read; behind a row's last key the copy hides.
 *
 * MASK_KIND: bool, half16 or bfloat16. */
#include "mask_rows_job.h"

#if MASK_KIND == INVAR_CUDA_BOOL
typedef unsigned char element;
#define HIDES 0
#else
typedef unsigned short element;
#define HIDES (MASK_KIND == INVAR_CUDA_F16 ? 0xfc00 : 0xff80) /* -infinity */
#endif

enum { THREADS = 256, SIDE = 64, SIZE = sizeof(element), WORDS = 2 * SIZE /* of eight elements */ };
enum { PITCH = SIDE + 4 / SIZE }; /* columns and rows of a tile lie in different banks */

/* Elements inner, inner + 64 … of a tile: rows where TURNED, else columns, which `across` is the way along. */
template <bool TURNED>
__device__ __forceinline__ void read_tile(element *tile, const char *from, long long across, long long along, int inner_count,
                                          int outer_count) {
    enum { STEP = THREADS / SIDE, AT_ONCE = 8 };
    const int inner = threadIdx.x % SIDE, outer = threadIdx.x / SIDE;
    from += inner * across + outer * along;
    tile += inner * (TURNED ? PITCH : 1) + outer * (TURNED ? 1 : PITCH);
#pragma unroll 1
    for (int i = 0; i < SIDE; i += STEP * AT_ONCE) {
        element values[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            values[n] = inner < inner_count && outer + i + n * STEP < outer_count ? *(const element *)from : (element)HIDES;
            from += STEP * along;
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) tile[(i + n * STEP) * (TURNED ? 1 : PITCH)] = values[n];
    }
}

/* Eights of a tile's first `rows` rows; padded: columns from its first one on, in whole eights. */
__device__ __forceinline__ void write_tile(char *to, const element *tile, long long step, int rows, int padded) {
    const int column = threadIdx.x % 8 * 8;
#pragma unroll
    for (int row = threadIdx.x / 8; row < SIDE; row += THREADS / 8) {
        const unsigned *from = (const unsigned *)(tile + row * PITCH + column);
        char *const piece = to + row * step + column * SIZE;
        if (row >= rows || column >= padded) continue;
#if MASK_KIND == INVAR_CUDA_BOOL
        *(uint2 *)piece = uint2{ from[0], from[1] };
#else
        *(uint4 *)piece = uint4{ from[0], from[1], from[2], from[3] };
#endif
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) invar_mask_rows(const __grid_constant__ invar_cuda_mask_rows_job job) {
    __shared__ __align__(16) element tile[SIDE * PITCH];
    const long long row_stride = job.from.row_stride, column_stride = job.from.column_stride;
    const long long down = row_stride < 0 ? -row_stride : row_stride, along = column_stride < 0 ? -column_stride : column_stride;
    const bool turned = down && down < along;
    for (long long t = blockIdx.x; t < job.tiles; t += gridDim.x) {
        const long long lines = t / job.column_tiles;
        long long units = lines / job.row_tiles;
        const int column = (int)(t - lines * job.column_tiles) * SIDE, row = (int)(lines - units * job.row_tiles) * SIDE;
        const long long batch = units / job.heads, head = units - batch * job.heads;
        const char *from = job.from.data + head * job.from.head_stride + row * row_stride + column * column_stride;
        char *to = job.to.data + head * job.to.head_stride + row * job.to.row_stride + column * SIZE;
        long long rest = batch;
        for (int d = job.batch_ndim - 1; d >= 0; d--) {
            const long long above = rest / job.batch_shape[d], at = rest - above * job.batch_shape[d];
            from += at * job.from.batch_stride[d];
            to += at * job.to.batch_stride[d];
            rest = above;
        }
        const int rows = job.rows - row, columns = job.columns - column;
        if (turned) read_tile<true>(tile, from, row_stride, column_stride, rows, columns);
        else read_tile<false>(tile, from, column_stride, row_stride, columns, rows);
        __syncthreads();
        write_tile(to, tile, job.to.row_stride, rows, (columns + 7) / 8 * 8);
        __syncthreads();
    }
}
