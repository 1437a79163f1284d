"""Arrays of every library go in and come out without copies, as the kind that was given."""

import array
import gc
import sys

import ml_dtypes
import numpy as np
import pytest
from libraries import NumPy, every_library, foreign_library, jax, mlx, needs_jax, needs_mlx, needs_torch, torch

import invar
import invar.core.fast as fast

pytestmark = pytest.mark.once


def numbers(rng, shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


# ---- the same bits from every library ---------------------------------------------------------------


@every_library
def test_every_operation_gives_the_same_bits_and_kind(library, rng):
    for dtype in library.types:
        x, w, b = numbers(rng, (2, 3, 6, 8), dtype), numbers(rng, 8, dtype), numbers(rng, 8, dtype)
        sinks, lengths = numbers(rng, 3, dtype), np.array([6, 4], np.int32)
        X, W, B, S, L = (library.make(a) for a in (x, w, b, sinks, lengths))
        calls = [
            (lambda x, w, b, s, n: fast.rms_norm(x, w)),
            (lambda x, w, b, s, n: fast.layer_norm(x, w, b)),
            (lambda x, w, b, s, n: fast.rope(x, 8, offset=n)),
            (lambda x, w, b, s, n: fast.scaled_dot_product_attention(x, x, x, sinks=s, kv_lengths=n)),
            (lambda x, w, b, s, n: fast.rms_norm_vjp(x, x, w)),
            (lambda x, w, b, s, n: fast.layer_norm_vjp(x, x, w, b)),
            (lambda x, w, b, s, n: fast.add_rms_norm(x, x, w)),
            (lambda x, w, b, s, n: fast.rope_vjp(x, 8, offset=n)),
            (lambda x, w, b, s, n: fast.scaled_dot_product_attention(x, x, x, mask=x[:, :, :, :6], return_lse=True)),
        ]
        for call in calls:
            expected, actual = call(x, w, b, sinks, lengths), call(X, W, B, S, L)
            if not isinstance(expected, tuple):
                expected, actual = (expected,), (actual,)
            for want, got in zip(expected, actual):
                assert isinstance(got, library.kind)
                assert library.read(got).tobytes() == want.tobytes()


@every_library
def test_attention_vjp_gives_the_same_bits_and_kind(library, rng):
    for dtype in library.types:
        q, k, v, dout = (numbers(rng, (1, 2, 5, 8), dtype) for _ in range(4))
        out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
        expected = fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse)
        arguments = [library.make(a) for a in (dout, q, k, v, out, lse)]
        for want, got in zip(expected[:3], fast.scaled_dot_product_attention_vjp(*arguments)[:3]):
            assert isinstance(got, library.kind)
            assert library.read(got).tobytes() == want.tobytes()


@foreign_library
def test_libraries_mix_and_the_first_array_decides(library, rng):
    x, w = numbers(rng, (4, 8)), numbers(rng, 8)
    assert isinstance(fast.rms_norm(library.make(x), w), library.kind)
    assert isinstance(fast.rms_norm(x, library.make(w)), np.ndarray)
    dx, dw = fast.rms_norm_vjp(x, x, library.make(w))
    assert isinstance(dx, np.ndarray) and isinstance(dw, library.kind)


@foreign_library
def test_strided_arrays_of_other_libraries(library, rng):
    x = numbers(rng, (2, 6, 4, 8))
    X = library.make(x)
    X = X.permute(0, 2, 1, 3) if library.name == "torch" else X.transpose(0, 2, 1, 3)
    assert library.read(fast.rope(X, 8)).tobytes() == fast.rope(x.transpose(0, 2, 1, 3), 8).tobytes()


# ---- nothing is copied ------------------------------------------------------------------------------


@every_library
def test_inputs_are_read_where_they_are(library, rng):
    """A copy of these 64 MiB would show in the process's peak memory; the result is a few bytes."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    x = np.ones((1 << 20, 16), np.float32)
    X = library.make(x)
    library.address(X)
    out = np.empty((1, 16), np.float32)
    q = np.zeros((1, 16), np.float32)
    fast.scaled_dot_product_attention(q, X[:8], X[:8], out=out)  # what a first call imports and allocates
    reset_peak_memory()
    before = peak_memory()
    fast.scaled_dot_product_attention(q, X, X, out=out)
    assert peak_memory() - before < 16 << 20


def reset_peak_memory():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def peak_memory():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    raise AssertionError("no VmHWM")


@pytest.mark.parametrize(
    "library",
    [NumPy, pytest.param("torch", marks=needs_torch), pytest.param("mlx", marks=needs_mlx)],
    ids=["numpy", "torch", "mlx"],
)
def test_out_is_written_where_it_is(library, rng):
    from libraries import Mlx, Torch

    library = {"torch": Torch, "mlx": Mlx}.get(library, library)
    x = numbers(rng, (4, 8))
    out = library.make(np.zeros((4, 8), np.float32))
    address = library.address(out)
    assert fast.rms_norm(x, out=out) is out
    assert library.address(out) == address
    assert library.read(out).tobytes() == fast.rms_norm(x).tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (1 << 10, 1 << 10), (0, 4)])
def test_outputs_are_aligned(shape):
    x = np.zeros(shape + (8,), np.float32)
    assert fast.rms_norm(x).ctypes.data % 64 == 0
    if torch:
        assert fast.rms_norm(torch.from_numpy(x)).data_ptr() % 64 == 0
    if jax:
        assert fast.rms_norm(jax.numpy.asarray(x)).unsafe_buffer_pointer() % 64 == 0


def test_large_outputs_reuse_memory_and_never_share_it(rng):
    x = numbers(rng, (1 << 9, 1 << 10))
    first = fast.rms_norm(x)
    address, bits = first.ctypes.data, first.tobytes()
    second = fast.rms_norm(-x)
    assert second.ctypes.data != address and first.tobytes() == bits
    view = first[3]
    del first
    assert fast.rms_norm(x).ctypes.data != address, "a view keeps its memory"
    expected = view.tobytes()
    kept = fast.rms_norm(-x)
    assert view.tobytes() == expected
    del view, kept
    gc.collect()
    assert invar.info()["kept_bytes"] >= x.nbytes
    addresses = {fast.rms_norm(x).ctypes.data for _ in range(8)}
    assert len(addresses) == 1, "each result takes the memory of the one before"


def test_kept_memory_is_bounded():
    for size in range(1, 40):
        fast.rms_norm(np.zeros((size << 14, 16), np.float32))
    assert invar.info()["kept_bytes"] <= 256 << 20


def test_a_small_result_takes_no_large_block():
    fast.rms_norm(np.broadcast_to(np.float32(1), (1 << 16, 1 << 10)))  # as much as is kept: nothing else is
    assert invar.info()["kept_bytes"] == 256 << 20
    small = fast.rms_norm(np.zeros((1 << 6, 1 << 10), np.float32))
    assert invar.info()["kept_bytes"] == 256 << 20 and small.nbytes == 256 << 10


@foreign_library
def test_memory_of_foreign_results_comes_back(library):
    x = library.make(np.zeros((1 << 9, 1 << 10), np.float32))
    results = [fast.rms_norm(x) for _ in range(3)]
    for result in results:
        assert not library.read(result).any()
    del results
    gc.collect()
    fast.rms_norm(x)


# ---- NumPy, buffers, lists ---------------------------------------------------------------------------


def test_bfloat16_of_ml_dtypes(rng):
    x = numbers(rng, (3, 8), ml_dtypes.bfloat16)
    y = fast.rms_norm(x)
    assert y.dtype == ml_dtypes.bfloat16
    assert (
        y.astype(np.float32).tobytes()
        == fast.rms_norm(x.astype(np.float32)).astype(ml_dtypes.bfloat16).astype(np.float32).tobytes()
    )


def test_buffers_lists_and_scalars(rng):
    x = numbers(rng, (3, 8))
    expected = fast.rms_norm(x)
    assert fast.rms_norm(memoryview(x)).tobytes() == expected.tobytes()
    row = array.array("f", x[0])
    assert fast.rms_norm(row).tobytes() == expected[0].tobytes()
    assert fast.rms_norm(row, out=row) is row
    assert row.tobytes() == expected[0].tobytes()
    listed = fast.rms_norm(x.tolist())
    assert isinstance(listed, np.ndarray) and listed.dtype == np.float64  # as NumPy reads a list of floats
    assert fast.rms_norm(x, [1.0] * 8).dtype == np.float64


def test_a_list_is_no_place_to_write_to():
    with pytest.raises(TypeError, match="rms_norm: out: "):
        fast.rms_norm(np.zeros(3), out=[0.0, 0.0, 0.0])


def test_read_only_arrays_are_read_and_never_written(rng):
    x = numbers(rng, (3, 8))
    x.flags.writeable = False
    fast.rms_norm(x)
    for out in (x, memoryview(x).toreadonly(), np.broadcast_to(np.float32(0), (3, 8)), x.view()):
        before = bytes(np.asarray(out))
        with pytest.raises(ValueError, match="rms_norm: out: "):
            fast.rms_norm(x, out=out)
        assert bytes(np.asarray(out)) == before


@pytest.mark.parametrize("dtype", [">f4", ">f8", "S4", "U4", "O", "V4", np.longdouble, "datetime64[s]"], ids=str)
def test_foreign_element_types_are_refused(dtype):
    with pytest.raises(ValueError, match="rms_norm: x: "):
        fast.rms_norm(np.zeros((2, 4), dtype))


def test_strides_that_split_elements():
    record = np.zeros(4, np.dtype([("a", np.uint8), ("x", np.float32)]))
    with pytest.raises(ValueError, match="rms_norm: x: expected strides of whole elements"):
        fast.rms_norm(record["x"])


def test_subclasses_of_ndarray():
    class Sub(np.ndarray):
        pass

    assert fast.rms_norm(np.ones((2, 4), np.float32).view(Sub)).shape == (2, 4)


# ---- DLPack -----------------------------------------------------------------------------------------


class Exports:
    """Any library's array: only what DLPack asks for."""

    def __init__(self, values, device=(1, 0), read_only=False):
        self.values, self.device = values, device
        self.values.flags.writeable = not read_only
        self.asked = []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        self.asked.append(keywords)
        return self.values.__dlpack__(**keywords)


class ExportsAsBefore(Exports):
    """A library from before DLPack 1.0."""

    def __dlpack__(self, stream=None):
        return self.values.__dlpack__()


@pytest.mark.parametrize("kind", [Exports, ExportsAsBefore])
def test_any_exporter_is_taken_and_numpy_comes_back(kind, rng):
    x = numbers(rng, (3, 8))
    y = fast.rms_norm(kind(x))
    assert isinstance(y, np.ndarray) and y.tobytes() == fast.rms_norm(x).tobytes()


def test_no_stream_is_asked_of_cpu_arrays(rng):
    """Stream codes differ between devices; on the CPU none is valid."""
    x = Exports(numbers(rng, (3, 8)))
    fast.rms_norm(x, stream=7)
    assert all(keywords.get("stream") is None for keywords in x.asked)


def test_read_only_exporters_are_not_written(rng):
    out = Exports(numbers(rng, (3, 8)), read_only=True)
    before = out.values.tobytes()
    with pytest.raises(ValueError, match="rms_norm: out: "):
        fast.rms_norm(numbers(rng, (3, 8)), out=out)
    assert out.values.tobytes() == before


def test_an_exporter_of_copies_is_read_and_not_written(rng):
    class Copies(Exports):
        def __dlpack__(self, **keywords):
            return self.values.__dlpack__(**keywords, copy=True)

    x = Copies(numbers(rng, (3, 8)))
    assert fast.rms_norm(x).tobytes() == fast.rms_norm(x.values).tobytes()
    with pytest.raises(ValueError, match="rms_norm: out: expected an array that may be written"):
        fast.rms_norm(x.values, out=x)


@pytest.mark.parametrize("device", [(2, 0), (2, 3), (8, 0), (10, 1)])
def test_arrays_on_other_devices(device):
    x = Exports(np.zeros((2, 4), np.float32), device)
    with pytest.raises(invar.DeviceError, match="rms_norm: x: "):
        fast.rms_norm(x)
    assert not x.asked, "nothing is exported, so no stream is waited for"


def test_an_exporter_that_fails():
    class Broken:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **keywords):
            raise RuntimeError("the dog ate it")

    with pytest.raises(ValueError, match="rms_norm: x: .*the dog ate it"):
        fast.rms_norm(Broken())


def test_a_mask_of_numpy_ma_is_not_lost_without_a_word():
    x = np.ma.masked_array(np.ones((2, 4), np.float32), mask=np.eye(2, 4))
    for call, name in (
        (lambda: fast.rms_norm(x), "x"),
        (lambda: fast.rms_norm(x.data, out=x), "out"),
        (lambda: fast.scaled_dot_product_attention(x.data, x.data, x.data, mask=np.ma.masked_array(np.ones((2, 2), bool))),
         "mask"),
    ):
        with pytest.raises(ValueError, match=f": {name}: expected an array without a mask.*filled"):
            call()
    assert np.array_equal(fast.rms_norm(np.matrix(x.data)), fast.rms_norm(x.data)), "other subclasses are arrays"


# ---- torch ------------------------------------------------------------------------------------------


@needs_torch
def test_a_tensor_that_requires_grad_names_the_ways_out():
    x = torch.ones(2, 4, requires_grad=True)
    for call in (
        lambda: fast.rms_norm(x),
        lambda: fast.rms_norm(torch.ones(2, 4), out=x),
        lambda: fast.rms_norm(np.ones((2, 4), np.float32), torch.nn.Parameter(torch.ones(4))),
    ):
        with pytest.raises(ValueError, match=r"rms_norm: .*detach\(\).*invar\.torch"):
            call()
    assert fast.rms_norm(x.detach()).shape == (2, 4)


@needs_torch
def test_a_tangent_of_forward_mode_is_not_lost_without_a_word():
    from torch.autograd import forward_ad

    kernel = fast.metal_kernel(name="copy", input_names=["a"], output_names=["out"],
                               source="uint i = thread_position_in_grid.x; out[i] = a[i];")
    x = torch.ones(2, 4)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x)
        for call in (lambda: fast.rms_norm(dual), lambda: fast.rms_norm(x, dual[0]), lambda: kernel(dual)):
            with pytest.raises(ValueError, match="without a tangent"):
                call()
        assert fast.rms_norm(x).shape == (2, 4)


@needs_torch
def test_tensors_that_are_no_plain_memory():
    x = torch.ones(2, 4)
    emptied = x.clone()
    emptied.untyped_storage().resize_(0)
    for x, words in (
        (x.to_sparse(), r"a sparse one: pass tensor\.to_dense\(\)"),
        (x.to_sparse_csr(), r"a sparse one: pass tensor\.to_dense\(\)"),
        (torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"a quantised one: pass tensor\.dequantize\(\)"),
        (torch.nested.nested_tensor([x, x[:1]]), "a nested one"),
        (torch.ones(2, 4, device="meta"), "one on meta"),
        (emptied, "Tensor"),
        (x.to(torch.complex64).conj(), "complex64"),
        (x.to(torch.float8_e4m3fn), "an unknown type"),
    ):
        for argument, call in (("x", lambda: fast.rms_norm(x)), ("out", lambda: fast.rms_norm(torch.ones(2, 4), out=x))):
            sentence = f"^rms_norm: {argument}: expected .*, got {words if argument == 'x' else ''}"
            with pytest.raises(ValueError, match=sentence) as error:
                call()
            assert "\n" not in str(error.value)


@needs_torch
def test_tensors_that_torch_traces(capfd):
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = torch.ones(2, 4)
    with FakeTensorMode():
        fakes = torch.ones(2, 4), torch.ones(0, 4)
    for fake in fakes:
        with pytest.raises(ValueError, match="rms_norm: x: expected a tensor with values.*invar.torch.*, got FakeTensor"):
            fast.rms_norm(fake)
    for call in (torch.vmap(fast.rms_norm), torch.func.grad(lambda a: fast.rms_norm(a).sum()),
                 torch.func.functionalize(fast.rms_norm)):
        with pytest.raises(ValueError, match=r"rms_norm: x: expected .* values, got one inside torch\.func.*invar\.torch"):
            call(x)
    assert capfd.readouterr() == ("", ""), "torch warns whoever looks at a fake tensor's memory"


@needs_torch
def test_a_tensor_with_a_negation_put_off_is_refused():
    x = torch.complex(torch.ones(2, 4), torch.ones(2, 4)).conj().imag  # -1, kept as 1 and a bit
    for call in (lambda: fast.rms_norm(x), lambda: fast.rms_norm(torch.ones(2, 4), out=x)):
        with pytest.raises(ValueError, match=r"rms_norm: .*negative bit.*resolve_neg\(\)"):
            call()
    assert (x == -1).all() and (fast.rms_norm(x.resolve_neg()) < 0).all()


@needs_torch
def test_torch_without_memory():
    """Memory that torch could not make a tensor of is torch's to free: freed here as well, it ended the process."""
    fail = pytest.importorskip("_testcapi")
    x = torch.ones(2, 8)
    fast.rms_norm(x)
    for allocation in range(4):
        fail.set_nomemory(allocation, allocation + 1)
        try:
            fast.rms_norm(x)
        except (MemoryError, RuntimeError):
            pass
        finally:
            fail.remove_mem_hooks()


@needs_torch
def test_torch_without_the_exchange_table(rng):
    """An older torch has __dlpack__ alone; a subclass whose table is hidden stands for it."""

    class Older(torch.Tensor):
        __dlpack_c_exchange_api__ = None

    x = torch.from_numpy(numbers(rng, (3, 8)))
    y = fast.rms_norm(x.as_subclass(Older))
    assert np.asarray(y).tobytes() == fast.rms_norm(x).numpy().tobytes()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x).as_subclass(Older)
        with pytest.raises(ValueError, match="rms_norm: x: expected a tensor without a tangent"):
            fast.rms_norm(dual)


# ---- JAX --------------------------------------------------------------------------------------------


@needs_jax
def test_jax_arrays_are_immutable():
    out = jax.numpy.zeros((2, 4))
    with pytest.raises(ValueError, match="rms_norm: out: .*immutable"):
        fast.rms_norm(np.ones((2, 4), np.float32), out=out)
    assert not np.asarray(out).any()


@needs_jax
def test_jax_results_that_are_still_being_computed(rng):
    """A JAX array is a promise; its memory may be read only when the promise is kept."""
    a = jax.numpy.asarray(numbers(rng, (1500, 1500)))
    pending = a @ a @ a
    y = fast.rms_norm(pending)
    np.testing.assert_array_equal(np.asarray(y), fast.rms_norm(np.asarray(pending)))


@needs_jax
def test_under_jit_there_is_no_array_yet():
    x = jax.numpy.ones((2, 4))
    for call in (jax.jit(fast.rms_norm), jax.vmap(fast.rms_norm), jax.grad(lambda a: fast.rms_norm(a).sum())):
        with pytest.raises(ValueError, match="rms_norm: x: expected .* values, got one that JAX traces.*invar.jax"):
            call(x)
    with pytest.raises(TypeError, match="rms_norm: eps: expected a number, got .*Tracer, which JAX traces.*static"):
        jax.jit(lambda eps: fast.rms_norm(np.ones((2, 4), np.float32), eps=eps))(1e-5)
    gone = x + 1
    gone.delete()
    with pytest.raises(ValueError, match="rms_norm: x: expected an array with values, got one that has been deleted"):
        fast.rms_norm(gone)


# ---- MLX --------------------------------------------------------------------------------------------


@needs_mlx
def test_lazy_mlx_arrays_are_evaluated():
    x = mlx.arange(24, dtype=mlx.float32).reshape(3, 8) * 2 + 1
    assert (
        np.array(fast.rms_norm(x)).tobytes()
        == fast.rms_norm(np.arange(24, dtype=np.float32).reshape(3, 8) * 2 + 1).tobytes()
    )


@needs_mlx
def test_mlx_results_go_on_in_mlx():
    y = fast.rms_norm(mlx.ones((2, 4)))
    assert mlx.allclose(y + 1, mlx.full((2, 4), 2.0), atol=1e-4)
