/* The harness of the C tests. A program lists its tests and calls check_main, which runs those whose names contain one of the words
 * given on the command line (all without any), prints the first failures of each with their places, and ends with "N passed, N failed,
 * N skipped". */
#ifndef CHECK_H
#define CHECK_H

#include <invar/invar.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct check_test {
    const char *name;
    void (*run)(void);
} check_test;

#define CHECK_TEST(function) { #function, function }
int check_main(int argc, char **argv, const check_test *tests, int count);
#define CHECK_MAIN(...)                                                                     \
    int main(int argc, char **argv) {                                                       \
        const check_test tests[] = { __VA_ARGS__ };                                         \
        return check_main(argc, argv, tests, (int)(sizeof tests / sizeof tests[0]));        \
    }

/* A test goes on after a failure; only the first few of a test are printed. Returns condition. */
#define CHECK(condition, ...) check_report((condition), __FILE__, __LINE__, #condition, __VA_ARGS__)
__attribute__((format(printf, 5, 6))) bool check_report(bool good, const char *file, int line, const char *what,
                                                        const char *format, ...);
/* The running test passes, but says that it did not run and why. */
__attribute__((format(printf, 1, 2))) void check_skip(const char *reason, ...);

/* status must be `expected` and the sentence contain `word` (a failure that names its argument). */
#define CHECK_FAILS(call, expected, word) check_fails((call), (expected), (word), __FILE__, __LINE__, #call)
bool check_fails(invar_status status, invar_status expected, const char *word, const char *file, int line, const char *call);
#define CHECK_OK(call) check_ok((call), __FILE__, __LINE__, #call)
bool check_ok(invar_status status, const char *file, int line, const char *call);

/* ---- random numbers: the same sequence everywhere ------------------------------------------------ */
typedef struct check_random {
    uint64_t state;
} check_random;
uint64_t check_bits(check_random *random);
double check_uniform(check_random *random, double low, double high);
int64_t check_integer(check_random *random, int64_t low, int64_t high); /* both ends included */
double check_normal(check_random *random);

/* ---- tensors --------------------------------------------------------------------------------------- */

/* A tensor with memory of its own between two fences, so that a write outside it is found when it is freed. */
typedef struct check_array {
    invar_tensor tensor; /* its shape and strides point into this struct: never copy it */
    int64_t shape[8], strides[8];
    char *memory;
    size_t before, bytes, after; /* of a fence, of the elements and what lies between them, and of another fence */
    bool guarded;
    invar_tensor made; /* as `tensor` was before a test changed it */
    int64_t made_shape[8], made_strides[8];
} check_array;

/* Where arrays and workspaces lie that are made from now on: between fences, or in pages between two that nobody may touch,
 * right before the second or right behind the first, so that a read outside ends the program. */
typedef enum check_place { CHECK_FENCED, CHECK_BEFORE_PAGE, CHECK_BEHIND_PAGE } check_place;
void check_place_arrays(check_place place);

#define CHECK_SHAPE(...) (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / 8), (const int64_t[]){ __VA_ARGS__ }
extern const invar_dtype check_f32, check_f16, check_bf16, check_f64, check_i32, check_i64, check_bool;

/* Row-contiguous, every byte poisoned. check_array_init(&a, check_f32, CHECK_SHAPE(2, 8)); */
void check_array_init(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape);
/* The same elements laid out with other strides: steps[d] >= 1 elements are left between neighbours along axis d, and a
 * negative step runs backwards. The gaps are poisoned. */
void check_array_init_strided(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape, const int64_t *steps);
void check_array_free(check_array *array); /* fails the test where a fence or a gap was written */

/* Gives the call that filled this plan memory of its size, full of NaNs, which no result may show. */
void check_poison(invar_execution *execution, const invar_plan *plan);
void check_poison_free(const invar_execution *execution);

int64_t check_count(const invar_tensor *tensor);
/* Element i in row-major order, as double; integers, bools and floats. */
double check_get(const invar_tensor *tensor, int64_t i);
void check_set(const invar_tensor *tensor, int64_t i, double value);
void check_fill_normal(const invar_tensor *tensor, check_random *random, double mean, double deviation);
/* A hash of the elements' bits in row-major order, for comparing results between layouts, threads and instruction sets. */
uint64_t check_hash(const invar_tensor *tensor);
/* A hash of all memory, gaps and fences included, to see that nothing was written. */
uint64_t check_memory_hash(const check_array *array);

/* Every element of `got` within absolute + relative·|expected| of `expected`; NaN equals NaN, infinities their like. */
#define CHECK_CLOSE(got, expected, absolute, relative, what) \
    check_close((got), (expected), (absolute), (relative), (what), __FILE__, __LINE__)
bool check_close(const invar_tensor *got, const double *expected, double absolute, double relative, const char *what,
                 const char *file, int line);

/* Sets this thread's floating-point environment to one that no result may show, rounding upwards and denormals flushed, or back. */
void check_odd_environment(bool odd);

/* ---- instruction sets ------------------------------------------------------------------------------ */

/* Whether a test that takes long is to take fewer cases: CHECK_FEW stands in the environment. */
bool check_few(void);
/* How many of the cases that a test draws at random it takes: CHECK_ROUNDS in the environment, else `usual`. */
int check_rounds(int usual);
/* The i-th instruction set that this machine has (reference first), or NULL past the last; fresh contexts for it. With few cases,
 * reference and the third alone: avx2 where there is one. */
const char *check_cpu(int i);
invar_context *check_context(const char *cpu, int threads);

#endif
