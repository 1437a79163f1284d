/* Loading a compiled kernel: from the descriptor that was checked, or from memory where the folder forbids execution. */
#define _GNU_SOURCE
#include "jit/load.h"

#include "jit/process.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Binary digits as "/." and "/", the lowest first. Returns the length. */
static size_t write_digits(char *name, size_t length, size_t capacity, uint64_t number) {
    for (; number; number >>= 1) length += (size_t)snprintf(name + length, capacity - length, number & 1 ? "/." : "/");
    return length;
}

/* The loader takes a name that it has seen for the object that it has loaded under it, and descriptors are reused: so each
 * load spells /proc/self/fd/7 in its own way, by a counter, and each copy of this library in a process, as the Python package
 * has one of its own, by where it lies. */
static void *load_descriptor(int file) {
    static atomic_uint counter;
    char name[256] = "/proc";
    size_t length = write_digits(name, strlen(name), sizeof name, (uint64_t)(uintptr_t)&counter);
    length += (size_t)snprintf(name + length, sizeof name - length, "/self");
    length = write_digits(name, length, sizeof name, atomic_fetch_add(&counter, 1u));
    snprintf(name + length, sizeof name - length, "/fd/%d", file);
    return dlopen(name, RTLD_NOW | RTLD_LOCAL);
}

int invar_memory_file(const char *data, size_t size) {
#if defined(__linux__)
    enum { EXECUTABLE = 0x10 }; /* MFD_EXEC: kernels from 6.3 may be set to want it, older ones refuse it */
    int file = memfd_create("invar-kernel", MFD_CLOEXEC | EXECUTABLE);
    if (file < 0) file = memfd_create("invar-kernel", MFD_CLOEXEC);
    if (file >= 0 && invar_write_all(file, data, size)) return file;
    if (file >= 0) close(file);
#else
    (void)data, (void)size;
#endif
    return -1;
}

static void *load_memory(const char *data, size_t size) {
    int file = invar_memory_file(data, size);
    void *object = file >= 0 ? load_descriptor(file) : NULL;
    if (file >= 0) close(file);
    return object;
}

/* The last resort: a file in a folder of its own, removed at once. */
static void *load_temporary(const char *data, size_t size) {
    char folder[INVAR_PATH_BYTES], path[INVAR_FILE_BYTES];
    if (!invar_temporary_folder(folder)) return NULL;
    snprintf(path, sizeof path, "%s/kernel.so", folder);
    void *object = invar_file_write(path, data, size) ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    invar_temporary_folder_remove(folder);
    return object;
}

void *invar_cache_load(int file, const char *data, size_t size, char *why, size_t why_size) {
    void *object = file >= 0 ? load_descriptor(file) : NULL;
    if (!object) object = load_memory(data, size);
    if (!object) object = load_temporary(data, size);
    if (!object) {
        const char *words = dlerror();
        snprintf(why, why_size, "%s", words ? words : "no file to load it from can be made");
    }
    return object;
}
