/* The VJPs of rms_norm and layer_norm: check, plan, run; then the chunks' partial sums are merged in order. */
#include "api/norm_call.h"
#include "core/machine.h"
#include "core/number.h"

enum {
    CHUNK_ELEMENTS = 262144, /* elements of a chunk, within the bounds below */
    CHUNK_ROWS_LEAST = 32,   /* a chunk's partial sums cost at most 1/32 of its rows' traffic to write */
    CHUNK_ROWS_MOST = 1024,
    MERGE_FEATURES = 1024,   /* features a task of the merge */
    LINE = 64,               /* bytes */
    /* Bytes between the sums of two chunks: a core that adds to one fetches the lines behind it ahead, and would take those from
     * the core that adds to the next. */
    APART = 1024
};

typedef struct backward {
    invar_norm_call call;
    invar_view dweight, dbias;
    int64_t chunks;
} backward;

static void merge_vector(const backward *b, const invar_view *out, size_t place, int64_t first, int64_t count) {
    const invar_norm_job *job = &b->call.job;
    int64_t step = job->features == 1 ? (int64_t)invar_view_item_size(out) : out->stride[0] * (int64_t)invar_view_item_size(out);
    b->call.kernels->norm_merge(job, out->data, out->type, step, job->partial ? job->partial + place : NULL, b->chunks, first,
                                count);
}

static void merge_features(void *argument, int64_t index, void *scratch) {
    (void)scratch;
    const backward *b = argument;
    const invar_norm_job *job = &b->call.job;
    const int64_t first = index * MERGE_FEATURES, count = invar_smaller(job->features - first, MERGE_FEATURES);
    if (job->want_dweight) merge_vector(b, &b->dweight, 0, first, count);
    if (job->want_dbias) merge_vector(b, &b->dbias, job->partial_bytes / 2, first, count);
}

/* dweight or dbias: like its argument, apart from every other tensor. */
static invar_status check_gradient(invar_norm_call *call, invar_view *view, bool *wanted, const invar_tensor *tensor,
                                   bool has, const invar_view *like, const char *argument, const char *of) {
    *wanted = tensor != NULL;
    if (!tensor) return INVAR_OK;
    if (!has)
        return invar_fail(INVAR_ERROR_VALUE, "%s: %s: expected NULL where there is no %s, got a tensor", call->operation,
                          argument, of);
    INVAR_TRY(invar_view_init_float_on(&call->device, view, tensor, call->operation, argument));
    INVAR_TRY(invar_view_expect_shape(view, 1, like->shape, call->operation, argument));
    INVAR_TRY(invar_view_expect_type(view, like->type, call->operation, argument));
    const invar_view *others[] = {
        &call->tensor[INVAR_NORM_X],
        &call->tensor[INVAR_NORM_DY],
        call->has_weight ? &call->weight : NULL,
        call->has_bias ? &call->bias : NULL,
        call->has[INVAR_NORM_DX] ? &call->tensor[INVAR_NORM_DX] : NULL,
    };
    return invar_check_output(view, others, 5, NULL, NULL, call->operation, argument);
}

static invar_status check(backward *b, const invar_tensor *dx, const invar_tensor *dweight, const invar_tensor *dbias,
                          const invar_tensor *dy) {
    invar_norm_call *call = &b->call;
    INVAR_TRY(invar_norm_like_x(call, INVAR_NORM_DY, dy, "dy"));
    if (dx)
        INVAR_TRY(invar_norm_output(call, INVAR_NORM_DX, dx, call->tensor[INVAR_NORM_X].type, INVAR_NORM_DY, "dy's", "dx"));
    INVAR_TRY(check_gradient(call, &b->dweight, &call->job.want_dweight, dweight, call->has_weight, &call->weight, "dweight",
                             "weight"));
    INVAR_TRY(check_gradient(call, &b->dbias, &call->job.want_dbias, dbias, call->has_bias, &call->bias, "dbias", "bias"));
    if (dweight && dbias && invar_view_overlaps(&b->dweight, &b->dbias))
        return invar_fail(INVAR_ERROR_VALUE, "%s: dbias: expected memory apart from dweight's, got an overlap", call->operation);
    return INVAR_OK;
}

static int64_t chunk_rows(int64_t features) {
    const int64_t rows = features ? CHUNK_ELEMENTS / features : CHUNK_ROWS_MOST;
    return invar_larger(invar_smaller(rows, CHUNK_ROWS_MOST), CHUNK_ROWS_LEAST);
}

/* Partial sums make a task a chunk: its size is then part of the result, and comes from the features alone. */
static void plan(backward *b, bool centred) {
    invar_norm_call *call = &b->call;
    invar_norm_job *job = &call->job;
    invar_norm_plan(call);
    job->pieces = invar_machine_roomy(&call->context->description);
    if (!job->want_dweight && !job->want_dbias) {
        if (!call->has[INVAR_NORM_DX]) call->tasks = 0;
        return;
    }
    call->task_rows = job->chunk_rows = chunk_rows(job->features);
    call->tasks = b->chunks = job->features ? invar_pieces(job->rows, job->chunk_rows) : 0;
    size_t item = call->kernels == &invar_kernels_reference ? sizeof(double) : sizeof(float);
    job->partial_bytes = (item * (size_t)job->features + LINE - 1) / LINE * LINE * (centred ? 2 : 1);
    if (b->chunks > 1) job->partial_bytes += APART;
    call->shared_bytes += job->partial_bytes * (size_t)b->chunks;
}

static invar_status run(backward *b, bool centred) {
    invar_norm_call *call = &b->call;
    invar_norm_job *job = &call->job;
    const double flops = centred ? 18 : 12; /* an element */
    if (call->device.type == INVAR_DEVICE_CUDA)
        return invar_norm_run_cuda(call, centred, true, job->want_dweight ? &b->dweight : NULL, job->want_dbias ? &b->dbias : NULL,
                                   flops);
    plan(b, centred);
    invar_run run;
    bool planned;
    INVAR_TRY(invar_norm_run_begin(call, &run, flops, &planned));
    if (planned) return INVAR_OK;
    invar_norm_run_rows(call, &run, centred ? call->kernels->layer_norm_vjp : call->kernels->rms_norm_vjp);
    if (job->want_dweight || job->want_dbias)
        invar_run_tasks(&run, invar_pieces(job->features, MERGE_FEATURES), merge_features, b);
    invar_run_end(&run);
    return INVAR_OK;
}

invar_status invar_rms_norm_vjp(invar_context *context, const invar_tensor *dx, const invar_tensor *dweight,
                                const invar_tensor *dy, const invar_tensor *x, const invar_tensor *weight,
                                const invar_norm_options *options) {
    backward b = { .chunks = 0 };
    INVAR_TRY(invar_norm_begin(&b.call, context, options, "rms_norm_vjp"));
    INVAR_TRY(invar_norm_inputs(&b.call, x, weight, NULL));
    INVAR_TRY(check(&b, dx, dweight, NULL, dy));
    return run(&b, false);
}

invar_status invar_layer_norm_vjp(invar_context *context, const invar_tensor *dx, const invar_tensor *dweight,
                                  const invar_tensor *dbias, const invar_tensor *dy, const invar_tensor *x,
                                  const invar_tensor *weight, const invar_tensor *bias, const invar_norm_options *options) {
    backward b = { .chunks = 0 };
    INVAR_TRY(invar_norm_begin(&b.call, context, options, "layer_norm_vjp"));
    INVAR_TRY(invar_norm_inputs(&b.call, x, weight, bias));
    INVAR_TRY(check(&b, dx, dweight, dbias, dy));
    return run(&b, true);
}
