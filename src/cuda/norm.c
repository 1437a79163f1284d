/* The norms on CUDA devices: which specialisation of a program, and its launches.
 *
 * A row's threads, and the elements that each of them takes, follow its types and its features alone; a row's bits depend on
 * nothing that rides along. The rows of a chunk follow those and the number of rows; chunks' sums for dweight and dbias are added
 * up in the chunks' order. What else is chosen here, widths of accesses, stages, blocks, changes no bit. */
#include "cuda/norm.h"

#include "core/number.h"
#include "cuda/device/norm_job.h"
#include "cuda/module.h"

#include <stdio.h>

enum {
    LEAST_GROUP = 8,       /* threads a row */
    MOST_GROUP = 512,
    MOST_PIECES = 8,       /* a thread's share of a row in registers, of 4 or 8 elements each */
    BLOCK_THREADS = 128,   /* of several short rows */
    VJP_THREADS = 256,     /* the same for VJPs, whose blocks add up sums */
    CHUNK_ELEMENTS = 65536, /* of a chunk of rows and a vector that it sums for, within these bounds of rows: writing and reading
                             * partial sums costs within a twelfth of what the rows do */
    CHUNK_ROWS_LEAST = 16,
    CHUNK_ROWS_MOST = 512,
    MOST_CLUSTER = 8,      /* blocks that share long rows: what every GPU with clusters has */
    CLUSTER_PIECES = 4,    /* of a thread's, beyond which more blocks share a row where it holds sums: shared memory has room for
                            * two rows of a VJP then, and registers of add_rms_norm for a second block */
    AT_ONCE = 120,         /* their blocks of most threads that are to run at once: one a multiprocessor, of an H100 those that
                            * clusters of 8 reach */
    LONG_CHUNK_ROWS = 4,   /* where no thread holds sums: many blocks hide how long memory takes */
    ENOUGH_THREADS = 65536, /* of all chunks, below which they are made smaller: a multiprocessor has some hundreds of them */
    SLOT = 16,             /* bytes of a piece in shared memory, as norm_vjp.cu has them */
    MOST_SUMS = 32,        /* a thread's sums for dweight */
    SHORT_SUMS = 16,       /* up to which it has registers for those of dbias too */
    MOST_FLOATS = 32,      /* sums x + residual that it holds whatever the accesses */
    MERGE_FEATURES = 32,   /* a block of norm_merge.cu */
    MERGE_THREADS = 1024,
    MOST_BLOCKS = 0x7fffffff /* of a grid */
};

/* ---- the call as programs read it -------------------------------------------------------------------- */

typedef struct norm_work {
    const invar_cuda_norm_call *call;
    invar_cuda_norm_job job;
    char defines[INVAR_CUDA_DEFINES];
    int group, pieces, cluster, width, stages; /* as norm_row.cuh and norm_vjp.cu tell */
    unsigned threads, shared;         /* of a block; bytes */
    int64_t blocks;                   /* in rows of the grid: */
    unsigned grid_rows;
    size_t workspace;
} norm_work;

static invar_cuda_norm_operand operand_of(const invar_norm_job *job, int index) {
    const invar_norm_operand *from = &job->operand[index];
    invar_cuda_norm_operand operand = { .data = from->data, .step = from->step };
    for (int d = 0; d < job->ndim; d++) operand.stride[d] = from->stride[d];
    return operand;
}

static invar_cuda_norm_vector vector_of(const invar_view *view) {
    if (!view) return (invar_cuda_norm_vector){ NULL, 0 };
    return (invar_cuda_norm_vector){ view->data, view->stride[0] * (int64_t)invar_view_item_size(view) };
}

static invar_status refuse_float64(const invar_cuda_norm_call *call) {
    const invar_norm_operand *operand = call->job->operand;
    const struct {
        const char *name;
        bool wrong;
    } arguments[] = {
        { "x", operand[INVAR_NORM_X].type == INVAR_F64 },
        { call->backward ? "dy" : "residual", operand[INVAR_NORM_RESIDUAL].type == INVAR_F64 },
        { "weight", call->weight && call->weight->type == INVAR_F64 },
        { "bias", call->bias && call->bias->type == INVAR_F64 },
    };
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        if (arguments[i].wrong)
            return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected float32, float16 or bfloat16 on a CUDA device, got float64",
                              call->operation, arguments[i].name);
    return INVAR_OK;
}

static void fill_job(norm_work *work, const invar_cuda_norm_call *call) {
    const invar_norm_job *from = call->job;
    work->job = (invar_cuda_norm_job){ .x = operand_of(from, INVAR_NORM_X), .other = operand_of(from, INVAR_NORM_RESIDUAL),
                                       .y = operand_of(from, INVAR_NORM_Y), .sum = operand_of(from, INVAR_NORM_SUM),
                                       .weight = vector_of(call->weight), .bias = vector_of(call->bias),
                                       .features = from->features, .rows = from->rows, .ndim = from->ndim,
                                       .eps = (float)from->eps };
    for (int d = 0; d < from->ndim; d++) work->job.shape[d] = from->shape[d];
}

/* ---- words of a specialisation ------------------------------------------------------------------------- */

typedef struct norm_words {
    int x, other, y, sum, weight, bias; /* element types; -1: absent */
    int vec, width, group, pieces, cluster;
    bool centred, backward, sums;
    int stages, major; /* major: of the GPU's compute capability */
    bool clusters;     /* whether the GPU and its compiler have them */
} norm_words;

static const char *type_word(int type) { return type == INVAR_F16 ? "half16" : type == INVAR_BF16 ? "bfloat16" : "float"; }

static unsigned threads_of(const norm_words *w) {
    const unsigned least = w->backward ? VJP_THREADS : BLOCK_THREADS;
    return w->group > 32 ? (unsigned)w->group : least;
}

/* Blocks of a multiprocessor that the compiler is to leave registers for: of so many threads that each has enough, with some to
 * spare for mixed types. Compilers for compute capability 10 and newer need some more. Of layer_norm's long rows more are held at
 * once: its three passes take as long as the row's way from memory; so are rows whose blocks wait for each other. */
static unsigned resident_blocks(const norm_words *w) {
    const int elements = w->vec * w->pieces;
    const bool narrow = w->width < w->vec;
    unsigned threads = elements > 32 ? 512 : elements > 16 ? 896 : 1024;
    if (w->backward && !w->centred && w->pieces && elements <= 16 && !narrow && w->major < 10) threads = 768;
    else if (w->backward) threads = elements > 16 && narrow ? 256 : 512;
    else if (w->cluster > 1 && !narrow) threads = w->major != 9 || elements > 32 ? 512 : w->centred ? 768 : 1024;
    else if (w->other >= 0) threads = narrow ? 256 : 512;
    else if (narrow) threads = 512;
    else if (w->centred) threads = w->major == 9 && (elements > 32 || (elements > 16 && w->vec == 4)) ? 1024 : 768;
    return threads > threads_of(w) ? threads / threads_of(w) : 1;
}

static void write_words(char defines[INVAR_CUDA_DEFINES], const norm_words *w) {
    const int length =
        snprintf(defines, INVAR_CUDA_DEFINES,
                 "-DX_TYPE=%s -DOTHER_TYPE=%s -DY_TYPE=%s -DWEIGHT_TYPE=%s -DHAS_WEIGHT=%d -DVEC=%d -DWIDTH=%d -DGROUP=%d -DPIECES=%d "
                 "-DCENTRED=%d -DTHREADS=%u -DBLOCKS=%u", type_word(w->x), type_word(w->other), type_word(w->y),
                 type_word(w->weight), w->weight >= 0, w->vec, w->width, w->group, w->pieces, w->centred, threads_of(w),
                 resident_blocks(w));
    if (w->backward)
        snprintf(defines + length, INVAR_CUDA_DEFINES - (size_t)length, " -DSUMS=%d -DSTAGES=%d -DCLUSTER=%d", w->sums, w->stages,
                 w->cluster);
    else
        snprintf(defines + length, INVAR_CUDA_DEFINES - (size_t)length,
                 " -DSUM_TYPE=%s -DADD=%d -DBIAS_TYPE=%s -DHAS_BIAS=%d -DCLUSTER=%d", type_word(w->sum), w->other >= 0,
                 type_word(w->bias), w->bias >= 0, w->cluster);
}

/* Threads of a row and pieces of each: as few threads as hold the row in few pieces, then more pieces of the most threads. */
static void choose_group(norm_words *w, int64_t features) {
    const int64_t row = invar_pieces(features, w->vec);
    const int few = w->backward ? 2 : 4, most = w->backward ? MOST_SUMS / w->vec : MOST_PIECES;
    int group = LEAST_GROUP;
    while (group < MOST_GROUP && row > (int64_t)group * few) {
        if (w->backward && group == 32 && row <= 96) break; /* a warp needs no barrier */
        group *= 2;
    }
    if (!w->backward && group == MOST_GROUP && row <= MOST_GROUP / 2 * most) group /= 2;
    w->group = group;
    w->cluster = 1;
    if (w->clusters && row > (int64_t)group * most) {
        const int share = w->backward || w->other >= 0 ? CLUSTER_PIECES : MOST_PIECES;
        /* layer_norm's blocks wait twice a row for each other: two on a multiprocessor, of half as many threads, wait in turns. */
        if (w->centred && row <= MOST_CLUSTER * MOST_GROUP / 2 * share) w->group = group = MOST_GROUP / 2;
        const int64_t fits = MOST_CLUSTER * (int64_t)group * most;
        while (w->cluster < MOST_CLUSTER && row > (int64_t)group * w->cluster * share) w->cluster *= 2;
        if (row > fits) w->cluster = 1;
    }
    const int64_t threads = (int64_t)group * w->cluster;
    w->pieces = row <= threads * most ? (int)invar_pieces(row, threads) : 0;
    /* GPUs of 99 KiB of shared memory have no room for so many sums of dbias, and threads no registers. */
    if (w->backward && w->cluster > 1 && w->major >= 12 && w->centred && w->pieces * w->vec > SHORT_SUMS)
        w->cluster = 1, w->pieces = 0;
    /* Narrow accesses need registers too; with those of many sums or numbers there are too few. */
    const int floats = w->backward ? SHORT_SUMS : w->other >= 0 ? MOST_FLOATS : INT32_MAX;
    const bool scarce = w->cluster == 1 || w->width == 0 || (w->width == 1 && (w->vec == 4 || w->weight == INVAR_F32));
    if (w->width < w->vec && w->pieces * w->vec > floats && w->group > 32 && scarce) w->pieces = 0; /* with the same bits */
}

/* Elements that an access may move, 0 where they do not lie one behind the other. */
static int common_width(const invar_cuda_norm_call *call, int vec) {
    const invar_norm_job *job = call->job;
    int width = job->features % vec == 0 ? vec : job->features % 4 == 0 ? 4 : job->features % 2 == 0 ? 2 : 1;
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++) {
        const invar_norm_operand *x = &job->operand[o];
        if (!x->data) continue;
        const int64_t item = (int64_t)invar_float_size(x->type);
        int64_t places = (int64_t)(uintptr_t)x->data;
        for (int d = 0; d < job->ndim; d++) places |= x->stride[d];
        if (x->step != item) return 0;
        while (places % (width * item)) width /= 2;
    }
    for (int v = 0; v < 2; v++) {
        const invar_view *x = v ? call->bias : call->weight;
        if (!x) continue;
        const int64_t item = (int64_t)invar_view_item_size(x);
        if (job->features > 1 && x->stride[0] != 1) return 0;
        while ((uintptr_t)x->data % (uintptr_t)(width * item < 16 ? width * item : 16)) width /= 2;
    }
    return width;
}

/* Compute capability 9.0 has clusters; a compiler that does not know it makes programs for GPUs before it. Where there is none a
 * launch fails, whatever is planned. */
static bool has_clusters(const invar_cuda_device *gpu) {
    const invar_nvrtc *nvrtc;
    return gpu->major >= 9 && (invar_nvrtc_get(&nvrtc, "norm") != INVAR_OK || invar_nvrtc_newest(nvrtc) >= 90);
}

/* Features of float32 rows go in pieces of 4, those of half types alone in pieces of 8: 16 bytes. */
static norm_words words_of(const invar_cuda_norm_call *call, const invar_cuda_device *gpu) {
    const invar_norm_job *job = call->job;
    int type[INVAR_NORM_OPERANDS], vec = 8;
    for (int o = 0; o < INVAR_NORM_OPERANDS; o++) {
        const bool there = call->backward ? o == INVAR_NORM_X || o == INVAR_NORM_DY : job->operand[o].data != NULL;
        type[o] = there ? (int)job->operand[o].type : -1;
        if (type[o] == INVAR_F32) vec = 4;
    }
    norm_words w = { .x = type[INVAR_NORM_X], .other = type[INVAR_NORM_RESIDUAL], .y = type[INVAR_NORM_Y],
                     .sum = type[INVAR_NORM_SUM], .weight = call->weight ? (int)call->weight->type : -1,
                     .bias = call->bias && !call->backward ? (int)call->bias->type : -1, .vec = vec, .centred = call->centred,
                     .backward = call->backward, .sums = call->dweight || call->dbias, .major = gpu->major,
                     .clusters = job->features > MOST_GROUP * (call->backward ? MOST_SUMS : MOST_PIECES * vec) &&
                                 has_clusters(gpu) };
    w.width = common_width(call, vec);
    if (w.width == 1 && !w.clusters) w.width = 0; /* one program less */
    choose_group(&w, job->features);
    return w;
}

/* ---- specialisations, for the tests --------------------------------------------------------------------- */

enum { F32 = INVAR_F32, F16 = INVAR_F16, BF16 = INVAR_BF16, NONE = -1 };

/* A call's types and features, as one that has them would be specialised. */
typedef struct norm_sample {
    int x, other, sum, weight, bias;
    int width, features;
    bool centred, sums;
    int stages;
} norm_sample;

static void write_sample(char defines[INVAR_CUDA_DEFINES], const norm_sample *s, bool backward, int major) {
    const int all[] = { s->x, s->other, s->weight, s->bias };
    int y = s->x, vec = 8;
    for (int i = 1; i < 4; i++)
        if (all[i] != NONE) y = (int)invar_promote((invar_float_type)y, (invar_float_type)all[i]);
    if (s->x == F32 || s->other == F32 || (!backward && (y == F32 || s->sum == F32))) vec = 4;
    norm_words w = { .x = s->x, .other = s->other, .y = backward ? NONE : y, .sum = s->sum, .weight = s->weight, .bias = s->bias,
                     .vec = vec, .width = s->width, .centred = s->centred, .backward = backward, .sums = s->sums,
                     .stages = s->stages, .major = major, .clusters = major >= 9 };
    choose_group(&w, s->features);
    if (w.cluster > 1 && major >= 12) w.stages = 1; /* of 99 KiB */
    if (!w.pieces) w.stages = 0;
    write_words(defines, &w);
}

/* Every number of threads and the largest shares, each type, each branch. */
bool invar_cuda_norm_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const norm_sample samples[] = {
        { BF16, NONE, NONE, BF16, NONE, 8, 4096, false, false, 0 },   { BF16, NONE, NONE, BF16, BF16, 8, 4096, true, false, 0 },
        { F32, NONE, NONE, F32, NONE, 4, 4096, false, false, 0 },     { F32, NONE, NONE, F32, F32, 4, 4096, true, false, 0 },
        { F16, F16, F16, F16, NONE, 8, 8192, false, false, 0 },       { F32, F32, F32, F32, NONE, 4, 8192, false, false, 0 },
        { BF16, F16, F32, F16, NONE, 2, 8192, false, false, 0 },      { BF16, BF16, BF16, F32, NONE, 4, 32768, false, false, 0 },
        { BF16, BF16, BF16, BF16, NONE, 8, 32768, false, false, 0 },  { BF16, NONE, NONE, BF16, NONE, 8, 16384, false, false, 0 },
        { F16, NONE, NONE, F16, F16, 8, 16384, true, false, 0 },      { BF16, NONE, NONE, BF16, NONE, 8, 32768, false, false, 0 },
        { F16, NONE, NONE, F16, F16, 8, 32768, true, false, 0 },      { F32, NONE, NONE, F32, F32, 4, 16384, true, false, 0 },
        { BF16, NONE, NONE, BF16, NONE, 8, 768, false, false, 0 },    { BF16, NONE, NONE, F32, F32, 4, 768, true, false, 0 },
        { F16, NONE, NONE, NONE, F16, 0, 100, true, false, 0 },       { F16, NONE, NONE, F16, NONE, 2, 250, false, false, 0 },
        { F32, NONE, NONE, NONE, NONE, 0, 1000, false, false, 0 },    { F32, NONE, NONE, BF16, F32, 2, 2002, true, false, 0 },
        { BF16, NONE, NONE, BF16, BF16, 0, 32767, true, false, 0 },   { F16, F16, F16, F16, NONE, 0, 32767, false, false, 0 },
        { BF16, NONE, NONE, BF16, BF16, 8, 65536, true, false, 0 },   { F32, F16, F32, F32, NONE, 0, 40000, false, false, 0 },
        { BF16, BF16, BF16, NONE, NONE, 8, 128, false, false, 0 },    { F32, NONE, NONE, F32, F32, 4, 64, true, false, 0 },
        { F32, NONE, NONE, F32, F32, 4, 32768, true, false, 0 },      { F32, F32, F32, F32, NONE, 4, 65536, false, false, 0 },
        { F32, NONE, NONE, F32, F32, 1, 32767, true, false, 0 },      { BF16, NONE, NONE, F16, F16, 8, 262144, true, false, 0 },
    };
    (void)minor;
    if (i >= (int)(sizeof samples / sizeof *samples)) return false;
    write_sample(defines, &samples[i], false, major);
    return true;
}

bool invar_cuda_norm_vjp_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    static const norm_sample samples[] = {
        { BF16, BF16, NONE, BF16, NONE, 8, 4096, false, true, 2 },  { BF16, BF16, NONE, BF16, NONE, 8, 4096, true, true, 2 },
        { F32, F32, NONE, F32, NONE, 4, 4096, false, true, 2 },     { F32, F32, NONE, F32, NONE, 4, 4096, true, true, 2 },
        { F16, F16, NONE, F16, NONE, 8, 768, false, true, 2 },      { F16, F16, NONE, F16, NONE, 8, 768, true, true, 2 },
        { BF16, BF16, NONE, BF16, NONE, 8, 16384, false, true, 2 }, { BF16, BF16, NONE, BF16, NONE, 8, 16384, true, true, 2 },
        { F32, F32, NONE, F32, NONE, 4, 16384, true, true, 1 },     { F32, F32, NONE, F32, NONE, 4, 16384, false, true, 0 },
        { BF16, BF16, NONE, F32, NONE, 4, 8192, true, true, 2 },    { BF16, F32, NONE, BF16, NONE, 4, 2048, false, true, 2 },
        { F16, BF16, NONE, NONE, NONE, 8, 512, true, true, 2 },     { BF16, BF16, NONE, BF16, NONE, 8, 128, false, true, 2 },
        { F16, F16, NONE, F16, NONE, 0, 100, true, true, 2 },       { F32, F16, NONE, F32, NONE, 0, 1001, true, true, 2 },
        { BF16, BF16, NONE, BF16, NONE, 0, 8191, true, true, 2 },   { BF16, BF16, NONE, BF16, NONE, 0, 8191, false, true, 0 },
        { BF16, BF16, NONE, BF16, NONE, 8, 65536, true, true, 0 },  { F32, F32, NONE, F32, NONE, 0, 65535, false, true, 0 },
        { BF16, BF16, NONE, BF16, NONE, 8, 4096, false, false, 2 }, { F32, F32, NONE, NONE, NONE, 2, 70000, true, false, 0 },
        { BF16, BF16, NONE, F32, NONE, 2, 8190, true, true, 0 },    { BF16, BF16, NONE, F32, NONE, 2, 258, true, true, 2 },
        { BF16, BF16, NONE, BF16, NONE, 8, 32768, false, true, 2 }, { F16, F16, NONE, F16, NONE, 8, 65536, true, true, 2 },
        { F32, F32, NONE, F32, NONE, 4, 32768, true, true, 2 },     { F32, F32, NONE, F32, NONE, 4, 131072, true, true, 1 },
        { F32, F32, NONE, F32, NONE, 0, 32767, true, true, 2 },     { BF16, BF16, NONE, BF16, NONE, 1, 32767, true, true, 2 },
    };
    (void)minor;
    if (i >= (int)(sizeof samples / sizeof *samples)) return false;
    write_sample(defines, &samples[i], true, major);
    return true;
}

bool invar_cuda_norm_merge_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    *defines = 0;
    return i == 0;
}

/* ---- planning ----------------------------------------------------------------------------------------- */

/* Rows of a chunk: from the features, the types and how many rows there are. */
static int64_t chunk_rows(const norm_words *w, int64_t features, int64_t rows) {
    if (w->cluster > 1) {
        const int64_t together = AT_ONCE * MOST_GROUP / w->group / w->cluster, most = together * CHUNK_ROWS_MOST;
        return rows ? invar_pieces(rows, together * invar_pieces(rows, most)) : 1;
    }
    const unsigned threads = threads_of(w);
    const int64_t elements = w->centred ? 2 * CHUNK_ELEMENTS : CHUNK_ELEMENTS, least = threads / (unsigned)w->group;
    int64_t chunk = CHUNK_ROWS_LEAST;
    while (chunk < CHUNK_ROWS_MOST && 2 * chunk * features <= elements) chunk *= 2;
    if (features > (int64_t)MOST_GROUP * MOST_SUMS) chunk = LONG_CHUNK_ROWS;
    while (chunk > least && rows / chunk * threads < ENOUGH_THREADS) chunk /= 2;
    return chunk;
}

/* Shared memory, as norm_vjp.cu lays it out: rows, the one that a group works on and the next, where that fits; or the groups' sums
 * in their place; and dbias's sums of long rows. */
static void choose_stages(norm_words *w, norm_work *work, const invar_cuda_device *gpu) {
    const int64_t threads = threads_of(w), stage = 2 * SLOT * threads * w->pieces;
    const int64_t sums = w->sums ? (int64_t)sizeof(float) * threads * w->pieces * w->vec : 0, grouped = w->group <= 32 ? sums : 0;
    const int64_t bias = w->centred && w->pieces * w->vec > SHORT_SUMS ? sums : 0;
    const int64_t room = gpu->shared_most - (w->cluster > 1 ? 8192 : 1024) - bias; /* the program has slots of its own */
    w->stages = !w->pieces || stage > room ? 0 : 2 * stage > room ? 1 : 2;
    work->shared = (unsigned)((w->stages * stage > grouped ? w->stages * stage : grouped) + bias);
}

static void plan(norm_work *work, const invar_cuda_norm_call *call, const invar_cuda_device *gpu) {
    invar_cuda_norm_job *job = &work->job;
    memset(work, 0, sizeof *work);
    work->call = call;
    fill_job(work, call);
    norm_words w = words_of(call, gpu);
    if (call->backward) choose_stages(&w, work, gpu);
    const int64_t rows = threads_of(&w) / (unsigned)w.group, most = MOST_BLOCKS / w.cluster;
    work->blocks = invar_pieces(job->rows, rows);
    if (call->backward) {
        job->chunk_rows = chunk_rows(&w, job->features, job->rows);
        job->chunks = invar_pieces(job->rows, job->chunk_rows);
        job->pitch = invar_round_up(job->features, 4);
        if (w.sums) work->workspace = sizeof(float) * (size_t)(job->chunks * job->pitch * (call->centred ? 2 : 1));
        work->blocks = job->y.data || w.sums ? job->chunks : 0;
    }
    if (!job->features) work->blocks = 0;
    work->grid_rows = call->backward ? 1 : (unsigned)invar_pieces(work->blocks, most);
    if (work->grid_rows > 1) work->blocks = invar_round_up(work->blocks, work->grid_rows);
    work->blocks *= w.cluster;
    work->group = w.group, work->pieces = w.pieces, work->cluster = w.cluster, work->width = w.width, work->stages = w.stages;
    work->threads = threads_of(&w);
    write_words(work->defines, &w);
}

static void describe(invar_plan *plan, const norm_work *work, const invar_cuda_device *gpu) {
    const bool backward = work->call->backward;
    char kept[96];
    if (!work->pieces) snprintf(kept, sizeof kept, "a row is too long to be held, and read in each pass");
    else if (!backward) snprintf(kept, sizeof kept, "%d threads hold a row in registers", work->group * work->cluster);
    else
        snprintf(kept, sizeof kept, "%d threads share a row, %s", work->group * work->cluster,
                 work->stages == 2 ? "and fetch the next meanwhile" : "whose next is not fetched: shared memory is too small");
    snprintf(plan->kernel, sizeof plan->kernel, "%s.cuda.sm_%d%d", work->call->operation, gpu->major, gpu->minor);
    if (work->width > 1)
        snprintf(plan->reason, sizeof plan->reason, "%s; accesses of %d elements", kept, work->width);
    else
        snprintf(plan->reason, sizeof plan->reason, "%s; one element an access: an odd number of features, or they lie apart", kept);
    plan->threads = 1;
    plan->query_tile = (int32_t)(backward ? work->job.chunk_rows : (int64_t)work->threads / work->group);
    plan->key_splits = 1;
    snprintf(plan->arithmetic, sizeof plan->arithmetic, "float32");
}

/* ---- launches ----------------------------------------------------------------------------------------- */

static invar_cuda_norm_sum sum_of(const invar_view *out) {
    if (!out) return (invar_cuda_norm_sum){ NULL, 0, 0 };
    return (invar_cuda_norm_sum){ out->data, out->stride[0] * (int64_t)invar_view_item_size(out),
                                  out->type == INVAR_F16 ? INVAR_CUDA_NORM_F16 : out->type == INVAR_BF16 ? INVAR_CUDA_NORM_BF16
                                                                                                       : INVAR_CUDA_NORM_F32 };
}

/* The chunks' sums into dweight and dbias: a row of blocks each. */
static invar_status merge(const norm_work *work, const float *partial, const invar_cuda_device *gpu, void *stream) {
    const invar_cuda_norm_call *call = work->call;
    const int64_t features = work->job.features, tiles = invar_pieces(features, MERGE_FEATURES);
    const invar_cuda_norm_merge_job job = { .partial = partial, .chunks = work->job.chunks, .pitch = work->job.pitch,
                                            .features = features, .vectors = call->centred ? 2 : 1,
                                            .sum = { sum_of(call->dweight), sum_of(call->dbias) } };
    const unsigned blocks = tiles < MOST_BLOCKS ? (unsigned)tiles : MOST_BLOCKS;
    const invar_cuda_launch launch = { &invar_cuda_norm_merge, "", { blocks, call->dbias ? 2 : 1, 1 }, MERGE_THREADS, 0, &job };
    return invar_cuda_enqueue(gpu, &launch, stream, call->operation);
}

static invar_status launch_all(norm_work *work, float *scratch, const invar_cuda_device *gpu, void *stream) {
    const invar_cuda_norm_call *call = work->call;
    const unsigned grid_rows = work->grid_rows > 1 ? work->grid_rows : 1;
    const unsigned grid_row = (unsigned)(work->blocks / grid_rows);
    const invar_cuda_launch launch = { call->backward ? &invar_cuda_norm_vjp : &invar_cuda_norm, work->defines,
                                       { grid_row, grid_rows, 1 }, work->threads, work->shared, &work->job };
    work->job.partial = scratch;
    if (work->blocks) INVAR_TRY(invar_cuda_enqueue(gpu, &launch, stream, call->operation));
    return work->job.features && (call->dweight || call->dbias) ? merge(work, scratch, gpu, stream) : INVAR_OK;
}

invar_status invar_cuda_norm_run(const invar_cuda_norm_call *call, invar_device device, const invar_execution *execution,
                                 invar_context *context) {
    const invar_cuda_device *gpu;
    norm_work work;
    invar_run checked;
    bool planned;
    INVAR_TRY(refuse_float64(call));
    INVAR_TRY(invar_cuda_device_get(&gpu, device.id, call->operation));
    plan(&work, call, gpu);
    if (call->backward && work.blocks > MOST_BLOCKS)
        return invar_fail(INVAR_ERROR_VALUE, "%s: x: expected at most %lld rows of %lld features on a CUDA device, got %lld",
                          call->operation, MOST_BLOCKS / work.cluster * work.job.chunk_rows, (long long)call->job->features,
                          (long long)call->job->rows);
    /* Without a workspace it is asked for nothing: its scratch would be the CPU's. */
    const bool own = work.workspace && !execution->workspace;
    INVAR_TRY(invar_run_begin(&checked, context, execution, work.blocks, own && !execution->plan ? 0 : work.workspace, 0,
                              call->operation, &planned));
    if (planned) {
        describe(execution->plan, &work, gpu);
        return INVAR_OK;
    }
    void *scratch = work.workspace ? execution->workspace : NULL;
    if (own) INVAR_TRY(invar_cuda_scratch_take(gpu, &scratch, work.workspace, execution->stream, call->operation));
    const invar_status status = launch_all(&work, scratch, gpu, execution->stream);
    if (own) invar_cuda_scratch_give(gpu, scratch, execution->stream);
    return status;
}
