/* CUDA's intrinsics on the two halves or four bytes of a word, on the CPU. */
namespace invar_shim {

/* f of each part of type T of two words. */
template <class T, class F> inline unsigned invar_by_part(unsigned a, unsigned b, F f) {
    constexpr unsigned width = 8 * sizeof(T), mask = (1u << width) - 1;
    unsigned result = 0;
    for (unsigned at = 0; at < 32; at += width) result |= ((unsigned)f((int)(T)(a >> at), (int)(T)(b >> at)) & mask) << at;
    return result;
}
/* Held to the ends of the type. */
template <class T> inline int invar_held(int x) {
    constexpr int least = invar_is_signed<T> ? -(1 << (8 * sizeof(T) - 1)) : 0, span = (1 << 8 * sizeof(T)) - 1;
    return x < least ? least : x > least + span ? least + span : x;
}

inline unsigned __vadd2(unsigned a, unsigned b) { return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x + y; }); }
inline unsigned __vsub2(unsigned a, unsigned b) { return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x - y; }); }
inline unsigned __vaddss2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return invar_held<int16_t>(x + y); });
}
inline unsigned __vaddus2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return invar_held<uint16_t>(x + y); });
}
inline unsigned __vsubss2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return invar_held<int16_t>(x - y); });
}
inline unsigned __vsubus2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return invar_held<uint16_t>(x - y); });
}
inline unsigned __vmaxs2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vmaxu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vmins2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vminu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vabsdiffs2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x > y ? x - y : y - x; });
}
inline unsigned __vabsdiffu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x > y ? x - y : y - x; });
}
inline unsigned __vavgu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return (x + y + 1) >> 1; });
}
inline unsigned __vcmpeq2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x == y ? -1 : 0; });
}
inline unsigned __vcmpne2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x != y ? -1 : 0; });
}
inline unsigned __vcmpgts2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x > y ? -1 : 0; });
}
inline unsigned __vcmpgtu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x > y ? -1 : 0; });
}
inline unsigned __vcmplts2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x < y ? -1 : 0; });
}
inline unsigned __vcmpltu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x < y ? -1 : 0; });
}
inline unsigned __vcmpges2(unsigned a, unsigned b) {
    return invar_by_part<int16_t>(a, b, [](int x, int y) { return x >= y ? -1 : 0; });
}
inline unsigned __vcmpgeu2(unsigned a, unsigned b) {
    return invar_by_part<uint16_t>(a, b, [](int x, int y) { return x >= y ? -1 : 0; });
}
inline unsigned __vadd4(unsigned a, unsigned b) { return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x + y; }); }
inline unsigned __vsub4(unsigned a, unsigned b) { return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x - y; }); }
inline unsigned __vaddss4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return invar_held<int8_t>(x + y); });
}
inline unsigned __vaddus4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return invar_held<uint8_t>(x + y); });
}
inline unsigned __vsubss4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return invar_held<int8_t>(x - y); });
}
inline unsigned __vsubus4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return invar_held<uint8_t>(x - y); });
}
inline unsigned __vmaxs4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vmaxu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x > y ? x : y; });
}
inline unsigned __vmins4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vminu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x < y ? x : y; });
}
inline unsigned __vabsdiffs4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x > y ? x - y : y - x; });
}
inline unsigned __vabsdiffu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x > y ? x - y : y - x; });
}
inline unsigned __vavgu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return (x + y + 1) >> 1; });
}
inline unsigned __vcmpeq4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x == y ? -1 : 0; });
}
inline unsigned __vcmpne4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x != y ? -1 : 0; });
}
inline unsigned __vcmpgts4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x > y ? -1 : 0; });
}
inline unsigned __vcmpgtu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x > y ? -1 : 0; });
}
inline unsigned __vcmplts4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x < y ? -1 : 0; });
}
inline unsigned __vcmpltu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x < y ? -1 : 0; });
}
inline unsigned __vcmpges4(unsigned a, unsigned b) {
    return invar_by_part<int8_t>(a, b, [](int x, int y) { return x >= y ? -1 : 0; });
}
inline unsigned __vcmpgeu4(unsigned a, unsigned b) {
    return invar_by_part<uint8_t>(a, b, [](int x, int y) { return x >= y ? -1 : 0; });
}

/* The sum of the differences of four bytes. */
inline unsigned __vsadu4(unsigned a, unsigned b) {
    unsigned parts = __vabsdiffu4(a, b);
    return (parts & 255) + (parts >> 8 & 255) + (parts >> 16 & 255) + (parts >> 24);
}
/* Products of two halves of a with the lower or upper two bytes of b, added to c. */
inline int __dp2a_lo(int a, int b, int c) { return c + (int16_t)a * (int8_t)b + (a >> 16) * (int8_t)(b >> 8); }
inline int __dp2a_hi(int a, int b, int c) { return __dp2a_lo(a, b >> 16, c); }
inline unsigned __dp2a_lo(unsigned a, unsigned b, unsigned c) {
    return c + (a & 0xffff) * (b & 255) + (a >> 16) * (b >> 8 & 255);
}
inline unsigned __dp2a_hi(unsigned a, unsigned b, unsigned c) { return __dp2a_lo(a, b >> 16, c); }

} // namespace invar_shim
