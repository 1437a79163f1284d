/* What the lanes of a simdgroup do together on the CPU: each hands over its operand, and one of them computes everybody's
 * result (jit/runtime.h). Metal's simd_ and quad_ functions and CUDA's warp intrinsics stand on these.
 *
 * A reduction is the xor butterfly 1, 2, 4, 8, 16, as the shuffles of a GPU make it: the operations commute, so that all
 * lanes get the same and a tree over neighbours gives it. A lane that takes no part is left out at its place. A scan is
 * Hillis and Steele's: x[i] = x[i-d] + x[i] for d = 1, 2, 4, 8, 16. */
namespace invar_shim {

struct invar_add { template <class T> static T apply(T a, T b) { return T(a + b); } static constexpr int unit = 0; };
struct invar_multiply { template <class T> static T apply(T a, T b) { return T(a * b); } static constexpr int unit = 1; };
struct invar_greater { template <class T> static T apply(T a, T b) { return a < b || a != a ? b : a; } };
struct invar_less { template <class T> static T apply(T a, T b) { return b < a || a != a ? b : a; } };
struct invar_and { template <class T> static T apply(T a, T b) { return T(a & b); } };
struct invar_or { template <class T> static T apply(T a, T b) { return T(a | b); } };
struct invar_xor { template <class T> static T apply(T a, T b) { return T(a ^ b); } };

template <class T> inline T invar_operand(const invar_exchange *exchange, uint32_t lane) {
    T x;
    __builtin_memcpy(&x, exchange->in + (size_t)lane * INVAR_VALUE_BYTES, sizeof x);
    return x;
}
template <class T> inline void invar_result(const invar_exchange *exchange, uint32_t lane, const T &x) {
    __builtin_memcpy(exchange->out + (size_t)lane * INVAR_VALUE_BYTES, &x, sizeof x);
}
inline bool invar_active(const invar_exchange *exchange, uint32_t lane) { return exchange->active >> lane & 1; }

/* Elements of T one by one: Metal's reductions take vectors too. */
template <class Op, class T> inline T invar_apply(const T &a, const T &b) { return Op::template apply<T>(a, b); }

/* Every group of Width lanes reduces on its own. */
template <class Op, class T, int Width> void invar_reduce_lanes(const invar_exchange *exchange) {
    for (int base = 0; base < INVAR_SIMD_WIDTH; base += Width) {
        T x[Width];
        bool there[Width];
        for (int i = 0; i < Width; i++) {
            there[i] = invar_active(exchange, base + i);
            if (there[i]) x[i] = invar_operand<T>(exchange, base + i);
        }
        for (int half = 1; half < Width; half *= 2) {
            for (int i = 0; i < Width; i += 2 * half) {
                if (!there[i + half]) continue;
                x[i] = there[i] ? invar_apply<Op>(x[i], x[i + half]) : x[i + half];
                there[i] = true;
            }
        }
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
        for (int d = 1; d < Width; d *= 2) {
            for (int i = Width - 1; i >= d; i--) {
                if (!there[i - d]) continue;
                x[i] = there[i] ? invar_apply<Op>(x[i - d], x[i]) : x[i - d];
                there[i] = true;
            }
        }
        for (int i = 0; i < Width; i++) {
            if (!invar_active(exchange, base + i)) continue;
            if (!Exclusive) invar_result(exchange, base + i, x[i]);
            else invar_result(exchange, base + i, i > 0 && there[i - 1] ? x[i - 1] : T(Op::unit));
        }
    }
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

/* Lanes that are nonzero, and lanes that take part, each as bits. */
struct invar_vote {
    uint32_t yes, active;
};
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
