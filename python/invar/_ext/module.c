/* The module invar._ext: the operations, what describes the library, and the exceptions. */
#include "formats.h"
#include "kernels.h"
#include "memory.h"
#include "operations.h"

/* ---- the operations ------------------------------------------------------------------------------ */

static bool takes_mlx(const operation *op, PyObject *const *values) {
    for (int i = 0; i < op->signature.count; i++) {
        array_kind kind;
        const dlpack_exchange *exchange;
        if (values[i] && values[i] != Py_None && !PyLong_Check(values[i]) && !PyFloat_Check(values[i]) &&
            !PyUnicode_Check(values[i]) && !numpy_is_array(values[i]) &&
            library_kind(Py_TYPE(values[i]), &kind, &exchange) && kind == ARRAY_MLX)
            return true;
    }
    return false;
}

/* Through Python, where MLX is told the gradient; from there back to apply. */
static PyObject *call_differentiable(const operation *op, PyObject *const *values) {
    static PyObject *function; /* read and written with the GIL held */
    PyObject *module = function ? NULL : PyImport_ImportModule("invar._mlx");
    if (module) function = PyObject_GetAttrString(module, "differentiable");
    Py_XDECREF(module);
    PyObject *named = function ? PyDict_New() : NULL;
    bool ok = named != NULL;
    for (int i = 0; ok && i < op->signature.count; i++)
        ok = !values[i] || PyDict_SetItem(named, op->signature.parameters[i].interned, values[i]) == 0;
    PyObject *result = ok ? PyObject_CallFunction(function, "sO", op->signature.operation, named) : NULL;
    Py_XDECREF(named);
    return result;
}

static PyObject *call(const operation *op, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    PyObject *values[MAX_PARAMETERS];
    if (!signature_parse(&op->signature, arguments, positional, keyword_names, values)) return NULL;
    return takes_mlx(op, values) ? call_differentiable(op, values) : op->run(values, NULL);
}

/* What an operation's own function would be given, after the operation: run, or with a plan only looked at. */
static PyObject *run_named(const char *caller, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names,
                           invar_plan *plan) {
    const operation *op = positional == 1 ? operation_in(caller, arguments[0]) : NULL;
    PyObject *values[MAX_PARAMETERS];
    if (!op && !PyErr_Occurred()) PyErr_Format(PyExc_TypeError, "%s: op: expected one argument by position", caller);
    if (!op || !signature_parse(&op->signature, arguments + 1, 0, keyword_names, values)) return NULL;
    return op->run(values, plan);
}

static PyObject *apply(PyObject *module, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    (void)module;
    return run_named("apply", arguments, positional, keyword_names, NULL);
}

static PyObject *check(PyObject *module, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    (void)module;
    invar_plan plan = INVAR_PLAN_INIT;
    return run_named("check", arguments, positional, keyword_names, &plan);
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
    { "apply", FAST(apply), METH_FASTCALL | METH_KEYWORDS,
      "apply($module, op, /, **kwargs)\n--\n\nThe operation of that name, which no library is told the gradient of." },
    { "check", FAST(check), METH_FASTCALL | METH_KEYWORDS,
      "check($module, op, /, **kwargs)\n--\n\nRaises what the operation of that name would raise, without running it." },
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
