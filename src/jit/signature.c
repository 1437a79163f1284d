/* The key in the text: element types, template arguments, and the body's parameters. */
#include "core/dtype.h"
#include "jit/position.h"
#include "jit/program.h"

#include <string.h>

/* ---- element types ---- */

const char *invar_type_name(const invar_source *source, invar_dtype dtype) {
    static const char *const integers[2][4] = { { "int8_t", "int16_t", "int32_t", "int64_t" },
                                                { "uint8_t", "uint16_t", "uint32_t", "uint64_t" } };
    bool metal = invar_is_metal(source);
    int size = dtype.bits == 8 ? 0 : dtype.bits == 16 ? 1 : dtype.bits == 32 ? 2 : dtype.bits == 64 ? 3 : -1;
    if (dtype.lanes != 1) return NULL;
    switch (dtype.code) {
    case INVAR_INT:
    case INVAR_UINT: return size < 0 ? NULL : integers[dtype.code == INVAR_UINT][size];
    case INVAR_FLOAT:
        if (dtype.bits == 16) return metal ? "float16_t" : "__half";
        return dtype.bits == 32 ? "float" : dtype.bits == 64 && !metal ? "double" : NULL;
    case INVAR_BFLOAT: return dtype.bits != 16 ? NULL : metal ? "bfloat16_t" : "__nv_bfloat16";
    case INVAR_COMPLEX: return dtype.bits == 64 ? "complex64_t" : NULL;
    case INVAR_BOOL: return dtype.bits == 8 ? "bool" : NULL;
    default: return NULL;
    }
}

invar_status invar_check_types(const invar_source *source, const invar_program_key *key) {
    for (int32_t k = 0; k < source->array_count; k++)
        if (!invar_type_name(source, key->arrays[k].dtype))
            return invar_fail(INVAR_ERROR_DTYPE, "%s: %s: expected an element type of %s, got %s",
                              invar_source_operation(source), source->arrays[k], invar_is_metal(source) ? "Metal" : "CUDA",
                              invar_dtype_name(key->arrays[k].dtype));
    return INVAR_OK;
}

/* ---- template arguments ---- */

/* What depends on the kernel's text and arrays; the launch has looked at each argument by itself. */
static invar_status check_arguments(const invar_source *source, const invar_program_key *key) {
    const char *operation = invar_source_operation(source);
    for (int32_t i = 0; i < key->template_count; i++) {
        const invar_template_argument *argument = &key->template_arguments[i];
        for (int32_t k = 0; k < source->array_count; k++)
            if (!strcmp(source->arrays[k], argument->name))
                return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected names other than the arrays', got %s", operation,
                                  argument->name);
        for (int32_t k = 0; k < i; k++)
            if (!strcmp(key->template_arguments[k].name, argument->name))
                return invar_fail(INVAR_ERROR_VALUE, "%s: template: expected every name once, got %s twice", operation,
                                  argument->name);
        if (argument->kind == INVAR_TEMPLATE_DTYPE && !invar_type_name(source, argument->dtype))
            return invar_fail(INVAR_ERROR_DTYPE, "%s: template: %s: expected an element type of %s, got %s", operation,
                              argument->name, invar_is_metal(source) ? "Metal" : "CUDA", invar_dtype_name(argument->dtype));
    }
    return INVAR_OK;
}

invar_status invar_check_key(const invar_source *source, const invar_program_key *key) {
    INVAR_TRY(invar_check_types(source, key));
    return check_arguments(source, key);
}

static void put_argument_value(const invar_generator *g, const invar_template_argument *argument) {
    if (argument->kind == INVAR_TEMPLATE_DTYPE) put(g, invar_type_name(g->source, argument->dtype));
    else if (argument->kind == INVAR_TEMPLATE_BOOL) put(g, argument->value ? "true" : "false");
    else if (argument->value == INT32_MIN) put(g, "(-2147483647 - 1)"); /* 2147483648 is no int */
    else PUT("(%lld)", (long long)argument->value);
}

static const char *argument_kind(const invar_template_argument *argument, const char *type) {
    return argument->kind == INVAR_TEMPLATE_DTYPE ? type : argument->kind == INVAR_TEMPLATE_BOOL ? "bool" : "int";
}

/* Metal: parameters of a template, so that what depends on them is looked up when they are known. */
void invar_put_template_head(const invar_generator *g) {
    if (!g->key->template_count || !invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++)
        PUT("%s%s %s", i ? ", " : "template <", argument_kind(&g->key->template_arguments[i], "typename"),
            g->key->template_arguments[i].name);
    put(g, ">\n");
}

void invar_put_template_values(const invar_generator *g) {
    if (!g->key->template_count || !invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++) {
        put(g, i ? ", " : "<");
        put_argument_value(g, &g->key->template_arguments[i]);
    }
    put(g, ">");
}

/* CUDA: names in the body. */
void invar_put_template_names(const invar_generator *g) {
    if (invar_is_metal(g->source)) return;
    for (int32_t i = 0; i < g->key->template_count; i++) {
        const invar_template_argument *argument = &g->key->template_arguments[i];
        if (argument->kind == INVAR_TEMPLATE_DTYPE) PUT("using %s = ", argument->name);
        else PUT("constexpr %s %s = ", argument_kind(argument, ""), argument->name);
        put_argument_value(g, argument);
        put(g, "; ");
    }
}

/* ---- the body's parameters, and what is handed over for them ---- */

void invar_put_array_type(const invar_generator *g, int32_t k) {
    const char *type = invar_array_type(g, k);
    if (invar_is_atomic(g, k)) PUT("atomic<%s> *", type);
    else PUT("%s%s%s", invar_is_output(g, k) ? "" : "const ", type, invar_is_scalar(g, k) ? " " : " *");
    /* Outputs overlap nothing, and threads of a loop do not wait for each other's stores. */
    if (g->loop && !invar_is_scalar(g, k)) put(g, "__restrict ");
}

/* Puts "name" as a parameter where `parameter`, else as the value that the entry point's locals have for it. */
static void put_array(const invar_generator *g, int32_t k, bool parameter) {
    const invar_source *source = g->source;
    const char *name = source->arrays[k];
    if (parameter) invar_put_array_type(g, k), PUT("%s", name);
    else PUT("invar_array_%d", (int)k);
    if (source->uses[k] & INVAR_USES_SHAPE) {
        if (!parameter) PUT(", invar_shape_%d", (int)k);
        else PUT(", const %s%s_shape", invar_is_metal(source) ? "int *__restrict " : "Shape &", name);
    }
    if (source->uses[k] & INVAR_USES_STRIDES) {
        if (!parameter) PUT(", invar_stride_%d", (int)k);
        else PUT(", const %s%s_strides", invar_is_metal(source) ? "int64_t *__restrict " : "Strides &", name);
    }
    if (source->uses[k] & INVAR_USES_NDIM) {
        if (parameter) PUT(", const int %s_ndim", name);
        else PUT(", %d", (int)g->key->arrays[k].ndim);
    }
    if (source->uses[k] & INVAR_USES_SIZE) PUT(", %sinvar_size_%d", parameter ? "const int64_t " : "", (int)k);
}

void invar_put_parameters(const invar_generator *g, bool parameter) {
    const invar_source *source = g->source;
    put(g, "(");
    for (int32_t k = 0; k < source->array_count; k++) {
        if (k) put(g, ", ");
        put_array(g, k, parameter);
    }
    if (source->uses_size) put(g, parameter ? ", const int64_t size" : ", invar_l.size");
    if (source->uses_grid && g->host)
        put(g, parameter ? ", const invar_shim::uint3 invar_grid" : ", uint3{invar_p.grid[0], invar_p.grid[1], invar_p.grid[2]}");
    for (int32_t k = 0; k < invar_position_count; k++) {
        const invar_position_name *position = &invar_position_names[k];
        if (!(source->positions & 1u << k) || (!g->host && !invar_is_metal(source))) continue;
        if (parameter) PUT(", const %s %s", position->type, position->name);
        else PUT(", %s", position->value);
    }
    if (g->loop) put(g, parameter ? ", const invar_here_at invar_here" : ", invar_here_at(invar_p, invar_l)");
    put(g, ")");
}
