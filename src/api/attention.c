/* scaled_dot_product_attention: checks the call, plans its pieces, runs them.
 *
 * A piece is a chunk of one unit's rows (attention.h) against all keys: K and V are packed once for the chunk. Where there
 * are too few chunks to keep the threads busy, a piece is one block of keys, and the parts of a row are merged afterwards in
 * order; parts that would not fit in part_budget are computed and merged in waves. A chunk's rows follow shapes and the
 * number of threads; no bit of a result depends on them. */
#include "api/attention_check.h"
#include "core/context.h"
#include "cpu/dispatch.h"
#include "cuda/attention.h"

#include <stdio.h>

static const char operation[] = "scaled_dot_product_attention";

enum {
    ENOUGH_TASKS = 32,         /* parts of split keys that keep 16 threads busy */
    FEW_TASKS = 16,            /* tiles of rows from which on keys are not split, */
    SPLIT_TASKS = 2,           /* or fewer, if each thread has as many */
    READING_TASKS = 4,         /* or as many of FEW_ROWS in float32, which are bound by what they read; */
    MANY_THREADS = 4,          /* on more threads than these eight, since memory does not serve many cores alike */
    THREAD_TASKS = 4,          /* chunks for each thread, which do not all run at one speed */
    THREAD_PACKED = 1,         /* where each of them packs the keys that it shares with the others */
    MASKED_ROWS = 128,         /* of a float32 chunk with a mask a row, where cores have the 2 MiB of cache that come with AMX:
                                * they keep K and V of a head, and the next block's part of these rows, which memory brings
                                * along with this one's */
    KEPT_BYTES = 1 << 20,      /* of a mask that all heads share: half of those 2 MiB */
    KEPT_ROWS = 512,           /* of a packed chunk with such a mask, at least: of 256 packing takes a tenth. Of one with a mask for
                                * each head at most, whose rows' pages the processor then remembers from one block to the next */
    COPIED_BYTES = 8 << 20,    /* of a copy of its mask that several heads read, at most; */
    COPIED_HEADS = 4,          /* and so many of them, at least: making it takes a fifth of the first one's time */
    EVEN_TASKS = 8,            /* pieces for each thread that even out whatever their order */
    MOST_RUN_BLOCKS = 8,       /* blocks in a row that a task reads ahead through */
    FEW_ROWS = 16,             /* rows of a unit that kernels for few rows take */
    PART_BUDGET = 4 << 20,     /* floats of parts at once: 16 MiB */
    TINY_FLOPS = 1 << 21       /* below this much work, waking a thread costs more than it brings: some 20 µs */
};

typedef struct schedule {
    const invar_attention_call *call;
    invar_attention_kernel *kernel;
    int64_t units, unit_rows;
    int64_t chunk_rows, chunks;   /* rows of a piece, of each of its units; chunks of a unit */
    int64_t blocks;               /* of key_len keys */
    bool split, alone;            /* alone: one task does everything */
    int64_t heads;                /* units of a piece */
    bool units_first;             /* all units' last chunks, then those before; else a unit's K and V stay in cache */
    int64_t part_floats;          /* one block's part of a chunk */
    int64_t pieces_at_once, blocks_at_once; /* of a wave; a piece here is a chunk with all its blocks */
    int64_t run_blocks;           /* blocks that one task computes, one after the other */
    int64_t tasks;
    float *parts, *state;
    int64_t wave_piece, wave_pieces, wave_block, wave_blocks; /* the wave that runs */
} schedule;

static int64_t runs_of(const schedule *s, int64_t blocks) { return (blocks + s->run_blocks - 1) / s->run_blocks; }

static void plan_split(schedule *s) {
    const invar_attention_call *call = s->call;
    s->part_floats = s->chunk_rows * (call->value_dim + 2);
    const int64_t pieces = s->units * s->chunks, room = PART_BUDGET / s->part_floats;
    s->blocks_at_once = room < 1 ? 1 : room < s->blocks ? room : s->blocks;
    s->pieces_at_once = room / s->blocks < 1 ? 1 : room / s->blocks < pieces ? room / s->blocks : pieces;
    s->run_blocks = s->pieces_at_once * s->blocks_at_once / ENOUGH_TASKS;
    if (s->run_blocks > MOST_RUN_BLOCKS) s->run_blocks = MOST_RUN_BLOCKS;
    if (s->run_blocks < 1) s->run_blocks = 1;
    s->tasks = s->pieces_at_once * runs_of(s, s->blocks_at_once);
}

/* float16 goes in parts on AMX tiles. */
static bool in_parts(const invar_attention_call *call) { return call->type == INVAR_F16 && call->strong_cores; }

/* Each chunk packs K and V, all of them. */
static bool packs(const invar_attention_call *call) { return call->type == INVAR_BF16 || in_parts(call); }

/* Rows of such a chunk where cores have the 2 MiB of cache that come with AMX: up to twice as many, so that K and V are packed half
 * as often, as far as that leaves each thread eight chunks. */
static int64_t packed_rows(const schedule *s, int threads, int64_t rows) {
    int64_t more = 2 * rows;
    while (more > rows && threads > 1 && s->units * ((s->unit_rows + more - 1) / more) < EVEN_TASKS * threads)
        more -= INVAR_ATTENTION_TILE;
    return more;
}

/* Chunks have few rows, each with a mask of its own. */
static bool few_masked(const invar_attention_call *call) {
    return call->mask.data && call->mask.row_stride && call->type == INVAR_F32 && call->strong_cores;
}

/* Packed chunks of all heads take turns at one mask, whose rows of a chunk then stay in the second-level cache. */
static bool kept_mask(const invar_attention_call *call) {
    return call->mask.data && call->mask.row_stride && call->mask.head_stride == 0 && packs(call) && call->strong_cores;
}

/* Heads of a piece of so many rows that read one copy of their mask, in the order of products, which the first one makes; 1: each
 * reads the mask where it stands, whose rows lie pages apart. Threads have as many pieces each, or enough to even out; two at least
 * where a causal mask makes the first ones short. */
static int64_t copied_heads(const schedule *s, int threads, int64_t rows) {
    const invar_attention_call *call = s->call;
    const int64_t tasks = s->units * ((s->unit_rows + rows - 1) / rows), least = threads > 1 && call->causal ? 2 * threads : threads;
    const bool numbers = call->type == INVAR_BF16 && call->mask_kind == INVAR_MASK_BF16 && call->mask.column_stride == 2;
    const bool bytes = call->mask_kind == INVAR_MASK_BOOL && call->mask.column_stride == 1;
    if (!kept_mask(call) || !(numbers || bytes) || call->softcap != 0 || s->blocks < 2) return 1;
    if (2 * rows * call->key_len > COPIED_BYTES) return 1;
    for (int64_t heads = call->kv_heads; heads >= COPIED_HEADS; heads--) {
        const int64_t pieces = tasks / heads;
        const bool even = (pieces >= least && pieces % threads == 0) || pieces >= EVEN_TASKS * threads;
        if (call->kv_heads % heads == 0 && even) return heads;
    }
    return 1;
}

/* Rows of a chunk of all heads: as many as a copy of their mask has room for, or else as stay in cache. */
static int64_t kept_rows(const schedule *s, int threads, int64_t rows) {
    const invar_attention_call *call = s->call;
    const int64_t room = COPIED_BYTES / (2 * (call->key_len > 0 ? call->key_len : 1)) / INVAR_ATTENTION_TILE * INVAR_ATTENTION_TILE;
    const int64_t copied = rows < room ? rows : room;
    if (copied >= KEPT_ROWS && copied_heads(s, threads, copied) > 1) return copied;
    const int64_t row = call->key_len * call->mask.column_stride, fit = row > 0 ? KEPT_BYTES / row * call->group : rows;
    return rows <= fit ? rows : fit > KEPT_ROWS ? fit / INVAR_ATTENTION_TILE * INVAR_ATTENTION_TILE : KEPT_ROWS;
}

/* Under a causal mask the chunks that see most keys come first. Where heads share such a mask, it is what stays in cache: a head's
 * K and V are as many bytes, but follow each other in memory, while the mask's rows lie pages apart. */
static bool units_first(const schedule *s, int threads) {
    const invar_attention_call *call = s->call;
    const bool uneven = call->causal && threads > 1 && s->tasks < EVEN_TASKS * threads;
    return uneven || (few_masked(call) && call->mask.head_stride == 0) || kept_mask(call);
}

/* Heads of a piece: those that share a mask turn each block of it once, or copy it, as long as threads have enough pieces. */
static int64_t heads_together(const schedule *s, int threads) {
    const invar_attention_call *call = s->call;
    int64_t heads = 1;
    if (kept_mask(call)) return copied_heads(s, threads, s->chunk_rows);
    if (!few_masked(call) || call->mask.head_stride != 0) return 1;
    while (heads < INVAR_ATTENTION_HEADS && call->kv_heads % (2 * heads) == 0 &&
           (threads == 1 || s->tasks / (2 * heads) >= EVEN_TASKS * threads))
        heads *= 2;
    return heads;
}

/* Rows of a chunk: as many as keep all threads busy, and no more than share the caches. */
static int64_t chunk_rows(const schedule *s, int threads) {
    const invar_attention_call *call = s->call;
    const int64_t each = !packs(call) ? THREAD_TASKS : call->causal ? 2 * THREAD_PACKED : THREAD_PACKED;
    const int64_t enough = threads > 1 ? each * threads : 1;
    int64_t rows = invar_attention_chunk_rows(call);
    if (call->strong_cores && packs(call)) rows = packed_rows(s, threads, rows);
    if (few_masked(call) && rows > MASKED_ROWS) rows = MASKED_ROWS;
    if (kept_mask(call)) rows = kept_rows(s, threads, rows);
    else if (call->mask.data && call->mask.row_stride && packs(call) && call->strong_cores && rows > KEPT_ROWS) rows = KEPT_ROWS;
    while (rows > INVAR_ATTENTION_TILE && s->units * ((s->unit_rows + rows - 1) / rows) < enough) rows -= INVAR_ATTENTION_TILE;
    return rows;
}

/* Whether each block of keys is a task of its own, since a unit's chunks of rows are too few to keep the threads busy. Its parts
 * are written, read and merged again, and half types pack its keys for 64 rows at a time, so that splitting costs up to a
 * third of a call. */
static bool splits_keys(const schedule *s, const invar_kernels *kernels, int threads) {
    const int64_t tiles = s->units * invar_attention_tile_rows(s->unit_rows) / INVAR_ATTENTION_TILE;
    const bool reads = s->unit_rows <= FEW_ROWS;
    const int64_t each = reads && threads > MANY_THREADS ? EVEN_TASKS : reads && !packs(s->call) ? READING_TASKS : SPLIT_TASKS;
    return threads > 1 && tiles && tiles < each * threads && (reads || tiles < FEW_TASKS) && s->blocks > 1 &&
           kernels != &invar_kernels_reference;
}

static schedule plan(const invar_attention_call *call, const invar_kernels *kernels, int threads) {
    schedule s = { .call = call, .units = invar_attention_units(call), .unit_rows = invar_attention_unit_rows(call) };
    s.kernel = call->type == INVAR_BF16  ? kernels->attention_bf16 /* so are q, k and v */
               : call->type == INVAR_F16 ? kernels->attention_f16
                                         : kernels->attention;
    s.blocks = (call->key_len + call->key_block - 1) / call->key_block;
    s.split = splits_keys(&s, kernels, threads);
    s.chunk_rows = s.split ? INVAR_ATTENTION_TILE : chunk_rows(&s, threads);
    if (s.chunk_rows > s.unit_rows) s.chunk_rows = s.unit_rows > 0 ? s.unit_rows : 1;
    s.chunks = (s.unit_rows + s.chunk_rows - 1) / s.chunk_rows;
    if (s.chunks > 1) s.chunk_rows = invar_attention_tile_rows((s.unit_rows + s.chunks - 1) / s.chunks);
    s.tasks = s.units * s.chunks;
    s.units_first = units_first(&s, threads);
    s.heads = s.split || s.unit_rows <= FEW_ROWS ? 1 : heads_together(&s, threads);
    s.tasks /= s.heads;
    if (s.split) plan_split(&s);
    const double work = 2.0 * (double)(call->key_dim + call->value_dim) * (double)call->key_len *
                        (double)(s.units * s.unit_rows);
    s.alone = work < TINY_FLOPS || s.tasks == 1;
    if (s.alone) s.split = false;
    if (s.alone) s.tasks = 1;
    return s;
}

static invar_attention_work piece_work(const schedule *s, int64_t piece) {
    const int64_t units = s->units / s->heads, unit = (s->units_first ? piece % units : piece / s->chunks) * s->heads;
    const int64_t turn = s->units_first ? piece / units : piece % s->chunks;
    const int64_t chunk = s->call->causal ? s->chunks - 1 - turn : turn; /* what takes longest first: the last may be short */
    invar_attention_work work = { .batch = unit / s->call->kv_heads, .kv_head = unit % s->call->kv_heads, .heads = s->heads };
    work.row_first = chunk * s->chunk_rows;
    work.row_last = work.row_first + s->chunk_rows < s->unit_rows ? work.row_first + s->chunk_rows : s->unit_rows;
    work.block_last = s->blocks;
    work.part_stride = s->part_floats;
    return work;
}

static void run_piece(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    const invar_attention_work work = piece_work(s, index);
    s->kernel(s->call, &work, scratch);
}

static void run_alone(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    (void)index;
    for (int64_t piece = 0; piece < s->units / s->heads * s->chunks; piece++) run_piece(argument, piece, scratch);
}

static void run_part(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    const int64_t runs = runs_of(s, s->wave_blocks), piece = index / runs, first = index % runs * s->run_blocks;
    const int64_t last = first + s->run_blocks < s->wave_blocks ? first + s->run_blocks : s->wave_blocks;
    invar_attention_work work = piece_work(s, s->wave_piece + piece);
    work.block_first = s->wave_block + first;
    work.block_last = s->wave_block + last;
    work.parts = s->parts + (piece * s->wave_blocks + first) * s->part_floats;
    s->kernel(s->call, &work, scratch);
}

static void run_merge(void *argument, int64_t index, void *scratch) {
    const schedule *s = argument;
    invar_attention_work work = piece_work(s, s->wave_piece + index);
    work.block_first = s->wave_block;
    work.block_last = s->wave_block + s->wave_blocks;
    work.parts = s->parts + index * s->wave_blocks * s->part_floats;
    work.state = s->state + index * s->part_floats;
    work.resume = s->wave_block > 0;
    work.stage = work.block_last == s->blocks ? INVAR_ATTENTION_MERGE_LAST : INVAR_ATTENTION_MERGE;
    s->kernel(s->call, &work, scratch);
}

static void run_waves(schedule *s, invar_run *run) {
    const int64_t pieces = s->units * s->chunks;
    for (s->wave_piece = 0; s->wave_piece < pieces; s->wave_piece += s->wave_pieces) {
        const int64_t left = pieces - s->wave_piece;
        s->wave_pieces = left < s->pieces_at_once ? left : s->pieces_at_once;
        for (s->wave_block = 0; s->wave_block < s->blocks; s->wave_block += s->wave_blocks) {
            const int64_t blocks_left = s->blocks - s->wave_block;
            s->wave_blocks = blocks_left < s->blocks_at_once ? blocks_left : s->blocks_at_once;
            invar_run_tasks(run, s->wave_pieces * runs_of(s, s->wave_blocks), run_part, s);
            invar_run_tasks(run, s->wave_pieces, run_merge, s);
        }
    }
}

static size_t shared_bytes(const schedule *s) {
    if (!s->split) return 0;
    return sizeof(float) * (size_t)(s->part_floats * s->pieces_at_once * (s->blocks_at_once + 1));
}

static void describe(invar_plan *plan, const schedule *s, const invar_kernels *kernels) {
    const invar_attention_call *call = s->call;
    const char *shape = s->split ? "keys split" : s->alone ? "one thread" : "rows";
    snprintf(plan->kernel, sizeof plan->kernel, "attention%s.%s",
             s->kernel == kernels->attention_bf16 ? "_bf16" : in_parts(call) ? "_f16" : "", kernels->name);
    snprintf(plan->reason, sizeof plan->reason, "%s: %s", shape,
             s->split ? "few chunks of rows, so each block of keys is a task of its own and parts are merged in order"
             : s->alone ? "too little work to wake threads for"
             : s->heads > 1 ? "a task is a chunk of query rows of kv heads that share their mask, against all their keys"
                            : "a task is a chunk of one kv head's query rows against all its keys");
    plan->query_tile = (int32_t)s->chunk_rows;
    plan->key_block = (int32_t)call->key_block;
    plan->key_splits = s->split ? s->blocks_at_once : 1;
    plan->flops = invar_attention_flops(call);
    if (in_parts(call) && plan->flops > 0) /* four products for one of scores, three for one of O */
        plan->flops *= (double)(4 * call->key_dim + 3 * call->value_dim) / (double)(call->key_dim + call->value_dim);
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "%s", in_parts(call) ? "bfloat16" : invar_attention_arithmetic(call));
    plan->bytes = invar_attention_bytes(call);
}

static invar_status run(invar_context *context, const invar_attention_call *call, const invar_execution *execution) {
    const invar_kernels *kernels = invar_kernels_for(context->kernels, call->type);
    schedule s = plan(call, kernels, invar_run_threads(context, execution));
    invar_run run;
    bool planned;
    INVAR_TRY(invar_run_begin(&run, context, execution, s.tasks, shared_bytes(&s),
                              invar_attention_scratch(call, s.chunk_rows, s.heads), operation, &planned));
    if (planned) {
        describe(execution->plan, &s, kernels);
        return INVAR_OK;
    }
    if (s.split) {
        s.parts = (float *)(void *)run.shared;
        s.state = s.parts + s.part_floats * s.pieces_at_once * s.blocks_at_once;
        run_waves(&s, &run);
    } else {
        invar_run_tasks(&run, s.tasks, s.alone ? run_alone : run_piece, &s);
    }
    invar_run_end(&run);
    return INVAR_OK;
}

static invar_status run_on_gpu(invar_context *context, const invar_attention_call *call, invar_device device,
                               const invar_execution *execution) {
    const invar_float_environment callers = invar_float_environment_set(); /* for the scale, which is rounded there */
    const invar_status status = invar_cuda_attention_run(call, device, execution, context, operation);
    invar_float_environment_restore(callers);
    if (status != INVAR_OK || !execution->plan) return status;
    invar_attention_call unread = *call; /* as if every batch had all keys: its lengths are on the device */
    unread.kv_lengths.data = NULL;
    execution->plan->flops = invar_attention_flops(&unread);
    execution->plan->bytes = invar_attention_bytes(&unread);
    snprintf(execution->plan->arithmetic, sizeof execution->plan->arithmetic, "%s", invar_attention_arithmetic(call));
    return INVAR_OK;
}

invar_status invar_scaled_dot_product_attention(
    invar_context *context, const invar_tensor *out, const invar_tensor *lse, const invar_tensor *q,
    const invar_tensor *k, const invar_tensor *v, const invar_tensor *mask, const invar_tensor *sinks,
    const invar_tensor *kv_lengths, const invar_attention_options *options) {
    invar_attention_options known = INVAR_ATTENTION_OPTIONS_INIT;
    invar_attention_call call;
    invar_attention_views views;
    invar_view out_view = { 0 }, lse_view = { 0 };
    INVAR_TRY(invar_options_read(&known, sizeof known, options, operation));
    INVAR_TRY(invar_context_resolve(&context));
    INVAR_TRY(invar_attention_check(&call, &views, operation, q, k, v, mask, sinks, kv_lengths, &known));
    call.strong_cores = invar_kernels_strong_cores(context->kernels);
    INVAR_TRY(invar_attention_check_rows(&views, &call.out, &out_view, out, call.value_dim, operation, "out"));
    INVAR_TRY(invar_view_expect_type(&out_view, call.type, operation, "out"));
    if (lse) INVAR_TRY(invar_attention_check_lse(&call, &views, &call.lse, &lse_view, lse, operation, "lse"));
    const invar_view *const all[] = { &views.q,     &views.k,          &views.v,  &views.mask,
                                      &views.sinks, &views.kv_lengths, &lse_view, &out_view };
    INVAR_TRY(invar_check_output(&out_view, all, 8, NULL, NULL, operation, "out"));
    if (lse) INVAR_TRY(invar_check_output(&lse_view, all, 8, NULL, NULL, operation, "lse"));
    if (!out_view.count && !lse_view.count) call.query_len = 0; /* nothing to compute */
    if (views.device.type == INVAR_DEVICE_CUDA) return run_on_gpu(context, &call, views.device, &known.execution);
    return run(context, &call, &known.execution);
}
