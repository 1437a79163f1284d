"""invar.jax gives invar.core.fast's bits, its gradients are right, and JAX may compile, differentiate and vectorise its calls."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from examples import run_examples
from libraries import jax

if not jax:
    pytest.skip("jax is not installed", allow_module_level=True)

import jax.numpy as jnp
from jax.test_util import check_grads

import invar.jax as invar_jax
from invar.core import fast

pytestmark = pytest.mark.once

OFFSETS, FREQS, LENGTHS = np.array([3, 5]), np.arange(1.0, 5.0, dtype=np.float32), np.array([2, 5])


def case(name, *shapes, **keywords):
    """One function of arrays of these shapes, of invar.jax or of fast."""
    return lambda module: lambda *arrays: getattr(module, name)(*arrays, **keywords), shapes


def with_sinks(module):
    return lambda q, k, v, mask, sinks: module.scaled_dot_product_attention(q, k, v, 0.3, mask, sinks=sinks, return_lse=True)


CASES = {
    "rms_norm": case("rms_norm", (3, 5, 8), (8,)),
    "rms_norm alone": case("rms_norm", (3, 5, 8), eps=0.1),
    "add_rms_norm": case("add_rms_norm", (3, 5, 8), (3, 5, 8), (8,)),
    "layer_norm": case("layer_norm", (3, 5, 8), (8,), (8,)),
    "layer_norm without weight": (lambda module: lambda x, bias: module.layer_norm(x, None, bias), [(3, 5, 8), (8,)]),
    "rope": case("rope", (2, 3, 5, 8), dims=6, traditional=True, offset=4),
    "rope by freqs": (lambda module: lambda x: module.rope(x, 8, base=None, freqs=jnp.asarray(FREQS), offset=jnp.asarray(OFFSETS)),
                      [(2, 3, 5, 8)]),
    "attention": (with_sinks, [(2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6), (2, 1, 3, 5), (4,)]),
    "causal": case("scaled_dot_product_attention", (1, 2, 4, 8), (1, 2, 6, 8), (1, 2, 6, 8), mask="causal", window=(3, None),
                   softcap=2.0),
    "lengths": (lambda module: lambda q, k: module.scaled_dot_product_attention(q, k, k, kv_lengths=jnp.asarray(LENGTHS)),
                [(2, 2, 4, 8), (2, 2, 6, 8)]),
}
every_case = pytest.mark.parametrize("name", CASES)


def both(name, rng, dtype=np.float32):
    make, shapes = CASES[name]
    return make(invar_jax), make(fast), [jnp.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def same(found, expected):
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))


def gradient(function, count):
    def total(*arrays):
        return sum(jnp.sin(y).sum() for y in jax.tree.leaves(function(*arrays)))

    return jax.grad(total, argnums=tuple(range(count)))


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_values_are_those_of_fast(name, dtype, rng):
    function, of_fast, arrays = both(name, rng, dtype)
    expected = of_fast(*arrays)
    same(function(*arrays), expected)
    assert all(isinstance(y, jax.Array) for y in jax.tree.leaves(function(*arrays)))
    same(jax.jit(function)(*arrays), expected)
    same(jax.vjp(function, *arrays)[0], expected)


@every_case
def test_gradients(name, rng):
    function, _, arrays = both(name, rng)
    for f in (function, jax.jit(function)):
        check_grads(f, arrays, 1, modes=["rev"], rtol=1e-2, atol=1e-2)
    count = len(arrays)
    assert all(np.abs(y).max() > 1e-2 for y in gradient(function, count)(*arrays))  # or nothing would tell it from zeros
    same(jax.jit(gradient(function, count))(*arrays), gradient(function, count)(*arrays))


def test_gradients_are_those_of_fast(rng):
    x, dy, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 40), (6, 40), (40,), (40,)))
    _, transposed = jax.vjp(invar_jax.layer_norm, x, w, b)
    same(transposed(jnp.asarray(dy)), fast.layer_norm_vjp(dy, x, w, b))
    q, k, v, dout = (rng.standard_normal((1, 2, 20, 8)).astype(np.float32) for _ in range(4))
    _, transposed = jax.vjp(lambda *a: invar_jax.scaled_dot_product_attention(*a, mask="causal"), q, k, v)
    out, lse = fast.scaled_dot_product_attention(q, k, v, mask="causal", return_lse=True)
    same(transposed(jnp.asarray(dout)), fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, mask="causal")[:3])


@every_case
def test_vmap(name, rng):
    """Over all arguments, then over the first alone; of a function, then of its gradient; compiled too."""
    function, _, arrays = both(name, rng)
    stacks = [jnp.stack([x, 2 * x], 1) for x in arrays]
    turns = [[stack[:, i] for stack in stacks] for i in range(2)]
    rest = (None,) * (len(arrays) - 1)
    for f in (function, gradient(function, len(arrays))):
        same(jax.vmap(f, in_axes=1)(*stacks), jax.tree.map(lambda *y: jnp.stack(y), *[f(*turn) for turn in turns]))
        expected = jax.tree.map(lambda *y: jnp.stack(y), *[f(turn[0], *arrays[1:]) for turn in turns])
        same(jax.jit(jax.vmap(f, in_axes=(1, *rest)))(stacks[0], *arrays[1:]), expected)


def test_inside_a_larger_program(rng):
    """Between XLA's own operations, of arrays large enough to be computed while Python goes on."""
    x = jnp.asarray(rng.standard_normal((1500, 1500)), jnp.float32)

    @jax.jit
    def program(x):
        return (invar_jax.rms_norm(x @ x) @ x).sum()

    np.testing.assert_allclose(program(x), (fast.rms_norm(x @ x) @ x).sum(), rtol=1e-3)
    assert jax.jit(jax.grad(program))(x).shape == x.shape


def test_mixed_types(rng):
    x, half, single = (jnp.asarray(rng.standard_normal((4, 8)), t) for t in (jnp.bfloat16, jnp.float16, jnp.float32))
    for f, arrays in ((lambda m: m.rms_norm, (x, single[0])), (lambda m: m.layer_norm, (x, x[0], half[0])),
                      (lambda m: m.add_rms_norm, (x, half, x[0])), (lambda m: m.scaled_dot_product_attention, (x, x, single))):
        same(jax.jit(f(invar_jax))(*arrays), f(fast)(*arrays))
        assert [y.dtype for y in jax.jit(gradient(f(invar_jax), len(arrays)))(*arrays)] == [y.dtype for y in arrays]


def test_masks_and_lengths_without_gradients(rng):
    q = jnp.asarray(rng.standard_normal((1, 2, 3, 8)), jnp.float32)
    expected = gradient(invar_jax.scaled_dot_product_attention, 3)(q, q, q)
    for mask in (jnp.ones((3, 3), bool), jnp.zeros((3, 3), int)):
        same(gradient(lambda *a, mask=mask: invar_jax.scaled_dot_product_attention(*a, mask=mask), 3)(q, q, q), expected)
    lengths = jnp.array([3])
    same(gradient(jax.jit(lambda *a: invar_jax.scaled_dot_product_attention(*a, kv_lengths=lengths)), 3)(q, q, q), expected)


# ---- errors -----------------------------------------------------------------------------------------


def test_further_derivatives(rng):
    x = jnp.asarray(rng.standard_normal((1, 2, 5, 8)), jnp.float32)
    for f in (lambda x: invar_jax.rope(x, 8, offset=3), lambda x: invar_jax.rope(x, 8, offset=jnp.array([7]))):
        check_grads(lambda x, f=f: f(x) ** 2, (x,), 3, modes=["rev"], rtol=1e-2, atol=1e-2)
    for name, f in (("rms_norm", invar_jax.rms_norm), ("layer_norm", invar_jax.layer_norm),
                    ("scaled_dot_product_attention", lambda x: invar_jax.scaled_dot_product_attention(x, x, x))):
        with pytest.raises(NotImplementedError, match=f"{name}: expected a first derivative, got a second one"):
            jax.grad(lambda x, f=f: gradient(f, 1)(x)[0].sum())(x)
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(f, (x,), (x,))


def test_freqs_have_no_derivative():
    with pytest.raises(ValueError, match="rope: freqs: expected an argument that is not differentiated, got one that is"):
        jax.grad(lambda freqs: invar_jax.rope(jnp.ones((1, 3, 8)), 8, freqs=freqs).sum())(jnp.asarray(FREQS))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, lambda f: lambda x: jax.vjp(f, x)])
def test_errors_are_those_of_fast(transform):
    x = jnp.ones((1, 2, 3, 8))
    for call in (
        lambda module, x: module.rms_norm(x, jnp.ones(7)),
        lambda module, x: module.rms_norm(x.astype(int)),
        lambda module, x: module.layer_norm(x, eps="small"),
        lambda module, x: module.rope(x, 9),
        lambda module, x: module.rope(x, 8, base=None),
        lambda module, x: module.rope(x, 8, base=10000, freqs=jnp.ones(4)),
        lambda module, x: module.rope(x, 8, offset=1.5),
        lambda module, x: module.scaled_dot_product_attention(x, x[..., :4], x),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, window=3),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, mask="casual"),
        lambda module, x: module.scaled_dot_product_attention(x, x, x, mask=jnp.ones((4, 4))),
    ):
        with pytest.raises((ValueError, TypeError)) as expected:
            call(fast, x)
        with pytest.raises(expected.type) as found:
            transform(lambda x, call=call: call(invar_jax, x))(x)
        assert str(found.value).partition("\n")[0] == str(expected.value)
    with pytest.raises(Exception, match="kv_lengths: expected 0 to 3, got 9 for batch 0"):  # known only when it runs
        transform(lambda x: invar_jax.scaled_dot_product_attention(x, x, x, kv_lengths=jnp.array([9])))(x)[0]


def test_documentation(capsys):
    run_examples("torch-and-jax.md", capsys, "import invar.jax")


def test_without_jax():
    program = "import sys, invar; sys.modules['jax'] = None; import invar.jax"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "ImportError: invar.jax: expected JAX to be installed (pip install jax), found none" in run.stderr
