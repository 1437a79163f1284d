/* From a program counter to the user's line, by the shared object's line table (DWARF 2 to 4, 64-bit ELF: check builds ask for 4). */
#ifndef INVAR_JIT_CHECK_LINES_H
#define INVAR_JIT_CHECK_LINES_H

#include <stddef.h>
#include <stdint.h>

enum { INVAR_TEXT_OTHER = 0, INVAR_TEXT_BODY = 1, INVAR_TEXT_HEADER = 2 }; /* OTHER: the shim, or generated */

/* From `address` on, up to the next row. */
typedef struct invar_line_row {
    uint64_t address;
    uint32_t line : 30;
    uint32_t text : 2; /* INVAR_TEXT_... */
    uint32_t order;    /* which row of the table it is */
} invar_line_row;

typedef struct invar_lines {
    invar_line_row *rows; /* by address */
    size_t count;
} invar_lines;

/* Reads the object's table; `body` and `header` are the names that #line gave the user's texts. An object without a table,
 * or one that is not understood, has no rows. 0, or -1 when out of memory. Nothing in the file is trusted. */
int invar_lines_read(invar_lines *lines, const char *object, const char *body, const char *header);
void invar_lines_free(invar_lines *lines);

/* The row of the instruction that holds `address` (an address in the file), or a row of no text. */
invar_line_row invar_lines_find(const invar_lines *lines, uint64_t address);

#endif
