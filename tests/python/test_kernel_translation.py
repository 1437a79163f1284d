"""Kernels whose meaning depends on how they are translated: where diverging lanes meet again, which function a call means,
where threadgroup memory is, which position a thread has."""

import kernel_tools  # noqa: F401  (its cache folder)
import numpy as np
import pytest

from invar.core import fast

pytestmark = pytest.mark.once

N = 64
X = np.arange(1, N + 1, dtype=np.float32)
GROUPS = X.reshape(-1, 32)


def run(dialect, source, header="", threadgroup=32, grid=N, outputs=(N,), template=None, shared_memory=0, dtype="float32",
        init_value=None):
    options = {"shared_memory": shared_memory} if dialect == "cuda" else {}
    create = fast.cuda_kernel if dialect == "cuda" else fast.metal_kernel
    kernel = create("k", ["a"], ["out"], source, header, **options)
    (out,) = kernel(inputs=[X], output_shapes=[outputs], output_dtypes=[dtype], grid=(grid, 1, 1),
                    threadgroup=(threadgroup, 1, 1), template=template, init_value=init_value)
    return np.asarray(out)


def by_parity(sign):
    """The sum over the lanes of one parity, for each thread."""
    sums = [GROUPS[:, p::2].sum(axis=1) for p in (0, 1)]
    return np.array([sign(i) * sums[i % 2][i // 32] for i in range(N)], np.float32)


HELPER = "inline float total(float v) { return simd_sum(v); }\n"
BRANCHES = "uint i = thread_position_in_grid.x;\nif (i % 2) out[i] = {0}(a[i]);\nelse out[i] = -{0}(a[i]);"


@pytest.mark.parametrize("name, header", [
    ("simd_sum", ""), ("total", HELPER), ("TOTAL", "#define TOTAL(v) simd_sum(v)\n"),
    ("TOTAL", "#define INNER(v) simd_sum(v)\n#define TOTAL(v) (0 + INNER(v))\n"),
    ("outer", HELPER + "template <typename T> T outer(T v) { return total(v); }\n"),
    ("TOTAL", HELPER + "#define TOTAL(v) total(v)\n"),
])
def test_two_branches_do_not_meet(name, header):
    expected = by_parity(lambda i: 1 if i % 2 else -1)
    assert np.array_equal(run("metal", BRANCHES.format(name), header), expected)


@pytest.mark.parametrize("name, header", [("total", HELPER), ("TOTAL", "#define TOTAL(v) simd_sum(v)\n")])
def test_lanes_meet_again_behind_a_branch(name, header):
    source = f"uint i = thread_position_in_grid.x; float v = a[i];\nif (i % 32 < 16) v = simd_sum(v);\nout[i] = {name}(v);"
    expected = GROUPS.copy()
    expected[:, :16] = GROUPS[:, :16].sum(axis=1, keepdims=True)
    assert np.array_equal(run("metal", source, header), np.repeat(expected.sum(axis=1), 32))


def test_helper_with_a_barrier_in_a_loop():
    header = ("inline float pass(float v, threadgroup float *s, uint i) {\n    s[i] = v;\n"
              "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    v = s[(i + 1) % 64];\n"
              "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    return v;\n}\n")
    source = ("threadgroup float s[64]; uint i = thread_index_in_threadgroup; float v = a[i];\n"
              "for (int k = 0; k < 3; ++k) v = pass(v, s, i);\nout[i] = v;")
    assert np.array_equal(run("metal", source, header, threadgroup=64), np.roll(X, -3))


def test_header_function_does_not_hide_a_builtin():
    header = "inline half exp(half x) { return x; }\ninline float fract(bool x) { return 7; }\n"
    out = run("metal",
              "uint i = thread_position_in_grid.x; out[i] = exp(a[i] * 0.01) + fract(1.5) + float(exp(half(2)));", header)
    assert np.allclose(out, np.exp(X * np.float32(0.01)) + 0.5 + 2, rtol=1e-6)


def test_own_overload_of_an_atomic():
    header = ("__device__ float atomicMax(float *p, float v) {\n    int old = *(int *)p, seen;\n    do {\n        seen = old;\n"
              "        old = atomicCAS((int *)p, seen, __float_as_int(fmaxf(v, __int_as_float(seen))));\n"
              "    } while (seen != old);\n    return __int_as_float(old);\n}\n")
    source = "atomicMax(out, a[blockIdx.x * blockDim.x + threadIdx.x]); atomicMax((int *)(out + 1), (int)threadIdx.x);"
    out = run("cuda", source, header, outputs=(2,), init_value=0)
    assert out[0] == N and out.view(np.int32)[1] == 31


def test_dynamic_shared_memory_outside_and_inside():
    header = ("extern __shared__ float s[];\n"
              "__device__ float other() { return s[blockDim.x - 1 - threadIdx.x]; }\n")
    source = ("int i = blockIdx.x * blockDim.x + threadIdx.x;\ns[threadIdx.x] = a[i];\n__syncthreads();\n"
              "out[i] = other() + ((float *)s)[0] + reinterpret_cast<const float *>(s)[1];")
    expected = GROUPS[:, ::-1] + GROUPS[:, :1] + GROUPS[:, 1:2]
    assert np.array_equal(run("cuda", source, header, shared_memory=128), expected.ravel())


def test_threadgroup_arrays_of_a_scope_are_apart():
    source = ("uint i = thread_index_in_threadgroup;\nthreadgroup float x[2][N], y;\nx[0][i] = a[i];\n"
              "{ threadgroup float x[N]; x[i] = -1; }\nif (i == 0) y = 5;\n"
              "threadgroup_barrier(mem_flags::mem_threadgroup);\nout[i] = x[0][N - 1 - i] + y;")
    assert np.array_equal(run("metal", source, threadgroup=N, template=[("N", N)]), X[::-1] + 5)


@pytest.mark.parametrize("position", ["blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x + blockDim.x * blockIdx.x",
                                      "static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x",
                                      "2 * (blockIdx.x * blockDim.x + threadIdx.x) / 2"])
def test_position_in_the_grid(position):
    out = run("cuda", f"auto i = {position};\nif (i < size) out[i] = a[i] + i;", threadgroup=24)
    assert np.array_equal(out, X + np.arange(N))


def test_names_of_the_user_win():
    header = "#define dot 3\n#define N 2\nstruct Pair { float xy; };\n"
    source = ("uint size = 1; float T = a[0], half_x = 0.5; Pair p = {1.5}; p.xy *= N;\n"
              "uint i = thread_position_in_grid.x;\n{ uint size = 2; half_x += size; }\nout[i] = T + dot + p.xy + half_x + size;")
    assert np.array_equal(run("metal", source, header), np.full(N, 1 + 3 + 3 + 2.5 + 1, np.float32))


def test_arrays_named_as_the_positions_types():
    """The parameters behind them are of these types."""
    names = ["dim3", "uint3"]
    source = "int i = blockIdx.x * blockDim.x + threadIdx.x; out[i] = dim3[i] + uint3[i] * gridDim.x;"
    kernel = fast.cuda_kernel(name="permute", input_names=names, output_names=["out"], source=source)
    for check in (False, True):
        (out,) = kernel(inputs=[X, X], output_shapes=[(N,)], output_dtypes=["float32"], grid=(N, 1, 1), threadgroup=(32, 1, 1),
                        check=check)
        assert np.array_equal(out, X + X * (N // 32))


def test_atomics_in_a_macro_and_a_counted_loop():
    header = "#define ADD(p, v) atomic_fetch_add_explicit((device atomic_uint *)(p), v, memory_order_relaxed)\n"
    source = "for (uint k = 0; k < 4; ++k) ADD(&out[k], thread_position_in_grid.x);"
    out = run("metal", source, header, outputs=(4,), dtype="uint32", init_value=0)
    assert np.array_equal(out, np.full(4, N * (N - 1) // 2))


def test_specialised_function_with_a_collective():
    header = ("template <typename U> U total(U v) { return simd_sum(v); }\n"
              "template <> int total<int>(int v) { return -simd_sum(v); }\ntemplate uint total<uint>(uint);\n")
    source = "uint i = thread_position_in_grid.x;\nout[i] = i % 2 ? float(total<uint>(uint(a[i]))) : float(total<int>(a[i]));"
    assert np.array_equal(run("metal", source, header), by_parity(lambda i: 1 if i % 2 else -1))


def test_macros_of_metal():
    """What the translator takes for the value of a macro is what the compiler finds."""
    header = ("#if __METAL_VERSION__ == 320 && defined(__METAL__) && defined(__HAVE_BFLOAT__)\ntypedef bfloat wide;\n"
              "#else\ntypedef double wide;\n#endif\n")
    out = run("metal", "out[thread_position_in_grid.x] = __METAL_VERSION__ + __METAL__ + __HAVE_BFLOAT__ + sizeof(wide);", header)
    assert np.all(out == 324)
