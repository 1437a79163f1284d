/* explain: the plan of a call, as a dict. */
#include "operations.h"

const char explain_doc[] =
    "explain($module, op, /, *args, **kwargs)\n--\n\n"
    "What a call would do, without doing it: explain(\"rope\", x, 64) or explain(fast.rope, x, 64).\n\n"
    "op: one of the functions of invar.core.fast, or its name; the other arguments are that function's own.\n\n"
    "Returns a dict: operation; kernel (with its instruction set); reason (why this one, and why not a faster one);\n"
    "tasks and threads; query_tile, key_block and key_splits (attention); workspace in bytes; flops and bytes of the work.\n"
    "Raises whatever the call itself would raise.";

static const operation *find_operation(PyObject *name) {
    static const operation *const table[] = {
#define ROW(name) &operation_##name,
        INVAR_OPERATIONS(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (PyUnicode_CompareWithASCIIString(name, table[i]->signature.operation) == 0) return table[i];
    PyErr_Format(PyExc_ValueError, "explain: op: expected an operation of invar.core.fast, got %R", name);
    return NULL;
}

static const operation *operation_in(PyObject *op) {
    if (PyUnicode_Check(op)) return find_operation(op);
    PyObject *name = PyCallable_Check(op) ? attribute_or_null(op, "__name__") : NULL;
    const operation *found = NULL;
    if (name && PyUnicode_Check(name))
        found = find_operation(name);
    else
        raise_expected(PyExc_TypeError, "explain", "op", "a function of invar.core.fast or its name", op);
    Py_XDECREF(name);
    return found;
}

static PyObject *plan_dict(const operation *op, const invar_plan *plan) {
    return Py_BuildValue("{s:s,s:s,s:s,s:L,s:i,s:i,s:i,s:L,s:n,s:d,s:d}", "operation", op->signature.operation, "kernel",
                         plan->kernel, "reason", plan->reason, "tasks", (long long)plan->tasks, "threads",
                         (int)plan->threads, "query_tile", (int)plan->query_tile, "key_block", (int)plan->key_block,
                         "key_splits", (long long)plan->key_splits, "workspace", (Py_ssize_t)plan->workspace, "flops",
                         plan->flops, "bytes", plan->bytes);
}

PyObject *explain(PyObject *module, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    (void)module;
    if (positional < 1) {
        PyErr_SetString(PyExc_TypeError, "explain: op: expected a function of invar.core.fast or its name, got none");
        return NULL;
    }
    const operation *op = operation_in(arguments[0]);
    PyObject *values[MAX_PARAMETERS];
    if (!op || !signature_parse(&op->signature, arguments + 1, positional - 1, keyword_names, values)) return NULL;
    invar_plan plan = INVAR_PLAN_INIT;
    PyObject *done = op->run(values, &plan);
    if (!done) return NULL;
    Py_DECREF(done);
    return plan_dict(op, &plan);
}
