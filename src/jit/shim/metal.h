/* Metal's types and constants; its macros are those that jit/branches.c knows of. */
#define __METAL__ 1
#define __METAL_VERSION__ 320
#define __HAVE_BFLOAT__ 1
namespace invar_shim {
namespace metal {

using int8_t = char;
using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned;
using ulong = unsigned long;
using half = invar_narrow<invar_binary16>;
using bfloat = invar_narrow<invar_brain16>;
using float16_t = half;
using bfloat16_t = bfloat;
using float32_t = float;
using namespace invar_shim;

/* Both sets of names, for all functions of metal. */
namespace fast {
using namespace invar_shim::metal;
}
namespace precise {
using namespace invar_shim::metal;
}

using bool2 = vec<bool, 2>; using bool3 = vec<bool, 3>; using bool4 = vec<bool, 4>;
using char2 = vec<char, 2>; using char3 = vec<char, 3>; using char4 = vec<char, 4>;
using uchar2 = vec<uchar, 2>; using uchar3 = vec<uchar, 3>; using uchar4 = vec<uchar, 4>;
using short2 = vec<short, 2>; using short3 = vec<short, 3>; using short4 = vec<short, 4>;
using ushort2 = vec<ushort, 2>; using ushort3 = vec<ushort, 3>; using ushort4 = vec<ushort, 4>;
using int2 = vec<int, 2>; using int3 = vec<int, 3>; using int4 = vec<int, 4>;
using uint2 = vec<uint, 2>; using uint3 = vec<uint, 3>; using uint4 = vec<uint, 4>;
using long2 = vec<long, 2>; using long3 = vec<long, 3>; using long4 = vec<long, 4>;
using ulong2 = vec<ulong, 2>; using ulong3 = vec<ulong, 3>; using ulong4 = vec<ulong, 4>;
using half2 = vec<half, 2>; using half3 = vec<half, 3>; using half4 = vec<half, 4>;
using bfloat2 = vec<bfloat, 2>; using bfloat3 = vec<bfloat, 3>; using bfloat4 = vec<bfloat, 4>;
using float2 = vec<float, 2>; using float3 = vec<float, 3>; using float4 = vec<float, 4>;
using packed_char2 = packed_vec<char, 2>; using packed_char3 = packed_vec<char, 3>;
using packed_char4 = packed_vec<char, 4>;
using packed_uchar2 = packed_vec<uchar, 2>; using packed_uchar3 = packed_vec<uchar, 3>;
using packed_uchar4 = packed_vec<uchar, 4>;
using packed_short2 = packed_vec<short, 2>; using packed_short3 = packed_vec<short, 3>;
using packed_short4 = packed_vec<short, 4>;
using packed_ushort2 = packed_vec<ushort, 2>; using packed_ushort3 = packed_vec<ushort, 3>;
using packed_ushort4 = packed_vec<ushort, 4>;
using packed_int2 = packed_vec<int, 2>; using packed_int3 = packed_vec<int, 3>;
using packed_int4 = packed_vec<int, 4>;
using packed_uint2 = packed_vec<uint, 2>; using packed_uint3 = packed_vec<uint, 3>;
using packed_uint4 = packed_vec<uint, 4>;
using packed_long2 = packed_vec<long, 2>; using packed_long3 = packed_vec<long, 3>;
using packed_long4 = packed_vec<long, 4>;
using packed_ulong2 = packed_vec<ulong, 2>; using packed_ulong3 = packed_vec<ulong, 3>;
using packed_ulong4 = packed_vec<ulong, 4>;
using packed_half2 = packed_vec<half, 2>; using packed_half3 = packed_vec<half, 3>;
using packed_half4 = packed_vec<half, 4>;
using packed_bfloat2 = packed_vec<bfloat, 2>; using packed_bfloat3 = packed_vec<bfloat, 3>;
using packed_bfloat4 = packed_vec<bfloat, 4>;
using packed_float2 = packed_vec<float, 2>; using packed_float3 = packed_vec<float, 3>;
using packed_float4 = packed_vec<float, 4>;

constexpr float INFINITY = invar_infinity, NAN = invar_nan, HUGE_VALF = invar_infinity, MAXFLOAT = 0x1.fffffep127f;
constexpr half HUGE_VALH = half::invar_exactly{ 0x7c00 };
constexpr float M_E_F = 2.71828182845904523536028747135266250f, M_LOG2E_F = 1.44269504088896340735992468100189214f,
                M_LOG10E_F = 0.434294481903251827651128918916605082f, M_LN2_F = 0.693147180559945309417232121458176568f,
                M_LN10_F = 2.30258509299404568401799145468436421f, M_PI_F = 3.14159265358979323846264338327950288f,
                M_PI_2_F = 1.57079632679489661923132169163975144f, M_PI_4_F = 0.785398163397448309615660845819875721f,
                M_1_PI_F = 0.318309886183790671537767526745028724f, M_2_PI_F = 0.636619772367581343075535053490057448f,
                M_2_SQRTPI_F = 1.12837916709551257389615890312154517f, M_SQRT2_F = 1.41421356237309504880168872420969808f,
                M_SQRT1_2_F = 0.707106781186547524400844362104849039f;
constexpr half M_E_H = M_E_F, M_LOG2E_H = M_LOG2E_F, M_LOG10E_H = M_LOG10E_F, M_LN2_H = M_LN2_F, M_LN10_H = M_LN10_F,
               M_PI_H = M_PI_F, M_PI_2_H = M_PI_2_F, M_PI_4_H = M_PI_4_F, M_1_PI_H = M_1_PI_F, M_2_PI_H = M_2_PI_F,
               M_2_SQRTPI_H = M_2_SQRTPI_F, M_SQRT2_H = M_SQRT2_F, M_SQRT1_2_H = M_SQRT1_2_F, MAXHALF = 65504.0f;
constexpr int FLT_DIG = 6, FLT_MANT_DIG = 24, FLT_MAX_EXP = 128, FLT_MIN_EXP = -125, FLT_RADIX = 2;
constexpr float FLT_MAX = 0x1.fffffep127f, FLT_MIN = 0x1p-126f, FLT_EPSILON = 0x1p-23f;
constexpr int HALF_DIG = 3, HALF_MANT_DIG = 11, HALF_MAX_EXP = 16, HALF_MIN_EXP = -13, HALF_RADIX = 2;
constexpr half HALF_MAX = 65504.0f, HALF_MIN = 0x1p-14f, HALF_EPSILON = 0x1p-10f;
constexpr int CHAR_BIT = 8, SCHAR_MAX = 127, SCHAR_MIN = -128, CHAR_MAX = 127, CHAR_MIN = -128, UCHAR_MAX = 255,
              SHRT_MAX = 32767, SHRT_MIN = -32768, USHRT_MAX = 65535, INT_MAX = 0x7fffffff, INT_MIN = -0x7fffffff - 1;
constexpr uint UINT_MAX = 0xffffffffu;
constexpr long LONG_MAX = 0x7fffffffffffffffl, LONG_MIN = -0x7fffffffffffffffl - 1;
constexpr ulong ULONG_MAX = 0xfffffffffffffffful;

/* What jit/arms.c makes of `c ? a : b`. An arm that is half or bfloat becomes an invar_armed, to which integers convert and
 * which converts to float: then C++ knows what to do with half beside int, which gives half, and half beside float. */
template <class F> struct invar_armed {
    invar_narrow<F> value;
    constexpr invar_armed(invar_narrow<F> x) : value(x) {}
    template <class I, class = invar_if<invar_is_integer<I> || invar_same<I, bool>>>
    constexpr invar_armed(I x) : value(x) {}
    template <class T, class = invar_if<invar_same<T, float>>> constexpr operator T() const { return value; }
};
struct invar_arm_of {
    template <class F> constexpr invar_armed<F> operator=(invar_narrow<F> x) const { return x; }
    template <class T, class = invar_if<invar_is_scalar<T> && !invar_is_narrow<T>>> constexpr T operator=(T x) const {
        return x;
    }
    template <class T, class = invar_if<!invar_is_scalar<invar_plain<T>>>> constexpr T operator=(T &&x) const {
        return static_cast<T &&>(x);
    }
};
struct invar_choice_of {
    template <class F> constexpr invar_narrow<F> operator=(invar_armed<F> x) const { return x.value; }
    template <class T> constexpr T operator=(T &&x) const { return static_cast<T &&>(x); }
};
constexpr invar_arm_of invar_arm{};
constexpr invar_choice_of invar_choice{};

/* The bits of one type as another of its size. */
template <class To, class From> constexpr To as_type(const From &x) { return invar_bits<To>(x); }

/* The names and values that barriers and atomics take. */
enum class mem_flags {
    mem_none = 0,
    mem_device = 1,
    mem_threadgroup = 2,
    mem_texture = 4,
    mem_threadgroup_imageblock = 8,
    mem_object_data = 16
};
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return (mem_flags)((int)a | (int)b); }
constexpr mem_flags operator&(mem_flags a, mem_flags b) { return (mem_flags)((int)a & (int)b); }

enum memory_order { memory_order_relaxed, memory_order_acquire, memory_order_release, memory_order_acq_rel,
                    memory_order_seq_cst };
enum thread_scope { thread_scope_thread, thread_scope_simdgroup, thread_scope_threadgroup, thread_scope_device,
                    thread_scope_system };

/* Has the layout of T, since kernels cast a pointer to T to one. */
template <class T> struct atomic {
    T invar_value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_long = atomic<long>;
using atomic_ulong = atomic<ulong>;
using atomic_float = atomic<float>;
using atomic_bool = atomic<bool>;

} // namespace metal
} // namespace invar_shim
