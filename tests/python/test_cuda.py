"""torch tensors on a GPU: attention there, and the sentences of what is not there yet."""

import math

import pytest

import invar
from invar.core import fast

torch = pytest.importorskip("torch")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
TYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}  # of outputs of some 0.1 to 1: a few ulp


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


@gpu
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


@gpu
@pytest.mark.parametrize("dtype", TYPES)
def test_bits_depend_on_neither_batch_nor_run(dtype):
    q, k, v = inputs(dtype)
    whole = fast.scaled_dot_product_attention(q, k, v)
    assert torch.equal(whole, fast.scaled_dot_product_attention(q, k, v))
    for b in range(2):
        assert torch.equal(whole[b:b + 1], fast.scaled_dot_product_attention(q[b:b + 1], k[b:b + 1], v[b:b + 1]))


@gpu
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


@gpu
def test_what_is_refused():
    q, k, v = inputs(torch.float32)
    attention = fast.scaled_dot_product_attention
    double = fast.metal_kernel(name="double", input_names=["a", "b"], output_names=["o"], source="o[i] = a[i] + b[i];")
    for error, word, call in [
        (invar.DeviceError, "k: expected a tensor on CUDA device 0, got one on the CPU", lambda: attention(q, k.cpu(), v)),
        (invar.DeviceError, "rms_norm: x: expected a tensor on the CPU", lambda: fast.rms_norm(q, None, 1e-5)),
        (invar.DeviceError, "vjp: q: expected a tensor on the CPU",
         lambda: fast.scaled_dot_product_attention_vjp(q, q, k, v, q, q[..., 0])),
        (invar.DeviceError, "a: expected an array in CPU memory, where custom kernels run", lambda: double(q, q[:, :1])),
        (ValueError, "got float64", lambda: attention(q.double(), k.double(), v.double())),
        (ValueError, "at most 256 features", lambda: attention(*(draw(1, 1, 2, 300) for _ in range(3)))),
        (TypeError, "stream: expected a CUDA stream or None", lambda: attention(q, k, v, stream=object())),
    ]:
        with pytest.raises(error, match=word):
            call()


def test_another_librarys_array_on_a_gpu_is_refused_unread():
    class Array:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **keywords):
            raise AssertionError("exported")

    with pytest.raises(invar.DeviceError, match="torch tensor, got an array on CUDA device 0"):
        fast.rms_norm(Array(), None, 1e-5)
