/* Metal's simdgroup_matrix: 8 x 8, two elements a lane, laid out over the lanes as Apple's GPUs do (which kernels rely on
 * that touch thread_elements()). A product is summed in float, over ascending k, and rounded once. */
namespace invar_shim {
namespace metal {

/* Where lane n's first element is; the second is the next of its row. */
constexpr uint32_t invar_matrix_row(uint32_t lane) { return (lane >> 2 & 4) | (lane >> 1 & 3); }
constexpr uint32_t invar_matrix_column(uint32_t lane) { return (lane >> 1 & 4) | (lane << 1 & 2); }

template <class T, int Columns, int Rows = Columns> struct simdgroup_matrix {
    static_assert(Columns == 8 && Rows == 8, "a simdgroup_matrix is 8 x 8");
    using storage_type = vec<T, 2>;
    vec<T, 2> invar_elements;

    simdgroup_matrix() = default;
    explicit simdgroup_matrix(T diagonal) {
        uint32_t lane = invar_lane_number(invar_here(0)), row = invar_matrix_row(lane), column = invar_matrix_column(lane);
        invar_elements = vec<T, 2>(row == column ? diagonal : T(0), row == column + 1 ? diagonal : T(0));
    }
    vec<T, 2> &thread_elements() { return invar_elements; }
    const vec<T, 2> &thread_elements() const { return invar_elements; }
};
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int Columns, int Rows = Columns>
inline simdgroup_matrix<T, Columns, Rows> make_filled_simdgroup_matrix(T x) {
    simdgroup_matrix<T, Columns, Rows> matrix;
    matrix.invar_elements = vec<T, 2>(x);
    return matrix;
}

/* The place in memory of this lane's element number i. */
inline size_t invar_matrix_place(invar_here here, uint32_t i, ulong elements_per_row, ulong2 origin, bool transpose) {
    uint32_t lane = invar_lane_number(here), row = invar_matrix_row(lane), column = invar_matrix_column(lane) + i;
    if (transpose) return (origin.y + column) * elements_per_row + origin.x + row;
    return (origin.y + row) * elements_per_row + origin.x + column;
}
template <class T>
inline void simdgroup_load(invar_here here, simdgroup_matrix<T, 8, 8> &matrix, const T *source, ulong elements_per_row = 8,
                           ulong2 origin = 0, bool transpose = false) {
    for (uint32_t i = 0; i < 2; i++)
        matrix.invar_elements[(int)i] = source[invar_matrix_place(here, i, elements_per_row, origin, transpose)];
}
template <class T>
inline void simdgroup_store(invar_here here, const simdgroup_matrix<T, 8, 8> &matrix, T *target, ulong elements_per_row = 8,
                            ulong2 origin = 0, bool transpose = false) {
    for (uint32_t i = 0; i < 2; i++)
        target[invar_matrix_place(here, i, elements_per_row, origin, transpose)] = matrix.invar_elements[(int)i];
}

#ifdef __CUDACC_RTC__

/* Lane that holds an element, and the element itself, read from it. */
template <class T> inline float invar_matrix_element(invar_here here, const vec<T, 2> &mine, uint32_t row, uint32_t column) {
    uint32_t lane = (row & 4) << 2 | (row & 3) << 1 | (column & 4) << 1 | (column & 2) >> 1;
    vec<T, 2> both = invar_fetch(here, 0, mine, lane);
    return (float)(column & 1 ? both.y : both.x);
}
template <class A, class B, class C>
inline vec<float, 2> invar_matrix_product(invar_here here, const vec<A, 2> &a, const vec<B, 2> &b, const vec<C, 2> &c) {
    uint32_t lane = invar_lane_number(here), row = invar_matrix_row(lane), column = invar_matrix_column(lane);
    vec<float, 2> sum(c);
    for (uint32_t k = 0; k < 8; k++) {
        float factor = invar_matrix_element(here, a, row, k);
        sum.x += factor * invar_matrix_element(here, b, k, column);
        sum.y += factor * invar_matrix_element(here, b, k, column + 1);
    }
    return sum;
}

#else

template <class A, class B, class C> struct invar_matrix_operands {
    vec<A, 2> a;
    vec<B, 2> b;
    vec<C, 2> c;
};
template <class A, class B, class C> void invar_multiply_matrices(const invar_exchange *exchange) {
    using operands = invar_matrix_operands<A, B, C>;
    float a[8][8], b[8][8], c[8][8];
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        uint32_t row = invar_matrix_row(lane), column = invar_matrix_column(lane);
        operands mine = {};
        if (invar_active(exchange, lane)) mine = invar_operand<operands>(exchange, lane);
        a[row][column] = (float)mine.a.x, a[row][column + 1] = (float)mine.a.y;
        b[row][column] = (float)mine.b.x, b[row][column + 1] = (float)mine.b.y;
        c[row][column] = (float)mine.c.x, c[row][column + 1] = (float)mine.c.y;
    }
    for (int k = 0; k < 8; k++) {
        for (int row = 0; row < 8; row++) {
            for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
        }
    }
    for (uint32_t lane = 0; lane < INVAR_SIMD_WIDTH; lane++) {
        uint32_t row = invar_matrix_row(lane), column = invar_matrix_column(lane);
        if (invar_active(exchange, lane)) invar_result(exchange, lane, vec<float, 2>(c[row][column], c[row][column + 1]));
    }
}
template <class A, class B, class C>
inline vec<float, 2> invar_matrix_product(invar_here here, const vec<A, 2> &a, const vec<B, 2> &b, const vec<C, 2> &c) {
    invar_matrix_operands<A, B, C> mine = { a, b, c };
    return invar_meet<vec<float, 2>>(here, 0, invar_multiply_matrices<A, B, C>, mine);
}

#endif

template <class R, class A, class B>
inline void simdgroup_multiply(invar_here here, simdgroup_matrix<R, 8, 8> &result, const simdgroup_matrix<A, 8, 8> &a,
                               const simdgroup_matrix<B, 8, 8> &b) {
    vec<float, 2> zero(0.0f);
    result.invar_elements = vec<R, 2>(invar_matrix_product(here, a.invar_elements, b.invar_elements, zero));
}
template <class R, class A, class B, class C>
inline void simdgroup_multiply_accumulate(invar_here here, simdgroup_matrix<R, 8, 8> &result,
                                          const simdgroup_matrix<A, 8, 8> &a, const simdgroup_matrix<B, 8, 8> &b,
                                          const simdgroup_matrix<C, 8, 8> &c) {
    result.invar_elements =
        vec<R, 2>(invar_matrix_product(here, a.invar_elements, b.invar_elements, c.invar_elements));
}

} // namespace metal
} // namespace invar_shim
