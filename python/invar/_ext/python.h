/* CPython's limited API of 3.11, included the same way by every file of the extension, with what it leaves out. */
#ifndef INVAR_EXT_PYTHON_H
#define INVAR_EXT_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

/* A function where PyType_Slot wants an object pointer: ISO C allows the conversion through an integer only. */
#define SLOT(function) ((void *)(uintptr_t)(function))

/* Lists and tuples; items are borrowed. */
static inline bool is_sequence(PyObject *object) { return PyTuple_Check(object) || PyList_Check(object); }
static inline Py_ssize_t length_of(PyObject *sequence) {
    return PyTuple_Check(sequence) ? PyTuple_Size(sequence) : PyList_Size(sequence);
}
static inline PyObject *item_of(PyObject *sequence, Py_ssize_t i) {
    return PyTuple_Check(sequence) ? PyTuple_GetItem(sequence, i) : PyList_GetItem(sequence, i);
}

/* An attribute, or NULL without an exception. */
static inline PyObject *attribute_or_null(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value) PyErr_Clear();
    return value;
}

#endif
