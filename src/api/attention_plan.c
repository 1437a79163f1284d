/* How scaled_dot_product_attention is cut into tasks on the CPU.
 *
 * A piece is a chunk of one unit's rows against all keys: K and V are packed, or brought into a core's caches, once for the chunk.
 * Long chunks save that; short ones keep all threads busy. Where there are too few chunks for the threads, a task is some blocks of a
 * piece's keys. A mask with rows of its own is what long chunks cannot keep in cache, so it has rules of its own. All of this
 * follows shapes, masks' strides and the number of threads; no bit of a result depends on it. */
#include "api/attention_plan.h"

enum {
    EVEN_TASKS = 8,      /* pieces for each thread that even out whatever their order */
    FEW_ROWS = 16,       /* rows of a unit that kernels for few rows take */
    TINY_FLOPS = 1 << 21 /* below this much work, waking a thread costs more than it brings: some 20 µs */
};

typedef invar_attention_schedule schedule;

/* Pieces of so many rows, each of one unit. */
static int64_t pieces_of(const schedule *s, int64_t rows) { return s->units * invar_pieces(s->unit_rows, rows); }

static int64_t whole_tiles(int64_t rows) { return rows / INVAR_ATTENTION_TILE * INVAR_ATTENTION_TILE; }

/* Each chunk packs K and V, all of them. */
static bool packs(const invar_attention_call *call) { return call->type == INVAR_BF16 || invar_attention_in_parts(call); }

/* On cores with the 2 MiB of cache that come with AMX chunks are longer, but for what a mask with rows of its own takes there. */
static bool has_mask_rows(const invar_attention_call *call) {
    return call->strong_cores && call->mask.data && call->mask.row_stride;
}

/* In float32 the chunk has few rows then, each with a mask of its own. */
static bool few_masked(const invar_attention_call *call) { return has_mask_rows(call) && call->type == INVAR_F32; }

/* Packed chunks of all heads take turns at one mask, whose rows of a chunk then stay in the second-level cache. */
static bool kept_mask(const invar_attention_call *call) {
    return has_mask_rows(call) && packs(call) && call->mask.head_stride == 0;
}

/* ---- heads of a piece ------------------------------------------------------------------------------- */

enum {
    COPIED_BYTES = 8 << 20, /* of a copy of its mask that several heads read, at most; */
    COPIED_HEADS = 4        /* and so many of them, at least: making it takes a fifth of the first one's time */
};

/* Whether a copy of the mask can be made for pieces of so many rows, in the order of products. */
static bool can_copy_mask(const schedule *s, int64_t rows) {
    const invar_attention_call *call = s->call;
    const bool numbers = call->type == INVAR_BF16 && call->mask_kind == INVAR_MASK_BF16 && call->mask.column_stride == 2;
    const bool bytes = call->mask_kind == INVAR_MASK_BOOL && call->mask.column_stride == 1;
    return kept_mask(call) && (numbers || bytes) && call->softcap == 0 && s->blocks >= 2 && 2 * rows * call->key_len <= COPIED_BYTES;
}

/* Heads of a piece of so many rows that read one copy of their mask, which the first one makes; 1: each reads the mask where it
 * stands, whose rows lie pages apart. Threads have as many pieces each, or enough to even out; two at least where a causal mask makes
 * the first ones short. */
static int64_t copied_heads(const schedule *s, int64_t rows) {
    const invar_attention_call *call = s->call;
    const int64_t all = pieces_of(s, rows), least = s->threads > 1 && call->causal ? 2 * s->threads : s->threads;
    if (!can_copy_mask(s, rows)) return 1;
    for (int64_t heads = call->kv_heads; heads >= COPIED_HEADS; heads--) {
        const int64_t pieces = all / heads;
        const bool even = (pieces >= least && pieces % s->threads == 0) || pieces >= EVEN_TASKS * s->threads;
        if (call->kv_heads % heads == 0 && even) return heads;
    }
    return 1;
}

/* Those that share a mask turn each block of it once, or copy it, as long as threads have enough pieces. */
static int64_t heads_together(const schedule *s) {
    const invar_attention_call *call = s->call;
    int64_t heads = 1;
    if (s->split || s->unit_rows <= FEW_ROWS) return 1;
    if (kept_mask(call)) return copied_heads(s, s->chunk_rows);
    if (!few_masked(call) || call->mask.head_stride != 0) return 1;
    while (heads < INVAR_ATTENTION_HEADS && call->kv_heads % (2 * heads) == 0 &&
           (s->threads == 1 || s->tasks / (2 * heads) >= EVEN_TASKS * s->threads))
        heads *= 2;
    return heads;
}

/* Under a causal mask the chunks that see most keys come first. Where heads share such a mask, it is what stays in cache: a head's
 * K and V are as many bytes, but follow each other in memory, while the mask's rows lie pages apart. */
static bool takes_units_first(const schedule *s) {
    const invar_attention_call *call = s->call;
    const bool uneven = call->causal && s->threads > 1 && s->tasks < EVEN_TASKS * s->threads;
    return uneven || (few_masked(call) && call->mask.head_stride == 0) || kept_mask(call);
}

/* ---- rows of a chunk ---------------------------------------------------------------------------------- */

enum {
    THREAD_TASKS = 4,     /* chunks for each thread, which do not all run at one speed */
    THREAD_PACKED = 1,    /* where each of them packs the keys that it shares with the others */
    MASKED_ROWS = 128,    /* of a float32 chunk with a mask a row: the cache keeps K and V of a head, and the next block's part of
                           * these rows, which memory brings along with this one's */
    KEPT_BYTES = 1 << 20, /* of a mask that all heads share: half of those 2 MiB */
    KEPT_ROWS = 512       /* of a packed chunk with such a mask, at least: of 256 packing takes a tenth. Of one with a mask for each
                           * head at most, whose rows' pages the processor then remembers from one block to the next */
};

/* Up to twice as many, so that K and V are packed half as often, as far as that leaves each thread eight chunks. */
static int64_t packed_rows(const schedule *s, int64_t rows) {
    int64_t more = 2 * rows;
    while (more > rows && s->threads > 1 && pieces_of(s, more) < EVEN_TASKS * s->threads) more -= INVAR_ATTENTION_TILE;
    return more;
}

/* As many as a copy of the mask that all heads share has room for, or else as stay in cache. */
static int64_t kept_rows(const schedule *s, int64_t rows) {
    const invar_attention_call *call = s->call;
    const int64_t room = whole_tiles(COPIED_BYTES / (2 * invar_larger(call->key_len, 1)));
    const int64_t copied = invar_smaller(rows, room);
    if (copied >= KEPT_ROWS && copied_heads(s, copied) > 1) return copied;
    const int64_t row = call->key_len * call->mask.column_stride, fit = row > 0 ? KEPT_BYTES / row * call->group : rows;
    return rows <= fit ? rows : fit > KEPT_ROWS ? whole_tiles(fit) : KEPT_ROWS;
}

/* No more than share the caches. */
static int64_t cached_rows(const schedule *s) {
    const invar_attention_call *call = s->call;
    int64_t rows = invar_attention_chunk_rows(call);
    if (call->strong_cores && packs(call)) rows = packed_rows(s, rows);
    if (kept_mask(call)) return kept_rows(s, rows);
    const int64_t most = few_masked(call) ? MASKED_ROWS : has_mask_rows(call) && packs(call) ? KEPT_ROWS : rows;
    return invar_smaller(rows, most);
}

/* As many as keep all threads busy. */
static int64_t busy_rows(const schedule *s) {
    const int64_t each = !packs(s->call) ? THREAD_TASKS : s->call->causal ? 2 * THREAD_PACKED : THREAD_PACKED;
    const int64_t enough = s->threads > 1 ? each * s->threads : 1;
    int64_t rows = cached_rows(s);
    while (rows > INVAR_ATTENTION_TILE && pieces_of(s, rows) < enough) rows -= INVAR_ATTENTION_TILE;
    return rows;
}

/* Chunks of a unit are as equal as whole tiles allow. */
static void cut_rows(schedule *s) {
    s->chunk_rows = s->split ? INVAR_ATTENTION_TILE : busy_rows(s);
    s->chunk_rows = invar_smaller(s->chunk_rows, invar_larger(s->unit_rows, 1));
    s->chunks = invar_pieces(s->unit_rows, s->chunk_rows);
    if (s->chunks > 1) s->chunk_rows = invar_attention_tile_rows(invar_pieces(s->unit_rows, s->chunks));
}

/* ---- split keys ---------------------------------------------------------------------------------------- */

enum {
    FEW_TASKS = 16,        /* tiles of rows from which on keys are not split, */
    SPLIT_TASKS = 2,       /* or fewer, if each thread has as many */
    READING_TASKS = 4,     /* or as many of FEW_ROWS in float32, which are bound by what they read; */
    MANY_THREADS = 4,      /* on more threads than these EVEN_TASKS, since memory does not serve many cores alike */
    ENOUGH_TASKS = 32,     /* parts that keep 16 threads busy */
    MOST_RUN_BLOCKS = 8,   /* blocks in a row that a task reads ahead through */
    PART_BUDGET = 4 << 20  /* floats of parts at once: 16 MiB */
};

/* Whether each block of keys is a task of its own, since a unit's chunks of rows are too few to keep the threads busy. Its parts
 * are written, read and merged again, and half types pack its keys for 64 rows at a time, so that splitting costs up to a
 * third of a call. */
static bool splits_keys(const schedule *s, const invar_kernels *kernels) {
    const int64_t tiles = s->units * invar_attention_tile_rows(s->unit_rows) / INVAR_ATTENTION_TILE;
    const bool reads = s->unit_rows <= FEW_ROWS;
    const int64_t each = reads && s->threads > MANY_THREADS ? EVEN_TASKS : reads && !packs(s->call) ? READING_TASKS : SPLIT_TASKS;
    return s->threads > 1 && tiles && tiles < each * s->threads && (reads || tiles < FEW_TASKS) && s->blocks > 1 &&
           kernels != &invar_kernels_reference;
}

static void cut_keys(schedule *s) {
    s->part_floats = s->chunk_rows * (s->call->value_dim + 2);
    const int64_t pieces = s->units * s->chunks, room = PART_BUDGET / s->part_floats;
    s->blocks_at_once = invar_larger(invar_smaller(room, s->blocks), 1);
    s->pieces_at_once = invar_larger(invar_smaller(room / s->blocks, pieces), 1);
    s->run_blocks = invar_larger(invar_smaller(s->pieces_at_once * s->blocks_at_once / ENOUGH_TASKS, MOST_RUN_BLOCKS), 1);
    s->tasks = s->pieces_at_once * invar_attention_runs(s, s->blocks_at_once);
}

/* ---- the plan ------------------------------------------------------------------------------------------- */

invar_attention_schedule invar_attention_plan(const invar_attention_call *call, const invar_kernels *kernels, int threads) {
    schedule s = { .call = call, .threads = threads, .units = invar_attention_units(call),
                   .unit_rows = invar_attention_unit_rows(call) };
    s.kernel = call->type == INVAR_BF16  ? kernels->attention_bf16 /* so are q, k and v */
               : call->type == INVAR_F16 ? kernels->attention_f16
                                         : kernels->attention;
    s.blocks = invar_pieces(call->key_len, call->key_block);
    s.split = splits_keys(&s, kernels);
    cut_rows(&s);
    s.tasks = s.units * s.chunks;
    s.units_first = takes_units_first(&s);
    s.heads = heads_together(&s);
    s.tasks /= s.heads;
    if (s.split) cut_keys(&s);
    const double work = 2.0 * (double)(call->key_dim + call->value_dim) * (double)call->key_len *
                        (double)(s.units * s.unit_rows);
    s.alone = work < TINY_FLOPS || s.tasks == 1;
    if (s.alone) s.split = false;
    if (s.alone) s.tasks = 1;
    return s;
}
