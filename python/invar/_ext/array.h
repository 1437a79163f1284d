/* Arrays of any library as borrowed tensors, and results as the kind of array that was given. */
#ifndef INVAR_EXT_ARRAY_H
#define INVAR_EXT_ARRAY_H

#include "python.h"

#include <invar/invar.h>

enum { ARRAY_MAX_DIMS = 8 };

typedef enum array_kind {
    ARRAY_NUMPY,    /* numpy.ndarray, and what is turned into one: buffers, lists, scalars */
    ARRAY_EXCHANGE, /* the type has __dlpack_c_exchange_api__: torch */
    ARRAY_JAX,
    ARRAY_MLX,
    ARRAY_MODULE,   /* CuPy, and torch from before that table: invar._cuda calls their functions for arrays on a GPU */
    ARRAY_DLPACK,   /* anything else with __dlpack__ */
    ARRAY_FAKE,     /* what torch traces code with: a tensor of a shape, without memory */
} array_kind;

/* A view of one argument; present is false where the argument is None or left out. Filled by array_in or output_begin,
 * emptied by array_release. Must start as ARRAY_EMPTY. */
typedef struct array {
    bool present;
    bool read_only;
    bool converted; /* a copy made for this call, from a list or a scalar: no place to write to */
    array_kind kind;
    PyObject *object; /* borrowed: the array that was given */
    PyObject *keeper; /* owned: what keeps tensor.data alive, where it is not object itself */
    invar_tensor tensor;
    int64_t shape[ARRAY_MAX_DIMS], strides[ARRAY_MAX_DIMS];
} array;
#define ARRAY_EMPTY { .present = false, .keeper = NULL }

/* Reads one array without copying it. Raises TypeError for what is no array, ValueError for one that cannot be viewed,
 * DeviceError for memory that is neither the CPU's nor, on a GPU, that of a library whose stream and memory are known (ARRAY_EXCHANGE,
 * ARRAY_MODULE), each with a sentence that names operation and argument. Work that is enqueued on such an array is not waited for. */
bool array_in(array *a, PyObject *object, const char *operation, const char *argument);
/* The same; NULL and None leave it empty. */
bool array_in_optional(array *a, PyObject *object, const char *operation, const char *argument);
/* A number as an array of no dimensions, of the type that the other arrays decide. */
bool array_in_number(array *a, PyObject *number, invar_dtype dtype, const char *operation, const char *argument);
void array_release(array *a);

/* Where the array is on a GPU: the stream that is given, or the one that its library works on there. Elsewhere no stream is needed,
 * and any is taken. */
bool array_stream(const array *a, PyObject *given, void **stream, const char *operation);

static inline const invar_tensor *given(const array *a) { return a->present ? &a->tensor : NULL; }

/* The result type of floating arrays; empty ones do not count. An array that is not floating makes it float32: the
 * library refuses such a call, with the right sentence, before it looks at the output. */
invar_dtype promoted(const array *const *arrays, int count);

/* One result: array.present tells whether there is one. */
typedef struct output {
    array array;
    PyObject *result; /* owned: what is returned, where it exists before the call */
    void *data;       /* memory taken from the pool, until output_finish hands it on */
    size_t size;
} output;
#define OUTPUT_EMPTY { .array = ARRAY_EMPTY, .result = NULL, .data = NULL }

/* Prepares a result: `destination` where it is given (an array that may be written, else ValueError), otherwise new
 * memory for an array of like's kind, on like's device. stream: on a GPU, where the result is computed. */
bool output_begin(output *out, PyObject *destination, const array *like, int ndim, const int64_t *shape,
                  invar_dtype dtype, void *stream, const char *operation, const char *argument);
/* The same with like's own shape and type; nothing where like is empty. */
bool output_like(output *out, PyObject *destination, const array *like, void *stream, const char *operation,
                 const char *argument);
/* The array to return (None for an empty output), or NULL with an exception. */
PyObject *output_finish(output *out);
/* One array for one output, a tuple for several. */
PyObject *outputs_finish(output *outputs, int count);
void output_release(output *out);

/* Splits `out=` of an operation with `count` > 1 results: NULL or None, or a tuple or list of that length, whose None
 * entries stay NULL. The references are borrowed. */
bool split_destinations(PyObject *out, int count, PyObject **destinations, const char *operation, const char *argument);

bool arrays_init(void);

#endif
