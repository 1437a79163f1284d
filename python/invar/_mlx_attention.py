"""scaled_dot_product_attention and its gradient in MLX's own operations, with invar's meaning of what is masked out.

Heads are laid out (…, Hkv, group, T, D), so that k and v are never repeated. Where nothing is masked the products are plain;
elsewhere numbers that are not finite are kept out of them and brought back for the rows that see them, since 0 · NaN is NaN.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np

Arguments = dict[str, Any]


def _with_features(x: Any) -> Any:
    """x, or one feature of 0 where it has none: MLX's reductions of empty slices may not end."""
    return x if x.shape[-1] else mx.zeros((*x.shape[:-1], 1), x.dtype)


def _nothing(x: Any) -> Any:
    """False, through a slice, which refuses mx.compile(shapeless=True): there positions would stay the first call's."""
    first = x[(slice(0, 1),) * x.ndim] if x.size else mx.zeros((1,))
    return mx.stop_gradient(mx.logical_and(first == first, first != first))


# ---- choices whose derivatives choose too: those of mx.where multiply by 0, and 0 · NaN is NaN ---------


@mx.custom_function
def _finite(x: Any) -> Any:
    """0 in the place of what is not finite; derivatives as if nothing were replaced."""
    return mx.where(mx.isfinite(x), x, 0.0)


_finite.vjp(lambda x, cotangent, output: cotangent)
_finite.jvp(lambda x, tangent: tangent)
_finite.vmap(lambda x, axis: (_finite(x), axis))


def _select(condition: Any, x: Any, otherwise: float) -> Any:
    """x where the condition holds, which broadcasts to x."""

    @mx.custom_function
    def function(condition: Any, x: Any) -> Any:
        return mx.where(condition, x, otherwise)

    def vectorised(values: Any, axes: Any) -> Any:
        rank = max(y.ndim - (axis is not None) for y, axis in zip(values, axes, strict=True))
        values = [y[None] if axis is None else mx.moveaxis(y, axis, 0) for y, axis in zip(values, axes, strict=True)]
        count = max(y.shape[0] for y in values)
        condition, x = (y.reshape(y.shape[0], *(1,) * (rank + 1 - y.ndim), *y.shape[1:]) for y in values)
        return _select(condition, mx.broadcast_to(x, (count, *x.shape[1:])), otherwise), 0

    function.vjp(lambda values, cotangent, output: (mx.zeros_like(condition), _select(values[0], cotangent, 0.0)))
    function.jvp(lambda values, tangents: mx.zeros_like(values[1]) if tangents[1] is None
                 else _select(values[0], tangents[1], 0.0))
    function.vmap(vectorised)
    return function(condition, x)


class _Call:
    """The shapes of a call and which keys each query sees: None, or (…, Tq, Tkv) that broadcasts to the scores."""

    def __init__(self, a: Arguments, q: Any, k: Any, mask: Any, acc: Any) -> None:
        self.acc, self.rows = acc, tuple(q.shape[:-1])
        self.lead = tuple(q.shape[:-3])
        self.heads = k.shape[-3] if k.ndim > 2 else 1
        self.group = q.shape[-3] // self.heads if q.ndim > 2 and self.heads else 1
        self.queries, self.keys = q.shape[-2], k.shape[-2]
        scale = a.get("scale")
        self.scale = float(scale) if scale is not None else 1 / math.sqrt(q.shape[-1]) if q.shape[-1] else 0.0
        self.softcap = a.get("softcap")
        self.additive = isinstance(mask, mx.array) and mask.dtype != mx.bool_
        self.visible = self._visible(a, mask)

    def _visible(self, a: Arguments, mask: Any) -> Any:
        if not self.keys:
            return mx.zeros((1, 1), mx.bool_)  # of the one key of zeros that stands for none
        far = 2 * (self.queries + self.keys)
        j, end, conditions = mx.arange(self.keys, dtype=mx.int64), self.keys, []
        if a.get("kv_lengths") is not None:
            end = a["kv_lengths"].astype(mx.int64).reshape(*self.lead, 1, 1, 1, 1)
            conditions.append(j < end)
        position = mx.arange(self.queries, dtype=mx.int64)[:, None] + (end - self.queries)
        left, right = a.get("window") or (None, None)
        if isinstance(mask, str):
            conditions.append(j <= position)
        if left is not None:
            conditions.append(j >= position - min(int(left), far))
        if right is not None:
            conditions.append(j <= position + min(int(right), far))
        if isinstance(mask, mx.array):
            mask = self.split_heads(mask)
            conditions.append(mx.stop_gradient(mask != -math.inf) if self.additive else mask)
        if not conditions:
            return None
        visible = conditions[0]
        for condition in conditions[1:]:
            visible = mx.logical_and(visible, condition)
        return mx.broadcast_to(visible, np.broadcast_shapes(visible.shape, (self.queries, self.keys)))

    def split_heads(self, x: Any) -> Any:
        """(…, Hq or 1, T, D) as (…, Hkv, group, T, D)."""
        if x.ndim < 3 or x.shape[-3] == 1:
            return x if x.ndim < 3 else mx.expand_dims(x, -3)
        return x.reshape(*x.shape[:-3], self.heads, self.group, *x.shape[-2:])

    def of_queries(self, x: Any) -> Any:
        """q, out or their gradients, in the type of computation."""
        x = _with_features(x).astype(self.acc)
        return x.reshape(*self.lead, self.heads, self.group, *x.shape[-2:])

    def of_keys(self, x: Any) -> Any:
        x = _with_features(x).astype(self.acc)
        x = x.reshape(*self.lead, self.heads, 1, *x.shape[-2:])
        return x if self.keys else mx.concatenate([x, mx.zeros((*x.shape[:-2], 1, x.shape[-1]), self.acc)], -2)

    def of_rows(self, x: Any) -> Any:
        """lse or its gradient, with an axis for the keys."""
        return x.astype(self.acc).reshape(*self.lead, self.heads, self.group, self.queries, 1)

    def of_sinks(self, x: Any) -> Any:
        return x.astype(self.acc).reshape(self.heads, self.group, 1, 1)

    def select(self, x: Any, otherwise: float) -> Any:
        return x if self.visible is None else _select(self.visible, x, otherwise)

    # ---- the steps --------------------------------------------------------------------------------

    def scores(self, q: Any, k: Any, mask: Any) -> Any:
        """Logits, with 0 where a key is masked out."""
        q, k = self.of_queries(q) * (self.scale + _nothing(q).astype(self.acc)), self.of_keys(k)
        if self.visible is None:
            s = q @ k.swapaxes(-1, -2)
        else:
            whole = mx.stop_gradient(q @ k.swapaxes(-1, -2))
            finite = mx.logical_and(mx.isfinite(q).all(-1, keepdims=True), mx.isfinite(k).all(-1)[..., None, :])
            s = _finite(q) @ _finite(k).swapaxes(-1, -2) + mx.where(finite, 0.0, whole)
        s = self.select(s, 0.0)
        if self.softcap is not None:
            s = mx.tanh(s / float(self.softcap)) * float(self.softcap)
        if self.additive and self.keys:
            mask = self.split_heads(mask).astype(self.acc)
            s = self.select(s + mx.where(mask == -math.inf, 0.0, mask), 0.0)
        return s

    def values(self, s: Any, weights: Any, v: Any) -> Any:
        """The weights of these scores, 0 where a key is masked out, times v."""
        if self.visible is None:
            return weights @ v
        weighed = s != -math.inf
        seen, weightless = (mx.logical_and(self.visible, x).astype(self.acc) for x in (weighed, mx.logical_not(weighed)))
        above, below = (mx.logical_or(mx.isnan(v), v == sign * math.inf).astype(self.acc) for sign in (1, -1))
        lost = mx.stop_gradient(weightless @ mx.maximum(above, below)) > 0  # 0 · infinity
        above, below = (mx.stop_gradient(seen @ sign) > 0 for sign in (above, below))
        odd = mx.where(above, mx.where(below, math.nan, math.inf), mx.where(below, -math.inf, 0.0))
        odd = mx.where(lost, math.nan, odd).astype(self.acc)
        # Times the weights' sum, which is 1, so that their gradient is not finite either.
        return weights @ _finite(v) + odd * weights.sum(-1, keepdims=True)


def _exp(x: Any) -> Any:
    """MLX's exp of a float64 is as rough as a float32's; its expm1 is not."""
    return mx.expm1(x) + 1.0 if x.dtype == mx.float64 else mx.exp(x)


def attention(a: Arguments, q: Any, k: Any, v: Any, sinks: Any, mask: Any, acc: Any) -> tuple[Any, Any]:
    """out and lse, both in the type of computation."""
    if not math.prod(q.shape[:-1]):
        return mx.zeros((*q.shape[:-1], v.shape[-1]), acc), mx.zeros(q.shape[:-1], acc)
    call = _Call(a, q, k, mask, acc)
    s = call.scores(q, k, mask)
    top = mx.max(call.select(s, -math.inf), -1, keepdims=True)
    sink = None if sinks is None else call.of_sinks(sinks)
    top = mx.stop_gradient(top if sink is None else mx.maximum(top, sink))
    top = mx.where(top == -math.inf, 0.0, top)
    weights = _exp(call.select(s - top, -math.inf))
    total = weights.sum(-1, keepdims=True)
    total = total if sink is None else total + _exp(sink - top)
    empty = total == 0
    total = mx.where(empty, 1.0, total)
    lse = mx.where(empty, -math.inf, mx.log(total) + top)
    out = call.values(s, call.select(weights / total, 0.0), call.of_keys(v))
    out = _select(mx.logical_not(empty), out, 0.0)  # for the infinities among the values of a row that sees no key
    return out[..., : v.shape[-1]].reshape(*call.rows, v.shape[-1]), lse.reshape(call.rows)


def attention_vjp(a: Arguments, acc: Any) -> list[Any]:
    """(dq, dk, dv, dsinks, dmask), in which out and lse are arguments like the others: a function of each of them."""
    q, k, v, sinks, mask = a["q"], a["k"], a["v"], a.get("sinks"), a.get("mask")
    if not math.prod(q.shape[:-1]):
        return [None if x is None else mx.zeros_like(x) for x in (q, k, v, sinks, mask if a.get("mask_grad") else None)]
    call = _Call(a, q, k, mask, acc)
    dout, lse = call.of_queries(a["dout"]), call.of_rows(a["lse"])
    delta = (dout * call.of_queries(a["out"])).sum(-1, keepdims=True)
    delta = delta if a.get("dlse") is None else delta - call.of_rows(a["dlse"])
    empty = lse == -math.inf
    lse = mx.where(empty, 0.0, lse)
    given = [q, k, mask] if call.additive and a.get("mask_grad") else [q, k]

    def scores(*values: Any) -> list[Any]:
        return [call.scores(*values) if len(values) > 2 else call.scores(*values, mask)]

    s = scores(*given)[0]
    weights = _exp(call.select(s - lse, -math.inf))
    ds = call.select(weights * (dout @ _finite(call.of_keys(v)).swapaxes(-1, -2) - delta), 0.0)
    found = mx.vjp(scores, given, [mx.broadcast_to(ds, s.shape)])[1]
    dv = mx.vjp(lambda x: [weights @ call.of_keys(x)], [v], [dout])[1][0]
    dsinks = None
    if sinks is not None:
        share = mx.where(empty, 0.0, _exp(call.of_sinks(sinks) - lse)) * -delta
        share = share.reshape(-1, call.heads * call.group, call.queries)
        dsinks = share.sum((0, 2)).astype(sinks.dtype)
    return [found[0], found[1], dv, dsinks, found[2] if len(found) > 2 else None]
