/* Reading of tests/c/kernels: kernels in the style of published ones. A kernel's file begins with a line that describes its
 * arrays,
 *     // in: x float32 2, eps float32 0 / out: y float32 2 / template: N=4, T=float16, B=true / atomic
 * (name, element type, rank), then comes its header, the line `// body`, and its body. */
#ifndef KERNEL_FILES_H
#define KERNEL_FILES_H

#include "check.h"

#include "jit/generate.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_KERNELS = 256, MOST_ARRAYS = 16 };

typedef struct kernel_file {
    char name[64];
    char *text; /* what the other members point into */
    const char *inputs[MOST_ARRAYS], *outputs[MOST_ARRAYS];
    invar_array_key arrays[MOST_ARRAYS];
    invar_template_argument arguments[MOST_ARRAYS];
    invar_program_key key;
    invar_kernel_description description;
} kernel_file;

/* ---- reading ---- */

static const struct {
    const char *name;
    invar_dtype dtype;
} TYPES[] = {
    { "float32", { INVAR_FLOAT, 32, 1 } }, { "float16", { INVAR_FLOAT, 16, 1 } }, { "bfloat16", { INVAR_BFLOAT, 16, 1 } },
    { "float64", { INVAR_FLOAT, 64, 1 } }, { "int8", { INVAR_INT, 8, 1 } },       { "int16", { INVAR_INT, 16, 1 } },
    { "int32", { INVAR_INT, 32, 1 } },     { "int64", { INVAR_INT, 64, 1 } },     { "uint8", { INVAR_UINT, 8, 1 } },
    { "uint16", { INVAR_UINT, 16, 1 } },   { "uint32", { INVAR_UINT, 32, 1 } },   { "uint64", { INVAR_UINT, 64, 1 } },
    { "bool", { INVAR_BOOL, 8, 1 } },      { "complex64", { INVAR_COMPLEX, 64, 1 } },
};

static bool read_type(const char *name, invar_dtype *dtype) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (!strcmp(TYPES[i].name, name)) return *dtype = TYPES[i].dtype, true;
    return false;
}

static char *trim(char *words) {
    words += strspn(words, " ");
    words[strcspn(words, " ")] = 0;
    return words;
}

/* "x float32 2" */
static const char *read_array(char *words, invar_array_key *array) {
    char *rest, *name = strtok_r(words, " ", &rest), *type = strtok_r(NULL, " ", &rest), *rank = strtok_r(NULL, " ", &rest);
    if (!CHECK(name && type && rank && read_type(type, &array->dtype), "bad array")) return "bad";
    array->ndim = atoi(rank);
    return name;
}

/* "N=4" */
static void read_argument(char *words, invar_template_argument *argument) {
    char *value = strchr(words, '=');
    if (!CHECK(value, "bad template argument %s", words)) return;
    *value++ = 0;
    argument->name = words;
    argument->value = !strcmp(value, "true") ? 1 : atoi(value);
    argument->kind = read_type(value, &argument->dtype) ? INVAR_TEMPLATE_DTYPE :
                     !strcmp(value, "true") || !strcmp(value, "false") ? INVAR_TEMPLATE_BOOL : INVAR_TEMPLATE_INT;
}

static void read_field(kernel_file *kernel, char *field) {
    invar_kernel_description *d = &kernel->description;
    char *rest, *colon = strchr(field, ':');
    field += strspn(field, " ");
    if (!strncmp(field, "atomic", 6)) d->atomic_outputs = 1;
    if (!colon) return;
    for (char *item = strtok_r(colon + 1, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        invar_array_key *array = &kernel->arrays[d->input_count + d->output_count];
        if (!strncmp(field, "in:", 3)) kernel->inputs[d->input_count] = read_array(item, array), d->input_count++;
        else if (!strncmp(field, "out:", 4)) kernel->outputs[d->output_count] = read_array(item, array), d->output_count++;
        else read_argument(trim(item), &kernel->arguments[kernel->key.template_count++]);
    }
}

static char *read_whole(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status)) return file ? fclose(file), NULL : NULL;
    char *text = calloc(1, (size_t)status.st_size + 1);
    size_t size = text ? fread(text, 1, (size_t)status.st_size, file) : 0;
    fclose(file);
    return size == (size_t)status.st_size ? text : (free(text), NULL);
}

static bool read_kernel(kernel_file *kernel, const char *path, const char *name) {
    static const char body_line[] = "// body\n";
    memset(kernel, 0, sizeof *kernel);
    kernel->text = read_whole(path);
    char *rest, *end = kernel->text ? strchr(kernel->text, '\n') : NULL;
    if (!CHECK(end, "%s cannot be read", path)) return false;
    *end = 0;
    char *header = end + 1, *body = strstr(header, body_line);
    if (!CHECK(body, "%s has no body", path)) return false;
    *body = 0;
    bool metal = strstr(name, ".metal") != NULL;
    snprintf(kernel->name, sizeof kernel->name, "%.*s", (int)(strchr(name, '.') - name), name);
    kernel->description = (invar_kernel_description)INVAR_KERNEL_DESCRIPTION_INIT;
    for (char *field = strtok_r(kernel->text + 3, "/", &rest); field; field = strtok_r(NULL, "/", &rest))
        read_field(kernel, field);
    kernel->description.dialect = metal ? INVAR_DIALECT_METAL : INVAR_DIALECT_CUDA;
    kernel->description.name = kernel->name;
    kernel->description.input_names = kernel->inputs, kernel->description.output_names = kernel->outputs;
    kernel->description.header = header, kernel->description.source = body + sizeof body_line - 1;
    kernel->key.arrays = kernel->arrays, kernel->key.template_arguments = kernel->arguments;
    return true;
}

/* Calls `run` with the text of every kernel, for the target and check mode. */
static void for_each_kernel(int target, bool check, void (*run)(const char *name, const invar_text *text)) {
    static const char folder[] = CHECK_FOLDER "/kernels";
    char path[sizeof folder + 300];
    int count = 0;
    DIR *directory = opendir(folder);
    if (!CHECK(directory, "no folder %s", folder)) return;
    for (struct dirent *entry; (entry = readdir(directory)) && count < MOST_KERNELS;) {
        kernel_file kernel;
        invar_source *source;
        invar_text text = { 0 };
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (read_kernel(&kernel, path, entry->d_name) && CHECK_OK(invar_source_read(&source, &kernel.description))) {
            CHECK_OK(invar_generate_shim(source, &kernel.key, target, check, &text));
            CHECK_OK(invar_generate_kernel(source, &kernel.key, target, check, &text));
            invar_source_free(source);
            run(entry->d_name, &text);
            count++;
        }
        invar_text_free(&text);
        free(kernel.text);
    }
    closedir(directory);
    CHECK(count >= 40, "expected at least 40 kernels, found %d", count);
}

#endif
