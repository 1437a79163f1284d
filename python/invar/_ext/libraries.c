/* Which library an array type belongs to, and how that library makes a new array. */
#include "formats.h"

#include <string.h>

/* ---- kinds, remembered per type ------------------------------------------------------------------ */

typedef struct known_type {
    PyTypeObject *type; /* owned, so that its address is not reused */
    array_kind kind;
    const dlpack_exchange *exchange;
} known_type;

enum { KNOWN_TYPES = 16 };

static known_type known[KNOWN_TYPES];
static int known_count;

bool library_owns(PyTypeObject *type, const char *package) {
    PyObject *module = attribute_or_null((PyObject *)type, "__module__");
    Py_ssize_t length = 0;
    const char *name = module && PyUnicode_Check(module) ? PyUnicode_AsUTF8AndSize(module, &length) : NULL;
    size_t prefix = strlen(package);
    bool result = name && (size_t)length >= prefix && !memcmp(name, package, prefix) &&
                  (!name[prefix] || name[prefix] == '.');
    Py_XDECREF(module);
    PyErr_Clear();
    return result;
}

static bool classify(known_type *entry, PyTypeObject *type) {
    entry->exchange = dlpack_exchange_of(type);
    PyObject *export = attribute_or_null((PyObject *)type, "__dlpack__");
    bool exports = export != NULL;
    Py_XDECREF(export);
    if (library_owns(type, "torch._subclasses")) /* looking at its memory makes torch print a warning */
        entry->kind = ARRAY_FAKE;
    else if (entry->exchange)
        entry->kind = ARRAY_EXCHANGE;
    else if (library_owns(type, "jaxlib") || library_owns(type, "jax"))
        entry->kind = ARRAY_JAX;
    else if (library_owns(type, "mlx"))
        entry->kind = ARRAY_MLX;
    else if (library_owns(type, "torch") || library_owns(type, "cupy"))
        entry->kind = ARRAY_MODULE;
    else
        entry->kind = ARRAY_DLPACK;
    entry->type = type;
    return entry->exchange || exports;
}

bool library_kind(PyTypeObject *type, array_kind *kind, const dlpack_exchange **exchange) {
    known_type fresh, *entry = NULL;
    for (int i = 0; i < known_count && !entry; i++)
        if (known[i].type == type) entry = &known[i];
    if (!entry) {
        if (!classify(&fresh, type)) return false;
        entry = &fresh;
        if (known_count < KNOWN_TYPES) {
            Py_INCREF((PyObject *)type);
            known[known_count++] = fresh;
        }
    }
    *kind = entry->kind;
    *exchange = entry->exchange;
    return true;
}

/* ---- new arrays ---------------------------------------------------------------------------------- */

static PyObject *import_attribute(const char *module_name, const char *name) {
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *value = module ? PyObject_GetAttrString(module, name) : NULL;
    Py_XDECREF(module);
    return value;
}

PyObject *library_from_dlpack(PyObject *object, array_kind kind) {
    static PyObject *jax_from_dlpack;
    if (kind == ARRAY_JAX) {
        if (!jax_from_dlpack) jax_from_dlpack = import_attribute("jax.dlpack", "from_dlpack");
        return Py_XNewRef(jax_from_dlpack);
    }
    PyObject *get_namespace = attribute_or_null(object, "__array_namespace__"); /* the Python array API standard */
    PyObject *library = get_namespace ? PyObject_CallNoArgs(get_namespace) : PyImport_ImportModule("numpy");
    Py_XDECREF(get_namespace);
    PyObject *result = library ? PyObject_GetAttrString(library, "from_dlpack") : NULL;
    Py_XDECREF(library);
    return result;
}

const char *dtype_name(invar_dtype dtype) {
    if (dtype.code == INVAR_BFLOAT) return "bfloat16";
    if (dtype.code == INVAR_FLOAT) return dtype.bits == 16 ? "float16" : dtype.bits == 32 ? "float32" : "float64";
    if (dtype.code == INVAR_COMPLEX) return "complex64";
    if (dtype.code == INVAR_BOOL) return "bool_";
    static const char *const integers[2][4] = { { "int8", "int16", "int32", "int64" },
                                                { "uint8", "uint16", "uint32", "uint64" } };
    int width = dtype.bits == 8 ? 0 : dtype.bits == 16 ? 1 : dtype.bits == 32 ? 2 : 3;
    return integers[dtype.code == INVAR_UINT][width];
}

PyObject *shape_tuple(int ndim, const int64_t *shape) {
    PyObject *tuple = PyTuple_New(ndim);
    for (int d = 0; tuple && d < ndim; d++) {
        PyObject *size = PyLong_FromLongLong(shape[d]);
        if (!size || PyTuple_SetItem(tuple, d, size) < 0) Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *mlx_empty(int ndim, const int64_t *shape, invar_dtype dtype) {
    static PyObject *make, *evaluate;
    if (!make) make = import_attribute("mlx.core", "empty");
    if (!make) { /* MLX before 0.30 */
        PyErr_Clear();
        make = import_attribute("mlx.core", "zeros");
    }
    if (!evaluate) evaluate = import_attribute("mlx.core", "eval");
    PyObject *type = make && evaluate ? import_attribute("mlx.core", dtype_name(dtype)) : NULL;
    PyObject *dims = type ? shape_tuple(ndim, shape) : NULL;
    PyObject *result = dims ? PyObject_CallFunctionObjArgs(make, dims, type, NULL) : NULL;
    Py_XDECREF(dims);
    Py_XDECREF(type);
    PyObject *done = result ? PyObject_CallFunctionObjArgs(evaluate, result, NULL) : NULL;
    if (!done) Py_CLEAR(result);
    Py_XDECREF(done);
    return result;
}
