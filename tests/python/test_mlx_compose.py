"""The operations in MLX's own, which run where MLX forbids evaluation, mean what invar's do: results, gradients, types."""

import math

import numpy as np
import pytest
from libraries import Mlx, NumPy, mlx
from oracles import BF16, F16, F32, F64, accumulator, assert_close, layer_norm, promote, rms_norm, rope, wide
from strategies import filled

from invar.core import fast

if not mlx:
    pytest.skip("mlx is not installed", allow_module_level=True)

from invar._mlx_compose import as_mlx, compose, compose_vjp

pytestmark = pytest.mark.once
TYPES = tuple(map(np.dtype, NumPy.types))
# Both round: float32's exp and tanh of MLX to some units of 2^-24, a half type's result by half a unit of its own at most.
TOLERANCE = {F32: 2e-6, F64: 1e-13, F16: 1e-3, BF16: 8e-3}


def same(ours, theirs, what, factor=1):
    """One shape and type; finite in the same places and there alike."""
    if ours is None:
        assert theirs is None, what
        return
    assert as_mlx(ours).dtype == theirs.dtype and ours.shape == theirs.shape, what
    expected, found, tolerance = wide(ours), wide(Mlx.read(theirs)), factor * TOLERANCE[np.dtype(ours.dtype)]
    absolute = tolerance * (1 + np.abs(expected[np.isfinite(expected)]).max(initial=0))
    np.testing.assert_allclose(found, expected, tolerance, absolute, err_msg=what)


def composed(operation, **arguments):
    return compose(operation, {name: as_mlx(value) for name, value in arguments.items()})


def random_call(rng, dtype):
    """(arguments of scaled_dot_product_attention, whether its mask has a gradient), of every kind there is."""
    lead = [(), (2,), (2, 3)][rng.integers(3)]
    heads, group, queries, keys = rng.integers(1, 3), rng.integers(1, 4), rng.integers(1, 8), rng.integers(0, 10)
    features, values = rng.choice([0, 1, 8, 20], 2, p=[0.05, 0.15, 0.4, 0.4])
    shapes = [(*lead, heads * group, queries, features), (*lead, heads, keys, features), (*lead, heads, keys, values)]
    a = {name: filled(rng, shape, dtype) for name, shape in zip("qkv", shapes, strict=True)}
    full = [*shapes[0][:-1], keys]
    kind = rng.integers(5)
    shape = [1 if rng.random() < 0.3 else size for size in full][rng.integers(len(full)) if rng.random() < 0.3 else 0 :]
    if kind == 1:
        a["mask"] = "causal"
    elif kind == 2:
        a["mask"] = rng.random(shape) < 0.6
    elif kind == 3:
        a["mask"] = np.where(rng.random(shape) < 0.3, -np.inf, filled(rng, shape, dtype).astype(float)).astype(dtype)
    elif kind == 4:
        a["mask"] = rng.integers(-2, 3, shape, dtype=np.int32)
    chosen = {"sinks": filled(rng, heads * group, dtype), "softcap": 2.0, "scale": [0.0, -0.5][rng.integers(2)],
              "window": [(2, None), (None, 1), (1, 1), (2**40, 2**62)][rng.integers(4)],
              "kv_lengths": rng.integers(0, keys + 1, math.prod(lead))}
    return a | {name: value for name, value in chosen.items() if rng.random() < 0.35}, kind == 3


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_attention(rng, dtype):
    """The results, invar's gradient, and the one that MLX makes of the composed results."""
    names = ("q", "k", "v", "sinks", "mask")
    for number in range(60):
        a, additive = random_call(rng, dtype)
        what = f"{number}: { {n: getattr(x, 'shape', x) for n, x in a.items()} }"
        out, lse = fast.scaled_dot_product_attention(**a, return_lse=True)
        found = composed("scaled_dot_product_attention", **a, return_lse=True)
        same(out, found[0], what)
        same(lse, found[1], what)
        dout, dlse = filled(rng, out.shape, dtype), filled(rng, lse.shape, lse.dtype)
        extra = dict(dout=dout, out=out, lse=lse, dlse=dlse, mask_grad=additive)
        expected = fast.scaled_dot_product_attention_vjp(**a, **extra)
        for name, x, y in zip(names, expected, composed("scaled_dot_product_attention_vjp", **a, **extra), strict=True):
            same(x, y, f"d{name} of {what}", 10)
        given = [n for n in names if n in a and (n != "mask" or additive)]
        arguments = {name: as_mlx(value) for name, value in a.items()} | {"return_lse": True}
        gradients = compose_vjp("scaled_dot_product_attention", arguments, given, [as_mlx(dout), as_mlx(dlse)])
        for name, y in zip(given, gradients, strict=True):
            same(dict(zip(names, expected, strict=True))[name], y, f"MLX's d{name} of {what}", 10)


def test_what_is_masked_out_stays_out(rng):
    """NaN and infinities at keys that some rows see and some do not, and beyond kv_lengths, where nobody does."""
    q, k, v = (filled(rng, (2, 2, 6, 8), F32) for _ in range(3))
    for place, value in ((k, np.nan), (v, np.nan), (v, np.inf), (k, np.inf)):
        for options in ({"mask": "causal"}, {"window": (1, 0), "softcap": 3.0}, {"kv_lengths": np.array([3, 4])}):
            a = {"q": q, "k": k.copy(), "v": v.copy(), **options}
            a["k" if place is k else "v"][:, :, 4, 2] = value
            out, lse = fast.scaled_dot_product_attention(**a, return_lse=True)
            expected = fast.scaled_dot_product_attention_vjp(np.ones_like(out), out=out, lse=lse, **a)
            assert np.isfinite(out[0, 0, 0]).all() and np.isfinite(expected[0][0, 0, 0]).all()
            unseen = "kv_lengths" in options or (place is k and value == np.inf and "softcap" in options)
            assert np.isfinite(out).all() == unseen
            found = Mlx.read(composed("scaled_dot_product_attention", **a)[0])
            np.testing.assert_allclose(found, out, 1e-5, 1e-5)
            gradients = compose_vjp("scaled_dot_product_attention", {n: as_mlx(x) for n, x in a.items()}, ["q", "k", "v"],
                                    [mlx.ones(out.shape)])
            for x, y in zip(expected, gradients, strict=False):
                clean = np.isfinite(x)
                np.testing.assert_allclose(Mlx.read(y)[clean], x[clean], 1e-5, 1e-5)


def test_nothing_of_anything():
    """No rows, no keys and no features: reductions of empty arrays, which MLX does not end always, are not asked for."""
    for shape in ((0, 2, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)):
        x = np.ones(shape, np.float32)
        same(fast.scaled_dot_product_attention(x, x, x), composed("scaled_dot_product_attention", q=x, k=x, v=x)[0], str(shape))
        for name in ("rms_norm", "layer_norm"):
            same(getattr(fast, name)(x), composed(name, x=x)[0], f"{name} {shape}")
            gradients = getattr(fast, f"{name}_vjp")(x, x)
            for a, b in zip(gradients, composed(f"{name}_vjp", dy=x, x=x), strict=True):
                same(a, b, f"{name}_vjp {shape}")


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_norms(rng, dtype):
    x, residual, dy = (filled(rng, (3, 5, 40), dtype) for _ in range(3))
    weight, bias = filled(rng, 40, dtype), filled(rng, 40, F32)
    for w, b in ((None, None), (weight, None), (weight, bias), (None, bias)):
        assert_close(Mlx.read(composed("layer_norm", x=x, weight=w, bias=b)[0]), *scaled(layer_norm(x, w, b)))
        for found, expected in zip(composed("layer_norm_vjp", dy=dy, x=x, weight=w, bias=b), fast.layer_norm_vjp(dy, x, w, b),
                                   strict=True):
            same(expected, found, "layer_norm_vjp", 10)
        if b is not None:
            continue
        assert_close(Mlx.read(composed("rms_norm", x=x, weight=w, eps=1e-3)[0]), *scaled(rms_norm(x, w, 1e-3)))
        for found, expected in zip(composed("rms_norm_vjp", dy=dy, x=x, weight=w), fast.rms_norm_vjp(dy, x, w), strict=True):
            same(expected, found, "rms_norm_vjp", 10)
        for found, expected in zip(composed("add_rms_norm", x=x, residual=residual, weight=w),
                                   fast.add_rms_norm(x, residual, w), strict=True):
            same(expected, found, "add_rms_norm")


def scaled(value_and_bound):
    """MLX adds its sums up in an order of its own, and its rsqrt is rounded more than once."""
    value, bound = value_and_bound
    return value, 8 * bound


def test_a_row_far_from_zero(rng):
    """Mean 1e6 and variance 1."""
    x = (rng.standard_normal((4, 256)) + 1e6).astype(np.float32)
    np.testing.assert_allclose(Mlx.read(composed("layer_norm", x=x)[0]), layer_norm(x)[0], 1e-3, 1e-3)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rope(rng, dtype):
    x = filled(rng, (2, 3, 4, 20), dtype)
    freqs = rng.uniform(1, 100, 8).astype(np.float32)
    far = 10**6 if dtype == F64 else 2**28 - 8  # MLX knows 2π no closer than double does
    for traditional in (False, True):
        for offset in (0, 5, np.array([3, far]), -7):
            for options in ({}, {"base": 500.0, "scale": 0.5}, {"base": None, "freqs": freqs}):
                a = dict(dims=16, traditional=traditional, offset=offset, **options)
                value, bound = rope(x, 16, **{n: v for n, v in a.items() if n != "dims"})
                slack = np.abs(wide(x)).max() * (16 * accumulator(promote(x)) + 2.0**-52 * np.abs(offset).max())
                assert_close(Mlx.read(composed("rope", x=x, **a)[0]), value, bound + slack)
                same(fast.rope_vjp(x, **a), composed("rope_vjp", dy=x, **a)[0], "rope_vjp", 10 + 1e3 * (dtype == F64))


@pytest.mark.parametrize("mask", [None, "causal"])
def test_logits_of_minus_infinity(rng, mask):
    """Of one key, whose value is infinite and weighs nothing, and of all."""
    q, k, v = np.abs(filled(rng, (1, 1, 4, 8), F32)), filled(rng, (1, 1, 6, 8), F32), filled(rng, (1, 1, 6, 8), F32)
    for rows in (slice(1, 2), slice(None)):
        k[:, :, rows] = -3e38
        v[:, :, 1, 0] = np.inf
        for found, expected in zip(composed("scaled_dot_product_attention", q=q, k=k, v=v, mask=mask, scale=9.0, return_lse=True),
                                   fast.scaled_dot_product_attention(q, k, v, 9.0, mask, return_lse=True), strict=True):
            np.testing.assert_allclose(Mlx.read(found), expected, 1e-5, 1e-5)


def test_what_is_masked_out_stays_out_of_gradients_under_vmap(rng):
    q, k, v = (filled(rng, (3, 2, 6, 8), F32) for _ in range(3))
    k[:, :, 4, 2] = v[:, :, 5, 1] = np.nan

    a = [mlx.array(x) for x in (q, k, v)]

    def attention(*b):
        return fast.scaled_dot_product_attention(*b, window=(1, 0))

    expected = mlx.grad(lambda *b: attention(*b).sum(), (0, 1, 2))(*a)
    assert all(np.isfinite(np.array(x)).any() for x in expected)
    for x, y in zip(mlx.grad(lambda *b: mlx.vmap(attention)(*b).sum(), (0, 1, 2))(*a), expected, strict=True):
        np.testing.assert_allclose(np.array(x), np.array(y), 1e-5, 1e-5)
