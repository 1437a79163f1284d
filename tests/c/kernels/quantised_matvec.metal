// in: w uint32 2, scales float16 2, biases float16 2, x float16 1 / out: y float16 1 / template: IN=256,GROUP=64
template <int bits>
inline float unpack(uint word, int i) {
    constexpr uint mask = (1u << bits) - 1;
    return float((word >> (i * bits)) & mask);
}
// body
uint row = thread_position_in_grid.y;
uint lane = thread_index_in_simdgroup;
float acc = 0.0f;
for (uint word = lane; word < IN / 8; word += 32) {
    uint packed = w[row * (IN / 8) + word];
    int group = word * 8 / GROUP;
    float s = scales[row * (IN / GROUP) + group], o = biases[row * (IN / GROUP) + group];
    for (int i = 0; i < 8; ++i) acc += (s * unpack<4>(packed, i) + o) * float(x[word * 8 + i]);
}
acc = simd_sum(acc);
if (lane == 0) y[row] = half(acc);
