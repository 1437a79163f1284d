/* What the array files share among themselves: NumPy's side in numpy.c, DLPack's in dlpack.c. */
#ifndef INVAR_EXT_FORMATS_H
#define INVAR_EXT_FORMATS_H

#include "arguments.h"
#include "array.h"
#include "dlpack.h"
#include "errors.h"

/* ---- numpy.c ------------------------------------------------------------------------------------- */

bool numpy_init(void);
bool numpy_is_array(PyObject *object);
/* Fills a from an ndarray; object, kind and keeper are the caller's. */
bool numpy_view(array *a, PyObject *object, const char *operation, const char *argument);
/* True where the array's memory belongs to another object. */
bool numpy_is_view(PyObject *object);
/* numpy.asarray(object), a new reference. */
PyObject *numpy_asarray(PyObject *object);
PyObject *numpy_asarray_typed(PyObject *object, invar_dtype dtype);
/* A new ndarray over row-contiguous memory that it then owns; data is given back on failure too. */
PyObject *numpy_wrap(void *data, size_t size, const invar_tensor *tensor);

/* ---- dlpack.c ------------------------------------------------------------------------------------ */

bool dlpack_init(void);
/* The function table of the object's type, or NULL (no exception). */
const dlpack_exchange *dlpack_exchange_of(PyTypeObject *type);
bool dlpack_view_exchange(array *a, PyObject *object, const dlpack_exchange *exchange, const char *operation,
                          const char *argument);
/* Through object.__dlpack__; a->keeper becomes the capsule. */
bool dlpack_view_capsule(array *a, PyObject *object, const char *operation, const char *argument);
/* A new array of that shape, type and device, from the library's own memory. */
PyObject *dlpack_empty(const dlpack_exchange *exchange, invar_tensor *prototype);
/* New arrays over memory that they then own, as the type behind `exchange`, or by from_dlpack(exporter). */
PyObject *dlpack_wrap_exchange(const dlpack_exchange *exchange, void *data, size_t size, const invar_tensor *tensor);
PyObject *dlpack_wrap(PyObject *from_dlpack, void *data, size_t size, const invar_tensor *tensor);

/* ---- libraries.c --------------------------------------------------------------------------------- */

/* The kind of arrays of this type, remembered per type; *exchange is set for ARRAY_EXCHANGE. False where the type is no
 * array type that speaks for itself (no exception): a buffer, a list, a scalar, or something else. */
bool library_kind(PyTypeObject *type, array_kind *kind, const dlpack_exchange **exchange);
/* The function that makes an array of object's library from an exporter: a new reference, or NULL with an exception. */
PyObject *library_from_dlpack(PyObject *object, array_kind kind);
/* Whether the type comes from that package: "jaxlib" for jaxlib._jax.ArrayImpl. */
bool library_owns(PyTypeObject *type, const char *package);
/* A type's name as torch, NumPy and MLX spell it, but for bool: "bool_". */
const char *dtype_name(invar_dtype dtype);
PyObject *shape_tuple(int ndim, const int64_t *shape);
/* A new, evaluated MLX array of that shape and type. */
PyObject *mlx_empty(int ndim, const int64_t *shape, invar_dtype dtype);

/* Copies shape and strides of a foreign tensor into a, and checks rank and device. */
bool array_borrow(array *a, const invar_tensor *tensor, const char *operation, const char *argument);

/* ---- device.c ------------------------------------------------------------------------------------ */

/* A new array of like's library on like's GPU, for work on that stream to fill. */
PyObject *array_empty_beside(const array *like, int ndim, const int64_t *shape, invar_dtype dtype, void *stream,
                             const char *operation, const char *argument);

/* ---- refusals.c ---------------------------------------------------------------------------------- */

/* True, without an exception, for an array that may be read; each raise_ is false, with one. */
bool refuse_more_than_values(PyObject *object, const char *operation, const char *argument);
/* For an array whose export failed, with that exception set or none; for a tensor without memory; for torch's stand-ins. */
bool raise_no_export(PyObject *object, const char *operation, const char *argument);
bool raise_no_memory(PyObject *object, const char *operation, const char *argument);
bool raise_fake(PyObject *object, const char *operation, const char *argument);
bool is_jax_tracer(PyObject *object);

#endif
