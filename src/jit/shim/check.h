/* Check mode's hooks. A check build is instrumented by the compiler: it calls __tsan_read4 and its like before each access
 * and __sanitizer_cov_trace_pc at each basic block. These functions stand for the sanitizer's and tell the library. They
 * are hidden, so that a process that has a sanitizer of its own keeps it. */
#if INVAR_SHIM_CHECK

/* NULL until the first check: what runs while the program is loaded is no thread of the kernel. */
extern "C" {
__attribute__((visibility("default"))) const invar_runtime *invar_check_runtime = 0;
}

#if defined(__clang__)
#define INVAR_UNWATCHED disable_sanitizer_instrumentation, no_sanitize("coverage")
#else
#define INVAR_UNWATCHED no_sanitize("thread"), no_sanitize_coverage
#endif
#define INVAR_HOOK extern "C" __attribute__((INVAR_UNWATCHED, noinline, used, visibility("hidden")))
#define INVAR_TELL(address, bytes, write)                                                                      \
    if (invar_check_runtime) {                                                                                 \
        void *invar_frame = __builtin_frame_address(0);                                                        \
        invar_check_runtime->access(invar_lane_of(invar_frame), (address), (bytes), (write),                   \
                                    __builtin_return_address(0), invar_frame);                                 \
    }
#define INVAR_ACCESS(bytes)                                                                   \
    INVAR_HOOK void __tsan_read##bytes(void *p) { INVAR_TELL(p, bytes, 0) }                   \
    INVAR_HOOK void __tsan_write##bytes(void *p) { INVAR_TELL(p, bytes, 1) }                  \
    INVAR_HOOK void __tsan_unaligned_read##bytes(void *p) { INVAR_TELL(p, bytes, 0) }         \
    INVAR_HOOK void __tsan_unaligned_write##bytes(void *p) { INVAR_TELL(p, bytes, 1) }        \
    INVAR_HOOK void __tsan_volatile_read##bytes(void *p) { INVAR_TELL(p, bytes, 0) }          \
    INVAR_HOOK void __tsan_volatile_write##bytes(void *p) { INVAR_TELL(p, bytes, 1) }         \
    INVAR_HOOK void __tsan_unaligned_volatile_read##bytes(void *p) { INVAR_TELL(p, bytes, 0) } \
    INVAR_HOOK void __tsan_unaligned_volatile_write##bytes(void *p) { INVAR_TELL(p, bytes, 1) }
INVAR_ACCESS(1)
INVAR_ACCESS(2)
INVAR_ACCESS(4)
INVAR_ACCESS(8)
INVAR_ACCESS(16)
INVAR_HOOK void __tsan_read_range(void *p, size_t bytes) { INVAR_TELL(p, bytes, 0) }
INVAR_HOOK void __tsan_write_range(void *p, size_t bytes) { INVAR_TELL(p, bytes, 1) }
INVAR_HOOK void __tsan_vptr_update(void **, void *) {}
INVAR_HOOK void __tsan_vptr_read(void **) {}
INVAR_HOOK void __tsan_func_entry(void *) {}
INVAR_HOOK void __tsan_func_exit(void) {}
INVAR_HOOK void __tsan_init(void) {}

INVAR_HOOK void __sanitizer_cov_trace_pc(void) {
    if (!invar_check_runtime) return;
    void *frame = __builtin_frame_address(0);
    invar_check_runtime->turn(invar_lane_of(frame), __builtin_return_address(0), frame);
}

/* The undefined behaviour sanitizer's: called before an integer is divided by zero, or the smallest one by -1. Operands of up to
 * 64 bits come as they are. */
INVAR_HOOK void __ubsan_handle_divrem_overflow(void *, size_t, size_t divisor) {
    void *frame = __builtin_frame_address(0);
    if (invar_check_runtime)
        invar_check_runtime->undefined(invar_lane_of(frame), divisor ? INVAR_UNDEFINED_OVERFLOW : INVAR_UNDEFINED_DIVISION,
                                       __builtin_return_address(0), frame);
}
#define INVAR_UNDEFINED(name, what)                                                                                        \
    INVAR_HOOK void name(void *) {                                                                                         \
        void *frame = __builtin_frame_address(0);                                                                          \
        if (invar_check_runtime)                                                                                           \
            invar_check_runtime->undefined(invar_lane_of(frame), what, __builtin_return_address(0), frame);                \
        __builtin_trap(); /* g++ knows that these do not return */                                                         \
    }
INVAR_UNDEFINED(__ubsan_handle_missing_return, INVAR_UNDEFINED_RETURN)
INVAR_UNDEFINED(__ubsan_handle_builtin_unreachable, INVAR_UNDEFINED_UNREACHABLE)
INVAR_UNDEFINED(invar_check_trap, INVAR_UNDEFINED_TRAP)
#undef INVAR_UNDEFINED

/* Other arithmetic wraps. */
INVAR_HOOK void __ubsan_handle_add_overflow(void *, void *, void *) {}
INVAR_HOOK void __ubsan_handle_sub_overflow(void *, void *, void *) {}
INVAR_HOOK void __ubsan_handle_mul_overflow(void *, void *, void *) {}
INVAR_HOOK void __ubsan_handle_negate_overflow(void *, void *) {}

/* Called before an element of an array type is reached that it does not have; with a description of the index's type and of
 * the array's, whose name is all that is told of it. */
struct invar_ubsan_type {
    uint16_t kind, info; /* of an integer: 2·log2(bits), + 1 where it is signed */
    char name[1];
};
struct invar_ubsan_index {
    const char *file;
    uint32_t line, column;
    const invar_ubsan_type *array, *index;
};
INVAR_HOOK void __ubsan_handle_out_of_bounds(invar_ubsan_index *data, size_t value) {
    void *frame = __builtin_frame_address(0);
    if (!invar_check_runtime) return;
    const int unused = 64 - (1 << data->index->info / 2);
    const bool widen = data->index->info & 1 && unused > 0; /* clang leaves the upper bits zero */
    int64_t index = widen ? (int64_t)(value << unused) >> unused : (int64_t)value;
    invar_check_runtime->beyond(invar_lane_of(frame), index, data->array->name, __builtin_return_address(0), frame);
}

/* Copies of structs that the compiler leaves to the C library, or from clang 16 on to the sanitizer. volatile: or these loops
 * would become calls of themselves. The names are given in assembler, since g++ knows them and refuses to hide them. */
#define INVAR_ALIAS(alias, name) \
    ".globl " #alias "\n.hidden " #alias "\n.type " #alias ", %function\n.set " #alias ", invar_check_" #name "\n"
#define INVAR_REPLACE(name, by) __asm__(INVAR_ALIAS(name, by) INVAR_ALIAS(__tsan_##name, by));
INVAR_REPLACE(memmove, memmove)
INVAR_REPLACE(memcpy, memmove)
INVAR_HOOK void *invar_check_memmove(void *to, const void *from, size_t bytes) {
    INVAR_TELL((void *)from, bytes, 0)
    INVAR_TELL(to, bytes, 1)
    volatile char *target = (volatile char *)to;
    const volatile char *source = (const volatile char *)from;
    if (target <= source)
        for (size_t i = 0; i < bytes; i++) target[i] = source[i];
    else
        for (size_t i = bytes; i-- > 0;) target[i] = source[i];
    return to;
}

INVAR_REPLACE(memset, memset)
INVAR_HOOK void *invar_check_memset(void *to, int value, size_t bytes) {
    INVAR_TELL(to, bytes, 1)
    volatile char *target = (volatile char *)to;
    for (size_t i = 0; i < bytes; i++) target[i] = (char)value;
    return to;
}

/* Atomic operations: invar_runtime.atomic has been told of them. __ATOMIC_SEQ_CST: the order asked for is a variable here. */
#define INVAR_ATOMIC_HOOK(bits, type, name)                                                   \
    INVAR_HOOK type __tsan_atomic##bits##_fetch_##name(volatile type *p, type value, int) {   \
        return __atomic_fetch_##name(p, value, __ATOMIC_SEQ_CST);                             \
    }
#define INVAR_ATOMIC_HOOKS(bits, type)                                                                               \
    INVAR_HOOK type __tsan_atomic##bits##_load(const volatile type *p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
    INVAR_HOOK void __tsan_atomic##bits##_store(volatile type *p, type value, int) {                                 \
        __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                                                                \
    }                                                                                                                \
    INVAR_HOOK type __tsan_atomic##bits##_exchange(volatile type *p, type value, int) {                              \
        return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                                                      \
    }                                                                                                                \
    INVAR_HOOK bool __tsan_atomic##bits##_compare_exchange_strong(volatile type *p, type *expected, type value, int, int) { \
        return __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
    }                                                                                                                \
    INVAR_HOOK bool __tsan_atomic##bits##_compare_exchange_weak(volatile type *p, type *expected, type value, int, int) { \
        return __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
    }                                                                                                                \
    INVAR_HOOK type __tsan_atomic##bits##_compare_exchange_val(volatile type *p, type expected, type value, int, int) { \
        __atomic_compare_exchange_n(p, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                     \
        return expected;                                                                                             \
    }                                                                                                                \
    INVAR_ATOMIC_HOOK(bits, type, add)                                                                               \
    INVAR_ATOMIC_HOOK(bits, type, sub)                                                                               \
    INVAR_ATOMIC_HOOK(bits, type, and)                                                                               \
    INVAR_ATOMIC_HOOK(bits, type, or)                                                                                \
    INVAR_ATOMIC_HOOK(bits, type, xor)                                                                               \
    INVAR_ATOMIC_HOOK(bits, type, nand)
INVAR_ATOMIC_HOOKS(8, unsigned char)
INVAR_ATOMIC_HOOKS(16, unsigned short)
INVAR_ATOMIC_HOOKS(32, unsigned int)
INVAR_ATOMIC_HOOKS(64, unsigned long)
INVAR_HOOK void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
INVAR_HOOK void __tsan_atomic_signal_fence(int) {}

#undef INVAR_REPLACE
#undef INVAR_ALIAS
#undef INVAR_ATOMIC_HOOKS
#undef INVAR_ATOMIC_HOOK
#undef INVAR_ACCESS
#undef INVAR_TELL
#undef INVAR_HOOK
#undef INVAR_UNWATCHED
#endif
