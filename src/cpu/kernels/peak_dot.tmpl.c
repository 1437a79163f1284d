/* peak: twelve accumulators of a vector each, enough for latency times ports of today's cores; four of AMX's tiles. */
#include "cpu/kernels/peak.h"
#include "cpu/vec/vec.h"

enum { ACCUMULATORS = 12, TURNS = 400000 };

#define MULTIPLY_ADD_TURNS(step)                                                          \
    do {                                                                                  \
        for (int turn = 0; turn < TURNS; turn++)                                          \
            _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) sum[i] = step; \
    } while (0)

#if defined(VEC_TILES)
static double tiles_peak(float *sink) {
    float ones[TILE_SIDE * TILE_SIDE] = { 1 }, sums[TILE_SIDE * TILE_SIDE];
    tiles_open(TILE_SIDE);
    TILE_FENCE();
    TILE_LOAD(4, ones, TILE_SIDE);
    TILE_LOAD(5, ones, TILE_SIDE);
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int turn = 0; turn < TURNS; turn++) {
        TILE_DOT(0, 4, 5);
        TILE_DOT(1, 4, 5);
        TILE_DOT(2, 4, 5);
        TILE_DOT(3, 4, 5);
    }
    TILE_STORE(0, sums, TILE_SIDE);
    tiles_close();
    *sink = sums[0];
    return 4.0 * TURNS * (2 * TILE_SIDE * TILE_SIDE * 2 * TILE_SIDE);
}
#endif

invar_peak_kernel INVAR_KERNEL_NAME(peak);

double INVAR_KERNEL_NAME(peak)(bool bf16, float *sink) {
#if defined(VEC_TILES)
    if (bf16) return tiles_peak(sink);
#endif
    const vf a = vf_set1(0.5f), b = vf_set1(1.0f);
    vf sum[ACCUMULATORS];
    for (int i = 0; i < ACCUMULATORS; i++) sum[i] = vf_zero();
    double products = 1;
#if defined(VEC_PAIRS)
    if (bf16) {
        products = 2;
        MULTIPLY_ADD_TURNS(vf_dot_pairs(a, b, sum[i]));
    } else
#endif
        MULTIPLY_ADD_TURNS(vf_fma(sum[i], a, b));
    (void)bf16; /* elsewhere the numbers are widened and multiplied like float32 */
    float lanes[VW], total = 0;
    for (int i = 0; i < ACCUMULATORS; i++) {
        vf_store(lanes, sum[i]);
        total += lanes[0];
    }
    *sink = total;
    return 2 * products * VW * ACCUMULATORS * (double)TURNS;
}
