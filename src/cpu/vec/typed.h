/* Loads and stores of float32, float16 or bfloat16 by an invar_float_type that is a constant at every call, so that one text
 * serves the three without a branch in its loops. */
#ifndef INVAR_CPU_VEC_TYPED_H
#define INVAR_CPU_VEC_TYPED_H

#include "cpu/vec/lanes.h"
#include "cpu/vec/vec.h"

VEC_INLINE vf vf_load_as(const int type, const void *p) {
    return type == INVAR_F32 ? vf_load(p) : type == INVAR_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}
VEC_INLINE vf vf_load_as_n(const int type, const void *p, int n) {
    return type == INVAR_F32 ? vf_load_n(p, n) : type == INVAR_F16 ? vf_load_f16_n(p, n) : vf_load_bf16_n(p, n);
}
VEC_INLINE void vf_store_as(const int type, void *p, vf v) {
    if (type == INVAR_F32) vf_store(p, v);
    else if (type == INVAR_F16) vf_store_f16(p, v);
    else vf_store_bf16(p, v);
}
VEC_INLINE void vf_store_as_n(const int type, void *p, vf v, int n) {
    if (type == INVAR_F32) vf_store_n(p, v, n);
    else if (type == INVAR_F16) vf_store_f16_n(p, v, n);
    else vf_store_bf16_n(p, v, n);
}

/* Two vectors, side by side; bfloat16 split (lanes.h), with even elements in a and odd ones in b. */
VEC_INLINE void vf_load_two_as(const int type, const void *p, vf *a, vf *b) {
    if (type == INVAR_BF16) {
        vf_load_split(p, a, b);
        return;
    }
    *a = vf_load_as(type, p);
    *b = vf_load_as(type, (const char *)p + VW * (type == INVAR_F32 ? 4 : 2));
}
VEC_INLINE void vf_store_two_as(const int type, void *p, vf a, vf b) {
    if (type == INVAR_BF16) vec_store_joined(p, vf_join_split(a, b));
    else vf_store_as(type, p, a), vf_store_as(type, (char *)p + VW * (type == INVAR_F32 ? 4 : 2), b);
}

#endif
