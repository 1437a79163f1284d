/* Metal's matrices: where elements are, and sums and products against plain loops in float64. */
#include "shim.h"

using namespace invar_shim;
using namespace invar_shim::metal;

template <int C, int R> static matrix<float, C, R> draw() {
    matrix<float, C, R> m;
    for (int i = 0; i < C; i++)
        for (int k = 0; k < R; k++) m[i][k] = (float)uniform(-2, 2);
    return m;
}

/* Chains of at most four products of numbers below 2, each rounded to 24 bits. */
static bool near(float x, double exact) { return std::fabs(x - exact) < 4 * 4 * 4 * 0x1p-24; }

template <int K, int R, int C> static void products() {
    matrix<float, K, R> a = draw<K, R>();
    matrix<float, C, K> b = draw<C, K>();
    matrix<float, C, R> product = a * b;
    vec<float, K> v = draw<K, K>()[0];
    vec<float, R> column = a * v, row_vector = draw<R, R>()[1];
    vec<float, K> row = row_vector * a;
    for (int k = 0; k < R; k++) {
        double exact_column = 0;
        for (int n = 0; n < K; n++) exact_column += (double)a[n][k] * v[n];
        CHECK(near(column[k], exact_column), "matrix times vector, row %d of %d x %d", k, K, R);
        for (int i = 0; i < C; i++) {
            double exact = 0;
            for (int n = 0; n < K; n++) exact += (double)a[n][k] * b[i][n];
            CHECK(near(product[i][k], exact), "product, row %d, column %d of %d x %d", k, i, C, R);
        }
    }
    for (int n = 0; n < K; n++) {
        double exact_row = 0;
        for (int k = 0; k < R; k++) exact_row += (double)row_vector[k] * a[n][k];
        CHECK(near(row[n], exact_row), "vector times matrix, column %d of %d x %d", n, K, R);
    }
    matrix<float, R, K> turned = transpose(a);
    for (int k = 0; k < R; k++)
        for (int n = 0; n < K; n++) CHECK(turned[k][n] == a[n][k], "transpose, row %d, column %d", k, n);
}

static void construction() {
    float2x3 m(1, 2, 3, 4, 5, 6), of_columns(float3(1, 2, 3), float3(4, 5, 6));
    static_assert(sizeof(float2x3) == 32 && sizeof(half4x4) == 32 && sizeof(float3x2) == 24, "columns are vectors");
    CHECK(m == of_columns && m[1].y == 5 && m[0][2] == 3, "column by column");
    float3x3 diagonal(2.0f);
    CHECK(diagonal[1][1] == 2 && diagonal[1][0] == 0 && diagonal[2][2] == 2, "a number is put on the diagonal");
    half2x3 narrowed(m);
    CHECK(narrowed[1].z == half(6) && float2x3(narrowed) == m, "of another type");
    m[1] = float3(7.0f);
    CHECK(m != of_columns && m[1].x == 7, "a column is assigned to");
}

static void arithmetic() {
    float2x2 a(1, 2, 3, 4), b(0.5f);
    CHECK(a + b == float2x2(1.5f, 2, 3, 4.5f) && a - b == float2x2(0.5f, 2, 3, 3.5f) && -a == float2x2(-1, -2, -3, -4), "sums");
    CHECK(a * 2 == float2x2(2, 4, 6, 8) && 2 * a == a * 2.0f && a / 2 == float2x2(0.5f, 1, 1.5f, 2), "by a number");
    a += b, a *= 2.0f, a -= b;
    CHECK(a == float2x2(2.5f, 4, 6, 8.5f), "assigning operators");
    a = float2x2(1, 2, 3, 4);
    a *= a;
    CHECK(a == float2x2(7, 10, 15, 22), "a matrix times itself, in place");
}

static void determinants() {
    CHECK(determinant(float2x2(1, 2, 3, 4)) == -2, "2 x 2");
    CHECK(determinant(float3x3(2, 0, 1, 1, 3, 2, 1, 1, 4)) == 18, "3 x 3");
    CHECK(determinant(float4x4(1, 0, 2, -1, 3, 0, 0, 5, 2, 1, 4, -3, 1, 0, 5, 0)) == 30, "4 x 4");
    CHECK(determinant(half2x2(1, 2, 3, 4)) == half(-2), "half");
}

int main() {
    construction();
    arithmetic();
    determinants();
    products<2, 2, 2>();
    products<2, 3, 4>();
    products<3, 2, 4>();
    products<4, 3, 2>();
    products<3, 3, 3>();
    products<4, 4, 4>();
    return finish();
}
