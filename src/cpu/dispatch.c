/* The choice of kernels: the instruction sets in ascending order, each tested in one place. */
#include "cpu/dispatch.h"
#include "cpu/features.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
extern const invar_kernels invar_kernels_baseline, invar_kernels_avx2, invar_kernels_avx512, invar_kernels_avx512bf16,
    invar_kernels_amx;
#else
extern const invar_kernels invar_kernels_neon;
#endif

static const struct {
    const invar_kernels *kernels;
    invar_feature_level level;
} ascending[] = {
    { &invar_kernels_reference, INVAR_LEVEL_BASELINE },
#if defined(__x86_64__)
    { &invar_kernels_baseline, INVAR_LEVEL_BASELINE },
    { &invar_kernels_avx2, INVAR_LEVEL_AVX2 },
    { &invar_kernels_avx512, INVAR_LEVEL_AVX512 },
    { &invar_kernels_avx512bf16, INVAR_LEVEL_AVX512BF16 },
    { &invar_kernels_amx, INVAR_LEVEL_AMX },
#else
    { &invar_kernels_neon, INVAR_LEVEL_NEON },
#endif
};
enum { SETS = sizeof ascending / sizeof ascending[0] };

/* reference is plain C on any machine, whatever its level here says. */
static bool available(int i) { return i == 0 || invar_cpu_has(ascending[i].level); }

invar_status invar_dispatch(const invar_kernels **kernels, const char *name, const char *source,
                            invar_context_description *description) {
    char *list = description->cpu_available;
    int best = 0, chosen = -1, length = 0;
    for (int i = 0; i < SETS; i++) {
        if (!available(i)) continue;
        best = i;
        length += snprintf(list + length, sizeof description->cpu_available - (size_t)length, "%s%s", length ? " " : "",
                           ascending[i].kernels->name);
        if (name && !strcmp(name, ascending[i].kernels->name)) chosen = i;
    }
    bool asked = name && *name;
    if (asked && chosen < 0)
        return invar_fail(INVAR_ERROR_ENVIRONMENT, "context: %s: expected one of '%s', which this machine has, got '%.100s'",
                          source, list, name);
    *kernels = ascending[asked ? chosen : best].kernels;
    snprintf(description->cpu, sizeof description->cpu, "%s", (*kernels)->name);
    if (asked) snprintf(description->cpu_reason, sizeof description->cpu_reason, "%s asks for it", source);
    else snprintf(description->cpu_reason, sizeof description->cpu_reason, "the best that this processor and system run");
    return INVAR_OK;
}
