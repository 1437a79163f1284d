/* Running another program, and the temporary files that takes. */
#define _GNU_SOURCE
#include "jit/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static bool is_program(const char *path) {
    struct stat status;
    return !stat(path, &status) && S_ISREG(status.st_mode) && !access(path, X_OK);
}

bool invar_process_find(const char *word, char path[INVAR_PATH_BYTES]) {
    if (strchr(word, '/')) {
        int length = snprintf(path, INVAR_PATH_BYTES, "%s", word);
        return length < INVAR_PATH_BYTES && is_program(path);
    }
    const char *folders = getenv("PATH");
    if (!folders || !*word) return false;
    while (*folders) {
        int size = (int)strcspn(folders, ":");
        int length = snprintf(path, INVAR_PATH_BYTES, "%.*s/%s", size, folders, word);
        if (size && length < INVAR_PATH_BYTES && is_program(path)) return true;
        folders += size;
        folders += *folders == ':';
    }
    return false;
}

/* The caller's environment with two variables replaced: messages in plain English, temporary files where we clean up. The
 * array is to be freed; its strings are borrowed. */
static char **child_environment(char *temporary) {
    size_t count = 0, kept = 0;
    while (environ && environ[count]) count++;
    char **list = malloc((count + 3) * sizeof *list);
    if (!list) return NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "LC_ALL=", 7) && strncmp(environ[i], "TMPDIR=", 7)) list[kept++] = environ[i];
    list[kept++] = "LC_ALL=C";
    list[kept++] = temporary;
    list[kept] = NULL;
    return list;
}

static int spawn(pid_t *process, const char *const *argv, const char *output, char **environment) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); /* Python ignores it, and the compiler driver's parts would inherit that */
    sigaddset(&defaults, SIGCHLD);
    int error = posix_spawn_file_actions_init(&actions);
    if (error) return error;
    error = posix_spawnattr_init(&attributes);
    if (error) return posix_spawn_file_actions_destroy(&actions), error;
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = posix_spawn(process, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

int invar_process_run(const char *const *argv, const char *folder, const char *output) {
    char temporary[INVAR_PATH_BYTES + 8];
    snprintf(temporary, sizeof temporary, "TMPDIR=%s", folder);
    char **environment = child_environment(temporary);
    pid_t process;
    int status, error = environment ? spawn(&process, argv, output, environment) : ENOMEM;
    free(environment);
    if (error) return errno = error, -1;
    while (waitpid(process, &status, 0) < 0)
        if (errno != EINTR) return 0; /* ECHILD: the caller's process reaps for itself */
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool invar_temporary_folder(char path[INVAR_PATH_BYTES]) {
    const char *const folders[] = { getenv("TMPDIR"), "/tmp", "/var/tmp" };
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (!folders[i] || folders[i][0] != '/') continue;
        int length = snprintf(path, INVAR_PATH_BYTES, "%s/invar-XXXXXX", folders[i]);
        if (length < INVAR_PATH_BYTES && mkdtemp(path)) return true;
    }
    return false;
}

void invar_temporary_folder_remove(const char *path) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) unlinkat(dirfd(folder), entry->d_name, 0);
    if (folder) closedir(folder);
    rmdir(path);
}

char *invar_file_read(const char *path, size_t limit, size_t *size) {
    struct stat status;
    char *data = NULL;
    size_t wanted = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    if (!fstat(file, &status) && S_ISREG(status.st_mode)) {
        wanted = (uint64_t)status.st_size < limit ? (size_t)status.st_size : limit;
        data = malloc(wanted + 1);
    }
    for (*size = 0; data && *size < wanted;) {
        ssize_t part = read(file, data + *size, wanted - *size);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break;
        *size += (size_t)part;
    }
    close(file);
    if (data) data[*size] = 0;
    return data;
}

bool invar_file_write(const char *path, const char *data, size_t size) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = file >= 0 && invar_write_all(file, data, size);
    return (file < 0 || !close(file)) && good;
}
