/* The arguments of a kernel's call: inputs, shapes, dtypes, grid, template arguments, and the short form's broadcasting. */
#include "kernels.h"

#include "arguments.h"
#include "operations.h"

#include <string.h>

/* ---- dtypes ------------------------------------------------------------------------------------------- */

static PyObject *dtype_codes; /* dict: a dtype object that was met → code · 256 + bits */

/* What invar._kernels says of a dtype, remembered: the same objects come with every call. */
bool kernel_dtype_in(invar_dtype *dtype, PyObject *object, const char *operation) {
    if (!dtype_codes && !(dtype_codes = PyDict_New())) return false;
    PyObject *code = PyDict_GetItemWithError(dtype_codes, object); /* borrowed */
    if (code) Py_INCREF(code);
    if (!code) {
        PyErr_Clear(); /* what cannot be hashed is no dtype; the call below says so */
        PyObject *module = PyImport_ImportModule("invar._kernels");
        code = module ? PyObject_CallMethod(module, "dtype_code", "Os", object, operation) : NULL;
        Py_XDECREF(module);
        if (!code || PyDict_SetItem(dtype_codes, object, code) < 0) {
            Py_XDECREF(code);
            return false;
        }
    }
    long value = PyLong_AsLong(code);
    Py_DECREF(code);
    *dtype = (invar_dtype){ (uint8_t)(value / 256), (uint8_t)(value % 256), 1 };
    return true;
}

/* ---- inputs ------------------------------------------------------------------------------------------- */

/* A Python number is an array of no dimensions: bool, int32 (int64 where it is larger) or float32. */
static bool number_input(kernel_call *call, int32_t i, PyObject *object) {
    array *a = &call->inputs[i];
    const kernel_handle *handle = call->handle;
    invar_dtype dtype = { INVAR_FLOAT, 32, 1 };
    if (PyFloat_Check(object)) {
        float value = (float)PyFloat_AsDouble(object);
        memcpy(&call->numbers[i], &value, sizeof value);
    } else {
        int64_t value = 0;
        bool truth = PyBool_Check(object);
        if (truth) value = object == Py_True;
        else if (!integer_in(&value, object, handle->operation, handle->names[i])) return false;
        int32_t narrow = (int32_t)value;
        dtype = truth ? (invar_dtype){ INVAR_BOOL, 8, 1 } : (invar_dtype){ INVAR_INT, narrow == value ? 32 : 64, 1 };
        memcpy(&call->numbers[i], &value, sizeof value); /* little-endian: the low bytes come first */
    }
    a->kind = ARRAY_NUMPY;
    a->object = object;
    a->present = a->converted = true;
    a->tensor = (invar_tensor){ .data = &call->numbers[i], .device = { INVAR_DEVICE_CPU, 0 }, .dtype = dtype };
    a->tensor.shape = a->shape;
    return true;
}

/* np.float64 derives from Python's float: what `1 / np.sqrt(d)` gives is a number to Metal, which has no such type. */
static bool is_number(const kernel_call *call, PyObject *object) {
    return PyFloat_CheckExact(object) || PyLong_Check(object) || (call->handle->metal && PyFloat_Check(object));
}

static bool expect_length(const kernel_call *call, PyObject *sequence, int32_t length, const char *argument,
                          const char *what, const char *items) {
    if (!is_sequence(sequence)) return raise_expected(PyExc_TypeError, call->handle->operation, argument, what, sequence);
    if (length_of(sequence) == length) return true;
    PyErr_Format(PyExc_ValueError, "%s: %s: expected %d%s, got %zd", call->handle->operation, argument, (int)length, items,
                 length_of(sequence));
    return false;
}

bool kernel_inputs_in(kernel_call *call, PyObject *inputs) {
    const kernel_handle *handle = call->handle;
    if (!expect_length(call, inputs, handle->input_count, "inputs", "a list of arrays", ", one for each input name")) return false;
    for (int32_t i = 0; i < handle->input_count; i++) {
        PyObject *object = item_of(inputs, i);
        if (!(is_number(call, object) ? number_input(call, i, object)
                                      : array_in(&call->inputs[i], object, handle->operation, handle->names[i])))
            return false;
        call->input_tensors[i] = &call->inputs[i].tensor;
    }
    return true;
}

/* ---- grid, threadgroup, template, init_value, check ----------------------------------------------------- */

static bool sizes_in(const kernel_call *call, int64_t sizes[3], PyObject *object, const char *argument) {
    if (!expect_length(call, object, 3, argument, "a tuple of three integers", " sizes")) return false;
    for (int d = 0; d < 3; d++)
        if (!integer_in(&sizes[d], item_of(object, d), call->handle->operation, argument)) return false;
    return true;
}

/* A value that is neither bool nor int nor dtype is a ValueError, whatever the dtype's reader raised. */
static bool template_value_in(const kernel_call *call, invar_template_argument *argument, PyObject *value) {
    if (PyBool_Check(value)) {
        argument->kind = INVAR_TEMPLATE_BOOL;
        argument->value = value == Py_True;
        return true;
    }
    if (PyLong_Check(value)) {
        argument->kind = INVAR_TEMPLATE_INT;
        return integer_in(&argument->value, value, call->handle->operation, "template");
    }
    argument->kind = INVAR_TEMPLATE_DTYPE;
    if (kernel_dtype_in(&argument->dtype, value, call->handle->operation)) return true;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError)) return false;
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: template: %s: expected a bool, an int or a dtype, got %R", call->handle->operation,
                 argument->name, value);
    return false;
}

static bool template_in(kernel_call *call, PyObject *templates) {
    const char *operation = call->handle->operation;
    if (templates == Py_None) return true;
    if (!is_sequence(templates))
        return raise_expected(PyExc_TypeError, operation, "template", "a list of (name, value)", templates);
    Py_ssize_t count = length_of(templates);
    if (count > KERNEL_MAX_TEMPLATES) {
        PyErr_Format(PyExc_ValueError, "%s: template: expected at most %d arguments, got %zd", operation,
                     KERNEL_MAX_TEMPLATES, count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = item_of(templates, i);
        if (!is_sequence(pair) || length_of(pair) != 2 || !PyUnicode_Check(item_of(pair, 0)))
            return raise_expected(PyExc_ValueError, operation, "template", "pairs of a name and a value", pair);
        Py_ssize_t length = 0;
        call->templates[i].name = PyUnicode_AsUTF8AndSize(item_of(pair, 0), &length);
        if (!call->templates[i].name || strlen(call->templates[i].name) != (size_t)length)
            return raise_because(PyExc_ValueError, operation, "template", "expected names that are identifiers, got other text");
        if (!template_value_in(call, &call->templates[i], item_of(pair, 1))) return false;
    }
    call->options.template_arguments = call->templates;
    call->options.template_count = (int32_t)count;
    return true;
}

bool kernel_options_in(kernel_call *call, PyObject *grid, PyObject *threadgroup, PyObject *templates, PyObject *init_value,
                       PyObject *check) {
    const char *operation = call->handle->operation;
    invar_launch_options *options = &call->options;
    *options = (invar_launch_options)INVAR_LAUNCH_OPTIONS_INIT;
    if (grid != Py_None && !sizes_in(call, options->grid, grid, "grid")) return false;
    if (threadgroup != Py_None && !sizes_in(call, options->threadgroup, threadgroup, "threadgroup")) return false;
    if (!template_in(call, templates)) return false;
    options->has_init_value = init_value != Py_None;
    if (init_value != Py_None && !number_in(&options->init_value, init_value, operation, "init_value")) return false;
    if (check == Py_None) return true;
    if (PyUnicode_Check(check) && !PyUnicode_CompareWithASCIIString(check, "strict")) {
        options->check = INVAR_CHECK_STRICT;
        return true;
    }
    if (PyUnicode_Check(check)) {
        PyErr_Format(PyExc_ValueError, "%s: check: expected True, False or 'strict', got %R", operation, check);
        return false;
    }
    if (!PyBool_Check(check)) return raise_expected(PyExc_TypeError, operation, "check", "True, False or 'strict'", check);
    options->check = check == Py_True ? INVAR_CHECK_ON : INVAR_CHECK_OFF;
    return true;
}

bool kernel_scalars_in(kernel_call *call, PyObject *scalars) {
    const char *operation = call->handle->operation;
    if (scalars == Py_None) return true;
    if (!is_sequence(scalars)) return raise_expected(PyExc_TypeError, operation, "scalars", "a list of numbers", scalars);
    const Py_ssize_t count = length_of(scalars);
    if (count > KERNEL_MAX_SCALARS) {
        PyErr_Format(PyExc_ValueError, "%s: scalars: expected at most %d, got %zd", operation, KERNEL_MAX_SCALARS, count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = item_of(scalars, i);
        invar_scalar_argument *scalar = &call->numbers_behind[i];
        scalar->kind = PyBool_Check(item) ? INVAR_SCALAR_BOOL : PyIndex_Check(item) ? INVAR_SCALAR_INT : INVAR_SCALAR_FLOAT;
        scalar->value = item == Py_True;
        if (!PyBool_Check(item) && !number_in(&scalar->value, item, operation, "scalars")) return false;
    }
    call->options.scalars = call->numbers_behind;
    call->options.scalar_count = (int32_t)count;
    return true;
}

/* ---- outputs ------------------------------------------------------------------------------------------ */

static const array numpy = { .kind = ARRAY_NUMPY };

/* The array whose kind and device the outputs take: the first on a GPU, else the first input that is no Python number. */
static const array *like_of(const kernel_call *call) {
    const array *first = NULL;
    for (int32_t i = 0; i < call->handle->input_count; i++) {
        const array *input = &call->inputs[i];
        if (input->tensor.device.type == INVAR_DEVICE_CUDA) return input;
        if (!first && !input->converted) first = input;
    }
    return first ? first : &numpy;
}

bool kernel_on_gpu(const kernel_call *call) { return like_of(call)->tensor.device.type == INVAR_DEVICE_CUDA; }

bool kernel_stream_in(kernel_call *call, PyObject *given) {
    return array_stream(like_of(call), given, &call->options.execution.stream, call->handle->operation);
}

static bool begin_output(kernel_call *call, int32_t i, int ndim, const int64_t *shape, invar_dtype dtype) {
    const kernel_handle *handle = call->handle;
    const char *name = handle->names[handle->input_count + i];
    if (!output_begin(&call->outputs[i], NULL, like_of(call), ndim, shape, dtype, call->options.execution.stream, handle->operation,
                      name))
        return false;
    call->output_tensors[i] = &call->outputs[i].array.tensor;
    return true;
}

static bool shape_in(const kernel_call *call, int64_t shape[ARRAY_MAX_DIMS], int *ndim, PyObject *object) {
    const char *operation = call->handle->operation;
    if (!is_sequence(object)) return raise_expected(PyExc_TypeError, operation, "output_shapes", "a tuple of sizes", object);
    Py_ssize_t length = length_of(object);
    if (length > ARRAY_MAX_DIMS) {
        PyErr_Format(PyExc_ValueError, "%s: output_shapes: expected at most %d dimensions, got %zd", operation,
                     ARRAY_MAX_DIMS, length);
        return false;
    }
    for (Py_ssize_t d = 0; d < length; d++) {
        if (!integer_in(&shape[d], item_of(object, d), operation, "output_shapes")) return false;
        if (shape[d] >= 0 && shape[d] <= INT32_MAX) continue;
        PyErr_Format(PyExc_ValueError, "%s: output_shapes: expected sizes from 0 to 2147483647, got %S", operation, object);
        return false;
    }
    *ndim = (int)length;
    return true;
}

bool kernel_outputs_in(kernel_call *call, PyObject *shapes, PyObject *dtypes) {
    const kernel_handle *handle = call->handle;
    if (!expect_length(call, shapes, handle->output_count, "output_shapes", "a list of shapes", ", one for each output name") ||
        !expect_length(call, dtypes, handle->output_count, "output_dtypes", "a list of dtypes", ", one for each output name"))
        return false;
    for (int32_t i = 0; i < handle->output_count; i++) {
        int64_t shape[ARRAY_MAX_DIMS];
        int ndim = 0;
        invar_dtype dtype;
        if (!shape_in(call, shape, &ndim, item_of(shapes, i)) ||
            !kernel_dtype_in(&dtype, item_of(dtypes, i), handle->operation) ||
            !begin_output(call, i, ndim, shape, dtype))
            return false;
    }
    return true;
}

/* ---- the short form ----------------------------------------------------------------------------------- */

/* The type that holds both: bool < integers < floats < complex; the two halves meet in float32, integers of both signs in
 * the next larger signed one. */
static invar_dtype promote(invar_dtype a, invar_dtype b) {
    static const uint8_t ranks[] = { [INVAR_BOOL] = 0, [INVAR_INT] = 1, [INVAR_UINT] = 1, [INVAR_FLOAT] = 2,
                                     [INVAR_BFLOAT] = 2, [INVAR_COMPLEX] = 3 };
    if (a.code == b.code) return a.bits > b.bits ? a : b;
    if (ranks[a.code] != ranks[b.code]) return ranks[a.code] > ranks[b.code] ? a : b;
    if (ranks[a.code] == 2) {
        if (a.bits != b.bits) return a.bits > b.bits ? a : b;
        return (invar_dtype){ INVAR_FLOAT, 32, 1 };
    }
    uint8_t with_sign = a.code == INVAR_INT ? a.bits : b.bits, without = a.code == INVAR_INT ? b.bits : a.bits;
    if (with_sign > without) return (invar_dtype){ INVAR_INT, with_sign, 1 };
    return without == 64 ? (invar_dtype){ INVAR_FLOAT, 32, 1 } : (invar_dtype){ INVAR_INT, (uint8_t)(2 * without), 1 };
}

/* Of the arrays; of the Python numbers where there are no arrays. */
static invar_dtype promoted_type(const kernel_call *call) {
    invar_dtype result = { INVAR_BOOL, 8, 1 }, numbers = { INVAR_BOOL, 8, 1 };
    bool arrays = false;
    for (int32_t i = 0; i < call->handle->input_count; i++) {
        const array *input = &call->inputs[i];
        if (is_number(call, input->object)) {
            numbers = promote(numbers, input->tensor.dtype);
            continue;
        }
        result = promote(result, input->tensor.dtype);
        arrays = true;
    }
    return arrays ? result : numbers;
}

static bool broadcast_shape(const kernel_call *call, int64_t shape[ARRAY_MAX_DIMS], int *ndim) {
    *ndim = 0;
    for (int32_t i = 0; i < call->handle->input_count; i++)
        if (call->inputs[i].tensor.ndim > *ndim) *ndim = call->inputs[i].tensor.ndim;
    for (int d = 0; d < *ndim; d++) shape[d] = 1;
    for (int32_t i = 0; i < call->handle->input_count; i++) {
        const invar_tensor *tensor = &call->inputs[i].tensor;
        int64_t *end = shape + *ndim - tensor->ndim;
        for (int d = 0; d < tensor->ndim; d++) {
            if (end[d] == 1) end[d] = tensor->shape[d];
            if (tensor->shape[d] == 1 || tensor->shape[d] == end[d]) continue;
            PyErr_Format(PyExc_ValueError, "%s: %s: expected shapes that broadcast together, got %lld against %lld on an axis",
                         call->handle->operation, call->handle->names[i], (long long)tensor->shape[d], (long long)end[d]);
            return false;
        }
    }
    return true;
}

/* Gives input i the shape, with strides of 0 along what it is repeated over. Returns whether that changed it. */
static bool expand(array *input, int ndim, const int64_t *shape) {
    invar_tensor *tensor = &input->tensor;
    int64_t strides[ARRAY_MAX_DIMS], contiguous = 1;
    int missing = ndim - tensor->ndim;
    bool changed = missing > 0;
    for (int d = ndim - 1; d >= 0; d--) {
        int own = d - missing;
        bool repeated = own < 0 || (tensor->shape[own] == 1 && shape[d] != 1);
        strides[d] = repeated ? 0 : tensor->strides ? tensor->strides[own] : contiguous;
        if (own >= 0) contiguous *= tensor->shape[own];
        changed |= repeated;
    }
    for (int d = 0; d < ndim; d++) input->shape[d] = shape[d], input->strides[d] = strides[d];
    tensor->ndim = ndim;
    tensor->shape = input->shape;
    tensor->strides = input->strides;
    return changed;
}

/* Copies by a kernel that has its input made row-contiguous. */
static invar_status copy_on_gpu(const invar_tensor *to, const invar_tensor *from, int64_t count, void *stream) {
    static const char *const input_names[] = { "from" }, *const output_names[] = { "to" };
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
    invar_kernel *kernel;
    d.dialect = INVAR_DIALECT_METAL, d.name = "expand"; /* whose grid is no larger than it is told */
    d.source = "size_t i = thread_position_in_grid.x; to[i] = from[i];";
    d.input_names = input_names, d.input_count = 1, d.output_names = output_names, d.output_count = 1;
    options.grid[0] = count, options.threadgroup[0] = 256;
    options.check = INVAR_CHECK_OFF;
    options.execution.stream = stream;
    invar_status status = invar_kernel_create(&kernel, &d);
    if (status == INVAR_OK) status = invar_kernel_launch(kernel, NULL, &to, 1, &from, 1, &options);
    invar_kernel_destroy(kernel);
    return status;
}

/* The same in the CPU's memory, element by element in row-major order. */
static void copy_on_cpu(char *to, const invar_tensor *from, int64_t count) {
    const size_t item = from->dtype.bits / 8u;
    const char *first = (const char *)from->data + from->byte_offset;
    int64_t index[ARRAY_MAX_DIMS] = { 0 };
    for (int64_t done = 0; done < count; done++, to += item) {
        int64_t offset = 0;
        for (int d = 0; d < from->ndim; d++) offset += index[d] * from->strides[d];
        memcpy(to, first + offset * (int64_t)item, item);
        for (int d = from->ndim - 1; d >= 0 && ++index[d] == from->shape[d]; d--) index[d] = 0;
    }
}

/* Copies an expanded input to memory of its own. */
static bool materialise(kernel_call *call, int32_t i, int64_t count) {
    const kernel_handle *handle = call->handle;
    const invar_tensor *from = &call->inputs[i].tensor;
    const bool on_gpu = kernel_on_gpu(call);
    void *stream = call->options.execution.stream;
    invar_tensor *to = &call->copies[i].array.tensor;
    bool ok = output_begin(&call->copies[i], NULL, on_gpu ? like_of(call) : &numpy, from->ndim, from->shape, from->dtype, stream,
                           handle->operation, handle->names[i]);
    call->input_tensors[i] = to;
    if (ok && on_gpu) INVAR_COMPUTE(ok, copy_on_gpu(to, from, count, stream));
    else if (ok) copy_on_cpu(to->data, from, count);
    return ok;
}

bool kernel_broadcast(kernel_call *call, int64_t *threads) {
    const kernel_handle *handle = call->handle;
    int64_t shape[ARRAY_MAX_DIMS], count = 1;
    int ndim;
    if (!broadcast_shape(call, shape, &ndim)) return false;
    invar_dtype dtype = promoted_type(call);
    for (int32_t i = 0; i < handle->output_count; i++)
        if (!begin_output(call, i, ndim, shape, dtype)) return false;
    for (int d = 0; d < ndim; d++)
        if (__builtin_mul_overflow(count, shape[d], &count)) count = INT64_MAX;
    call->scalars = !ndim;
    if (!ndim) shape[ndim++] = 1; /* the body indexes its arrays */
    for (int32_t i = 0; i < handle->input_count; i++)
        if (expand(&call->inputs[i], ndim, shape) && handle->expand && count > 0 && !materialise(call, i, count)) return false;
    for (int32_t i = 0; i < handle->output_count; i++) {
        array *output = &call->outputs[i].array;
        if (!call->scalars) break;
        output->shape[0] = 1;
        output->tensor.shape = output->shape;
        output->tensor.strides = NULL;
        output->tensor.ndim = 1;
    }
    call->options.grid[0] = count;
    call->options.threadgroup[0] = count < 256 ? (count ? count : 1) : 256;
    *threads = count;
    return true;
}

/* ---- a call's life ------------------------------------------------------------------------------------ */

void kernel_call_begin(kernel_call *call, const kernel_handle *handle) {
    call->handle = handle;
    call->scalars = false;
    for (int32_t i = 0; i < handle->input_count; i++) {
        call->inputs[i] = (array)ARRAY_EMPTY;
        call->numbers[i] = 0;
        call->copies[i] = (output)OUTPUT_EMPTY;
    }
    for (int32_t i = 0; i < handle->output_count; i++) call->outputs[i] = (output)OUTPUT_EMPTY;
}

void kernel_call_release(kernel_call *call) {
    for (int32_t i = 0; i < call->handle->input_count; i++) {
        array_release(&call->inputs[i]);
        output_release(&call->copies[i]);
    }
    for (int32_t i = 0; i < call->handle->output_count; i++) output_release(&call->outputs[i]);
}
