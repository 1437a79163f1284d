"""metal_kernel and cuda_kernel as Python calls them: both forms, arguments, errors, gradients."""

import re
import sys
import warnings
from types import SimpleNamespace

import kernel_tools  # noqa: F401 - sets the cache folder
import ml_dtypes
import numpy as np
import pytest

import invar
import invar.core as mx
from invar.core import fast

pytestmark = pytest.mark.once

F32 = np.float32
ADD = "uint i = thread_position_in_grid.x;\nout[i] = a[i] + b[i];"


def add_kernel(**options):
    return fast.metal_kernel("add", ["a", "b"], ["out"], ADD, **options)


def one_output(kernel, *inputs, n, dtype=mx.float32, **options):
    return kernel(inputs=list(inputs), output_shapes=[(n,)], output_dtypes=[dtype],
                  grid=(n, 1, 1), threadgroup=(64, 1, 1), **options)[0]


# ---- the documentation's examples ---------------------------------------------------------------------

METAL_EXAMPLE = """
import mlx.core as mx
import mlx.core.fast as fast

# Define a simple element-wise multiply kernel
source = '''
uint elem = thread_position_in_grid.x;
if (elem < out.size()) {
    out[elem] = in0[elem] * in1[elem];
}
'''

# Register the kernel
kernel = fast.metal_kernel(
    name="elem_multiply",
    input_names=["in0", "in1"],
    output_names=["out"],
    source=source
)

# Use the kernel
a = mx.array([1.0, 2.0, 3.0])
b = mx.array([4.0, 5.0, 6.0])
result = kernel(a, b)
print(result)  # [4.0, 10.0, 18.0]
"""

CUDA_EXAMPLE = """
import mlx.core as mx
import mlx.core.fast as fast

# Define a simple element-wise add kernel
source = '''
int idx = blockIdx.x * blockDim.x + threadIdx.x;
if (idx < size) {
    out[idx] = in0[idx] + in1[idx];
}
'''

# Register the kernel
kernel = fast.cuda_kernel(
    name="elem_add",
    input_names=["in0", "in1"],
    output_names=["out"],
    source=source
)

# Use the kernel
a = mx.array([1.0, 2.0, 3.0])
b = mx.array([4.0, 5.0, 6.0])
result = kernel(a, b)
print(result)  # [5.0, 7.0, 9.0]
"""


@pytest.mark.parametrize("text, expected", [(METAL_EXAMPLE, [4.0, 10.0, 18.0]), (CUDA_EXAMPLE, [5.0, 7.0, 9.0])])
def test_short_form_examples(text, expected, capsys):
    names = {}
    exec(text.replace("mlx", "invar"), names)
    assert names["result"].dtype == F32 and names["result"].tolist() == expected
    numbers = [float(word) for word in re.findall(r"[\d.]+", capsys.readouterr().out)]
    assert numbers == expected


EXP = """
    uint elem = thread_position_in_grid.x;
    // Utils from `mlx/backend/metal/kernels/utils.h` are automatically included
    uint loc = elem_to_loc(elem, inp_shape, inp_strides, inp_ndim);
    T tmp = inp[loc];
    // Output arrays are always row contiguous
    out[elem] = metal::exp(tmp);
"""


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_mlx_form_with_strides_and_template(dtype):
    kernel = fast.metal_kernel(name="myexp_strided", input_names=["inp"], output_names=["out"], source=EXP,
                               ensure_row_contiguous=False)
    a = mx.random.normal(shape=(4, 16)).astype(dtype)[::2]
    outputs = kernel(inputs=[a], template=[("T", dtype)], grid=(a.size, 1, 1), threadgroup=(256, 1, 1), output_shapes=[a.shape],
                     output_dtypes=[a.dtype], stream=None)
    assert isinstance(outputs, list) and len(outputs) == 1 and outputs[0].dtype == a.dtype
    unit = {mx.float32: 2.0**-22, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}[dtype]
    np.testing.assert_allclose(outputs[0].astype(np.float64), np.exp(a.astype(np.float64)), rtol=unit)


# ---- inputs and outputs ------------------------------------------------------------------------------


def test_python_numbers_as_inputs():
    kernel = fast.metal_kernel("numbers", ["flag", "small", "large", "real"], ["out"],
                               "out[0] = sizeof(flag) * 1000 + sizeof(small) * 100 + sizeof(large) * 10 + sizeof(real);\n"
                               "out[1] = flag ? small : 0;\nout[2] = large;\nout[3] = real * 4;")
    out = kernel(inputs=[True, -7, 2**40, 0.25], output_shapes=[(4,)], output_dtypes=["int64"], grid=(1, 1, 1),
                 threadgroup=(1, 1, 1))[0]
    assert out.tolist() == [1484, -7, 2**40, 1]


def test_numpy_floats_as_inputs():
    """1 / np.sqrt(d) is a np.float64, which derives from float. Metal has no such type; CUDA has."""
    metal = fast.metal_kernel("scaled", ["x", "s"], ["out"], "out[0] = x[0] * s; out[1] = sizeof(s);")
    cuda = fast.cuda_kernel("scaled", ["x", "s"], ["out"], "out[0] = x[0] * *s; out[1] = sizeof(*s);")
    for kernel, size in ((metal, 4), (cuda, 8)):
        assert one_output(kernel, mx.array([8.0]), 1 / np.sqrt(16), n=2).tolist() == [2.0, size]
    short = fast.metal_kernel("short", ["x", "s"], ["out"], "uint i = thread_position_in_grid.x; out[i] = x[i] * s[i];")
    assert short(mx.array([8.0, 4.0]), np.float64(0.5)).dtype == np.float32


def test_cuda_scalars_are_pointers():
    kernel = fast.cuda_kernel("scalar", ["x", "s"], ["out"], "out[threadIdx.x] = x[threadIdx.x] * *s + s[0];")
    assert one_output(kernel, mx.array([1.0, 2.0]), 3.0, n=2).tolist() == [6.0, 9.0]


@pytest.mark.parametrize("library", ["torch", "jax.numpy", "mlx.core"])
def test_other_libraries_arrays(library):
    module = pytest.importorskip(library)
    array = module.tensor if library == "torch" else module.array
    a, b = array([1.0, 2.0, 3.0]), array([4.0, 5.0, 6.0])
    out = add_kernel()(a, b)
    assert type(out) is type(a) and out.tolist() == [5.0, 7.0, 9.0]
    mixed = one_output(add_kernel(), 1.0 * a, np.array([4, 5, 6], F32), n=3)
    assert type(mixed) is type(a) and mixed.tolist() == [5.0, 7.0, 9.0]


def test_torch_dtypes_and_halves():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    kernel = fast.metal_kernel("twice", ["x"], ["out"], "uint i = thread_position_in_grid.x;\nout[i] = x[i] * T(2);")
    out = one_output(kernel, x, n=2, dtype=torch.bfloat16, template=[("T", torch.bfloat16)])
    assert out.dtype == torch.bfloat16 and out.tolist() == [3.0, -4.0]


def test_outputs_of_every_kind():
    names = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32"]
    kernel = fast.metal_kernel("kinds", [], [f"o{i}" for i in range(len(names))],
                               "".join(f"o{i}[thread_position_in_grid.x] = 1;\n" for i in range(len(names))))
    outputs = kernel(inputs=[], output_shapes=[(3,)] * len(names), output_dtypes=names, grid=(3, 1, 1), threadgroup=(3, 1, 1))
    assert [str(o.dtype) for o in outputs] == names
    assert all(o.astype(np.float64).tolist() == [1, 1, 1] for o in outputs)
    assert all(o.ctypes.data % 64 == 0 for o in outputs)


def test_init_value_and_untouched_outputs():
    kernel = fast.metal_kernel("one", [], ["out"], "out[thread_position_in_grid.x] = 9;")
    out = kernel(inputs=[], output_shapes=[(2, 3)], output_dtypes=["int32"],
                 grid=(2, 1, 1), threadgroup=(1, 1, 1), init_value=-1)[0]
    assert out.tolist() == [[9, 9, -1], [-1, -1, -1]]
    with pytest.raises(ValueError, match="init_value"):
        kernel(inputs=[], output_shapes=[(2,)], output_dtypes=["uint8"], grid=(1, 1, 1), threadgroup=(1, 1, 1), init_value=300)


def test_inputs_are_not_written_and_not_kept():
    a = np.arange(6, dtype=F32)[::-1]
    before = a.copy()
    add_kernel()(a, a)
    assert (a == before).all()


def test_verbose_prints_the_text(capsys):
    one_output(add_kernel(), mx.ones(2), mx.ones(2), n=2)
    assert capsys.readouterr().out == ""
    one_output(add_kernel(), mx.ones(2), mx.ones(2), n=2, verbose=True)
    assert "add.metal" in capsys.readouterr().out


def test_generated_text():
    text = add_kernel().generate(mx.ones(2), mx.ones(2), target="cuda")
    assert "__global__" in text
    with pytest.raises(ValueError, match="target"):
        add_kernel().generate(mx.ones(2), mx.ones(2), target="tpu")


# ---- the short form --------------------------------------------------------------------------------


def test_short_form_broadcasts():
    rng = np.random.default_rng(3)
    kernel = add_kernel()
    for shapes in [((4, 1), (1, 5)), ((3,), (2, 3)), ((), (7,)), ((1,), (1, 1, 1)), ((2, 3, 4), (3, 1)), ((0, 3), (1, 3))]:
        a, b = (np.asarray(rng.standard_normal(shape), F32) for shape in shapes)
        out = kernel(a, b)
        assert out.shape == (a + b).shape and (out == a + b).all()
    assert kernel(np.float32(2), 3.0).shape == () and kernel(np.float32(2), 3.0) == 5
    with pytest.raises(ValueError, match="broadcast"):
        kernel(mx.ones(2), mx.ones(3))


def test_short_form_without_copies_of_contiguous_inputs():
    """ensure_row_contiguous=False still expands the smaller input."""
    a, b = mx.random.normal((4, 5)), mx.random.normal((5,))
    assert (add_kernel(ensure_row_contiguous=False)(a, b) == a + b).all()
    assert (add_kernel(ensure_row_contiguous=False)(a, a[:, :1]) == a + a[:, :1]).all()


@pytest.mark.parametrize("a, b, expected", [
    ("float16", "bfloat16", "float32"), ("float16", "float32", "float32"),
    ("int32", "float16", "float16"), ("uint8", "int8", "int16"),
    ("bool", "uint8", "uint8"), ("int64", "uint32", "int64"), ("uint32", "int32", "int64"), ("bool", "bool", "bool"),
    ("int16", "int64", "int64"), ("bfloat16", "bfloat16", "bfloat16"),
])
def test_short_form_promotes(a, b, expected):
    one = lambda name: np.ones(3, ml_dtypes.bfloat16 if name == "bfloat16" else name)  # noqa: E731
    kernel = fast.metal_kernel("promote", ["a", "b"], ["out"], "out[thread_position_in_grid.x] = 1;")
    assert str(kernel(one(a), one(b)).dtype) == expected
    assert str(kernel(one(a), 2.5).dtype) == a  # Python numbers never promote


def test_short_form_size_and_several_outputs():
    kernel = fast.cuda_kernel("both", ["a"], ["double_of", "size_of"],
                              "int i = blockIdx.x * blockDim.x + threadIdx.x;\nif (i >= size) return;\n"
                              "double_of[i] = 2 * a[i];\nsize_of[i] = double_of.size();")
    outputs = kernel(np.arange(300, dtype=np.int32).reshape(3, 100))
    assert isinstance(outputs, list) and [o.shape for o in outputs] == [(3, 100)] * 2
    assert (outputs[0].ravel() == 2 * np.arange(300)).all() and (outputs[1] == 300).all()


def test_forms_do_not_mix():
    with pytest.raises(TypeError, match="by position"):
        add_kernel()(mx.ones(2), mx.ones(2), grid=(2, 1, 1))
    with pytest.raises(TypeError, match="output_shapes"):
        add_kernel()(inputs=[mx.ones(2), mx.ones(2)])


def test_seventh_argument_in_either_form():
    """shared_memory in MLX's signature, atomic_outputs in the short one."""
    body = "extern __shared__ int s[];\ns[threadIdx.x] = threadIdx.x;\n__syncthreads();\nout[threadIdx.x] = s[15 - threadIdx.x];"
    kernel = fast.cuda_kernel("dynamic", [], ["out"], body, "", True, 64)
    out = kernel(inputs=[], output_shapes=[(16,)], output_dtypes=["int32"], grid=(16, 1, 1), threadgroup=(16, 1, 1))[0]
    assert out.tolist() == list(range(15, -1, -1))
    kernel = fast.cuda_kernel("counter", ["a"], ["out"], "atomicAdd(&out[0], a[threadIdx.x]);", "", True, True)
    out = kernel(inputs=[np.arange(5, dtype=np.int32)], output_shapes=[(1,)], output_dtypes=["int32"],
                 grid=(5, 1, 1), threadgroup=(5, 1, 1), init_value=0)[0]
    assert out.tolist() == [10]


# ---- errors ----------------------------------------------------------------------------------------

GOOD = {"inputs": [np.ones(4, F32)] * 2, "output_shapes": [(4,)], "output_dtypes": ["float32"], "grid": (4, 1, 1),
        "threadgroup": (4, 1, 1)}


@pytest.mark.parametrize("change, error, word", [
    ({"inputs": [np.ones(4, F32)]}, ValueError, "inputs"), ({"inputs": np.ones(4, F32)}, TypeError, "inputs"),
    ({"inputs": [np.ones(4, F32), "text"]}, TypeError, "b: expected an array"),
    ({"inputs": [np.ones(4, F32), None]}, TypeError, "b"),
    ({"inputs": [np.ones(4, F32), np.ones(4)]}, ValueError, "float64"), ({"inputs": [np.ones(4, F32), object()]}, TypeError, "b"),
    ({"inputs": [np.ones(4, F32), 2**70]}, ValueError, "64 bits"),
    ({"output_shapes": []}, ValueError, "output_shapes"), ({"output_shapes": [(4,), (4,)]}, ValueError, "output_shapes"),
    ({"output_shapes": [4]}, TypeError, "output_shapes"), ({"output_shapes": [(-1,)]}, ValueError, "output_shapes"),
    ({"output_shapes": [(1,) * 9]}, ValueError, "output_shapes"), ({"output_shapes": [(2.0,)]}, TypeError, "output_shapes"),
    ({"output_dtypes": []}, ValueError, "output_dtypes"), ({"output_dtypes": ["floaty"]}, ValueError, "floaty"),
    ({"output_dtypes": [3.5]}, TypeError, "dtype"), ({"output_dtypes": [None]}, TypeError, "dtype"),
    ({"output_dtypes": ["float64"]}, ValueError, "float64"),
    ({"grid": (4, 1)}, ValueError, "grid"), ({"grid": (4, 0, 1)}, ValueError, "grid"), ({"grid": (-4, 1, 1)}, ValueError, "grid"),
    ({"grid": 4}, TypeError, "grid"), ({"grid": (4.0, 1, 1)}, TypeError, "grid"), ({"grid": (2**31, 1, 1)}, ValueError, "grid"),
    ({"threadgroup": (2048, 1, 1)}, ValueError, "threadgroup"), ({"threadgroup": (32, 33, 1)}, ValueError, "threadgroup"),
    ({"threadgroup": (0, 1, 1)}, ValueError, "threadgroup"), ({"threadgroup": [4, 1]}, ValueError, "threadgroup"),
    ({"template": [("T", 1.5)]}, ValueError, "template"), ({"template": [("T", None)]}, ValueError, "template"),
    ({"template": [("T", "no type")]}, ValueError, "template"), ({"template": [("T",)]}, ValueError, "template"),
    ({"template": [("1T", 1)]}, ValueError, "template"), ({"template": [("int", 1)]}, ValueError, "keywords"),
    ({"template": [("thread_position_in_grid", 1)]}, ValueError, "got 'thread_position_in_grid'"),
    ({"template": [("T", 2**31)]}, ValueError, "template"), ({"template": [("T", np.int32(4))]}, ValueError, "an int or a dtype"),
    ({"template": [("T", 1), ("T", 2)]}, ValueError, "T"), ({"template": 5}, TypeError, "template"),
    ({"template": [("T\0", 1)]}, ValueError, "template"), ({"template": [("\ud800", 1)]}, ValueError, "metal_kernel: template: "),
    ({"template": [("a", 1)]}, ValueError, "a"), ({"init_value": "x"}, TypeError, "init_value"),
    ({"check": "perhaps"}, ValueError, "check: expected True, False or 'strict', got 'perhaps'"),
    ({"check": 1}, TypeError, "check"), ({"stream": "cpu"}, TypeError, "stream"),
    ({"threads": 3}, TypeError, "threads"),
])
def test_wrong_calls(change, error, word, tmp_path, monkeypatch):
    """Found before anything is compiled."""
    monkeypatch.setenv("INVAR_CACHE_DIR", str(tmp_path))
    with pytest.raises(error, match=re.escape(word)):
        fast.metal_kernel("never_compiled", ["a", "b"], ["out"], ADD)(**(GOOD | change))
    assert not list(tmp_path.glob("*.so"))


def test_inputs_that_are_no_list_where_mlx_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx.core", SimpleNamespace(array=dict))
    for inputs in (3, np.bool_(1), object()):
        with pytest.raises(TypeError, match="^metal_kernel: inputs: expected"):
            add_kernel()(**(GOOD | {"inputs": inputs}))


@pytest.mark.parametrize("change, error, word", [
    ({"name": "no name"}, ValueError, "name"), ({"name": 3}, TypeError, "name"), ({"name": ""}, ValueError, "name"),
    ({"input_names": "a"}, TypeError, "input_names"), ({"input_names": ["a", 3]}, TypeError, "input_names"),
    ({"input_names": ["a", "a"]}, ValueError, "twice"), ({"output_names": []}, ValueError, "output_names"),
    ({"output_names": ["a"]}, ValueError, "twice"), ({"source": None}, TypeError, "source"),
    ({"source": b"x"}, TypeError, "source"),
    ({"source": "x\0y"}, ValueError, "source: expected text without a null character, got one at 1"),
    ({"header": "//\ud800"}, ValueError, "header: expected text without half a surrogate pair, got one at 2"),
    ({"input_names": ["a\0b", "b"]}, ValueError, "input_names: expected text without a null character"),
    ({"header": 3}, TypeError, "header"),
    ({"ensure_row_contiguous": "yes"}, TypeError, "ensure_row_contiguous"), ({"atomic_outputs": 2}, TypeError, "atomic_outputs"),
    ({"compile_options": {"speed": 1}}, ValueError, "speed"), ({"compile_options": {"math_mode": "quick"}}, ValueError, "quick"),
    ({"compile_options": {"math_mode": 1}}, ValueError, "math_mode"), ({"compile_options": "fast"}, TypeError, "compile_options"),
    ({"input_names": ["a", "for"]}, ValueError,
     "input_names: expected names that are neither keywords nor built-in variables, got 'for'"),
    ({"output_names": ["device"]}, ValueError, "built-in variables, got 'device'"),
    ({"input_names": ["a", "thread_position_in_grid"]}, ValueError, "built-in variables, got 'thread_position_in_grid'"),
    ({"vjp": 3}, TypeError, "vjp"), ({"source": "texture2d<float> t;"}, ValueError, "k.metal:1"),
])
def test_wrong_kernels(change, error, word):
    good = {"name": "k", "input_names": ["a", "b"], "output_names": ["out"], "source": ADD}
    with pytest.raises(error, match=re.escape(word)):
        fast.metal_kernel(**(good | change))


def test_a_compile_error_shows_the_users_line():
    kernel = fast.metal_kernel("broken", ["a"], ["out"],
                               "uint i = thread_position_in_grid.x;\nfloat v = undeclared + a[i];\nout[i] = v;")
    with pytest.raises(invar.CompileError) as caught:
        kernel(mx.ones(3))
    text = str(caught.value)
    assert "broken.metal:2: error:" in text and "undeclared" in text and "float v = undeclared + a[i];" in text
    assert "invar_" not in text and "kernel.cpp" not in text and isinstance(caught.value, RuntimeError)


def test_a_name_put_together_of_parameters_is_cut_in_messages():
    name = "k_" + 90 * "part_7_"
    kernel = fast.metal_kernel(name, ["a"], ["out"], "uint i = thread_position_in_grid.x;\nout[i] = a[i] + nothing;")
    with pytest.raises(invar.CompileError, match=r"metal_kernel: k_part_7_part\w*\.\.\.\.metal:2: error: .*nothing") as caught:
        kernel(mx.ones(3))
    assert name not in str(caught.value)


def test_a_line_goes_on_behind_a_backslash_and_blanks():
    """The macro's text ended there, and its barrier was not found."""
    header = "#define STEP shared[i] = a[i]; /* one */ \\ \t\n  /* two */ \\\r\n threadgroup_barrier(mem_flags::mem_threadgroup);\n"
    body = "uint i = thread_position_in_grid.x;\nthreadgroup float shared[40];\nSTEP\nout[i] = shared[39 - i];"
    kernel = fast.metal_kernel("k", ["a"], ["out"], body, header=header)
    a = np.arange(40, dtype=np.float32)
    (out,) = kernel(inputs=[a], output_shapes=[(40,)], output_dtypes=["float32"], grid=(40, 1, 1), threadgroup=(40, 1, 1))
    np.testing.assert_array_equal(out, a[::-1])


@pytest.mark.parametrize("line", ["out[i] = v.xyz.z;", "v.xz = float2(3);", "out[i] = packed_float2(v).yz.y;"])
def test_a_swizzle_names_only_what_the_vector_has(line):
    """xyz of a float2 had y twice, and a store to xz went past the vector."""
    kernel = fast.metal_kernel("k", ["a"], ["out"], "uint i = thread_position_in_grid.x; float2 v = float2(a[i], 2);\n" + line)
    with pytest.raises(invar.CompileError, match="k.metal:2: .*a swizzle names an element that the vector does not have"):
        kernel(np.ones(4, np.float32))


def test_an_error_in_the_header_and_deep_in_a_template():
    header = ("template <typename T> T inner(T v) { return v.no_such_member; }\n"
              "template <typename T> T outer(T v) { return inner(v) + 1; }\n")
    kernel = fast.metal_kernel("deep", ["a"], ["out"], "uint i = thread_position_in_grid.x;\nout[i] = outer(a[i]);", header)
    with pytest.raises(invar.CompileError, match=r"deep\.header:1: error:.*no_such_member"):
        kernel(mx.ones(3))


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("last", ["out[i] = t[i];", "threadgroup_barrier(mem_flags::mem_none);\nout[i] = t[i];"])
def test_local_variables_larger_than_a_stack(last, check):
    body = "uint i = thread_position_in_grid.x;\nfloat t[400000];\nfor (int j = 0; j < 400000; j++) t[j] = a[j % 3];\n"
    with pytest.raises(invar.CompileError, match=r"a thread's local variables take 1\d{6} bytes, and at most 524288 are there"):
        one_output(fast.metal_kernel("wide", ["a"], ["out"], body + last), mx.ones(3), n=3, check=check)
    fits = fast.metal_kernel("fits", ["a"], ["out"], (body + last).replace("400000", "120000"))
    assert one_output(fits, mx.ones(3), n=3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("dtype, error", [
    ("float33", ValueError), (object, ValueError), (None, TypeError), (3, TypeError), (np.float32(4), TypeError),
    (np.zeros(2, np.float32), TypeError)])
def test_a_wrong_output_type_names_operation_and_argument(dtype, error):
    with pytest.raises(error, match="metal_kernel: output_dtypes: expected .*, got "):
        one_output(add_kernel(), mx.ones(3), mx.ones(3), n=3, dtype=dtype)


def test_an_unwritten_output_has_no_line():
    kernel = fast.metal_kernel("idle", [], ["out"], "if (thread_position_in_grid.x == 0) out[0] = 1;")
    with pytest.raises(invar.KernelCheckError, match=r"^idle\.metal: unwritten output: no thread writes out\[1\]"):
        one_output(kernel, n=3, check=True)


def test_the_extent_of_dynamic_shared_memory_is_told_in_bytes():
    body = "extern __shared__ float s[];\ns[threadIdx.x] = 1;\n__syncthreads();\nout[threadIdx.x] = s[threadIdx.x];"
    kernel = fast.cuda_kernel("small", [], ["out"], body, shared_memory=64)
    sentence = r"small\.cu:2: out-of-bounds write: extern __shared__\[16\], where only 64 bytes "
    with pytest.raises(invar.KernelCheckError, match=sentence):
        one_output(kernel, n=17, check=True)


def test_warnings_are_not_told_beside_an_error():
    body = "uint i = thread_position_in_grid.x;\nchar c = 3000;\nout[i] = a[i] * undeclared;"
    with pytest.raises(invar.CompileError) as caught:
        fast.metal_kernel("warned", ["a"], ["out"], body)(mx.ones(3))
    assert "warned.metal:3: error:" in str(caught.value) and "warned.metal:2" not in str(caught.value)


def test_too_much_threadgroup_memory():
    kernel = fast.metal_kernel("large", [], ["out"], "threadgroup float t[9000];\nt[0] = 1;\nout[0] = t[0];")
    with pytest.raises(ValueError, match="32768"):
        kernel(inputs=[], output_shapes=[(1,)], output_dtypes=["float32"], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    for bytes_ in (300000, 2**63, -1, -(2**70)):
        with pytest.raises(ValueError, match="^cuda_kernel: shared_memory: expected"):
            fast.cuda_kernel("large", [], ["out"], "", shared_memory=bytes_)


def test_precompiled_code_needs_a_gpu():
    with pytest.raises(invar.DeviceError, match="NVIDIA GPU"):
        fast.precompiled_cuda_kernel(name="k", compiled_source=b"x", inputs=[], output_shapes=[(1,)], output_dtypes=["float32"],
                                     scalars=[1, True, 2.5], grid=(1, 1, 1), threadgroup=(1, 1, 1))
    good = {"name": "k", "compiled_source": "x", "inputs": [], "output_shapes": [(1,)], "output_dtypes": ["float32"], "scalars": [],
            "grid": (1, 1, 1), "threadgroup": (1, 1, 1)}
    for wrong, error in (({"scalars": [1 << 40]}, ValueError), ({"scalars": ["1"]}, TypeError), ({"scalars": None}, TypeError),
                         ({"output_dtypes": []}, ValueError), ({"name": "a b"}, ValueError), ({"compiled_source": b""}, ValueError),
                         ({"scalars": [1] * 65}, ValueError), ({"shared_memory": "1"}, TypeError),
                         ({"shared_memory": 2**70}, ValueError)):
        with pytest.raises(error, match="^precompiled_cuda_kernel: "):
            fast.precompiled_cuda_kernel(**good | wrong)
    with pytest.raises(TypeError):
        fast.precompiled_cuda_kernel("k", b"", [], [], [], [], (1, 1, 1), (1, 1, 1))


# ---- math modes ------------------------------------------------------------------------------------


def test_math_modes():
    body = "uint i = thread_position_in_grid.x;\nout[i] = a[i] * a[i] + b[i];\n#if __FAST_MATH__\nout[i] = 77;\n#endif"
    a = np.array([1 + 2.0**-12], F32)
    b = np.array([-1 - 2.0**-11], F32)
    results = {}
    for mode in ("safe", "relaxed", "fast"):
        kernel = fast.metal_kernel("modes", ["a", "b"], ["out"], body, compile_options={"math_mode": mode})
        results[mode] = float(kernel(a, b)[0])
    assert results["safe"] == 0.0  # the product is rounded before the sum
    assert results["fast"] == 77.0 and results["relaxed"] in (0.0, 2.0**-24)


def test_a_fast_kernel_leaves_denormals_alone():
    fast.metal_kernel("quick", ["a"], ["out"], "out[thread_position_in_grid.x] = a[thread_position_in_grid.x] / 3;",
                      compile_options={"math_mode": "fast"})(mx.ones(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.float32(1e-40) * np.float32(0.5) > 0


# ---- gradients -------------------------------------------------------------------------------------


def test_vjp_by_the_author():
    kernel = add_kernel()
    with pytest.raises(ValueError, match="vjp"):
        kernel.gradients([mx.ones(2), mx.ones(2)], [mx.ones(2)], [mx.ones(2)])

    @kernel.vjp
    def gradient(primals, cotangents, outputs):
        return cotangents[0] * 2, None

    assert callable(gradient)
    found = kernel.gradients([mx.ones(2), mx.ones(2)], [mx.ones(2)], [mx.ones(2)])
    assert found[0].tolist() == [2, 2] and found[1] is None
    wrong = add_kernel(vjp=lambda primals, cotangents, outputs: cotangents[0])
    with pytest.raises(ValueError, match="expected 2 gradients"):
        wrong.gradients([mx.ones(2), mx.ones(2)], [mx.ones(2)], [mx.ones(2)])


def test_choices_and_matrices_of_metal(rng):
    """?: of half beside float, int and bool takes the type that numbers take; a matrix turns a vector."""
    kernel = fast.metal_kernel(
        name="mixed", input_names=["h", "f", "n", "angle"], output_names=["out"],
        source="""
            uint i = thread_position_in_grid.x;
            float beside_float = i % 2 ? h[i] : f[i];
            auto beside_int = i % 3 ? h[i] : n[i];
            float2x2 turn(cos(angle), sin(angle), -sin(angle), cos(angle));
            float2 turned = turn * float2(beside_float, beside_int);
            out[2 * i] = turned.x, out[2 * i + 1] = turned.y;
        """)
    h, f = rng.standard_normal(12).astype(np.float16), rng.standard_normal(12).astype(np.float32)
    n = np.arange(12, dtype=np.int32)
    (out,) = kernel(inputs=[h, f, n, 0.3], grid=(12, 1, 1), threadgroup=(4, 1, 1), output_shapes=[(12, 2)],
                    output_dtypes=["float32"])
    x = np.where(np.arange(12) % 2, h, f).astype(np.float64)
    y = np.where(np.arange(12) % 3, h, n).astype(np.float64)
    wanted = np.stack([x * np.cos(0.3) - y * np.sin(0.3), x * np.sin(0.3) + y * np.cos(0.3)], axis=1)
    assert np.allclose(out, wanted, rtol=0, atol=16 * 4 * 2**-24)  # two products and a sum, of at most 16, and of cos and sin
