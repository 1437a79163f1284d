/* Custom kernels as Python calls them. */
#ifndef INVAR_EXT_KERNELS_H
#define INVAR_EXT_KERNELS_H

#include "array.h"
#include "errors.h"

#include <invar/kernel.h>

enum { KERNEL_MAX_ARRAYS = 64, KERNEL_MAX_TEMPLATES = 64, KERNEL_MAX_SCALARS = 64 };

/* Behind the capsule that invar._kernels.Kernel holds. */
typedef struct kernel_handle {
    invar_kernel *kernel;
    const char *operation; /* "metal_kernel", "cuda_kernel" or "precompiled_cuda_kernel" */
    int32_t input_count, output_count;
    bool metal;  /* its element types are Metal's, which has no float64 */
    bool expand; /* inputs are not made row-contiguous by the library, so the short form must do it */
    char *names[]; /* inputs, then outputs */
} kernel_handle;

/* The handle of a capsule, or NULL with an exception. */
kernel_handle *kernel_of(PyObject *capsule);

/* One call: every argument as the library takes it. Only the entries that the kernel has are ever set. */
typedef struct kernel_call {
    const kernel_handle *handle;
    array inputs[KERNEL_MAX_ARRAYS];
    int64_t numbers[KERNEL_MAX_ARRAYS]; /* the bytes of Python numbers given as inputs */
    output copies[KERNEL_MAX_ARRAYS];   /* of inputs that were expanded here */
    output outputs[KERNEL_MAX_ARRAYS];
    const invar_tensor *input_tensors[KERNEL_MAX_ARRAYS], *output_tensors[KERNEL_MAX_ARRAYS];
    invar_template_argument templates[KERNEL_MAX_TEMPLATES];
    invar_scalar_argument numbers_behind[KERNEL_MAX_SCALARS];
    invar_launch_options options;
    bool scalars; /* the short form's results have no dimensions; the kernel sees arrays of one element */
} kernel_call;

void kernel_call_begin(kernel_call *call, const kernel_handle *handle);
void kernel_call_release(kernel_call *call);

/* Fill the call from Python's arguments; false with an exception. */
bool kernel_inputs_in(kernel_call *call, PyObject *inputs);
bool kernel_options_in(kernel_call *call, PyObject *grid, PyObject *threadgroup, PyObject *templates, PyObject *init_value,
                       PyObject *check);
/* A precompiled kernel's parameters behind its arrays: bools, ints and floats; None: there are none. After the options. */
bool kernel_scalars_in(kernel_call *call, PyObject *scalars);
/* Whether the call's arrays are on a GPU; and the stream there that is given, or that their library works on, after the options. */
bool kernel_on_gpu(const kernel_call *call);
bool kernel_stream_in(kernel_call *call, PyObject *given);
bool kernel_outputs_in(kernel_call *call, PyObject *shapes, PyObject *dtypes);
/* The short form: expands inputs to their broadcast shape, gives outputs that shape and the promoted type, and one thread to
 * each element. *threads is how many that is. */
bool kernel_broadcast(kernel_call *call, int64_t *threads);

/* A dtype of any library as the C library's. */
bool kernel_dtype_in(invar_dtype *dtype, PyObject *object, const char *operation);

/* Adds the functions to the module. */
bool kernels_init(PyObject *module);

#endif
