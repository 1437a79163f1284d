/* How attention's gradients are divided, and the order in which tasks add to dq.
 *
 * A task of the main pass is a span of keys of one kv head: it holds the span's K and V and their gradients in cache and
 * streams the group's queries past them, query tile by query tile, so that the five products of a pair of tiles are done
 * once. dq belongs to all spans of a head. It is summed where the caller wants it if that is float32 rows of whole vectors,
 * otherwise in shared memory, for as many heads at once as VJP_DQ_BYTES hold. Each (head, query tile) has a counter of the
 * spans that have added to it; a span waits for its turn before it adds (as FlashAttention-2's deterministic mode
 * orders its blocks, Dao, 2023). Tasks take tickets, so that they start in ascending order however the caller's threads
 * hand them out; a task waits for earlier tickets only, hence never for one that has not started. The first that may see a
 * tile clears it, the last one rounds it into dq.
 *
 * Predicted cost of a task beside its FMAs, for a span of 256 keys and D = 64: reading and widening q, dout and out is 3 rows
 * for 5·256 row products, 0.5 %; loading and storing an accumulator once for 64 to 96 steps, 4 %; the exponential and what
 * is around it, 20 operations for 320 FMAs, 6 %. Two passes without the order would take 7 products instead of 5. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_VJP_PLAN_H
#define INVAR_CPU_KERNELS_ATTENTION_VJP_PLAN_H

#include "cpu/kernels/attention_vjp_rows.h"
#include "cpu/kernels/attention_vjp_tile.h"

#include <sched.h>
#include <stdatomic.h>

enum { VJP_QUERIES = 96 }; /* query rows a tile */

typedef struct vjp_plan {
    int64_t units, spans, span; /* kv heads; spans of each; keys of a span */
    int64_t tiles;              /* query tiles of a head */
    int64_t in_flight;          /* units whose dq stands in shared memory at once */
    int64_t key_columns, value_columns; /* Dk and Dv, padded */
    size_t finished, progress;  /* offsets into shared memory: counters of each unit, of each (query head, tile) */
    size_t zeroed;
    bool dq_in_place;
    size_t dq, unit_bytes;      /* offset of dq's memory, and a unit's part of it */
    size_t shared;
} vjp_plan;

/* Spans that keep each of several threads busy to the end, and all threads together: no more, since each reads the queries
 * anew. */
enum { VJP_EVEN_TASKS = 8, VJP_MOST_TASKS = 64 };

/* Bytes of L2 that K, its transpose, V's, and both gradients of a span may take, in float32 where it has 2 MiB, and of dq's
 * memory. */
enum { VJP_SPAN_BYTES = 512 << 10, VJP_STRONG_BYTES = 1 << 20, VJP_DQ_BYTES = 32 << 20 };

static inline vjp_plan vjp_plan_of(const invar_attention_vjp_call *call, int pair) {
    const invar_attention_call *forward = &call->forward;
    vjp_plan x = { .units = invar_attention_units(forward), .span = 512 };
    x.key_columns = VJP_PADDED(forward->key_dim);
    x.value_columns = VJP_PADDED(forward->value_dim);
    const int64_t key_bytes = pair == 2 ? 8 * x.key_columns + 6 * x.value_columns : 12 * x.key_columns + 8 * x.value_columns;
    const int64_t even = call->threads > 1 ? VJP_EVEN_TASKS * (int64_t)call->threads : 1;
    const int64_t enough = even < VJP_MOST_TASKS ? even : VJP_MOST_TASKS;
    const int64_t room = pair == 1 && forward->strong_cores ? VJP_STRONG_BYTES : VJP_SPAN_BYTES;
    while (x.span > VJP_KEYS && x.span * key_bytes > room) x.span /= 2;
    while (x.span > VJP_KEYS && x.units * ((forward->key_len + x.span - 1) / x.span) < enough) x.span /= 2;
    x.spans = forward->key_len > 0 ? (forward->key_len + x.span - 1) / x.span : 1;
    x.tiles = (forward->query_len + VJP_QUERIES - 1) / VJP_QUERIES;

    x.finished = 64; /* the ticket's line */
    x.progress = x.finished + 4 * (size_t)x.units;
    x.zeroed = x.progress + 4 * (size_t)(x.units * forward->group * x.tiles);
    x.dq = (x.zeroed + 63) / 64 * 64;
    x.dq_in_place = call->dq.type == INVAR_F32 && call->dq.column_stride == 4 && forward->key_dim % 16 == 0;
    if (call->dq.data && !x.dq_in_place)
        x.unit_bytes = 4 * (size_t)(forward->group * x.tiles * VJP_QUERIES * x.key_columns);
    x.in_flight = x.unit_bytes ? VJP_DQ_BYTES / (int64_t)x.unit_bytes : x.units;
    if (x.in_flight > x.units) x.in_flight = x.units;
    if (x.in_flight < 1) x.in_flight = 1;
    x.shared = x.dq + x.unit_bytes * (size_t)x.in_flight;
    return x;
}

/* The unit and span of a ticket: waves of in_flight units, and in a wave the units' first spans, then their second, ... so
 * that threads seldom meet at one head. */
static inline void vjp_ticket(const vjp_plan *plan, int64_t ticket, int64_t *unit, int64_t *span) {
    const int64_t first = ticket / (plan->in_flight * plan->spans) * plan->in_flight;
    const int64_t width = plan->units - first < plan->in_flight ? plan->units - first : plan->in_flight;
    const int64_t place = ticket - first * plan->spans;
    *unit = first + place % width;
    *span = place / width;
}

/* Bytes that a task of the mask's pass takes: attention_vjp.tmpl.c. */
static inline size_t vjp_mask_bytes(const invar_attention_vjp_call *call) {
    const int64_t k = VJP_PADDED(call->forward.key_dim), v = VJP_PADDED(call->forward.value_dim), widest = k > v ? k : v;
    const int64_t rows = INVAR_ATTENTION_VJP_MASK_ROWS;
    const int64_t floats = rows * (k + v + 3 * VJP_KEYS + VSUM_LANES) + VJP_KEYS * (k + v + widest + 1) + 2 * v;
    return call->dmask.data ? sizeof(float) * (size_t)floats + sizeof(vjp_row) * (size_t)rows : 0;
}

static inline void vjp_wait(_Atomic int32_t *counter, int32_t value) {
    for (int tries = 0; atomic_load_explicit(counter, memory_order_acquire) != value; tries++)
        if (tries > 256) sched_yield();
}

/* The spans that may add to a query tile; none where first > last. */
typedef struct vjp_turns {
    int64_t first, last;
} vjp_turns;

static inline vjp_turns vjp_turns_of(const invar_attention_call *call, const vjp_plan *plan, int64_t length, int64_t query_first,
                                     int64_t query_last) {
    const int64_t first = invar_attention_range(call, length, query_first).first;
    const int64_t last = invar_attention_range(call, length, query_last - 1).last;
    if (first >= last) return (vjp_turns){ 1, 0 };
    return (vjp_turns){ first / plan->span, (last - 1) / plan->span };
}

#endif
