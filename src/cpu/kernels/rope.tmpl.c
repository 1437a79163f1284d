/* rope and its VJP on one instruction set (Su et al., "RoFormer", 2021).
 *
 *   y1 = fma(x1, cos, -(x2 · sin)), y2 = fma(x2, cos, x1 · sin)      for the two features of a pair
 *
 * Cosines and sines are formed once a position and pair, in a table for a block of positions that stays in L1 while every
 * slice of the task turns by it. An angle is counted in quarter turns: position · frequency, an exact product in two doubles,
 * less the nearest integer, is a remainder in [-½, ½] quarter turns with an error near 2^-53, and the integer is the quadrant.
 * Only the multiple of 8 below a position and what it is more, 0 to 7, go that way, some 45 operations each; their cosines and
 * sines, in double, give the position's by the addition theorems, 6 operations. */
#include "cpu/kernels/rope.h"
#include "cpu/vec/double.h"
#include "cpu/vec/stream.h"
#include "cpu/vec/typed.h"
#include "cpu/vec/vec.h"

#include <math.h>

/* ---- fetching --------------------------------------------------------------------------------------------- */

static int64_t row_bytes(const invar_rope_job *job) { return job->features * (int64_t)invar_float_size(job->type); }
VEC_INLINE void fetch_row(const char *row, int64_t bytes) {
    for (int64_t b = 0; b < bytes; b += VEC_LINE) vec_prefetch(row + b, true);
}

/* Where a slice's piece begins the processor cannot foresee: its first rows, while the piece before is turned. What follows
 * them it fetches by itself, and a short piece is not worth it. */
static void fetch_head(const invar_rope_job *job, const char *x, const char *y, int64_t count) {
    enum { PIECE = 4096, HEAD = 512 }; /* bytes */
    const int64_t bytes = row_bytes(job), rows = bytes < HEAD ? HEAD / bytes : 1;
    if (count * bytes < PIECE) return;
    for (int64_t i = 0; i < rows && i < count; i++) fetch_row(x + i * job->x.row, bytes), fetch_row(y + i * job->y.row, bytes);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

typedef struct angle {
    vd rest, quadrant; /* quarter turns in [-½, ½]; whole ones, from -2 to 2 */
} angle;

/* (high + low) · (frequency high + low), reduced. high · high is exact in two doubles; the other products need no more than
 * double: they are 2^-53 of it. Beyond 2^53 they still pass whole quarter turns, so the sum is reduced again. */
VEC_INLINE angle reduce(vd high, vd low, const double *frequency, const double *frequency_low) {
    vd f = vd_load(frequency), whole = vd_mul(high, f), rest = vd_product_error(high, f, whole);
    vd cross = vd_add(vd_mul(high, vd_load(frequency_low)), vd_mul(low, f));
    vd turns = vd_round(whole), sum = vd_add(vd_sub(whole, turns), vd_add(rest, cross)), more = vd_round(sum);
    vd four = vd_set1(4), quarter = vd_set1(0.25);
    vd quadrant = vd_add(vd_sub(turns, vd_mul(four, vd_round(vd_mul(turns, quarter)))), more);
    quadrant = vd_sub(quadrant, vd_mul(four, vd_round(vd_mul(quadrant, quarter))));
    return (angle){ vd_sub(sum, more), quadrant };
}

/* sin(π/2 · r) and cos(π/2 · r) for |r| <= ½: minimax polynomials, relative errors 4.6e-12 and 6.4e-11. */
VEC_INLINE vd sine(vd r, vd square) {
    vd p = vd_add(vd_mul(vd_set1(0x1.4bc2556237b5fp-13), square), vd_set1(-0x1.32ca854c64fc0p-8));
    p = vd_add(vd_mul(p, square), vd_set1(0x1.466bba8bfb50ep-4));
    p = vd_add(vd_mul(p, square), vd_set1(-0x1.4abbce564cd75p-1));
    return vd_mul(vd_add(vd_mul(p, square), vd_set1(0x1.921fb5443af5fp+0)), r);
}
VEC_INLINE vd cosine(vd square) {
    vd p = vd_add(vd_mul(vd_set1(0x1.d9d57ea4e7061p-11), square), vd_set1(-0x1.55c5dfbef05cfp-6));
    p = vd_add(vd_mul(p, square), vd_set1(0x1.03c1dd961dea7p-2));
    p = vd_add(vd_mul(p, square), vd_set1(-0x1.3bd3cc7b83c1ep+0));
    return vd_add(vd_mul(p, square), vd_set1(1));
}

/* Cosines and sines of every pair at position high + low, in double, the sines behind the padded cosines. The quadrant q's, 1 - |q|
 * and q · (2 - |q|), are 0 or ±1, so that turning by it is exact. */
static void fill_turns(const invar_rope_job *job, double *turns, double high, double low) {
    const int64_t padded = invar_rope_padded_pairs(job);
    const vd h = vd_set1(high), l = vd_set1(low);
    for (int64_t i = 0; i < padded; i += VDW) {
        angle a = reduce(h, l, job->high + i, job->low + i);
        vd square = vd_mul(a.rest, a.rest), s = sine(a.rest, square), c = cosine(square), size = vd_abs(a.quadrant);
        vd across = vd_sub(vd_set1(1), size), up = vd_mul(a.quadrant, vd_sub(vd_set1(2), size));
        vd_store(turns + i, vd_sub(vd_mul(c, across), vd_mul(s, up)));
        vd_store(turns + padded + i, vd_add(vd_mul(s, across), vd_mul(c, up)));
    }
}

/* What angles are added up from: rows of fill_turns, for the multiple of 8 below a position and for 0 to 7. */
typedef struct rope_turns {
    double *base, *near; /* one row; INVAR_ROPE_NEAR */
    unsigned known;      /* a bit for each row of near that is filled */
} rope_turns;

VEC_INLINE vd cosine_of_sum(const double *a, const double *b, int64_t sines) {
    return vd_sub(vd_mul(vd_load(a), vd_load(b)), vd_mul(vd_load(a + sines), vd_load(b + sines)));
}
VEC_INLINE vd sine_of_sum(const double *a, const double *b, int64_t sines) {
    return vd_add(vd_mul(vd_load(a + sines), vd_load(b)), vd_mul(vd_load(a), vd_load(b + sines)));
}

/* Where features stand together, two vectors of bfloat16 are loaded and stored split, even elements apart from odd ones
 * (vec/lanes.h), so their cosines and sines lie in that order too. */
static void split_runs(float *values, int64_t count) {
    for (int64_t i = 0; i + 2 * VW <= count; i += 2 * VW) {
        vf even, odd;
        vf_unzip(vf_load(values + i), vf_load(values + i + VW), &even, &odd);
        vf_store(values + i, even);
        vf_store(values + i + VW, odd);
    }
}

/* One position's row: cos of every pair, then sin, rounded once to float; for neighbours each twice, with sin's sign turned for
 * the first. */
static void fill_row(const invar_rope_job *job, float *row, const double *base, const double *near) {
    const int64_t pairs = job->dims / 2, half = invar_rope_table_row(job) / 2, sines = invar_rope_padded_pairs(job);
    const bool inverse = job->inverse, traditional = job->traditional, bf16 = job->type == INVAR_BF16;
    for (int64_t i = 0; i < pairs; i += VW) {
        const double *a = base + i, *b = near + i;
        vf cos = vf_from_vd(cosine_of_sum(a, b, sines), cosine_of_sum(a + VDW, b + VDW, sines));
        vf sin = vf_from_vd(sine_of_sum(a, b, sines), sine_of_sum(a + VDW, b + VDW, sines)), first, second;
        if (inverse) sin = vf_neg(sin);
        if (bf16) { /* a NaN of any other form might not survive the rounding of vf_join_split */
            sin = vf_select(vf_eq(sin, sin), sin, vf_set1(NAN));
            cos = vf_select(vf_eq(cos, cos), cos, vf_set1(NAN));
        }
        if (!traditional) {
            vf_store(row + i, cos);
            vf_store(row + half + i, sin);
            continue;
        }
        vf_zip(cos, cos, &first, &second);
        vf_store(row + 2 * i, first);
        vf_store(row + 2 * i + VW, second);
        vf_zip(vf_neg(sin), sin, &first, &second);
        vf_store(row + half + 2 * i, first);
        vf_store(row + half + 2 * i + VW, second);
    }
    if (!VEC_SPLIT || job->type != INVAR_BF16 || job->x.step != 2 || job->y.step != 2) return;
    split_runs(row, job->traditional ? 2 * pairs : pairs);
    split_runs(row + half, job->traditional ? 2 * pairs : pairs);
}

/* An integer modulo 8; from 2^62 on a double is a multiple of it. */
static unsigned modulo_near(double integer) {
    const bool small = integer < 0x1p62 && integer > -0x1p62;
    return small ? (unsigned)((int64_t)integer & (INVAR_ROPE_NEAR - 1)) : 0;
}

/* A position's angles are added up from those of `sum + rest`, `more` of which come from near. */
typedef struct rope_place {
    double sum, rest;
    unsigned more;
} rope_place;

/* first + high + low: its angles' base, and how far above a multiple of 8 it is. */
VEC_INLINE rope_place place_of(double high, double low, int64_t first) {
    const double position = (double)first, sum = high + position, back = sum - high;
    const double rest = low + ((high - (sum - back)) + (position - back));
    return (rope_place){ sum, rest, (modulo_near(sum) + modulo_near(rest)) % INVAR_ROPE_NEAR };
}

/* Positions first … first+count-1 of a batch. Their offset's parts add up exactly to high + low, two integers. x and y, unless
 * NULL: the rows that are turned first, which come nearer meanwhile. */
static void fill_table(const invar_rope_job *job, float *table, rope_turns *turns, int64_t batch, int64_t first, int64_t count,
                       const char *x, const char *y) {
    double parts[4], high = 0, low = 0;
    invar_rope_offset(job, batch, parts);
    for (int i = 0; i < 4; i++) {
        double sum = high + parts[i], back = sum - high;
        low += (high - (sum - back)) + (parts[i] - back);
        high = sum;
    }
    const int64_t width = invar_rope_table_row(job), turn = 2 * invar_rope_padded_pairs(job), bytes = row_bytes(job);
    const bool small = low == 0 && high > -0x1p52 && high < 0x1p52; /* then positions are exact in 64 bits, and in double */
    const int64_t begin = small ? (int64_t)high + first : 0;
    for (int64_t i = 0; i < count; i++) {
        if (x) fetch_row(x + i * job->x.row, bytes), fetch_row(y + i * job->y.row, bytes);
        const rope_place p = small ? (rope_place){ (double)(begin + i), 0, (unsigned)(begin + i) % INVAR_ROPE_NEAR }
                                   : place_of(high, low, first + i);
        double *near = turns->near + p.more * turn;
        if ((!i || !p.more) && p.rest == 0) fill_turns(job, turns->base, p.sum - p.more, 0);
        else if (!i || !p.more) fill_turns(job, turns->base, p.sum, p.rest - p.more);
        if (!(turns->known >> p.more & 1)) fill_turns(job, near, p.more, 0);
        turns->known |= 1u << p.more;
        fill_row(job, table + i * width, turns->base, near);
    }
}

/* ---- turning -------------------------------------------------------------------------------------------- */

/* What two vectors fill of a row: one, or for floats the first. */
VEC_INLINE vf lead_of(const int type, vf a, vf b) {
    return type == INVAR_BF16 ? vec_joined_bits(vf_join_split(a, b)) : type == INVAR_F16 ? vf_join_f16_bits(a, b) : a;
}
VEC_INLINE void push_two(const int type, vec_flow *flow, int64_t at, vf a, vf b) {
    vec_flow_push(flow, at, lead_of(type, a, b));
    if (type == INVAR_F32) vec_flow_push(flow, at + VEC_BYTES, b);
}

VEC_INLINE vf turn_first(vf a, vf b, vf cos, vf sin) { return vf_fma(a, cos, vf_neg(vf_mul(b, sin))); }
VEC_INLINE vf turn_second(vf a, vf b, vf cos, vf sin) { return vf_fma(b, cos, vf_mul(a, sin)); }

/* Pairs (i, i + dims/2): two vectors of first ones from x, and of second ones from `far` bytes on. */
VEC_INLINE void turn_two_halves(const int type, const char *x, int64_t far, const float *row, int64_t sines, vf first[2],
                                vf second[2]) {
    vf a, b, c, d;
    const vf cos = vf_load(row), cos2 = vf_load(row + VW), sin = vf_load(row + sines), sin2 = vf_load(row + sines + VW);
    vf_load_two_as(type, x, &a, &c);
    vf_load_two_as(type, x + far, &b, &d);
    first[0] = turn_first(a, b, cos, sin), first[1] = turn_first(c, d, cos2, sin2);
    second[0] = turn_second(a, b, cos, sin), second[1] = turn_second(c, d, cos2, sin2);
}
VEC_INLINE void turn_halves(const int type, char *y, const char *x, const float *row, int64_t sines,
                            int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t far = pairs * item;
    int64_t i = 0;
    for (vf first[2], second[2]; i + 2 * VW <= pairs; i += 2 * VW) {
        turn_two_halves(type, x + i * item, far, row + i, sines, first, second);
        vf_store_two_as(type, y + i * item, first[0], first[1]);
        vf_store_two_as(type, y + far + i * item, second[0], second[1]);
    }
    for (int n; i < pairs; i += n) {
        n = pairs - i < VW ? (int)(pairs - i) : VW;
        vf a = vf_load_as_n(type, x + i * item, n), b = vf_load_as_n(type, x + far + i * item, n);
        vf cos = vf_load(row + i), sin = vf_load(row + sines + i); /* the table is padded */
        vf_store_as_n(type, y + i * item, turn_first(a, b, cos, sin), n);
        vf_store_as_n(type, y + far + i * item, turn_second(a, b, cos, sin), n);
    }
}

/* Pairs (2i, 2i + 1): the partner stands in the neighbouring lane or, where two vectors are split, in the other one. */
VEC_INLINE vf turn_with(vf v, vf partner, const float *row, int64_t sines) {
    return vf_fma(v, vf_load(row), vf_mul(partner, vf_load(row + sines)));
}
VEC_INLINE void turn_two_pairs(const int type, const char *x, const float *row, int64_t sines, vf *a, vf *b) {
    const bool split = VEC_SPLIT && type == INVAR_BF16;
    vf first, second;
    vf_load_two_as(type, x, &first, &second);
    *a = turn_with(first, split ? second : vf_swap_pairs(first), row, sines);
    *b = turn_with(second, split ? first : vf_swap_pairs(second), row + VW, sines);
}
VEC_INLINE void turn_neighbours(const int type, char *y, const char *x, const float *row, int64_t sines,
                                int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t count = 2 * pairs;
    int64_t i = 0;
    for (vf a, b; i + 2 * VW <= count; i += 2 * VW) {
        turn_two_pairs(type, x + i * item, row + i, sines, &a, &b);
        vf_store_two_as(type, y + i * item, a, b);
    }
    for (int n; i < count; i += n) {
        n = count - i < VW ? (int)(count - i) : VW;
        vf v = vf_load_as_n(type, x + i * item, n);
        vf_store_as_n(type, y + i * item, turn_with(v, vf_swap_pairs(v), row + i, sines), n);
    }
}

VEC_INLINE void turn_row(const int type, const invar_rope_job *job, char *y, const char *x, const float *row,
                         int64_t sines) {
    if (job->traditional) turn_neighbours(type, y, x, row, sines, job->dims / 2);
    else turn_halves(type, y, x, row, sines, job->dims / 2);
}

/* Features that do not stand together: pair by pair. */
static void turn_scattered(const invar_rope_job *job, char *y, const char *x, const float *row, int64_t sines) {
    const int64_t pairs = job->dims / 2, next = job->traditional ? 1 : pairs;
    for (int64_t i = 0; i < pairs; i++) {
        int64_t first = job->traditional ? 2 * i : i, second = first + next;
        float a = (float)invar_load_float(x + first * job->x.step, job->type);
        float b = (float)invar_load_float(x + second * job->x.step, job->type);
        float cos = row[first], sin = row[sines + (job->traditional ? second : first)];
        invar_store_float(y + first * job->y.step, job->type, sf_fma(a, cos, -(b * sin)));
        invar_store_float(y + second * job->y.step, job->type, sf_fma(b, cos, a * sin));
    }
}

/* Features that are not turned. Asked apart: a call for each row takes 2 to 8 % of the time. */
VEC_INLINE bool has_rest(const invar_rope_job *job) { return job->dims != job->features && job->x.data != job->y.data; }
static void copy_rest(const invar_rope_job *job, char *y, const char *x) {
    const size_t item = invar_float_size(job->type);
    if (job->x.step == (int64_t)item && job->y.step == (int64_t)item) {
        memcpy(y + (size_t)job->dims * item, x + (size_t)job->dims * item, (size_t)(job->features - job->dims) * item);
        return;
    }
    for (int64_t i = job->dims; i < job->features; i++) memcpy(y + i * job->y.step, x + i * job->x.step, item);
}

/* ---- past the caches -------------------------------------------------------------------------------------- */

/* Rows of whole vectors go past the caches from the registers, wherever they begin; others are turned into a stage in L1 and go
 * from there in whole cache lines. Either way reading and writing take turns of some KiB, which is faster than row by row. */
enum { STAGE = 4096, FETCHED = 1024 /* bytes that are fetched at once, while as many are turned */ };
typedef struct rope_past {
    _Alignas(64) char before[VEC_LINE], stage[STAGE]; /* as vec_stream wants it */
    vec_stream stream;
    vec_seam seam;
    bool flows; /* from the registers */
} rope_past;

/* A row, at `at` bytes of the flow. The vector that the second halves begin with waits for the last one of the first halves. */
VEC_INLINE void flow_halves(const int type, vec_flow *flow, int64_t at, const char *x, const float *row, int64_t sines,
                            int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t far = pairs * item;
    vf first[2], second[2], waiting = vf_zero();
    vec_flow behind = *flow;
    behind.aligned += far;
    behind.apart = -1;
    for (int64_t i = 0; i < pairs; i += 2 * VW) {
        turn_two_halves(type, x + i * item, far, row + i, sines, first, second);
        push_two(type, flow, at + i * item, first[0], first[1]);
        if (i) push_two(type, &behind, at + i * item, second[0], second[1]);
        else {
            behind.rest = waiting = lead_of(type, second[0], second[1]);
            if (type == INVAR_F32) vec_flow_push(&behind, at + VEC_BYTES, second[1]);
        }
    }
    vec_flow_push(flow, at + far, waiting);
    flow->rest = behind.rest;
}

VEC_INLINE void flow_neighbours(const int type, vec_flow *flow, int64_t at, const char *x, const float *row, int64_t sines,
                                int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    vf a, b;
    for (int64_t i = 0; i < 2 * pairs; i += 2 * VW) {
        turn_two_pairs(type, x + i * item, row + i, sines, &a, &b);
        push_two(type, flow, at + i * item, a, b);
    }
}

/* Rows that follow one on the other in y. */
VEC_INLINE void flow_rows(const int type, const invar_rope_job *job, char *y, const char *x, const char *ahead,
                          const float *table, int64_t count, vec_seam *seam) {
    const int64_t width = invar_rope_table_row(job), sines = width / 2, pairs = job->dims / 2;
    const int64_t bytes = job->features * (type == INVAR_F32 ? 4 : 2), together = bytes < FETCHED ? FETCHED / bytes : 1;
    vec_flow flow = vec_flow_begin(seam, y);
    for (int64_t i = 0, end; i < count; i = end) {
        end = count - i < together ? count : i + together;
        for (int64_t k = i; ahead && k < end; k++) fetch_row(ahead + k * job->x.row, bytes);
        for (int64_t k = i; k < end; k++) {
            const char *from = x + k * job->x.row;
            if (job->traditional) flow_neighbours(type, &flow, k * bytes, from, table + k * width, sines, pairs);
            else flow_halves(type, &flow, k * bytes, from, table + k * width, sines, pairs);
        }
    }
    const vec_flow written = flow;
    vec_flow_end(&written, seam, count * bytes, NULL, 0);
}

/* Rows, and halves of rows, of whole vectors that begin at multiples of 4 bytes. A vector must be a line: with AVX2, storing
 * halves of lines in two places by turns, float32 took 6 to 10 % longer than through the stage. */
static bool flows(const invar_rope_job *job) {
    uintptr_t odd = (uintptr_t)job->y.data | (uintptr_t)job->y.row;
    for (int d = 0; d < job->ndim; d++) odd |= (uintptr_t)job->y.stride[d];
    return VW == 16 && job->stream && job->flows && odd % 4 == 0 && job->dims == job->features && job->dims % (4 * VW) == 0;
}

/* One slice's rows of a block, whose features stand together; ahead: the next slice's, or NULL. */
VEC_INLINE void turn_block(const int type, const invar_rope_job *job, char *y, const char *x, const char *ahead,
                           const float *table, int64_t count, rope_past *past) {
    const int64_t width = invar_rope_table_row(job), bytes = job->features * (type == INVAR_F32 ? 4 : 2);
    const bool rest = has_rest(job), flowing = past->flows, staged = !flowing && job->stream && VEC_STREAMS && bytes <= STAGE;
    const int64_t most = !staged && !flowing ? count : job->y.row != bytes ? 1 : staged ? STAGE / bytes : count;
    for (int64_t i = 0, n; i < count; i += n) {
        n = count - i < most ? count - i : most;
        char *to = staged ? past->stage : y + i * job->y.row;
        if (flowing) {
            flow_rows(type, job, to, x + i * job->x.row, ahead ? ahead + i * job->x.row : NULL, table + i * width, n,
                      &past->seam);
            continue;
        }
        for (int64_t k = 0; k < n; k++, to += staged ? bytes : job->y.row) {
            const char *from = x + (i + k) * job->x.row;
            if (ahead) fetch_row(ahead + (i + k) * job->x.row, bytes);
            turn_row(type, job, to, from, table + (i + k) * width, width / 2);
            if (rest) copy_rest(job, to, from);
        }
        if (staged) vec_stream_put(&past->stream, y + i * job->y.row, (size_t)(n * bytes), past->stage);
    }
}

static void turn_slice(const invar_rope_job *job, char *y, const char *x, const char *ahead, const float *table, int64_t count,
                       rope_past *past) {
    const int64_t width = invar_rope_table_row(job), item = (int64_t)invar_float_size(job->type);
    if (job->x.step != item || job->y.step != item) {
        for (int64_t i = 0; i < count; i++, y += job->y.row, x += job->x.row) {
            turn_scattered(job, y, x, table + i * width, width / 2);
            if (has_rest(job)) copy_rest(job, y, x);
        }
    } else if (job->type == INVAR_F32) turn_block(INVAR_F32, job, y, x, ahead, table, count, past);
    else if (job->type == INVAR_F16) turn_block(INVAR_F16, job, y, x, ahead, table, count, past);
    else turn_block(INVAR_BF16, job, y, x, ahead, table, count, past);
}

invar_rope_kernel INVAR_KERNEL_NAME(rope);

void INVAR_KERNEL_NAME(rope)(const invar_rope_job *job, int64_t first_position, int64_t positions, int64_t first_slice,
                             int64_t slices, void *scratch) {
    rope_turns turns = { .near = scratch };
    turns.base = turns.near + INVAR_ROPE_NEAR * 2 * invar_rope_padded_pairs(job);
    float *table = (float *)(void *)(turns.base + 2 * invar_rope_padded_pairs(job));
    rope_past past; /* without an initialiser: it would clear the stage */
    past.stream = (vec_stream){ past.stage, NULL, 0 };
    past.seam.end = NULL;
    past.flows = flows(job);
    int64_t filled = 0; /* the batch that the table is for */
    for (int64_t done = 0; done < positions; done += job->block) {
        int64_t first = first_position + done, count = positions - done < job->block ? positions - done : job->block;
        invar_rope_walk walk;
        invar_rope_walk_to(&walk, job, first_slice);
        for (int64_t s = 0; s < slices; s++) {
            const int64_t batch = walk.index[0], from = first * job->x.row;
            char *y = job->y.data + walk.y + first * job->y.row;
            const char *x = job->x.data + walk.x + from;
            if (!s || (job->offsets.data && batch != filled))
                fill_table(job, table, &turns, filled = batch, first, count, job->stream ? NULL : x, y);
            invar_rope_walk_next(&walk, job);
            if (!job->stream && s + 1 < slices)
                fetch_head(job, job->x.data + walk.x + from, job->y.data + walk.y + first * job->y.row, count);
            turn_slice(job, y, x, job->stream && s + 1 < slices ? job->x.data + walk.x + from : NULL, table, count, &past);
        }
    }
    vec_stream_flush(&past.stream);
    vec_seam_flush(&past.seam);
    if (job->stream) vec_stream_end();
}
