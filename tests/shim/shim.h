/* What the tests of the shim share: its Metal half as a program would have it, and a small harness. A program ends with
 * finish(), which prints "N checks passed, N failed". The numbers that a check expects come from the definition of a
 * function in float64 or in wide integers, rounded by nearest() here. */
#ifndef TESTS_SHIM_H
#define TESTS_SHIM_H

#define INVAR_SHIM_FIBRES 1
#include "jit/runtime.h"
#include "jit/shim/base.h"
#include "jit/shim/libm.h"
#include "jit/shim/narrow.h"
#ifdef TEST_CUDA
#include "jit/shim/traits.h"
#include "jit/shim/limits.h"
#include "jit/shim/complex.h"
#include "jit/shim/indexing.h"
#include "jit/shim/cuda.h"
#include "jit/shim/cuda_math.h"
#include "jit/shim/cuda_bits.h"
#include "jit/shim/cuda_parts.h"
#include "jit/shim/cuda_directed.h"
#include "jit/shim/cuda_half.h"
#include "jit/shim/reduce.h"
#include "jit/shim/lanes.h"
#include "jit/shim/cuda_warp.h"
#include "jit/shim/atomic.h"
#include "jit/shim/cuda_atomic.h"
#include "jit/shim/cuda_groups.h"
#include "jit/shim/cuda_std.h"
#include "jit/shim/cuda_utils.h"
#else
#include "jit/shim/vector.h"
#include "jit/shim/metal.h"
#include "jit/shim/lift.h"
#include "jit/shim/metal_common.h"
#include "jit/shim/metal_math.h"
#include "jit/shim/metal_geometric.h"
#include "jit/shim/metal_pack.h"
#include "jit/shim/metal_columns.h"
#include "jit/shim/traits.h"
#include "jit/shim/limits.h"
#include "jit/shim/complex.h"
#include "jit/shim/indexing.h"
#include "jit/shim/metal_utils.h"
#include "jit/shim/reduce.h"
#include "jit/shim/lanes.h"
#include "jit/shim/metal_simd.h"
#include "jit/shim/metal_matrix.h"
#include "jit/shim/atomic.h"
#include "jit/shim/metal_atomic.h"
#endif

/* After the shim, which gives INFINITY and the like, macros here, as constants. */
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>

namespace invar_shim {
invar_shared invar_shared_table[INVAR_MAX_SHARED];
}

static long passed, failed;

/* Prints the first failures only. */
#define CHECK(condition, ...)                                        \
    do {                                                             \
        if (condition) {                                             \
            passed++;                                                \
        } else if (failed++ < 20) {                                  \
            ::std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            ::std::printf(__VA_ARGS__);                                \
            ::std::printf("\n");                                       \
        }                                                            \
    } while (0)

static inline int finish() {
    ::std::printf("%ld checks passed, %ld failed\n", passed, failed);
    return failed != 0;
}

/* splitmix64 (Steele, Lea and Flood, 2014): the same sequence everywhere. */
static uint64_t random_state = 1;
static inline uint64_t random_bits() {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static inline double uniform(double low, double high) {
    return low + (high - low) * (double)(random_bits() >> 11) * 0x1p-53;
}

/* x rounded to nearest even in a format of `digits` bits whose least and greatest exponents are those of <float.h>. */
static inline double nearest(double x, int digits, int least, int greatest) {
    if (x == 0 || !::std::isfinite(x)) return x;
    int exponent;
    ::std::frexp(x, &exponent);
    double unit = ::std::ldexp(1.0, (exponent < least ? least : exponent) - digits);
    double rounded = ::std::nearbyint(x / unit) * unit;
    return ::std::fabs(rounded) >= ::std::ldexp(1.0, greatest) ? ::std::copysign(INFINITY, x) : rounded;
}
template <class F> static inline double nearest(double x) { return nearest(x, F::digits, F::least, F::greatest); }
/* The distance between neighbours around x. */
static inline double unit_of(double x, int digits, int least) {
    int exponent;
    ::std::frexp(x, &exponent);
    return ::std::ldexp(1.0, (exponent < least ? least : exponent) - digits);
}

#endif
