/* Arguments in and results out, whatever the library. */
#include "array.h"

#include "formats.h"
#include "memory.h"

/* ---- in ------------------------------------------------------------------------------------------ */

/* Buffers, lists and scalars, as NumPy would take them. Text is no array, and neither is what NumPy makes an object of. */
static bool convert(array *a, PyObject *object, const char *operation, const char *argument) {
    bool number = PyFloat_Check(object) || PyLong_Check(object) || PyComplex_Check(object);
    bool text = PyUnicode_Check(object) || PyBytes_Check(object);
    bool buffer = PyObject_CheckBuffer(object) && !number; /* NumPy's scalars are buffers too */
    if (text || !(is_sequence(object) || number || buffer))
        return raise_expected(PyExc_TypeError, operation, argument, "an array", object);
    a->keeper = numpy_asarray(object);
    if (!a->keeper)
        return raise_because(PyExc_ValueError, operation, argument, "expected numbers in equal rows, got a list without");
    a->converted = !numpy_is_view(a->keeper);
    return numpy_view(a, a->keeper, operation, argument);
}

bool array_in(array *a, PyObject *object, const char *operation, const char *argument) {
    const dlpack_exchange *exchange = NULL;
    a->object = object;
    a->kind = ARRAY_NUMPY;
    if (numpy_is_array(object)) return numpy_view(a, object, operation, argument);
    if (!library_kind(Py_TYPE(object), &a->kind, &exchange)) return convert(a, object, operation, argument);
    if (a->kind == ARRAY_FAKE) return raise_fake(object, operation, argument);
    if (exchange) return dlpack_view_exchange(a, object, exchange, operation, argument);
    return dlpack_view_capsule(a, object, operation, argument);
}

bool array_in_optional(array *a, PyObject *object, const char *operation, const char *argument) {
    return !object || object == Py_None || array_in(a, object, operation, argument);
}

bool array_in_number(array *a, PyObject *number, invar_dtype dtype, const char *operation, const char *argument) {
    a->object = number;
    a->kind = ARRAY_NUMPY;
    a->keeper = numpy_asarray_typed(number, dtype);
    if (!a->keeper) return raise_because(PyExc_ValueError, operation, argument, "expected a number of the result's type");
    return numpy_view(a, a->keeper, operation, argument);
}

void array_release(array *a) { Py_CLEAR(a->keeper); }

invar_dtype promoted(const array *const *arrays, int count) {
    const invar_dtype single = { INVAR_FLOAT, 32, 1 };
    invar_dtype result = { 0, 0, 0 };
    for (int i = 0; i < count; i++) {
        if (!arrays[i]->present) continue;
        invar_dtype type = arrays[i]->tensor.dtype;
        if (type.code != INVAR_FLOAT && type.code != INVAR_BFLOAT) return single;
        if (!result.bits)
            result = type;
        else if (type.bits == 64 || result.bits == 64)
            result = (invar_dtype){ INVAR_FLOAT, 64, 1 };
        else if (type.code != result.code || type.bits != result.bits)
            result = single;
    }
    return result;
}

/* ---- out ----------------------------------------------------------------------------------------- */

static bool use_destination(output *out, PyObject *destination, const char *operation, const char *argument) {
    array *a = &out->array;
    if (!array_in(a, destination, operation, argument)) return false;
    if (a->converted) return raise_expected(PyExc_TypeError, operation, argument, "an array to write to", destination);
    if (a->kind == ARRAY_JAX)
        return raise_expected(PyExc_ValueError, operation, argument, "an array that may be written, and JAX's are immutable",
                              destination);
    if (a->read_only) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected an array that may be written, got a read-only one", operation,
                     argument);
        return false;
    }
    out->result = Py_NewRef(destination);
    return true;
}

/* Bytes of a result, or SIZE_MAX where they do not fit. */
static size_t bytes_of(int ndim, const int64_t *shape, invar_dtype dtype) {
    size_t bytes = dtype.bits / 8;
    bool overflow = false;
    for (int d = 0; d < ndim; d++) {
        if (!shape[d]) return 0;
        overflow |= __builtin_mul_overflow(bytes, (size_t)shape[d], &bytes);
    }
    return overflow ? SIZE_MAX : bytes;
}

static bool take_memory(output *out, const char *operation, const char *argument) {
    array *a = &out->array;
    size_t bytes = bytes_of(a->tensor.ndim, a->shape, a->tensor.dtype);
    out->data = bytes == SIZE_MAX ? NULL : memory_take(bytes, &out->size);
    if (!out->data) {
        PyErr_Format(PyExc_MemoryError, "%s: %s: cannot allocate the result", operation, argument);
        return false;
    }
    a->tensor.data = out->data;
    a->tensor.device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    a->tensor.byte_offset = 0;
    a->tensor.shape = a->shape;
    a->tensor.strides = NULL;
    return true;
}

bool output_begin(output *out, PyObject *destination, const array *like, int ndim, const int64_t *shape,
                  invar_dtype dtype, void *stream, const char *operation, const char *argument) {
    array *a = &out->array;
    if (destination && destination != Py_None) return use_destination(out, destination, operation, argument);
    a->kind = like->kind;
    a->object = like->object;
    if (like->kind == ARRAY_MLX) { /* MLX copies what it imports, so it makes its array itself and this writes into it */
        out->result = mlx_empty(ndim, shape, dtype);
        if (!out->result) return raise_because(PyExc_ValueError, operation, argument, "MLX cannot make the result");
        return array_in(a, out->result, operation, argument);
    }
    if (like->tensor.device.type == INVAR_DEVICE_CUDA) {
        out->result = array_empty_beside(like, ndim, shape, dtype, stream, operation, argument);
        return out->result && array_in(a, out->result, operation, argument);
    }
    a->present = true;
    a->tensor.dtype = dtype;
    a->tensor.ndim = ndim;
    for (int d = 0; d < ndim; d++) a->shape[d] = shape[d];
    return take_memory(out, operation, argument);
}

bool output_like(output *out, PyObject *destination, const array *like, void *stream, const char *operation,
                 const char *argument) {
    if (!like->present) {
        if (!destination || destination == Py_None) return true;
        PyErr_Format(PyExc_ValueError, "%s: %s: expected None where there is no gradient, got an array", operation,
                     argument);
        return false;
    }
    return output_begin(out, destination, like, like->tensor.ndim, like->shape, like->tensor.dtype, stream, operation,
                        argument);
}

PyObject *output_finish(output *out) {
    array *a = &out->array;
    if (!a->present) return Py_NewRef(Py_None);
    PyObject *result = out->result;
    out->result = NULL;
    if (result) return result;
    void *data = out->data;
    out->data = NULL; /* whoever wraps it owns it, also when wrapping fails */
    if (a->kind == ARRAY_NUMPY) return numpy_wrap(data, out->size, &a->tensor);
    array_kind kind;
    const dlpack_exchange *exchange = NULL;
    library_kind(Py_TYPE(a->object), &kind, &exchange);
    if (exchange) return dlpack_wrap_exchange(exchange, data, out->size, &a->tensor);
    PyObject *from_dlpack = library_from_dlpack(a->object, a->kind);
    if (!from_dlpack) {
        memory_give(data, out->size);
        return NULL;
    }
    result = dlpack_wrap(from_dlpack, data, out->size, &a->tensor);
    Py_DECREF(from_dlpack);
    return result;
}

PyObject *outputs_finish(output *outputs, int count) {
    if (count == 1) return output_finish(outputs);
    PyObject *tuple = PyTuple_New(count);
    for (int i = 0; tuple && i < count; i++) {
        PyObject *item = output_finish(&outputs[i]);
        if (!item || PyTuple_SetItem(tuple, i, item) < 0) Py_CLEAR(tuple);
    }
    return tuple;
}

void output_release(output *out) {
    if (out->data) memory_give(out->data, out->size);
    out->data = NULL;
    Py_CLEAR(out->result);
    array_release(&out->array);
}

bool split_destinations(PyObject *out, int count, PyObject **destinations, const char *operation,
                        const char *argument) {
    for (int i = 0; i < count; i++) destinations[i] = NULL;
    if (!out || out == Py_None) return true;
    if (!is_sequence(out))
        return raise_expected(PyExc_TypeError, operation, argument, "a tuple of arrays, one a result", out);
    if (length_of(out) != count) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected %d arrays, one a result, got %zd", operation, argument, count,
                     length_of(out));
        return false;
    }
    for (int i = 0; i < count; i++) destinations[i] = item_of(out, i);
    return true;
}

bool arrays_init(void) { return memory_init() && numpy_init() && dlpack_init(); }
