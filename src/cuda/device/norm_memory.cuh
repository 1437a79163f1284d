/* How the norms' programs move bytes: every instruction here that C++ has no word for. */
#ifndef INVAR_NORM_MEMORY_CUH
#define INVAR_NORM_MEMORY_CUH
#include "base.cuh"

/* Loads are volatile, or the compiler would keep what a later pass reads again, which there are no registers for. */

/* BYTES, 4 to 32 of them and aligned to the lesser of BYTES and 16, that a program reads once, or once in a while: they are not to
 * drive out of L1 what every row reads. */
template <int BYTES> __device__ __forceinline__ void load_once(unsigned *to, const char *from) {
    if constexpr (BYTES == 32) {
        load_once<16>(to, from);
        load_once<16>(to + 4, from + 16);
    } else if constexpr (BYTES == 16) {
        asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "l"(from));
    } else if constexpr (BYTES == 8) {
        asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
    } else {
        asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
    }
}

/* The same of what nothing writes while the program runs. */
template <int BYTES> __device__ __forceinline__ void load_often(unsigned *to, const char *from) {
    if constexpr (BYTES == 32) {
        load_often<16>(to, from);
        load_often<16>(to + 4, from + 16);
    } else if constexpr (BYTES == 16) {
        asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "l"(from));
    } else if constexpr (BYTES == 8) {
        asm volatile("ld.global.nc.v2.u32 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "l"(from));
    } else {
        asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(to[0]) : "l"(from));
    }
}

template <int BYTES> __device__ __forceinline__ void store(char *to, const unsigned *from) {
    if constexpr (BYTES == 32) {
        store<16>(to, from);
        store<16>(to + 16, from + 4);
    } else if constexpr (BYTES == 16) {
        *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
    } else if constexpr (BYTES == 8) {
        *(uint2 *)to = make_uint2(from[0], from[1]);
    } else {
        *(unsigned *)to = from[0];
    }
}

/* BYTES, 4, 8 or 16, into shared memory while the thread goes on: from device memory, or zeros where `there` is false. The thread
 * that copies may read them after wait_for_copies. */
template <int BYTES> __device__ __forceinline__ void copy_later(char *to, const char *from, bool there) {
    const unsigned place = (unsigned)__cvta_generic_to_shared(to);
    const int bytes = there ? BYTES : 0;
    if constexpr (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(bytes));
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(place), "l"(from), "n"(BYTES), "r"(bytes));
}
/* What was copied since the last call becomes one group; all but the last LEFT groups have arrived. */
__device__ __forceinline__ void group_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#if defined(CLUSTER) && CLUSTER > 1
/* A number into the same place of another block's shared memory; read there behind a barrier of all the cluster's threads. */
__device__ __forceinline__ void store_in_block(float *to, unsigned rank, float value) {
    unsigned place = (unsigned)__cvta_generic_to_shared(to);
    asm("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(place) : "r"(rank));
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(place), "f"(value) : "memory");
}
__device__ __forceinline__ void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}
#endif

/* Two numbers, each rounded once, as one word: the lower place is the first's. */
template <typename T> __device__ __forceinline__ unsigned narrow_two(float first, float second);
template <> __device__ __forceinline__ unsigned narrow_two<half16>(float first, float second) {
    unsigned two;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(second), "f"(first));
    return two;
}
template <> __device__ __forceinline__ unsigned narrow_two<bfloat16>(float first, float second) {
    unsigned two;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(second), "f"(first));
    return two;
}

#endif
