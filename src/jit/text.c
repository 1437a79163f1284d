/* Text and arrays that grow by doubling. */
#include "jit/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool text_reserve(invar_text *text, size_t more) {
    if (text->failed) return false;
    if (more < text->capacity - text->length) return true; /* one byte is kept for the NUL */
    size_t capacity = text->capacity ? text->capacity : 256;
    while (capacity - text->length <= more) {
        if (capacity > SIZE_MAX / 2) return text->failed = true, false;
        capacity *= 2;
    }
    char *data = realloc(text->data, capacity);
    if (!data) return text->failed = true, false;
    text->data = data;
    text->capacity = capacity;
    return true;
}

void invar_text_append(invar_text *text, const char *bytes, size_t length) {
    if (!text_reserve(text, length)) return;
    if (length) memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

void invar_text_string(invar_text *text, const char *string) { invar_text_append(text, string, strlen(string)); }

void invar_text_format(invar_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) {
        text->failed = true;
        return;
    }
    if (!text_reserve(text, (size_t)length)) return;
    va_start(arguments, format);
    vsnprintf(text->data + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

void invar_text_free(invar_text *text) {
    free(text->data);
    *text = (invar_text){ 0 };
}

bool invar_grow(void *array, int32_t count, int32_t *capacity, size_t size) {
    enum { FIRST = 16 };
    if (count < *capacity) return true;
    int32_t wanted = *capacity ? *capacity * 2 : FIRST;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    grown = realloc(old, size * (size_t)wanted);
    if (!grown) return false;
    memcpy(array, &grown, sizeof grown);
    *capacity = wanted;
    return true;
}
