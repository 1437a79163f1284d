/* Metal's atomics and CUDA's share src/jit/shim/atomic.h: each operation's effect and result, on every type, from several
 * threads of the machine at once, and what they tell the executor. */
#include "lanes.h"

#include <thread>
#include <vector>

using namespace invar_shim;
using namespace invar_shim::metal;

static const invar_position nowhere = {};
static const invar_here_at here(nowhere, lane_launch); /* a thread in a loop */
#define RELAXED memory_order_relaxed

template <class T> static void integer() {
    atomic<T> a;
    static_assert(sizeof a == sizeof(T) && alignof(atomic<T>) == alignof(T), "layout");
    atomic_store_explicit(here(1), &a, 5, RELAXED);
    CHECK(atomic_load_explicit(here(1), &a, RELAXED) == T(5), "load");
    CHECK(atomic_fetch_add_explicit(here(1), &a, 3, RELAXED) == T(5) && a.invar_value == T(8), "add");
    CHECK(atomic_fetch_sub_explicit(here(1), &a, 9, RELAXED) == T(8) && a.invar_value == T(-1), "sub");
    CHECK(atomic_fetch_and_explicit(here(1), &a, 12, RELAXED) == T(-1) && a.invar_value == T(12), "and");
    CHECK(atomic_fetch_or_explicit(here(1), &a, 3, RELAXED) == T(12) && a.invar_value == T(15), "or");
    CHECK(atomic_fetch_xor_explicit(here(1), &a, 5, RELAXED) == T(15) && a.invar_value == T(10), "xor");
    CHECK(atomic_fetch_max_explicit(here(1), &a, 11, RELAXED) == T(10) && a.invar_value == T(11), "max");
    CHECK(atomic_fetch_min_explicit(here(1), &a, 2, RELAXED) == T(11) && a.invar_value == T(2), "min");
    atomic_max_explicit(here(1), &a, T(-1), RELAXED);
    CHECK(a.invar_value == (T(-1) < T(0) ? T(2) : T(-1)), "the order is the type's own");
    CHECK(atomic_exchange_explicit(here(1), &a, 4, RELAXED) == (T(-1) < T(0) ? T(2) : T(-1)) &&
          a.invar_value == T(4), "exchange");
    T expected = 3;
    CHECK(!atomic_compare_exchange_weak_explicit(here(1), &a, &expected, 9, RELAXED, RELAXED) && expected == T(4), "weak");
    CHECK(atomic_compare_exchange_weak_explicit(here(1), &a, &expected, 9, RELAXED, RELAXED) &&
          a.invar_value == T(9), "weak");
}

template <class T> static void real() {
    T memory[4] = { T(1.5f), T(0), T(0), T(0) };
    volatile atomic<T> *a = (volatile atomic<T> *)&memory[0]; /* as kernels do */
    CHECK(atomic_fetch_add_explicit(here(1), a, T(0.25f), RELAXED) == T(1.5f) && memory[0] == T(1.75f), "add");
    CHECK(atomic_fetch_sub_explicit(here(1), a, T(2), RELAXED) == T(1.75f) && memory[0] == T(-0.25f), "sub");
    CHECK(atomic_fetch_max_explicit(here(1), a, T(3), RELAXED) == T(-0.25f) && memory[0] == T(3), "max");
    CHECK(atomic_fetch_min_explicit(here(1), a, T(-3), RELAXED) == T(3) && memory[0] == T(-3), "min");
    CHECK(atomic_exchange_explicit(here(1), a, T(7), RELAXED) == T(-3) && memory[0] == T(7) &&
          memory[1] == T(0), "exchange");
}

/* No update is lost between threads of the machine. */
static void together() {
    float sum = 0;
    int counter = 0, largest = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 10000; i++) {
                atomic_fetch_add_explicit(here(1), (atomic_float *)&sum, 1.0f, RELAXED);
                atomic_fetch_add_explicit(here(1), (atomic_int *)&counter, 1, RELAXED);
                atomic_fetch_max_explicit(here(1), (atomic_int *)&largest, t * 10000 + i, RELAXED);
            }
        });
    }
    for (std::thread &thread : threads) thread.join();
    CHECK(sum == 40000 && counter == 40000 && largest == 39999, "%g %d %d", sum, counter, largest);
}

/* On a fibre: lane 0 waits for what lane 31 writes, which it can only do when lane 0 yields. */
static atomic_int flag, yields;
static void wait_and_write(uint32_t lane) {
    invar_lane *self = invar_here(1).lane();
    if (lane == 0) {
        for (int i = 0; i < 5; i++) (void)atomic_load_explicit(invar_here(1), &flag, RELAXED);
        CHECK(self->idle == 5, "loads change nothing: %u", self->idle);
        atomic_fetch_add_explicit(invar_here(1), &yields, 1, RELAXED);
        CHECK(self->idle == 0, "an addition does");
        atomic_fetch_or_explicit(invar_here(1), &yields, 1, RELAXED);
        int expected = 100;
        atomic_compare_exchange_weak_explicit(invar_here(1), &yields, &expected, 3, RELAXED, RELAXED);
        CHECK(self->idle == 2, "an or with bits that are set and a failed exchange do not: %u", self->idle);
    }
    CHECK(self->patience >= 0 && self->patience <= 8, "yield renews the patience: %d", self->patience);
}

int main() {
    integer<int>();
    integer<unsigned>();
    integer<long>();
    integer<unsigned long>();
    integer<short>();
    integer<unsigned char>();
    real<float>();
    real<half>();
    real<bfloat>();
    together();
    run_lanes(wait_and_write);
    return finish();
}
