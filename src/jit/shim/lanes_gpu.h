/* The same on a GPU: lanes of a warp that stand at one instruction meet by __shfl_sync. Where not all 32 do, a lane reads
 * all values and reduces them itself, in the order that the CPU takes. */
namespace invar_shim {

inline uint32_t invar_lane_number(invar_here) {
    uint32_t lane;
    asm("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
inline void invar_simd_barrier(invar_here, uint32_t) { __syncwarp(__activemask()); }
inline void invar_group_barrier(invar_here, uint32_t) { __syncthreads(); }

template <class T> inline T invar_fetch_among(uint32_t active, const T &value, uint32_t from) {
    unsigned words[(sizeof(T) + 3) / 4] = {};
    T result;
    memcpy(words, &value, sizeof value);
    for (unsigned &word : words) word = __shfl_sync(active, word, (int)from);
    memcpy(&result, words, sizeof result);
    return result;
}
/* A lane that asks one which takes no part gets its own value back. */
template <class T> inline T invar_fetch(invar_here here, uint32_t, const T &value, uint32_t from) {
    uint32_t active = __activemask();
    return invar_fetch_among(active, value, active >> (from & 31) & 1 ? from & 31 : invar_lane_number(here));
}
template <class T> inline T invar_fetch_first(invar_here, const T &value) {
    uint32_t active = __activemask();
    return invar_fetch_among(active, value, invar_lowest(active));
}

/* The values of a lane's group of Width, and which of them are there. */
template <int Width, class T> inline void invar_gather(uint32_t active, uint32_t base, const T &x, T *all, bool *there) {
    for (uint32_t i = 0; i < 32; i++) {
        if (!(active >> i & 1)) continue;
        T value = invar_fetch_among(active, x, i);
        if (i >= base && i < base + Width) all[i - base] = value;
    }
    for (uint32_t i = 0; i < Width; i++) there[i] = active >> (base + i) & 1;
}

template <class Op, int Width, class T> inline T invar_reduced(invar_here here, uint32_t, T x) {
    uint32_t active = __activemask(), lane = invar_lane_number(here);
    if (active == 0xffffffff) {
        for (uint32_t d = 1; d < Width; d *= 2) {
            T other = invar_fetch_among(active, x, lane ^ d);
            x = lane & d ? invar_apply<Op>(other, x) : invar_apply<Op>(x, other);
        }
        return x;
    }
    T all[Width];
    bool there[Width];
    invar_gather<Width>(active, lane & ~(uint32_t)(Width - 1), x, all, there);
    invar_tree<Op, Width>(all, there);
    return all[0];
}
template <class Op, int Width, bool Exclusive, class T> inline T invar_scanned(invar_here here, T x) {
    uint32_t active = __activemask(), lane = invar_lane_number(here), place = lane & (Width - 1);
    if (active == 0xffffffff) {
        for (uint32_t d = 1; d < Width; d *= 2) {
            T before = invar_fetch_among(active, x, place < d ? lane : lane - d);
            if (place >= d) x = invar_apply<Op>(before, x);
        }
        if (!Exclusive) return x;
        T before = invar_fetch_among(active, x, place ? lane - 1 : lane);
        return place ? before : T(Op::unit);
    }
    T all[Width];
    bool there[Width];
    invar_gather<Width>(active, lane - place, x, all, there);
    invar_prefix<Op, Width>(all, there);
    if (!Exclusive) return all[place];
    return place && there[place - 1] ? all[place - 1] : T(Op::unit);
}

inline invar_vote invar_ballot(invar_here, uint32_t, bool yes) {
    uint32_t active = __activemask();
    return { __ballot_sync(active, yes), active };
}

} // namespace invar_shim
