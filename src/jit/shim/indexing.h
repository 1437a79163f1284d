/* Where an element lies, from its row-contiguous number: MLX's elem_to_loc. */
namespace invar_shim {

template <class I = int64_t, class = invar_if<invar_is_integer<I>>>
inline I invar_elem_to_loc(I elem, const int *shape, const int64_t *strides, int ndim) {
    I place = 0;
    for (int axis = ndim - 1; axis >= 0 && elem > 0; axis--) {
        place += (elem % shape[axis]) * I(strides[axis]);
        elem /= shape[axis];
    }
    return place;
}

/* Steps through the elements in order. */
template <class Offset> struct invar_walk {
    int dim;
    Offset offset{ 0 };
    int64_t index{ 0 };
    invar_walk(int ndim) : dim(ndim) {}
    void next(const int *shape, const int64_t *strides) { next(1, shape, strides); }
    void next(int n, const int *shape, const int64_t *strides) {
        index += n;
        offset = Offset(invar_elem_to_loc<int64_t>(index, shape, strides, dim));
    }
    Offset location() const { return offset; }
};

} // namespace invar_shim
