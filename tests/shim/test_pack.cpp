/* Metal's packed numbers: every pattern of each field against the definition in float64, and back. */
#include "shim.h"

using namespace invar_shim;
using namespace invar_shim::metal;

/* x of a field's `bits` bits, as its definition reads it. */
static double unorm(uint32_t x, int bits) { return x / (double)((1u << bits) - 1); }
static double snorm(uint32_t x, int bits) {
    int64_t value = x >= 1u << (bits - 1) ? (int64_t)x - (1 << bits) : x;
    return ::std::fmax(value / (double)((1 << (bits - 1)) - 1), -1.0);
}
static double single(double x) { return nearest(x, 24, -125, 128); }

static void bytes() {
    for (uint32_t x = 0; x < 256; x++) {
        uint32_t word = x | (255 - x) << 8 | (x ^ 0x5a) << 16 | (x ^ 0x81) << 24;
        float4 u = unpack_unorm4x8_to_float(word), s = unpack_snorm4x8_to_float(word);
        half4 h = unpack_unorm4x8_to_half(word), g = unpack_snorm4x8_to_half(word);
        for (int i = 0; i < 4; i++) {
            uint32_t byte = word >> 8 * i & 255;
            CHECK(u[i] == single(unorm(byte, 8)) && s[i] == single(snorm(byte, 8)), "byte %u gives %g, %g", byte, u[i], s[i]);
            CHECK((float)h[i] == (float)half(u[i]) && (float)g[i] == (float)half(s[i]), "byte %u in half", byte);
        }
        CHECK(pack_float_to_unorm4x8(u) == word && pack_half_to_unorm4x8(h) == word, "%08x back", word);
        uint32_t lowest = 0; /* -128 reads as -127 does */
        for (int i = 0; i < 4; i++) lowest |= (word >> 8 * i & 255) == 128 ? 1u << 8 * i : 0;
        CHECK(pack_float_to_snorm4x8(s) == word + lowest && pack_half_to_snorm4x8(g) == word + lowest, "%08x back", word);
    }
}

static void srgb() {
    for (uint32_t x = 0; x < 256; x++) {
        double c = x / 255.0, linear = c <= 0.04045 ? c / 12.92 : ::std::pow((c + 0.055) / 1.055, 2.4);
        float4 v = unpack_unorm4x8_srgb_to_float(x * 0x01010101u);
        /* The power makes 2.4 of each of the three roundings below it, which near a power of two are two units. */
        CHECK(::std::fabs(v.x - linear) <= 8 * unit_of(linear, 24, -125) && v.x == v.y && v.y == v.z, "%u gives %g", x, v.x);
        CHECK(v.w == single(unorm(x, 8)), "alpha is linear");
        CHECK(pack_float_to_srgb_unorm4x8(v) == x * 0x01010101u, "%u back", x);
        CHECK((float)unpack_unorm4x8_srgb_to_half(x).x == (float)half(v.x), "%u in half", x);
    }
}

static void words() {
    for (uint32_t x = 0; x < 65536; x++) {
        uint32_t word = x | (x ^ 0x8001) << 16;
        float2 u = unpack_unorm2x16_to_float(word), s = unpack_snorm2x16_to_float(word);
        CHECK(u.x == single(unorm(x, 16)) && u.y == single(unorm(x ^ 0x8001, 16)), "%u gives %g", x, u.x);
        CHECK(s.x == single(snorm(x, 16)) && s.y == single(snorm(x ^ 0x8001, 16)), "%u gives %g", x, s.x);
        uint32_t lowest = (x == 0x8000) + ((x ^ 0x8001) == 0x8000 ? 1u << 16 : 0);
        CHECK(pack_float_to_unorm2x16(u) == word && pack_float_to_snorm2x16(s) == word + lowest, "%08x back", word);
    }
    for (uint32_t x = 0; x < 1024; x++) {
        uint32_t word = x | (1023 - x) << 10 | (x ^ 0x155) << 20 | (x & 3) << 30;
        float4 u = unpack_unorm10a2_to_float(word);
        CHECK(u.x == single(unorm(x, 10)) && u.y == single(unorm(1023 - x, 10)) && u.z == single(unorm(x ^ 0x155, 10)) &&
                  u.w == single(unorm(x & 3, 2)), "%08x", word);
        CHECK(pack_float_to_unorm10a2(u) == word && pack_half_to_unorm2x16(half2(0.0f, 1.0f)) == 0xffff0000, "%08x back", word);
    }
}

static void edges() {
    CHECK(pack_float_to_unorm4x8(float4(-1.0f, 2.0f, NAN, 0.5f)) == 0x8000ff00, "clamped, NaN 0, a tie to even");
    CHECK(pack_float_to_snorm4x8(float4(-2.0f, 2.0f, NAN, -INFINITY)) == 0x81007f81, "clamped, NaN 0");
    CHECK(pack_float_to_srgb_unorm4x8(float4(-1.0f, 2.0f, NAN, 9.0f)) == 0xff00ff00, "clamped, NaN 0");
}

int main() {
    bytes();
    srgb();
    words();
    edges();
    return finish();
}
