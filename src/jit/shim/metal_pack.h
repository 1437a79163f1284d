/* Metal's packed numbers (Metal Shading Language Specification, "Pack and Unpack Functions"): several fractions in one word,
 * the first in the lowest bits. Packing rounds to nearest and clamps; NaN packs as 0. The 565 forms are not there. */
namespace invar_shim {
namespace metal {

constexpr float invar_unorm(uint x, int at, int bits) {
    uint most = (1u << bits) - 1;
    return (float)(x >> at & most) / (float)most;
}
/* Both of the two lowest numbers are -1. */
constexpr float invar_snorm(uint x, int at, int bits) {
    float f = (float)((int)(x << (32 - at - bits)) >> (32 - bits)) / (float)((1 << (bits - 1)) - 1);
    return f < -1.0f ? -1.0f : f;
}
inline float invar_from_srgb(float f) { return f <= 0.04045f ? f / 12.92f : ::powf((f + 0.055f) / 1.055f, 2.4f); }
inline float invar_to_srgb(float f) {
    return f >= 0.0031308f ? 1.055f * ::powf(f < 1.0f ? f : 1.0f, 1.0f / 2.4f) - 0.055f : 12.92f * f;
}
inline uint invar_put_unorm(float f, int at, int bits) {
    float most = (float)((1u << bits) - 1);
    return (uint)::rintf(f > 0.0f ? (f < 1.0f ? f * most : most) : 0.0f) << at;
}
inline uint invar_put_snorm(float f, int at, int bits) {
    float most = (float)((1 << (bits - 1)) - 1), scaled = f > -1.0f ? (f < 1.0f ? f * most : most) : f == f ? -most : 0.0f;
    return ((uint)(int)::rintf(scaled) & ((1u << bits) - 1)) << at;
}

inline float4 unpack_unorm4x8_to_float(uint x) {
    return float4(invar_unorm(x, 0, 8), invar_unorm(x, 8, 8), invar_unorm(x, 16, 8), invar_unorm(x, 24, 8));
}
inline float4 unpack_snorm4x8_to_float(uint x) {
    return float4(invar_snorm(x, 0, 8), invar_snorm(x, 8, 8), invar_snorm(x, 16, 8), invar_snorm(x, 24, 8));
}
inline float4 unpack_unorm4x8_srgb_to_float(uint x) {
    float4 v = unpack_unorm4x8_to_float(x);
    return float4(invar_from_srgb(v.x), invar_from_srgb(v.y), invar_from_srgb(v.z), v.w);
}
inline float2 unpack_unorm2x16_to_float(uint x) { return float2(invar_unorm(x, 0, 16), invar_unorm(x, 16, 16)); }
inline float2 unpack_snorm2x16_to_float(uint x) { return float2(invar_snorm(x, 0, 16), invar_snorm(x, 16, 16)); }
inline float4 unpack_unorm10a2_to_float(uint x) {
    return float4(invar_unorm(x, 0, 10), invar_unorm(x, 10, 10), invar_unorm(x, 20, 10), invar_unorm(x, 30, 2));
}
inline half4 unpack_unorm4x8_to_half(uint x) { return half4(unpack_unorm4x8_to_float(x)); }
inline half4 unpack_snorm4x8_to_half(uint x) { return half4(unpack_snorm4x8_to_float(x)); }
inline half4 unpack_unorm4x8_srgb_to_half(uint x) { return half4(unpack_unorm4x8_srgb_to_float(x)); }
inline half2 unpack_unorm2x16_to_half(uint x) { return half2(unpack_unorm2x16_to_float(x)); }
inline half2 unpack_snorm2x16_to_half(uint x) { return half2(unpack_snorm2x16_to_float(x)); }
inline half4 unpack_unorm10a2_to_half(uint x) { return half4(unpack_unorm10a2_to_float(x)); }

inline uint pack_float_to_unorm4x8(float4 v) {
    return invar_put_unorm(v.x, 0, 8) | invar_put_unorm(v.y, 8, 8) | invar_put_unorm(v.z, 16, 8) | invar_put_unorm(v.w, 24, 8);
}
inline uint pack_float_to_snorm4x8(float4 v) {
    return invar_put_snorm(v.x, 0, 8) | invar_put_snorm(v.y, 8, 8) | invar_put_snorm(v.z, 16, 8) | invar_put_snorm(v.w, 24, 8);
}
inline uint pack_float_to_srgb_unorm4x8(float4 v) {
    return pack_float_to_unorm4x8(float4(invar_to_srgb(v.x), invar_to_srgb(v.y), invar_to_srgb(v.z), v.w));
}
inline uint pack_float_to_unorm2x16(float2 v) { return invar_put_unorm(v.x, 0, 16) | invar_put_unorm(v.y, 16, 16); }
inline uint pack_float_to_snorm2x16(float2 v) { return invar_put_snorm(v.x, 0, 16) | invar_put_snorm(v.y, 16, 16); }
inline uint pack_float_to_unorm10a2(float4 v) {
    return invar_put_unorm(v.x, 0, 10) | invar_put_unorm(v.y, 10, 10) | invar_put_unorm(v.z, 20, 10) |
           invar_put_unorm(v.w, 30, 2);
}
inline uint pack_half_to_unorm4x8(half4 v) { return pack_float_to_unorm4x8(float4(v)); }
inline uint pack_half_to_snorm4x8(half4 v) { return pack_float_to_snorm4x8(float4(v)); }
inline uint pack_half_to_srgb_unorm4x8(half4 v) { return pack_float_to_srgb_unorm4x8(float4(v)); }
inline uint pack_half_to_unorm2x16(half2 v) { return pack_float_to_unorm2x16(float2(v)); }
inline uint pack_half_to_snorm2x16(half2 v) { return pack_float_to_snorm2x16(float2(v)); }
inline uint pack_half_to_unorm10a2(half4 v) { return pack_float_to_unorm10a2(float4(v)); }

} // namespace metal
} // namespace invar_shim
