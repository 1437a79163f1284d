/* The C library's mathematics that Metal's and CUDA's stand on, declared here because <math.h> costs more time to read
 * than the rest of the shim. NVRTC knows them by itself. glibc's float functions are within 1 ulp for exp, exp2, log,
 * log2, pow, sin and cos and within 2 ulp for nearly all others (5 for the least exact, GNU C Library manual, "Errors in
 * math functions"). */
#ifndef __CUDACC_RTC__
extern "C" {
float acosf(float) noexcept, acoshf(float) noexcept, asinf(float) noexcept, asinhf(float) noexcept, atanf(float) noexcept,
    atanhf(float) noexcept, cbrtf(float) noexcept, ceilf(float) noexcept, cosf(float) noexcept, coshf(float) noexcept,
    erff(float) noexcept, erfcf(float) noexcept, expf(float) noexcept, exp2f(float) noexcept, expm1f(float) noexcept,
    fabsf(float) noexcept, floorf(float) noexcept, lgammaf(float) noexcept, logf(float) noexcept, log10f(float) noexcept,
    log1pf(float) noexcept, log2f(float) noexcept, logbf(float) noexcept, nearbyintf(float) noexcept,
    rintf(float) noexcept, roundf(float) noexcept, sinf(float) noexcept, sinhf(float) noexcept, sqrtf(float) noexcept,
    tanf(float) noexcept, tanhf(float) noexcept, tgammaf(float) noexcept, truncf(float) noexcept;
float atan2f(float, float) noexcept, copysignf(float, float) noexcept, fdimf(float, float) noexcept,
    fmodf(float, float) noexcept, hypotf(float, float) noexcept, nextafterf(float, float) noexcept,
    powf(float, float) noexcept, remainderf(float, float) noexcept, fmaf(float, float, float) noexcept,
    ldexpf(float, int) noexcept, frexpf(float, int *) noexcept, modff(float, float *) noexcept;
double acos(double) noexcept, acosh(double) noexcept, asin(double) noexcept, asinh(double) noexcept, atan(double) noexcept,
    atanh(double) noexcept, cbrt(double) noexcept, ceil(double) noexcept, cos(double) noexcept, cosh(double) noexcept,
    erf(double) noexcept, erfc(double) noexcept, exp(double) noexcept, exp2(double) noexcept, expm1(double) noexcept,
    fabs(double) noexcept, floor(double) noexcept, lgamma(double) noexcept, log(double) noexcept, log10(double) noexcept,
    log1p(double) noexcept, log2(double) noexcept, logb(double) noexcept, nearbyint(double) noexcept,
    rint(double) noexcept, round(double) noexcept, sin(double) noexcept, sinh(double) noexcept, sqrt(double) noexcept,
    tan(double) noexcept, tanh(double) noexcept, tgamma(double) noexcept, trunc(double) noexcept;
double atan2(double, double) noexcept, copysign(double, double) noexcept, fdim(double, double) noexcept,
    fmod(double, double) noexcept, hypot(double, double) noexcept, nextafter(double, double) noexcept,
    pow(double, double) noexcept, remainder(double, double) noexcept, fma(double, double, double) noexcept,
    ldexp(double, int) noexcept, frexp(double, int *) noexcept, modf(double, double *) noexcept;
float scalbnf(float, int) noexcept, j0f(float) noexcept, j1f(float) noexcept, y0f(float) noexcept, y1f(float) noexcept;
double scalbn(double, int) noexcept;
int ilogbf(float) noexcept, ilogb(double) noexcept;
long lrintf(float) noexcept, lroundf(float) noexcept, lrint(double) noexcept, lround(double) noexcept;
void *memcpy(void *, const void *, size_t) noexcept;
void *memset(void *, int, size_t) noexcept;
}
#endif

namespace invar_shim {

/* sin(π·x) and cos(π·x), from the exact remainder of x by 2, in double. */
inline float invar_sinpi(float x) {
    float rest = x - 2 * ::rintf(x * 0.5f);
    if (rest == 0 || ::fabsf(rest) == 1) return ::copysignf(0.0f, x);
    return (float)::sin(3.14159265358979323846 * (double)rest);
}
inline float invar_cospi(float x) {
    float rest = ::fabsf(x - 2 * ::rintf(x * 0.5f));
    if (rest == 0.5f) return 0.0f;
    return (float)::cos(3.14159265358979323846 * (double)rest);
}
inline float invar_exp10(float x) { return (float)::exp2((double)x * 3.32192809488736234787); }

} // namespace invar_shim
