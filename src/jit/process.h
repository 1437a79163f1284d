/* Running another program: by its words, never through a shell. */
#ifndef INVAR_JIT_PROCESS_H
#define INVAR_JIT_PROCESS_H

#include "core/cache.h"

#include <stdbool.h>
#include <stddef.h>

enum { INVAR_FILE_BYTES = INVAR_PATH_BYTES + 128 }; /* of the path of a file in a folder */

/* The program that word names, looked for in PATH where it holds no slash, into path. False when there is none. */
bool invar_process_find(const char *word, char path[INVAR_PATH_BYTES]);

/* Starts argv[0] (a path) with these words, standard input closed, both outputs in the file `output`, C locale, and TMPDIR at
 * folder, and waits for it. Returns its exit status; -1 when it could not be started, with errno; 128 + signal when it was
 * killed; 0 when the caller's process ignores SIGCHLD and the status is lost: what the program made then has to tell. */
int invar_process_run(const char *const *argv, const char *folder, const char *output);

/* A new empty folder for this user alone, in TMPDIR, /tmp or /var/tmp. False when none can be made. */
bool invar_temporary_folder(char path[INVAR_PATH_BYTES]);
/* Removes the folder and the files in it. */
void invar_temporary_folder_remove(const char *path);

/* The file, or its first `limit` bytes, with a NUL behind it, to be freed; NULL when it cannot be read. */
char *invar_file_read(const char *path, size_t limit, size_t *size);
bool invar_file_write(const char *path, const char *data, size_t size);

#endif
