// in: x float32 1 / out: y float32 1
// body
constexpr int N = 4;
auto index = cg::this_grid().thread_rank();
if ((index + 1) * N > size) return;
auto vec = load_vector<N>(x, index);
AlignedVector<float, N> o;
for (int i = 0; i < N; ++i) o[i] = vec[i] * 2.0f;
store_vector<N>(y, index, o);
