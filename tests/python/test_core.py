"""invar.core: MLX's names and defaults over NumPy."""

import ml_dtypes
import numpy as np
import pytest
from libraries import jax, mlx, torch

import invar.core as mx
from invar._dtypes import as_numpy_dtype

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "made, dtype",
    [
        (lambda: mx.array([1.0, 2.0]), np.float32),
        (lambda: mx.array([1, 2]), np.int32),
        (lambda: mx.array(True), np.bool_),
        (lambda: mx.array(1.5), np.float32),
        (lambda: mx.array([1, 2.5]), np.float32),
        (lambda: mx.array([[1], [2]], mx.bfloat16), mx.bfloat16),
        (lambda: mx.array(np.zeros(2, np.int64)), np.int64),
        (lambda: mx.array(np.zeros(2)), np.float32),
        (lambda: mx.array([mx.zeros(2, mx.float16)]), np.float16),
        (lambda: mx.zeros((2, 3)), np.float32),
        (lambda: mx.ones(4, mx.int8), np.int8),
        (lambda: mx.full((2,), 3.0), np.float32),
        (lambda: mx.full((2,), 3), np.int32),
        (lambda: mx.full((2, 2), mx.array([1.0, 2.0]), mx.float16), np.float16),
        (lambda: mx.arange(5), np.int32),
        (lambda: mx.array([1, 2**31]), np.int64),
        (lambda: mx.arange(0, 1, 0.25), np.float32),
        (lambda: mx.arange(3.0), np.float32),
        (lambda: mx.arange(1, 4, dtype="float16"), np.float16),
        (lambda: mx.where(mx.array([True]), 0.0, float("-inf")), np.float32),
        (lambda: mx.where(mx.array([1.0]), mx.zeros(1, mx.float16), 1), np.float16),
        (lambda: mx.where([True], mx.zeros(1, mx.int32), 1.5), np.float32),
        (lambda: mx.where([True], 1, 2), np.int32),
        (lambda: mx.tril(mx.ones((3, 3))), np.float32),
        (lambda: mx.triu(mx.ones((3, 3), mx.bfloat16), 1), mx.bfloat16),
        (lambda: mx.random.normal((2, 2)), np.float32),
        (lambda: mx.random.uniform(shape=(2,), dtype=mx.bfloat16), mx.bfloat16),
        (lambda: mx.random.randint(0, 5, (3,)), np.int32),
        (lambda: mx.rsqrt(mx.ones(2, mx.float16)), np.float16),
        (lambda: mx.softmax(mx.ones((2, 2))), np.float32),
        (lambda: mx.zeros_like(mx.ones(2, mx.float16)), np.float16),
        (lambda: mx.exp(1.0), np.float32),
    ],
)
def test_types(made, dtype):
    assert isinstance(made(), np.ndarray) and made().dtype == dtype


@pytest.mark.parametrize("name", sorted(set(mx.__all__) - {"fast", "random"}))
def test_names_are_mlx_names(name):
    if not mlx:
        pytest.skip("mlx is not installed")
    assert hasattr(mlx, name)


@pytest.mark.parametrize(
    "made",
    [
        lambda m: m.array([[1, 2], [3, 4]]),
        lambda m: m.zeros((2, 3)),
        lambda m: m.ones((2,)),
        lambda m: m.full((2, 2), 7.0),
        lambda m: m.arange(2, 9, 3),
        lambda m: m.arange(7),
        lambda m: m.array([0, 2**31 - 1, -(2**31)]),
        lambda m: m.array([[1, 2**31]]),
        lambda m: m.array(-(2**31) - 1),
        lambda m: m.full((2,), 2**40),
        lambda m: m.arange(2**31 - 2, 2**31),
        lambda m: m.arange(-(2**31) - 1, 2 - 2**31),
        lambda m: m.where(m.array([True, False]), 2**40, 1),
        lambda m: m.tril(m.ones((4, 4)), -1),
        lambda m: m.triu(m.ones((4, 4)), 1),
        lambda m: m.where(m.tril(m.ones((3, 3))), 0.0, float("-inf")),
        lambda m: m.maximum(m.array([1.0, 5.0]), 2.0),
        lambda m: m.minimum(m.array([1.0, 5.0]), 2.0),
        lambda m: m.matmul(m.ones((2, 3)), m.ones((3, 4))),
        lambda m: m.sum(m.arange(6).reshape(2, 3), 0),
        lambda m: m.mean(m.ones((2, 3)), 1),
        lambda m: m.max(m.arange(6)),
        lambda m: m.expand_dims(m.arange(3), 0),
        lambda m: m.reshape(m.arange(6), (2, 3)),
        lambda m: m.transpose(m.ones((2, 3))),
        lambda m: m.swapaxes(m.ones((2, 3, 4)), 0, 2),
        lambda m: m.concatenate([m.ones((1, 2)), m.zeros((1, 2))]),
        lambda m: m.concatenate([m.ones(2), m.array([1, 2])]),
        lambda m: m.maximum(m.array([1, 2]), 1.5),
        lambda m: m.minimum(m.array([1.0, 2.0]), m.array([1, 3])),
        lambda m: m.sqrt(m.array([4, 9])),
        lambda m: m.rsqrt(m.array([4, 16])),
        lambda m: m.exp(m.array([0], dtype=m.int8)),
        lambda m: m.cos(m.array(False)),
        lambda m: m.log(m.array(1)),
        lambda m: m.softmax(m.array([3, 3])),
        lambda m: m.abs(m.array([-2, 2])),
        lambda m: m.floor(m.array([1.5, -1.5])),
        lambda m: m.abs(m.array([-1.0])),
        lambda m: m.allclose(m.ones(2), m.ones(2)),
        lambda m: m.array_equal(m.ones(2), m.zeros(2)),
    ],
)
def test_values_and_types_are_mlx_values(made):
    if not mlx:
        pytest.skip("mlx is not installed")
    ours, theirs = made(mx), np.array(made(mlx))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape


def test_random_is_seeded_and_spread():
    mx.random.seed(3)
    first = mx.random.normal((1000,)), mx.random.uniform(-1, 1, (1000,)), mx.random.randint(2, 5, (1000,))
    mx.random.seed(3)
    again = mx.random.normal((1000,)), mx.random.uniform(-1, 1, (1000,)), mx.random.randint(2, 5, (1000,))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    normal, uniform, integers = first
    # Six standard errors of 1000 numbers.
    assert abs(normal.mean()) < 0.19 and abs(normal.std() - 1) < 0.14
    assert uniform.min() >= -1 and uniform.max() < 1 and abs(uniform.mean()) < 0.11
    assert set(integers.tolist()) == {2, 3, 4}
    assert abs(mx.random.normal((1000,), loc=5.0, scale=0.1).mean() - 5) < 0.02
    np.testing.assert_array_equal(mx.random.normal((3,), key=1), mx.random.normal((3,), key=1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_uniform_never_reaches_its_upper_end(dtype):
    assert mx.random.uniform(0.5, 1.0, (20_000,), dtype).astype(np.float64).max() < 1.0


def test_eval_does_nothing():
    assert mx.eval(mx.ones(2), [mx.ones(2)]) is None


NAMES = ["float32", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_of_any_library(name):
    expected = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    spellings = [name, expected, expected.type]
    if torch:
        spellings.append(getattr(torch, name))
    if mlx:
        spellings.append(getattr(mlx, "bool_" if name == "bool" else name))
    if jax:
        spellings += (
            [getattr(jax.numpy, "bool_" if name == "bool" else name), jax.numpy.zeros(1, name).dtype]
            if "64" not in name
            else []
        )
    for spelling in spellings:
        assert as_numpy_dtype(spelling) == expected, spelling


def test_pythons_own_types():
    assert [as_numpy_dtype(kind) for kind in (bool, int, float)] == [np.bool_, np.int32, np.float32]


@pytest.mark.parametrize(
    "dtype, error", [("float33", ValueError), ("", ValueError), (3, TypeError), ([1], TypeError), (object(), TypeError)]
)
def test_what_is_no_dtype(dtype, error):
    with pytest.raises(error, match="^dtype: expected"):
        mx.zeros(2, dtype)
