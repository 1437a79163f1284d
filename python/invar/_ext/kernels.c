/* Custom kernels: the functions of the module that invar._kernels stands on. All take positional arguments only. */
#include "kernels.h"

#include "arguments.h"
#include "operations.h"

#include <stdlib.h>
#include <string.h>

static const char capsule_name[] = "invar.kernel";

kernel_handle *kernel_of(PyObject *capsule) { return PyCapsule_GetPointer(capsule, capsule_name); }

/* ---- creating ----------------------------------------------------------------------------------------- */

static void free_handle(kernel_handle *handle) {
    if (!handle) return;
    invar_kernel_destroy(handle->kernel);
    for (int32_t i = 0; i < handle->input_count + handle->output_count; i++) free(handle->names[i]);
    free(handle);
}

static void destroy_capsule(PyObject *capsule) { free_handle(PyCapsule_GetPointer(capsule, capsule_name)); }

/* A tuple of str into names, which own their text. */
static bool names_in(char **names, PyObject *tuple) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(tuple); i++) {
        const char *name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(tuple, i), NULL);
        if (!name) return false;
        names[i] = strdup(name);
        if (!names[i]) return PyErr_NoMemory(), false;
    }
    return true;
}

static kernel_handle *new_handle(const invar_kernel_description *d, PyObject *inputs, PyObject *outputs) {
    size_t count = (size_t)(d->input_count + d->output_count);
    kernel_handle *handle = calloc(1, sizeof *handle + count * sizeof handle->names[0]);
    if (!handle) return PyErr_NoMemory(), NULL;
    handle->metal = d->dialect == INVAR_DIALECT_METAL;
    handle->operation = handle->metal ? "metal_kernel" : d->image ? "precompiled_cuda_kernel" : "cuda_kernel";
    handle->input_count = d->input_count;
    handle->output_count = d->output_count;
    handle->expand = !d->ensure_row_contiguous;
    if (names_in(handle->names, inputs) && names_in(handle->names + d->input_count, outputs)) return handle;
    free_handle(handle);
    return NULL;
}

/* kernel_create(dialect, name, input_names, output_names, source, header, contiguous, atomic, math_mode, shared_memory, image):
 * invar._kernels has checked the kinds of all of them. An image comes in place of source and header, which are None then. */
static PyObject *kernel_create(PyObject *module, PyObject *arguments) {
    (void)module;
    invar_kernel_description d = INVAR_KERNEL_DESCRIPTION_INIT;
    PyObject *inputs, *outputs;
    int contiguous, atomic, dialect, math_mode;
    long long shared;
    const char *image;
    Py_ssize_t image_size;
    if (!PyArg_ParseTuple(arguments, "isO!O!zzppiLz#", &dialect, &d.name, &PyTuple_Type, &inputs, &PyTuple_Type, &outputs,
                          &d.source, &d.header, &contiguous, &atomic, &math_mode, &shared, &image, &image_size))
        return NULL;
    d.image = image;
    d.image_size = (size_t)image_size;
    d.dialect = dialect;
    d.input_count = (int32_t)PyTuple_Size(inputs);
    d.output_count = (int32_t)PyTuple_Size(outputs);
    d.ensure_row_contiguous = contiguous;
    d.atomic_outputs = atomic;
    d.math_mode = math_mode;
    d.shared_memory = shared;
    kernel_handle *handle = new_handle(&d, inputs, outputs);
    if (!handle) return NULL;
    d.input_names = (const char *const *)handle->names;
    d.output_names = (const char *const *)(handle->names + d.input_count);
    PyObject *capsule = NULL;
    if (status_ok(invar_kernel_create(&handle->kernel, &d))) capsule = PyCapsule_New(handle, capsule_name, destroy_capsule);
    if (!capsule) free_handle(handle);
    return capsule;
}

/* ---- launching ---------------------------------------------------------------------------------------- */

static PyObject *position(const int64_t p[3]) {
    if (p[0] < 0) return Py_NewRef(Py_None);
    return Py_BuildValue("(LLL)", (long long)p[0], (long long)p[1], (long long)p[2]);
}

/* Called without the GIL. What cannot be kept is left out: the sentence of the error holds every report. */
static void collect_report(void *argument, const invar_kernel_report *r) {
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *report = Py_BuildValue("(sssiNNsLiN)", r->kind, r->text, r->file, (int)r->line, position(r->thread),
                                     position(r->group), r->array, (long long)r->index, (int)r->other_line,
                                     position(r->other_thread));
    if (!report || PyList_Append(argument, report) < 0) PyErr_Clear();
    Py_XDECREF(report);
    PyGILState_Release(state);
}

/* Puts the reports on the exception that is set. */
static void attach_reports(PyObject *reports) {
    PyObject *type, *value, *traceback;
    if (!reports || !PyErr_ExceptionMatches(kernel_check_error)) return;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (!value || PyObject_SetAttrString(value, "reports", reports) < 0) PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

static bool launch(kernel_call *call) {
    const kernel_handle *handle = call->handle;
    PyObject *reports = NULL;
    bool ok;
    if (call->options.check != INVAR_CHECK_OFF) {
        reports = PyList_New(0);
        if (!reports) return false;
        call->options.report = collect_report;
        call->options.report_argument = reports;
    }
    INVAR_COMPUTE(ok, invar_kernel_launch(handle->kernel, NULL, call->output_tensors, handle->output_count,
                                          call->input_tensors, handle->input_count, &call->options));
    if (!ok) attach_reports(reports);
    Py_XDECREF(reports);
    return ok;
}

static PyObject *results_list(kernel_call *call) {
    PyObject *list = PyList_New(call->handle->output_count);
    for (int32_t i = 0; list && i < call->handle->output_count; i++) {
        if (call->scalars) call->outputs[i].array.tensor.ndim = 0;
        PyObject *item = output_finish(&call->outputs[i]);
        if (!item || PyList_SetItem(list, i, item) < 0) Py_CLEAR(list);
    }
    return list;
}

static bool expect_arguments(Py_ssize_t got, Py_ssize_t expected) {
    if (got != expected) PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, got);
    return got == expected;
}

/* kernel_launch(kernel, inputs, output_shapes, output_dtypes, grid, threadgroup, template, init_value, check, stream,
 * scalars) */
static PyObject *kernel_launch(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    kernel_handle *handle = expect_arguments(count, 11) ? kernel_of(arguments[0]) : NULL;
    if (!handle) return NULL;
    kernel_call call;
    kernel_call_begin(&call, handle);
    PyObject *result = NULL;
    if (kernel_inputs_in(&call, arguments[1]) &&
        kernel_options_in(&call, arguments[4], arguments[5], arguments[6], arguments[7], arguments[8]) &&
        kernel_scalars_in(&call, arguments[10]) && kernel_stream_in(&call, arguments[9]) &&
        kernel_outputs_in(&call, arguments[2], arguments[3]) && launch(&call))
        result = results_list(&call);
    kernel_call_release(&call);
    return result;
}

/* kernel_elementwise(kernel, inputs, template, init_value, check, stream): the short form; always a list. */
static PyObject *kernel_elementwise(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    kernel_handle *handle = expect_arguments(count, 6) ? kernel_of(arguments[0]) : NULL;
    if (!handle) return NULL;
    kernel_call call;
    kernel_call_begin(&call, handle);
    PyObject *result = NULL;
    int64_t threads;
    if (kernel_inputs_in(&call, arguments[1]) &&
        kernel_options_in(&call, Py_None, Py_None, arguments[2], arguments[3], arguments[4]) &&
        kernel_stream_in(&call, arguments[5]) && kernel_broadcast(&call, &threads) && (!threads || launch(&call)))
        result = results_list(&call);
    kernel_call_release(&call);
    return result;
}

/* ---- the text, the cache, the compiler ----------------------------------------------------------------- */

static PyObject *generated_text(kernel_call *call, int target) {
    const kernel_handle *handle = call->handle;
    size_t length = 0, capacity = 0;
    char *text = NULL;
    PyObject *result = NULL;
    for (int pass = 0; pass < 2; pass++) {
        if (!status_ok(invar_kernel_generate(handle->kernel, target, call->output_tensors, handle->output_count,
                                             call->input_tensors, handle->input_count, &call->options, text, capacity,
                                             &length)))
            break;
        if (pass) {
            result = PyUnicode_DecodeUTF8(text, (Py_ssize_t)length, "replace");
            break;
        }
        capacity = length + 1;
        text = malloc(capacity);
        if (!text) return PyErr_NoMemory();
    }
    free(text);
    return result;
}

/* kernel_generate(kernel, target, inputs, output_shapes, output_dtypes, template, check); target 0: where the inputs are; None for
 * shapes and dtypes: the short form's. */
static PyObject *kernel_generate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    kernel_handle *handle = expect_arguments(count, 7) ? kernel_of(arguments[0]) : NULL;
    long target = handle ? PyLong_AsLong(arguments[1]) : -1;
    if (!handle || (target == -1 && PyErr_Occurred())) return NULL;
    kernel_call call;
    kernel_call_begin(&call, handle);
    PyObject *result = NULL;
    int64_t threads = 1;
    bool ok = kernel_inputs_in(&call, arguments[2]) &&
              kernel_options_in(&call, Py_None, Py_None, arguments[5], Py_None, arguments[6]) &&
              kernel_stream_in(&call, Py_None) &&
              (arguments[3] == Py_None ? kernel_broadcast(&call, &threads)
                                       : kernel_outputs_in(&call, arguments[3], arguments[4]));
    if (!threads) call.options.grid[0] = 1;
    if (ok && !target) target = kernel_on_gpu(&call) ? INVAR_TARGET_CUDA : INVAR_TARGET_CPU;
    if (ok) result = generated_text(&call, (int)target);
    kernel_call_release(&call);
    return result;
}

static PyObject *kernel_cache_info(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    invar_kernel_cache_description d = INVAR_KERNEL_CACHE_DESCRIPTION_INIT;
    bool ok;
    INVAR_COMPUTE(ok, invar_kernel_cache_info(&d));
    if (!ok) return NULL;
    return Py_BuildValue("{s:s,s:s,s:L,s:L,s:L,s:s,s:s}", "folder", d.folder, "reason", d.reason, "entries",
                         (long long)d.entries, "bytes", (long long)d.bytes, "limit", (long long)d.limit, "compiler",
                         d.compiler, "version", d.version);
}

static PyObject *kernel_cache_clear(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    bool ok;
    INVAR_COMPUTE(ok, invar_kernel_cache_clear());
    return ok ? Py_NewRef(Py_None) : NULL;
}

/* kernel_fallback_compiler(words): a tuple of str. */
static PyObject *kernel_fallback_compiler(PyObject *module, PyObject *words) {
    (void)module;
    const char *argv[64];
    Py_ssize_t count = PyTuple_Check(words) ? PyTuple_Size(words) : -1;
    if (count < 0 || count > 64) return PyErr_SetString(PyExc_TypeError, "expected a tuple of words"), NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!(argv[i] = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(words, i), NULL))) return NULL;
    return status_ok(invar_kernel_fallback_compiler(argv, (int32_t)count)) ? Py_NewRef(Py_None) : NULL;
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    { "kernel_create", kernel_create, METH_VARARGS, NULL },
    { "kernel_launch", FAST(kernel_launch), METH_FASTCALL, NULL },
    { "kernel_elementwise", FAST(kernel_elementwise), METH_FASTCALL, NULL },
    { "kernel_generate", FAST(kernel_generate), METH_FASTCALL, NULL },
    { "kernel_cache_info", kernel_cache_info, METH_NOARGS, NULL },
    { "kernel_cache_clear", kernel_cache_clear, METH_NOARGS, NULL },
    { "kernel_fallback_compiler", kernel_fallback_compiler, METH_O, NULL },
    { NULL, NULL, 0, NULL },
};

bool kernels_init(PyObject *module) { return PyModule_AddFunctions(module, methods) == 0; }
