/* The parser of calls and the readers of scalars. */
#include "arguments.h"

#include "errors.h"

bool signature_init(signature *s) {
    for (int i = 0; i < s->count; i++) {
        parameter *p = &s->parameters[i];
        if (!(p->interned = PyUnicode_InternFromString(p->name))) return false;
        if (p->alias && !(p->interned_alias = PyUnicode_InternFromString(p->alias))) return false;
    }
    return true;
}

/* Keywords written in source are interned, so comparing pointers finds nearly all of them. */
static int find_parameter(const signature *s, PyObject *name) {
    for (int i = 0; i < s->count; i++)
        if (name == s->parameters[i].interned || name == s->parameters[i].interned_alias) return i;
    for (int i = 0; i < s->count; i++) {
        const parameter *p = &s->parameters[i];
        if (PyUnicode_CompareWithASCIIString(name, p->name) == 0) return i;
        if (p->alias && PyUnicode_CompareWithASCIIString(name, p->alias) == 0) return i;
    }
    return -1;
}

static bool parse_keyword(const signature *s, PyObject *name, PyObject *value, PyObject **values) {
    int index = find_parameter(s, name);
    if (index < 0) {
        PyErr_Format(PyExc_TypeError, "%s: %U: expected a keyword that this function has, got an unknown one", s->operation,
                     name);
        return false;
    }
    if (values[index]) {
        PyErr_Format(PyExc_TypeError, "%s: %s: expected once, got twice", s->operation, s->parameters[index].name);
        return false;
    }
    values[index] = value;
    return true;
}

bool signature_parse(const signature *s, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names,
                     PyObject **values) {
    if (positional > s->positional) {
        PyErr_Format(PyExc_TypeError, "%s: %s: expected by keyword, got %zd arguments by position", s->operation,
                     s->positional < s->count ? s->parameters[s->positional].name : "arguments", positional);
        return false;
    }
    for (Py_ssize_t i = 0; i < positional; i++) values[i] = arguments[i];
    for (Py_ssize_t i = positional; i < s->count; i++) values[i] = NULL;
    Py_ssize_t keywords = keyword_names ? PyTuple_Size(keyword_names) : 0;
    for (Py_ssize_t i = 0; i < keywords; i++)
        if (!parse_keyword(s, PyTuple_GetItem(keyword_names, i), arguments[positional + i], values)) return false;
    for (int i = 0; i < s->required; i++) {
        if (values[i]) continue;
        PyErr_Format(PyExc_TypeError, "%s: %s: expected an argument, got none", s->operation, s->parameters[i].name);
        return false;
    }
    return true;
}

bool number_in(double *out, PyObject *value, const char *operation, const char *argument) {
    if (!value) return true;
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) {
        bool overflow = PyErr_ExceptionMatches(PyExc_OverflowError);
        PyErr_Clear();
        return raise_expected(overflow ? PyExc_ValueError : PyExc_TypeError, operation, argument,
                              overflow ? "a number in float64's range" : "a number", value);
    }
    *out = number;
    return true;
}

bool integer_in(int64_t *out, PyObject *value, const char *operation, const char *argument) {
    if (!value) return true;
    PyObject *index = PyBool_Check(value) ? NULL : PyNumber_Index(value);
    if (!index) {
        PyErr_Clear();
        return raise_expected(PyExc_TypeError, operation, argument, "an integer", value);
    }
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (overflow)
        PyErr_Format(PyExc_ValueError, "%s: %s: expected an integer of 64 bits, got %S", operation, argument, index);
    Py_DECREF(index);
    *out = number;
    return !overflow;
}

/* NumPy's bool is no subclass of Python's. */
static bool is_numpy_bool(PyObject *value) {
    PyObject *name = PyType_GetName(Py_TYPE(value));
    bool result = name && (PyUnicode_CompareWithASCIIString(name, "bool") == 0 ||
                           PyUnicode_CompareWithASCIIString(name, "bool_") == 0);
    Py_XDECREF(name);
    return result;
}

bool flag_in(bool *out, PyObject *value, const char *operation, const char *argument) {
    if (!value) return true;
    if (!PyLong_Check(value) && !is_numpy_bool(value))
        return raise_expected(PyExc_TypeError, operation, argument, "True or False", value);
    int truth = PyObject_IsTrue(value);
    *out = truth == 1;
    return truth >= 0;
}

bool stream_in(PyObject *value, const char *operation) {
    if (left_out(value)) return true;
    if (!PyUnicode_Check(value) && !PyBytes_Check(value) && !PyFloat_Check(value) && !PyList_Check(value) &&
        !PyDict_Check(value))
        return true;
    return raise_expected(PyExc_TypeError, operation, "stream", "a stream or None", value);
}
