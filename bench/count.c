/* One call of one operation, for counting its instructions under valgrind's callgrind: the same number every time, however
 * busy the machine is. usage: count CASE; count alone lists the cases, each with the function to count in. */
#include <invar/invar.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const invar_dtype types[] = { { INVAR_FLOAT, 32, 1 }, { INVAR_BFLOAT, 16, 1 } };
enum { F32, BF16 };

/* A row-contiguous tensor of small pseudo-random values that lives as long as the program. */
static invar_tensor *tensor(int type, int ndim, const int64_t *shape) {
    struct {
        invar_tensor tensor;
        int64_t shape[4];
    } *t = malloc(sizeof *t);
    int64_t count = 1;
    for (int d = 0; t && d < ndim; d++) count *= t->shape[d] = shape[d];
    size_t bytes = ((size_t)count * types[type].bits / 8 + 63) / 64 * 64;
    char *data = t ? aligned_alloc(64, bytes ? bytes : 64) : NULL;
    if (!data) exit(1);
    t->tensor = (invar_tensor){ data, { INVAR_DEVICE_CPU, 0 }, ndim, types[type], t->shape, NULL, 0 };
    uint32_t state = 1;
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        float value = (float)(state >> 8) * 0x1p-24f - 0.5f;
        uint32_t bits;
        memcpy(&bits, &value, 4);
        uint16_t high = (uint16_t)(bits >> 16);
        if (type == BF16) memcpy(data + 2 * i, &high, 2);
        else memcpy(data + 4 * i, &value, 4);
    }
    return &t->tensor;
}
#define T(type, ...) tensor(type, (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / 8), (const int64_t[]){ __VA_ARGS__ })

enum { ROWS = 64, WIDTH = 512 };

static invar_status rms_norm(int type) {
    return invar_rms_norm(NULL, T(type, ROWS, WIDTH), T(type, ROWS, WIDTH), T(type, WIDTH), NULL);
}
static invar_status layer_norm(int type) {
    return invar_layer_norm(NULL, T(type, ROWS, WIDTH), T(type, ROWS, WIDTH), T(type, WIDTH), T(type, WIDTH), NULL);
}
static invar_status rms_norm_vjp(int type) {
    return invar_rms_norm_vjp(NULL, T(type, ROWS, WIDTH), T(type, WIDTH), T(type, ROWS, WIDTH), T(type, ROWS, WIDTH),
                              T(type, WIDTH), NULL);
}
static invar_status layer_norm_vjp(int type) {
    return invar_layer_norm_vjp(NULL, T(type, ROWS, WIDTH), T(type, WIDTH), T(type, WIDTH), T(type, ROWS, WIDTH),
                                T(type, ROWS, WIDTH), T(type, WIDTH), T(type, WIDTH), NULL);
}
static invar_status rope(int type) {
    invar_rope_options options = INVAR_ROPE_OPTIONS_INIT;
    options.dims = 64;
    return invar_rope(NULL, T(type, 1, 8, 64, 64), T(type, 1, 8, 64, 64), NULL, NULL, &options);
}
static invar_status attention(int type, int heads, int kv, int queries, int keys, int width, int causal) {
    invar_attention_options options = INVAR_ATTENTION_OPTIONS_INIT;
    options.causal = causal;
    return invar_scaled_dot_product_attention(NULL, T(type, 1, heads, queries, width), NULL, T(type, 1, heads, queries, width),
                                              T(type, 1, kv, keys, width), T(type, 1, kv, keys, width), NULL, NULL, NULL,
                                              &options);
}
static invar_status attention_64(int type) { return attention(type, 1, 1, 256, 256, 64, 0); }
static invar_status attention_128_causal(int type) { return attention(type, 2, 1, 256, 256, 128, 1); }
static invar_status attention_80(int type) { return attention(type, 1, 1, 128, 128, 80, 0); }
static invar_status attention_decode(int type) { return attention(type, 4, 1, 1, 1024, 128, 0); }
static invar_status attention_tiny(int type) { return attention(type, 1, 1, 1, 64, 64, 0); }
static invar_status attention_vjp(int type) {
    enum { H = 1, N = 128, D = 64 };
    invar_tensor *q = T(type, 1, H, N, D), *k = T(type, 1, H, N, D), *v = T(type, 1, H, N, D), *out = T(type, 1, H, N, D);
    invar_tensor *lse = T(F32, 1, H, N);
    if (invar_scaled_dot_product_attention(NULL, out, lse, q, k, v, NULL, NULL, NULL, NULL) != INVAR_OK) return INVAR_ERROR_VALUE;
    return invar_scaled_dot_product_attention_vjp(NULL, T(type, 1, H, N, D), T(type, 1, H, N, D), T(type, 1, H, N, D), NULL, NULL,
                                                  T(type, 1, H, N, D), q, k, v, out, lse, NULL, NULL, NULL, NULL, NULL);
}

static const struct {
    const char *name, *function; /* the function to count in */
    invar_status (*run)(int type);
} cases[] = {
    { "rms_norm", "invar_rms_norm", rms_norm },
    { "layer_norm", "invar_layer_norm", layer_norm },
    { "rms_norm_vjp", "invar_rms_norm_vjp", rms_norm_vjp },
    { "layer_norm_vjp", "invar_layer_norm_vjp", layer_norm_vjp },
    { "rope", "invar_rope", rope },
    { "attention_256x256_d64", "invar_scaled_dot_product_attention", attention_64 },
    { "attention_2/1_256x256_d128_causal", "invar_scaled_dot_product_attention", attention_128_causal },
    { "attention_128x128_d80", "invar_scaled_dot_product_attention", attention_80 },
    { "attention_4/1_1x1024_d128", "invar_scaled_dot_product_attention", attention_decode },
    { "attention_1x64_d64", "invar_scaled_dot_product_attention", attention_tiny },
    { "attention_vjp_128x128_d64", "invar_scaled_dot_product_attention_vjp", attention_vjp },
};
enum { CASES = sizeof cases / sizeof cases[0] };

int main(int argc, char **argv) {
    invar_context_description description = INVAR_CONTEXT_DESCRIPTION_INIT;
    if (invar_context_info(NULL, &description) != INVAR_OK) return 1; /* the context is made outside what is counted */
    for (int i = 0; i < CASES; i++)
        for (int type = F32; type <= BF16; type++) {
            char name[96];
            snprintf(name, sizeof name, "%s.%s", cases[i].name, type == F32 ? "f32" : "bf16");
            if (argc < 2) printf("%s %s\n", name, cases[i].function);
            if (argc < 2 || strcmp(argv[1], name)) continue;
            if (cases[i].run(type) == INVAR_OK) return 0;
            fprintf(stderr, "%s\n", invar_last_error());
            return 1;
        }
    return argc >= 2;
}
