/* A launch's arrays: the caller's views, what the kernel sees of them, and the copies that it runs on. */
#ifndef INVAR_JIT_KERNEL_ARGUMENTS_H
#define INVAR_JIT_KERNEL_ARGUMENTS_H

#include "jit/kernel.h"

/* Inputs come first. */
typedef struct invar_arguments {
    invar_device device; /* where the outputs are, and with them the launch */
    int32_t input_count, count;
    invar_view views[2 * INVAR_KERNEL_MAX_ARRAYS];
    invar_array_key keys[2 * INVAR_KERNEL_MAX_ARRAYS];
    bool contiguous[2 * INVAR_KERNEL_MAX_ARRAYS];
    bool misplaced[2 * INVAR_KERNEL_MAX_ARRAYS]; /* begins where the kernel's text cannot read it */
    bool hosted[2 * INVAR_KERNEL_MAX_ARRAYS];    /* one element, repeated or not, in the CPU's memory, for a kernel on a GPU */
    uint64_t numbers[INVAR_KERNEL_MAX_ARRAYS];   /* hosted inputs of rank 0 that the launch hands over by value: data is NULL */
    void *data[2 * INVAR_KERNEL_MAX_ARRAYS];
    const int32_t *shapes[2 * INVAR_KERNEL_MAX_ARRAYS];
    const int64_t *strides[2 * INVAR_KERNEL_MAX_ARRAYS];
    int32_t ndims[2 * INVAR_KERNEL_MAX_ARRAYS];
    int32_t shape[2 * INVAR_KERNEL_MAX_ARRAYS][INVAR_MAX_DIMS];
    int64_t stride[2 * INVAR_KERNEL_MAX_ARRAYS][INVAR_MAX_DIMS];
} invar_arguments;

/* Reads and checks every array; launch false: by type and shape alone. */
invar_status invar_arguments_read(invar_arguments *a, const invar_kernel *kernel, const invar_tensor *const *outputs,
                                  int32_t output_count, const invar_tensor *const *inputs, int32_t input_count, bool launch);

/* Whether input i runs as a row-contiguous copy. */
bool invar_argument_gathered(const invar_arguments *a, const invar_kernel *kernel, int32_t i);
/* The elements of an array that exist, counted from element 0 of the view. */
void invar_element_range(const invar_view *view, bool gathered, int64_t *begin, int64_t *end);

/* Notes the arrays that must be elsewhere, and returns the scratch memory that this takes. Check mode has places of its own;
 * a plan counts every array, since the call that follows may bring other addresses. */
size_t invar_arguments_place(invar_arguments *a, const invar_kernel *kernel, bool check, bool plan);
/* Gives such arrays their place in scratch memory: inputs are copied, row-contiguous or with the strides they have. */
invar_status invar_arguments_move(invar_arguments *a, const invar_kernel *kernel, const invar_kernel_memory *memory, char *scratch);
/* Before the kernel runs: init_value. After it: what it wrote elsewhere. */
invar_status invar_arguments_fill(const invar_arguments *a, const invar_launch_options *options, const invar_kernel_memory *memory);
invar_status invar_arguments_return(const invar_arguments *a, const invar_kernel_memory *memory);

#endif
