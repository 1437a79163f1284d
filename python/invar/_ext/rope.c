/* rope and its gradient, which differ in the direction of the turn only. */
#include "operations.h"

#include <math.h>

/* An integer stays a number of 64 bits; anything else is an array of integers, or refused. */
static bool offset_in(array *offset, int64_t *number, PyObject *value, const char *op) {
    if (!value) return true;
    const char *expected = "an integer, or an array of integers";
    if (PyBool_Check(value) || PyFloat_Check(value)) return raise_expected(PyExc_ValueError, op, "offset", expected, value);
    if (value == Py_None || PyUnicode_Check(value)) return raise_expected(PyExc_TypeError, op, "offset", expected, value);
    if (PyLong_Check(value)) return integer_in(number, value, op, "offset");
    return array_in(offset, value, op, "offset");
}

/* base left out is 10000 unless freqs take its place; given beside freqs it is one too many, whatever its value. */
static bool base_in(double *base, PyObject *value, bool with_freqs, const char *op) {
    if (with_freqs) *base = 0.0;
    if (!value) return true;
    if (value == Py_None) {
        if (with_freqs) return true;
        PyErr_Format(PyExc_ValueError, "%s: base: expected a base or freqs, got neither", op);
        return false;
    }
    if (!number_in(base, value, op, "base")) return false;
    if (with_freqs) {
        PyErr_Format(PyExc_ValueError, "%s: base: expected None or nothing beside freqs, got %S", op, value);
        return false;
    }
    if (*base > 0.0 && isfinite(*base)) return true; /* 0 is how C says that there is none */
    PyErr_Format(PyExc_ValueError, "%s: base: expected a positive, finite number, got %S", op, value);
    return false;
}

typedef invar_status rope_function(invar_context *, const invar_tensor *, const invar_tensor *, const invar_tensor *,
                                   const invar_tensor *, const invar_rope_options *);

static PyObject *run(PyObject *const *values, invar_plan *plan, rope_function *function, const char *op,
                     const char *input_name) {
    enum { X, DIMS, TRADITIONAL, BASE, SCALE, OFFSET, FREQS, OUT, STREAM };
    array x = ARRAY_EMPTY, offset = ARRAY_EMPTY, freqs = ARRAY_EMPTY;
    output y = OUTPUT_EMPTY;
    invar_rope_options options = INVAR_ROPE_OPTIONS_INIT;
    void **stream = &options.execution.stream;
    options.execution.plan = plan;
    bool traditional = false;
    PyObject *result = NULL;
    bool ok = array_in(&x, values[X], op, input_name) && integer_in(&options.dims, values[DIMS], op, "dims") &&
              flag_in(&traditional, values[TRADITIONAL], op, "traditional") &&
              array_in_optional(&freqs, values[FREQS], op, "freqs") &&
              base_in(&options.base, values[BASE], freqs.present, op) &&
              number_in(&options.scale, values[SCALE], op, "scale") &&
              offset_in(&offset, &options.offset, values[OFFSET], op) &&
              array_stream(&x, values[STREAM], stream, op) &&
              output_begin(&y, values[OUT], &x, x.tensor.ndim, x.shape, x.tensor.dtype, *stream, op, "out");
    options.traditional = traditional;
    if (ok) INVAR_COMPUTE(ok, function(NULL, &y.array.tensor, &x.tensor, given(&offset), given(&freqs), &options));
    if (ok) result = results(&y, 1, plan);
    array_release(&x);
    array_release(&offset);
    array_release(&freqs);
    output_release(&y);
    return result;
}

static PyObject *run_rope(PyObject *const *values, invar_plan *plan) {
    return run(values, plan, invar_rope, "rope", "x");
}

static PyObject *run_rope_vjp(PyObject *const *values, invar_plan *plan) {
    return run(values, plan, invar_rope_vjp, "rope_vjp", "dy");
}

#define OPTIONS                                                                                               \
    NAME("dims"), NAME("traditional"), NAME("base"), NAME("scale"), NAME("offset"),       \
        NAME("freqs"), NAME("out"), NAME("stream")

operation operation_rope = {
    { "rope", 2, 7, 9, { NAMES("x", "a"), OPTIONS } },
    run_rope,
    "rope($module, x, dims, traditional=False, base=10000, scale=1.0, offset=0, freqs=None, *, out=None, stream=None)\n--\n\n"
    "Rotary positional embedding: pair i of position p turns by (p + offset) · scale · base^(-2i/dims), or by\n"
    "(p + offset) · scale / freqs[i].\n\n"
    "x (also by the name a): (…, T, D), rank 2 to 8, a floating type; with rank 3 and above the first axis is the batch.\n"
    "dims: how many leading features turn, even, 0 < dims <= D; the rest is copied.\n"
    "traditional: pairs are (2i, 2i + 1); otherwise (i, i + dims/2).\n"
    "base: positive; None, or left out, with freqs.\n"
    "scale: a number that positions are multiplied by.\n"
    "offset: an integer, or integers of shape (), (1,) or (B,); negative ones too, 64 bits.\n"
    "freqs: (dims/2,), real numbers, read as float32. It has no gradient.\n"
    "out: an array of x's shape and type to write to; x itself is allowed.\n"
    "stream: a CUDA stream, as torch's or CuPy's object or its address, for arrays on a GPU instead of their library's current\n"
    "  one; arrays in CPU memory ignore it.\n\n"
    "Returns an array of x's kind, shape and type.\n"
    "Raises ValueError for shapes, values and types (an offset that is no integer is one), TypeError for other objects.",
};

operation operation_rope_vjp = {
    { "rope_vjp", 2, 7, 9, { NAME("dy"), OPTIONS } },
    run_rope_vjp,
    "rope_vjp($module, dy, dims, traditional=False, base=10000, scale=1.0, offset=0, freqs=None, *, out=None, stream=None)\n"
    "--\n\n"
    "Gradient of rope for x, given the gradient dy of its result: the inverse turn.\n\n"
    "dy: (…, T, D). The other arguments are those of the call itself; out may be dy itself.\n\n"
    "Returns dx, an array of dy's kind, shape and type. Raises ValueError and TypeError as rope does.",
};
