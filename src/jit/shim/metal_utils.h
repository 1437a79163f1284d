/* What MLX defines before every Metal kernel besides the types: index arithmetic, ceildiv, cast_to. */
namespace invar_shim {
namespace metal {

template <class I = int64_t> inline I elem_to_loc(uint3 elem, const int *shape, const int64_t *strides, int ndim) {
    I place = elem.x * I(strides[ndim - 1]) + elem.y * I(strides[ndim - 2]);
    for (int axis = ndim - 3; axis >= 0; axis--) {
        place += (elem.z % shape[axis]) * I(strides[axis]);
        elem.z /= shape[axis];
    }
    return place;
}
template <class I = int64_t, class = invar_if<invar_is_integer<I>>>
inline I elem_to_loc(I elem, const int *shape, const int64_t *strides, int ndim) {
    return invar_elem_to_loc<I>(elem, shape, strides, ndim);
}
template <class I = int64_t> inline I elem_to_loc_1(uint elem, const int64_t &stride) { return elem * I(stride); }
template <class I = int64_t> inline I elem_to_loc_2(uint2 elem, const int64_t strides[2]) {
    return elem.x * I(strides[1]) + elem.y * I(strides[0]);
}
template <class I = int64_t> inline I elem_to_loc_3(uint3 elem, const int64_t strides[3]) {
    return elem.x * I(strides[2]) + elem.y * I(strides[1]) + elem.z * I(strides[0]);
}
/* Of two and three arrays of one shape. */
template <class I = int64_t>
inline vec<I, 2> elem_to_loc_2_nd(uint3 elem, const int *shape, const int64_t *a, const int64_t *b, int ndim) {
    return vec<I, 2>(metal::elem_to_loc<I>(elem, shape, a, ndim), metal::elem_to_loc<I>(elem, shape, b, ndim));
}
template <class I = int64_t>
inline vec<I, 3> elem_to_loc_3_nd(uint3 elem, const int *shape, const int64_t *a, const int64_t *b, const int64_t *c,
                                  int ndim) {
    return vec<I, 3>(metal::elem_to_loc<I>(elem, shape, a, ndim), metal::elem_to_loc<I>(elem, shape, b, ndim),
                     metal::elem_to_loc<I>(elem, shape, c, ndim));
}
template <int Dim, class Offset = size_t, bool General = true> struct LoopedElemToLoc : invar_walk<Offset> {
    using invar_walk<Offset>::invar_walk;
};

/* The ends of each type, infinities included. */
template <class T, bool Real = invar_is_real<T>> struct invar_ends {
    static constexpr T max = numeric_limits<T>::max(), min = numeric_limits<T>::min(), finite_max = max, finite_min = min;
};
template <class T> struct invar_ends<T, true> {
    static constexpr T max = numeric_limits<T>::infinity(), min = -max, finite_max = numeric_limits<T>::max(),
                       finite_min = -finite_max;
};
template <class T> struct Limits : invar_ends<T> {};

template <class N, class M> constexpr N ceildiv(N n, M m) { return (n + m - 1) / m; }

/* To bool: is any bit but the sign set? A NaN is true, and so is a denormal where the machine flushes them. */
template <class To, class From> constexpr To cast_to(From x) {
    if constexpr (invar_same<To, bool>) return x != From(0);
    else return static_cast<To>(x);
}

} // namespace metal
} // namespace invar_shim
