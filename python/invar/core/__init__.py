"""The functions of mlx.core that stand around its fast operations, over NumPy, with MLX's names and defaults.

Floats are float32 and integers int32 (int64 if too large) where no type is given; results are NumPy arrays. A convenience
for code written for MLX, not an array library.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import ml_dtypes
import numpy as np

from .._dtypes import as_numpy_dtype
from . import fast, random

bool_ = np.bool_
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64 = np.float16, np.float32, np.float64
bfloat16 = ml_dtypes.bfloat16
complex64 = np.complex64
Dtype = np.dtype
inf, nan, pi, e, newaxis = math.inf, math.nan, math.pi, math.e, None

__all__ = [
    "Dtype", "abs", "allclose", "arange", "array", "array_equal", "bfloat16", "bool_", "complex64", "concatenate", "cos",
    "e", "eval", "exp", "expand_dims", "fast", "float16", "float32", "float64", "floor", "full", "inf", "int16", "int32",
    "int64", "int8", "log", "matmul", "max", "maximum", "mean", "minimum", "nan", "newaxis", "ones", "ones_like", "pi",
    "random", "reshape", "rsqrt", "sin", "softmax", "sqrt", "sum", "swapaxes", "transpose", "tril", "triu", "uint16", "uint32",
    "uint64", "uint8", "where", "zeros", "zeros_like",
]

_NARROW = {np.dtype(np.float64): np.dtype(np.float32), np.dtype(np.complex128): np.dtype(np.complex64)}


def _from_python(value: Any) -> np.ndarray:
    """An array of Python numbers, with MLX's default types; arrays keep theirs."""
    if isinstance(value, np.ndarray):
        return value
    plain = isinstance(value, (bool, int, float, complex, list, tuple))
    result = np.asarray(value)
    if not plain or _holds_arrays(value):
        return result
    if result.dtype == np.int64:
        return result.astype(_integer_type(result.min(initial=0), result.max(initial=0)))
    return result.astype(_NARROW.get(result.dtype, result.dtype))


def _integer_type(*values: Any) -> Any:
    return int32 if all(-(2**31) <= value < 2**31 for value in values) else int64


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_arrays(item) for item in value)
    return hasattr(value, "dtype")


# ---- making arrays ----------------------------------------------------------------------------------


def array(val: Any, dtype: Any = None) -> np.ndarray:
    """A copy of val; Python integers become int32 (int64 if too large), floats and float64 arrays float32 unless dtype says."""
    result = _from_python(val)
    if dtype is None:
        dtype = float32 if result.dtype == np.float64 else result.dtype
    return np.array(result, as_numpy_dtype(dtype))


def zeros(shape: int | Sequence[int], dtype: Any = float32, *, stream: Any = None) -> np.ndarray:
    """An array of zeros."""
    return np.zeros(shape, as_numpy_dtype(dtype))


def ones(shape: int | Sequence[int], dtype: Any = float32, *, stream: Any = None) -> np.ndarray:
    """An array of ones."""
    return np.ones(shape, as_numpy_dtype(dtype))


def full(shape: int | Sequence[int], vals: Any, dtype: Any = None, *, stream: Any = None) -> np.ndarray:
    """An array filled with vals, broadcast; of their type unless dtype says."""
    vals = _from_python(vals)
    return np.full(shape, vals, vals.dtype if dtype is None else as_numpy_dtype(dtype))


def zeros_like(a: Any, *, stream: Any = None) -> np.ndarray:
    """Zeros of a's shape and type."""
    return np.zeros_like(_from_python(a))


def ones_like(a: Any, *, stream: Any = None) -> np.ndarray:
    """Ones of a's shape and type."""
    return np.ones_like(_from_python(a))


def arange(start: Any, stop: Any = None, step: Any = None, dtype: Any = None, *, stream: Any = None) -> np.ndarray:
    """start, start + step, … below stop (one argument is stop).

    int32 where all are integers, int64 if one is too large, otherwise float32.
    """
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    if dtype is None:
        whole = all(isinstance(value, (int, np.integer)) for value in (start, stop, step))
        dtype = _integer_type(start, stop, step) if whole else float32
    return np.arange(start, stop, step).astype(as_numpy_dtype(dtype))


def tril(x: Any, k: int = 0, *, stream: Any = None) -> np.ndarray:
    """x with zeros above its k-th diagonal."""
    return np.tril(_from_python(x), k)


def triu(x: Any, k: int = 0, *, stream: Any = None) -> np.ndarray:
    """x with zeros below its k-th diagonal."""
    return np.triu(_from_python(x), k)


def where(condition: Any, x: Any, y: Any, /, *, stream: Any = None) -> np.ndarray:
    """x where condition is not zero, y elsewhere; Python numbers take the other branch's type."""
    x_is_number, y_is_number = (isinstance(value, (bool, int, float)) for value in (x, y))
    if x_is_number and not y_is_number:
        x = np.asarray(x, _weak_type(x, y))
    if y_is_number and not x_is_number:
        y = np.asarray(y, _weak_type(y, x))
    x, y = _from_python(x), _from_python(y)
    return _narrow(np.where(np.asarray(condition) != 0, x, y), x, y)


def _narrow(result: np.ndarray, *given: Any) -> np.ndarray:
    """NumPy takes int32 with float32 to float64; MLX does not."""
    wide = any(getattr(value, "dtype", None) == float64 for value in given)
    return result if wide or result.dtype != float64 else result.astype(float32)


def _weak_type(number: Any, other: Any) -> np.dtype:
    other = np.asarray(other).dtype
    integral = np.issubdtype(other, np.integer) or other == np.bool_
    return np.dtype(float32) if isinstance(number, float) and integral else other


# ---- arithmetic -------------------------------------------------------------------------------------


def _floating(a: Any) -> np.ndarray:
    """Integers and bools as float32, whatever their width."""
    a = _from_python(a)
    return a.astype(float32) if a.dtype.kind in "iub" else a


def _unary(function: Any, name: str, doc: str, convert: Any = _floating) -> Any:
    def apply(a: Any, /, *, stream: Any = None) -> np.ndarray:
        return np.asarray(function(convert(a)))

    apply.__name__ = apply.__qualname__ = name
    apply.__doc__ = doc
    return apply


abs = _unary(np.abs, "abs", "|a|, element by element.", _from_python)
cos = _unary(np.cos, "cos", "The cosine, element by element.")
exp = _unary(np.exp, "exp", "e to the a, element by element.")
floor = _unary(np.floor, "floor", "The largest integer not above a, element by element.", _from_python)
log = _unary(np.log, "log", "The natural logarithm, element by element.")
rsqrt = _unary(lambda a: np.asarray(1 / np.sqrt(a), a.dtype), "rsqrt", "1/sqrt(a), element by element.")
sin = _unary(np.sin, "sin", "The sine, element by element.")
sqrt = _unary(np.sqrt, "sqrt", "The square root, element by element.")


def maximum(a: Any, b: Any, *, stream: Any = None) -> np.ndarray:
    """The larger of a and b, element by element."""
    return _narrow(np.asarray(np.maximum(a, b)), a, b)


def minimum(a: Any, b: Any, *, stream: Any = None) -> np.ndarray:
    """The smaller of a and b, element by element."""
    return _narrow(np.asarray(np.minimum(a, b)), a, b)


def matmul(a: Any, b: Any, *, stream: Any = None) -> np.ndarray:
    """The matrix product over the last two axes."""
    return _narrow(np.asarray(np.matmul(a, b)), a, b)


def sum(a: Any, axis: Any = None, keepdims: bool = False, *, stream: Any = None) -> np.ndarray:
    """The sum over axis, or of everything; narrow integers are summed as int32, wider types as themselves."""
    a = _from_python(a)
    narrow = a.dtype == np.bool_ or (a.dtype.kind in "iu" and a.dtype.itemsize < 4)
    return np.asarray(np.sum(a, axis=axis, keepdims=keepdims, dtype=int32 if narrow else a.dtype))


def mean(a: Any, axis: Any = None, keepdims: bool = False, *, stream: Any = None) -> np.ndarray:
    """The mean over axis, or of everything."""
    a = _from_python(a)
    return np.asarray(np.mean(a, axis=axis, keepdims=keepdims, dtype=float32 if a.dtype.kind in "iub" else a.dtype))


def max(a: Any, axis: Any = None, keepdims: bool = False, *, stream: Any = None) -> np.ndarray:
    """The largest element over axis, or of everything."""
    return np.asarray(np.max(a, axis=axis, keepdims=keepdims))


def softmax(a: Any, axis: Any = -1, *, precise: bool = False, stream: Any = None) -> np.ndarray:
    """exp(a) over its sum along axis, the last one unless told; precise sums half types in float32."""
    a = _floating(a)
    wide = a.astype(np.promote_types(a.dtype, np.float32)) if precise else a
    weights = np.exp(wide - np.max(wide, axis=axis, keepdims=True))
    return np.asarray(weights / np.sum(weights, axis=axis, keepdims=True), a.dtype)


# ---- shapes and comparison --------------------------------------------------------------------------


def reshape(a: Any, shape: Sequence[int], *, stream: Any = None) -> np.ndarray:
    """The elements of a in another shape."""
    return np.reshape(a, tuple(shape))


def transpose(a: Any, axes: Sequence[int] | None = None, *, stream: Any = None) -> np.ndarray:
    """a with its axes in another order, reversed unless told."""
    return np.transpose(a, axes)


def swapaxes(a: Any, axis1: int, axis2: int, *, stream: Any = None) -> np.ndarray:
    """a with two axes exchanged."""
    return np.swapaxes(a, axis1, axis2)


def expand_dims(a: Any, axis: Any, *, stream: Any = None) -> np.ndarray:
    """a with axes of size 1 put in."""
    return np.expand_dims(a, axis)


def concatenate(arrays: Sequence[Any], axis: int = 0, *, stream: Any = None) -> np.ndarray:
    """The arrays one after another along axis."""
    return _narrow(np.concatenate(arrays, axis), *arrays)


def allclose(a: Any, b: Any, /, rtol: float = 1e-5, atol: float = 1e-8, *, equal_nan: bool = False,
             stream: Any = None) -> np.ndarray:
    """Whether |a - b| <= atol + rtol·|b| everywhere."""
    return np.asarray(np.allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol, atol, equal_nan))


def array_equal(a: Any, b: Any, equal_nan: bool = False, stream: Any = None) -> np.ndarray:
    """Whether a and b have the same shape and elements."""
    return np.asarray(np.array_equal(a, b, equal_nan))


def eval(*args: Any) -> None:
    """Does nothing: every result here has been computed when its function returns."""
