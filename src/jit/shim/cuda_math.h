/* CUDA's mathematics on the CPU. exp and its like take float to float and everything else to double, as C++ does; expf
 * and the other names of C are the C library's own (libm.h). The fast intrinsics (__expf, ...) are as exact as those. */
namespace invar_shim {

/* What an overloaded function computes in. */
template <class... X> using invar_wide = invar_choose<((invar_same<X, float> || invar_is_narrow<X>) && ...), float, double>;
template <class... X> constexpr bool invar_single = invar_same<invar_wide<X...>, float>;

template <class X> inline invar_wide<X> acos(X x) {
    if constexpr (invar_single<X>) return ::acosf(x);
    else return ::acos((double)x);
}
template <class X> inline invar_wide<X> acosh(X x) {
    if constexpr (invar_single<X>) return ::acoshf(x);
    else return ::acosh((double)x);
}
template <class X> inline invar_wide<X> asin(X x) {
    if constexpr (invar_single<X>) return ::asinf(x);
    else return ::asin((double)x);
}
template <class X> inline invar_wide<X> asinh(X x) {
    if constexpr (invar_single<X>) return ::asinhf(x);
    else return ::asinh((double)x);
}
template <class X> inline invar_wide<X> atan(X x) {
    if constexpr (invar_single<X>) return ::atanf(x);
    else return ::atan((double)x);
}
template <class X> inline invar_wide<X> atanh(X x) {
    if constexpr (invar_single<X>) return ::atanhf(x);
    else return ::atanh((double)x);
}
template <class X> inline invar_wide<X> cbrt(X x) {
    if constexpr (invar_single<X>) return ::cbrtf(x);
    else return ::cbrt((double)x);
}
template <class X> inline invar_wide<X> ceil(X x) {
    if constexpr (invar_single<X>) return ::ceilf(x);
    else return ::ceil((double)x);
}
template <class X> inline invar_wide<X> cos(X x) {
    if constexpr (invar_single<X>) return ::cosf(x);
    else return ::cos((double)x);
}
template <class X> inline invar_wide<X> cosh(X x) {
    if constexpr (invar_single<X>) return ::coshf(x);
    else return ::cosh((double)x);
}
template <class X> inline invar_wide<X> erf(X x) {
    if constexpr (invar_single<X>) return ::erff(x);
    else return ::erf((double)x);
}
template <class X> inline invar_wide<X> erfc(X x) {
    if constexpr (invar_single<X>) return ::erfcf(x);
    else return ::erfc((double)x);
}
template <class X> inline invar_wide<X> exp(X x) {
    if constexpr (invar_single<X>) return ::expf(x);
    else return ::exp((double)x);
}
template <class X> inline invar_wide<X> exp2(X x) {
    if constexpr (invar_single<X>) return ::exp2f(x);
    else return ::exp2((double)x);
}
template <class X> inline invar_wide<X> expm1(X x) {
    if constexpr (invar_single<X>) return ::expm1f(x);
    else return ::expm1((double)x);
}
template <class X> inline invar_wide<X> floor(X x) {
    if constexpr (invar_single<X>) return ::floorf(x);
    else return ::floor((double)x);
}
template <class X> inline invar_wide<X> lgamma(X x) {
    if constexpr (invar_single<X>) return ::lgammaf(x);
    else return ::lgamma((double)x);
}
template <class X> inline invar_wide<X> log(X x) {
    if constexpr (invar_single<X>) return ::logf(x);
    else return ::log((double)x);
}
template <class X> inline invar_wide<X> log10(X x) {
    if constexpr (invar_single<X>) return ::log10f(x);
    else return ::log10((double)x);
}
template <class X> inline invar_wide<X> log1p(X x) {
    if constexpr (invar_single<X>) return ::log1pf(x);
    else return ::log1p((double)x);
}
template <class X> inline invar_wide<X> log2(X x) {
    if constexpr (invar_single<X>) return ::log2f(x);
    else return ::log2((double)x);
}
template <class X> inline invar_wide<X> logb(X x) {
    if constexpr (invar_single<X>) return ::logbf(x);
    else return ::logb((double)x);
}
template <class X> inline invar_wide<X> nearbyint(X x) {
    if constexpr (invar_single<X>) return ::nearbyintf(x);
    else return ::nearbyint((double)x);
}
template <class X> inline invar_wide<X> rint(X x) {
    if constexpr (invar_single<X>) return ::rintf(x);
    else return ::rint((double)x);
}
template <class X> inline invar_wide<X> round(X x) {
    if constexpr (invar_single<X>) return ::roundf(x);
    else return ::round((double)x);
}
template <class X> inline invar_wide<X> sin(X x) {
    if constexpr (invar_single<X>) return ::sinf(x);
    else return ::sin((double)x);
}
template <class X> inline invar_wide<X> sinh(X x) {
    if constexpr (invar_single<X>) return ::sinhf(x);
    else return ::sinh((double)x);
}
template <class X> inline invar_wide<X> sqrt(X x) {
    if constexpr (invar_single<X>) return ::sqrtf(x);
    else return ::sqrt((double)x);
}
template <class X> inline invar_wide<X> tan(X x) {
    if constexpr (invar_single<X>) return ::tanf(x);
    else return ::tan((double)x);
}
template <class X> inline invar_wide<X> tanh(X x) {
    if constexpr (invar_single<X>) return ::tanhf(x);
    else return ::tanh((double)x);
}
template <class X> inline invar_wide<X> tgamma(X x) {
    if constexpr (invar_single<X>) return ::tgammaf(x);
    else return ::tgamma((double)x);
}
template <class X> inline invar_wide<X> trunc(X x) {
    if constexpr (invar_single<X>) return ::truncf(x);
    else return ::trunc((double)x);
}
template <class X, class Y> inline invar_wide<X, Y> atan2(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::atan2f(x, y);
    else return ::atan2((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> copysign(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::copysignf(x, y);
    else return ::copysign((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> fdim(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::fdimf(x, y);
    else return ::fdim((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> fmod(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::fmodf(x, y);
    else return ::fmod((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> hypot(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::hypotf(x, y);
    else return ::hypot((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> nextafter(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::nextafterf(x, y);
    else return ::nextafter((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> pow(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::powf(x, y);
    else return ::pow((double)x, (double)y);
}
template <class X, class Y> inline invar_wide<X, Y> remainder(X x, Y y) {
    if constexpr (invar_single<X, Y>) return ::remainderf(x, y);
    else return ::remainder((double)x, (double)y);
}
template <class X, class Y, class Z> inline invar_wide<X, Y, Z> fma(X x, Y y, Z z) {
    if constexpr (invar_single<X, Y, Z>) return ::fmaf(x, y, z);
    else return ::fma((double)x, (double)y, (double)z);
}
template <class X> inline invar_wide<X> ldexp(X x, int k) {
    if constexpr (invar_single<X>) return ::ldexpf(x, k);
    else return ::ldexp((double)x, k);
}
template <class X> inline invar_wide<X> frexp(X x, int *k) {
    if constexpr (invar_single<X>) return ::frexpf(x, k);
    else return ::frexp((double)x, k);
}
inline float modf(float x, float *whole) { return ::modff(x, whole); }
inline double modf(double x, double *whole) { return ::modf(x, whole); }
template <class X> inline auto fabs(X x) {
    if constexpr (invar_single<X>) return ::fabsf(x);
    else return ::fabs((double)x);
}
template <class X> inline auto abs(X x) {
    using U = invar_unsigned<X>;
    if constexpr (invar_is_real<X>) return invar_bits<X>((U)(invar_bits<U>(x) & (U)((U)~(U)0 >> 1)));
    else return x < 0 ? -x : x;
}
inline long labs(long x) { return x < 0 ? -x : x; }
inline long long llabs(long long x) { return x < 0 ? -x : x; }

constexpr float fmaxf(float a, float b) { return invar_fmax(a, b); }
constexpr float fminf(float a, float b) { return invar_fmin(a, b); }
template <class X, class Y> constexpr auto fmax(X x, Y y) { return invar_fmax<invar_wide<X, Y>>(x, y); }
template <class X, class Y> constexpr auto fmin(X x, Y y) { return invar_fmin<invar_wide<X, Y>>(x, y); }
/* Integers follow C++: of an int and an unsigned both are unsigned. */
template <class X, class Y> constexpr auto max(X x, Y y) {
    using T = decltype(x + y);
    if constexpr (invar_same<X, Y> && !invar_is_real<X>) return x < y ? y : x;
    else if constexpr (invar_is_real<T>) return invar_fmax<T>((T)x, (T)y);
    else return (T)x < (T)y ? (T)y : (T)x;
}
template <class X, class Y> constexpr auto min(X x, Y y) {
    using T = decltype(x + y);
    if constexpr (invar_same<X, Y> && !invar_is_real<X>) return y < x ? y : x;
    else if constexpr (invar_is_real<T>) return invar_fmin<T>((T)x, (T)y);
    else return (T)y < (T)x ? (T)y : (T)x;
}
inline unsigned umax(unsigned a, unsigned b) { return a < b ? b : a; }
inline unsigned umin(unsigned a, unsigned b) { return a < b ? a : b; }

template <class X> constexpr bool isnan(X x) { return x != x; }
template <class X> constexpr bool isinf(X x) { return x == X(invar_infinity) || x == -X(invar_infinity); }
template <class X> constexpr bool isfinite(X x) { return x - x == X(0); }
template <class X> constexpr bool signbit(X x) { return invar_bits<invar_unsigned<X>>(x) >> (8 * sizeof(X) - 1) != 0; }
template <class X> constexpr bool isnormal(X x) {
    X size = x < X(0) ? -x : x;
    return size >= X(invar_same<X, double> ? 0x1p-1022 : 0x1p-126) && isfinite(x);
}

template <class X> inline invar_wide<X> rsqrt(X x) { return 1 / sqrt((invar_wide<X>)x); }
template <class X> inline invar_wide<X> rcbrt(X x) { return 1 / cbrt((invar_wide<X>)x); }
inline float rsqrtf(float x) { return 1.0f / ::sqrtf(x); }
inline float rcbrtf(float x) { return 1.0f / ::cbrtf(x); }
inline float sinpif(float x) { return invar_sinpi(x); }
inline float cospif(float x) { return invar_cospi(x); }
inline float exp10f(float x) { return invar_exp10(x); }
template <class X> inline auto exp10(X x) {
    if constexpr (invar_single<X>) return invar_exp10(x);
    else return ::pow(10.0, (double)x);
}
inline void sincosf(float x, float *sine, float *cosine) { *sine = ::sinf(x), *cosine = ::cosf(x); }
inline void sincos(double x, double *sine, double *cosine) { *sine = ::sin(x), *cosine = ::cos(x); }
inline void sincospif(float x, float *sine, float *cosine) { *sine = invar_sinpi(x), *cosine = invar_cospi(x); }
inline float normcdff(float x) { return (float)(0.5 * ::erfc(-0.70710678118654752440 * (double)x)); }
inline float normf(int n, const float *x) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return (float)::sqrt(sum);
}
inline float norm3df(float x, float y, float z) { return (float)::sqrt((double)x * x + (double)y * y + (double)z * z); }
inline float rnorm3df(float x, float y, float z) {
    return (float)(1 / ::sqrt((double)x * x + (double)y * y + (double)z * z));
}
inline float rhypotf(float x, float y) { return 1.0f / ::hypotf(x, y); }
inline float fdividef(float x, float y) { return x / y; }

inline float __expf(float x) { return ::expf(x); }
inline float __exp10f(float x) { return invar_exp10(x); }
inline float __logf(float x) { return ::logf(x); }
inline float __log2f(float x) { return ::log2f(x); }
inline float __log10f(float x) { return ::log10f(x); }
inline float __sinf(float x) { return ::sinf(x); }
inline float __cosf(float x) { return ::cosf(x); }
inline float __tanf(float x) { return ::tanf(x); }
inline float __tanhf(float x) { return ::tanhf(x); }
inline float __powf(float x, float y) { return ::powf(x, y); }
inline void __sincosf(float x, float *sine, float *cosine) { sincosf(x, sine, cosine); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return ::fmaf(x, y, z); }
inline float __fsqrt_rn(float x) { return ::sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frsqrt_rn(float x) { return (float)(1.0 / ::sqrt((double)x)); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __fma_rn(double x, double y, double z) { return ::fma(x, y, z); }

} // namespace invar_shim
