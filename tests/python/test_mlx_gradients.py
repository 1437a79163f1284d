"""mx.grad through invar.core.fast gives the gradients of MLX's own functions, or an error: never zero without a word."""

import numpy as np
import pytest
from libraries import mlx
from oracles import F32
from strategies import filled

from invar.core import fast

if not mlx:
    pytest.skip("mlx is not installed", allow_module_level=True)


def arrays(rng, *shapes):
    return [mlx.array(filled(rng, shape, F32)) for shape in shapes]


def check(ours, theirs, inputs):
    """Of the sum of sines, so that each element has a cotangent of its own. MLX rounds as we do, to some units of 2^-24."""
    def loss(function):
        def total(*values):
            results = function(*values)
            return sum(mlx.sin(y).sum() for y in (results if isinstance(results, tuple) else (results,)))

        return mlx.value_and_grad(total, argnums=tuple(range(len(inputs))))

    (value, found), (expected, wanted) = loss(ours)(*inputs), loss(theirs)(*inputs)
    assert abs(value.item() - expected.item()) < 1e-5 * (1 + abs(expected.item()))
    for a, b in zip(found, wanted, strict=True):
        assert np.abs(np.array(b)).max() > 0.1
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-5, atol=1e-5)


def test_norms(rng):
    x, weight, bias = arrays(rng, (3, 5, 40), 40, 40)
    check(lambda x, w: fast.rms_norm(x, w, 1e-5), lambda x, w: mlx.fast.rms_norm(x, w, 1e-5), [x, weight])
    check(lambda x: fast.rms_norm(x), lambda x: mlx.fast.rms_norm(x, None, 1e-5), [x])
    check(lambda x, w, b: fast.layer_norm(x, w, b), lambda x, w, b: mlx.fast.layer_norm(x, w, b, 1e-5), [x, weight, bias])
    check(lambda x, r, w: fast.add_rms_norm(x, r, w), lambda x, r, w: (mlx.fast.rms_norm(x + r, w, 1e-5), x + r),
          [x, *arrays(rng, (3, 5, 40)), weight])


@pytest.mark.parametrize("traditional", [False, True])
def test_rope(rng, traditional):
    x, freqs, offset = *arrays(rng, (2, 3, 4, 20)), mlx.array(np.linspace(1, 50, 8), mlx.float32), mlx.array([3, 7])
    for base, given in ((10000.0, None), (None, freqs)):
        keywords = dict(traditional=traditional, base=base, scale=1.0, offset=offset, freqs=given)
        check(lambda x: fast.rope(x, 16, **keywords), lambda x: mlx.fast.rope(x, 16, **keywords), [x])
    with pytest.raises(ValueError, match="rope: freqs: expected an argument that is not differentiated"):
        mlx.grad(lambda f: fast.rope(x, 16, base=None, freqs=f).sum())(freqs)


@pytest.mark.parametrize("mask", [None, "causal", "bool", "additive"])
def test_attention(rng, mask):
    q, k, v, sinks = arrays(rng, (2, 4, 5, 32), (2, 2, 9, 32), (2, 2, 9, 32), 4)
    if mask == "additive":
        bias = mlx.array(filled(rng, (4, 5, 9), F32))
        check(lambda q, k, v, m: fast.scaled_dot_product_attention(q, k, v, 0.2, m),
              lambda q, k, v, m: mlx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=m), [q, k, v, bias])
        return
    mask = mlx.array(rng.random((2, 1, 5, 9)) < 0.8) if mask == "bool" else mask
    check(lambda q, k, v, s: fast.scaled_dot_product_attention(q, k, v, 0.2, mask, sinks=s),
          lambda q, k, v, s: mlx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=mask, sinks=s), [q, k, v, sinks])

    def by_hand(q, k):
        scores = 0.2 * q.reshape(2, 2, 2, 5, 32) @ k[:, :, None].swapaxes(-1, -2)
        return mlx.logsumexp(scores, -1).reshape(2, 4, 5)

    check(lambda q, k: fast.scaled_dot_product_attention(q, k, v, 0.2, return_lse=True)[1], by_hand, [q, k])


def test_a_gradient_by_itself(rng):
    x, weight = arrays(rng, (3, 8), 8)
    dx, dweight = fast.rms_norm_vjp(x, x)
    assert dweight is None and np.array_equal(np.array(dx), fast.rms_norm_vjp(np.array(x), np.array(x))[0])
    dx, dweight = fast.rms_norm_vjp(x, x, weight)
    assert dweight.shape == weight.shape and dx.shape == x.shape


def test_outside_of_mlx_nothing_changes(rng):
    """The bits are those of NumPy's arrays, and what is written to comes back as it is."""
    x, weight = arrays(rng, (3, 8), 8)
    y, total = fast.add_rms_norm(x, x, weight)
    for a, b in zip((y, total), fast.add_rms_norm(np.array(x), np.array(x), np.array(weight)), strict=True):
        assert np.array_equal(np.array(a), b)
    out = mlx.zeros((3, 8))
    assert fast.rms_norm(x, weight, out=out) is out
