/* 32 lanes for the tests of collectives: each runs a function on a stack of its own, as a fibre of the executor would, and
 * waits in each collective until all that still live, or all of its mask, are there. */
#ifndef TESTS_SHIM_LANES_H
#define TESTS_SHIM_LANES_H

#include "shim.h"

#include <cstdlib>
#include <ucontext.h>

struct lane_state {
    ucontext_t context;
    invar_lane *lane;
    char *stack;
    uint32_t mask;         /* what it waits for; 0: all */
    invar_resolve resolve;
    uint32_t met;          /* those it met */
    bool waits, done, barrier;
    uint32_t vote;
};
static lane_state lanes[INVAR_SIMD_WIDTH];
static ucontext_t main_context;
static uint32_t current;
static void (*lane_function)(uint32_t lane);
alignas(64) static char exchange_in[INVAR_SIMD_WIDTH][INVAR_VALUE_BYTES], exchange_out[INVAR_SIMD_WIDTH][INVAR_VALUE_BYTES];
static invar_exchange lane_exchange = { 0, exchange_in[0], exchange_out[0] };
static invar_launch lane_launch = { nullptr, nullptr, nullptr, nullptr, 0, { 32, 1, 1 }, { 32, 1, 1 }, { 1, 1, 1 }, 0 };

static uint32_t lane_collective(invar_lane *lane, int32_t, uint32_t mask, invar_resolve resolve) {
    lane_state &state = lanes[lane->number];
    state.mask = mask, state.resolve = resolve, state.waits = true, state.barrier = false;
    swapcontext(&state.context, &main_context);
    return state.met;
}
static uint32_t lane_barrier(invar_lane *lane, int32_t, uint32_t, uint32_t vote) {
    lane_state &state = lanes[lane->number];
    state.vote = vote, state.waits = state.barrier = true, state.mask = 0, state.resolve = nullptr;
    swapcontext(&state.context, &main_context);
    return state.met;
}
static void lane_yield(invar_lane *lane, int32_t) { lane->patience = 8; }
static const invar_runtime lane_runtime = { lane_collective, lane_barrier, lane_yield,
                                            nullptr, nullptr, nullptr, nullptr, nullptr };

static void lane_start() {
    lane_function(current);
    lanes[current].done = true;
}
/* The lane lies where the shim looks for it: near the top of its stack; the context uses what is below. */
static void lane_prepare(uint32_t number) {
    lane_state &state = lanes[number];
    size_t size = (size_t)1 << INVAR_STACK_BITS;
    if (!state.stack) state.stack = (char *)::std::aligned_alloc(size, size);
    state.lane = invar_lane_of(state.stack);
    ::std::memset(state.lane, 0, sizeof *state.lane);
    state.lane->position = { { number, 0, 0 }, { number, 0, 0 }, { 0, 0, 0 }, { 32, 1, 1 }, number };
    state.lane->number = number;
    state.lane->launch = &lane_launch;
    state.lane->runtime = &lane_runtime;
    state.lane->exchange = &lane_exchange;
    state.done = state.waits = false;
    getcontext(&state.context);
    state.context.uc_stack.ss_sp = state.stack;
    state.context.uc_stack.ss_size = (size_t)((char *)state.lane - state.stack) / 64 * 64;
    state.context.uc_link = &main_context;
    makecontext(&state.context, lane_start, 0);
}
/* Serves the waiting lanes that `first` waits with. */
static void lane_serve(uint32_t first) {
    uint32_t together = 0, votes = 0;
    for (uint32_t i = first; i < INVAR_SIMD_WIDTH; i++)
        if (lanes[i].waits && lanes[i].mask == lanes[first].mask && lanes[i].resolve == lanes[first].resolve)
            together |= 1u << i, votes += lanes[i].vote != 0;
    lane_exchange.active = together;
    if (lanes[first].resolve) lanes[first].resolve(&lane_exchange);
    for (uint32_t i = 0; i < INVAR_SIMD_WIDTH; i++)
        if (together >> i & 1) lanes[i].waits = false, lanes[i].met = lanes[i].barrier ? votes : together;
}
/* Are all lanes that `number` waits for, and that live, there? Of divergent lanes without a mask, whoever waits. */
static bool lane_ready(uint32_t number, bool divergent) {
    uint32_t mask = lanes[number].mask ? lanes[number].mask : 0xffffffff;
    bool ready = lanes[number].waits;
    for (uint32_t i = 0; i < INVAR_SIMD_WIDTH; i++) {
        bool together = lanes[i].waits && lanes[i].mask == lanes[number].mask && lanes[i].resolve == lanes[number].resolve;
        if ((mask >> i & 1) && !lanes[i].done && !together) ready = ready && divergent && !lanes[number].mask;
    }
    return ready;
}
/* Runs function for the lanes that `live` names. */
static inline void run_lanes(void (*function)(uint32_t lane), uint32_t live = 0xffffffff) {
    lane_function = function;
    for (uint32_t i = 0; i < INVAR_SIMD_WIDTH; i++) {
        lane_prepare(i);
        lanes[i].done = !(live >> i & 1);
    }
    for (;;) {
        uint32_t first = INVAR_SIMD_WIDTH;
        for (current = 0; current < INVAR_SIMD_WIDTH; current++)
            if (!lanes[current].done && !lanes[current].waits) swapcontext(&main_context, &lanes[current].context);
        for (int divergent = 0; divergent < 2 && first == INVAR_SIMD_WIDTH; divergent++)
            for (uint32_t i = INVAR_SIMD_WIDTH; i-- > 0;)
                if (lane_ready(i, divergent)) first = i;
        if (first == INVAR_SIMD_WIDTH) return;
        lane_serve(first);
    }
}

#endif
