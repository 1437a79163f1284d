/* Rope's frequencies in double-double arithmetic, whose operations CUDA devices share. At position 2^31 an angle holds 31 bits before
 * the point: a frequency in double, with 53 bits, would leave it 2e-7 off. */
#include "api/rope_frequency.h"
#include "cuda/device/rope_wide.h"

#include <math.h>

static wide plain(double a) { return wide_of(a, 0); }

static wide wide_sum(wide a, wide b) {
    wide s = wide_exact_sum(a.high, b.high);
    return wide_fast_sum(s.high, s.low + (a.low + b.low));
}

static double power_of_two(int exponent) { /* -1022 … 1023 */
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const wide ln2 = { 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56 };

/* ln x for finite x > 0: x = m · 2^k with m in [√½, √2), ln m = 2 · atanh(s) with s = (m - 1) / (m + 1), |s| < 0.1716. The
 * terms of atanh's series from s^13 on are below 2^-33 of its sum, so double precision is enough for them. */
static wide logarithm(double x) {
    int k = 0;
    if (x < 0x1p-1022) x *= 0x1p54, k = -54;
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    k += (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) m *= 0.5, k++;
    wide s = wide_quotient(plain(m - 1), wide_exact_sum(m, 1)), square = wide_product(s, s);
    double tail = 0;
    for (int n = 37; n >= 13; n -= 2) tail = tail * square.high + 1.0 / n;
    wide series = plain(tail);
    for (int n = 11; n >= 1; n -= 2) series = wide_sum(wide_product(series, square), wide_quotient(plain(1), plain(n)));
    series = wide_product(series, s);
    return wide_sum(wide_product(ln2, plain(k)), (wide){ 2 * series.high, 2 * series.low });
}

/* e^x: x = k · ln 2 + r, e^r = (e^(r/16))^16, |r/16| < 0.0217. The terms of the exponential's series from the fifth power on are
 * below 2^-34 of its sum. Beyond ±2^512: 0 or NaN. */
static wide exponential(wide x) {
    if (!(x.high < 354)) return plain(NAN);
    if (x.high < -354) return plain(0);
    double k = (double)(int)(x.high * 1.4426950408889634 + (x.high < 0 ? -0.5 : 0.5));
    wide r = wide_sum(x, wide_product(ln2, plain(-k)));
    r.high *= 0.0625;
    r.low *= 0.0625;
    double tail = 0;
    for (int n = 13; n >= 6; n--) tail = (tail + 1) * r.high / n;
    wide series = plain(1 + tail);
    for (int n = 5; n >= 1; n--)
        series = wide_sum(wide_product(wide_product(series, r), wide_quotient(plain(1), plain(n))), plain(1));
    for (int i = 0; i < 4; i++) series = wide_product(series, series);
    double power = power_of_two((int)k);
    return (wide){ series.high * power, series.low * power };
}

static void store(double *high, double *low, wide frequency) {
    *high = frequency.high;
    *low = frequency.low;
}

/* A power series in base^(-2/dims), four chains at a time: each step of one chain waits for the last. */
static void fill_powers(double *high, double *low, int64_t pairs, wide first, wide ratio) {
    wide chain[4] = { first }, step = wide_product(ratio, ratio);
    for (int j = 1; j < 4; j++) chain[j] = wide_product(chain[j - 1], ratio);
    step = wide_product(step, step);
    for (int64_t i = 0; i < pairs; i += 4)
        for (int j = 0; j < 4; j++) {
            if (i + j < pairs) store(high + i + j, low + i + j, wide_frequency(chain[j]));
            chain[j] = wide_product(chain[j], step);
        }
}

void invar_rope_frequencies(double *high, double *low, int64_t dims, int64_t padded, double base, double scale,
                            const invar_view *freqs) {
    const int64_t pairs = dims / 2;
    const wide first = wide_quarter_turns(scale);
    for (int64_t i = pairs; i < padded; i++) high[i] = low[i] = 0;
    if (!freqs->data) {
        wide exponent = wide_quotient(wide_product(logarithm(base), plain(-2)), plain((double)dims));
        fill_powers(high, low, pairs, first, exponential(exponent));
        return;
    }
    for (int64_t i = 0; i < pairs; i++)
        store(high + i, low + i, wide_given_frequency(first, (float)invar_load_real(freqs, i * freqs->stride[0])));
}
