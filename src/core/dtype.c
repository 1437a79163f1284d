/* Element type names and the conversions that are too long to inline. */
#include "core/dtype.h"

static const invar_dtype float_dtypes[INVAR_FLOAT_TYPES] = {
    [INVAR_F32] = { INVAR_FLOAT, 32, 1 },
    [INVAR_F16] = { INVAR_FLOAT, 16, 1 },
    [INVAR_BF16] = { INVAR_BFLOAT, 16, 1 },
    [INVAR_F64] = { INVAR_FLOAT, 64, 1 },
};

bool invar_float_type_of(invar_dtype dtype, invar_float_type *type) {
    for (int i = 0; i < INVAR_FLOAT_TYPES; i++)
        if (invar_dtype_equal(dtype, float_dtypes[i])) {
            *type = (invar_float_type)i;
            return true;
        }
    return false;
}

invar_dtype invar_dtype_of(invar_float_type type) { return float_dtypes[type]; }

const char *invar_dtype_name(invar_dtype dtype) {
    static const struct {
        invar_dtype dtype;
        const char *name;
    } names[] = {
        { { INVAR_FLOAT, 32, 1 }, "float32" }, { { INVAR_FLOAT, 16, 1 }, "float16" },
        { { INVAR_BFLOAT, 16, 1 }, "bfloat16" }, { { INVAR_FLOAT, 64, 1 }, "float64" },
        { { INVAR_INT, 8, 1 }, "int8" }, { { INVAR_INT, 16, 1 }, "int16" },
        { { INVAR_INT, 32, 1 }, "int32" }, { { INVAR_INT, 64, 1 }, "int64" },
        { { INVAR_UINT, 8, 1 }, "uint8" }, { { INVAR_UINT, 16, 1 }, "uint16" },
        { { INVAR_UINT, 32, 1 }, "uint32" }, { { INVAR_UINT, 64, 1 }, "uint64" },
        { { INVAR_BOOL, 8, 1 }, "bool" }, { { INVAR_COMPLEX, 64, 1 }, "complex64" },
        { { INVAR_COMPLEX, 128, 1 }, "complex128" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (invar_dtype_equal(dtype, names[i].dtype)) return names[i].name;
    return "an unknown type";
}

void invar_store_float(void *p, invar_float_type type, double value) {
    float single = (float)value;
    if (type == INVAR_F64) {
        memcpy(p, &value, 8);
        return;
    }
    if (type == INVAR_F32) {
        memcpy(p, &single, 4);
        return;
    }
    uint32_t bits = invar_bits_from_float(single);
    bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    if (finite && (double)single != value && !(bits & 1)) { /* inexact and even: step to the odd neighbour towards value */
        bool away = single == 0 || (value > single) == (single > 0);
        if (single == 0) bits = value < 0 ? 0x80000001u : 1u;
        else bits = away ? bits + 1 : bits - 1;
        single = invar_float_from_bits(bits);
    }
    uint16_t half = type == INVAR_F16 ? invar_f16_from_float(single) : invar_bf16_from_float(single);
    memcpy(p, &half, 2);
}
