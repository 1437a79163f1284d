/* Opening NVRTC and compiling one program with it. */
#define _GNU_SOURCE
#include "cuda/nvrtc.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct program *nvrtc_program;
enum { MAX_WORDS = 1024 /* bytes of them */, MAX_OPTIONS = MAX_WORDS / 2 + 8, MAX_ARCHITECTURES = 64 };
enum { RESULT_OUT_OF_MEMORY = 1 };

/* No multiplication is fused with an addition by the compiler. */
const char invar_nvrtc_options[] = "--std=c++17 --fmad=false";

struct invar_nvrtc {
    int (*nvrtcVersion)(int *major, int *minor);
    const char *(*nvrtcGetErrorString)(int result);
    int (*nvrtcGetNumSupportedArchs)(int *count);
    int (*nvrtcGetSupportedArchs)(int *architectures);
    int (*nvrtcCreateProgram)(nvrtc_program *program, const char *text, const char *name, int headers,
                              const char *const *header_texts, const char *const *header_names);
    int (*nvrtcDestroyProgram)(nvrtc_program *program);
    int (*nvrtcCompileProgram)(nvrtc_program program, int options, const char *const *option_texts);
    int (*nvrtcGetProgramLogSize)(nvrtc_program program, size_t *size);
    int (*nvrtcGetProgramLog)(nvrtc_program program, char *log);
    int (*nvrtcGetCUBINSize)(nvrtc_program program, size_t *size);
    int (*nvrtcGetCUBIN)(nvrtc_program program, char *image);
    int (*nvrtcGetPTXSize)(nvrtc_program program, size_t *size);
    int (*nvrtcGetPTX)(nvrtc_program program, char *image);
    int version;
    int architectures[MAX_ARCHITECTURES], architecture_count; /* as 90, ascending */
};

/* ---- opening -------------------------------------------------------------------------------------- */

static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool find_all(void *library, invar_nvrtc *n) {
#define FIND(name) find(library, #name, &n->name)
    return FIND(nvrtcVersion) && FIND(nvrtcGetErrorString) && FIND(nvrtcGetNumSupportedArchs) && FIND(nvrtcGetSupportedArchs) &&
           FIND(nvrtcCreateProgram) && FIND(nvrtcDestroyProgram) && FIND(nvrtcCompileProgram) && FIND(nvrtcGetProgramLogSize) &&
           FIND(nvrtcGetProgramLog) && FIND(nvrtcGetCUBINSize) && FIND(nvrtcGetCUBIN) && FIND(nvrtcGetPTXSize) &&
           FIND(nvrtcGetPTX);
#undef FIND
}

/* NVRTC asks the loader for its other half by name alone when it first compiles. Where the loader knows neither, as with a toolkit
 * that was only unpacked, it finds the half beside it once that is loaded. */
static void open_builtins(void *library, int major, int minor) {
    struct link_map *map;
    char path[1024];
    if (dlinfo(library, RTLD_DI_LINKMAP, &map)) return;
    const char *slash = strrchr(map->l_name, '/');
    if (!slash) return;
    const int length = snprintf(path, sizeof path, "%.*s/libnvrtc-builtins.so.%d.%d", (int)(slash - map->l_name), map->l_name, major,
                                minor);
    if (length < (int)sizeof path) dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static bool use(invar_nvrtc *nvrtc, void *library) {
    int major = 0, minor = 0;
    if (!library || !find_all(library, nvrtc) || nvrtc->nvrtcVersion(&major, &minor)) return false;
    open_builtins(library, major, minor);
    nvrtc->version = 1000 * major + 10 * minor;
    int *count = &nvrtc->architecture_count;
    return !nvrtc->nvrtcGetNumSupportedArchs(count) && *count > 0 && *count <= MAX_ARCHITECTURES &&
           !nvrtc->nvrtcGetSupportedArchs(nvrtc->architectures);
}

static invar_status open_nvrtc(invar_nvrtc *nvrtc, const char *operation) {
    static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so" };
    const char *chosen = getenv("INVAR_NVRTC");
    if (chosen && *chosen) {
        if (use(nvrtc, dlopen(chosen, RTLD_NOW | RTLD_LOCAL))) return INVAR_OK;
        const char *words = dlerror();
        return invar_fail(INVAR_ERROR_ENVIRONMENT, "%s: INVAR_NVRTC: expected a library of NVRTC, 11.2 or newer, got '%.200s': %.200s",
                          operation, chosen, words ? words : "it lacks NVRTC's functions");
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (use(nvrtc, dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD))) return INVAR_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (use(nvrtc, dlopen(names[i], RTLD_NOW | RTLD_LOCAL))) return INVAR_OK;
    /* Where toolkits are unpacked. */
    if (use(nvrtc, dlopen("/usr/local/cuda/lib64/libnvrtc.so", RTLD_NOW | RTLD_LOCAL))) return INVAR_OK;
    return invar_fail(INVAR_ERROR_COMPILE, "%s: expected NVRTC, CUDA's run-time compiler, got none: install the CUDA toolkit or "
                      "the Python package nvidia-cuda-nvrtc, or name its libnvrtc.so in INVAR_NVRTC", operation);
}

invar_status invar_nvrtc_get(const invar_nvrtc **nvrtc, const char *operation) {
    static _Atomic(invar_nvrtc *) the_nvrtc;
    invar_nvrtc *known = atomic_load(&the_nvrtc);
    if (!known) {
        invar_nvrtc *made = calloc(1, sizeof *made);
        if (!made) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
        invar_status status = open_nvrtc(made, operation);
        if (status != INVAR_OK || !atomic_compare_exchange_strong(&the_nvrtc, &known, made)) free(made);
        else known = made;
        if (status != INVAR_OK) return status;
    }
    *nvrtc = known;
    return INVAR_OK;
}

int invar_nvrtc_version(const invar_nvrtc *nvrtc) { return nvrtc->version; }

int invar_nvrtc_newest(const invar_nvrtc *nvrtc) { return nvrtc->architectures[nvrtc->architecture_count - 1]; }

/* ---- compiling ------------------------------------------------------------------------------------ */

static const char machine_code[] = "sm_"; /* how such a target begins */

invar_status invar_nvrtc_target(const invar_nvrtc *nvrtc, int major, int minor, char target[INVAR_NVRTC_TARGET],
                                const char *operation) {
    const int wanted = 10 * major + minor;
    int newest = 0;
    for (int i = 0; i < nvrtc->architecture_count; i++)
        if (nvrtc->architectures[i] <= wanted && nvrtc->architectures[i] > newest) newest = nvrtc->architectures[i];
    if (!newest)
        return invar_fail(INVAR_ERROR_COMPILE, "%s: expected an NVRTC for compute capability %d.%d, got %d.%d, whose oldest is %d.%d",
                          operation, major, minor, nvrtc->version / 1000, nvrtc->version % 1000 / 10,
                          nvrtc->architectures[0] / 10, nvrtc->architectures[0] % 10);
    if (newest == wanted) /* "a": with the instructions of this architecture alone, from 9.0 and CUDA 12 on */
        snprintf(target, INVAR_NVRTC_TARGET, "%s%d%s", machine_code, newest, major >= 9 && nvrtc->version >= 12000 ? "a" : "");
    else
        snprintf(target, INVAR_NVRTC_TARGET, "compute_%d", newest);
    return INVAR_OK;
}

/* Words become options, cut in `words`. */
static int add_options(const char *options[MAX_OPTIONS], int count, char *words) {
    for (char *rest = NULL, *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) options[count++] = word;
    return count;
}

/* What the compiler said, to be freed; NULL where it said nothing. */
static char *take_log(const invar_nvrtc *nvrtc, nvrtc_program program) {
    size_t size = 0;
    if (!program || nvrtc->nvrtcGetProgramLogSize(program, &size) || size <= 1) return NULL;
    char *log = malloc(size);
    if (log && nvrtc->nvrtcGetProgramLog(program, log)) *log = 0;
    return log;
}

/* The log, or the error's own words, into the sentence. */
static invar_status fail(const invar_nvrtc *nvrtc, nvrtc_program program, int result, const char *name, const char *operation) {
    char *log = take_log(nvrtc, program);
    if (result == RESULT_OUT_OF_MEMORY) {
        free(log);
        return invar_fail(INVAR_ERROR_MEMORY, "%s: NVRTC ran out of memory on %s", operation, name);
    }
    invar_status status = invar_fail(INVAR_ERROR_COMPILE, "%s: %s did not compile: %s%s%s", operation, name,
                                     nvrtc->nvrtcGetErrorString(result), log ? "\n" : "", log ? log : "");
    free(log);
    return status;
}

static int take_image(const invar_nvrtc *nvrtc, nvrtc_program program, bool machine, char **image, size_t *size) {
    int result = machine ? nvrtc->nvrtcGetCUBINSize(program, size) : nvrtc->nvrtcGetPTXSize(program, size);
    if (result) return result;
    *image = malloc(*size);
    if (!*image) return RESULT_OUT_OF_MEMORY;
    result = machine ? nvrtc->nvrtcGetCUBIN(program, *image) : nvrtc->nvrtcGetPTX(program, *image);
    if (result) free(*image);
    return result;
}

invar_status invar_nvrtc_compile(const invar_nvrtc *nvrtc, const char *name, const char *text,
                                 const invar_nvrtc_header *headers, int header_count, const char *target,
                                 const char *defines, const char *operation, char **image, size_t *size, char **log) {
    const char *texts[INVAR_NVRTC_HEADERS], *names[INVAR_NVRTC_HEADERS], *options[MAX_OPTIONS];
    char architecture[INVAR_NVRTC_TARGET + 32], words[MAX_WORDS];
    if (log) *log = NULL;
    for (int i = 0; i < header_count; i++) texts[i] = headers[i].text, names[i] = headers[i].name;
    snprintf(architecture, sizeof architecture, "--gpu-architecture=%s", target);
    if (snprintf(words, sizeof words, "%s %s", invar_nvrtc_options, defines) >= (int)sizeof words)
        return invar_fail(INVAR_ERROR_COMPILE, "%s: %s: expected options of at most %zu characters", operation, name,
                          sizeof words - sizeof invar_nvrtc_options - 1);
    options[0] = architecture;
    const int option_count = add_options(options, 1, words);
    nvrtc_program program = NULL;
    int result = nvrtc->nvrtcCreateProgram(&program, text, name, header_count, texts, names);
    if (!result) result = nvrtc->nvrtcCompileProgram(program, option_count, options);
    if (!result) result = take_image(nvrtc, program, !strncmp(target, machine_code, strlen(machine_code)), image, size);
    invar_status status = result ? fail(nvrtc, program, result, name, operation) : INVAR_OK;
    if (log) *log = take_log(nvrtc, program);
    if (program) nvrtc->nvrtcDestroyProgram(&program);
    return status;
}
