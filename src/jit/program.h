/* What the writers of a program share: generate.c (the user's text), signature.c (types, template arguments, the body's
 * parameters), parts.c (the shim), entry.c and device_entry.c (the entry points). */
#ifndef INVAR_JIT_PROGRAM_H
#define INVAR_JIT_PROGRAM_H

#include "jit/source.h"

typedef struct invar_generator {
    const invar_source *source;
    const invar_program_key *key;
    bool host, check;
    bool loop; /* FLAT or LOOP: one call runs a box of threads */
    invar_text *text;
} invar_generator;

/* Appends a string, and text by a format, to what the generator g writes. */
static inline void put(const invar_generator *g, const char *string) { invar_text_string(g->text, string); }
#define PUT(...) invar_text_format(g->text, __VA_ARGS__)

/* ---- signature.c ---- */

/* The dialect's name of an element type; NULL where it has none. */
const char *invar_type_name(const invar_source *source, invar_dtype dtype);
invar_status invar_check_key(const invar_source *source, const invar_program_key *key);
invar_status invar_check_types(const invar_source *source, const invar_program_key *key);

static inline bool invar_is_output(const invar_generator *g, int32_t k) { return k >= g->source->input_count; }
/* Metal's inputs of rank 0 are scalars. */
static inline bool invar_is_scalar(const invar_generator *g, int32_t k) {
    return invar_is_metal(g->source) && !invar_is_output(g, k) && g->key->arrays[k].ndim == 0;
}
/* Inputs of rank 0, which a launch on a CUDA device may hand over by value. */
static inline bool invar_is_number(const invar_generator *g, int32_t k) {
    return !invar_is_output(g, k) && g->key->arrays[k].ndim == 0;
}
static inline bool invar_is_atomic(const invar_generator *g, int32_t k) {
    return invar_is_output(g, k) && g->source->atomic_outputs;
}
static inline const char *invar_array_type(const invar_generator *g, int32_t k) {
    return invar_type_name(g->source, g->key->arrays[k].dtype);
}
/* Metal: template <...> before the body and its values at a call; CUDA: names in the body. */
void invar_put_template_head(const invar_generator *g);
void invar_put_template_values(const invar_generator *g);
void invar_put_template_names(const invar_generator *g);
/* An array parameter's type, up to its name. */
void invar_put_array_type(const invar_generator *g, int32_t k);
/* The body's parameters, or what a call hands over for them: locals of the entry point, invar_p and invar_l. */
void invar_put_parameters(const invar_generator *g, bool parameter);

/* ---- parts.c ---- */

/* using-declarations for the functions of the user's that have a built-in's name. */
void invar_put_overloads(const invar_generator *g);

/* ---- entry.c ---- */

/* The call of the body. */
void invar_put_call(const invar_generator *g);
void invar_put_host_entry(const invar_generator *g);

/* ---- device_entry.c ---- */

void invar_put_device_entry(const invar_generator *g);

#endif
