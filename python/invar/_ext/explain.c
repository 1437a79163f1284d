/* explain: the plan of a call, as a dict. */
#include "operations.h"

#include <string.h>

const char explain_doc[] =
    "explain($module, op, /, *args, **kwargs)\n--\n\n"
    "What a call would do, without doing it: explain(\"rope\", x, 64) or explain(fast.rope, x, 64).\n\n"
    "op: one of the functions of invar.core.fast, or its name; the other arguments are that function's own.\n\n"
    "Returns a dict: operation; kernel (with its instruction set); reason (why this one, and why not a faster one);\n"
    "tasks and threads; query_tile, key_block and key_splits (attention); workspace in bytes; flops and bytes of the work;\n"
    "bound, what bounds the call: memory or the arithmetic (float32, bfloat16, float64); bound_seconds, the least time that\n"
    "leaves, at this machine's rates beyond the caches. Those are measured at the first explain in some 0.2 s.\n"
    "Of arrays on a GPU both are None.\n"
    "Raises whatever the call itself would raise.";

static const operation *find_operation(const char *caller, PyObject *name) {
    static const operation *const table[] = {
#define ROW(name) &operation_##name,
        INVAR_OPERATIONS(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (PyUnicode_CompareWithASCIIString(name, table[i]->signature.operation) == 0) return table[i];
    PyErr_Format(PyExc_ValueError, "%s: op: expected an operation of invar.core.fast, got %R", caller, name);
    return NULL;
}

const operation *operation_in(const char *caller, PyObject *op) {
    if (PyUnicode_Check(op)) return find_operation(caller, op);
    PyObject *name = PyCallable_Check(op) ? attribute_or_null(op, "__name__") : NULL;
    const operation *found = NULL;
    if (name && PyUnicode_Check(name))
        found = find_operation(caller, name);
    else
        raise_expected(PyExc_TypeError, caller, "op", "a function of invar.core.fast or its name", op);
    Py_XDECREF(name);
    return found;
}

struct rates {
    invar_roofs roofs;
    int32_t threads;
};

/* The machine's rates, measured once, and again when the number of threads has changed. False with an exception set. */
static bool measured_rates(struct rates *rates) {
    static struct rates last = { INVAR_ROOFS_INIT, 0 }; /* read and written with the GIL held */
    invar_context_description now = INVAR_CONTEXT_DESCRIPTION_INIT;
    bool ok = true;
    *rates = last;
    INVAR_COMPUTE(ok, invar_context_info(NULL, &now));
    if (ok && now.num_threads != rates->threads) {
        INVAR_COMPUTE(ok, invar_context_measure(NULL, &rates->roofs));
        rates->threads = now.num_threads;
        if (ok) last = *rates;
    }
    return ok;
}

/* Attention mostly reads; the others write as much as they read. */
static const char *find_bound(const invar_plan *plan, const struct rates *rates, double *seconds) {
    const invar_roofs *roofs = &rates->roofs;
    const bool reads = strstr(plan->kernel, "attention") != NULL;
    const double rate = !strcmp(plan->arithmetic, "bfloat16") ? roofs->bfloat16 :
                        !strcmp(plan->arithmetic, "float64")  ? roofs->float64 :
                                                                roofs->float32;
    const double memory = plan->bytes / (reads ? roofs->read : roofs->copy);
    const double arithmetic = plan->flops / rate * rates->threads / plan->threads;
    *seconds = memory > arithmetic ? memory : arithmetic;
    return memory > arithmetic ? "memory" : plan->arithmetic;
}

static PyObject *plan_dict(const operation *op, const invar_plan *plan) {
    struct rates rates;
    double seconds = 0;
    const char *bound = NULL;
    if (!strstr(plan->kernel, ".cuda")) { /* the rates are the CPU's */
        if (!measured_rates(&rates)) return NULL;
        bound = find_bound(plan, &rates, &seconds);
    }
    PyObject *least = bound ? PyFloat_FromDouble(seconds) : Py_NewRef(Py_None);
    if (!least) return NULL;
    return Py_BuildValue("{s:s,s:s,s:s,s:L,s:i,s:i,s:i,s:L,s:n,s:d,s:d,s:z,s:N}", "operation", op->signature.operation, "kernel",
                         plan->kernel, "reason", plan->reason, "tasks", (long long)plan->tasks, "threads",
                         (int)plan->threads, "query_tile", (int)plan->query_tile, "key_block", (int)plan->key_block,
                         "key_splits", (long long)plan->key_splits, "workspace", (Py_ssize_t)plan->workspace, "flops",
                         plan->flops, "bytes", plan->bytes, "bound", bound, "bound_seconds", least);
}

PyObject *explain(PyObject *module, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names) {
    (void)module;
    if (positional < 1) {
        PyErr_SetString(PyExc_TypeError, "explain: op: expected a function of invar.core.fast or its name, got none");
        return NULL;
    }
    const operation *op = operation_in("explain", arguments[0]);
    PyObject *values[MAX_PARAMETERS];
    if (!op || !signature_parse(&op->signature, arguments + 1, positional - 1, keyword_names, values)) return NULL;
    invar_plan plan = INVAR_PLAN_INIT;
    PyObject *done = op->run(values, &plan);
    if (!done) return NULL;
    Py_DECREF(done);
    return plan_dict(op, &plan);
}
