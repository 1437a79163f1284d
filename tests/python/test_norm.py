"""rms_norm, add_rms_norm, layer_norm and their gradients against float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import F32, FLOATS, assert_close, layer_norm, layer_norm_vjp, promote, rms_norm, rms_norm_vjp, wide
from strategies import dtypes, filled, laid_out, leading, sizes

import invar.core.fast as fast


@st.composite
def norm_arguments(draw, vectors):
    """x and `vectors` optional (D,) arrays of any types, and eps."""
    shape = draw(leading()) + (draw(sizes),)
    x = draw(laid_out(shape, draw(dtypes), scale=draw(st.sampled_from([1e-2, 1.0, 30.0]))))
    rest = [draw(st.none() | laid_out(shape[-1:], draw(dtypes))) for _ in range(vectors)]
    return x, *rest, draw(st.sampled_from([1e-5, 1e-6, 1e-3]))


def like(draw_shape, dtype, seed=5):
    return filled(np.random.default_rng(seed), draw_shape, dtype)


@given(norm_arguments(1))
def test_rms_norm(arguments):
    x, weight, eps = arguments
    y = fast.rms_norm(x, weight, eps)
    assert y.dtype == promote(x, weight)
    assert_close(y, *rms_norm(x, weight, eps))


@given(norm_arguments(2))
def test_layer_norm(arguments):
    x, weight, bias, eps = arguments
    y = fast.layer_norm(x, weight, bias, eps)
    assert y.dtype == (x.dtype if weight is None else promote(x, weight, bias))
    assert_close(y, *layer_norm(x, weight, bias, eps))


@given(norm_arguments(1), dtypes)
def test_rms_norm_vjp(arguments, dy_type):
    x, weight, eps = arguments
    dy = like(x.shape, dy_type)
    dx, dweight = fast.rms_norm_vjp(dy, x, weight, eps)
    expected_dx, expected_dweight = rms_norm_vjp(dy, x, weight, eps)
    assert dx.dtype == x.dtype
    assert_close(dx, *expected_dx)
    if weight is None:
        assert dweight is None
    else:
        assert dweight.dtype == weight.dtype
        assert_close(dweight, *expected_dweight)


@given(norm_arguments(2), dtypes)
def test_layer_norm_vjp(arguments, dy_type):
    x, weight, bias, eps = arguments
    dy = like(x.shape, dy_type)
    gradients = fast.layer_norm_vjp(dy, x, weight, bias, eps)
    for gradient, argument, expected in zip(gradients, (x, weight, bias), layer_norm_vjp(dy, x, weight, bias, eps)):
        if argument is None:
            assert gradient is None
        else:
            assert gradient.dtype == argument.dtype
            assert_close(gradient, *expected)


@given(norm_arguments(1), dtypes)
def test_add_rms_norm(arguments, residual_type):
    x, weight, eps = arguments
    residual = like(x.shape, residual_type)
    norm, total = fast.add_rms_norm(x, residual, weight, eps)
    kind = promote(x, residual)
    assert total.dtype == kind and norm.dtype == promote(x, residual, weight)
    accumulated = np.float64 if promote(x, residual, weight) == np.float64 else np.float32
    exact = x.astype(accumulated) + residual.astype(accumulated)
    np.testing.assert_array_equal(wide(total), wide(exact.astype(kind)))
    # The norm is of the sum in the accumulation type, before that is rounded to its own output.
    expected, bound = rms_norm(exact, None if weight is None else weight, eps)
    half = {2: 2.0**-8}.get(norm.dtype.itemsize, 0.0) * np.abs(expected)
    assert_close(norm, expected, bound + half)


def test_bias_without_weight_keeps_the_type_of_x(rng):
    x, bias = filled(rng, (3, 40), np.float16), filled(rng, 40, F32)
    y = fast.layer_norm(x, None, bias)
    assert y.dtype == np.float16
    assert_close(y, *layer_norm(x, None, bias))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_row_length(dtype, rng):
    for length in range(1, 300):
        x, w, b = filled(rng, (2, length), dtype), filled(rng, length, dtype), filled(rng, length, dtype)
        assert_close(fast.rms_norm(x, w), *rms_norm(x, w))
        assert_close(fast.layer_norm(x, w, b), *layer_norm(x, w, b))


def test_in_place(rng):
    x, w = filled(rng, (5, 96), F32), filled(rng, 96, F32)
    for function in (fast.rms_norm, fast.layer_norm):
        expected = function(x, w)
        y = x.copy()
        assert function(y, w, out=y) is y
        np.testing.assert_array_equal(y, expected)


def test_add_rms_norm_in_place(rng):
    x, residual, w = filled(rng, (5, 96), F32), filled(rng, (5, 96), F32), filled(rng, 96, F32)
    norm, total = fast.add_rms_norm(x, residual, w)
    y = np.empty_like(x)
    result = fast.add_rms_norm(x, residual, w, out=(y, residual))
    assert result[0] is y and result[1] is residual
    np.testing.assert_array_equal(y, norm)
    np.testing.assert_array_equal(residual, total)


def test_vjp_destinations(rng):
    x, w, dy = filled(rng, (5, 96), F32), filled(rng, 96, F32), filled(rng, (5, 96), F32)
    dx, dw = fast.rms_norm_vjp(dy, x, w)
    place = np.empty_like(w)
    result = fast.rms_norm_vjp(dy, x, w, out=(dy, place))
    assert result[0] is dy and result[1] is place
    np.testing.assert_array_equal(dy, dx)
    np.testing.assert_array_equal(place, dw)


def test_no_rows_give_zero_weight_gradients():
    x, w = np.zeros((0, 4), np.float32), np.ones(4, np.float32)
    dx, dw, db = fast.layer_norm_vjp(x, x, w, w)
    assert dx.shape == (0, 4)
    np.testing.assert_array_equal(dw, np.zeros(4))
    np.testing.assert_array_equal(db, np.zeros(4))
