"""The bits of one example's result, compared byte by byte: batch, place, address, other queries, threads, runs, instruction
sets."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracles import BF16, F16, F32, F64
from strategies import filled

import invar
import invar.core.fast as fast

TYPES = pytest.mark.parametrize("dtype", [F32, F16, BF16, F64], ids=str)
THREADS = (1, 2, 3, 7, 16)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = invar.info()["num_threads"]
    yield
    invar.set_num_threads(before)


def attention_cases(rng, dtype):
    """name, arrays with a batch axis, arrays without, keywords."""
    q, k, v = (
        filled(rng, (4, 4, 70, 40), dtype),
        filled(rng, (4, 2, 150, 40), dtype),
        filled(rng, (4, 2, 150, 24), dtype),
    )
    mask = filled(rng, (4, 4, 70, 150), dtype)
    mask[rng.random(mask.shape) < 0.3] = -np.inf
    lengths = np.array([150, 3, 90, 149])
    sinks = filled(rng, 4, dtype)
    return [
        ("plain", dict(q=q, k=k, v=v), dict()),
        ("causal", dict(q=q, k=k, v=v), dict(mask="causal", softcap=8.0)),
        ("mask", dict(q=q, k=k, v=v, mask=mask), dict(sinks=sinks)),
        ("lengths", dict(q=q, k=k, v=v, kv_lengths=lengths), dict(window=(60, 2))),
        ("decode", dict(q=q[:, :, :1], k=k, v=v, kv_lengths=lengths), dict(mask="causal")),
    ]


def forward_and_backward(arrays, keywords):
    """Every result that belongs to one example."""
    out, lse = fast.scaled_dot_product_attention(**arrays, **keywords, return_lse=True)
    dout = (np.arange(out.size).reshape(out.shape) % 5 - 2).astype(out.dtype)
    gradients = fast.scaled_dot_product_attention_vjp(dout, **arrays, out=out, lse=lse, **keywords)
    return [out, lse, *gradients[:3]]


def per_example(results):
    return [[r[b].tobytes() for r in results] for b in range(len(results[0]))]


def norm_results(x, w, b, dy):
    return [
        fast.rms_norm(x, w),
        fast.layer_norm(x, w, b),
        *fast.add_rms_norm(x, dy, w),
        fast.rms_norm_vjp(dy, x, w)[0],
        fast.layer_norm_vjp(dy, x, w, b)[0],
        fast.rope(x, 32, offset=5),
        fast.rope_vjp(dy, 32, offset=5),
    ]


@TYPES
def test_attention_does_not_depend_on_batch_or_place(dtype, rng):
    for name, arrays, keywords in attention_cases(rng, dtype):
        together = per_example(forward_and_backward(arrays, keywords))
        order = [2, 0, 3, 1]
        shuffled = per_example(forward_and_backward({n: a[order] for n, a in arrays.items()}, keywords | {}))
        for place, b in enumerate(order):
            # dout counts from the first element, so gradients compare with an example alone in the same place only.
            assert shuffled[place][:2] == together[b][:2], name
            alone = per_example(forward_and_backward({n: a[b : b + 1] for n, a in arrays.items()}, keywords))
            assert alone[0][:2] == together[b][:2], name


@TYPES
def test_attention_gradients_do_not_depend_on_batch_or_place(dtype, rng):
    for name, arrays, keywords in attention_cases(rng, dtype):
        out, lse = fast.scaled_dot_product_attention(**arrays, **keywords, return_lse=True)
        dout = filled(rng, out.shape, dtype)
        together = fast.scaled_dot_product_attention_vjp(dout, **arrays, out=out, lse=lse, **keywords)[:3]
        for chosen in ([1], [3, 1], [0, 2, 1, 3]):
            part = fast.scaled_dot_product_attention_vjp(
                dout[chosen], **{n: a[chosen] for n, a in arrays.items()}, out=out[chosen], lse=lse[chosen], **keywords
            )[:3]
            for got, want in zip(part, together):
                assert got.tobytes() == want[chosen].tobytes(), name


def placed(x, offset):
    """A copy of x that begins so many bytes behind the begin of a cache line."""
    memory = np.empty(x.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    copy = memory[first : first + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@TYPES
@pytest.mark.parametrize("dim", [64, 128])
def test_attention_does_not_depend_on_addresses(dtype, dim, rng):
    """Rows are read in place or copied first, by where they begin."""
    q, dout = filled(rng, (1, 2, 140, dim), dtype), filled(rng, (1, 2, 140, dim), dtype)
    k, v = filled(rng, (1, 2, 300, dim), dtype), filled(rng, (1, 2, 300, dim), dtype)
    found = []
    for offset in (0, q.itemsize, 16, 48):
        arrays = {name: placed(x, offset) for name, x in dict(q=q, k=k, v=v).items()}
        out, lse = fast.scaled_dot_product_attention(**arrays, mask="causal", return_lse=True)
        results = fast.scaled_dot_product_attention_vjp(placed(dout, offset), **arrays, out=out, lse=lse, mask="causal")
        found.append([r.tobytes() for r in (out, lse, *results[:3])])
    assert all(f == found[0] for f in found)


@TYPES
def test_norms_and_rope_do_not_depend_on_batch_or_place(dtype, rng):
    x, dy = filled(rng, (5, 7, 100), dtype), filled(rng, (5, 7, 100), dtype)
    w, b = filled(rng, 100, dtype), filled(rng, 100, dtype)
    together = norm_results(x, w, b, dy)
    for chosen in ([4], [1, 0], [3, 2, 1]):
        for got, want in zip(norm_results(x[chosen], w, b, dy[chosen]), together):
            assert got.tobytes() == want[chosen].tobytes()


@TYPES
def test_rows_do_not_depend_on_other_queries(dtype, rng):
    """One query, a chunk of a prompt and the whole of it give a row the same bits."""
    q, k, v = (filled(rng, (1, 2, 300, 40), dtype) for _ in range(3))
    whole, whole_lse = fast.scaled_dot_product_attention(q, k, v, mask="causal", return_lse=True)
    for first, last in [(0, 1), (0, 7), (100, 101), (64, 190), (299, 300), (17, 300)]:
        out, lse = fast.scaled_dot_product_attention(
            q[:, :, first:last], k[:, :, :last], v[:, :, :last], mask="causal", return_lse=True
        )
        assert out.tobytes() == whole[:, :, first:last].tobytes()
        assert lse.tobytes() == whole_lse[:, :, first:last].tobytes()


@TYPES
def test_rows_do_not_depend_on_trailing_keys_that_they_cannot_see(dtype, rng):
    q, k, v = (
        filled(rng, (1, 2, 9, 40), dtype),
        filled(rng, (1, 2, 700, 40), dtype),
        filled(rng, (1, 2, 700, 40), dtype),
    )
    for length in (1, 5, 128, 333):
        seen = np.arange(700) < length
        short = fast.scaled_dot_product_attention(q, k[:, :, :length], v[:, :, :length])
        for keywords in (dict(kv_lengths=[length]), dict(mask=seen)):
            assert fast.scaled_dot_product_attention(q, k, v, **keywords).tobytes() == short.tobytes()


@TYPES
def test_threads_do_not_matter(dtype, rng):
    x, dy = filled(rng, (50, 40, 64), dtype), filled(rng, (50, 40, 64), dtype)
    w, b = filled(rng, 64, dtype), filled(rng, 64, dtype)
    cases = attention_cases(rng, dtype)
    found = []
    for threads in THREADS:
        invar.set_num_threads(threads)
        results = norm_results(x, w, b, dy) + [*fast.rms_norm_vjp(dy, x, w), *fast.layer_norm_vjp(dy, x, w, b)]
        for _, arrays, keywords in cases:
            results += forward_and_backward(arrays, keywords)
        found.append([r.tobytes() for r in results])
    assert all(f == found[0] for f in found)


@TYPES
def test_runs_do_not_matter(dtype, rng):
    invar.set_num_threads(3)
    for name, arrays, keywords in attention_cases(rng, dtype):
        first = [r.tobytes() for r in forward_and_backward(arrays, keywords)]
        for _ in range(4):
            assert [r.tobytes() for r in forward_and_backward(arrays, keywords)] == first, name


# ---- instruction sets: one process each, which prints a hash of every float32 result ------------------


def float32_hashes():
    rng = np.random.default_rng(7)
    hashes = {}
    for length in (1, 31, 100, 515):
        x, dy = filled(rng, (9, 3, length), F32), filled(rng, (9, 3, length), F32)
        w, b = filled(rng, length, F32), filled(rng, length, F32)
        results = [
            fast.rms_norm(x, w),
            fast.layer_norm(x, w, b),
            *fast.add_rms_norm(x, dy, w),
            *fast.rms_norm_vjp(dy, x, w),
            *fast.layer_norm_vjp(dy, x, w, b),
        ]
        if length > 1:
            results += [fast.rope(x, length // 2 * 2, traditional, offset=12345) for traditional in (False, True)]
        hashes[f"norms and rope {length}"] = results
    for name, arrays, keywords in attention_cases(rng, F32):
        hashes[f"attention {name}"] = forward_and_backward(arrays, keywords)
    return {
        name: hashlib.sha256(b"".join(r.tobytes() for r in results)).hexdigest() for name, results in hashes.items()
    }


@pytest.mark.once
def test_float32_does_not_depend_on_the_instruction_set():
    """`reference` is set apart: it sums in double."""
    sets = [name for name in invar.info()["cpu_available"].split() if name != "reference"]
    found = {}
    for name in sets:
        folder = str(Path(__file__).parent)
        program = f"import json, sys; sys.path.insert(0, {folder!r}); import test_invariance as t\n"
        program += "print(json.dumps(t.float32_hashes()))"
        result = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"INVAR_CPU": name},
            capture_output=True,
            text=True,
            check=True,
        )
        found[name] = json.loads(result.stdout)
    print("compared:", ", ".join(sets))
    for name in sets:
        assert found[name] == found[sets[0]], f"{name} differs from {sets[0]}"
