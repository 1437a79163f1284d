/* AMX: eight registers of 16 rows × 16 elements, an element a float32 number or a pair of bfloat16 numbers.
 *
 *   tiles_open(rows) tiles_close()  around a thread's use of them; registers 0 to TILE_LEFT-1 hold so many rows, up to 16,
 *                                   the others all 16. open also lets the products below find their shape
 *   TILE_ZERO(t) TILE_LOAD(t, p, stride) TILE_STORE(t, p, stride)    t a literal 0 … 7, stride in floats
 *   TILE_LOAD_BYTES(t, p, stride)   the same, stride in bytes
 *   TILE_DOT(c, a, b)               c[m][n] += the 16 pair products a[m][k]·b[k][n], as TDPBF16PS adds them: the products of
 *                                   lower numbers, those of higher ones, the two sums, then c; denormals count as 0
 *
 *   vf_load_columns(c, p, stride)   four columns of 16 rows, stride in floats
 *
 * gcc 12's TILE_LOAD does not tell the compiler that it reads memory: TILE_FENCE() goes between ordinary stores and a load
 * of what they wrote. */
#define VEC_TILES 1

enum { TILE_SIDE = 16, TILE_LEFT = 3 };

VEC_INLINE void tiles_open(int rows) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) shape = { .palette = 1 };
    for (int t = 0; t < 8; t++) {
        shape.row_bytes[t] = 4 * TILE_SIDE;
        shape.rows[t] = (uint8_t)(t < TILE_LEFT ? rows : TILE_SIDE);
    }
    __asm__ volatile("" : : "r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}
VEC_INLINE void tiles_close(void) { _tile_release(); }

#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, p, stride) _tile_loadd(t, p, 4 * (stride))
#define TILE_LOAD_BYTES(t, p, stride) _tile_loadd(t, p, stride)
#define TILE_STORE(t, p, stride) _tile_stored(t, p, 4 * (stride))
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#define TILE_FENCE() __asm__ volatile("" : : : "memory")

VEC_INLINE void vf_load_columns(vf c[4], const float *p, int64_t stride) {
    vf x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* rows i, i + 4, i + 8 and i + 12 side by side */
        const float *row = p + i * stride;
        x[i] = _mm512_castps128_ps512(_mm_loadu_ps(row));
        x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(row + 4 * stride), 1);
        x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(row + 8 * stride), 2);
        x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(row + 12 * stride), 3);
    }
    const vf low = _mm512_unpacklo_ps(x[0], x[1]), high = _mm512_unpackhi_ps(x[0], x[1]);
    const vf low2 = _mm512_unpacklo_ps(x[2], x[3]), high2 = _mm512_unpackhi_ps(x[2], x[3]);
    c[0] = VEC_PD_(lo, low, low2);
    c[1] = VEC_PD_(hi, low, low2);
    c[2] = VEC_PD_(lo, high, high2);
    c[3] = VEC_PD_(hi, high, high2);
}
