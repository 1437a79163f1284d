/* rope and its VJP on CUDA devices (Su et al., 2021), with the arithmetic that docs/invariance.md fixes, operation by operation: the
 * bits are those of the CPU's kernels.
 *
 * A block forms the cosines and sines of a tile of positions once, in double, from those of the multiples of 8 below them and of what
 * they are more, in shared memory; each thread then keeps its pairs' in registers, as floats, while it goes over the slices.
 *
 * TYPE: of the elements. ELEMENTS: of a piece, 1, or an even number that divides dims / 2. NEIGHBOURS: 1: pairs (2i, 2i + 1);
 * 0: (i, i + dims / 2). */
#include "base.cuh"
#include "rope_job.h"
#include "rope_memory.cuh"
#include "rope_wide.h"

enum { NEAR = INVAR_CUDA_ROPE_NEAR, AHEAD = 2 /* slices whose pieces are on their way at once */ };

/* ---- where a block and a thread are ------------------------------------------------------------------- */

struct block_place {
    long long lane, position, slice, batch; /* the first ones */
    int positions, slices;                  /* how many */
    bool turns;                             /* some lanes do */
};

__device__ __forceinline__ int fewer(long long a, int b) { return a < b ? (int)a : b; }

__device__ __forceinline__ block_place place_of_block(const invar_cuda_rope_job &job) {
    unsigned b = blockIdx.x;
    block_place at;
    at.lane = (long long)(b % job.chunks) * job.width;
    b /= job.chunks;
    at.position = (long long)(b % job.tiles) * job.positions;
    b /= job.tiles;
    at.slice = (long long)(b % job.groups) * job.group;
    at.batch = b / job.groups;
    at.positions = fewer(job.length - at.position, job.positions);
    at.slices = fewer(job.slices - at.slice, job.group);
    at.turns = at.lane < job.turning;
    return at;
}

/* A thread's lane and position, and where their two pieces are in a slice. */
struct lane_place {
    int lane, position, turn; /* in the block; of the slices that a block takes at once */
    bool there, turns, second;
    const char *from;
    char *to;
    long long from_far, to_far; /* to the second piece */
};

__device__ __forceinline__ lane_place place_of_lane(const invar_cuda_rope_job &job, const block_place &block) {
    const int cells = job.width * job.positions, cell = (int)threadIdx.x % cells;
    lane_place at;
    at.turn = (int)threadIdx.x / cells;
    at.position = cell / job.width;
    at.lane = cell % job.width;
    const long long lane = block.lane + at.lane, position = block.position + at.position;
    at.there = at.turn < job.at_once && at.position < block.positions && lane < job.lanes;
    at.turns = lane < job.turning;
    at.second = true;
    long long feature, far;
    if (at.turns) {
        const bool together = NEIGHBOURS && ELEMENTS == 1;
        feature = (job.first_lane + lane) * (together ? 2 : ELEMENTS);
        far = together ? 1 : job.half;
    } else {
        const long long number = lane - job.turning;
        feature = job.dims + number * ELEMENTS;
        far = job.copiers * ELEMENTS;
        at.second = number + job.copiers < job.copied;
    }
    at.from = job.x.data + (block.batch + job.first_batch) * job.x.batch + position * job.x.row + feature * job.x.step;
    at.to = job.y.data + (block.batch + job.first_batch) * job.y.batch + position * job.y.row + feature * job.y.step;
    at.from_far = far * (ELEMENTS == 1 ? job.x.step : (long long)sizeof(TYPE));
    at.to_far = ELEMENTS == 1 ? far * job.y.step : at.from_far;
    return at;
}

/* Byte offsets of a slice in x and y. */
__device__ __forceinline__ longlong2 place_of_slice(const invar_cuda_rope_job &job, long long slice) {
    if (job.ndim <= 1) return make_longlong2(slice * job.x.stride[0], slice * job.y.stride[0]);
    longlong2 at = make_longlong2(0, 0);
    for (int d = job.ndim - 1; d >= 0; d--) {
        const long long index = slice % job.shape[d];
        slice /= job.shape[d];
        at.x += index * job.x.stride[d];
        at.y += index * job.y.stride[d];
    }
    return at;
}

/* ---- positions and frequencies ------------------------------------------------------------------------ */

__device__ __forceinline__ unsigned long long load_bits(const char *p, int bits) {
    return bits == 64   ? *(const unsigned long long *)p
           : bits == 32 ? *(const unsigned *)p
           : bits == 16 ? *(const unsigned short *)p
                        : *(const unsigned char *)p;
}

/* Unsigned numbers above 2^63 wrap. */
__device__ __forceinline__ long long load_integer(const invar_cuda_rope_numbers &numbers, long long i) {
    const unsigned long long bits = load_bits(numbers.data + i * numbers.stride, numbers.bits);
    const int above = 64 - numbers.bits;
    return numbers.code == INVAR_CUDA_ROPE_INT ? (long long)(bits << above) >> above : (long long)bits;
}

__device__ __forceinline__ float load_real(const invar_cuda_rope_numbers &numbers, long long i) {
    const unsigned long long bits = load_bits(numbers.data + i * numbers.stride, numbers.bits);
    if (numbers.code == INVAR_CUDA_ROPE_BFLOAT) return widen(bfloat16{ (unsigned short)bits });
    if (numbers.code == INVAR_CUDA_ROPE_FLOAT)
        return numbers.bits == 64   ? (float)__longlong_as_double((long long)bits)
               : numbers.bits == 32 ? __uint_as_float((unsigned)bits)
                                    : widen(half16{ (unsigned short)bits });
    if (numbers.code == INVAR_CUDA_ROPE_UINT) return (float)(double)bits;
    return (float)(double)load_integer(numbers, i);
}

/* What is added to a batch's positions: an integer of more than 64 bits, as two doubles. The halves of 32 bits are exact. */
__device__ __forceinline__ wide offset_of(const invar_cuda_rope_job &job, long long batch) {
    long long element = job.element[job.each_element ? batch : 0];
    bool above = job.wide_elements;
    if (job.offsets.data) {
        element = load_integer(job.offsets, batch + job.first_batch);
        above = job.offsets.code == INVAR_CUDA_ROPE_UINT;
    }
    wide sum = wide_fast_sum((double)(job.offset >> 32) * 0x1p32, (double)(job.offset & 0xffffffff));
    const double parts[2] = { (double)(element >> 32) * 0x1p32 + (above && element < 0 ? 0x1p64 : 0.0),
                              (double)(element & 0xffffffff) };
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const wide next = wide_exact_sum(sum.high, parts[i]);
        sum = wide_of(next.high, sum.low + next.low);
    }
    return sum;
}

/* An integer plus a small one, in the one form that two doubles have for it, so that it depends on nothing else. */
__device__ __forceinline__ wide plus(wide integer, double more) {
    const wide sum = wide_exact_sum(integer.high, more);
    return wide_exact_sum(sum.high, sum.low + integer.low);
}

/* An integer modulo 8; from 2^62 on a double is a multiple of it. */
__device__ __forceinline__ int modulo_near(double integer) {
    return fabs(integer) < 0x1p62 ? (int)((long long)integer & (NEAR - 1)) : 0;
}

/* Of the pair at `slot` of the table: number slot / turning of lane slot % turning, so that neighbouring threads read neighbours. */
__device__ __forceinline__ double2 frequency_of(const invar_cuda_rope_job &job, int slot) {
    if (!job.freqs.data) return make_double2(job.high[slot], job.low[slot]);
    const int turning = (int)job.turning;
    const long long pair = invar_cuda_rope_pair(job.first_lane + slot % turning, slot / turning, ELEMENTS, NEIGHBOURS, job.half);
    const wide frequency = wide_given_frequency(wide_quarter_turns(job.scale), load_real(job.freqs, pair));
    return make_double2(frequency.high, frequency.low);
}

/* ---- cosines and sines -------------------------------------------------------------------------------- */

/* Cosine and sine of the angle at a position, from its quarter turns: position · frequency, where high · high is exact in two
 * doubles, less the nearest integer; minimax polynomials of the rest, turned by the quadrant. */
__device__ __forceinline__ double2 turned(double2 frequency, wide at) {
    const double whole = at.high * frequency.x, rest = fma(at.high, frequency.x, -whole);
    const double cross = at.high * frequency.y + at.low * frequency.x;
    const double turns = rint(whole), sum = (whole - turns) + (rest + cross), more = rint(sum);
    double quadrant = (turns - 4 * rint(turns * 0.25)) + more;
    quadrant = quadrant - 4 * rint(quadrant * 0.25);
    const double r = sum - more, square = r * r;
    double s = 0x1.4bc2556237b5fp-13 * square + -0x1.32ca854c64fc0p-8;
    s = s * square + 0x1.466bba8bfb50ep-4;
    s = s * square + -0x1.4abbce564cd75p-1;
    s = (s * square + 0x1.921fb5443af5fp+0) * r;
    double c = 0x1.d9d57ea4e7061p-11 * square + -0x1.55c5dfbef05cfp-6;
    c = c * square + 0x1.03c1dd961dea7p-2;
    c = c * square + -0x1.3bd3cc7b83c1ep+0;
    c = c * square + 1;
    const double size = fabs(quadrant), across = 1 - size, up = quadrant * (2 - size);
    return make_double2(c * across - s * up, s * across + c * up);
}

/* Rows of the table, one place a pair: first what the tile's first positions are more than a multiple of 8, then the multiples. */
struct table_shape {
    wide first;     /* the multiple below the tile's first position */
    int more;       /* what that is more */
    int near, rows; /* rows of the first kind; all */
    int reserved;
};

__device__ __forceinline__ table_shape shape_of(const invar_cuda_rope_job &job, const block_place &block) {
    const wide offset = offset_of(job, block.batch), first = plus(offset, (double)block.position);
    table_shape shape;
    shape.more = (modulo_near(first.high) + modulo_near(first.low)) % NEAR;
    shape.first = plus(offset, (double)(block.position - shape.more));
    shape.near = fewer(block.positions, NEAR);
    shape.rows = shape.near + (shape.more + block.positions - 1) / NEAR + 1;
    return shape;
}

__device__ __forceinline__ void fill(double2 *table, const double2 *frequency, const table_shape &shape, int slots) {
    const int all = shape.rows * slots;
#pragma unroll 1
    for (int i = threadIdx.x; i < all; i += blockDim.x) {
        const int row = i / slots;
        const wide at = row < shape.near ? wide_of((shape.more + row) % NEAR, 0) : plus(shape.first, NEAR * (row - shape.near));
        table[i] = turned(frequency[i - row * slots], at);
    }
}

/* By the addition theorems, each rounded once. */
__device__ __forceinline__ void read_turn(float *cosine, float *sine, const double2 *table, const table_shape &shape,
                                          const invar_cuda_rope_job &job, const lane_place &at) {
    const int turning = (int)job.turning, slots = turning * ELEMENTS;
    const double2 *near = table + at.position % NEAR * slots + at.lane;
    const double2 *base = table + (shape.near + (shape.more + at.position) / NEAR) * slots + at.lane;
#pragma unroll
    for (int i = 0; i < ELEMENTS; i++) {
        const double2 a = base[i * turning], b = near[i * turning];
        cosine[i] = (float)(a.x * b.x - a.y * b.y);
        const float s = (float)(a.y * b.x + a.x * b.y);
        sine[i] = job.inverse ? -s : s;
    }
}

/* ---- turning ------------------------------------------------------------------------------------------ */

struct pieces {
    piece first, second;
};

__device__ __forceinline__ void turn_pair(float *a, float *b, float cosine, float sine) {
    const float first = *a, second = *b;
    *a = fmaf(first, cosine, -(second * sine));
    *b = fmaf(second, cosine, first * sine);
}

__device__ __forceinline__ void turn_pieces(pieces &p, const float *cosine, const float *sine) {
    float a[ELEMENTS], b[ELEMENTS];
#pragma unroll
    for (int i = 0; i < ELEMENTS; i++) a[i] = element(p.first, i), b[i] = element(p.second, i);
    if constexpr (NEIGHBOURS && ELEMENTS > 1) {
#pragma unroll
        for (int i = 0; i < ELEMENTS / 2; i++) {
            turn_pair(&a[2 * i], &a[2 * i + 1], cosine[i], sine[i]);
            turn_pair(&b[2 * i], &b[2 * i + 1], cosine[ELEMENTS / 2 + i], sine[ELEMENTS / 2 + i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < ELEMENTS; i++) turn_pair(&a[i], &b[i], cosine[i], sine[i]);
    }
    set_elements(p.first, a);
    set_elements(p.second, b);
}

/* Slices i, i + at_once, …, as far as there are. */
__device__ __forceinline__ void fetch(pieces *p, const lane_place &at, const longlong2 *places, int i, int at_once, int slices) {
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
        if (i + k * at_once >= slices) continue;
        const char *from = at.from + places[i + k * at_once].x;
        load_piece(p[k].first, from);
        if (at.second) load_piece(p[k].second, from + at.from_far);
    }
}

__device__ __forceinline__ void put(pieces *p, const lane_place &at, const longlong2 *places, int i, int at_once, int slices,
                                    const float *cosine, const float *sine) {
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
        if (i + k * at_once >= slices) continue;
        char *to = at.to + places[i + k * at_once].y;
        if (at.turns) turn_pieces(p[k], cosine, sine);
        store_piece(to, p[k].first);
        if (at.second) store_piece(to + at.to_far, p[k].second);
    }
}

/* Shared memory: the slices' places, the frequencies, the table. The first pieces are on their way while the table is filled. */
extern "C" __global__ void __launch_bounds__(INVAR_CUDA_ROPE_THREADS, 3) invar_rope(const __grid_constant__ invar_cuda_rope_job job) {
    extern __shared__ double2 shared[];
    __shared__ table_shape shape;
    const block_place block = place_of_block(job);
    const lane_place at = place_of_lane(job, block);
    const int slots = (int)job.turning * ELEMENTS;
    longlong2 *places = (longlong2 *)shared;
    double2 *frequency = shared + job.group, *table = frequency + slots;
    for (int i = threadIdx.x; i < block.slices; i += blockDim.x) places[i] = place_of_slice(job, block.slice + i);
    if (block.turns) {
        for (int i = threadIdx.x; i < slots; i += blockDim.x) frequency[i] = frequency_of(job, i);
        if (threadIdx.x == blockDim.x - 1) shape = shape_of(job, block);
    }
    __syncthreads();
    pieces p[AHEAD];
    float cosine[ELEMENTS], sine[ELEMENTS];
    const int slices = at.there ? block.slices : 0, at_once = job.at_once;
    fetch(p, at, places, at.turn, at_once, slices);
    if (block.turns) {
        fill(table, frequency, shape, slots);
        __syncthreads();
        if (at.there && at.turns) read_turn(cosine, sine, table, shape, job, at);
    }
    for (int i = at.turn; i < slices;) {
        put(p, at, places, i, at_once, slices, cosine, sine);
        i += AHEAD * at_once;
        fetch(p, at, places, i, at_once, slices);
    }
}
