/* The folder of compiled kernels: finding it, reading and publishing entries, keeping it small.
 *
 * No locks: two processes that compile one kernel at once both publish it, and the later rename wins. A process that dies
 * leaves at most a temporary file, which a later one removes. */
#define _GNU_SOURCE
#include "core/cache.h"

#include "core/sha256.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char temporary_prefix[] = ".tmp-";
enum { TEMPORARY_SECONDS = 3600, MAX_ENTRY = 256 << 20 };

/* Behind an entry's bytes; loaders of shared objects do not look there. */
typedef struct trailer {
    char magic[8];
    uint64_t size; /* of the bytes before it */
    uint8_t digest[INVAR_SHA256_BYTES];
} trailer;

static const char magic[8] = "invar-1";

/* ---- the folder ---------------------------------------------------------------------------------- */

static bool folder_path(char path[INVAR_PATH_BYTES], const char *chosen) {
    const char *home = getenv("HOME");
    struct passwd entry, *found = NULL;
    char buffer[4096];
    if (chosen) return snprintf(path, INVAR_PATH_BYTES, "%s", chosen) < INVAR_PATH_BYTES;
    if (!home || *home != '/') {
        if (getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &found) || !found || *found->pw_dir != '/') return false;
        home = found->pw_dir;
    }
    return snprintf(path, INVAR_PATH_BYTES, "%s/.cache/invar", home) < INVAR_PATH_BYTES;
}

/* The first error, that of the folder which stands in the way of the rest; 0: all are there. */
static int make_folders(const char *path) {
    char part[INVAR_PATH_BYTES];
    int error = 0;
    for (const char *slash = strchr(path + 1, '/'); slash && !error; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = 0;
        if (mkdir(part, 0700) && errno != EEXIST) error = errno;
    }
    if (!error && mkdir(path, 0700) && errno != EEXIST) error = errno;
    return error;
}

static void refuse(invar_cache *cache, const char *why, const char *detail) {
    if (cache->folder >= 0) close(cache->folder);
    cache->folder = -1;
    snprintf(cache->reason, sizeof cache->reason, "%s%s", why, detail);
}

void invar_cache_open(invar_cache *cache) {
    const char *chosen = getenv("INVAR_CACHE_DIR");
    struct stat status;
    int error = 0;
    cache->folder = -1;
    cache->path[0] = cache->reason[0] = 0;
    cache->chosen = chosen && *chosen;
    if (!folder_path(cache->path, cache->chosen ? chosen : NULL)) {
        cache->path[0] = 0;
        refuse(cache, cache->chosen ? "its path is too long" : "there is no home folder, or its path is too long", "");
        return;
    }
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    cache->folder = open(cache->path, flags);
    if (cache->folder < 0 && errno == ENOENT && !(error = make_folders(cache->path)))
        cache->folder = open(cache->path, flags);
    if (error) refuse(cache, "it cannot be made: ", strerror(error));
    else if (cache->folder < 0) refuse(cache, "it cannot be opened: ", strerror(errno));
    else if (fstat(cache->folder, &status)) refuse(cache, "it cannot be examined: ", strerror(errno));
    else if (status.st_uid != geteuid()) refuse(cache, "it belongs to another user", "");
    else if (status.st_mode & (S_IWGRP | S_IWOTH)) refuse(cache, "others can write to it", "");
}

void invar_cache_close(invar_cache *cache) {
    if (cache->folder >= 0) close(cache->folder);
    cache->folder = -1;
}

invar_status invar_cache_require(const invar_cache *cache, bool write, const char *operation) {
    const char *why = cache->reason;
    if (!cache->chosen) return INVAR_OK;
    if (cache->folder >= 0) {
        if (!write || !faccessat(cache->folder, ".", W_OK | X_OK, AT_EACCESS)) return INVAR_OK;
        why = strerror(errno);
    }
    return invar_fail(INVAR_ERROR_ENVIRONMENT, "%s: INVAR_CACHE_DIR: expected a folder, or the path of a new one, that this user "
                      "can write and nobody else, got '%.200s': %s", operation, getenv("INVAR_CACHE_DIR"), why);
}

/* ---- entries ------------------------------------------------------------------------------------- */

/* The name is hashed too, so that an entry copied under another name is no entry. */
static void entry_digest(const char *name, const char *data, size_t size, uint8_t digest[INVAR_SHA256_BYTES]) {
    invar_sha256 hash;
    invar_sha256_begin(&hash);
    invar_sha256_add_string(&hash, name);
    invar_sha256_add(&hash, data, size);
    invar_sha256_end(&hash, digest);
}

static bool read_all(int file, char *data, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t part = pread(file, data + done, size - done, (off_t)done);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return false;
        done += (size_t)part;
    }
    return true;
}

bool invar_write_all(int file, const void *data, size_t size) {
    for (const char *p = data; size;) {
        ssize_t part = write(file, p, size);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) return false;
        p += part, size -= (size_t)part;
    }
    return true;
}

bool invar_cache_get(const invar_cache *cache, const char *name, invar_cache_entry *entry) {
    struct stat status;
    trailer end;
    uint8_t digest[INVAR_SHA256_BYTES];
    *entry = (invar_cache_entry){ -1, NULL, 0 };
    if (cache->folder < 0) return false;
    entry->file = openat(cache->folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (entry->file < 0) return false;
    if (fstat(entry->file, &status) || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & (S_IWGRP | S_IWOTH)) || status.st_size < (off_t)sizeof end || status.st_size > MAX_ENTRY)
        goto miss;
    entry->data = malloc((size_t)status.st_size);
    if (!entry->data || !read_all(entry->file, entry->data, (size_t)status.st_size)) goto miss;
    entry->size = (size_t)status.st_size - sizeof end;
    memcpy(&end, entry->data + entry->size, sizeof end);
    if (memcmp(end.magic, magic, sizeof magic) || end.size != entry->size) goto miss;
    entry_digest(name, entry->data, entry->size, digest);
    if (memcmp(digest, end.digest, sizeof digest)) goto miss;
    futimens(entry->file, NULL); /* in use, so not the oldest */
    return true;
miss:
    invar_cache_entry_close(entry);
    return false;
}

void invar_cache_entry_close(invar_cache_entry *entry) {
    if (entry->file >= 0) close(entry->file);
    free(entry->data);
    *entry = (invar_cache_entry){ -1, NULL, 0 };
}

bool invar_cache_put(const invar_cache *cache, const char *name, const char *data, size_t size) {
    static atomic_uint counter;
    char temporary[128];
    struct timespec now;
    trailer end = { .size = size };
    if (cache->folder < 0 || size > MAX_ENTRY - sizeof end) return false;
    memcpy(end.magic, magic, sizeof magic);
    entry_digest(name, data, size, end.digest);
    clock_gettime(CLOCK_REALTIME, &now); /* hosts that share the folder may share process numbers */
    snprintf(temporary, sizeof temporary, "%s%ld-%u-%lld-%ld", temporary_prefix, (long)getpid(),
             atomic_fetch_add(&counter, 1u), (long long)now.tv_sec, now.tv_nsec);
    int file = openat(cache->folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return false;
    bool good = invar_write_all(file, data, size) && invar_write_all(file, &end, sizeof end) && !fsync(file);
    good = !close(file) && good;
    good = good && !renameat(cache->folder, temporary, cache->folder, name);
    if (!good) unlinkat(cache->folder, temporary, 0);
    else fsync(cache->folder);
    return good;
}

/* ---- its size ------------------------------------------------------------------------------------ */

typedef struct listed {
    char name[128];
    int64_t bytes, seconds, nanoseconds;
} listed;

static int by_age(const void *a, const void *b) {
    const listed *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? -1 : 1;
    if (x->nanoseconds != y->nanoseconds) return x->nanoseconds < y->nanoseconds ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The entries, oldest first, to be freed. Temporary files that no living writer can own any more are removed. */
static listed *list_entries(const invar_cache *cache, size_t *count) {
    size_t capacity = 0;
    listed *list = NULL;
    *count = 0;
    int copy = cache->folder < 0 ? -1 : openat(cache->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder && copy >= 0) close(copy);
    for (struct dirent *found; folder && (found = readdir(folder));) {
        struct stat status;
        size_t length = strlen(found->d_name);
        if (length >= sizeof list->name || fstatat(dirfd(folder), found->d_name, &status, AT_SYMLINK_NOFOLLOW) ||
            !S_ISREG(status.st_mode))
            continue;
        if (found->d_name[0] == '.') {
            bool ours = !strncmp(found->d_name, temporary_prefix, sizeof temporary_prefix - 1);
            if (ours && status.st_mtim.tv_sec + TEMPORARY_SECONDS < time(NULL)) unlinkat(dirfd(folder), found->d_name, 0);
            continue;
        }
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 64;
            listed *more = realloc(list, capacity * sizeof *list);
            if (!more) break;
            list = more;
        }
        listed *entry = &list[(*count)++];
        memcpy(entry->name, found->d_name, length + 1);
        entry->bytes = status.st_size;
        entry->seconds = status.st_mtim.tv_sec;
        entry->nanoseconds = status.st_mtim.tv_nsec;
    }
    if (folder) closedir(folder);
    if (list) qsort(list, *count, sizeof *list, by_age);
    return list;
}

/* What the library writes: 64 digits of SHA-256 and an ending. Nothing else in the folder is counted or removed. */
static bool is_entry(const char *name) {
    return strspn(name, "0123456789abcdef") == INVAR_SHA256_HEX - 1 && name[INVAR_SHA256_HEX - 1] == '.';
}

void invar_cache_trim(const invar_cache *cache, int64_t limit) {
    size_t count;
    int64_t total = 0;
    listed *list = list_entries(cache, &count);
    for (size_t i = 0; i < count; i++) total += is_entry(list[i].name) ? list[i].bytes : 0;
    for (size_t i = 0; i < count && total > limit; i++)
        if (is_entry(list[i].name) && !unlinkat(cache->folder, list[i].name, 0)) total -= list[i].bytes;
    free(list);
}

void invar_cache_count(const invar_cache *cache, int64_t *entries, int64_t *bytes) {
    size_t count;
    listed *list = list_entries(cache, &count);
    *entries = *bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (is_entry(list[i].name) && (strstr(list[i].name, ".so") || strstr(list[i].name, ".cubin"))) {
            *entries += 1;
            *bytes += list[i].bytes;
        }
    free(list);
}
