/* rms_norm, add_rms_norm, layer_norm and their gradients. */
#include "operations.h"

/* ---- what the norms share ------------------------------------------------------------------------ */

/* Behind x and weight, and in layer_norm bias, as `rest`. */
enum { EPS, OUT, STREAM };

static PyObject *forward(PyObject *const *values, invar_plan *plan, const char *op, bool centred) {
    enum { X, WEIGHT, BIAS };
    PyObject *const *rest = values + (centred ? BIAS : WEIGHT) + 1, *result = NULL;
    array x = ARRAY_EMPTY, weight = ARRAY_EMPTY, bias = ARRAY_EMPTY;
    output y = OUTPUT_EMPTY;
    invar_norm_options options = INVAR_NORM_OPTIONS_INIT;
    void **stream = &options.execution.stream;
    options.execution.plan = plan;
    bool ok = array_in(&x, values[X], op, "x") && array_in_optional(&weight, values[WEIGHT], op, "weight") &&
              (!centred || array_in_optional(&bias, values[BIAS], op, "bias")) && number_in(&options.eps, rest[EPS], op, "eps") &&
              array_stream(&x, rest[STREAM], stream, op) &&
              output_begin(&y, rest[OUT], &x, x.tensor.ndim, x.shape,
                           promoted((const array *[]){ &x, &weight, &bias }, weight.present ? 3 : 1), *stream, op, "out");
    if (ok && centred)
        INVAR_COMPUTE(ok, invar_layer_norm(NULL, &y.array.tensor, &x.tensor, given(&weight), given(&bias), &options));
    else if (ok)
        INVAR_COMPUTE(ok, invar_rms_norm(NULL, &y.array.tensor, &x.tensor, given(&weight), &options));
    if (ok) result = results(&y, 1, plan);
    array_release(&x);
    array_release(&weight);
    array_release(&bias);
    output_release(&y);
    return result;
}

static PyObject *backward(PyObject *const *values, invar_plan *plan, const char *op, bool centred) {
    enum { DY, X, WEIGHT, BIAS };
    const int count = centred ? 3 : 2; /* of gradients */
    PyObject *const *rest = values + (centred ? BIAS : WEIGHT) + 1, *destinations[3], *result = NULL;
    array dy = ARRAY_EMPTY, x = ARRAY_EMPTY, weight = ARRAY_EMPTY, bias = ARRAY_EMPTY;
    output gradients[3] = { OUTPUT_EMPTY, OUTPUT_EMPTY, OUTPUT_EMPTY };
    invar_norm_options options = INVAR_NORM_OPTIONS_INIT;
    void **stream = &options.execution.stream;
    options.execution.plan = plan;
    bool ok = array_in(&dy, values[DY], op, "dy") && array_in(&x, values[X], op, "x") &&
              array_in_optional(&weight, values[WEIGHT], op, "weight") &&
              (!centred || array_in_optional(&bias, values[BIAS], op, "bias")) && number_in(&options.eps, rest[EPS], op, "eps") &&
              array_stream(&x, rest[STREAM], stream, op) && split_destinations(rest[OUT], count, destinations, op, "out") &&
              output_like(&gradients[0], destinations[0], &x, *stream, op, "out[0]") &&
              output_like(&gradients[1], destinations[1], &weight, *stream, op, "out[1]") &&
              (!centred || output_like(&gradients[2], destinations[2], &bias, *stream, op, "out[2]"));
    const invar_tensor *dx = given(&gradients[0].array), *dweight = given(&gradients[1].array);
    if (ok && centred)
        INVAR_COMPUTE(ok, invar_layer_norm_vjp(NULL, dx, dweight, given(&gradients[2].array), &dy.tensor, &x.tensor,
                                               given(&weight), given(&bias), &options));
    else if (ok)
        INVAR_COMPUTE(ok, invar_rms_norm_vjp(NULL, dx, dweight, &dy.tensor, &x.tensor, given(&weight), &options));
    if (ok) result = results(gradients, count, plan);
    array_release(&dy);
    array_release(&x);
    array_release(&weight);
    array_release(&bias);
    for (int i = 0; i < count; i++) output_release(&gradients[i]);
    return result;
}

/* ---- rms_norm ------------------------------------------------------------------------------------ */

static PyObject *run_rms_norm(PyObject *const *values, invar_plan *plan) { return forward(values, plan, "rms_norm", false); }

operation operation_rms_norm = {
    { "rms_norm", 1, 3, 5, { NAME("x"), NAME("weight"), NAME("eps"), NAME("out"), NAME("stream") } },
    run_rms_norm,
    "rms_norm($module, x, weight=None, eps=1e-05, *, out=None, stream=None)\n--\n\n"
    "Root mean square norm over the last axis: x · rsqrt(mean(x²) + eps) · weight.\n\n"
    "x: (…, D), rank 1 to 8, float32, float16, bfloat16 or float64, any strides.\n"
    "weight: (D,) or None; its type may differ from x's.\n"
    "eps: finite and not negative.\n"
    "out: an array of the result's shape and type to write to; x itself is allowed.\n"
    "stream: a CUDA stream, as torch's or CuPy's object or its address, for arrays on a GPU instead of their library's current\n"
    "  one; arrays in CPU memory ignore it.\n\n"
    "Returns an array of x's kind and shape, of type promote(x, weight). Sums are in float32, float64 for float64.\n"
    "Raises ValueError for shapes, values and types, TypeError for arguments that are no arrays or numbers.",
};

static PyObject *run_rms_norm_vjp(PyObject *const *values, invar_plan *plan) {
    return backward(values, plan, "rms_norm_vjp", false);
}

operation operation_rms_norm_vjp = {
    { "rms_norm_vjp", 2, 4, 6,
      { NAME("dy"), NAME("x"), NAME("weight"), NAME("eps"), NAME("out"), NAME("stream") } },
    run_rms_norm_vjp,
    "rms_norm_vjp($module, dy, x, weight=None, eps=1e-05, *, out=None, stream=None)\n--\n\n"
    "Gradients of rms_norm(x, weight, eps), given the gradient dy of its result.\n\n"
    "dy: (…, D), the shape of x, any floating type. x, weight, eps: as in rms_norm.\n"
    "out: a pair of arrays to write to, (dx, dweight); None makes a new one. dx may be dy itself.\n\n"
    "Returns (dx, dweight), each of its own argument's kind, shape and type; dweight is None without weight.\n"
    "Raises ValueError and TypeError as rms_norm does.",
};

static PyObject *run_add_rms_norm(PyObject *const *values, invar_plan *plan) {
    enum { X, RESIDUAL, WEIGHT };
    const char *op = "add_rms_norm";
    PyObject *const *rest = values + WEIGHT + 1;
    array x = ARRAY_EMPTY, residual = ARRAY_EMPTY, weight = ARRAY_EMPTY;
    const array *all[] = { &x, &residual, &weight };
    output outputs[2] = { OUTPUT_EMPTY, OUTPUT_EMPTY }; /* norm, sum */
    PyObject *destinations[2], *result = NULL;
    invar_norm_options options = INVAR_NORM_OPTIONS_INIT;
    void **stream = &options.execution.stream;
    options.execution.plan = plan;
    bool ok = array_in(&x, values[X], op, "x") && array_in(&residual, values[RESIDUAL], op, "residual") &&
              array_in_optional(&weight, values[WEIGHT], op, "weight") &&
              number_in(&options.eps, rest[EPS], op, "eps") &&
              array_stream(&x, rest[STREAM], stream, op) &&
              split_destinations(rest[OUT], 2, destinations, op, "out") &&
              output_begin(&outputs[0], destinations[0], &x, x.tensor.ndim, x.shape, promoted(all, 3), *stream, op,
                           "out[0]") &&
              output_begin(&outputs[1], destinations[1], &x, x.tensor.ndim, x.shape, promoted(all, 2), *stream, op,
                           "out[1]");
    if (ok)
        INVAR_COMPUTE(ok, invar_add_rms_norm(NULL, &outputs[0].array.tensor, &outputs[1].array.tensor, &x.tensor,
                                             &residual.tensor, given(&weight), &options));
    if (ok) result = results(outputs, 2, plan);
    array_release(&x);
    array_release(&residual);
    array_release(&weight);
    for (int i = 0; i < 2; i++) output_release(&outputs[i]);
    return result;
}

operation operation_add_rms_norm = {
    { "add_rms_norm", 2, 4, 6,
      { NAME("x"), NAME("residual"), NAME("weight"), NAME("eps"), NAME("out"), NAME("stream") } },
    run_add_rms_norm,
    "add_rms_norm($module, x, residual, weight=None, eps=1e-05, *, out=None, stream=None)\n--\n\n"
    "rms_norm(x + residual, weight, eps) and x + residual, in one pass; the norm is taken of the unrounded sum.\n\n"
    "x, residual: (…, D), of one shape. weight, eps: as in rms_norm.\n"
    "out: a pair of arrays to write to, (norm, sum); None makes a new one. sum may be x or residual itself.\n\n"
    "Returns (norm, sum): types promote(x, residual, weight) and promote(x, residual).\n"
    "Raises ValueError and TypeError as rms_norm does.",
};

/* ---- layer_norm ---------------------------------------------------------------------------------- */

static PyObject *run_layer_norm(PyObject *const *values, invar_plan *plan) { return forward(values, plan, "layer_norm", true); }

operation operation_layer_norm = {
    { "layer_norm", 1, 4, 6,
      { NAME("x"), NAME("weight"), NAME("bias"), NAME("eps"), NAME("out"), NAME("stream") } },
    run_layer_norm,
    "layer_norm($module, x, weight=None, bias=None, eps=1e-05, *, out=None, stream=None)\n--\n\n"
    "Layer norm over the last axis: (x - mean) · rsqrt(variance + eps) · weight + bias, with the biased variance of\n"
    "centred values.\n\n"
    "x: (…, D), rank 1 to 8, float32, float16, bfloat16 or float64, any strides.\n"
    "weight, bias: (D,) or None, each on its own; their types may differ from x's.\n"
    "eps: finite and not negative.\n"
    "out: an array of the result's shape and type to write to; x itself is allowed.\n"
    "stream: a CUDA stream, as torch's or CuPy's object or its address, for arrays on a GPU instead of their library's current\n"
    "  one; arrays in CPU memory ignore it.\n\n"
    "Returns an array of x's kind and shape, of type promote(x, weight, bias), or of x's type without weight.\n"
    "Raises ValueError for shapes, values and types, TypeError for arguments that are no arrays or numbers.",
};

static PyObject *run_layer_norm_vjp(PyObject *const *values, invar_plan *plan) {
    return backward(values, plan, "layer_norm_vjp", true);
}

operation operation_layer_norm_vjp = {
    { "layer_norm_vjp", 2, 5, 7,
      { NAME("dy"), NAME("x"), NAME("weight"), NAME("bias"), NAME("eps"), NAME("out"),
        NAME("stream") } },
    run_layer_norm_vjp,
    "layer_norm_vjp($module, dy, x, weight=None, bias=None, eps=1e-05, *, out=None, stream=None)\n--\n\n"
    "Gradients of layer_norm(x, weight, bias, eps), given the gradient dy of its result.\n\n"
    "dy: (…, D), the shape of x, any floating type. x, weight, bias, eps: as in layer_norm.\n"
    "out: three arrays to write to, (dx, dweight, dbias); None makes a new one. dx may be dy itself.\n\n"
    "Returns (dx, dweight, dbias), each of its own argument's kind, shape and type; None for an argument not given.\n"
    "Raises ValueError and TypeError as layer_norm does.",
};
