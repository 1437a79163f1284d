/* Loops that lanes walk through side by side: how many turns are done together, when none are, and that every lane gets what
 * it would have got by itself, to the bit. */
#include "lanes.h"

#include "jit/shim/lane_loops.h"

using namespace invar_shim;

enum { LENGTH = 5000 };
static float x[LENGTH], y[LENGTH];
static uint32_t row;

/* What a lane is given, by kind of case. */
struct bounds {
    uint32_t first, end, step;
};
static bounds given[32];

/* As the translator writes it: for (I i = first; i < end; i += step) { sum += x[row + i]; y[i] = sum; } */
template <class I, bool Closed> static I walk(const bounds &b, float &sum) {
    const float *in = x;
    float *out = y;
    const uint32_t base = row;
    return invar_lane_loop<I, Closed>(
        -1, (I)b.first, b.end, b.step, [=](const invar_lane_index<I> i) { return true && invar_keeps_order(base + i); },
        [=](const invar_lane_index<I> i, float &s) { s += in[base + i]; out[i] = s; }, sum);
}

static uint32_t together; /* turns that are expected */

template <class I, bool Closed> static void check_walk(uint32_t lane) {
    const bounds &b = given[lane];
    float sum = 0.5f, expected = 0.5f;
    I i = walk<I, Closed>(b, sum);
    CHECK((uint32_t)i == b.first + together * b.step, "lane %u: %u, expected %u turns of %u from %u", lane, (uint32_t)i,
          together, b.step, b.first);
    for (uint32_t turn = 0, k = b.first; turn < together; turn++, k += b.step) {
        expected += x[row + k];
        CHECK(y[k] == expected, "lane %u, turn %u: %a, expected %a", lane, turn, (double)y[k], (double)expected);
    }
    CHECK(sum == expected, "lane %u: the sum is %a, expected %a", lane, (double)sum, (double)expected);
}

static void run(void (*function)(uint32_t), uint32_t expected, uint32_t live = 0xffffffff) {
    together = expected;
    run_lanes(function, live);
}

static void give(uint32_t first, uint32_t end, uint32_t step) {
    for (uint32_t lane = 0; lane < 32; lane++) given[lane] = { first + lane, end, step };
}

/* The body reads something that differs from lane to lane. */
static void check_different(uint32_t lane) {
    float sum = 0;
    const uint32_t own = lane / 31;
    const uint32_t i = invar_lane_loop<uint32_t, false>(
        -1, given[lane].first, 2000, 64, [=](const invar_lane_index<uint32_t>) { return true; },
        [=](const invar_lane_index<uint32_t> k, float &s) { s += x[own + k]; }, sum);
    CHECK(i == given[lane].first && sum == 0, "lane %u walked with others whose bodies differ", lane);
}

/* Four locals, one a vector, and padding in the lambda: an int before a pointer. */
static void check_locals(uint32_t lane) {
    float a = 0;
    metal::float4 b(1.0f);
    int c = 0;
    double d = 0;
    const int scale = 3;
    const float *in = x;
    volatile char garbage[256];
    for (uint32_t k = 0; k < 256; k++) garbage[k] = (char)(lane * 7 + k); /* what the padding would be made of */
    const uint32_t i = invar_lane_loop<uint32_t, false>(
        -1, lane, 1000, 32, [=](const invar_lane_index<uint32_t>) { return true; },
        [=](const invar_lane_index<uint32_t> k, float &p, metal::float4 &q, int &r, double &s) {
            p += in[k];
            q = q * 0.5f + in[k];
            r += scale;
            s += (double)in[k];
        }, a, b, c, d);
    float e = 0;
    metal::float4 f(1.0f);
    double g = 0;
    int turns = 0;
    for (uint32_t k = lane; k < i; k += 32, turns++) e += x[k], f = f * 0.5f + x[k], g += (double)x[k];
    CHECK(turns == 31, "lane %u: %d turns together, expected 31", lane, turns);
    CHECK(a == e && metal::all(b == f) && c == 3 * turns && d == g, "lane %u: a local is not what it would be alone", lane);
    (void)garbage[0];
}

int main() {
    for (float &value : x) value = (float)uniform(-2, 2);
    give(64, 2000, 96);
    run(check_walk<uint32_t, false>, 20); /* lane 31: 95, 191, …, 1919 */
    run(check_walk<int, false>, 20);
    run(check_walk<uint64_t, false>, 20);
    give(0, 63 + 9 * 32, 32);
    run(check_walk<uint32_t, false>, 10);
    run(check_walk<uint32_t, true>, 11);
    run(check_walk<uint32_t, false>, 0, 0x7fffffff); /* a lane is missing */
    give(0, 255, 32);
    run(check_walk<uint32_t, false>, 0); /* not worth it */
    give(64, 2000, 96);
    given[17].first++;
    run(check_walk<uint32_t, false>, 0); /* not side by side */
    given[17].first--, given[3].end++;
    run(check_walk<uint32_t, false>, 0);
    given[3].end--, given[31].step++;
    run(check_walk<uint32_t, false>, 0);
    give(0, 2000, 96);
    for (bounds &b : given) b.first -= 16; /* the first lanes begin below 0 */
    together = 0;
    run(check_walk<int, false>, 0);
    give(96, 2000, 64);
    row = 0xffffffc0u; /* row + i wraps around, in all lanes alike */
    run(check_walk<uint32_t, false>, 30);
    give(48, 2000, 64); /* and in lane 16 first: the walk may not begin */
    run(check_walk<uint32_t, false>, 0);
    row = 0;
    run(check_different, 0);
    run(check_locals, 0);
    return finish();
}
