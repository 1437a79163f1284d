/* Metal's integer and common functions against their definitions in 128-bit integers: every pair of 8-bit values, random
 * ones of the larger types. */
#include "shim.h"

using namespace invar_shim;
using wide = __int128;

template <class T> static wide low_end() { return T(-1) < T(0) ? -((wide)1 << (8 * sizeof(T) - 1)) : 0; }
template <class T> static wide high_end() { return low_end<T>() + (((wide)1 << 8 * sizeof(T)) - 1); }
template <class T> static wide hold(wide x) {
    return x < low_end<T>() ? low_end<T>() : x > high_end<T>() ? high_end<T>() : x;
}
template <class T> static unsigned bit(T x, unsigned i) { return (unsigned)((uint64_t)x >> i & 1); }
/* The greatest integer not above x / 2^n. */
static wide floor_shift(wide x, unsigned n) { return x >= 0 ? x >> n : -((-x + ((wide)1 << n) - 1) >> n); }

template <class T> static void ends() {
    using limits = metal::numeric_limits<T>;
    CHECK(limits::max() == high_end<T>() && limits::min() == low_end<T>() && limits::lowest() == low_end<T>(), "limits");
    CHECK(limits::digits == 8 * (int)sizeof(T) - (T(-1) < T(0)) && metal::Limits<T>::min == low_end<T>(), "digits");
}

template <class T> static void of_one(T x) {
    constexpr unsigned width = 8 * sizeof(T);
    unsigned ones = 0, leading = 0, trailing = 0;
    for (unsigned i = 0; i < width; i++) ones += bit(x, i);
    while (leading < width && !bit(x, width - 1 - leading)) leading++;
    while (trailing < width && !bit(x, trailing)) trailing++;
    CHECK(metal::popcount(x) == (T)ones, "popcount");
    CHECK(metal::clz(x) == (T)leading, "clz of %lld is %lld", (long long)x, (long long)metal::clz(x));
    CHECK(metal::ctz(x) == (T)trailing, "ctz");
    T reversed = metal::reverse_bits(x);
    for (unsigned i = 0; i < width; i++) CHECK(bit(reversed, i) == bit(x, width - 1 - i), "reverse_bits");
    CHECK((wide)metal::abs(x) == (x < 0 ? (wide)(T)(uint64_t)(-(wide)x) : (wide)x), "abs of %lld", (long long)x);
    for (unsigned offset = 0; offset < width; offset++) {
        for (unsigned bits = 0; bits + offset <= width; bits += bits < 3 ? 1 : 5) {
            wide field = 0;
            for (unsigned i = 0; i < bits; i++) field |= (wide)bit(x, offset + i) << i;
            if (bits && T(-1) < T(0) && bit(x, offset + bits - 1)) field -= (wide)1 << bits;
            CHECK((wide)metal::extract_bits(x, offset, bits) == field,
                  "extract_bits(%lld, %u, %u)", (long long)x, offset, bits);
        }
    }
}

template <class T> static void of_two(T x, T y) {
    constexpr unsigned width = 8 * sizeof(T);
    using U = invar_unsigned<T>;
    wide a = x, b = y;
    CHECK((wide)metal::max(x, y) == (a > b ? a : b) && (wide)metal::min(x, y) == (a < b ? a : b), "max, min");
    wide product = T(-1) < T(0) ? floor_shift(a * b, width) : (wide)((unsigned __int128)a * (unsigned __int128)b >> width);
    CHECK((wide)metal::mulhi(x, y) == product, "mulhi(%lld, %lld)", (long long)x, (long long)y);
    CHECK((wide)metal::addsat(x, y) == hold<T>(a + b), "addsat(%lld, %lld)", (long long)x, (long long)y);
    CHECK((wide)metal::subsat(x, y) == hold<T>(a - b), "subsat(%lld, %lld)", (long long)x, (long long)y);
    CHECK((wide)metal::absdiff(x, y) == (a > b ? a - b : b - a), "absdiff");
    CHECK((wide)metal::hadd(x, y) == floor_shift(a + b, 1), "hadd(%lld, %lld)", (long long)x, (long long)y);
    CHECK((wide)metal::rhadd(x, y) == floor_shift(a + b + 1, 1), "rhadd(%lld, %lld)", (long long)x, (long long)y);
    U turned = (U)metal::rotate(x, y);
    for (unsigned i = 0; i < width; i += 3) CHECK(bit(turned, (unsigned)(i + (U)y) % width) == bit(x, i), "rotate");
    unsigned offset = (unsigned)(U)y % width, bits = (unsigned)(U)x % (width - offset + 1);
    T inserted = metal::insert_bits(x, y, offset, bits);
    for (unsigned i = 0; i < width; i++) {
        bool inside = i >= offset && i < offset + bits;
        CHECK(bit(inserted, i) == (inside ? bit(y, i - offset) : bit(x, i)), "insert_bits");
    }
}

template <class T> static void of_three(T x, T y, T z) {
    constexpr unsigned width = 8 * sizeof(T);
    wide a = x, b = y, c = z;
    CHECK((wide)metal::madsat(x, y, z) == hold<T>(a * b + c),
          "madsat(%lld, %lld, %lld)", (long long)x, (long long)y, (long long)z);
    CHECK(metal::madhi(x, y, z) == (T)(floor_shift(a * b, width) + c), "madhi");
    T sorted = a > b ? (c > a ? x : c < b ? y : z) : (c > b ? y : c < a ? x : z);
    CHECK(metal::median3(x, y, z) == sorted, "median3");
    CHECK(metal::max3(x, y, z) == metal::max(metal::max(x, y), z) && metal::min3(x, y, z) <= sorted, "max3, min3");
    if (y <= z) CHECK((wide)metal::clamp(x, y, z) == (a < b ? b : a > c ? c : a), "clamp");
}

template <class T> static void eight_bits() {
    ends<T>();
    for (int x = 0; x < 256; x++) {
        of_one((T)x);
        for (int y = 0; y < 256; y++) {
            of_two((T)x, (T)y);
            of_three((T)x, (T)y, (T)random_bits());
        }
    }
}
/* Random in size as well as in value, and the ends. */
template <class T> static T draw() {
    switch (random_bits() % 8) {
    case 0: return (T)low_end<T>();
    case 1: return (T)high_end<T>();
    default: return (T)((T)random_bits() >> random_bits() % (8 * sizeof(T)));
    }
}
template <class T> static void larger() {
    ends<T>();
    for (int i = 0; i < 20000; i++) {
        T x = draw<T>(), y = draw<T>(), z = draw<T>();
        if (i % 16 == 0) of_one(x);
        of_two(x, y);
        if (sizeof(T) < 8) of_three(x, y, z);
    }
}

static void others() {
    using namespace metal;
    CHECK(mad24(0x7fffffu, 3u, 5u) == 0x7fffffu * 3 + 5 && mul24(-5, 7) == -35, "mad24, mul24");
    CHECK(madsat(INT_MAX, 2, 0) == INT_MAX && madsat(INT_MIN, 2, 0) == INT_MIN, "madsat of int");
    CHECK(madsat(~0ul, ~0ul, 1ul) == ~0ul && madsat(3l, -4l, 5l) == -7 && madsat(LONG_MAX, -3l, 0l) == LONG_MIN, "64 bits");
    CHECK(sign(-2.5f) == -1 && std::signbit(sign(-0.0f)) && sign(NAN) == 0 && sign(half(3)) == half(1) &&
          sign(-7) == -1, "sign");
    CHECK(max(uint2(1, 5), 2).x == 2 && clamp(uint2(1, 9), 2, 4).y == 4, "a scalar beside a vector of the other sign");
    CHECK(max(1.0f, NAN) == 1 && max(NAN, 1.0f) == 1 && min(NAN, -2.0f) == -2 && max(2, 3.5f) == 3.5f, "max of a NaN");
    CHECK(clamp(NAN, 0.0f, 1.0f) == 0 && saturate(NAN) == 0 && clamp(half(3), half(0), half(1)) == half(1), "clamp");
    CHECK(isnan(NAN) && !isnan(1.0f) && isinf(-INFINITY) && !isfinite(INFINITY) && isfinite(3.0f), "classes");
    CHECK(isnan(half(NAN)) && isinf(bfloat(INFINITY)) && isnormal(half(0x1p-14f)) && !isnormal(half(0x1p-15f)), "16-bit");
    CHECK(!isnormal(0x1p-127f) && isnormal(0x1p-126f) && signbit(-0.0f) && signbit(half(-1)) && !signbit(1.0f), "isnormal");
    CHECK(isunordered(1.0f, NAN) && isordered(1.0f, 2.0f), "ordered");
    CHECK(select(1, 2, true) == 2 && select(1, 2, false) == 1, "select");
    int3 v = select(int3(1, 2, 3), int3(4, 5, 6), bool3(true, false, true));
    CHECK(v.x == 4 && v.y == 2 && v.z == 6, "select of vectors");
    CHECK(all(bool2(true, true)) && !all(bool2(true, false)) && any(bool2(true, false)) && !any(bool2(false)), "all, any");
    CHECK(all(popcount(uint4(0, 1, 3, 7)) == uint4(0, 1, 2, 3)), "popcount of a vector");
    CHECK(as_type<uint>(1.0f) == 0x3f800000 && as_type<ushort>(half(1)) == 0x3c00, "as_type");
    CHECK(as_type<float2>(uint2(0x3f800000, 0)).x == 1 && all(as_type<uchar4>(0x04030201) == uchar4(1, 2, 3, 4)), "as_type");
    static_assert(invar_same<decltype(abs(char(1))), char> && invar_same<decltype(max(ushort(1), 2)), int>, "types");
    static_assert(numeric_limits<half>::max() == half(65504.0f) && numeric_limits<uchar>::max() == 255, "limits");
    static_assert(numeric_limits<int>::lowest() == INT_MIN && numeric_limits<float>::denorm_min() == 0x1p-149f, "limits");
    static_assert(Limits<float>::min == -INFINITY && Limits<float>::finite_max == FLT_MAX && Limits<int>::max == INT_MAX, "");
    CHECK(ceildiv(7, 4) == 2 && cast_to<bool>(-0.0f) == false && cast_to<bool>(NAN) && cast_to<int>(2.5f) == 2, "utilities");
}

int main() {
    eight_bits<char>();
    eight_bits<unsigned char>();
    larger<short>();
    larger<unsigned short>();
    larger<int>();
    larger<unsigned>();
    larger<long>();
    larger<unsigned long>();
    others();
    return finish();
}
