/* rope's angles, against a table of exact ones and against long double. */
#include "check.h"

#include <math.h>

static invar_rope_options turn_options(int64_t dims, int64_t offset) {
    invar_rope_options options = INVAR_ROPE_OPTIONS_INIT;
    options.dims = dims;
    options.offset = offset;
    return options;
}

/* cos and sin of position · scale · base^(-2 pair / dims), from 80-digit arithmetic. */
static const struct {
    int64_t position;
    double base, scale;
    int dims, pair;
    double cosine, sine;
} exact[] = {
    { 0, 0.5, 1.0, 80, 0, 1.0, 0.0 },
    { 1, 10000.0, 8.0, 64, 0, -0.14550003380861354, 0.9893582466233818 },
    { 7, 500000.0, 0.25, 128, 2, 0.39814536136868056, 0.917322337687578 },
    { 1000, 500000.0, -1.0, 64, 0, 0.5623790762907029, -0.8268795405320025 },
    { 4095, 10.0, 1.0 / 3, 80, 2, -0.724026984364215, -0.6897716476577308 },
    { 65537, 1000000.0, 8.0, 2, 0, -0.3092757791348447, 0.9509723931011534 },
    { 1048579, 10000.0, 1.0, 64, 0, -0.9810024227744145, -0.1939954806451142 },
    { 16777217, 10.0, 8.0, 64, 0, 0.6612975755208841, 0.7501236675443593 },
    { 268435455, 0.5, 0.25, 64, 0, -0.7748725926653524, 0.6321174456824261 },
    { 268435456, 10.0, 1.0 / 3, 80, 1, -0.6149028291984051, 0.7886028852621558 },
    { 1073741831, 0.5, 1.0, 80, 1, -0.5092720312892018, -0.8606055996486255 },
    { 2147483647, 1.0, 1.0, 80, 0, -0.6888366918779438, -0.7249165551445564 },
    { 2147483648, 10000.0, 1.0 / 3, 64, 1, 0.9885745956027013, -0.15073244152787943 },
    { 8589934597, 10000.0, 1.0, 80, 0, 0.9483770404347462, -0.31714506014792615 },
    { 1099511640121, 10000.0, -1.0, 2, 0, -0.5050308961155254, -0.8631012651877816 },
    { 4503599627370497, 10.0, 1.0, 64, 1, 0.31873464690220804, -0.9478439876182814 },
    { 9007199254740993, 0.5, 8.0, 128, 63, 0.5509549615053337, 0.834534978531551 },
    { 1152921504606846973, 1.0, 8.0, 80, 2, -0.900509967886902, 0.43483536854346466 },
    { 4611686018427387907, 500000.0, 1.0, 80, 0, 0.8033449219389642, 0.5955140102423111 },
    { 9223372036854775807, 0.5, 1.0, 256, 0, 0.8477880073480187, 0.5303352662202238 },
    { -1, 500000.0, 1.0, 64, 2, 0.9045954518793624, -0.42627112081300095 },
    { -77, 1000000.0, 1.0, 2, 0, -0.03097503173121646, -0.9995201585807313 },
    { -2147483648, 10000.0, 1.0, 64, 0, 0.23781619457280337, 0.9713101757929392 },
    { -9007199254740993, 10000.0, 1.0, 2, 0, 0.4287904318447045, 0.9034039880133538 },
    { INT64_MIN, 1000000.0, 1.0, 256, 33, 0.7743680012689558, -0.6327354886607218 },
    { 0, 10000.0, 1.0, 64, 1, 1.0, 0.0 },
    { 1, 1000000.0, 1.0, 128, 0, 0.5403023058681398, 0.8414709848078965 },
    { 7, 10000.0, -1.0, 64, 2, -0.700429935179435, 0.713721168177414 },
    { 1000, 1.0, 1.0 / 3, 80, 2, 0.947806419417522, 0.31884634435874654 },
    { 4095, 10000.0, 1.0, 2, 0, -0.0659759965580649, -0.9978212103769744 },
    { 65537, 1000000.0, 1.0, 128, 0, -0.9723619793535976, -0.23347843820694436 },
    { 1048579, 500000.0, 1.0 / 3, 80, 39, 0.5649080253001603, 0.825153878347229 },
    { 16777217, 1.0, 1.0, 80, 37, 0.9943839639136522, 0.10583256734754364 },
    { 268435455, 10000.0, 8.0, 80, 39, 0.7486210950265052, -0.6629980815065125 },
    { 268435456, 0.5, 8.0, 128, 33, 0.38456727877046565, -0.9230969657078714 },
    { 1073741831, 1.0, 1.0, 64, 0, 0.9986754552136597, 0.05145226092009371 },
    { 2147483647, 0.5, 1.0 / 3, 80, 0, 0.7130950695745206, -0.7010673446599189 },
    { 2147483648, 0.5, 1.0, 80, 1, 0.923161876983746, 0.3844114317809073 },
    { 8589934597, 1000000.0, 8.0, 128, 1, -0.9998430035044876, -0.01771915187375549 },
    { 1099511640121, 1000000.0, 1.0, 80, 1, 0.9462440561460244, 0.32345353021464984 },
    { 4503599627370497, 10000.0, 1.0, 256, 1, 0.31873464690220804, -0.9478439876182814 },
    { 9007199254740993, 0.5, 1.0, 2, 0, 0.4287904318447045, -0.9034039880133538 },
    { 1152921504606846973, 1000000.0, 1.0, 64, 2, -0.6244254483299232, -0.7810844125176064 },
    { 4611686018427387907, 1000000.0, 1.0, 64, 1, -0.569358951525419, -0.8220890367337808 },
    { 9223372036854775807, 10000.0, 1.0, 256, 0, 0.8477880073480187, 0.5303352662202238 },
    { -1, 500000.0, -1.0, 64, 15, 0.9999977291656191, 0.0021311179237718833 },
    { -77, 1.0, 1.0, 80, 1, -0.03097503173121646, -0.9995201585807313 },
    { -2147483648, 10000.0, 8.0, 2, 0, -0.3430284153708312, -0.939325026946571 },
    { -9007199254740993, 0.5, -1.0, 256, 0, 0.4287904318447045, -0.9034039880133538 },
    { INT64_MIN, 1000000.0, 1.0 / 3, 128, 1, -0.725848975401598, 0.6878541014695271 },
    { 0, 10000.0, 1.0, 64, 1, 1.0, 0.0 },
    { 1, 10000.0, 1.0 / 3, 2, 0, 0.9449569463147377, 0.3271946967961522 },
    { 7, 1000000.0, 0.25, 256, 2, 0.15988336632963682, 0.987135912208194 },
    { 1000, 10000.0, 1.0, 128, 2, -0.5845793142368688, 0.811336567255755 },
    { 4095, 10000.0, 1.0 / 3, 64, 16, 0.4681243019321108, 0.8836626267646347 },
    { 65537, 0.5, 1.0 / 3, 80, 0, 0.5664155809136697, -0.8241197665984175 },
    { 5, 1e-310, 1.0, 64, 1, 0.11724451529405354, -0.9931030780505428 }, /* below what a normal double can be */
    { 5, 0x1p-1074, 1.0, 256, 3, -0.9358986667129826, -0.3522693367933995 },
};
enum { EXACT = sizeof exact / sizeof exact[0] };

/* The turn of (1, 0) as cos and sin. */
static void turn_of(invar_context *context, invar_dtype type, int k, double *cosine, double *sine) {
    check_array x;
    check_array_init(&x, type, CHECK_SHAPE(1, exact[k].dims));
    for (int i = 0; i < exact[k].dims; i++) check_set(&x.tensor, i, i < exact[k].dims / 2);
    invar_rope_options options = turn_options(exact[k].dims, exact[k].position);
    options.base = exact[k].base;
    options.scale = exact[k].scale;
    CHECK_OK(invar_rope(context, &x.tensor, &x.tensor, NULL, NULL, &options));
    *cosine = check_get(&x.tensor, exact[k].pair);
    *sine = check_get(&x.tensor, exact[k].pair + exact[k].dims / 2);
    check_array_free(&x);
}

/* Of the angle, or of the position where pairs turn by less than 1 a position. */
static double size_of(int k) {
    const double turn = pow(exact[k].base, -2.0 * exact[k].pair / exact[k].dims);
    return fabs((double)exact[k].position * exact[k].scale) * (turn > 1 ? turn : 1);
}

static double angle_error(double cosine, double sine, int k) {
    return fabs(cosine * exact[k].sine - sine * exact[k].cosine);
}

/* 6e-8 rad would do to 2^28, and 5e-7 to 2^31. Double-double angles leave only the rounding of the two results, 4.3e-8, at any
 * position; the reference's long double has 64 bits or more. */
static void float32_angles_are_exact_at_any_position(void) {
    for (int c = 0; check_cpu(c); c++) {
        invar_context *context = check_context(check_cpu(c), 1);
        for (int k = 0; k < EXACT; k++) {
            double cosine, sine, size = size_of(k);
            turn_of(context, check_f32, k, &cosine, &sine);
            double allowed = 4.5e-8 + (c ? 0 : size * 0x1p-61), error = angle_error(cosine, sine, k);
            CHECK(error <= allowed, "%s, position %lld, pair %d of %d: off by %.3g rad", check_cpu(c),
                  (long long)exact[k].position, exact[k].pair, exact[k].dims, error);
            CHECK(size > 0x1p40 || fabs(cosine * cosine + sine * sine - 1) < 2e-7, "%s, case %d: not a turn", check_cpu(c), k);
        }
        invar_context_destroy(context);
    }
}

static void float64_angles_are_right_to_1e15_of_the_position(void) {
    invar_context *context = check_context(NULL, 1);
    for (int k = 0; k < EXACT; k++) {
        double cosine, sine, size = size_of(k);
        turn_of(context, check_f64, k, &cosine, &sine);
        CHECK(angle_error(cosine, sine, k) <= 1e-15 * (size > 1 ? size : 1), "position %lld: off by %.3g rad",
              (long long)exact[k].position, angle_error(cosine, sine, k));
    }
    invar_context_destroy(context);
}

/* Many positions against long double, whose own error at 2^31 is 1e-9 or less. */
static void float32_angles_hold_over_many_positions(void) {
    enum { DIMS = 64 };
    for (int c = 1; check_cpu(c); c++) {
        invar_context *context = check_context(check_cpu(c), 1);
        check_random random = { 23 };
        check_array x;
        check_array_init(&x, check_f32, CHECK_SHAPE(1, DIMS));
        for (int n = 0; n < 400; n++) {
            int64_t position = check_integer(&random, 0, (int64_t)1 << check_integer(&random, 4, 31));
            for (int i = 0; i < DIMS; i++) check_set(&x.tensor, i, i < DIMS / 2);
            invar_rope_options options = turn_options(DIMS, position);
            CHECK_OK(invar_rope(context, &x.tensor, &x.tensor, NULL, NULL, &options));
            for (int i = 0; i < DIMS / 2; i++) {
                long double angle = (long double)position * powl(10000, -2.0L * i / DIMS);
                long double error = (long double)check_get(&x.tensor, i) * sinl(angle) -
                                    (long double)check_get(&x.tensor, i + DIMS / 2) * cosl(angle);
                CHECK(fabsl(error) <= 4.6e-8L, "%s, position %lld, pair %d: off by %.3Lg rad", check_cpu(c),
                      (long long)position, i, fabsl(error));
            }
        }
        check_array_free(&x);
        invar_context_destroy(context);
    }
}

CHECK_MAIN(CHECK_TEST(float32_angles_are_exact_at_any_position), CHECK_TEST(float64_angles_are_right_to_1e15_of_the_position),
           CHECK_TEST(float32_angles_hold_over_many_positions))
