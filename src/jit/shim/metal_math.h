/* Metal's mathematics: metal::exp and the like, of float, half, bfloat and vectors of them. 16-bit results are those of
 * float, rounded once. fast:: and precise:: are the same functions. */
namespace invar_shim {
namespace metal {

template <class X> inline auto acos(const X &x) { return invar_lift([](float e) { return ::acosf(e); }, x); }
template <class X> inline auto acosh(const X &x) { return invar_lift([](float e) { return ::acoshf(e); }, x); }
template <class X> inline auto asin(const X &x) { return invar_lift([](float e) { return ::asinf(e); }, x); }
template <class X> inline auto asinh(const X &x) { return invar_lift([](float e) { return ::asinhf(e); }, x); }
template <class X> inline auto atan(const X &x) { return invar_lift([](float e) { return ::atanf(e); }, x); }
template <class X> inline auto atanh(const X &x) { return invar_lift([](float e) { return ::atanhf(e); }, x); }
template <class X> inline auto ceil(const X &x) { return invar_lift([](float e) { return ::ceilf(e); }, x); }
template <class X> inline auto cos(const X &x) { return invar_lift([](float e) { return ::cosf(e); }, x); }
template <class X> inline auto cosh(const X &x) { return invar_lift([](float e) { return ::coshf(e); }, x); }
template <class X> inline auto cospi(const X &x) { return invar_lift([](float e) { return invar_cospi(e); }, x); }
template <class X> inline auto exp(const X &x) { return invar_lift([](float e) { return ::expf(e); }, x); }
template <class X> inline auto exp2(const X &x) { return invar_lift([](float e) { return ::exp2f(e); }, x); }
template <class X> inline auto exp10(const X &x) { return invar_lift([](float e) { return invar_exp10(e); }, x); }
template <class X> inline auto fabs(const X &x) { return invar_lift([](float e) { return ::fabsf(e); }, x); }
template <class X> inline auto floor(const X &x) { return invar_lift([](float e) { return ::floorf(e); }, x); }
template <class X> inline auto log(const X &x) { return invar_lift([](float e) { return ::logf(e); }, x); }
template <class X> inline auto log2(const X &x) { return invar_lift([](float e) { return ::log2f(e); }, x); }
template <class X> inline auto log10(const X &x) { return invar_lift([](float e) { return ::log10f(e); }, x); }
template <class X> inline auto log1p(const X &x) { return invar_lift([](float e) { return ::log1pf(e); }, x); }
template <class X> inline auto rint(const X &x) { return invar_lift([](float e) { return ::rintf(e); }, x); }
template <class X> inline auto round(const X &x) { return invar_lift([](float e) { return ::roundf(e); }, x); }
template <class X> inline auto rsqrt(const X &x) { return invar_lift([](float e) { return 1.0f / ::sqrtf(e); }, x); }
template <class X> inline auto sin(const X &x) { return invar_lift([](float e) { return ::sinf(e); }, x); }
template <class X> inline auto sinh(const X &x) { return invar_lift([](float e) { return ::sinhf(e); }, x); }
template <class X> inline auto sinpi(const X &x) { return invar_lift([](float e) { return invar_sinpi(e); }, x); }
template <class X> inline auto sqrt(const X &x) { return invar_lift([](float e) { return ::sqrtf(e); }, x); }
template <class X> inline auto tan(const X &x) { return invar_lift([](float e) { return ::tanf(e); }, x); }
template <class X> inline auto tanh(const X &x) { return invar_lift([](float e) { return ::tanhf(e); }, x); }
template <class X> inline auto tanpi(const X &x) {
    return invar_lift([](float e) { return invar_sinpi(e) / invar_cospi(e); }, x);
}
template <class X> inline auto trunc(const X &x) { return invar_lift([](float e) { return ::truncf(e); }, x); }

template <class X, class Y> inline auto atan2(const X &y, const Y &x) {
    return invar_lift([](float a, float b) { return ::atan2f(a, b); }, y, x);
}
template <class X, class Y> inline auto copysign(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return ::copysignf(a, b); }, x, y);
}
template <class X, class Y> inline auto divide(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return a / b; }, x, y);
}
template <class X, class Y> inline auto fdim(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return ::fdimf(a, b); }, x, y);
}
template <class X, class Y> inline auto fmod(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return ::fmodf(a, b); }, x, y);
}
template <class X, class Y> inline auto hypot(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return ::hypotf(a, b); }, x, y);
}
template <class X, class Y> inline auto pow(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return ::powf(a, b); }, x, y);
}
template <class X, class Y> inline auto powr(const X &x, const Y &y) {
    return invar_lift([](float a, float b) { return a < 0 ? invar_nan : ::powf(a, b); }, x, y);
}

/* The neighbour of x towards y, in x's own type. */
template <class T> inline T invar_next(T x, T y) {
    using U = invar_unsigned<T>;
    U bits = invar_bits<U>(x), sign = (U)1 << (8 * sizeof(T) - 1);
    if (!(x == x) || !(y == y)) return T(invar_nan);
    if (x == y) return y;
    if (x == T(0)) return invar_bits<T>((U)((invar_bits<U>(y) & sign) | 1));
    return invar_bits<T>((U)((x < y) == (x > T(0)) ? bits + 1 : bits - 1));
}
template <class X, class Y> inline auto nextafter(const X &x, const Y &y) {
    return invar_each([](auto a, auto b) { return invar_next(a, b); }, x, y);
}

template <class T> inline T invar_fma(T a, T b, T c) {
    if constexpr (invar_is_narrow<T>) return T(invar_narrow_fma(a, b, c));
    else return ::fmaf(a, b, c);
}
template <class A, class B, class C> inline auto fma(const A &a, const B &b, const C &c) {
    using T = invar_real<invar_leading<A, B, C>>;
    return invar_each([](auto x, auto y, auto z) { return invar_fma(T(x), T(y), T(z)); }, a, b, c);
}

/* frexp, ldexp, ilogb, modf, sincos: an exponent is an int or a vector of int. */
template <class X, class K> inline auto ldexp(const X &x, const K &k) {
    return invar_lift([](float a, float b) { return (float)::ldexp((double)a, (int)b); }, x, k);
}
template <class X> inline auto ilogb(const X &x) {
    return invar_each([](auto e) { return (int)::ilogbf((float)e); }, x);
}
template <class X> inline X frexp(X x, int &exponent) { return X(::frexpf((float)x, &exponent)); }
template <class T, int N> inline vec<T, N> frexp(vec<T, N> x, vec<int, N> &exponent) {
    for (int i = 0; i < N; i++) x[i] = T(::frexpf((float)x[i], &exponent[i]));
    return x;
}
template <class X> inline X modf(X x, X &whole) {
    whole = X(metal::trunc(x));
    return copysign(X(metal::select(x - whole, X(0), metal::isinf(x))), x);
}
template <class X> inline X sincos(X x, X &cosine) {
    cosine = metal::cos(x);
    return metal::sin(x);
}

} // namespace metal
} // namespace invar_shim
