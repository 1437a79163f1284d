"""Element types, by the name or the object of any array library."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

_BY_NAME = {
    name: np.dtype(name)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
                 "complex64")
} | {"bool": np.dtype(bool), "bool_": np.dtype(bool), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def as_numpy_dtype(dtype: Any) -> np.dtype:
    """The NumPy dtype that `dtype` means: a NumPy, ml_dtypes, torch, JAX or MLX dtype, a Python type, or a name.

    Raises ValueError for a name that no element type has, TypeError for what is no dtype.
    """
    if dtype is bool:
        return np.dtype(bool)
    if dtype is int:
        return np.dtype(np.int32)
    if dtype is float:
        return np.dtype(np.float32)
    # torch.float32 and mlx.core.float32 print as their names; a name prints as itself.
    found = _BY_NAME.get(str(dtype).rpartition(".")[2])
    if found is not None:
        return found
    if isinstance(dtype, str):
        raise ValueError(f"dtype: expected the name of an element type, got {dtype!r}")
    if hasattr(dtype, "dtype") and not isinstance(dtype, type):  # NumPy takes np.int32(4) for int32
        raise TypeError(f"dtype: expected an element type or its name, got a value, of {type(dtype).__name__}")
    try:
        return np.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype: expected an element type or its name, got {type(dtype).__name__}") from None
