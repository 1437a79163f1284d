/* Inside a custom kernel: its description, and the programs made of it so far. */
#ifndef INVAR_JIT_KERNEL_H
#define INVAR_JIT_KERNEL_H

#include "core/context.h"
#include "core/tensor.h"
#include "cuda/module.h"
#include "jit/compile.h"
#include "jit/generate.h"
#include "jit/runtime.h"

#include <stdatomic.h>

enum { INVAR_KERNEL_MAX_ARRAYS = 64, INVAR_KERNEL_MAX_TEMPLATES = 64, INVAR_KERNEL_MAX_NAME = 128 };
enum { INVAR_KERNEL_MAX_TITLE = 1024 /* of a kernel's name, which may be put together of all its parameters */ };
enum { INVAR_KERNEL_MAX_SCALARS = 64, INVAR_KERNEL_MAX_ENTRY = 1024 /* of a precompiled function's name */ };
enum { INVAR_METAL_SHARED = 32 << 10, INVAR_CUDA_SHARED = 227 << 10 };

/* A program that is loaded. It stays so until the process ends: text that comes again is neither compiled nor loaded
 * again, and no thread can be inside code that goes away. */
typedef struct invar_loaded {
    struct invar_loaded *next;
    char key[INVAR_SHA256_HEX];
    const invar_module *module;
    void *handle;
    uint64_t shared_bytes; /* of the kernel's own threadgroup arrays */
    int file;              /* check builds: a descriptor of the object, for its line table; else -1 */
} invar_loaded;

/* What a launch with these element types, ranks and template arguments runs: on the CPU, or on a GPU. */
typedef struct invar_program {
    struct invar_program *next;
    const invar_loaded *loaded;
    const invar_cuda_function *function;
    size_t key_size;
    uint8_t key[]; /* [key_size] */
} invar_program;

/* Where a launch runs, and what is compiled in with that. */
typedef struct invar_place {
    const invar_context *context;
    const invar_cuda_device *gpu; /* NULL: the CPU */
    bool check;                   /* on the CPU: check mode */
    bool crowded;                 /* on a GPU: few registers a thread, so that a block may have the most threads */
} invar_place;

struct invar_kernel {
    invar_kernel_description description; /* its strings are owned */
    const char *operation;                /* "metal_kernel" or "cuda_kernel" */
    char file[INVAR_KERNEL_MAX_NAME + 16], header_file[INVAR_KERNEL_MAX_NAME + 16]; /* what #line calls the texts */
    invar_source *source;
    int32_t alignment;                    /* bytes on which arrays must begin, invar_source_alignment */
    char image[INVAR_SHA256_HEX];         /* of a precompiled kernel: what names it, in place of a source */
    atomic_int maker;                     /* the process, one of whose threads makes a program; 0: none */
    _Atomic(invar_program *) programs;    /* only ever grows */
};

/* True for a name of letters, digits and underscores that begins with no digit and is not too long. */
bool invar_is_identifier(const char *name);
/* True for a word that the dialect's language keeps for itself, and for a name that tells a thread where it is. */
bool invar_is_taken(const char *name, int32_t dialect);

/* Name i of the inputs and outputs, counted through. */
const char *invar_array_name(const invar_kernel_description *description, int32_t i);

/* The program for these arrays (inputs, then outputs), compiled or taken from the cache where it is new. */
invar_status invar_kernel_program(invar_kernel *kernel, const invar_place *place, const invar_array_key *arrays,
                                  const invar_launch_options *options, const invar_program **program);
/* The function on place->gpu of such a program. */
invar_status invar_kernel_function(const invar_kernel *kernel, const invar_place *place, const invar_program_key *key,
                                   const invar_cuda_function **function);

/* Precompiled kernels. Checks what they alone have; makes the copy of the image, which the kernel owns, with a NUL behind it. */
invar_status invar_kernel_check_image(const invar_kernel_description *d, const char *operation);
bool invar_kernel_copy_image(invar_kernel *kernel, const invar_kernel_description *d);
invar_status invar_kernel_check_scalars(const invar_kernel *kernel, const invar_launch_options *options);
/* The parameters of a launch: each one's place, arrays as `data` has them, in *storage. */
typedef struct invar_kernel_parameters {
    void *places[2 * INVAR_KERNEL_MAX_ARRAYS + INVAR_KERNEL_MAX_SCALARS];
    union {
        bool truth;
        int32_t integer;
        float real;
    } scalars[INVAR_KERNEL_MAX_SCALARS];
} invar_kernel_parameters;
void invar_kernel_fill_parameters(invar_kernel_parameters *parameters, void **data, int32_t count,
                                  const invar_launch_options *options);

/* The compiler with its version, from the cache where the compiler has been asked before. */
invar_status invar_kernel_compiler(invar_compiler *compiler, bool check, const char *operation);

/* Who works on the memory of a launch: the threads of a run, or a GPU on a stream. */
typedef struct invar_kernel_memory {
    invar_run *run;
    const invar_cuda_device *gpu; /* NULL: the CPU */
    void *stream;
    const char *operation;
} invar_kernel_memory;

/* Copies every element of view, in row-major order, to memory at `to`, which on the CPU may be aligned to nothing. */
invar_status invar_kernel_copy(const invar_kernel_memory *memory, char *to, const invar_view *view);
/* Gives every element of a row-contiguous view the value. */
invar_status invar_kernel_fill(const invar_kernel_memory *memory, const invar_view *view, double value);
/* Gives a GPU's memory at `to` the one element, as often as it is repeated, of a view on the CPU, as it is now. */
invar_status invar_kernel_send(const invar_kernel_memory *memory, char *to, const invar_view *view);
/* Whether an element type can hold it: INVAR_ERROR_VALUE for an integer type and NaN, an infinity, or a value out of range. */
invar_status invar_kernel_check_fill(const invar_view *view, double value, const char *operation, const char *argument);

#endif
