/* rope and its VJP on one instruction set (Su et al., "RoFormer", 2021).
 *
 *   y1 = fma(x1, cos, -(x2 · sin)), y2 = fma(x2, cos, x1 · sin)      for the two features of a pair
 *
 * Cosines and sines are formed once a position and pair, in a table for a block of positions that stays in L1 while every
 * slice of the task turns by it. An angle is counted in quarter turns: position · frequency, an exact product in two doubles,
 * less the nearest integer, is a remainder in [-½, ½] quarter turns with an error near 2^-53, and the integer is the quadrant. */
#include "cpu/kernels/rope.h"
#include "cpu/vec/double.h"
#include "cpu/vec/lanes.h"
#include "cpu/vec/stream.h"
#include "cpu/vec/vec.h"

#include <math.h>

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

/* cos and sin of VW pairs at one position, each rounded once to float. */
VEC_INLINE void cosine_and_sine(vd high, vd low, const double *frequency, const double *frequency_low, vf *cosines, vf *sines) {
    angle a = reduce(high, low, frequency, frequency_low);
    angle b = reduce(high, low, frequency + VDW, frequency_low + VDW);
    vd aa = vd_mul(a.rest, a.rest), bb = vd_mul(b.rest, b.rest);
    vf s = vf_from_vd(sine(a.rest, aa), sine(b.rest, bb)), c = vf_from_vd(cosine(aa), cosine(bb));
    vf quadrant = vf_from_vd(a.quadrant, b.quadrant), square = vf_mul(quadrant, quadrant), one = vf_set1(1.0f);
    vm odd = vf_eq(square, one), opposite = vf_eq(square, vf_set1(4.0f));
    vf sin = vf_select(odd, c, s), cos = vf_select(odd, s, c);
    *sines = vf_select(vm_or(opposite, vf_eq(quadrant, vf_set1(-1.0f))), vf_neg(sin), sin);
    *cosines = vf_select(vm_or(opposite, vf_eq(quadrant, one)), vf_neg(cos), cos);
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

/* One position's row: cos of every pair, then sin; for neighbours each twice, with sin's sign turned for the first. */
static void fill_row(const invar_rope_job *job, float *row, double high, double low) {
    const int64_t pairs = job->dims / 2, half = invar_rope_table_row(job) / 2;
    const vd h = vd_set1(high), l = vd_set1(low);
    for (int64_t i = 0; i < pairs; i += VW) {
        vf cos, sin, first, second;
        cosine_and_sine(h, l, job->high + i, job->low + i, &cos, &sin);
        if (job->inverse) sin = vf_neg(sin);
        if (job->type == INVAR_BF16) { /* a NaN of any other form might not survive the rounding of vf_join_split */
            sin = vf_select(vf_eq(sin, sin), sin, vf_set1(NAN));
            cos = vf_select(vf_eq(cos, cos), cos, vf_set1(NAN));
        }
        if (!job->traditional) {
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

/* Positions first … first+count-1 of a batch. Their offset's parts add up exactly to high + low, two integers. */
static void fill_table(const invar_rope_job *job, float *table, int64_t batch, int64_t first, int64_t count) {
    double parts[4], high = 0, low = 0;
    invar_rope_offset(job, batch, parts);
    for (int i = 0; i < 4; i++) {
        double sum = high + parts[i], back = sum - high;
        low += (high - (sum - back)) + (parts[i] - back);
        high = sum;
    }
    const int64_t width = invar_rope_table_row(job);
    for (int64_t i = 0; i < count; i++) {
        double position = (double)(first + i), sum = high + position, back = sum - high;
        fill_row(job, table + i * width, sum, low + ((high - (sum - back)) + (position - back)));
    }
}

/* ---- turning -------------------------------------------------------------------------------------------- */

VEC_INLINE vf load(const int type, const void *p) {
    return type == INVAR_F32 ? vf_load(p) : type == INVAR_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}
VEC_INLINE vf load_n(const int type, const void *p, int n) {
    return type == INVAR_F32 ? vf_load_n(p, n) : type == INVAR_F16 ? vf_load_f16_n(p, n) : vf_load_bf16_n(p, n);
}
VEC_INLINE void store(const int type, void *p, vf v) {
    if (type == INVAR_F32) vf_store(p, v);
    else if (type == INVAR_F16) vf_store_f16(p, v);
    else vf_store_bf16(p, v);
}
/* Two vectors, side by side; bfloat16 split. */
VEC_INLINE void load_two(const int type, const void *p, vf *a, vf *b) {
    if (type == INVAR_BF16) {
        vf_load_split(p, a, b);
        return;
    }
    *a = load(type, p);
    *b = load(type, (const char *)p + VW * (type == INVAR_F32 ? 4 : 2));
}
VEC_INLINE void store_two(const int type, void *p, vf a, vf b) {
    if (type == INVAR_BF16) vec_store_joined(p, vf_join_split(a, b));
    else store(type, p, a), store(type, (char *)p + VW * (type == INVAR_F32 ? 4 : 2), b);
}
VEC_INLINE void store_n(const int type, void *p, vf v, int n) {
    if (type == INVAR_F32) vf_store_n(p, v, n);
    else if (type == INVAR_F16) vf_store_f16_n(p, v, n);
    else vf_store_bf16_n(p, v, n);
}

VEC_INLINE vf turn_first(vf a, vf b, vf cos, vf sin) { return vf_fma(a, cos, vf_neg(vf_mul(b, sin))); }
VEC_INLINE vf turn_second(vf a, vf b, vf cos, vf sin) { return vf_fma(b, cos, vf_mul(a, sin)); }

/* Pairs (i, i + dims/2). */
VEC_INLINE void turn_halves(const int type, char *y, const char *x, const float *row, int64_t sines,
                            int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t far = pairs * item;
    int64_t i = 0;
    for (; i + 2 * VW <= pairs; i += 2 * VW) {
        vf a, b, c, d;
        const vf cos = vf_load(row + i), cos2 = vf_load(row + i + VW);
        const vf sin = vf_load(row + sines + i), sin2 = vf_load(row + sines + i + VW);
        load_two(type, x + i * item, &a, &c);
        load_two(type, x + far + i * item, &b, &d);
        store_two(type, y + i * item, turn_first(a, b, cos, sin), turn_first(c, d, cos2, sin2));
        store_two(type, y + far + i * item, turn_second(a, b, cos, sin), turn_second(c, d, cos2, sin2));
    }
    for (int n; i < pairs; i += n) {
        n = pairs - i < VW ? (int)(pairs - i) : VW;
        vf a = load_n(type, x + i * item, n), b = load_n(type, x + far + i * item, n);
        vf cos = vf_load(row + i), sin = vf_load(row + sines + i); /* the table is padded */
        store_n(type, y + i * item, turn_first(a, b, cos, sin), n);
        store_n(type, y + far + i * item, turn_second(a, b, cos, sin), n);
    }
}

/* Pairs (2i, 2i + 1): the partner stands in the neighbouring lane or, where two vectors are split, in the other one. */
VEC_INLINE vf turn_with(vf v, vf partner, const float *row, int64_t sines) {
    return vf_fma(v, vf_load(row), vf_mul(partner, vf_load(row + sines)));
}
VEC_INLINE void turn_two(const int type, const char *x, const float *row, int64_t sines, vf *a, vf *b) {
    const bool split = VEC_SPLIT && type == INVAR_BF16;
    vf first, second;
    load_two(type, x, &first, &second);
    *a = turn_with(first, split ? second : vf_swap_pairs(first), row, sines);
    *b = turn_with(second, split ? first : vf_swap_pairs(second), row + VW, sines);
}
VEC_INLINE void turn_neighbours(const int type, char *y, const char *x, const float *row, int64_t sines,
                                int64_t pairs) {
    const int item = type == INVAR_F32 ? 4 : 2;
    const int64_t count = 2 * pairs;
    int64_t i = 0;
    for (vf a, b; i + 2 * VW <= count; i += 2 * VW) {
        turn_two(type, x + i * item, row + i, sines, &a, &b);
        store_two(type, y + i * item, a, b);
    }
    for (int n; i < count; i += n) {
        n = count - i < VW ? (int)(count - i) : VW;
        vf v = load_n(type, x + i * item, n);
        store_n(type, y + i * item, turn_with(v, vf_swap_pairs(v), row + i, sines), n);
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

static void copy_rest(const invar_rope_job *job, char *y, const char *x) {
    const size_t item = invar_float_size(job->type);
    if (x == y || job->dims == job->features) return;
    if (job->x.step == (int64_t)item && job->y.step == (int64_t)item) {
        memcpy(y + (size_t)job->dims * item, x + (size_t)job->dims * item, (size_t)(job->features - job->dims) * item);
        return;
    }
    for (int64_t i = job->dims; i < job->features; i++) memcpy(y + i * job->y.step, x + i * job->x.step, item);
}

/* Rows past the caches are turned into a stage in L1 and go from there in whole cache lines, wherever they begin: so reading and
 * writing take turns of some KiB, which is faster than row by row. */
enum { STAGE = 4096 };
typedef struct rope_stage {
    _Alignas(64) char before[VEC_LINE], bytes[STAGE]; /* as vec_stream wants it */
    vec_stream stream;
} rope_stage;

/* One slice's rows of a block, whose features stand together; ahead: the next slice's, or NULL. */
VEC_INLINE void turn_block(const int type, const invar_rope_job *job, char *y, const char *x, const char *ahead, const float *table,
                           int64_t count, rope_stage *stage) {
    const int64_t width = invar_rope_table_row(job), bytes = job->features * (type == INVAR_F32 ? 4 : 2);
    const bool staged = job->stream && VEC_STREAMS && bytes <= STAGE;
    const int64_t most = !staged ? count : job->y.row == bytes ? STAGE / bytes : 1;
    for (int64_t i = 0, n; i < count; i += n) {
        n = count - i < most ? count - i : most;
        char *to = staged ? stage->bytes : y + i * job->y.row;
        for (int64_t k = 0; k < n; k++, to += staged ? bytes : job->y.row) {
            const char *from = x + (i + k) * job->x.row;
            for (int64_t b = 0; ahead && b < bytes; b += VEC_LINE) vec_prefetch(ahead + (i + k) * job->x.row + b, true);
            turn_row(type, job, to, from, table + (i + k) * width, width / 2);
            copy_rest(job, to, from);
        }
        if (staged) vec_stream_put(&stage->stream, y + i * job->y.row, (size_t)(n * bytes), stage->bytes);
    }
}

static void turn_slice(const invar_rope_job *job, char *y, const char *x, const char *ahead, const float *table, int64_t count,
                       rope_stage *stage) {
    const int64_t width = invar_rope_table_row(job), item = (int64_t)invar_float_size(job->type);
    if (job->x.step != item || job->y.step != item) {
        for (int64_t i = 0; i < count; i++, y += job->y.row, x += job->x.row) {
            turn_scattered(job, y, x, table + i * width, width / 2);
            copy_rest(job, y, x);
        }
    } else if (job->type == INVAR_F32) turn_block(INVAR_F32, job, y, x, ahead, table, count, stage);
    else if (job->type == INVAR_F16) turn_block(INVAR_F16, job, y, x, ahead, table, count, stage);
    else turn_block(INVAR_BF16, job, y, x, ahead, table, count, stage);
}

invar_rope_kernel INVAR_KERNEL_NAME(rope);

void INVAR_KERNEL_NAME(rope)(const invar_rope_job *job, int64_t first_position, int64_t positions, int64_t first_slice,
                             int64_t slices, void *scratch) {
    float *table = scratch;
    rope_stage stage; /* without an initialiser: it would clear the bytes */
    stage.stream = (vec_stream){ stage.bytes, NULL, 0 };
    for (int64_t done = 0; done < positions; done += job->block) {
        int64_t first = first_position + done, count = positions - done < job->block ? positions - done : job->block;
        int64_t filled = -1; /* the batch that the table is for */
        for (int64_t s = first_slice; s < first_slice + slices; s++) {
            int64_t batch = s / job->batch_slices, x, y;
            if (filled < 0 || (job->offsets.data && batch != filled)) {
                fill_table(job, table, batch, first, count);
                filled = batch;
            }
            int64_t next = 0, unused;
            const bool more = job->stream && s + 1 < first_slice + slices;
            invar_rope_slice(job, s, &x, &y);
            if (more) invar_rope_slice(job, s + 1, &next, &unused);
            turn_slice(job, job->y.data + y + first * job->y.row, job->x.data + x + first * job->x.row,
                       more ? job->x.data + next + first * job->x.row : NULL, table, count, &stage);
        }
    }
    vec_stream_flush(&stage.stream);
    if (job->stream) vec_stream_end();
}
