/* The 16-bit floating-point types: half and bfloat, which CUDA calls __half and __nv_bfloat16. A value is widened exactly
 * to float, and every operation rounds once, to nearest even, from what float gives. For + - * / and sqrt that is the
 * correctly rounded 16-bit result, since float has more than twice the bits (Figueroa, "When is double rounding
 * innocuous?", 1995). The conversions have no branch, so that a compiler can turn loops over them into vector code. */
namespace invar_shim {

/* A float is taken to float's neighbour towards zero, or kept where it is exact, and its last bit set where it was not:
 * rounded to odd, it may be rounded once more without harm. */
constexpr float invar_round_to_odd(double x) {
    float near = (float)x;
    uint32_t bits = invar_bits<uint32_t>(near);
    if ((double)near == x || x != x) return near;
    if ((double)(near < 0 ? -near : near) > (x < 0 ? -x : x)) bits--;
    return invar_bits<float>(bits | 1);
}
/* a·b + c in double, rounded to odd: a·b of two 16-bit floats is exact, and Knuth's two-sum gives the addition's error. */
inline float invar_narrow_fma(float a, float b, float c) {
    double product = (double)a * b, sum = product + c, part = sum - product;
    double error = (product - (sum - part)) + (c - part);
    int64_t bits = invar_bits<int64_t>(sum);
    if (error != 0 && error == error && !(bits & 1)) bits += (error > 0) == (sum > 0) ? 1 : -1;
    return invar_round_to_odd(invar_bits<double>(bits));
}

/* Where the machine has instructions for it. */
#if defined(__CUDACC_RTC__)
inline float invar_half_widen(uint16_t bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
inline uint16_t invar_half_round(float x) {
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#elif defined(__aarch64__)
inline float invar_half_widen(uint16_t bits) { return (float)invar_bits<__fp16>(bits); }
inline uint16_t invar_half_round(float x) { return invar_bits<uint16_t>((__fp16)x); }
#endif

/* IEEE binary16. least and greatest as in numeric_limits; the constants are bit patterns. */
struct invar_binary16 {
    static constexpr int digits = 11, least = -13, greatest = 16;
    static constexpr uint16_t infinity = 0x7c00, nan = 0x7e00, largest = 0x7bff, smallest = 0x0400, epsilon = 0x1400;

    static constexpr float widen(uint16_t bits) {
#if defined(__CUDACC_RTC__) || defined(__aarch64__)
        if (!__builtin_is_constant_evaluated()) return invar_half_widen(bits);
#endif
        uint32_t sign = (uint32_t)(bits & 0x8000) << 16, magnitude = (uint32_t)(bits & 0x7fff) << 13;
        uint32_t finite = invar_bits<uint32_t>(invar_bits<float>(magnitude) * 0x1p112f);
        return invar_bits<float>(sign | (magnitude < 31u << 23 ? finite : magnitude | 0x7f800000));
    }
    static constexpr uint16_t round(float x) {
#if defined(__CUDACC_RTC__) || defined(__aarch64__)
        if (!__builtin_is_constant_evaluated()) return invar_half_round(x);
#endif
        uint32_t bits = invar_bits<uint32_t>(x), magnitude = bits & 0x7fffffff, sign = (bits ^ magnitude) >> 16;
        uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
        uint32_t subnormal = invar_bits<uint32_t>(invar_bits<float>(magnitude) + 0.5f) - (126u << 23);
        uint32_t special = magnitude > 255u << 23 ? 0x7e00 : 0x7c00;
        uint32_t finite = magnitude < 113u << 23 ? subnormal : normal;
        return (uint16_t)(sign | (magnitude >= 143u << 23 ? special : finite));
    }
};

/* The upper half of IEEE binary32. */
struct invar_brain16 {
    static constexpr int digits = 8, least = -125, greatest = 128;
    static constexpr uint16_t infinity = 0x7f80, nan = 0x7fc0, largest = 0x7f7f, smallest = 0x0080, epsilon = 0x3c00;

    static constexpr float widen(uint16_t bits) { return invar_bits<float>((uint32_t)bits << 16); }
    static constexpr uint16_t round(float x) {
        uint32_t bits = invar_bits<uint32_t>(x);
        uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
        return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
    }
};

/* Converts like a number: from every scalar with rounding, to float and from there on without a word. */
template <class Format> struct invar_narrow {
    uint16_t invar_pattern;

    invar_narrow() = default;
    constexpr invar_narrow(float x) : invar_pattern(Format::round(x)) {}
    constexpr invar_narrow(double x) : invar_pattern(Format::round(invar_round_to_odd(x))) {}
    template <class Other> explicit constexpr invar_narrow(invar_narrow<Other> x) : invar_narrow((float)x) {}
    template <class I, class = invar_if<invar_is_integer<I> || invar_same<I, bool>>>
    constexpr invar_narrow(I x) : invar_pattern(from_integer(x)) {}
    struct invar_exactly {
        uint16_t pattern;
    };
    constexpr invar_narrow(invar_exactly bits) : invar_pattern(bits.pattern) {}

    constexpr operator float() const { return Format::widen(invar_pattern); }

    template <class S> invar_narrow &operator+=(const S &x) { return *this = *this + x; }
    template <class S> invar_narrow &operator-=(const S &x) { return *this = *this - x; }
    template <class S> invar_narrow &operator*=(const S &x) { return *this = *this * x; }
    template <class S> invar_narrow &operator/=(const S &x) { return *this = *this / x; }
    invar_narrow &operator++() { return *this += 1; }
    invar_narrow &operator--() { return *this -= 1; }
    invar_narrow operator++(int) { invar_narrow old = *this; ++*this; return old; }
    invar_narrow operator--(int) { invar_narrow old = *this; --*this; return old; }

private:
    /* An integer that float cannot hold is beyond the largest half, but not beyond the largest bfloat: rounded once. */
    template <class I> static constexpr uint16_t from_integer(I x) {
        if (sizeof(I) <= 2 || Format::digits > 8) return Format::round((float)x);
        if (sizeof(I) == 4) return Format::round(invar_round_to_odd((double)x));
        uint64_t sign = invar_is_signed<I> && x < I(0), magnitude = sign ? 0 - (uint64_t)x : (uint64_t)x;
        if (magnitude >> 53) magnitude = (magnitude & ~(uint64_t)0xfff) | (magnitude & 0xfff ? 0x800 : 0);
        double wide = (double)magnitude;
        return Format::round(invar_round_to_odd(sign ? -wide : wide));
    }
};

template <class Format> constexpr bool invar_is_narrow<invar_narrow<Format>> = true;

/* Two of a kind, or one and an integer, give the kind; one and a float give float, as C++ does it anyway. */
template <class F> constexpr invar_narrow<F> operator+(invar_narrow<F> a, invar_narrow<F> b) { return (float)a + (float)b; }
template <class F> constexpr invar_narrow<F> operator-(invar_narrow<F> a, invar_narrow<F> b) { return (float)a - (float)b; }
template <class F> constexpr invar_narrow<F> operator*(invar_narrow<F> a, invar_narrow<F> b) { return (float)a * (float)b; }
template <class F> constexpr invar_narrow<F> operator/(invar_narrow<F> a, invar_narrow<F> b) { return (float)a / (float)b; }
template <class F, class I> using invar_kind = invar_if<invar_is_integer<I> || invar_same<I, bool>, invar_narrow<F>>;
template <class F, class I> constexpr invar_kind<F, I> operator+(invar_narrow<F> a, I b) { return a + invar_narrow<F>(b); }
template <class F, class I> constexpr invar_kind<F, I> operator-(invar_narrow<F> a, I b) { return a - invar_narrow<F>(b); }
template <class F, class I> constexpr invar_kind<F, I> operator*(invar_narrow<F> a, I b) { return a * invar_narrow<F>(b); }
template <class F, class I> constexpr invar_kind<F, I> operator/(invar_narrow<F> a, I b) { return a / invar_narrow<F>(b); }
template <class F, class I> constexpr invar_kind<F, I> operator+(I a, invar_narrow<F> b) { return invar_narrow<F>(a) + b; }
template <class F, class I> constexpr invar_kind<F, I> operator-(I a, invar_narrow<F> b) { return invar_narrow<F>(a) - b; }
template <class F, class I> constexpr invar_kind<F, I> operator*(I a, invar_narrow<F> b) { return invar_narrow<F>(a) * b; }
template <class F, class I> constexpr invar_kind<F, I> operator/(I a, invar_narrow<F> b) { return invar_narrow<F>(a) / b; }
template <class F> constexpr invar_narrow<F> operator+(invar_narrow<F> a) { return a; }
template <class F> constexpr invar_narrow<F> operator-(invar_narrow<F> a) {
    return typename invar_narrow<F>::invar_exactly{ (uint16_t)(a.invar_pattern ^ 0x8000) };
}

constexpr invar_narrow<invar_binary16> invar_half_literal(double x) { return x; }
constexpr invar_narrow<invar_brain16> invar_bfloat_literal(double x) { return x; }

} // namespace invar_shim
