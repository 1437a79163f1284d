/* Every kernel of tests/c/kernels is C++17 to each host compiler that is there, in check mode too. */
#define _POSIX_C_SOURCE 200809L /* popen, mkstemp, strtok_r */
#include "kernel_files.h"

#include <unistd.h>

static const char *compiler;

static void compile_on_host(const char *name, const invar_text *text) {
    char path[] = "/tmp/invar-corpus-XXXXXX", command[256], words[2000];
    int descriptor = mkstemp(path);
    if (!CHECK(descriptor >= 0, "no temporary file")) return;
    bool written = write(descriptor, text->data, text->length) == (ssize_t)text->length;
    close(descriptor);
    snprintf(command, sizeof command, "%s -std=c++17 -fsyntax-only -x c++ %s 2>&1", compiler, path);
    FILE *pipe = written ? popen(command, "r") : NULL;
    size_t length = pipe ? fread(words, 1, sizeof words - 1, pipe) : 0;
    words[length] = 0;
    while (pipe && fgetc(pipe) != EOF) { } /* or the compiler would be stopped by a closed pipe */
    CHECK(pipe && !pclose(pipe), "%s refuses %s:\n%s", compiler, name, words);
    unlink(path);
}

static void test_host(const char *name) {
    char command[128];
    snprintf(command, sizeof command, "%s --version > /dev/null 2>&1", name);
    if (system(command)) {
        check_skip("there is no %s here", name);
        return;
    }
    compiler = name;
    for_each_kernel(INVAR_TARGET_CPU, false, compile_on_host);
}
static void test_gcc(void) { test_host("g++"); }
static void test_clang(void) { test_host("clang++"); }

static void test_check_mode(void) {
    if (system("g++ --version > /dev/null 2>&1")) {
        check_skip("there is no g++ here");
        return;
    }
    compiler = "g++";
    for_each_kernel(INVAR_TARGET_CPU, true, compile_on_host);
}

CHECK_MAIN(CHECK_TEST(test_gcc), CHECK_TEST(test_clang), CHECK_TEST(test_check_mode))
