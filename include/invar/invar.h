/* Invar: fused rms_norm, layer_norm, rope and scaled_dot_product_attention, forward and backward.
 *
 * Every operation reads borrowed tensor views and writes where it is told. Results are invariant: the
 * bits of one example do not depend on the batch around it, on the thread count or on the run
 * (docs/invariance.md). Calls on one context may be made from many threads at once. Nothing here
 * prints, exits or aborts; a call that fails has written nothing and leaves one sentence in
 * invar_last_error().
 *
 * Conventions: the context comes first (NULL: one default context for the process), then outputs, then
 * inputs, then options (NULL: the defaults). Shapes are in elements, strides in elements, offsets in
 * bytes. Strides may be zero or negative; NULL strides mean row-contiguous. An optional tensor is NULL
 * when absent. Outputs may not overlap inputs, except where an operation says so.
 *
 * Any operation may give: INVAR_ERROR_NULL, a tensor that it needs is NULL; _VALUE, a shape, option or
 * overlap that it does not take; _DTYPE, an element type that it does not take, as float64 on a CUDA
 * device; _DEVICE_MIX, tensors on different devices; _ENVIRONMENT, INVAR_CPU or INVAR_NUM_THREADS where
 * it makes the default context; _MEMORY, no scratch memory, or a workspace that is too small. On a CUDA
 * device also _DEVICE, the driver is missing or refuses, and _COMPILE or _ENVIRONMENT, there is no NVRTC,
 * or not the one named in INVAR_NVRTC. docs/c-api.md tells of the variables.
 */
#ifndef INVAR_INVAR_H
#define INVAR_INVAR_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define INVAR_VERSION_MAJOR 0
#define INVAR_VERSION_MINOR 1
#define INVAR_VERSION_PATCH 0

#if defined(INVAR_STATIC)
#define INVAR_API
#elif defined(__GNUC__)
#define INVAR_API __attribute__((visibility("default")))
#else
#define INVAR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ------------------------------------------------------------------------------------ */

/* Numbers are part of the ABI and never change. */
typedef enum invar_status {
    INVAR_OK = 0,
    INVAR_ERROR_VALUE = 10,       /* a shape, an option, an overlap, a size that overflows */
    INVAR_ERROR_DTYPE = 11,       /* an element type the argument cannot have */
    INVAR_ERROR_DEVICE_MIX = 12,  /* arguments on different devices, or on one that the call cannot use */
    INVAR_ERROR_NULL = 13,        /* a required pointer is NULL */
    INVAR_ERROR_ENVIRONMENT = 20, /* an INVAR_* variable that cannot be honoured */
    INVAR_ERROR_MEMORY = 30,      /* out of memory, or a workspace smaller than the plan asks for */
    INVAR_ERROR_SYSTEM = 31,      /* the operating system refused something else */
    INVAR_ERROR_DEVICE = 40,      /* driver missing, launch failed, ... */
    INVAR_ERROR_COMPILE = 50,     /* a custom kernel did not compile, or no compiler was found */
    INVAR_ERROR_KERNEL = 51,      /* a custom kernel deadlocked or ran away */
    INVAR_ERROR_KERNEL_CHECK = 52 /* check mode found defects in a custom kernel */
} invar_status;

/* "INVAR_ERROR_VALUE" and so on; never NULL. */
INVAR_API const char *invar_status_name(invar_status status);

/* The sentence of this thread's last failed call: operation, argument, what was expected, what came.
 * Empty before the first failure. Valid until this thread's next call into Invar. */
INVAR_API const char *invar_last_error(void);

/* "0.1.0". */
INVAR_API const char *invar_version(void);

/* ---- tensors: DLPack's layout, so that a DLTensor* may be cast ---------------------------------- */

enum { INVAR_DEVICE_CPU = 1, INVAR_DEVICE_CUDA = 2 };                                /* kDLCPU, kDLCUDA */
enum { INVAR_INT = 0, INVAR_UINT = 1, INVAR_FLOAT = 2, INVAR_BFLOAT = 4, INVAR_COMPLEX = 5, INVAR_BOOL = 6 };

typedef struct invar_device {
    int32_t type;
    int32_t id;
} invar_device;

typedef struct invar_dtype {
    uint8_t code;   /* INVAR_FLOAT, ... */
    uint8_t bits;
    uint16_t lanes; /* always 1 */
} invar_dtype;

/* A borrowed view: the library keeps no pointer past the call. */
typedef struct invar_tensor {
    void *data;
    invar_device device;
    int32_t ndim;         /* 0 to 8 */
    invar_dtype dtype;
    int64_t *shape;       /* [ndim]; at most 2^50 elements, zero strides counted */
    int64_t *strides;     /* [ndim], in elements; NULL: row-contiguous */
    uint64_t byte_offset; /* added to data */
} invar_tensor;

/* ---- context ----------------------------------------------------------------------------------- */

/* Threads, scratch memory and the chosen kernels. Survives fork(): the child starts its own threads. */
typedef struct invar_context invar_context;

typedef struct invar_context_options {
    size_t size;         /* sizeof(invar_context_options) */
    int32_t num_threads; /* 0: INVAR_NUM_THREADS, else the processors this process may run on */
    const char *cpu;     /* an instruction set as in INVAR_CPU; NULL: INVAR_CPU, else the best there is */
} invar_context_options;
#define INVAR_CONTEXT_OPTIONS_INIT { sizeof(invar_context_options), 0, NULL }

INVAR_API invar_status invar_context_create(invar_context **context, const invar_context_options *options);
/* No call may be running on it. NULL is allowed. */
INVAR_API void invar_context_destroy(invar_context *context);
/* From 1 to 1024. Results do not depend on it. Waits for calls that are running. */
INVAR_API invar_status invar_context_set_num_threads(invar_context *context, int32_t num_threads);

typedef struct invar_context_description {
    size_t size;             /* sizeof(invar_context_description) */
    char cpu[16];            /* instruction set in use: baseline, avx2, avx512, avx512bf16, amx, neon, reference */
    char cpu_available[128]; /* every value INVAR_CPU may take here, space-separated */
    char cpu_reason[128];    /* why that one */
    char processor[128];     /* the processor's own name, where the system tells it */
    char compiler[128];      /* what built this library */
    int32_t num_threads;
    int64_t l1d_bytes, l2_bytes, l3_bytes; /* 0 where unknown */
} invar_context_description;
#define INVAR_CONTEXT_DESCRIPTION_INIT { sizeof(invar_context_description), "", "", "", "", "", 0, 0, 0, 0 }

INVAR_API invar_status invar_context_info(invar_context *context, invar_context_description *description);

/* What bounds a call from below: bytes / (read or copy), and flops / (the rate of its arithmetic). */
typedef struct invar_roofs {
    size_t size;                       /* sizeof(invar_roofs) */
    double read, copy;                 /* bytes/s beyond the caches; a copy counts what it reads and what it writes */
    double float32, bfloat16, float64; /* FLOP/s of multiply-adds; bfloat16: as attention multiplies it here */
} invar_roofs;
#define INVAR_ROOFS_INIT { sizeof(invar_roofs), 0, 0, 0, 0, 0 }

/* Measures them on the context's threads with its instruction set, in some 0.2 s and up to 512 MiB; what else runs on the
 * machine meanwhile lowers them. */
INVAR_API invar_status invar_context_measure(invar_context *context, invar_roofs *roofs);

/* ---- what every call's options carry ------------------------------------------------------------ */

/* Runs task(argument, i) for every i in 0 … count-1, in any order, on any threads, and returns when all
 * are done. */
typedef void (*invar_task)(void *argument, int64_t index);
typedef void (*invar_parallel_for)(void *pool, int64_t count, invar_task task, void *argument);

/* What a call would do; filled instead of computing when invar_execution.plan is set. */
typedef struct invar_plan {
    size_t size;          /* sizeof(invar_plan) */
    size_t workspace;     /* scratch bytes the call takes with as many threads as it is planned for */
    char kernel[64];      /* kernel and instruction set, as in "attention.avx512" */
    char reason[256];     /* why this kernel, and why not a faster one */
    int64_t tasks;        /* independent pieces handed to the threads */
    int32_t threads;      /* threads that can be kept busy */
    int32_t query_tile;   /* attention: query rows a tile; otherwise rows a task */
    int32_t key_block;    /* attention: keys a block, which is also the unit of a split; otherwise 0 */
    int64_t key_splits;   /* attention: pieces that one row's keys are computed in at once; otherwise 1 */
    double flops, bytes;  /* work counted as in docs/performance.md; of float16 on AMX tiles the products of its parts */
    char arithmetic[16];  /* what the flops are done in: the name of a field of invar_roofs */
} invar_plan;
#define INVAR_PLAN_INIT { sizeof(invar_plan), 0, "", "", 0, 0, 0, 0, 0, 0, 0, "" }

typedef struct invar_execution {
    void *stream;                    /* CUDA: the CUstream to enqueue on. CPU: ignored */
    invar_parallel_for parallel_for; /* CPU: the caller's threads; NULL: the context's */
    void *pool;                      /* passed to parallel_for */
    int32_t pool_threads;            /* how many tasks parallel_for runs at once, at most */
    void *workspace;                 /* scratch, 64-byte aligned; NULL: from the context */
    size_t workspace_size;
    invar_plan *plan;                /* not NULL: check the call, fill the plan, compute nothing */
} invar_execution;
#define INVAR_EXECUTION_INIT { NULL, NULL, NULL, 0, NULL, 0, NULL }

/* ---- norms --------------------------------------------------------------------------------------
 * x is (…, D) with rank >= 1; weight and bias are (D,). Types are float32, float16, bfloat16 or float64
 * (CPU only) and may differ; outputs have the promoted type of the inputs named. Sums are in float32
 * (float64 for float64), in the fixed order of docs/invariance.md. y may be exactly x. */

typedef struct invar_norm_options {
    size_t size; /* sizeof(invar_norm_options) */
    invar_execution execution;
    double eps;  /* finite, >= 0 */
} invar_norm_options;
#define INVAR_NORM_OPTIONS_INIT { sizeof(invar_norm_options), INVAR_EXECUTION_INIT, 1e-5 }

/* y = x · rsqrt(mean(x²) + eps) · weight (Zhang & Sennrich, 2019). y: shape of x, type promote(x, weight). */
INVAR_API invar_status invar_rms_norm(invar_context *context, const invar_tensor *y, const invar_tensor *x,
                                      const invar_tensor *weight, const invar_norm_options *options);

/* sum = x + residual; y = rms_norm(sum, weight), from the unrounded sum, in one pass. residual has x's shape.
 * sum: type promote(x, residual); y: promote(x, residual, weight). sum may be exactly x or residual. */
INVAR_API invar_status invar_add_rms_norm(invar_context *context, const invar_tensor *y, const invar_tensor *sum,
                                          const invar_tensor *x, const invar_tensor *residual,
                                          const invar_tensor *weight, const invar_norm_options *options);

/* The gradients of rms_norm: with r = rsqrt(mean(x²) + eps), x̂ = x · r and g = dy · weight,
 *     dx = r · (g - x̂ · mean(g · x̂)) and dweight = Σ dy · x̂ over all rows.
 * dx has x's shape and type, dweight weight's; either may be NULL, and dweight must be without weight. dy has
 * x's shape and any floating type; dx may be exactly dy. */
INVAR_API invar_status invar_rms_norm_vjp(invar_context *context, const invar_tensor *dx,
                                          const invar_tensor *dweight, const invar_tensor *dy,
                                          const invar_tensor *x, const invar_tensor *weight,
                                          const invar_norm_options *options);

/* y = (x - mean) · rsqrt(variance + eps) · weight + bias, biased variance from centred values (Ba et al.,
 * 2016). y: shape of x, type promote(x, weight, bias), or x's without weight. */
INVAR_API invar_status invar_layer_norm(invar_context *context, const invar_tensor *y, const invar_tensor *x,
                                        const invar_tensor *weight, const invar_tensor *bias,
                                        const invar_norm_options *options);

/* The gradients of layer_norm: with r = rsqrt(variance + eps), x̂ = (x - mean) · r and g = dy · weight,
 *     dx = r · (g - mean(g) - x̂ · mean(g · x̂)), dweight = Σ dy · x̂ and dbias = Σ dy over all rows.
 * Shapes, types and what may be NULL as in invar_rms_norm_vjp; dbias has bias's, and is NULL without bias. */
INVAR_API invar_status invar_layer_norm_vjp(invar_context *context, const invar_tensor *dx,
                                            const invar_tensor *dweight, const invar_tensor *dbias,
                                            const invar_tensor *dy, const invar_tensor *x,
                                            const invar_tensor *weight, const invar_tensor *bias,
                                            const invar_norm_options *options);

/* ---- rope ---------------------------------------------------------------------------------------
 * x: (…, T, D), rank >= 2, of any floating type (float64 on the CPU only); with rank >= 3 the first axis is
 * the batch. Features 0 … dims-1 are rotated, the rest copied (Su et al., 2021). Pair i of position p turns by
 * (p + offset) · scale · base^(-2i/dims), or (p + offset) · scale / freqs[i], radians. y has x's shape and type
 * and may be exactly x. */

typedef struct invar_rope_options {
    size_t size;         /* sizeof(invar_rope_options) */
    invar_execution execution;
    int64_t dims;        /* even, 0 < dims <= D */
    int32_t traditional; /* 1: pairs (2i, 2i+1); 0: pairs (i, i + dims/2) */
    double base;         /* > 0; 0: none given, as it must be with freqs */
    double scale;        /* finite */
    int64_t offset;      /* in positions; added to the offset tensor where there is one */
} invar_rope_options;
#define INVAR_ROPE_OPTIONS_INIT { sizeof(invar_rope_options), INVAR_EXECUTION_INIT, 0, 0, 10000.0, 1.0, 0 }

/* offset: NULL, or integers of shape (), (1,) or (B,), one for each batch. freqs: NULL, or real numbers of
 * shape (dims/2,), positions for a radian. Where x is on a CUDA device each of them may be there too, and is
 * read when the device comes to it, or on the CPU, and is read before the call returns: a kernel takes 128 of
 * either along, and more of them several kernels. */
INVAR_API invar_status invar_rope(invar_context *context, const invar_tensor *y, const invar_tensor *x,
                                  const invar_tensor *offset, const invar_tensor *freqs,
                                  const invar_rope_options *options);

/* The gradient of rope: dx is dy turned back by the same angles, with dy's shape and type, and may be exactly
 * dy. offset and freqs as above. */
INVAR_API invar_status invar_rope_vjp(invar_context *context, const invar_tensor *dx, const invar_tensor *dy,
                                      const invar_tensor *offset, const invar_tensor *freqs,
                                      const invar_rope_options *options);

/* ---- scaled dot product attention ----------------------------------------------------------------
 * out = softmax(scale · q kᵀ [softcapped] [+ mask]) v, streamed over blocks of keys (Milakov & Gimelshein,
 * 2018; Dao et al., 2022): nothing of size Tq × Tkv is ever allocated.
 * q: (…, Hq, Tq, Dk); k: (…, Hkv, Tkv, Dk); v: (…, Hkv, Tkv, Dv); rank 2 is one head, rank 3 one batch.
 * Each has a floating type of its own (float64 on the CPU only).
 * Leading sizes are equal; Hq is a multiple of Hkv; query head h reads kv head h / (Hq / Hkv).
 * out: (…, Hq, Tq, Dv), type promote(q, k, v); lse: (…, Hq, Tq), float32 (float64 with float64), or NULL.
 * A query that sees no key gives 0, and an lse of -inf or the sink's logit. */

typedef struct invar_attention_options {
    size_t size;          /* sizeof(invar_attention_options) */
    invar_execution execution;
    double scale;         /* NaN: 1/sqrt(Dk) */
    int32_t causal;       /* 1: query i sees keys j <= i + Tkv - Tq */
    int64_t window_left;  /* keys seen before the query's own position i + Tkv - Tq; -1: all */
    int64_t window_right; /* and after it; -1: all */
    double softcap;       /* c > 0: s -> c·tanh(s/c) before the mask; 0: none */
} invar_attention_options;
#define INVAR_ATTENTION_OPTIONS_INIT \
    { sizeof(invar_attention_options), INVAR_EXECUTION_INIT, (double)NAN, 0, -1, -1, 0.0 }

/* mask: NULL, bool (true: attend) or additive, broadcastable to (…, Hq, Tq, Tkv), read through its strides.
 * sinks: NULL or (Hq,): one extra logit a head that takes weight and adds no value.
 * kv_lengths: NULL or integers (B,), 0 … Tkv, where B is the product of the sizes before Hq: batch b has only
 * its first kv_lengths[b] keys; causal and window count from that end, and what lies beyond is never read. */
INVAR_API invar_status invar_scaled_dot_product_attention(
    invar_context *context, const invar_tensor *out, const invar_tensor *lse, const invar_tensor *q,
    const invar_tensor *k, const invar_tensor *v, const invar_tensor *mask, const invar_tensor *sinks,
    const invar_tensor *kv_lengths, const invar_attention_options *options);

/* Gradients of the call above, given its out and lse, from which the weights are formed again (Dao et al.,
 * 2022). dout has out's shape, and a type with which promote(dout, out) is out's; dlse, lse's gradient, its
 * shape, or is NULL. dq, dk, dv, dsinks and dmask have the shape and type of their arguments, and each may be
 * NULL; dmask is for an additive floating mask, and sums over what the mask is broadcast along. A row that sees
 * no key gives no gradient, nor does one whose lse is below -2^24 (bfloat16 on a CPU -2^17, float64 -2^53): there
 * finite mask values hide all keys, and lse no longer tells their weights. */
INVAR_API invar_status invar_scaled_dot_product_attention_vjp(
    invar_context *context, const invar_tensor *dq, const invar_tensor *dk, const invar_tensor *dv,
    const invar_tensor *dsinks, const invar_tensor *dmask, const invar_tensor *dout, const invar_tensor *q,
    const invar_tensor *k, const invar_tensor *v, const invar_tensor *out, const invar_tensor *lse,
    const invar_tensor *mask, const invar_tensor *sinks, const invar_tensor *kv_lengths, const invar_tensor *dlse,
    const invar_attention_options *options);

#ifdef __cplusplus
}
#endif
#endif
