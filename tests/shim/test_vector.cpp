/* Vectors: layout, constructors, swizzles, operators; geometry; complex numbers; index arithmetic. */
#include "shim.h"

using namespace invar_shim;
using namespace invar_shim::metal;

/* MSL tables 2.3 and 2.4. */
template <class T> static void layout() {
    static_assert(sizeof(vec<T, 2>) == 2 * sizeof(T) && alignof(vec<T, 2>) == 2 * sizeof(T), "of two");
    static_assert(sizeof(vec<T, 3>) == 4 * sizeof(T) && alignof(vec<T, 3>) == 4 * sizeof(T), "of three");
    static_assert(sizeof(vec<T, 4>) == 4 * sizeof(T) && alignof(vec<T, 4>) == 4 * sizeof(T), "of four");
    static_assert(sizeof(packed_vec<T, 3>) == 3 * sizeof(T) && alignof(packed_vec<T, 3>) == alignof(T), "packed");
    T array[4] = { T(1), T(2), T(3), T(4) };
    vec<T, 4> v;
    std::memcpy(&v, array, sizeof v);
    CHECK(v.x == T(1) && v.y == T(2) && v.z == T(3) && v.w == T(4) && v.g == T(2) && v[3] == T(4), "order");
    static_assert(sizeof(vec<T, 8>) == 8 * sizeof(T) && alignof(vec<T, 8>) == 8 * sizeof(T), "of eight");
    vec<T, 8> many(v, T(5), vec<T, 3>(v.w, v.x, v.z)), sum = many + many;
    many[7] = T(9);
    CHECK(sum[0] == T(2) && sum[4] == T(10) && sum[7] == T(6) && many[7] == T(9), "of eight");
    CHECK(((vec<int, 8>(many) * 2)[4] == 10 && vec<T, 16>(T(3))[15] == T(3) && !(many == sum)[3]), "of eight, of sixteen");
}

static bool is(float4 v, float x, float y, float z, float w) { return v.x == x && v.y == y && v.z == z && v.w == w; }

static void constructors() {
    float4 splat = 2.0f, mixed(float2(1, 2), 3, half(4)), tail(1, float3(2, 3, 4)), braces = { 1, 2, 3, 4 };
    CHECK(is(splat, 2, 2, 2, 2) && is(mixed, 1, 2, 3, 4) && is(tail, 1, 2, 3, 4) && is(braces, 1, 2, 3, 4), "float4");
    CHECK(is(float4(int4(1, -2, 3, 4)), 1, -2, 3, 4) && is(float4(half4(0.5f)), 0.5f, 0.5f, 0.5f, 0.5f), "conversions");
    packed_float3 packed = float3(1, 2, 3);
    float3 back = packed;
    CHECK(back.z == 3 && (packed * 2.0f).y == 4 && (float3(1) + packed).x == 2, "packed");
    packed += float3(1);
    CHECK(packed.x == 2 && packed.z == 4, "packed +=");
    constexpr float4 table[2] = { float4(1) / 4.0f, { 0, 1, 2, 3 } };
    static_assert(table[0].y == 0.25f && table[1].z == 2, "constant expressions");
}

static void swizzles() {
    float4 v(1, 2, 3, 4);
    float3 taken = v.template invar_take<2, 1, 1>();
    CHECK(taken.x == 3 && taken.y == 2 && taken.z == 2, "v.zyy");
    v.template invar_put<1, 0>() = v.template invar_take<0, 3>();
    CHECK(is(v, 4, 1, 3, 4), "v.yx = v.xw reads before it writes");
    v.template invar_put<0, 2>() += 1.0f;
    v.w *= 2.0f;
    v.template invar_put<0, 1>()++;
    CHECK(is(v, 6, 2, 4, 8), "v.xz += 1, v.w *= 2, v.xy++");
    v.r = 0;
    v.a += v.b;
    v[1] = 9;
    CHECK(is(v, 0, 9, 4, 12), "single components");
}

static void operators() {
    int4 a(7, -7, 12, 1), b(2, 2, 5, 3);
    CHECK(all(a / b == int4(3, -3, 2, 0)) && all(a % b == int4(1, -1, 2, 1)) &&
          all((a & 3) == int4(3, 1, 0, 1)), "division");
    CHECK(all((a << b) == int4(28, -28, 384, 8)) && all((a ^ b) == int4(5, -5, 9, 2)) &&
          all(~a == int4(-8, 6, -13, -2)), "<< ^ ~");
    CHECK(all(-a == 0 - a) && all((!bool2(true, false)) == bool2(false, true)), "unary");
    CHECK(all((a > b) == bool4(true, false, true, false)) && all((a != 7) == bool4(false, true, true, true)), "comparisons");
    CHECK(all(((a > 0) && (b > 2)) == bool4(false, false, true, true)), "&&");
    float3 f = 2.0f * float3(1, 2, 3) - 1;
    f /= float3(1, 3, 5);
    f *= 2;
    CHECK(f.x == 2 && f.y == 2 && f.z == 2, "scalars");
    half2 h = half2(1, 3) / 3.0f;
    CHECK(h.x == half(1) / half(3) && h.y == half(1), "half stays half");
    uchar4 wrapped = uchar4(250) + uchar4(10);
    CHECK(wrapped.x == 4, "8 bits wrap");
    int2 n(1, 2);
    CHECK((n++).x == 1 && n.x == 2 && (--n).y == 2, "++ and --");
    static_assert(invar_same<decltype(a < b), bool4> && invar_same<decltype(half3(1) * 2), half3>, "types");
}

static void geometry() {
    float3 a(1, 2, 2), b(-2, 0.5f, 4);
    CHECK(dot(a, b) == 1 * -2 + 2 * 0.5f + 2 * 4 && length(a) == 3 && length_squared(b) == 4 + 0.25f + 16, "dot, length");
    float3 c = cross(a, b);
    CHECK(c.x == 2 * 4 - 2 * 0.5f && c.y == 2 * -2 - 1 * 4 && c.z == 1 * 0.5f - 2 * -2, "cross");
    CHECK(distance(a, b) == length(a - b) && distance_squared(a, a) == 0, "distance");
    CHECK(std::fabs(length(normalize(b)) - 1) < 1e-6 && normalize(float2(0, -4)).y == -1, "normalize");
    float2 down(1, -1), up(0, 1), mirrored = reflect(down, up);
    CHECK(mirrored.x == 1 && mirrored.y == 1 && faceforward(up, down, up).y == 1 &&
          faceforward(up, up, up).y == -1, "reflect");
    float2 bent = refract(float2(0.6f, -0.8f), up, 0.5f);
    CHECK(std::fabs(bent.x - 0.3) < 1e-6 && std::fabs(bent.y + std::sqrt(1 - 0.09)) < 1e-6, "refract %g %g", bent.x, bent.y);
    CHECK(refract(float2(0.8f, -0.6f), up, 2.0f).x == 0, "total reflection");
    CHECK(dot(int2(3, 4), int2(5, 6)) == 39 && dot(half2(1, 2), half2(3, 4)) == half(11), "dot of other types");
}

static void complex_numbers() {
    complex64_t a(1, 2), b(3, -4);
    complex64_t product = a * b, quotient = product / b;
    CHECK(product.real == 11 && product.imag == 2 && quotient.real == 1 && quotient.imag == 2, "* and /");
    CHECK((a + 1.0f).real == 2 && (1 - a).imag == -2 && (2 * a).imag == 4 && (a / 2).real == 0.5f && a == a &&
          a != b, "scalars");
    CHECK(a < b && b > a && complex64_t(1, 3) > a && a <= a && !(a < a), "order");
    CHECK((complex64_t(1e30f, 1e30f) / complex64_t(1e30f, 1e30f)).real == 1, "no overflow");
    complex64_t rest = complex64_t(7, -7) % complex64_t(3, 3);
    CHECK(rest.real == 1 && rest.imag == 2, "remainder with the divisor's sign");
    CHECK(sizeof(complex64_t) == 8 && float(b) == 3, "layout");
}

/* Every element of a transposed array, by the place that its indices give. */
static void indexing() {
    const int shape[3] = { 4, 3, 5 };
    const int64_t strides[3] = { 1, 20, 4 };
    LoopedElemToLoc<3, int64_t> walk(3);
    for (uint i = 0; i < 60; i++) {
        int64_t place = i / 15 * 1 + i / 5 % 3 * 20 + i % 5 * 4;
        CHECK((int64_t)elem_to_loc(i, shape, strides, 3) == place, "elem_to_loc(%u)", i);
        CHECK(elem_to_loc<int64_t>(uint3(i % 5, i / 5 % 3, i / 15), shape, strides, 3) == place, "of uint3");
        CHECK(elem_to_loc_3(uint3(i % 5, i / 5 % 3, i / 15), strides) == place, "elem_to_loc_3");
        CHECK(elem_to_loc_2_nd(uint3(i % 5, i / 5 % 3, i / 15), shape, strides, strides, 3).y == place, "elem_to_loc_2_nd");
        CHECK(walk.location() == place, "LoopedElemToLoc at %u", i);
        walk.next(shape, strides);
    }
    CHECK(elem_to_loc_1(3, 7) == 21 && elem_to_loc_2(uint2(2, 3), strides + 1) == 3 * 20 + 2 * 4, "elem_to_loc_1 and _2");
}

int main() {
    layout<char>();
    layout<unsigned short>();
    layout<half>();
    layout<bfloat>();
    layout<float>();
    layout<int>();
    layout<long>();
    constructors();
    swizzles();
    operators();
    geometry();
    complex_numbers();
    indexing();
    return finish();
}
