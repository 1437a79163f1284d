/* Invar: custom kernels. The body of a GPU kernel, in Metal Shading Language or CUDA C, is translated, compiled once
 * and run over tensor views; on the CPU it may be run in check mode, which names its mistakes (docs/custom-kernels.md).
 *
 *     static const char *const inputs[] = { "a", "b" }, *const outputs[] = { "out" };
 *     invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
 *     description.dialect = INVAR_DIALECT_METAL;
 *     description.name = "multiply";
 *     description.input_names = inputs, description.input_count = 2;
 *     description.output_names = outputs, description.output_count = 1;
 *     description.source = "uint i = thread_position_in_grid.x; out[i] = a[i] * b[i];";
 *     invar_kernel *kernel;
 *     invar_kernel_create(&kernel, &description);
 *     invar_launch_options options = INVAR_LAUNCH_OPTIONS_INIT;
 *     options.grid[0] = n, options.threadgroup[0] = 256;
 *     invar_kernel_launch(kernel, NULL, (const invar_tensor *[]){ &out }, 1, (const invar_tensor *[]){ &a, &b }, 2,
 *                         &options);
 *     invar_kernel_destroy(kernel);
 *
 * The conventions are those of invar.h: a context of NULL is the process's own, outputs come before inputs, a call that
 * fails has left one sentence in invar_last_error(). One exception: a kernel that fails while it runs, or in which
 * check mode finds a defect, has written what it had written by then. */
#ifndef INVAR_KERNEL_H
#define INVAR_KERNEL_H

#include <invar/invar.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- a kernel ----------------------------------------------------------------------------------- */

/* Kernel text and the machine code made from it. Any number of threads may launch one kernel at once. */
typedef struct invar_kernel invar_kernel;

/* PRECOMPILED: no text, but PTX or a cubin, for CUDA devices alone. */
enum { INVAR_DIALECT_METAL = 1, INVAR_DIALECT_CUDA = 2, INVAR_DIALECT_PRECOMPILED = 3 };

/* SAFE keeps IEEE arithmetic. RELAXED lets the compiler fuse a multiply with an add and reorder sums; FAST also assumes
 * that there is no NaN and no infinity, and sets __FAST_MATH__ to 1. CUDA kernels are always SAFE. */
enum { INVAR_MATH_SAFE = 0, INVAR_MATH_RELAXED = 1, INVAR_MATH_FAST = 2 };

/* Names are C identifiers, none twice. */
typedef struct invar_kernel_description {
    size_t size;                     /* sizeof(invar_kernel_description) */
    int32_t dialect;                 /* INVAR_DIALECT_METAL, ...; there is no default */
    const char *name;                /* an identifier, which may begin with a digit; messages call the kernel's text <name>.metal or
                                        <name>.cu. PRECOMPILED: the function, whose parameters are pointers to the inputs, the
                                        outputs, then the scalars */
    const char *const *input_names;  /* [input_count]; the parameters of the body, in the order of a launch's inputs */
    int32_t input_count;             /* 0 to 64 */
    const char *const *output_names; /* [output_count] */
    int32_t output_count;            /* 1 to 64 */
    const char *source;              /* the body of the kernel function; PRECOMPILED: NULL */
    const char *header;              /* what stands before the function: helpers, constants; NULL: nothing */
    int32_t ensure_row_contiguous;   /* 1: inputs that are not row-contiguous are copied before the kernel runs */
    int32_t atomic_outputs;          /* 1: outputs are atomic<T> (Metal); in CUDA it changes nothing, all memory is */
    int32_t math_mode;               /* INVAR_MATH_SAFE, _RELAXED or _FAST */
    int64_t shared_memory;           /* CUDA: bytes behind `extern __shared__`; at most 227 KiB with the static ones */
    const void *image;               /* PRECOMPILED: the text or the bytes; else NULL */
    size_t image_size;               /* bytes of it */
} invar_kernel_description;
#define INVAR_KERNEL_DESCRIPTION_INIT \
    { sizeof(invar_kernel_description), 0, NULL, NULL, 0, NULL, 0, NULL, NULL, 1, 0, 0, 0, NULL, 0 }

/* Copies the description and reads the text: unknown options, names that are no identifiers, and constructs that
 * cannot be translated are refused here, each by name and line. Nothing is compiled yet. */
INVAR_API invar_status invar_kernel_create(invar_kernel **kernel, const invar_kernel_description *description);
/* No launch may be running. NULL is allowed. */
INVAR_API void invar_kernel_destroy(invar_kernel *kernel);

/* ---- a launch ----------------------------------------------------------------------------------- */

enum { INVAR_TEMPLATE_INT = 1, INVAR_TEMPLATE_BOOL = 2, INVAR_TEMPLATE_DTYPE = 3 };

/* A compile-time argument of the body. */
typedef struct invar_template_argument {
    const char *name;  /* an identifier */
    int32_t kind;      /* INVAR_TEMPLATE_INT, ... */
    invar_dtype dtype; /* kind DTYPE */
    int64_t value;     /* kind INT: within 32 bits; kind BOOL: 0 or 1 */
} invar_template_argument;

enum { INVAR_SCALAR_BOOL = 1, INVAR_SCALAR_INT = 2, INVAR_SCALAR_FLOAT = 3 };

/* A parameter of a precompiled kernel behind its arrays: a bool, an int or a float of C. */
typedef struct invar_scalar_argument {
    int32_t kind; /* INVAR_SCALAR_BOOL, ... */
    double value;
} invar_scalar_argument;

/* One defect that check mode found. The strings live until the callback returns. */
typedef struct invar_kernel_report {
    size_t size;             /* sizeof(invar_kernel_report), as the library knows it */
    const char *kind;        /* one of the words listed in docs/custom-kernels.md: "out-of-bounds read", "race", ... */
    const char *text;        /* the whole sentence, which begins with "<file>:<line>: " */
    const char *file;        /* "<name>.metal", "<name>.cu", or "<name>.header" for the header's text */
    int32_t line;            /* counted from 1; 0 where no line is to blame */
    int64_t thread[3];       /* position in the grid of the thread at fault; -1 where there is none */
    int64_t group[3];        /* its group */
    const char *array;       /* the input, output or threadgroup array; "" where there is none */
    int64_t index;           /* the element of it; -1 where there is none */
    int32_t other_line;      /* a race's second access; 0 where there is none */
    int64_t other_thread[3]; /* and the thread that made it; -1 where there is none */
} invar_kernel_report;

typedef void (*invar_kernel_report_callback)(void *argument, const invar_kernel_report *report);

enum { INVAR_CHECK_ENVIRONMENT = -1, INVAR_CHECK_OFF = 0, INVAR_CHECK_ON = 1, INVAR_CHECK_STRICT = 2 };

typedef struct invar_launch_options {
    size_t size;             /* sizeof(invar_launch_options) */
    invar_execution execution;
    int64_t grid[3];         /* threads, not groups; each from 1 to 2^31-1 */
    int64_t threadgroup[3];  /* threads a group; each >= 1, the product at most 1024. Cut to the grid where larger */
    const invar_template_argument *template_arguments; /* [template_count] */
    int32_t template_count;  /* 0 to 64 */
    int32_t has_init_value;  /* 1: every element of every output is init_value before the kernel starts */
    double init_value;
    int32_t check;           /* OFF; ON; STRICT, where equal values stored to one place by several threads are a race
                                too; ENVIRONMENT: ON when INVAR_KERNEL_CHECK is 1, STRICT when it is "strict" */
    invar_kernel_report_callback report; /* called for each defect, on the calling thread, before the launch returns */
    void *report_argument;
    const invar_scalar_argument *scalars; /* [scalar_count]; PRECOMPILED only */
    int32_t scalar_count;    /* 0 to 64 */
} invar_launch_options;
#define INVAR_LAUNCH_OPTIONS_INIT \
    { sizeof(invar_launch_options), INVAR_EXECUTION_INIT, { 1, 1, 1 }, { 1, 1, 1 }, NULL, 0, 0, 0.0, -1, NULL, NULL, NULL, 0 }

/* Runs the kernel over the grid and returns when it is done. The first launch with these element types, ranks and
 * template arguments compiles it, or finds it in the cache; from the second on nothing is formatted or hashed.
 *
 * Arrays on one CUDA device run the kernel there, compiled by NVRTC: it is enqueued on execution.stream and not waited for. An
 * input of one element, or of one repeated by strides of 0, may be in the CPU's memory beside them, and is read before the call
 * returns. A CUDA kernel's grid has at most 65535 blocks along y and z there, and a block 64 threads along z; check mode runs on
 * the CPU only.
 *
 * Outputs are row-contiguous and overlap neither each other nor an input. Inputs are of any real type, bool or
 * complex64 (Metal has no float64), of rank 0 to 8; one of rank 0 is a scalar in Metal, a pointer in CUDA. Without
 * ensure_row_contiguous an input's strides are what <input>_strides says. Arrays may begin at any element: where the text
 * casts pointers, one that is not aligned to 16 bytes (64, where the text asks for more) runs as a copy that is.
 *
 * INVAR_ERROR_ENVIRONMENT: INVAR_CACHE_DIR names a folder that cannot be used, and the kernel is not loaded yet.
 * INVAR_ERROR_COMPILE carries the compiler's words with the user's own lines. INVAR_ERROR_KERNEL: the threads of a
 * group wait for each other for ever, or a thread spins on an atomic that nobody writes. INVAR_ERROR_KERNEL_CHECK: check
 * mode found defects; invar_last_error() holds all their sentences, a line each. Outside check mode a kernel that reads or
 * writes past its arrays may corrupt what it can reach, as on a GPU. */
INVAR_API invar_status invar_kernel_launch(invar_kernel *kernel, invar_context *context,
                                           const invar_tensor *const *outputs, int32_t output_count,
                                           const invar_tensor *const *inputs, int32_t input_count,
                                           const invar_launch_options *options);

enum { INVAR_TARGET_CPU = 1, INVAR_TARGET_CUDA = 2 };

/* The text that such a launch compiles, less what is the same for every kernel: C++17 for INVAR_TARGET_CPU, CUDA for
 * INVAR_TARGET_CUDA. Writes at most capacity bytes with the closing NUL, and the whole length without it to *length;
 * text may be NULL when capacity is 0. Only the tensors' types and shapes are read. */
INVAR_API invar_status invar_kernel_generate(invar_kernel *kernel, int32_t target, const invar_tensor *const *outputs,
                                             int32_t output_count, const invar_tensor *const *inputs,
                                             int32_t input_count, const invar_launch_options *options, char *text,
                                             size_t capacity, size_t *length);

/* ---- the compiler and the cache ------------------------------------------------------------------ */

/* A compiler to use where INVAR_CXX is not set and the machine has no c++, clang++ or g++: the words that start it, as
 * in { "/usr/bin/python3", "-m", "ziglang", "c++" }. count 0 takes it back. */
INVAR_API invar_status invar_kernel_fallback_compiler(const char *const *argv, int32_t count);

typedef struct invar_kernel_cache_description {
    size_t size;        /* sizeof(invar_kernel_cache_description) */
    char folder[1024];  /* INVAR_CACHE_DIR, else ~/.cache/invar; "" when kernels are kept in memory only */
    char reason[256];   /* why the folder is not used; "" when it is */
    int64_t entries;    /* compiled kernels in it */
    int64_t bytes;      /* what they take */
    int64_t limit;      /* bytes above which the oldest are removed */
    char compiler[512]; /* the command that compiles for the CPU; "" when there is none */
    char version[256];  /* the first line of what it says of itself */
} invar_kernel_cache_description;
#define INVAR_KERNEL_CACHE_DESCRIPTION_INIT { sizeof(invar_kernel_cache_description), "", "", 0, 0, 0, "", "" }

/* Looks at the folder and asks the compiler for its version; compiles nothing. */
INVAR_API invar_status invar_kernel_cache_info(invar_kernel_cache_description *description);
/* Removes every entry of the folder. Kernels that are loaded keep running. INVAR_ERROR_ENVIRONMENT where INVAR_CACHE_DIR names
 * a folder that cannot be used. */
INVAR_API invar_status invar_kernel_cache_clear(void);

#ifdef __cplusplus
}
#endif
#endif
