/* The processor's name and caches, and the compiler that built this library. */
#include "core/machine.h"

#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__x86_64__)
static void processor_name(char *name, size_t capacity) {
    unsigned words[12], highest = __get_cpuid_max(0x80000000u, NULL);
    if (highest < 0x80000004u) return;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
    char text[sizeof words + 1] = "";
    memcpy(text, words, sizeof words);
    char *begin = text;
    while (*begin == ' ') begin++;
    snprintf(name, capacity, "%s", begin);
    for (size_t n = strlen(name); n && name[n - 1] == ' ';) name[--n] = 0;
}
#else
static void processor_name(char *name, size_t capacity) { snprintf(name, capacity, "AArch64"); }
#endif

/* The first word of a file of /sys/devices/system/cpu/cpu0/cache. */
static int read_cache_file(int index, const char *what, char text[32]) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    int read = fscanf(file, "%31s", text);
    fclose(file);
    return read == 1;
}

static void caches(invar_context_description *description) {
    char level[32], kind[32], size[32];
    for (int i = 0; i < 8; i++) {
        if (!read_cache_file(i, "level", level) || !read_cache_file(i, "type", kind) || !read_cache_file(i, "size", size))
            continue;
        long long bytes = 0;
        char unit = 0;
        if (sscanf(size, "%lld%c", &bytes, &unit) < 1 || !strcmp(kind, "Instruction")) continue;
        bytes <<= unit == 'K' ? 10 : unit == 'M' ? 20 : 0;
        if (level[0] == '1') description->l1d_bytes = bytes;
        if (level[0] == '2') description->l2_bytes = bytes;
        if (level[0] == '3') description->l3_bytes = bytes;
    }
}

/* A last cache of 32 MiB stands beside its cores (Zen 4). One of hundreds stands behind a mesh, for more cores than a virtual
 * machine may show, and is hardly nearer than memory to a few of them: of 480 MiB on a Xeon, one thread and two gained from
 * 24 MiB on by writing past it, whether what they wrote was read next or not; of 300 MiB, sixteen threads that moved 64 MiB or
 * more. */
enum { ASSUMED_L3 = 32 << 20, L3_LEAST = 32 << 20, L3_OF_A_THREAD = 4 << 20 };

int64_t invar_machine_cached(const invar_context_description *description, int threads) {
    const int64_t l3 = description->l3_bytes > 0 ? description->l3_bytes : ASSUMED_L3;
    const int64_t share = (int64_t)threads * L3_OF_A_THREAD, most = share > L3_LEAST ? share : L3_LEAST;
    return l3 < most ? l3 : most;
}

bool invar_machine_roomy(const invar_context_description *description) { return description->l2_bytes >= 2 << 20; }

void invar_machine_describe(invar_context_description *description) {
    processor_name(description->processor, sizeof description->processor);
    caches(description);
#if defined(__clang__)
    snprintf(description->compiler, sizeof description->compiler, "clang %s", __clang_version__);
#else
    snprintf(description->compiler, sizeof description->compiler, "gcc %s", __VERSION__);
#endif
}
