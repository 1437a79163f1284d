/* Metal's atomic functions. Every order is at least the one that is asked for. */
namespace invar_shim {
namespace metal {

template <class T, class Here> inline T atomic_load_explicit(const Here &here, const volatile atomic<T> *a, memory_order) {
    return invar_atomic_load(here, &a->invar_value);
}
template <class T, class Here>
inline void atomic_store_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    invar_atomic_store(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_exchange_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_exchange(here, &a->invar_value, x);
}
template <class T, class Here>
inline bool atomic_compare_exchange_weak_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> *expected,
                                                  invar_as<T> x, memory_order, memory_order) {
    T was = *expected, found = invar_atomic_compare_exchange(here, &a->invar_value, was, x);
    *expected = found;
    return invar_bits<invar_unsigned<T>>(found) == invar_bits<invar_unsigned<T>>(was);
}
template <class T, class Here>
inline T atomic_fetch_add_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_add(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_fetch_sub_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_add(here, &a->invar_value, (T)-x);
}
template <class T, class Here>
inline T atomic_fetch_and_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_and(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_fetch_or_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_or(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_fetch_xor_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_xor(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_fetch_max_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_max(here, &a->invar_value, x);
}
template <class T, class Here>
inline T atomic_fetch_min_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    return invar_atomic_min(here, &a->invar_value, x);
}
template <class T, class Here>
inline void atomic_max_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    invar_atomic_max(here, &a->invar_value, x);
}
template <class T, class Here>
inline void atomic_min_explicit(const Here &here, volatile atomic<T> *a, invar_as<T> x, memory_order) {
    invar_atomic_min(here, &a->invar_value, x);
}
template <class Here>
inline void atomic_thread_fence(const Here &here, mem_flags, memory_order, thread_scope = thread_scope_device) {
    invar_fence(here);
}

} // namespace metal
} // namespace invar_shim
