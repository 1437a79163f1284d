"""scaled_dot_product_attention against float64: every type, layout, rank, mask and option."""

import numpy as np
import pytest
from attention_oracle import Attention
from hypothesis import given
from hypothesis import strategies as st
from oracles import BF16, F16, F32, F64, FLOATS, assert_close, promote
from strategies import dtypes, filled, laid_out, seeds

import invar.core.fast as fast


@st.composite
def masks(draw, shape, result):
    """A mask that broadcasts to shape: bool, additive of a type that promotes to the result, or integers."""
    axes = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    narrow = tuple(size if whole else min(size, 1) for size, whole in zip(shape, axes))
    narrow = narrow[draw(st.integers(0, max(len(shape) - 2, 0))) :]
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["bool", "additive", "additive", "integer"]))
    if kind == "bool":
        mask = rng.random(narrow) < draw(st.sampled_from([0.5, 0.9]))
    elif kind == "integer":
        mask = rng.integers(-3, 4, narrow).astype(draw(st.sampled_from([np.int8, np.int32, np.int64, np.uint8])))
    else:
        kinds = [t for t in FLOATS if promote(np.empty(0, t), np.empty(0, result)) == result]
        mask = rng.standard_normal(narrow).astype(draw(st.sampled_from(kinds)))
        mask[rng.random(narrow) < 0.3] = -np.inf
    return mask.swapaxes(-1, -2).copy().swapaxes(-1, -2) if draw(st.booleans()) else mask


@st.composite
def attention_arguments(draw, same_type=False):
    """q, k, v and keywords."""
    leading = tuple(draw(st.lists(st.sampled_from([1, 2, 3]), max_size=2)))
    kv_heads = draw(st.sampled_from([1, 2]))
    heads = kv_heads * draw(st.sampled_from([1, 2, 3]))
    rank2 = not leading and draw(st.booleans())
    queries, keys = draw(st.sampled_from([1, 2, 5, 17])), draw(st.sampled_from([0, 1, 3, 16, 33, 70]))
    features, value_features = draw(st.sampled_from([1, 3, 8, 32, 65])), draw(st.sampled_from([1, 4, 16, 33]))
    kind = draw(dtypes)
    kinds = [kind] * 3 if same_type else [draw(st.sampled_from([kind, kind, kind, F32])) for _ in range(3)]
    shapes = [() if rank2 else leading + (h,) for h in (heads, kv_heads, kv_heads)]
    shapes = [s + t for s, t in zip(shapes, [(queries, features), (keys, features), (keys, value_features)])]
    q, k, v = (draw(laid_out(shape, dtype)) for shape, dtype in zip(shapes, kinds))
    keywords = {}
    if draw(st.booleans()):
        keywords["scale"] = draw(st.sampled_from([0.0, 0.5, -0.25, 1.0]))
    mask = draw(st.sampled_from(["none", "causal", "array", "array"]))
    if mask == "causal":
        keywords["mask"] = "causal"
    elif mask == "array":
        keywords["mask"] = draw(masks(q.shape[:-1] + (keys,), promote(q, k, v)))
    if draw(st.booleans()):
        keywords["window"] = draw(st.sampled_from([(None, None), (0, 0), (3, None), (None, 2), (5, 1), (1000, 1000)]))
    if draw(st.booleans()):
        keywords["softcap"] = draw(st.sampled_from([1.0, 5.0, 30.0]))
    rng = np.random.default_rng(draw(seeds))
    if draw(st.booleans()):
        keywords["sinks"] = filled(rng, 1 if rank2 else heads, kinds[0])
    if draw(st.booleans()):
        count = int(np.prod(leading))
        keywords["kv_lengths"] = rng.integers(0, keys + 1, count).astype(
            draw(st.sampled_from([np.int32, np.int64, np.uint16]))
        )
    return q, k, v, keywords


@given(attention_arguments())
def test_attention(arguments):
    q, k, v, keywords = arguments
    out, lse = fast.scaled_dot_product_attention(q, k, v, **keywords, return_lse=True)
    expected = Attention(q, k, v, **keywords)
    assert out.dtype == expected.dtype and lse.dtype == expected.lse_dtype
    expected_out, expected_lse = expected.forward()
    assert_close(out, *expected_out)
    assert_close(lse, *expected_lse)
    alone = fast.scaled_dot_product_attention(q, k, v, **keywords)
    assert alone.tobytes() == out.tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("queries, keys", [(1, 1), (1, 700), (130, 130), (65, 257), (300, 40)])
def test_sizes_around_tiles_and_blocks(dtype, queries, keys, rng):
    q, k, v = (filled(rng, shape, dtype) for shape in [(1, 2, queries, 64), (1, 1, keys, 64), (1, 1, keys, 80)])
    for mask in (None, "causal"):
        out, lse = fast.scaled_dot_product_attention(q, k, v, mask=mask, return_lse=True)
        expected_out, expected_lse = Attention(q, k, v, mask=mask).forward()
        assert_close(out, *expected_out)
        assert_close(lse, *expected_lse)


@pytest.mark.parametrize(
    "features, value_features", [(1, 512), (512, 1), (127, 129), (80, 96), (256, 256), (0, 8), (8, 0)]
)
def test_head_sizes(features, value_features, rng):
    q, k, v = (filled(rng, shape, F32) for shape in [(2, 3, features), (2, 9, features), (2, 9, value_features)])
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    expected_out, expected_lse = Attention(q, k, v).forward()
    assert_close(out, *expected_out)
    assert_close(lse, *expected_lse)


def test_both_forms_of_names(rng):
    q, k, v = (filled(rng, (1, 2, 5, 8), F32) for _ in range(3))
    expected = fast.scaled_dot_product_attention(q, k, v, 0.5, "causal")
    for result in (
        fast.scaled_dot_product_attention(q=q, k=k, v=v, scale=0.5, mask="causal"),
        fast.scaled_dot_product_attention(queries=q, keys=k, values=v, scale=0.5, mask="causal"),
        fast.scaled_dot_product_attention(q, k, v, scale=0.5, mask="causal", stream=None, force_fused=True),
    ):
        np.testing.assert_array_equal(result, expected)


def test_scale_none_is_the_root_of_the_head_size(rng):
    q, k, v = (filled(rng, (1, 2, 5, 16), F32) for _ in range(3))
    expected = fast.scaled_dot_product_attention(q, k, v, scale=0.25)
    np.testing.assert_array_equal(fast.scaled_dot_product_attention(q, k, v), expected)
    np.testing.assert_array_equal(fast.scaled_dot_product_attention(q, k, v, scale=None), expected)


def test_a_mask_of_zeros_and_ones_that_is_not_bool_is_added(rng):
    q, k, v = (filled(rng, (1, 2, 5, 16), F32) for _ in range(3))
    ones = np.tril(np.ones((5, 5)))
    added = fast.scaled_dot_product_attention(q, k, v, mask=ones.astype(np.int32))
    np.testing.assert_array_equal(added, fast.scaled_dot_product_attention(q, k, v, mask=ones.astype(np.float32)))
    assert not np.allclose(added, fast.scaled_dot_product_attention(q, k, v, mask=ones.astype(bool)))


@pytest.mark.parametrize("left", [None, 20])
@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("queries, keys", [(128, 128), (65, 300), (100, 40), (9, 70)])
def test_a_mask_in_the_shape_of_causal_is_causal(queries, keys, dtype, left, rng):
    """Keys that a mask hides from whole vectors of rows are left out: what it says, not how, gives the bits."""
    q, k, v = (filled(rng, (1, 2, rows, 24), dtype) for rows in (queries, keys, keys))
    v[:, :, -1] = np.nan  # of a key that only the last query sees
    position = np.arange(queries)[:, None] + keys - queries
    seen = np.arange(keys) <= position
    if left is not None:
        seen &= np.arange(keys) >= position - left
    expected = fast.scaled_dot_product_attention(q, k, v, mask="causal", window=(left, None))
    masked = fast.scaled_dot_product_attention(q, k, v, mask=seen)
    added = fast.scaled_dot_product_attention(q, k, v, mask=np.where(seen, 0, -np.inf).astype(dtype))
    np.testing.assert_array_equal(masked.view(np.uint8), added.view(np.uint8))
    if dtype == BF16:  # where bfloat16 goes through tiles, a mask's logits are rounded once more
        masked, expected = masked.astype(F32), expected.astype(F32)
        np.testing.assert_allclose(masked, expected, rtol=2**-6, atol=2**-6)
    else:
        np.testing.assert_array_equal(masked.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize(
    "mask, result, accepted",
    [
        (F32, F32, True),
        (F16, F32, True),
        (BF16, F32, True),
        (F64, F32, False),
        (F32, F16, False),
        (F32, BF16, False),
        (F16, F16, True),
        (BF16, F16, False),
        (F16, BF16, False),
        (F32, F64, True),
        (F64, F64, True),
        (np.dtype(np.int64), F16, True),
    ],
    ids=str,
)
def test_which_mask_types_promote_to_the_result(mask, result, accepted, rng):
    q, k, v = (filled(rng, (1, 2, 5, 16), result) for _ in range(3))
    for name, value in (("mask", np.zeros((5, 5), mask)), ("sinks", np.zeros(2, mask))):
        if name == "sinks" and mask.kind == "i":
            continue
        if accepted:
            fast.scaled_dot_product_attention(q, k, v, **{name: value})
        else:
            with pytest.raises(ValueError, match=f"scaled_dot_product_attention: {name}"):
                fast.scaled_dot_product_attention(q, k, v, **{name: value})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_a_number_as_mask_does_not_promote(dtype, rng):
    q, k, v = (filled(rng, (1, 2, 5, 16), dtype) for _ in range(3))
    sinks = np.zeros(2, dtype)
    out = fast.scaled_dot_product_attention(q, k, v, mask=0.5, sinks=sinks)
    assert out.dtype == dtype
    np.testing.assert_array_equal(
        out, fast.scaled_dot_product_attention(q, k, v, mask=np.full((1, 1), 0.5, dtype), sinks=sinks)
    )


def test_out_and_lse_destinations(rng):
    q, k, v = (filled(rng, (1, 2, 5, 16), F32) for _ in range(3))
    expected, expected_lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    out, lse = np.empty((1, 2, 5, 32), np.float32)[..., ::2], np.empty((1, 2, 5), np.float32)
    assert fast.scaled_dot_product_attention(q, k, v, out=out) is out
    np.testing.assert_array_equal(out, expected)
    out[...] = 0
    result = fast.scaled_dot_product_attention(q, k, v, return_lse=True, out=(out, lse))
    assert result[0] is out and result[1] is lse
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(lse, expected_lse)


def test_no_keys_give_zeros(rng):
    q, k, v = filled(rng, (1, 2, 5, 16), F32), np.zeros((1, 2, 0, 16), np.float32), np.zeros((1, 2, 0, 8), np.float32)
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    np.testing.assert_array_equal(out, np.zeros((1, 2, 5, 8)))
    np.testing.assert_array_equal(lse, np.full((1, 2, 5), -np.inf))


@pytest.mark.parametrize("empty", ["batch", "heads", "queries"])
def test_empty_dimensions(empty):
    b, h, t = (0 if empty == name else 2 for name in ("batch", "heads", "queries"))
    q, k = np.zeros((b, h, t, 8), np.float32), np.zeros((b, h, 4, 8), np.float32)
    out, lse = fast.scaled_dot_product_attention(q, k, k, return_lse=True)
    assert out.shape == (b, h, t, 8) and lse.shape == (b, h, t)


def test_nothing_of_queries_by_keys_is_allocated(rng):
    q = filled(rng, (1, 1, 4096, 8), F32)
    plan = fast.explain(fast.scaled_dot_product_attention, q, q, q)
    assert plan["workspace"] < 4096 * 4096
    assert fast.explain("scaled_dot_product_attention_vjp", q, q, q, q, q, q[..., 0])["workspace"] < 4096 * 4096 * 4
