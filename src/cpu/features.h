/* What the processor and the operating system together can do. */
#ifndef INVAR_CPU_FEATURES_H
#define INVAR_CPU_FEATURES_H

#include <stdbool.h>

typedef enum invar_feature_level {
    INVAR_LEVEL_BASELINE,
    INVAR_LEVEL_AVX2,       /* with FMA and F16C */
    INVAR_LEVEL_AVX512,     /* F, BW, DQ, VL */
    INVAR_LEVEL_AVX512BF16,
    INVAR_LEVEL_AMX,        /* TILE, BF16, and the system's leave to use the tiles */
    INVAR_LEVEL_NEON
} invar_feature_level;

/* True where instructions of that level run: the processor has them and the system keeps their registers (XCR0). */
bool invar_cpu_has(invar_feature_level level);

#endif
