/* Arrays that are less, or more, than the memory they export: traced ones, whose values are not there yet, and torch's
 * tensors with a gradient, a tangent or a sign put off. Each is refused with what to do instead. */
#include "formats.h"

#include <string.h>

/* ---- without values -------------------------------------------------------------------------------- */

bool is_jax_tracer(PyObject *object) {
    PyObject *name = PyType_GetName(Py_TYPE(object));
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    size_t length = text ? strlen(text) : 0;
    bool tracer = length >= 6 && !strcmp(text + length - 6, "Tracer") && library_owns(Py_TYPE(object), "jax");
    Py_XDECREF(name);
    return tracer;
}

/* Whether object.name, called where it is a method, is true. */
static bool is_true(PyObject *object, const char *name) {
    PyObject *value = attribute_or_null(object, name), *called = NULL;
    if (value && PyCallable_Check(value)) called = PyObject_CallNoArgs(value);
    bool result = value == Py_True || called == Py_True;
    Py_XDECREF(value);
    Py_XDECREF(called);
    PyErr_Clear();
    return result;
}

/* The exception that is set is the library's own. */
bool raise_no_export(PyObject *object, const char *operation, const char *argument) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    bool traced = is_jax_tracer(object), deleted = is_true(object, "is_deleted");
    PyErr_Restore(type, value, traceback);
    return raise_because(PyExc_ValueError, operation, argument,
                         traced ? "expected an array with values, got one that JAX traces: inside jit, grad and vmap call "
                                  "invar.jax's functions" :
                         deleted ? "expected an array with values, got one that has been deleted" :
                                   "expected an array that exports itself through DLPack, got one that does not");
}

/* Of torch's layouts only torch.sparse_coo has an attribute that tells. */
static bool is_sparse(PyObject *object) {
    PyObject *layout = attribute_or_null(object, "layout"), *name = layout ? PyObject_Str(layout) : NULL;
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    bool sparse = text && !strncmp(text, "torch.sparse", strlen("torch.sparse"));
    Py_XDECREF(name);
    Py_XDECREF(layout);
    PyErr_Clear();
    return sparse;
}

/* A tensor inside torch.vmap, torch.func.grad and their kind. */
static bool in_transform(PyObject *object) {
    PyObject *module = PyDict_GetItemString(PyImport_GetModuleDict(), "torch._C._functorch");
    PyObject *inside = module ? PyObject_CallMethod(module, "is_functorch_wrapped_tensor", "O", object) : NULL;
    bool result = inside == Py_True;
    Py_XDECREF(inside);
    PyErr_Clear(); /* another torch than those known has other names */
    return result;
}

static const char *const without_memory[][2] = {
    { "is_nested", "expected a dense tensor, got a nested one: pass its parts" },
    { "is_quantized", "expected a dense tensor, got a quantised one: pass tensor.dequantize()" },
    { "is_meta", "expected a tensor with values, got one on meta, which has none" },
    { "is_mkldnn", "expected a dense tensor, got one of MKLDNN's: pass tensor.to_dense()" },
};

bool raise_no_memory(PyObject *object, const char *operation, const char *argument) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback); /* torch's own words, if any */
    const char *sentence = NULL;
    if (in_transform(object))
        sentence = "expected a tensor with values, got one inside torch.func (vmap, grad, jvp, functionalize): call "
                   "invar.torch's functions";
    for (size_t i = 0; !sentence && i < sizeof without_memory / sizeof *without_memory; i++)
        if (is_true(object, without_memory[i][0])) sentence = without_memory[i][1];
    if (!sentence && is_sparse(object)) sentence = "expected a dense tensor, got a sparse one: pass tensor.to_dense()";
    if (sentence || !type) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    if (sentence) {
        PyErr_Format(PyExc_ValueError, "%s: %s: %s", operation, argument, sentence);
        return false;
    }
    if (!type) return raise_expected(PyExc_ValueError, operation, argument, "a tensor with memory of its own", object);
    PyErr_Restore(type, value, traceback);
    return raise_because(PyExc_ValueError, operation, argument,
                         "expected a dense tensor that DLPack describes, got one that it does not");
}

bool raise_fake(PyObject *object, const char *operation, const char *argument) {
    return raise_expected(PyExc_ValueError, operation, argument, "a tensor with values (in code that torch traces, call invar.torch's "
                          "functions)", object);
}

/* ---- with more than values --------------------------------------------------------------------------- */

/* The sentence says what to do instead; torch refuses to export a tensor that requires grad too. */
static bool refuse_gradient(PyObject *object, const char *operation, const char *argument) {
    static PyObject *name;
    if (!name && !(name = PyUnicode_InternFromString("requires_grad"))) return false;
    PyObject *flag = PyObject_GetAttr(object, name);
    if (!flag) PyErr_Clear();
    bool requires_grad = flag == Py_True;
    Py_XDECREF(flag);
    if (requires_grad && in_transform(object)) /* where detach() leads nowhere */
        return raise_no_memory(object, operation, argument);
    if (requires_grad)
        PyErr_Format(PyExc_ValueError,
                     "%s: %s: expected a tensor without requires_grad, got one with it: pass tensor.detach(), or call "
                     "invar.torch's functions, which torch differentiates", operation, argument);
    return !requires_grad;
}

/* A tensor of forward-mode differentiation: torch exports its value and forgets the tangent. There is none outside a
 * dual_level, which is all that a call looks for then. */
static bool refuse_tangent(PyObject *object, const char *operation, const char *argument) {
    static PyObject *forward_ad, *level_name;
    if (!level_name && !(level_name = PyUnicode_InternFromString("_current_level"))) return false;
    if (!forward_ad) forward_ad = Py_XNewRef(PyDict_GetItemString(PyImport_GetModuleDict(), "torch.autograd.forward_ad"));
    PyObject *level = forward_ad ? PyObject_GetAttr(forward_ad, level_name) : NULL, *dual = NULL, *tangent = NULL;
    if (level && PyLong_AsLong(level) >= 0) dual = PyObject_CallMethod(forward_ad, "unpack_dual", "O", object);
    if (dual) tangent = PyObject_GetAttrString(dual, "tangent");
    PyErr_Clear(); /* another torch than those known has other names */
    bool differentiated = tangent && tangent != Py_None;
    Py_XDECREF(level);
    Py_XDECREF(dual);
    Py_XDECREF(tangent);
    if (differentiated)
        PyErr_Format(PyExc_ValueError, "%s: %s: expected a tensor without a tangent, got one of torch's forward-mode "
                     "differentiation, which this has no rule for", operation, argument);
    return !differentiated;
}

/* torch exports a tensor whose negation it has put off (z.conj().imag) as the memory stands, with the wrong sign. */
static bool refuse_negative(PyObject *object, const char *operation, const char *argument) {
    static PyObject *name;
    if (!name && !(name = PyUnicode_InternFromString("is_neg"))) return false;
    PyObject *flag = PyObject_CallMethodObjArgs(object, name, NULL);
    if (!flag) PyErr_Clear();
    bool negative = flag == Py_True;
    Py_XDECREF(flag);
    if (negative)
        PyErr_Format(PyExc_ValueError,
                     "%s: %s: expected a tensor without the negative bit, got one with it: pass tensor.resolve_neg()", operation,
                     argument);
    return !negative;
}

bool refuse_more_than_values(PyObject *object, const char *operation, const char *argument) {
    return refuse_gradient(object, operation, argument) && refuse_tangent(object, operation, argument) &&
           refuse_negative(object, operation, argument);
}
