/* The operations as Python calls them. */
#ifndef INVAR_EXT_OPERATIONS_H
#define INVAR_EXT_OPERATIONS_H

#include "arguments.h"
#include "array.h"
#include "errors.h"

/* One function of invar.core.fast. run gets the parsed arguments; with a plan it checks the call, fills the plan, computes
 * nothing and returns None. */
typedef struct operation {
    signature signature;
    PyObject *(*run)(PyObject *const *values, invar_plan *plan);
    const char *doc; /* begins with the signature that inspect reads */
} operation;

/* Every row makes a function of the module, its entry in explain() and its documentation. */
#define INVAR_OPERATIONS(X)         \
    X(rms_norm)                     \
    X(rms_norm_vjp)                 \
    X(add_rms_norm)                 \
    X(layer_norm)                   \
    X(layer_norm_vjp)               \
    X(rope)                         \
    X(rope_vjp)                     \
    X(scaled_dot_product_attention) \
    X(scaled_dot_product_attention_vjp)

#define INVAR_DECLARE(name) extern operation operation_##name;
INVAR_OPERATIONS(INVAR_DECLARE)
#undef INVAR_DECLARE

/* Runs `call` without the GIL and raises what it reports. */
#define INVAR_COMPUTE(ok, call)              \
    do {                                     \
        invar_status status_;                \
        Py_BEGIN_ALLOW_THREADS               \
        status_ = (call);                    \
        Py_END_ALLOW_THREADS                 \
        (ok) = status_ok(status_);           \
    } while (0)

/* What a run returns: the results, or None when it was planned. */
static inline PyObject *results(output *outputs, int count, const invar_plan *plan) {
    return plan ? Py_NewRef(Py_None) : outputs_finish(outputs, count);
}

/* The operation of that name or function; NULL with an exception that names the caller. */
const operation *operation_in(const char *caller, PyObject *op);

/* explain(op, *arguments, **keywords). */
PyObject *explain(PyObject *module, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names);
extern const char explain_doc[];

#endif
