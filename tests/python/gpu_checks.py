"""Every operation on torch's tensors on a GPU, against the same call on the CPU: values, kinds, out=, streams, strides, bits.

`python gpu_checks.py [TYPE …]` runs it where there is no pytest, prints a line a check and ends with 1 where one fails; test_cuda.py
runs the same checks under pytest."""

import contextlib
import gc
import os
import sys
import time
import traceback

import numpy as np
import torch

import invar
from invar.core import fast

TYPES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}  # error allowed, of 1 + the largest value
ROPE_OFFSETS = np.array([5, -3, 1 << 20])


class Case:
    """A call of one operation. shapes: its tensors, the batch first where the name is in `batched`; own: how many results have
    bits that an example keeps alone; made: tensors that are computed on the CPU from the others."""

    def __init__(self, call, shapes, batched, own=1, made=None, out="out"):
        self.call, self.shapes, self.batched, self.own, self.made, self.out = call, shapes, batched.split(), own, made, out

    def tensors(self, dtype, device="cuda"):
        """(on the device, on the CPU)"""
        generator = torch.Generator().manual_seed(7)
        cpu = {name: torch.randn(*shape, generator=generator).to(getattr(torch, dtype)) for name, shape in self.shapes.items()}
        if self.made:
            cpu |= self.made(cpu)
        return {name: tensor.to(device) for name, tensor in cpu.items()}, cpu

    def __call__(self, tensors, **keywords):
        """The results that there are, as a tuple."""
        results = self.call(tensors, **keywords)
        return tuple(r for r in (results if isinstance(results, tuple) else (results,)) if r is not None)


def forward(t):
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], mask="causal", return_lse=True)
    return {"out": out, "lse": lse}


def forward_masked(t):
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], mask=t["m"], sinks=t["s"], return_lse=True)
    return {"out": out, "lse": lse}


def some_hidden(t):
    """A mask that hides the largest of its numbers and all keys of one query; what attention gives under it."""
    m = torch.where(t["m"] > 1, float("-inf"), t["m"])
    m[..., 5, :] = float("-inf")
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], mask=m, return_lse=True)
    return {"m": m, "out": out, "lse": lse}


def of_bools(t):
    m = t["m"] < 1
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], mask=m, softcap=20.0, return_lse=True)
    return {"m": m, "out": out, "lse": lse}


def softcapped(t):
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], mask="causal", softcap=20.0, return_lse=True)
    return {"out": out, "lse": lse}


def unmasked(t):
    out, lse = fast.scaled_dot_product_attention(t["q"], t["k"], t["v"], return_lse=True)
    return {"out": out, "lse": lse}


def sparse(t):
    """A mask that hides keys, whose K and V are infinite where all rows are to be kept from them, and one row from all."""
    mask = t["m"].masked_fill(t["m"] < -0.5, -torch.inf)
    mask[..., 3:150:7], mask[..., 5, :] = -torch.inf, -torch.inf
    k, v = t["k"].clone(), t["v"].clone()
    k[..., 3:150:7, :], v[..., 3:150:7, :] = torch.inf, -torch.inf
    return {"m": mask, "k": k, "v": v}


def truths(t):
    return {"m": t["m"] > 0}


X, W = (3, 37, 200), (200,)
MANY_ROWS = {"q": (3, 4, 133, 96), "k": (3, 2, 152, 96), "v": (3, 2, 152, 80), "dout": (3, 4, 133, 80)}
LONG_X, LONG_W = (3, 5, 20000), (20000,)
QKV = {"q": (3, 8, 33, 64), "k": (3, 2, 70, 64), "v": (3, 2, 70, 64)}
MANY = {"q": (3, 64, 133, 96), "k": (3, 32, 152, 96), "v": (3, 32, 152, 80)}
attention, attention_vjp = fast.scaled_dot_product_attention, fast.scaled_dot_product_attention_vjp
CASES = {
    "rms_norm": Case(lambda t, **k: fast.rms_norm(t["x"], t["w"], **k), {"x": X, "w": W}, "x"),
    "rms_norm_vjp": Case(lambda t, **k: fast.rms_norm_vjp(t["dy"], t["x"], t["w"], **k), {"dy": X, "x": X, "w": W}, "dy x"),
    "add_rms_norm": Case(lambda t, **k: fast.add_rms_norm(t["x"], t["r"], t["w"], **k), {"x": X, "r": X, "w": W}, "x r", own=2),
    "layer_norm": Case(lambda t, **k: fast.layer_norm(t["x"], t["w"], t["b"], **k), {"x": X, "w": W, "b": W}, "x"),
    "layer_norm_vjp": Case(lambda t, **k: fast.layer_norm_vjp(t["dy"], t["x"], t["w"], t["b"], **k),
                           {"dy": X, "x": X, "w": W, "b": W}, "dy x"),
    "rms_norm_vjp of long rows": Case(lambda t, **k: fast.rms_norm_vjp(t["dy"], t["x"], t["w"], **k),
                                      {"dy": LONG_X, "x": LONG_X, "w": LONG_W}, "dy x"),
    "layer_norm_vjp of long rows": Case(lambda t, **k: fast.layer_norm_vjp(t["dy"], t["x"], t["w"], t["b"], **k),
                                        {"dy": LONG_X, "x": LONG_X, "w": LONG_W, "b": LONG_W}, "dy x"),
    "rope": Case(lambda t, **k: fast.rope(t["x"], 128, offset=9, **k), {"x": X}, "x"),
    "rope of the CPU's offsets": Case(lambda t, **k: fast.rope(t["x"], 128, True, offset=ROPE_OFFSETS[:len(t["x"])], **k),
                                      {"x": X}, ""),
    "rope of the GPU's freqs": Case(lambda t, **k: fast.rope(t["x"], 128, base=None, freqs=t["f"], **k), {"x": X}, "x",
                                    made=lambda t: {"f": torch.arange(1.0, 65.0)}),
    "rope_vjp": Case(lambda t, **k: fast.rope_vjp(t["dy"], 128, offset=9, **k), {"dy": X}, "dy"),
    "attention": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], **k), QKV, "q k v"),
    "attention, causal, with lse": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], mask="causal", return_lse=True, **k), QKV,
                                        "q k v", own=2),
    "attention, window and mask": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], 0.2, t["m"], window=(40, 9), sinks=t["s"],
                                                                softcap=20.0, **k),
                                       {**QKV, "m": (3, 1, 33, 70), "s": (8,)}, "q k v m"),
    "attention of many rows": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], mask="causal", **k),
                                   {"q": (3, 4, 170, 200), "k": (3, 2, 190, 200), "v": (3, 2, 190, 100)}, "q k v"),
    "attention of many masked rows": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], mask=t["m"], softcap=20.0, **k),
                                          {**MANY, "m": (3, 1, 133, 152)}, "q k v m", made=sparse),
    "attention of many rows, a bool mask": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], mask=t["m"], window=(90, None), **k),
                                                {**MANY, "m": (64, 133, 152)}, "q k v", made=truths),
    "attention of wide heads": Case(lambda t, **k: attention(t["q"], t["k"], t["v"], **k),
                                    {"q": (3, 4, 33, 320), "k": (3, 2, 70, 320), "v": (3, 2, 70, 300)}, "q k v"),
    "attention_vjp": Case(lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], mask="causal", **k),
                          {**QKV, "dout": QKV["q"]}, "q k v dout out lse", own=3, made=forward, out="gradients"),
    "attention_vjp, with dsinks and dmask": Case(lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"],
                                                                              mask=t["m"], sinks=t["s"], mask_grad=True, **k),
                                                 {**QKV, "dout": QKV["q"], "m": (3, 1, 33, 70), "s": (8,)}, "q k v m dout out lse",
                                                 own=3, made=forward_masked, out="gradients"),
    "attention_vjp of many rows": Case(
        lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], mask="causal", **k),
        MANY_ROWS, "q k v dout out lse", own=3, made=forward, out="gradients"),
    "attention_vjp of many rows, with a mask": Case(
        lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], mask=t["m"], **k),
        {**MANY_ROWS, "m": (3, 1, 133, 152)}, "q k v m dout out lse", own=3, made=some_hidden, out="gradients"),
    "attention_vjp of many rows, with a mask of bools and a softcap": Case(
        lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], mask=t["m"], softcap=20.0, **k),
        {**MANY_ROWS, "m": (3, 1, 1, 152)}, "q k v m dout out lse", own=3, made=of_bools, out="gradients"),
    "attention_vjp of many rows, with a softcap": Case(
        lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], mask="causal", softcap=20.0, **k),
        MANY_ROWS, "q k v dout out lse", own=3, made=softcapped, out="gradients"),
    "attention_vjp of wide heads": Case(lambda t, **k: attention_vjp(t["dout"], t["q"], t["k"], t["v"], t["out"], t["lse"], **k),
                                        {"q": (3, 4, 33, 320), "k": (3, 2, 70, 320), "v": (3, 2, 70, 300), "dout": (3, 4, 33, 300)},
                                        "q k v dout out lse", own=3, made=unmasked, out="gradients"),
}


def equal(results, others):
    return len(results) == len(others) and all(torch.equal(a.view(torch.uint8), b.view(torch.uint8))
                                               for a, b in zip(results, others))


def strided(tensor):
    """The same values, with gaps in memory."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3), float("nan"), dtype=tensor.dtype, device=tensor.device)
    view = wide[..., 3:3 + tensor.shape[-1]] if tensor.dim() > 1 else wide[3::2][:tensor.shape[-1]]
    view.copy_(tensor)
    return view


def check_values(case, dtype):
    """Near the CPU's, of torch's kind, beside the arguments; the same bits in a second run. Returns the largest error."""
    tensors, cpu = case.tensors(dtype)
    results, wanted = case(tensors), case(cpu)
    assert len(results) == len(wanted)
    largest = 0.0
    for got, want in zip(results, wanted):
        assert type(got) is torch.Tensor and got.device == torch.device("cuda:0") and not got.requires_grad
        assert got.dtype == want.dtype and got.shape == want.shape and got.is_contiguous()
        error = (got.cpu().double() - want.double()).abs().max().item() / (1 + want.double().abs().max().item())
        largest = max(largest, error)
    assert largest < TYPES[dtype], f"error {largest}"
    assert equal(results, case(tensors)), "a second run has other bits"
    return largest


def check_out(case, dtype):
    tensors, _ = case.tensors(dtype)
    results = case(tensors)
    destinations = tuple(torch.full_like(r, float("nan")) for r in results)
    given = destinations[0] if len(destinations) == 1 else destinations
    if case.out == "gradients":
        given = destinations + (None,) * (5 - len(destinations))
    written = case(tensors, **{case.out: given})
    assert all(a is b for a, b in zip(written, destinations)) and equal(written, results)


def check_streams(case, dtype):
    tensors, _ = case.tensors(dtype)
    results = case(tensors)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    for given in (side, side.cuda_stream):
        on_side = case(tensors, stream=given)
        side.synchronize()
        assert equal(on_side, results)
    with torch.cuda.stream(side):
        on_side = case(tensors)
    side.synchronize()
    assert equal(on_side, results)


def check_nothing_is_waited_for(case, dtype):
    tensors, _ = case.tensors(dtype)
    case(tensors)
    side, done = torch.cuda.Stream(), torch.cuda.Event()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)  # some 0.1 s
        case(tensors)
        done.record()
    assert not done.query(), "the call waited for the GPU"
    torch.cuda.synchronize()


def check_graph(case, dtype):
    tensors, _ = case.tensors(dtype)
    results, graph = case(tensors), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = case(tensors)
    for tensor in captured:
        tensor.fill_(0)
    graph.replay()
    assert equal(captured, results)


def check_strides(case, dtype):
    tensors, _ = case.tensors(dtype)
    apart = {name: strided(tensor) for name, tensor in tensors.items()}
    assert all(torch.equal(apart[name], tensor) for name, tensor in tensors.items())
    results, others = case(tensors), case(apart)
    # Attention may take other tiles where rows cannot be copied in 16 bytes: docs/cuda.md; its values stay.
    for a, b in zip(results, others):
        assert torch.allclose(a.float(), b.float(), rtol=TYPES[dtype], atol=TYPES[dtype]), "strided tensors give other values"
    return "" if equal(results, others) else "other bits"


def check_alone(case, dtype):
    """An example's own results keep their bits without the others."""
    tensors, _ = case.tensors(dtype)
    whole = case(tensors)[:case.own]
    for i in range(3 if case.batched else 0):
        alone = case({name: t[i:i + 1].contiguous() if name in case.batched else t for name, t in tensors.items()})[:case.own]
        assert equal(alone, [r[i:i + 1].contiguous() for r in whole]), f"example {i} has other bits alone"


def check_memory(case, dtype):
    tensors, _ = case.tensors(dtype)
    case(tensors)
    before = torch.cuda.memory_allocated()
    for _ in range(10):
        case(tensors)
    assert torch.cuda.memory_allocated() == before


def check_empty(case, dtype):
    tensors, _ = case.tensors(dtype)
    if case.batched:
        results = case({name: t[:0] if name in case.batched else t for name, t in tensors.items()})
        assert all(r.numel() == 0 for r in results[:case.own])


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


# ---- what is not of one operation -------------------------------------------------------------------------------------


def raises(error, words, call):
    try:
        call()
    except Exception as raised:
        assert type(raised) is error and words in str(raised), repr(raised)
    else:
        raise AssertionError(f"{words!r} was not raised")


def refusals():
    q, k, v = (t.cuda() for t in (torch.randn(1, 2, n, 64) for n in (3, 5, 5)))
    raises(ValueError, "k: expected a tensor on CUDA device 0, got one on the CPU", lambda: attention(q, k.cpu(), v))
    raises(ValueError, "k: expected a tensor on CUDA device 0, got one on the CPU", lambda: attention(q, k.cpu().numpy(), v))
    raises(ValueError, "k: expected a tensor on the CPU, got one on CUDA device 0", lambda: attention(q.cpu(), k, v.cpu()))
    raises(ValueError, "out: expected a tensor on CUDA device 0", lambda: attention(q, k, v, out=torch.empty(1, 2, 3, 64)))
    raises(ValueError, "pass tensor.detach()", lambda: attention(q.clone().requires_grad_(), k, v))
    raises(ValueError, "got float64", lambda: attention(q.double(), k.double(), v.double()))
    for wrong in ("cuda", 1.5, [], object(), True):
        raises(TypeError, "stream: expected a CUDA stream or None", lambda: attention(q, k, v, stream=wrong))
    raises(ValueError, "stream: expected the address of a CUDA stream, got -1", lambda: attention(q, k, v, stream=-1))


def kernels():
    """Custom kernels: what eager operations of torch give, bit for bit."""
    x, row = torch.randn(37, 200, device="cuda"), torch.randn(200, device="cuda")
    expected = x * 2.5 + row
    metal = "uint i = thread_position_in_grid.x; out[i] = a[i] * s + row[i % 200];"
    cuda = "unsigned i = blockIdx.x * blockDim.x + threadIdx.x; if (i < size) out[i] = a[i] * s[0] + row[i % 200];"
    for create, body in ((fast.metal_kernel, metal), (fast.cuda_kernel, cuda)):
        kernel = create("scaled", ["a", "s", "row"], ["out"], body)
        call = {"output_shapes": [x.shape], "output_dtypes": [x.dtype], "grid": (x.numel(), 1, 1), "threadgroup": (256, 1, 1)}
        for a, s in ((x, 2.5), (x.t().contiguous().t(), torch.tensor(2.5, device="cuda")), (x, np.float32(2.5))):
            (out,) = kernel(inputs=[a, s, row], **call)
            assert out.device == x.device and torch.equal(out, expected)
        side = torch.cuda.Stream()
        torch.cuda.synchronize()
        (out,) = kernel(inputs=[x, 2.5, row], **call, stream=side)
        side.synchronize()
        assert torch.equal(out, expected)
        raises(ValueError, "check: expected arrays in CPU memory", lambda: kernel(inputs=[x, 2.5, row], **call, check=True))
        raises(ValueError, "row: expected a tensor on CUDA device 0", lambda: kernel(inputs=[x, 2.5, row.cpu()], **call))
    for contiguous in (True, False):
        body = "uint i = thread_position_in_grid.x; out[i] = a[i] * b[i] + c[i];"
        kernel = fast.metal_kernel("short", ["a", "b", "c"], ["out"], body, ensure_row_contiguous=contiguous)
        assert torch.equal(kernel(x, 2.5, row), expected) and torch.equal(kernel(x, x[:, :1], row), x * x[:, :1] + row)

    square = fast.metal_kernel("square", ["a"], ["out"], "uint i = thread_position_in_grid.x; out[i] = a[i] * a[i];",
                               vjp=lambda primals, cotangents, outputs: 2 * primals[0] * cotangents[0])
    leaf = x.clone().requires_grad_()
    square(leaf).sum().backward()
    assert torch.equal(leaf.grad, 2 * x)
    raises(invar.CompileError, "k.metal:1: error", lambda: fast.metal_kernel("k", ["a"], ["out"], "out[0] = a[0] + no;")(x))


def table():
    """What torch's table of C functions offers, against what Python says."""
    import ctypes
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return "none"
    at = get(capsule, b"dlpack_exchange_api")
    version, functions = (ctypes.c_uint32 * 2).from_address(at), (ctypes.c_uint64 * 7).from_address(at)
    current = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))(functions[6])
    found, side = ctypes.c_void_p(), torch.cuda.Stream()
    for stream in (torch.cuda.default_stream(), side):
        with torch.cuda.stream(stream):
            assert current(2, 0, ctypes.byref(found)) == 0 and (found.value or 0) == stream.cuda_stream
    return f"version {version[0]}.{version[1]}, {sum(bool(f) for f in functions[2:])} functions"


def functions_without_the_table():
    """What an older torch is asked instead."""
    from invar import _cuda
    x, side = torch.ones(2, device="cuda"), torch.cuda.Stream()
    assert _cuda.current_stream(x, 0) == torch.cuda.current_stream().cuda_stream
    with torch.cuda.stream(side):
        assert _cuda.current_stream(x, 0) == side.cuda_stream
    for stream in (0, side.cuda_stream):
        made = _cuda.empty(x, (2, 3), "bfloat16", 0, stream)
        assert made.shape == (2, 3) and made.dtype == torch.bfloat16 and made.device == x.device


def gpus():
    info = invar.info()
    assert info["gpus"][0]["name"] == torch.cuda.get_device_name() and info["gpus_reason"] == ""
    assert info["gpus"][0]["compute_capability"] == "{}.{}".format(*torch.cuda.get_device_capability())
    return info["gpus"][0]["name"]


def plans():
    tensors, _ = CASES["attention"].tensors("bfloat16")
    plan = fast.explain(attention, tensors["q"], tensors["k"], tensors["v"])
    assert plan["kernel"].endswith(".cuda") and plan["bound"] is None
    return plan["kernel"]


def numbers_without_parts():
    """What is not finite, or has no sum of bfloat16 numbers, goes another way: where the mask hides it no value changes, and where
    it does not it reaches the same elements as on the CPU."""
    generator = torch.Generator().manual_seed(11)
    for features in (20, 64, 128, 200):
        q, k, v = (torch.randn(1, 2, rows, features, generator=generator) for rows in (100, 170, 170))
        mask = torch.rand(100, 170, generator=generator) > 0.2
        mask[:, 5] = mask[:, 100] = False
        expected = attention(*(x.cuda() for x in (q, k, v)), mask=mask.cuda())
        for value in (float("nan"), float("inf"), 3.4e38):
            hidden_k, hidden_v = k.clone(), v.clone()
            hidden_k[:, :, 5, 3] = hidden_v[:, :, 100, 7] = value
            found = attention(*(x.cuda() for x in (q, hidden_k, hidden_v)), mask=mask.cuda())
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6), f"{features} features, {value} where nothing is seen"
            seen_k, seen_v = k.clone(), v.clone()
            seen_v[:, 0, 50, 3], seen_k[:, 1, 60, 4] = value, 1e30 if value == 3.4e38 else value
            found = attention(*(x.cuda() for x in (q, seen_k, seen_v))).cpu()
            on_cpu = attention(q, seen_k, seen_v)
            assert torch.equal(found.isnan(), on_cpu.isnan()) and torch.equal(found.isinf(), on_cpu.isinf()), f"{features}, {value}"
            assert torch.allclose(found[:, 0, :, 4:], on_cpu[:, 0, :, 4:], rtol=1e-5, atol=1e-5), f"{features}, {value}"


def gradients_without_parts():
    """Such a number leaves other heads their bits, and reaches the same elements as on the CPU."""
    generator = torch.Generator().manual_seed(12)

    def gradients(*tensors):
        out, lse = attention(*tensors[:3], mask="causal", return_lse=True)
        return attention_vjp(tensors[3], *tensors[:3], out, lse, mask="causal")[:3]

    for features in (64, 100, 128):
        tensors = [torch.randn(1, 2, 200, features, generator=generator) for _ in range(4)]
        expected = gradients(*(x.cuda() for x in tensors))
        for which, value in ((1, float("nan")), (2, float("inf")), (2, 3.4e38), (3, 1e30)):
            changed = [x.clone() for x in tensors]
            changed[which][:, 1, 150, 3] = value
            on_gpu, on_cpu = gradients(*(x.cuda() for x in changed)), gradients(*changed)
            case = f"{features} features, {value} in argument {which}"
            for found, before, cpu in zip(on_gpu, expected, on_cpu):
                assert torch.equal(found[:, 0], before[:, 0]), f"{case}: another head"
                assert torch.equal(found.isfinite().cpu(), cpu.isfinite()), case
            before = expected[0][:, 1, :150]
            assert torch.allclose(on_gpu[0][:, 1, :150], before, rtol=1e-5, atol=1e-5), f"{case}: rows of dq that do not see it"


def first_use_in_a_capture():
    """In a process of its own: what the program compiles and loads is no work of the graph's."""
    import subprocess
    done = subprocess.run([sys.executable, "-c", FIRST_USE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FIRST_USE = """
import torch
from invar.core import fast
x = torch.randn(1, 4, 16, 64, device="cuda")
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    out = fast.scaled_dot_product_attention(x, x, x)
out.zero_()
graph.replay()
assert torch.equal(out, fast.scaled_dot_product_attention(x, x, x)) and out.any()
"""


def fork():
    """Last: a process that forks with CUDA started. The child must be told, not die."""
    q = torch.randn(1, 2, 3, 64).cuda()
    attention(q, q, q)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            try:
                attention(q, q, q)
            except (invar.DeviceError, MemoryError) as error:
                os._exit(0 if isinstance(error, invar.DeviceError) else 3)
            os._exit(4)
        os._exit(5)
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the child ended with {status}"


def gradients():
    """Of invar.torch, with the bits of the VJPs; compiled in one graph too."""
    import invar.torch as differentiable

    q, k, v, dy = (torch.randn(2, 4, 40, 64, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    weight = torch.randn(64, device="cuda")

    def layer(q, k, v, weight):
        q = differentiable.rope(differentiable.rms_norm(q, weight).to(k.dtype), 64)
        return differentiable.scaled_dot_product_attention(q, k, v, mask="causal")

    leaves = [x.clone().requires_grad_() for x in (q, k, v, weight)]
    found = torch.autograd.grad(layer(*leaves), leaves, dy)
    turned = fast.rope(fast.rms_norm(q, weight).to(k.dtype), 64)
    out, lse = fast.scaled_dot_product_attention(turned, k, v, mask="causal", return_lse=True)
    dq, dk, dv, *_ = fast.scaled_dot_product_attention_vjp(dy, turned, k, v, out, lse, mask="causal")
    dq, dweight = fast.rms_norm_vjp(fast.rope_vjp(dq, 64).float(), q, weight)
    assert equal(found, (dq, dk, dv, dweight))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert equal(torch.autograd.grad(compiled(*leaves), leaves, dy), found)
    torch._dynamo.reset()
    gc.collect()  # what is freed later would be seen by the checks of memory


OTHERS = {f.__name__: f for f in (table, functions_without_the_table, gpus, plans, numbers_without_parts, gradients_without_parts,
                                  refusals, kernels, first_use_in_a_capture, gradients, fork)}


# ---- without pytest ------------------------------------------------------------------------------------------------------


def attempt(name, call):
    begin = time.perf_counter()
    try:
        said, good = call(), True
    except Exception:
        said, good = "WRONG\n" + traceback.format_exc(), False
    print(f"{name}: {'ok' if good else ''} {said if said is not None else ''} ({time.perf_counter() - begin:.2f} s)", flush=True)
    return good


def main(dtypes):
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, invar {invar.__version__}")
    wrong = 0
    for name, call in OTHERS.items():
        if name != "fork":
            wrong += not attempt(name, call)
    for check, function in CHECKS.items():
        for name, case in CASES.items():
            for dtype in dtypes:
                wrong += not attempt(f"{check}: {name}, {dtype}", lambda: function(case, dtype))
    wrong += not attempt("fork", fork)
    print(f"{wrong} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or TYPES))
