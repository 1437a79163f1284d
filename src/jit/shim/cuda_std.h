/* cuda::std and std as far as kernels use them: array, limits, type traits, tuple, and what stands in the shim already. */
namespace invar_shim {

/* Plain members in order, so that `auto [a, b] = f()` needs no std::tuple_size. */
template <class... T> struct tuple {};
template <class A> struct tuple<A> { A invar_0; };
template <class A, class B> struct tuple<A, B> { A invar_0; B invar_1; };
template <class A, class B, class C> struct tuple<A, B, C> { A invar_0; B invar_1; C invar_2; };
template <class A, class B, class C, class D> struct tuple<A, B, C, D> { A invar_0; B invar_1; C invar_2; D invar_3; };
template <class... T> constexpr tuple<invar_plain<T>...> make_tuple(const T &...x) { return { x... }; }

template <class A, class B> struct pair {
    A first;
    B second;
};
template <class A, class B> constexpr pair<invar_plain<A>, invar_plain<B>> make_pair(const A &a, const B &b) {
    return { a, b };
}

template <int I, class Tuple> constexpr auto &get(Tuple &t) {
    if constexpr (I == 0) return t.invar_0;
    else if constexpr (I == 1) return t.invar_1;
    else if constexpr (I == 2) return t.invar_2;
    else return t.invar_3;
}
template <int I, class Tuple> constexpr auto get(Tuple &&t) {
    auto kept = t;
    return get<I>(kept);
}

/* References that take a tuple's members. */
template <class A, class B, class C = A> struct invar_tied {
    A &a;
    B &b;
    C *c;
    template <class T> void operator=(const T &t) {
        a = t.invar_0, b = t.invar_1;
        if constexpr (sizeof(T) > sizeof(tuple<A, B>)) *c = t.invar_2;
    }
};
template <class A, class B> inline invar_tied<A, B> tie(A &a, B &b) { return { a, b, nullptr }; }
template <class A, class B, class C> inline invar_tied<A, B, C> tie(A &a, B &b, C &c) { return { a, b, &c }; }

/* In a namespace of their own: argument-dependent lookup would set them against a user's own swap. */
namespace std {
using namespace invar_shim;
template <class T> constexpr T &&forward(remove_reference_t<T> &x) { return static_cast<T &&>(x); }
template <class T> constexpr T &&forward(remove_reference_t<T> &&x) { return static_cast<T &&>(x); }
template <class T> constexpr remove_reference_t<T> &&move(T &&x) { return static_cast<remove_reference_t<T> &&>(x); }
template <class T> constexpr void swap(T &a, T &b) {
    T kept = a;
    a = b;
    b = kept;
}
} // namespace std

namespace cuda {
namespace std {
using namespace invar_shim::std;
}
} // namespace cuda

} // namespace invar_shim
