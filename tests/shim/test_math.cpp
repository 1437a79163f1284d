/* Metal's mathematics: in float within a bound on random arguments and special ones, in half and bfloat for every
 * pattern, each against float64. */
#include "shim.h"

using namespace invar_shim;

struct function {
    const char *name;
    float (*single)(float);
    invar_narrow<invar_binary16> (*half)(invar_narrow<invar_binary16>);
    invar_narrow<invar_brain16> (*bfloat)(invar_narrow<invar_brain16>);
    double (*definition)(double);
    double low, high; /* where the float is drawn from */
    double bound;     /* units in the last place */
};
#define FUNCTION(name, definition, low, high, bound)                                             \
    {                                                                                            \
        #name, [](float x) -> float { return metal::name(x); },                                  \
            [](metal::half x) -> metal::half { return metal::precise::name(x); },                \
            [](metal::bfloat x) -> metal::bfloat { return metal::fast::name(x); },               \
            [](double x) -> double { return definition; }, low, high, bound                      \
    }

/* sin(π·x) of the definition must not lose x's fraction to a large π·x. */
static double turn(double x) { return x - 2 * std::nearbyint(x / 2); }
static double half_turn_sine(double x) {
    double t = turn(x);
    return t == 0 || std::fabs(t) == 1 ? std::copysign(0.0, x) : std::sin(M_PI * t);
}
static double half_turn_cosine(double x) {
    double t = std::fabs(turn(x));
    return t == 0.5 ? 0.0 : std::cos(M_PI * t);
}

static const function functions[] = {
    FUNCTION(acos, std::acos(x), -1, 1, 1),
    FUNCTION(acosh, std::acosh(x), 1, 1e6, 3),
    FUNCTION(asin, std::asin(x), -1, 1, 1),
    FUNCTION(asinh, std::asinh(x), -1e6, 1e6, 3),
    FUNCTION(atan, std::atan(x), -100, 100, 1),
    FUNCTION(atanh, std::atanh(x), -1, 1, 3),
    FUNCTION(ceil, std::ceil(x), -1e6, 1e6, 0),
    FUNCTION(cos, std::cos(x), -1000, 1000, 1),
    FUNCTION(cosh, std::cosh(x), -80, 80, 2),
    FUNCTION(cospi, half_turn_cosine(x), -1000, 1000, 1),
    FUNCTION(exp, std::exp(x), -100, 88, 1),
    FUNCTION(exp2, std::exp2(x), -149, 127, 1),
    FUNCTION(exp10, std::pow(10.0, x), -44, 38, 1),
    FUNCTION(fabs, std::fabs(x), -1e30, 1e30, 0),
    FUNCTION(floor, std::floor(x), -1e6, 1e6, 0),
    FUNCTION(fract, x - std::floor(x) < 1 ? x - std::floor(x) : 1, -1000, 1000, 0.5),
    FUNCTION(log, std::log(x), 0, 1e10, 1),
    FUNCTION(log2, std::log2(x), 0, 1e10, 1),
    FUNCTION(log10, std::log10(x), 0, 1e10, 2),
    FUNCTION(log1p, std::log1p(x), -1, 1e3, 2),
    FUNCTION(rint, std::nearbyint(x), -1e6, 1e6, 0),
    FUNCTION(round, std::round(x), -1e6, 1e6, 0),
    FUNCTION(rsqrt, 1 / std::sqrt(x), 0, 1e10, 1.5),
    FUNCTION(saturate, x > 0 ? (x < 1 ? x : 1) : 0, -2, 2, 0),
    FUNCTION(sin, std::sin(x), -1000, 1000, 1),
    FUNCTION(sinh, std::sinh(x), -80, 80, 2),
    FUNCTION(sinpi, half_turn_sine(x), -1000, 1000, 1),
    FUNCTION(sqrt, std::sqrt(x), 0, 1e30, 0.5),
    FUNCTION(tan, std::tan(x), -1000, 1000, 1),
    FUNCTION(tanh, std::tanh(x), -10, 10, 3),
    FUNCTION(tanpi, half_turn_sine(x) / half_turn_cosine(x), -10, 10, 2),
    FUNCTION(trunc, std::trunc(x), -1e6, 1e6, 0),
};

/* How far `got` lies from x, in units of the format's last place; 0 where both are NaN, or infinite alike. */
static double distance(double got, double x, int digits, int least, int greatest) {
    if (x != x) return got != got ? 0 : INFINITY;
    double rounded = nearest(x, digits, least, greatest);
    if (got == rounded) return 0;
    return std::isfinite(rounded) || std::isfinite(got) ? std::fabs(got - x) / unit_of(x, digits, least) : INFINITY;
}

static void single(const function &f) {
    double worst = 0, where = 0;
    auto look = [&](float x) {
        double error = distance(f.single(x), f.definition(x), 24, -125, 128);
        if (!(error <= worst)) worst = error, where = x;
    };
    for (int i = 0; i < 100000; i++) look((float)uniform(f.low, f.high));
    for (float x : { 0.0f, -0.0f, 1.0f, -1.0f, 0.5f, -0.5f, INFINITY, -INFINITY, NAN, 1e-30f, 0x1p-140f, 2.0f, 2.5f })
        if (f.bound > 0.5 || (x >= f.low && x <= f.high)) look(x);
    CHECK(worst <= f.bound, "%s(%.9g) is %.3g units off", f.name, where, worst);
}

/* Through float, whose own error is below 4 of its units, and rounded once: 4·2^(digits-24) above half a unit at most. */
template <class F> static void narrow(const function &f, invar_narrow<F> (*call)(invar_narrow<F>)) {
    double bound = 0.5 + 4 * std::ldexp(1.0, F::digits - 24), worst = 0, where = 0;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        invar_narrow<F> x = invar_bits<invar_narrow<F>>((uint16_t)bits);
        double error = distance(call(x), f.definition((float)x), F::digits, F::least, F::greatest);
        if (!(error <= worst)) worst = error, where = (float)x;
    }
    CHECK(worst <= bound, "%s(%.9g) of %d digits is %.6g units off", f.name, where, F::digits, worst);
}

static bool same(double a, double b) { return (a != a && b != b) || (a == b && std::signbit(a) == std::signbit(b)); }

static void of_two() {
    using namespace metal;
    for (int i = 0; i < 200000; i++) {
        float x = (float)uniform(-50, 50), y = (float)uniform(-50, 50);
        double p = std::pow(std::fabs((double)x), (double)y / 10);
        CHECK(distance(pow(fabs(x), y / 10), std::pow(std::fabs((double)x), (double)(y / 10)), 24, -125, 128) <= 1,
              "pow %g", p);
        CHECK(distance(atan2(y, x), std::atan2((double)y, (double)x), 24, -125, 128) <= 2, "atan2(%g, %g)", y, x);
        CHECK(distance(hypot(x, y), std::hypot((double)x, (double)y), 24, -125, 128) <= 1, "hypot");
        CHECK(same(fmod(x, y), std::fmod((double)x, (double)y)), "fmod(%g, %g)", x, y);
        CHECK(same(copysign(x, y), std::copysign(x, y)), "copysign");
        CHECK(same(fdim(x, y), (float)(x > y ? (double)x - y : 0)), "fdim");
        CHECK(same(divide(x, y), (float)((double)x / y)), "divide");
        CHECK(same(nextafter(x, y), std::nextafterf(x, y)), "nextafter(%a, %a)", x, y);
        CHECK(same(mix(x, y, 0.25f), x + (y - x) * 0.25f), "mix");
        CHECK(same(step(x, y), y < x ? 0 : 1), "step");
        float t = (float)((y - x) / (60.0f - x)), c = t < 0 ? 0 : t > 1 ? 1 : t;
        CHECK(same(smoothstep(x, 60.0f, y), c * c * (3 - 2 * c)), "smoothstep");
        CHECK(same(fma(x, y, x), std::fmaf(x, y, x)), "fma");
        CHECK(same(ldexp(x, (int)y), std::ldexp((double)x, (int)y)), "ldexp");
        int k, l;
        float whole, f = frexp(x, k), g = modf(x, whole);
        CHECK(f == std::frexp(x, &l) && k == l, "frexp");
        CHECK(whole == std::trunc(x) && g == x - std::trunc(x) && std::signbit(g) == std::signbit(x), "modf");
        CHECK(ilogb(x) == std::ilogb(x), "ilogb");
        float cosine, sine = sincos(x, cosine);
        CHECK(sine == sin(x) && cosine == cos(x), "sincos");
    }
    metal::half least = invar_bits<metal::half>((uint16_t)1), one = 1.0f;
    CHECK(nextafter(metal::half(0.0f), one) == least &&
          (float)nextafter(one, metal::half(2.0f)) == 1 + 0x1p-10f, "nextafter");
    CHECK(nextafter(-least, one).invar_pattern == 0x8000, "nextafter towards zero");
    float whole, rest = modf(-INFINITY, whole);
    CHECK(same(rest, -0.0) && whole == -INFINITY, "modf of an infinity");
    CHECK(powr(-1.0f, 2.0f) != powr(-1.0f, 2.0f), "powr of a negative base");
    CHECK(pow(2, 10) == 1024, "integers count as floats");
}

/* Vectors go element by element through the same code, whatever the function. */
static void vectors() {
    using namespace metal;
    float4 x(0.5f, -1.25f, 3, NAN);
    float4 e = exp(x);
    half3 h = precise::tanh(half3(0.5f, -2, 8)), s = sqrt(half3(4, 2, -1));
    for (int i = 0; i < 4; i++) CHECK(same(e[i], exp(x[i])), "exp of element %d", i);
    CHECK(h.y == tanh(half(-2)) && h.z == tanh(half(8)) && s.x == half(2) && s.z != s.z, "half3");
    int3 k;
    float3 f = frexp(float3(1, 3, 0.1f), k);
    CHECK(f.y == 0.75f && k.y == 2 && k.z == -3, "frexp of a vector");
    float2 whole, rest = modf(float2(2.5f, -0.25f), whole);
    CHECK(rest.x == 0.5f && rest.y == -0.25f && whole.x == 2 && std::signbit(whole.y), "modf of a vector");
    CHECK(pow(float2(3, 4), 2.0f).y == 16 && fma(x, 2.0f, x).z == 9, "a scalar among vectors");
    static_assert(invar_same<decltype(exp(h)), half3> && invar_same<decltype(mix(h, half3(1), 0.5f)), half3>, "types");
    static_assert(invar_same<decltype(exp(half(1))), half> && invar_same<decltype(exp(1)), float>, "types");
}

int main() {
    for (const function &f : functions) {
        single(f);
        narrow<invar_binary16>(f, f.half);
        narrow<invar_brain16>(f, f.bfloat);
    }
    of_two();
    vectors();
    return finish();
}
