/* simdgroup_matrix over 32 lanes: load, store, transpose, products of every mixture of types, against float64 and, for the
 * order of a sum, against one chain in float. */
#include "lanes.h"

using namespace invar_shim;
using namespace invar_shim::metal;
#define HERE invar_here(1)

static float a_values[8 * 12], b_values[8 * 12], c_values[8 * 8], out[8 * 16];
static half a_half[8 * 12];

static void products(uint32_t) {
    simdgroup_float8x8 a, b, c, d;
    simdgroup_load(HERE, a, a_values, 12, ulong2(2, 0));
    simdgroup_load(HERE, b, b_values, 12, 0, true);
    simdgroup_load(HERE, c, c_values);
    simdgroup_multiply_accumulate(HERE, d, a, b, c);
    simdgroup_store(HERE, d, out, 16);
    simdgroup_half8x8 h;
    simdgroup_load(HERE, h, a_half, 12);
    simdgroup_multiply(HERE, d, h, b);
    simdgroup_store(HERE, d, out, 16, ulong2(8, 0));
}

static void others(uint32_t lane) {
    simdgroup_float8x8 one(1.0f), twos = make_filled_simdgroup_matrix<float, 8>(2.0f), d;
    uint32_t qid = lane / 4, row = (qid & 4) + lane / 2 % 4, column = (qid & 2) * 2 + lane % 2 * 2;
    CHECK(one.thread_elements()[0] == (row == column) && one.thread_elements().y == (row == column + 1), "a diagonal");
    d.thread_elements() = float2(10 * row + column, 10 * row + column + 1);
    simdgroup_multiply(HERE, d, one, d);
    CHECK(d.thread_elements()[0] == 10 * row + column, "one times a matrix, in place");
    simdgroup_multiply(HERE, d, twos, d);
    CHECK(d.thread_elements()[1] == 2 * (10 * 28 + 8 * (column + 1)), "sums of columns");
    simdgroup_store(HERE, d, out, 8, 0, true);
    simdgroup_half8x8 sum(half(0));
    simdgroup_multiply_accumulate(HERE, sum, make_filled_simdgroup_matrix<half, 8, 8>(half(0.1f)),
                                  make_filled_simdgroup_matrix<half, 8, 8>(half(0.1f)), sum);
    float tenth = (float)half(0.1f), exact = 8 * tenth * tenth;
    CHECK(sum.thread_elements()[0] == half(exact), "rounded once");
}

int main() {
    for (int i = 0; i < 8 * 12; i++) {
        a_values[i] = (float)uniform(-1, 1), b_values[i] = (float)uniform(-1, 1), a_half[i] = half(uniform(-1, 1));
        if (i < 64) c_values[i] = (float)uniform(-1, 1);
    }
    run_lanes(products);
    for (int row = 0; row < 8; row++) {
        for (int column = 0; column < 8; column++) {
            float chain = c_values[row * 8 + column], of_half = 0;
            double exact = chain;
            for (int k = 0; k < 8; k++) {
                float a = a_values[row * 12 + 2 + k], b = b_values[column * 12 + k];
                chain += a * b, exact += (double)a * b, of_half += (float)a_half[row * 12 + k] * b;
            }
            CHECK(out[row * 16 + column] == chain && std::fabs(chain - exact) < 1e-6, "element %d, %d", row, column);
            CHECK(out[row * 16 + 8 + column] == of_half, "half times float, element %d, %d", row, column);
        }
    }
    run_lanes(others);
    for (int row = 0; row < 8; row++)
        for (int column = 0; column < 8; column++)
            CHECK(out[column * 8 + row] == 2 * (10 * 28 + 8 * column), "stored transposed, element %d, %d", row, column);
    return finish();
}
