/* The order in which decoding reads memory, run ahead of.
 *
 * A block's rows of K, then its rows of V, then the next block's K are called into the second-level cache in ascending
 * addresses, a few lines at a time between the arithmetic, at a pace that covers a block in the time of a block. The processor
 * drops calls while its few miss buffers are full (Zen 4 takes a row of them at six times the rate of memory), so every line
 * is called a second time halfway to its use; bursts would be dropped for the most part, and gaps leave memory idle. One with
 * AMX lets calls wait instead: there a line is called once, and into the first-level cache, which holds what is called ahead. More
 * of them can wait for the second-level cache: where a call's K and V are likely to come from memory, a line is called into that
 * one first, twice as far ahead. From the shared cache that takes longer, since a walk begins with all that is called ahead. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_FEW_WALK_H
#define INVAR_CPU_KERNELS_ATTENTION_FEW_WALK_H

#include "cpu/kernels/attention_state.h"

enum {
    WALK_LINE = 64,
    WALK_PARTS = 4096,     /* of a row, that a pace counts in */
#if defined(ATTENTION_TILES)
    WALK_BYTES = 8 << 10, /* called ahead of use, */
    WALK_AGAIN = 0,       /* and again this much later, if at all, */
    WALK_LEVEL = 3,       /* into the first-level cache (3) or the second */
    WALK_FAR = 64 << 20,  /* bytes of a call's K and V beyond which lines are called twice as far ahead, into the second first */
#else
    WALK_BYTES = 16 << 10,
    WALK_AGAIN = WALK_BYTES / 2,
    WALK_LEVEL = 2,
    WALK_FAR = 0,         /* never */
#endif
    WALK_IDLE = 16         /* a block's share of rows called while weights are formed, when nothing is read */
};

/* Rows to call; those that follow each other in memory count as one. */
typedef struct walk_part {
    const char *rows;
    int64_t count, stride, bytes;
    int64_t cost; /* of a line, in parts of a row of K or V */
} walk_part;

typedef struct few_walk {
    walk_part part[3];      /* this block's K and V, and the next block's K; */
    int which;              /* the one that is being called, */
    int64_t next;           /* its row after the one */
    const char *line, *end; /* whose lines are called */
    int64_t due;            /* what to call by now */
    bool far;               /* K and V are likely to come from memory */
} few_walk;

static walk_part walk_rows(const pack_source *x, int64_t first, int64_t count, int64_t columns) {
    const int64_t bytes = columns * (int64_t)invar_float_size(x->type);
    walk_part part = { x->data + first * x->row_stride, count, x->row_stride, bytes, 0 };
    if (!pack_contiguous(x) || bytes == 0) part.count = 0;
    if (part.count == 0) return part;
    part.cost = bytes < WALK_LINE ? WALK_PARTS : WALK_LINE * WALK_PARTS / bytes;
    if (part.stride != bytes) return part;
    part.count = 1;
    part.bytes = count * bytes;
    return part;
}

/* Keys of block `index` that memory holds. */
static int64_t walk_keys(const kernel_state *s, int64_t index) {
    const int64_t left = s->length - index * s->call->key_block;
    if (index >= s->work->block_last || left < 0) return 0;
    return left < s->call->key_block ? left : s->call->key_block;
}

static bool walk_is_far(const invar_attention_call *call) {
    const double keys = (double)(call->batch * call->kv_heads) * (double)call->key_len;
    return WALK_FAR > 0 && keys * (double)(2 * (call->key_dim + call->value_dim)) > WALK_FAR;
}

/* Before the first block. */
static few_walk walk_open(const kernel_state *s) { return (few_walk){ .far = walk_is_far(s->call) }; }

/* Goes on to block `index`, whose K the walk may be in already. */
static void walk_block(few_walk *w, const kernel_state *s, int64_t index) {
    const int64_t first = index * s->call->key_block, keys = walk_keys(s, index), next = walk_keys(s, index + 1);
    w->part[0] = walk_rows(&s->k, first, keys, s->call->key_dim);
    w->part[1] = walk_rows(&s->v, first, keys, s->call->value_dim);
    w->part[2] = walk_rows(&s->k, first + s->call->key_block, next, s->call->key_dim);
    if (w->which == 2) {
        w->which = 0;
        return;
    }
    const int64_t bytes = s->call->key_dim * (int64_t)invar_float_size(s->k.type);
    w->which = 0;
    w->next = 0;
    w->line = w->end = NULL;
    w->due = WALK_PARTS * ((w->far ? 2 * WALK_BYTES : WALK_BYTES) / (bytes > 0 ? bytes : 1));
}

/* The next row that has lines to call. False: nothing is left for this block. */
static bool walk_row(few_walk *w) {
    while (w->next >= w->part[w->which].count) {
        if (w->which == 2) return false;
        w->which++;
        w->next = 0;
    }
    w->line = w->part[w->which].rows + w->next++ * w->part[w->which].stride;
    w->end = w->line + w->part[w->which].bytes;
    return true;
}

/* Calls what has become due `pace` parts of a row later, as far as the row goes that is being called. */
VEC_INLINE void walk_in_row(few_walk *w, int64_t pace) {
    const char *line = w->line, *const end = w->end;
    const int64_t cost = w->part[w->which].cost;
    const bool far = WALK_FAR > 0 && w->far;
    int64_t due = w->due + pace;
    for (; due > 0 && line < end; due -= cost, line += WALK_LINE) {
        if (far) __builtin_prefetch(line, 0, 2);
        __builtin_prefetch(far ? line - WALK_BYTES : line, 0, WALK_LEVEL);
        if (WALK_AGAIN) __builtin_prefetch(line - WALK_AGAIN, 0, WALK_LEVEL);
    }
    w->line = line;
    w->due = due;
}

/* The same over as many rows as it takes. */
VEC_INLINE void walk_on(few_walk *w, int64_t pace) {
    for (; w->due + pace > 0 && (w->line < w->end || walk_row(w)); pace = 0) walk_in_row(w, pace);
    w->due += pace;
}

#endif
