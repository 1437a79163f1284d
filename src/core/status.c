/* Status names and the thread's last sentence. */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

/* A compiler's log fits; longer sentences are cut. */
static _Thread_local char last_error[16384];

invar_status invar_fail(invar_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error, sizeof last_error, format, arguments);
    va_end(arguments);
    return status;
}

const char *invar_last_error(void) { return last_error; }

#define STRING_(x) #x
#define STRING(x) STRING_(x)

const char *invar_version(void) {
    return STRING(INVAR_VERSION_MAJOR) "." STRING(INVAR_VERSION_MINOR) "." STRING(INVAR_VERSION_PATCH);
}

const char *invar_status_name(invar_status status) {
    switch (status) {
#define NAME(s) \
    case s: return #s;
        NAME(INVAR_OK)
        NAME(INVAR_ERROR_VALUE)
        NAME(INVAR_ERROR_DTYPE)
        NAME(INVAR_ERROR_DEVICE_MIX)
        NAME(INVAR_ERROR_NULL)
        NAME(INVAR_ERROR_ENVIRONMENT)
        NAME(INVAR_ERROR_MEMORY)
        NAME(INVAR_ERROR_SYSTEM)
        NAME(INVAR_ERROR_DEVICE)
        NAME(INVAR_ERROR_COMPILE)
        NAME(INVAR_ERROR_KERNEL)
        NAME(INVAR_ERROR_KERNEL_CHECK)
#undef NAME
    }
    return "unknown status";
}
