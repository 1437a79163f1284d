// in: x float32 1 / out: y float32 1
// body
uint i = thread_position_in_grid.x;
float v = x[i];
for (ushort offset = 16; offset > 0; offset >>= 1) v += simd_shuffle_xor(v, offset);
float w = simd_shuffle_down(x[i], 1u) + simd_shuffle_up(x[i], 2) + simd_shuffle(x[i], (thread_index_in_simdgroup + 3) % 32);
w += simd_shuffle_and_fill_down(x[i], -1.0f, 4) + quad_sum(x[i]) + quad_shuffle_xor(x[i], 1) + simd_broadcast(x[i], 5);
simd_vote mask = simd_ballot(v > w);
y[i] = v + w + (simd_all(v > 0) ? 1 : 0) + (simd_any(v > 1) ? 1 : 0) + float((simd_vote::vote_t)mask & 1);
