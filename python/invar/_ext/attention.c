/* scaled_dot_product_attention and its gradients. */
#include "operations.h"

#include <math.h>

/* What both calls take beside their arrays' gradients. */
typedef struct attention_inputs {
    array q, k, v, mask, sinks, kv_lengths;
    invar_attention_options options;
} attention_inputs;
#define ATTENTION_INPUTS_EMPTY                                                      \
    { ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY, \
      INVAR_ATTENTION_OPTIONS_INIT }

/* Where those arguments stand in a parsed call. */
typedef struct attention_places {
    int q, scale, mask, sinks, window, softcap, kv_lengths, force_fused, stream;
} attention_places;

/* NaN is how C says that no scale is given. */
static bool scale_in(double *scale, PyObject *value, const char *op) {
    if (left_out(value)) return true;
    if (!number_in(scale, value, op, "scale")) return false;
    if (isfinite(*scale)) return true;
    PyErr_Format(PyExc_ValueError, "%s: scale: expected a finite number or None, got %S", op, value);
    return false;
}

static bool softcap_in(double *softcap, PyObject *value, const char *op) {
    if (left_out(value)) return true;
    if (!number_in(softcap, value, op, "softcap")) return false;
    if (*softcap > 0.0 && isfinite(*softcap)) return true; /* 0 is how C says that there is none */
    PyErr_Format(PyExc_ValueError, "%s: softcap: expected a positive, finite number or None, got %S", op, value);
    return false;
}

static bool window_side_in(int64_t *side, PyObject *value, const char *op, const char *argument) {
    if (left_out(value)) return true;
    if (!integer_in(side, value, op, argument)) return false;
    if (*side >= 0) return true; /* -1 is how C says that this side is open */
    PyErr_Format(PyExc_ValueError, "%s: %s: expected a count of keys or None, got %S", op, argument, value);
    return false;
}

static bool window_in(invar_attention_options *options, PyObject *value, const char *op) {
    if (left_out(value)) return true;
    if (!is_sequence(value)) return raise_expected(PyExc_TypeError, op, "window", "a pair (left, right)", value);
    if (length_of(value) != 2) {
        PyErr_Format(PyExc_ValueError, "%s: window: expected a pair (left, right), got %zd entries", op, length_of(value));
        return false;
    }
    return window_side_in(&options->window_left, item_of(value, 0), op, "window[0]") &&
           window_side_in(&options->window_right, item_of(value, 1), op, "window[1]");
}

static bool mask_in(attention_inputs *in, PyObject *value, const char *op) {
    if (left_out(value)) return true;
    if (PyFloat_CheckExact(value)) /* a Python number does not promote */
        return array_in_number(&in->mask, value, promoted((const array *[]){ &in->q, &in->k, &in->v }, 3), op, "mask");
    if (!PyUnicode_Check(value)) return array_in(&in->mask, value, op, "mask");
    in->options.causal = 1;
    if (PyUnicode_CompareWithASCIIString(value, "causal") == 0) return true;
    PyErr_Format(PyExc_ValueError, "%s: mask: expected None, \"causal\" or an array, got \"%U\"", op, value);
    return false;
}

static bool inputs_in(attention_inputs *in, PyObject *const *values, const attention_places *at, const char *op) {
    bool force_fused;
    return array_in(&in->q, values[at->q], op, "q") && array_in(&in->k, values[at->q + 1], op, "k") &&
           array_in(&in->v, values[at->q + 2], op, "v") && scale_in(&in->options.scale, values[at->scale], op) &&
           mask_in(in, values[at->mask], op) && array_in_optional(&in->sinks, values[at->sinks], op, "sinks") &&
           window_in(&in->options, values[at->window], op) && softcap_in(&in->options.softcap, values[at->softcap], op) &&
           array_in_optional(&in->kv_lengths, values[at->kv_lengths], op, "kv_lengths") &&
           flag_in(&force_fused, values[at->force_fused], op, "force_fused") &&
           array_stream(&in->q, values[at->stream], &in->options.execution.stream, op);
}

static void inputs_release(attention_inputs *in) {
    array *all[] = { &in->q, &in->k, &in->v, &in->mask, &in->sinks, &in->kv_lengths };
    for (int i = 0; i < 6; i++) array_release(all[i]);
}

/* ---- forward ------------------------------------------------------------------------------------- */

/* out: (…, Tq, Dv); lse: one dimension less. Ranks that the library refuses give some shape that it never looks at. */
static bool results_begin(output *outputs, bool with_lse, PyObject *const *destinations, const attention_inputs *in,
                          const char *op) {
    const array *q = &in->q, *v = &in->v;
    int ndim = q->tensor.ndim;
    int64_t shape[ARRAY_MAX_DIMS];
    for (int d = 0; d < ndim; d++) shape[d] = q->shape[d];
    if (ndim > 0 && v->tensor.ndim > 0) shape[ndim - 1] = v->shape[v->tensor.ndim - 1];
    invar_dtype type = promoted((const array *[]){ q, &in->k, v }, 3);
    invar_dtype lse_type = { INVAR_FLOAT, type.bits == 64 ? 64 : 32, 1 };
    void *stream = in->options.execution.stream;
    return output_begin(&outputs[0], destinations[0], q, ndim, shape, type, stream, op, with_lse ? "out[0]" : "out") &&
           (!with_lse ||
            output_begin(&outputs[1], destinations[1], q, ndim > 0 ? ndim - 1 : 0, shape, lse_type, stream, op, "out[1]"));
}

static PyObject *run_scaled_dot_product_attention(PyObject *const *values, invar_plan *plan) {
    enum { Q, K, V, SCALE, MASK, SINKS, WINDOW, SOFTCAP, KV_LENGTHS, RETURN_LSE, FORCE_FUSED, OUT, STREAM };
    static const attention_places at = { Q, SCALE, MASK, SINKS, WINDOW, SOFTCAP, KV_LENGTHS, FORCE_FUSED, STREAM };
    const char *op = "scaled_dot_product_attention";
    attention_inputs in = ATTENTION_INPUTS_EMPTY;
    output outputs[2] = { OUTPUT_EMPTY, OUTPUT_EMPTY }; /* out, lse */
    PyObject *destinations[2] = { values[OUT], NULL }, *result = NULL;
    bool with_lse = false;
    in.options.execution.plan = plan;
    bool ok = inputs_in(&in, values, &at, op) && flag_in(&with_lse, values[RETURN_LSE], op, "return_lse") &&
              (!with_lse || split_destinations(values[OUT], 2, destinations, op, "out")) &&
              results_begin(outputs, with_lse, destinations, &in, op);
    if (ok)
        INVAR_COMPUTE(ok, invar_scaled_dot_product_attention(NULL, &outputs[0].array.tensor, given(&outputs[1].array),
                                                             &in.q.tensor, &in.k.tensor, &in.v.tensor, given(&in.mask),
                                                             given(&in.sinks), given(&in.kv_lengths), &in.options));
    if (ok) result = results(outputs, with_lse ? 2 : 1, plan);
    inputs_release(&in);
    for (int i = 0; i < 2; i++) output_release(&outputs[i]);
    return result;
}

operation operation_scaled_dot_product_attention = {
    { "scaled_dot_product_attention", 3, 5, 13,
      { NAMES("q", "queries"), NAMES("k", "keys"), NAMES("v", "values"), NAME("scale"), NAME("mask"), NAME("sinks"),
        NAME("window"), NAME("softcap"), NAME("kv_lengths"), NAME("return_lse"), NAME("force_fused"),
        NAME("out"), NAME("stream") } },
    run_scaled_dot_product_attention,
    "scaled_dot_product_attention($module, q, k, v, scale=None, mask=None, *, sinks=None, window=None, softcap=None, "
    "kv_lengths=None, return_lse=False, force_fused=False, out=None, stream=None)\n--\n\n"
    "softmax(scale · q kᵀ [softcapped] [+ mask]) v, streamed over the keys: nothing of size Tq × Tkv is allocated.\n\n"
    "q, k, v (also by the names queries, keys, values): (…, Hq, Tq, Dk), (…, Hkv, Tkv, Dk), (…, Hkv, Tkv, Dv), of\n"
    "  floating types; rank 2 is one head, rank 3 one batch. Leading sizes are equal, Hq is a multiple of Hkv, and query\n"
    "  head h reads head h / (Hq / Hkv) of k and v.\n"
    "scale: a number; None is 1/sqrt(Dk).\n"
    "mask: None; \"causal\", where query i sees keys up to i + Tkv - Tq; a bool array, True = attend; or an additive array\n"
    "  (integers too) whose type promotes to the result type. Broadcasts to (…, Hq, Tq, Tkv). A mask of 0 and 1 that is\n"
    "  not bool is added, and masks nothing.\n"
    "sinks: (Hq,), one extra logit a head that takes weight and adds no value.\n"
    "window: (left, right): query i, at position p = i + Tkv - Tq, sees keys p - left … p + right; None leaves a side\n"
    "  open.\n"
    "softcap: c > 0 turns a score s into c·tanh(s/c), before the mask.\n"
    "kv_lengths: integers (B,), B the product of the sizes before Hq: batch b has only its first kv_lengths[b] keys;\n"
    "  causal and window count from that end.\n"
    "return_lse: also return the logarithm of the softmax's denominator, (…, Hq, Tq), float32 or, for float64, that.\n"
    "force_fused: accepted, changes nothing.\n"
    "out: an array to write to, (…, Hq, Tq, Dv) of type promote(q, k, v); with return_lse a pair.\n"
    "stream: a CUDA stream, as torch's or CuPy's object or its address, for arrays on a GPU instead of their library's current\n"
    "  one; arrays in CPU memory ignore it.\n\n"
    "Returns an array of q's kind, or (out, lse). A query that sees no key gives 0, and an lse of -inf or the sink's\n"
    "logit.\n"
    "Raises ValueError for shapes, values and types, TypeError for arguments of another kind.",
};

/* ---- backward ------------------------------------------------------------------------------------ */

typedef struct attention_gradients {
    array dout, out, lse, dlse;
    output d[5]; /* dq, dk, dv, dsinks, dmask */
} attention_gradients;
#define ATTENTION_GRADIENTS_EMPTY                              \
    { ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY, ARRAY_EMPTY,      \
      { OUTPUT_EMPTY, OUTPUT_EMPTY, OUTPUT_EMPTY, OUTPUT_EMPTY, OUTPUT_EMPTY } }

static bool gradients_begin(attention_gradients *g, const attention_inputs *in, PyObject *out, bool mask_grad,
                            const char *op) {
    static const char *const names[5] = { "gradients[0]", "gradients[1]", "gradients[2]", "gradients[3]", "gradients[4]" };
    const array none = ARRAY_EMPTY;
    const array *likes[5] = { &in->q, &in->k, &in->v, &in->sinks, mask_grad ? &in->mask : &none };
    PyObject *destinations[5];
    const uint8_t code = in->mask.tensor.dtype.code;
    if (mask_grad && !(in->mask.present && (code == INVAR_FLOAT || code == INVAR_BFLOAT))) {
        PyErr_Format(PyExc_ValueError, "%s: mask_grad: expected False without an additive floating mask, got True", op);
        return false;
    }
    if (!split_destinations(out, 5, destinations, op, "gradients")) return false;
    for (int i = 0; i < 5; i++)
        if (!output_like(&g->d[i], destinations[i], likes[i], in->options.execution.stream, op, names[i])) return false;
    return true;
}

static invar_status differentiate(attention_gradients *g, attention_inputs *in) {
    return invar_scaled_dot_product_attention_vjp(
        NULL, given(&g->d[0].array), given(&g->d[1].array), given(&g->d[2].array), given(&g->d[3].array),
        given(&g->d[4].array), &g->dout.tensor, &in->q.tensor, &in->k.tensor, &in->v.tensor, &g->out.tensor,
        &g->lse.tensor, given(&in->mask), given(&in->sinks), given(&in->kv_lengths), given(&g->dlse), &in->options);
}

static PyObject *run_scaled_dot_product_attention_vjp(PyObject *const *values, invar_plan *plan) {
    enum { DOUT, Q, K, V, OUTPUT, LSE, SCALE, MASK, SINKS, WINDOW, SOFTCAP, KV_LENGTHS, DLSE, MASK_GRAD, FORCE_FUSED,
           OUT, STREAM };
    static const attention_places at = { Q, SCALE, MASK, SINKS, WINDOW, SOFTCAP, KV_LENGTHS, FORCE_FUSED, STREAM };
    const char *op = "scaled_dot_product_attention_vjp";
    attention_inputs in = ATTENTION_INPUTS_EMPTY;
    attention_gradients g = ATTENTION_GRADIENTS_EMPTY;
    bool mask_grad = false;
    PyObject *result = NULL;
    in.options.execution.plan = plan;
    bool ok = array_in(&g.dout, values[DOUT], op, "dout") && inputs_in(&in, values, &at, op) &&
              array_in(&g.out, values[OUTPUT], op, "out") && array_in(&g.lse, values[LSE], op, "lse") &&
              array_in_optional(&g.dlse, values[DLSE], op, "dlse") &&
              flag_in(&mask_grad, values[MASK_GRAD], op, "mask_grad") &&
              gradients_begin(&g, &in, values[OUT], mask_grad, op);
    if (ok) INVAR_COMPUTE(ok, differentiate(&g, &in));
    if (ok) result = results(g.d, 5, plan);
    inputs_release(&in);
    array *all[] = { &g.dout, &g.out, &g.lse, &g.dlse };
    for (int i = 0; i < 4; i++) array_release(all[i]);
    for (int i = 0; i < 5; i++) output_release(&g.d[i]);
    return result;
}

operation operation_scaled_dot_product_attention_vjp = {
    { "scaled_dot_product_attention_vjp", 6, 8, 17,
      { NAME("dout"), NAMES("q", "queries"), NAMES("k", "keys"), NAMES("v", "values"), NAME("out"), NAME("lse"),
        NAME("scale"), NAME("mask"), NAME("sinks"), NAME("window"), NAME("softcap"),
        NAME("kv_lengths"), NAME("dlse"), NAME("mask_grad"), NAME("force_fused"), NAME("gradients"),
        NAME("stream") } },
    run_scaled_dot_product_attention_vjp,
    "scaled_dot_product_attention_vjp($module, dout, q, k, v, out, lse, scale=None, mask=None, *, sinks=None, window=None, "
    "softcap=None, kv_lengths=None, dlse=None, mask_grad=False, force_fused=False, gradients=None, stream=None)\n--\n\n"
    "Gradients of scaled_dot_product_attention, given its out and lse and the gradient dout of out.\n\n"
    "dout: the shape of out. out, lse: what the call returned with return_lse=True. The other arguments are the call's.\n"
    "dlse: the gradient that reaches the lse, where it was used.\n"
    "mask_grad: also return the gradient of an additive floating mask.\n"
    "gradients: five arrays to write to, (dq, dk, dv, dsinks, dmask); None makes a new one.\n\n"
    "Returns (dq, dk, dv, dsinks, dmask), each of its own argument's kind, shape and type; None where there is nothing.\n"
    "Raises ValueError and TypeError as scaled_dot_product_attention does.",
};
