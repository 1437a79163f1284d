/* A loop that the lanes of a simdgroup walk through side by side (jit/lane_loops.c). The translator has made of
 *
 *     for (uint i = first; i < end; i += step) sum += x[row * n + i];
 *
 *     for (uint i = invar_lane_loop<uint, false>(-1, first, end, step,
 *                       [=](const invar_lane_index<uint> i) { return true && invar_keeps_order(row * n + i); },
 *                       [=](const invar_lane_index<uint> i, float &sum) { sum += x[row * n + i]; }, sum);
 *          i < end; i += step) sum += x[row * n + i];
 *
 * The call does as many turns as all 32 lanes have in common, when they begin at successive i and everything else that the
 * body reads is the same in all of them; the loop does what is left. Each lane does what it would have done, in its own
 * order. */

/* clang warns where a body cannot be vectorised, which is no fault of the kernel's author. */
#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wpass-failed"
#endif
namespace invar_shim {

enum { INVAR_LANE_LOOP_LEAST = 8, INVAR_LANE_LOOP_BYTES = 256 };

/* The counter of lane number `lane`, where that of lane 0 is `first`. As a sum of the two, and not as their 32-bit total
 * that might wrap around, it tells the compiler that lanes' subscripts follow each other. */
template <class I> struct invar_lane_index {
    I first;
    uint32_t lane;
    operator int64_t() const { return (int64_t)first + (int64_t)lane; }
};
template <class I, class U> inline auto invar_lane_moved(I first, U by, uint32_t lane) {
    using Sum = decltype(first + by);
    if constexpr (sizeof(Sum) > 4) return (Sum)((Sum)first + (Sum)by + (Sum)lane);
    else return invar_lane_index<Sum>{ (Sum)((Sum)first + (Sum)by), lane };
}
template <class U, class I> inline auto operator+(U by, invar_lane_index<I> i) {
    return invar_lane_moved(i.first, by, i.lane);
}
template <class U, class I> inline auto operator+(invar_lane_index<I> i, U by) {
    return invar_lane_moved(i.first, by, i.lane);
}
template <class U, class I> inline auto operator-(invar_lane_index<I> i, U by) {
    using Sum = decltype(i.first - by);
    return invar_lane_moved((Sum)i.first, (Sum)((Sum)0 - (Sum)by), i.lane);
}
/* No lane's 32-bit total wraps around. */
template <class I> inline bool invar_keeps_order(const invar_lane_index<I> &i) {
    return sizeof(I) > 4 || i.first <= (I)((I(-1) < I(0) ? 0x7fffffffu : 0xffffffffu) - (INVAR_SIMD_WIDTH - 1));
}
template <class U> inline bool invar_keeps_order(U) { return true; }

/* A copy in whole words whose padding is zero, so that copies can be compared. The assembler statement keeps the zeros from
 * being left out as overwritten. */
template <class F> struct alignas(8) invar_lane_kept {
    char bytes[(sizeof(F) + 7) / 8 * 8];
    explicit invar_lane_kept(const F &f) {
        __builtin_memset(bytes, 0, sizeof bytes);
        __asm__ volatile("" : : "r"(bytes) : "memory");
        __builtin_memcpy(bytes, &f, sizeof f);
    }
};

template <int Count> struct invar_lane_walk {
    const void *order; /* a lambda */
    const void *body;  /* invar_lane_kept of one */
    int64_t first, end, step;
    int64_t turns;    /* done */
    void *varied[Count + 1];
};

template <class T> struct invar_lane_copies {
    T of[INVAR_SIMD_WIDTH];
};

template <class I, class Order, class Body, class... T>
inline int64_t invar_walk_lanes(const Order order, const Body body, int64_t first, int64_t step, int64_t turns,
                                invar_lane_copies<T> &...copies) {
    for (int64_t turn = 0; turn < turns; turn++, first += step) {
        const I i = (I)first;
        if (!order(invar_lane_index<I>{ i, 0 })) return turn;
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
        for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) body(invar_lane_index<I>{ i, lane }, copies.of[lane]...);
    }
    return turns;
}

/* order captures nothing that body does not, so it needs no comparison. */
template <class Walk> inline bool invar_lanes_alike(Walk *const *walks, size_t words) {
    const Walk *first = walks[0];
    uint64_t differs = 0;
    for (int lane = 1; lane < INVAR_SIMD_WIDTH; lane++) {
        const Walk *walk = walks[lane];
        differs |= (uint64_t)((walk->first - first->first) ^ lane) | (uint64_t)(walk->end ^ first->end) |
                   (uint64_t)(walk->step ^ first->step);
        for (size_t i = 0; i < words; i++) differs |= ((const uint64_t *)walk->body)[i] ^ ((const uint64_t *)first->body)[i];
    }
    return !differs;
}

template <class...> struct invar_lane_types {};

/* Takes what is varied out of the lanes one type after another, walks, and gives it back. */
template <class I, class Order, class Body, class Walk, class... T>
inline int64_t invar_walk_together(Walk **walks, invar_lane_types<>, int64_t turns, invar_lane_copies<T> &...copies) {
    const Walk &first = *walks[0];
    return invar_walk_lanes<I>(*(const Order *)first.order, *(const Body *)first.body, first.first, first.step, turns, copies...);
}
template <class I, class Order, class Body, class Walk, class A, class... B, class... T>
inline int64_t invar_walk_together(Walk **walks, invar_lane_types<A, B...>, int64_t turns, invar_lane_copies<T> &...copies) {
    invar_lane_copies<A> next;
    for (int lane = 0; lane < INVAR_SIMD_WIDTH; lane++)
        __builtin_memcpy(&next.of[lane], walks[lane]->varied[sizeof...(T)], sizeof(A));
    turns = invar_walk_together<I, Order, Body>(walks, invar_lane_types<B...>(), turns, copies..., next);
    for (int lane = 0; lane < INVAR_SIMD_WIDTH; lane++)
        __builtin_memcpy(walks[lane]->varied[sizeof...(T)], &next.of[lane], sizeof(A));
    return turns;
}

template <class I, class Order, class Body, class... T> void invar_resolve_lane_loop(const invar_exchange *exchange) {
    using Walk = invar_lane_walk<sizeof...(T)>;
    Walk *walks[INVAR_SIMD_WIDTH];
    if (exchange->active != 0xffffffff) return;
    for (int lane = 0; lane < INVAR_SIMD_WIDTH; lane++)
        __builtin_memcpy(&walks[lane], exchange->in + (size_t)lane * INVAR_VALUE_BYTES, sizeof walks[0]);
    if (!invar_lanes_alike(walks, sizeof(invar_lane_kept<Body>) / 8)) return;
    const Walk &last = *walks[INVAR_SIMD_WIDTH - 1];
    int64_t turns = last.first < last.end ? (last.end - last.first + last.step - 1) / last.step : 0;
    turns = invar_walk_together<I, Order, Body>(walks, invar_lane_types<T...>(), turns);
    for (int lane = 0; lane < INVAR_SIMD_WIDTH; lane++) walks[lane]->turns = turns;
}

template <class T> constexpr bool invar_lane_plain =
    __is_trivially_copyable(T) && __is_trivially_constructible(T) && sizeof(T) <= 64;

/* site: a number of its own, below those of the text, so that lanes that wait here go on first. Closed: i <= end. */
template <class I, bool Closed, class Order, class Body, class... T>
inline I invar_lane_loop(int32_t site, I first, int64_t end, int64_t step, const Order &order, const Body &body,
                         T &...varied) {
    if constexpr (invar_is_integer<I> && sizeof(I) >= 4 && sizeof(Body) <= INVAR_LANE_LOOP_BYTES &&
                  __is_trivially_copyable(Order) && __is_trivially_copyable(Body) && (invar_lane_plain<T> && ...)) {
        const int64_t begin = (int64_t)first;
        const bool long_enough = begin >= 0 && step > 0 && end > begin && end < 0x7fffff00 && step < 0x1000000 &&
                                 end - begin > INVAR_LANE_LOOP_LEAST * step;
        if (!long_enough) return first;
        const invar_lane_kept<Body> kept(body);
        invar_lane_walk<sizeof...(T)> walk = { &order, kept.bytes, begin, end + Closed, step, 0,
                                               { (void *)&varied..., nullptr } };
        auto *walk_at = &walk;
        invar_lane *lane = invar_lane_of(__builtin_frame_address(0));
        __builtin_memcpy(lane->exchange->in + (size_t)lane->number * INVAR_VALUE_BYTES, &walk_at, sizeof walk_at);
        lane->runtime->collective(lane, site, 0, invar_resolve_lane_loop<I, Order, Body, T...>);
        return (I)(begin + walk.turns * step);
    }
    return first;
}

} // namespace invar_shim

#if defined(__clang__)
#pragma clang diagnostic pop
#endif
