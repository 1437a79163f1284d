/* DLPack's binary interface, as far as it is used here: the capsules of `__dlpack__` (legacy and versioned) and the
 * table of C functions behind `__dlpack_c_exchange_api__`. Layouts are those of the DLPack standard, version 1.3; a
 * DLTensor is an invar_tensor. */
#ifndef INVAR_EXT_DLPACK_H
#define INVAR_EXT_DLPACK_H

#include <invar/invar.h>

enum { DLPACK_CPU = 1, DLPACK_CUDA_HOST = 3 }; /* the memory that a CPU reads */
enum { DLPACK_CUDA_MANAGED = 13 };             /* beside INVAR_DEVICE_CUDA */
enum { DLPACK_READ_ONLY = 1, DLPACK_COPIED = 2 }; /* bits of dlpack_versioned.flags */

typedef struct dlpack_version {
    uint32_t major, minor;
} dlpack_version;

/* In a capsule named "dltensor". */
typedef struct dlpack_legacy {
    invar_tensor tensor;
    void *owner;
    void (*deleter)(struct dlpack_legacy *self);
} dlpack_legacy;

/* In a capsule named "dltensor_versioned". */
typedef struct dlpack_versioned {
    dlpack_version version;
    void *owner;
    void (*deleter)(struct dlpack_versioned *self);
    uint64_t flags;
    invar_tensor tensor;
} dlpack_versioned;

/* In a capsule named "dlpack_exchange_api", an attribute of the array type. Functions return 0, or -1 with a Python
 * exception set; none waits for a stream. import_owned owns the tensor whether or not it succeeds. */
typedef struct dlpack_exchange {
    dlpack_version version;
    struct dlpack_exchange *previous;
    int (*allocate)(invar_tensor *prototype, dlpack_versioned **out, void *error_context,
                    void (*set_error)(void *error_context, const char *kind, const char *message));
    int (*export_owned)(void *object, dlpack_versioned **out);
    int (*import_owned)(dlpack_versioned *tensor, void **object);
    int (*borrow)(void *object, invar_tensor *out);
    int (*current_stream)(int32_t device_type, int32_t device_id, void **stream);
} dlpack_exchange;

#endif
