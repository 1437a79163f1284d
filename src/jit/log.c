/* Reading the logs of three compilers, each line of which tells by its words what it is:
 *
 *     gcc     context of an error in the library's text, then the error, then notes
 *     clang   the error, then its context, which is among the notes
 *     NVRTC   the error, then its context, whose place stands at its end: "at line 12 of k.cu" */
#include "jit/log.h"

#include "jit/advice.h"
#include "jit/compile.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ERRORS = 20, MAX_LINE = 2000 };
enum { LIBRARY = -1, NOWHERE = -2 }; /* where a place is in no text of the user's */

typedef struct place {
    int text;          /* index of the user's text; LIBRARY; NOWHERE */
    long line, column; /* from 1; column 0: unknown. In the program's text, not the user's */
} place;

static const place nowhere = { NOWHERE, 0, 0 };

typedef struct reader {
    invar_text *out;
    const char *program; /* what was compiled; NULL */
    const invar_user_text *texts;
    int text_count;
    int errors;
    bool last_told;         /* the last message was an error that was told: its notes may follow */
    bool last_marked;       /* it names a call's marker, an argument that the user did not write */
    place origin;           /* gcc: the user's line that leads to the next error in the library's text, if text >= 0 */
    char pending[MAX_LINE]; /* clang, NVRTC: such an error, which waits for the user's line; "": none */
} reader;

static const char *skip(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) ? NULL : text + length;
}

/* ---- what a line of the log is ---------------------------------------------------------------------- */

typedef enum kind { OTHER, ERROR, UNDEFINED, BEFORE, BEHIND, WARNING, NOTE } kind;

/* The first that fits decides. */
static const struct {
    kind kind;
    bool begins; /* the message begins behind these words, which begin the line; else they stand anywhere */
    const char *words;
} phrases[] = {
    { OTHER, false, "linker command failed" }, /* what the linker said stands before it */
    { ERROR, true, "error: " },
    { ERROR, true, "fatal error: " },
    { UNDEFINED, false, "undefined reference to " },
    { UNDEFINED, false, "undefined symbol: " },
    { BEHIND, false, "requested here" },
    { BEFORE, false, "required from" },
    { BEFORE, false, "required by" },
    { WARNING, true, "warning: " },
    { NOTE, true, "note: " },
};

/* waits: an error does, for the context behind it. */
static kind kind_of(const char *rest, bool waits, const char **message) {
    *message = rest;
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        const char *found = phrases[i].begins ? skip(rest, phrases[i].words) : strstr(rest, phrases[i].words);
        if (!found || (phrases[i].kind == BEHIND && !waits)) continue;
        *message = found;
        return phrases[i].kind;
    }
    return OTHER;
}

static int find_text(const reader *reader, const char *name, size_t length) {
    for (int i = 0; i < reader->text_count; i++)
        if (strlen(reader->texts[i].file) == length && !memcmp(name, reader->texts[i].file, length)) return i;
    return LIBRARY;
}

/* Splits "name:12:5: rest", "name:12: rest" and NVRTC's "name(12): rest"; NOWHERE: all of it is rest. */
static place read_place(const reader *reader, const char *line, const char **rest) {
    *rest = line;
    if (*line == ' ') return nowhere; /* a quoted line of source */
    for (const char *mark = strpbrk(line, ":("); mark; mark = strpbrk(mark + 1, ":(")) {
        char *end;
        place found = { LIBRARY, strtol(mark + 1, &end, 10), 0 };
        if (end == mark + 1 || (*mark == '(' && *end++ != ')') || *end != ':') continue;
        *rest = end + 1;
        const long column = strtol(*rest, &end, 10);
        if (end != *rest && *end == ':' && column >= 0) *rest = end + 1, found.column = column;
        while (**rest == ' ') ++*rest;
        found.text = find_text(reader, line, (size_t)(mark - line));
        return found;
    }
    return nowhere;
}

/* NVRTC's "detected during instantiation of … at line 12 of k.cu". */
static place read_origin(const reader *reader, const char *line) {
    const char *at = strstr(line, "at line ");
    char *end;
    if (*line != ' ' || !at) return nowhere;
    const long number = strtol(at + strlen("at line "), &end, 10);
    const char *name = skip(end, " of ");
    return name ? (place){ find_text(reader, name, strlen(name)), number, 0 } : nowhere;
}

/* ---- what is left out of a message ------------------------------------------------------------------- */

/* Behind " {aka 'invar_two<float>'}" or clang's " (aka 'invar_two<float>')": what the library calls a type inside; NULL where
 * no such thing stands here. */
static const char *skip_alias(const char *message) {
    const char *name = skip(message, " {aka '");
    if (!name) name = skip(message, " (aka '");
    size_t length = name ? strcspn(name, "'") : 0;
    bool own = false;
    for (size_t i = 0; i + 6 < length; i++) own |= !memcmp(name + i, "invar_", 6);
    return own && name[length] && name[length + 1] ? name + length + 2 : NULL;
}

/* The message without the names of our own namespaces and the markers of calls, which the user did not write. */
static void append_message(invar_text *out, const char *message) {
    static const char *const noise[] = { "const invar_shim::invar_here_at&, ", "invar_shim::user::", "invar_shim::metal::",
                                         "invar_shim::",
                                         "const invar_here_at&, ", "const invar_here_at &, ",
                                         "invar_here_at, ", "const invar_position, ", "invar_here, ", "invar_here",
                                         " __restrict__", " [-fpermissive]" };
    while (*message) {
        const char *after = NULL;
        for (size_t i = 0; !after && i < sizeof noise / sizeof noise[0]; i++) after = skip(message, noise[i]);
        if (!after) after = skip_alias(message);
        if (!after && skip(message, "; did you mean 'invar_")) after = message + strcspn(message, "?") + 1;
        if (after) message = after;
        else invar_text_append(out, message++, 1);
    }
}

/* Line number `line` of a text, *length bytes; NULL where it has fewer. */
static const char *line_of(const char *text, long line, size_t *length) {
    for (long i = 1; i < line && text; i++) {
        text = strchr(text, '\n');
        if (text) text++;
    }
    if (!text || line < 1) return NULL;
    *length = strcspn(text, "\r\n");
    return text;
}

/* ---- the mark below a line ---- */

static bool is_word(char c) { return isalnum((unsigned char)c) || c == '_'; }

/* What begins at or before `at` as one word, or is one character: its length, *begin its first byte. */
static size_t word_at(const char *line, size_t length, size_t at, size_t *begin) {
    size_t end = at + 1;
    *begin = at;
    if (!is_word(line[at])) return 1;
    while (*begin > 0 && is_word(line[*begin - 1])) (*begin)--;
    while (end < length && is_word(line[end])) end++;
    return end - *begin;
}

/* How often the word occurs in a line before `end`; *last is where it begins for the occurrence number `wanted`. */
static int count_word(const char *line, size_t length, size_t end, const char *word, size_t word_length, int wanted,
                      size_t *last) {
    int count = 0;
    for (size_t i = 0; i + word_length <= length && i < end; i++) {
        if (memcmp(line + i, word, word_length)) continue;
        bool whole = !is_word(*word) || ((i == 0 || !is_word(line[i - 1])) &&
                                         (i + word_length == length || !is_word(line[i + word_length])));
        if (whole && ++count == wanted) *last = i;
    }
    return count;
}

static void put_mark(const reader *reader, size_t begin, size_t length) {
    invar_text_string(reader->out, "      | ");
    for (size_t i = 0; i < begin; i++) invar_text_string(reader->out, " ");
    for (size_t i = 0; i < length; i++) invar_text_string(reader->out, i ? "~" : "^");
    invar_text_string(reader->out, "\n");
}

/* Marks the name that the message quotes first, where the user's line holds it once. */
static void append_mark_of_name(const reader *reader, const char *message, const char *user, size_t user_length) {
    const char *name = strchr(message, '\'');
    size_t length = name ? strcspn(++name, "'") : 0, found = 0;
    for (size_t i = 0; i < length; i++)
        if (!is_word(name[i])) return;
    if (!length || memchr(user, '\t', user_length)) return;
    if (count_word(user, user_length, user_length, name, length, 1, &found) == 1) put_mark(reader, found, length);
}

/* Marks what the compiler means below the user's line. The program's line holds tokens that the user's does not, so the
 * column is that of the same word, where both lines hold it equally often. gcc counts a tab as several columns: such a line
 * is left without a mark. */
static void append_mark(const reader *reader, place at, const char *message, const char *user, size_t user_length) {
    char directive[MAX_LINE];
    size_t length = 0, begin = 0, found = 0, mark = at.column > 0 ? (size_t)at.column - 1 : 0;
    snprintf(directive, sizeof directive, "\n#line 1 \"%s\"\n", reader->texts[at.text].file);
    const char *text = reader->program && at.column > 0 ? strstr(reader->program, directive) : NULL;
    const char *line = text ? line_of(text + strlen(directive), at.line, &length) : NULL;
    if (!line || mark >= length || memchr(line, '\t', length) || line[mark] == ' ') return;
    size_t word = word_at(line, length, mark, &begin);
    int number = count_word(line, length, begin + 1, line + begin, word, 0, &found);
    int all = count_word(line, length, length, line + begin, word, 0, &found);
    if (count_word(user, user_length, user_length, line + begin, word, number, &found) == all) put_mark(reader, found, word);
    else append_mark_of_name(reader, message, user, user_length);
}

static void append_line(const reader *reader, place at, const char *message) {
    size_t length = 0;
    const char *line = line_of(reader->texts[at.text].text, at.line, &length);
    if (!line || !length || length >= MAX_LINE) return;
    invar_text_format(reader->out, "%5ld | %.*s\n", at.line, (int)length, line);
    append_mark(reader, at, message, line, length);
}

/* ---- messages ---- */

static void tell(reader *reader, place at, const char *kind, const char *message) {
    const invar_user_text *text = at.text >= 0 ? &reader->texts[at.text] : NULL;
    if (text) invar_text_format(reader->out, "%s:%ld: ", text->file, at.line);
    invar_text_string(reader->out, kind);
    append_message(reader->out, message);
    invar_text_string(reader->out, "\n");
    if (text) append_line(reader, at, message);
}

/* The length of a line less the compiler's guess of what was meant. */
static size_t told_length(const char *line) {
    size_t length = strcspn(line, "\n");
    const char *guess = strstr(line, "; did you mean ");
    return guess && (size_t)(guess - line) < length ? (size_t)(guess - line) : length;
}

/* Whether the line that begins at `start` stands before it too: the linker names a missing function at each call, and gcc an
 * unknown name in a template twice, at times with a guess the second time. */
static bool is_repeated(const invar_text *out, size_t start) {
    if (out->failed || !out->data) return false;
    size_t length = told_length(out->data + start);
    for (size_t i = 0; i + length < start; i++)
        if ((!i || out->data[i - 1] == '\n') && told_length(out->data + i) == length &&
            !memcmp(out->data + i, out->data + start, length))
            return true;
    return false;
}

/* gcc's and clang's words for a frame beyond the limit name functions of ours; these name what the user wrote. */
static const char *frame_message(const char *message, char frame[MAX_LINE]) {
    long bytes;
    if (sscanf(message, "the frame size of %ld", &bytes) != 1 && sscanf(message, "stack frame size (%ld", &bytes) != 1)
        return message;
    snprintf(frame, MAX_LINE, "a thread's local variables take %ld bytes, and at most " INVAR_FRAME_LIMIT " are there", bytes);
    return frame;
}

/* gcc tells of an unknown function in a template, as a body with template arguments is, by how it would look the name up. */
static const char *lookup_message(const char *message, char told[MAX_LINE]) {
    const char *name = skip(message, "there are no arguments to '");
    int length = name ? (int)strcspn(name, "'") : 0;
    if (!length || !strstr(name, "that depend on a template parameter")) return message;
    snprintf(told, MAX_LINE, "'%.*s' was not declared in this scope", length, name);
    return told;
}

/* Whether the kernel is in CUDA: in Metal the body's file is <name>.metal. */
static bool is_cuda(const reader *reader) {
    for (int i = 0; i < reader->text_count; i++) {
        const char *ending = strrchr(reader->texts[i].file, '.');
        if (ending && !strcmp(ending, ".cu")) return true;
    }
    return false;
}

/* What to do about an error of the user's, once. */
static void advise(const reader *reader, const char *message) {
    invar_text told = { 0 };
    append_message(&told, message);
    const char *advice = told.failed || !told.data ? NULL : invar_compile_advice(told.data, is_cuda(reader));
    if (advice && !reader->out->failed && !strstr(reader->out->data, advice))
        invar_text_format(reader->out, "      = %s\n", advice);
    invar_text_free(&told);
}

static void tell_error(reader *reader, place at, const char *message) {
    char frame[MAX_LINE], told[MAX_LINE];
    size_t start = reader->out->length;
    message = lookup_message(frame_message(message, frame), told);
    reader->last_told = false;
    reader->last_marked = strstr(message, "invar_here") != NULL;
    reader->origin = nowhere;
    if (strstr(message, "<expression error>")) return; /* gcc, of what an error before it left behind */
    if (strstr(message, "invar_shared_array")) { /* what a threadgroup array is made by */
        if (reader->errors) return;
        message = "the size of this array is not known when the kernel is compiled";
    }
    if (reader->errors++ >= MAX_ERRORS) return;
    tell(reader, at, "error: ", message);
    if (is_repeated(reader->out, start)) {
        reader->errors--;
        reader->out->data[reader->out->length = start] = 0;
        return;
    }
    reader->last_told = true;
    if (at.text >= 0) advise(reader, message);
}

/* gcc's "candidate expects 2 arguments, 1 provided" counts a call's marker. */
static void tell_note(reader *reader, place at, const char *message) {
    char counted[MAX_LINE];
    int expected, provided;
    while (*message == ' ') message++;
    if (strstr(message, "not derived from 'invar_") || strstr(message, "invar_if")) return; /* how the library chooses */
    if (strstr(message, "use '-f")) return; /* flags are not the user's */
    if (reader->last_marked && sscanf(message, "candidate expects %d argument%*[s,] %d provided", &expected, &provided) == 2) {
        snprintf(counted, sizeof counted, "candidate expects %d argument%s, %d provided", expected - 1,
                 expected == 2 ? "" : "s", provided - 1);
        message = counted;
    }
    tell(reader, at, "note: ", message);
}

static void tell_pending(reader *reader, place at) {
    tell_error(reader, at, reader->pending);
    *reader->pending = 0;
}

/* No context came: what belongs to an error that was told is left out. */
static void flush_pending(reader *reader) {
    bool known = reader->errors && strstr(reader->pending, "invar_");
    if (*reader->pending && !known) tell_pending(reader, nowhere);
    *reader->pending = 0;
}

static void await_context(reader *reader, const char *message) {
    snprintf(reader->pending, sizeof reader->pending, "%s", message);
    reader->last_told = false;
}

static void read_line(reader *reader, const char *line) {
    const char *rest, *message;
    const bool waits = *reader->pending;
    place at = read_place(reader, line, &rest);
    kind kind = kind_of(rest, waits, &message);
    if (waits && at.text == NOWHERE) {
        at = read_origin(reader, line);
        if (at.text >= 0) kind = BEHIND;
    }
    const bool users = at.text >= 0;
    switch (kind) {
    case ERROR:
        flush_pending(reader);
        if (at.text != LIBRARY) tell_error(reader, at, message);
        else if (reader->origin.text >= 0) tell_error(reader, reader->origin, message);
        else await_context(reader, message);
        break;
    case UNDEFINED:
        flush_pending(reader);
        tell_error(reader, users ? at : nowhere, message);
        break;
    case BEFORE:
        if (users && reader->origin.text < 0) reader->origin = at;
        break;
    case BEHIND:
        if (users) tell_pending(reader, at);
        break;
    case WARNING:
        if (users) reader->last_told = false;
        break;
    case NOTE:
        if (users && reader->last_told) tell_note(reader, at, message);
        break;
    case OTHER: break;
    }
}

void invar_compiler_log(invar_text *out, const char *log, const char *program, const invar_user_text *texts, int text_count) {
    reader reader = { .out = out, .program = program, .texts = texts, .text_count = text_count, .origin = nowhere };
    for (const char *line = log; *line;) {
        char copy[MAX_LINE];
        const size_t length = strcspn(line, "\n");
        snprintf(copy, sizeof copy, "%.*s", (int)(length < MAX_LINE ? length : MAX_LINE), line);
        read_line(&reader, copy);
        line += length + (line[length] == '\n');
    }
    flush_pending(&reader);
    if (reader.errors > MAX_ERRORS) invar_text_format(out, "and %d more errors\n", reader.errors - MAX_ERRORS);
    if (!reader.errors) invar_text_string(out, log);
    while (out->length && !out->failed && out->data[out->length - 1] == '\n') out->data[--out->length] = 0;
}
