/* The module invar._ext: the operations, what describes the library, and the exceptions. */
#include "kernels.h"
#include "memory.h"
#include "operations.h"

/* ---- the operations ------------------------------------------------------------------------------ */

static PyObject *call(const operation *op, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    PyObject *values[MAX_PARAMETERS];
    if (!signature_parse(&op->signature, arguments, positional, keyword_names, values)) return NULL;
    return op->run(values, NULL);
}

#define DEFINE(name)                                                                                           \
    static PyObject *py_##name(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) { \
        (void)module;                                                                                          \
        return call(&operation_##name, arguments, count, names);                                               \
    }
INVAR_OPERATIONS(DEFINE)
#undef DEFINE

/* ---- the context --------------------------------------------------------------------------------- */

static PyObject *py_set_num_threads(PyObject *module, PyObject *n) {
    (void)module;
    int64_t count = 0;
    if (!integer_in(&count, n, "set_num_threads", "n")) return NULL;
    if (count < 1 || count > 1024) {
        PyErr_Format(PyExc_ValueError, "set_num_threads: n: expected 1 to 1024 threads, got %S", n);
        return NULL;
    }
    bool ok;
    INVAR_COMPUTE(ok, invar_context_set_num_threads(NULL, (int32_t)count));
    return ok ? Py_NewRef(Py_None) : NULL;
}

static PyObject *py_context_info(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    invar_context_description d = INVAR_CONTEXT_DESCRIPTION_INIT;
    bool ok;
    INVAR_COMPUTE(ok, invar_context_info(NULL, &d));
    if (!ok) return NULL;
    return Py_BuildValue("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:L,s:L,s:L,s:n}", "version", invar_version(), "cpu", d.cpu,
                         "cpu_available", d.cpu_available, "cpu_reason", d.cpu_reason, "processor", d.processor, "compiler",
                         d.compiler, "num_threads", (int)d.num_threads, "l1d_bytes", (long long)d.l1d_bytes, "l2_bytes",
                         (long long)d.l2_bytes, "l3_bytes", (long long)d.l3_bytes, "kept_bytes", (Py_ssize_t)memory_kept());
}

/* ---- the module ---------------------------------------------------------------------------------- */

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
#define ROW(name) { #name, FAST(py_##name), METH_FASTCALL | METH_KEYWORDS, NULL },

static PyMethodDef methods[] = {
    INVAR_OPERATIONS(ROW)
    { "explain", FAST(explain), METH_FASTCALL | METH_KEYWORDS, explain_doc },
    { "set_num_threads", py_set_num_threads, METH_O,
      "set_num_threads($module, n, /)\n--\n\nUse n threads, 1 to 1024, from now on. Results do not depend on it." },
    { "context_info", py_context_info, METH_NOARGS, "context_info($module)\n--\n\nWhat invar.info() is made of." },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "invar._ext", "The C library's operations over arrays of any library.", -1, methods, NULL, NULL,
    NULL, NULL,
};

/* Documentation lives with each operation; the method table only has the names. */
static bool operations_init(void) {
    static operation *const table[] = {
#define ENTRY(name) &operation_##name,
        INVAR_OPERATIONS(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        methods[i].ml_doc = table[i]->doc;
        if (!signature_init(&table[i]->signature)) return false;
    }
    return true;
}

PyMODINIT_FUNC PyInit__ext(void) {
    if (!operations_init() || !arrays_init()) return NULL;
    PyObject *module = PyModule_Create(&definition);
    bool ok = module && errors_init(module) && kernels_init(module) &&
              PyModule_AddStringConstant(module, "__version__", invar_version()) == 0;
    if (!ok) Py_CLEAR(module);
    return module;
}
