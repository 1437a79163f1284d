/* What MLX defines before every CUDA kernel besides the types: vector loads and stores, Limits, index arithmetic. */
namespace invar_shim {

/* No access of CUDA's is wider than 16 bytes, and arrays are sure to begin on no wider boundary (jit/alignment.c). */
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) AlignedVector {
    T val[N];
    T &operator[](int i) { return val[i]; }
    T operator[](int i) const { return val[i]; }
};
template <int N, class T> inline bool is_aligned(T *p) { return (uintptr_t)p % (N * sizeof(T)) == 0; }

/* Vector number `offset` of N elements. With size and stride: of an array of `size` elements, `stride` apart, and
 * `fallback` past its end. */
template <int N, class T> inline AlignedVector<T, N> unsafe_load_vector(const T *p, uint32_t offset) {
    return ((const AlignedVector<T, N> *)p)[offset];
}
template <int N, class T> inline AlignedVector<T, N> load_vector(const T *p, uint32_t offset) {
    AlignedVector<T, N> v;
    for (int i = 0; i < N; i++) v.val[i] = p[(size_t)offset * N + i];
    return v;
}
template <int N, class T, class Size>
inline AlignedVector<T, N> load_vector(const T *p, uint32_t offset, Size size, int64_t stride, invar_as<T> fallback) {
    AlignedVector<T, N> v;
    for (int i = 0; i < N; i++) {
        uint64_t at = (uint64_t)offset * N + (uint64_t)i;
        v.val[i] = at < (uint64_t)size ? p[(int64_t)at * stride] : fallback;
    }
    return v;
}
template <int N, class T, class Size>
inline AlignedVector<T, N> load_vector(const T *p, uint32_t offset, Size size, invar_as<T> fallback) {
    return load_vector<N>(p, offset, size, (int64_t)1, fallback);
}
template <int N, class T> inline void unsafe_store_vector(T *p, uint32_t offset, const AlignedVector<T, N> &v) {
    ((AlignedVector<T, N> *)p)[offset] = v;
}
template <int N, class T> inline void store_vector(T *p, uint32_t offset, const AlignedVector<T, N> &v) {
    for (int i = 0; i < N; i++) p[(size_t)offset * N + i] = v.val[i];
}
template <int N, class T, class Size>
inline void store_vector(T *p, uint32_t offset, const AlignedVector<T, N> &v, Size size, int64_t stride = 1) {
    for (int i = 0; i < N; i++) {
        uint64_t at = (uint64_t)offset * N + (uint64_t)i;
        if (at < (uint64_t)size) p[(int64_t)at * stride] = v.val[i];
    }
}

/* Infinities where the type has them. */
template <class T> struct Limits {
    static constexpr T max() {
        if constexpr (invar_is_real<T>) return numeric_limits<T>::infinity();
        else return numeric_limits<T>::max();
    }
    static constexpr T min() {
        if constexpr (invar_is_real<T>) return -numeric_limits<T>::infinity();
        else return numeric_limits<T>::min();
    }
    static constexpr T finite_max() { return numeric_limits<T>::max(); }
    static constexpr T finite_min() { return numeric_limits<T>::lowest(); }
};

template <class I = int64_t, class = invar_if<invar_is_integer<I>>>
inline I elem_to_loc(I elem, const int *shape, const int64_t *strides, int ndim) {
    return invar_elem_to_loc<I>(elem, shape, strides, ndim);
}
template <class I = int64_t>
inline tuple<I, I> elem_to_loc(I elem, const int *shape, const int64_t *a, const int64_t *b, int ndim) {
    return { invar_elem_to_loc<I>(elem, shape, a, ndim), invar_elem_to_loc<I>(elem, shape, b, ndim) };
}
template <class I = int64_t>
inline tuple<I, I, I> elem_to_loc(I elem, const int *shape, const int64_t *a, const int64_t *b, const int64_t *c, int ndim) {
    return { invar_elem_to_loc<I>(elem, shape, a, ndim), invar_elem_to_loc<I>(elem, shape, b, ndim),
             invar_elem_to_loc<I>(elem, shape, c, ndim) };
}
/* The rank is known when the kernel is compiled. */
template <int Rank, class I = int64_t> inline I elem_to_loc_nd(I elem, const int *shape, const int64_t *strides) {
    return invar_elem_to_loc<I>(elem, shape, strides, Rank);
}
template <int Rank, class I = int64_t>
inline tuple<I, I> elem_to_loc_nd(I elem, const int *shape, const int64_t *a, const int64_t *b) {
    return elem_to_loc<I>(elem, shape, a, b, Rank);
}
template <int Rank, class I = int64_t>
inline tuple<I, I, I> elem_to_loc_nd(I elem, const int *shape, const int64_t *a, const int64_t *b, const int64_t *c) {
    return elem_to_loc<I>(elem, shape, a, b, c, Rank);
}
template <int Dim, bool General = true, class Offset = size_t> struct LoopedElemToLoc : invar_walk<Offset> {
    using invar_walk<Offset>::invar_walk;
};

} // namespace invar_shim
