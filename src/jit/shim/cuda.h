/* CUDA's constants, and on the CPU what NVRTC has by itself: vectors, dim3, the index names for functions of the header,
 * barriers of the block. */
namespace invar_shim {

#ifndef __CUDACC_RTC__

template <class T> struct invar_one {
    T x;
};
template <class T> struct alignas(2 * sizeof(T)) invar_two {
    T x, y;
};
template <class T> struct invar_three {
    T x, y, z;
};
template <class T> struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) invar_four {
    T x, y, z, w;
};

using char1 = invar_one<signed char>;
using char2 = invar_two<signed char>;
using char3 = invar_three<signed char>;
using char4 = invar_four<signed char>;
using uchar1 = invar_one<unsigned char>;
using uchar2 = invar_two<unsigned char>;
using uchar3 = invar_three<unsigned char>;
using uchar4 = invar_four<unsigned char>;
using short1 = invar_one<short>;
using short2 = invar_two<short>;
using short3 = invar_three<short>;
using short4 = invar_four<short>;
using ushort1 = invar_one<unsigned short>;
using ushort2 = invar_two<unsigned short>;
using ushort3 = invar_three<unsigned short>;
using ushort4 = invar_four<unsigned short>;
using int1 = invar_one<int>;
using int2 = invar_two<int>;
using int3 = invar_three<int>;
using int4 = invar_four<int>;
using uint1 = invar_one<unsigned>;
using uint2 = invar_two<unsigned>;
using uint4 = invar_four<unsigned>;
using long1 = invar_one<long>;
using long2 = invar_two<long>;
using long3 = invar_three<long>;
using long4 = invar_four<long>;
using ulong1 = invar_one<unsigned long>;
using ulong2 = invar_two<unsigned long>;
using ulong3 = invar_three<unsigned long>;
using ulong4 = invar_four<unsigned long>;
using longlong1 = invar_one<long long>;
using longlong2 = invar_two<long long>;
using longlong3 = invar_three<long long>;
using longlong4 = invar_four<long long>;
using ulonglong1 = invar_one<unsigned long long>;
using ulonglong2 = invar_two<unsigned long long>;
using ulonglong3 = invar_three<unsigned long long>;
using ulonglong4 = invar_four<unsigned long long>;
using float1 = invar_one<float>;
using float2 = invar_two<float>;
using float3 = invar_three<float>;
using float4 = invar_four<float>;
using double1 = invar_one<double>;
using double2 = invar_two<double>;
using double3 = invar_three<double>;
using double4 = invar_four<double>;
constexpr char1 make_char1(signed char x) { return { x }; }
constexpr char2 make_char2(signed char x, signed char y) { return { x, y }; }
constexpr char3 make_char3(signed char x, signed char y, signed char z) { return { x, y, z }; }
constexpr char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return { x, y, z, w }; }
constexpr uchar1 make_uchar1(unsigned char x) { return { x }; }
constexpr uchar2 make_uchar2(unsigned char x, unsigned char y) { return { x, y }; }
constexpr uchar3 make_uchar3(unsigned char x, unsigned char y, unsigned char z) { return { x, y, z }; }
constexpr uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return { x, y, z, w }; }
constexpr short1 make_short1(short x) { return { x }; }
constexpr short2 make_short2(short x, short y) { return { x, y }; }
constexpr short3 make_short3(short x, short y, short z) { return { x, y, z }; }
constexpr short4 make_short4(short x, short y, short z, short w) { return { x, y, z, w }; }
constexpr ushort1 make_ushort1(unsigned short x) { return { x }; }
constexpr ushort2 make_ushort2(unsigned short x, unsigned short y) { return { x, y }; }
constexpr ushort3 make_ushort3(unsigned short x, unsigned short y, unsigned short z) { return { x, y, z }; }
constexpr ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
    return { x, y, z, w };
}
constexpr int1 make_int1(int x) { return { x }; }
constexpr int2 make_int2(int x, int y) { return { x, y }; }
constexpr int3 make_int3(int x, int y, int z) { return { x, y, z }; }
constexpr int4 make_int4(int x, int y, int z, int w) { return { x, y, z, w }; }
constexpr uint1 make_uint1(unsigned x) { return { x }; }
constexpr uint2 make_uint2(unsigned x, unsigned y) { return { x, y }; }
constexpr uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return { x, y, z, w }; }
constexpr long1 make_long1(long x) { return { x }; }
constexpr long2 make_long2(long x, long y) { return { x, y }; }
constexpr long3 make_long3(long x, long y, long z) { return { x, y, z }; }
constexpr long4 make_long4(long x, long y, long z, long w) { return { x, y, z, w }; }
constexpr ulong1 make_ulong1(unsigned long x) { return { x }; }
constexpr ulong2 make_ulong2(unsigned long x, unsigned long y) { return { x, y }; }
constexpr ulong3 make_ulong3(unsigned long x, unsigned long y, unsigned long z) { return { x, y, z }; }
constexpr ulong4 make_ulong4(unsigned long x, unsigned long y, unsigned long z, unsigned long w) { return { x, y, z, w }; }
constexpr longlong1 make_longlong1(long long x) { return { x }; }
constexpr longlong2 make_longlong2(long long x, long long y) { return { x, y }; }
constexpr longlong3 make_longlong3(long long x, long long y, long long z) { return { x, y, z }; }
constexpr longlong4 make_longlong4(long long x, long long y, long long z, long long w) { return { x, y, z, w }; }
constexpr ulonglong1 make_ulonglong1(unsigned long long x) { return { x }; }
constexpr ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return { x, y }; }
constexpr ulonglong3 make_ulonglong3(unsigned long long x, unsigned long long y, unsigned long long z) {
    return { x, y, z };
}
constexpr ulonglong4 make_ulonglong4(unsigned long long x, unsigned long long y, unsigned long long z,
                                     unsigned long long w) {
    return { x, y, z, w };
}
constexpr float1 make_float1(float x) { return { x }; }
constexpr float2 make_float2(float x, float y) { return { x, y }; }
constexpr float3 make_float3(float x, float y, float z) { return { x, y, z }; }
constexpr float4 make_float4(float x, float y, float z, float w) { return { x, y, z, w }; }
constexpr double1 make_double1(double x) { return { x }; }
constexpr double2 make_double2(double x, double y) { return { x, y }; }
constexpr double3 make_double3(double x, double y, double z) { return { x, y, z }; }
constexpr double4 make_double4(double x, double y, double z, double w) { return { x, y, z, w }; }
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{ x, y, z }; }
};
constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return { x, y, z }; }

constexpr int warpSize = 32;

#endif

constexpr int WARP_SIZE = 32, MAX_NDIM = 10;
constexpr float CUDART_INF_F = invar_infinity, CUDART_NAN_F = invar_nan, CUDART_PI_F = 3.14159265358979323846f,
                CUDART_MAX_NORMAL_F = 0x1.fffffep127f, CUDART_MIN_DENORM_F = 0x1p-149f, CUDART_LN2_F = 0.693147181f,
                CUDART_L2E_F = 1.44269504f, CUDART_SQRT_TWO_F = 1.41421356f, CUDART_PIO2_F = 1.57079633f,
                INFINITY = invar_infinity, NAN = invar_nan, HUGE_VALF = invar_infinity;
constexpr double CUDART_INF = invar_infinity, CUDART_NAN = invar_nan, CUDART_PI = 3.14159265358979323846;
constexpr float FLT_MAX = 0x1.fffffep127f, FLT_MIN = 0x1p-126f, FLT_EPSILON = 0x1p-23f;
constexpr double DBL_MAX = 0x1.fffffffffffffp1023, DBL_MIN = 0x1p-1022, DBL_EPSILON = 0x1p-52;
constexpr double M_E = 2.71828182845904523536, M_LOG2E = 1.44269504088896340736, M_LOG10E = 0.434294481903251827651,
                 M_LN2 = 0.693147180559945309417, M_LN10 = 2.30258509299404568402, M_PI = 3.14159265358979323846,
                 M_PI_2 = 1.57079632679489661923, M_PI_4 = 0.785398163397448309616, M_1_PI = 0.318309886183790671538,
                 M_2_PI = 0.636619772367581343076, M_2_SQRTPI = 1.12837916709551257390, M_SQRT2 = 1.41421356237309504880,
                 M_SQRT1_2 = 0.707106781186547524401;
constexpr int CHAR_BIT = 8, SCHAR_MAX = 127, SCHAR_MIN = -128, UCHAR_MAX = 255, SHRT_MAX = 32767, SHRT_MIN = -32768,
              USHRT_MAX = 65535, INT_MAX = 0x7fffffff, INT_MIN = -0x7fffffff - 1;
constexpr unsigned UINT_MAX = 0xffffffffu;
constexpr long LONG_MAX = 0x7fffffffffffffffl, LONG_MIN = -0x7fffffffffffffffl - 1;
constexpr long long LLONG_MAX = 0x7fffffffffffffffll, LLONG_MIN = -0x7fffffffffffffffll - 1;
constexpr unsigned long ULONG_MAX = 0xfffffffffffffffful;
constexpr unsigned long long ULLONG_MAX = 0xffffffffffffffffull;

using uint = unsigned;
using uchar = unsigned char;
using ushort = unsigned short;
using ulong = unsigned long;

/* An array of MAX_NDIM, as shapes and strides come. */
template <class T> struct invar_axes {
    T invar_items[MAX_NDIM];
    constexpr T &operator[](int i) { return invar_items[i]; }
    constexpr const T &operator[](int i) const { return invar_items[i]; }
    constexpr T *data() { return invar_items; }
    constexpr const T *data() const { return invar_items; }
    static constexpr int size() { return MAX_NDIM; }
};
using Shape = invar_axes<int32_t>;
using Strides = invar_axes<int64_t>;

/* fmaxf and fminf give the number where the other is a NaN, and +0 is above -0, as the machine instruction has it. */
template <class T> constexpr T invar_fmax(T a, T b) {
    using U = invar_unsigned<T>;
    if (a == b) return invar_bits<T>((U)(invar_bits<U>(a) & invar_bits<U>(b)));
    return a < b || a != a ? b : a;
}
template <class T> constexpr T invar_fmin(T a, T b) {
    using U = invar_unsigned<T>;
    if (a == b) return invar_bits<T>((U)(invar_bits<U>(a) | invar_bits<U>(b)));
    return b < a || a != a ? b : a;
}
/* A float taken to an integer stops at the ends of the type; a NaN is 0. */
template <class I> inline I invar_to_integer(double x) {
    constexpr I top = (I)(~(invar_unsigned<I>)0 >> invar_is_signed<I>), bottom = (I)(-top - 1);
    if (x != x) return 0;
    if (x >= (double)top) return top;
    if (x <= (invar_is_signed<I> ? (double)bottom : 0.0)) return invar_is_signed<I> ? bottom : (I)0;
    return (I)x;
}
#ifndef __CUDACC_RTC__

/* threadIdx.x where no parameter of that name is at hand: read off the fibre's lane. Index: threadIdx, blockIdx, blockDim,
 * gridDim. A block of a CUDA kernel is always whole. */
template <int Index> inline const uint32_t *invar_index_of(const invar_position &position, const invar_launch &launch) {
    return Index == 0 ? position.local : Index == 1 ? position.group : Index == 2 ? launch.threadgroup : launch.groups;
}
template <int Index, int Axis> struct invar_index_axis {
    operator unsigned() const {
        const invar_lane *lane = invar_here(0).lane();
        return invar_index_of<Index>(lane->position, *lane->launch)[Axis];
    }
};
template <int Index> struct invar_index {
    invar_index_axis<Index, 0> x;
    invar_index_axis<Index, 1> y;
    invar_index_axis<Index, 2> z;
    operator uint3() const { return { x, y, z }; }
    operator dim3() const { return { x, y, z }; }
};
constexpr invar_index<0> threadIdx{};
constexpr invar_index<1> blockIdx{};
constexpr invar_index<2> blockDim{};
constexpr invar_index<3> gridDim{};

inline uint32_t invar_block_barrier(invar_here here, uint32_t vote) {
    return here.lane()->runtime->barrier(here.lane(), here.site, INVAR_MEMORY_ALL, vote);
}
inline void __syncthreads(invar_here here) { invar_block_barrier(here, 0); }
inline int __syncthreads_count(invar_here here, int yes) { return (int)invar_block_barrier(here, yes != 0); }
inline int __syncthreads_and(invar_here here, int yes) { return invar_block_barrier(here, yes == 0) == 0; }
inline int __syncthreads_or(invar_here here, int yes) { return invar_block_barrier(here, yes != 0) != 0; }

template <class Here> inline void __threadfence(const Here &here) { invar_fence(here); }
template <class Here> inline void __threadfence_block(const Here &here) { invar_fence(here); }
template <class Here> inline void __threadfence_system(const Here &here) { invar_fence(here); }
/* A thread that sleeps waits for another: let that one run. */
template <class Here> inline void __nanosleep(const Here &here, unsigned) {
    invar_atomic_begin(here, nullptr, 0, INVAR_ATOMIC_FENCE);
    invar_atomic_end(here, false);
}
inline void __trap() {
#ifdef INVAR_SHIM_CHECK
    invar_check_trap(nullptr);
#endif
    __builtin_trap();
}

/* Loads and stores with a cache's hint. */
template <class T> inline T __ldg(const T *p) { return *p; }
template <class T> inline T __ldca(const T *p) { return *p; }
template <class T> inline T __ldcg(const T *p) { return *p; }
template <class T> inline T __ldcs(const T *p) { return *p; }
template <class T> inline T __ldcv(const T *p) { return *(const volatile T *)p; }
template <class T> inline T __ldlu(const T *p) { return *p; }
template <class T> inline void __stwb(T *p, invar_as<T> x) { *p = x; }
template <class T> inline void __stcg(T *p, invar_as<T> x) { *p = x; }
template <class T> inline void __stcs(T *p, invar_as<T> x) { *p = x; }
template <class T> inline void __stwt(T *p, invar_as<T> x) { *p = x; }

#endif

} // namespace invar_shim
