/* Vectors of two, three and four, as Metal lays them out: vec<T, 3> is as large and as aligned as vec<T, 4>, and
 * packed_vec<T, N> is an array. A scalar splats; anything that has N elements in all makes a vector of N. Operators work
 * element by element and give the element type of the vector; comparisons give vectors of bool. jit/shim.h says how
 * swizzles are written. Apple's compiler takes vec<T, 8> and vec<T, 16> too, whose elements have numbers only. */
namespace invar_shim {

template <class T, int N> struct vec;
template <class T, int N> struct packed_vec;

/* Elements of a type: 0 for a scalar. */
template <class T> constexpr int invar_count = 0;
template <class T, int N> constexpr int invar_count<vec<T, N>> = N;
template <class T, int N> constexpr int invar_count<packed_vec<T, N>> = N;
template <class T> constexpr int invar_slots = invar_count<T> ? invar_count<T> : 1;
template <class T> struct invar_scalar_ { using type = T; };
template <class T, int N> struct invar_scalar_<vec<T, N>> { using type = T; };
template <class T, int N> struct invar_scalar_<packed_vec<T, N>> { using type = T; };
template <class T> using invar_scalar_of = typename invar_scalar_<T>::type;

/* Element i of a vector; a scalar is every element of itself. */
template <class T> constexpr invar_scalar_of<T> invar_at(const T &a, int i) {
    if constexpr (invar_count<T> == 0) return (void)i, a;
    else if constexpr (invar_count<T> == 2) return i == 0 ? a.x : a.y;
    else if constexpr (invar_count<T> == 3) return i == 0 ? a.x : i == 1 ? a.y : a.z;
    else if constexpr (invar_count<T> > 4) return a.invar_all[i];
    else return i == 0 ? a.x : i == 1 ? a.y : i == 2 ? a.z : a.w;
}
/* The element that a swizzle names. */
template <int I, class V> constexpr invar_scalar_of<V> invar_element(const V &v) {
    static_assert(I < invar_count<V>, "a swizzle names an element that the vector does not have");
    return invar_at(v, I);
}
/* Element I of a list of vectors and scalars laid end to end. */
template <class T, int I, class A, class... Rest> constexpr T invar_pick(const A &a, const Rest &...rest) {
    if constexpr (I < invar_slots<A>) return T(invar_at(a, I));
    else return invar_pick<T, I - invar_slots<A>>(rest...);
}
template <int N, class... A> using invar_fills = invar_if<(invar_slots<A> + ...) == N && (sizeof...(A) > 1)>;

/* What a swizzle on the left of an assignment gives: places in a vector of N. */
template <class T, int N, int... I> struct invar_places {
    static_assert(((I < N) && ...), "a swizzle names an element that the vector does not have");
    T *base;
    static constexpr int count = sizeof...(I);
    constexpr operator vec<T, count>() const { return vec<T, count>(base[I]...); }
    template <class B> constexpr void set(const B &b) {
        int i = 0;
        ((base[I] = T(invar_at(b, i++))), ...);
    }
    template <class B> constexpr invar_places &operator=(const B &b) { return set(b), *this; }
    template <class B> constexpr invar_places &operator+=(const B &b) { return set(vec<T, count>(*this) + b), *this; }
    template <class B> constexpr invar_places &operator-=(const B &b) { return set(vec<T, count>(*this) - b), *this; }
    template <class B> constexpr invar_places &operator*=(const B &b) { return set(vec<T, count>(*this) * b), *this; }
    template <class B> constexpr invar_places &operator/=(const B &b) { return set(vec<T, count>(*this) / b), *this; }
    template <class B> constexpr invar_places &operator%=(const B &b) { return set(vec<T, count>(*this) % b), *this; }
    template <class B> constexpr invar_places &operator&=(const B &b) { return set(vec<T, count>(*this) & b), *this; }
    template <class B> constexpr invar_places &operator|=(const B &b) { return set(vec<T, count>(*this) | b), *this; }
    template <class B> constexpr invar_places &operator^=(const B &b) { return set(vec<T, count>(*this) ^ b), *this; }
    template <class B> constexpr invar_places &operator<<=(const B &b) { return set(vec<T, count>(*this) << b), *this; }
    template <class B> constexpr invar_places &operator>>=(const B &b) { return set(vec<T, count>(*this) >> b), *this; }
    constexpr invar_places &operator++() { return *this += T(1); }
    constexpr invar_places &operator--() { return *this -= T(1); }
    constexpr void operator++(int) { *this += T(1); }
    constexpr void operator--(int) { *this -= T(1); }
};

template <class T, int N> struct alignas((N & (N - 1) ? 1 : N) * sizeof(T)) vec {
    static_assert(N == 8 || N == 16, "a vector has 2, 3, 4, 8 or 16 elements");
    T invar_all[N];
    vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr vec(S s) : invar_all{} {
        for (T &to : invar_all) to = T(s);
    }
    template <class... A, class = invar_fills<N, A...>> constexpr vec(const A &...a) : invar_all{} {
        int i = 0;
        (put(i, a), ...);
    }
    template <class U> explicit constexpr vec(const vec<U, N> &v) : invar_all{} {
        int i = 0;
        put(i, v);
    }
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }

  private:
    template <class A> constexpr void put(int &i, const A &a) {
        for (int k = 0; k < invar_slots<A>; k++) invar_all[i++] = T(invar_at(a, k));
    }
};
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
    union {
        struct { T x, y; };
        struct { T r, g; };
        T invar_all[2];
    };
    vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr vec(S s)
        : x(T(s)), y(T(s)) {}
    template <class... A, class = invar_fills<2, A...>> constexpr vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)) {}
    template <class U> explicit constexpr vec(const vec<U, 2> &v)
        : x(T(v.x)), y(T(v.y)) {}
    constexpr vec(const packed_vec<T, 2> &v) : x(v.x), y(v.y) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 2, I...> invar_put() { return { invar_all }; }
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
    union {
        struct { T x, y, z; };
        struct { T r, g, b; };
        T invar_all[3];
    };
    vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr vec(S s)
        : x(T(s)), y(T(s)), z(T(s)) {}
    template <class... A, class = invar_fills<3, A...>> constexpr vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)), z(invar_pick<T, 2>(a...)) {}
    template <class U> explicit constexpr vec(const vec<U, 3> &v)
        : x(T(v.x)), y(T(v.y)), z(T(v.z)) {}
    constexpr vec(const packed_vec<T, 3> &v) : x(v.x), y(v.y), z(v.z) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 3, I...> invar_put() { return { invar_all }; }
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
    union {
        struct { T x, y, z, w; };
        struct { T r, g, b, a; };
        T invar_all[4];
    };
    vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr vec(S s)
        : x(T(s)), y(T(s)), z(T(s)), w(T(s)) {}
    template <class... A, class = invar_fills<4, A...>> constexpr vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)), z(invar_pick<T, 2>(a...)), w(invar_pick<T, 3>(a...)) {}
    template <class U> explicit constexpr vec(const vec<U, 4> &v)
        : x(T(v.x)), y(T(v.y)), z(T(v.z)), w(T(v.w)) {}
    constexpr vec(const packed_vec<T, 4> &v) : x(v.x), y(v.y), z(v.z), w(v.w) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 4, I...> invar_put() { return { invar_all }; }
};

/* The same without padding, aligned like its element. Arithmetic on it gives a vec. */
template <class T> struct packed_vec<T, 2> {
    union {
        struct { T x, y; };
        struct { T r, g; };
        T invar_all[2];
    };
    packed_vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr packed_vec(S s)
        : x(T(s)), y(T(s)) {}
    template <class... A, class = invar_fills<2, A...>> constexpr packed_vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)) {}
    template <class U> explicit constexpr packed_vec(const packed_vec<U, 2> &v)
        : x(T(v.x)), y(T(v.y)) {}
    constexpr packed_vec(const vec<T, 2> &v) : x(v.x), y(v.y) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 2, I...> invar_put() { return { invar_all }; }
};
template <class T> struct packed_vec<T, 3> {
    union {
        struct { T x, y, z; };
        struct { T r, g, b; };
        T invar_all[3];
    };
    packed_vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr packed_vec(S s)
        : x(T(s)), y(T(s)), z(T(s)) {}
    template <class... A, class = invar_fills<3, A...>> constexpr packed_vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)), z(invar_pick<T, 2>(a...)) {}
    template <class U> explicit constexpr packed_vec(const packed_vec<U, 3> &v)
        : x(T(v.x)), y(T(v.y)), z(T(v.z)) {}
    constexpr packed_vec(const vec<T, 3> &v) : x(v.x), y(v.y), z(v.z) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 3, I...> invar_put() { return { invar_all }; }
};
template <class T> struct packed_vec<T, 4> {
    union {
        struct { T x, y, z, w; };
        struct { T r, g, b, a; };
        T invar_all[4];
    };
    packed_vec() = default;
    template <class S, class = invar_if<invar_is_scalar<S>>> constexpr packed_vec(S s)
        : x(T(s)), y(T(s)), z(T(s)), w(T(s)) {}
    template <class... A, class = invar_fills<4, A...>> constexpr packed_vec(const A &...a)
        : x(invar_pick<T, 0>(a...)), y(invar_pick<T, 1>(a...)), z(invar_pick<T, 2>(a...)), w(invar_pick<T, 3>(a...)) {}
    template <class U> explicit constexpr packed_vec(const packed_vec<U, 4> &v)
        : x(T(v.x)), y(T(v.y)), z(T(v.z)), w(T(v.w)) {}
    constexpr packed_vec(const vec<T, 4> &v) : x(v.x), y(v.y), z(v.z), w(v.w) {}
    constexpr T &operator[](int i) { return invar_all[i]; }
    constexpr const T &operator[](int i) const { return invar_all[i]; }
    template <int... I> constexpr vec<T, sizeof...(I)> invar_take() const {
        return vec<T, sizeof...(I)>(invar_element<I>(*this)...);
    }
    template <int... I> constexpr invar_places<T, 4, I...> invar_put() { return { invar_all }; }
};

template <class T, int N, class F> constexpr vec<T, N> invar_build(F f) {
    if constexpr (N == 2) return vec<T, N>(f(0), f(1));
    else if constexpr (N == 3) return vec<T, N>(f(0), f(1), f(2));
    else if constexpr (N == 4) return vec<T, N>(f(0), f(1), f(2), f(3));
    else {
        vec<T, N> all = vec<T, N>(T());
        for (int i = 0; i < N; i++) all.invar_all[i] = f(i);
        return all;
    }
}

/* Operands of one operator: two vectors of one type, or a vector and a scalar. */
template <class A, class B> constexpr int invar_lanes = invar_count<A> ? invar_count<A> : invar_count<B>;
template <class A, class B> using invar_mixed = invar_scalar_of<invar_choose<invar_count<A> != 0, A, B>>;
template <class A, class B> constexpr bool invar_mixes =
    invar_count<A> && invar_count<B> ? invar_count<A> == invar_count<B> && invar_same<invar_scalar_of<A>, invar_scalar_of<B>>
    : invar_count<A>                 ? invar_is_scalar<B>
                                     : invar_count<B> != 0 && invar_is_scalar<A>;

template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator+(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) + T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator-(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) - T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator*(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) * T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator/(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) / T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator%(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) % T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator&(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) & T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator|(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) | T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator^(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) ^ T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator<<(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) << T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator>>(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<T, invar_lanes<A, B>>([&](int i) { return T(T(invar_at(a, i)) >> T(invar_at(b, i))); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator==(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) == T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator!=(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) != T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator<(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) < T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator>(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) > T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator<=(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) <= T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator>=(const A &a, const B &b) {
    using T = invar_mixed<A, B>;
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return T(invar_at(a, i)) >= T(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator&&(const A &a, const B &b) {
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return bool(invar_at(a, i)) && bool(invar_at(b, i)); });
}
template <class A, class B, class = invar_if<invar_mixes<A, B>>> constexpr auto operator||(const A &a, const B &b) {
    return invar_build<bool, invar_lanes<A, B>>([&](int i) { return bool(invar_at(a, i)) || bool(invar_at(b, i)); });
}
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator+=(A &a, const B &b) { return a = a + b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator-=(A &a, const B &b) { return a = a - b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator*=(A &a, const B &b) { return a = a * b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator/=(A &a, const B &b) { return a = a / b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator%=(A &a, const B &b) { return a = a % b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator&=(A &a, const B &b) { return a = a & b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator|=(A &a, const B &b) { return a = a | b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator^=(A &a, const B &b) { return a = a ^ b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator<<=(A &a, const B &b) { return a = a << b; }
template <class A, class B> constexpr invar_if<invar_count<A> != 0, A> &operator>>=(A &a, const B &b) { return a = a >> b; }

template <class T, int N> constexpr vec<T, N> operator+(const vec<T, N> &a) { return a; }
template <class T, int N> constexpr vec<T, N> operator-(const vec<T, N> &a) {
    return invar_build<T, N>([&](int i) { return T(-invar_at(a, i)); });
}
template <class T, int N> constexpr vec<T, N> operator~(const vec<T, N> &a) {
    return invar_build<T, N>([&](int i) { return T(~invar_at(a, i)); });
}
template <class T, int N> constexpr vec<bool, N> operator!(const vec<T, N> &a) {
    return invar_build<bool, N>([&](int i) { return !invar_at(a, i); });
}
template <class T, int N> constexpr vec<T, N> &operator++(vec<T, N> &a) { return a = a + T(1); }
template <class T, int N> constexpr vec<T, N> &operator--(vec<T, N> &a) { return a = a - T(1); }
template <class T, int N> constexpr vec<T, N> operator++(vec<T, N> &a, int) { vec<T, N> old = a; ++a; return old; }
template <class T, int N> constexpr vec<T, N> operator--(vec<T, N> &a, int) { vec<T, N> old = a; --a; return old; }

} // namespace invar_shim
