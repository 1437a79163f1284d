"""The operations of invar.core.fast in MLX's own: what runs where MLX forbids evaluation, and what it differentiates again.

Each function takes an operation's arguments by name and gives the list of its results, of the same meaning, types and shapes,
computed in float32 (float64 where an argument is). They hold scores of Tq × Tkv and have no promised bits. Nothing here reads
a value, so that MLX may trace, differentiate and vectorise all of it. Everything runs on the CPU's stream: float64 is there only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ._mlx_attention import attention, attention_vjp

Arguments = dict[str, Any]

_FLOATING = (mx.float16, mx.bfloat16, mx.float32, mx.float64)


def promoted(*arrays: Any) -> Any:
    """The type of a result of these arrays, of which some may be None."""
    types = [x.dtype for x in arrays if x is not None]
    if mx.float64 in types:
        return mx.float64
    return types[0] if all(dtype == types[0] for dtype in types) else mx.float32


def accumulator(*arrays: Any) -> Any:
    """The type that such arrays are computed in."""
    return mx.float64 if any(x is not None and x.dtype == mx.float64 for x in arrays) else mx.float32


# ---- norms ------------------------------------------------------------------------------------------


def _rms_norm_wide(x: Any, weight: Any, bias: None, eps: float) -> Any:
    y = x * mx.rsqrt(mx.mean(mx.square(x), -1, keepdims=True) + eps)
    return y if weight is None else y * weight


def _layer_norm_wide(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    x = x - mx.mean(x, -1, keepdims=True)
    x = x - mx.mean(x, -1, keepdims=True)  # what rounding the first mean left
    y = x * mx.rsqrt(mx.mean(mx.square(x), -1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _norm(wide: Callable[..., Any]) -> Callable[[Arguments], list[Any]]:
    def compute(a: Arguments) -> list[Any]:
        given = [a["x"], a.get("weight"), a.get("bias")]
        acc = accumulator(*given)
        if not a["x"].size:
            return [mx.zeros(a["x"].shape, promoted(*given))]
        y = wide(*[None if g is None else g.astype(acc) for g in given], float(a.get("eps", 1e-5)))
        return [y.astype(promoted(*given))]

    return compute


def _norm_vjp(wide: Callable[..., Any], results: int) -> Callable[[Arguments], list[Any]]:
    def compute(a: Arguments) -> list[Any]:
        given = [a["x"], a.get("weight"), a.get("bias")]
        present = [i for i, g in enumerate(given) if g is not None]
        acc = accumulator(a["dy"], *given)
        if not a["x"].size:
            return [None if g is None else mx.zeros_like(g) for g in given[:results]]

        def forward(*values: Any) -> list[Any]:
            whole = [None, None, None]
            for i, value in zip(present, values, strict=True):
                whole[i] = value.astype(acc)
            return [wide(*whole, float(a.get("eps", 1e-5)))]

        found = mx.vjp(forward, [given[i] for i in present], [a["dy"].astype(acc)])[1]
        gradients = [None, None, None]
        for i, gradient in zip(present, found, strict=True):
            gradients[i] = gradient
        return gradients[:results]

    return compute


def _add_rms_norm(a: Arguments) -> list[Any]:
    x, residual, weight = a["x"], a["residual"], a.get("weight")
    acc = accumulator(x, residual, weight)
    if not x.size:
        return [mx.zeros(x.shape, promoted(x, residual, weight)), mx.zeros(x.shape, promoted(x, residual))]
    total = x.astype(acc) + residual.astype(acc)
    y = _rms_norm_wide(total, None if weight is None else weight.astype(acc), None, float(a.get("eps", 1e-5)))
    return [y.astype(promoted(x, residual, weight)), total.astype(promoted(x, residual))]


# ---- rope -------------------------------------------------------------------------------------------

# 2π in two parts: whole numbers below 2^29 times the first are exact in float64.
_TURN = float(np.float32(2 * math.pi))
_TURN_REST = 2 * math.pi - _TURN  # 2π itself is rounded to double: 2.4e-16 a turn, as much as the angle is


def _angles(a: Arguments, x: Any, acc: Any) -> tuple[Any, Any]:
    """Cosine and sine of each pair's angle, (B or 1, 1…, T, dims/2); formed and reduced in float64, as mx.sin is not."""
    offset, freqs, half = a.get("offset", 0), a.get("freqs"), a["dims"] // 2
    if isinstance(offset, mx.array):
        offset = offset.astype(mx.int64).reshape((-1,) + (1,) * (x.ndim - 1))
    positions = mx.arange(x.shape[-2], dtype=mx.int64)[:, None] + mx.array(offset, dtype=mx.int64)
    positions = positions.astype(mx.float64) * float(a.get("scale", 1.0))
    if freqs is not None:
        angles = positions / freqs.astype(mx.float32).astype(mx.float64)
    else:
        base = a.get("base", 10000.0)
        angles = positions * mx.array(np.power(float(base), np.arange(half) * (-2.0 / a["dims"])), dtype=mx.float64)
    turns = mx.round(angles * (1 / (2 * math.pi)))
    angles = (angles - turns * _TURN) - turns * _TURN_REST
    t = mx.tan(angles * 0.5)  # MLX's sine of a float64 is as rough as a float32's, its tangent is not
    unit = 1.0 / (1.0 + t * t)
    return ((1.0 - t * t) * unit).astype(acc), (2.0 * t * unit).astype(acc)


def _rope(a: Arguments) -> list[Any]:
    x, dims = a["x"], a["dims"]
    acc, half, pairs = accumulator(x), dims // 2, a.get("traditional", False)
    cosine, sine = _angles(a, x, acc)
    first = (x[..., 0:dims:2] if pairs else x[..., :half]).astype(acc)
    second = (x[..., 1:dims:2] if pairs else x[..., half:dims]).astype(acc)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    if pairs:
        turned = [mx.stack(turned, -1).reshape(*x.shape[:-1], dims)]
    return [mx.concatenate([y.astype(x.dtype) for y in turned] + [x[..., dims:]], -1)]


def _rope_vjp(a: Arguments) -> list[Any]:
    return _rope({**a, "x": a["dy"], "scale": -float(a.get("scale", 1.0))})


# ---- attention --------------------------------------------------------------------------------------


def _attention(a: Arguments) -> list[Any]:
    q, k, v = a["q"], a["k"], a["v"]
    acc = accumulator(q, k, v)
    out, lse = attention(a, q, k, v, a.get("sinks"), a.get("mask"), acc)
    return [out.astype(promoted(q, k, v)), lse] if a.get("return_lse") else [out.astype(promoted(q, k, v))]


def _attention_vjp(a: Arguments) -> list[Any]:
    return attention_vjp(a, accumulator(a["q"], a["k"], a["v"]))


_COMPOSED: dict[str, Callable[[Arguments], list[Any]]] = {
    "rms_norm": _norm(_rms_norm_wide),
    "rms_norm_vjp": _norm_vjp(_rms_norm_wide, 2),
    "layer_norm": _norm(_layer_norm_wide),
    "layer_norm_vjp": _norm_vjp(_layer_norm_wide, 3),
    "add_rms_norm": _add_rms_norm,
    "rope": _rope,
    "rope_vjp": _rope_vjp,
    "scaled_dot_product_attention": _attention,
    "scaled_dot_product_attention_vjp": _attention_vjp,
}


def as_mlx(value: Any) -> Any:
    """Another library's array as MLX's, with its type; what is no array as it is."""
    if isinstance(value, mx.array) or not hasattr(value, "dtype") or not hasattr(value, "shape") or value.shape is None:
        return value
    value = np.asarray(value)
    if value.dtype.name == "bfloat16":
        return mx.array(value.view(np.uint16)).view(mx.bfloat16)
    return mx.array(value, dtype=mx.float64 if value.dtype == np.float64 else None)


def compose(operation: str, arguments: Arguments) -> list[Any]:
    """An operation's results, None among them where it has none; arguments are checked already."""
    given = {name: as_mlx(value) for name, value in arguments.items() if value is not None or name == "base"}
    with mx.stream(mx.cpu):
        return _COMPOSED[operation](given)


def compose_vjp(operation: str, arguments: Arguments, names: Sequence[str], cotangents: Sequence[Any]) -> list[Any]:
    """Gradients for the arguments of these names, given the cotangent of each result that is not None."""
    with mx.stream(mx.cpu):
        return mx.vjp(_function(operation, arguments, names), [arguments[n] for n in names], list(cotangents))[1]


def compose_jvp(operation: str, arguments: Arguments, names: Sequence[str], tangents: Sequence[Any]) -> list[Any]:
    """The tangent of each result that is not None, given those of the arguments of these names."""
    with mx.stream(mx.cpu):
        return mx.jvp(_function(operation, arguments, names), [arguments[n] for n in names], list(tangents))[1]


def _function(operation: str, arguments: Arguments, names: Sequence[str]) -> Callable[..., list[Any]]:
    def function(*values: Any) -> list[Any]:
        found = compose(operation, arguments | dict(zip(names, values, strict=True)))
        return [y for y in found if y is not None]

    return function
