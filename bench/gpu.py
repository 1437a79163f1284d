"""Times every operation on a GPU beside PyTorch's own, by turns, with the L2 cache cleared before each call.

"x" is the best peer's time over ours. GB/s count each argument and result once; TFLOP/s the products of the keys that are seen.

usage: gpu.py [--rounds N] [--cases REGEX] [--json FILE]
"""

import argparse
import datetime
import json
import re
import statistics
import subprocess

import torch
import torch.nn.functional as torch_fast
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel

import invar
from invar.core import fast

BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
TOKENS, WIDTH = 16384, 2048  # of attention's prefill: batch · T, heads · D
CLEARED = 1 << 28            # bytes, more than any L2
WARM_UP = 3


def draw(*shape, dtype=torch.bfloat16):
    return torch.randn(*shape, device="cuda", dtype=torch.float32).to(dtype)


class Case:
    """work: bytes, or operations where it is arithmetic that bounds; peers: calls of the same meaning."""

    def __init__(self, name, ours, peers, *, bytes=None, flops=None):
        self.name, self.calls = name, {"invar": ours, **peers}
        self.work, self.unit = (bytes / 1e9, "GB/s") if bytes else (flops / 1e12, "TFLOP/s")


def size(*tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


# ---- attention ---------------------------------------------------------------------------------------------------------


def peer_attention(q, k, v, causal, mask=None):
    def call(backend):
        with sdpa_kernel(backend):
            return torch_fast.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])
    return {name: lambda b=backend: call(b) for name, backend in BACKENDS.items()}


def prefill(dtype, length, features, causal):
    q, k, v = (draw(TOKENS // length, WIDTH // features, length, features, dtype=dtype) for _ in range(3))
    flops = 4 * TOKENS * length * WIDTH / (2 if causal else 1)
    yield Case(f"attention {kind(dtype)} T {length} D {features}{' causal' if causal else ''}",
               lambda: fast.scaled_dot_product_attention(q, k, v, mask="causal" if causal else None),
               peer_attention(q, k, v, causal), flops=flops)


def masked(dtype, length, features, what):
    """bias: numbers that all heads share; heads: each its own; padding: a bool mask that hides an eighth of the keys."""
    batch, heads = TOKENS // length, WIDTH // features
    q, k, v = (draw(batch, heads, length, features, dtype=dtype) for _ in range(3))
    if what == "padding":
        mask = (torch.arange(length, device="cuda") < length - length // 8).expand(batch, 1, 1, length).contiguous()
    else:
        mask = draw(1, heads if what == "heads" else 1, length, length, dtype=dtype)
    yield Case(f"attention {kind(dtype)} T {length} D {features} mask: {what}",
               lambda: fast.scaled_dot_product_attention(q, k, v, mask=mask), peer_attention(q, k, v, False, mask),
               flops=4 * TOKENS * length * WIDTH)


def decode(dtype, batch, keys):
    q, k, v = draw(batch, 32, 1, 128, dtype=dtype), draw(batch, 8, keys, 128, dtype=dtype), draw(batch, 8, keys, 128, dtype=dtype)
    yield Case(f"decode {kind(dtype)} {batch} x {keys} keys, 32/8 heads", lambda: fast.scaled_dot_product_attention(q, k, v),
               peer_attention(q, k, v, False), bytes=size(k, v))


def peer_backward(q, k, v, dout, **how):
    def peer(backend):
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        with sdpa_kernel(backend):
            result = torch_fast.scaled_dot_product_attention(*leaves, **how)
        return lambda: torch.autograd.grad(result, leaves, dout, retain_graph=True)
    peers = {}
    for name, backend in BACKENDS.items():
        try:
            peers[name] = peer(backend)
        except RuntimeError:
            continue  # the backend does not take the type, or no mask
    return peers


def backward(dtype, length, features, causal):
    q, k, v, dout = (draw(TOKENS // length, WIDTH // features, length, features, dtype=dtype) for _ in range(4))
    mask = "causal" if causal else None
    out, lse = fast.scaled_dot_product_attention(q, k, v, mask=mask, return_lse=True)
    flops = 10 * TOKENS * length * WIDTH / (2 if causal else 1)
    yield Case(f"attention vjp {kind(dtype)} T {length} D {features}{' causal' if causal else ''}",
               lambda: fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, mask=mask),
               peer_backward(q, k, v, dout, is_causal=causal), flops=flops)


def masked_backward(length, features, what):
    """All pairs' operations count, seen or not. PyTorch has no softcap but by flex_attention, which it compiles."""
    batch, heads = TOKENS // length, WIDTH // features
    q, k, v, dout = (draw(batch, heads, length, features) for _ in range(4))
    masks = {"bias": lambda: draw(length, length), "bias per head": lambda: draw(heads, length, length), "softcap": lambda: None,
             "padding": lambda: (torch.arange(length, device="cuda") < 3 * length // 4).expand(batch, 1, 1, length)}
    mask = masks[what]()
    how = {"softcap": 30.0} if mask is None else {"mask": mask}
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True, **how)
    peers = {} if mask is None else peer_backward(q, k, v, dout, attn_mask=mask.expand(batch, heads, length, length))
    yield Case(f"attention vjp bf16 T {length} D {features} {what}",
               lambda: fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, **how), peers,
               flops=10 * TOKENS * length * WIDTH)


# ---- norms, rope, a kernel ---------------------------------------------------------------------------------------------


def peer_gradient(function, dy, *inputs):
    leaves = [t.detach().requires_grad_() for t in inputs]
    result = function(*leaves)
    return lambda: torch.autograd.grad(result, leaves, dy, retain_graph=True)


def norms(dtype, rows, columns):
    x, r, dy = (draw(rows, columns, dtype=dtype) for _ in range(3))
    w, b = draw(columns, dtype=dtype), draw(columns, dtype=dtype)
    y, s, dx, dw, db = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x), torch.empty_like(w), torch.empty_like(w)
    what = f"{kind(dtype)} {rows} x {columns}"

    def rms(x, w):
        return torch_fast.rms_norm(x, (columns,), w, 1e-5)

    def layer(x, w, b):
        return torch_fast.layer_norm(x, (columns,), w, b)
    yield Case(f"rms_norm {what}", lambda: fast.rms_norm(x, w, 1e-5, out=y), {"torch": lambda: rms(x, w)}, bytes=size(x, y))
    yield Case(f"add_rms_norm {what}", lambda: fast.add_rms_norm(x, r, w, 1e-5, out=(y, s)), {"torch": lambda: rms(x + r, w)},
               bytes=size(x, r, y, s))
    yield Case(f"layer_norm {what}", lambda: fast.layer_norm(x, w, b, 1e-5, out=y), {"torch": lambda: layer(x, w, b)},
               bytes=size(x, y))
    yield Case(f"rms_norm_vjp {what}", lambda: fast.rms_norm_vjp(dy, x, w, 1e-5, out=(dx, dw)),
               {"torch": peer_gradient(rms, dy, x, w)}, bytes=size(x, dy, dx))
    yield Case(f"layer_norm_vjp {what}", lambda: fast.layer_norm_vjp(dy, x, w, b, 1e-5, out=(dx, dw, db)),
               {"torch": peer_gradient(layer, dy, x, w, b)}, bytes=size(x, dy, dx))


def rope(dtype, *shape):
    """Beside a copy: torch has no rope of its own."""
    x = draw(*shape, dtype=dtype)
    y = torch.empty_like(x)
    yield Case(f"rope {kind(dtype)} {' x '.join(map(str, shape))}",
               lambda: fast.rope(x, shape[-1], traditional=False, base=1e4, scale=1.0, offset=0, out=y),
               {"copy": lambda: y.copy_(x)}, bytes=size(x, y))


def kernels(count):
    a, b = draw(count, dtype=torch.float32), draw(count, dtype=torch.float32)
    names = {"input_names": ["a", "b"], "output_names": ["out"]}
    metal = fast.metal_kernel(name="add", source="uint i = thread_position_in_grid.x; out[i] = a[i] + b[i];", **names)
    cuda = fast.cuda_kernel(name="add", **names,
                            source="auto i = cooperative_groups::this_grid().thread_rank(); out[i] = a[i] + b[i];")
    for name, kernel in (("metal_kernel", metal), ("cuda_kernel", cuda)):
        yield Case(f"{name} a + b of {count}",
                   lambda k=kernel: k(inputs=[a, b], grid=(count, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(count,)],
                                      output_dtypes=[torch.float32]), {"torch": lambda: a + b}, bytes=3 * size(a))


def kind(dtype):
    return {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[dtype]


def cases():
    bf16, f16, f32 = torch.bfloat16, torch.float16, torch.float32
    for features in (64, 128, 256):
        for causal in (False, True):
            yield lambda f=features, c=causal: prefill(bf16, 4096, f, c)
    for dtype, length, features in ((bf16, 16384, 64), (bf16, 16384, 128), (f16, 4096, 128), (f32, 4096, 64), (f32, 4096, 128),
                                    (f32, 4096, 256)):
        yield lambda d=dtype, t=length, f=features: prefill(d, t, f, True)
    for features in (64, 128, 256):
        for what in ("bias", "heads", "padding"):
            yield lambda f=features, w=what: masked(bf16, 4096, f, w)
    for batch, keys in ((1, 4096), (1, 131072), (16, 4096), (64, 4096)):
        yield lambda b=batch, k=keys: decode(bf16, b, k)
    for dtype, features in ((bf16, 64), (bf16, 128), (f16, 128), (f32, 64)):
        for causal in (False, True):
            yield lambda d=dtype, f=features, c=causal: backward(d, 4096, f, c)
    yield lambda: backward(bf16, 4096, 512, False)
    for length, features in ((4096, 64), (4096, 128), (1024, 128)):
        for what in ("softcap", "bias", "bias per head", "padding"):
            yield lambda t=length, f=features, w=what: masked_backward(t, f, w)
    for dtype in (bf16, f32):
        for rows, columns in ((16384, 4096), (4096, 32768), (524288, 128)):
            yield lambda d=dtype, r=rows, c=columns: norms(d, r, c)
    for dtype, shape in ((bf16, (1, 32, 4096, 128)), (bf16, (8, 32, 4096, 128)), (f32, (8, 32, 4096, 128)), (bf16, (64, 32, 1, 128))):
        yield lambda d=dtype, s=shape: rope(d, *s)
    yield lambda: kernels(1 << 26)


# ---- timing ------------------------------------------------------------------------------------------------------------


def seconds(calls, rounds):
    """Median time of each call. One that fails is left out."""
    cleared, times = torch.empty(CLEARED, dtype=torch.uint8, device="cuda"), {name: [] for name in calls}
    for turn in range(-WARM_UP, rounds):
        for name, call in calls.items():
            if times[name] is None:
                continue
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            cleared.zero_()
            begin.record()
            try:
                call()
            except (RuntimeError, ValueError):
                times[name] = None
                continue
            end.record()
            end.synchronize()
            if turn >= 0:
                times[name].append(begin.elapsed_time(end) / 1e3)
    return {name: statistics.median(of) for name, of in times.items() if of}


def measure(pattern, rounds):
    for make in cases():
        for case in make():
            if re.search(pattern, case.name):
                yield case, seconds(case.calls, rounds)
        torch.cuda.empty_cache()


def row_of(case, times):
    rates = {name: case.work / time for name, time in times.items()}
    peers = {name: rate for name, rate in rates.items() if name != "invar"}
    ratio = rates["invar"] / max(peers.values()) if peers and "invar" in rates else None
    return {"case": case.name, "unit": case.unit, "rates": {name: round(rate, 1) for name, rate in rates.items()},
            "ratio": ratio and round(ratio, 3)}


def machine():
    driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    return {"gpu": torch.cuda.get_device_name(), "driver": driver.stdout.strip(), "pytorch": torch.__version__,
            "cuda": torch.version.cuda, "invar": invar.__version__, "date": datetime.date.today().isoformat()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cases", default="", metavar="REGEX")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    table, rows = Table("case", "unit", "invar", "peers", "x", title=f"{torch.cuda.get_device_name()}, medians"), []
    for case, times in measure(arguments.cases, arguments.rounds):
        row = row_of(case, times)
        rows.append(row)
        rates = dict(row["rates"])
        table.add_row(case.name, case.unit, str(rates.pop("invar", "refused")),
                      ", ".join(f"{name} {rate}" for name, rate in rates.items()), str(row["ratio"] or ""))
    Console(width=150).print(table)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({**machine(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
