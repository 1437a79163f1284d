// in: x float32 1 / out: y float32 1
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
// body
namespace cgr = cooperative_groups;
cg::thread_block block = cg::this_thread_block();
auto tile = cg::tiled_partition<32>(block);
float v = x[block.group_index().x * block.size() + block.thread_rank()];
v = cg::reduce(tile, v, cg::plus<float>());
float top = tile.shfl(v, 0) + tile.shfl_down(v, 4);
block.sync();
tile.sync();
if (tile.thread_rank() == 0) y[blockIdx.x * tile.meta_group_size() + tile.meta_group_rank()] = top;
