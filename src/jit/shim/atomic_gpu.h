/* Atomic operations on a GPU, on scalars of 2, 4 and 8 bytes: CUDA's own where it has them, else its compare-and-swap. */
namespace invar_shim {

template <class T> using invar_word =
    invar_choose<sizeof(T) == 8, unsigned long long, invar_choose<sizeof(T) == 4, unsigned, unsigned short>>;

template <class T> inline T invar_atomic_load(invar_here, const volatile T *address) {
    return invar_bits<T>(*(const volatile invar_word<T> *)address);
}
template <class T> inline void invar_atomic_store(invar_here, volatile T *address, T value) {
    *(volatile invar_word<T> *)address = invar_bits<invar_word<T>>(value);
}
template <class T> inline T invar_atomic_compare_exchange(invar_here, volatile T *address, T expected, T value) {
    return invar_bits<T>(atomicCAS((invar_word<T> *)address, invar_bits<invar_word<T>>(expected),
                                   invar_bits<invar_word<T>>(value)));
}
template <class T, class F> inline T invar_atomic_modify(invar_here here, volatile T *address, F f) {
    T old = invar_atomic_load(here, address);
    for (;;) {
        T found = invar_atomic_compare_exchange(here, address, old, (T)f(old));
        if (invar_bits<invar_word<T>>(found) == invar_bits<invar_word<T>>(old)) return old;
        old = found;
    }
}
template <class T> inline T invar_atomic_exchange(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T) { return value; });
}
template <class T> inline T invar_atomic_add(invar_here here, volatile T *address, T value) {
    if constexpr (invar_same<T, float>) return atomicAdd((float *)address, value);
    else if constexpr (invar_is_integer<T> && sizeof(T) >= 4)
        return (T)atomicAdd((invar_word<T> *)address, (invar_word<T>)value);
    else return invar_atomic_modify(here, address, [=](T old) { return old + value; });
}
template <class T> inline T invar_atomic_and(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T old) { return old & value; });
}
template <class T> inline T invar_atomic_or(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T old) { return old | value; });
}
template <class T> inline T invar_atomic_xor(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T old) { return old ^ value; });
}
template <class T> inline T invar_atomic_max(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T old) { return old < value ? value : old; });
}
template <class T> inline T invar_atomic_min(invar_here here, volatile T *address, T value) {
    return invar_atomic_modify(here, address, [=](T old) { return value < old ? value : old; });
}
inline void invar_fence(invar_here) { __threadfence(); }

} // namespace invar_shim
