/* Tests of the compiler's discovery, its running, and its log; and of loading what it made. */
#define _GNU_SOURCE
#include "check.h"
#include "jit/compile.h"
#include "jit/load.h"
#include "jit/log.h"
#include "jit/process.h"

#include <invar/kernel.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const invar_compile_options safe = { "baseline", INVAR_MATH_SAFE, false };

static invar_status compile(const char *cxx, const invar_compile_options *options, const char *program, const char *user,
                            char **object, size_t *size) {
    invar_compiler compiler;
    invar_user_text texts[] = { { "k.metal", user }, { "k.header", "int h;\n" } };
    if (cxx) setenv("INVAR_CXX", cxx, 1);
    else unsetenv("INVAR_CXX");
    invar_status status = invar_compiler_find(&compiler, false, "metal_kernel");
    if (status == INVAR_OK)
        status = invar_compile(&compiler, options, program, strlen(program), texts, 2, "metal_kernel", object, size);
    unsetenv("INVAR_CXX");
    return status;
}

/* Those that compile for this process's processor: under an emulator the host's will not do. */
static const char *compiler_named(int i) {
    static const char *const usual[] = { "g++", "clang++" }, *const crossing[] = { "aarch64-linux-gnu-g++", NULL };
    return (getenv("CHECK_EMULATED") ? crossing : usual)[i];
}
enum { COMPILERS = 2 };

static bool has(const char *program) {
    if (!program) return false;
    char path[INVAR_PATH_BYTES];
    if (invar_process_find(program, path)) return true;
    check_skip("no %s here", program);
    return false;
}

static const char adder[] = "extern \"C\" __attribute__((visibility(\"default\"))) int add(int a, int b) { return a + b + N; }\n";

static void compile_and_load(void) {
    for (int c = 0; c < COMPILERS; c++) {
        if (!has(compiler_named(c))) continue;
        for (int n = 1; n < 4; n++) { /* each must be the new object, not one that the loader knows by its name */
            char *object, why[256], program[512];
            size_t size;
            snprintf(program, sizeof program, "enum { N = %d };\n%s", n, adder);
            if (!CHECK_OK(compile(compiler_named(c), &safe, program, "", &object, &size))) continue;
            void *loaded = invar_cache_load(-1, object, size, why, sizeof why);
            CHECK(loaded, "%s", why);
            int (*add)(int, int) = NULL;
            if (loaded) *(void **)&add = dlsym(loaded, "add");
            CHECK(add && add(2, 3) == 5 + n, "%s, %d", compiler_named(c), n);
            free(object);
        }
    }
}

static void load_checks_nothing_into_a_crash(void) {
    char why[256] = "";
    CHECK(!invar_cache_load(-1, "no object", 9, why, sizeof why) && *why, "%s", why);
}

/* On a folder without execution the same bytes come from memory. */
static void load_from_noexec(void) {
    char folder[INVAR_PATH_BYTES], *object;
    size_t size;
    int status = 1;
    if (!has(compiler_named(0)) ||
        !CHECK_OK(compile(compiler_named(0), &safe, "extern \"C\" __attribute__((visibility(\"default\"))) int add() "
                          "{ return 7; }", "", &object, &size)))
        return;
    CHECK(invar_temporary_folder(folder), "%s", strerror(errno));
    pid_t child = fork();
    if (!child) {
        char path[INVAR_FILE_BYTES], why[256];
        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("tmpfs", folder, "tmpfs", MS_NOEXEC, "size=1m,mode=0700"))
            _exit(99);
        snprintf(path, sizeof path, "%s/kernel.so", folder);
        invar_file_write(path, object, size);
        if (dlopen(path, RTLD_NOW)) _exit(98); /* not the case that is to be tested */
        _exit(!invar_cache_load(open(path, O_RDONLY), object, size, why, sizeof why));
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) check_skip("mounting a file system is not allowed here");
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 98)
        check_skip("this system loads programs from folders without execution");
    else CHECK(!status, "status %x", (unsigned)status);
    invar_temporary_folder_remove(folder);
    free(object);
}

/* What each compiler says of an error in the user's text, at the user's line and without the library's. */
static void user_errors(void) {
    static const char user[] = "uint i = 0;\nout[i] = nonsense;\n";
    static const char program[] =
        "namespace invar_shim { struct invar_here { int n; }; template <class T> T simd_sum(invar_here, T);\n"
                                  "template <class T> struct vec { static_assert(sizeof(T) > 99, \"too small\"); T x; };\n"
                                  "namespace user { void k(float *out) {\n"
                                  "#line 1 \"k.metal\"\n"
                                  "unsigned i = 0;\nout[i] = nonsense;\nsimd_sum(invar_here{7}, 1, 2);\n\nvec<float> deep;\n"
                                  "}\n#line 9 \"kernel.cpp\"\n} }\n";
    for (int c = 0; c < COMPILERS; c++) {
        char *object;
        size_t size;
        if (!has(compiler_named(c))) continue;
        CHECK_FAILS(compile(compiler_named(c), &safe, program, user, &object, &size), INVAR_ERROR_COMPILE, "k.metal:2: error: ");
        const char *log = invar_last_error();
        CHECK(!object, "an object from a failed compile");
        CHECK(!strncmp(log, "metal_kernel: k.metal:2: error: ", 32), "%s: %s", compiler_named(c), log);
        CHECK(strstr(log, "nonsense") && strstr(log, "    2 | out[i] = nonsense;\n      |          ^~~~~~~~\n"),
              "%s: %s", compiler_named(c), log);
        CHECK(strstr(log, "k.metal:3: error: no matching function for call to 'simd_sum"), "%s: %s", compiler_named(c), log);
        CHECK(strstr(log, "k.metal:5: error: ") && strstr(log, "too small"), "%s: %s", compiler_named(c), log);
        CHECK(!strstr(log, "kernel.cpp") && !strstr(log, "invar_shim") && !strstr(log, "/tmp"), "%s: %s", compiler_named(c), log);
    }
}

/* The mark below a line stands where the user's word does, not where the program's does; none where that is not known. What
 * the compilers say of markers, of names inside the library and of errors that follow from errors is left out. */
static void marks_and_noise(void) {
    static const char user[] = "float x = b ? half_x : 0;\nx += pow(x) + pow(b);\n\tx = y;\nout[i] = xx * a[i];\n";
    static const char program[] = "shim\n#line 1 \"k.metal\"\nfloat x = invar_choice = b ? invar_arm = half_x : 0;\n"
                                  "x += pow(x) + pow(b);\n\tx = y;\nif (f) out[i] = xx * a[i]; else out[i] = xx * a[i];\n"
                                  "#line 1 \"x\"\n";
    static const char log[] = "k.metal:1:42: error: 'half_x' was not declared in this scope; "
                              "here 'float2' {aka 'invar_two<float>'}\n"
                              "k.metal:1:11: error: nothing like 'invar_choice'\n"
                              "k.metal:2:15: error: no matching function for call to "
                              "'pow(const invar_shim::invar_here_at&, float)'\n"
                              "k.metal:2:15: note:   candidate expects 3 arguments, 2 provided\n"
                              "k.metal:2:15: note:   'float' is not derived from 'invar_narrow<Format>'\n"
                              "k.metal:2:1: error: no matching function for call to 'f(<expression error>)'\n"
                              "invar/vector.h:9:9: error: no type named 'type' in 'struct invar_if_<false, void>'\n"
                              "k.metal:3:6: error: 'y' was not declared\n"
                              "k.metal:4:17: error: 'xx' was not declared\n"
                              "k.metal:4:44: error: 'xx' was not declared; did you mean 'x'?\n"
                              "k.metal:4:1: error: 'group_barrier' was not declared; did you mean 'invar_group_barrier'?\n";
    static const char expected[] = "k.metal:1: error: 'half_x' was not declared in this scope; here 'float2'\n"
                                   "    1 | float x = b ? half_x : 0;\n      |               ^~~~~~\n"
                                   "k.metal:1: error: nothing like 'invar_choice'\n    1 | float x = b ? half_x : 0;\n"
                                   "k.metal:2: error: no matching function for call to 'pow(float)'\n"
                                   "    2 | x += pow(x) + pow(b);\n      |               ^~~\n"
                                   "k.metal:2: note: candidate expects 2 arguments, 1 provided\n"
                                   "    2 | x += pow(x) + pow(b);\n      |               ^~~\n"
                                   "k.metal:3: error: 'y' was not declared\n    3 | \tx = y;\n"
                                   "k.metal:4: error: 'xx' was not declared\n    4 | out[i] = xx * a[i];\n      |          ^~\n"
                                   "k.metal:4: error: 'group_barrier' was not declared\n    4 | out[i] = xx * a[i];";
    const invar_user_text texts[] = { { "k.metal", user } };
    invar_text out = { 0 };
    invar_compiler_log(&out, log, program, texts, 1);
    CHECK(!strcmp(out.data, expected), "%s", out.data);
    invar_text_free(&out);
}

/* NVRTC's, of the same: its lines of source and notes are left out, an error of the library's is told where the user led to it. */
static void nvrtc_logs(void) {
    static const char user[] = "float x = foo(p[0]);\nS s; s += 1;\n", header[] = "int h;\n";
    static const char log[] = "k.cu(1): error: identifier \"foo\" is undefined\n  float x = foo(p[0]);\n            ^\n\n"
                              "k.cu(2): error: no operator \"+=\" matches these operands\n"
                              "            operand types are: invar_shim::user::S += int\n  S s; s += 1;\n         ^\n"
                              "k.cu(2): note #3328-D: built-in operator+= does not match\n  S s; s += 1;\n         ^\n\n"
                              "k.header(1): warning #177-D: variable \"h\" was declared but never referenced\n\n"
                              "invar/cuda_half.h(7): error: no suitable conversion\n  T x;\n    ^\n"
                              "          detected during instantiation of \"T f(T)\" at line 2 of k.cu\n\n"
                              "3 errors detected in the compilation of \"k.cu\".\n";
    static const char expected[] = "k.cu:1: error: identifier \"foo\" is undefined\n    1 | float x = foo(p[0]);\n"
                                   "k.cu:2: error: no operator \"+=\" matches these operands\n    2 | S s; s += 1;\n"
                                   "k.cu:2: error: no suitable conversion\n    2 | S s; s += 1;";
    const invar_user_text texts[] = { { "k.cu", user }, { "k.header", header } };
    invar_text out = { 0 };
    invar_compiler_log(&out, log, NULL, texts, 2);
    CHECK(!strcmp(out.data, expected), "%s", out.data);
    invar_text_free(&out);
}

/* What to write instead of the other dialect's names, in each compiler's words; flags are no advice to a kernel's author. */
static void advice_on_errors(void) {
    static const struct {
        const char *file, *log, *expected;
    } cases[] = {
        { "k.metal", "k.metal:1:5: error: 'blockDim' was not declared in this scope\n",
          "k.metal:1: error: 'blockDim' was not declared in this scope\n      = threads_per_threadgroup is Metal's blockDim" },
        { "k.metal", "k.metal:1:5: error: use of undeclared identifier 'blockDim'\n",
          "k.metal:1: error: use of undeclared identifier 'blockDim'\n      = threads_per_threadgroup is Metal's blockDim" },
        { "k.cu", "k.cu(1): error: identifier \"thread_position_in_threadgroup\" is undefined\n",
          "k.cu:1: error: identifier \"thread_position_in_threadgroup\" is undefined\n"
          "      = threadIdx is CUDA's thread_position_in_threadgroup" },
        { "k.metal", "k.metal:1:5: error: use of undeclared identifier 'T'\nk.metal:2:5: error: unknown type name 'T'\n",
          "k.metal:1: error: use of undeclared identifier 'T'\n      = names of types and constants are given at the call: "
          "template=[(\"T\", dtype), (\"N\", 32)]\nk.metal:2: error: unknown type name 'T'" },
        { "k.cu", "k.cu(1): error: identifier \"HEAD_DIM\" is undefined\n",
          "k.cu:1: error: identifier \"HEAD_DIM\" is undefined\n      = names of types and constants are given at the call: "
          "template=[(\"T\", dtype), (\"N\", 32)]" },
        { "k.metal", "k.metal:1:5: error: cannot convert 'const uint3' {aka 'const invar_shim::vec<unsigned int, 3>'} to 'uint' "
                     "{aka 'unsigned int'} in initialization\n",
          "k.metal:1: error: cannot convert 'const uint3' to 'uint' {aka 'unsigned int'} in initialization\n"
          "      = this position has three numbers: take one, as .x" },
        { "k.cu", "k.cu:1:5: error: 'blockDim' was not declared in this scope\n",
          "k.cu:1: error: 'blockDim' was not declared in this scope" },
        { "k.metal", "k.metal:1:5: error: 'blockDimension' was not declared in this scope\n",
          "k.metal:1: error: 'blockDimension' was not declared in this scope" },
        { "k.metal", "k.metal:1:5: error: invalid types 'const float[int]' for array subscript\n",
          "k.metal:1: error: invalid types 'const float[int]' for array subscript\n"
          "      = an input of rank 0 is a value in Metal: x, not x[0]" },
        { "k.metal", "k.metal:1:5: error: invalid types 'const float* __restrict__[float]' for array subscript\n",
          "k.metal:1: error: invalid types 'const float*[float]' for array subscript\n      = an index is an integer" },
        { "k.metal", "k.metal:1:5: error: no matching function for call to 'invar_shared_array<0, float [n]>()'\n"
                     "k.metal:1:5: error: 'float [n]' is a variably modified type\n"
                     "k.metal:1:5: error:   trying to instantiate 'template<int Number, class T> T& invar_shared_array()'\n",
          "k.metal:1: error: the size of this array is not known when the kernel is compiled\n      = a threadgroup array has a "
          "constant size: a constexpr, or a number of the call's template=[(\"N\", 32)]\n"
          "k.metal:1: error: 'float [n]' is a variably modified type" },
        { "k.cu", "k.cu:1:5: error: member 'half S::d' with constructor not allowed in anonymous aggregate\n",
          "k.cu:1: error: member 'half S::d' with constructor not allowed in anonymous aggregate\n"
          "      = g++ takes no half in an unnamed struct: give the struct a name, or have clang++ compile (INVAR_CXX)" },
        { "k.cu", "k.cu:1:5: error: there are no arguments to 'f' that depend on a template parameter, so a declaration of 'f' "
                  "must be available [-fpermissive]\nk.cu:1:5: note: (if you use '-fpermissive', G++ will accept your code)\n"
                  "k.cu:1:6: error: 'f' was not declared in this scope\n",
          "k.cu:1: error: 'f' was not declared in this scope" },
        { "k.metal", "k.metal:1:5: error: static assertion failed: tile(32): too large\n", /* no place as NVRTC writes it */
          "k.metal:1: error: static assertion failed: tile(32): too large" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const invar_user_text text = { cases[i].file, "" };
        invar_text out = { 0 };
        invar_compiler_log(&out, cases[i].log, NULL, &text, 1);
        CHECK(!strcmp(out.data, cases[i].expected), "%s", out.data);
        invar_text_free(&out);
    }
}

static void undefined_names(void) {
    for (int c = 0; c < COMPILERS; c++) {
        char *object;
        size_t size;
        if (!has(compiler_named(c))) continue;
        CHECK_FAILS(compile(compiler_named(c), &safe, "float helper(float); "
                            "__attribute__((visibility(\"default\"))) float k(float x) "
                            "{ return helper(x) + helper(2 * x); }", "", &object, &size), INVAR_ERROR_COMPILE, "helper(float)");
        const char *once = strstr(invar_last_error(), "helper(float)"); /* which the linker says of each call */
        CHECK(!strstr(once + 1, "helper(float)"), "%s", invar_last_error());
        CHECK(!strstr(invar_last_error(), "kernel.cpp") && !strstr(invar_last_error(), "/tmp"), "%s", invar_last_error());
    }
}

static void missing_compiler(void) {
    char *object, *path = strdup(getenv("PATH") ? getenv("PATH") : "");
    size_t size;
    CHECK_FAILS(compile("/nowhere/c++", &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "INVAR_CXX");
    CHECK_FAILS(compile("/etc/passwd", &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "INVAR_CXX");
    setenv("PATH", "/nowhere", 1);
    CHECK_FAILS(compile(NULL, &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "no C++ compiler");
    unsetenv("PATH");
    CHECK_FAILS(compile(NULL, &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "no C++ compiler");
    setenv("PATH", path, 1);
    free(path);
}

/* A program that is no compiler, or that dies, is an error and not a crash. */
static void broken_compilers(void) {
    char *object;
    size_t size;
    CHECK_FAILS(compile("/bin/true", &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "/bin/true");
    CHECK_FAILS(compile("/bin/false", &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "status 1");
    invar_compiler compiler;
    setenv("INVAR_CXX", "/bin/false", 1);
    CHECK_OK(invar_compiler_find(&compiler, false, "metal_kernel"));
    CHECK_FAILS(invar_compiler_version(&compiler, "metal_kernel"), INVAR_ERROR_COMPILE, "--version");
    unsetenv("INVAR_CXX");
}

/* Of a log beyond what is read, the first errors are told. */
static void long_log(void) {
    static const char script[] = "#!/bin/sh\necho 'k.metal:1:1: error: the first'\n"
                                 "yes 'k.metal:1:1: note: and so on' | head -n 50000\n"
                                 "exit 1\n";
    char folder[INVAR_PATH_BYTES], path[INVAR_FILE_BYTES], *object;
    size_t size;
    CHECK(invar_temporary_folder(folder), "%s", strerror(errno));
    snprintf(path, sizeof path, "%s/talks", folder);
    CHECK(invar_file_write(path, script, strlen(script)) && !chmod(path, 0700), "%s", strerror(errno));
    CHECK_FAILS(compile(path, &safe, adder, "", &object, &size), INVAR_ERROR_COMPILE, "k.metal:1: error: the first");
    invar_temporary_folder_remove(folder);
}

static void words_and_fallback(void) {
    invar_compiler compiler, other;
    if (!has("g++")) return;
    setenv("INVAR_CXX", "  env  LC_ALL=C g++ ", 1);
    CHECK_OK(invar_compiler_find(&compiler, false, "metal_kernel"));
    CHECK(compiler.word_count == 3 && !strcmp(compiler.words[1], "LC_ALL=C") && !strcmp(compiler.words[2], "g++") &&
          !compiler.words[3] && compiler.words[0][0] == '/', "%d words, %s", compiler.word_count, compiler.words[0]);
    CHECK_OK(invar_compiler_version(&compiler, "metal_kernel"));
    CHECK(strstr(compiler.version, "g++"), "%s", compiler.version);
    setenv("INVAR_CXX", "env g++", 1);
    CHECK_OK(invar_compiler_find(&other, false, "metal_kernel"));
    CHECK(strcmp(other.identity, compiler.identity), "two commands of one identity");
    unsetenv("INVAR_CXX");

    char *path = strdup(getenv("PATH"));
    const char *const words[] = { "/usr/bin/env", "g++" };
    CHECK_FAILS(invar_kernel_fallback_compiler(words, -1), INVAR_ERROR_VALUE, "count");
    CHECK_FAILS(invar_kernel_fallback_compiler(NULL, 1), INVAR_ERROR_NULL, "argv");
    CHECK_OK(invar_kernel_fallback_compiler(words, 2));
    setenv("PATH", "/nowhere", 1);
    CHECK_OK(invar_compiler_find(&compiler, false, "metal_kernel"));
    CHECK(compiler.word_count == 2 && !strcmp(compiler.words[0], "/usr/bin/env") && !strcmp(compiler.words[1], "g++"),
          "%s", compiler.words[0]);
    CHECK_OK(invar_kernel_fallback_compiler(NULL, 0));
    CHECK_FAILS(invar_compiler_find(&compiler, false, "metal_kernel"), INVAR_ERROR_COMPILE, "no C++ compiler");
    setenv("PATH", path, 1);
    free(path);
}

/* The caller's process may reap its children itself, or have its signals blocked. */
static void signals_of_the_caller(void) {
    char *object;
    size_t size;
    if (!has(compiler_named(0))) return;
    signal(SIGCHLD, SIG_IGN);
    if (CHECK_OK(compile(compiler_named(0), &safe, "int f() { return 1; }", "", &object, &size))) free(object);
    CHECK_FAILS(compile(compiler_named(0), &safe, "nonsense", "", &object, &size), INVAR_ERROR_COMPILE, "nonsense");
    signal(SIGCHLD, SIG_DFL);
}

static void flags(void) {
    static const char *const cpus[] = { "reference", "baseline", "avx2", "avx512", "avx512bf16", "amx", "neon" };
    static const invar_compiler compiler = { .version = "g++ 12" };
    for (int math = 0; math < 3; math++)
        for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++) {
            const char *flags[INVAR_MAX_FLAGS];
            bool fast_math = false, contract = false, avx2 = false;
            invar_compile_options options = { cpus[i], math, false };
            int count = invar_compile_flags(flags, &compiler, &options);
            CHECK(count < INVAR_MAX_FLAGS && !flags[count], "%d flags", count);
            for (int f = 0; f < count; f++) {
                fast_math |= !strcmp(flags[f], "-ffast-math"); /* links code that flushes denormals */
                contract |= !strcmp(flags[f], "-ffp-contract=off");
                avx2 |= !strcmp(flags[f], "-mavx2");
            }
            CHECK(!fast_math && contract == (math == INVAR_MATH_SAFE), "%s, math mode %d", cpus[i], math);
            CHECK(avx2 == (i >= 2 && i <= 5), "%s", cpus[i]);
        }
}

CHECK_MAIN(CHECK_TEST(compile_and_load), CHECK_TEST(load_checks_nothing_into_a_crash), CHECK_TEST(load_from_noexec),
           CHECK_TEST(user_errors), CHECK_TEST(marks_and_noise), CHECK_TEST(nvrtc_logs), CHECK_TEST(advice_on_errors),
           CHECK_TEST(undefined_names), CHECK_TEST(missing_compiler), CHECK_TEST(broken_compilers), CHECK_TEST(long_log),
           CHECK_TEST(words_and_fallback),
           CHECK_TEST(signals_of_the_caller),
           CHECK_TEST(flags))
