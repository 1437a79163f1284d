/* numeric_limits. */
namespace invar_shim {

template <class T, bool Integer = invar_is_integer<T>> struct invar_limits {};

template <class T> struct invar_limits<T, true> {
    static constexpr bool is_specialized = true, is_signed = invar_is_signed<T>, is_integer = true, is_exact = true,
                          has_infinity = false, has_quiet_NaN = false;
    static constexpr int radix = 2, digits = 8 * (int)sizeof(T) - is_signed, digits10 = digits * 301 / 1000;
    static constexpr T max() { return (T)((invar_unsigned<T>)~(invar_unsigned<T>)0 >> is_signed); }
    static constexpr T min() { return is_signed ? (T)(-max() - 1) : T(0); }
    static constexpr T lowest() { return min(); }
    static constexpr T epsilon() { return T(0); }
    static constexpr T infinity() { return T(0); }
    static constexpr T quiet_NaN() { return T(0); }
};
template <> struct invar_limits<bool, false> {
    static constexpr bool is_specialized = true, is_signed = false, is_integer = true, is_exact = true,
                          has_infinity = false, has_quiet_NaN = false;
    static constexpr int radix = 2, digits = 1, digits10 = 0;
    static constexpr bool max() { return true; }
    static constexpr bool min() { return false; }
    static constexpr bool lowest() { return false; }
};

/* Digits, exponents as in <float.h>, and the bit patterns of a floating-point type. */
template <class T, class Bits, int Digits, int Least, int Greatest, Bits Largest, Bits Smallest, Bits Epsilon, Bits Infinity,
          Bits Nan>
struct invar_real_limits {
    static constexpr bool is_specialized = true, is_signed = true, is_integer = false, is_exact = false, is_iec559 = true,
                          has_infinity = true, has_quiet_NaN = true;
    static constexpr int radix = 2, digits = Digits, digits10 = (Digits - 1) * 301 / 1000,
                         max_digits10 = 2 + Digits * 301 / 1000, min_exponent = Least, max_exponent = Greatest;
    static constexpr T max() { return invar_bits<T>(Largest); }
    static constexpr T min() { return invar_bits<T>(Smallest); }
    static constexpr T lowest() { return -max(); }
    static constexpr T epsilon() { return invar_bits<T>(Epsilon); }
    static constexpr T round_error() { return T(0.5f); }
    static constexpr T infinity() { return invar_bits<T>(Infinity); }
    static constexpr T quiet_NaN() { return invar_bits<T>(Nan); }
    static constexpr T denorm_min() { return invar_bits<T>((Bits)1); }
};
template <>
struct invar_limits<float, false> : invar_real_limits<float, uint32_t, 24, -125, 128, 0x7f7fffff, 0x00800000, 0x34000000,
                                                      0x7f800000, 0x7fc00000> {};
template <>
struct invar_limits<double, false>
    : invar_real_limits<double, uint64_t, 53, -1021, 1024, 0x7fefffffffffffff, 0x0010000000000000, 0x3cb0000000000000,
                        0x7ff0000000000000, 0x7ff8000000000000> {};
template <class F>
struct invar_limits<invar_narrow<F>, false>
    : invar_real_limits<invar_narrow<F>, uint16_t, F::digits, F::least, F::greatest, F::largest, F::smallest, F::epsilon,
                        F::infinity, F::nan> {};

template <class T> struct numeric_limits : invar_limits<T> {};
template <class T> struct numeric_limits<const T> : invar_limits<T> {};
template <class T> struct numeric_limits<volatile T> : invar_limits<T> {};


} // namespace invar_shim
