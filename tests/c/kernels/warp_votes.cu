// in: x int32 1 / out: y uint32 1
// body
int i = blockIdx.x * blockDim.x + threadIdx.x;
unsigned full = 0xffffffffu;
unsigned ballot = __ballot_sync(full, x[i] > 0);
int any = __any_sync(full, x[i] > 5), all = __all_sync(full, x[i] > -5);
unsigned match = __match_any_sync(full, x[i]);
__syncwarp();
y[i] = __popc(ballot) + any + all + __ffs(match) + __clz(ballot) + __brev(x[i]) + __reduce_add_sync(full, 1u);
