/* invar_context_measure: what this machine can do at most, by the context's own threads and instruction set. */
#define _GNU_SOURCE
#include "core/context.h"
#include "cpu/dispatch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 5, SLICES = 64 /* of the buffers: tasks of one round */ };

struct round {
    enum { READ, COPY, MULTIPLY_ADD, MULTIPLY_ADD_BF16 } rate;
    const invar_kernels *kernels;
    char *from, *to;
    size_t slice;
    double work[INVAR_MAX_POOL_THREADS]; /* of each task, at most SLICES or as many as there are threads */
    float sink[INVAR_MAX_POOL_THREADS];
};

static float read_slice(const char *from, size_t bytes) {
    uint64_t sum[8] = { 0 }, words[8];
    for (size_t i = 0; i < bytes; i += sizeof words) {
        memcpy(words, from + i, sizeof words);
        for (int j = 0; j < 8; j++) sum[j] ^= words[j];
    }
    for (int j = 1; j < 8; j++) sum[0] ^= sum[j];
    return (float)sum[0];
}

static void run_task(void *argument, int64_t i) {
    struct round *round = argument;
    char *from = round->from + (size_t)i * round->slice, *to = round->to + (size_t)i * round->slice;
    switch (round->rate) {
    case READ:
        round->sink[i] = read_slice(from, round->slice);
        round->work[i] = (double)round->slice;
        break;
    case COPY:
        memcpy(to, from, round->slice);
        round->work[i] = 2.0 * (double)round->slice;
        break;
    default: round->work[i] = round->kernels->peak(round->rate == MULTIPLY_ADD_BF16, &round->sink[i]);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best round: a roof is what the machine can do when left alone. */
static double measure(invar_pool *pool, struct round *round, int rate, const invar_kernels *kernels) {
    int threads = invar_pool_threads(pool), tasks = rate == READ || rate == COPY ? SLICES : threads;
    double best = 0;
    round->rate = rate;
    round->kernels = kernels;
    for (int i = 0; i < ROUNDS; i++) {
        double begin = now(), total = 0;
        invar_pool_run(pool, threads, tasks, false, run_task, round);
        double seconds = now() - begin;
        for (int t = 0; t < tasks; t++) total += round->work[t];
        if (total / seconds > best) best = total / seconds;
    }
    return best;
}

invar_status invar_context_measure(invar_context *context, invar_roofs *roofs) {
    static const char operation[] = "context_measure";
    if (!roofs) return invar_fail(INVAR_ERROR_NULL, "%s: roofs: expected a pointer, got NULL", operation);
    if (roofs->size != sizeof *roofs)
        return invar_fail(INVAR_ERROR_VALUE, "%s: roofs.size: expected %zu, got %zu", operation, sizeof *roofs, roofs->size);
    INVAR_TRY(invar_context_resolve(&context));
    /* Beyond the last level's cache; 256 MiB is beyond the share of it that one program gets on larger ones. */
    size_t bytes = (size_t)context->description.l3_bytes * 2;
    if (bytes < (size_t)64 << 20) bytes = (size_t)64 << 20;
    if (bytes > (size_t)256 << 20) bytes = (size_t)256 << 20;
    struct round *round = malloc(sizeof *round);
    char *buffer = malloc(2 * bytes);
    if (round && buffer) {
        memset(buffer, 1, 2 * bytes);
        *round = (struct round){ .from = buffer, .to = buffer + bytes, .slice = bytes / SLICES / 64 * 64 };
        roofs->read = measure(context->pool, round, READ, NULL);
        roofs->copy = measure(context->pool, round, COPY, NULL);
        roofs->float32 = measure(context->pool, round, MULTIPLY_ADD, context->kernels);
        roofs->bfloat16 = measure(context->pool, round, MULTIPLY_ADD_BF16, context->kernels);
        roofs->float64 = measure(context->pool, round, MULTIPLY_ADD, &invar_kernels_reference);
    }
    bool measured = round && buffer;
    free(round);
    free(buffer);
    return measured ? INVAR_OK : invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory for %zu bytes", operation, 2 * bytes);
}
