/* Atomic operations on the CPU, on any scalar of 1 to 8 bytes. Groups run on several threads of the machine, so these are
 * real; their order is acquire and release at least, which x86 gives for nothing. */
namespace invar_shim {

template <class T> using invar_word = invar_unsigned<T>;

template <class Here, class T> inline T invar_atomic_load(const Here &here, const volatile T *address) {
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_LOAD);
    T value = invar_bits<T>(__atomic_load_n((const volatile invar_word<T> *)address, __ATOMIC_ACQUIRE));
    invar_atomic_end(here, false);
    return value;
}

template <class Here, class T> inline void invar_atomic_store(const Here &here, volatile T *address, T value) {
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_STORE);
    __atomic_store_n((volatile invar_word<T> *)address, invar_bits<invar_word<T>>(value), __ATOMIC_RELEASE);
    invar_atomic_end(here, true);
}

template <class Here, class T> inline T invar_atomic_exchange(const Here &here, volatile T *address, T value) {
    invar_word<T> next = invar_bits<invar_word<T>>(value);
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
    invar_word<T> old = __atomic_exchange_n((volatile invar_word<T> *)address, next, __ATOMIC_ACQ_REL);
    invar_atomic_end(here, old != next);
    return invar_bits<T>(old);
}

/* Stores `value` where `expected` is; gives what was there. */
template <class Here, class T>
inline T invar_atomic_compare_exchange(const Here &here, volatile T *address, T expected, T value) {
    invar_word<T> old = invar_bits<invar_word<T>>(expected), next = invar_bits<invar_word<T>>(value);
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
    bool done = __atomic_compare_exchange_n((volatile invar_word<T> *)address, &old, next, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE);
    invar_atomic_end(here, done && old != next);
    return invar_bits<T>(old);
}

/* *address = f(*address), for any f; gives what was there. */
template <class Here, class T, class F>
inline T invar_atomic_modify(const Here &here, volatile T *address, uint32_t operation, F f) {
    volatile invar_word<T> *word = (volatile invar_word<T> *)address;
    invar_atomic_begin(here, address, sizeof(T), operation);
    invar_word<T> old = __atomic_load_n(word, __ATOMIC_RELAXED), next;
    do next = invar_bits<invar_word<T>>((T)f(invar_bits<T>(old)));
    while (!__atomic_compare_exchange_n(word, &old, next, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    invar_atomic_end(here, old != next);
    return invar_bits<T>(old);
}

template <class Here, class T> inline T invar_atomic_add(const Here &here, volatile T *address, T value) {
    if constexpr (invar_is_integer<T>) {
        invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
        T old = __atomic_fetch_add(address, value, __ATOMIC_ACQ_REL);
        invar_atomic_end(here, value != 0);
        return old;
    } else {
        return invar_atomic_modify(here, address, INVAR_ATOMIC_FLOAT_ADD, [=](T old) { return old + value; });
    }
}

template <class Here, class T> inline T invar_atomic_and(const Here &here, volatile T *address, T value) {
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
    T old = __atomic_fetch_and(address, value, __ATOMIC_ACQ_REL);
    invar_atomic_end(here, (old & value) != old);
    return old;
}
template <class Here, class T> inline T invar_atomic_or(const Here &here, volatile T *address, T value) {
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
    T old = __atomic_fetch_or(address, value, __ATOMIC_ACQ_REL);
    invar_atomic_end(here, (old | value) != old);
    return old;
}
template <class Here, class T> inline T invar_atomic_xor(const Here &here, volatile T *address, T value) {
    invar_atomic_begin(here, address, sizeof(T), INVAR_ATOMIC_MODIFY);
    T old = __atomic_fetch_xor(address, value, __ATOMIC_ACQ_REL);
    invar_atomic_end(here, value != 0);
    return old;
}
template <class Here, class T> inline T invar_atomic_max(const Here &here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, INVAR_ATOMIC_MODIFY, [=](T old) { return old < value ? value : old; });
}
template <class Here, class T> inline T invar_atomic_min(const Here &here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, INVAR_ATOMIC_MODIFY, [=](T old) { return value < old ? value : old; });
}

} // namespace invar_shim
