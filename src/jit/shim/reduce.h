/* The order in which the lanes of a simdgroup reduce and scan, the same on the CPU and on a GPU.
 *
 * A reduction is the xor butterfly 1, 2, 4, 8, 16: the operations commute, so that all lanes get the same and a tree over
 * neighbours gives it. A lane that takes no part is left out at its place. A scan is Hillis and Steele's ("Data parallel
 * algorithms", 1986): x[i] = x[i-d] + x[i] for d = 1, 2, 4, 8, 16. */
namespace invar_shim {

struct invar_add { template <class T> static T apply(T a, T b) { return T(a + b); } static constexpr int unit = 0; };
struct invar_multiply { template <class T> static T apply(T a, T b) { return T(a * b); } static constexpr int unit = 1; };
struct invar_greater { template <class T> static T apply(T a, T b) { return a < b || a != a ? b : a; } };
struct invar_less { template <class T> static T apply(T a, T b) { return b < a || a != a ? b : a; } };
struct invar_and { template <class T> static T apply(T a, T b) { return T(a & b); } };
struct invar_or { template <class T> static T apply(T a, T b) { return T(a | b); } };
struct invar_xor { template <class T> static T apply(T a, T b) { return T(a ^ b); } };

/* vector.h's vectors, where a program has them, are taken element by element. */
template <class Op, class T> inline T invar_apply(const T &a, const T &b) { return Op::template apply<T>(a, b); }

/* x[0] becomes the reduction of the x that are there. */
template <class Op, int Width, class T> inline void invar_tree(T *x, bool *there) {
    for (int half = 1; half < Width; half *= 2) {
        for (int i = 0; i < Width; i += 2 * half) {
            if (!there[i + half]) continue;
            x[i] = there[i] ? invar_apply<Op>(x[i], x[i + half]) : x[i + half];
            there[i] = true;
        }
    }
}
/* x[i] becomes the combination of all up to i that are there, and there[i] whether there is any. */
template <class Op, int Width, class T> inline void invar_prefix(T *x, bool *there) {
    for (int d = 1; d < Width; d *= 2) {
        for (int i = Width - 1; i >= d; i--) {
            if (!there[i - d]) continue;
            x[i] = there[i] ? invar_apply<Op>(x[i - d], x[i]) : x[i - d];
            there[i] = true;
        }
    }
}

/* Lanes that are nonzero, and lanes that take part, each as bits. */
struct invar_vote {
    uint32_t yes, active;
};
inline uint32_t invar_lowest(uint32_t bits) {
#ifdef __CUDACC_RTC__
    return (uint32_t)__ffs((int)bits) - 1;
#else
    return (uint32_t)__builtin_ctz(bits);
#endif
}

} // namespace invar_shim
