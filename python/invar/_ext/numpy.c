/* NumPy arrays: read through their struct, which costs a few nanoseconds where the buffer protocol costs 150, and made
 * over memory of our own. ml_dtypes' bfloat16 exports neither buffer nor DLPack, but here it is a dtype like any other. */
#include "formats.h"
#include "memory.h"

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

static PyObject *bfloat16_type; /* ml_dtypes.bfloat16, once it has been met */
static int bfloat16_number;     /* its NumPy type number */

bool numpy_init(void) { return _import_array() >= 0; }

bool numpy_is_array(PyObject *object) { return PyArray_Check(object); }

bool numpy_is_view(PyObject *object) { return PyArray_BASE((PyArrayObject *)object) != NULL; }

PyObject *numpy_asarray(PyObject *object) { return PyArray_FROM_O(object); }

/* Finds ml_dtypes.bfloat16's type number. False without an exception where ml_dtypes is not installed. */
static bool know_bfloat16(void) {
    if (bfloat16_type) return true;
    PyObject *module = PyImport_ImportModule("ml_dtypes");
    PyObject *type = module ? PyObject_GetAttrString(module, "bfloat16") : NULL;
    PyArray_Descr *descr = NULL;
    if (type && PyArray_DescrConverter(type, &descr) == NPY_SUCCEED) {
        bfloat16_number = descr->type_num;
        bfloat16_type = type;
        type = NULL;
    }
    Py_XDECREF((PyObject *)descr);
    Py_XDECREF(type);
    Py_XDECREF(module);
    PyErr_Clear();
    return bfloat16_type != NULL;
}

/* NumPy's own types, by their numbers. */
static const invar_dtype numbered[] = {
    [NPY_BOOL] = { INVAR_BOOL, 8, 1 },
    [NPY_BYTE] = { INVAR_INT, 8, 1 },
    [NPY_UBYTE] = { INVAR_UINT, 8, 1 },
    [NPY_SHORT] = { INVAR_INT, 16, 1 },
    [NPY_USHORT] = { INVAR_UINT, 16, 1 },
    [NPY_INT] = { INVAR_INT, 32, 1 },
    [NPY_UINT] = { INVAR_UINT, 32, 1 },
    [NPY_LONG] = { INVAR_INT, NPY_BITSOF_LONG, 1 },
    [NPY_ULONG] = { INVAR_UINT, NPY_BITSOF_LONG, 1 },
    [NPY_LONGLONG] = { INVAR_INT, 64, 1 },
    [NPY_ULONGLONG] = { INVAR_UINT, 64, 1 },
    [NPY_FLOAT] = { INVAR_FLOAT, 32, 1 },
    [NPY_DOUBLE] = { INVAR_FLOAT, 64, 1 },
    [NPY_CFLOAT] = { INVAR_COMPLEX, 64, 1 },
    [NPY_CDOUBLE] = { INVAR_COMPLEX, 128, 1 },
    [NPY_HALF] = { INVAR_FLOAT, 16, 1 },
};
enum { NUMBERED = sizeof numbered / sizeof *numbered };

static bool dtype_of(invar_dtype *dtype, const PyArray_Descr *descr) {
    int number = descr->type_num;
    if (number >= 0 && number < NUMBERED && numbered[number].bits) {
        *dtype = numbered[number];
        return descr->byteorder != '>'; /* '=' is what every native type says, on a little-endian machine */
    }
    if (number < NPY_USERDEF || !know_bfloat16() || number != bfloat16_number) return false;
    *dtype = (invar_dtype){ INVAR_BFLOAT, 16, 1 };
    return true;
}

/* Of a subclass of NumPy's array that numpy.ma knows. One exists only where that module has been imported. */
static bool is_masked(PyObject *object) {
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = PyArray_CheckExact(object) ? NULL : PyDict_GetItemString(modules, "numpy.ma");
    PyObject *type = module ? PyObject_GetAttrString(module, "MaskedArray") : NULL;
    bool masked = type && PyObject_IsInstance(object, type) > 0;
    Py_XDECREF(type);
    if (PyErr_Occurred()) PyErr_Clear(); /* a module that is half imported has made no arrays */
    return masked;
}

bool numpy_view(array *a, PyObject *object, const char *operation, const char *argument) {
    PyArrayObject *source = (PyArrayObject *)object;
    invar_tensor *tensor = &a->tensor;
    int ndim = PyArray_NDIM(source);
    if (is_masked(object)) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected an array without a mask, got a masked one, whose mask would count for "
                     "nothing: pass .filled(value) or .data", operation, argument);
        return false;
    }
    if (!dtype_of(&tensor->dtype, PyArray_DESCR(source))) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected a native boolean, integer or floating type, got %S", operation,
                     argument, (PyObject *)PyArray_DESCR(source));
        return false;
    }
    if (ndim > ARRAY_MAX_DIMS) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected at most %d dimensions, got %d", operation, argument,
                     ARRAY_MAX_DIMS, ndim);
        return false;
    }
    const npy_intp *dims = PyArray_DIMS(source), *strides = PyArray_STRIDES(source);
    npy_intp item = tensor->dtype.bits / 8;
    for (int d = 0; d < ndim; d++) {
        a->shape[d] = dims[d];
        a->strides[d] = strides[d] / item;
        if (strides[d] % item && dims[d] > 1) {
            PyErr_Format(PyExc_ValueError, "%s: %s: expected strides of whole elements, got %zd bytes for elements of %zd",
                         operation, argument, (Py_ssize_t)strides[d], (Py_ssize_t)item);
            return false;
        }
    }
    tensor->data = PyArray_DATA(source);
    tensor->device = (invar_device){ INVAR_DEVICE_CPU, 0 };
    tensor->ndim = ndim;
    tensor->shape = a->shape;
    tensor->strides = a->strides;
    tensor->byte_offset = 0;
    a->read_only = !PyArray_ISWRITEABLE(source);
    a->present = true;
    return true;
}

static PyArray_Descr *descr_of(invar_dtype dtype) {
    for (int number = 0; number < NUMBERED; number++)
        if (dtype.code == numbered[number].code && dtype.bits == numbered[number].bits) return PyArray_DescrFromType(number);
    if (dtype.code == INVAR_BFLOAT && know_bfloat16()) return PyArray_DescrFromType(bfloat16_number);
    PyErr_SetString(PyExc_ValueError, "NumPy has no type for this result; bfloat16 needs the package ml_dtypes");
    return NULL;
}

PyObject *numpy_asarray_typed(PyObject *object, invar_dtype dtype) {
    PyArray_Descr *descr = descr_of(dtype); /* PyArray_FromAny takes it over */
    return descr ? PyArray_FromAny(object, descr, 0, 0, NPY_ARRAY_FORCECAST, NULL) : NULL;
}

PyObject *numpy_wrap(void *data, size_t size, const invar_tensor *tensor) {
    npy_intp dims[ARRAY_MAX_DIMS];
    for (int d = 0; d < tensor->ndim; d++) dims[d] = tensor->shape[d];
    PyArray_Descr *descr = descr_of(tensor->dtype);
    PyObject *owner = memory_owner(data, size);
    if (!descr || !owner) {
        Py_XDECREF((PyObject *)descr);
        Py_XDECREF(owner);
        return NULL;
    }
    PyObject *result = PyArray_NewFromDescr(&PyArray_Type, descr, tensor->ndim, dims, NULL, data, NPY_ARRAY_CARRAY, NULL);
    if (!result) {
        Py_DECREF(owner);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)result, owner) < 0) Py_CLEAR(result); /* owner is taken over either way */
    return result;
}
