/* Arithmetic of sizes that plans share. */
#ifndef INVAR_CORE_NUMBER_H
#define INVAR_CORE_NUMBER_H

#include <stdint.h>

/* Pieces, the last of which may be shorter, that make up the whole. */
static inline int64_t invar_pieces(int64_t whole, int64_t piece) { return (whole + piece - 1) / piece; }

/* The least multiple of `of` that holds x. */
static inline int64_t invar_round_up(int64_t x, int64_t of) { return invar_pieces(x, of) * of; }

static inline int64_t invar_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t invar_larger(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
