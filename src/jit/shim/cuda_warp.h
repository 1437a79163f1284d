/* CUDA's warp intrinsics on the CPU. They wait for the lanes of their mask that still live. */
namespace invar_shim {

/* A warp is cut into segments of `width` lanes, and `from` is a lane of the caller's own segment. */
template <class T> inline T __shfl_sync(invar_here here, unsigned mask, T x, int from, int width = 32) {
    uint32_t lane = here.lane()->number, inside = (uint32_t)width - 1;
    return invar_fetch(here, mask, x, (lane & ~inside) | ((uint32_t)from & inside));
}
template <class T> inline T __shfl_up_sync(invar_here here, unsigned mask, T x, unsigned delta, int width = 32) {
    uint32_t lane = here.lane()->number, place = lane & ((uint32_t)width - 1);
    return invar_fetch(here, mask, x, place < delta ? lane : lane - delta);
}
template <class T> inline T __shfl_down_sync(invar_here here, unsigned mask, T x, unsigned delta, int width = 32) {
    uint32_t lane = here.lane()->number, place = lane & ((uint32_t)width - 1);
    return invar_fetch(here, mask, x, place + delta >= (uint32_t)width ? lane : lane + delta);
}
/* A lane may read from an earlier segment, not from a later one. */
template <class T> inline T __shfl_xor_sync(invar_here here, unsigned mask, T x, int bits, int width = 32) {
    uint32_t lane = here.lane()->number, last = lane | ((uint32_t)width - 1), from = (lane ^ (uint32_t)bits) & 31;
    return invar_fetch(here, mask, x, from > last ? lane : from);
}

inline unsigned __ballot_sync(invar_here here, unsigned mask, int yes) { return invar_ballot(here, mask, yes != 0).yes; }
inline int __any_sync(invar_here here, unsigned mask, int yes) { return invar_ballot(here, mask, yes != 0).yes != 0; }
inline int __all_sync(invar_here here, unsigned mask, int yes) {
    invar_vote vote = invar_ballot(here, mask, yes != 0);
    return vote.yes == vote.active;
}
inline unsigned __activemask(invar_here here) { return invar_ballot(here, 0, true).active; }
inline void __syncwarp(invar_here here, unsigned mask = 0xffffffff) {
    invar_simd_barrier(here, mask);
}

/* To each lane, those that hold its value, bit for bit. */
template <class T> void invar_match(const invar_exchange *exchange) {
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (!invar_active(exchange, lane)) continue;
        uint32_t same = 0;
        for (uint32_t other = 0; other < INVAR_SIMD_WIDTH; other++) {
            if (invar_active(exchange, other) &&
                invar_operand<invar_unsigned<T>>(exchange, lane) == invar_operand<invar_unsigned<T>>(exchange, other))
                same |= 1u << other;
        }
        invar_result(exchange, lane, same);
    }
}
template <class T> inline unsigned __match_any_sync(invar_here here, unsigned mask, T x) {
    return invar_meet<uint32_t>(here, mask, invar_match<T>, x);
}
template <class T> inline unsigned __match_all_sync(invar_here here, unsigned mask, T x, int *all) {
    uint32_t active, same = invar_meet<uint32_t>(here, mask, invar_match<T>, x, &active);
    *all = same == active;
    return *all ? active : 0;
}

template <class T> inline T __reduce_add_sync(invar_here here, unsigned mask, T x) {
    return invar_reduced<invar_add, 32>(here, mask, x);
}
template <class T> inline T __reduce_min_sync(invar_here here, unsigned mask, T x) {
    return invar_reduced<invar_less, 32>(here, mask, x);
}
template <class T> inline T __reduce_max_sync(invar_here here, unsigned mask, T x) {
    return invar_reduced<invar_greater, 32>(here, mask, x);
}
inline unsigned __reduce_and_sync(invar_here here, unsigned mask, unsigned x) {
    return invar_reduced<invar_and, 32>(here, mask, x);
}
inline unsigned __reduce_or_sync(invar_here here, unsigned mask, unsigned x) {
    return invar_reduced<invar_or, 32>(here, mask, x);
}
inline unsigned __reduce_xor_sync(invar_here here, unsigned mask, unsigned x) {
    return invar_reduced<invar_xor, 32>(here, mask, x);
}

} // namespace invar_shim
