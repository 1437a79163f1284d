/* Functions over scalars, taken to vectors and to the 16-bit types. */
namespace invar_shim {

template <class T> using invar_real = invar_choose<invar_is_real<T>, T, float>;

/* The type that scalars of several types have in common: their own, or what C++ gives their sum. */
template <class A, class... B> struct invar_common_ { using type = A; };
template <class A, class B, class... C> struct invar_common_<A, B, C...> : invar_common_<decltype(A() + B()), C...> {};
template <class A, class... C> struct invar_common_<A, A, C...> : invar_common_<A, C...> {};

template <class... A> constexpr int invar_width = 0;
template <class A, class... B> constexpr int invar_width<A, B...> = invar_count<A> ? invar_count<A> : invar_width<B...>;

/* The element type of the first vector; of scalars alone, the common type. */
template <bool Vector, class A, class... B> struct invar_leading_ : invar_common_<A, B...> {};
template <class A, class B, class... C>
struct invar_leading_<true, A, B, C...>
    : invar_choose<invar_count<A> != 0, invar_scalar_<A>, invar_leading_<true, B, C...>> {};
template <class A> struct invar_leading_<true, A> : invar_scalar_<A> {};
template <class... A> using invar_leading = typename invar_leading_<invar_width<A...> != 0, A...>::type;

template <class... A> constexpr bool invar_fit = ((invar_count<A> == 0 || invar_count<A> == invar_width<A...>) && ...);

/* f, a function of floats, of each element. Integers count as floats. */
template <class F, class... A> constexpr auto invar_lift(F f, const A &...a) {
    using T = invar_real<invar_leading<A...>>;
    static_assert(invar_fit<A...>, "the vectors differ in size");
    if constexpr (invar_width<A...> == 0) return T(f((float)a...));
    else return invar_build<T, invar_width<A...>>([&](int i) { return T(f((float)invar_at(a, i)...)); });
}

/* f of each element as it is; all arguments are taken to one type. */
template <class F, class... A> constexpr auto invar_each(F f, const A &...a) {
    using T = invar_leading<A...>;
    static_assert(invar_fit<A...>, "the vectors differ in size");
    if constexpr (invar_width<A...> == 0) return f(T(a)...);
    else {
        using R = decltype(f(T(invar_at(a, 0))...));
        return invar_build<R, invar_width<A...>>([&](int i) { return f(T(invar_at(a, i))...); });
    }
}

/* C++ would take a negative int to a large unsigned one without a word; Metal calls such a mixture of scalars ambiguous. Beside
 * a vector it is a vector of its type. */
template <class T, class A> constexpr bool invar_keeps_sign =
    invar_is_signed<T> || !invar_is_signed<invar_scalar_of<A>> || invar_same<T, bool>;
template <class F, class... A> constexpr auto invar_each_alike(F f, const A &...a) {
    static_assert(invar_width<A...> != 0 || (invar_keeps_sign<invar_leading<A...>, A> && ...),
                  "signed and unsigned arguments: cast one of them");
    return invar_each(f, a...);
}

} // namespace invar_shim
