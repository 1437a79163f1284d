/* Arguments by position and by keyword, under both of their names, and the scalar ones read strictly. */
#ifndef INVAR_EXT_ARGUMENTS_H
#define INVAR_EXT_ARGUMENTS_H

#include "python.h"

#include <stdint.h>

enum { MAX_PARAMETERS = 20 };

typedef struct parameter {
    const char *name, *alias; /* alias: the other form's name, or NULL */
    PyObject *interned, *interned_alias;
} parameter;
#define NAME(name) { name, NULL, NULL, NULL }
#define NAMES(name, alias) { name, alias, NULL, NULL }

/* One function's parameters: first the required ones, then the optional ones, then those by keyword only. */
typedef struct signature {
    const char *operation;
    int required, positional, count;
    parameter parameters[MAX_PARAMETERS];
} signature;

/* Interns the names. */
bool signature_init(signature *s);
/* Fills values[s->count] with borrowed references, NULL where an argument is left out. TypeError otherwise. */
bool signature_parse(const signature *s, PyObject *const *arguments, Py_ssize_t positional, PyObject *keyword_names,
                     PyObject **values);

/* The readers below leave *out as it is where the argument is NULL (left out), and raise TypeError for a wrong kind of
 * object and ValueError for a value that cannot be meant. */
bool number_in(double *out, PyObject *value, const char *operation, const char *argument);
bool integer_in(int64_t *out, PyObject *value, const char *operation, const char *argument);
bool flag_in(bool *out, PyObject *value, const char *operation, const char *argument);
/* Streams order work on GPUs; for arrays in CPU memory any stream is taken and none is needed. */
bool stream_in(PyObject *value, const char *operation);

static inline bool left_out(PyObject *value) { return !value || value == Py_None; }

#endif
