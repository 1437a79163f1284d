/* half and bfloat: conversions for every pattern, rounding at and around every tie, and arithmetic against float64. */
#include "shim.h"

using namespace invar_shim;
using F16 = invar_binary16;
using B16 = invar_brain16;
template <class F> using narrow = invar_narrow<F>;

template <class F> static narrow<F> pattern(uint32_t bits) { return invar_bits<narrow<F>>((uint16_t)bits); }
static bool same(double a, double b) { return (a != a && b != b) || (a == b && std::signbit(a) == std::signbit(b)); }

/* The value of a pattern, from its fields. */
template <class F> static double value(uint32_t bits) {
    int field = (int)(bits & 0x7fff) >> (F::digits - 1), top = 2 * F::greatest - 1;
    double fraction = bits & ((1u << (F::digits - 1)) - 1), sign = bits >> 15 ? -1 : 1;
    if (field == top) return fraction != 0 ? NAN : sign * INFINITY;
    if (field == 0) return sign * std::ldexp(fraction, F::least - F::digits);
    return sign * std::ldexp(fraction + (1 << (F::digits - 1)), field - 1 + F::least - F::digits);
}

template <class F> static void conversions() {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        double x = value<F>(bits);
        CHECK(same((float)pattern<F>(bits), x), "pattern %04x is %g, not %g", bits, (float)pattern<F>(bits), x);
        if (x != x) {
            CHECK((float)narrow<F>((float)x) != (float)narrow<F>((float)x), "NaN is lost");
            continue;
        }
        CHECK(narrow<F>((float)x).invar_pattern == bits, "%g does not come back", x);
        if (bits % 0x8000 >= F::largest) continue;
        /* The tie above x, and the floats and doubles next to it. */
        double tie = (x + value<F>(bits + 1)) / 2;
        for (double y : { tie, (double)std::nextafterf((float)tie, INFINITY), (double)std::nextafterf((float)tie, -INFINITY) })
            CHECK(same((float)narrow<F>((float)y), nearest<F>(y)), "%.9g", y);
        for (double y : { std::nextafter(tie, INFINITY), std::nextafter(tie, -INFINITY) })
            CHECK(same((float)narrow<F>(y), nearest<F>(y)), "%.17g as double", y);
    }
    CHECK((float)narrow<F>(3.4e38f) == (F::digits == 11 ? INFINITY : (float)nearest<F>(3.4e38f)), "large");
    CHECK((float)narrow<F>(-INFINITY) == -INFINITY, "-infinity");
    for (int i = 0; i < 200000; i++) {
        float x = invar_bits<float>((uint32_t)random_bits());
        if (x == x) CHECK(same((float)narrow<F>(x), nearest<F>(x)), "%.9g", x);
    }
}

/* long double holds every 64-bit integer on x86; elsewhere it holds more. */
template <class F> static void integers() {
    for (int i = 0; i < 200000; i++) {
        int64_t x = (int64_t)random_bits() >> random_bits() % 60;
        if (random_bits() & 1) x = (x | 0xff) & ~(int64_t)0x7f; /* near a tie of 8 digits, when x is small */
        if (random_bits() & 1) { /* a tie of 8 digits with one bit far below it */
            int shift = (int)(random_bits() % 54) + 1;
            x = ((int64_t)((random_bits() & 0x7f) | 0x80) << 1 | 1) << shift | (int64_t)(random_bits() & 1);
        }
        double high = (double)x, low = (double)(x - (int64_t)high); /* a two-term sum of x */
        double expected = nearest<F>(high);
        if (low != 0 && nearest<F>(std::nextafter(high, low > 0 ? INFINITY : -INFINITY)) != expected)
            expected = nearest<F>(std::nextafter(high, low > 0 ? INFINITY : -INFINITY));
        if (x < INT64_MAX / 2) CHECK((float)narrow<F>(x) == expected, "%lld gives %g", (long long)x, (float)narrow<F>(x));
        int32_t y = (int32_t)x;
        CHECK((float)narrow<F>(y) == nearest<F>(y), "int %d", y);
        CHECK((float)narrow<F>((uint32_t)y) == nearest<F>((uint32_t)y), "unsigned %u", (uint32_t)y);
    }
}

/* float64 has more than twice the digits, so rounding its result once more is the correctly rounded one. */
template <class F> static void arithmetic() {
    for (int i = 0; i < 600000; i++) {
        uint32_t p = (uint32_t)random_bits() & 0xffff, q = (uint32_t)random_bits() & 0xffff;
        if (i & 1) q = (p ^ (uint32_t)(random_bits() & 0x83ff)) & 0xffff; /* of a similar size */
        narrow<F> a = pattern<F>(p), b = pattern<F>(q);
        double x = value<F>(p), y = value<F>(q);
        CHECK(same(a + b, nearest<F>(x + y)), "%g + %g", x, y);
        CHECK(same(a - b, nearest<F>(x - y)), "%g - %g", x, y);
        CHECK(same(a * b, nearest<F>(x * y)), "%g * %g", x, y);
        CHECK(same(a / b, nearest<F>(x / y)), "%g / %g", x, y);
        CHECK((a < b) == (x < y) && (a == b) == (x == y) && (a >= b) == (x >= y) && (a != b) == (x != y), "%g ? %g", x, y);
        CHECK(same(-a, -x), "-%g", x);
    }
    narrow<F> a = 1.5f;
    a += 2;
    CHECK((float)a == 3.5f, "+= int");
    a *= 2.0f;
    CHECK((float)a == 7, "*= float");
    CHECK((float)a++ == 7 && (float)a == 8 && (float)--a == 7, "++ and --");
    static_assert(invar_same<decltype(a * 2), narrow<F>> && invar_same<decltype(a * 2.0f), float>, "types");
}

/* a·b + c as a multiple of 2^-unit in 128 bits, rounded from there. */
template <class F> static double exact_fma(double a, double b, double c, int unit) {
    __int128 sum = (__int128)std::ldexp(a, unit / 2) * (__int128)std::ldexp(b, unit / 2);
    sum += (__int128)std::ldexp(c, unit / 2) << unit / 2;
    bool negative = sum < 0;
    unsigned __int128 size = negative ? -(unsigned __int128)sum : (unsigned __int128)sum;
    int shift = 0;
    uint64_t lost = 0;
    for (; size >> 50; size >>= 1, shift++) lost |= (uint64_t)size & 1;
    double result = std::ldexp((double)(uint64_t)(size << 1 | lost), shift - 1 - unit);
    return nearest<F>(negative ? -result : result);
}
template <class F> static void fused(int low, int high, int unit) {
    for (int i = 0; i < 200000; i++) {
        double x[3];
        for (double &v : x) v = nearest<F>(std::ldexp(uniform(-2, 2), low + (int)(random_bits() % (uint64_t)(high - low))));
        if (i & 1) x[2] = nearest<F>(-x[0] * x[1] * (1 + (double)(random_bits() % 3) / 512)); /* cancels */
        bool fits = std::fabs(x[2]) <= std::ldexp(1.0, high);
        for (double v : x) fits = fits && std::fmod(std::ldexp(v, unit / 2), 1) == 0;
        if (!fits) continue;
        narrow<F> got = metal::fma(narrow<F>((float)x[0]), narrow<F>((float)x[1]), narrow<F>((float)x[2]));
        double expected = exact_fma<F>(x[0], x[1], x[2], unit);
        CHECK((float)got == expected, "fma(%a, %a, %a) is %a, not %a", x[0], x[1], x[2], (float)got, expected);
    }
    /* A product on a tie and a sum far below it: rounding in float first would end on the wrong side. */
    double tie = 1 + 1.5 * std::ldexp(1.0, 1 - F::digits), tiny = std::ldexp(1.0, F::digits == 11 ? -24 : -60);
    for (double c : { tiny, -tiny }) {
        double a = std::ldexp(3.0, -1), b = nearest<F>(tie / a);
        narrow<F> got = metal::fma(narrow<F>((float)a), narrow<F>((float)b), narrow<F>((float)c));
        CHECK((float)got == nearest<F>(std::nextafter(a * b, c > 0 ? INFINITY : -INFINITY)), "fma beside a tie");
    }
}

static void literals() {
    constexpr narrow<F16> table[] = { 0.1f, 1, 65504.0f, invar_half_literal(5.9604644775390625e-8) };
    constexpr narrow<B16> wide = 3.0e38f;
    static_assert((float)table[0] == 0.0999755859375f && (float)table[3] == 0x1p-24f, "half literals");
    static_assert((float)wide == 0x1.c4p+127f, "bfloat literal");
    CHECK((float)table[2] == 65504, "%g", (float)table[2]);
    CHECK(sizeof(narrow<F16>) == 2 && alignof(narrow<F16>) == 2, "layout");
}

/* What the translator makes of `c ? x : y`: for half, bfloat and other numbers C++'s rules for numbers, and references,
 * pointers, vectors and constants as they are. */
#define CHOOSE(c, x, y) (invar_choice = (c) ? invar_arm = x : invar_arm = y)
#define BESIDE(c, x, literal) (invar_choice = (c) ? invar_arm = x : literal)
static void arms() {
    using namespace metal;
    bool yes = true, no = false;
    half h = 2.5f, other = 0.5f;
    bfloat b = 1.5f;
    float f = 0.1f, *p = &f;
    uint u = 7;
    CHECK(CHOOSE(yes, h, other) == h && CHOOSE(no, h, other) == other && CHOOSE(yes, b, b) == b, "16 bits");
    CHECK(CHOOSE(yes, h, f) == 2.5f && CHOOSE(no, b, f) == 0.1f && CHOOSE(yes, f, h) == 0.1f, "beside float");
    CHECK(CHOOSE(no, h, u) == half(7) && CHOOSE(yes, b, u) == b && CHOOSE(no, h, yes) == half(1), "beside integers");
    CHECK(BESIDE(no, h, -1e30f) == -1e30f && BESIDE(no, h, 3) == half(3) && BESIDE(yes, b, 0) == b, "beside literals");
    CHECK(BESIDE(no, float4(2), 1.0f).w == 1 && CHOOSE(yes, float4(2), float4(3)).w == 2, "vectors");
    CHECK(*BESIDE(yes, p, 0) == f && BESIDE(no, p, nullptr) == nullptr, "pointers");
    float4 v = 1.0f, w = 2.0f;
    CHOOSE(yes, v, w) = float4(5);
    CHECK(v.x == 5 && w.x == 2, "a choice of vectors can be assigned to");
    static_assert(invar_same<decltype(CHOOSE(yes, h, other)), half>, "half");
    static_assert(invar_same<decltype(CHOOSE(yes, h, u)), half>, "half beside uint");
    static_assert(invar_same<decltype(CHOOSE(yes, h, f)), float>, "half beside float");
    static_assert(invar_same<decltype(BESIDE(yes, b, 1)), bfloat>, "bfloat beside int");
    static_assert(invar_same<decltype(BESIDE(yes, u, 1)), uint>, "uint beside int");
    constexpr int largest = CHOOSE(3 > 2, 1, sizeof(int));
    static_assert(largest == 1, "constant expressions");
}

int main() {
    arms();
    conversions<F16>();
    conversions<B16>();
    integers<F16>();
    integers<B16>();
    arithmetic<F16>();
    arithmetic<B16>();
    fused<F16>(-12, 8, 48);
    fused<B16>(-18, 18, 60);
    literals();
    return finish();
}
