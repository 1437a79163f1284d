/* The kernel of scaled_dot_product_attention forward: one piece of work, a chunk of one unit's query rows against a run of
 * key blocks (Milakov & Gimelshein, 2018; Dao et al., 2022; block partials and their merge: Dao, Flash-Decoding, 2023).
 *
 * For each block of keys: S = Q Kᵀ (product.h), weights in place (attention_softmax.h), O = P V (product.h), folded into
 * the running state (attention_fold.h). Few rows and many go through different register tiles, and share every bit. */
#ifndef INVAR_CPU_KERNELS_ATTENTION_BODY_H
#define INVAR_CPU_KERNELS_ATTENTION_BODY_H

#include "cpu/kernels/attention_element.h"
#if defined(ATTENTION_TILES)
#include "cpu/kernels/attention_few_tiles.h"
#else
#include "cpu/kernels/attention_few.h"
#include "cpu/kernels/attention_wide.h"
#endif

static void attend(const invar_attention_call *call, const invar_attention_work *work, void *scratch) {
#if defined(ATTENTION_TILES) || !defined(ATTENTION_PAIRS)
    if (work->heads > 1) { /* of float32, and of half types on AMX tiles */
        attend_together(call, work, scratch);
        return;
    }
#endif
    kernel_state s = open_state(call, work, 0, scratch);
    if (work->stage != INVAR_ATTENTION_COMPUTE) {
        fold_merge(&s.fold, s.rows);
        return;
    }
    if (s.rows <= FEW) attend_few(&s);
    else attend_wide(&s);
}

#endif
