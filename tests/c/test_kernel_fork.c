/* A process that forks while another thread makes a program of a kernel: the child launches the same kernel, and is not kept
 * waiting for a thread that it does not have. */
#define _GNU_SOURCE
#include "check.h"
#include "jit/process.h"

#include <invar/kernel.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[INVAR_PATH_BYTES], slow[INVAR_FILE_BYTES], started[INVAR_FILE_BYTES];

static invar_status launch(invar_kernel *kernel, invar_dtype dtype, void *data) {
    int64_t one = 1;
    invar_tensor out = { data, { INVAR_DEVICE_CPU, 0 }, 1, dtype, &one, NULL, 0 };
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    return invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out }, 1, NULL, 0, &options);
}

static void *compile_slowly(void *kernel) {
    float value = 0;
    CHECK_OK(launch(kernel, check_f32, &value));
    CHECK(value == 5, "%g", (double)value);
    return NULL;
}

/* A compiler that says when it has begun, and then takes its time. */
static void write_slow_compiler(void) {
    char text[3 * INVAR_FILE_BYTES];
    const char *cxx = getenv("CHECK_EMULATED") ? "aarch64-linux-gnu-g++" : "c++";
    snprintf(slow, sizeof slow, "%s/slow", folder);
    snprintf(started, sizeof started, "%s/started", folder);
    snprintf(text, sizeof text, "#!/bin/sh\ncase \"$1\" in --version) ;; *) touch '%s'; sleep 1 ;; esac\n"
             "exec %s \"$@\"\n", started, cxx);
    CHECK(invar_file_write(slow, text, strlen(text)) && !chmod(slow, 0700), "%s", strerror(errno));
}

static void fork_during_a_compile(void) {
    static const char *const outputs[] = { "out" };
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    pthread_t thread;
    CHECK(invar_temporary_folder(folder), "%s", strerror(errno));
    write_slow_compiler();
    setenv("INVAR_CACHE_DIR", folder, 1);
    setenv("INVAR_CXX", slow, 1);
    d.dialect = INVAR_DIALECT_METAL, d.name = "k", d.output_names = outputs, d.output_count = 1;
    d.source = "out[thread_position_in_grid.x] = 5;";
    if (!CHECK_OK(invar_kernel_create(&kernel, &d))) return;
    pthread_create(&thread, NULL, compile_slowly, kernel);
    for (int i = 0; i < 3000 && access(started, F_OK); i++) usleep(10000);
    CHECK(!access(started, F_OK), "the compiler did not start");
    pid_t child = fork();
    if (!child) {
        int32_t value = 0;
        alarm(60); /* a child that waits for ever is killed */
        _exit(launch(kernel, check_i32, &value) != INVAR_OK || value != 5);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0, "the child ended with %x", (unsigned)status);
    pthread_join(thread, NULL);
    invar_kernel_destroy(kernel);
    unsetenv("INVAR_CXX"), unsetenv("INVAR_CACHE_DIR");
    invar_temporary_folder_remove(folder);
}

static atomic_bool over;

/* Asks for a program of a type that Metal has not, over and over: it is refused as soon as it is this thread's turn. */
static void *ask_again(void *kernel) {
    double value = 0;
    while (!atomic_load(&over)) launch(kernel, check_f64, &value);
    return NULL;
}

/* At whatever instruction of the other thread's. */
static void fork_at_any_time(void) {
    enum { FORKS = 400 };
    static const char *const outputs[] = { "out" };
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_kernel *kernel = NULL;
    pthread_t thread;
    int status = 0;
    d.dialect = INVAR_DIALECT_METAL, d.name = "k", d.output_names = outputs, d.output_count = 1, d.source = "";
    if (!CHECK_OK(invar_kernel_create(&kernel, &d))) return;
    pthread_create(&thread, NULL, ask_again, kernel);
    for (int i = 0; i < FORKS && !status; i++) {
        double value = 0;
        pid_t child = fork();
        if (!child) {
            alarm(20);
            _exit(launch(kernel, check_f64, &value) != INVAR_ERROR_DTYPE);
        }
        waitpid(child, &status, 0);
        CHECK(status == 0, "child %d ended with %x", i, (unsigned)status);
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    invar_kernel_destroy(kernel);
}

CHECK_MAIN(CHECK_TEST(fork_during_a_compile), CHECK_TEST(fork_at_any_time))
