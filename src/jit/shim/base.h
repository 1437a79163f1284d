/* The ground of the shim: type traits (the standard library's own headers cost more time to read than all of this), the
 * reading of bits, and, on the CPU, how a call finds its thread and its threadgroup arrays. */
namespace invar_shim {

#ifdef __CUDACC_RTC__
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long;
using uint64_t = unsigned long;
using size_t = unsigned long;
using ptrdiff_t = long;
#endif

template <bool Condition, class T = void> struct invar_if_ {};
template <class T> struct invar_if_<true, T> { using type = T; };
template <bool Condition, class T = void> using invar_if = typename invar_if_<Condition, T>::type;

template <bool Condition, class A, class B> struct invar_choose_ { using type = A; };
template <class A, class B> struct invar_choose_<false, A, B> { using type = B; };
template <bool Condition, class A, class B> using invar_choose = typename invar_choose_<Condition, A, B>::type;

template <class A, class B> constexpr bool invar_same = false;
template <class A> constexpr bool invar_same<A, A> = true;

template <class T> struct invar_plain_ { using type = T; };
template <class T> struct invar_plain_<const T> { using type = T; };
template <class T> struct invar_plain_<volatile T> { using type = T; };
template <class T> struct invar_plain_<const volatile T> { using type = T; };
template <class T> struct invar_plain_<T &> : invar_plain_<T> {};
template <class T> struct invar_plain_<T &&> : invar_plain_<T> {};
template <class T> using invar_plain = typename invar_plain_<T>::type;

template <class T> struct invar_element_ { using type = T; };
template <class T> struct invar_element_<T[]> : invar_element_<T> {};
template <class T, size_t N> struct invar_element_<T[N]> : invar_element_<T> {};

/* The sizes of an array's axes, outermost first. */
template <class T> struct invar_extents_ {
    static void put(uint32_t *to, int left) {
        while (left-- > 0) *to++ = 0;
    }
};
template <class T, size_t N> struct invar_extents_<T[N]> {
    static void put(uint32_t *to, int left) {
        if (!left) return;
        *to = (uint32_t)N;
        invar_extents_<T>::put(to + 1, left - 1);
    }
};

/* A type as it stands: keeps a parameter out of template argument deduction, so that any number converts to it. */
template <class T> struct invar_as_ { using type = T; };
template <class T> using invar_as = typename invar_as_<T>::type;

/* Integers, bool not counted; invar_integer_bits is 0 for everything else. */
template <class T> constexpr int invar_integer_bits = 0;
template <> constexpr int invar_integer_bits<char> = 8;
template <> constexpr int invar_integer_bits<signed char> = 8;
template <> constexpr int invar_integer_bits<unsigned char> = 8;
template <> constexpr int invar_integer_bits<short> = 16;
template <> constexpr int invar_integer_bits<unsigned short> = 16;
template <> constexpr int invar_integer_bits<int> = 32;
template <> constexpr int invar_integer_bits<unsigned> = 32;
template <> constexpr int invar_integer_bits<long> = 8 * sizeof(long);
template <> constexpr int invar_integer_bits<unsigned long> = 8 * sizeof(long);
template <> constexpr int invar_integer_bits<long long> = 64;
template <> constexpr int invar_integer_bits<unsigned long long> = 64;
template <class T> constexpr bool invar_is_integer = invar_integer_bits<T> != 0;
template <class T> constexpr bool invar_is_wide = invar_same<T, float> || invar_same<T, double>;
/* half and bfloat, and CUDA's names for them: narrow.h says which. */
template <class T> constexpr bool invar_is_narrow = false;
template <class T> constexpr bool invar_is_real = invar_is_wide<T> || invar_is_narrow<T>;
template <class T> constexpr bool invar_is_scalar = invar_is_integer<T> || invar_is_real<T> || invar_same<T, bool>;
template <class T> constexpr bool invar_is_signed = invar_is_scalar<T> && T(-1) < T(0);

template <int Bits> struct invar_integers;
template <> struct invar_integers<8> { using plus_minus = signed char; using plus = unsigned char; };
template <> struct invar_integers<16> { using plus_minus = short; using plus = unsigned short; };
template <> struct invar_integers<32> { using plus_minus = int; using plus = unsigned; };
template <> struct invar_integers<64> { using plus_minus = int64_t; using plus = uint64_t; };
template <class T> using invar_unsigned = typename invar_integers<8 * sizeof(T)>::plus;
template <class T> using invar_signed = typename invar_integers<8 * sizeof(T)>::plus_minus;

/* The bits of a value as another type of the same size. */
template <class To, class From> constexpr To invar_bits(const From &from) { return __builtin_bit_cast(To, from); }

constexpr float invar_infinity = invar_bits<float>(0x7f800000u), invar_nan = invar_bits<float>(0x7fc00000u);

#ifndef __CUDACC_RTC__

/* Marks a call, and finds its thread by the fibre. */
struct invar_here {
    int32_t site;
    explicit constexpr invar_here(int32_t number) : site(number) {}
    invar_lane *lane() const { return invar_lane_of(__builtin_frame_address(0)); }
    const invar_position &position() const { return lane()->position; }
    const invar_launch &launch() const { return *lane()->launch; }
};

/* The same in a body that runs in a loop over threads: the thread's place is at hand. */
struct invar_here_at {
    const invar_position &place;
    const invar_launch &origin;
    invar_here_at(const invar_position &position, const invar_launch &launch) : place(position), origin(launch) {}
    const invar_here_at &operator()(int32_t) const { return *this; }
    const invar_position &position() const { return place; }
    const invar_launch &launch() const { return origin; }
};

/* First parameter of a user's own function that has the name of a marked one. */
struct invar_any_here {
    invar_any_here(const invar_here &) {}
    invar_any_here(const invar_here_at &) {}
};

/* A lane hands `in` to a collective and takes its result. Resolve: an invar_resolve for these types. */
template <class Out, class In>
inline Out invar_meet(invar_here here, uint32_t mask, invar_resolve resolve, const In &in, uint32_t *active = nullptr) {
    static_assert(sizeof(In) <= INVAR_VALUE_BYTES && sizeof(Out) <= INVAR_VALUE_BYTES, "too large a value");
    invar_lane *lane = here.lane();
    size_t slot = (size_t)lane->number * INVAR_VALUE_BYTES;
    __builtin_memcpy(lane->exchange->in + slot, &in, sizeof in);
    uint32_t met = lane->runtime->collective(lane, here.site, mask, resolve);
    if (active) *active = met;
    Out out;
    __builtin_memcpy(&out, lane->exchange->out + slot, sizeof out);
    return out;
}

extern invar_shared invar_shared_table[INVAR_MAX_SHARED];

/* Notes the size of a threadgroup array when the program is loaded, the largest where templates give one number several. */
template <int Number, class T> struct invar_shared_note {
    static int done;
    static int note() {
        invar_shared &entry = invar_shared_table[Number];
        if (entry.bytes < sizeof(T)) {
            entry.bytes = sizeof(T);
            entry.element_bytes = sizeof(typename invar_element_<T>::type);
            invar_extents_<T>::put(entry.extents, INVAR_MAX_EXTENTS);
        }
        return 1;
    }
};
template <int Number, class T> int invar_shared_note<Number, T>::done = invar_shared_note<Number, T>::note();

template <int Number, class T> inline T &invar_shared_array() {
    (void)&invar_shared_note<Number, T>::done;
    return *(T *)invar_here(0).lane()->shared[Number];
}
template <class T> inline T *invar_dynamic_array() { return (T *)invar_here(0).lane()->dynamic_shared; }

/* A fence orders what this thread does for the machine's other threads. */
inline void invar_fence(const invar_here_at &) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void invar_fence(invar_here here) {
    (void)here;
#ifdef INVAR_SHIM_CHECK
    here.lane()->runtime->atomic(here.lane(), nullptr, 0, INVAR_ATOMIC_FENCE);
#endif
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Around an atomic operation: lets other threads run now and then, and tells a lane that turns in a circle from one that
 * gets on. A thread in a loop needs neither. */
inline void invar_atomic_begin(const invar_here_at &, const volatile void *, uint32_t, uint32_t) {}
inline void invar_atomic_end(const invar_here_at &, bool) {}
#ifdef INVAR_SHIM_FIBRES
inline void invar_atomic_begin(invar_here here, const volatile void *address, uint32_t bytes, uint32_t operation) {
    invar_lane *lane = here.lane();
    if (lane->patience-- <= 0) lane->runtime->yield(lane, here.site);
#ifdef INVAR_SHIM_CHECK
    lane->runtime->atomic(lane, const_cast<void *>(address), bytes, operation);
#else
    (void)address, (void)bytes, (void)operation;
#endif
}
inline void invar_atomic_end(invar_here here, bool changed) {
    invar_lane *lane = here.lane();
    lane->idle = changed ? 0 : lane->idle + 1;
}
#else
inline void invar_atomic_begin(invar_here, const volatile void *, uint32_t, uint32_t) {}
inline void invar_atomic_end(invar_here, bool) {}
#endif

#else

/* A GPU needs no marker to find its thread; Metal's calls carry one there too, since the shim's text is the same. */
struct invar_here {
    explicit constexpr invar_here(int) {}
};
using invar_any_here = invar_here;

#endif

} // namespace invar_shim
