"""Every operation under MLX's transformations and pairs of them gives what the same formula in MLX's operations gives."""

import numpy as np
import pytest
from libraries import mlx
from oracles import F32
from strategies import filled

from invar.core import fast

if not mlx:
    pytest.skip("mlx is not installed", allow_module_level=True)

pytestmark = pytest.mark.once


def rms_norm(x, weight):
    return x * mlx.rsqrt(mlx.mean(x * x, -1, keepdims=True) + 1e-5) * weight


def layer_norm(x, weight, bias):
    x = x - mlx.mean(x, -1, keepdims=True)
    return x * mlx.rsqrt(mlx.mean(x * x, -1, keepdims=True) + 1e-5) * weight + bias


def rope(x):
    angles = np.arange(5)[:, None] * 10000.0 ** (-np.arange(4) / 4)
    cosine, sine = mlx.array(np.cos(angles).astype(F32)), mlx.array(np.sin(angles).astype(F32))
    a, b = x[..., :4], x[..., 4:]
    return mlx.concatenate([a * cosine - b * sine, a * sine + b * cosine], -1)


def attention(q, k, v, sinks, mask):
    k, v = (mlx.repeat(x, 2, -3) for x in (k, v))
    scores = 0.3 * q @ k.swapaxes(-1, -2) + mask
    sinks = mlx.broadcast_to(sinks[:, None, None], (*scores.shape[:-1], 1))
    return mlx.softmax(mlx.concatenate([scores, sinks], -1), -1)[..., :-1] @ v


# Of each: invar's function, the same in MLX's own operations, the shapes of their arguments.
CASES = {
    "rms_norm": (lambda x, w: fast.rms_norm(x, w), rms_norm, [(3, 5, 8), (8,)]),
    "layer_norm": (lambda x, w, b: fast.layer_norm(x, w, b), layer_norm, [(3, 5, 8), (8,), (8,)]),
    "add_rms_norm": (lambda x, r, w: sum(fast.add_rms_norm(x, r, w)), lambda x, r, w: rms_norm(x + r, w) + x + r,
                     [(3, 5, 8), (3, 5, 8), (8,)]),
    "rope": (lambda x: fast.rope(x, 8), rope, [(2, 3, 5, 8)]),
    "attention": (lambda q, k, v, s, m: fast.scaled_dot_product_attention(q, k, v, 0.3, m, sinks=s), attention,
                  [(2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8), (4,), (4, 5, 7)]),
    "lse": (lambda q, k: fast.scaled_dot_product_attention(q, k, k, 0.3, return_lse=True)[1],
            lambda q, k: mlx.logsumexp(0.3 * q @ k.swapaxes(-1, -2), -1), [(2, 2, 5, 8), (2, 2, 7, 8)]),
    "rms_norm_vjp": (lambda x, w, dy: fast.rms_norm_vjp(dy, x, w)[0], lambda x, w, dy: mlx.vjp(rms_norm, [x, w], [dy])[1][0],
                     [(3, 5, 8), (8,), (3, 5, 8)]),
}
every_case = pytest.mark.parametrize("name", CASES)


def listed(values):
    return list(values) if isinstance(values, (list, tuple)) else [values]


def gradient(function):
    def total(*values):
        return sum(mlx.sin(y).sum() for y in listed(function(*values)))

    return lambda *values: listed(mlx.grad(total, argnums=list(range(len(values))))(*values))


def tangent(function):
    return lambda *values: mlx.jvp(lambda *v: listed(function(*v)), list(values), [mlx.cos(3 * x) for x in values])[1]


def check(transform, name, inputs):
    ours, theirs, _ = CASES[name]
    found, expected = listed(transform(ours)(*inputs)), listed(transform(theirs)(*inputs))
    for a, b in zip(map(np.array, found), map(np.array, expected), strict=True):
        assert np.abs(b).max() > 1e-3  # or nothing would tell it from the zeros of a missing rule
        np.testing.assert_allclose(a, b, 1e-4, 1e-5 * (1 + np.abs(b).max()))


def arrays(rng, name, stacked=None):
    found = [filled(rng, shape if stacked is None else (3, *shape), F32) for shape in CASES[name][2]]
    return [mlx.array(a if stacked is None else np.moveaxis(a, 0, stacked)) for a in found]


@every_case
def test_forward_mode(rng, name):
    check(tangent, name, arrays(rng, name))


@every_case
def test_second_derivatives(rng, name):
    """In reverse, forward over reverse, reverse over forward."""
    inputs = arrays(rng, name)
    for transform in (lambda f: gradient(gradient(f)), lambda f: tangent(gradient(f)), lambda f: gradient(tangent(f))):
        check(transform, name, inputs)


def test_third_derivative(rng):
    check(lambda f: gradient(gradient(gradient(f))), "rope", arrays(rng, "rope"))
    check(lambda f: gradient(gradient(gradient(lambda *a: 0.1 * f(*a)))), "attention", arrays(rng, "attention"))


@every_case
def test_vmap(rng, name):
    """Over one axis of all arguments, of some of them, over two axes; of a gradient and under one."""
    def vectorised(f):
        return mlx.vmap(f, in_axes=1)

    inputs = arrays(rng, name, 1)
    for transform in (vectorised, lambda f: vectorised(lambda *a: gradient(f)(*a)), lambda f: gradient(vectorised(f)),
                      lambda f: tangent(vectorised(f)), lambda f: vectorised(lambda *a: tangent(f)(*a))):
        check(transform, name, inputs)
    plain = arrays(rng, name)
    for i in range(len(plain)):
        some = [inputs[j] if i == j else plain[j] for j in range(len(plain))]
        axes = tuple(1 if i == j else None for j in range(len(plain)))
        check(lambda f, axes=axes: gradient(mlx.vmap(f, in_axes=axes)), name, some)
    check(lambda f: mlx.vmap(vectorised(f), in_axes=1), name, [mlx.stack([x, x * x], 1) for x in inputs])


@every_case
def test_vmap_over_cotangents(rng, name):
    """The way to a Jacobian: the inputs are arrays like any others, and only the cotangent stands for many."""
    inputs = arrays(rng, name)
    cotangents = mlx.stack([mlx.sin(CASES[name][1](*inputs)), mlx.cos(CASES[name][1](*inputs))])
    check(lambda f: lambda *a: list(mlx.vmap(lambda ct: mlx.vjp(f, list(a), [ct])[1])(cotangents)), name, inputs)


def test_compile(rng):
    """MLX compiles what it fuses with a C++ compiler, half a second a piece and more: few of them."""
    check(lambda f: mlx.compile(gradient(f)), "rms_norm", arrays(rng, "rms_norm"))
    x = mlx.array(filled(rng, (2, 3, 5, 8), F32))
    compiled = mlx.compile(lambda x: fast.scaled_dot_product_attention(x, x, x))(x)
    np.testing.assert_allclose(np.array(compiled), np.array(fast.scaled_dot_product_attention(x, x, x)), 1e-5, 1e-6)


@every_case
def test_what_does_not_stop_evaluation(rng, name):
    inputs = arrays(rng, name)
    check(lambda f: gradient(mlx.compile(f)), name, inputs)
    check(lambda f: gradient(mlx.checkpoint(f)), name, inputs)


def test_integers_may_stand_for_others_too(rng):
    """offset and kv_lengths that MLX maps over, and a bool mask."""
    x = mlx.array(filled(rng, (2, 3, 5, 8), F32))
    offsets, lengths = mlx.array([[0, 3], [7, 1]]), mlx.array([[1, 3], [5, 0]])
    masks = mlx.array(rng.random((2, 5, 5)) < 0.5)

    def both(function, values):
        mapped = mlx.vmap(function)(values)
        return np.array(mapped), np.stack([np.array(function(value)) for value in values])

    for function, values in ((lambda o: fast.rope(x, 8, offset=o), offsets),
                             (lambda n: fast.scaled_dot_product_attention(x, x, x, kv_lengths=n, mask="causal"), lengths),
                             (lambda m: fast.scaled_dot_product_attention(x, x, x, mask=m), masks)):
        np.testing.assert_allclose(*both(function, values), 1e-5, 1e-6)


def test_another_shape_is_an_error_or_right(rng):
    """Under compile(shapeless=True) MLX would keep positions of the first call's shapes."""
    x, other = mlx.array(filled(rng, (2, 3, 4, 8), F32)), mlx.array(filled(rng, (4, 3, 2, 8), F32))
    for function in (fast.rms_norm, fast.layer_norm):
        compiled = mlx.compile(function, shapeless=True)
        compiled(x)
        np.testing.assert_allclose(np.array(compiled(other)), np.array(function(other)), 1e-5, 1e-5)
    for function in (lambda x: fast.rope(x, 8), lambda x: fast.scaled_dot_product_attention(x, x, x, mask="causal")):
        with pytest.raises(ValueError, match="Slice"):
            mlx.compile(function, shapeless=True)(x)


def test_freqs_have_no_derivative(rng):
    x, freqs = mlx.array(filled(rng, (2, 3, 8), F32)), mlx.array(np.linspace(1, 5, 4).astype(F32))

    def turned(freqs):
        return fast.rope(x, 8, base=None, freqs=freqs).sum()

    for differentiate in (mlx.grad(turned), mlx.compile(mlx.grad(turned)), lambda f: mlx.jvp(turned, [f], [f]),
                          lambda f: mlx.grad(lambda f: mlx.vmap(turned)(f).sum())(mlx.stack([f, f]))):
        with pytest.raises(ValueError, match="rope: freqs: expected an argument that is not differentiated"):
            differentiate(freqs)


@pytest.mark.parametrize("transform", ["compile", "vmap"])
def test_misuse_is_told_as_ever(rng, transform):
    transform, x = getattr(mlx, transform), mlx.array(filled(rng, (4, 2, 8), F32))
    for wrong, message in (
        (lambda x: fast.rms_norm(x, mlx.zeros(5)), r"rms_norm: weight: expected shape \(8,\), got \(5,\)"),
        (lambda x: fast.rope(x[None], 7), "rope: dims: expected an even number"),
        (lambda x: fast.scaled_dot_product_attention(x, x, x[..., :1, :]), "scaled_dot_product_attention: v: "),
        (lambda x: fast.rms_norm(x, out=mlx.zeros(x.shape)), r"rms_norm: x: .*mx\.compile, vmap and"),
    ):
        with pytest.raises(ValueError, match=message):
            transform(wrong)(x)


def test_tangents_of_what_a_mask_hides_count_for_nothing(rng):
    q, k, v = (mlx.array(filled(rng, (1, 1, 3, 8), F32)) for _ in range(3))
    mask, hidden = mlx.array([True, True, False]), mlx.array([[0.0], [0.0], [np.nan]])
    attend = lambda k: fast.scaled_dot_product_attention(q, k, v, 1.0, mask)  # noqa: E731
    wanted, found = (mlx.jvp(attend, [k], [mlx.ones_like(k) + odd])[1][0] for odd in (0.0, hidden))
    assert np.array_equal(np.array(found), np.array(wanted))
