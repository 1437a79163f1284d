"""Gradients of attention against float64, and against differences of the forward pass."""

import numpy as np
import pytest
from attention_oracle import Attention
from hypothesis import given, settings
from oracles import F32, F64, assert_close
from strategies import filled
from test_attention import attention_arguments

import invar.core.fast as fast


def gradients(q, k, v, keywords, dout, dlse=None, mask_grad=False):
    out, lse = fast.scaled_dot_product_attention(q, k, v, **keywords, return_lse=True)
    return fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, **keywords, dlse=dlse, mask_grad=mask_grad)


@settings(max_examples=150)
@given(attention_arguments())
def test_attention_vjp(arguments):
    q, k, v, keywords = arguments
    expected = Attention(q, k, v, **keywords)
    rng = np.random.default_rng(3)
    dout = filled(rng, expected.out_shape, expected.dtype)
    dlse = filled(rng, q.shape[:-1], expected.lse_dtype) if q.shape[-1] % 2 else None
    mask = keywords.get("mask")
    mask_grad = isinstance(mask, np.ndarray) and mask.dtype.kind not in "biu"
    actual = gradients(q, k, v, keywords, dout, dlse, mask_grad)
    wanted = expected.backward(dout, dlse)
    for value, want, argument in zip(actual, wanted, (q, k, v, keywords.get("sinks"), mask if mask_grad else None)):
        if argument is None:
            assert value is None
        else:
            assert value.dtype == argument.dtype and value.shape == argument.shape
            assert_close(value, *want)


def test_against_differences_of_the_forward_pass(rng):
    """Central differences of step h err by h² and by 1e-16/h; at 1e-5 both stay below 1e-8 of these smooth functions."""
    q, k, v = (filled(rng, (1, 2, 4, 6), F64) for _ in range(3))
    mask, sinks = filled(rng, (2, 4, 4), F64), filled(rng, 2, F64)
    dout, dlse = filled(rng, (1, 2, 4, 6), F64), filled(rng, (1, 2, 4), F64)
    arguments = [q, k, v, sinks, mask]

    def loss():
        out, lse = fast.scaled_dot_product_attention(
            q, k, v, 0.7, mask, sinks=sinks, softcap=3.0, window=(2, 1), return_lse=True
        )
        return float((out * dout).sum() + (lse * dlse).sum())

    actual = gradients(q, k, v, dict(scale=0.7, mask=mask, sinks=sinks, softcap=3.0, window=(2, 1)), dout, dlse, True)
    step = 1e-5
    for argument, gradient in zip(arguments, actual):
        for index in list(np.ndindex(argument.shape))[::5]:
            kept = argument[index]
            argument[index] = kept + step
            above = loss()
            argument[index] = kept - step
            below = loss()
            argument[index] = kept
            assert abs((above - below) / (2 * step) - gradient[index]) < 1e-8


def test_destinations(rng):
    q, k, v, dout = (filled(rng, (1, 2, 5, 16), F32) for _ in range(4))
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    expected = fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse)
    dk = np.empty((1, 5, 2, 16), np.float32).swapaxes(1, 2)
    result = fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, gradients=(None, dk, None, None, None))
    assert result[1] is dk and result[3] is None and result[4] is None
    for value, want in zip(result[:3], expected[:3]):
        np.testing.assert_array_equal(value, want)


def test_names_of_both_forms(rng):
    q, k, v, dout = (filled(rng, (1, 2, 5, 16), F32) for _ in range(4))
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    expected = fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, 0.5, "causal")
    result = fast.scaled_dot_product_attention_vjp(
        dout=dout, queries=q, keys=k, values=v, out=out, lse=lse, scale=0.5, mask="causal"
    )
    for value, want in zip(result[:3], expected[:3]):
        np.testing.assert_array_equal(value, want)


@pytest.mark.parametrize(
    "mask", [None, "causal", np.ones((5, 5), bool), np.ones((5, 5), np.int32)], ids=["none", "causal", "bool", "int"]
)
def test_mask_grad_needs_an_additive_floating_mask(mask, rng):
    q, k, v, dout = (filled(rng, (1, 2, 5, 16), F32) for _ in range(4))
    out, lse = fast.scaled_dot_product_attention(q, k, v, mask=mask, return_lse=True)
    with pytest.raises(ValueError, match="scaled_dot_product_attention_vjp: "):
        fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, mask=mask, mask_grad=True)


def test_a_broadcast_mask_gets_a_gradient_of_its_own_shape(rng):
    q, k, v, dout = (filled(rng, (2, 2, 5, 16), F32) for _ in range(4))
    for shape in [(5, 5), (1, 1, 1, 5), (2, 1, 5, 1), (1,), ()]:
        mask = filled(rng, shape, F32)
        actual = gradients(q, k, v, dict(mask=mask), dout, mask_grad=True)[4]
        assert actual.shape == shape
        assert_close(actual, *Attention(q, k, v, mask=mask).backward(dout)[4])
