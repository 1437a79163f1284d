/* cooperative_groups on the CPU: the grid's queries, the block, tiles of 1 to 32 threads, and the threads that are active
 * together. A group knows the thread that asked for it; what waits for others takes a marker. */
namespace invar_shim {
namespace cooperative_groups {

struct grid_group {
    const invar_position &position;
    const invar_launch &launch;
    static constexpr bool is_valid() { return true; }
    dim3 block_index() const { return { position.group[0], position.group[1], position.group[2] }; }
    dim3 thread_index() const { return { position.local[0], position.local[1], position.local[2] }; }
    dim3 dim_blocks() const { return { launch.groups[0], launch.groups[1], launch.groups[2] }; }
    dim3 dim_threads() const { return { launch.threadgroup[0], launch.threadgroup[1], launch.threadgroup[2] }; }
    dim3 group_dim() const { return dim_blocks(); }
    unsigned long long block_rank() const {
        return position.group[0] + (unsigned long long)launch.groups[0] * (position.group[1] +
               (unsigned long long)launch.groups[1] * position.group[2]);
    }
    unsigned long long num_blocks() const {
        return (unsigned long long)launch.groups[0] * launch.groups[1] * launch.groups[2];
    }
    unsigned long long block_size() const {
        return (unsigned long long)launch.threadgroup[0] * launch.threadgroup[1] * launch.threadgroup[2];
    }
    unsigned long long thread_rank() const { return block_rank() * block_size() + position.index; }
    unsigned long long num_threads() const { return num_blocks() * block_size(); }
    unsigned long long size() const { return num_threads(); }
};

struct thread_block {
    const invar_position &position;
    const invar_launch &launch;
    void sync(invar_here here) const { invar_block_barrier(here, 0); }
    dim3 group_index() const { return { position.group[0], position.group[1], position.group[2] }; }
    dim3 thread_index() const { return { position.local[0], position.local[1], position.local[2] }; }
    dim3 dim_threads() const { return { launch.threadgroup[0], launch.threadgroup[1], launch.threadgroup[2] }; }
    dim3 group_dim() const { return dim_threads(); }
    unsigned thread_rank() const { return position.index; }
    unsigned num_threads() const { return launch.threadgroup[0] * launch.threadgroup[1] * launch.threadgroup[2]; }
    unsigned size() const { return num_threads(); }
};

/* `Lanes` neighbours of a warp, or as many as `lanes` says where the type does not (Lanes 0). */
template <unsigned Lanes = 0> struct invar_tile {
    unsigned index, threads, lanes; /* of this thread and of the parent; lanes of the tile */
    unsigned count() const { return Lanes ? Lanes : lanes; }
    unsigned first() const { return (index & 31) & ~(count() - 1); }
    unsigned mask() const { return (count() == 32 ? 0xffffffff : (1u << count()) - 1) << first(); }

    unsigned thread_rank() const { return index & (count() - 1); }
    unsigned num_threads() const { return count(); }
    unsigned size() const { return count(); }
    unsigned meta_group_rank() const { return index % threads / count(); }
    unsigned meta_group_size() const { return (threads + count() - 1) / count(); }

    void sync(invar_here here) const { __syncwarp(here, mask()); }
    template <class T> T shfl(invar_here here, T x, int from) const {
        return __shfl_sync(here, mask(), x, from, (int)count());
    }
    template <class T> T shfl_up(invar_here here, T x, unsigned delta) const {
        return __shfl_up_sync(here, mask(), x, delta, (int)count());
    }
    template <class T> T shfl_down(invar_here here, T x, unsigned delta) const {
        return __shfl_down_sync(here, mask(), x, delta, (int)count());
    }
    template <class T> T shfl_xor(invar_here here, T x, int bits) const {
        return __shfl_xor_sync(here, mask(), x, bits, (int)count());
    }
    int any(invar_here here, int yes) const { return __any_sync(here, mask(), yes); }
    int all(invar_here here, int yes) const { return __all_sync(here, mask(), yes); }
    unsigned ballot(invar_here here, int yes) const { return __ballot_sync(here, mask(), yes) >> first(); }
    template <class T> unsigned match_any(invar_here here, T x) const {
        return __match_any_sync(here, mask(), x) >> first();
    }
    template <class T> unsigned match_all(invar_here here, T x, int &all) const {
        return __match_all_sync(here, mask(), x, &all) >> first();
    }
};
template <unsigned Lanes, class Parent = void> struct thread_block_tile : invar_tile<Lanes> {};
using thread_group = invar_tile<>;

/* Some lanes of a warp, counted upwards. */
struct coalesced_group {
    unsigned lanes, lane; /* the members as bits, and this one's number */
    unsigned thread_rank() const { return (unsigned)__builtin_popcount(lanes & ((1u << lane) - 1)); }
    unsigned num_threads() const { return (unsigned)__builtin_popcount(lanes); }
    unsigned size() const { return num_threads(); }
    unsigned mask() const { return lanes; }
    int invar_member(unsigned rank) const {
        for (unsigned i = 0; i < 32; i++) {
            if ((lanes >> i & 1) && rank-- == 0) return (int)i;
        }
        return (int)lane;
    }
    void sync(invar_here here) const { __syncwarp(here, lanes); }
    template <class T> T shfl(invar_here here, T x, unsigned from) const {
        return __shfl_sync(here, lanes, x, invar_member(from % num_threads()));
    }
    template <class T> T shfl_up(invar_here here, T x, unsigned delta) const {
        return __shfl_sync(here, lanes, x, thread_rank() < delta ? (int)lane : invar_member(thread_rank() - delta));
    }
    template <class T> T shfl_down(invar_here here, T x, unsigned delta) const {
        return __shfl_sync(here, lanes, x, invar_member(thread_rank() + delta));
    }
    template <class T> T shfl_xor(invar_here here, T x, unsigned bits) const {
        return __shfl_sync(here, lanes, x, invar_member(thread_rank() ^ bits));
    }
    int any(invar_here here, int yes) const { return __any_sync(here, lanes, yes); }
    int all(invar_here here, int yes) const { return __all_sync(here, lanes, yes); }
    unsigned ballot(invar_here here, int yes) const {
        unsigned bits = __ballot_sync(here, lanes, yes), packed = 0;
        for (unsigned rank = 0; rank < num_threads(); rank++) packed |= (bits >> invar_member(rank) & 1) << rank;
        return packed;
    }
};

template <class Here> inline grid_group this_grid(const Here &here) { return { here.position(), here.launch() }; }
template <class Here> inline thread_block this_thread_block(const Here &here) { return { here.position(), here.launch() }; }
template <class Here> inline invar_tile<1> this_thread(const Here &here) { return { here.position().index, 1, 1 }; }
inline coalesced_group coalesced_threads(invar_here here) { return { __activemask(here), here.lane()->number }; }

template <unsigned Lanes> inline thread_block_tile<Lanes> tiled_partition(const thread_block &block) {
    static_assert(Lanes <= 32 && (Lanes & (Lanes - 1)) == 0, "a tile is 1, 2, 4, 8, 16 or 32 threads");
    return { { block.position.index, block.num_threads(), Lanes } };
}
template <unsigned Lanes, unsigned Parent> inline thread_block_tile<Lanes> tiled_partition(const invar_tile<Parent> &tile) {
    return { { tile.index, tile.count(), Lanes } };
}
inline thread_group tiled_partition(const thread_block &block, unsigned lanes) {
    return { block.position.index, block.num_threads(), lanes };
}

template <class Group> inline void sync(invar_here here, const Group &group) { group.sync(here); }

template <class T> struct plus { T operator()(T a, T b) const { return a + b; } };
template <class T> struct less { T operator()(T a, T b) const { return b < a ? b : a; } };
template <class T> struct greater { T operator()(T a, T b) const { return a < b ? b : a; } };
template <class T> struct bit_and { T operator()(T a, T b) const { return a & b; } };
template <class T> struct bit_or { T operator()(T a, T b) const { return a | b; } };
template <class T> struct bit_xor { T operator()(T a, T b) const { return a ^ b; } };

/* The xor butterfly 1, 2, 4, ... over a tile; over other groups, one after another. */
template <unsigned Lanes, class T, class Op>
inline T reduce(invar_here here, const invar_tile<Lanes> &tile, T x, Op op) {
    for (unsigned d = 1; d < tile.count(); d *= 2) x = op(x, tile.shfl_xor(here, x, (int)d));
    return x;
}
template <class T, class Op> inline T reduce(invar_here here, const coalesced_group &group, T x, Op op) {
    T sum = group.shfl(here, x, 0);
    for (unsigned i = 1; i < group.num_threads(); i++) sum = op(sum, group.shfl(here, x, i));
    return sum;
}
template <class Group, class T, class Op> inline T inclusive_scan(invar_here here, const Group &group, T x, Op op) {
    for (unsigned d = 1; d < group.num_threads(); d *= 2) {
        T before = group.shfl_up(here, x, d);
        if (group.thread_rank() >= d) x = op(before, x);
    }
    return x;
}
template <class Group, class T> inline T inclusive_scan(invar_here here, const Group &group, T x) {
    return inclusive_scan(here, group, x, plus<T>());
}
template <class Group, class T, class Op> inline T exclusive_scan(invar_here here, const Group &group, T x, Op op) {
    T before = group.shfl_up(here, inclusive_scan(here, group, x, op), 1);
    return group.thread_rank() == 0 ? T(0) : before;
}
template <class Group, class T> inline T exclusive_scan(invar_here here, const Group &group, T x) {
    return exclusive_scan(here, group, x, plus<T>());
}

} // namespace cooperative_groups

namespace cg = cooperative_groups;

} // namespace invar_shim
