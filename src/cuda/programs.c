/* The programs for CUDA devices, from the table in programs.def. */
#include "core/embed.h"
#include "cuda/module.h"

#include <stddef.h>
#include <stdio.h>

#define INVAR_CUDA_PROGRAM(name, file, entry) INVAR_EMBED(invar_cuda_text_##name, "device/" file);
#define INVAR_CUDA_HEADER(name, file) INVAR_EMBED(invar_cuda_text_##name, "device/" file);
#include "cuda/programs.def"
#undef INVAR_CUDA_PROGRAM
#undef INVAR_CUDA_HEADER

#define INVAR_CUDA_HEADER(name, file)
#define INVAR_CUDA_PROGRAM(name, file, entry) \
    const invar_cuda_source invar_cuda_##name = { file, invar_cuda_text_##name, entry, invar_cuda_##name##_variant };
#include "cuda/programs.def"
#undef INVAR_CUDA_PROGRAM

#define INVAR_CUDA_PROGRAM(name, file, entry) &invar_cuda_##name,
const invar_cuda_source *const invar_cuda_sources[] = {
#include "cuda/programs.def"
    NULL
};
#undef INVAR_CUDA_PROGRAM
#undef INVAR_CUDA_HEADER

#define INVAR_CUDA_PROGRAM(name, file, entry)
#define INVAR_CUDA_HEADER(name, file) { file, invar_cuda_text_##name },
const invar_nvrtc_header invar_cuda_headers[] = {
#include "cuda/programs.def"
};
_Static_assert(sizeof invar_cuda_headers / sizeof *invar_cuda_headers <= INVAR_NVRTC_HEADERS, "raise INVAR_NVRTC_HEADERS");
const int invar_cuda_header_count = (int)(sizeof invar_cuda_headers / sizeof *invar_cuda_headers);

/* The probe is one program, the same for every GPU. */
bool invar_cuda_probe_variant(int i, int major, int minor, char defines[INVAR_CUDA_DEFINES]) {
    (void)major, (void)minor;
    snprintf(defines, INVAR_CUDA_DEFINES, "%s", "");
    return i == 0;
}
