/* The line table: what the compilers of this machine write is read right, and what nobody should write does no harm. */
#define _GNU_SOURCE
#include "check.h"

#include "jit/check_lines.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Functions at known lines of two named texts and of a third. */
static const char program[] = "extern \"C\" int other(int x) { return x + 1; }\n"
                              "#line 40 \"folder/k.header\"\n"
                              "extern \"C\" int in_header(int x) { return x * 3; }\n"
                              "#line 7 \"k.metal\"\n"
                              "extern \"C\" int in_body(int x) { return in_header(x) + 5; }\n"
                              "\n\n"
                              "extern \"C\" int far_down(int x) { return in_body(x) - 2; }\n"
                              "#line 70000 \"k.metal\"\n"
                              "extern \"C\" int very_far(int x) { return in_body(x) - 9; }\n";
static char folder[] = "/tmp/invar-lines-XXXXXX", source[64], object[64];

static bool compile(const char *compiler, const char *flags) {
    char command[512];
    snprintf(command, sizeof command, "%s -x c++ -w -shared -fPIC %s -o %s %s 2>/dev/null", compiler, flags, object, source);
    return system(command) == 0;
}

static void expect_line(const invar_lines *lines, void *handle, const char *name, uint32_t text, uint32_t line) {
    char *function = dlsym(handle, name);
    Dl_info about;
    if (!CHECK(function && dladdr(function, &about), "%s is not there", name)) return;
    invar_line_row row = invar_lines_find(lines, (uint64_t)(function - (char *)about.dli_fbase));
    CHECK(row.text == text && (text == INVAR_TEXT_OTHER || row.line == line), "%s: text %u, line %u; expected %u, %u", name,
          (unsigned)row.text, (unsigned)row.line, text, line);
}

static void expect_lines(void) {
    invar_lines lines;
    void *handle = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    if (!CHECK(handle, "%s", dlerror())) return;
    CHECK(invar_lines_read(&lines, object, "k.metal", "k.header") == 0, "out of memory");
    expect_line(&lines, handle, "other", INVAR_TEXT_OTHER, 0);
    expect_line(&lines, handle, "in_header", INVAR_TEXT_HEADER, 40);
    expect_line(&lines, handle, "in_body", INVAR_TEXT_BODY, 7);
    expect_line(&lines, handle, "far_down", INVAR_TEXT_BODY, 10);
    expect_line(&lines, handle, "very_far", INVAR_TEXT_BODY, 70000);
    CHECK(invar_lines_find(&lines, 0).text == INVAR_TEXT_OTHER, "address 0 has a line");
    CHECK(invar_lines_find(&lines, UINT64_MAX).text == INVAR_TEXT_OTHER, "the last address has a line");
    invar_lines_free(&lines);
    dlclose(handle);
}

static void test_compilers(void) {
    static const char *const compilers[] = { "c++", "g++", "clang++" };
    static const char *const flags[] = { "-g1 -gdwarf-2", "-g1 -gdwarf-3", "-g1 -gdwarf-4", "-O2 -g -gdwarf-4" };
    int compiled = 0;
    for (size_t c = 0; c < sizeof compilers / sizeof compilers[0]; c++)
        for (size_t f = 0; f < sizeof flags / sizeof flags[0]; f++)
            if (compile(compilers[c], flags[f])) {
                compiled++;
                expect_lines();
                unlink(object); /* the loader knows an object by its inode */
            }
    if (!compiled) check_skip("no C++ compiler here");
}

static void test_no_table(void) {
    invar_lines lines;
    CHECK(invar_lines_read(&lines, "/nonexistent", "k.metal", "k.header") == 0 && !lines.count, "a file that is not there");
    CHECK(invar_lines_read(&lines, NULL, "k.metal", NULL) == 0 && !lines.count, "no file");
    CHECK(invar_lines_read(&lines, source, "k.metal", "k.header") == 0 && !lines.count, "a file that is no object");
    if (compile("c++", "-g0"))
        CHECK(invar_lines_read(&lines, object, "k.metal", NULL) == 0 && !lines.count, "%zu rows", lines.count);
}

/* Bytes changed here and there, and files cut short: anything but a fault will do. */
static void test_damage(void) {
    static unsigned char whole[1 << 17], damaged[sizeof whole];
    if (!compile("c++", "-g -gdwarf-4")) {
        check_skip("no C++ compiler here");
        return;
    }
    FILE *file = fopen(object, "rb");
    size_t size = fread(whole, 1, sizeof whole, file);
    fclose(file);
    unsigned char *table = memmem(whole, size, "k.metal", 7);
    if (!CHECK(table, "the object names no k.metal")) return;
    check_random random = { 11 };
    int64_t middle = table - whole, read = 0;
    for (int round = 0; round < 300; round++) {
        memcpy(damaged, whole, size);
        for (int64_t n = check_integer(&random, 1, 20); n > 0; n--) {
            int64_t low = middle > 600 ? middle - 600 : 0, high = middle + 600 < (int64_t)size ? middle + 600 : (int64_t)size - 1;
            int64_t at = n % 3 ? check_integer(&random, low, high) : check_integer(&random, 0, n % 2 ? 63 : (int64_t)size - 1);
            damaged[at] = (unsigned char)check_integer(&random, 0, 255);
        }
        file = fopen(object, "wb");
        fwrite(damaged, 1, round % 10 ? size : (size_t)check_integer(&random, 1, (int64_t)size), file);
        fclose(file);
        invar_lines lines;
        if (invar_lines_read(&lines, object, "k.metal", "k.header") == 0) read++;
        invar_lines_free(&lines);
    }
    CHECK(read == 300, "%d of 300 damaged files were out of memory", 300 - (int)read);
}

static void clean_up(void) {
    unlink(source);
    unlink(object);
    rmdir(folder);
}

int main(int argc, char **argv) {
    const check_test tests[] = { CHECK_TEST(test_compilers), CHECK_TEST(test_no_table), CHECK_TEST(test_damage) };
    if (!mkdtemp(folder)) return 1;
    snprintf(source, sizeof source, "%s/k.cpp", folder);
    snprintf(object, sizeof object, "%s/k.so", folder);
    FILE *file = fopen(source, "w");
    if (!file) return 1;
    fputs(program, file);
    fclose(file);
    int result = check_main(argc, argv, tests, 3);
    clean_up();
    return result;
}
