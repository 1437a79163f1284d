/* Metal's common, relational and integer functions, of scalars and vectors. */
namespace invar_shim {
namespace metal {

/* Of a number and a NaN both give the number, as Metal's fmax and fmin do. */
template <class T> constexpr T invar_max(T a, T b) { return a < b || a != a ? b : a; }
template <class T> constexpr T invar_min(T a, T b) { return b < a || a != a ? b : a; }
template <class T> constexpr T invar_median(T a, T b, T c) {
    return invar_max(invar_min(a, b), invar_min(invar_max(a, b), c));
}

template <class X, class Y> constexpr auto max(const X &x, const Y &y) {
    return invar_each_alike([](auto a, auto b) { return invar_max(a, b); }, x, y);
}
template <class X, class Y> constexpr auto min(const X &x, const Y &y) {
    return invar_each_alike([](auto a, auto b) { return invar_min(a, b); }, x, y);
}
template <class X, class Y> constexpr auto fmax(const X &x, const Y &y) { return max(x, y); }
template <class X, class Y> constexpr auto fmin(const X &x, const Y &y) { return min(x, y); }
template <class X, class Y, class Z> constexpr auto max3(const X &x, const Y &y, const Z &z) { return max(max(x, y), z); }
template <class X, class Y, class Z> constexpr auto min3(const X &x, const Y &y, const Z &z) { return min(min(x, y), z); }
template <class X, class Y, class Z> constexpr auto median3(const X &x, const Y &y, const Z &z) {
    return invar_each_alike([](auto a, auto b, auto c) { return invar_median(a, b, c); }, x, y, z);
}
template <class X, class Y, class Z> constexpr auto fmax3(const X &x, const Y &y, const Z &z) { return max3(x, y, z); }
template <class X, class Y, class Z> constexpr auto fmin3(const X &x, const Y &y, const Z &z) { return min3(x, y, z); }
template <class X, class Y, class Z> constexpr auto fmedian3(const X &x, const Y &y, const Z &z) { return median3(x, y, z); }
template <class X, class L, class H> constexpr auto clamp(const X &x, const L &low, const H &high) {
    return invar_each_alike([](auto e, auto l, auto h) { return invar_min(invar_max(e, l), h); }, x, low, high);
}
template <class X> constexpr auto saturate(const X &x) {
    return invar_lift([](float e) { return invar_min(invar_max(e, 0.0f), 1.0f); }, x);
}
template <class X> constexpr auto abs(const X &x) {
    return invar_each([](auto e) {
        using T = decltype(e);
        using U = invar_unsigned<T>;
        if constexpr (invar_is_real<T>) return invar_bits<T>((U)(invar_bits<U>(e) & (U) ~((U)1 << (8 * sizeof(T) - 1))));
        else return (T)(invar_is_signed<T> && e < 0 ? -(U)e : (U)e);
    }, x);
}
template <class X> constexpr auto fract(const X &x) {
    return invar_lift([](float e) { return invar_min(e - ::floorf(e), 0x1.fffffep-1f); }, x);
}
template <class X, class Y, class A> constexpr auto mix(const X &x, const Y &y, const A &a) {
    return invar_lift([](float l, float h, float t) { return l + (h - l) * t; }, x, y, a);
}
template <class X> constexpr auto sign(const X &x) {
    return invar_each([](auto e) {
        using T = decltype(e);
        return e > T(0) ? T(1) : e < T(0) ? T(-1) : e == e ? e : T(0);
    }, x);
}
template <class E, class X> constexpr auto step(const E &edge, const X &x) {
    return invar_lift([](float e, float a) { return a < e ? 0.0f : 1.0f; }, edge, x);
}
template <class L, class H, class X> constexpr auto smoothstep(const L &low, const H &high, const X &x) {
    return invar_lift([](float l, float h, float e) {
        float t = invar_min(invar_max((e - l) / (h - l), 0.0f), 1.0f);
        return t * t * (3.0f - 2.0f * t);
    }, low, high, x);
}

/* ---- relational ---- */

template <class X> constexpr auto isnan(const X &x) { return invar_each([](auto e) { return e != e; }, x); }
template <class X> constexpr auto isinf(const X &x) {
    return invar_each([](auto e) { return (float)abs(e) == invar_infinity; }, x);
}
template <class X> constexpr auto isfinite(const X &x) {
    return invar_each([](auto e) { return (float)abs(e) < invar_infinity; }, x);
}
template <class X> constexpr auto isnormal(const X &x) {
    return invar_each([](auto e) {
        float least = invar_same<decltype(e), half> ? 0x1p-14f : 0x1p-126f, size = (float)abs(e);
        return size >= least && size < invar_infinity;
    }, x);
}
template <class X, class Y> constexpr auto isordered(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return a == a && b == b; }, x, y);
}
template <class X, class Y> constexpr auto isunordered(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return a != a || b != b; }, x, y);
}
template <class X> constexpr auto signbit(const X &x) {
    return invar_each([](auto e) { return invar_bits<invar_unsigned<decltype(e)>>(e) >> (8 * sizeof(e) - 1) != 0; }, x);
}
constexpr bool all(bool x) { return x; }
constexpr bool any(bool x) { return x; }
template <class T, int N> constexpr bool all(const vec<T, N> &x) {
    bool every = true;
    for (int i = 0; i < N; i++) every = every && invar_at(x, i);
    return every;
}
template <class T, int N> constexpr bool any(const vec<T, N> &x) {
    bool some = false;
    for (int i = 0; i < N; i++) some = some || invar_at(x, i);
    return some;
}
/* b where c, else a. */
template <class A, class B, class C> constexpr auto select(const A &a, const B &b, const C &c) {
    using T = invar_leading<A, B>;
    constexpr int N = invar_width<A, B, C>;
    if constexpr (N == 0) return c ? T(b) : T(a);
    else return invar_build<T, N>([&](int i) { return invar_at(c, i) ? T(invar_at(b, i)) : T(invar_at(a, i)); });
}

/* ---- integer ---- */

template <class T> constexpr int invar_leading_zeros(T x) {
    invar_unsigned<T> bits = (invar_unsigned<T>)x;
    int count = 0;
    if (bits == 0) return 8 * sizeof(T);
#ifdef __CUDACC_RTC__
    if constexpr (sizeof(T) == 8) count = __clzll((long long)bits);
    else count = __clz((int)bits);
#else
    if constexpr (sizeof(T) == 8) count = __builtin_clzll(bits);
    else count = __builtin_clz(bits);
#endif
    return count - (sizeof(T) < 4 ? 32 - 8 * (int)sizeof(T) : 0);
}
template <class T> constexpr int invar_ones(T x) {
    uint64_t bits = (invar_unsigned<T>)x;
#ifdef __CUDACC_RTC__
    return __popcll(bits);
#else
    return __builtin_popcountll(bits);
#endif
}
template <class T> constexpr T invar_reverse(T x) {
    using U = invar_unsigned<T>;
    U bits = (U)x, reversed = 0;
    for (unsigned i = 0; i < 8 * sizeof(T); i++) reversed = (U)((U)(reversed << 1) | (U)(bits >> i & 1));
    return (T)reversed;
}
/* The upper half of a product. */
template <class T> constexpr T invar_high(T a, T b) {
    if constexpr (sizeof(T) < 4) return (T)((int)a * (int)b >> (8 * sizeof(T)));
    else if constexpr (sizeof(T) == 4) {
        using W = invar_choose<invar_is_signed<T>, int64_t, uint64_t>;
        return (T)((W)a * (W)b >> 32);
    } else {
        uint64_t al = (uint32_t)a, ah = (uint64_t)a >> 32, bl = (uint32_t)b, bh = (uint64_t)b >> 32;
        uint64_t middle = ah * bl + (al * bl >> 32), other = al * bh + (uint32_t)middle;
        uint64_t high = ah * bh + (middle >> 32) + (other >> 32);
        if (invar_is_signed<T> && a < 0) high -= (uint64_t)b;
        if (invar_is_signed<T> && b < 0) high -= (uint64_t)a;
        return (T)high;
    }
}
/* A sum or difference that stops at the ends of the type; Down: subtract. */
template <bool Down, class T> constexpr T invar_saturate(T a, T b) {
    using U = invar_unsigned<T>;
    T wrapped = (T)(Down ? (U)a - (U)b : (U)a + (U)b);
    U top = (U)((U)1 << (8 * sizeof(T) - 1));
    if constexpr (invar_is_signed<T>) {
        bool over = Down ? ((a ^ b) & (a ^ wrapped)) < 0 : ((a ^ wrapped) & (b ^ wrapped)) < 0;
        return over ? (T)(a < 0 ? top : top - 1) : wrapped;
    } else return (Down ? b > a : wrapped < a) ? (T)(Down ? 0 : ~(U)0) : wrapped;
}

template <class X> constexpr auto clz(const X &x) {
    return invar_each([](auto e) { return (decltype(e))invar_leading_zeros(e); }, x);
}
template <class X> constexpr auto ctz(const X &x) {
    return invar_each([](auto e) { return (decltype(e))invar_leading_zeros(invar_reverse(e)); }, x);
}
template <class X> constexpr auto popcount(const X &x) {
    return invar_each([](auto e) { return (decltype(e))invar_ones(e); }, x);
}
template <class X> constexpr auto reverse_bits(const X &x) {
    return invar_each([](auto e) { return invar_reverse(e); }, x);
}
template <class X, class Y> constexpr auto mulhi(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return invar_high(a, b); }, x, y);
}
template <class X, class Y, class Z> constexpr auto madhi(const X &x, const Y &y, const Z &z) {
    return invar_each([](auto a, auto b, auto c) { return (decltype(a))(invar_high(a, b) + c); }, x, y, z);
}
/* The low 24 bits of each factor, with their sign. */
template <class T> constexpr T invar_low24(T x) {
    return invar_is_signed<T> ? (T)((int)((unsigned)x << 8) >> 8) : (T)(x & 0xffffff);
}
template <class X, class Y> constexpr auto mul24(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) {
        using T = decltype(a);
        return (T)((unsigned)invar_low24(a) * (unsigned)invar_low24(b));
    }, x, y);
}
template <class X, class Y, class Z> constexpr auto mad24(const X &x, const Y &y, const Z &z) { return mul24(x, y) + z; }
template <class X, class Y> constexpr auto addsat(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return invar_saturate<false>(a, b); }, x, y);
}
template <class X, class Y> constexpr auto subsat(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return invar_saturate<true>(a, b); }, x, y);
}
/* x·y + z, held to the ends of the type. */
template <class T> constexpr T invar_madsat(T a, T b, T c) {
    using U = invar_unsigned<T>;
    T high = invar_high(a, b), low = (T)((U)a * (U)b), sum = (T)((U)low + (U)c);
    U top = (U)((U)1 << (8 * sizeof(T) - 1));
    if constexpr (invar_is_signed<T>) {
        high = (T)(high + (c < 0 ? -1 : 0) + ((U)sum < (U)low ? 1 : 0));
        if (high == (sum < 0 ? -1 : 0)) return sum;
        return (T)(high < 0 ? top : top - 1);
    } else return high != 0 || sum < low ? (T)~(U)0 : sum;
}
template <class X, class Y, class Z> constexpr auto madsat(const X &x, const Y &y, const Z &z) {
    return invar_each([](auto a, auto b, auto c) { return invar_madsat(a, b, c); }, x, y, z);
}
template <class X, class Y> constexpr auto absdiff(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) {
        using U = invar_unsigned<decltype(a)>;
        return (U)(a > b ? (U)a - (U)b : (U)b - (U)a);
    }, x, y);
}
template <class X, class Y> constexpr auto hadd(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return (decltype(a))((a & b) + ((a ^ b) >> 1)); }, x, y);
}
template <class X, class Y> constexpr auto rhadd(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return (decltype(a))((a | b) - ((a ^ b) >> 1)); }, x, y);
}
template <class X, class Y> constexpr auto rotate(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) {
        using U = invar_unsigned<decltype(a)>;
        constexpr unsigned mask = 8 * sizeof(U) - 1;
        unsigned by = (unsigned)b & mask;
        return (decltype(a))(U)((U)a << by | (U)a >> (-by & mask));
    }, x, y);
}
/* bits bits from offset on; of a signed type the highest of them is the sign. */
template <class X> constexpr auto extract_bits(const X &x, unsigned offset, unsigned bits) {
    return invar_each([=](auto e) {
        using T = decltype(e);
        using U = invar_unsigned<T>;
        unsigned width = 8 * sizeof(T);
        if (bits == 0) return T(0);
        return (T)((T)(U)((U)e << (width - bits - offset)) >> (width - bits));
    }, x);
}
template <class X, class Y> constexpr auto insert_bits(const X &base, const Y &insert, unsigned offset, unsigned bits) {
    return invar_each([=](auto a, auto b) {
        using U = invar_unsigned<decltype(a)>;
        U mask = bits == 0 ? 0 : (U)((U)((U)~(U)0 >> (8 * sizeof(U) - bits)) << offset);
        return (decltype(a))(U)(((U)a & ~mask) | ((U)((U)b << offset) & mask));
    }, base, insert);
}

} // namespace metal
} // namespace invar_shim
