// in: x int8 1, y uint8 1, z int16 1 / out: out int16 1
// body
uint i = thread_position_in_grid.x;
short s = short(x[i]) * short(y[i]);
char c = char(x[i]); uchar u = uchar(y[i]);
ushort w = ushort(z[i]) >> 3;
char4 packed = char4(c, c + 1, c - 1, char(u));
out[i] = s + w + packed.y + abs(z[i]) + max(s, short(3)) + addsat(c, char(100));
