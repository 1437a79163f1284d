"""Gradients of the operations where MLX differentiates: each runs inside mlx.core.custom_function.

Without it MLX takes what was computed outside of it for a constant, whose gradient is zero. Nothing tells whether an array is
being differentiated, so every call with MLX's arrays comes here; _ext.apply runs the operation itself. What has no rule, a second
derivative or mx.jvp, raises ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _ext
from ._kernel_vjp import run_mlx

Arguments = dict[str, Any]


def _rms_norm(a: Arguments, cotangents: Sequence[Any], outputs: Sequence[Any]) -> Arguments:
    return dict(zip(("x", "weight"), _ext.rms_norm_vjp(cotangents[0], **a), strict=True))


def _layer_norm(a: Arguments, cotangents: Sequence[Any], outputs: Sequence[Any]) -> Arguments:
    return dict(zip(("x", "weight", "bias"), _ext.layer_norm_vjp(cotangents[0], **a), strict=True))


def _add_rms_norm(a: Arguments, cotangents: Sequence[Any], outputs: Sequence[Any]) -> Arguments:
    keywords = {name: value for name, value in a.items() if name not in ("x", "residual")}
    dsum, dweight = _ext.rms_norm_vjp(cotangents[0], outputs[1], **keywords)
    dsum = dsum + cotangents[1]
    return {"x": dsum.astype(a["x"].dtype), "residual": dsum.astype(a["residual"].dtype), "weight": dweight}


def _rope(a: Arguments, cotangents: Sequence[Any], outputs: Sequence[Any]) -> Arguments:
    return {"x": _ext.rope_vjp(cotangents[0], **{name: value for name, value in a.items() if name != "x"})}


def _attention(a: Arguments, cotangents: Sequence[Any], outputs: Sequence[Any]) -> Arguments:
    import mlx.core as mx

    keywords = {name: value for name, value in a.items() if name != "return_lse"}
    mask = a.get("mask")
    additive = isinstance(mask, mx.array) and mx.issubdtype(mask.dtype, mx.floating)
    out, lse = _ext.scaled_dot_product_attention(**keywords, return_lse=True)
    dlse = cotangents[1] if len(cotangents) > 1 else None
    gradients = _ext.scaled_dot_product_attention_vjp(cotangents[0], out=out, lse=lse, dlse=dlse, mask_grad=additive, **keywords)
    return dict(zip(("q", "k", "v", "sinks", "mask"), gradients, strict=True))


_RULES = {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "add_rms_norm": _add_rms_norm,
    "rope": _rope,
    "scaled_dot_product_attention": _attention,
}


# What is written to is the caller's, and no step of a computation that MLX could follow.
_DESTINATIONS = {"scaled_dot_product_attention_vjp": "gradients"}


def _without_gradient(mx: Any, operation: str, argument: str, value: Any) -> Any:
    """The same array, whose gradient is an error."""

    def refuse(*_: Any) -> Any:
        raise ValueError(f"{operation}: {argument}: expected an argument that is not differentiated, got one that is")

    function = mx.custom_function(lambda x: [x])
    function.vjp(refuse)
    return function(value)[0]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def differentiable(operation: str, arguments: Arguments) -> Any:
    """Run an operation of invar.core.fast, with its arguments by name, so that MLX may differentiate it."""
    import mlx.core as mx

    names = [n for n, value in arguments.items() if type(value) is mx.array and mx.issubdtype(value.dtype, mx.floating)]
    ours = type(next(iter(arguments.values()))) is mx.array  # or the result is another library's
    if not ours or not names or arguments.get(_DESTINATIONS.get(operation, "out")) is not None:
        return _ext.apply(operation, **arguments)
    places: list[int | None] = []

    def run(values: Sequence[Any]) -> list[Any]:
        result = _ext.apply(operation, **(arguments | dict(zip(names, values, strict=True))))
        present = [y for y in _listed(result) if y is not None]
        order = iter(range(len(present)))
        places[:] = [None if y is None else next(order) for y in _listed(result)]
        return present

    def gradients(values: Sequence[Any], cotangents: Any, outputs: Any) -> list[Any]:
        rule = _RULES.get(operation)
        if not rule:
            raise ValueError(f"{operation}: expected a first derivative, got a second one, which it has none of")
        found = rule(arguments | dict(zip(names, values, strict=True)), _listed(cotangents), _listed(outputs))
        return [found.get(n) for n in names]

    inputs = [_without_gradient(mx, operation, n, arguments[n]) if n == "freqs" else arguments[n] for n in names]
    outputs = run_mlx(inputs, run, gradients, operation, "")
    mx.eval(outputs)
    results = tuple(None if place is None else outputs[place] for place in places)
    return results if len(results) > 1 else results[0]
