/* Tests of compiled kernels' cache as programs see it: what is told of it, new and concurrent processes, threads. */
#define _GNU_SOURCE
#include "kernel_case.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void cache_information(void) {
    begin();
    invar_kernel_cache_description c = INVAR_KERNEL_CACHE_DESCRIPTION_INIT;
    CHECK_FAILS(invar_kernel_cache_info(NULL), INVAR_ERROR_NULL, "description");
    c.size = 2;
    CHECK_FAILS(invar_kernel_cache_info(&c), INVAR_ERROR_VALUE, "size");
    c.size = sizeof c;
    CHECK_OK(invar_kernel_cache_info(&c));
    CHECK(!strcmp(c.folder, cache) && !*c.reason && !c.entries && !c.bytes && c.limit > 0, "%s, %s", c.folder, c.reason);
    CHECK(*c.compiler == '/' && *c.version, "%s, %s", c.compiler, c.version);
    check_array out;
    check_array_init(&out, check_f32, CHECK_SHAPE(1));
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k", "out[0] = 251125;");
    d.input_count = 0;
    invar_kernel *kernel = create(&d);
    invar_launch_options options = grid_of(1, 1);
    CHECK_OK(invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out.tensor }, 1, NULL, 0, &options));
    CHECK_OK(invar_kernel_cache_info(&c));
    CHECK(c.entries == 1 && c.bytes > 1000, "%lld entries, %lld bytes", (long long)c.entries, (long long)c.bytes);
    CHECK_OK(invar_kernel_cache_clear());
    CHECK_OK(invar_kernel_cache_info(&c));
    CHECK(!c.entries && !c.bytes, "%lld entries, %lld bytes", (long long)c.entries, (long long)c.bytes);
    CHECK_OK(invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out.tensor }, 1, NULL, 0, &options));
    CHECK(check_get(&out.tensor, 0) == 251125, "a loaded kernel stopped running");
    invar_kernel_destroy(kernel);
    check_array_free(&out);
    end();
}

/* Runs one kernel in a new process whose cache and environment are this one's; its exit status tells what happened. */
static int in_a_child(const char *source, invar_status expected) {
    pid_t child = fork();
    if (!child) {
        float value = 0;
        int64_t one = 1;
        invar_tensor out = { &value, { INVAR_DEVICE_CPU, 0 }, 1, { INVAR_FLOAT, 32, 1 }, &one, NULL, 0 };
        invar_kernel_description d = describe(INVAR_DIALECT_METAL, "k", source);
        invar_launch_options options = grid_of(1, 1);
        invar_kernel *kernel;
        d.input_count = 0;
        if (invar_kernel_create(&kernel, &d)) _exit(1);
        invar_status status = invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out }, 1, NULL, 0, &options);
        if (status != expected) fprintf(stderr, "%s\n", invar_last_error());
        _exit(status != expected ? 2 : status == INVAR_OK && value != 42 ? 3 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

/* A compiler that notes each of its runs in a file of the cache folder. */
static void write_counting_compiler(char path[INVAR_FILE_BYTES]) {
    char text[2 * INVAR_FILE_BYTES];
    const char *cxx = getenv("INVAR_CXX");
    snprintf(path, INVAR_FILE_BYTES, "%s/counting", cache);
    snprintf(text, sizeof text, "#!/bin/sh\necho run >> '%s/runs'\nexec %s \"$@\"\n", cache, cxx ? cxx : "c++");
    CHECK(invar_file_write(path, text, strlen(text)) && !chmod(path, 0700), "%s", strerror(errno));
}

static int compiler_runs(void) {
    char path[INVAR_FILE_BYTES];
    size_t size = 0;
    snprintf(path, sizeof path, "%s/runs", cache);
    free(invar_file_read(path, 1 << 20, &size));
    return (int)(size / strlen("run\n"));
}

/* A new process takes a known kernel from the folder and starts no compiler; a damaged entry is compiled again. */
static void new_processes(void) {
    begin();
    static const char source[] = "out[thread_position_in_grid.x] = 42;";
    char compiler[INVAR_FILE_BYTES], path[INVAR_FILE_BYTES + 300], name[300] = "";
    char *before = getenv("INVAR_CXX") ? strdup(getenv("INVAR_CXX")) : NULL;
    write_counting_compiler(compiler);
    setenv("INVAR_CXX", compiler, 1);
    CHECK(in_a_child(source, INVAR_OK) == 0 && count_files(".so") == 1, "%d programs", count_files(".so"));
    CHECK(compiler_runs() == 2, "%d runs of the compiler: one for its version, one for the kernel", compiler_runs());
    CHECK(in_a_child(source, INVAR_OK) == 0 && compiler_runs() == 2, "%d runs for a known kernel", compiler_runs());
    DIR *folder = opendir(cache);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strstr(entry->d_name, ".so")) snprintf(name, sizeof name, "%s", entry->d_name);
    if (folder) closedir(folder);
    snprintf(path, sizeof path, "%s/%s", cache, name);
    CHECK(!truncate(path, 4096), "%s", strerror(errno));
    CHECK(in_a_child(source, INVAR_OK) == 0 && compiler_runs() == 3, "%d runs after a truncated entry", compiler_runs());
    CHECK(in_a_child(source, INVAR_OK) == 0 && compiler_runs() == 3, "%d runs after it was replaced", compiler_runs());
    setenv("INVAR_CXX", "/nowhere/c++", 1);
    CHECK(in_a_child(source, INVAR_ERROR_COMPILE) == 0, "a compiler that is missing");
    setenv("INVAR_CXX", compiler, 1);
    setenv("INVAR_CACHE_DIR", "/dev/null/cache", 1);
    CHECK(in_a_child(source, INVAR_ERROR_ENVIRONMENT) == 0, "a chosen folder that cannot be made");
    CHECK_FAILS(invar_kernel_cache_clear(), INVAR_ERROR_ENVIRONMENT, "INVAR_CACHE_DIR");
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    unsetenv("INVAR_CACHE_DIR");
    setenv("HOME", "/dev/null", 1);
    CHECK(in_a_child(source, INVAR_OK) == 0, "without the usual folder kernels are kept in memory");
    CHECK_OK(invar_kernel_cache_clear());
    if (home) setenv("HOME", home, 1);
    else unsetenv("HOME");
    free(home);
    if (before) setenv("INVAR_CXX", before, 1);
    else unsetenv("INVAR_CXX");
    free(before);
    end();
}

static void concurrent_processes(void) {
    begin();
    enum { PROCESSES = 4 };
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++)
        if (!(children[i] = fork())) _exit(in_a_child("uint i = thread_position_in_grid.x;\nout[i] = 42;", INVAR_OK));
    for (int i = 0; i < PROCESSES; i++) {
        int status = 1;
        waitpid(children[i], &status, 0);
        CHECK(status == 0, "process %d: %x", i, (unsigned)status);
    }
    CHECK(count_files(".so") == 1 && count_files(".tmp") == 0, "%d programs, %d temporary files", count_files(".so"),
          count_files(".tmp"));
    end();
}

typedef struct launcher {
    invar_kernel *kernel;
    int64_t n;
    bool good;
} launcher;

static void *launch_many(void *argument) {
    launcher *l = argument;
    float a[64], out[64];
    invar_tensor ta = { a, { INVAR_DEVICE_CPU, 0 }, 1, { INVAR_FLOAT, 32, 1 }, &l->n, NULL, 0 }, to = ta;
    to.data = out;
    invar_launch_options options = grid_of(l->n, 32);
    l->good = true;
    for (int turn = 0; turn < 200; turn++) {
        for (int i = 0; i < l->n; i++) a[i] = (float)(i + turn), out[i] = -1;
        l->good &= launch(l->kernel, &to, &ta, &ta, &options) == INVAR_OK;
        for (int i = 0; i < l->n; i++) l->good &= out[i] == a[i] * a[i];
    }
    return NULL;
}

/* Threads that launch one new kernel at once compile it once. */
static void concurrent_threads(void) {
    begin();
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    launcher launchers[THREADS];
    invar_kernel_description d = describe(INVAR_DIALECT_METAL, "threads", multiply);
    invar_kernel *kernel = create(&d);
    for (int i = 0; i < THREADS; i++) {
        launchers[i] = (launcher){ kernel, 64 - i, false };
        pthread_create(&threads[i], NULL, launch_many, &launchers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(launchers[i].good, "thread %d", i);
    }
    CHECK(count_files(".so") == 1, "%d programs", count_files(".so"));
    invar_kernel_destroy(kernel);
    end();
}

CHECK_MAIN(CHECK_TEST(cache_information), CHECK_TEST(new_processes), CHECK_TEST(concurrent_processes),
           CHECK_TEST(concurrent_threads))
