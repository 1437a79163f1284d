/* Error of the float32 exp2 and tanh of cpu/vec/math.h over every float32 value, in units in the last place of the correctly
 * rounded result; prints one line of JSON a function. For one instruction set, since all have the same bits:
 *
 *     cc -O2 -mavx2 -mfma -mf16c -ffp-contract=off -DINVAR_ISA=avx2 -Isrc -Iinclude bench/accuracy_math.c -o build/accuracy_math -lm
 *     build/accuracy_math
 */
#include "cpu/vec/math.h"

#include <math.h>
#include <stdio.h>

struct errors {
    double worst, sum;
    float at;
    long long count;
};

/* The distance between floats at the magnitude of x, x a float32 result that was not rounded yet. */
static double ulp(double x) {
    int exponent;
    frexp(x, &exponent);
    return ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

static void compare(struct errors *errors, float x, float got, double exact) {
    if (isnan(x) || isinf(exact) || (float)exact == INFINITY) return;
    double error = fabs((double)got - exact) / ulp(exact);
    errors->sum += error;
    errors->count++;
    if (error > errors->worst) errors->worst = error, errors->at = x;
}

/* Every value in [from, to] of the bits, VW at a time. */
static struct errors scan(vf (*function)(vf), double (*exact)(double), uint32_t from, uint32_t to) {
    struct errors errors = { 0 };
    for (uint64_t bits = from; bits <= to; bits += VW) {
        float x[VW], y[VW];
        for (int i = 0; i < VW; i++) x[i] = invar_float_from_bits((uint32_t)bits + (uint32_t)i);
        vf_store(y, function(vf_load(x)));
        for (int i = 0; i < VW && bits + (uint64_t)i <= to; i++) compare(&errors, x[i], y[i], exact(x[i]));
    }
    return errors;
}

static vf exp2_vector(vf x) { return vf_exp2(x); }
static vf tanh_vector(vf x) { return vf_tanh(x); }

static void report(const char *name, const char *domain, struct errors e) {
    printf("{\"function\": \"%s\", \"domain\": \"%s\", \"values\": %lld, ", name, domain, e.count);
    printf("\"max_ulp\": %.3f, \"mean_ulp\": %.3f, \"at\": \"%a\"}\n", e.worst, e.sum / (double)e.count, (double)e.at);
}

int main(void) {
    report("exp2", "[-126, -0]", scan(exp2_vector, exp2, 0x80000000u, 0xc2fc0000u));
    report("exp2", "[0, 127]", scan(exp2_vector, exp2, 0, 0x42fe0000u));
    report("tanh", "[0, inf)", scan(tanh_vector, tanh, 0, 0x7f7fffffu));
    report("tanh", "(-inf, -0]", scan(tanh_vector, tanh, 0x80000000u, 0xff7fffffu));
    return 0;
}
