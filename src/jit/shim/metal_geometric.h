/* Metal's geometric functions. Sums run from x to w. */
namespace invar_shim {
namespace metal {

template <class T, int N> constexpr T dot(const vec<T, N> &a, const vec<T, N> &b) {
    T sum = T(a.x * b.x);
    for (int i = 1; i < N; i++) sum = T(sum + T(invar_at(a, i) * invar_at(b, i)));
    return sum;
}
template <class T> constexpr vec<T, 3> cross(const vec<T, 3> &a, const vec<T, 3> &b) {
    return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
template <class T, int N> constexpr T length_squared(const vec<T, N> &a) { return dot(a, a); }
template <class T, int N> inline T length(const vec<T, N> &a) { return T(::sqrtf((float)dot(a, a))); }
template <class T, int N> constexpr T distance_squared(const vec<T, N> &a, const vec<T, N> &b) { return dot(a - b, a - b); }
template <class T, int N> inline T distance(const vec<T, N> &a, const vec<T, N> &b) { return length(a - b); }
template <class T, int N> inline vec<T, N> normalize(const vec<T, N> &a) { return a * T(1.0f / ::sqrtf((float)dot(a, a))); }
template <class T, int N> constexpr vec<T, N> faceforward(const vec<T, N> &n, const vec<T, N> &i, const vec<T, N> &r) {
    return dot(r, i) < T(0) ? n : -n;
}
template <class T, int N> constexpr vec<T, N> reflect(const vec<T, N> &i, const vec<T, N> &n) {
    return i - n * T(T(2) * dot(n, i));
}
template <class T, int N> inline vec<T, N> refract(const vec<T, N> &i, const vec<T, N> &n, invar_as<T> eta) {
    T cosine = dot(n, i), k = T(T(1) - eta * eta * (T(1) - cosine * cosine));
    return k < T(0) ? vec<T, N>(T(0)) : i * eta - n * T(eta * cosine + T(::sqrtf((float)k)));
}

} // namespace metal
} // namespace invar_shim
