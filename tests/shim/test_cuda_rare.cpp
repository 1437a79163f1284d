/* CUDA's rarer intrinsics on the CPU: parts of words and directed rounding against integers and the C library's rounding
 * modes, inverse error functions against the functions that they invert. */
#define TEST_CUDA
#include "shim.h"

#include <cfenv>

using namespace invar_shim;

template <class T> static int part(unsigned word, int i) { return (T)(word >> (8 * (int)sizeof(T) * i)); }
static int held(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

static void parts() {
    for (int n = 0; n < 20000; n++) {
        unsigned a = (unsigned)random_bits(), b = n % 3 ? (unsigned)random_bits() : a ^ (unsigned)random_bits() % 512;
        unsigned sum = 0;
        for (int i = 0; i < 4; i++) {
            int sx = part<int8_t>(a, i), sy = part<int8_t>(b, i), x = part<uint8_t>(a, i), y = part<uint8_t>(b, i);
            CHECK(part<uint8_t>(__vadd4(a, b), i) == ((x + y) & 255) &&
                  part<uint8_t>(__vsub4(a, b), i) == ((x - y) & 255), "sums");
            CHECK(part<int8_t>(__vaddss4(a, b), i) == held(sx + sy, -128, 127) &&
                  part<int8_t>(__vsubss4(a, b), i) == held(sx - sy, -128, 127), "signed sums that stop");
            CHECK(part<uint8_t>(__vaddus4(a, b), i) == held(x + y, 0, 255) &&
                  part<uint8_t>(__vsubus4(a, b), i) == held(x - y, 0, 255), "unsigned sums that stop");
            CHECK(part<int8_t>(__vmaxs4(a, b), i) == (sx > sy ? sx : sy) &&
                  part<uint8_t>(__vminu4(a, b), i) == (x < y ? x : y), "ends");
            CHECK(part<uint8_t>(__vabsdiffu4(a, b), i) == ::std::abs(x - y) &&
                  part<uint8_t>(__vavgu4(a, b), i) == (x + y + 1) / 2,
                  "differences and means");
            CHECK(part<uint8_t>(__vcmpeq4(a, b), i) == (x == y ? 255 : 0) &&
                  part<uint8_t>(__vcmpgts4(a, b), i) == (sx > sy ? 255 : 0) &&
                  part<uint8_t>(__vcmpltu4(a, b), i) == (x < y ? 255 : 0), "comparisons");
            sum += (unsigned)::std::abs(x - y);
        }
        for (int i = 0; i < 2; i++) {
            int sx = part<int16_t>(a, i), sy = part<int16_t>(b, i), x = part<uint16_t>(a, i), y = part<uint16_t>(b, i);
            CHECK(part<uint16_t>(__vadd2(a, b), i) == ((x + y) & 65535) &&
                  part<int16_t>(__vsubss2(a, b), i) == held(sx - sy, -32768, 32767),
                  "halves");
            CHECK(part<int16_t>(__vmins2(a, b), i) == (sx < sy ? sx : sy) &&
                  part<uint16_t>(__vcmpne2(a, b), i) == (x != y ? 65535 : 0),
                  "halves");
        }
        CHECK(__vsadu4(a, b) == sum, "__vsadu4");
        int low = 5 + part<int16_t>(a, 0) * part<int8_t>(b, 0) + part<int16_t>(a, 1) * part<int8_t>(b, 1);
        int high = 5 + part<int16_t>(a, 0) * part<int8_t>(b, 2) + part<int16_t>(a, 1) * part<int8_t>(b, 3);
        CHECK(__dp2a_lo((int)a, (int)b, 5) == low && __dp2a_hi((int)a, (int)b, 5) == high, "__dp2a");
    }
}

/* Each operation as the processor does it in a rounding mode of its own; volatile keeps it between the changes of mode. */
template <class F> static float rounded(int mode, F f, float x, float y) {
    volatile float a = x, b = y;
    ::std::fesetround(mode);
    volatile float result = f(a, b);
    ::std::fesetround(FE_TONEAREST);
    return result;
}
static bool same(float a, float b) {
    return (a != a && b != b) || (a == b && (a != 0 || ::std::signbit(a) == ::std::signbit(b)));
}

static void directed() {
    const float special[] = { 0.0f, 1.0f, 3.0f, 0x1.fffffep127f, 0x1p-149f, 0x1p-126f, 0x1.000002p0f, 7e30f, -0.1f, INFINITY };
    for (int n = 0; n < 40000; n++) {
        float x = invar_bits<float>((uint32_t)random_bits()), y = invar_bits<float>((uint32_t)random_bits());
        if (n < 100) x = special[n / 10], y = special[n % 10];
        else if (n % 2) y = x * (float)uniform(-2, 2);
        if (x != x || y != y) continue;
        auto add = [](float a, float b) { return a + b; };
        auto multiply = [](float a, float b) { return a * b; };
        auto divide = [](float a, float b) { return a / b; };
        auto root = [](float a, float) { return ::std::sqrt(a); };
        float sum = x + y;
        if (sum != 0) /* the sign of an exact zero depends on the mode */
            CHECK(same(__fadd_rz(x, y), rounded(FE_TOWARDZERO, add, x, y)) &&
                  same(__fadd_ru(x, y), rounded(FE_UPWARD, add, x, y)) &&
                  same(__fadd_rd(x, y), rounded(FE_DOWNWARD, add, x, y)), "%a + %a", x, y);
        CHECK(same(__fmul_rz(x, y), rounded(FE_TOWARDZERO, multiply, x, y)) &&
              same(__fmul_ru(x, y), rounded(FE_UPWARD, multiply, x, y)) &&
              same(__fmul_rd(x, y), rounded(FE_DOWNWARD, multiply, x, y)), "%a * %a", x, y);
        CHECK(same(__fdiv_rz(x, y), rounded(FE_TOWARDZERO, divide, x, y)) &&
              same(__fdiv_ru(x, y), rounded(FE_UPWARD, divide, x, y)) &&
              same(__fdiv_rd(x, y), rounded(FE_DOWNWARD, divide, x, y)), "%a / %a: %a, %a, %a",
              x, y, __fdiv_rz(x, y), __fdiv_ru(x, y), __fdiv_rd(x, y));
        CHECK(same(__fsqrt_rd(x), rounded(FE_DOWNWARD, root, x, 0)) &&
              same(__fsqrt_ru(x), rounded(FE_UPWARD, root, x, 0)), "root of %a", x);
    }
}

static void inverses() {
    for (int n = 0; n < 20000; n++) {
        float p = (float)uniform(0, 1) * (n % 3 ? 1.0f : 0x1p-20f), x = n % 2 ? p : 1 - p;
        if (!(x > 0 && x < 1)) continue;
        /* erf' is 2/sqrt(pi)·exp(-y²): an error of one unit of y moves erf by that much */
        double y = erfinvf(x), slope = 1.1283791670955126 * ::std::exp(-y * y);
        CHECK(::std::fabs((1 - (double)x) - ::std::erfc(y)) <= slope * unit_of(y, 24, -125) + 1e-16, "erfinvf(%a) = %g", x, y);
        double v = erfcinvf(x), descent = 1.1283791670955126 * ::std::exp(-v * v);
        CHECK(::std::fabs(x - ::std::erfc(v)) <= descent * unit_of(v, 24, -125) + 1e-16, "erfcinvf(%a) = %g", x, v);
        float beyond = 2 - x;
        CHECK(erfinvf(-x) == -(float)y && erfcinvf(beyond) == -erfcinvf(2 - beyond), "odd");
        double z = normcdfinvf(x), density = 0.3989422804014327 * ::std::exp(-z * z / 2);
        CHECK(::std::fabs(0.5 * ::std::erfc(-z / 1.4142135623730951) - x) <=
              density * unit_of(z, 24, -125) + 1e-16, "normcdfinvf(%a)", x);
    }
    CHECK(erfinvf(1) == INFINITY && erfinvf(-1) == -INFINITY && erfinvf(1.5f) != erfinvf(1.5f) && erfinvf(0) == 0, "ends");
    CHECK(erfcinvf(0) == INFINITY && erfcinvf(2) == -INFINITY && normcdfinvf(0.5f) == 0 && normcdfinvf(1) == INFINITY, "ends");
}

static void pairs() {
    __half2 a = make_half2(1, 2), b = make_half2(1, 3);
    CHECK(__heq2(a, b) == make_half2(1, 0) && __hlt2(a, b) == make_half2(0, 1) &&
          __hge2(a, b) == make_half2(1, 0), "comparisons");
    CHECK(__hfma_relu(__half(2), __half(-3), __half(1)) == __half(0) &&
          __hfma_relu(__half(2), __half(3), __half(1)) == __half(7), "relu");
    CHECK((float)CUDART_INF_FP16 == INFINITY && (float)CUDART_ONE_BF16 == 1 && __hisnan(CUDART_NAN_FP16), "constants");
}

int main() {
    parts();
    directed();
    inverses();
    pairs();
    return finish();
}
