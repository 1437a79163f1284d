/* Exceptions: what each status becomes, and sentences that name operation, argument, expected and got. */
#ifndef INVAR_EXT_ERRORS_H
#define INVAR_EXT_ERRORS_H

#include "python.h"

#include <invar/invar.h>

extern PyObject *compile_error, *device_error, *kernel_check_error;

/* Makes the exceptions and adds them to the module. */
bool errors_init(PyObject *module);

/* True for INVAR_OK; otherwise raises invar_last_error() as the exception that belongs to the status. */
bool status_ok(invar_status status);

/* Raises `exception` with "<operation>: <argument>: expected <expected>, got <type of got>". Returns false. */
bool raise_expected(PyObject *exception, const char *operation, const char *argument, const char *expected, PyObject *got);

/* Raises `exception` with "<operation>: <argument>: " before the words of the exception that is set. Returns false. */
bool raise_because(PyObject *exception, const char *operation, const char *argument, const char *sentence);

/* Whether the exception that is set has these words in it. It stays set. */
bool pending_error_says(const char *words);

#endif
