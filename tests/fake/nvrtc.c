/* The compiler that compiles nothing: nvrtc.h says what it is. Its functions are those that src/cuda/nvrtc.c names. */
#include "nvrtc.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fake_nvrtc_state fake_nvrtc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of fake_nvrtc */

typedef struct program {
    char image[1024];
} program;

#define EXPORT(...)                                              \
    __attribute__((visibility("default"))) __VA_ARGS__;          \
    __VA_ARGS__

static const int architectures[] = { 75, 80, 86, 87, 89, 90, 100, 103, 120 };
static const char complaint[] = "k.cu(1): error: the test wants one";

EXPORT(int nvrtcVersion(int *major, int *minor)) {
    *major = 90, *minor = 1; /* a version that no real image in a cache has */
    return 0;
}
EXPORT(const char *nvrtcGetErrorString(int result)) { return result ? "NVRTC_ERROR_COMPILATION" : "NVRTC_SUCCESS"; }
EXPORT(int nvrtcGetNumSupportedArchs(int *count)) {
    *count = sizeof architectures / sizeof *architectures;
    return 0;
}
EXPORT(int nvrtcGetSupportedArchs(int *into)) {
    memcpy(into, architectures, sizeof architectures);
    return 0;
}
EXPORT(int nvrtcCreateProgram(program **made, const char *text, const char *name, int headers, const char *const *texts,
                              const char *const *names)) {
    (void)name;
    for (int i = 0; i < headers; i++)
        if (!texts[i] || !names[i]) return 3; /* NVRTC_ERROR_INVALID_INPUT */
    *made = text ? calloc(1, sizeof **made) : NULL;
    pthread_mutex_lock(&lock);
    fake_nvrtc.programs += *made != NULL;
    pthread_mutex_unlock(&lock);
    return *made ? 0 : 1;
}
EXPORT(int nvrtcDestroyProgram(program **made)) {
    free(*made);
    *made = NULL;
    pthread_mutex_lock(&lock);
    fake_nvrtc.programs--;
    pthread_mutex_unlock(&lock);
    return 0;
}
EXPORT(int nvrtcCompileProgram(program *made, int options, const char *const *texts)) {
    size_t length = 0;
    for (int i = 0; i < options && length < sizeof made->image; i++)
        length += (size_t)snprintf(made->image + length, sizeof made->image - length, "%s ", texts[i]);
    pthread_mutex_lock(&lock);
    const int result = fake_nvrtc.result;
    memcpy(fake_nvrtc.options, made->image, sizeof made->image);
    fake_nvrtc.compiled++;
    fake_nvrtc.result = 0;
    pthread_mutex_unlock(&lock);
    return result;
}
EXPORT(int nvrtcGetProgramLogSize(const program *made, size_t *size)) {
    (void)made;
    *size = sizeof complaint;
    return 0;
}
EXPORT(int nvrtcGetProgramLog(const program *made, char *log)) {
    (void)made;
    memcpy(log, complaint, sizeof complaint);
    return 0;
}
EXPORT(int nvrtcGetCUBINSize(const program *made, size_t *size)) {
    *size = strlen(made->image) + 1;
    return 0;
}
EXPORT(int nvrtcGetCUBIN(const program *made, char *image)) {
    memcpy(image, made->image, strlen(made->image) + 1);
    return 0;
}
EXPORT(int nvrtcGetPTXSize(const program *made, size_t *size)) { return nvrtcGetCUBINSize(made, size); }
EXPORT(int nvrtcGetPTX(const program *made, char *image)) { return nvrtcGetCUBIN(made, image); }
