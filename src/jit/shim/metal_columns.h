/* Metal's matrices: matrix<T, Columns, Rows>, float3x4 and the like, held as columns; a vector is a column where it stands
 * behind a matrix and a row where it stands before one. Sums run over ascending columns, or rows, as the Metal Shading
 * Language Specification writes them. */
namespace invar_shim {
namespace metal {

template <class T, int Columns, int Rows> struct matrix {
    vec<T, Rows> columns[Columns];

    matrix() = default;
    /* A number is put on the diagonal. */
    template <class S, class = invar_if<invar_is_scalar<S>>> explicit constexpr matrix(S diagonal) : columns{} {
        for (int i = 0; i < Columns && i < Rows; i++) columns[i][i] = T(diagonal);
    }
    template <class... V, class = invar_if<sizeof...(V) == Columns && ((invar_count<V> == Rows) && ...)>>
    constexpr matrix(const V &...v) : columns{ vec<T, Rows>(v)... } {}
    /* All elements, column by column. */
    template <class... S, class = invar_if<sizeof...(S) == Columns * Rows && (invar_is_scalar<S> && ...)>, class = void>
    constexpr matrix(S... s) : columns{} {
        int i = 0;
        ((columns[i / Rows][i % Rows] = T(s), i++), ...);
    }
    template <class U> explicit constexpr matrix(const matrix<U, Columns, Rows> &m) : columns{} {
        for (int i = 0; i < Columns; i++) columns[i] = vec<T, Rows>(m[i]);
    }
    constexpr vec<T, Rows> &operator[](int i) { return columns[i]; }
    constexpr const vec<T, Rows> &operator[](int i) const { return columns[i]; }
};

/* f of each pair of columns. */
template <class T, int C, int R, class F> constexpr matrix<T, C, R> invar_by_column(const matrix<T, C, R> &a, F f) {
    matrix<T, C, R> result(T(0));
    for (int i = 0; i < C; i++) result[i] = f(a[i], i);
    return result;
}
template <class T, int C, int R> constexpr matrix<T, C, R> operator+(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {
    return invar_by_column(a, [&](const vec<T, R> &column, int i) { return column + b[i]; });
}
template <class T, int C, int R> constexpr matrix<T, C, R> operator-(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {
    return invar_by_column(a, [&](const vec<T, R> &column, int i) { return column - b[i]; });
}
template <class T, int C, int R> constexpr matrix<T, C, R> operator-(const matrix<T, C, R> &a) {
    return invar_by_column(a, [](const vec<T, R> &column, int) { return -column; });
}
template <class T, int C, int R> constexpr matrix<T, C, R> operator*(const matrix<T, C, R> &a, invar_as<T> s) {
    return invar_by_column(a, [=](const vec<T, R> &column, int) { return column * s; });
}
template <class T, int C, int R> constexpr matrix<T, C, R> operator*(invar_as<T> s, const matrix<T, C, R> &a) { return a * s; }
template <class T, int C, int R> constexpr matrix<T, C, R> operator/(const matrix<T, C, R> &a, invar_as<T> s) {
    return invar_by_column(a, [=](const vec<T, R> &column, int) { return column / s; });
}
template <class T, int C, int R> constexpr vec<T, R> operator*(const matrix<T, C, R> &m, const vec<T, C> &v) {
    vec<T, R> sum = m[0] * v[0];
    for (int i = 1; i < C; i++) sum += m[i] * v[i];
    return sum;
}
template <class T, int C, int R> constexpr vec<T, C> operator*(const vec<T, R> &v, const matrix<T, C, R> &m) {
    vec<T, C> result(T(0));
    for (int i = 0; i < C; i++) {
        T sum = v[0] * m[i][0];
        for (int k = 1; k < R; k++) sum = sum + v[k] * m[i][k];
        result[i] = sum;
    }
    return result;
}
template <class T, int K, int R, int C> constexpr matrix<T, C, R> operator*(const matrix<T, K, R> &a, const matrix<T, C, K> &b) {
    matrix<T, C, R> result(T(0));
    for (int i = 0; i < C; i++) result[i] = a * b[i];
    return result;
}
template <class T, int C, int R, class B>
constexpr matrix<T, C, R> &operator+=(matrix<T, C, R> &a, const B &b) { return a = a + b; }
template <class T, int C, int R, class B>
constexpr matrix<T, C, R> &operator-=(matrix<T, C, R> &a, const B &b) { return a = a - b; }
template <class T, int C, int R, class B>
constexpr matrix<T, C, R> &operator*=(matrix<T, C, R> &a, const B &b) { return a = a * b; }
template <class T, int C, int R, class B>
constexpr matrix<T, C, R> &operator/=(matrix<T, C, R> &a, const B &b) { return a = a / b; }
template <class T, int C, int R> constexpr bool operator==(const matrix<T, C, R> &a, const matrix<T, C, R> &b) {
    bool same = true;
    for (int i = 0; i < C; i++)
        for (int k = 0; k < R; k++) same = same && a[i][k] == b[i][k];
    return same;
}
template <class T, int C, int R>
constexpr bool operator!=(const matrix<T, C, R> &a, const matrix<T, C, R> &b) { return !(a == b); }

template <class T, int C, int R> constexpr matrix<T, R, C> transpose(const matrix<T, C, R> &m) {
    matrix<T, R, C> result(T(0));
    for (int i = 0; i < C; i++)
        for (int k = 0; k < R; k++) result[k][i] = m[i][k];
    return result;
}
/* Two by two, and by the first column's minors from there on. */
template <class T> constexpr T determinant(const matrix<T, 2, 2> &m) { return m[0].x * m[1].y - m[1].x * m[0].y; }
template <class T, int N> constexpr T determinant(const matrix<T, N, N> &m) {
    T sum = T(0);
    for (int row = 0; row < N; row++) {
        matrix<T, N - 1, N - 1> minor(T(0));
        for (int i = 1; i < N; i++)
            for (int k = 0; k < N - 1; k++) minor[i - 1][k] = m[i][k < row ? k : k + 1];
        T term = m[0][row] * determinant(minor);
        sum = row % 2 ? sum - term : sum + term;
    }
    return sum;
}

using float2x2 = matrix<float, 2, 2>; using float2x3 = matrix<float, 2, 3>; using float2x4 = matrix<float, 2, 4>;
using float3x2 = matrix<float, 3, 2>; using float3x3 = matrix<float, 3, 3>; using float3x4 = matrix<float, 3, 4>;
using float4x2 = matrix<float, 4, 2>; using float4x3 = matrix<float, 4, 3>; using float4x4 = matrix<float, 4, 4>;
using half2x2 = matrix<half, 2, 2>; using half2x3 = matrix<half, 2, 3>; using half2x4 = matrix<half, 2, 4>;
using half3x2 = matrix<half, 3, 2>; using half3x3 = matrix<half, 3, 3>; using half3x4 = matrix<half, 3, 4>;
using half4x2 = matrix<half, 4, 2>; using half4x3 = matrix<half, 4, 3>; using half4x4 = matrix<half, 4, 4>;

} // namespace metal
} // namespace invar_shim
