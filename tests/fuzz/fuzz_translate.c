/* libFuzzer on the translator: whatever the text, it is refused with a sentence or becomes a program; nothing crashes,
 * hangs, leaks or reads outside its memory.
 *
 *     cmake -S . -B build-fuzz -DCMAKE_C_COMPILER=clang -DINVAR_BUILD_TESTS=ON -DINVAR_BUILD_FUZZ=ON
 *     cmake --build build-fuzz --target fuzz_translate
 *     python tests/fuzz/seeds.py build-fuzz/seeds
 *     build-fuzz/tests/fuzz_translate -dict=tests/fuzz/kernels.dict -max_len=4096 build-fuzz/seeds tests/c/kernels
 *
 * The first byte chooses dialect, outputs and check mode; the text up to the line `// body` is the header. */
#include "jit/generate.h"

#include <stdlib.h>
#include <string.h>

static const char *const inputs[] = { "a", "x", "in" }, *const outputs[] = { "out", "y" };

static invar_status generate(const invar_source *source, uint8_t flags, int target, bool check) {
    const invar_dtype f32 = { INVAR_FLOAT, 32, 1 }, f16 = { INVAR_FLOAT, 16, 1 }, u8 = { INVAR_UINT, 8, 1 };
    const invar_array_key arrays[] = { { f32, flags & 3 }, { f16, 0 }, { u8, 8 }, { f32, 1 }, { f32, 2 } };
    const invar_template_argument arguments[] = { { "N", INVAR_TEMPLATE_INT, f32, -1 }, { "T", INVAR_TEMPLATE_DTYPE, f16, 0 } };
    const invar_program_key key = { arrays, arguments, 2 };
    invar_text text = { 0 };
    invar_status status = invar_generate_shim(source, &key, target, check, &text);
    if (status == INVAR_OK) status = invar_generate_kernel(source, &key, target, check, &text);
    if (status == INVAR_OK && strlen(text.data) != text.length) abort();
    invar_text_free(&text);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char body_line[] = "// body\n";
    if (!size) return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    char *body = strstr(text, body_line);
    if (body) *body = 0, body += sizeof body_line - 1;
    invar_kernel_description description = INVAR_KERNEL_DESCRIPTION_INIT;
    description.dialect = data[0] & 4 ? INVAR_DIALECT_CUDA : INVAR_DIALECT_METAL;
    description.name = "k";
    description.input_names = inputs, description.input_count = 3;
    description.output_names = outputs, description.output_count = 2;
    description.atomic_outputs = data[0] >> 3 & 1;
    description.header = body ? text : NULL;
    description.source = body ? body : text;
    invar_source *source = NULL;
    if (invar_source_read(&source, &description) == INVAR_OK) {
        if (generate(source, data[0], INVAR_TARGET_CPU, data[0] >> 4 & 1) != INVAR_OK) abort();
        if (generate(source, data[0], INVAR_TARGET_CUDA, false) != INVAR_OK) abort();
        invar_source_free(source);
    } else if (!invar_last_error()[0]) {
        abort();
    }
    free(text);
    return 0;
}
