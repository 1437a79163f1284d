/* CUDA's arithmetic rounded towards zero, up and down, and the inverses of the error function, on the CPU. */
namespace invar_shim {

enum class invar_towards { zero, plus, minus };

/* The float next to `exact + error` on the side that is asked for; error is far smaller than exact's last bit. */
template <invar_towards Mode> inline float invar_directed(double exact, double error) {
    float near = (float)exact;
    double off = (double)near - exact;
    bool above = off > 0 || (off == 0 && error < 0), below = off < 0 || (off == 0 && error > 0);
    uint32_t bits = invar_bits<uint32_t>(near), magnitude = bits & 0x7fffffff;
    bool negative = exact < 0;
    bool down = Mode == invar_towards::minus || (Mode == invar_towards::zero && !negative);
    if (exact != exact || exact - exact != 0 || !(down ? above : below)) return near;
    if (magnitude == 0) return invar_bits<float>(down ? 0x80000001u : 1u);
    return invar_bits<float>(down == (bits >> 31 == 0) ? bits - 1 : bits + 1);
}
/* Knuth's two-sum and fma give what the double operation lost. */
template <invar_towards Mode> inline float invar_add_towards(double x, double y) {
    double sum = x + y, part = sum - x;
    return invar_directed<Mode>(sum, (x - (sum - part)) + (y - part));
}
template <invar_towards Mode> inline float invar_divide_towards(float x, float y) {
    double quotient = (double)x / y, rest = ::fma(-quotient, (double)y, (double)x);
    return invar_directed<Mode>(quotient, y < 0 ? -rest : rest);
}
template <invar_towards Mode> inline float invar_sqrt_towards(float x) {
    double root = ::sqrt((double)x);
    return invar_directed<Mode>(root, ::fma(-root, root, (double)x));
}

inline float __fadd_rz(float x, float y) { return invar_add_towards<invar_towards::zero>(x, y); }
inline float __fsub_rz(float x, float y) { return invar_add_towards<invar_towards::zero>(x, -y); }
inline float __fmul_rz(float x, float y) { return invar_directed<invar_towards::zero>((double)x * y, 0); }
inline float __fdiv_rz(float x, float y) { return invar_divide_towards<invar_towards::zero>(x, y); }
inline float __frcp_rz(float x) { return invar_divide_towards<invar_towards::zero>(1.0f, x); }
inline float __fsqrt_rz(float x) { return invar_sqrt_towards<invar_towards::zero>(x); }
inline float __fmaf_rz(float x, float y, float z) { return invar_add_towards<invar_towards::zero>((double)x * y, z); }
inline float __double2float_rz(double x) { return invar_directed<invar_towards::zero>(x, 0); }
inline float __fadd_ru(float x, float y) { return invar_add_towards<invar_towards::plus>(x, y); }
inline float __fsub_ru(float x, float y) { return invar_add_towards<invar_towards::plus>(x, -y); }
inline float __fmul_ru(float x, float y) { return invar_directed<invar_towards::plus>((double)x * y, 0); }
inline float __fdiv_ru(float x, float y) { return invar_divide_towards<invar_towards::plus>(x, y); }
inline float __frcp_ru(float x) { return invar_divide_towards<invar_towards::plus>(1.0f, x); }
inline float __fsqrt_ru(float x) { return invar_sqrt_towards<invar_towards::plus>(x); }
inline float __fmaf_ru(float x, float y, float z) { return invar_add_towards<invar_towards::plus>((double)x * y, z); }
inline float __double2float_ru(double x) { return invar_directed<invar_towards::plus>(x, 0); }
inline float __fadd_rd(float x, float y) { return invar_add_towards<invar_towards::minus>(x, y); }
inline float __fsub_rd(float x, float y) { return invar_add_towards<invar_towards::minus>(x, -y); }
inline float __fmul_rd(float x, float y) { return invar_directed<invar_towards::minus>((double)x * y, 0); }
inline float __fdiv_rd(float x, float y) { return invar_divide_towards<invar_towards::minus>(x, y); }
inline float __frcp_rd(float x) { return invar_divide_towards<invar_towards::minus>(1.0f, x); }
inline float __fsqrt_rd(float x) { return invar_sqrt_towards<invar_towards::minus>(x); }
inline float __fmaf_rd(float x, float y, float z) { return invar_add_towards<invar_towards::minus>((double)x * y, z); }
inline float __double2float_rd(double x) { return invar_directed<invar_towards::minus>(x, 0); }

/* y >= 0 where erfc(y) is c, 0 < c <= 1, or erf(y) is x = 1 - c where c is near 1: S. Winitzki's closed form, then Halley's
 * steps. */
inline double invar_erf_inverse(double x, double c) {
    constexpr double a = 0.147, pi = 3.14159265358979323846, half_root = 0.886226925452758013649;
    double w = ::log(c * (2 - c)), t = 2 / (pi * a) + w / 2;
    double y = x < 0.5 ? x * half_root : ::sqrt(::sqrt(t * t - w / a) - t);
    for (int step = 0; step < 4; step++) {
        double off = x < 0.5 ? x - ::erf(y) : ::erfc(y) - c;
        double s = off * half_root * ::exp(y * y);
        y += s / (1 - s * y);
    }
    return y;
}
inline float erfinvf(float x) {
    double size = ::fabs((double)x);
    if (!(size < 1)) return size == 1 ? x * invar_infinity : invar_nan;
    return ::copysignf((float)invar_erf_inverse(size, 1 - size), x);
}
inline float erfcinvf(float c) {
    if (!(c > 0 && c < 2)) return c == 0 ? invar_infinity : c == 2 ? -invar_infinity : invar_nan;
    return (float)(c <= 1 ? invar_erf_inverse(1 - (double)c, c) : -invar_erf_inverse((double)c - 1, 2 - (double)c));
}
inline float normcdfinvf(float p) {
    double c = 2 * (double)p;
    if (!(p > 0 && p < 1)) return p == 0 ? -invar_infinity : p == 1 ? invar_infinity : invar_nan;
    return (float)(1.41421356237309504880 * (c <= 1 ? -invar_erf_inverse(1 - c, c) : invar_erf_inverse(c - 1, 2 - c)));
}

} // namespace invar_shim
