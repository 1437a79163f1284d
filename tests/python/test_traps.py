"""Mistakes that other implementations have made, one test each; the names say which."""

import numpy as np
import pytest
from attention_oracle import Attention
from oracles import BF16, F16, F32, UNIT, assert_close, layer_norm, rms_norm, rope
from strategies import filled

import invar.core.fast as fast

HALVES = pytest.mark.parametrize("dtype", [F16, BF16], ids=str)


def attend(q, k, v, **keywords):
    return fast.scaled_dot_product_attention(q, k, v, **keywords)


def inputs(rng, dtype=F32, shape=(2, 2, 9, 16)):
    return [filled(rng, shape, dtype) for _ in range(3)]


def all_gradients(q, k, v, dout=None, **keywords):
    out, lse = attend(q, k, v, return_lse=True, **keywords)
    dout = np.ones_like(out) if dout is None else dout
    return fast.scaled_dot_product_attention_vjp(dout, q, k, v, out, lse, **keywords)


@pytest.mark.parametrize("masked", ["bool", "additive"])
def test_fully_masked_row_gives_zero(masked, rng):
    q, k, v = inputs(rng)
    mask = np.ones((9, 9), bool)
    mask[3] = False
    if masked == "additive":
        mask = np.where(mask, np.float32(0), np.float32(-np.inf))
    out, lse = attend(q, k, v, mask=mask, return_lse=True)
    assert not out[:, :, 3].any() and (lse[:, :, 3] == -np.inf).all()
    assert np.isfinite(out).all() and out[:, :, 4].any()
    sinks = filled(rng, 2, F32)
    out, lse = attend(q, k, v, mask=mask, sinks=sinks, return_lse=True)
    assert not out[:, :, 3].any()
    np.testing.assert_allclose(
        lse[:, :, 3], np.broadcast_to(sinks, (2, 2)), rtol=2**-22
    )  # in base 2 and back: four roundings


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_nan_in_masked_keys_and_values_does_not_leak(bad, dtype, rng):
    """Neither into a row that masks the key, nor when a neighbour in the same tile sees it."""
    q, k, v = inputs(rng, dtype, (1, 1, 40, 16))
    clean, clean_lse = attend(q, k, v, mask="causal", return_lse=True)
    k, v = k.copy(), v.copy()
    k[..., 25, 3] = v[..., 30, 5] = bad
    out, lse = attend(q, k, v, mask="causal", return_lse=True)
    assert out[:, :, :25].tobytes() == clean[:, :, :25].tobytes()
    assert lse[:, :, :25].tobytes() == clean_lse[:, :, :25].tobytes()
    if np.isnan(bad):
        assert np.isnan(out[:, :, 25:].astype(np.float32)).all(axis=-1).all(), "an unmasked NaN propagates"
    else:
        assert not np.isfinite(out[:, :, 30:, 5].astype(np.float32)).any()


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize("queries", [1, 40])
def test_infinite_keys_and_values_that_are_seen_count(queries, dtype, rng):
    """A key whose score is -inf has no weight, and an infinite value of a key that has some makes the result infinite: also
    where a number is the sum of two, of which one would be 0 or NaN."""
    q, k, v = (np.abs(filled(rng, (1, 1, rows, 48), F32)).astype(dtype) for rows in (queries, 300, 300))
    q[..., 5], v[..., 7, :] = 1, 1
    k[0, 0, [3, 270], 5] = -np.inf
    v[0, 0, 100, 9], v[0, 0, 101, 11] = np.inf, -np.inf
    out = fast.scaled_dot_product_attention(q, k, v, scale=0.1).astype(F32)
    others = np.delete(np.arange(300), [3, 270])
    expected = fast.scaled_dot_product_attention(q, k[:, :, others], v[:, :, others], scale=0.1).astype(F32)
    assert (out[..., 9] == np.inf).all() and (out[..., 11] == -np.inf).all()
    np.testing.assert_allclose(out, expected, rtol=4 * UNIT[dtype] + 1e-5)


@pytest.mark.parametrize("option", ["mask", "additive", "window", "kv_lengths"])
def test_nan_beyond_what_a_row_sees_does_not_leak(option, rng):
    q, k, v = inputs(rng, F32, (1, 1, 12, 16))
    k[..., 8:, :] = v[..., 8:, :] = np.nan
    mask = np.broadcast_to(np.arange(12) < 8, (12, 12))
    keywords = {
        "mask": dict(mask=mask),
        "additive": dict(mask=np.where(mask, np.float32(0), np.float32(-np.inf))),
        "window": dict(window=(None, 0)),
        "kv_lengths": dict(kv_lengths=[8]),
    }[option]
    rows = slice(0, 8 if option == "window" else 12)
    out = attend(q, k, v, **keywords)[:, :, rows]
    expected = Attention(
        q[:, :, rows], k[:, :, :8], v[:, :, :8], window=(None, 0) if option == "window" else None
    ).forward()[0]
    assert_close(out, *expected)


@pytest.mark.parametrize("kind", ["dead row", "nan in masked keys"])
def test_gradients_are_zero_where_nothing_is_seen_and_never_nan(kind, rng):
    q, k, v = inputs(rng)
    mask = np.ones((9, 9), bool)
    mask[3] = False
    mask[:, 5] = False
    if kind == "nan in masked keys":
        k[:, :, 5] = v[:, :, 5] = np.nan
    dq, dk, dv, _, _ = all_gradients(q, k, v, mask=mask)
    assert all(np.isfinite(d).all() for d in (dq, dk, dv))
    assert not dq[:, :, 3].any() and not dk[:, :, 5].any() and not dv[:, :, 5].any()
    assert dq[:, :, 4].any() and dk[:, :, 4].any()


@pytest.mark.parametrize("filler", [-1e20, -1e30])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_a_row_whose_keys_a_number_hides_gives_their_mean_and_no_gradient(filler, dtype, rng):
    """No digit of its logits is left in its lse: weights formed from that were infinite."""
    q, k, v = inputs(rng, dtype, (1, 1, 40, 40))
    mask = np.zeros((40, 40), dtype)
    mask[3] = filler
    mean = v.astype(np.float64).mean(2)
    assert_close(attend(q, k, v, mask=mask)[:, :, 3], mean, UNIT[dtype] * np.abs(mean) + 2**-16)
    gradients = all_gradients(q, k, v, mask=mask)
    mask[3] = -np.inf
    for gradient, expected in zip(gradients[:3], all_gradients(q, k, v, mask=mask)):
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("queries, keys", [(3, 7), (7, 3), (1, 5), (5, 5)])
def test_causal_is_aligned_lower_right(queries, keys, rng):
    q = filled(rng, (1, 1, queries, 8), F32)
    k, v = (filled(rng, (1, 1, keys, 8), F32) for _ in range(2))
    seen = np.arange(keys) <= np.arange(queries)[:, None] + keys - queries
    np.testing.assert_array_equal(attend(q, k, v, mask="causal"), attend(q, k, v, mask=seen))
    if queries > keys:
        assert not attend(q, k, v, mask="causal")[:, :, : queries - keys].any()


@pytest.mark.parametrize("left, right", [(4, 0), (4, None), (0, 0), (None, 1), (3, 2), (300, 0)])
def test_window_is_exact_on_a_prompt_longer_than_it(left, right, rng):
    q, k, v = inputs(rng, F32, (1, 1, 600 if left == 300 else 40, 8))
    length = q.shape[2]
    i, j = np.arange(length)[:, None], np.arange(length)
    seen = np.ones((length, length), bool)
    if left is not None:
        seen &= j >= i - left
    if right is not None:
        seen &= j <= i + right
    np.testing.assert_array_equal(attend(q, k, v, window=(left, right)), attend(q, k, v, mask=seen))
    np.testing.assert_array_equal(
        attend(q, k, v, window=(left, right), mask="causal"), attend(q, k, v, mask=seen & (j <= i))
    )


def test_softcap_comes_before_the_mask(rng):
    q, k, v = inputs(rng)
    mask = np.zeros((9, 9), np.float32)
    mask[:, 4:] = -np.inf
    v[:, :, 4:] = 1e30
    out = attend(q, k, v, mask=mask, softcap=2.0)
    assert_close(out, *Attention(q, k[:, :, :4], v[:, :, :4], softcap=2.0).forward()[0])


@pytest.mark.parametrize("shape", [(1, 6, 1, 9), (2, 6, 9, 9), (6, 1, 9)])
def test_a_mask_has_a_head_axis_of_query_heads(shape, rng):
    q, k, v = filled(rng, (2, 6, 9, 16), F32), filled(rng, (2, 2, 9, 16), F32), filled(rng, (2, 2, 9, 16), F32)
    mask = filled(rng, shape, F32)
    assert_close(attend(q, k, v, mask=mask), *Attention(q, k, v, mask=mask).forward()[0])
    with pytest.raises(ValueError, match="scaled_dot_product_attention: mask"):
        attend(q, k, v, mask=filled(rng, (2, 2, 9, 9), F32))


@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("offset", [7, np.array([3, 900, 0, 12], np.int32)], ids=["int", "vector"])
def test_rope_of_one_position_turns_every_batch(traditional, offset, rng):
    x = filled(rng, (4, 3, 1, 16), F32)
    y = fast.rope(x, 16, traditional, offset=offset)
    assert_close(y, *rope(x, 16, traditional, offset=offset))
    for b in range(4):
        alone = fast.rope(x[b : b + 1], 16, traditional, offset=offset if isinstance(offset, int) else int(offset[b]))
        assert y[b : b + 1].tobytes() == alone.tobytes()


@HALVES
def test_rope_positions_and_angles_are_not_in_half_precision(dtype, rng):
    x = filled(rng, (1, 2, 5, 64), dtype)
    for offset in (2049, 70_000, 2**27 + 1):
        assert_close(fast.rope(x, 64, offset=offset), *rope(x, 64, offset=offset))


def test_layer_norm_of_a_large_mean_does_not_cancel(rng):
    """A mean of 1e6 leaves a value of variance 1 some 4 bits after the point: right to 1e-3 all the same."""
    x = (1e6 + rng.standard_normal((4, 4096))).astype(np.float32)
    y = fast.layer_norm(x)
    expected, bound = layer_norm(x)
    assert np.abs(y - expected).max() < 1e-3
    assert_close(y, expected, bound)


@pytest.mark.parametrize("dtype", [F16, F32], ids=str)
def test_sum_of_squares_does_not_overflow_in_half_precision(dtype):
    x = np.full((2, 4096), 300, dtype)
    assert_close(fast.rms_norm(x), *rms_norm(x))
    assert_close(
        fast.layer_norm(np.tile(np.array([300, -300], dtype), (2, 2048))), np.tile([1.0, -1.0], (2, 2048)), 2.0**-10
    )


def test_batches_of_more_than_65535():
    x = np.arange(70_000 * 4, dtype=np.float32).reshape(70_000, 1, 1, 4) % 7
    assert fast.rms_norm(x)[-1].tobytes() == fast.rms_norm(x[-1:]).tobytes()
    assert fast.rope(x, 4, offset=3)[-1].tobytes() == fast.rope(x[-1:], 4, offset=3)[-1].tobytes()
    k = np.concatenate([x, x[::-1]], 2)
    assert attend(x, k, k)[-1].tobytes() == attend(x[-1:], k[-1:], k[-1:])[-1].tobytes()


def test_stride_zero_and_non_contiguous_inputs(rng):
    row = filled(rng, (1, 1, 1, 16), F32)
    tiled = np.broadcast_to(row, (2, 3, 5, 16))
    np.testing.assert_array_equal(fast.rms_norm(tiled), np.broadcast_to(fast.rms_norm(row), tiled.shape))
    q = filled(rng, (2, 5, 3, 32), F32).transpose(0, 2, 1, 3)[..., ::-2]
    assert q.strides[-1] < 0
    for k in (tiled, q, q[:, :, ::-1]):
        expected = attend(np.ascontiguousarray(q), np.ascontiguousarray(k), np.ascontiguousarray(k))
        np.testing.assert_array_equal(attend(q, k, k), expected)
    np.testing.assert_array_equal(fast.rope(q, 16), fast.rope(np.ascontiguousarray(q), 16))


def test_an_empty_split_of_keys_is_no_nan(rng):
    """Long rows are cut into pieces; a window or a length may leave pieces, or all of them, without a key."""
    q, k, v = filled(rng, (2, 1, 1, 16), F32), filled(rng, (2, 1, 5000, 16), F32), filled(rng, (2, 1, 5000, 16), F32)
    out, lse = attend(q, k, v, kv_lengths=[0, 3], return_lse=True)
    assert not out[0].any() and lse[0] == -np.inf
    assert_close(out[1:], *Attention(q[1:], k[1:, :, :3], v[1:, :, :3]).forward()[0])
    assert_close(attend(q, k, v, window=(2, 0)), *Attention(q, k[:, :, -3:], v[:, :, -3:]).forward()[0])
    mask = np.full((1, 5000), -np.inf, np.float32)
    mask[:, 4000] = 0
    np.testing.assert_array_equal(attend(q, k, v, mask=mask)[:, 0], v[:, 0, 4000:4001])


def test_no_kv_heads_is_an_error():
    q, k = np.zeros((1, 2, 3, 4), np.float32), np.zeros((1, 0, 3, 4), np.float32)
    with pytest.raises(ValueError, match="scaled_dot_product_attention: q: .*0 heads"):
        attend(q, k, k)


def test_a_64_bit_offset_is_kept(rng):
    x = filled(rng, (1, 1, 3, 8), np.float64)
    offset = 2**32 + 5
    assert_close(fast.rope(x, 8, offset=offset), *rope(x, 8, offset=offset))
    np.testing.assert_array_equal(fast.rope(x, 8, offset=np.array([offset])), fast.rope(x, 8, offset=offset))
    assert not np.array_equal(fast.rope(x, 8, offset=offset), fast.rope(x, 8, offset=5))
