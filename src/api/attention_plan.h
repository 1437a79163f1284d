/* How scaled_dot_product_attention is cut into tasks on the CPU. */
#ifndef INVAR_API_ATTENTION_PLAN_H
#define INVAR_API_ATTENTION_PLAN_H

#include "core/number.h"
#include "cpu/dispatch.h"

/* Pieces are chunks of a unit's rows (cpu/kernels/attention.h). */
typedef struct invar_attention_schedule {
    const invar_attention_call *call;
    invar_attention_kernel *kernel;
    int threads;
    int64_t units, unit_rows;
    int64_t chunk_rows, chunks; /* rows of a piece, of each of its units; chunks of a unit */
    int64_t heads;              /* units of a piece */
    bool units_first;           /* all units' last chunks, then those before; else a unit's K and V stay in cache */
    bool alone;                 /* one task does everything */
    int64_t tasks;

    bool split;                              /* pieces are computed by blocks of keys, in waves of as many as there is memory for */
    int64_t blocks;                          /* of key_len keys */
    int64_t part_floats;                     /* one block's part of a chunk */
    int64_t pieces_at_once, blocks_at_once;  /* of a wave */
    int64_t run_blocks;                      /* blocks that one task computes, one after the other */
} invar_attention_schedule;

invar_attention_schedule invar_attention_plan(const invar_attention_call *call, const invar_kernels *kernels, int threads);

/* Whether float16 goes in parts of bfloat16, as on AMX tiles. */
static inline bool invar_attention_in_parts(const invar_attention_call *call) {
    return call->type == INVAR_F16 && call->strong_cores;
}

/* Tasks that so many blocks of one piece are. */
static inline int64_t invar_attention_runs(const invar_attention_schedule *s, int64_t blocks) {
    return invar_pieces(blocks, s->run_blocks);
}

#endif
