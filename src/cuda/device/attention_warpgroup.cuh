/* What Hopper alone has: products of a warpgroup (four warps, 64 rows) that run beside its other work and whose operands the
 * matrix units read from shared memory themselves; barriers that count arrivals. TYPE: half16 or bfloat16.
 *
 * A matrix lies in shared memory as rows of 64 elements, 128 bytes each, from a multiple of 1024 bytes on; its further columns
 * follow as another such matrix. Piece p of 16 bytes of row r lies at place p ^ r % 8, so that neither a row's pieces nor eight
 * rows' p-th ones share banks. */
#ifndef INVAR_ATTENTION_WARPGROUP_CUH
#define INVAR_ATTENTION_WARPGROUP_CUH
#include "attention_mma.cuh"

enum { PITCH = 128, COLUMNS = 64 }; /* a row's bytes and elements */

/* Where a piece lies in its matrix, in bytes. */
__device__ __forceinline__ unsigned piece_at(int row, int piece) { return row * PITCH + (piece ^ row % 8) * 16; }

/* ---- products ------------------------------------------------------------------------------------------ */

typedef unsigned long long descriptor;

/* How the matrix units find a matrix: its address, the bytes to that of the next 64 columns (where they are the product's
 * columns), those to the next eight rows, the order of pieces. */
__device__ __forceinline__ descriptor describe(unsigned address, unsigned next_columns) {
    return (descriptor)(address >> 4 & 0x3fff) | (descriptor)(next_columns >> 4) << 16 | (descriptor)(8 * PITCH >> 4) << 32 |
           1ull << 62;
}
/* That of what begins `bytes` further. Half of it is a constant, which takes no register. */
__device__ __forceinline__ descriptor further(descriptor from, unsigned bytes) {
    return from >> 32 << 32 | (unsigned)from + (bytes >> 4);
}

#define NAME_half16 "f16"
#define NAME_bfloat16 "bf16"
#define NAME_JOINED(type) NAME_##type
#define NAME_OF(type) NAME_JOINED(type)
#define TEN(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9, "
#define SIXTY TEN() TEN(1) TEN(2) TEN(3) TEN(4) TEN(5)
#define NAMES_32 TEN() "%10, %11, %12, %13, %14, %15"
#define NAMES_48 TEN() TEN(1) "%20, %21, %22, %23"
#define NAMES_64 TEN() TEN(1) TEN(2) "%30, %31"
#define NAMES_128 SIXTY "%60, %61, %62, %63"
#define NAMES_192 SIXTY TEN(6) TEN(7) TEN(8) "%90, %91, %92, %93, %94, %95"
#define NAMES_256 SIXTY TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127"
#define FOUR_AT(how, i) how(c[i]), how(c[i + 1]), how(c[i + 2]), how(c[i + 3])
#define SIXTEEN_AT(how, i) FOUR_AT(how, i), FOUR_AT(how, i + 4), FOUR_AT(how, i + 8), FOUR_AT(how, i + 12)
#define FLOATS_32(how) SIXTEEN_AT(how, 0)
#define FLOATS_48(how) SIXTEEN_AT(how, 0), FOUR_AT(how, 16), FOUR_AT(how, 20)
#define FLOATS_64(how) SIXTEEN_AT(how, 0), SIXTEEN_AT(how, 16)
#define FLOATS_128(how) FLOATS_64(how), SIXTEEN_AT(how, 32), SIXTEEN_AT(how, 48)
#define FLOATS_192(how) FLOATS_128(how), SIXTEEN_AT(how, 64), SIXTEEN_AT(how, 80)
#define FLOATS_256(how) FLOATS_192(how), SIXTEEN_AT(how, 96), SIXTEEN_AT(how, 112)
#define WGMMA(add, n) \
    "{ .reg .pred p; setp.ne.b32 p, " add ", 0; wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." NAME_OF(TYPE) "." NAME_OF(TYPE) " "

/* c, 64 x N floats: elements 4n … of a thread are those of fragment n of m16n8k16, for its warp's 16 rows; a: fragments likewise, or
 * where they lie. rows: c = A Bᵀ, where rows of both lie along the sum; add_rows: c += it. columns, add_columns: c = A B and c += it,
 * where rows of B lie along c's. */
template <int N> struct warpgroup_unit;
#define WARPGROUP_ROWS(name, how, add, N, P0, P1, P2)                                                                     \
    static __device__ __forceinline__ void name(float c[N / 2], descriptor a, descriptor b) {                             \
        asm volatile(WGMMA(P2, N) "{" NAMES_##N "}, " P0 ", " P1 ", p, 1, 1, 0, 0; }"                                     \
                     : FLOATS_##N(how)                                                                                    \
                     : "l"(a), "l"(b), "r"(add)                                                                           \
                     : "memory");                                                                                         \
    }
#define WARPGROUP_HELD(name, how, add, across, N, P0, P1, P2, P3, P4, P5)                                                 \
    static __device__ __forceinline__ void name(float c[N / 2], const unsigned a[4], descriptor b) {                      \
        asm volatile(WGMMA(P5, N) "{" NAMES_##N "}, {" P0 ", " P1 ", " P2 ", " P3 "}, " P4 ", p, 1, 1, " across "; }"     \
                     : FLOATS_##N(how)                                                                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add)                                       \
                     : "memory");                                                                                         \
    }
#define WARPGROUP_UNIT(N, P0, P1, P2, P3, P4, P5)                                                                         \
    template <> struct warpgroup_unit<N> {                                                                                \
        WARPGROUP_ROWS(rows, "=f", 0, N, P0, P1, P2)                                                                      \
        WARPGROUP_ROWS(add_rows, "+f", 1, N, P0, P1, P2)                                                                  \
        WARPGROUP_HELD(rows, "=f", 0, "0", N, P0, P1, P2, P3, P4, P5)                                                     \
        WARPGROUP_HELD(add_rows, "+f", 1, "0", N, P0, P1, P2, P3, P4, P5)                                                 \
        WARPGROUP_HELD(columns, "=f", 0, "1", N, P0, P1, P2, P3, P4, P5)                                                  \
        WARPGROUP_HELD(add_columns, "+f", 1, "1", N, P0, P1, P2, P3, P4, P5)                                              \
    };
WARPGROUP_UNIT(32, "%16", "%17", "%18", "%19", "%20", "%21")
WARPGROUP_UNIT(48, "%24", "%25", "%26", "%27", "%28", "%29")
WARPGROUP_UNIT(64, "%32", "%33", "%34", "%35", "%36", "%37")
WARPGROUP_UNIT(128, "%64", "%65", "%66", "%67", "%68", "%69")
WARPGROUP_UNIT(192, "%96", "%97", "%98", "%99", "%100", "%101")
WARPGROUP_UNIT(256, "%128", "%129", "%130", "%131", "%132", "%133")

/* Before products whose registers this thread has written; behind those that one wait is to cover. */
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void products_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Until all but the last LEFT of those are done. */
template <int LEFT> __device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* Registers that products write are neither read nor written across this. */
template <int COUNT> __device__ __forceinline__ void hold(float (&c)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(c[i])::"memory");
}
/* What a sum that is not negative was formed from is computed before what follows: compilers would rather wait for products first. */
__device__ __forceinline__ void stay_before(float sum) {
    asm volatile("{ .reg .pred p; setp.lt.f32 p, %0, 0f00000000; @p trap; }" ::"f"(sum) : "memory");
}
/* What this thread wrote to shared memory is there for the matrix units. */
__device__ __forceinline__ void show_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- barriers ------------------------------------------------------------------------------------------ */

/* In shared memory: phase 0, then 1, then 0 … end when `count` threads have arrived. */
typedef unsigned long long barrier;

__device__ __forceinline__ void barrier_begin(barrier *at, unsigned count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(at)), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(barrier *at) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(at)) : "memory");
}
/* Whether the phase of this parity has ended; try_wait looks for a while. */
#define BARRIER_ENDED(name, look)                                                                                          \
    __device__ __forceinline__ bool name(barrier *at, unsigned parity) {                                                   \
        unsigned ended;                                                                                                    \
        asm volatile("{ .reg .pred p; mbarrier." look ".parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"      \
                     : "=r"(ended)                                                                                         \
                     : "r"(shared_address(at)), "r"(parity)                                                                \
                     : "memory");                                                                                          \
        return ended;                                                                                                      \
    }
BARRIER_ENDED(barrier_ended, "test_wait")
BARRIER_ENDED(barrier_ends, "try_wait")
__device__ __forceinline__ void barrier_wait(barrier *at, unsigned parity) {
    while (!barrier_ends(at, parity)) continue;
}

/* Barrier `id` of the block's 16, which `count` threads come to: those that wait, and those that go on. */
__device__ __forceinline__ void named_wait(int id, int count) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
__device__ __forceinline__ void named_arrive(int id, int count) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}

/* Registers of a thread from here on, for all of the warpgroup. */
template <int COUNT> __device__ __forceinline__ void registers_up_to() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ __forceinline__ void registers_down_to() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#endif
