/* Kernels with a planted defect and their clean twins, in one text: @bad|good@ stands for its left part in the kernel with
 * the defect, and for its right part in the twin. */
#ifndef CHECK_CASE_H
#define CHECK_CASE_H

#define _GNU_SOURCE
#include "check.h"

#include <invar/kernel.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct check_case {
    const char *name;      /* an identifier */
    const char *kind;      /* of the report that must come; NULL: none may, in either form */
    int line, other_line;  /* and its lines; other_line 0: none, or any where a race has both on one line */
    const char *array;     /* NULL: any */
    const char *source, *header;
    uint32_t grid[3], threadgroup[3]; /* zeros are ones */
    const char *file;      /* NULL: <name>.metal or <name>.cu */
    int cuda, atomic_outputs, init, strict, shared_memory;
    int size;              /* elements of out; 0: threads of the grid */
    int integers;          /* a, b and out are int32, not float32 */
    const char *says;      /* NULL, or what the report's sentence must hold */
    int returned;          /* the defect is the store of a structure that a function returns, which g++ has no hook for */
} check_case;

typedef struct heard {
    const check_case *c;
    int reports, right;
    char texts[8192];
} heard;

static inline void listen(void *argument, const invar_kernel_report *report) {
    heard *h = argument;
    const check_case *c = h->c;
    size_t used = strlen(h->texts);
    snprintf(h->texts + used, sizeof h->texts - used, "\n    [%s] %s", report->kind, report->text);
    h->reports++;
    if (!c->kind || strcmp(report->kind, c->kind)) return;
    bool straight = report->line == c->line && (!c->other_line || report->other_line == c->other_line);
    bool turned = c->other_line && report->line == c->other_line && report->other_line == c->line;
    char file[128];
    snprintf(file, sizeof file, "%s.%s", c->name, c->cuda ? "cu" : "metal");
    bool place = (straight || turned) && !strcmp(report->file, c->file ? c->file : file);
    bool names = !c->array || !strcmp(report->array, c->array);
    h->right += place && names && (!c->says || strstr(report->text, c->says)) &&
                strstr(report->text, report->file) == report->text;
}

/* The text with the bad or the good part of each @bad|good@. To be freed. */
static inline char *choose(const char *text, bool bad) {
    char *made = calloc(1, strlen(text) + 1), *to = made;
    while (*text) {
        if (*text != '@') {
            *to++ = *text++;
            continue;
        }
        const char *bar = strchr(text, '|'), *end = strchr(bar, '@');
        const char *from = bad ? text + 1 : bar + 1, *stop = bad ? bar : end;
        memcpy(to, from, (size_t)(stop - from));
        to += stop - from;
        text = end + 1;
    }
    return made;
}

static inline uint32_t at_least_one(uint32_t n) { return n ? n : 1; }

static inline invar_status launch(const check_case *c, bool bad, heard *h) {
    static const char *const inputs[] = { "a", "b" }, *const outputs[] = { "out" };
    invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    char *source = choose(c->source, bad), *header = choose(c->header ? c->header : "", bad);
    description.dialect = c->cuda ? INVAR_DIALECT_CUDA : INVAR_DIALECT_METAL;
    description.name = c->name;
    description.input_names = inputs, description.input_count = 2;
    description.output_names = outputs, description.output_count = 1;
    description.source = source, description.header = header;
    description.atomic_outputs = c->atomic_outputs;
    description.shared_memory = c->shared_memory;
    int64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        threads *= options.grid[i] = at_least_one(c->grid[i]);
        options.threadgroup[i] = at_least_one(c->threadgroup[i]);
    }
    options.check = c->strict ? INVAR_CHECK_STRICT : INVAR_CHECK_ON;
    options.has_init_value = c->init;
    options.report = listen, options.report_argument = h;
    check_array a, b, out;
    check_random random = { 7 };
    invar_dtype dtype = c->integers ? check_i32 : check_f32;
    check_array_init(&a, dtype, CHECK_SHAPE(threads));
    check_array_init(&b, dtype, CHECK_SHAPE(threads));
    check_array_init(&out, dtype, CHECK_SHAPE(c->size ? c->size : threads));
    for (int64_t i = 0; i < threads; i++) {
        check_set(&a.tensor, i, (double)check_integer(&random, 0, 1 << 20));
        check_set(&b.tensor, i, (double)(threads - 1 - i));
    }
    invar_kernel *kernel = NULL;
    invar_status status = invar_kernel_create(&kernel, &description);
    if (status == INVAR_OK)
        status = invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out.tensor }, 1,
                                     (const invar_tensor *[]){ &a.tensor, &b.tensor }, 2, &options);
    invar_kernel_destroy(kernel);
    check_array_free(&a);
    check_array_free(&b);
    check_array_free(&out);
    free(source);
    free(header);
    return status;
}

/* Runs the broken kernel, which must be reported as the case says, and its twin, which must not be. */
static inline void check_case_run(const check_case *c, bool clang) {
    heard clean = { .c = c }, broken = { .c = c };
    invar_status status = launch(c, false, &clean);
    const char *cxx = getenv("INVAR_CXX");
    CHECK(status == INVAR_OK && !clean.reports, "%s (%s): the clean twin: %s%s", c->name, cxx ? cxx : "c++",
          invar_last_error(), clean.texts);
    if (!c->kind || (c->returned && !clang)) return;
    status = launch(c, true, &broken);
    CHECK(status == INVAR_ERROR_KERNEL_CHECK, "%s: the defect: status %s: %s", c->name, invar_status_name(status),
          invar_last_error());
    CHECK(broken.right, "%s (%s): no report of '%s' at lines %d and %d, but:%s", c->name, cxx ? cxx : "c++", c->kind, c->line,
          c->other_line,
          broken.texts);
}

/* All cases with the compiler that is found, which is clang++ where there is one, and half of them with g++, whose hooks
 * differ. A cache of its own. */
static inline void check_cases_run(const check_case *cases, int count) {
    char folder[] = "/tmp/invar-check-XXXXXX";
    const char *only = getenv("CHECK_CASE"), *chosen = getenv("INVAR_CXX"); /* CHECK_CASE: the name of one */
    if (!CHECK(mkdtemp(folder), "no temporary folder")) return;
    setenv("INVAR_CACHE_DIR", folder, 1);
    bool clang = chosen ? strstr(chosen, "clang") != NULL : system("clang++ --version > /dev/null 2>&1") == 0;
    for (int i = 0; i < count; i++)
        if (!only || !strcmp(only, cases[i].name)) check_case_run(&cases[i], clang);
    if (!chosen && !only && system("g++ --version > /dev/null 2>&1") == 0) {
        setenv("INVAR_CXX", "g++", 1);
        for (int i = 0; i < count; i += 2) check_case_run(&cases[i], false);
    }
    if (!chosen) unsetenv("INVAR_CXX");
    CHECK_OK(invar_kernel_cache_clear());
    CHECK(rmdir(folder) == 0, "%s holds more than cached kernels", folder);
}

#endif
