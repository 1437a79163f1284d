/* cooperative_groups on a GPU, as cuda_groups.h has it on the CPU: the toolkit's own header is not at hand where only NVRTC
 * is. Reductions and scans combine in the same order. */
namespace invar_shim {
namespace cooperative_groups {

inline unsigned invar_rank_in_block() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
inline unsigned invar_threads_of_block() { return blockDim.x * blockDim.y * blockDim.z; }

struct grid_group {
    static constexpr bool is_valid() { return true; }
    dim3 block_index() const { return blockIdx; }
    dim3 thread_index() const { return threadIdx; }
    dim3 dim_blocks() const { return gridDim; }
    dim3 dim_threads() const { return blockDim; }
    dim3 group_dim() const { return gridDim; }
    unsigned long long block_rank() const {
        return blockIdx.x + (unsigned long long)gridDim.x * (blockIdx.y + (unsigned long long)gridDim.y * blockIdx.z);
    }
    unsigned long long num_blocks() const { return (unsigned long long)gridDim.x * gridDim.y * gridDim.z; }
    unsigned long long thread_rank() const { return block_rank() * invar_threads_of_block() + invar_rank_in_block(); }
    unsigned long long num_threads() const { return num_blocks() * invar_threads_of_block(); }
    unsigned long long size() const { return num_threads(); }
};

struct thread_block {
    void sync() const { __syncthreads(); }
    dim3 group_index() const { return blockIdx; }
    dim3 thread_index() const { return threadIdx; }
    dim3 dim_threads() const { return blockDim; }
    dim3 group_dim() const { return blockDim; }
    unsigned thread_rank() const { return invar_rank_in_block(); }
    unsigned num_threads() const { return invar_threads_of_block(); }
    unsigned size() const { return num_threads(); }
};

template <unsigned Lanes = 0> struct invar_tile {
    unsigned threads, lanes; /* of the parent, of the tile */
    unsigned count() const { return Lanes ? Lanes : lanes; }
    unsigned first() const { return (invar_rank_in_block() & 31) & ~(count() - 1); }
    unsigned mask() const { return (count() == 32 ? 0xffffffff : (1u << count()) - 1) << first(); }
    unsigned thread_rank() const { return invar_rank_in_block() & (count() - 1); }
    unsigned num_threads() const { return count(); }
    unsigned size() const { return count(); }
    unsigned meta_group_rank() const { return invar_rank_in_block() % threads / count(); }
    unsigned meta_group_size() const { return (threads + count() - 1) / count(); }
    void sync() const { __syncwarp(mask()); }
    template <class T> T shfl(T x, int from) const { return __shfl_sync(mask(), x, from, (int)count()); }
    template <class T> T shfl_up(T x, unsigned delta) const { return __shfl_up_sync(mask(), x, delta, (int)count()); }
    template <class T> T shfl_down(T x, unsigned delta) const { return __shfl_down_sync(mask(), x, delta, (int)count()); }
    template <class T> T shfl_xor(T x, int bits) const { return __shfl_xor_sync(mask(), x, bits, (int)count()); }
    int any(int yes) const { return __any_sync(mask(), yes); }
    int all(int yes) const { return __all_sync(mask(), yes); }
    unsigned ballot(int yes) const { return __ballot_sync(mask(), yes) >> first(); }
    template <class T> unsigned match_any(T x) const { return __match_any_sync(mask(), x) >> first(); }
    template <class T> unsigned match_all(T x, int &all) const { return __match_all_sync(mask(), x, &all) >> first(); }
};
template <unsigned Lanes, class Parent = void> struct thread_block_tile : invar_tile<Lanes> {};
using thread_group = invar_tile<>;

struct coalesced_group {
    unsigned lanes, lane;
    unsigned thread_rank() const { return (unsigned)__popc(lanes & ((1u << lane) - 1)); }
    unsigned num_threads() const { return (unsigned)__popc(lanes); }
    unsigned size() const { return num_threads(); }
    int invar_member(unsigned rank) const {
        for (unsigned i = 0; i < 32; i++) {
            if ((lanes >> i & 1) && rank-- == 0) return (int)i;
        }
        return (int)lane;
    }
    void sync() const { __syncwarp(lanes); }
    template <class T> T shfl(T x, unsigned from) const { return __shfl_sync(lanes, x, invar_member(from % num_threads())); }
    template <class T> T shfl_up(T x, unsigned delta) const {
        return __shfl_sync(lanes, x, thread_rank() < delta ? (int)lane : invar_member(thread_rank() - delta));
    }
    template <class T> T shfl_down(T x, unsigned delta) const {
        return __shfl_sync(lanes, x, invar_member(thread_rank() + delta));
    }
    int any(int yes) const { return __any_sync(lanes, yes); }
    int all(int yes) const { return __all_sync(lanes, yes); }
    unsigned ballot(int yes) const {
        unsigned bits = __ballot_sync(lanes, yes), packed = 0;
        for (unsigned rank = 0; rank < num_threads(); rank++) packed |= (bits >> invar_member(rank) & 1) << rank;
        return packed;
    }
};

inline grid_group this_grid() { return {}; }
inline thread_block this_thread_block() { return {}; }
inline coalesced_group coalesced_threads() { return { __activemask(), invar_rank_in_block() & 31 }; }
template <unsigned Lanes> inline thread_block_tile<Lanes> tiled_partition(const thread_block &block) {
    return { { block.num_threads(), Lanes } };
}
template <unsigned Lanes, unsigned Parent> inline thread_block_tile<Lanes> tiled_partition(const invar_tile<Parent> &tile) {
    return { { tile.count(), Lanes } };
}
inline thread_group tiled_partition(const thread_block &block, unsigned lanes) { return { block.num_threads(), lanes }; }
template <class Group> inline void sync(const Group &group) { group.sync(); }

template <class T> struct plus { T operator()(T a, T b) const { return a + b; } };
template <class T> struct less { T operator()(T a, T b) const { return b < a ? b : a; } };
template <class T> struct greater { T operator()(T a, T b) const { return a < b ? b : a; } };
template <class T> struct bit_and { T operator()(T a, T b) const { return a & b; } };
template <class T> struct bit_or { T operator()(T a, T b) const { return a | b; } };
template <class T> struct bit_xor { T operator()(T a, T b) const { return a ^ b; } };

template <unsigned Lanes, class T, class Op> inline T reduce(const invar_tile<Lanes> &tile, T x, Op op) {
    for (unsigned d = 1; d < tile.count(); d *= 2) x = op(x, tile.shfl_xor(x, (int)d));
    return x;
}
template <class T, class Op> inline T reduce(const coalesced_group &group, T x, Op op) {
    T sum = group.shfl(x, 0);
    for (unsigned i = 1; i < group.num_threads(); i++) sum = op(sum, group.shfl(x, i));
    return sum;
}
template <class Group, class T, class Op> inline T inclusive_scan(const Group &group, T x, Op op) {
    for (unsigned d = 1; d < group.num_threads(); d *= 2) {
        T before = group.shfl_up(x, d);
        if (group.thread_rank() >= d) x = op(before, x);
    }
    return x;
}
template <class Group, class T> inline T inclusive_scan(const Group &group, T x) {
    return inclusive_scan(group, x, plus<T>());
}
template <class Group, class T, class Op> inline T exclusive_scan(const Group &group, T x, Op op) {
    T before = group.shfl_up(inclusive_scan(group, x, op), 1);
    return group.thread_rank() == 0 ? T(0) : before;
}
template <class Group, class T> inline T exclusive_scan(const Group &group, T x) {
    return exclusive_scan(group, x, plus<T>());
}

} // namespace cooperative_groups

namespace cg = cooperative_groups;

} // namespace invar_shim
