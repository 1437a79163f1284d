/* SHA-256 (FIPS 180-4): names the entries of the kernel cache and proves that they are whole. */
#ifndef INVAR_CORE_SHA256_H
#define INVAR_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { INVAR_SHA256_BYTES = 32, INVAR_SHA256_HEX = 65 }; /* HEX counts the closing NUL */

typedef struct invar_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} invar_sha256;

void invar_sha256_begin(invar_sha256 *hash);
void invar_sha256_add(invar_sha256 *hash, const void *data, size_t size);
/* The string with its length before it, so that no two lists of strings give one stream of bytes. */
void invar_sha256_add_string(invar_sha256 *hash, const char *text);
void invar_sha256_end(invar_sha256 *hash, uint8_t digest[INVAR_SHA256_BYTES]);

/* Lower-case digits. */
void invar_sha256_hex(const uint8_t digest[INVAR_SHA256_BYTES], char text[INVAR_SHA256_HEX]);

#endif
