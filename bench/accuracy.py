"""Error of each operation in units in the last place of the exact result's type, and of attention beside PyTorch's.

usage: accuracy.py [--values N] [--json FILE]
The exact result is the operation in float64 over the same inputs, rounded to the result's type nowhere. An error of 0.5 is
correct rounding. Inputs hold hard cases: rows of large mean, tiny and huge magnitudes, near-equal logits, far positions.
"""

import argparse
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor

import invar
import invar.core.fast as fast
import ml_dtypes
import numpy as np
from rich.console import Console
from rich.table import Table

TYPES = {"f32": (np.float32, 24, -126), "f16": (np.float16, 11, -14), "bf16": (ml_dtypes.bfloat16, 8, -126)}
CHUNK = 1 << 20


class Errors:
    def __init__(self, digits, least):
        self.digits, self.least, self.worst, self.total, self.count = digits, least, 0.0, 0.0, 0

    def add(self, got, exact):
        exponent = np.maximum(np.frexp(exact)[1], self.least + 1)
        error = np.abs(got.astype(np.float64) - exact) / np.ldexp(1.0, exponent - self.digits)
        self.worst, self.total, self.count = max(self.worst, error.max()), self.total + error.sum(), self.count + error.size


def hard_rows(rng, rows, width, dtype):
    """Rows of normal numbers, each with a scale and a mean of its own, up to 2^±10 and a mean of 100 deviations."""
    x = rng.standard_normal((rows, width))
    scale = np.exp2(rng.integers(-10, 10, (rows, 1)))
    mean = rng.choice([0.0, 1.0, 100.0], (rows, 1))
    return ((x + mean) * scale).astype(dtype)


def rms_norm(rng, dtype):
    x, w = hard_rows(rng, CHUNK // 1024, 1024, dtype), rng.standard_normal(1024).astype(dtype)
    a = x.astype(np.float64)
    return fast.rms_norm(x, w, 1e-5), a / np.sqrt((a * a).mean(-1, keepdims=True) + 1e-5) * w.astype(np.float64)


def layer_norm(rng, dtype):
    x = hard_rows(rng, CHUNK // 1024, 1024, dtype)
    w, b = rng.standard_normal(1024).astype(dtype), np.zeros(1024, dtype)
    a = x.astype(np.float64)
    c = a - a.mean(-1, keepdims=True)
    y = c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5)
    scale = w.astype(np.float64)
    # a value close to its row's mean is a difference: its error is counted at the magnitude of one deviation
    return fast.layer_norm(x, w, b, 1e-5), y * scale, np.maximum(np.abs(y), 1) * np.abs(scale)


def rope(rng, dtype):
    x = rng.standard_normal((CHUNK // (64 * 64), 64, 64)).astype(dtype)
    offset = int(rng.integers(0, 1 << 28))
    theta = (np.arange(64, dtype=np.longdouble)[:, None] + offset) * np.longdouble(10000) ** (
        -2 * np.arange(32, dtype=np.longdouble) / 64)
    cos, sin = np.cos(theta).astype(np.float64), np.sin(theta).astype(np.float64)
    a, b = x[..., :32].astype(np.float64), x[..., 32:].astype(np.float64)
    # the sum of two products may cancel: its error is counted at the magnitude of the rotated pair
    exact = np.concatenate([a * cos - b * sin, a * sin + b * cos], -1)
    pair = np.hypot(a, b)
    return fast.rope(x, 64, offset=offset), exact, np.concatenate([pair, pair], -1)


def attention_inputs(rng, dtype, size=64):
    q, k, v = (rng.standard_normal((1, 4, 512, size)) * s for s in (rng.choice([1.0, 4.0]), 1, 1))
    return tuple(t.astype(dtype) for t in (q, k, v))


def exact_attention(q, k, v):
    q, k, v = (t.astype(np.float64) for t in (q, k, v))
    logits = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p @ v, p @ np.abs(v)


def attention(rng, dtype):
    q, k, v = attention_inputs(rng, dtype)
    exact, magnitude = exact_attention(q, k, v)
    return fast.scaled_dot_product_attention(q, k, v), exact, magnitude


def measure(operation, name, values):
    dtype, digits, least = TYPES[name]
    errors, rng = Errors(digits, least), np.random.default_rng(0)
    while errors.count < values:
        got, exact, *magnitude = operation(rng, dtype)
        if magnitude:  # where terms cancel, an ulp is one of the terms' magnitude
            error = got.astype(np.float64) - exact
            errors.add(magnitude[0] + error, magnitude[0])
        else:
            errors.add(got, exact)
    return dict(operation=operation.__name__, type=name, values=errors.count, max_ulp=round(float(errors.worst), 3),
                mean_ulp=round(float(errors.total / errors.count), 3))


def beside_torch():
    """Root mean square error of attention, ours and PyTorch's, on the same data."""
    try:
        import torch
    except ImportError:
        return []
    rows = []
    for name, size in [(name, 64) for name in TYPES] + [("f32", size) for size in (80, 128, 256)]:
        dtype, sums, count = TYPES[name][0], np.zeros(2), 0
        for seed in range(8):
            q, k, v = attention_inputs(np.random.default_rng(seed), dtype, size)
            exact, _ = exact_attention(q, k, v)
            tensors = [torch.from_numpy(t.astype(np.float32)).to(getattr(torch, {"f32": "float32", "f16": "float16",
                                                                                "bf16": "bfloat16"}[name])) for t in (q, k, v)]
            theirs = torch.nn.functional.scaled_dot_product_attention(*tensors).double().numpy()
            ours = fast.scaled_dot_product_attention(q, k, v).astype(np.float64)
            sums += [((ours - exact) ** 2).sum(), ((theirs - exact) ** 2).sum()]
            count += exact.size
        ours, theirs = np.sqrt(sums / count)
        rows.append(dict(operation="attention", type=name, size=size, rms=float(ours), rms_torch=float(theirs)))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=10**8)
    parser.add_argument("--json")
    options = parser.parse_args()
    console = Console(width=100)
    table = Table("operation", "type", "values", "max ulp", "mean ulp", title=f"INVAR_CPU={invar.info()['cpu']}")
    jobs = [(op, name, options.values) for op in (rms_norm, layer_norm, rope, attention) for name in TYPES]
    os.environ["INVAR_NUM_THREADS"] = "1"
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(measure, *zip(*jobs)))
    for row in rows:
        table.add_row(*map(str, row.values()))
    console.print(table)
    other = beside_torch()
    table = Table("attention", "D", "our RMS error", "PyTorch's", "ratio")
    for row in other:
        table.add_row(row["type"], str(row["size"]), f"{row['rms']:.3g}", f"{row['rms_torch']:.3g}",
                      f"{row['rms'] / row['rms_torch']:.2f}")
    console.print(table)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(cpu=invar.info()["cpu"], rows=rows, attention=other), file, indent=1)


if __name__ == "__main__":
    main()
