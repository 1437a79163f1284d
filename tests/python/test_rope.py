"""rope and its gradient against float64, and what it takes as base, freqs and offset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import F32, F64, assert_close, rope
from strategies import dtypes, filled, laid_out

import invar.core.fast as fast

INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


@st.composite
def rope_arguments(draw):
    """x and keywords."""
    dims = 2 * draw(st.one_of(st.integers(1, 20), st.just(64)))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3)))
    shape += (draw(st.sampled_from([0, 1, 2, 7, 33])), dims + draw(st.sampled_from([0, 1, 16])))
    x = draw(laid_out(shape, draw(dtypes)))
    keywords = dict(dims=dims, traditional=draw(st.booleans()), scale=draw(st.sampled_from([1.0, 0.25, -2.0])))
    batch = shape[0] if len(shape) >= 3 else 1
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    if draw(st.booleans()):
        keywords["freqs"] = rng.uniform(1.0, 1e4, dims // 2).astype(
            draw(st.sampled_from([np.float32, np.float64, np.int32]))
        )
    else:
        keywords["base"] = draw(st.sampled_from([10000.0, 500.0, 1e6]))
    kind = draw(st.sampled_from(["int", "scalar", "one", "batch"]))
    if kind == "int":
        keywords["offset"] = draw(st.sampled_from([0, 1, -5, 12345, 2**27]))
    else:
        size = {"scalar": (), "one": (1,), "batch": (batch,)}[kind]
        keywords["offset"] = rng.integers(0, 100, size).astype(draw(st.sampled_from(INTEGERS)))
    return x, keywords


@given(rope_arguments())
def test_rope(arguments):
    x, keywords = arguments
    y = fast.rope(x, **keywords)
    assert y.dtype == x.dtype
    assert_close(y, *rope(x, **keywords))


@given(rope_arguments())
def test_rope_vjp(arguments):
    dy, keywords = arguments
    dx = fast.rope_vjp(dy, **keywords)
    assert dx.dtype == dy.dtype
    assert_close(dx, *rope(dy, inverse=True, **keywords))


@pytest.mark.parametrize("traditional", [False, True])
def test_the_rest_is_copied_bit_by_bit(rng, traditional):
    x = filled(rng, (2, 3, 5, 40), F32)
    x[..., 33] = np.nan
    y = fast.rope(x, 32, traditional)
    assert y[..., 32:].tobytes() == x[..., 32:].tobytes()


def test_in_place(rng):
    x = filled(rng, (2, 3, 5, 40), F32)
    expected = fast.rope(x, 32, offset=7)
    assert fast.rope(x, 32, offset=7, out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_both_forms_of_names(rng):
    x = filled(rng, (2, 5, 8), F32)
    expected = fast.rope(x, 8, True, 500.0, 2.0, 3)
    np.testing.assert_array_equal(fast.rope(a=x, dims=8, traditional=True, base=500, scale=2, offset=3), expected)
    np.testing.assert_array_equal(fast.rope(x=x, dims=8, traditional=True, base=500, scale=2, offset=3), expected)


def test_default_base_is_10000(rng):
    x = filled(rng, (2, 5, 8), F32)
    np.testing.assert_array_equal(fast.rope(x, 8), fast.rope(x, 8, base=10000))


@pytest.mark.parametrize("keywords", [dict(base=10000), dict(base=10000.0), dict(base=500)])
def test_base_beside_freqs_is_refused(keywords):
    with pytest.raises(ValueError, match="rope: base"):
        fast.rope(np.ones((2, 4), np.float32), 4, freqs=np.ones(2, np.float32), **keywords)


def test_neither_base_nor_freqs_is_refused():
    with pytest.raises(ValueError, match="rope: base"):
        fast.rope(np.ones((2, 4), np.float32), 4, base=None)


def test_freqs_with_base_none(rng):
    x, freqs = filled(rng, (2, 5, 8), F32), np.array([1, 10, 100, 1000], np.float32)
    expected = fast.rope(x, 8, freqs=freqs)
    np.testing.assert_array_equal(fast.rope(x, 8, base=None, freqs=freqs), expected)
    np.testing.assert_array_equal(fast.rope(x, 8, False, None, 1.0, 0, freqs), expected)
    assert_close(expected, *rope(x, 8, freqs=freqs))


@pytest.mark.parametrize(
    "offset",
    [
        1.0,
        True,
        np.float32(2),
        np.bool_(True),
        np.zeros(2, np.float32),
        np.zeros(2, bool),
        np.zeros((1, 2), np.int32),
        np.zeros(3, np.int32),
        2**63,
        -(2**63) - 1,
    ],
)
def test_offset_that_is_no_offset(offset):
    with pytest.raises(ValueError, match="rope: offset"):
        fast.rope(np.ones((2, 3, 4), np.float32), 4, offset=offset)


@pytest.mark.parametrize("shape, expected", [((2, 3, 4), r"\(\), \(1,\) or \(2,\)"), ((3, 4), r"\(\) or \(1,\)")])
def test_shapes_of_an_offset_are_named_once(shape, expected):
    with pytest.raises(ValueError, match=f"^rope: offset: expected shape {expected}, got \\(3,\\)$"):
        fast.rope(np.ones(shape, np.float32), 4, offset=np.zeros(3, int))


@pytest.mark.parametrize(
    "offset", [5, np.int64(5), np.uint8(5), [5], [5, 5], np.array(5), np.array([5], np.uint64)], ids=repr
)
def test_offset_of_every_kind(rng, offset):
    x = filled(rng, (2, 3, 5, 8), F32)
    np.testing.assert_array_equal(fast.rope(x, 8, offset=offset), fast.rope(x, 8, offset=np.array([5, 5])))


@pytest.mark.parametrize("offset", [2**20, 2**28 - 40, -(2**28) + 1])
def test_large_positions_in_float32(rng, offset):
    x = filled(rng, (1, 2, 9, 64), F32)
    for scale in (1.0, 0.5):
        assert_close(fast.rope(x, 64, scale=scale, offset=offset), *rope(x, 64, scale=scale, offset=offset))


def test_positions_to_2_31_in_float32(rng):
    x = filled(rng, (1, 2, 9, 64), F32)
    offset = 2**31 - 10
    assert_close(fast.rope(x, 64, offset=offset), *rope(x, 64, offset=offset))


def test_large_positions_in_float64(rng):
    x = filled(rng, (1, 2, 9, 64), F64)
    for offset in (0, 1000, 2**28):
        assert_close(fast.rope(x, 64, offset=offset), *rope(x, 64, offset=offset))
