/* Element types: names, promotion, and scalar conversion of the 16-bit floats. */
#ifndef INVAR_CORE_DTYPE_H
#define INVAR_CORE_DTYPE_H

#include <invar/invar.h>
#include <stdbool.h>
#include <string.h>

/* The floating types, in an order that dispatch tables index by. */
typedef enum invar_float_type { INVAR_F32, INVAR_F16, INVAR_BF16, INVAR_F64, INVAR_FLOAT_TYPES } invar_float_type;

/* False when dtype is not one of the four floating types. */
bool invar_float_type_of(invar_dtype dtype, invar_float_type *type);
invar_dtype invar_dtype_of(invar_float_type type);

/* "float32", "int64", ...; "an unknown type" for codes that DLPack does not define. */
const char *invar_dtype_name(invar_dtype dtype);

static inline bool invar_dtype_equal(invar_dtype a, invar_dtype b) {
    return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

static inline size_t invar_float_size(invar_float_type type) {
    return type == INVAR_F64 ? 8 : type == INVAR_F32 ? 4 : 2;
}

/* f16 with bf16 gives f32; float64 with anything gives float64. */
static inline invar_float_type invar_promote(invar_float_type a, invar_float_type b) {
    if (a == b) return a;
    return a == INVAR_F64 || b == INVAR_F64 ? INVAR_F64 : INVAR_F32;
}

static inline float invar_float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t invar_bits_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float invar_float_from_bf16(uint16_t bits) { return invar_float_from_bits((uint32_t)bits << 16); }

/* Round to nearest even; a NaN stays a NaN with its quiet bit set. */
static inline uint16_t invar_bf16_from_float(float value) {
    uint32_t bits = invar_bits_from_float(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float invar_float_from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return invar_float_from_bits(sign | 0x7f800000u | rest << 13 | (rest > 0x7c00 ? 0x400000u : 0));
    if (rest >= 0x0400) return invar_float_from_bits(sign | ((rest << 13) + 0x38000000u));
    float magnitude = (float)rest * 0x1p-24f; /* subnormal half: exact in float */
    return sign ? -magnitude : magnitude;
}

/* Round to nearest even, subnormal halves included; overflow gives infinity. */
static inline uint16_t invar_f16_from_float(float value) {
    uint32_t bits = invar_bits_from_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x3ff));
    if (bits >= 0x47800000u) return (uint16_t)(sign | 0x7c00); /* >= 65536 */
    if (bits < 0x38800000u) { /* < 2^-14: adding 0.5 aligns the half's last bit with the float's */
        float shifted = invar_float_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (invar_bits_from_float(shifted) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((bits - 0x38000000u + 0xfff + (bits >> 13 & 1)) >> 13)); /* 65520 carries into infinity */
}

/* One element at p as double; the float types only. */
static inline double invar_load_float(const void *p, invar_float_type type) {
    uint16_t half;
    float single;
    double wide;
    switch (type) {
    case INVAR_F64: memcpy(&wide, p, 8); return wide;
    case INVAR_F32: memcpy(&single, p, 4); return single;
    case INVAR_F16: memcpy(&half, p, 2); return invar_float_from_f16(half);
    default: memcpy(&half, p, 2); return invar_float_from_bf16(half);
    }
}

/* Stores value, already accurate to the accumulation type, rounded once to type. A double reaches a half type
 * through round-to-odd float, so that it is not rounded twice. */
void invar_store_float(void *p, invar_float_type type, double value);

#endif
