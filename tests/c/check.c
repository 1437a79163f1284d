/* The harness of the C tests: running, reporting, random numbers, fenced tensors. */
#define _GNU_SOURCE
#include "check.h"
#include "core/dtype.h"
#include "core/threads.h"

#include <fenv.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SHOWN = 5, FENCE = 256, POISON = 0xA5 };

static int failures;    /* of the running test */
static bool skipped;

bool check_report(bool good, const char *file, int line, const char *what, const char *format, ...) {
    if (good || ++failures > SHOWN) return good;
    va_list arguments;
    va_start(arguments, format);
    printf("%s:%d: %s: ", file, line, what);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    return good;
}

void check_skip(const char *reason, ...) {
    va_list arguments;
    va_start(arguments, reason);
    printf("skipped: ");
    vprintf(reason, arguments);
    printf("\n");
    va_end(arguments);
    skipped = true;
}

bool check_fails(invar_status status, invar_status expected, const char *word, const char *file, int line, const char *call) {
    bool good = status == expected && strstr(invar_last_error(), word);
    return check_report(good, file, line, call, "expected %s with '%s', got %s: %s", invar_status_name(expected), word,
                        invar_status_name(status), status == INVAR_OK ? "" : invar_last_error());
}

bool check_ok(invar_status status, const char *file, int line, const char *call) {
    return check_report(status == INVAR_OK, file, line, call, "%s: %s", invar_status_name(status), invar_last_error());
}

/* Whether one of a program's arguments is a part of the name; without arguments all are meant. */
static bool is_meant(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i])) return true;
    return argc < 2;
}

/* Else a program whose test was renamed would run none, and pass. */
static bool every_word_is_meant(int argc, char **argv, const check_test *tests, int count) {
    for (int i = 1; i < argc; i++) {
        int found = 0;
        while (found < count && !strstr(tests[found].name, argv[i])) found++;
        if (found < count) continue;
        printf("no test's name contains '%s'\n", argv[i]);
        return false;
    }
    return true;
}

int check_main(int argc, char **argv, const check_test *tests, int count) {
    int passed = 0, failed = 0, skips = 0;
    if (!every_word_is_meant(argc, argv, tests, count)) return 1;
    for (int i = 0; i < count; i++) {
        if (!is_meant(tests[i].name, argc, argv)) continue;
        failures = 0;
        skipped = false;
        tests[i].run();
        if (failures) printf("FAILED %s: %d checks\n", tests[i].name, failures);
        if (failures) failed++;
        else if (skipped) skips++;
        else passed++;
        fflush(stdout);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skips);
    return failed > 0;
}

/* splitmix64 (Steele et al., 2014) */
uint64_t check_bits(check_random *random) {
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double check_uniform(check_random *random, double low, double high) {
    return low + (high - low) * (double)(check_bits(random) >> 11) * 0x1p-53;
}

int64_t check_integer(check_random *random, int64_t low, int64_t high) {
    return low + (int64_t)(check_bits(random) % (uint64_t)(high - low + 1));
}

double check_normal(check_random *random) { /* Irwin-Hall: twelve uniforms, of 10 bits, have variance 1; another fills up the rest */
    const uint64_t a = check_bits(random), b = check_bits(random), ten = 0x3ff003ff003ff;
    const uint64_t three = (a & ten) + (a >> 10 & ten) + (b & ten) + (b >> 10 & ten), sum = three + (three >> 20) + (three >> 40);
    return ((double)(sum & 0xfffff) + check_uniform(random, -6139, -6138)) * 0x1p-10;
}

const invar_dtype check_f32 = { INVAR_FLOAT, 32, 1 }, check_f16 = { INVAR_FLOAT, 16, 1 }, check_bf16 = { INVAR_BFLOAT, 16, 1 },
                  check_f64 = { INVAR_FLOAT, 64, 1 }, check_i32 = { INVAR_INT, 32, 1 }, check_i64 = { INVAR_INT, 64, 1 },
                  check_bool = { INVAR_BOOL, 8, 1 };

int64_t check_count(const invar_tensor *tensor) {
    int64_t count = 1;
    for (int d = 0; d < tensor->ndim; d++) count *= tensor->shape[d];
    return count;
}

/* Whether elements lie in row-major order without gaps. */
static bool in_order(const invar_tensor *tensor) {
    int64_t contiguous = 1;
    for (int d = tensor->ndim - 1; tensor->strides && d >= 0; contiguous *= tensor->shape[d--])
        if (tensor->strides[d] != contiguous) return false;
    return true;
}

static char *element(const invar_tensor *tensor, int64_t i) {
    int64_t offset = i;
    if (!in_order(tensor)) { /* divisions, which take most tests' time, without need elsewhere */
        offset = 0;
        for (int d = tensor->ndim - 1; d >= 0; d--) {
            offset += i % tensor->shape[d] * tensor->strides[d];
            i /= tensor->shape[d];
        }
    }
    return (char *)tensor->data + tensor->byte_offset + offset * (tensor->dtype.bits / 8);
}

void check_array_init(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape) {
    check_array_init_strided(array, dtype, ndim, shape, (const int64_t[]){ 1, 1, 1, 1, 1, 1, 1, 1 });
}

static check_place place = CHECK_FENCED;

void check_place_arrays(check_place chosen) { place = chosen; }

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/* The pages that `bytes` take; a page that nobody may touch stands before them and another behind them. */
static char *guarded_new(size_t bytes, size_t *pages) {
    const size_t page = page_size();
    *pages = (bytes + page - 1) / page * page;
    char *memory = mmap(NULL, *pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || (*pages && mprotect(memory + page, *pages, PROT_READ | PROT_WRITE))) abort();
    return memory + page;
}

static void guarded_free(void *memory, size_t pages) { munmap((char *)memory - page_size(), pages + 2 * page_size()); }

void check_poison(invar_execution *execution, const invar_plan *plan) {
    const size_t bytes = (plan->workspace + 63) / 64 * 64;
    size_t pages = 0;
    execution->plan = NULL;
    execution->workspace_size = bytes;
    execution->workspace = NULL;
    if (!bytes) return;
    char *memory = guarded_new(bytes, &pages);
    execution->workspace = memory + (place == CHECK_BEHIND_PAGE ? 0 : pages - bytes);
    memset(execution->workspace, 0xff, bytes);
}

void check_poison_free(const invar_execution *execution) {
    const size_t page = page_size(), pages = (execution->workspace_size + page - 1) / page * page;
    if (execution->workspace) guarded_free((char *)execution->workspace - (uintptr_t)execution->workspace % page, pages);
}

static void allocate(check_array *array, size_t bytes) {
    size_t pages = 0;
    array->bytes = bytes;
    array->guarded = place != CHECK_FENCED;
    if (array->guarded) {
        array->memory = guarded_new(bytes, &pages);
        array->before = place == CHECK_BEFORE_PAGE ? pages - bytes : 0;
        array->after = pages - bytes - array->before;
    } else {
        array->before = FENCE;
        array->after = (bytes + 63) / 64 * 64 - bytes + FENCE;
        array->memory = aligned_alloc(64, array->before + bytes + array->after);
        if (!array->memory) abort();
    }
    memset(array->memory, POISON, array->before + bytes + array->after);
}

void check_array_init_strided(check_array *array, invar_dtype dtype, int ndim, const int64_t *shape, const int64_t *steps) {
    size_t item = dtype.bits / 8u;
    int64_t extent = 1, first = 0, last = 0, count = 1;
    for (int d = ndim - 1; d >= 0; d--) {
        int64_t step = steps[d] < 0 ? -steps[d] : steps[d];
        count *= shape[d];
        array->made_shape[d] = array->shape[d] = shape[d];
        array->made_strides[d] = array->strides[d] = extent * steps[d];
        if (shape[d] > 0) last += (shape[d] - 1) * extent * step;
        if (steps[d] < 0 && shape[d] > 0) first += (shape[d] - 1) * extent * step;
        extent *= step * (shape[d] > 0 ? shape[d] : 1);
    }
    allocate(array, count ? (size_t)(last + 1) * item : 0);
    array->made = array->tensor = (invar_tensor){ array->memory + array->before + (size_t)first * item,
                                                  { INVAR_DEVICE_CPU, 0 }, ndim, dtype, array->shape, array->strides, 0 };
}

void check_array_free(check_array *array) {
    array->made.shape = array->made_shape;
    array->made.strides = array->made_strides;
    const size_t item = array->made.dtype.bits / 8u, whole = array->before + array->bytes + array->after;
    const int64_t count = check_count(&array->made);
    const char *elements = array->memory + array->before;
    /* The elements become poison again, as what lies around them still should be. */
    if ((size_t)count * item == array->bytes) memset(array->memory + array->before, POISON, array->bytes);
    else
        for (int64_t i = 0; i < count; i++) memset(element(&array->made, i), POISON, item);
    if (whole && ((unsigned char)array->memory[0] != POISON || memcmp(array->memory, array->memory + 1, whole - 1))) {
        size_t i = 0;
        while ((unsigned char)array->memory[i] == POISON) i++;
        CHECK(false, "memory outside a tensor's elements was written, %lld bytes from their first",
              (long long)(array->memory + i - elements));
    }
    if (array->guarded) guarded_free(array->memory, whole);
    else free(array->memory);
}

double check_get(const invar_tensor *tensor, int64_t i) {
    const char *p = element(tensor, i);
    invar_float_type type;
    if (invar_float_type_of(tensor->dtype, &type)) return invar_load_float(p, type);
    uint64_t bits = 0;
    memcpy(&bits, p, tensor->dtype.bits / 8u);
    int shift = 64 - tensor->dtype.bits;
    return tensor->dtype.code == INVAR_INT ? (double)((int64_t)(bits << shift) >> shift) : (double)bits;
}

void check_set(const invar_tensor *tensor, int64_t i, double value) {
    char *p = element(tensor, i);
    invar_float_type type;
    if (invar_float_type_of(tensor->dtype, &type)) {
        invar_store_float(p, type, value);
        return;
    }
    int64_t integer = (int64_t)value;
    memcpy(p, &integer, tensor->dtype.bits / 8u);
}

void check_fill_normal(const invar_tensor *tensor, check_random *random, double mean, double deviation) {
    const int64_t count = check_count(tensor);
    const size_t item = tensor->dtype.bits / 8u;
    invar_float_type type;
    if (count && in_order(tensor) && invar_float_type_of(tensor->dtype, &type)) {
        char *p = element(tensor, 0);
        for (char *end = p + (size_t)count * item; p < end; p += item)
            invar_store_float(p, type, mean + deviation * check_normal(random));
        return;
    }
    for (int64_t i = 0; i < count; i++) check_set(tensor, i, mean + deviation * check_normal(random));
}

static uint64_t hash(uint64_t h, const char *bytes, size_t count) { /* FNV-1a */
    for (size_t i = 0; i < count; i++) h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return h;
}

uint64_t check_hash(const invar_tensor *tensor) {
    const bool once = in_order(tensor);
    const int64_t count = check_count(tensor), each = once ? count : 1;
    uint64_t h = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < count; i += each) h = hash(h, element(tensor, i), tensor->dtype.bits / 8u * (size_t)each);
    return h;
}

uint64_t check_memory_hash(const check_array *array) {
    return hash(0xcbf29ce484222325u, array->memory, array->before + array->bytes + array->after);
}

bool check_close(const invar_tensor *got, const double *expected, double absolute, double relative, const char *what,
                 const char *file, int line) {
    bool all = true;
    for (int64_t i = 0, n = check_count(got); i < n; i++) {
        double g = check_get(got, i), e = expected[i];
        bool same = g == e || (isnan(g) && isnan(e)) || fabs(g - e) <= absolute + relative * fabs(e);
        all &= check_report(same, file, line, what, "element %lld: expected %.9g, got %.9g", (long long)i, e, g);
    }
    return all;
}

void check_odd_environment(bool odd) {
#if defined(__SSE2__)
    const invar_float_environment flush = 0x8040;
#else
    const invar_float_environment flush = 1 << 24;
#endif
    fesetround(odd ? FE_UPWARD : FE_TONEAREST); /* long double's too */
    const invar_float_environment now = invar_float_environment_set();
    invar_float_environment_restore(odd ? now | flush : now & ~flush);
}

bool check_few(void) { return getenv("CHECK_FEW") != NULL; }

int check_rounds(int usual) { return getenv("CHECK_ROUNDS") ? atoi(getenv("CHECK_ROUNDS")) : usual; }

const char *check_cpu(int i) {
    static char list[128], *names[16];
    if (!names[0]) {
        invar_context_description description = INVAR_CONTEXT_DESCRIPTION_INIT;
        invar_context *context = check_context("reference", 1);
        invar_context_info(context, &description);
        invar_context_destroy(context);
        snprintf(list, sizeof list, "%s", description.cpu_available);
        char *rest = list;
        int count = 0;
        while (count < 15 && (names[count] = strtok_r(rest, " ", &rest))) count++;
        if (check_few() && count > 2) names[1] = names[2], names[2] = NULL;
    }
    return names[i];
}

invar_context *check_context(const char *cpu, int threads) {
    invar_context *context = NULL;
    invar_context_options options = INVAR_CONTEXT_OPTIONS_INIT;
    options.cpu = cpu;
    options.num_threads = threads;
    if (!CHECK_OK(invar_context_create(&context, &options))) abort();
    return context;
}
