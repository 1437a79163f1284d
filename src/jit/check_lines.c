/* The line table of a shared object. The format is that of the DWARF Debugging Information Format, version 4, section 6.2; only
 * what gives address, file and line is looked at. */
#define _GNU_SOURCE
#include "jit/check_lines.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- bytes ------------------------------------------------------------------------------------------ */

/* A place in a section. Reading past the end gives zeros and sets `bad`. */
typedef struct reader {
    const uint8_t *at, *end;
    bool bad;
} reader;

static const uint8_t *take(reader *r, uint64_t bytes) {
    if (r->bad || bytes > (uint64_t)(r->end - r->at)) {
        r->bad = true;
        return NULL;
    }
    r->at += bytes;
    return r->at - bytes;
}

static uint64_t fixed(reader *r, int bytes) {
    const uint8_t *p = take(r, (uint64_t)bytes);
    uint64_t value = 0;
    for (int i = 0; p && i < bytes; i++) value |= (uint64_t)p[i] << 8 * i;
    return value;
}

static uint64_t leb(reader *r, bool is_signed) {
    uint64_t value = 0, byte = 0x80;
    int shift = 0;
    for (; byte & 0x80 && !r->bad; shift += 7) {
        byte = fixed(r, 1);
        if (shift < 64) value |= (byte & 0x7f) << shift;
    }
    if (is_signed && shift < 64 && byte & 0x40) value |= ~(uint64_t)0 << shift;
    return value;
}

static const char *string(reader *r) {
    const uint8_t *start = r->at, *stop = r->bad ? NULL : memchr(start, 0, (size_t)(r->end - start));
    if (!stop) {
        r->bad = true;
        return "";
    }
    r->at = stop + 1;
    return (const char *)start;
}

static reader section_of(const uint8_t *file, uint64_t size, const char *wanted) {
    reader none = { file, file, false }, r = { file, file + size, false };
    if (size < 64 || memcmp(file, "\177ELF\2\1", 6) != 0) return none;
    r.at = file + 40;
    uint64_t table = fixed(&r, 8);
    r.at = file + 58;
    uint64_t entry = fixed(&r, 2), count = fixed(&r, 2), names = fixed(&r, 2);
    if (entry < 64 || table > size || count * entry > size - table || names >= count) return none;
    uint64_t header[2][5]; /* name, flags, offset, size: of the names' section, then of each */
    for (uint64_t i = 0; i <= count; i++) {
        uint64_t *h = header[i > 0];
        r.at = file + table + entry * (i ? i - 1 : names);
        h[0] = fixed(&r, 4);
        take(&r, 4);
        h[1] = fixed(&r, 8);
        take(&r, 8);
        h[2] = fixed(&r, 8);
        h[3] = fixed(&r, 8);
        if (h[2] > size || h[3] > size - h[2]) {
            if (!i) return none;
            continue;
        }
        if (!i || h[0] >= header[0][3]) continue;
        reader name = { file + header[0][2] + h[0], file + header[0][2] + header[0][3], false };
        const uint64_t compressed = 0x800;
        if (strcmp(string(&name), wanted) == 0 && !(h[1] & compressed))
            return (reader){ file + h[2], file + h[2] + h[3], false };
    }
    return none;
}

/* ---- one unit's header -------------------------------------------------------------------------------- */

typedef struct unit {
    reader program;                                /* what is left of the unit */
    const char *body, *header;                     /* names of the user's texts */
    int version;
    uint8_t step, line_range, opcode_base;
    int8_t line_base;
    uint8_t lengths[256];                          /* operands of each standard opcode */
    uint8_t *texts;                                /* INVAR_TEXT_... of each file */
    uint64_t file_count;
} unit;

static uint8_t text_of(const unit *u, const char *file) {
    const char *slash = strrchr(file, '/');
    const char *name = slash ? slash + 1 : file;
    if (u->body && strcmp(name, u->body) == 0) return INVAR_TEXT_BODY;
    return u->header && strcmp(name, u->header) == 0 ? INVAR_TEXT_HEADER : INVAR_TEXT_OTHER;
}

static bool add_file(unit *u, uint64_t index, const char *name) {
    if (index >= u->file_count) {
        uint64_t count = index + 16;
        uint8_t *grown = index < 1 << 20 ? realloc(u->texts, count) : NULL;
        if (!grown) return false;
        memset(grown + u->file_count, 0, count - u->file_count);
        u->texts = grown;
        u->file_count = count;
    }
    u->texts[index] = text_of(u, name);
    return true;
}

/* Folders, then files counted from 1. */
static void read_files(unit *u) {
    reader *r = &u->program;
    while (!r->bad && *string(r)) {}
    for (uint64_t index = 1; !r->bad; index++) {
        const char *name = string(r);
        if (!*name) return;
        for (int i = 0; i < 3; i++) leb(r, false);
        if (!add_file(u, index, name)) r->bad = true;
    }
}

static bool read_header(unit *u, reader *section) {
    uint64_t length = fixed(section, 4);
    const int offset_bytes = length == 0xffffffff ? 8 : 4;
    if (offset_bytes == 8) length = fixed(section, 8);
    const uint8_t *start = take(section, length);
    if (!start) return false;
    reader *r = &u->program;
    *r = (reader){ start, start + length, false };
    u->version = (int)fixed(r, 2);
    if (u->version < 2 || u->version > 4) return true; /* the next unit may be known */
    uint64_t header_length = fixed(r, offset_bytes);
    reader program = *r;
    take(&program, header_length);
    u->step = (uint8_t)fixed(r, 1);
    if (u->version >= 4) take(r, 1);
    take(r, 1);
    u->line_base = (int8_t)fixed(r, 1);
    u->line_range = (uint8_t)fixed(r, 1);
    u->opcode_base = (uint8_t)fixed(r, 1);
    for (int i = 1; i < u->opcode_base; i++) u->lengths[i] = (uint8_t)fixed(r, 1);
    read_files(u);
    program.bad |= r->bad || !u->line_range || !u->opcode_base;
    *r = program;
    return true;
}

/* ---- the line program ----------------------------------------------------------------------------------- */

typedef struct machine {
    uint64_t address, file;
    int64_t line;
    uint32_t last_line; /* that is not 0, which is what clang says of code that it has merged */
    bool dead;          /* a function that the linker left out lies at 0 */
} machine;

static bool add_row(invar_lines *lines, const unit *u, machine *m, bool end) {
    if (m->dead) return true;
    if (lines->count % 1024 == 0) {
        invar_line_row *grown = realloc(lines->rows, (lines->count + 1024) * sizeof *grown);
        if (!grown) return false;
        lines->rows = grown;
    }
    uint32_t text = !end && m->file < u->file_count ? u->texts[m->file] : INVAR_TEXT_OTHER;
    if (m->line > 0 && m->line < 1 << 30) m->last_line = (uint32_t)m->line;
    lines->rows[lines->count] = (invar_line_row){ m->address, end ? 0 : m->last_line, text & 3, (uint32_t)lines->count };
    lines->count++;
    return true;
}

static bool extended(invar_lines *lines, unit *u, machine *m) {
    enum { END_SEQUENCE = 1, SET_ADDRESS = 2 };
    reader *r = &u->program;
    uint64_t length = leb(r, false);
    const uint8_t *start = take(r, length);
    if (!start || !length) return true;
    reader operand = { start + 1, start + length, false };
    if (*start == END_SEQUENCE) {
        bool good = add_row(lines, u, m, true);
        *m = (machine){ .file = 1, .line = 1, .dead = true };
        return good;
    }
    if (*start == SET_ADDRESS) {
        m->address = fixed(&operand, length == 9 ? 8 : 4);
        m->dead = !m->address;
    }
    return true;
}

static bool standard(invar_lines *lines, unit *u, machine *m, int opcode) {
    enum { COPY = 1, ADVANCE_PC, ADVANCE_LINE, SET_FILE, CONST_ADD_PC = 8, FIXED_ADVANCE_PC };
    reader *r = &u->program;
    switch (opcode) {
    case COPY: return add_row(lines, u, m, false);
    case ADVANCE_PC: m->address += leb(r, false) * u->step; break;
    case ADVANCE_LINE: m->line += (int64_t)leb(r, true); break;
    case SET_FILE: m->file = leb(r, false); break;
    case CONST_ADD_PC: m->address += (uint64_t)(255 - u->opcode_base) / u->line_range * u->step; break;
    case FIXED_ADVANCE_PC: m->address += fixed(r, 2); break;
    default:
        for (int i = 0; i < u->lengths[opcode]; i++) leb(r, false);
    }
    return true;
}

static bool run_program(invar_lines *lines, unit *u) {
    machine m = { .file = 1, .line = 1, .dead = true };
    reader *r = &u->program;
    bool good = true;
    while (good && !r->bad && r->at < r->end) {
        int opcode = (int)fixed(r, 1);
        if (opcode >= u->opcode_base) {
            int adjusted = opcode - u->opcode_base;
            m.address += (uint64_t)(adjusted / u->line_range) * u->step;
            m.line += u->line_base + adjusted % u->line_range;
            good = add_row(lines, u, &m, false);
        } else {
            good = opcode ? standard(lines, u, &m, opcode) : extended(lines, u, &m);
        }
    }
    return good;
}

/* ---- the table ------------------------------------------------------------------------------------------- */

/* By address, and of those at one address as they came: the last one holds, and an end of a sequence comes before the start of
 * the next. */
static int by_address(const void *a, const void *b) {
    const invar_line_row *x = a, *y = b;
    if (x->address != y->address) return x->address < y->address ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static bool read_units(invar_lines *lines, const uint8_t *file, uint64_t size, const char *body, const char *header) {
    reader section = section_of(file, size, ".debug_line");
    bool good = true;
    while (good && !section.bad && section.at < section.end) {
        unit u = { .body = body, .header = header };
        if (!read_header(&u, &section)) break;
        if (u.version >= 2 && u.version <= 4) good = run_program(lines, &u);
        free(u.texts);
    }
    if (lines->count) qsort(lines->rows, lines->count, sizeof *lines->rows, by_address);
    return good;
}

int invar_lines_read(invar_lines *lines, const char *object, const char *body, const char *header) {
    *lines = (invar_lines){ 0 };
    struct stat about;
    int file = object ? open(object, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    void *bytes = MAP_FAILED;
    if (fstat(file, &about) == 0 && about.st_size > 0) bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (bytes == MAP_FAILED) return 0;
    bool good = read_units(lines, bytes, (uint64_t)about.st_size, body, header);
    munmap(bytes, (size_t)about.st_size);
    if (!good) invar_lines_free(lines);
    return good ? 0 : -1;
}

void invar_lines_free(invar_lines *lines) {
    free(lines->rows);
    *lines = (invar_lines){ 0 };
}

invar_line_row invar_lines_find(const invar_lines *lines, uint64_t address) {
    size_t low = 0, high = lines->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (lines->rows[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? lines->rows[low - 1] : (invar_line_row){ 0 };
}
