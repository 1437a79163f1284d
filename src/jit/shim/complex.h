/* complex64_t as MLX defines it: arithmetic, and an order by the real part, then the imaginary one. */
namespace invar_shim {

template <class T> struct complex_t;
template <class T> constexpr bool is_complex_v = false;
template <class T> constexpr bool is_complex_v<complex_t<T>> = true;

template <class T> struct complex_t {
    using value_type = T;
    T real, imag;

    constexpr complex_t() : real(0), imag(0) {}
    template <class A, class B> constexpr complex_t(A re, B im) : real(T(re)), imag(T(im)) {}
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr complex_t(S x) : real(T(x)), imag(T(0)) {}
    template <class U> explicit constexpr complex_t(complex_t<U> z) : real(T(z.real)), imag(T(z.imag)) {}
    template <class S, class = invar_if<invar_is_scalar<S>>> explicit constexpr operator S() const { return S(real); }
};
using complex64_t = complex_t<float>;

template <class T> constexpr complex_t<T> operator-(complex_t<T> a) { return { -a.real, -a.imag }; }
template <class T> constexpr complex_t<T> operator+(complex_t<T> a, complex_t<T> b) {
    return { a.real + b.real, a.imag + b.imag };
}
template <class T> constexpr complex_t<T> operator-(complex_t<T> a, complex_t<T> b) {
    return { a.real - b.real, a.imag - b.imag };
}
template <class T> constexpr complex_t<T> operator*(complex_t<T> a, complex_t<T> b) {
    return { a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real };
}
/* Smith's division, which does not overflow where the plain formula would (Algorithm 116, CACM 1962). */
template <class T> constexpr complex_t<T> operator/(complex_t<T> a, complex_t<T> b) {
    float re = b.real, im = b.imag, re_size = re < 0 ? -re : re, im_size = im < 0 ? -im : im;
    if (re_size >= im_size) {
        float ratio = im / re, scale = re + im * ratio;
        return { (a.real + a.imag * ratio) / scale, (a.imag - a.real * ratio) / scale };
    }
    float ratio = re / im, scale = im + re * ratio;
    return { (a.real * ratio + a.imag) / scale, (a.imag * ratio - a.real) / scale };
}
/* Each part's remainder, with the divisor's sign. */
template <class T> constexpr T invar_floor_remainder(T a, T b) {
    T rest = a - b * (int64_t)(a / b);
    return rest != T(0) && (rest < T(0)) != (b < T(0)) ? T(rest + b) : rest;
}
template <class T> constexpr complex_t<T> operator%(complex_t<T> a, complex_t<T> b) {
    return { invar_floor_remainder(a.real, b.real), invar_floor_remainder(a.imag, b.imag) };
}

template <class T, class S> using invar_complex_if = invar_if<invar_is_scalar<S>, complex_t<T>>;
template <class T, class S> constexpr invar_complex_if<T, S> operator+(complex_t<T> a, S b) { return a + complex_t<T>(b); }
template <class T, class S> constexpr invar_complex_if<T, S> operator-(complex_t<T> a, S b) { return a - complex_t<T>(b); }
template <class T, class S> constexpr invar_complex_if<T, S> operator*(complex_t<T> a, S b) {
    return { a.real * b, a.imag * b };
}
template <class T, class S> constexpr invar_complex_if<T, S> operator/(complex_t<T> a, S b) {
    return { a.real / b, a.imag / b };
}
template <class T, class S> constexpr invar_complex_if<T, S> operator+(S a, complex_t<T> b) { return complex_t<T>(a) + b; }
template <class T, class S> constexpr invar_complex_if<T, S> operator-(S a, complex_t<T> b) { return complex_t<T>(a) - b; }
template <class T, class S> constexpr invar_complex_if<T, S> operator*(S a, complex_t<T> b) { return b * a; }
template <class T, class S> constexpr invar_complex_if<T, S> operator/(S a, complex_t<T> b) { return complex_t<T>(a) / b; }
template <class T, class B> constexpr complex_t<T> &operator+=(complex_t<T> &a, const B &b) { return a = a + b; }
template <class T, class B> constexpr complex_t<T> &operator-=(complex_t<T> &a, const B &b) { return a = a - b; }
template <class T, class B> constexpr complex_t<T> &operator*=(complex_t<T> &a, const B &b) { return a = a * b; }
template <class T, class B> constexpr complex_t<T> &operator/=(complex_t<T> &a, const B &b) { return a = a / b; }

template <class T> constexpr bool operator==(complex_t<T> a, complex_t<T> b) { return a.real == b.real && a.imag == b.imag; }
template <class T> constexpr bool operator!=(complex_t<T> a, complex_t<T> b) { return !(a == b); }
template <class T> constexpr bool operator>(complex_t<T> a, complex_t<T> b) {
    return a.real > b.real || (a.real == b.real && a.imag > b.imag);
}
template <class T> constexpr bool operator<(complex_t<T> a, complex_t<T> b) { return b > a; }
template <class T> constexpr bool operator>=(complex_t<T> a, complex_t<T> b) { return a > b || a == b; }
template <class T> constexpr bool operator<=(complex_t<T> a, complex_t<T> b) { return b >= a; }

} // namespace invar_shim
