/* What the threads of a block of attention_vjp_parts.cu share, and what brings their rows. VECTOR: all rows are float32 that 16-byte
 * reads may take. */
#ifndef INVAR_ATTENTION_VJP_PARTS_CUH
#define INVAR_ATTENTION_VJP_PARTS_CUH
#include "attention_parts.cuh"
#include "attention_vjp.cuh"
#include "attention_warpgroup.cuh"

enum { GROUP = 128 /* threads of a warpgroup */, CONSUMERS = 2, THREADS = GROUP * (1 + CONSUMERS), ROWS = 64 * CONSUMERS };
/* Near rows, of float, lie 8 banks apart: what a warp reads at once is in different ones. */
enum { K_PITCH = KDIM + 8, V_PITCH = VDIM + 8 };
/* Bytes: of a plane of parts of FAR far rows, each an attention_warpgroup.cuh's matrix; of a slot, which holds either operand's. */
enum { K_PLANE = 2 * FAR * KDIM, V_PLANE = 2 * FAR * VDIM, SLOT = PARTS * (KDIM > VDIM ? K_PLANE : V_PLANE) };
/* Registers of a thread: of 65536, at 1 + CONSUMERS warpgroups. Two wide gradients leave few. */
enum { CROWDED = BY_KEYS && KDIM + VDIM > 128, FEW_REGISTERS = CROWDED ? 40 : 56, MANY_REGISTERS = CROWDED ? 232 : 224 };

/* What the block's threads share besides rows. Matrices follow each other: of tile t v or dout, number 2t, then k or q, 2t + 1, each
 * in slot number mod SLOTS. */
struct common {
    barrier full[SLOTS], empty[SLOTS];
    share_near at;
    span range, own[CONSUMERS]; /* of the block, of each warpgroup that computes */
    int begins, turns;          /* the first tile's far row; heads that far rows come from, 0 where there is nothing to do */
    __align__(16) float2 stats[2][FAR]; /* lse and delta of far rows, where they are queries; of every other tile */
};

/* Eight numbers, of which `left` are there, zeros behind them. */
__device__ __forceinline__ void read_piece(float4 to[2], const char *from, const invar_cuda_operand &x, int left) {
#if VECTOR
    const float4 none = { 0.0f, 0.0f, 0.0f, 0.0f };
    to[0] = left > 0 ? *(const float4 *)from : none;
    to[1] = left > 4 ? *(const float4 *)(from + 16) : none;
#else
    float number[8];
#pragma unroll
    for (int i = 0; i < 8; i++) number[i] = i < left ? read_float(from + i * x.column_stride, x.kind) : 0.0f;
    to[0] = float4{ number[0], number[1], number[2], number[3] };
    to[1] = float4{ number[4], number[5], number[6], number[7] };
#endif
}

/* Its parts' place in the first plane is `to`. */
template <int PLANE> __device__ __forceinline__ void write_piece(char *to, const float4 from[2]) {
    unsigned pairs[4][PARTS];
    split_pair(pairs[0], from[0].x, from[0].y);
    split_pair(pairs[1], from[0].z, from[0].w);
    split_pair(pairs[2], from[1].x, from[1].y);
    split_pair(pairs[3], from[1].z, from[1].w);
#pragma unroll
    for (int p = 0; p < PARTS; p++) *(uint4 *)(to + p * PLANE) = uint4{ pairs[0][p], pairs[1][p], pairs[2][p], pairs[3][p] };
}

/* FAR rows, of which there are `count`, become matrix `number` when its slot is free; numbers are on their way meanwhile. */
template <int DIM>
__device__ __forceinline__ void bring_far(common &shared, char *slots, int number, const char *from, const invar_cuda_operand &x,
                                          int count, int columns) {
    enum { PIECES = DIM / 8, STEP = GROUP / PIECES, EACH = FAR / STEP, AT_ONCE = !VECTOR ? 1 : CROWDED && EACH > 2 ? 2 : EACH,
           PLANE = 2 * FAR * DIM };
    const int row = thread_reread() / PIECES, piece = thread_reread() % PIECES, slot = number % SLOTS, left = columns - piece * 8;
    char *to = slots + slot * SLOT + piece / 8 * (FAR * PITCH) + piece_at(row, piece % 8);
    from += row * x.row_stride + piece * 8 * x.column_stride;
#pragma unroll 1
    for (int n = 0; n < EACH; n += AT_ONCE) {
        float4 numbers[AT_ONCE][2];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            read_piece(numbers[i], from + (n + i) * STEP * x.row_stride, x, row + (n + i) * STEP < count ? left : 0);
        if (n == 0) barrier_wait(&shared.empty[slot], number / SLOTS % 2 ^ 1); /* the first time there is room */
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) write_piece<PLANE>(to + (n + i) * STEP * PITCH, numbers[i]);
    }
}

/* Matrix `number` is there. */
__device__ __forceinline__ void brought(common &shared, int number) {
    show_products();
    barrier_arrive(&shared.full[number % SLOTS]);
}

/* All far rows, by the block's first warpgroup. */
__device__ __forceinline__ void load(const invar_cuda_attention_vjp_job &job, common &shared, char *slots) {
    const invar_cuda_attention &of = job.of;
    const long long batch = shared.at.batch;
    const int first_head = BY_KEYS ? shared.at.head * of.group : shared.at.head / of.group;
    const int last = BY_KEYS ? of.query_len : shared.at.length, end = shared.range.last;
    int t = 0;
    for (int head = first_head; head < first_head + shared.turns; head++) {
        const char *const k = head_of(of, FAR_K, batch, head), *const v = head_of(of, FAR_V, batch, head);
        for (int far = shared.begins; far < end; far += FAR, t++) {
            bring_far<VDIM>(shared, slots, 2 * t, v + far * FAR_V.row_stride, FAR_V, last - far, of.value_dim);
            if (BY_KEYS && threadIdx.x < FAR) {
                const int row = far + threadIdx.x;
                shared.stats[t % 2][threadIdx.x] = row < last ? rows_of(job, batch, head)[row] : float2{ SEES_NOTHING, 0.0f };
            }
            brought(shared, 2 * t);
            bring_far<KDIM>(shared, slots, 2 * t + 1, k + far * FAR_K.row_stride, FAR_K, last - far, of.key_dim);
            brought(shared, 2 * t + 1);
        }
    }
}

/* The warp's 16 near rows, from its first one on, of which there are `count`. */
template <int DIM>
__device__ __forceinline__ void bring_near(float *to, const char *from, const invar_cuda_operand &x, int count, int columns) {
    enum { EACH = 16 * DIM / 8 / 32, AT_ONCE = VECTOR ? 4 : 1 };
#pragma unroll AT_ONCE
    for (int n = 0; n < EACH; n++) {
        const int i = threadIdx.x % 32 + 32 * n, row = i / (DIM / 8), column = i % (DIM / 8) * 8;
        float4 numbers[2];
        read_piece(numbers, from + row * x.row_stride + column * x.column_stride, x, row < count ? columns - column : 0);
        float4 *place = (float4 *)(to + row * (DIM + 8) + column);
        place[0] = numbers[0], place[1] = numbers[1];
    }
}

__device__ __forceinline__ void prepare_block(const invar_cuda_attention_vjp_job &job, common &shared) {
    if (threadIdx.x) return;
    const invar_cuda_attention &of = job.of;
    share_near at = share_of(job, ROWS);
    for (int i = 0; i < SLOTS; i++) barrier_begin(&shared.full[i], GROUP), barrier_begin(&shared.empty[i], 4 * CONSUMERS); /* warps */
    shared.at = at;
    shared.range = span_of(of, at);
    shared.begins = shared.range.first / FAR * FAR;
    shared.turns = shared.range.first >= shared.range.last ? 0 : BY_KEYS ? of.group : 1;
    const int last = at.last;
    for (int i = 0; i < CONSUMERS; i++) {
        const span none = { 0, 0, 0, 0 };
        at.last = min(at.first + 64, last);
        shared.own[i] = at.first < last ? span_of(of, at) : none;
        at.first += 64;
    }
}

#endif
