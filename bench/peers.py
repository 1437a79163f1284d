"""Thunks that run one case: this project's and its peers'. A peer returns None where it has no such operation.

Peers are used where they are importable; none is needed. ggml is found through GGML_DIR in the peers' own programs and
is not driven from here.
"""

import math
import os

import ml_dtypes
import numpy as np

from cases import WINDOW

NUMPY = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32).astype(dtype)


def _rotating(make, count=2):
    """A memory-bound case must not find its input in the cache."""
    arrays = [make(i) for i in range(count)]
    position = [0]

    def following():
        position[0] = (position[0] + 1) % count
        return arrays[position[0]]

    return following


def _causal_mask(length, keys):
    return np.tril(np.ones((length, keys), bool), keys - length)


def _attention_inputs(case, make):
    b, h, kv, t, s, d = (case[k] for k in "BHKTSD")
    return make((b, h, t, d), 1), make((b, kv, s, d), 2), make((b, kv, s, d), 3)


def invar(case, threads):
    import invar
    import invar.core.fast as fast

    invar.set_num_threads(threads)
    dtype = np.dtype(NUMPY[case["dtype"]])
    op = case["op"]
    if "norm" in op:
        n, d = case["n"], case["d"]
        x = _rotating(lambda i: normal((n, d), dtype, i))
        w, b, g = normal((d,), dtype, 7), normal((d,), dtype, 8), normal((n, d), dtype, 9)
        keywords = {}
        if case["out"]:
            y, rows = np.empty((n, d), dtype), [np.empty_like(w) for _ in range(1 + op.startswith("layer"))]
            keywords["out"] = (y, *rows) if op.endswith("vjp") else y
        return {
            "rms_norm": lambda: fast.rms_norm(x(), w, 1e-5, **keywords),
            "layer_norm": lambda: fast.layer_norm(x(), w, b, 1e-5, **keywords),
            "rms_norm_vjp": lambda: fast.rms_norm_vjp(g, x(), w, 1e-5, **keywords),
            "layer_norm_vjp": lambda: fast.layer_norm_vjp(g, x(), w, b, 1e-5, **keywords),
        }[op]
    if op == "rope":
        shape = tuple(case[k] for k in "BHTD")
        x = _rotating(lambda i: normal(shape, dtype, i))
        keywords = {"out": np.empty(shape, dtype)} if case["out"] else {}
        return lambda: fast.rope(x(), case["D"], **keywords)
    q, k, v = _attention_inputs(case, lambda shape, seed: normal(shape, dtype, seed))
    keywords = {}
    if case["mask"] == "window":
        keywords["window"] = (WINDOW, 0)
    elif case["mask"] == "causal":
        keywords["mask"] = "causal"
    elif case["mask"] == "bias":
        keywords["mask"] = normal((case["T"], case["S"]), dtype, 5)
    elif case["mask"]:
        seen = _causal_mask(case["T"], case["S"])
        keywords["mask"] = seen if case["mask"] == "bool" else np.where(seen, 0, -np.inf).astype(dtype)
    if op == "attention":
        return lambda: fast.scaled_dot_product_attention(q, k, v, **keywords)
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True, **keywords)
    g = normal(out.shape, dtype, 4)
    return lambda: fast.scaled_dot_product_attention_vjp(g, q, k, v, out, lse, **keywords)


def torch(case, threads):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[case["dtype"]]

    def make(shape, seed=0):
        return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))

    def no_grad(f):
        def run():
            with torch.no_grad():
                return f()

        return run

    op = case["op"]
    if "norm" in op:
        n, d = case["n"], case["d"]
        if case["out"]:
            return None
        w, b = make((d,), 7), make((d,), 8)
        if not op.endswith("vjp"):
            x = _rotating(lambda i: make((n, d), i))
            if op == "rms_norm":
                return no_grad(lambda: F.rms_norm(x(), (d,), w, 1e-5))
            return no_grad(lambda: F.layer_norm(x(), (d,), w, b, 1e-5))
        x, g = make((n, d)).requires_grad_(), make((n, d), 9)
        inputs = (x, w.requires_grad_()) if op[0] == "r" else (x, w.requires_grad_(), b.requires_grad_())
        y = F.rms_norm(x, (d,), w, 1e-5) if op[0] == "r" else F.layer_norm(x, (d,), w, b, 1e-5)
        return lambda: torch.autograd.grad(y, inputs, g, retain_graph=True)
    if op == "rope":
        return None if case["out"] else no_grad(_torch_rope(torch, case, make, dtype))
    q, k, v = _attention_inputs(case, make)
    mask = make((case["T"], case["S"]), 5) if case["mask"] == "bias" else None
    if case["mask"] in ("additive", "bool", "window"):
        seen = _causal_mask(case["T"], case["S"])
        if case["mask"] == "window":
            seen = np.triu(seen, -WINDOW)
        mask = torch.from_numpy(seen)
        if case["mask"] == "additive":
            mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~mask, -math.inf)
    keywords = dict(attn_mask=mask, is_causal=case["mask"] == "causal", enable_gqa=case["H"] != case["K"])
    if op == "attention":
        return no_grad(lambda: F.scaled_dot_product_attention(q, k, v, **keywords))
    inputs = tuple(t.requires_grad_() for t in (q, k, v))
    y, g = F.scaled_dot_product_attention(q, k, v, **keywords), make(q.shape, 4)
    return lambda: torch.autograd.grad(y, inputs, g, retain_graph=True)


def _torch_rope(torch, case, make, dtype):
    """Rope as models write it over PyTorch: tables made beforehand, halves rotated by concatenation."""
    d, length = case["D"], case["T"]
    angle = torch.arange(length).float()[:, None] / 10000 ** (torch.arange(0, d, 2).float() / d)
    cos, sin = (torch.cat([f(angle)] * 2, -1).to(dtype) for f in (torch.cos, torch.sin))
    x = _rotating(lambda i: make(tuple(case[k] for k in "BHTD"), i))

    def run():
        a = x()
        return a * cos + torch.cat((-a[..., d // 2:], a[..., : d // 2]), -1) * sin

    return run


def onnxruntime(case, threads):
    if case["dtype"] != "f32" or case["op"].endswith("vjp") or case.get("mask") in ("bias", "bool", "window"):
        return None
    from onnx_graphs import bound_session

    return bound_session(case, threads)


def information():
    """What a table of figures should say of the machine and the build."""
    import invar

    return {key: value for key, value in invar.info().items() if isinstance(value, (str, int, float))}


def available():
    """The peers that can be imported here, this project first."""
    from importlib.util import find_spec

    peers = {"invar": invar}
    if find_spec("torch"):
        peers["torch"] = torch
    if find_spec("onnxruntime") and find_spec("onnx"):
        peers["onnxruntime"] = onnxruntime
    return peers


def limit_threads(threads):
    """Before any peer is imported."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
