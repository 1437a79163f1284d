/* The exceptions of the package and the sentences they carry. */
#include "formats.h"

#include <string.h>

PyObject *compile_error, *device_error, *kernel_check_error;

static PyObject *new_exception(PyObject *module, const char *name, const char *qualified, const char *doc) {
    PyObject *exception = PyErr_NewExceptionWithDoc(qualified, doc, PyExc_RuntimeError, NULL);
    if (exception && PyModule_AddObjectRef(module, name, exception) < 0) Py_CLEAR(exception);
    return exception;
}

bool errors_init(PyObject *module) {
    compile_error = new_exception(module, "CompileError", "invar.CompileError",
                                  "A custom kernel did not compile, or no compiler was found; carries the compiler's log.");
    device_error = new_exception(module, "DeviceError", "invar.DeviceError",
                                 "Arrays are on a device that the call cannot use, or the device failed.");
    kernel_check_error = new_exception(module, "KernelCheckError", "invar.KernelCheckError",
                                       "Check mode found defects in a custom kernel; `reports` lists them.");
    return compile_error && device_error && kernel_check_error;
}

static PyObject *exception_of(invar_status status) {
    switch (status) {
    case INVAR_ERROR_MEMORY: return PyExc_MemoryError;
    case INVAR_ERROR_SYSTEM:
    case INVAR_ERROR_KERNEL: return PyExc_RuntimeError;
    case INVAR_ERROR_DEVICE: return device_error;
    case INVAR_ERROR_COMPILE: return compile_error;
    case INVAR_ERROR_KERNEL_CHECK: return kernel_check_error;
    default: return PyExc_ValueError;
    }
}

/* What C's functions call y is out in Python. */
static const char *const renamed[][2] = {
    { "rms_norm: y: ", "rms_norm: out: " },
    { "add_rms_norm: y: ", "add_rms_norm: out[0]: " },
    { "add_rms_norm: sum: ", "add_rms_norm: out[1]: " },
    { "layer_norm: y: ", "layer_norm: out: " },
    { "rope: y: ", "rope: out: " },
};

bool status_ok(invar_status status) {
    if (status == INVAR_OK) return true;
    const char *sentence = invar_last_error(), *begin = "";
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++) {
        const size_t length = strlen(renamed[i][0]);
        if (strncmp(sentence, renamed[i][0], length) != 0) continue;
        begin = renamed[i][1];
        sentence += length;
        break;
    }
    PyErr_Format(exception_of(status), "%s%s", begin, sentence);
    return false;
}

bool raise_expected(PyObject *exception, const char *operation, const char *argument, const char *expected, PyObject *got) {
    PyObject *name = PyType_GetName(Py_TYPE(got));
    if (!name) return false;
    PyErr_Format(exception, "%s: %s: expected %s, got %U%s", operation, argument, expected, name, is_jax_tracer(got)
                 ? ", which JAX traces: make the argument a static one" : "");
    Py_DECREF(name);
    return false;
}

bool raise_because(PyObject *exception, const char *operation, const char *argument, const char *sentence) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *words = value ? PyObject_Str(value) : NULL;
    const char *text = words ? PyUnicode_AsUTF8AndSize(words, NULL) : NULL;
    /* The first line: torch appends its stack of C++ functions. */
    PyObject *line = text ? PyUnicode_FromStringAndSize(text, (Py_ssize_t)strcspn(text, "\n")) : NULL;
    PyErr_Clear();
    if (line)
        PyErr_Format(exception, "%s: %s: %s: %U", operation, argument, sentence, line);
    else
        PyErr_Format(exception, "%s: %s: %s", operation, argument, sentence);
    Py_XDECREF(words);
    Py_XDECREF(line);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return false;
}

bool pending_error_says(const char *words) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *said = value ? PyObject_Str(value) : NULL;
    const char *text = said ? PyUnicode_AsUTF8AndSize(said, NULL) : NULL;
    const bool found = text && strstr(text, words);
    Py_XDECREF(said);
    PyErr_Restore(type, value, traceback);
    return found;
}
