/* What arrays on a GPU need beside a view: the stream that their library works on, and results in its memory. Torch's table of C
 * functions has both; invar._cuda calls the Python functions of libraries without one. */
#include "formats.h"

/* invar._cuda, after it has shown the C library where NVRTC lies. NULL with an exception. Borrowed. */
static PyObject *helper(void) {
    static PyObject *module; /* read and written with the GIL held */
    if (module) return module;
    PyObject *found = PyImport_ImportModule("invar._cuda");
    PyObject *done = found ? PyObject_CallMethod(found, "prepare", NULL) : NULL;
    if (done && !module) module = Py_NewRef(found); /* another thread may have come first */
    Py_XDECREF(done);
    Py_XDECREF(found);
    return done ? module : NULL;
}

/* ---- streams --------------------------------------------------------------------------------------- */

/* The one that the array's library works on now, on the array's device. */
static bool current_stream(const array *a, void **stream) {
    const int id = a->tensor.device.id;
    array_kind kind;
    const dlpack_exchange *exchange = NULL;
    library_kind(Py_TYPE(a->object), &kind, &exchange);
    if (exchange) return exchange->current_stream(INVAR_DEVICE_CUDA, id, stream) >= 0;
    PyObject *module = helper(), *number = module ? PyObject_CallMethod(module, "current_stream", "Oi", a->object, id) : NULL;
    *stream = number ? PyLong_AsVoidPtr(number) : NULL;
    Py_XDECREF(number);
    return !PyErr_Occurred();
}

/* A CUstream's address, or what has one: torch's streams as cuda_stream, CuPy's as ptr. */
static bool stream_handle(void **stream, PyObject *given, const char *operation) {
    PyObject *named = PyIndex_Check(given) ? Py_NewRef(given) : attribute_or_null(given, "cuda_stream");
    if (!named) named = attribute_or_null(given, "ptr");
    PyObject *number = named && !PyBool_Check(named) ? PyNumber_Index(named) : NULL;
    Py_XDECREF(named);
    if (!number) {
        PyErr_Clear();
        return raise_expected(PyExc_TypeError, operation, "stream", "a CUDA stream or None", given);
    }
    *stream = (void *)PyLong_AsSize_t(number);
    const bool good = !PyErr_Occurred();
    if (!good) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: stream: expected the address of a CUDA stream, got %S", operation, number);
    }
    Py_DECREF(number);
    return good;
}

bool array_stream(const array *a, PyObject *given, void **stream, const char *operation) {
    if (a->tensor.device.type != INVAR_DEVICE_CUDA) return stream_in(given, operation);
    if (!helper()) return false;
    if (!left_out(given)) return stream_handle(stream, given, operation);
    return current_stream(a, stream) ||
           raise_because(device_error, operation, "stream", "expected the library of the arrays to have a current stream");
}

/* ---- results --------------------------------------------------------------------------------------- */

/* The library's words are set, as an exception of whatever type: torch's table says MemoryError of every failure. */
static bool raise_no_result(const char *operation, const char *argument) {
    const bool full = pending_error_says("ut of memory"); /* "CUDA out of memory", "Out of memory allocating" */
    return raise_because(full ? PyExc_MemoryError : device_error, operation, argument,
                         "the library of the arrays cannot make the result on their device");
}

/* Memory belongs to the stream it is taken on: given back, it may be used again by what is enqueued there later. So where the
 * caller names another stream than the library's current one, the result is made with that one as the current. */
PyObject *array_empty_beside(const array *like, int ndim, const int64_t *shape, invar_dtype dtype, void *stream,
                             const char *operation, const char *argument) {
    array_kind kind;
    const dlpack_exchange *exchange = NULL;
    void *current = NULL;
    PyObject *result = NULL;
    library_kind(Py_TYPE(like->object), &kind, &exchange);
    const bool known = !exchange || current_stream(like, &current);
    if (known && exchange && current == stream) {
        int64_t sizes[ARRAY_MAX_DIMS];
        for (int d = 0; d < ndim; d++) sizes[d] = shape[d];
        invar_tensor prototype = { .device = like->tensor.device, .ndim = ndim, .dtype = dtype, .shape = sizes };
        result = dlpack_empty(exchange, &prototype);
    } else if (known) {
        PyObject *module = helper(), *dims = module ? shape_tuple(ndim, shape) : NULL;
        if (dims)
            result = PyObject_CallMethod(module, "empty", "OOsin", like->object, dims, dtype_name(dtype), like->tensor.device.id,
                                         (Py_ssize_t)(intptr_t)stream);
        Py_XDECREF(dims);
    }
    if (!result) raise_no_result(operation, argument);
    return result;
}
