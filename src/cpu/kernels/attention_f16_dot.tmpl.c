/* scaled_dot_product_attention forward for float16 q, k and v: on AMX tiles as sums of bfloat16 numbers; elsewhere the numbers are
 * widened like any half type's. */
#include "cpu/vec/vec.h"

#if defined(VEC_TILES)
#define ATTENTION_PAIRS
#define ATTENTION_SPLIT
#include "cpu/kernels/attention_body.h"
#else
#include "cpu/kernels/attention.h"
invar_attention_kernel INVAR_PASTE(INVAR_ISA_PLAIN, attention);
#define attend INVAR_PASTE(INVAR_ISA_PLAIN, attention)
#endif

invar_attention_kernel INVAR_KERNEL_NAME(attention_f16);

void INVAR_KERNEL_NAME(attention_f16)(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    attend(call, work, scratch);
}
