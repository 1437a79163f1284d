/* CUDA's device library on the CPU: integer and conversion intrinsics, the functions that differ from C's, half intrinsics,
 * warp intrinsics, cooperative groups, atomics, and what MLX adds. */
#define TEST_CUDA
#include "lanes.h"

/* As a kernel would be: names of the shim hide those of the C library. */
namespace invar_shim {
namespace tests {
#define HERE invar_here(1)
static bool same(double a, double b) { return (a != a && b != b) || (a == b && ::std::signbit(a) == ::std::signbit(b)); }

static void bits() {
    for (int i = 0; i < 100000; i++) {
        uint32_t x = (uint32_t)random_bits() >> random_bits() % 32, y = (uint32_t)random_bits();
        uint64_t w = random_bits() >> random_bits() % 64, v = random_bits();
        int ones = 0, lowest = 0, highest = -1;
        uint32_t reversed = 0;
        for (int b = 31; b >= 0; b--) {
            if (!(x >> b & 1)) continue;
            ones++, lowest = b + 1, reversed |= 1u << (31 - b);
            if (highest < 0) highest = b;
        }
        CHECK(__popc(x) == ones && __ffs((int)x) == lowest && __brev(x) == reversed, "%x", x);
        CHECK(__clz((int)x) == 31 - highest, "__clz of %x", x);
        CHECK(__brevll(w) == ((uint64_t)__brev((unsigned)w) << 32 | __brev((unsigned)(w >> 32))), "__brevll");
        CHECK(__clzll((long long)w) == (w >> 32 ? __clz((int)(w >> 32)) : 32 + __clz((int)w)), "__clzll");
        CHECK(__mulhi((int)x, (int)y) == (int)(((__int128)(int)x * (int)y) >> 32), "__mulhi");
        CHECK(__umulhi(x, y) == (uint32_t)((unsigned __int128)x * y >> 32), "__umulhi");
        CHECK(__umul64hi(w, v) == (uint64_t)((unsigned __int128)w * v >> 64), "__umul64hi");
        unsigned by = (unsigned)random_bits() % 40;
        CHECK(__funnelshift_l(x, y, by) == (by % 32 ? y << by % 32 | x >> (32 - by % 32) : y), "__funnelshift_l by %u", by);
        CHECK(__funnelshift_r(x, y, by) == (by % 32 ? x >> by % 32 | y << (32 - by % 32) : x), "__funnelshift_r by %u", by);
        CHECK(__hadd((int)x, (int)y) == (int)(((int64_t)(int)x + (int)y) >> 1), "__hadd");
        CHECK(__rhadd((int)x, (int)y) == (int)(((int64_t)(int)x + (int)y + 1) >> 1), "__rhadd");
        uint8_t bytes[8];
        ::std::memcpy(bytes, &x, 4), ::std::memcpy(bytes + 4, &y, 4);
        uint32_t s = (uint32_t)random_bits(), picked = __byte_perm(x, y, s);
        for (int b = 0; b < 4; b++) CHECK((picked >> 8 * b & 255) == bytes[s >> 4 * b & 7], "__byte_perm");
        int dot = 7;
        for (int b = 0; b < 4; b++) dot += (int8_t)bytes[b] * (int8_t)bytes[4 + b];
        CHECK(__dp4a((int)x, (int)y, 7) == dot, "__dp4a");
    }
    CHECK(__float2int_rn(2.5f) == 2 && __float2int_rz(-2.9f) == -2 && __float2int_rd(-2.1f) == -3 &&
          __float2int_ru(2.1f) == 3, "values");
    CHECK(__float2int_rz(3e9f) == INT_MAX && __float2int_rz(-3e9f) == INT_MIN && __float2int_rz(NAN) == 0, "ends");
    CHECK(__float2uint_rz(-1.0f) == 0 && __float2uint_rz(5e9f) == UINT_MAX &&
          __float2uint_rn(4294967040.0f) == 4294967040u, "values");
    CHECK(__float_as_uint(1.0f) == 0x3f800000 && __int_as_float(0x40000000) == 2 &&
          __hiloint2double(0x3ff00000, 0) == 1, "as");
}

static void functions() {
    CHECK(same(fmaxf(-0.0f, 0.0f), 0.0) && same(fmaxf(0.0f, -0.0f), 0.0) && same(fminf(0.0f, -0.0f), -0.0), "zeros");
    CHECK(fmaxf(NAN, 1) == 1 && fminf(1, NAN) == 1 && fmax(2.0, NAN) == 2 && max(1, 2) == 2 && min(2.0f, 1) == 1, "NaN");
    CHECK(labs(-(1l << 40)) == 1l << 40 && llabs(-5) == 5, "labs");
    CHECK(max(-1, 1u) == 0xffffffffu && max(3ll, 2) == 3, "mixed integers as in C++");
    static_assert(invar_same<decltype(exp(1.0f)), float> && invar_same<decltype(exp(1)), double>, "types");
    static_assert(invar_same<decltype(pow(2.0f, 2)), double>, "types");
    for (int i = 0; i < 20000; i++) {
        float x = (float)uniform(0.01, 50), y = (float)uniform(-3, 3);
        CHECK(::std::fabs(rsqrtf(x) - 1 / ::std::sqrt((double)x)) <=
              1.5 * unit_of(1 / ::std::sqrt((double)x), 24, -125), "rsqrtf");
        CHECK(same(__frsqrt_rn(x), (float)(1 / ::std::sqrt((double)x))), "__frsqrt_rn");
        CHECK(::std::fabs(__expf(y) - ::std::exp((double)y)) <= unit_of(::std::exp((double)y), 24, -125), "__expf");
        CHECK(::std::fabs(normcdff(y) - 0.5 * ::std::erfc(-y * ::std::sqrt(0.5))) < 1e-7, "normcdff");
        CHECK(__fdividef(x, y) == x / y && same(__saturatef(y), y < 0 ? 0 : y > 1 ? 1 : y), "__saturatef");
        CHECK(same(abs(y), ::std::fabs(y)) && same(abs(__half(y)), (float)__half(::std::fabs(y))), "abs");
    }
    CHECK(isnan(NAN) && isinf(-INFINITY) && !isfinite(NAN) && isfinite(1.0), "values");
    float4 v = make_float4(1, 2, 3, 4);
    CHECK(v.w == 4 && sizeof(float3) == 12 && alignof(float4) == 16 && alignof(uchar4) == 4 &&
          sizeof(double2) == 16, "vectors");
    dim3 d(2, 3);
    CHECK(d.z == 1 && uint3(d).y == 3, "dim3");
}

template <class T> static void halves(T one) {
    for (int i = 0; i < 20000; i++) {
        T a = invar_bits<T>((uint16_t)random_bits()), b = invar_bits<T>((uint16_t)random_bits());
        double x = (float)a, y = (float)b;
        CHECK(same(__hadd(a, b), T(x + y)) && same(__hmul(a, b), T(x * y)) && same(__hdiv(a, b), T(x / y)), "arithmetic");
        CHECK(__hlt(a, b) == (x < y) && __hge(a, b) == (x >= y) && __hne(a, b) == (x < y || x > y), "comparisons");
        CHECK(same(__hmax(a, b), ::std::fmax(x, y)) || x == y, "__hmax");
        CHECK(same(__habs(a), ::std::fabs(x)) && same(__hneg(a), -x) && __hisnan(a) == (x != x), "__habs");
        CHECK(__hisinf(a) == (x == INFINITY) - (x == -INFINITY), "__hisinf");
    }
    CHECK(same(hexp(one), T(::std::exp(1.0))) && same(hrsqrt(T(4)), 0.5) && same(hlog2(T(8)), 3) &&
          same(hrcp(T(4)), 0.25), "values");
}
static void pairs() {
    __half2 a = __floats2half2_rn(1.5f, -2), b = __float2half2_rn(0.5f), c = __hfma2(a, b, a) + a * b;
    CHECK(__low2float(c) == 3 && __high2float(c) == -4 && sizeof a == 4 && alignof(__half2) == 4, "__half2");
    CHECK(__half22float2(__lowhigh2highlow(a)).x == -2 && __low2half(__highs2half2(a, b)) == __half(-2), "parts");
    CHECK(__half2int_rn(__half(2.5f)) == 2 && __half2int_rz(__half(-2.5f)) == -2 &&
          __half_as_ushort(__half(1)) == 0x3c00, "values");
    __nv_bfloat162 d = __floats2bfloat162_rn(1, 2);
    unsigned short bits = 0x3fc0;
    __nv_bfloat16 taken = __nv_bfloat16_raw{ bits };
    CHECK(float(taken) == 1.5f && ((__nv_bfloat16_raw)taken).x == bits && __half_raw(__half(1)).x == 0x3c00, "raw bits");
    CHECK(__bfloat1622float2(d * d).y == 4 && __bfloat162float(__ushort_as_bfloat16(0x3f80)) == 1, "__nv_bfloat162");
    CHECK(__hbge2(a, a) && !__hbgt2(a, b), "pairs compare");
}

static uint32_t live;
static int held(int from, int lane) { return 10 * (from >= 0 && from < 32 && (live >> from & 1) ? from : lane); }
static void warp(uint32_t lane) {
    int i = (int)lane, x = 10 * i;
    unsigned all = 0xffffffff;
    for (int width : { 32, 16, 4 }) {
        int base = i / width * width;
        CHECK(__shfl_sync(HERE, all, x, 35, width) == held(base + 35 % width, i), "__shfl_sync of %d", width);
        CHECK(__shfl_up_sync(HERE, all, x, 3, width) == held(i - base >= 3 ? i - 3 : i, i), "__shfl_up_sync of %d", width);
        CHECK(__shfl_down_sync(HERE, all, x, 3, width) == held(i - base + 3 < width ? i + 3 : i, i), "__shfl_down_sync");
        int other = i ^ 5;
        CHECK(__shfl_xor_sync(HERE, all, x, 5, width) == held(other < base + width ? other : i, i), "__shfl_xor_sync");
    }
    CHECK(__ballot_sync(HERE, all, i % 3 == 0) == (0x49249249 & live), "__ballot_sync");
    CHECK(__any_sync(HERE, all, i == 40) == 0 && __all_sync(HERE, all, i < 32) == 1 && __activemask(HERE) == live, "votes");
    int sum = 0, least = 1000;
    unsigned any = 0, together = 0;
    for (int k = 0; k < 32; k++)
        if (live >> k & 1) sum += 10 * k, least = k < least ? k : least, any |= (unsigned)k, together |= (k / 5 == i / 5) << k;
    CHECK(__reduce_add_sync(HERE, all, x) == sum && __reduce_min_sync(HERE, all, i) == least, "__reduce_add_sync");
    CHECK(__reduce_or_sync(HERE, all, lane) == any && __reduce_max_sync(HERE, all, -i) == -least, "__reduce_or_sync");
    CHECK(__match_any_sync(HERE, all, i / 5) == together, "__match_any_sync");
    int alike;
    CHECK(__match_all_sync(HERE, all, 7, &alike) == live && alike, "__match_all_sync");
    CHECK(__match_all_sync(HERE, all, i, &alike) == (live & (live - 1) ? 0 : live), "__match_all_sync of different ones");
    /* Half a warp at a time, by its mask. */
    unsigned half_mask = i < 16 ? 0xffff : 0xffff0000;
    int half_sum = 0;
    for (int k = i & 16; k < (i & 16) + 16; k++) half_sum += live >> k & 1 ? k : 0;
    CHECK(__reduce_add_sync(HERE, half_mask, i) == half_sum, "half a warp");
    __syncwarp(HERE);
    CHECK(__syncthreads_count(HERE, i % 2) == __builtin_popcount(live & 0xaaaaaaaa), "__syncthreads_count");
    CHECK(__syncthreads_and(HERE, i < 32) == 1 && __syncthreads_or(HERE, i == 50) == 0, "__syncthreads_and");
}

static void groups(uint32_t lane) {
    namespace cg = cooperative_groups;
    int i = (int)lane;
    auto block = cg::this_thread_block(HERE);
    auto tile = cg::tiled_partition<8>(block);
    CHECK(block.thread_rank() == lane && block.size() == 32 && tile.thread_rank() == lane % 8 && tile.size() == 8, "ranks");
    CHECK(tile.meta_group_rank() == lane / 8 && tile.meta_group_size() == 4 &&
          cg::this_grid(HERE).thread_rank() == lane, "grid");
    CHECK(tile.shfl_down(HERE, i, 2) == (i % 8 < 6 ? i + 2 : i) && tile.shfl(HERE, i, 3) == i / 8 * 8 + 3, "shfl");
    CHECK(tile.ballot(HERE, i % 2) == 0xaa && tile.any(HERE, i == 9) == (i / 8 == 1) && tile.all(HERE, 1) == 1, "ballot");
    CHECK(cg::reduce(HERE, tile, i, cg::plus<int>()) == 8 * (i / 8 * 8) + 28, "reduce");
    CHECK(cg::reduce(HERE, tile, i, cg::greater<int>()) == i / 8 * 8 + 7 &&
          cg::reduce(HERE, tile, i, cg::less<int>()) == i / 8 * 8, "values");
    CHECK(cg::inclusive_scan(HERE, tile, 2) == 2 * (i % 8 + 1) && cg::exclusive_scan(HERE, tile, 2) == 2 * (i % 8), "scans");
    auto pair = cg::tiled_partition<2>(tile);
    CHECK(pair.meta_group_rank() == lane % 8 / 2 && pair.meta_group_size() == 4 &&
          pair.shfl_xor(HERE, i, 1) == (i ^ 1), "pairs");
    block.sync(HERE);
    if (i % 3 == 0) {
        auto some = cg::coalesced_threads(HERE);
        CHECK(some.size() == 11 && some.thread_rank() == lane / 3 && some.shfl(HERE, i, 4) == 12, "coalesced");
        CHECK(some.ballot(HERE, i % 2) == 0x2aa && some.shfl_down(HERE, i, 1) == (i < 30 ? i + 3 : i), "packed");
    }
    CHECK(threadIdx.x == lane && blockDim.x == 32 && min(threadIdx.x, 5) == (lane < 5 ? lane : 5), "threadIdx by the fibre");
}

static void atomics(uint32_t) {
    int n = 5;
    unsigned u = 5;
    float f = 1.5f;
    __half h = 1.0f;
    CHECK(atomicAdd(HERE, &n, 3) == 5 && n == 8 && atomicSub(HERE, &n, 10) == 8 && n == -2 &&
          atomicExch(HERE, &n, 4) == -2, "values");
    CHECK(atomicMax(HERE, &n, 9) == 4 && atomicMin(HERE, &n, 3) == 9 && n == 3 && atomicCAS(HERE, &n, 3, 8) == 3 &&
          n == 8, "values");
    CHECK(atomicCAS(HERE, &n, 3, 1) == 8 && n == 8 && atomicAnd(HERE, &n, 12) == 8 && atomicOr(HERE, &n, 3) == 8 &&
          n == 11, "values");
    CHECK(atomicXor(HERE, &n, 1) == 11 && n == 10, "atomicXor");
    CHECK(atomicInc(HERE, &u, 6u) == 5 && atomicInc(HERE, &u, 6u) == 6 && u == 0 && atomicDec(HERE, &u, 6u) == 0 &&
          u == 6, "values");
    CHECK(atomicAdd(HERE, &f, 0.25f) == 1.5f && f == 1.75f && atomicAdd(HERE, &h, __half(2)) == __half(1) &&
          h == __half(3), "values");
}

static void utilities() {
    float data[16];
    for (int i = 0; i < 16; i++) data[i] = (float)i;
    auto v = load_vector<4>(data, 1);
    CHECK(v[0] == 4 && v[3] == 7 && load_vector<4>(data, 3, 14, -1.0f)[2] == -1 &&
          load_vector<4>(data, 1, 8, 2, 0.0f)[1] == 10, "values");
    v[2] = 99;
    store_vector<4>(data, 3, v, 15);
    CHECK(data[14] == 99 && data[15] == 15, "store_vector");
    const int shape[3] = { 2, 3, 4 };
    const int64_t strides[3] = { 1, 8, 2 };
    auto [a, b] = elem_to_loc_nd<3>((int64_t)17, shape, strides, strides);
    CHECK(a == 1 + 8 + 2 && b == a && elem_to_loc((int64_t)17, shape, strides, 3) == a, "elem_to_loc");
    CHECK(Limits<float>::min() == -INFINITY && Limits<__half>::finite_max() == __half(65504) &&
          Limits<int>::max() == INT_MAX, "values");
    int first = 0;
    float second = 0;
    std::tie(first, second) = cuda::std::make_tuple(3, 2.5f);
    CHECK(first == 3 && second == 2.5f && cuda::std::get<1>(make_tuple(1, 2)) == 2, "tuple");
    cuda::std::array<int, 3> array = { 1, 2, 3 };
    CHECK(array[2] == 3 && array.size() == 3, "array");
}

static void run() {
    bits();
    functions();
    halves(__half(1));
    halves(__nv_bfloat16(1));
    pairs();
    for (uint32_t lanes_live : { 0xffffffffu, 0x0000ffffu, 0x13579bdfu }) {
        live = lanes_live;
        run_lanes(warp, live);
    }
    run_lanes(groups);
    run_lanes(atomics, 1);
    utilities();
}

} // namespace tests
} // namespace invar_shim

int main() {
    invar_shim::tests::run();
    return finish();
}
