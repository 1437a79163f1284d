/* scaled_dot_product_attention forward for bfloat16 q, k and v where the processor multiplies bfloat16 pairs; elsewhere they
 * are widened like any half type. */
#include "cpu/kernels/attention.h"
#include "cpu/vec/vec.h"

invar_attention_kernel INVAR_PASTE(INVAR_ISA_PLAIN, attention), INVAR_KERNEL_NAME(attention_bf16);

void INVAR_KERNEL_NAME(attention_bf16)(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    INVAR_PASTE(INVAR_ISA_PLAIN, attention)(call, work, scratch);
}
