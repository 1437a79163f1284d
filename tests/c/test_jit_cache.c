/* Tests of the cache of compiled kernels: what is an entry and what is not, publication, size, loading; and of SHA-256. */
#define _GNU_SOURCE
#include "check.h"
#include "core/cache.h"
#include "core/sha256.h"
#include "jit/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* 64 digits and an ending, as the library names entries. */
static const char *name_of(int i) {
    static char name[8][80];
    snprintf(name[i], sizeof name[i], "%064d.so", i);
    return name[i];
}

static char base[INVAR_PATH_BYTES], folder[INVAR_FILE_BYTES];

/* An empty folder that INVAR_CACHE_DIR names; it does not exist yet. */
static void begin(void) {
    CHECK(invar_temporary_folder(base), "%s", strerror(errno));
    snprintf(folder, sizeof folder, "%s/some/cache", base);
    setenv("INVAR_CACHE_DIR", folder, 1);
}

static void end(void) {
    char middle[INVAR_FILE_BYTES];
    chmod(folder, 0700);
    snprintf(middle, sizeof middle, "%s/some", base);
    invar_temporary_folder_remove(folder);
    invar_temporary_folder_remove(middle);
    invar_temporary_folder_remove(base);
    unsetenv("INVAR_CACHE_DIR");
}

static int open_entry(const char *name, int flags) {
    char path[INVAR_FILE_BYTES + 100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return open(path, flags);
}

static bool holds(const invar_cache *cache, const char *name, const char *data, size_t size) {
    invar_cache_entry entry;
    bool good = invar_cache_get(cache, name, &entry) && entry.size == size && !memcmp(entry.data, data, size);
    invar_cache_entry_close(&entry);
    return good;
}

static void sha256_vectors(void) {
    static const struct {
        const char *text, *digest;
        int times;
    } vectors[] = { /* FIPS 180-4's examples */
        { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1 },
        { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1 },
        { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1 },
        { "aaaaaaaaaa", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000 },
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        invar_sha256 hash;
        uint8_t digest[INVAR_SHA256_BYTES];
        char text[INVAR_SHA256_HEX];
        invar_sha256_begin(&hash);
        for (int j = 0; j < vectors[i].times; j++) invar_sha256_add(&hash, vectors[i].text, strlen(vectors[i].text));
        invar_sha256_end(&hash, digest);
        invar_sha256_hex(digest, text);
        CHECK(!strcmp(text, vectors[i].digest), "vector %zu: %s", i, text);
    }
}

static void put_and_get(void) {
    invar_cache cache;
    struct stat status;
    begin();
    invar_cache_open(&cache);
    CHECK(cache.folder >= 0 && !strcmp(cache.path, folder) && !*cache.reason, "%s", cache.reason);
    CHECK(!stat(folder, &status) && (status.st_mode & 0777) == 0700, "mode %o", status.st_mode & 0777u);
    CHECK(!holds(&cache, name_of(1), "", 0), "an entry that nobody wrote");
    CHECK(invar_cache_put(&cache, name_of(1), "one", 3), "%s", strerror(errno));
    CHECK(holds(&cache, name_of(1), "one", 3), "not as written");
    CHECK(invar_cache_put(&cache, name_of(1), "another", 7), "%s", strerror(errno));
    CHECK(holds(&cache, name_of(1), "another", 7), "not replaced");
    CHECK(invar_cache_put(&cache, name_of(2), "", 0) && holds(&cache, name_of(2), "", 0), "an empty entry");
    int64_t entries, bytes;
    invar_cache_count(&cache, &entries, &bytes);
    CHECK(entries == 2 && bytes > 7, "%lld entries, %lld bytes", (long long)entries, (long long)bytes);
    invar_cache_close(&cache);
    end();
}

/* Every byte changed and every length cut is a miss, as are a wrong mode, a link, a copy under another name. */
static void bad_entries(void) {
    invar_cache cache;
    char from[INVAR_FILE_BYTES + 100], to[INVAR_FILE_BYTES + 100];
    begin();
    invar_cache_open(&cache);
    for (int at = 0; at < 51; at++) {
        char byte;
        invar_cache_put(&cache, name_of(1), "one", 3);
        int file = open_entry(name_of(1), O_RDWR);
        CHECK(pread(file, &byte, 1, at) == 1, "byte %d", at);
        byte ^= 4;
        CHECK(pwrite(file, &byte, 1, at) == 1 && !close(file), "byte %d", at);
        CHECK(!holds(&cache, name_of(1), "one", 3), "byte %d changed and still an entry", at);
    }
    for (int length = 0; length < 51; length++) {
        invar_cache_put(&cache, name_of(1), "one", 3);
        int file = open_entry(name_of(1), O_RDWR);
        CHECK(!ftruncate(file, length) && !close(file), "length %d", length);
        CHECK(!holds(&cache, name_of(1), "one", 3), "cut to %d and still an entry", length);
    }
    invar_cache_put(&cache, name_of(1), "one", 3);
    snprintf(from, sizeof from, "%s/%s", folder, name_of(1));
    snprintf(to, sizeof to, "%s/%s", folder, name_of(2));
    CHECK(!chmod(from, 0620) && !holds(&cache, name_of(1), "one", 3), "an entry that others can write");
    CHECK(!chmod(from, 0600) && holds(&cache, name_of(1), "one", 3), "the mode alone was wrong");
    CHECK(!symlink(from, to) && !holds(&cache, name_of(2), "one", 3), "an entry behind a link");
    CHECK(!unlink(to) && !link(from, to) && !holds(&cache, name_of(2), "one", 3), "an entry under another name");
    unlink(to);
    CHECK(!mkdir(to, 0700) && !holds(&cache, name_of(2), "", 0), "a folder");
    rmdir(to);
    CHECK(!mkfifo(to, 0600) && !holds(&cache, name_of(2), "", 0), "a pipe, which must not be waited for");
    if (geteuid() == 0) {
        CHECK(!chown(from, 1, 1) && !holds(&cache, name_of(1), "one", 3), "an entry of another user");
        CHECK(invar_cache_put(&cache, name_of(1), "one", 3) && holds(&cache, name_of(1), "one", 3), "not replaced");
    }
    invar_cache_close(&cache);
    end();
}

static void unusable_folders(void) {
    invar_cache cache;
    begin();
    invar_cache_open(&cache);
    invar_cache_close(&cache);
    chmod(folder, 0770);
    invar_cache_open(&cache);
    CHECK(cache.folder < 0 && strstr(cache.reason, "others can write"), "%s", cache.reason);
    CHECK(!invar_cache_put(&cache, name_of(1), "one", 3) && !holds(&cache, name_of(1), "one", 3), "written all the same");
    chmod(folder, 0755);
    invar_cache_open(&cache);
    CHECK(cache.folder >= 0, "%s", cache.reason);
    invar_cache_close(&cache);
    if (geteuid() == 0) {
        CHECK(!chown(folder, 1, 1), "%s", strerror(errno));
        invar_cache_open(&cache);
        CHECK(cache.folder < 0 && strstr(cache.reason, "another user"), "%s", cache.reason);
        CHECK(!chown(folder, 0, 0), "%s", strerror(errno));
    }
    setenv("INVAR_CACHE_DIR", "/dev/null/cache", 1);
    invar_cache_open(&cache);
    CHECK(cache.folder < 0 && strstr(cache.reason, "cannot be opened"), "%s", cache.reason);
    CHECK_FAILS(invar_cache_require(&cache, false, "k"), INVAR_ERROR_ENVIRONMENT, "'/dev/null/cache': it cannot be opened");
    invar_cache_trim(&cache, 0);
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    setenv("INVAR_CACHE_DIR", "", 1);
    setenv("HOME", "/dev/null", 1);
    invar_cache_open(&cache);
    CHECK(cache.folder < 0 && *cache.reason && invar_cache_require(&cache, true, "k") == INVAR_OK, "%s", cache.reason);
    if (home) setenv("HOME", home, 1);
    else unsetenv("HOME");
    free(home);
    end();
}

/* Runs a test in a child over a small file system of its own at `folder`, since root may write to any folder; `run` returns
 * bits for what went wrong. */
static void on_small_disk(int (*run)(void)) {
    int status = 1;
    invar_cache cache;
    begin();
    invar_cache_open(&cache);
    invar_cache_close(&cache);
    pid_t child = fork();
    if (!child) {
        if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("tmpfs", folder, "tmpfs", 0, "size=64k,mode=0700"))
            _exit(99);
        _exit(run());
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) check_skip("mounting a small file system is not allowed here");
    else CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "status %x", (unsigned)status);
    end();
}

static int run_read_only(void) {
    invar_cache cache;
    int wrong = 0;
    invar_cache_open(&cache);
    if (!invar_cache_put(&cache, name_of(1), "one", 3)) wrong |= 1;
    invar_cache_close(&cache);
    if (mount("tmpfs", folder, "tmpfs", MS_REMOUNT | MS_RDONLY, "mode=0700")) return 99;
    invar_cache_open(&cache);
    if (!holds(&cache, name_of(1), "one", 3)) wrong |= 2;
    if (invar_cache_put(&cache, name_of(2), "two", 3)) wrong |= 4;
    if (invar_cache_require(&cache, false, "k") != INVAR_OK) wrong |= 16; /* what it holds can be had */
    if (invar_cache_require(&cache, true, "k") != INVAR_ERROR_ENVIRONMENT) wrong |= 32;
    if (!strstr(invar_last_error(), "Read-only")) wrong |= 64;
    invar_cache_trim(&cache, 0);
    if (!holds(&cache, name_of(1), "one", 3)) wrong |= 8;
    return wrong;
}

static void read_only_folder(void) { on_small_disk(run_read_only); }

static int run_full(void) {
    static char big[1 << 20];
    invar_cache cache;
    int64_t entries, bytes;
    int wrong = 0;
    invar_cache_open(&cache);
    if (invar_cache_put(&cache, name_of(1), big, sizeof big)) wrong |= 1;
    invar_cache_count(&cache, &entries, &bytes);
    if (entries) wrong |= 2;
    if (!invar_cache_put(&cache, name_of(1), big, 32 << 10)) wrong |= 4; /* the temporary file is gone again */
    return wrong;
}

static void full_disk(void) { on_small_disk(run_full); }

static void oldest_first(void) {
    invar_cache cache;
    struct timespec times[2];
    static char kilobyte[1024];
    begin();
    invar_cache_open(&cache);
    for (int i = 0; i < 5; i++) {
        CHECK(invar_cache_put(&cache, name_of(i), kilobyte, sizeof kilobyte), "%s", strerror(errno));
        times[0] = times[1] = (struct timespec){ 1000000 + i, 0 };
        utimensat(cache.folder, name_of(i), times, 0);
    }
    CHECK(holds(&cache, name_of(0), kilobyte, sizeof kilobyte), "the oldest"); /* which makes it the newest */
    CHECK(openat(cache.folder, "README", O_CREAT | O_WRONLY, 0600) >= 0, "%s", strerror(errno));
    int stale = openat(cache.folder, ".tmp-1-2-3", O_CREAT | O_WRONLY, 0600);
    int fresh = openat(cache.folder, ".tmp-4-5-6", O_CREAT | O_WRONLY, 0600);
    futimens(stale, times);
    invar_cache_trim(&cache, 3 * 1100);
    for (int i = 0; i < 5; i++)
        CHECK(holds(&cache, name_of(i), kilobyte, sizeof kilobyte) == (i == 0 || i >= 3), "entry %d", i);
    CHECK(!faccessat(cache.folder, "README", F_OK, 0), "a file that is not ours was removed");
    CHECK(faccessat(cache.folder, ".tmp-1-2-3", F_OK, 0), "a dead writer's file is still there");
    CHECK(!faccessat(cache.folder, ".tmp-4-5-6", F_OK, 0), "a living writer's file was removed");
    close(stale), close(fresh);
    invar_cache_close(&cache);
    end();
}

/* Processes that write one entry while others read it: a reader sees a whole one or none. */
static void concurrent_processes(void) {
    enum { PROCESSES = 6, TURNS = 100, SIZE = 5000 };
    static char data[SIZE];
    begin();
    pid_t children[PROCESSES];
    for (int p = 0; p < PROCESSES; p++)
        if (!(children[p] = fork())) {
            invar_cache cache;
            int bad = 0;
            invar_cache_open(&cache);
            for (int i = 0; i < TURNS; i++) {
                invar_cache_entry entry;
                if (p % 2) {
                    memset(data, p, SIZE);
                    bad += !invar_cache_put(&cache, name_of(1), data, SIZE);
                } else if (invar_cache_get(&cache, name_of(1), &entry)) {
                    for (int j = 1; j < SIZE; j++) bad += entry.data[j] != entry.data[0];
                    invar_cache_entry_close(&entry);
                }
            }
            _exit(bad != 0 || cache.folder < 0);
        }
    for (int p = 0; p < PROCESSES; p++) {
        int status = 1;
        waitpid(children[p], &status, 0);
        CHECK(status == 0, "process %d: %x", p, (unsigned)status);
    }
    invar_cache cache;
    int64_t entries, bytes;
    invar_cache_open(&cache);
    invar_cache_count(&cache, &entries, &bytes);
    CHECK(entries == 1, "%lld entries", (long long)entries);
    invar_cache_close(&cache);
    end();
}

CHECK_MAIN(CHECK_TEST(sha256_vectors), CHECK_TEST(put_and_get), CHECK_TEST(bad_entries), CHECK_TEST(unusable_folders),
           CHECK_TEST(read_only_folder), CHECK_TEST(full_disk), CHECK_TEST(oldest_first),
           CHECK_TEST(concurrent_processes))
