/* What the tests with a pretended GPU share (fake/): each test in a process of its own, since what a process has opened and loaded
 * stays, and with a cache of its own, since its images are none. */
#ifndef FAKE_CASE_H
#define FAKE_CASE_H

#include "check.h"
#include "core/cache.h"
#include "fake/cuda.h"
#include "fake/nvrtc.h"
#include "jit/process.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAM ((void *)0x1234)

/* Whether it is true of a child process, which inherits nothing that this one has opened. */
static inline bool in_child(bool (*test)(void)) {
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        setenv("INVAR_NVRTC", FAKE_NVRTC, 1);
        bool good = test();
        good = CHECK(!fake_cuda.contexts, "%d contexts are still pushed", fake_cuda.contexts) && good;
        good = CHECK(!fake_cuda.allocations, "%d allocations were not freed", fake_cuda.allocations) && good;
        good = CHECK(!fake_nvrtc.programs, "%d programs were not destroyed", fake_nvrtc.programs) && good;
        fflush(stdout);
        _exit(!good);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && !WEXITSTATUS(status);
}
#define IN_CHILD(test) CHECK(in_child(test), "see above")

/* Whatever function of the driver fails in whichever of its first `calls` calls: scratch and context are given back, and the next call
 * of run(call), the test's own, is good. */
static inline bool fails_cleanly(invar_status (*run)(void *call), void *call, int calls) {
    static const char *const functions[] = { "cuMemAllocFromPoolAsync", "cuLaunchKernel", "cuCtxPushCurrent_v2" };
    bool good = true;
    for (int f = 0; f < 3 && good; f++)
        for (int i = 0; i < calls; i++) {
            fake_cuda_fail(functions[f], i, FAKE_OUT_OF_MEMORY);
            const invar_status status = run(call);
            const bool reached = !fake_cuda.failing[0];
            fake_cuda.failing[0] = 0;
            good = CHECK(status == (reached ? INVAR_ERROR_MEMORY : INVAR_OK), "%s, call %d: %s", functions[f], i,
                         invar_status_name(status)) &&
                   CHECK(!fake_cuda.allocations && !fake_cuda.contexts, "%s, call %d", functions[f], i) && good;
        }
    return CHECK_OK(run(call)) && good;
}

static char folder[INVAR_PATH_BYTES];

static inline void with_empty_cache(void (*test)(void)) {
    if (!CHECK(invar_temporary_folder(folder), "no temporary folder")) return;
    setenv("INVAR_CACHE_DIR", folder, 1);
    test();
    unsetenv("INVAR_CACHE_DIR");
    invar_temporary_folder_remove(folder);
}

#endif
