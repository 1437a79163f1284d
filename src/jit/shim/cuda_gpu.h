/* CUDA on a GPU, where NVRTC has all of the language but cuda_fp16.h and cuda_bf16.h: shuffles and atomics of the types
 * that stand in for theirs. */
namespace invar_shim {

using ::__shfl_down_sync;
using ::__shfl_sync;
using ::__shfl_up_sync;
using ::__shfl_xor_sync;
using ::atomicAdd;

template <class F> inline invar_narrow<F> __shfl_sync(unsigned mask, invar_narrow<F> x, int from, int width = 32) {
    return invar_bits<invar_narrow<F>>((uint16_t)::__shfl_sync(mask, (unsigned)x.invar_pattern, from, width));
}
template <class F> inline invar_narrow<F> __shfl_up_sync(unsigned mask, invar_narrow<F> x, unsigned delta, int width = 32) {
    return invar_bits<invar_narrow<F>>((uint16_t)::__shfl_up_sync(mask, (unsigned)x.invar_pattern, delta, width));
}
template <class F>
inline invar_narrow<F> __shfl_down_sync(unsigned mask, invar_narrow<F> x, unsigned delta, int width = 32) {
    return invar_bits<invar_narrow<F>>((uint16_t)::__shfl_down_sync(mask, (unsigned)x.invar_pattern, delta, width));
}
template <class F> inline invar_narrow<F> __shfl_xor_sync(unsigned mask, invar_narrow<F> x, int bits, int width = 32) {
    return invar_bits<invar_narrow<F>>((uint16_t)::__shfl_xor_sync(mask, (unsigned)x.invar_pattern, bits, width));
}
template <class F> inline invar_pair<F> __shfl_sync(unsigned mask, invar_pair<F> x, int from, int width = 32) {
    return invar_bits<invar_pair<F>>(::__shfl_sync(mask, invar_bits<unsigned>(x), from, width));
}
template <class F> inline invar_pair<F> __shfl_up_sync(unsigned mask, invar_pair<F> x, unsigned delta, int width = 32) {
    return invar_bits<invar_pair<F>>(::__shfl_up_sync(mask, invar_bits<unsigned>(x), delta, width));
}
template <class F> inline invar_pair<F> __shfl_down_sync(unsigned mask, invar_pair<F> x, unsigned delta, int width = 32) {
    return invar_bits<invar_pair<F>>(::__shfl_down_sync(mask, invar_bits<unsigned>(x), delta, width));
}
template <class F> inline invar_pair<F> __shfl_xor_sync(unsigned mask, invar_pair<F> x, int bits, int width = 32) {
    return invar_bits<invar_pair<F>>(::__shfl_xor_sync(mask, invar_bits<unsigned>(x), bits, width));
}

/* Word: unsigned short for one, unsigned for a pair. */
template <class Word, class T> inline T invar_add_by_exchange(T *address, T x) {
    Word *word = (Word *)address, old = *(volatile Word *)word, found;
    for (;; old = found) {
        found = atomicCAS(word, old, invar_bits<Word>(T(invar_bits<T>(old) + x)));
        if (found == old) return invar_bits<T>(old);
    }
}
template <class F> inline invar_narrow<F> atomicAdd(invar_narrow<F> *address, invar_narrow<F> x) {
    return invar_add_by_exchange<unsigned short>(address, x);
}
template <class F> inline invar_pair<F> atomicAdd(invar_pair<F> *address, invar_pair<F> x) {
    return invar_add_by_exchange<unsigned>(address, x);
}

} // namespace invar_shim
