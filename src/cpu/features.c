/* Instruction sets, from CPUID and XCR0. A bit of CPUID alone is not enough: registers that the system does not save fault. */
#define _GNU_SOURCE
#include "cpu/features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

enum { AVX_STATE = 0x6, AVX512_STATE = 0xe6, AMX_STATE = 0x60000 };

/* The kernel grants the tile registers to a process that asks (Linux 5.16: ARCH_REQ_XCOMP_PERM, XTILEDATA). */
static bool ask_for_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

bool invar_cpu_has(invar_feature_level level) {
    uint32_t a, b, c, d, subleaves = 0, b7 = 0, d7 = 0, a71 = 0;
    if (level == INVAR_LEVEL_BASELINE) return true;
    if (level == INVAR_LEVEL_NEON || !__get_cpuid(1, &a, &b, &c, &d)) return false;
    bool osxsave = c >> 27 & 1, avx = c >> 28 & 1, fma = c >> 12 & 1, f16c = c >> 29 & 1;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) subleaves = a, b7 = b, d7 = d;
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) a71 = a;
    uint64_t kept = osxsave ? xcr0() : 0;
    bool avx2 = avx && fma && f16c && (b7 >> 5 & 1) && (kept & AVX_STATE) == AVX_STATE;
    bool avx512 = avx2 && (b7 >> 16 & 1) && (b7 >> 17 & 1) && (b7 >> 30 & 1) && (b7 >> 31 & 1) &&
                  (kept & AVX512_STATE) == AVX512_STATE;
    bool bf16 = avx512 && (a71 >> 5 & 1);
    switch (level) {
    case INVAR_LEVEL_AVX2: return avx2;
    case INVAR_LEVEL_AVX512: return avx512;
    case INVAR_LEVEL_AVX512BF16: return bf16;
    default: return bf16 && (d7 >> 22 & 1) && (d7 >> 24 & 1) && (kept & AMX_STATE) == AMX_STATE && ask_for_tiles();
    }
}
#else
bool invar_cpu_has(invar_feature_level level) { return level == INVAR_LEVEL_NEON; }
#endif
