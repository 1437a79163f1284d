/* Every program for CUDA devices compiles in each of its specialisations, for the GPUs of several generations, without a warning
 * and without local memory: a spilled register, or an array that is indexed at run time, costs more than any kernel here can
 * spare. NVRTC needs no GPU for it. The compiler's remarks are read as ptxas writes them with -v. With CHECK_EVERY_GPU in the
 * environment, as in .ci/run, each specialisation is compiled for one of these targets, in turn; else every third. */
#define _GNU_SOURCE
#include "check.h"
#include "cuda/module.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the compiler said ------------------------------------------------------------------------ */

/* Where there is none, the test is skipped; one that INVAR_NVRTC names must be one. */
static bool find_nvrtc(const invar_nvrtc **nvrtc) {
    const invar_status status = invar_nvrtc_get(nvrtc, "test");
    if (status == INVAR_ERROR_COMPILE) check_skip("%s", invar_last_error());
    else CHECK_OK(status);
    return status == INVAR_OK;
}

typedef struct usage {
    int registers, shared; /* the most of any function; bytes of static shared memory */
} usage;

/* The largest number before `unit` in the log; -1 where it says none. */
static int most(const char *log, const char *unit) {
    int found = -1;
    for (const char *at = log; (at = strstr(at, unit)); at += strlen(unit)) {
        const char *begin = at;
        while (begin > log && begin[-1] >= '0' && begin[-1] <= '9') begin--;
        const int value = begin < at ? atoi(begin) : 0;
        if (value > found) found = value;
    }
    return found;
}

/* Why the log is not to be accepted, or NULL. */
static const char *wrong_in(const char *log) {
    static const char *const forbidden[] = { " bytes stack frame", " bytes spill stores", " bytes spill loads", " bytes lmem" };
    if (!log) return "the compiler said nothing, not even how many registers it used";
    if (strcasestr(log, "warning")) return "a warning";
    if (strstr(log, "serializ")) return "instructions that were serialized";
    if (most(log, " bytes stack frame") < 0) return "no word of a stack frame";
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (most(log, forbidden[i]) > 0) return forbidden[i];
    return NULL;
}

/* ---- compiling, on two threads --------------------------------------------------------------------- */

enum { JOBS = 4096, TARGETS = 4, SENTENCE = 6000 };

typedef struct job {
    const invar_cuda_source *source;
    int target, variant;
    usage used;
    char *failure; /* NULL: good */
} job;

static struct {
    int major, minor;
    char name[INVAR_NVRTC_TARGET];
} targets[TARGETS];
static int target_count;

static job jobs[JOBS];
static int job_count;
static atomic_int next_job;

static void compile(job *task) {
    char defines[INVAR_CUDA_DEFINES], options[INVAR_CUDA_DEFINES + 64], *image = NULL, *log = NULL;
    const char *target = targets[task->target].name, *wrong;
    size_t size = 0;
    task->source->variant(task->variant, targets[task->target].major, targets[task->target].minor, defines);
    snprintf(options, sizeof options, "%s --ptxas-options=-v", defines);
    if (invar_cuda_build(task->source, options, target, "test", &image, &size, &log) != INVAR_OK) {
        if (asprintf(&task->failure, "%s %s: %.*s", target, defines, SENTENCE, invar_last_error()) < 0) abort();
        free(log);
        return;
    }
    wrong = memmem(image, size, task->source->entry, strlen(task->source->entry)) ? wrong_in(log) : "no function of the entry's name";
    if (wrong &&
        asprintf(&task->failure, "%s %s %s: %s:\n%.*s", target, task->source->file, defines, wrong, SENTENCE, log ? log : "") < 0)
        abort();
    task->used = (usage){ most(log ? log : "", " registers"), most(log ? log : "", " bytes smem") };
    free(image);
    free(log);
}

static void *compile_some(void *unused) {
    (void)unused;
    for (int i; (i = atomic_fetch_add(&next_job, 1)) < job_count;) compile(&jobs[i]);
    return NULL;
}

static void report(const invar_cuda_source *source, int target) {
    usage used = { 0, 0 };
    int count = 0;
    for (int i = 0; i < job_count; i++) {
        const job *done = &jobs[i];
        if (done->source != source || done->target != target) continue;
        count++;
        if (done->used.registers > used.registers) used.registers = done->used.registers;
        if (done->used.shared > used.shared) used.shared = done->used.shared;
        CHECK(!done->failure, "%s", done->failure);
    }
    if (count)
        printf("%s, %s: %d compiled, at most %d registers, %d bytes of static shared memory\n", source->file, targets[target].name,
               count, used.registers, used.shared);
}

/* ---- what is to be compiled ------------------------------------------------------------------------ */

static void add_target(const invar_nvrtc *nvrtc, int major, int minor) {
    char name[INVAR_NVRTC_TARGET];
    if (invar_nvrtc_target(nvrtc, major, minor, name, "test") != INVAR_OK || strncmp(name, "sm_", 3)) return; /* unknown to it */
    for (int i = 0; i < target_count; i++)
        if (!strcmp(targets[i].name, name)) return;
    targets[target_count].major = major, targets[target_count].minor = minor;
    memcpy(targets[target_count++].name, name, sizeof name);
}

/* Whether specialisation i is to be compiled for this target: seconds for each of attention's add up. */
static bool wanted(const invar_cuda_source *source, int target, int i) {
    enum { ONE_IN = 3 };
    char defines[INVAR_CUDA_DEFINES];
    if (!getenv("CHECK_EVERY_GPU")) return i % (ONE_IN * target_count) == ONE_IN * target;
    return i % target_count == target || !source->variant(0, 8, 0, defines); /* some are for 9.0 alone */
}

static void add_jobs(int target) {
    char defines[INVAR_CUDA_DEFINES];
    for (int s = 0; invar_cuda_sources[s]; s++)
        for (int i = 0; invar_cuda_sources[s]->variant(i, targets[target].major, targets[target].minor, defines); i++)
            if (wanted(invar_cuda_sources[s], target, i + s) && CHECK(job_count < JOBS, "more than %d specialisations", JOBS))
                jobs[job_count++] = (job){ invar_cuda_sources[s], target, i, { 0, 0 }, NULL };
}

static void every_specialisation_compiles_without_local_memory(void) {
    const invar_nvrtc *nvrtc;
    pthread_t other;
    if (!find_nvrtc(&nvrtc)) return;
    add_target(nvrtc, 9, 0);
    add_target(nvrtc, 8, 0);
    add_target(nvrtc, 10, 0);
    add_target(nvrtc, invar_nvrtc_newest(nvrtc) / 10, invar_nvrtc_newest(nvrtc) % 10);
    for (int i = 0; i < target_count; i++) add_jobs(i);
    const bool threaded = !pthread_create(&other, NULL, compile_some, NULL);
    compile_some(NULL);
    if (threaded) pthread_join(other, NULL);
    for (int s = 0; invar_cuda_sources[s]; s++)
        for (int i = 0; i < target_count; i++) report(invar_cuda_sources[s], i);
    for (int i = 0; i < job_count; i++) free(jobs[i].failure);
}

/* The reading of the log itself, with programs that deserve refusal. */
static void local_memory_and_warnings_are_seen(void) {
    static const char array[] = "extern \"C\" __global__ void f(float *p, int n) { float x[64]; "
                                "for (int i = 0; i < 64; i++) x[i] = p[i];"
                                " for (int i = 0; i < 64; i++) p[i] = x[(n + i * (int)p[0]) & 63]; }";
    static const char unused[] = "extern \"C\" __global__ void f(float *p) { int never; *p = 1; }";
    static const char good[] = "extern \"C\" __global__ void f(float *p) { *p = 1; }";
    const struct {
        const char *text, *word;
    } cases[] = { { array, "stack frame" }, { unused, "warning" }, { good, NULL } };
    const invar_nvrtc *nvrtc;
    if (!find_nvrtc(&nvrtc)) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *image = NULL, *log = NULL;
        size_t size;
        if (!CHECK_OK(invar_nvrtc_compile(nvrtc, "case.cu", cases[i].text, NULL, 0, "sm_80", "--ptxas-options=-v", "test", &image,
                                          &size, &log)))
            continue;
        const char *wrong = wrong_in(log);
        CHECK(cases[i].word ? wrong && strstr(wrong, cases[i].word) : !wrong, "case %zu: %s\n%s", i, wrong ? wrong : "accepted", log);
        free(image);
        free(log);
    }
    CHECK(!wrong_in("ptxas info : 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"), "refused");
    CHECK(wrong_in("ptxas info : (C7510) wgmma.mma_async instructions are serialized\n 0 bytes stack frame"), "accepted");
}

CHECK_MAIN(CHECK_TEST(local_memory_and_warnings_are_seen), CHECK_TEST(every_specialisation_compiles_without_local_memory))
