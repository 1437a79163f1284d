/* AMX: eight registers of 16 rows × 16 elements, an element a float32 number or a pair of bfloat16 numbers.
 *
 *   tiles_open() tiles_close()      around a thread's use of them; open also lets the products below find their shape
 *   TILE_ZERO(t) TILE_LOAD(t, p, stride) TILE_STORE(t, p, stride)    t a literal 0 … 7, stride in floats
 *   TILE_DOT(c, a, b)               c[m][n] += the 16 pair products a[m][k]·b[k][n], as TDPBF16PS adds them: the products of
 *                                   lower numbers, those of higher ones, the two sums, then c; denormals count as 0
 *
 * gcc 12's TILE_LOAD does not tell the compiler that it reads memory: TILE_FENCE() goes between ordinary stores and a load
 * of what they wrote. */
#define VEC_TILES 1

enum { TILE_SIDE = 16 };

VEC_INLINE void tiles_open(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) shape = { .palette = 1 };
    for (int t = 0; t < 8; t++) {
        shape.row_bytes[t] = 4 * TILE_SIDE;
        shape.rows[t] = TILE_SIDE;
    }
    __asm__ volatile("" : : "r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}
VEC_INLINE void tiles_close(void) { _tile_release(); }

#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, p, stride) _tile_loadd(t, p, 4 * (stride))
#define TILE_STORE(t, p, stride) _tile_stored(t, p, 4 * (stride))
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#define TILE_FENCE() __asm__ volatile("" : : : "memory")
