/* Metal's simd_ and quad_ functions: each against its definition over all 32 lanes, and with only some of them live. */
#include "lanes.h"

using namespace invar_shim;
using namespace invar_shim::metal;

static uint32_t live;
static float values[32];
static int numbers[32];
static bool is_live(int lane) { return lane >= 0 && lane < 32 && (live >> lane & 1); }
#define HERE invar_here(1)

/* The xor butterfly in float, with the lanes that are not live left out, as the lane's own view of it. */
template <class T, class F> static T butterfly(const T *x, int lane, int width, F f) {
    int base = lane / width * width;
    T sum[32];
    bool there[32];
    for (int i = 0; i < 32; i++) sum[i] = x[i], there[i] = is_live(i);
    for (int d = 1; d < width; d *= 2) {
        T next[32];
        bool reached[32];
        for (int i = base; i < base + width; i++) {
            reached[i] = there[i] || there[i ^ d];
            next[i] = there[i] && there[i ^ d] ? f(sum[i], sum[i ^ d]) : there[i] ? sum[i] : sum[i ^ d];
        }
        for (int i = base; i < base + width; i++) sum[i] = next[i], there[i] = reached[i];
    }
    return sum[lane];
}

static void reductions(uint32_t lane) {
    int i = (int)lane;
    auto add = [](float a, float b) { return a + b; };
    auto whole_add = [](int a, int b) { return (int)((unsigned)a + (unsigned)b); };
    float x = values[lane];
    int n = numbers[lane];
    CHECK(simd_sum(HERE, x) == butterfly(values, i, 32, add), "simd_sum in lane %d of %08x", i, live);
    CHECK(quad_sum(HERE, x) == butterfly(values, i, 4, add), "quad_sum in lane %d of %08x", i, live);
    CHECK(simd_sum(HERE, n) == butterfly(numbers, i, 32, whole_add), "simd_sum of int");
    CHECK(simd_product(HERE, x) == butterfly(values, i, 32, [](float a, float b) { return a * b; }), "simd_product");
    CHECK(quad_product(HERE, x) == butterfly(values, i, 4, [](float a, float b) { return a * b; }), "quad_product");
    float greatest = -INFINITY, least = INFINITY, quad_greatest = -INFINITY, quad_least = INFINITY;
    int all_bits = -1, any_bits = 0, odd_bits = 0, quad_bits = -1, quad_any = 0, quad_odd = 0;
    for (int k = 0; k < 32; k++) {
        if (!is_live(k)) continue;
        greatest = std::fmax(greatest, values[k]), least = std::fmin(least, values[k]);
        all_bits &= numbers[k], any_bits |= numbers[k], odd_bits ^= numbers[k];
        if (k / 4 != i / 4) continue;
        quad_greatest = std::fmax(quad_greatest, values[k]), quad_least = std::fmin(quad_least, values[k]);
        quad_bits &= numbers[k], quad_any |= numbers[k], quad_odd ^= numbers[k];
    }
    CHECK(simd_max(HERE, x) == greatest && simd_min(HERE, x) == least, "simd_max, simd_min");
    CHECK(quad_max(HERE, x) == quad_greatest && quad_min(HERE, x) == quad_least, "quad_max, quad_min");
    CHECK(simd_and(HERE, n) == all_bits && simd_or(HERE, n) == any_bits && simd_xor(HERE, n) == odd_bits, "simd bits");
    CHECK(quad_and(HERE, n) == quad_bits && quad_or(HERE, n) == quad_any && quad_xor(HERE, n) == quad_odd, "quad bits");
    half h = simd_sum(HERE, half(n % 8)), expected_half = 0;
    int small = 0;
    for (int k = 0; k < 32; k++) small += is_live(k) ? numbers[k] % 8 : 0;
    expected_half = half(small);
    CHECK(h == expected_half, "simd_sum of half");
    float4 v = simd_max(HERE, float4(x, -x, 1, (float)i));
    CHECK(v.x == greatest && v.y == -least && v.z == 1, "simd_max of a vector");
    float others = -INFINITY, but_one = simd_max(HERE, lane == 4 ? NAN : x);
    for (int k = 0; k < 32; k++) others = is_live(k) && k != 4 ? std::fmax(others, values[k]) : others;
    CHECK(live == 0x10 ? but_one != but_one : but_one == others, "a NaN is left out");
}

static void scans(uint32_t lane) {
    int sum = 0, product = 1, quad = 0;
    for (int k = 0; k < (int)lane; k++) {
        if (!is_live(k)) continue;
        sum += numbers[k], product *= numbers[k];
        if (k / 4 == (int)lane / 4) quad += numbers[k];
    }
    int n = numbers[lane];
    CHECK(simd_prefix_exclusive_sum(HERE, n) == sum, "exclusive sum in lane %u of %08x", lane, live);
    CHECK(simd_prefix_inclusive_sum(HERE, n) == sum + n, "inclusive sum in lane %u of %08x", lane, live);
    CHECK(simd_prefix_exclusive_product(HERE, n) == product, "exclusive product");
    CHECK(simd_prefix_inclusive_product(HERE, n) == product * n, "inclusive product");
    CHECK(quad_prefix_exclusive_sum(HERE, n) == quad && quad_prefix_inclusive_sum(HERE, n) == quad + n, "quad prefix sums");
    float float_sum = simd_prefix_inclusive_sum(HERE, values[lane]);
    double exact = 0;
    for (int k = 0; k <= (int)lane; k++) exact += is_live(k) ? values[k] : 0;
    CHECK(std::fabs(float_sum - exact) < 1e-4, "inclusive sum of float");
}

/* What lane `from` holds, or the lane's own value where there is nobody. */
static float held(int from, uint32_t lane) { return values[is_live(from) ? from : (int)lane]; }

static void shuffles(uint32_t lane) {
    int i = (int)lane, base = i & ~3;
    float x = values[lane];
    for (unsigned short d : { 1, 2, 7, 16, 31 }) {
        CHECK(simd_shuffle(HERE, x, d) == held(d, lane), "simd_shuffle");
        CHECK(simd_broadcast(HERE, x, d) == held(d, lane), "simd_broadcast");
        CHECK(simd_shuffle_xor(HERE, x, d) == held(i ^ d, lane), "simd_shuffle_xor");
        CHECK(simd_shuffle_up(HERE, x, d) == held(i - d, lane), "simd_shuffle_up");
        CHECK(simd_shuffle_down(HERE, x, d) == held(i + d, lane), "simd_shuffle_down");
        CHECK(simd_shuffle_rotate_up(HERE, x, d) == held((i - d) & 31, lane), "simd_shuffle_rotate_up");
        CHECK(simd_shuffle_rotate_down(HERE, x, d) == held((i + d) & 31, lane), "simd_shuffle_rotate_down");
        if (live == 0xffffffff) {
            CHECK(simd_shuffle_and_fill_up(HERE, x, -x, d) == (i >= d ? values[i - d] : -values[i - d + 32]), "fill_up");
            CHECK(simd_shuffle_and_fill_down(HERE, x, -x, d) == (i + d < 32 ? values[i + d] : -values[i + d - 32]),
                  "fill_down");
        }
    }
    if (live == 0xffffffff) {
        int up = i % 8 >= 3 ? i - 3 : i - 3 + 8, down = i % 8 + 3 < 8 ? i + 3 : i + 3 - 8;
        CHECK(simd_shuffle_and_fill_up(HERE, x, -x, 3, 8) == (i % 8 >= 3 ? 1 : -1) * values[up], "fill_up in groups of 8");
        CHECK(simd_shuffle_and_fill_down(HERE, x, -x, 3, 8) == (i % 8 + 3 < 8 ? 1 : -1) * values[down], "fill_down of 8");
        CHECK(quad_shuffle_and_fill_up(HERE, x, -x, 1) == (i % 4 ? values[i - 1] : -values[i + 3]), "quad fill_up");
        CHECK(quad_shuffle_and_fill_down(HERE, x, -x, 1) == (i % 4 < 3 ? values[i + 1] : -values[i - 3]), "quad fill_down");
    }
    CHECK(quad_shuffle(HERE, x, 2) == held(base | 2, lane) && quad_broadcast(HERE, x, 1) == held(base | 1, lane), "quad");
    CHECK(quad_shuffle_xor(HERE, x, 3) == held(i ^ 3, lane), "quad_shuffle_xor");
    CHECK(quad_shuffle_up(HERE, x, 1) == held(i % 4 ? i - 1 : i, lane), "quad_shuffle_up");
    CHECK(quad_shuffle_down(HERE, x, 2) == held(i % 4 < 2 ? i + 2 : i, lane), "quad_shuffle_down");
    CHECK(quad_shuffle_rotate_up(HERE, x, 1) == held(base | ((i - 1) & 3), lane), "quad_shuffle_rotate_up");
    CHECK(quad_shuffle_rotate_down(HERE, x, 1) == held(base | ((i + 1) & 3), lane), "quad_shuffle_rotate_down");
    /* Every size of value. */
    long4 wide(i, -i, 1000000000000l + i, 4);
    CHECK(all(simd_shuffle_xor(HERE, wide, 0) == wide), "32 bytes");
    CHECK(simd_shuffle_xor(HERE, wide, 1).z == 1000000000000l + (is_live(i ^ 1) ? i ^ 1 : i), "32 bytes, moved");
    CHECK(simd_shuffle_xor(HERE, i % 3 == 0, 1) == ((is_live(i ^ 1) ? i ^ 1 : i) % 3 == 0), "bool");
    CHECK(simd_shuffle_xor(HERE, (uint64_t)i << 40, 2) == (uint64_t)(is_live(i ^ 2) ? i ^ 2 : i) << 40, "64 bits");
    CHECK(simd_shuffle_xor(HERE, complex64_t(i, 2), 2).real == (is_live(i ^ 2) ? i ^ 2 : i), "complex64_t");
    CHECK(simd_shuffle_xor(HERE, (char)i, 2) == (is_live(i ^ 2) ? i ^ 2 : i), "char");
}

static void votes(uint32_t lane) {
    uint32_t odd = 0xaaaaaaaa & live;
    int first = __builtin_ctz(live), quad = (int)lane & ~3, quad_live = (int)(live >> quad & 15);
    CHECK((uint64_t)simd_ballot(HERE, lane & 1) == odd, "simd_ballot");
    CHECK((uint64_t)simd_active_threads_mask(HERE) == live, "simd_active_threads_mask");
    CHECK(simd_any(HERE, lane & 1) == (odd != 0) && simd_all(HERE, lane & 1) == (odd == live), "simd_any, simd_all");
    CHECK(simd_all(HERE, true) && !simd_any(HERE, false), "simd_all of true");
    CHECK(simd_is_first(HERE) == ((int)lane == first) && simd_broadcast_first(HERE, values[lane]) == values[first], "first");
    CHECK((unsigned short)quad_ballot(HERE, lane & 1) == (quad_live & 10), "quad_ballot");
    CHECK(quad_any(HERE, lane & 1) == ((quad_live & 10) != 0) &&
          quad_all(HERE, lane & 1) == ((quad_live & 5) == 0), "quad_all");
    CHECK(quad_is_first(HERE) == ((int)lane == quad + __builtin_ctz((unsigned)quad_live)), "quad_is_first");
    CHECK(quad_broadcast_first(HERE, values[lane]) == values[quad + __builtin_ctz((unsigned)quad_live)], "quad first");
    threadgroup_barrier(HERE, mem_flags::mem_threadgroup | mem_flags::mem_device);
    simdgroup_barrier(HERE, mem_flags::mem_none);
}

int main() {
    for (uint32_t lanes_live : { 0xffffffffu, 0x0000ffffu, 0x80000001u, 0x12345678u, 1u, 0xfffffffeu, 0x00000010u }) {
        live = lanes_live;
        for (int i = 0; i < 32; i++) values[i] = (float)uniform(-2, 2), numbers[i] = (int)(random_bits() % 100) - 20;
        run_lanes(reductions, live);
        run_lanes(scans, live);
        run_lanes(shuffles, live);
        run_lanes(votes, live);
    }
    return finish();
}
