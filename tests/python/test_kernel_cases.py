"""The cases that kernels are written wrong in, or that engines get wrong: divergence, early returns, spinning, names."""

import os
import subprocess
import sys
import textwrap

import kernel_tools  # noqa: F401 - sets the cache folder
import numpy as np
import pytest

import invar
import invar.core as mx
from invar.core import fast

pytestmark = pytest.mark.once


def launch(source, *, n=64, group=64, dialect="metal", out=(64,), dtype="int32", header="", init=0, inputs=None, **options):
    make = fast.metal_kernel if dialect == "metal" else fast.cuda_kernel
    inputs = inputs or {}
    kernel = make("k", list(inputs), ["out"], source, header)
    grid, group = (tuple(v) if isinstance(v, tuple) else (v, 1, 1) for v in (n, group))
    return kernel(inputs=list(inputs.values()), output_shapes=[out], output_dtypes=[dtype], grid=grid, threadgroup=group,
                  init_value=init, **options)[0]


BARRIER = {"metal": "threadgroup_barrier(mem_flags::mem_threadgroup);", "cuda": "__syncthreads();"}
PLACE = {"metal": "uint t = thread_position_in_threadgroup.x;\nthreadgroup int s[64];\n",
         "cuda": "int t = threadIdx.x;\n__shared__ int s[64];\n"}


@pytest.mark.parametrize("dialect", ["metal", "cuda"])
def test_return_before_a_barrier(dialect):
    body = PLACE[dialect] + f"s[t] = t;\nif (t >= 40) return;\n{BARRIER[dialect]}\nout[t] = s[39 - t];"
    assert launch(body, dialect=dialect).tolist() == [39 - t for t in range(40)] + [0] * 24


@pytest.mark.parametrize("dialect", ["metal", "cuda"])
def test_break_past_a_barrier(dialect):
    """Threads leave the loop at different turns; those that are still in it wait only for each other's exit."""
    body = PLACE[dialect] + ("s[t] = 0;\nint turns = 0;\nfor (int i = 0; i < 10; ++i) {\n  if (i == int(t) % 5 + 1) return;\n"
                             f"  {BARRIER[dialect]}\n  out[t] = ++turns;\n}}")
    assert launch(body, dialect=dialect).tolist() == [t % 5 + 1 for t in range(64)]


def test_a_collective_under_if():
    body = ("uint t = thread_position_in_threadgroup.x;\nint v = 0;\nif (t % 2 == 0) v = simd_sum(int(t));\n"
            "else v = -simd_sum(1);\nout[t] = v;")
    expected = [(sum(range(t // 32 * 32, t // 32 * 32 + 32, 2))) if t % 2 == 0 else -16 for t in range(64)]
    assert launch(body).tolist() == expected


def test_a_collective_in_a_loop_of_uneven_length():
    body = ("uint t = thread_position_in_threadgroup.x;\nint v = 0;\n"
            "for (uint i = 0; i <= t % 4; ++i) v += simd_sum(1);\nout[t] = v;")
    assert launch(body, n=32, out=(32,)).tolist() == [sum((32, 24, 16, 8)[: t % 4 + 1]) for t in range(32)]


def test_spinning_on_another_thread():
    """Thread 0 waits for a flag that the last thread sets."""
    body = ("uint t = thread_position_in_threadgroup.x;\nthreadgroup atomic_int flag;\n"
            "if (t == 0) atomic_store_explicit(&flag, 0, memory_order_relaxed);\n"
            "threadgroup_barrier(mem_flags::mem_threadgroup);\n"
            "if (t == 0) while (atomic_load_explicit(&flag, memory_order_relaxed) == 0) {}\n"
            "if (t == 63) atomic_store_explicit(&flag, 1, memory_order_relaxed);\nout[t] = 1;")
    assert launch(body).tolist() == [1] * 64


def test_spinning_for_ever_is_an_error():
    body = ("threadgroup atomic_int flag;\natomic_store_explicit(&flag, 0, memory_order_relaxed);\n"
            "while (atomic_load_explicit(&flag, memory_order_relaxed) == 0) {}\nout[0] = 1;")
    with pytest.raises(RuntimeError, match="k"):
        launch(body, n=4, group=4)


def test_a_barrier_over_the_whole_grid_is_an_error():
    body = ("int i = blockIdx.x * blockDim.x + threadIdx.x;\natomicAdd(&out[0], 1);\n"
            "while (atomicAdd(&out[0], 0) < (int)(gridDim.x * blockDim.x)) {}\nout[1 + i % 32] = 1;")
    with pytest.raises(RuntimeError):
        launch(body, n=4096, group=64, dialect="cuda")
    with pytest.raises(ValueError, match=r"k\.cu:1.*grid"):
        launch("cg::this_grid().sync();\nout[0] = 1;", dialect="cuda")


def test_defines_and_names_of_the_library():
    body = ("#define N 3\n#define SQUARE(v) ((v) * (v))\nuint i = thread_position_in_grid.x;\n"
            "float dot = 2, half_x = 0.5, T = 1, length = N, size_t_ = 0;\n"
            "float max_ = SQUARE(dot), metal_size = 4, lane = 1, launch = 1, block = 0;\n"
            "out[i] = int(max_ * length + half_x * 2 + T + metal_size + lane + launch + block + size_t_);")
    assert launch(body, n=4, out=(4,)).tolist() == [20] * 4
    assert launch("#define N 5\nout[thread_position_in_grid.x] = N;", n=4, out=(4,)).tolist() == [5] * 4


def test_names_in_comments_and_strings_do_not_count():
    body = "// thread_position_in_grid, simd_sum(x), texture2d, a_shape\n/* threadgroup_barrier() */\nout[0] = 3;"
    assert launch(body, n=1, group=1, out=(1,)).tolist() == [3]


def test_attributes_behind_macros_and_in_the_header():
    header = "#define INDEX thread_position_in_grid.x\n"
    assert launch("out[INDEX] = INDEX;", header=header, n=5, out=(5,)).tolist() == list(range(5))


@pytest.mark.parametrize("grid, group", [((5, 3, 2), (4, 2, 2)), ((7, 1, 1), (3, 1, 1)), ((1, 9, 4), (8, 4, 3)),
                                         ((33, 2, 1), (32, 2, 1))])
def test_ragged_edge_groups(grid, group):
    """A partial group numbers its threads by its own size."""
    body = ("uint3 g = thread_position_in_grid, t = thread_position_in_threadgroup, s = threads_per_threadgroup;\n"
            "uint index = t.x + s.x * (t.y + s.y * t.z);\nuint at = g.x + grid_size.x * (g.y + grid_size.y * g.z);\n"
            "out[at] = index == thread_index_in_threadgroup ? int(s.x * 100 + s.y * 10 + s.z) : -1;")
    body = body.replace("grid_size", "threads_per_grid")
    out = launch(body, n=grid, group=group, out=tuple(reversed(grid)))
    gz, gy, gx = np.indices(tuple(reversed(grid)))
    size = [np.minimum(b, n - g // b * b) for g, n, b in zip((gx, gy, gz), grid, [min(a, b) for a, b in zip(group, grid)])]
    assert (out == size[0] * 100 + size[1] * 10 + size[2]).all()


def test_padding_threads_run_in_cuda():
    body = "atomicAdd(&out[0], 1);\nif (threadIdx.x == 0) atomicAdd(&out[1], (int)blockDim.x);"
    assert launch(body, n=70, group=32, dialect="cuda", out=(2,)).tolist() == [96, 96]


def test_negative_template_arguments():
    body = "out[thread_position_in_grid.x] = N * 2 + (FLAG ? 1 : 0);"
    kernel = fast.metal_kernel("negative", [], ["out"], body)
    call = dict(inputs=[], output_shapes=[(1,)], output_dtypes=["int32"], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    assert kernel(**call, template=[("N", -3), ("FLAG", True)])[0].tolist() == [-5]
    assert kernel(**call, template=[("N", -3), ("FLAG", False)])[0].tolist() == [-6]


def test_shape_parameters_with_several_outputs_and_no_attribute():
    kernel = fast.metal_kernel("shapes", ["a"], ["x", "y"], "x[0] = a_shape[0];\ny[0] = a_ndim + a_strides[0];")
    outputs = kernel(inputs=[np.ones((2, 3), np.float32)], output_shapes=[(1,), (1,)], output_dtypes=["int32", "int32"],
                     grid=(1, 1, 1), threadgroup=(1, 1, 1))
    assert [int(o[0]) for o in outputs] == [2, 5]


# ---- check mode --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect, place, array", [("metal", "k.metal:2", "out"), ("cuda", "k.cu:2", "out")])
def test_check_mode_names_line_thread_and_index(dialect, place, array):
    index = {"metal": "uint i = thread_position_in_grid.x;", "cuda": "int i = threadIdx.x;"}[dialect]
    with pytest.raises(invar.KernelCheckError, match=place) as caught:
        launch(index + "\nout[i + 1] = i;", n=8, group=8, out=(8,), dialect=dialect, check=True)
    report = caught.value.reports[0]
    assert isinstance(report, invar.KernelReport) and report.kind == "out-of-bounds write"
    assert (report.line, report.array, report.index, report.thread) == (2, "out", 8, (7, 0, 0))
    assert all(str(r) in str(caught.value) for r in caught.value.reports)


def test_check_mode_by_environment(monkeypatch):
    bad = "uint i = thread_position_in_grid.x;\nthreadgroup int s[8];\ns[i] = i;\nout[i] = s[7 - i];"
    launch(bad, n=8, group=8, out=(8,))
    monkeypatch.setenv("INVAR_KERNEL_CHECK", "1")
    with pytest.raises(invar.KernelCheckError) as caught:
        launch(bad, n=8, group=8, out=(8,))
    assert any(r.kind == "race" and {r.line, r.other_line} == {3, 4} for r in caught.value.reports)
    launch(bad, n=8, group=8, out=(8,), check=False)
    same = "out[0] = 3;"
    launch(same, n=8, group=8, out=(1,))
    monkeypatch.setenv("INVAR_KERNEL_CHECK", "strict")
    with pytest.raises(invar.KernelCheckError):
        launch(same, n=8, group=8, out=(1,))
    monkeypatch.setenv("INVAR_KERNEL_CHECK", "maybe")
    with pytest.raises(ValueError, match="INVAR_KERNEL_CHECK"):
        launch(same, n=8, group=8, out=(1,))


def test_a_clean_kernel_raises_nothing_in_check_mode():
    body = PLACE["metal"] + f"s[t] = t;\n{BARRIER['metal']}\nout[t] = s[63 - t];"
    assert launch(body, check=True).tolist() == list(range(63, -1, -1))
    assert launch(body, check="strict").tolist() == list(range(63, -1, -1))


# ---- the cache and the compiler -----------------------------------------------------------------------

PROGRAM = textwrap.dedent("""
    import numpy as np
    from invar.core import fast
    kernel = fast.metal_kernel("k", ["a"], ["out"], "out[thread_position_in_grid.x] = a[thread_position_in_grid.x] + {value};")
    print(kernel(np.ones(3, np.float32)).tolist())
""")


def python(program, **environment):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
                          env=os.environ | {name: str(value) for name, value in environment.items()})


def test_known_kernels_in_new_processes(tmp_path):
    for turn in range(3):
        assert python(PROGRAM.format(value=2), INVAR_CACHE_DIR=tmp_path).stdout == "[3.0, 3.0, 3.0]\n"
        entries = list(tmp_path.glob("*.so"))
        assert len(entries) == 1 and entries[0].stat().st_mode & 0o777 == 0o600
        if turn == 0:
            inode = entries[0].stat().st_ino
        if turn == 1:
            assert entries[0].stat().st_ino == inode  # it was not made again
            entries[0].write_bytes(entries[0].read_bytes()[:1000])
    assert tmp_path.stat().st_mode & 0o022 == 0


def test_two_processes_compile_one_kernel(tmp_path):
    program = PROGRAM.format(value=5)
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                                env=os.environ | {"INVAR_CACHE_DIR": str(tmp_path)}) for _ in range(3)]
    assert [process.communicate(timeout=120)[0] for process in running] == ["[6.0, 6.0, 6.0]\n"] * 3
    assert len(list(tmp_path.glob("*.so"))) == 1 and not list(tmp_path.glob(".tmp-*"))


def test_same_name_other_source():
    for value in (1.0, 2.0, 1.0):
        kernel = fast.metal_kernel("same", ["a"], ["out"],
                                   f"out[thread_position_in_grid.x] = a[thread_position_in_grid.x] * {value};")
        assert kernel(mx.ones(2)).tolist() == [value, value]


@pytest.mark.parametrize("dialect", ["metal", "cuda"])
@pytest.mark.parametrize("name", ["2d", "3", "1_x", "9" * 127])
def test_a_name_may_begin_with_a_digit(name, dialect):
    make = fast.metal_kernel if dialect == "metal" else fast.cuda_kernel
    assert make(name, ["a"], ["out"], "out[0] = a[0] + 1;")(mx.zeros(1)).tolist() == [1]
    with pytest.raises(invar.CompileError, match=f"{name}.header:2: error: .*nothing"):
        make(name, ["a"], ["out"], "out[0] = f();", "int f() {\nreturn nothing; }")(mx.zeros(1))


@pytest.mark.parametrize("name", ["", "1-d", "1.5", "9" * 1024, "1 x", "invar_x", "\u0661"])
def test_names_that_no_kernel_has(name):
    with pytest.raises(ValueError, match="metal_kernel: name: expected at most 1023 letters, digits and underscores"):
        fast.metal_kernel(name, ["a"], ["out"], "out[0] = a[0];")


def test_no_compiler_and_no_folder(tmp_path):
    result = python(PROGRAM.format(value=3), INVAR_CACHE_DIR=tmp_path, INVAR_CXX="/nowhere/c++")
    assert result.returncode and "CompileError" in result.stderr and "INVAR_CXX" in result.stderr
    result = python("import sys\nsys.modules['ziglang'] = None\n" + PROGRAM.format(value=3),
                    INVAR_CACHE_DIR=tmp_path, PATH="/nowhere")
    assert result.returncode and "no C++ compiler" in result.stderr
    result = python(PROGRAM.format(value=4), INVAR_CACHE_DIR="", HOME="/dev/null")
    assert result.stdout == "[5.0, 5.0, 5.0]\n", result.stderr


def test_a_chosen_folder_that_cannot_be_used_is_an_error(tmp_path):
    file, shared = tmp_path / "file", tmp_path / "shared"
    file.touch()
    shared.mkdir()
    shared.chmod(0o777)
    for folder, why in ((file, "Not a directory"), (file / "below", "Not a directory"), ("/proc/none/cache", "cannot be made"),
                        (shared, "others can write to it"), ("/" + "a" * 5000, "its path is too long")):
        result = python(PROGRAM.format(value=4), INVAR_CACHE_DIR=folder)
        last = result.stderr.splitlines()[-1]
        assert last.startswith("ValueError: metal_kernel: INVAR_CACHE_DIR: expected a folder, "), result.stderr
        assert f"got '{str(folder)[:200]}'" in last and why in last


def test_the_wheels_compiler_where_there_is_no_other(tmp_path):
    pytest.importorskip("ziglang", reason="needs the package ziglang")
    result = python(PROGRAM.format(value=6), INVAR_CACHE_DIR=tmp_path, PATH="/nowhere")
    assert result.stdout == "[7.0, 7.0, 7.0]\n", result.stderr


STRUCTS = """
import invar.core as mx
from invar.core import fast
header = "struct wide { float v[40]; };"
source = '''__shared__ wide s[4];
wide mine = {}, other;
mine.v[39] = a[threadIdx.x];
s[threadIdx.x] = mine;
__syncthreads();
other = s[3 - threadIdx.x];
out[threadIdx.x] = other.v[39];'''
kernel = fast.cuda_kernel("structs", ["a"], ["out"], source, header)
print(kernel(inputs=[mx.arange(4.0)], output_shapes=[(4,)], output_dtypes=[mx.float32], grid=(4, 1, 1), threadgroup=(4, 1, 1),
             check=True)[0].tolist())
"""


def test_check_mode_with_the_wheels_compiler(tmp_path):
    """A newer clang than most machines', which copies structs by functions of the sanitizer's, and ends the process at an index
    beyond an array and at a sum that overflows where it is not told otherwise."""
    pytest.importorskip("ziglang", reason="needs the package ziglang")
    result = python(STRUCTS, INVAR_CACHE_DIR=tmp_path, PATH="/nowhere")
    assert result.stdout == "[3.0, 2.0, 1.0, 0.0]\n", result.stderr
    result = python(STRUCTS.replace("s[3 - ", "s[4 - "), INVAR_CACHE_DIR=tmp_path, PATH="/nowhere")
    assert result.returncode == 1 and "structs.cu:6: out-of-bounds read: s[4]" in result.stderr
    result = python(STRUCTS.replace("mine.v[39]", "float own[3]; own[threadIdx.x] = mine.v[39]"),
                    INVAR_CACHE_DIR=tmp_path, PATH="/nowhere")
    assert result.returncode == 1 and "structs.cu:3: out-of-bounds index: element 3 of an array of 3" in result.stderr
