"""torch tensors on a GPU: gpu_checks.py's checks of every operation, and attention against float64."""

import math

import pytest

from invar.core import fast

torch = pytest.importorskip("torch", reason="there is no torch")
if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)

import gpu_checks  # noqa: E402

TYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of outputs of some 0.1 to 1: a few ulp


@pytest.mark.parametrize("dtype", gpu_checks.TYPES)
@pytest.mark.parametrize("name", gpu_checks.CASES)
@pytest.mark.parametrize("check", gpu_checks.CHECKS)
def test_operation(check, name, dtype):
    gpu_checks.CHECKS[check](gpu_checks.CASES[name], dtype)


@pytest.mark.parametrize("name", gpu_checks.OTHERS)
def test_other(name):
    gpu_checks.OTHERS[name]()


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to("cuda", dtype)


def inputs(dtype, queries=100, keys=300):
    return (draw(2, 8, queries, 64, dtype=dtype, seed=1), *(draw(2, 2, keys, 64, dtype=dtype, seed=s) for s in (2, 3)))


def exact(q, k, v, mask=None):
    """In float64; mask: additive or bool."""
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.double()
    return torch.softmax(logits, -1) @ v


def assert_close(out, wanted, dtype):
    assert out.is_cuda and out.dtype == dtype
    assert (out.double() - wanted).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TYPES)
def test_attention_is_right(dtype):
    q, k, v = inputs(dtype)
    rows, keys = torch.arange(100, device="cuda")[:, None], torch.arange(300, device="cuda")
    seen = torch.rand(100, 300, device="cuda") < 0.8
    bias = draw(2, 1, 100, 300, dtype=dtype, seed=4)
    assert_close(fast.scaled_dot_product_attention(q, k, v), exact(q, k, v), dtype)
    assert_close(fast.scaled_dot_product_attention(q, k, v, mask="causal"), exact(q, k, v, keys <= rows + 200), dtype)
    assert_close(fast.scaled_dot_product_attention(q, k, v, mask=seen), exact(q, k, v, seen), dtype)
    assert_close(fast.scaled_dot_product_attention(q, k, v, mask=bias), exact(q, k, v, bias), dtype)
    one = q[:, :, :1].contiguous()
    assert_close(fast.scaled_dot_product_attention(one, k, v), exact(one, k, v), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("features, of_values", [(512, 512), (300, 64), (64, 700)])
def test_wide_heads(features, of_values, dtype):
    q, k, v = draw(2, 4, 100, features, dtype=dtype), draw(2, 2, 90, features, dtype=dtype), draw(2, 2, 90, of_values, dtype=dtype)
    out, lse = fast.scaled_dot_product_attention(q, k, v, return_lse=True)
    assert_close(out, exact(q, k, v), dtype)
    scores = (q.double().unflatten(1, (2, 2)) / math.sqrt(features)) @ k.double().unsqueeze(2).mT
    assert torch.allclose(lse.double(), torch.logsumexp(scores, -1).flatten(1, 2), rtol=1e-5, atol=2e-3)
    one = fast.scaled_dot_product_attention(q[1:, :, :1], k[1:], v[1:])
    assert torch.equal(one, fast.scaled_dot_product_attention(q[:, :, :1], k, v)[1:])


@pytest.mark.parametrize("dtype", TYPES)
def test_bits_depend_on_neither_batch_nor_run(dtype):
    q, k, v = inputs(dtype)
    whole = fast.scaled_dot_product_attention(q, k, v)
    assert torch.equal(whole, fast.scaled_dot_product_attention(q, k, v))
    for b in range(2):
        assert torch.equal(whole[b:b + 1], fast.scaled_dot_product_attention(q[b:b + 1], k[b:b + 1], v[b:b + 1]))


def test_results_streams_and_graphs():
    q, k, v = inputs(torch.float32)
    strided = draw(2, 100, 8, 64, seed=5).transpose(1, 2)
    out, stream = torch.full_like(q, math.nan), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        assert fast.scaled_dot_product_attention(strided, k, v, out=out) is out
    torch.cuda.current_stream().wait_stream(stream)
    assert_close(out, exact(strided, k, v), torch.float32)
    current = torch.cuda.current_stream()
    for given in (current, current.cuda_stream):
        assert torch.equal(out, fast.scaled_dot_product_attention(strided, k, v, stream=given))
    _, lse = fast.scaled_dot_product_attention(strided, k, v, return_lse=True)
    assert lse.is_cuda and lse.shape == (2, 8, 100) and lse.dtype == torch.float32
    assert fast.scaled_dot_product_attention(q[:0], k[:0], v[:0]).shape == (0, 8, 100, 64)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = fast.scaled_dot_product_attention(strided, k, v)
    graph.replay()
    assert torch.equal(out, captured)
