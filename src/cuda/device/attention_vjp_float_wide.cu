/* Attention's gradients in float32 arithmetic of heads of more than 256 features: a block holds 64 near rows' sums of a gradient and
 * walks over tiles of 64 far rows. Both products and then the gradient's are formed 64 features at a time, of rows that come for
 * each of them, the next ones meanwhile: shared memory holds two such steps, and the scores' gradients, or weights, between them.
 *
 * BY_KEYS: as attention_vjp_half.cu tells. VALUES: the gradient is dv, which needs no second product; else dq or dk. CHUNKS: how many
 * times 64 features of it a block forms, those of the slab that is its number along y. VECTOR: all rows are float32 that 16-byte
 * copies may take. */
#include "attention_vjp.cuh"

enum { THREADS = 256, ROWS = 64, DEPTH = 64, PITCH = DEPTH + 4, TILE = ROWS * PITCH, EACH = 4 /* rows a thread, 16 apart */,
       SCORE_PITCH = ROWS + 4 };
#define UNSEEN 0x7fc0dead /* a masked pair; no arithmetic gives this NaN */

struct memory {
    float near[2][ROWS][PITCH], far[2][ROWS][PITCH], score[ROWS][SCORE_PITCH];
};

/* What is on its way, or next: step 0 … of a tile of a head. */
struct place {
    int head, far, step;
};

/* The block's work: steps of the first product, of both, of all; of the far rows and heads. */
struct plan {
    int first_steps, score_steps, steps, begins, last, far_last, last_head;
};

/* 64 features of rows; zeros behind the `count` that there are and behind the columns. */
__device__ __forceinline__ void load_rows(float (*to)[PITCH], const char *from, const invar_cuda_operand &x, int count, int columns) {
#if VECTOR
    const int column = threadIdx.x % (DEPTH / 4) * 4;
    int row = threadIdx.x / (DEPTH / 4);
    if (column >= columns) count = 0;
    from += row * x.row_stride + column * 4;
#pragma unroll
    for (int i = 0; i < ROWS; i += THREADS / (DEPTH / 4)) {
        copy_16(&to[row + i][column], from, row + i < count ? 16 : 0);
        from += THREADS / (DEPTH / 4) * x.row_stride;
    }
#else
    for (int i = threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
        const int row = i / DEPTH, column = i % DEPTH;
        const bool there = row < count && column < columns;
        to[row][column] = there ? read_float(from + row * x.row_stride + column * x.column_stride, x.kind) : 0.0f;
    }
#endif
}

/* What a step needs, into a stage. */
__device__ __forceinline__ void load_step(memory &at, int stage, const invar_cuda_attention_vjp_job &job, const share_near &block,
                                          const plan &by, const place &to) {
    const invar_cuda_attention &of = job.of;
    const bool scores = to.step < by.score_steps, second = scores ? to.step >= by.first_steps : VALUES != 0;
    const int chunk = !scores ? (int)blockIdx.y * CHUNKS + to.step - by.score_steps : second ? to.step - by.first_steps : to.step;
    const int columns = (second ? of.value_dim : of.key_dim) - chunk * DEPTH;
    const invar_cuda_operand &far = second ? FAR_V : FAR_K, &near = second ? NEAR_V : NEAR_K;
    load_rows(at.far[stage],
              head_of(of, far, block.batch, to.head) + to.far * far.row_stride + chunk * DEPTH * far.column_stride, far,
              by.far_last - to.far, columns);
    if (scores) {
        const int count = (BY_KEYS ? min(block.last, block.length) : block.last) - block.first;
        const char *from = head_of(of, near, block.batch, block.head) + block.first * near.row_stride;
        load_rows(at.near[stage], from + chunk * DEPTH * near.column_stride, near, count, columns);
    }
    copy_commit();
}

/* Waits for what the next step needs, sends for the one behind it, and tells the stage. */
__device__ __forceinline__ int pass(memory &at, int &stage, const invar_cuda_attention_vjp_job &job, const share_near &block,
                                    const plan &by, place &coming) {
    const int here = stage;
    copy_wait<0>();
    __syncthreads();
    if (++coming.step == by.steps) {
        coming.step = 0;
        coming.far += ROWS;
        if (coming.far >= by.last) {
            coming.far = by.begins;
            coming.head++;
        }
    }
    stage ^= 1;
    if (coming.head < by.last_head) load_step(at, stage, job, block, by, coming);
    return here;
}

/* to += this thread's share of near · farᵀ. */
__device__ __forceinline__ void multiply(float to[EACH][EACH], const float (*near)[PITCH], const float (*far)[PITCH]) {
    near += threadIdx.x / 16;
    far += threadIdx.x % 16;
#pragma unroll 4
    for (int d = 0; d < DEPTH; d += 4) {
        float4 a[EACH], b[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++) a[i] = *(const float4 *)&near[16 * i][d];
#pragma unroll
        for (int j = 0; j < EACH; j++) b[j] = *(const float4 *)&far[16 * j][d];
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < EACH; j++)
                to[i][j] = fmaf(a[i].w, b[j].w, fmaf(a[i].z, b[j].z, fmaf(a[i].y, b[j].y, fmaf(a[i].x, b[j].x, to[i][j]))));
    }
}

/* Scores and their gradients become what the gradient's product takes, in shared memory. */
template <bool PARTLY>
__device__ __forceinline__ void weigh_tile(memory &at, const float s[EACH][EACH], const float d[EACH][EACH],
                                           const invar_cuda_attention_vjp_job &job, const share_near &block, const char *mask,
                                           int head, int far) {
    const invar_cuda_attention &of = job.of;
    const int i0 = threadIdx.x / 16, j0 = threadIdx.x % 16;
    const float2 *rows = rows_of(job, block.batch, BY_KEYS ? head : block.head);
#pragma unroll
    for (int j = 0; j < EACH; j++)
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int near_row = i0 + 16 * i, far_row = j0 + 16 * j;
            const int query = BY_KEYS ? far + far_row : block.first + near_row;
            const int key = BY_KEYS ? block.first + near_row : far + far_row;
            const float2 row = query < of.query_len ? rows[query] : float2{ SEES_NOTHING, 0.0f };
            float added = 0.0f;
            const bool seen = !PARTLY ||
                              (sees(of, mask, range_of(of, block.length, query), query, key, &added) && row.x != SEES_NOTHING);
            const float2 x = weigh_pair(of, s[i][j], d[i][j], row, added);
            at.score[far_row][near_row] = !seen ? __int_as_float(UNSEEN) : VALUES ? x.x : x.y;
        }
}

/* to += scores · far, this thread's 4 rows by 4 columns; SELECT: without masked pairs. */
template <bool SELECT>
__device__ __forceinline__ void accumulate(float to[4][4], const float (*score)[SCORE_PITCH], const float (*far)[PITCH]) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll 8
    for (int j = 0; j < ROWS; j++) {
        const float4 a = *(const float4 *)&score[j][row], b = *(const float4 *)&far[j][column];
        const float by[4] = { a.x, a.y, a.z, a.w };
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (SELECT && __float_as_uint(by[i]) == UNSEEN) continue;
            to[i][0] = fmaf(by[i], b.x, to[i][0]), to[i][1] = fmaf(by[i], b.y, to[i][1]);
            to[i][2] = fmaf(by[i], b.z, to[i][2]), to[i][3] = fmaf(by[i], b.w, to[i][3]);
        }
    }
}

/* This thread's sums; keys that the batch does not have get 0. */
__device__ __forceinline__ void store(const invar_cuda_attention &of, const invar_cuda_operand &x, const share_near &block,
                                      const float sums[CHUNKS][4][4], int columns, float factor) {
    char *head = head_of(of, x, block.batch, block.head);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int row = block.first + threadIdx.x / 16 * 4 + i;
                const int column = ((int)blockIdx.y * CHUNKS + c) * DEPTH + threadIdx.x % 16 * 4 + e;
                const bool there = !BY_KEYS || row < block.length;
                if (row < block.last && column < columns)
                    write_number(head + row * x.row_stride + column * x.column_stride, x.kind,
                                 there ? fmaf(sums[c][i][e], factor, 0.0f) : 0.0f);
            }
}

__device__ __forceinline__ plan plan_of(const invar_cuda_attention &of, const share_near &block, const span &range) {
    plan by;
    by.first_steps = max((of.key_dim + DEPTH - 1) / DEPTH, 1);
    by.score_steps = by.first_steps + (VALUES ? 0 : (of.value_dim + DEPTH - 1) / DEPTH);
    by.steps = by.score_steps + CHUNKS;
    by.begins = range.first / ROWS * ROWS;
    by.last = range.last;
    by.far_last = BY_KEYS ? of.query_len : block.length;
    by.last_head = BY_KEYS ? block.head * of.group : block.head / of.group;
    if (range.first < range.last) by.last_head += BY_KEYS ? of.group : 1;
    return by;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
invar_attention_vjp_float_wide(const __grid_constant__ invar_cuda_attention_vjp_job job) {
    extern __shared__ __align__(16) char shared[];
    memory &at = *(memory *)shared;
    const invar_cuda_attention &of = job.of;
    __shared__ share_near block; /* registers are scarce: these are read again */
    __shared__ span range;
    __shared__ plan by;
    if (threadIdx.x == 0) {
        block = share_of(job, ROWS);
        range = span_of(of, block);
        by = plan_of(of, block, range);
    }
    __syncthreads();
    const int first_head = BY_KEYS ? block.head * of.group : block.head / of.group;
    place coming = { first_head, by.begins, 0 };
    int stage = 0;
    float sums[CHUNKS][4][4];
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
        for (int e = 0; e < 16; e++) sums[c][e / 4][e % 4] = 0.0f;
    if (first_head < by.last_head) load_step(at, 0, job, block, by, coming);
    for (int head = first_head; head < by.last_head; head++)
        for (int far = by.begins; far < by.last; far += ROWS) {
            float s[EACH][EACH], d[EACH][EACH];
            const char *mask = mask_of(of, block.batch, BY_KEYS ? head : block.head);
            const bool partly = MASK_KIND >= 0 || far < range.all_first || far + ROWS > range.all_last;
#pragma unroll
            for (int e = 0; e < EACH * EACH; e++) s[e / EACH][e % EACH] = d[e / EACH][e % EACH] = 0.0f;
#pragma unroll 1
            for (int step = 0; step < by.score_steps; step++) {
                const int here = pass(at, stage, job, block, by, coming);
                if (VALUES || step < by.first_steps) multiply(s, at.near[here], at.far[here]);
                else multiply(d, at.near[here], at.far[here]);
            }
            if (partly) weigh_tile<true>(at, s, d, job, block, mask, head, far);
            else weigh_tile<false>(at, s, d, job, block, mask, head, far);
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                const int here = pass(at, stage, job, block, by, coming);
                if (partly) accumulate<true>(sums[c], at.score, at.far[here]);
                else accumulate<false>(sums[c], at.score, at.far[here]);
            }
        }
    if (VALUES) store(of, job.dv, block, sums, of.value_dim, 1.0f);
    else store(of, BY_KEYS ? job.dk : job.dq, block, sums, of.key_dim, of.scale);
}
