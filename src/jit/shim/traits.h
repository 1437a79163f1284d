/* <type_traits> and <array> as far as kernels use them. */
namespace invar_shim {

template <class T, T Value> struct integral_constant {
    static constexpr T value = Value;
    using value_type = T;
    constexpr operator T() const { return Value; }
    constexpr T operator()() const { return Value; }
};
template <bool Value> using bool_constant = integral_constant<bool, Value>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <class T> struct remove_const { using type = T; };
template <class T> struct remove_const<const T> { using type = T; };
template <class T> struct remove_volatile { using type = T; };
template <class T> struct remove_volatile<volatile T> { using type = T; };
template <class T> struct remove_cv { using type = typename remove_const<typename remove_volatile<T>::type>::type; };
template <class T> struct remove_reference { using type = T; };
template <class T> struct remove_reference<T &> { using type = T; };
template <class T> struct remove_reference<T &&> { using type = T; };
template <class T> struct remove_pointer { using type = T; };
template <class T> struct remove_pointer<T *> { using type = T; };
template <class T> struct remove_cvref : remove_cv<typename remove_reference<T>::type> {};
template <class T> struct decay : remove_cvref<T> {};
template <class T> using remove_const_t = typename remove_const<T>::type;
template <class T> using remove_cv_t = typename remove_cv<T>::type;
template <class T> using remove_reference_t = typename remove_reference<T>::type;
template <class T> using remove_pointer_t = typename remove_pointer<T>::type;
template <class T> using remove_cvref_t = typename remove_cvref<T>::type;
template <class T> using decay_t = typename decay<T>::type;

template <class T> struct make_unsigned { using type = invar_unsigned<T>; };
template <class T> struct make_signed { using type = invar_signed<T>; };
template <class T> using make_unsigned_t = typename make_unsigned<T>::type;
template <class T> using make_signed_t = typename make_signed<T>::type;

template <bool Condition, class A, class B> struct conditional : invar_choose_<Condition, A, B> {};
template <bool Condition, class A, class B> using conditional_t = invar_choose<Condition, A, B>;
template <bool Condition, class T = void> struct enable_if : invar_if_<Condition, T> {};
template <bool Condition, class T = void> using enable_if_t = invar_if<Condition, T>;
template <class...> using void_t = void;

template <class A, class B> constexpr bool is_same_v = invar_same<A, B>;
template <class T> constexpr bool is_integral_v = invar_is_integer<remove_cv_t<T>> || invar_same<remove_cv_t<T>, bool>;
template <class T> constexpr bool is_floating_point_v = invar_is_real<remove_cv_t<T>>;
template <class T> constexpr bool is_arithmetic_v = is_integral_v<T> || is_floating_point_v<T>;
template <class T> constexpr bool is_scalar_v = is_arithmetic_v<T>;
template <class T> constexpr bool is_signed_v = invar_is_signed<remove_cv_t<T>>;
template <class T> constexpr bool is_unsigned_v = is_integral_v<T> && !is_signed_v<T>;
template <class T> constexpr bool is_pointer_v = false;
template <class T> constexpr bool is_pointer_v<T *> = true;
template <class T> constexpr bool is_const_v = false;
template <class T> constexpr bool is_const_v<const T> = true;
template <class T> T &&declval();
template <class To> constexpr bool invar_takes(To) { return true; }
template <class From, class To, class = decltype(invar_takes<To>(declval<From>()))> constexpr bool invar_converts(int) {
    return true;
}
template <class From, class To> constexpr bool invar_converts(long) { return false; }
template <class From, class To> constexpr bool is_convertible_v = invar_converts<From, To>(0);
template <class A, class B> struct is_same : bool_constant<is_same_v<A, B>> {};
template <class T> struct is_integral : bool_constant<is_integral_v<T>> {};
template <class T> struct is_floating_point : bool_constant<is_floating_point_v<T>> {};
template <class T> struct is_arithmetic : bool_constant<is_arithmetic_v<T>> {};
template <class T> struct is_scalar : bool_constant<is_scalar_v<T>> {};
template <class T> struct is_signed : bool_constant<is_signed_v<T>> {};
template <class T> struct is_unsigned : bool_constant<is_unsigned_v<T>> {};
template <class T> struct is_pointer : bool_constant<is_pointer_v<T>> {};
template <class T> struct is_const : bool_constant<is_const_v<T>> {};

template <class T, size_t N> struct array {
    using value_type = T;
    T invar_items[N];
    constexpr T &operator[](size_t i) { return invar_items[i]; }
    constexpr const T &operator[](size_t i) const { return invar_items[i]; }
    constexpr T *data() { return invar_items; }
    constexpr const T *data() const { return invar_items; }
    constexpr T *begin() { return invar_items; }
    constexpr const T *begin() const { return invar_items; }
    constexpr T *end() { return invar_items + N; }
    constexpr const T *end() const { return invar_items + N; }
    constexpr T &front() { return invar_items[0]; }
    constexpr T &back() { return invar_items[N - 1]; }
    constexpr void fill(const T &x) {
        for (size_t i = 0; i < N; i++) invar_items[i] = x;
    }
    static constexpr size_t size() { return N; }
};

} // namespace invar_shim
