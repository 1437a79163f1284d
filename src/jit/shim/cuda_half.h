/* cuda_fp16.h and cuda_bf16.h: __half, __nv_bfloat16, pairs of them, and their intrinsics. Every function rounds once, to
 * nearest even. Where __half2 appears in a name of CUDA's, the function takes either pair. */
namespace invar_shim {

using __half = invar_narrow<invar_binary16>;
using half = __half;
using __nv_bfloat16 = invar_narrow<invar_brain16>;
using nv_bfloat16 = __nv_bfloat16;

/* Their bits, which code that takes them apart is written with. */
template <class F> struct invar_raw {
    unsigned short x;
    invar_raw() = default;
    constexpr invar_raw(unsigned short bits) : x(bits) {}
    constexpr invar_raw(invar_narrow<F> value) : x(value.invar_pattern) {}
    constexpr operator invar_narrow<F>() const { return typename invar_narrow<F>::invar_exactly{ x }; }
};
using __half_raw = invar_raw<invar_binary16>;
using __nv_bfloat16_raw = invar_raw<invar_brain16>;

template <class F> struct alignas(4) invar_pair {
    invar_narrow<F> x, y;
    invar_pair() = default;
    constexpr invar_pair(invar_narrow<F> a, invar_narrow<F> b) : x(a), y(b) {}
};
using __half2 = invar_pair<invar_binary16>;
using half2 = __half2;
using __nv_bfloat162 = invar_pair<invar_brain16>;
using nv_bfloat162 = __nv_bfloat162;

template <class F> inline invar_pair<F> operator-(invar_pair<F> a) { return { -a.x, -a.y }; }
template <class F> inline invar_pair<F> operator+(invar_pair<F> a, invar_pair<F> b) { return { a.x + b.x, a.y + b.y }; }
template <class F> inline invar_pair<F> operator-(invar_pair<F> a, invar_pair<F> b) { return { a.x - b.x, a.y - b.y }; }
template <class F> inline invar_pair<F> operator*(invar_pair<F> a, invar_pair<F> b) { return { a.x * b.x, a.y * b.y }; }
template <class F> inline invar_pair<F> operator/(invar_pair<F> a, invar_pair<F> b) { return { a.x / b.x, a.y / b.y }; }
template <class F> inline invar_pair<F> &operator+=(invar_pair<F> &a, invar_pair<F> b) { return a = a + b; }
template <class F> inline invar_pair<F> &operator-=(invar_pair<F> &a, invar_pair<F> b) { return a = a - b; }
template <class F> inline invar_pair<F> &operator*=(invar_pair<F> &a, invar_pair<F> b) { return a = a * b; }
template <class F> inline invar_pair<F> &operator/=(invar_pair<F> &a, invar_pair<F> b) { return a = a / b; }
template <class F> inline bool operator==(invar_pair<F> a, invar_pair<F> b) { return a.x == b.x && a.y == b.y; }
template <class F> inline bool operator!=(invar_pair<F> a, invar_pair<F> b) { return !(a == b); }

constexpr __half CUDART_INF_FP16 = invar_infinity, CUDART_NAN_FP16 = __half::invar_exactly{ 0x7fff }, CUDART_ONE_FP16 = 1,
                 CUDART_ZERO_FP16 = 0, CUDART_MAX_NORMAL_FP16 = 65504.0f;
constexpr __nv_bfloat16 CUDART_INF_BF16 = invar_infinity, CUDART_NAN_BF16 = __nv_bfloat16::invar_exactly{ 0x7fff },
                        CUDART_ONE_BF16 = 1, CUDART_ZERO_BF16 = 0;

/* ---- conversions ---- */

inline __half __float2half(float x) { return x; }
inline __half __float2half_rn(float x) { return x; }
inline __half __double2half(double x) { return x; }
inline float __half2float(__half x) { return x; }
inline __half __int2half_rn(int x) { return x; }
inline __half __uint2half_rn(unsigned x) { return x; }
inline __half __short2half_rn(short x) { return x; }
inline __half __ushort2half_rn(unsigned short x) { return x; }
inline __half __ll2half_rn(long long x) { return x; }
inline __half __ull2half_rn(unsigned long long x) { return x; }
inline int __half2int_rn(__half x) { return invar_to_integer<int>(::rintf(x)); }
inline int __half2int_rz(__half x) { return invar_to_integer<int>((float)x); }
inline unsigned __half2uint_rn(__half x) { return invar_to_integer<unsigned>(::rintf(x)); }
inline unsigned __half2uint_rz(__half x) { return invar_to_integer<unsigned>((float)x); }
inline short __half2short_rn(__half x) { return invar_to_integer<short>(::rintf(x)); }
inline short __half2short_rz(__half x) { return invar_to_integer<short>((float)x); }
inline unsigned short __half2ushort_rn(__half x) { return invar_to_integer<unsigned short>(::rintf(x)); }
inline unsigned short __half2ushort_rz(__half x) { return invar_to_integer<unsigned short>((float)x); }
inline unsigned short __half_as_ushort(__half x) { return x.invar_pattern; }
inline short __half_as_short(__half x) { return (short)x.invar_pattern; }
inline __half __ushort_as_half(unsigned short x) { return invar_bits<__half>(x); }
inline __half __short_as_half(short x) { return invar_bits<__half>(x); }
inline __half2 __floats2half2_rn(float x, float y) { return { x, y }; }
inline __half2 __float2half2_rn(float x) { return { x, x }; }
inline __half2 __float22half2_rn(float2 v) { return { v.x, v.y }; }
inline float2 __half22float2(__half2 v) { return { v.x, v.y }; }
inline __half2 __halves2half2(__half x, __half y) { return { x, y }; }
inline __half2 __half2half2(__half x) { return { x, x }; }
inline __half2 make_half2(__half x, __half y) { return { x, y }; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline __half2 __low2half2(__half2 v) { return { v.x, v.x }; }
inline __half2 __high2half2(__half2 v) { return { v.y, v.y }; }
inline __half2 __lows2half2(__half2 a, __half2 b) { return { a.x, b.x }; }
inline __half2 __highs2half2(__half2 a, __half2 b) { return { a.y, b.y }; }
inline __nv_bfloat16 __float2bfloat16(float x) { return x; }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return x; }
inline __nv_bfloat16 __double2bfloat16(double x) { return x; }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
inline __nv_bfloat16 __int2bfloat16_rn(int x) { return x; }
inline __nv_bfloat16 __uint2bfloat16_rn(unsigned x) { return x; }
inline __nv_bfloat16 __short2bfloat16_rn(short x) { return x; }
inline __nv_bfloat16 __ushort2bfloat16_rn(unsigned short x) { return x; }
inline __nv_bfloat16 __ll2bfloat16_rn(long long x) { return x; }
inline __nv_bfloat16 __ull2bfloat16_rn(unsigned long long x) { return x; }
inline int __bfloat162int_rn(__nv_bfloat16 x) { return invar_to_integer<int>(::rintf(x)); }
inline int __bfloat162int_rz(__nv_bfloat16 x) { return invar_to_integer<int>((float)x); }
inline unsigned __bfloat162uint_rn(__nv_bfloat16 x) { return invar_to_integer<unsigned>(::rintf(x)); }
inline unsigned __bfloat162uint_rz(__nv_bfloat16 x) { return invar_to_integer<unsigned>((float)x); }
inline short __bfloat162short_rn(__nv_bfloat16 x) { return invar_to_integer<short>(::rintf(x)); }
inline short __bfloat162short_rz(__nv_bfloat16 x) { return invar_to_integer<short>((float)x); }
inline unsigned short __bfloat162ushort_rn(__nv_bfloat16 x) { return invar_to_integer<unsigned short>(::rintf(x)); }
inline unsigned short __bfloat162ushort_rz(__nv_bfloat16 x) { return invar_to_integer<unsigned short>((float)x); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.invar_pattern; }
inline short __bfloat16_as_short(__nv_bfloat16 x) { return (short)x.invar_pattern; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return invar_bits<__nv_bfloat16>(x); }
inline __nv_bfloat16 __short_as_bfloat16(short x) { return invar_bits<__nv_bfloat16>(x); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return { x, y }; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return { x, x }; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return { v.x, v.y }; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return { v.x, v.y }; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return { x, y }; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return { x, x }; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return { x, y }; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
inline __nv_bfloat162 __low2bfloat162(__nv_bfloat162 v) { return { v.x, v.x }; }
inline __nv_bfloat162 __high2bfloat162(__nv_bfloat162 v) { return { v.y, v.y }; }
inline __nv_bfloat162 __lows2bfloat162(__nv_bfloat162 a, __nv_bfloat162 b) { return { a.x, b.x }; }
inline __nv_bfloat162 __highs2bfloat162(__nv_bfloat162 a, __nv_bfloat162 b) { return { a.y, b.y }; }
template <class F> inline float __low2float(invar_pair<F> v) { return v.x; }
template <class F> inline float __high2float(invar_pair<F> v) { return v.y; }
template <class F> inline invar_pair<F> __lowhigh2highlow(invar_pair<F> v) { return { v.y, v.x }; }

/* ---- arithmetic ---- */

template <class F> inline invar_narrow<F> __hadd(invar_narrow<F> a, invar_narrow<F> b) { return a + b; }
template <class F> inline invar_pair<F> __hadd2(invar_pair<F> a, invar_pair<F> b) { return a + b; }
template <class F> inline invar_narrow<F> __hsub(invar_narrow<F> a, invar_narrow<F> b) { return a - b; }
template <class F> inline invar_pair<F> __hsub2(invar_pair<F> a, invar_pair<F> b) { return a - b; }
template <class F> inline invar_narrow<F> __hmul(invar_narrow<F> a, invar_narrow<F> b) { return a * b; }
template <class F> inline invar_pair<F> __hmul2(invar_pair<F> a, invar_pair<F> b) { return a * b; }
template <class F> inline invar_narrow<F> __hdiv(invar_narrow<F> a, invar_narrow<F> b) { return a / b; }
template <class F> inline invar_pair<F> __h2div(invar_pair<F> a, invar_pair<F> b) { return a / b; }
template <class F> inline invar_narrow<F> __hadd_rn(invar_narrow<F> a, invar_narrow<F> b) { return __hadd(a, b); }
template <class F> inline invar_narrow<F> __hsub_rn(invar_narrow<F> a, invar_narrow<F> b) { return __hsub(a, b); }
template <class F> inline invar_narrow<F> __hmul_rn(invar_narrow<F> a, invar_narrow<F> b) { return __hmul(a, b); }
template <class F> inline invar_narrow<F> __hadd_sat(invar_narrow<F> a, invar_narrow<F> b) { return __saturatef(a + b); }
template <class F> inline invar_narrow<F> __hmul_sat(invar_narrow<F> a, invar_narrow<F> b) { return __saturatef(a * b); }
template <class F> inline invar_narrow<F> __hfma(invar_narrow<F> a, invar_narrow<F> b, invar_narrow<F> c) {
    return invar_narrow_fma(a, b, c);
}
template <class F> inline invar_pair<F> __hfma2(invar_pair<F> a, invar_pair<F> b, invar_pair<F> c) {
    return { __hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y) };
}
template <class F> inline invar_narrow<F> __hfma_relu(invar_narrow<F> a, invar_narrow<F> b, invar_narrow<F> c) {
    invar_narrow<F> sum = __hfma(a, b, c);
    return sum < 0 ? invar_narrow<F>(0) : sum;
}
template <class F> inline invar_narrow<F> __hneg(invar_narrow<F> a) { return -a; }
template <class F> inline invar_pair<F> __hneg2(invar_pair<F> a) { return -a; }
template <class F> inline invar_narrow<F> __habs(invar_narrow<F> a) {
    return invar_bits<invar_narrow<F>>((uint16_t)(a.invar_pattern & 0x7fff));
}
template <class F> inline invar_pair<F> __habs2(invar_pair<F> a) { return { __habs(a.x), __habs(a.y) }; }
template <class F> inline invar_narrow<F> __hmax(invar_narrow<F> a, invar_narrow<F> b) {
    return invar_fmax((float)a, (float)b);
}
template <class F> inline invar_pair<F> __hmax2(invar_pair<F> a, invar_pair<F> b) {
    return { __hmax(a.x, b.x), __hmax(a.y, b.y) };
}
template <class F> inline invar_narrow<F> __hmax_nan(invar_narrow<F> a, invar_narrow<F> b) {
    return a != a || b != b ? invar_narrow<F>(invar_nan) : __hmax(a, b);
}
template <class F> inline invar_narrow<F> __hmin(invar_narrow<F> a, invar_narrow<F> b) {
    return invar_fmin((float)a, (float)b);
}
template <class F> inline invar_pair<F> __hmin2(invar_pair<F> a, invar_pair<F> b) {
    return { __hmin(a.x, b.x), __hmin(a.y, b.y) };
}
template <class F> inline invar_narrow<F> __hmin_nan(invar_narrow<F> a, invar_narrow<F> b) {
    return a != a || b != b ? invar_narrow<F>(invar_nan) : __hmin(a, b);
}
template <class F> inline bool __heq(invar_narrow<F> a, invar_narrow<F> b) { return a == b; }
template <class F> inline bool __hbeq2(invar_pair<F> a, invar_pair<F> b) { return __heq(a.x, b.x) && __heq(a.y, b.y); }
template <class F> inline bool __hne(invar_narrow<F> a, invar_narrow<F> b) { return a == a && b == b && a != b; }
template <class F> inline bool __hbne2(invar_pair<F> a, invar_pair<F> b) { return __hne(a.x, b.x) && __hne(a.y, b.y); }
template <class F> inline bool __hlt(invar_narrow<F> a, invar_narrow<F> b) { return a < b; }
template <class F> inline bool __hblt2(invar_pair<F> a, invar_pair<F> b) { return __hlt(a.x, b.x) && __hlt(a.y, b.y); }
template <class F> inline bool __hle(invar_narrow<F> a, invar_narrow<F> b) { return a <= b; }
template <class F> inline bool __hble2(invar_pair<F> a, invar_pair<F> b) { return __hle(a.x, b.x) && __hle(a.y, b.y); }
template <class F> inline bool __hgt(invar_narrow<F> a, invar_narrow<F> b) { return a > b; }
template <class F> inline bool __hbgt2(invar_pair<F> a, invar_pair<F> b) { return __hgt(a.x, b.x) && __hgt(a.y, b.y); }
template <class F> inline bool __hge(invar_narrow<F> a, invar_narrow<F> b) { return a >= b; }
template <class F> inline bool __hbge2(invar_pair<F> a, invar_pair<F> b) { return __hge(a.x, b.x) && __hge(a.y, b.y); }
template <class F> inline invar_pair<F> __heq2(invar_pair<F> a, invar_pair<F> b) {
    return { __heq(a.x, b.x), __heq(a.y, b.y) };
}
template <class F> inline invar_pair<F> __hne2(invar_pair<F> a, invar_pair<F> b) {
    return { __hne(a.x, b.x), __hne(a.y, b.y) };
}
template <class F> inline invar_pair<F> __hlt2(invar_pair<F> a, invar_pair<F> b) {
    return { __hlt(a.x, b.x), __hlt(a.y, b.y) };
}
template <class F> inline invar_pair<F> __hle2(invar_pair<F> a, invar_pair<F> b) {
    return { __hle(a.x, b.x), __hle(a.y, b.y) };
}
template <class F> inline invar_pair<F> __hgt2(invar_pair<F> a, invar_pair<F> b) {
    return { __hgt(a.x, b.x), __hgt(a.y, b.y) };
}
template <class F> inline invar_pair<F> __hge2(invar_pair<F> a, invar_pair<F> b) {
    return { __hge(a.x, b.x), __hge(a.y, b.y) };
}
template <class F> inline bool __hisnan(invar_narrow<F> a) { return a != a; }
template <class F> inline int __hisinf(invar_narrow<F> a) {
    return (a.invar_pattern & 0x7fff) == F::infinity ? (a.invar_pattern >> 15 ? -1 : 1) : 0;
}

/* ---- functions, through float ---- */

template <class F> inline invar_narrow<F> hexp(invar_narrow<F> a) { return ::expf(a); }
template <class F> inline invar_pair<F> h2exp(invar_pair<F> a) { return { hexp(a.x), hexp(a.y) }; }
template <class F> inline invar_narrow<F> hexp2(invar_narrow<F> a) { return ::exp2f(a); }
template <class F> inline invar_pair<F> h2exp2(invar_pair<F> a) { return { hexp2(a.x), hexp2(a.y) }; }
template <class F> inline invar_narrow<F> hexp10(invar_narrow<F> a) { return invar_exp10(a); }
template <class F> inline invar_pair<F> h2exp10(invar_pair<F> a) { return { hexp10(a.x), hexp10(a.y) }; }
template <class F> inline invar_narrow<F> hlog(invar_narrow<F> a) { return ::logf(a); }
template <class F> inline invar_pair<F> h2log(invar_pair<F> a) { return { hlog(a.x), hlog(a.y) }; }
template <class F> inline invar_narrow<F> hlog2(invar_narrow<F> a) { return ::log2f(a); }
template <class F> inline invar_pair<F> h2log2(invar_pair<F> a) { return { hlog2(a.x), hlog2(a.y) }; }
template <class F> inline invar_narrow<F> hlog10(invar_narrow<F> a) { return ::log10f(a); }
template <class F> inline invar_pair<F> h2log10(invar_pair<F> a) { return { hlog10(a.x), hlog10(a.y) }; }
template <class F> inline invar_narrow<F> hsqrt(invar_narrow<F> a) { return ::sqrtf(a); }
template <class F> inline invar_pair<F> h2sqrt(invar_pair<F> a) { return { hsqrt(a.x), hsqrt(a.y) }; }
template <class F> inline invar_narrow<F> hrsqrt(invar_narrow<F> a) { return rsqrtf(a); }
template <class F> inline invar_pair<F> h2rsqrt(invar_pair<F> a) { return { hrsqrt(a.x), hrsqrt(a.y) }; }
template <class F> inline invar_narrow<F> hrcp(invar_narrow<F> a) { return 1.0f / a; }
template <class F> inline invar_pair<F> h2rcp(invar_pair<F> a) { return { hrcp(a.x), hrcp(a.y) }; }
template <class F> inline invar_narrow<F> hsin(invar_narrow<F> a) { return ::sinf(a); }
template <class F> inline invar_pair<F> h2sin(invar_pair<F> a) { return { hsin(a.x), hsin(a.y) }; }
template <class F> inline invar_narrow<F> hcos(invar_narrow<F> a) { return ::cosf(a); }
template <class F> inline invar_pair<F> h2cos(invar_pair<F> a) { return { hcos(a.x), hcos(a.y) }; }
template <class F> inline invar_narrow<F> htanh(invar_narrow<F> a) { return ::tanhf(a); }
template <class F> inline invar_pair<F> h2tanh(invar_pair<F> a) { return { htanh(a.x), htanh(a.y) }; }
template <class F> inline invar_narrow<F> hfloor(invar_narrow<F> a) { return ::floorf(a); }
template <class F> inline invar_pair<F> h2floor(invar_pair<F> a) { return { hfloor(a.x), hfloor(a.y) }; }
template <class F> inline invar_narrow<F> hceil(invar_narrow<F> a) { return ::ceilf(a); }
template <class F> inline invar_pair<F> h2ceil(invar_pair<F> a) { return { hceil(a.x), hceil(a.y) }; }
template <class F> inline invar_narrow<F> hrint(invar_narrow<F> a) { return ::rintf(a); }
template <class F> inline invar_pair<F> h2rint(invar_pair<F> a) { return { hrint(a.x), hrint(a.y) }; }
template <class F> inline invar_narrow<F> htrunc(invar_narrow<F> a) { return ::truncf(a); }
template <class F> inline invar_pair<F> h2trunc(invar_pair<F> a) { return { htrunc(a.x), htrunc(a.y) }; }

} // namespace invar_shim
