/* Metal's simd_ and quad_ functions on the CPU. Names and meaning: Metal Shading Language Specification, 6.9.2 and 6.9.3.
 * Where the specification leaves a lane's result undefined (its source is out of range or takes no part), the lane keeps
 * its own value. */
namespace invar_shim {

template <class Op, class T, int N> inline vec<T, N> invar_apply(const vec<T, N> &a, const vec<T, N> &b) {
    return invar_build<T, N>([&](int i) { return Op::template apply<T>(invar_at(a, i), invar_at(b, i)); });
}

namespace metal {

inline void threadgroup_barrier(invar_here here, mem_flags flags) {
    here.lane()->runtime->barrier(here.lane(), here.site, (uint32_t)flags & INVAR_MEMORY_ALL, 0);
}
inline void simdgroup_barrier(invar_here here, mem_flags) {
    here.lane()->runtime->collective(here.lane(), here.site, 0, nullptr);
}

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

template <class T> inline T simd_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_add, T, 32>, x);
}
template <class T> inline T simd_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_multiply, T, 32>, x);
}
template <class T> inline T simd_max(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_greater, T, 32>, x);
}
template <class T> inline T simd_min(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_less, T, 32>, x);
}
template <class T> inline T simd_and(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_and, T, 32>, x);
}
template <class T> inline T simd_or(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_or, T, 32>, x);
}
template <class T> inline T simd_xor(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_xor, T, 32>, x);
}
template <class T> inline T simd_prefix_inclusive_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_add, T, 32, false>, x);
}
template <class T> inline T simd_prefix_exclusive_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_add, T, 32, true>, x);
}
template <class T> inline T simd_prefix_inclusive_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_multiply, T, 32, false>, x);
}
template <class T> inline T simd_prefix_exclusive_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_multiply, T, 32, true>, x);
}

template <class T> inline T simd_shuffle(invar_here here, T x, unsigned short lane) { return invar_fetch(here, 0, x, lane); }
template <class T> inline T simd_broadcast(invar_here here, T x, unsigned short lane) {
    return invar_fetch(here, 0, x, lane);
}
template <class T> inline T simd_shuffle_xor(invar_here here, T x, unsigned short mask) {
    return invar_fetch(here, 0, x, here.lane()->number ^ mask);
}
template <class T> inline T simd_shuffle_up(invar_here here, T x, unsigned short delta) {
    uint32_t lane = here.lane()->number;
    return invar_fetch(here, 0, x, lane < delta ? lane : lane - delta);
}
template <class T> inline T simd_shuffle_down(invar_here here, T x, unsigned short delta) {
    uint32_t lane = here.lane()->number;
    return invar_fetch(here, 0, x, lane + delta > 31 ? lane : lane + delta);
}
template <class T> inline T simd_shuffle_rotate_up(invar_here here, T x, unsigned short delta) {
    return invar_fetch(here, 0, x, (here.lane()->number - delta) % 32);
}
template <class T> inline T simd_shuffle_rotate_down(invar_here here, T x, unsigned short delta) {
    return invar_fetch(here, 0, x, (here.lane()->number + delta) % 32);
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
    return invar_shift_and_fill<T>(here, x, filling, here.lane()->number, -(int)delta, modulo);
}
template <class T>
inline T simd_shuffle_and_fill_down(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                    unsigned short modulo = 32) {
    return invar_shift_and_fill<T>(here, x, filling, here.lane()->number, (int)delta, modulo);
}

inline simd_vote simd_ballot(invar_here here, bool x) {
    invar_vote vote = invar_ballot(here, 0, x);
    return simd_vote(vote.yes, vote.active);
}
inline simd_vote simd_active_threads_mask(invar_here here) { return simd_ballot(here, true); }
inline bool simd_all(invar_here here, bool x) { return simd_ballot(here, x).all(); }
inline bool simd_any(invar_here here, bool x) { return simd_ballot(here, x).any(); }
inline bool simd_is_first(invar_here here) {
    return (uint32_t)__builtin_ctz(invar_ballot(here, 0, true).active) == here.lane()->number;
}
inline bool simd_is_helper_thread(invar_here) { return false; }
template <class T> void invar_deliver_first(const invar_exchange *exchange) {
    T first = invar_operand<T>(exchange, __builtin_ctz(exchange->active));
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (invar_active(exchange, lane)) invar_result(exchange, lane, first);
    }
}
template <class T> inline T simd_broadcast_first(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_deliver_first<T>, x);
}

/* ---- quad: four lanes, aligned ---- */

template <class T> inline T quad_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_add, T, 4>, x);
}
template <class T> inline T quad_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_multiply, T, 4>, x);
}
template <class T> inline T quad_max(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_greater, T, 4>, x);
}
template <class T> inline T quad_min(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_less, T, 4>, x);
}
template <class T> inline T quad_and(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_and, T, 4>, x);
}
template <class T> inline T quad_or(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_or, T, 4>, x);
}
template <class T> inline T quad_xor(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_reduce<invar_xor, T, 4>, x);
}
template <class T> inline T quad_prefix_inclusive_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_add, T, 4, false>, x);
}
template <class T> inline T quad_prefix_exclusive_sum(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_add, T, 4, true>, x);
}
template <class T> inline T quad_prefix_inclusive_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_multiply, T, 4, false>, x);
}
template <class T> inline T quad_prefix_exclusive_product(invar_here here, T x) {
    return invar_meet<T>(here, 0, invar_scan<invar_multiply, T, 4, true>, x);
}

inline uint32_t invar_quad(invar_here here) { return here.lane()->number & ~3u; }
template <class T> inline T quad_shuffle(invar_here here, T x, unsigned short lane) {
    return invar_fetch(here, 0, x, invar_quad(here) | (lane & 3));
}
template <class T> inline T quad_broadcast(invar_here here, T x, unsigned short lane) { return quad_shuffle(here, x, lane); }
template <class T> inline T quad_shuffle_xor(invar_here here, T x, unsigned short mask) {
    return invar_fetch(here, 0, x, here.lane()->number ^ (mask & 3));
}
template <class T> inline T quad_shuffle_up(invar_here here, T x, unsigned short delta) {
    uint32_t lane = here.lane()->number;
    return invar_fetch(here, 0, x, (lane & 3) < delta ? lane : lane - delta);
}
template <class T> inline T quad_shuffle_down(invar_here here, T x, unsigned short delta) {
    uint32_t lane = here.lane()->number;
    return invar_fetch(here, 0, x, (lane & 3) + delta > 3 ? lane : lane + delta);
}
template <class T> inline T quad_shuffle_rotate_up(invar_here here, T x, unsigned short delta) {
    return quad_shuffle(here, x, (unsigned short)(here.lane()->number - delta));
}
template <class T> inline T quad_shuffle_rotate_down(invar_here here, T x, unsigned short delta) {
    return quad_shuffle(here, x, (unsigned short)(here.lane()->number + delta));
}
template <class T>
inline T quad_shuffle_and_fill_up(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                  unsigned short modulo = 4) {
    return invar_shift_and_fill<T>(here, x, filling, here.lane()->number, -(int)delta, modulo);
}
template <class T>
inline T quad_shuffle_and_fill_down(invar_here here, T x, invar_as<T> filling, unsigned short delta,
                                    unsigned short modulo = 4) {
    return invar_shift_and_fill<T>(here, x, filling, here.lane()->number, (int)delta, modulo);
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
    return (uint32_t)__builtin_ctz(quad_ballot(here, true).invar_all) == (here.lane()->number & 3);
}
inline bool quad_is_helper_thread(invar_here) { return false; }
template <class T> inline T quad_broadcast_first(invar_here here, T x) {
    uint32_t first = (uint32_t)__builtin_ctz(quad_ballot(here, true).invar_all);
    return quad_shuffle(here, x, (unsigned short)first);
}

} // namespace metal
} // namespace invar_shim
