"""scaled_dot_product_attention and its gradients in float64, one query row at a time, with bounds as in oracles.py."""

import math

import numpy as np

from oracles import BF16, F16, F64, TINY, UNIT, accumulator, promote, stored, wide


def batched(a):
    """(…, H, T, D) as (B, H, T, D)."""
    a = np.asarray(a)
    if a.ndim == 2:
        a = a[None]
    return a.reshape((math.prod(a.shape[:-3]),) + a.shape[-3:])


def dot_chain(features, dtype):
    """Roundings that a term of a sum over features meets: float64 sums in one chain, bfloat16 pairs too; elsewhere links of
    half the features, rounded up to 16 and at most 64, are added up. float16's numbers in parts: four products more, and a
    rest of 2^-23 where there is none."""
    if dtype in (F64, BF16):
        return features
    if dtype == F16:
        return features + 8
    link = min(-(-features // 32) * 16, 64)
    return min(features, link + -(-features // max(link, 1)))


class Attention:
    """One call: its inputs in float64 and, for every row, which keys it sees."""

    def __init__(self, q, k, v, scale=None, mask=None, *, sinks=None, window=None, softcap=None, kv_lengths=None):
        self.types = [np.dtype(a.dtype) for a in (q, k, v)]
        self.dtype = promote(q, k, v)
        self.lse_dtype = np.dtype(np.float64 if self.dtype == F64 else np.float32)
        self.acc = accumulator(self.dtype)
        self.least_weight = 0.0 if self.dtype == F64 else 2.0**-126  # what is less is 0
        # Where the processor multiplies bfloat16 pairs, a weight is rounded to bfloat16 for its product with a value; where
        # float16 goes in parts, a weight is cut to 16 bits and a product of rests left out, each below 2^-15. There exp2 is a
        # shorter polynomial, of the relative error that docs/invariance.md gives.
        self.weight_unit = {BF16: UNIT[BF16], F16: 2.0**-14}.get(self.dtype, 0.0)
        self.exp2_error = 2.8e-6 if self.dtype in (BF16, F16) else 0.0
        self.out_shape, self.shapes = q.shape[:-1] + v.shape[-1:], [a.shape for a in (q, k, v)]
        self.q, self.k, self.v = (wide(batched(a)) for a in (q, k, v))
        self.batch, self.heads, self.queries, features = self.q.shape
        self.keys, self.group = self.k.shape[2], self.heads // self.k.shape[1] if self.heads else 1
        self.scale = (1 / math.sqrt(features) if features else 0.0) if scale is None else float(scale)
        self.softcap, self.sinks, self.sinks_dtype = (
            softcap,
            wide(sinks),
            None if sinks is None else np.dtype(sinks.dtype),
        )
        self.mask_shape, self.mask_dtype = None, None
        self.additive, self.seen = self._visibility(mask, window, kv_lengths)

    def _visibility(self, mask, window, kv_lengths):
        lengths = np.full(self.batch, self.keys) if kv_lengths is None else np.asarray(kv_lengths).reshape(-1)
        j, i = np.arange(self.keys), np.arange(self.queries)[:, None]
        position = i + lengths[:, None, None, None] - self.queries
        seen = np.broadcast_to(
            j < lengths[:, None, None, None], (self.batch, self.heads, self.queries, self.keys)
        ).copy()
        if isinstance(mask, str):
            seen &= j <= position
        left, right = (None, None) if window is None else window
        if left is not None:
            seen &= j >= position - left
        if right is not None:
            seen &= j <= position + right
        if mask is None or isinstance(mask, str):
            return None, seen
        mask = np.asarray(mask)
        self.mask_shape, self.mask_dtype = mask.shape, mask.dtype
        full = batched(np.broadcast_to(mask, self.out_shape[:-1] + (self.keys,)))
        if mask.dtype == bool:
            return None, seen & full
        return wide(full), seen & (wide(full) != -np.inf)

    def row(self, b, h, i):
        """A row's keys, scores, derivative of the soft cap, weights, sink's weight, lse and relative error of weights."""
        keys = np.flatnonzero(self.seen[b, h, i])
        q, k = self.q[b, h, i], self.k[b, h // self.group][keys]
        s = self.scale * (k @ q)
        error = self.acc * ((dot_chain(len(q), self.dtype) + 4) * abs(self.scale) * (np.abs(k) @ np.abs(q)))
        slope, slope_error = np.ones_like(s), np.zeros_like(s)
        if self.softcap is not None:
            tanh = np.tanh(s / self.softcap)
            slope, slope_error = 1 - tanh**2, 2 * np.abs(tanh) * error / self.softcap + 16 * self.acc
            s, error = self.softcap * tanh, error + 8 * self.acc * np.abs(s)
        if self.additive is not None:
            s = s + self.additive[b, h, i][keys]
            error = error + 2 * self.acc * np.abs(self.additive[b, h, i][keys])
        logits = s if self.sinks is None else np.append(s, self.sinks[h])
        # Base 2: the constant, the product and the difference from the maximum each round.
        error = np.max(error, initial=0) + 4 * self.acc * np.max(np.abs(logits), initial=0)
        relative = 2 * error + self.acc * (len(keys) + 16) + self.exp2_error
        if not len(logits) or np.max(logits) == -np.inf:
            return keys, slope, slope_error, np.zeros_like(s), 0.0, -np.inf, relative
        top = np.max(logits)
        weights = np.exp(logits - top)
        total = weights.sum()
        weights, lse = weights / total, top + np.log(total)
        if self.sinks is None:
            return keys, slope, slope_error, weights, 0.0, lse, relative
        return keys, slope, slope_error, weights[:-1], weights[-1], lse, relative

    def rows(self):
        return np.ndindex(self.batch, self.heads, self.queries)

    def forward(self):
        """((out, bound), (lse, bound))."""
        out = np.zeros((self.batch, self.heads, self.queries, self.v.shape[-1]))
        lse = np.zeros(out.shape[:-1])
        bound, lse_bound = np.zeros_like(out), np.zeros_like(lse)
        for b, h, i in self.rows():
            keys, _, _, p, _, lse[b, h, i], relative = self.row(b, h, i)
            v = self.v[b, h // self.group][keys]
            out[b, h, i] = p @ v
            bound[b, h, i] = (2 * relative + self.weight_unit) * (p @ np.abs(v))
            lse_bound[b, h, i] = relative
        out, bound = out.reshape(self.out_shape), bound.reshape(self.out_shape)
        lse, lse_bound = lse.reshape(self.out_shape[:-1]), lse_bound.reshape(self.out_shape[:-1])
        lse_bound = lse_bound + 2 * self.acc * np.abs(np.where(np.isfinite(lse), lse, 0.0))
        return (out, stored(out, bound, self.dtype)), (lse, stored(lse, lse_bound, self.lse_dtype))

    def backward(self, dout, dlse=None):
        """[(gradient, bound)] of q, k, v, sinks and mask; None where there is none."""
        dout = wide(batched(dout))
        dlse = np.zeros(dout.shape[:-1]) if dlse is None else wide(dlse).reshape(dout.shape[:-1])
        values = [np.zeros_like(a) for a in (self.q, self.k, self.v)]
        values += [np.zeros(self.heads), np.zeros((self.batch, self.heads, self.queries, self.keys))]
        bounds = [np.zeros_like(a) for a in values]
        for b, h, i in self.rows():
            self._row_backward(b, h, i, dout[b, h, i], dlse[b, h, i], values, bounds)
        return self._folded(values, bounds)

    def _row_backward(self, b, h, i, dout, dlse, values, bounds):
        keys, slope, slope_error, p, p_sink, _, relative = self.row(b, h, i)
        g = h // self.group
        k, v, q = self.k[b, g][keys], self.v[b, g][keys], self.q[b, h, i]
        out = p @ v
        delta, dp = dout @ out, v @ dout
        ds = p * (dp - delta + dlse)
        # The same with magnitudes, and how many units relative to them: the weights, the products, out as it was stored.
        terms = np.abs(v) @ np.abs(dout) + np.abs(dout) @ (p @ np.abs(v)) + abs(dlse)
        majorant = p * terms
        loss = 3 * relative + self.acc * (dot_chain(len(dout), self.dtype) + 24) + UNIT[self.dtype] * 1.01 + 2 * self.weight_unit
        ds_bound = majorant * loss + TINY[self.dtype] * p * np.abs(dout).sum() + self.least_weight * terms
        values[4][b, h, i, keys] = ds
        bounds[4][b, h, i, keys] = ds_bound
        values[3][h] += p_sink * (dlse - delta)
        bounds[3][h] += (
            p_sink * (np.abs(dout) @ (p @ np.abs(v)) + abs(dlse)) * (loss + self.acc * self.queries * self.batch)
        )
        turns = self.acc * (self.queries * self.group + len(keys) + 8) + self.weight_unit
        ds_bound = ds_bound * slope + majorant * (slope_error + turns)
        ds = ds * slope
        values[0][b, h, i] = self.scale * (ds @ k)
        bounds[0][b, h, i] = abs(self.scale) * (ds_bound @ np.abs(k))
        values[1][b, g][keys] += self.scale * np.outer(ds, q)
        bounds[1][b, g][keys] += abs(self.scale) * np.outer(ds_bound, np.abs(q))
        values[2][b, g][keys] += np.outer(p, dout)
        bounds[2][b, g][keys] += np.outer(p * (2 * relative + turns) + self.least_weight, np.abs(dout))

    def _folded(self, values, bounds):
        results = []
        for value, bound, shape, dtype in zip(values, bounds, self.shapes, self.types):
            results.append((value.reshape(shape), stored(value, bound, dtype).reshape(shape)))
        results.append(None if self.sinks is None else (values[3], stored(values[3], bounds[3], self.sinks_dtype)))
        if self.additive is None or self.mask_dtype not in UNIT:
            return results + [None]
        folded, bound = (
            unbroadcast(a.reshape(self.out_shape[:-1] + (self.keys,)), self.mask_shape) for a in (values[4], bounds[4])
        )
        count = values[4].size / max(folded.size, 1)
        majorant = unbroadcast(np.abs(values[4]).reshape(self.out_shape[:-1] + (self.keys,)), self.mask_shape)
        return results + [(folded, stored(folded, bound + self.acc * count * majorant, self.mask_dtype))]


def unbroadcast(a, shape):
    """Sums a over the axes along which `shape` was broadcast to it."""
    a = a.sum(tuple(range(a.ndim - len(shape))))
    axes = tuple(d for d, size in enumerate(shape) if size == 1 and a.shape[d] != 1)
    return a.sum(axes, keepdims=True)
