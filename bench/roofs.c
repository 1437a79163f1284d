/* The machine's roofs, measured: copy and read bandwidth, float32 FMA peak, bfloat16 dot peak.
 *
 * usage: roofs THREADS; prints one line of JSON with totals over the threads: bytes/s (a copy counts what is read and
 * what is written) and FLOP/s (an FMA counts two, a bfloat16 pair product four). Rates that the processor has no
 * instruction for are 0. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

enum { COPY, READ, FMA32, DOT16, RATES };
enum { ROUNDS = 7, MAX_THREADS = 256 };
static const size_t buffer_bytes = (size_t)256 << 20;

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    double rate[RATES][ROUNDS]; /* work of this thread in each round */
    double begin[RATES][ROUNDS], end[RATES][ROUNDS];
    char *from, *to;
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

static double work(struct worker *w, int rate) {
    switch (rate) {
    case COPY: memcpy(w->to, w->from, buffer_bytes); return 2.0 * (double)buffer_bytes;
    case READ: return read_all(w->from, &w->sink);
    case FMA32: return fma_peak(&w->sink);
    default: return dot_peak(&w->sink);
    }
}

static void *run(void *argument) {
    struct worker *w = argument;
    w->from = malloc(buffer_bytes);
    w->to = malloc(buffer_bytes);
    if (!w->from || !w->to) exit(1);
    memset(w->from, 1, buffer_bytes);
    memset(w->to, 2, buffer_bytes);
    for (int rate = 0; rate < RATES; rate++)
        for (int round = 0; round < ROUNDS; round++) {
            pthread_barrier_wait(w->barrier);
            w->begin[rate][round] = now();
            w->rate[rate][round] = work(w, rate);
            w->end[rate][round] = now();
        }
    free(w->from);
    free(w->to);
    return NULL;
}

/* The best round: a roof is what the machine can do when left alone. */
static double best(const struct worker *workers, int threads, int rate) {
    double result = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double total = 0, begin = workers[0].begin[rate][round], end = 0;
        for (int t = 0; t < threads; t++) {
            total += workers[t].rate[rate][round];
            if (workers[t].begin[rate][round] < begin) begin = workers[t].begin[rate][round];
            if (workers[t].end[rate][round] > end) end = workers[t].end[rate][round];
        }
        if (total / (end - begin) > result) result = total / (end - begin);
    }
    return result;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 1;
    if (threads < 1 || threads > MAX_THREADS) return 2;
    struct worker *workers = calloc((size_t)threads, sizeof *workers);
    pthread_barrier_t barrier;
    if (!workers || pthread_barrier_init(&barrier, NULL, (unsigned)threads)) return 1;
    for (int t = 0; t < threads; t++) {
        workers[t].barrier = &barrier;
        if (pthread_create(&workers[t].thread, NULL, run, &workers[t])) return 1;
    }
    for (int t = 0; t < threads; t++) pthread_join(workers[t].thread, NULL);
    printf("{\"threads\": %d, \"copy\": %.4g, \"read\": %.4g, \"fma\": %.4g, \"dot\": %.4g}\n", threads,
           best(workers, threads, COPY), best(workers, threads, READ), best(workers, threads, FMA32),
           best(workers, threads, DOT16));
    free(workers);
    return 0;
}
