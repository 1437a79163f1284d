/* DLPack in and out: capsules of both generations, and the C function table of libraries that have one. Nothing is
 * copied; a tensor of another library is borrowed while the call runs, a result is handed over with its memory. */
#include "formats.h"
#include "memory.h"

#include <stdlib.h>
#include <string.h>

static PyObject *empty_tuple, *max_version; /* () and {"max_version": (1, 0)} */
static PyObject *unordered, *max_version_unordered; /* the same without and with that version, and {"stream": -1} */
static PyTypeObject *exporter_type;

/* ---- in ------------------------------------------------------------------------------------------ */

static bool is_cuda(invar_device device) { return device.type == INVAR_DEVICE_CUDA || device.type == DLPACK_CUDA_MANAGED; }

/* On a GPU, arrays of a library whose current stream can be asked for, and which makes results beside them. */
static bool is_reached(array_kind kind, invar_device device, const char *operation, const char *argument) {
    if (device.type == DLPACK_CPU || device.type == DLPACK_CUDA_HOST) return true;
    if (!is_cuda(device))
        PyErr_Format(device_error, "%s: %s: expected an array in CPU memory or on a CUDA device, got one on a device of DLPack "
                     "type %d", operation, argument, (int)device.type);
    else if (kind != ARRAY_EXCHANGE && kind != ARRAY_MODULE)
        PyErr_Format(device_error, "%s: %s: expected an array in CPU memory, or torch's or CuPy's on a GPU, got another library's "
                     "on CUDA device %d: pass torch.from_dlpack(array)", operation, argument, (int)device.id);
    else
        return true;
    return false;
}

bool array_borrow(array *a, const invar_tensor *tensor, const char *operation, const char *argument) {
    if (!is_reached(a->kind, tensor->device, operation, argument)) return false;
    if (tensor->ndim > ARRAY_MAX_DIMS || tensor->ndim < 0) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected at most %d dimensions, got %d", operation, argument,
                     ARRAY_MAX_DIMS, (int)tensor->ndim);
        return false;
    }
    a->tensor = *tensor;
    a->tensor.device = is_cuda(tensor->device) ? (invar_device){ INVAR_DEVICE_CUDA, tensor->device.id } :
                                                 (invar_device){ INVAR_DEVICE_CPU, 0 };
    size_t bytes = sizeof *a->shape * (size_t)tensor->ndim;
    if (bytes) memcpy(a->shape, tensor->shape, bytes);
    if (bytes && tensor->strides) memcpy(a->strides, tensor->strides, bytes);
    a->tensor.shape = a->shape;
    a->tensor.strides = tensor->strides ? a->strides : NULL;
    a->present = true;
    return true;
}

const dlpack_exchange *dlpack_exchange_of(PyTypeObject *type) {
    PyObject *capsule = attribute_or_null((PyObject *)type, "__dlpack_c_exchange_api__");
    if (!capsule) return NULL;
    const dlpack_exchange *exchange = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    if (!exchange) PyErr_Clear();
    while (exchange && exchange->version.major != 1) exchange = exchange->previous;
    if (exchange && !exchange->borrow) exchange = NULL; /* the one that a library may leave out */
    Py_DECREF(capsule); /* the table itself is static, as the protocol demands */
    return exchange;
}

static bool holds_elements(const invar_tensor *tensor) {
    for (int d = 0; d < tensor->ndim; d++)
        if (!tensor->shape[d]) return false;
    return true;
}

bool dlpack_view_exchange(array *a, PyObject *object, const dlpack_exchange *exchange, const char *operation,
                          const char *argument) {
    invar_tensor tensor;
    if (!refuse_more_than_values(object, operation, argument)) return false;
    if (exchange->borrow(object, &tensor) < 0 || (!tensor.data && holds_elements(&tensor)))
        return raise_no_memory(object, operation, argument);
    return array_borrow(a, &tensor, operation, argument);
}

/* Asks where the array lives before anything is exported: a CUDA array's export would wait for its stream. */
static bool check_device(PyObject *object, array_kind kind, bool *on_cuda, const char *operation, const char *argument) {
    PyObject *method = attribute_or_null(object, "__dlpack_device__");
    if (!method) return true;
    PyObject *pair = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    PyObject *type = pair ? PySequence_GetItem(pair, 0) : NULL, *id = pair ? PySequence_GetItem(pair, 1) : NULL;
    invar_device device = { DLPACK_CPU, 0 };
    if (type && id) device = (invar_device){ (int32_t)PyLong_AsLong(type), (int32_t)PyLong_AsLong(id) };
    Py_XDECREF(pair);
    Py_XDECREF(type);
    Py_XDECREF(id);
    if (PyErr_Occurred()) return raise_no_export(object, operation, argument);
    *on_cuda = is_cuda(device);
    return is_reached(kind, device, operation, argument);
}

/* Of an array on a GPU without waiting for a stream: work goes where the library's own would. */
static PyObject *export_capsule(PyObject *object, bool on_cuda) {
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    if (!method) return NULL;
    PyObject *capsule = PyObject_Call(method, empty_tuple, on_cuda ? max_version_unordered : max_version);
    if (!capsule && PyErr_ExceptionMatches(PyExc_TypeError)) { /* a library from before DLPack 1.0 */
        PyErr_Clear();
        capsule = PyObject_Call(method, empty_tuple, on_cuda ? unordered : NULL);
    }
    Py_DECREF(method);
    return capsule;
}

bool dlpack_view_capsule(array *a, PyObject *object, const char *operation, const char *argument) {
    bool on_cuda = false;
    if (!check_device(object, a->kind, &on_cuda, operation, argument) ||
        !refuse_more_than_values(object, operation, argument))
        return false;
    a->keeper = export_capsule(object, on_cuda);
    const invar_tensor *tensor = NULL;
    if (a->keeper && PyCapsule_IsValid(a->keeper, "dltensor_versioned")) {
        const dlpack_versioned *versioned = PyCapsule_GetPointer(a->keeper, "dltensor_versioned");
        if (versioned && versioned->version.major == 1) {
            /* What is written to a copy does not reach the array. */
            a->read_only = versioned->flags & (DLPACK_READ_ONLY | DLPACK_COPIED);
            tensor = &versioned->tensor;
        }
    } else if (a->keeper) {
        const dlpack_legacy *legacy = PyCapsule_GetPointer(a->keeper, "dltensor");
        if (legacy) tensor = &legacy->tensor;
    }
    if (!tensor && a->kind == ARRAY_MLX)
        return raise_because(PyExc_ValueError, operation, argument, pending_error_says("function transformations")
                             ? "expected an array that MLX can evaluate here, which inside mx.compile, vmap and "
                               "export_function it cannot (invar.mlx.install(metal=True) and mx.disable_compile() turn mx.compile off)"
                             : "expected an array that MLX can evaluate");
    if (!tensor) return raise_no_export(object, operation, argument);
    return array_borrow(a, tensor, operation, argument);
}

/* ---- out ----------------------------------------------------------------------------------------- */

static void raise_allocation(void *context, const char *kind, const char *message) {
    (void)context, (void)kind;
    PyErr_SetString(PyExc_MemoryError, message);
}

PyObject *dlpack_empty(const dlpack_exchange *exchange, invar_tensor *prototype) {
    dlpack_versioned *tensor = NULL;
    void *object = NULL;
    if (exchange->allocate(prototype, &tensor, NULL, raise_allocation) < 0) return NULL;
    return exchange->import_owned(tensor, &object) < 0 ? NULL : object;
}

/* Memory on its way out: one of the two heads goes into a capsule or to an exchange table. */
typedef struct parcel {
    union {
        dlpack_versioned versioned;
        dlpack_legacy legacy;
    } head;
    int64_t shape[ARRAY_MAX_DIMS], strides[ARRAY_MAX_DIMS];
    void *data;
    size_t size;
} parcel;

static void parcel_free(parcel *self) {
    memory_give(self->data, self->size);
    free(self);
}

static void delete_versioned(dlpack_versioned *tensor) { parcel_free(tensor->owner); }
static void delete_legacy(dlpack_legacy *tensor) { parcel_free(tensor->owner); }

static parcel *parcel_new(void *data, size_t size, const invar_tensor *tensor, bool versioned) {
    parcel *self = malloc(sizeof *self);
    if (!self) {
        memory_give(data, size);
        PyErr_NoMemory();
        return NULL;
    }
    int64_t stride = 1;
    for (int d = tensor->ndim - 1; d >= 0; d--) {
        self->shape[d] = tensor->shape[d];
        self->strides[d] = stride;
        stride *= tensor->shape[d] > 1 ? tensor->shape[d] : 1;
    }
    self->data = data;
    self->size = size;
    invar_tensor head = *tensor;
    head.shape = self->shape;
    head.strides = self->strides;
    if (versioned)
        self->head.versioned = (dlpack_versioned){ { 1, 1 }, self, delete_versioned, 0, head };
    else
        self->head.legacy = (dlpack_legacy){ head, self, delete_legacy };
    return self;
}

PyObject *dlpack_wrap_exchange(const dlpack_exchange *exchange, void *data, size_t size, const invar_tensor *tensor) {
    parcel *self = parcel_new(data, size, tensor, true);
    void *result = NULL;
    return self && exchange->import_owned(&self->head.versioned, &result) == 0 ? result : NULL;
}

/* What from_dlpack() is given: an object with __dlpack__ and __dlpack_device__ that hands its parcel over once. */
typedef struct exporter {
    PyObject_HEAD
    parcel *parcel;
} exporter;

static void exporter_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    if (((exporter *)self)->parcel) parcel_free(((exporter *)self)->parcel);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* A capsule whose consumer took the tensor has been renamed by it. */
static void capsule_free(PyObject *capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;
    dlpack_legacy *tensor = PyCapsule_GetPointer(capsule, "dltensor");
    if (tensor) tensor->deleter(tensor);
}

static PyObject *exporter_dlpack(PyObject *self, PyObject *args, PyObject *keywords) {
    (void)args, (void)keywords; /* stream, max_version, dl_device, copy: nothing here depends on them */
    exporter *source = (exporter *)self;
    if (!source->parcel) {
        PyErr_SetString(PyExc_BufferError, "this memory has been exported already");
        return NULL;
    }
    PyObject *capsule = PyCapsule_New(&source->parcel->head.legacy, "dltensor", capsule_free);
    if (capsule) source->parcel = NULL;
    return capsule;
}

static PyObject *exporter_device(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return Py_BuildValue("(ii)", DLPACK_CPU, 0);
}

PyObject *dlpack_wrap(PyObject *from_dlpack, void *data, size_t size, const invar_tensor *tensor) {
    parcel *self = parcel_new(data, size, tensor, false);
    if (!self) return NULL;
    exporter *source = PyObject_New(exporter, exporter_type);
    if (!source) {
        parcel_free(self);
        return NULL;
    }
    source->parcel = self;
    PyObject *result = PyObject_CallFunctionObjArgs(from_dlpack, (PyObject *)source, NULL);
    Py_DECREF((PyObject *)source);
    return result;
}

bool dlpack_init(void) {
    static PyMethodDef methods[] = {
        { "__dlpack__", (PyCFunction)(void (*)(void))exporter_dlpack, METH_VARARGS | METH_KEYWORDS,
          "The memory, handed over once." },
        { "__dlpack_device__", exporter_device, METH_NOARGS, "(kDLCPU, 0)." },
        { NULL, NULL, 0, NULL },
    };
    static PyType_Slot slots[] = { { Py_tp_dealloc, SLOT(exporter_dealloc) },
                                   { Py_tp_methods, methods },
                                   { Py_tp_doc, (void *)"One output on its way to another library." },
                                   { 0, NULL } };
    static PyType_Spec spec = { "invar._ext.Exporter", sizeof(exporter), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots };
    exporter_type = (PyTypeObject *)PyType_FromSpec(&spec);
    empty_tuple = PyTuple_New(0);
    max_version = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
    unordered = Py_BuildValue("{si}", "stream", -1);
    max_version_unordered = Py_BuildValue("{sis(ii)}", "stream", -1, "max_version", 1, 0);
    return exporter_type && empty_tuple && max_version && unordered && max_version_unordered;
}
