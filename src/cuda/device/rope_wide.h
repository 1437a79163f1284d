/* Double-double arithmetic (Dekker, 1971; Hida, Li & Bailey, "Algorithms for quad-double precision floating point arithmetic", 2001)
 * and what rope makes of a given frequency with it. C and CUDA both read this header, so a frequency has the same bits on both. */
#ifndef INVAR_CUDA_ROPE_WIDE_H
#define INVAR_CUDA_ROPE_WIDE_H

#ifdef __CUDACC__
#define INVAR_WIDE __device__ static inline
#else
#define INVAR_WIDE static inline
#endif

typedef struct wide {
    double high, low; /* |low| <= half an ulp of high */
} wide;

INVAR_WIDE wide wide_of(double high, double low) {
    wide made;
    made.high = high;
    made.low = low;
    return made;
}

/* a + b for |a| >= |b|, exactly. */
INVAR_WIDE wide wide_fast_sum(double a, double b) {
    double s = a + b;
    return wide_of(s, b - (s - a));
}

/* a + b exactly (Knuth). */
INVAR_WIDE wide wide_exact_sum(double a, double b) {
    double s = a + b, bb = s - a;
    return wide_of(s, (a - (s - bb)) + (b - bb));
}

INVAR_WIDE double wide_high_half(double a) {
    double t = a * (0x1p27 + 1);
    return t - (t - a);
}

/* a · b exactly. */
INVAR_WIDE wide wide_exact_product(double a, double b) {
    double p = a * b, ah = wide_high_half(a), al = a - ah, bh = wide_high_half(b), bl = b - bh;
    return wide_of(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl);
}

INVAR_WIDE wide wide_product(wide a, wide b) {
    wide p = wide_exact_product(a.high, b.high);
    return wide_fast_sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

INVAR_WIDE wide wide_quotient(wide a, wide b) {
    double q = a.high / b.high;
    wide back = wide_exact_product(q, b.high);
    double rest = ((a.high - back.high) - back.low) + (a.low - q * b.low);
    return wide_fast_sum(q, rest / b.high);
}

/* Quarter turns a position of a pair that turns by scale radians a position. */
INVAR_WIDE wide wide_quarter_turns(double scale) {
    return wide_product(wide_of(0x1.45f306dc9c883p-1, -0x1.6b01ec5417056p-55), wide_of(scale, 0)); /* 2/π */
}

/* As angles are formed from it: 0 below 2^-512, NaN where it is not below 2^512 in size, since halves' products would overflow. */
INVAR_WIDE wide wide_frequency(wide frequency) {
    double size = frequency.high < 0 ? -frequency.high : frequency.high;
    if (!(size < 0x1p512)) return wide_of(0 / (size - size), 0);
    return size < 0x1p-512 ? wide_of(0, 0) : frequency;
}

/* The frequency of a pair that is given as freqs' element; `quarter_turns` is wide_quarter_turns of scale. */
INVAR_WIDE wide wide_given_frequency(wide quarter_turns, float given) {
    double divisor = given;
    if (divisor - divisor != 0 && divisor == divisor) return wide_of(0, 0); /* infinite */
    return wide_frequency(wide_quotient(quarter_turns, wide_of(divisor, 0)));
}

#endif
