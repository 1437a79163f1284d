"""What hypothesis draws: arrays of every type, layout and shape that the operations take."""

import math

import numpy as np
from hypothesis import strategies as st

from oracles import FLOATS

dtypes = st.sampled_from(FLOATS)
seeds = st.integers(0, 2**32 - 1)
sizes = st.one_of(st.integers(1, 70), st.sampled_from([0, 127, 128, 129, 512]))


def leading(max_rank=3, most=4):
    """Leading sizes, zero among them."""
    return st.lists(st.sampled_from([0, 1, 1, 2, 3, most]), max_size=max_rank).map(tuple)


@st.composite
def laid_out(draw, shape, dtype, scale=1.0, mean=0.0):
    """Normal numbers of that shape and type, laid out in one of the ways that views come in."""
    rng = np.random.default_rng(draw(seeds))
    layout = draw(st.sampled_from(["contiguous", "sliced", "reversed", "transposed", "broadcast", "shifted"]))
    if layout == "broadcast" and shape:
        axis = draw(st.integers(0, len(shape) - 1))
        narrow = shape[:axis] + (min(shape[axis], 1),) + shape[axis + 1 :]
        return np.broadcast_to((mean + scale * rng.standard_normal(narrow)).astype(dtype), shape)
    values = (mean + scale * rng.standard_normal(shape)).astype(dtype)
    if layout == "sliced" and shape:
        roomy = np.full(tuple(2 * size + 1 for size in shape), np.nan, dtype)
        view = roomy[tuple(slice(1, 2 * size + 1, 2) for size in shape)]
    elif layout == "reversed":
        view = np.empty(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)]
    elif layout == "transposed":
        view = np.empty(shape[::-1], dtype).T
    elif layout == "shifted":
        view = np.empty(math.prod(shape) + 1, dtype)[1:].reshape(shape)
    else:
        return values
    view[...] = values
    return view


def filled(rng, shape, dtype, scale=1.0):
    """Normal numbers, row-contiguous."""
    return (scale * rng.standard_normal(shape)).astype(dtype)
