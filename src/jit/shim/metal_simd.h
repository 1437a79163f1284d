/* Metal's simd_ and quad_ functions. Names and meaning: Metal Shading Language Specification, 6.9.2 and 6.9.3.
 * Where the specification leaves a lane's result undefined (its source is out of range or takes no part), the lane keeps
 * its own value. */
namespace invar_shim {

template <class Op, class T, int N> inline vec<T, N> invar_apply(const vec<T, N> &a, const vec<T, N> &b) {
    return invar_build<T, N>([&](int i) { return Op::template apply<T>(invar_at(a, i), invar_at(b, i)); });
}

namespace metal {

inline void threadgroup_barrier(invar_here here, mem_flags flags) {
    invar_group_barrier(here, (uint32_t)flags & 3);
}
inline void simdgroup_barrier(invar_here here, mem_flags) { invar_simd_barrier(here, 0); }

/* Lanes as bits. */
template <class Bits> struct invar_lanes_vote {
    using vote_t = Bits;
    Bits invar_yes, invar_all;
    invar_lanes_vote() = default;
    explicit constexpr invar_lanes_vote(Bits yes, Bits everyone = 0xffffffff) : invar_yes(yes), invar_all(everyone) {}
    explicit constexpr operator Bits() const { return invar_yes; }
    constexpr bool all() const { return invar_yes == invar_all; }
    constexpr bool any() const { return invar_yes != 0; }
};
using simd_vote = invar_lanes_vote<uint64_t>;
using quad_vote = invar_lanes_vote<unsigned short>;

/* ---- simd ---- */

template <class T> inline T simd_sum(invar_here here, T x) { return invar_reduced<invar_add, 32>(here, 0, x); }
template <class T> inline T simd_product(invar_here here, T x) { return invar_reduced<invar_multiply, 32>(here, 0, x); }
template <class T> inline T simd_max(invar_here here, T x) { return invar_reduced<invar_greater, 32>(here, 0, x); }
template <class T> inline T simd_min(invar_here here, T x) { return invar_reduced<invar_less, 32>(here, 0, x); }
template <class T> inline T simd_and(invar_here here, T x) { return invar_reduced<invar_and, 32>(here, 0, x); }
template <class T> inline T simd_or(invar_here here, T x) { return invar_reduced<invar_or, 32>(here, 0, x); }
template <class T> inline T simd_xor(invar_here here, T x) { return invar_reduced<invar_xor, 32>(here, 0, x); }
template <class T> inline T simd_prefix_inclusive_sum(invar_here here, T x) {
    return invar_scanned<invar_add, 32, false>(here, x);
}
template <class T> inline T simd_prefix_exclusive_sum(invar_here here, T x) {
    return invar_scanned<invar_add, 32, true>(here, x);
}
template <class T> inline T simd_prefix_inclusive_product(invar_here here, T x) {
    return invar_scanned<invar_multiply, 32, false>(here, x);
}
template <class T> inline T simd_prefix_exclusive_product(invar_here here, T x) {
    return invar_scanned<invar_multiply, 32, true>(here, x);
}

template <class T> inline T simd_shuffle(invar_here here, T x, unsigned short lane) { return invar_fetch(here, 0, x, lane); }
template <class T> inline T simd_broadcast(invar_here here, T x, unsigned short lane) {
    return invar_fetch(here, 0, x, lane);
}
template <class T> inline T simd_shuffle_xor(invar_here here, T x, unsigned short mask) {
    return invar_fetch(here, 0, x, invar_lane_number(here) ^ mask);
}
template <class T> inline T simd_shuffle_up(invar_here here, T x, unsigned short delta) {
    uint32_t lane = invar_lane_number(here);
    return invar_fetch(here, 0, x, lane < delta ? lane : lane - delta);
}
template <class T> inline T simd_shuffle_down(invar_here here, T x, unsigned short delta) {
    uint32_t lane = invar_lane_number(here);
    return invar_fetch(here, 0, x, lane + delta > 31 ? lane : lane + delta);
}
template <class T> inline T simd_shuffle_rotate_up(invar_here here, T x, unsigned short delta) {
    return invar_fetch(here, 0, x, (invar_lane_number(here) - delta) % 32);
}
template <class T> inline T simd_shuffle_rotate_down(invar_here here, T x, unsigned short delta) {
    return invar_fetch(here, 0, x, (invar_lane_number(here) + delta) % 32);
}
/* Lanes shift within groups of `modulo`; what comes in at the end comes from the other end of `filling`. */
template <class T>
inline T invar_shift_and_fill(invar_here here, T x, T filling, uint32_t lane, int delta, uint32_t modulo) {
    uint32_t base = lane - lane % modulo;
    int from = (int)(lane % modulo) + delta, around = from < 0 ? from + (int)modulo : from - (int)modulo;
    bool inside = from >= 0 && from < (int)modulo;
    T shifted = invar_fetch(here, 0, x, inside ? base + (uint32_t)from : lane);
    T filled = invar_fetch(here, 0, filling, inside ? lane : base + (uint32_t)around % modulo);
    return inside ? shifted : filled;
}
template <class T>
inline T simd_shuffle_and_fill_up(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                  unsigned short modulo = 32) {
    return invar_shift_and_fill<T>(here, x, filling, invar_lane_number(here), -(int)delta, modulo);
}
template <class T>
inline T simd_shuffle_and_fill_down(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                    unsigned short modulo = 32) {
    return invar_shift_and_fill<T>(here, x, filling, invar_lane_number(here), (int)delta, modulo);
}

inline simd_vote simd_ballot(invar_here here, bool x) {
    invar_vote vote = invar_ballot(here, 0, x);
    return simd_vote(vote.yes, vote.active);
}
inline simd_vote simd_active_threads_mask(invar_here here) { return simd_ballot(here, true); }
inline bool simd_all(invar_here here, bool x) { return simd_ballot(here, x).all(); }
inline bool simd_any(invar_here here, bool x) { return simd_ballot(here, x).any(); }
inline bool simd_is_first(invar_here here) {
    return invar_lowest(invar_ballot(here, 0, true).active) == invar_lane_number(here);
}
inline bool simd_is_helper_thread(invar_here) { return false; }
template <class T> inline T simd_broadcast_first(invar_here here, T x) { return invar_fetch_first(here, x); }

/* ---- quad: four lanes, aligned ---- */

template <class T> inline T quad_sum(invar_here here, T x) { return invar_reduced<invar_add, 4>(here, 0, x); }
template <class T> inline T quad_product(invar_here here, T x) { return invar_reduced<invar_multiply, 4>(here, 0, x); }
template <class T> inline T quad_max(invar_here here, T x) { return invar_reduced<invar_greater, 4>(here, 0, x); }
template <class T> inline T quad_min(invar_here here, T x) { return invar_reduced<invar_less, 4>(here, 0, x); }
template <class T> inline T quad_and(invar_here here, T x) { return invar_reduced<invar_and, 4>(here, 0, x); }
template <class T> inline T quad_or(invar_here here, T x) { return invar_reduced<invar_or, 4>(here, 0, x); }
template <class T> inline T quad_xor(invar_here here, T x) { return invar_reduced<invar_xor, 4>(here, 0, x); }
template <class T> inline T quad_prefix_inclusive_sum(invar_here here, T x) {
    return invar_scanned<invar_add, 4, false>(here, x);
}
template <class T> inline T quad_prefix_exclusive_sum(invar_here here, T x) {
    return invar_scanned<invar_add, 4, true>(here, x);
}
template <class T> inline T quad_prefix_inclusive_product(invar_here here, T x) {
    return invar_scanned<invar_multiply, 4, false>(here, x);
}
template <class T> inline T quad_prefix_exclusive_product(invar_here here, T x) {
    return invar_scanned<invar_multiply, 4, true>(here, x);
}

inline uint32_t invar_quad(invar_here here) { return invar_lane_number(here) & ~3u; }
template <class T> inline T quad_shuffle(invar_here here, T x, unsigned short lane) {
    return invar_fetch(here, 0, x, invar_quad(here) | (lane & 3));
}
template <class T> inline T quad_broadcast(invar_here here, T x, unsigned short lane) { return quad_shuffle(here, x, lane); }
template <class T> inline T quad_shuffle_xor(invar_here here, T x, unsigned short mask) {
    return invar_fetch(here, 0, x, invar_lane_number(here) ^ (mask & 3));
}
template <class T> inline T quad_shuffle_up(invar_here here, T x, unsigned short delta) {
    uint32_t lane = invar_lane_number(here);
    return invar_fetch(here, 0, x, (lane & 3) < delta ? lane : lane - delta);
}
template <class T> inline T quad_shuffle_down(invar_here here, T x, unsigned short delta) {
    uint32_t lane = invar_lane_number(here);
    return invar_fetch(here, 0, x, (lane & 3) + delta > 3 ? lane : lane + delta);
}
template <class T> inline T quad_shuffle_rotate_up(invar_here here, T x, unsigned short delta) {
    return quad_shuffle(here, x, (unsigned short)(invar_lane_number(here) - delta));
}
template <class T> inline T quad_shuffle_rotate_down(invar_here here, T x, unsigned short delta) {
    return quad_shuffle(here, x, (unsigned short)(invar_lane_number(here) + delta));
}
template <class T>
inline T quad_shuffle_and_fill_up(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                  unsigned short modulo = 4) {
    return invar_shift_and_fill<T>(here, x, filling, invar_lane_number(here), -(int)delta, modulo);
}
template <class T>
inline T quad_shuffle_and_fill_down(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                    unsigned short modulo = 4) {
    return invar_shift_and_fill<T>(here, x, filling, invar_lane_number(here), (int)delta, modulo);
}
inline quad_vote quad_ballot(invar_here here, bool x) {
    invar_vote vote = invar_ballot(here, 0, x);
    uint32_t quad = invar_quad(here);
    return quad_vote((unsigned short)(vote.yes >> quad & 15), (unsigned short)(vote.active >> quad & 15));
}
inline quad_vote quad_active_threads_mask(invar_here here) { return quad_ballot(here, true); }
inline bool quad_all(invar_here here, bool x) { return quad_ballot(here, x).all(); }
inline bool quad_any(invar_here here, bool x) { return quad_ballot(here, x).any(); }
inline bool quad_is_first(invar_here here) {
    return invar_lowest(quad_ballot(here, true).invar_all) == (invar_lane_number(here) & 3);
}
inline bool quad_is_helper_thread(invar_here) { return false; }
template <class T> inline T quad_broadcast_first(invar_here here, T x) {
    uint32_t first = invar_lowest(quad_ballot(here, true).invar_all);
    return quad_shuffle(here, x, (unsigned short)first);
}

} // namespace metal
} // namespace invar_shim
