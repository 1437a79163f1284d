/* peak: float64 multiply-adds as the reference does them, for float64's roof. */
#include "cpu/kernels/peak.h"

invar_peak_kernel invar_reference_peak;

double invar_reference_peak(bool bf16, float *sink) {
    enum { ACCUMULATORS = 8, TURNS = 400000 };
    (void)bf16;
    double sum[ACCUMULATORS] = { 0 };
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < ACCUMULATORS; i++) sum[i] = sum[i] * 0.5 + 1.0;
    *sink = 0;
    for (int i = 0; i < ACCUMULATORS; i++) *sink += (float)sum[i];
    return 2.0 * ACCUMULATORS * TURNS;
}
