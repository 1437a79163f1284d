"""The operations of invar.core.fast on MLX's arrays, so that MLX may differentiate, vectorise and compile them.

MLX does not tell what is being done to an array. Where it can be evaluated, the operation runs on its memory inside
mlx.core.custom_function, with rules for the gradient (an operation again) and for what MLX asks beyond that: forward-mode and
second derivatives, for which _mlx_compose has the operation in MLX's own. Where it cannot (inside vmap and compile), those run
in its place. Without custom_function MLX would take what was computed outside of it for a constant, of gradient zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from . import _ext
from ._dtypes import as_numpy_dtype
from ._mlx_compose import compose, compose_jvp, compose_vjp

Arguments = dict[str, Any]


# ---- first derivatives: operations again ------------------------------------------------------------


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
    keywords = {name: value for name, value in a.items() if name != "return_lse"}
    mask = a.get("mask")
    additive = isinstance(mask, mx.array) and mx.issubdtype(mask.dtype, mx.floating)
    gradients = _ext.scaled_dot_product_attention_vjp(cotangents[0], out=outputs[0], lse=outputs[1], dlse=cotangents[1],
                                                      mask_grad=additive, **keywords)
    return dict(zip(("q", "k", "v", "sinks", "mask"), gradients, strict=True))


_RULES = {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "add_rms_norm": _add_rms_norm,
    "rope": _rope,
    "scaled_dot_product_attention": _attention,
}


# ---- calls ------------------------------------------------------------------------------------------

# What is written to is the caller's, and no step of a computation that MLX could follow.
_DESTINATIONS = {"scaled_dot_product_attention_vjp": "gradients"}


def _without_gradient(operation: str, argument: str, value: Any) -> Any:
    """The same array, whose gradient is an error."""

    def refuse(*_: Any) -> Any:
        raise ValueError(f"{operation}: {argument}: expected an argument that is not differentiated, got one that is")

    function = mx.custom_function(lambda x: [x])
    function.vjp(refuse)
    function.jvp(refuse)
    function.vmap(lambda x, axis: ([_without_gradient(operation, argument, x)], [axis]))
    return function(value)[0]


def _listed(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def is_traced(x: Any) -> bool:
    """Whether this is an array that stands for others, inside mx.vmap or mx.compile; any other is evaluated."""
    if type(x) is not mx.array:
        return False
    try:
        mx.eval(x)
    except ValueError as error:
        if "function transformations" in str(error):
            return True
        raise
    return False


def _stand_in(x: Any) -> Any:
    """An array of such a shape and type, without memory of its own."""
    dtype = as_numpy_dtype(x.dtype)
    return np.broadcast_to(np.ones((), dtype) if dtype.kind not in "iu" else np.zeros((), dtype), x.shape)


class _Call:
    """One operation with its arguments by name, which MLX runs inside custom_function."""

    def __init__(self, operation: str, arguments: Arguments, names: list[str]) -> None:
        self.operation, self.names, self.arguments = operation, names, arguments
        self.result: list[Any] = []
        self.places: list[int] = []  # of MLX's arrays in it: a gradient for another library's argument is of that library

    def with_values(self, values: Any) -> Arguments:
        return self.arguments | dict(zip(self.names, _listed(values), strict=True))

    def forward(self, *values: Any) -> list[Any]:
        self.result = _listed(_ext.apply(self.operation, **self.with_values(values)))
        self.places = [i for i, y in enumerate(self.result) if type(y) is mx.array]
        return [self.result[i] for i in self.places] or [mx.array(0.0)]  # MLX ends the process where there is none

    def gradients(self, values: Any, cotangents: Any, outputs: Any) -> Any:
        arguments, rule = self.with_values(values), _RULES.get(self.operation)
        if rule:
            found = rule(arguments, _listed(cotangents), _listed(outputs))
            given = [mx.zeros_like(arguments[n]) if found.get(n) is None else found[n] for n in self.names]
        else:
            given = compose_vjp(self.operation, arguments, self.names, _listed(cotangents))
        return given[0] if len(given) == 1 else tuple(given)

    def tangents(self, values: Any, tangents: Any) -> list[Any]:
        given = {n: t for n, t in zip(self.names, _listed(tangents), strict=True) if t is not None}
        return compose_jvp(self.operation, self.with_values(values), list(given), list(given.values()))

    def run(self) -> list[Any]:
        function = mx.custom_function(self.forward)
        function.vjp(self.gradients)
        function.jvp(self.tangents)
        outputs = function(*[self.arguments[n] for n in self.names])
        mx.eval(outputs)
        for i, y in zip(self.places, outputs):
            self.result[i] = y
        return self.result


def differentiable(operation: str, arguments: Arguments) -> Any:
    """Run an operation of invar.core.fast, with its arguments by name, so that MLX may transform it."""
    names = [n for n, value in arguments.items() if type(value) is mx.array and mx.issubdtype(value.dtype, mx.floating)]
    ours = type(next(iter(arguments.values()))) is mx.array  # or the result is another library's
    if not ours or not names or arguments.get(_DESTINATIONS.get(operation, "out")) is not None:
        return _ext.apply(operation, **arguments)
    traced = [n for n, value in arguments.items() if is_traced(value)]
    if traced:
        _ext.check(operation, **(arguments | {n: _stand_in(arguments[n]) for n in traced}))
    if "freqs" in names:
        arguments = arguments | {"freqs": _without_gradient(operation, "freqs", arguments["freqs"])}
    if traced:
        results = compose(operation, arguments)
    elif operation == "scaled_dot_product_attention" and not arguments.get("return_lse"):
        # The lse costs nothing here and the gradient needs it.
        results = _Call(operation, arguments | {"return_lse": True}, names).run()[:1]
    else:
        results = _Call(operation, arguments, names).run()
    return tuple(results) if len(results) > 1 else results[0]
