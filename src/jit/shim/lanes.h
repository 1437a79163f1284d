/* What the lanes of a simdgroup do together on the CPU: each hands over its operand, and one of them computes everybody's
 * result (jit/runtime.h). Metal's simd_ and quad_ functions and CUDA's warp intrinsics stand on these. */
namespace invar_shim {

inline uint32_t invar_lane_number(invar_here here) { return here.lane()->number; }
inline void invar_simd_barrier(invar_here here, uint32_t mask) {
    here.lane()->runtime->collective(here.lane(), here.site, mask, nullptr);
}
inline void invar_group_barrier(invar_here here, uint32_t memory) {
    here.lane()->runtime->barrier(here.lane(), here.site, memory, 0);
}

template <class T> inline T invar_operand(const invar_exchange *exchange, uint32_t lane) {
    T x;
    __builtin_memcpy(&x, exchange->in + (size_t)lane * INVAR_VALUE_BYTES, sizeof x);
    return x;
}
template <class T> inline void invar_result(const invar_exchange *exchange, uint32_t lane, const T &x) {
    __builtin_memcpy(exchange->out + (size_t)lane * INVAR_VALUE_BYTES, &x, sizeof x);
}
inline bool invar_active(const invar_exchange *exchange, uint32_t lane) { return exchange->active >> lane & 1; }

/* Every group of Width lanes reduces on its own. */
template <class Op, class T, int Width> void invar_reduce_lanes(const invar_exchange *exchange) {
    for (int base = 0; base < INVAR_SIMD_WIDTH; base += Width) {
        T x[Width];
        bool there[Width];
        for (int i = 0; i < Width; i++) {
            there[i] = invar_active(exchange, base + i);
            if (there[i]) x[i] = invar_operand<T>(exchange, base + i);
        }
        invar_tree<Op, Width>(x, there);
        for (int i = 0; i < Width; i++) {
            if (invar_active(exchange, base + i)) invar_result(exchange, base + i, x[0]);
        }
    }
}
template <class Op, class T, int Width> void invar_reduce(const invar_exchange *exchange) {
    if (exchange->active != 0xffffffff) return invar_reduce_lanes<Op, T, Width>(exchange);
    for (int base = 0; base < INVAR_SIMD_WIDTH; base += Width) {
        T x[Width];
        for (int i = 0; i < Width; i++) x[i] = invar_operand<T>(exchange, base + i);
        for (int width = Width / 2; width >= 1; width /= 2) {
            for (int i = 0; i < width; i++) x[i] = invar_apply<Op>(x[2 * i], x[2 * i + 1]);
        }
        for (int i = 0; i < Width; i++) invar_result(exchange, base + i, x[0]);
    }
}

template <class Op, class T, int Width, bool Exclusive> void invar_scan(const invar_exchange *exchange) {
    for (int base = 0; base < INVAR_SIMD_WIDTH; base += Width) {
        T x[Width];
        bool there[Width];
        for (int i = 0; i < Width; i++) {
            there[i] = invar_active(exchange, base + i);
            x[i] = there[i] ? invar_operand<T>(exchange, base + i) : T(Op::unit);
        }
        invar_prefix<Op, Width>(x, there);
        for (int i = 0; i < Width; i++) {
            if (!invar_active(exchange, base + i)) continue;
            if (!Exclusive) invar_result(exchange, base + i, x[i]);
            else invar_result(exchange, base + i, i > 0 && there[i - 1] ? x[i - 1] : T(Op::unit));
        }
    }
}

template <class Op, int Width, class T> inline T invar_reduced(invar_here here, uint32_t mask, const T &x) {
    return invar_meet<T>(here, mask, invar_reduce<Op, T, Width>, x);
}
template <class Op, int Width, bool Exclusive, class T> inline T invar_scanned(invar_here here, const T &x) {
    return invar_meet<T>(here, 0, invar_scan<Op, T, Width, Exclusive>, x);
}

/* A value and the lane that it is wanted from. A lane that asks one which takes no part gets its own value back. */
template <class T> struct invar_request {
    T value;
    uint32_t from;
};
template <class T> void invar_deliver(const invar_exchange *exchange) {
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (!invar_active(exchange, lane)) continue;
        uint32_t from = invar_operand<invar_request<T>>(exchange, lane).from % INVAR_SIMD_WIDTH;
        if (!invar_active(exchange, from)) from = lane;
        invar_result(exchange, lane, invar_operand<T>(exchange, from));
    }
}
/* The value of lane `from`. Larger ones than fit beside the lane's number go in two halves. */
template <class T> inline T invar_fetch(invar_here here, uint32_t mask, const T &value, uint32_t from) {
    if constexpr (sizeof(invar_request<T>) <= INVAR_VALUE_BYTES) {
        return invar_meet<T>(here, mask, invar_deliver<T>, invar_request<T>{ value, from });
    } else {
        struct halves {
            uint64_t words[2][sizeof(T) / 16];
        };
        struct half {
            uint64_t words[sizeof(T) / 16];
        };
        halves in = invar_bits<halves>(value), out;
        for (int i = 0; i < 2; i++) {
            half part;
            __builtin_memcpy(&part, in.words[i], sizeof part);
            part = invar_fetch(here, mask, part, from);
            __builtin_memcpy(out.words[i], &part, sizeof part);
        }
        return invar_bits<T>(out);
    }
}

template <class T> void invar_deliver_first(const invar_exchange *exchange) {
    T first = invar_operand<T>(exchange, invar_lowest(exchange->active));
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (invar_active(exchange, lane)) invar_result(exchange, lane, first);
    }
}
template <class T> inline T invar_fetch_first(invar_here here, const T &x) {
    return invar_meet<T>(here, 0, invar_deliver_first<T>, x);
}

inline void invar_count_votes(const invar_exchange *exchange) {
    invar_vote vote = { 0, exchange->active };
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (invar_active(exchange, lane) && invar_operand<uint32_t>(exchange, lane)) vote.yes |= 1u << lane;
    }
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        if (invar_active(exchange, lane)) invar_result(exchange, lane, vote);
    }
}
inline invar_vote invar_ballot(invar_here here, uint32_t mask, bool yes) {
    return invar_meet<invar_vote>(here, mask, invar_count_votes, (uint32_t)yes);
}

} // namespace invar_shim
