"""mlx.core.random's most used functions, over one NumPy generator. Its numbers are NumPy's, not MLX's."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from .._dtypes import as_numpy_dtype

__all__ = ["normal", "randint", "seed", "uniform"]

_generator = np.random.default_rng()


def seed(seed: int) -> None:
    """Start the generator anew: equal seeds give equal numbers."""
    global _generator
    _generator = np.random.default_rng(seed)


def normal(shape: Sequence[int] = (), dtype: Any = np.float32, loc: Any = 0.0, scale: Any = 1.0, key: Any = None,
           stream: Any = None) -> np.ndarray:
    """Normally distributed numbers of mean loc and standard deviation scale; key, an integer, seeds this call alone."""
    return np.asarray(loc + scale * _chosen(key).standard_normal(tuple(shape))).astype(as_numpy_dtype(dtype))


def uniform(low: Any = 0, high: Any = 1, shape: Sequence[int] | None = None, dtype: Any = np.float32, key: Any = None,
            stream: Any = None) -> np.ndarray:
    """Numbers spread evenly over [low, high); shape defaults to that of low and high together."""
    size = None if shape is None else tuple(shape)
    numbers = np.asarray(_chosen(key).uniform(low, high, size))
    kind = as_numpy_dtype(dtype)
    # Rounding to the narrower type may reach high, which is excluded.
    return np.minimum(numbers.astype(kind), np.nextafter(np.asarray(high, kind), np.asarray(low, kind)))


def randint(low: Any, high: Any, shape: Sequence[int] | None = None, dtype: Any = np.int32, key: Any = None,
            stream: Any = None) -> np.ndarray:
    """Integers from low to high - 1; shape defaults to that of low and high together."""
    size = None if shape is None else tuple(shape)
    return np.asarray(_chosen(key).integers(low, high, size)).astype(as_numpy_dtype(dtype))


def _chosen(key: Any) -> np.random.Generator:
    return _generator if key is None else np.random.default_rng(key)
