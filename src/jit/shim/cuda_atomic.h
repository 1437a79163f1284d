/* CUDA's atomics on the CPU, on every type of 1 to 8 bytes. The _block and _system forms are the same. */
namespace invar_shim {

template <class Here, class T> inline T atomicAdd(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_add(here, address, x);
}
template <class Here, class T> inline T atomicSub(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_add(here, address, (T)-x);
}
template <class Here, class T> inline T atomicExch(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_exchange(here, address, x);
}
template <class Here, class T> inline T atomicMin(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_min(here, address, x);
}
template <class Here, class T> inline T atomicMax(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_max(here, address, x);
}
template <class Here, class T> inline T atomicAnd(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_and(here, address, x);
}
template <class Here, class T> inline T atomicOr(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_or(here, address, x);
}
template <class Here, class T> inline T atomicXor(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_xor(here, address, x);
}
template <class Here, class T> inline T atomicInc(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_modify(here, address, INVAR_ATOMIC_MODIFY, [=](T old) { return old >= x ? T(0) : T(old + 1); });
}
template <class Here, class T> inline T atomicDec(const Here &here, T *address, invar_as<T> x) {
    return invar_atomic_modify(here, address, INVAR_ATOMIC_MODIFY,
                               [=](T old) { return old == 0 || old > x ? x : T(old - 1); });
}
template <class Here, class T> inline T atomicCAS(const Here &here, T *address, invar_as<T> compare, invar_as<T> x) {
    return invar_atomic_compare_exchange(here, address, compare, x);
}

template <class Here, class T> inline T atomicAdd_block(const Here &here, T *address, invar_as<T> x) {
    return atomicAdd(here, address, x);
}
template <class Here, class T> inline T atomicAdd_system(const Here &here, T *address, invar_as<T> x) {
    return atomicAdd(here, address, x);
}
template <class Here, class T> inline T atomicSub_block(const Here &here, T *address, invar_as<T> x) {
    return atomicSub(here, address, x);
}
template <class Here, class T> inline T atomicSub_system(const Here &here, T *address, invar_as<T> x) {
    return atomicSub(here, address, x);
}
template <class Here, class T> inline T atomicExch_block(const Here &here, T *address, invar_as<T> x) {
    return atomicExch(here, address, x);
}
template <class Here, class T> inline T atomicExch_system(const Here &here, T *address, invar_as<T> x) {
    return atomicExch(here, address, x);
}
template <class Here, class T> inline T atomicMin_block(const Here &here, T *address, invar_as<T> x) {
    return atomicMin(here, address, x);
}
template <class Here, class T> inline T atomicMin_system(const Here &here, T *address, invar_as<T> x) {
    return atomicMin(here, address, x);
}
template <class Here, class T> inline T atomicMax_block(const Here &here, T *address, invar_as<T> x) {
    return atomicMax(here, address, x);
}
template <class Here, class T> inline T atomicMax_system(const Here &here, T *address, invar_as<T> x) {
    return atomicMax(here, address, x);
}
template <class Here, class T> inline T atomicAnd_block(const Here &here, T *address, invar_as<T> x) {
    return atomicAnd(here, address, x);
}
template <class Here, class T> inline T atomicAnd_system(const Here &here, T *address, invar_as<T> x) {
    return atomicAnd(here, address, x);
}
template <class Here, class T> inline T atomicOr_block(const Here &here, T *address, invar_as<T> x) {
    return atomicOr(here, address, x);
}
template <class Here, class T> inline T atomicOr_system(const Here &here, T *address, invar_as<T> x) {
    return atomicOr(here, address, x);
}
template <class Here, class T> inline T atomicXor_block(const Here &here, T *address, invar_as<T> x) {
    return atomicXor(here, address, x);
}
template <class Here, class T> inline T atomicXor_system(const Here &here, T *address, invar_as<T> x) {
    return atomicXor(here, address, x);
}
template <class Here, class T> inline T atomicInc_block(const Here &here, T *address, invar_as<T> x) {
    return atomicInc(here, address, x);
}
template <class Here, class T> inline T atomicInc_system(const Here &here, T *address, invar_as<T> x) {
    return atomicInc(here, address, x);
}
template <class Here, class T> inline T atomicDec_block(const Here &here, T *address, invar_as<T> x) {
    return atomicDec(here, address, x);
}
template <class Here, class T> inline T atomicDec_system(const Here &here, T *address, invar_as<T> x) {
    return atomicDec(here, address, x);
}
template <class Here, class T>
inline T atomicCAS_block(const Here &here, T *address, invar_as<T> compare, invar_as<T> x) {
    return atomicCAS(here, address, compare, x);
}
template <class Here, class T>
inline T atomicCAS_system(const Here &here, T *address, invar_as<T> compare, invar_as<T> x) {
    return atomicCAS(here, address, compare, x);
}

} // namespace invar_shim
