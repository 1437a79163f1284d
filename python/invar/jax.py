"""invar.core.fast for JAX's arrays, under jax.grad, jit and vmap too. Needs JAX: pip install jax.

The functions have the meaning, types, errors and bits of invar.core.fast's and run on the CPU. Where JAX traces, a call is a
jax.pure_callback inside a jax.custom_vjp; vmap runs one call after the other. rope has reverse-mode derivatives of every order; a
second derivative of the others, a derivative for freqs and forward-mode differentiation are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import jax
    import jax.numpy as jnp
    from jax.custom_derivatives import SymbolicZero
except ImportError as error:
    raise ImportError("invar.jax: expected JAX to be installed (pip install jax), found none") from error

from . import _ext
from .core import fast

__all__ = ["add_rms_norm", "layer_norm", "rms_norm", "rope", "scaled_dot_product_attention"]

Arrays = dict[str, Any]
Shape = jax.ShapeDtypeStruct


# ---- calls ------------------------------------------------------------------------------------------


def _traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def _without_values(x: Any) -> Any:
    """An array of x's shape and type, for checks, that takes no memory."""
    return np.broadcast_to(np.zeros((), x.dtype), x.shape) if _traced(x) else x


def _run(operation: str, arrays: Arrays, settings: Arrays, results: Callable[[], Any]) -> Any:
    """At once where there are values; else when the compiled program comes to it, for which results() has the shapes and types
    of all that is not None."""
    function = getattr(fast, operation)
    if not any(map(_traced, arrays.values())):
        found = function(**arrays, **settings)
        return tuple(y for y in found if y is not None) if isinstance(found, tuple) else found
    _ext.check(operation, **{name: _without_values(x) for name, x in arrays.items()}, **settings)

    def on_host(values: Arrays) -> Any:
        return _run(operation, {name: np.asarray(x) for name, x in values.items()}, settings, results)

    return jax.pure_callback(on_host, results(), arrays, vmap_method="sequential")


def _call(operation: str, arrays: Arrays, settings: Arrays, results: Callable[[], Any], gradients: Callable[..., Arrays]) -> Any:
    """_run, which gradients(arrays, outputs, cotangents, asked) differentiates with regard to the arrays in asked."""
    arrays = {name: x for name, x in arrays.items() if x is not None}
    if not any(map(_traced, arrays.values())):
        return _run(operation, arrays, settings, results)

    def forward(primals: Arrays) -> Any:
        # None or (), of which JAX makes no array: backward is to know them while it is traced.
        asked = {name: () if primal.perturbed else None for name, primal in primals.items()}
        if asked.get("freqs") is not None:
            raise ValueError(f"{operation}: freqs: expected an argument that is not differentiated, got one that is")
        values = {name: primal.value for name, primal in primals.items()}
        outputs = function(values)  # which a derivative of this derivative differentiates again
        return outputs, (values, outputs, asked)

    def backward(saved: Any, cotangents: Any) -> Any:
        values, outputs, asked = saved
        cotangents = jax.tree.map(_with_values, cotangents, is_leaf=lambda x: isinstance(x, SymbolicZero))
        found = gradients(values, outputs, cotangents, {name for name in values if asked[name] is not None})
        return ({name: found.get(name) if asked[name] is not None else None for name in values},)

    function = jax.custom_vjp(lambda values: _run(operation, values, settings, results))
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function({name: jnp.asarray(x) for name, x in arrays.items()})


def _with_values(cotangent: Any) -> Any:
    return jnp.zeros(cotangent.shape, cotangent.dtype) if isinstance(cotangent, SymbolicZero) else cotangent


def _vjp(operation: str, names: Sequence[str], arrays: Arrays, settings: Arrays) -> Arrays:
    """The gradients of those among names that are in arrays."""

    def refuse(*_: Any) -> Arrays:
        raise NotImplementedError(f"{operation}: expected a first derivative, got a second one")

    given = [name for name in names if name in arrays]
    found = _call(f"{operation}_vjp", arrays, settings, lambda: tuple(_like(arrays[name]) for name in given), refuse)
    return dict(zip(given, found, strict=True))


def _like(x: Any, *others: Any) -> Any:
    """x's shape with the type to which all are promoted."""
    return Shape(x.shape, jnp.result_type(*[y.dtype for y in (x, *others) if y is not None]))


# ---- the functions ----------------------------------------------------------------------------------


def rms_norm(x: jax.Array, weight: jax.Array | None = None, eps: float = 1e-5) -> jax.Array:
    """x / sqrt(mean(x², last axis) + eps) · weight. x: (…, D), weight: (D,); the result has x's shape and their promoted type."""
    settings = dict(eps=eps)

    def gradients(arrays: Arrays, output: Any, dy: Any, asked: set[str]) -> Arrays:
        return _vjp("rms_norm", ("x", "weight"), dict(arrays, dy=dy), settings)

    return _call("rms_norm", dict(x=x, weight=weight), settings, lambda: _like(x, weight), gradients)


def add_rms_norm(
    x: jax.Array, residual: jax.Array, weight: jax.Array | None = None, eps: float = 1e-5
) -> tuple[jax.Array, jax.Array]:
    """(rms_norm(x + residual), x + residual)."""
    settings = dict(eps=eps)

    def gradients(arrays: Arrays, outputs: Any, cotangents: Any, asked: set[str]) -> Arrays:
        norm = {name: value for name, value in arrays.items() if name == "weight"} | dict(x=outputs[1], dy=cotangents[0])
        found = _vjp("rms_norm", ("x", "weight"), norm, settings)
        dsum = found["x"] + cotangents[1]
        return found | dict(x=dsum.astype(arrays["x"].dtype), residual=dsum.astype(arrays["residual"].dtype))

    def results() -> Any:
        return _like(x, residual, weight), _like(x, residual)

    return _call("add_rms_norm", dict(x=x, residual=residual, weight=weight), settings, results, gradients)


def layer_norm(
    x: jax.Array, weight: jax.Array | None = None, bias: jax.Array | None = None, eps: float = 1e-5
) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) · weight + bias over the last axis. x: (…, D), weight and bias: (D,)."""
    settings = dict(eps=eps)

    def gradients(arrays: Arrays, output: Any, dy: Any, asked: set[str]) -> Arrays:
        return _vjp("layer_norm", ("x", "weight", "bias"), dict(arrays, dy=dy), settings)

    return _call("layer_norm", dict(x=x, weight=weight, bias=bias), settings, lambda: _like(x, weight, bias), gradients)


def rope(
    x: jax.Array,
    dims: int,
    traditional: bool = False,
    base: Any = ...,
    scale: float = 1.0,
    offset: int | jax.Array = 0,
    freqs: jax.Array | None = None,
) -> jax.Array:
    """x: (batch, …, T, D), whose first dims features are turned by their position; offset: an int, or an array (batch,) of them.

    base is 10000 unless it is given, or freqs, (dims/2,), in its place.
    """
    if base is ...:
        base = 10000.0 if freqs is None else None
    settings = dict(dims=dims, traditional=traditional, base=base, scale=scale)
    arrays = dict(freqs=freqs)
    if isinstance(offset, jax.Array):
        arrays["offset"] = offset
    else:
        settings["offset"] = offset
    return _turn("rope", x, arrays, settings)


def _turn(operation: str, x: Any, arrays: Arrays, settings: Arrays) -> Any:
    """rope or its gradient, each of which is the other's."""
    first, other = ("x", "rope_vjp") if operation == "rope" else ("dy", "rope")

    def gradients(arrays: Arrays, output: Any, dy: Any, asked: set[str]) -> Arrays:
        return {first: _turn(other, dy, {name: y for name, y in arrays.items() if name != first}, settings)}

    return _call(operation, {first: x, **arrays}, settings, lambda: _like(x), gradients)


def scaled_dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    scale: float | None = None,
    mask: jax.Array | str | None = None,
    *,
    sinks: jax.Array | None = None,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
    kv_lengths: jax.Array | None = None,
    return_lse: bool = False,
) -> Any:
    """softmax(scale · q kᵀ [+ mask]) v: (…, Hq, Tq, Dv), with return_lse also the logarithm of the denominators, (…, Hq, Tq).

    q: (…, Hq, Tq, D), k: (…, Hkv, Tkv, D), v: (…, Hkv, Tkv, Dv), Hq a multiple of Hkv. mask: "causal", booleans (True attends) or
    numbers that are added, broadcast to (…, Hq, Tq, Tkv); the last are differentiated too, as are sinks, (Hq,).
    """
    options: Arrays = dict(scale=scale, window=window, softcap=softcap)
    arrays = dict(q=q, k=k, v=v, sinks=sinks, kv_lengths=kv_lengths)
    (options if isinstance(mask, str) else arrays)["mask"] = mask

    def gradients(arrays: Arrays, outputs: Any, cotangents: Any, asked: set[str]) -> Arrays:
        names = ("q", "k", "v", "sinks", *(["mask"] if "mask" in asked else []))
        (out, lse), (dout, dlse) = outputs, cotangents
        return _vjp("scaled_dot_product_attention", names, dict(arrays, out=out, lse=lse, dout=dout, dlse=dlse),
                    options | dict(mask_grad="mask" in asked))

    def results() -> Any:
        dtype = _like(q, k, v).dtype
        return Shape((*q.shape[:-1], v.shape[-1]), dtype), Shape(q.shape[:-1], jnp.promote_types(dtype, jnp.float32))

    found = _call("scaled_dot_product_attention", arrays, options | dict(return_lse=True), results, gradients)
    return found if return_lse else found[0]
