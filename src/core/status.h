/* Errors: a status with a sentence, kept per thread. */
#ifndef INVAR_CORE_STATUS_H
#define INVAR_CORE_STATUS_H

#include <invar/invar.h>

/* Records the sentence and returns status, so that `return invar_fail(...)` says both at once. The sentence names
 * the operation, the argument, what was expected and what came: "rms_norm: weight: expected shape (512,), got (511,)". */
__attribute__((format(printf, 2, 3))) invar_status invar_fail(invar_status status, const char *format, ...);

#define INVAR_TRY(call)                                \
    do {                                               \
        invar_status try_status_ = (call);             \
        if (try_status_ != INVAR_OK) return try_status_; \
    } while (0)

#endif
