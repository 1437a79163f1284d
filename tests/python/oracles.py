"""The operations in float64 NumPy, straight from their definitions, each with a bound on what correct rounding may change.

A bound counts roundings: `unit` is half a unit in the last place of a type, an operation of the accumulation type errs by
one of its units, a chain of n of them by n, relative to the sum of the terms' magnitudes; the store adds one unit of the
result's type. Bounds are first-order, so inputs must not make them large.
"""

import math

import ml_dtypes
import numpy as np

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
FLOATS = (F32, F16, BF16, F64)
UNIT = {F32: 2.0**-24, F16: 2.0**-11, BF16: 2.0**-8, F64: 2.0**-53}
TINY = {
    F32: 2.0**-149,
    F16: 2.0**-24,
    BF16: 2.0**-133,
    F64: 2.0**-1074,
}  # smallest subnormal: the store's absolute error


def promote(*arrays):
    types = {np.dtype(a.dtype) for a in arrays if a is not None}
    if F64 in types:
        return F64
    return types.pop() if len(types) == 1 else F32


def accumulator(dtype):
    """The unit of the type that sums are kept in."""
    return UNIT[F64 if dtype == F64 else F32]


def wide(a):
    return None if a is None else np.asarray(a).astype(np.float64)


def stored(value, bound, dtype):
    """The bound after value is rounded to dtype."""
    return bound + np.abs(value) * UNIT[dtype] * 1.01 + TINY[dtype]


def assert_close(actual, expected, bound):
    """Every element within its bound; NaN and infinities in the same places."""
    actual = wide(actual)
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    error = np.abs(actual[finite] - expected[finite])
    excess = error > np.broadcast_to(bound, expected.shape)[finite]
    assert not excess.any(), f"{excess.sum()} of {excess.size} beyond the bound, at most {error[excess].max():.3g}"


# ---- norms ------------------------------------------------------------------------------------------


def row_chain(length, acc):
    """Roundings that one term of a row's sum meets: a chain of its lane, then the tree over 32 lanes; float64, which the
    scalar reference serves, is one chain."""
    return length if acc == UNIT[F64] else length / 32 + 6


def mean(a):
    """Over the last axis; rows without elements have mean 0."""
    return a.sum(-1, keepdims=True) / max(a.shape[-1], 1)


def rms_norm(x, weight=None, eps=1e-5):
    """(value, bound)."""
    dtype, acc = promote(x, weight), accumulator(promote(x, weight))
    x, w = wide(x), wide(weight)
    length = x.shape[-1]
    r = 1 / np.sqrt(mean(x * x) + eps)
    y = x * r * (1.0 if w is None else w)
    # The sum's error is halved by the root; dividing, adding eps, the root, its inverse and two products: six more.
    return y, stored(y, np.abs(y) * acc * (row_chain(length, acc) / 2 + 6), dtype)


def rms_norm_vjp(dy, x, weight=None, eps=1e-5):
    """((dx, bound), (dweight, bound) or None)."""
    dtype = np.dtype(x.dtype)
    acc = accumulator(promote(x, weight, dy))
    weight_dtype = None if weight is None else np.dtype(weight.dtype)
    dy, x, w = wide(dy), wide(x), wide(weight)
    length = x.shape[-1]
    r = 1 / np.sqrt(mean(x * x) + eps)
    g = dy * (1.0 if w is None else w)
    gx, majorant = mean(g * x), mean(np.abs(g * x))
    dx = r * g - x * r**3 * gx
    # r errs by half a chain, r³ by three halves, the mean by a chain; some ten operations join them.
    bound = acc * (2.5 * row_chain(length, acc) + 16) * (np.abs(r * g) + np.abs(x) * r**3 * majorant)
    results = [(dx, stored(dx, bound, dtype))]
    if w is None:
        return results[0], None
    terms = dy * x * r
    rows = tuple(range(x.ndim - 1))
    dw, rows_count = terms.sum(rows), math.prod(x.shape[:-1])
    bound = acc * (rows_count + row_chain(length, acc) / 2 + 8) * np.abs(terms).sum(rows)
    return results[0], (dw, stored(dw, bound, weight_dtype))


def centred(x, eps, acc):
    """Centred rows, 1/deviation, and the bound of their product."""
    length = x.shape[-1]
    c = x - mean(x)
    r = 1 / np.sqrt(mean(c * c) + eps)
    z = c * r
    # The mean is rounded by at most a chain of |x|; the second centring takes that away but for a unit of each term.
    shift = acc * row_chain(length, acc) * mean(np.abs(x))
    spread = mean(np.abs(c)) + shift
    bound = acc * (2 * np.abs(c) + (row_chain(length, acc) + 4) * spread) * r
    return c, r, z, bound + np.abs(z) * acc * (row_chain(length, acc) + 6)


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    """(value, bound)."""
    dtype = np.dtype(x.dtype) if weight is None else promote(x, weight, bias)
    acc = accumulator(promote(x, weight, bias))
    x, w, b = wide(x), wide(weight), wide(bias)
    _, _, z, bound = centred(x, eps, acc)
    w, b = 1.0 if w is None else w, 0.0 if b is None else b
    y = z * w + b
    return y, stored(y, np.abs(w) * bound + acc * 3 * (np.abs(z * w) + np.abs(b)), dtype)


def layer_norm_vjp(dy, x, weight=None, bias=None, eps=1e-5):
    """((dx, bound), (dweight, bound) or None, (dbias, bound) or None)."""
    dtype = np.dtype(x.dtype)
    acc = accumulator(promote(x, weight, bias, dy))
    types = [None if a is None else np.dtype(a.dtype) for a in (weight, bias)]
    dy, x, w = wide(dy), wide(x), wide(weight)
    length, rows = x.shape[-1], tuple(range(x.ndim - 1))
    rows_count = math.prod(x.shape[:-1])
    _, r, z, z_bound = centred(x, eps, acc)
    g = dy * (1.0 if w is None else w)
    gz, gz_majorant = mean(g * z), mean(np.abs(g * z))
    dx = r * (g - mean(g) - z * gz)
    spread = np.abs(g) + mean(np.abs(g)) + np.abs(z) * gz_majorant
    # Products with z carry its bound; sums a chain; r half a chain more.
    carried = z_bound * gz_majorant + np.abs(z) * mean(np.abs(g) * z_bound)
    bound = r * (acc * (2 * row_chain(length, acc) + 16) * spread + carried)
    results = [(dx, stored(dx, bound, dtype)), None, None]
    if types[0] is not None:
        dw = (dy * z).sum(rows)
        bound = (np.abs(dy) * z_bound).sum(rows) + acc * (rows_count + 4) * np.abs(dy * z).sum(rows)
        results[1] = (dw, stored(dw, bound, types[0]))
    if types[1] is not None:
        db = dy.sum(rows)
        results[2] = (db, stored(db, acc * (rows_count + 2) * np.abs(dy).sum(rows), types[1]))
    return tuple(results)


# ---- rope -------------------------------------------------------------------------------------------


def angles(x, dims, base, scale, offset, freqs):
    """(batch, T, dims/2) in radians, and the largest error that the specification allows them."""
    batch, length = x.shape[0] if x.ndim >= 3 else 1, x.shape[-2]
    offsets = np.broadcast_to(np.asarray(offset).reshape(-1), (batch,)).astype(object)
    positions = np.array([[int(o) + t for t in range(length)] for o in offsets], np.longdouble).reshape(batch, length)
    exponents = np.arange(dims // 2, dtype=np.longdouble) * 2 / dims
    inverse = (
        np.longdouble(base) ** -exponents if freqs is None else 1 / wide(freqs).astype(np.float32).astype(np.longdouble)
    )
    theta = positions[:, :, None] * np.longdouble(scale) * inverse
    reach = float(np.abs(positions).max(initial=0)) + 1
    if np.dtype(x.dtype) == F64:
        return theta, 1e-15 * reach
    assert reach <= 2**31
    return theta, 6e-8 if reach <= 2**28 else 5e-7


def rope(x, dims, traditional=False, base=10000.0, scale=1.0, offset=0, freqs=None, inverse=False):
    """(value, bound)."""
    dtype, acc = np.dtype(x.dtype), accumulator(np.dtype(x.dtype))
    theta, angle_error = angles(x, dims, base, scale, offset, freqs)
    shape = (theta.shape[0],) + (1,) * (x.ndim - 3) + theta.shape[1:] if x.ndim >= 3 else theta.shape[1:]
    cos, sin = np.cos(theta).astype(np.float64).reshape(shape), np.sin(theta).astype(np.float64).reshape(shape)
    if inverse:
        sin = -sin
    x = wide(x)
    first = np.s_[..., 0:dims:2] if traditional else np.s_[..., : dims // 2]
    second = np.s_[..., 1:dims:2] if traditional else np.s_[..., dims // 2 : dims]
    y, bound = x.copy(), np.zeros_like(x)
    y[first], y[second] = x[first] * cos - x[second] * sin, x[first] * sin + x[second] * cos
    # The angle, then sine and cosine to two units, then a product and a sum.
    bound[first] = bound[second] = (np.abs(x[first]) + np.abs(x[second])) * (angle_error + 4 * acc)
    turned = np.zeros(x.shape, bool)
    turned[..., :dims] = True
    return y, np.where(turned, stored(y, bound, dtype), 0.0)
