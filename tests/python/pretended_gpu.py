"""Arrays that claim to be on a GPU, for tests on any machine: `python pretended_gpu.py check_name` runs one of the checks below.

Their memory is the host's. Some come from a library that has DLPack's table of C functions and calls itself torch, some from one
that has not and calls itself cupy. test_cuda_pretended.py builds the driver of tests/fake and has the loader find it; its launches
are noted and compute nothing."""

import contextlib
import ctypes
import io
import os
import sys
import types

import numpy as np

import invar
from invar.core import fast

CUDA, MANAGED = 2, 13
TYPES = {np.dtype(np.float32): (2, 32), np.dtype(np.float16): (2, 16), np.dtype(np.int32): (0, 32), np.dtype(np.float64): (2, 64)}
ctypes.pythonapi.PyCapsule_New.restype = ctypes.py_object
ctypes.pythonapi.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
TABLE_NAME, VERSIONED_NAME, LEGACY_NAME = b"dlpack_exchange_api", b"dltensor_versioned", b"dltensor"  # a capsule copies none
attention = fast.scaled_dot_product_attention


# ---- DLPack ------------------------------------------------------------------------------------------------------


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


class Managed(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("owner", ctypes.c_void_p),
                ("deleter", ctypes.c_void_p), ("flags", ctypes.c_uint64), ("tensor", DLTensor)]


def describe(tensor, values, device):
    """Fills a DLTensor, and returns what must live as long."""
    shape, strides = ((ctypes.c_int64 * values.ndim)(*sizes)
                      for sizes in (values.shape, [step // values.itemsize for step in values.strides]))
    tensor.data, tensor.byte_offset = values.ctypes.data, 0
    tensor.device_type, tensor.device_id = device
    tensor.ndim, tensor.shape, tensor.strides = values.ndim, shape, strides
    tensor.code, tensor.bits = TYPES[values.dtype]
    tensor.lanes = 1
    return shape, strides, values


# ---- a library with the table: "torch" ----------------------------------------------------------------------------


class Tensor:
    current = 0x1000   # its stream
    failure = None     # what making a tensor says instead
    allocated_on = []  # the streams

    def __init__(self, values, device=(CUDA, 0)):
        self.values, self.device, self.requires_grad = values, device, False


def function(result, *arguments):
    """A callback of C's, which keeps what it is made of."""
    def wrap(body):
        kept.append(ctypes.PYFUNCTYPE(result, *arguments)(body))
        return ctypes.cast(kept[-1], ctypes.c_void_p).value
    return wrap


kept, made = [], {}  # made: address of a Managed → it, its array and what keeps it
PP = ctypes.POINTER(ctypes.c_void_p)


@function(ctypes.c_int, ctypes.POINTER(DLTensor), PP, ctypes.c_void_p, ctypes.c_void_p)
def allocate(prototype, out, context, set_error):
    if Tensor.failure:
        return -1
    like = prototype[0]
    dtype = next(dtype for dtype, of in TYPES.items() if of == (like.code, like.bits))
    values, managed = np.zeros(like.shape[:like.ndim], dtype), Managed(1, 3)
    Tensor.allocated_on.append(Tensor.current)
    address = ctypes.addressof(managed)
    made[address] = managed, values, (like.device_type, like.device_id), describe(managed.tensor, values, (CUDA, 0))
    out[0] = address
    return 0


@function(ctypes.c_int, ctypes.c_void_p, PP)
def import_owned(managed, out):
    _, values, device, _ = made.pop(managed)
    tensor = Tensor(values, device)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(tensor))
    out[0] = id(tensor)
    return 0


@function(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
def borrow(tensor, out):
    tensor.keeps = describe(out[0], tensor.values, tensor.device)
    return 0


@function(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, PP)
def current_stream(device_type, device, out):
    assert (device_type, device) == (CUDA, 0)
    out[0] = Tensor.current
    return 0


TABLE = (ctypes.c_uint64 * 7)(3 << 32 | 1, 0, allocate, 0, import_owned, borrow, current_stream)
Tensor.__dlpack_c_exchange_api__ = ctypes.pythonapi.PyCapsule_New(ctypes.addressof(TABLE), TABLE_NAME, None)


@contextlib.contextmanager
def with_stream(stream):
    before, Tensor.current = Tensor.current, stream
    try:
        yield
    finally:
        Tensor.current = before


def torch_empty(shape, dtype, device):
    assert device == "cuda:0"
    if Tensor.failure:
        raise RuntimeError(Tensor.failure)
    Tensor.allocated_on.append(Tensor.current)
    return Tensor(np.zeros(shape, dtype))


def pretend_torch():
    """What is called of torch's module."""
    Tensor.__module__ = "torch"
    streams = types.SimpleNamespace(ExternalStream=lambda stream, device: stream, stream=with_stream)
    sys.modules["torch"] = types.SimpleNamespace(__name__="torch", cuda=streams, empty=torch_empty, float32=np.float32,
                                                 Tensor=Tensor)


# ---- a library without it: "cupy" -----------------------------------------------------------------------------------


class ndarray:
    __module__ = "cupy"
    current = 0x2000
    device = (CUDA, 0)
    old = False  # from before DLPack 1.0
    asked, allocated_on = [], []

    def __init__(self, values):
        self.values = values

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        if self.old and "max_version" in keywords:
            raise TypeError("unexpected keyword")
        self.asked.append(keywords)
        managed = Managed(1, 0)
        if self.old:  # DLManagedTensor begins with the tensor
            managed = DLTensor()
        self.keeps = managed, describe(managed if self.old else managed.tensor, self.values, self.device)
        name = LEGACY_NAME if self.old else VERSIONED_NAME
        return ctypes.pythonapi.PyCapsule_New(ctypes.addressof(managed), name, None)


@contextlib.contextmanager
def with_cupy_stream(stream):
    before, ndarray.current = ndarray.current, stream
    try:
        yield
    finally:
        ndarray.current = before


def cupy_empty(shape, dtype):
    ndarray.allocated_on.append(ndarray.current)
    return ndarray(np.zeros(shape, dtype))


def pretend_cupy():
    cuda = types.SimpleNamespace(Device=lambda device: contextlib.nullcontext(), ExternalStream=with_cupy_stream,
                                 get_current_stream=lambda: types.SimpleNamespace(ptr=ndarray.current))
    sys.modules["cupy"] = types.SimpleNamespace(__name__="cupy", cuda=cuda, ndarray=ndarray, empty=cupy_empty)


# ---- the driver -----------------------------------------------------------------------------------------------------


class Launch(ctypes.Structure):
    _fields_ = [("function", ctypes.c_char * 64), ("sizes", ctypes.c_uint * 7), ("stream", ctypes.c_void_p),
                ("job", ctypes.c_char * 4096)]


class Driver(ctypes.Structure):
    """The beginning of tests/fake/cuda.h's fake_cuda_state."""
    _fields_ = [("devices", ctypes.c_int), ("major", ctypes.c_int), ("minor", ctypes.c_int), ("failing", ctypes.c_char * 64),
                ("fails_at", ctypes.c_int), ("result", ctypes.c_int), ("job_bytes", ctypes.c_size_t), ("launches", ctypes.c_int),
                ("launch", Launch * 64)]


def driver():
    return Driver.in_dll(ctypes.CDLL("libcuda.so.1"), "fake_cuda")


def launched_on(call):
    """What the call returns, and the stream of its last launch."""
    state = driver()
    before = state.launches
    result = call()
    assert state.launches > before
    return result, state.launch[(state.launches - 1) % 64].stream


def inputs(make, heads=2):
    return (make(np.ones((1, heads, n, 64), np.float32)) for n in (3, 5, 5))


def raises(error, words, call, *arguments, **keywords):
    try:
        call(*arguments, **keywords)
    except Exception as raised:
        assert type(raised) is error and words in str(raised), repr(raised)
    else:
        raise AssertionError(f"{words!r} was not raised")


# ---- the checks -----------------------------------------------------------------------------------------------------


def check_table():
    """Views, results and the stream by the table alone."""
    q, k, v = inputs(Tensor)
    (out, lse), stream = launched_on(lambda: attention(q, k, v, return_lse=True))
    assert stream == Tensor.current and Tensor.allocated_on == [Tensor.current] * 2
    assert type(out) is Tensor and out.device == (CUDA, 0) and out.values.shape == (1, 2, 3, 64)
    assert type(lse) is Tensor and lse.values.shape == (1, 2, 3) and lse.values.dtype == np.float32
    half = Tensor(np.ones((1, 2, 3, 64), np.float16))
    assert attention(half, half, half).values.dtype == np.float16
    assert attention(q, k, v, out=out) is out and len(Tensor.allocated_on) == 3
    managed = Tensor(q.values, (MANAGED, 0))
    assert attention(managed, k, v, out=out) is out
    assert not made


def check_streams():
    pretend_torch()
    q, k, v = inputs(Tensor)
    side, named = 0x3000, types.SimpleNamespace
    for given in (side, np.int64(side), named(cuda_stream=side), named(ptr=side)):
        out, stream = launched_on(lambda: attention(q, k, v, stream=given))
        assert stream == side and type(out) is Tensor
        assert Tensor.allocated_on.pop() == side, "memory belongs to the stream that uses it"
    _, stream = launched_on(lambda: attention(q, k, v, out=out, stream=0))
    assert stream is None and not Tensor.allocated_on
    for wrong in ("cuda", b"", 1.5, [], {}, object(), True, named(cuda_stream=None), named(ptr="0")):
        raises(TypeError, "attention: stream: expected a CUDA stream or None, got ", attention, q, k, v, stream=wrong)
    for wrong in (-1, 2**64, named(ptr=-5)):
        raises(ValueError, "attention: stream: expected the address of a CUDA stream, got ", attention, q, k, v, stream=wrong)


def check_another_library_with_a_table():
    """Whose way to take memory on a stream is not known."""
    q, k, v = inputs(Tensor)
    raises(invar.DeviceError, "leave stream out", attention, q, k, v, stream=0x3000)
    _, stream = launched_on(lambda: attention(q, k, v, stream=0x3000, out=Tensor(np.zeros((1, 2, 3, 64), np.float32))))
    assert stream == 0x3000


def check_cupy():
    pretend_cupy()
    q, k, v = inputs(ndarray)
    out, stream = launched_on(lambda: attention(q, k, v))
    assert type(out) is ndarray and stream == ndarray.current
    assert ndarray.asked == [{"stream": -1, "max_version": (1, 0)}] * 4, "nothing is waited for"
    ndarray.old = True
    ndarray.asked.clear()
    out, stream = launched_on(lambda: attention(q, k, v, stream=0x3000))
    assert type(out) is ndarray and stream == 0x3000
    assert ndarray.asked == [{"stream": -1}] * 4
    assert ndarray.allocated_on == [ndarray.current, 0x3000]
    mixed, stream = launched_on(lambda: attention(q, Tensor(k.values), v))
    assert type(mixed) is ndarray and stream == ndarray.current


def check_mixed_devices():
    q, k, v = inputs(Tensor)
    on_cpu = "expected a tensor on CUDA device 0, got one on the CPU"
    raises(ValueError, "attention: k: " + on_cpu, attention, q, k.values, v)
    raises(ValueError, "attention: out: " + on_cpu, attention, q, k, v, out=np.zeros(q.values.shape, np.float32))
    raises(ValueError, "attention: v: " + on_cpu, attention, q, k, v.values.tolist())
    raises(ValueError, "attention: k: expected a tensor on the CPU, got one on CUDA device 0", attention, q.values, k, v.values)
    raises(ValueError, "attention: mask: " + on_cpu, attention, q, k, v, mask=np.ones((3, 5), bool))
    raises(ValueError, "attention: k: expected a tensor on CUDA device 0, got one on CUDA device 1", attention, q,
           Tensor(k.values, (CUDA, 1)), v)


def check_refusals():
    q, k, v = inputs(Tensor)
    q.requires_grad = True
    raises(ValueError, "q: expected a tensor without requires_grad, got one with it: pass tensor.detach()", attention, q, k, v)
    q.requires_grad = False
    Tensor.failure = "CUDA out of memory. Tried to allocate 2 GiB"
    cannot = "attention: out: the library of the arrays cannot make the result on their device"
    raises(invar.DeviceError, cannot, attention, q, k, v)
    pretend_torch()
    raises(MemoryError, cannot + ": CUDA out of memory. Tried", attention, q, k, v, stream=0x3000)
    Tensor.failure = "CUDA error: initialization error\nand more lines"
    raises(invar.DeviceError, cannot + ": CUDA error: initialization error", attention, q, k, v, stream=0x3000)
    Tensor.failure = None
    raises(invar.DeviceError, "expected a CUDA device from 0 to 0, got 7", attention,
           *(Tensor(a.values, (CUDA, 7)) for a in (q, k, v)), out=Tensor(q.values.copy(), (CUDA, 7)), stream=0)


def check_operations():
    """Each launches on the array's stream and gives arrays of its library."""
    x, w = Tensor(np.ones((2, 3, 64), np.float32)), Tensor(np.ones(64, np.float32))
    q, k, v = inputs(Tensor)
    out, lse = Tensor(q.values.copy()), Tensor(np.ones((1, 2, 3), np.float32))
    calls = {
        "rms_norm": lambda: fast.rms_norm(x, w), "rms_norm_vjp": lambda: fast.rms_norm_vjp(x, x, w),
        "add_rms_norm": lambda: fast.add_rms_norm(x, x, w), "layer_norm": lambda: fast.layer_norm(x, w, w),
        "layer_norm_vjp": lambda: fast.layer_norm_vjp(x, x, w, w), "rope": lambda: fast.rope(x, 64, offset=np.array([1, 2])),
        "rope_vjp": lambda: fast.rope_vjp(x, 64, offset=3), "scaled_dot_product_attention": lambda: attention(q, k, v),
        "scaled_dot_product_attention_vjp": lambda: fast.scaled_dot_product_attention_vjp(q, q, k, v, out, lse),
    }
    assert set(calls) == {name for name in fast.__all__ if not name.endswith("kernel") and name != "explain"}
    for name, call in calls.items():
        result, stream = launched_on(call)
        assert stream == Tensor.current, name
        for one in result if isinstance(result, tuple) else (result,):
            assert one is None or type(one) is Tensor


def check_kernels():
    """Custom kernels: both forms, and numbers and arrays of one element from CPU memory beside those on the GPU."""
    pretend_torch()
    x, row = Tensor(np.ones((3, 4), np.float32)), Tensor(np.ones(4, np.float32))
    for create, text in ((fast.metal_kernel, "a[0] + b;"), (fast.cuda_kernel, "a[0] + b[0];")):
        short = create("add", ["a", "b"], ["out"], "out[0] = a[0] + b[0];")
        out, stream = launched_on(lambda: short(x, row))
        assert type(out) is Tensor and out.values.shape == (3, 4) and stream == Tensor.current
        for number in (2.5, True, 7, np.float32(1), np.ones((), np.float32), np.ones((1, 1), np.float32)):
            out, stream = launched_on(lambda: short(number, x))
            assert type(out) is Tensor and out.values.shape == (3, 4) and stream == Tensor.current
        loose = create("add", ["a", "b"], ["out"], "out[0] = a[0] + b[0];", ensure_row_contiguous=False)
        for other in (row, 2.5):
            assert launched_on(lambda: loose(x, other))[0].values.shape == (3, 4)
        whole = create("add", ["a", "b"], ["out", "more"], "out[0] = " + text)
        keywords = {"inputs": [x, 3], "output_shapes": [(2, 2), (5,)], "output_dtypes": [np.float32, "float32"], "grid": (4, 1, 1),
                    "threadgroup": (2, 1, 1)}
        (out, more), stream = launched_on(lambda: whole(**keywords, init_value=1, stream=0x3000))
        assert out.values.shape == (2, 2) and more.values.shape == (5,) and stream == 0x3000
        assert "__global__" in whole.generate(**{key: keywords[key] for key in list(keywords)[:3]}, target="cuda")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            whole(**keywords, verbose=True)
        assert "__global__" in said.getvalue()
        raises(ValueError, "check: expected arrays in CPU memory", whole, **keywords, check=True)
        raises(ValueError, "b: expected a tensor on CUDA device 0, got one on the CPU", short, x, row.values)
        raises(TypeError, "stream: expected a CUDA stream or None", whole, **keywords, stream="cuda")


def check_precompiled():
    """Pointers to inputs and outputs, then the scalars; the same code is loaded once."""
    x = Tensor(np.ones((3, 4), np.float32))
    call = {"name": "scale", "compiled_source": b"image", "inputs": [x], "output_shapes": [(12,)], "output_dtypes": ["float32"],
            "scalars": [2.5, 12, True], "grid": (12, 1, 1), "threadgroup": (8, 1, 1), "shared_memory": 64}
    for _ in range(2):
        (out,), stream = launched_on(lambda: fast.precompiled_cuda_kernel(**call))
        assert out.values.shape == (12,) and stream == Tensor.current
    last = driver().launch[driver().launches - 1]
    assert last.function == b"scale" and list(last.sizes) == [2, 1, 1, 8, 1, 1, 64]
    driver().failing, driver().fails_at, driver().result = b"cuModuleGetFunction", 0, 719
    raises(invar.DeviceError, "precompiled_cuda_kernel: loading scale failed", fast.precompiled_cuda_kernel,
           **call | {"compiled_source": b"another"})


def check_explain():
    q, k, v = inputs(Tensor)
    for call in ((attention, q, k, v), ("rms_norm", q), ("rope", q, q.values.shape[-1])):
        plan = fast.explain(*call)
        assert ".cuda" in plan["kernel"] and plan["bound"] is plan["bound_seconds"] is None and plan["reason"]
    assert not driver().launches


def check_fork():
    """A child of a process that has started CUDA is told so."""
    q, k, v = inputs(Tensor)
    launched_on(lambda: attention(q, k, v))
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            raises(invar.DeviceError, "multiprocessing's 'spawn'", attention, q, k, v)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def check_no_driver():
    q, k, v = inputs(Tensor)
    raises(invar.DeviceError, "attention: expected a CUDA device, got none: there is no NVIDIA driver", attention, q, k, v)
    assert invar.info()["gpus"] == [] and "no NVIDIA driver" in invar.info()["gpus_reason"]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
