/* Names that tell a thread where it is: Metal's attributes (MSL table 5.8) and CUDA's index built-ins. */
#ifndef INVAR_JIT_POSITION_H
#define INVAR_JIT_POSITION_H

#include <stdbool.h>
#include <stdint.h>

typedef struct invar_position_name {
    const char *name;
    uint32_t dialect; /* INVAR_SHIM_METAL or _CUDA */
    const char *type; /* the shim's */
    const char *value; /* of `invar_p`, an invar_position, and `invar_l`, the launch */
    bool apart;        /* it tells groups apart, so that a kernel that uses it runs a group at a time */
} invar_position_name;

extern const invar_position_name invar_position_names[];
extern const int32_t invar_position_count; /* at most 32: invar_source.positions has a bit each */

#endif
