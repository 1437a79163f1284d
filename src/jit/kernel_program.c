/* A kernel's programs: found by what a launch compiles in, else generated, looked for in the cache, compiled and loaded. */
#define _GNU_SOURCE
#include "core/cache.h"
#include "jit/exec.h"
#include "jit/kernel.h"
#include "jit/load.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- what is loaded in this process ----------------------------------------------------------------- */

/* Only ever grows, and has no lock that a fork could leave held. */
static _Atomic(invar_loaded *) all_loaded;

static const invar_loaded *find_loaded(const char *key) {
    const invar_loaded *found = atomic_load(&all_loaded);
    while (found && strcmp(found->key, key)) found = found->next;
    return found;
}

/* Loads the object, and takes from it what launches need. */
static invar_status load(const char *operation, const char *key, const invar_cache_entry *entry, bool check,
                         const invar_loaded **result) {
    char why[512];
    void *handle = invar_cache_load(entry->file, entry->data, entry->size, why, sizeof why);
    if (!handle) return invar_fail(INVAR_ERROR_SYSTEM, "%s: a compiled kernel could not be loaded: %s", operation, why);
    const invar_module *module = dlsym(handle, "invar_kernel_module");
    if (!module || module->version != INVAR_RUNTIME_VERSION) {
        dlclose(handle);
        return invar_fail(INVAR_ERROR_SYSTEM, "%s: a compiled kernel lacks the entry points of this version", operation);
    }
    invar_loaded *made = calloc(1, sizeof *made);
    if (!made) {
        dlclose(handle);
        return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", operation);
    }
    snprintf(made->key, sizeof made->key, "%s", key);
    made->module = module;
    made->handle = handle;
    made->shared_bytes = invar_exec_shared_bytes(module);
    made->file = check ? invar_memory_file(entry->data, entry->size) : -1;
    made->next = atomic_load(&all_loaded);
    while (!atomic_compare_exchange_weak(&all_loaded, &made->next, made)) continue;
    *result = made;
    return INVAR_OK;
}

/* ---- the compiler ----------------------------------------------------------------------------------- */

/* What compilers have said of themselves in this process. */
typedef struct known_compiler {
    struct known_compiler *next;
    char identity[INVAR_SHA256_HEX], version[INVAR_VERSION_TEXT];
} known_compiler;
static _Atomic(known_compiler *) known_compilers;

static bool recall_version(invar_compiler *compiler) {
    for (const known_compiler *known = atomic_load(&known_compilers); known; known = known->next)
        if (!strcmp(known->identity, compiler->identity)) {
            memcpy(compiler->version, known->version, sizeof known->version);
            return true;
        }
    return false;
}

static void remember_version(const invar_compiler *compiler) {
    known_compiler *known = malloc(sizeof *known);
    if (!known) return; /* asked again next time */
    memcpy(known->identity, compiler->identity, sizeof known->identity);
    memcpy(known->version, compiler->version, sizeof known->version);
    known->next = atomic_load(&known_compilers);
    while (!atomic_compare_exchange_weak(&known_compilers, &known->next, known)) continue;
}

/* The answer is kept in the cache: asking costs some milliseconds, which a known kernel in a new process has not got. */
invar_status invar_kernel_compiler(invar_compiler *compiler, bool check, const char *operation) {
    char name[INVAR_SHA256_HEX + 16];
    invar_cache cache;
    invar_cache_entry entry;
    INVAR_TRY(invar_compiler_find(compiler, check, operation));
    if (recall_version(compiler)) return INVAR_OK;
    snprintf(name, sizeof name, "%s.compiler", compiler->identity);
    invar_cache_open(&cache);
    invar_status status = INVAR_OK;
    if (invar_cache_get(&cache, name, &entry)) {
        snprintf(compiler->version, sizeof compiler->version, "%.*s", (int)entry.size, entry.data);
        invar_cache_entry_close(&entry);
    } else if ((status = invar_compiler_version(compiler, operation)) == INVAR_OK) {
        invar_cache_put(&cache, name, compiler->version, strlen(compiler->version));
    }
    invar_cache_close(&cache);
    if (status == INVAR_OK) remember_version(compiler);
    return status;
}

/* ---- from text to a loaded program -------------------------------------------------------------------- */

/* Everything that the object depends on. */
static void program_key(char key[INVAR_SHA256_HEX], const invar_compiler *compiler, const invar_compile_options *options,
                        const invar_text *program) {
    const char *flags[INVAR_MAX_FLAGS];
    uint8_t digest[INVAR_SHA256_BYTES];
    invar_sha256 hash;
    int count = invar_compile_flags(flags, compiler, options);
    invar_sha256_begin(&hash);
    invar_sha256_add_string(&hash, invar_version());
    invar_sha256_add_string(&hash, compiler->identity);
    invar_sha256_add_string(&hash, compiler->version);
    for (int i = 0; i < count; i++) invar_sha256_add_string(&hash, flags[i]);
    invar_sha256_add_string(&hash, program->data);
    invar_sha256_end(&hash, digest);
    invar_sha256_hex(digest, key);
}

/* From the cache, else compiled and published. */
static invar_status get_object(const invar_kernel *kernel, const invar_compiler *compiler,
                               const invar_compile_options *options, const invar_text *program, const char *name,
                               invar_cache_entry *entry) {
    const invar_user_text texts[] = { { kernel->file, kernel->description.source },
                                      { kernel->header_file, kernel->description.header } };
    invar_cache cache;
    char *object = NULL;
    size_t size = 0;
    invar_cache_open(&cache);
    bool found = invar_cache_get(&cache, name, entry);
    invar_status status = invar_cache_require(&cache, !found, kernel->operation);
    if (found || status != INVAR_OK) {
        invar_cache_close(&cache);
        return status;
    }
    status = invar_compile(compiler, options, program->data, program->length, texts, 2, kernel->operation, &object, &size);
    if (status == INVAR_OK && invar_cache_put(&cache, name, object, size) && invar_cache_get(&cache, name, entry)) {
        invar_cache_trim(&cache, INVAR_CACHE_LIMIT);
        free(object);
    } else {
        *entry = (invar_cache_entry){ -1, object, size };
    }
    invar_cache_close(&cache);
    return status;
}

static invar_status make_program(const invar_kernel *kernel, const invar_place *place, const invar_program_key *key,
                                 invar_text *program, const invar_loaded **loaded) {
    const bool check = place->check;
    invar_compile_options options = { place->context->description.cpu, kernel->description.math_mode, check };
    invar_compiler compiler;
    char hex[INVAR_SHA256_HEX], name[INVAR_SHA256_HEX + 8];
    invar_cache_entry entry = { -1, NULL, 0 };
    INVAR_TRY(invar_generate_shim(kernel->source, key, INVAR_TARGET_CPU, check, program));
    INVAR_TRY(invar_generate_kernel(kernel->source, key, INVAR_TARGET_CPU, check, program));
    if (program->failed || !program->data) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", kernel->operation);
    INVAR_TRY(invar_kernel_compiler(&compiler, check, kernel->operation));
    program_key(hex, &compiler, &options, program);
    *loaded = find_loaded(hex);
    if (*loaded) return INVAR_OK;
    snprintf(name, sizeof name, "%s.so", hex);
    invar_status status = get_object(kernel, &compiler, &options, program, name, &entry);
    if (status == INVAR_OK) status = load(kernel->operation, hex, &entry, check, loaded);
    invar_cache_entry_close(&entry);
    return status;
}

/* ---- the kernel's own table --------------------------------------------------------------------------- */

/* Larger than any key: three bytes an array; kind, value and name of a template argument; instruction set or GPU; switches. */
enum {
    KEY_BYTES = 2 * INVAR_KERNEL_MAX_ARRAYS * 3 + INVAR_KERNEL_MAX_TEMPLATES * (9 + INVAR_KERNEL_MAX_NAME) + 16
};

/* What a launch compiles in, as bytes. */
static size_t launch_key(uint8_t *key, const invar_kernel *kernel, const invar_place *place, const invar_array_key *arrays,
                         const invar_launch_options *options) {
    const void *machine = place->gpu ? (const void *)place->gpu : place->context->kernels; /* one table an instruction set */
    size_t size = 0;
    int32_t count = kernel->description.input_count + kernel->description.output_count;
    for (int32_t i = 0; i < count; i++) {
        key[size++] = arrays[i].dtype.code;
        key[size++] = arrays[i].dtype.bits;
        key[size++] = (uint8_t)arrays[i].ndim;
    }
    key[size++] = (uint8_t)(place->check + 2 * place->crowded);
    memcpy(key + size, &machine, sizeof machine);
    size += sizeof machine;
    for (int32_t i = 0; i < options->template_count; i++) {
        const invar_template_argument *argument = &options->template_arguments[i];
        const invar_dtype dtype = argument->dtype;
        int64_t value = argument->kind != INVAR_TEMPLATE_DTYPE ? argument->value
                                                               : (dtype.lanes * 256 + dtype.code) * 256 + dtype.bits;
        key[size++] = (uint8_t)argument->kind;
        memcpy(key + size, &value, sizeof value);
        size += sizeof value;
        size_t length = strlen(argument->name) + 1;
        memcpy(key + size, argument->name, length);
        size += length;
    }
    return size;
}

static const invar_program *find_program(invar_kernel *kernel, const uint8_t *key, size_t size) {
    for (invar_program *p = atomic_load_explicit(&kernel->programs, memory_order_acquire); p; p = p->next)
        if (p->key_size == size && !memcmp(p->key, key, size)) return p;
    return NULL;
}

static invar_status add_program(invar_kernel *kernel, const invar_program *made, const uint8_t *key, size_t size,
                                const invar_program **result) {
    invar_program *program = malloc(sizeof *program + size);
    if (!program) return invar_fail(INVAR_ERROR_MEMORY, "%s: out of memory", kernel->operation);
    *program = *made;
    program->key_size = size;
    memcpy(program->key, key, size);
    program->next = atomic_load(&kernel->programs);
    atomic_store_explicit(&kernel->programs, program, memory_order_release);
    *result = program;
    return INVAR_OK;
}

/* More than the dialect's devices have is an error before anything runs. */
static invar_status check_shared(const invar_kernel *kernel, const invar_loaded *loaded) {
    bool metal = kernel->description.dialect == INVAR_DIALECT_METAL;
    uint64_t limit = metal ? INVAR_METAL_SHARED : INVAR_CUDA_SHARED;
    uint64_t bytes = loaded->shared_bytes + (uint64_t)kernel->description.shared_memory;
    if (bytes <= limit) return INVAR_OK;
    return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected at most %llu bytes of %s memory, got %llu", kernel->operation,
                      kernel->description.name, (unsigned long long)limit, metal ? "threadgroup" : "shared",
                      (unsigned long long)bytes);
}

/* One thread at a time makes a program. A child that was forked meanwhile has no thread that would give the place back: it takes
 * it from a process that it is not. */
static void lock_programs(invar_kernel *kernel) {
    const int self = (int)getpid();
    for (int maker = 0; !atomic_compare_exchange_strong(&kernel->maker, &maker, self);) {
        if (maker != self) continue;
        nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
        maker = 0;
    }
}

static void unlock_programs(invar_kernel *kernel) { atomic_store(&kernel->maker, 0); }

static invar_status make(const invar_kernel *kernel, const invar_place *place, const invar_program_key *key, invar_program *made) {
    if (place->gpu) return invar_kernel_function(kernel, place, key, &made->function);
    invar_text program = { 0 };
    invar_status status = make_program(kernel, place, key, &program, &made->loaded);
    invar_text_free(&program);
    return status == INVAR_OK ? check_shared(kernel, made->loaded) : status;
}

invar_status invar_kernel_program(invar_kernel *kernel, const invar_place *place, const invar_array_key *arrays,
                                  const invar_launch_options *options, const invar_program **program) {
    uint8_t bytes[KEY_BYTES];
    size_t size = launch_key(bytes, kernel, place, arrays, options);
    *program = find_program(kernel, bytes, size);
    if (*program) return INVAR_OK;
    lock_programs(kernel);
    invar_status status = INVAR_OK;
    *program = find_program(kernel, bytes, size); /* another thread may just have made it */
    if (!*program) {
        invar_program_key key = { arrays, options->template_arguments, options->template_count };
        invar_program made = { 0 };
        status = make(kernel, place, &key, &made);
        if (status == INVAR_OK) status = add_program(kernel, &made, bytes, size, program);
    }
    unlock_programs(kernel);
    return status;
}
