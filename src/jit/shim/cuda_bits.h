/* CUDA's integer and conversion intrinsics on the CPU. */
namespace invar_shim {

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}
inline unsigned long long __brevll(unsigned long long x) {
    return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
/* Four bytes picked out of eight: nibble i of s names byte i, its top bit counts for nothing. */
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s) {
    uint64_t both = (uint64_t)y << 32 | x;
    unsigned picked = 0;
    for (int i = 0; i < 4; i++) picked |= (unsigned)(both >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return picked;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((uint64_t)high << 32 | low) << (by & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return (unsigned)(((uint64_t)high << 32 | low) >> (by & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned by) {
    return by >= 32 ? low : __funnelshift_l(low, high, by);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned by) {
    return by >= 32 ? high : __funnelshift_r(low, high, by);
}
inline int __mulhi(int x, int y) { return (int)((int64_t)x * y >> 32); }
inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
inline long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline int __mul24(int x, int y) { return ((int)((unsigned)x << 8) >> 8) * ((int)((unsigned)y << 8) >> 8); }
inline unsigned __umul24(unsigned x, unsigned y) { return (x & 0xffffff) * (y & 0xffffff); }
inline unsigned __sad(int x, int y, unsigned z) {
    return (x > y ? (unsigned)x - (unsigned)y : (unsigned)y - (unsigned)x) + z;
}
inline unsigned __usad(unsigned x, unsigned y, unsigned z) { return (x > y ? x - y : y - x) + z; }
inline int __hadd(int x, int y) { return (x & y) + ((x ^ y) >> 1); }
inline int __rhadd(int x, int y) { return (x | y) - ((x ^ y) >> 1); }
inline unsigned __uhadd(unsigned x, unsigned y) { return (x & y) + ((x ^ y) >> 1); }
inline unsigned __urhadd(unsigned x, unsigned y) { return (x | y) - ((x ^ y) >> 1); }
/* Products of four bytes each, added to c. */
template <class A, class B, class C> inline C invar_dp4a(uint32_t a, uint32_t b, C c) {
    for (int i = 0; i < 4; i++) c = (C)(c + (C)((int)(A)(a >> 8 * i) * (int)(B)(b >> 8 * i)));
    return c;
}
inline int __dp4a(int a, int b, int c) { return invar_dp4a<int8_t, int8_t>((uint32_t)a, (uint32_t)b, c); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) { return invar_dp4a<uint8_t, uint8_t>(a, b, c); }

inline int __float_as_int(float x) { return invar_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return invar_bits<unsigned>(x); }
inline float __int_as_float(int x) { return invar_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return invar_bits<float>(x); }
inline long long __double_as_longlong(double x) { return invar_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return invar_bits<double>(x); }
inline int __double2hiint(double x) { return (int)(invar_bits<uint64_t>(x) >> 32); }
inline int __double2loint(double x) { return (int)invar_bits<uint64_t>(x); }
inline double __hiloint2double(int high, int low) {
    return invar_bits<double>((uint64_t)(uint32_t)high << 32 | (uint32_t)low);
}

inline int __float2int_rn(float x) { return invar_to_integer<int>(::rintf(x)); }
inline int __float2int_rz(float x) { return invar_to_integer<int>(x); }
inline int __float2int_rd(float x) { return invar_to_integer<int>(::floorf(x)); }
inline int __float2int_ru(float x) { return invar_to_integer<int>(::ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return invar_to_integer<unsigned>(::rintf(x)); }
inline unsigned __float2uint_rz(float x) { return invar_to_integer<unsigned>(x); }
inline unsigned __float2uint_rd(float x) { return invar_to_integer<unsigned>(::floorf(x)); }
inline unsigned __float2uint_ru(float x) { return invar_to_integer<unsigned>(::ceilf(x)); }
inline long long __float2ll_rn(float x) { return invar_to_integer<long long>(::rintf(x)); }
inline long long __float2ll_rz(float x) { return invar_to_integer<long long>(x); }
inline unsigned long long __float2ull_rn(float x) { return invar_to_integer<unsigned long long>(::rintf(x)); }
inline unsigned long long __float2ull_rz(float x) { return invar_to_integer<unsigned long long>(x); }
inline int __double2int_rn(double x) { return invar_to_integer<int>(::rint(x)); }
inline int __double2int_rz(double x) { return invar_to_integer<int>(x); }
inline float __double2float_rn(double x) { return (float)x; }
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __ll2float_rn(long long x) { return (float)x; }
inline float __ull2float_rn(unsigned long long x) { return (float)x; }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return (double)x; }

} // namespace invar_shim
