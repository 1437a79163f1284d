"""Where the semantics agree, mlx.core.fast computes the same: code written for it runs unchanged."""

import numpy as np
import pytest
from attention_oracle import Attention
from hypothesis import given
from hypothesis import strategies as st
from libraries import mlx
from oracles import F32, assert_close, layer_norm, rms_norm, rope
from strategies import filled, seeds

import invar.core as core

if not mlx:
    pytest.skip("mlx is not installed", allow_module_level=True)

fast = core.fast


def close(ours, theirs, expected, bound):
    """Ours within its bound of float64, and theirs within as much again: both round, neither is the other's oracle."""
    assert_close(ours, expected, bound)
    np.testing.assert_array_less(
        np.abs(np.array(theirs) - np.asarray(ours)), 8 * bound + np.float32(1e-6) * np.abs(expected) + 1e-30
    )


@given(seeds, st.sampled_from([1, 8, 100, 513]), st.booleans())
def test_norms(seed, length, weighted):
    rng = np.random.default_rng(seed)
    x, w, b = filled(rng, (3, 2, length), F32), filled(rng, length, F32), filled(rng, length, F32)
    if not weighted:
        w = b = None
    W, B = (None if a is None else mlx.array(a) for a in (w, b))
    close(fast.rms_norm(x, w, 1e-5), mlx.fast.rms_norm(mlx.array(x), W, 1e-5), *rms_norm(x, w))
    close(fast.layer_norm(x, w, b, 1e-5), mlx.fast.layer_norm(mlx.array(x), W, B, 1e-5), *layer_norm(x, w, b))


@given(seeds, st.booleans(), st.sampled_from([0, 1, 5]), st.booleans())
def test_rope(seed, traditional, offset, with_freqs):
    """MLX forms its angles in float32, which errs by a unit of the position: small ones only."""
    rng = np.random.default_rng(seed)
    x = filled(rng, (2, 3, 4, 20), F32)
    freqs = rng.uniform(1, 100, 8).astype(np.float32) if with_freqs else None
    keywords = dict(traditional=traditional, base=None if with_freqs else 10000.0, scale=1.0, offset=offset)
    ours = fast.rope(x, 16, **keywords, freqs=freqs)
    theirs = mlx.fast.rope(mlx.array(x), 16, **keywords, freqs=None if freqs is None else mlx.array(freqs))
    expected, bound = rope(x, 16, traditional=traditional, offset=offset, freqs=freqs)
    assert_close(ours, expected, bound)
    angle_error = 2.0**-24 * 16 * 8  # positions up to 9, a few roundings each
    assert np.abs(np.array(theirs) - ours).max() < 2 * np.abs(x).max() * angle_error


@given(
    seeds,
    st.sampled_from([None, "causal", "bool", "additive"]),
    st.booleans(),
    st.sampled_from([(5, 5), (3, 9), (1, 30)]),
)
def test_attention(seed, mask, with_sinks, lengths):
    rng = np.random.default_rng(seed)
    queries, keys = lengths
    q, k, v = (
        filled(rng, (2, 4, queries, 64), F32),
        filled(rng, (2, 2, keys, 64), F32),
        filled(rng, (2, 2, keys, 64), F32),
    )
    sinks = filled(rng, 4, F32) if with_sinks else None
    if mask == "bool":
        mask = rng.random((2, 1, queries, keys)) < 0.7
        mask[..., 0] = True  # rows that see no key differ, on purpose
    elif mask == "additive":
        mask = filled(rng, (4, queries, keys), F32)
    M = mlx.array(mask) if isinstance(mask, np.ndarray) else mask
    ours = fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask=mask, sinks=sinks)
    theirs = mlx.fast.scaled_dot_product_attention(
        *(mlx.array(a) for a in (q, k, v)), scale=0.125, mask=M, sinks=None if sinks is None else mlx.array(sinks)
    )
    close(ours, theirs, *Attention(q, k, v, 0.125, mask, sinks=sinks).forward()[0])


def test_gradients_of_another_librarys_arguments(rng):
    x, w = filled(rng, (3, 8), F32), filled(rng, (8,), F32)
    for a, b in ((x, w), (x, mlx.array(w)), (mlx.array(x), w), (x, None)):
        for given, want in zip(fast.rms_norm_vjp(mlx.array(x), a, b), fast.rms_norm_vjp(x, x, None if b is None else w)):
            assert (given is None) == (want is None) and (want is None or np.array(given).tobytes() == want.tobytes())
        assert type(fast.rms_norm_vjp(mlx.array(x), a, b)[0]) is type(a)
    with pytest.raises(ValueError):
        mlx.grad(lambda dy: fast.rms_norm_vjp(dy, x, mlx.array(w))[1].sum())(mlx.array(x))


def test_the_same_call_runs_in_both(rng):
    """The keywords of MLX's own signatures, its arrays, its stream."""
    for module, make in ((mlx, lambda a: a), (core, lambda a: a)):
        x = make(mlx.array(filled(rng, (1, 2, 6, 8), F32)))
        w = mlx.ones((8,))
        results = [
            module.fast.rms_norm(x, w, 1e-5, stream=None),
            module.fast.layer_norm(x, w, None, 1e-5, stream=mlx.cpu),
            module.fast.rope(
                x,
                8,
                traditional=False,
                base=None,
                scale=1.0,
                offset=mlx.array([3]),
                freqs=mlx.ones((4,)),
                stream=mlx.default_stream(mlx.default_device()),
            ),
            module.fast.scaled_dot_product_attention(
                x, x, x, scale=1.0, mask="causal", sinks=mlx.zeros((2,)), stream=None
            ),
        ]
        assert all(isinstance(result, mlx.array) and result.shape == (1, 2, 6, 8) for result in results)
