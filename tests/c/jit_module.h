/* Kernels written by hand as C functions over jit/runtime.h, for tests of the executor and of check mode: what a generated
 * program does, without the translator and a compiler. */
#ifndef JIT_MODULE_H
#define JIT_MODULE_H

#include "jit/runtime.h"

#include <stdatomic.h>
#include <string.h>

/* ---- what a kernel's shim would do ------------------------------------------------------------------ */

static inline int lane_value_in(const invar_lane *lane, int value) {
    memcpy(lane->exchange->in + lane->number * INVAR_VALUE_BYTES, &value, sizeof value);
    return value;
}
static inline int lane_value_out(const invar_lane *lane) {
    int value;
    memcpy(&value, lane->exchange->out + lane->number * INVAR_VALUE_BYTES, sizeof value);
    return value;
}
static inline void resolve_sum(const invar_exchange *exchange) {
    int sum = 0, value;
    for (int i = 0; i < INVAR_SIMD_WIDTH; i++) {
        if (!(exchange->active >> i & 1)) continue;
        memcpy(&value, exchange->in + i * INVAR_VALUE_BYTES, sizeof value);
        sum += value;
    }
    for (int i = 0; i < INVAR_SIMD_WIDTH; i++)
        if (exchange->active >> i & 1) memcpy(exchange->out + i * INVAR_VALUE_BYTES, &sum, sizeof sum);
}
/* The sum over the lanes that are here, or over `mask`'s. */
static inline int lane_sum_of(const invar_lane *lane, int site, uint32_t mask, int value) {
    lane_value_in(lane, value);
    lane->runtime->collective((invar_lane *)lane, site, mask, resolve_sum);
    return lane_value_out(lane);
}
static inline int lane_sum(const invar_lane *lane, int site, int value) { return lane_sum_of(lane, site, 0, value); }
static inline uint32_t lane_sync(const invar_lane *lane, int site, uint32_t mask) {
    return lane->runtime->collective((invar_lane *)lane, site, mask, NULL);
}
static inline uint32_t lane_barrier(const invar_lane *lane, int site) {
    return lane->runtime->barrier((invar_lane *)lane, site, INVAR_MEMORY_ALL, 1);
}
static inline void lane_gave(const invar_lane *shared, int site, int changed) {
    invar_lane *lane = (invar_lane *)shared;
    lane->idle = changed ? 0 : lane->idle + 1;
    if (--lane->patience <= 0) lane->runtime->yield(lane, site);
}
static inline int lane_load(const invar_lane *lane, int site, _Atomic int *place) {
    int value = atomic_load(place);
    lane_gave(lane, site, 0);
    return value;
}
static inline int lane_add(const invar_lane *lane, int site, _Atomic int *place, int value) {
    int old = atomic_fetch_add(place, value);
    lane_gave(lane, site, value != 0);
    return old;
}
static inline int lane_exchange(const invar_lane *lane, int site, _Atomic int *place, int value) {
    int old = atomic_exchange(place, value);
    lane_gave(lane, site, old != value);
    return old;
}

/* ---- launches ----------------------------------------------------------------------------------------- */

typedef struct jit_launch {
    invar_launch launch;
    void *arrays[8];
} jit_launch;

static inline invar_launch *jit_launch_init(jit_launch *state, const uint32_t grid[3], const uint32_t threadgroup[3],
                                            void *a, void *b) {
    memset(state, 0, sizeof *state);
    state->arrays[0] = a;
    state->arrays[1] = b;
    state->launch.arrays = state->arrays;
    for (int i = 0; i < 3; i++) {
        state->launch.grid[i] = grid[i];
        state->launch.threadgroup[i] = threadgroup[i];
        state->launch.groups[i] = (grid[i] + threadgroup[i] - 1) / threadgroup[i];
    }
    return &state->launch;
}

#endif
