/* Precompiled kernels: PTX or a cubin in place of a text, and parameters as its function declares them. */
#include "jit/kernel.h"

#include "core/sha256.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The names of C++ functions, mangled, are longer than those of kernels; PTX's hold a $ too. */
static bool is_entry(const char *name) {
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$0123456789");
    return length && !name[length] && length < INVAR_KERNEL_MAX_ENTRY && !isdigit((unsigned char)*name);
}

invar_status invar_kernel_check_image(const invar_kernel_description *d, const char *operation) {
    if (!d->name) return invar_fail(INVAR_ERROR_NULL, "%s: name: expected a name, got NULL", operation);
    if (!is_entry(d->name))
        return invar_fail(INVAR_ERROR_VALUE, "%s: name: expected a function's name of at most %d characters, got '%.200s'", operation,
                          INVAR_KERNEL_MAX_ENTRY - 1, d->name);
    if (d->source || d->header)
        return invar_fail(INVAR_ERROR_VALUE, "%s: source: expected NULL beside an image, got text", operation);
    if (!d->image) return invar_fail(INVAR_ERROR_NULL, "%s: image: expected PTX or a cubin, got NULL", operation);
    if (!d->image_size || d->image_size > SIZE_MAX / 2)
        return invar_fail(INVAR_ERROR_VALUE, "%s: image: expected PTX or a cubin, got %zu bytes", operation, d->image_size);
    return INVAR_OK;
}

bool invar_kernel_copy_image(invar_kernel *kernel, const invar_kernel_description *d) {
    char *copy = malloc(d->image_size + 1);
    uint8_t digest[INVAR_SHA256_BYTES];
    invar_sha256 hash;
    kernel->description.image = copy;
    if (!copy) return false;
    memcpy(copy, d->image, d->image_size);
    copy[d->image_size] = 0;
    invar_sha256_begin(&hash);
    invar_sha256_add_string(&hash, d->name);
    invar_sha256_add(&hash, copy, d->image_size);
    invar_sha256_end(&hash, digest);
    invar_sha256_hex(digest, kernel->image);
    return true;
}

static invar_status check_scalar(const invar_kernel *kernel, const invar_scalar_argument *scalar, int32_t i) {
    const double value = scalar->value;
    switch (scalar->kind) {
    case INVAR_SCALAR_BOOL:
        if (value == 0 || value == 1) return INVAR_OK;
        return invar_fail(INVAR_ERROR_VALUE, "%s: scalars: expected 0 or 1 for bool %d, got %g", kernel->operation, i, value);
    case INVAR_SCALAR_INT:
        if (value == trunc(value) && value >= INT32_MIN && value <= INT32_MAX) return INVAR_OK;
        return invar_fail(INVAR_ERROR_VALUE, "%s: scalars: expected an int within 32 bits for number %d, got %.17g", kernel->operation,
                          i, value);
    case INVAR_SCALAR_FLOAT: return INVAR_OK;
    default:
        return invar_fail(INVAR_ERROR_VALUE, "%s: scalars: expected a bool, an int or a float for number %d, got kind %d",
                          kernel->operation, i, scalar->kind);
    }
}

invar_status invar_kernel_check_scalars(const invar_kernel *kernel, const invar_launch_options *options) {
    const int32_t most = kernel->description.dialect == INVAR_DIALECT_PRECOMPILED ? INVAR_KERNEL_MAX_SCALARS : 0;
    if (options->scalar_count < 0 || options->scalar_count > most)
        return invar_fail(INVAR_ERROR_VALUE, "%s: scalars: expected 0 to %d%s, got %d", kernel->operation, most,
                          most ? "" : " (a precompiled kernel has them)", options->scalar_count);
    if (options->scalar_count && !options->scalars)
        return invar_fail(INVAR_ERROR_NULL, "%s: scalars: expected numbers, got NULL", kernel->operation);
    for (int32_t i = 0; i < options->scalar_count; i++) INVAR_TRY(check_scalar(kernel, &options->scalars[i], i));
    return INVAR_OK;
}

void invar_kernel_fill_parameters(invar_kernel_parameters *parameters, void **data, int32_t count,
                                  const invar_launch_options *options) {
    for (int32_t i = 0; i < count; i++) parameters->places[i] = &data[i];
    for (int32_t i = 0; i < options->scalar_count; i++) {
        const double value = options->scalars[i].value;
        if (options->scalars[i].kind == INVAR_SCALAR_BOOL) parameters->scalars[i].truth = value != 0;
        else if (options->scalars[i].kind == INVAR_SCALAR_INT) parameters->scalars[i].integer = (int32_t)value;
        else parameters->scalars[i].real = (float)value;
        parameters->places[count + i] = &parameters->scalars[i];
    }
}
