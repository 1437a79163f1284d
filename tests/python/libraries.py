"""The array libraries that are installed, each with how to make its arrays and to look at their memory."""

import ctypes
import importlib

import ml_dtypes
import numpy as np
import pytest


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, jax, mlx = installed("torch"), installed("jax"), installed("mlx.core")
jax_x64 = False


class NumPy:
    name = "numpy"
    kind = np.ndarray
    module = np
    types = (np.float32, np.float16, ml_dtypes.bfloat16, np.float64)

    @staticmethod
    def make(values):
        return np.array(values)

    @staticmethod
    def read(array):
        return array

    @staticmethod
    def address(array):
        return array.ctypes.data


class Torch:
    name = "torch"
    module = torch
    types = NumPy.types

    @staticmethod
    def make(values):
        if values.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(values.copy())

    @staticmethod
    def read(array):
        if array.dtype == torch.bfloat16:
            return array.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return array.numpy()

    @staticmethod
    def address(array):
        return array.data_ptr()


class Jax:
    name = "jax"
    module = jax
    types = (np.float32, np.float16, ml_dtypes.bfloat16)

    @staticmethod
    def make(values):
        return jax.numpy.asarray(values)

    @staticmethod
    def read(array):
        return np.asarray(array)

    @staticmethod
    def address(array):
        return array.unsafe_buffer_pointer()


class Mlx:
    name = "mlx"
    module = mlx
    types = (np.float32, np.float16, ml_dtypes.bfloat16)

    @staticmethod
    def make(values):
        if values.dtype == ml_dtypes.bfloat16:
            return mlx.array(values.astype(np.float32)).astype(mlx.bfloat16)
        return mlx.array(values)

    @staticmethod
    def read(array):
        if array.dtype == mlx.bfloat16:
            return np.array(array.astype(mlx.float32)).astype(ml_dtypes.bfloat16)
        return np.array(array)

    @staticmethod
    def address(array):
        mlx.eval(array)
        return np.from_dlpack(array.view(mlx.uint8)).ctypes.data


if torch:
    Torch.kind = torch.Tensor
if jax:
    Jax.kind = jax.Array
if mlx:
    Mlx.kind = mlx.array


def _parameter(library):
    marks = [] if library.module else [pytest.mark.skip(reason=f"{library.name} is not installed")]
    return pytest.param(library, id=library.name, marks=marks)


every_library = pytest.mark.parametrize("library", [_parameter(library) for library in (NumPy, Torch, Jax, Mlx)])
foreign_library = pytest.mark.parametrize("library", [_parameter(library) for library in (Torch, Jax, Mlx)])
needs_torch = pytest.mark.skipif(not torch, reason="torch is not installed")
needs_jax = pytest.mark.skipif(not jax, reason="jax is not installed")
needs_mlx = pytest.mark.skipif(not mlx, reason="mlx is not installed")


def memory_at(address, size):
    """Bytes in memory, copied."""
    return ctypes.string_at(address, size)
