/* Text that grows: what the translator writes and launch compiles; and arrays that do. */
#ifndef INVAR_JIT_TEXT_H
#define INVAR_JIT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* { 0 } is an empty text. After a failed allocation `failed` stays set and every append does nothing, so that a writer
 * need look once, at its end. */
typedef struct invar_text {
    char *data; /* NUL-terminated; NULL while empty */
    size_t length, capacity;
    bool failed;
} invar_text;

void invar_text_append(invar_text *text, const char *bytes, size_t length);
void invar_text_string(invar_text *text, const char *string);
__attribute__((format(printf, 2, 3))) void invar_text_format(invar_text *text, const char *format, ...);
void invar_text_free(invar_text *text);

/* Room in *array, a pointer to elements of that size, for one more behind count. */
bool invar_grow(void *array, int32_t count, int32_t *capacity, size_t size);

#endif
