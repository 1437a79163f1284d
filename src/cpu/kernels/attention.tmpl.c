/* scaled_dot_product_attention forward in float32's arithmetic, for float32 and the half types widened. */
#include "cpu/kernels/attention_body.h"

invar_attention_kernel INVAR_KERNEL_NAME(attention);

void INVAR_KERNEL_NAME(attention)(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
    attend(call, work, scratch);
}
