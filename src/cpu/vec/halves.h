/* 16-bit floats for instruction sets without vector conversions, built on core/dtype.h's scalar ones. */
#define VEC_HALF_FORMS(type)                                                        \
    VEC_INLINE vf vf_load_##type##_n(const uint16_t *p, int n) {                    \
        float lane[VW] = { 0 };                                                     \
        for (int i = 0; i < n; i++) lane[i] = invar_float_from_##type(p[i]);        \
        return vf_load(lane);                                                       \
    }                                                                               \
    VEC_INLINE void vf_store_##type##_n(uint16_t *p, vf v, int n) {                 \
        float lane[VW];                                                             \
        vf_store(lane, v);                                                          \
        for (int i = 0; i < n; i++) p[i] = invar_##type##_from_float(lane[i]);      \
    }                                                                               \
    VEC_INLINE vf vf_load_##type(const uint16_t *p) { return vf_load_##type##_n(p, VW); } \
    VEC_INLINE void vf_store_##type(uint16_t *p, vf v) { vf_store_##type##_n(p, v, VW); }
VEC_HALF_FORMS(f16)
VEC_HALF_FORMS(bf16)
#undef VEC_HALF_FORMS
