/* The machine's roofs, measured: copy and read bandwidth, float32 FMA peak, bfloat16 dot peak; and the rate of taken branches.
 *
 * usage: roofs THREADS reads names of rates (copy, read, fma, dot, branch) from standard input, a line each, and answers each
 * with the total over the threads in one round of some tens of milliseconds: bytes/s (a copy counts what is read and what is
 * written) or FLOP/s (an FMA counts two, a bfloat16 pair product four); 0 where the processor has no instruction for it.
 * Branches are for telling whether another thread shares a core: a core takes one a cycle, and alternates between its threads.
 * Their round is a tenth of a millisecond, so that one just before and one just after a call tell what the call met.
 * So a benchmark can take a roof's rounds between the rounds of what it measures, on a machine whose speed wanders. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

enum { COPY, READ, FMA32, DOT16, BRANCH, RATES };
enum { MAX_THREADS = 256 };
static const char *const names[RATES] = { "copy", "read", "fma", "dot", "branch" };
static const size_t buffer_bytes = (size_t)128 << 20;

/* What the workers share: the rate of this round, and the barriers around it. */
static pthread_barrier_t begun, ended;
static int asked; /* RATES: no more rounds */

struct worker {
    pthread_t thread;
    char *from, *to;
    double work, seconds; /* of this round */
    float sink;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Twelve independent accumulators a kernel: enough for latency × ports of every current core. */
#define PEAK_LOOP(vector, zero, step, count)                                              \
    vector a[12];                                                                         \
    for (int i = 0; i < 12; i++) a[i] = zero;                                             \
    for (long n = 0; n < (count); n++) {                                                  \
        _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = step;                \
    }                                                                                     \
    float out[sizeof(vector) / 4], sum = 0;                                               \
    for (int i = 0; i < 12; i++) {                                                        \
        memcpy(out, &a[i], sizeof out);                                                   \
        sum += out[0];                                                                    \
    }                                                                                     \
    *sink = sum;                                                                          \
    return 12.0 * (double)(count) * sizeof(vector) / 4;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double fma_avx512(float *sink) {
    __m512 x = _mm512_set1_ps(1.0001f), y = _mm512_set1_ps(1e-6f);
    PEAK_LOOP(__m512, _mm512_setzero_ps(), _mm512_fmadd_ps(a[i], x, y), 4000000L)
}
__attribute__((target("avx2,fma"))) static double fma_avx2(float *sink) {
    __m256 x = _mm256_set1_ps(1.0001f), y = _mm256_set1_ps(1e-6f);
    PEAK_LOOP(__m256, _mm256_setzero_ps(), _mm256_fmadd_ps(a[i], x, y), 4000000L)
}
static double fma_sse2(float *sink) {
    __m128 x = _mm_set1_ps(1.0001f), y = _mm_set1_ps(1e-6f);
    PEAK_LOOP(__m128, _mm_setzero_ps(), _mm_add_ps(_mm_mul_ps(a[i], x), y), 4000000L)
}
__attribute__((target("avx512f,avx512bf16"))) static double dot_avx512(float *sink) {
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80), y = (__m512bh)_mm512_set1_epi32(0x34003400);
    PEAK_LOOP(__m512, _mm512_setzero_ps(), _mm512_dpbf16_ps(a[i], x, y), 4000000L)
}
static double fma_peak(float *sink) {
    if (__builtin_cpu_supports("avx512f")) return 2 * fma_avx512(sink);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 2 * fma_avx2(sink);
    return 2 * fma_sse2(sink);
}
static double dot_peak(float *sink) {
    unsigned a, b, c, d;
    int bf16 = __builtin_cpu_supports("avx512f") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    return bf16 ? 4 * dot_avx512(sink) : 0;
}
#else
static double fma_peak(float *sink) {
    float32x4_t x = vdupq_n_f32(1.0001f), y = vdupq_n_f32(1e-6f);
    PEAK_LOOP(float32x4_t, vdupq_n_f32(0), vfmaq_f32(y, a[i], x), 4000000L)
}
static double dot_peak(float *sink) {
    (void)sink;
    return 0;
}
#endif

static double read_all(const char *from, float *sink) {
    const uint64_t *p = (const uint64_t *)from;
    uint64_t sum[8] = { 0 };
    for (size_t i = 0; i < buffer_bytes / 8; i += 8)
        for (int j = 0; j < 8; j++) sum[j] ^= p[i + (size_t)j];
    *sink = (float)(sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7]);
    return (double)buffer_bytes;
}

static double branches(float *sink) {
    long n = 400000;
    for (long i = 0; i < n; i++) __asm__ volatile("" : "+r"(i));
    *sink = (float)n;
    return (double)n;
}

static double work(struct worker *w) {
    switch (asked) {
    case COPY: memcpy(w->to, w->from, buffer_bytes); return 2.0 * (double)buffer_bytes;
    case READ: return read_all(w->from, &w->sink);
    case FMA32: return fma_peak(&w->sink);
    case BRANCH: return branches(&w->sink);
    default: return dot_peak(&w->sink);
    }
}

static void *run(void *argument) {
    struct worker *w = argument;
    memset(w->from, 1, buffer_bytes);
    memset(w->to, 2, buffer_bytes);
    for (;;) {
        pthread_barrier_wait(&begun);
        if (asked == RATES) return NULL;
        double begin = now();
        w->work = work(w);
        w->seconds = now() - begin;
        pthread_barrier_wait(&ended);
    }
}

/* The slowest worker's time counts, as it does for an operation that all threads share. */
static double one_round(const struct worker *workers, int threads, int rate) {
    asked = rate;
    pthread_barrier_wait(&begun);
    pthread_barrier_wait(&ended);
    double total = 0, seconds = 0;
    for (int t = 0; t < threads; t++) {
        total += workers[t].work;
        if (workers[t].seconds > seconds) seconds = workers[t].seconds;
    }
    return total / seconds;
}

static void answer(const struct worker *workers, int threads) {
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        int rate = 0;
        while (rate < RATES && strcmp(line, names[rate]) != 0) rate++;
        printf("%.4g\n", rate < RATES ? one_round(workers, threads, rate) : 0.0);
        fflush(stdout);
    }
}

/* On huge pages, as NumPy's arrays and the library's results are: a virtual machine walks two tables for each small one. */
static char *buffer(void) {
    char *memory = aligned_alloc((size_t)2 << 20, buffer_bytes);
#ifdef MADV_HUGEPAGE
    if (memory) madvise(memory, buffer_bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) return 2;
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    unsigned parties = (unsigned)threads + 1;
    if (!workers || pthread_barrier_init(&begun, NULL, parties) || pthread_barrier_init(&ended, NULL, parties)) return 1;
    for (int t = 0; t < threads; t++) {
        workers[t].from = buffer();
        workers[t].to = buffer();
        if (!workers[t].from || !workers[t].to || pthread_create(&workers[t].thread, NULL, run, &workers[t])) return 1;
    }
    answer(workers, threads);
    asked = RATES;
    pthread_barrier_wait(&begun);
    for (int t = 0; t < threads; t++) {
        pthread_join(workers[t].thread, NULL);
        free(workers[t].from);
        free(workers[t].to);
    }
    free(workers);
    return 0;
}
