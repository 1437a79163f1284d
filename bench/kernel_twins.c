/* What bench/kernels.py measures custom kernels against: the same work as plain C loops, spread over as many threads, and
 * launches from C. bench/kernels.py compiles it with the compiler that compiles the kernels, and calls it by ctypes. */
#define _GNU_SOURCE
#include <invar/kernel.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 256 };

/* Rows [rows][columns] of float32: two inputs and an output, the same kernel or twin over them. */
typedef struct job {
    invar_kernel *kernel;    /* NULL: the twin */
    int32_t twin, threads, fresh; /* fresh: the output is allocated and freed in the call */
    const float *a, *b;
    float *out;
    int64_t rows, columns, out_columns;
    int64_t grid[3], group[3];
} job;

/* ---- twins, each over rows begin … end - 1 ------------------------------------------------------------- */

static void multiply(const job *j, float *out, int64_t begin, int64_t end) {
    const float *restrict a = j->a, *restrict b = j->b;
    float *restrict to = out;
    for (int64_t i = begin * j->columns; i < end * j->columns; i++) to[i] = a[i] * b[i];
}

static void sum(const job *j, float *out, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const float *a = j->a + row * j->columns;
        float total = 0;
        for (int64_t i = 0; i < j->columns; i++) total += a[i];
        out[row] = total;
    }
}

static void softmax(const job *j, float *out, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const float *restrict a = j->a + row * j->columns;
        float *restrict to = out + row * j->columns, most = -INFINITY, total = 0;
        for (int64_t i = 0; i < j->columns; i++) most = a[i] > most ? a[i] : most;
        for (int64_t i = 0; i < j->columns; i++) {
            to[i] = expf(a[i] - most);
            total += to[i];
        }
        for (int64_t i = 0; i < j->columns; i++) to[i] /= total;
    }
}

/* The sum in 64 parts, which a compiler makes vectors of. */
static void sum_in_vectors(const job *j, float *out, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
        const float *a = j->a + row * j->columns;
        float part[64] = { 0 }, total = 0;
        int64_t i = 0;
        for (; i + 64 <= j->columns; i += 64)
            for (int k = 0; k < 64; k++) part[k] += a[i + k];
        for (; i < j->columns; i++) total += a[i];
        for (int k = 0; k < 64; k++) total += part[k];
        out[row] = total;
    }
}

static void (*const twins[])(const job *, float *, int64_t, int64_t) = { multiply, sum, softmax, sum_in_vectors };

/* ---- threads ----------------------------------------------------------------------------------------------- */

typedef struct part {
    const job *job;
    float *out;
    int64_t begin, end;
} part;

static void *run_part(void *argument) {
    const part *p = argument;
    twins[p->job->twin](p->job, p->out, p->begin, p->end);
    return NULL;
}

static void run_twin(const job *j, float *out) {
    pthread_t threads[MOST_THREADS];
    part parts[MOST_THREADS];
    int made[MOST_THREADS] = { 0 };
    for (int i = j->threads - 1; i >= 0; i--) {
        parts[i] = (part){ j, out, j->rows * i / j->threads, j->rows * (i + 1) / j->threads };
        if (i) made[i] = !pthread_create(&threads[i], NULL, run_part, &parts[i]);
        if (!made[i]) run_part(&parts[i]);
    }
    for (int i = 1; i < j->threads; i++)
        if (made[i]) pthread_join(threads[i], NULL);
}

/* ---- kernels ------------------------------------------------------------------------------------------------- */

invar_kernel *bench_kernel(const char *name, const char *source) {
    static const char *const inputs[] = { "a", "b" }, *const outputs[] = { "out" };
    invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    description.dialect = INVAR_DIALECT_METAL;
    description.name = name;
    description.source = source;
    description.input_names = inputs;
    description.input_count = 2;
    description.output_names = outputs;
    description.output_count = 1;
    return invar_kernel_create(&kernel, &description) ? NULL : kernel;
}

static invar_tensor tensor_of(const float *data, int64_t shape[2]) {
    invar_tensor tensor = { .data = (void *)data, .ndim = 2, .dtype = { INVAR_FLOAT, 32, 1 }, .shape = shape };
    tensor.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    return tensor;
}

static int launch(const job *j, invar_context *context, float *to) {
    int64_t shape[2] = { j->rows, j->columns }, out_shape[2] = { j->rows, j->out_columns };
    invar_tensor a = tensor_of(j->a, shape), b = tensor_of(j->b, shape), out = tensor_of(to, out_shape);
    const invar_tensor *inputs[] = { &a, &b }, *outputs[] = { &out };
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    memcpy(options.grid, j->grid, sizeof options.grid);
    memcpy(options.threadgroup, j->group, sizeof options.threadgroup);
    return invar_kernel_launch(j->kernel, context, outputs, 1, inputs, 2, &options);
}

/* ---- time -------------------------------------------------------------------------------------------------- */

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

invar_context *bench_context(int32_t threads) {
    invar_context_options options = INVAR_CONTEXT_OPTIONS_INIT;
    invar_context *context = NULL;
    options.num_threads = threads;
    return invar_context_create(&context, &options) ? NULL : context;
}

/* Seconds a call over so many; negative when one fails, and invar_last_error() says why. */
double bench_time(const job *j, invar_context *context, int64_t turns) {
    double begin = seconds();
    for (int64_t i = 0; i < turns; i++) {
        float *out = j->fresh ? malloc(sizeof(float) * (size_t)(j->rows * j->out_columns)) : j->out;
        int failed = !out;
        if (!failed && j->kernel) failed = launch(j, context, out);
        else if (!failed) run_twin(j, out);
        if (j->fresh) free(out);
        if (failed) return -1;
    }
    return (seconds() - begin) / (double)turns;
}
