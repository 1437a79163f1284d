/* Reading gcc's and clang's diagnostics: "file:line:column: kind: message", in the order in which each gives its context. */
#include "jit/log.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ERRORS = 20, MAX_LINE = 2000 };

/* A place in the user's text, and what the compiler said there. */
typedef struct place {
    int text; /* index of the user's text; -1: a text of the library; -2: no place at all */
    long line;
    const char *rest;
} place;

typedef struct reader {
    invar_text *out;
    const invar_user_text *texts;
    int text_count;
    int errors;
    bool last_told;  /* the last message was an error that was told: its notes may follow */
    place origin;    /* gcc: the user's line that the next error comes from; text < 0: none */
    char pending[MAX_LINE]; /* clang: an error in the library's text that waits for the user's line */
} reader;

static const char *skip(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) ? NULL : text + length;
}

static const char *error_message(const char *rest) {
    const char *message = skip(rest, "error: ");
    return message ? message : skip(rest, "fatal error: ");
}

/* Splits "name:12:5: rest"; the column may be missing. */
static place read_place(const reader *reader, const char *line) {
    place none = { -2, 0, line };
    if (*line == ' ') return none; /* a quoted line of source */
    for (const char *colon = strchr(line, ':'); colon; colon = strchr(colon + 1, ':')) {
        char *end;
        long number = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end != ':') continue;
        place found = { -1, number, end + 1 };
        long column = strtol(found.rest, &end, 10);
        if (end != found.rest && *end == ':' && column >= 0) found.rest = end + 1;
        while (*found.rest == ' ') found.rest++;
        for (int i = 0; i < reader->text_count; i++) {
            size_t length = strlen(reader->texts[i].file);
            if ((size_t)(colon - line) == length && !memcmp(line, reader->texts[i].file, length)) found.text = i;
        }
        return found;
    }
    return none;
}

/* The message without the names of our own namespaces and the markers of calls, which the user did not write. */
static void append_message(invar_text *out, const char *message) {
    static const char *const noise[] = { "invar_shim::user::", "invar_shim::metal::", "invar_shim::", "invar_here_at, ",
                                         "const invar_position, ", "invar_here, ", "invar_here" };
    while (*message) {
        const char *after = NULL;
        for (size_t i = 0; !after && i < sizeof noise / sizeof noise[0]; i++) after = skip(message, noise[i]);
        if (after) message = after;
        else invar_text_append(out, message++, 1);
    }
}

static void append_line(invar_text *out, const char *text, long line) {
    for (long i = 1; i < line && text; i++) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    if (!text || line < 1) return;
    size_t length = strcspn(text, "\r\n");
    if (length && length < MAX_LINE) invar_text_format(out, "%5ld | %.*s\n", line, (int)length, text);
}

static void tell(reader *reader, place at, const char *kind, const char *message) {
    const invar_user_text *text = at.text >= 0 ? &reader->texts[at.text] : NULL;
    if (text) invar_text_format(reader->out, "%s:%ld: ", text->file, at.line);
    invar_text_string(reader->out, kind);
    append_message(reader->out, message);
    invar_text_string(reader->out, "\n");
    if (text) append_line(reader->out, text->text, at.line);
}

/* Whether the text that begins at `start` stands before it too: the linker names a missing function at each call. */
static bool is_repeated(const invar_text *out, size_t start) {
    if (out->failed || !out->data) return false;
    size_t length = out->length - start;
    for (size_t i = 0; i + length <= start; i++)
        if (!memcmp(out->data + i, out->data + start, length)) return true;
    return false;
}

static void tell_error(reader *reader, place at, const char *message) {
    size_t start = reader->out->length;
    reader->last_told = true;
    reader->origin.text = -2;
    if (reader->errors++ >= MAX_ERRORS) return;
    tell(reader, at, "error: ", message);
    if (!is_repeated(reader->out, start)) return;
    reader->errors--;
    reader->out->data[reader->out->length = start] = 0;
}

static void flush_pending(reader *reader) {
    place nowhere = { -2, 0, "" };
    if (*reader->pending) tell_error(reader, nowhere, reader->pending);
    *reader->pending = 0;
}

static void read_user_line(reader *reader, place at) {
    const char *message = error_message(at.rest);
    if (message) {
        flush_pending(reader);
        tell_error(reader, at, message);
    } else if (*reader->pending && strstr(at.rest, "requested here")) {
        tell_error(reader, at, reader->pending);
        *reader->pending = 0;
    } else if (strstr(at.rest, "required from") || strstr(at.rest, "required by")) {
        if (reader->origin.text < 0) reader->origin = at;
    } else if (reader->last_told && skip(at.rest, "note: ") && reader->errors <= MAX_ERRORS) {
        tell(reader, at, "note: ", at.rest + strlen("note: "));
    }
}

static void read_library_line(reader *reader, place at) {
    const char *message = error_message(at.rest);
    if (!message) return;
    flush_pending(reader);
    if (reader->origin.text >= 0) {
        tell_error(reader, reader->origin, message);
    } else {
        strncpy(reader->pending, message, sizeof reader->pending - 1);
        reader->last_told = false;
    }
}

/* A line without a place: the linker's, or the driver's own. */
static void read_bare_line(reader *reader, const char *line) {
    const char *undefined = strstr(line, "undefined reference to "), *message = error_message(line);
    if (!undefined) undefined = strstr(line, "undefined symbol: ");
    if (undefined) {
        flush_pending(reader);
        tell_error(reader, (place){ -2, 0, "" }, undefined);
    } else if (message && !strstr(message, "linker command failed")) {
        flush_pending(reader);
        tell_error(reader, (place){ -2, 0, "" }, message);
    }
}

void invar_compiler_log(invar_text *out, const char *log, const invar_user_text *texts, int text_count) {
    reader reader = { out, texts, text_count, 0, false, { -2, 0, "" }, "" };
    for (const char *line = log; *line;) {
        char copy[MAX_LINE];
        size_t length = strcspn(line, "\n"), kept = length < MAX_LINE - 1 ? length : MAX_LINE - 1;
        memcpy(copy, line, kept);
        copy[kept] = 0;
        place at = read_place(&reader, copy);
        if (at.text >= 0) read_user_line(&reader, at);
        else if (at.text == -1 && !strstr(copy, "undefined reference")) read_library_line(&reader, at);
        else read_bare_line(&reader, copy);
        line += length + (line[length] == '\n');
    }
    flush_pending(&reader);
    if (reader.errors > MAX_ERRORS) invar_text_format(out, "and %d more errors\n", reader.errors - MAX_ERRORS);
    if (!reader.errors) invar_text_string(out, log);
    while (out->length && !out->failed && out->data[out->length - 1] == '\n') out->data[--out->length] = 0;
}
